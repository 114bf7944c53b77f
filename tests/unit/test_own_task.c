#include "keeper/own_task.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <sys/wait.h>

#include "host/clock.h"
#include "lib/fake_worker.h"

static struct loop loop;
static struct fake_worker fake;
static struct worker_program program;
static struct own_task task;
static int learned_count;
static char *env[] = {"ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/id", NULL};

static void learned(struct own_task *learning)
{
    assert_ptr_equal(learning, &task);
    assert_true(task.known);
    learned_count++;
}

static int setup(void **state)
{
    (void) state;
    memset(&fake, 0, sizeof fake);
    memcpy(fake.script, "dddddd", IPC_CALL_COUNT);
    fake.answer.server_unix_ms = fake.answer.changed_unix_ms = fake.answer.expires_unix_ms = -1;
    strcpy(fake.answer.cluster, "cluster");
    strcpy(fake.answer.task_arn, "arn");
    learned_count = 0;
    if (loop_open(&loop, NULL) < 0)
        return -1;
    program = fake_worker_program(&loop, &fake);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    own_task_close(&task);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    assert_null(loop.timers);
    loop_close(&loop);
    return 0;
}

static void open_task(const char *service_name)
{
    fake_worker_set(&fake);
    own_task_open(&task, &program, env, service_name, learned, NULL);
}

static void turn_until_known(void)
{
    int64_t until_ms = clock_monotonic_ms() + 8000;
    while (!task.known && clock_monotonic_ms() < until_ms) {
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        fake_worker_reap(&task.worker);
    }
    assert_int_equal(learned_count, 1);
}

static void reads_the_metadata_once(void **state)
{
    struct ipc_call calls[4];
    (void) state;
    strcpy(fake.answer.service, "gate");
    open_task("");
    assert_true(task.exists);
    assert_false(task.known);
    turn_until_known();
    assert_string_equal(task.cluster, "cluster");
    assert_string_equal(task.arn, "arn");
    assert_int_equal(task.service, OWN_TASK_SERVICE_NAMED);
    assert_true(task.service_is_certain);
    assert_string_equal(task.service_name, "gate");
    assert_int_equal(fake_worker_calls(calls, 4), 1);
    assert_int_equal(calls[0].kind, IPC_TASK_METADATA);
}

static void the_setting_wins_over_the_metadata(void **state)
{
    (void) state;
    strcpy(fake.answer.service, "gate");
    open_task("configured");
    turn_until_known();
    assert_string_equal(task.service_name, "configured");
    assert_false(task.service_is_certain);
}

static void a_service_may_stay_unknown(void **state)
{
    (void) state;
    open_task("");
    turn_until_known();
    assert_int_equal(task.service, OWN_TASK_SERVICE_UNKNOWN);
}

static void asks_until_it_is_answered(void **state)
{
    static const char ways[] = {'r', 'f', 'x'};
    struct ipc_call calls[8];
    (void) state;
    for (size_t i = 0; i < sizeof ways; i++) {
        fake.script[IPC_TASK_METADATA] = ways[i];
        learned_count = 0;
        open_task("");
        while (fake_worker_calls(calls, 8) < 3)
            assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        assert_false(task.known);
        fake.script[IPC_TASK_METADATA] = 'd';
        fake_worker_set(&fake);
        turn_until_known();
        own_task_close(&task);
    }
}

static void outside_ecs_there_is_nothing_to_ask(void **state)
{
    static char *const others[][2] = {{NULL},
                                      {"ECS_CONTAINER_METADATA_URI_V4=", NULL},
                                      {"ECS_CONTAINER_METADATA_URI_V4=gopher://x/", NULL}};
    struct ipc_call calls[1];
    (void) state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        own_task_open(&task, &program, others[i], "configured", learned, NULL);
        assert_false(task.exists);
        for (int k = 0; k < 3; k++)
            loop_turn(&loop, 5, NULL);
        assert_int_equal(fake_worker_calls(calls, 1), 0);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    fake_worker_main(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(reads_the_metadata_once),
        TEST(the_setting_wins_over_the_metadata),
        TEST(a_service_may_stay_unknown),
        TEST(asks_until_it_is_answered),
        TEST(outside_ecs_there_is_nothing_to_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
