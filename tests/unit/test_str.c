#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static const struct str nothing = {NULL, 0};

/* A view of a copy that ends at an unmapped page. */
static struct str guarded(const char *text)
{
    size_t len = strlen(text);
    return (struct str){guard_copy(text, len), len};
}

static void release(struct str view)
{
    guard_free((void *) view.ptr, view.len);
}

static void compares(void **state)
{
    struct str abc = guarded("aBc");
    (void) state;
    assert_int_equal(str_from(NULL).len, 0);
    assert_int_equal(str_from("abc").len, 3);
    assert_true(str_equal(abc, STR_LITERAL("aBc")));
    assert_false(str_equal(abc, STR_LITERAL("aBcd")));
    assert_false(str_equal(abc, STR_LITERAL("aBd")));
    assert_true(str_equal(nothing, STR_LITERAL("")));
    assert_true(str_equal_text(abc, "aBc"));
    assert_false(str_equal_text(abc, "aBcd"));
    assert_false(str_equal_text(abc, NULL));
    assert_true(str_equal_text(nothing, NULL));
    assert_true(str_equal_nocase(abc, "AbC"));
    assert_false(str_equal_nocase(abc, "AbCd"));
    assert_true(str_equal_nocase(STR_LITERAL("azAZ"), "AZaz"));
    assert_false(str_equal_nocase(STR_LITERAL("@["), "`{")); /* the neighbours of the letters */
    assert_false(str_equal_nocase(STR_LITERAL("\xC3\x84"), "\xC3\xA4"));
    release(abc);
}

static void knows_ends(void **state)
{
    struct str text = guarded("bastion");
    (void) state;
    assert_true(str_starts_with(text, "bast"));
    assert_true(str_starts_with(text, ""));
    assert_true(str_starts_with(text, "bastion"));
    assert_false(str_starts_with(text, "bastions"));
    assert_false(str_starts_with(text, "ast"));
    assert_true(str_ends_with(text, "ion"));
    assert_true(str_ends_with(text, ""));
    assert_true(str_ends_with(text, "bastion"));
    assert_false(str_ends_with(text, "a bastion"));
    assert_false(str_ends_with(text, "io"));
    assert_true(str_starts_with(nothing, ""));
    assert_false(str_ends_with(nothing, "x"));
    release(text);
}

static const struct {
    size_t from, to;
    const char *expected;
} slices[] = {
    {0, 4, "text"}, {1, 3, "ex"}, {0, 99, "text"},          {4, 4, ""},
    {5, 9, ""},     {3, 1, ""},   {SIZE_MAX, SIZE_MAX, ""},
};

static void slices_within_the_view(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof slices / sizeof slices[0]; i++) {
        struct str slice = str_slice(STR_LITERAL("text"), slices[i].from, slices[i].to);
        assert_true(str_equal_text(slice, slices[i].expected));
    }
    assert_null(str_slice(nothing, 0, 5).ptr);
}

static const struct {
    const char *text;
    const char *expected;
} trims[] = {
    {"", ""}, {"a", "a"}, {" \t\r\na b\n", "a b"}, {"   ", ""}, {"\va\v", "\va\v"}, {"a ", "a"}, {" a", "a"},
};

static void trims_blanks(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof trims / sizeof trims[0]; i++) {
        struct str text = guarded(trims[i].text);
        assert_true(str_equal_text(str_trim(text), trims[i].expected));
        release(text);
    }
    assert_int_equal(str_trim(nothing).len, 0);
}

static const struct {
    const char *text;
    size_t max;
    const char *expected;
} limits[] = {
    {"abc", 3, "abc"},
    {"abc", 4, "abc"},
    {"abc", 2, "ab"},
    {"abc", 0, ""},
    {"", 0, ""},
    {"a\xC3\xA9", 2, "a"},
    {"a\xC3\xA9", 3, "a\xC3\xA9"},
    {"\xF0\x9F\x98\x80!", 3, ""},
    {"\xF0\x9F\x98\x80!", 4, "\xF0\x9F\x98\x80"},
    {"\xA9\xA9\xA9", 2, ""}, /* nothing that begins a character */
};

static void limits_at_a_character(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
        struct str text = guarded(limits[i].text);
        assert_true(str_equal_text(str_limit_utf8(text, limits[i].max), limits[i].expected));
        release(text);
    }
}

static const struct {
    const char *text;
    bool found;
    const char *head, *tail;           /* cut at the first */
    const char *last_head, *last_tail; /* cut at the last */
} cuts[] = {
    {"", false, "", "", "", ""},
    {"abc", false, "abc", "", "abc", ""},
    {":", true, "", "", "", ""},
    {"a:b", true, "a", "b", "a", "b"},
    {"a:b:c", true, "a", "b:c", "a:b", "c"},
    {":a", true, "", "a", "", "a"},
    {"a:", true, "a", "", "a", ""},
};

