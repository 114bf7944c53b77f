/*
 * connection: one websocket connection behind the "101": frames out, ping, silence, closing handshake (RFC
 * 6455, sections 5 and 7). Control and data channels stand on it; the TCP or TLS connection below is the
 * caller's.
 *
 *             open                    close frame sent or received, protocol error
 *     DOWN ─────────► UP ─────────────────────────────────────────────► CLOSING
 *      ▲               │ lost, silence                                     │
 *      └───────────────┴───────────────────────────────────────────────────┘
 *                          our close frame is out and the peer's is in, lost, CONNECTION_CLOSING_MS
 *
 * Out. Small frames (text, ping, pong, close, messages of a few KiB) are queued here and lent one run at a
 * time by out_buf. Pongs leave room for everything else: without room a pong is left out, the one that waits
 * shows that we live.
 *
 * In. The peer's bytes go into in_buf; connection_next shows whole messages where they lie. Pings, pongs and
 * close frames are answered inside. Messages stay valid until the next in_buf.
 *
 * Liveness. While UP a ping with payload "keepalive" goes out each ping_interval_ms (AWS's agent: 54 s, its
 * client: 5 min). After that and CONNECTION_SILENCE_MS more without a byte from the peer, the connection is
 * lost. A caller that does not read can't complain of silence: it says so in tick.
 *
 * A proxy or NAT that cuts quiet connections: two in a row that are lost without a close frame, equally long
 * after the last byte (or whose ping is not answered), halve that time for the pings of all further ones.
 *
 * The end is told once, by an event LOST with the close code (0: none) and a sentence. The first reason
 * stands.
 *
 * Memory: both buffers are the caller's. The output buffer is wiped when it has been sent: the first frame
 * holds a token.
 */
#ifndef FUMIDAI_CHANNEL_CONNECTION_H
#define FUMIDAI_CHANNEL_CONNECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/prng.h"
#include "base/str.h"
#include "wire/websocket.h"

enum {
    CONNECTION_SILENCE_MS = 60 * 1000, /* beyond the ping interval, as AWS's agent */
    CONNECTION_CLOSING_MS = 1000,      /* how long the peer may take to answer our close frame */
    CONNECTION_QUIET_MIN_MS =
        6 * 1000,             /* what is lost sooner has another cause: proxies allow 10 s and more */
    CONNECTION_WHY_SIZE = 192 /* a close frame's reason has at most 123 bytes */
};

enum connection_state { CONNECTION_DOWN, CONNECTION_UP, CONNECTION_CLOSING, CONNECTION_STATE_COUNT };

enum connection_event_type {
    CONNECTION_NOTHING,
    CONNECTION_MESSAGE, /* `binary`, `data`, `len`; valid until the next in_buf */
    CONNECTION_LOST     /* `code`, `text`; the state is DOWN. Text lives until the next open */
};

struct connection_event {
    enum connection_event_type type;
    bool binary;
    const uint8_t *data;
    size_t len;
    uint16_t code;
    bool closed_by_peer; /* LOST: `code` is the peer's own */
    const char *text;
};

struct connection_config {
    int64_t ping_interval_ms;
    struct prng *prng; /* masks; outlives the connection */
    void *in;          /* holds the largest message plus WEBSOCKET_DECODER_OVERHEAD */
    size_t in_size;
    uint8_t *out; /* frames that wait, one behind the other */
    size_t out_size;
};

struct connection {
    struct connection_config config;
    enum connection_state state;
    struct websocket_decoder decoder;
    int64_t received_ms; /* last byte from the peer, or moment at which we did not want any */
    int64_t ping_ms;     /* next ping */
    int64_t closing_ms;  /* CLOSING: when waiting ends */
    int64_t quiet_ms;    /* for how long the last lost connection had been quiet */
    int64_t learned_ms;  /* has yet to be told */
    size_t out_start;
    size_t out_end;
    bool peer_closed; /* nothing more will come */
    bool close_due;   /* our close frame has yet to find room in `out` */
    uint16_t close_code;
    char close_reason[WEBSOCKET_CONTROL_MAX];
    bool lost_due; /* LOST has yet to be shown */
    uint16_t lost_code;
    bool lost_by_peer;
    char lost_text[CONNECTION_WHY_SIZE];
};

void connection_init(struct connection *c, const struct connection_config *config);

/* A websocket is open. first_text, the frame with the token, goes out before anything else. ERROR_INVALID
 * while another one is, ERROR_TOO_LARGE when first_text does not fit the output buffer. */
int connection_open(struct connection *c, int64_t now_ms, struct str first_text, struct error *err);
/* What is below is gone: LOST follows with this reason. Nothing when DOWN. */
void connection_lost(struct connection *c, int64_t now_ms, const char *why);
/* Told once, after a loss: quiet connections are cut after so long, so pings go out sooner. 0: no news. */
int64_t connection_take_learned_ms(struct connection *c);
/* Closes politely: what is queued goes out, then a close frame. LOST at the latest CONNECTION_CLOSING_MS
 * later. Nothing unless UP. */
void connection_close(struct connection *c, int64_t now_ms, unsigned code, struct str reason);

/* Bytes from the peer. No room while DOWN, or when nothing more is expected. */
uint8_t *connection_in_buf(struct connection *c, size_t *room);
void connection_in_ack(struct connection *c, int64_t now_ms, size_t len);
/* The next message, or the end. */
void connection_next(struct connection *c, int64_t now_ms, struct connection_event *event);

/* Queues a frame. False when there is no room or the connection is not UP. */
bool connection_send(struct connection *c, enum websocket_opcode opcode, const void *data, size_t len);
/* The same for content that is written in place: room for `len` bytes, null when
 * there is none; then seal it. */
uint8_t *connection_send_buf(struct connection *c, size_t len);
void connection_send_ack(struct connection *c, uint8_t *content, size_t len, enum websocket_opcode opcode);

/* Bytes for the peer; null and 0 when nothing waits. They may be taken one at a time. */
const uint8_t *connection_out_buf(struct connection *c, size_t *len);
void connection_out_ack(struct connection *c, size_t len);

int64_t connection_deadline(const struct connection *c);
/* `listening`: the caller reads what comes. */
void connection_tick(struct connection *c, int64_t now_ms, bool listening);

#endif
