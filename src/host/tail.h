/*
 * tail: follows a log file by polling, through everything that happens to log files.
 *
 *     WAITING ── the path appears ──► FOLLOWING ── the path is another file now, and this one read to its
 *                                       │   ▲                 end: TAIL_RESTART, on with the new one ──┐
 *                                       └───┴── the file shrank: TAIL_RESTART, from its beginning ─────┘
 *
 * A file may be absent for as long as it likes: that is not an error. A renamed file is read to its end
 * before its successor is opened, and stays open while there is no successor. Bytes are handed over as they
 * are; lines are somebody else's business, but TAIL_RESTART says that whatever partial line was collected
 * will not be completed. Two rotations between two polls lose the file in the middle, and a file cut and
 * refilled beyond the old position looks as if it had only grown: neither can be seen from outside.
 */
#ifndef FUMIDAI_HOST_TAIL_H
#define FUMIDAI_HOST_TAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

enum tail_event {
    TAIL_IDLE,    /* nothing new; poll later */
    TAIL_BYTES,   /* *len bytes were read; call again, there may be more */
    TAIL_RESTART, /* what follows comes from another beginning; call again */
    TAIL_TROUBLE  /* the path exists and can't be read (tail->err says why, once per change of reason); poll
                     later */
};

struct tail {
    const char *path; /* the caller's, must outlive the tail */
    int fd;           /* -1 while waiting */
    dev_t device;
    ino_t inode;
    int64_t position;
    bool started; /* something was read before: the next file is a restart */
    int trouble;  /* errno last reported */
    struct error err;
};

void tail_open(struct tail *tail, const char *path);
void tail_close(struct tail *tail);
/* At most `capacity` bytes; bound the number of calls a turn as well. Costs two system calls when nothing is
 * new. */
enum tail_event tail_poll(struct tail *tail, void *buffer, size_t capacity, size_t *len);

#endif
