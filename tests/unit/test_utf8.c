#include "base/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

/* One sequence and what it stands for; the edges of Unicode's table 3-7. */
static const struct {
    const char *bytes;
    size_t len; /* 0: malformed */
    uint32_t code;
} sequences[] = {
    {"", 0, 0},
    {"a", 1, 'a'},
    {"\x7F", 1, 0x7F},
    {"\x80", 0, 0},
    {"\xBF", 0, 0},
    {"\xC1\xBF", 0, 0},
    {"\xC2\x80", 2, 0x80},
    {"\xDF\xBF", 2, 0x7FF},
    {"\xC2", 0, 0},
    {"\xC2\x7F", 0, 0},
    {"\xC2\xC0", 0, 0},
    {"\xE0\x9F\xBF", 0, 0},
    {"\xE0\xA0\x80", 3, 0x800},
    {"\xED\x9F\xBF", 3, 0xD7FF},
    {"\xED\xA0\x80", 0, 0},
    {"\xED\xBF\xBF", 0, 0},
    {"\xEE\x80\x80", 3, 0xE000},
    {"\xEF\xBF\xBF", 3, 0xFFFF},
    {"\xE2\x82", 0, 0},
    {"\xE2\x82\x41", 0, 0},
    {"\xF0\x8F\xBF\xBF", 0, 0},
    {"\xF0\x90\x80\x80", 4, 0x10000},
    {"\xF4\x8F\xBF\xBF", 4, 0x10FFFF},
    {"\xF4\x90\x80\x80", 0, 0},
    {"\xF0\x9F\x98", 0, 0},
    {"\xF5\x80\x80\x80", 0, 0},
    {"\xFF", 0, 0},
};

static void decodes_what_is_well_formed(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof sequences / sizeof sequences[0]; i++) {
        size_t len = strlen(sequences[i].bytes);
        char *copy = guard_copy(sequences[i].bytes, len);
        uint32_t code = 0;
        assert_int_equal(utf8_decode((struct str){copy, len}, &code), sequences[i].len);
        assert_int_equal(code, sequences[i].code);
        guard_free(copy, len);
    }
}

static void encodes_every_character(void **state)
{
    (void) state;
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        char bytes[UTF8_SIZE];
        uint32_t again = 0;
        size_t len = utf8_encode(code, bytes);
        bool surrogate = code >= 0xD800 && code <= 0xDFFF;
        if (utf8_decode((struct str){bytes, len}, &again) != (surrogate ? 0 : len) ||
            (!surrogate && again != code))
            fail_msg("U+%04X", code);
    }
}

static const struct {
    const char *text;
    size_t max, len;
} cuts[] = {{"", 5, 0},
            {"abc", 3, 3},
            {"abc", 2, 2},
            {"abc", 0, 0},
            {"a\xC3\xA4", 2, 1},
            {"a\xC3\xA4", 3, 3},
            {"\xF0\x9F\x98\x80", 3, 0},
            {"\xF0\x9F\x98\x80", 4, 4},
            {"\x80\x80\x80", 2, 0}};

static void cuts_at_a_character(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        char out[8];
        assert_int_equal(utf8_limit(str_from(cuts[i].text), cuts[i].max).len, cuts[i].len);
        utf8_copy_cut(str_from(cuts[i].text), out, cuts[i].max + 1);
        assert_int_equal(strlen(out), cuts[i].len);
        assert_memory_equal(out, cuts[i].text, cuts[i].len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_what_is_well_formed),
        cmocka_unit_test(encodes_every_character),
        cmocka_unit_test(cuts_at_a_character),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
