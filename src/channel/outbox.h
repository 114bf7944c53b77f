/*
 * outbox: the sending half of a data channel. It numbers messages, keeps each until it is acknowledged, and
 * decides which one is transmitted next and when one is resent. The whole frame (websocket header, agent
 * message header, payload) is written into one block of the pool, so what is sent, and sent again, is never
 * copied.
 *
 * A message is in one state, and in the list of that state:
 *
 *     UNSENT          begin ──► SENDING
 *     SENDING         its frame is being taken byte by byte; end ──► FIRST_FLIGHT, RESENT_FLIGHT, or SUSPECT
 *     FIRST_FLIGHT    overdue ──► LOST
 *     RESENT_FLIGHT   overdue ──► LOST, or RESTING if the peer may be ignoring it; suspected ──► SUSPECT
 *     RESTING         all that was LOST has been resent, and the round's pause is over ──► LOST
 *                     suspected ──► SUSPECT
 *     LOST            begin ──► SENDING
 *     SUSPECT         its turn ──► SENDING
 *                     ten resends without an answer, or 10,000 later ones acknowledged ──► free
 *     all but UNSENT  acknowledged ──► free (SENDING: when the frame is out)
 *                     connection lost ──► LOST, but SUSPECT stays
 *
 * Suspected spurious retransmission (protocol.md, pitfall 1): AWS's client does not acknowledge what it has
 * processed before. A message that was resent on this connection, while one first sent after that resend has
 * been acknowledged, has probably arrived long ago. It no longer counts against the window.
 *
 * Holes. A peer that takes messages in order keeps the later ones, and may have no room for more. So each RTO
 * (1 s at most) one message that is LOST, RESTING or SUSPECT, with a later one acknowledged, is resent out of
 * turn: the oldest, then the next, and the next at once when one was acknowledged.
 *
 * Every list is in order of transmission, and every step is O(1): an acknowledgement finds its message by the
 * number.
 *
 * Bounds. OUTBOX_WINDOW messages may wait for acknowledgement: at 1 ms of RTT 100 MB/s need 100, at 200 ms
 * the paced 960 a second need 192. OUTBOX_SUSPECTS_MAX do not count. OUTBOX_FRESH more may be new on this
 * connection even when the window is full, so that something can always show what is a suspect: without that,
 * a window full of messages that AWS's client has processed, their acknowledgements lost, would be the end.
 * Blocks come from the pool, which may have fewer.
 *
 * Pieces. When a tunnel has several lanes, each Output message begins with the number of its piece
 * (outbox_number_pieces). Pieces of a lane that is over are taken out with outbox_pop_piece and sent on
 * another.
 */
#ifndef FUMIDAI_CHANNEL_OUTBOX_H
#define FUMIDAI_CHANNEL_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/prng.h"
#include "channel/pool.h"
#include "channel/retransmission.h"
#include "wire/agent_message.h"
#include "wire/websocket.h"

enum {
    OUTBOX_WINDOW = 2048,       /* 100 MB/s need 100 at 1 ms of RTT, 960 a second need 192 at 200 ms */
    OUTBOX_SUSPECTS_MAX = 1984, /* makes 4,096 of all together */
    OUTBOX_FRESH = 64, /* new ones on a connection while the window is full: they show what is a suspect */
    OUTBOX_MESSAGES = OUTBOX_WINDOW + OUTBOX_SUSPECTS_MAX + OUTBOX_FRESH,
    OUTBOX_LARGE = 2, /* slots for whole messages that are longer: HandshakeRequest, HandshakeComplete */
    OUTBOX_LARGE_PAYLOAD_MAX = 4096, /* both are at most 1,024 bytes as fumidai writes them */
    OUTBOX_SLOT_HEADROOM = 8,        /* a masked websocket header for up to 65,535 bytes */
    OUTBOX_LARGE_SLOT_SIZE = OUTBOX_SLOT_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + OUTBOX_LARGE_PAYLOAD_MAX,
    /* Numbers between the oldest unacknowledged and the next: a power of two above
     * OUTBOX_GIVE_UP_LATER + OUTBOX_SLOTS. */
    OUTBOX_SPAN = 16384,
    OUTBOX_GIVE_UP_LATER = 10000,     /* AWS's client keeps no more than this many early messages */
    OUTBOX_GIVE_UP_RESENDS = 10,      /* protocol.md, pitfall 1 */
    OUTBOX_SUSPECTS_INTERVAL_MS = 10, /* they are resent one by one, at most a tenth of the default rate */
    OUTBOX_SUSPECTS_PAUSE_MAX_MS = 60000, /* between two resends of one, doubling until then */
    OUTBOX_FLIGHT_MIN = 32,               /* messages in flight after a connection that died young */
    OUTBOX_FLIGHT_STALLED = 8,            /* when nothing came back for a whole RTO */
    OUTBOX_STALLED_PAUSE_MAX_MS =
        4000,                     /* between rounds, doubling from RTO while nothing at all comes back */
    OUTBOX_PIECE_HEADER_SIZE = 8, /* the piece's number */
    OUTBOX_RESERVE_MAX =
        18 /* messages of one frame of 16 KiB and its header that begins and ends in the middle of one */
};

