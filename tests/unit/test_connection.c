/* One websocket connection against a peer that does what the test says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "channel/connection.h"

enum { PING_MS = 54000, IN_SIZE = 4096, OUT_SIZE = 1024 };

static struct connection c;
static struct prng prng;
static uint8_t in[IN_SIZE], out[OUT_SIZE];
static struct websocket_decoder peer;
static uint8_t peer_buffer[4 * OUT_SIZE];

static int fresh(void **state)
{
    static const uint8_t seed[PRNG_SEED_SIZE] = {1};
    struct connection_config config = {.ping_interval_ms = PING_MS,
                                       .prng = &prng,
                                       .in = in,
                                       .in_size = sizeof in,
                                       .out = out,
                                       .out_size = sizeof out};
    (void) state;
    prng_init(&prng, seed);
    connection_init(&c, &config);
    websocket_decoder_init(&peer, WEBSOCKET_SERVER, peer_buffer, sizeof peer_buffer);
    return connection_open(&c, 1000, STR_LITERAL("{\"TokenValue\":\"secret\"}"), NULL);
}

/* The next frame that the connection sends; its bytes are taken in pieces of `piece`. */
static struct websocket_event hear(size_t piece)
{
    struct websocket_event event;
    for (;;) {
        size_t len, room;
        assert_int_equal(websocket_next(&peer, &event, NULL), 0);
        if (event.type != WEBSOCKET_EVENT_NONE)
            return event;
        const uint8_t *bytes = connection_out_buf(&c, &len);
        if (len == 0)
            return event;
        len = len < piece ? len : piece;
        uint8_t *to = websocket_in_buf(&peer, &room);
        memcpy(to, bytes, len);
        websocket_in_ack(&peer, len);
        connection_out_ack(&c, len);
    }
}

static void say(int64_t now_ms, enum websocket_opcode opcode, const void *data, size_t len, size_t piece)
{
    uint8_t frame[WEBSOCKET_HEADROOM + 2048];
    if (len > 0)
        memcpy(frame + WEBSOCKET_HEADROOM, data, len);
    size_t header = websocket_seal(frame + WEBSOCKET_HEADROOM, len, opcode, NULL);
    const uint8_t *at = frame + WEBSOCKET_HEADROOM - header;
    for (size_t left = header + len; left > 0;) {
        size_t room;
        uint8_t *to = connection_in_buf(&c, &room);
        size_t n = left < piece ? left : piece;
        assert_true(n <= room);
        memcpy(to, at, n);
        connection_in_ack(&c, now_ms, n);
        at += n;
        left -= n;
    }
}

static void say_close(int64_t now_ms, unsigned code, const char *reason)
{
    uint8_t payload[WEBSOCKET_CONTROL_MAX];
    size_t len = websocket_close_payload(payload, code, str_from(reason));
    say(now_ms, WEBSOCKET_CLOSE, payload, len, SIZE_MAX);
}

static void assert_nothing(int64_t now_ms)
{
    struct connection_event event;
    connection_next(&c, now_ms, &event);
    assert_int_equal(event.type, CONNECTION_NOTHING);
}

static void assert_lost(int64_t now_ms, uint16_t code, const char *text)
{
    struct connection_event event;
    connection_next(&c, now_ms, &event);
    assert_int_equal(event.type, CONNECTION_LOST);
    assert_int_equal(event.code, code);
    assert_string_equal(event.text, text);
    assert_int_equal(c.state, CONNECTION_DOWN);
    assert_nothing(now_ms);
    assert_int_equal(connection_deadline(&c), INT64_MAX);
}

static void hear_first(void)
{
    struct websocket_event event = hear(SIZE_MAX);
    assert_int_equal(event.type, WEBSOCKET_EVENT_MESSAGE);
    assert_false(event.binary);
}

static void the_token_goes_first_and_is_wiped(void **state)
{
    (void) state;
    assert_true(connection_send(&c, WEBSOCKET_BINARY, "state", 5));
    hear_first();
    struct websocket_event event = hear(SIZE_MAX);
    assert_true(event.binary);
    assert_memory_equal(event.data, "state", 5);
    for (size_t i = 0; i < sizeof out; i++)
        assert_int_equal(out[i], 0);
}

