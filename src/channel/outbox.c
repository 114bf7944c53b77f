#include "channel/outbox.h"

#include <string.h>

#include "base/num.h"

enum {
    FLIGHT_SLOW_STEP = 8,    /* acknowledgements that allow one more in flight above the threshold */
    RESENDS_PER_NEW = 7,     /* while the peer may ignore resends */
    HOLE_PAUSE_MAX_MS = 1000 /* the longest retransmission timeout of AWS's agent */
};

_Static_assert(AGENT_MESSAGE_HEADER_SIZE + OUTBOX_LARGE_PAYLOAD_MAX <= 65535,
               "a websocket header of 8 bytes");
_Static_assert(OUTBOX_SPAN > OUTBOX_GIVE_UP_LATER + OUTBOX_SLOTS, "numbers in use fit the table");
_Static_assert(OUTBOX_SLOTS < 0xffff, "slots and 1 + slot fit 16 bits");
_Static_assert(OUTBOX_SLOT_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + AGENT_MESSAGE_STREAM_PAYLOAD_MAX ==
                   POOL_BLOCK_SIZE,
               "a message fills a block");
_Static_assert(OUTBOX_LARGE_SLOT_SIZE % 8 == 0, "what follows stays aligned");

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
    uint8_t *start = slot < OUTBOX_MESSAGES
                         ? pool_block(outbox->user->pool, outbox->messages[slot].block)
                         : outbox->large + (size_t) (slot - OUTBOX_MESSAGES) * OUTBOX_LARGE_SLOT_SIZE;
    return start + OUTBOX_SLOT_HEADROOM + AGENT_MESSAGE_HEADER_SIZE;
}

static uint16_t *entry_of(const struct outbox *outbox, int64_t sequence)
{
    return &outbox->by_sequence[(uint64_t) sequence % OUTBOX_SPAN];
}

/* A slot with a block, in the list RESERVED. The caller has asked outbox_room. */
static uint16_t reserve_slot(struct outbox *outbox)
{
    uint16_t slot = first_of(outbox, OUTBOX_FREE);
    int32_t block = pool_take(outbox->user, POOL_NORMAL);
    if (block == POOL_NO_BLOCK)
        return OUTBOX_NO_SLOT;
    if (slot != OUTBOX_NO_SLOT)
        list_remove(outbox, slot);
    else
        slot = outbox->untouched++;
    outbox->messages[slot] = (struct outbox_message){.block = block};
    list_insert(outbox, slot, OUTBOX_RESERVED, false);
    return slot;
}

static uint16_t reserve_large_slot(struct outbox *outbox)
{
    for (int slot = OUTBOX_MESSAGES; slot < OUTBOX_SLOTS; slot++) {
        if (outbox->messages[slot].state != OUTBOX_FREE)
            continue;
        outbox->messages[slot] = (struct outbox_message){.block = POOL_NO_BLOCK};
        list_insert(outbox, (uint16_t) slot, OUTBOX_RESERVED, false);
        return (uint16_t) slot;
    }
    return OUTBOX_NO_SLOT;
}

/* Gives a reserved slot the next number: from here on it is kept until it is acknowledged. */
static void number_slot(struct outbox *outbox, uint16_t slot, enum payload_type type)
{
    outbox->messages[slot].sequence = outbox->next;
    outbox->messages[slot].payload_type = (uint8_t) type;
    move(outbox, slot, OUTBOX_UNSENT);
    *entry_of(outbox, outbox->next) = (uint16_t) (slot + 1);
    outbox->next++;
    outbox->in_use++;
}

/* The slot itself, when nothing holds on to it. */
static void release_slot(struct outbox *outbox, uint16_t slot)
{
    list_remove(outbox, slot);
    if (slot >= OUTBOX_MESSAGES) {
        outbox->messages[slot].state = OUTBOX_FREE;
        return;
    }
    pool_give(outbox->user, outbox->messages[slot].block);
    list_insert(outbox, slot, OUTBOX_FREE, true);
}

/* The message has arrived, as far as we will ever know. */
static void forget(struct outbox *outbox, uint16_t slot)
{
    struct outbox_message *message = &outbox->messages[slot];

    *entry_of(outbox, message->sequence) = 0;
    outbox->in_use--;
    if (slot == outbox->hole_slot && message->state != OUTBOX_SENDING)
        outbox->hole_slot = OUTBOX_NO_SLOT;
    while (outbox->oldest < outbox->next && *entry_of(outbox, outbox->oldest) == 0)
        outbox->oldest++;
    if (message->state == OUTBOX_SENDING)
        message->done = true; /* its frame was begun and must be finished */
    else
        release_slot(outbox, slot);
}

