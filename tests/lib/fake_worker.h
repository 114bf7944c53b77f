/*
 * fake_worker: a worker as the keeper's modules see one, for their unit tests: the test program itself,
 * started again under the worker's name. Each kind of call does what its character in a script says, and is
 * noted.
 *
 *     d  done               r  may pass (ERROR_UNAVAILABLE)       x  ends without an answer
 *     a  done, it was so    f  refused (ERROR_DENIED)             n  refused (ERROR_NOT_FOUND)
 */
#ifndef FUMIDAI_TESTS_FAKE_WORKER_H
#define FUMIDAI_TESTS_FAKE_WORKER_H

#include "host/loop.h"
#include "keeper/worker_process.h"
#include "wire/ipc.h"

struct fake_worker {
    char script[IPC_CALL_COUNT + 1]; /* by enum ipc_call_kind */
    struct ipc_answer answer;        /* what a call that is done says, but for its kind and result */
};

/* What main() does first: when the program is the worker, it acts as one and leaves. */
void fake_worker_main(int argc, char **argv);

/* A program whose calls do what *fake says when they are started. */
struct worker_program fake_worker_program(struct loop *loop, const struct fake_worker *fake);
/* Call when *fake has changed; forgets what was noted. */
void fake_worker_set(const struct fake_worker *fake);
/* The calls since, in order; how many there were. */
int fake_worker_calls(struct ipc_call *calls, int max);
/* Collects what has ended, for the worker that a test looks at. */
void fake_worker_reap(struct worker_process *worker);

#endif
