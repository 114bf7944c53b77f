#include "keeper/scale_in_protection.h"

#include <string.h>

#include "base/env.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/retry.h"

enum {
    MINUTE_MS = 60 * 1000,
    SHORTEST_MS = 2 * 1000 /* half of it is the least between two renewals, whatever the agent's clock says */
};

static struct scale_in_protection *owner_of(struct aws_call *call)
{
    return LOOP_OWNER(call, struct scale_in_protection, call);
}

static struct loop *loop_of(const struct scale_in_protection *protection)
{
    return protection->client->network->loop;
}

static int make_request(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                        struct error *err)
{
    struct scale_in_protection *protection = owner_of(call);
    struct writer body = writer_of(protection->body, sizeof protection->body);
    ecs_write_protection(&body, protection->asked, SCALE_IN_PROTECTION_MINUTES);
    return ecs_make_protection_request(request, endpoint, writer_view(&body), err);
}

static enum api_class read_answer(struct aws_call *call, const struct api_answer *answer,
                                  struct api_failure *failure, struct error *err)
{
    struct scale_in_protection *protection = owner_of(call);
    (void) failure;
    enum api_class class = ecs_read_protection(&protection->answer, answer, err);
    if (class == API_OK && protection->answer.enabled != protection->asked) {
        error_set(err, ERROR_UNAVAILABLE, "UpdateTaskProtection: the answer says that it is %s",
                  protection->answer.enabled ? "on" : "off");
        return API_RETRY;
    }
    return class;
}

static const struct aws_operation update_operation = {
    .api = {ENDPOINT_ECS, "UpdateTaskProtection", 200}, .make = make_request, .classify = read_answer};

static bool is_settled(const struct scale_in_protection *protection)
{
    return protection->state == (protection->wanted ? SCALE_IN_PROTECTION_HELD : SCALE_IN_PROTECTION_FREE);
}

static void ask(struct scale_in_protection *protection)
{
    loop_timer_remove(loop_of(protection), &protection->due);
    protection->asked = protection->wanted;
    aws_call_start(&protection->call,
                   clock_after_ms(loop_now_ms(loop_of(protection)), SCALE_IN_PROTECTION_CALL_MS));
}

static void due_expired(struct loop_timer *timer)
{
    struct scale_in_protection *protection = LOOP_OWNER(timer, struct scale_in_protection, due);
    if (protection->wanted || !is_settled(protection))
        ask(protection);
    else /* what failed is not wanted any more */
        backoff_succeed(&protection->retry);
}

static void renew_in_time(struct scale_in_protection *protection)
{
    int64_t left_ms = SCALE_IN_PROTECTION_MINUTES * MINUTE_MS;
    if (protection->answer.expires_unix_ms != INT64_MAX) {
        int64_t told_ms = protection->answer.expires_unix_ms - clock_unix_ms();
        left_ms = told_ms < SHORTEST_MS ? SHORTEST_MS : told_ms < left_ms ? told_ms : left_ms;
    }
    loop_timer_set(loop_of(protection), &protection->due, loop_now_ms(loop_of(protection)) + left_ms / 2);
}

static void try_later(struct scale_in_protection *protection)
{
    bool tell = protection->retry.failures % 10 == 0;
    int64_t pause_ms =
        retry_later(loop_of(protection), &protection->due, &protection->retry, protection->call.err.code);
    if (tell)
        log_event(LOG_WARN,
                  protection->asked ? "can't protect this task from scale-in, trying again"
                                    : "can't release this task's protection, trying again",
                  LOG_ERR(&protection->call.err), LOG_DURATION_MS("in", pause_ms));
}

static void answered(struct aws_call *call)
{
    struct scale_in_protection *protection = owner_of(call);
    if (call->class != API_OK) {
        if (call->class != API_FAILED) /* a refusal changes nothing; everything else may have */
            protection->state = SCALE_IN_PROTECTION_UNKNOWN;
        try_later(protection);
        return;
    }
    backoff_succeed(&protection->retry);
    enum scale_in_protection_state state =
        protection->asked ? SCALE_IN_PROTECTION_HELD : SCALE_IN_PROTECTION_FREE;
    if (state != protection->state)
        log_event(LOG_DEBUG, protection->asked ? "protected from scale-in" : "released from protection",
                  LOG_END);
    protection->state = state;
    if (!is_settled(protection)) /* wanted otherwise meanwhile */
        loop_timer_set(loop_of(protection), &protection->due, 0);
    else if (state == SCALE_IN_PROTECTION_HELD)
        renew_in_time(protection);
}

void scale_in_protection_open(struct scale_in_protection *protection, struct aws_client *client)
{
    struct error err = ERROR_INIT;
    memset(protection, 0, sizeof *protection);
    protection->client = client;
    protection->call.client = client;
    protection->call.operation = &update_operation;
    protection->call.fixed_endpoint = &protection->endpoint;
    protection->call.done = answered;
    loop_timer_init(&protection->due, due_expired);
    backoff_start(&protection->retry, &BACKOFF_RECONNECT, INT64_MAX);
    struct str url = env_get(client->env, "ECS_AGENT_URI");
    if (url.len == 0)
        error_set(&err, ERROR_NOT_FOUND, "there is no ECS_AGENT_URI");
    else if (endpoint_from_url(&protection->endpoint, url, &err) < 0)
        error_prefix(&err, "ECS_AGENT_URI: ");
    protection->works = err.code == ERROR_NONE;
    if (!protection->works)
        log_event(LOG_WARN, "this task can't be protected from scale-in", LOG_ERR(&err));
}

void scale_in_protection_want(struct scale_in_protection *protection, bool wanted)
{
    if (!protection->works || protection->wanted == wanted)
        return;
    protection->wanted = wanted;
    /* Calls under way and back-offs come to their end first; due_expired and
     * answered look at `wanted` then. */
    if (!protection->call.active && !is_settled(protection) && protection->retry.failures == 0)
        ask(protection);
}

void scale_in_protection_close(struct scale_in_protection *protection)
{
    if (protection->client == NULL)
        return;
    aws_call_cancel(&protection->call);
    loop_timer_remove(loop_of(protection), &protection->due);
}
