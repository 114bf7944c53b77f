#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "lib/guard.h"

enum { TOKENS = 96 };

/* Parses; the document's text is a copy that ends at an unmapped page. */
struct parsed {
    struct json doc;
    struct json_token tokens[TOKENS];
    struct error err;
    char *copy;
    size_t len;
    int result;
};

static void parse(struct parsed *p, const char *text, size_t len)
{
    p->copy = guard_copy(text, len);
    p->len = len;
    p->err = (struct error) ERROR_INIT;
    p->result = json_parse(&p->doc, (struct str){p->copy, len}, p->tokens, TOKENS, &p->err);
}

static void release(struct parsed *p)
{
    guard_free(p->copy, p->len);
}

static const char *const documents[] = {
    "{}",
    "[]",
    " \t\r\n{ \t\r\n} \t\r\n",
    "[[],{},[[]],{\"a\":{}}]",
    "{\"a\":1}",
    "{\"a\":\"b\",\"c\":[true,false,null],\"d\":{\"e\":{}}}",
    "[0,-0,-1,10,1.5,-0.25,1e5,1E+5,1e-05,123456789012345678901234567890.5e400]",
    "[\"\",\"a\\\"b\\\\c\\/d\\be\\ff\\ng\\rh\\ti\\u00e9\\uD83D\\uDE00\"]",
    "[\"{[:,]}\",\"\\\\\",\"\\\"\"]",
    "{\"\":\"\",\"a\":1,\"a\":2,\"a b\":\" \"}",
    "[\"\xC3\xA9\x7F\xFF\"]", /* the grammar allows them; json_string replaces */
};

