#include "settings/config.h"

#include <stddef.h>
#include <string.h>

#include "base/time.h"
#include "tunnel/dial_policy.h"
#include "tunnel/forward_spec.h"

/* ---- the table ----------------------------------------------------------------------------------------- */

enum kind { KIND_SWITCH, KIND_DURATION, KIND_COUNT, KIND_CHOICE, KIND_LEVEL, KIND_TEXT, KIND_PATH };

enum group { GROUP_ORIGINAL, GROUP_OWN, GROUP_PROGRAM, GROUP_COUNT };

static const char *const group_titles[GROUP_COUNT] = {
    [GROUP_ORIGINAL] = "Settings of the image this replaces",
    [GROUP_OWN] = "Settings of fumidai's own",
    [GROUP_PROGRAM] = "The program itself",
};

#define IN(command) (1U << (command))
#define IN_TASK     (IN(CONFIG_TASK) | IN(CONFIG_SETTINGS))
#define IN_SETTINGS IN(CONFIG_SETTINGS)
#define IN_ALL      ((1U << CONFIG_COMMAND_COUNT) - 1)

#define MINUTE_MS   INT64_C(60000)
#define HOUR_MS     (60 * MINUTE_MS)
#define FOREVER_MS  INT64_MAX
#define CHOICES_MAX 3

struct setting {
    const char *flag;
    const char *variable; /* null: none */
    unsigned commands;
    const char *help;
    enum kind kind;
    enum group group;
    size_t offset;        /* in struct config */
    const char *fallback; /* the default, as it would be given; empty: zero, or what `help` says */
    int64_t minimum;      /* of counts, and of durations in milliseconds */
    int64_t maximum;
    const char *choices[CHOICES_MAX];                     /* in the order of the enum */
    int (*validate)(struct str value, struct error *err); /* texts with an inner form; null: anything goes */
    const char *alias;                                    /* a second spelling of the flag */
};

static int validate_listen(struct str value, struct error *err);
static int validate_allow(struct str value, struct error *err);

/* Where a member is; a member of another type does not compile. */
#define AT(member, type)                                                                                     \
    (offsetof(struct config, member) + 0 * sizeof(&((struct config *) NULL)->member == (type *) NULL))

/* clang-format off */
#define SWITCH(member) .kind = KIND_SWITCH, .offset = AT(member, bool), .fallback = "false"
#define DURATION(member, fallback_, minimum_, maximum_) .kind = KIND_DURATION, .offset = AT(member, int64_t),  \
        .fallback = (fallback_), .minimum = (minimum_), .maximum = (maximum_)
#define COUNT(member, fallback_, minimum_, maximum_) .kind = KIND_COUNT, .offset = AT(member, uint32_t),       \
        .fallback = (fallback_), .minimum = (minimum_), .maximum = (maximum_)
#define CHOICE(member, fallback_, ...) .kind = KIND_CHOICE, .offset = AT(member, unsigned),                    \
        .fallback = (fallback_), .choices = {__VA_ARGS__}
#define LEVEL(member, fallback_) .kind = KIND_LEVEL, .offset = AT(member, int), .fallback = (fallback_)
#define TEXT(member) .kind = KIND_TEXT, .offset = AT(member, const char *), .fallback = ""
#define PATH(member, fallback_) .kind = KIND_PATH, .offset = AT(member, const char *), .fallback = (fallback_)
#define OWN .group = GROUP_OWN
#define PROGRAM .group = GROUP_PROGRAM

