#include "relay/relay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/child.h"
#include "lib/emulation.h"
#include "settings/task_settings.h"
#include "wire/ipc.h"

/* The relay in a process of its own, without an ECS task around it; the test is its keeper. */

static int keeper_fd;
static pid_t pid;

static int start_relay(void **state)
{
    static char *argv[] = {"fumidai", NULL};
    static char *env[] = {NULL};
    static struct task_settings task;
    struct settings settings;
    int ends[2], smallest = 1;
    (void) state;
    if (settings_parse(&settings, &TASK_SETTINGS, &task, 1, argv, 1, env, NULL) < 0 ||
        socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ||
        setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &smallest, sizeof smallest) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(dup2(ends[1], CHILD_CHANNEL_FD) < 0 ? 1 : relay_run(&task, false, env));
    }
    close(ends[1]);
    keeper_fd = ends[0];
    return pid < 0 ? -1 : 0;
}

static int stop_relay(void **state)
{
    int status = -1;
    (void) state;
    close(keeper_fd);
    if (pid > 0)
        waitpid(pid, &status, 0);
    return is_emulated() ? 0 : status; /* it leaves when the keeper has gone */
}

/* The relay does not start without its sandbox, which there is none of in an emulator. */
static void require_sandbox(void)
{
    if (is_emulated())
        skip();
}

/* The next message, or false when none comes. */
static bool receive(struct ipc_status *status, int wait_ms)
{
    struct pollfd ready = {.fd = keeper_fd, .events = POLLIN};
    memset(status, 0, sizeof *status);
    if (poll(&ready, 1, wait_ms) <= 0)
        return false;
    assert_int_equal(recv(keeper_fd, status, sizeof *status, 0), sizeof *status);
    return true;
}

static void reports_by_itself(void **state)
{
    struct ipc_status status;
    (void) state;
    require_sandbox();
    for (int i = 0; i < 2; i++) {
        assert_true(receive(&status, 3 * IPC_STATUS_MS));
        assert_int_equal(status.answers, 0);
        assert_int_equal(status.open_sessions, 0);
        assert_false(status.admission_closed);
    }
}

static void answers_orders(void **state)
{
    struct ipc_order order = {.kind = IPC_CHECK, .ticket = 7};
    struct ipc_status status;
    (void) state;
    require_sandbox();
    assert_int_equal(send(keeper_fd, &order, sizeof order, 0), sizeof order);
    do
        assert_true(receive(&status, 3 * IPC_STATUS_MS));
    while (status.answers == 0);
    assert_int_equal(status.answers, 7);
    assert_int_equal(status.in_use, 0);
    assert_int_equal(status.admission_closed, 1);
    order = (struct ipc_order){.kind = IPC_OPEN_ADMISSION};
    assert_int_equal(send(keeper_fd, &order, sizeof order, 0), sizeof order);
    order = (struct ipc_order){.kind = IPC_END_SESSIONS, .ticket = 9};
    assert_int_equal(send(keeper_fd, &order, sizeof order, 0), sizeof order);
    do
        assert_true(receive(&status, 3 * IPC_STATUS_MS));
    while (status.answers == 0);
    assert_int_equal(status.answers, 9);
}

/* A keeper that is busy reads nothing for a while: the socket is full when the order is answered. The answer
 * was dropped, and the keeper waited 10 s for it. */
static void an_answer_survives_a_full_socket(void **state)
{
    struct ipc_order order = {.kind = IPC_OPEN_ADMISSION};
    struct ipc_status status;
    (void) state;
    require_sandbox();
    assert_true(receive(&status, 3 * IPC_STATUS_MS));
    for (int i = 0; i < 40; i++) { /* orders with a ticket are answered at once: they fill the socket */
        order = (struct ipc_order){.kind = IPC_CHECK, .ticket = 100};
        assert_int_equal(send(keeper_fd, &order, sizeof order, 0), sizeof order);
    }
    usleep(200 * 1000);
    order = (struct ipc_order){.kind = IPC_CHECK, .ticket = 7};
    assert_int_equal(send(keeper_fd, &order, sizeof order, 0), sizeof order);
    usleep(200 * 1000);
    int before = 0;
    while (receive(&status, 500) && status.answers != 7)
        before++;
    assert_int_equal(status.answers, 7);
    assert_in_range(before, 1, 39); /* it was full */
    assert_true(receive(&status, 3 * IPC_STATUS_MS));
    assert_int_equal(status.answers, 0); /* once */
}

#define WITH_RELAY(test) cmocka_unit_test_setup_teardown(test, start_relay, stop_relay)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RELAY(reports_by_itself),
        WITH_RELAY(answers_orders),
        WITH_RELAY(an_answer_survives_a_full_socket),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
