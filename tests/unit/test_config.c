#include "settings/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WORDS_MAX = 32 };

static struct config config;
static struct error err;
static char *argv[WORDS_MAX + 1];
static char *environment[WORDS_MAX + 1];
static char argument_text[1024];
static char environment_text[1024];

/* Words apart by '|', so that blanks and nothing can be words too. */
static int split(const char *text, char *copy, size_t capacity, char **words)
{
    int count = 0;
    assert_true(strlen(text) < capacity);
    strcpy(copy, text);
    for (char *word = copy; word != NULL && text[0] != '\0';) {
        char *bar = strchr(word, '|');
        if (bar != NULL)
            *bar++ = '\0';
        assert_true(count < WORDS_MAX);
        words[count++] = word;
        word = bar;
    }
    words[count] = NULL;
    return count;
}

/* `arguments` without the program's name. */
static int parse(const char *arguments, const char *variables)
{
    argument_text[0] = '\0';
    argv[0] = "fumidai";
    int argc = 1 + split(arguments, argument_text, sizeof argument_text, argv + 1);
    split(variables, environment_text, sizeof environment_text, environment);
    err = (struct error) ERROR_INIT;
    return config_parse(&config, argc, argv, environment, &err);
}

static void parse_well(const char *arguments, const char *variables)
{
    if (parse(arguments, variables) != 0)
        fail_msg("%s / %s: %s", arguments, variables, err.text);
}

static void expect_words(const char *expected)
{
    char text[256] = "";
    for (int i = 0; i < config.word_count; i++) {
        strcat(text, i == 0 ? "" : "|");
        strcat(text, config.words[i]);
    }
    assert_string_equal(text, expected);
    assert_null(config.words[config.word_count]);
}

static const char *value_of(enum config_setting setting)
{
    static char text[256];
    struct writer w = writer_of(text, sizeof text);
    config_write_value(&w, &config, setting);
    return writer_terminate(&w);
}

/* ---- defaults ------------------------------------------------------------------------------------------ */

static const struct {
    enum config_setting setting;
    const char *value;
} defaults[] = {
    {CONFIG_SSM_AGENT_LOG_LOCATION, "/var/log/amazon/ssm/amazon-ssm-agent.log"},
    {CONFIG_LOG_FORMAT, "text"},
    {CONFIG_LOG_LEVEL, "info"},
    {CONFIG_INITIAL_WAIT_TIME, "15m0s"}, /* the idle timeout's */
    {CONFIG_IDLE_TIMEOUT, "15m0s"},
    {CONFIG_MAX_LIFE_TIME, "0s"},
    {CONFIG_SET_DESIRED_COUNT_TO_ZERO, "false"},
    {CONFIG_STOP_TASK_ON_EXIT, "false"},
    {CONFIG_KEEP_ALIVE_TASK, "false"},
    {CONFIG_METRICS_CHECK_INTERVAL, "1s"},
    {CONFIG_VERBOSE, "false"},
    {CONFIG_ECS_SERVICE_NAME, ""},
    {CONFIG_RELAY, "auto"},
    {CONFIG_MAX_SESSIONS, "64"},
    {CONFIG_MAX_MESSAGES_PER_SECOND, "960"},
    {CONFIG_BURST_MESSAGES, "512"},
    {CONFIG_LISTEN, ""},
    {CONFIG_ALLOW, ""},
    {CONFIG_IDLE_BY, "session"},
    {CONFIG_DIAL_TIMEOUT, "10s"},
    {CONFIG_STOP_TIMEOUT, "30s"},
    {CONFIG_STOP_GRACE, "25s"}, /* the stop timeout's */
    {CONFIG_END_DEADLINE, "5m0s"},
    {CONFIG_CHANNEL_LIMIT, "3m0s"},
    {CONFIG_TASK_PROTECTION, "false"},
};

static void test_defaults(void **state)
{
    (void) state;
    parse_well("", "");
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        assert_string_equal(value_of(defaults[i].setting), defaults[i].value);
        assert_string_equal(config_source_name(&config, defaults[i].setting), "default");
    }
    assert_int_equal(sizeof defaults / sizeof defaults[0], CONFIG_HELP); /* all but the program's own */
    assert_int_equal(config.word_count, 0);
    assert_non_null(config.words);
}