static void the_output_may_be_taken_a_byte_at_a_time(void **state)
{
    (void) state;
    struct websocket_event event = hear(1);
    assert_int_equal(event.type, WEBSOCKET_EVENT_MESSAGE);
    assert_memory_equal(event.data, "{\"TokenValue\":\"secret\"}", event.len);
    assert_int_equal(hear(1).type, WEBSOCKET_EVENT_NONE);
}

static void messages_are_shown_whatever_the_pieces(void **state)
{
    (void) state;
    for (size_t piece = 1; piece < 20; piece++) {
        struct connection_event event;
        say(1000, WEBSOCKET_BINARY, "a message", 9, piece);
        say(1000, WEBSOCKET_TEXT, "and a text", 10, piece);
        connection_next(&c, 1000, &event);
        assert_int_equal(event.type, CONNECTION_MESSAGE);
        assert_true(event.binary);
        const uint8_t *first = event.data;
        connection_next(&c, 1000, &event);
        assert_false(event.binary);
        assert_memory_equal(event.data, "and a text", event.len);
        assert_memory_equal(first, "a message", 9); /* valid until the next in_buf */
        assert_nothing(1000);
    }
}

static void a_ping_is_answered_and_a_flood_of_pings_is_not(void **state)
{
    (void) state;
    hear_first();
    say(1000, WEBSOCKET_PING, "hello", 5, SIZE_MAX);
    assert_nothing(1000);
    struct websocket_event event = hear(SIZE_MAX);
    assert_int_equal(event.type, WEBSOCKET_EVENT_PONG);
    assert_memory_equal(event.data, "hello", 5);
    for (int i = 0; i < 1000; i++) {
        say(1000, WEBSOCKET_PING, "hello", 5, SIZE_MAX);
        assert_nothing(1000);
    }
    assert_true(connection_send(&c, WEBSOCKET_BINARY, out, OUT_SIZE / 3)); /* there is still room */
}

static void a_silent_peer_is_given_up_after_a_ping(void **state)
{
    (void) state;
    hear_first();
    assert_int_equal(connection_deadline(&c), 1000 + PING_MS);
    connection_tick(&c, 1000 + PING_MS, true);
    struct websocket_event event = hear(SIZE_MAX);
    assert_int_equal(event.type, WEBSOCKET_EVENT_PING);
    assert_memory_equal(event.data, "keepalive", event.len);
    connection_tick(&c, 1000 + PING_MS + CONNECTION_SILENCE_MS - 1, true);
    assert_int_equal(c.state, CONNECTION_UP);
    connection_tick(&c, 1000 + PING_MS + CONNECTION_SILENCE_MS, true);
    assert_lost(1000 + PING_MS + CONNECTION_SILENCE_MS, 0,
                "nothing came from the service, not even an answer to a ping");
}

static void bytes_and_not_listening_hold_off_the_silence(void **state)
{
    (void) state;
    int64_t late_ms = 1000 + PING_MS + CONNECTION_SILENCE_MS;
    say(2000, WEBSOCKET_PONG, NULL, 0, SIZE_MAX);
    connection_tick(&c, late_ms, true);
    assert_int_equal(c.state, CONNECTION_UP);
    connection_tick(&c, 10 * late_ms, false);
    assert_int_equal(c.state, CONNECTION_UP);
    connection_tick(&c, 10 * late_ms + PING_MS + CONNECTION_SILENCE_MS, true);
    assert_int_equal(c.state, CONNECTION_DOWN);
}

static void the_peers_close_is_answered_with_its_code(void **state)
{
    (void) state;
    hear_first();
    say_close(1000, WEBSOCKET_CLOSE_NORMAL, "Bye");
    assert_nothing(1000);
    assert_int_equal(c.state, CONNECTION_CLOSING);
    struct websocket_event event = hear(SIZE_MAX);
    assert_int_equal(event.type, WEBSOCKET_EVENT_CLOSE);
    assert_int_equal(event.code, WEBSOCKET_CLOSE_NORMAL);
    assert_lost(1000, WEBSOCKET_CLOSE_NORMAL, "the service closed the websocket: 1000 Bye");
}

