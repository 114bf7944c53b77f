/*
 * port_session: between the byte streams of a data channel and the connections to targets: smux streams (or the one
 * connection of a basic session), what is held for targets that are slow, and whose turn it is.
 *
 *   client ──Output──► port_session_receive ──► DIAL, WRITE, END_WRITE, CLOSE, RESET ──► the host's sockets
 *   client ◄─Output── port_session_write_*  ◄── port_session_pick: whose target is read next ◄── port_session_readable
 *
 * One stream (numbers are slots, not smux ids):
 *
 *   FREE ── SYN: DIAL ──► DIALLING ── connected ──► OPEN ── both ends done: CLOSE ──► FREE
 *                            │ failed                 │ target broke, or RESET        ▲
 *                            └─────────► GONE ◄───────┘                               │
 *                                          └── (flag ConnectToPortError,) FIN sent ───┘
 *
 * - The client's FIN: everything it sent before reaches the target first, then CLOSE, and FIN is answered; what the target
 *   still sends is dropped (AWS's client does not take it, and an aborted query must not use up the rate). A client that
 *   announced half-close gets END_WRITE instead, and the answer.
 * - The target's end: FIN after its last byte. What the client sends until its own FIN is still delivered.
 * - Frames of streams that are not here are dropped: they were sent before the client knew. A SYN of a stream that is here
 *   changes nothing.
 *
 * Basic sessions have one stream, slot 0, without frames. LocalPortForwarding: when its target has closed, the next data
 * dials anew; flag DisconnectToPort closes the target once it has taken what was sent before. Other types: the target's end
 * is the session's end.
 *
 * Slow targets. smux 1 has no window for each stream, so what a target does not take is held: at most
 * PORT_STREAM_HELD_MAX for one, PORT_HELD_CHUNKS for all. When that is full, receive takes no more input, the data
 * channel's own store fills and TCP pushes back. If a target has taken nothing for PORT_STALL_MS while others have to wait for
 * it, its stream is reset (pitfall 15); if nobody waits, it may take PORT_STUCK_MS: that the session has ended may stand behind
 * what is not read. Who waits stands behind, in the input that is not taken: the caller looks ahead there (port_lookahead),
 * since it is the only one who can. When all chunks are used, the one to blame is not the stream whose turn it is but the one
 * that has taken nothing for the longest time.
 *
 * Turns. Streams that have something to send stand in one of two rings: interactive (it sent little lately) or bulk. Each
 * turn is one read of at most PORT_TURN_MAX bytes; then the stream goes to the end of the ring. A stream counts as
 * interactive while what it sent, halved each PORT_WEIGHT_HALF_MS, is below PORT_INTERACTIVE_MAX.
 *
 * Memory is the caller's (PORT_SESSION_MEMORY_SIZE, untouched pages cost nothing). Nothing is copied but what must be held.
 */
#ifndef FUMIDAI_TUNNEL_STREAMS_H
#define FUMIDAI_TUNNEL_STREAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "channel/pacer.h"
#include "wire/smux.h"

enum {
    PORT_STREAMS_MAX = 1000,
    PORT_CHUNK_SIZE = 4096,
    PORT_HELD_CHUNKS = 832, /* 3.25 MiB: with the data channel's 11 MiB below 16 MiB a session */
    PORT_STREAM_HELD_MAX = 768 * PORT_CHUNK_SIZE, /* 3 MiB: a stalled target leaves room for others */
    PORT_STALL_MS = 30 * 1000,
    PORT_STALL_CHECK_MS = 1000, /* how soon to look again whether anybody waits */
    PORT_STUCK_MS =
        20 * 60 * 1000,        /* the service's idle time: a session where nothing moves is over by then */
    PORT_TURN_MAX = 16 * 1024, /* a full TLS record */
    PORT_INTERACTIVE_MAX = 4 * 1024, /* a few screens' or rows' worth */
    PORT_WEIGHT_HALF_MS = 128,
    PORT_BUCKETS = 1024,
    PORT_REFUSED_MAX = 64,
    PORT_NO_STREAM = 0xffff,
    PORT_NO_CHUNK = 0xffff
};

