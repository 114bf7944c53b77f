/*
 * common_settings: what every command takes: the log's form and level, --help and --version. The first member
 * of each command's struct.
 */
#ifndef FUMIDAI_SETTINGS_COMMON_SETTINGS_H
#define FUMIDAI_SETTINGS_COMMON_SETTINGS_H

#include <stdbool.h>

#include "host/log.h"
#include "settings/settings.h"

struct common_settings {
    enum log_format log_format;
    int log_level;
    bool help;
    bool version;
};

enum { COMMON_SETTINGS_LOG_ROWS = 2, COMMON_SETTINGS_PROGRAM_ROWS = 2 };

extern const struct settings_row COMMON_SETTINGS_LOG[COMMON_SETTINGS_LOG_ROWS];
extern const struct settings_row COMMON_SETTINGS_PROGRAM[COMMON_SETTINGS_PROGRAM_ROWS];

#endif
