/*
 * tunnel: streams over one lane or more, in either role. What every session of fumidai runs on, in the task
 * and on a runner.
 *
 *                          endpoints (sockets, of the caller)         steps, one at a time:
 *              OPEN WRITE SHUT CLOSE RESET │ ▲ READ                   tunnel_next, tunnel_done
 *                                          ▼ │
 *     ┌──────────── streams ─── turns ─── held bytes ───────────┐     news of endpoints: tunnel_notify
 *     │   smux frames, or the bytes of the one basic connection │
 *     └───────┬───────────────────┬───────────────────┬─────────┘     bytes: tunnel_lane_in_buf,
 *           lane 0              lane 1              lane n                   tunnel_lane_out_buf
 *             └─────────────── gateway connections ───┘
 *
 * The caller's turn (run/turn has it): tunnel_tick; bytes into lanes while they want input; tunnel_next until
 * NONE, with tunnel_done after each step; bytes out of lanes until there are none; tunnel_deadline says when
 * the next turn is, if nothing happens before. Each call of tunnel_next does a bounded amount of work; BUSY
 * says that it did some and has more.
 *
 * Streams
 * - Agent: a SYN opens a stream, the step OPEN its endpoint. Client: tunnel_open, and the endpoint is there
 *   already.
 * - The peer's FIN: everything it sent before reaches the endpoint first; then SHUT, or CLOSE when both
 *   directions are over. A peer that does not keep the directions apart (all of AWS's) is answered with FIN,
 *   and what the endpoint still says is dropped: nobody would read it, and an aborted query must not use up
 *   the rate.
 * - The endpoint's end: FIN after its last byte. A client of AWS's agent waits TUNNEL_HALF_CLOSE_MS of quiet
 *   first, since that agent closes a stream whole, and the answer to a half-closed request would be lost
 *   (pitfall 16).
 * - An endpoint that can't be opened: AWS's clients are told by flag ConnectToPortError and FIN, ours by
 *   REFUSED with the reason; REFUSED also says that a connection broke, so that the other end resets its own
 *   instead of taking it for a proper end.
 * - Frames of streams that are not here are dropped: they were sent before the peer knew. A SYN of a stream
 *   that is here changes nothing. A SYN for which there is no slot is refused at once; until that is said,
 *   nothing more is taken in.
 *
 * Basic sessions have one stream without frames. LocalPortForwarding: when its target has closed, the next
 * data opens it anew; flag DisconnectToPort closes it. Other types (ssh through a proxy command): the
 * target's end is the session's end. There the client's end is, too, after TUNNEL_HALF_CLOSE_MS of quiet: no
 * flag says "no more input", and the answer to the last may be under way.
 *
 * Slow endpoints. What one does not take is held (tunnel/held). When that is full, no more input is taken,
 * the data channel's own store fills and TCP pushes back. If an endpoint has taken nothing for
 * TUNNEL_STALL_MS while others have to wait for it, its stream is reset (pitfall 15); if nobody waits, it may
 * take TUNNEL_STUCK_MS: that the session has ended may stand behind what is not read. When held bytes of all
 * are full, the one to reset is not the stream whose turn it is but the one that has taken nothing for the
 * longest time.
 *
 * Pieces. Two fumidai ends may use several sessions as one tunnel: what is sent goes over all lanes, in
 * pieces with numbers of their own, so one connection gets n times the service's limit for a session, and a
 * lane that is over loses nothing: its unacknowledged pieces go over the others. At most TUNNEL_PIECES_SPAN
 * numbers lie between the oldest unacknowledged piece and the next, so whatever the order in which they come,
 * the receiver has room for the one it waits for.
 *
 * A lane joins a tunnel with the secret that its agent gave to the first lane. The engine only reads it (step
 * JOIN); the caller looks for the tunnel, checks that owner and document are the same, and moves the lane
 * with tunnel_move_lane.
 *
 * Destinations. Where both ends agreed, a stream may name its own target: the client is asked for it (step
 * DESTINATION), the agent gets it with OPEN. The dial policy holds for each.
 *
 * Memory is the caller's: TUNNEL_MEMORY_SIZE for the tunnel, LANE_MEMORY_SIZE and a struct lane for each
 * lane, blocks of the pool. Nothing else grows, whatever the peer does.
 */
#ifndef FUMIDAI_TUNNEL_TUNNEL_H
#define FUMIDAI_TUNNEL_TUNNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "channel/inbox.h"
#include "channel/outbox.h"
#include "tunnel/document.h"
#include "tunnel/lane.h"
#include "tunnel/streams.h"
#include "wire/smux.h"

