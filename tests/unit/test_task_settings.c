#include "settings/task_settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/words.h"

static struct settings settings;
static struct task_settings task;
static struct error err;

/* `arguments` without the program's name. */
static int parse(const char *arguments, const char *variables)
{
    static struct words argv, env;
    words_split(&argv, "fumidai", arguments);
    words_split(&env, NULL, variables);
    err = (struct error) ERROR_INIT;
    return settings_parse(&settings, &TASK_SETTINGS, &task, argv.count, argv.list, 1, env.list, &err);
}

static void parse_well(const char *arguments, const char *variables)
{
    if (parse(arguments, variables) != 0)
        fail_msg("%s / %s: %s", arguments, variables, err.text);
}

static const char *value_of(const char *flag)
{
    static char text[256];
    struct writer w = writer_of(text, sizeof text);
    const struct settings_part *part;
    const struct settings_row *row;
    for (size_t i = 0; (row = settings_row_at(&TASK_SETTINGS, i, &part)) != NULL; i++)
        if (strcmp(row->flag, flag) == 0)
            settings_write_value(&w, &settings, i);
    return writer_terminate(&w);
}

/* ---- defaults ------------------------------------------------------------------------------------------ */

static const struct {
    const char *flag;
    const char *value;
} defaults[] = {
    {"ssm-agent-log-location", "/var/log/amazon/ssm/amazon-ssm-agent.log"},
    {"log-format", "text"},
    {"log-level", "info"},
    {"initial-wait-time", "15m0s"}, /* the idle timeout's */
    {"idle-timeout", "15m0s"},
    {"max-life-time", "0s"},
    {"set-desired-count-to-zero", "false"},
    {"stop-task-on-exit", "false"},
    {"keep-alive-task", "false"},
    {"metrics-check-interval", "1s"},
    {"verbose", "false"},
    {"ecs-service-name", ""},
    {"relay", "auto"},
    {"agent-version", "3.3.4624.0"},
    {"max-sessions", "64"},
    {"max-messages-per-second", "960"},
    {"burst-messages", "512"},
    {"listen", ""},
    {"allow", ""},
    {"idle-by", "session"},
    {"probe", "connect"},
    {"dial-timeout", "10s"},
    {"stop-timeout", "30s"},
    {"stop-grace", "25s"}, /* the stop timeout's */
    {"end-deadline", "5m0s"},
    {"keep-alive", "0s"},
    {"channel-limit", "3m0s"},
    {"task-protection", "false"},
};

static void every_setting_has_its_default(void **state)
{
    const struct settings_part *part;
    const struct settings_row *row;
    size_t variables = 0;
    (void) state;
    parse_well("", "");
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        assert_string_equal(value_of(defaults[i].flag), defaults[i].value);
        assert_int_equal(settings_source(&settings, defaults[i].flag), SETTINGS_FROM_DEFAULT);
    }
    for (size_t i = 0; (row = settings_row_at(&TASK_SETTINGS, i, &part)) != NULL; i++)
        variables += row->variable != NULL;
    assert_int_equal(sizeof defaults / sizeof defaults[0], variables);
    assert_int_equal(task.word_count, 0);
    assert_non_null(task.words);
}

/* A default that is not a valid value would be left out silently. */
static void every_default_can_be_given(void **state)
{
    const struct settings_part *part;
    const struct settings_row *row;
    (void) state;
    for (size_t i = 0; (row = settings_row_at(&TASK_SETTINGS, i, &part)) != NULL; i++) {
        char argument[128];
        assert_true(i < SETTINGS_ROWS_MAX);
        if (row->fallback == NULL || row->fallback[0] == '\0' || row->variable == NULL)
            continue;
        snprintf(argument, sizeof argument, "--%s=%s", row->flag, row->fallback);
        parse_well(argument, "");
    }
}

/* ---- good values --------------------------------------------------------------------------------------- */

