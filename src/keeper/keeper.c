#include "keeper/keeper.h"

#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "host/child.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/proc.h"
#include "host/random.h"
#include "host/signals.h"
#include "keeper/ecs_shutdown.h"
#include "keeper/exec_agent.h"
#include "keeper/health.h"
#include "keeper/own_task.h"
#include "keeper/relay_process.h"
#include "keeper/scale_in_protection.h"
#include "keeper/worker_process.h"
#include "lifecycle/terminator.h"
#include "wire/ipc.h"

enum {
    DESCENDANTS_MS = 1000,       /* for what the wrapped command leaves behind */
    DESCRIBE_CALL_MS = 15 * 1000 /* for a question about this task; the end asks again */
};

struct keeper {
    const struct task_settings *config;
    struct loop loop;
    struct signals signals;
    struct worker_program worker;
    struct own_task task;
    struct ecs_shutdown shutdown;
    struct terminator terminator;
    struct exec_agent exec;
    struct relay_process relay;
    bool relays;
    bool serves_sessions;
    struct health health;
    struct scale_in_protection protection;
    struct child command;
    struct loop_timer poll;
    struct loop_timer due;
    uint32_t shutdown_ticket; /* of the action that `shutdown` works on */
    int64_t told_lives_until_ms;
    uint64_t told_start; /* the relay that was told, as counted by relay.starts */
    bool draining;       /* SIGTERM has come, or another stop by ECS */
    int stop_signal;     /* what the wrapped command gets then; 0: it has got it */
    enum terminator_state told_state;
    bool leaving;
    int status;
};

/* ---- what the terminator sees -------------------------------------------------------------------------- */

static struct terminator_activity gather_activity(struct keeper *k)
{
    struct exec_log_activity exec = exec_log_activity(&k->exec.log);
    struct terminator_activity all = {.open_sessions = exec.open_sessions,
                                      .total_sessions = exec.total_sessions,
                                      .busy = exec.open_sessions > 0,
                                      .last_activity_ms = exec.last_activity_ms};
    if (!k->relays)
        return all;
    all.open_sessions += k->relay.status.open_sessions;
    all.total_sessions += k->relay.sessions_before + k->relay.status.total_sessions;
    all.busy = all.busy || k->relay.status.busy;
    if (k->relay.last_activity_ms > all.last_activity_ms)
        all.last_activity_ms = k->relay.last_activity_ms;
    return all;
}

static void carry_out(struct keeper *k, const struct terminator_action *action);

/* Pulls actions until there are none, then sets the timer for the next. */
static void advance(struct keeper *k)
{
    struct terminator_action action;
    while (!k->leaving && terminator_next(&k->terminator, &action))
        carry_out(k, &action);
    loop_timer_set(&k->loop, &k->due, k->leaving ? CLOCK_NEVER : terminator_deadline(&k->terminator));
    if (k->terminator.state != k->told_state) {
        k->told_state = k->terminator.state;
        log_event(LOG_DEBUG, "state changed", LOG_TEXT("state", terminator_state_name(k->told_state)));
    }
    int64_t lives_until_ms = terminator_lives_until(&k->terminator);
    if (k->relays && (lives_until_ms != k->told_lives_until_ms || k->relay.starts != k->told_start)) {
        struct ipc_order order = {.kind = IPC_LIVES_UNTIL, .lives_until_ms = lives_until_ms};
        if (relay_process_order(&k->relay, &order)) {
            k->told_lives_until_ms = lives_until_ms;
            k->told_start = k->relay.starts;
        }
    }
}

static void feed_activity(struct keeper *k)
{
    struct terminator_activity activity = gather_activity(k);
    terminator_activity(&k->terminator, &activity, loop_now_ms(&k->loop));
    scale_in_protection_want(&k->protection, activity.open_sessions > 0);
}

static void log_poll(struct keeper *k)
{
    int level = k->config->verbose ? LOG_INFO : LOG_DEBUG;
    if (!log_enabled(level))
        return;
    struct terminator_activity activity = gather_activity(k);
    int64_t now_ms = loop_now_ms(&k->loop);
    log_event(level, "watching", LOG_TEXT("state", terminator_state_name(k->terminator.state)),
              LOG_I64("total_connections", activity.total_sessions),
              LOG_I64("active_connections", activity.open_sessions),
              LOG_DURATION_MS("since_connections", activity.last_activity_ms == INT64_MIN
                                                       ? 0
                                                       : now_ms - activity.last_activity_ms));
}

