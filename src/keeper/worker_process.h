/*
 * worker_process: one call to AWS, made by a process of its own (worker/worker.h), seen from the keeper.
 *
 *     IDLE ── start: process started, ipc_call sent ──► ACTIVE ── one good answer, then the end ───────► done
 *                                                        │
 *                                                        └── no answer, a malformed one, two, or none
 *                                                            before the deadline: killed ────────────► done
 *
 * A worker that crashes, hangs or sends what it should not is an attempt that failed and may be made again:
 * IPC_RETRY. Whatever it is, `done` is called once for each start, at the deadline at the latest.
 */
#ifndef FUMIDAI_KEEPER_WORKER_PROCESS_H
#define FUMIDAI_KEEPER_WORKER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "host/child.h"
#include "host/loop.h"
#include "wire/ipc.h"

enum {
    /* The worker's own deadline is so much earlier, so that its words about what it waited for arrive in
     * time. */
    WORKER_PROCESS_RESERVE_MS = 500
};

/* What all calls of the keeper share. */
struct worker_program {
    struct loop *loop;
    char **argv;             /* the keeper's own; the first is replaced */
    int64_t clock_offset_ms; /* the service's time less this host's, as the latest answer had it */
};

struct worker_process {
    struct worker_program *program;
    void (*done)(struct worker_process *worker); /* from the loop, never from inside worker_process_start */

    /* in done */
    enum ipc_result result;
    struct error err;         /* why it is not IPC_DONE */
    struct ipc_answer answer; /* when it is */

    /* private */
    enum ipc_call_kind kind;
    bool active;
    bool answered;
    struct child child;
    struct child leaving;    /* of the call before; not collected yet */
    struct loop_watch watch; /* owns the socket */
    struct loop_timer deadline;
};

void worker_process_init(struct worker_process *worker, struct worker_program *program,
                         void (*done)(struct worker_process *worker));
/* No call may be active. The deadline and the clock of `call` are filled in here. */
void worker_process_start(struct worker_process *worker, struct ipc_call *call, int64_t deadline_ms);
/* At any time: kills the process; `done` is not called then. */
void worker_process_cancel(struct worker_process *worker);
/* True when pid was the worker's, of this call or of the one before. */
bool worker_process_ended(struct worker_process *worker, pid_t pid);

#endif
