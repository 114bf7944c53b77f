#include "keeper/worker_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/signals.h"

/* ---- the worker: this program, started again under its name -------------------------------------------- */

static struct ipc_answer an_answer(const struct ipc_call *call)
{
    struct ipc_answer answer;
    memset(&answer, 0, sizeof answer);
    answer.kind = call->kind;
    answer.server_unix_ms = answer.changed_unix_ms = answer.expires_unix_ms = -1;
    answer.clock_offset_ms = call->clock_offset_ms + 1000;
    strcpy(answer.cluster, call->cluster);
    strcpy(answer.task_arn, "arn");
    return answer;
}

static void send_bytes(const void *bytes, size_t len)
{
    (void) send(CHILD_CHANNEL_FD, bytes, len, 0);
}

static void send_answer(const struct ipc_answer *answer)
{
    send_bytes(answer, sizeof *answer);
}

/* What it does is its first argument. */
static int be_worker(const char *how)
{
    struct ipc_call call;
    uint8_t long_message[2 * sizeof(struct ipc_answer)];
    (void) fcntl(CHILD_CHANNEL_FD, F_SETFL, 0);
    if (recv(CHILD_CHANNEL_FD, &call, sizeof call, 0) != (ssize_t) sizeof call)
        return 1;
    struct ipc_answer answer = an_answer(&call);
    if (call.deadline_ms > clock_monotonic_ms() + 5000 - WORKER_PROCESS_RESERVE_MS)
        return 1;
    if (strcmp(how, "good") == 0)
        send_answer(&answer);
    if (strcmp(how, "refusal") == 0 || strcmp(how, "failure") == 0) {
        answer.result = strcmp(how, "refusal") == 0 ? IPC_FAILED : IPC_RETRY;
        answer.error = ERROR_DENIED;
        strcpy(answer.text, "Act: 403");
        send_answer(&answer);
    }
    if (strcmp(how, "crash") == 0)
        raise(SIGSEGV);
    if (strcmp(how, "killed") == 0)
        raise(SIGKILL);
    if (strcmp(how, "stopped") == 0)
        raise(SIGSTOP);
    if (strcmp(how, "busy") == 0)
        for (;;)
            ;
    if (strcmp(how, "answer, then stopped") == 0) {
        send_answer(&answer);
        raise(SIGSTOP);
    }
    if (strcmp(how, "answer, then crash") == 0) {
        send_answer(&answer);
        raise(SIGSEGV);
    }
    if (strcmp(how, "two answers") == 0) {
        send_answer(&answer);
        send_answer(&answer);
    }
    if (strcmp(how, "short answer") == 0)
        send_bytes(&answer, sizeof answer - 1);
    if (strcmp(how, "long answer") == 0) {
        memset(long_message, 0, sizeof long_message);
        memcpy(long_message, &answer, sizeof answer);
        send_bytes(long_message, sizeof long_message);
    }
    if (strcmp(how, "answer to another call") == 0) {
        answer.kind = IPC_STOP_TASK;
        send_answer(&answer);
    }
    if (strcmp(how, "garbage") == 0) {
        memset(&answer, 0xA5, sizeof answer);
        send_answer(&answer);
    }
    if (strcmp(how, "flood") == 0)
        for (;;)
            send_answer(&answer);
    return 0;
}

/* ---- the keeper's side --------------------------------------------------------------------------------- */

static struct loop loop;
static struct worker_program program;
static struct worker_process worker;
static int done_count;
static bool starting;
static char *argv_of_worker[] = {NULL, NULL, NULL};

static void done(struct worker_process *finished)
{
    assert_ptr_equal(finished, &worker);
    assert_false(starting);
    assert_false(worker.active);
    done_count++;
}

static int setup(void **state)
{
    (void) state;
    if (loop_open(&loop, NULL) < 0)
        return -1;
    program = (struct worker_program){.loop = &loop, .argv = argv_of_worker};
    worker_process_init(&worker, &program, done);
    done_count = 0;
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    worker_process_cancel(&worker);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    assert_null(loop.timers);
    loop_close(&loop);
    return 0;
}

static void start(const char *how, int limit_ms)
{
    struct ipc_call call = {.kind = IPC_TASK_METADATA, .cluster = "cluster"};
    argv_of_worker[1] = (char *) (uintptr_t) how;
    starting = true;
    worker_process_start(&worker, &call, clock_monotonic_ms() + limit_ms);
    starting = false;
}

static void reap(void)
{
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        worker_process_ended(&worker, pid);
}

/* Makes a call to its end; how long that took. */
static int64_t run(const char *how, int limit_ms)
{
    int64_t began_ms = clock_monotonic_ms();
    int before = done_count;
    start(how, limit_ms);
    while (done_count == before) {
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        reap();
        assert_true(clock_monotonic_ms() < began_ms + 10000);
    }
    assert_int_equal(done_count, before + 1);
    return clock_monotonic_ms() - began_ms;
}

