#include "host/pidfd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/num.h"
#include "host/clock.h"

int pidfd_of(pid_t pid, struct error *err)
{
    int fd = (int) syscall(SYS_pidfd_open, pid, 0);
    if (fd >= 0)
        return fd;
    return error_set(err, errno == ESRCH ? ERROR_NOT_FOUND : ERROR_SYSTEM, "can't watch process %d: %s",
                     (int) pid, strerror(errno));
}

bool pidfd_signal(int fd, int number)
{
    return syscall(SYS_pidfd_send_signal, fd, number, NULL, 0) == 0;
}

bool pidfd_ends(int fd, int64_t wait_ms)
{
    struct pollfd watched = {.fd = fd, .events = POLLIN};
    int64_t until_ms = clock_after_ms(clock_monotonic_ms(), wait_ms);
    for (;;) {
        int64_t left_ms = num_max_i64(until_ms - clock_monotonic_ms(), 0);
        int result = poll(&watched, 1, (int) num_min_i64(left_ms, INT32_MAX));
        if (result > 0 || left_ms == 0)
            return result > 0;
    }
}
