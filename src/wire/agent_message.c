#include "wire/agent_message.h"

#include <string.h>

#include "base/json.h"
#include "base/sha256.h"

enum { ID_HALF = UUID_SIZE / 2, SCHEMA_VERSION = 1, ACKNOWLEDGE_TOKENS = 32 };

static const char *const type_names[AGENT_MESSAGE_TYPE_COUNT] = {
    [AGENT_MESSAGE_UNKNOWN] = "unknown",
    [AGENT_MESSAGE_INPUT_STREAM_DATA] = "input_stream_data",
    [AGENT_MESSAGE_OUTPUT_STREAM_DATA] = "output_stream_data",
    [AGENT_MESSAGE_ACKNOWLEDGE] = "acknowledge",
    [AGENT_MESSAGE_CHANNEL_CLOSED] = "channel_closed",
    [AGENT_MESSAGE_PAUSE_PUBLICATION] = "pause_publication",
    [AGENT_MESSAGE_START_PUBLICATION] = "start_publication",
    [AGENT_MESSAGE_AGENT_SESSION_STATE] = "agent_session_state",
    [AGENT_MESSAGE_CONTROL_CHANNEL_READY] = "control_channel_ready",
    [AGENT_MESSAGE_INTERACTIVE_SHELL] = "interactive_shell",
    [AGENT_MESSAGE_AGENT_TASK_COMPLETE] = "agent_task_complete",
    [AGENT_MESSAGE_AGENT_TASK_ACKNOWLEDGE] = "agent_task_acknowledge",
    [AGENT_MESSAGE_AGENT_JOB] = "agent_job",
    [AGENT_MESSAGE_AGENT_JOB_ACK] = "agent_job_ack",
    [AGENT_MESSAGE_AGENT_JOB_REPLY_ACK] = "agent_job_reply_ack",
};

const char *agent_message_type_name(enum agent_message_type type)
{
    return (unsigned) type < AGENT_MESSAGE_TYPE_COUNT ? type_names[type] : type_names[AGENT_MESSAGE_UNKNOWN];
}

static enum agent_message_type type_of(struct str text)
{
    for (int i = AGENT_MESSAGE_UNKNOWN + 1; i < AGENT_MESSAGE_TYPE_COUNT; i++)
        if (str_equal_text(text, type_names[i]))
            return (enum agent_message_type) i;
    return AGENT_MESSAGE_UNKNOWN;
}

static bool is_padding(char c)
{
    return c == ' ' || c == '\0';
}

