#include "channel/connection.h"

#include <string.h>

#include "base/bytes.h"
#include "base/format.h"
#include "base/num.h"

static const char keepalive[] = "keepalive";

void connection_init(struct connection *c, const struct connection_config *config)
{
    memset(c, 0, sizeof *c);
    c->config = *config;
    websocket_decoder_init(&c->decoder, WEBSOCKET_CLIENT, config->in, config->in_size);
}

/* ---- lifecycle ---- */

enum connection_change {
    CHANGE_OPENED,      /* the caller has a websocket */
    CHANGE_LOST,        /* it is gone, or silent for too long */
    CHANGE_PEER_CLOSED, /* a close frame came, or bytes that are not a websocket: answer and leave */
    CHANGE_CLOSE,       /* the caller wants to leave */
    CHANGE_CLOSED,      /* both close frames were exchanged, or the wait is over */
    CHANGE_COUNT
};

typedef void (*connection_transition)(struct connection *c, int64_t now_ms);

static void ignore(struct connection *c, int64_t now_ms)
{
    (void) c;
    (void) now_ms;
}

static void go_up(struct connection *c, int64_t now_ms)
{
    c->state = CONNECTION_UP;
    c->received_ms = now_ms;
    c->ping_ms = now_ms + c->config.ping_interval_ms;
    c->lost_due = c->lost_by_peer = c->peer_closed = c->close_due = false;
    c->lost_text[0] = '\0';
    websocket_decoder_init(&c->decoder, WEBSOCKET_CLIENT, c->config.in, c->config.in_size);
}

static void go_down(struct connection *c, int64_t now_ms)
{
    (void) now_ms;
    c->state = CONNECTION_DOWN;
    c->lost_due = true;
    bytes_wipe(c->config.out, c->out_end);
    c->out_start = c->out_end = 0;
}

static void start_closing(struct connection *c, int64_t now_ms)
{
    c->state = CONNECTION_CLOSING;
    c->closing_ms = now_ms + CONNECTION_CLOSING_MS;
    c->close_due = true;
}

static void answer_close(struct connection *c, int64_t now_ms)
{
    start_closing(c, now_ms);
    c->peer_closed = true;
}

static void note_peer_closed(struct connection *c, int64_t now_ms)
{
    c->peer_closed = true;
    if (!c->close_due && c->out_start == c->out_end)
        go_down(c, now_ms); /* our close frame is out already */
}

/* A macro that names every event: a missing cell does not compile. */
#define ROW(opened, lost, peer_closed, close, closed)                                                        \
    {                                                                                                        \
        [CHANGE_OPENED] = (opened), [CHANGE_LOST] = (lost), [CHANGE_PEER_CLOSED] = (peer_closed),            \
        [CHANGE_CLOSE] = (close), [CHANGE_CLOSED] = (closed)                                                 \
    }

static const connection_transition lifecycle[CONNECTION_STATE_COUNT][CHANGE_COUNT] = {
    /*                         opened  lost     peer closed       close          closed */
    [CONNECTION_DOWN] = ROW(go_up, ignore, ignore, ignore, ignore),
    [CONNECTION_UP] = ROW(ignore, go_down, answer_close, start_closing, ignore),
    [CONNECTION_CLOSING] = ROW(ignore, go_down, note_peer_closed, ignore, go_down),
};

static void change(struct connection *c, enum connection_change event, int64_t now_ms)
{
    lifecycle[c->state][event](c, now_ms);
}

static void note_reason(struct connection *c, uint16_t code, const char *text)
{
    if (c->state == CONNECTION_DOWN || c->lost_text[0] != '\0')
        return;
    c->lost_code = code;
    format_text(c->lost_text, sizeof c->lost_text, "%s", text);
}

static void set_close(struct connection *c, unsigned code, struct str reason)
{
    c->close_code = (uint16_t) code;
    format_text(c->close_reason, sizeof c->close_reason, "%.*s", STR_ARG(reason));
}

int connection_open(struct connection *c, int64_t now_ms, struct str first_text, struct error *err)
{
    if (c->state != CONNECTION_DOWN)
        return error_set(err, ERROR_INVALID, "websocket: a connection is open already");
    if (first_text.len + WEBSOCKET_HEADROOM > c->config.out_size)
        return error_set(err, ERROR_TOO_LARGE, "websocket: the first message has %zu bytes, at most %zu fit",
                         first_text.len, c->config.out_size - WEBSOCKET_HEADROOM);
    change(c, CHANGE_OPENED, now_ms);
    connection_send(c, WEBSOCKET_TEXT, first_text.ptr, first_text.len);
    return 0;
}

