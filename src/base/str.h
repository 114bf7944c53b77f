/*
 * str: a view of text somebody else owns. Not terminated; may be empty; ptr may be null only when len is 0.
 * None of these allocate or write; a view lives as long as the bytes it shows.
 */
#ifndef FUMIDAI_BASE_STR_H
#define FUMIDAI_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct str {
    const char *ptr;
    size_t len;
};

/* What a byte is in ASCII, in any locale; bytes beyond ASCII are none of these. */
static inline bool str_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static inline char str_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

static inline bool str_is_letter(char c)
{
    return str_lower(c) >= 'a' && str_lower(c) <= 'z';
}

static inline bool str_is_alnum(char c)
{
    return str_is_letter(c) || str_is_digit(c);
}

static inline bool str_is_control(char c)
{
    return (unsigned char) c < ' ' || c == 0x7F;
}

/* For printf("%.*s", STR_ARG(view)); a view in this program is far shorter than INT_MAX. */
#define STR_ARG(view)     (int) (view).len, ((view).ptr != NULL ? (view).ptr : "")
#define STR_LITERAL(text) ((struct str){(text), sizeof(text) - 1})

struct str str_from(const char *terminated); /* null gives the empty view */
bool str_equal(struct str a, struct str b);
bool str_equal_text(struct str a, const char *terminated);
bool str_equal_nocase(struct str a, const char *terminated); /* ASCII letters only */
bool str_starts_with(struct str view, const char *prefix);
bool str_ends_with(struct str view, const char *suffix);
struct str str_slice(struct str view, size_t from, size_t to); /* clamped to the view */
struct str str_trim(struct str view);                          /* spaces, tabs, CR, LF at both ends */
/* The first max bytes at most, not ending inside a UTF-8 sequence: for texts that are cut where they must be
 * short. */
struct str str_limit_utf8(struct str view, size_t max);
/* Splits at the first / last `separator`; false (and *head = view, *tail empty) when there is none. */
bool str_cut(struct str view, char separator, struct str *head, struct str *tail);
bool str_cut_last(struct str view, char separator, struct str *head, struct str *tail);
bool str_find(struct str view, const char *needle, size_t *at);        /* first occurrence */
uint64_t str_hash(struct str view);                                    /* FNV-1a, 64 bits */
bool str_find_nocase(struct str view, const char *needle, size_t *at); /* ASCII letters only */

/* Takes the next item off a list that is separated by commas or blanks. Empty items are skipped; false when
 * there is none left. */
bool str_take_item(struct str *list, struct str *item);
/* "HOST", "HOST:PORT", "[IPv6]", "[IPv6]:PORT" or, without a port, IPv6 without brackets; the host is given
 * without them. *port is not checked; its pointer is null when there is no colon for it. False when there is
 * no host, a bracket is not closed, or something other than a port follows it. */
bool str_split_host_port(struct str text, struct str *host, struct str *port);
/* Whether all bytes are of a kind; true of an empty view. */
bool str_all(struct str view, bool (*is_of_kind)(char c));

/* Whole view must be digits and fit; no sign, no blanks. */
bool str_parse_u64(struct str view, uint64_t *value);
bool str_parse_u32(struct str view, uint32_t *value);
bool str_parse_port(struct str view, uint16_t *port); /* 1 to 65535 */
bool str_parse_hex_u64(struct str view, uint64_t *value);

/* Copies and terminates. False, and out an empty string, when it does not fit; never cuts silently. */
bool str_copy(struct str view, char *out, size_t capacity);

#endif
