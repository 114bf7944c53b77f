#include "keeper/own_task.h"

#include <string.h>

#include "base/env.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/retry.h"
#include "wire/url.h"

static struct loop *loop_of(const struct own_task *task)
{
    return task->worker.program->loop;
}

static void ask(struct loop_timer *timer)
{
    struct own_task *task = LOOP_OWNER(timer, struct own_task, again);
    struct ipc_call call = {.kind = IPC_TASK_METADATA};
    worker_process_start(&task->worker, &call, clock_after_ms(loop_now_ms(loop_of(task)), OWN_TASK_CALL_MS));
}

static void ask_again_later(struct own_task *task)
{
    int64_t pause_ms = retry_later(loop_of(task), &task->again, &task->retry, task->worker.err.code);
    /* The first failures are logged, then every tenth: an endpoint may stay away for good. */
    if (task->failures_logged++ < 3 || task->failures_logged % 10 == 0)
        log_event(LOG_WARN, "can't read the task's metadata yet, trying again", LOG_ERR(&task->worker.err),
                  LOG_DURATION_MS("in", pause_ms));
}

static void answered(struct worker_process *worker)
{
    struct own_task *task = LOOP_OWNER(worker, struct own_task, worker);
    const struct ipc_answer *answer = &worker->answer;
    if (worker->result != IPC_DONE) {
        ask_again_later(task);
        return;
    }
    memcpy(task->cluster, answer->cluster, sizeof task->cluster);
    memcpy(task->arn, answer->task_arn, sizeof task->arn);
    if (task->service != OWN_TASK_SERVICE_NAMED && answer->service[0] != '\0') {
        memcpy(task->service_name, answer->service, sizeof task->service_name);
        task->service = OWN_TASK_SERVICE_NAMED;
        task->service_is_certain = true;
    }
    task->known = true;
    log_event(LOG_DEBUG, "read the task's metadata", LOG_TEXT("cluster", task->cluster),
              LOG_TEXT("task", task->arn), LOG_TEXT("service", task->service_name));
    task->learned(task);
}

void own_task_open(struct own_task *task, struct worker_program *program, char *const *env,
                   const char *service_name, void (*learned)(struct own_task *task), void *owner)
{
    struct error err = ERROR_INIT;
    struct url url;
    memset(task, 0, sizeof *task);
    task->learned = learned;
    task->owner = owner;
    worker_process_init(&task->worker, program, answered);
    loop_timer_init(&task->again, ask);
    backoff_start(&task->retry, &BACKOFF_CALLS, INT64_MAX);
    if (service_name[0] != '\0' &&
        str_copy(str_from(service_name), task->service_name, sizeof task->service_name))
        task->service = OWN_TASK_SERVICE_NAMED;
    struct str text = env_get(env, "ECS_CONTAINER_METADATA_URI_V4");
    if (text.len == 0)
        return;
    if (url_split(&url, text, &err) < 0) {
        log_event(LOG_ERROR, "ECS_CONTAINER_METADATA_URI_V4 is not a valid URL; going on as outside ECS",
                  LOG_ERR(&err));
        return;
    }
    task->exists = true;
    loop_timer_set(program->loop, &task->again, 0);
}

void own_task_close(struct own_task *task)
{
    worker_process_cancel(&task->worker);
    loop_timer_remove(loop_of(task), &task->again);
}
