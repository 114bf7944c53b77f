#include "aws/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

enum { VALUE_SIZE = 256 };

/* The value, or null when there is none; both texts end at unmapped pages. */
static const char *get_from(const char *config, const char *credentials, const char *section, const char *key,
                            const char *nested)
{
    static char value[VALUE_SIZE];
    char *a = guard_copy(config, strlen(config)), *b = guard_copy(credentials, strlen(credentials));
    struct profile_files files = {{a, strlen(config)}, {b, strlen(credentials)}};
    struct writer out = writer_of(value, sizeof value - 1);
    struct str view;
    writer_text(&out, "before:");
    bool found = nested == NULL ? profile_get(&files, str_from(section), key, &out, &view)
                                : profile_get_nested(&files, str_from(section), key, nested, &out, &view);
    assert_false(out.failed);
    assert_memory_equal(value, "before:", 7);
    assert_int_equal(out.len, 7 + view.len);
    assert_true(found || view.len == 0);
    memmove(value, value + 7, view.len);
    value[view.len] = '\0';
    guard_free(a, strlen(config));
    guard_free(b, strlen(credentials));
    return found ? value : NULL;
}

static const char *get(const char *config, const char *section, const char *key)
{
    return get_from(config, "", section, key, NULL);
}

#define assert_value(config, section, key, expected) assert_string_equal(get(config, section, key), expected)

static void sections_have_names(void **state)
{
    static const char text[] = "outside = 1\n"
                               "[default]\nregion = a\n"
                               "[profile dev]\nregion = b\n"
                               "[ profile \t two words ] # comment\nregion = c\n"
                               "  [profile indented]; comment\nregion = d\n"
                               "[plain]\nregion = e\n"
                               "[sso-session corp]\nregion = f\n"
                               "[profile]\nregion = g\n"
                               "[]\nregion = h\n"
                               "[broken\nregion = i";
    (void) state;
    assert_value(text, "default", "region", "a");
    assert_value(text, "dev", "region", "b");
    assert_value(text, "two words", "region", "c");
    assert_value(text, "indented", "region", "d");
    assert_null(get(text, "plain", "region")); /* needs its prefix in the config file */
    assert_string_equal(get_from("", text, "plain", "region", NULL), "e");
    assert_null(get_from("", text, "dev", "region", NULL)); /* and none in the credentials file */
    assert_value(text, "sso-session corp", "region", "f");
    assert_null(get(text, "", "region"));
    assert_null(get(text, "Dev", "region"));
    assert_null(get(text, "default", "outside"));
    /* A line that is not a section's leaves its section open: here one without a name. */
    assert_null(get(text, "broken", "region"));
}

static void existence_of_sections(void **state)
{
    struct profile_files files = {STR_LITERAL("[profile a]\n[b]\n[services s]"),
                                  STR_LITERAL("[c]\n[profile d]\n")};
    (void) state;
    assert_true(profile_has_section(&files, STR_LITERAL("a")));
    assert_false(profile_has_section(&files, STR_LITERAL("b")));
    assert_true(profile_has_section(&files, STR_LITERAL("c")));
    assert_false(profile_has_section(&files, STR_LITERAL("d")));
    assert_true(profile_has_section(&files, STR_LITERAL("services s")));
    assert_false(profile_has_section(&files, STR_LITERAL("s")));
    assert_false(profile_has_section(&files, STR_LITERAL("")));
}

static void profile_default_replaces_default(void **state)
{
    (void) state;
    assert_value("[profile default]\nregion = b\n[default]\nregion = a\n", "default", "region", "b");
    assert_null(get("[profile default]\n[default]\nregion = a\n", "default", "region"));
}

