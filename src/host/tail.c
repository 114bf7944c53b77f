#include "host/tail.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void tail_open(struct tail *tail, const char *path)
{
    *tail = (struct tail){.path = path, .fd = -1};
}

static void drop_file(struct tail *tail)
{
    if (tail->fd >= 0)
        close(tail->fd);
    tail->fd = -1;
}

void tail_close(struct tail *tail)
{
    drop_file(tail);
}

static bool is_absence(int reason)
{
    return reason == ENOENT || reason == ENOTDIR;
}

/* Says each reason once; a file that is absent is not an error. */
static enum tail_event have_trouble(struct tail *tail, const char *what, int reason)
{
    if (is_absence(reason) || reason == tail->trouble) {
        tail->trouble = is_absence(reason) ? 0 : reason;
        return TAIL_IDLE;
    }
    tail->trouble = reason;
    error_set(&tail->err, ERROR_SYSTEM, "%s %s: %s", what, tail->path, strerror(reason));
    return TAIL_TROUBLE;
}

/* Opens what the path names now. The first file of all is not a restart: nothing came before it. */
static enum tail_event open_path(struct tail *tail)
{
    /* Non-blocking, because a log's path may turn out to be a FIFO. */
    int fd = open(tail->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return have_trouble(tail, "open", errno);
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        close(fd);
        return have_trouble(tail, "not a regular file:", EINVAL);
    }
    drop_file(tail);
    tail->fd = fd;
    tail->device = status.st_dev;
    tail->inode = status.st_ino;
    tail->position = 0;
    tail->trouble = 0;
    return TAIL_RESTART;
}

static enum tail_event read_bytes(struct tail *tail, void *buffer, size_t capacity, size_t *len)
{
    ssize_t got = pread(tail->fd, buffer, capacity, tail->position);
    if (got < 0)
        return errno == EINTR ? TAIL_IDLE : have_trouble(tail, "read", errno);
    if (got == 0)
        return TAIL_IDLE;
    tail->position += got;
    tail->started = true;
    *len = (size_t) got;
    return TAIL_BYTES;
}

/* The open file is read to its end: was it cut, or has the path moved on to a successor? */
static enum tail_event look_for_change(struct tail *tail, void *buffer, size_t capacity, size_t *len)
{
    struct stat named;
    if (stat(tail->path, &named) != 0)
        return have_trouble(tail, "stat", errno);
    if (named.st_dev != tail->device || named.st_ino != tail->inode) {
        /* Its last bytes may have come between our read and the rename. */
        enum tail_event event = read_bytes(tail, buffer, capacity, len);
        return event != TAIL_IDLE ? event : open_path(tail);
    }
    if (named.st_size < tail->position) {
        tail->position = 0;
        return TAIL_RESTART;
    }
    return TAIL_IDLE;
}

enum tail_event tail_poll(struct tail *tail, void *buffer, size_t capacity, size_t *len)
{
    *len = 0;
    enum tail_event event = tail->fd >= 0 ? read_bytes(tail, buffer, capacity, len) : TAIL_IDLE;
    if (event != TAIL_IDLE)
        return event;
    event = tail->fd >= 0 ? look_for_change(tail, buffer, capacity, len) : open_path(tail);
    if (event != TAIL_RESTART || tail->started)
        return event;
    return read_bytes(tail, buffer, capacity, len); /* nothing came before: to the owner this is a start */
}