static struct str trim_padding(struct str text)
{
    while (text.len > 0 && is_padding(text.ptr[text.len - 1]))
        text.len--;
    while (text.len > 0 && is_padding(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    return text;
}

/* Also the way back: the swap is its own inverse. */
static void swap_halves(uint8_t out[UUID_SIZE], const uint8_t in[UUID_SIZE])
{
    memcpy(out, in + ID_HALF, ID_HALF);
    memcpy(out + ID_HALF, in, ID_HALF);
}

static int check_stream_data(const struct agent_message *message, uint32_t payload_len, const uint8_t *digest,
                             struct error *err)
{
    uint8_t actual[SHA256_SIZE];
    if (message->sequence < 0)
        return error_set(err, ERROR_INVALID, "%s: negative sequence number", type_names[message->type]);
    if (payload_len != message->payload_len)
        return error_set(err, ERROR_INVALID, "%s: announces %u bytes of payload, brings %zu",
                         type_names[message->type], payload_len, message->payload_len);
    sha256(message->payload, message->payload_len, actual);
    if (memcmp(actual, digest, sizeof actual) != 0)
        return error_set(err, ERROR_INVALID, "%s: the payload does not match its digest",
                         type_names[message->type]);
    return 0;
}

int agent_message_parse(struct agent_message *message, const void *frame, size_t len, struct error *err)
{
    struct reader r = reader_of(frame, len);
    uint8_t swapped_id[UUID_SIZE];
    memset(message, 0, sizeof *message);
    uint32_t header_len = reader_u32be(&r);
    message->type_text.ptr = (const char *) reader_bytes(&r, AGENT_MESSAGE_TYPE_SIZE);
    reader_skip(&r, 4); /* SchemaVersion: other versions would come with other types */
    message->created_unix_ms = reader_u64be(&r);
    uint64_t sequence = reader_u64be(&r);
    message->flags = reader_u64be(&r);
    reader_copy(&r, swapped_id, sizeof swapped_id);
    const uint8_t *digest = reader_bytes(&r, SHA256_SIZE);
    message->payload_type = reader_u32be(&r);
    uint32_t payload_len = reader_u32be(&r);
    if (r.failed)
        return error_set(err, ERROR_INVALID, "agent message: %zu bytes are less than a header", len);
    if (header_len < AGENT_MESSAGE_HEADER_LENGTH || header_len > AGENT_MESSAGE_HEADER_LENGTH_MAX ||
        header_len - AGENT_MESSAGE_HEADER_LENGTH > r.left)
        return error_set(err, ERROR_INVALID, "agent message: header length %u in %zu bytes", header_len, len);
    reader_skip(&r, header_len - AGENT_MESSAGE_HEADER_LENGTH);
    message->payload = r.at;
    message->payload_len = r.left;
    memcpy(&message->sequence, &sequence, sizeof sequence);
    swap_halves(message->id, swapped_id);
    message->type_text.len = AGENT_MESSAGE_TYPE_SIZE;
    message->type_text = trim_padding(message->type_text);
    if (message->type_text.len == 0)
        return error_set(err, ERROR_INVALID, "agent message: empty type");
    message->type = type_of(message->type_text);
    if (message->type == AGENT_MESSAGE_INPUT_STREAM_DATA || message->type == AGENT_MESSAGE_OUTPUT_STREAM_DATA)
        return check_stream_data(message, payload_len, digest, err);
    return 0;
}

void agent_message_write_header(uint8_t header[AGENT_MESSAGE_HEADER_SIZE],
                                const struct agent_message *message)
{
    struct writer w = writer_of(header, AGENT_MESSAGE_HEADER_SIZE);
    const char *name = agent_message_type_name(message->type);
    uint8_t swapped_id[UUID_SIZE], digest[SHA256_SIZE];
    swap_halves(swapped_id, message->id);
    sha256(message->payload, message->payload_len, digest);
    writer_u32be(&w, AGENT_MESSAGE_HEADER_LENGTH);
    writer_text(&w, name);
    writer_fill(&w, ' ', AGENT_MESSAGE_TYPE_SIZE - strlen(name));
    writer_u32be(&w, SCHEMA_VERSION);
    writer_u64be(&w, message->created_unix_ms);
    writer_u64be(&w, (uint64_t) message->sequence);
    writer_u64be(&w, message->flags);
    writer_bytes(&w, swapped_id, sizeof swapped_id);
    writer_bytes(&w, digest, sizeof digest);
    writer_u32be(&w, message->payload_type);
    writer_u32be(&w, (uint32_t) message->payload_len);
}

/* The form in which Go's encoder writes AWS's struct, cut at its three values. */
static const char part_type[] = "{\"AcknowledgedMessageType\":\"";
static const char part_id[] = "\",\"AcknowledgedMessageId\":\"";
static const char part_sequence[] = "\",\"AcknowledgedMessageSequenceNumber\":";
static const char part_end[] = ",\"IsSequentialMessage\":true}";

static bool take_literal(struct str *rest, const char *literal, size_t len)
{
    if (rest->len < len || memcmp(rest->ptr, literal, len) != 0)
        return false;
    *rest = str_slice(*rest, len, rest->len);
    return true;
}

static bool take_until(struct str *rest, char stop, struct str *taken)
{
    const char *end = rest->len > 0 ? memchr(rest->ptr, stop, rest->len) : NULL;
    if (end == NULL)
        return false;
    *taken = str_slice(*rest, 0, (size_t) (end - rest->ptr));
    *rest = str_slice(*rest, taken->len, rest->len);
    return true;
}

static bool parse_usual_form(struct acknowledge *ack, struct str rest)
{
    struct str type, id, number;
    uint64_t sequence;
    if (!take_literal(&rest, part_type, sizeof part_type - 1) || !take_until(&rest, '"', &type) ||
        !take_literal(&rest, part_id, sizeof part_id - 1) || !take_until(&rest, '"', &id) ||
        !take_literal(&rest, part_sequence, sizeof part_sequence - 1) || !take_until(&rest, ',', &number) ||
        !str_equal_text(rest, part_end))
        return false;
    if (!str_parse_u64(number, &sequence) || sequence > INT64_MAX)
        return false;
    ack->type = type_of(type);
    ack->sequence = (int64_t) sequence;
    return ack->type != AGENT_MESSAGE_UNKNOWN; /* an escaped name is the JSON parser's */
}

int acknowledge_parse(struct acknowledge *ack, struct str payload, struct error *err)
{
    struct json_token tokens[ACKNOWLEDGE_TOKENS];
    struct json doc;
    char text[AGENT_MESSAGE_TYPE_SIZE + 1];
    struct str view;
    memset(ack, 0, sizeof *ack);
    if (parse_usual_form(ack, payload))
        return 0;
    memset(ack, 0, sizeof *ack);
    int code = json_parse(&doc, payload, tokens, ACKNOWLEDGE_TOKENS, err);
    if (code != 0) {
        error_prefix(err, "acknowledge: ");
        return code;
    }
    int root = json_root(&doc);
    if (!json_i64(&doc, json_member(&doc, root, "AcknowledgedMessageSequenceNumber"), &ack->sequence) ||
        ack->sequence < 0)
        return error_set(err, ERROR_INVALID, "acknowledge: no usable AcknowledgedMessageSequenceNumber");
    if (json_string(&doc, json_member(&doc, root, "AcknowledgedMessageType"), text, sizeof text, &view))
        ack->type = type_of(view);
    return 0;
}

void acknowledge_write(struct writer *out, const struct acknowledge *ack)
{
    char id[UUID_TEXT_SIZE];
    uuid_format(ack->id, id);
    writer_text(out, part_type);
    writer_text(out, agent_message_type_name(ack->type));
    writer_text(out, part_id);
    writer_text(out, id);
    writer_text(out, part_sequence);
    writer_i64_decimal(out, ack->sequence);
    writer_text(out, part_end);
}
