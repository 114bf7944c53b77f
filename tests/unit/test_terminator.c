#include "lifecycle/terminator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)

/* The article's times, both calls wanted. */
static const struct terminator_options article = {.initial_wait_ms = 30 * MINUTE,
                                                  .idle_timeout_ms = 15 * MINUTE,
                                                  .max_life_ms = 24 * HOUR,
                                                  .end_deadline_ms = 5 * MINUTE,
                                                  .stop_grace_ms = 25 * SECOND,
                                                  .drain_ms = 25 * SECOND,
                                                  .scale_in = true,
                                                  .stop_task = true};
static struct terminator t;
static struct terminator_action action;

static void start_with(struct terminator_options options)
{
    terminator_init(&t, &options, 0, 42);
}

static void start(void)
{
    start_with(article);
}

static void see(uint32_t open, uint64_t total, int64_t last_activity_ms, int64_t now_ms)
{
    struct terminator_activity activity = {open, total, open > 0, last_activity_ms};
    terminator_activity(&t, &activity, now_ms);
}

static void expect_nothing(void)
{
    assert_false(terminator_next(&t, &action));
}

static uint32_t expect(enum terminator_action_kind kind)
{
    assert_true(terminator_next(&t, &action));
    assert_int_equal(action.kind, kind);
    return action.ticket;
}

static void expect_exit(int status, const char *reason)
{
    expect(TERMINATOR_EXIT);
    assert_int_equal(action.status, status);
    assert_string_equal(action.text, reason);
    expect_nothing();
    assert_int_equal(t.state, TERMINATOR_GONE);
    assert_int_equal(terminator_deadline(&t), INT64_MAX);
}

/* Answers the one action that must be next. */
static void answer(enum terminator_action_kind kind, enum terminator_result result, int64_t now_ms)
{
    uint32_t ticket = expect(kind);
    assert_int_not_equal(ticket, 0);
    terminator_report(&t, ticket, result, now_ms);
}

static void run_to_exit(int64_t now_ms, const char *reason)
{
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, now_ms);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_DONE, now_ms);
    answer(TERMINATOR_STOP_TASK, TERMINATOR_DONE, now_ms);
    if (t.activity.total_sessions > 0) /* what their users are told may still be on the way */
        answer(TERMINATOR_END_SESSIONS, TERMINATOR_DONE, now_ms);
    expect_exit(0, reason);
}

/* ---- when ---------------------------------------------------------------------------------------------- */

static void test_waits_strictly_longer_than_the_initial_wait(void **state)
{
    (void) state;
    start();
    assert_int_equal(terminator_deadline(&t), 30 * MINUTE + 1);
    assert_int_equal(terminator_lives_until(&t), 24 * HOUR + 1);
    terminator_tick(&t, 30 * MINUTE);
    expect_nothing();
    assert_int_equal(t.state, TERMINATOR_WAITING);
    terminator_tick(&t, 30 * MINUTE + 1);
    run_to_exit(30 * MINUTE + 2, "no session came within 30m0s");
}

static void test_idle_counts_from_the_last_activity(void **state)
{
    (void) state;
    start();
    see(1, 1, INT64_MIN, 1 * MINUTE);
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
    assert_int_equal(terminator_lives_until(&t), 24 * HOUR + 1);
    terminator_tick(&t, 10 * HOUR);
    expect_nothing();
    see(0, 1, 10 * HOUR + 500, 10 * HOUR + 900);
    assert_int_equal(t.state, TERMINATOR_IDLE);
    assert_int_equal(terminator_deadline(&t), 10 * HOUR + 500 + 15 * MINUTE + 1);
    see(0, 1, 10 * HOUR + 2000, 10 * HOUR + 3000); /* a trailing line of the log */
    assert_int_equal(terminator_deadline(&t), 10 * HOUR + 2000 + 15 * MINUTE + 1);
    terminator_tick(&t, 10 * HOUR + 2000 + 15 * MINUTE);
    expect_nothing();
    terminator_tick(&t, 10 * HOUR + 2000 + 15 * MINUTE + 1);
    run_to_exit(11 * HOUR, "idle for 15m0s after 1 session");
}

static void test_a_session_between_two_snapshots_counts(void **state)
{
    (void) state;
    start();
    see(0, 2, 5 * MINUTE, 5 * MINUTE + 700);
    assert_int_equal(t.state, TERMINATOR_IDLE);
    assert_int_equal(terminator_deadline(&t), 20 * MINUTE + 1);
    see(1, 3, 5 * MINUTE, 19 * MINUTE);
    see(0, 3, INT64_MIN, 19 * MINUTE + 1000); /* a relay that was restarted and has forgotten */
    assert_int_equal(terminator_deadline(&t), 34 * MINUTE + 1);
}

