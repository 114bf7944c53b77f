/*
 * link: what keeper and relay tell each other over their SOCK_SEQPACKET pair: two fixed-size messages, one
 * for each direction. Both ends are the same binary, started by the same process, so structs are sent as they
 * are; a message of another size or kind is a defect of the other end, and the keeper replaces a relay that
 * sends one.
 *
 *     relay ──► keeper   struct ipc_status   every IPC_STATUS_MS, and at once when a count changes or an
 *                                             order is done; and one for each session that begins or ends
 *     keeper ──► relay   struct ipc_order    when the terminator decides, and when the time of shutdown moves
 *
 * A relay that was not heard of for IPC_SILENCE_MS is hung (or stopped) and is replaced; a keeper that has
 * gone closes the socket, and the relay leaves.
 *
 * The keeper remembers the sessions' ids, and nothing else of them, for the one case in which the relay
 * can't: when it has died, IPC_ORPHAN tells the next one of each session that was lost, so that it can be
 * reported to the service and its user learns why. Orphans are told once the new relay's control channel is
 * open.
 *
 * Times are CLOCK_MONOTONIC milliseconds, which both processes share.
 */
#ifndef FUMIDAI_WIRE_IPC_H
#define FUMIDAI_WIRE_IPC_H

#include <stdbool.h>
#include <stdint.h>

/* argv[0] of a relay, which main tells it by: one that serves sessions and fixed relays, one that serves the
 * latter only (AWS's exec agent serves the sessions). */
#define IPC_RELAY_NAME       "fumidai-relay"
#define IPC_RELAY_PORTS_NAME "fumidai-ports"

enum {
    IPC_STATUS_MS = 1000,
    IPC_SILENCE_MS = 4000, /* a relay stopped at any moment is noticed within 5 s: this and one poll */
    IPC_TEXT_SIZE = 256,
    IPC_SESSION_ID_SIZE = 97 /* SSM: SessionId has up to 96 characters */
};

/* Where the relay's control channel is, for the health check and the log. */
enum ipc_control {
    IPC_CONTROL_OPENING, /* never open so far, or reconnecting */
    IPC_CONTROL_OPEN,
    IPC_CONTROL_COUNT
};

struct ipc_status {
    uint32_t answers; /* the ticket of the order this answers, 0: a plain report */
    bool somebody;    /* to IPC_LOOK: somebody is here, the door stays open */
    bool busy;        /* as FUMIDAI_IDLE_BY counts it */
    bool door_closed; /* new sessions are refused */
    enum ipc_control control;
    uint32_t open_sessions; /* sessions and connections of fixed relays */
    uint32_t open_streams;
    uint64_t total_sessions;           /* since this relay started */
    uint64_t bytes;                    /* moved either way, since this relay started */
    int64_t last_activity_ms;          /* INT64_MIN: none yet */
    int64_t control_since_ms;          /* when `control` last changed */
    char trouble[IPC_TEXT_SIZE];       /* why the control channel is not open; empty when it is */
    bool session_over;                 /* of `session`; else it has begun */
    char session[IPC_SESSION_ID_SIZE]; /* empty: nothing is told of a session */
};

enum ipc_order_kind {
    IPC_LOOK, /* close the door unless somebody is here (or `forced`), and say which */
    IPC_OPEN_DOOR,
    IPC_END_SESSIONS, /* end every session, `text` for the users; answer when all are gone */
    IPC_LIVES_UNTIL,  /* when this task ends whoever is there, for banners */
    IPC_DRAIN,        /* no new sessions, the running ones may go on: SIGTERM */
    IPC_ORPHAN,       /* `text` is the id of a session of a relay that is gone: report its end */
    IPC_ORDER_COUNT
};

struct ipc_order {
    enum ipc_order_kind kind;
    uint32_t ticket; /* not 0 where an answer is wanted */
    bool forced;
    int64_t lives_until_ms; /* INT64_MAX: not by time */
    char text[IPC_TEXT_SIZE];
};

#endif
