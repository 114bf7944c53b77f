/*
 * exec_watch: AWS's exec agent in this container, watched through its log and its processes (engine/exec_log.h judges,
 * host/tail.h and host/proc.h look). Polled by the keeper, never waits, never fails: what can't be read is told once and
 * tried again with the next poll, for ever.
 */
#ifndef FUMIDAI_KEEPER_EXEC_AGENT_H
#define FUMIDAI_KEEPER_EXEC_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "host/proc.h"
#include "host/tail.h"
#include "lifecycle/exec_log.h"

struct exec_watch {
    struct tail tail;
    struct exec_log log;
    struct proc_scan scan;
    bool caught_up;    /* what stood in the log at the start has been read */
    bool scan_trouble; /* told already */
};

void exec_watch_open(struct exec_watch *watch, const char *log_path, int64_t now_ms);
void exec_watch_poll(struct exec_watch *watch, int64_t now_ms);
void exec_watch_close(struct exec_watch *watch);

/* Whether AWS's exec agent is in this container: its bind mount is there, or it runs. */
bool exec_watch_agent_present(void);

#endif
