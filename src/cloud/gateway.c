#include "cloud/gateway.h"

#include <stdlib.h>
#include <string.h>

#include "aws/xml.h"
#include "base/num.h"
#include "cloud/api_http.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/random.h"
#include "tunnel/handshake.h"

/* What is needed between the stream's opening and the service's 101. */
struct upgrade {
    struct http_response response;
    char head[GATEWAY_HEAD_SIZE];
    char body[GATEWAY_BODY_SIZE];
    size_t body_len;
};

static struct loop *loop_of(const struct gateway *gateway)
{
    return gateway->client->network->loop;
}

static int64_t now_of(const struct gateway *gateway)
{
    return loop_now_ms(loop_of(gateway));
}

/* ---- where tokens and URLs come from ------------------------------------------------------------------- */

/* What the kinds of channels differ in. */
struct gateway_source {
    struct aws_operation token; /* fetches a token into gateway->token */
    struct api_call open;       /* the websocket's GET, signed */
    const char *lacks;          /* API_BY_... */
    enum ssmmessages_channel channel;
    int (*begin)(struct gateway *gateway); /* gets a token, then start_connecting; negative: it failed */
    int (*make_open)(struct gateway *gateway, struct api_request *request, struct error *err);
    bool (*must_sign)(struct gateway *gateway);                       /* null: always */
    void (*write_body)(struct gateway *gateway, struct writer *out);  /* of the token's call */
    void (*write_first)(struct gateway *gateway, struct writer *out); /* the websocket's first message */
    const struct reconnect_policy *policy;                            /* a client has its own */
    enum descriptors_use use;
};

static const char *open_action(const struct gateway *gateway)
{
    return gateway->source->open.action;
}

static struct gateway *owner_of(struct aws_call *call)
{
    return LOOP_OWNER(call, struct gateway, call);
}

static int make_create(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                       struct error *err)
{
    struct gateway *gateway = owner_of(call);
    struct writer body = writer_of(gateway->body_memory, sizeof gateway->body_memory);
    gateway->source->write_body(gateway, &body);
    gateway->body = writer_view(&body);
    gateway->endpoint = *endpoint;
    return ssmmessages_make_create(request, &gateway->endpoint, gateway->source->channel, gateway->id,
                                   gateway->body, err);
}

static enum api_class read_create(struct aws_call *call, const struct api_answer *answer,
                                  struct api_failure *failure, struct error *err)
{
    struct gateway *gateway = owner_of(call);
    char url[256];
    if (xml_text(answer->body, "Url", url, sizeof url) && url[0] != '\0')
        log_event(LOG_DEBUG, "the service names a url, which is not used", LOG_TEXT("url", url),
                  LOG_TEXT("host", gateway->endpoint.host));
    return ssmmessages_read_create(gateway->token, gateway->source->channel, answer, failure, err);
}

static int make_open(struct gateway *gateway, struct api_request *request, struct error *err)
{
    return ssmmessages_make_open(request, &gateway->endpoint, gateway->source->channel, gateway->id, err);
}

static void write_control_body(struct gateway *gateway, struct writer *out)
{
    ssmmessages_write_create_control(out, str_from(gateway->request_id));
}

static void write_control_first(struct gateway *gateway, struct writer *out)
{
    const char *version = gateway->client->agent_version;
    ssmmessages_write_open_control(out, str_from(gateway->request_id), str_from(gateway->token),
                                   str_from(version != NULL ? version : SSMMESSAGES_AGENT_VERSION));
}

static void write_data_body(struct gateway *gateway, struct writer *out)
{
    ssmmessages_write_create_data(out, str_from(gateway->request_id), str_from(gateway->client_id));
}

static void write_data_first(struct gateway *gateway, struct writer *out)
{
    ssmmessages_write_open_data(out, str_from(gateway->request_id), str_from(gateway->token),
                                gateway->target_id, str_from(gateway->client_id));
}