enum port_mode {
    PORT_MULTIPLEXED,
    PORT_BASIC_REDIAL, /* LocalPortForwarding with an old client */
    PORT_BASIC_ONCE    /* any other type: ssh through a proxy command */
};

enum port_stream_state {
    PORT_STREAM_FREE,
    PORT_STREAM_DIALLING,
    PORT_STREAM_OPEN,
    PORT_STREAM_GONE /* no connection any more, its FIN is still to be sent */
};

struct port_stream {
    uint32_t id;   /* smux */
    uint8_t state; /* enum port_stream_state */
    uint8_t ring;  /* enum pacer_class of the ring it stands in */
    bool queued;
    bool readable;     /* its target may have bytes */
    bool client_ended; /* FIN came */
    bool target_ended; /* its last byte was read */
    bool write_ended;  /* END_WRITE was given out */
    bool fin_due;      /* our FIN has to be sent */
    bool flag_due;     /* ConnectToPortError before it */
    uint16_t bucket_next;
    uint16_t ring_previous;
    uint16_t ring_next;
    uint16_t first_chunk;
    uint16_t last_chunk;
    uint16_t first_offset; /* bytes of the first chunk already taken */
    uint32_t held;
    uint32_t weight; /* bytes sent lately */
    int64_t weight_ms;
    int64_t took_ms; /* when its target last took anything */
    uint64_t bytes_to_target;
    uint64_t bytes_to_client;
};

enum port_todo {
    PORT_TODO_NOTHING, /* receive: the input is used up, or blocked (port_session_blocked_on) */
    PORT_TODO_DIAL,    /* stream: then port_session_connected or port_session_failed */
    PORT_TODO_WRITE, /* stream, data, len: offer it to the target, then port_session_wrote with what it took */
    PORT_TODO_END_WRITE, /* stream: half-close towards the target */
    PORT_TODO_CLOSE,     /* stream: what was written arrives, then close; the slot is free already */
    PORT_TODO_RESET,     /* stream: abort the connection, which is the caller's no more */
    PORT_TODO_END        /* the session is over (PORT_BASIC_ONCE) */
};

struct port_action {
    enum port_todo todo;
    uint16_t stream;
    const uint8_t *data; /* WRITE: inside the input of port_session_receive */
    size_t len;
    const char *why; /* CLOSE, RESET: for the audit */
};

struct port_session {
    enum port_mode mode;
    bool half_close;
    struct smux_decoder decoder;
    uint16_t decoding;    /* stream of the PSH frame under way, PORT_NO_STREAM: drop its data */
    uint16_t offered;     /* stream of the WRITE that waits for port_session_wrote */
    uint16_t blocked;     /* the stream whose target holds everything up, or PORT_NO_STREAM */
    int64_t blocked_ms;   /* since when */
    int64_t look_ms;      /* nobody waited; not to be looked at again before this */
    const uint8_t *offer; /* what WRITE showed */
    size_t offer_len;
    uint16_t stream_count;
    uint16_t free_stream; /* list through bucket_next */
    uint16_t free_chunk;
    uint16_t chunks_used;
    uint16_t chunks_untouched;
    /* SYNs beyond the maximum whose refusal has not been sent; further ones stay unanswered. */
    uint16_t refused_count;
    bool refused_flag_sent; /* of the first of them */
    uint32_t refused_ids[PORT_REFUSED_MAX];
    uint16_t ring[2];            /* the stream whose turn is next, by class */
    struct port_stream *streams; /* PORT_STREAMS_MAX */
    uint16_t *buckets;           /* PORT_BUCKETS: by id */
    uint16_t *chunk_next;        /* PORT_HELD_CHUNKS */
    uint16_t *chunk_len;
    uint8_t *chunks;
    uint64_t total_streams;
};

enum {
    PORT_SESSION_MEMORY_SIZE = PORT_STREAMS_MAX * (int) sizeof(struct port_stream) +
                               (PORT_BUCKETS + 2 * PORT_HELD_CHUNKS) * (int) sizeof(uint16_t) +
                               PORT_HELD_CHUNKS * PORT_CHUNK_SIZE
};

/* `memory`: PORT_SESSION_MEMORY_SIZE bytes, zeroed, aligned for any type. */
void port_session_init(struct port_session *ps, void *memory, enum port_mode mode, bool half_close);

