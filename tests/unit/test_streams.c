#include "tunnel/streams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/fresh_pool.h"

static struct streams streams;

static int setup(void **state)
{
    (void) state;
    streams_init(&streams, fresh_memory(0, STREAMS_MEMORY_SIZE));
    return 0;
}

static uint16_t add(uint32_t id)
{
    return streams_add(&streams, id, STREAMS_OPEN, 0);
}

static void streams_are_found_by_their_id(void **state)
{
    (void) state;
    assert_int_equal(streams_find(&streams, 3), STREAMS_NONE);
    for (uint32_t i = 0; i < STREAMS_MAX; i++) /* far more in some buckets than in others */
        assert_int_equal(add(i * STREAMS_BUCKETS * 64), i);
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        assert_int_equal(streams_find(&streams, i * STREAMS_BUCKETS * 64), i);
    for (uint16_t i = 0; i < STREAMS_MAX; i += 2)
        streams_remove(&streams, i);
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        assert_int_equal(streams_find(&streams, i * STREAMS_BUCKETS * 64), i % 2 == 0 ? STREAMS_NONE : i);
    assert_int_equal(streams.open, STREAMS_MAX / 2);
    assert_int_equal(streams.total, STREAMS_MAX);
}

static void there_is_an_end_to_slots_and_the_lowest_are_used_first(void **state)
{
    (void) state;
    for (uint32_t i = 0; i < STREAMS_MAX; i++)
        assert_int_equal(add(3u + 2u * i), i);
    assert_int_equal(add(9999), STREAMS_NONE);
    assert_int_equal(streams_find(&streams, 9999), STREAMS_NONE);
    assert_int_equal(streams.open, STREAMS_MAX);
    streams_remove(&streams, 500);
    assert_int_equal(add(9999), 500);
    assert_int_equal(streams_find(&streams, 9999), 500);
    assert_int_equal(streams_find(&streams, 3 + 2 * 500), STREAMS_NONE);
}

static void a_slot_knows_nothing_of_the_stream_before(void **state)
{
    (void) state;
    uint16_t stream = add(3);
    streams.slots[stream].readable = streams.slots[stream].fin_due = true;
    streams.slots[stream].bytes_to_endpoint = 7;
    streams_queue(&streams, stream, 0);
    streams_attend(&streams, stream);
    streams_remove(&streams, stream);
    assert_int_equal(streams_next(&streams, PACER_INTERACTIVE), STREAMS_NONE);
    assert_int_equal(streams_take_attended(&streams), STREAMS_NONE);
    assert_int_equal(streams_add(&streams, 5, STREAMS_OPENING, 0), stream);
    assert_int_equal(streams.slots[stream].state, STREAMS_OPENING);
    assert_false(streams_has_turn(&streams.slots[stream]));
    assert_int_equal(streams.slots[stream].bytes_to_endpoint, 0);
}

/* Whose turns come, each of one byte. */
static void take_turns(enum pacer_class class, const char *expected)
{
    char turns[64] = "";
    for (size_t i = 0; i < strlen(expected); i++) {
        uint16_t stream = streams_next(&streams, class);
        turns[i] = stream == STREAMS_NONE ? '-' : (char) ('a' + stream);
        if (stream != STREAMS_NONE)
            streams_end_turn(&streams, stream, 0, 1);
    }
    assert_string_equal(turns, expected);
}

static void streams_take_turns(void **state)
{
    (void) state;
    for (uint16_t i = 0; i < 3; i++) {
        assert_int_equal(add(3u + 2u * i), i);
        streams.slots[i].readable = true;
        streams_queue(&streams, i, 0);
        streams_queue(&streams, i, 0); /* once is enough */
    }
    take_turns(PACER_INTERACTIVE, "abcabca");
    streams.slots[2].readable = false;
    take_turns(PACER_INTERACTIVE, "bcabab"); /* it has one turn in which it says so */
    streams_remove(&streams, 0);
    take_turns(PACER_INTERACTIVE, "bbb");
    streams.slots[1].ended = true;
    take_turns(PACER_INTERACTIVE, "b--");
    streams.slots[1].fin_due = true;
    streams_queue(&streams, 1, 0);
    take_turns(PACER_INTERACTIVE, "bb");
    take_turns(PACER_BULK, "-");
}

static void who_sends_much_is_bulk_until_it_has_been_quiet(void **state)
{
    (void) state;
    uint16_t stream = add(3);
    streams.slots[stream].readable = true;
    streams_queue(&streams, stream, 0);
    streams_end_turn(&streams, stream, 0, STREAMS_INTERACTIVE_MAX - 1);
    assert_int_equal(streams_next(&streams, PACER_INTERACTIVE), stream);
    streams_end_turn(&streams, stream, 0, 1);
    assert_int_equal(streams_next(&streams, PACER_INTERACTIVE), STREAMS_NONE);
    assert_int_equal(streams_next(&streams, PACER_BULK), stream);
    streams_end_turn(&streams, stream, STREAMS_WEIGHT_HALF_MS - 1, 0);
    assert_int_equal(streams_next(&streams, PACER_BULK), stream);
    streams_end_turn(&streams, stream, STREAMS_WEIGHT_HALF_MS, 0);
    assert_int_equal(streams_next(&streams, PACER_INTERACTIVE), stream);
    streams_end_turn(&streams, stream, STREAMS_WEIGHT_HALF_MS, 100 * 1024 * 1024);
    assert_int_equal(streams_next(&streams, PACER_BULK), stream);
    streams_end_turn(&streams, stream, INT64_C(1) << 50, 0); /* the clock may be anywhere */
    assert_int_equal(streams_next(&streams, PACER_INTERACTIVE), stream);
    assert_int_equal(streams.slots[stream].weight, 0);
}

static void attention_is_given_in_order_and_once(void **state)
{
    (void) state;
    for (uint16_t i = 0; i < 5; i++)
        add(3u + 2u * i);
    streams_attend(&streams, 2);
    streams_attend(&streams, 0);
    streams_attend(&streams, 4);
    streams_attend(&streams, 1);
    streams_attend(&streams, 0);
    streams_remove(&streams, 4); /* out of the middle */
    streams_remove(&streams, 1); /* the last */
    streams_attend(&streams, 3);
    assert_int_equal(streams_take_attended(&streams), 2);
    assert_int_equal(streams_take_attended(&streams), 0);
    streams_attend(&streams, 2); /* again, behind the others */
    assert_int_equal(streams_take_attended(&streams), 3);
    assert_int_equal(streams_take_attended(&streams), 2);
    assert_int_equal(streams_take_attended(&streams), STREAMS_NONE);
    streams_attend(&streams, 0);
    assert_int_equal(streams_take_attended(&streams), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(streams_are_found_by_their_id, setup),
        cmocka_unit_test_setup(there_is_an_end_to_slots_and_the_lowest_are_used_first, setup),
        cmocka_unit_test_setup(a_slot_knows_nothing_of_the_stream_before, setup),
        cmocka_unit_test_setup(streams_take_turns, setup),
        cmocka_unit_test_setup(who_sends_much_is_bulk_until_it_has_been_quiet, setup),
        cmocka_unit_test_setup(attention_is_given_in_order_and_once, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
