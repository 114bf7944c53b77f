/*
 * gateway: the connection of one channel to the message gateway ("ssmmessages"): token, websocket, and
 * everything about trying again. The owner opens and closes it, moves bytes while it is up, and says when
 * something was acknowledged. When to try again, and when not to, is decided here alone (by
 * channel/reconnect.h).
 *
 *              open              token              connected             101
 *     CLOSED ───────► TOKEN ────────────► CONNECTING ─────────► UPGRADING ───────► UP
 *        ▲             ▲ │                    │                     │              │ ended, gateway_lose
 *        │ close,      │ │ failed             │ failed              │ failed       ▼
 *        │ final       │ └────────────────────┴─────────────────────┴──────────► LEAVING, for a turn
 *        │             │ due                                                       │
 *        └──────────── WAITING ◄───────────────────────────────────────────────────┘ `down` is called
 *
 * Each connection takes a token of its own. GATEWAY_TOKEN_MS and GATEWAY_OPEN_MS bound what a peer that says
 * nothing can cost; the whole is bounded by reconnect_deadline, after which a data channel is over.
 *
 * WAITING for long, since the service has refused again and again, it asks for credentials every
 * GATEWAY_KEYS_MS, and tries with the first ones that are others.
 *
 * LEAVING lasts a turn, so that a close frame which was just queued still goes out.
 *
 * Tokens and URLs come from where the kind of channel says. A `struct gateway_source` in the .c has
 * everything in which the kinds differ.
 *
 * A client's data channel (protocol.md, section 11): the StreamUrl and the first token come with
 * StartSession's answer. That token is used until a websocket was opened with it; from then on each try asks
 * ResumeSession for one, with the credentials of that moment. "Denied" may mean that they are too old, so it
 * is believed of fresh ones only. A presigned URL is neither signed nor resumed. If
 * AWS_ENDPOINT_URL_SSMMESSAGES is set, its host takes the place of the StreamUrl's.
 */
#ifndef FUMIDAI_CLOUD_GATEWAY_H
#define FUMIDAI_CLOUD_GATEWAY_H

#include <stdbool.h>

#include "aws/ssm.h"
#include "aws/ssmmessages.h"
#include "aws/stream_url.h"
#include "base/uuid.h"
#include "channel/reconnect.h"
#include "cloud/aws_call.h"
#include "net/stream.h"
#include "wire/http.h"
#include "wire/websocket.h"

enum {
    GATEWAY_TOKEN_MS = 15 * 1000, /* credentials, name, connection, TLS and answer of one API call */
    GATEWAY_OPEN_MS = 30 * 1000,  /* all steps of the websocket together */
    GATEWAY_KEYS_MS = 30 * 1000,  /* a call to an endpoint on the same host, as a rule */
    GATEWAY_NEW_KEYS_MS = 3000,   /* after at most so long they are used: other tasks may have them, too */
    GATEWAY_HEAD_SIZE = 4 * 1024, /* the service's answer to the upgrade has under 1 KiB */
    GATEWAY_BODY_SIZE = 2 * 1024  /* of a refusal, for its reason */
};

/* Of an agent. */
enum gateway_kind {
    GATEWAY_CONTROL, /* CreateControlChannel; `id` is the target's */
    GATEWAY_DATA     /* CreateDataChannel, as the agent; `id` is the session's */
};

enum gateway_state {
    GATEWAY_CLOSED,
    GATEWAY_WAITING,
    GATEWAY_TOKEN,
    GATEWAY_CONNECTING,
    GATEWAY_UPGRADING,
    GATEWAY_UP,
    GATEWAY_LEAVING
};

/* Of the client's websocket. */
enum gateway_signing {
    GATEWAY_SIGNED,
    GATEWAY_SIGNED_IF_POSSIBLE, /* when there are credentials: a plugin whose caller keeps them to itself */
    GATEWAY_UNSIGNED
};

/* What only a client's data channel has. The owner fills in the first part, and keeps it longer than the
 * gateway. */
