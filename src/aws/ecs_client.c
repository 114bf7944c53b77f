#include "aws/ecs_client.h"

#include <string.h>

static const struct api_call LIST_TASKS = ECS_LIST_TASKS_CALL;
static const struct api_call DESCRIBE_TASKS = ECS_DESCRIBE_TASKS_CALL;
static const struct api_call DESCRIBE_SERVICES = ECS_DESCRIBE_SERVICES_CALL;
static const struct api_call UPDATE_SERVICE = ECS_UPDATE_SERVICE_CALL;

/* --- ListTasks --- */

void ecs_client_write_list_tasks(struct writer *body, const struct ecs_task_query *query)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_string(&j, "cluster", query->cluster);
    if (query->service.len > 0)
        json_member_string(&j, "serviceName", query->service);
    else
        json_member_string(&j, "family", query->family);
    json_member_text(&j, "desiredStatus", query->stopped ? "STOPPED" : "RUNNING");
    json_end_object(&j);
}

static bool is_id_char(char c)
{
    return str_is_alnum(c) || c == '-';
}

/* The id at the end of a task's ARN. */
static int read_id(char id[ECS_TASK_ID_SIZE], const char *arn, struct error *err)
{
    struct str head, tail;
    if (!str_cut_last(str_from(arn), '/', &head, &tail) || tail.len == 0 || !str_all(tail, is_id_char) ||
        !str_copy(tail, id, ECS_TASK_ID_SIZE))
        return error_set(err, ERROR_INVALID, "\"%s\" is not a valid task ARN", arn);
    return 0;
}

static int read_ids(struct ecs_task_ids *ids, const struct json *doc, struct error *err)
{
    int list = json_member(doc, json_root(doc), "taskArns");
    if (json_type(doc, list) != JSON_ARRAY)
        return error_set(err, ERROR_INVALID, "the answer holds no taskArns");
    while (ids->count < json_count(doc, list) && ids->count < ECS_TASKS_MAX) {
        char arn[METADATA_ARN_SIZE];
        if (!json_string(doc, json_element(doc, list, ids->count), arn, sizeof arn, NULL))
            return error_set(err, ERROR_INVALID, "a task's ARN is not a string of up to %zu bytes",
                             sizeof arn - 1);
        int result = read_id(ids->ids[ids->count], arn, err);
        if (result != 0)
            return result;
        ids->count++;
    }
    return 0;
}

enum api_class ecs_client_read_list_tasks(struct ecs_task_ids *ids, const struct api_answer *answer,
                                          struct json_token *tokens, size_t capacity,
                                          struct api_failure *failure, struct error *err)
{
    struct json doc;
    ids->count = 0;
    enum api_class class = api_classify_by(API_BY_USER, &LIST_TASKS, answer, failure, err);
    if (class != API_OK)
        return class;
    int result = json_parse(&doc, answer->body, tokens, capacity, err);
    if (result == 0)
        result = read_ids(ids, &doc, err);
    if (result != 0)
        ids->count = 0;
    return api_conclude(&LIST_TASKS, result, err);
}

/* --- DescribeTasks --- */

void ecs_client_write_describe_tasks(struct writer *body, struct str cluster, const struct ecs_task_ids *ids,
                                     size_t from, size_t count)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_string(&j, "cluster", cluster);
    json_key(&j, "tasks");
    json_begin_array(&j);
    for (size_t i = from; i < ids->count && i - from < count; i++)
        json_put_text(&j, ids->ids[i]);
    json_end_array(&j);
    json_end_object(&j);
}

enum api_class ecs_client_read_describe_tasks(struct ecs_task_reader *reader, const struct api_answer *answer,
                                              struct json_token *tokens, size_t capacity,
                                              struct api_failure *failure, struct error *err)
{
    int first;
    *reader = (struct ecs_task_reader){.containers = JSON_ABSENT};
    enum api_class class = api_classify_by(API_BY_USER, &DESCRIBE_TASKS, answer, failure, err);
    if (class != API_OK)
        return class;
    int result = ecs_parse_described(&reader->doc, &first, "tasks", answer, tokens, capacity, err);
    if (result != 0)
        reader->doc.token_count = 0; /* nothing will be found in it */
    return api_conclude(&DESCRIBE_TASKS, result, err);
}

struct field {
    const char *name;
    char *out;
    size_t capacity;
};

static int read_fields(const struct json *doc, int object, const struct field *fields, size_t count,
                       struct error *err)
{
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i++)
        result = api_json_text(doc, object, fields[i].name, fields[i].out, fields[i].capacity, err);
    return result;
}

static int64_t read_time(const struct json *doc, int object, const char *name)
{
    int64_t unix_ms;
    return json_epoch_ms(doc, json_member(doc, object, name), &unix_ms) ? unix_ms : -1;
}

