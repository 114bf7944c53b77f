/*
 * random: the kernel's randomness, fetched a page at a time, because message ids and masking keys want a few
 * bytes thousands of times a second. Bytes are wiped from the pool as they are handed out. One thread only
 * (the loop's). A process that forks without exec would share what is left in the pool: nothing here does.
 */
#ifndef FUMIDAI_HOST_RANDOM_H
#define FUMIDAI_HOST_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Never fails: getrandom() has no failure on Linux that leaves anything to do but abort. */
void random_bytes(void *out, size_t len);

uint32_t random_u32(void);

#endif
