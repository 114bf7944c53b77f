#include "client/task.h"

#include <string.h>

#include "base/bytes.h"
#include "base/utf8.h"
#include "host/clock.h"

static struct json_token tokens[API_JSON_TOKENS]; /* there is one task, and only touched pages count */

static struct client_task *owner_of(struct aws_call *call)
{
    return LOOP_OWNER(call, struct client_task, call);
}

static void answered(struct aws_call *call);

enum forward_result client_result(enum api_class class, enum error_code code)
{
    if (class == API_OK)
        return FORWARD_DONE;
    return class == API_FAILED && code != ERROR_SYSTEM ? FORWARD_REFUSED : FORWARD_FAILED;
}

static void finish(struct client_task *task, enum forward_result result, const char *text)
{
    utf8_copy_cut(str_from(text), task->text, sizeof task->text);
    task->done(task, result);
}

/* ---- the calls ----------------------------------------------------------------------------------------- */

static struct str cluster_of(const struct client_task *task)
{
    return str_from(task->config->cluster);
}

static struct str service_of(const struct client_task *task)
{
    return str_from(task->config->service);
}

static int make(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                const char *target, const struct writer *body, struct error *err)
{
    (void) call;
    if (body->failed)
        return error_set(err, ERROR_TOO_LARGE, "a name is too long");
    return api_request_json(request, endpoint, target, writer_view(body), err);
}

static struct writer body_of(struct aws_call *call)
{
    struct client_task *task = owner_of(call);
    return writer_of(task->body_memory, sizeof task->body_memory);
}

static int make_list(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                     struct error *err)
{
    struct client_task *task = owner_of(call);
    struct writer body = body_of(call);
    struct ecs_task_query query = {.cluster = cluster_of(task),
                                   .service = service_of(task),
                                   .family = str_from(task->config->family),
                                   .stopped = task->lists_stopped};
    ecs_client_write_list_tasks(&body, &query);
    return make(call, request, endpoint, ECS_TARGET_LIST_TASKS, &body, err);
}

static enum api_class read_list(struct aws_call *call, const struct api_answer *answer,
                                struct api_failure *failure, struct error *err)
{
    return ecs_client_read_list_tasks(&owner_of(call)->ids, answer, tokens, API_JSON_TOKENS, failure, err);
}

static int make_describe(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                         struct error *err)
{
    struct client_task *task = owner_of(call);
    struct writer body = body_of(call);
    size_t left = task->ids.count - task->described;
    ecs_client_write_describe_tasks(&body, cluster_of(task), &task->ids, task->described,
                                    left < ECS_DESCRIBED_AT_ONCE ? left : ECS_DESCRIBED_AT_ONCE);
    return make(call, request, endpoint, ECS_TARGET_DESCRIBE_TASKS, &body, err);
}

/* The container that sessions go to: the one that was named, or the first that runs. */
static bool find_container(const struct client_task *task, struct ecs_task_reader *reader,
                           struct ecs_client_container *found)
{
    struct ecs_client_container container;
    struct error err = ERROR_INIT;
    const char *name = task->config->container;
    int result;
    found->name[0] = '\0';
    found->reason[0] = '\0';
    while ((result = ecs_client_next_container(reader, &container, &err)) != 0) {
        bool is_wanted = name[0] != '\0' ? strcmp(container.name, name) == 0 : found->name[0] == '\0';
        if (result > 0 && is_wanted && container.runtime_id[0] != '\0') {
            *found = container;
            return true;
        }
        if (result > 0 && container.reason[0] != '\0')
            memcpy(found->reason, container.reason, sizeof found->reason);
    }
    return false;
}

static void note_stopped(struct client_task *task, const struct ecs_client_task *one, const char *reason)
{
    struct writer text = writer_of(task->text, sizeof task->text);
    if (one->started_unix_ms < task->newest_ms && one->created_unix_ms < task->newest_ms)
        return;
    task->newest_ms = one->created_unix_ms;
    writer_format(&text, "task %s stopped: %s%s%s", one->id,
                  one->stopped_reason[0] != '\0' ? one->stopped_reason : one->stop_code,
                  reason[0] != '\0' ? "; " : "", reason);
    writer_terminate(&text);
}

