#include "net/stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/time.h"
#include "host/loop.h"
#include "net/tcp.h"
#include "net/tls.h"
#include "wire/http.h"
#include "wire/proxy.h"

enum { PLAIN_BUFFER_DEFAULT = 4096, RAW_BUFFER_SIZE = 16 * 1024, CONNECT_REQUEST_MAX = 2048 };

enum phase { PHASE_DIALLING, PHASE_CONNECT, PHASE_HANDSHAKE, PHASE_OPEN };

/* What is between start and end waits to be taken. */
struct span_buffer {
    uint8_t *memory;
    size_t capacity;
    size_t start;
    size_t end;
};

/* The exchange with a proxy; only while it lasts. */
struct connect_exchange {
    struct http_response answer;
    size_t request_len;
    size_t request_sent;
    char request[CONNECT_REQUEST_MAX]; /* may hold a password */
    char head[STREAM_CONNECT_ANSWER_MAX];
};

struct stream {
    struct network *network;
    enum stream_state state;
    enum phase phase;
    struct tcp tcp;
    struct loop_timer step_timer;
    struct loop_hook notify;
    struct loop_hook flush;
    struct list in_handshakes;
    void (*changed)(struct stream *stream, void *owner);
    void *owner;
    int64_t open_deadline_ms;
    int64_t step_began_ms;
    uint16_t port;
    bool wants_tls;
    bool uses_proxy;
    bool wants_room; /* the owner was refused room and is told when there is some */
    bool ended_cleanly;
    struct connect_exchange *connect;
    struct tls *tls;
    struct span_buffer raw; /* with TLS: records as they came, so that many small ones cost one system call */
    struct span_buffer recv; /* without TLS */
    struct span_buffer send;
    struct error err;
    char host[STREAM_HOST_SIZE];
};

/* --- buffers -------------------------------------------------------------------------------------------- */

static bool buffer_open(struct span_buffer *buffer, size_t capacity)
{
    buffer->memory = malloc(capacity);
    buffer->capacity = capacity;
    return buffer->memory != NULL;
}

static void buffer_close(struct span_buffer *buffer)
{
    if (buffer->memory != NULL) {
        bytes_wipe(buffer->memory, buffer->capacity);
        free(buffer->memory);
    }
    *buffer = (struct span_buffer){0};
}

static size_t buffer_len(const struct span_buffer *buffer)
{
    return buffer->end - buffer->start;
}

static void buffer_take(struct span_buffer *buffer, size_t len)
{
    buffer->start += len;
    if (buffer->start == buffer->end) {
        buffer->start = 0;
        buffer->end = 0;
    }
}