static const struct setting settings[] = {
    [CONFIG_SSM_AGENT_LOG_LOCATION] = {"ssm-agent-log-location", "ECS_TST_SSM_AGENT_LOG_LOCATION", IN_TASK,
        "The log of AWS's exec agent, followed when that agent is in this container.",
        PATH(ssm_agent_log_location, "/var/log/amazon/ssm/amazon-ssm-agent.log")},
    [CONFIG_LOG_FORMAT] = {"log-format", "ECS_TST_LOG_FORMAT", IN_ALL,
        "Form of the log on standard error.",
        CHOICE(log_format, "text", "text", "json")},
    [CONFIG_LOG_LEVEL] = {"log-level", "ECS_TST_LOG_LEVEL", IN_ALL,
        "Least level that is logged: `debug`, `info`, `warn`, `error`, in any case, also as `info+1`;"
        " `notice` is `info`.",
        LEVEL(log_level, "info")},
    [CONFIG_INITIAL_WAIT_TIME] = {"initial-wait-time", "ECS_TST_INITIAL_WAIT_TIME", IN_TASK,
        "End when nobody has come for so long after the start. Not given, or 0: the idle timeout.",
        DURATION(initial_wait_ms, "", 0, FOREVER_MS)},
    [CONFIG_IDLE_TIMEOUT] = {"idle-timeout", "ECS_TST_IDLE_TIMEOUT", IN_TASK,
        "End when the last session has been over for so long.",
        DURATION(idle_timeout_ms, "15m", 0, FOREVER_MS)},
    [CONFIG_MAX_LIFE_TIME] = {"max-life-time", "ECS_TST_MAX_LIFE_TIME", IN_TASK,
        "End so long after the start, also during a session. Not given, or 0: no maximum.",
        DURATION(max_life_ms, "", 0, FOREVER_MS)},
    [CONFIG_SET_DESIRED_COUNT_TO_ZERO] = {"set-desired-count-to-zero", "ECS_TST_SET_DESIRED_COUNT_TO_ZERO", IN_TASK,
        "At the end set the service's desired count to 0 (one less, when the service has other "
        "tasks).",
        SWITCH(set_desired_count_to_zero)},
    [CONFIG_STOP_TASK_ON_EXIT] = {"stop-task-on-exit", "ECS_TST_STOP_TASK", IN_TASK,
        "At the end stop this task, after the desired count was set.",
        SWITCH(stop_task_on_exit)},
    [CONFIG_KEEP_ALIVE_TASK] = {"keep-alive-task", "ECS_TST_KEEP_ALIVE_TASK", IN_TASK,
        "Go on when the wrapped command has ended.",
        SWITCH(keep_alive_task)},
    [CONFIG_METRICS_CHECK_INTERVAL] = {"metrics-check-interval", "ECS_TST_METRICS_CHECK_INTERVAL", IN_TASK,
        "How often the agent's log and processes are looked at; 0 means `1s`.",
        DURATION(metrics_check_interval_ms, "1s", 0, 24 * HOUR_MS)},
    [CONFIG_VERBOSE] = {"verbose", "ECS_TST_VERBOSE", IN_TASK,
        "Log each look at the sessions, and each call, at level info.",
        SWITCH(verbose), .alias = "vervose"},
    [CONFIG_ECS_SERVICE_NAME] = {"ecs-service-name", "ECS_TST_ECS_SERVICE_NAME", IN_TASK,
        "The service to scale in. Not given: found in the task's metadata, else asked of ECS.",
        TEXT(ecs_service_name)},
    [CONFIG_RELAY] = {"relay", "FUMIDAI_RELAY", IN_TASK,
        "Serve Session Manager sessions without AWS's agent; `auto`: unless that agent is in this "
        "container.",
        CHOICE(relay, "auto", "auto", "on", "off"), OWN},
    [CONFIG_MAX_SESSIONS] = {"max-sessions", "FUMIDAI_MAX_SESSIONS", IN_TASK,
        "How many sessions the relay serves at once; further ones are refused with a reason.",
        COUNT(max_sessions, "64", 1, 1000), OWN},
    [CONFIG_MAX_MESSAGES_PER_SECOND] = {"max-messages-per-second", "FUMIDAI_MAX_MESSAGES_PER_SECOND", IN_TASK,
        "Pace of a session: at most twice as many messages of 1,024 bytes in any 2 s. The service "
        "cuts off whoever sends more than about 1,000 a second. 0: no limit.",
        COUNT(max_messages_per_second, "960", 0, 1000000), OWN},
    [CONFIG_BURST_MESSAGES] = {"burst-messages", "FUMIDAI_BURST_MESSAGES", IN_TASK,
        "How many messages a quiet session may send at once, within that limit.",
        COUNT(burst_messages, "512", 0, 1000000), OWN},
    [CONFIG_LISTEN] = {"listen", "FUMIDAI_LISTEN", IN_TASK,
        "Fixed relays: `[ADDRESS:]PORT=HOST:PORT`, several apart by commas. The address is loopback "
        "when not given.",
        TEXT(listen), OWN, .validate = validate_listen},
    [CONFIG_ALLOW] = {"allow", "FUMIDAI_ALLOW", IN_TASK,
        "What may be dialled: host patterns, addresses and CIDR blocks, each with a port or a range "
        "(`*.cluster.internal:5432-5439, 10.0.0.0/16:5439`). Not given: everything that is not "
        "forbidden anyway.",
        TEXT(allow), OWN, .validate = validate_allow},
    [CONFIG_IDLE_BY] = {"idle-by", "FUMIDAI_IDLE_BY", IN_TASK,
        "What keeps the task from being idle: an open session, an open stream, or bytes that move.",
        CHOICE(idle_by, "session", "session", "stream", "bytes"), OWN},
    [CONFIG_DIAL_TIMEOUT] = {"dial-timeout", "FUMIDAI_DIAL_TIMEOUT", IN_TASK,
        "How long connecting to a target may take, all its addresses together.",
        DURATION(dial_timeout_ms, "10s", 1, 10 * MINUTE_MS), OWN},
    [CONFIG_STOP_TIMEOUT] = {"stop-timeout", "FUMIDAI_STOP_TIMEOUT", IN_TASK,
        "The container's `stopTimeout`: SIGKILL follows ECS's SIGTERM after so long. Running sessions"
        " get it less 5 s.",
        DURATION(stop_timeout_ms, "30s", 0, HOUR_MS), OWN},
    [CONFIG_STOP_GRACE] = {"stop-grace", "FUMIDAI_STOP_GRACE", IN_TASK,
        "How long the wrapped command has from SIGTERM to SIGKILL. Not given: the stop timeout less 5"
        " s.",
        DURATION(stop_grace_ms, "", 0, HOUR_MS), OWN},
    [CONFIG_END_DEADLINE] = {"end-deadline", "FUMIDAI_END_DEADLINE", IN_TASK,
        "How long setting the desired count and stopping the task are tried again when they fail; "
        "then the task exits with status 125.",
        DURATION(end_deadline_ms, "5m", 0, 24 * HOUR_MS), OWN},
    [CONFIG_CHANNEL_LIMIT] = {"channel-limit", "FUMIDAI_CHANNEL_LIMIT", IN_TASK,
        "`fumidai health` says unhealthy when the control channel has not been open for so long and "
        "no session is.",
        DURATION(channel_limit_ms, "3m", 0, 24 * HOUR_MS), OWN},
    [CONFIG_TASK_PROTECTION] = {"task-protection", "FUMIDAI_TASK_PROTECTION", IN_TASK,
        "Hold ECS's scale-in protection while sessions are open.",
        SWITCH(task_protection), OWN},
    [CONFIG_HELP] = {"help", NULL, IN_ALL,
        "Print this and exit; also `-h`.",
        SWITCH(help), PROGRAM},
    [CONFIG_VERSION] = {"version", NULL, IN_ALL,
        "Print the version and exit.",
        SWITCH(version), PROGRAM},
    [CONFIG_MARKDOWN] = {"markdown", NULL, IN_SETTINGS,
        "`fumidai settings --markdown`: this reference.",
        SWITCH(markdown), PROGRAM},
};
/* clang-format on */
_Static_assert(sizeof settings / sizeof settings[0] == CONFIG_SETTING_COUNT, "a row for each setting");