void outbox_init(struct outbox *outbox, void *memory, struct pool_user *user, enum agent_message_type type,
                 bool peer_ignores_duplicates)
{
    uint8_t *at = memory;
    memset(outbox, 0, sizeof *outbox);
    outbox->user = user;
    outbox->large = at;
    at += OUTBOX_LARGE * OUTBOX_LARGE_SLOT_SIZE;
    outbox->messages = (struct outbox_message *) (void *) at;
    at += OUTBOX_SLOTS * sizeof(struct outbox_message);
    outbox->by_sequence = (uint16_t *) (void *) at;
    for (int i = 0; i < OUTBOX_STATE_COUNT; i++)
        outbox->lists[i] = (struct outbox_list){OUTBOX_NO_SLOT, OUTBOX_NO_SLOT, 0};
    outbox->sending = OUTBOX_NO_SLOT;
    outbox->type = type;
    outbox->peer_ignores_duplicates = peer_ignores_duplicates;
    outbox->flight_limit = OUTBOX_WINDOW;
    outbox->flight_threshold = OUTBOX_WINDOW;
    outbox->fresh_allowance = OUTBOX_FRESH;
    outbox->round_ms = INT64_MIN;
    outbox->hole_slot = OUTBOX_NO_SLOT;
    retransmission_init(&outbox->retransmission);
}

void outbox_release(struct outbox *outbox)
{
    for (enum outbox_state state = OUTBOX_RESERVED; state < OUTBOX_STATE_COUNT; state++)
        while (first_of(outbox, state) != OUTBOX_NO_SLOT)
            release_slot(outbox, first_of(outbox, state));
    outbox->sending = OUTBOX_NO_SLOT;
    outbox->in_use = 0;
    outbox->oldest = outbox->next;
}

void outbox_number_pieces(struct outbox *outbox, uint64_t *next)
{
    outbox->next_piece = next;
}

/* ---- appending ---- */

