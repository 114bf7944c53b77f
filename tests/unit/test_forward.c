#include "lifecycle/forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"

enum { MINUTE_MS = 60 * 1000, SIGINT_NUMBER = 2 };

static const struct forward_options ALONE = {
    .check = true, .prepare_ms = 5 * MINUTE_MS, .reconnect_for_ms = 10 * MINUTE_MS, .drain_ms = 10 * 1000};

static struct forward f;
static int64_t now_ms;

static void begin(struct forward_options options)
{
    now_ms = 1000;
    forward_init(&f, &options, now_ms, 7);
}

/* The next action is of this kind; time passes until it is due, or `limit_ms` are over. */
static struct forward_action expect_within(enum forward_action_kind kind, int64_t limit_ms)
{
    struct forward_action action;
    int64_t end_ms = now_ms + limit_ms;
    while (!forward_next(&f, &action)) {
        int64_t at_ms = forward_deadline(&f);
        assert_true(at_ms > now_ms);
        if (at_ms > end_ms)
            fail_msg("no action before %lld, want %d", (long long) at_ms, (int) kind);
        now_ms = at_ms;
        forward_tick(&f, now_ms);
    }
    assert_int_equal(action.kind, kind);
    return action;
}

static struct forward_action expect(enum forward_action_kind kind)
{
    return expect_within(kind, 0);
}

static void nothing_more(void)
{
    struct forward_action action;
    assert_false(forward_next(&f, &action));
}

static void answer(struct forward_action action, enum forward_result result, const char *text)
{
    forward_report(&f, action.ticket, result, str_from(text), now_ms);
}

static void open_session(void)
{
    answer(expect_within(FORWARD_FIND_TASK, MINUTE_MS), FORWARD_DONE, "");
    struct forward_action start = expect_within(FORWARD_START_SESSION, MINUTE_MS);
    answer(start, FORWARD_DONE, "");
    forward_session_opened(&f, start.session, now_ms);
}

static void get_ready(struct forward_options options)
{
    begin(options);
    open_session();
    if (options.check)
        answer(expect(FORWARD_CHECK), FORWARD_DONE, "");
    expect(FORWARD_TELL_READY);
    if (options.has_command)
        expect(FORWARD_RUN_COMMAND);
    nothing_more();
}

static void ends_with(int status, const char *reason)
{
    struct forward_action action = expect(FORWARD_EXIT);
    assert_int_equal(action.status, status);
    assert_string_equal(action.text, reason);
    nothing_more();
    assert_true(forward_deadline(&f) == INT64_MAX);
}

static void the_command_runs_when_the_targets_answered(void **state)
{
    (void) state;
    struct forward_options options = ALONE;
    options.has_command = true;
    get_ready(options);
    forward_command_ended(&f, 3, now_ms);
    answer(expect(FORWARD_END_SESSION), FORWARD_DONE, "");
    ends_with(3, "");
}

static void a_service_without_tasks_is_started_once(void **state)
{
    (void) state;
    struct forward_options options = ALONE;
    options.start = true;
    begin(options);
    answer(expect(FORWARD_FIND_TASK), FORWARD_NONE, "no task runs");
    answer(expect(FORWARD_START_SERVICE), FORWARD_DONE, "");
    for (int i = 0; i < 20; i++)
        answer(expect_within(FORWARD_FIND_TASK, 2000), FORWARD_NONE, "no task runs");
    open_session();
    assert_int_equal(f.state, FORWARD_PREPARING);
    expect(FORWARD_CHECK);
}

static void without_start_no_task_is_the_end(void **state)
{
    (void) state;
    begin(ALONE);
    answer(expect(FORWARD_FIND_TASK), FORWARD_NONE, "no task of service fumidai runs");
    ends_with(FORWARD_EXIT_FAILED_ALONE, "no task of service fumidai runs");
}

