#include "aws/ecs_client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static struct json_token tokens[API_JSON_TOKENS];
static char memory[ECS_BODY_SIZE];
static struct ecs_task_ids ids;
static struct ecs_task_reader reader;
static struct ecs_client_task task;
static struct ecs_client_container container;

static struct api_answer answer_of(const char *body)
{
    return (struct api_answer){.status = 200, .body = str_from(body)};
}

static const char *written(struct writer *w)
{
    assert_false(w->failed);
    return writer_terminate(w);
}

/* --- ListTasks --- */

static void asks_for_tasks_of_a_service_or_family(void **state)
{
    struct writer w = writer_of(memory, sizeof memory);
    struct ecs_task_query query = {.cluster = STR_LITERAL("c"), .service = STR_LITERAL("fumidai")};
    (void) state;
    ecs_client_write_list_tasks(&w, &query);
    assert_string_equal(written(&w),
                        "{\"cluster\":\"c\",\"serviceName\":\"fumidai\",\"desiredStatus\":\"RUNNING\"}");
    w = writer_of(memory, sizeof memory);
    query = (struct ecs_task_query){.cluster = STR_LITERAL("c"), .family = STR_LITERAL("f"), .stopped = true};
    ecs_client_write_list_tasks(&w, &query);
    assert_string_equal(written(&w), "{\"cluster\":\"c\",\"family\":\"f\",\"desiredStatus\":\"STOPPED\"}");
}

#define ARN "arn:aws:ecs:eu-west-1:123456789012:task/"

static const struct {
    const char *body;
    enum api_class class;
    size_t count;
    const char *text;
} LISTS[] = {
    {"{\"taskArns\":[]}", API_OK, 0, ""},
    {"{\"taskArns\":[\"" ARN "c/0a1b\",\"" ARN "11111111-2222-4333-8444-555555555555\"],\"nextToken\":\"x\"}",
     API_OK, 2, ""},
    {"{\"taskArns\":[\"" ARN "c/0a1b\",7]}", API_FAILED, 0,
     "ListTasks: a task's ARN is not a string of up to 512 bytes"},
    {"{\"taskArns\":[\"0a1b\"]}", API_FAILED, 0, "ListTasks: \"0a1b\" is not a valid task ARN"},
    {"{\"taskArns\":[\"a/\"]}", API_FAILED, 0, "ListTasks: \"a/\" is not a valid task ARN"},
    {"{\"taskArns\":[\"a/b\\\"c\"]}", API_FAILED, 0, "ListTasks: \"a/b\"c\" is not a valid task ARN"},
    {"{\"taskArns\":{}}", API_FAILED, 0, "ListTasks: the answer holds no taskArns"},
    {"{}", API_FAILED, 0, "ListTasks: the answer holds no taskArns"},
    {"", API_FAILED, 0, NULL},
};

static void lists_ids(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(LISTS); i++) {
        size_t len = strlen(LISTS[i].body);
        char *copy = guard_copy(LISTS[i].body, len);
        struct api_answer answer = {.status = 200, .body = {copy, len}};
        struct error err = ERROR_INIT;
        enum api_class class = ecs_client_read_list_tasks(&ids, &answer, tokens, COUNT(tokens), NULL, &err);
        if (class != LISTS[i].class || ids.count != LISTS[i].count ||
            (LISTS[i].text != NULL && strcmp(err.text, LISTS[i].text) != 0))
            fail_msg("row %zu: class %d, %zu ids: %s", i, class, ids.count, err.text);
        if (ids.count == 2) {
            assert_string_equal(ids.ids[0], "0a1b");
            assert_string_equal(ids.ids[1], "11111111-2222-4333-8444-555555555555");
        }
        guard_free(copy, len);
    }
    struct api_answer answer = {.status = 400, .body = STR_LITERAL("{\"__type\":\"AccessDeniedException\"}")};
    struct error err = ERROR_INIT;
    assert_int_equal(ecs_client_read_list_tasks(&ids, &answer, tokens, COUNT(tokens), NULL, &err),
                     API_FAILED);
    assert_string_equal(err.text,
                        "ListTasks: 400 AccessDeniedException: your credentials lack ecs:ListTasks");
}

