/*
 * The data channel against a peer that does what the test says. Tests that begin with "pitfall" are those of
 * protocol.md, section 9, by number.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "channel/data_channel.h"
#include "lib/fresh_pool.h"

enum { HEARD_MAX = 20000, PAYLOAD = AGENT_MESSAGE_STREAM_PAYLOAD_MAX, FAR_MS = 1000000 };

/* What came out of the channel, message by message. */
struct heard {
    enum agent_message_type type;  /* UNKNOWN: a text message */
    enum websocket_opcode control; /* or a control frame */
    int64_t sequence;              /* of an acknowledgement: the number acknowledged */
    uint32_t payload_type;
    uint64_t flags;
    uint8_t id[UUID_SIZE];
    size_t payload_len;
    char start[64]; /* of the payload, or of the text */
};

static struct data_channel channel;
static struct websocket_decoder ear;
static uint8_t ear_buffer[65536];
static struct heard heard[HEARD_MAX];
static size_t heard_count;
static int64_t now_ms;
static void *memory;
static struct pool_user *user;

/* ---- the harness ---- */

static void connect(void)
{
    struct error err = ERROR_INIT;

    websocket_decoder_init(&ear, WEBSOCKET_SERVER, ear_buffer, sizeof ear_buffer);
    assert_int_equal(data_channel_connect(&channel, now_ms, str_from("{\"TokenValue\":\"secret\"}"), &err),
                     0);
}

static struct data_channel_config usual(void)
{
    struct data_channel_config config = {
        .role = DATA_CHANNEL_AGENT,
        .peer_ignores_duplicates = true,
        .ping_interval_ms = 54000,
        .unix_offset_ms = 1700000000000,
        .user = user,
        .memory = memory,
    };

    return config;
}

static void begin(const struct data_channel_config *config)
{
    fresh_memory(0, DATA_CHANNEL_MEMORY_SIZE);
    fresh_pool(0, FRESH_POOL_BLOCKS);
    now_ms = 1000;
    heard_count = 0;
    data_channel_init(&channel, config, now_ms);
    connect();
}

static int fresh(void **state)
{
    (void) state;
    memory = fresh_memory(0, DATA_CHANNEL_MEMORY_SIZE);
    user = fresh_pool(0, FRESH_POOL_BLOCKS);
    struct data_channel_config config = usual();
    begin(&config);
    return 0;
}

static void note_message(struct heard *h, const struct websocket_event *e)
{
    struct agent_message m;
    struct acknowledge ack;
    const void *start = e->data;
    size_t len = e->len;

    if (e->binary) {
        assert_int_equal(agent_message_parse(&m, e->data, e->len, NULL), 0);
        h->type = m.type;
        h->sequence = m.sequence;
        h->payload_type = m.payload_type;
        h->flags = m.flags;
        h->payload_len = m.payload_len;
        memcpy(h->id, m.id, sizeof h->id);
        start = m.payload;
        len = m.payload_len;
        assert_in_range(m.created_unix_ms, 1700000000000, 1700000000000 + 4 * FAR_MS);
    }
    if (h->type == AGENT_MESSAGE_ACKNOWLEDGE) {
        assert_int_equal(acknowledge_parse(&ack, (struct str){start, len}, NULL), 0);
        h->sequence = ack.sequence;
        char id[48];
        size_t at;
        (void) snprintf(id, sizeof id, "MessageId\":\"%02x", (unsigned) (uint8_t) ack.sequence);
        assert_true(str_find((struct str){start, len}, id, &at)); /* say() made it so */
    }
    memcpy(h->start, start, len < sizeof h->start - 1 ? len : sizeof h->start - 1);
}

static bool note_next(void)
{
    struct websocket_event e;

    assert_int_equal(websocket_next(&ear, &e, NULL), 0);
    if (e.type == WEBSOCKET_EVENT_NONE)
        return false;
    assert_true(heard_count < HEARD_MAX);
    struct heard *h = &heard[heard_count++];
    memset(h, 0, sizeof *h);
    if (e.type == WEBSOCKET_EVENT_MESSAGE) {
        note_message(h, &e);
        return true;
    }
    h->control = e.type == WEBSOCKET_EVENT_CLOSE  ? WEBSOCKET_CLOSE
                 : e.type == WEBSOCKET_EVENT_PING ? WEBSOCKET_PING
                                                  : WEBSOCKET_PONG;
    h->sequence = e.code;
    memcpy(h->start, e.data, e.len < sizeof h->start - 1 ? e.len : sizeof h->start - 1);
    return e.type != WEBSOCKET_EVENT_CLOSE;
}

/* Takes up to `most` bytes of output. */
static void hear_bytes(size_t most)
{
    while (most > 0) {
        size_t len, room;
        const uint8_t *out = data_channel_out_buf(&channel, now_ms, &len);
        uint8_t *in = websocket_in_buf(&ear, &room);

        len = len < most ? len : most;
        if (len == 0)
            return;
        memcpy(in, out, len);
        websocket_in_ack(&ear, len);
        data_channel_out_ack(&channel, now_ms, len);
        most -= len;
        while (note_next())
            ;
    }
}

/* All that the channel has to say now; what it said before is forgotten. Returns how many messages. */
static size_t hear(void)
{
    heard_count = 0;
    hear_bytes(SIZE_MAX);
    return heard_count;
}

static size_t heard_of(enum agent_message_type type)
{
    size_t count = 0;

    for (size_t i = 0; i < heard_count; i++)
        count += heard[i].control == 0 && heard[i].type == type;
    return count;
}

static size_t hear_stream_data(void)
{
    hear();
    return heard_of(AGENT_MESSAGE_OUTPUT_STREAM_DATA);
}

static void give(const uint8_t *bytes, size_t len)
{
    while (len > 0) {
        size_t room;
        uint8_t *in = data_channel_in_buf(&channel, &room);
        size_t n = len < room ? len : room;

        assert_true(n > 0);
        memcpy(in, bytes, n);
        data_channel_in_ack(&channel, now_ms, n);
        bytes += n;
        len -= n;
    }
}

static void say_frame(enum websocket_opcode opcode, const void *content, size_t len)
{
    static uint8_t frame[WEBSOCKET_HEADROOM + 65536];

    memcpy(frame + WEBSOCKET_HEADROOM, content, len);
    size_t header = websocket_seal(frame + WEBSOCKET_HEADROOM, len, opcode, NULL);
    give(frame + WEBSOCKET_HEADROOM - header, header + len);
}

