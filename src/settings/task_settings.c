#include "settings/task_settings.h"

#include <string.h>

#include "aws/ssmmessages.h"
#include "tunnel/dial_policy.h"
#include "tunnel/forward_spec.h"
#include "tunnel/handshake.h"

#define MINUTE_MS    INT64_C(60000)
#define HOUR_MS      (60 * MINUTE_MS)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- texts with an inner form: the relay's own parsers say what is wrong ------------------------------- */

static int validate_listen(struct str value, struct error *err)
{
    static struct forward_specs scratch; /* some KiB that nobody reads */
    return forward_spec_parse(&scratch, value, err);
}

static int validate_allow(struct str value, struct error *err)
{
    static struct dial_policy scratch; /* some KiB that nobody reads */
    return dial_policy_init(&scratch, value, err);
}

static int validate_version(struct str value, struct error *err)
{
    return handshake_agent_is_served(value)
               ? 0
               : error_set(err, ERROR_INVALID,
                           "want four numbers such as " SSMMESSAGES_AGENT_VERSION ", above 3.1.1511.0");
}

/* ---- the table ----------------------------------------------------------------------------------------- */

/* clang-format off */
#define AT(member, type) SETTINGS_AT(struct task_settings, member, type)
#define SWITCH(member) .kind = SETTINGS_SWITCH, AT(member, bool), .fallback = "false"
#define DURATION(member, fallback_, minimum_, maximum_) .kind = SETTINGS_DURATION, AT(member, int64_t),     \
        .fallback = (fallback_), .minimum = (minimum_), .maximum = (maximum_)
#define NUMBER(member, fallback_, minimum_, maximum_) .kind = SETTINGS_NUMBER, AT(member, uint32_t),        \
        .fallback = (fallback_), .minimum = (minimum_), .maximum = (maximum_)
#define CHOICE(member, fallback_, ...) .kind = SETTINGS_CHOICE, AT(member, unsigned),                       \
        .fallback = (fallback_), .choices = {__VA_ARGS__}
#define TEXT(member) .kind = SETTINGS_TEXT, AT(member, const char *)
#define PATH(member, fallback_) .kind = SETTINGS_PATH, AT(member, const char *), .fallback = (fallback_)

/* Of ghcr.io/mashiike/ecs-task-self-terminator. */
static const struct settings_row original_rows[] = {
    {"ssm-agent-log-location", "ECS_TST_SSM_AGENT_LOG_LOCATION",
        "The log of AWS's exec agent. It is followed when that agent runs in this container.",
        PATH(ssm_agent_log_location, "/var/log/amazon/ssm/amazon-ssm-agent.log")},
    {"initial-wait-time", "ECS_TST_INITIAL_WAIT_TIME",
        "End the task when no session has come for this long after the start. Not given, or 0: the idle "
        "timeout.",
        DURATION(initial_wait_ms, "", 0, SETTINGS_FOREVER_MS)},
    {"idle-timeout", "ECS_TST_IDLE_TIMEOUT",
        "End the task this long after its last session has ended.",
        DURATION(idle_timeout_ms, "15m", 0, SETTINGS_FOREVER_MS)},
    {"max-life-time", "ECS_TST_MAX_LIFE_TIME",
        "End the task this long after its start, even during a session. Not given, or 0: no limit.",
        DURATION(max_life_ms, "", 0, SETTINGS_FOREVER_MS)},
    {"set-desired-count-to-zero", "ECS_TST_SET_DESIRED_COUNT_TO_ZERO",
        "When the task ends, set its service's desired count to 0 (to one less when the service has other "
        "tasks).",
        SWITCH(set_desired_count_to_zero)},
    {"stop-task-on-exit", "ECS_TST_STOP_TASK",
        "When the task ends, call StopTask for it, after the desired count was set.",
        SWITCH(stop_task_on_exit)},
    {"keep-alive-task", "ECS_TST_KEEP_ALIVE_TASK",
        "Keep running after the wrapped command has ended.",
        SWITCH(keep_alive_task)},
    {"metrics-check-interval", "ECS_TST_METRICS_CHECK_INTERVAL",
        "How often to check the exec agent's log and processes; 0 means `1s`.",
        DURATION(metrics_check_interval_ms, "1s", 0, 24 * HOUR_MS)},
    {"verbose", "ECS_TST_VERBOSE",
        "Log each check for sessions, and each API call, at level info.",
        SWITCH(verbose), .alias = "vervose"},
    {"ecs-service-name", "ECS_TST_ECS_SERVICE_NAME",
        "The service to scale in. Not given: taken from the task's metadata, else asked of ECS.",
        TEXT(ecs_service_name)},
};