static void test_activity_in_the_future_is_now(void **state)
{
    (void) state;
    start();
    see(0, 1, 100 * HOUR, MINUTE);
    assert_int_equal(terminator_deadline(&t), 16 * MINUTE + 1);
}

static void test_maximum_life_ends_a_session(void **state)
{
    (void) state;
    start();
    see(2, 2, INT64_MIN, MINUTE);
    terminator_tick(&t, 24 * HOUR);
    expect_nothing();
    terminator_tick(&t, 24 * HOUR + 1);
    uint32_t ticket = expect(TERMINATOR_LAST_CHECK);
    assert_true(action.forced);
    assert_false(terminator_accepting(&t));
    see(2, 2, INT64_MIN, 24 * HOUR + 2); /* changes nothing now */
    terminator_report(&t, ticket, TERMINATOR_DONE, 24 * HOUR + 3);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_DONE, 24 * HOUR + 4);
    answer(TERMINATOR_STOP_TASK, TERMINATOR_ALREADY_SO, 24 * HOUR + 5);
    ticket = expect(TERMINATOR_END_SESSIONS);
    assert_string_equal(action.text, "maximum life of 24h0m0s reached with 2 sessions open");
    expect_nothing();
    assert_int_equal(terminator_deadline(&t), 24 * HOUR + 5 + TERMINATOR_LINGER_MS);
    terminator_report(&t, ticket, TERMINATOR_DONE, 24 * HOUR + 100);
    expect_exit(0, "maximum life of 24h0m0s reached with 2 sessions open");
}

static void test_no_maximum_life(void **state)
{
    (void) state;
    struct terminator_options options = article;
    options.max_life_ms = 0;
    start_with(options);
    see(1, 1, INT64_MIN, MINUTE);
    assert_int_equal(terminator_deadline(&t), INT64_MAX);
    assert_int_equal(terminator_lives_until(&t), INT64_MAX);
    terminator_tick(&t, 100000 * HOUR);
    expect_nothing();
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
}

static void test_waits_near_the_end_of_time_do_not_wrap(void **state)
{
    (void) state;
    struct terminator_options options = article;
    options.initial_wait_ms = options.idle_timeout_ms = options.max_life_ms = INT64_MAX;
    start_with(options);
    assert_int_equal(terminator_deadline(&t), INT64_MAX);
    see(0, 1, HOUR, 2 * HOUR);
    assert_int_equal(terminator_deadline(&t), INT64_MAX);
    terminator_tick(&t, INT64_MAX - 1);
    expect_nothing();
}

static void test_a_clock_that_steps_back_is_held(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 10 * MINUTE);
    terminator_tick(&t, -5 * HOUR);
    assert_int_equal(terminator_deadline(&t), 30 * MINUTE + 1);
    see(1, 1, INT64_MIN, 5 * MINUTE);
    see(0, 1, INT64_MIN, 6 * MINUTE);
    assert_int_equal(terminator_deadline(&t), 25 * MINUTE + 1);
}

static void test_what_is_known_wins_over_what_has_run_out(void **state)
{
    (void) state;
    start();
    see(1, 1, INT64_MIN, 20 * HOUR); /* the initial wait was over for hours, but nothing called */
    expect_nothing();
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
}

/* ---- the end, called off ------------------------------------------------------------------------------- */

static void test_in_use_at_the_last_check(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    assert_int_equal(t.state, TERMINATOR_CHECKING);
    assert_true(terminator_accepting(&t)); /* the relay closes admission when it answers */
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_IN_USE, 31 * MINUTE + 50);
    expect_nothing();
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
    assert_true(terminator_accepting(&t));
    see(0, 1, 40 * MINUTE, 40 * MINUTE + 10);
    assert_int_equal(terminator_deadline(&t), 55 * MINUTE + 1);
}

static void test_in_use_while_checking(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    uint32_t ticket = expect(TERMINATOR_LAST_CHECK);
    see(1, 1, INT64_MIN, 31 * MINUTE + 10);
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
    terminator_report(&t, ticket, TERMINATOR_DONE, 31 * MINUTE + 20); /* stale */
    expect_nothing();
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
}

static void test_a_check_that_was_not_pulled_is_withdrawn(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    see(1, 1, INT64_MIN, 31 * MINUTE + 10);
    expect_nothing();
}

