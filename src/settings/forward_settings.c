#include "settings/forward_settings.h"

#include "tunnel/local_forward.h"
#include "tunnel/tunnel.h"

#define MINUTE_MS    INT64_C(60000)
#define HOUR_MS      (60 * MINUTE_MS)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static int validate_port(struct str value, struct error *err)
{
    struct local_forward scratch;
    return local_forward_parse_port(&scratch, value, err);
}

static int validate_socks(struct str value, struct error *err)
{
    struct local_forward scratch;
    return local_forward_parse_socks(&scratch, value, err);
}

static int validate_stdio(struct str value, struct error *err)
{
    struct local_forward scratch;
    return local_forward_parse_stdio(&scratch, value, err);
}

/* clang-format off */
#define AT(member, type) SETTINGS_AT(struct forward_settings, member, type)
#define SWITCH(member, fallback_) .kind = SETTINGS_SWITCH, AT(member, bool), .fallback = (fallback_)
#define DURATION(member, fallback_, minimum_, maximum_) .kind = SETTINGS_DURATION, AT(member, int64_t),     \
        .fallback = (fallback_), .minimum = (minimum_), .maximum = (maximum_)
#define NUMBER(member, fallback_, minimum_, maximum_) .kind = SETTINGS_NUMBER, AT(member, uint32_t),        \
        .fallback = (fallback_), .minimum = (minimum_), .maximum = (maximum_)
#define TEXT(member) .kind = SETTINGS_TEXT, AT(member, const char *)
#define LIST(member) .kind = SETTINGS_LIST, AT(member, struct settings_list)

static const struct settings_row where_rows[] = {
    {"local-forward", "FUMIDAI_FORWARD",
        "`[BIND:]PORT:HOST:PORT`: a port here that leads to HOST:PORT, as in ssh; repeat it for more. Port 0 "
        "is any free one. `PATH:HOST:PORT` is a Unix socket.",
        LIST(ports), .validate = validate_port, .letter = 'L'},
    {"dynamic-forward", "FUMIDAI_FORWARD_SOCKS",
        "`[BIND:]PORT`: SOCKS and HTTP CONNECT; each connection names its own target.",
        LIST(socks), .validate = validate_socks, .letter = 'D'},
    {"stdio", NULL,
        "`HOST:PORT`: forward standard input and output, for ssh's ProxyCommand.",
        TEXT(stdio), .validate = validate_stdio, .letter = 'W'},
    {"local-port", NULL,
        "As ecsta has it: the port here, for --remote-port. Not given: any free one.",
        NUMBER(local_port, "0", 0, 65535)},
    {"remote-port", NULL,
        "As ecsta has it: the port of --remote-host.",
        NUMBER(remote_port, "0", 0, 65535)},
    {"remote-host", NULL,
        "As ecsta has it: the host. Not given: the task itself.",
        TEXT(remote_host), .fallback = "localhost"},
};

static const struct settings_row task_rows[] = {
    {"cluster", "FUMIDAI_CLUSTER",
        "The ECS cluster.",
        TEXT(cluster), .fallback = "default", .letter = 'c'},
    {"service", "FUMIDAI_SERVICE",
        "The service whose newest running task is used.",
        TEXT(service), .letter = 's'},
    {"family", "FUMIDAI_FAMILY",
        "Instead of a service: the family of the task's definition.",
        TEXT(family)},
    {"id", NULL,
        "Instead of a service: the task's id.",
        TEXT(id)},
    {"container", NULL,
        "The container. Not given: the first that sessions can be opened to.",
        TEXT(container)},
    {"start", "FUMIDAI_START",
        "Set the desired count of a service that is at 0 to 1, and wait for its task. Not given: yes with a "
        "command or in CI.",
        SWITCH(start, "")},
    {"start-timeout", "FUMIDAI_START_TIMEOUT",
        "How long to wait for a task and its session.",
        DURATION(start_timeout_ms, "5m", 1000, 24 * HOUR_MS)},
    {"region", NULL,
        "The AWS region. Not given: AWS_REGION, AWS_DEFAULT_REGION, or the profile's.",
        TEXT(region)},
    {"profile", NULL,
        "The profile of AWS's shared files. Not given: AWS_PROFILE, or default.",
        TEXT(profile)},
    {"document-name", NULL,
        "The SSM document. Not given: AWS-StartPortForwardingSession when the host is the task itself, else "
        "AWS-StartPortForwardingSessionToRemoteHost.",
        TEXT(document_name)},
    {"reason", NULL,
        "What CloudTrail is told. Not given: the CI's repository, run and actor, or user, host and command.",
        TEXT(reason)},
};

