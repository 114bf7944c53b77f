#include "lifecycle/forward.h"

#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/prng.h"
#include "base/time.h"
#include "base/utf8.h"

enum { EXIT_BY_SIGNAL = 128, SIGNALS_MAX = sizeof((struct forward *) 0)->signals / sizeof(int) };

static void request(struct forward *f, enum forward_action_kind kind)
{
    f->pending |= 1U << kind;
}

static bool take_request(struct forward *f, enum forward_action_kind kind)
{
    bool is_due = (f->pending & 1U << kind) != 0;
    f->pending &= ~(1U << kind);
    return is_due;
}

static uint32_t new_ticket(struct forward *f)
{
    f->last_ticket = f->last_ticket == UINT32_MAX ? 1 : f->last_ticket + 1;
    return f->last_ticket;
}

/* The end of the next pause. */
static int64_t after_failure(struct forward *f)
{
    int64_t pause_ms = FORWARD_BACKOFF_MIN_MS;
    for (uint32_t i = 0; i < f->failures && pause_ms < FORWARD_BACKOFF_MAX_MS; i++)
        pause_ms *= 2;
    f->failures += f->failures < UINT32_MAX;
    return num_add_ms(f->now_ms, pause_ms - (int64_t) prng_jitter(&f->random, (uint64_t) pause_ms / 2));
}

static void set_reason(struct forward *f, struct str why)
{
    utf8_copy_cut(why, f->reason, sizeof f->reason);
}

static void pass_on(struct forward *f, int number)
{
    for (uint32_t i = 0; i < f->signal_count; i++)
        if (f->signals[i] == number)
            return;
    if (f->signal_count < SIGNALS_MAX)
        f->signals[f->signal_count++] = number;
}

/* ---- the end ------------------------------------------------------------------------------------------- */

static void stop_command(struct forward *f)
{
    if (!f->command_runs || f->kill_at_ms != INT64_MAX)
        return;
    pass_on(f, FORWARD_SIGTERM);
    f->kill_at_ms = num_add_ms(f->now_ms, FORWARD_KILL_MS);
}

static void begin_end(struct forward *f, int status)
{
    if (f->state >= FORWARD_ENDING)
        return;
    f->state = FORWARD_ENDING;
    f->status = status;
    if (take_request(f, FORWARD_RUN_COMMAND))
        f->command_runs = false; /* it never began */
    f->pending = 0;
    f->end_until_ms = num_add_ms(f->now_ms, FORWARD_END_MS);
    stop_command(f);
}

static void fail(struct forward *f, struct str why)
{
    if (f->state >= FORWARD_ENDING)
        return;
    set_reason(f, why);
    begin_end(f, f->options.has_command ? FORWARD_EXIT_FAILED : FORWARD_EXIT_FAILED_ALONE);
}

/* What can't be had in time: the latest failure is the reason. */
static void fail_late(struct forward *f, const char *what, int64_t limit_ms)
{
    char memory[2 * FORWARD_REASON_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    writer_text(&text, what);
    writer_text(&text, " within ");
    writer_duration_ms(&text, limit_ms);
    if (f->reason[0] != '\0') {
        writer_text(&text, ": ");
        writer_text(&text, f->reason);
    }
    fail(f, writer_view(&text));
}

static void finish(struct forward *f)
{
    f->state = FORWARD_GONE;
    if (f->command_status_counts)
        f->status = f->command_status;
    request(f, FORWARD_EXIT);
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

static bool is_under_way(const struct forward_session *s)
{
    return s->state == FORWARD_SESSION_NEEDED || s->state == FORWARD_SESSION_STARTING ||
           s->state == FORWARD_SESSION_OPENING;
}

static uint32_t count_under_way(const struct forward *f)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++)
        count += is_under_way(&f->sessions[i]);
    return count;
}

static bool all_gone(const struct forward *f)
{
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++)
        if (f->sessions[i].state != FORWARD_SESSION_NONE)
            return false;
    return true;
}

