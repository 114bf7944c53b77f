/*
 * outbox: the sending half of a data channel: numbers messages, keeps each until it is acknowledged, decides
 * which is transmitted next and when one is resent. It writes the whole frame (websocket header, agent
 * message header, payload) into the message's slot, so what is sent, and sent again, is never copied.
 *
 * A message is in one state, and in the list of that state; what leads out of it:
 *
 *   UNSENT         begin ──► SENDING
 *   SENDING        (its frame is being taken byte by byte) end ──► FIRST_FLIGHT, or RESENT_FLIGHT, or back to PASSED_OVER
 *   FIRST_FLIGHT   overdue ──► LOST
 *   RESENT_FLIGHT  overdue ──► LOST, or RESTING if the peer may be ignoring it; passed over ──► PASSED_OVER
 *   RESTING        all that was LOST has been resent and the round's pause is over ──► LOST; passed over ──► PASSED_OVER
 *   LOST           begin ──► SENDING
 *   PASSED_OVER    its turn ──► SENDING; ten resends passed over, or 10,000 later ones acknowledged ──► free
 *   all but UNSENT acknowledged ──► free (SENDING: when the frame is out); connection lost ──► LOST, PASSED_OVER stays
 *
 * Passed over: a message first sent after the resend was acknowledged, the resend was not.
 *
 * Every list is in order of transmission, every step is O(1): acknowledgements find their message by its
 * number.
 *
 * Bounds: OUTBOX_MESSAGES slots. OUTBOX_WINDOW may wait for acknowledgement: at 1 ms of RTT 100 MB/s need
 * 100, at 200 ms the paced 960 a second need 192. OUTBOX_PASSED_OVER_MAX do not count. OUTBOX_FRESH more may
 * be new on this connection even when the window is full, so that something can always show what was passed
 * over (without that a window full of messages that AWS's client had processed, their acknowledgements lost,
 * would be the end).
 */
#ifndef FUMIDAI_CHANNEL_OUTBOX_H
#define FUMIDAI_CHANNEL_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/prng.h"
#include "wire/agent_message.h"
#include "wire/websocket.h"

enum {
    OUTBOX_WINDOW = 2048,
    OUTBOX_PASSED_OVER_MAX = 1984,
    OUTBOX_FRESH = 64,
    OUTBOX_MESSAGES = OUTBOX_WINDOW + OUTBOX_PASSED_OVER_MAX + OUTBOX_FRESH,
    OUTBOX_LARGE = 2, /* slots for whole messages that are longer: HandshakeRequest, HandshakeComplete */
    OUTBOX_LARGE_PAYLOAD_MAX = 4096,
    OUTBOX_SLOT_HEADROOM = 8, /* a masked websocket header for up to 65,535 bytes */
    OUTBOX_SLOT_SIZE = OUTBOX_SLOT_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + AGENT_MESSAGE_STREAM_PAYLOAD_MAX,
    OUTBOX_LARGE_SLOT_SIZE = OUTBOX_SLOT_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + OUTBOX_LARGE_PAYLOAD_MAX,
    OUTBOX_SPAN = 16384, /* numbers between the oldest unacknowledged and the next; a power of two above
                            OUTBOX_GIVE_UP_LATER + OUTBOX_MESSAGES + OUTBOX_LARGE */
    OUTBOX_GIVE_UP_LATER = 10000,        /* AWS's client keeps no more than this many early messages */
    OUTBOX_GIVE_UP_RESENDS = 10,         /* pitfall 1 */
    OUTBOX_PASSED_OVER_INTERVAL_MS = 10, /* they are resent one by one, at most a tenth of the default rate */
    OUTBOX_FLIGHT_MIN = 32,              /* messages in flight after a connection that died young */
    OUTBOX_FLIGHT_STALLED = 8,           /* when nothing came back for a whole RTO */
    OUTBOX_RTT_START_MS = 100,
    OUTBOX_RTO_START_MS = 200,
    OUTBOX_RTO_GRANULARITY_MS = 10,
    OUTBOX_RTO_MAX_MS = 10000,
    OUTBOX_STALLED_PAUSE_MAX_MS =
        4000, /* between rounds, doubling from RTO while nothing at all comes back */
    OUTBOX_PASSED_OVER_PAUSE_MAX_MS = 60000
};

enum outbox_state {
    OUTBOX_FREE,
    OUTBOX_UNSENT,
    OUTBOX_SENDING,
    OUTBOX_FIRST_FLIGHT,
    OUTBOX_RESENT_FLIGHT,
    OUTBOX_LOST,
    OUTBOX_RESTING,
    OUTBOX_PASSED_OVER,
    OUTBOX_STATE_COUNT
};

struct outbox_message {
    int64_t sequence;
    int64_t sent_ms;   /* end of the last transmission */
    uint64_t order;    /* number of the last transmission */
    uint16_t previous; /* neighbours in the list of its state, or the free list */
    uint16_t next;
    uint16_t payload_len;
    uint8_t payload_type;
    uint8_t state;  /* enum outbox_state */
    uint8_t from;   /* SENDING: the state before */
    uint8_t sends;  /* transmissions on this connection, saturating */
    uint8_t turn;   /* PASSED_OVER: the last turn it had, outbox.passed_turn then */
    uint8_t passes; /* resends on this connection that were passed over */
    bool sealed;    /* the frame is written: nothing can be added */
    bool done;      /* SENDING: free it at the end */
    uint8_t mask[WEBSOCKET_MASK_SIZE];
};