static const struct settings_row life_rows[] = {
    {"check", "FUMIDAI_CHECK",
        "Ready means that the targets answered.",
        SWITCH(check, "true")},
    {"no-check", NULL,
        "As --check=false.",
        SWITCH(no_check, "false")},
    {"wait-for-target", "FUMIDAI_WAIT_FOR_TARGET",
        "Check again for this long: a warehouse that is resuming takes some minutes.",
        DURATION(wait_for_target_ms, "0", 0, HOUR_MS)},
    {"sessions", "FUMIDAI_SESSIONS",
        "How many sessions carry the forwards. The service limits each to some 1 MB/s; with fumidai at the "
        "other end one connection gets them all.",
        NUMBER(sessions, "1", 1, TUNNEL_LANES_MAX)},
    {"max-messages-per-second", "FUMIDAI_MAX_MESSAGES_PER_SECOND",
        "Pace of a session: at most twice this many messages of 1,024 bytes in any 2 s. The service closes "
        "connections that send more than about 1,000 a second. 0: no limit.",
        NUMBER(max_messages_per_second, "960", 0, 1000000)},
    {"burst-messages", "FUMIDAI_BURST_MESSAGES",
        "How many messages a session may send at once after a pause, within that limit.",
        NUMBER(burst_messages, "512", 0, 1000000)},
    {"reconnect-for", "FUMIDAI_RECONNECT_FOR",
        "How long to try to get back what was lost.",
        DURATION(reconnect_for_ms, "10m", 1000, 24 * HOUR_MS)},
    {"keep-alive", "FUMIDAI_KEEP_ALIVE",
        "While connections are open, send a message without meaning this often, so that Session Manager does "
        "not end a session in which nothing moves for 20 minutes (0: don't).",
        DURATION(keep_alive_ms, "0", 0, HOUR_MS)},
    {"drain", NULL,
        "At SIGTERM, without a command: how long open connections may go on.",
        DURATION(drain_ms, "10s", 0, HOUR_MS)},
    {"idle-timeout", NULL,
        "Without a command: end when no connection was open for this long (0: don't).",
        DURATION(idle_timeout_ms, "0", 0, SETTINGS_FOREVER_MS)},
    {"max-time", NULL,
        "End after this long; a command gets SIGTERM, then SIGKILL (0: don't).",
        DURATION(max_time_ms, "0", 0, SETTINGS_FOREVER_MS)},
    {"ready-file", NULL,
        "A file that is there, with the ports as JSON, while the forwards are ready.",
        TEXT(ready_file)},
    {"ready-fd", NULL,
        "A descriptor to which the same is written when ready; then it is closed.",
        NUMBER(ready_fd, "0", 0, 1023)},
    {"background", NULL,
        "Go to the background once ready: exit with 0 then, or with 1 and the reason.",
        SWITCH(background, "false"), .letter = 'f'},
    {"pid-file", NULL,
        "A file with the process id, from the start to the end.",
        TEXT(pid_file)},
    {"stop", NULL,
        "`FILE`: end the forward of this pid file, wait until it is gone, its sessions too, and exit.",
        TEXT(stop)},
    {"wait", NULL,
        "`FILE`: wait for this ready file, at most --start-timeout, and exit.",
        TEXT(wait)},
    {"while", NULL,
        "`PID`: end when this process ends.",
        NUMBER(while_pid, "0", 0, 4194304)},
    {"output", NULL,
        "`json`: one event a line on standard output.",
        SETTINGS_CHOICE, AT(output, unsigned), .fallback = "text", .choices = {"text", "json"}},
    {"env", NULL,
        "Tell the clients of a database where the first -L is: PGHOST, PGHOSTADDR and PGPORT (then "
        "sslmode=verify-full works), MYSQL_HOST and MYSQL_TCP_PORT, or also REDSHIFT_HOST and REDSHIFT_PORT.",
        SETTINGS_CHOICE, AT(database, unsigned), .fallback = "none",
        .choices = {"none", "pg", "mysql", "redshift"}},
    {"github-env", NULL,
        "Append what a command is told (FUMIDAI_PORT_... and --env) to the file $GITHUB_ENV when ready, for "
        "the next steps of a job.",
        SWITCH(github_env, "false")},
};

/* The client tells people what they need to know in its own words. */
static const struct settings_row log_rows[] = {
    {"log-level", "FUMIDAI_LOG_LEVEL",
        "Minimum level to log on standard error: `debug`, `info`, `warn` or `error`.",
        SETTINGS_LEVEL, SETTINGS_AT(struct common_settings, log_level, int), .fallback = "warn"},
};
/* clang-format on */

_Static_assert(sizeof(enum forward_output) == sizeof(unsigned) &&
                   sizeof(enum forward_database) == sizeof(unsigned),
               "choices are unsigned");

static void finish(void *values, const struct settings *given)
{
    struct forward_settings *forward = values;
    forward->start_is_given = settings_source(given, "start") != SETTINGS_FROM_DEFAULT;
    forward->check = forward->check && !forward->no_check;
    forward->words = given->words;
    forward->word_count = given->word_count;
}

static const struct settings_part parts[] = {
    {"What leads where", where_rows, COUNT(where_rows), 0},
    {"Through which task", task_rows, COUNT(task_rows), 0},
    {"How, and for how long", life_rows, COUNT(life_rows), 0},
    {"The program itself", log_rows, COUNT(log_rows), 0},
    {"The program itself", COMMON_SETTINGS_PROGRAM, COMMON_SETTINGS_PROGRAM_ROWS, 0},
};

const struct settings_command FORWARD_SETTINGS = {
    .name = "forward",
    .usage = "fumidai forward --service NAME -L PORT:HOST:PORT [flags] [-- command args...]",
    .purpose = "Forwards local ports into a VPC through an ECS task, for as long as a command runs.",
    .parts = parts,
    .part_count = COUNT(parts),
    .size = sizeof(struct forward_settings),
    .words = SETTINGS_WORDS_BEHIND,
    .unknown_flag_hint = "see fumidai forward --help; the command goes after --",
    .finish = finish,
};