static const struct {
    const char *name;  /* null: not a sub-command */
    const char *usage; /* null: a name that is reserved for what is not written yet */
    const char *purpose;
    bool takes_words;
} commands[] = {
    [CONFIG_TASK] =
        {NULL, "fumidai [flags] [--] [command args...]",
         "Relays Session Manager sessions into the VPC and ends its ECS task when nobody needs it.", true},
    [CONFIG_HEALTH] =
        {"health", "fumidai health",
         "Asks the fumidai of this container whether it is fit to serve; exits with 1 when not.", false},
    [CONFIG_FORWARD] = {"forward", NULL, NULL, true},
    [CONFIG_REDSHIFT] = {"redshift", NULL, NULL, true},
    [CONFIG_SETTINGS] = {"settings", "fumidai settings [flags]",
                         "Prints every setting as flags and environment have it, and where each came from.",
                         false},
};
_Static_assert(sizeof commands / sizeof commands[0] == CONFIG_COMMAND_COUNT, "a row for each command");

static bool belongs_to(const struct setting *s, enum config_command command)
{
    return (s->commands & IN(command)) != 0;
}

/* ---- members of struct config, by the table ------------------------------------------------------------ */

/* Choices are stored through their offset: every enum here is an unsigned int. */
_Static_assert(sizeof(enum config_log_format) == sizeof(unsigned) &&
                   sizeof(enum config_relay) == sizeof(unsigned) &&
                   sizeof(enum config_idle_by) == sizeof(unsigned),
               "choices are unsigned");

