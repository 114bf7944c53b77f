#include "base/str.h"

#include <string.h>

static bool equal_bytes_nocase(const char *a, const char *b, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (str_lower(a[i]) != str_lower(b[i]))
            return false;
    return true;
}

struct str str_from(const char *terminated)
{
    return (struct str){terminated, terminated == NULL ? 0 : strlen(terminated)};
}

bool str_equal(struct str a, struct str b)
{
    /* memcmp wants real pointers even for no bytes. */
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool str_equal_text(struct str a, const char *terminated)
{
    return str_equal(a, str_from(terminated));
}

bool str_equal_nocase(struct str a, const char *terminated)
{
    struct str b = str_from(terminated);
    return a.len == b.len && equal_bytes_nocase(a.ptr, b.ptr, a.len);
}

bool str_starts_with(struct str view, const char *prefix)
{
    size_t len = str_from(prefix).len;
    return view.len >= len && str_equal_text(str_slice(view, 0, len), prefix);
}

bool str_ends_with(struct str view, const char *suffix)
{
    size_t len = str_from(suffix).len;
    return view.len >= len && str_equal_text(str_slice(view, view.len - len, view.len), suffix);
}

struct str str_slice(struct str view, size_t from, size_t to)
{
    if (to > view.len)
        to = view.len;
    if (from > to)
        from = to;
    /* Adding even nothing to a null pointer is undefined. */
    return (struct str){from == 0 ? view.ptr : view.ptr + from, to - from};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct str str_trim(struct str view)
{
    size_t from = 0;
    size_t to = view.len;
    while (from < to && is_blank(view.ptr[from]))
        from++;
    while (to > from && is_blank(view.ptr[to - 1]))
        to--;
    return str_slice(view, from, to);
}

struct str str_limit_utf8(struct str view, size_t max)
{
    size_t len = view.len < max ? view.len : max;
    while (len > 0 && len < view.len && ((unsigned char) view.ptr[len] & 0xC0) == 0x80)
        len--;
    return str_slice(view, 0, len);
}

static void cut_at(struct str view, const char *separator, struct str *head, struct str *tail)
{
    size_t at = separator == NULL ? view.len : (size_t) (separator - view.ptr);
    *head = str_slice(view, 0, at);
    *tail = str_slice(view, separator == NULL ? at : at + 1, view.len);
}

bool str_cut(struct str view, char separator, struct str *head, struct str *tail)
{
    const char *at = view.len == 0 ? NULL : memchr(view.ptr, separator, view.len);
    cut_at(view, at, head, tail);
    return at != NULL;
}

bool str_cut_last(struct str view, char separator, struct str *head, struct str *tail)
{
    const char *at = view.len == 0 ? NULL : memrchr(view.ptr, separator, view.len);
    cut_at(view, at, head, tail);
    return at != NULL;
}

bool str_find(struct str view, const char *needle, size_t *at)
{
    size_t len = str_from(needle).len;
    /* The C library's memmem is 1 KB; needles here are a few characters, and texts are bounded. */
    for (size_t i = 0; i + len <= view.len; i++) {
        if (len == 0 || memcmp(view.ptr + i, needle, len) == 0) {
            *at = i;
            return true;
        }
    }
    return false;
}

uint64_t str_hash(struct str view)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < view.len; i++)
        hash = (hash ^ (uint8_t) view.ptr[i]) * 1099511628211u;
    return hash;
}

bool str_find_nocase(struct str view, const char *needle, size_t *at)
{
    size_t len = str_from(needle).len;
    for (size_t i = 0; i + len <= view.len; i++) {
        if (len == 0 || equal_bytes_nocase(view.ptr + i, needle, len)) {
            *at = i;
            return true;
        }
    }
    return false;
}

static bool is_separator(char c)
{
    return c == ',' || is_blank(c);
}

bool str_take_item(struct str *list, struct str *item)
{
    size_t from = 0;
    while (from < list->len && is_separator(list->ptr[from]))
        from++;
    size_t to = from;
    while (to < list->len && !is_separator(list->ptr[to]))
        to++;
    *item = str_slice(*list, from, to);
    *list = str_slice(*list, to, list->len);
    return item->len > 0;
}

bool str_split_host_port(struct str text, struct str *host, struct str *port)
{
    struct str before, rest;
    *host = text;
    *port = str_from(NULL);
    if (str_starts_with(text, "[")) {
        if (!str_cut(str_slice(text, 1, text.len), ']', host, &rest) || (rest.len > 0 && rest.ptr[0] != ':'))
            return false;
        if (rest.len > 0)
            *port = str_slice(rest, 1, rest.len);
    } else if (str_cut(text, ':', &before, &rest) && !str_find(rest, ":", &(size_t){0})) {
        *host = before;
        *port = rest;
    }
    return host->len > 0;
}

bool str_all(struct str view, bool (*is_of_kind)(char c))
{
    for (size_t i = 0; i < view.len; i++)
        if (!is_of_kind(view.ptr[i]))
            return false;
    return true;
}

bool str_parse_u64(struct str view, uint64_t *value)
{
    if (view.len == 0)
        return false;
    uint64_t sum = 0;
    for (size_t i = 0; i < view.len; i++) {
        if (!str_is_digit(view.ptr[i]))
            return false;
        uint64_t digit = (uint64_t) (view.ptr[i] - '0');
        if (sum > (UINT64_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

bool str_parse_u32(struct str view, uint32_t *value)
{
    uint64_t wide;
    if (!str_parse_u64(view, &wide) || wide > UINT32_MAX)
        return false;
    *value = (uint32_t) wide;
    return true;
}

bool str_parse_port(struct str view, uint16_t *port)
{
    uint64_t wide;
    if (!str_parse_u64(view, &wide) || wide == 0 || wide > UINT16_MAX)
        return false;
    *port = (uint16_t) wide;
    return true;
}

static int hex_digit(char c)
{
    if (str_is_digit(c))
        return c - '0';
    c = str_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool str_parse_hex_u64(struct str view, uint64_t *value)
{
    if (view.len == 0)
        return false;
    uint64_t sum = 0;
    for (size_t i = 0; i < view.len; i++) {
        int digit = hex_digit(view.ptr[i]);
        if (digit < 0 || sum >> 60 != 0)
            return false;
        sum = sum << 4 | (uint64_t) digit;
    }
    *value = sum;
    return true;
}

bool str_copy(struct str view, char *out, size_t capacity)
{
    if (view.len >= capacity) {
        if (capacity > 0)
            out[0] = '\0';
        return false;
    }
    if (view.len > 0)
        memcpy(out, view.ptr, view.len);
    out[view.len] = '\0';
    return true;
}
