#include "keeper/ecs_shutdown.h"

#include <string.h>

#include "base/bytes.h"
#include "base/time.h"
#include "host/clock.h"
#include "host/log.h"

static void run_step(struct ecs_shutdown *ending, enum ecs_shutdown_step step);

static struct ecs_shutdown *owner_of(struct aws_call *call)
{
    return LOOP_OWNER(call, struct ecs_shutdown, call);
}

static void report(struct ecs_shutdown *ending, enum terminator_result result)
{
    ending->busy = false;
    ending->report(ending, result);
}

static struct str cluster_of(const struct ecs_shutdown *ending)
{
    return str_from(ending->identity->metadata.cluster);
}

static struct str task_of(const struct ecs_shutdown *ending)
{
    return str_from(ending->identity->metadata.task_arn);
}

/* ---- the requests -------------------------------------------------------------------------------------- */

static int make_describe_tasks(struct aws_call *call, struct api_request *request,
                               const struct endpoint *endpoint, struct error *err)
{
    struct ecs_shutdown *ending = owner_of(call);
    struct writer body = writer_of(ending->body, sizeof ending->body);
    ecs_write_describe_tasks(&body, cluster_of(ending), task_of(ending));
    return api_request_json(request, endpoint, ECS_TARGET_DESCRIBE_TASKS, writer_view(&body), err);
}

static int make_describe_services(struct aws_call *call, struct api_request *request,
                                  const struct endpoint *endpoint, struct error *err)
{
    struct ecs_shutdown *ending = owner_of(call);
    struct writer body = writer_of(ending->body, sizeof ending->body);
    ecs_write_describe_services(&body, cluster_of(ending), str_from(ending->identity->service_name));
    return api_request_json(request, endpoint, ECS_TARGET_DESCRIBE_SERVICES, writer_view(&body), err);
}

static int make_update_service(struct aws_call *call, struct api_request *request,
                               const struct endpoint *endpoint, struct error *err)
{
    struct ecs_shutdown *ending = owner_of(call);
    struct writer body = writer_of(ending->body, sizeof ending->body);
    ecs_write_update_service(&body, cluster_of(ending), str_from(ending->identity->service_name),
                             ending->target_count);
    return api_request_json(request, endpoint, ECS_TARGET_UPDATE_SERVICE, writer_view(&body), err);
}

static int make_stop_task(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                          struct error *err)
{
    struct ecs_shutdown *ending = owner_of(call);
    struct writer body = writer_of(ending->body, sizeof ending->body);
    ecs_write_stop_task(&body, cluster_of(ending), task_of(ending), str_from(ending->reason));
    return api_request_json(request, endpoint, ECS_TARGET_STOP_TASK, writer_view(&body), err);
}

/* ---- the answers --------------------------------------------------------------------------------------- */

static enum api_class read_describe_tasks(struct aws_call *call, const struct api_answer *answer,
                                          struct api_failure *failure, struct error *err)
{
    return ecs_read_describe_tasks(&owner_of(call)->task, answer, task_identity_tokens(), API_JSON_TOKENS,
                                   failure, err);
}

static enum api_class read_describe_services(struct aws_call *call, const struct api_answer *answer,
                                             struct api_failure *failure, struct error *err)
{
    struct ecs_shutdown *ending = owner_of(call);
    if (!timestamp_parse_http_date(answer->date, &ending->server_unix_ms))
        ending->server_unix_ms = -1;
    return ecs_read_describe_services(&ending->service, answer, task_identity_tokens(), API_JSON_TOKENS,
                                      failure, err);
}

static enum api_class classify_update_service(struct aws_call *call, const struct api_answer *answer,
                                              struct api_failure *failure, struct error *err)
{
    struct ecs_shutdown *ending = owner_of(call);
    return ecs_classify_update_service(answer, ending->target_count, ending->identity->service_is_certain,
                                       &ending->already, failure, err);
}

static enum api_class classify_stop_task(struct aws_call *call, const struct api_answer *answer,
                                         struct api_failure *failure, struct error *err)
{
    return ecs_classify_stop_task(answer, &owner_of(call)->already, failure, err);
}

/* ---- what follows from them ---------------------------------------------------------------------------- */

static enum terminator_result result_of_failure(const struct ecs_shutdown *ending)
{
    return ending->call.class == API_FAILED ? TERMINATOR_REFUSED : TERMINATOR_FAILED;
}

