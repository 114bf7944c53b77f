#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "host/child.h"
#include "host/loop.h"
#include "host/signals.h"

static int wait_for(pid_t pid)
{
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int run_shell(const char *script)
{
    struct child child;
    char *argv[] = {"sh", "-c", (char *) (uintptr_t) script, NULL};
    assert_int_equal(child_start_command(&child, argv, NULL), 0);
    assert_true(child.pid > 0);
    int status = wait_for(child.pid);
    child_ended(&child);
    assert_int_equal(child.pid, 0);
    return child_exit_status(status);
}

static void the_exit_status_is_the_commands(void **state)
{
    (void) state;
    assert_int_equal(run_shell("exit 0"), 0);
    assert_int_equal(run_shell("exit 3"), 3);
    assert_int_equal(run_shell("kill -TERM $$"), 128 + SIGTERM);
    assert_int_equal(run_shell("kill -KILL $$"), 128 + SIGKILL);
}

static void output_is_read_and_the_group_is_ours(void **state)
{
    struct child child;
    char *argv[] = {"sh", "-c", "echo out; echo err >&2; sleep 60", NULL}, text[16];
    int output_fd = -1;
    struct pollfd ready = {.events = POLLIN};
    (void) state;
    assert_int_equal(child_start_output(&child, argv, &output_fd, NULL), 0);
    assert_int_equal(getpgid(child.pid), getpgrp());
    ready.fd = output_fd;
    assert_int_equal(poll(&ready, 1, 5000), 1);
    assert_int_equal(read(output_fd, text, sizeof text), 4);
    assert_memory_equal(text, "out\n", 4);
    assert_int_equal(read(output_fd, text, sizeof text), -1);
    assert_int_equal(errno, EAGAIN);
    assert_true(child_signal(&child, SIGKILL)); /* that one, and not us */
    assert_int_equal(child_exit_status(wait_for(child.pid)), 128 + SIGKILL);
    close(output_fd);
    argv[0] = "no-such-command-here";
    assert_int_equal(child_start_output(&child, argv, &output_fd, NULL), ERROR_NOT_FOUND);
    assert_int_equal(output_fd, -1);
}

static void a_command_that_cannot_run_is_an_error_at_once(void **state)
{
    (void) state;
    static const struct {
        const char *command;
        int code;
        const char *text;
    } cases[] = {
        {"no-such-command-here", ERROR_NOT_FOUND,
         "cannot run no-such-command-here: No such file or directory"},
        {"/etc/passwd", ERROR_SYSTEM, "cannot run /etc/passwd: Permission denied"},
        {"/", ERROR_SYSTEM, "cannot run /: Permission denied"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct child child;
        struct error err = ERROR_INIT;
        char *argv[] = {(char *) (uintptr_t) cases[i].command, NULL};
        assert_int_equal(child_start_command(&child, argv, &err), cases[i].code);
        assert_string_equal(err.text, cases[i].text);
        assert_int_equal(child.pid, 0);
        assert_false(child_signal(&child, SIGTERM));
    }
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no zombie stays behind */
}

static void a_command_finds_signals_as_programs_expect_them(void **state)
{
    (void) state;
    /* /proc/self/status of a program that touches no signals: nothing blocked, nothing ignored. Signals 32 to
     * 35 are the C library's own, or qemu's: for them whatever another program (make, for one) has set
     * stays. */
    assert_int_equal(run_shell("exec grep -qE '^SigBlk:\t0+$' /proc/self/status"), 0);
    assert_int_equal(run_shell("exec grep -qE '^SigIgn:\t0{7}[0-7][08]0{7}$' /proc/self/status"), 0);
}

static void a_signal_reaches_the_whole_group_and_not_us(void **state)
{
    (void) state;
    int ends[2];
    assert_int_equal(pipe2(ends, 0), 0);
    struct child child;
    char script[128];
    snprintf(script, sizeof script, "(echo ready >&%d; exec sleep 100) & wait", ends[1]);
    char *argv[] = {"sh", "-c", script, NULL};
    assert_int_equal(child_start_command(&child, argv, NULL), 0);
    close(ends[1]);
    char ready[8];
    assert_int_equal(read(ends[0], ready, sizeof ready), 6);
    assert_int_equal(getpgid(child.pid), child.pid);
    assert_true(child_signal(&child, SIGTERM));
    assert_int_equal(child_exit_status(wait_for(child.pid)), 128 + SIGTERM);
    /* The grandchild held the pipe open: its end shows that the signal reached it. */
    assert_int_equal(read(ends[0], ready, sizeof ready), 0);
    close(ends[0]);
}

static void no_descriptor_leaks_into_the_command(void **state)
{
    (void) state;
    assert_int_equal(run_shell("for f in /proc/self/fd/*; do n=${f##*/}; case $n in 0|1|2) ;; *) "
                               "readlink /proc/$$/fd/$n && exit 1 ;; esac; done; exit 0"),
                     0);
}

/* --- a terminal: the test becomes the leader of a session on a new pseudo-terminal ---------------------- */

static int on_a_terminal(void)
{
    signals_block_all();
    struct child child;
    /* 0 when the command is in the terminal's foreground. */
    char *argv[] = {"sh", "-c", "set -- $(cat /proc/$$/stat); [ \"$5\" = \"$8\" ]", NULL};
    if (child_start_command(&child, argv, NULL) != 0 || !child.owns_foreground)
        return 2;
    int status = -1;
    waitpid(child.pid, &status, 0);
    if (child_exit_status(status) != 0 || tcgetpgrp(0) == getpgrp())
        return 3;
    child_ended(&child);
    if (tcgetpgrp(0) != getpgrp())
        return 4;
    char *missing[] = {"no-such-command-here", NULL};
    if (child_start_command(&child, missing, NULL) == 0 || tcgetpgrp(0) != getpgrp())
        return 5;
    return 0;
}

static void an_interactive_command_gets_the_terminal_and_gives_it_back(void **state)
{
    (void) state;
    int terminal = -1;
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    assert_true(pid >= 0);
    if (pid == 0) {
        alarm(10);
        _exit(on_a_terminal());
    }
    assert_int_equal(child_exit_status(wait_for(pid)), 0);
    close(terminal);
}

/* --- ourselves: this test program runs itself, main() sees the role ------------------------------------- */

static int role_echo(void)
{
    char message[64];
    ssize_t got;
    for (;;) {
        struct pollfd readable = {.fd = CHILD_CHANNEL_FD, .events = POLLIN};
        poll(&readable, 1, -1);
        got = recv(CHILD_CHANNEL_FD, message, sizeof message, 0);
        if (got <= 0)
            return got == 0 ? 7 : 8;
        int death_signal = 0;
        prctl(PR_GET_PDEATHSIG, &death_signal);
        if (death_signal != SIGKILL || getpgrp() != getpid())
            return 9;
        send(CHILD_CHANNEL_FD, message, (size_t) got, 0);
    }
}

static void wait_readable(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    assert_true((flags & O_NONBLOCK) != 0);
    assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
}

static void we_start_ourselves_with_a_channel(void **state)
{
    (void) state;
    struct child child;
    int channel = -1;
    char *argv[] = {"test_child", "role-echo", NULL};
    assert_int_equal(child_start_self(&child, "under another name", argv, &channel, NULL), 0);
    wait_readable(channel);
    char answer[64];
    assert_int_equal(send(channel, "one", 3, 0), 3);
    assert_int_equal(send(channel, "two!", 4, 0), 4);
    assert_int_equal(recv(channel, answer, sizeof answer, 0), 3); /* message boundaries hold */
    assert_int_equal(recv(channel, answer, sizeof answer, 0), 4);
    assert_memory_equal(answer, "two!", 4);
    close(channel);
    assert_int_equal(child_exit_status(wait_for(child.pid)), 7);
}

static void the_channel_works_with_every_low_descriptor_free(void **state)
{
    (void) state;
    /* Descriptor 3 free or taken before: the socket pair and the report pipe
     * must not trample on each other. */
    for (int taken = 0; taken < 4; taken++) {
        int held[4];
        for (int i = 0; i < taken; i++)
            held[i] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        we_start_ourselves_with_a_channel(state);
        for (int i = 0; i < taken; i++)
            close(held[i]);
    }
}

/* --- signals -------------------------------------------------------------------------------------------- */

static int last_signal;
static pid_t last_sender;

static void note_signal(struct signals *signals, int number, pid_t sender)
{
    (void) signals;
    last_signal = number;
    last_sender = sender;
}

static int signals_on_the_loop(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGPIPE, SIGCHLD, SIGWINCH};
    struct loop loop;
    struct signals signals;
    signals_block_all();
    if (loop_open(&loop, NULL) != 0 || signals_open(&signals, &loop, note_signal, NULL) != 0)
        return 1;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        last_signal = 0;
        kill(getpid(), numbers[i]);
        loop_turn(&loop, 1000, NULL);
        if (last_signal != numbers[i] || last_sender != getpid())
            return 2;
    }
    signals_close(&signals);
    loop_close(&loop);
    return 0;
}

