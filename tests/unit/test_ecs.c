#include "aws/ecs.h"

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

static const char *written(struct writer *w)
{
    assert_false(w->failed);
    return writer_terminate(w);
}

static void writes_bodies(void **state)
{
    struct writer w;
    (void) state;
    w = writer_of(memory, sizeof memory);
    ecs_write_update_service(&w, STR_LITERAL("arn:aws:ecs:r:1:cluster/c"), STR_LITERAL("bastion"), 0);
    assert_string_equal(
        written(&w),
        "{\"cluster\":\"arn:aws:ecs:r:1:cluster/c\",\"service\":\"bastion\",\"desiredCount\":0}");
    w = writer_of(memory, sizeof memory);
    ecs_write_stop_task(&w, STR_LITERAL("c"), STR_LITERAL("t"), STR_LITERAL("idle for \"15m\""));
    assert_string_equal(written(&w),
                        "{\"cluster\":\"c\",\"task\":\"t\",\"reason\":\"idle for \\\"15m\\\"\"}");
    w = writer_of(memory, sizeof memory);
    ecs_write_describe_tasks(&w, STR_LITERAL("c"), STR_LITERAL("t"));
    assert_string_equal(written(&w), "{\"cluster\":\"c\",\"tasks\":[\"t\"]}");
    w = writer_of(memory, sizeof memory);
    ecs_write_describe_services(&w, STR_LITERAL("c"), STR_LITERAL("s"));
    assert_string_equal(written(&w), "{\"cluster\":\"c\",\"services\":[\"s\"]}");
    w = writer_of(memory, 10);
    ecs_write_describe_services(&w, STR_LITERAL("c"), STR_LITERAL("s"));
    assert_true(w.failed);
}

static void a_long_reason_is_cut_at_a_character(void **state)
{
    static char reason[3000], text[3000];
    struct writer w = writer_of(memory, sizeof memory);
    struct json doc;
    struct str view;
    (void) state;
    reason[0] = 'x';
    for (size_t i = 1; i + 2 < sizeof reason; i += 2)
        memcpy(reason + i, "\xC3\xA9", 3);
    ecs_write_stop_task(&w, STR_LITERAL("c"), STR_LITERAL("t"), str_from(reason));
    assert_int_equal(json_parse(&doc, writer_view(&w), tokens, COUNT(tokens), NULL), 0);
    assert_true(json_string(&doc, json_member(&doc, 0, "reason"), text, sizeof text, &view));
    assert_int_equal(view.len, ECS_REASON_MAX - 1);
    assert_memory_equal(view.ptr, reason, view.len);

    memset(reason, '\x02', sizeof reason); /* the worst case of escaping fits the body's size */
    char name[512];
    memset(name, 'n', sizeof name);
    w = writer_of(memory, sizeof memory);
    ecs_write_stop_task(&w, (struct str){name, sizeof name}, (struct str){name, sizeof name},
                        (struct str){reason, sizeof reason});
    assert_false(w.failed);
}

/* --- done or not --- */

#define NOT_FOUND "{\"__type\":\"ServiceNotFoundException\",\"message\":\"Service not found.\"}"
#define NOT_ACTIVE                                                                                           \
    "{\"__type\":\"com.amazonaws.ecs#ServiceNotActiveException\",\"message\":\"Service was not ACTIVE.\"}"
static const struct {
    int status;
    const char *body;
    uint32_t desired_count;
    bool name_is_certain;
    enum api_class class;
    bool already;
    int code;
    const char *text;
} UPDATES[] = {
    {200, "{\"service\":{}}", 0, false, API_OK, false, 0, ""},
    {400, NOT_ACTIVE, 0, false, API_OK, true, 0, ""},
    {400, NOT_FOUND, 0, true, API_OK, true, 0, ""},
    {400, NOT_FOUND, 0, false, API_FAILED, false, ERROR_NOT_FOUND,
     "UpdateService: 400 ServiceNotFoundException: Service not found."},
    {400, NOT_ACTIVE, 1, true, API_FAILED, false, ERROR_INVALID,
     "UpdateService: 400 ServiceNotActiveException: Service was not ACTIVE."},
    {400, NOT_FOUND, 1, true, API_FAILED, false, ERROR_NOT_FOUND, NULL},
    {400, "{\"__type\":\"ClusterNotFoundException\",\"message\":\"Cluster not found.\"}", 0, true, API_FAILED,
     false, ERROR_NOT_FOUND, "UpdateService: 400 ClusterNotFoundException: Cluster not found."},
    {400, "{\"__type\":\"AccessDeniedException\"}", 0, true, API_FAILED, false, ERROR_DENIED,
     "UpdateService: 400 AccessDeniedException: the task role lacks ecs:UpdateService"},
    {400, "{\"__type\":\"ThrottlingException\"}", 0, true, API_RETRY, false, ERROR_THROTTLED, NULL},
    {500, NOT_ACTIVE, 0, true, API_RETRY, false, ERROR_UNAVAILABLE, NULL},
    {400, "{\"__type\":\"ExpiredTokenException\"}", 0, true, API_REFRESH, false, ERROR_UNAVAILABLE, NULL},
};

