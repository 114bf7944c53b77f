#include "lifecycle/terminator.h"

#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/prng.h"
#include "base/time.h"

/* A tick that comes later than this after its deadline did not find a busy caller but one that was stopped.
 */
enum { SLEPT_MS = 5000 };

/* The first moment at which more than `wait_ms` have passed. */
static int64_t beyond(int64_t time_ms, int64_t wait_ms)
{
    return num_add_ms(num_add_ms(time_ms, wait_ms), 1);
}

static void request(struct terminator *t, enum terminator_action_kind kind)
{
    t->pending |= 1U << kind;
}

static void withdraw(struct terminator *t, enum terminator_action_kind kind)
{
    t->pending &= ~(1U << kind);
}

static uint32_t new_ticket(struct terminator *t)
{
    t->last_ticket = t->last_ticket == UINT32_MAX ? 1 : t->last_ticket + 1;
    return t->last_ticket;
}

/* ---- use ----------------------------------------------------------------------------------------------- */

static int64_t idle_deadline(const struct terminator *t)
{
    int64_t since = num_max_i64(num_max_i64(t->activity.last_activity_ms, t->busy_ms), t->waiting_since_ms);
    return beyond(since, t->options.idle_timeout_ms);
}

static int64_t max_life_deadline(const struct terminator *t)
{
    return t->options.max_life_ms > 0 ? beyond(t->started_ms, t->options.max_life_ms) : INT64_MAX;
}

/* Less than an idle timeout ago, whether it is in use now or not. */
static bool was_used_recently(const struct terminator *t)
{
    return t->activity.total_sessions > 0 && t->now_ms < idle_deadline(t);
}

/* ---- the reason, for StopTask, sessions, and the log --------------------------------------------------- */

static void write_count(struct writer *w, uint64_t count, const char *noun)
{
    writer_format(w, "%llu %s%s", (unsigned long long) count, noun, count == 1 ? "" : "s");
}

static void set_cause(struct terminator *t, enum terminator_cause cause)
{
    struct writer w = writer_of(t->reason, sizeof t->reason);
    t->cause = cause;
    switch (cause) {
    case TERMINATOR_CAUSE_NONE:
        break;
    case TERMINATOR_CAUSE_NO_SESSION:
        writer_text(&w, "no session came within ");
        writer_duration_ms(&w, t->options.initial_wait_ms);
        break;
    case TERMINATOR_CAUSE_IDLE:
        writer_text(&w, "idle for ");
        writer_duration_ms(&w, t->options.idle_timeout_ms);
        writer_text(&w, " after ");
        write_count(&w, t->activity.total_sessions, "session");
        break;
    case TERMINATOR_CAUSE_MAX_LIFE:
        writer_text(&w, "maximum life of ");
        writer_duration_ms(&w, t->options.max_life_ms);
        writer_text(&w, " reached with ");
        write_count(&w, t->activity.open_sessions, "session");
        writer_text(&w, " open");
        break;
    case TERMINATOR_CAUSE_COMMAND_ENDED:
        writer_format(&w, "the wrapped command ended with status %d", t->command_status);
        break;
    case TERMINATOR_CAUSE_SIGINT:
        writer_text(&w, "interrupted");
        break;
    case TERMINATOR_CAUSE_SIGTERM:
        writer_text(&w, "ECS is stopping this task");
        break;
    }
    writer_terminate(&w);
}

/* ---- leaving: the command and the sessions get their grace, an attempt under way its answer ------------ */

static void exit_now(struct terminator *t)
{
    bool given_up = false;
    for (unsigned step = 0; step < TERMINATOR_STEP_COUNT; step++)
        given_up = given_up || t->step_results[step] == TERMINATOR_GIVEN_UP;
    t->status = t->command_status_counts ? t->command_status : 0;
    if (t->status == 0 && given_up)
        t->status = TERMINATOR_EXIT_UNFINISHED;
    t->state = TERMINATOR_GONE;
    t->pending = 0;
    request(t, TERMINATOR_EXIT);
}

/* Sessions are gone when the answer to END_SESSIONS has come: the service has then been told why. It is given
 * out also when the last of them ended by itself, perhaps a moment ago, with its report still on the way. */
