/*
 * client_terminate: ssm:TerminateSession, after a client's session has ended by its flag or has broken. What
 * the service does not know any more counts as ended. A failure is logged: the service then ends the session
 * when it has been idle for long enough.
 */
#ifndef FUMIDAI_CLIENT_TERMINATE_H
#define FUMIDAI_CLIENT_TERMINATE_H

#include "cloud/aws_call.h"

enum {
    CLIENT_TERMINATE_BODY_SIZE = 512 /* {"SessionId":"..."} */
};

struct client_terminate {
    void (*done)(struct client_terminate *terminate); /* from the loop, once */

    /* private */
    struct aws_call call;
    const char *session_id;
    char body[CLIENT_TERMINATE_BODY_SIZE];
};

/* `done` is set; `session_id` outlives the call. `ssm`: where to, null for aws/endpoint's choice. `limit_ms`
 * includes the credentials. */
void client_terminate_start(struct client_terminate *terminate, struct aws_client *client,
                            const struct endpoint *ssm, const char *session_id, int64_t limit_ms);
void client_terminate_cancel(struct client_terminate *terminate); /* at any time */

#endif
