#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include "host/loop.h"

static struct loop loop;

static int setup(void **state)
{
    (void) state;
    return loop_open(&loop, NULL);
}

static int teardown(void **state)
{
    (void) state;
    loop_close(&loop);
    return 0;
}

/* What ran, in order: each callback writes its letter. */
static char trace[256];

static void trace_reset(void)
{
    trace[0] = '\0';
}

static void trace_add(char letter)
{
    size_t len = strlen(trace);
    assert_true(len + 1 < sizeof trace);
    trace[len] = letter;
    trace[len + 1] = '\0';
}

/* --- timers --------------------------------------------------------------------------------------------- */

enum { MANY = 2000 };

static struct loop_timer timers[MANY];
static int64_t expected_due_ms[MANY]; /* what the model says; CLOCK_NEVER when not set */
static int64_t last_due_ms;
static int fired;

static void note_expiry(struct loop_timer *timer)
{
    size_t index = (size_t) (timer - timers);
    assert_false(timer->queued);
    assert_true(expected_due_ms[index] >= last_due_ms);
    last_due_ms = expected_due_ms[index];
    expected_due_ms[index] = CLOCK_NEVER;
    fired++;
}

static void timers_fire_in_order_whatever_was_done_to_them(void **state)
{
    (void) state;
    uint32_t seed = 12345;
    for (int i = 0; i < MANY; i++) {
        loop_timer_init(&timers[i], note_expiry);
        expected_due_ms[i] = CLOCK_NEVER;
    }
    /* All in the past, so that the order of the heap alone decides. */
    for (int step = 0; step < 20000; step++) {
        seed = seed * 1664525U + 1013904223U;
        int index = (int) ((seed >> 8) % MANY);
        bool take_away = (seed >> 28) == 0;
        expected_due_ms[index] = take_away ? CLOCK_NEVER : (int64_t) ((seed >> 4) % 1000);
        loop_timer_set(&loop, &timers[index], expected_due_ms[index]);
    }
    int set = 0;
    for (int i = 0; i < MANY; i++)
        set += expected_due_ms[i] != CLOCK_NEVER;
    fired = 0;
    last_due_ms = 0;
    int turns = 0;
    while (loop.timers != NULL) {
        assert_int_equal(loop_turn(&loop, 0, NULL), 0);
        turns++;
    }
    assert_int_equal(fired, set);
    /* On a slow machine the stage's time is up before LOOP_TIMERS_PER_TURN are done. */
    assert_true(turns >= (set + LOOP_TIMERS_PER_TURN - 1) / LOOP_TIMERS_PER_TURN);
}

static void set_again_to_the_past(struct loop_timer *timer)
{
    fired++;
    loop_timer_set(&loop, timer, 0);
}

static void a_timer_that_is_always_due_does_not_keep_the_loop(void **state)
{
    (void) state;
    loop_timer_init(&timers[0], set_again_to_the_past);
    loop_timer_set(&loop, &timers[0], 0);
    fired = 0;
    assert_int_equal(loop_turn(&loop, CLOCK_NEVER, NULL), 0);
    assert_int_equal(fired, LOOP_TIMERS_PER_TURN);
    loop_timer_remove(&loop, &timers[0]);
    assert_null(loop.timers);
}

static void remove_the_other(struct loop_timer *timer)
{
    fired++;
    loop_timer_remove(&loop, timer == &timers[0] ? &timers[1] : &timers[0]);
}

static void a_timer_may_remove_another_that_is_due(void **state)
{
    (void) state;
    for (int i = 0; i < 2; i++) {
        loop_timer_init(&timers[i], remove_the_other);
        loop_timer_set(&loop, &timers[i], 1);
    }
    fired = 0;
    loop_turn(&loop, 0, NULL);
    assert_int_equal(fired, 1);
    assert_null(loop.timers);
}

static void stop_the_loop(struct loop_timer *timer)
{
    (void) timer;
    loop_stop(&loop);
}

static void the_wait_ends_when_the_timer_is_due(void **state)
{
    (void) state;
    int64_t start_ms = clock_monotonic_ms();
    loop_timer_init(&timers[0], stop_the_loop);
    loop_timer_set(&loop, &timers[0], start_ms + 30);
    assert_int_equal(loop_run(&loop, NULL), 0);
    assert_in_range(loop_now_ms(&loop) - start_ms, 30, 1000);
}

/* --- watches -------------------------------------------------------------------------------------------- */

struct pair {
    struct loop_watch watch;
    struct pair *other;
    int calls;
};

static void pair_ready(struct loop_watch *watch, uint32_t events)
{
    struct pair *pair = LOOP_OWNER(watch, struct pair, watch);
    assert_true((events & EPOLLIN) != 0);
    pair->calls++;
    int fd = pair->other->watch.fd;
    loop_watch_remove(&loop, &pair->other->watch);
    loop_watch_remove(&loop, &pair->watch);
    loop_watch_remove(&loop, &pair->watch);
    close(fd);
}