/* Equal within an eighth and a second: of 54 s, chance does that to one pair of losses in five. */
static void learn_from_loss(struct connection *c, int64_t now_ms)
{
    int64_t quiet_ms = num_min_i64(now_ms - c->received_ms, c->config.ping_interval_ms);
    int64_t apart_ms = quiet_ms < c->quiet_ms ? c->quiet_ms - quiet_ms : quiet_ms - c->quiet_ms;
    c->quiet_ms = quiet_ms;
    if (quiet_ms < CONNECTION_QUIET_MIN_MS || apart_ms > quiet_ms / 8 + 1000)
        return;
    c->learned_ms = quiet_ms;
    c->config.ping_interval_ms = quiet_ms / 2;
}

int64_t connection_take_learned_ms(struct connection *c)
{
    int64_t learned_ms = c->learned_ms;
    c->learned_ms = 0;
    return learned_ms;
}

void connection_lost(struct connection *c, int64_t now_ms, const char *why)
{
    if (c->state == CONNECTION_UP)
        learn_from_loss(c, now_ms);
    note_reason(c, 0, why);
    change(c, CHANGE_LOST, now_ms);
}

void connection_close(struct connection *c, int64_t now_ms, unsigned code, struct str reason)
{
    if (c->state != CONNECTION_UP)
        return;
    set_close(c, code, reason);
    note_reason(c, (uint16_t) code, "closed by us");
    change(c, CHANGE_CLOSE, now_ms);
}

/* ---- out ---- */

uint8_t *connection_send_buf(struct connection *c, size_t len)
{
    size_t header_size = websocket_header_size(len, true);
    if (c->state == CONNECTION_DOWN)
        return NULL;
    if (c->config.out_size - c->out_end < header_size + len && c->out_start > 0) {
        memmove(c->config.out, c->config.out + c->out_start, c->out_end - c->out_start);
        c->out_end -= c->out_start;
        c->out_start = 0;
    }
    if (c->config.out_size - c->out_end < header_size + len)
        return NULL;
    return c->config.out + c->out_end + header_size;
}

void connection_send_ack(struct connection *c, uint8_t *content, size_t len, enum websocket_opcode opcode)
{
    uint8_t mask[WEBSOCKET_MASK_SIZE];
    prng_fill(c->config.prng, mask, sizeof mask);
    c->out_end += websocket_seal(content, len, opcode, mask) + len;
}

static bool queue(struct connection *c, enum websocket_opcode opcode, const void *data, size_t len)
{
    uint8_t *content = connection_send_buf(c, len);
    if (content == NULL)
        return false;
    if (len > 0)
        memcpy(content, data, len);
    connection_send_ack(c, content, len, opcode);
    return true;
}

bool connection_send(struct connection *c, enum websocket_opcode opcode, const void *data, size_t len)
{
    return c->state == CONNECTION_UP && queue(c, opcode, data, len);
}

static void queue_close(struct connection *c)
{
    uint8_t payload[WEBSOCKET_CONTROL_MAX];
    size_t len = 0;
    if (c->close_code != WEBSOCKET_CLOSE_NO_CODE)
        len = websocket_close_payload(payload, c->close_code, str_from(c->close_reason));
    if (queue(c, WEBSOCKET_CLOSE, payload, len))
        c->close_due = false;
}

const uint8_t *connection_out_buf(struct connection *c, size_t *len)
{
    if (c->close_due)
        queue_close(c);
    *len = c->out_end - c->out_start;
    return *len > 0 ? c->config.out + c->out_start : NULL;
}

void connection_out_ack(struct connection *c, size_t len)
{
    c->out_start += len;
    if (c->out_start < c->out_end || c->out_end == 0)
        return;
    bytes_wipe(c->config.out, c->out_end);
    c->out_start = c->out_end = 0;
    if (c->peer_closed && !c->close_due)
        change(c, CHANGE_CLOSED, 0);
}

/* ---- in ---- */

