/*
 * data_channel: one session's reliable stream of messages over websocket connections that come and go
 * (protocol.md, sections 4, 5, 9 and 10). The same engine serves the agent's role and the client's.
 *
 *      lane, tunnel (above)                              one TLS connection after the other (below)
 *   send ──► outbox: numbers, keeps, resends ──┐
 *                                              ├─► out_buf, out_ack ──► websocket frames, masked
 *   next ◄── inbox: orders, drops duplicates ◄─┼── in_buf, in_ack ◄──── websocket frames
 *                                              └── acknowledgements, pings, close (channel/connection)
 *
 * It performs neither the HTTP upgrade nor the handshake inside the stream: it begins behind the "101" and
 * carries payloads of any type. The connection's states are those of channel/connection. When a connection
 * ends, EVENT_LOST says so; sequence numbers, unacknowledged and undelivered messages stay, and the caller
 * connects anew.
 *
 * Exactly once. A message is numbered and kept before it is sent (pitfall 11) and kept until it is
 * acknowledged, over any number of connections; nothing is taken that can't be kept (pitfall 13). An arriving
 * message is counted first, then acknowledged and delivered (pitfall 12), so whatever happens to the
 * acknowledgement it is delivered once. Duplicates are acknowledged again. Of two messages under one number
 * the first counts, both are acknowledged (pitfall 5). Handshake payloads obey the same rules.
 *
 * Resending. See channel/retransmission for the time-out, and channel/outbox for what is resent in which
 * order. Overdue messages are resent, all of them (pitfall 10), oldest first. A flight limit keeps one hiccup
 * of the network from doubling the traffic: after a whole time-out without an answer 8 may be in flight, and
 * each acknowledgement allows one more.
 *
 * A peer that does not acknowledge what it has processed (AWS's client, pitfall 1;
 * config.peer_ignores_duplicates). A message resent on this connection, while one first sent after that was
 * acknowledged, is a suspected spurious retransmission: it leaves the window, is resent with growing pauses,
 * and is given up as arrived after ten such resends on one connection; or as soon as more than 10,000 later
 * ones have been acknowledged, which that client could not have kept had it waited for this one. After a
 * reconnect, resends and new messages take turns (7 to 1), since only new messages can show what is a
 * suspect.
 *
 * Backpressure (pitfall 2). What nobody consumes is kept, acknowledged, up to INBOX_MESSAGES and as far as
 * the pool allows. Above half of that, data_channel_wants_input says no while nothing of ours is
 * unacknowledged: the socket fills and TCP pushes back. While something is, reading goes on; messages without
 * room are refused (not acknowledged: the peer resends them), and at most DATA_CHANNEL_BACKPRESSURED_FLIGHT
 * of ours are in flight, so that the moments of reading are short. When the peer is known to hold
 * DATA_CHANNEL_REFUSED_MAX unacknowledged messages, nothing new is sent until there is room: AWS's client
 * loses its oldest at 10,000.
 *
 * Pausing. pause_publication stops stream data, new and resent; start_publication, stream data or an
 * acknowledgement from the peer starts it again. Acknowledgements always go. An agent hears a pause when it
 * was too fast (then the connection ends: half the rate from there on) and when the client is away (then
 * start_publication follows: nothing to learn from).
 *
 * Holding (pitfall 3). AWS's client goes deaf if anything reaches it between HandshakeComplete and the start
 * of its multiplexer. data_channel_hold, called right after sending that message: it goes, and then nothing
 * at all, not even an acknowledgement of a duplicate, until new stream data arrives from the peer or the
 * given time is reached. (A lost HandshakeComplete is resent all the same, after DATA_CHANNEL_HOLD_RESEND_MS
 * at the earliest.)
 *
 * Pacing. Stream messages, resends included, pass the pacer; acknowledgements do not. What waits before the
 * pacer is no more than what it allows at the moment of asking: data_channel_send_room says how many bytes of
 * a class may be given now, and a caller that asks just before it sends gives its streams fair turns without
 * a queue behind them. The bound: messages the pacer has allowed but the socket has not taken, at most
 * DATA_CHANNEL_UNSENT_MAX. An interactive send takes with it what was queued before it.
 *
 * Neither pings nor resends are activity: only DATA events and sends are.
 *
 * A silent client. When nothing has come from the client for DATA_CHANNEL_SILENT_MS although something was
 * sent to it, it has probably died without a word. Nothing is resent then until something comes or there is a
 * new connection: the service may count resends as activity, and keep the session for nobody. No probes
 * either, for the same reason: a client that comes back on a websocket of its own is told of by
 * start_publication, one whose websocket had only stalled gets what it was sent and acknowledges it.
 *
 * Memory. Blocks for messages come from the pool; the rest is in config.memory (untouched pages cost
 * nothing). No other growth, whatever the peer does.
 */