static const struct {
    const char *text;
    const char *error;
} refusals[] = {
    {"", "not JSON: unexpected byte or end at offset 0"},
    {"   ", "not JSON: unexpected byte or end at offset 3"},
    {"{", "not JSON: ends inside a value (offset 1)"},
    {"]][", "not JSON: unexpected byte or end at offset 0"},
    {"[[1]", "not JSON: ends inside a value (offset 4)"},
    {"[\"a", "not JSON: ends inside a value (offset 1)"},
    {"{\"a\":tru", "not JSON: ends inside a value (offset 5)"},
    {"}", "not JSON: unexpected byte or end at offset 0"},
    {"[}", "not JSON: unexpected byte or end at offset 1"},
    {"{]", "not JSON: unexpected byte or end at offset 1"},
    /* the root */
    {"1 ", "not JSON: unexpected byte or end at offset 1"},
    {"\"a\"", "not JSON: unexpected byte or end at offset 3"},
    {"null\n", "not JSON: unexpected byte or end at offset 4"},
    /* trailing bytes */
    {"{}x", "not JSON: unexpected byte or end at offset 2"},
    {"{}1 ", "not JSON: unexpected byte or end at offset 2"},
    {"{} {}", "not JSON: unexpected byte or end at offset 3"},
    {"[],[]", "not JSON: unexpected byte or end at offset 2"},
    {"[]]", "not JSON: unexpected byte or end at offset 2"},
    /* commas and colons */
    {"[1,]", "not JSON: unexpected byte or end at offset 3"},
    {"[,1]", "not JSON: unexpected byte or end at offset 1"},
    {"[,]", "not JSON: unexpected byte or end at offset 1"},
    {"[1,,2]", "not JSON: unexpected byte or end at offset 3"},
    {"[1 2]", "not JSON: unexpected byte or end at offset 3"},
    {"[\"a\"\"b\"]", "not JSON: unexpected byte or end at offset 4"},
    {"[[][]]", "not JSON: unexpected byte or end at offset 3"},
    {"[\"a\":1]", "not JSON: unexpected byte or end at offset 4"},
    {"{\"a\"}", "not JSON: unexpected byte or end at offset 4"},
    {"{\"a\":}", "not JSON: unexpected byte or end at offset 5"},
    {"{\"a\" 1}", "not JSON: unexpected byte or end at offset 5"},
    {"{\"a\",\"b\"}", "not JSON: unexpected byte or end at offset 4"},
    {"{\"a\"::1}", "not JSON: unexpected byte or end at offset 5"},
    {"{\"a\":1,}", "not JSON: unexpected byte or end at offset 7"},
    {"{,\"a\":1}", "not JSON: unexpected byte or end at offset 1"},
    {"{\"a\":1 \"b\":2}", "not JSON: unexpected byte or end at offset 7"},
    {"{\"a\":\"x\" \"b\":2}", "not JSON: unexpected byte or end at offset 9"},
    {"{\"a\":1:2}", "not JSON: unexpected byte or end at offset 5"},
    {"{\"a\":\"b\":\"c\"}", "not JSON: unexpected byte or end at offset 8"},
    {"{:1}", "not JSON: unexpected byte or end at offset 2"},
    /* keys */
    {"{a:1}", "not JSON: unexpected byte or end at offset 1"},
    {"{1:2}", "not JSON: unexpected byte or end at offset 1"},
    {"{null:2}", "not JSON: unexpected byte or end at offset 1"},
    {"{[]:1}", "not JSON: unexpected byte or end at offset 1"},
    {"{{}:1}", "not JSON: unexpected byte or end at offset 1"},
    /* words and numbers */
    {"[nul]", "not JSON: unexpected byte or end at offset 1"},
    {"[nulll]", "not JSON: unexpected byte or end at offset 1"},
    {"[True]", "not JSON: unexpected byte or end at offset 1"},
    {"[truefalse]", "not JSON: unexpected byte or end at offset 1"},
    {"[NaN]", "not JSON: unexpected byte or end at offset 1"},
    {"[-]", "not JSON: unexpected byte or end at offset 1"},
    {"[+1]", "not JSON: unexpected byte or end at offset 1"},
    {"[01]", "not JSON: unexpected byte or end at offset 1"},
    {"[-01]", "not JSON: unexpected byte or end at offset 1"},
    {"[.5]", "not JSON: unexpected byte or end at offset 1"},
    {"[1.]", "not JSON: unexpected byte or end at offset 1"},
    {"[1e]", "not JSON: unexpected byte or end at offset 1"},
    {"[1e+]", "not JSON: unexpected byte or end at offset 1"},
    {"[0x1]", "not JSON: unexpected byte or end at offset 1"},
    {"[1-2]", "not JSON: unexpected byte or end at offset 1"},
    {"['a']", "not JSON: unexpected byte or end at offset 1"},
    {"[1\"a\"]", "not JSON: unexpected byte or end at offset 1"},
    /* strings */
    {"[\"a\nb\"]", "not JSON: unexpected byte or end at offset 3"},
    {"[\"\x1F\"]", "not JSON: unexpected byte or end at offset 2"},
    {"[\"\\\"", "not JSON: ends inside a value (offset 1)"},
    {"[\"\\", "not JSON: ends inside a value (offset 1)"},
    {"[\"\\u00", "not JSON: ends inside a value (offset 1)"},
    {"[\"\\x\"]", "not JSON: unexpected byte or end at offset 1"},
    {"[\"\\u12\"]", "not JSON: unexpected byte or end at offset 1"},
    {"[\"\\u12g4\"]", "not JSON: unexpected byte or end at offset 1"},
    /* other white space, comments, byte order mark */
    {"[\f]", "not JSON: unexpected byte or end at offset 1"},
    {"[1/**/]", "not JSON: unexpected byte or end at offset 1"},
    {"\xEF\xBB\xBF{}", "not JSON: unexpected byte or end at offset 0"},
};

static void takes_json(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        struct parsed p;
        parse(&p, documents[i], strlen(documents[i]));
        if (p.result != 0)
            fail_msg("%s: %s", documents[i], p.err.text);
        assert_int_equal(json_root(&p.doc), 0);
        release(&p);
    }
}

static void refuses_what_is_not_json(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        struct parsed p;
        parse(&p, refusals[i].text, strlen(refusals[i].text));
        if (p.result != ERROR_INVALID || strcmp(p.err.text, refusals[i].error) != 0)
            fail_msg("%s: %d %s", refusals[i].text, p.result, p.err.text);
        /* nothing is there, so look-ups give absence */
        assert_int_equal(json_root(&p.doc), JSON_ABSENT);
        release(&p);
    }
}

static void refuses_a_nul(void **state)
{
    static const char texts[][6] = {"{}\0", "[\0]", "[\"\0\"]", "\0{}", "[1\0]"};
    static const size_t lengths[] = {3, 3, 5, 3, 4};
    (void) state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct parsed p;
        parse(&p, texts[i], lengths[i]);
        assert_int_equal(p.result, ERROR_INVALID);
        release(&p);
    }
}

