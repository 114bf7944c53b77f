/* The outbox by itself: numbers, bounds, order. What a peer makes of it is test_data_channel's. */
#include "channel/outbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/fresh_pool.h"

enum { PAYLOAD = AGENT_MESSAGE_STREAM_PAYLOAD_MAX };

static struct outbox outbox, other;
static struct pool_user *user;
static struct prng prng;
static struct iovec vectors[OUTBOX_RESERVE_MAX];
static int count;
static char heard[2 * OUTBOX_LARGE_SLOT_SIZE]; /* the payload of the message that was sent last */
static size_t heard_len;

static void begin(bool peer_ignores_duplicates)
{
    static const uint8_t seed[PRNG_SEED_SIZE] = {1};
    user = fresh_pool(0, FRESH_POOL_BLOCKS);
    prng_init(&prng, seed);
    outbox_init(&outbox, fresh_memory(0, OUTBOX_MEMORY_SIZE), user, AGENT_MESSAGE_OUTPUT_STREAM_DATA,
                peer_ignores_duplicates);
    outbox_connected(&outbox, 0);
}

static int setup(void **state)
{
    (void) state;
    begin(false);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    outbox_release(&outbox);
    assert_int_equal(user->used + user->critical, 0);
    return 0;
}

static void append(const char *text)
{
    assert_true(outbox_append_message(&outbox, PAYLOAD_OUTPUT, text, strlen(text)));
}

static size_t reserve(size_t header, size_t max)
{
    size_t len = outbox_reserve(&outbox, header, max, vectors, &count);
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += vectors[i].iov_len;
    assert_int_equal(total, len);
    return len;
}

/* Sends what would go next; its number, -1 when that is nothing. */
static int64_t send_from(struct outbox *o, int64_t now_ms)
{
    uint16_t slot = outbox_choose(o, now_ms, OUTBOX_WINDOW, INT64_MAX);
    if (slot == OUTBOX_NO_SLOT)
        return -1;
    uint8_t frame[2 * OUTBOX_LARGE_SLOT_SIZE];
    struct websocket_decoder decoder;
    struct websocket_event event;
    struct agent_message message;
    size_t len, room;
    const uint8_t *bytes = outbox_begin(o, slot, 1, &prng, &len);
    websocket_decoder_init(&decoder, WEBSOCKET_SERVER, frame, sizeof frame);
    memcpy(websocket_in_buf(&decoder, &room), bytes, len);
    websocket_in_ack(&decoder, len);
    assert_int_equal(websocket_next(&decoder, &event, NULL), 0);
    assert_int_equal(event.type, WEBSOCKET_EVENT_MESSAGE);
    assert_int_equal(agent_message_parse(&message, event.data, event.len, NULL), 0);
    memcpy(heard, message.payload, message.payload_len);
    heard_len = message.payload_len;
    heard[heard_len] = '\0';
    outbox_end(o, now_ms);
    return message.sequence;
}

static int64_t send_next(int64_t now_ms)
{
    return send_from(&outbox, now_ms);
}

static void messages_are_numbered_and_each_is_acknowledged_once(void **state)
{
    (void) state;
    for (int i = 0; i < 3; i++)
        append("x");
    assert_int_equal(outbox_counted(&outbox), 3);
    assert_false(outbox_acknowledge(&outbox, 0, 0)); /* the peer can't know it */
    for (int64_t i = 0; i < 3; i++)
        assert_int_equal(send_next(0), i);
    assert_int_equal(send_next(0), -1);
    assert_int_equal(outbox_in_flight(&outbox), 3);
    assert_true(outbox_acknowledge(&outbox, 1, 1));
    assert_true(outbox_acknowledged(&outbox, 1));
    assert_false(outbox_acknowledged(&outbox, 0));
    assert_false(outbox_acknowledged(&outbox, 3));
    assert_false(outbox_acknowledge(&outbox, 1, 1));
    assert_false(outbox_acknowledge(&outbox, 3, 1));
    assert_false(outbox_acknowledge(&outbox, -1, 1));
    assert_false(outbox_acknowledge(&outbox, INT64_MAX, 1));
    assert_int_equal(outbox.oldest, 0);
    assert_true(outbox_acknowledge(&outbox, 0, 1));
    assert_int_equal(outbox.oldest, 2);
    assert_true(outbox_acknowledge(&outbox, 2, 1));
    assert_int_equal(outbox_counted(&outbox), 0);
    assert_int_equal(outbox.acknowledged, 3);
}

