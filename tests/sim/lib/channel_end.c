#include "sim/lib/channel_end.h"

#include <stdlib.h>
#include <string.h>

#include "lib/fresh_pool.h"
#include "sim/lib/traffic.h"

void channel_end_init(struct channel_end *e, int side, const struct data_channel_config *config, void *memory,
                      uint64_t seed)
{
    struct data_channel_config own = *config;
    memset(e, 0, sizeof *e);
    e->side = side;
    e->dice.state = seed;
    e->memory = own.memory = memory;
    own.user = fresh_pool(side, FRESH_POOL_BLOCKS);
    for (size_t i = 0; i < sizeof own.seed; i++)
        own.seed[i] = (uint8_t) dice_next(&e->dice);
    data_channel_init(&e->channel, &own, 0);
}

static void connect(struct channel_end *e, struct gateway *g, int64_t now_ms)
{
    websocket_decoder_init(&e->wire, WEBSOCKET_SERVER, e->wire_buffer, sizeof e->wire_buffer);
    gateway_connect(g, e->side, now_ms);
    if (data_channel_connect(&e->channel, now_ms, str_from("{\"TokenValue\":\"x\"}"), NULL) != 0)
        e->fault = "connect failed";
}

/* A server's frame around a message, given to the engine in pieces. */
static void deliver(struct channel_end *e, uint8_t *frame, size_t len, int64_t now_ms)
{
    while (len > 0) {
        size_t room;
        uint8_t *buffer = data_channel_in_buf(&e->channel, &room);
        size_t n = e->small_pieces ? dice_between(&e->dice, 1, 700) : len;
        if (room == 0)
            return; /* DOWN: the rest is lost with the connection */
        n = n < len ? n : len;
        n = n < room ? n : room;
        memcpy(buffer, frame, n);
        data_channel_in_ack(&e->channel, now_ms, n);
        frame += n;
        len -= n;
        struct data_channel_event event;
        while (e->channel.event_waits)
            data_channel_next(&e->channel, now_ms, &event);
    }
}

static void deliver_message(struct channel_end *e, const uint8_t *message, size_t len, int64_t now_ms)
{
    uint8_t frame[WEBSOCKET_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + 4096];
    memcpy(frame + WEBSOCKET_HEADROOM, message, len);
    size_t header = websocket_seal(frame + WEBSOCKET_HEADROOM, len, WEBSOCKET_BINARY, NULL);
    deliver(e, frame + WEBSOCKET_HEADROOM - header, header + len, now_ms);
}

static void say(struct channel_end *e, enum agent_message_type type, int64_t now_ms)
{
    uint8_t message[AGENT_MESSAGE_HEADER_SIZE];
    agent_message_write_header(message, &(struct agent_message){.type = type, .created_unix_ms = 1});
    deliver_message(e, message, sizeof message, now_ms);
}

static void receive(struct channel_end *e, struct gateway *g, int64_t now_ms)
{
    struct gateway_message *m;
    if (e->pauses && data_channel_state(&e->channel) == CONNECTION_UP && dice_hits(&e->dice, 20))
        say(e, dice_hits(&e->dice, 5000) ? AGENT_MESSAGE_PAUSE_PUBLICATION : AGENT_MESSAGE_START_PUBLICATION,
            now_ms);
    while (data_channel_wants_input(&e->channel) && (m = gateway_take(g, e->side, now_ms)) != NULL) {
        deliver_message(e, m->bytes, m->len, now_ms);
        free(m);
    }
}

static void read_stream(struct channel_end *e, int64_t now_ms)
{
    size_t budget =
        e->read_bytes_per_ms == 0 ? SIZE_MAX : e->read_bytes_per_ms * (size_t) (now_ms - e->read_ms);
    struct data_channel_event event;
    if (e->read_bytes_per_ms == 0 || now_ms > e->read_ms)
        e->read_ms = now_ms;
    while (budget > 0) {
        data_channel_next(&e->channel, now_ms, &event);
        if (event.type == DATA_CHANNEL_EVENT_NONE)
            return;
        if (event.type == DATA_CHANNEL_EVENT_LOST)
            e->reconnect_ms = now_ms + dice_between(&e->dice, 0, e->away_ms);
        if (event.type != DATA_CHANNEL_EVENT_DATA)
            continue;
        size_t n = event.len < budget ? event.len : budget;
        if (e->small_pieces && n > 1 && dice_hits(&e->dice, 2000))
            n = dice_between(&e->dice, 1, (uint32_t) n);
        if (!traffic_matches(e->receive_seed, e->received, event.data, n))
            e->fault = "a byte is wrong";
        e->received += n;
        budget -= n;
        data_channel_consume(&e->channel, n);
    }
}

static void write_stream(struct channel_end *e, int64_t now_ms)
{
    uint8_t bytes[8192];
    while (e->sent < e->send_total) {
        uint64_t left = e->send_total - e->sent;
        size_t room = data_channel_send_room(&e->channel, now_ms, PACER_BULK);
        size_t n = left < sizeof bytes ? (size_t) left : sizeof bytes;
        if (room == 0)
            return;
        n = n < room ? n : room;
        if (e->small_pieces)
            n = dice_between(&e->dice, 1, (uint32_t) n);
        traffic_fill(e->send_seed, e->sent, bytes, n);
        if (!data_channel_send(&e->channel, now_ms, PACER_BULK, bytes, n))
            e->fault = "send took less than the room it had announced";
        e->sent += n;
    }
}