static void cuts_at_separators(void **state)
{
    struct str head;
    struct str tail;
    (void) state;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct str text = guarded(cuts[i].text);
        assert_int_equal(str_cut(text, ':', &head, &tail), cuts[i].found);
        assert_true(str_equal_text(head, cuts[i].head) && str_equal_text(tail, cuts[i].tail));
        assert_int_equal(str_cut_last(text, ':', &head, &tail), cuts[i].found);
        assert_true(str_equal_text(head, cuts[i].last_head) && str_equal_text(tail, cuts[i].last_tail));
        release(text);
    }
    assert_false(str_cut(nothing, ':', &head, &tail));
    /* head or tail may be the view that is cut */
    struct str rest = STR_LITERAL("x,y");
    assert_true(str_cut(rest, ',', &head, &rest));
    assert_true(str_equal_text(head, "x") && str_equal_text(rest, "y"));
}

static const struct {
    const char *text, *needle;
    int at; /* -1: not there */
    int at_nocase;
} finds[] = {
    {"", "", 0, 0},       {"", "a", -1, -1},      {"abc", "", 0, 0},     {"abc", "c", 2, 2},
    {"abc", "bc", 1, 1},  {"abc", "bcd", -1, -1}, {"abc", "BC", -1, 1},  {"aab", "ab", 1, 1},
    {"aAaB", "aB", 2, 2}, {"aABab", "ab", 3, 1},  {"ab", "abc", -1, -1},
};

static void finds_needles(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof finds / sizeof finds[0]; i++) {
        struct str text = guarded(finds[i].text);
        size_t at = 77;
        assert_int_equal(str_find(text, finds[i].needle, &at), finds[i].at >= 0);
        assert_int_equal(at, finds[i].at >= 0 ? finds[i].at : 77);
        at = 77;
        assert_int_equal(str_find_nocase(text, finds[i].needle, &at), finds[i].at_nocase >= 0);
        assert_int_equal(at, finds[i].at_nocase >= 0 ? finds[i].at_nocase : 77);
        release(text);
    }
}

static const struct {
    const char *text;
    bool u64, u32, port, hex; /* which of the parsers take it */
    uint64_t decimal, hexadecimal;
} numbers[] = {
    {"", false, false, false, false, 0, 0},
    {"0", true, true, false, true, 0, 0},
    {"1", true, true, true, true, 1, 1},
    {"00080", true, true, true, true, 80, 0x80},
    {"65535", true, true, true, true, 65535, 0x65535},
    {"65536", true, true, false, true, 65536, 0x65536},
    {"4294967295", true, true, false, true, UINT32_MAX, 0x4294967295},
    {"4294967296", true, false, false, true, 4294967296, 0x4294967296},
    {"18446744073709551615", true, false, false, false, UINT64_MAX, 0},
    {"18446744073709551616", false, false, false, false, 0, 0},
    {"18446744073709551620", false, false, false, false, 0, 0},
    {"99999999999999999999", false, false, false, false, 0, 0},
    {"ffffffffffffffff", false, false, false, true, 0, UINT64_MAX},
    {"0FfFfFfFfFfFfFfFf", false, false, false, true, 0, UINT64_MAX},
    {"10000000000000000", true, false, false, false, 10000000000000000, 0},
    {"aF9", false, false, false, true, 0, 0xAF9},
    {"g", false, false, false, false, 0, 0},
    {"-1", false, false, false, false, 0, 0},
    {"+1", false, false, false, false, 0, 0},
    {" 1", false, false, false, false, 0, 0},
    {"1 ", false, false, false, false, 0, 0},
    {"1.0", false, false, false, false, 0, 0},
    {"0x1", false, false, false, false, 0, 0},
};

static void parses_numbers(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct str text = guarded(numbers[i].text);
        uint64_t wide = 7;
        uint32_t narrow = 7;
        uint16_t port = 7;
        uint64_t hex = 7;
        assert_int_equal(str_parse_u64(text, &wide), numbers[i].u64);
        assert_true(wide == (numbers[i].u64 ? numbers[i].decimal : 7));
        assert_int_equal(str_parse_u32(text, &narrow), numbers[i].u32);
        assert_true(narrow == (numbers[i].u32 ? numbers[i].decimal : 7));
        assert_int_equal(str_parse_port(text, &port), numbers[i].port);
        assert_true(port == (numbers[i].port ? numbers[i].decimal : 7));
        assert_int_equal(str_parse_hex_u64(text, &hex), numbers[i].hex);
        assert_true(hex == (numbers[i].hex ? numbers[i].hexadecimal : 7));
        release(text);
    }
}