static void become_ready(struct forward *f)
{
    f->state = FORWARD_READY;
    f->until_ms = INT64_MAX;
    f->failures = 0;
    f->reason[0] = '\0';
    f->idle_since_ms = f->open_connections > 0 ? INT64_MAX : f->now_ms;
    request(f, FORWARD_TELL_READY);
    if (f->options.has_command) {
        request(f, FORWARD_RUN_COMMAND);
        f->command_runs = true;
    }
}

/* What follows from a fact. */
static void settle(struct forward *f)
{
    if (f->state == FORWARD_PREPARING && count_under_way(f) == 0 && (f->checked || !f->options.check))
        become_ready(f);
    if (f->state == FORWARD_READY && count_under_way(f) == 0)
        f->until_ms = INT64_MAX;
    if (f->state == FORWARD_ENDING && !f->command_runs && (all_gone(f) || f->now_ms >= f->end_until_ms))
        finish(f);
}

static bool any_open(const struct forward *f)
{
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++)
        if (f->sessions[i].state == FORWARD_SESSION_OPEN)
            return true;
    return false;
}

/* A session can't be had now, or ever: whoever waits is told. Others may go on. */
static void give_up_repair(struct forward *f)
{
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++)
        if (f->sessions[i].state == FORWARD_SESSION_NEEDED)
            f->sessions[i].state = FORWARD_SESSION_NONE;
    f->until_ms = INT64_MAX;
    f->failures = 0;
    if (f->options.has_command || any_open(f))
        request(f, FORWARD_REFUSE_WAITING);
    else
        fail_late(f, "no new session", f->options.reconnect_for_ms);
}

/* A call was refused: it would be again. */
static void refused(struct forward *f, struct str why)
{
    if (f->state == FORWARD_PREPARING || (!f->options.has_command && !any_open(f))) {
        fail(f, why);
        return;
    }
    set_reason(f, why);
    give_up_repair(f);
}

/* ---- facts --------------------------------------------------------------------------------------------- */

static void at(struct forward *f, int64_t now_ms)
{
    f->now_ms = num_max_i64(f->now_ms, now_ms);
}

void forward_init(struct forward *f, const struct forward_options *options, int64_t now_ms, uint64_t seed)
{
    *f = (struct forward){.options = *options,
                          .now_ms = now_ms,
                          .started_ms = now_ms,
                          .random = seed,
                          .task_at_ms = now_ms,
                          .session_at_ms = now_ms,
                          .check_at_ms = now_ms,
                          .check_until_ms = INT64_MIN,
                          .until_ms = num_add_ms(now_ms, options->prepare_ms),
                          .kill_at_ms = INT64_MAX,
                          .idle_since_ms = INT64_MAX,
                          .drain_until_ms = INT64_MAX,
                          .end_until_ms = INT64_MAX};
    f->sessions[0].state = FORWARD_SESSION_NEEDED;
}

void forward_need(struct forward *f, uint32_t session, int64_t now_ms)
{
    at(f, now_ms);
    if (f->state >= FORWARD_ENDING || f->sessions[session].state != FORWARD_SESSION_NONE)
        return;
    f->sessions[session].state = FORWARD_SESSION_NEEDED;
    if (f->state == FORWARD_READY && f->until_ms == INT64_MAX)
        f->until_ms = num_add_ms(f->now_ms, f->options.reconnect_for_ms);
}

static void task_reported(struct forward *f, enum forward_result result, struct str text)
{
    bool was_start = f->starting;
    f->task_ticket = 0;
    f->starting = false;
    f->task_known = !was_start && result == FORWARD_DONE;
    if (f->task_known) {
        f->service_started = false;
        return;
    }
    if (result == FORWARD_DONE) { /* the service was started: a task will come */
        f->service_started = true;
        f->task_at_ms = num_add_ms(f->now_ms, FORWARD_POLL_MS);
        return;
    }
    set_reason(f, text);
    if (result == FORWARD_REFUSED)
        refused(f, text);
    else if (result == FORWARD_SOON || (result == FORWARD_NONE && f->service_started))
        f->task_at_ms = num_add_ms(f->now_ms, FORWARD_POLL_MS);
    else if (result == FORWARD_NONE && f->options.start)
        f->start_next = true;
    else if (result == FORWARD_NONE)
        refused(f, text);
    else
        f->task_at_ms = after_failure(f);
}

