#include "channel/inbox.h"

#include <string.h>

void inbox_init(struct inbox *inbox, void *memory)
{
    uint8_t *at = memory;
    memset(inbox, 0, sizeof *inbox);
    inbox->payloads = at;
    at += (size_t) INBOX_MESSAGES * INBOX_SLOT_SIZE;
    inbox->slots = (struct inbox_slot *) (void *) at;
    at += INBOX_MESSAGES * sizeof(struct inbox_slot);
    inbox->by_sequence = (uint16_t *) (void *) at;
    inbox->free = INBOX_NO_SLOT;
}

static uint16_t *entry_of(const struct inbox *inbox, int64_t sequence)
{
    return &inbox->by_sequence[(uint64_t) sequence % INBOX_SPAN];
}

static uint16_t take_slot(struct inbox *inbox)
{
    uint16_t slot = inbox->free;
    if (slot != INBOX_NO_SLOT)
        inbox->free = inbox->slots[slot].next;
    else
        slot = inbox->untouched++;
    inbox->used++;
    return slot;
}

static void free_slot(struct inbox *inbox, uint16_t slot)
{
    inbox->slots[slot].next = inbox->free;
    inbox->free = slot;
    inbox->used--;
}

/* The caller has seen to it that there are slots enough. */
static uint16_t store(struct inbox *inbox, uint32_t payload_type, const uint8_t *payload, size_t len)
{
    uint16_t first = take_slot(inbox);
    for (uint16_t slot = first;;) {
        size_t n = len < INBOX_SLOT_SIZE ? len : INBOX_SLOT_SIZE;
        if (n > 0)
            memcpy(inbox->payloads + (size_t) slot * INBOX_SLOT_SIZE, payload, n);
        payload += n;
        len -= n;
        uint16_t next = len > 0 ? take_slot(inbox) : INBOX_NO_SLOT;
        inbox->slots[slot] =
            (struct inbox_slot){.next = next, .len = (uint16_t) n, .payload_type = payload_type};
        if (next == INBOX_NO_SLOT)
            return first;
        slot = next;
    }
}

static size_t slots_for(size_t len)
{
    return len == 0 ? 1 : (len + INBOX_SLOT_SIZE - 1) / INBOX_SLOT_SIZE;
}

enum inbox_verdict inbox_take(struct inbox *inbox, int64_t sequence, uint32_t payload_type,
                              const void *payload, size_t len)
{
    size_t spare = sequence == inbox->expected ? 0 : INBOX_RESERVE;
    if (sequence < inbox->expected)
        return INBOX_DOUBLE;
    if (sequence >= inbox->seen && sequence - inbox->expected < INBOX_SEEN_MAX)
        inbox->seen = sequence + 1;
    if (sequence - inbox->front >= INBOX_SPAN)
        return INBOX_REFUSED;
    uint16_t *entry = entry_of(inbox, sequence);
    if (*entry != 0)
        return INBOX_DOUBLE;
    if (len > INBOX_PAYLOAD_MAX || inbox->used + slots_for(len) + spare > INBOX_MESSAGES)
        return INBOX_REFUSED;
    *entry = (uint16_t) (store(inbox, payload_type, payload, len) + 1);
    inbox->early++;
    /* Whatever is in order from here on has been counted, once and for all. */
    while (inbox->expected - inbox->front < INBOX_SPAN && *entry_of(inbox, inbox->expected) != 0) {
        inbox->expected++;
        inbox->early--;
    }
    return INBOX_NEW;
}

bool inbox_peek(const struct inbox *inbox, size_t n, uint32_t *payload_type, const uint8_t **data,
                size_t *len, size_t *message_left)
{
    size_t consumed = n == 0 ? inbox->consumed : 0;
    if (n >= (size_t) (inbox->expected - inbox->front))
        return false;
    uint16_t slot = (uint16_t) (*entry_of(inbox, inbox->front + (int64_t) n) - 1);
    *payload_type = inbox->slots[slot].payload_type;
    *data = inbox->payloads + (size_t) slot * INBOX_SLOT_SIZE + consumed;
    *len = inbox->slots[slot].len - consumed;
    *message_left = *len;
    for (slot = inbox->slots[slot].next; slot != INBOX_NO_SLOT; slot = inbox->slots[slot].next)
        *message_left += inbox->slots[slot].len;
    return true;
}

bool inbox_front(const struct inbox *inbox, uint32_t *payload_type, const uint8_t **data, size_t *len,
                 size_t *message_left)
{
    return inbox_peek(inbox, 0, payload_type, data, len, message_left);
}

void inbox_consume(struct inbox *inbox, size_t n)
{
    if (inbox->front == inbox->expected)
        return;
    uint16_t *entry = entry_of(inbox, inbox->front);
    uint16_t slot = (uint16_t) (*entry - 1);
    uint16_t next = inbox->slots[slot].next;
    inbox->consumed += n;
    if (inbox->consumed < inbox->slots[slot].len)
        return;
    free_slot(inbox, slot);
    inbox->consumed = 0;
    *entry = (uint16_t) (next == INBOX_NO_SLOT ? 0 : next + 1);
    if (next == INBOX_NO_SLOT)
        inbox->front++;
}

size_t inbox_missing(const struct inbox *inbox)
{
    return (size_t) (inbox->seen - inbox->expected) - inbox->early;
}