size_t outbox_counted(const struct outbox *outbox)
{
    size_t count = (size_t) outbox->lists[OUTBOX_UNSENT].count + outbox->lists[OUTBOX_FIRST_FLIGHT].count +
                   outbox->lists[OUTBOX_RESENT_FLIGHT].count + outbox->lists[OUTBOX_LOST].count +
                   outbox->lists[OUTBOX_RESTING].count;

    if (outbox->sending != OUTBOX_NO_SLOT) {
        const struct outbox_message *message = &outbox->messages[outbox->sending];

        count += message->from != OUTBOX_SUSPECT && !message->done;
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
    if (outbox->peer_ignores_duplicates && room == 0 && fresh < outbox->fresh_allowance)
        room = outbox->fresh_allowance - fresh;
    return min_size(min_size(room, pool_room(outbox->user, POOL_NORMAL)), min_size(numbers, slots));
}

static size_t piece_header_size(const struct outbox *outbox)
{
    return outbox->next_piece != NULL ? OUTBOX_PIECE_HEADER_SIZE : 0;
}

/* The piece number in front of an Output payload, which is masked once it has been sent. */
static uint64_t piece_number(const struct outbox *outbox, uint16_t slot)
{
    const struct outbox_message *message = &outbox->messages[slot];
    uint8_t number[OUTBOX_PIECE_HEADER_SIZE];
    memcpy(number, payload_of(outbox, slot), sizeof number);
    if (message->sealed)
        websocket_mask(number, sizeof number, message->mask, AGENT_MESSAGE_HEADER_SIZE);
    struct reader in = reader_of(number, sizeof number);
    return reader_u64be(&in);
}

/* The unsent message that Output can be added to: the last piece of all lanes, or what is
 * added would be out of order. */
static uint16_t open_slot(const struct outbox *outbox)
{
    uint16_t slot = outbox->lists[OUTBOX_UNSENT].last;
    if (slot == OUTBOX_NO_SLOT || slot >= OUTBOX_MESSAGES ||
        outbox->messages[slot].payload_type != PAYLOAD_OUTPUT ||
        outbox->messages[slot].payload_len == AGENT_MESSAGE_STREAM_PAYLOAD_MAX)
        return OUTBOX_NO_SLOT;
    if (outbox->next_piece != NULL && piece_number(outbox, slot) + 1 != *outbox->next_piece)
        return OUTBOX_NO_SLOT;
    return slot;
}

size_t outbox_open_room(const struct outbox *outbox)
{
    uint16_t slot = open_slot(outbox);
    if (slot == OUTBOX_NO_SLOT)
        return 0;
    return AGENT_MESSAGE_STREAM_PAYLOAD_MAX - (size_t) outbox->messages[slot].payload_len;
}

size_t outbox_reserve(struct outbox *outbox, size_t header, size_t max,
                      struct iovec vectors[OUTBOX_RESERVE_MAX], int *count)
{
    size_t skip = piece_header_size(outbox);
    size_t room = outbox_room(outbox);
    size_t total = 0;
    *count = 0;
    outbox->reserved_open = outbox_open_room(outbox) > 0 && outbox_open_room(outbox) >= header;
    if (outbox->reserved_open) {
        uint16_t slot = open_slot(outbox);
        total = min_size(outbox_open_room(outbox), max);
        vectors[(*count)++] =
            (struct iovec){payload_of(outbox, slot) + outbox->messages[slot].payload_len, total};
    }
    for (; total < max && *count < OUTBOX_RESERVE_MAX && room > 0; room--) {
        uint16_t slot = reserve_slot(outbox);
        if (slot == OUTBOX_NO_SLOT)
            break;
        size_t n = min_size(AGENT_MESSAGE_STREAM_PAYLOAD_MAX - skip, max - total);
        vectors[(*count)++] = (struct iovec){payload_of(outbox, slot) + skip, n};
        total += n;
    }
    return total;
}

static void write_piece_number(struct outbox *outbox, uint16_t slot)
{
    struct writer out = writer_of(payload_of(outbox, slot), OUTBOX_PIECE_HEADER_SIZE);
    writer_u64be(&out, (*outbox->next_piece)++);
}

void outbox_commit(struct outbox *outbox, size_t len)
{
    size_t skip = piece_header_size(outbox);
    uint16_t slot = open_slot(outbox);
    if (outbox->reserved_open && slot != OUTBOX_NO_SLOT) {
        size_t n = min_size(outbox_open_room(outbox), len);
        outbox->messages[slot].payload_len = (uint16_t) (outbox->messages[slot].payload_len + n);
        len -= n;
    }
    outbox->reserved_open = false;
    while ((slot = first_of(outbox, OUTBOX_RESERVED)) != OUTBOX_NO_SLOT) {
        size_t n = min_size(AGENT_MESSAGE_STREAM_PAYLOAD_MAX - skip, len);
        if (n == 0) {
            release_slot(outbox, slot);
            continue;
        }
        number_slot(outbox, slot, PAYLOAD_OUTPUT);
        outbox->messages[slot].payload_len = (uint16_t) (skip + n);
        if (skip > 0)
            write_piece_number(outbox, slot);
        len -= n;
    }
}

static uint16_t append(struct outbox *outbox, enum payload_type type, size_t len)
{
    uint16_t slot = OUTBOX_NO_SLOT;
    if (outbox_room(outbox) == 0 || len > OUTBOX_LARGE_PAYLOAD_MAX)
        return slot;
    slot = len <= AGENT_MESSAGE_STREAM_PAYLOAD_MAX ? reserve_slot(outbox) : reserve_large_slot(outbox);
    if (slot == OUTBOX_NO_SLOT)
        return slot;
    number_slot(outbox, slot, type);
    outbox->messages[slot].payload_len = (uint16_t) len;
    return slot;
}

bool outbox_append_message(struct outbox *outbox, enum payload_type type, const void *payload, size_t len)
{
    uint16_t slot = append(outbox, type, len);
    if (slot == OUTBOX_NO_SLOT)
        return false;
    if (len > 0)
        memcpy(payload_of(outbox, slot), payload, len);
    return true;
}

void outbox_empty(struct outbox *outbox)
{
    for (int64_t sequence = outbox->oldest; sequence < outbox->next; sequence++) {
        uint16_t entry = *entry_of(outbox, sequence);
        if (entry == 0)
            continue;
        struct outbox_message *message = &outbox->messages[entry - 1];
        if (message->state == OUTBOX_SENDING || message->payload_type != PAYLOAD_OUTPUT)
            continue;
        message->payload_len = 0;
        message->sealed = false;
    }
}

/* ---- connections ---- */

void outbox_connected(struct outbox *outbox, int64_t now_ms)
{
    outbox->suspects_turn++;
    outbox->suspects_turns = 0;
    outbox->suspects_ms = now_ms;
    outbox->hole = outbox->oldest;
    outbox->hole_ms = now_ms;
    outbox->hole_slot = OUTBOX_NO_SLOT;
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
        outbox->messages[slot].silent_resends = 0;
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
            move(outbox, outbox->sending, message->from == OUTBOX_SUSPECT ? OUTBOX_SUSPECT : OUTBOX_LOST);
        outbox->sending = OUTBOX_NO_SLOT;
    }
    lose_all(outbox, OUTBOX_RESTING);
    lose_all(outbox, OUTBOX_RESENT_FLIGHT);
    lose_all(outbox, OUTBOX_FIRST_FLIGHT);
    reset_counts(outbox, OUTBOX_LOST);
    reset_counts(outbox, OUTBOX_SUSPECT);
    /* A connection that died young teaches caution: what is in flight when the next one dies has to be sent
     * again, and must not be all that a connection lasts for. */
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

static int64_t rto_ms(const struct outbox *outbox)
{
    if (outbox->next == 1 && !outbox->retransmission.measured)
        return RETRANSMISSION_RTO_FIRST_MS;
    return retransmission_rto_ms(&outbox->retransmission);
}

static int64_t resend_pause_ms(const struct outbox *outbox)
{
    return retransmission_doubled_ms(rto_ms(outbox), outbox->stalled, OUTBOX_STALLED_PAUSE_MAX_MS);
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

static bool was_overtaken(const struct outbox *outbox, const struct outbox_message *message)
{
    return message->sends > 0 && message->order < outbox->acked_order;
}

static void give_up(struct outbox *outbox, uint16_t slot)
{
    outbox->given_up++;
    forget(outbox, slot);
}

/* The suspect whose turn it is: they take turns, and after each has had its turn comes a pause. */
static uint16_t suspect_in_turn(const struct outbox *outbox)
{
    uint16_t slot = first_of(outbox, OUTBOX_SUSPECT);

    if (slot != OUTBOX_NO_SLOT && outbox->messages[slot].turn == outbox->suspects_turn)
        return OUTBOX_NO_SLOT;
    return slot;
}

static void give_up_suspects(struct outbox *outbox, int64_t now_ms)
{
    uint16_t slot;

    if (first_of(outbox, OUTBOX_SUSPECT) == OUTBOX_NO_SLOT || now_ms < outbox->suspects_ms)
        return;
    if (suspect_in_turn(outbox) == OUTBOX_NO_SLOT)
        outbox->suspects_turn++; /* the pause is over */
    while ((slot = suspect_in_turn(outbox)) != OUTBOX_NO_SLOT && outbox->peer_ignores_duplicates &&
           was_overtaken(outbox, &outbox->messages[slot]) &&
           outbox->messages[slot].silent_resends + 1 >= OUTBOX_GIVE_UP_RESENDS)
        give_up(outbox, slot);
}

/* One of them was resent: when may the next be? */
static void end_suspect_turn(struct outbox *outbox, int64_t now_ms)
{
    outbox->suspects_ms = now_ms + OUTBOX_SUSPECTS_INTERVAL_MS;
    if (suspect_in_turn(outbox) == OUTBOX_NO_SLOT)
        outbox->suspects_ms = now_ms + retransmission_doubled_ms(rto_ms(outbox), outbox->suspects_turns++,
                                                                 OUTBOX_SUSPECTS_PAUSE_MAX_MS);
}

/* Everything lost was resent and nothing answered to what rests: once more,
 * after a longer pause each time. */
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

/* The oldest message from `hole` on that is not acknowledged while a later one is; OUTBOX_NO_SLOT when there
 * is none. */
static uint16_t find_hole(const struct outbox *outbox)
{
    int64_t sequence = outbox->hole > outbox->oldest ? outbox->hole : outbox->oldest;
    while (sequence < outbox->acked_below && *entry_of(outbox, sequence) == 0)
        sequence++;
    return sequence < outbox->acked_below ? (uint16_t) (*entry_of(outbox, sequence) - 1) : OUTBOX_NO_SLOT;
}

static bool has_holes(const struct outbox *outbox)
{
    return outbox->oldest < outbox->acked_below;
}

static bool waits_its_turn(const struct outbox *outbox, uint16_t slot)
{
    return slot != OUTBOX_NO_SLOT &&
           (outbox->messages[slot].state == OUTBOX_LOST || outbox->messages[slot].state == OUTBOX_RESTING ||
            outbox->messages[slot].state == OUTBOX_SUSPECT);
}

/* The peer may be waiting for one message with thousands of later ones in its hands, and no room for more. So
 * one at a time does not wait for its turn: the oldest first, when it was in vain the next, and when one was
 * acknowledged the next at once. */
static void advance_hole(struct outbox *outbox, int64_t now_ms)
{
    if (!has_holes(outbox) || now_ms < outbox->hole_ms)
        return;
    outbox->hole_ms = now_ms + num_min_i64(resend_pause_ms(outbox), HOLE_PAUSE_MAX_MS);
    outbox->hole_slot = find_hole(outbox);
    if (outbox->hole_slot == OUTBOX_NO_SLOT)
        outbox->hole = outbox->oldest;
    else
        outbox->hole = outbox->messages[outbox->hole_slot].sequence + 1;
}

void outbox_tick(struct outbox *outbox, int64_t now_ms)
{
    size_t in_flight = outbox_in_flight(outbox);
    bool stalled = lose_overdue(outbox, OUTBOX_FIRST_FLIGHT, OUTBOX_LOST, rto_ms(outbox), now_ms);

    /* New messages become overdue one after the other: together they are one silence. */
    bool counts = stalled && outbox->stalled == 0;
    if (outbox->peer_ignores_duplicates) {
        /* Silence says nothing: they may have arrived before. Others have their turn first. */
        lose_overdue(outbox, OUTBOX_RESENT_FLIGHT, OUTBOX_RESTING, rto_ms(outbox), now_ms);
    } else if (lose_overdue(outbox, OUTBOX_RESENT_FLIGHT, OUTBOX_LOST, resend_pause_ms(outbox), now_ms)) {
        stalled = counts = true;
    }
    begin_round(outbox, now_ms); /* some may rest from before the peer turned out to be better */
    if (stalled)
        stall(outbox, in_flight);
    if (counts)
        retransmission_back_off(&outbox->retransmission);
    outbox->stalled += counts;
    give_up_suspects(outbox, now_ms);
    advance_hole(outbox, now_ms);
}

bool outbox_wants_ack_probe(const struct outbox *outbox)
{
    static const enum outbox_state under_way[] = {OUTBOX_UNSENT, OUTBOX_SENDING, OUTBOX_FIRST_FLIGHT,
                                                  OUTBOX_RESENT_FLIGHT, OUTBOX_LOST};

    for (size_t i = 0; i < sizeof under_way / sizeof under_way[0]; i++)
        if (first_of(outbox, under_way[i]) != OUTBOX_NO_SLOT)
            return false;
    return outbox->peer_ignores_duplicates && outbox->in_use > 0 && outbox->order > outbox->acked_order;
}

static int64_t due_ms(const struct outbox *outbox, enum outbox_state state, int64_t pause_ms)
{
    uint16_t slot = first_of(outbox, state);

    return slot == OUTBOX_NO_SLOT ? INT64_MAX : outbox->messages[slot].sent_ms + pause_ms;
}

int64_t outbox_deadline(const struct outbox *outbox, int64_t now_ms)
{
    int64_t first = due_ms(outbox, OUTBOX_FIRST_FLIGHT, rto_ms(outbox));
    int64_t deadline = due_ms(outbox, OUTBOX_RESENT_FLIGHT,
                              outbox->peer_ignores_duplicates ? rto_ms(outbox) : resend_pause_ms(outbox));

    if (first < deadline)
        deadline = first;
    if (first_of(outbox, OUTBOX_RESTING) != OUTBOX_NO_SLOT &&
        first_of(outbox, OUTBOX_LOST) == OUTBOX_NO_SLOT && outbox->round_ms < deadline)
        deadline = outbox->round_ms;
    if (first_of(outbox, OUTBOX_SUSPECT) != OUTBOX_NO_SLOT && outbox->suspects_ms > now_ms &&
        outbox->suspects_ms < deadline)
        deadline = outbox->suspects_ms;
    if (has_holes(outbox) && outbox->hole_ms > now_ms)
        deadline = num_min_i64(deadline, outbox->hole_ms);
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
    if (waits_its_turn(outbox, outbox->hole_slot))
        return outbox->hole_slot;
    /* Resends that the peer may ignore do not keep new messages waiting: only these can show that it does. */
    if (unsent != OUTBOX_NO_SLOT &&
        (outbox->messages[unsent].sequence >= new_below || outbox->lists[OUTBOX_FIRST_FLIGHT].count >= limit))
        unsent = OUTBOX_NO_SLOT;
    if (unsent != OUTBOX_NO_SLOT && outbox->peer_ignores_duplicates && outbox->turn >= RESENDS_PER_NEW)
        return unsent;
    if (lost != OUTBOX_NO_SLOT && outbox_in_flight(outbox) < limit)
        return lost;
    uint16_t suspect = now_ms >= outbox->suspects_ms ? suspect_in_turn(outbox) : OUTBOX_NO_SLOT;
    return suspect != OUTBOX_NO_SLOT ? suspect : unsent;
}

/* Where the frame begins, and how long its websocket header is. */
static uint8_t *frame_of(const struct outbox *outbox, uint16_t slot, size_t *header_size)
{
    size_t len = AGENT_MESSAGE_HEADER_SIZE + (size_t) outbox->messages[slot].payload_len;

    *header_size = websocket_header_size(len, true);
    return payload_of(outbox, slot) - AGENT_MESSAGE_HEADER_SIZE - *header_size;
}

static void seal(struct outbox *outbox, uint16_t slot, uint64_t created_unix_ms, struct prng *prng)
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

    prng_fill(prng, random, sizeof random);
    uuid_v4(fields.id, random);
    agent_message_write_header(header, &fields);
    prng_fill(prng, message->mask, sizeof message->mask);
    websocket_seal(header, AGENT_MESSAGE_HEADER_SIZE + (size_t) message->payload_len, WEBSOCKET_BINARY,
                   message->mask);
    message->sealed = true;
}

/* The frame is masked in place already: XOR with both masks takes one off and puts the other on. */
static void mask_anew(struct outbox *outbox, uint16_t slot, struct prng *prng)
{
    struct outbox_message *message = &outbox->messages[slot];
    size_t header_size;
    uint8_t *content = frame_of(outbox, slot, &header_size) + header_size;
    uint8_t mask[WEBSOCKET_MASK_SIZE], both[WEBSOCKET_MASK_SIZE];

    prng_fill(prng, mask, sizeof mask);
    for (size_t i = 0; i < sizeof mask; i++)
        both[i] = mask[i] ^ message->mask[i];
    websocket_mask(content, AGENT_MESSAGE_HEADER_SIZE + (size_t) message->payload_len, both, 0);
    memcpy(content - sizeof mask, mask, sizeof mask);
    memcpy(message->mask, mask, sizeof mask);
}

const uint8_t *outbox_begin(struct outbox *outbox, uint16_t slot, uint64_t created_unix_ms, struct prng *prng,
                            size_t *len)
{
    struct outbox_message *message = &outbox->messages[slot];
    bool resend = message->state != OUTBOX_UNSENT;
    size_t header_size;

    if (message->sealed)
        mask_anew(outbox, slot, prng);
    else
        seal(outbox, slot, created_unix_ms, prng);
    bool again = message->state == OUTBOX_SUSPECT && was_overtaken(outbox, message);
    bool out_of_turn = slot == outbox->hole_slot;
    if (again && !out_of_turn)
        message->silent_resends++;
    message->from = message->state;
    move(outbox, slot, OUTBOX_SENDING);
    outbox->sending = slot;
    outbox->order++;
    if (!again || !out_of_turn) /* else it stays overtaken */
        message->order = outbox->order;
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
    } else if (message->from == OUTBOX_SUSPECT) {
        if (slot != outbox->hole_slot)
            message->turn = outbox->suspects_turn;
        move(outbox, slot, OUTBOX_SUSPECT);
        if (slot != outbox->hole_slot)
            end_suspect_turn(outbox, now_ms);
    } else {
        move(outbox, slot, message->from == OUTBOX_UNSENT ? OUTBOX_FIRST_FLIGHT : OUTBOX_RESENT_FLIGHT);
    }
    if (slot == outbox->hole_slot)
        outbox->hole_slot = OUTBOX_NO_SLOT;
}

