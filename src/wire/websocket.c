#include "wire/websocket.h"

#include <string.h>

#include "base/bytes.h"
#include "base/utf8.h"
#include <bearssl_hash.h>

enum {
    BIT_FIN = 0x80,
    BITS_RESERVED = 0x70,
    BITS_OPCODE = 0x0f,
    BIT_MASKED = 0x80,
    BITS_LENGTH = 0x7f,
    LENGTH_16 = 126, /* values of the length bits that announce a longer length */
    LENGTH_64 = 127,
    CODE_SIZE = 2
};

/* ---- the upgrade ---- */

void websocket_key(const uint8_t random[WEBSOCKET_KEY_RANDOM_SIZE], char key[WEBSOCKET_KEY_SIZE])
{
    struct writer w = writer_of(key, WEBSOCKET_KEY_SIZE);
    writer_base64(&w, random, WEBSOCKET_KEY_RANDOM_SIZE);
    writer_u8(&w, 0);
}

void websocket_accept(const char *key, char accept[WEBSOCKET_ACCEPT_SIZE])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"; /* RFC 6455, 1.3 */
    struct writer w = writer_of(accept, WEBSOCKET_ACCEPT_SIZE);
    br_sha1_context context;
    uint8_t digest[br_sha1_SIZE];
    br_sha1_init(&context);
    br_sha1_update(&context, key, strlen(key));
    br_sha1_update(&context, guid, sizeof guid - 1);
    br_sha1_out(&context, digest);
    writer_base64(&w, digest, sizeof digest);
    writer_u8(&w, 0);
}

bool websocket_accept_matches(const char *key, struct str accept)
{
    char expected[WEBSOCKET_ACCEPT_SIZE];
    websocket_accept(key, expected);
    return str_equal_text(str_trim(accept), expected);
}

/* ---- frames out ---- */

void websocket_mask(uint8_t *data, size_t len, const uint8_t mask[WEBSOCKET_MASK_SIZE], size_t offset)
{
    uint8_t eight[8];
    uint64_t key, word;
    size_t i = 0;
    for (size_t k = 0; k < sizeof eight; k++)
        eight[k] = mask[(offset + k) % WEBSOCKET_MASK_SIZE];
    memcpy(&key, eight, sizeof key);
    for (; len - i >= sizeof word; i += sizeof word) {
        memcpy(&word, data + i, sizeof word);
        word ^= key;
        memcpy(data + i, &word, sizeof word);
    }
    for (size_t k = 0; i < len; i++, k++)
        data[i] ^= eight[k];
}

size_t websocket_header_size(size_t payload_len, bool masked)
{
    size_t size = payload_len < LENGTH_16 ? 2 : payload_len <= UINT16_MAX ? 4 : 10;
    return masked ? size + WEBSOCKET_MASK_SIZE : size;
}

size_t websocket_seal(uint8_t *payload, size_t len, enum websocket_opcode opcode,
                      const uint8_t mask[WEBSOCKET_MASK_SIZE])
{
    size_t size = websocket_header_size(len, mask != NULL);
    struct writer w = writer_of(payload - size, size);
    unsigned masked = mask != NULL ? BIT_MASKED : 0;
    writer_u8(&w, (uint8_t) (BIT_FIN | (unsigned) opcode));
    if (len < LENGTH_16) {
        writer_u8(&w, (uint8_t) (masked | len));
    } else if (len <= UINT16_MAX) {
        writer_u8(&w, (uint8_t) (masked | LENGTH_16));
        writer_u16be(&w, (uint16_t) len);
    } else {
        writer_u8(&w, (uint8_t) (masked | LENGTH_64));
        writer_u64be(&w, len);
    }
    if (mask != NULL) {
        writer_bytes(&w, mask, WEBSOCKET_MASK_SIZE);
        websocket_mask(payload, len, mask, 0);
    }
    return size;
}

size_t websocket_close_payload(uint8_t out[WEBSOCKET_CONTROL_MAX], unsigned code, struct str reason)
{
    struct writer w = writer_of(out, WEBSOCKET_CONTROL_MAX);
    writer_u16be(&w, (uint16_t) code);
    writer_str(&w, utf8_limit(reason, WEBSOCKET_CONTROL_MAX - CODE_SIZE)); /* the peer may insist on UTF-8 */
    return w.len;
}

/* ---- frames in ---- */

