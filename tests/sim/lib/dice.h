/* dice: seeded random numbers for simulations: the same seed, the same run. */
#ifndef FUMIDAI_TESTS_SIM_DICE_H
#define FUMIDAI_TESTS_SIM_DICE_H

#include <stdbool.h>
#include <stdint.h>

struct dice {
    uint64_t state;
};

static inline uint64_t dice_next(struct dice *d)
{
    uint64_t z = (d->state += 0x9e3779b97f4a7c15); /* splitmix64 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* low to high, both included */
static inline uint32_t dice_between(struct dice *d, uint32_t low, uint32_t high)
{
    return low + (uint32_t) (dice_next(d) % ((uint64_t) high - low + 1));
}

static inline bool dice_hits(struct dice *d, uint32_t per_ten_thousand)
{
    return dice_next(d) % 10000 < per_ten_thousand;
}

#endif
