#include "keeper/ecs_shutdown.h"

#include <string.h>

#include "base/bytes.h"
#include "host/log.h"

static void run_step(struct ecs_shutdown *shutdown, enum ecs_shutdown_step step);

static void report(struct ecs_shutdown *shutdown, enum terminator_result result)
{
    shutdown->busy = false;
    shutdown->report(shutdown, result);
}

static void fail(struct ecs_shutdown *shutdown, const char *message)
{
    log_event(LOG_WARN, message, LOG_ERR(&shutdown->worker.err));
    report(shutdown, shutdown->worker.result == IPC_FAILED ? TERMINATOR_REFUSED : TERMINATOR_FAILED);
}

/* ---- what follows from the answers --------------------------------------------------------------------- */

static void learn_service(struct ecs_shutdown *shutdown)
{
    struct own_task *task = shutdown->task;
    const struct ipc_answer *answer = &shutdown->worker.answer;
    task->service = answer->service[0] != '\0' ? OWN_TASK_SERVICE_NAMED : OWN_TASK_SERVICE_NONE;
    task->service_is_certain = true;
    memcpy(task->service_name, answer->service, sizeof task->service_name);
    if (task->service == OWN_TASK_SERVICE_NONE)
        log_event(LOG_WARN, "no service started this task: there is no desired count to set",
                  LOG_TEXT("group", answer->group));
}

static void described(struct ecs_shutdown *shutdown)
{
    const struct worker_process *worker = &shutdown->worker;
    enum own_task_service *service = &shutdown->task->service;
    bool done = worker->result == IPC_DONE;
    if (done && worker->answer.already && !shutdown->has_stopped_task) {
        shutdown->stopping = true;
        report(shutdown, TERMINATOR_FAILED);
        return;
    }
    if (done && *service == OWN_TASK_SERVICE_UNKNOWN)
        learn_service(shutdown);
    if (!done && *service != OWN_TASK_SERVICE_UNKNOWN)
        log_event(LOG_WARN, "can't ask whether ECS is stopping this task", LOG_ERR(&worker->err));
    else if (!done && !shutdown->busy)
        log_event(LOG_WARN,
                  "can't tell which service this task belongs to; it will be asked again later "
                  "(or set ECS_TST_ECS_SERVICE_NAME)",
                  LOG_ERR(&worker->err));
    if (!shutdown->busy)
        return;
    if (*service == OWN_TASK_SERVICE_UNKNOWN)
        fail(shutdown, "can't scale in: the service's name is not known");
    else if (worker->result == IPC_RETRY)
        report(shutdown, TERMINATOR_FAILED);
    else if (*service == OWN_TASK_SERVICE_NONE)
        report(shutdown, TERMINATOR_ALREADY_SO);
    else
        run_step(shutdown, ECS_SHUTDOWN_COUNT_TASKS);
}

/* In a service of several tasks a change is most likely another task that ends, and one remains for new
 * users. */
static bool was_updated_recently(const struct ecs_shutdown *shutdown)
{
    const struct ipc_answer *answer = &shutdown->worker.answer;
    return shutdown->updated_within_ms > 0 && answer->desired_count == 1 && answer->server_unix_ms >= 0 &&
           answer->changed_unix_ms > answer->server_unix_ms - shutdown->updated_within_ms;
}

static void counted_tasks(struct ecs_shutdown *shutdown)
{
    const struct worker_process *worker = &shutdown->worker;
    shutdown->tasks = 1;
    if (worker->result == IPC_DONE) {
        shutdown->tasks = worker->answer.desired_count;
        if (worker->answer.already) {
            log_event(LOG_INFO, "a DAEMON service has a task on each instance: staying up",
                      LOG_TEXT("service", shutdown->task->service_name));
            report(shutdown, TERMINATOR_IN_USE);
            return;
        }
        if (was_updated_recently(shutdown)) {
            log_event(LOG_INFO, "service was updated recently: a user is probably on the way, staying up",
                      LOG_TEXT("service", shutdown->task->service_name),
                      LOG_TIME_MS("changed", worker->answer.changed_unix_ms));
            report(shutdown, TERMINATOR_IN_USE);
            return;
        }
    } else if (worker->err.code == ERROR_DENIED || worker->err.code == ERROR_NOT_FOUND) {
        log_event(LOG_INFO, "can't ask how many tasks the service has; taking it for one",
                  LOG_ERR(&worker->err));
    } else {
        fail(shutdown, "can't scale in: the service's desired count is not known");
        return;
    }
    if (shutdown->tasks > 1 && !shutdown->stepped_aside) {
        report(shutdown, TERMINATOR_CROWDED);
        return;
    }
    shutdown->target_count = shutdown->tasks > 1 ? shutdown->tasks - 1 : 0;
    run_step(shutdown, shutdown->target_count > 0 ? ECS_SHUTDOWN_STOP_BEFORE_COUNT : ECS_SHUTDOWN_SET_COUNT);
}

static void stopped_before_count(struct ecs_shutdown *shutdown)
{
    /* Without having stopped itself, a lower count could cost a neighbour its sessions. */
    shutdown->has_stopped_task = shutdown->worker.result == IPC_DONE;
    if (!shutdown->has_stopped_task)
        fail(shutdown, "can't scale in: this task could not stop itself first");
    else
        run_step(shutdown, ECS_SHUTDOWN_SET_COUNT);
}

