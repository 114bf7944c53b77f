/* The pacer's promises, by hand-made and by random schedules. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "channel/pacer.h"
#include "sim/lib/dice.h"

enum { RATE = 960, BURST = 512, LIMIT = 2 * RATE, HISTORY = 1 << 16 };

/* Every send with its time, to count windows exactly, not by the pacer's own buckets. */
struct history {
    int64_t sent_ms[HISTORY];
    uint32_t count;
    uint32_t oldest; /* first one inside the window of the last */
    uint32_t most;   /* in any window of 2 s */
};

static struct history history;

static void remember(int64_t now_ms, uint32_t count)
{
    for (; count > 0; count--) {
        assert_true(history.count < HISTORY);
        history.sent_ms[history.count++] = now_ms;
    }
    while (history.oldest < history.count && now_ms - history.sent_ms[history.oldest] > PACER_WINDOW_MS)
        history.oldest++;
    if (history.count - history.oldest > history.most)
        history.most = history.count - history.oldest;
}

static uint32_t send(struct pacer *p, int64_t now_ms, enum pacer_class class, uint32_t wanted)
{
    uint32_t allowed = pacer_allows(p, now_ms, class);
    uint32_t n = wanted < allowed ? wanted : allowed;
    pacer_sent(p, now_ms, class, n);
    remember(now_ms, n);
    return n;
}

static struct pacer fresh(uint32_t rate, uint32_t burst)
{
    struct pacer p;
    memset(&history, 0, sizeof history);
    pacer_init(&p, rate, burst, 0);
    return p;
}

/* Random traffic of both classes, random pauses, slow-downs: no window of 2 s, its ends included, ever holds
 * more than 2 × rate. */
static void no_window_of_2_s_holds_more_than_twice_the_rate(void **state)
{
    (void) state;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct dice d = {seed};
        uint32_t rate = dice_between(&d, 1, seed % 2 == 0 ? 2000 : 20);
        struct pacer p = fresh(rate, dice_between(&d, 0, 3 * rate));
        int64_t now_ms = dice_between(&d, 0, 100000);
        for (int i = 0; i < 3000 && history.count < HISTORY - 5000; i++) {
            uint32_t kind = dice_between(&d, 0, 99);
            if (kind < 60)
                now_ms += dice_between(&d, 0, 5);
            else if (kind < 62)
                now_ms += dice_between(&d, 0, 3000);
            else if (kind == 62)
                pacer_slow_down(&p, now_ms);
            send(&p, now_ms, kind % 3 == 0 ? PACER_INTERACTIVE : PACER_BULK,
                 dice_between(&d, 0, kind % 7 == 0 ? 3000 : 9));
        }
        assert_true(history.most <= 2 * rate);
    }
}

static void a_burst_after_quiet_goes_at_once(void **state)
{
    struct pacer p = fresh(RATE, BURST);
    (void) state;
    assert_int_equal(send(&p, 100, PACER_BULK, 4000), BURST);
    assert_true(send(&p, 101, PACER_BULK, 4000) <= 5);
    /* Half a burst twice is one burst. */
    p = fresh(RATE, BURST);
    assert_int_equal(send(&p, 100, PACER_BULK, BURST / 2), BURST / 2);
    uint32_t second = send(&p, 300, PACER_BULK, 4000);
    assert_in_range(second, BURST / 2, BURST / 2 + 100);
    /* Quiet for 2 s: a whole one again. */
    assert_int_equal(send(&p, 2500, PACER_BULK, BURST), BURST);
}

/* A bulk sender that wakes when it is told to. Returns messages sent; notes the longest time without any. */
static uint32_t bulk(struct pacer *p, int64_t *now_ms, int64_t until_ms, int64_t *longest_gap_ms,
                     uint32_t *wakes)
{
    int64_t last_ms = *now_ms;
    uint32_t sent = 0;
    while (*now_ms < until_ms) {
        uint32_t n = send(p, *now_ms, PACER_BULK, 100000);
        sent += n;
        *wakes += 1;
        if (n > 0) {
            if (*now_ms - last_ms > *longest_gap_ms)
                *longest_gap_ms = *now_ms - last_ms;
            last_ms = *now_ms;
        }
        int64_t next_ms = pacer_next_ms(p, *now_ms, PACER_BULK);
        assert_true(next_ms > *now_ms);
        *now_ms = next_ms;
    }
    return sent;
}