#ifndef FUMIDAI_CHANNEL_DATA_CHANNEL_H
#define FUMIDAI_CHANNEL_DATA_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/prng.h"
#include "base/str.h"
#include "channel/connection.h"
#include "channel/inbox.h"
#include "channel/outbox.h"
#include "channel/pacer.h"
#include "wire/agent_message.h"

enum {
    /* The largest websocket message that is taken. The service's own (channel_closed with an Output of some
     * KB) are the largest; stream data has 1,144 bytes. */
    DATA_CHANNEL_INPUT_SIZE = 64 * 1024,
    DATA_CHANNEL_PLAIN_SIZE =
        8 * 1024, /* text frame, session state, pongs, close: a handful of small frames */
    DATA_CHANNEL_PLAIN_MESSAGE_MAX = 4 * 1024, /* the text frame with a token of some KB is the longest */
    DATA_CHANNEL_ACKS_MAX =
        4096, /* acknowledgements not yet written; a message that would need one more is refused */
    /* 64 KiB: four full TLS records a turn without a limit; 67 ms at the default rate, and only if the
     * socket, not the pacer, is what stops us. */
    DATA_CHANNEL_UNSENT_MAX = 64,
    DATA_CHANNEL_BACKPRESSURED_FLIGHT = 64, /* of ours, while there is no room for the peer's */
    DATA_CHANNEL_REFUSED_MAX = 8000,     /* AWS's client loses its oldest unacknowledged message at 10,000 */
    DATA_CHANNEL_HOLD_RESEND_MS = 1000,  /* far beyond the moment in which AWS's client goes deaf */
    DATA_CHANNEL_SILENT_MS = 120 * 1000, /* one that is there answers within some RTOs of 1 s */
    DATA_CHANNEL_ACK_SIZE = 24,          /* number 8, message id 16 */
    DATA_CHANNEL_MEMORY_SIZE = OUTBOX_MEMORY_SIZE + INBOX_MEMORY_SIZE +
                               DATA_CHANNEL_ACKS_MAX * DATA_CHANNEL_ACK_SIZE + DATA_CHANNEL_INPUT_SIZE +
                               DATA_CHANNEL_PLAIN_SIZE
};

enum data_channel_role {
    DATA_CHANNEL_AGENT, /* sends output_stream_data, takes input_stream_data */
    DATA_CHANNEL_CLIENT
};

struct data_channel_config {
    enum data_channel_role role;
    bool peer_ignores_duplicates; /* true for an agent until the peer proves to be better; see above */
    uint32_t messages_per_second; /* 0 no limit */
    uint32_t burst_messages;
    int64_t ping_interval_ms; /* AWS's agent: 54,000; its client: 300,000 */
    int64_t unix_offset_ms;   /* Unix time minus monotonic time, for CreatedDate */
    uint8_t seed[PRNG_SEED_SIZE];
    struct pool_user *user;
    /* DATA_CHANNEL_MEMORY_SIZE bytes, zeroed, aligned for any type, the channel's until it ends. */
    void *memory;
};

enum data_channel_event_type {
    DATA_CHANNEL_EVENT_NONE,
    DATA_CHANNEL_EVENT_DATA,           /* the next payload, or what is left of it: see data_channel_consume */
    DATA_CHANNEL_EVENT_CHANNEL_CLOSED, /* the service ends the session; data is the JSON */
    DATA_CHANNEL_EVENT_OTHER,          /* a message of an unknown type, `type_text`; log each type once */
    DATA_CHANNEL_EVENT_LOST /* the connection is over (state DOWN): `code`, `text`; connect anew or give up */
};

struct data_channel_event {
    enum data_channel_event_type type;
    uint32_t payload_type; /* DATA: enum payload_type, as the peer wrote it */
    const uint8_t *data; /* DATA: valid until the next in_buf or consume; else until the next call of next */
    size_t len;
    size_t
        message_left; /* DATA: bytes of this message from `data` on; more than len when it comes in pieces */
    struct str type_text; /* OTHER */
    uint16_t close_code;  /* LOST: the websocket's close code, 0 when there was none */
    const char *text;     /* LOST: why, one line */
};

struct data_channel_stats {
    uint64_t sent;         /* stream messages sent for the first time */
    uint64_t resent;       /* and again */
    uint64_t acknowledged; /* by the peer */
    uint64_t given_up;     /* taken as arrived without acknowledgement (pitfall 1) */
    uint64_t received;     /* stream messages counted, each once */
    uint64_t duplicates;   /* acknowledged and dropped */
    uint64_t refused;      /* no room: not acknowledged */
    uint64_t invalid;      /* messages that could not be parsed, or with a wrong digest: ignored */
    uint64_t connections;
    uint64_t paused;
};

struct data_channel; /* defined at the end; its fields are private to data_channel.c */

