#include "lib/guard.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t page_size(void)
{
    return (size_t) sysconf(_SC_PAGESIZE);
}

/* Whole pages that hold len bytes, without the guard page behind them. */
static size_t usable_bytes(size_t len)
{
    return (len / page_size() + 1) * page_size();
}

void *guard_alloc(size_t len)
{
    size_t usable = usable_bytes(len);
    uint8_t *start = mmap(NULL, usable + page_size(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED || mprotect(start, usable, PROT_READ | PROT_WRITE) != 0) {
        perror("guard_alloc");
        abort();
    }
    return start + usable - len;
}

void *guard_copy(const void *data, size_t len)
{
    void *memory = guard_alloc(len);
    if (len > 0)
        memcpy(memory, data, len);
    return memory;
}

void guard_free(void *memory, size_t len)
{
    size_t usable = usable_bytes(len);
    if (munmap((uint8_t *) memory + len - usable, usable + page_size()) != 0) {
        perror("guard_free");
        abort();
    }
}
