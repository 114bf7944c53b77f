#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "channel/reconnect.h"

enum { NOW_MS = 1000000 };

static struct reconnect r;

static int fresh(void **state)
{
    (void) state;
    reconnect_init(&r, &RECONNECT_DATA, NOW_MS);
    return 0;
}

/* Only what the API itself refuses is final: whatever fails below it may pass, whatever its code. */
static void failures_are_classified(void **state)
{
    static const struct {
        enum api_class class;
        enum error_code code;
        enum reconnect_failure failure;
        const char *what;
    } cases[] = {
        {API_RETRY, ERROR_NOT_FOUND, RECONNECT_TRANSIENT, "NXDOMAIN"},
        {API_RETRY, ERROR_INVALID, RECONNECT_TRANSIENT, "a broken TLS record, a bad proxy answer"},
        {API_RETRY, ERROR_DENIED, RECONNECT_TRANSIENT, "407 of a proxy, an untrusted certificate"},
        {API_RETRY, ERROR_UNSUPPORTED, RECONNECT_TRANSIENT, "a TLS version that we don't speak"},
        {API_RETRY, ERROR_TOO_LARGE, RECONNECT_TRANSIENT, "an answer that is too long"},
        {API_RETRY, ERROR_TIMEOUT, RECONNECT_TRANSIENT, "no answer in time"},
        {API_RETRY, ERROR_CLOSED, RECONNECT_TRANSIENT, "the connection was closed"},
        {API_RETRY, ERROR_SYSTEM, RECONNECT_TRANSIENT, "out of memory or descriptors"},
        {API_RETRY, ERROR_UNAVAILABLE, RECONNECT_TRANSIENT, "503"},
        {API_RETRY, ERROR_THROTTLED, RECONNECT_THROTTLED, "429"},
        {API_REFRESH, ERROR_UNAVAILABLE, RECONNECT_TRANSIENT, "expired credentials"},
        {API_CLOCK, ERROR_UNAVAILABLE, RECONNECT_TRANSIENT, "a clock that is off"},
        {API_FAILED, ERROR_DENIED, RECONNECT_REFUSED, "403 AccessDeniedException"},
        {API_FAILED, ERROR_NOT_FOUND, RECONNECT_REFUSED, "404"},
        {API_FAILED, ERROR_INVALID, RECONNECT_REFUSED, "400: Session is already terminated"},
        {API_FAILED, ERROR_UNSUPPORTED, RECONNECT_REFUSED, "an operation that the service does not know"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (reconnect_classify(cases[i].class, cases[i].code) != cases[i].failure)
            fail_msg("%s", cases[i].what);
}

static void a_refusal_ends_a_data_channel_only(void **state)
{
    (void) state;
    reconnect_up(&r, NOW_MS);
    reconnect_acknowledged(&r, 5000);
    assert_int_equal(reconnect_down(&r, NOW_MS + 3600000, RECONNECT_REFUSED, 0), INT64_MAX);
    reconnect_init(&r, &RECONNECT_CONTROL, NOW_MS);
    int64_t now_ms = NOW_MS;
    for (int i = 0; i < 1000; i++) {
        int64_t at_ms = reconnect_down(&r, now_ms, RECONNECT_REFUSED, UINT32_MAX);
        if (i < RECONNECT_REFUSALS)
            assert_true(at_ms <= now_ms + 30000);
        else
            assert_int_equal(at_ms, now_ms + RECONNECT_REFUSED_MS);
        assert_true(i > 0 || at_ms < now_ms + 1000);
        now_ms = at_ms;
    }
    assert_true(reconnect_down(&r, now_ms, RECONNECT_TRANSIENT, 0) <= now_ms + 30000);
    assert_true(reconnect_down(&r, now_ms, RECONNECT_REFUSED, 0) <= now_ms + 30000);
    assert_int_equal(reconnect_deadline(&r), INT64_MAX);
}

static void a_good_connection_is_followed_by_the_next_at_once(void **state)
{
    static const struct {
        int64_t up_ms;
        uint64_t acknowledged;
        bool good;
    } cases[] = {{RECONNECT_GOOD_MS, 1, true},   {RECONNECT_GOOD_MS - 1, 1, false},
                 {RECONNECT_GOOD_MS, 0, false},  {RECONNECT_STEADY_MS - 1, 0, false},
                 {RECONNECT_STEADY_MS, 0, true}, {1, RECONNECT_GOOD_MESSAGES, true},
                 {3600 * 1000, 1000000, true},   {1, RECONNECT_GOOD_MESSAGES - 1, false}};
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fresh(NULL);
        reconnect_down(&r, NOW_MS, RECONNECT_TRANSIENT, UINT32_MAX);
        reconnect_up(&r, NOW_MS);
        reconnect_acknowledged(&r, cases[i].acknowledged);
        int64_t lost_ms = NOW_MS + cases[i].up_ms;
        int64_t at_ms = reconnect_down(&r, lost_ms, RECONNECT_TRANSIENT, UINT32_MAX);
        if ((at_ms == lost_ms) != cases[i].good)
            fail_msg("case %zu", i);
        if (!cases[i].good)
            continue;
        /* And the window is the first again, the time without a connection begins anew. */
        assert_int_equal(reconnect_deadline(&r), lost_ms + RECONNECT_GIVE_UP_MS);
        assert_int_equal(reconnect_down(&r, lost_ms, RECONNECT_TRANSIENT, UINT32_MAX), lost_ms + 100);
    }
}

/* The fault that this is for: close 1000 five milliseconds after opening, every time. */
static void a_channel_that_is_closed_as_it_opens_is_given_up_after_few_tries(void **state)
{
    (void) state;
    int64_t now_ms = NOW_MS;
    int tries = 0;
    for (;; tries++) {
        reconnect_up(&r, now_ms);
        int64_t at_ms = reconnect_down(&r, now_ms + 5, RECONNECT_TRANSIENT, UINT32_MAX / 2);
        if (at_ms == INT64_MAX)
            break;
        assert_true(at_ms >= now_ms + 5);
        now_ms = at_ms;
    }
    assert_in_range(now_ms, NOW_MS + RECONNECT_GIVE_UP_MS - 1000, NOW_MS + RECONNECT_GIVE_UP_MS);
    assert_in_range(tries, 20, 80);
}

/* What the last connection carried is no progress of the tries that follow: a session whose network was gone
 * tried 20 times a second, for ever. */
static void tries_after_a_connection_that_worked_slow_down_and_end(void **state)
{
    (void) state;
    reconnect_up(&r, NOW_MS);
    reconnect_acknowledged(&r, RECONNECT_GOOD_MESSAGES - 1);
    int64_t now_ms = NOW_MS;
    int tries = 0;
    for (int64_t at_ms = NOW_MS; at_ms != INT64_MAX && tries < 1000; tries++) {
        now_ms = at_ms;
        at_ms = reconnect_down(&r, now_ms, RECONNECT_TRANSIENT, UINT32_MAX / 2);
    }
    assert_in_range(now_ms, NOW_MS + RECONNECT_GIVE_UP_MS - 1000, NOW_MS + RECONNECT_GIVE_UP_MS);
    assert_in_range(tries, 20, 80);
}

static void throttling_has_a_floor(void **state)
{
    (void) state;
    assert_int_equal(reconnect_down(&r, NOW_MS, RECONNECT_THROTTLED, 0), NOW_MS + 1000);
    reconnect_init(&r, &RECONNECT_CONTROL, NOW_MS);
    assert_int_equal(reconnect_down(&r, NOW_MS, RECONNECT_THROTTLED, 0), NOW_MS + 2500);
}

static void pauses_grow_to_their_cap(void **state)
{
    (void) state;
    int64_t expected_ms = 100;
    for (int i = 0; i < 8; i++) {
        assert_int_equal(reconnect_down(&r, NOW_MS, RECONNECT_TRANSIENT, UINT32_MAX), NOW_MS + expected_ms);
        expected_ms = expected_ms * 2 < 5000 ? expected_ms * 2 : 5000;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(failures_are_classified, fresh),
        cmocka_unit_test_setup(a_refusal_ends_a_data_channel_only, fresh),
        cmocka_unit_test_setup(a_good_connection_is_followed_by_the_next_at_once, fresh),
        cmocka_unit_test_setup(a_channel_that_is_closed_as_it_opens_is_given_up_after_few_tries, fresh),
        cmocka_unit_test_setup(tries_after_a_connection_that_worked_slow_down_and_end, fresh),
        cmocka_unit_test_setup(throttling_has_a_floor, fresh),
        cmocka_unit_test_setup(pauses_grow_to_their_cap, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
