#include "base/backoff.h"

const struct backoff_policy BACKOFF_CALLS = {.first_ms = 250, .cap_ms = 10000, .throttled_ms = 2000};
const struct backoff_policy BACKOFF_RECONNECT = {.first_ms = 900, .cap_ms = 30000, .throttled_ms = 5000};
const struct backoff_policy BACKOFF_RESUME = {.first_ms = 100, .cap_ms = 5000, .throttled_ms = 2000};

void backoff_start(struct backoff *backoff, const struct backoff_policy *policy, int64_t deadline_ms)
{
    *backoff = (struct backoff){.policy = policy, .deadline_ms = deadline_ms, .failures = 0};
}

void backoff_succeed(struct backoff *backoff)
{
    backoff->failures = 0;
}

static uint64_t window_ms(const struct backoff *backoff)
{
    uint64_t window = backoff->policy->first_ms;
    for (uint32_t i = 0; i < backoff->failures && window < backoff->policy->cap_ms; i++)
        window *= 2;
    return window < backoff->policy->cap_ms ? window : backoff->policy->cap_ms;
}

/* 0 to span, both included. */
static uint64_t spread(uint64_t span, uint32_t random)
{
    return ((span + 1) * random) >> 32;
}

bool backoff_next(struct backoff *backoff, enum error_code reason, int64_t now_ms, uint32_t random,
                  int64_t *at_ms)
{
    const struct backoff_policy *policy = backoff->policy;
    uint64_t window = window_ms(backoff);
    uint64_t pause = spread(window, random);
    if (reason == ERROR_THROTTLED) {
        window = window > policy->throttled_ms ? window : policy->throttled_ms;
        pause = window / 2 + spread(window - window / 2, random);
    }
    if (backoff->failures < UINT32_MAX)
        backoff->failures++;
    if (backoff->deadline_ms != INT64_MAX) {
        if (now_ms >= backoff->deadline_ms || backoff->deadline_ms - now_ms < policy->first_ms)
            return false;
        uint64_t half = (uint64_t) (backoff->deadline_ms - now_ms) / 2;
        pause = pause < half ? pause : half;
    }
    *at_ms = now_ms + (int64_t) pause;
    return true;
}