static void store(struct config *config, const struct setting *s, const void *value, size_t size)
{
    memcpy((char *) config + s->offset, value, size);
}

static void load(const struct config *config, const struct setting *s, void *value, size_t size)
{
    memcpy(value, (const char *) config + s->offset, size);
}

/* ---- one value ----------------------------------------------------------------------------------------- */

/* What goes before "is not ..." in a message; longer values say enough with their beginning. */
#define VALUE_FORMAT "%s: \"%.*s\" "
#define VALUE_ARG(at)                                                                                        \
    (at)->given_as, (int) ((at)->value.len < 80 ? (at)->value.len : 80),                                     \
        ((at)->value.ptr != NULL ? (at)->value.ptr : "")

/* A value on its way into the configuration. */
struct given {
    const struct setting *setting;
    const char *given_as; /* "--idle-timeout" or "ECS_TST_IDLE_TIMEOUT" */
    struct str value;
};

static bool parse_switch(struct str value, bool *on)
{
    static const struct {
        const char *text;
        bool on;
    } words[] = {{"1", true},  {"t", true},  {"true", true},   {"yes", true},
                 {"0", false}, {"f", false}, {"false", false}, {"no", false}};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (str_equal_nocase(value, words[i].text)) {
            *on = words[i].on;
            return true;
        }
    }
    return false;
}

static int assign_switch(struct config *config, const struct given *g, struct error *err)
{
    bool on = false;
    if (!parse_switch(g->value, &on)) {
        return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not true, false, 1, 0, t, f, yes or no",
                         VALUE_ARG(g));
    }
    store(config, g->setting, &on, sizeof on);
    return 0;
}

static int refuse_duration(const struct given *g, struct error *err)
{
    const struct setting *s = g->setting;
    char text[96];
    struct writer allowed = writer_of(text, sizeof text);
    if (s->maximum == FOREVER_MS) {
        writer_text(&allowed, "not negative");
    } else {
        writer_text(&allowed, "from ");
        writer_duration_ms(&allowed, s->minimum);
        writer_text(&allowed, " to ");
        writer_duration_ms(&allowed, s->maximum);
    }
    return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not a duration like 30m, 1h30m, 1.5h or 300ms, %s",
                     VALUE_ARG(g), writer_terminate(&allowed));
}

static int assign_duration(struct config *config, const struct given *g, struct error *err)
{
    const int64_t ms = 1000000;
    int64_t duration_ns = 0;
    if (!duration_parse(g->value, &duration_ns) || duration_ns < 0)
        return refuse_duration(g, err);
    int64_t duration_ms = duration_ns / ms + (duration_ns % ms > 0 ? 1 : 0);
    if (duration_ms < g->setting->minimum || duration_ms > g->setting->maximum)
        return refuse_duration(g, err);
    store(config, g->setting, &duration_ms, sizeof duration_ms);
    return 0;
}

static int assign_count(struct config *config, const struct given *g, struct error *err)
{
    const struct setting *s = g->setting;
    uint32_t count = 0;
    if (!str_parse_u32(g->value, &count) || count < s->minimum || count > s->maximum) {
        return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not a number from %lld to %lld", VALUE_ARG(g),
                         (long long) s->minimum, (long long) s->maximum);
    }
    store(config, s, &count, sizeof count);
    return 0;
}

static void write_choices(struct writer *w, const struct setting *s, const char *separator, const char *last)
{
    for (size_t i = 0; i < CHOICES_MAX && s->choices[i] != NULL; i++) {
        bool is_last = i + 1 == CHOICES_MAX || s->choices[i + 1] == NULL;
        writer_text(w, i == 0 ? "" : is_last ? last : separator);
        writer_text(w, s->choices[i]);
    }
}

static int assign_choice(struct config *config, const struct given *g, struct error *err)
{
    const struct setting *s = g->setting;
    for (unsigned i = 0; i < CHOICES_MAX && s->choices[i] != NULL; i++) {
        if (str_equal_text(g->value, s->choices[i])) {
            store(config, s, &i, sizeof i);
            return 0;
        }
    }
    char text[64];
    struct writer allowed = writer_of(text, sizeof text);
    write_choices(&allowed, s, ", ", " or ");
    return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not %s", VALUE_ARG(g), writer_terminate(&allowed));
}