/* ---- good values --------------------------------------------------------------------------------------- */

static const struct {
    const char *arguments;
    const char *variables;
    enum config_setting setting;
    const char *value;
} good[] = {
    /* the original's own flags and variables, and who wins */
    {"--idle-timeout|5m", "", CONFIG_IDLE_TIMEOUT, "5m0s"},
    {"--idle-timeout=5m", "", CONFIG_IDLE_TIMEOUT, "5m0s"},
    {"", "ECS_TST_IDLE_TIMEOUT=5m", CONFIG_IDLE_TIMEOUT, "5m0s"},
    {"--idle-timeout=5m", "ECS_TST_IDLE_TIMEOUT=6m", CONFIG_IDLE_TIMEOUT, "5m0s"},
    {"--idle-timeout=5m", "ECS_TST_IDLE_TIMEOUT=nonsense", CONFIG_IDLE_TIMEOUT, "5m0s"},
    {"--idle-timeout=5m|--idle-timeout=7m", "", CONFIG_IDLE_TIMEOUT, "7m0s"},
    {"", "ECS_TST_IDLE_TIMEOUT=", CONFIG_IDLE_TIMEOUT, "15m0s"},
    {"", "ECS_TST_IDLE_TIMEOUT_NOT=1m|XECS_TST_IDLE_TIMEOUT=2m", CONFIG_IDLE_TIMEOUT, "15m0s"},
    {"", "ECS_TST_INITIAL_WAIT_TIME=30m", CONFIG_INITIAL_WAIT_TIME, "30m0s"},
    {"", "ECS_TST_IDLE_TIMEOUT=3m", CONFIG_INITIAL_WAIT_TIME, "3m0s"},
    {"--initial-wait-time=0", "ECS_TST_IDLE_TIMEOUT=3m", CONFIG_INITIAL_WAIT_TIME, "3m0s"},
    {"", "ECS_TST_MAX_LIFE_TIME=24h", CONFIG_MAX_LIFE_TIME, "24h0m0s"},
    {"--max-life-time=2540400h", "", CONFIG_MAX_LIFE_TIME, "2540400h0m0s"},
    {"", "ECS_TST_SSM_AGENT_LOG_LOCATION=/tmp/x", CONFIG_SSM_AGENT_LOG_LOCATION, "/tmp/x"},
    {"--ssm-agent-log-location|-", "", CONFIG_SSM_AGENT_LOG_LOCATION, "-"},
    {"", "ECS_TST_LOG_FORMAT=json", CONFIG_LOG_FORMAT, "json"},
    {"", "ECS_TST_SET_DESIRED_COUNT_TO_ZERO=true", CONFIG_SET_DESIRED_COUNT_TO_ZERO, "true"},
    {"", "ECS_TST_STOP_TASK=true", CONFIG_STOP_TASK_ON_EXIT, "true"},
    {"--stop-task-on-exit", "", CONFIG_STOP_TASK_ON_EXIT, "true"},
    {"--stop-task-on-exit=false", "ECS_TST_STOP_TASK=true", CONFIG_STOP_TASK_ON_EXIT, "false"},
    {"", "ECS_TST_KEEP_ALIVE_TASK=1", CONFIG_KEEP_ALIVE_TASK, "true"},
    {"", "ECS_TST_METRICS_CHECK_INTERVAL=0", CONFIG_METRICS_CHECK_INTERVAL, "1s"},
    {"--verbose", "", CONFIG_VERBOSE, "true"},
    {"--vervose", "", CONFIG_VERBOSE, "true"},
    {"--vervose|--verbose=0", "", CONFIG_VERBOSE, "false"},
    {"", "ECS_TST_VERBOSE=t", CONFIG_VERBOSE, "true"},
    {"", "ECS_TST_ECS_SERVICE_NAME=bastion", CONFIG_ECS_SERVICE_NAME, "bastion"},
    {"--ecs-service-name=", "ECS_TST_ECS_SERVICE_NAME=bastion", CONFIG_ECS_SERVICE_NAME, ""},
    /* durations */
    {"--idle-timeout=1.5h", "", CONFIG_IDLE_TIMEOUT, "1h30m0s"},
    {"--idle-timeout=1h30m", "", CONFIG_IDLE_TIMEOUT, "1h30m0s"},
    {"--idle-timeout=300ms", "", CONFIG_IDLE_TIMEOUT, "300ms"},
    {"--idle-timeout=+1s", "", CONFIG_IDLE_TIMEOUT, "1s"},
    {"--idle-timeout=0", "", CONFIG_IDLE_TIMEOUT, "0s"},
    {"--max-life-time=1ns", "", CONFIG_MAX_LIFE_TIME, "1ms"}, /* not 0, which is none */
    {"--idle-timeout=1000001ns", "", CONFIG_IDLE_TIMEOUT, "2ms"},
    /* switches: strconv.ParseBool, and what the original's parser took */
    {"--relay=off", "FUMIDAI_TASK_PROTECTION=TRUE", CONFIG_TASK_PROTECTION, "true"},
    {"", "FUMIDAI_TASK_PROTECTION=True", CONFIG_TASK_PROTECTION, "true"},
    {"", "FUMIDAI_TASK_PROTECTION=T", CONFIG_TASK_PROTECTION, "true"},
    {"", "FUMIDAI_TASK_PROTECTION=Yes", CONFIG_TASK_PROTECTION, "true"},
    {"--task-protection", "FUMIDAI_TASK_PROTECTION=0", CONFIG_TASK_PROTECTION, "true"},
    {"--task-protection=F", "", CONFIG_TASK_PROTECTION, "false"},
    {"--task-protection=no", "", CONFIG_TASK_PROTECTION, "false"},
    /* levels: slog.Level.UnmarshalText, and notice */
    {"--log-level=DEBUG", "", CONFIG_LOG_LEVEL, "debug"},
    {"--log-level=Info+1", "", CONFIG_LOG_LEVEL, "info+1"},
    {"--log-level=info-4", "", CONFIG_LOG_LEVEL, "debug"},
    {"--log-level=debug-1", "", CONFIG_LOG_LEVEL, "debug-1"},
    {"--log-level=info+007", "", CONFIG_LOG_LEVEL, "warn+3"},
    {"--log-level=notice", "", CONFIG_LOG_LEVEL, "info"},
    {"--log-level=NOTICE+9", "", CONFIG_LOG_LEVEL, "error+1"},
    {"", "ECS_TST_LOG_LEVEL=warn", CONFIG_LOG_LEVEL, "warn"},
    {"", "ECS_TST_LOG_LEVEL=error", CONFIG_LOG_LEVEL, "error"},
    /* our own */
    {"--relay=on", "", CONFIG_RELAY, "on"},
    {"", "FUMIDAI_RELAY=off", CONFIG_RELAY, "off"},
    {"", "FUMIDAI_MAX_SESSIONS=1000", CONFIG_MAX_SESSIONS, "1000"},
    {"", "FUMIDAI_MAX_MESSAGES_PER_SECOND=0", CONFIG_MAX_MESSAGES_PER_SECOND, "0"},
    {"", "FUMIDAI_BURST_MESSAGES=1", CONFIG_BURST_MESSAGES, "1"},
    {"", "FUMIDAI_IDLE_BY=bytes", CONFIG_IDLE_BY, "bytes"},
    {"", "FUMIDAI_IDLE_BY=stream", CONFIG_IDLE_BY, "stream"},
    {"", "FUMIDAI_DIAL_TIMEOUT=1ms", CONFIG_DIAL_TIMEOUT, "1ms"},
    {"", "FUMIDAI_STOP_TIMEOUT=2m", CONFIG_STOP_GRACE, "1m55s"},
    {"", "FUMIDAI_STOP_TIMEOUT=2s", CONFIG_STOP_GRACE, "1s"},
    {"--stop-grace=0", "FUMIDAI_STOP_TIMEOUT=2m", CONFIG_STOP_GRACE, "0s"},
    {"", "FUMIDAI_END_DEADLINE=90s", CONFIG_END_DEADLINE, "1m30s"},
    {"", "FUMIDAI_CHANNEL_LIMIT=1m", CONFIG_CHANNEL_LIMIT, "1m0s"},
    {"", "FUMIDAI_LISTEN=5439=db:5439", CONFIG_LISTEN, "5439=db:5439"},
    {"--listen|0.0.0.0:1=a:2, [::1]:3=[fd00::1]:4", "", CONFIG_LISTEN, "0.0.0.0:1=a:2, [::1]:3=[fd00::1]:4"},
    {"", "FUMIDAI_ALLOW=*.internal:5432-5439, 10.0.0.0/16", CONFIG_ALLOW,
     "*.internal:5432-5439, 10.0.0.0/16"},
};