static void fail(struct ecs_shutdown *ending, const char *message)
{
    log_event(LOG_WARN, message, LOG_ERR(&ending->call.err));
    report(ending, result_of_failure(ending));
}

static void found_service(struct ecs_shutdown *ending)
{
    struct task_identity *identity = ending->identity;
    bool at_start = !ending->busy;
    if (ending->call.class != API_OK) {
        if (at_start)
            log_event(LOG_WARN,
                      "can't tell which service this task belongs to; it will be asked again at the end "
                      "(or set ECS_TST_ECS_SERVICE_NAME)",
                      LOG_ERR(&ending->call.err));
        else
            fail(ending, "can't scale in: the service's name is not known");
        return;
    }
    identity->service =
        ending->task.service_name[0] != '\0' ? TASK_IDENTITY_SERVICE_NAMED : TASK_IDENTITY_SERVICE_NONE;
    identity->service_is_certain = true;
    str_copy(str_from(ending->task.service_name), identity->service_name, sizeof identity->service_name);
    if (identity->service == TASK_IDENTITY_SERVICE_NONE)
        log_event(LOG_WARN, "no service started this task: there is no desired count to set",
                  LOG_TEXT("group", ending->task.group));
    if (at_start)
        return;
    if (identity->service == TASK_IDENTITY_SERVICE_NONE)
        report(ending, TERMINATOR_ALREADY_SO);
    else
        run_step(ending, ECS_SHUTDOWN_COUNT_TASKS);
}

/* In a service of several tasks a change is most likely a neighbour's who leaves, and
 * another task stays for who comes. */
static bool was_just_asked_for(const struct ecs_shutdown *ending)
{
    const struct ecs_service *service = &ending->service;
    return ending->asked_within_ms > 0 && service->desired_count == 1 && ending->server_unix_ms >= 0 &&
           service->changed_unix_ms > ending->server_unix_ms - ending->asked_within_ms;
}

static void counted_tasks(struct ecs_shutdown *ending)
{
    ending->tasks = 1;
    if (ending->call.class == API_OK) {
        ending->tasks = ending->service.desired_count;
        if (was_just_asked_for(ending)) {
            log_event(LOG_INFO, "somebody has just asked for this service: waiting for him",
                      LOG_TEXT("service", ending->identity->service_name),
                      LOG_TIME_MS("changed", ending->service.changed_unix_ms));
            report(ending, TERMINATOR_SOMEBODY);
            return;
        }
    } else if (ending->call.err.code == ERROR_DENIED || ending->call.err.code == ERROR_NOT_FOUND) {
        log_event(LOG_INFO, "can't ask how many tasks the service has; taking it for one",
                  LOG_ERR(&ending->call.err));
    } else {
        fail(ending, "can't scale in: the service's desired count is not known");
        return;
    }
    if (ending->tasks > 1 && !ending->stepped_aside) {
        report(ending, TERMINATOR_CROWDED);
        return;
    }
    ending->target_count = ending->tasks > 1 ? ending->tasks - 1 : 0;
    run_step(ending, ending->target_count > 0 ? ECS_SHUTDOWN_STOP_BEFORE_COUNT : ECS_SHUTDOWN_SET_COUNT);
}

static void stopped_before_count(struct ecs_shutdown *ending)
{
    /* Without having stopped itself, a lower count could cost a neighbour its sessions. */
    if (ending->call.class != API_OK)
        fail(ending, "can't scale in: this task could not stop itself first");
    else
        run_step(ending, ECS_SHUTDOWN_SET_COUNT);
}

static void set_count(struct ecs_shutdown *ending)
{
    if (ending->call.class != API_OK) {
        fail(ending, "can't set the service's desired count");
        return;
    }
    log_event(LOG_INFO, ending->already ? "nothing to scale in" : "set the service's desired count",
              LOG_TEXT("service", ending->identity->service_name), LOG_I64("from", ending->tasks),
              LOG_I64("desired_count", ending->target_count));
    report(ending, ending->already ? TERMINATOR_ALREADY_SO : TERMINATOR_DONE);
}

static void stopped_task(struct ecs_shutdown *ending)
{
    if (ending->call.class != API_OK) {
        fail(ending, "can't stop the task");
        return;
    }
    log_event(LOG_INFO, ending->already ? "the task is stopped already" : "asked ECS to stop the task",
              LOG_STR("task", task_of(ending)), LOG_TEXT("reason", ending->reason));
    report(ending, ending->already ? TERMINATOR_ALREADY_SO : TERMINATOR_DONE);
}