static void our_close_waits_for_the_peers(void **state)
{
    (void) state;
    hear_first();
    assert_true(connection_send(&c, WEBSOCKET_BINARY, "last words", 10));
    connection_close(&c, 1000, WEBSOCKET_CLOSE_NORMAL, STR_LITERAL("session ended"));
    assert_false(connection_send(&c, WEBSOCKET_BINARY, "more", 4));
    assert_true(hear(SIZE_MAX).binary);
    struct websocket_event event = hear(SIZE_MAX);
    assert_int_equal(event.type, WEBSOCKET_EVENT_CLOSE);
    assert_memory_equal(event.data, "session ended", event.len);
    assert_nothing(1000);
    say_close(1000, WEBSOCKET_CLOSE_NORMAL, "");
    assert_lost(1000, WEBSOCKET_CLOSE_NORMAL, "closed by us");
}

static void a_peer_that_does_not_answer_our_close_is_left(void **state)
{
    (void) state;
    hear_first();
    connection_close(&c, 1000, WEBSOCKET_CLOSE_NORMAL, STR_LITERAL(""));
    assert_int_equal(connection_deadline(&c), 1000 + CONNECTION_CLOSING_MS);
    connection_tick(&c, 1000 + CONNECTION_CLOSING_MS, true);
    assert_lost(1000 + CONNECTION_CLOSING_MS, WEBSOCKET_CLOSE_NORMAL, "closed by us");
}

static void what_is_not_a_websocket_is_answered_with_1002(void **state)
{
    (void) state;
    hear_first();
    size_t room;
    memcpy(connection_in_buf(&c, &room), "\xf0\xff", 2); /* reserved bits */
    connection_in_ack(&c, 1000, 2);
    assert_nothing(1000);
    connection_in_buf(&c, &room);
    assert_int_equal(room, 0);
    struct websocket_event event = hear(SIZE_MAX);
    assert_int_equal(event.type, WEBSOCKET_EVENT_CLOSE);
    assert_int_equal(event.code, WEBSOCKET_CLOSE_PROTOCOL_ERROR);
    struct connection_event lost;
    connection_next(&c, 1000, &lost);
    assert_int_equal(lost.type, CONNECTION_LOST);
    assert_int_equal(lost.code, WEBSOCKET_CLOSE_PROTOCOL_ERROR);
}

static void the_first_reason_stands_and_is_told_once(void **state)
{
    (void) state;
    say_close(1000, WEBSOCKET_CLOSE_GOING_AWAY, "restart");
    assert_nothing(1000);
    connection_lost(&c, 1000, "broken pipe");
    connection_lost(&c, 1000, "and once more");
    assert_lost(1000, WEBSOCKET_CLOSE_GOING_AWAY, "the service closed the websocket: 1001 restart");
}

static void it_opens_again(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(connection_open(&c, 1000, STR_LITERAL("x"), &err), ERROR_INVALID);
    connection_lost(&c, 1000, "cut");
    assert_int_equal(connection_open(&c, 2000, STR_LITERAL("second"), &err), 0);
    assert_nothing(2000); /* the end of the first has been told already */
    struct websocket_event event = hear(SIZE_MAX);
    assert_memory_equal(event.data, "second", event.len);
}

/* A connection that is opened at now_ms and lost when it has been quiet for so long. What was learned. */
static int64_t cut_after(int64_t now_ms, int64_t quiet_ms)
{
    struct connection_event event;
    assert_int_equal(connection_open(&c, now_ms, STR_LITERAL("x"), NULL), 0);
    connection_lost(&c, now_ms + quiet_ms, "cut");
    connection_next(&c, now_ms + quiet_ms, &event);
    assert_int_equal(event.type, CONNECTION_LOST);
    int64_t learned_ms = connection_take_learned_ms(&c);
    assert_int_equal(connection_take_learned_ms(&c), 0); /* told once */
    return learned_ms;
}

