/*
 * client_sessions: every session of this client, the tunnels that they carry, and the local connections in
 * them.
 *
 * The first session shows who is at the other end. With an agent of ours whose document leaves the host to
 * the user, one tunnel serves all forwards, and further sessions become lanes of it. With AWS's agent each
 * forward has its own sessions, and connections are spread over them:
 *
 *     shared      session 0 ... n-1        ──► one tunnel ──► every forward
 *     separate    session f*n ... f*n+n-1  ──► a tunnel each ──► forward f
 *
 * A check opens a stream for each forward and waits for the target's answer: our agent tells it, AWS's only
 * says when it failed. The stream is then kept for the first connection, so that a target which accepts one
 * connection, or counts those without a log-in, sees no more than the user makes (CLIENT_STANDBY_MS).
 *
 * A SOCKS forward has no target of its own: each connection's stream names one (client/socks). That takes an
 * agent of ours and a document that leaves the host to its user; any other session is over, for good. With
 * SOCKS alone the session is for DOCUMENT_ANY_HOST.
 *
 * The owner (lifecycle/forward by client.c) says when to start and to end which; every callback comes from
 * the loop.
 */
#ifndef FUMIDAI_CLIENT_SESSIONS_H
#define FUMIDAI_CLIENT_SESSIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/ssm.h"
#include "client/socks.h"
#include "cloud/aws_call.h"
#include "lifecycle/forward.h"
#include "run/session.h"
#include "settings/forward_settings.h"
#include "tunnel/local_forward.h"

enum {
    CLIENT_CALL_MS = 20 * 1000,   /* StartSession, credentials included */
    CLIENT_TERMINATE_MS = 2000,   /* TerminateSession, behind the flag that has ended it already */
    CLIENT_ANSWER_MS = 20 * 1000, /* a check: our agent dials for 10 s */
    CLIENT_SILENCE_MS = 1500,     /* AWS's agent says nothing when it connected: it is taken for that */
    CLIENT_STREAMS_MAX = STREAMS_MAX - 100, /* in a tunnel: the agent may learn later which have ended */
    CLIENT_STANDBY_MS = 10 * 1000,          /* as run/tcp_endpoints keeps the agent's own probe */
    CLIENT_FORWARDS_MAX = 2 * SETTINGS_LIST_MAX + 2,
    CLIENT_POOL_BLOCKS = 32 * 1024 /* 36 MB of address space; a quiet client touches a few dozen pages */
};

struct client_session;
struct client_tunnel;

enum client_mode { CLIENT_MODE_UNKNOWN, CLIENT_MODE_SHARED, CLIENT_MODE_SEPARATE };

/* What a check has found, of one forward. */
struct client_check {
    bool pending;
    bool failed;
    struct client_tunnel *tunnel; /* and stream: the standby; null: none */
    uint16_t stream;
    int64_t until_ms;
    char text[LANE_TEXT_SIZE];
};

struct client_sessions {
    /* The owner's, set before the first call. */
    const struct forward_settings *config;
    struct aws_client *client;
    const struct local_forward *forwards;
    size_t forward_count;
    const char *reason; /* for StartSession */
    void (*started)(struct client_sessions *set, uint32_t session, enum forward_result result,
                    const char *text);
    void (*opened)(struct client_sessions *set, uint32_t session);
    void (*over)(struct client_sessions *set, uint32_t session, bool final, const char *why);
    void (*ended)(struct client_sessions *set, uint32_t session);
    void (*checked)(struct client_sessions *set, enum forward_result result, const char *text);
    void (*changed)(struct client_sessions *set); /* a connection ended, or there is room for one */
    void (*lost)(struct client_sessions *set, uint32_t session, const struct gateway_down *down);

    /* to be read */
    enum client_mode mode;
    uint32_t connections; /* local ones that have a stream */
    uint64_t total_connections;
    char agent[HANDSHAKE_VERSION_SIZE]; /* who is at the other end */
    bool agent_is_ours;
    char banner[LANE_TEXT_SIZE]; /* what the agent said last */

    /* private */
    struct pool pool;
    void *pool_memory;
    struct linger_set linger;
    struct client_session *sessions[FORWARD_SESSIONS_MAX];
    struct client_tunnel *tunnels[FORWARD_SESSIONS_MAX]; /* by the session that began it */
    struct client_check checks[CLIENT_FORWARDS_MAX];
    struct loop_timer check_timer;
    struct loop_timer soon; /* a answer may be due: told from the loop */
    bool checking;
    uint64_t tunnels_started;
};

/* ERROR_SYSTEM without memory; ERROR_TOO_LARGE when the forwards need more than FORWARD_SESSIONS_MAX. */
int client_sessions_open(struct client_sessions *set, struct error *err);
void client_sessions_close(struct client_sessions *set); /* whatever is there is dropped */

/* StartSession to this target, then its data channel: `started`, then `opened`, then `over`. */
void client_sessions_start(struct client_sessions *set, uint32_t session, const char *target);
/* The flag, then TerminateSession: `ended`, and no `over`. */
void client_sessions_end(struct client_sessions *set, uint32_t session);
/* Asks every target: `checked`. */
void client_sessions_check(struct client_sessions *set);

/* How many sessions there are to be, once the mode is known; else 1. */
uint32_t client_sessions_wanted(const struct client_sessions *set);
/* The one that a connection of this forward needs first. */
uint32_t client_sessions_of(const struct client_sessions *set, size_t forward);
/* Gives an accepted socket a stream. False when there is none for it now: the socket stays the caller's. */
bool client_sessions_connect(struct client_sessions *set, size_t forward, int fd);
/* Asks the other end for this client's target: client_socks_opened, client_socks_refused, or
 * client_socks_ask_again follows. False when that can't be asked now. */
bool client_sessions_ask(struct client_sessions *set, struct client_socks *c);

#endif
