#include "settings/commands.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/words.h"

static enum command command;
static struct settings settings;
static union command_settings values;
static struct error err;

static int parse(const char *arguments, const char *variables)
{
    static struct words argv, env;
    words_split(&argv, "fumidai", arguments);
    words_split(&env, NULL, variables);
    err = (struct error) ERROR_INIT;
    return command_parse(&command, &settings, &values, argv.count, argv.list, env.list, &err);
}

static void parse_well(const char *arguments, const char *variables)
{
    if (parse(arguments, variables) != 0)
        fail_msg("%s / %s: %s", arguments, variables, err.text);
}

static void expect_words(const char *expected)
{
    char text[256] = "";
    for (int i = 0; i < settings.word_count; i++) {
        strcat(text, i == 0 ? "" : "|");
        strcat(text, settings.words[i]);
    }
    assert_string_equal(text, expected);
    assert_null(settings.words[settings.word_count]);
}

static const struct {
    const char *arguments;
    enum command command;
    const char *words;
} lines[] = {
    {"sleep|60", COMMAND_TASK, "sleep|60"},
    {"--|sleep|60", COMMAND_TASK, "sleep|60"},
    {"--idle-timeout|1m|sleep|60", COMMAND_TASK, "sleep|60"},
    {"--idle-timeout=1m|--|sh|-c|exit 3", COMMAND_TASK, "sh|-c|exit 3"},
    {"sleep|60|--idle-timeout|1m", COMMAND_TASK, "sleep|60"},
    {"sleep|--idle-timeout=1m|60", COMMAND_TASK, "sleep|60"},
    {"sleep|--|--idle-timeout", COMMAND_TASK, "sleep|--idle-timeout"},
    {"--|--|x", COMMAND_TASK, "--|x"},
    {"--|--help", COMMAND_TASK, "--help"},
    {"cat|-", COMMAND_TASK, "cat|-"},
    {"--stop-task-on-exit|false", COMMAND_TASK, "false"}, /* a switch takes no second word */
    {"--", COMMAND_TASK, ""},
    {"settings", COMMAND_SETTINGS, ""},
    {"settings|--markdown", COMMAND_SETTINGS, ""},
    {"settings|--idle-timeout=1m|--relay=on", COMMAND_SETTINGS, ""},
    {"health", COMMAND_HEALTH, ""},
    {"--|settings", COMMAND_TASK, "settings"},
    {"--|health", COMMAND_TASK, "health"},
    {"--idle-timeout=1m|health", COMMAND_TASK, "health"},
    {"settings.sh", COMMAND_TASK, "settings.sh"},
    {"./settings", COMMAND_TASK, "./settings"},
    {"Settings", COMMAND_TASK, "Settings"},
    {"sleep|settings", COMMAND_TASK, "sleep|settings"},
    {"|x", COMMAND_TASK, "|x"}, /* an empty word is a word */
};

static void commands_and_words(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        parse_well(lines[i].arguments, "");
        assert_int_equal(command, lines[i].command);
        expect_words(lines[i].words);
        if (command == COMMAND_TASK) {
            assert_ptr_equal(values.task.words, settings.words);
            assert_int_equal(values.task.word_count, settings.word_count);
        }
    }
}

static void no_arguments_at_all(void **state)
{
    (void) state;
    char *nothing[] = {NULL};
    assert_int_equal(command_parse(&command, &settings, &values, 0, nothing, nothing, &err), 0);
    assert_int_equal(command, COMMAND_TASK);
    assert_int_equal(settings.word_count, 0);
}

static void help_and_version_come_first(void **state)
{
    (void) state;
    parse_well("--help", "");
    assert_true(values.common.help);
    parse_well("-h|--nonsense", "ECS_TST_IDLE_TIMEOUT=nonsense");
    assert_true(values.common.help);
    assert_false(values.common.version);
    parse_well("--idle-timeout=x|--version", "");
    assert_true(values.common.version);
    parse_well("settings|--help", "");
    assert_true(values.common.help);
    assert_int_equal(command, COMMAND_SETTINGS);
    parse_well("--|--help", "");
    assert_false(values.common.help);
}