static int reap_many(void)
{
    enum { CHILDREN = 20 };
    signal(SIGCHLD, SIG_IGN); /* as a careless parent leaves it */
    signals_block_all();
    int sum = 0;
    for (int i = 0; i < CHILDREN; i++)
        if (fork() == 0)
            _exit(i);
    int count = 0;
    for (int tries = 0; tries < 500 && count < CHILDREN; tries++) {
        pid_t pid;
        int status;
        while (signals_reap(&pid, &status)) {
            sum += child_exit_status(status);
            count++;
        }
        usleep(10000);
    }
    return count == CHILDREN && sum == CHILDREN * (CHILDREN - 1) / 2 ? 0 : 1;
}

static int in_fork(int (*body)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(10);
        _exit(body());
    }
    return child_exit_status(wait_for(pid));
}

static void signals_arrive_on_the_loop(void **state)
{
    (void) state;
    assert_int_equal(in_fork(signals_on_the_loop), 0);
}

static void every_child_is_reaped_with_its_status(void **state)
{
    (void) state;
    assert_int_equal(in_fork(reap_many), 0);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "role-echo") == 0)
        return role_echo();
    syscall(SYS_close_range, 3U, ~0U, 0U); /* whatever the one who runs the tests left open */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_exit_status_is_the_commands),
        cmocka_unit_test(output_is_read_and_the_group_is_ours),
        cmocka_unit_test(a_command_that_cannot_run_is_an_error_at_once),
        cmocka_unit_test(a_command_finds_signals_as_programs_expect_them),
        cmocka_unit_test(a_signal_reaches_the_whole_group_and_not_us),
        cmocka_unit_test(no_descriptor_leaks_into_the_command),
        cmocka_unit_test(an_interactive_command_gets_the_terminal_and_gives_it_back),
        cmocka_unit_test(we_start_ourselves_with_a_channel),
        cmocka_unit_test(the_channel_works_with_every_low_descriptor_free),
        cmocka_unit_test(signals_arrive_on_the_loop),
        cmocka_unit_test(every_child_is_reaped_with_its_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
