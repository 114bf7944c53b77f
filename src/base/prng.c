#include "base/prng.h"

#include <string.h>

#include "base/sha256.h"

void prng_init(struct prng *g, const uint8_t seed[PRNG_SEED_SIZE])
{
    memset(g, 0, sizeof *g);
    memcpy(g->seeded_counter, seed, PRNG_SEED_SIZE);
    g->used = sizeof g->block;
}

static void next_block(struct prng *g)
{
    for (size_t i = PRNG_SEED_SIZE; i < sizeof g->seeded_counter; i++)
        if (++g->seeded_counter[i] != 0)
            break;
    sha256(g->seeded_counter, sizeof g->seeded_counter, g->block);
    g->used = 0;
}

void prng_fill(struct prng *g, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        if (g->used == sizeof g->block)
            next_block(g);
        size_t n = sizeof g->block - g->used;
        if (n > len)
            n = len;
        memcpy(at, g->block + g->used, n);
        g->used += n;
        at += n;
        len -= n;
    }
}

uint64_t prng_jitter(uint64_t *state, uint64_t bound)
{
    *state += 0x9E3779B97F4A7C15U;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return (z ^ (z >> 31)) % bound;
}
