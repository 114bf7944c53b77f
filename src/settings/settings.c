#include "settings/settings.h"

#include <string.h>

#include "base/env.h"
#include "base/time.h"

/* ---- rows and their members --------------------------------------------------------------------------- */

const struct settings_row *settings_row_at(const struct settings_command *command, size_t index,
                                           const struct settings_part **part)
{
    for (size_t p = 0; p < command->part_count; p++) {
        *part = &command->parts[p];
        if (index < (*part)->count)
            return &(*part)->rows[index];
        index -= (*part)->count;
    }
    return NULL;
}

/* A value on its way into the command's struct. */
struct given {
    const struct settings_row *row;
    void *member;
    const char *given_as; /* "--idle-timeout" or "ECS_TST_IDLE_TIMEOUT" */
    struct str value;
};

static void *member_of(const struct settings *settings, const struct settings_part *part,
                       const struct settings_row *row)
{
    return (char *) settings->values + part->offset + row->offset;
}

/* ---- one value ----------------------------------------------------------------------------------------- */

/* What goes before "is not ..." in a message; longer values say enough with their beginning. */
#define VALUE_FORMAT  "%s: \"%.*s\" "
#define VALUE_ARG(at) (at)->given_as, STR_ARG(str_slice((at)->value, 0, 80))

static int assign_switch(const struct given *g, struct error *err)
{
    static const char *const words[] = {"0", "1", "f", "t", "false", "true", "no", "yes"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (str_equal_nocase(g->value, words[i])) {
            *(bool *) g->member = i % 2 == 1;
            return 0;
        }
    }
    return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not true, false, 1, 0, t, f, yes or no",
                     VALUE_ARG(g));
}

void settings_write_range(struct writer *out, const struct settings_row *row)
{
    if (row->kind == SETTINGS_NUMBER) {
        writer_format(out, "from %lld to %lld", (long long) row->minimum, (long long) row->maximum);
    } else if (row->maximum == SETTINGS_FOREVER_MS) {
        writer_text(out, "not negative");
    } else {
        writer_text(out, "from ");
        writer_duration_ms(out, row->minimum);
        writer_text(out, " to ");
        writer_duration_ms(out, row->maximum);
    }
}

static int refuse_range(const struct given *g, const char *what, struct error *err)
{
    char text[96];
    struct writer range = writer_of(text, sizeof text);
    settings_write_range(&range, g->row);
    return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not %s%s", VALUE_ARG(g), what,
                     writer_terminate(&range));
}

static int refuse_duration(const struct given *g, struct error *err)
{
    return refuse_range(g, "a duration like 30m, 1h30m, 1.5h or 300ms, ", err);
}

static int assign_duration(const struct given *g, struct error *err)
{
    const int64_t ns_per_ms = 1000000;
    int64_t duration_ns = 0;
    if (!duration_parse(g->value, &duration_ns) || duration_ns < 0)
        return refuse_duration(g, err);
    int64_t duration_ms = duration_ns / ns_per_ms + (duration_ns % ns_per_ms > 0 ? 1 : 0);
    if (duration_ms < g->row->minimum || duration_ms > g->row->maximum)
        return refuse_duration(g, err);
    *(int64_t *) g->member = duration_ms;
    return 0;
}

static int assign_number(const struct given *g, struct error *err)
{
    uint32_t number = 0;
    if (!str_parse_u32(g->value, &number) || number < g->row->minimum || number > g->row->maximum)
        return refuse_range(g, "a number ", err);
    *(uint32_t *) g->member = number;
    return 0;
}

void settings_write_choices(struct writer *out, const struct settings_row *row, const char *separator,
                            const char *last_separator)
{
    for (size_t i = 0; i < SETTINGS_CHOICES_MAX && row->choices[i] != NULL; i++) {
        bool is_last = i + 1 == SETTINGS_CHOICES_MAX || row->choices[i + 1] == NULL;
        writer_text(out, i == 0 ? "" : is_last ? last_separator : separator);
        writer_text(out, row->choices[i]);
    }
}