static bool sessions_gone(const struct terminator *t)
{
    return t->sessions_told ? t->sessions_over : t->activity.total_sessions == 0;
}

static void advance_sessions(struct terminator *t)
{
    if (sessions_gone(t) || (t->activity.open_sessions > 0 && t->now_ms < t->sessions_until_ms))
        return;
    if (t->sessions_told) {
        t->sessions_over = t->now_ms >= num_add_ms(t->sessions_until_ms, TERMINATOR_LINGER_MS);
        return;
    }
    t->sessions_told = true;
    t->sessions_until_ms = t->now_ms;
    t->sessions_ticket = new_ticket(t);
    request(t, TERMINATOR_END_SESSIONS);
}

static void advance_command(struct terminator *t)
{
    if (!t->command_alive || t->now_ms < t->command_until_ms)
        return;
    if (t->command_killed) {
        t->command_alive = t->now_ms < num_add_ms(t->command_until_ms, TERMINATOR_LINGER_MS);
        return;
    }
    t->command_killed = true;
    t->command_until_ms = t->now_ms;
    t->command_status = 128 + 9; /* should it not even be reaped in time */
    request(t, TERMINATOR_KILL_COMMAND);
}

static void advance_leaving(struct terminator *t)
{
    advance_sessions(t);
    advance_command(t);
    if (t->now_ms >= t->attempt_until_ms)
        t->ticket = 0;
    if (sessions_gone(t) && !t->command_alive && t->ticket == 0)
        exit_now(t);
}

static int64_t leaving_deadline(const struct terminator *t)
{
    int64_t deadline = t->ticket != 0 ? t->attempt_until_ms : INT64_MAX;
    if (t->command_alive) {
        int64_t until = num_add_ms(t->command_until_ms, t->command_killed ? TERMINATOR_LINGER_MS : 0);
        deadline = num_min_i64(deadline, until);
    }
    if (!sessions_gone(t)) {
        int64_t until = num_add_ms(t->sessions_until_ms, t->sessions_told ? TERMINATOR_LINGER_MS : 0);
        deadline = num_min_i64(deadline, until);
    }
    return deadline;
}

/* `stopped`: by SIGTERM. Then sessions may finish, within what ECS gives, unless the shutdown was due anyway:
 * forced, or on idle with no sessions but those that FUMIDAI_IDLE_BY does not count. */
static void leave(struct terminator *t, bool stopped)
{
    bool drain = stopped && (t->cause == TERMINATOR_CAUSE_SIGTERM || (!t->forced && t->activity.busy));
    t->state = TERMINATOR_LEAVING;
    t->admission_closed = true;
    withdraw(t, TERMINATOR_LAST_CHECK);
    t->sessions_until_ms = drain ? num_add_ms(t->now_ms, t->options.drain_ms) : t->now_ms;
    t->command_until_ms = num_add_ms(t->now_ms, t->options.stop_grace_ms);
    if (stopped)
        t->command_until_ms = num_min_i64(t->command_until_ms, num_add_ms(t->now_ms, t->options.drain_ms));
    if (t->command_alive) {
        t->command_status_counts = t->cause == TERMINATOR_CAUSE_SIGTERM;
        request(t, TERMINATOR_STOP_COMMAND);
    }
    advance_leaving(t);
}

/* ---- shutdown: check, act, pause ----------------------------------------------------------------------- */

static bool can_be_cancelled(const struct terminator *t)
{
    return !t->forced && !t->committed;
}

static void check(struct terminator *t)
{
    t->state = TERMINATOR_CHECKING;
    t->ticket = new_ticket(t);
    t->timer_ms = num_add_ms(t->now_ms, TERMINATOR_CHECK_MS);
    request(t, TERMINATOR_LAST_CHECK);
}