static void a_task_that_does_not_come_is_the_end_with_the_latest_reason(void **state)
{
    (void) state;
    struct forward_options options = ALONE;
    options.start = options.has_command = true;
    begin(options);
    answer(expect(FORWARD_FIND_TASK), FORWARD_NONE, "no task runs");
    answer(expect(FORWARD_START_SERVICE), FORWARD_DONE, "");
    struct forward_action action;
    for (;;) {
        if (forward_next(&f, &action)) {
            if (action.kind == FORWARD_EXIT)
                break;
            answer(action, FORWARD_NONE, "the image can't be pulled");
        } else {
            now_ms = forward_deadline(&f);
            forward_tick(&f, now_ms);
        }
    }
    assert_int_equal(action.status, FORWARD_EXIT_FAILED);
    assert_string_equal(action.text, "no session within 5m0s: the image can't be pulled");
    assert_true(now_ms - 1000 == ALONE.prepare_ms);
}

static void what_is_refused_is_not_tried_again(void **state)
{
    (void) state;
    begin(ALONE);
    answer(expect(FORWARD_FIND_TASK), FORWARD_DONE, "");
    answer(expect(FORWARD_START_SESSION), FORWARD_REFUSED, "access denied: ssm:StartSession");
    ends_with(FORWARD_EXIT_FAILED_ALONE, "access denied: ssm:StartSession");
}

static void a_task_that_is_gone_is_looked_for_anew(void **state)
{
    (void) state;
    begin(ALONE);
    answer(expect(FORWARD_FIND_TASK), FORWARD_DONE, "");
    answer(expect(FORWARD_START_SESSION), FORWARD_NONE, "TargetNotConnected");
    open_session();
}

static void a_target_that_does_not_answer_is_the_end_or_waited_for(void **state)
{
    (void) state;
    begin(ALONE);
    open_session();
    answer(expect(FORWARD_CHECK), FORWARD_FAILED, "connection refused");
    answer(expect(FORWARD_END_SESSION), FORWARD_DONE, "");
    ends_with(FORWARD_EXIT_FAILED_ALONE, "connection refused");

    struct forward_options options = ALONE;
    options.wait_for_target_ms = 30 * 1000;
    begin(options);
    open_session();
    for (int i = 0; i < 3; i++)
        answer(expect_within(FORWARD_CHECK, 10 * 1000), FORWARD_FAILED, "connection refused");
    answer(expect_within(FORWARD_CHECK, 10 * 1000), FORWARD_DONE, "");
    expect(FORWARD_TELL_READY);
}

static void sessions_that_end_at_once_are_no_accident(void **state)
{
    (void) state;
    begin(ALONE);
    for (int i = 0; i < FORWARD_SHORT_SESSIONS_MAX; i++) {
        open_session();
        expect(FORWARD_CHECK);
        forward_session_over(&f, 0, false, STR_LITERAL("the host may not be dialled"), now_ms);
    }
    ends_with(FORWARD_EXIT_FAILED_ALONE, "the host may not be dialled");
}

static void a_session_that_is_over_is_replaced_when_somebody_waits(void **state)
{
    (void) state;
    get_ready(ALONE);
    now_ms += 20 * MINUTE_MS;
    forward_session_over(&f, 0, false, STR_LITERAL("idle"), now_ms);
    nothing_more();
    assert_true(forward_deadline(&f) == INT64_MAX);
    forward_connections(&f, 0, true, now_ms);
    forward_need(&f, 0, now_ms);
    open_session();
    nothing_more();
    forward_signal(&f, SIGINT_NUMBER, now_ms);
    answer(expect(FORWARD_END_SESSION), FORWARD_DONE, "");
    ends_with(0, "");
}

static void a_repair_has_a_budget(void **state)
{
    (void) state;
    struct forward_options options = ALONE;
    options.has_command = true;
    get_ready(options);
    forward_session_over(&f, 0, false, STR_LITERAL("lost"), now_ms);
    forward_need(&f, 0, now_ms);
    struct forward_action action;
    int64_t began_ms = now_ms;
    for (int tries = 0;; tries++) {
        assert_true(tries < 1000);
        while (!forward_next(&f, &action)) {
            now_ms = forward_deadline(&f);
            forward_tick(&f, now_ms);
        }
        if (action.kind == FORWARD_REFUSE_WAITING)
            break;
        answer(action, FORWARD_FAILED, "no route to host");
    }
    assert_string_equal(action.text, "no route to host");
    assert_true(now_ms - began_ms == options.reconnect_for_ms);
    nothing_more();
    forward_need(&f, 0, now_ms); /* the next connection */
    open_session();
    nothing_more();
}

