#include "channel/pacer.h"

#include <string.h>

enum { MILLIONTHS = 1000000, SECOND_MS = 1000, RECOVERY_PARTS = 20 };

void pacer_init(struct pacer *pacer, uint32_t messages_per_second, uint32_t burst, int64_t now_ms)
{
    memset(pacer, 0, sizeof *pacer);
    if (messages_per_second > PACER_RATE_MAX)
        messages_per_second = PACER_RATE_MAX;
    if (burst > 2 * messages_per_second)
        burst = 2 * messages_per_second;
    pacer->full_rate = pacer->rate = messages_per_second;
    pacer->full_burst = pacer->burst = burst;
    pacer->now_bucket = now_ms / PACER_BUCKET_MS;
    pacer->credited_ms = now_ms;
    pacer->recovered_ms = now_ms;
}

uint32_t pacer_window_limit(const struct pacer *pacer)
{
    return pacer->rate * (PACER_WINDOW_MS / SECOND_MS);
}

static uint32_t reserve_of(const struct pacer *pacer)
{
    uint32_t limit = pacer_window_limit(pacer);
    uint32_t reserve = limit / PACER_RESERVE_PART;
    if (reserve < PACER_RESERVE_MIN)
        reserve = PACER_RESERVE_MIN;
    return reserve < limit / 4 ? reserve : limit / 4; /* at 1 message a second all of it is bulk's */
}

static size_t index_of(int64_t bucket)
{
    return (size_t) ((uint64_t) bucket % PACER_BUCKETS);
}

static void recover(struct pacer *pacer, int64_t now_ms)
{
    if (pacer->rate >= pacer->full_rate)
        return;
    int64_t steps = (now_ms - pacer->recovered_ms) / PACER_RECOVERY_STEP_MS;
    if (steps <= 0)
        return;
    if (steps > RECOVERY_PARTS)
        steps = RECOVERY_PARTS;
    pacer->recovered_ms = now_ms;
    pacer->rate += (uint32_t) steps * (pacer->full_rate / RECOVERY_PARTS + 1);
    pacer->burst += (uint32_t) steps * (pacer->full_burst / RECOVERY_PARTS + 1);
    if (pacer->rate > pacer->full_rate)
        pacer->rate = pacer->full_rate;
    if (pacer->burst > pacer->full_burst)
        pacer->burst = pacer->full_burst;
}

/* Moves the window on to now: what falls out of it counts no more. */
static void advance(struct pacer *pacer, int64_t now_ms)
{
    int64_t bucket = now_ms / PACER_BUCKET_MS;
    if (bucket - pacer->now_bucket >= PACER_BUCKETS) {
        memset(pacer->sent, 0, sizeof pacer->sent);
        memset(pacer->urgent, 0, sizeof pacer->urgent);
        pacer->window_sent = 0;
        pacer->now_bucket = bucket;
    }
    while (pacer->now_bucket < bucket) {
        size_t oldest = index_of(++pacer->now_bucket);
        pacer->window_sent -= pacer->sent[oldest];
        pacer->sent[oldest] = 0;
        pacer->urgent[oldest] = 0;
    }
    recover(pacer, now_ms);
}

static uint32_t window_room(const struct pacer *pacer)
{
    uint32_t limit = pacer_window_limit(pacer);
    return pacer->window_sent < limit ? limit - pacer->window_sent : 0;
}

static int64_t urgent_rate(const struct pacer *pacer)
{
    int64_t count = 0;
    for (int64_t i = 0; i < PACER_URGENT_BUCKETS; i++)
        count += pacer->urgent[index_of(pacer->now_bucket + PACER_BUCKETS - i)];
    return count * MILLIONTHS / (PACER_URGENT_BUCKETS * PACER_BUCKET_MS);
}

/* The highest constant rate (millionths of a message a millisecond) that will not run into the window's limit
 * within the coming 2 s, given what leaves the window when, and that interactive streams go on as they do. */
static int64_t plan_even_rate(const struct pacer *pacer)
{
    int64_t free_now = (int64_t) pacer_window_limit(pacer) - reserve_of(pacer) - pacer->window_sent;
    int64_t floor = (int64_t) pacer->rate * MILLIONTHS / SECOND_MS / PACER_BULK_FLOOR_PART;
    int64_t freed = 0;
    int64_t rate = INT64_MAX;
    for (int64_t k = 1; k < PACER_BUCKETS; k++) {
        freed += pacer->sent[index_of(pacer->now_bucket + k)];
        if (k % PACER_HORIZON_STEP != 0)
            continue;
        int64_t rate_until_then = (free_now + freed) * MILLIONTHS / (k * PACER_BUCKET_MS);
        if (rate_until_then < rate)
            rate = rate_until_then;
    }
    rate -= urgent_rate(pacer);
    return rate > floor ? rate : floor;
}

