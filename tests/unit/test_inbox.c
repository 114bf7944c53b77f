#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "channel/inbox.h"
#include "lib/fresh_pool.h"

static struct inbox inbox;
static struct pool_user *user;

static int fresh(void **state)
{
    (void) state;
    user = fresh_pool(0, FRESH_POOL_BLOCKS);
    inbox_init(&inbox, fresh_memory(0, INBOX_MEMORY_SIZE), user);
    return 0;
}

/* As a data channel does before the place of the payloads changes. */
static enum inbox_result take_and_settle(int64_t sequence, uint32_t type, const void *payload, size_t len)
{
    enum inbox_result result = inbox_take(&inbox, sequence, type, payload, len);
    inbox_settle(&inbox);
    return result;
}

static enum inbox_result take(int64_t sequence, const char *payload)
{
    return take_and_settle(sequence, (uint32_t) sequence + 1, payload, strlen(payload));
}

static void assert_front(const char *payload, size_t message_left)
{
    const uint8_t *data;
    uint32_t type;
    size_t len, left;
    assert_true(inbox_front(&inbox, &type, &data, &len, &left));
    assert_int_equal(len, strlen(payload));
    assert_memory_equal(data, payload, len);
    assert_int_equal(left, message_left);
}

static void assert_empty(void)
{
    const uint8_t *data;
    uint32_t type;
    size_t len, left;
    assert_false(inbox_front(&inbox, &type, &data, &len, &left));
}

static void puts_in_order_each_once(void **state)
{
    (void) state;
    assert_int_equal(take(2, "c"), INBOX_NEW);
    assert_int_equal(take(1, "b"), INBOX_NEW);
    assert_empty();
    assert_int_equal(take(2, "other"), INBOX_DUPLICATE);
    assert_int_equal(take(0, "a"), INBOX_NEW);
    assert_int_equal(take(0, "other"), INBOX_DUPLICATE);
    assert_front("a", 1);
    inbox_consume(&inbox, 1);
    assert_int_equal(take(0, "other"), INBOX_DUPLICATE);
    assert_front("b", 1);
    inbox_consume(&inbox, 1);
    assert_front("c", 1);
    inbox_consume(&inbox, 1);
    assert_empty();
    assert_int_equal(inbox.used, 0);
}

static void consumes_in_parts_and_keeps_the_type(void **state)
{
    const uint8_t *data;
    uint32_t type;
    size_t len, left;
    (void) state;
    take(0, "");
    take(1, "hello");
    assert_front("", 0);
    inbox_consume(&inbox, 0);
    inbox_consume(&inbox, 2);
    assert_front("llo", 3);
    inbox_consume(&inbox, 0);
    assert_true(inbox_front(&inbox, &type, &data, &len, &left));
    assert_int_equal(type, 2);
    inbox_consume(&inbox, 3);
    assert_empty();
}

static void a_long_payload_comes_in_pieces(void **state)
{
    static char payload[2 * INBOX_BLOCK_PAYLOAD + 11];
    const uint8_t *data;
    uint32_t type;
    size_t len, left, at = 0;
    (void) state;
    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (char) (i % 251);
    assert_int_equal(take_and_settle(0, 5, payload, sizeof payload), INBOX_NEW);
    while (inbox_front(&inbox, &type, &data, &len, &left)) {
        assert_int_equal(left, sizeof payload - at);
        assert_int_equal(type, 5);
        assert_memory_equal(data, payload + at, len);
        inbox_consume(&inbox, len);
        at += len;
    }
    assert_int_equal(at, sizeof payload);
    assert_int_equal(inbox.used, 0);
    assert_int_equal(take_and_settle(1, 5, payload, INBOX_PAYLOAD_MAX + 1), INBOX_REFUSED);
}

/* Early messages never take the room that the expected one needs. */
static void the_expected_message_has_room_however_many_came_early(void **state)
{
    size_t kept = 0;
    (void) state;
    for (int64_t sequence = 1; sequence < INBOX_SPAN; sequence++)
        kept += take(sequence, "early") == INBOX_NEW;
    assert_int_equal(kept, INBOX_MESSAGES - INBOX_RESERVE);
    assert_int_equal(take(0, "expected"), INBOX_NEW);
    assert_front("expected", 8);
    assert_int_equal(inbox.expected, INBOX_MESSAGES - INBOX_RESERVE + 1);
}

static void what_is_not_consumed_fills_it_to_the_last_slot(void **state)
{
    int64_t sequence = 0;
    (void) state;
    while (take(sequence, "x") == INBOX_NEW)
        sequence++;
    assert_int_equal(sequence, INBOX_MESSAGES);
    assert_int_equal(take(sequence, "x"), INBOX_REFUSED);
    inbox_consume(&inbox, 1);
    assert_int_equal(take(sequence, "x"), INBOX_NEW);
    assert_int_equal(inbox.used, INBOX_MESSAGES);
}

static void numbers_far_ahead_are_refused(void **state)
{
    (void) state;
    assert_int_equal(take(INBOX_SPAN, "x"), INBOX_REFUSED);
    assert_int_equal(take(INT64_MAX, "x"), INBOX_REFUSED);
    assert_int_equal(take(INBOX_SPAN - 1, "x"), INBOX_NEW);
    assert_int_equal(take(0, "x"), INBOX_NEW);
    inbox_consume(&inbox, 1);
    assert_int_equal(take(INBOX_SPAN, "x"), INBOX_NEW);
}