static void output_fills_what_is_not_sent_yet_before_it_begins_anew(void **state)
{
    (void) state;
    assert_int_equal(outbox_open_room(&outbox), 0);
    assert_int_equal(reserve(8, 5000), 5000);
    assert_int_equal(count, 5);
    memcpy(vectors[0].iov_base, "0123456789", 10);
    outbox_commit(&outbox, 10);
    assert_int_equal(user->used, 1); /* the rest was given back */
    assert_int_equal(outbox_open_room(&outbox), PAYLOAD - 10);
    assert_int_equal(reserve(8, 2000), 2000);
    assert_int_equal(vectors[0].iov_len, PAYLOAD - 10);
    memcpy(vectors[0].iov_base, "abc", 3);
    outbox_commit(&outbox, 3);
    assert_int_equal(send_next(0), 0);
    assert_string_equal(heard, "0123456789abc");
    assert_int_equal(outbox_open_room(&outbox), 0); /* it has gone */
}

static void a_header_is_not_cut(void **state)
{
    (void) state;
    reserve(8, PAYLOAD - 7);
    outbox_commit(&outbox, PAYLOAD - 7);
    assert_int_equal(outbox_open_room(&outbox), 7);
    assert_int_equal(reserve(8, 100), 100);
    assert_int_equal(count, 1);
    outbox_commit(&outbox, 100);
    assert_int_equal(outbox.next, 2);
    reserve(8, PAYLOAD);
    outbox_commit(&outbox, 0);
    assert_int_equal(outbox_open_room(&outbox), PAYLOAD - 100);
    append("another payload begins a message of its own");
    assert_int_equal(outbox.next, 3);
}

static void reserving_has_its_bounds(void **state)
{
    (void) state;
    assert_int_equal(reserve(0, SIZE_MAX), (size_t) OUTBOX_RESERVE_MAX * PAYLOAD);
    assert_int_equal(count, OUTBOX_RESERVE_MAX);
    outbox_commit(&outbox, 0);
    assert_int_equal(user->used, 0);
    assert_int_equal(outbox.next, 0);
}

static void a_window_of_messages_may_wait(void **state)
{
    (void) state;
    for (int i = 0; i < OUTBOX_WINDOW; i++)
        append("x");
    assert_int_equal(outbox_room(&outbox), 0);
    assert_false(outbox_append_message(&outbox, PAYLOAD_OUTPUT, "x", 1));
    while (send_next(0) >= 0)
        continue;
    assert_int_equal(outbox_room(&outbox), 0);
    assert_true(outbox_acknowledge(&outbox, 1000, 1)); /* any of them */
    assert_int_equal(outbox_room(&outbox), 1);
    begin(false);
    user = fresh_pool(0, POOL_USER_BLOCKS + 2); /* and so many as the pool has */
    outbox.user = user;
    size_t room = outbox_room(&outbox);
    assert_in_range(room, POOL_USER_RESERVE, POOL_USER_BLOCKS + 2);
    while (outbox_append_message(&outbox, PAYLOAD_OUTPUT, "x", 1))
        continue;
    assert_int_equal(outbox_room(&outbox), 0);
    assert_true(outbox_counted(&outbox) >= room);
}

static void few_messages_may_be_long(void **state)
{
    static char text[OUTBOX_LARGE_PAYLOAD_MAX + 2];
    (void) state;
    memset(text, 'x', sizeof text - 1);
    assert_false(outbox_append_message(&outbox, PAYLOAD_HANDSHAKE_REQUEST, text, sizeof text - 1));
    for (int i = 0; i < OUTBOX_LARGE; i++)
        assert_true(outbox_append_message(&outbox, PAYLOAD_HANDSHAKE_REQUEST, text, sizeof text - 2));
    assert_false(outbox_append_message(&outbox, PAYLOAD_HANDSHAKE_REQUEST, text, sizeof text - 2));
    assert_int_equal(outbox_open_room(&outbox), 0);
    append("one of normal size");
    assert_int_equal(send_next(0), 0);
    assert_int_equal(heard_len, OUTBOX_LARGE_PAYLOAD_MAX);
    outbox_acknowledge(&outbox, 0, 0);
    assert_true(outbox_append_message(&outbox, PAYLOAD_HANDSHAKE_REQUEST, text, sizeof text - 2));
}

