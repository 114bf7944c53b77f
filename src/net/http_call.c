#include "net/http_call.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/time.h"
#include "host/loop.h"
#include "net/stream.h"
#include "wire/http.h"

enum { BODY_START_BYTES = 2048 /* most answers fit; what is longer doubles it */ };

struct http_call {
    struct network *network;
    struct stream *stream; /* while it runs */
    struct loop_timer deadline;
    int64_t started_ms;
    void (*done)(struct http_call *call, void *owner);
    void *owner;
    struct http_response answer;
    bool has_head;
    bool is_over;
    struct error err;
    char *request; /* wiped once it is sent */
    size_t request_len;
    size_t request_sent;
    char *body;
    size_t body_len;
    size_t body_capacity;
    size_t body_max;
    uint16_t port;
    char host[STREAM_HOST_SIZE];
    char head[HTTP_HEAD_MAX];
};

static void wipe_and_free(char **memory, size_t len)
{
    if (*memory != NULL) {
        bytes_wipe(*memory, len);
        free(*memory);
    }
    *memory = NULL;
}

/* The last thing a callback does: the owner may close us. */
static void finish(struct http_call *call)
{
    call->is_over = true;
    loop_timer_remove(call->network->loop, &call->deadline);
    stream_close(call->stream);
    call->stream = NULL;
    wipe_and_free(&call->request, call->request_len);
    call->done(call, call->owner);
}

static void deadline_passed(struct loop_timer *timer)
{
    struct http_call *call = LOOP_OWNER(timer, struct http_call, deadline);
    char text[32];
    struct writer w = writer_of(text, sizeof text);
    writer_duration_ms(&w, loop_now_ms(call->network->loop) - call->started_ms);
    error_set(&call->err, ERROR_TIMEOUT, "%s:%u: no complete answer within %s", call->host, call->port,
              writer_terminate(&w));
    finish(call);
}

/* --- the answer ----------------------------------------------------------------------------------------- */

static int make_room(struct http_call *call, size_t more)
{
    size_t wanted = call->body_len + more;
    if (wanted <= call->body_capacity)
        return 0;
    size_t capacity = call->body_capacity > 0 ? call->body_capacity : BODY_START_BYTES;
    while (capacity < wanted)
        capacity *= 2;
    char *body = malloc(capacity);
    if (body == NULL)
        return error_set(&call->err, ERROR_SYSTEM, "out of memory");
    if (call->body_len > 0)
        memcpy(body, call->body, call->body_len);
    wipe_and_free(&call->body, call->body_capacity);
    call->body = body;
    call->body_capacity = capacity;
    return 0;
}

static int take_event(struct http_call *call, const struct http_event *event)
{
    if (event->type == HTTP_EVENT_HEAD)
        call->has_head = true;
    if (event->type != HTTP_EVENT_BODY)
        return 0;
    int result = make_room(call, event->body.len); /* http_response has checked it against body_max */
    if (result == 0) {
        memcpy(call->body + call->body_len, event->body.ptr, event->body.len);
        call->body_len += event->body.len;
    }
    return result;
}

/* Parses what has come. True when the call is over, one way or the other. */
static bool parse(struct http_call *call, const uint8_t *bytes, size_t len)
{
    struct http_event event = {.type = HTTP_EVENT_HEAD};
    size_t at = 0;
    while (event.type != HTTP_EVENT_NONE && event.type != HTTP_EVENT_END) {
        size_t used = 0;
        int result = http_response_feed(&call->answer, bytes + at, len - at, &used, &event, &call->err);
        if (result == 0)
            result = take_event(call, &event);
        if (result != 0) {
            error_prefix(&call->err, "answer of %s:%u: ", call->host, call->port);
            return true;
        }
        at += used;
    }
    return event.type == HTTP_EVENT_END;
}

static bool read_answer(struct http_call *call)
{
    const uint8_t *bytes;
    size_t len;
    while ((bytes = stream_recv_buf(call->stream, &len)) != NULL) {
        if (parse(call, bytes, len))
            return true;
        stream_recv_ack(call->stream, len);
    }
    return false;
}

