/* fresh_pool: a pool of blocks of its own for each side of a test, empty again at each call. */
#ifndef FUMIDAI_TESTS_LIB_FRESH_POOL_H
#define FUMIDAI_TESTS_LIB_FRESH_POOL_H

#include "channel/pool.h"

enum {
    FRESH_POOLS = 64,
    FRESH_POOL_BLOCKS = 16384 /* 19 MB of address space: more than one session may hold */
};

/* The only user of pool `which`, which has `blocks` blocks (at most
 * FRESH_POOL_BLOCKS). Aborts without memory. */
struct pool_user *fresh_pool(int which, size_t blocks);
/* Zeroed pages for one side, always the same: what was there is gone. */
void *fresh_memory(int which, size_t size);

#endif