static void scaling_in_succeeds_when_there_is_nothing_left_to_scale(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(UPDATES); i++) {
        struct api_answer answer = {.status = UPDATES[i].status, .body = str_from(UPDATES[i].body)};
        struct error err = ERROR_INIT;
        bool already = !UPDATES[i].already;
        enum api_class class = ecs_classify_update_service(&answer, UPDATES[i].desired_count,
                                                           UPDATES[i].name_is_certain, &already, NULL, &err);
        if (class != UPDATES[i].class || already != UPDATES[i].already ||
            err.code != (enum error_code) UPDATES[i].code ||
            (UPDATES[i].text != NULL && strcmp(err.text, UPDATES[i].text) != 0))
            fail_msg("row %zu: class %d, already %d, code %d: %s", i, class, already, err.code, err.text);
    }
}

static const struct {
    int status;
    const char *body;
    enum api_class class;
    bool already;
    int code;
    const char *text;
} STOPS[] = {
    {200, "{\"task\":{\"lastStatus\":\"STOPPED\"}}", API_OK, false, 0, ""},
    {400, "{\"__type\":\"InvalidParameterException\",\"message\":\"The referenced task was not found.\"}",
     API_OK, true, 0, ""},
    {400, "{\"__type\":\"InvalidParameterException\",\"message\":\"Task Identifier is invalid\"}", API_FAILED,
     false, ERROR_INVALID, "StopTask: 400 InvalidParameterException: Task Identifier is invalid"},
    {400, "{\"__type\":\"ClusterNotFoundException\",\"message\":\"Cluster not found.\"}", API_FAILED, false,
     ERROR_NOT_FOUND, NULL},
    {500, "{\"__type\":\"InvalidParameterException\",\"message\":\"The referenced task was not found.\"}",
     API_RETRY, false, ERROR_UNAVAILABLE, NULL},
    {400, "{\"__type\":\"AccessDeniedException\"}", API_FAILED, false, ERROR_DENIED,
     "StopTask: 400 AccessDeniedException: the task role lacks ecs:StopTask"},
};

static void stopping_succeeds_when_it_has_stopped(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(STOPS); i++) {
        struct api_answer answer = {.status = STOPS[i].status, .body = str_from(STOPS[i].body)};
        struct error err = ERROR_INIT;
        struct api_failure failure;
        bool already = !STOPS[i].already;
        enum api_class class = ecs_classify_stop_task(&answer, &already, &failure, &err);
        if (class != STOPS[i].class || already != STOPS[i].already ||
            err.code != (enum error_code) STOPS[i].code ||
            (STOPS[i].text != NULL && strcmp(err.text, STOPS[i].text) != 0))
            fail_msg("row %zu: class %d, already %d, code %d: %s", i, class, already, err.code, err.text);
    }
}

/* --- DescribeTasks, DescribeServices --- */

static enum api_class describe_task(struct ecs_task *task, int status, const char *body, size_t capacity,
                                    struct error *err)
{
    size_t len = strlen(body);
    char *copy = guard_copy(body, len);
    struct api_answer answer = {.status = status, .body = {copy, len}};
    enum api_class class = ecs_read_describe_tasks(task, &answer, tokens, capacity, NULL, err);
    guard_free(copy, len);
    return class;
}

