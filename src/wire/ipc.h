/*
 * link: what keeper and relay tell each other over their SOCK_SEQPACKET pair: two fixed-size messages, one for each
 * direction. Both ends are the same binary, started by the same process, so structs are sent as they are; a message of
 * another size or kind is a defect of the other end, and the keeper replaces a relay that sends one.
 *
 *     relay ──► keeper   struct link_status   every LINK_STATUS_MS, and at once when a count changes or an order is done;
 *                                             and one that names it for each session that begins or ends
 *     keeper ──► relay   struct link_order    when the terminator decides, and the time of the end when it moves
 *
 * A relay that was not heard of for LINK_SILENCE_MS is hung (or stopped) and is replaced; a keeper that has gone closes the
 * socket, and the relay leaves.
 *
 * The keeper remembers the sessions' ids, and nothing else of them, for the one case in which the relay can't: when it has
 * died, LINK_ORPHAN tells the next one of each session that was lost, so that it can be reported to the service and its
 * user learns why. Orphans are told once the new relay's control channel is open.
 *
 * Times are CLOCK_MONOTONIC milliseconds, which both processes share.
 */
#ifndef FUMIDAI_WIRE_IPC_H
#define FUMIDAI_WIRE_IPC_H

#include <stdbool.h>
#include <stdint.h>

/* argv[0] of a relay, which main tells it by: one that serves sessions and fixed relays, one that serves the latter only
 * (AWS's exec agent serves the sessions). */
#define RELAY_PROCESS_NAME       "fumidai-relay"
#define RELAY_PORTS_PROCESS_NAME "fumidai-ports"

enum {
    LINK_STATUS_MS = 1000,
    LINK_SILENCE_MS = 4000, /* a relay stopped at any moment is noticed within 5 s: this and one poll */
    LINK_TEXT_SIZE = 256,
    LINK_SESSION_ID_SIZE = 97 /* SSM: SessionId has up to 96 characters */
};

/* Where the relay's control channel is, for the health check and the log. */
enum link_control {
    LINK_CONTROL_OPENING, /* never open so far, or reconnecting */
    LINK_CONTROL_OPEN,
    LINK_CONTROL_COUNT
};

struct link_status {
    uint32_t answers; /* the ticket of the order this answers, 0: a plain report */
    bool somebody;    /* to LINK_LOOK: somebody is here, the door stays open */
    bool busy;        /* as FUMIDAI_IDLE_BY counts it */
    bool door_closed; /* new sessions are refused */
    enum link_control control;
    uint32_t open_sessions; /* sessions and connections of fixed relays */
    uint32_t open_streams;
    uint64_t total_sessions;            /* since this relay started */
    uint64_t bytes;                     /* moved either way, since this relay started */
    int64_t last_activity_ms;           /* INT64_MIN: none yet */
    int64_t control_since_ms;           /* when `control` last changed */
    char trouble[LINK_TEXT_SIZE];       /* why the control channel is not open; empty when it is */
    bool session_over;                  /* of `session`; else it has begun */
    char session[LINK_SESSION_ID_SIZE]; /* empty: nothing is told of a session */
};

enum link_order_kind {
    LINK_LOOK, /* close the door unless somebody is here (or `forced`), and say which */
    LINK_OPEN_DOOR,
    LINK_END_SESSIONS, /* end every session, `text` for the users; answer when all are gone */
    LINK_LIVES_UNTIL,  /* when this task ends whoever is there, for banners */
    LINK_DRAIN,        /* no new sessions, the running ones may go on: SIGTERM */
    LINK_ORPHAN,       /* `text` is the id of a session of a relay that is gone: report its end */
    LINK_ORDER_COUNT
};

struct link_order {
    enum link_order_kind kind;
    uint32_t ticket; /* not 0 where an answer is wanted */
    bool forced;
    int64_t lives_until_ms; /* INT64_MAX: not by time */
    char text[LINK_TEXT_SIZE];
};

#endif