static void a_watch_removed_in_the_turn_is_not_called(void **state)
{
    (void) state;
    struct pair a = {.watch = LOOP_WATCH_INIT};
    struct pair b = {.watch = LOOP_WATCH_INIT, .other = &a};
    a.other = &b;
    int a_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    int b_fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(loop_watch_add(&loop, &a.watch, a_fd, EPOLLIN, pair_ready, NULL), 0);
    assert_int_equal(loop_watch_add(&loop, &b.watch, b_fd, EPOLLIN, pair_ready, NULL), 0);
    loop_turn(&loop, 1000, NULL);
    assert_int_equal(a.calls + b.calls, 1);
    loop_turn(&loop, 0, NULL);
    assert_int_equal(a.calls + b.calls, 1);
    close(a.calls == 1 ? a_fd : b_fd);
}

static void count_call(struct loop_watch *watch, uint32_t events)
{
    (void) events;
    LOOP_OWNER(watch, struct pair, watch)->calls++;
}

static void a_watch_follows_its_events(void **state)
{
    (void) state;
    struct pair a = {.watch = LOOP_WATCH_INIT};
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(loop_watch_add(&loop, &a.watch, fd, EPOLLIN, count_call, NULL), 0);
    loop_turn(&loop, 0, NULL);
    assert_int_equal(a.calls, 1);
    loop_watch_set(&loop, &a.watch, 0);
    loop_turn(&loop, 0, NULL);
    assert_int_equal(a.calls, 1);
    loop_watch_set(&loop, &a.watch, EPOLLOUT);
    loop_turn(&loop, 0, NULL);
    assert_int_equal(a.calls, 2);
    loop_watch_remove(&loop, &a.watch);
    loop_turn(&loop, 0, NULL);
    assert_int_equal(a.calls, 2);
    close(fd);
}

static void a_bad_descriptor_is_an_error_in_words(void **state)
{
    (void) state;
    struct error err = ERROR_INIT;
    struct loop_watch watch;
    assert_int_equal(loop_watch_add(&loop, &watch, 9999, EPOLLIN, count_call, &err), ERROR_SYSTEM);
    assert_string_equal(err.text, "epoll_ctl(ADD, 9999): Bad file descriptor");
    assert_int_equal(watch.fd, -1);
}

/* --- hooks ---------------------------------------------------------------------------------------------- */

static struct loop_hook gather_hooks[3];
static struct loop_hook flush_hooks[3];

static void run_gather(struct loop_hook *hook)
{
    trace_add((char) ('a' + (hook - gather_hooks)));
    if (hook == &gather_hooks[0]) {
        loop_hook_queue(&loop, &flush_hooks[0]);
        loop_hook_queue(&loop, &gather_hooks[1]);
    }
}

static void run_flush(struct loop_hook *hook)
{
    trace_add((char) ('A' + (hook - flush_hooks)));
}

static void init_hooks(void)
{
    trace_reset();
    for (int i = 0; i < 3; i++) {
        loop_hook_init(&gather_hooks[i], LOOP_GATHER, run_gather);
        loop_hook_init(&flush_hooks[i], LOOP_FLUSH, run_flush);
    }
}

static void everything_is_gathered_before_anything_is_flushed(void **state)
{
    (void) state;
    init_hooks();
    loop_hook_queue(&loop, &flush_hooks[1]);
    loop_hook_queue(&loop, &gather_hooks[0]);
    loop_hook_queue(&loop, &gather_hooks[2]);
    loop_hook_queue(&loop, &gather_hooks[0]); /* queued already */
    assert_int_equal(loop_turn(&loop, CLOCK_NEVER, NULL), 0);
    assert_string_equal(trace, "acbBA");
}

static void a_removed_hook_does_not_run(void **state)
{
    (void) state;
    static const struct {
        int removed;
        const char *expected;
    } cases[] = {{0, "BC"}, {1, "AC"}, {2, "AB"}};
    for (size_t i = 0; i < 3; i++) {
        init_hooks();
        for (int h = 0; h < 3; h++)
            loop_hook_queue(&loop, &flush_hooks[h]);
        loop_hook_remove(&loop, &flush_hooks[cases[i].removed]);
        loop_hook_remove(&loop, &flush_hooks[cases[i].removed]);
        loop_turn(&loop, CLOCK_NEVER, NULL);
        assert_string_equal(trace, cases[i].expected);
    }
}

static void queue_itself(struct loop_hook *hook)
{
    trace_add('x');
    loop_hook_queue(&loop, hook);
}