static void poll_expired(struct loop_timer *timer)
{
    struct keeper *k = LOOP_OWNER(timer, struct keeper, poll);
    int64_t now_ms = loop_now_ms(&k->loop);
    exec_agent_poll(&k->exec, now_ms);
    feed_activity(k);
    terminator_tick(&k->terminator, now_ms);
    log_poll(k);
    advance(k);
    loop_timer_set(&k->loop, &k->poll, clock_after_ms(now_ms, k->config->metrics_check_interval_ms));
}

static void due_expired(struct loop_timer *timer)
{
    struct keeper *k = LOOP_OWNER(timer, struct keeper, due);
    terminator_tick(&k->terminator, loop_now_ms(&k->loop));
    advance(k);
}

static void report(struct keeper *k, uint32_t ticket, enum terminator_result result)
{
    terminator_report(&k->terminator, ticket, result, loop_now_ms(&k->loop));
}

/* ---- what it wants done -------------------------------------------------------------------------------- */

static void check(struct keeper *k, const struct terminator_action *action)
{
    int64_t now_ms = loop_now_ms(&k->loop);
    exec_agent_poll(&k->exec, now_ms);
    feed_activity(k);
    if (exec_log_activity(&k->exec.log).open_sessions > 0 && !action->forced) {
        report(k, action->ticket, TERMINATOR_IN_USE);
        return;
    }
    if (!k->relays) {
        report(k, action->ticket, TERMINATOR_DONE);
        return;
    }
    struct ipc_order order = {.kind = IPC_CHECK, .ticket = action->ticket, .forced = action->forced};
    if (!relay_process_order(&k->relay, &order)) /* no relay, no session */
        report(k, action->ticket, relay_process_is_up(&k->relay) ? TERMINATOR_FAILED : TERMINATOR_DONE);
}

static void scale_in(struct keeper *k, const struct terminator_action *action)
{
    k->shutdown_ticket = action->ticket;
    ecs_shutdown_scale_in(&k->shutdown, action);
}

static void stop_task(struct keeper *k, const struct terminator_action *action)
{
    k->shutdown_ticket = action->ticket;
    ecs_shutdown_stop_task(&k->shutdown, action->text, action->deadline_ms);
}

/* What the wrapped command has started, and what it has left behind: a daemon with a session of its own is
 * not in its group. */
static void stop_descendants(struct keeper *k)
{
    const int ours[] = {k->relay.child.pid, k->task.worker.child.pid, k->shutdown.worker.child.pid,
                        k->protection.worker.child.pid};
    proc_signal_descendants(SIGTERM, k->command.pid, ours, sizeof ours / sizeof ours[0]);
}

static void stop_command(struct keeper *k, const struct terminator_action *action)
{
    (void) action;
    log_event(LOG_INFO, "stopping the wrapped command", LOG_I64("pid", k->command.pid));
    child_signal(&k->command, k->draining ? k->stop_signal : SIGTERM);
    stop_descendants(k);
}

static void kill_command(struct keeper *k, const struct terminator_action *action)
{
    (void) action;
    log_event(LOG_WARN, "the wrapped command did not stop within its grace, killing it",
              LOG_I64("pid", k->command.pid));
    child_signal(&k->command, SIGKILL);
}

static void end_sessions(struct keeper *k, const struct terminator_action *action)
{
    struct ipc_order order = {.kind = IPC_END_SESSIONS, .ticket = action->ticket};
    str_copy(str_slice(str_from(action->text), 0, sizeof order.text - 1), order.text, sizeof order.text);
    if (!k->relays || !relay_process_order(&k->relay, &order))
        report(k, action->ticket, TERMINATOR_DONE);
}

static const char *step_result_name(enum terminator_step_result outcome)
{
    static const char *const names[] = {[TERMINATOR_NOT_WANTED] = "not asked for",
                                        [TERMINATOR_NOT_TRIED] = "not tried",
                                        [TERMINATOR_SUCCEEDED] = "done",
                                        [TERMINATOR_GIVEN_UP] = "given up"};
    return names[outcome];
}