static void say(enum agent_message_type type, int64_t sequence, uint32_t payload_type, const void *payload,
                size_t len)
{
    static uint8_t message[AGENT_MESSAGE_HEADER_SIZE + 16384];
    struct agent_message m = {.type = type,
                              .created_unix_ms = 1,
                              .sequence = sequence,
                              .payload_type = payload_type,
                              .payload = payload,
                              .payload_len = len};

    m.id[0] = (uint8_t) sequence;
    agent_message_write_header(message, &m);
    if (len > 0)
        memcpy(message + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    say_frame(WEBSOCKET_BINARY, message, AGENT_MESSAGE_HEADER_SIZE + len);
}

static void say_data(int64_t sequence, const char *payload)
{
    say(AGENT_MESSAGE_INPUT_STREAM_DATA, sequence, PAYLOAD_OUTPUT, payload, strlen(payload));
}

static void say_ack(int64_t sequence)
{
    struct acknowledge ack = {.type = AGENT_MESSAGE_OUTPUT_STREAM_DATA, .sequence = sequence};
    char payload[ACKNOWLEDGE_PAYLOAD_MAX];
    struct writer w = writer_of(payload, sizeof payload);

    acknowledge_write(&w, &ack);
    say(AGENT_MESSAGE_ACKNOWLEDGE, 0, 0, payload, w.len);
}

/* All events but DATA, then all data as text. */
static enum data_channel_event_type next_event(struct data_channel_event *event)
{
    data_channel_next(&channel, now_ms, event);
    return event->type;
}

static void assert_delivered(const char *expected)
{
    char text[4096] = "";
    struct data_channel_event event;

    while (next_event(&event) != DATA_CHANNEL_EVENT_NONE) {
        if (event.type != DATA_CHANNEL_EVENT_DATA)
            continue;
        strncat(text, (const char *) event.data, event.len);
        data_channel_consume(&channel, event.len);
    }
    assert_string_equal(text, expected);
}

static void assert_lost(uint16_t code, const char *text)
{
    struct data_channel_event event;

    assert_int_equal(data_channel_state(&channel), CONNECTION_DOWN);
    assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_LOST);
    assert_int_equal(event.close_code, code);
    assert_non_null(strstr(event.text, text));
    assert_int_not_equal(next_event(&event), DATA_CHANNEL_EVENT_LOST);
}

static void cut(void)
{
    data_channel_disconnect(&channel, now_ms, "cut");
    assert_lost(0, "cut");
}

static void send_messages(size_t count)
{
    static const uint8_t bytes[PAYLOAD];

    for (size_t i = 0; i < count; i++)
        assert_true(data_channel_send(&channel, now_ms, PACER_BULK, bytes, sizeof bytes));
}

/* Sends and hears `count` messages, however many may wait unsent. */
static void pass_messages(size_t count)
{
    for (size_t i = 0; i < count; i++) {
        send_messages(1);
        assert_int_equal(hear_stream_data(), 1);
    }
}

static void tick_to(int64_t then_ms)
{
    now_ms = then_ms;
    data_channel_tick(&channel, now_ms);
}

static struct data_channel_stats stats(void)
{
    struct data_channel_stats s;

    data_channel_stats(&channel, &s);
    return s;
}

/* ---- the connection ---- */

static void the_token_goes_first_and_is_wiped(void **state)
{
    (void) state;
    data_channel_send_plain(&channel, now_ms, AGENT_MESSAGE_AGENT_SESSION_STATE, str_from("{}"), NULL);
    send_messages(1);
    assert_int_equal(hear(), 3);
    assert_string_equal(heard[0].start, "{\"TokenValue\":\"secret\"}");
    assert_int_equal(heard[1].type, AGENT_MESSAGE_AGENT_SESSION_STATE);
    assert_int_equal(heard[1].flags, AGENT_MESSAGE_SYN | AGENT_MESSAGE_FIN);
    assert_int_equal(heard[1].sequence, 0);
    assert_int_equal(heard[2].type, AGENT_MESSAGE_OUTPUT_STREAM_DATA);
    assert_int_equal(heard[2].flags, AGENT_MESSAGE_SYN);
    for (size_t i = 0; i < DATA_CHANNEL_PLAIN_SIZE; i++)
        assert_int_equal(channel.connection.config.out[i], 0);
}

static void output_is_the_same_byte_by_byte(void **state)
{
    (void) state;
    say_data(0, "x");
    send_messages(2);
    for (int i = 0; i < 5000; i++)
        hear_bytes(1);
    assert_int_equal(heard_count, 4);
    assert_int_equal(heard[0].type, AGENT_MESSAGE_UNKNOWN);
    assert_int_equal(heard[1].type, AGENT_MESSAGE_ACKNOWLEDGE);
    assert_int_equal(heard[2].sequence, 0);
    assert_int_equal(heard[3].sequence, 1);
}

static void pings_are_answered_and_silence_ends_the_connection(void **state)
{
    (void) state;
    hear();
    say_frame(WEBSOCKET_PING, "are you there", 13);
    assert_int_equal(hear(), 1);
    assert_int_equal(heard[0].control, WEBSOCKET_PONG);
    assert_string_equal(heard[0].start, "are you there");
    assert_int_equal(data_channel_deadline(&channel, now_ms), 1000 + 54000);
    tick_to(1000 + 54000);
    assert_int_equal(hear(), 1);
    assert_int_equal(heard[0].control, WEBSOCKET_PING);
    assert_string_equal(heard[0].start, "keepalive");
    tick_to(1000 + 54000 + 59999);
    assert_int_equal(data_channel_state(&channel), CONNECTION_UP);
    hear();
    say_frame(WEBSOCKET_PONG, "keepalive", 9);
    int64_t heard_last_ms = now_ms;
    tick_to(heard_last_ms + 54000 + 59999);
    assert_int_equal(data_channel_state(&channel), CONNECTION_UP);
    tick_to(heard_last_ms + 54000 + 60000);
    assert_lost(0, "nothing came from the service");
}

static void what_is_no_websocket_is_answered_with_1002(void **state)
{
    (void) state;
    hear();
    give((const uint8_t *) "HTTP/1.1 500", 12);
    assert_int_equal(data_channel_state(&channel), CONNECTION_CLOSING);
    assert_false(data_channel_wants_input(&channel));
    assert_int_equal(hear(), 1);
    assert_int_equal(heard[0].control, WEBSOCKET_CLOSE);
    assert_int_equal(heard[0].sequence, 1002);
    assert_lost(1002, "websocket: the peer sent reserved bits");
}

static void shutting_down_sends_acknowledgements_then_goodbye(void **state)
{
    (void) state;
    hear();
    say_data(0, "last words");
    send_messages(1);
    data_channel_shut_down(&channel, now_ms, WEBSOCKET_CLOSE_NORMAL, str_from("done"));
    assert_int_equal(hear(), 2);
    assert_int_equal(heard[0].type, AGENT_MESSAGE_ACKNOWLEDGE);
    assert_int_equal(heard[1].control, WEBSOCKET_CLOSE);
    assert_string_equal(heard[1].start, "done");
    assert_int_equal(data_channel_state(&channel), CONNECTION_CLOSING);
    say_frame(WEBSOCKET_CLOSE, "\x03\xe8", 2);
    assert_delivered("last words");
    assert_int_equal(data_channel_state(&channel), CONNECTION_DOWN);
}