void data_channel_init(struct data_channel *channel, const struct data_channel_config *config,
                       int64_t now_ms);
void data_channel_release(struct data_channel *channel); /* gives all blocks back */

/* ---- connections ---- */

/* A websocket is open (the upgrade is done, bytes behind it go to in_buf). first_text, the message with the
 * token, goes out before anything else; it is copied and wiped after use. Only in state DOWN; ERROR_TOO_LARGE
 * if it does not fit. */
int data_channel_connect(struct data_channel *channel, int64_t now_ms, struct str first_text,
                         struct error *err);
/* The connection below is gone; there will be an EVENT_LOST with this reason.
 * Nothing if it is DOWN already. */
void data_channel_disconnect(struct data_channel *channel, int64_t now_ms, const char *why);
int64_t data_channel_take_learned_ms(struct data_channel *channel); /* as connection_take_learned_ms */
/* Closes the websocket politely: acknowledgements that wait go out, no more stream data, then a close frame.
 * Call it when data_channel_drained says so, or when patience ends (AWS's agent: 2 s). EVENT_LOST at the end,
 * at the latest 2 × CONNECTION_CLOSING_MS later. Nothing unless UP. */
void data_channel_shut_down(struct data_channel *channel, int64_t now_ms, unsigned code, struct str reason);
enum connection_state data_channel_state(const struct data_channel *channel);

/* Bytes from the connection. Ask wants_input before each read: false is what pushes back. What came is taken
 * in in in_ack: acknowledgements count even when nobody consumes. There is no room while an event other than
 * DATA has not been taken with data_channel_next. in_buf copies what was not consumed: consume first. */
bool data_channel_wants_input(const struct data_channel *channel);
uint8_t *data_channel_in_buf(struct data_channel *channel, size_t *room);
void data_channel_in_ack(struct data_channel *channel, int64_t now_ms, size_t len);

/* Bytes for the connection: one frame, or what is left of it, at a time; call until len is 0. What comes out
 * is chosen as late as possible: acknowledgements, what is overdue, what is new, as the pacer allows. Bytes
 * may be taken one at a time; a frame that was begun is finished first. */
const uint8_t *data_channel_out_buf(struct data_channel *channel, int64_t now_ms, size_t *len);
void data_channel_out_ack(struct data_channel *channel, int64_t now_ms, size_t len);

/* ---- the stream ---- */

/* Pulls the next event. DATA repeats with what is left of the payload until all of it has been consumed;
 * other events are shown once, and before DATA that came earlier. Payloads come in order, message by message;
 * one longer than 1,024 bytes (a handshake message) comes in pieces; message_left tells. */
void data_channel_next(struct data_channel *channel, int64_t now_ms, struct data_channel_event *event);
/* Takes the first n bytes of the DATA event shown last. An empty payload is consumed by n = 0. */
void data_channel_consume(struct data_channel *channel, size_t n);
/* Payloads that wait, without taking them: the first piece of the n-th message from the one that is next on,
 * of which the first may have been consumed in part. Pieces beyond the first (handshake messages) are not
 * shown. */
bool data_channel_peek(const struct data_channel *channel, size_t n, struct data_channel_event *event);

/* How many payload bytes of this class may be given at this moment (Output, put into full messages). 0 while
 * not UP, paused or holding. Ask when there is something to send: if it is the pacer that says no, the
 * deadline will be the moment to ask again. */
size_t data_channel_send_room(struct data_channel *channel, int64_t now_ms, enum pacer_class class);
/* Output in place: as outbox_reserve and outbox_commit. `max` is at most what send_room said. */
size_t data_channel_reserve(struct data_channel *channel, size_t header, size_t max,
                            struct iovec vectors[OUTBOX_RESERVE_MAX], int *count);
void data_channel_commit(struct data_channel *channel, enum pacer_class class, size_t len);
/* Output copied, at most 16 KiB: all of it, or nothing (false) when there is no room now. */
bool data_channel_send(struct data_channel *channel, int64_t now_ms, enum pacer_class class, const void *data,
                       size_t len);
/* One message of another payload type, whole: handshake, flag. In order with the Output around it. It does
 * not ask the pacer's leave to be queued. ERROR_TOO_LARGE above OUTBOX_LARGE_PAYLOAD_MAX; ERROR_UNAVAILABLE
 * when the window is full, or when OUTBOX_LARGE messages above 1,024 bytes are unacknowledged: try again
 * later. */
int data_channel_send_message(struct data_channel *channel, enum payload_type type, const void *data,
                              size_t len, struct error *err);
/* Nobody wants the Output any more that is not acknowledged: see outbox_empty. */
void data_channel_empty_output(struct data_channel *channel);
/* A message outside the stream (agent_session_state): flags SYN and FIN, sequence 0, neither kept nor resent;
 * goes before stream data. Only while UP (ERROR_CLOSED); ERROR_TOO_LARGE when the plain buffer is full. */