uint8_t *connection_in_buf(struct connection *c, size_t *room)
{
    *room = 0;
    if (c->state == CONNECTION_DOWN || c->peer_closed)
        return c->decoder.buffer;
    return websocket_in_buf(&c->decoder, room);
}

void connection_in_ack(struct connection *c, int64_t now_ms, size_t len)
{
    if (c->state == CONNECTION_DOWN || len == 0)
        return;
    c->received_ms = now_ms;
    websocket_in_ack(&c->decoder, len);
}

static void take_close(struct connection *c, int64_t now_ms, const struct websocket_event *frame)
{
    char text[CONNECTION_WHY_SIZE];
    bool routine = frame->code == WEBSOCKET_CLOSE_NORMAL || frame->code == WEBSOCKET_CLOSE_GOING_AWAY;
    format_text(text, sizeof text, "the service closed the websocket: %u %.*s", frame->code, (int) frame->len,
                (const char *) frame->data);
    c->lost_by_peer = c->lost_text[0] == '\0';
    note_reason(c, frame->code, text);
    if (c->state == CONNECTION_UP)
        set_close(c, routine ? frame->code : WEBSOCKET_CLOSE_NORMAL, str_from(""));
    change(c, CHANGE_PEER_CLOSED, now_ms);
}

/* One frame. False when no whole one is there. */
static bool take_frame(struct connection *c, int64_t now_ms, struct connection_event *event)
{
    struct websocket_event frame;
    struct error err = ERROR_INIT;
    if (websocket_next(&c->decoder, &frame, &err) != 0) {
        note_reason(c, c->decoder.close_code, err.text);
        set_close(c, c->decoder.close_code, str_from(""));
        change(c, CHANGE_PEER_CLOSED, now_ms);
        return false;
    }
    switch (frame.type) {
    case WEBSOCKET_EVENT_MESSAGE:
        *event = (struct connection_event){
            .type = CONNECTION_MESSAGE, .binary = frame.binary, .data = frame.data, .len = frame.len};
        return true;
    case WEBSOCKET_EVENT_PING:
        /* A flood of pings must not use up the room of messages. */
        if (c->out_end - c->out_start < c->config.out_size / 2)
            connection_send(c, WEBSOCKET_PONG, frame.data, frame.len);
        return true;
    case WEBSOCKET_EVENT_CLOSE:
        take_close(c, now_ms, &frame);
        return false;
    case WEBSOCKET_EVENT_PONG:
        return true;
    case WEBSOCKET_EVENT_NONE:
        break;
    }
    return false;
}

void connection_next(struct connection *c, int64_t now_ms, struct connection_event *event)
{
    *event = (struct connection_event){.type = CONNECTION_NOTHING};
    while (c->state != CONNECTION_DOWN && !c->peer_closed && event->type == CONNECTION_NOTHING)
        if (!take_frame(c, now_ms, event))
            break;
    if (event->type == CONNECTION_NOTHING && c->lost_due) {
        c->lost_due = false;
        *event = (struct connection_event){.type = CONNECTION_LOST,
                                           .code = c->lost_code,
                                           .closed_by_peer = c->lost_by_peer,
                                           .text = c->lost_text};
    }
}

/* ---- time ---- */

static int64_t silence_ms(const struct connection *c)
{
    return c->received_ms + c->config.ping_interval_ms + CONNECTION_SILENCE_MS;
}

int64_t connection_deadline(const struct connection *c)
{
    if (c->state == CONNECTION_DOWN)
        return c->lost_due ? INT64_MIN : INT64_MAX;
    if (c->state == CONNECTION_CLOSING)
        return c->closing_ms;
    return c->ping_ms < silence_ms(c) ? c->ping_ms : silence_ms(c);
}

void connection_tick(struct connection *c, int64_t now_ms, bool listening)
{
    if (c->state == CONNECTION_CLOSING && now_ms >= c->closing_ms)
        change(c, CHANGE_CLOSED, now_ms);
    if (c->state != CONNECTION_UP)
        return;
    if (!listening)
        c->received_ms = now_ms;
    if (now_ms >= silence_ms(c)) {
        connection_lost(c, now_ms, "nothing came from the service, not even an answer to a ping");
        return;
    }
    if (now_ms >= c->ping_ms) {
        connection_send(c, WEBSOCKET_PING, keepalive, sizeof keepalive - 1);
        c->ping_ms = now_ms + c->config.ping_interval_ms;
    }
}
