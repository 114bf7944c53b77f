#include "channel/pool.h"

#include <string.h>

bool pool_init(struct pool *pool, void *memory, size_t count, size_t users_max)
{
    *pool = (struct pool){.memory = memory, .free = POOL_NO_BLOCK};
    if (count > INT32_MAX / 2 || users_max > count / POOL_USER_BLOCKS)
        return false;
    pool->count = (int32_t) count;
    pool->users_max = (int32_t) users_max;
    pool->reserved = pool->users_max * POOL_USER_BLOCKS;
    return true;
}

bool pool_join(struct pool *pool, struct pool_user *user)
{
    if (pool->users == pool->users_max)
        return false;
    pool->users++;
    *user = (struct pool_user){.pool = pool};
    return true;
}

void pool_leave(struct pool_user *user)
{
    user->pool->users--;
    user->pool = NULL;
}

static int32_t normal_room(const struct pool_user *user)
{
    int32_t own = user->used < POOL_USER_RESERVE ? POOL_USER_RESERVE - user->used : 0;
    int32_t beyond = user->used > POOL_USER_RESERVE ? user->used - POOL_USER_RESERVE : 0;
    int32_t shared = user->pool->count - user->pool->used - user->pool->reserved;
    /* After taking n of the shared blocks it must hold no more of them than are left. */
    int32_t fair = (shared - beyond) / 2;
    return own + (fair > 0 ? fair : 0);
}

size_t pool_room(const struct pool_user *user, enum pool_purpose purpose)
{
    int32_t room = normal_room(user);
    if (purpose == POOL_CRITICAL)
        room += POOL_USER_CRITICAL - user->critical;
    return (size_t) room;
}

uint8_t *pool_block(const struct pool *pool, int32_t block)
{
    return pool->memory + (size_t) block * POOL_BLOCK_SIZE;
}

int32_t pool_take(struct pool_user *user, enum pool_purpose purpose)
{
    struct pool *pool = user->pool;
    int32_t block = pool->free;
    if (pool_room(user, purpose) == 0)
        return POOL_NO_BLOCK;
    if (normal_room(user) == 0) {
        user->critical++;
        pool->reserved--;
    } else {
        pool->reserved -= user->used < POOL_USER_RESERVE;
        user->used++;
    }
    if (block != POOL_NO_BLOCK)
        memcpy(&pool->free, pool_block(pool, block), sizeof pool->free);
    else
        block = pool->untouched++;
    pool->used++;
    return block;
}

void pool_give(struct pool_user *user, int32_t block)
{
    struct pool *pool = user->pool;
    memcpy(pool_block(pool, block), &pool->free, sizeof pool->free);
    pool->free = block;
    pool->used--;
    if (user->critical > 0) {
        user->critical--;
        pool->reserved++;
    } else {
        user->used--;
        pool->reserved += user->used < POOL_USER_RESERVE;
    }
}

void *pool_idle(struct pool *pool, size_t *len)
{
    *len = 0;
    if (pool->used > 0 || pool->untouched == 0)
        return NULL;
    *len = (size_t) pool->untouched * POOL_BLOCK_SIZE;
    pool->untouched = 0;
    pool->free = POOL_NO_BLOCK;
    return pool->memory;
}
