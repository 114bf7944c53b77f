/*
 * lane: one Session Manager session as one of its two ends sees it, from the first connection of its data
 * channel to its end: the data channel, the handshake in either role, and the shutdown. A tunnel has one lane
 * or more.
 *
 *               connected              answered                complete
 *     STARTING ───────────► HANDSHAKING ──────────► COMPLETING ──────────► OPEN
 *         └──────────────────────┴───────────────────────┴─── end ──────────┴──► ENDING ───► OVER
 *                                          drained and the websocket closed, or the time is over
 *
 *                  connected                     answered                  complete
 *     agent        Connected, HandshakeRequest   HandshakeResponse,        the target was probed, or
 *                  go out                        and it is acknowledged    LANE_PROBE_MS: HandshakeComplete
 *                                                                          goes out
 *     client       nothing goes out              HandshakeRequest came:    HandshakeComplete came
 *                                                HandshakeResponse goes out
 *
 * Connections come and go in every state (LANE_EVENT_LOST asks for the next one); nothing is lost with them.
 * How often and how long to try is the caller's (channel/reconnect).
 *
 * What ends a lane: the service (channel_closed), the client (flag TerminateSession), the caller (lane_end),
 * or a handshake that is not answered within HANDSHAKE_TIMEOUT_MS (the client: LANE_REQUEST_MS). Then nothing
 * new is taken from endpoints, but what was said before still arrives: at the peer, over another connection
 * if need be. LANE_DRAIN_MS at most.
 *
 * Data that arrives before the handshake is complete waits, in order, within the inbox's bound.
 *
 * Ack probes. AWS's client does not acknowledge again what it has processed before (pitfall 1), and on a
 * quiet session nothing newer shows that it has. Then one smux NOP is sent, whose acknowledgement ends the
 * resending.
 */
#ifndef FUMIDAI_TUNNEL_LANE_H
#define FUMIDAI_TUNNEL_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "channel/data_channel.h"
#include "tunnel/document.h"
#include "tunnel/handshake.h"

enum {
    LANE_REQUEST_MS =
        60 * 1000,        /* how long a client waits for its agent: a task may be starting, or reconnecting */
    LANE_PROBE_MS = 2000, /* how long HandshakeComplete waits for the target's answer */
    LANE_DRAIN_MS = 2000, /* as AWS's agent */
    /* A basic session's target may speak first, but its client is deaf until it has
     * opened its port (pitfall 3). */
    LANE_BASIC_HOLD_MS = 150,
    LANE_NOP_MS = 10 * 1000,           /* smux's default, for clients that give up after 30 s (handshake.h) */
    LANE_NOP_AGAIN_MS = 1000,          /* one that found no room */
    LANE_ACK_PROBE_FIRST_MS = 1000,    /* between two ack probes, doubling while none is acknowledged */
    LANE_ACK_PROBE_MAX_MS = 60 * 1000, /* one message a minute costs nothing */
    LANE_TEXT_SIZE = 512,              /* a reason, or the banner */
    LANE_MEMORY_SIZE = DATA_CHANNEL_MEMORY_SIZE
};

enum lane_role { LANE_AGENT, LANE_CLIENT };

enum lane_state {
    LANE_STARTING,
    LANE_HANDSHAKING,
    LANE_COMPLETING,
    LANE_OPEN,
    LANE_ENDING,
    LANE_OVER,
    LANE_STATE_COUNT
};

struct lane_config {
    enum lane_role role;
    int64_t keep_alive_ms;           /* how often a NOP goes while the tunnel has streams; 0: never */
    const struct document *document; /* agent: the session's; outlives the lane */
    const char *agent_version;       /* agent: what it calls itself, or null; outlives the lane */
    /* Agent: what it offers to a client of ours. Client: what it accepts, and the tunnel that it joins. */
    struct handshake_extension extension;
    struct data_channel_config channel; /* role and memory are filled in here */
    void *memory;                       /* LANE_MEMORY_SIZE bytes, zeroed, aligned for any type */
};

enum lane_event_type {
    LANE_EVENT_NONE,
    LANE_EVENT_AGREED, /* the peer's half of the handshake is known: ask lane_peer_multiplexes and the like */
    LANE_EVENT_OPEN,   /* the handshake is complete */
    LANE_EVENT_DATA, /* `payload_type` is Output or Flag; take it by lane_consume, or leave it until later */
    LANE_EVENT_LOST, /* the connection is gone: `text` says why; make a new one */
    LANE_EVENT_UNKNOWN, /* a message of an unknown type: `text` */
};