static void shutting_down_does_not_wait_for_ever(void **state)
{
    (void) state;
    data_channel_shut_down(&channel, now_ms, WEBSOCKET_CLOSE_NORMAL, str_from(""));
    assert_int_equal(data_channel_deadline(&channel, now_ms), now_ms + CONNECTION_CLOSING_MS);
    tick_to(now_ms + CONNECTION_CLOSING_MS);
    assert_lost(1000, "closed by us");
}

static void calls_out_of_season_are_refused(void **state)
{
    struct error err = ERROR_INIT;
    size_t len;

    (void) state;
    assert_int_equal(data_channel_connect(&channel, now_ms, str_from("x"), &err), ERROR_INVALID);
    assert_string_equal(err.text, "websocket: a connection is open already");
    cut();
    data_channel_disconnect(&channel, now_ms, "again");
    data_channel_shut_down(&channel, now_ms, 1000, str_from(""));
    assert_int_equal(data_channel_state(&channel), CONNECTION_DOWN);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    data_channel_out_buf(&channel, now_ms, &len);
    assert_int_equal(len, 0);
    assert_false(data_channel_wants_input(&channel));
    assert_int_equal(data_channel_deadline(&channel, now_ms), INT64_MAX);
    assert_int_equal(
        data_channel_send_plain(&channel, now_ms, AGENT_MESSAGE_AGENT_SESSION_STATE, str_from("{}"), &err),
        ERROR_CLOSED);
    char long_text[DATA_CHANNEL_PLAIN_SIZE] = {0};
    assert_int_equal(data_channel_connect(&channel, now_ms, (struct str){long_text, sizeof long_text}, &err),
                     ERROR_TOO_LARGE);
}

/* ---- the stream ---- */

static void bytes_fill_whole_messages_and_other_types_stay_apart(void **state)
{
    static const size_t lengths[] = {1024, 476, 4, 5};
    char bytes[1500];

    (void) state;
    hear();
    memset(bytes, 'x', sizeof bytes);
    for (int i = 0; i < 15; i++)
        assert_true(data_channel_send(&channel, now_ms, PACER_BULK, bytes + 100 * i, 100));
    assert_int_equal(data_channel_send_message(&channel, PAYLOAD_FLAG, "\0\0\0\3", 4, NULL), 0);
    assert_true(data_channel_send(&channel, now_ms, PACER_BULK, "after", 5));
    assert_int_equal(hear_stream_data(), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(heard[i].sequence, i);
        assert_int_equal(heard[i].payload_len, lengths[i]);
        assert_int_equal(heard[i].payload_type, i == 2 ? PAYLOAD_FLAG : PAYLOAD_OUTPUT);
        assert_int_equal(heard[i].flags, i == 0 ? AGENT_MESSAGE_SYN : 0);
        assert_int_equal(heard[i].id[6] >> 4, 4); /* a version 4 UUID */
    }
    assert_memory_not_equal(heard[0].id, heard[1].id, UUID_SIZE);
}

static void long_handshake_messages_go_whole(void **state)
{
    char payload[OUTBOX_LARGE_PAYLOAD_MAX + 1];
    struct error err = ERROR_INIT;

    (void) state;
    memset(payload, 'h', sizeof payload);
    assert_int_equal(
        data_channel_send_message(&channel, PAYLOAD_HANDSHAKE_REQUEST, payload, sizeof payload, &err),
        ERROR_TOO_LARGE);
    for (int i = 0; i < OUTBOX_LARGE; i++)
        assert_int_equal(data_channel_send_message(&channel, PAYLOAD_HANDSHAKE_REQUEST, payload,
                                                   OUTBOX_LARGE_PAYLOAD_MAX, &err),
                         0);
    assert_int_equal(data_channel_send_message(&channel, PAYLOAD_HANDSHAKE_REQUEST, payload, 1025, &err),
                     ERROR_UNAVAILABLE);
    hear();
    assert_int_equal(heard[1].payload_len, OUTBOX_LARGE_PAYLOAD_MAX);
    say_ack(0);
    assert_int_equal(data_channel_send_message(&channel, PAYLOAD_HANDSHAKE_REQUEST, payload, 1025, &err), 0);
    hear();
    assert_int_equal(heard[0].payload_len, 1025);
}

static void data_is_delivered_in_order_and_acknowledged_at_once(void **state)
{
    (void) state;
    hear();
    say_data(1, "b");
    say_data(0, "a");
    say_data(3, "d");
    assert_int_equal(hear(), 3);
    assert_int_equal(heard_of(AGENT_MESSAGE_ACKNOWLEDGE), 3);
    assert_int_equal(heard[0].sequence, 1);
    assert_int_equal(heard[1].sequence, 0);
    assert_int_equal(heard[2].sequence, 3);
    assert_delivered("ab");
    say_data(2, "c");
    assert_delivered("cd");
}

static void damaged_messages_are_counted_and_not_acknowledged(void **state)
{
    uint8_t message[AGENT_MESSAGE_HEADER_SIZE + 1] = {0};

    (void) state;
    hear();
    struct agent_message m = {
        .type = AGENT_MESSAGE_INPUT_STREAM_DATA, .payload = message + 120, .payload_len = 1};
    agent_message_write_header(message, &m);
    message[120] = 'x';
    say_frame(WEBSOCKET_BINARY, message, sizeof message);
    say_frame(WEBSOCKET_TEXT, "{}", 2);
    say(AGENT_MESSAGE_ACKNOWLEDGE, 0, 0, "{}", 2);
    assert_int_equal(hear(), 0);
    assert_int_equal(stats().invalid, 3);
    assert_delivered("");
}

static void service_messages_are_shown_and_block_nothing(void **state)
{
    struct data_channel_event event;

    (void) state;
    say(AGENT_MESSAGE_CHANNEL_CLOSED, 0, 261, "{\"Output\":\"bye\"}", 16);
    size_t room;
    data_channel_in_buf(&channel, &room);
    assert_int_equal(room, 0);
    assert_false(data_channel_wants_input(&channel));
    assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_CHANNEL_CLOSED);
    assert_int_equal(event.len, 16);
    assert_memory_equal(event.data, "{\"Output\":\"bye\"}", 16);
    assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_NONE);
    say(AGENT_MESSAGE_AGENT_JOB, 0, 0, "{}", 2);
    assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_OTHER);
    assert_true(str_equal_text(event.type_text, "agent_job"));
    assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_NONE);
    assert_true(data_channel_wants_input(&channel));
}

static void pausing_stops_stream_data_but_not_acknowledgements(void **state)
{
    struct data_channel_event event;

    (void) state;
    hear();
    send_messages(1);
    say(AGENT_MESSAGE_PAUSE_PUBLICATION, 0, 0, "", 0);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    assert_int_equal(hear(), 0);
    tick_to(now_ms + 5000);
    assert_int_equal(hear(), 0);
    assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_NONE);
    say(AGENT_MESSAGE_START_PUBLICATION, 0, 0, "", 0);
    assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_NONE);
    assert_int_equal(hear_stream_data(), 1);
    for (int i = 0; i < 2; i++) { /* stream data and acknowledgements resume as well */
        say(AGENT_MESSAGE_PAUSE_PUBLICATION, 0, 0, "", 0);
        assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_NONE);
        if (i == 0)
            say_ack(0);
        else
            say_data(0, "x");
        assert_int_not_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    }
}

