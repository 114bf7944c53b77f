/*
 * channel_link: one connection of a control or data channel to Session Manager: token, websocket, upgrade.
 *
 *     open ─► CreateXxxChannel ─► token ─► stream (TCP, proxy, TLS) ─► GET, signed ─► 101 ─► up
 *        └───────┴──────────────────────────────┴────────────────────────┴────────────────► down
 *
 * After `up` the owner sends first_text as the first frame, wipes it, and moves bytes through `stream`
 * itself; `changed` is passed on to it, `down` comes at most once more. Nothing is retried here: the engines
 * above decide when to try again.
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
    GATEWAY_TOKEN_MS = 15 * 1000,
    GATEWAY_OPEN_MS = 30 * 1000,  /* all steps of the websocket together */
    GATEWAY_HEAD_SIZE = 4 * 1024, /* the service's answer to the upgrade has under 1 KiB */
    GATEWAY_BODY_SIZE = 2 * 1024  /* of a refusal, for its reason */
};

enum gateway_state { GATEWAY_CLOSED, GATEWAY_TOKEN, GATEWAY_CONNECTING, GATEWAY_UPGRADING, GATEWAY_UP };

struct gateway {
    struct aws_client *client;
    enum ssmmessages_channel channel;
    struct str id;        /* the target's or the session's; outlives the link */
    struct str target_id; /* data channels: ours */
    char client_id[UUID_TEXT_SIZE];
    /* All from the loop, never from inside a function here, and the last thing done then. */
    void (*up)(struct gateway *link);
    void (*changed)(struct gateway *link); /* the stream's, while up */
    void (*down)(struct gateway *link, enum error_code code, const char *why);

    enum gateway_state state;
    struct stream *stream;
    char *first_text; /* allocated while it is needed; gateway_forget_token */
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

void gateway_init(struct gateway *link, struct aws_client *client, enum ssmmessages_channel channel,
                  struct str id, struct str target_id);
/* The state must be CLOSED. */
void gateway_open(struct gateway *link);
void gateway_close(struct gateway *link); /* at any time; `down` is not called */
void gateway_forget_token(struct gateway *link);

#endif
