#include "client/terminate.h"

#include "aws/ssm.h"
#include "host/clock.h"
#include "host/log.h"

static struct client_terminate *owner_of(struct aws_call *call)
{
    return LOOP_OWNER(call, struct client_terminate, call);
}

static int make(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                struct error *err)
{
    struct client_terminate *t = owner_of(call);
    struct writer body = writer_of(t->body, sizeof t->body);
    ssm_write_session(&body, str_from(t->session_id));
    return api_request_json(request, endpoint, SSM_TARGET_TERMINATE_SESSION, writer_view(&body), err);
}

static enum api_class classify(struct aws_call *call, const struct api_answer *answer,
                               struct api_failure *failure, struct error *err)
{
    (void) call;
    return ssm_read_terminate_session(answer, failure, err);
}

static const struct aws_operation operation = {
    .api = SSM_TERMINATE_SESSION_CALL, .is_signed = true, .make = make, .classify = classify};

static void answered(struct aws_call *call)
{
    struct client_terminate *t = owner_of(call);
    if (call->class != API_OK)
        log_event(LOG_WARN, "can't terminate the session; the service ends it when it is idle",
                  LOG_TEXT("session", t->session_id), LOG_ERR(&call->err));
    t->done(t);
}

void client_terminate_start(struct client_terminate *t, struct aws_client *client, const struct endpoint *ssm,
                            const char *session_id, int64_t limit_ms)
{
    t->session_id = session_id;
    t->call =
        (struct aws_call){.client = client, .operation = &operation, .fixed_endpoint = ssm, .done = answered};
    aws_call_start(&t->call, clock_after_ms(loop_now_ms(client->network->loop), limit_ms));
}

void client_terminate_cancel(struct client_terminate *t)
{
    aws_call_cancel(&t->call);
}