static void a_hook_that_queues_itself_gets_a_bounded_number_of_rounds(void **state)
{
    (void) state;
    init_hooks();
    gather_hooks[0].run = queue_itself;
    loop_hook_queue(&loop, &gather_hooks[0]);
    loop_turn(&loop, CLOCK_NEVER, NULL);
    assert_int_equal(strlen(trace), LOOP_HOOK_ROUNDS);
    loop_turn(&loop, CLOCK_NEVER, NULL); /* does not wait: something is left to do */
    assert_int_equal(strlen(trace), 2 * LOOP_HOOK_ROUNDS);
}

static void remove_all_others(struct loop_hook *hook)
{
    trace_add('r');
    for (int i = 0; i < 3; i++)
        if (&flush_hooks[i] != hook)
            loop_hook_remove(&loop, &flush_hooks[i]);
}

static void a_hook_may_remove_the_rest_of_the_round(void **state)
{
    (void) state;
    init_hooks();
    flush_hooks[0].run = remove_all_others;
    for (int i = 0; i < 3; i++)
        loop_hook_queue(&loop, &flush_hooks[i]);
    loop_turn(&loop, CLOCK_NEVER, NULL);
    assert_string_equal(trace, "r");
}

/* --- time ----------------------------------------------------------------------------------------------- */

static void work_ms(int64_t how_long_ms)
{
    int64_t began_ms = clock_monotonic_ms();
    while (clock_monotonic_ms() - began_ms < how_long_ms)
        continue;
}

static struct loop_hook busy_hooks[64];

static void run_busy_hook(struct loop_hook *hook)
{
    size_t index = (size_t) (hook - busy_hooks);
    trace_add((char) ('0' + index));
    work_ms(2);
}

/* How many letters of a stage the turn has added. */
static size_t count_of(char from, char to)
{
    size_t count = 0;
    for (const char *at = trace; *at != '\0'; at++)
        count += *at >= from && *at <= to;
    return count;
}

static void hooks_get_the_time_of_a_stage_and_go_on_in_order(void **state)
{
    (void) state;
    trace_reset();
    for (int i = 0; i < 30; i++) {
        loop_hook_init(&busy_hooks[i], LOOP_GATHER, run_busy_hook);
        loop_hook_queue(&loop, &busy_hooks[i]);
    }
    for (size_t turns = 1, before = 0; strlen(trace) < 30; turns++) {
        assert_true(turns <= 30);
        assert_int_equal(loop_turn(&loop, CLOCK_NEVER, NULL), 0);
        assert_in_range(strlen(trace) - before, 1, LOOP_STAGE_MS / 2 + 1);
        before = strlen(trace);
    }
    for (int i = 0; i < 30; i++)
        assert_int_equal(trace[i], '0' + i);
}

static void queue_itself_and_work(struct loop_hook *hook)
{
    trace_add('x');
    work_ms(2);
    loop_hook_queue(&loop, hook);
}

static void wake_up(struct loop_watch *watch, uint32_t events)
{
    (void) events;
    trace_add('w');
    loop_watch_remove(&loop, watch);
}

static void expire(struct loop_timer *timer)
{
    (void) timer;
    trace_add('t');
}

/* Endless work in one stage keeps none of the others from its turn. */
static void no_stage_starves(void **state)
{
    (void) state;
    for (int endless = LOOP_GATHER; endless < LOOP_STAGES; endless++) {
        struct loop_watch watch = LOOP_WATCH_INIT;
        int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        init_hooks();
        loop_hook_init(&busy_hooks[0], (enum loop_stage) endless, queue_itself_and_work);
        loop_hook_queue(&loop, &busy_hooks[0]);
        loop_turn(&loop, 0, NULL);
        trace_reset();
        loop_hook_queue(&loop, endless == LOOP_GATHER ? &flush_hooks[1] : &gather_hooks[1]);
        loop_timer_init(&timers[0], expire);
        loop_timer_set(&loop, &timers[0], 0);
        assert_int_equal(loop_watch_add(&loop, &watch, fd, EPOLLIN, wake_up, NULL), 0);
        loop_turn(&loop, CLOCK_NEVER, NULL);
        assert_int_equal(count_of('w', 'w'), 1);
        assert_int_equal(count_of('t', 't'), 1);
        assert_int_equal(count_of('B', 'B') + count_of('b', 'b'), 1);
        assert_in_range(count_of('x', 'x'), 1, LOOP_STAGE_MS / 2 + 1);
        loop_hook_remove(&loop, &busy_hooks[0]);
        close(fd);
    }
}

static void work_and_expire(struct loop_timer *timer)
{
    trace_add((char) ('0' + (timer - timers)));
    work_ms(2);
}