static const struct {
    const char *name;
    int level;
} levels[] = {{"debug", CONFIG_LEVEL_DEBUG},
              {"info", CONFIG_LEVEL_INFO},
              {"warn", CONFIG_LEVEL_WARN},
              {"error", CONFIG_LEVEL_ERROR},
              {"notice", CONFIG_LEVEL_INFO}};

static bool parse_level(struct str value, int *level)
{
    const uint32_t offset_max = 1000000; /* slog has no bound; nobody needs one this far out */
    size_t sign = 0;
    while (sign < value.len && value.ptr[sign] != '+' && value.ptr[sign] != '-')
        sign++;
    uint32_t offset = 0;
    bool has_offset = sign < value.len;
    if (has_offset && (!str_parse_u32(str_slice(value, sign + 1, value.len), &offset) || offset > offset_max))
        return false;
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++) {
        if (str_equal_nocase(str_slice(value, 0, sign), levels[i].name)) {
            bool down = has_offset && value.ptr[sign] == '-';
            *level = levels[i].level + (down ? -(int) offset : (int) offset);
            return true;
        }
    }
    return false;
}

static int assign_level(struct config *config, const struct given *g, struct error *err)
{
    int level = 0;
    if (!parse_level(g->value, &level)) {
        return error_set(err, ERROR_INVALID,
                         VALUE_FORMAT
                         "is not debug, info, warn, error or notice, nor one of them with an offset "
                         "like info+1",
                         VALUE_ARG(g));
    }
    store(config, g->setting, &level, sizeof level);
    return 0;
}

static int assign_text(struct config *config, const struct given *g, struct error *err)
{
    if (g->setting->kind == KIND_PATH && g->value.len == 0)
        return error_set(err, ERROR_INVALID, VALUE_FORMAT "is not a path", VALUE_ARG(g));
    if (g->setting->validate != NULL) {
        struct error reason = ERROR_INIT;
        if (g->setting->validate(g->value, &reason) != 0)
            return error_set(err, ERROR_INVALID, VALUE_FORMAT "%s", VALUE_ARG(g), reason.text);
    }
    store(config, g->setting, &g->value.ptr,
          sizeof g->value.ptr); /* terminated: it is from argv or environ */
    return 0;
}

static int assign(struct config *config, const struct given *g, struct error *err)
{
    switch (g->setting->kind) {
    case KIND_SWITCH:
        return assign_switch(config, g, err);
    case KIND_DURATION:
        return assign_duration(config, g, err);
    case KIND_COUNT:
        return assign_count(config, g, err);
    case KIND_CHOICE:
        return assign_choice(config, g, err);
    case KIND_LEVEL:
        return assign_level(config, g, err);
    case KIND_TEXT:
    case KIND_PATH:
        return assign_text(config, g, err);
    }
    return 0;
}

/* ---- texts with an inner form -------------------------------------------------------------------------- */

static bool is_host_and_port(struct str text)
{
    struct str host, port;
    uint16_t number = 0;
    return str_cut_last(text, ':', &host, &port) && host.len > 0 && str_parse_port(port, &number);
}

static int validate_listen(struct str value, struct error *err)
{
    static struct forward_specs scratch; /* some KiB that nobody reads */
    struct error detail = ERROR_INIT;
    struct str whole = value;
    while (value.len > 0) {
        struct str entry, left, right;
        uint16_t port = 0;
        str_cut(value, ',', &entry, &value);
        entry = str_trim(entry);
        bool has_target = str_cut(entry, '=', &left, &right) && is_host_and_port(right);
        if (!has_target || (!str_parse_port(left, &port) && !is_host_and_port(left))) {
            return error_set(err, ERROR_INVALID, "has \"%.*s\", which is not [ADDRESS:]PORT=HOST:PORT",
                             (int) (entry.len < 80 ? entry.len : 80), entry.ptr != NULL ? entry.ptr : "");
        }
    }
    /* The form is right; what is left is what only the relay's own parser knows: how
     * many, how long, which address. */
    if (forward_spec_parse(&scratch, whole, &detail) < 0)
        return error_set(err, ERROR_INVALID, "is refused: %s", detail.text);
    return 0;
}