static void what_a_connection_took_along_is_resent_first_and_unchanged(void **state)
{
    (void) state;
    append("zero");
    append("one");
    append("two");
    assert_int_equal(send_next(0), 0);
    assert_int_equal(send_next(0), 1);
    outbox_acknowledge(&outbox, 0, 1);
    outbox_disconnected(&outbox);
    outbox_connected(&outbox, 10);
    assert_int_equal(send_next(10), 1);
    assert_string_equal(heard, "one");
    assert_int_equal(send_next(10), 2);
    assert_int_equal(outbox.resent, 1);
    assert_int_equal(outbox.sent, 3);
}

static void one_that_was_cut_in_the_middle_is_resent_whole(void **state)
{
    size_t len;
    (void) state;
    append("zero");
    outbox_begin(&outbox, outbox_choose(&outbox, 0, OUTBOX_WINDOW, INT64_MAX), 1, &prng, &len);
    assert_int_equal(outbox_choose(&outbox, 0, OUTBOX_WINDOW, INT64_MAX), OUTBOX_NO_SLOT); /* one at a time */
    outbox_disconnected(&outbox);
    outbox_connected(&outbox, 10);
    assert_int_equal(send_next(10), 0);
    assert_string_equal(heard, "zero");
}

static void overdue_messages_are_resent_and_the_deadline_says_when(void **state)
{
    (void) state;
    append("zero");
    append("one");
    send_next(0);
    send_next(0);
    int64_t due_ms = outbox_deadline(&outbox, 0);
    assert_in_range(due_ms, 1, RETRANSMISSION_RTO_MIN_MS);
    outbox_tick(&outbox, due_ms - 1);
    assert_int_equal(send_next(due_ms - 1), -1);
    outbox_tick(&outbox, due_ms);
    assert_true(outbox_deadline(&outbox, due_ms) > due_ms); /* what is due waits for the socket */
    assert_int_equal(send_next(due_ms), 0);
    assert_int_equal(send_next(due_ms), 1);
    assert_int_equal(send_next(due_ms), -1);
    outbox_acknowledge(&outbox, 0, due_ms + 1);
    outbox_acknowledge(&outbox, 1, due_ms + 1);
    assert_int_equal(outbox_deadline(&outbox, due_ms + 1), INT64_MAX);
}

static void the_caller_can_hold_back_what_is_new(void **state)
{
    (void) state;
    append("zero");
    append("one");
    assert_int_equal(outbox_choose(&outbox, 0, OUTBOX_WINDOW, 0), OUTBOX_NO_SLOT);
    send_next(0);
    assert_int_equal(outbox_choose(&outbox, 0, OUTBOX_WINDOW, 1), OUTBOX_NO_SLOT);
    assert_int_equal(outbox_choose(&outbox, 0, 1, INT64_MAX), OUTBOX_NO_SLOT); /* one is in flight */
    assert_int_not_equal(outbox_choose(&outbox, 0, 2, 2), OUTBOX_NO_SLOT);
}

/* ---- pieces ---- */

static uint64_t next_piece;

static void append_piece(struct outbox *o, const char *text)
{
    size_t len = outbox_reserve(o, 0, strlen(text), vectors, &count);
    assert_int_equal(len, strlen(text));
    memcpy(vectors[0].iov_base, text, len);
    outbox_commit(o, len);
}

static void begin_pieces(void)
{
    next_piece = 100;
    begin(false);
    outbox_init(&other, fresh_memory(1, OUTBOX_MEMORY_SIZE), fresh_pool(1, FRESH_POOL_BLOCKS),
                AGENT_MESSAGE_OUTPUT_STREAM_DATA, false);
    outbox_connected(&other, 0);
    outbox_number_pieces(&outbox, &next_piece);
    outbox_number_pieces(&other, &next_piece);
}

