/* smux frames: the same events however the bytes are cut, and the data shown is the data framed. The first
 * byte says how to cut. */
#include "wire/smux.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct summary {
    uint64_t hash;
    int code;
};

static void mix(struct summary *s, uint64_t value)
{
    s->hash = (s->hash ^ value) * 0x100000001b3;
}

static struct summary decode(const uint8_t *data, size_t size, size_t piece)
{
    struct smux_decoder decoder;
    struct summary s = {0, 0};
    size_t at = 0, announced = 0;
    smux_decoder_init(&decoder, size % 2 == 0);
    while (at < size && s.code == 0) {
        struct smux_event event;
        size_t n = size - at < piece ? size - at : piece;
        size_t used;
        s.code = smux_decoder_next(&decoder, data + at, n, &used, &event, NULL);
        if (used == 0 || used > n)
            abort();
        at += used;
        if (event.type == SMUX_EVENT_FRAME) {
            if (announced != 0)
                abort();
            announced = event.data_len;
            mix(&s, 1 + (uint64_t) event.command);
            mix(&s, event.stream);
            mix(&s, event.data_len);
        } else if (event.type == SMUX_EVENT_DATA) {
            if (event.data_len > announced || event.data_len == 0)
                abort();
            announced -= event.data_len;
            for (size_t i = 0; i < event.data_len; i++)
                mix(&s, event.data[i]);
        }
    }
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct summary whole = decode(data + 1, size - 1, SIZE_MAX);
    struct summary cut = decode(data + 1, size - 1, 1 + data[0] % 16);
    if (whole.hash != cut.hash || whole.code != cut.code)
        abort();
    return 0;
}