/* The next step that is wanted; when none is left, out. */
static void act(struct terminator *t)
{
    while (t->step < TERMINATOR_STEP_COUNT && t->step_results[t->step] == TERMINATOR_NOT_WANTED)
        t->step++;
    if (t->step == TERMINATOR_STEP_COUNT) {
        t->ticket = 0;
        leave(t, false);
        return;
    }
    t->state = TERMINATOR_ACTING;
    t->ticket = new_ticket(t);
    t->timer_ms = num_add_ms(t->now_ms, TERMINATOR_ATTEMPT_MS);
    t->attempts++;
    request(t, t->step == TERMINATOR_STEP_SCALE_IN ? TERMINATOR_SCALE_IN : TERMINATOR_STOP_TASK);
}

static void check_or_act(struct terminator *t)
{
    if (t->admission_closed)
        act(t);
    else
        check(t);
}

static void next_step(struct terminator *t, enum terminator_step_result result)
{
    t->step_results[t->step] = result;
    t->step++;
    t->failures = 0;
    t->refusals = 0;
}

static void pause_for(struct terminator *t, int64_t pause_ms)
{
    t->state = TERMINATOR_PAUSING;
    t->ticket = 0;
    t->timer_ms = num_min_i64(num_add_ms(t->now_ms, pause_ms), num_max_i64(t->end_by_ms, t->now_ms));
}

static void pause_before_retry(struct terminator *t)
{
    int64_t pause_ms = TERMINATOR_BACKOFF_MIN_MS;
    for (uint32_t i = 1; i < t->failures && pause_ms < TERMINATOR_BACKOFF_MAX_MS; i++)
        pause_ms *= 2;
    pause_ms = num_min_i64(pause_ms, TERMINATOR_BACKOFF_MAX_MS);
    pause_for(t, pause_ms - (int64_t) prng_jitter(&t->random, (uint64_t) pause_ms / 2));
}

/* Back to what was before the shutdown, with admission open. */
static void cancel(struct terminator *t, enum terminator_state state)
{
    withdraw(t, TERMINATOR_LAST_CHECK);
    t->state = state;
    t->ticket = 0;
    t->admission_closed = false;
    set_cause(t, TERMINATOR_CAUSE_NONE);
}

/* An attempt is over and admission opens, if it may: false when the task has been used meanwhile. */
static bool is_still_unused(struct terminator *t)
{
    if (!can_be_cancelled(t))
        return true;
    t->admission_closed = false;
    if (!t->activity.busy && !was_used_recently(t))
        return true;
    cancel(t, t->activity.busy ? TERMINATOR_ACTIVE : TERMINATOR_IDLE);
    return false;
}

static void attempt_is_over(struct terminator *t, bool give_up)
{
    if (!is_still_unused(t))
        return;
    if (give_up || t->now_ms >= t->end_by_ms) {
        next_step(t, TERMINATOR_GIVEN_UP);
        check_or_act(t);
    } else {
        pause_before_retry(t);
    }
}

static void begin_shutdown(struct terminator *t, enum terminator_cause cause, bool forced)
{
    set_cause(t, cause);
    t->forced = forced;
    t->end_by_ms = num_add_ms(t->now_ms, t->options.end_deadline_ms);
    t->step = TERMINATOR_STEP_SCALE_IN;
    t->step_results[TERMINATOR_STEP_SCALE_IN] =
        t->options.scale_in ? TERMINATOR_NOT_TRIED : TERMINATOR_NOT_WANTED;
    t->step_results[TERMINATOR_STEP_STOP_TASK] =
        t->options.stop_task ? TERMINATOR_NOT_TRIED : TERMINATOR_NOT_WANTED;
    t->failures = 0;
    t->refusals = 0;
    t->stepped_aside = false;
    check(t);
}

/* A shutdown under way can no longer be cancelled. */
static void force(struct terminator *t, enum terminator_cause cause)
{
    if (can_be_cancelled(t))
        set_cause(t, cause);
    t->forced = true;
}

/* ---- events, as the table below has them --------------------------------------------------------------- */

enum event {
    EVENT_BUSY,   /* in use */
    EVENT_RECENT, /* not in use, but less than an idle timeout ago */
    EVENT_QUIET,  /* neither */
    EVENT_TIMER,  /* the state's own time is over */
    EVENT_MAX_LIFE,
    EVENT_COMMAND, /* the wrapped command ended */
    EVENT_SIGINT,
    EVENT_SIGTERM,
    EVENT_DONE, /* reports */
    EVENT_IN_USE,
    EVENT_FAILED,
    EVENT_REFUSED,
    EVENT_CROWDED,
    EVENT_COUNT
};

