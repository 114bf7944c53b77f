/*
 * ssm: the calls of Systems Manager that a client of Session Manager makes.
 *
 *     StartSession          target, document, parameters -> session id, StreamUrl, token
 *     ResumeSession         session id -> a new token for the next websocket, or "it is over"
 *     TerminateSession      session id
 *     GetConnectionStatus   target -> whether an agent has its control channel open
 *
 * Each call is a body (ssm_write_*), sent with api_request_json under its target (SSM_TARGET_*), and an
 * answer (ssm_read_*). SSM_*_CALL is the call's description for aws_call.
 *
 * What the general rules (api.h) do not know:
 * - StartSession, TargetNotConnected: no agent answers for the target. A task that has just started needs
 *   some seconds until its agent does, so it is API_RETRY with ERROR_UNAVAILABLE.
 * - ResumeSession, an empty or null token, or DoesNotExistException: the session is over. API_FAILED with
 *   ERROR_NOT_FOUND and *is_over.
 * - ResumeSession, denied: the credentials may be older than what they stand for now (protocol.md, section
 *   11). API_REFRESH with ERROR_DENIED, which aws_call turns into API_FAILED the second time.
 * - TerminateSession, DoesNotExistException: there is nothing to end. API_OK.
 */
#ifndef FUMIDAI_AWS_SSM_H
#define FUMIDAI_AWS_SSM_H

#include <stdbool.h>
#include <stddef.h>

#include "aws/api.h"
#include "aws/ssmmessages.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

#define SSM_TARGET_PREFIX                "AmazonSSM."
#define SSM_TARGET_START_SESSION         SSM_TARGET_PREFIX "StartSession"
#define SSM_TARGET_RESUME_SESSION        SSM_TARGET_PREFIX "ResumeSession"
#define SSM_TARGET_TERMINATE_SESSION     SSM_TARGET_PREFIX "TerminateSession"
#define SSM_TARGET_GET_CONNECTION_STATUS SSM_TARGET_PREFIX "GetConnectionStatus"

/* Initialisers of struct api_call. */
#define SSM_START_SESSION_CALL                                                                               \
    {                                                                                                        \
        ENDPOINT_SSM, "StartSession", 200                                                                    \
    }
#define SSM_RESUME_SESSION_CALL                                                                              \
    {                                                                                                        \
        ENDPOINT_SSM, "ResumeSession", 200                                                                   \
    }
#define SSM_TERMINATE_SESSION_CALL                                                                           \
    {                                                                                                        \
        ENDPOINT_SSM, "TerminateSession", 200                                                                \
    }
#define SSM_GET_CONNECTION_STATUS_CALL                                                                       \
    {                                                                                                        \
        ENDPOINT_SSM, "GetConnectionStatus", 200                                                             \
    }

enum {
    SSM_REASON_MAX = 256, /* StartSession: Reason has at most 256 characters; ours is cut at so many bytes */
    SSM_DOCUMENT_SIZE = 257, /* a name has up to 128 characters, an ARN some 60 more */
    /* A host of 60 bytes, the path with a session id of 96, "cell-number=" and some 100 bytes of base64. */
    SSM_STREAM_URL_SIZE = 1025,
    /* A target (400), a document's name or ARN, a host (253), a reason: each byte escaped in six at worst. */
    SSM_BODY_SIZE = 8192
};

/* Empty parameters are not sent. */
struct ssm_start_session {
    struct str target;   /* "ecs:CLUSTER_TASK_RUNTIME" */
    struct str document; /* name or ARN */
    struct str host;
    struct str port_number;
    struct str local_port_number;
    struct str reason; /* cut at a character; line breaks and other control characters become blanks */
};

#define SSM_DOCUMENT_TASK   "AWS-StartPortForwardingSession"
#define SSM_DOCUMENT_HOST   "AWS-StartPortForwardingSessionToRemoteHost"
#define SSM_DOCUMENT_SOCKET "AWS-StartPortForwardingSessionToSocket" /* of the agent's host */

/* Whether a forward to this host leads to the task itself: nothing, "localhost" or a loopback address. */
bool ssm_host_is_task(struct str host);
/* Sets the document: the user's own, when it is not empty; SSM_DOCUMENT_TASK for the task itself, which some
 * policies allow alone; else SSM_DOCUMENT_HOST. Without need of a host, none is sent. */
void ssm_choose_document(struct ssm_start_session *start, struct str document_name);

/* What StartSession's answer says, or argv of the plugin. The token is a secret: wipe it. */
struct ssm_session {
    char id[SSMMESSAGES_SESSION_ID_SIZE];
    char stream_url[SSM_STREAM_URL_SIZE];
    char token[SSMMESSAGES_TOKEN_SIZE];
};

/* A body that does not fit fails the writer. */
void ssm_write_start_session(struct writer *body, const struct ssm_start_session *start);
void ssm_write_session(struct writer *body, struct str session_id); /* ResumeSession, TerminateSession */
void ssm_write_get_connection_status(struct writer *body, struct str target);

/* Of a JSON object with SessionId, StreamUrl and TokenValue. ERROR_INVALID when it is malformed, when one of
 * them is missing, or when the id can't be part of a path; ERROR_TOO_LARGE beyond a bound. */
int ssm_parse_session(struct ssm_session *session, struct str text, struct error *err);

/* `session` is empty unless API_OK. */
enum api_class ssm_read_start_session(struct ssm_session *session, const struct api_answer *answer,
                                      struct api_failure *failure, struct error *err);
/* A new token, which is empty unless API_OK. The answer's StreamUrl is not read: it is the one of the start.
 */
enum api_class ssm_read_resume_session(char token[SSMMESSAGES_TOKEN_SIZE], bool *is_over,
                                       const struct api_answer *answer, struct api_failure *failure,
                                       struct error *err);
enum api_class ssm_read_terminate_session(const struct api_answer *answer, struct api_failure *failure,
                                          struct error *err);
enum api_class ssm_read_get_connection_status(bool *is_connected, const struct api_answer *answer,
                                              struct api_failure *failure, struct error *err);

#endif
