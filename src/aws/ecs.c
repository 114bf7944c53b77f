#include "aws/ecs.h"

#include <string.h>

#include "base/time.h"
#include "base/utf8.h"

static const struct api_call UPDATE_SERVICE = {ENDPOINT_ECS, "UpdateService", 200};
static const struct api_call STOP_TASK = {ENDPOINT_ECS, "StopTask", 200};
static const struct api_call DESCRIBE_TASKS = {ENDPOINT_ECS, "DescribeTasks", 200};
static const struct api_call DESCRIBE_SERVICES = {ENDPOINT_ECS, "DescribeServices", 200};
static const struct api_call UPDATE_PROTECTION = {ENDPOINT_ECS, "UpdateTaskProtection", 200};

/* --- requests --- */

void ecs_write_update_service(struct writer *body, struct str cluster, struct str service,
                              uint32_t desired_count)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_string(&j, "cluster", cluster);
    json_member_string(&j, "service", service);
    json_member_i64(&j, "desiredCount", desired_count);
    json_end_object(&j);
}

/* 1,024 bytes are 1,024 characters at most. */
void ecs_write_stop_task(struct writer *body, struct str cluster, struct str task, struct str reason)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_string(&j, "cluster", cluster);
    json_member_string(&j, "task", task);
    json_member_string(&j, "reason", utf8_limit(reason, ECS_REASON_MAX));
    json_end_object(&j);
}

static void write_describe(struct writer *body, struct str cluster, const char *kind, struct str name)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_string(&j, "cluster", cluster);
    json_key(&j, kind);
    json_begin_array(&j);
    json_put_string(&j, name);
    json_end_array(&j);
    json_end_object(&j);
}

void ecs_write_describe_tasks(struct writer *body, struct str cluster, struct str task)
{
    write_describe(body, cluster, "tasks", task);
}

void ecs_write_describe_services(struct writer *body, struct str cluster, struct str service)
{
    write_describe(body, cluster, "services", service);
}

/* --- answers that say done or not --- */

static enum api_class accept_as_done(bool *already, struct error *err)
{
    *already = true;
    error_set(err, ERROR_NONE, "%s", "");
    return API_OK;
}

enum api_class ecs_classify_update_service(const struct api_answer *answer, uint32_t desired_count,
                                           bool name_is_certain, bool *already, struct api_failure *failure,
                                           struct error *err)
{
    struct api_failure unwanted = {0};
    failure = failure != NULL ? failure : &unwanted;
    *already = false;
    enum api_class class = api_classify(&UPDATE_SERVICE, answer, failure, err);
    if (class != API_FAILED || desired_count != 0)
        return class;
    if (strcmp(failure->type, "ServiceNotActiveException") == 0 ||
        (strcmp(failure->type, "ServiceNotFoundException") == 0 && name_is_certain))
        return accept_as_done(already, err);
    return class;
}

enum api_class ecs_classify_stop_task(const struct api_answer *answer, bool *already,
                                      struct api_failure *failure, struct error *err)
{
    struct api_failure unwanted = {0};
    size_t at;
    failure = failure != NULL ? failure : &unwanted;
    *already = false;
    enum api_class class = api_classify(&STOP_TASK, answer, failure, err);
    if (class == API_FAILED && strcmp(failure->type, "InvalidParameterException") == 0 &&
        str_find_nocase(str_from(failure->message), "task was not found", &at))
        return accept_as_done(already, err);
    return class;
}

/* --- answers that tell --- */

/* {"failures":[{"arn":"...","reason":"MISSING"}]} with a 200 */
static int say_failure(const struct json *doc, const char *kind, struct error *err)
{
    char reason[64];
    int first = json_element(doc, json_member(doc, json_root(doc), "failures"), 0);
    api_json_text(doc, first, "reason", reason, sizeof reason, NULL);
    if (reason[0] == '\0')
        return error_set(err, ERROR_INVALID, "the answer holds no %s", kind);
    return error_set(err, ERROR_NOT_FOUND, "not found among the %s (%s)", kind, reason);
}

int ecs_parse_described(struct json *doc, int *first, const char *kind, const struct api_answer *answer,
                        struct json_token *tokens, size_t capacity, struct error *err)
{
    *first = JSON_ABSENT;
    int result = json_parse(doc, answer->body, tokens, capacity, err);
    if (result != 0)
        return result;
    *first = json_element(doc, json_member(doc, json_root(doc), kind), 0);
    return json_type(doc, *first) == JSON_OBJECT ? 0 : say_failure(doc, kind, err);
}

static int read_task(struct ecs_task *task, const struct json *doc, int object, struct error *err)
{
    int result = api_json_text(doc, object, "group", task->group, sizeof task->group, err);
    task->is_stopping = json_string_equal(doc, json_member(doc, object, "desiredStatus"), "STOPPED");
    if (result == 0 && str_starts_with(str_from(task->group), "service:") &&
        !str_copy(str_from(task->group + strlen("service:")), task->service_name,
                  sizeof task->service_name)) {
        result =
            error_set(err, ERROR_TOO_LARGE, "the group's service name is longer than %d", ECS_NAME_SIZE - 1);
    }
    return result;
}