static void a_hundred_ids_are_listed_and_asked_for_in_parts(void **state)
{
    static char body[32768];
    struct writer w = writer_of(body, sizeof body);
    struct json doc;
    (void) state;
    writer_text(&w, "{\"taskArns\":[");
    for (unsigned i = 0; i < ECS_TASKS_MAX + 20; i++)
        writer_format(&w, "%s\"" ARN "c/0123456789abcdef0123456789abc%u\"", i > 0 ? "," : "", 100 + i);
    writer_text(&w, "]}");
    struct api_answer answer = {.status = 200, .body = writer_view(&w)};
    assert_int_equal(ecs_client_read_list_tasks(&ids, &answer, tokens, COUNT(tokens), NULL, NULL), API_OK);
    assert_int_equal(ids.count, ECS_TASKS_MAX);
    assert_string_equal(ids.ids[99], "0123456789abcdef0123456789abc199");
    w = writer_of(memory, sizeof memory);
    ecs_client_write_describe_tasks(&w, STR_LITERAL("c"), &ids, 98, ECS_DESCRIBED_AT_ONCE);
    assert_string_equal(written(&w), "{\"cluster\":\"c\",\"tasks\":[\"0123456789abcdef0123456789abc198\","
                                     "\"0123456789abcdef0123456789abc199\"]}");
    for (size_t i = 0; i < ids.count; i++) {
        memset(ids.ids[i], 'f', ECS_TASK_ID_SIZE - 1);
        ids.ids[i][ECS_TASK_ID_SIZE - 1] = '\0';
    }
    memset(body, 'c', METADATA_ARN_SIZE);
    w = writer_of(memory, sizeof memory); /* all of them, and a cluster of the longest name, fit */
    ecs_client_write_describe_tasks(&w, (struct str){body, METADATA_ARN_SIZE}, &ids, 0, ECS_TASKS_MAX);
    assert_false(w.failed);
    assert_int_equal(json_parse(&doc, writer_view(&w), tokens, COUNT(tokens), NULL), 0);
    assert_int_equal(json_count(&doc, json_member(&doc, 0, "tasks")), ECS_TASKS_MAX);
}

/* --- DescribeTasks --- */

/* As ECS writes it; what is not read is left out in part. */
#define RUNNING                                                                                              \
    "{\"attachments\":[{\"details\":[{\"name\":\"subnetId\",\"value\":\"subnet-1\"}],\"id\":\"x\"}],"        \
    "\"clusterArn\":\"arn:aws:ecs:eu-west-1:123456789012:cluster/prod\",\"containers\":["                    \
    "{\"containerArn\":\"arn:aws:ecs:eu-west-1:123456789012:container/prod/0a1b/x\",\"lastStatus\":"         \
    "\"RUNNING\",\"name\":\"fumidai\",\"networkInterfaces\":[],\"runtimeId\":\"0a1b-2733661895\"},"          \
    "{\"exitCode\":137,\"lastStatus\":\"STOPPED\",\"name\":\"side\",\"reason\":\"OutOfMemoryError: "         \
    "Container killed\"}],\"createdAt\":1.700550000123E9,\"desiredStatus\":\"RUNNING\","                     \
    "\"group\":\"service:fumidai\",\"lastStatus\":\"RUNNING\",\"startedAt\":1700550031.5,"                   \
    "\"taskArn\":\"" ARN "prod/0a1b\"}"