void websocket_decoder_init(struct websocket_decoder *decoder, enum websocket_role role, void *buffer,
                            size_t capacity)
{
    *decoder = (struct websocket_decoder){.role = role, .buffer = buffer, .capacity = capacity};
}

/*
 * The buffer: [ gap ][ gathered fragments ][ gap ][ start … end: not yet shown ][ free ]. The gaps are what
 * frames before the message, headers, and control frames between fragments leave behind; closing them costs a
 * move, so it waits until room is short.
 */
uint8_t *websocket_in_buf(struct websocket_decoder *decoder, size_t *room)
{
    size_t kept = decoder->in_message ? decoder->message_len : 0;
    if (decoder->closed || (decoder->start == decoder->end && !decoder->in_message)) {
        decoder->start = decoder->end = 0;
    } else if (decoder->start > kept && decoder->capacity - decoder->end < decoder->capacity / 2) {
        if (decoder->in_message)
            memmove(decoder->buffer, decoder->buffer + decoder->message_start, decoder->message_len);
        decoder->message_start = 0;
        memmove(decoder->buffer + kept, decoder->buffer + decoder->start, decoder->end - decoder->start);
        decoder->end -= decoder->start - kept;
        decoder->start = kept;
    }
    *room = decoder->capacity - decoder->end;
    return decoder->buffer + decoder->end;
}

void websocket_in_ack(struct websocket_decoder *decoder, size_t len)
{
    decoder->end += len;
}

static int fail(struct websocket_decoder *decoder, struct error *err, const char *what)
{
    decoder->close_code = WEBSOCKET_CLOSE_PROTOCOL_ERROR;
    return decoder->failed = error_set(err, ERROR_INVALID, "websocket: the peer sent %s", what);
}

struct frame {
    unsigned opcode;
    bool fin;
    bool masked;
    uint64_t len;
    size_t header_size;
    const uint8_t *mask;
};

/* What is wrong with the first two bytes of a frame; null when nothing is. */
static const char *fault_of(const struct websocket_decoder *decoder, const uint8_t *at, unsigned opcode)
{
    bool control = (opcode & 8) != 0;
    if ((at[0] & BITS_RESERVED) != 0)
        return "reserved bits";
    if (opcode > WEBSOCKET_PONG || (opcode > WEBSOCKET_BINARY && opcode < WEBSOCKET_CLOSE))
        return "a reserved opcode";
    if (((at[1] & BIT_MASKED) != 0) != (decoder->role == WEBSOCKET_SERVER))
        return decoder->role == WEBSOCKET_SERVER ? "an unmasked frame" : "a masked frame";
    if (control && (at[0] & BIT_FIN) == 0)
        return "a fragmented control frame";
    if (control && (at[1] & BITS_LENGTH) > WEBSOCKET_CONTROL_MAX)
        return "a control frame of more than 125 bytes";
    if (opcode == WEBSOCKET_CONTINUATION && !decoder->in_message)
        return "a continuation of nothing";
    if ((opcode == WEBSOCKET_TEXT || opcode == WEBSOCKET_BINARY) && decoder->in_message)
        return "a new message inside a fragmented one";
    return NULL;
}

/* 1 when the header is complete, 0 when more is needed, or an error. */
static int parse_frame(struct websocket_decoder *decoder, struct frame *frame, struct error *err)
{
    const uint8_t *at = decoder->buffer + decoder->start;
    struct reader r = reader_of(at, decoder->end - decoder->start);
    if (r.left < 2)
        return 0;
    frame->opcode = at[0] & BITS_OPCODE;
    frame->fin = (at[0] & BIT_FIN) != 0;
    frame->masked = (at[1] & BIT_MASKED) != 0;
    const char *fault = fault_of(decoder, at, frame->opcode);
    if (fault != NULL)
        return fail(decoder, err, fault);
    reader_skip(&r, 2);
    unsigned length = at[1] & BITS_LENGTH;
    uint64_t shortest = 0;
    frame->len = length;
    if (length == LENGTH_16) {
        frame->len = reader_u16be(&r);
        shortest = LENGTH_16;
    } else if (length == LENGTH_64) {
        frame->len = reader_u64be(&r);
        shortest = UINT16_MAX + 1;
    }
    if (!r.failed && frame->len < shortest)
        return fail(decoder, err, "a length that is not in its shortest form");
    frame->mask = frame->masked ? reader_bytes(&r, WEBSOCKET_MASK_SIZE) : NULL;
    frame->header_size = (size_t) (r.at - at);
    return r.failed ? 0 : 1;
}