struct gateway_session {
    struct ssm_session started; /* StartSession's answer; the token is wiped when it has served */
    const struct endpoint *ssm; /* for ResumeSession; null: as aws/endpoint.h decides */
    int64_t reconnect_ms;       /* so long without a working connection, then it is over */
    enum gateway_signing signing;
    bool any_host; /* the StreamUrl need not be AWS's own: an endpoint of the user's gave it */

    /* private */
    struct stream_url url;
    struct endpoint endpoint;
    struct reconnect_policy policy;
};

struct gateway_down {
    bool was_up;          /* a connection was lost; else one could not be made */
    bool is_final;        /* the gateway is CLOSED and tries no more */
    enum error_code code; /* final: ERROR_NOT_FOUND when the session itself is over, ERROR_DENIED ... */
    const char *why;      /* valid during the call */
    int64_t retry_at_ms;  /* unless final */
};

struct gateway {
    /* The owner's, set between init and open. All are called from the loop, never from inside a function
     * here, and are the last thing done then: the owner may close the gateway in them. */
    /* first_text is the first message to send, wiped after the call. Bytes may have come with the 101. */
    void (*up)(struct gateway *gateway, struct str first_text);
    void (*changed)(struct gateway *gateway); /* bytes came, or there is room again */
    void (*down)(struct gateway *gateway, const struct gateway_down *down);

    /* private */
    enum gateway_state state;
    const struct gateway_source *source;
    struct aws_client *client;
    struct str id;
    struct str target_id;
    struct gateway_session *session; /* of a client */
    char client_id[UUID_TEXT_SIZE];
    struct reconnect reconnect;
    struct loop_timer timer; /* the next try, or the time limit of this one */
    int64_t retry_at_ms;
    struct credentials_waiter keys; /* other ones than those that were refused; a client's first */
    unsigned keys_refused;          /* credentials_source_changes at that time */
    struct loop_hook leaving;       /* behind what the stream has to flush */
    struct stream *stream;
    struct aws_call call;
    char request_id[UUID_TEXT_SIZE];
    struct str body;
    char body_memory[256];
    char *token; /* both allocated while they are needed */
    char *first_text;
    size_t first_text_len;
    struct endpoint endpoint;
    char key[WEBSOCKET_KEY_SIZE];
    struct upgrade *upgrade; /* allocated while UPGRADING */
    bool refreshed;          /* since it was last up, credentials were fetched anew for the websocket */
    bool was_up;
    enum reconnect_failure failure;
    struct error err;
};

/* `id` and `target_id` (data channels: ours) outlive the gateway. */
void gateway_init(struct gateway *gateway, struct aws_client *client, enum gateway_kind kind, struct str id,
                  struct str target_id);
/* The client's. ERROR_INVALID or ERROR_TOO_LARGE when the StreamUrl or a configured endpoint is not valid,
 * ERROR_DENIED when the StreamUrl leads to a host that is not AWS's (stream_url_check): the gateway is CLOSED
 * then, and must not be opened. */
int gateway_init_client(struct gateway *gateway, struct aws_client *client, struct gateway_session *session,
                        struct error *err);
/* Tries until it is up, or until `down` is final. Nothing unless CLOSED. */
void gateway_open(struct gateway *gateway);
void gateway_close(struct gateway *gateway); /* at any time; `down` is not called */
bool gateway_is_up(const struct gateway *gateway);

/* While up. Bytes that came, in place, until they are acknowledged; null when there are none now. */
const uint8_t *gateway_recv_buf(struct gateway *gateway, size_t *len);
void gateway_recv_ack(struct gateway *gateway, size_t len);
/* Takes what there is room for; `changed` comes when there is room again. */
size_t gateway_send(struct gateway *gateway, const void *data, size_t len);

/* The peer has acknowledged so many messages (data channel) or sent them (control channel): the connection is
 * of use. */
void gateway_acknowledged(struct gateway *gateway, uint64_t messages);
/* The connection is of no more use: a close frame, silence, bytes that are not a websocket. `down` follows.
 * Nothing unless up. */
void gateway_lose(struct gateway *gateway, const char *why);

#endif
