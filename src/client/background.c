#include "client/background.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/child.h"
#include "host/console.h"

static bool fail(const char *what, int *status)
{
    console_format(STDERR_FILENO, "fumidai: can't go to the background: %s: %s\n", what, strerror(errno));
    *status = 1;
    return true;
}

/* Whether somebody sent it to this process. What a terminal sends, the child got, too. */
static bool is_to_be_passed_on(const struct signalfd_siginfo *info)
{
    return info->ssi_code != SI_KERNEL && (info->ssi_signo == SIGINT || info->ssi_signo == SIGTERM ||
                                           info->ssi_signo == SIGHUP || info->ssi_signo == SIGQUIT);
}

/* The process that was called: until the child says that it is ready, or has ended. */
static int wait_for(pid_t child, int fd)
{
    char ready;
    int wait_status = 0;
    sigset_t all;
    sigfillset(&all);
    struct pollfd watched[] = {{.fd = fd, .events = POLLIN},
                               {.fd = signalfd(-1, &all, SFD_CLOEXEC), .events = POLLIN}};
    do {
        struct signalfd_siginfo info;
        (void) poll(watched, 2, -1);
        if ((watched[1].revents & POLLIN) != 0 && read(watched[1].fd, &info, sizeof info) == sizeof info &&
            is_to_be_passed_on(&info))
            kill(child, (int) info.ssi_signo);
    } while (watched[0].revents == 0);
    if (read(fd, &ready, 1) == 1)
        return 0;
    while (waitpid(child, &wait_status, 0) < 0 && errno == EINTR)
        continue;
    return child_exit_status(wait_status);
}

bool background_begin(struct background *b, int keep_fd, int *status)
{
    int ends[2];
    pid_t called = getpid();
    if (pipe2(ends, O_CLOEXEC) != 0)
        return fail("pipe2", status);
    pid_t child = fork();
    if (child < 0)
        return fail("fork", status);
    if (child > 0) {
        close(ends[1]);
        *status = wait_for(child, ends[0]);
        return true;
    }
    for (int fd = STDERR_FILENO + 1; fd < BACKGROUND_DESCRIPTORS_MAX; fd++)
        if (fd != ends[1] && fd != keep_fd)
            close(fd);
    b->fd = ends[1];
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    *status = 1;
    return getppid() != called; /* it died before that */
}

static void replace_unless_file(int fd, int null)
{
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        (void) dup2(null, fd);
}

int background_leave(struct background *b, struct error *err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return error_set(err, ERROR_SYSTEM, "can't open /dev/null: %s", strerror(errno));
    (void) setsid(); /* can't fail: we lead no group */
    prctl(PR_SET_PDEATHSIG, 0);
    (void) dup2(null, STDIN_FILENO);
    replace_unless_file(STDOUT_FILENO, null);
    replace_unless_file(STDERR_FILENO, null);
    close(null);
    ssize_t told = write(b->fd, "", 1);
    close(b->fd);
    b->fd = -1;
    return told == 1 ? 0 : error_set(err, ERROR_CLOSED, "the process that was called is gone");
}
