#include "settings/pages.h"

#include <string.h>

#include "settings/commands.h"

/* Runs of parts with one title stand under it once. */
static bool begins_title(const struct settings_command *command, size_t part)
{
    return part == 0 || strcmp(command->parts[part].title, command->parts[part - 1].title) != 0;
}

static bool has_fallback(const struct settings_row *row)
{
    return row->fallback != NULL && row->fallback[0] != '\0';
}

/* ---- help ---------------------------------------------------------------------------------------------- */

/* What stands for the value: "=15m", "=text|json", "=DURATION". */
static void write_form(struct writer *out, const struct settings_row *row)
{
    static const char *const names[] = {
        [SETTINGS_SWITCH] = "",    [SETTINGS_DURATION] = "=DURATION", [SETTINGS_NUMBER] = "=NUMBER",
        [SETTINGS_CHOICE] = "=",   [SETTINGS_LEVEL] = "=LEVEL",       [SETTINGS_TEXT] = "=TEXT",
        [SETTINGS_PATH] = "=PATH", [SETTINGS_LIST] = "=TEXT"};
    writer_text(out, names[row->kind]);
    if (row->kind == SETTINGS_CHOICE)
        settings_write_choices(out, row, "|", "|");
}

/* Help is plain text: the backquotes of the README go. */
static void write_without_backquotes(struct writer *out, const char *text)
{
    for (; *text != '\0'; text++)
        if (*text != '`')
            writer_char(out, *text);
}

static void write_row_help(struct writer *out, const struct settings_row *row)
{
    writer_text(out, "  ");
    if (row->letter != 0)
        writer_format(out, "-%c, ", row->letter);
    writer_format(out, "--%s", row->flag);
    write_form(out, row);
    if (row->variable != NULL)
        writer_format(out, "  [%s]", row->variable);
    if (row->kind != SETTINGS_SWITCH && has_fallback(row))
        writer_format(out, "  (default %s)", row->fallback);
    writer_text(out, "\n        ");
    write_without_backquotes(out, row->help);
    writer_char(out, '\n');
}

static void write_other_commands(struct writer *out)
{
    writer_text(
        out, "\nOther commands, as the very first argument (fumidai -- NAME wraps a command of that name)\n");
    for (unsigned i = 0; i < COMMAND_COUNT; i++) {
        const struct settings_command *command = COMMANDS[i];
        if (command->name != NULL && command->usage != NULL)
            writer_format(out, "  %s\n        %s\n", command->usage, command->purpose);
    }
}

void settings_write_help(struct writer *out, const struct settings_command *command)
{
    writer_format(out, "usage: %s\n\n%s\n", command->usage, command->purpose);
    for (size_t p = 0; p < command->part_count; p++) {
        const struct settings_part *part = &command->parts[p];
        if (begins_title(command, p))
            writer_format(out, "\n%s\n", part->title);
        for (size_t i = 0; i < part->count; i++)
            write_row_help(out, &part->rows[i]);
    }
    if (command->name == NULL)
        write_other_commands(out);
}

/* ---- the README's reference ---------------------------------------------------------------------------- */

/* Pipes end a cell of a table. */
static void write_cell(struct writer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|')
            writer_char(out, '\\');
        writer_char(out, *text);
    }
}

static void write_table_row(struct writer *out, const struct settings_row *row)
{
    writer_text(out, "| ");
    if (row->letter != 0)
        writer_format(out, "`-%c`, ", row->letter);
    writer_format(out, "`--%s`", row->flag);
    if (row->alias != NULL)
        writer_format(out, ", `--%s`", row->alias);
    writer_text(out, " | ");
    if (row->variable != NULL)
        writer_format(out, "`%s`", row->variable);
    writer_text(out, " | ");
    if (has_fallback(row))
        writer_format(out, "`%s`", row->fallback);
    writer_text(out, " | ");
    if (row->kind == SETTINGS_CHOICE) {
        writer_char(out, '`');
        settings_write_choices(out, row, "`, `", "` or `");
        writer_text(out, "`. ");
    }
    write_cell(out, row->help);
    if (row->kind == SETTINGS_NUMBER ||
        (row->kind == SETTINGS_DURATION && row->maximum != SETTINGS_FOREVER_MS)) {
        writer_text(out, " Accepted: ");
        settings_write_range(out, row);
        writer_char(out, '.');
    }
    writer_text(out, " |\n");
}

void settings_write_markdown(struct writer *out, const struct settings_command *command)
{
    for (size_t p = 0; p < command->part_count; p++) {
        const struct settings_part *part = &command->parts[p];
        if (begins_title(command, p))
            writer_format(out,
                          "%s**%s**\n\n| flag | variable | default | meaning |\n"
                          "| --- | --- | --- | --- |\n",
                          p == 0 ? "" : "\n", part->title);
        for (size_t i = 0; i < part->count; i++)
            write_table_row(out, &part->rows[i]);
    }
}

/* ---- values -------------------------------------------------------------------------------------------- */

void settings_write_values(struct writer *out, const struct settings *settings)
{
    const struct settings_part *part;
    const struct settings_row *row;
    for (size_t i = 0; (row = settings_row_at(settings->command, i, &part)) != NULL; i++) {
        enum settings_source source = (enum settings_source) settings->sources[i];
        if (row->variable == NULL) /* --help and its like */
            continue;
        writer_format(out, "%s=", row->flag);
        settings_write_value(out, settings, i);
        writer_format(out, " (%s)\n",
                      source == SETTINGS_FROM_FLAG          ? "flag"
                      : source == SETTINGS_FROM_ENVIRONMENT ? row->variable
                                                            : "default");
    }
}
