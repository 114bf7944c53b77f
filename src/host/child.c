#include "host/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/signals.h"

/* What differs between a wrapped command and ourselves. */
struct plan {
    const char *file; /* a path, or a name to look up in PATH */
    char *const *argv;
    bool foreground;   /* give it the terminal */
    int channel_fd;    /* becomes CHILD_CHANNEL_FD; -1: none */
    int output_fd;     /* becomes stdout; -1: ours */
    bool shares_group; /* ours */
    bool die_with_us;
};

/* --- between fork and exec: only what is safe there ----------------------------------------------------- */

/* Moves a descriptor, unless it is -1, to its number, without close-on-exec. */
static int place(int fd, int number)
{
    if (fd == number)
        return fcntl(fd, F_SETFD, 0);
    return fd >= 0 && dup2(fd, number) < 0 ? -1 : 0;
}

static _Noreturn void give_up(int report_fd)
{
    int reason = errno;
    ssize_t written = write(report_fd, &reason, sizeof reason);
    (void) written; /* a parent that is gone does not want to know */
    _exit(reason == ENOENT ? CHILD_STATUS_NOT_FOUND : CHILD_STATUS_CANNOT_RUN);
}

static _Noreturn void become(const struct plan *plan, int report_fd, pid_t parent)
{
    if (!plan->shares_group)
        setpgid(0, 0);
    if (plan->foreground) {
        /* SIGTTOU is still blocked: without that the terminal would stop us
         * for asking from the background. */
        tcsetpgrp(STDIN_FILENO, getpid());
    }
    if (plan->die_with_us) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(CHILD_STATUS_CANNOT_RUN); /* it died before it could take us along */
    }
    if (place(plan->channel_fd, CHILD_CHANNEL_FD) != 0 || place(plan->output_fd, STDOUT_FILENO) != 0)
        give_up(report_fd);
    signals_restore_defaults();
    execvp(plan->file, plan->argv);
    give_up(report_fd);
}

/* --- the parent ----------------------------------------------------------------------------------------- */

/* A pipe whose ends stay clear of the channel's number. */
static int open_report_pipe(int ends[2], struct error *err)
{
    int low[2];
    if (pipe2(low, O_CLOEXEC) != 0)
        return error_set(err, ERROR_SYSTEM, "pipe2: %s", strerror(errno));
    for (int i = 0; i < 2; i++) {
        ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, CHILD_CHANNEL_FD + 1);
        close(low[i]);
    }
    if (ends[0] < 0 || ends[1] < 0) {
        close(ends[0]);
        close(ends[1]);
        return error_set(err, ERROR_SYSTEM, "too many open files");
    }
    return 0;
}

/* 0 when exec succeeded (it closed the pipe), else the errno that the child met. */
static int read_report(int report_fd)
{
    int reason = 0;
    ssize_t got;
    do {
        got = read(report_fd, &reason, sizeof reason);
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t) sizeof reason ? reason : 0;
}

static int start(struct child *child, const struct plan *plan, struct error *err)
{
    *child = (struct child){0};
    int report[2] = {-1, -1};
    int result = open_report_pipe(report, err);
    if (result != 0)
        return result;
    pid_t parent = getpid();
    pid_t pid = _Fork(); /* there are no threads, and nothing but exec follows: none of fork's locks */
    if (pid == 0)
        become(plan, report[1], parent);
    int reason = pid < 0 ? errno : 0;
    close(report[1]);
    if (pid > 0) {
        if (!plan->shares_group)
            setpgid(pid, pid); /* here too, so that a signal sent at once finds the group */
        reason = read_report(report[0]);
    }
    close(report[0]);
    if (pid > 0 && reason != 0)
        waitpid(pid, NULL, 0);
    if (reason != 0) {
        enum error_code code = reason == ENOENT ? ERROR_NOT_FOUND : ERROR_SYSTEM;
        return error_set(err, code, "cannot run %s: %s", plan->argv[0], strerror(reason));
    }
    child->pid = pid;
    child->shares_group = plan->shares_group;
    child->owns_foreground = plan->foreground;
    return 0;
}

static void take_foreground_back(void)
{
    tcsetpgrp(STDIN_FILENO, getpgrp()); /* SIGTTOU is blocked, so this works from the background */
}

static int start_command(struct child *child, char *const argv[], bool die_with_us, struct error *err)
{
    struct plan plan = {
        .file = argv[0], .argv = argv, .channel_fd = -1, .output_fd = -1, .die_with_us = die_with_us};
    plan.foreground = isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
    int result = start(child, &plan, err);
    if (result != 0 && plan.foreground)
        take_foreground_back();
    return result;
}

int child_start_command(struct child *child, char *const argv[], struct error *err)
{
    return start_command(child, argv, false, err);
}

int child_start_dependent(struct child *child, char *const argv[], struct error *err)
{
    return start_command(child, argv, true, err);
}

int child_start_output(struct child *child, char *const argv[], int *output_fd, struct error *err)
{
    int ends[2];
    *output_fd = -1;
    *child = (struct child){0};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set(err, ERROR_SYSTEM, "pipe2: %s", strerror(errno));
    struct plan plan = {.file = argv[0],
                        .argv = argv,
                        .channel_fd = -1,
                        .output_fd = ends[1],
                        .shares_group = true,
                        .die_with_us = true};
    int result = start(child, &plan, err);
    close(ends[1]);
    if (result != 0) {
        close(ends[0]);
        return result;
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *output_fd = ends[0];
    return 0;
}

int child_start_self(struct child *child, const char *name, char **argv, int *channel_fd, struct error *err)
{
    int ends[2];
    *channel_fd = -1;
    argv[0] = (char *) (uintptr_t) name; /* exec only reads it */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0) {
        *child = (struct child){0};
        return error_set(err, ERROR_SYSTEM, "socketpair: %s", strerror(errno));
    }
    struct plan plan = {
        .file = "/proc/self/exe", .argv = argv, .channel_fd = ends[1], .output_fd = -1, .die_with_us = true};
    int result = start(child, &plan, err);
    close(ends[1]);
    if (result != 0) {
        close(ends[0]);
        return result;
    }
    *channel_fd = ends[0];
    return 0;
}

bool child_signal(const struct child *child, int number)
{
    return child->pid > 0 && kill(child->shares_group ? child->pid : -child->pid, number) == 0;
}

void child_ended(struct child *child)
{
    if (child->owns_foreground)
        take_foreground_back();
    *child = (struct child){0};
}

int child_exit_status(int wait_status)
{
    return WIFSIGNALED(wait_status) ? CHILD_STATUS_SIGNAL_BASE + WTERMSIG(wait_status)
                                    : WEXITSTATUS(wait_status);
}
