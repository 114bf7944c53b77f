#include "cloud/gateway.h"

#include <stdlib.h>
#include <string.h>

#include "cloud/api_http.h"
#include "host/clock.h"
#include "host/loop.h"
#include "host/random.h"

/* What is needed between the stream's opening and the service's 101. */
struct upgrade {
    struct http_response response;
    char head[GATEWAY_HEAD_SIZE];
    char body[GATEWAY_BODY_SIZE];
    size_t body_len;
};

static const struct api_call open_calls[] = {
    [SSMMESSAGES_CONTROL] = {ENDPOINT_SSMMESSAGES, "OpenControlChannel", 101},
    [SSMMESSAGES_DATA] = {ENDPOINT_SSMMESSAGES, "OpenDataChannel", 101},
};

static struct loop *loop_of(const struct gateway *link)
{
    return link->client->network->loop;
}

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

void gateway_forget_token(struct gateway *link)
{
    free_secret(&link->token, SSMMESSAGES_TOKEN_SIZE);
    free_secret(&link->first_text, SSMMESSAGES_OPEN_FRAME_SIZE);
    link->first_text_len = 0;
}

void gateway_close(struct gateway *link)
{
    aws_call_cancel(&link->call);
    loop_timer_remove(loop_of(link), &link->deadline);
    loop_timer_remove(loop_of(link), &link->refused);
    gateway_forget_token(link);
    free(link->upgrade);
    link->upgrade = NULL;
    stream_close(link->stream);
    link->stream = NULL;
    link->state = GATEWAY_CLOSED;
}

static void go_down(struct gateway *link)
{
    struct error err = link->err;
    gateway_close(link);
    link->down(link, err.code, err.text);
}

static void refused_expired(struct loop_timer *timer)
{
    go_down(LOOP_OWNER(timer, struct gateway, refused));
}

/* For what fails inside a call of the owner's. */
static void go_down_soon(struct gateway *link)
{
    loop_timer_set(loop_of(link), &link->refused, loop_now_ms(loop_of(link)));
}

static void deadline_expired(struct loop_timer *timer)
{
    struct gateway *link = LOOP_OWNER(timer, struct gateway, deadline);
    error_set(&link->err, ERROR_TIMEOUT, "%s: no websocket within %d s", open_calls[link->channel].action,
              GATEWAY_OPEN_MS / 1000);
    go_down(link);
}

/* ---- the upgrade --------------------------------------------------------------------------------------- */

static int write_upgrade(struct gateway *link, struct writer *out)
{
    struct api_request request;
    struct sigv4_signature signature;
    char target_memory[2 * API_PATH_SIZE];
    struct writer target = writer_of(target_memory, sizeof target_memory);
    uint8_t random[WEBSOCKET_KEY_RANDOM_SIZE];
    int result = ssmmessages_make_open(&request, &link->endpoint, link->channel, link->id, &link->err);
    if (result == 0)
        result = aws_client_sign(link->client, &request, &signature, ENDPOINT_SSMMESSAGES, &link->err);
    if (result < 0)
        return result;
    random_bytes(random, sizeof random);
    websocket_key(random, link->key);
    writer_format(&target, "%s?%.*s", request.path, STR_ARG(request.query));
    struct http_request http = http_request_begin(out, request.method, writer_view(&target), request.host);
    for (size_t i = 0; i < request.header_count; i++)
        http_request_header(&http, request.headers[i].name, request.headers[i].value);
    http_request_header_text(&http, "connection", "Upgrade");
    http_request_header_text(&http, "upgrade", "websocket");
    http_request_header_text(&http, "sec-websocket-version", "13");
    http_request_header_text(&http, "sec-websocket-key", link->key);
    return http_request_end(&http, (struct str){NULL, 0}, &link->err);
}

