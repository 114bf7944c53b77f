#include "base/utf8.h"

#include <string.h>

static bool is_continuation(char c)
{
    return ((unsigned char) c & 0xC0) == 0x80;
}

size_t utf8_decode(struct str text, uint32_t *code)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000}; /* of a sequence of this length */
    if (text.len == 0)
        return 0;
    uint8_t first = (uint8_t) text.ptr[0];
    size_t len = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : first >= 0xC0 ? 2 : first < 0x80 ? 1 : 0;
    if (len == 0 || first > 0xF4 || text.len < len)
        return 0;
    uint32_t value = len == 1 ? first : first & (0x7FU >> len);
    for (size_t i = 1; i < len; i++) {
        if (!is_continuation(text.ptr[i]))
            return 0;
        value = value << 6 | ((uint8_t) text.ptr[i] & 0x3F);
    }
    if (value < smallest[len] || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *code = value;
    return len;
}

size_t utf8_encode(uint32_t code, char out[UTF8_SIZE])
{
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    if (code < 0x80) {
        out[0] = (char) code;
        return 1;
    }
    size_t len = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char) (0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char) (lead[len] | code);
    return len;
}

struct str utf8_limit(struct str text, size_t max)
{
    size_t len = text.len < max ? text.len : max;
    while (len > 0 && len < text.len && is_continuation(text.ptr[len]))
        len--;
    return str_slice(text, 0, len);
}

void utf8_copy_cut(struct str text, char *out, size_t capacity)
{
    str_copy(utf8_limit(text, capacity - 1), out, capacity);
}
