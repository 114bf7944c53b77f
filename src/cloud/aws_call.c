#include "cloud/aws_call.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/env.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/random.h"
#include "wire/http.h"

enum { FETCH_MS = 10 * 1000, TOKEN_FILE_MAX = CREDENTIALS_AUTHORIZATION_SIZE };

static void start_fetch(struct aws_client *client);
static void send_request(struct aws_call *call);

void aws_client_open(struct aws_client *client, struct network *network, char *const *env)
{
    struct error ignored = ERROR_INIT;
    memset(client, 0, sizeof *client);
    client->network = network;
    client->env = env;
    client->has_plan = credentials_make_plan(&client->plan, env, &client->plan_error) == 0;
    aws_client_find_region(client, (struct str){NULL, 0}, &ignored);
}

int aws_client_find_region(struct aws_client *client, struct str task_arn, struct error *err)
{
    return endpoint_find_region(client->region, client->env, task_arn, err);
}

void aws_client_close(struct aws_client *client)
{
    http_call_close(client->fetch);
    client->fetch = NULL;
    credentials_wipe(&client->credentials);
    bytes_wipe(&client->plan, sizeof client->plan);
    client->has_credentials = false;
}

/* ---- requests ------------------------------------------------------------------------------------------ */

/* Serialises and starts one request; the bytes hold secrets and do not outlive this. */
static int send_bytes(struct http_call **http, const struct aws_client *client,
                      const struct api_request *request, const struct endpoint *endpoint, int64_t deadline_ms,
                      void (*done)(struct http_call *, void *), void *owner, struct error *err)
{
    uint8_t memory[AWS_REQUEST_SIZE];
    char target_memory[2 * API_PATH_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    struct writer target = writer_of(target_memory, sizeof target_memory);
    writer_text(&target, request->path);
    if (request->query.len > 0) {
        writer_char(&target, '?');
        writer_str(&target, request->query);
    }
    if (target.failed)
        return error_set(err, ERROR_TOO_LARGE, "the request's path and query are too long");
    struct http_request http_request =
        http_request_begin(&out, request->method, writer_view(&target), request->host);
    for (size_t i = 0; i < request->header_count; i++)
        http_request_header(&http_request, request->headers[i].name, request->headers[i].value);
    http_request_header_text(&http_request, "connection", "close");
    int result = http_request_end(&http_request, request->body, err);
    if (result == 0) {
        struct http_call_request description = {.host = endpoint->host,
                                                .port = endpoint->port,
                                                .tls = endpoint->tls,
                                                .bytes = writer_view(&out),
                                                .deadline_ms = deadline_ms};
        result = http_call_start(http, client->network, &description, done, owner, err);
    }
    bytes_wipe(memory, sizeof memory);
    return result;
}

static struct api_answer answer_of(const struct http_call *http)
{
    return (struct api_answer){.status = http_call_status(http),
                               .error_type = http_call_header(http, "x-amzn-errortype"),
                               .date = http_call_header(http, "date"),
                               .body = http_call_body(http)};
}

/* ---- credentials --------------------------------------------------------------------------------------- */

static int64_t service_unix_ms(const struct aws_client *client)
{
    return clock_unix_ms() + client->clock_offset_ms;
}

static void take_credentials(struct aws_client *client)
{
    uint32_t random;
    random_bytes(&random, sizeof random);
    client->has_credentials = true;
    client->refresh_at_unix_ms = credentials_refresh_at(&client->credentials, random);
}

/* Every call that waited goes on, with keys or without: what is missing becomes its error. */
static void wake_waiting(struct aws_client *client)
{
    struct aws_call *call = client->waiting;
    client->waiting = NULL;
    while (call != NULL) {
        struct aws_call *next = call->next_waiting;
        call->next_waiting = NULL;
        send_request(call);
        call = next;
    }
}

static void fetch_done(struct http_call *http, void *owner)
{
    struct aws_client *client = owner;
    struct credentials fresh;
    memset(&fresh, 0, sizeof fresh);
    if (http_call_result(http, &client->plan_error) == 0) {
        struct api_answer answer = answer_of(http);
        if (credentials_read_answer(&fresh, &answer, service_unix_ms(client), &client->plan_error) ==
            API_OK) {
            client->credentials = fresh;
            take_credentials(client);
            client->plan_error = (struct error) ERROR_INIT;
            log_event(LOG_DEBUG, "fetched credentials", LOG_TIME_MS("expires", fresh.expires_unix_ms),
                      LOG_TIME_MS("refresh_at", client->refresh_at_unix_ms));
        }
    }
    credentials_wipe(&fresh);
    if (client->plan_error.code != ERROR_NONE) {
        error_prefix(&client->plan_error, "credentials: ");
        log_event(LOG_WARN, "can't fetch credentials", LOG_ERR(&client->plan_error));
        /* The old keys serve while they last; the next call after a short while asks again. */
        client->refresh_at_unix_ms = service_unix_ms(client) + FETCH_MS;
    }
    client->fetch = NULL;
    http_call_close(http);
    wake_waiting(client);
}

/* The file may be rewritten at any time (a projected service account token), so it is read for each fetch. */
static int read_token_file(const char *path, char token[TOKEN_FILE_MAX], struct str *view, struct error *err)
{
    *view = (struct str){NULL, 0};
    if (path[0] == '\0')
        return 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, token, TOKEN_FILE_MAX);
    if (fd >= 0)
        close(fd);
    if (got < 0)
        return error_set(err, ERROR_SYSTEM, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: can't read %s", path);
    *view = (struct str){token, (size_t) got};
    return 0;
}

static int try_fetch(struct aws_client *client, struct error *err)
{
    struct api_request request;
    char token[TOKEN_FILE_MAX];
    struct str view;
    int result = read_token_file(client->plan.token_file, token, &view, err);
    if (result == 0)
        result = credentials_make_request(&request, &client->plan, view, err);
    if (result == 0)
        result = send_bytes(&client->fetch, client, &request, &client->plan.endpoint,
                            clock_after_ms(clock_monotonic_ms(), FETCH_MS), fetch_done, client, err);
    bytes_wipe(token, sizeof token);
    return result;
}

static void start_fetch(struct aws_client *client)
{
    if (client->fetch != NULL || !client->has_plan)
        return;
    client->plan_error = (struct error) ERROR_INIT;
    if (client->plan.source == CREDENTIALS_ENVIRONMENT) {
        if (credentials_from_environment(&client->credentials, client->env, &client->plan_error) == 0)
            take_credentials(client);
        return;
    }
    if (try_fetch(client, &client->plan_error) < 0)
        error_prefix(&client->plan_error, "credentials: ");
}

static bool has_usable_credentials(const struct aws_client *client)
{
    return client->has_credentials && !credentials_expired(&client->credentials, service_unix_ms(client));
}

/* ---- calls --------------------------------------------------------------------------------------------- */

static void finish(struct aws_call *call, enum api_outcome outcome)
{
    call->outcome = outcome;
    call->active = false;
    call->done(call);
}

static void soon_expired(struct loop_timer *timer)
{
    struct aws_call *call = LOOP_OWNER(timer, struct aws_call, soon);
    finish(call, call->outcome);
}

/* Reports from the loop: an owner is never called back from inside its own call. */
static void finish_soon(struct aws_call *call, enum api_outcome outcome)
{
    call->outcome = outcome;
    loop_timer_set(call->client->network->loop, &call->soon, loop_now_ms(call->client->network->loop));
}

static void wait_for_credentials(struct aws_call *call)
{
    call->next_waiting = call->client->waiting;
    call->client->waiting = call;
}

/* What an answer asks us to change before the one repetition. */
static bool repeat_changed(struct aws_call *call, enum api_outcome outcome, const struct api_failure *failure)
{
    struct aws_client *client = call->client;
    if (outcome == API_RENEW && !call->renewed) {
        call->renewed = true;
        client->has_credentials = false;
        log_event(LOG_INFO, "credentials were refused, fetching new ones", LOG_ERR(&call->err));
        start_fetch(client);
        if (client->fetch != NULL)
            wait_for_credentials(call);
        else
            send_request(call);
        return true;
    }
    if (outcome == API_CLOCK && !call->clock_set && failure->server_unix_ms >= 0) {
        call->clock_set = true;
        client->clock_offset_ms = failure->server_unix_ms - clock_unix_ms();
        log_event(LOG_WARN, "this host's clock is off; signing with the service's time",
                  LOG_DURATION_MS("offset", client->clock_offset_ms));
        send_request(call);
        return true;
    }
    return false;
}

static void request_done(struct http_call *http, void *owner)
{
    struct aws_call *call = owner;
    struct api_failure failure = {.server_unix_ms = -1};
    enum api_outcome outcome = API_REPEAT;
    call->err = (struct error) ERROR_INIT;
    if (http_call_result(http, &call->err) < 0) {
        error_prefix(&call->err, "%s: ", call->operation->api.action);
    } else {
        struct api_answer answer = answer_of(http);
        outcome = call->operation->judge(call, &answer, &failure, &call->err);
    }
    call->http = NULL;
    http_call_close(http);
    if (repeat_changed(call, outcome, &failure))
        return;
    /* Asked twice with what the service itself told us: from here on it is an ordinary failure. */
    finish(call, outcome == API_RENEW || outcome == API_CLOCK ? API_REPEAT : outcome);
}

static int make_and_send(struct aws_call *call)
{
    struct aws_client *client = call->client;
    struct api_request request;
    struct sigv4_signature signature;
    if (call->fixed_endpoint != NULL) {
        call->endpoint = *call->fixed_endpoint;
    } else {
        int result = endpoint_for_service(&call->endpoint, call->operation->api.service,
                                          str_from(client->region), client->env, &call->err);
        if (result < 0)
            return result;
    }
    int result = call->operation->make(call, &request, &call->endpoint, &call->err);
    if (result == 0 && call->operation->is_signed)
        result = aws_client_sign(client, &request, &signature, call->operation->api.service, &call->err);
    if (result == 0)
        result = send_bytes(&call->http, client, &request, &call->endpoint, call->deadline_ms, request_done,
                            call, &call->err);
    return result;
}

static void send_request(struct aws_call *call)
{
    if (make_and_send(call) == 0)
        return;
    error_prefix(&call->err, "%s: ", call->operation->api.action);
    finish_soon(call, error_may_pass(&call->err) ? API_REPEAT : API_FAILED);
}

void aws_call_start(struct aws_call *call, int64_t deadline_ms)
{
    struct aws_client *client = call->client;
    call->err = (struct error) ERROR_INIT;
    call->deadline_ms = deadline_ms;
    call->active = true;
    call->renewed = false;
    call->clock_set = false;
    call->http = NULL;
    call->next_waiting = NULL;
    loop_timer_init(&call->soon, soon_expired);
    if (call->operation->is_signed) {
        if (!client->has_credentials || service_unix_ms(client) >= client->refresh_at_unix_ms)
            start_fetch(client);
        if (client->fetch != NULL && !has_usable_credentials(client)) {
            wait_for_credentials(call);
            return;
        }
    }
    send_request(call);
}

void aws_call_cancel(struct aws_call *call)
{
    if (!call->active)
        return;
    call->active = false;
    http_call_close(call->http);
    call->http = NULL;
    loop_timer_remove(call->client->network->loop, &call->soon);
    for (struct aws_call **link = &call->client->waiting; *link != NULL; link = &(*link)->next_waiting) {
        if (*link == call) {
            *link = call->next_waiting;
            break;
        }
    }
}

int aws_client_sign(struct aws_client *client, struct api_request *request, struct sigv4_signature *signature,
                    enum endpoint_service service, struct error *err)
{
    if (!client->has_plan)
        return error_set(err, client->plan_error.code, "%s", client->plan_error.text);
    if (!has_usable_credentials(client)) {
        if (client->plan_error.code != ERROR_NONE)
            return error_set(err, ERROR_UNAVAILABLE, "%s", client->plan_error.text);
        return error_set(err, ERROR_UNAVAILABLE, "there are no credentials yet");
    }
    return sigv4_sign(request, signature, &client->credentials, str_from(client->region),
                      str_from(endpoint_service_name(service)), service_unix_ms(client), err);
}
