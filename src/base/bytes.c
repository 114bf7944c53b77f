#include "base/bytes.h"

#include <stdarg.h>
#include <string.h>

#include "base/format.h"

struct reader reader_of(const void *data, size_t len)
{
    return (struct reader){.at = data, .left = len, .failed = false};
}

const uint8_t *reader_bytes(struct reader *r, size_t len)
{
    if (r->failed || len > r->left) {
        r->failed = true;
        return NULL;
    }
    const uint8_t *bytes = r->at;
    if (len > 0) {
        r->at += len;
        r->left -= len;
    }
    return bytes;
}

static uint64_t read_be(struct reader *r, size_t len)
{
    const uint8_t *bytes = reader_bytes(r, len);
    uint64_t value = 0;
    for (size_t i = 0; bytes != NULL && i < len; i++)
        value = value << 8 | bytes[i];
    return value;
}

static uint64_t read_le(struct reader *r, size_t len)
{
    const uint8_t *bytes = reader_bytes(r, len);
    uint64_t value = 0;
    for (size_t i = len; bytes != NULL && i > 0; i--)
        value = value << 8 | bytes[i - 1];
    return value;
}

uint8_t reader_u8(struct reader *r)
{
    return (uint8_t) read_be(r, 1);
}

uint16_t reader_u16be(struct reader *r)
{
    return (uint16_t) read_be(r, 2);
}

uint32_t reader_u32be(struct reader *r)
{
    return (uint32_t) read_be(r, 4);
}

uint64_t reader_u64be(struct reader *r)
{
    return read_be(r, 8);
}

uint16_t reader_u16le(struct reader *r)
{
    return (uint16_t) read_le(r, 2);
}

uint32_t reader_u32le(struct reader *r)
{
    return (uint32_t) read_le(r, 4);
}

void reader_copy(struct reader *r, void *out, size_t len)
{
    const uint8_t *bytes = reader_bytes(r, len);
    if (len == 0)
        return;
    if (bytes == NULL)
        memset(out, 0, len);
    else
        memcpy(out, bytes, len);
}

void reader_skip(struct reader *r, size_t len)
{
    (void) reader_bytes(r, len);
}

struct writer writer_of(void *memory, size_t capacity)
{
    return (struct writer){.start = memory, .len = 0, .capacity = capacity, .failed = false};
}

/* Where `len` more bytes go, counted as written; null when they do not fit. */
static uint8_t *claim(struct writer *w, size_t len)
{
    if (w->failed || len > w->capacity - w->len) {
        w->failed = true;
        return NULL;
    }
    uint8_t *place = w->start + w->len;
    w->len += len;
    return place;
}

static void write_be(struct writer *w, uint64_t value, size_t len)
{
    uint8_t *place = claim(w, len);
    for (size_t i = len; place != NULL && i > 0; i--) {
        place[i - 1] = (uint8_t) value;
        value >>= 8;
    }
}

static void write_le(struct writer *w, uint64_t value, size_t len)
{
    uint8_t *place = claim(w, len);
    for (size_t i = 0; place != NULL && i < len; i++) {
        place[i] = (uint8_t) value;
        value >>= 8;
    }
}

void writer_u8(struct writer *w, uint8_t value)
{
    write_be(w, value, 1);
}

void writer_u16be(struct writer *w, uint16_t value)
{
    write_be(w, value, 2);
}

void writer_u32be(struct writer *w, uint32_t value)
{
    write_be(w, value, 4);
}

void writer_u64be(struct writer *w, uint64_t value)
{
    write_be(w, value, 8);
}

void writer_u16le(struct writer *w, uint16_t value)
{
    write_le(w, value, 2);
}

void writer_u32le(struct writer *w, uint32_t value)
{
    write_le(w, value, 4);
}

void writer_bytes(struct writer *w, const void *data, size_t len)
{
    if (len == 0)
        return;
    uint8_t *place = claim(w, len);
    if (place != NULL)
        memcpy(place, data, len);
}