static void test_used_and_left_while_checking(void **state)
{
    (void) state;
    start();
    see(0, 1, MINUTE, MINUTE);
    terminator_tick(&t, 17 * MINUTE);
    expect(TERMINATOR_LAST_CHECK);
    see(0, 2, 17 * MINUTE, 17 * MINUTE + 10);
    assert_int_equal(t.state, TERMINATOR_IDLE);
    assert_int_equal(terminator_deadline(&t), 32 * MINUTE + 1);
}

static void test_admission_is_open_between_attempts(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    assert_false(terminator_accepting(&t));
    answer(TERMINATOR_SCALE_IN, TERMINATOR_FAILED, 31 * MINUTE + 100);
    assert_int_equal(t.state, TERMINATOR_PAUSING);
    assert_true(terminator_accepting(&t));
    expect_nothing();
    int64_t again_ms = terminator_deadline(&t);
    terminator_tick(&t, again_ms);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, again_ms); /* each attempt has its own check */
    answer(TERMINATOR_SCALE_IN, TERMINATOR_FAILED, again_ms);
    see(1, 1, INT64_MIN, again_ms + 10);
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
    assert_string_equal(t.reason, "");
}

static void test_used_during_an_attempt_that_fails(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    uint32_t ticket = expect(TERMINATOR_SCALE_IN);
    see(1, 1, INT64_MIN, 31 * MINUTE + 10); /* through AWS's agent, which has no admission */
    assert_int_equal(t.state, TERMINATOR_ACTING);
    terminator_report(&t, ticket, TERMINATOR_FAILED, 31 * MINUTE + 20);
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
    assert_true(terminator_accepting(&t));
}

static void test_no_way_back_after_the_scale_in(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_ALREADY_SO, 31 * MINUTE);
    answer(TERMINATOR_STOP_TASK, TERMINATOR_FAILED, 31 * MINUTE);
    assert_false(terminator_accepting(&t));
    see(1, 1, INT64_MIN, 31 * MINUTE + 10);
    assert_int_equal(t.state, TERMINATOR_PAUSING);
    int64_t again_ms = terminator_deadline(&t);
    terminator_tick(&t, again_ms);
    answer(TERMINATOR_STOP_TASK, TERMINATOR_DONE, again_ms); /* without another check */
    expect(TERMINATOR_END_SESSIONS);
}

static void test_the_service_was_updated_recently(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_IN_USE, 31 * MINUTE + 100);
    assert_int_equal(t.state, TERMINATOR_WAITING);
    assert_true(terminator_accepting(&t));
    assert_int_equal(terminator_deadline(&t), 61 * MINUTE + 101);

    start();
    see(0, 1, 0, 1);
    terminator_tick(&t, 16 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 16 * MINUTE);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_IN_USE, 16 * MINUTE + 100);
    assert_int_equal(t.state, TERMINATOR_IDLE);
    assert_int_equal(terminator_deadline(&t), 31 * MINUTE + 101);
}

/* Tasks of one service that end at once do so one by one: each steps aside for a random time, once an end. */
static void test_a_crowd_leaves_one_by_one(void **state)
{
    int64_t pauses_ms[2];
    (void) state;
    for (uint64_t i = 0; i < 2; i++) {
        terminator_init(&t, &article, 0, 41 + i);
        terminator_tick(&t, 31 * MINUTE);
        answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
        uint32_t ticket = expect(TERMINATOR_SCALE_IN);
        assert_false(action.stepped_aside);
        terminator_report(&t, ticket, TERMINATOR_CROWDED, 31 * MINUTE);
        expect_nothing();
        assert_int_equal(t.state, TERMINATOR_PAUSING);
        assert_true(terminator_accepting(&t));
        pauses_ms[i] = terminator_deadline(&t) - 31 * MINUTE;
        assert_in_range(pauses_ms[i], 0, TERMINATOR_ASIDE_MS);
        terminator_tick(&t, terminator_deadline(&t));
        answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, t.now_ms); /* it may be in use */
        ticket = expect(TERMINATOR_SCALE_IN);
        assert_true(action.stepped_aside);
        terminator_report(&t, ticket, TERMINATOR_DONE, t.now_ms);
        answer(TERMINATOR_STOP_TASK, TERMINATOR_ALREADY_SO, t.now_ms);
        expect_exit(0, "no session came within 30m0s");
    }
    assert_int_not_equal(pauses_ms[0], pauses_ms[1]);

    start(); /* used while it waits: another shutdown steps aside anew */
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_CROWDED, 31 * MINUTE);
    see(1, 1, INT64_MIN, 31 * MINUTE);
    assert_int_equal(t.state, TERMINATOR_ACTIVE);
    see(0, 1, 32 * MINUTE, 32 * MINUTE);
    terminator_tick(&t, 50 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 50 * MINUTE);
    expect(TERMINATOR_SCALE_IN);
    assert_false(action.stepped_aside);
}

