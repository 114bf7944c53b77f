#include "keeper/ecs_shutdown.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <sys/wait.h>

#include "host/clock.h"
#include "lib/fake_worker.h"

static struct loop loop;
static struct fake_worker fake;
static struct worker_program program;
static struct own_task task;
static struct ecs_shutdown shutdown;
static int reports;
static enum terminator_result result;
static struct ipc_call calls[16];

static void reported(struct ecs_shutdown *reporting, enum terminator_result reported_result)
{
    assert_ptr_equal(reporting, &shutdown);
    reports++;
    result = reported_result;
}

static void no_news(struct own_task *learned)
{
    (void) learned;
}

static int setup(void **state)
{
    static char *env[] = {NULL};
    (void) state;
    memset(&fake, 0, sizeof fake);
    memcpy(fake.script, "dddddd", IPC_CALL_COUNT);
    fake.answer.desired_count = 1;
    fake.answer.server_unix_ms = fake.answer.changed_unix_ms = fake.answer.expires_unix_ms = -1;
    if (loop_open(&loop, NULL) < 0)
        return -1;
    program = fake_worker_program(&loop, &fake);
    own_task_open(&task, &program, env, "", no_news, NULL);
    task.exists = task.known = true;
    strcpy(task.cluster, "cluster");
    strcpy(task.arn, "arn:task/cluster/0a1b");
    strcpy(task.service_name, "gate");
    task.service = OWN_TASK_SERVICE_NAMED;
    task.service_is_certain = true;
    ecs_shutdown_open(&shutdown, &task, reported, NULL);
    reports = 0;
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    ecs_shutdown_close(&shutdown);
    own_task_close(&task);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    assert_null(loop.timers);
    loop_close(&loop);
    return 0;
}

static void turn_until_reported(void)
{
    while (reports == 0) {
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        fake_worker_reap(&shutdown.worker);
    }
    assert_int_equal(reports, 1);
    reports = 0;
}

static struct terminator_action an_action(void)
{
    return (struct terminator_action){
        .kind = TERMINATOR_SCALE_IN, .deadline_ms = clock_monotonic_ms() + 5000, .text = "idle for 5m0s"};
}

static enum terminator_result scale_in(const struct terminator_action *action)
{
    fake_worker_set(&fake);
    ecs_shutdown_scale_in(&shutdown, action);
    turn_until_reported();
    return result;
}

/* Kinds, in order, as letters of "MTSXUP": metadata, DescribeTasks, DescribeServices, StopTask,
 * UpdateService. */
static void expect_calls(const char *kinds)
{
    char made[17] = "";
    int count = fake_worker_calls(calls, 16);
    for (int i = 0; i < count; i++) {
        made[i] = "MTSXUP"[calls[i].kind];
        assert_string_equal(calls[i].cluster, "cluster");
        assert_string_equal(calls[i].task_arn, "arn:task/cluster/0a1b");
    }
    assert_string_equal(made, kinds);
}

/* ---- scaling in ---------------------------------------------------------------------------------------- */

static void a_service_of_one_goes_to_zero(void **state)
{
    struct terminator_action action = an_action();
    (void) state;
    assert_int_equal(scale_in(&action), TERMINATOR_DONE);
    expect_calls("SU");
    assert_string_equal(calls[1].service, "gate");
    assert_int_equal(calls[1].desired_count, 0);
    assert_true(calls[1].service_is_certain);
    memcpy(fake.script, "ddddad", IPC_CALL_COUNT);
    assert_int_equal(scale_in(&action), TERMINATOR_ALREADY_SO);
}

static void of_several_tasks_this_one_stops_first(void **state)
{
    struct terminator_action action = an_action();
    (void) state;
    fake.answer.desired_count = 3;
    assert_int_equal(scale_in(&action), TERMINATOR_CROWDED);
    expect_calls("S");
    action.stepped_aside = true;
    assert_int_equal(scale_in(&action), TERMINATOR_DONE);
    expect_calls("SXU");
    assert_string_equal(calls[1].reason, "stopped by fumidai: idle for 5m0s");
    assert_int_equal(calls[2].desired_count, 2);
    memcpy(fake.script, "dddrdd", IPC_CALL_COUNT);
    assert_int_equal(scale_in(&action), TERMINATOR_FAILED);
    expect_calls("SX"); /* the count stays: a lower one could cost a neighbour its sessions */
}

