#include "host/clock.h"

#include <time.h>

static int64_t read_clock_ms(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now); /* cannot fail for these two clocks */
    return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_monotonic_ms(void)
{
    return read_clock_ms(CLOCK_MONOTONIC);
}

int64_t clock_unix_ms(void)
{
    return read_clock_ms(CLOCK_REALTIME);
}

int64_t clock_after_ms(int64_t now_ms, int64_t delay_ms)
{
    return delay_ms > CLOCK_NEVER - now_ms ? CLOCK_NEVER : now_ms + delay_ms;
}
