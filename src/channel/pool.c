#include "channel/pool.h"

#include <string.h>

void pool_init(struct pool *pool, void *memory, size_t count)
{
    *pool = (struct pool){
        .memory = memory, .count = count < INT32_MAX ? (int32_t) count : INT32_MAX, .free = POOL_NO_BLOCK};
}

bool pool_join(struct pool *pool, struct pool_user *user)
{
    const int32_t reserve = POOL_USER_RESERVE + POOL_USER_CRITICAL;
    if (pool->count - pool->used - pool->reserved < reserve)
        return false;
    pool->reserved += reserve;
    *user = (struct pool_user){.pool = pool};
    return true;
}

void pool_leave(struct pool_user *user)
{
    user->pool->reserved -= POOL_USER_RESERVE + POOL_USER_CRITICAL;
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
