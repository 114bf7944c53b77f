/*
 * json: reads JSON by jsmn's tokens, with bounds, and writes it. AWS's programs are written in Go and match
 * keys without regard to case, so member look-up does too (an exact match wins over a folded one, the first
 * over later ones).
 *
 * The document's text and tokens are the caller's and must outlive it. jsmn is lenient; json_parse also
 * refuses what it lets pass: trailing bytes, unquoted strings, missing colons and commas, control characters
 * in strings, nesting beyond JSON_DEPTH_MAX. The root must be an object or an array, as it is in everything
 * that we read.
 *
 * Cost, for documents from hostile peers: parsing is linear in the text's length. A look-up reads each key of
 * that one object once and steps over the values, so it is linear in the object's members (at most half of
 * the `capacity` of tokens that the caller granted) and never looks inside values. Whoever looks up k names
 * in an object of n members pays k * n; a member's name and the token capacity are ours, so both are bounded.
 *
 * A value is an index into the tokens; JSON_ABSENT is "not there" and is accepted everywhere, giving absence
 * again, so that look-ups chain without checks in between.
 */
#ifndef FUMIDAI_BASE_JSON_H
#define FUMIDAI_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    JSON_ABSENT = -1,
    JSON_DEPTH_MAX = 32 /* bounds jsmn's work: at each closing bracket it climbs from the last token */
};

enum json_type { JSON_NONE, JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* Has the layout of jsmntok_t (checked in json.c), so that only json.c sees jsmn.h; may_alias, because jsmn
 * writes it by its own name. `next` is jsmn's parent while parsing; afterwards the index behind the value and
 * everything in it, so that stepping over a value costs the same whatever it holds. */
struct __attribute__((may_alias)) json_token {
    int type;
    int start;
    int end;
    int size;
    int next;
};

struct json {
    struct str text;
    const struct json_token *tokens;
    int token_count;
};

/* ERROR_INVALID with the offset when malformed, ERROR_TOO_LARGE when there are more tokens than `capacity`.
 */
int json_parse(struct json *doc, struct str text, struct json_token *tokens, size_t capacity,
               struct error *err);

static inline int json_root(const struct json *doc)
{
    return doc->token_count > 0 ? 0 : JSON_ABSENT;
}
enum json_type json_type(const struct json *doc, int value);
int json_member(const struct json *doc, int object, const char *name);
int json_element(const struct json *doc, int array, size_t index);
size_t json_count(const struct json *doc, int value); /* members or elements; 0 for everything else */
/* Walks an object: *position starts at 0; false at the end. The key is a string value. */
bool json_next_member(const struct json *doc, int object, int *position, int *key, int *value);

struct str json_raw(const struct json *doc,
                    int value); /* the bytes as they stand; a string without its quotes, still escaped */
/* Unescapes (\u pairs to UTF-8, lone surrogates and bytes that are not UTF-8 to U+FFFD) into out and
 * terminates. False, and out an empty string, when value is not a string, does not fit, or holds a NUL.
 * *view, when wanted, shows it without the terminator. */
bool json_string(const struct json *doc, int value, char *out, size_t capacity, struct str *view);
bool json_string_equal(const struct json *doc, int value, const char *terminated); /* after unescaping */
bool json_i64(const struct json *doc, int value, int64_t *number); /* integers only, also in quotes */
bool json_bool(const struct json *doc, int value, bool *flag);
/* A time as AWS's JSON services write it: seconds since 1970, with a fraction and perhaps an exponent
 * (1700550000.123, 1.7E9). False beyond the year 9999 and for what is not a number. */
bool json_epoch_ms(const struct json *doc, int value, int64_t *unix_ms);

/* Writing: commas and colons are put where they belong. A document deeper than JSON_DEPTH_MAX fails the
 * writer. */
struct json_writer {
    struct writer *out;
    uint32_t has_items; /* bit n: something was written at depth n + 1; the root is depth 0 */
    unsigned depth;
    bool after_key;
};

struct json_writer json_writer_of(struct writer *out);
void json_begin_object(struct json_writer *j);
void json_end_object(struct json_writer *j);
void json_begin_array(struct json_writer *j);
void json_end_array(struct json_writer *j);
void json_key(struct json_writer *j, const char *name);
/* Escapes ", \, control characters, U+2028/9; invalid UTF-8 becomes U+FFFD. */
void json_put_string(struct json_writer *j, struct str text);
void json_put_text(struct json_writer *j, const char *terminated);
void json_put_i64(struct json_writer *j, int64_t number);
void json_put_bool(struct json_writer *j, bool flag);
void json_put_null(struct json_writer *j);
void json_put_raw(struct json_writer *j, struct str json); /* a value that is JSON already */
void json_put_value(struct json_writer *j, const struct json *doc, int value); /* as it stands there */
/* key and value in one line, the common case */
void json_member_string(struct json_writer *j, const char *name, struct str text);
void json_member_text(struct json_writer *j, const char *name, const char *terminated);
void json_member_i64(struct json_writer *j, const char *name, int64_t number);
void json_member_bool(struct json_writer *j, const char *name, bool flag);

#endif