static void values(void **state)
{
    static const struct {
        const char *line;
        const char *value; /* null: not set */
    } CASES[] = {
        {"k = v", "v"},
        {"k=v", "v"},
        {"k:v", "v"},
        {"K = v", "v"},
        {"k = a=b:c", "a=b:c"},
        {"k : a=b", "a=b"},
        {"k = v # comment", "v"},
        {"k = v\t; comment", "v"},
        {"k = v#no comment;at all", "v#no comment;at all"},
        {"k = #", ""},
        {"k = v \t\r", "v"},
        {"k = \"quoted = 1\"", "quoted = 1"},
        {"k = 'quoted'", "quoted"},
        {"k = 'half\"", "'half\""},
        {"k = '", "'"},
        {"k =", ""},
        {"k", NULL},
        {"# k = v", NULL},
        {" ; k = v", NULL},
        {"[k = v", NULL},
        {"k = 1\nk = 2", "2"},
        {"k = 1\nk =", ""},
        {"k = 1\n[other]\nk = 3\n[default]\nk = 2", "2"},
        {"k = 1\n[other]\nk = 2", "1"},
        {"k = 1\n  two\n\tthree  ", "1\ntwo\nthree  "},
        {"k = 1\nother = 2\n three", "1"},
        {"k =\n two", ""},
        {"x = 1\n k = promoted # comment", "promoted"},
        {" k = promoted", "promoted"},
        {"x =\n k = nested", NULL},
        {"k = 1\n\n  # comment\n  two", "1\ntwo"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "[default]\n%s", CASES[i].line);
        const char *value = get(text, "default", "k");
        if (CASES[i].value == NULL)
            assert_null(value);
        else
            assert_string_equal(value, CASES[i].value);
    }
}

static void nested_settings(void **state)
{
    static const char text[] = "[services s]\n"
                               "ecs =\n  endpoint_url = https://one # kept\n  Other: 2\n"
                               "ssm =\n"
                               "sts = x\n  endpoint_url = https://promoted\n"
                               "sso =\n  endpoint_url = gone\n"
                               "sso =\n";
    (void) state;
    assert_string_equal(get_from(text, "", "services s", "ecs", "endpoint_url"), "https://one # kept");
    assert_string_equal(get_from(text, "", "services s", "ecs", "other"), "2");
    assert_null(get_from(text, "", "services s", "ssm", "endpoint_url"));
    assert_null(get_from(text, "", "services s", "sts", "endpoint_url"));
    assert_string_equal(get_from(text, "", "services s", "endpoint_url", NULL), "https://promoted");
    assert_null(get_from(text, "", "services s", "sso", "endpoint_url"));
    assert_string_equal(get_from(text, "", "services s", "ecs", NULL), "");
}

static void the_credentials_file_comes_first(void **state)
{
    static const char config[] =
        "[profile p]\nregion = a\noutput = json\nendpoint_url = http://a\nrole_arn = r\n";
    static const char credentials[] = "[p]\nregion = b\nendpoint_url = http://b\nrole_arn =\n";
    (void) state;
    assert_string_equal(get_from(config, credentials, "p", "region", NULL), "b");
    assert_string_equal(get_from(config, credentials, "p", "output", NULL), "json");
    assert_string_equal(get_from(config, credentials, "p", "endpoint_url", NULL), "http://a");
    assert_string_equal(get_from("", credentials, "p", "endpoint_url", NULL), "http://b");
    assert_string_equal(get_from(config, credentials, "p", "role_arn", NULL), "");
}

static void half_a_pair_of_keys(void **state)
{
    static const char half[] = "[default]\naws_access_key_id = AKID\n";
    static const char whole[] = "[default]\naws_access_key_id = AKID\nAWS_SECRET_ACCESS_KEY =\n";
    static const char other[] = "[other]\n";
    (void) state;
    const struct {
        const char *config, *credentials;
        bool is_half;
    } CASES[] = {{half, "", true},     {half, other, true}, {"", half, true}, {whole, half, true},
                 {half, whole, false}, {whole, "", false},  {"", "", false}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct profile_files files = {str_from(CASES[i].config), str_from(CASES[i].credentials)};
        assert_int_equal(profile_has_half_keys(&files, STR_LITERAL("default")), CASES[i].is_half);
    }
}

static void what_does_not_fit_fails_the_writer(void **state)
{
    struct profile_files files = {STR_LITERAL("[default]\nkey = 12345678\nk = 1\n"), {NULL, 0}};
    char *memory = guard_alloc(7);
    struct writer out = writer_of(memory, 7);
    struct str value;
    (void) state;
    assert_true(profile_get(&files, STR_LITERAL("default"), "key", &out, &value));
    assert_true(out.failed);
    assert_int_equal(value.len, 0);
    guard_free(memory, 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_have_names),
        cmocka_unit_test(existence_of_sections),
        cmocka_unit_test(profile_default_replaces_default),
        cmocka_unit_test(values),
        cmocka_unit_test(nested_settings),
        cmocka_unit_test(the_credentials_file_comes_first),
        cmocka_unit_test(half_a_pair_of_keys),
        cmocka_unit_test(what_does_not_fit_fails_the_writer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
