#include "sim/lib/sim_link.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

enum { SILENT_MAX_MS = 9000, OPENS_WATCHED = 12, OPENS_WINDOW_MS = 1000 };

void sim_link_init(struct sim_link *link, struct gateway *gateway, struct lane *lane, int side,
                   const struct sim_link_faults *faults, uint64_t seed)
{
    memset(link, 0, sizeof *link);
    link->gateway = gateway;
    link->lane = lane;
    link->side = side;
    link->faults = *faults;
    link->dice.state = seed;
    link->close_ms = INT64_MAX;
    reconnect_init(&link->reconnect, &RECONNECT_DATA, 0);
}

/* ---- the connection ---- */

static void go_down(struct sim_link *link, int64_t now_ms, enum reconnect_failure failure, const char *why)
{
    struct data_channel_stats stats;
    data_channel_stats(&link->lane->channel, &stats);
    reconnect_acknowledged(&link->reconnect, stats.acknowledged + stats.received - link->progress);
    link->progress = stats.acknowledged + stats.received;
    if (link->is_up)
        lane_disconnected(link->lane, now_ms, why);
    link->is_up = link->is_opening = false;
    link->close_ms = INT64_MAX;
    link->gateway->sides[link->side].connected = false;
    link->retry_ms = reconnect_down(&link->reconnect, now_ms, failure, (uint32_t) dice_next(&link->dice));
    if (link->retry_ms != INT64_MAX)
        return;
    link->is_over = true;
    lane_end(link->lane, now_ms, true, STR_LITERAL("the connection could not be restored"));
}

void sim_link_lose(struct sim_link *link, int64_t now_ms)
{
    if (link->is_up)
        go_down(link, now_ms, RECONNECT_TRANSIENT, "the engine gave it up");
}

/* Not more often than the back-off allows: a good connection's loss is routine, and the next try at once. */
static void watch_opens(struct sim_link *link, int64_t now_ms)
{
    const uint64_t ring = sizeof link->opened_ms / sizeof link->opened_ms[0];
    if (link->opens >= OPENS_WATCHED && link->gateway->faults.cut_bytes[link->side] == 0 &&
        now_ms - link->opened_ms[(link->opens - OPENS_WATCHED) % ring] < OPENS_WINDOW_MS)
        link->fault = "it connects again and again";
    link->opened_ms[link->opens++ % ring] = now_ms;
}

static void go_up(struct sim_link *link, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    watch_opens(link, now_ms);
    link->is_up = true;
    websocket_decoder_init(&link->decoder, WEBSOCKET_SERVER, link->decoder_buffer,
                           sizeof link->decoder_buffer);
    link->pending_start = link->pending_end = 0;
    gateway_connect(link->gateway, link->side, now_ms);
    reconnect_up(&link->reconnect, now_ms);
    if (dice_hits(&link->dice, link->faults.closed_at_once))
        link->close_ms = now_ms + 5;
    if (lane_connected(link->lane, now_ms, STR_LITERAL("{\"TokenValue\":\"x\"}"), &err) < 0)
        link->fault = "lane_connected failed";
}

static void try_to_open(struct sim_link *link, int64_t now_ms)
{
    if (link->is_opening) {
        go_down(link, now_ms, RECONNECT_TRANSIENT, "the name server is silent");
    } else if (dice_hits(&link->dice, link->faults.silent)) {
        link->is_opening = true;
        link->retry_ms = now_ms + dice_between(&link->dice, 1000, SILENT_MAX_MS);
    } else if (dice_hits(&link->dice, link->faults.broken)) {
        go_down(link, now_ms, RECONNECT_TRANSIENT, "broken");
    } else if (dice_hits(&link->dice, link->faults.throttled)) {
        go_down(link, now_ms, RECONNECT_THROTTLED, "throttled");
    } else {
        go_up(link, now_ms);
    }
}

/* A server's frame. */
static bool put_frame(struct sim_link *link, enum websocket_opcode opcode, const void *content, size_t len)
{
    uint8_t *at = link->pending + link->pending_end + WEBSOCKET_HEADROOM;
    if (sizeof link->pending - link->pending_end < len + WEBSOCKET_HEADROOM)
        return false;
    if (len > 0)
        memcpy(at, content, len);
    size_t header = websocket_seal(at, len, opcode, NULL);
    memmove(link->pending + link->pending_end, at - header, header + len);
    link->pending_end += header + len;
    return true;
}

/* The service closes politely: its answer is waited for, or goes nowhere. */
static void say_bye(struct sim_link *link, int64_t now_ms)
{
    uint8_t bye[WEBSOCKET_CONTROL_MAX];
    size_t len = websocket_close_payload(bye, WEBSOCKET_CLOSE_NORMAL, str_from("Bye"));
    if (!put_frame(link, WEBSOCKET_CLOSE, bye, len))
        go_down(link, now_ms, RECONNECT_TRANSIENT, "the connection broke");
}