static const struct {
    const char *arguments;
    const char *variables;
    const char *flag;
    const char *value;
} good[] = {
    /* the original's own flags and variables, and who wins */
    {"--idle-timeout|5m", "", "idle-timeout", "5m0s"},
    {"--idle-timeout=5m", "", "idle-timeout", "5m0s"},
    {"", "ECS_TST_IDLE_TIMEOUT=5m", "idle-timeout", "5m0s"},
    {"--idle-timeout=5m", "ECS_TST_IDLE_TIMEOUT=6m", "idle-timeout", "5m0s"},
    {"--idle-timeout=5m", "ECS_TST_IDLE_TIMEOUT=nonsense", "idle-timeout", "5m0s"},
    {"--idle-timeout=5m|--idle-timeout=7m", "", "idle-timeout", "7m0s"},
    {"", "ECS_TST_IDLE_TIMEOUT=", "idle-timeout", "15m0s"},
    {"", "ECS_TST_IDLE_TIMEOUT_NOT=1m|XECS_TST_IDLE_TIMEOUT=2m", "idle-timeout", "15m0s"},
    {"", "ECS_TST_INITIAL_WAIT_TIME=30m", "initial-wait-time", "30m0s"},
    {"", "ECS_TST_IDLE_TIMEOUT=3m", "initial-wait-time", "3m0s"},
    {"--initial-wait-time=0", "ECS_TST_IDLE_TIMEOUT=3m", "initial-wait-time", "3m0s"},
    {"", "ECS_TST_MAX_LIFE_TIME=24h", "max-life-time", "24h0m0s"},
    {"--max-life-time=2540400h", "", "max-life-time", "2540400h0m0s"},
    {"", "ECS_TST_SSM_AGENT_LOG_LOCATION=/tmp/x", "ssm-agent-log-location", "/tmp/x"},
    {"--ssm-agent-log-location|-", "", "ssm-agent-log-location", "-"},
    {"", "ECS_TST_LOG_FORMAT=json", "log-format", "json"},
    {"", "ECS_TST_SET_DESIRED_COUNT_TO_ZERO=true", "set-desired-count-to-zero", "true"},
    {"", "ECS_TST_STOP_TASK=true", "stop-task-on-exit", "true"},
    {"--stop-task-on-exit", "", "stop-task-on-exit", "true"},
    {"--stop-task-on-exit=false", "ECS_TST_STOP_TASK=true", "stop-task-on-exit", "false"},
    {"", "ECS_TST_KEEP_ALIVE_TASK=1", "keep-alive-task", "true"},
    {"", "ECS_TST_METRICS_CHECK_INTERVAL=0", "metrics-check-interval", "1s"},
    {"--verbose", "", "verbose", "true"},
    {"--vervose", "", "verbose", "true"},
    {"--vervose|--verbose=0", "", "verbose", "false"},
    {"", "ECS_TST_VERBOSE=t", "verbose", "true"},
    {"", "ECS_TST_ECS_SERVICE_NAME=bastion", "ecs-service-name", "bastion"},
    {"--ecs-service-name=", "ECS_TST_ECS_SERVICE_NAME=bastion", "ecs-service-name", ""},
    /* durations */
    {"--idle-timeout=1.5h", "", "idle-timeout", "1h30m0s"},
    {"--idle-timeout=1h30m", "", "idle-timeout", "1h30m0s"},
    {"--idle-timeout=300ms", "", "idle-timeout", "300ms"},
    {"--idle-timeout=+1s", "", "idle-timeout", "1s"},
    {"--idle-timeout=0", "", "idle-timeout", "0s"},
    {"--max-life-time=1ns", "", "max-life-time", "1ms"}, /* not 0, which is none */
    {"--idle-timeout=1000001ns", "", "idle-timeout", "2ms"},
    /* switches: strconv.ParseBool, and what the original's parser took */
    {"--relay=off", "FUMIDAI_TASK_PROTECTION=TRUE", "task-protection", "true"},
    {"", "FUMIDAI_TASK_PROTECTION=True", "task-protection", "true"},
    {"", "FUMIDAI_TASK_PROTECTION=T", "task-protection", "true"},
    {"", "FUMIDAI_TASK_PROTECTION=Yes", "task-protection", "true"},
    {"--task-protection", "FUMIDAI_TASK_PROTECTION=0", "task-protection", "true"},
    {"--task-protection=F", "", "task-protection", "false"},
    {"--task-protection=no", "", "task-protection", "false"},
    /* levels: slog.Level.UnmarshalText, and notice */
    {"--log-level=DEBUG", "", "log-level", "debug"},
    {"--log-level=Info+1", "", "log-level", "info+1"},
    {"--log-level=info-4", "", "log-level", "debug"},
    {"--log-level=debug-1", "", "log-level", "debug-1"},
    {"--log-level=info+007", "", "log-level", "warn+3"},
    {"--log-level=notice", "", "log-level", "info"},
    {"--log-level=NOTICE+9", "", "log-level", "error+1"},
    {"", "ECS_TST_LOG_LEVEL=warn", "log-level", "warn"},
    {"", "ECS_TST_LOG_LEVEL=error", "log-level", "error"},
    /* our own */
    {"--relay=on", "", "relay", "on"},
    {"", "FUMIDAI_RELAY=off", "relay", "off"},
    {"", "FUMIDAI_MAX_SESSIONS=1000", "max-sessions", "1000"},
    {"", "FUMIDAI_MAX_MESSAGES_PER_SECOND=0", "max-messages-per-second", "0"},
    {"", "FUMIDAI_BURST_MESSAGES=1", "burst-messages", "1"},
    {"", "FUMIDAI_IDLE_BY=bytes", "idle-by", "bytes"},
    {"", "FUMIDAI_IDLE_BY=stream", "idle-by", "stream"},
    {"", "FUMIDAI_DIAL_TIMEOUT=1ms", "dial-timeout", "1ms"},
    {"", "FUMIDAI_STOP_TIMEOUT=2m", "stop-grace", "1m55s"},
    {"", "FUMIDAI_STOP_TIMEOUT=2s", "stop-grace", "1s"},
    {"--stop-grace=0", "FUMIDAI_STOP_TIMEOUT=2m", "stop-grace", "0s"},
    {"", "FUMIDAI_END_DEADLINE=90s", "end-deadline", "1m30s"},
    {"", "FUMIDAI_CHANNEL_LIMIT=1m", "channel-limit", "1m0s"},
    {"", "FUMIDAI_LISTEN=5439=db:5439", "listen", "5439=db:5439"},
    {"--listen|0.0.0.0:1=a:2, [::1]:3=[fd00::1]:4", "", "listen", "0.0.0.0:1=a:2, [::1]:3=[fd00::1]:4"},
    {"", "FUMIDAI_ALLOW=*.internal:5432-5439, 10.0.0.0/16", "allow", "*.internal:5432-5439, 10.0.0.0/16"},
};