static void test_good_values(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        parse_well(good[i].arguments, good[i].variables);
        if (strcmp(value_of(good[i].setting), good[i].value) != 0)
            fail_msg("%s / %s: %s", good[i].arguments, good[i].variables, value_of(good[i].setting));
    }
}

static void test_the_articles_environment(void **state)
{
    (void) state;
    parse_well("", "ECS_TST_LOG_FORMAT=json|ECS_TST_LOG_LEVEL=debug|ECS_TST_INITIAL_WAIT_TIME=30m|"
                   "ECS_TST_IDLE_TIMEOUT=30m|ECS_TST_MAX_LIFE_TIME=24h|"
                   "ECS_TST_SET_DESIRED_COUNT_TO_ZERO=true|ECS_TST_STOP_TASK=true|PATH=/bin");
    assert_int_equal(config.command, CONFIG_TASK);
    assert_int_equal(config.log_format, CONFIG_LOG_JSON);
    assert_int_equal(config.log_level, CONFIG_LEVEL_DEBUG);
    assert_int_equal(config.initial_wait_ms, 1800000);
    assert_int_equal(config.idle_timeout_ms, 1800000);
    assert_int_equal(config.max_life_ms, 86400000);
    assert_true(config.set_desired_count_to_zero);
    assert_true(config.stop_task_on_exit);
    assert_false(config.keep_alive_task);
    assert_string_equal(config_source_name(&config, CONFIG_STOP_TASK_ON_EXIT), "ECS_TST_STOP_TASK");
}

