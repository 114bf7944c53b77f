/* Blocks that sessions share: who may take how many. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "channel/pool.h"

enum { COUNT = 10000, USERS = 39 };

static struct pool pool;
static struct pool_user users[USERS];
static void *memory;

static int fresh(void **state)
{
    (void) state;
    free(memory);
    memory = calloc(COUNT, POOL_BLOCK_SIZE);
    return memory == NULL || !pool_init(&pool, memory, COUNT, USERS);
}

static int32_t take_all(struct pool_user *user)
{
    int32_t taken = 0;
    for (; pool_take(user, POOL_NORMAL) != POOL_NO_BLOCK; taken++)
        ;
    return taken;
}

static void one_user_takes_half_of_what_is_shared(void **state)
{
    (void) state;
    assert_true(pool_join(&pool, &users[0]));
    int32_t shared = COUNT - USERS * (POOL_USER_RESERVE + POOL_USER_CRITICAL);
    assert_int_equal(take_all(&users[0]), POOL_USER_RESERVE + shared / 2);
    assert_int_equal(pool_room(&users[0], POOL_NORMAL), 0);
    assert_int_equal(pool_room(&users[0], POOL_CRITICAL), POOL_USER_CRITICAL);
}

static void of_n_greedy_users_each_ends_with_its_share(void **state)
{
    int32_t total = 0;
    (void) state;
    for (int i = 0; i < USERS; i++)
        assert_true(pool_join(&pool, &users[i]));
    for (int taken = 1; taken > 0;) { /* one block at a time, in turns */
        taken = 0;
        for (int i = 0; i < USERS; i++)
            taken += pool_take(&users[i], POOL_NORMAL) != POOL_NO_BLOCK;
        total += taken;
    }
    int32_t shared = COUNT - USERS * (POOL_USER_RESERVE + POOL_USER_CRITICAL);
    for (int i = 0; i < USERS; i++)
        assert_in_range(users[i].used - POOL_USER_RESERVE, shared / (USERS + 1) - 1,
                        shared / (USERS + 1) + 1);
    assert_int_equal(pool.used, total);
}

static void a_newcomer_finds_its_reserve_beside_greedy_ones(void **state)
{
    (void) state;
    for (int i = 0; i < USERS; i++) {
        assert_true(pool_join(&pool, &users[i]));
        assert_true(take_all(&users[i]) >= POOL_USER_RESERVE);
    }
}

static void who_holds_more_gives_way_first(void **state)
{
    (void) state;
    assert_true(pool_join(&pool, &users[0]));
    assert_true(pool_join(&pool, &users[1]));
    take_all(&users[0]);
    assert_true(take_all(&users[1]) > POOL_USER_RESERVE);
    for (int i = 0; i < 100; i++)
        pool_give(&users[1], i);
    assert_int_equal(pool_room(&users[0], POOL_NORMAL), 0);
    assert_true(pool_room(&users[1], POOL_NORMAL) > 0);
}

static void there_are_no_more_users_than_reserves(void **state)
{
    struct pool_user many[USERS + 1];
    (void) state;
    for (int i = 0; i < USERS; i++)
        assert_true(pool_join(&pool, &many[i]));
    assert_false(pool_join(&pool, &many[USERS]));
    for (int i = 0; i < USERS; i++)
        for (int n = 0; n < POOL_USER_RESERVE + POOL_USER_CRITICAL; n++)
            assert_int_not_equal(pool_take(&many[i], POOL_CRITICAL), POOL_NO_BLOCK);
    pool_leave(&many[0]);
    assert_true(pool_join(&pool, &many[USERS]));
    assert_false(pool_init(&pool, memory, 100, 1));
}

static void critical_blocks_are_there_when_all_others_are_taken(void **state)
{
    int32_t blocks[POOL_USER_CRITICAL];
    (void) state;
    assert_true(pool_join(&pool, &users[0]));
    int32_t taken = take_all(&users[0]);
    for (int i = 0; i < POOL_USER_CRITICAL; i++)
        assert_int_not_equal(blocks[i] = pool_take(&users[0], POOL_CRITICAL), POOL_NO_BLOCK);
    assert_int_equal(pool_take(&users[0], POOL_CRITICAL), POOL_NO_BLOCK);
    pool_give(&users[0], blocks[0]);
    assert_int_equal(pool_take(&users[0], POOL_NORMAL),
                     POOL_NO_BLOCK); /* the critical ones are made whole first */
    assert_int_not_equal(pool_take(&users[0], POOL_CRITICAL), POOL_NO_BLOCK);
    for (int32_t i = 0; i < taken + POOL_USER_CRITICAL; i++)
        pool_give(&users[0], i);
    pool_leave(&users[0]);
    assert_int_equal(pool.used, 0);
    assert_int_equal(pool.reserved, USERS * (POOL_USER_RESERVE + POOL_USER_CRITICAL));
}

static void idle_memory_is_given_back_only_when_nobody_uses_any(void **state)
{
    size_t len;
    (void) state;
    assert_true(pool_join(&pool, &users[0]));
    assert_null(pool_idle(&pool, &len));
    int32_t block = pool_take(&users[0], POOL_NORMAL);
    memset(pool_block(&pool, block), 1, POOL_BLOCK_SIZE);
    assert_null(pool_idle(&pool, &len));
    pool_give(&users[0], block);
    assert_ptr_equal(pool_idle(&pool, &len), memory);
    assert_int_equal(len, POOL_BLOCK_SIZE);
    memset(memory, 0, len);
    assert_int_equal(pool_take(&users[0], POOL_NORMAL), 0);
}

#define TEST(name) cmocka_unit_test_setup(name, fresh)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_user_takes_half_of_what_is_shared),
        TEST(of_n_greedy_users_each_ends_with_its_share),
        TEST(a_newcomer_finds_its_reserve_beside_greedy_ones),
        TEST(who_holds_more_gives_way_first),
        TEST(there_are_no_more_users_than_reserves),
        TEST(critical_blocks_are_there_when_all_others_are_taken),
        TEST(idle_memory_is_given_back_only_when_nobody_uses_any),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