static void rto_follows_the_round_trip_times(void **state)
{
    (void) state;
    assert_int_equal(channel.outbox.retransmission.rto_ms, RETRANSMISSION_RTO_MIN_MS);
    for (int i = 0; i < 100; i++) {
        pass_messages(1);
        now_ms += 40;
        say_ack(i);
    }
    assert_int_equal(channel.outbox.retransmission.rto_ms, RETRANSMISSION_RTO_MIN_MS);
    for (int i = 100; i < 140; i++) {
        now_ms += 500; /* each is a round trip of its own */
        pass_messages(1);
        now_ms += i % 2 == 0 ? 100 : 480;
        say_ack(i);
        data_channel_tick(&channel, now_ms);
    }
    assert_in_range(channel.outbox.retransmission.rto_ms, 800, 1300); /* about 290 and 4 times 190 */
}

/* Many acknowledgements of one moment say no more than one of them. */
static void rto_knows_how_round_trips_vary(void **state)
{
    int sequence = 0;

    (void) state;
    for (int i = 0; i < 40; i++) {
        pass_messages(50);
        now_ms += i % 2 == 0 ? 190 : 40;
        for (int n = 0; n < 50; n++)
            say_ack(sequence++);
        if (i >= 10)
            assert_in_range(channel.outbox.retransmission.rto_ms, 200, 600);
    }
    assert_int_equal(stats().resent, 0);
}

/* What is resent can't be measured, so a timeout below the round trip would stay there for ever. */
static void rto_rises_above_a_longer_round_trip(void **state)
{
    (void) state;
    for (int i = 0; i < 20; i++) {
        pass_messages(1);
        for (int waited_ms = 0; waited_ms < 1200; waited_ms += 20) {
            tick_to(now_ms + 20);
            hear();
        }
        say_ack(i);
    }
    assert_in_range(stats().resent, 1, 6); /* all of the first message: after 20, 40, 80, 160, 320, 640 ms */
    assert_in_range(channel.outbox.retransmission.rto_ms, 1200, 2000);
}

/* Those that are overdue but were not sent again are as good a measure as any. */
static void rto_is_measured_by_overdue_messages_too(void **state)
{
    (void) state;
    pass_messages(50);
    tick_to(now_ms + 250);
    assert_in_range(hear_stream_data(), 1, 8);
    now_ms += 50;
    for (int i = 0; i < 50; i++)
        say_ack(i);
    assert_int_equal(channel.outbox.retransmission.rto_ms,
                     900); /* the first measurement, 300, and 4 times half of it */
}

static void acknowledged_and_drained_are_known(void **state)
{
    (void) state;
    assert_true(data_channel_drained(&channel));
    int64_t number = data_channel_next_sequence(&channel);
    send_messages(2);
    assert_false(data_channel_drained(&channel));
    say_ack(number); /* never sent: nonsense */
    assert_false(data_channel_acknowledged(&channel, number));
    hear();
    say_ack(number + 1);
    assert_false(data_channel_acknowledged(&channel, number));
    assert_true(data_channel_acknowledged(&channel, number + 1));
    say_ack(number);
    assert_true(data_channel_acknowledged(&channel, number));
    assert_true(data_channel_drained(&channel));
    say_ack(number);
    assert_int_equal(stats().acknowledged, 2);
}

/* What waits behind a frame that the socket has not taken may be acknowledged meanwhile. */
static void a_message_acknowledged_while_it_is_resent_is_finished_and_freed(void **state)
{
    (void) state;
    pass_messages(1);
    now_ms += 1000;
    heard_count = 0;
    hear_bytes(10);
    say_ack(0);
    assert_true(data_channel_drained(&channel));
    hear_bytes(SIZE_MAX);
    assert_int_equal(heard_count, 1);
    assert_int_equal(heard[0].sequence, 0);
    pass_messages(1);
    assert_int_equal(heard[0].sequence, 1);
    assert_int_equal(channel.outbox.untouched, 1); /* the slot was free again */
}

static void a_quiet_session_touches_little_memory(void **state)
{
    static unsigned char pages[DATA_CHANNEL_MEMORY_SIZE / 4096 + 1];
    size_t resident = 0;

    (void) state;
    for (int i = 0; i < 300; i++) {
        pass_messages(1);
        say_ack(i);
        say_data(i, "keystroke");
        assert_delivered("keystroke");
        hear();
    }
    assert_int_equal(mincore(memory, DATA_CHANNEL_MEMORY_SIZE, pages), 0);
    for (size_t i = 0; i < DATA_CHANNEL_MEMORY_SIZE / 4096; i++)
        resident += pages[i] & 1;
    assert_true(resident * 4096 <= 64 * 1024);
}

/* ---- pacing ---- */

static void the_pacer_counts_every_transmission_and_tells_when_to_ask_again(void **state)
{
    struct data_channel_config config = usual();

    (void) state;
    config.messages_per_second = 100;
    config.burst_messages = 20;
    begin(&config);
    hear();
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 20 * PAYLOAD);
    send_messages(20);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    assert_int_equal(hear_stream_data(), 20);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    assert_in_range(data_channel_deadline(&channel, now_ms), now_ms + 1, now_ms + 30);
    assert_int_not_equal(data_channel_send_room(&channel, now_ms, PACER_INTERACTIVE), 0);
    /* Acknowledgements are not paced. */
    for (int i = 0; i < 200; i++)
        say_data(i, "x");
    hear();
    assert_int_equal(heard_of(AGENT_MESSAGE_ACKNOWLEDGE), 200);
    /* Resends are: nothing was acknowledged, and still no 2 s see more than 200. */
    size_t sent = 20;
    for (int64_t end_ms = now_ms + 1990; now_ms < end_ms;) {
        tick_to(data_channel_deadline(&channel, now_ms));
        sent += hear_stream_data();
    }
    assert_true(sent > 20 && sent <= 200);
}

static void what_waits_before_the_pacer_is_what_it_allows(void **state)
{
    (void) state;
    hear();
    send_messages(DATA_CHANNEL_UNSENT_MAX);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    assert_false(data_channel_send(&channel, now_ms, PACER_BULK, "x", 1));
    assert_int_equal(hear_stream_data(), DATA_CHANNEL_UNSENT_MAX);
}

/* The fault: a caller with more to send than the pacer allows was to ask again at once, and at once again, as
 * long as the socket did not take what the pacer allowed already: turns without end. */