static int validate_allow(struct str value, struct error *err)
{
    static struct dial_policy scratch; /* some KiB that nobody reads */
    return dial_policy_init(&scratch, value, err);
}

/* ---- flags and words ----------------------------------------------------------------------------------- */

static const struct setting *find_flag(struct str name)
{
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) {
        bool alias = settings[i].alias != NULL && str_equal_text(name, settings[i].alias);
        if (alias || str_equal_text(name, settings[i].flag))
            return &settings[i];
    }
    return NULL;
}

static enum config_setting index_of(const struct setting *s)
{
    return (enum config_setting)(s - settings);
}

static bool is_flag(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0';
}

static int unknown_flag(enum config_command command, const char *argument, struct error *err)
{
    struct str name;
    struct str rest;
    str_cut(str_from(argument), '=', &name, &rest);
    if (command == CONFIG_TASK) {
        return error_set(
            err, ERROR_INVALID,
            "unknown flag %.*s; see --help; a wrapped command with flags of its own goes after --",
            STR_ARG(name));
    }
    return error_set(err, ERROR_INVALID, "unknown flag %.*s; see fumidai %s --help", STR_ARG(name),
                     commands[command].name);
}

/* The flag argv[*at], and its value; *at moves to the last argument taken. */
static int take_flag(struct config *config, char **argv, int *at, struct error *err)
{
    const char *argument = argv[*at];
    const char *equals = strchr(argument, '=');
    struct str name =
        equals != NULL ? (struct str){argument, (size_t) (equals - argument)} : str_from(argument);
    struct str value = equals != NULL ? str_from(equals + 1) : (struct str){NULL, 0};
    const struct setting *s = strcmp(argument, "-h") == 0 ? &settings[CONFIG_HELP] : NULL;
    if (str_starts_with(name, "--"))
        s = find_flag(str_slice(name, 2, name.len));
    if (s == NULL || !belongs_to(s, config->command))
        return unknown_flag(config->command, argument, err);
    char given_as[64];
    str_copy(name, given_as, sizeof given_as);
    if (equals == NULL && s->kind == KIND_SWITCH) {
        value = STR_LITERAL("true");
    } else if (equals == NULL) {
        const char *next = argv[*at + 1];
        if (next == NULL || is_flag(next))
            return error_set(err, ERROR_INVALID, "%s: needs a value, as in %s=VALUE", given_as, given_as);
        value = str_from(next);
        *at += 1;
    }
    config->sources[index_of(s)] = CONFIG_FROM_FLAG;
    return assign(config, &(struct given){s, given_as, value}, err);
}

static int take_arguments(struct config *config, int argc, char **argv, int from, struct error *err)
{
    int words = 0;
    int at = from;
    for (; at < argc && strcmp(argv[at], "--") != 0; at++)
        if (!is_flag(argv[at]))
            argv[1 + words++] = argv[at];
        else if (take_flag(config, argv, &at, err) != 0)
            return ERROR_INVALID;
    for (at++; at < argc; at++)
        argv[1 + words++] = argv[at];
    if (argc > 0) {
        argv[1 + words < argc ? 1 + words : argc] = NULL;
        config->words = argv + 1;
    }
    config->word_count = words;
    if (words > 0 && !commands[config->command].takes_words) {
        return error_set(err, ERROR_INVALID,
                         "fumidai %s takes no arguments, but there is \"%.80s\"; see --help",
                         commands[config->command].name, argv[1]);
    }
    return 0;
}

/* What is asked for is given, whatever is wrong elsewhere. */
static bool take_help_or_version(struct config *config, int argc, char **argv, int from)
{
    for (int at = from; at < argc && strcmp(argv[at], "--") != 0; at++) {
        config->help = config->help || strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0;
        config->version = config->version || strcmp(argv[at], "--version") == 0;
    }
    return config->help || config->version;
}

/* ---- environment, defaults, the whole ------------------------------------------------------------------ */

static struct str find_variable(char *const *environment, const char *name)
{
    size_t len = strlen(name);
    for (; *environment != NULL; environment++)
        if (strncmp(*environment, name, len) == 0 && (*environment)[len] == '=')
            return str_from(*environment + len + 1);
    return (struct str){NULL, 0};
}