/* ---- down ---------------------------------------------------------------------------------------------- */

static void make_uuid_text(char text[UUID_TEXT_SIZE])
{
    uint8_t random[UUID_SIZE];
    uint8_t uuid[UUID_SIZE];
    random_bytes(random, sizeof random);
    uuid_v4(uuid, random);
    uuid_format(uuid, text);
}

static void free_secret(char **text, size_t len)
{
    if (*text == NULL)
        return;
    bytes_wipe(*text, len);
    free(*text);
    *text = NULL;
}

static void forget_token(struct gateway *gateway)
{
    free_secret(&gateway->token, SSMMESSAGES_TOKEN_SIZE);
    free_secret(&gateway->first_text, SSMMESSAGES_OPEN_FRAME_SIZE);
    gateway->first_text_len = 0;
}

void gateway_close(struct gateway *gateway)
{
    aws_call_cancel(&gateway->call);
    credentials_source_cancel(&gateway->client->credentials, &gateway->keys);
    loop_timer_remove(loop_of(gateway), &gateway->timer);
    loop_hook_remove(loop_of(gateway), &gateway->leaving);
    forget_token(gateway);
    free(gateway->upgrade);
    gateway->upgrade = NULL;
    stream_close(gateway->stream);
    gateway->stream = NULL;
    gateway->state = GATEWAY_CLOSED;
}

static void wait_until(struct gateway *gateway, int64_t at_ms)
{
    gateway->state = GATEWAY_WAITING;
    gateway->retry_at_ms = at_ms;
    loop_timer_set(loop_of(gateway), &gateway->timer,
                   num_min_i64(at_ms, clock_after_ms(now_of(gateway), GATEWAY_KEYS_MS)));
}

static void keys_fetched(struct credentials_waiter *waiter)
{
    struct gateway *gateway = LOOP_OWNER(waiter, struct gateway, keys);
    if (credentials_source_changes(&gateway->client->credentials) == gateway->keys_refused)
        return;
    log_event(LOG_INFO, "the credentials are other ones now, trying again",
              LOG_TEXT("action", open_action(gateway)));
    wait_until(gateway, clock_after_ms(now_of(gateway), random_u32() % GATEWAY_NEW_KEYS_MS));
}

static void go_down(struct gateway *gateway)
{
    uint32_t random;
    struct error why = gateway->err;
    random_bytes(&random, sizeof random);
    int64_t at_ms = reconnect_down(&gateway->reconnect, now_of(gateway), gateway->failure, random);
    struct gateway_down down = {.was_up = gateway->was_up,
                                .is_final = at_ms == INT64_MAX,
                                .code = why.code,
                                .why = why.text,
                                .retry_at_ms = at_ms};
    gateway_close(gateway);
    if (!down.is_final) {
        gateway->keys_refused = credentials_source_changes(&gateway->client->credentials);
        wait_until(gateway, at_ms);
    } else if (gateway->failure != RECONNECT_REFUSED) {
        error_prefix(&why, "no working connection to Session Manager for %d s: ",
                     (int) (gateway->reconnect.policy->give_up_ms / 1000));
    }
    gateway->down(gateway, &down);
}

static void leave_now(struct loop_hook *hook)
{
    go_down(LOOP_OWNER(hook, struct gateway, leaving));
}

/* For what fails inside a call of the owner's, and for a loss: what is queued by now still goes out. */
static void leave(struct gateway *gateway)
{
    gateway->state = GATEWAY_LEAVING;
    loop_hook_defer(loop_of(gateway), &gateway->leaving);
}

static void lose(struct gateway *gateway, const char *why)
{
    error_set(&gateway->err, ERROR_CLOSED, "%s", why);
    leave(gateway);
}

void gateway_lose(struct gateway *gateway, const char *why)
{
    if (gateway->state == GATEWAY_UP)
        lose(gateway, why);
}