static int assign_choice(const struct given *g, struct error *err)
{
    for (unsigned i = 0; i < SETTINGS_CHOICES_MAX && g->row->choices[i] != NULL; i++) {
        if (str_equal_text(g->value, g->row->choices[i])) {
            memcpy(g->member, &i, sizeof i); /* an enum's type is another one to the compiler */
            return 0;
        }
    }
    char text[96];
    struct writer allowed = writer_of(text, sizeof text);
    settings_write_choices(&allowed, g->row, ", ", " or ");
    return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not %s", VALUE_ARG(g), writer_terminate(&allowed));
}

static const struct {
    const char *name;
    int level;
} levels[] = {
    {"debug", LOG_DEBUG}, {"info", LOG_INFO}, {"warn", LOG_WARN}, {"error", LOG_ERROR}, {"notice", LOG_INFO}};

static bool parse_level(struct str value, int *level)
{
    const uint32_t offset_max = 1000000; /* slog has no bound; nobody needs one this far out */
    size_t sign = 0;
    while (sign < value.len && value.ptr[sign] != '+' && value.ptr[sign] != '-')
        sign++;
    uint32_t offset = 0;
    bool has_offset = sign < value.len;
    if (has_offset && (!str_parse_u32(str_slice(value, sign + 1, value.len), &offset) || offset > offset_max))
        return false;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (str_equal_nocase(str_slice(value, 0, sign), levels[i].name)) {
            bool down = has_offset && value.ptr[sign] == '-';
            *level = levels[i].level + (down ? -(int) offset : (int) offset);
            return true;
        }
    }
    return false;
}

static int assign_level(const struct given *g, struct error *err)
{
    if (parse_level(g->value, g->member))
        return 0;
    return error_set(err, ERROR_INVALID,
                     VALUE_FORMAT "is not debug, info, warn, error or notice, nor one of them with an offset "
                                  "like info+1",
                     VALUE_ARG(g));
}

/* The reason says what in the value is wrong. */
static int validate(const struct given *g, struct error *err)
{
    struct error reason = ERROR_INIT;
    if (g->row->validate == NULL || g->row->validate(g->value, &reason) == 0)
        return 0;
    return error_set(err, ERROR_INVALID, "%s: %s", g->given_as, reason.text);
}

static int assign_text(const struct given *g, struct error *err)
{
    if (g->row->kind == SETTINGS_PATH && g->value.len == 0)
        return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not a path", VALUE_ARG(g));
    bool is_unset = g->value.len == 0 && str_from(g->row->fallback).len == 0;
    if (!is_unset && validate(g, err) != 0)
        return ERROR_INVALID;
    *(const char **) g->member = g->value.ptr; /* terminated: it is from argv, the environment or the table */
    return 0;
}

static int append_item(const struct given *g, struct error *err)
{
    struct settings_list *list = g->member;
    if (list->count == SETTINGS_LIST_MAX)
        return error_set(err, ERROR_INVALID, "%s: there are more than %d", g->given_as, SETTINGS_LIST_MAX);
    if (validate(g, err) != 0)
        return ERROR_INVALID;
    list->items[list->count++] = g->value;
    return 0;
}

static int assign(const struct given *g, struct error *err)
{
    switch (g->row->kind) {
    case SETTINGS_SWITCH:
        return assign_switch(g, err);
    case SETTINGS_DURATION:
        return assign_duration(g, err);
    case SETTINGS_NUMBER:
        return assign_number(g, err);
    case SETTINGS_CHOICE:
        return assign_choice(g, err);
    case SETTINGS_LEVEL:
        return assign_level(g, err);
    case SETTINGS_TEXT:
    case SETTINGS_PATH:
        return assign_text(g, err);
    case SETTINGS_LIST:
        return append_item(g, err);
    }
    return 0;
}

/* ---- flags --------------------------------------------------------------------------------------------- */

/* A flag as it was given: its name, as far as that goes, and what is attached to it. */
struct flag {
    const struct settings_row *row; /* null: unknown */
    const struct settings_part *part;
    size_t index;
    struct str name;  /* with its dashes */
    struct str value; /* null when nothing is attached */
};

static bool is_flag(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0';
}

static bool row_is(const struct settings_row *row, const struct flag *flag)
{
    if (!str_starts_with(flag->name, "--"))
        return row->letter != 0 && flag->name.ptr[1] == row->letter;
    struct str name = str_slice(flag->name, 2, flag->name.len);
    return str_equal_text(name, row->flag) || (row->alias != NULL && str_equal_text(name, row->alias));
}

