/* Websocket frames: the same events however the bytes are cut, in either role, in a small buffer. The first
 * byte says how to cut, the second which role. */
#include "wire/websocket.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CAPACITY = 1024 };

struct summary {
    uint64_t hash;
    int code;
    unsigned close_code;
};

static void mix(struct summary *s, uint64_t value)
{
    s->hash = (s->hash ^ value) * 0x100000001b3;
}

static void note(struct summary *s, const struct websocket_event *event, const uint8_t *buffer)
{
    if (event->len > 0 && (event->data < buffer || event->data + event->len > buffer + CAPACITY))
        abort();
    mix(s, (uint64_t) event->type << 32 | (uint64_t) event->binary << 16 | event->code);
    mix(s, event->len);
    for (size_t i = 0; i < event->len; i++)
        mix(s, event->data[i]);
}

static struct summary decode(const uint8_t *data, size_t size, size_t piece, enum websocket_role role)
{
    struct websocket_decoder decoder;
    struct websocket_event event;
    struct summary s = {0, 0, 0};
    uint8_t *buffer = malloc(CAPACITY); /* so that the sanitizer knows its ends */
    if (buffer == NULL)
        abort();
    websocket_decoder_init(&decoder, role, buffer, CAPACITY);
    while (size > 0 && s.code == 0) {
        size_t room;
        uint8_t *in = websocket_in_buf(&decoder, &room);
        size_t n = size < piece ? size : piece;
        if (room == 0)
            abort();
        n = n < room ? n : room;
        memcpy(in, data, n);
        websocket_in_ack(&decoder, n);
        data += n;
        size -= n;
        while ((s.code = websocket_next(&decoder, &event, NULL)) == 0 && event.type != WEBSOCKET_EVENT_NONE)
            note(&s, &event, buffer);
    }
    s.close_code = decoder.close_code;
    free(buffer);
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    enum websocket_role role = data[1] % 2 == 0 ? WEBSOCKET_CLIENT : WEBSOCKET_SERVER;
    struct summary whole = decode(data + 2, size - 2, CAPACITY, role);
    struct summary cut = decode(data + 2, size - 2, 1 + data[0] % 32, role);
    if (whole.hash != cut.hash || whole.code != cut.code || whole.close_code != cut.close_code)
        abort();
    return 0;
}