static void knows_how_many_the_peer_still_holds(void **state)
{
    (void) state;
    assert_int_equal(inbox_missing(&inbox), 0);
    take(0, "x");
    assert_int_equal(inbox_missing(&inbox), 0);
    take(5, "x");
    assert_int_equal(inbox_missing(&inbox), 4);
    take(INBOX_SPAN + 10, "x"); /* seen, though refused */
    assert_int_equal(inbox_missing(&inbox), INBOX_SPAN + 10 + 1 - 1 - 1);
    take(INT64_MAX, "x"); /* nonsense */
    assert_int_equal(inbox_missing(&inbox), INBOX_SPAN + 10 + 1 - 1 - 1);
}

static void a_payload_that_is_consumed_at_once_is_never_copied(void **state)
{
    char place[] = "in the decoder";
    const uint8_t *data;
    uint32_t type;
    size_t len, left;
    (void) state;
    assert_int_equal(inbox_take(&inbox, 0, 1, place, 14), INBOX_NEW);
    assert_true(inbox_front(&inbox, &type, &data, &len, &left));
    assert_ptr_equal(data, place);
    inbox_consume(&inbox, 3);
    assert_front("the decoder", 11);
    inbox_settle(&inbox);
    memset(place, 0, sizeof place);
    assert_front("the decoder", 11); /* what was left of it */
    inbox_consume(&inbox, 11);
    assert_int_equal(user->used, 0);
}

static void more_payloads_than_may_lie_elsewhere_are_copied(void **state)
{
    static char places[2 * INBOX_LENT_MAX][4];
    (void) state;
    for (int i = 0; i < 2 * INBOX_LENT_MAX; i++) {
        places[i][0] = (char) ('0' + i % 10);
        assert_int_equal(inbox_take(&inbox, i, 1, places[i], 1), INBOX_NEW);
    }
    inbox_settle(&inbox);
    for (int i = 0; i < 2 * INBOX_LENT_MAX; i++) {
        assert_front(places[i], 1);
        inbox_consume(&inbox, 1);
    }
}

static void a_slot_that_was_lent_and_used_again_is_copied_once(void **state)
{
    char first[] = "first", second[] = "second";
    (void) state;
    inbox_take(&inbox, 0, 1, first, 5);
    inbox_consume(&inbox, 5);
    inbox_take(&inbox, 1, 1, second, 6); /* in the same slot */
    inbox_settle(&inbox);
    memset(second, 0, sizeof second);
    assert_front("second", 6);
}

/* Others have used up the pool: what is expected still finds room, what is early does not. */
static void the_expected_message_has_room_in_a_full_pool(void **state)
{
    (void) state;
    user = fresh_pool(0, POOL_USER_RESERVE + POOL_USER_CRITICAL);
    inbox_init(&inbox, fresh_memory(0, INBOX_MEMORY_SIZE), user);
    int64_t sequence = 1;
    while (take(sequence, "early") == INBOX_NEW)
        sequence++;
    assert_int_equal(sequence, 1 + POOL_USER_RESERVE);
    assert_int_equal(take(0, "expected"), INBOX_NEW);
    assert_front("expected", 8);
}

static void release_gives_every_block_back(void **state)
{
    static char payload[3 * INBOX_BLOCK_PAYLOAD];
    (void) state;
    take(0, "a");
    take(5, "f");
    take_and_settle(1, 1, payload, sizeof payload);
    assert_int_equal(user->used, 5);
    inbox_release(&inbox);
    assert_int_equal(user->used, 0);
    assert_int_equal(inbox.used, 0);
}

/* The fault: with some taken out, what is next in order was looked for in a slot that does not exist. */
static void what_is_kept_is_taken_out_one_by_one(void **state)
{
    static char payload[3 * INBOX_BLOCK_PAYLOAD];
    static const int64_t expected[] = {0, 1, 2, 2, 2, 5};
    int64_t sequence;
    uint32_t type;
    const uint8_t *data;
    size_t len;
    (void) state;
    take(5, "f"); /* early */
    take(0, "ab");
    take(1, "c");
    take_and_settle(2, 1, payload, sizeof payload);
    inbox_consume(&inbox, 1);
    assert_front("b", 1);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_true(inbox_any(&inbox, &sequence, &type, &data, &len));
        assert_int_equal(sequence, expected[i]);
        inbox_remove(&inbox, sequence);
        if (i == 0)
            assert_front("c", 1);
        else if (i >= 4)
            assert_empty();
    }
    assert_false(inbox_any(&inbox, &sequence, &type, &data, &len));
    assert_int_equal(user->used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_payload_that_is_consumed_at_once_is_never_copied, fresh),
        cmocka_unit_test_setup(more_payloads_than_may_lie_elsewhere_are_copied, fresh),
        cmocka_unit_test_setup(a_slot_that_was_lent_and_used_again_is_copied_once, fresh),
        cmocka_unit_test_setup(the_expected_message_has_room_in_a_full_pool, fresh),
        cmocka_unit_test_setup(release_gives_every_block_back, fresh),
        cmocka_unit_test_setup(what_is_kept_is_taken_out_one_by_one, fresh),
        cmocka_unit_test_setup(puts_in_order_each_once, fresh),
        cmocka_unit_test_setup(consumes_in_parts_and_keeps_the_type, fresh),
        cmocka_unit_test_setup(a_long_payload_comes_in_pieces, fresh),
        cmocka_unit_test_setup(the_expected_message_has_room_however_many_came_early, fresh),
        cmocka_unit_test_setup(what_is_not_consumed_fills_it_to_the_last_slot, fresh),
        cmocka_unit_test_setup(numbers_far_ahead_are_refused, fresh),
        cmocka_unit_test_setup(knows_how_many_the_peer_still_holds, fresh),
    };
    return cmocka_run_group_tests_name("inbox", tests, NULL, NULL);
}