static void a_socket_that_takes_nothing_is_not_asked_again_and_again(void **state)
{
    struct data_channel_config config = usual();
    (void) state;
    config.messages_per_second = 100;
    config.burst_messages = 20;
    begin(&config);
    hear();
    while (data_channel_send_room(&channel, now_ms, PACER_BULK) >= PAYLOAD)
        send_messages(1);
    assert_int_equal(channel.outbox.lists[OUTBOX_UNSENT].count, 20);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    assert_true(data_channel_deadline(&channel, now_ms) > now_ms);
    assert_int_equal(hear_stream_data(), 20);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    assert_in_range(data_channel_deadline(&channel, now_ms), now_ms + 1,
                    now_ms + 100); /* now it is the pacer */
}

static void pause_at_a_high_rate(void)
{
    struct data_channel_config config = usual();

    config.messages_per_second = 100;
    config.burst_messages = 190;
    begin(&config);
    hear();
    pass_messages(170);
    say(AGENT_MESSAGE_PAUSE_PUBLICATION, 0, 0, "", 0);
}

/* As the service cuts off who is too fast; what the client still acknowledges does not undo the warning. */
static void a_pause_before_the_end_of_the_connection_slows_down(void **state)
{
    struct data_channel_event event;

    (void) state;
    pause_at_a_high_rate();
    assert_int_equal(channel.pacer.rate, 100);
    say_ack(0);
    next_event(&event);
    tick_to(now_ms + 1000);
    say_frame(WEBSOCKET_CLOSE,
              "\x03\xe8"
              "Bye",
              5);
    hear();
    assert_int_equal(channel.pacer.rate, 50);
}

static void two_pauses_slow_down(void **state)
{
    (void) state;
    pause_at_a_high_rate();
    say(AGENT_MESSAGE_PAUSE_PUBLICATION, 0, 0, "", 0);
    assert_int_equal(channel.pacer.rate, 50);
}

/* The client was away for a moment, as it is once an hour. */
static void a_pause_that_ends_changes_nothing(void **state)
{
    struct data_channel_event event;

    (void) state;
    pause_at_a_high_rate();
    say(AGENT_MESSAGE_START_PUBLICATION, 0, 0, "", 0);
    next_event(&event);
    cut();
    assert_int_equal(channel.pacer.rate, 100);
    /* Nor does one that nobody's rate can be the reason for. */
    connect();
    tick_to(now_ms + 5000);
    say(AGENT_MESSAGE_PAUSE_PUBLICATION, 0, 0, "", 0);
    next_event(&event);
    next_event(&event);
    cut();
    assert_int_equal(channel.pacer.rate, 100);
}

/* ---- pitfalls ---- */

/* The connection dies with acknowledgements under way; AWS's client ignores what it has processed. */
static void pitfall_1_ignored_resends_leave_the_window_and_are_given_up_after_ten(void **state)
{
    const int lost = 20;
    size_t resends[20] = {0};

    (void) state;
    pass_messages((size_t) lost);
    cut();
    connect();
    int64_t fresh_number = lost;
    for (int64_t end_ms = now_ms + 2 * FAR_MS; now_ms < end_ms && stats().given_up < (uint64_t) lost;) {
        if (data_channel_send_room(&channel, now_ms, PACER_BULK) >= PAYLOAD)
            send_messages(1);
        hear();
        for (size_t i = 0; i < heard_count; i++) {
            if (heard[i].type != AGENT_MESSAGE_OUTPUT_STREAM_DATA)
                continue;
            if (heard[i].sequence >= lost)
                say_ack(heard[i].sequence);
            else
                resends[heard[i].sequence]++;
        }
        tick_to(now_ms + 5);
        if (data_channel_next_sequence(&channel) == fresh_number)
            break;
        if (data_channel_next_sequence(&channel) > 9000) /* not by the other rule */
            tick_to(now_ms + 2000);
    }
    assert_int_equal(stats().given_up, lost);
    for (int i = 0; i < lost; i++) /* more when they were holes */
        assert_in_range(resends[i], OUTBOX_GIVE_UP_RESENDS, 100);
}

/* A client whose store of early messages is full, and which had no room for the one that it needs next: from
 * then on it acknowledges nothing but that one. */
static void a_hole_is_resent_while_nothing_else_is_acknowledged(void **state)
{
    enum { KEPT = 500, MOST_MS = 2000 };
    int64_t last_ms = 0, longest_ms = 0;
    int resends = 0;

    (void) state;
    for (int i = 0; i <= KEPT; i++) {
        pass_messages(1);
        if (i > 0)
            say_ack(i);
    }
    last_ms = now_ms;
    for (int64_t end_ms = now_ms + 60000; now_ms < end_ms;) {
        if (data_channel_send_room(&channel, now_ms, PACER_BULK) >= PAYLOAD)
            send_messages(1);
        hear();
        for (size_t i = 0; i < heard_count; i++) {
            if (heard[i].type != AGENT_MESSAGE_OUTPUT_STREAM_DATA || heard[i].sequence != 0)
                continue;
            longest_ms = now_ms - last_ms > longest_ms ? now_ms - last_ms : longest_ms;
            last_ms = now_ms;
            resends++;
        }
        tick_to(now_ms + 5);
    }
    assert_in_range(resends, 30, 400);
    assert_in_range(longest_ms, 1, MOST_MS);
    assert_int_equal(stats().given_up, 0);
}

static void output_that_nobody_wants_goes_without_its_bytes(void **state)
{
    static const char flag[] = "\0\0\0\1";
    (void) state;
    pass_messages(3);
    assert_int_equal(data_channel_send_message(&channel, PAYLOAD_FLAG, flag, 4, NULL), 0);
    hear();
    send_messages(1); /* unsent */
    say_ack(1);
    data_channel_empty_output(&channel);
    assert_true(data_channel_send(&channel, now_ms, PACER_BULK, "next", 4));
    for (int64_t until_ms = now_ms + 2000; now_ms < until_ms; tick_to(now_ms + 100)) {
        hear();
        for (size_t i = 0; i < heard_count; i++) {
            if (heard[i].type != AGENT_MESSAGE_OUTPUT_STREAM_DATA)
                continue;
            assert_int_not_equal(heard[i].sequence, 1);
            assert_int_equal(heard[i].payload_len, heard[i].sequence < 3 ? 0 : 4);
            assert_string_equal(heard[i].start, heard[i].sequence == 4 ? "next" : "");
            say_ack(heard[i].sequence);
        }
    }
    assert_true(data_channel_drained(&channel));
    assert_int_equal(data_channel_next_sequence(&channel), 5);
}

