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
    [COMMAND_PLUGIN] = &PLUGIN_SETTINGS,
    [COMMAND_REDSHIFT] = &redshift,
};

static bool is_plugin_name(const char *path)
{
    struct str folder;
    struct str name;
    if (!str_cut_last(str_from(path), '/', &folder, &name))
        name = str_from(path);
    return str_equal_text(name, PLUGIN_SETTINGS_NAME);
}

/* argv is read by aws/plugin_args; only `fumidai session-manager-plugin --help` is ours. */
static int parse_plugin(struct settings *settings, union command_settings *values, int argc, char **argv,
                        int own, char *const *env, struct error *err)
{
    char *none[] = {argv[0], NULL};
    bool is_help = own == 1 && argc == 3 && strcmp(argv[2], "--help") == 0;
    int result = is_help ? settings_parse(settings, &PLUGIN_SETTINGS, values, argc, argv, 2, env, err)
                         : settings_parse(settings, &PLUGIN_SETTINGS, values, 1, none, 1, env, err);
    settings->words = argv + own;
    settings->word_count = argc - own;
    return result;
}

int command_parse(enum command *command, struct settings *settings, union command_settings *values, int argc,
                  char **argv, char *const *env, struct error *err)
{
    bool is_plugin = argc > 0 && is_plugin_name(argv[0]);
    *command = is_plugin ? COMMAND_PLUGIN : COMMAND_TASK;
    if (is_plugin)
        return parse_plugin(settings, values, argc, argv, 0, env, err);
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        if (argc > 1 && COMMANDS[i]->name != NULL && strcmp(argv[1], COMMANDS[i]->name) == 0)
            *command = (enum command) i;
    if (COMMANDS[*command]->usage == NULL)
        return error_set(
            err, ERROR_INVALID,
            "there is no \"fumidai %s\" yet; a command of that name is wrapped by: fumidai -- %s", argv[1],
            argv[1]);
    if (*command == COMMAND_PLUGIN)
        return parse_plugin(settings, values, argc, argv, 1, env, err);
    return settings_parse(settings, COMMANDS[*command], values, argc, argv, *command == COMMAND_TASK ? 1 : 2,
                          env, err);
}
