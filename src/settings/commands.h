/*
 * commands: every command there is. Only when the very first argument is exactly one of the names is it a
 * command of ours; everything else is what it was for the image that this replaces: a command to wrap.
 * `fumidai -- health` and `fumidai --idle-timeout=5m health` wrap a program named health.
 */
#ifndef FUMIDAI_SETTINGS_COMMANDS_H
#define FUMIDAI_SETTINGS_COMMANDS_H

#include "settings/forward_settings.h"
#include "settings/plugin_settings.h"
#include "settings/settings.h"
#include "settings/task_settings.h"

enum command {
    COMMAND_TASK,
    COMMAND_HEALTH,
    COMMAND_SETTINGS,
    COMMAND_FORWARD,
    COMMAND_PLUGIN,
    COMMAND_REDSHIFT,
    COMMAND_COUNT
};

struct health_settings {
    struct common_settings common; /* nothing else: the keeper has the settings */
};

/* What a command is given; each struct begins with the common settings. */
union command_settings {
    struct common_settings common;
    struct task_settings task;
    struct health_settings health;
    struct plugin_settings plugin;
    struct task_settings_listing listing;
    struct forward_settings forward;
};

extern const struct settings_command *const COMMANDS[COMMAND_COUNT];

/* Finds out which command argv names, and reads its settings. The words of session-manager-plugin are its
 * argv, the name included. ERROR_INVALID as by settings_parse, and for a
 * name that is reserved. */
int command_parse(enum command *command, struct settings *settings, union command_settings *values, int argc,
                  char **argv, char *const *env, struct error *err);

#endif
