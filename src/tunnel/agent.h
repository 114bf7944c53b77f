/*
 * session: one port session as the agent serves it, from the first connection of its data channel to its end. It owns the
 * data channel and the port session and knows the order of things; sockets, tokens and names are the caller's.
 *
 *   STARTING ── first connection: Connected, HandshakeRequest ──► GREETING ── HandshakeResponse ──► PROBING ── probe known ─┐
 *      │                                              │ 15 s, refusal              │ (acknowledged)   or SESSION_PROBE_MS   │
 *      │                                              ▼                            ▼                  HandshakeComplete     │
 *      └──────── end ────────────────────────────► ENDING ◄──────────────────────── OPEN ◄───────────────────────────────────┘
 *                                                    │ drained and said goodbye, or time is up
 *                                                    ▼
 *                                                  OVER: the reason is told to the service (agent_task_complete)
 *
 * Connections come and go in every state (SESSION_EVENT_LOST asks for the next one); nothing is lost with them.
 *
 * What ends a session: the service (channel_closed), the client (flag TerminateSession), the target of a session that has
 * only one (PORT_BASIC_ONCE), the caller (session_end), a broken peer (framing), or SESSION_LOST_MS without a connection.
 *
 * The end. Nothing is read from targets any more, but what was said before still arrives: at the client, over another
 * connection if need be, and at targets. SESSION_DRAIN_MS at most.
 *
 * Witnesses. A client of AWS's does not acknowledge again what it has processed before (pitfall 1), and on a quiet session
 * nothing newer shows that it has. Then one smux NOP is sent, whose acknowledgement ends the resending.
 *
 * The caller's turn, after anything that was told to the session, its `channel` or its `port`: session_tick, bytes in
 * (data_channel_in_buf and data_channel_in_ack of `channel`, while data_channel_wants_input), session_next until NONE, and
 * whatever the events ask for; session_gather until NOTHING; data_channel_out_buf and data_channel_out_ack of `channel`
 * until nothing is left; session_next once more, since a gather may have made room for input. Then session_deadline says
 * when the next turn is, if nothing happens before.
 */
#ifndef FUMIDAI_TUNNEL_AGENT_H
#define FUMIDAI_TUNNEL_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "channel/data_channel.h"
#include "tunnel/document.h"
#include "tunnel/handshake.h"
#include "tunnel/streams.h"

enum {
    SESSION_PROBE_MS = 2000,      /* how long the banner may wait for the target */
    SESSION_DRAIN_MS = 2000,      /* as AWS's agent */
    SESSION_LOST_MS = 120 * 1000, /* without a connection; AWS's agent gives up after five tries, some 10 s */
    /* A basic session's target may speak first, but its client is deaf until it has opened its port (pitfall 3). */
    SESSION_HOLD_MS = 500,
    SESSION_WITNESS_FIRST_MS = 1000, /* between two witnesses, doubling while none is acknowledged */
    SESSION_WITNESS_MAX_MS = 60 * 1000,
    SESSION_TEXT_SIZE = 512,
    SESSION_BLOCKS_MAX = OUTBOX_MESSAGES + INBOX_MESSAGES,
    SESSION_MEMORY_SIZE = DATA_CHANNEL_MEMORY_SIZE + PORT_SESSION_MEMORY_SIZE
};

enum session_state {
    SESSION_STARTING,
    SESSION_GREETING,
    SESSION_PROBING,
    SESSION_OPEN,
    SESSION_ENDING,
    SESSION_OVER,
    SESSION_STATE_COUNT
};

struct session_config {
    const struct document *document;    /* outlives the session */
    struct data_channel_config channel; /* role AGENT; memory is filled in here */
    void *memory;                       /* SESSION_MEMORY_SIZE bytes, zeroed, aligned for any type */
};

enum session_event_type {
    SESSION_EVENT_NONE,
    SESSION_EVENT_PORT,    /* `port` says what to do for which stream */
    SESSION_EVENT_READY,   /* the handshake is complete */
    SESSION_EVENT_LOST,    /* the connection is gone: make a new one; `text` says why */
    SESSION_EVENT_UNKNOWN, /* a message of a type nobody knows: `text` */
    SESSION_EVENT_OVER     /* the end: session_failed and session_reason say how; nothing comes after it */
};