static const struct settings_row own_rows[] = {
    {"relay", "FUMIDAI_RELAY",
        "Serve Session Manager sessions without AWS's agent; `auto`: unless that agent is in this container.",
        CHOICE(relay, "auto", "auto", "on", "off")},
    {"agent-version", "FUMIDAI_AGENT_VERSION",
        "The version of AWS's agent that it calls itself, above 3.1.1511.0. Session Manager and clients "
        "decide by it what they use.",
        TEXT(agent_version), .fallback = SSMMESSAGES_AGENT_VERSION, .validate = validate_version},
    {"max-sessions", "FUMIDAI_MAX_SESSIONS",
        "How many sessions are served at once; further ones are refused with a reason.",
        NUMBER(max_sessions, "64", 1, 1000)},
    {"max-messages-per-second", "FUMIDAI_MAX_MESSAGES_PER_SECOND",
        "Pace of a session: at most twice this many messages of 1,024 bytes in any 2 s. The service "
        "closes connections that send more than about 1,000 a second. 0: no limit.",
        NUMBER(max_messages_per_second, "960", 0, 1000000)},
    {"burst-messages", "FUMIDAI_BURST_MESSAGES",
        "How many messages a session may send at once after a pause, within that limit.",
        NUMBER(burst_messages, "512", 0, 1000000)},
    {"listen", "FUMIDAI_LISTEN",
        "Fixed relays: `[ADDRESS:]PORT=HOST:PORT`, comma-separated. Without an address the port is opened on "
        "loopback.",
        TEXT(listen), .validate = validate_listen},
    {"allow", "FUMIDAI_ALLOW",
        "What may be dialled: host patterns, addresses and CIDR blocks, comma-separated, each with a port "
        "or a "
        "range (`*.cluster.internal:5432-5439, 10.0.0.0/16:5439`). Not given: everything that is not "
        "forbidden anyway.",
        TEXT(allow), .validate = validate_allow},
    {"idle-by", "FUMIDAI_IDLE_BY",
        "What keeps the task from being idle: an open session, an open stream, or bytes that are "
        "transferred.",
        CHOICE(idle_by, "session", "session", "stream", "bytes")},
    {"probe", "FUMIDAI_PROBE",
        "How to check a session's target before the user is told that it is ready: connect, which the first "
        "connection then uses, look up its name, or not at all.",
        CHOICE(probe, "connect", "connect", "resolve", "off")},
    {"dial-timeout", "FUMIDAI_DIAL_TIMEOUT",
        "How long connecting to a target may take, for all its addresses together.",
        DURATION(dial_timeout_ms, "10s", 1, 10 * MINUTE_MS)},
    {"stop-timeout", "FUMIDAI_STOP_TIMEOUT",
        "The container's `stopTimeout`: the time between ECS's SIGTERM and SIGKILL. Running sessions get it "
        "less 5 s.",
        DURATION(stop_timeout_ms, "30s", 0, HOUR_MS)},
    {"stop-grace", "FUMIDAI_STOP_GRACE",
        "How long the wrapped command has between SIGTERM and SIGKILL. Not given: the stop timeout less 5 s.",
        DURATION(stop_grace_ms, "", 0, HOUR_MS)},
    {"end-deadline", "FUMIDAI_END_DEADLINE",
        "How long to retry setting the desired count and stopping the task when they fail; then the task "
        "exits with status 125.",
        DURATION(end_deadline_ms, "5m", 0, 24 * HOUR_MS)},
    {"keep-alive", "FUMIDAI_KEEP_ALIVE",
        "While connections are open, send a message without meaning this often, so that Session Manager does "
        "not end a session in which nothing moves for 20 minutes (0: don't). `5m` does for long queries.",
        DURATION(keep_alive_ms, "0", 0, HOUR_MS)},
    {"channel-limit", "FUMIDAI_CHANNEL_LIMIT",
        "`fumidai health` reports unhealthy when the control channel has been closed for this long and no "
        "session is open.",
        DURATION(channel_limit_ms, "3m", 0, 24 * HOUR_MS)},
    {"task-protection", "FUMIDAI_TASK_PROTECTION",
        "Hold ECS's scale-in protection while sessions are open.",
        SWITCH(task_protection)},
};
/* clang-format on */

