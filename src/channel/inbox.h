/*
 * inbox: the receiving half of a data channel. Puts numbered messages in order, each once, and keeps them
 * until they are consumed.
 *
 *        consumed       kept, in order         missing, or kept early          too far
 *     ─────────────|──────────────────────|─────────────────────────────|───────────────►  sequence number
 *                front                 expected                  front + INBOX_SPAN
 *
 * A payload may stay where it lies while it is fresh: inbox_take takes a block for it and remembers the
 * place. What has not been consumed when that place is about to change is copied by inbox_settle. So a
 * message that arrives in order and is consumed at once is never copied, and room for it is certain all the
 * same.
 *
 * Blocks come from the pool, one for each 1,024 bytes; a longer payload (handshake messages) takes several.
 * At most INBOX_MESSAGES, of which the last INBOX_RESERVE are only for the message that is expected: a store
 * full of early messages would wait for ever for the one that it has no room for.
 *
 * INBOX_MESSAGES is 6,144, because AWS's client resends only the oldest message it holds, one each 100 ms:
 * with 1% of the messages lost it falls behind, and every early message that isn't kept costs another 100 ms.
 * It sends at most 1,000 a second and holds at most 10,000.
 */
#ifndef FUMIDAI_CHANNEL_INBOX_H
#define FUMIDAI_CHANNEL_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "channel/pool.h"

enum {
    INBOX_MESSAGES = 6144,      /* AWS's client resends one message each 100 ms: see above */
    INBOX_BLOCK_PAYLOAD = 1024, /* a stream message's payload; the rest of a block stays empty */
    INBOX_SPAN = 8192,          /* a power of two above INBOX_MESSAGES */
    INBOX_RESERVE = 64,         /* blocks for the message that is expected, of 64 KiB at most */
    INBOX_PAYLOAD_MAX = INBOX_RESERVE * INBOX_BLOCK_PAYLOAD,
    INBOX_LENT_MAX =
        64, /* payloads that lie elsewhere: as many stream messages as a decoder's buffer holds */
    INBOX_SEEN_MAX = 16384 /* numbers further ahead than this are nonsense and do not count as seen */
};

struct inbox_slot {
    const uint8_t *lent; /* where the payload lies; null: in the block */
    int32_t block;
    uint32_t payload_type;
    uint16_t next; /* the next free slot, or the slot with the rest of this payload; INBOX_NO_SLOT ends */
    uint16_t len;  /* bytes in this slot */
};

enum {
    INBOX_NO_SLOT = 0xffff,
    INBOX_MEMORY_SIZE = INBOX_MESSAGES * (int) sizeof(struct inbox_slot) + INBOX_SPAN * (int) sizeof(uint16_t)
};

struct inbox {
    struct pool_user *user;
    struct inbox_slot *slots; /* INBOX_MESSAGES */
    uint16_t *by_sequence;    /* INBOX_SPAN: 1 + first slot of the message, 0 when it is not here */
    uint16_t free;            /* list of slots that were used before */
    uint16_t untouched; /* slots from here on never were: last-in first-out keeps a quiet session small */
    size_t used;        /* slots in use */
    int64_t front;
    int64_t expected;
    int64_t seen;                  /* one more than the highest number that came, kept or not */
    size_t early;                  /* messages kept beyond `expected` */
    size_t consumed;               /* bytes of the front's first slot */
    uint16_t lent[INBOX_LENT_MAX]; /* slots whose payload lies elsewhere, or did */
    size_t lent_count;
};

enum inbox_result {
    INBOX_NEW,       /* counted and kept: acknowledge */
    INBOX_DUPLICATE, /* here or delivered already: acknowledge, drop */
    INBOX_REFUSED    /* no room, or too far ahead: do not acknowledge */
};

/* INBOX_MEMORY_SIZE zeroed bytes, aligned for any type. */
void inbox_init(struct inbox *inbox, void *memory, struct pool_user *user);
void inbox_release(struct inbox *inbox); /* gives all blocks back */

/* `payload` must stay as it is until inbox_settle or until it is consumed. */
enum inbox_result inbox_take(struct inbox *inbox, int64_t sequence, uint32_t payload_type,
                             const void *payload, size_t len);
/* Copies what still lies elsewhere. */
void inbox_settle(struct inbox *inbox);

/* The next piece in order: a message's payload, or the next part of it when it takes several slots or was
 * consumed in part; *message_left is what the message holds from there on. False when nothing is in order. */
bool inbox_front(const struct inbox *inbox, uint32_t *payload_type, const uint8_t **data, size_t *len,
                 size_t *message_left);
/* The same for the n-th message behind it, whose number is front + n. */
bool inbox_peek(const struct inbox *inbox, size_t n, uint32_t *payload_type, const uint8_t **data,
                size_t *len, size_t *message_left);
void inbox_consume(struct inbox *inbox, size_t n); /* n at most what inbox_front showed */

/* Any message that is kept, in order or early, of at most one block; for an inbox that gets no
 * more. False when none is left. */
bool inbox_any(const struct inbox *inbox, int64_t *sequence, uint32_t *payload_type, const uint8_t **data,
               size_t *len);
/* Takes out what inbox_any has shown. */
void inbox_remove(struct inbox *inbox, int64_t sequence);

/* Messages that the peer has sent, as far as known, and that were not acknowledged. */
size_t inbox_missing(const struct inbox *inbox);
/* Messages in order that wait to be consumed. */
size_t inbox_ready(const struct inbox *inbox);

#endif
