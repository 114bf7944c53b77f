/* A client of the SOCKS5, SOCKS4 and CONNECT server: whole and in pieces it must come to the same. */
#include "wire/socks5.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t feed(struct socks5 *s, const uint8_t *data, size_t size, size_t piece)
{
    struct error err = ERROR_INIT;
    size_t at = 0, used, len;
    int result = 0;
    socks5_init(s);
    while (result == 0 && s->state == SOCKS5_READING && at < size) {
        size_t n = size - at < piece ? size - at : piece;
        result = socks5_feed(s, data + at, n, &used, &err);
        if (used > n || (result == 0 && s->state == SOCKS5_READING && used < n))
            abort();
        at += used;
    }
    if ((result < 0) != (s->state == SOCKS5_REFUSED) || (result < 0) == (err.text[0] == '\0'))
        abort();
    if (s->state == SOCKS5_WANTED) {
        if (s->host[0] == '\0' || s->port == 0)
            abort();
        socks5_answer(s, (enum socks5_answer)(size % 6), STR_LITERAL("why"));
        if (s->state == SOCKS5_WANTED || socks5_out_buf(s, &len) == NULL)
            abort();
    }
    return at;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct socks5 whole, pieces;
    size_t a = feed(&whole, data, size, SIZE_MAX);
    size_t b = feed(&pieces, data, size, 1 + size % 7);
    size_t a_len, b_len;
    const uint8_t *a_out = socks5_out_buf(&whole, &a_len), *b_out = socks5_out_buf(&pieces, &b_len);
    if (a != b || whole.state != pieces.state || strcmp(whole.host, pieces.host) != 0 || a_len != b_len ||
        (a_len > 0 && memcmp(a_out, b_out, a_len) != 0))
        abort();
    return 0;
}
