#include "base/json.h"

#include <limits.h>
#include <string.h>

#define JSMN_STATIC
#define JSMN_STRICT
#define JSMN_PARENT_LINKS
#include <jsmn.h>

#include "base/utf8.h"

_Static_assert(sizeof(struct json_token) == sizeof(jsmntok_t), "json_token must mirror jsmntok_t");
_Static_assert(offsetof(struct json_token, type) == offsetof(jsmntok_t, type), "type");
_Static_assert(offsetof(struct json_token, start) == offsetof(jsmntok_t, start), "start");
_Static_assert(offsetof(struct json_token, end) == offsetof(jsmntok_t, end), "end");
_Static_assert(offsetof(struct json_token, size) == offsetof(jsmntok_t, size), "size");
_Static_assert(offsetof(struct json_token, next) == offsetof(jsmntok_t, parent), "next");

/* ---- characters ------------------------------------------------------------------------------------- */

static const char REPLACEMENT[] = "\xEF\xBF\xBD"; /* U+FFFD */
enum { REPLACEMENT_CODE = 0xFFFD };

/* Takes "\uXXXX" off the text; false when it does not start so. */
static bool take_unicode_escape(struct str *rest, uint32_t *code)
{
    uint64_t value;
    if (rest->len < 6 || rest->ptr[0] != '\\' || rest->ptr[1] != 'u' ||
        !str_parse_hex_u64(str_slice(*rest, 2, 6), &value))
        return false;
    *code = (uint32_t) value;
    *rest = str_slice(*rest, 6, rest->len);
    return true;
}

static uint32_t join_surrogates(struct str *rest, uint32_t code)
{
    if (code < 0xD800 || code > 0xDFFF)
        return code;
    struct str behind = *rest;
    uint32_t low;
    if (code > 0xDBFF || !take_unicode_escape(&behind, &low) || low < 0xDC00 || low > 0xDFFF)
        return REPLACEMENT_CODE;
    *rest = behind;
    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
}

/* Takes one character, unescaped, off a string's raw text, which json_parse has checked. Gives its length in
 * UTF-8, 0 at the end. */
static size_t take_char(struct str *rest, char out[UTF8_SIZE])
{
    uint32_t code;
    if (rest->len == 0)
        return 0;
    if (take_unicode_escape(rest, &code))
        return utf8_encode(join_surrogates(rest, code), out);
    if (rest->ptr[0] == '\\' && rest->len >= 2) {
        static const char letters[] = "bfnrt";
        static const char meanings[] = "\b\f\n\r\t";
        const char *letter = memchr(letters, rest->ptr[1], sizeof letters - 1);
        out[0] = letter == NULL ? rest->ptr[1] : meanings[letter - letters];
        *rest = str_slice(*rest, 2, rest->len);
        return 1;
    }
    size_t len = utf8_decode(*rest, &code);
    memcpy(out, len == 0 ? REPLACEMENT : rest->ptr, len == 0 ? 3 : len);
    *rest = str_slice(*rest, len == 0 ? 1 : len, rest->len);
    return len == 0 ? 3 : len;
}

/* ---- parsing ---------------------------------------------------------------------------------------- */

/*
 * Three steps. First the nesting is bounded, which keeps jsmn linear (at a closing bracket it climbs from the
 * last token). Then jsmn finds the tokens. It takes much that is not JSON, so at last the text is walked
 * along with the tokens, which stand in the order of their first bytes: what lies between two tokens must be
 * exactly the punctuation that the grammar (RFC 8259) wants there, and nothing may be left over.
 */
struct check {
    struct str text;
    struct json_token *tokens;
    int count;
    int taken; /* tokens passed so far */
    int open;  /* the innermost open container, or JSON_ABSENT; the outer ones hang on its `next` */
    size_t at; /* byte that is looked at; where the error is, if there is one */
};

