/*
 * pages: what people read about settings, made from the commands' tables: --help, the README's reference, and
 * the values that flags and environment come to.
 */
#ifndef FUMIDAI_SETTINGS_PAGES_H
#define FUMIDAI_SETTINGS_PAGES_H

#include "base/bytes.h"
#include "settings/settings.h"

/* Plain text. The command without a name also lists the others. */
void settings_write_help(struct writer *out, const struct settings_command *command);
/* A table for each title, of a command's rows. */
void settings_write_markdown(struct writer *out, const struct settings_command *command);
/* One line a setting: flag, value, source. */
void settings_write_values(struct writer *out, const struct settings *settings);

#endif
