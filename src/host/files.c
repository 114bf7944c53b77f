#include "host/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"

static int fail(const char *what, const char *path, int reason, struct error *err)
{
    enum error_code code = reason == ENOENT ? ERROR_NOT_FOUND : ERROR_SYSTEM;
    return error_set(err, code, "can't %s %s: %s", what, path, strerror(reason));
}

/* 0, or an errno. A file that is longer fills the memory. */
static int read_all(int fd, char *memory, size_t capacity, size_t *len)
{
    *len = 0;
    while (*len < capacity) {
        ssize_t got = read(fd, memory + *len, capacity - *len);
        if (got < 0 && errno != EINTR)
            return errno;
        if (got == 0)
            break;
        *len += got > 0 ? (size_t) got : 0;
    }
    return 0;
}

int files_read(const char *path, void *memory, size_t capacity, struct str *text, struct error *err)
{
    size_t len = 0;
    char more;
    *text = (struct str){memory, 0};
    int fd =
        open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* nobody writes into a pipe of that name */
    if (fd < 0)
        return fail("read", path, errno, err);
    int reason = read_all(fd, memory, capacity, &len);
    bool is_longer = reason == 0 && len == capacity && read(fd, &more, 1) > 0;
    close(fd);
    if (reason != 0)
        return fail("read", path, reason, err);
    if (is_longer)
        return error_set(err, ERROR_TOO_LARGE, "can't read %s: it has more than %zu bytes", path, capacity);
    text->len = len;
    return 0;
}

/* 0, or an errno. */
static int write_all(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t sent = write(fd, text.ptr, text.len);
        if (sent < 0 && errno != EINTR)
            return errno;
        text = str_slice(text, sent > 0 ? (size_t) sent : 0, text.len);
    }
    return fsync(fd) == 0 ? 0 : errno;
}

int files_replace(const char *path, struct str text, struct error *err)
{
    char beside[FILES_PATH_SIZE];
    struct writer w = writer_of(beside, sizeof beside);
    writer_text(&w, path);
    writer_text(&w, ".new");
    writer_terminate(&w);
    if (w.failed || w.len == sizeof beside)
        return fail("write", path, ENAMETOOLONG, err);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (fd < 0)
        return fail("write", beside, errno, err);
    int reason = write_all(fd, text);
    close(fd);
    if (reason == 0 && rename(beside, path) != 0)
        reason = errno;
    if (reason == 0)
        return 0;
    unlink(beside);
    return fail("write", path, reason, err);
}
