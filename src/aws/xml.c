#include "aws/xml.h"

#include <string.h>

#include "base/bytes.h"

struct tag {
    struct str name; /* with its prefix */
    bool is_closing; /* </name> */
    bool is_empty;   /* <name/> */
};

/* Skips past `end`; false when it does not come any more. */
static bool skip_past(struct str *rest, const char *end)
{
    size_t at;
    if (!str_find(*rest, end, &at))
        return false;
    *rest = str_slice(*rest, at + strlen(end), rest->len);
    return true;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* Takes a tag whose '<' is gone off the text. A '>' in a quoted attribute does not end it. */
static bool take_tag(struct str *rest, struct tag *tag)
{
    char quote = '\0';
    size_t end = 0;
    for (; end < rest->len && (quote != '\0' || rest->ptr[end] != '>'); end++) {
        char c = rest->ptr[end];
        if (quote != '\0')
            quote = c == quote ? '\0' : quote;
        else if (c == '"' || c == '\'')
            quote = c;
    }
    if (end == rest->len)
        return false;
    struct str inside = str_slice(*rest, 0, end);
    *rest = str_slice(*rest, end + 1, rest->len);
    tag->is_closing = str_starts_with(inside, "/");
    tag->is_empty = str_ends_with(inside, "/");
    inside = str_slice(inside, tag->is_closing ? 1 : 0, inside.len);
    size_t len = 0;
    while (len < inside.len && inside.ptr[len] != '/' && !is_blank(inside.ptr[len]))
        len++;
    tag->name = str_slice(inside, 0, len);
    return len > 0;
}

/* Finds the next tag and takes it off the text with what stands before it. */
static bool next_tag(struct str *rest, struct tag *tag)
{
    while (skip_past(rest, "<")) {
        const char *end = str_starts_with(*rest, "!--") ? "-->"
                          : str_starts_with(*rest, "?") ? "?>"
                          : str_starts_with(*rest, "!") ? ">"
                                                        : NULL;
        if (end == NULL)
            return take_tag(rest, tag);
        if (!skip_past(rest, end))
            return false;
    }
    return false;
}

static struct str local_name(struct str name)
{
    struct str prefix, local;
    return str_cut(name, ':', &prefix, &local) ? local : name;
}

struct str xml_root(struct str body)
{
    struct tag tag;
    struct str rest = str_trim(body);
    if (!str_starts_with(rest, "<") || !next_tag(&rest, &tag) || tag.is_closing)
        return str_from(NULL);
    return local_name(tag.name);
}

static bool write_code_point(struct writer *w, uint64_t code)
{
    if (code == 0 || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return false;
    if (code < 0x80) {
        writer_u8(w, (uint8_t) code);
        return true;
    }
    unsigned shift = code < 0x800 ? 6 : code < 0x10000 ? 12 : 18;
    unsigned lead = shift == 6 ? 0xC0 : shift == 12 ? 0xE0 : 0xF0;
    writer_u8(w, (uint8_t) (lead | code >> shift));
    while (shift > 0) {
        shift -= 6;
        writer_u8(w, (uint8_t) (0x80 | (code >> shift & 0x3F)));
    }
    return true;
}

/* `entity` is what stands between '&' and ';'. */
static bool write_entity(struct writer *w, struct str entity)
{
    static const struct {
        const char *name;
        char c;
    } NAMED[] = {{"lt", '<'}, {"gt", '>'}, {"amp", '&'}, {"quot", '"'}, {"apos", '\''}};
    for (size_t i = 0; i < sizeof NAMED / sizeof NAMED[0]; i++) {
        if (str_equal_text(entity, NAMED[i].name)) {
            writer_char(w, NAMED[i].c);
            return true;
        }
    }
    uint64_t code;
    if (str_starts_with(entity, "#x"))
        return str_parse_hex_u64(str_slice(entity, 2, entity.len), &code) && write_code_point(w, code);
    return str_starts_with(entity, "#") && str_parse_u64(str_slice(entity, 1, entity.len), &code) &&
           write_code_point(w, code);
}

static bool write_decoded(struct writer *w, struct str text)
{
    while (text.len > 0) {
        struct str plain, entity, rest;
        bool has_entity = str_cut(text, '&', &plain, &rest);
        if (plain.len > 0 && memchr(plain.ptr, '\0', plain.len) != NULL)
            return false;
        writer_str(w, plain);
        if (has_entity && !(str_cut(rest, ';', &entity, &text) && write_entity(w, entity)))
            return false;
        if (!has_entity)
            break;
    }
    return !w->failed;
}

bool xml_text(struct str body, const char *name, char *out, size_t capacity)
{
    struct str rest = body;
    struct tag open, close;
    struct writer w = writer_of(out, capacity - 1);
    out[0] = '\0';
    do {
        if (!next_tag(&rest, &open))
            return false;
    } while (open.is_closing || !str_equal_nocase(local_name(open.name), name));
    if (!open.is_empty) {
        struct str text;
        struct str from = rest;
        str_cut(from, '<', &text, &rest);
        rest = str_slice(from, text.len, from.len); /* keeps the '<' */
        if (!str_starts_with(rest, "</") || !next_tag(&rest, &close) || !str_equal(close.name, open.name) ||
            !write_decoded(&w, text)) {
            bytes_wipe(out, capacity); /* the beginning of a token is a secret, too */
            return false;
        }
    }
    out[w.len] = '\0';
    return true;
}
