/*
 * config: every setting of the program, in one table (config.c). Flags, environment variables, --help and the
 * README's reference come from it, so they can't differ.
 *
 *     fumidai [flags] [--] [command args…]    the task's own mode (CONFIG_TASK)
 *     fumidai health                          whether that task is fit to serve (CONFIG_HEALTH)
 *     fumidai settings [flags]                what flags and environment come to
 *     fumidai forward | redshift              reserved names
 *
 * Sub-commands. Only when the very first argument is exactly one of these names is it a sub-command;
 * everything else is what it was for the image this replaces: a command to wrap. `fumidai -- health` and
 * `fumidai --idle-timeout=5m health` wrap a program named health.
 *
 * Flags and words. `--flag value` and `--flag=value`; a switch takes a value only after `=`. Flags may stand
 * before and after the words of a bare command, as in the original; after `--` everything belongs to the
 * command. The last of a repeated flag counts. An unknown flag is an error, since a command whose own flags
 * should reach it needs the `--`.
 *
 * Environment. A flag wins over its variable, the variable over the default. An empty variable is taken as
 * not set (so did the original's parser; templates of task definitions leave such ones behind). A variable of
 * a setting that the flag has set is not looked at.
 *
 * Values. Durations as Go writes them, not negative; a fraction of a millisecond is rounded up. Switches as
 * strconv.ParseBool reads them, and yes and no in any case, which the original's parser took. Log levels as
 * slog.Level.UnmarshalText reads them (any case, "info+1"), and notice for info.
 *
 * Nothing is allocated or copied: texts point into argv and the environment. Words of the wrapped command are
 * moved to the front of argv.
 */
#ifndef FUMIDAI_SETTINGS_CONFIG_H
#define FUMIDAI_SETTINGS_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum { CONFIG_EXIT_USAGE = 2 }; /* a bad setting; nothing was started */

/* main.c's table has a row for each. A setting names the ones it belongs to. */
enum config_command {
    CONFIG_TASK,
    CONFIG_HEALTH,
    CONFIG_FORWARD,
    CONFIG_REDSHIFT,
    CONFIG_SETTINGS,
    CONFIG_COMMAND_COUNT
};

enum config_log_format { CONFIG_LOG_TEXT, CONFIG_LOG_JSON };
enum config_relay { CONFIG_RELAY_AUTO, CONFIG_RELAY_ON, CONFIG_RELAY_OFF };
enum config_idle_by { CONFIG_IDLE_BY_SESSION, CONFIG_IDLE_BY_STREAM, CONFIG_IDLE_BY_BYTES };

/* slog's numbers; "info+1" is 1. */
enum { CONFIG_LEVEL_DEBUG = -4, CONFIG_LEVEL_INFO = 0, CONFIG_LEVEL_WARN = 4, CONFIG_LEVEL_ERROR = 8 };

enum config_setting {
    CONFIG_SSM_AGENT_LOG_LOCATION,
    CONFIG_LOG_FORMAT,
    CONFIG_LOG_LEVEL,
    CONFIG_INITIAL_WAIT_TIME,
    CONFIG_IDLE_TIMEOUT,
    CONFIG_MAX_LIFE_TIME,
    CONFIG_SET_DESIRED_COUNT_TO_ZERO,
    CONFIG_STOP_TASK_ON_EXIT,
    CONFIG_KEEP_ALIVE_TASK,
    CONFIG_METRICS_CHECK_INTERVAL,
    CONFIG_VERBOSE,
    CONFIG_ECS_SERVICE_NAME,
    CONFIG_RELAY,
    CONFIG_MAX_SESSIONS,
    CONFIG_MAX_MESSAGES_PER_SECOND,
    CONFIG_BURST_MESSAGES,
    CONFIG_LISTEN,
    CONFIG_ALLOW,
    CONFIG_IDLE_BY,
    CONFIG_DIAL_TIMEOUT,
    CONFIG_STOP_TIMEOUT,
    CONFIG_STOP_GRACE,
    CONFIG_END_DEADLINE,
    CONFIG_CHANNEL_LIMIT,
    CONFIG_TASK_PROTECTION,
    CONFIG_HELP,
    CONFIG_VERSION,
    CONFIG_MARKDOWN,
    CONFIG_SETTING_COUNT
};

enum config_source { CONFIG_FROM_DEFAULT, CONFIG_FROM_ENVIRONMENT, CONFIG_FROM_FLAG };

struct config {
    enum config_command command;
    enum config_source sources[CONFIG_SETTING_COUNT]; /* for the log: where each value came from */

    const char *ssm_agent_log_location;
    enum config_log_format log_format;
    int log_level;
    int64_t initial_wait_ms; /* not given or 0: filled with the idle timeout */
    int64_t idle_timeout_ms;
    int64_t max_life_ms; /* 0: none */
    bool set_desired_count_to_zero;
    bool stop_task_on_exit;
    bool keep_alive_task;
    int64_t metrics_check_interval_ms; /* 0 means the default, 1 s */
    bool verbose;
    const char *ecs_service_name; /* empty: found out */

    enum config_relay relay;
    uint32_t max_sessions;
    uint32_t max_messages_per_second; /* 0: no limit */
    uint32_t burst_messages;
    const char *listen; /* empty: none */
    const char *allow;  /* empty: everything not forbidden */
    enum config_idle_by idle_by;
    int64_t dial_timeout_ms;
    int64_t stop_timeout_ms; /* the container definition's stopTimeout */
    int64_t stop_grace_ms;   /* not given: filled with config_reserve_stop() of the stop timeout */
    int64_t end_deadline_ms;
    int64_t channel_limit_ms;
    bool task_protection;

    bool help;
    bool version;
    bool markdown; /* settings: as the README's tables */

    char **words;   /* the wrapped command, or a sub-command's own words; ends in a null pointer */
    int word_count; /* 0: nothing to wrap */
};

/* A stop timeout less the 5 s that remain for the end itself; half of it when it is below 10 s. */
int64_t config_reserve_stop(int64_t stop_timeout_ms);

/* Fills everything. 0, or ERROR_INVALID with one line that names the setting as it was given, its value, and
 * what is allowed: the caller prints it and exits with CONFIG_EXIT_USAGE. With --help or --version among the
 * flags what else is wrong is not reported. argv is rearranged; `environment` ends in a null pointer. */
int config_parse(struct config *config, int argc, char **argv, char *const *environment, struct error *err);

void config_write_help(struct writer *out, enum config_command command);
/* The README's reference, a table for each group of settings. `fumidai settings --markdown`. */
void config_write_markdown(struct writer *out);
/* One line a setting: flag, value, source. `fumidai settings`, and the start's debug log. */
void config_write_settings(struct writer *out, const struct config *config);
/* One setting's value as it would be given ("30m0s"); empty for an empty text. */
void config_write_value(struct writer *out, const struct config *config, enum config_setting setting);
const char *config_flag_name(enum config_setting setting); /* without dashes */
/* "flag", the variable's name, or "default". */
const char *config_source_name(const struct config *config, enum config_setting setting);

#endif
