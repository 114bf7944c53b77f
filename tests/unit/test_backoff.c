#include "base/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct backoff_policy POLICY = {.first_ms = 100, .cap_ms = 1000, .throttled_ms = 400};

static int64_t next(struct backoff *retry, enum error_code reason, int64_t now_ms, uint32_t random)
{
    int64_t at_ms = -1;
    assert_true(backoff_next(retry, reason, now_ms, random, &at_ms));
    return at_ms - now_ms;
}

static void windows_double_up_to_the_cap(void **state)
{
    static const int64_t WINDOWS[] = {100, 200, 400, 800, 1000, 1000, 1000};
    struct backoff longest, shortest, middle;
    (void) state;
    backoff_start(&longest, &POLICY, INT64_MAX);
    backoff_start(&shortest, &POLICY, INT64_MAX);
    backoff_start(&middle, &POLICY, INT64_MAX);
    for (size_t i = 0; i < COUNT(WINDOWS); i++) {
        assert_int_equal(next(&longest, ERROR_UNAVAILABLE, 5000, UINT32_MAX), WINDOWS[i]);
        assert_int_equal(next(&shortest, ERROR_UNAVAILABLE, 5000, 0), 0);
        assert_int_equal(next(&middle, ERROR_UNAVAILABLE, 5000, UINT32_MAX / 2), WINDOWS[i] / 2);
    }
    backoff_succeed(&longest);
    assert_int_equal(next(&longest, ERROR_UNAVAILABLE, 5000, UINT32_MAX), 100);
}

static void throttling_raises_the_floor(void **state)
{
    static const int64_t WINDOWS[] = {400, 400, 400, 800, 1000, 1000};
    struct backoff longest, shortest;
    (void) state;
    backoff_start(&longest, &POLICY, INT64_MAX);
    backoff_start(&shortest, &POLICY, INT64_MAX);
    for (size_t i = 0; i < COUNT(WINDOWS); i++) {
        assert_int_equal(next(&longest, ERROR_THROTTLED, 0, UINT32_MAX), WINDOWS[i]);
        assert_int_equal(next(&shortest, ERROR_THROTTLED, 0, 0), WINDOWS[i] / 2);
    }
}

static void a_long_life_of_failures_stays_at_the_cap(void **state)
{
    struct backoff retry = {
        .policy = &BACKOFF_RECONNECT, .deadline_ms = INT64_MAX, .failures = UINT32_MAX - 1};
    (void) state;
    for (int i = 0; i < 4; i++)
        assert_int_equal(next(&retry, ERROR_CLOSED, 0, UINT32_MAX), 30000);
    assert_int_equal(retry.failures, UINT32_MAX);
}

static void no_pause_takes_more_than_half_of_what_is_left(void **state)
{
    struct backoff retry;
    int64_t now_ms = 0, at_ms;
    int tries = 0;
    (void) state;
    backoff_start(&retry, &POLICY, 10000);
    while (backoff_next(&retry, ERROR_UNAVAILABLE, now_ms, UINT32_MAX, &at_ms)) {
        assert_true(at_ms - now_ms <= (10000 - now_ms) / 2);
        assert_true(at_ms > now_ms);
        now_ms = at_ms;
        tries++;
    }
    /* Gave up only when less than a first window was left, and had tried often near the end. */
    assert_true(now_ms > 9900 && now_ms < 10000);
    assert_true(tries > 12);
}

static void a_deadline_that_has_passed_is_the_end(void **state)
{
    struct backoff retry;
    int64_t at_ms = 7;
    (void) state;
    backoff_start(&retry, &POLICY, 1000);
    assert_false(backoff_next(&retry, ERROR_UNAVAILABLE, 1000, 0, &at_ms));
    assert_false(backoff_next(&retry, ERROR_UNAVAILABLE, 2000, 0, &at_ms));
    assert_false(backoff_next(&retry, ERROR_THROTTLED, 901, 0, &at_ms));
    assert_int_equal(at_ms, 7);
    assert_true(backoff_next(&retry, ERROR_UNAVAILABLE, 900, 0, &at_ms));
}

/* What the settings and the protocol's description promise. */
static void the_policies_keep_their_promises(void **state)
{
    (void) state;
    assert_true(BACKOFF_RECONNECT.first_ms < 1000);
    assert_int_equal(BACKOFF_RECONNECT.cap_ms, 30000);
    const struct backoff_policy *const all[] = {&BACKOFF_CALLS, &BACKOFF_RECONNECT, &BACKOFF_RESUME};
    for (size_t i = 0; i < COUNT(all); i++)
        assert_true(all[i]->first_ms < all[i]->throttled_ms && all[i]->throttled_ms < all[i]->cap_ms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_double_up_to_the_cap),
        cmocka_unit_test(throttling_raises_the_floor),
        cmocka_unit_test(a_long_life_of_failures_stays_at_the_cap),
        cmocka_unit_test(no_pause_takes_more_than_half_of_what_is_left),
        cmocka_unit_test(a_deadline_that_has_passed_is_the_end),
        cmocka_unit_test(the_policies_keep_their_promises),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