static void credit(struct pacer *pacer, int64_t now_ms)
{
    int64_t elapsed_ms = now_ms - pacer->credited_ms;
    if (now_ms / PACER_CLUMP_MS == pacer->credited_ms / PACER_CLUMP_MS)
        return;
    if (elapsed_ms > PACER_WINDOW_MS)
        elapsed_ms = PACER_WINDOW_MS;
    pacer->even_rate = plan_even_rate(pacer);
    int64_t most = MILLIONTHS + PACER_CREDIT_MAX_MS * pacer->even_rate;
    pacer->credit += elapsed_ms * pacer->even_rate;
    if (pacer->credit > most)
        pacer->credit = most;
    pacer->credited_ms = now_ms;
}

uint32_t pacer_allows(struct pacer *pacer, int64_t now_ms, enum pacer_class class)
{
    if (pacer->full_rate == 0)
        return PACER_UNLIMITED;
    advance(pacer, now_ms);
    uint32_t room = window_room(pacer);
    if (class == PACER_INTERACTIVE)
        return room;
    credit(pacer, now_ms);
    uint32_t reserve = reserve_of(pacer);
    uint32_t burst_left = pacer->burst > pacer->window_sent ? pacer->burst - pacer->window_sent : 0;
    uint32_t even = (uint32_t) (pacer->credit / MILLIONTHS);
    uint32_t wanted = burst_left > even ? burst_left : even;
    room = room > reserve ? room - reserve : 0;
    return wanted < room ? wanted : room;
}

void pacer_sent(struct pacer *pacer, int64_t now_ms, enum pacer_class class, uint32_t count)
{
    if (pacer->full_rate == 0)
        return;
    advance(pacer, now_ms);
    pacer->sent[index_of(pacer->now_bucket)] += count;
    pacer->window_sent += count;
    if (class == PACER_INTERACTIVE) {
        pacer->urgent[index_of(pacer->now_bucket)] += count;
        return;
    }
    pacer->credit -= (int64_t) count * MILLIONTHS;
    if (pacer->credit < 0)
        pacer->credit = 0; /* the burst paid for it */
}

/* When the window will have lost more than `count` of what is in it now. */
static int64_t freed_ms(const struct pacer *pacer, uint32_t count)
{
    uint32_t freed = 0;
    for (int64_t k = 1; k < PACER_BUCKETS; k++) {
        freed += pacer->sent[index_of(pacer->now_bucket + k)];
        if (freed > count)
            return (pacer->now_bucket + k) * PACER_BUCKET_MS;
    }
    return (pacer->now_bucket + PACER_BUCKETS) * PACER_BUCKET_MS;
}

int64_t pacer_next_ms(struct pacer *pacer, int64_t now_ms, enum pacer_class class)
{
    if (pacer_allows(pacer, now_ms, class) > 0)
        return now_ms;
    uint32_t limit = pacer_window_limit(pacer);
    if (class == PACER_INTERACTIVE)
        return freed_ms(pacer, pacer->window_sent - limit);
    uint32_t usable = limit - reserve_of(pacer);
    int64_t next_ms;
    if (pacer->window_sent >= usable) {
        next_ms = freed_ms(pacer, pacer->window_sent - usable);
    } else {
        int64_t missing = MILLIONTHS - pacer->credit;
        next_ms = pacer->credited_ms;
        next_ms += pacer->even_rate > 0 ? (missing + pacer->even_rate - 1) / pacer->even_rate : 0;
    }
    next_ms = next_ms > now_ms ? next_ms : now_ms + 1;
    return (next_ms + PACER_CLUMP_MS - 1) / PACER_CLUMP_MS * PACER_CLUMP_MS;
}

static uint32_t halved(uint32_t value, uint32_t full)
{
    uint32_t floor = full / PACER_RATE_FLOOR_PART;
    if (floor == 0 && full > 0)
        floor = 1;
    return value / 2 > floor ? value / 2 : floor;
}

void pacer_slow_down(struct pacer *pacer, int64_t now_ms)
{
    if (pacer->full_rate == 0)
        return;
    advance(pacer, now_ms);
    if (pacer->slowed_once && now_ms - pacer->slowed_ms < PACER_SLOW_DOWN_QUIET_MS)
        return;
    pacer->slowed_once = true;
    pacer->slowed_ms = now_ms;
    pacer->recovered_ms = now_ms;
    pacer->rate = halved(pacer->rate, pacer->full_rate);
    pacer->burst = halved(pacer->burst, pacer->full_burst);
}

bool pacer_is_fast(struct pacer *pacer, int64_t now_ms)
{
    if (pacer->full_rate == 0)
        return false;
    advance(pacer, now_ms);
    return (uint64_t) pacer->window_sent * 100 >=
           (uint64_t) pacer_window_limit(pacer) * PACER_HIGH_RATE_PERCENT;
}

bool pacer_closed_on(struct pacer *pacer, int64_t now_ms)
{
    if (!pacer_is_fast(pacer, now_ms))
        return false;
    pacer_slow_down(pacer, now_ms);
    return true;
}
