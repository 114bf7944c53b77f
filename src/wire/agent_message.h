/*
 * agent_message: the frame that both channels carry inside binary websocket messages (protocol.md, section
 * 5). All numbers are big-endian.
 *
 *   offset size field
 *        0    4 HeaderLength: 116, the payload length field is not counted
 *        4   32 MessageType: ASCII, padded with spaces by us, with spaces or NULs by others
 *       36    4 SchemaVersion: 1
 *       40    8 CreatedDate: epoch milliseconds
 *       48    8 SequenceNumber: signed
 *       56    8 Flags: bit 0 SYN, bit 1 FIN
 *       64   16 MessageId: a UUID with its two halves swapped
 *       80   32 PayloadDigest: SHA-256 of the payload
 *      112    4 PayloadType
 *      116    4 PayloadLength
 *      120    n Payload, at HeaderLength + 4
 *
 * PayloadLength and PayloadDigest are checked in stream data only: the service fills them wrongly in messages
 * of its own (start_publication, pause_publication). Everywhere else the payload is what the websocket
 * message holds behind the header.
 *
 * Nothing is copied: a parsed message points into the frame, and a header is written into the room in front
 * of a payload that stays where it is.
 */
#ifndef FUMIDAI_WIRE_AGENT_MESSAGE_H
#define FUMIDAI_WIRE_AGENT_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"
#include "base/uuid.h"

enum {
    AGENT_MESSAGE_HEADER_SIZE = 120,        /* what agent_message_write_header writes */
    AGENT_MESSAGE_HEADER_LENGTH = 116,      /* what the header says of itself: without the payload's length */
    AGENT_MESSAGE_HEADER_LENGTH_MAX = 1024, /* a longer header than ours is skipped over, up to this */
    AGENT_MESSAGE_TYPE_SIZE = 32,           /* by the format, filled up with blanks */
    AGENT_MESSAGE_STREAM_PAYLOAD_MAX = 1024, /* what one stream message carries by convention */
    AGENT_MESSAGE_SYN = 1,
    AGENT_MESSAGE_FIN = 2
};

enum agent_message_type {
    AGENT_MESSAGE_UNKNOWN, /* type_text says which */
    AGENT_MESSAGE_INPUT_STREAM_DATA,
    AGENT_MESSAGE_OUTPUT_STREAM_DATA,
    AGENT_MESSAGE_ACKNOWLEDGE,
    AGENT_MESSAGE_CHANNEL_CLOSED,
    AGENT_MESSAGE_PAUSE_PUBLICATION,
    AGENT_MESSAGE_START_PUBLICATION,
    AGENT_MESSAGE_AGENT_SESSION_STATE,
    AGENT_MESSAGE_CONTROL_CHANNEL_READY,
    AGENT_MESSAGE_INTERACTIVE_SHELL,
    AGENT_MESSAGE_AGENT_TASK_COMPLETE,
    AGENT_MESSAGE_AGENT_TASK_ACKNOWLEDGE,
    AGENT_MESSAGE_AGENT_JOB,
    AGENT_MESSAGE_AGENT_JOB_ACK,
    AGENT_MESSAGE_AGENT_JOB_REPLY_ACK,
    AGENT_MESSAGE_TYPE_COUNT
};

enum payload_type {
    PAYLOAD_NONE = 0, /* messages other than stream data */
    PAYLOAD_OUTPUT = 1,
    PAYLOAD_ERROR = 2,
    PAYLOAD_SIZE = 3,
    PAYLOAD_PARAMETER = 4,
    PAYLOAD_HANDSHAKE_REQUEST = 5,
    PAYLOAD_HANDSHAKE_RESPONSE = 6,
    PAYLOAD_HANDSHAKE_COMPLETE = 7,
    PAYLOAD_ENCRYPTION_CHALLENGE_REQUEST = 8,
    PAYLOAD_ENCRYPTION_CHALLENGE_RESPONSE = 9,
    PAYLOAD_FLAG = 10,
    PAYLOAD_STDERR = 11,
    PAYLOAD_EXIT_CODE = 12
};

/* What a PAYLOAD_FLAG holds: one 4-byte big-endian integer. */
enum payload_flag {
    PAYLOAD_FLAG_DISCONNECT_TO_PORT = 1,
    PAYLOAD_FLAG_TERMINATE_SESSION = 2,
    PAYLOAD_FLAG_CONNECT_TO_PORT_ERROR = 3
};

struct agent_message {
    enum agent_message_type type;
    struct str type_text; /* trimmed; set by the parser; the writer uses `type` */
    uint64_t created_unix_ms;
    int64_t sequence;
    uint64_t flags;
    uint8_t id[UUID_SIZE]; /* in the order of RFC 9562 */
    uint32_t payload_type; /* enum payload_type for stream data; anything elsewhere (channel_closed: 261) */
    const uint8_t *payload;
    size_t payload_len;
};

/* "output_stream_data" and so on; "unknown" for AGENT_MESSAGE_UNKNOWN. */
const char *agent_message_type_name(enum agent_message_type type);

/*
 * ERROR_INVALID: shorter than a header, a HeaderLength outside 116…AGENT_MESSAGE_HEADER_LENGTH_MAX or beyond
 * the frame, an empty type; for stream data also a PayloadLength or digest that does not match, or a negative
 * sequence number. An unknown type is not an error.
 */
int agent_message_parse(struct agent_message *message, const void *frame, size_t len, struct error *err);

/* Writes the 120 bytes; the payload is read for its digest, not copied. It usually starts at header + 120. */
void agent_message_write_header(uint8_t header[AGENT_MESSAGE_HEADER_SIZE],
                                const struct agent_message *message);

/*
 * The payload of an acknowledge message. AWS's programs write it in one fixed form, which is recognised
 * without a JSON parser (an acknowledgement comes for every message sent); any other JSON is parsed.
 */
struct acknowledge {
    enum agent_message_type type; /* of the message acknowledged */
    uint8_t id[UUID_SIZE];        /* only written: the sequence number decides */
    int64_t sequence;
};

enum { ACKNOWLEDGE_PAYLOAD_MAX = 224 /* the longest that acknowledge_write makes is 198 */ };

int acknowledge_parse(struct acknowledge *ack, struct str payload, struct error *err);
void acknowledge_write(struct writer *out, const struct acknowledge *ack);

#endif
