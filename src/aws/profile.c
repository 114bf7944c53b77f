#include "aws/profile.h"

#include <string.h>

enum file { CONFIG, CREDENTIALS };

/* --- lines --- */

enum line_kind { LINE_OTHER, LINE_SECTION, LINE_SETTING, LINE_NESTED, LINE_CONTINUATION };

struct line {
    enum line_kind kind;
    struct str type; /* of a section: the word before the name, or empty */
    struct str key;
    struct str value; /* of a section: its name */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct str trim_left(struct str text)
{
    size_t skip = 0;
    while (skip < text.len && is_blank(text.ptr[skip]))
        skip++;
    return str_slice(text, skip, text.len);
}

/* Up to a blank with '#' or ';' behind it. */
static struct str before_comment(struct str text)
{
    for (size_t i = 1; i < text.len; i++) {
        if ((text.ptr[i] == '#' || text.ptr[i] == ';') && is_blank(text.ptr[i - 1]))
            return str_slice(text, 0, i - 1);
    }
    return text;
}

static struct str unquote(struct str text)
{
    char first = text.len >= 2 ? text.ptr[0] : '\0';
    bool quoted = (first == '"' || first == '\'') && text.ptr[text.len - 1] == first;
    return quoted ? str_slice(text, 1, text.len - 1) : text;
}

static bool split_setting(struct str text, struct line *line)
{
    size_t at = 0;
    while (at < text.len && text.ptr[at] != '=' && text.ptr[at] != ':')
        at++;
    if (at == text.len)
        return false;
    line->key = str_trim(str_slice(text, 0, at));
    line->value = unquote(str_trim(str_slice(text, at + 1, text.len)));
    return true;
}

static bool split_section(struct str text, struct line *line)
{
    struct str rest;
    str_cut(text, '#', &text, &rest);
    str_cut(text, ';', &text, &rest);
    text = str_trim(text);
    if (text.len < 2 || text.ptr[0] != '[' || text.ptr[text.len - 1] != ']')
        return false;
    text = str_trim(str_slice(text, 1, text.len - 1));
    size_t word = 0;
    while (word < text.len && !is_blank(text.ptr[word]))
        word++;
    bool has_type = word < text.len;
    line->type = str_slice(text, 0, has_type ? word : 0);
    line->value = has_type ? trim_left(str_slice(text, word, text.len)) : text;
    return true;
}

static struct line read_line(struct str text)
{
    struct line line = {.kind = LINE_OTHER};
    struct str trimmed = trim_left(text);
    bool indented = trimmed.len < text.len;
    if (str_trim(text).len == 0 || str_starts_with(trimmed, "#") || str_starts_with(trimmed, ";"))
        return line;
    if (split_section(text, &line)) {
        line.kind = LINE_SECTION;
    } else if (split_setting(indented ? trimmed : before_comment(text), &line)) {
        line.kind = indented ? LINE_NESTED : LINE_SETTING; /* comments are part of nested values */
    } else if (indented) {
        line.kind = LINE_CONTINUATION;
        line.value = trimmed;
    }
    return line;
}

/* --- sections --- */

/* "type name" against what was asked for. */
static bool is_named(const struct line *line, struct str section)
{
    if (line->type.len == 0)
        return str_equal(line->value, section);
    return section.len == line->type.len + 1 + line->value.len &&
           str_equal(str_slice(section, 0, line->type.len), line->type) &&
           section.ptr[line->type.len] == ' ' &&
           str_equal(str_slice(section, line->type.len + 1, section.len), line->value);
}

static bool is_profile(const struct line *line)
{
    return str_equal_text(line->type, "profile");
}

/* Whether [section] without "profile " counts in the config file. */
static bool needs_no_prefix(struct str section)
{
    return str_equal_nocase(section, "default") || str_starts_with(section, "sso-session ") ||
           str_starts_with(section, "services ");
}

enum prefix { WITH_PROFILE, WITHOUT_PROFILE };

static bool matches(const struct line *line, struct str section, enum prefix prefix)
{
    return prefix == WITH_PROFILE ? is_profile(line) && str_equal(line->value, section)
                                  : !is_profile(line) && is_named(line, section);
}

/* Takes the next line off the text. Of a file with a thousand profiles most lines are another profile's: they
 * are not looked at closer. */
static struct line next_line(struct str *text, bool inside)
{
    struct str first, trimmed;
    str_cut(*text, '\n', &first, text);
    trimmed = trim_left(first);
    return inside || str_starts_with(trimmed, "[") ? read_line(first) : (struct line){.kind = LINE_OTHER};
}

static bool has_header(struct str text, struct str section, enum prefix prefix)
{
    while (text.len > 0) {
        struct line line = next_line(&text, false);
        if (line.kind == LINE_SECTION && line.value.len > 0 && matches(&line, section, prefix))
            return true;
    }
    return false;
}

/* Whether the file has the section, and how it is written there. */
static bool find_section(const struct profile_files *files, enum file file, struct str section,
                         enum prefix *prefix)
{
    *prefix = WITHOUT_PROFILE;
    if (file == CREDENTIALS)
        return has_header(files->credentials, section, WITHOUT_PROFILE);
    if (has_header(files->config, section, WITH_PROFILE)) {
        *prefix = WITH_PROFILE;
        return true;
    }
    return needs_no_prefix(section) && has_header(files->config, section, WITHOUT_PROFILE);
}

bool profile_has_section(const struct profile_files *files, struct str section)
{
    enum prefix prefix;
    return section.len > 0 && (find_section(files, CONFIG, section, &prefix) ||
                               find_section(files, CREDENTIALS, section, &prefix));
}

/* --- values --- */

struct search {
    struct str section;
    enum prefix prefix;
    const char *key;
    const char *nested; /* null: the setting itself */
    struct writer *out;
    size_t start; /* of the value in `out` */
    bool found;