static int read_task(struct ecs_client_task *task, const struct json *doc, int object, struct error *err)
{
    const struct field fields[] = {
        {"taskArn", task->arn, sizeof task->arn},
        {"clusterArn", task->cluster_arn, sizeof task->cluster_arn},
        {"group", task->group, sizeof task->group},
        {"lastStatus", task->last_status, sizeof task->last_status},
        {"stopCode", task->stop_code, sizeof task->stop_code},
    };
    int result = read_fields(doc, object, fields, sizeof fields / sizeof fields[0], err);
    if (result == 0)
        result = read_id(task->id, task->arn, err);
    if (result != 0)
        return result;
    task->is_stopping = json_string_equal(doc, json_member(doc, object, "desiredStatus"), "STOPPED");
    task->is_running = !task->is_stopping && strcmp(task->last_status, "RUNNING") == 0;
    task->is_stopped = strcmp(task->last_status, "STOPPED") == 0;
    task->created_unix_ms = read_time(doc, object, "createdAt");
    task->started_unix_ms = read_time(doc, object, "startedAt");
    api_json_words(doc, object, "stoppedReason", task->stopped_reason, sizeof task->stopped_reason);
    return 0;
}

int ecs_client_next_task(struct ecs_task_reader *reader, struct ecs_client_task *task, struct error *err)
{
    const struct json *doc = &reader->doc;
    int object = json_element(doc, json_member(doc, json_root(doc), "tasks"), reader->task);
    memset(task, 0, sizeof *task);
    reader->container = 0;
    reader->containers = json_member(doc, object, "containers");
    if (object == JSON_ABSENT)
        return 0;
    reader->task++;
    int result = read_task(task, doc, object, err);
    return result == 0 ? 1 : result;
}

int ecs_client_next_container(struct ecs_task_reader *reader, struct ecs_client_container *container,
                              struct error *err)
{
    const struct json *doc = &reader->doc;
    int object = json_element(doc, reader->containers, reader->container);
    const struct field fields[] = {
        {"name", container->name, sizeof container->name},
        {"runtimeId", container->runtime_id, sizeof container->runtime_id},
        {"lastStatus", container->last_status, sizeof container->last_status},
    };
    memset(container, 0, sizeof *container);
    if (object == JSON_ABSENT)
        return 0;
    reader->container++;
    int result = read_fields(doc, object, fields, sizeof fields / sizeof fields[0], err);
    if (result != 0)
        return result;
    container->has_exit_code = json_i64(doc, json_member(doc, object, "exitCode"), &container->exit_code);
    api_json_words(doc, object, "reason", container->reason, sizeof container->reason);
    return 1;
}

int ecs_client_format_target(char target[METADATA_TARGET_SIZE], const struct ecs_client_task *task,
                             const struct ecs_client_container *container, struct error *err)
{
    target[0] = '\0';
    if (container->runtime_id[0] == '\0')
        return error_set(err, ERROR_NOT_FOUND, "container %s of task %s has not started yet", container->name,
                         task->id);
    return metadata_write_target(target, str_from(task->cluster_arn), str_from(task->id),
                                 str_from(container->runtime_id), err);
}

/* --- DescribeServices, UpdateService --- */

static void read_events(struct ecs_client_service *service, const struct json *doc, int list)
{
    size_t count = json_count(doc, list);
    service->event_count = count < ECS_EVENTS_MAX ? count : ECS_EVENTS_MAX;
    for (size_t i = 0; i < service->event_count; i++) {
        struct ecs_client_event *event = &service->events[i];
        int object = json_element(doc, list, i);
        event->created_unix_ms = read_time(doc, object, "createdAt");
        api_json_words(doc, object, "message", event->message, sizeof event->message);
    }
}

static int read_service(struct ecs_client_service *service, const struct json *doc, int object,
                        struct error *err)
{
    int result = ecs_read_count(doc, object, "desiredCount", &service->desired_count, err);
    if (result == 0)
        result = ecs_read_count(doc, object, "runningCount", &service->running_count, err);
    if (result == 0)
        result = ecs_read_count(doc, object, "pendingCount", &service->pending_count, err);
    service->is_active = json_string_equal(doc, json_member(doc, object, "status"), "ACTIVE");
    json_bool(doc, json_member(doc, object, "enableExecuteCommand"), &service->exec_is_enabled);
    read_events(service, doc, json_member(doc, object, "events"));
    return result;
}

enum api_class ecs_client_read_describe_services(struct ecs_client_service *service,
                                                 const struct api_answer *answer, struct json_token *tokens,
                                                 size_t capacity, struct api_failure *failure,
                                                 struct error *err)
{
    struct json doc;
    int first;
    memset(service, 0, sizeof *service);
    enum api_class class = api_classify_by(API_BY_USER, &DESCRIBE_SERVICES, answer, failure, err);
    if (class != API_OK)
        return class;
    int result = ecs_parse_described(&doc, &first, "services", answer, tokens, capacity, err);
    if (result == 0)
        result = read_service(service, &doc, first, err);
    return api_conclude(&DESCRIBE_SERVICES, result, err);
}

enum api_class ecs_client_read_update_service(const struct api_answer *answer, struct api_failure *failure,
                                              struct error *err)
{
    return api_classify_by(API_BY_USER, &UPDATE_SERVICE, answer, failure, err);
}
