#include "settings/pages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/words.h"
#include "settings/commands.h"

static char page[32768];

static struct writer begin(void)
{
    memset(page, 0, sizeof page);
    return writer_of(page, sizeof page);
}

static void expect(const char *text)
{
    if (strstr(page, text) == NULL)
        fail_msg("there is no \"%s\" in:\n%s", text, page);
}

static void help_names_every_setting(void **state)
{
    (void) state;
    for (unsigned c = 0; c < COMMAND_COUNT; c++) {
        const struct settings_part *part;
        const struct settings_row *row;
        if (COMMANDS[c]->usage == NULL)
            continue;
        struct writer w = begin();
        settings_write_help(&w, COMMANDS[c]);
        assert_false(w.failed);
        assert_null(strchr(page, '`'));
        for (size_t i = 0; (row = settings_row_at(COMMANDS[c], i, &part)) != NULL; i++) {
            char flag[64];
            snprintf(flag, sizeof flag, row->letter != 0 ? "  -%c, --%s" : "\n  --%.0d%s", row->letter,
                     row->flag);
            expect(flag);
        }
    }
}

static void help_of_the_task(void **state)
{
    (void) state;
    struct writer w = begin();
    settings_write_help(&w, &TASK_SETTINGS);
    assert_ptr_equal(strstr(page, "usage: fumidai [flags] [--] [command args...]\n"), page);
    expect("  --idle-timeout=DURATION  [ECS_TST_IDLE_TIMEOUT]  (default 15m)\n        End the task");
    expect("  --relay=auto|on|off  [FUMIDAI_RELAY]  (default auto)\n");
    expect("\n  --verbose  [ECS_TST_VERBOSE]\n");
    expect("\n  -h, --help\n");
    expect("  fumidai settings [flags]\n");
    expect("  fumidai health\n");
    expect("  fumidai forward --service NAME");
    assert_null(strstr(page, "fumidai redshift")); /* reserved, not there */
}

static void values_as_lines(void **state)
{
    static struct words argv, env;
    struct settings settings;
    struct task_settings task;
    (void) state;
    words_split(&argv, "fumidai", "--idle-timeout=90s|--listen=1=a:2");
    words_split(&env, NULL, "FUMIDAI_RELAY=off");
    assert_int_equal(
        settings_parse(&settings, &TASK_SETTINGS, &task, argv.count, argv.list, 1, env.list, NULL), 0);
    struct writer w = begin();
    settings_write_values(&w, &settings);
    expect("idle-timeout=1m30s (flag)\n");
    expect("relay=off (FUMIDAI_RELAY)\n");
    expect("max-sessions=64 (default)\n");
    expect("listen=1=a:2 (flag)\n");
    assert_null(strstr(page, "help="));
}

static void write_reference(void)
{
    struct writer w = begin();
    settings_write_markdown(&w, &TASK_SETTINGS_LISTING);
    assert_false(w.failed);
}

static void the_reference_is_tables(void **state)
{
    (void) state;
    write_reference();
    expect("| `--verbose`, `--vervose` | `ECS_TST_VERBOSE` | `false` | Log each");
    expect("| `--log-format` | `ECS_TST_LOG_FORMAT` | `text` | `text` or `json`. Format of");
    expect("| `--relay` | `FUMIDAI_RELAY` | `auto` | `auto`, `on` or `off`. Serve");
    expect("| `--max-life-time` | `ECS_TST_MAX_LIFE_TIME` |  | End the task");
    expect("refused with a reason. Accepted: from 1 to 1000. |\n");
    expect("for all its addresses together. Accepted: from 1ms to 10m0s. |\n");
    expect("| `-h`, `--help` |  | `false` | Print");
    size_t cells = 0, lines = 0;
    for (const char *c = page; *c != '\0'; c++) {
        lines += *c == '\n' && c[1] == '|';
        cells += *c == '|' && c[-1] != '\\';
    }
    assert_int_equal(cells, 5 * lines);
}

/* The README holds, between the two marks, what `fumidai settings --markdown` prints. */
static void the_readme_has_the_same_tables(void **state)
{
    (void) state;
    static const char begin_mark[] = "<!-- settings: made by `fumidai settings --markdown` -->\n";
    static const char end_mark[] = "<!-- end of settings -->";
    static char readme[262144];
    FILE *file = fopen("README.md", "r");
    assert_non_null(file);
    readme[fread(readme, 1, sizeof readme - 1, file)] = '\0';
    fclose(file);
    char *from = strstr(readme, begin_mark);
    char *to = from != NULL ? strstr(from, end_mark) : NULL;
    if (to == NULL) {
        fail_msg("README.md lacks \"%s\" or, after it, \"%s\"", begin_mark, end_mark);
        return;
    }
    *to = '\0';
    write_reference();
    assert_string_equal(from + strlen(begin_mark), page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_names_every_setting),
        cmocka_unit_test(help_of_the_task),
        cmocka_unit_test(values_as_lines),
        cmocka_unit_test(the_reference_is_tables),
        cmocka_unit_test(the_readme_has_the_same_tables),
    };
    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