/* ---- words --------------------------------------------------------------------------------------------- */

static const struct {
    const char *arguments;
    enum config_command command;
    const char *words;
} commands[] = {
    {"sleep|60", CONFIG_TASK, "sleep|60"},
    {"--|sleep|60", CONFIG_TASK, "sleep|60"},
    {"--idle-timeout|1m|sleep|60", CONFIG_TASK, "sleep|60"},
    {"--idle-timeout=1m|--|sh|-c|exit 3", CONFIG_TASK, "sh|-c|exit 3"},
    {"sleep|60|--idle-timeout|1m", CONFIG_TASK, "sleep|60"},
    {"sleep|--idle-timeout=1m|60", CONFIG_TASK, "sleep|60"},
    {"sleep|--|--idle-timeout", CONFIG_TASK, "sleep|--idle-timeout"},
    {"--|--|x", CONFIG_TASK, "--|x"},
    {"--|--help", CONFIG_TASK, "--help"},
    {"cat|-", CONFIG_TASK, "cat|-"},
    {"--stop-task-on-exit|false", CONFIG_TASK, "false"}, /* a switch takes no second word */
    {"--", CONFIG_TASK, ""},
    {"settings", CONFIG_SETTINGS, ""},
    {"settings|--markdown", CONFIG_SETTINGS, ""},
    {"settings|--idle-timeout=1m|--relay=on", CONFIG_SETTINGS, ""},
    {"--|settings", CONFIG_TASK, "settings"},
    {"--|health", CONFIG_TASK, "health"},
    {"--idle-timeout=1m|health", CONFIG_TASK, "health"},
    {"settings.sh", CONFIG_TASK, "settings.sh"},
    {"./settings", CONFIG_TASK, "./settings"},
    {"Settings", CONFIG_TASK, "Settings"},
    {"sleep|settings", CONFIG_TASK, "sleep|settings"},
    {"|x", CONFIG_TASK, "|x"}, /* an empty word is a word */
};