enum {
    TUNNEL_LANES_MAX = 16,     /* ten of them reached 10 MB/s on AWS (protocol.md, section 10) */
    TUNNEL_PIECES_SPAN = 4096, /* well below INBOX_MESSAGES */
    TUNNEL_VECTORS_MAX = OUTBOX_RESERVE_MAX,
    TUNNEL_WRITE_MAX = 64 * 1024, /* bytes of one WRITE */
    TUNNEL_FRAMES_PER_STEP = 64,  /* taken in by one call of tunnel_next without a step */
    TUNNEL_STALL_MS = 30 * 1000,  /* a target that only pauses (a checkpoint, a slow disk) resumes sooner */
    TUNNEL_STALL_CHECK_MS = 1000, /* how soon to look again whether anybody waits */
    TUNNEL_STUCK_MS =
        20 * 60 * 1000, /* the service's idle time: a session where nothing moves is over by then */
    TUNNEL_HALF_CLOSE_MS =
        10 * 1000, /* as long as a query may think about its answer before we give its connection up */
    TUNNEL_MEMORY_SIZE = STREAMS_MEMORY_SIZE + INBOX_MEMORY_SIZE,
    /* The most that one tunnel with one lane may hold at once. */
    TUNNEL_BLOCKS_MAX = OUTBOX_MESSAGES + INBOX_MESSAGES + HELD_BLOCKS_MAX
};

/* How a session of one connection ends in order: the client's user is not told of it (client/plugin). */
#define TUNNEL_TARGET_CLOSED "the target closed its connection"

enum tunnel_mode {
    TUNNEL_MULTIPLEXED,
    TUNNEL_BASIC_REDIAL, /* LocalPortForwarding with an old peer */
    TUNNEL_BASIC_ONCE    /* any other type: ssh through a proxy command */
};

struct tunnel_config {
    enum lane_role role;
    const struct document *document; /* agent: the session's; outlives the tunnel. Client: null */
    struct pool_user *user;          /* for what is held and for pieces */
    void *memory;                    /* TUNNEL_MEMORY_SIZE bytes, zeroed, aligned for any type */
};

enum tunnel_step_type {
    TUNNEL_STEP_NONE, /* nothing until input, news, or the deadline */
    TUNNEL_STEP_BUSY, /* work was done and there is more: call again, now or in the next turn */
    /* Endpoints. done() follows where it says so. */
    TUNNEL_STEP_OPEN,  /* open an endpoint for `stream`: `host`, `port`. Then news: OPENED or FAILED */
    TUNNEL_STEP_WRITE, /* offer `vectors` (`len` bytes); done: n taken. If less, it is full or has failed */
    TUNNEL_STEP_READ,  /* read at most `len` bytes into `vectors`; done: n, and more, ended or failed */
    TUNNEL_STEP_SHUT,  /* no more will be written: half-close */
    TUNNEL_STEP_CLOSE, /* what was written arrives, then close; `why` for the log. No more of this endpoint */
    TUNNEL_STEP_RESET, /* abort the connection; `why`. No more of this endpoint */
    /* Client: which target does the stream want? done: text, empty for the session's own. */
    TUNNEL_STEP_DESTINATION,
    /* Client: the agent (one of ours) has opened the stream's target; `text` is its address, or empty. */
    TUNNEL_STEP_ANSWERED,
    /* Lanes */
    TUNNEL_STEP_LANE_LOST, /* its connection is gone; `text` says why: make a new one */
    TUNNEL_STEP_LANE_OPEN, /* its handshake is complete */
    /* Its session is over: `over` says how, and is not the tunnel's any more. Lanes behind it move up. */
    TUNNEL_STEP_LANE_OVER,
    TUNNEL_STEP_JOIN, /* agent: the client wants this session to be a lane of the tunnel with secret `text` */
    TUNNEL_STEP_UNKNOWN, /* a message of an unknown type came: `text` */
    TUNNEL_STEP_OVER     /* no lane is left. Endpoints that are still open are the caller's to close */
};

struct tunnel_step {
    enum tunnel_step_type type;
    uint16_t stream;
    uint8_t lane;
    struct iovec vectors[TUNNEL_VECTORS_MAX];
    int count;
    size_t len;
    const char *host; /* OPEN; valid until the next call */
    uint16_t port;
    const char *why;
    struct str text;   /* valid until the next call */
    struct lane *over; /* LANE_OVER */
    uint16_t close_code;
    /* private, of READ */
    enum pacer_class class;
    uint8_t *header;
};

struct tunnel_result {
    size_t n;
    bool more;       /* READ: there may be more to read now */
    bool ended;      /* READ: the endpoint's last byte has been read */
    bool failed;     /* READ, WRITE: the connection broke; it is the caller's to close */
    const char *why; /* failed */
    struct str text; /* DESTINATION */
};

enum tunnel_news {
    TUNNEL_ENDPOINT_OPENED,   /* `text`: the address reached, for a client of ours */
    TUNNEL_ENDPOINT_FAILED,   /* to open; `text`: why, for the user */
    TUNNEL_ENDPOINT_READABLE, /* or ended, or broken: a READ will tell */
    TUNNEL_ENDPOINT_WRITABLE, /* again, after a WRITE that took less */
    TUNNEL_ENDPOINT_BROKE     /* `text`: why */
};