void writer_fill(struct writer *w, uint8_t value, size_t count)
{
    if (count == 0)
        return;
    uint8_t *place = claim(w, count);
    if (place != NULL)
        memset(place, value, count);
}

void writer_str(struct writer *w, struct str text)
{
    writer_bytes(w, text.ptr, text.len);
}

void writer_text(struct writer *w, const char *terminated)
{
    writer_str(w, str_from(terminated));
}

void writer_char(struct writer *w, char c)
{
    writer_u8(w, (uint8_t) c);
}

enum { DECIMAL_SIZE = 20 /* digits of UINT64_MAX; a sign and 19 for INT64_MIN */ };

static void write_decimal(struct writer *w, uint64_t magnitude, bool negative)
{
    char text[DECIMAL_SIZE];
    size_t at = sizeof text;
    do {
        text[--at] = (char) ('0' + magnitude % 10);
        magnitude /= 10;
    } while (magnitude != 0);
    if (negative)
        text[--at] = '-';
    writer_bytes(w, text + at, sizeof text - at);
}

void writer_u64_decimal(struct writer *w, uint64_t value)
{
    write_decimal(w, value, false);
}

void writer_i64_decimal(struct writer *w, int64_t value)
{
    /* INT64_MIN has no positive counterpart; unsigned arithmetic has. */
    write_decimal(w, value < 0 ? 0 - (uint64_t) value : (uint64_t) value, value < 0);
}

void writer_hex(struct writer *w, const void *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;
    if (len > SIZE_MAX / 2) {
        w->failed = true;
        return;
    }
    uint8_t *place = len == 0 ? NULL : claim(w, 2 * len);
    for (size_t i = 0; place != NULL && i < len; i++) {
        place[2 * i] = (uint8_t) digits[bytes[i] >> 4];
        place[2 * i + 1] = (uint8_t) digits[bytes[i] & 0x0F];
    }
}

void writer_format(struct writer *w, const char *format, ...)
{
    if (w->failed)
        return;
    size_t room = w->capacity - w->len;
    va_list args;
    va_start(args, format);
    size_t needed = format_into(room == 0 ? NULL : (char *) w->start + w->len, room, format, args);
    va_end(args);
    if (needed > 0 && needed >= room) {
        w->failed = true;
        return;
    }
    w->len += needed;
}

struct str writer_view(const struct writer *w)
{
    return (struct str){(const char *) w->start, w->len};
}

const char *writer_terminate(struct writer *w)
{
    if (w->failed || w->len == w->capacity)
        return "";
    w->start[w->len] = '\0';
    return (const char *) w->start;
}

void bytes_wipe(void *memory, size_t len)
{
    if (len == 0)
        return;
    memset(memory, 0, len);
    /* Tells the compiler that somebody reads the zeroes, so the memset above is not dead. */
    __asm__ __volatile__("" : : "r"(memory) : "memory");
}

void writer_base64(struct writer *w, const void *data, size_t len)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *bytes = data;
    if (len > SIZE_MAX / 2) {
        w->failed = true;
        return;
    }
    uint8_t *place = len == 0 ? NULL : claim(w, (len + 2) / 3 * 4);
    for (size_t i = 0; place != NULL && i < len; i += 3, place += 4) {
        uint32_t group = (uint32_t) bytes[i] << 16;
        group |= i + 1 < len ? (uint32_t) bytes[i + 1] << 8 : 0;
        group |= i + 2 < len ? bytes[i + 2] : 0;
        place[0] = (uint8_t) alphabet[group >> 18];
        place[1] = (uint8_t) alphabet[group >> 12 & 0x3F];
        place[2] = (uint8_t) (i + 1 < len ? alphabet[group >> 6 & 0x3F] : '=');
        place[3] = (uint8_t) (i + 2 < len ? alphabet[group & 0x3F] : '=');
    }
}
