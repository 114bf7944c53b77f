#include "sim/lib/wire_end.h"

#include <stdlib.h>
#include <string.h>

void wire_end_init(struct wire_end *e, struct data_channel *channel, int side, uint64_t seed,
                   bool small_pieces)
{
    memset(e, 0, sizeof *e);
    e->channel = channel;
    e->side = side;
    e->dice.state = seed;
    e->small_pieces = small_pieces;
}

void wire_end_connected(struct wire_end *e, struct gateway *g, int64_t now_ms)
{
    websocket_decoder_init(&e->wire, WEBSOCKET_SERVER, e->wire_buffer, sizeof e->wire_buffer);
    e->pending_start = e->pending_end = 0;
    gateway_connect(g, e->side, now_ms);
}

/* A server's frame. */
static bool put_frame(struct wire_end *e, enum websocket_opcode opcode, const void *content, size_t len)
{
    uint8_t *at = e->pending + e->pending_end + WEBSOCKET_HEADROOM;
    if (sizeof e->pending - e->pending_end < len + WEBSOCKET_HEADROOM)
        return false;
    if (len > 0)
        memcpy(at, content, len);
    size_t header = websocket_seal(at, len, opcode, NULL);
    memmove(e->pending + e->pending_end, at - header, header + len);
    e->pending_end += header + len;
    return true;
}

bool wire_end_say(struct wire_end *e, enum agent_message_type type, const char *payload)
{
    uint8_t message[AGENT_MESSAGE_HEADER_SIZE + 1024];
    size_t len = strlen(payload);
    struct agent_message fields = {.type = type, .created_unix_ms = 1, .payload_type = 261};
    memcpy(message + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    fields.payload = message + AGENT_MESSAGE_HEADER_SIZE;
    fields.payload_len = len;
    agent_message_write_header(message, &fields);
    return put_frame(e, WEBSOCKET_BINARY, message, AGENT_MESSAGE_HEADER_SIZE + len);
}

bool wire_end_receive(struct wire_end *e, struct gateway *g, int64_t now_ms)
{
    struct gateway_message *m;
    size_t room;
    if (!data_channel_wants_input(e->channel))
        return false;
    if (e->pending_start == e->pending_end) {
        e->pending_start = e->pending_end = 0;
        if ((m = gateway_take(g, e->side, now_ms)) == NULL)
            return false;
        put_frame(e, WEBSOCKET_BINARY, m->bytes, m->len);
        free(m);
    }
    uint8_t *in = data_channel_in_buf(e->channel, &room);
    size_t n = e->pending_end - e->pending_start;
    if (e->small_pieces && n > 700)
        n = dice_between(&e->dice, 1, 700);
    n = n < room ? n : room;
    if (n == 0)
        return false;
    memcpy(in, e->pending + e->pending_start, n);
    e->pending_start += n;
    data_channel_in_ack(e->channel, now_ms, n);
    return true;
}

static void hear_message(struct wire_end *e, struct gateway *g, const struct websocket_event *event,
                         int64_t now_ms)
{
    struct agent_message m;
    if (!event->binary)
        return;
    if (agent_message_parse(&m, event->data, event->len, NULL) != 0)
        e->fault = "the gateway could not read a message";
    else if (m.type != AGENT_MESSAGE_AGENT_SESSION_STATE && g->sides[e->side].connected)
        gateway_relay(g, e->side, event->data, event->len,
                      m.type == AGENT_MESSAGE_INPUT_STREAM_DATA || m.type == AGENT_MESSAGE_OUTPUT_STREAM_DATA,
                      now_ms);
}

static void hear(struct wire_end *e, struct gateway *g, int64_t now_ms)
{
    struct websocket_event event;
    for (;;) {
        if (websocket_next(&e->wire, &event, NULL) != 0) {
            e->fault = "the gateway could not read a frame";
            return;
        }
        switch (event.type) {
        case WEBSOCKET_EVENT_NONE:
            return;
        case WEBSOCKET_EVENT_MESSAGE:
            hear_message(e, g, &event, now_ms);
            break;
        case WEBSOCKET_EVENT_PING:
            put_frame(e, WEBSOCKET_PONG, event.data, event.len);
            break;
        case WEBSOCKET_EVENT_CLOSE:
            put_frame(e, WEBSOCKET_CLOSE, event.data, event.len);
            g->sides[e->side].connected = false;
            return;
        case WEBSOCKET_EVENT_PONG:
            break;
        }
    }
}

bool wire_end_transmit(struct wire_end *e, struct gateway *g, int64_t now_ms)
{
    bool moved = false;
    size_t len;
    size_t room;
    while (!gateway_blocks(g, e->side) && e->fault == NULL && !g->sides[e->side].cut) {
        const uint8_t *out = data_channel_out_buf(e->channel, now_ms, &len);
        if (len == 0)
            break;
        if (e->small_pieces)
            len = dice_between(&e->dice, 1, (uint32_t) len);
        uint8_t *in = websocket_in_buf(&e->wire, &room);
        len = len < room ? len : room;
        memcpy(in, out, len);
        websocket_in_ack(&e->wire, len);
        data_channel_out_ack(e->channel, now_ms, len);
        hear(e, g, now_ms);
        moved = true;
    }
    return moved;
}

bool wire_end_breaks(struct wire_end *e, struct gateway *g, int64_t now_ms)
{
    uint8_t bye[WEBSOCKET_CONTROL_MAX];
    int how = gateway_ends(g, e->side, now_ms);
    if (how != 2)
        return how == 1;
    size_t len = websocket_close_payload(bye, WEBSOCKET_CLOSE_NORMAL, str_from("Bye"));
    return !put_frame(e, WEBSOCKET_CLOSE, bye, len);
}

int64_t wire_end_due_ms(const struct wire_end *e, const struct gateway *g, int64_t now_ms)
{
    if (gateway_blocks(g, e->side) || g->sides[e->side].cut)
        return now_ms + 1;
    if (!data_channel_wants_input(e->channel))
        return INT64_MAX;
    return e->pending_start < e->pending_end ? now_ms : gateway_due_ms(g, e->side);
}
