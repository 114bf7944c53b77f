/*
 * ssmmessages: the message gateway's API: tokens, websocket requests, first frames, and the JSON of the
 * control messages that an agent originates (protocol.md, sections 3 and 4). The binary envelope is
 * wire/agent_message.
 *
 *     channel     POST path (signed, JSON) -> 201, XML <TokenValue>   then GET wss (signed) and a text frame
 *     control     /v1/control-channel/<target id>                     ?role=subscribe&stream=input
 *     data        /v1/data-channel/<session id>                       ?role=publish_subscribe
 *
 * A token is for one connection; each reconnection takes a new one.
 */
#ifndef FUMIDAI_AWS_SSMMESSAGES_H
#define FUMIDAI_AWS_SSMMESSAGES_H

#include <stdbool.h>
#include <stddef.h>

#include "aws/api.h"
#include "aws/endpoint.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

/* The level of AWS's agent whose behaviour is implemented; AWS's client decides by it and needs four parts.
 */
#define SSMMESSAGES_AGENT_VERSION "3.3.4624.0"

enum {
    SSMMESSAGES_TOKEN_SIZE = 4097,    /* seen: under 1 KiB; opaque */
    SSMMESSAGES_SESSION_ID_SIZE = 97, /* SSM: SessionId has up to 96 characters */
    SSMMESSAGES_CLIENT_ID_SIZE = 129, /* a UUID (36) by convention */
    SSMMESSAGES_OUTPUT_MAX = 2048,    /* bytes of the reason in agent_task_complete; longer ones are cut */
    SSMMESSAGES_OPEN_FRAME_SIZE = 2 * SSMMESSAGES_TOKEN_SIZE + 2048, /* holds either first frame */
    SSMMESSAGES_PAYLOAD_SIZE = 6 * SSMMESSAGES_OUTPUT_MAX + 2048     /* holds either control message */
};

enum ssmmessages_channel { SSMMESSAGES_CONTROL, SSMMESSAGES_DATA };

/* The bodies that ask for a token. request_id and client_id are UUIDs as text. */
void ssmmessages_write_create_control(struct writer *body, struct str request_id);
void ssmmessages_write_create_data(struct writer *body, struct str request_id, struct str client_id);

/* POST for a token; id is the target id or the session id, sent literally. */
int ssmmessages_make_create(struct api_request *request, const struct endpoint *endpoint,
                            enum ssmmessages_channel channel, struct str id, struct str body,
                            struct error *err);
/* The websocket's GET, to be signed; the caller adds the headers of the upgrade afterwards. */
int ssmmessages_make_open(struct api_request *request, const struct endpoint *endpoint,
                          enum ssmmessages_channel channel, struct str id, struct error *err);

/* A 201 whose XML holds <TokenValue> gives API_OK and the token, a secret: wipe it. */
enum api_class ssmmessages_read_create(char token[SSMMESSAGES_TOKEN_SIZE], enum ssmmessages_channel channel,
                                       const struct api_answer *answer, struct api_failure *failure,
                                       struct error *err);

/* The first text frame of each websocket. */
void ssmmessages_write_open_control(struct writer *frame, struct str request_id, struct str token,
                                    struct str agent_version);
void ssmmessages_write_open_data(struct writer *frame, struct str request_id, struct str token,
                                 struct str target_id, struct str client_id);
/* The same from the side of a client (forward). */
void ssmmessages_write_open_data_as_client(struct writer *frame, struct str request_id, struct str token,
                                           struct str client_id, struct str client_version);

/* Payload of agent_task_complete. `output` is what the user is shown when the session failed. */
struct ssmmessages_task_complete {
    struct str session_id;
    struct str target_id;
    bool success;
    struct str output;
    unsigned retry_number; /* 1 first */
};
void ssmmessages_write_task_complete(struct writer *payload,
                                     const struct ssmmessages_task_complete *complete);

/* Payload of agent_session_state. */
enum ssmmessages_session_state { SSMMESSAGES_CONNECTED, SSMMESSAGES_TERMINATING };
void ssmmessages_write_session_state(struct writer *payload, struct str session_id,
                                     enum ssmmessages_session_state state);

#endif
