/*
 * backoff: when to try again. Capped exponential back-off with full jitter: the n-th pause is random between
 * 0 and min(cap, first * 2^n), which spreads callers best and still starts quickly. After a throttling answer
 * the pause is random between half the window and the window, and the window is at least `throttled_ms`: a
 * caller that was asked to slow down must not draw a zero.
 *
 * It has no clock and no randomness: the time is monotonic milliseconds, the random number is the caller's.
 * Above the pure floors host/retry.h supplies both and sets the timer.
 *
 *     struct backoff b; backoff_start(&b, &BACKOFF_CALLS, now + 60000);
 *     for (;;) { try; if it succeeded: break;
 *                if (!backoff_next(&b, code, now, random, &at)) give up; wait until at; }
 */
#ifndef FUMIDAI_BASE_BACKOFF_H
#define FUMIDAI_BASE_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct backoff_policy {
    uint32_t first_ms;     /* the first window */
    uint32_t cap_ms;       /* no window is longer */
    uint32_t throttled_ms; /* nor, after throttling, shorter than this */
};

extern const struct backoff_policy BACKOFF_CALLS;     /* 250 ms, 10 s, 2 s: a call with a deadline */
extern const struct backoff_policy BACKOFF_RECONNECT; /* 900 ms, 30 s, 5 s: for ever (control channel) */
extern const struct backoff_policy BACKOFF_RESUME;    /* 100 ms, 5 s, 2 s: a session waits (data channel) */

struct backoff {
    const struct backoff_policy *policy;
    int64_t deadline_ms; /* INT64_MAX: none */
    uint32_t failures;   /* since backoff_start or backoff_succeed */
};

void backoff_start(struct backoff *backoff, const struct backoff_policy *policy, int64_t deadline_ms);
/* Back to the first window, for connections that live for a while and then break. */
void backoff_succeed(struct backoff *backoff);
/* Counts a failure and gives the time of the next try. No pause takes more than half of the time that is left
 * until the deadline, so that the last tries are not lost to a long one; false when less than first_ms is
 * left. */
bool backoff_next(struct backoff *backoff, enum error_code reason, int64_t now_ms, uint32_t random,
                  int64_t *at_ms);

#endif
