/* main: a table of commands. What each does stands in its own file; this one
 * parses, opens the log, and calls. */
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/bytes.h"
#include "client/client.h"
#include "client/plugin.h"
#include "host/console.h"
#include "host/health_socket.h"
#include "host/log.h"
#include "host/relro.h"
#include "host/signals.h"
#include "keeper/keeper.h"
#include "relay/relay.h"
#include "settings/commands.h"
#include "settings/pages.h"
#include "wire/ipc.h"
#include "worker/worker.h"

static char page[64 * 1024]; /* holds the longest page of help and the README's tables */

/* The relay gets the very arguments that this process got, under another name:
 * same settings, same sources. */
static char **child_argv;

static struct settings settings;
static union command_settings values;

static int run_task(void)
{
    /* Not PID 1 (initProcessEnabled, pidMode): orphans of the wrapped command would be somebody else's. */
    (void) prctl(PR_SET_CHILD_SUBREAPER, 1);
    return keeper_run(&values.task, child_argv, environ);
}

static int run_forward(void)
{
    return client_run(&values.forward, environ);
}

static int run_plugin(void)
{
    return plugin_run(&values.plugin, settings.word_count, settings.words, environ);
}

static int run_health(void)
{
    return health_run(environ);
}

static int print(const struct writer *text)
{
    return console_write(STDOUT_FILENO, writer_view(text)) && !text->failed ? 0 : 1;
}

static int print_help(void)
{
    struct writer text = writer_of(page, sizeof page);
    settings_write_help(&text, settings.command);
    return print(&text);
}

static int run_settings(void)
{
    struct writer text = writer_of(page, sizeof page);
    if (values.listing.markdown)
        settings_write_markdown(&text, settings.command);
    else
        settings_write_values(&text, &settings);
    return print(&text);
}

static int (*const commands[COMMAND_COUNT])(void) = {
    [COMMAND_TASK] = run_task,     [COMMAND_FORWARD] = run_forward,   [COMMAND_PLUGIN] = run_plugin,
    [COMMAND_HEALTH] = run_health, [COMMAND_SETTINGS] = run_settings,
};

/* Made before command_parse rearranges the originals. */
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
    enum command command;
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
    if (command_parse(&command, &settings, &values, argc, argv, environ, &err) < 0) {
        console_format(STDERR_FILENO, "fumidai: %s\n", err.text);
        return SETTINGS_EXIT_USAGE;
    }
    if (values.common.help)
        return print_help();
    if (values.common.version)
        return console_format(STDOUT_FILENO, "fumidai %s\n", FUMIDAI_VERSION) ? 0 : 1;
    struct log_settings log = {.format = values.common.log_format,
                               .minimum_level = values.common.log_level,
                               .app = "fumidai",
                               .version = FUMIDAI_VERSION};
    log_open(&log);
    if (strcmp(name, IPC_WORKER_NAME) == 0)
        return worker_run(environ);
    return is_relay ? relay_run(&values.task, serves_sessions, environ) : commands[command]();
}