struct session_event {
    enum session_event_type type;
    struct port_action port;
    uint16_t close_code; /* LOST: the websocket's, 0 when it just broke */
    struct str text;     /* valid until the next call */
};

struct session {
    const struct document *document;
    enum session_state state;
    struct data_channel channel;
    struct port_session port;
    bool port_ready; /* the client's version is known, and so the port session's mode */
    void *port_memory;
    bool failed;
    bool probed;
    char reason[SESSION_TEXT_SIZE];
    char banner[SESSION_TEXT_SIZE];
    struct handshake_response client;
    int64_t started_ms;
    int64_t state_until_ms; /* of GREETING, PROBING, ENDING */
    int64_t lost_ms;        /* since when there is no connection; INT64_MAX while there is one */
    int64_t witness_ms;     /* not before: the next witness */
    int64_t witness_pause_ms;
    int64_t witness_sequence;  /* of the last one; -1 when it was acknowledged, or none was sent */
    int64_t last_data_ms;      /* a payload byte moved either way */
    int64_t complete_sequence; /* HandshakeComplete's */
    bool hold_limited;
    bool client_gone;  /* the service has ended the session: nobody is left to drain to */
    bool said_goodbye; /* ENDING: the websocket is being closed */
    bool input_waits;  /* a payload was shown that could not be taken yet */
    bool over_told;
    bool ready_due;
    bool begin_due;   /* basic: the first dial has to be asked for */
    bool consume_due; /* the payload shown last is done with, as far as `consume` says */
    size_t consume;
};

void session_init(struct session *session, const struct session_config *config, int64_t now_ms);

/* The websocket is open; first_text is the frame that carries the token. */
int session_connected(struct session *session, int64_t now_ms, struct str first_text, struct error *err);
/* The connection broke, or could not be made. */
void session_disconnected(struct session *session, int64_t now_ms, const char *why);

/* What the person at the other end is shown: what was reached or why not, and when the task ends. */
void session_probed(struct session *session, int64_t now_ms, struct str banner);

/* Ends it: `failed` with a reason for the user, or as finished. What is under way towards the client still goes out. */
void session_end(struct session *session, int64_t now_ms, bool failed, struct str reason);

void session_next(struct session *session, int64_t now_ms, struct session_event *event, struct error *err);
void session_tick(struct session *session, int64_t now_ms);
int64_t session_deadline(struct session *session, int64_t now_ms);

enum session_gather_type {
    SESSION_GATHER_NOTHING, /* nobody has anything to say, or nothing may be said now */
    SESSION_GATHER_READ, /* read at most `max` bytes from the target of `stream`, then session_send or one of its kin */
    SESSION_GATHER_PORT /* `port` says what to do; then ask again */
};

struct session_gather {
    enum session_gather_type type;
    uint16_t stream;
    enum pacer_class class;
    size_t max;
    struct port_action port;
};

/* Whose turn it is. Flags and FINs are sent in here. */
void session_gather(struct session *session, int64_t now_ms, struct session_gather *gather);
/* The answer to READ: len bytes (0: it had none) lie at `data`, with SMUX_HEADER_SIZE writable bytes in front of them.
 * `more`: there may be more to read. */
void session_send(struct session *session, int64_t now_ms, const struct session_gather *gather, uint8_t *data,
                  size_t len, bool more);
/* The answer to READ, or news from elsewhere: the target ended, the connection broke, the dial failed. `action` is what
 * follows; after the last two the connection is the caller's to close. */
void session_target_ended(struct session *session, int64_t now_ms, uint16_t stream,
                          struct port_action *action);
void session_target_broke(struct session *session, int64_t now_ms, uint16_t stream, const char *why);
void session_dial_failed(struct session *session, int64_t now_ms, uint16_t stream, const char *why);

void session_release(struct session *session); /* gives the pool its blocks back */
bool session_is_over(const struct session *session);
bool session_wants_connection(const struct session *session);

#endif