struct lane_event {
    enum lane_event_type type;
    uint32_t payload_type;
    const uint8_t *data;
    size_t len;
    struct str text; /* valid until the next call */
    uint16_t close_code;
};

struct lane {
    enum lane_role role;
    enum lane_state state;
    const struct document *document;
    const char *agent_version;
    struct handshake_extension extension;
    struct data_channel channel;
    struct handshake_response client; /* agent: what the client answered */
    struct handshake_request agent;   /* client: what the agent asked */
    bool agreed;
    bool failed;
    bool peer_gone;    /* the service has ended the session: nobody is left to drain to */
    bool said_goodbye; /* ENDING: the websocket is being closed */
    bool probed;
    bool probes;             /* NOPs may be sent: set by lane_use_ack_probes */
    bool nops_always;        /* the client needs them, streams or none */
    int64_t nop_interval_ms; /* 0: none */
    int64_t nop_ms;          /* the next */
    bool basic_hold;         /* the hold ends a while after HandshakeComplete has arrived */
    bool hold_limited;
    bool agreed_due; /* events to be shown */
    bool open_due;
    bool terminate_due;   /* client: the flag TerminateSession has yet to find room */
    bool terminate_tried; /* there was no room: the next acknowledgement makes some */
    bool terminate_sent;  /* it is among what the peer acknowledges */
    uint16_t output_at;   /* in `reason`: the service's own words; 0: it gave none */
    char reason[LANE_TEXT_SIZE];
    char banner[LANE_TEXT_SIZE]; /* agent: what it tells; client: what it was told */
    int64_t started_ms;
    int64_t until_ms; /* of HANDSHAKING, COMPLETING, ENDING */
    int64_t probe_ms; /* not before: the next ack probe */
    int64_t probe_pause_ms;
    int64_t probe_sequence;    /* of the last one; -1 when it was acknowledged, or none was sent */
    int64_t complete_sequence; /* HandshakeComplete's */
};

void lane_init(struct lane *lane, const struct lane_config *config, int64_t now_ms);
void lane_release(struct lane *lane); /* gives the pool its blocks back */

/* The websocket is open; first_text is the frame that carries the token. */
int lane_connected(struct lane *lane, int64_t now_ms, struct str first_text, struct error *err);
/* The connection broke. */
void lane_disconnected(struct lane *lane, int64_t now_ms, const char *why);
/* Whether a connection is of use: for as long as anything can still be sent or come. */
bool lane_wants_connection(const struct lane *lane);

/* Agent: what the person at the other end is shown: what was reached or why not, and when the task ends. */
void lane_probed(struct lane *lane, int64_t now_ms, struct str banner);
/* Ends it: `failed` with a reason for the user, or as finished. What is under way
 * towards the peer still goes out. */
void lane_end(struct lane *lane, int64_t now_ms, bool failed, struct str reason);

/* Client, once it is over: whether the other end knows: the service has closed the session, or the agent has
 * acknowledged the flag TerminateSession. Else TerminateSession remains to be called. */
bool lane_end_is_known(const struct lane *lane);
/* Why the service has closed it, in the agent's words; empty: it gave no reason, or has not closed it. */
const char *lane_closed_output(const struct lane *lane);

void lane_next(struct lane *lane, int64_t now_ms, struct lane_event *event);
void lane_consume(struct lane *lane, size_t n);

/* After AGREED. */
bool lane_peer_is_ours(const struct lane *lane);
bool lane_peer_multiplexes(const struct lane *lane);
const char *lane_peer_version(const struct lane *lane);
/* Client: what the agent has asked for; before AGREED it may be empty. */
const struct handshake_request *lane_request(const struct lane *lane);
/* Agreed with a peer of ours. */
bool lane_has_pieces(const struct lane *lane);
bool lane_has_destinations(const struct lane *lane);
/* Agent: the tunnel that the client wants to join, empty for none. Client: the
 * agent's name for the tunnel. */
const char *lane_secret(const struct lane *lane);

/* How the caller multiplexes: AWS's peers need ack probes then, old ones NOPs, and without it another
 * hold. */
void lane_set_multiplexed(struct lane *lane, bool multiplexed);

/* Sends the NOP that is due; when the next is. */
int64_t lane_keep_alive(struct lane *lane, int64_t now_ms, bool has_streams);
/* `others_wait`: something that came over this lane has yet to reach an endpoint. */
void lane_tick(struct lane *lane, int64_t now_ms, bool others_wait);
int64_t lane_deadline(struct lane *lane, int64_t now_ms, bool others_wait);

#endif