static struct flag find_flag(const struct settings_command *command, const char *argument)
{
    struct flag flag = {.value = str_from(NULL)};
    struct str whole = str_from(argument);
    if (!str_cut(whole, '=', &flag.name, &flag.value))
        flag.value = str_from(NULL);
    while ((flag.row = settings_row_at(command, flag.index, &flag.part)) != NULL && !row_is(flag.row, &flag))
        flag.index++;
    bool is_short = !str_starts_with(flag.name, "--");
    if (flag.row == NULL || !is_short || flag.name.len == 2)
        return flag;
    if (flag.row->kind == SETTINGS_SWITCH) { /* "-help" is not "-h" with a value */
        flag.row = NULL;
        return flag;
    }
    flag.name = str_slice(whole, 0, 2);
    flag.value = str_slice(whole, 2, whole.len);
    return flag;
}

static int refuse_flag(const struct settings_command *command, struct str name, struct error *err)
{
    if (command->unknown_flag_hint != NULL)
        return error_set(err, ERROR_INVALID, "unknown flag %.*s; %s", STR_ARG(name),
                         command->unknown_flag_hint);
    return error_set(err, ERROR_INVALID, "unknown flag %.*s; see fumidai %s --help", STR_ARG(name),
                     command->name);
}

/* The flag argv[*at], and its value; *at moves to the last argument taken. */
static int take_flag(struct settings *settings, char **argv, int *at, struct error *err)
{
    struct flag flag = find_flag(settings->command, argv[*at]);
    char given_as[64];
    if (flag.row == NULL || !str_copy(flag.name, given_as, sizeof given_as))
        return refuse_flag(settings->command, flag.name, err);
    if (flag.value.ptr == NULL && flag.row->kind == SETTINGS_SWITCH) {
        flag.value = STR_LITERAL("true");
    } else if (flag.value.ptr == NULL) {
        const char *next = argv[*at + 1];
        if (next == NULL || is_flag(next))
            return error_set(err, ERROR_INVALID, "%s: needs a value, as in %s=VALUE", given_as, given_as);
        flag.value = str_from(next);
        *at += 1;
    }
    settings->sources[flag.index] = SETTINGS_FROM_FLAG;
    return assign(&(struct given){flag.row, member_of(settings, flag.part, flag.row), given_as, flag.value},
                  err);
}

/* ---- words --------------------------------------------------------------------------------------------- */

static int refuse_word(const struct settings_command *command, const char *word, struct error *err)
{
    if (command->words == SETTINGS_WORDS_BEHIND)
        return error_set(err, ERROR_INVALID,
                         "\"%.80s\": a command to run goes after --; see fumidai %s --help", word,
                         command->name);
    return error_set(err, ERROR_INVALID, "fumidai %s takes no arguments, but there is \"%.80s\"; see --help",
                     command->name, word);
}

static int take_arguments(struct settings *settings, int argc, char **argv, int first, struct error *err)
{
    enum settings_words allowed = settings->command->words;
    int words = 0;
    int at = first;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (is_flag(argv[at])) {
            if (take_flag(settings, argv, &at, err) != 0)
                return ERROR_INVALID;
        } else if (allowed == SETTINGS_WORDS_ANYWHERE) {
            argv[1 + words++] = argv[at];
        } else {
            return refuse_word(settings->command, argv[at], err);
        }
    }
    for (at++; at < argc; at++) {
        if (allowed == SETTINGS_NO_WORDS)
            return refuse_word(settings->command, argv[at], err);
        argv[1 + words++] = argv[at];
    }
    if (argc > 0) {
        argv[1 + words < argc ? 1 + words : argc] = NULL;
        settings->words = argv + 1;
    }
    settings->word_count = words;
    return 0;
}

/* Whoever asks for help or the version gets it, whatever is wrong with the rest. */
static bool take_help_or_version(struct settings *settings, int argc, char **argv, int first)
{
    bool found = false;
    for (int at = first; at < argc && strcmp(argv[at], "--") != 0; at++) {
        if (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0 ||
            strcmp(argv[at], "--version") == 0)
            found |= take_flag(settings, argv, &(int){at}, NULL) == 0;
    }
    return found;
}

/* ---- environment, defaults, the whole ------------------------------------------------------------------ */