/* ---- the upgrade --------------------------------------------------------------------------------------- */

static int write_upgrade(struct gateway *gateway, struct writer *out)
{
    struct api_request request;
    struct sigv4_signature signature;
    char target_memory[2 * API_PATH_SIZE];
    struct writer target = writer_of(target_memory, sizeof target_memory);
    uint8_t random[WEBSOCKET_KEY_RANDOM_SIZE];
    int result = gateway->source->make_open(gateway, &request, &gateway->err);
    if (result == 0 && (gateway->source->must_sign == NULL || gateway->source->must_sign(gateway)))
        result = aws_client_sign(gateway->client, &request, &signature, ENDPOINT_SSMMESSAGES, &gateway->err);
    if (result < 0)
        return result;
    random_bytes(random, sizeof random);
    websocket_key(random, gateway->key);
    struct str query = gateway->session != NULL ? gateway->session->url.query : request.query;
    writer_format(&target, "%s%s%.*s", request.path, query.len > 0 ? "?" : "", STR_ARG(query));
    struct http_request http = http_request_begin(out, request.method, writer_view(&target), request.host);
    for (size_t i = 0; i < request.header_count; i++)
        http_request_header(&http, request.headers[i].name, request.headers[i].value);
    http_request_header_text(&http, "connection", "Upgrade");
    http_request_header_text(&http, "upgrade", "websocket");
    http_request_header_text(&http, "sec-websocket-version", "13");
    http_request_header_text(&http, "sec-websocket-key", gateway->key);
    return http_request_end(&http, (struct str){NULL, 0}, &gateway->err);
}

