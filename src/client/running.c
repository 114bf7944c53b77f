#include "client/running.h"

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/time.h"
#include "host/claim.h"
#include "host/clock.h"
#include "host/pidfd.h"

static int not_running(const char *path, bool is_there, struct error *err)
{
    return error_set(err, ERROR_NOT_FOUND,
                     is_there
                         ? "nothing to stop: the forward that wrote %s is gone; it was killed, or crashed"
                         : "nothing to stop: there is no file %s",
                     path);
}

static int too_late(struct error *err, const char *what, int64_t limit_ms, const char *path)
{
    char text[32];
    struct writer limit = writer_of(text, sizeof text);
    writer_duration_ms(&limit, limit_ms);
    return error_set(err, ERROR_TIMEOUT, "%s within %s (%s)", what, writer_terminate(&limit), path);
}

int running_stop(const char *pid_file, int64_t drain_ms, struct error *err)
{
    int64_t limit_ms = num_add_ms(drain_ms, RUNNING_END_MS);
    bool is_there;
    pid_t pid;
    pid_t again;
    if (!claim_is_held(pid_file, &pid, &is_there))
        return not_running(pid_file, is_there, err);
    if (pid == 0)
        return error_set(err, ERROR_DENIED, "%s belongs to a process of another container", pid_file);
    int fd = pidfd_of(pid, err);
    if (fd == ERROR_NOT_FOUND || (fd >= 0 && (!claim_is_held(pid_file, &again, &is_there) || again != pid))) {
        if (fd >= 0) /* it ended in between, and the number may be another's */
            close(fd);
        return not_running(pid_file, is_there, err);
    }
    if (fd < 0)
        return fd;
    int result = 0;
    if (!pidfd_signal(fd, SIGTERM))
        result = error_set(err, ERROR_DENIED, "can't end process %d of %s: it is another user's", (int) pid,
                           pid_file);
    else if (!pidfd_ends(fd, limit_ms))
        result = too_late(err, "it did not end", limit_ms, pid_file);
    close(fd);
    return result;
}

int running_wait(const char *ready_file, int64_t limit_ms, struct error *err)
{
    int64_t until_ms = num_add_ms(clock_monotonic_ms(), limit_ms);
    bool is_there = false;
    pid_t pid;
    while (!claim_is_held(ready_file, &pid, &is_there)) {
        if (clock_monotonic_ms() >= until_ms)
            return too_late(err,
                            is_there
                                ? "no forward became ready: the file is there, but left by one that is gone"
                                : "no forward became ready",
                            limit_ms, ready_file);
        (void) poll(NULL, 0, RUNNING_POLL_MS);
    }
    return 0;
}