static void test_words(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        parse_well(commands[i].arguments, "");
        assert_int_equal(config.command, commands[i].command);
        expect_words(commands[i].words);
    }
}

static void test_no_arguments_at_all(void **state)
{
    (void) state;
    char *nothing[] = {NULL};
    assert_int_equal(config_parse(&config, 0, nothing, nothing, &err), 0);
    assert_int_equal(config.command, CONFIG_TASK);
    assert_int_equal(config.word_count, 0);
}

static void test_help_and_version(void **state)
{
    (void) state;
    parse_well("--help", "");
    assert_true(config.help);
    parse_well("-h|--nonsense",
               "ECS_TST_IDLE_TIMEOUT=nonsense"); /* what was asked for is given all the same */
    assert_true(config.help);
    assert_false(config.version);
    parse_well("--idle-timeout=x|--version", "");
    assert_true(config.version);
    parse_well("settings|--help", "");
    assert_true(config.help);
    assert_int_equal(config.command, CONFIG_SETTINGS);
}

/* ---- bad values ---------------------------------------------------------------------------------------- */

#define DURATION_WORDS "is not a duration like 30m, 1h30m, 1.5h or 300ms, "

static const struct {
    const char *arguments;
    const char *variables;
    const char *message;
} bad[] = {
    {"--idle-timeout=abc", "", "--idle-timeout: \"abc\" " DURATION_WORDS "not negative"},
    {"--idle-timeout|30", "", "--idle-timeout: \"30\" " DURATION_WORDS "not negative"},
    {"--idle-timeout=", "", "--idle-timeout: \"\" " DURATION_WORDS "not negative"},
    {"", "ECS_TST_IDLE_TIMEOUT=-1s", "ECS_TST_IDLE_TIMEOUT: \"-1s\" " DURATION_WORDS "not negative"},
    {"", "FUMIDAI_DIAL_TIMEOUT=0", "FUMIDAI_DIAL_TIMEOUT: \"0\" " DURATION_WORDS "from 1ms to 10m0s"},
    {"", "FUMIDAI_DIAL_TIMEOUT=11m", "FUMIDAI_DIAL_TIMEOUT: \"11m\" " DURATION_WORDS "from 1ms to 10m0s"},
    {"", "ECS_TST_LOG_FORMAT=JSON", "ECS_TST_LOG_FORMAT: \"JSON\" is not text or json"},
    {"--relay=maybe", "", "--relay: \"maybe\" is not auto, on or off"},
    {"", "ECS_TST_LOG_LEVEL=trace",
     "ECS_TST_LOG_LEVEL: \"trace\" is not debug, info, warn, error or notice, nor one of them with an offset "
     "like "
     "info+1"},
    {"--log-level=info+", "",
     "--log-level: \"info+\" is not debug, info, warn, error or notice, nor one of them with an offset like "
     "info+1"},
    {"--log-level=info+-1", "",
     "--log-level: \"info+-1\" is not debug, info, warn, error or notice, nor one of them with an offset "
     "like "
     "info+1"},
    {"--log-level=info+1000001", "",
     "--log-level: \"info+1000001\" is not debug, info, warn, error or notice, nor one of them with an "
     "offset like "
     "info+1"},
    {"--log-level=", "",
     "--log-level: \"\" is not debug, info, warn, error or notice, nor one of them with an offset like "
     "info+1"},
    {"", "ECS_TST_STOP_TASK=on", "ECS_TST_STOP_TASK: \"on\" is not true, false, 1, 0, t, f, yes or no"},
    {"--vervose=2", "", "--vervose: \"2\" is not true, false, 1, 0, t, f, yes or no"},
    {"", "FUMIDAI_MAX_SESSIONS=0", "FUMIDAI_MAX_SESSIONS: \"0\" is not a number from 1 to 1000"},
    {"", "FUMIDAI_MAX_SESSIONS=1001", "FUMIDAI_MAX_SESSIONS: \"1001\" is not a number from 1 to 1000"},
    {"", "FUMIDAI_BURST_MESSAGES=-1", "FUMIDAI_BURST_MESSAGES: \"-1\" is not a number from 0 to 1000000"},
    {"", "FUMIDAI_BURST_MESSAGES=99999999999",
     "FUMIDAI_BURST_MESSAGES: \"99999999999\" is not a number from 0 to 1000000"},
    {"--ssm-agent-log-location=", "", "--ssm-agent-log-location: \"\" is not a path"},
    {"--listen=5439", "", "--listen: \"5439\" has \"5439\", which is not [ADDRESS:]PORT=HOST:PORT"},
    {"--listen=1=a:2,3=b", "", "--listen: \"1=a:2,3=b\" has \"3=b\", which is not [ADDRESS:]PORT=HOST:PORT"},
    {"--listen=0=a:2", "", "--listen: \"0=a:2\" has \"0=a:2\", which is not [ADDRESS:]PORT=HOST:PORT"},
    {"--listen=1=a:2,", "", NULL},
    {"--listen=no-address:1=a:2", "",
     "--listen: \"no-address:1=a:2\" is refused: \"no-address:1=a:2\": "
     "\"no-address:1\" is no port (1-65535) or ADDRESS:PORT"},
    {"--listen=1=:2", "", "--listen: \"1=:2\" has \"1=:2\", which is not [ADDRESS:]PORT=HOST:PORT"},
    {"--idle-timeout", "", "--idle-timeout: needs a value, as in --idle-timeout=VALUE"},
    {"--idle-timeout|--verbose", "", "--idle-timeout: needs a value, as in --idle-timeout=VALUE"},
    {"--idel-timeout=1m", "",
     "unknown flag --idel-timeout; see --help; a wrapped command with flags of its own goes after --"},
    {"sh|-c|exit 3", "",
     "unknown flag -c; see --help; a wrapped command with flags of its own goes after --"},
    {"-help", "", "unknown flag -help; see --help; a wrapped command with flags of its own goes after --"},
    {"--markdown", "",
     "unknown flag --markdown; see --help; a wrapped command with flags of its own goes after --"},
    {"settings|--nonsense", "", "unknown flag --nonsense; see fumidai settings --help"},
    {"settings|x", "", "fumidai settings takes no arguments, but there is \"x\"; see --help"},
    {"forward", "",
     "there is no \"fumidai forward\" yet; a command of that name is wrapped by: fumidai -- forward"},
    {"--idle-timeout=a\nb\tc", "", "--idle-timeout: \"a?b?c\" " DURATION_WORDS "not negative"},
};

