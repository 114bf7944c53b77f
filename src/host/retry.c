#include "host/retry.h"

#include "host/random.h"

int64_t retry_later(struct loop *loop, struct loop_timer *timer, struct backoff *backoff,
                    enum error_code reason)
{
    int64_t at_ms;
    if (!backoff_next(backoff, reason, loop_now_ms(loop), random_u32(), &at_ms))
        return -1;
    loop_timer_set(loop, timer, at_ms);
    return at_ms - loop_now_ms(loop);
}