static void a_recent_update_keeps_it_up(void **state)
{
    static const struct {
        int64_t changed, server;
        uint32_t desired_count;
        int64_t within_ms;
        bool stays;
    } rows[] = {{100000, 160000, 1, 60001, true}, {100000, 160000, 1, 60000, false},
                {100000, 160000, 1, 0, false},    {-1, 160000, 1, 60000, false},
                {100000, -1, 1, 60000, false},    {159999, 160000, 2, 60000, false}};
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct terminator_action action = an_action();
        action.updated_within_ms = rows[i].within_ms;
        action.stepped_aside = true;
        fake.answer.changed_unix_ms = rows[i].changed;
        fake.answer.server_unix_ms = rows[i].server;
        fake.answer.desired_count = rows[i].desired_count;
        assert_int_equal(scale_in(&action), rows[i].stays ? TERMINATOR_IN_USE : TERMINATOR_DONE);
        if (rows[i].stays)
            expect_calls("S");
    }
}

static void a_daemon_service_stays_up(void **state)
{
    struct terminator_action action = an_action();
    (void) state;
    memcpy(fake.script, "ddaddd", IPC_CALL_COUNT);
    assert_int_equal(scale_in(&action), TERMINATOR_IN_USE);
    expect_calls("S");
}

/* What may pass is tried again, what is refused is not for long; a role that may not ask for the count sets
 * 0. */
static void failures_are_told_apart(void **state)
{
    static const struct {
        const char *script, *calls;
        enum terminator_result result;
    } rows[] = {{"ddrddd", "S", TERMINATOR_FAILED},  {"ddxddd", "S", TERMINATOR_FAILED},
                {"ddfddd", "SU", TERMINATOR_DONE},   {"ddnddd", "SU", TERMINATOR_DONE},
                {"ddddrd", "SU", TERMINATOR_FAILED}, {"ddddxd", "SU", TERMINATOR_FAILED},
                {"ddddfd", "SU", TERMINATOR_REFUSED}};
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct terminator_action action = an_action();
        memcpy(fake.script, rows[i].script, IPC_CALL_COUNT);
        if (scale_in(&action) != rows[i].result)
            fail_msg("%s: %d", rows[i].script, result);
        expect_calls(rows[i].calls);
    }
}

static void a_service_that_is_not_named_is_asked_for(void **state)
{
    struct terminator_action action = an_action();
    (void) state;
    task.service = OWN_TASK_SERVICE_UNKNOWN;
    task.service_name[0] = '\0';
    memcpy(fake.script, "dfdddd", IPC_CALL_COUNT);
    assert_int_equal(scale_in(&action), TERMINATOR_REFUSED);
    expect_calls("T");
    memcpy(fake.script, "dddddd", IPC_CALL_COUNT);
    strcpy(fake.answer.service, "found");
    assert_int_equal(scale_in(&action), TERMINATOR_DONE);
    expect_calls("TSU");
    assert_string_equal(calls[2].service, "found");
    assert_int_equal(scale_in(&action), TERMINATOR_DONE); /* known from now on */
    expect_calls("SU");
    task.service = OWN_TASK_SERVICE_UNKNOWN;
    fake.answer.service[0] = '\0'; /* RunTask started it */
    assert_int_equal(scale_in(&action), TERMINATOR_ALREADY_SO);
    expect_calls("T");
    assert_int_equal(scale_in(&action), TERMINATOR_ALREADY_SO);
    expect_calls("");
}

/* What idleness has not decided may be a stop from outside: then this task's own state says so, and the count
 * is not touched. */
