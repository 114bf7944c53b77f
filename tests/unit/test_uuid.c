#include "base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static void version_4_sets_its_bits_only(void **state)
{
    static const struct {
        uint8_t random; /* every byte */
        const char *text;
    } cases[] = {
        {0x00, "00000000-0000-4000-8000-000000000000"},
        {0xFF, "ffffffff-ffff-4fff-bfff-ffffffffffff"},
        {0x5A, "5a5a5a5a-5a5a-4a5a-9a5a-5a5a5a5a5a5a"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t random[UUID_SIZE];
        uint8_t uuid[UUID_SIZE];
        char text[UUID_TEXT_SIZE];
        memset(random, cases[i].random, sizeof random);
        uuid_v4(uuid, random);
        uuid_format(uuid, text);
        assert_string_equal(text, cases[i].text);
        uuid_v4(random, random); /* in place */
        assert_memory_equal(random, uuid, sizeof uuid);
    }
}

static void parses_what_it_formats(void **state)
{
    static const uint8_t expected[UUID_SIZE] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF,
                                                0xFE, 0xDC, 0xBA, 0x98, 0x76, 0x54, 0x32, 0x10};
    char *text = guard_copy("01234567-89AB-cdef-FEDC-ba9876543210", UUID_TEXT_SIZE - 1);
    uint8_t uuid[UUID_SIZE];
    char again[UUID_TEXT_SIZE];
    (void) state;
    assert_true(uuid_parse((struct str){text, UUID_TEXT_SIZE - 1}, uuid));
    assert_memory_equal(uuid, expected, sizeof uuid);
    uuid_format(uuid, again);
    assert_string_equal(again, "01234567-89ab-cdef-fedc-ba9876543210");
    guard_free(text, UUID_TEXT_SIZE - 1);
}

static const char *const refused[] = {
    "",
    "01234567-89ab-cdef-fedc-ba987654321",
    "01234567-89ab-cdef-fedc-ba98765432100",
    "0123456789abcdeffedcba9876543210",
    "01234567-89ab-cdef-fedc-ba987654321g",
    "0123456-789ab-cdef-fedc-ba9876543210",
    "01234567x89ab-cdef-fedc-ba9876543210",
    "01234567-89ab-cdef-fedc+ba9876543210",
    "-1234567-89ab-cdef-fedc-ba9876543210",
    "{1234567-89ab-cdef-fedc-ba987654321}",
};

static void refuses_other_forms(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        size_t len = strlen(refused[i]);
        char *text = guard_copy(refused[i], len);
        uint8_t uuid[UUID_SIZE] = {7};
        assert_false(uuid_parse((struct str){text, len}, uuid));
        assert_int_equal(uuid[0], 7);
        guard_free(text, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_4_sets_its_bits_only),
        cmocka_unit_test(parses_what_it_formats),
        cmocka_unit_test(refuses_other_forms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
