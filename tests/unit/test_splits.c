/* The tests' own tool: whatever the way of cutting, the pieces are the input, and the ways are those
 * promised. */
#include "lib/splits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum { INPUT_MAX = 100 };

static void fill(uint8_t *input, size_t len)
{
    for (size_t i = 0; i < len; i++)
        input[i] = (uint8_t) i;
}

static void pieces_add_up_to_the_input(void **state)
{
    uint8_t input[INPUT_MAX];
    (void) state;
    fill(input, sizeof input);
    for (size_t len = 0; len <= sizeof input; len++) {
        struct splits s = splits_of(input, len);
        while (splits_next(&s)) {
            uint8_t joined[INPUT_MAX];
            size_t joined_len = 0;
            const uint8_t *piece;
            size_t piece_len;
            while (splits_piece(&s, &piece, &piece_len)) {
                assert_true(piece_len > 0 && joined_len + piece_len <= len);
                memcpy(joined + joined_len, piece, piece_len);
                joined_len += piece_len;
            }
            assert_int_equal(joined_len, len);
            assert_memory_equal(joined, input, len);
        }
    }
}

/* How many ways have `pieces` pieces, the last way included. */
static unsigned count_ways(size_t input_len, unsigned wanted_pieces)
{
    uint8_t input[INPUT_MAX] = {0};
    unsigned ways = 0;
    fill(input, input_len);
    struct splits s = splits_of(input, input_len);
    while (splits_next(&s)) {
        const uint8_t *piece;
        size_t piece_len;
        unsigned pieces = 0;
        while (splits_piece(&s, &piece, &piece_len))
            pieces++;
        ways += pieces == wanted_pieces;
    }
    return ways;
}

static void every_way_is_there(void **state)
{
    (void) state;
    assert_int_equal(count_ways(0, 0), 1);
    assert_int_equal(count_ways(1, 1), 1);
    assert_int_equal(count_ways(20, 1), 1);
    assert_int_equal(count_ways(20, 2), 19 + 2);          /* 11+9, 13+7 come twice */
    assert_int_equal(count_ways(20, 3), 19 * 18 / 2 + 1); /* 7+7+6 too */
    assert_int_equal(count_ways(20, 20), 1);
    assert_int_equal(count_ways(64, 3), 63 * 62 / 2);
    assert_int_equal(count_ways(65, 3), 0);
    assert_int_equal(count_ways(65, 2), 64);
    assert_int_equal(count_ways(65, 65), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_add_up_to_the_input),
        cmocka_unit_test(every_way_is_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
