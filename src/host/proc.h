/*
 * proc: what /proc tells about AWS's exec agent in this container.
 *
 * The agent starts one process per session, `…/ssm-session-worker <session id>`. On Fargate it runs inside
 * the container it was asked for, so its processes are visible when we share the PID namespace with it (we
 * are PID 1 of that container, or pidMode is task). When we do not, a scan finds nothing and the log is the
 * only source: that a worker is absent proves something only after one has been seen.
 *
 * A process that has died but was not reaped has an empty command line and counts as gone.
 */
#ifndef FUMIDAI_HOST_PROC_H
#define FUMIDAI_HOST_PROC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum {
    PROC_SESSION_ID_SIZE = 129, /* AWS: at most 96 characters; and the terminator */
    PROC_WORKERS_MAX =
        64, /* sessions at a time that are told apart; AWS's agent has the same order of limit */
    PROC_SCAN_MAX = 8192,       /* processes looked at in one scan */
    PROC_DESCENDANTS_MAX = 1024 /* processes that a signal reaches; more than a wrapped command starts */
};

struct proc_worker {
    int pid;
    char session_id[PROC_SESSION_ID_SIZE];
};

struct proc_scan {
    struct proc_worker workers[PROC_WORKERS_MAX];
    size_t worker_count;
    bool agent_running; /* amazon-ssm-agent or ssm-agent-worker is among the processes */
    bool complete; /* false: some bound was hit or /proc could not be read to its end; absence proves nothing
                    */
};

/* `root` is "/proc"; tests bring their own. One pass, no allocation. ERROR_SYSTEM when it can't be opened. */
int proc_scan(const char *root, struct proc_scan *scan, struct error *err);

/* Sends a signal to what we have started, and they, but for `except` and what is in process group `group`. By
 * the kernel's list of children, so it finds what has left its group or session. Best effort. */
void proc_signal_descendants(int number, int group, const int *except, size_t count);

/* Whether anything of /managed-agents/execute-command is mounted here, by <root>/self/mountinfo: ECS mounts
 * the agent's binaries so when enableExecuteCommand is set. */
bool proc_exec_agent_mounted(const char *root);

#endif