static void the_end_waits_for_a_start_that_is_under_way(void **state)
{
    (void) state;
    begin(ALONE);
    answer(expect(FORWARD_FIND_TASK), FORWARD_DONE, "");
    struct forward_action start = expect(FORWARD_START_SESSION);
    forward_signal(&f, SIGINT_NUMBER, now_ms);
    nothing_more();
    answer(start, FORWARD_DONE, "");
    answer(expect(FORWARD_END_SESSION), FORWARD_DONE, "");
    ends_with(128 + SIGINT_NUMBER, "interrupted before it was ready");
}

static void signals_are_the_commands(void **state)
{
    (void) state;
    struct forward_options options = ALONE;
    options.has_command = true;
    get_ready(options);
    forward_signal(&f, FORWARD_SIGTERM, now_ms);
    assert_int_equal(expect(FORWARD_SIGNAL_COMMAND).number, FORWARD_SIGTERM);
    nothing_more();
    forward_command_ended(&f, 128 + FORWARD_SIGTERM, now_ms);
    answer(expect(FORWARD_END_SESSION), FORWARD_DONE, "");
    ends_with(128 + FORWARD_SIGTERM, "");
}

static void open_connections_may_end_by_themselves(void **state)
{
    (void) state;
    get_ready(ALONE);
    forward_connections(&f, 2, false, now_ms);
    forward_signal(&f, FORWARD_SIGTERM, now_ms);
    nothing_more();
    now_ms += 3000;
    forward_connections(&f, 0, false, now_ms);
    answer(expect(FORWARD_END_SESSION), FORWARD_DONE, "");
    ends_with(0, "");

    get_ready(ALONE);
    forward_connections(&f, 2, false, now_ms);
    forward_signal(&f, FORWARD_SIGTERM, now_ms);
    answer(expect_within(FORWARD_END_SESSION, ALONE.drain_ms), FORWARD_DONE, "");
    ends_with(0, "");
}

static void time_limits_end_it(void **state)
{
    (void) state;
    struct forward_options options = ALONE;
    options.idle_timeout_ms = MINUTE_MS;
    get_ready(options);
    forward_connections(&f, 1, false, now_ms);
    now_ms += 5 * MINUTE_MS;
    forward_connections(&f, 0, false, now_ms);
    answer(expect_within(FORWARD_END_SESSION, MINUTE_MS), FORWARD_DONE, "");
    ends_with(0, "nobody used it for the idle timeout");

    options.max_time_ms = 2 * MINUTE_MS;
    options.has_command = true;
    get_ready(options);
    assert_int_equal(expect_within(FORWARD_SIGNAL_COMMAND, 2 * MINUTE_MS).number, FORWARD_SIGTERM);
    assert_int_equal(expect_within(FORWARD_SIGNAL_COMMAND, FORWARD_KILL_MS).number, FORWARD_SIGKILL);
    forward_command_ended(&f, 128 + FORWARD_SIGKILL, now_ms);
    answer(expect(FORWARD_END_SESSION), FORWARD_DONE, "");
    ends_with(128 + FORWARD_SIGKILL, "");
}

/* ---- random histories: tasks that die, answers that fail or never come, signals at any moment ---- */

enum { HISTORIES = 10000, PENDING_MAX = 2 * FORWARD_SESSIONS_MAX };

struct world {
    uint64_t random;
    struct {
        struct forward_action action;
        int64_t at_ms; /* of its report; INT64_MAX: never */
        bool due;
    } pending[PENDING_MAX];
    bool live[FORWARD_SESSIONS_MAX]; /* exists at the service */
    int64_t opens_at[FORWARD_SESSIONS_MAX];
    int64_t over_at[FORWARD_SESSIONS_MAX];
    bool command_runs;
    bool stuck; /* a report never came: a session may be left to the service */
    int64_t command_ends_at;
    int64_t signal_at;
    unsigned starts;
    bool gone;
    int status;
};

