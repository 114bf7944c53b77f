#include "cloud/aws_call.h"

#include <string.h>

#include "cloud/api_http.h"
#include "cloud/credentials_chain.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"

/* ---- the client ---------------------------------------------------------------------------------------- */

void aws_client_open(struct aws_client *client, struct network *network, char *const *env)
{
    memset(client, 0, sizeof *client);
    client->network = network;
    client->env = env;
    credentials_source_open(&client->credentials, network, env);
    aws_client_find_region(client, (struct str){NULL, 0}, NULL);
}

int aws_client_open_chain(struct aws_client *client, struct network *network, char *const *env,
                          const char *profile, struct error *err)
{
    struct credentials_chain *chain;
    memset(client, 0, sizeof *client);
    int result = credentials_chain_open(&chain, network, env, profile, err);
    if (result != 0)
        return result;
    client->network = network;
    client->env = credentials_chain_environment(chain);
    credentials_source_open(&client->credentials, network, client->env);
    credentials_source_use(&client->credentials, credentials_chain_provider(chain));
    aws_client_find_region(client, (struct str){NULL, 0}, NULL);
    return 0;
}

int aws_client_find_region(struct aws_client *client, struct str task_arn, struct error *err)
{
    return endpoint_find_region(client->region, client->env, task_arn, err);
}

void aws_client_close(struct aws_client *client)
{
    credentials_source_close(&client->credentials);
}

int aws_client_sign(struct aws_client *client, struct api_request *request, struct sigv4_signature *signature,
                    enum endpoint_service service, struct error *err)
{
    const struct credentials *credentials = credentials_source_get(&client->credentials, err);
    if (credentials == NULL)
        return err->code;
    return sigv4_sign(request, signature, credentials, str_from(client->region),
                      str_from(endpoint_service_name(service)),
                      credentials_source_unix_ms(&client->credentials), err);
}

/* ---- one attempt --------------------------------------------------------------------------------------- */

static void send_when_ready(struct aws_call *call);

static void finish(struct aws_call *call, enum api_class class)
{
    call->class = class;
    call->active = false;
    call->done(call);
}

static void soon_expired(struct loop_timer *timer)
{
    struct aws_call *call = LOOP_OWNER(timer, struct aws_call, soon);
    finish(call, call->class);
}

/* Reports from the loop: an owner is never called back from inside its own call. */
static void finish_soon(struct aws_call *call, enum api_class class)
{
    call->class = class;
    loop_timer_set(call->client->network->loop, &call->soon, loop_now_ms(call->client->network->loop));
}

/* Changes what the answer asks to be changed, and sends again; false when it asks for nothing, or did
 * before. */
static bool send_changed(struct aws_call *call, enum api_class class, const struct api_failure *failure)
{
    struct credentials_source *credentials = &call->client->credentials;
    if (class == API_REFRESH && !call->refreshed) {
        call->refreshed = true;
        credentials_source_discard(credentials);
        log_event(LOG_INFO, "credentials were refused, fetching new ones", LOG_ERR(&call->err));
    } else if (class == API_CLOCK && !call->clock_set && failure->server_unix_ms >= 0) {
        call->clock_set = true;
        credentials->clock_offset_ms = failure->server_unix_ms - clock_unix_ms();
        log_event(LOG_WARN, "this host's clock is off; signing with the service's time",
                  LOG_DURATION_MS("offset", credentials->clock_offset_ms));
    } else {
        return false;
    }
    send_when_ready(call);
    return true;
}

static void request_done(struct http_call *http, void *owner)
{
    struct aws_call *call = owner;
    struct api_failure failure = {.server_unix_ms = -1};
    enum api_class class = API_RETRY;
    call->err = (struct error) ERROR_INIT;
    if (http_call_result(http, &call->err) < 0) {
        error_prefix(&call->err, "%s: ", call->operation->api.action);
    } else {
        struct api_answer answer = api_http_answer(http);
        class = call->operation->classify(call, &answer, &failure, &call->err);
    }
    call->http = NULL;
    http_call_close(http);
    if (send_changed(call, class, &failure))
        return;
    /* Sent twice, the second time as the service itself wanted it: from here on it is an ordinary failure. */
    if (class == API_REFRESH || class == API_CLOCK)
        class = call->err.code == ERROR_DENIED ? API_FAILED : API_RETRY;
    finish(call, class);
}

static int find_endpoint(struct aws_call *call)
{
    if (call->fixed_endpoint == NULL)
        return (call->client->network->ipv6_only ? endpoint_for_service_by_ipv6 : endpoint_for_service)(
            &call->endpoint, call->operation->api.service, str_from(call->client->region), call->client->env,
            &call->err);
    call->endpoint = *call->fixed_endpoint;
    return 0;
}

static int make_and_send(struct aws_call *call)
{
    struct aws_client *client = call->client;
    struct api_request request;
    struct sigv4_signature signature;
    int result = find_endpoint(call);
    if (result == 0)
        result = call->operation->make(call, &request, &call->endpoint, &call->err);
    if (result == 0 && call->operation->is_signed)
        result = aws_client_sign(client, &request, &signature, call->operation->api.service, &call->err);
    if (result == 0)
        result = api_http_start(&call->http, client->network, &request, &call->endpoint, call->deadline_ms,
                                call->use, request_done, call, &call->err);
    return result;
}

static void send_request(struct aws_call *call)
{
    if (make_and_send(call) == 0)
        return;
    error_prefix(&call->err, "%s: ", call->operation->api.action);
    finish_soon(call, error_may_pass(&call->err) ? API_RETRY : API_FAILED);
}

static void credentials_ready(struct credentials_waiter *waiter)
{
    send_request(LOOP_OWNER(waiter, struct aws_call, waiter));
}

static void send_when_ready(struct aws_call *call)
{
    if (!call->operation->is_signed || credentials_source_prepare(&call->client->credentials, &call->waiter))
        send_request(call);
}

void aws_call_start(struct aws_call *call, int64_t deadline_ms)
{
    call->err = (struct error) ERROR_INIT;
    call->deadline_ms = deadline_ms;
    call->active = true;
    call->refreshed = false;
    call->clock_set = false;
    call->http = NULL;
    call->waiter.ready = credentials_ready;
    loop_timer_init(&call->soon, soon_expired);
    send_when_ready(call);
}

void aws_call_cancel(struct aws_call *call)
{
    if (!call->active)
        return;
    call->active = false;
    http_call_close(call->http);
    call->http = NULL;
    loop_timer_remove(call->client->network->loop, &call->soon);
    credentials_source_cancel(&call->client->credentials, &call->waiter);
}