#define STOPPED                                                                                              \
    "{\"clusterArn\":\"arn:aws:ecs:eu-west-1:123456789012:cluster/prod\",\"containers\":["                   \
    "{\"lastStatus\":\"STOPPED\",\"name\":\"fumidai\",\"reason\":\"CannotPullContainerError: "               \
    "pull\\nimage\"}],\"createdAt\":1700550000,\"desiredStatus\":\"STOPPED\",\"lastStatus\":\"STOPPED\","    \
    "\"stopCode\":\"TaskFailedToStart\",\"stoppedReason\":\"CannotPullContainerError: no route\","           \
    "\"taskArn\":\"" ARN "prod/ffff\"}"

static enum api_class describe(const char *body, struct error *err)
{
    struct api_answer answer = answer_of(body);
    return ecs_client_read_describe_tasks(&reader, &answer, tokens, COUNT(tokens), NULL, err);
}

static void reads_tasks_and_their_containers_one_by_one(void **state)
{
    struct error err = ERROR_INIT;
    char target[METADATA_TARGET_SIZE];
    (void) state;
    assert_int_equal(describe("{\"failures\":[{\"arn\":\"a\",\"reason\":\"MISSING\"}],\"tasks\":[" RUNNING
                              "," STOPPED "]}",
                              &err),
                     API_OK);
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 0); /* of no task */
    assert_int_equal(ecs_client_next_task(&reader, &task, &err), 1);
    assert_string_equal(task.id, "0a1b");
    assert_string_equal(task.arn, ARN "prod/0a1b");
    assert_string_equal(task.group, "service:fumidai");
    assert_string_equal(task.last_status, "RUNNING");
    assert_true(task.is_running && !task.is_stopping && !task.is_stopped);
    assert_int_equal(task.created_unix_ms, 1700550000123);
    assert_int_equal(task.started_unix_ms, 1700550031500);
    assert_string_equal(task.stop_code, "");
    assert_string_equal(task.stopped_reason, "");
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 1);
    assert_string_equal(container.name, "fumidai");
    assert_string_equal(container.last_status, "RUNNING");
    assert_string_equal(container.reason, "");
    assert_false(container.has_exit_code);
    assert_int_equal(ecs_client_format_target(target, &task, &container, &err), 0);
    assert_string_equal(target, "ecs:prod_0a1b_0a1b-2733661895");
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 1);
    assert_string_equal(container.reason, "OutOfMemoryError: Container killed");
    assert_true(container.has_exit_code);
    assert_int_equal(container.exit_code, 137);
    assert_int_equal(ecs_client_format_target(target, &task, &container, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.text, "container side of task 0a1b has not started yet");
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 0);

    assert_int_equal(ecs_client_next_task(&reader, &task, &err), 1);
    assert_string_equal(task.id, "ffff");
    assert_true(!task.is_running && task.is_stopping && task.is_stopped);
    assert_int_equal(task.started_unix_ms, -1);
    assert_string_equal(task.group, "");
    assert_string_equal(task.stop_code, "TaskFailedToStart");
    assert_string_equal(task.stopped_reason, "CannotPullContainerError: no route");
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 1);
    assert_string_equal(container.reason, "CannotPullContainerError: pull image");
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 0);
    assert_int_equal(ecs_client_next_task(&reader, &task, &err), 0);
    assert_int_equal(ecs_client_next_task(&reader, &task, &err), 0);
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 0);
}

static void a_task_that_is_to_stop_does_not_count_as_running(void **state)
{
    (void) state;
    assert_int_equal(describe("{\"tasks\":[{\"taskArn\":\"a/b\",\"lastStatus\":\"RUNNING\",\"desiredStatus\":"
                              "\"STOPPED\"}]}",
                              NULL),
                     API_OK);
    assert_int_equal(ecs_client_next_task(&reader, &task, NULL), 1);
    assert_false(task.is_running);
    assert_true(task.is_stopping);
}

