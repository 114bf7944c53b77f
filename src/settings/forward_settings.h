/*
 * forward_settings: what `fumidai forward [flags] [-- command args…]` takes: which ports lead where, through
 * which task, and how long.
 */
#ifndef FUMIDAI_SETTINGS_FORWARD_SETTINGS_H
#define FUMIDAI_SETTINGS_FORWARD_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "settings/common_settings.h"
#include "settings/settings.h"

/* Whose clients find the first -L in the environment. */
enum forward_database {
    FORWARD_DATABASE_NONE,
    FORWARD_DATABASE_PG,
    FORWARD_DATABASE_MYSQL,
    FORWARD_DATABASE_REDSHIFT
};

enum forward_output { FORWARD_OUTPUT_TEXT, FORWARD_OUTPUT_JSON };

struct forward_settings {
    struct common_settings common;

    struct settings_list ports; /* -L, as tunnel/local_forward reads them; all of them are valid */
    struct settings_list socks; /* -D */
    const char *stdio;          /* -W; empty: none */
    /* ecsta's way to say -L. */
    uint32_t local_port;
    uint32_t remote_port; /* 0: none */
    const char *remote_host;

    const char *cluster;
    const char *service; /* empty: by family or id */
    const char *family;
    const char *id;
    const char *container;     /* empty: the one that has a runtime id, or the first */
    const char *region;        /* empty: the environment's or the profile's */
    const char *profile;       /* empty: AWS_PROFILE, or default */
    const char *document_name; /* empty: AWS's, by the target */
    const char *reason;        /* empty: who and where */

    bool start;
    bool start_is_given; /* else: with a command, or in CI */
    int64_t start_timeout_ms;
    bool check;
    bool no_check; /* then `check` is false */
    int64_t wait_for_target_ms;
    uint32_t sessions;
    uint32_t max_messages_per_second; /* 0: no limit */
    uint32_t burst_messages;
    int64_t reconnect_for_ms;
    int64_t keep_alive_ms;
    int64_t drain_ms;
    int64_t idle_timeout_ms;
    int64_t max_time_ms;
    const char *ready_file; /* empty: none */
    uint32_t ready_fd;      /* 0: none */
    const char *pid_file;   /* empty: none */
    bool background;
    uint32_t while_pid; /* 0: none */
    const char *stop;   /* empty: nothing of the kind; else the only thing to do */
    const char *wait;
    enum forward_output output;
    enum forward_database database;
    bool github_env; /* also into $GITHUB_ENV */

    char **words; /* the command; ends in a null pointer */
    int word_count;
};

extern const struct settings_command FORWARD_SETTINGS;

#endif