enum api_class ecs_read_describe_tasks(struct ecs_task *task, const struct api_answer *answer,
                                       struct json_token *tokens, size_t capacity,
                                       struct api_failure *failure, struct error *err)
{
    struct json doc = {0};
    int element;
    memset(task, 0, sizeof *task);
    enum api_class class = api_classify(&DESCRIBE_TASKS, answer, failure, err);
    if (class != API_OK)
        return class;
    int result = ecs_parse_described(&doc, &element, "tasks", answer, tokens, capacity, err);
    if (result == 0)
        result = read_task(task, &doc, element, err);
    return api_conclude(&DESCRIBE_TASKS, result, err);
}

int ecs_read_count(const struct json *doc, int object, const char *name, uint32_t *count, struct error *err)
{
    int64_t number;
    if (!json_i64(doc, json_member(doc, object, name), &number) || number < 0 || number > UINT32_MAX)
        return error_set(err, ERROR_INVALID, "%s is missing or not a count", name);
    *count = (uint32_t) number;
    return 0;
}

/* The latest of what its deployments say: each UpdateService makes or updates one. */
static int64_t latest_change(const struct json *doc, int deployments)
{
    static const char *const names[] = {"createdAt", "updatedAt"};
    int64_t latest = -1, at;
    for (size_t i = 0; i < json_count(doc, deployments); i++) {
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            int value = json_member(doc, json_element(doc, deployments, i), names[k]);
            if (json_epoch_ms(doc, value, &at) && at > latest)
                latest = at;
        }
    }
    return latest;
}

enum api_class ecs_read_describe_services(struct ecs_service *service, const struct api_answer *answer,
                                          struct json_token *tokens, size_t capacity,
                                          struct api_failure *failure, struct error *err)
{
    struct json doc = {0};
    int element;
    memset(service, 0, sizeof *service);
    enum api_class class = api_classify(&DESCRIBE_SERVICES, answer, failure, err);
    if (class != API_OK)
        return class;
    int result = ecs_parse_described(&doc, &element, "services", answer, tokens, capacity, err);
    if (result == 0)
        result = ecs_read_count(&doc, element, "desiredCount", &service->desired_count, err);
    if (result == 0) {
        int strategy = json_member(&doc, element, "schedulingStrategy");
        service->is_daemon = json_string_equal(&doc, strategy, "DAEMON");
        service->changed_unix_ms = latest_change(&doc, json_member(&doc, element, "deployments"));
    }
    return api_conclude(&DESCRIBE_SERVICES, result, err);
}

/* --- task scale-in protection --- */

void ecs_write_protection(struct writer *body, bool enabled, uint32_t minutes)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_bool(&j, "ProtectionEnabled", enabled);
    if (enabled)
        json_member_i64(&j, "ExpiresInMinutes", minutes);
    json_end_object(&j);
}

int ecs_make_protection_request(struct api_request *request, const struct endpoint *endpoint, struct str body,
                                struct error *err)
{
    int result = api_request_start(request, "PUT", endpoint, STR_LITERAL("/task-protection/v1/state"), err);
    if (result == 0)
        result = api_request_add(request, "content-type", STR_LITERAL("application/json"), err);
    request->body = body;
    return result;
}

static int read_protection(struct ecs_protection *protection, const struct json *doc, struct error *err)
{
    char text[64], detail[256];
    int failure = json_member(doc, json_root(doc), "failure");
    if (json_type(doc, failure) == JSON_OBJECT) {
        api_json_text(doc, failure, "Reason", text, sizeof text, NULL);
        api_json_text(doc, failure, "Detail", detail, sizeof detail, NULL);
        return error_set(err, ERROR_DENIED, "%s%s%s", text, detail[0] != '\0' ? ": " : "", detail);
    }
    int state = json_member(doc, json_root(doc), "protection");
    if (!json_bool(doc, json_member(doc, state, "ProtectionEnabled"), &protection->enabled))
        return error_set(err, ERROR_INVALID, "the answer says neither protection nor failure");
    protection->expires_unix_ms = -1;
    int result = api_json_text(doc, state, "ExpirationDate", text, sizeof text, err);
    if (result == 0 && text[0] != '\0' &&
        !timestamp_parse_rfc3339(str_from(text), &protection->expires_unix_ms))
        result = error_set(err, ERROR_INVALID, "ExpirationDate is not an RFC 3339 time");
    return result;
}

enum api_class ecs_read_protection(struct ecs_protection *protection, const struct api_answer *answer,
                                   struct error *err)
{
    enum { TOKENS = 64 };
    struct json_token tokens[TOKENS];
    struct json doc = {0};
    memset(protection, 0, sizeof *protection);
    if (answer->status != 202) { /* the agent's status for ECS's "failure" */
        enum api_class class = api_classify(&UPDATE_PROTECTION, answer, NULL, err);
        if (class != API_OK)
            return class;
    }
    int result = json_parse(&doc, answer->body, tokens, TOKENS, err);
    if (result == 0)
        result = read_protection(protection, &doc, err);
    return api_conclude(&UPDATE_PROTECTION, result, err);
}