    bool inside;    /* the section */
    bool has_key;   /* a setting stands before, in this section */
    bool is_key;    /* and it is the one that is looked for */
    bool has_value; /* and it is not empty */
    bool in_nested; /* the latest nested setting is the one that is looked for */
};

static void take(struct search *search, struct str value)
{
    search->out->len = search->start; /* a later one replaces an earlier one */
    writer_str(search->out, value);
    search->found = true;
}

static void read_setting(struct search *search, const struct line *line, struct str value)
{
    search->has_key = true;
    search->is_key = str_equal_nocase(line->key, search->key);
    search->has_value = value.len > 0;
    if (!search->is_key)
        return;
    take(search, search->nested == NULL ? value : str_from(NULL));
    search->found = search->nested == NULL;
}

static void read_nested(struct search *search, const struct line *line)
{
    if (!search->has_key || search->has_value)
        read_setting(search, line, str_trim(before_comment(line->value)));
    else if (search->is_key && search->nested != NULL && str_equal_nocase(line->key, search->nested))
        take(search, line->value);
}

static void read_into(struct search *search, const struct line *line)
{
    if (line->kind == LINE_SECTION) {
        search->inside = line->value.len > 0 && matches(line, search->section, search->prefix);
        search->has_key = false;
    } else if (!search->inside) {
        return;
    } else if (line->kind == LINE_SETTING) {
        read_setting(search, line, line->value);
    } else if (line->kind == LINE_NESTED) {
        read_nested(search, line);
    } else if (line->kind == LINE_CONTINUATION && search->has_key && search->has_value && search->is_key &&
               search->nested == NULL) {
        writer_char(search->out, '\n');
        writer_str(search->out, line->value);
    }
}

static bool get_from(const struct profile_files *files, enum file file, struct search *search)
{
    struct str text = file == CONFIG ? files->config : files->credentials;
    search->found = search->inside = search->has_key = false;
    if (!find_section(files, file, search->section, &search->prefix))
        return false;
    while (text.len > 0) {
        struct line line = next_line(&text, search->inside);
        read_into(search, &line);
    }
    return search->found;
}

/* What the credentials file says replaces what the config file says, except for these. */
static bool is_config_only(const char *key)
{
    static const char *const KEYS[] = {"services", "endpoint_url", "ignore_configured_endpoint_urls"};
    for (size_t i = 0; i < sizeof KEYS / sizeof KEYS[0]; i++)
        if (strcmp(KEYS[i], key) == 0)
            return true;
    return false;
}

bool profile_get_nested(const struct profile_files *files, struct str section, const char *key,
                        const char *nested, struct writer *out, struct str *value)
{
    struct search search = {.section = section, .key = key, .nested = nested, .out = out, .start = out->len};
    enum prefix prefix;
    bool config_decides =
        (nested != NULL || is_config_only(key)) && find_section(files, CONFIG, section, &prefix);
    bool found =
        (!config_decides && get_from(files, CREDENTIALS, &search)) || get_from(files, CONFIG, &search);
    if (!found)
        out->len = search.start;
    *value = found && !out->failed ? str_slice(writer_view(out), search.start, out->len) : str_from(NULL);
    return found;
}

bool profile_get(const struct profile_files *files, struct str section, const char *key, struct writer *out,
                 struct str *value)
{
    return profile_get_nested(files, section, key, NULL, out, value);
}

bool profile_has_half_keys(const struct profile_files *files, struct str section)
{
    enum prefix prefix;
    enum file file = find_section(files, CREDENTIALS, section, &prefix) ? CREDENTIALS : CONFIG;
    struct writer none = writer_of(NULL, 0);
    struct search id = {.section = section, .key = "aws_access_key_id", .out = &none};
    struct search secret = {.section = section, .key = "aws_secret_access_key", .out = &none};
    return get_from(files, file, &id) != get_from(files, file, &secret);
}