static void learns_the_service_from_the_group(void **state)
{
    struct ecs_task task;
    (void) state;
    assert_int_equal(
        describe_task(&task, 200,
                      "{\"failures\":[],\"tasks\":[{\"taskArn\":\"a\",\"group\":\"service:bastion\","
                      "\"lastStatus\":\"RUNNING\",\"desiredStatus\":\"STOPPED\",\"containers\":[{}]}]}",
                      COUNT(tokens), NULL),
        API_OK);
    assert_string_equal(task.group, "service:bastion");
    assert_string_equal(task.service_name, "bastion");
    assert_true(task.is_stopping);
    assert_int_equal(
        describe_task(&task, 200, "{\"tasks\":[{\"group\":\"family:bastion\"}]}", COUNT(tokens), NULL),
        API_OK);
    assert_string_equal(task.service_name, "");
    assert_false(task.is_stopping);
    assert_int_equal(describe_task(&task, 200, "{\"tasks\":[{}]}", COUNT(tokens), NULL), API_OK);
    assert_string_equal(task.group, "");
}

static const struct {
    int status;
    const char *body;
    enum api_class class;
    int code;
    const char *text;
} TASK_ANSWERS[] = {
    {200, "{\"failures\":[{\"arn\":\"a\",\"reason\":\"MISSING\"}],\"tasks\":[]}", API_FAILED, ERROR_NOT_FOUND,
     "DescribeTasks: not found among the tasks (MISSING)"},
    {200, "{\"tasks\":[]}", API_FAILED, ERROR_INVALID, "DescribeTasks: the answer holds no tasks"},
    {200, "{\"tasks\":[7]}", API_FAILED, ERROR_INVALID, "DescribeTasks: the answer holds no tasks"},
    {200, "{}", API_FAILED, ERROR_INVALID, "DescribeTasks: the answer holds no tasks"},
    {200, "", API_FAILED, ERROR_INVALID, NULL},
    {200, "{\"tasks\":[{\"group\":7}]}", API_FAILED, ERROR_INVALID, "DescribeTasks: group is not a string"},
    {200, "{\"tasks\":[{\"lastStatus\":7,\"desiredStatus\":{},\"containers\":3}]}", API_OK, 0,
     ""}, /* not read */
    {400, "{\"__type\":\"AccessDeniedException\"}", API_FAILED, ERROR_DENIED,
     "DescribeTasks: 400 AccessDeniedException: the task role lacks ecs:DescribeTasks"},
};

static void says_why_there_is_no_task(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(TASK_ANSWERS); i++) {
        struct ecs_task task;
        struct error err = ERROR_INIT;
        enum api_class class =
            describe_task(&task, TASK_ANSWERS[i].status, TASK_ANSWERS[i].body, COUNT(tokens), &err);
        if (class != TASK_ANSWERS[i].class || err.code != (enum error_code) TASK_ANSWERS[i].code ||
            (TASK_ANSWERS[i].text != NULL && strcmp(err.text, TASK_ANSWERS[i].text) != 0))
            fail_msg("row %zu: class %d, code %d: %s", i, class, err.code, err.text);
    }
    struct ecs_task task;
    struct error err = ERROR_INIT;
    assert_int_equal(describe_task(&task, 200, "{\"tasks\":[{\"group\":\"g\"}]}", 4, &err), API_FAILED);
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    assert_string_equal(err.text, "DescribeTasks: JSON has more than 4 values");
}

static void a_group_has_its_bound(void **state)
{
    char body[512] = "{\"tasks\":[{\"group\":\"service:";
    struct ecs_task task;
    struct error err = ERROR_INIT;
    size_t head = strlen(body);
    (void) state;
    memset(body + head, 's', ECS_NAME_SIZE - 1);
    strcpy(body + head + ECS_NAME_SIZE - 1, "\"}]}");
    assert_int_equal(describe_task(&task, 200, body, COUNT(tokens), &err), API_OK);
    assert_int_equal(strlen(task.service_name), ECS_NAME_SIZE - 1);
    strcpy(body + head + ECS_NAME_SIZE - 1, "s\"}]}");
    assert_int_equal(describe_task(&task, 200, body, COUNT(tokens), &err), API_FAILED);
    assert_string_equal(err.text, "DescribeTasks: the group's service name is longer than 255");
}

