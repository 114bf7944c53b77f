#include "host/descriptors.h"

#include <errno.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static unsigned the_limit = UINT_MAX;

/* prlimit: setrlimit of musl brings along what changes all threads at once. */
void descriptors_open(void)
{
    struct rlimit files;
    if (prlimit(0, RLIMIT_NOFILE, NULL, &files) < 0)
        return;
    rlim_t soft = files.rlim_cur;
    files.rlim_cur = files.rlim_max;
    if (prlimit(0, RLIMIT_NOFILE, &files, NULL) == 0)
        soft = files.rlim_max;
    the_limit = soft < UINT_MAX ? (unsigned) soft : UINT_MAX;
}

unsigned descriptors_allowed(unsigned limit, enum descriptors_use use)
{
    if (use == DESCRIPTORS_FOR_CHANNELS)
        return limit;
    unsigned sessions = limit > DESCRIPTORS_CHANNELS_RESERVE ? limit - DESCRIPTORS_CHANNELS_RESERVE : 0;
    if (use == DESCRIPTORS_FOR_SESSIONS)
        return sessions;
    unsigned reserve = sessions / 4;
    return sessions -
           (reserve < DESCRIPTORS_SESSIONS_RESERVE_MAX ? reserve : DESCRIPTORS_SESSIONS_RESERVE_MAX);
}

int descriptors_keep(int fd, enum descriptors_use use)
{
    if (fd < 0 || (unsigned) fd < descriptors_allowed(the_limit, use))
        return fd;
    close(fd);
    errno = EMFILE;
    return -1;
}

bool descriptors_are_free(enum descriptors_use use, unsigned count)
{
    int fd = descriptors_keep(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), use);
    if (fd < 0)
        return false;
    close(fd);
    return count <= descriptors_allowed(the_limit, use) - (unsigned) fd;
}

unsigned descriptors_for_lingering(void)
{
    return descriptors_allowed(the_limit, DESCRIPTORS_FOR_STREAMS) / 8;
}
