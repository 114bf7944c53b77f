/*
 * child: starting other programs, and ourselves in another role.
 *
 * A wrapped command gets a process group of its own, so that a signal reaches all of it and none of us;
 * stdin, stdout and stderr are inherited, everything else is closed by close-on-exec. When stdin is our
 * controlling terminal and we are in its foreground, the group becomes the foreground one: an interactive
 * shell must be able to read, and ^C is its business then. child_ended() takes the terminal back.
 *
 * Ourselves in another role gets a group too: ^C on a terminal is the keeper's to act upon, the relay then
 * hears from the keeper.
 *
 * A failed exec is reported here and now (through a pipe that a successful exec closes), not as a mysterious
 * exit status later.
 *
 * The end of a child is learnt from signals_reap(); this module never waits, except for that pipe.
 */
#ifndef FUMIDAI_HOST_CHILD_H
#define FUMIDAI_HOST_CHILD_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

/* As shells have it. */
enum { CHILD_STATUS_CANNOT_RUN = 126, CHILD_STATUS_NOT_FOUND = 127, CHILD_STATUS_SIGNAL_BASE = 128 };

/* The descriptor on which a process started by child_start_self() finds its end of the channel. */
enum { CHILD_CHANNEL_FD = 3 };

struct child {
    pid_t pid;            /* 0 when there is none */
    bool shares_group;    /* it is in our process group */
    bool owns_foreground; /* we handed the terminal over */
};

/* Looks argv[0] up in PATH. ERROR_NOT_FOUND or ERROR_SYSTEM with the reason; child->pid is 0 then. */
int child_start_command(struct child *child, char *const argv[], struct error *err);

/* The same; it dies when we do. */
int child_start_dependent(struct child *child, char *const argv[], struct error *err);

/* The same for a command whose output is read: *output_fd is our end of its stdout (non-blocking,
 * close-on-exec). It stays in our process group, so that it may ask on the terminal, and dies when we do. */
int child_start_output(struct child *child, char *const argv[], int *output_fd, struct error *err);

/* Runs /proc/self/exe as `name`, which replaces argv[0] in the caller's array, with the rest of argv, the
 * environment as it is, and a SOCK_SEQPACKET pair: *channel_fd is our end (non-blocking, close-on-exec),
 * CHILD_CHANNEL_FD the other. The process dies when we do. */
int child_start_self(struct child *child, const char *name, char **argv, int *channel_fd, struct error *err);

/* To the whole group. False when nobody is left to receive it. A child without a group of its own
 * (child_start_output) gets it alone. */
bool child_signal(const struct child *child, int number);

/* Call when signals_reap() gave child->pid. */
void child_ended(struct child *child);

/* What we exit with on its behalf: its status, or 128 + n after signal n. */
int child_exit_status(int wait_status);

#endif