static void start_reported(struct forward *f, struct forward_session *s, enum forward_result result,
                           struct str text)
{
    s->ticket = 0;
    if (result == FORWARD_DONE) {
        s->state = FORWARD_SESSION_OPENING;
        return;
    }
    s->state = FORWARD_SESSION_NEEDED;
    if (f->state == FORWARD_ENDING) {
        s->state = FORWARD_SESSION_NONE;
        return;
    }
    set_reason(f, text);
    if (result == FORWARD_REFUSED) {
        refused(f, text);
        return;
    }
    f->task_known = f->task_known && result != FORWARD_NONE;
    f->session_at_ms = f->task_at_ms = after_failure(f);
}

static void check_reported(struct forward *f, enum forward_result result, struct str text)
{
    f->check_ticket = 0;
    f->checked = result == FORWARD_DONE;
    if (f->checked || f->state != FORWARD_PREPARING)
        return;
    set_reason(f, text);
    f->check_at_ms = after_failure(f);
    if (result == FORWARD_REFUSED || f->check_at_ms > f->check_until_ms)
        fail(f, text);
}

void forward_report(struct forward *f, uint32_t ticket, enum forward_result result, struct str text,
                    int64_t now_ms)
{
    at(f, now_ms);
    if (ticket == 0)
        return;
    if (ticket == f->task_ticket)
        task_reported(f, result, text);
    else if (ticket == f->check_ticket)
        check_reported(f, result, text);
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++) {
        struct forward_session *s = &f->sessions[i];
        if (s->ticket != ticket)
            continue;
        if (s->state == FORWARD_SESSION_STARTING)
            start_reported(f, s, result, text);
        else
            *s = (struct forward_session){.state = FORWARD_SESSION_NONE}; /* ended, or the service's to end */
        break;
    }
    settle(f);
}

void forward_session_opened(struct forward *f, uint32_t session, int64_t now_ms)
{
    at(f, now_ms);
    if (f->sessions[session].state != FORWARD_SESSION_OPENING)
        return;
    f->sessions[session].state = FORWARD_SESSION_OPEN;
    f->sessions[session].opened_ms = f->now_ms;
    if (f->check_until_ms == INT64_MIN)
        f->check_at_ms = f->now_ms;
}

void forward_session_over(struct forward *f, uint32_t session, bool final, struct str why, int64_t now_ms)
{
    struct forward_session *s = &f->sessions[session];
    at(f, now_ms);
    if (s->state < FORWARD_SESSION_OPENING)
        return;
    bool was_ending = s->state == FORWARD_SESSION_ENDING;
    if (s->state == FORWARD_SESSION_OPEN && f->now_ms - s->opened_ms >= FORWARD_GOOD_MS)
        f->failures = 0;
    if (!was_ending)
        *s = (struct forward_session){.state = FORWARD_SESSION_NONE};
    f->task_known = false; /* perhaps it went with its task */
    if (f->state == FORWARD_PREPARING) {
        set_reason(f, why);
        s->state = FORWARD_SESSION_NEEDED;
        f->checked = false;
        f->check_ticket = 0;
        f->session_at_ms = f->task_at_ms = after_failure(f);
        if (final || ++f->short_sessions >= FORWARD_SHORT_SESSIONS_MAX)
            fail(f, why);
    } else if (f->state == FORWARD_READY) {
        set_reason(f, why);
        f->session_at_ms = f->task_at_ms = after_failure(f);
    }
    if (f->state >= FORWARD_ENDING && !was_ending)
        s->state = FORWARD_SESSION_NONE;
    settle(f);
}

void forward_connections(struct forward *f, uint32_t open, bool waiting, int64_t now_ms)
{
    at(f, now_ms);
    f->open_connections = open;
    if (open > 0 || waiting)
        f->idle_since_ms = INT64_MAX;
    else if (f->idle_since_ms == INT64_MAX)
        f->idle_since_ms = f->now_ms;
    if (open == 0 && f->drain_until_ms != INT64_MAX)
        begin_end(f, 0);
    settle(f);
}