/* How recent an update of the service counts, and how often that is believed. */
static void test_updates_without_a_session_do_not_keep_it_up_for_ever(void **state)
{
    (void) state;
    struct terminator_options options = article;
    options.initial_wait_ms = 90 * SECOND;
    start_with(options);
    int64_t now_ms = 90 * SECOND + 1;
    for (int i = 0; i <= TERMINATOR_UPDATED_MAX; i++) {
        terminator_tick(&t, now_ms);
        answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, now_ms);
        uint32_t ticket = expect(TERMINATOR_SCALE_IN);
        assert_int_equal(action.updated_within_ms, i < TERMINATOR_UPDATED_MAX ? 45 * SECOND : 0);
        if (i == TERMINATOR_UPDATED_MAX)
            break;
        terminator_report(&t, ticket, TERMINATOR_IN_USE, now_ms);
        now_ms += 90 * SECOND + 1;
    }

    start(); /* one who came makes the next one believable */
    for (int i = 0; i < TERMINATOR_UPDATED_MAX + 2; i++) {
        now_ms = t.now_ms + HOUR;
        terminator_tick(&t, now_ms);
        answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, now_ms);
        uint32_t ticket = expect(TERMINATOR_SCALE_IN);
        assert_int_equal(action.updated_within_ms, TERMINATOR_UPDATED_MS);
        terminator_report(&t, ticket, TERMINATOR_IN_USE, now_ms);
        see(1, 1, INT64_MIN, now_ms + 1);
        see(0, 1, now_ms + 2, now_ms + 2);
    }

    start();
    terminator_sigint(&t, MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, MINUTE);
    expect(TERMINATOR_SCALE_IN);
    assert_int_equal(action.updated_within_ms, 0); /* nothing holds off a forced shutdown */
}

static void test_a_forced_shutdown_leaves_a_recently_updated_count(void **state)
{
    (void) state;
    start();
    terminator_sigint(&t, MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, MINUTE);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_IN_USE, MINUTE);
    answer(TERMINATOR_STOP_TASK, TERMINATOR_DONE, MINUTE);
    expect_exit(0, "interrupted");
}

static void test_an_end_on_its_way_becomes_forced(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    uint32_t ticket = expect(TERMINATOR_LAST_CHECK);
    assert_false(action.forced);
    terminator_sigint(&t, 31 * MINUTE + 1);
    terminator_report(&t, ticket, TERMINATOR_IN_USE, 31 * MINUTE + 2);
    expect(TERMINATOR_LAST_CHECK); /* asked again, now for certain */
    assert_true(action.forced);
    terminator_report(&t, action.ticket, TERMINATOR_IN_USE, 31 * MINUTE + 3); /* takes no other answer */
    expect(TERMINATOR_SCALE_IN);
    assert_string_equal(action.text, "interrupted");
}

/* ---- attempts ------------------------------------------------------------------------------------------ */

static void test_backoff_grows_with_jitter_up_to_its_bound(void **state)
{
    (void) state;
    static const int64_t longest_ms[] = {500, 1000, 2000, 4000, 8000, 8000, 8000, 8000};
    struct terminator_options options = article;
    options.end_deadline_ms = HOUR;
    int64_t first_pauses[2] = {0, 0};
    for (int run = 0; run < 2; run++) {
        terminator_init(&t, &options, 0, (uint64_t) run);
        terminator_sigint(&t, 0);
        answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 0);
        int64_t now_ms = 0;
        for (size_t i = 0; i < sizeof longest_ms / sizeof longest_ms[0]; i++) {
            answer(TERMINATOR_SCALE_IN, TERMINATOR_FAILED, now_ms);
            int64_t pause_ms = terminator_deadline(&t) - now_ms;
            assert_in_range(pause_ms, longest_ms[i] / 2, longest_ms[i]);
            if (i == 0)
                first_pauses[run] = pause_ms;
            now_ms += pause_ms;
            terminator_tick(&t, now_ms - 1);
            expect_nothing();
            terminator_tick(&t, now_ms);
        }
    }
    assert_int_not_equal(first_pauses[0], first_pauses[1]);
}

