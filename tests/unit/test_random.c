#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/prng.h"
#include "host/clock.h"
#include "host/random.h"

static void bytes_do_not_repeat_across_refills(void **state)
{
    (void) state;
    /* 4,096 is the pool: sizes that divide it, that do not, and that are larger. */
    static const size_t sizes[] = {16, 17, 100, 4095, 4096, 4097, 10000};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        static uint8_t previous[10000];
        static uint8_t current[10000];
        memset(previous, 0, sizeof previous);
        for (int i = 0; i < 600; i++) {
            random_bytes(current, sizes[s]);
            assert_memory_not_equal(current, previous, 16);
            /* Ends too: a tail left unwritten would stay 0. The odds of 8 true zeroes are 2^-64. */
            static const uint8_t zeroes[8];
            assert_memory_not_equal(current + sizes[s] - 8, zeroes, 8);
            memcpy(previous, current, sizes[s]);
        }
    }
}

static void adding_to_a_time_does_not_overflow(void **state)
{
    (void) state;
    assert_int_equal(clock_after_ms(5, 7), 12);
    assert_int_equal(clock_after_ms(5, CLOCK_NEVER), CLOCK_NEVER);
    assert_int_equal(clock_after_ms(5, CLOCK_NEVER - 5), CLOCK_NEVER);
    assert_int_equal(clock_after_ms(5, CLOCK_NEVER - 6), CLOCK_NEVER - 1);
    assert_true(clock_unix_ms() > 1700000000000); /* November 2023 */
}

static void jitter_stays_below_its_bound_and_differs(void **state)
{
    uint64_t a = 1, b = 2;
    unsigned same = 0;
    (void) state;
    for (int i = 0; i < 1000; i++) {
        uint64_t first = prng_jitter(&a, 100), second = prng_jitter(&b, 100);
        assert_true(first < 100 && second < 100);
        same += first == second;
    }
    assert_true(same < 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_do_not_repeat_across_refills),
        cmocka_unit_test(adding_to_a_time_does_not_overflow),
        cmocka_unit_test(jitter_stays_below_its_bound_and_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
