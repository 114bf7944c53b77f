/* Agent messages: whatever parses lies inside the frame, and stream data written
 * again is read back the same. */
#include "wire/agent_message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void write_and_read(const struct agent_message *first)
{
    uint8_t *frame = malloc(AGENT_MESSAGE_HEADER_SIZE + first->payload_len);
    struct agent_message again;
    check(frame != NULL);
    agent_message_write_header(frame, first);
    if (first->payload_len > 0)
        memcpy(frame + AGENT_MESSAGE_HEADER_SIZE, first->payload, first->payload_len);
    check(agent_message_parse(&again, frame, AGENT_MESSAGE_HEADER_SIZE + first->payload_len, NULL) == 0);
    check(again.type == first->type && again.sequence == first->sequence && again.flags == first->flags);
    check(again.payload_type == first->payload_type && again.payload_len == first->payload_len);
    check(memcmp(again.id, first->id, sizeof again.id) == 0);
    free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agent_message message;
    struct error err = ERROR_INIT;
    if (agent_message_parse(&message, data, size, &err) != 0) {
        check(err.code == ERROR_INVALID && err.text[0] != '\0');
        /* The digest is out of a fuzzer's reach: the same bytes as what they would be with the right one. */
        if (message.type == AGENT_MESSAGE_INPUT_STREAM_DATA && message.sequence >= 0 &&
            message.payload != NULL)
            write_and_read(&message);
        return 0;
    }
    check(message.payload >= data && message.payload + message.payload_len == data + size);
    check(message.type_text.len > 0 && message.type_text.len <= AGENT_MESSAGE_TYPE_SIZE);
    if (message.type != AGENT_MESSAGE_UNKNOWN)
        write_and_read(&message);
    return 0;
}