/* Fails everything until it is over; says how long the end took. */
static int64_t end_without_api(enum terminator_result result, int *status)
{
    int64_t now_ms = 31 * MINUTE;
    terminator_tick(&t, now_ms);
    for (int i = 0; i < 1000; i++) {
        while (terminator_next(&t, &action)) {
            if (action.kind == TERMINATOR_EXIT) {
                *status = action.status;
                return now_ms - 31 * MINUTE;
            }
            enum terminator_result given = action.kind == TERMINATOR_LAST_CHECK ? TERMINATOR_DONE : result;
            terminator_report(&t, action.ticket, given, now_ms);
        }
        now_ms = terminator_deadline(&t);
        terminator_tick(&t, now_ms);
    }
    fail_msg("never ends");
    return 0;
}

static void test_an_api_that_fails_until_the_deadline(void **state)
{
    (void) state;
    int status = 0;
    start();
    int64_t took_ms = end_without_api(TERMINATOR_FAILED, &status);
    assert_in_range(took_ms, 5 * MINUTE, 5 * MINUTE + 1);
    assert_int_equal(status, TERMINATOR_EXIT_UNFINISHED);
    struct terminator_summary summary;
    terminator_summary(&t, &summary);
    assert_int_equal(summary.step_results[TERMINATOR_STEP_SCALE_IN], TERMINATOR_GIVEN_UP);
    assert_int_equal(summary.step_results[TERMINATOR_STEP_STOP_TASK],
                     TERMINATOR_GIVEN_UP); /* was tried all the same */
    assert_in_range(summary.attempts, 15, 60);
}

static void test_refusals_are_given_up_early(void **state)
{
    (void) state;
    int status = 0;
    start();
    int64_t took_ms = end_without_api(TERMINATOR_REFUSED, &status);
    assert_in_range(took_ms, 0, 4 * SECOND);
    assert_int_equal(status, TERMINATOR_EXIT_UNFINISHED);
    assert_int_equal(t.attempts, 2 * TERMINATOR_REFUSALS_MAX);
}

static void test_an_answer_that_never_comes(void **state)
{
    (void) state;
    start();
    terminator_sigint(&t, 0);
    uint32_t check = expect(TERMINATOR_LAST_CHECK);
    assert_int_equal(action.deadline_ms, TERMINATOR_CHECK_MS);
    terminator_tick(&t, TERMINATOR_CHECK_MS);
    uint32_t first = expect(TERMINATOR_SCALE_IN); /* a forced shutdown does without the check */
    terminator_report(&t, check, TERMINATOR_IN_USE, TERMINATOR_CHECK_MS + 1);
    assert_int_equal(action.deadline_ms, TERMINATOR_CHECK_MS + TERMINATOR_ATTEMPT_MS);
    terminator_tick(&t, TERMINATOR_CHECK_MS + TERMINATOR_ATTEMPT_MS);
    assert_int_equal(t.state, TERMINATOR_PAUSING);
    terminator_report(&t, first, TERMINATOR_DONE, t.now_ms); /* too late */
    assert_int_equal(t.state, TERMINATOR_PAUSING);
    terminator_tick(&t, terminator_deadline(&t));
    uint32_t second = expect(TERMINATOR_SCALE_IN);
    assert_int_not_equal(first, second);
}

static void test_a_check_that_cannot_tell_is_tried_until_the_deadline(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    int64_t now_ms = 31 * MINUTE;
    unsigned checks = 0;
    while (terminator_next(&t, &action) && action.kind == TERMINATOR_LAST_CHECK) {
        checks++;
        terminator_report(&t, action.ticket, TERMINATOR_FAILED, now_ms);
        if (t.state == TERMINATOR_PAUSING) {
            now_ms = terminator_deadline(&t);
            terminator_tick(&t, now_ms);
        }
    }
    assert_int_equal(action.kind, TERMINATOR_SCALE_IN);
    assert_int_equal(now_ms, 36 * MINUTE);
    assert_in_range(checks, 30, 90);
}

static void test_sleep_does_not_count_against_the_deadline(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    uint32_t ticket = expect(TERMINATOR_SCALE_IN);
    terminator_report(&t, ticket, TERMINATOR_FAILED, 40 * HOUR); /* the process was stopped meanwhile */
    assert_int_equal(t.state, TERMINATOR_PAUSING);
    terminator_tick(&t, terminator_deadline(&t));
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, t.now_ms);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_DONE, t.now_ms);
}

