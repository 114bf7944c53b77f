#include "host/claim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "host/console.h"
#include "host/files.h"

bool claim_is_held(const char *path, pid_t *pid, bool *is_there)
{
    /* A lock for reading: only one who may write to the file can be in its way. */
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool asked = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0;
    *is_there = fd >= 0 || errno != ENOENT;
    if (fd >= 0)
        close(fd);
    *pid = asked && lock.l_type != F_UNLCK && lock.l_pid > 0 ? lock.l_pid : 0;
    return asked && lock.l_type != F_UNLCK;
}

int claim_clear(const char *path, struct error *err)
{
    pid_t pid;
    bool is_there;
    if (claim_is_held(path, &pid, &is_there))
        return error_set(err, ERROR_DENIED, "%s belongs to process %d, which is running", path, (int) pid);
    if (is_there)
        (void) unlink(path);
    return 0;
}

int claim_take(struct claim *claim, const char *path, struct str text, struct error *err)
{
    char beside[FILES_PATH_SIZE];
    struct writer name = writer_of(beside, sizeof beside);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    *claim = CLAIM_INIT;
    writer_format(&name, "%s.%d", path, (int) getpid());
    if (name.failed)
        return error_set(err, ERROR_TOO_LARGE, "can't write %s: the path is too long", path);
    int result = claim_clear(path, err);
    if (result < 0)
        return result;
    int fd = open(writer_terminate(&name), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd >= 0 && console_write(fd, text) && fcntl(fd, F_SETLK, &lock) == 0 && rename(beside, path) == 0) {
        *claim = (struct claim){.path = path, .fd = fd};
        return 0;
    }
    error_set(err, ERROR_SYSTEM, "can't write %s: %s", path, strerror(errno));
    if (fd >= 0) {
        close(fd);
        (void) unlink(beside);
    }
    return ERROR_SYSTEM;
}

void claim_drop(struct claim *claim)
{
    if (claim->fd < 0)
        return;
    (void) unlink(claim->path);
    close(claim->fd);
    claim->fd = -1;
}