/* Room behind the end, after moving what is left to the front when there is none. */
static uint8_t *buffer_room(struct span_buffer *buffer, size_t *len)
{
    if (buffer->end == buffer->capacity && buffer->start > 0) {
        memmove(buffer->memory, buffer->memory + buffer->start, buffer_len(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    *len = buffer->capacity - buffer->end;
    return *len > 0 ? buffer->memory + buffer->end : NULL;
}

/* False when the socket gave nothing. */
static bool buffer_fill(struct span_buffer *buffer, struct tcp *tcp)
{
    size_t room;
    uint8_t *at = buffer_room(buffer, &room);
    size_t got = at != NULL ? tcp_read(tcp, at, room) : 0;
    buffer->end += got;
    return got > 0;
}

/* --- the end -------------------------------------------------------------------------------------------- */

static void tell_owner(struct stream *stream)
{
    loop_hook_queue(stream->network->loop, &stream->notify);
}

/* Takes the reason from stream->err and puts in front what was being done. */
static void fail(struct stream *stream)
{
    static const char *const doing[] = {
        [PHASE_DIALLING] = "",
        [PHASE_CONNECT] = "CONNECT through the proxy to ",
        [PHASE_HANDSHAKE] = "TLS with ",
        [PHASE_OPEN] = "connection with ",
    };
    if (stream->phase != PHASE_DIALLING) /* dialling names itself */
        error_prefix(&stream->err, "%s%s:%u: ", doing[stream->phase], stream->host, stream->port);
    else if (stream->uses_proxy)
        error_prefix(&stream->err, "proxy for %s:%u: ", stream->host, stream->port);
    stream->state = STREAM_FAILED;
    loop_timer_remove(stream->network->loop, &stream->step_timer);
    tcp_close(&stream->tcp);
    tell_owner(stream);
}

static void end(struct stream *stream, bool cleanly)
{
    stream->state = STREAM_ENDED;
    stream->ended_cleanly = cleanly;
    tell_owner(stream);
}

/* The socket gave no bytes: is that the end of them? */
static void look_for_end(struct stream *stream)
{
    if (stream->tcp.state == TCP_STATE_FAILED) {
        tcp_error(&stream->tcp, &stream->err);
        fail(stream);
    } else if (stream->tcp.read_ended && stream->phase != PHASE_OPEN) {
        error_set(&stream->err, ERROR_CLOSED, "the peer closed the connection");
        fail(stream);
    } else if (stream->tcp.read_ended) {
        end(stream, stream->tls == NULL); /* TLS sends close_notify before */
    }
}

static bool is_alive(const struct stream *stream)
{
    return stream->state == STREAM_OPENING || stream->state == STREAM_OPEN;
}

/* --- moving bytes: without TLS -------------------------------------------------------------------------- */

static void push_plain(struct stream *stream)
{
    size_t len = buffer_len(&stream->send);
    if (len > 0)
        buffer_take(&stream->send, tcp_write(&stream->tcp, stream->send.memory + stream->send.start, len));
}

static void pull_plain(struct stream *stream)
{
    if (stream->state == STREAM_OPEN && !buffer_fill(&stream->recv, &stream->tcp))
        look_for_end(stream);
}

/* --- moving bytes: with TLS ----------------------------------------------------------------------------- */

static bool write_record(struct stream *stream, br_ssl_engine_context *engine)
{
    size_t len;
    const unsigned char *record = br_ssl_engine_sendrec_buf(engine, &len);
    size_t written = record != NULL ? tcp_write(&stream->tcp, record, len) : 0;
    if (written > 0)
        br_ssl_engine_sendrec_ack(engine, written);
    return written > 0;
}

static bool read_record(struct stream *stream, br_ssl_engine_context *engine)
{
    size_t room;
    unsigned char *at = br_ssl_engine_recvrec_buf(engine, &room);
    if (buffer_len(&stream->raw) == 0 && !buffer_fill(&stream->raw, &stream->tcp)) {
        look_for_end(stream);
        return false;
    }
    size_t len = buffer_len(&stream->raw) < room ? buffer_len(&stream->raw) : room;
    memcpy(at, stream->raw.memory + stream->raw.start, len);
    buffer_take(&stream->raw, len);
    br_ssl_engine_recvrec_ack(engine, len);
    return true;
}

static void engine_closed(struct stream *stream)
{
    if (tls_explain(stream->tls, &stream->err) != 0) {
        fail(stream);
    } else if (stream->phase != PHASE_OPEN) {
        error_set(&stream->err, ERROR_CLOSED, "the peer closed the connection");
        fail(stream);
    } else {
        end(stream, true);
    }
}

/* Moves records both ways until the socket or the owner has to act. The peer's records are read also while
 * our own wait for room, or two ends that both send would wait for each other. */
static void pump_tls(struct stream *stream)
{
    br_ssl_engine_context *engine = tls_engine(stream->tls);
    while (is_alive(stream)) {
        unsigned engine_state = br_ssl_engine_current_state(engine);
        if ((engine_state & BR_SSL_CLOSED) != 0) {
            engine_closed(stream);
            return;
        }
        bool moved = (engine_state & BR_SSL_SENDREC) != 0 && write_record(stream, engine);
        moved = moved || ((engine_state & BR_SSL_RECVREC) != 0 && read_record(stream, engine));
        if (!moved)
            return;
    }
}

/* --- the open stream ------------------------------------------------------------------------------------ */

/* Sends what the owner has given. */
static void push(struct stream *stream)
{
    if (stream->tls == NULL) {
        push_plain(stream);
        return;
    }
    br_ssl_engine_flush(tls_engine(stream->tls), 0);
    pump_tls(stream);
}

static bool has_room(struct stream *stream)
{
    size_t len;
    return stream->tls != NULL ? br_ssl_engine_sendapp_buf(tls_engine(stream->tls), &len) != NULL
                               : buffer_room(&stream->send, &len) != NULL;
}

static bool has_bytes(struct stream *stream)
{
    size_t len;
    return stream->tls != NULL ? br_ssl_engine_recvapp_buf(tls_engine(stream->tls), &len) != NULL
                               : buffer_len(&stream->recv) > 0;
}

static void tell_about_room(struct stream *stream)
{
    if (stream->wants_room && stream->state == STREAM_OPEN && has_room(stream)) {
        stream->wants_room = false;
        tell_owner(stream);
    }
}

static void run_open(struct stream *stream)
{
    if (stream->tls != NULL) {
        pump_tls(stream); /* without a flush: what the owner has begun leaves at the end of the turn */
    } else {
        pull_plain(stream);
        push_plain(stream);
    }
    tell_about_room(stream);
    if (has_bytes(stream))
        tell_owner(stream);
}

static void flush_at_end_of_turn(struct loop_hook *hook)
{
    struct stream *stream = LOOP_OWNER(hook, struct stream, flush);
    if (stream->state != STREAM_OPEN)
        return;
    push(stream);
    tell_about_room(stream);
    /* Sending reads, too: the owner has to hear of what came in. And a connection that broke while sending
     * has no further event to say that its last bytes and its end are still unread. */
    if (stream->state == STREAM_OPEN && (has_bytes(stream) || stream->tcp.hung_up))
        tell_owner(stream);
}

static void notify_owner(struct loop_hook *hook)
{
    struct stream *stream = LOOP_OWNER(hook, struct stream, notify);
    stream->changed(stream, stream->owner);
}

/* --- opening -------------------------------------------------------------------------------------------- */

static int64_t begin_step(struct stream *stream, enum phase phase)
{
    stream->phase = phase;
    stream->step_began_ms = loop_now_ms(stream->network->loop);
    int64_t due_ms = stream->step_began_ms + STREAM_STEP_MS;
    due_ms = due_ms < stream->open_deadline_ms ? due_ms : stream->open_deadline_ms;
    loop_timer_set(stream->network->loop, &stream->step_timer, due_ms);
    return due_ms;
}

static void step_took_too_long(struct loop_timer *timer)
{
    struct stream *stream = LOOP_OWNER(timer, struct stream, step_timer);
    char text[32];
    struct writer w = writer_of(text, sizeof text);
    writer_duration_ms(&w, loop_now_ms(stream->network->loop) - stream->step_began_ms);
    error_set(&stream->err, ERROR_TIMEOUT, "no answer within %s", writer_terminate(&w));
    fail(stream);
}

static void have_opened(struct stream *stream)
{
    stream->phase = PHASE_OPEN;
    stream->state = STREAM_OPEN;
    loop_timer_remove(stream->network->loop, &stream->step_timer);
    tell_owner(stream);
    run_open(stream);
}

void stream_run_handshake(struct loop_hook *hook)
{
    struct network *network = LOOP_OWNER(hook, struct network, handshake_hook);
    struct list *node = list_take(&network->handshakes);
    if (node == NULL)
        return;
    if (!list_is_empty(&network->handshakes))
        loop_hook_defer(network->loop, hook);
    struct stream *stream = LIST_OWNER(node, struct stream, in_handshakes);
    if (!is_alive(stream))
        return;
    pump_tls(stream);
    if (is_alive(stream) && (br_ssl_engine_current_state(tls_engine(stream->tls)) & BR_SSL_SENDAPP) != 0)
        have_opened(stream);
}

static void queue_handshake(struct stream *stream)
{
    if (!list_is_linked(&stream->in_handshakes))
        list_append(&stream->network->handshakes, &stream->in_handshakes);
    loop_hook_queue(stream->network->loop, &stream->network->handshake_hook);
}

/* The connection reaches the host itself now. */
static void connected_to_host(struct stream *stream)
{
    if (!stream->wants_tls) {
        have_opened(stream);
        return;
    }
    begin_step(stream, PHASE_HANDSHAKE);
    if (!buffer_open(&stream->raw, RAW_BUFFER_SIZE)) {
        error_set(&stream->err, ERROR_SYSTEM, "out of memory");
        fail(stream);
    } else if (tls_open(&stream->tls, &stream->network->trust, stream->host, &stream->err) != 0) {
        fail(stream);
    } else {
        queue_handshake(stream);
    }
}

static void close_exchange(struct stream *stream)
{
    if (stream->connect != NULL) {
        bytes_wipe(stream->connect, sizeof *stream->connect);
        free(stream->connect);
    }
    stream->connect = NULL;
}

static void connect_answered(struct stream *stream, size_t bytes_left)
{
    int status = stream->connect->answer.status;
    if (status < 200 || status > 299) {
        error_set(&stream->err, status == 407 ? ERROR_DENIED : ERROR_UNAVAILABLE, "the proxy answered %d%s",
                  status, status == 407 ? ": HTTPS_PROXY needs a valid user and password" : "");
        fail(stream);
    } else if (bytes_left > 0) {
        error_set(&stream->err, ERROR_INVALID, "the proxy sent bytes before the host could");
        fail(stream);
    } else {
        close_exchange(stream);
        connected_to_host(stream);
    }
}

static void read_connect_answer(struct stream *stream)
{
    uint8_t bytes[512];
    size_t len;
    while ((len = tcp_read(&stream->tcp, bytes, sizeof bytes)) > 0) {
        size_t at = 0;
        struct http_event event = {.type = HTTP_EVENT_BODY};
        while (event.type != HTTP_EVENT_NONE) {
            size_t used;
            if (http_response_feed(&stream->connect->answer, bytes + at, len - at, &used, &event,
                                   &stream->err) != 0) {
                fail(stream);
                return;
            }
            at += used;
            /* The body of a refusal is of no interest, and not waited for. */
            bool refused = event.type == HTTP_EVENT_HEAD && stream->connect->answer.status > 299;
            if (event.type == HTTP_EVENT_END || refused) {
                connect_answered(stream, len - at);
                return;
            }
        }
    }
    look_for_end(stream);
}

static void run_connect(struct stream *stream)
{
    struct connect_exchange *exchange = stream->connect;
    if (exchange->request_sent < exchange->request_len) {
        exchange->request_sent += tcp_write(&stream->tcp, exchange->request + exchange->request_sent,
                                            exchange->request_len - exchange->request_sent);
    }
    read_connect_answer(stream);
}

static void connected_to_proxy(struct stream *stream)
{
    begin_step(stream, PHASE_CONNECT);
    struct connect_exchange *exchange = malloc(sizeof *exchange);
    stream->connect = exchange;
    if (exchange == NULL) {
        error_set(&stream->err, ERROR_SYSTEM, "out of memory");
        fail(stream);
        return;
    }
    struct writer w = writer_of(exchange->request, sizeof exchange->request);
    if (proxy_write_connect(&stream->network->proxy, str_from(stream->host), stream->port, &w,
                            &stream->err) != 0) {
        fail(stream);
        return;
    }
    exchange->request_len = w.len;
    exchange->request_sent = 0;
    /* A refusal may have a body of any size: it is not read. */
    http_response_init(&exchange->answer, HTTP_TO_CONNECT, exchange->head, sizeof exchange->head, UINT64_MAX);
    run_connect(stream);
}

static void run_dialling(struct stream *stream)
{
    if (stream->tcp.state == TCP_STATE_FAILED) {
        tcp_error(&stream->tcp, &stream->err);
        fail(stream);
    } else if (stream->uses_proxy) {
        connected_to_proxy(stream);
    } else {
        connected_to_host(stream);
    }
}

static void socket_changed(struct tcp *tcp)
{
    struct stream *stream = LOOP_OWNER(tcp, struct stream, tcp);
    switch (stream->phase) {
    case PHASE_DIALLING:
        run_dialling(stream);
        break;
    case PHASE_CONNECT:
        run_connect(stream);
        break;
    case PHASE_HANDSHAKE:
        queue_handshake(stream);
        break;
    case PHASE_OPEN:
        if (stream->state == STREAM_OPEN)
            run_open(stream);
        break;
    }
}

static int start_dialling(struct stream *stream, const struct stream_options *options, struct error *err)
{
    const struct proxy *proxy = &stream->network->proxy;
    const struct error *proxy_err = &stream->network->proxy_err;
    stream->uses_proxy = options->tls && proxy_applies(proxy, str_from(stream->host), stream->port);
    if (stream->uses_proxy && proxy_err->code != ERROR_NONE)
        return error_set(err, proxy_err->code, "%s", proxy_err->text);
    struct dial_request request = {
        .host = stream->uses_proxy ? proxy->host : stream->host,
        .port = stream->uses_proxy ? proxy->port : stream->port,
        .deadline_ms = begin_step(stream, PHASE_DIALLING),
        .permit = options->permit,
        .context = options->context,
        .use = options->use,
    };
    loop_timer_remove(stream->network->loop,
                      &stream->step_timer); /* the dial has its own, and a better message */
    return tcp_dial(&stream->tcp, stream->network, &request, socket_changed, err);
}

int stream_open(struct stream **stream, struct network *network, const struct stream_options *options,
                void (*changed)(struct stream *stream, void *owner), void *owner, struct error *err)
{
    *stream = NULL;
    if (options->tls && network->trust.count == 0)
        return error_set(err, ERROR_UNSUPPORTED, "TLS with %s: there are no CA certificates", options->host);
    struct stream *made = calloc(1, sizeof *made);
    size_t recv_bytes = options->plain_recv_bytes != 0 ? options->plain_recv_bytes : PLAIN_BUFFER_DEFAULT;
    size_t send_bytes = options->plain_send_bytes != 0 ? options->plain_send_bytes : PLAIN_BUFFER_DEFAULT;
    if (made == NULL ||
        (!options->tls && (!buffer_open(&made->recv, recv_bytes) || !buffer_open(&made->send, send_bytes)))) {
        stream_close(made);
        return error_set(err, ERROR_SYSTEM, "open %s: out of memory", options->host);
    }
    made->network = network;
    made->changed = changed;
    made->owner = owner;
    made->open_deadline_ms = options->open_deadline_ms;
    made->port = options->port;
    made->wants_tls = options->tls;
    loop_timer_init(&made->step_timer, step_took_too_long);
    loop_hook_init(&made->notify, LOOP_GATHER, notify_owner);
    loop_hook_init(&made->flush, LOOP_FLUSH, flush_at_end_of_turn);
    int result =
        str_copy(str_from(options->host), made->host, sizeof made->host)
            ? start_dialling(made, options, err)
            : error_set(err, ERROR_INVALID, "a host name has at most %d characters", STREAM_HOST_SIZE - 1);
    if (result != 0) {
        stream_close(made);
        return result;
    }
    *stream = made;
    return 0;
}

void stream_close(struct stream *stream)
{
    if (stream == NULL)
        return;
    if (stream->network != NULL) {
        loop_timer_remove(stream->network->loop, &stream->step_timer);
        loop_hook_remove(stream->network->loop, &stream->notify);
        loop_hook_remove(stream->network->loop, &stream->flush);
        list_remove(&stream->in_handshakes);
        tcp_close(&stream->tcp);
    }
    close_exchange(stream);
    tls_close(stream->tls);
    buffer_close(&stream->raw);
    buffer_close(&stream->recv);
    buffer_close(&stream->send);
    free(stream);
}

/* --- the owner's side ----------------------------------------------------------------------------------- */

enum stream_state stream_state(const struct stream *stream)
{
    return stream->state;
}

const struct error *stream_error(const struct stream *stream)
{
    return &stream->err;
}

bool stream_ended_cleanly(const struct stream *stream)
{
    return stream->state == STREAM_ENDED && stream->ended_cleanly;
}

const uint8_t *stream_recv_buf(struct stream *stream, size_t *len)
{
    *len = 0;
    if (stream->phase != PHASE_OPEN || stream->state == STREAM_FAILED)
        return NULL;
    if (!has_bytes(stream)) {
        if (stream->tls != NULL)
            pump_tls(stream);
        else
            pull_plain(stream);
    }
    if (stream->tls != NULL)
        return br_ssl_engine_recvapp_buf(tls_engine(stream->tls), len);
    *len = buffer_len(&stream->recv);
    return *len > 0 ? stream->recv.memory + stream->recv.start : NULL;
}

void stream_recv_ack(struct stream *stream, size_t len)
{
    if (len == 0)
        return;
    if (stream->tls != NULL)
        br_ssl_engine_recvapp_ack(tls_engine(stream->tls), len);
    else
        buffer_take(&stream->recv, len);
}

static uint8_t *lend_room(struct stream *stream, size_t *len)
{
    return stream->tls != NULL ? br_ssl_engine_sendapp_buf(tls_engine(stream->tls), len)
                               : buffer_room(&stream->send, len);
}

/* Room for bytes to the peer, after sending when there was none; null while there is still none. */
static uint8_t *make_room(struct stream *stream, size_t *len)
{
    if (stream->state != STREAM_OPEN)
        return NULL;
    uint8_t *room = lend_room(stream, len);
    if (room == NULL) {
        push(stream);
        room = stream->state == STREAM_OPEN ? lend_room(stream, len) : NULL;
    }
    stream->wants_room = room == NULL;
    return room;
}

static void use_room(struct stream *stream, size_t len)
{
    if (stream->tls != NULL)
        br_ssl_engine_sendapp_ack(tls_engine(stream->tls), len);
    else
        stream->send.end += len;
    loop_hook_queue(stream->network->loop, &stream->flush);
}

size_t stream_send(struct stream *stream, const void *data, size_t len)
{
    const uint8_t *from = data;
    size_t sent = 0;
    while (sent < len) {
        size_t room;
        uint8_t *at = make_room(stream, &room);
        if (at == NULL)
            break;
        size_t piece = num_min_size(room, len - sent);
        memcpy(at, from + sent, piece);
        use_room(stream, piece);
        sent += piece;
    }
    return sent;
}