static int check_size(struct websocket_decoder *decoder, const struct frame *frame, struct error *err)
{
    size_t gathered = decoder->in_message ? decoder->message_len : 0;
    size_t room = decoder->capacity - WEBSOCKET_DECODER_OVERHEAD;
    /* Control frames may come between fragments, so the buffer keeps room for one. */
    if ((frame->opcode & 8) == 0 && (frame->len > room || gathered > room - (size_t) frame->len)) {
        decoder->close_code = WEBSOCKET_CLOSE_TOO_BIG;
        return decoder->failed = error_set(err, ERROR_TOO_LARGE,
                                           "websocket: the peer sent a message of more than %zu bytes", room);
    }
    return 0;
}

/* RFC 6455, 7.4: what an endpoint may put into a close frame. */
static bool may_be_sent(unsigned code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static int show_close(struct websocket_decoder *decoder, struct websocket_event *event, uint8_t *payload,
                      size_t len, struct error *err)
{
    event->code = WEBSOCKET_CLOSE_NO_CODE;
    if (len == 1)
        return fail(decoder, err, "half a close code");
    if (len >= CODE_SIZE) {
        event->code = (uint16_t) (payload[0] << 8 | payload[1]);
        if (!may_be_sent(event->code))
            return fail(decoder, err, "a close code that must not be sent");
        payload += CODE_SIZE;
        len -= CODE_SIZE;
    }
    decoder->closed = true;
    event->type = WEBSOCKET_EVENT_CLOSE;
    event->data = payload;
    event->len = len;
    return 0;
}

static int show_control(struct websocket_decoder *decoder, struct websocket_event *event, unsigned opcode,
                        uint8_t *payload, size_t len, struct error *err)
{
    if (opcode == WEBSOCKET_CLOSE)
        return show_close(decoder, event, payload, len, err);
    event->type = opcode == WEBSOCKET_PING ? WEBSOCKET_EVENT_PING : WEBSOCKET_EVENT_PONG;
    event->data = payload;
    event->len = len;
    return 0;
}

/* Adds a data frame to the message under way, moving it up to the fragments before; shows the message when it
 * is whole. */
static void take_data(struct websocket_decoder *decoder, struct websocket_event *event,
                      const struct frame *frame, uint8_t *payload)
{
    if (!decoder->in_message) {
        decoder->binary = frame->opcode == WEBSOCKET_BINARY;
        decoder->message_start = (size_t) (payload - decoder->buffer);
        decoder->message_len = (size_t) frame->len;
    } else {
        uint8_t *gathered_end = decoder->buffer + decoder->message_start + decoder->message_len;
        memmove(gathered_end, payload, (size_t) frame->len);
        decoder->message_len += (size_t) frame->len;
    }
    decoder->in_message = !frame->fin;
    if (frame->fin) {
        event->type = WEBSOCKET_EVENT_MESSAGE;
        event->binary = decoder->binary;
        event->data = decoder->buffer + decoder->message_start;
        event->len = decoder->message_len;
    }
}

/* One frame; *progress says whether there was one. */
static int take_frame(struct websocket_decoder *decoder, struct websocket_event *event, bool *progress,
                      struct error *err)
{
    struct frame frame = {0};
    *progress = false;
    int complete = parse_frame(decoder, &frame, err);
    if (complete <= 0)
        return complete;
    int code = check_size(decoder, &frame, err);
    if (code != 0 || decoder->end - decoder->start - frame.header_size < frame.len)
        return code;
    uint8_t *payload = decoder->buffer + decoder->start + frame.header_size;
    if (frame.mask != NULL)
        websocket_mask(payload, (size_t) frame.len, frame.mask, 0);
    decoder->start += frame.header_size + (size_t) frame.len;
    *progress = true;
    if ((frame.opcode & 8) != 0)
        return show_control(decoder, event, frame.opcode, payload, (size_t) frame.len, err);
    take_data(decoder, event, &frame, payload);
    return 0;
}

int websocket_next(struct websocket_decoder *decoder, struct websocket_event *event, struct error *err)
{
    bool progress = true;
    int code = 0;
    memset(event, 0, sizeof *event);
    if (decoder->failed != 0)
        return error_set(err, decoder->failed, "websocket: the connection had failed before");
    while (!decoder->closed && progress && event->type == WEBSOCKET_EVENT_NONE && code == 0)
        code = take_frame(decoder, event, &progress, err);
    return code;
}
