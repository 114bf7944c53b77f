#include "keeper/scale_in_protection.h"

#include <string.h>

#include "base/env.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/retry.h"
#include "wire/url.h"

enum {
    SHORTEST_MS =
        2 * 1000 /* half of it is the least between two refreshes, whatever the agent's clock says */
};

static struct loop *loop_of(const struct scale_in_protection *protection)
{
    return protection->worker.program->loop;
}

static bool is_settled(const struct scale_in_protection *protection)
{
    return protection->state == (protection->wanted ? SCALE_IN_PROTECTION_HELD : SCALE_IN_PROTECTION_FREE);
}

static void ask(struct scale_in_protection *protection)
{
    loop_timer_remove(loop_of(protection), &protection->due);
    protection->asked = protection->wanted;
    struct ipc_call call = {.kind = IPC_TASK_PROTECTION, .protect = protection->asked};
    worker_process_start(&protection->worker, &call,
                         clock_after_ms(loop_now_ms(loop_of(protection)), SCALE_IN_PROTECTION_CALL_MS));
}

static void due_expired(struct loop_timer *timer)
{
    struct scale_in_protection *protection = LOOP_OWNER(timer, struct scale_in_protection, due);
    if (protection->wanted || !is_settled(protection))
        ask(protection);
    else /* what failed is not wanted any more */
        backoff_succeed(&protection->retry);
}

static void refresh_in_time(struct scale_in_protection *protection)
{
    int64_t left_ms = SCALE_IN_PROTECTION_LIFE_MS;
    if (protection->worker.answer.expires_unix_ms >= 0) {
        int64_t told_ms = protection->worker.answer.expires_unix_ms - clock_unix_ms();
        left_ms = told_ms < SHORTEST_MS ? SHORTEST_MS : told_ms < left_ms ? told_ms : left_ms;
    }
    loop_timer_set(loop_of(protection), &protection->due, loop_now_ms(loop_of(protection)) + left_ms / 2);
}

static void try_later(struct scale_in_protection *protection)
{
    bool tell = protection->retry.failures % 10 == 0;
    int64_t pause_ms =
        retry_later(loop_of(protection), &protection->due, &protection->retry, protection->worker.err.code);
    if (tell)
        log_event(LOG_WARN,
                  protection->asked ? "can't protect this task from scale-in, trying again"
                                    : "can't release this task's protection, trying again",
                  LOG_ERR(&protection->worker.err), LOG_DURATION_MS("in", pause_ms));
}

static void answered(struct worker_process *worker)
{
    struct scale_in_protection *protection = LOOP_OWNER(worker, struct scale_in_protection, worker);
    if (worker->result == IPC_DONE && worker->answer.is_protected != protection->asked) {
        worker->result = IPC_RETRY;
        error_set(&worker->err, ERROR_UNAVAILABLE, "UpdateTaskProtection: the answer says that it is %s",
                  worker->answer.is_protected ? "on" : "off");
    }
    if (worker->result != IPC_DONE) {
        if (worker->result != IPC_FAILED) /* a refusal changes nothing; everything else may have */
            protection->state = SCALE_IN_PROTECTION_UNKNOWN;
        try_later(protection);
        return;
    }
    backoff_succeed(&protection->retry);
    enum scale_in_protection_state state =
        protection->asked ? SCALE_IN_PROTECTION_HELD : SCALE_IN_PROTECTION_FREE;
    if (state != protection->state)
        log_event(LOG_DEBUG, protection->asked ? "protected from scale-in" : "released from protection",
                  LOG_END);
    protection->state = state;
    if (!is_settled(protection)) /* wanted otherwise meanwhile */
        loop_timer_set(loop_of(protection), &protection->due, 0);
    else if (state == SCALE_IN_PROTECTION_HELD)
        refresh_in_time(protection);
}

void scale_in_protection_open(struct scale_in_protection *protection, struct worker_program *program,
                              char *const *env)
{
    struct error err = ERROR_INIT;
    struct url url;
    memset(protection, 0, sizeof *protection);
    worker_process_init(&protection->worker, program, answered);
    loop_timer_init(&protection->due, due_expired);
    backoff_start(&protection->retry, &BACKOFF_RECONNECT, INT64_MAX);
    struct str text = env_get(env, "ECS_AGENT_URI");
    if (text.len == 0)
        error_set(&err, ERROR_NOT_FOUND, "there is no ECS_AGENT_URI");
    else if (url_split(&url, text, &err) < 0)
        error_prefix(&err, "ECS_AGENT_URI: ");
    protection->works = err.code == ERROR_NONE;
    if (!protection->works)
        log_event(LOG_WARN, "this task can't be protected from scale-in", LOG_ERR(&err));
}

void scale_in_protection_want(struct scale_in_protection *protection, bool wanted)
{
    if (!protection->works || protection->wanted == wanted)
        return;
    protection->wanted = wanted;
    /* Calls under way and back-offs come to their end first; due_expired and answered see to `wanted`
     * then. */
    if (!protection->worker.active && !is_settled(protection) && protection->retry.failures == 0)
        ask(protection);
}

void scale_in_protection_close(struct scale_in_protection *protection)
{
    if (protection->worker.program == NULL)
        return;
    worker_process_cancel(&protection->worker);
    loop_timer_remove(loop_of(protection), &protection->due);
}
