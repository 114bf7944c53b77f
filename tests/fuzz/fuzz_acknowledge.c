/* Acknowledge payloads: what is accepted has a number that can be one, and is read back as it is written. */
#include "wire/agent_message.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct acknowledge ack, again;
    struct error err = ERROR_INIT;
    char text[ACKNOWLEDGE_PAYLOAD_MAX];
    struct writer w = writer_of(text, sizeof text);
    if (acknowledge_parse(&ack, (struct str){(const char *) data, size}, &err) != 0) {
        if (err.text[0] == '\0')
            abort();
        return 0;
    }
    if (ack.sequence < 0)
        abort();
    acknowledge_write(&w, &ack);
    if (w.failed || acknowledge_parse(&again, writer_view(&w), NULL) != 0 || again.sequence != ack.sequence ||
        again.type != ack.type)
        abort();
    return 0;
}