/* The peer has closed: the end of a body without a length, or a break. */
static void answer_was_closed(struct http_call *call)
{
    int result = stream_ended_cleanly(call->stream)
                     ? http_response_close(&call->answer, &call->err)
                     : error_set(&call->err, ERROR_CLOSED, "the connection ended in the middle of it");
    if (result != 0)
        error_prefix(&call->err, "answer of %s:%u: ", call->host, call->port);
}

/* --- the call ------------------------------------------------------------------------------------------- */

static void stream_changed(struct stream *stream, void *owner)
{
    struct http_call *call = owner;
    call->request_sent +=
        stream_send(stream, call->request + call->request_sent, call->request_len - call->request_sent);
    if (read_answer(call)) {
        finish(call);
        return;
    }
    switch (stream_state(stream)) {
    case STREAM_FAILED:
        call->err = *stream_error(stream);
        finish(call);
        break;
    case STREAM_ENDED:
        answer_was_closed(call);
        finish(call);
        break;
    case STREAM_OPENING:
    case STREAM_OPEN:
        break;
    }
}

static int check(const struct http_call_request *request, struct error *err)
{
    if (request->bytes.len == 0 || request->bytes.len > HTTP_CALL_REQUEST_MAX) {
        return error_set(err, ERROR_TOO_LARGE, "%s:%u: a request has 1 to %d bytes", request->host,
                         request->port, HTTP_CALL_REQUEST_MAX);
    }
    return 0;
}

static int start(struct http_call *call, const struct http_call_request *request, struct error *err)
{
    call->request = malloc(request->bytes.len);
    if (call->request == NULL)
        return error_set(err, ERROR_SYSTEM, "%s:%u: out of memory", request->host, request->port);
    memcpy(call->request, request->bytes.ptr, request->bytes.len);
    call->request_len = request->bytes.len;
    struct stream_options options = {
        .host = request->host,
        .port = request->port,
        .tls = request->tls,
        .open_deadline_ms = request->deadline_ms,
        .use = request->use,
    };
    int result = stream_open(&call->stream, call->network, &options, stream_changed, call, err);
    if (result == 0) {
        str_copy(str_from(request->host), call->host, sizeof call->host);
        loop_timer_set(call->network->loop, &call->deadline, request->deadline_ms);
    }
    return result;
}

int http_call_start(struct http_call **call, struct network *network, const struct http_call_request *request,
                    void (*done)(struct http_call *call, void *owner), void *owner, struct error *err)
{
    *call = NULL;
    int result = check(request, err);
    if (result != 0)
        return result;
    struct http_call *made = calloc(1, sizeof *made);
    if (made == NULL)
        return error_set(err, ERROR_SYSTEM, "%s:%u: out of memory", request->host, request->port);
    made->network = network;
    made->done = done;
    made->owner = owner;
    made->port = request->port;
    made->started_ms = loop_now_ms(network->loop);
    bool wants_default = request->body_max == 0 || request->body_max > HTTP_CALL_BODY_MAX;
    made->body_max = wants_default ? HTTP_CALL_BODY_MAX : request->body_max;
    loop_timer_init(&made->deadline, deadline_passed);
    http_response_init(&made->answer, HTTP_ORDINARY, made->head, sizeof made->head, made->body_max);
    result = start(made, request, err);
    if (result != 0) {
        http_call_close(made);
        return result;
    }
    *call = made;
    return 0;
}

int http_call_result(const struct http_call *call, struct error *err)
{
    if (err != NULL)
        *err = call->err;
    return call->err.code;
}

int http_call_status(const struct http_call *call)
{
    return call->has_head ? call->answer.status : 0;
}

struct str http_call_header(const struct http_call *call, const char *name)
{
    return call->has_head ? http_response_header(&call->answer, name) : (struct str){NULL, 0};
}

struct str http_call_body(const struct http_call *call)
{
    return (struct str){call->body, call->body_len};
}

void http_call_close(struct http_call *call)
{
    if (call == NULL)
        return;
    loop_timer_remove(call->network->loop, &call->deadline);
    stream_close(call->stream);
    wipe_and_free(&call->request, call->request_len);
    wipe_and_free(&call->body, call->body_capacity);
    bytes_wipe(call, sizeof *call);
    free(call);
}