/* Choices are written through their offset as unsigned. */
_Static_assert(sizeof(enum task_relay) == sizeof(unsigned) && sizeof(enum task_idle_by) == sizeof(unsigned) &&
                   sizeof(enum task_probe) == sizeof(unsigned),
               "choices are unsigned");

/* ---- what follows from other values -------------------------------------------------------------------- */

int64_t task_settings_reserve_stop(int64_t stop_timeout_ms)
{
    const int64_t reserve_ms = 5000;
    return stop_timeout_ms > 2 * reserve_ms ? stop_timeout_ms - reserve_ms : stop_timeout_ms / 2;
}

static void finish(void *values, const struct settings *given)
{
    struct task_settings *task = values;
    if (task->initial_wait_ms == 0)
        task->initial_wait_ms = task->idle_timeout_ms;
    if (task->metrics_check_interval_ms == 0)
        task->metrics_check_interval_ms = 1000;
    if (settings_source(given, "stop-grace") == SETTINGS_FROM_DEFAULT)
        task->stop_grace_ms = task_settings_reserve_stop(task->stop_timeout_ms);
    task->words = given->words;
    task->word_count = given->word_count;
}

/* ---- the commands -------------------------------------------------------------------------------------- */

static const struct settings_row listing_rows[] = {
    {"markdown", NULL, "`fumidai settings --markdown`: this reference.", SETTINGS_SWITCH,
     SETTINGS_AT(struct task_settings_listing, markdown, bool), .fallback = "false"},
};

#define ORIGINAL_TITLE "Settings of the image this replaces"
#define OWN_TITLE      "Settings of fumidai's own"
#define PROGRAM_TITLE  "The program itself"

static const struct settings_part parts[] = {
    {ORIGINAL_TITLE, COMMON_SETTINGS_LOG, COMMON_SETTINGS_LOG_ROWS, 0},
    {ORIGINAL_TITLE, original_rows, COUNT(original_rows), 0},
    {OWN_TITLE, own_rows, COUNT(own_rows), 0},
    {PROGRAM_TITLE, COMMON_SETTINGS_PROGRAM, COMMON_SETTINGS_PROGRAM_ROWS, 0},
    {PROGRAM_TITLE, listing_rows, COUNT(listing_rows), 0}, /* of the listing only */
};

_Static_assert(offsetof(struct task_settings, common) == 0 &&
                   offsetof(struct task_settings_listing, task) == 0,
               "the rows' structs begin where the commands' do");

const struct settings_command TASK_SETTINGS = {
    .usage = "fumidai [flags] [--] [command args...]",
    .purpose = "Relays Session Manager sessions into the VPC and ends its ECS task when nobody needs it.",
    .parts = parts,
    .part_count = COUNT(parts) - 1,
    .size = sizeof(struct task_settings),
    .words = SETTINGS_WORDS_ANYWHERE,
    .unknown_flag_hint = "see --help; a wrapped command with flags of its own goes after --",
    .finish = finish,
};

const struct settings_command TASK_SETTINGS_LISTING = {
    .name = "settings",
    .usage = "fumidai settings [flags]",
    .purpose =
        "Prints the value of every setting, and whether it comes from a flag, a variable or the default.",
    .parts = parts,
    .part_count = COUNT(parts),
    .size = sizeof(struct task_settings_listing),
    .words = SETTINGS_NO_WORDS,
    .finish = finish,
};