static void set_count(struct ecs_shutdown *shutdown)
{
    bool already = shutdown->worker.answer.already;
    if (shutdown->worker.result != IPC_DONE) {
        fail(shutdown, "can't set the service's desired count");
        return;
    }
    log_event(LOG_INFO, already ? "nothing to scale in" : "set the service's desired count",
              LOG_TEXT("service", shutdown->task->service_name), LOG_I64("from", shutdown->tasks),
              LOG_I64("desired_count", shutdown->target_count));
    report(shutdown, already ? TERMINATOR_ALREADY_SO : TERMINATOR_DONE);
}

static void stopped_task(struct ecs_shutdown *shutdown)
{
    bool already = shutdown->worker.answer.already;
    if (shutdown->worker.result != IPC_DONE) {
        fail(shutdown, "can't stop the task");
        return;
    }
    log_event(LOG_INFO, already ? "the task is stopped already" : "asked ECS to stop the task",
              LOG_TEXT("task", shutdown->task->arn), LOG_TEXT("reason", shutdown->reason));
    report(shutdown, already ? TERMINATOR_ALREADY_SO : TERMINATOR_DONE);
}

static const struct {
    enum ipc_call_kind call;
    void (*answered)(struct ecs_shutdown *shutdown);
} steps[ECS_SHUTDOWN_STEP_COUNT] = {
    [ECS_SHUTDOWN_DESCRIBE] = {IPC_DESCRIBE_TASKS, described},
    [ECS_SHUTDOWN_COUNT_TASKS] = {IPC_DESCRIBE_SERVICES, counted_tasks},
    [ECS_SHUTDOWN_STOP_BEFORE_COUNT] = {IPC_STOP_TASK, stopped_before_count},
    [ECS_SHUTDOWN_SET_COUNT] = {IPC_UPDATE_SERVICE, set_count},
    [ECS_SHUTDOWN_STOP_TASK] = {IPC_STOP_TASK, stopped_task},
};

static void answered(struct worker_process *worker)
{
    struct ecs_shutdown *shutdown = LOOP_OWNER(worker, struct ecs_shutdown, worker);
    steps[shutdown->step].answered(shutdown);
}

static void run_step(struct ecs_shutdown *shutdown, enum ecs_shutdown_step step)
{
    const struct own_task *task = shutdown->task;
    struct ipc_call call = {.kind = steps[step].call,
                            .desired_count = shutdown->target_count,
                            .service_is_certain = task->service_is_certain};
    memcpy(call.cluster, task->cluster, sizeof call.cluster);
    memcpy(call.task_arn, task->arn, sizeof call.task_arn);
    memcpy(call.service, task->service_name, sizeof call.service);
    memcpy(call.reason, shutdown->reason, sizeof call.reason);
    shutdown->step = step;
    worker_process_start(&shutdown->worker, &call, shutdown->deadline_ms);
}

/* ---- the surface --------------------------------------------------------------------------------------- */

void ecs_shutdown_open(struct ecs_shutdown *shutdown, struct own_task *task,
                       void (*report_result)(struct ecs_shutdown *shutdown, enum terminator_result result),
                       void *owner)
{
    memset(shutdown, 0, sizeof *shutdown);
    shutdown->task = task;
    shutdown->report = report_result;
    shutdown->owner = owner;
    worker_process_init(&shutdown->worker, task->worker.program, answered);
}

void ecs_shutdown_close(struct ecs_shutdown *shutdown)
{
    worker_process_cancel(&shutdown->worker);
}

/* False, with the failure reported, when not even the first call can be made. */
static bool begin(struct ecs_shutdown *shutdown, const char *reason, int64_t deadline_ms)
{
    worker_process_cancel(&shutdown->worker);
    shutdown->busy = true;
    shutdown->deadline_ms = deadline_ms;
    struct writer text = writer_of(shutdown->reason, sizeof shutdown->reason);
    writer_format(&text, "stopped by fumidai: %s", reason);
    writer_terminate(&text);
    if (shutdown->task->known)
        return true;
    log_event(LOG_WARN, "can't call ECS yet: the task's metadata could not be read so far", LOG_END);
    report(shutdown, TERMINATOR_FAILED);
    return false;
}

void ecs_shutdown_scale_in(struct ecs_shutdown *shutdown, const struct terminator_action *action)
{
    shutdown->updated_within_ms = action->updated_within_ms;
    shutdown->stepped_aside = action->stepped_aside;
    if (!begin(shutdown, action->text, action->deadline_ms))
        return;
    if (shutdown->task->service == OWN_TASK_SERVICE_NONE)
        report(shutdown, TERMINATOR_ALREADY_SO);
    else
        run_step(shutdown, !action->forced && shutdown->task->service == OWN_TASK_SERVICE_NAMED
                               ? ECS_SHUTDOWN_COUNT_TASKS
                               : ECS_SHUTDOWN_DESCRIBE);
}

void ecs_shutdown_stop_task(struct ecs_shutdown *shutdown, const char *reason, int64_t deadline_ms)
{
    if (begin(shutdown, reason, deadline_ms))
        run_step(shutdown, ECS_SHUTDOWN_STOP_TASK);
}

void ecs_shutdown_describe(struct ecs_shutdown *shutdown, int64_t deadline_ms)
{
    if (shutdown->busy || shutdown->worker.active || !shutdown->task->known)
        return;
    shutdown->deadline_ms = deadline_ms;
    run_step(shutdown, ECS_SHUTDOWN_DESCRIBE);
}