static const struct {
    const char *body;
    enum api_class class;
    int code;
    const char *text;
} SERVICE_ANSWERS[] = {
    {"{\"services\":[{\"status\":\"ACTIVE\",\"desiredCount\":2,\"runningCount\":1,\"pendingCount\":3}]}",
     API_OK, 0, ""},
    {"{\"services\":[],\"failures\":[{\"arn\":\"a\",\"reason\":\"MISSING\"}]}", API_FAILED, ERROR_NOT_FOUND,
     "DescribeServices: not found among the services (MISSING)"},
    {"{\"services\":[{\"status\":7,\"desiredCount\":2,\"runningCount\":-1,\"pendingCount\":null}]}", API_OK,
     0, ""}, /* all but the desired count is not read */
    {"{\"services\":[{\"runningCount\":1}]}", API_FAILED, ERROR_INVALID,
     "DescribeServices: desiredCount is missing or not a count"},
    {"{\"services\":[{\"desiredCount\":-1}]}", API_FAILED, ERROR_INVALID,
     "DescribeServices: desiredCount is missing or not a count"},
    {"{\"services\":[{\"desiredCount\":4294967296}]}", API_FAILED, ERROR_INVALID,
     "DescribeServices: desiredCount is missing or not a count"},
    {"{\"services\":[{\"desiredCount\":1.5}]}", API_FAILED, ERROR_INVALID,
     "DescribeServices: desiredCount is missing or not a count"},
};

static void reads_services(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(SERVICE_ANSWERS); i++) {
        struct ecs_service service;
        struct error err = ERROR_INIT;
        struct api_answer answer = {.status = 200, .body = str_from(SERVICE_ANSWERS[i].body)};
        enum api_class class =
            ecs_read_describe_services(&service, &answer, tokens, COUNT(tokens), NULL, &err);
        if (class != SERVICE_ANSWERS[i].class || err.code != (enum error_code) SERVICE_ANSWERS[i].code ||
            strcmp(err.text, SERVICE_ANSWERS[i].text) != 0)
            fail_msg("row %zu: class %d, code %d: %s", i, class, err.code, err.text);
        if (class == API_OK)
            assert_int_equal(service.desired_count, 2);
    }
}

/* When a service was last changed: what the newest deployment says, by making or by update. */
static void tells_when_a_service_was_changed(void **state)
{
    static const struct {
        const char *deployments;
        int64_t changed_unix_ms;
    } rows[] = {
        {"[]", -1},
        {"[{\"createdAt\":1700000000.25,\"updatedAt\":1700000100.5}]", 1700000100500},
        {"[{\"createdAt\":1700000000},{\"updatedAt\":1.7000001E9},{}]", 1700000100000},
        {"[{\"createdAt\":\"yesterday\"},null,3]", -1},
        {"\"none\"", -1},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char body[400];
        struct ecs_service service;
        snprintf(
            body, sizeof body,
            "{\"services\":[{\"desiredCount\":1,\"runningCount\":1,\"pendingCount\":0,\"deployments\":%s}]}",
            rows[i].deployments);
        struct api_answer answer = {.status = 200, .body = str_from(body)};
        assert_int_equal(ecs_read_describe_services(&service, &answer, tokens, COUNT(tokens), NULL, NULL),
                         API_OK);
        assert_true(service.changed_unix_ms == rows[i].changed_unix_ms);
    }
}

/* The largest answer there is fits the tokens that api.h promises: 100 events, deployments, tags. */
static void a_full_service_fits(void **state)
{
    static char body[65536];
    struct ecs_service service;
    struct writer w = writer_of(body, sizeof body);
    (void) state;
    writer_text(&w, "{\"services\":[{\"status\":\"ACTIVE\",\"desiredCount\":1,\"events\":[");
    for (int i = 0; i < 100; i++) {
        writer_format(&w,
                      "%s{\"id\":\"%d\",\"createdAt\":1.6E9,\"message\":\"(service bastion) has reached a "
                      "steady state.\"}",
                      i > 0 ? "," : "", i);
    }
    writer_text(&w, "],\"tags\":[");
    for (int i = 0; i < 50; i++)
        writer_format(&w, "%s{\"key\":\"k%d\",\"value\":\"v\"}", i > 0 ? "," : "", i);
    writer_text(&w, "],\"runningCount\":1,\"pendingCount\":0}],\"failures\":[]}");
    assert_false(w.failed);
    struct api_answer answer = {.status = 200, .body = writer_view(&w)};
    assert_int_equal(ecs_read_describe_services(&service, &answer, tokens, COUNT(tokens), NULL, NULL),
                     API_OK);
    assert_int_equal(service.desired_count, 1);
}

/* --- task protection --- */