/* An object or array that is cut off is none, wherever it is cut. */
static void refuses_every_beginning(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++) {
        size_t end = strlen(documents[i]);
        while (end > 0 && strchr(" \t\r\n", documents[i][end - 1]) != NULL)
            end--;
        for (size_t len = 0; len < end; len++) {
            struct parsed p;
            parse(&p, documents[i], len);
            if (p.result != ERROR_INVALID)
                fail_msg("%.*s was taken", (int) len, documents[i]);
            release(&p);
        }
    }
}

static void bounds_tokens(void **state)
{
    static const char text[] = "{\"a\":[1,2]}"; /* 5 tokens */
    struct json_token tokens[5];
    struct json doc;
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(json_parse(&doc, str_from(text), tokens, 5, NULL), 0);
    for (size_t capacity = 0; capacity < 5; capacity++) {
        char expected[64];
        struct writer w = writer_of(expected, sizeof expected);
        writer_format(&w, "JSON has more than %zu values", capacity);
        assert_int_equal(json_parse(&doc, str_from(text), tokens, capacity, &err), ERROR_TOO_LARGE);
        assert_string_equal(err.text, writer_terminate(&w));
        assert_int_equal(json_root(&doc), JSON_ABSENT);
    }
    assert_int_equal(json_parse(&doc, str_from(text), NULL, 0, &err), ERROR_TOO_LARGE);
    assert_int_equal(json_parse(&doc, (struct str){text, (size_t) INT32_MAX + 1}, tokens, 5, &err),
                     ERROR_TOO_LARGE);
    assert_string_equal(err.text, "JSON of 2147483648 bytes is more than can be indexed");
}

static void bounds_depth(void **state)
{
    char text[2 * (JSON_DEPTH_MAX + 1)];
    (void) state;
    for (int depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        size_t n = (size_t) depth;
        struct parsed p;
        memset(text, '[', n);
        memset(text + n, ']', n);
        parse(&p, text, 2 * n);
        assert_int_equal(p.result, depth > JSON_DEPTH_MAX ? ERROR_INVALID : 0);
        assert_string_equal(p.err.text,
                            depth > JSON_DEPTH_MAX ? "JSON nested deeper than 32 at offset 32" : "");
        release(&p);
    }
}

