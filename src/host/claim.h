/*
 * claim: a file that says something about a running process (its pid, that it is ready), and that is only
 * believed while that process lives. The process holds a lock on it (fcntl(2), F_SETLK), which the kernel
 * takes back however the process ends, and the kernel tells who holds it. So a file that a kill -9 left
 * behind is told from a good one, also when another process has the number by now.
 */
#ifndef FUMIDAI_HOST_CLAIM_H
#define FUMIDAI_HOST_CLAIM_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/str.h"

struct claim {
    const char *path;
    int fd; /* has the lock for as long as it is open; -1: none */
};

#define CLAIM_INIT ((struct claim){.fd = -1})

/* Writes the file beside its place, locks and renames it: whoever sees it sees it whole. What a process that
 * is gone left there is replaced; ERROR_DENIED when one that lives holds it. `path` is kept. */
int claim_take(struct claim *claim, const char *path, struct str text, struct error *err);
/* Removes the file. Twice does no harm. */
void claim_drop(struct claim *claim);
/* Removes a file that a process which is gone has left; ERROR_DENIED when one that lives holds it. */
int claim_clear(const char *path, struct error *err);
/* Whether a process that lives holds the file; *pid is 0 when it is in another container. *is_there: some
 * file has that name. */
bool claim_is_held(const char *path, pid_t *pid, bool *is_there);

#endif