static int begin_upgrade(struct gateway *gateway)
{
    uint8_t memory[API_HTTP_REQUEST_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    gateway->upgrade = calloc(1, sizeof *gateway->upgrade);
    if (gateway->upgrade == NULL)
        return error_set(&gateway->err, ERROR_SYSTEM, "out of memory");
    http_response_init(&gateway->upgrade->response, HTTP_ORDINARY, gateway->upgrade->head,
                       sizeof gateway->upgrade->head, GATEWAY_BODY_SIZE);
    int result = write_upgrade(gateway, &out);
    if (result == 0 && stream_send(gateway->stream, out.start, out.len) < out.len)
        result = error_set(&gateway->err, ERROR_TOO_LARGE,
                           "the upgrade's request does not fit the stream's buffer");
    bytes_wipe(memory, sizeof memory);
    gateway->state = GATEWAY_UPGRADING;
    return result;
}

static void collect_body(struct upgrade *upgrade, struct str piece)
{
    size_t room = sizeof upgrade->body - upgrade->body_len;
    size_t n = piece.len < room ? piece.len : room;
    memcpy(upgrade->body + upgrade->body_len, piece.ptr, n);
    upgrade->body_len += n;
}

/* The answer is complete, or the connection ended in it. 0 when it is a proper 101. */
static int classify_upgrade(struct gateway *gateway)
{
    struct upgrade *upgrade = gateway->upgrade;
    const struct http_response *response = &upgrade->response;
    const char *action = open_action(gateway);
    if (response->status == 101) {
        if (websocket_accept_matches(gateway->key, http_response_header(response, "sec-websocket-accept")) &&
            http_response_lists(response, "upgrade", "websocket"))
            return 0;
        return error_set(&gateway->err, ERROR_INVALID, "%s: %s answered 101 but not for this websocket",
                         action, gateway->endpoint.host);
    }
    struct api_answer answer = {.status = response->status,
                                .error_type = http_response_header(response, "x-amzn-errortype"),
                                .date = http_response_header(response, "date"),
                                .body = {upgrade->body, upgrade->body_len}};
    struct api_failure failure;
    /* Expired keys or a clock that is off: the next token's call finds out the same and mends it. */
    enum api_class class =
        api_classify_by(gateway->source->lacks, &gateway->source->open, &answer, &failure, &gateway->err);
    /* Of a client's keys, "denied" is believed when they are fresh. */
    if (class == API_FAILED && gateway->err.code == ERROR_DENIED && gateway->session != NULL)
        class = API_REFRESH;
    if (class == API_REFRESH && gateway->err.code == ERROR_DENIED && gateway->refreshed)
        class = API_FAILED;
    if (class == API_REFRESH) {
        gateway->refreshed = true;
        credentials_source_discard(&gateway->client->credentials);
    }
    gateway->failure = reconnect_classify(class, gateway->err.code);
    return gateway->err.code;
}

/* 0: go on later; 1: upgraded; negative: refused. */
static int read_upgrade(struct gateway *gateway)
{
    struct http_event event;
    do {
        size_t len = 0;
        size_t used;
        const uint8_t *data = stream_recv_buf(gateway->stream, &len);
        int result = http_response_feed(&gateway->upgrade->response, data, data != NULL ? len : 0, &used,
                                        &event, &gateway->err);
        if (result < 0)
            return error_prefix(&gateway->err, "%s: ", open_action(gateway));
        if (event.type == HTTP_EVENT_BODY)
            collect_body(gateway->upgrade, event.body);
        if (used > 0)
            stream_recv_ack(gateway->stream, used);
        if (event.type == HTTP_EVENT_END) {
            result = classify_upgrade(gateway);
            return result == 0 ? 1 : result;
        }
    } while (event.type != HTTP_EVENT_NONE); /* an end may need no bytes */
    if (stream_state(gateway->stream) == STREAM_ENDED) {
        if (http_response_close(&gateway->upgrade->response, &gateway->err) == 0)
            return classify_upgrade(gateway);
        return error_prefix(&gateway->err, "%s: ", open_action(gateway));
    }
    return 0;
}

static void upgraded(struct gateway *gateway)
{
    free(gateway->upgrade);
    gateway->upgrade = NULL;
    loop_timer_remove(loop_of(gateway), &gateway->timer);
    gateway->state = GATEWAY_UP;
    gateway->was_up = true;
    gateway->refreshed = false;
    gateway->failure = RECONNECT_TRANSIENT;
    if (gateway->session != NULL)
        bytes_wipe(gateway->session->started.token, sizeof gateway->session->started.token);
    reconnect_up(&gateway->reconnect, now_of(gateway));
    struct str first_text = {gateway->first_text, gateway->first_text_len};
    gateway->up(gateway, first_text);
    forget_token(gateway);
}

/* What the stream's news mean for an attempt. Negative when it has failed. */
static int go_on_opening(struct gateway *gateway)
{
    int result = 0;
    if (stream_state(gateway->stream) == STREAM_FAILED) {
        gateway->err = *stream_error(gateway->stream);
        return error_prefix(&gateway->err, "%s: ", open_action(gateway));
    }
    if (gateway->state == GATEWAY_CONNECTING && stream_state(gateway->stream) != STREAM_OPENING)
        result = begin_upgrade(gateway);
    return result == 0 && gateway->state == GATEWAY_UPGRADING ? read_upgrade(gateway) : result;
}

static void stream_changed(struct stream *stream, void *owner)
{
    struct gateway *gateway = owner;
    if (gateway->state == GATEWAY_LEAVING)
        return;
    if (gateway->state != GATEWAY_UP) {
        int result = go_on_opening(gateway);
        if (result < 0)
            go_down(gateway);
        else if (result == 1)
            upgraded(gateway);
    } else if (stream_state(stream) == STREAM_FAILED) {
        gateway->err = *stream_error(stream);
        go_down(gateway);
    } else {
        gateway->changed(gateway);
    }
}

/* ---- an attempt ---------------------------------------------------------------------------------------- */

/* The end of a step that may take `most_ms`, and not longer than the whole may. */
static int64_t step_deadline_ms(const struct gateway *gateway, int64_t most_ms)
{
    int64_t step_ms = clock_after_ms(now_of(gateway), most_ms);
    int64_t whole_ms = reconnect_deadline(&gateway->reconnect);
    return step_ms < whole_ms ? step_ms : whole_ms;
}

/* There is a token. */
static int start_connecting(struct gateway *gateway)
{
    struct writer first = writer_of(gateway->first_text, SSMMESSAGES_OPEN_FRAME_SIZE);
    gateway->source->write_first(gateway, &first);
    gateway->first_text_len = first.len;
    struct stream_options options = {.host = gateway->endpoint.host,
                                     .port = gateway->endpoint.port,
                                     .tls = gateway->endpoint.tls,
                                     .use = gateway->source->use,
                                     .open_deadline_ms = step_deadline_ms(gateway, GATEWAY_OPEN_MS),
                                     /* without TLS, in tests and behind a sidecar: a record's worth or two */
                                     .plain_recv_bytes = 32 * 1024,
                                     .plain_send_bytes = 32 * 1024};
    gateway->state = GATEWAY_CONNECTING;
    loop_timer_set(loop_of(gateway), &gateway->timer, options.open_deadline_ms);
    return stream_open(&gateway->stream, gateway->client->network, &options, stream_changed, gateway,
                       &gateway->err);
}

static void token_done(struct aws_call *call)
{
    struct gateway *gateway = owner_of(call);
    if (call->class != API_OK) {
        gateway->err = call->err;
        gateway->failure = reconnect_classify(call->class, call->err.code);
        go_down(gateway);
    } else if (start_connecting(gateway) < 0) {
        go_down(gateway);
    }
}

/* Every token by the API. */
static int ask_for_token(struct gateway *gateway)
{
    aws_call_start(&gateway->call, step_deadline_ms(gateway, GATEWAY_TOKEN_MS));
    return 0;
}

static void start_attempt(struct gateway *gateway)
{
    gateway->err = (struct error) ERROR_INIT;
    gateway->failure = RECONNECT_TRANSIENT;
    gateway->was_up = false;
    gateway->state = GATEWAY_TOKEN;
    make_uuid_text(gateway->request_id);
    gateway->token = calloc(1, SSMMESSAGES_TOKEN_SIZE);
    gateway->first_text = calloc(1, SSMMESSAGES_OPEN_FRAME_SIZE);
    if (gateway->token == NULL || gateway->first_text == NULL) {
        error_set(&gateway->err, ERROR_SYSTEM, "out of memory");
        leave(gateway);
    } else if (gateway->source->begin(gateway) < 0) {
        leave(gateway);
    }
}

static void timer_expired(struct loop_timer *timer)
{
    struct gateway *gateway = LOOP_OWNER(timer, struct gateway, timer);
    switch (gateway->state) {
    case GATEWAY_WAITING:
        credentials_source_cancel(&gateway->client->credentials, &gateway->keys);
        if (now_of(gateway) >= gateway->retry_at_ms) {
            start_attempt(gateway);
        } else {
            gateway->keys.ready = keys_fetched;
            credentials_source_renew(&gateway->client->credentials, &gateway->keys);
            wait_until(gateway, gateway->retry_at_ms);
        }
        break;
    case GATEWAY_CONNECTING:
    case GATEWAY_UPGRADING:
        error_set(&gateway->err, ERROR_TIMEOUT, "%s: no websocket within %d s", open_action(gateway),
                  GATEWAY_OPEN_MS / 1000);
        go_down(gateway);
        break;
    case GATEWAY_CLOSED:
    case GATEWAY_TOKEN: /* the call has its own limit */
    case GATEWAY_UP:
    case GATEWAY_LEAVING:
        break;
    }
}

/* ---- the kinds ----------------------------------------------------------------------------------------- */

static const struct gateway_source control_source = {
    .token = {{ENDPOINT_SSMMESSAGES, "CreateControlChannel", 201}, true, make_create, read_create},
    .open = {ENDPOINT_SSMMESSAGES, "OpenControlChannel", 101},
    .lacks = API_BY_TASK,
    .channel = SSMMESSAGES_CONTROL,
    .begin = ask_for_token,
    .make_open = make_open,
    .write_body = write_control_body,
    .write_first = write_control_first,
    .policy = &RECONNECT_CONTROL,
    .use = DESCRIPTORS_FOR_CHANNELS};

static const struct gateway_source data_source = {
    .token = {{ENDPOINT_SSMMESSAGES, "CreateDataChannel", 201}, true, make_create, read_create},
    .open = {ENDPOINT_SSMMESSAGES, "OpenDataChannel", 101},
    .lacks = API_BY_TASK,
    .channel = SSMMESSAGES_DATA,
    .begin = ask_for_token,
    .make_open = make_open,
    .write_body = write_data_body,
    .write_first = write_data_first,
    .policy = &RECONNECT_DATA,
    .use = DESCRIPTORS_FOR_SESSIONS};

/* ---- a client's ---------------------------------------------------------------------------------------- */

static int make_resume(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                       struct error *err)
{
    struct gateway *gateway = owner_of(call);
    struct writer body = writer_of(gateway->body_memory, sizeof gateway->body_memory);
    ssm_write_session(&body, gateway->id);
    return api_request_json(request, endpoint, SSM_TARGET_RESUME_SESSION, writer_view(&body), err);
}

static enum api_class read_resume(struct aws_call *call, const struct api_answer *answer,
                                  struct api_failure *failure, struct error *err)
{
    bool is_over; /* the code says it, too */
    return ssm_read_resume_session(owner_of(call)->token, &is_over, answer, failure, err);
}

static void credentials_ready(struct credentials_waiter *waiter)
{
    struct gateway *gateway = LOOP_OWNER(waiter, struct gateway, keys);
    if (start_connecting(gateway) < 0)
        go_down(gateway);
}

/* The token that the session was started with, until it has served; then a new one. */
static int begin_client(struct gateway *gateway)
{
    struct gateway_session *session = gateway->session;
    gateway->endpoint = session->endpoint;
    if (str_copy(str_from(session->started.token), gateway->token, SSMMESSAGES_TOKEN_SIZE) &&
        gateway->token[0] != '\0') {
        bool needs_keys = session->signing != GATEWAY_UNSIGNED && !session->url.is_presigned;
        gateway->keys.ready = credentials_ready;
        if (needs_keys && !credentials_source_prepare(&gateway->client->credentials, &gateway->keys))
            return 0;
        return start_connecting(gateway);
    }
    if (!session->url.is_presigned)
        return ask_for_token(gateway);
    gateway->failure = RECONNECT_REFUSED;
    return error_set(&gateway->err, ERROR_UNSUPPORTED,
                     "the session began with a presigned URL, so it can't be resumed");
}

static int make_client_open(struct gateway *gateway, struct api_request *request, struct error *err)
{
    return stream_url_make_open(request, &gateway->endpoint, &gateway->session->url, err);
}

static bool must_sign_client(struct gateway *gateway)
{
    enum gateway_signing signing = gateway->session->signing;
    struct error err = ERROR_INIT;
    if (gateway->session->url.is_presigned || signing == GATEWAY_UNSIGNED)
        return false;
    if (signing == GATEWAY_SIGNED || credentials_source_get(&gateway->client->credentials, &err) != NULL)
        return true;
    log_event(LOG_WARN, "no credentials: the websocket's request is not signed", LOG_ERR(&err));
    return false;
}

static void write_client_first(struct gateway *gateway, struct writer *out)
{
    ssmmessages_write_open_data_as_client(out, str_from(gateway->request_id), str_from(gateway->token),
                                          str_from(gateway->client_id),
                                          STR_LITERAL(HANDSHAKE_CLIENT_VERSION));
}

static const struct gateway_source client_source = {
    .token = {SSM_RESUME_SESSION_CALL, true, make_resume, read_resume},
    .open = {ENDPOINT_SSMMESSAGES, "OpenDataChannel", 101},
    .lacks = API_BY_USER,
    .begin = begin_client,
    .make_open = make_client_open,
    .must_sign = must_sign_client,
    .write_first = write_client_first,
    .use = DESCRIPTORS_FOR_CHANNELS};

/* ---- the owner's side ---------------------------------------------------------------------------------- */

static void init(struct gateway *gateway, struct aws_client *client, const struct gateway_source *source,
                 struct str id)
{
    memset(gateway, 0, sizeof *gateway);
    gateway->client = client;
    gateway->source = source;
    gateway->id = id;
    gateway->call.client = client;
    gateway->call.operation = &gateway->source->token;
    gateway->call.done = token_done;
    gateway->call.use = gateway->source->use;
    make_uuid_text(gateway->client_id);
    loop_timer_init(&gateway->timer, timer_expired);
    loop_hook_init(&gateway->leaving, LOOP_FLUSH, leave_now);
}

void gateway_init(struct gateway *gateway, struct aws_client *client, enum gateway_kind kind, struct str id,
                  struct str target_id)
{
    static const struct gateway_source *const sources[] = {
        [GATEWAY_CONTROL] = &control_source, [GATEWAY_DATA] = &data_source};
    init(gateway, client, sources[kind], id);
    gateway->target_id = target_id;
}

int gateway_init_client(struct gateway *gateway, struct aws_client *client, struct gateway_session *session,
                        struct error *err)
{
    bool is_configured;
    init(gateway, client, &client_source, str_from(session->started.id));
    session->policy = RECONNECT_DATA;
    session->policy.give_up_ms = session->reconnect_ms;
    gateway->session = session;
    gateway->call.fixed_endpoint = session->ssm;
    int result = stream_url_parse(&session->url, str_from(session->started.stream_url), err);
    if (result == 0)
        result = endpoint_from_own_variable(&session->endpoint, &is_configured, ENDPOINT_SSMMESSAGES,
                                            client->env, err);
    if (result != 0 || is_configured)
        return result;
    session->endpoint = session->url.endpoint;
    return session->any_host ? 0 : stream_url_check(&session->url, str_from(client->region), err);
}

void gateway_open(struct gateway *gateway)
{
    if (gateway->state != GATEWAY_CLOSED)
        return;
    const struct reconnect_policy *policy = gateway->source->policy;
    reconnect_init(&gateway->reconnect, policy != NULL ? policy : &gateway->session->policy, now_of(gateway));
    start_attempt(gateway);
}

bool gateway_is_up(const struct gateway *gateway)
{
    return gateway->state == GATEWAY_UP;
}

const uint8_t *gateway_recv_buf(struct gateway *gateway, size_t *len)
{
    *len = 0;
    if (gateway->state != GATEWAY_UP)
        return NULL;
    const uint8_t *data = stream_recv_buf(gateway->stream, len);
    enum stream_state state = stream_state(gateway->stream);
    if (data == NULL && (state == STREAM_ENDED || state == STREAM_FAILED))
        lose(gateway, state == STREAM_FAILED ? stream_error(gateway->stream)->text
                                             : "the service closed the connection");
    return data;
}

void gateway_recv_ack(struct gateway *gateway, size_t len)
{
    if (gateway->state == GATEWAY_UP)
        stream_recv_ack(gateway->stream, len);
}

size_t gateway_send(struct gateway *gateway, const void *data, size_t len)
{
    return gateway->state == GATEWAY_UP ? stream_send(gateway->stream, data, len) : 0;
}

void gateway_acknowledged(struct gateway *gateway, uint64_t messages)
{
    reconnect_acknowledged(&gateway->reconnect, messages);
}