static uint64_t dice(struct world *w, uint64_t sides)
{
    w->random = w->random * 6364136223846793005U + 1442695040888963407U;
    return (w->random >> 33) % sides;
}

static void perform(struct world *w, const struct forward_action *action, int badness)
{
    switch (action->kind) {
    case FORWARD_TELL_READY:
    case FORWARD_REFUSE_WAITING:
        break;
    case FORWARD_RUN_COMMAND:
        w->command_runs = true;
        w->command_ends_at = now_ms + 1 + (int64_t) dice(w, 100 * 1000);
        break;
    case FORWARD_SIGNAL_COMMAND:
        assert_true(w->command_runs);
        w->command_ends_at = num_min_i64(w->command_ends_at, now_ms + 1 + (int64_t) dice(w, 3000));
        break;
    case FORWARD_EXIT:
        w->gone = true;
        w->status = action->status;
        if (action->status == FORWARD_EXIT_FAILED || action->status == FORWARD_EXIT_FAILED_ALONE)
            assert_true(action->text[0] != '\0' || w->status == f.command_status);
        break;
    default:
        assert_int_not_equal(action->ticket, 0);
        for (size_t i = 0;; i++) {
            assert_true(i < PENDING_MAX);
            if (w->pending[i].due)
                continue;
            bool never = dice(w, 1000) < (uint64_t) badness / 4;
            w->stuck = w->stuck || never;
            w->pending[i].due = true;
            w->pending[i].action = *action;
            w->pending[i].at_ms = never ? INT64_MAX : now_ms + 1 + (int64_t) dice(w, 2000);
            break;
        }
    }
}

static void report(struct world *w, const struct forward_action *action, int badness)
{
    enum forward_result result = FORWARD_DONE;
    uint32_t s = action->session;
    if (dice(w, 100) < (uint64_t) badness)
        result = dice(w, 20) == 0 ? FORWARD_REFUSED : dice(w, 2) == 0 ? FORWARD_NONE : FORWARD_FAILED;
    if (action->kind == FORWARD_START_SESSION && result == FORWARD_DONE) {
        assert_false(w->live[s]);
        w->live[s] = true;
        w->starts++;
        w->opens_at[s] = now_ms + 1 + (int64_t) dice(w, 1000);
        w->over_at[s] = dice(w, 100) < (uint64_t) badness ? now_ms + 1 + (int64_t) dice(w, 20000) : INT64_MAX;
    }
    if (action->kind == FORWARD_END_SESSION) {
        w->live[s] = false;
        w->opens_at[s] = w->over_at[s] = INT64_MAX;
    }
    forward_report(&f, action->ticket, result, STR_LITERAL("the world said no"), now_ms);
}

static void happen(struct world *w, int badness)
{
    for (size_t i = 0; i < PENDING_MAX; i++)
        if (w->pending[i].due && w->pending[i].at_ms <= now_ms) {
            w->pending[i].due = false;
            report(w, &w->pending[i].action, badness);
        }
    for (uint32_t s = 0; s < FORWARD_SESSIONS_MAX; s++) {
        if (w->live[s] && w->opens_at[s] <= now_ms) {
            w->opens_at[s] = INT64_MAX;
            forward_session_opened(&f, s, now_ms);
            if (dice(w, 8) == 0)
                forward_need(&f, (uint32_t) dice(w, 4), now_ms);
        }
        if (w->live[s] && w->over_at[s] <= now_ms) {
            w->live[s] = false;
            forward_session_over(&f, s, dice(w, 50) == 0, STR_LITERAL("the session ended"), now_ms);
            if (dice(w, 2) == 0)
                forward_need(&f, s, now_ms);
        }
    }
    if (w->command_runs && w->command_ends_at <= now_ms) {
        w->command_runs = false;
        forward_command_ended(&f, (int) dice(w, 3), now_ms);
    }
    if (w->signal_at <= now_ms) {
        forward_signal(&f, dice(w, 2) == 0 ? SIGINT_NUMBER : FORWARD_SIGTERM, now_ms);
        w->signal_at = now_ms + 1 + (int64_t) dice(w, 60 * 1000);
    }
    forward_connections(&f, (uint32_t) dice(w, 3), dice(w, 4) == 0, now_ms);
}