static void a_good_answer_is_handed_over(void **state)
{
    static const char *const ways[] = {"good", "answer, then crash"};
    (void) state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        run(ways[i], 5000);
        assert_int_equal(worker.result, IPC_DONE);
        assert_int_equal(worker.err.code, ERROR_NONE);
        assert_string_equal(worker.answer.cluster, "cluster");
    }
}

static void a_failed_call_says_why(void **state)
{
    (void) state;
    run("refusal", 5000);
    assert_int_equal(worker.result, IPC_FAILED);
    assert_int_equal(worker.err.code, ERROR_DENIED);
    assert_string_equal(worker.err.text, "Act: 403");
    run("failure", 5000);
    assert_int_equal(worker.result, IPC_RETRY);
}

/* What one call learned of the clock, the next one begins with; a failed one, too. */
static void the_clock_is_handed_on(void **state)
{
    (void) state;
    run("good", 5000);
    assert_int_equal(program.clock_offset_ms, 1000);
    run("failure", 5000);
    assert_int_equal(program.clock_offset_ms, 2000);
    run("garbage", 5000);
    assert_int_equal(program.clock_offset_ms, 2000);
}

/* Crash, hang, garbage, a short answer, two: an attempt that failed, and nothing of it is believed. */
static void whatever_else_it_does_is_a_failed_attempt(void **state)
{
    static const struct {
        const char *how, *text;
        bool until_deadline;
    } rows[] = {
        {"nothing", "ended without an answer", false},
        {"crash", "ended without an answer", false},
        {"killed", "ended without an answer", false},
        {"stopped", "did not end in time", true},
        {"busy", "did not end in time", true},
        {"answer, then stopped", "did not end in time", true},
        {"two answers", "sent a malformed answer", false},
        {"short answer", "sent a malformed answer", false},
        {"long answer", "sent a malformed answer", false},
        {"answer to another call", "sent a malformed answer", false},
        {"garbage", "sent a malformed answer", false},
        {"flood", "sent a malformed answer", false},
    };
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char expected[128];
        int64_t took_ms = run(rows[i].how, 1000);
        snprintf(expected, sizeof expected, "task metadata: the process that makes this call %s",
                 rows[i].text);
        if (worker.result != IPC_RETRY || strcmp(worker.err.text, expected) != 0 ||
            worker.err.code != (rows[i].until_deadline ? ERROR_TIMEOUT : ERROR_UNAVAILABLE) ||
            (rows[i].until_deadline ? took_ms < 1000 || took_ms > 1500 : took_ms > 900))
            fail_msg("%s: after %d ms result %d, code %d: %s", rows[i].how, (int) took_ms, worker.result,
                     worker.err.code, worker.err.text);
        /* Stopped or busy, it is gone. */
        int64_t until_ms = clock_monotonic_ms() + 2000;
        while (worker.leaving.pid > 0 && clock_monotonic_ms() < until_ms)
            reap();
        assert_int_equal(worker.child.pid, 0);
        assert_int_equal(worker.leaving.pid, 0);
    }
}

static void a_cancelled_call_is_killed_and_not_reported(void **state)
{
    (void) state;
    start("stopped", 1000);
    pid_t pid = worker.child.pid;
    assert_true(pid > 0);
    worker_process_cancel(&worker);
    worker_process_cancel(&worker);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_true(worker_process_ended(&worker, pid));
    assert_false(worker_process_ended(&worker, pid));
    for (int i = 0; i < 3; i++)
        loop_turn(&loop, 5, NULL);
    assert_int_equal(done_count, 0);
    run("good", 5000); /* and the next one works */
    assert_int_equal(worker.result, IPC_DONE);
}

static void a_process_that_cannot_be_started_is_a_failed_attempt(void **state)
{
    struct rlimit before, none;
    (void) state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = (struct rlimit){3, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    start("good", 5000);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(done_count, 0);
    loop_turn(&loop, 100, NULL);
    assert_int_equal(done_count, 1);
    assert_int_equal(worker.result, IPC_RETRY);
    assert_int_equal(worker.err.code, ERROR_SYSTEM);
    assert_memory_equal(worker.err.text, "task metadata: socketpair: ", 27);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    signals_block_all();
    if (argc > 1 && strcmp(argv[0], IPC_WORKER_NAME) == 0)
        return be_worker(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST(a_good_answer_is_handed_over),
        TEST(a_failed_call_says_why),
        TEST(the_clock_is_handed_on),
        TEST(whatever_else_it_does_is_a_failed_attempt),
        TEST(a_cancelled_call_is_killed_and_not_reported),
        TEST(a_process_that_cannot_be_started_is_a_failed_attempt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
