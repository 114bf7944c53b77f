/*
 * settings: reads a command's flags and environment into a struct of its own, by a table. Help, the README's
 * reference and `fumidai settings` come from the same table (settings/pages.h), so they can't differ.
 *
 *     struct settings_row      one setting: flag, variable, kind, default, bounds, help, and its member
 *     struct settings_part     rows under one title, and where their struct lies in the command's
 *     struct settings_command  a command: its parts, and what may follow the flags
 *
 * Flags. `--flag value` and `--flag=value`; for a flag with a letter also `-x value`, `-xvalue` and
 * `-x=value`. A switch takes a value only after `=`. A value that begins with '-' can only follow `=`; "-"
 * alone is an ordinary value. The last of a repeated flag counts, but a list collects them all. An unknown
 * flag is an error.
 *
 * Words. Behind `--` everything belongs to the command that is to be run. Whether words may also stand
 * between the flags is the command's to say (enum settings_words).
 *
 * Environment. A flag wins over its variable, the variable over the default. An empty variable counts as not
 * set (templates of task definitions leave such ones behind). A variable whose setting a flag has set is not
 * read. The variable of a list holds its items separated by commas or blanks.
 *
 * Values. Durations as Go writes them, not negative; a fraction of a millisecond is rounded up. Switches as
 * Go's strconv.ParseBool reads them, and yes and no, in any case. Log levels as slog.Level.UnmarshalText
 * reads them (any case, "info+1"), and notice for info.
 *
 * Nothing is allocated or copied: texts point into argv and the environment. Words are moved to the front of
 * argv.
 */
#ifndef FUMIDAI_SETTINGS_SETTINGS_H
#define FUMIDAI_SETTINGS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"
#include "host/log.h"

enum {
    SETTINGS_EXIT_USAGE =
        2, /* the exit status after a bad setting, as getopt's users have it: nothing was started */
    SETTINGS_CHOICES_MAX = 4, /* the longest choice there is */
    SETTINGS_LIST_MAX = 32,   /* more forwarded ports than anybody opens at once */
    SETTINGS_ROWS_MAX = 64    /* of one command; a unit test counts them */
};

enum settings_kind {
    SETTINGS_SWITCH,   /* bool */
    SETTINGS_DURATION, /* int64_t, milliseconds */
    SETTINGS_NUMBER,   /* uint32_t */
    SETTINGS_CHOICE,   /* unsigned, or an enum of that size: which of the row's choices */
    SETTINGS_LEVEL,    /* int, an enum log_level or anything in between */
    SETTINGS_TEXT,     /* const char *, never null */
    SETTINGS_PATH,     /* the same, never empty */
    SETTINGS_LIST      /* struct settings_list */
};

struct settings_list {
    struct str items[SETTINGS_LIST_MAX];
    size_t count;
};

struct settings_row {
    const char *flag;     /* without dashes */
    const char *variable; /* null: none */
    const char *help;
    enum settings_kind kind;
    size_t offset;        /* of the member in its part's struct */
    const char *fallback; /* the default, as it would be given; empty or null: zero, or what `help` says */
    int64_t minimum;      /* of numbers, and of durations in milliseconds */
    int64_t maximum;
    const char *choices[SETTINGS_CHOICES_MAX];            /* in the order of the enum */
    int (*validate)(struct str value, struct error *err); /* texts and items with an inner form; null: any */
    const char *alias;                                    /* a second spelling of the flag */
    char letter;                                          /* 'L' for -L; 0: none */
};

/* What a row says of its member: the kind, and where it is. A member of another type does not compile. */
#define SETTINGS_AT(type, member, member_type)                                                               \
    .offset = (offsetof(type, member) + 0 * sizeof(&((type *) NULL)->member == (member_type *) NULL))
#define SETTINGS_FOREVER_MS INT64_MAX /* as the maximum of a duration: no bound */

struct settings_part {
    const char *title;
    const struct settings_row *rows;
    size_t count;
    size_t offset; /* of the rows' struct in the command's */
};

enum settings_words {
    SETTINGS_NO_WORDS,
    SETTINGS_WORDS_ANYWHERE, /* before, between and behind the flags, and behind -- */
    SETTINGS_WORDS_BEHIND    /* behind -- only */
};

struct settings;

struct settings_command {
    const char *name;  /* null: none, as the very first argument it needs none */
    const char *usage; /* null: the name is reserved for what is not written yet */
    const char *purpose;
    const struct settings_part *parts;
    size_t part_count;
    size_t size; /* of the command's struct */
    enum settings_words words;
    const char *unknown_flag_hint; /* what to do about a flag that is not known; null: see --help */
    /* Fills in what depends on other values; null: nothing does. */
    void (*finish)(void *values, const struct settings *given);
};

enum settings_source { SETTINGS_FROM_DEFAULT, SETTINGS_FROM_ENVIRONMENT, SETTINGS_FROM_FLAG };

/* What was read. */
struct settings {
    const struct settings_command *command;
    void *values;                       /* the command's struct */
    uint8_t sources[SETTINGS_ROWS_MAX]; /* enum settings_source, in the order of the rows */
    char **words;                       /* ends in a null pointer */
    int word_count;
};

/* Fills all of `values` (command->size bytes) from argv[first] on. 0, or ERROR_INVALID with one line that
 * names the setting as it was given, its value, and what is accepted: the caller prints it and exits with
 * SETTINGS_EXIT_USAGE. When --help or --version is among the flags, nothing else is looked at. argv is
 * rearranged; `env` ends in a null pointer. */
int settings_parse(struct settings *settings, const struct settings_command *command, void *values, int argc,
                   char **argv, int first, char *const *env, struct error *err);

/* Where the value of a flag came from. */
enum settings_source settings_source(const struct settings *settings, const char *flag);

/* Walks the rows of a command: null behind the last one. */
const struct settings_row *settings_row_at(const struct settings_command *command, size_t index,
                                           const struct settings_part **part);
/* A row's value as it would be given ("30m0s"); empty for an empty text. */
void settings_write_value(struct writer *out, const struct settings *settings, size_t index);
/* What numbers and durations lie between: "from 1 to 1000", "not negative". */
void settings_write_range(struct writer *out, const struct settings_row *row);
/* The choices of a row. */
void settings_write_choices(struct writer *out, const struct settings_row *row, const char *separator,
                            const char *last_separator);

#endif