static const struct {
    bool scale_in;
    bool stop_task;
} wanted[] = {{false, false}, {true, false}, {false, true}, {true, true}};

static void test_only_what_is_wanted(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        struct terminator_options options = article;
        options.scale_in = wanted[i].scale_in;
        options.stop_task = wanted[i].stop_task;
        start_with(options);
        terminator_tick(&t, 31 * MINUTE);
        answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
        if (wanted[i].scale_in)
            answer(TERMINATOR_SCALE_IN, TERMINATOR_DONE, 31 * MINUTE);
        if (wanted[i].stop_task)
            answer(TERMINATOR_STOP_TASK, TERMINATOR_DONE, 31 * MINUTE);
        expect_exit(0, "no session came within 30m0s");
    }
}

/* ---- signals and the wrapped command ------------------------------------------------------------------- */

static void test_sigterm_calls_nothing(void **state)
{
    (void) state;
    start();
    terminator_sigterm(&t, MINUTE);
    expect_exit(0, "ECS is stopping this task");
    terminator_sigint(&t, MINUTE);
    terminator_sigterm(&t, MINUTE);
    terminator_tick(&t, 100 * HOUR);
    expect_nothing();
}

static void test_sigterm_lets_sessions_and_command_finish(void **state)
{
    (void) state;
    struct terminator_options options = article;
    options.has_command = true;
    start_with(options);
    see(1, 1, INT64_MIN, MINUTE);
    terminator_sigterm(&t, 2 * MINUTE);
    expect(TERMINATOR_STOP_COMMAND);
    expect_nothing();
    assert_false(terminator_accepting(&t));
    terminator_command_ended(&t, 7, 2 * MINUTE + 100);
    expect_nothing(); /* a session is still open */
    assert_int_equal(terminator_deadline(&t), 2 * MINUTE + 25 * SECOND);
    see(0, 1, 2 * MINUTE + 9000, 2 * MINUTE + 9001);
    uint32_t ticket = expect(TERMINATOR_END_SESSIONS); /* its report may still be on the way */
    expect_nothing();
    assert_int_equal(terminator_deadline(&t), 2 * MINUTE + 9001 + TERMINATOR_LINGER_MS);
    terminator_report(&t, ticket, TERMINATOR_DONE, 2 * MINUTE + 9050);
    expect_exit(7, "ECS is stopping this task");
}

static void test_sigterm_ends_what_does_not_finish(void **state)
{
    (void) state;
    struct terminator_options options = article;
    options.has_command = true;
    options.stop_grace_ms = 10 * SECOND;
    start_with(options);
    see(1, 1, INT64_MIN, 0);
    terminator_sigterm(&t, 0);
    expect(TERMINATOR_STOP_COMMAND);
    terminator_tick(&t, 10 * SECOND - 1);
    expect_nothing();
    terminator_tick(&t, 10 * SECOND);
    expect(TERMINATOR_KILL_COMMAND);
    expect_nothing();
    terminator_tick(&t, 25 * SECOND);
    expect(TERMINATOR_END_SESSIONS);
    expect_nothing();
    terminator_tick(&t, 27 * SECOND);
    expect_exit(137, "ECS is stopping this task"); /* neither sessions nor command ever answered */
}

/* The relay answers when the service has heard why each session ended, which is later than their end. */
static void test_sessions_that_were_told_are_gone_when_the_answer_comes(void **state)
{
    (void) state;
    start();
    see(1, 1, INT64_MIN, 0);
    terminator_sigterm(&t, 0);
    terminator_tick(&t, 25 * SECOND);
    uint32_t ticket = expect(TERMINATOR_END_SESSIONS);
    see(0, 1, 25 * SECOND, 25 * SECOND + 1);
    expect_nothing();
    terminator_report(&t, ticket, TERMINATOR_DONE, 25 * SECOND + 2);
    expect_exit(0, "ECS is stopping this task");
}

static void test_sigterm_withdraws_a_call_that_was_not_pulled(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    assert_int_equal(t.state, TERMINATOR_ACTING);
    terminator_sigterm(&t, 31 * MINUTE);
    expect_exit(0, "ECS is stopping this task");
}