/* Brackets that are closed, and those in strings, add nothing; those behind strings do. */
static void counts_only_open_brackets(void **state)
{
#define TEN(text)   text text text text text text text text text text
#define FORTY(text) TEN(text) TEN(text) TEN(text) TEN(text)
    static const struct {
        const char *text;
        const char *error;
    } cases[] = {
        {"[" FORTY("[],") "0]", ""},
        {"[" FORTY("{},") "0]", ""},
        {"[\"" FORTY("[") "\"]", ""},
        {"[\"\\\"" FORTY("{") "\"]", ""},
        {"[\"ab\\\\\\\"" FORTY("[") "\\\"" FORTY("[") "\\\\\"]", ""},
        {"[\"\\\\\"," FORTY("["), "JSON nested deeper than 32 at offset 37"},
        {"[\"a\\\"\"," FORTY("["), "JSON nested deeper than 32 at offset 38"},
        {"]" FORTY("["), "JSON nested deeper than 32 at offset 33"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct parsed p;
        parse(&p, cases[i].text, strlen(cases[i].text));
        assert_int_equal(p.result, cases[i].error[0] != '\0' ? ERROR_INVALID : 0);
        assert_string_equal(p.err.text, cases[i].error);
        release(&p);
    }
}

static const char example[] = "{ \"Cluster\" : \"arn:x\", \"cluster\": 2, "
                              "\"Nested\":{\"List\":[10,{\"deep\":true},[],\"s\"],\"list\":0},"
                              "\"n\":null, \"\\u004Eame\":\"esc\", "
                              "\"numbers\":[\"12\",-7,1.5,\"x\",9223372036854775807,\"9223372036854775808\","
                              "-9223372036854775808,\"-9223372036854775809\",1e3,\"\",\"-\"]}";

static void looks_up_members(void **state)
{
    struct parsed p;
    (void) state;
    parse(&p, example, sizeof example - 1);
    assert_int_equal(p.result, 0);
    const struct json *doc = &p.doc;
    int64_t number = 0;
    bool flag = false;
    int root = json_root(doc);
    assert_int_equal(json_count(doc, root), 6);
    assert_true(json_string_equal(doc, json_member(doc, root, "Cluster"), "arn:x"));
    assert_true(json_i64(doc, json_member(doc, root, "cluster"), &number) && number == 2); /* exact wins */
    assert_true(json_string_equal(doc, json_member(doc, root, "CLUSTER"), "arn:x")); /* the first folded */
    assert_true(json_string_equal(doc, json_member(doc, root, "Name"), "esc"));
    assert_true(json_string_equal(doc, json_member(doc, root, "nAME"), "esc"));
    assert_int_equal(json_member(doc, root, "Clust"), JSON_ABSENT);
    assert_int_equal(json_member(doc, root, "Clusters"), JSON_ABSENT);
    assert_int_equal(json_member(doc, root, "deep"), JSON_ABSENT);
    assert_int_equal(json_member(doc, root, ""), JSON_ABSENT);
    int nested = json_member(doc, root, "nested");
    int list = json_member(doc, nested, "List");
    assert_int_equal(json_type(doc, list), JSON_ARRAY);
    assert_int_equal(json_count(doc, list), 4);
    assert_true(json_bool(doc, json_member(doc, json_element(doc, list, 1), "DEEP"), &flag) && flag);
    assert_int_equal(json_type(doc, json_element(doc, list, 2)), JSON_ARRAY);
    assert_true(json_string_equal(doc, json_element(doc, list, 3), "s"));
    assert_int_equal(json_element(doc, list, 4), JSON_ABSENT);
    assert_int_equal(json_element(doc, nested, 0), JSON_ABSENT);
    assert_true(json_i64(doc, json_member(doc, nested, "list"), &number) && number == 0);
    assert_int_equal(json_type(doc, json_member(doc, root, "n")), JSON_NULL);
    assert_true(str_equal_text(json_raw(doc, json_element(doc, list, 1)), "{\"deep\":true}"));
    assert_true(str_equal_text(json_raw(doc, json_member(doc, root, "name")), "esc"));
    release(&p);
}

static void folds_ascii_only(void **state)
{
    static const struct {
        const char *name;
        int value; /* its index among the tokens */
    } lookups[] = {
        {"az", 2},
        {"AZ", 2},
        {"\xC3\xA9", 4},
        {"\xC3\xA8", JSON_ABSENT},
        {"\xC3\x89", JSON_ABSENT},
        {"@[", 6},
        {"`{", JSON_ABSENT},
        {"\xC3", JSON_ABSENT},
        {"azz", JSON_ABSENT},
        {"a", JSON_ABSENT},
    };
    struct parsed p;
    (void) state;
    static const char text[] = "{\"aZ\":1,\"\\u00e9\":2,\"@[\":3}";
    parse(&p, text, sizeof text - 1);
    assert_int_equal(p.result, 0);
    for (size_t i = 0; i < sizeof lookups / sizeof lookups[0]; i++)
        assert_int_equal(json_member(&p.doc, 0, lookups[i].name), lookups[i].value);
    release(&p);
}

static void reads_integers(void **state)
{
    static const struct {
        bool valid;
        int64_t number;
    } expected[] = {{true, 12},        {true, -7}, {false, 0}, {false, 0}, {true, INT64_MAX}, {false, 0},
                    {true, INT64_MIN}, {false, 0}, {false, 0}, {false, 0}, {false, 0}};
    struct parsed p;
    (void) state;
    parse(&p, example, sizeof example - 1);
    int numbers = json_member(&p.doc, 0, "numbers");
    assert_int_equal(json_count(&p.doc, numbers), sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        int64_t number = 77;
        assert_int_equal(json_i64(&p.doc, json_element(&p.doc, numbers, i), &number), expected[i].valid);
        assert_true(number == (expected[i].valid ? expected[i].number : 77));
    }
    release(&p);
}

static const struct {
    const char *text;
    int64_t unix_ms; /* -1: not taken */
} TIMES[] = {
    {"0", 0},
    {"1700550000", 1700550000000},
    {"1700550000.123", 1700550000123},
    {"1700550000.5", 1700550000500},
    {"1700550000.1239", 1700550000123},
    {"1700550000.12345678901234567890123", 1700550000123},
    {"1.700550000123E9", 1700550000123},
    {"1.7E9", 1700000000000},
    {"1.7e+9", 1700000000000},
    {"17000000000E-1", 1700000000000},
    {"0.0000000000000000000001E64", -1},
    {"253402300799.999", 253402300799999},
    {"253402300800", -1},
    {"99999999999999999999999999999999", -1},
    {"9e64", -1},
    {"9e65", -1},
    {"1e99999999999999999999", -1},
    {"1e", -1},
    {"1e-", -1},
    {"1ex", -1},
    {"-1", -1},
    {"1.2.3", -1},
    {"\"1700550000\"", -1},
    {"null", -1},
    {"true", -1},
};

static void reads_times(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof TIMES / sizeof TIMES[0]; i++) {
        struct json_token tokens[4];
        struct json doc;
        char text[80];
        int64_t unix_ms = 0;
        snprintf(text, sizeof text, "[%s]", TIMES[i].text);
        bool taken = json_parse(&doc, str_from(text), tokens, 4, NULL) == 0 &&
                     json_epoch_ms(&doc, json_element(&doc, 0, 0), &unix_ms);
        if (taken != (TIMES[i].unix_ms >= 0) || (taken && unix_ms != TIMES[i].unix_ms))
            fail_msg("%s: %d, %lld", TIMES[i].text, taken, (long long) unix_ms);
    }
}

