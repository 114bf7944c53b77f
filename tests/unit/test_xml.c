#include "aws/xml.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct {
    const char *body;
    const char *root;
    const char *text; /* of <Name>; null: not found */
} BODIES[] = {
    {"<R><Name>x</Name></R>", "R", "x"},
    {"<?xml version=\"1.0\"?>\n<ns:R xmlns:ns=\"a>b\"><ns:Name a='<'>x</ns:Name></ns:R>", "R", "x"},
    {"<R><Other/><Name>first</Name><Name>second</Name></R>", "R", "first"},
    {"<R><!-- <Name>no</Name> --><Name>yes</Name></R>", "R", "yes"},
    {"<!DOCTYPE R><R><NAME>any case</NAME></R>", "R", "any case"},
    {"<R><Name></Name></R>", "R", ""},
    {"<R><Name/></R>", "R", ""},
    {"<R><Name attribute=\"/\">x</Name ></R>", "R", "x"},
    {"<R><Name> a\nb </Name></R>", "R", " a\nb "},
    {"<Name>root</Name>", "Name", "root"},
    {"<R><Name>&lt;&gt;&amp;&quot;&apos;</Name></R>", "R", "<>&\"'"},
    {"<R><Name>&#65;&#x42;&#xe9;&#x20AC;&#x1F600;</Name></R>", "R", "AB\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
    {"<R><Name>=a+b/c==</Name></R>", "R", "=a+b/c=="},
    /* not found, or not understood */
    {"", "", NULL},
    {"text", "", NULL},
    {"text<R/>", "", NULL},
    {"</R>", "", NULL},
    {"<", "", NULL},
    {"<>", "", NULL},
    {"< R>", "", NULL},
    {"<R", "", NULL},
    {"<R a=\">", "", NULL},
    {"<!-- <R>", "", NULL},
    {"<?xml", "", NULL},
    {"<R></R>", "R", NULL},
    {"<R><Names>x</Names></R>", "R", NULL},
    {"<R></Name>x</R>", "R", NULL},
    {"<R><Name>x", "R", NULL},
    {"<R><Name>x</R>", "R", NULL},
    {"<R><Name>x</Nam></R>", "R", NULL},
    {"<R><Name>x</a:Name></R>", "R", NULL},
    {"<R><Name>x<b>y</b></Name></R>", "R", NULL},
    {"<R><Name><![CDATA[x]]></Name></R>", "R", NULL},
    {"<R><Name>x<!-- y --></Name></R>", "R", NULL},
    {"<R><Name>&nbsp;</Name></R>", "R", NULL},
    {"<R><Name>&amp</Name></R>", "R", NULL},
    {"<R><Name>&#0;</Name></R>", "R", NULL},
    {"<R><Name>&#xD800;</Name></R>", "R", NULL},
    {"<R><Name>&#x110000;</Name></R>", "R", NULL},
    {"<R><Name>&#99999999999999999999;</Name></R>", "R", NULL},
    {"<R><Name>&#;</Name></R>", "R", NULL},
    {"<R><Name>&#x;</Name></R>", "R", NULL},
    {"<R><Name>&;</Name></R>", "R", NULL},
};

static void finds_the_text_or_nothing(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(BODIES); i++) {
        size_t len = strlen(BODIES[i].body);
        char *copy = guard_copy(BODIES[i].body, len);
        struct str body = {copy, len};
        char out[64] = "stale";
        bool found = xml_text(body, "Name", out, sizeof out);
        if (found != (BODIES[i].text != NULL) || strcmp(out, found ? BODIES[i].text : "") != 0 ||
            !str_equal_text(xml_root(body), BODIES[i].root))
            fail_msg("%s: \"%s\", root \"%.*s\"", BODIES[i].body, out, STR_ARG(xml_root(body)));
        guard_free(copy, len);
    }
}

/* A truncated answer is never taken for a whole one, wherever it was cut. */
static void every_cut_is_noticed(void **state)
{
    static const char BODY[] = "<?xml version=\"1.0\"?><R xmlns=\"u\"><Name>a&amp;b</Name></R>";
    size_t enough = strlen(BODY) - strlen("</R>");
    (void) state;
    for (size_t len = 0; len <= strlen(BODY); len++) {
        char *copy = guard_copy(BODY, len);
        char out[16];
        assert_int_equal(xml_text((struct str){copy, len}, "Name", out, sizeof out), len >= enough);
        guard_free(copy, len);
    }
}

static void the_text_must_fit(void **state)
{
    struct str body = STR_LITERAL("<R><Name>1234&#65;</Name></R>");
    char *out = guard_alloc(6);
    (void) state;
    assert_true(xml_text(body, "Name", out, 6));
    assert_string_equal(out, "1234A");
    assert_false(xml_text(body, "Name", out + 1, 5));
    assert_string_equal(out + 1, "");
    assert_false(xml_text(body, "Name", out + 5, 1));
    guard_free(out, 6);
}

static void a_nul_is_no_text(void **state)
{
    static const char BODY[] = "<R><Name>a\0b</Name></R>";
    char out[16];
    (void) state;
    assert_false(xml_text((struct str){BODY, sizeof BODY - 1}, "Name", out, sizeof out));
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_text_or_nothing),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(the_text_must_fit),
        cmocka_unit_test(a_nul_is_no_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
