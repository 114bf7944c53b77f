#include "base/format.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* What has been written; beyond the capacity it only counts. */
struct output {
    char *start;
    size_t capacity;
    size_t len;
};

/* One conversion: "%+05lld" and the like. */
struct conversion {
    char kind;   /* the letter */
    char length; /* 'l', 'L' for ll, 'z', or 0 */
    bool sign;
    bool zeroes;
    size_t width;
    size_t precision; /* SIZE_MAX: none */
};

static void put(struct output *out, const char *text, size_t len)
{
    if (out->len < out->capacity) {
        size_t room = out->capacity - out->len;
        memcpy(out->start + out->len, text, len < room ? len : room);
    }
    out->len += len;
}

static void pad(struct output *out, char with, size_t width, size_t len)
{
    for (; len < width; len++)
        put(out, &with, 1);
}

/* "12" or "*"; neither leaves what was there. */
static const char *read_count(const char *at, size_t *count, va_list *args)
{
    if (*at == '*') {
        int value = va_arg(*args, int);
        *count = value > 0 ? (size_t) value : 0;
        return at + 1;
    }
    for (; *at >= '0' && *at <= '9'; at++)
        *count = *count * 10 + (size_t) (*at - '0');
    return at;
}

/* `at` is behind the percent sign. Returns where the conversion ends. */
static const char *read_conversion(const char *at, struct conversion *c, va_list *args)
{
    *c = (struct conversion){.precision = SIZE_MAX};
    for (; *at == '+' || *at == '0'; at++) {
        c->sign |= *at == '+';
        c->zeroes |= *at == '0';
    }
    at = read_count(at, &c->width, args);
    if (*at == '.') {
        c->precision = 0;
        at = read_count(at + 1, &c->precision, args);
    }
    if (*at == 'l' || *at == 'z') {
        c->length = *at++;
        if (c->length == 'l' && *at == 'l') {
            c->length = 'L';
            at++;
        }
    }
    c->kind = *at;
    return *at == '\0' ? at : at + 1;
}

/* A signed number's magnitude, and its sign apart. */
static uint64_t take_number(const struct conversion *c, bool *negative, va_list *args)
{
    bool is_signed = c->kind == 'd';
    int64_t value;
    *negative = false;
    if (c->length == 0) {
        if (!is_signed)
            return va_arg(*args, unsigned);
        value = va_arg(*args, int);
    } else { /* long, long long and size_t have 64 bits wherever this program runs */
        _Static_assert(sizeof(long) == 8 && sizeof(long long) == 8 && sizeof(size_t) == 8, "64-bit Linux");
        value = va_arg(*args, int64_t);
    }
    *negative = is_signed && value < 0;
    return *negative ? 0 - (uint64_t) value : (uint64_t) value;
}

static void put_number(struct output *out, const struct conversion *c, va_list *args)
{
    char digits[20]; /* of UINT64_MAX */
    size_t at = sizeof digits;
    bool negative;
    unsigned base = c->kind == 'x' ? 16 : 10;
    uint64_t value = take_number(c, &negative, args);
    do {
        digits[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    const char *sign = negative ? "-" : c->sign ? "+" : "";
    size_t len = strlen(sign) + sizeof digits - at;
    if (!c->zeroes)
        pad(out, ' ', c->width, len);
    put(out, sign, strlen(sign));
    if (c->zeroes)
        pad(out, '0', c->width, len);
    put(out, digits + at, sizeof digits - at);
}

static void put_string(struct output *out, const struct conversion *c, const char *text)
{
    if (text == NULL)
        text = "(null)";
    size_t len = 0;
    while (len < c->precision && text[len] != '\0')
        len++;
    pad(out, ' ', c->width, len);
    put(out, text, len);
}

size_t format_into(char *start, size_t capacity, const char *format, va_list arguments)
{
    struct output out = {start, capacity == 0 ? 0 : capacity - 1, 0};
    va_list args; /* a copy has the type that a pointer can be taken of */
    va_copy(args, arguments);
    while (*format != '\0') {
        const char *percent = strchrnul(format, '%');
        put(&out, format, (size_t) (percent - format));
        if (*percent == '\0')
            break;
        struct conversion c;
        format = read_conversion(percent + 1, &c, &args);
        char letter;
        switch (c.kind) {
        case 's':
            put_string(&out, &c, va_arg(args, const char *));
            break;
        case 'c':
            letter = (char) va_arg(args, int);
            put(&out, &letter, 1);
            break;
        case 'd':
        case 'u':
        case 'x':
            put_number(&out, &c, &args);
            break;
        case '%':
            put(&out, "%", 1);
            break;
        default:
            put(&out, percent, (size_t) (format - percent));
            break;
        }
    }
    va_end(args);
    if (capacity > 0)
        start[out.len < out.capacity ? out.len : out.capacity] = '\0';
    return out.len;
}

size_t format_text(char *out, size_t capacity, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t len = format_into(out, capacity, format, args);
    va_end(args);
    return len;
}
