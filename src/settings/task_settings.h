/*
 * task_settings: what the task's own mode takes: `fumidai [flags] [--] [command args…]`, PID 1 of
 * a bastion's task. The first group are the settings of the image that fumidai replaces, under its names.
 */
#ifndef FUMIDAI_SETTINGS_TASK_SETTINGS_H
#define FUMIDAI_SETTINGS_TASK_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "settings/common_settings.h"
#include "settings/settings.h"

enum task_relay { TASK_RELAY_AUTO, TASK_RELAY_ON, TASK_RELAY_OFF };
enum task_probe { TASK_PROBE_CONNECT, TASK_PROBE_RESOLVE, TASK_PROBE_OFF };
enum task_idle_by { TASK_IDLE_BY_SESSION, TASK_IDLE_BY_STREAM, TASK_IDLE_BY_BYTES };

struct task_settings {
    struct common_settings common;

    const char *ssm_agent_log_location;
    int64_t initial_wait_ms; /* not given or 0: filled with the idle timeout */
    int64_t idle_timeout_ms;
    int64_t max_life_ms; /* 0: none */
    bool set_desired_count_to_zero;
    bool stop_task_on_exit;
    bool keep_alive_task;
    int64_t metrics_check_interval_ms; /* never 0: that means the default, 1 s */
    bool verbose;
    const char *ecs_service_name; /* empty: found out */

    enum task_relay relay;
    const char *agent_version;
    uint32_t max_sessions;
    uint32_t max_messages_per_second; /* 0: no limit */
    uint32_t burst_messages;
    const char *listen; /* empty: none */
    const char *allow;  /* empty: everything not forbidden */
    enum task_idle_by idle_by;
    int64_t keep_alive_ms; /* 0: none */
    enum task_probe probe;
    int64_t dial_timeout_ms;
    int64_t stop_timeout_ms; /* the container definition's stopTimeout */
    int64_t stop_grace_ms;   /* not given: filled with task_settings_reserve_stop() of the stop timeout */
    int64_t end_deadline_ms;
    int64_t channel_limit_ms;
    bool task_protection;

    char **words;   /* the wrapped command; ends in a null pointer */
    int word_count; /* 0: nothing to wrap */
};

extern const struct settings_command TASK_SETTINGS;

/* A stop timeout less the 5 s that remain for the shutdown itself; half of it when it is below 10 s. */
int64_t task_settings_reserve_stop(int64_t stop_timeout_ms);

/* `fumidai settings` takes the same flags and says what they come to. */
struct task_settings_listing {
    struct task_settings task;
    bool markdown; /* the reference instead */
};

extern const struct settings_command TASK_SETTINGS_LISTING;

#endif