static void leave(struct keeper *k, const struct terminator_action *action)
{
    struct terminator_summary summary;
    terminator_summary(&k->terminator, &summary);
    k->status = action->status;
    k->leaving = true;
    bool unfinished = summary.step_results[TERMINATOR_STEP_SCALE_IN] == TERMINATOR_GIVEN_UP ||
                      summary.step_results[TERMINATOR_STEP_STOP_TASK] == TERMINATOR_GIVEN_UP;
    log_event(unfinished ? LOG_ERROR : LOG_INFO, "task ended", LOG_TEXT("reason", summary.reason),
              LOG_I64("sessions", summary.total_sessions), LOG_DURATION_MS("alive", summary.alive_ms),
              LOG_TEXT("scale_in", step_result_name(summary.step_results[TERMINATOR_STEP_SCALE_IN])),
              LOG_TEXT("stop_task", step_result_name(summary.step_results[TERMINATOR_STEP_STOP_TASK])),
              LOG_I64("attempts", summary.attempts), LOG_I64("status", summary.status));
    loop_stop(&k->loop);
}

static void carry_out(struct keeper *k, const struct terminator_action *action)
{
    static void (*const doers[TERMINATOR_ACTION_COUNT])(struct keeper *, const struct terminator_action *) = {
        [TERMINATOR_LAST_CHECK] = check,
        [TERMINATOR_SCALE_IN] = scale_in,
        [TERMINATOR_STOP_TASK] = stop_task,
        [TERMINATOR_STOP_COMMAND] = stop_command,
        [TERMINATOR_KILL_COMMAND] = kill_command,
        [TERMINATOR_END_SESSIONS] = end_sessions,
        [TERMINATOR_EXIT] = leave,
    };
    doers[action->kind](k, action);
}

/* For a relay that was told to close admission by a shutdown since cancelled, or one that was started
 * anew. */
static void open_admission(struct keeper *k)
{
    struct ipc_order order = {.kind = IPC_OPEN_ADMISSION};
    if (k->relays && k->relay.status.admission_closed && terminator_accepting(&k->terminator))
        relay_process_order(&k->relay, &order);
}

static void drain_relay(struct keeper *k)
{
    struct ipc_order order = {.kind = IPC_DRAIN};
    if (k->relays)
        relay_process_order(&k->relay, &order);
}

/* A stop from outside: only the command and the sessions remain to be ended. */
static void drain(struct keeper *k)
{
    k->draining = true;
    terminator_sigterm(&k->terminator, loop_now_ms(&k->loop));
    drain_relay(k);
}

static void shutdown_reported(struct ecs_shutdown *shutdown, enum terminator_result result)
{
    struct keeper *k = shutdown->owner;
    report(k, k->shutdown_ticket, result);
    if (shutdown->stopping && !k->draining) {
        log_event(LOG_INFO, "ECS is stopping this task", LOG_END);
        drain(k);
    }
    open_admission(k);
    advance(k);
}

/* ---- the relay ----------------------------------------------------------------------------------------- */

static void relay_heard(struct relay_process *relay)
{
    struct keeper *k = relay->owner;
    feed_activity(k);
    terminator_tick(&k->terminator, loop_now_ms(&k->loop));
    if (relay->status.answers == 0)
        open_admission(k);
    if (k->draining && !relay->status.admission_closed) /* it was started since */
        drain_relay(k);
    advance(k);
}

static void relay_answered(struct relay_process *relay, uint32_t ticket)
{
    struct keeper *k = relay->owner;
    report(k, ticket, relay->status.in_use ? TERMINATOR_IN_USE : TERMINATOR_DONE);
    advance(k);
}

static bool decide_to_relay(const struct keeper *k, const char **why)
{
    const struct task_settings *config = k->config;
    if (config->relay != TASK_RELAY_AUTO) {
        *why = config->relay == TASK_RELAY_ON ? "FUMIDAI_RELAY is on" : "FUMIDAI_RELAY is off";
        return config->relay == TASK_RELAY_ON;
    }
    if (exec_agent_is_present()) {
        *why = "AWS's exec agent is in this container, and a task can have one agent only";
        return false;
    }
    if (!k->task.exists) {
        *why = "this is not an ECS task: there is no ECS_CONTAINER_METADATA_URI_V4";
        return false;
    }
    *why = "AWS's exec agent is not in this container";
    return true;
}

/* ---- what the health check is told --------------------------------------------------------------------- */