static void a_forced_scale_in_asks_first_whether_ecs_is_stopping_the_task(void **state)
{
    static const struct {
        const char *script, *calls;
        enum terminator_result result;
        bool stopping;
    } rows[] = {{"dddddd", "TSU", TERMINATOR_DONE, false}, {"dadddd", "T", TERMINATOR_FAILED, true},
                {"drdddd", "T", TERMINATOR_FAILED, false}, {"dxdddd", "T", TERMINATOR_FAILED, false},
                {"dfdddd", "TSU", TERMINATOR_DONE, false}, {"dndddd", "TSU", TERMINATOR_DONE, false}};
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct terminator_action action = an_action();
        action.forced = true;
        shutdown.stopping = false;
        memcpy(fake.script, rows[i].script, IPC_CALL_COUNT);
        if (scale_in(&action) != rows[i].result || shutdown.stopping != rows[i].stopping)
            fail_msg("%s: %d", rows[i].script, result);
        expect_calls(rows[i].calls);
    }
    assert_string_equal(task.service_name, "gate");
}

/* One attempt has stopped this task, and could not lower the count: the next one goes on. */
static void its_own_stop_is_not_taken_for_one_from_outside(void **state)
{
    struct terminator_action action = an_action();
    (void) state;
    action.forced = action.stepped_aside = true;
    fake.answer.desired_count = 3;
    memcpy(fake.script, "ddddrd", IPC_CALL_COUNT);
    assert_int_equal(scale_in(&action), TERMINATOR_FAILED);
    expect_calls("TSXU");
    memcpy(fake.script, "dadddd", IPC_CALL_COUNT);
    assert_int_equal(scale_in(&action), TERMINATOR_DONE);
    expect_calls("TSXU");
    assert_false(shutdown.stopping);
}

static void asks_when_a_signal_came(void **state)
{
    (void) state;
    memcpy(fake.script, "dadddd", IPC_CALL_COUNT);
    fake_worker_set(&fake);
    ecs_shutdown_describe(&shutdown, clock_monotonic_ms() + 5000);
    turn_until_reported();
    assert_true(shutdown.stopping);
    assert_int_equal(result, TERMINATOR_FAILED);
    expect_calls("T");
}

/* ---- the rest ------------------------------------------------------------------------------------------ */

static void stops_the_task(void **state)
{
    static const struct {
        char how;
        enum terminator_result result;
    } rows[] = {{'d', TERMINATOR_DONE},
                {'a', TERMINATOR_ALREADY_SO},
                {'r', TERMINATOR_FAILED},
                {'f', TERMINATOR_REFUSED}};
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fake.script[IPC_STOP_TASK] = rows[i].how;
        fake_worker_set(&fake);
        ecs_shutdown_stop_task(&shutdown, "interrupted", clock_monotonic_ms() + 5000);
        turn_until_reported();
        assert_int_equal(result, rows[i].result);
        expect_calls("X");
        assert_string_equal(calls[0].reason, "stopped by fumidai: interrupted");
    }
}

static void asks_for_the_service_at_the_start(void **state)
{
    (void) state;
    strcpy(fake.answer.service, "found");
    fake_worker_set(&fake);
    task.service = OWN_TASK_SERVICE_UNKNOWN;
    ecs_shutdown_describe(&shutdown, clock_monotonic_ms() + 5000);
    while (shutdown.worker.active)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    expect_calls("T");
    assert_string_equal(task.service_name, "found");
    assert_int_equal(reports, 0);
    /* An action takes the place of the question. */
    task.service = OWN_TASK_SERVICE_UNKNOWN;
    struct terminator_action action = an_action();
    ecs_shutdown_describe(&shutdown, clock_monotonic_ms() + 5000);
    assert_int_equal(scale_in(&action), TERMINATOR_DONE);
}

static void before_the_metadata_nothing_can_be_called(void **state)
{
    struct terminator_action action = an_action();
    (void) state;
    task.known = false;
    assert_int_equal(scale_in(&action), TERMINATOR_FAILED);
    expect_calls("");
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    fake_worker_main(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(a_service_of_one_goes_to_zero),
        TEST(of_several_tasks_this_one_stops_first),
        TEST(a_recent_update_keeps_it_up),
        TEST(a_daemon_service_stays_up),
        TEST(failures_are_told_apart),
        TEST(a_service_that_is_not_named_is_asked_for),
        TEST(a_forced_scale_in_asks_first_whether_ecs_is_stopping_the_task),
        TEST(its_own_stop_is_not_taken_for_one_from_outside),
        TEST(asks_when_a_signal_came),
        TEST(stops_the_task),
        TEST(asks_for_the_service_at_the_start),
        TEST(before_the_metadata_nothing_can_be_called),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
