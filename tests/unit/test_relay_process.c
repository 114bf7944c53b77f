#include "keeper/relay_process.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/signals.h"

/* ---- the relay: this program, started again under its name --------------------------------------------- */

static struct ipc_status a_status(void)
{
    struct ipc_status status;
    memset(&status, 0, sizeof status);
    status.control = IPC_CONTROL_OPEN;
    status.control_since_ms = status.last_activity_ms = clock_monotonic_ms();
    return status;
}

static void send_bytes(const void *bytes, size_t len)
{
    (void) send(CHILD_CHANNEL_FD, bytes, len, 0);
}

/* Answers each order that wants it. `ticket_offset`: of the answer; `copies` of it. */
static void answer_orders(uint32_t ticket_offset, int copies)
{
    struct ipc_order order;
    while (recv(CHILD_CHANNEL_FD, &order, sizeof order, 0) == (ssize_t) sizeof order) {
        struct ipc_status status = a_status();
        status.answers = order.ticket + ticket_offset;
        status.admission_closed = order.kind == IPC_CHECK;
        if (order.kind == IPC_ORPHAN)
            ipc_set_text(status.session, sizeof status.session, str_from(order.text));
        for (int i = 0; i < copies; i++)
            send_bytes(&status, sizeof status);
    }
}

/* What it does is its first argument. */
static int be_relay(const char *how)
{
    struct ipc_status status = a_status();
    uint8_t long_message[2 * sizeof status];
    memset(long_message, 0, sizeof long_message);
    (void) fcntl(CHILD_CHANNEL_FD, F_SETFL, 0); /* wait for orders, and for room */
    if (strcmp(how, "crash") == 0)
        raise(SIGKILL);
    if (strcmp(how, "leave") == 0)
        return 0;
    if (strcmp(how, "hang") == 0)
        raise(SIGSTOP);
    if (strcmp(how, "empty message") == 0)
        send_bytes("", 0);
    if (strcmp(how, "short message") == 0)
        send_bytes(&status, sizeof status - 1);
    if (strcmp(how, "long message") == 0)
        send_bytes(long_message, sizeof long_message);
    if (strcmp(how, "garbage") == 0) {
        memset(&status, 0xA5, sizeof status);
        send_bytes(&status, sizeof status);
    }
    if (strcmp(how, "flag of 2") == 0) {
        status.busy = 2;
        send_bytes(&status, sizeof status);
    }
    if (strcmp(how, "flood") == 0)
        for (;;)
            send_bytes(&status, sizeof status);
    if (strcmp(how, "future") == 0) {
        status.last_activity_ms = status.control_since_ms = INT64_MAX;
        send_bytes(&status, sizeof status);
    }
    if (strcmp(how, "session") == 0) {
        strcpy(status.session, "user-1");
        status.open_sessions = 1;
        status.total_sessions = 5;
        send_bytes(&status, sizeof status);
    }
    answer_orders(strcmp(how, "other tickets") == 0 ? 1 : 0, strcmp(how, "answers twice") == 0 ? 2 : 1);
    return 0;
}

/* ---- the keeper's side --------------------------------------------------------------------------------- */

static struct loop loop;
static struct relay_process relay;
static int heard_count, answered_count;
static uint32_t last_answer;
static char *argv_of_relay[] = {NULL, NULL, NULL};

static void heard(struct relay_process *r)
{
    assert_ptr_equal(r, &relay);
    heard_count++;
}

static void answered(struct relay_process *r, uint32_t ticket)
{
    assert_ptr_equal(r, &relay);
    answered_count++;
    last_answer = ticket;
}

static void open_relay(const char *how)
{
    argv_of_relay[1] = (char *) (uintptr_t) how;
    heard_count = answered_count = 0;
    relay_process_open(&relay, &loop, IPC_RELAY_NAME, argv_of_relay, heard, answered, NULL);
    assert_true(relay_process_is_up(&relay));
}

static void reap(void)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        relay_process_ended(&relay, pid, status);
}

static void turn(int ms)
{
    int64_t until_ms = clock_monotonic_ms() + ms;
    do {
        assert_int_equal(loop_turn(&loop, 5, NULL), 0);
        reap();
    } while (clock_monotonic_ms() < until_ms);
}

static void close_relay(void)
{
    pid_t pid = relay.child.pid;
    relay_process_close(&relay);
    assert_false(relay_process_is_up(&relay));
    if (pid > 0)
        waitpid(pid, NULL, 0);
    relay.child.pid = 0;
}

static int setup(void **state)
{
    (void) state;
    return loop_open(&loop, NULL);
}

static int teardown(void **state)
{
    (void) state;
    assert_null(loop.timers);
    loop_close(&loop);
    return 0;
}