int data_channel_send_plain(struct data_channel *channel, int64_t now_ms, enum agent_message_type type,
                            struct str payload, struct error *err);

/* The message sent last goes; then nothing until new stream data arrives or until_ms
 * is reached (INT64_MAX: never). */
void data_channel_hold(struct data_channel *channel, int64_t until_ms);
bool data_channel_holding(const struct data_channel *channel);
/* Changes until_ms of the hold under way, for callers that wait for HandshakeComplete to arrive first. */
void data_channel_hold_until(struct data_channel *channel, int64_t until_ms);

/* Everything given was acknowledged (or given up, or is a suspect): nothing would be lost by closing now. */
bool data_channel_drained(const struct data_channel *channel);
/* See outbox_wants_ack_probe: a message of no meaning would now end the resending
 * of what the peer has already. */
bool data_channel_wants_ack_probe(const struct data_channel *channel);
bool data_channel_peer_is_silent(const struct data_channel *channel, int64_t now_ms);
/* The number the next message will carry, and whether the message with a number has been acknowledged: a
 * caller that wants to know when something has arrived asks for the number before sending it. */
int64_t data_channel_next_sequence(const struct data_channel *channel);
bool data_channel_acknowledged(const struct data_channel *channel, int64_t sequence);

/* Pieces (channel/outbox): Output sent from here on is numbered; what a channel that is over has not had
 * acknowledged goes on by another one. */
void data_channel_number_pieces(struct data_channel *channel, uint64_t *next);
uint64_t data_channel_oldest_piece(const struct data_channel *channel);
bool data_channel_move_piece(struct data_channel *from, struct data_channel *to, bool *moved);
/* What a channel that is over has received and acknowledged, in order or not: its peer will not send it
 * again. False when none is left; data_channel_drop_kept takes out what was shown. */
bool data_channel_kept(const struct data_channel *channel, int64_t *sequence,
                       struct data_channel_event *event);
void data_channel_drop_kept(struct data_channel *channel, int64_t sequence);

/* ---- time ---- */

/* When tick or out_buf has something to do although nothing arrives; INT64_MAX never. */
int64_t data_channel_deadline(struct data_channel *channel, int64_t now_ms);
void data_channel_tick(struct data_channel *channel, int64_t now_ms);

/* ---- knobs ---- */

void data_channel_set_unix_offset(struct data_channel *channel,
                                  int64_t unix_offset_ms); /* the clock was set */
/* The peer turned out to acknowledge duplicates (a client of ours): pitfall 1's measures are off. */
void data_channel_peer_acknowledges_duplicates(struct data_channel *channel);
void data_channel_stats(const struct data_channel *channel, struct data_channel_stats *stats);

/* ---- private ---- */

struct data_channel_ack {
    int64_t sequence;
    uint8_t id[UUID_SIZE];
};

enum data_channel_source {
    DATA_CHANNEL_FROM_NOTHING,
    DATA_CHANNEL_FROM_CONNECTION,
    DATA_CHANNEL_FROM_ACK,
    DATA_CHANNEL_FROM_OUTBOX
};

struct data_channel {
    struct data_channel_config config; /* the seed is wiped */
    struct prng prng;
    struct connection connection;
    struct outbox outbox;
    struct inbox inbox;
    struct pacer pacer;
    struct data_channel_stats stats;

    /* What is being written: the rest of one frame (or run of small ones), and where it comes from. */
    enum data_channel_source source;
    const uint8_t *frame;
    size_t frame_left;
    struct data_channel_ack *acks; /* a ring of DATA_CHANNEL_ACKS_MAX */
    size_t ack_first;
    size_t ack_count;
    uint8_t ack_frame[OUTBOX_SLOT_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + ACKNOWLEDGE_PAYLOAD_MAX];

    int64_t unanswered_ms; /* something was sent then, and nothing has come since; INT64_MAX: it has */
    bool paused;
    bool warned;          /* paused at a high rate, and not told to go on */
    int64_t urgent_below; /* unsent messages with lower numbers go as interactive ones */
    bool caller_waits[2]; /* send_room, by class, answered less than the window would take */
    bool holding;
    bool hold_sent;        /* HandshakeComplete has gone at least once */
    int64_t hold_sequence; /* its number */
    int64_t hold_sent_ms;  /* when it went last; INT64_MIN: not on this connection */
    int64_t hold_until_ms;

    bool shutting_down; /* acknowledgements go, then the close frame; until shut_down_ms */
    int64_t shut_down_ms;
    uint16_t close_code;
    char close_reason[WEBSOCKET_CONTROL_MAX];

    bool event_waits; /* `event` was not shown yet, or only now */
    bool event_shown;
    struct data_channel_event event;
};

#endif