static const struct {
    struct aws_operation operation;
    void (*answered)(struct ecs_shutdown *ending);
} steps[ECS_SHUTDOWN_STEP_COUNT] = {
    [ECS_SHUTDOWN_FIND_SERVICE] =
        {{{ENDPOINT_ECS, "DescribeTasks", 200}, true, make_describe_tasks, read_describe_tasks},
         found_service},
    [ECS_SHUTDOWN_COUNT_TASKS] =
        {{{ENDPOINT_ECS, "DescribeServices", 200}, true, make_describe_services, read_describe_services},
         counted_tasks},
    [ECS_SHUTDOWN_STOP_BEFORE_COUNT] =
        {{{ENDPOINT_ECS, "StopTask", 200}, true, make_stop_task, classify_stop_task}, stopped_before_count},
    [ECS_SHUTDOWN_SET_COUNT] =
        {{{ENDPOINT_ECS, "UpdateService", 200}, true, make_update_service, classify_update_service},
         set_count},
    [ECS_SHUTDOWN_STOP_TASK] = {{{ENDPOINT_ECS, "StopTask", 200}, true, make_stop_task, classify_stop_task},
                                stopped_task},
};

static void answered(struct aws_call *call)
{
    struct ecs_shutdown *ending = owner_of(call);
    steps[ending->step].answered(ending);
}

static void run_step(struct ecs_shutdown *ending, enum ecs_shutdown_step step)
{
    ending->step = step;
    ending->already = false;
    ending->call.operation = &steps[step].operation;
    aws_call_start(&ending->call, ending->deadline_ms);
}

/* ---- the surface --------------------------------------------------------------------------------------- */

void ecs_shutdown_open(struct ecs_shutdown *ending, struct task_identity *identity,
                       void (*report_result)(struct ecs_shutdown *ending, enum terminator_result result),
                       void *owner)
{
    memset(ending, 0, sizeof *ending);
    ending->identity = identity;
    ending->report = report_result;
    ending->owner = owner;
    ending->call.client = identity->client;
    ending->call.done = answered;
}

void ecs_shutdown_close(struct ecs_shutdown *ending)
{
    aws_call_cancel(&ending->call);
}

/* False, with the failure reported, when not even the question can be asked. */
static bool begin(struct ecs_shutdown *ending, const char *reason, int64_t deadline_ms)
{
    aws_call_cancel(&ending->call);
    ending->busy = true;
    ending->deadline_ms = deadline_ms;
    struct writer text = writer_of(ending->reason, sizeof ending->reason);
    writer_format(&text, "stopped by fumidai: %s", reason);
    writer_terminate(&text);
    if (ending->identity->known)
        return true;
    log_event(LOG_WARN, "can't call ECS yet: the task's metadata could not be read so far",
              LOG_STR("endpoint", str_from(ending->identity->endpoint.authority)));
    report(ending, TERMINATOR_FAILED);
    return false;
}

void ecs_shutdown_scale_in(struct ecs_shutdown *ending, const struct terminator_action *action)
{
    ending->asked_within_ms = action->asked_within_ms;
    ending->stepped_aside = action->stepped_aside;
    if (!begin(ending, action->text, action->deadline_ms))
        return;
    if (ending->identity->service == TASK_IDENTITY_SERVICE_NONE)
        report(ending, TERMINATOR_ALREADY_SO);
    else
        run_step(ending, ending->identity->service == TASK_IDENTITY_SERVICE_NAMED
                             ? ECS_SHUTDOWN_COUNT_TASKS
                             : ECS_SHUTDOWN_FIND_SERVICE);
}

void ecs_shutdown_stop_task(struct ecs_shutdown *ending, const char *reason, int64_t deadline_ms)
{
    if (begin(ending, reason, deadline_ms))
        run_step(ending, ECS_SHUTDOWN_STOP_TASK);
}

void ecs_shutdown_find_service(struct ecs_shutdown *ending, int64_t deadline_ms)
{
    if (ending->busy || ending->call.active || ending->identity->service != TASK_IDENTITY_SERVICE_UNKNOWN)
        return;
    ending->deadline_ms = deadline_ms;
    run_step(ending, ECS_SHUTDOWN_FIND_SERVICE);
}