static void handle(struct terminator *t, enum event event);

/* ---- what each event does, a line or two each ---------------------------------------------------------- */

typedef void transition(struct terminator *t);

static void stay(struct terminator *t)
{
    (void) t;
}

static void become_busy(struct terminator *t)
{
    t->state = TERMINATOR_ACTIVE;
}

static void become_idle(struct terminator *t)
{
    t->state = TERMINATOR_IDLE;
}

static void become_idle_if_used(struct terminator *t)
{
    if (t->activity.total_sessions > 0)
        t->state = TERMINATOR_IDLE;
}

static void end_by_initial_wait(struct terminator *t)
{
    begin_shutdown(t, TERMINATOR_CAUSE_NO_SESSION, false);
}

static void end_by_idle(struct terminator *t)
{
    begin_shutdown(t, TERMINATOR_CAUSE_IDLE, false);
}

static void end_by_max_life(struct terminator *t)
{
    begin_shutdown(t, TERMINATOR_CAUSE_MAX_LIFE, true);
}

static void force_by_max_life(struct terminator *t)
{
    force(t, TERMINATOR_CAUSE_MAX_LIFE);
}

static void end_by_command(struct terminator *t)
{
    begin_shutdown(t, TERMINATOR_CAUSE_COMMAND_ENDED, true);
}

static void force_by_command(struct terminator *t)
{
    force(t, TERMINATOR_CAUSE_COMMAND_ENDED);
}

static void end_by_sigint(struct terminator *t)
{
    begin_shutdown(t, TERMINATOR_CAUSE_SIGINT, true);
}

static void force_by_sigint(struct terminator *t)
{
    force(t, TERMINATOR_CAUSE_SIGINT);
}

static void stop(struct terminator *t)
{
    if (!t->committed)
        set_cause(t, TERMINATOR_CAUSE_SIGTERM);
    t->ticket = 0;
    leave(t, true);
}

/* The SIGTERM may well be the answer to the attempt under way: then our own reason stands. */
static void stop_while_acting(struct terminator *t)
{
    uint32_t not_pulled = t->pending & (1U << TERMINATOR_SCALE_IN | 1U << TERMINATOR_STOP_TASK);
    if (not_pulled != 0) {
        t->pending &= ~not_pulled;
        stop(t);
        return;
    }
    t->attempt_until_ms = num_min_i64(t->timer_ms, num_add_ms(t->now_ms, t->options.drain_ms));
    leave(t, true);
}

static void cancel_to_active(struct terminator *t)
{
    if (can_be_cancelled(t))
        cancel(t, TERMINATOR_ACTIVE);
}

static void cancel_to_idle(struct terminator *t)
{
    if (can_be_cancelled(t))
        cancel(t, TERMINATOR_IDLE);
}

static void check_passed(struct terminator *t)
{
    t->admission_closed = true;
    act(t);
}

static void check_found_use(struct terminator *t)
{
    if (can_be_cancelled(t)) {
        t->busy_ms = t->now_ms;
        cancel(t, TERMINATOR_ACTIVE);
    } else if (t->check_forced) {
        check_passed(t);
    } else {
        check(t); /* that check came before the shutdown became forced: check again */
    }
}

static void check_failed(struct terminator *t)
{
    t->failures++;
    if (t->forced || t->now_ms >= t->end_by_ms)
        check_passed(t);
    else
        pause_before_retry(t);
}

static void attempt_succeeded(struct terminator *t)
{
    t->committed = true;
    next_step(t, TERMINATOR_SUCCEEDED);
    act(t);
}

static void attempt_failed(struct terminator *t)
{
    t->failures++;
    t->refusals = 0;
    attempt_is_over(t, false);
}

static void attempt_refused(struct terminator *t)
{
    t->failures++;
    t->refusals++;
    attempt_is_over(t, t->refusals >= TERMINATOR_REFUSALS_MAX);
}

