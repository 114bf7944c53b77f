/*
 * websocket: RFC 6455 behind the HTTP upgrade: the key and its answer, frames out, frames in. No extensions,
 * no subprotocols. Text is not checked to be UTF-8: all text that comes is JSON, which is checked by itself.
 *
 * Out: a payload lies in memory with WEBSOCKET_HEADROOM free bytes in front of it. websocket_seal writes the
 * frame's header into that room and masks the payload in place; the frame is then contiguous.
 *
 * In: a buffer of the caller's takes bytes as they come, and frames are shown where they lie; the fragments
 * of a message are moved together in place. Masked input (the server's role) is unmasked in place.
 *
 *     in_buf, in_ack ──► [ bytes ] ──► websocket_next: MESSAGE, PING, PONG, CLOSE ... NONE
 *
 * Strict where RFC 6455 says MUST: reserved bits and opcodes, masking against the role, control frames that
 * are fragmented or longer than 125 bytes, continuation without a beginning and the reverse, lengths not in
 * their shortest form, close codes that may not be sent, a close payload of one byte. All these are
 * ERROR_INVALID with close code 1002; a message longer than the buffer can hold is ERROR_TOO_LARGE with 1009.
 * Errors are sticky.
 *
 * Answering a ping, timing out a silent peer and the closing handshake are the caller's: this keeps no clock.
 */
#ifndef FUMIDAI_WIRE_WEBSOCKET_H
#define FUMIDAI_WIRE_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum {
    WEBSOCKET_KEY_RANDOM_SIZE = 16, /* RFC 6455, 4.1 */
    WEBSOCKET_KEY_SIZE = 25,        /* 24 characters and the terminator */
    WEBSOCKET_ACCEPT_SIZE = 29,     /* 28 and the terminator */
    WEBSOCKET_HEADROOM = 14,        /* the longest header: 2, length 8, mask 4 */
    WEBSOCKET_MASK_SIZE = 4,        /* RFC 6455, 5.3 */
    WEBSOCKET_CONTROL_MAX = 125,    /* RFC 6455, 5.5 */
    /* A decoder's buffer holds a message, its last frame's header, and a control
     * frame between its fragments. */
    WEBSOCKET_DECODER_OVERHEAD = WEBSOCKET_HEADROOM + WEBSOCKET_CONTROL_MAX
};

enum websocket_opcode {
    WEBSOCKET_CONTINUATION = 0,
    WEBSOCKET_TEXT = 1,
    WEBSOCKET_BINARY = 2,
    WEBSOCKET_CLOSE = 8,
    WEBSOCKET_PING = 9,
    WEBSOCKET_PONG = 10
};

enum websocket_close_code {
    WEBSOCKET_CLOSE_NORMAL = 1000,
    WEBSOCKET_CLOSE_GOING_AWAY = 1001,
    WEBSOCKET_CLOSE_PROTOCOL_ERROR = 1002,
    WEBSOCKET_CLOSE_NO_CODE = 1005, /* never sent: what an empty close frame is reported as */
    WEBSOCKET_CLOSE_TOO_BIG = 1009
};

/* Sec-WebSocket-Key from 16 random bytes; Sec-WebSocket-Accept that belongs to a key (both terminated). */
void websocket_key(const uint8_t random[WEBSOCKET_KEY_RANDOM_SIZE], char key[WEBSOCKET_KEY_SIZE]);
void websocket_accept(const char *key, char accept[WEBSOCKET_ACCEPT_SIZE]);
bool websocket_accept_matches(const char *key, struct str accept); /* blanks around are ignored */

/* XORs with the mask, eight bytes at a time; `offset` is the place of data[0] within the payload. */
void websocket_mask(uint8_t *data, size_t len, const uint8_t mask[WEBSOCKET_MASK_SIZE], size_t offset);

/* The header of an unfragmented frame, written so that it ends where the payload begins; returns its length.
 * A null mask makes a server's frame. */
size_t websocket_seal(uint8_t *payload, size_t len, enum websocket_opcode opcode,
                      const uint8_t mask[WEBSOCKET_MASK_SIZE]);
size_t websocket_header_size(size_t payload_len, bool masked);

/* Writes a close frame's payload: the code and a reason, cut to fit. Returns its length, at most 125. */
size_t websocket_close_payload(uint8_t out[WEBSOCKET_CONTROL_MAX], unsigned code, struct str reason);

enum websocket_role { WEBSOCKET_CLIENT, WEBSOCKET_SERVER };

enum websocket_event_type {
    WEBSOCKET_EVENT_NONE,    /* more input is needed */
    WEBSOCKET_EVENT_MESSAGE, /* a whole message; `binary` says which kind */
    WEBSOCKET_EVENT_PING,    /* answer with a pong that carries the same data */
    WEBSOCKET_EVENT_PONG,
    WEBSOCKET_EVENT_CLOSE /* nothing follows; `code` and data (the reason) say why */
};

struct websocket_event {
    enum websocket_event_type type;
    bool binary;
    uint16_t code;
    uint8_t *data; /* valid until the next websocket_in_buf; the caller may change it */
    size_t len;
};

struct websocket_decoder {
    enum websocket_role role;
    uint8_t *buffer;
    size_t capacity;
    size_t start;         /* first byte that has not been shown */
    size_t end;           /* one past the last byte received */
    size_t message_start; /* where the fragments of the message under way are gathered */
    size_t message_len;
    bool in_message; /* a fragmented message is under way */
    bool binary;
    bool closed;         /* a close frame was seen */
    int failed;          /* sticky error code */
    uint16_t close_code; /* what to send to the peer after a failure: 1002 or 1009 */
};

/* `capacity` is at least 256: the largest message wanted plus WEBSOCKET_DECODER_OVERHEAD. */
void websocket_decoder_init(struct websocket_decoder *decoder, enum websocket_role role, void *buffer,
                            size_t capacity);

/* Room for input, never 0 after websocket_next has returned NONE. in_buf may move what has not been shown, so
 * events shown before are gone; until then all that were shown stay valid. After a close frame whatever comes
 * is thrown away. */
uint8_t *websocket_in_buf(struct websocket_decoder *decoder, size_t *room);
void websocket_in_ack(struct websocket_decoder *decoder, size_t len);

/* 0 with the next event, or the sticky error; after a CLOSE only NONE. */
int websocket_next(struct websocket_decoder *decoder, struct websocket_event *event, struct error *err);

#endif
