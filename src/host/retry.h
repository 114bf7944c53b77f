/*
 * retry: arms a timer for the next try of something that failed, after the pause that its back-off asks for
 * (base/backoff.h), with randomness from the kernel.
 */
#ifndef FUMIDAI_HOST_RETRY_H
#define FUMIDAI_HOST_RETRY_H

#include <stdint.h>

#include "base/backoff.h"
#include "host/loop.h"

/* The pause in milliseconds, for the log; -1, and the timer is not set, when the back-off's deadline leaves
 * no time for another try. */
int64_t retry_later(struct loop *loop, struct loop_timer *timer, struct backoff *backoff,
                    enum error_code reason);

#endif