static int take_environment(struct config *config, char *const *environment, struct error *err)
{
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) {
        const struct setting *s = &settings[i];
        if (s->variable == NULL || config->sources[i] != CONFIG_FROM_DEFAULT ||
            !belongs_to(s, config->command))
            continue;
        struct str value = find_variable(environment, s->variable);
        if (value.len == 0)
            continue;
        config->sources[i] = CONFIG_FROM_ENVIRONMENT;
        if (assign(config, &(struct given){s, s->variable, value}, err) != 0)
            return ERROR_INVALID;
    }
    return 0;
}

/* All defaults are good values, or empty; a unit test assigns each. */
static void take_defaults(struct config *config)
{
    for (size_t i = 0; i < CONFIG_SETTING_COUNT; i++) {
        const struct setting *s = &settings[i];
        bool is_text = s->kind == KIND_TEXT || s->kind == KIND_PATH;
        if (is_text || s->fallback[0] != '\0')
            assign(config, &(struct given){s, s->flag, str_from(s->fallback)}, NULL);
    }
}

int64_t config_reserve_stop(int64_t stop_timeout_ms)
{
    const int64_t reserve_ms = 5000;
    return stop_timeout_ms > 2 * reserve_ms ? stop_timeout_ms - reserve_ms : stop_timeout_ms / 2;
}

static void fill_what_follows(struct config *config)
{
    if (config->initial_wait_ms == 0)
        config->initial_wait_ms = config->idle_timeout_ms;
    if (config->metrics_check_interval_ms == 0)
        config->metrics_check_interval_ms = 1000;
    if (config->sources[CONFIG_STOP_GRACE] == CONFIG_FROM_DEFAULT)
        config->stop_grace_ms = config_reserve_stop(config->stop_timeout_ms);
}

int config_parse(struct config *config, int argc, char **argv, char *const *environment, struct error *err)
{
    memset(config, 0, sizeof *config);
    int from = 1;
    for (int command = 0; command < CONFIG_COMMAND_COUNT; command++) {
        const char *name = commands[command].name;
        if (argc > 1 && name != NULL && strcmp(argv[1], name) == 0) {
            config->command = (enum config_command) command;
            from = 2;
        }
    }
    take_defaults(config);
    if (commands[config->command].usage == NULL) {
        return error_set(
            err, ERROR_INVALID,
            "there is no \"fumidai %s\" yet; a command of that name is wrapped by: fumidai -- %s", argv[1],
            argv[1]);
    }
    int failed = 0;
    if (!take_help_or_version(config, argc, argv, from)) {
        failed = take_arguments(config, argc, argv, from, err);
        if (failed == 0)
            failed = take_environment(config, environment, err);
    }
    fill_what_follows(config);
    return failed;
}

/* ---- what people read ---------------------------------------------------------------------------------- */

static void write_level(struct writer *out, int level)
{
    int nearest = level < CONFIG_LEVEL_INFO    ? 0
                  : level < CONFIG_LEVEL_WARN  ? 1
                  : level < CONFIG_LEVEL_ERROR ? 2
                                               : 3;
    writer_text(out, levels[nearest].name);
    if (level != levels[nearest].level)
        writer_format(out, "%+d", level - levels[nearest].level);
}

void config_write_value(struct writer *out, const struct config *config, enum config_setting setting)
{
    const struct setting *s = &settings[setting];
    union {
        bool on;
        int64_t duration_ms;
        uint32_t count;
        unsigned choice;
        int level;
        const char *text;
    } value;
    switch (s->kind) {
    case KIND_SWITCH:
        load(config, s, &value.on, sizeof value.on);
        writer_text(out, value.on ? "true" : "false");
        break;
    case KIND_DURATION:
        load(config, s, &value.duration_ms, sizeof value.duration_ms);
        writer_duration_ms(out, value.duration_ms);
        break;
    case KIND_COUNT:
        load(config, s, &value.count, sizeof value.count);
        writer_u64_decimal(out, value.count);
        break;
    case KIND_CHOICE:
        load(config, s, &value.choice, sizeof value.choice);
        writer_text(out, s->choices[value.choice]);
        break;
    case KIND_LEVEL:
        load(config, s, &value.level, sizeof value.level);
        write_level(out, value.level);
        break;
    case KIND_TEXT:
    case KIND_PATH:
        load(config, s, &value.text, sizeof value.text);
        writer_text(out, value.text);
        break;
    }
}

const char *config_flag_name(enum config_setting setting)
{
    return settings[setting].flag;
}

