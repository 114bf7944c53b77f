#include "worker/worker.h"

#include <string.h>
#include <sys/socket.h>

#include "aws/ecs.h"
#include "aws/metadata.h"
#include "base/env.h"
#include "base/time.h"
#include "cloud/aws_call.h"
#include "host/child.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/sandbox.h"
#include "net/network.h"
#include "wire/ipc.h"

enum { PROTECTION_MINUTES = 60 /* half of ECS's default; the keeper renews it in time */ };

struct worker {
    struct loop loop;
    struct network network;
    struct loop_watch keeper;
    struct aws_client client;
    struct aws_call call;
    struct endpoint endpoint; /* of calls to the task's own endpoints */
    struct ipc_call order;
    struct ipc_answer answer;
    char body[ECS_BODY_SIZE];
    struct json_token tokens[API_JSON_TOKENS];
};

static struct worker *owner_of(struct aws_call *call)
{
    return LOOP_OWNER(call, struct worker, call);
}

/* ---- requests ------------------------------------------------------------------------------------------ */

static int make_metadata(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                         struct error *err)
{
    (void) call;
    return metadata_make_task_request(request, endpoint, err);
}

static int make_protection(struct aws_call *call, struct api_request *request,
                           const struct endpoint *endpoint, struct error *err)
{
    struct worker *worker = owner_of(call);
    struct writer body = writer_of(worker->body, sizeof worker->body);
    ecs_write_protection(&body, worker->order.protect, PROTECTION_MINUTES);
    return ecs_make_protection_request(request, endpoint, writer_view(&body), err);
}

static int make_ecs(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                    struct error *err)
{
    static const char *const targets[IPC_CALL_COUNT] = {[IPC_DESCRIBE_TASKS] = ECS_TARGET_DESCRIBE_TASKS,
                                                        [IPC_DESCRIBE_SERVICES] =
                                                            ECS_TARGET_DESCRIBE_SERVICES,
                                                        [IPC_STOP_TASK] = ECS_TARGET_STOP_TASK,
                                                        [IPC_UPDATE_SERVICE] = ECS_TARGET_UPDATE_SERVICE};
    struct worker *worker = owner_of(call);
    const struct ipc_call *order = &worker->order;
    struct writer body = writer_of(worker->body, sizeof worker->body);
    struct str cluster = str_from(order->cluster);
    if (order->kind == IPC_DESCRIBE_TASKS)
        ecs_write_describe_tasks(&body, cluster, str_from(order->task_arn));
    else if (order->kind == IPC_DESCRIBE_SERVICES)
        ecs_write_describe_services(&body, cluster, str_from(order->service));
    else if (order->kind == IPC_STOP_TASK)
        ecs_write_stop_task(&body, cluster, str_from(order->task_arn), str_from(order->reason));
    else
        ecs_write_update_service(&body, cluster, str_from(order->service), order->desired_count);
    return api_request_json(request, endpoint, targets[order->kind], writer_view(&body), err);
}

/* ---- answers ------------------------------------------------------------------------------------------- */

static enum api_class read_metadata(struct aws_call *call, const struct api_answer *answer,
                                    struct api_failure *failure, struct error *err)
{
    static struct metadata metadata;
    struct worker *worker = owner_of(call);
    (void) failure;
    if (metadata_read_task(&metadata, answer, worker->tokens, API_JSON_TOKENS, err) < 0)
        return API_RETRY;
    if (aws_client_find_region(&worker->client, str_from(metadata.task_arn), err) < 0)
        log_event(LOG_WARN, "can't tell the region; set AWS_REGION", LOG_ERR(err));
    ipc_set_text(worker->answer.cluster, IPC_ARN_SIZE, str_from(metadata.cluster));
    ipc_set_text(worker->answer.task_arn, IPC_ARN_SIZE, str_from(metadata.task_arn));
    ipc_set_text(worker->answer.service, IPC_NAME_SIZE, str_from(metadata.service_name));
    return API_OK;
}

static enum api_class read_describe_tasks(struct aws_call *call, const struct api_answer *answer,
                                          struct api_failure *failure, struct error *err)
{
    struct worker *worker = owner_of(call);
    struct ecs_task task;
    enum api_class class =
        ecs_read_describe_tasks(&task, answer, worker->tokens, API_JSON_TOKENS, failure, err);
    ipc_set_text(worker->answer.group, IPC_GROUP_SIZE, str_from(task.group));
    ipc_set_text(worker->answer.service, IPC_NAME_SIZE, str_from(task.service_name));
    worker->answer.already = task.is_stopping;
    return class;
}

static enum api_class read_describe_services(struct aws_call *call, const struct api_answer *answer,
                                             struct api_failure *failure, struct error *err)
{
    struct worker *worker = owner_of(call);
    struct ecs_service service;
    enum api_class class =
        ecs_read_describe_services(&service, answer, worker->tokens, API_JSON_TOKENS, failure, err);
    worker->answer.desired_count = service.desired_count;
    worker->answer.changed_unix_ms = service.changed_unix_ms;
    worker->answer.already = service.is_daemon;
    if (!timestamp_parse_http_date(answer->date, &worker->answer.server_unix_ms))
        worker->answer.server_unix_ms = -1;
    return class;
}

static enum api_class read_stop_task(struct aws_call *call, const struct api_answer *answer,
                                     struct api_failure *failure, struct error *err)
{
    bool already;
    enum api_class class = ecs_classify_stop_task(answer, &already, failure, err);
    owner_of(call)->answer.already = already;
    return class;
}

static enum api_class read_update_service(struct aws_call *call, const struct api_answer *answer,
                                          struct api_failure *failure, struct error *err)
{
    struct worker *worker = owner_of(call);
    bool already;
    enum api_class class = ecs_classify_update_service(
        answer, worker->order.desired_count, worker->order.service_is_certain, &already, failure, err);
    worker->answer.already = already;
    return class;
}