static void the_settings_command_takes_the_tasks_flags(void **state)
{
    (void) state;
    parse_well("settings|--idle-timeout=1m", "FUMIDAI_RELAY=on");
    assert_int_equal(values.listing.task.idle_timeout_ms, 60000);
    assert_int_equal(values.listing.task.initial_wait_ms, 60000);
    assert_int_equal(values.listing.task.relay, TASK_RELAY_ON);
    assert_false(values.listing.markdown);
    parse_well("settings|--markdown", "");
    assert_true(values.listing.markdown);
}

/* Other programs' arguments: none of them is a flag of ours. */
static void the_plugin_takes_its_arguments_as_they_are(void **state)
{
    static const struct {
        char *name;
        const char *arguments;
        const char *words;
    } rows[] = {
        {"session-manager-plugin", "", "session-manager-plugin"},
        {"session-manager-plugin", "--version", "session-manager-plugin|--version"},
        {"/usr/local/bin/session-manager-plugin", "{}|eu-west-1|StartSession||{}",
         "/usr/local/bin/session-manager-plugin|{}|eu-west-1|StartSession||{}"},
        {"fumidai", "session-manager-plugin|--version", "session-manager-plugin|--version"},
        {"fumidai", "session-manager-plugin|health|--help", "session-manager-plugin|health|--help"},
        {"session-manager-plugin", "session-manager-plugin|--help",
         "session-manager-plugin|session-manager-plugin|--help"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct words argv, env;
        words_split(&argv, rows[i].name, rows[i].arguments);
        words_split(&env, NULL, "FUMIDAI_LOG_LEVEL=debug");
        assert_int_equal(command_parse(&command, &settings, &values, argv.count, argv.list, env.list, &err),
                         0);
        assert_int_equal(command, COMMAND_PLUGIN);
        expect_words(rows[i].words);
        assert_int_equal(values.common.log_level, LOG_DEBUG);
        assert_false(values.common.help || values.common.version);
    }
    parse_well("session-manager-plugin|--help", "");
    assert_true(values.common.help);
    parse_well("--|session-manager-plugin", "");
    assert_int_equal(command, COMMAND_TASK);
}

static const struct {
    const char *arguments;
    const char *message;
} bad[] = {
    {"--markdown",
     "unknown flag --markdown; see --help; a wrapped command with flags of its own goes after --"},
    {"settings|--nonsense", "unknown flag --nonsense; see fumidai settings --help"},
    {"settings|x", "fumidai settings takes no arguments, but there is \"x\"; see --help"},
    {"settings|--|x", "fumidai settings takes no arguments, but there is \"x\"; see --help"},
    {"health|--idle-timeout=1m", "unknown flag --idle-timeout; see fumidai health --help"},
    {"redshift",
     "there is no \"fumidai redshift\" yet; a command of that name is wrapped by: fumidai -- redshift"},
    {"forward|sleep", "\"sleep\": a command to run goes after --; see fumidai forward --help"},
    {"forward|-L|5432:db",
     "-L: \"5432:db\": the port \"db\" is not valid, want 1 to 65535 behind the host and a colon"},
};

static void what_a_command_does_not_take_is_refused(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse(bad[i].arguments, ""), ERROR_INVALID);
        assert_string_equal(err.text, bad[i].message);
    }
}

/* Whoever reads a text need not ask whether there is one. */
static void every_text_has_a_value(void **state)
{
    (void) state;
    for (unsigned i = 0; i < COMMAND_COUNT; i++) {
        const struct settings_part *part;
        const struct settings_row *row;
        if (COMMANDS[i]->usage == NULL)
            continue;
        assert_int_equal(parse(COMMANDS[i]->name != NULL ? COMMANDS[i]->name : "", ""), 0);
        for (size_t k = 0; (row = settings_row_at(COMMANDS[i], k, &part)) != NULL; k++) {
            const char *text;
            if (row->kind != SETTINGS_TEXT && row->kind != SETTINGS_PATH)
                continue;
            memcpy(&text, (const char *) &values + part->offset + row->offset, sizeof text);
            assert_non_null(text);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_and_words),
        cmocka_unit_test(no_arguments_at_all),
        cmocka_unit_test(help_and_version_come_first),
        cmocka_unit_test(the_settings_command_takes_the_tasks_flags),
        cmocka_unit_test(the_plugin_takes_its_arguments_as_they_are),
        cmocka_unit_test(what_a_command_does_not_take_is_refused),
        cmocka_unit_test(every_text_has_a_value),
    };
    return cmocka_run_group_tests_name("commands", tests, NULL, NULL);
}
