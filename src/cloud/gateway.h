/*
 * channel_link: one connection of a control or data channel to Session Manager: token, websocket, upgrade.
 *
 *     open ─► CreateXxxChannel ─► token ─► stream (TCP, proxy, TLS) ─► GET, signed ─► 101 ─► up
 *        └───────┴──────────────────────────────┴────────────────────────┴──────────────────► down, with the reason
 *
 * After `up` the owner sends first_text as the first frame, wipes it, and moves bytes through `stream` itself; `changed` is
 * passed on to it, `down` comes at most once more. Nothing is retried here: the engines above decide when to try again.
 */
#ifndef FUMIDAI_CLOUD_GATEWAY_H
#define FUMIDAI_CLOUD_GATEWAY_H

#include <stdbool.h>

#include "aws/ssmmessages.h"
#include "base/uuid.h"
#include "cloud/aws_call.h"
#include "net/stream.h"
#include "wire/http.h"
#include "wire/websocket.h"

enum {
    CHANNEL_LINK_TOKEN_MS = 15 * 1000,
    CHANNEL_LINK_OPEN_MS = 30 * 1000,  /* all steps of the websocket together */
    CHANNEL_LINK_HEAD_SIZE = 4 * 1024, /* the service's answer to the upgrade has under 1 KiB */
    CHANNEL_LINK_BODY_SIZE = 2 * 1024  /* of a refusal, for its reason */
};

enum channel_link_state {
    CHANNEL_LINK_CLOSED,
    CHANNEL_LINK_TOKEN,
    CHANNEL_LINK_CONNECTING,
    CHANNEL_LINK_UPGRADING,
    CHANNEL_LINK_UP
};

struct channel_link {
    struct aws_client *client;
    enum ssmmessages_channel channel;
    struct str id;        /* the target's or the session's; outlives the link */
    struct str target_id; /* data channels: ours */
    char client_id[UUID_TEXT_SIZE];
    /* All from the loop, never from inside a function here, and the last thing done then. */
    void (*up)(struct channel_link *link);
    void (*changed)(struct channel_link *link); /* the stream's, while up */
    void (*down)(struct channel_link *link, enum error_code code, const char *why);

    enum channel_link_state state;
    struct stream *stream;
    char *first_text; /* allocated while it is needed; channel_link_forget_token */
    size_t first_text_len;

    /* private */
    struct aws_call call;
    char request_id[UUID_TEXT_SIZE];
    struct str body;
    char body_memory[256];
    char *token;
    struct endpoint endpoint;
    char key[WEBSOCKET_KEY_SIZE];
    struct upgrade *upgrade; /* allocated while upgrading */
    struct loop_timer deadline;
    struct loop_timer refused; /* tells `down` from the loop */
    struct error err;
};

void channel_link_init(struct channel_link *link, struct aws_client *client, enum ssmmessages_channel channel,
                       struct str id, struct str target_id);
/* The state must be CLOSED. */
void channel_link_open(struct channel_link *link);
void channel_link_close(struct channel_link *link); /* at any time; `down` is not called */
void channel_link_forget_token(struct channel_link *link);

#endif