/* A user wants the service up: wait for them as for the first, or, if this shutdown is forced, leave the
 * count as they have set it. */
static void attempt_found_update(struct terminator *t)
{
    if (t->step != TERMINATOR_STEP_SCALE_IN) {
        attempt_failed(t);
    } else if (can_be_cancelled(t)) {
        t->updates++;
        t->waiting_since_ms = t->now_ms;
        cancel(t, TERMINATOR_WAITING);
        handle(t, t->activity.busy ? EVENT_BUSY : EVENT_QUIET);
    } else {
        next_step(t, TERMINATOR_NOT_TRIED);
        act(t);
    }
}

/* The service's other tasks may end too, each about to take one from the same count: not all in one
 * moment. */
static void attempt_is_crowded(struct terminator *t)
{
    if (t->step != TERMINATOR_STEP_SCALE_IN) {
        attempt_failed(t);
        return;
    }
    t->stepped_aside = true;
    if (is_still_unused(t))
        pause_for(t, (int64_t) prng_jitter(&t->random, TERMINATOR_ASIDE_MS));
}

static void report_after_leaving(struct terminator *t, enum terminator_step_result result)
{
    if (t->ticket != 0) {
        t->step_results[t->step] = result;
        t->ticket = 0;
    }
    advance_leaving(t);
}

static void last_attempt_succeeded(struct terminator *t)
{
    report_after_leaving(t, TERMINATOR_SUCCEEDED);
}

static void last_attempt_did_not(struct terminator *t)
{
    report_after_leaving(t, TERMINATOR_NOT_TRIED);
}

/* ---- the table: a row a state, a column an event; a row that lacks a cell does not compile ------------- */

#define ROW(busy, recent, quiet, timer, max_life, command, sigint, sigterm, done, in_use, failed, refused,   \
            crowded)                                                                                         \
    {                                                                                                        \
        busy, recent, quiet, timer, max_life, command, sigint, sigterm, done, in_use, failed, refused,       \
            crowded                                                                                          \
    }

/* clang-format off */
static transition *const transitions[][EVENT_COUNT] = {
    /* WAITING  */ ROW(become_busy, become_idle, become_idle_if_used, end_by_initial_wait,
                       end_by_max_life, end_by_command, end_by_sigint, stop,
                       stay, stay, stay, stay, stay),
    /* ACTIVE   */ ROW(stay, become_idle, become_idle, stay,
                       end_by_max_life, end_by_command, end_by_sigint, stop,
                       stay, stay, stay, stay, stay),
    /* IDLE     */ ROW(become_busy, stay, stay, end_by_idle,
                       end_by_max_life, end_by_command, end_by_sigint, stop,
                       stay, stay, stay, stay, stay),
    /* CHECKING */ ROW(cancel_to_active, cancel_to_idle, stay, check_failed,
                       force_by_max_life, force_by_command, force_by_sigint, stop,
                       check_passed, check_found_use, check_failed, check_failed, check_failed),
    /* ACTING   */ ROW(stay, stay, stay, attempt_failed,
                       force_by_max_life, force_by_command, force_by_sigint, stop_while_acting,
                       attempt_succeeded, attempt_found_update, attempt_failed, attempt_refused,
                       attempt_is_crowded),
    /* PAUSING  */ ROW(cancel_to_active, cancel_to_idle, stay, check_or_act,
                       force_by_max_life, force_by_command, force_by_sigint, stop,
                       stay, stay, stay, stay, stay),
    /* LEAVING  */ ROW(advance_leaving, advance_leaving, advance_leaving, advance_leaving,
                       stay, advance_leaving, stay, stay,
                       last_attempt_succeeded, last_attempt_did_not, last_attempt_did_not,
                       last_attempt_did_not, last_attempt_did_not),
    /* GONE     */ ROW(stay, stay, stay, stay,
                       stay, stay, stay, stay,
                       stay, stay, stay, stay, stay),
};
/* clang-format on */
_Static_assert(sizeof transitions / sizeof transitions[0] == TERMINATOR_STATE_COUNT, "a row for each state");
_Static_assert(EVENT_COUNT == 13, "ROW has a column for each event");

