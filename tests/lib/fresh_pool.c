#include "lib/fresh_pool.h"

#include <stdlib.h>
#include <sys/mman.h>

/* Behind each region lie so many bytes that nobody may touch: a slot number of 16 bits that does not exist
 * ends in them. */
enum { BEYOND = 4 * 1024 * 1024 };

struct region {
    void *start;
    size_t size;
};

static void *fresh(struct region *region, size_t size)
{
    if (region->start != NULL && region->size == size) {
        madvise(region->start, size, MADV_DONTNEED);
        return region->start;
    }
    if (region->start != NULL)
        munmap(region->start, region->size + BEYOND);
    region->start = mmap(NULL, size + BEYOND, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    region->size = size;
    if (region->start == MAP_FAILED || mprotect(region->start, size, PROT_READ | PROT_WRITE) != 0)
        abort();
    return region->start;
}

void *fresh_memory(int which, size_t size)
{
    static struct region regions[FRESH_POOLS];
    return fresh(&regions[which], size);
}

struct pool_user *fresh_pool(int which, size_t blocks)
{
    static struct region regions[FRESH_POOLS];
    static struct pool pools[FRESH_POOLS];
    static struct pool_user users[FRESH_POOLS];
    void *memory = fresh(&regions[which], (size_t) FRESH_POOL_BLOCKS * POOL_BLOCK_SIZE);
    if (!pool_init(&pools[which], memory, blocks, 1) || !pool_join(&pools[which], &users[which]))
        abort();
    return &users[which];
}
