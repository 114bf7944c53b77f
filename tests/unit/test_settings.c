/* The mechanism, with a table of its own: what forwarding will need, too. */
#include "settings/settings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/words.h"

enum shape { SHAPE_ROUND, SHAPE_SQUARE };

struct inner {
    uint32_t number;
    int64_t wait_ms;
};

struct values {
    bool quiet;
    const char *name;
    const char *file;
    enum shape shape;
    int level;
    struct settings_list forwards;
    struct inner inner;
};

static int refuse_bad(struct str value, struct error *err)
{
    size_t at;
    if (str_find(value, "bad", &at))
        return error_set(err, ERROR_INVALID, "\"%.*s\" is bad", STR_ARG(value));
    return 0;
}

#define AT(member, type)       SETTINGS_AT(struct values, member, type)
#define INNER_AT(member, type) SETTINGS_AT(struct inner, member, type)

static const struct settings_row rows[] = {
    {"quiet", "T_QUIET", "Less.", SETTINGS_SWITCH, AT(quiet, bool), .letter = 'q'},
    {"help", NULL, "Help.", SETTINGS_SWITCH, AT(quiet, bool), .letter = 'h'},
    {"name", "T_NAME", "A name.", SETTINGS_TEXT, AT(name, const char *), .validate = refuse_bad},
    {"file", NULL, "A file.", SETTINGS_PATH, AT(file, const char *), .fallback = "/dev/null", .letter = 'f'},
    {"shape", "T_SHAPE", "A shape.", SETTINGS_CHOICE, AT(shape, unsigned), .choices = {"round", "square"}},
    {"level", NULL, "A level.", SETTINGS_LEVEL, AT(level, int), .fallback = "warn"},
    {"forward", "T_FORWARD", "Forwards.", SETTINGS_LIST, AT(forwards, struct settings_list),
     .validate = refuse_bad, .letter = 'L', .alias = "forwards"},
};

static const struct settings_row inner_rows[] = {
    {"number", "T_NUMBER", "A number.", SETTINGS_NUMBER, INNER_AT(number, uint32_t), .maximum = 10,
     .letter = 'n'},
    {"wait", NULL, "A wait.", SETTINGS_DURATION, INNER_AT(wait_ms, int64_t), .fallback = "2s", .minimum = 1,
     .maximum = 60000},
};

static const struct settings_part parts[] = {
    {"Outer", rows, sizeof rows / sizeof rows[0], 0},
    {"Inner", inner_rows, sizeof inner_rows / sizeof inner_rows[0], offsetof(struct values, inner)},
};

static int finished;

static void finish(void *values, const struct settings *given)
{
    struct values *v = values;
    assert_ptr_equal(given->values, values);
    finished++;
    if (settings_source(given, "number") == SETTINGS_FROM_DEFAULT)
        v->inner.number = 7;
}

static struct settings_command command = {.name = "test",
                                          .usage = "fumidai test",
                                          .purpose = "Tests.",
                                          .parts = parts,
                                          .part_count = 2,
                                          .size = sizeof(struct values),
                                          .words = SETTINGS_WORDS_BEHIND,
                                          .finish = finish};

static struct words argv, env;
static struct settings settings;
static struct values values;
static struct error err;

static int parse(const char *arguments, const char *variables)
{
    memset(&values, 0xA5, sizeof values);
    words_split(&argv, "test", arguments);
    words_split(&env, NULL, variables);
    err = (struct error) ERROR_INIT;
    finished = 0;
    return settings_parse(&settings, &command, &values, argv.count, argv.list, 1, env.list, &err);
}

/* All values as one line. */
static const char *line_of_values(void)
{
    static char text[1024];
    struct writer w = writer_of(text, sizeof text);
    const struct settings_part *part;
    for (size_t i = 0; settings_row_at(&command, i, &part) != NULL; i++) {
        writer_text(&w, i == 0 ? "" : " ");
        settings_write_value(&w, &settings, i);
    }
    for (int i = 0; i < settings.word_count; i++)
        writer_format(&w, "%s%s", i == 0 ? " -- " : "|", settings.words[i]);
    return writer_terminate(&w);
}