static void copies_whole_or_not_at_all(void **state)
{
    char out[4] = "zzz";
    (void) state;
    assert_true(str_copy(STR_LITERAL("abc"), out, sizeof out));
    assert_string_equal(out, "abc");
    assert_false(str_copy(STR_LITERAL("abcd"), out, sizeof out));
    assert_string_equal(out, "");
    assert_true(str_copy(nothing, out, 1));
    assert_false(str_copy(nothing, NULL, 0));
}

static void knows_ascii(void **state)
{
    (void) state;
    for (int byte = 0; byte < 256; byte++) {
        char c = (char) byte;
        bool digit = byte >= '0' && byte <= '9';
        bool upper = byte >= 'A' && byte <= 'Z', lower = byte >= 'a' && byte <= 'z';
        assert_int_equal(str_is_digit(c), digit);
        assert_int_equal(str_is_letter(c), upper || lower);
        assert_int_equal(str_is_alnum(c), digit || upper || lower);
        assert_int_equal(str_is_control(c), byte < 32 || byte == 127);
        assert_int_equal((unsigned char) str_lower(c), upper ? byte + 32 : byte);
    }
    assert_true(str_all(STR_LITERAL("0123456789"), str_is_digit));
    assert_false(str_all(STR_LITERAL("0123456789:"), str_is_digit));
    assert_true(str_all(nothing, str_is_digit));
}

static const struct {
    const char *list;
    const char *items; /* each followed by a bar */
} lists[] = {{"", ""},
             {",", ""},
             {" ,\t\r\n, ", ""},
             {"a", "a|"},
             {"a,b", "a|b|"},
             {"a b", "a|b|"},
             {" a , b ,, c:1=d\n", "a|b|c:1=d|"},
             {",a", "a|"},
             {"a,", "a|"}};

static void takes_items_off_a_list(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct str whole = guarded(lists[i].list), rest = whole, item;
        char found[32] = "";
        while (str_take_item(&rest, &item)) {
            strncat(found, item.ptr, item.len);
            strcat(found, "|");
        }
        assert_string_equal(found, lists[i].items);
        assert_int_equal(rest.len, 0);
        assert_int_equal(item.len, 0);
        release(whole);
    }
}

static const struct {
    const char *text;
    bool valid;
    const char *host;
    const char *port; /* null: none */
} addresses[] = {{"db:5432", true, "db", "5432"},
                 {"db", true, "db", NULL},
                 {"db:", true, "db", ""},
                 {"10.0.0.1:1", true, "10.0.0.1", "1"},
                 {"*.internal:5432-5439", true, "*.internal", "5432-5439"},
                 {"[fd00::1]:5432", true, "fd00::1", "5432"},
                 {"[fd00::1]", true, "fd00::1", NULL},
                 {"[fd00::1]:", true, "fd00::1", ""},
                 {"[fd00::/8]:1-2", true, "fd00::/8", "1-2"},
                 {"fd00::1", true, "fd00::1", NULL},
                 {"::1", true, "::1", NULL},
                 {"[db]:1", true, "db", "1"},
                 {"", false, NULL, NULL},
                 {":5432", false, NULL, NULL},
                 {"[", false, NULL, NULL},
                 {"[fd00::1", false, NULL, NULL},
                 {"[]:5432", false, NULL, NULL},
                 {"[fd00::1]5432", false, NULL, NULL},
                 {"[fd00::1] :5432", false, NULL, NULL}};

static void splits_host_and_port(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct str text = guarded(addresses[i].text), host, port;
        assert_int_equal(str_split_host_port(text, &host, &port), addresses[i].valid);
        if (addresses[i].valid) {
            assert_true(str_equal_text(host, addresses[i].host));
            assert_true(str_equal_text(port, addresses[i].port));
            assert_int_equal(port.ptr == NULL, addresses[i].port == NULL);
        }
        release(text);
    }
}

static void a_hash_is_fnv_1a(void **state)
{
    (void) state;
    assert_true(str_hash(str_from("")) == 0xcbf29ce484222325);
    assert_true(str_hash(str_from("a")) == 0xaf63dc4c8601ec8c);
    assert_true(str_hash(str_from("foobar")) == 0x85944171f73967e8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hash_is_fnv_1a),     cmocka_unit_test(compares),
        cmocka_unit_test(knows_ends),           cmocka_unit_test(slices_within_the_view),
        cmocka_unit_test(trims_blanks),         cmocka_unit_test(limits_at_a_character),
        cmocka_unit_test(cuts_at_separators),   cmocka_unit_test(finds_needles),
        cmocka_unit_test(parses_numbers),       cmocka_unit_test(copies_whole_or_not_at_all),
        cmocka_unit_test(knows_ascii),          cmocka_unit_test(takes_items_off_a_list),
        cmocka_unit_test(splits_host_and_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
