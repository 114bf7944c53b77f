#include "channel/retransmission.h"

enum { MICROSECONDS = 1000 /* in a millisecond */, SHIFT_MAX = 16 /* the maxima come first */ };

void retransmission_init(struct retransmission *r)
{
    *r = (struct retransmission){.rto_ms = RETRANSMISSION_RTO_MIN_MS};
}

int64_t retransmission_doubled_ms(int64_t base_ms, uint32_t times, int64_t max_ms)
{
    int64_t ms = base_ms << (times < SHIFT_MAX ? times : SHIFT_MAX);
    if (ms > max_ms)
        ms = max_ms;
    return ms > base_ms ? ms : base_ms;
}

static int64_t clamp_rto_ms(int64_t rto_ms)
{
    if (rto_ms < RETRANSMISSION_RTO_MIN_MS)
        return RETRANSMISSION_RTO_MIN_MS;
    return rto_ms < RETRANSMISSION_RTO_MAX_MS ? rto_ms : RETRANSMISSION_RTO_MAX_MS;
}

void retransmission_measure(struct retransmission *r, int64_t rtt_ms, int64_t now_ms)
{
    int64_t rtt_us = rtt_ms * MICROSECONDS;
    int64_t difference = r->rtt_us > rtt_us ? r->rtt_us - rtt_us : rtt_us - r->rtt_us;
    if (r->measured && now_ms < r->next_measurement_ms)
        return;
    r->next_measurement_ms = now_ms + rtt_ms;
    r->variation_us = r->measured ? (3 * r->variation_us + difference) / 4 : rtt_us / 2;
    r->rtt_us = r->measured ? (7 * r->rtt_us + rtt_us) / 8 : rtt_us;
    r->measured = true;
    r->rto_ms = clamp_rto_ms((r->rtt_us + 4 * r->variation_us) / MICROSECONDS);
}

void retransmission_back_off(struct retransmission *r)
{
    r->rto_ms = retransmission_doubled_ms(r->rto_ms, 1, RETRANSMISSION_RTO_MAX_MS);
}

void retransmission_at_least(struct retransmission *r, int64_t rto_ms)
{
    if (rto_ms > r->rto_ms)
        r->rto_ms = rto_ms < RETRANSMISSION_RTO_MAX_MS ? rto_ms : RETRANSMISSION_RTO_MAX_MS;
}

int64_t retransmission_rto_ms(const struct retransmission *r)
{
    return r->rto_ms;
}