/* quiet help name file shape level forwards number wait -- words */
static const struct {
    const char *arguments;
    const char *variables;
    const char *values;
} good[] = {
    {"", "", "false false  /dev/null round warn  7 2s"},
    {"-q", "", "true true  /dev/null round warn  7 2s"}, /* both rows fill one member here */
    {"-q=false", "T_QUIET=1", "false false  /dev/null round warn  7 2s"},
    {"--quiet|--quiet=no", "", "false false  /dev/null round warn  7 2s"},
    {"--name|x|--shape=square", "", "false false x /dev/null square warn  7 2s"},
    {"--name=|--shape|square", "T_NAME=y|T_SHAPE=round", "false false  /dev/null square warn  7 2s"},
    {"", "T_NAME=a b|T_SHAPE=square|T_NUMBER=10", "false false a b /dev/null square warn  10 2s"},
    {"-f|x", "", "false false  x round warn  7 2s"},
    {"-fx", "", "false false  x round warn  7 2s"},
    {"-f=x", "", "false false  x round warn  7 2s"},
    {"-fx=y", "", "false false  x=y round warn  7 2s"},
    {"-f|-", "", "false false  - round warn  7 2s"},
    {"-f=-x", "", "false false  -x round warn  7 2s"},
    {"--level=info+1", "", "false false  /dev/null round info+1  7 2s"},
    {"-n3|--wait=1m", "", "false false  /dev/null round warn  3 1m0s"},
    {"-L|1:a:2", "", "false false  /dev/null round warn 1:a:2 7 2s"},
    {"-L1:a:2|--forward=3:b:4|--forwards|c, d", "",
     "false false  /dev/null round warn 1:a:2,3:b:4,c, d 7 2s"},
    {"", "T_FORWARD= 1:a:2, 3:b:4 ,,", "false false  /dev/null round warn 1:a:2,3:b:4 7 2s"},
    {"-L5:c:6", "T_FORWARD=1:a:2", "false false  /dev/null round warn 5:c:6 7 2s"},
    {"--|psql|-h|localhost", "", "false false  /dev/null round warn  7 2s -- psql|-h|localhost"},
    {"-q=0|--|-q", "", "false false  /dev/null round warn  7 2s -- -q"},
    {"--|--", "", "false false  /dev/null round warn  7 2s -- --"},
    {"--", "", "false false  /dev/null round warn  7 2s"},
};

static void good_lines_are_taken(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        if (parse(good[i].arguments, good[i].variables) != 0)
            fail_msg("%s / %s: %s", good[i].arguments, good[i].variables, err.text);
        if (strcmp(line_of_values(), good[i].values) != 0)
            fail_msg("%s / %s: %s", good[i].arguments, good[i].variables, line_of_values());
        assert_int_equal(finished, 1);
        assert_null(settings.words[settings.word_count]);
    }
}

static const struct {
    const char *arguments;
    const char *variables;
    const char *message;
} bad[] = {
    {"-x", "", "unknown flag -x; see fumidai test --help"},
    {"-qq", "", "unknown flag -qq; see fumidai test --help"},
    {"-quiet", "", "unknown flag -quiet; see fumidai test --help"},
    {"--", "T_NUMBER=11", "T_NUMBER: \"11\" is not a number from 0 to 10"},
    {"--forwardss=x", "", "unknown flag --forwardss; see fumidai test --help"},
    {"--f=x", "", "unknown flag --f; see fumidai test --help"},
    {"-n|x", "", "-n: \"x\" is not a number from 0 to 10"},
    {"-nx", "", "-n: \"x\" is not a number from 0 to 10"},
    {"-f", "", "-f: needs a value, as in -f=VALUE"},
    {"-f|-q", "", "-f: needs a value, as in -f=VALUE"},
    {"-f=", "", "-f: \"\" is not a path"},
    {"--shape=oval", "", "--shape: \"oval\" is not round or square"},
    {"--wait=0", "", "--wait: \"0\" is not a duration like 30m, 1h30m, 1.5h or 300ms, from 1ms to 1m0s"},
    {"--name=so bad", "", "--name: \"so bad\" is bad"},
    {"-La|-Lbad", "", "-L: \"bad\" is bad"},
    {"", "T_FORWARD=a,bad,b", "T_FORWARD: \"bad\" is bad"},
    {"psql", "", "\"psql\": a command to run goes after --; see fumidai test --help"},
    {"-q|psql|--|x", "", "\"psql\": a command to run goes after --; see fumidai test --help"},
};