static void pings_come_sooner_where_quiet_connections_are_cut(void **state)
{
    static const struct {
        int64_t quiet_ms[4], learned_ms;
    } table[] = {
        {{30000, 30000}, 30000},
        {{30000, 32000}, 32000},
        {{30000, 45000}, 0},           /* two losses and no reason to think that one thing caused them */
        {{30000, 10000, 30000}, 0},    /* nor here: they have to follow each other */
        {{54050, 54080}, PING_MS},     /* the ping was answered with a reset */
        {{114000, 114000}, PING_MS},   /* or not at all */
        {{1000, 1000, 5900, 5900}, 0}, /* a service that throws us out */
        {{20000, 20000, 10000, 10000}, 10000}, /* still too late */
    };
    struct connection_event event;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        int64_t learned_ms = 0;
        fresh(state);
        connection_lost(&c, 1000, "the first");
        connection_next(&c, 1000, &event);
        for (size_t k = 0; k < 4 && table[i].quiet_ms[k] > 0; k++) {
            int64_t now_learned_ms = cut_after(1000000 * (int64_t) k, table[i].quiet_ms[k]);
            learned_ms = now_learned_ms > 0 ? now_learned_ms : learned_ms;
        }
        assert_int_equal(learned_ms, table[i].learned_ms);
        assert_int_equal(connection_open(&c, 0, STR_LITERAL("x"), NULL), 0);
        assert_int_equal(connection_deadline(&c), learned_ms > 0 ? learned_ms / 2 : PING_MS);
    }
}

static void closes_by_either_side_are_no_cuts(void **state)
{
    (void) state;
    for (int64_t i = 1; i < 5; i++) {
        struct connection_event event;
        if (i % 2 == 0)
            say_close(30000 * i, WEBSOCKET_CLOSE_NORMAL, "Bye");
        else
            connection_close(&c, 30000 * i, WEBSOCKET_CLOSE_NORMAL, STR_LITERAL(""));
        connection_next(&c, 30000 * i, &event);
        connection_lost(&c, 30000 * i, "the connection was closed");
        connection_next(&c, 30000 * i, &event);
        assert_int_equal(connection_take_learned_ms(&c), 0);
        assert_int_equal(connection_open(&c, 30000 * i, STR_LITERAL("x"), NULL), 0);
        assert_int_equal(connection_deadline(&c), 30000 * i + PING_MS);
    }
}

static void a_first_message_that_does_not_fit_is_an_error(void **state)
{
    static char text[OUT_SIZE];
    struct error err = ERROR_INIT;
    (void) state;
    connection_lost(&c, 1000, "cut");
    assert_int_equal(connection_open(&c, 1000, (struct str){text, sizeof text}, &err), ERROR_TOO_LARGE);
}

static void half_sent_frames_leave_room_behind_them(void **state)
{
    size_t len;
    (void) state;
    assert_non_null(connection_out_buf(&c, &len));
    connection_out_ack(&c, len - 1);
    assert_true(connection_send(&c, WEBSOCKET_BINARY, in, OUT_SIZE - 32));
    assert_false(connection_send(&c, WEBSOCKET_BINARY, in, OUT_SIZE - 32));
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_token_goes_first_and_is_wiped),
        TEST(the_output_may_be_taken_a_byte_at_a_time),
        TEST(messages_are_shown_whatever_the_pieces),
        TEST(a_ping_is_answered_and_a_flood_of_pings_is_not),
        TEST(a_silent_peer_is_given_up_after_a_ping),
        TEST(bytes_and_not_listening_hold_off_the_silence),
        TEST(the_peers_close_is_answered_with_its_code),
        TEST(our_close_waits_for_the_peers),
        TEST(a_peer_that_does_not_answer_our_close_is_left),
        TEST(what_is_not_a_websocket_is_answered_with_1002),
        TEST(the_first_reason_stands_and_is_told_once),
        TEST(it_opens_again),
        TEST(pings_come_sooner_where_quiet_connections_are_cut),
        TEST(closes_by_either_side_are_no_cuts),
        TEST(a_first_message_that_does_not_fit_is_an_error),
        TEST(half_sent_frames_leave_room_behind_them),
    };
    return cmocka_run_group_tests_name("connection", tests, NULL, NULL);
}
