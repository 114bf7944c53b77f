#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"

/* What the C library makes of the same call is what ours must make of it: text, length,
 * and the cut at every capacity. */
#define CHECK_LIKE_PRINTF(...)                                                                               \
    do {                                                                                                     \
        char theirs[256];                                                                                    \
        int their_len = snprintf(theirs, sizeof theirs, __VA_ARGS__);                                        \
        for (size_t capacity = 0; capacity <= (size_t) their_len + 2; capacity++) {                          \
            char *ours = malloc(capacity + 1);                                                               \
            assert_non_null(ours);                                                                           \
            memset(ours, '#', capacity + 1);                                                                 \
            assert_int_equal(format_text(ours, capacity, __VA_ARGS__), their_len);                           \
            assert_int_equal(ours[capacity], '#');                                                           \
            snprintf(theirs, capacity == 0 ? 1 : capacity, __VA_ARGS__);                                     \
            if (capacity > 0)                                                                                \
                assert_string_equal(ours, theirs);                                                           \
            free(ours);                                                                                      \
        }                                                                                                    \
    } while (0)

static void test_text(void **state)
{
    (void) state;
    static const char unterminated[] = {'a', 'b', 'c'};
    CHECK_LIKE_PRINTF("%s", "");
    CHECK_LIKE_PRINTF("nothing to convert");
    CHECK_LIKE_PRINTF("%s: %s%%, %c", "one", "two", 'x');
    CHECK_LIKE_PRINTF("<%.*s> <%.*s> <%.2s> <%.9s>", 3, unterminated, 0, unterminated, "xyz", "xyz");
    CHECK_LIKE_PRINTF("<%6s> <%1s>", "abc", "abc");
}

static void test_numbers(void **state)
{
    (void) state;
    CHECK_LIKE_PRINTF("%d %d %d %d", 0, -1, INT_MAX, INT_MIN);
    CHECK_LIKE_PRINTF("%u %u", 0U, UINT_MAX);
    CHECK_LIKE_PRINTF("%x %02x %x", 0U, 10U, UINT_MAX);
    CHECK_LIKE_PRINTF("%lld %lld %llu", LLONG_MAX, LLONG_MIN, ULLONG_MAX);
    CHECK_LIKE_PRINTF("%ld %lu %lx", LONG_MIN, ULONG_MAX, 0xFEDCBA9876543210UL);
    CHECK_LIKE_PRINTF("%zu", SIZE_MAX);
}

static void test_sign_and_width(void **state)
{
    (void) state;
    CHECK_LIKE_PRINTF("%+d %+d %+d", 3, 0, -3);
    CHECK_LIKE_PRINTF("%02u %02u %04u %03u", 5U, 123U, 42U, 0U);
    CHECK_LIKE_PRINTF("%0*u|%*d|%+05d|%05d|%5d", 9, 120U, 4, 7, 12, -12, -12);
}

/* Room for a terminator only, and for not even that. */
static void test_no_room(void **state)
{
    (void) state;
    char one[2] = "#";
    assert_int_equal(format_text(one, 1, "%d", 12345), 5);
    assert_string_equal(one, "");
    assert_int_equal(format_text(NULL, 0, "%d", 12345), 5);
}

/* gcc checks the callers' arguments against printf's conversions, which are
 * more than ours: the others show. */
static size_t unchecked(char *out, size_t capacity, const char *format, ...)
{
    va_list args;
    va_start(args, format);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t len = format_into(out, capacity, format, args);
#pragma GCC diagnostic pop
    va_end(args);
    return len;
}

static void test_unknown_conversions_show(void **state)
{
    (void) state;
    static const struct {
        const char *format;
        const char *expected;
    } cases[] = {
        {"a %q b", "a %q b"}, {"%5.1f!", "%5.1f!"}, {"end %", "end %"}, {"%l", "%l"}, {"%-5d|", "%-5d|"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[32];
        assert_int_equal(unchecked(text, sizeof text, cases[i].format), strlen(cases[i].expected));
        assert_string_equal(text, cases[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_sign_and_width),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_unknown_conversions_show),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