static void gather_health(struct health *health, struct health_facts *facts)
{
    const struct keeper *k = health->owner;
    const struct relay_process *relay = &k->relay;
    int64_t now_ms = loop_now_ms(&k->loop);
    facts->state = terminator_state_name(k->terminator.state);
    facts->sessions = exec_log_activity(&k->exec.log).open_sessions + relay->status.open_sessions;
    facts->relays = k->relays;
    facts->serves_sessions = k->serves_sessions;
    if (!k->relays)
        return;
    facts->relay_is_up = relay_process_is_up(relay);
    facts->relay_pid = relay->child.pid;
    facts->relay_starts = relay->starts;
    facts->relay_age_ms = now_ms - relay->started_ms;
    facts->relay_silent_ms = now_ms - relay->reported_ms;
    facts->channel_is_open = relay->status.control == IPC_CONTROL_OPEN;
    facts->channel_for_ms =
        now_ms - (facts->channel_is_open ? relay->status.control_since_ms : relay->channel_open_ms);
    facts->channel_limit_ms = k->config->channel_limit_ms;
    facts->channel_trouble = relay->status.trouble;
}

/* ---- signals and children ------------------------------------------------------------------------------ */

static void command_ended(struct keeper *k, int wait_status)
{
    int status = child_exit_status(wait_status);
    log_event(status == 0 ? LOG_INFO : LOG_WARN, "the wrapped command ended", LOG_I64("pid", k->command.pid),
              LOG_I64("status", status));
    child_ended(&k->command);
    k->command.pid = 0;
    terminator_command_ended(&k->terminator, status, loop_now_ms(&k->loop));
}

static void reap(struct keeper *k)
{
    pid_t pid;
    int wait_status;
    while (signals_reap(&pid, &wait_status))
        if (pid == k->command.pid)
            command_ended(k, wait_status);
        else if (!relay_process_ended(&k->relay, pid, wait_status) &&
                 !worker_process_ended(&k->task.worker, pid) &&
                 !worker_process_ended(&k->shutdown.worker, pid) &&
                 !worker_process_ended(&k->protection.worker, pid))
            log_event(LOG_DEBUG, "reaped an orphan", LOG_I64("pid", pid));
}

static void describe_task(struct keeper *k)
{
    ecs_shutdown_describe(&k->shutdown, clock_after_ms(loop_now_ms(&k->loop), DESCRIBE_CALL_MS));
}

static void caught(struct signals *signals, int number, pid_t sender)
{
    struct keeper *k = LOOP_OWNER(signals, struct keeper, signals);
    bool has_command = k->command.pid > 0;
    if (number == SIGCHLD) {
        reap(k);
    } else if (has_command && k->draining) {
        child_signal(&k->command, number);
    } else if (number == SIGTERM) {
        k->stop_signal = number;
        log_event(LOG_INFO, "SIGTERM: ECS is stopping this task", LOG_I64("sender", sender));
        drain(k);
    } else if (number == SIGINT || (number == SIGQUIT && !has_command)) {
        k->stop_signal = number;
        log_event(LOG_INFO, "interrupted: shutting down as if idle", LOG_I64("signal", number),
                  LOG_I64("sender", sender));
        terminator_sigint(&k->terminator, loop_now_ms(&k->loop));
    } else {
        /* For the wrapped command, if it is for anybody; but any may be the image's STOPSIGNAL, too. */
        k->stop_signal = 0;
        if (has_command)
            child_signal(&k->command, number);
        describe_task(k);
    }
    advance(k);
}