enum outbox_state {
    OUTBOX_FREE,
    OUTBOX_RESERVED, /* has a block, not yet a number */
    OUTBOX_UNSENT,
    OUTBOX_SENDING,
    OUTBOX_FIRST_FLIGHT,
    OUTBOX_RESENT_FLIGHT,
    OUTBOX_LOST,
    OUTBOX_RESTING,
    OUTBOX_SUSPECT,
    OUTBOX_STATE_COUNT
};

struct outbox_message {
    int64_t sequence;
    int64_t sent_ms;   /* end of the last transmission */
    uint64_t order;    /* number of the last transmission */
    int32_t block;     /* of the pool; large slots have memory of their own */
    uint16_t previous; /* neighbours in the list of its state, or the free list */
    uint16_t next;
    uint16_t payload_len;
    uint8_t payload_type;
    uint8_t state;          /* enum outbox_state */
    uint8_t from;           /* SENDING: the state before */
    uint8_t sends;          /* transmissions on this connection, saturating */
    uint8_t turn;           /* SUSPECT: the last round it was resent in, modulo 256 */
    uint8_t silent_resends; /* SUSPECT: resends on this connection that later messages overtook */
    bool sealed;            /* the frame is written: nothing can be added */
    bool done;              /* SENDING: free it at the end */
    uint8_t mask[WEBSOCKET_MASK_SIZE];
};

enum {
    OUTBOX_SLOTS = OUTBOX_MESSAGES + OUTBOX_LARGE,
    OUTBOX_MEMORY_SIZE = OUTBOX_LARGE * OUTBOX_LARGE_SLOT_SIZE +
                         OUTBOX_SLOTS * (int) sizeof(struct outbox_message) +
                         OUTBOX_SPAN * (int) sizeof(uint16_t)
};

struct outbox_list {
    uint16_t first;
    uint16_t last;
    uint16_t count;
};

struct outbox {
    struct pool_user *user;
    uint8_t *large;
    struct outbox_message *messages;
    uint16_t *by_sequence; /* OUTBOX_SPAN: 1 + slot, 0 when acknowledged */
    struct outbox_list lists[OUTBOX_STATE_COUNT];
    uint16_t untouched; /* slots from here on never were used */
    uint16_t sending;   /* slot whose frame is being taken, or OUTBOX_NO_SLOT */
    bool peer_ignores_duplicates;
    bool reserved_open; /* outbox_reserve began with the last unsent message */
    enum agent_message_type type;
    uint64_t *next_piece; /* null: Output without piece numbers */
    int64_t oldest;       /* lowest number not acknowledged; equals `next` when all are */
    int64_t next;
    size_t in_use;        /* messages not acknowledged, in any state */
    uint64_t order;       /* transmissions so far */
    uint64_t acked_order; /* highest order of a message sent once on this connection and acknowledged */
    uint32_t flight_limit;
    uint32_t flight_threshold; /* above it the limit grows slowly */
    uint32_t flight_credit;    /* acknowledgements towards the next slow step */
    uint32_t stalled;          /* pauses in a row without anything coming back */
    int64_t round_ms;          /* when what rests may be resent */
    uint8_t suspects_turn;     /* number of the round in which suspects are resent, modulo 256 */
    uint32_t suspects_turns;   /* rounds on this connection */
    int64_t suspects_ms;       /* when the next of them may be resent */
    int64_t hole;              /* the number behind the last message that was resent out of turn */
    int64_t hole_ms;           /* when the next may be */
    uint16_t hole_slot;        /* it is to be resent now, or OUTBOX_NO_SLOT */
    int64_t acked_below;       /* 1 + the highest number acknowledged */
    uint32_t turn;             /* resends since the last new message */
    uint64_t acked_on_connection;
    uint32_t fresh_allowance;
    struct retransmission retransmission;
    uint64_t moved_lowest_piece; /* lowest piece that came here from another lane; see outbox_oldest_piece */
    int64_t moved_below;         /* it may be unacknowledged while `oldest` is below this number */
    uint64_t given_up;           /* counters for data_channel_stats */
    uint64_t sent;
    uint64_t resent;
    uint64_t acknowledged;
};