struct tunnel {
    enum lane_role role;
    enum tunnel_mode mode;
    bool mode_known;
    bool half_close; /* the peer keeps the directions of a stream apart */
    bool is_ours;    /* the peer is */
    bool has_pieces;
    bool has_destinations;
    bool output_first; /* input and output take turns */
    bool over_told;
    bool begin_due;     /* basic: the first endpoint has to be opened */
    bool basic_over;    /* basic: that was the last one */
    bool connect_error; /* client: flag ConnectToPortError came; the next FIN says for which stream */
    const struct document *document;
    struct pool_user *user;
    struct lane *lanes[TUNNEL_LANES_MAX];
    uint8_t lane_count;
    uint8_t next_lane; /* the one whose events are asked for next */
    struct streams streams;
    struct smux_decoder decoder;
    uint16_t decoding;            /* stream of the PSH frame under way, STREAMS_NONE: drop its data */
    char text[SMUX_TEXT_MAX + 1]; /* data of a frame of ours */
    size_t text_len;
    struct inbox pieces; /* in the order of their numbers */
    uint64_t next_piece;
    size_t held;   /* bytes, of all streams */
    bool refusing; /* a SYN has no slot, or a wrong target: nothing is taken in until that has been said */
    bool refusing_flag_sent;
    uint32_t refusing_id;
    const char *refusing_why;
    uint16_t writing;  /* stream of the WRITE under way */
    bool writing_held; /* it offers held bytes */
    uint16_t blocked;  /* the stream whose endpoint holds everything up, or STREAMS_NONE */
    int64_t blocked_ms;
    int64_t stall_check_ms;
    int64_t last_data_ms; /* a payload byte moved either way */
    uint32_t next_id;     /* client: of the next stream */
    uint16_t half_closed; /* streams that wait TUNNEL_HALF_CLOSE_MS */
};

void tunnel_init(struct tunnel *tunnel, const struct tunnel_config *config, int64_t now_ms);
/* Gives the pool its blocks back; no lane may be left. */
void tunnel_release(struct tunnel *tunnel);

/* ---- lanes ---- */

/* The lane is initialised, in the tunnel's role, and stays where it is until LANE_OVER. Its index; -1 when
 * there are TUNNEL_LANES_MAX. */
int tunnel_add_lane(struct tunnel *tunnel, struct lane *lane);
/* Takes a lane whose peer asked for it (step JOIN) to the tunnel that it belongs to. Its new index;
 * ERROR_TOO_LARGE when that has no place, ERROR_NOT_FOUND when it is over, ERROR_INVALID when one of them
 * does not know pieces; the lane is still here then. */
int tunnel_move_lane(struct tunnel *from, unsigned index, struct tunnel *to, int64_t now_ms,
                     struct error *err);

bool tunnel_lane_wants_input(const struct tunnel *tunnel, unsigned lane);
uint8_t *tunnel_lane_in_buf(struct tunnel *tunnel, unsigned lane, size_t *room);
void tunnel_lane_in_ack(struct tunnel *tunnel, unsigned lane, int64_t now_ms, size_t len);
const uint8_t *tunnel_lane_out_buf(struct tunnel *tunnel, unsigned lane, int64_t now_ms, size_t *len);
void tunnel_lane_out_ack(struct tunnel *tunnel, unsigned lane, int64_t now_ms, size_t len);

/* Ends every lane. What is under way still arrives. */
void tunnel_end(struct tunnel *tunnel, int64_t now_ms, bool failed, struct str reason);

/* ---- streams ---- */

void tunnel_next(struct tunnel *tunnel, int64_t now_ms, struct tunnel_step *step);
void tunnel_done(struct tunnel *tunnel, int64_t now_ms, const struct tunnel_step *step,
                 const struct tunnel_result *result);
void tunnel_notify(struct tunnel *tunnel, int64_t now_ms, uint16_t stream, enum tunnel_news news,
                   struct str text);

/* Client: a local connection wants a stream. STREAMS_NONE when no slot is free, when a basic session has its
 * one already, or when no lane is open yet. */
uint16_t tunnel_open(struct tunnel *tunnel, int64_t now_ms);

const struct streams_slot *tunnel_stream(const struct tunnel *tunnel, uint16_t stream);
unsigned tunnel_open_streams(const struct tunnel *tunnel);
bool tunnel_is_open(
    const struct tunnel *tunnel); /* a lane's handshake is complete, and it has not begun to end */

/* ---- time ---- */

void tunnel_set_unix_offset(struct tunnel *tunnel, int64_t unix_offset_ms); /* the clock may have been set */
int64_t tunnel_deadline(struct tunnel *tunnel, int64_t now_ms);
void tunnel_tick(struct tunnel *tunnel, int64_t now_ms);

#endif
