/*
 * num: the smaller and the larger of two numbers, and a sum of times that does not wrap. One function for
 * each type: no number is converted on the way.
 */
#ifndef FUMIDAI_BASE_NUM_H
#define FUMIDAI_BASE_NUM_H

#include <stddef.h>
#include <stdint.h>

static inline int64_t num_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t num_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static inline uint32_t num_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static inline uint32_t num_max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static inline size_t num_min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* A point in time and a wait that is not negative. INT64_MAX is "never": a longer sum is that, too. */
static inline int64_t num_add_ms(int64_t time_ms, int64_t wait_ms)
{
    int64_t sum;
    return __builtin_add_overflow(time_ms, wait_ms, &sum) ? INT64_MAX : sum;
}

#endif
