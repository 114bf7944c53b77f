/*
 * running: what a second `fumidai forward` asks of one that runs: --stop FILE and --wait FILE. Both believe a
 * file only while the process that wrote it lives (host/claim.h).
 */
#ifndef FUMIDAI_CLIENT_RUNNING_H
#define FUMIDAI_CLIENT_RUNNING_H

#include <stdint.h>

#include "base/error.h"

enum {
    RUNNING_END_MS = 10 * 1000, /* beyond --drain: FORWARD_END_MS, and a slow machine */
    RUNNING_POLL_MS = 50        /* how often --wait looks */
};

/* SIGTERM to whoever holds the pid file, and waits for its end: then its sessions are ended, too.
 * ERROR_NOT_FOUND when it does not run, ERROR_TIMEOUT when it still does. */
int running_stop(const char *pid_file, int64_t drain_ms, struct error *err);
/* Until a forward that runs has written its ready file. */
int running_wait(const char *ready_file, int64_t limit_ms, struct error *err);

#endif