static uint64_t heard_piece(void)
{
    struct reader in = reader_of(heard, heard_len);
    return reader_u64be(&in);
}

static void pieces_carry_numbers_and_only_the_last_of_all_grows(void **state)
{
    (void) state;
    begin_pieces();
    assert_int_equal(outbox_oldest_piece(&outbox), UINT64_MAX);
    append_piece(&outbox, "a");
    append_piece(&outbox, "b"); /* to the same */
    append_piece(&other, "c");
    assert_int_equal(outbox_open_room(&outbox), 0); /* it would be behind "c" */
    append_piece(&outbox, "d");
    assert_int_equal(next_piece, 103);
    assert_int_equal(outbox_oldest_piece(&outbox), 100);
    assert_int_equal(outbox_oldest_piece(&other), 101);
    send_next(0);
    assert_int_equal(heard_piece(), 100);
    assert_string_equal(heard + OUTBOX_PIECE_HEADER_SIZE, "ab");
    assert_int_equal(outbox_oldest_piece(&outbox), 100); /* masked by now, and read all the same */
    outbox_acknowledge(&outbox, 0, 1);
    assert_int_equal(outbox_oldest_piece(&outbox), 102);
    outbox_release(&other);
}

static void unacknowledged_pieces_go_on_in_another(void **state)
{
    bool moved;
    (void) state;
    begin_pieces();
    append_piece(&outbox, "a");
    send_next(0);
    append_piece(&other, "b");
    outbox_append_message(&outbox, PAYLOAD_FLAG, "flag", 4); /* is no piece, and stays */
    append_piece(&outbox, "c");
    outbox_disconnected(&outbox);
    assert_true(outbox_move_piece(&outbox, &other, &moved) && moved);
    assert_true(outbox_move_piece(&outbox, &other, &moved) && moved);
    assert_true(outbox_move_piece(&outbox, &other, &moved) && !moved);
    assert_int_equal(outbox_oldest_piece(&outbox), UINT64_MAX);
    assert_int_equal(outbox_oldest_piece(&other), 100);
    assert_int_equal(send_from(&other, 0), 0);
    assert_int_equal(heard_piece(), 101);
    assert_int_equal(send_from(&other, 0), 1);
    assert_int_equal(heard_piece(), 100);
    assert_string_equal(heard + OUTBOX_PIECE_HEADER_SIZE, "a");
    assert_int_equal(send_from(&other, 0), 2);
    assert_int_equal(heard_piece(), 102);
    assert_string_equal(heard + OUTBOX_PIECE_HEADER_SIZE, "c");
    outbox_acknowledge(&other, 0, 1);
    assert_int_equal(outbox_oldest_piece(&other), 100); /* it came behind, and is older */
    outbox_acknowledge(&other, 1, 1);
    assert_in_range(outbox_oldest_piece(&other), 100, 102); /* a lower bound is all that is promised */
    outbox_acknowledge(&other, 2, 1);
    assert_int_equal(outbox_oldest_piece(&other), UINT64_MAX);
    while (outbox_append_message(&other, PAYLOAD_OUTPUT, "12345678", 8))
        continue;
    append_piece(&outbox, "d");
    assert_false(outbox_move_piece(&outbox, &other, &moved)); /* no room */
    assert_int_not_equal(outbox_oldest_piece(&outbox), UINT64_MAX);
    outbox_release(&other);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(messages_are_numbered_and_each_is_acknowledged_once),
        TEST(output_fills_what_is_not_sent_yet_before_it_begins_anew),
        TEST(a_header_is_not_cut),
        TEST(reserving_has_its_bounds),
        TEST(a_window_of_messages_may_wait),
        TEST(few_messages_may_be_long),
        TEST(what_a_connection_took_along_is_resent_first_and_unchanged),
        TEST(one_that_was_cut_in_the_middle_is_resent_whole),
        TEST(overdue_messages_are_resent_and_the_deadline_says_when),
        TEST(the_caller_can_hold_back_what_is_new),
        TEST(pieces_carry_numbers_and_only_the_last_of_all_grows),
        TEST(unacknowledged_pieces_go_on_in_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