static void bad_lines_are_refused(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(parse(bad[i].arguments, bad[i].variables), ERROR_INVALID);
        assert_string_equal(err.text, bad[i].message);
        assert_int_equal(finished, 0);
    }
}

static void a_list_has_an_end(void **state)
{
    char line[WORDS_TEXT_SIZE] = "-L0";
    (void) state;
    for (int i = 1; i < SETTINGS_LIST_MAX; i++)
        snprintf(line + strlen(line), sizeof line - strlen(line), "|-L%d", i);
    assert_int_equal(parse(line, ""), 0);
    assert_int_equal(values.forwards.count, SETTINGS_LIST_MAX);
    assert_true(str_equal_text(values.forwards.items[SETTINGS_LIST_MAX - 1], "31"));
    strcat(line, "|-L32");
    assert_int_equal(parse(line, ""), ERROR_INVALID);
    assert_string_equal(err.text, "-L: there are more than 32");
}

static void sources_are_told(void **state)
{
    (void) state;
    assert_int_equal(parse("-n1|-La", "T_NUMBER=2|T_NAME=x|T_SHAPE="), 0);
    assert_int_equal(settings_source(&settings, "number"), SETTINGS_FROM_FLAG);
    assert_int_equal(settings_source(&settings, "forward"), SETTINGS_FROM_FLAG);
    assert_int_equal(settings_source(&settings, "name"), SETTINGS_FROM_ENVIRONMENT);
    assert_int_equal(settings_source(&settings, "shape"), SETTINGS_FROM_DEFAULT);
    assert_int_equal(settings_source(&settings, "no such flag"), SETTINGS_FROM_DEFAULT);
}

static void help_is_found_whatever_else_is_wrong(void **state)
{
    (void) state;
    assert_int_equal(parse("--nonsense|-h|psql", "T_NUMBER=99"), 0);
    assert_true(values.quiet); /* where this table's --help is stored */
    assert_int_equal(parse("--|-h", ""), 0);
    assert_false(values.quiet);
}

static void words_where_they_may_stand(void **state)
{
    (void) state;
    command.words = SETTINGS_WORDS_ANYWHERE;
    assert_int_equal(parse("a|-n1|b|--|-c", ""), 0);
    assert_string_equal(line_of_values(), "false false  /dev/null round warn  1 2s -- a|b|-c");
    command.words = SETTINGS_NO_WORDS;
    assert_int_equal(parse("a", ""), ERROR_INVALID);
    assert_string_equal(err.text, "fumidai test takes no arguments, but there is \"a\"; see --help");
    assert_int_equal(parse("--|a", ""), ERROR_INVALID);
    command.words = SETTINGS_WORDS_BEHIND;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_lines_are_taken),
        cmocka_unit_test(bad_lines_are_refused),
        cmocka_unit_test(a_list_has_an_end),
        cmocka_unit_test(sources_are_told),
        cmocka_unit_test(help_is_found_whatever_else_is_wrong),
        cmocka_unit_test(words_where_they_may_stand),
    };
    return cmocka_run_group_tests_name("settings", tests, NULL, NULL);
}