const char *config_source_name(const struct config *config, enum config_setting setting)
{
    switch (config->sources[setting]) {
    case CONFIG_FROM_ENVIRONMENT:
        return settings[setting].variable;
    case CONFIG_FROM_FLAG:
        return "flag";
    case CONFIG_FROM_DEFAULT:
        break;
    }
    return "default";
}

void config_write_settings(struct writer *out, const struct config *config)
{
    for (unsigned i = 0; i < CONFIG_SETTING_COUNT; i++) {
        if (settings[i].group == GROUP_PROGRAM)
            continue;
        writer_format(out, "%s=", settings[i].flag);
        config_write_value(out, config, (enum config_setting) i);
        writer_format(out, " (%s)\n", config_source_name(config, (enum config_setting) i));
    }
}

/* What stands for the value: "=15m", "=text|json", "=DURATION". */
static void write_form(struct writer *out, const struct setting *s)
{
    static const char *const names[] = {
        [KIND_SWITCH] = "",      [KIND_DURATION] = "=DURATION", [KIND_COUNT] = "=NUMBER", [KIND_CHOICE] = "=",
        [KIND_LEVEL] = "=LEVEL", [KIND_TEXT] = "=TEXT",         [KIND_PATH] = "=PATH"};
    writer_text(out, names[s->kind]);
    if (s->kind == KIND_CHOICE)
        write_choices(out, s, "|", "|");
}

/* Help is plain text: the backquotes of the README go. */
static void write_without_backquotes(struct writer *out, const char *text)
{
    for (; *text != '\0'; text++)
        if (*text != '`')
            writer_char(out, *text);
}

static void write_flag_help(struct writer *out, const struct setting *s)
{
    writer_format(out, "  --%s", s->flag);
    write_form(out, s);
    if (s->variable != NULL)
        writer_format(out, "  [%s]", s->variable);
    if (s->kind != KIND_SWITCH && s->fallback[0] != '\0')
        writer_format(out, "  (default %s)", s->fallback);
    writer_text(out, "\n        ");
    write_without_backquotes(out, s->help);
    writer_char(out, '\n');
}

void config_write_help(struct writer *out, enum config_command command)
{
    writer_format(out, "usage: %s\n\n%s\n", commands[command].usage, commands[command].purpose);
    for (unsigned group = 0; group < GROUP_COUNT; group++) {
        bool begun = false;
        for (unsigned i = 0; i < CONFIG_SETTING_COUNT; i++) {
            if (settings[i].group != group || !belongs_to(&settings[i], command))
                continue;
            if (!begun)
                writer_format(out, "\n%s\n", group_titles[group]);
            begun = true;
            write_flag_help(out, &settings[i]);
        }
    }
    if (command == CONFIG_TASK) {
        writer_text(
            out,
            "\nOther commands, as the very first argument (fumidai -- NAME wraps a command of that name)\n");
        for (unsigned i = 0; i < CONFIG_COMMAND_COUNT; i++)
            if (commands[i].name != NULL && commands[i].usage != NULL)
                writer_format(out, "  %s\n        %s\n", commands[i].usage, commands[i].purpose);
    }
}

/* Pipes end a cell of a table. */
static void write_cell(struct writer *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '|')
            writer_char(out, '\\');
        writer_char(out, *text);
    }
}

static void write_row(struct writer *out, const struct setting *s)
{
    writer_format(out, "| `--%s`", s->flag);
    if (s->alias != NULL)
        writer_format(out, ", `--%s`", s->alias);
    writer_text(out, " | ");
    if (s->variable != NULL)
        writer_format(out, "`%s`", s->variable);
    writer_text(out, " | ");
    if (s->fallback[0] != '\0')
        writer_format(out, "`%s`", s->fallback);
    writer_text(out, " | ");
    if (s->kind == KIND_CHOICE) {
        writer_char(out, '`');
        write_choices(out, s, "`, `", "` or `");
        writer_text(out, "`. ");
    }
    write_cell(out, s->help);
    writer_text(out, " |\n");
}

void config_write_markdown(struct writer *out)
{
    for (unsigned group = 0; group < GROUP_COUNT; group++) {
        writer_format(out, "%s**%s**\n\n| flag | variable | default | meaning |\n| --- | --- | --- | --- |\n",
                      group == 0 ? "" : "\n", group_titles[group]);
        for (unsigned i = 0; i < CONFIG_SETTING_COUNT; i++)
            if (settings[i].group == group)
                write_row(out, &settings[i]);
    }
}
