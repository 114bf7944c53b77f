/* traffic: a byte stream whose every byte follows from a seed and its place, so
 * that either end can check it. */
#ifndef FUMIDAI_TESTS_SIM_TRAFFIC_H
#define FUMIDAI_TESTS_SIM_TRAFFIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline uint8_t traffic_byte(uint64_t seed, uint64_t at)
{
    return (uint8_t) ((at + seed) * 0x9e3779b97f4a7c15 >> 56);
}

static inline void traffic_fill(uint64_t seed, uint64_t at, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++)
        out[i] = traffic_byte(seed, at + i);
}

static inline bool traffic_matches(uint64_t seed, uint64_t at, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (data[i] != traffic_byte(seed, at + i))
            return false;
    return true;
}

#endif
