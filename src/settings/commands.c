#include "settings/commands.h"

#include <string.h>

static const struct settings_part health_parts[] = {
    {"Settings", COMMON_SETTINGS_LOG, COMMON_SETTINGS_LOG_ROWS, 0},
    {"The program itself", COMMON_SETTINGS_PROGRAM, COMMON_SETTINGS_PROGRAM_ROWS, 0},
};

static const struct settings_command health = {
    .name = "health",
    .usage = "fumidai health",
    .purpose = "Asks the fumidai of this container whether it is healthy; exits with 1 when not.",
    .parts = health_parts,
    .part_count = sizeof health_parts / sizeof health_parts[0],
    .size = sizeof(struct health_settings),
    .words = SETTINGS_NO_WORDS,
};

static const struct settings_command redshift = {.name = "redshift"};

const struct settings_command *const COMMANDS[COMMAND_COUNT] = {
    [COMMAND_TASK] = &TASK_SETTINGS,
    [COMMAND_HEALTH] = &health,
    [COMMAND_SETTINGS] = &TASK_SETTINGS_LISTING,
    [COMMAND_FORWARD] = &FORWARD_SETTINGS,
    [COMMAND_REDSHIFT] = &redshift,
};

int command_parse(enum command *command, struct settings *settings, union command_settings *values, int argc,
                  char **argv, char *const *env, struct error *err)
{
    *command = COMMAND_TASK;
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        if (argc > 1 && COMMANDS[i]->name != NULL && strcmp(argv[1], COMMANDS[i]->name) == 0)
            *command = (enum command) i;
    if (COMMANDS[*command]->usage == NULL)
        return error_set(
            err, ERROR_INVALID,
            "there is no \"fumidai %s\" yet; a command of that name is wrapped by: fumidai -- %s", argv[1],
            argv[1]);
    return settings_parse(settings, COMMANDS[*command], values, argc, argv, *command == COMMAND_TASK ? 1 : 2,
                          env, err);
}