static void handle(struct terminator *t, enum event event)
{
    /* The analyzer takes states beyond the last for possible.
     * NOLINTNEXTLINE(clang-analyzer-core.CallAndMessage) */
    transitions[t->state][event](t);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static bool is_shutting_down(const struct terminator *t)
{
    return t->state == TERMINATOR_CHECKING || t->state == TERMINATOR_ACTING || t->state == TERMINATOR_PAUSING;
}

static int64_t state_deadline(const struct terminator *t)
{
    switch (t->state) {
    case TERMINATOR_WAITING:
        return beyond(t->waiting_since_ms, t->options.initial_wait_ms);
    case TERMINATOR_IDLE:
        return idle_deadline(t);
    case TERMINATOR_CHECKING:
    case TERMINATOR_ACTING:
    case TERMINATOR_PAUSING:
        return t->timer_ms;
    case TERMINATOR_LEAVING:
        return leaving_deadline(t);
    case TERMINATOR_ACTIVE:
    case TERMINATOR_GONE:
    case TERMINATOR_STATE_COUNT:
        break;
    }
    return INT64_MAX;
}

int64_t terminator_deadline(const struct terminator *t)
{
    bool life_may_end = t->state < TERMINATOR_LEAVING && !t->forced;
    return num_min_i64(state_deadline(t), life_may_end ? max_life_deadline(t) : INT64_MAX);
}

static void set_now(struct terminator *t, int64_t now_ms)
{
    if (now_ms <= t->now_ms)
        return;
    int64_t expected_ms = num_max_i64(t->now_ms, terminator_deadline(t));
    if (is_shutting_down(t) && now_ms > num_add_ms(expected_ms, SLEPT_MS))
        t->end_by_ms = num_add_ms(t->end_by_ms, now_ms - expected_ms);
    t->now_ms = now_ms;
}

static void check_timers(struct terminator *t)
{
    if (t->state < TERMINATOR_LEAVING && !t->forced && t->now_ms >= max_life_deadline(t))
        handle(t, EVENT_MAX_LIFE);
    if (t->now_ms >= state_deadline(t))
        handle(t, EVENT_TIMER);
}

/* ---- the outside --------------------------------------------------------------------------------------- */

void terminator_init(struct terminator *t, const struct terminator_options *options, int64_t now_ms,
                     uint64_t seed)
{
    memset(t, 0, sizeof *t);
    t->options = *options;
    t->activity.last_activity_ms = INT64_MIN;
    t->state = TERMINATOR_WAITING;
    t->now_ms = now_ms;
    t->started_ms = now_ms;
    t->waiting_since_ms = now_ms;
    t->busy_ms = INT64_MIN;
    t->command_alive = options->has_command;
    t->random = seed;
    t->step_results[TERMINATOR_STEP_SCALE_IN] =
        options->scale_in ? TERMINATOR_NOT_TRIED : TERMINATOR_NOT_WANTED;
    t->step_results[TERMINATOR_STEP_STOP_TASK] =
        options->stop_task ? TERMINATOR_NOT_TRIED : TERMINATOR_NOT_WANTED;
}

void terminator_activity(struct terminator *t, const struct terminator_activity *activity, int64_t now_ms)
{
    set_now(t, now_ms);
    t->activity = *activity;
    t->activity.last_activity_ms = num_min_i64(activity->last_activity_ms, t->now_ms);
    if (activity->busy) {
        t->busy_ms = t->now_ms;
        t->updates = 0;
        handle(t, EVENT_BUSY);
    } else {
        handle(t, was_used_recently(t) ? EVENT_RECENT : EVENT_QUIET);
    }
    check_timers(t);
}

void terminator_command_ended(struct terminator *t, int status, int64_t now_ms)
{
    set_now(t, now_ms);
    if (!t->command_alive)
        return;
    t->command_alive = false;
    t->command_status = status;
    if (t->state >= TERMINATOR_LEAVING || !t->options.keep_alive_task) {
        t->command_status_counts = t->command_status_counts || t->state < TERMINATOR_LEAVING;
        handle(t, EVENT_COMMAND);
    }
    check_timers(t);
}

void terminator_sigterm(struct terminator *t, int64_t now_ms)
{
    set_now(t, now_ms);
    handle(t, EVENT_SIGTERM);
    check_timers(t);
}

void terminator_sigint(struct terminator *t, int64_t now_ms)
{
    set_now(t, now_ms);
    handle(t, EVENT_SIGINT);
    check_timers(t);
}

void terminator_report(struct terminator *t, uint32_t ticket, enum terminator_result result, int64_t now_ms)
{
    static const enum event events[] = {
        [TERMINATOR_DONE] = EVENT_DONE,       [TERMINATOR_ALREADY_SO] = EVENT_DONE,
        [TERMINATOR_IN_USE] = EVENT_IN_USE,   [TERMINATOR_FAILED] = EVENT_FAILED,
        [TERMINATOR_REFUSED] = EVENT_REFUSED, [TERMINATOR_CROWDED] = EVENT_CROWDED};
    set_now(t, now_ms);
    if (ticket != 0 && ticket == t->sessions_ticket) {
        t->sessions_over = true;
        handle(t, EVENT_TIMER);
    } else if (ticket != 0 && ticket == t->ticket) {
        handle(t, events[result]);
    }
    check_timers(t);
}

void terminator_tick(struct terminator *t, int64_t now_ms)
{
    set_now(t, now_ms);
    check_timers(t);
}

/* How recent an update of the service means that a user is on the way. */
static int64_t updated_within_ms(const struct terminator *t)
{
    bool idle = t->cause == TERMINATOR_CAUSE_IDLE;
    int64_t wait_ms = idle ? t->options.idle_timeout_ms : t->options.initial_wait_ms;
    bool believed = can_be_cancelled(t) && t->updates < TERMINATOR_UPDATED_MAX;
    return believed ? num_min_i64(TERMINATOR_UPDATED_MS, wait_ms / 2) : 0;
}

bool terminator_next(struct terminator *t, struct terminator_action *action)
{
    for (unsigned kind = 0; kind < TERMINATOR_ACTION_COUNT; kind++) {
        if ((t->pending & (1U << kind)) == 0)
            continue;
        withdraw(t, (enum terminator_action_kind) kind);
        bool is_attempt = kind <= TERMINATOR_STOP_TASK;
        t->check_forced = kind == TERMINATOR_LAST_CHECK ? t->forced : t->check_forced;
        *action = (struct terminator_action){.kind = (enum terminator_action_kind) kind,
                                             .forced = t->forced,
                                             .updated_within_ms = updated_within_ms(t),
                                             .stepped_aside = t->stepped_aside,
                                             .deadline_ms = is_attempt ? t->timer_ms : INT64_MAX,
                                             .status = t->status,
                                             .text = t->reason};
        if (is_attempt)
            action->ticket = t->ticket;
        else if (kind == TERMINATOR_END_SESSIONS)
            action->ticket = t->sessions_ticket;
        return true;
    }
    return false;
}

bool terminator_accepting(const struct terminator *t)
{
    bool closing = t->state == TERMINATOR_CHECKING && t->forced;
    return t->state < TERMINATOR_LEAVING && !t->admission_closed && !closing;
}

int64_t terminator_lives_until(const struct terminator *t)
{
    return max_life_deadline(t);
}

void terminator_summary(const struct terminator *t, struct terminator_summary *summary)
{
    *summary = (struct terminator_summary){.cause = t->cause,
                                           .reason = t->reason,
                                           .total_sessions = t->activity.total_sessions,
                                           .open_sessions = t->activity.open_sessions,
                                           .alive_ms = t->now_ms - t->started_ms,
                                           .attempts = t->attempts,
                                           .status = t->status};
    memcpy(summary->step_results, t->step_results, sizeof summary->step_results);
}

const char *terminator_state_name(enum terminator_state state)
{
    static const char *const names[] = {"waiting", "active",  "idle",    "checking",
                                        "acting",  "pausing", "leaving", "gone"};
    _Static_assert(sizeof names / sizeof names[0] == TERMINATOR_STATE_COUNT, "a name for each state");
    return names[state];
}