/* A client that died without a word: what is resent would keep its session, if the service counts that. */
static void a_silent_peer_is_left_alone_until_it_is_heard(void **state)
{
    size_t resent = 0;
    (void) state;
    for (int peer_ignores = 0; peer_ignores < 2; peer_ignores++) {
        struct data_channel_config config = usual();
        config.peer_ignores_duplicates = peer_ignores;
        begin(&config);
        pass_messages(3);
        say_ack(1);
        for (resent = 0; now_ms < 1000 + DATA_CHANNEL_SILENT_MS; resent += hear_stream_data()) {
            assert_false(data_channel_peer_is_silent(&channel, now_ms));
            say_frame(WEBSOCKET_PONG, "", 0);
            tick_to(now_ms + 100);
        }
        assert_in_range(resent, 20, 400);
        for (resent = 0; now_ms < FAR_MS; resent += hear_stream_data()) {
            say_frame(WEBSOCKET_PONG, "", 0); /* the service's */
            tick_to(now_ms + 100);
        }
        assert_int_equal(resent, 0);
        assert_true(data_channel_peer_is_silent(&channel, now_ms));
        if (peer_ignores)
            say(AGENT_MESSAGE_START_PUBLICATION, 0, 0, "", 0);
        else
            say_data(0, "here I am");
        assert_false(data_channel_peer_is_silent(&channel, now_ms));
        for (int64_t until_ms = now_ms + 2000; now_ms < until_ms; resent += hear_stream_data())
            tick_to(now_ms + 100);
        assert_in_range(resent, 1, 40);
        tick_to(now_ms + DATA_CHANNEL_SILENT_MS / 2);
        cut();
        connect(); /* and so does the service's hourly close */
        assert_int_not_equal(hear_stream_data(), 0);
    }
}

static void pitfall_1_a_message_that_was_lost_again_and_again_is_not_given_up(void **state)
{
    size_t sent_at = 0;

    (void) state;
    pass_messages(1); /* number 0: lost */
    for (int i = 1; i <= 30; i++) {
        pass_messages(1);
        say_ack(i);
        for (int k = 0; k < 3; k++) {
            tick_to(now_ms + 300);
            sent_at += hear_stream_data();
        }
    }
    assert_true(sent_at >= 5);
    assert_int_equal(stats().given_up, 0);
    assert_false(data_channel_acknowledged(&channel, 0));
    say_ack(0);
    assert_true(data_channel_acknowledged(&channel, 0));
    assert_true(data_channel_drained(&channel));
}

static void pitfall_1_a_full_window_of_ignored_messages_is_not_the_end(void **state)
{
    (void) state;
    pass_messages(OUTBOX_WINDOW);
    assert_int_equal(channel.outbox.lists[OUTBOX_FIRST_FLIGHT].count, OUTBOX_WINDOW);
    cut();
    connect();
    for (int round = 0; round < 2000 && data_channel_next_sequence(&channel) < 3 * OUTBOX_WINDOW; round++) {
        while (data_channel_send_room(&channel, now_ms, PACER_BULK) >= PAYLOAD)
            send_messages(1);
        hear();
        for (size_t i = 0; i < heard_count; i++) {
            if (heard[i].type == AGENT_MESSAGE_OUTPUT_STREAM_DATA && heard[i].sequence >= OUTBOX_WINDOW)
                say_ack(heard[i].sequence);
        }
        tick_to(now_ms + 5);
    }
    assert_true(data_channel_next_sequence(&channel) >= 3 * OUTBOX_WINDOW);
    assert_int_equal(stats().given_up, 0);
    assert_true(channel.outbox.lists[OUTBOX_SUSPECT].count > 0);
}

/* AWS's client keeps 10,000 early messages: who has acknowledged more than that after a message has it. */
static void pitfall_1_ten_thousand_later_acknowledgements_prove_arrival(void **state)
{
    (void) state;
    pass_messages(1);
    for (int64_t i = 1; i <= OUTBOX_GIVE_UP_LATER; i++) {
        pass_messages(1);
        say_ack(i);
    }
    assert_int_equal(stats().given_up, 0);
    pass_messages(1);
    say_ack(OUTBOX_GIVE_UP_LATER + 1);
    assert_int_equal(stats().given_up, 1);
    assert_true(data_channel_acknowledged(&channel, 0));
}

static void pitfall_1_a_peer_that_acknowledges_old_messages_is_waited_for(void **state)
{
    size_t resends = 0;

    (void) state;
    data_channel_peer_acknowledges_duplicates(&channel);
    pass_messages(1);
    for (int i = 1; i < 12000; i++) {
        if (data_channel_send_room(&channel, now_ms, PACER_BULK) < PAYLOAD)
            break;
        send_messages(1);
        resends += hear_stream_data() - 1;
        say_ack(i);
        tick_to(now_ms + 1);
    }
    assert_true(resends >= 5);
    assert_int_equal(stats().given_up, 0);
    assert_false(data_channel_acknowledged(&channel, 0));
}

static void fill_inbox(int64_t upto)
{
    for (int64_t i = channel.inbox.seen; i < upto; i++) {
        say_data(i, "x");
        hear();
    }
}

/* The fault: what rested when the peer turned out to be one of ours rested for ever, and was always due. */
static void pitfall_1_what_rests_is_resent_when_the_peer_turns_out_to_be_better(void **state)
{
    (void) state;
    send_messages(1);
    hear();
    while (channel.outbox.lists[OUTBOX_RESTING].count == 0) {
        tick_to(data_channel_deadline(&channel, now_ms));
        if (channel.outbox.lists[OUTBOX_RESTING].count == 0)
            hear();
    }
    data_channel_peer_acknowledges_duplicates(&channel);
    assert_int_equal(hear_stream_data(), 0);
    int64_t due_ms = data_channel_deadline(&channel, now_ms);
    assert_in_range(due_ms, now_ms + 1, now_ms + 10000);
    tick_to(due_ms);
    assert_int_equal(hear_stream_data(), 1);
    assert_true(data_channel_deadline(&channel, now_ms) > now_ms);
}

static void pitfall_2_reading_stops_but_not_while_own_data_waits(void **state)
{
    (void) state;
    hear();
    fill_inbox(INBOX_MESSAGES / 2 + 1);
    assert_false(data_channel_wants_input(&channel));
    pass_messages(1);
    assert_true(data_channel_wants_input(&channel));
    say_ack(0);
    assert_false(data_channel_wants_input(&channel));
    tick_to(now_ms + 10 * FAR_MS / 100);
    assert_int_equal(data_channel_state(&channel), CONNECTION_UP); /* who does not read hears nothing */
    struct data_channel_event event;
    assert_int_equal(next_event(&event), DATA_CHANNEL_EVENT_DATA);
    data_channel_consume(&channel, event.len);
    assert_true(data_channel_wants_input(&channel));
}

/* Found by the simulator: half an inbox of early messages, and the one they wait for was never read. */
static void pitfall_2_early_messages_do_not_stop_reading(void **state)
{
    (void) state;
    hear();
    for (int i = 1; i < INBOX_MESSAGES - INBOX_RESERVE; i++) {
        say_data(i, "early");
        hear();
        assert_true(data_channel_wants_input(&channel));
    }
    say_data(0, "expected");
    assert_false(data_channel_wants_input(&channel));
}

