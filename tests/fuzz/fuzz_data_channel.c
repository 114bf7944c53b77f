/*
 * The data channel against a hostile peer. The input is a script: each step says what the peer sends (raw
 * bytes, or stream data, acknowledgements, pauses with numbers of the script's choosing and digests that are
 * right), what the upper layer does, and how much time passes. Whatever happens: no payload is delivered
 * twice or out of order, the wire carries frames, and the deadline moves on.
 */
#include "channel/data_channel.h"
#include "lib/fresh_pool.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct script {
    const uint8_t *at;
    size_t left;
};

struct world {
    struct data_channel channel;
    struct websocket_decoder ear;
    uint8_t ear_buffer[8192];
    int64_t now_ms;
    int64_t next_delivered; /* the number that the next payload must carry */
    size_t in_message;      /* bytes of it that were consumed */
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

static uint32_t take(struct script *s, size_t bytes)
{
    uint32_t value = 0;
    for (; bytes > 0 && s->left > 0; bytes--, s->left--)
        value = value << 8 | *s->at++;
    return value;
}

static void give(struct world *w, const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        size_t room;
        uint8_t *in = data_channel_in_buf(&w->channel, &room);
        size_t n = len < room ? len : room;
        if (n == 0)
            return;
        memcpy(in, bytes, n);
        data_channel_in_ack(&w->channel, w->now_ms, n);
        bytes += n;
        len -= n;
    }
}

