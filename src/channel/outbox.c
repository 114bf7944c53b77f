#include "channel/outbox.h"

#include <string.h>

enum {
    MICROSECONDS = 1000,  /* in a millisecond */
    FLIGHT_SLOW_STEP = 8, /* acknowledgements that allow one more in flight above the threshold */
    RESENDS_PER_NEW = 7,  /* while the peer may ignore resends */
    SHIFT_MAX = 16,       /* pauses double no more often than this; the maxima come first */
    SEAL_MESSAGE_MAX = 65535
};

_Static_assert(AGENT_MESSAGE_HEADER_SIZE + OUTBOX_LARGE_PAYLOAD_MAX <= SEAL_MESSAGE_MAX,
               "headroom of 8 bytes");
_Static_assert(OUTBOX_SPAN > OUTBOX_GIVE_UP_LATER + OUTBOX_SLOTS, "numbers in use fit the table");
_Static_assert(OUTBOX_SLOTS < 0xffff, "slots and 1 + slot fit 16 bits");
_Static_assert(OUTBOX_SLOT_SIZE % 8 == 0 && OUTBOX_LARGE_SLOT_SIZE % 8 == 0, "what follows stays aligned");

/* ---- lists: a message is in the list of its state ---- */

static void list_insert(struct outbox *outbox, uint16_t slot, enum outbox_state state, bool at_front)
{
    struct outbox_list *list = &outbox->lists[state];
    struct outbox_message *message = &outbox->messages[slot];
    message->state = (uint8_t) state;
    message->next = at_front ? list->first : OUTBOX_NO_SLOT;
    message->previous = at_front ? OUTBOX_NO_SLOT : list->last;
    if (message->next != OUTBOX_NO_SLOT)
        outbox->messages[message->next].previous = slot;
    else
        list->last = slot;
    if (message->previous != OUTBOX_NO_SLOT)
        outbox->messages[message->previous].next = slot;
    else
        list->first = slot;
    list->count++;
}

static void list_remove(struct outbox *outbox, uint16_t slot)
{
    const struct outbox_message *message = &outbox->messages[slot];
    struct outbox_list *list = &outbox->lists[message->state];
    if (message->next != OUTBOX_NO_SLOT)
        outbox->messages[message->next].previous = message->previous;
    else
        list->last = message->previous;
    if (message->previous != OUTBOX_NO_SLOT)
        outbox->messages[message->previous].next = message->next;
    else
        list->first = message->next;
    list->count--;
}

static void move(struct outbox *outbox, uint16_t slot, enum outbox_state state)
{
    list_remove(outbox, slot);
    list_insert(outbox, slot, state, false);
}

static uint16_t first_of(const struct outbox *outbox, enum outbox_state state)
{
    return outbox->lists[state].first;
}

/* ---- slots ---- */

static uint8_t *payload_of(const struct outbox *outbox, uint16_t slot)
{
    size_t offset = (size_t) slot * OUTBOX_SLOT_SIZE;
    if (slot >= OUTBOX_MESSAGES)
        offset = (size_t) OUTBOX_MESSAGES * OUTBOX_SLOT_SIZE +
                 (size_t) (slot - OUTBOX_MESSAGES) * OUTBOX_LARGE_SLOT_SIZE;
    return outbox->frames + offset + OUTBOX_SLOT_HEADROOM + AGENT_MESSAGE_HEADER_SIZE;
}

static uint16_t *entry_of(const struct outbox *outbox, int64_t sequence)
{
    return &outbox->by_sequence[(uint64_t) sequence % OUTBOX_SPAN];
}

/* The slot that take_slot would take. */
static uint16_t next_free_slot(const struct outbox *outbox)
{
    uint16_t slot = first_of(outbox, OUTBOX_FREE);
    if (slot == OUTBOX_NO_SLOT && outbox->untouched < OUTBOX_MESSAGES)
        slot = outbox->untouched;
    return slot;
}

