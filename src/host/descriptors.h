/*
 * descriptors: who may have how many file descriptors, so that no user of this task can take the ones without
 * which nobody is served.
 *
 *     0                        FOR_STREAMS                 FOR_SESSIONS              FOR_CHANNELS: the limit
 *     |─────────────────────────────|────────────────────────────|───────────────────────────────|
 *       streams, fixed forwards,      and also data channels       and also the control channel,
 *       what lingers of them                                       credentials, metadata, names
 *
 * The kernel gives the lowest free number, so a number tells how many are open at least. Whoever opens one
 * for a purpose asks descriptors_keep: a number beyond what the purpose may use is given back and fails like
 * a full table (EMFILE). That counts everything that is open, the parallel attempts of a dial included, and
 * there are no books to keep.
 *
 * The limit is the process's own (RLIMIT_NOFILE, raised to the hard limit; 65,535 on Fargate).
 */
#ifndef FUMIDAI_HOST_DESCRIPTORS_H
#define FUMIDAI_HOST_DESCRIPTORS_H

#include <stdbool.h>

enum {
    /* Kept back for the channels: of the control channel 8 addresses tried at once, 8 more for its token, or
     * for credentials; name servers are asked over 2 to 8. */
    DESCRIPTORS_CHANNELS_RESERVE = 24,
    /* And for sessions, a quarter of the rest: 8 for each of 64 data channels that reconnect at once. */
    DESCRIPTORS_SESSIONS_RESERVE_MAX = 512
};

enum descriptors_use { DESCRIPTORS_FOR_CHANNELS, DESCRIPTORS_FOR_SESSIONS, DESCRIPTORS_FOR_STREAMS };

/* Raises the limit and reads it. Before, there is none. */
void descriptors_open(void);
/* How many a process with this limit may have open for the use. */
unsigned descriptors_allowed(unsigned limit, enum descriptors_use use);

/* The descriptor; or -1 with errno EMFILE, and it is closed. Passes -1 through. */
int descriptors_keep(int fd, enum descriptors_use use);
/* Whether so many could be opened for the use now. */
bool descriptors_are_free(enum descriptors_use use, unsigned count);
/* How many connections of closed streams may linger: an eighth of what streams may have. */
unsigned descriptors_for_lingering(void);

#endif