static void walks_members_in_order(void **state)
{
    static const char *const keys[] = {"Cluster", "cluster", "Nested", "n", "Name", "numbers"};
    struct parsed p;
    int position = 0;
    int key = 0;
    int value = 0;
    size_t count = 0;
    (void) state;
    parse(&p, example, sizeof example - 1);
    while (json_next_member(&p.doc, 0, &position, &key, &value)) {
        assert_true(count < sizeof keys / sizeof keys[0]);
        assert_true(json_string_equal(&p.doc, key, keys[count]));
        assert_int_equal(value, json_member(&p.doc, 0, keys[count++]));
    }
    assert_int_equal(count, sizeof keys / sizeof keys[0]);
    assert_false(json_next_member(&p.doc, 0, &position, &key, &value));
    position = 0;
    assert_false(json_next_member(&p.doc, json_member(&p.doc, 0, "numbers"), &position, &key, &value));
    release(&p);
}

static void absence_chains(void **state)
{
    static const int strange[] = {JSON_ABSENT, -2, INT32_MIN, 2, 1000, INT32_MAX};
    struct parsed p;
    int64_t number = 0;
    bool flag = false;
    char out[4] = "zzz";
    struct str view;
    (void) state;
    parse(&p, "[true]", 6);
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        int value = strange[i];
        int position = 0;
        assert_int_equal(json_type(&p.doc, value), JSON_NONE);
        assert_int_equal(json_member(&p.doc, value, "a"), JSON_ABSENT);
        assert_int_equal(json_element(&p.doc, value, 0), JSON_ABSENT);
        assert_int_equal(json_count(&p.doc, value), 0);
        assert_int_equal(json_raw(&p.doc, value).len, 0);
        assert_false(json_i64(&p.doc, value, &number));
        assert_false(json_bool(&p.doc, value, &flag));
        assert_false(json_string_equal(&p.doc, value, ""));
        assert_false(json_string(&p.doc, value, out, sizeof out, &view));
        assert_int_equal(view.len, 0);
        int key = 0;
        assert_false(json_next_member(&p.doc, value, &position, &key, &value));
    }
    assert_int_equal(json_member(&p.doc, 0, "a"), JSON_ABSENT); /* an array has no members */
    assert_int_equal(json_count(&p.doc, 1), 0);
    assert_false(json_i64(&p.doc, 1, &number));
    assert_true(json_bool(&p.doc, 1, &flag) && flag);
    release(&p);
}