static uint16_t free_large_slot(const struct outbox *outbox)
{
    for (int slot = OUTBOX_MESSAGES; slot < OUTBOX_SLOTS; slot++)
        if (outbox->messages[slot].state == OUTBOX_FREE)
            return (uint16_t) slot;
    return OUTBOX_NO_SLOT;
}

/* Gives the slot the next number: from here on it is kept until it is acknowledged. */
static void take_slot(struct outbox *outbox, uint16_t slot, enum payload_type type)
{
    if (slot < OUTBOX_MESSAGES && slot == outbox->untouched)
        outbox->untouched++;
    else if (slot < OUTBOX_MESSAGES)
        list_remove(outbox, slot);
    outbox->messages[slot] =
        (struct outbox_message){.sequence = outbox->next, .payload_type = (uint8_t) type};
    list_insert(outbox, slot, OUTBOX_UNSENT, false);
    *entry_of(outbox, outbox->next) = (uint16_t) (slot + 1);
    outbox->next++;
    outbox->in_use++;
}

/* The slot itself, when nothing holds on to it. */
static void release_slot(struct outbox *outbox, uint16_t slot)
{
    list_remove(outbox, slot);
    if (slot < OUTBOX_MESSAGES)
        list_insert(outbox, slot, OUTBOX_FREE, true);
    else
        outbox->messages[slot].state = OUTBOX_FREE;
}

/* The message has arrived, as far as we will ever know. */
static void forget(struct outbox *outbox, uint16_t slot)
{
    struct outbox_message *message = &outbox->messages[slot];
    *entry_of(outbox, message->sequence) = 0;
    outbox->in_use--;
    while (outbox->oldest < outbox->next && *entry_of(outbox, outbox->oldest) == 0)
        outbox->oldest++;
    if (message->state == OUTBOX_SENDING)
        message->done = true; /* its frame was begun and must be finished */
    else
        release_slot(outbox, slot);
}

void outbox_init(struct outbox *outbox, void *memory, enum agent_message_type type, bool peer_ignores_old)
{
    uint8_t *at = memory;
    memset(outbox, 0, sizeof *outbox);
    outbox->frames = at;
    at += OUTBOX_MESSAGES * OUTBOX_SLOT_SIZE + OUTBOX_LARGE * OUTBOX_LARGE_SLOT_SIZE;
    outbox->messages = (struct outbox_message *) (void *) at;
    at += OUTBOX_SLOTS * sizeof(struct outbox_message);
    outbox->by_sequence = (uint16_t *) (void *) at;
    for (int i = 0; i < OUTBOX_STATE_COUNT; i++)
        outbox->lists[i] = (struct outbox_list){OUTBOX_NO_SLOT, OUTBOX_NO_SLOT, 0};
    outbox->sending = OUTBOX_NO_SLOT;
    outbox->type = type;
    outbox->peer_ignores_old = peer_ignores_old;
    outbox->flight_limit = OUTBOX_WINDOW;
    outbox->flight_threshold = OUTBOX_WINDOW;
    outbox->fresh_allowance = OUTBOX_FRESH;
    outbox->rtt_us = OUTBOX_RTT_START_MS * MICROSECONDS;
    outbox->rto_ms = OUTBOX_RTO_START_MS;
    outbox->round_ms = INT64_MIN;
}

/* ---- appending ---- */

size_t outbox_counted(const struct outbox *outbox)
{
    size_t count = (size_t) outbox->lists[OUTBOX_UNSENT].count + outbox->lists[OUTBOX_FIRST_FLIGHT].count +
                   outbox->lists[OUTBOX_RESENT_FLIGHT].count + outbox->lists[OUTBOX_LOST].count +
                   outbox->lists[OUTBOX_RESTING].count;
    if (outbox->sending != OUTBOX_NO_SLOT) {
        const struct outbox_message *message = &outbox->messages[outbox->sending];
        count += message->from != OUTBOX_PASSED_OVER && !message->done;
    }
    return count;
}

