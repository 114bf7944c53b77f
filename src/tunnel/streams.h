/*
 * streams: the connections inside a tunnel: their slots, their smux ids, what each has yet to send, and whose
 * turn it is. Plain data and its bookkeeping; what happens when is tunnel/tunnel.
 *
 * A stream has two ends: the endpoint (a socket of this process) and the peer (the other end of the tunnel).
 *
 *                     agent: SYN came                         client: a local connection came
 *                             │ OPEN step                                │
 *                             ▼                                          │
 *     FREE                 OPENING ── endpoint opened ─────► OPEN ◄──────┘
 *      ▲                      │ failed                         │ broke, or reset
 *      │                      └────────────► GONE ◄────────────┤
 *      │                                      │ refusal, FIN   │ both ends are done, or the peer refused it
 *      └──────────────────────────────────────┴────────────────┘
 *
 * Turns. Streams that have something to send stand in one of two rings: interactive (it sent little lately)
 * or bulk. Each turn is one read of at most STREAMS_TURN_MAX bytes; then the stream goes to the end of its
 * ring. A stream counts as interactive while what it sent, halved each STREAMS_WEIGHT_HALF_MS, is below
 * STREAMS_INTERACTIVE_MAX.
 *
 * Memory is the caller's (STREAMS_MEMORY_SIZE; slots that were never used are never touched). Slots are taken
 * from the lowest on, so a caller can keep an array of its own beside them.
 */
#ifndef FUMIDAI_TUNNEL_STREAMS_H
#define FUMIDAI_TUNNEL_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "channel/pacer.h"
#include "tunnel/held.h"

enum {
    STREAMS_MAX = 1000,                 /* of one tunnel; a task may have 64 sessions */
    STREAMS_TURN_MAX = 16 * 1024,       /* a full TLS record */
    STREAMS_INTERACTIVE_MAX = 4 * 1024, /* a few screens' or rows' worth */
    STREAMS_WEIGHT_HALF_MS = 128,       /* a stream that was bulk is interactive a second later */
    STREAMS_BUCKETS = 1024,             /* of the table by id */
    STREAMS_NONE = 0xffff
};

enum streams_state { STREAMS_FREE, STREAMS_OPENING, STREAMS_OPEN, STREAMS_GONE };

struct streams_slot {
    uint32_t id;      /* smux; 0 in basic sessions */
    uint8_t state;    /* enum streams_state */
    uint8_t ring;     /* enum pacer_class of the ring it stands in */
    bool queued;      /* in a ring */
    bool readable;    /* its endpoint may have bytes */
    bool writable;    /* its endpoint may take what is held */
    bool peer_ended;  /* FIN came */
    bool ended;       /* the endpoint's last byte was read */
    bool shut;        /* SHUT was given out */
    bool syn_due;     /* the client's SYN has yet to be sent, before everything else */
    bool opened_due;  /* the agent's answer to it, for a client of ours */
    bool refused_due; /* ConnectToPortError, or REFUSED for a client of ours */
    bool fin_due;     /* our FIN */
    bool fin_sent;
    bool close_due; /* nothing more is wanted of the endpoint */
    uint16_t bucket_next;
    uint16_t ring_previous;
    uint16_t ring_next;
    uint16_t attend_next; /* list of streams that need attention */
    bool attended;
    struct held held;
    uint32_t weight; /* bytes sent lately */
    int64_t weight_ms;
    int64_t took_ms;   /* when its endpoint last took anything */
    int64_t fin_at_ms; /* FIN waits for quiet until then; 0: it does not */
    uint64_t bytes_to_endpoint;
    uint64_t bytes_from_endpoint;
};

struct streams {
    struct streams_slot *slots; /* STREAMS_MAX */
    uint16_t *buckets;          /* STREAMS_BUCKETS, by id */
    uint16_t open;
    uint16_t untouched; /* slots from here on never were used */
    uint16_t free;      /* list through bucket_next */
    uint16_t ring[2];   /* the stream whose turn is next, by class */
    uint16_t attend_first;
    uint16_t attend_last;
    uint64_t total;
};

enum {
    STREAMS_MEMORY_SIZE =
        STREAMS_MAX * (int) sizeof(struct streams_slot) + STREAMS_BUCKETS * (int) sizeof(uint16_t)
};

/* STREAMS_MEMORY_SIZE zeroed bytes, aligned for any type. */
void streams_init(struct streams *streams, void *memory);

/* STREAMS_NONE when there is none with this id. */
uint16_t streams_find(const struct streams *streams, uint32_t id);
/* A free slot for this id, which nobody has; STREAMS_NONE when all are taken. */
uint16_t streams_add(struct streams *streams, uint32_t id, enum streams_state state, int64_t now_ms);
/* What is held for it has been dropped. The slot may be given to another stream by the next streams_add. */
void streams_remove(struct streams *streams, uint16_t stream);

/* Puts a stream that has something to send into the ring that its weight says.
 * Nothing when it stands in one. */
void streams_queue(struct streams *streams, uint16_t stream, int64_t now_ms);
/* The end of its turn, in which it sent n bytes: to the end of a ring if it has more. */
void streams_end_turn(struct streams *streams, uint16_t stream, int64_t now_ms, size_t n);
/* The next in this class; STREAMS_NONE when there is none. */
uint16_t streams_next(const struct streams *streams, enum pacer_class class);
bool streams_has_turn(const struct streams_slot *s);

/* Streams that need attention: their endpoint may take what is held for it, or something has
 * ended. First come first served. */
void streams_attend(struct streams *streams, uint16_t stream);
uint16_t streams_take_attended(struct streams *streams); /* STREAMS_NONE when there is none */

#endif