static void sets_protection(void **state)
{
    struct endpoint endpoint;
    struct api_request request;
    struct writer w = writer_of(memory, sizeof memory);
    (void) state;
    assert_int_equal(endpoint_from_url(&endpoint, STR_LITERAL("http://169.254.170.2/api/0a-1b"), NULL), 0);
    ecs_write_protection(&w, true, 60);
    assert_string_equal(written(&w), "{\"ProtectionEnabled\":true,\"ExpiresInMinutes\":60}");
    assert_int_equal(ecs_make_protection_request(&request, &endpoint, writer_view(&w), NULL), 0);
    assert_string_equal(request.method, "PUT");
    assert_string_equal(request.path, "/api/0a-1b/task-protection/v1/state");
    assert_string_equal(request.headers[0].name, "content-type");
    assert_true(str_equal(request.body, writer_view(&w)));
    w = writer_of(memory, sizeof memory);
    ecs_write_protection(&w, false, 60);
    assert_string_equal(written(&w), "{\"ProtectionEnabled\":false}");
}

static const struct {
    int status;
    const char *body;
    enum api_class class;
    bool enabled;
    int64_t expires;
    int code;
    const char *text;
} PROTECTIONS[] = {
    {200,
     "{\"protection\":{\"ExpirationDate\":\"2026-11-22T15:38:51Z\",\"ProtectionEnabled\":true,\"TaskArn\":"
     "\"a\"}}",
     API_OK, true, 1795361931000, 0, ""},
    {200, "{\"protection\":{\"ExpirationDate\":null,\"ProtectionEnabled\":false,\"TaskArn\":\"a\"}}", API_OK,
     false, -1, 0, ""},
    {202, "{\"failure\":{\"Arn\":\"a\",\"Detail\":null,\"Reason\":\"DEPLOYMENT_BLOCKED\"}}", API_FAILED,
     false, 0, ERROR_DENIED, "UpdateTaskProtection: DEPLOYMENT_BLOCKED"},
    {200, "{\"failure\":{\"Arn\":\"a\",\"Detail\":\"not part of a service\",\"Reason\":\"TASK_NOT_VALID\"}}",
     API_FAILED, false, 0, ERROR_DENIED, "UpdateTaskProtection: TASK_NOT_VALID: not part of a service"},
    {400,
     "{\"requestID\":\"1\",\"error\":{\"Arn\":\"a\",\"Code\":\"AccessDeniedException\",\"Message\":\"no\"}}",
     API_FAILED, false, 0, ERROR_DENIED,
     "UpdateTaskProtection: 400 AccessDeniedException: the task role lacks ecs:UpdateTaskProtection (no)"},
    {500, "{\"error\":{\"Code\":\"ServerException\",\"Message\":\"m\"}}", API_RETRY, false, 0,
     ERROR_UNAVAILABLE, "UpdateTaskProtection: 500 ServerException: the service failed (m)"},
    {200, "{}", API_FAILED, false, 0, ERROR_INVALID,
     "UpdateTaskProtection: the answer says neither protection nor failure"},
    {200, "", API_FAILED, false, 0, ERROR_INVALID, NULL},
    {200, "{\"protection\":{\"ExpirationDate\":\"later\",\"ProtectionEnabled\":true}}", API_FAILED, true, 0,
     ERROR_INVALID, "UpdateTaskProtection: ExpirationDate is not an RFC 3339 time"},
};

static void reads_protection(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(PROTECTIONS); i++) {
        struct api_answer answer = {.status = PROTECTIONS[i].status, .body = str_from(PROTECTIONS[i].body)};
        struct ecs_protection protection;
        struct error err = ERROR_INIT;
        enum api_class class = ecs_read_protection(&protection, &answer, &err);
        if (class != PROTECTIONS[i].class || err.code != (enum error_code) PROTECTIONS[i].code ||
            protection.enabled != PROTECTIONS[i].enabled ||
            (PROTECTIONS[i].text != NULL && strcmp(err.text, PROTECTIONS[i].text) != 0))
            fail_msg("row %zu: class %d, code %d: %s", i, class, err.code, err.text);
        if (class == API_OK)
            assert_true(protection.expires_unix_ms == PROTECTIONS[i].expires);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_bodies),
        cmocka_unit_test(a_long_reason_is_cut_at_a_character),
        cmocka_unit_test(scaling_in_succeeds_when_there_is_nothing_left_to_scale),
        cmocka_unit_test(stopping_succeeds_when_it_has_stopped),
        cmocka_unit_test(learns_the_service_from_the_group),
        cmocka_unit_test(says_why_there_is_no_task),
        cmocka_unit_test(a_group_has_its_bound),
        cmocka_unit_test(reads_services),
        cmocka_unit_test(tells_when_a_service_was_changed),
        cmocka_unit_test(a_full_service_fits),
        cmocka_unit_test(sets_protection),
        cmocka_unit_test(reads_protection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
