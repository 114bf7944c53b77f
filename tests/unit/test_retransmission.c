/* The retransmission time-out, on round trips that a test makes up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "channel/retransmission.h"

static struct retransmission r;
static int64_t now_ms;

static int fresh(void **state)
{
    (void) state;
    retransmission_init(&r);
    now_ms = 1000;
    return 0;
}

static void measure(int64_t rtt_ms)
{
    now_ms += rtt_ms;
    retransmission_measure(&r, rtt_ms, now_ms);
}

static void before_the_first_measurement_it_is_the_minimum_and_doubles(void **state)
{
    (void) state;
    for (int64_t rto_ms = RETRANSMISSION_RTO_MIN_MS; rto_ms < RETRANSMISSION_RTO_MAX_MS; rto_ms *= 2) {
        assert_int_equal(retransmission_rto_ms(&r), rto_ms);
        retransmission_back_off(&r);
    }
    for (int i = 0; i < 100; i++)
        retransmission_back_off(&r);
    assert_int_equal(retransmission_rto_ms(&r), RETRANSMISSION_RTO_MAX_MS);
}

static void the_first_measurement_counts_whole(void **state)
{
    (void) state;
    measure(400);
    assert_int_equal(retransmission_rto_ms(&r), 400 + 4 * 200);
}

static void it_is_never_below_the_minimum_nor_above_the_maximum(void **state)
{
    (void) state;
    for (int i = 0; i < 100; i++)
        measure(0);
    assert_int_equal(retransmission_rto_ms(&r), RETRANSMISSION_RTO_MIN_MS);
    for (int i = 0; i < 100; i++)
        measure(60000);
    assert_int_equal(retransmission_rto_ms(&r), RETRANSMISSION_RTO_MAX_MS);
}

static void steady_round_trips_bring_it_close_to_them(void **state)
{
    (void) state;
    for (int i = 0; i < 100; i++)
        measure(1000);
    assert_in_range(retransmission_rto_ms(&r), 1000, 1010);
}

static void many_acknowledgements_of_one_moment_are_one_measurement(void **state)
{
    (void) state;
    measure(1000);
    int64_t rto_ms = retransmission_rto_ms(&r);
    for (int i = 0; i < 100; i++)
        retransmission_measure(&r, 10, now_ms);
    assert_int_equal(retransmission_rto_ms(&r), rto_ms);
}

static void a_wait_without_a_measurement_raises_it(void **state)
{
    (void) state;
    retransmission_at_least(&r, 1280);
    assert_int_equal(retransmission_rto_ms(&r), 1280);
    retransmission_at_least(&r, 100);
    assert_int_equal(retransmission_rto_ms(&r), 1280);
    retransmission_at_least(&r, 100000);
    assert_int_equal(retransmission_rto_ms(&r), RETRANSMISSION_RTO_MAX_MS);
}

static void doubling_is_bounded(void **state)
{
    (void) state;
    assert_int_equal(retransmission_doubled_ms(100, 0, 4000), 100);
    assert_int_equal(retransmission_doubled_ms(100, 3, 4000), 800);
    assert_int_equal(retransmission_doubled_ms(100, 1000, 4000), 4000);
    assert_int_equal(retransmission_doubled_ms(9000, 1, 4000), 9000);
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(before_the_first_measurement_it_is_the_minimum_and_doubles),
        TEST(the_first_measurement_counts_whole),
        TEST(it_is_never_below_the_minimum_nor_above_the_maximum),
        TEST(steady_round_trips_bring_it_close_to_them),
        TEST(many_acknowledgements_of_one_moment_are_one_measurement),
        TEST(a_wait_without_a_measurement_raises_it),
        TEST(doubling_is_bounded),
    };
    return cmocka_run_group_tests_name("retransmission", tests, NULL, NULL);
}