static int take_variable(const struct given *g, struct error *err)
{
    if (g->row->kind != SETTINGS_LIST)
        return assign(g, err);
    struct given item = *g;
    struct str rest = g->value;
    while (str_take_item(&rest, &item.value))
        if (assign(&item, err) != 0)
            return ERROR_INVALID;
    return 0;
}

static int take_environment(struct settings *settings, char *const *env, struct error *err)
{
    const struct settings_part *part;
    const struct settings_row *row;
    for (size_t i = 0; (row = settings_row_at(settings->command, i, &part)) != NULL; i++) {
        struct str value = row->variable != NULL ? env_get(env, row->variable) : str_from(NULL);
        if (value.len == 0 || settings->sources[i] != SETTINGS_FROM_DEFAULT)
            continue;
        settings->sources[i] = SETTINGS_FROM_ENVIRONMENT;
        if (take_variable(&(struct given){row, member_of(settings, part, row), row->variable, value}, err) !=
            0)
            return ERROR_INVALID;
    }
    return 0;
}

/* All defaults are good values, or empty; a unit test assigns each. */
static void take_defaults(struct settings *settings)
{
    const struct settings_part *part;
    const struct settings_row *row;
    for (size_t i = 0; (row = settings_row_at(settings->command, i, &part)) != NULL; i++) {
        bool is_text = row->kind == SETTINGS_TEXT || row->kind == SETTINGS_PATH;
        struct str fallback = row->fallback != NULL ? str_from(row->fallback) : STR_LITERAL("");
        if (is_text || fallback.len > 0)
            assign(&(struct given){row, member_of(settings, part, row), row->flag, fallback}, NULL);
    }
}

int settings_parse(struct settings *settings, const struct settings_command *command, void *values, int argc,
                   char **argv, int first, char *const *env, struct error *err)
{
    *settings = (struct settings){.command = command, .values = values};
    memset(values, 0, command->size);
    take_defaults(settings);
    bool asked = take_help_or_version(settings, argc, argv, first);
    if (!asked &&
        (take_arguments(settings, argc, argv, first, err) != 0 || take_environment(settings, env, err) != 0))
        return ERROR_INVALID;
    if (command->finish != NULL)
        command->finish(values, settings);
    return 0;
}

enum settings_source settings_source(const struct settings *settings, const char *flag)
{
    const struct settings_part *part;
    const struct settings_row *row;
    for (size_t i = 0; (row = settings_row_at(settings->command, i, &part)) != NULL; i++)
        if (strcmp(row->flag, flag) == 0)
            return (enum settings_source) settings->sources[i];
    return SETTINGS_FROM_DEFAULT;
}

/* ---- values as text ------------------------------------------------------------------------------------ */

static void write_level(struct writer *out, int level)
{
    size_t nearest = 0;
    while (nearest < 3 && level >= levels[nearest + 1].level)
        nearest++;
    writer_text(out, levels[nearest].name);
    if (level != levels[nearest].level)
        writer_format(out, "%+d", level - levels[nearest].level);
}

static void write_list(struct writer *out, const struct settings_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        writer_text(out, i == 0 ? "" : ",");
        writer_str(out, list->items[i]);
    }
}

void settings_write_value(struct writer *out, const struct settings *settings, size_t index)
{
    const struct settings_part *part;
    const struct settings_row *row = settings_row_at(settings->command, index, &part);
    if (row == NULL)
        return;
    const void *member = member_of(settings, part, row);
    unsigned choice;
    switch (row->kind) {
    case SETTINGS_SWITCH:
        writer_text(out, *(const bool *) member ? "true" : "false");
        break;
    case SETTINGS_DURATION:
        writer_duration_ms(out, *(const int64_t *) member);
        break;
    case SETTINGS_NUMBER:
        writer_u64_decimal(out, *(const uint32_t *) member);
        break;
    case SETTINGS_CHOICE:
        memcpy(&choice, member, sizeof choice);
        writer_text(out, row->choices[choice]);
        break;
    case SETTINGS_LEVEL:
        write_level(out, *(const int *) member);
        break;
    case SETTINGS_TEXT:
    case SETTINGS_PATH:
        writer_text(out, *(const char *const *) member);
        break;
    case SETTINGS_LIST:
        write_list(out, member);
        break;
    }
}