static bool nesting_is_bounded(struct str text, size_t *at)
{
    unsigned depth = 0;
    bool in_string = false;
    for (*at = 0; *at < text.len; ++*at) {
        char c = text.ptr[*at];
        if (c == '"') {
            in_string = !in_string;
        } else if (in_string && c == '\\') {
            ++*at;
        } else if (!in_string && (c == '{' || c == '[')) {
            if (++depth > JSON_DEPTH_MAX)
                return false;
        } else if (!in_string && (c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return true;
}

static void skip_space(struct check *c)
{
    while (c->at < c->text.len && strchr(" \t\r\n", c->text.ptr[c->at]) != NULL && c->text.ptr[c->at] != '\0')
        c->at++;
}

static bool take_punctuation(struct check *c, char wanted)
{
    skip_space(c);
    if (c->at >= c->text.len || c->text.ptr[c->at] != wanted)
        return false;
    c->at++;
    return true;
}

/* jsmn has checked the escapes and the closing quote; it lets control characters pass. */
static bool check_string(struct check *c, const struct json_token *token)
{
    for (; c->at < (size_t) token->end; c->at++)
        if ((unsigned char) c->text.ptr[c->at] < 0x20)
            return false;
    c->at++; /* the quote */
    return true;
}

static bool take_number_digits(struct str *rest)
{
    size_t len = 0;
    while (len < rest->len && str_is_digit(rest->ptr[len]))
        len++;
    *rest = str_slice(*rest, len, rest->len);
    return len > 0;
}

static bool take_one_of(struct str *rest, const char *set)
{
    if (rest->len == 0 || rest->ptr[0] == '\0' || strchr(set, rest->ptr[0]) == NULL)
        return false;
    *rest = str_slice(*rest, 1, rest->len);
    return true;
}

static bool number_is_valid(struct str rest)
{
    (void) take_one_of(&rest, "-");
    if (!take_one_of(&rest, "0") && !take_number_digits(&rest))
        return false;
    if (take_one_of(&rest, ".") && !take_number_digits(&rest))
        return false;
    if (take_one_of(&rest, "eE")) {
        (void) take_one_of(&rest, "+-");
        if (!take_number_digits(&rest))
            return false;
    }
    return rest.len == 0;
}

static bool check_primitive(struct check *c, const struct json_token *token)
{
    struct str raw = str_slice(c->text, (size_t) token->start, (size_t) token->end);
    if (!str_equal_text(raw, "null") && !str_equal_text(raw, "true") && !str_equal_text(raw, "false") &&
        !number_is_valid(raw))
        return false;
    c->at = (size_t) token->end;
    return true;
}

/* Takes the value that must start here; a container is only opened. */
static bool take_value(struct check *c)
{
    skip_space(c);
    if (c->taken >= c->count)
        return false;
    int index = c->taken;
    struct json_token *token = &c->tokens[index];
    size_t quote = token->type == JSMN_STRING ? 1 : 0; /* jsmn's strings start behind it */
    if ((size_t) token->start != c->at + quote)
        return false;
    c->at += quote;
    c->taken++;
    token->next = c->taken;
    token->size = 0;
    switch (token->type) {
    case JSMN_STRING:
        return check_string(c, token);
    case JSMN_PRIMITIVE:
        return check_primitive(c, token);
    default:
        token->next = c->open;
        c->open = index;
        c->at++;
        return true;
    }
}

/* One member or element of the open container, or its end. */
static bool take_item(struct check *c)
{
    struct json_token *container = &c->tokens[c->open];
    bool is_object = container->type == JSMN_OBJECT;
    if (take_punctuation(c, is_object ? '}' : ']')) {
        c->open = container->next;
        container->next = c->taken;
        return c->at == (size_t) container->end;
    }
    if (container->size > 0 && !take_punctuation(c, ','))
        return false;
    container->size++;
    if (is_object) {
        skip_space(c);
        bool is_string = c->taken < c->count && c->tokens[c->taken].type == JSMN_STRING;
        if (!is_string || !take_value(c) || !take_punctuation(c, ':'))
            return false;
    }
    return take_value(c);
}

static bool check_document(struct check *c)
{
    if (!take_value(c) || c->open == JSON_ABSENT)
        return false;
    while (c->open != JSON_ABSENT)
        if (!take_item(c))
            return false;
    skip_space(c);
    return c->at == c->text.len && c->taken == c->count;
}

int json_parse(struct json *doc, struct str text, struct json_token *tokens, size_t capacity,
               struct error *err)
{
    *doc = (struct json){.text = text, .tokens = tokens, .token_count = 0};
    size_t at = 0;
    if (text.len > INT_MAX || capacity > INT_MAX)
        return error_set(err, ERROR_TOO_LARGE, "JSON of %zu bytes is more than can be indexed", text.len);
    if (!nesting_is_bounded(text, &at))
        return error_set(err, ERROR_INVALID, "JSON nested deeper than %d at offset %zu", JSON_DEPTH_MAX, at);
    jsmn_parser parser;
    jsmn_init(&parser);
    int count = jsmn_parse(&parser, text.ptr, text.len, (jsmntok_t *) tokens, (unsigned) capacity);
    if (tokens == NULL || count == JSMN_ERROR_NOMEM) /* without tokens jsmn only counts */
        return error_set(err, ERROR_TOO_LARGE, "JSON has more than %zu values", capacity);
    if (count == JSMN_ERROR_PART)
        return error_set(err, ERROR_INVALID, "not JSON: ends inside a value (offset %u)", parser.pos);
    struct check c = {.text = text, .tokens = tokens, .count = count, .open = JSON_ABSENT, .at = parser.pos};
    if (count >= 0)
        c.at = 0;
    if (count < 0 || !check_document(&c))
        return error_set(err, ERROR_INVALID, "not JSON: unexpected byte or end at offset %zu", c.at);
    doc->token_count = count;
    return 0;
}

/* ---- reading ---------------------------------------------------------------------------------------- */

static const struct json_token *token_at(const struct json *doc, int value)
{
    return value < 0 || value >= doc->token_count ? NULL : &doc->tokens[value];
}

struct str json_raw(const struct json *doc, int value)
{
    const struct json_token *token = token_at(doc, value);
    if (token == NULL)
        return (struct str){NULL, 0};
    return str_slice(doc->text, (size_t) token->start, (size_t) token->end);
}

enum json_type json_type(const struct json *doc, int value)
{
    const struct json_token *token = token_at(doc, value);
    if (token == NULL)
        return JSON_NONE;
    switch (token->type) {
    case JSMN_OBJECT:
        return JSON_OBJECT;
    case JSMN_ARRAY:
        return JSON_ARRAY;
    case JSMN_STRING:
        return JSON_STRING;
    default:
        break;
    }
    switch (doc->text.ptr[token->start]) {
    case 'n':
        return JSON_NULL;
    case 't':
    case 'f':
        return JSON_BOOL;
    default:
        return JSON_NUMBER;
    }
}

size_t json_count(const struct json *doc, int value)
{
    enum json_type type = json_type(doc, value);
    return type == JSON_OBJECT || type == JSON_ARRAY ? (size_t) doc->tokens[value].size : 0;
}

bool json_next_member(const struct json *doc, int object, int *position, int *key, int *value)
{
    if (json_type(doc, object) != JSON_OBJECT || *position < 0)
        return false;
    int at = *position == 0 ? object + 1 : *position;
    if (at >= doc->tokens[object].next)
        return false;
    *key = at;
    *value = at + 1;
    *position = doc->tokens[at + 1].next;
    return true;
}

enum match { MATCH_NONE, MATCH_FOLDED, MATCH_EXACT };

static enum match compare_name(struct str raw, struct str name)
{
    enum match match = MATCH_EXACT;
    char c[UTF8_SIZE];
    size_t len;
    while ((len = take_char(&raw, c)) > 0) {
        if (len > name.len)
            return MATCH_NONE;
        for (size_t i = 0; i < len; i++) {
            if (str_lower(c[i]) != str_lower(name.ptr[i]))
                return MATCH_NONE;
            if (c[i] != name.ptr[i])
                match = MATCH_FOLDED;
        }
        name = str_slice(name, len, name.len);
    }
    return name.len == 0 ? match : MATCH_NONE;
}

int json_member(const struct json *doc, int object, const char *name)
{
    int folded = JSON_ABSENT;
    int position = 0;
    int key;
    int value;
    while (json_next_member(doc, object, &position, &key, &value)) {
        enum match match = compare_name(json_raw(doc, key), str_from(name));
        if (match == MATCH_EXACT)
            return value;
        if (match == MATCH_FOLDED && folded == JSON_ABSENT)
            folded = value;
    }
    return folded;
}

int json_element(const struct json *doc, int array, size_t index)
{
    if (json_type(doc, array) != JSON_ARRAY || index >= json_count(doc, array))
        return JSON_ABSENT;
    int at = array + 1;
    while (index-- > 0)
        at = doc->tokens[at].next;
    return at;
}

static bool unescape(struct str raw, char *out, size_t capacity, size_t *written)
{
    char c[UTF8_SIZE];
    size_t len;
    *written = 0;
    while ((len = take_char(&raw, c)) > 0) {
        if (c[0] == '\0' || len >= capacity - *written)
            return false;
        memcpy(out + *written, c, len);
        *written += len;
    }
    out[*written] = '\0';
    return true;
}

bool json_string(const struct json *doc, int value, char *out, size_t capacity, struct str *view)
{
    size_t len = 0;
    bool fits = capacity > 0 && json_type(doc, value) == JSON_STRING &&
                unescape(json_raw(doc, value), out, capacity, &len);
    if (!fits) {
        len = 0;
        if (capacity > 0)
            out[0] = '\0';
    }
    if (view != NULL)
        *view = (struct str){out, len};
    return fits;
}

bool json_string_equal(const struct json *doc, int value, const char *terminated)
{
    return json_type(doc, value) == JSON_STRING &&
           compare_name(json_raw(doc, value), str_from(terminated)) == MATCH_EXACT;
}

bool json_i64(const struct json *doc, int value, int64_t *number)
{
    enum json_type type = json_type(doc, value);
    if (type != JSON_NUMBER && type != JSON_STRING)
        return false;
    struct str digits = json_raw(doc, value);
    bool negative = str_starts_with(digits, "-");
    uint64_t magnitude;
    if (!str_parse_u64(str_slice(digits, negative ? 1 : 0, digits.len), &magnitude) ||
        magnitude > (uint64_t) INT64_MAX + (negative ? 1 : 0))
        return false;
    *number = negative ? (int64_t) (0 - magnitude) : (int64_t) magnitude;
    return true;
}

/* The digits before an exponent as an integer, and the power of ten that it is to be multiplied with. */
static size_t read_mantissa(struct str text, uint64_t *digits, int *power)
{
    bool fraction = false;
    size_t i = 0;
    for (; i < text.len && (str_is_digit(text.ptr[i]) || text.ptr[i] == '.'); i++) {
        if (text.ptr[i] == '.') {
            if (fraction || i == 0)
                return 0;
            fraction = true;
        } else if (*digits > (UINT64_MAX - 9) / 10) {
            *power += fraction ? 0 : 1; /* finer than it matters */
        } else {
            *digits = *digits * 10 + (uint64_t) (text.ptr[i] - '0');
            *power -= fraction ? 1 : 0;
        }
    }
    return i;
}

static bool read_exponent(struct str text, int *power)
{
    uint64_t exponent;
    if (text.len == 0)
        return true;
    bool negative = str_starts_with(str_slice(text, 1, text.len), "-");
    bool sign = negative || str_starts_with(str_slice(text, 1, text.len), "+");
    if ((text.ptr[0] != 'e' && text.ptr[0] != 'E') ||
        !str_parse_u64(str_slice(text, sign ? 2 : 1, text.len), &exponent) || exponent > 64)
        return false;
    *power += negative ? -(int) exponent : (int) exponent;
    return true;
}

bool json_epoch_ms(const struct json *doc, int value, int64_t *unix_ms)
{
    const uint64_t last_ms = 253402300799999; /* the end of the year 9999 */
    if (json_type(doc, value) != JSON_NUMBER)
        return false;
    struct str text = json_raw(doc, value);
    uint64_t ms = 0;
    int power = 3; /* seconds to milliseconds */
    size_t end = read_mantissa(text, &ms, &power);
    if (end == 0 || !read_exponent(str_slice(text, end, text.len), &power))
        return false;
    for (; power > 0 && ms <= last_ms; power--)
        ms *= 10;
    for (; power < 0; power++)
        ms /= 10;
    *unix_ms = (int64_t) ms;
    return ms <= last_ms;
}

bool json_bool(const struct json *doc, int value, bool *flag)
{
    if (json_type(doc, value) != JSON_BOOL)
        return false;
    *flag = doc->text.ptr[doc->tokens[value].start] == 't';
    return true;
}

/* ---- writing ---------------------------------------------------------------------------------------- */

struct json_writer json_writer_of(struct writer *out)
{
    return (struct json_writer){.out = out, .has_items = 0, .depth = 0, .after_key = false};
}

/* The comma before a value or key, when one belongs there. */
static void begin_item(struct json_writer *j)
{
    if (j->after_key) {
        j->after_key = false;
        return;
    }
    if (j->depth == 0)
        return;
    uint32_t bit = (uint32_t) 1 << (j->depth - 1);
    if ((j->has_items & bit) != 0)
        writer_char(j->out, ',');
    j->has_items |= bit;
}

static void begin_container(struct json_writer *j, char bracket)
{
    begin_item(j);
    if (j->depth >= JSON_DEPTH_MAX) {
        j->out->failed = true;
        return;
    }
    j->has_items &= ~((uint32_t) 1 << j->depth);
    j->depth++;
    writer_char(j->out, bracket);
}

static void end_container(struct json_writer *j, char bracket)
{
    if (j->depth == 0) {
        j->out->failed = true;
        return;
    }
    j->depth--;
    writer_char(j->out, bracket);
}

void json_begin_object(struct json_writer *j)
{
    begin_container(j, '{');
}

void json_end_object(struct json_writer *j)
{
    end_container(j, '}');
}

void json_begin_array(struct json_writer *j)
{
    begin_container(j, '[');
}

void json_end_array(struct json_writer *j)
{
    end_container(j, ']');
}

/* U+2028 and U+2029, line ends in JavaScript, where logs and answers may be pasted. */
static bool is_line_separator(struct str text)
{
    return str_starts_with(text, "\xE2\x80\xA8") || str_starts_with(text, "\xE2\x80\xA9");
}

/* One character that can't stand as it is; gives the bytes of input it took. */
static size_t write_escaped(struct writer *out, struct str text)
{
    static const char plain[] = "\"\\\b\f\n\r\t";
    static const char letters[] = "\"\\bfnrt";
    const char *known = memchr(plain, text.ptr[0], sizeof plain - 1);
    if (known != NULL) {
        writer_char(out, '\\');
        writer_char(out, letters[known - plain]);
        return 1;
    }
    if (is_line_separator(text)) {
        writer_text(out, text.ptr[2] == '\xA8' ? "\\u2028" : "\\u2029");
        return 3;
    }
    uint8_t byte = (uint8_t) text.ptr[0];
    if (byte < 0x20) {
        writer_text(out, "\\u00");
        writer_hex(out, &byte, 1);
    } else {
        writer_text(out, REPLACEMENT);
    }
    return 1;
}

/* How many bytes from the start need no escape. */
static size_t plain_length(struct str text)
{
    size_t at = 0;
    while (at < text.len) {
        struct str rest = str_slice(text, at, text.len);
        uint8_t byte = (uint8_t) rest.ptr[0];
        uint32_t code;
        size_t len = utf8_decode(rest, &code);
        if (len == 0 || byte < 0x20 || byte == '"' || byte == '\\' || is_line_separator(rest))
            break;
        at += len;
    }
    return at;
}

static void write_string(struct writer *out, struct str text)
{
    writer_char(out, '"');
    while (text.len > 0) {
        size_t taken = plain_length(text);
        writer_str(out, str_slice(text, 0, taken));
        if (taken < text.len)
            taken += write_escaped(out, str_slice(text, taken, text.len));
        text = str_slice(text, taken, text.len);
    }
    writer_char(out, '"');
}

void json_key(struct json_writer *j, const char *name)
{
    begin_item(j);
    write_string(j->out, str_from(name));
    writer_char(j->out, ':');
    j->after_key = true;
}

void json_put_string(struct json_writer *j, struct str text)
{
    begin_item(j);
    write_string(j->out, text);
}

void json_put_text(struct json_writer *j, const char *terminated)
{
    json_put_string(j, str_from(terminated));
}

void json_put_i64(struct json_writer *j, int64_t number)
{
    begin_item(j);
    writer_i64_decimal(j->out, number);
}

void json_put_bool(struct json_writer *j, bool flag)
{
    begin_item(j);
    writer_text(j->out, flag ? "true" : "false");
}

void json_put_null(struct json_writer *j)
{
    begin_item(j);
    writer_text(j->out, "null");
}

void json_put_raw(struct json_writer *j, struct str json)
{
    begin_item(j);
    writer_str(j->out, json);
}

void json_put_value(struct json_writer *j, const struct json *doc, int value)
{
    struct str raw = json_raw(doc, value);
    if (json_type(doc, value) == JSON_STRING)
        raw = (struct str){raw.ptr - 1, raw.len + 2}; /* its quotes */
    json_put_raw(j, raw);
}

void json_member_string(struct json_writer *j, const char *name, struct str text)
{
    json_key(j, name);
    json_put_string(j, text);
}

void json_member_text(struct json_writer *j, const char *name, const char *terminated)
{
    json_key(j, name);
    json_put_text(j, terminated);
}

void json_member_i64(struct json_writer *j, const char *name, int64_t number)
{
    json_key(j, name);
    json_put_i64(j, number);
}

void json_member_bool(struct json_writer *j, const char *name, bool flag)
{
    json_key(j, name);
    json_put_bool(j, flag);
}
