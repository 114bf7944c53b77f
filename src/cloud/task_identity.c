#include "cloud/task_identity.h"

#include <string.h>

#include "base/env.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/retry.h"

static struct json_token tokens[API_JSON_TOKENS]; /* there is one identity, and only touched pages count */

static struct task_identity *owner_of(struct aws_call *call)
{
    return LOOP_OWNER(call, struct task_identity, call);
}

static int make_request(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                        struct error *err)
{
    if (owner_of(call)->has_container)
        return metadata_make_task_request(request, endpoint, err);
    return metadata_make_container_request(request, endpoint, err);
}

static enum api_class read_answer(struct aws_call *call, const struct api_answer *answer,
                                  struct api_failure *failure, struct error *err)
{
    struct task_identity *identity = owner_of(call);
    (void) failure;
    int result = identity->has_container
                     ? metadata_read_task(&identity->metadata, answer, tokens, API_JSON_TOKENS, err)
                     : metadata_read_container(&identity->metadata, answer, tokens, API_JSON_TOKENS, err);
    return result < 0 ? API_RETRY : API_OK;
}

static const struct aws_operation metadata_operation = {
    .api = {.action = "task metadata", .expected_status = 200},
    .make = make_request,
    .classify = read_answer};

/* The first answers may come before the network interface is described. */
static void ask_for_subnet_again(struct task_identity *identity)
{
    if (identity->subnet_tries++ == 0)
        log_event(LOG_WARN, "the metadata does not tell the task's subnet yet, asking again", LOG_END);
    identity->has_container = false;
    retry_later(identity->client->network->loop, &identity->again, &identity->retry, ERROR_UNAVAILABLE);
}

static void tell(struct task_identity *identity)
{
    struct metadata *metadata = &identity->metadata;
    if (metadata->ipv6_subnet[0] != '\0' && identity->subnet_tries >= TASK_IDENTITY_IPV4_TRIES)
        metadata->ipv4_unknown = false;
    identity->learned(identity);
    if (metadata->ipv4_unknown || metadata->ipv6_unknown)
        ask_for_subnet_again(identity);
}

static void finish(struct task_identity *identity)
{
    struct error err = ERROR_INIT;
    if (aws_client_find_region(identity->client, str_from(identity->metadata.task_arn), &err) < 0)
        log_event(LOG_WARN, "can't tell the region; set AWS_REGION", LOG_ERR(&err));
    log_event(LOG_DEBUG, "read the task's metadata", LOG_TEXT("cluster", identity->metadata.cluster),
              LOG_TEXT("task", identity->metadata.task_arn),
              LOG_TEXT("service", identity->metadata.service_name),
              LOG_TEXT("region", identity->client->region));
    identity->is_learned = true;
    backoff_succeed(&identity->retry);
    tell(identity);
}

static void ask(struct loop_timer *timer)
{
    struct task_identity *identity = LOOP_OWNER(timer, struct task_identity, again);
    aws_call_start(&identity->call,
                   clock_after_ms(loop_now_ms(identity->client->network->loop), TASK_IDENTITY_CALL_MS));
}

static void ask_again_later(struct task_identity *identity)
{
    struct loop *loop = identity->client->network->loop;
    int64_t pause_ms = retry_later(loop, &identity->again, &identity->retry, identity->call.err.code);
    /* The first failures are told, then every tenth: an endpoint may stay away for
     * good (a task run elsewhere). */
    if (identity->failures_logged++ < 3 || identity->failures_logged % 10 == 0)
        log_event(LOG_WARN, "can't read the task's metadata yet, trying again", LOG_ERR(&identity->call.err),
                  LOG_DURATION_MS("in", pause_ms));
}

static void answered(struct aws_call *call)
{
    struct task_identity *identity = owner_of(call);
    if (call->class != API_OK) {
        ask_again_later(identity);
        return;
    }
    if (identity->is_learned) {
        tell(identity);
    } else if (identity->has_container) {
        finish(identity);
    } else {
        identity->has_container = true;
        loop_timer_set(identity->client->network->loop, &identity->again, 0);
    }
}

void task_identity_open(struct task_identity *identity, struct aws_client *client,
                        void (*learned)(struct task_identity *identity), void *owner)
{
    struct error err = ERROR_INIT;
    memset(identity, 0, sizeof *identity);
    identity->client = client;
    identity->learned = learned;
    identity->owner = owner;
    identity->call.client = client;
    identity->call.operation = &metadata_operation;
    identity->call.fixed_endpoint = &identity->endpoint;
    identity->call.done = answered;
    loop_timer_init(&identity->again, ask);
    backoff_start(&identity->retry, &BACKOFF_CALLS, INT64_MAX);
    struct str url = env_get(client->env, "ECS_CONTAINER_METADATA_URI_V4");
    if (url.len == 0)
        return;
    if (endpoint_from_url(&identity->endpoint, url, &err) < 0) {
        log_event(LOG_ERROR, "ECS_CONTAINER_METADATA_URI_V4 is not a valid URL; going on as outside ECS",
                  LOG_ERR(&err));
        return;
    }
    loop_timer_set(client->network->loop, &identity->again, 0);
}

void task_identity_close(struct task_identity *identity)
{
    aws_call_cancel(&identity->call);
    loop_timer_remove(identity->client->network->loop, &identity->again);
}