void forward_command_ended(struct forward *f, int status, int64_t now_ms)
{
    at(f, now_ms);
    if (!f->command_runs)
        return;
    f->command_runs = false;
    f->command_status_counts = true;
    f->command_status = status;
    f->signal_count = 0;
    f->reason[0] = f->state == FORWARD_ENDING ? f->reason[0] : '\0';
    begin_end(f, status);
    f->end_until_ms = num_add_ms(f->now_ms, FORWARD_END_MS);
    settle(f);
}

void forward_signal(struct forward *f, int number, int64_t now_ms)
{
    at(f, now_ms);
    if (f->command_runs) {
        pass_on(f, number);
        return;
    }
    switch (f->state) {
    case FORWARD_PREPARING:
        set_reason(f, STR_LITERAL("interrupted before it was ready"));
        begin_end(f, EXIT_BY_SIGNAL + number);
        break;
    case FORWARD_READY:
        f->reason[0] = '\0';
        if (number == FORWARD_SIGTERM && f->open_connections > 0 && f->options.drain_ms > 0 &&
            f->drain_until_ms == INT64_MAX)
            f->drain_until_ms = num_add_ms(f->now_ms, f->options.drain_ms);
        else
            begin_end(f, 0);
        break;
    case FORWARD_ENDING:
        f->end_until_ms = f->now_ms; /* asked twice */
        break;
    case FORWARD_GONE:
        break;
    }
    settle(f);
}

void forward_stop(struct forward *f, bool failed, struct str why, int64_t now_ms)
{
    at(f, now_ms);
    if (failed)
        fail(f, why);
    else if (f->state < FORWARD_ENDING) {
        set_reason(f, why);
        begin_end(f, 0);
    }
    settle(f);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static int64_t max_time_at(const struct forward *f)
{
    return f->options.max_time_ms > 0 && f->kill_at_ms == INT64_MAX
               ? num_add_ms(f->started_ms, f->options.max_time_ms)
               : INT64_MAX;
}

static int64_t idle_at(const struct forward *f)
{
    bool applies = f->state == FORWARD_READY && !f->command_runs && f->options.idle_timeout_ms > 0;
    return applies ? num_add_ms(f->idle_since_ms, f->options.idle_timeout_ms) : INT64_MAX;
}

/* PREPARING: only until the sessions are open; the check has its own limit. */
static int64_t repair_at(const struct forward *f)
{
    return count_under_way(f) > 0 ? f->until_ms : INT64_MAX;
}

static void tick_running(struct forward *f)
{
    if (f->now_ms >= repair_at(f)) {
        if (f->state == FORWARD_PREPARING)
            fail_late(f, "no session", f->options.prepare_ms);
        else
            give_up_repair(f);
    }
    if (f->now_ms >= max_time_at(f) && f->command_runs)
        stop_command(f);
    else if (f->now_ms >= max_time_at(f))
        forward_stop(f, f->state == FORWARD_PREPARING, STR_LITERAL("the maximum time is over"), f->now_ms);
    if (f->now_ms >= idle_at(f))
        forward_stop(f, false, STR_LITERAL("nobody used it for the idle timeout"), f->now_ms);
    if (f->now_ms >= f->drain_until_ms)
        begin_end(f, 0);
}

void forward_tick(struct forward *f, int64_t now_ms)
{
    at(f, now_ms);
    if (f->state < FORWARD_ENDING)
        tick_running(f);
    if (f->command_runs && f->now_ms >= f->kill_at_ms) {
        pass_on(f, FORWARD_SIGKILL);
        f->kill_at_ms = num_add_ms(f->now_ms, FORWARD_KILL_MS);
    }
    settle(f);
}

static int64_t next_step_at(const struct forward *f)
{
    int64_t at_ms = INT64_MAX;
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++) {
        if (f->sessions[i].state != FORWARD_SESSION_NEEDED)
            continue;
        if (f->task_known)
            at_ms = num_min_i64(at_ms, f->session_at_ms);
        else if (f->task_ticket == 0)
            at_ms = num_min_i64(at_ms, f->task_at_ms);
    }
    if (f->state == FORWARD_PREPARING && count_under_way(f) == 0 && f->check_ticket == 0)
        at_ms = num_min_i64(at_ms, f->check_at_ms);
    return at_ms;
}

