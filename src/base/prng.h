/*
 * prng: random bytes for message ids and masks, stretched from one seed, because pure code can't ask the
 * kernel, and a system call for each message would cost more than the message. Block n is SHA-256(seed, n):
 * the rest of the output does not follow from what was seen of it. Not for keys.
 */
#ifndef FUMIDAI_BASE_PRNG_H
#define FUMIDAI_BASE_PRNG_H

#include <stddef.h>
#include <stdint.h>

enum { PRNG_SEED_SIZE = 32 /* as much as SHA-256 puts out: 256 bits to guess */ };

struct prng {
    uint8_t seeded_counter[PRNG_SEED_SIZE + 8]; /* the seed, then the number of the next block */
    uint8_t block[32];
    size_t used; /* bytes of block that were handed out */
};

void prng_init(struct prng *g, const uint8_t seed[PRNG_SEED_SIZE]);
void prng_fill(struct prng *g, void *out, size_t len);

/* A number below `bound`, for jitter (splitmix64). Anybody can guess it. `state` may begin with any number.
 */
uint64_t prng_jitter(uint64_t *state, uint64_t bound);

#endif
