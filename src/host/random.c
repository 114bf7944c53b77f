#include "host/random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/bytes.h"

enum { POOL_SIZE = 4096 };

static uint8_t pool[POOL_SIZE];
static size_t pool_left; /* the unused bytes are the last ones */

static void fill_from_kernel(uint8_t *out, size_t len)
{
    while (len > 0) {
        ssize_t got = getrandom(out, len, 0);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            abort(); /* ids and keys without randomness would be worse than no process */
        }
        out += got;
        len -= (size_t) got;
    }
}

void random_bytes(void *out, size_t len)
{
    if (len > POOL_SIZE) {
        fill_from_kernel(out, len);
        return;
    }
    if (len > pool_left) {
        fill_from_kernel(pool, POOL_SIZE);
        pool_left = POOL_SIZE;
    }
    uint8_t *from = pool + POOL_SIZE - pool_left;
    memcpy(out, from, len);
    bytes_wipe(from, len);
    pool_left -= len;
}

uint32_t random_u32(void)
{
    uint32_t value;
    random_bytes(&value, sizeof value);
    return value;
}
