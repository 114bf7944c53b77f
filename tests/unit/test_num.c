#include "base/num.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void chooses_the_smaller_and_the_larger(void **state)
{
    (void) state;
    assert_true(num_min_i64(INT64_MIN, INT64_MAX) == INT64_MIN);
    assert_true(num_max_i64(INT64_MIN, INT64_MAX) == INT64_MAX);
    assert_true(num_min_i64(7, -7) == -7);
    assert_true(num_max_i64(7, -7) == 7);
    assert_true(num_min_u32(0, UINT32_MAX) == 0);
    assert_true(num_max_u32(0, UINT32_MAX) == UINT32_MAX);
    assert_true(num_min_size(SIZE_MAX, 1) == 1);
    assert_true(num_min_size(1, 1) == 1);
}

static void adds_up_to_never(void **state)
{
    (void) state;
    assert_true(num_add_ms(5, 7) == 12);
    assert_true(num_add_ms(-5, 5) == 0);
    assert_true(num_add_ms(INT64_MAX - 1, 1) == INT64_MAX);
    assert_true(num_add_ms(INT64_MAX - 1, 2) == INT64_MAX);
    assert_true(num_add_ms(INT64_MAX, 0) == INT64_MAX);
    assert_true(num_add_ms(INT64_MAX, INT64_MAX) == INT64_MAX);
    assert_true(num_add_ms(INT64_MIN, INT64_MAX) == -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chooses_the_smaller_and_the_larger),
        cmocka_unit_test(adds_up_to_never),
    };
    return cmocka_run_group_tests_name("num", tests, NULL, NULL);
}
