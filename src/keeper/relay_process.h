/*
 * relay_process: the keeper's side of the relay process: starts it, listens to it, replaces it.
 *
 *     DOWN ── start ──► UP ── socket closed, process ended, silent for IPC_SILENCE_MS, malformed message ─┐
 *      ▲                                                                                                  │
 *      └───────────────────────── killed, then a back-off with jitter ◄───────────────────────────────────┘
 *
 * The relay talks to the world and may crash or hang. Its sessions are lost then, and the next relay tells
 * their users. What it had counted is kept here, so a crash neither ends the task early nor keeps it alive
 * for ever.
 *
 * What it sends is checked as an attacker's (wire/ipc.h), and an answer counts only while its order is
 * outstanding.
 */
#ifndef FUMIDAI_KEEPER_RELAY_PROCESS_H
#define FUMIDAI_KEEPER_RELAY_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/backoff.h"
#include "host/child.h"
#include "host/loop.h"
#include "wire/ipc.h"

enum {
    /* Sessions whose ids are remembered: the default of FUMIDAI_MAX_SESSIONS and as many lost ones. The users
     * of any beyond learn of a relay's death by the service's own time limits. */
    RELAY_PROCESS_SESSIONS = 128,
    RELAY_PROCESS_ORPHANS_AT_ONCE = 16 /* told with each status: the relay's reports wait in a table of 64 */
};

struct relay_process_session {
    char id[IPC_SESSION_ID_SIZE];
    bool orphan; /* its relay is gone */
};

struct relay_process {
    struct loop *loop;
    const char *name;                           /* IPC_RELAY_NAME or IPC_RELAY_PORTS_NAME */
    char **argv;                                /* the keeper's own; the first is replaced */
    void (*heard)(struct relay_process *relay); /* `status` is new */
    void (*answered)(struct relay_process *relay, uint32_t ticket); /* to the order with that ticket */
    void *owner;

    bool stopping; /* not started again */
    struct child child;
    struct ipc_status status; /* the latest; zeroes while down */
    uint64_t sessions_before; /* served by relays that are gone */
    struct relay_process_session sessions[RELAY_PROCESS_SESSIONS];
    size_t session_count;
    int64_t last_activity_ms; /* over all relays; INT64_MIN: none yet */
    int64_t reported_ms;      /* of this relay; its start when not yet */
    int64_t
        channel_open_ms; /* when a control channel was last open, over all relays; the first start before */
    int64_t started_ms;
    uint64_t starts;
    struct loop_watch watch; /* owns the socket */
    uint32_t check_ticket;   /* of the IPC_CHECK that is not answered yet, 0: none */
    uint32_t end_ticket;     /* of the IPC_END_SESSIONS that is not */
    struct loop_timer silence;
    struct loop_timer again;
    struct backoff retry;
};

void relay_process_open(struct relay_process *relay, struct loop *loop, const char *name, char **argv,
                        void (*heard)(struct relay_process *relay),
                        void (*answered)(struct relay_process *relay, uint32_t ticket), void *owner);
/* Kills it; it is not started again. */
void relay_process_close(struct relay_process *relay);

bool relay_process_is_up(const struct relay_process *relay);
/* False when no relay is up, or its socket is full (then it hangs and will be replaced). */
bool relay_process_order(struct relay_process *relay, const struct ipc_order *order);
/* True when pid was the relay's. */
bool relay_process_ended(struct relay_process *relay, pid_t pid, int wait_status);

#endif
