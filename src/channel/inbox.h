/*
 * inbox: the receiving half of a data channel. Puts numbered messages in order, each once, and keeps them
 * until they are consumed.
 *
 *            delivered          kept, in order        missing, or kept early        too far
 *   ────────────────────────┼──────────────────────┼─────────────────────────────┼───────────►  sequence
 * number front                  expected               front + INBOX_SPAN
 *
 * Room is handed out in slots of 1,024 bytes, a longer payload (handshake messages) takes several. The last
 * INBOX_RESERVE slots are only for the message that is expected: a store full of early messages would wait
 * for ever for the one that it has no room for.
 *
 * 6,144 slots, because AWS's client resends only the oldest message it holds, one each 100 ms: with 1% of the
 * messages lost it falls behind, and every early message that isn't kept costs another 100 ms. It sends at
 * most 1,000 a second and holds at most 10,000.
 */
#ifndef FUMIDAI_CHANNEL_INBOX_H
#define FUMIDAI_CHANNEL_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    INBOX_MESSAGES = 6144,
    INBOX_SLOT_SIZE = 1024,
    INBOX_SPAN = 8192, /* a power of two */
    INBOX_RESERVE = 64,
    INBOX_PAYLOAD_MAX = INBOX_RESERVE * INBOX_SLOT_SIZE,
    INBOX_SEEN_MAX = 16384 /* numbers further ahead than this are nonsense and do not count as seen */
};

struct inbox_slot {
    uint16_t next; /* the next free slot, or the slot with the rest of this payload; INBOX_NO_SLOT ends */
    uint16_t len;  /* bytes in this slot */
    uint32_t payload_type;
};

enum {
    INBOX_NO_SLOT = 0xffff,
    INBOX_MEMORY_SIZE = INBOX_MESSAGES * (INBOX_SLOT_SIZE + (int) sizeof(struct inbox_slot)) +
                        INBOX_SPAN * (int) sizeof(uint16_t)
};

struct inbox {
    uint8_t *payloads;        /* INBOX_MESSAGES × INBOX_SLOT_SIZE */
    struct inbox_slot *slots; /* INBOX_MESSAGES */
    uint16_t *by_sequence;    /* INBOX_SPAN: 1 + first slot of the message, 0 when it is not here */
    uint16_t free;            /* list of slots that were used before */
    uint16_t untouched; /* slots from here on never were: last-in first-out keeps a quiet session small */
    size_t used;        /* slots in use */
    int64_t front;
    int64_t expected;
    int64_t seen;    /* one more than the highest number that came, kept or not */
    size_t early;    /* messages kept beyond `expected` */
    size_t consumed; /* bytes of the front's first slot */
};

enum inbox_verdict {
    INBOX_NEW,    /* counted and kept: acknowledge */
    INBOX_DOUBLE, /* here or delivered already: acknowledge, drop */
    INBOX_REFUSED /* no room, or too far ahead: do not acknowledge */
};

void inbox_init(struct inbox *inbox, void *memory); /* INBOX_MEMORY_SIZE zeroed bytes, aligned for any type */
enum inbox_verdict inbox_take(struct inbox *inbox, int64_t sequence, uint32_t payload_type,
                              const void *payload, size_t len);
/* The next piece in order: a message's payload, or the next part of it when it takes several slots or was
 * consumed in part; *message_left is what the message holds from there on. False when nothing is in order. */
bool inbox_front(const struct inbox *inbox, uint32_t *payload_type, const uint8_t **data, size_t *len,
                 size_t *message_left);
/* The same for the n-th message behind it, whose number is front + n. */
bool inbox_peek(const struct inbox *inbox, size_t n, uint32_t *payload_type, const uint8_t **data,
                size_t *len, size_t *message_left);
void inbox_consume(struct inbox *inbox, size_t n); /* n at most what inbox_front showed */
/* Messages that the peer has sent, as far as known, and that were not acknowledged. */
size_t inbox_missing(const struct inbox *inbox);

#endif
