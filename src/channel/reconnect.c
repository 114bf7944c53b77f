#include "channel/reconnect.h"

/* The service decides how many messages a control channel gets: their number proves nothing. */
const struct reconnect_policy RECONNECT_CONTROL = {.backoff = &BACKOFF_RECONNECT,
                                                   .good_messages = UINT64_MAX,
                                                   .give_up_ms = INT64_MAX,
                                                   .refusal_is_final = false};
const struct reconnect_policy RECONNECT_DATA = {.backoff = &BACKOFF_RESUME,
                                                .good_messages = RECONNECT_GOOD_MESSAGES,
                                                .give_up_ms = RECONNECT_GIVE_UP_MS,
                                                .refusal_is_final = true};

enum reconnect_failure reconnect_classify(enum api_class class, enum error_code code)
{
    if (class == API_FAILED)
        return RECONNECT_REFUSED;
    return code == ERROR_THROTTLED ? RECONNECT_THROTTLED : RECONNECT_TRANSIENT;
}

/* From here on it counts how long there is no good connection. */
static void start_counting(struct reconnect *r, int64_t now_ms)
{
    int64_t give_up_ms = r->policy->give_up_ms;
    backoff_start(&r->backoff, r->policy->backoff, give_up_ms == INT64_MAX ? INT64_MAX : now_ms + give_up_ms);
}

void reconnect_init(struct reconnect *r, const struct reconnect_policy *policy, int64_t now_ms)
{
    *r = (struct reconnect){.policy = policy, .up_since_ms = INT64_MAX};
    start_counting(r, now_ms);
}

void reconnect_up(struct reconnect *r, int64_t now_ms)
{
    r->up_since_ms = now_ms;
    r->acknowledged = 0;
}

void reconnect_acknowledged(struct reconnect *r, uint64_t messages)
{
    r->acknowledged += messages;
}

static bool was_good(const struct reconnect *r, int64_t now_ms)
{
    if (r->up_since_ms == INT64_MAX)
        return false;
    int64_t up_ms = now_ms - r->up_since_ms;
    return up_ms >= RECONNECT_STEADY_MS || r->acknowledged >= r->policy->good_messages ||
           (up_ms >= RECONNECT_GOOD_MS && r->acknowledged > 0);
}

/* A data channel that is cut young and still brings messages across is slow, not useless. */
static bool made_progress(const struct reconnect *r)
{
    return r->acknowledged > 0 && r->policy->good_messages != UINT64_MAX;
}

int64_t reconnect_down(struct reconnect *r, int64_t now_ms, enum reconnect_failure failure, uint32_t random)
{
    int64_t at_ms = now_ms;
    bool good = was_good(r, now_ms);
    bool progress = made_progress(r);
    r->up_since_ms = INT64_MAX;
    r->acknowledged = 0; /* or every try that fails from here on would count as progress */
    if (failure == RECONNECT_REFUSED && r->policy->refusal_is_final)
        return INT64_MAX;
    r->refusals = failure == RECONNECT_REFUSED ? r->refusals + 1 : 0;
    if (good || progress)
        start_counting(r, now_ms);
    if (good)
        return now_ms;
    if (r->refusals > RECONNECT_REFUSALS)
        return now_ms + RECONNECT_REFUSED_MS;
    enum error_code reason = failure == RECONNECT_THROTTLED ? ERROR_THROTTLED : ERROR_UNAVAILABLE;
    return backoff_next(&r->backoff, reason, now_ms, random, &at_ms) ? at_ms : INT64_MAX;
}

int64_t reconnect_deadline(const struct reconnect *r)
{
    return r->backoff.deadline_ms;
}
