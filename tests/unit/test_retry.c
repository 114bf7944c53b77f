#include "host/retry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const struct backoff_policy POLICY = {.first_ms = 40, .cap_ms = 1000, .throttled_ms = 400};

static struct loop loop;
static int tries;

static void expired(struct loop_timer *timer)
{
    (void) timer;
    tries++;
}

static int setup(void **state)
{
    (void) state;
    tries = 0;
    return loop_open(&loop, NULL);
}

static int teardown(void **state)
{
    (void) state;
    loop_close(&loop);
    return 0;
}

static void the_timer_expires_after_the_pause(void **state)
{
    struct loop_timer timer;
    struct backoff backoff;
    (void) state;
    loop_timer_init(&timer, expired);
    backoff_start(&backoff, &POLICY, INT64_MAX);
    int64_t pause_ms = retry_later(&loop, &timer, &backoff, ERROR_UNAVAILABLE);
    assert_in_range(pause_ms, 0, 40);
    int64_t due_ms = timer.due_ms;
    assert_int_equal(due_ms, loop_now_ms(&loop) + pause_ms);
    assert_int_equal(backoff.failures, 1);
    while (tries == 0)
        assert_int_equal(loop_turn(&loop, 1000, NULL), 0);
    assert_true(loop_now_ms(&loop) >= due_ms);
}

static void pauses_differ_and_follow_the_reason(void **state)
{
    struct loop_timer timer;
    struct backoff backoff;
    int64_t first_ms = -1;
    int different = 0;
    (void) state;
    loop_timer_init(&timer, expired);
    for (int i = 0; i < 50; i++) {
        backoff_start(&backoff, &POLICY, INT64_MAX);
        int64_t pause_ms = retry_later(&loop, &timer, &backoff, ERROR_THROTTLED);
        assert_in_range(pause_ms, 200, 400);
        first_ms = i == 0 ? pause_ms : first_ms;
        different += pause_ms != first_ms;
    }
    assert_true(different > 0);
    loop_timer_remove(&loop, &timer);
}

static void no_time_left_sets_no_timer(void **state)
{
    struct loop_timer timer;
    struct backoff backoff;
    (void) state;
    loop_timer_init(&timer, expired);
    backoff_start(&backoff, &POLICY, loop_now_ms(&loop));
    assert_int_equal(retry_later(&loop, &timer, &backoff, ERROR_UNAVAILABLE), -1);
    assert_false(timer.queued);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_timer_expires_after_the_pause, setup, teardown),
        cmocka_unit_test_setup_teardown(pauses_differ_and_follow_the_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(no_time_left_sets_no_timer, setup, teardown),
    };
    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