static void hear(struct channel_end *e, struct gateway *g, int64_t now_ms)
{
    struct websocket_event event;
    for (;;) {
        struct agent_message m;
        if (websocket_next(&e->wire, &event, NULL) != 0)
            e->fault = "the gateway could not read a frame";
        if (event.type == WEBSOCKET_EVENT_PING) {
            uint8_t pong[WEBSOCKET_HEADROOM] = {0};
            size_t header = websocket_seal(pong + WEBSOCKET_HEADROOM, 0, WEBSOCKET_PONG, NULL);
            deliver(e, pong + WEBSOCKET_HEADROOM - header, header, now_ms);
        }
        if (event.type == WEBSOCKET_EVENT_CLOSE) {
            uint8_t close[WEBSOCKET_HEADROOM + 2] = {0};
            close[WEBSOCKET_HEADROOM] = 0x03;
            close[WEBSOCKET_HEADROOM + 1] = 0xe8;
            size_t header = websocket_seal(close + WEBSOCKET_HEADROOM, 2, WEBSOCKET_CLOSE, NULL);
            deliver(e, close + WEBSOCKET_HEADROOM - header, header + 2, now_ms);
        }
        if (event.type == WEBSOCKET_EVENT_NONE || event.type == WEBSOCKET_EVENT_CLOSE)
            return;
        if (event.type != WEBSOCKET_EVENT_MESSAGE || !event.binary)
            continue;
        if (agent_message_parse(&m, event.data, event.len, NULL) != 0)
            e->fault = "the gateway could not read a message";
        else
            gateway_relay(g, e->side, event.data, event.len,
                          m.type == AGENT_MESSAGE_INPUT_STREAM_DATA ||
                              m.type == AGENT_MESSAGE_OUTPUT_STREAM_DATA,
                          now_ms);
    }
}

static void write_wire(struct channel_end *e, struct gateway *g, int64_t now_ms)
{
    size_t len;
    while (!gateway_blocks(g, e->side) && e->fault == NULL && !g->sides[e->side].cut) {
        const uint8_t *out = data_channel_out_buf(&e->channel, now_ms, &len);
        size_t room;
        if (len == 0)
            return;
        if (e->small_pieces)
            len = dice_between(&e->dice, 1, (uint32_t) len);
        uint8_t *in = websocket_in_buf(&e->wire, &room);
        len = len < room ? len : room;
        memcpy(in, out, len);
        websocket_in_ack(&e->wire, len);
        data_channel_out_ack(&e->channel, now_ms, len);
        hear(e, g, now_ms);
    }
}

/* The service says goodbye, or the line breaks. */
static void end_connection(struct channel_end *e, int how, int64_t now_ms)
{
    if (how == 2) {
        uint8_t bye[WEBSOCKET_HEADROOM + WEBSOCKET_CONTROL_MAX];
        size_t len =
            websocket_close_payload(bye + WEBSOCKET_HEADROOM, WEBSOCKET_CLOSE_NORMAL, str_from("Bye"));
        size_t header = websocket_seal(bye + WEBSOCKET_HEADROOM, len, WEBSOCKET_CLOSE, NULL);
        deliver(e, bye + WEBSOCKET_HEADROOM - header, header + len, now_ms);
        /* Its answer goes nowhere: the gateway has hung up. */
    }
    data_channel_disconnect(&e->channel, now_ms, "the connection broke");
}

void channel_end_step(struct channel_end *e, struct gateway *g, int64_t now_ms)
{
    if (data_channel_state(&e->channel) == CONNECTION_DOWN && !e->channel.event_waits &&
        now_ms >= e->reconnect_ms)
        connect(e, g, now_ms);
    receive(e, g, now_ms);
    read_stream(e, now_ms);
    for (int i = 0; i < 64; i++) {
        uint64_t sent = e->sent;
        write_stream(e, now_ms);
        write_wire(e, g, now_ms);
        if (e->sent == sent)
            break;
    }
    if (data_channel_deadline(&e->channel, now_ms) <= now_ms) {
        data_channel_tick(&e->channel, now_ms);
        write_wire(e, g, now_ms);
    }
    int how = gateway_ends(g, e->side, now_ms);
    if (how != 0)
        end_connection(e, how, now_ms);
    read_stream(e, now_ms);
}

int64_t channel_end_due_ms(struct channel_end *e, const struct gateway *g, int64_t now_ms)
{
    int64_t due_ms = data_channel_deadline(&e->channel, now_ms);
    if (data_channel_state(&e->channel) == CONNECTION_DOWN)
        return e->reconnect_ms;
    if (data_channel_wants_input(&e->channel) && gateway_due_ms(g, e->side) < due_ms)
        due_ms = gateway_due_ms(g, e->side);
    if (e->read_bytes_per_ms > 0 || e->pauses || gateway_blocks(g, e->side))
        due_ms = now_ms + 1;
    return due_ms;
}