static int begin_upgrade(struct gateway *link)
{
    uint8_t memory[API_HTTP_REQUEST_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    link->upgrade = calloc(1, sizeof *link->upgrade);
    if (link->upgrade == NULL)
        return error_set(&link->err, ERROR_SYSTEM, "out of memory");
    http_response_init(&link->upgrade->response, HTTP_ORDINARY, link->upgrade->head,
                       sizeof link->upgrade->head, GATEWAY_BODY_SIZE);
    int result = write_upgrade(link, &out);
    if (result == 0 && stream_send(link->stream, out.start, out.len) < out.len)
        result =
            error_set(&link->err, ERROR_TOO_LARGE, "the upgrade's request does not fit the stream's buffer");
    bytes_wipe(memory, sizeof memory);
    link->state = GATEWAY_UPGRADING;
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
static int classify_upgrade(struct gateway *link)
{
    struct upgrade *upgrade = link->upgrade;
    const struct http_response *response = &upgrade->response;
    const char *action = open_calls[link->channel].action;
    if (response->status == 101) {
        if (websocket_accept_matches(link->key, http_response_header(response, "sec-websocket-accept")) &&
            http_response_lists(response, "upgrade", "websocket"))
            return 0;
        return error_set(&link->err, ERROR_INVALID, "%s: %s answered 101 but not for this websocket", action,
                         link->endpoint.host);
    }
    struct api_answer answer = {.status = response->status,
                                .error_type = http_response_header(response, "x-amzn-errortype"),
                                .date = http_response_header(response, "date"),
                                .body = {upgrade->body, upgrade->body_len}};
    struct api_failure failure;
    enum api_class class = api_classify(&open_calls[link->channel], &answer, &failure, &link->err);
    /* The keys may have been taken back, or the clock found wrong: the next token's call
     * finds out the same and mends it. */
    return class == API_OK
               ? error_set(&link->err, ERROR_INVALID, "%s: unexpected answer %d", action, response->status)
               : link->err.code;
}

/* 0: go on later; 1: upgraded; negative: refused. */
static int read_upgrade(struct gateway *link)
{
    struct http_event event;
    do {
        size_t len = 0;
        size_t used;
        const uint8_t *data = stream_recv_buf(link->stream, &len);
        int result = http_response_feed(&link->upgrade->response, data, data != NULL ? len : 0, &used, &event,
                                        &link->err);
        if (result < 0)
            return error_prefix(&link->err, "%s: ", open_calls[link->channel].action);
        if (event.type == HTTP_EVENT_BODY)
            collect_body(link->upgrade, event.body);
        if (used > 0)
            stream_recv_ack(link->stream, used);
        if (event.type == HTTP_EVENT_END) {
            result = classify_upgrade(link);
            return result == 0 ? 1 : result;
        }
    } while (event.type != HTTP_EVENT_NONE); /* an end may need no bytes */
    if (stream_state(link->stream) == STREAM_ENDED) {
        if (http_response_close(&link->upgrade->response, &link->err) == 0)
            return classify_upgrade(link);
        return error_prefix(&link->err, "%s: ", open_calls[link->channel].action);
    }
    return 0;
}

static void stream_changed(struct stream *stream, void *owner)
{
    struct gateway *link = owner;
    if (link->state == GATEWAY_UP) {
        link->changed(link);
        return;
    }
    int result = 0;
    if (stream_state(stream) == STREAM_FAILED) {
        link->err = *stream_error(stream);
        result = error_prefix(&link->err, "%s: ", open_calls[link->channel].action);
    } else if (link->state == GATEWAY_CONNECTING && stream_state(stream) != STREAM_OPENING) {
        result = begin_upgrade(link);
    }
    if (result == 0 && link->state == GATEWAY_UPGRADING)
        result = read_upgrade(link);
    if (result < 0) {
        go_down(link);
    } else if (result == 1) {
        free(link->upgrade);
        link->upgrade = NULL;
        loop_timer_remove(loop_of(link), &link->deadline);
        link->state = GATEWAY_UP;
        link->up(link);
    }
}

/* ---- the token ----------------------------------------------------------------------------------------- */

static struct gateway *owner_of(struct aws_call *call)
{
    return LOOP_OWNER(call, struct gateway, call);
}

static int make_create(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                       struct error *err)
{
    struct gateway *link = owner_of(call);
    struct writer body = writer_of(link->body_memory, sizeof link->body_memory);
    if (link->channel == SSMMESSAGES_CONTROL)
        ssmmessages_write_create_control(&body, str_from(link->request_id));
    else
        ssmmessages_write_create_data(&body, str_from(link->request_id), str_from(link->client_id));
    link->body = writer_view(&body);
    link->endpoint = *endpoint;
    return ssmmessages_make_create(request, &link->endpoint, link->channel, link->id, link->body, err);
}

static enum api_class read_create(struct aws_call *call, const struct api_answer *answer,
                                  struct api_failure *failure, struct error *err)
{
    struct gateway *link = owner_of(call);
    return ssmmessages_read_create(link->token, link->channel, answer, failure, err);
}

static const struct aws_operation create_operations[] = {
    [SSMMESSAGES_CONTROL] = {{ENDPOINT_SSMMESSAGES, "CreateControlChannel", 201},
                             true,
                             make_create,
                             read_create},
    [SSMMESSAGES_DATA] = {{ENDPOINT_SSMMESSAGES, "CreateDataChannel", 201}, true, make_create, read_create},
};

static void write_first_text(struct gateway *link)
{
    struct writer out = writer_of(link->first_text, SSMMESSAGES_OPEN_FRAME_SIZE);
    if (link->channel == SSMMESSAGES_CONTROL)
        ssmmessages_write_open_control(&out, str_from(link->request_id), str_from(link->token));
    else
        ssmmessages_write_open_data(&out, str_from(link->request_id), str_from(link->token), link->target_id,
                                    str_from(link->client_id));
    link->first_text_len = out.len;
}

static void token_done(struct aws_call *call)
{
    struct gateway *link = owner_of(call);
    if (call->class != API_OK) {
        link->err = call->err;
        if (call->class == API_FAILED && error_may_pass(&link->err))
            link->err.code = ERROR_DENIED;
        go_down(link);
        return;
    }
    write_first_text(link);
    struct stream_options options = {
        .host = link->endpoint.host,
        .port = link->endpoint.port,
        .tls = link->endpoint.tls,
        .open_deadline_ms = clock_after_ms(loop_now_ms(loop_of(link)), GATEWAY_OPEN_MS),
        .plain_recv_bytes =
            32 * 1024, /* without TLS, in tests and behind a sidecar: as large as a record's worth or two */
        .plain_send_bytes = 32 * 1024};
    link->state = GATEWAY_CONNECTING;
    loop_timer_set(loop_of(link), &link->deadline, options.open_deadline_ms);
    if (stream_open(&link->stream, link->client->network, &options, stream_changed, link, &link->err) < 0)
        go_down(link);
}

void gateway_init(struct gateway *link, struct aws_client *client, enum ssmmessages_channel channel,
                  struct str id, struct str target_id)
{
    memset(link, 0, sizeof *link);
    link->client = client;
    link->channel = channel;
    link->id = id;
    link->target_id = target_id;
    link->call.client = client;
    link->call.operation = &create_operations[channel];
    link->call.done = token_done;
    make_uuid_text(link->client_id);
    loop_timer_init(&link->deadline, deadline_expired);
    loop_timer_init(&link->refused, refused_expired);
}

void gateway_open(struct gateway *link)
{
    link->err = (struct error) ERROR_INIT;
    link->state = GATEWAY_TOKEN;
    make_uuid_text(link->request_id);
    link->token = calloc(1, SSMMESSAGES_TOKEN_SIZE);
    link->first_text = calloc(1, SSMMESSAGES_OPEN_FRAME_SIZE);
    if (link->token == NULL || link->first_text == NULL) {
        error_set(&link->err, ERROR_SYSTEM, "out of memory");
        go_down_soon(link);
        return;
    }
    aws_call_start(&link->call, clock_after_ms(loop_now_ms(loop_of(link)), GATEWAY_TOKEN_MS));
}
