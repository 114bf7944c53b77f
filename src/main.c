/* main: a table of commands. What each does stands in its own file; this one
 * parses, opens the log, and calls. */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "host/console.h"
#include "host/log.h"
#include "host/relro.h"
#include "host/signals.h"
#include "keeper/health.h"
#include "keeper/keeper.h"
#include "net/network.h"
#include "relay/relay.h"
#include "settings/config.h"
#include "wire/ipc.h"
#include "worker/worker.h"

enum { TEXT_SIZE = 64 * 1024 /* holds the longest page of help and the README's tables */ };

/* The relay gets the very arguments that this process got, under another name:
 * same settings, same sources. */
static char **child_argv;

static int run_task(const struct config *config)
{
    return keeper_run(config, child_argv, environ);
}

static int run_health(const struct config *config)
{
    (void) config; /* the keeper has its own */
    return health_run(environ);
}

static int print(const struct writer *text)
{
    return console_write(STDOUT_FILENO, writer_view(text)) && !text->failed ? 0 : 1;
}

static int run_settings(const struct config *config)
{
    static char memory[TEXT_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    if (config->markdown)
        config_write_markdown(&text);
    else
        config_write_settings(&text, config);
    return print(&text);
}

static int (*const commands[CONFIG_COMMAND_COUNT])(const struct config *config) = {
    [CONFIG_TASK] = run_task,
    [CONFIG_HEALTH] = run_health,
    [CONFIG_SETTINGS] = run_settings,
};

static int print_help(enum config_command command)
{
    static char memory[TEXT_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    config_write_help(&text, command);
    return print(&text);
}

/* Made before config_parse rearranges the originals. */
static char **copy_arguments(int argc, char **argv)
{
    char **copy = calloc((size_t) argc + 2, sizeof *copy);
    if (copy == NULL)
        return NULL;
    for (int i = 0; i < argc; i++)
        copy[i] = argv[i];
    return copy;
}

int main(int argc, char **argv)
{
    struct config config;
    struct error err = ERROR_INIT;
    const char *name = argc > 0 ? argv[0] : "";
    bool serves_sessions = strcmp(name, IPC_RELAY_NAME) == 0;
    bool is_relay = serves_sessions || strcmp(name, IPC_RELAY_PORTS_NAME) == 0;
    signals_block_all();
    (void) prctl(PR_SET_DUMPABLE, 0); /* no core, and no other process of the same user reads our memory */
    if (relro_protect(&err) < 0) {
        console_format(STDERR_FILENO, "fumidai: %s\n", err.text);
        return 1;
    }
    child_argv = copy_arguments(argc, argv);
    if (child_argv == NULL) {
        console_format(STDERR_FILENO, "fumidai: out of memory before anything started\n");
        return 1;
    }
    if (config_parse(&config, argc, argv, environ, &err) < 0) {
        console_format(STDERR_FILENO, "fumidai: %s\n", err.text);
        return CONFIG_EXIT_USAGE;
    }
    if (config.help)
        return print_help(config.command);
    if (config.version)
        return console_format(STDOUT_FILENO, "fumidai %s\n", FUMIDAI_VERSION) ? 0 : 1;
    struct log_settings log = {.format =
                                   config.log_format == CONFIG_LOG_JSON ? LOG_FORMAT_JSON : LOG_FORMAT_TEXT,
                               .minimum_level = config.log_level,
                               .app = "fumidai",
                               .version = FUMIDAI_VERSION};
    log_open(&log);
    if (strcmp(name, IPC_WORKER_NAME) == 0)
        return worker_run(environ);
    return is_relay ? relay_run(&config, serves_sessions, environ) : commands[config.command](&config);
}
