/*
 * session: Session Manager's sessions and the tunnel that they carry, over the net: each session's gateway
 * connection and lane, the tunnel's sockets, and its turns. Nearly always a tunnel has one session; two ends
 * of ours may use several.
 *
 *     session (gateway ── lane) ──┐
 *     session (gateway ── lane) ──┴── session_tunnel (tunnel/tunnel, run/turn) ── run/tcp_endpoints
 *
 * The owner embeds both structs, says by struct session_ops what is different at its end, and hears of what
 * happened. The owner opens the gateway (gateway_init and gateway_open, or the client's own way).
 *
 *     session_init ─► the owner opens `link` ─► ready ─► over ─► session_release
 *                                                 └─ (connections come and go: lost, the gateway reconnects)
 *     session_tunnel_init ─► turns ─► ended, when no session is left ─► session_tunnel_release
 */
#ifndef FUMIDAI_RUN_SESSION_H
#define FUMIDAI_RUN_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "channel/pool.h"
#include "cloud/gateway.h"
#include "run/tcp_endpoints.h"
#include "run/turn.h"
#include "tunnel/tunnel.h"

enum {
    SESSION_USERS = 2, /* of the pool: the lane and the tunnel */
    SESSION_TUNNEL_MEMORY_SIZE = TUNNEL_MEMORY_SIZE + TCP_ENDPOINTS_MEMORY_SIZE
};

struct session;
struct session_tunnel;

struct session_ops {
    const struct turn_endpoint_ops *endpoints; /* their context is the struct session_tunnel */
    /* The handshake is complete. */
    void (*ready)(struct session *session);
    /* A connection was lost, or could not be made; the gateway tries again unless that is final. For the
     * log. */
    void (*lost)(struct session *session, const struct gateway_down *down);
    /* It is over, for the reason in `lane`; it belongs to no tunnel any more. The last thing that a session
     * says: the owner calls session_release in it, or later. `is_last`: none is left in the tunnel. */
    void (*over)(struct session *session, struct session_tunnel *tunnel, bool is_last);
    /* Every other step of the tunnel: JOIN, DESTINATION, ANSWERED, UNKNOWN. */
    void (*event)(struct session_tunnel *tunnel, const struct tunnel_step *step,
                  struct tunnel_result *result);
    /* The tunnel is over, or was abandoned: the owner calls session_tunnel_release, and nothing comes
     * afterwards. */
    void (*ended)(struct session_tunnel *tunnel);
};

struct session_tunnel {
    struct tunnel tunnel;
    struct tcp_endpoints endpoints; /* the owner sets what is its own, then calls tcp_endpoints_init */
    struct session *sessions[TUNNEL_LANES_MAX]; /* by lane */
    bool abandoned;                             /* its session was moved to another tunnel */

    /* private */
    const struct session_ops *ops;
    struct network *network;
    struct pool_user user;
    void *memory;
    struct loop_timer timer;
    struct loop_hook hook;
};

struct session {
    struct gateway link;
    struct lane lane;
    struct session_tunnel *tunnel; /* null once it is over */
    int64_t started_ms;

    /* private */
    struct pool_user user;
    void *memory;
    uint64_t progress; /* messages acknowledged and received, as the gateway knows */
};

/* `config` without user and memory, which come from `pool`. ERROR_SYSTEM when there is no memory. */
int session_tunnel_init(struct session_tunnel *tunnel, const struct session_ops *ops, struct network *network,
                        struct pool *pool, const struct tunnel_config *config, struct error *err);
/* Closes the connections. No session may be left. */
void session_tunnel_release(struct session_tunnel *tunnel);
/* There is news: a turn follows with this turn of the loop. */
void session_tunnel_wake(struct session_tunnel *tunnel);

/* A session of this tunnel: its lane. `config` without user, memory, seed and offset; it is wiped.
 * ERROR_SYSTEM when there is no memory, ERROR_TOO_LARGE when the tunnel has TUNNEL_LANES_MAX. */
int session_init(struct session *session, struct session_tunnel *tunnel, struct lane_config *config,
                 struct error *err);
/* What gateway_init has left to be set. */
void session_link(struct session *session);
/* Ends it from this side: `over` follows within LANE_DRAIN_MS and a little. */
void session_end(struct session *session, bool failed, struct str reason);
void session_release(struct session *session);

#endif
