#include "host/signals.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

void signals_block_all(void)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    signal(SIGPIPE, SIG_IGN);
    /* Whoever started us may have ignored it, and then the kernel throws exit statuses away. */
    signal(SIGCHLD, SIG_DFL);
}

void signals_restore_defaults(void)
{
    /* An ignored signal stays ignored across exec, and a parent may have left us with some. The two that
     * can't be changed, and those the C library keeps for itself, are refused; that is as it should be. */
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void read_signals(struct loop_watch *watch, uint32_t events)
{
    (void) events;
    struct signals *signals = LOOP_OWNER(watch, struct signals, watch);
    struct signalfd_siginfo info;
    /* One a turn: `caught` may close us. The descriptor is level-triggered, the rest comes next turn. */
    if (read(watch->fd, &info, sizeof info) == (ssize_t) sizeof info)
        signals->caught(signals, (int) info.ssi_signo, (pid_t) info.ssi_pid);
}

int signals_open(struct signals *signals, struct loop *loop,
                 void (*caught)(struct signals *signals, int number, pid_t sender), struct error *err)
{
    signals->loop = loop;
    signals->caught = caught;
    signals->watch = LOOP_WATCH_INIT;
    sigset_t all;
    sigfillset(&all);
    int fd = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0)
        return error_set(err, ERROR_SYSTEM, "signalfd: %s", strerror(errno));
    int result = loop_watch_add(loop, &signals->watch, fd, EPOLLIN, read_signals, err);
    if (result != 0)
        close(fd);
    return result;
}

void signals_close(struct signals *signals)
{
    int fd = signals->watch.fd;
    loop_watch_remove(signals->loop, &signals->watch);
    if (fd >= 0)
        close(fd);
}

bool signals_reap(pid_t *pid, int *wait_status)
{
    pid_t ended;
    do {
        ended = waitpid(-1, wait_status, WNOHANG);
    } while (ended < 0 && errno == EINTR);
    *pid = ended;
    return ended > 0;
}