#define OUTBOX_NO_SLOT ((uint16_t) 0xffff)

void outbox_init(struct outbox *outbox, void *memory, struct pool_user *user, enum agent_message_type type,
                 bool peer_ignores_duplicates);
void outbox_release(struct outbox *outbox); /* gives all blocks back */

/* From here on Output messages are pieces; *next is the number of the next one,
 * shared by the lanes of a tunnel. */
void outbox_number_pieces(struct outbox *outbox, uint64_t *next);

/* How many more messages of normal size may be appended. */
size_t outbox_room(const struct outbox *outbox);
/* How many bytes of Output the last unsent message can still take. */
size_t outbox_open_room(const struct outbox *outbox);
/* Room for up to `max` bytes of Output, in *count vectors (at most OUTBOX_RESERVE_MAX): first what the last
 * unsent message can take, unless that is less than `header` bytes, then new messages. Returns how many bytes
 * there are. Nothing is sent of it until outbox_commit, which must be the next call; it takes the first len
 * bytes and gives the rest back. */
size_t outbox_reserve(struct outbox *outbox, size_t header, size_t max,
                      struct iovec vectors[OUTBOX_RESERVE_MAX], int *count);
void outbox_commit(struct outbox *outbox, size_t len);
/* A message of its own. False without room. */
bool outbox_append_message(struct outbox *outbox, enum payload_type type, const void *payload, size_t len);

/* Output that is not acknowledged goes, or goes again, without its bytes; a frame that was begun is finished.
 * Not for pieces. */
void outbox_empty(struct outbox *outbox);

void outbox_connected(struct outbox *outbox, int64_t now_ms);
void outbox_disconnected(struct outbox *outbox);

/* Everything was sent, what was resent is unanswered, and nothing newer is on its way whose acknowledgement
 * could show that the peer has it (pitfall 1). An acknowledgement of something new, of no meaning, would end
 * that. */
bool outbox_wants_ack_probe(const struct outbox *outbox);

/* Moves what is overdue to LOST. Call before asking what to send. */
void outbox_tick(struct outbox *outbox, int64_t now_ms);
/* When something more will be overdue or due; what is already (it waits for the pacer
 * or the socket) does not count. */
int64_t outbox_deadline(const struct outbox *outbox, int64_t now_ms);

/* What would be transmitted next with at most flight_max in flight, and of new messages only those with
 * numbers below `new_below`; OUTBOX_NO_SLOT when nothing. */
uint16_t outbox_choose(const struct outbox *outbox, int64_t now_ms, uint32_t flight_max, int64_t new_below);
/* Seals (or re-masks) and begins it; the frame is *len bytes. outbox_end when the
 * connection has taken them all. */
const uint8_t *outbox_begin(struct outbox *outbox, uint16_t slot, uint64_t created_unix_ms, struct prng *prng,
                            size_t *len);
void outbox_end(struct outbox *outbox, int64_t now_ms);

/* False for a number that is not in flight: never sent, or acknowledged before. */
bool outbox_acknowledge(struct outbox *outbox, int64_t sequence, int64_t now_ms);
bool outbox_acknowledged(const struct outbox *outbox, int64_t sequence);

size_t outbox_counted(const struct outbox *outbox); /* unacknowledged, suspects left out */
/* Sent on this connection, neither acknowledged nor overdue. */
size_t outbox_in_flight(const struct outbox *outbox);

/* A lower bound of the numbers of pieces that are not acknowledged; UINT64_MAX when none is here. */
uint64_t outbox_oldest_piece(const struct outbox *outbox);
/* Moves the oldest unacknowledged piece of an outbox whose connection is gone for good to the end of another.
 * False when `to` has no room; true with *moved false when there is none left. */
bool outbox_move_piece(struct outbox *from, struct outbox *to, bool *moved);

#endif