static void one_bad_task_does_not_hide_the_next(void **state)
{
    static const struct {
        const char *body;
        int code;
        const char *text;
    } rows[] = {{"7", ERROR_INVALID, "\"\" is not a valid task ARN"},
                {"{}", ERROR_INVALID, "\"\" is not a valid task ARN"},
                {"{\"taskArn\":[]}", ERROR_INVALID, "taskArn is not a string"},
                {"{\"taskArn\":\"a/b\",\"lastStatus\":\"0123456789012345678901234567890123\"}",
                 ERROR_TOO_LARGE, "lastStatus is longer than 32 bytes, or holds a NUL"}};
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char body[2048];
        struct error err = ERROR_INIT;
        snprintf(body, sizeof body, "{\"tasks\":[" RUNNING ",%s," STOPPED "]}", rows[i].body);
        assert_int_equal(describe(body, &err), API_OK);
        assert_int_equal(ecs_client_next_task(&reader, &task, &err), 1);
        assert_int_equal(ecs_client_next_task(&reader, &task, &err), rows[i].code);
        assert_string_equal(err.text, rows[i].text);
        assert_int_equal(ecs_client_next_task(&reader, &task, &err), 1);
        assert_string_equal(task.id, "ffff");
        assert_int_equal(ecs_client_next_task(&reader, &task, &err), 0);
    }
    struct error err = ERROR_INIT;
    assert_int_equal(describe("{\"tasks\":[{\"taskArn\":\"a/b\",\"containers\":[7,{\"name\":1},{}]}]}", &err),
                     API_OK);
    assert_int_equal(ecs_client_next_task(&reader, &task, &err), 1);
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 1);
    assert_string_equal(container.name, "");
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), ERROR_INVALID);
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 1);
    assert_int_equal(ecs_client_next_container(&reader, &container, &err), 0);
}

static void says_why_there_are_no_tasks(void **state)
{
    static const struct {
        int status;
        const char *body;
        int code;
        const char *text;
    } rows[] = {
        {200, "{\"tasks\":[],\"failures\":[{\"arn\":\"a\",\"reason\":\"MISSING\"}]}", ERROR_NOT_FOUND,
         "DescribeTasks: not found among the tasks (MISSING)"},
        {200, "{\"tasks\":[]}", ERROR_INVALID, "DescribeTasks: the answer holds no tasks"},
        {200, "{", ERROR_INVALID, NULL},
        {400, "{\"__type\":\"AccessDeniedException\"}", ERROR_DENIED,
         "DescribeTasks: 400 AccessDeniedException: your credentials lack ecs:DescribeTasks"},
        {400, "{\"__type\":\"ClusterNotFoundException\",\"message\":\"Cluster not found.\"}", ERROR_NOT_FOUND,
         "DescribeTasks: 400 ClusterNotFoundException: Cluster not found."},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct api_answer answer = {.status = rows[i].status, .body = str_from(rows[i].body)};
        struct error err = ERROR_INIT;
        assert_int_equal(ecs_client_read_describe_tasks(&reader, &answer, tokens, COUNT(tokens), NULL, &err),
                         API_FAILED);
        assert_int_equal(err.code, rows[i].code);
        if (rows[i].text != NULL)
            assert_string_equal(err.text, rows[i].text);
        assert_int_equal(ecs_client_next_task(&reader, &task, NULL), 0);
        assert_int_equal(ecs_client_next_container(&reader, &container, NULL), 0);
    }
    struct api_answer answer = answer_of("{\"tasks\":[" RUNNING "]}");
    struct error err = ERROR_INIT;
    assert_int_equal(ecs_client_read_describe_tasks(&reader, &answer, tokens, 4, NULL, &err), API_FAILED);
    assert_int_equal(err.code, ERROR_TOO_LARGE);
}