static void timers_get_the_time_of_a_stage(void **state)
{
    (void) state;
    trace_reset();
    for (int i = 0; i < 20; i++) {
        loop_timer_init(&timers[i], work_and_expire);
        loop_timer_set(&loop, &timers[i], i);
    }
    for (size_t turns = 0, before = 0; strlen(trace) < 20; turns++) {
        assert_true(turns < 20);
        loop_turn(&loop, CLOCK_NEVER, NULL);
        assert_in_range(strlen(trace) - before, 1, LOOP_STAGE_MS / 2 + 1);
        before = strlen(trace);
    }
    for (int i = 0; i < 20; i++)
        assert_int_equal(trace[i], '0' + i);
}

static int busy_watch_calls;

static void watch_busily(struct loop_watch *watch, uint32_t events)
{
    assert_int_equal(events, EPOLLIN);
    busy_watch_calls++;
    trace_add((char) ('0' + busy_watch_calls));
    loop_watch_set(&loop, watch, 0); /* an event fetched before must not come after this */
    work_ms(2);
}

/* Events that a turn did not get to are not lost, though the kernel tells edges once. */
static void watches_get_the_time_of_a_stage(void **state)
{
    enum { COUNT = 20 };
    static struct loop_watch watches[COUNT];
    int fds[COUNT];
    (void) state;
    trace_reset();
    busy_watch_calls = 0;
    for (int i = 0; i < COUNT; i++) {
        fds[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        assert_int_equal(loop_watch_add(&loop, &watches[i], fds[i], EPOLLIN | EPOLLET, watch_busily, NULL),
                         0);
    }
    for (int turns = 0, before = 0; busy_watch_calls < COUNT; turns++) {
        assert_true(turns < COUNT);
        assert_int_equal(loop_turn(&loop, CLOCK_NEVER, NULL), 0);
        assert_in_range(busy_watch_calls - before, 1, LOOP_STAGE_MS / 2 + 1);
        before = busy_watch_calls;
    }
    loop_turn(&loop, 0, NULL);
    assert_int_equal(busy_watch_calls, COUNT);
    for (int i = 0; i < COUNT; i++) {
        loop_watch_remove(&loop, &watches[i]);
        close(fds[i]);
    }
}

static void defer_itself(struct loop_hook *hook)
{
    trace_add('d');
    loop_hook_queue(&loop, hook); /* somebody has news for it in the meantime */
    loop_hook_defer(&loop, hook);
    loop_hook_queue(&loop, hook);
}

static void a_deferred_hook_runs_once_a_turn_and_the_kernel_is_asked_in_between(void **state)
{
    struct loop_watch watch = LOOP_WATCH_INIT;
    (void) state;
    init_hooks();
    gather_hooks[0].run = defer_itself;
    loop_hook_queue(&loop, &gather_hooks[0]);
    loop_turn(&loop, CLOCK_NEVER, NULL);
    assert_string_equal(trace, "d");
    int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    assert_int_equal(loop_watch_add(&loop, &watch, fd, EPOLLIN, wake_up, NULL), 0);
    loop_turn(&loop, CLOCK_NEVER, NULL);
    assert_string_equal(trace, "dwd");
    loop_hook_remove(&loop, &gather_hooks[0]);
    loop_turn(&loop, 0, NULL);
    assert_string_equal(trace, "dwd");
    close(fd);
}

static void the_longest_turn_is_known(void **state)
{
    (void) state;
    trace_reset();
    assert_int_equal(loop.longest_turn_ms, 0);
    loop_hook_init(&busy_hooks[0], LOOP_GATHER, run_busy_hook);
    loop_hook_queue(&loop, &busy_hooks[0]);
    loop_turn(&loop, CLOCK_NEVER, NULL);
    assert_true(loop.longest_turn_ms >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_fire_in_order_whatever_was_done_to_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_timer_that_is_always_due_does_not_keep_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(a_timer_may_remove_another_that_is_due, setup, teardown),
        cmocka_unit_test_setup_teardown(the_wait_ends_when_the_timer_is_due, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watch_removed_in_the_turn_is_not_called, setup, teardown),
        cmocka_unit_test_setup_teardown(a_watch_follows_its_events, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bad_descriptor_is_an_error_in_words, setup, teardown),
        cmocka_unit_test_setup_teardown(everything_is_gathered_before_anything_is_flushed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_removed_hook_does_not_run, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hook_that_queues_itself_gets_a_bounded_number_of_rounds, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_hook_may_remove_the_rest_of_the_round, setup, teardown),
        cmocka_unit_test_setup_teardown(hooks_get_the_time_of_a_stage_and_go_on_in_order, setup, teardown),
        cmocka_unit_test_setup_teardown(no_stage_starves, setup, teardown),
        cmocka_unit_test_setup_teardown(timers_get_the_time_of_a_stage, setup, teardown),
        cmocka_unit_test_setup_teardown(watches_get_the_time_of_a_stage, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deferred_hook_runs_once_a_turn_and_the_kernel_is_asked_in_between,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_longest_turn_is_known, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
