/*
 * signals: every signal is blocked from the first line of main on and read from a signalfd, so that nothing
 * ever runs asynchronously. SIGPIPE is ignored: a peer or log reader that went away is an error of a write.
 *
 * PID 1's duty stands here too: signals_reap() collects every child that has ended, the wrapped command, the
 * relay, and orphans that became ours. SIGCHLD is one bit, however many died, so it is called until it says
 * false.
 */
#ifndef FUMIDAI_HOST_SIGNALS_H
#define FUMIDAI_HOST_SIGNALS_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"
#include "host/loop.h"

struct signals {
    struct loop *loop;
    struct loop_watch watch;
    void (*caught)(struct signals *signals, int number, pid_t sender);
};

/* First thing in main, before any thread exists (threads inherit the mask). */
void signals_block_all(void);

/* `caught` runs on the loop, once for each pending signal. */
int signals_open(struct signals *signals, struct loop *loop,
                 void (*caught)(struct signals *signals, int number, pid_t sender), struct error *err);
void signals_close(struct signals *signals);

/* In a child, between fork and exec: default dispositions and an empty mask, as a program expects to find
 * them. */
void signals_restore_defaults(void);

/* One ended child a call; false when there is none left to collect. */
bool signals_reap(pid_t *pid, int *wait_status);

#endif