static void give_message(struct world *w, enum agent_message_type type, int64_t sequence, const void *payload,
                         size_t len)
{
    static uint8_t frame[WEBSOCKET_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + 8192];
    uint8_t *content = frame + WEBSOCKET_HEADROOM;
    struct agent_message m = {.type = type, .created_unix_ms = 1, .sequence = sequence, .payload = payload};
    m.payload_len = len;
    m.payload_type = PAYLOAD_OUTPUT;
    agent_message_write_header(content, &m);
    if (len > 0)
        memcpy(content + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    size_t header = websocket_seal(content, AGENT_MESSAGE_HEADER_SIZE + len, WEBSOCKET_BINARY, NULL);
    give(w, content - header, header + AGENT_MESSAGE_HEADER_SIZE + len);
}

/* A payload whose bytes say which message it is. */
static void give_stream_data(struct world *w, uint32_t number, size_t len)
{
    static uint8_t payload[8192];
    memset(payload, 0, sizeof payload);
    len = len < 4 ? 4 : len;
    for (size_t i = 0; i < 4; i++)
        payload[i] = (uint8_t) (number >> (8 * i));
    give_message(w, AGENT_MESSAGE_INPUT_STREAM_DATA, number, payload, len);
}

static void give_acknowledge(struct world *w, int64_t sequence)
{
    struct acknowledge ack = {.type = AGENT_MESSAGE_OUTPUT_STREAM_DATA, .sequence = sequence};
    char payload[ACKNOWLEDGE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    acknowledge_write(&out, &ack);
    give_message(w, AGENT_MESSAGE_ACKNOWLEDGE, 0, payload, out.len);
}

static void pull(struct world *w, size_t most)
{
    struct data_channel_event event;
    for (int i = 0; i < 64; i++) {
        data_channel_next(&w->channel, w->now_ms, &event);
        if (event.type == DATA_CHANNEL_EVENT_NONE)
            return;
        if (event.type != DATA_CHANNEL_EVENT_DATA)
            continue;
        if (w->in_message == 0 && event.len >= 4) {
            uint32_t number = (uint32_t) event.data[0] | (uint32_t) event.data[1] << 8 |
                              (uint32_t) event.data[2] << 16 | (uint32_t) event.data[3] << 24;
            check(number == (uint32_t) w->next_delivered);
        }
        size_t n = event.len < most ? event.len : most;
        w->in_message += n;
        if (n == event.message_left) {
            w->next_delivered++;
            w->in_message = 0;
        }
        data_channel_consume(&w->channel, n);
        if (n == 0)
            return;
    }
}

static void write_out(struct world *w, size_t most)
{
    struct websocket_event event;
    size_t len;
    while (most > 0) {
        const uint8_t *out = data_channel_out_buf(&w->channel, w->now_ms, &len);
        size_t room;
        uint8_t *in = websocket_in_buf(&w->ear, &room);
        len = len < most ? len : most;
        len = len < room ? len : room;
        if (len == 0)
            return;
        memcpy(in, out, len);
        websocket_in_ack(&w->ear, len);
        data_channel_out_ack(&w->channel, w->now_ms, len);
        most -= len;
        do
            check(websocket_next(&w->ear, &event, NULL) == 0);
        while (event.type != WEBSOCKET_EVENT_NONE && event.type != WEBSOCKET_EVENT_CLOSE);
    }
}

static void connect(struct world *w)
{
    if (data_channel_connect(&w->channel, w->now_ms, str_from("{}"), NULL) == 0)
        websocket_decoder_init(&w->ear, WEBSOCKET_SERVER, w->ear_buffer, sizeof w->ear_buffer);
}

static void send(struct world *w, size_t len, enum pacer_class class)
{
    static const uint8_t zeroes[16384];
    len %= sizeof zeroes + 1;
    size_t room = data_channel_send_room(&w->channel, w->now_ms, class);
    check(data_channel_send(&w->channel, w->now_ms, class, zeroes, len) == (len <= room));
}

static void peer_step(struct world *w, struct script *s, uint32_t what, uint32_t arg)
{
    uint32_t near = (uint32_t) w->channel.inbox.expected;
    size_t len = arg % 256 < s->left ? arg % 256 : s->left;
    switch (what) {
    case 0:
        give(w, s->at, len);
        s->at += len;
        s->left -= len;
        break;
    case 1:
        give_stream_data(w, near, arg % 1100);
        break;
    case 2:
        give_stream_data(w, near + arg % 32, arg % 64);
        break;
    case 3:
        give_stream_data(w, arg * 65537, arg % 5000);
        break;
    case 4:
        give_stream_data(w, arg < near ? near - arg : 0, 8);
        break;
    case 5:
        give_acknowledge(w, w->channel.outbox.oldest + arg % 64);
        break;
    case 6:
        give_acknowledge(w, (int64_t) arg << (arg % 40));
        break;
    default:
        give_message(w, arg % 2 == 0 ? AGENT_MESSAGE_PAUSE_PUBLICATION : AGENT_MESSAGE_START_PUBLICATION, 0,
                     NULL, 0);
        break;
    }
}

static void own_step(struct world *w, struct script *s, uint32_t what, uint32_t arg)
{
    switch (what) {
    case 8:
        send(w, arg, arg % 3 == 0 ? PACER_INTERACTIVE : PACER_BULK);
        break;
    case 9:
        write_out(w, arg % 7 == 0 ? 1 : 65536);
        break;
    case 10:
        pull(w, arg % 3 == 0 ? arg : SIZE_MAX);
        break;
    case 11:
        data_channel_disconnect(&w->channel, w->now_ms, "script");
        break;
    case 12:
        connect(w);
        break;
    case 13:
        w->now_ms += arg;
        break;
    case 14:
        data_channel_send_message(&w->channel, PAYLOAD_HANDSHAKE_COMPLETE, s->at,
                                  s->left < arg ? s->left : arg, NULL);
        if (arg % 4 == 0)
            data_channel_hold(&w->channel, w->now_ms + arg);
        break;
    default:
        data_channel_shut_down(&w->channel, w->now_ms, WEBSOCKET_CLOSE_NORMAL, str_from("script"));
        break;
    }
}

static void step(struct world *w, struct script *s)
{
    uint32_t what = take(s, 1);
    uint32_t arg = take(s, 2);
    if (what % 16 < 8)
        peer_step(w, s, what % 16, arg);
    else if (what % 16 == 15 && arg % 16 != 0)
        give_message(w, AGENT_MESSAGE_CHANNEL_CLOSED, 0, "{}", 2);
    else
        own_step(w, s, what % 16, arg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct script s = {data, size};
    memset(&w, 0, sizeof w);
    struct data_channel_config config = {.role = DATA_CHANNEL_AGENT,
                                         .ping_interval_ms = 54000,
                                         .user = fresh_pool(0, FRESH_POOL_BLOCKS),
                                         .memory = fresh_memory(0, DATA_CHANNEL_MEMORY_SIZE)};
    uint32_t how = take(&s, 1);
    config.peer_ignores_duplicates = how % 2 == 0;
    config.messages_per_second = how % 4 < 2 ? 0 : 100;
    config.burst_messages = 20;
    data_channel_init(&w.channel, &config, 0);
    connect(&w);
    while (s.left > 0) {
        step(&w, &s);
        data_channel_tick(&w.channel, w.now_ms);
        check(w.channel.event_waits || data_channel_deadline(&w.channel, w.now_ms) > w.now_ms);
        check(w.channel.inbox.used <= INBOX_MESSAGES && w.channel.ack_count <= DATA_CHANNEL_ACKS_MAX);
        check(outbox_counted(&w.channel.outbox) <= OUTBOX_WINDOW + OUTBOX_FRESH);
    }
    return 0;
}
