#include "channel/inbox.h"

#include <string.h>

void inbox_init(struct inbox *inbox, void *memory, struct pool_user *user)
{
    uint8_t *at = memory;
    memset(inbox, 0, sizeof *inbox);
    inbox->user = user;
    inbox->slots = (struct inbox_slot *) (void *) at;
    at += INBOX_MESSAGES * sizeof(struct inbox_slot);
    inbox->by_sequence = (uint16_t *) (void *) at;
    inbox->free = INBOX_NO_SLOT;
}

static uint16_t *entry_of(const struct inbox *inbox, int64_t sequence)
{
    return &inbox->by_sequence[(uint64_t) sequence % INBOX_SPAN];
}

/* ---- slots ---- */

static uint16_t take_slot(struct inbox *inbox, enum pool_purpose purpose)
{
    uint16_t slot = inbox->free;
    if (slot != INBOX_NO_SLOT)
        inbox->free = inbox->slots[slot].next;
    else
        slot = inbox->untouched++;
    inbox->slots[slot] = (struct inbox_slot){.block = pool_take(inbox->user, purpose), .next = INBOX_NO_SLOT};
    inbox->used++;
    return slot;
}

static void free_slot(struct inbox *inbox, uint16_t slot)
{
    pool_give(inbox->user, inbox->slots[slot].block);
    inbox->slots[slot] = (struct inbox_slot){.next = inbox->free};
    inbox->free = slot;
    inbox->used--;
}

static void copy_in(struct inbox *inbox, uint16_t slot, const void *payload)
{
    if (inbox->slots[slot].len > 0)
        memcpy(pool_block(inbox->user->pool, inbox->slots[slot].block), payload, inbox->slots[slot].len);
}

static void lend(struct inbox *inbox, uint16_t slot, const uint8_t *payload)
{
    if (inbox->lent_count == INBOX_LENT_MAX)
        inbox_settle(inbox);
    inbox->slots[slot].lent = payload;
    inbox->lent[inbox->lent_count++] = slot;
}

void inbox_settle(struct inbox *inbox)
{
    for (size_t i = 0; i < inbox->lent_count; i++) {
        struct inbox_slot *slot = &inbox->slots[inbox->lent[i]];
        if (slot->lent != NULL)
            copy_in(inbox, inbox->lent[i], slot->lent);
        slot->lent = NULL;
    }
    inbox->lent_count = 0;
}

/* The caller has seen to it that there are slots enough. */
static uint16_t store(struct inbox *inbox, enum pool_purpose purpose, uint32_t payload_type,
                      const uint8_t *payload, size_t len)
{
    uint16_t first = take_slot(inbox, purpose);
    bool whole = len <= INBOX_BLOCK_PAYLOAD;
    for (uint16_t slot = first;;) {
        size_t n = len < INBOX_BLOCK_PAYLOAD ? len : INBOX_BLOCK_PAYLOAD;
        inbox->slots[slot].len = (uint16_t) n;
        inbox->slots[slot].payload_type = payload_type;
        if (whole)
            lend(inbox, slot, payload);
        else
            copy_in(inbox, slot, payload);
        payload += n;
        len -= n;
        if (len == 0)
            return first;
        uint16_t next = take_slot(inbox, purpose);
        inbox->slots[slot].next = next;
        slot = next;
    }
}

static size_t slots_for(size_t len)
{
    return len == 0 ? 1 : (len + INBOX_BLOCK_PAYLOAD - 1) / INBOX_BLOCK_PAYLOAD;
}

/* ---- messages ---- */

enum inbox_result inbox_take(struct inbox *inbox, int64_t sequence, uint32_t payload_type,
                             const void *payload, size_t len)
{
    /* What everything else waits for finds room when nothing else does. */
    bool is_expected = sequence == inbox->expected;
    enum pool_purpose purpose = is_expected ? POOL_CRITICAL : POOL_NORMAL;
    size_t spare = is_expected ? 0 : INBOX_RESERVE;
    if (sequence < inbox->expected)
        return INBOX_DUPLICATE;
    if (sequence >= inbox->seen && sequence - inbox->expected < INBOX_SEEN_MAX)
        inbox->seen = sequence + 1;
    if (sequence - inbox->front >= INBOX_SPAN)
        return INBOX_REFUSED;
    uint16_t *entry = entry_of(inbox, sequence);
    if (*entry != 0)
        return INBOX_DUPLICATE;
    if (len > INBOX_PAYLOAD_MAX || inbox->used + slots_for(len) + spare > INBOX_MESSAGES ||
        slots_for(len) > pool_room(inbox->user, purpose))
        return INBOX_REFUSED;
    *entry = (uint16_t) (store(inbox, purpose, payload_type, payload, len) + 1);
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
    if (n >= inbox_ready(inbox))
        return false;
    uint16_t slot = (uint16_t) (*entry_of(inbox, inbox->front + (int64_t) n) - 1);
    const uint8_t *payload = inbox->slots[slot].lent;
    if (payload == NULL)
        payload = pool_block(inbox->user->pool, inbox->slots[slot].block);
    *payload_type = inbox->slots[slot].payload_type;
    *data = payload + consumed;
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

bool inbox_any(const struct inbox *inbox, int64_t *sequence, uint32_t *payload_type, const uint8_t **data,
               size_t *len)
{
    for (*sequence = inbox->front; *sequence < inbox->front + INBOX_SPAN && inbox->used > 0; (*sequence)++) {
        uint16_t entry = *entry_of(inbox, *sequence);
        if (entry == 0)
            continue;
        const struct inbox_slot *slot = &inbox->slots[entry - 1];
        *payload_type = slot->payload_type;
        *data = slot->lent != NULL ? slot->lent : pool_block(inbox->user->pool, slot->block);
        *len = slot->len;
        return true;
    }
    return false;
}

void inbox_remove(struct inbox *inbox, int64_t sequence)
{
    uint16_t *entry = entry_of(inbox, sequence);
    uint16_t next = inbox->slots[*entry - 1].next;
    free_slot(inbox, (uint16_t) (*entry - 1));
    *entry = (uint16_t) (next == INBOX_NO_SLOT ? 0 : next + 1);
    inbox->consumed = 0;
    while (inbox->front < inbox->expected && *entry_of(inbox, inbox->front) == 0)
        inbox->front++;
}

void inbox_release(struct inbox *inbox)
{
    for (size_t i = 0; i < INBOX_SPAN && inbox->used > 0; i++) {
        while (inbox->by_sequence[i] != 0) {
            uint16_t slot = (uint16_t) (inbox->by_sequence[i] - 1);
            uint16_t next = inbox->slots[slot].next;
            free_slot(inbox, slot);
            inbox->by_sequence[i] = (uint16_t) (next == INBOX_NO_SLOT ? 0 : next + 1);
        }
    }
    inbox->lent_count = 0;
}

size_t inbox_missing(const struct inbox *inbox)
{
    return (size_t) (inbox->seen - inbox->expected) - inbox->early;
}

size_t inbox_ready(const struct inbox *inbox)
{
    return (size_t) (inbox->expected - inbox->front);
}