int64_t forward_deadline(const struct forward *f)
{
    int64_t at_ms = f->command_runs ? f->kill_at_ms : INT64_MAX;
    if (f->state == FORWARD_GONE)
        return INT64_MAX;
    if (f->state == FORWARD_ENDING)
        return f->command_runs ? at_ms : num_min_i64(at_ms, f->end_until_ms);
    at_ms = num_min_i64(at_ms, repair_at(f));
    at_ms = num_min_i64(at_ms, max_time_at(f));
    at_ms = num_min_i64(at_ms, idle_at(f));
    at_ms = num_min_i64(at_ms, f->drain_until_ms);
    return num_min_i64(at_ms, next_step_at(f));
}

/* ---- actions ------------------------------------------------------------------------------------------- */

static bool give_task(struct forward *f, struct forward_action *action)
{
    if (f->task_known || f->task_ticket != 0 || f->now_ms < f->task_at_ms)
        return false;
    action->kind = f->start_next ? FORWARD_START_SERVICE : FORWARD_FIND_TASK;
    f->starting = f->start_next;
    f->start_next = false;
    action->ticket = f->task_ticket = new_ticket(f);
    return true;
}

static bool give_session(struct forward *f, struct forward_action *action)
{
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++) {
        struct forward_session *s = &f->sessions[i];
        if (s->state != FORWARD_SESSION_NEEDED)
            continue;
        if (!f->task_known)
            return give_task(f, action);
        if (f->now_ms < f->session_at_ms)
            return false;
        s->state = FORWARD_SESSION_STARTING;
        action->kind = FORWARD_START_SESSION;
        action->session = i;
        action->ticket = s->ticket = new_ticket(f);
        return true;
    }
    return false;
}

static bool give_check(struct forward *f, struct forward_action *action)
{
    if (f->state != FORWARD_PREPARING || count_under_way(f) > 0 || f->check_ticket != 0 || f->checked ||
        !f->options.check || f->now_ms < f->check_at_ms)
        return false;
    if (f->check_until_ms == INT64_MIN)
        f->check_until_ms = num_add_ms(f->now_ms, f->options.wait_for_target_ms);
    action->kind = FORWARD_CHECK;
    action->ticket = f->check_ticket = new_ticket(f);
    return true;
}

static bool give_end(struct forward *f, struct forward_action *action)
{
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX && !f->command_runs; i++) {
        struct forward_session *s = &f->sessions[i];
        if (s->state == FORWARD_SESSION_NEEDED)
            s->state = FORWARD_SESSION_NONE;
        if (s->state != FORWARD_SESSION_OPENING && s->state != FORWARD_SESSION_OPEN)
            continue;
        s->state = FORWARD_SESSION_ENDING;
        action->kind = FORWARD_END_SESSION;
        action->session = i;
        action->ticket = s->ticket = new_ticket(f);
        return true;
    }
    settle(f);
    return false;
}

static bool give_plain(struct forward *f, struct forward_action *action)
{
    static const enum forward_action_kind kinds[] = {FORWARD_TELL_READY, FORWARD_RUN_COMMAND,
                                                     FORWARD_REFUSE_WAITING, FORWARD_EXIT};
    if (f->signal_count > 0 && (f->pending & 1U << FORWARD_RUN_COMMAND) == 0) {
        action->kind = FORWARD_SIGNAL_COMMAND;
        action->number = f->signals[0];
        memmove(f->signals, f->signals + 1, --f->signal_count * sizeof f->signals[0]);
        return true;
    }
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (!take_request(f, kinds[i]))
            continue;
        action->kind = kinds[i];
        action->status = f->status;
        return true;
    }
    return false;
}

bool forward_next(struct forward *f, struct forward_action *action)
{
    *action = (struct forward_action){.text = f->reason};
    if (give_plain(f, action))
        return true;
    switch (f->state) {
    case FORWARD_PREPARING:
    case FORWARD_READY:
        return give_session(f, action) || give_check(f, action);
    case FORWARD_ENDING:
        return give_end(f, action) || give_plain(f, action);
    case FORWARD_GONE:
        break;
    }
    return false;
}