static void test_sigterm_awaits_the_call_under_way(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    uint32_t ticket = expect(TERMINATOR_SCALE_IN);
    terminator_sigterm(&t, 31 * MINUTE + 10); /* its effect, before its answer */
    expect_nothing();
    terminator_report(&t, ticket, TERMINATOR_DONE, 31 * MINUTE + 20);
    expect_exit(0, "no session came within 30m0s"); /* our own reason stands; no StopTask */

    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    expect(TERMINATOR_SCALE_IN);
    terminator_sigterm(&t, 31 * MINUTE + 10);
    terminator_tick(&t, 31 * MINUTE + 10 + 25 * SECOND); /* it never answers */
    expect_exit(0, "no session came within 30m0s");
}

/* A session that FUMIDAI_IDLE_BY does not count holds up neither the end nor what comes after it; one that
 * has come to life since has the time that SIGTERM gives. */
static void test_sigterm_after_an_idle_end_with_forgotten_sessions(void **state)
{
    (void) state;
    for (int busy = 0; busy < 2; busy++) {
        start();
        struct terminator_activity forgotten = {1, 1, false, MINUTE};
        terminator_activity(&t, &forgotten, MINUTE);
        terminator_tick(&t, 17 * MINUTE);
        answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 17 * MINUTE);
        answer(TERMINATOR_SCALE_IN, TERMINATOR_DONE, 17 * MINUTE);
        uint32_t ticket = expect(TERMINATOR_STOP_TASK);
        forgotten.busy = busy;
        terminator_activity(&t, &forgotten, 17 * MINUTE);
        terminator_sigterm(&t, 17 * MINUTE); /* the call's effect, before its answer */
        terminator_report(&t, ticket, TERMINATOR_DONE, 17 * MINUTE);
        if (busy) {
            expect_nothing();
            assert_int_equal(terminator_deadline(&t), 17 * MINUTE + 25 * SECOND);
            terminator_tick(&t, 17 * MINUTE + 25 * SECOND);
        }
        expect(TERMINATOR_END_SESSIONS);
    }
}

static void test_sigterm_between_attempts(void **state)
{
    (void) state;
    start();
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_FAILED, 31 * MINUTE);
    terminator_sigterm(&t, 31 * MINUTE + 10);
    expect_exit(0, "ECS is stopping this task");
}

/* How a wrapped command's own end becomes the exit status. */
static const struct {
    int command;
    enum terminator_result scale_in;
    int expected;
} statuses[] = {
    {0, TERMINATOR_DONE, 0},     {3, TERMINATOR_DONE, 3},
    {137, TERMINATOR_DONE, 137}, {0, TERMINATOR_REFUSED, TERMINATOR_EXIT_UNFINISHED},
    {3, TERMINATOR_REFUSED, 3},
};

static void test_a_command_that_ends_by_itself(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct terminator_options options = article;
        options.has_command = true;
        options.stop_task = false;
        start_with(options);
        see(1, 1, INT64_MIN, SECOND);
        see(0, 1, SECOND, 2 * SECOND);
        terminator_command_ended(&t, statuses[i].command, MINUTE);
        answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, MINUTE);
        answer(TERMINATOR_SCALE_IN, statuses[i].scale_in, MINUTE);
        while (t.state == TERMINATOR_PAUSING) {
            terminator_tick(&t, terminator_deadline(&t));
            answer(TERMINATOR_SCALE_IN, statuses[i].scale_in, t.now_ms);
        }
        char reason[TERMINATOR_REASON_SIZE];
        snprintf(reason, sizeof reason, "the wrapped command ended with status %d", statuses[i].command);
        answer(TERMINATOR_END_SESSIONS, TERMINATOR_DONE, t.now_ms);
        expect_exit(statuses[i].expected, reason);
    }
}

static void test_keep_alive_task(void **state)
{
    (void) state;
    struct terminator_options options = article;
    options.has_command = true;
    options.keep_alive_task = true;
    start_with(options);
    terminator_command_ended(&t, 3, MINUTE);
    expect_nothing();
    assert_int_equal(t.state, TERMINATOR_WAITING);
    terminator_tick(&t, 31 * MINUTE);
    run_to_exit(31 * MINUTE, "no session came within 30m0s");
}

static void test_a_command_that_is_stopped_at_the_end_does_not_count(void **state)
{
    (void) state;
    struct terminator_options options = article;
    options.has_command = true;
    start_with(options);
    terminator_tick(&t, 31 * MINUTE);
    answer(TERMINATOR_LAST_CHECK, TERMINATOR_DONE, 31 * MINUTE);
    answer(TERMINATOR_SCALE_IN, TERMINATOR_DONE, 31 * MINUTE);
    answer(TERMINATOR_STOP_TASK, TERMINATOR_DONE, 31 * MINUTE);
    expect(TERMINATOR_STOP_COMMAND);
    expect_nothing();
    terminator_command_ended(&t, 143, 31 * MINUTE + 10);
    expect_exit(0, "no session came within 30m0s");
}