static void start_command(struct keeper *k)
{
    struct error err = ERROR_INIT;
    if (k->config->word_count == 0)
        return;
    int result = child_start_command(&k->command, k->config->words, &err);
    if (result == 0) {
        log_event(LOG_INFO, "started the wrapped command", LOG_TEXT("command", k->config->words[0]),
                  LOG_I64("pid", k->command.pid));
        return;
    }
    log_event(LOG_ERROR, "can't start the wrapped command", LOG_TEXT("command", k->config->words[0]),
              LOG_ERR(&err));
    terminator_command_ended(&k->terminator,
                             result == ERROR_NOT_FOUND ? CHILD_STATUS_NOT_FOUND : CHILD_STATUS_CANNOT_RUN,
                             loop_now_ms(&k->loop));
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static void task_learned(struct own_task *task)
{
    struct keeper *k = task->owner;
    if (k->config->set_desired_count_to_zero && task->service == OWN_TASK_SERVICE_UNKNOWN)
        describe_task(k);
}

static struct terminator_options terminator_options(const struct keeper *k)
{
    const struct task_settings *config = k->config;
    return (struct terminator_options){.initial_wait_ms = config->initial_wait_ms,
                                       .idle_timeout_ms = config->idle_timeout_ms,
                                       .max_life_ms = config->max_life_ms,
                                       .end_deadline_ms = config->end_deadline_ms,
                                       .stop_grace_ms = config->stop_grace_ms,
                                       .drain_ms = task_settings_reserve_stop(config->stop_timeout_ms),
                                       .scale_in = config->set_desired_count_to_zero && k->task.exists,
                                       .stop_task = config->stop_task_on_exit && k->task.exists,
                                       .keep_alive_task = config->keep_alive_task,
                                       .has_command = config->word_count > 0};
}

static void log_start(const struct keeper *k, const char *why)
{
    const struct task_settings *config = k->config;
    log_event(LOG_INFO, "starting", LOG_TEXT("mode", k->serves_sessions ? "relay" : "watch"),
              LOG_TEXT("because", why), LOG_DURATION_MS("initial_wait_time", config->initial_wait_ms),
              LOG_DURATION_MS("idle_timeout", config->idle_timeout_ms),
              LOG_DURATION_MS("max_life_time", config->max_life_ms),
              LOG_BOOL("set_desired_count_to_zero", config->set_desired_count_to_zero),
              LOG_BOOL("stop_task", config->stop_task_on_exit), LOG_TEXT("fixed_relays", config->listen),
              LOG_TEXT("command", config->word_count > 0 ? config->words[0] : ""),
              LOG_TIME_MS("ends_if_nobody_comes", clock_unix_ms() + config->initial_wait_ms));
    if (!k->task.exists && (config->set_desired_count_to_zero || config->stop_task_on_exit))
        log_event(LOG_WARN,
                  "this is not an ECS task (no ECS_CONTAINER_METADATA_URI_V4): "
                  "nothing will be scaled in or stopped, only this process ends",
                  LOG_END);
}

static int open_all(struct keeper *k, char **argv, char *const *env, struct error *err)
{
    const char *why;
    uint64_t seed;
    if (loop_open(&k->loop, err) < 0 || signals_open(&k->signals, &k->loop, caught, err) < 0)
        return err->code;
    k->worker = (struct worker_program){.loop = &k->loop, .argv = argv};
    own_task_open(&k->task, &k->worker, env, k->config->ecs_service_name, task_learned, k);
    ecs_shutdown_open(&k->shutdown, &k->task, shutdown_reported, k);
    if (k->config->task_protection)
        scale_in_protection_open(&k->protection, &k->worker, env);
    random_bytes(&seed, sizeof seed);
    struct terminator_options options = terminator_options(k);
    terminator_init(&k->terminator, &options, loop_now_ms(&k->loop), seed);
    k->told_lives_until_ms = INT64_MIN;
    k->stop_signal = SIGTERM;
    exec_agent_open(&k->exec, k->config->ssm_agent_log_location, loop_now_ms(&k->loop));
    k->serves_sessions = decide_to_relay(k, &why);
    k->relays = k->serves_sessions || k->config->listen[0] != '\0';
    log_start(k, why);
    loop_timer_init(&k->poll, poll_expired);
    loop_timer_init(&k->due, due_expired);
    loop_timer_set(&k->loop, &k->poll, loop_now_ms(&k->loop));
    if (k->relays)
        relay_process_open(&k->relay, &k->loop, k->serves_sessions ? IPC_RELAY_NAME : IPC_RELAY_PORTS_NAME,
                           argv, relay_heard, relay_answered, k);
    health_open(&k->health, &k->loop, env, gather_health, k);
    start_command(k);
    return 0;
}

/* What is left of the command's gets SIGTERM, too, and a moment: with PID 1 all the others are killed. */
static void end_descendants(struct keeper *k)
{
    pid_t pid = 0;
    int wait_status;
    stop_descendants(k);
    for (int i = 0; i < DESCENDANTS_MS / 10 && pid >= 0; i++) {
        while (signals_reap(&pid, &wait_status))
            ;
        if (pid == 0)
            poll(NULL, 0, 10);
    }
}

int keeper_run(const struct task_settings *config, char **argv, char *const *env)
{
    static struct keeper keeper; /* too large for a stack, and there is one */
    struct error err = ERROR_INIT;
    struct keeper *k = &keeper;
    k->config = config;
    int result = open_all(k, argv, env, &err);
    if (result == 0)
        result = loop_run(&k->loop, &err);
    if (result < 0) {
        log_event(LOG_ERROR, "can't go on", LOG_ERR(&err));
        return TERMINATOR_EXIT_UNFINISHED;
    }
    if (k->relays)
        relay_process_close(&k->relay);
    health_close(&k->health);
    scale_in_protection_close(&k->protection);
    ecs_shutdown_close(&k->shutdown);
    own_task_close(&k->task);
    if (config->word_count > 0)
        end_descendants(k);
    return k->status;
}
