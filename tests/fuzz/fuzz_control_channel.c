/*
 * A control channel whose service says anything at any time, over connections that come and go. What it sends
 * is well-formed all the same, deadlines are kept, and no table grows beyond its size.
 */
#include "channel/control_channel.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct control_channel channel;
static struct websocket_decoder ear;
static uint8_t ear_memory[CONTROL_CHANNEL_OUTPUT_SIZE + WEBSOCKET_HEADROOM];
static int64_t now_ms;

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* The gateway's part: a lost connection is followed by the next. */
static void connect(void)
{
    websocket_decoder_init(&ear, WEBSOCKET_SERVER, ear_memory, sizeof ear_memory);
    check(control_channel_connected(&channel, now_ms, STR_LITERAL("{}"), NULL) == 0);
}

static void pull(void)
{
    struct control_channel_event event;
    do {
        control_channel_next(&channel, now_ms, &event);
        if (event.type == CONTROL_CHANNEL_LOST)
            connect();
    } while (event.type != CONTROL_CHANNEL_NOTHING);
}

static void feed(const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        size_t room;
        uint8_t *in = control_channel_in_buf(&channel, &room);
        if (room == 0) {
            check(!control_channel_is_up(&channel));
            return;
        }
        size_t n = len < room ? len : room;
        memcpy(in, bytes, n);
        control_channel_in_ack(&channel, now_ms, n);
        bytes += n;
        len -= n;
        pull();
    }
}

static void feed_frame(enum websocket_opcode opcode, const uint8_t *content, size_t len)
{
    static uint8_t frame[WEBSOCKET_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + 4096];
    if (len > 0)
        memcpy(frame + WEBSOCKET_HEADROOM, content, len);
    size_t header = websocket_seal(frame + WEBSOCKET_HEADROOM, len, opcode, NULL);
    feed(frame + WEBSOCKET_HEADROOM - header, header + len);
}

static void feed_message(struct reader *r, uint8_t type)
{
    uint8_t message[AGENT_MESSAGE_HEADER_SIZE + 1024];
    size_t len = reader_u8(r) * 4u;
    struct agent_message fields = {.type = (enum agent_message_type)(type % AGENT_MESSAGE_TYPE_COUNT)};
    len = len < r->left ? len : r->left;
    reader_copy(r, message + AGENT_MESSAGE_HEADER_SIZE, len);
    fields.payload = message + AGENT_MESSAGE_HEADER_SIZE;
    fields.payload_len = len;
    fields.created_unix_ms = type * UINT64_C(0x0101010101010101);
    agent_message_write_header(message, &fields);
    feed_frame(WEBSOCKET_BINARY, message, AGENT_MESSAGE_HEADER_SIZE + len);
}

/* Everything that goes out can be read. */
static void hear(size_t most)
{
    struct websocket_event event;
    struct agent_message message;
    size_t len, room;
    while (most > 0) {
        const uint8_t *out = control_channel_out_buf(&channel, now_ms, &len);
        uint8_t *in = websocket_in_buf(&ear, &room);
        len = len < most ? len : most;
        len = len < room ? len : room;
        if (len == 0)
            return;
        memcpy(in, out, len);
        websocket_in_ack(&ear, len);
        control_channel_out_ack(&channel, len);
        most -= len;
        do {
            check(websocket_next(&ear, &event, NULL) == 0);
            if (event.type == WEBSOCKET_EVENT_MESSAGE && event.binary)
                check(agent_message_parse(&message, event.data, event.len, NULL) == 0 &&
                      message.type != AGENT_MESSAGE_UNKNOWN);
        } while (event.type != WEBSOCKET_EVENT_NONE && event.type != WEBSOCKET_EVENT_CLOSE);
        pull();
    }
}

/* What is due when everything that can be done has been done would be due for ever: the timer would spin. */
static void pass_time(uint8_t how_much)
{
    int64_t deadline_ms = control_channel_deadline(&channel);
    now_ms += how_much * 50;
    if (how_much == 255 && deadline_ms > now_ms && deadline_ms != INT64_MAX)
        now_ms = deadline_ms;
    control_channel_tick(&channel, now_ms, now_ms);
    pull();
    size_t len;
    control_channel_out_buf(&channel, now_ms, &len);
    pull();
    check(control_channel_deadline(&channel) > now_ms);
}

static void operate(struct reader *r)
{
    uint8_t operation = reader_u8(r);
    uint8_t operand = reader_u8(r);
    size_t len = operand < r->left ? operand : r->left;
    switch (operation % 8) {
    case 0:
        feed(reader_bytes(r, len), len);
        break;
    case 1:
    case 2:
        feed_message(r, operand);
        break;
    case 3:
        feed_frame((enum websocket_opcode)(operation >> 4), r->at, len);
        reader_skip(r, len);
        break;
    case 4:
        pass_time(operand);
        break;
    case 5:
        hear(operand == 255 ? SIZE_MAX : operand);
        break;
    case 6:
        control_channel_report(&channel, now_ms, (struct str){(const char *) r->at, len},
                               operand & 1 ? CONTROL_CHANNEL_REFUSED : CONTROL_CHANNEL_FAILED,
                               (struct str){(const char *) r->at, r->left});
        reader_skip(r, len);
        break;
    default:
        control_channel_disconnected(&channel, now_ms, "broken");
        break;
    }
    pull();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t seed[PRNG_SEED_SIZE] = {7};
    struct reader r = reader_of(data, size < 4096 ? size : 4096);
    now_ms = 1000;
    control_channel_init(&channel, STR_LITERAL("ecs:c_t_r"), seed);
    connect();
    pass_time(0);
    while (r.left > 0)
        operate(&r);
    check(channel.report_count <= CONTROL_CHANNEL_REPORTS + CONTROL_CHANNEL_REFUSALS &&
          channel.refusal_count <= CONTROL_CHANNEL_REFUSALS &&
          channel.types_told_count <= CONTROL_CHANNEL_TYPES_TOLD);
    return 0;
}