/* ---- acknowledgements ---- */

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

/* A message first sent after these resends was acknowledged, they were not: the peer has had them before, or
 * they are lost again, and we can't tell which. */
static void suspect_overtaken(struct outbox *outbox, enum outbox_state state, int64_t now_ms)
{
    uint16_t slot;

    while ((slot = first_of(outbox, state)) != OUTBOX_NO_SLOT &&
           outbox->messages[slot].order < outbox->acked_order &&
           outbox->lists[OUTBOX_SUSPECT].count < OUTBOX_SUSPECTS_MAX) {
        if (outbox->lists[OUTBOX_SUSPECT].count == 0) {
            outbox->suspects_turns = 0;
            outbox->suspects_ms = now_ms + rto_ms(outbox);
        }
        outbox->messages[slot].turn = outbox->suspects_turn;
        move(outbox, slot, OUTBOX_SUSPECT);
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
    bool sent_once =
        message->from == OUTBOX_UNSENT && message->sends == 1; /* on this connection; it may be overdue */
    if (sent_once && message->order > outbox->acked_order)
        outbox->acked_order = message->order;
    if (sent_once &&
        message->state != OUTBOX_SENDING) /* of one that is still being sent, sent_ms is not known */
        retransmission_measure(&outbox->retransmission, now_ms - message->sent_ms, now_ms);
    else if (!outbox->retransmission.measured && outbox->stalled > 0)
        retransmission_at_least(&outbox->retransmission, resend_pause_ms(outbox));
    outbox->acknowledged++;
    outbox->stalled = 0;
    if (sequence == outbox->hole - 1)
        outbox->hole_ms = now_ms;
    if (sequence >= outbox->acked_below)
        outbox->acked_below = sequence + 1;
    forget(outbox, slot);
    allow_more_flight(outbox);
    if (!outbox->peer_ignores_duplicates)
        return true;
    suspect_overtaken(outbox, OUTBOX_RESTING, now_ms);
    suspect_overtaken(outbox, OUTBOX_RESENT_FLIGHT, now_ms);
    /* Had the peer waited for the oldest, it would have had to keep all those later ones. */
    while ((size_t) (outbox->next - outbox->oldest) > outbox->in_use + OUTBOX_GIVE_UP_LATER)
        give_up(outbox, (uint16_t) (*entry_of(outbox, outbox->oldest) - 1));
    return true;
}

bool outbox_acknowledged(const struct outbox *outbox, int64_t sequence)
{
    return sequence < outbox->oldest || (sequence < outbox->next && *entry_of(outbox, sequence) == 0);
}

/* ---- pieces ---- */

/* The oldest unacknowledged Output message; OUTBOX_NO_SLOT when there is none. */
static uint16_t oldest_output(const struct outbox *outbox)
{
    for (int64_t sequence = outbox->oldest; sequence < outbox->next; sequence++) {
        uint16_t entry = *entry_of(outbox, sequence);
        if (entry != 0 && outbox->messages[entry - 1].payload_type == PAYLOAD_OUTPUT)
            return (uint16_t) (entry - 1);
    }
    return OUTBOX_NO_SLOT;
}

uint64_t outbox_oldest_piece(const struct outbox *outbox)
{
    uint16_t slot = oldest_output(outbox);
    if (slot == OUTBOX_NO_SLOT)
        return UINT64_MAX;
    uint64_t piece = piece_number(outbox, slot);
    if (outbox->oldest < outbox->moved_below && outbox->moved_lowest_piece < piece)
        return outbox->moved_lowest_piece;
    return piece;
}

bool outbox_move_piece(struct outbox *from, struct outbox *to, bool *moved)
{
    uint16_t slot = oldest_output(from);
    *moved = false;
    if (slot == OUTBOX_NO_SLOT)
        return true;
    const struct outbox_message *message = &from->messages[slot];
    uint64_t piece = piece_number(from, slot);
    uint16_t copy = append(to, PAYLOAD_OUTPUT, message->payload_len);
    if (copy == OUTBOX_NO_SLOT)
        return false;
    memcpy(payload_of(to, copy), payload_of(from, slot), message->payload_len);
    if (message->sealed)
        websocket_mask(payload_of(to, copy), message->payload_len, message->mask, AGENT_MESSAGE_HEADER_SIZE);
    if (to->oldest >= to->moved_below || piece < to->moved_lowest_piece)
        to->moved_lowest_piece = piece;
    to->moved_below = to->next;
    forget(from, slot);
    *moved = true;
    return true;
}