static void pitfall_2_what_has_no_room_is_refused_and_few_of_ours_are_in_flight(void **state)
{
    (void) state;
    hear();
    fill_inbox(INBOX_MESSAGES);
    say_data(INBOX_MESSAGES, "no room");
    assert_int_equal(hear(), 0);
    assert_int_equal(stats().refused, 1);
    send_messages(DATA_CHANNEL_BACKPRESSURED_FLIGHT);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    assert_int_equal(hear_stream_data(), DATA_CHANNEL_BACKPRESSURED_FLIGHT);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    say_ack(0);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), PAYLOAD);
    /* The peer holds 8,000 that we refused: nothing new, and after the last
     * acknowledgement no reading either. */
    fill_inbox(INBOX_MESSAGES + DATA_CHANNEL_REFUSED_MAX);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
    assert_true(data_channel_wants_input(&channel));
    for (int i = 1; i < DATA_CHANNEL_BACKPRESSURED_FLIGHT; i++)
        say_ack(i);
    assert_false(data_channel_wants_input(&channel));
}

static void pitfall_3_nothing_follows_handshake_complete_until_the_client_speaks(void **state)
{
    (void) state;
    hear();
    say(AGENT_MESSAGE_INPUT_STREAM_DATA, 0, PAYLOAD_HANDSHAKE_RESPONSE, "{}", 2);
    data_channel_send_message(&channel, PAYLOAD_HANDSHAKE_COMPLETE, "{}", 2, NULL);
    data_channel_hold(&channel, INT64_MAX);
    assert_int_equal(hear(), 2);
    assert_int_equal(heard[0].type, AGENT_MESSAGE_ACKNOWLEDGE); /* of HandshakeResponse, before */
    assert_int_equal(heard[1].payload_type, PAYLOAD_HANDSHAKE_COMPLETE);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_INTERACTIVE), 0);
    data_channel_send_message(&channel, PAYLOAD_FLAG, "\0\0\0\3", 4, NULL);
    assert_int_equal(hear(), 0);
    /* The response comes once more (its acknowledgement is slow): not even that is
     * answered, however long it takes. */
    for (int i = 0; i < 100; i++) {
        say(AGENT_MESSAGE_INPUT_STREAM_DATA, 0, PAYLOAD_HANDSHAKE_RESPONSE, "{}", 2);
        tick_to(now_ms + 5);
        assert_int_equal(hear(), 0);
    }
    say_ack(0); /* HandshakeComplete is acknowledged before it is processed: that is not speaking */
    tick_to(now_ms + 5000);
    assert_int_equal(hear(), 0);
    assert_true(data_channel_holding(&channel));
    say_data(1, "hello");
    assert_false(data_channel_holding(&channel));
    assert_int_equal(hear(), 2);
    assert_int_equal(heard[1].payload_type, PAYLOAD_FLAG);
}

static void pitfall_3_a_lost_handshake_complete_is_resent_after_a_second(void **state)
{
    (void) state;
    hear();
    data_channel_send_message(&channel, PAYLOAD_HANDSHAKE_COMPLETE, "{}", 2, NULL);
    data_channel_hold(&channel, now_ms + 60000);
    assert_int_equal(hear(), 1);
    int64_t sent_ms = now_ms;
    while (now_ms < sent_ms + 999) {
        assert_int_equal(hear(), 0);
        tick_to(data_channel_deadline(&channel, now_ms) < sent_ms + 999
                    ? data_channel_deadline(&channel, now_ms)
                    : sent_ms + 999);
    }
    assert_int_equal(data_channel_deadline(&channel, now_ms), sent_ms + 1000);
    tick_to(sent_ms + 1000);
    assert_int_equal(hear(), 1);
    assert_int_equal(heard[0].payload_type, PAYLOAD_HANDSHAKE_COMPLETE);
    tick_to(sent_ms + 60000);
    hear();
    assert_false(data_channel_holding(&channel));
}

static void pitfall_5_of_two_messages_with_one_number_the_first_counts(void **state)
{
    (void) state;
    hear();
    say_data(0, "first");
    say_data(0, "second");
    say_data(2, "third");
    say_data(2, "fourth");
    say_data(1, ", ");
    assert_int_equal(hear(), 5);
    assert_int_equal(heard_of(AGENT_MESSAGE_ACKNOWLEDGE), 5);
    assert_delivered("first, third");
}

static void pitfall_9_a_window_of_messages_goes_without_a_pause(void **state)
{
    (void) state;
    hear();
    pass_messages(OUTBOX_WINDOW);
    assert_int_equal(now_ms, 1000);
    assert_int_equal(data_channel_send_room(&channel, now_ms, PACER_BULK), 0);
}

static void pitfall_10_all_that_is_overdue_is_resent(void **state)
{
    (void) state;
    pass_messages(200);
    for (int i = 0; i < 200; i++) {
        if (i % 2 == 1)
            say_ack(i);
    }
    tick_to(now_ms + 200);
    assert_int_equal(hear_stream_data(), 100);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(heard[i].sequence, 2 * i); /* the oldest first */
}

/* Nothing came back at all: the network, not a hole. */
static void pitfall_10_after_a_silence_few_are_resent_until_something_comes_back(void **state)
{
    (void) state;
    pass_messages(200);
    tick_to(now_ms + 200);
    assert_int_equal(hear_stream_data(), OUTBOX_FLIGHT_STALLED);
    say_ack(0);
    assert_int_equal(hear_stream_data(), 2);
    for (int i = 1; i < 200; i++)
        say_ack(i);
    assert_true(data_channel_drained(&channel));
}

static void pitfall_11_an_early_acknowledgement_finds_its_message(void **state)
{
    (void) state;
    hear();
    send_messages(1);
    heard_count = 0;
    hear_bytes(1100); /* all but a few bytes: the rest is still on its way when the answer comes */
    say_ack(0);
    hear_bytes(SIZE_MAX);
    assert_true(data_channel_drained(&channel));
    tick_to(now_ms + 5000);
    assert_int_equal(hear_stream_data(), 0);
}

static void pitfall_12_delivery_is_exactly_once_whatever_happens_to_the_acknowledgement(void **state)
{
    (void) state;
    hear();
    say_data(0, "once");
    assert_delivered("once");
    heard_count = 0;
    hear_bytes(100); /* half an acknowledgement */
    assert_int_equal(heard_count, 0);
    cut();
    connect();
    say_data(0, "once");
    assert_delivered("");
    hear();
    assert_int_equal(heard_of(AGENT_MESSAGE_ACKNOWLEDGE),
                     2); /* the one cut off, and the one for the resend */
    cut();
    connect();
    say_data(1, " more");
    assert_delivered(" more");
}

