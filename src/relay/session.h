/*
 * relay_session: one Session Manager session in the task: its gateway connection and its lane; and the tunnel
 * that it belongs to, with the sockets of its streams. Nearly always a tunnel has one session; a client of
 * ours may let several join one.
 *
 *     relay_session ── lane ──┐
 *     relay_session ── lane ──┴── relay_tunnel ── run/tcp_endpoints ── targets
 *         (gateway)               (tunnel/tunnel, run/turn)
 *
 * It writes the audit: one event when a session starts, one for each stream, one at the end. Never payload.
 */
#ifndef FUMIDAI_RELAY_SESSION_H
#define FUMIDAI_RELAY_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "channel/pool.h"
#include "cloud/gateway.h"
#include "run/linger.h"
#include "settings/task_settings.h"
#include "tunnel/dial_policy.h"
#include "tunnel/document.h"

enum {
    RELAY_PROBES_MAX = 16, /* targets that are remembered; then the oldest is forgotten */
    /* MariaDB and MySQL block a host after max_connect_errors (100) connections without a log-in. */
    RELAY_PROBE_AGAIN_MS = 10 * 60 * 1000
};

/* A target that was connected to, to check it, and that nobody has used since: for a while the check is only
 * whether its name has an address. */
struct relay_probe {
    uint64_t target; /* of host and port; 0: none */
    int64_t until_ms;
};

/* What all sessions of the process share. */
struct relay_context {
    const struct task_settings *config;
    struct network *network;
    struct aws_client *client;
    struct dial_policy policy;
    /* A port of FUMIDAI_LISTEN on loopback may be dialled whatever FUMIDAI_ALLOW says:
     * it leads to one target only. */
    bool (*is_own_port)(const struct relay_context *relay, uint16_t port);
    struct linger_set *linger; /* connections of closed streams */
    struct pool pool;          /* what all sessions keep */
    struct list tunnels;
    struct str target_id;
    struct relay_probe probes[RELAY_PROBES_MAX];
    uint64_t sessions_started;
    int64_t lives_until_ms; /* monotonic; INT64_MAX: not by time */
    uint32_t open_streams;
    int64_t last_byte_ms;    /* INT64_MIN: none yet */
    int64_t last_stream_ms;  /* end of the last stream */
    int64_t last_session_ms; /* end of the last session */
};

struct relay_session;

/* `document` is copied. `over` comes from the loop, once, as the last thing; the owner then calls
 * relay_session_free. Null when there is no memory (err says so). */
struct relay_session *relay_session_start(struct relay_context *relay, const struct document *document,
                                          void (*over)(struct relay_session *session, void *owner),
                                          void *owner, struct error *err);
void relay_session_free(struct relay_session *session);

/* Ends it from this side: `over` follows within LANE_DRAIN_MS and a little. */
void relay_session_end(struct relay_session *session, bool failed, struct str reason);

const char *relay_session_id(const struct relay_session *session);
int64_t relay_session_started_ms(const struct relay_session *s);
bool relay_session_failed(const struct relay_session *session);
const char *relay_session_reason(const struct relay_session *session);

#endif
