/*
 * pool: the memory that all sessions of a process share, in blocks of one size. Messages that wait for an
 * acknowledgement, messages that nobody has consumed, and bytes held for slow targets all live here, so one
 * bound holds for all of them.
 *
 * Who may take a block (dynamic thresholds, Choudhury and Hahne 1998): each user gets POOL_USER_RESERVE
 * blocks for certain, and beyond that as many as it would leave free. The user that holds most waits first,
 * and a newcomer always finds room: of n greedy users each ends with 1/(n+1) of the pool. POOL_USER_CRITICAL
 * more are for what everything else waits for: the message that closes a gap.
 *
 * Memory is the caller's. A block that was never used costs nothing; freed blocks are used again last-in
 * first-out. When nobody uses any, pool_idle says what may be given back to the system.
 */
#ifndef FUMIDAI_CHANNEL_POOL_H
#define FUMIDAI_CHANNEL_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    POOL_BLOCK_SIZE =
        1152, /* one stream message as it is sent: websocket header 8, message header 120, payload 1,024 */
    POOL_USER_RESERVE = 128, /* 147 KB: a window's worth on a fast path, or a few screens for a slow target */
    POOL_USER_CRITICAL = 16, /* the longest handshake message that arrives in the middle of everything */
    POOL_USER_BLOCKS = POOL_USER_RESERVE + POOL_USER_CRITICAL, /* set aside for each user */
    POOL_NO_BLOCK = -1
};

enum pool_purpose { POOL_NORMAL, POOL_CRITICAL };

struct pool {
    uint8_t *memory;
    int32_t count;
    int32_t users;
    int32_t users_max;
    int32_t used;
    int32_t untouched; /* blocks from here on never were used */
    int32_t free;      /* list through the blocks, POOL_NO_BLOCK ends */
    int32_t reserved;  /* what users have not taken of their reserves, critical ones included */
};

struct pool_user {
    struct pool *pool;
    int32_t used;     /* normal ones */
    int32_t critical; /* taken of POOL_USER_CRITICAL */
};

/* `count` blocks of memory, zeroed, aligned for any type, for at most users_max users: their reserves are set
 * aside from the start. False when there are too few blocks for them. */
bool pool_init(struct pool *pool, void *memory, size_t count, size_t users_max);

/* False when there are users_max already. */
bool pool_join(struct pool *pool, struct pool_user *user);
void pool_leave(struct pool_user *user); /* all its blocks have been given back */

/* How many more blocks this user may take now. */
size_t pool_room(const struct pool_user *user, enum pool_purpose purpose);
/* POOL_NO_BLOCK when there is no room. */
int32_t pool_take(struct pool_user *user, enum pool_purpose purpose);
void pool_give(struct pool_user *user, int32_t block);
uint8_t *pool_block(const struct pool *pool, int32_t block);

/* Memory that was touched and is not used by anybody; the caller may drop its
 * pages (they read as zeroes then). */
void *pool_idle(struct pool *pool, size_t *len);

#endif
