/*
 * linger: connections to targets whose streams are over. What was written may still be on its way, and to
 * close with bytes unread would destroy it; so each is read, and what comes is dropped, until the target
 * closes.
 *
 *     linger_take ─► lingering ─┬─► the target closed, or the connection broke: closed
 *                               ├─► it has all it was sent, and has not closed for LINGER_STEP_MS: closed
 *                               ├─► LINGER_STALLED_STEPS in which it has taken nothing more: reset
 *                               ├─► it has all it was sent and sends on, beyond LINGER_DROP_MAX: closed
 *                               └─► there are too many: reset
 *
 * A target that takes a byte now and then may linger for ever, so their number is bounded: LINGER_MAX, or
 * what descriptors allow. When that is reached, the oldest of the owner that has the most is reset: closing
 * many streams costs nobody else's last bytes.
 *
 * Reading is bounded, too, one connection after the other: LINGER_READS_PER_TURN in a turn, and 25 MB/s in
 * all. What is dropped is not worth a processor, and a target must only not be stuck in a write.
 */
#ifndef FUMIDAI_RUN_LINGER_H
#define FUMIDAI_RUN_LINGER_H

#include <stdint.h>

#include "base/list.h"
#include "host/loop.h"
#include "net/tcp.h"

enum {
    LINGER_MAX = 1024,            /* a full session's streams that are closed at once */
    LINGER_STEP_MS = 2000,        /* between looks at what a target has taken */
    LINGER_STALLED_STEPS = 15,    /* half a minute: a busy database may stop reading for seconds */
    LINGER_DROP_MAX = 256 * 1024, /* the rest of an answer that nobody wants any more */
    LINGER_READ_SIZE = 16 * 1024, /* bytes at once */
    LINGER_READS_PER_TURN = 64,   /* below a millisecond, even when each is the end of a connection */
    LINGER_BYTES = 512 * 1024,    /* dropped; then nothing is read for LINGER_PAUSE_MS */
    LINGER_PAUSE_MS = 20,         /* as long as a turn may be: a target does not notice */
    LINGER_OWNERS = 64            /* owners told apart; more share their places */
};

struct linger_set {
    struct loop *loop;
    unsigned max;
    unsigned count;
    unsigned count_of[LINGER_OWNERS];
    struct list all;      /* the oldest first */
    struct list readable; /* those that have yet to be read, in turn */
    struct loop_hook hook;
    struct loop_timer pause;
    size_t bytes_left; /* until the pause */
    int stalled_steps; /* LINGER_STALLED_STEPS; tests have less time */
};

/* At most `max`, and never more than LINGER_MAX. */
void linger_open(struct linger_set *linger, struct loop *loop, unsigned max);
void linger_close(struct linger_set *linger); /* resets all */
/* Takes the connection over, `tcp` is closed then. `owner` is the session's number. One that has no reason to
 * linger is closed at once. */
void linger_take(struct linger_set *linger, struct tcp *tcp, uint64_t owner);

#endif
