/*
 * background: -f. The process that was called waits, and exits with 0 once the forwards are ready, or with
 * the status of what went wrong; its child does the work and goes on.
 *
 *     called: fork ── waits ──────────────────────────────── exits with 0
 *               │                                             ▲
 *     child:    └─► ports, task, session, check ── ready ─────┘ ── own session, /dev/null
 *
 * Until it is ready the child has the terminal (^C, a question for a code), reports on standard error, and
 * ends when the one that was called does. Then it leaves: setsid(2), standard input from /dev/null. Standard
 * output and error stay only where they are a file; of a pipe or a terminal somebody waits for the end.
 * Descriptors beyond these are closed at the beginning for the same reason.
 */
#ifndef FUMIDAI_CLIENT_BACKGROUND_H
#define FUMIDAI_CLIENT_BACKGROUND_H

#include <stdbool.h>

#include "base/error.h"

enum { BACKGROUND_DESCRIPTORS_MAX = 1024 /* those that are closed: the usual limit of a shell's */ };

struct background {
    int fd; /* to the one that was called; -1: none waits */
};

#define BACKGROUND_INIT ((struct background){.fd = -1})

/* Before anything is opened. In the process that was called it returns when its work is done, true and its
 * exit status. `keep_fd` stays open in the child. */
bool background_begin(struct background *b, int keep_fd, int *status);
/* Once everything else has been told. Fails when nobody waits any more. */
int background_leave(struct background *b, struct error *err);

#endif