static int64_t next_event(const struct world *w)
{
    int64_t at_ms = num_min_i64(forward_deadline(&f), w->signal_at);
    for (size_t i = 0; i < PENDING_MAX; i++)
        if (w->pending[i].due)
            at_ms = num_min_i64(at_ms, w->pending[i].at_ms);
    for (uint32_t s = 0; s < FORWARD_SESSIONS_MAX; s++)
        if (w->live[s])
            at_ms = num_min_i64(at_ms, num_min_i64(w->opens_at[s], w->over_at[s]));
    return w->command_runs ? num_min_i64(at_ms, w->command_ends_at) : at_ms;
}

static void play(uint64_t seed)
{
    static struct world w;
    w = (struct world){.random = seed * 2654435761U + 1};
    int badness = (int) dice(&w, 3) * 20;
    struct forward_options options = {.has_command = dice(&w, 2) == 0,
                                      .start = dice(&w, 2) == 0,
                                      .check = dice(&w, 2) == 0,
                                      .prepare_ms = 1000 + (int64_t) dice(&w, 100 * 1000),
                                      .wait_for_target_ms = (int64_t) dice(&w, 2) * 20000,
                                      .reconnect_for_ms = 1000 + (int64_t) dice(&w, 60 * 1000),
                                      .drain_ms = (int64_t) dice(&w, 2) * 5000,
                                      .idle_timeout_ms = (int64_t) dice(&w, 2) * 30000,
                                      .max_time_ms = (int64_t) dice(&w, 2) * 90000};
    begin(options);
    w.signal_at = now_ms + 10 * MINUTE_MS + (int64_t) dice(&w, 10 * MINUTE_MS);
    unsigned actions = 0;
    while (!w.gone) {
        struct forward_action action;
        assert_true(now_ms < 60 * MINUTE_MS); /* it always ends */
        while (!w.gone && forward_next(&f, &action)) {
            assert_true(++actions < 20000);
            perform(&w, &action, badness);
        }
        if (w.gone)
            break;
        int64_t at_ms = next_event(&w);
        assert_true(at_ms > now_ms); /* it never spins */
        now_ms = at_ms;
        happen(&w, badness);
        forward_tick(&f, now_ms);
    }
    assert_false(w.command_runs);
    for (uint32_t s = 0; s < FORWARD_SESSIONS_MAX; s++)
        assert_true(!w.live[s] || w.stuck || f.end_until_ms <= now_ms);
    /* A pause between failures, whatever happens. */
    assert_true(w.starts <= 8 + (now_ms / 60));
}

static void random_histories_end_with_a_reason_and_leave_no_session(void **state)
{
    (void) state;
    for (uint64_t seed = 0; seed < HISTORIES; seed++)
        play(seed);
    printf("%d histories\n", HISTORIES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_command_runs_when_the_targets_answered),
        cmocka_unit_test(a_service_without_tasks_is_started_once),
        cmocka_unit_test(without_start_no_task_is_the_end),
        cmocka_unit_test(a_task_that_does_not_come_is_the_end_with_the_latest_reason),
        cmocka_unit_test(what_is_refused_is_not_tried_again),
        cmocka_unit_test(a_task_that_is_gone_is_looked_for_anew),
        cmocka_unit_test(a_target_that_does_not_answer_is_the_end_or_waited_for),
        cmocka_unit_test(sessions_that_end_at_once_are_no_accident),
        cmocka_unit_test(a_session_that_is_over_is_replaced_when_somebody_waits),
        cmocka_unit_test(a_repair_has_a_budget),
        cmocka_unit_test(the_end_waits_for_a_start_that_is_under_way),
        cmocka_unit_test(signals_are_the_commands),
        cmocka_unit_test(open_connections_may_end_by_themselves),
        cmocka_unit_test(time_limits_end_it),
        cmocka_unit_test(random_histories_end_with_a_reason_and_leave_no_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
