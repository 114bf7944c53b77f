/*
 * exec_agent: AWS's exec agent in this container, watched through its log and its processes (host/tail.h and
 * host/proc.h read them, lifecycle/exec_log.h tells sessions from them). Polled by the keeper, never waits,
 * never fails: what can't be read is logged once and tried again with the next poll, for ever.
 */
#ifndef FUMIDAI_KEEPER_EXEC_AGENT_H
#define FUMIDAI_KEEPER_EXEC_AGENT_H

#include <stdbool.h>
#include <stdint.h>

#include "host/proc.h"
#include "host/tail.h"
#include "lifecycle/exec_log.h"

struct exec_agent {
    struct tail tail;
    struct exec_log log;
    struct proc_scan scan;
    bool caught_up;    /* what stood in the log at the start has been read */
    bool scan_trouble; /* told already */
};

void exec_agent_open(struct exec_agent *watch, const char *log_path, int64_t now_ms);
void exec_agent_poll(struct exec_agent *watch, int64_t now_ms);
void exec_agent_close(struct exec_agent *watch);

/* Whether AWS's exec agent is in this container: its bind mount is there, or it runs. */
bool exec_agent_is_present(void);

#endif