static const struct {
    const char *raw;  /* as in the document, without quotes */
    const char *text; /* null: refused */
} strings[] = {
    {"", ""},
    {"plain", "plain"},
    {"\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\b\f\n\r\t"},
    {"\\u0041\\u00e9\\u20AC", "A\xC3\xA9\xE2\x82\xAC"},
    {"\\ud83d\\ude00", "\xF0\x9F\x98\x80"},
    {"\\uDBFF\\uDFFF", "\xF4\x8F\xBF\xBF"},
    {"\\u007f\\u0080\\u07ff\\u0800", "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80"},
    {"\\ud7ff\\ue000\\uD800\\uDC00", "\xED\x9F\xBF\xEE\x80\x80\xF0\x90\x80\x80"},
    {"\\ud800\\udfff\\udbff\\udc00", "\xF0\x90\x8F\xBF\xF4\x8F\xB0\x80"},
    {"\\ud800", "\xEF\xBF\xBD"},
    {"\\udfff", "\xEF\xBF\xBD"},
    {"\\ud800\\ue000", "\xEF\xBF\xBD\xEE\x80\x80"},
    {"\\\\u0041xu0041", "\\u0041xu0041"},
    {"\xC2\x80\xDF\xBF\xF4\x8F\xBF\xBF", "\xC2\x80\xDF\xBF\xF4\x8F\xBF\xBF"},
    {"\\ud83d", "\xEF\xBF\xBD"},
    {"\\ude00", "\xEF\xBF\xBD"},
    {"\\ud83dx", "\xEF\xBF\xBDx"},
    {"\\ud83d\\u0041", "\xEF\xBF\xBD"
                       "A"},
    {"\\ud83d\\ud83d\\ude00", "\xEF\xBF\xBD\xF0\x9F\x98\x80"},
    {"\\ude00\\ud83d", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\\ud83d\\n", "\xEF\xBF\xBD\n"},
    {"\\ufffd\\uffff", "\xEF\xBF\xBD\xEF\xBF\xBF"},
    {"\\u0000", NULL},
    {"a\\u0000b", NULL},
    {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
    {"\x7F", "\x7F"},
    /* not UTF-8: stray continuation, overlong, surrogate, beyond the last, cut off */
    {"\x80", "\xEF\xBF\xBD"},
    {"\xC0\xAF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xC1\xBF", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xE0\x9F\xBF", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xE0\xA0\x80", "\xE0\xA0\x80"},
    {"\xED\x9F\xBF", "\xED\x9F\xBF"},
    {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xF0\x8F\xBF\xBF", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xF0\x90\x80\x80", "\xF0\x90\x80\x80"},
    {"\xF4\x90\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xF5\x80\x80\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xE2\x82", "\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"\xE2\x82z", "\xEF\xBF\xBD\xEF\xBF\xBDz"},
    {"\xC3", "\xEF\xBF\xBD"},
};

static void check_string(const char *raw, const char *text)
{
    char document[128];
    struct writer w = writer_of(document, sizeof document);
    writer_format(&w, "[\"%s\"]", raw);
    struct parsed p;
    parse(&p, document, w.len);
    assert_int_equal(p.result, 0);
    size_t needed = text == NULL ? 64 : strlen(text) + 1;
    for (size_t capacity = 0; capacity <= needed; capacity++) {
        char *out = guard_alloc(capacity);
        struct str view = {NULL, 99};
        bool fits = json_string(&p.doc, 1, out, capacity, &view);
        assert_int_equal(fits, text != NULL && capacity == needed);
        if (capacity > 0)
            assert_string_equal(out, fits ? text : "");
        assert_int_equal(view.len, fits ? needed - 1 : 0);
        guard_free(out, capacity);
    }
    if (text != NULL) {
        assert_true(json_string_equal(&p.doc, 1, text));
        assert_false(json_string_equal(&p.doc, 1, "no such text"));
    } else {
        assert_false(json_string_equal(&p.doc, 1, ""));
        assert_false(json_string_equal(&p.doc, 1, "a"));
    }
    release(&p);
}

static void unescapes_strings(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        check_string(strings[i].raw, strings[i].text);
}

static void write_document(struct json_writer *j)
{
    json_begin_object(j);
    json_member_text(j, "a\"b", "\x01\b\f\n\r\t\x1F\"\\/\x7F");
    json_member_string(j, "utf8", STR_LITERAL("\xC3\xA9\xE2\x80\xA8\xE2\x80\xA9\xE2\x80\xA7\xFF\xE2\x82"));
    json_member_string(j, "nul", (struct str){"\0", 1});
    json_member_string(j, "none", (struct str){NULL, 0});
    json_member_i64(j, "i", INT64_MIN);
    json_member_bool(j, "t", true);
    json_member_bool(j, "f", false);
    json_key(j, "list");
    json_begin_array(j);
    json_put_null(j);
    json_begin_object(j);
    json_end_object(j);
    json_begin_array(j);
    json_put_i64(j, 1);
    json_put_i64(j, 2);
    json_end_array(j);
    json_put_raw(j, STR_LITERAL("{\"raw\":1}"));
    json_put_text(j, "end");
    json_end_array(j);
    json_key(j, "o");
    json_begin_object(j);
    json_member_bool(j, "Z[ z", true);
    json_end_object(j);
    json_end_object(j);
}

static const char written[] =
    "{\"a\\\"b\":\"\\u0001\\b\\f\\n\\r\\t\\u001f\\\"\\\\/\x7F\",\"utf8\":\"\xC3\xA9\\u2028\\u2029\xE2\x80\xA7"
    "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\",\"nul\":\"\\u0000\",\"none\":\"\",\"i\":-9223372036854775808,"
    "\"t\":true,"
    "\"f\":false,\"list\":[null,{},[1,2],{\"raw\":1},\"end\"],\"o\":{\"Z[ z\":true}}";

static void writes_documents_inside_every_capacity(void **state)
{
    size_t whole = sizeof written - 1;
    (void) state;
    for (size_t capacity = 0; capacity <= whole; capacity++) {
        char *memory = guard_alloc(capacity);
        struct writer out = writer_of(memory, capacity);
        struct json_writer j = json_writer_of(&out);
        write_document(&j);
        assert_int_equal(out.failed, capacity < whole);
        assert_memory_equal(memory, written, out.len);
        guard_free(memory, capacity);
    }
    struct parsed p;
    parse(&p, written, whole);
    assert_int_equal(p.result, 0);
    release(&p);
}

static void writer_bounds_depth(void **state)
{
    char memory[256];
    (void) state;
    for (unsigned depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
        struct writer out = writer_of(memory, sizeof memory);
        struct json_writer j = json_writer_of(&out);
        for (unsigned i = 0; i < depth; i++) {
            if (i > 0)
                json_put_i64(&j, 1);
            json_begin_array(&j);
        }
        assert_int_equal(out.failed, depth > JSON_DEPTH_MAX);
        if (out.failed)
            continue;
        for (unsigned i = 0; i < depth; i++)
            json_end_array(&j);
        assert_true(str_starts_with(writer_view(&out), "[1,[1,[1,[") &&
                    str_ends_with(writer_view(&out), "]]]"));
        json_end_array(&j); /* one too many */
        assert_true(out.failed);
    }
}

/* Documents that a quadratic parser or look-up would need minutes for. */
static void large_documents_cost_linear_time(void **state)
{
    enum { ITEMS = 200000, SIZE = ITEMS * 12 + 16 };
    static const char *const items[] = {"[]", "{}", "\"k\":1", "\"k\":{}", "{\"a\":1}", "[[[[]]]]"};
    char *text = malloc(SIZE);
    struct json_token *tokens = malloc(5 * ITEMS * sizeof *tokens);
    (void) state;
    assert_non_null(text);
    assert_non_null(tokens);
    for (size_t kind = 0; kind < sizeof items / sizeof items[0]; kind++) {
        bool is_object = items[kind][0] == '"';
        struct writer w = writer_of(text, SIZE);
        struct json doc;
        writer_char(&w, is_object ? '{' : '[');
        for (size_t i = 0; i < ITEMS; i++) {
            writer_text(&w, i == 0 ? "" : ",");
            writer_text(&w, items[kind]);
        }
        writer_char(&w, is_object ? '}' : ']');
        assert_false(w.failed);
        clock_t start = clock();
        assert_int_equal(json_parse(&doc, writer_view(&w), tokens, 5 * ITEMS, NULL), 0);
        assert_int_equal(json_member(&doc, 0, "absent"), JSON_ABSENT);
        assert_int_equal(json_element(&doc, 0, ITEMS), JSON_ABSENT);
        assert_int_equal(json_count(&doc, 0), ITEMS);
        assert_true(clock() - start < 20 * CLOCKS_PER_SEC); /* about 20 ms; 100 times that in an emulator */
    }
    free(text);
    free(tokens);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_json),
        cmocka_unit_test(refuses_what_is_not_json),
        cmocka_unit_test(refuses_a_nul),
        cmocka_unit_test(refuses_every_beginning),
        cmocka_unit_test(bounds_tokens),
        cmocka_unit_test(bounds_depth),
        cmocka_unit_test(counts_only_open_brackets),
        cmocka_unit_test(looks_up_members),
        cmocka_unit_test(folds_ascii_only),
        cmocka_unit_test(reads_integers),
        cmocka_unit_test(reads_times),
        cmocka_unit_test(walks_members_in_order),
        cmocka_unit_test(absence_chains),
        cmocka_unit_test(unescapes_strings),
        cmocka_unit_test(writes_documents_inside_every_capacity),
        cmocka_unit_test(writer_bounds_depth),
        cmocka_unit_test(large_documents_cost_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