size_t outbox_in_flight(const struct outbox *outbox)
{
    return (size_t) outbox->lists[OUTBOX_FIRST_FLIGHT].count + outbox->lists[OUTBOX_RESENT_FLIGHT].count +
           outbox->lists[OUTBOX_SENDING].count;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t outbox_room(const struct outbox *outbox)
{
    size_t counted = outbox_counted(outbox);
    size_t fresh = (size_t) outbox->lists[OUTBOX_UNSENT].count + outbox->lists[OUTBOX_FIRST_FLIGHT].count +
                   outbox->lists[OUTBOX_SENDING].count;
    size_t room = counted < OUTBOX_WINDOW ? OUTBOX_WINDOW - counted : 0;
    size_t numbers = (size_t) (OUTBOX_SPAN - (outbox->next - outbox->oldest));
    size_t slots = (size_t) outbox->lists[OUTBOX_FREE].count + (size_t) (OUTBOX_MESSAGES - outbox->untouched);
    if (outbox->peer_ignores_old && room == 0 && fresh < outbox->fresh_allowance)
        room = outbox->fresh_allowance - fresh;
    return min_size(room, min_size(numbers, slots));
}

/* The unsent message that Output can be added to. */
static uint16_t open_slot(const struct outbox *outbox, enum payload_type type)
{
    uint16_t slot = outbox->lists[OUTBOX_UNSENT].last;
    if (slot == OUTBOX_NO_SLOT || type != PAYLOAD_OUTPUT || slot >= OUTBOX_MESSAGES ||
        outbox->messages[slot].payload_type != PAYLOAD_OUTPUT ||
        outbox->messages[slot].payload_len == AGENT_MESSAGE_STREAM_PAYLOAD_MAX)
        return OUTBOX_NO_SLOT;
    return slot;
}

size_t outbox_open_room(const struct outbox *outbox)
{
    uint16_t slot = open_slot(outbox, PAYLOAD_OUTPUT);
    return slot == OUTBOX_NO_SLOT
               ? 0
               : AGENT_MESSAGE_STREAM_PAYLOAD_MAX - (size_t) outbox->messages[slot].payload_len;
}

uint8_t *outbox_append_buf(struct outbox *outbox, enum payload_type type, size_t *room)
{
    uint16_t slot = open_slot(outbox, type);
    size_t used = 0;
    *room = 0;
    if (slot != OUTBOX_NO_SLOT)
        used = outbox->messages[slot].payload_len;
    else if (outbox_room(outbox) > 0)
        slot = next_free_slot(outbox);
    if (slot == OUTBOX_NO_SLOT)
        return NULL;
    *room = AGENT_MESSAGE_STREAM_PAYLOAD_MAX - used;
    return payload_of(outbox, slot) + used;
}

void outbox_append_ack(struct outbox *outbox, enum payload_type type, size_t len)
{
    uint16_t slot = open_slot(outbox, type);
    if (len == 0)
        return;
    if (slot == OUTBOX_NO_SLOT) {
        slot = next_free_slot(outbox);
        take_slot(outbox, slot, type);
    }
    outbox->messages[slot].payload_len = (uint16_t) (outbox->messages[slot].payload_len + len);
}

bool outbox_append_message(struct outbox *outbox, enum payload_type type, const void *payload, size_t len)
{
    uint16_t slot =
        len <= AGENT_MESSAGE_STREAM_PAYLOAD_MAX ? next_free_slot(outbox) : free_large_slot(outbox);
    if (outbox_room(outbox) == 0 || slot == OUTBOX_NO_SLOT || len > OUTBOX_LARGE_PAYLOAD_MAX)
        return false;
    take_slot(outbox, slot, type);
    if (len > 0)
        memcpy(payload_of(outbox, slot), payload, len);
    outbox->messages[slot].payload_len = (uint16_t) len;
    return true;
}

/* ---- connections ---- */

void outbox_connected(struct outbox *outbox, int64_t now_ms)
{
    outbox->passed_turn++;
    outbox->passed_turns = 0;
    outbox->passed_ms = now_ms;
}

static void lose_all(struct outbox *outbox, enum outbox_state state)
{
    uint16_t slot;
    while ((slot = first_of(outbox, state)) != OUTBOX_NO_SLOT)
        move(outbox, slot, OUTBOX_LOST);
}

/* "On this connection" begins anew. */
static void reset_counts(struct outbox *outbox, enum outbox_state state)
{
    for (uint16_t slot = first_of(outbox, state); slot != OUTBOX_NO_SLOT;
         slot = outbox->messages[slot].next) {
        outbox->messages[slot].sends = 0;
        outbox->messages[slot].passes = 0;
    }
}

void outbox_disconnected(struct outbox *outbox)
{
    uint64_t limit = outbox->acked_on_connection / 8;
    if (outbox->sending != OUTBOX_NO_SLOT) {
        struct outbox_message *message = &outbox->messages[outbox->sending];
        if (message->done)
            release_slot(outbox, outbox->sending);
        else
            move(outbox, outbox->sending,
                 message->from == OUTBOX_PASSED_OVER ? OUTBOX_PASSED_OVER : OUTBOX_LOST);
        outbox->sending = OUTBOX_NO_SLOT;
    }
    lose_all(outbox, OUTBOX_RESTING);
    lose_all(outbox, OUTBOX_RESENT_FLIGHT);
    lose_all(outbox, OUTBOX_FIRST_FLIGHT);
    reset_counts(outbox, OUTBOX_LOST);
    reset_counts(outbox, OUTBOX_PASSED_OVER);
    /* A connection that died young teaches caution: what is in flight when the next one dies has to be sent again,
     * and must not be all that a connection lasts for. */
    if (limit < OUTBOX_FLIGHT_MIN)
        limit = OUTBOX_FLIGHT_MIN;
    if (limit > OUTBOX_WINDOW)
        limit = OUTBOX_WINDOW;
    outbox->flight_limit = (uint32_t) limit;
    outbox->flight_threshold = outbox->flight_limit;
    outbox->flight_credit = 0;
    /* Fresh messages of connections that never brought an acknowledgement must not pile up. */
    outbox->fresh_allowance = outbox->acked_on_connection > 0 ? OUTBOX_FRESH : 1;
    outbox->acked_on_connection = 0;
    outbox->stalled = 0;
    outbox->round_ms = INT64_MIN;
    outbox->turn = 0;
}

/* ---- what is overdue ---- */

static int64_t doubled(int64_t pause_ms, unsigned times, int64_t max_ms)
{
    pause_ms <<= times < SHIFT_MAX ? times : SHIFT_MAX;
    return pause_ms < max_ms ? pause_ms : max_ms;
}

static int64_t resend_pause_ms(const struct outbox *outbox)
{
    int64_t pause_ms = doubled(outbox->rto_ms, outbox->stalled, OUTBOX_STALLED_PAUSE_MAX_MS);
    return pause_ms > outbox->rto_ms ? pause_ms : outbox->rto_ms;
}

/* Nothing came back for a whole RTO. Either all of it is lost or the network is slow: few at first. */
static void stall(struct outbox *outbox, size_t was_in_flight)
{
    if (was_in_flight > OUTBOX_FLIGHT_STALLED && outbox->flight_limit > OUTBOX_FLIGHT_STALLED) {
        outbox->flight_threshold = outbox->flight_limit;
        outbox->flight_limit = OUTBOX_FLIGHT_STALLED;
    }
}

/* True if one of them was sent after everything that is known to have arrived. */
static bool lose_overdue(struct outbox *outbox, enum outbox_state state, enum outbox_state to,
                         int64_t pause_ms, int64_t now_ms)
{
    bool stalled = false;
    uint16_t slot;
    while ((slot = first_of(outbox, state)) != OUTBOX_NO_SLOT) {
        const struct outbox_message *message = &outbox->messages[slot];
        if (now_ms - message->sent_ms < pause_ms)
            break;
        stalled |= message->order > outbox->acked_order;
        move(outbox, slot, to);
    }
    return stalled;
}

static bool was_passed_over(const struct outbox *outbox, const struct outbox_message *message)
{
    return message->sends > 0 && message->order < outbox->acked_order;
}

static void give_up(struct outbox *outbox, uint16_t slot)
{
    outbox->given_up++;
    forget(outbox, slot);
}

/* The passed-over message whose turn it is: they take turns, and after each has had its turn comes a pause. */
static uint16_t passed_over_in_turn(const struct outbox *outbox)
{
    uint16_t slot = first_of(outbox, OUTBOX_PASSED_OVER);
    if (slot != OUTBOX_NO_SLOT && outbox->messages[slot].turn == outbox->passed_turn)
        return OUTBOX_NO_SLOT;
    return slot;
}

static void tend_passed_over(struct outbox *outbox, int64_t now_ms)
{
    uint16_t slot;
    if (first_of(outbox, OUTBOX_PASSED_OVER) == OUTBOX_NO_SLOT || now_ms < outbox->passed_ms)
        return;
    if (passed_over_in_turn(outbox) == OUTBOX_NO_SLOT)
        outbox->passed_turn++; /* the pause is over */
    while ((slot = passed_over_in_turn(outbox)) != OUTBOX_NO_SLOT && outbox->peer_ignores_old &&
           was_passed_over(outbox, &outbox->messages[slot]) &&
           outbox->messages[slot].passes + 1 >= OUTBOX_GIVE_UP_RESENDS)
        give_up(outbox, slot);
}

/* One of them was resent: when may the next be? */
static void end_passed_over_turn(struct outbox *outbox, int64_t now_ms)
{
    outbox->passed_ms = now_ms + OUTBOX_PASSED_OVER_INTERVAL_MS;
    if (passed_over_in_turn(outbox) == OUTBOX_NO_SLOT)
        outbox->passed_ms =
            now_ms + doubled(outbox->rto_ms, outbox->passed_turns++, OUTBOX_PASSED_OVER_PAUSE_MAX_MS);
}

/* Everything lost was resent and nothing answered to what rests: once more, after a longer pause each time. */
static void begin_round(struct outbox *outbox, int64_t now_ms)
{
    uint16_t slot;
    if (first_of(outbox, OUTBOX_RESTING) == OUTBOX_NO_SLOT ||
        first_of(outbox, OUTBOX_LOST) != OUTBOX_NO_SLOT || now_ms < outbox->round_ms)
        return;
    while ((slot = first_of(outbox, OUTBOX_RESTING)) != OUTBOX_NO_SLOT)
        move(outbox, slot, OUTBOX_LOST);
    outbox->stalled++;
    outbox->round_ms = now_ms + resend_pause_ms(outbox);
}

void outbox_tick(struct outbox *outbox, int64_t now_ms)
{
    size_t in_flight = outbox_in_flight(outbox);
    bool stalled = lose_overdue(outbox, OUTBOX_FIRST_FLIGHT, OUTBOX_LOST, outbox->rto_ms, now_ms);
    /* New messages become overdue one after the other: together they are one silence. */
    bool counts = stalled && outbox->stalled == 0;
    if (outbox->peer_ignores_old) {
        /* Silence says nothing: they may have arrived before. Others have their turn first. */
        lose_overdue(outbox, OUTBOX_RESENT_FLIGHT, OUTBOX_RESTING, outbox->rto_ms, now_ms);
        begin_round(outbox, now_ms);
    } else if (lose_overdue(outbox, OUTBOX_RESENT_FLIGHT, OUTBOX_LOST, resend_pause_ms(outbox), now_ms)) {
        stalled = counts = true;
    }
    if (stalled)
        stall(outbox, in_flight);
    if (counts)
        outbox->rto_ms = doubled(outbox->rto_ms, 1, OUTBOX_RTO_MAX_MS);
    outbox->stalled += counts;
    tend_passed_over(outbox, now_ms);
}

bool outbox_wants_witness(const struct outbox *outbox)
{
    static const enum outbox_state under_way[] = {OUTBOX_UNSENT, OUTBOX_SENDING, OUTBOX_FIRST_FLIGHT,
                                                  OUTBOX_RESENT_FLIGHT, OUTBOX_LOST};
    for (size_t i = 0; i < sizeof under_way / sizeof under_way[0]; i++)
        if (first_of(outbox, under_way[i]) != OUTBOX_NO_SLOT)
            return false;
    return outbox->peer_ignores_old && outbox->in_use > 0 && outbox->order > outbox->acked_order;
}

static int64_t due_ms(const struct outbox *outbox, enum outbox_state state, int64_t pause_ms)
{
    uint16_t slot = first_of(outbox, state);
    return slot == OUTBOX_NO_SLOT ? INT64_MAX : outbox->messages[slot].sent_ms + pause_ms;
}

int64_t outbox_deadline(const struct outbox *outbox, int64_t now_ms)
{
    int64_t first = due_ms(outbox, OUTBOX_FIRST_FLIGHT, outbox->rto_ms);
    int64_t deadline = due_ms(outbox, OUTBOX_RESENT_FLIGHT,
                              outbox->peer_ignores_old ? outbox->rto_ms : resend_pause_ms(outbox));
    if (first < deadline)
        deadline = first;
    if (first_of(outbox, OUTBOX_RESTING) != OUTBOX_NO_SLOT &&
        first_of(outbox, OUTBOX_LOST) == OUTBOX_NO_SLOT && outbox->round_ms < deadline)
        deadline = outbox->round_ms;
    if (first_of(outbox, OUTBOX_PASSED_OVER) != OUTBOX_NO_SLOT && outbox->passed_ms > now_ms &&
        outbox->passed_ms < deadline)
        deadline = outbox->passed_ms;
    return deadline;
}

/* ---- transmitting ---- */

uint16_t outbox_choose(const struct outbox *outbox, int64_t now_ms, uint32_t flight_max, int64_t new_below)
{
    uint32_t limit = flight_max < outbox->flight_limit ? flight_max : outbox->flight_limit;
    uint16_t lost = first_of(outbox, OUTBOX_LOST);
    uint16_t unsent = first_of(outbox, OUTBOX_UNSENT);
    if (outbox->sending != OUTBOX_NO_SLOT)
        return OUTBOX_NO_SLOT;
    /* Resends that the peer may ignore do not keep new messages waiting: only these can show that it does. */
    if (unsent != OUTBOX_NO_SLOT &&
        (outbox->messages[unsent].sequence >= new_below || outbox->lists[OUTBOX_FIRST_FLIGHT].count >= limit))
        unsent = OUTBOX_NO_SLOT;
    if (unsent != OUTBOX_NO_SLOT && outbox->peer_ignores_old && outbox->turn >= RESENDS_PER_NEW)
        return unsent;
    if (lost != OUTBOX_NO_SLOT && outbox_in_flight(outbox) < limit)
        return lost;
    uint16_t passed_over = now_ms >= outbox->passed_ms ? passed_over_in_turn(outbox) : OUTBOX_NO_SLOT;
    return passed_over != OUTBOX_NO_SLOT ? passed_over : unsent;
}

/* Where the frame begins, and how long its websocket header is. */
static uint8_t *frame_of(const struct outbox *outbox, uint16_t slot, size_t *header_size)
{
    size_t len = AGENT_MESSAGE_HEADER_SIZE + (size_t) outbox->messages[slot].payload_len;
    *header_size = websocket_header_size(len, true);
    return payload_of(outbox, slot) - AGENT_MESSAGE_HEADER_SIZE - *header_size;
}

static void seal(struct outbox *outbox, uint16_t slot, uint64_t created_unix_ms, struct prng *generator)
{
    struct outbox_message *message = &outbox->messages[slot];
    uint8_t *payload = payload_of(outbox, slot);
    uint8_t *header = payload - AGENT_MESSAGE_HEADER_SIZE;
    uint8_t random[UUID_SIZE];
    struct agent_message fields = {
        .type = outbox->type,
        .created_unix_ms = created_unix_ms,
        .sequence = message->sequence,
        .flags = message->sequence == 0 ? AGENT_MESSAGE_SYN : 0,
        .payload_type = message->payload_type,
        .payload = payload,
        .payload_len = message->payload_len,
    };
    prng_fill(generator, random, sizeof random);
    uuid_v4(fields.id, random);
    agent_message_write_header(header, &fields);
    prng_fill(generator, message->mask, sizeof message->mask);
    websocket_seal(header, AGENT_MESSAGE_HEADER_SIZE + (size_t) message->payload_len, WEBSOCKET_BINARY,
                   message->mask);
    message->sealed = true;
}

/* The frame is masked in place already: XOR with both masks takes one off and puts the other on. */
static void mask_anew(struct outbox *outbox, uint16_t slot, struct prng *generator)
{
    struct outbox_message *message = &outbox->messages[slot];
    size_t header_size;
    uint8_t *content = frame_of(outbox, slot, &header_size) + header_size;
    uint8_t mask[WEBSOCKET_MASK_SIZE], both[WEBSOCKET_MASK_SIZE];
    prng_fill(generator, mask, sizeof mask);
    for (size_t i = 0; i < sizeof mask; i++)
        both[i] = mask[i] ^ message->mask[i];
    websocket_mask(content, AGENT_MESSAGE_HEADER_SIZE + (size_t) message->payload_len, both, 0);
    memcpy(content - sizeof mask, mask, sizeof mask);
    memcpy(message->mask, mask, sizeof mask);
}

const uint8_t *outbox_begin(struct outbox *outbox, uint16_t slot, uint64_t created_unix_ms,
                            struct prng *generator, size_t *len)
{
    struct outbox_message *message = &outbox->messages[slot];
    bool resend = message->state != OUTBOX_UNSENT;
    size_t header_size;
    if (message->sealed)
        mask_anew(outbox, slot, generator);
    else
        seal(outbox, slot, created_unix_ms, generator);
    if (message->state == OUTBOX_PASSED_OVER && was_passed_over(outbox, message))
        message->passes++;
    message->from = message->state;
    move(outbox, slot, OUTBOX_SENDING);
    outbox->sending = slot;
    message->order = ++outbox->order;
    message->sends = message->sends < UINT8_MAX ? message->sends + 1 : UINT8_MAX;
    outbox->turn = resend ? outbox->turn + 1 : 0;
    outbox->sent += !resend;
    outbox->resent += resend;
    const uint8_t *frame = frame_of(outbox, slot, &header_size);
    *len = header_size + AGENT_MESSAGE_HEADER_SIZE + message->payload_len;
    return frame;
}

void outbox_end(struct outbox *outbox, int64_t now_ms)
{
    uint16_t slot = outbox->sending;
    if (slot == OUTBOX_NO_SLOT)
        return;
    struct outbox_message *message = &outbox->messages[slot];
    outbox->sending = OUTBOX_NO_SLOT;
    message->sent_ms = now_ms;
    if (message->done) {
        release_slot(outbox, slot);
    } else if (message->from == OUTBOX_PASSED_OVER) {
        message->turn = outbox->passed_turn;
        move(outbox, slot, OUTBOX_PASSED_OVER);
        end_passed_over_turn(outbox, now_ms);
    } else {
        move(outbox, slot, message->from == OUTBOX_UNSENT ? OUTBOX_FIRST_FLIGHT : OUTBOX_RESENT_FLIGHT);
    }
}

/* ---- acknowledgements ---- */

/* Once a round trip: what is smoothed over eight messages of the same instant knows nothing of how round trips vary. */
static void measure(struct outbox *outbox, int64_t rtt_ms, int64_t now_ms)
{
    int64_t rtt_us = rtt_ms * MICROSECONDS;
    int64_t difference = outbox->rtt_us > rtt_us ? outbox->rtt_us - rtt_us : rtt_us - outbox->rtt_us;
    int64_t margin;
    if (now_ms < outbox->measure_ms)
        return;
    outbox->measure_ms = now_ms + rtt_ms;
    outbox->rtt_variation_us = (3 * outbox->rtt_variation_us + difference) / 4;
    outbox->rtt_us = (7 * outbox->rtt_us + rtt_us) / 8;
    margin = 4 * outbox->rtt_variation_us;
    if (margin < OUTBOX_RTO_GRANULARITY_MS * MICROSECONDS)
        margin = OUTBOX_RTO_GRANULARITY_MS * MICROSECONDS;
    outbox->rto_ms = (outbox->rtt_us + margin) / MICROSECONDS;
    if (outbox->rto_ms > OUTBOX_RTO_MAX_MS)
        outbox->rto_ms = OUTBOX_RTO_MAX_MS;
}

static void allow_more_flight(struct outbox *outbox)
{
    outbox->acked_on_connection++;
    if (outbox->flight_limit >= OUTBOX_WINDOW)
        return;
    if (outbox->flight_limit < outbox->flight_threshold) {
        outbox->flight_limit++;
    } else if (++outbox->flight_credit >= FLIGHT_SLOW_STEP) {
        outbox->flight_credit = 0;
        outbox->flight_limit++;
    }
}

/* A message first sent after these resends was acknowledged, they were not: the peer has had them before, or they
 * are lost again, and we can't tell which. */
static void pass_over(struct outbox *outbox, enum outbox_state state, int64_t now_ms)
{
    uint16_t slot;
    while ((slot = first_of(outbox, state)) != OUTBOX_NO_SLOT &&
           outbox->messages[slot].order < outbox->acked_order &&
           outbox->lists[OUTBOX_PASSED_OVER].count < OUTBOX_PASSED_OVER_MAX) {
        if (outbox->lists[OUTBOX_PASSED_OVER].count == 0) {
            outbox->passed_turns = 0;
            outbox->passed_ms = now_ms + outbox->rto_ms;
        }
        outbox->messages[slot].turn = outbox->passed_turn;
        move(outbox, slot, OUTBOX_PASSED_OVER);
    }
}

bool outbox_acknowledge(struct outbox *outbox, int64_t sequence, int64_t now_ms)
{
    if (sequence < outbox->oldest || sequence >= outbox->next || *entry_of(outbox, sequence) == 0)
        return false;
    uint16_t slot = (uint16_t) (*entry_of(outbox, sequence) - 1);
    const struct outbox_message *message = &outbox->messages[slot];
    if (message->state == OUTBOX_UNSENT)
        return false; /* the peer can't know it */
    /* Sent once, on this connection; it may be overdue. */
    if (message->from == OUTBOX_UNSENT && message->sends == 1) {
        measure(outbox, now_ms - message->sent_ms, now_ms);
        if (message->order > outbox->acked_order)
            outbox->acked_order = message->order;
    }
    outbox->acknowledged++;
    outbox->stalled = 0;
    forget(outbox, slot);
    allow_more_flight(outbox);
    if (!outbox->peer_ignores_old)
        return true;
    pass_over(outbox, OUTBOX_RESTING, now_ms);
    pass_over(outbox, OUTBOX_RESENT_FLIGHT, now_ms);
    /* Had the peer waited for the oldest, it would have had to keep all those later ones. */
    while ((size_t) (outbox->next - outbox->oldest) > outbox->in_use + OUTBOX_GIVE_UP_LATER)
        give_up(outbox, (uint16_t) (*entry_of(outbox, outbox->oldest) - 1));
    return true;
}

bool outbox_acknowledged(const struct outbox *outbox, int64_t sequence)
{
    return sequence < outbox->oldest || (sequence < outbox->next && *entry_of(outbox, sequence) == 0);
}