/* Each is a reason to replace the relay, at once; and no byte of it is believed. */
static void what_is_malformed_replaces_the_relay(void **state)
{
    static const char *const ways[] = {"crash",        "leave",   "empty message", "short message",
                                       "long message", "garbage", "flag of 2"};
    (void) state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        open_relay(ways[i]);
        int64_t began_ms = clock_monotonic_ms();
        while (relay.starts < 3 && clock_monotonic_ms() < began_ms + 3000)
            turn(0);
        if (relay.starts < 3 || heard_count != 0)
            fail_msg("%s: %d starts, heard %d times", ways[i], (int) relay.starts, heard_count);
        close_relay();
    }
}

static void a_relay_that_hangs_is_replaced(void **state)
{
    (void) state;
    open_relay("hang");
    pid_t old = relay.child.pid;
    turn(IPC_SILENCE_MS - 300);
    assert_int_equal(relay.starts, 1);
    turn(1000);
    assert_int_equal(relay.starts, 2);
    assert_int_equal(kill(old, 0), -1);
    assert_int_equal(errno, ESRCH);
    close_relay();
}

static void an_order_is_answered_once(void **state)
{
    static const char *const ways[] = {"answers", "answers twice"};
    (void) state;
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        open_relay(ways[i]);
        turn(50);
        assert_true(relay_process_order(&relay, &(struct ipc_order){.kind = IPC_CHECK, .ticket = 8}));
        turn(100);
        assert_int_equal(answered_count, 1);
        assert_int_equal(last_answer, 8);
        assert_true(relay_process_order(&relay, &(struct ipc_order){.kind = IPC_END_SESSIONS, .ticket = 11}));
        turn(100);
        assert_int_equal(answered_count, 2);
        assert_int_equal(last_answer, 11);
        close_relay();
    }
}

/* The ticket of a check is 8; a relay that answers 9, which may be the attempt to scale in, is not heard. */
static void nothing_can_be_answered_but_orders(void **state)
{
    (void) state;
    open_relay("other tickets");
    assert_true(relay_process_order(&relay, &(struct ipc_order){.kind = IPC_CHECK, .ticket = 8}));
    assert_true(relay_process_order(&relay, &(struct ipc_order){.kind = IPC_LIVES_UNTIL}));
    turn(100);
    assert_int_equal(heard_count, 2);
    assert_int_equal(answered_count, 0);
    close_relay();
}

/* Neither does it hold up the keeper: a turn ends, and other events have theirs. */
static void a_relay_that_sends_without_pause_does_not_hold_up_the_keeper(void **state)
{
    (void) state;
    open_relay("flood");
    int64_t until_ms = clock_monotonic_ms() + 5000;
    while (heard_count <= 100 && clock_monotonic_ms() < until_ms) {
        int before = heard_count;
        assert_int_equal(loop_turn(&loop, 100, NULL), 0);
        assert_in_range(heard_count - before, 0, 32);
    }
    assert_true(heard_count > 100);
    close_relay();
}

static void a_time_in_the_future_is_now(void **state)
{
    (void) state;
    open_relay("future");
    turn(200);
    assert_int_equal(heard_count, 1);
    assert_in_range(relay.last_activity_ms, relay.started_ms, clock_monotonic_ms());
    assert_in_range(relay.status.control_since_ms, relay.started_ms, clock_monotonic_ms());
    close_relay();
}

/* What it counted stays, its sessions become orphans, and the next relay is told of them. */
static void what_a_dead_relay_counted_is_kept(void **state)
{
    (void) state;
    open_relay("session");
    turn(100);
    assert_int_equal(relay.session_count, 1);
    assert_int_equal(relay.status.total_sessions, 5);
    argv_of_relay[1] = (char *) (uintptr_t) "answers";
    int64_t killed_ms = clock_monotonic_ms();
    kill(relay.child.pid, SIGKILL);
    while (relay.starts < 2)
        turn(0);
    assert_int_equal(relay.sessions_before, 5);
    assert_int_equal(relay.status.total_sessions, 0);
    assert_true(relay.last_activity_ms >= killed_ms);
    assert_true(relay.sessions[0].orphan);
    turn(50);
    assert_true(
        relay_process_order(&relay, &(struct ipc_order){.kind = IPC_LIVES_UNTIL})); /* it says "open" */
    turn(100);
    assert_string_equal(relay.status.session, "user-1"); /* of the order that told it */
    close_relay();
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    signals_block_all();
    if (argc > 1 && strcmp(argv[0], IPC_RELAY_NAME) == 0)
        return be_relay(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST(what_is_malformed_replaces_the_relay),
        TEST(a_relay_that_hangs_is_replaced),
        TEST(an_order_is_answered_once),
        TEST(nothing_can_be_answered_but_orders),
        TEST(a_relay_that_sends_without_pause_does_not_hold_up_the_keeper),
        TEST(a_time_in_the_future_is_now),
        TEST(what_a_dead_relay_counted_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