static void good_values_are_taken(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        parse_well(good[i].arguments, good[i].variables);
        if (strcmp(value_of(good[i].flag), good[i].value) != 0)
            fail_msg("%s / %s: %s", good[i].arguments, good[i].variables, value_of(good[i].flag));
    }
}

static void the_articles_environment(void **state)
{
    (void) state;
    parse_well("", "ECS_TST_LOG_FORMAT=json|ECS_TST_LOG_LEVEL=debug|ECS_TST_INITIAL_WAIT_TIME=30m|"
                   "ECS_TST_IDLE_TIMEOUT=30m|ECS_TST_MAX_LIFE_TIME=24h|"
                   "ECS_TST_SET_DESIRED_COUNT_TO_ZERO=true|ECS_TST_STOP_TASK=true|PATH=/bin");
    assert_int_equal(task.common.log_format, LOG_FORMAT_JSON);
    assert_int_equal(task.common.log_level, LOG_DEBUG);
    assert_int_equal(task.initial_wait_ms, 1800000);
    assert_int_equal(task.idle_timeout_ms, 1800000);
    assert_int_equal(task.max_life_ms, 86400000);
    assert_true(task.set_desired_count_to_zero);
    assert_true(task.stop_task_on_exit);
    assert_false(task.keep_alive_task);
    assert_int_equal(settings_source(&settings, "stop-task-on-exit"), SETTINGS_FROM_ENVIRONMENT);
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
    {"--listen=5439", "", "--listen: \"5439\": want [ADDRESS:]PORT=HOST:PORT"},
    {"--listen=1=a:2,3=b", "", "--listen: \"3=b\": \"b\" is not HOST:PORT"},
    {"--listen=0=a:2", "", "--listen: \"0=a:2\": \"0\" is not a port (1-65535) or ADDRESS:PORT"},
    {"--listen=name:1=a:2", "",
     "--listen: \"name:1=a:2\": \"name:1\" is not a port (1-65535) or ADDRESS:PORT"},
    {"", "FUMIDAI_LISTEN=1=:2", "FUMIDAI_LISTEN: \"1=:2\": \":2\" is not HOST:PORT"},
    {"", "FUMIDAI_ALLOW=db.internal:0",
     "FUMIDAI_ALLOW: rule \"db.internal:0\": \"0\" is neither a port (1-65535) nor a range a-b"},
    {"--idle-timeout", "", "--idle-timeout: needs a value, as in --idle-timeout=VALUE"},
    {"--idle-timeout|--verbose", "", "--idle-timeout: needs a value, as in --idle-timeout=VALUE"},
    {"--idel-timeout=1m", "",
     "unknown flag --idel-timeout; see --help; a wrapped command with flags of its own goes after --"},
    {"sh|-c|exit 3", "",
     "unknown flag -c; see --help; a wrapped command with flags of its own goes after --"},
    {"-help", "", "unknown flag -help; see --help; a wrapped command with flags of its own goes after --"},
    {"--idle-timeout=a\nb\tc", "", "--idle-timeout: \"a?b?c\" " DURATION_WORDS "not negative"},
};

static void bad_values_are_refused(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse(bad[i].arguments, bad[i].variables), ERROR_INVALID);
        assert_string_equal(err.text, bad[i].message);
    }
    parse_well("--listen=1=a:2,", ""); /* looks bad, is not: a comma at the end */
}

static void a_long_value_leaves_room_for_what_is_accepted(void **state)
{
    (void) state;
    char argument[700] = "--relay=";
    memset(argument + 8, 'x', 600);
    assert_int_equal(parse(argument, ""), ERROR_INVALID);
    assert_non_null(strstr(err.text, "xxx\" is not auto, on or off"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_setting_has_its_default),
        cmocka_unit_test(every_default_can_be_given),
        cmocka_unit_test(good_values_are_taken),
        cmocka_unit_test(the_articles_environment),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(a_long_value_leaves_room_for_what_is_accepted),
    };
    return cmocka_run_group_tests_name("task_settings", tests, NULL, NULL);
}