static void note_on_the_way(struct client_task *task, const struct ecs_client_task *one)
{
    struct writer text = writer_of(task->text, sizeof task->text);
    task->some_on_the_way = true;
    writer_format(&text, "task %s is %s", one->id, one->last_status);
    writer_terminate(&text);
}

/* One task of the answer. */
static void consider(struct client_task *task, struct ecs_task_reader *reader,
                     const struct ecs_client_task *one)
{
    struct ecs_client_container container;
    bool has_container = find_container(task, reader, &container);
    if (one->is_stopping || one->is_stopped) {
        if (!task->some_on_the_way && !task->is_found)
            note_stopped(task, one, container.reason);
    } else if (!one->is_running || !has_container) {
        if (!task->is_found)
            note_on_the_way(task, one);
    } else if (!task->is_found || one->started_unix_ms > task->found.started_unix_ms) {
        struct error err = ERROR_INIT;
        task->is_found = ecs_client_format_target(task->target, one, &container, &err) == 0;
        task->found = *one;
    }
}

static enum api_class read_described(struct aws_call *call, const struct api_answer *answer,
                                     struct api_failure *failure, struct error *err)
{
    struct client_task *task = owner_of(call);
    struct ecs_task_reader reader;
    struct ecs_client_task one;
    struct error unusable = ERROR_INIT;
    int result;
    enum api_class class =
        ecs_client_read_describe_tasks(&reader, answer, tokens, API_JSON_TOKENS, failure, err);
    if (class == API_FAILED && err->code == ERROR_NOT_FOUND)
        return API_OK; /* they were forgotten meanwhile */
    if (class != API_OK)
        return class;
    while ((result = ecs_client_next_task(&reader, &one, &unusable)) != 0)
        if (result > 0)
            consider(task, &reader, &one);
    return API_OK;
}

static int make_service(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                        struct error *err)
{
    struct client_task *task = owner_of(call);
    struct writer body = body_of(call);
    ecs_write_describe_services(&body, cluster_of(task), service_of(task));
    return make(call, request, endpoint, ECS_TARGET_DESCRIBE_SERVICES, &body, err);
}

static enum api_class read_service(struct aws_call *call, const struct api_answer *answer,
                                   struct api_failure *failure, struct error *err)
{
    return ecs_client_read_describe_services(&owner_of(call)->service, answer, tokens, API_JSON_TOKENS,
                                             failure, err);
}

static int make_update(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                       struct error *err)
{
    struct client_task *task = owner_of(call);
    struct writer body = body_of(call);
    ecs_write_update_service(&body, cluster_of(task), service_of(task), 1);
    return make(call, request, endpoint, ECS_TARGET_UPDATE_SERVICE, &body, err);
}

static enum api_class read_update(struct aws_call *call, const struct api_answer *answer,
                                  struct api_failure *failure, struct error *err)
{
    (void) call;
    return ecs_client_read_update_service(answer, failure, err);
}

static const struct aws_operation list = {
    .api = ECS_LIST_TASKS_CALL, .is_signed = true, .make = make_list, .classify = read_list};
static const struct aws_operation describe = {
    .api = ECS_DESCRIBE_TASKS_CALL, .is_signed = true, .make = make_describe, .classify = read_described};
static const struct aws_operation describe_service = {
    .api = ECS_DESCRIBE_SERVICES_CALL, .is_signed = true, .make = make_service, .classify = read_service};
static const struct aws_operation update = {
    .api = ECS_UPDATE_SERVICE_CALL, .is_signed = true, .make = make_update, .classify = read_update};

static void ask(struct client_task *task, const struct aws_operation *operation)
{
    task->call.operation = operation;
    aws_call_start(&task->call,
                   clock_after_ms(loop_now_ms(task->call.client->network->loop), CLIENT_TASK_CALL_MS));
}

/* ---- what follows from an answer ----------------------------------------------------------------------- */

static void write_whose(const struct client_task *task, struct writer *text)
{
    if (task->config->id[0] != '\0')
        writer_format(text, "task %s", task->config->id);
    else if (task->config->service[0] != '\0')
        writer_format(text, "service %s", task->config->service);
    else
        writer_format(text, "family %s", task->config->family);
    writer_format(text, " of cluster %s", task->config->cluster);
}

