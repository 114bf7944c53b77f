/*
 * clock: the two clocks this program knows. Deadlines are monotonic milliseconds and absolute; wall-clock
 * time is only for people, signatures and certificates. Inside a loop use loop_now_ms(), which asks once a
 * turn.
 */
#ifndef FUMIDAI_HOST_CLOCK_H
#define FUMIDAI_HOST_CLOCK_H

#include <stdint.h>

/* What x_deadline() says when nothing is due. */
#define CLOCK_NEVER INT64_MAX

int64_t clock_monotonic_ms(void);
int64_t clock_unix_ms(void);

/* now + delay without overflow: a delay of CLOCK_NEVER gives CLOCK_NEVER. */
int64_t clock_after_ms(int64_t now_ms, int64_t delay_ms);

#endif
