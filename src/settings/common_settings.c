#include "settings/common_settings.h"

/* clang-format off */
const struct settings_row COMMON_SETTINGS_LOG[COMMON_SETTINGS_LOG_ROWS] = {
    {"log-format", "ECS_TST_LOG_FORMAT",
        "Format of the log on standard error.",
        SETTINGS_CHOICE, SETTINGS_AT(struct common_settings, log_format, unsigned), .fallback = "text",
        .choices = {"text", "json"}},
    {"log-level", "ECS_TST_LOG_LEVEL",
        "Minimum level to log: `debug`, `info`, `warn` or `error`, in any case, also with an offset "
        "(`info+1`); `notice` is `info`.",
        SETTINGS_LEVEL, SETTINGS_AT(struct common_settings, log_level, int), .fallback = "info"},
};

const struct settings_row COMMON_SETTINGS_PROGRAM[COMMON_SETTINGS_PROGRAM_ROWS] = {
    {"help", NULL,
        "Print this help and exit.",
        SETTINGS_SWITCH, SETTINGS_AT(struct common_settings, help, bool), .fallback = "false", .letter = 'h'},
    {"version", NULL,
        "Print the version and exit.",
        SETTINGS_SWITCH, SETTINGS_AT(struct common_settings, version, bool), .fallback = "false"},
};
/* clang-format on */