/* 97% of what the limit allows, on the wire, after a burst and for ever; and evenly: never a gap that
 * somebody would see, at no more than 150 wake-ups a second. */
static void bulk_is_spread_evenly_at_nearly_the_full_rate(void **state)
{
    struct pacer p = fresh(RATE, BURST);
    int64_t now_ms = 0, gap_ms = 0;
    uint32_t wakes = 0;
    (void) state;
    bulk(&p, &now_ms, 4000, &gap_ms, &wakes);
    assert_true(gap_ms <= 25);
    gap_ms = 0;
    wakes = 0;
    uint32_t sent = bulk(&p, &now_ms, 34000, &gap_ms, &wakes);
    assert_true(sent >= 30 * RATE * 98 / 100);
    assert_true(gap_ms <= 2 * PACER_CLUMP_MS);
    assert_true(wakes <= 30 * 150);
    assert_true(history.most <= LIMIT);
}

/* A loop that comes up to 60 ms late loses nothing of what it was allowed. */
static void a_late_loop_catches_up(void **state)
{
    struct pacer p = fresh(RATE, BURST);
    struct dice d = {7};
    uint32_t sent = 0;
    (void) state;
    for (int64_t now_ms = 0; now_ms < 30000; now_ms += dice_between(&d, 1, 60))
        sent += send(&p, now_ms, PACER_BULK, 100000);
    assert_true(sent >= 30 * RATE * 97 / 100);
    assert_true(history.most <= LIMIT);
}

/* Bulk takes all it can get, from a burst on; an interactive message each `every_ms` never waits. */
static void interactive_beside_bulk_never_waits(void **state)
{
    static const int64_t intervals[] = {1000, 100, 25, 10, 5};
    (void) state;
    for (size_t i = 0; i < sizeof intervals / sizeof intervals[0]; i++) {
        struct pacer p = fresh(RATE, BURST);
        uint32_t refused = 0, bulk_sent = 0;
        for (int64_t now_ms = 0; now_ms < 20000; now_ms++) {
            bulk_sent += send(&p, now_ms, PACER_BULK, 100000);
            if (now_ms % intervals[i] == 0)
                refused += send(&p, now_ms, PACER_INTERACTIVE, 1) == 0;
        }
        assert_int_equal(refused, 0);
        assert_true(history.most <= LIMIT);
        assert_true(bulk_sent >= 20 * (RATE - 1000 / (uint32_t) intervals[i]) * 96 / 100);
    }
}

/* Issue: a one-byte round trip beside a bulk copy within 25 ms in 99 of 100 cases,
 * as fast as a client may ask. */
static void back_to_back_round_trips_beside_bulk_stay_within_25_ms(void **state)
{
    struct pacer p = fresh(RATE, BURST);
    uint32_t trips = 0, slow = 0;
    int64_t asked_ms = 5, now_ms;
    (void) state;
    for (now_ms = 0; now_ms < 30000; now_ms++) {
        send(&p, now_ms, PACER_BULK, 100000);
        if (now_ms >= asked_ms && send(&p, now_ms, PACER_INTERACTIVE, 1) == 1) {
            slow += now_ms - asked_ms > 25;
            trips++;
            asked_ms = now_ms + 3; /* the client's own time */
        }
    }
    assert_true(trips > 5000);
    assert_true(slow * 100 <= trips);
}

static void bulk_leaves_the_reserve_untouched(void **state)
{
    struct pacer p = fresh(RATE, LIMIT); /* even if the burst were all */
    (void) state;
    assert_int_equal(send(&p, 0, PACER_BULK, 100000), LIMIT - LIMIT / PACER_RESERVE_PART);
    assert_int_equal(pacer_allows(&p, 0, PACER_BULK), 0);
    assert_int_equal(send(&p, 0, PACER_INTERACTIVE, 100000), LIMIT / PACER_RESERVE_PART);
    assert_int_equal(pacer_allows(&p, 0, PACER_INTERACTIVE), 0);
    assert_int_equal(pacer_next_ms(&p, 0, PACER_INTERACTIVE), PACER_WINDOW_MS + PACER_BUCKET_MS);
    assert_int_equal(pacer_allows(&p, 2004, PACER_INTERACTIVE), 0);
    assert_int_equal(pacer_allows(&p, 2005, PACER_INTERACTIVE), LIMIT);
}