static void test_bad_values(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (bad[i].message == NULL) {
            parse_well(bad[i].arguments, bad[i].variables); /* looks bad, is not: a comma at the end */
            continue;
        }
        assert_int_equal(parse(bad[i].arguments, bad[i].variables), ERROR_INVALID);
        assert_string_equal(err.text, bad[i].message);
    }
}

static void test_allow_is_judged_by_the_policy(void **state)
{
    (void) state;
    assert_int_equal(parse("", "FUMIDAI_ALLOW=db.internal:0"), ERROR_INVALID);
    assert_ptr_equal(strstr(err.text, "FUMIDAI_ALLOW: \"db.internal:0\" "), err.text);
    assert_true(strlen(err.text) > strlen("FUMIDAI_ALLOW: \"db.internal:0\" "));
}

static void test_a_long_value_leaves_room_for_what_is_allowed(void **state)
{
    (void) state;
    char argument[700] = "--relay=";
    memset(argument + 8, 'x', 600);
    assert_int_equal(parse(argument, ""), ERROR_INVALID);
    assert_non_null(strstr(err.text, "xxx\" is not auto, on or off"));
}

/* ---- what people read ---------------------------------------------------------------------------------- */

static char page[32768];

static void test_help_names_every_setting(void **state)
{
    (void) state;
    struct writer w = writer_of(page, sizeof page);
    config_write_help(&w, CONFIG_TASK);
    assert_ptr_equal(strstr(writer_terminate(&w), "usage: fumidai [flags] [--] [command args...]\n"), page);
    assert_false(w.failed);
    for (unsigned i = 0; i < CONFIG_MARKDOWN; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "\n  --%s", config_flag_name((enum config_setting) i));
        assert_non_null(strstr(page, flag));
    }
    assert_non_null(
        strstr(page, "  --idle-timeout=DURATION  [ECS_TST_IDLE_TIMEOUT]  (default 15m)\n        End when"));
    assert_non_null(strstr(page, "  --relay=auto|on|off  [FUMIDAI_RELAY]  (default auto)\n"));
    assert_non_null(strstr(page, "  fumidai settings [flags]\n"));
    assert_non_null(strstr(page, "fumidai health"));
    assert_null(strstr(page, "fumidai forward")); /* reserved, not there */
    assert_null(strchr(page, '`'));
}

