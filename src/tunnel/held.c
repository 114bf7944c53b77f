#include "tunnel/held.h"

#include <string.h>

#include "base/num.h"

struct block_header {
    int32_t next; /* 1 + block; 0: none */
    uint32_t len;
};

_Static_assert(sizeof(struct block_header) == HELD_BLOCK_HEADER, "the rest is for bytes");

static struct block_header *header_of(const struct pool *pool, int32_t link)
{
    return (struct block_header *) (void *) pool_block(pool, link - 1);
}

static uint8_t *bytes_of(const struct pool *pool, int32_t link)
{
    return pool_block(pool, link - 1) + HELD_BLOCK_HEADER;
}

static size_t room_in_last(const struct held *held, const struct pool *pool)
{
    return held->last == 0 ? 0 : HELD_BLOCK_SIZE - header_of(pool, held->last)->len;
}

size_t held_room(const struct held *held, const struct pool_user *user, size_t total)
{
    size_t own = HELD_STREAM_MAX - num_min_size(held->len, HELD_STREAM_MAX);
    size_t all = HELD_MAX - num_min_size(total, HELD_MAX);
    size_t memory = pool_room(user, POOL_NORMAL) * HELD_BLOCK_SIZE + room_in_last(held, user->pool);
    return num_min_size(num_min_size(own, all), memory);
}

static bool add_block(struct held *held, struct pool_user *user)
{
    int32_t link = pool_take(user, POOL_NORMAL) + 1;
    if (link == 0)
        return false;
    *header_of(user->pool, link) = (struct block_header){0};
    if (held->last == 0)
        held->first = link;
    else
        header_of(user->pool, held->last)->next = link;
    held->last = link;
    return true;
}

static void add(struct held *held, struct pool_user *user, const uint8_t *data, size_t len)
{
    while (len > 0) {
        if (room_in_last(held, user->pool) == 0 && !add_block(held, user))
            return;
        struct block_header *header = header_of(user->pool, held->last);
        size_t n = num_min_size(HELD_BLOCK_SIZE - header->len, len);
        memcpy(bytes_of(user->pool, held->last) + header->len, data, n);
        header->len += (uint32_t) n;
        held->len += (uint32_t) n;
        data += n;
        len -= n;
    }
}

void held_add(struct held *held, struct pool_user *user, const struct iovec *vectors, int count, size_t skip)
{
    for (int i = 0; i < count; i++) {
        size_t past = num_min_size(skip, vectors[i].iov_len);
        add(held, user, (const uint8_t *) vectors[i].iov_base + past, vectors[i].iov_len - past);
        skip -= past;
    }
}

int held_front(const struct held *held, const struct pool *pool, struct iovec *vectors, int max)
{
    int count = 0;
    size_t offset = held->offset;
    for (int32_t link = held->first; link != 0 && count < max; link = header_of(pool, link)->next) {
        vectors[count++] = (struct iovec){bytes_of(pool, link) + offset, header_of(pool, link)->len - offset};
        offset = 0;
    }
    return count;
}

static void drop_first(struct held *held, struct pool_user *user)
{
    int32_t link = held->first;
    held->first = header_of(user->pool, link)->next;
    if (held->first == 0)
        held->last = 0;
    held->offset = 0;
    pool_give(user, link - 1);
}

void held_take(struct held *held, struct pool_user *user, size_t n)
{
    held->len -= (uint32_t) n;
    while (n > 0) {
        size_t here = header_of(user->pool, held->first)->len - held->offset;
        if (n < here) {
            held->offset += (uint32_t) n;
            return;
        }
        n -= here;
        drop_first(held, user);
    }
}

void held_drop(struct held *held, struct pool_user *user)
{
    while (held->first != 0)
        drop_first(held, user);
    held->len = 0;
}