static enum api_class read_protection(struct aws_call *call, const struct api_answer *answer,
                                      struct api_failure *failure, struct error *err)
{
    struct worker *worker = owner_of(call);
    struct ecs_protection protection;
    (void) failure;
    enum api_class class = ecs_read_protection(&protection, answer, err);
    worker->answer.is_protected = protection.enabled;
    worker->answer.expires_unix_ms = protection.expires_unix_ms;
    return class;
}

static const struct aws_operation operations[IPC_CALL_COUNT] = {
    [IPC_TASK_METADATA] = {{.action = "task metadata", .expected_status = 200},
                           false,
                           make_metadata,
                           read_metadata},
    [IPC_DESCRIBE_TASKS] = {{ENDPOINT_ECS, "DescribeTasks", 200}, true, make_ecs, read_describe_tasks},
    [IPC_DESCRIBE_SERVICES] = {{ENDPOINT_ECS, "DescribeServices", 200},
                               true,
                               make_ecs,
                               read_describe_services},
    [IPC_STOP_TASK] = {{ENDPOINT_ECS, "StopTask", 200}, true, make_ecs, read_stop_task},
    [IPC_UPDATE_SERVICE] = {{ENDPOINT_ECS, "UpdateService", 200}, true, make_ecs, read_update_service},
    [IPC_TASK_PROTECTION] = {{ENDPOINT_ECS, "UpdateTaskProtection", 200},
                             false,
                             make_protection,
                             read_protection},
};

/* ---- the one call -------------------------------------------------------------------------------------- */

static void leave(struct worker *worker, enum ipc_result result, const struct error *err)
{
    worker->answer.kind = worker->order.kind;
    worker->answer.result = result;
    worker->answer.error = err->code;
    ipc_set_text(worker->answer.text, sizeof worker->answer.text, str_from(err->text));
    worker->answer.clock_offset_ms = worker->client.credentials.clock_offset_ms;
    (void) send(worker->keeper.fd, &worker->answer, sizeof worker->answer, MSG_DONTWAIT | MSG_NOSIGNAL);
    loop_stop(&worker->loop);
}

static void done(struct aws_call *call)
{
    static const enum ipc_result results[] = {
        [API_OK] = IPC_DONE, [API_RETRY] = IPC_RETRY, [API_FAILED] = IPC_FAILED};
    leave(owner_of(call), results[call->class], &call->err);
}

/* The task's own endpoints are known by variables of the environment. */
static int find_own_endpoint(struct worker *worker, struct error *err)
{
    bool protects = worker->order.kind == IPC_TASK_PROTECTION;
    const char *variable = protects ? "ECS_AGENT_URI" : "ECS_CONTAINER_METADATA_URI_V4";
    if (endpoint_from_url(&worker->endpoint, env_get(worker->client.env, variable), err) < 0)
        return error_prefix(err, "%s: ", variable);
    worker->call.fixed_endpoint = &worker->endpoint;
    return 0;
}

static void start(struct worker *worker)
{
    struct error err = ERROR_INIT;
    worker->call.operation = &operations[worker->order.kind];
    worker->client.credentials.clock_offset_ms = worker->order.clock_offset_ms;
    aws_client_find_region(&worker->client, str_from(worker->order.task_arn), NULL);
    if (!worker->call.operation->is_signed && find_own_endpoint(worker, &err) < 0)
        leave(worker, IPC_FAILED, &err);
    else
        aws_call_start(&worker->call, worker->order.deadline_ms);
}

static void keeper_ready(struct loop_watch *watch, uint32_t events)
{
    struct worker *worker = LOOP_OWNER(watch, struct worker, keeper);
    (void) events;
    if (!worker->call.active &&
        recv(watch->fd, &worker->order, sizeof worker->order, MSG_DONTWAIT) == sizeof worker->order &&
        worker->order.kind < IPC_CALL_COUNT)
        start(worker);
    else /* the keeper has gone, or wants no answer any more */
        loop_stop(&worker->loop);
}

static int open_all(struct worker *worker, char *const *env, struct error *err)
{
    if (loop_open(&worker->loop, err) < 0 || network_open(&worker->network, &worker->loop, env, err) < 0)
        return err->code;
    if (worker->network.proxy_err.code != ERROR_NONE) {
        /* Going around a proxy is wrong for users' sessions, but a task has to end. */
        log_event(LOG_WARN, "calling AWS without the proxy", LOG_ERR(&worker->network.proxy_err));
        worker->network.proxy.host[0] = '\0';
    }
    aws_client_open(&worker->client, &worker->network, env);
    worker->answer.server_unix_ms = worker->answer.changed_unix_ms = worker->answer.expires_unix_ms = -1;
    worker->call.client = &worker->client;
    worker->call.done = done;
    /* The files that may need a privilege have been read. The relay does not start without its sandbox.
     * Without this call a task could not end, so it is made all the same. */
    if (sandbox_enter(err) < 0)
        log_event(LOG_WARN, "a call to AWS is made without the sandbox", LOG_ERR(err));
    return loop_watch_add(&worker->loop, &worker->keeper, CHILD_CHANNEL_FD, EPOLLIN, keeper_ready, err);
}

int worker_run(char *const *env)
{
    static struct worker worker; /* too large for a stack, and there is one */
    struct error err = ERROR_INIT;
    int result = open_all(&worker, env, &err);
    if (result == 0)
        result = loop_run(&worker.loop, &err);
    aws_client_close(&worker.client);
    if (result < 0)
        log_event(LOG_ERROR, "a call to AWS can't be made", LOG_ERR(&err));
    return result < 0 ? 1 : 0;
}