static void test_settings_as_lines(void **state)
{
    (void) state;
    parse_well("--idle-timeout=90s|--listen=1=a:2", "FUMIDAI_RELAY=off");
    struct writer w = writer_of(page, sizeof page);
    config_write_settings(&w, &config);
    assert_non_null(strstr(writer_terminate(&w), "idle-timeout=1m30s (flag)\n"));
    assert_non_null(strstr(page, "relay=off (FUMIDAI_RELAY)\n"));
    assert_non_null(strstr(page, "max-sessions=64 (default)\n"));
    assert_non_null(strstr(page, "listen=1=a:2 (flag)\n"));
    assert_null(strstr(page, "help="));
}

static void test_markdown(void **state)
{
    (void) state;
    struct writer w = writer_of(page, sizeof page);
    config_write_markdown(&w);
    assert_false(w.failed);
    writer_terminate(&w);
    assert_non_null(strstr(page, "| `--verbose`, `--vervose` | `ECS_TST_VERBOSE` | `false` | Log each"));
    assert_non_null(
        strstr(page, "| `--log-format` | `ECS_TST_LOG_FORMAT` | `text` | `text` or `json`. Form of"));
    assert_non_null(strstr(page, "| `--relay` | `FUMIDAI_RELAY` | `auto` | `auto`, `on` or `off`. Serve"));
    assert_non_null(strstr(page, "| `--max-life-time` | `ECS_TST_MAX_LIFE_TIME` |  | End so long"));
    size_t cells = 0, lines = 0;
    for (const char *c = page; *c != '\0'; c++) {
        lines += *c == '\n' && c[1] == '|';
        cells += *c == '|' && c[-1] != '\\';
    }
    assert_int_equal(cells, 5 * lines);
}

/* The README holds, between the two marks, what `fumidai settings --markdown` prints. */
static void test_the_readme_has_the_same_tables(void **state)
{
    (void) state;
    static const char begin[] = "<!-- settings: made by `fumidai settings --markdown` -->\n";
    static const char end[] = "<!-- end of settings -->";
    static char readme[262144];
    FILE *file = fopen("README.md", "r");
    if (file == NULL)
        skip(); /* before there is one */
    readme[fread(readme, 1, sizeof readme - 1, file)] = '\0';
    fclose(file);
    char *from = strstr(readme, begin);
    char *to = from != NULL ? strstr(from, end) : NULL;
    if (to == NULL) {
        fail_msg("README.md lacks \"%s\" or, after it, \"%s\"", begin, end);
        return;
    }
    *to = '\0';
    struct writer w = writer_of(page, sizeof page);
    config_write_markdown(&w);
    assert_string_equal(from + strlen(begin), writer_terminate(&w));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_good_values),
        cmocka_unit_test(test_the_articles_environment),
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_no_arguments_at_all),
        cmocka_unit_test(test_help_and_version),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_allow_is_judged_by_the_policy),
        cmocka_unit_test(test_a_long_value_leaves_room_for_what_is_allowed),
        cmocka_unit_test(test_help_names_every_setting),
        cmocka_unit_test(test_settings_as_lines),
        cmocka_unit_test(test_markdown),
        cmocka_unit_test(test_the_readme_has_the_same_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