/* ---- client to targets ---- */

/* One step through Output bytes; *used of them are done with. Call again with the rest until PORT_TODO_NOTHING; if input is
 * left then, a target blocks: try again after port_session_took. ERROR_INVALID: the framing is lost, the session must end. */
int port_session_receive(struct port_session *ps, int64_t now_ms, const uint8_t *data, size_t len,
                         size_t *used, struct port_action *action, struct error *err);
/* The answer to WRITE: the target took n bytes, the rest is held here. (Not needed after port_session_broke.) */
void port_session_wrote(struct port_session *ps, int64_t now_ms, size_t n);

/* What is held for a target, oldest first; null when nothing. */
const uint8_t *port_session_held(const struct port_session *ps, uint16_t stream, size_t *len);
/* The target took n of it. The action is what follows: NOTHING, END_WRITE or CLOSE. */
void port_session_took(struct port_session *ps, uint16_t stream, int64_t now_ms, size_t n,
                       struct port_action *action);

/* What is held for it can be written from here on. */
void port_session_connected(struct port_session *ps, uint16_t stream, int64_t now_ms,
                            struct port_action *action);
/* The dial failed: the client is told by flag and FIN; the slot is free once that is sent. */
void port_session_failed(struct port_session *ps, uint16_t stream);
/* The connection broke. FIN goes to the client, if it has not gone before; what was held is dropped. */
void port_session_broke(struct port_session *ps, uint16_t stream);
/* Basic sessions: the one stream at the start (its connection is dialled before the session begins), and the client's flag
 * DisconnectToPort. */
uint16_t port_session_begin_basic(struct port_session *ps, int64_t now_ms);
void port_session_disconnect(struct port_session *ps, int64_t now_ms, struct port_action *action);

/* The stream whose target holds up the others, PORT_NO_STREAM when none does. */
uint16_t port_session_blocked_on(const struct port_session *ps);
/* At the deadline the caller looks ahead: RESET of a target that has held up others, or all, for too long; else NOTHING. */
void port_session_tick(struct port_session *ps, int64_t now_ms, bool others_wait, struct port_action *action);
int64_t port_session_deadline(const struct port_session *ps);

/* Looks for other streams' frames in input that is not taken: first what receive left of its input, then what came after. */
struct port_lookahead {
    struct smux_decoder decoder;
    uint32_t blocked_id;
};
void port_lookahead_begin(struct port_lookahead *look, const struct port_session *ps);
bool port_lookahead_finds_others(struct port_lookahead *look, const uint8_t *data, size_t len);

/* ---- targets to client ---- */

/* The target may have bytes, or has ended. */
void port_session_readable(struct port_session *ps, uint16_t stream, int64_t now_ms);
/* Who is next in this class; false when nobody. Then one of the three below. */
bool port_session_pick(struct port_session *ps, enum pacer_class class, uint16_t *stream);
/* Whether this stream's turn is to send a flag or FIN, without a read: writes it (FIN's frame) and ends the turn. */
bool port_session_wants_flag(const struct port_session *ps, uint16_t stream);
void port_session_flag_sent(struct port_session *ps, uint16_t stream);
bool port_session_wants_fin(const struct port_session *ps, uint16_t stream);
void port_session_fin_sent(struct port_session *ps, uint16_t stream, int64_t now_ms,
                           struct port_action *action);
/* The turn's end: n bytes were read and sent; `more`: there may be more to read. */
void port_session_sent(struct port_session *ps, uint16_t stream, int64_t now_ms, size_t n, bool more);
/* The read gave the end. A FIN is due (PORT_BASIC_ONCE: END). */
void port_session_target_ended(struct port_session *ps, uint16_t stream, int64_t now_ms,
                               struct port_action *action);
/* smux id of a stream that was refused for want of a slot; it wants a flag, then FIN. False when there is none. */
bool port_session_refused(const struct port_session *ps, uint32_t *id, bool *flag_sent);
void port_session_refused_flag_sent(struct port_session *ps);
void port_session_refused_fin_sent(struct port_session *ps);

const struct port_stream *port_session_stream(const struct port_session *ps, uint16_t stream);
uint16_t port_session_open_streams(const struct port_session *ps);

#endif