static void long_reasons_are_cut(void **state)
{
    static char body[8192];
    (void) state;
    for (size_t len = 100; len < 3000; len += 1400) {
        struct writer w = writer_of(body, sizeof body);
        writer_text(&w, "{\"tasks\":[{\"taskArn\":\"a/b\",\"stoppedReason\":\"");
        writer_fill(&w, 'r', len);
        writer_text(&w, "\"}]}");
        assert_int_equal(describe(writer_terminate(&w), NULL), API_OK);
        assert_int_equal(ecs_client_next_task(&reader, &task, NULL), 1);
        assert_int_equal(strlen(task.stopped_reason), len < ECS_WORDS_SIZE ? len : ECS_WORDS_SIZE - 1);
    }
}

/* --- DescribeServices, UpdateService --- */

static struct ecs_client_service service;

static enum api_class describe_service(const char *body, struct error *err)
{
    struct api_answer answer = answer_of(body);
    return ecs_client_read_describe_services(&service, &answer, tokens, COUNT(tokens), NULL, err);
}

#define COUNTS "\"desiredCount\":1,\"runningCount\":0,\"pendingCount\":2"

static void reads_how_a_service_is_doing(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(
        describe_service(
            "{\"services\":[{\"status\":\"ACTIVE\"," COUNTS ",\"enableExecuteCommand\":true,"
            "\"events\":[{\"id\":\"1\",\"createdAt\":1700550000.5,\"message\":\"(service x) was "
            "unable to place a task.\"},{\"createdAt\":1,\"message\":\"b\"},{},7,{\"message\":3},"
            "{\"message\":\"the sixth\"}]}]}",
            &err),
        API_OK);
    assert_true(service.is_active && service.exec_is_enabled);
    assert_int_equal(service.desired_count, 1);
    assert_int_equal(service.running_count, 0);
    assert_int_equal(service.pending_count, 2);
    assert_int_equal(service.event_count, ECS_EVENTS_MAX);
    assert_int_equal(service.events[0].created_unix_ms, 1700550000500);
    assert_string_equal(service.events[0].message, "(service x) was unable to place a task.");
    assert_int_equal(service.events[1].created_unix_ms, 1000);
    assert_int_equal(service.events[2].created_unix_ms, -1);
    assert_string_equal(service.events[4].message, "");
    assert_int_equal(describe_service("{\"services\":[{\"status\":\"INACTIVE\"," COUNTS "}]}", &err), API_OK);
    assert_false(service.is_active || service.exec_is_enabled);
    assert_int_equal(service.event_count, 0);
    assert_int_equal(describe_service("{\"services\":[{\"desiredCount\":-1}]}", &err), API_FAILED);
    assert_string_equal(err.text, "DescribeServices: desiredCount is missing or not a count");
    assert_int_equal(describe_service("{\"failures\":[{\"reason\":\"MISSING\"}],\"services\":[]}", &err),
                     API_FAILED);
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void starting_names_whose_permission_is_missing(void **state)
{
    struct api_answer answer = answer_of("{\"service\":{}}");
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(ecs_client_read_update_service(&answer, NULL, &err), API_OK);
    answer =
        (struct api_answer){.status = 400, .body = STR_LITERAL("{\"__type\":\"AccessDeniedException\"}")};
    assert_int_equal(ecs_client_read_update_service(&answer, NULL, &err), API_FAILED);
    assert_string_equal(err.text,
                        "UpdateService: 400 AccessDeniedException: your credentials lack ecs:UpdateService");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_for_tasks_of_a_service_or_family),
        cmocka_unit_test(lists_ids),
        cmocka_unit_test(a_hundred_ids_are_listed_and_asked_for_in_parts),
        cmocka_unit_test(reads_tasks_and_their_containers_one_by_one),
        cmocka_unit_test(a_task_that_is_to_stop_does_not_count_as_running),
        cmocka_unit_test(one_bad_task_does_not_hide_the_next),
        cmocka_unit_test(says_why_there_are_no_tasks),
        cmocka_unit_test(long_reasons_are_cut),
        cmocka_unit_test(reads_how_a_service_is_doing),
        cmocka_unit_test(starting_names_whose_permission_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