/* No task is there: why, as far as ECS says. */
static void explain_none(struct client_task *task)
{
    char memory[CLIENT_TASK_TEXT_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    const struct ecs_client_service *service = &task->service;
    bool has_service = task->config->service[0] != '\0' && task->config->id[0] == '\0';
    writer_text(&text, "no task of ");
    write_whose(task, &text);
    writer_text(&text, " runs");
    if (has_service)
        writer_format(&text, " (desired count %u, pending %u)", service->desired_count,
                      service->pending_count);
    if (task->text[0] != '\0')
        writer_format(&text, "; %s", task->text);
    else if (has_service && service->event_count > 0)
        writer_format(&text, "; latest event: %s", service->events[0].message);
    writer_terminate(&text);
    bool will_come = has_service && service->desired_count > 0;
    finish(task, will_come ? FORWARD_SOON : FORWARD_NONE, memory);
}

static void listed(struct client_task *task)
{
    task->described = 0;
    task->newest_ms = INT64_MIN;
    if (task->ids.count > 0)
        ask(task, &describe);
    else if (task->lists_stopped || task->config->service[0] == '\0')
        explain_none(task);
    else
        ask(task, &describe_service);
}

static void described(struct client_task *task)
{
    char way[CLIENT_TASK_TEXT_SIZE];
    size_t left = task->ids.count - task->described;
    task->described += left < ECS_DESCRIBED_AT_ONCE ? left : ECS_DESCRIBED_AT_ONCE;
    if (task->described < task->ids.count) {
        ask(task, &describe);
    } else if (task->is_found) {
        finish(task, FORWARD_DONE, "");
    } else if (task->some_on_the_way) {
        memcpy(way, task->text, sizeof way);
        finish(task, FORWARD_SOON, way);
    } else if (task->lists_stopped || task->config->service[0] == '\0' || task->config->id[0] != '\0') {
        explain_none(task);
    } else {
        ask(task, &describe_service);
    }
}

static void service_described(struct client_task *task)
{
    if (!task->service.is_active)
        finish(task, FORWARD_REFUSED, "the service is being deleted, or was");
    else if (!task->starting) {
        task->lists_stopped = true;
        ask(task, &list);
    } else if (task->service.desired_count == 0)
        ask(task, &update);
    else
        finish(task, FORWARD_DONE, "");
}

static void fail(struct client_task *task, const struct aws_call *call)
{
    char memory[CLIENT_TASK_TEXT_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    write_whose(task, &text);
    writer_format(&text, ": %s", call->err.text);
    finish(task, client_result(call->class, call->err.code), writer_terminate(&text));
}

static void answered(struct aws_call *call)
{
    struct client_task *task = owner_of(call);
    if (call->class != API_OK)
        fail(task, call);
    else if (call->operation == &list)
        listed(task);
    else if (call->operation == &describe)
        described(task);
    else if (call->operation == &describe_service)
        service_described(task);
    else
        finish(task, FORWARD_DONE, "");
}

/* ---- the surface --------------------------------------------------------------------------------------- */

void client_task_init(struct client_task *task, struct aws_client *client,
                      const struct forward_settings *config,
                      void (*done)(struct client_task *task, enum forward_result result))
{
    memset(task, 0, sizeof *task);
    task->config = config;
    task->done = done;
    task->call.client = client;
    task->call.done = answered;
}

void client_task_find(struct client_task *task)
{
    const char *id = task->config->id;
    task->starting = task->is_found = task->some_on_the_way = task->lists_stopped = false;
    task->text[0] = '\0';
    memset(&task->service, 0, sizeof task->service);
    if (id[0] == '\0') {
        ask(task, &list);
        return;
    }
    task->ids.count = 1;
    utf8_copy_cut(str_from(id), task->ids.ids[0], sizeof task->ids.ids[0]);
    listed(task);
}

void client_task_start(struct client_task *task)
{
    task->starting = true;
    task->text[0] = '\0';
    ask(task, &describe_service);
}

void client_task_cancel(struct client_task *task)
{
    aws_call_cancel(&task->call);
}