bool sim_link_step(struct sim_link *link, int64_t now_ms)
{
    if (!link->is_up) {
        if (link->is_over || now_ms < link->retry_ms || !lane_wants_connection(link->lane))
            return false;
        try_to_open(link, now_ms);
        return true;
    }
    int how = gateway_ends(link->gateway, link->side, now_ms);
    if (now_ms >= link->close_ms) {
        link->close_ms = INT64_MAX;
        how = 2;
    }
    if (how == 1)
        go_down(link, now_ms, RECONNECT_TRANSIENT, "the connection broke");
    else if (how == 2)
        say_bye(link, now_ms);
    return how != 0;
}

/* ---- bytes ---- */

bool sim_link_say(struct sim_link *link, enum agent_message_type type, const char *payload)
{
    uint8_t message[AGENT_MESSAGE_HEADER_SIZE + 1024];
    size_t len = strlen(payload);
    struct agent_message fields = {.type = type, .created_unix_ms = 1, .payload_type = 261};
    if (!link->is_up)
        return false;
    memcpy(message + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    fields.payload = message + AGENT_MESSAGE_HEADER_SIZE;
    fields.payload_len = len;
    agent_message_write_header(message, &fields);
    return put_frame(link, WEBSOCKET_BINARY, message, AGENT_MESSAGE_HEADER_SIZE + len);
}

const uint8_t *sim_link_receive(struct sim_link *link, int64_t now_ms, size_t *len)
{
    if (!link->is_up)
        return NULL;
    if (link->pending_start == link->pending_end) {
        link->pending_start = link->pending_end = 0;
        struct gateway_message *m = gateway_take(link->gateway, link->side, now_ms);
        if (m == NULL)
            return NULL;
        put_frame(link, WEBSOCKET_BINARY, m->bytes, m->len);
        free(m);
    }
    *len = link->pending_end - link->pending_start;
    if (link->small_pieces && *len > 700)
        *len = dice_between(&link->dice, 1, 700);
    return link->pending + link->pending_start;
}

void sim_link_received(struct sim_link *link, size_t len)
{
    link->pending_start += len;
}

static void hear_message(struct sim_link *link, const struct websocket_event *event, int64_t now_ms)
{
    struct agent_message m;
    if (!event->binary)
        return;
    if (agent_message_parse(&m, event->data, event->len, NULL) != 0)
        link->fault = "the gateway could not read a message";
    else if (m.type != AGENT_MESSAGE_AGENT_SESSION_STATE && link->gateway->sides[link->side].connected)
        gateway_relay(link->gateway, link->side, event->data, event->len,
                      m.type == AGENT_MESSAGE_INPUT_STREAM_DATA || m.type == AGENT_MESSAGE_OUTPUT_STREAM_DATA,
                      now_ms);
}

static void hear(struct sim_link *link, int64_t now_ms)
{
    struct websocket_event event;
    for (;;) {
        if (websocket_next(&link->decoder, &event, NULL) != 0) {
            link->fault = "the gateway could not read a frame";
            return;
        }
        switch (event.type) {
        case WEBSOCKET_EVENT_NONE:
            return;
        case WEBSOCKET_EVENT_MESSAGE:
            hear_message(link, &event, now_ms);
            break;
        case WEBSOCKET_EVENT_PING:
            put_frame(link, WEBSOCKET_PONG, event.data, event.len);
            break;
        case WEBSOCKET_EVENT_CLOSE:
            put_frame(link, WEBSOCKET_CLOSE, event.data, event.len);
            link->gateway->sides[link->side].connected = false;
            return;
        case WEBSOCKET_EVENT_PONG:
            break;
        }
    }
}

size_t sim_link_send(struct sim_link *link, int64_t now_ms, const uint8_t *data, size_t len)
{
    size_t room;
    if (!link->is_up || gateway_blocks(link->gateway, link->side) || link->gateway->sides[link->side].cut)
        return 0;
    if (link->small_pieces)
        len = dice_between(&link->dice, 1, (uint32_t) len);
    uint8_t *in = websocket_in_buf(&link->decoder, &room);
    len = num_min_size(len, room);
    memcpy(in, data, len);
    websocket_in_ack(&link->decoder, len);
    hear(link, now_ms);
    return len;
}

int64_t sim_link_due_ms(const struct sim_link *link)
{
    if (!link->is_up)
        return link->is_over || !lane_wants_connection(link->lane) ? INT64_MAX : link->retry_ms;
    if (link->pending_start < link->pending_end)
        return data_channel_wants_input(&link->lane->channel) ? INT64_MIN : link->close_ms;
    if (gateway_blocks(link->gateway, link->side) || link->gateway->sides[link->side].cut)
        return INT64_MIN;
    int64_t due_ms = gateway_due_ms(link->gateway, link->side);
    if (!data_channel_wants_input(&link->lane->channel))
        due_ms = link->gateway->sides[link->side].close_ms;
    return num_min_i64(due_ms, link->close_ms);
}