enum {
    OUTBOX_SLOTS = OUTBOX_MESSAGES + OUTBOX_LARGE,
    OUTBOX_MEMORY_SIZE = OUTBOX_MESSAGES * OUTBOX_SLOT_SIZE + OUTBOX_LARGE * OUTBOX_LARGE_SLOT_SIZE +
                         OUTBOX_SLOTS * (int) sizeof(struct outbox_message) +
                         OUTBOX_SPAN * (int) sizeof(uint16_t)
};

struct outbox_list {
    uint16_t first;
    uint16_t last;
    uint16_t count;
};

struct outbox {
    uint8_t *frames;
    struct outbox_message *messages;
    uint16_t *by_sequence; /* OUTBOX_SPAN: 1 + slot, 0 when acknowledged */
    struct outbox_list lists[OUTBOX_STATE_COUNT];
    uint16_t untouched; /* slots from here on never were used */
    uint16_t sending;   /* slot whose frame is being taken, or OUTBOX_NO_SLOT */
    bool peer_ignores_old;
    enum agent_message_type type;
    int64_t oldest; /* lowest number not acknowledged; equals `next` when all are */
    int64_t next;
    size_t in_use;        /* messages not acknowledged, in any state */
    uint64_t order;       /* transmissions so far */
    uint64_t acked_order; /* highest order of a message sent once on this connection and acknowledged */
    uint32_t flight_limit;
    uint32_t flight_threshold; /* above it the limit grows slowly */
    uint32_t flight_credit;    /* acknowledgements towards the next slow step */
    uint32_t stalled;          /* pauses in a row without anything coming back */
    int64_t round_ms;          /* when what rests may be resent */
    uint8_t passed_turn;       /* number of the round in which those passed over are resent, modulo 256 */
    uint32_t passed_turns;     /* rounds on this connection */
    int64_t passed_ms;         /* when the next of them may be resent */
    uint32_t turn;             /* resends since the last new message */
    uint64_t acked_on_connection;
    uint32_t fresh_allowance;
    int64_t rtt_us;
    int64_t rtt_variation_us;
    int64_t rto_ms;
    int64_t measure_ms; /* not before: the next measurement */
    uint64_t given_up;  /* counters for data_channel_stats */
    uint64_t sent;
    uint64_t resent;
    uint64_t acknowledged;
};

#define OUTBOX_NO_SLOT ((uint16_t) 0xffff)

void outbox_init(struct outbox *outbox, void *memory, enum agent_message_type type, bool peer_ignores_old);

/* How many more messages of normal size may be appended. */
size_t outbox_room(const struct outbox *outbox);
/* How many bytes of Output the last unsent message can still take. */
size_t outbox_open_room(const struct outbox *outbox);
/* Room in the last unsent message of this payload type, if it can still take some, else in a new one; null
 * when there is none. Then outbox_append_ack says how much was put there. */
uint8_t *outbox_append_buf(struct outbox *outbox, enum payload_type type, size_t *room);
void outbox_append_ack(struct outbox *outbox, enum payload_type type, size_t len);
/* A message of its own. False without room. */
bool outbox_append_message(struct outbox *outbox, enum payload_type type, const void *payload, size_t len);

void outbox_connected(struct outbox *outbox, int64_t now_ms);
void outbox_disconnected(struct outbox *outbox);

/* Everything was sent, what was resent is unanswered, and nothing newer is on its way whose acknowledgement could show that
 * the peer has it (pitfall 1). Something new, of no meaning, would end that. */
bool outbox_wants_witness(const struct outbox *outbox);

/* Moves what is overdue to LOST. Call before asking what to send. */
void outbox_tick(struct outbox *outbox, int64_t now_ms);
/* When something more will be overdue or due; what is already (it waits for the pacer or the socket) does not
 * count. */
int64_t outbox_deadline(const struct outbox *outbox, int64_t now_ms);

/* What would be transmitted next with at most flight_max in flight, and of new messages only those with numbers below
 * `new_below`; OUTBOX_NO_SLOT when nothing. */
uint16_t outbox_choose(const struct outbox *outbox, int64_t now_ms, uint32_t flight_max, int64_t new_below);
/* Seals (or re-masks) and begins it; the frame is *len bytes. outbox_end when the connection has taken them
 * all. */
const uint8_t *outbox_begin(struct outbox *outbox, uint16_t slot, uint64_t created_unix_ms,
                            struct prng *generator, size_t *len);
void outbox_end(struct outbox *outbox, int64_t now_ms);

/* False for a number that is not in flight: never sent, or acknowledged before. */
bool outbox_acknowledge(struct outbox *outbox, int64_t sequence, int64_t now_ms);

size_t outbox_counted(const struct outbox *outbox); /* unacknowledged that nothing was passed over */
size_t
outbox_in_flight(const struct outbox *outbox); /* sent on this connection, neither acknowledged nor overdue */
bool outbox_acknowledged(const struct outbox *outbox, int64_t sequence);

#endif