static void pitfall_13_what_cannot_be_kept_is_not_taken(void **state)
{
    static const uint8_t bytes[2 * PAYLOAD];

    (void) state;
    hear();
    pass_messages(OUTBOX_WINDOW);
    assert_false(data_channel_send(&channel, now_ms, PACER_BULK, bytes, PAYLOAD));
    for (int i = 0; i < OUTBOX_FRESH + 10; i++) {
        struct error err = ERROR_INIT;
        int code = data_channel_send_message(&channel, PAYLOAD_FLAG, "x", 1, &err);

        assert_int_equal(code, ERROR_UNAVAILABLE);
    }
    say_ack(OUTBOX_WINDOW - 1);
    assert_false(data_channel_send(&channel, now_ms, PACER_BULK, bytes, sizeof bytes));
    assert_true(data_channel_send(&channel, now_ms, PACER_BULK, bytes, PAYLOAD));
}

static void pitfall_13_acknowledgements_are_bounded_too(void **state)
{
    struct data_channel_event event;

    (void) state;
    hear();
    for (int i = 0; i < DATA_CHANNEL_ACKS_MAX + 5; i++) {
        say_data(i, "x");
        if (next_event(&event) == DATA_CHANNEL_EVENT_DATA)
            data_channel_consume(&channel, event.len);
    }
    assert_int_equal(stats().refused, 5);
    hear();
    assert_int_equal(heard_of(AGENT_MESSAGE_ACKNOWLEDGE), DATA_CHANNEL_ACKS_MAX);
}

static void pitfall_20_an_hourly_close_loses_nothing(void **state)
{
    (void) state;
    pass_messages(3);
    send_messages(2);
    say_data(0, "kept ");
    say_data(2, "early");
    heard_count = 0;
    hear_bytes(400); /* in the middle of a frame */
    say_ack(1);
    say_frame(WEBSOCKET_CLOSE,
              "\x03\xe8"
              "Bye",
              5);
    assert_int_equal(data_channel_state(&channel), CONNECTION_CLOSING);
    hear_bytes(SIZE_MAX);
    assert_int_equal(heard[heard_count - 1].control, WEBSOCKET_CLOSE);
    assert_int_equal(heard[heard_count - 1].sequence, 1000);
    assert_lost(1000, "the service closed the websocket: 1000 Bye");
    connect();
    assert_int_equal(hear_stream_data(), 4); /* 0 and 2 again, 3 and 4 */
    say_data(1, "not lost, ");
    assert_delivered("kept not lost, early");
    say_ack(0);
    for (int i = 2; i < 5; i++)
        say_ack(i);
    assert_true(data_channel_drained(&channel));
    assert_int_equal(stats().connections, 2);
    assert_int_equal(channel.pacer.slowed_once, false);
}

static void a_client_sends_input_and_takes_output(void **state)
{
    struct data_channel_config config = usual();

    (void) state;
    config.role = DATA_CHANNEL_CLIENT;
    config.peer_ignores_duplicates = false;
    begin(&config);
    send_messages(1);
    hear();
    assert_int_equal(heard_of(AGENT_MESSAGE_INPUT_STREAM_DATA), 1);
    say(AGENT_MESSAGE_OUTPUT_STREAM_DATA, 0, PAYLOAD_OUTPUT, "out", 3);
    assert_delivered("out");
    hear();
    assert_int_equal(heard_of(AGENT_MESSAGE_ACKNOWLEDGE), 1);
}

#define TEST(function) cmocka_unit_test_setup(function, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_token_goes_first_and_is_wiped),
        TEST(output_is_the_same_byte_by_byte),
        TEST(pings_are_answered_and_silence_ends_the_connection),
        TEST(what_is_no_websocket_is_answered_with_1002),
        TEST(shutting_down_sends_acknowledgements_then_goodbye),
        TEST(shutting_down_does_not_wait_for_ever),
        TEST(calls_out_of_season_are_refused),
        TEST(bytes_fill_whole_messages_and_other_types_stay_apart),
        TEST(long_handshake_messages_go_whole),
        TEST(data_is_delivered_in_order_and_acknowledged_at_once),
        TEST(damaged_messages_are_counted_and_not_acknowledged),
        TEST(service_messages_are_shown_and_block_nothing),
        TEST(pausing_stops_stream_data_but_not_acknowledgements),
        TEST(rto_follows_the_round_trip_times),
        TEST(rto_knows_how_round_trips_vary),
        TEST(rto_rises_above_a_longer_round_trip),
        TEST(rto_is_measured_by_overdue_messages_too),
        TEST(acknowledged_and_drained_are_known),
        TEST(a_message_acknowledged_while_it_is_resent_is_finished_and_freed),
        TEST(a_quiet_session_touches_little_memory),
        TEST(the_pacer_counts_every_transmission_and_tells_when_to_ask_again),
        TEST(what_waits_before_the_pacer_is_what_it_allows),
        TEST(a_socket_that_takes_nothing_is_not_asked_again_and_again),
        TEST(a_pause_before_the_end_of_the_connection_slows_down),
        TEST(two_pauses_slow_down),
        TEST(a_pause_that_ends_changes_nothing),
        TEST(pitfall_1_ignored_resends_leave_the_window_and_are_given_up_after_ten),
        TEST(a_hole_is_resent_while_nothing_else_is_acknowledged),
        TEST(output_that_nobody_wants_goes_without_its_bytes),
        TEST(a_silent_peer_is_left_alone_until_it_is_heard),
        TEST(pitfall_1_a_message_that_was_lost_again_and_again_is_not_given_up),
        TEST(pitfall_1_a_full_window_of_ignored_messages_is_not_the_end),
        TEST(pitfall_1_ten_thousand_later_acknowledgements_prove_arrival),
        TEST(pitfall_1_a_peer_that_acknowledges_old_messages_is_waited_for),
        TEST(pitfall_1_what_rests_is_resent_when_the_peer_turns_out_to_be_better),
        TEST(pitfall_2_reading_stops_but_not_while_own_data_waits),
        TEST(pitfall_2_early_messages_do_not_stop_reading),
        TEST(pitfall_2_what_has_no_room_is_refused_and_few_of_ours_are_in_flight),
        TEST(pitfall_3_nothing_follows_handshake_complete_until_the_client_speaks),
        TEST(pitfall_3_a_lost_handshake_complete_is_resent_after_a_second),
        TEST(pitfall_5_of_two_messages_with_one_number_the_first_counts),
        TEST(pitfall_9_a_window_of_messages_goes_without_a_pause),
        TEST(pitfall_10_all_that_is_overdue_is_resent),
        TEST(pitfall_10_after_a_silence_few_are_resent_until_something_comes_back),
        TEST(pitfall_11_an_early_acknowledgement_finds_its_message),
        TEST(pitfall_12_delivery_is_exactly_once_whatever_happens_to_the_acknowledgement),
        TEST(pitfall_13_what_cannot_be_kept_is_not_taken),
        TEST(pitfall_13_acknowledgements_are_bounded_too),
        TEST(pitfall_20_an_hourly_close_loses_nothing),
        TEST(a_client_sends_input_and_takes_output),
    };

    return cmocka_run_group_tests_name("data_channel", tests, NULL, NULL);
}
