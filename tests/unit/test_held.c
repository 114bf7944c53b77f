#include "tunnel/held.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/fresh_pool.h"

enum { SMALL_POOL = POOL_USER_BLOCKS + 20 };

static struct pool_user *user;
static struct held held;

static int setup(void **state)
{
    (void) state;
    user = fresh_pool(0, FRESH_POOL_BLOCKS);
    held = (struct held){0};
    return 0;
}

static void add(struct held *to, size_t len, uint8_t first)
{
    static uint8_t bytes[HELD_MAX + 1];
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t) (first + i);
    held_add(to, user, &(struct iovec){bytes, len}, 1, 0);
}

/* What is at the front goes on from the byte `first`, and is `len` long, at least as far as `max` vectors
 * show. */
static size_t check_front(uint8_t first, int max)
{
    struct iovec vectors[64];
    size_t total = 0;
    int count = held_front(&held, user->pool, vectors, max);
    assert_in_range(count, 0, max);
    for (int i = 0; i < count; i++) {
        assert_int_not_equal(vectors[i].iov_len, 0);
        for (size_t at = 0; at < vectors[i].iov_len; at++, total++)
            assert_int_equal(((const uint8_t *) vectors[i].iov_base)[at], (uint8_t) (first + total));
    }
    return total;
}

static void what_was_added_comes_out_in_order_in_any_pieces(void **state)
{
    (void) state;
    for (size_t piece = 1; piece < 3 * HELD_BLOCK_SIZE; piece += 191) {
        size_t taken = 0;
        add(&held, 10, 0);
        add(&held, 5 * HELD_BLOCK_SIZE, 10);
        while (held.len > 0) {
            size_t n = piece < held.len ? piece : held.len;
            assert_int_equal(check_front((uint8_t) taken, 64), held.len);
            held_take(&held, user, n);
            taken += n;
        }
        assert_int_equal(taken, 5 * HELD_BLOCK_SIZE + 10);
        assert_int_equal(check_front(0, 64), 0);
        assert_int_equal(user->used, 0); /* with the last byte its block goes */
    }
}

static void few_vectors_show_the_beginning(void **state)
{
    (void) state;
    add(&held, 5 * HELD_BLOCK_SIZE, 0);
    assert_int_equal(check_front(0, 1), HELD_BLOCK_SIZE);
    held_take(&held, user, 1);
    assert_int_equal(check_front(1, 2), 2 * HELD_BLOCK_SIZE - 1);
}

static void vectors_are_added_behind_what_was_taken_of_them(void **state)
{
    uint8_t bytes[] = {0, 1, 2, 3, 4, 5};
    struct iovec vectors[] = {{bytes, 2}, {bytes + 2, 1}, {bytes + 3, 3}};
    (void) state;
    held_add(&held, user, vectors, 3, 4);
    assert_int_equal(held.len, 2);
    assert_int_equal(check_front(4, 64), 2);
    held_add(&held, user, vectors, 3, 6);
    assert_int_equal(held.len, 2);
}

static void blocks_are_filled(void **state)
{
    (void) state;
    for (int i = 0; i < 10 * HELD_BLOCK_SIZE; i++)
        add(&held, 1, (uint8_t) i);
    assert_int_equal(user->used, 10);
    held_drop(&held, user);
    assert_int_equal(held.len, 0);
    assert_int_equal(user->used, 0);
    add(&held, 1, 7); /* and it can be used again */
    assert_int_equal(check_front(7, 64), 1);
}

static void one_stream_may_not_use_up_the_room_of_all(void **state)
{
    struct held other = {0};
    (void) state;
    assert_int_equal(held_room(&held, user, 0), HELD_STREAM_MAX);
    add(&held, HELD_STREAM_MAX - 1, 0);
    assert_int_equal(held_room(&held, user, HELD_STREAM_MAX - 1), 1);
    add(&held, 1, 0);
    assert_int_equal(held_room(&held, user, HELD_STREAM_MAX), 0);
    assert_int_equal(held_room(&other, user, HELD_STREAM_MAX), HELD_MAX - HELD_STREAM_MAX);
    assert_int_equal(held_room(&other, user, HELD_MAX), 0);
}

/* What held_room says is there when it is asked for, to the last byte. */
static void the_pool_bounds_it_too(void **state)
{
    size_t total = 0;
    (void) state;
    user = fresh_pool(0, SMALL_POOL);
    add(&held, 100, 0);
    total = 100;
    for (size_t room; (room = held_room(&held, user, total)) > 0;) {
        add(&held, room, (uint8_t) total);
        total += room;
        assert_int_equal(held.len, total);
    }
    assert_true(total >= (size_t) POOL_USER_RESERVE * HELD_BLOCK_SIZE);
    assert_int_equal(pool_room(user, POOL_NORMAL), 0);
    held_take(&held, user, HELD_BLOCK_SIZE);
    assert_true(held_room(&held, user, held.len) >= HELD_BLOCK_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_was_added_comes_out_in_order_in_any_pieces, setup),
        cmocka_unit_test_setup(few_vectors_show_the_beginning, setup),
        cmocka_unit_test_setup(vectors_are_added_behind_what_was_taken_of_them, setup),
        cmocka_unit_test_setup(blocks_are_filled, setup),
        cmocka_unit_test_setup(one_stream_may_not_use_up_the_room_of_all, setup),
        cmocka_unit_test_setup(the_pool_bounds_it_too, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
