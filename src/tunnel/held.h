/*
 * held: bytes that wait for a slow endpoint, in blocks of the pool, first in first out. smux 1 has no window
 * for each stream, so what one endpoint does not take must be kept somewhere, or all streams behind it would
 * wait.
 *
 *     held_add ──► [ block ] ► [ block ] ► [ block ] ──► held_front, held_take
 *
 * Bounds: HELD_STREAM_MAX for one stream, HELD_MAX for all of a tunnel; and what the pool allows. What is
 * beyond them is not taken in: the data channel's inbox fills, and TCP pushes back.
 */
#ifndef FUMIDAI_TUNNEL_HELD_H
#define FUMIDAI_TUNNEL_HELD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "channel/pool.h"

enum {
    HELD_BLOCK_HEADER = 8, /* next block 4, length 4 */
    HELD_BLOCK_SIZE = POOL_BLOCK_SIZE - HELD_BLOCK_HEADER,
    HELD_STREAM_MAX = 3 * 1024 * 1024, /* a stalled endpoint leaves room for the others */
    HELD_MAX = HELD_STREAM_MAX + 256 * 1024,
    HELD_BLOCKS_MAX = HELD_MAX / HELD_BLOCK_SIZE + 1000 /* a block for each stream that is not full */
};

/* One stream's. All zeroes is empty. */
struct held {
    int32_t first; /* 1 + block; 0: none */
    int32_t last;
    uint32_t offset; /* bytes of the first block that were taken */
    uint32_t len;
};

/* How many bytes may be added to this stream, of which the tunnel holds `total` for all. */
size_t held_room(const struct held *held, const struct pool_user *user, size_t total);
/* The caller has asked for the room. */
void held_add(struct held *held, struct pool_user *user, const struct iovec *vectors, int count, size_t skip);
/* What is held, oldest first, in at most `max` vectors; returns how many. */
int held_front(const struct held *held, const struct pool *pool, struct iovec *vectors, int max);
void held_take(struct held *held, struct pool_user *user, size_t n);
void held_drop(struct held *held, struct pool_user *user);

#endif