static void test_summary(void **state)
{
    (void) state;
    struct terminator_summary summary;
    start();
    terminator_summary(&t, &summary);
    assert_string_equal(summary.reason, "");
    assert_int_equal(summary.step_results[TERMINATOR_STEP_SCALE_IN], TERMINATOR_NOT_TRIED);
    see(0, 4, HOUR, HOUR);
    terminator_tick(&t, 2 * HOUR);
    run_to_exit(2 * HOUR + SECOND, "idle for 15m0s after 4 sessions");
    terminator_summary(&t, &summary);
    assert_int_equal(summary.cause, TERMINATOR_CAUSE_IDLE);
    assert_int_equal(summary.total_sessions, 4);
    assert_int_equal(summary.alive_ms, 2 * HOUR + SECOND);
    assert_int_equal(summary.attempts, 2);
    assert_int_equal(summary.step_results[TERMINATOR_STEP_SCALE_IN], TERMINATOR_SUCCEEDED);
    assert_int_equal(summary.step_results[TERMINATOR_STEP_STOP_TASK], TERMINATOR_SUCCEEDED);
    assert_string_equal(terminator_state_name(TERMINATOR_WAITING), "waiting");
    assert_string_equal(terminator_state_name(t.state), "gone");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waits_strictly_longer_than_the_initial_wait),
        cmocka_unit_test(test_idle_counts_from_the_last_activity),
        cmocka_unit_test(test_a_session_between_two_snapshots_counts),
        cmocka_unit_test(test_activity_in_the_future_is_now),
        cmocka_unit_test(test_maximum_life_ends_a_session),
        cmocka_unit_test(test_no_maximum_life),
        cmocka_unit_test(test_waits_near_the_end_of_time_do_not_wrap),
        cmocka_unit_test(test_a_clock_that_steps_back_is_held),
        cmocka_unit_test(test_what_is_known_wins_over_what_has_run_out),
        cmocka_unit_test(test_in_use_at_the_last_check),
        cmocka_unit_test(test_in_use_while_checking),
        cmocka_unit_test(test_a_check_that_was_not_pulled_is_withdrawn),
        cmocka_unit_test(test_used_and_left_while_checking),
        cmocka_unit_test(test_admission_is_open_between_attempts),
        cmocka_unit_test(test_used_during_an_attempt_that_fails),
        cmocka_unit_test(test_no_way_back_after_the_scale_in),
        cmocka_unit_test(test_the_service_was_updated_recently),
        cmocka_unit_test(test_a_crowd_leaves_one_by_one),
        cmocka_unit_test(test_updates_without_a_session_do_not_keep_it_up_for_ever),
        cmocka_unit_test(test_a_forced_shutdown_leaves_a_recently_updated_count),
        cmocka_unit_test(test_an_end_on_its_way_becomes_forced),
        cmocka_unit_test(test_backoff_grows_with_jitter_up_to_its_bound),
        cmocka_unit_test(test_an_api_that_fails_until_the_deadline),
        cmocka_unit_test(test_refusals_are_given_up_early),
        cmocka_unit_test(test_an_answer_that_never_comes),
        cmocka_unit_test(test_a_check_that_cannot_tell_is_tried_until_the_deadline),
        cmocka_unit_test(test_sleep_does_not_count_against_the_deadline),
        cmocka_unit_test(test_only_what_is_wanted),
        cmocka_unit_test(test_sigterm_calls_nothing),
        cmocka_unit_test(test_sigterm_lets_sessions_and_command_finish),
        cmocka_unit_test(test_sigterm_ends_what_does_not_finish),
        cmocka_unit_test(test_sessions_that_were_told_are_gone_when_the_answer_comes),
        cmocka_unit_test(test_sigterm_withdraws_a_call_that_was_not_pulled),
        cmocka_unit_test(test_sigterm_awaits_the_call_under_way),
        cmocka_unit_test(test_sigterm_after_an_idle_end_with_forgotten_sessions),
        cmocka_unit_test(test_sigterm_between_attempts),
        cmocka_unit_test(test_a_command_that_ends_by_itself),
        cmocka_unit_test(test_keep_alive_task),
        cmocka_unit_test(test_a_command_that_is_stopped_at_the_end_does_not_count),
        cmocka_unit_test(test_summary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