static void rate_zero_is_no_limit(void **state)
{
    struct pacer p = fresh(0, 0);
    (void) state;
    assert_int_equal(pacer_allows(&p, 5, PACER_BULK), PACER_UNLIMITED);
    pacer_sent(&p, 5, PACER_BULK, 1000000);
    assert_int_equal(pacer_allows(&p, 5, PACER_BULK), PACER_UNLIMITED);
    assert_int_equal(pacer_next_ms(&p, 5, PACER_BULK), 5);
    pacer_slow_down(&p, 5);
    assert_false(pacer_closed_on(&p, 5));
    assert_int_equal(pacer_allows(&p, 5, PACER_INTERACTIVE), PACER_UNLIMITED);
}

static void one_message_a_second_still_flows(void **state)
{
    struct pacer p = fresh(1, 1);
    int64_t now_ms = 0, gap_ms = 0;
    uint32_t wakes = 0;
    (void) state;
    assert_in_range(bulk(&p, &now_ms, 60000, &gap_ms, &wakes), 50, 62);
    assert_true(history.most <= 2);
}

static void slowing_down_halves_and_recovers_slowly(void **state)
{
    struct pacer p = fresh(RATE, BURST);
    (void) state;
    pacer_slow_down(&p, 1000);
    assert_int_equal(p.rate, RATE / 2);
    assert_int_equal(p.burst, BURST / 2);
    pacer_slow_down(&p, 2500); /* the close that follows a pause: the same signal */
    assert_int_equal(p.rate, RATE / 2);
    pacer_slow_down(&p, 4600);
    assert_int_equal(p.rate, RATE / 4);
    pacer_slow_down(&p, 7000);
    pacer_slow_down(&p, 10000);
    assert_int_equal(p.rate, RATE / PACER_RATE_FLOOR_PART);
    assert_int_equal(p.burst, BURST / PACER_RATE_FLOOR_PART);
    pacer_allows(&p, 19999, PACER_BULK);
    assert_int_equal(p.rate, RATE / 8);
    pacer_allows(&p, 20000, PACER_BULK);
    assert_int_equal(p.rate, RATE / 8 + RATE / 20 + 1);
    for (int64_t now_ms = 20000; now_ms < 300000; now_ms += 1000)
        pacer_allows(&p, now_ms, PACER_BULK);
    assert_int_equal(p.rate, RATE);
    assert_int_equal(p.burst, BURST);
}

static void a_close_counts_only_at_a_high_rate(void **state)
{
    struct pacer p = fresh(RATE, BURST);
    int64_t now_ms = 0, gap_ms = 0;
    uint32_t wakes = 0;
    (void) state;
    send(&p, 0, PACER_BULK, 100);
    assert_false(pacer_closed_on(&p, 10));
    assert_int_equal(p.rate, RATE);
    bulk(&p, &now_ms, 5000, &gap_ms, &wakes);
    assert_true(pacer_closed_on(&p, now_ms));
    assert_int_equal(p.rate, RATE / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_window_of_2_s_holds_more_than_twice_the_rate),
        cmocka_unit_test(a_burst_after_quiet_goes_at_once),
        cmocka_unit_test(bulk_is_spread_evenly_at_nearly_the_full_rate),
        cmocka_unit_test(a_late_loop_catches_up),
        cmocka_unit_test(interactive_beside_bulk_never_waits),
        cmocka_unit_test(back_to_back_round_trips_beside_bulk_stay_within_25_ms),
        cmocka_unit_test(bulk_leaves_the_reserve_untouched),
        cmocka_unit_test(rate_zero_is_no_limit),
        cmocka_unit_test(one_message_a_second_still_flows),
        cmocka_unit_test(slowing_down_halves_and_recovers_slowly),
        cmocka_unit_test(a_close_counts_only_at_a_high_rate),
    };
    return cmocka_run_group_tests_name("pacer", tests, NULL, NULL);
}
