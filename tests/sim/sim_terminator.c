/*
 * sim_terminator: random lives of a task on a virtual clock, each checked against what must never happen.
 *
 *     sim_terminator [seed [histories]]      default: 1 100000; `sim_terminator SEED 1 -v` tells one history
 *
 * The world around the terminator: people who come and go, through a relay with admission or through AWS's
 * agent, which has none; a keeper that polls, checks and calls; an API that is down for hours, fails at
 * random, answers late, does what it was asked and says that it failed; ECS, which answers a scale-in or a
 * StopTask with SIGTERM, or sends one for a deployment; a wrapped command that ends by itself, takes its
 * time, or ignores SIGTERM; a clock that jumps by hours.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lifecycle/terminator.h"

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define NEVER  INT64_MAX

/* ---- random -------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t random_u64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * UINT64_C(0x2545F4914F6CDD1D);
}

static int64_t random_between(int64_t low, int64_t high)
{
    return low + (int64_t) (random_u64() % (uint64_t) (high - low + 1));
}

static bool chance(unsigned percent)
{
    return random_u64() % 100 < percent;
}

/* ---- the world ----------------------------------------------------------------------------------------- */

enum { PEOPLE_MAX = 12 };

struct person {
    int64_t comes_ms;
    int64_t stays_ms;
    int64_t leaves_ms; /* NEVER until there */
    bool there;
    bool was_there;
};

struct pending_report {
    int64_t at_ms; /* NEVER: none under way */
    uint32_t ticket;
    enum terminator_action_kind kind;
    enum terminator_result result;
    bool forced;
};

struct world {
    struct terminator t;
    struct terminator_options options;
    uint64_t seed;
    int64_t now_ms;
    int64_t start_ms;
    bool relay; /* with admission; else AWS's agent */
    bool admission_closed;
    int64_t poll_ms; /* how often the keeper tells what it sees */
    int64_t next_poll_ms;
    bool blind_at_the_end; /* no snapshots any more, the terminator must go by its own deadlines */
    int64_t jump_at_ms, jump_by_ms;
    struct person people[PEOPLE_MAX];
    unsigned people_count;
    int64_t last_left_ms; /* NEVER: nobody ever left */
    bool told_busy;       /* the last snapshot said so */

    unsigned api_fails_percent;
    int64_t outage_from_ms, outage_to_ms;
    bool api_refuses;
    bool crowded; /* the service has other tasks */
    int64_t slowest_ms;
    struct pending_report report;
    struct pending_report sessions_report;
    bool updated; /* an attempt found the service updated recently */
    int64_t checked_ms;
    bool checked; /* a check said unused, and no attempt has failed since */
    bool scale_in_over;

    int64_t sigterm_at_ms, sigint_at_ms;
    bool sigterm_sent, sigint_sent;
    int64_t command_ends_ms;
    bool command_alive, command_ended_itself;
    int command_status;
    int64_t command_stop_takes_ms; /* NEVER: ignores SIGTERM */
    int64_t stop_command_ms;
    int64_t slept_ms;
    int64_t end_began_ms;
    bool gone;
    int exit_status;
};

static bool verbose;

__attribute__((format(printf, 2, 3))) static void tell(const struct world *w, const char *format, ...)
{
    if (!verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    printf("%12.3f  %-8s ", (double) (w->now_ms - w->start_ms) / 1000, terminator_state_name(w->t.state));
    vprintf(format, arguments);
    putchar('\n');
    va_end(arguments);
}

__attribute__((format(printf, 2, 3))) static _Noreturn void broken(const struct world *w, const char *format,
                                                                   ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "sim_terminator: seed %" PRIu64 ", %.3f s, %s, cause %d: ", w->seed,
            (double) (w->now_ms - w->start_ms) / 1000, terminator_state_name(w->t.state), (int) w->t.cause);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\ntell it: sim_terminator %" PRIu64 " 1 -v\n", w->seed);
    va_end(arguments);
    exit(1);
}

static unsigned people_there(const struct world *w)
{
    unsigned count = 0;
    for (unsigned i = 0; i < w->people_count; i++)
        count += w->people[i].there;
    return count;
}

static unsigned people_ever(const struct world *w)
{
    unsigned count = 0;
    for (unsigned i = 0; i < w->people_count; i++)
        count += w->people[i].was_there;
    return count;
}

static bool is_forced(const struct world *w)
{
    switch (w->t.cause) {
    case TERMINATOR_CAUSE_NONE:
    case TERMINATOR_CAUSE_NO_SESSION:
    case TERMINATOR_CAUSE_IDLE:
        return w->t.forced; /* idle first, then forced on its way */
    case TERMINATOR_CAUSE_MAX_LIFE:
    case TERMINATOR_CAUSE_COMMAND_ENDED:
    case TERMINATOR_CAUSE_SIGINT:
    case TERMINATOR_CAUSE_SIGTERM:
        break;
    }
    return true;
}

static bool is_ended_by_time(const struct world *w)
{
    return w->t.state >= TERMINATOR_CHECKING && !is_forced(w);
}

/* ---- a random world ------------------------------------------------------------------------------------ */

static int64_t any_of(const int64_t *values, size_t count)
{
    return values[random_u64() % count];
}
#define ANY_OF(...)                                                                                          \
    any_of((const int64_t[]){__VA_ARGS__}, sizeof((const int64_t[]){__VA_ARGS__}) / sizeof(int64_t))

static void make_options(struct terminator_options *options)
{
    options->initial_wait_ms =
        chance(15) ? ANY_OF(0, 1, SECOND) : ANY_OF(30 * SECOND, 15 * MINUTE, 30 * MINUTE, 2 * HOUR);
    options->idle_timeout_ms =
        chance(15) ? ANY_OF(0, 1, SECOND) : ANY_OF(30 * SECOND, 5 * MINUTE, 30 * MINUTE);
    options->max_life_ms = chance(3) ? 1 : ANY_OF(0, 0, 10 * MINUTE, HOUR, 24 * HOUR);
    options->end_deadline_ms = ANY_OF(0, SECOND, MINUTE, 5 * MINUTE);
    options->stop_grace_ms = ANY_OF(0, SECOND, 25 * SECOND);
    options->drain_ms = ANY_OF(0, SECOND, 25 * SECOND);
    options->scale_in = chance(70);
    options->stop_task = chance(70);
    options->has_command = chance(40);
    options->keep_alive_task = chance(30);
}

static void make_people(struct world *w)
{
    int64_t comes_ms = w->start_ms;
    w->people_count = (unsigned) random_between(0, PEOPLE_MAX);
    for (unsigned i = 0; i < w->people_count; i++) {
        int64_t rest_ms = chance(30) ? w->options.idle_timeout_ms + random_between(-2 * SECOND, 2 * SECOND)
                                     : random_between(0, 20 * MINUTE);
        comes_ms += rest_ms > 0 ? rest_ms : 0;
        w->people[i].comes_ms = comes_ms;
        w->people[i].stays_ms = chance(20) ? random_between(0, SECOND) : random_between(0, 3 * HOUR);
        w->people[i].leaves_ms = NEVER;
        if (chance(50))
            comes_ms += w->people[i].stays_ms;
    }
}

static void make_world(struct world *w, uint64_t seed)
{
    memset(w, 0, sizeof *w);
    random_state = (seed + 1) * UINT64_C(0x9E3779B97F4A7C15);
    w->seed = seed;
    w->start_ms = ANY_OF(0, 12345, INT64_C(1) << 40, INT64_C(-5000000));
    w->now_ms = w->start_ms;
    make_options(&w->options);
    w->relay = chance(60);
    w->poll_ms = random_between(50, 2000);
    w->next_poll_ms = w->start_ms;
    w->blind_at_the_end = chance(30);
    make_people(w);
    w->last_left_ms = NEVER;
    w->jump_at_ms = chance(20) ? w->start_ms + random_between(0, 2 * HOUR) : NEVER;
    w->jump_by_ms = random_between(MINUTE, 50 * HOUR);
    w->api_fails_percent = (unsigned) ANY_OF(0, 0, 30, 70, 100);
    w->outage_from_ms = chance(30) ? w->start_ms + random_between(0, 3 * HOUR) : NEVER;
    w->outage_to_ms = w->outage_from_ms == NEVER ? NEVER : w->outage_from_ms + random_between(0, HOUR);
    w->api_refuses = chance(10);
    w->crowded = chance(20);
    w->slowest_ms = ANY_OF(10, 500, 5 * SECOND, 40 * SECOND);
    w->report.at_ms = w->sessions_report.at_ms = NEVER;
    w->sigterm_at_ms = chance(15) ? w->start_ms + random_between(0, 4 * HOUR) : NEVER;
    w->sigint_at_ms = chance(10) ? w->start_ms + random_between(0, 4 * HOUR) : NEVER;
    w->command_alive = w->options.has_command;
    w->command_ends_ms = w->command_alive && chance(50) ? w->start_ms + random_between(0, 4 * HOUR) : NEVER;
    w->command_status = (int) ANY_OF(0, 3, 137, 143);
    w->command_stop_takes_ms = chance(30) ? NEVER : random_between(0, 30 * SECOND);
    w->stop_command_ms = NEVER;
    w->end_began_ms = NEVER;
    terminator_init(&w->t, &w->options, w->now_ms, random_u64());
}

/* ---- what must hold ------------------------------------------------------------------------------------ */

static void check_attempt(struct world *w, const struct terminator_action *action)
{
    bool scale_in = action->kind == TERMINATOR_SCALE_IN;
    w->scale_in_over = w->scale_in_over || w->t.step_results[0] == TERMINATOR_GIVEN_UP;
    if (w->sigterm_sent)
        broken(w, "an API call after SIGTERM");
    if (scale_in ? !w->options.scale_in : !w->options.stop_task)
        broken(w, "a call nobody asked for");
    if (!scale_in && w->options.scale_in && !w->scale_in_over)
        broken(w, "StopTask before the scale-in was over");
    if (scale_in && w->scale_in_over)
        broken(w, "scaled in twice");
    /* Once the deadline is over, a check that is not answered is done without. */
    bool may_be_blind = w->now_ms - w->end_began_ms >= w->options.end_deadline_ms;
    if (!w->t.committed && !is_forced(w) && !w->checked && !may_be_blind)
        broken(w, "an attempt without a last check");
    if (!w->t.committed && !is_forced(w) && w->relay && people_there(w) > 0 && w->checked)
        broken(w, "an attempt with %u people there", people_there(w));
    bool left_recently =
        w->last_left_ms != NEVER && w->checked_ms - w->last_left_ms <= w->options.idle_timeout_ms;
    if (!w->t.committed && !is_forced(w) && w->relay && w->checked && left_recently)
        broken(w, "an attempt too early after the last session");
    if (action->text[0] == '\0')
        broken(w, "no reason");
}

static void check_end_begins(struct world *w)
{
    if (w->t.state < TERMINATOR_CHECKING) {
        w->end_began_ms = NEVER;
        w->slept_ms = 0;
        w->scale_in_over = false;
        return;
    }
    if (w->end_began_ms != NEVER)
        return;
    w->end_began_ms = w->now_ms;
    tell(w, "the shutdown begins: %s", w->t.reason);
    int64_t since_start_ms = w->now_ms - w->start_ms;
    switch (w->t.cause) {
    case TERMINATOR_CAUSE_NO_SESSION:
        if (since_start_ms <= w->options.initial_wait_ms)
            broken(w, "did not wait for the first");
        break;
    case TERMINATOR_CAUSE_IDLE:
        if (people_ever(w) == 0)
            broken(w, "idle, but nobody ever came");
        break;
    case TERMINATOR_CAUSE_MAX_LIFE:
        if (w->options.max_life_ms == 0 || since_start_ms <= w->options.max_life_ms)
            broken(w, "maximum life not reached");
        break;
    case TERMINATOR_CAUSE_COMMAND_ENDED:
        if (!w->command_ended_itself || w->options.keep_alive_task)
            broken(w, "the command did not end, or was not to count");
        break;
    case TERMINATOR_CAUSE_SIGINT:
    case TERMINATOR_CAUSE_SIGTERM:
        if (!w->sigint_sent && !w->sigterm_sent)
            broken(w, "no signal came");
        break;
    case TERMINATOR_CAUSE_NONE:
        broken(w, "ends without a cause");
    }
}

/* The waits, counted here anew. A snapshot is at most a poll old. */
static void check_not_late(struct world *w)
{
    int64_t slack_ms = 2 * w->poll_ms;
    if (w->updated)
        return; /* an update of the service starts the wait anew */
    if (w->t.state == TERMINATOR_WAITING && w->now_ms - w->start_ms > w->options.initial_wait_ms)
        broken(w, "waits for the first too long");
    if (w->t.state == TERMINATOR_IDLE && people_there(w) == 0 &&
        w->now_ms - w->last_left_ms > w->options.idle_timeout_ms + slack_ms)
        broken(w, "stays idle too long");
    if (w->t.state <= TERMINATOR_IDLE && w->options.max_life_ms > 0 &&
        w->now_ms - w->start_ms > w->options.max_life_ms)
        broken(w, "lives longer than its maximum");
}

static int64_t longest_end_ms(const struct world *w)
{
    return w->options.end_deadline_ms + 4 * TERMINATOR_CHECK_MS + 2 * TERMINATOR_ATTEMPT_MS +
           w->options.stop_grace_ms + w->options.drain_ms + TERMINATOR_LINGER_MS + SECOND;
}

static void check_always(struct world *w)
{
    check_end_begins(w);
    if (w->gone)
        return;
    check_not_late(w);
    if (terminator_deadline(&w->t) <= w->now_ms)
        broken(w, "wants to be called for a moment that is over");
    bool open_state = w->t.state <= TERMINATOR_IDLE ||
                      (w->t.state == TERMINATOR_PAUSING && !is_forced(w) && !w->t.committed);
    if (open_state && !terminator_accepting(&w->t))
        broken(w, "admission is closed");
    if (w->t.state >= TERMINATOR_LEAVING && terminator_accepting(&w->t))
        broken(w, "admission is open");
    if (w->end_began_ms != NEVER && w->now_ms - w->end_began_ms - w->slept_ms > longest_end_ms(w))
        broken(w, "the shutdown takes too long");
    bool way_back = w->t.state == TERMINATOR_CHECKING || w->t.state == TERMINATOR_PAUSING;
    if (way_back && w->told_busy && !is_forced(w) && !w->t.committed)
        broken(w, "is told that it is in use and goes on with the shutdown");
}

static void check_exit(struct world *w, int status)
{
    w->scale_in_over = w->scale_in_over || w->t.step_results[0] == TERMINATOR_GIVEN_UP;
    bool given_up =
        w->t.step_results[0] == TERMINATOR_GIVEN_UP || w->t.step_results[1] == TERMINATOR_GIVEN_UP;
    bool by_itself = w->command_ended_itself && !w->options.keep_alive_task;
    int expected = 0;
    if (by_itself || (w->t.cause == TERMINATOR_CAUSE_SIGTERM && w->stop_command_ms != NEVER))
        expected = w->command_alive ? 137 : w->command_status;
    if (expected == 0 && given_up)
        expected = TERMINATOR_EXIT_UNFINISHED;
    if (status != expected)
        broken(w, "exits with %d instead of %d", status, expected);
    if (is_ended_by_time(w) && w->relay && people_there(w) > 0 && w->admission_closed)
        broken(w, "leaves %u people behind", people_there(w));
    if (w->options.scale_in && !w->sigterm_sent && !w->scale_in_over)
        broken(w, "exits without having tried to scale in");
}

/* ---- the keeper ---------------------------------------------------------------------------------------- */

static void snapshot(struct world *w)
{
    struct terminator_activity activity = {.open_sessions = people_there(w),
                                           .total_sessions = people_ever(w),
                                           .busy = people_there(w) > 0,
                                           .last_activity_ms = INT64_MIN};
    if (w->last_left_ms != NEVER)
        activity.last_activity_ms = w->last_left_ms;
    w->told_busy = activity.busy;
    terminator_activity(&w->t, &activity, w->now_ms);
}

static bool api_is_down(const struct world *w)
{
    return w->now_ms >= w->outage_from_ms && w->now_ms < w->outage_to_ms;
}

/* ECS takes note, whatever the caller hears of it, and some time later SIGTERM comes. */
static void ecs_obeys(struct world *w)
{
    int64_t at_ms = w->now_ms + random_between(1, 10 * SECOND);
    if (at_ms < w->sigterm_at_ms)
        w->sigterm_at_ms = at_ms;
}

static void start_attempt(struct world *w, const struct terminator_action *action)
{
    enum terminator_result result = TERMINATOR_FAILED;
    if (w->api_refuses && chance(80)) {
        result = TERMINATOR_REFUSED;
    } else if (!api_is_down(w) && !chance(w->api_fails_percent)) {
        result = action->updated_within_ms > 0 && chance(5) ? TERMINATOR_IN_USE
                 : chance(10)                               ? TERMINATOR_ALREADY_SO
                                                            : TERMINATOR_DONE;
    }
    if (action->kind == TERMINATOR_SCALE_IN && !action->stepped_aside && result == TERMINATOR_DONE &&
        w->crowded)
        result = TERMINATOR_CROWDED;
    bool done = result == TERMINATOR_DONE || (result == TERMINATOR_FAILED && !api_is_down(w) && chance(10));
    if (done)
        ecs_obeys(w);
    w->report = (struct pending_report){.at_ms = w->now_ms + random_between(0, w->slowest_ms),
                                        .ticket = action->ticket,
                                        .kind = action->kind,
                                        .result = result};
    if (chance(2))
        w->report.at_ms = NEVER; /* never heard of again */
}

static void start_check(struct world *w, const struct terminator_action *action)
{
    w->checked = false;
    w->report = (struct pending_report){.at_ms = w->now_ms + random_between(0, chance(5) ? 15 * SECOND : 300),
                                        .ticket = action->ticket,
                                        .kind = TERMINATOR_LAST_CHECK,
                                        .forced = action->forced};
}

/* The relay's answer: one step, in which admission closes or the task is found in use. */
static void answer_check(struct world *w)
{
    bool in_use = people_there(w) > 0;
    if (chance(5)) {
        w->report.result = TERMINATOR_FAILED;
    } else if (in_use && !w->report.forced) {
        w->report.result = TERMINATOR_IN_USE;
    } else if (in_use && chance(10)) {
        w->report.result = TERMINATOR_IN_USE; /* a caller that does not know better */
    } else {
        w->report.result = TERMINATOR_DONE;
        w->admission_closed = true;
        w->checked = true;
        w->checked_ms = w->now_ms;
    }
}

static void report(struct world *w)
{
    struct pending_report r = w->report;
    bool current = r.ticket == w->t.ticket;
    if (r.kind == TERMINATOR_LAST_CHECK) {
        snapshot(w);
        answer_check(w);
        r = w->report;
    } else if (current) {
        w->checked = false;
        w->updated = w->updated || r.result == TERMINATOR_IN_USE;
        bool last = r.result == TERMINATOR_DONE || r.result == TERMINATOR_ALREADY_SO ||
                    (r.result == TERMINATOR_IN_USE && is_forced(w));
        w->scale_in_over = w->scale_in_over || (r.kind == TERMINATOR_SCALE_IN && last);
    }
    w->report.at_ms = NEVER;
    tell(w, "report %d: %d%s", (int) r.kind, (int) r.result, current ? "" : " (stale)");
    terminator_report(&w->t, r.ticket, r.result, w->now_ms);
    /* Admission follows the terminator's word, at once here. */
    if (terminator_accepting(&w->t))
        w->admission_closed = false;
}

static void stop_command(struct world *w)
{
    w->stop_command_ms = w->now_ms;
    if (w->command_stop_takes_ms != NEVER && w->now_ms + w->command_stop_takes_ms < w->command_ends_ms)
        w->command_ends_ms = w->now_ms + w->command_stop_takes_ms;
}

static void kill_command(struct world *w)
{
    bool graceful = w->now_ms - w->stop_command_ms >= w->options.stop_grace_ms ||
                    w->now_ms - w->stop_command_ms >= w->options.drain_ms;
    if (w->stop_command_ms == NEVER || !graceful)
        broken(w, "SIGKILL without its grace");
    w->command_status = 137;
    w->command_ends_ms = chance(95) ? w->now_ms + random_between(0, 100) : NEVER;
}

static void end_sessions(struct world *w, const struct terminator_action *action)
{
    for (unsigned i = 0; i < w->people_count; i++)
        if (w->people[i].there && w->relay)
            w->people[i].leaves_ms = w->now_ms + random_between(0, 3 * SECOND);
    w->sessions_report = (struct pending_report){
        .at_ms = chance(50) ? w->now_ms + random_between(0, 3 * SECOND) : NEVER, .ticket = action->ticket};
}

static void act(struct world *w)
{
    struct terminator_action action;
    while (terminator_next(&w->t, &action)) {
        if (w->gone)
            broken(w, "an action after the exit");
        tell(w, "action %d, ticket %" PRIu32, (int) action.kind, action.ticket);
        switch (action.kind) {
        case TERMINATOR_LAST_CHECK:
            start_check(w, &action);
            break;
        case TERMINATOR_SCALE_IN:
        case TERMINATOR_STOP_TASK:
            check_attempt(w, &action);
            start_attempt(w, &action);
            break;
        case TERMINATOR_STOP_COMMAND:
            stop_command(w);
            break;
        case TERMINATOR_KILL_COMMAND:
            kill_command(w);
            break;
        case TERMINATOR_END_SESSIONS:
            end_sessions(w, &action);
            break;
        case TERMINATOR_EXIT:
            check_exit(w, action.status);
            w->gone = true;
            w->exit_status = action.status;
            break;
        case TERMINATOR_ACTION_COUNT:
            broken(w, "no such action");
        }
    }
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static void move_people(struct world *w)
{
    for (unsigned i = 0; i < w->people_count; i++) {
        struct person *p = &w->people[i];
        if (!p->there && p->comes_ms <= w->now_ms) {
            p->comes_ms = NEVER;
            if (!w->relay || !w->admission_closed) {
                p->there = p->was_there = true;
                p->leaves_ms = w->now_ms + p->stays_ms;
                tell(w, "a session starts");
            }
        }
        if (p->there && p->leaves_ms <= w->now_ms) {
            p->there = false;
            w->last_left_ms = w->now_ms;
            tell(w, "a session ends");
        }
    }
}

static int64_t sooner(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t next_moment(const struct world *w)
{
    int64_t at_ms = sooner(w->next_poll_ms, terminator_deadline(&w->t));
    at_ms = sooner(at_ms, sooner(w->report.at_ms, w->sessions_report.at_ms));
    at_ms = sooner(at_ms, sooner(w->sigterm_at_ms, w->sigint_at_ms));
    at_ms = sooner(at_ms, w->command_alive ? w->command_ends_ms : NEVER);
    for (unsigned i = 0; i < w->people_count; i++)
        at_ms = sooner(at_ms, w->people[i].there ? w->people[i].leaves_ms : w->people[i].comes_ms);
    return at_ms;
}

/* Nothing happens for long: do not poll a day second by second. */
static void skip_quiet_polls(struct world *w)
{
    w->next_poll_ms = w->now_ms + w->poll_ms;
    bool watched = w->t.state >= TERMINATOR_CHECKING;
    if (w->blind_at_the_end && w->t.state == TERMINATOR_LEAVING) {
        w->next_poll_ms = NEVER;
        return;
    }
    int64_t saved_ms = w->next_poll_ms;
    w->next_poll_ms = NEVER;
    int64_t next_ms = next_moment(w);
    w->next_poll_ms = saved_ms;
    if (!watched && next_ms != NEVER && next_ms > saved_ms)
        w->next_poll_ms = next_ms + random_between(0, w->poll_ms);
    else if (next_ms == NEVER)
        w->next_poll_ms = w->now_ms + HOUR;
}

static void happen(struct world *w)
{
    move_people(w);
    if (w->command_alive && w->command_ends_ms <= w->now_ms) {
        w->command_alive = false;
        w->command_ended_itself = w->stop_command_ms == NEVER;
        tell(w, "the command ends");
        terminator_command_ended(&w->t, w->command_status, w->now_ms);
        act(w);
    }
    if (w->sigint_at_ms <= w->now_ms) {
        w->sigint_at_ms = NEVER;
        w->sigint_sent = true;
        tell(w, "SIGINT");
        terminator_sigint(&w->t, w->now_ms);
        act(w);
    }
    if (w->sigterm_at_ms <= w->now_ms) {
        w->sigterm_at_ms = NEVER;
        w->sigterm_sent = true;
        tell(w, "SIGTERM");
        terminator_sigterm(&w->t, w->now_ms);
        act(w);
    }
    if (w->sessions_report.at_ms <= w->now_ms) {
        w->sessions_report.at_ms = NEVER;
        terminator_report(&w->t, w->sessions_report.ticket, TERMINATOR_DONE, w->now_ms);
        act(w);
    }
    if (w->report.at_ms <= w->now_ms) {
        report(w);
        act(w);
    }
    if (w->next_poll_ms <= w->now_ms) {
        snapshot(w);
        act(w);
        skip_quiet_polls(w);
    }
    terminator_tick(&w->t, w->now_ms);
    act(w);
}

static void live(struct world *w)
{
    /* Whoever comes last leaves, the deadline passes: then it must be over. */
    int64_t horizon_ms = w->start_ms + 24 * 365 * HOUR;
    for (unsigned step = 0; !w->gone; step++) {
        int64_t next_ms = next_moment(w);
        if (next_ms >= w->jump_at_ms) {
            next_ms = w->jump_at_ms + w->jump_by_ms;
            w->slept_ms += w->jump_by_ms;
            w->jump_at_ms = NEVER;
            w->now_ms = next_ms;
            tell(w, "the clock jumps");
        }
        if (next_ms > horizon_ms || step > 1000000)
            broken(w, "never ends");
        w->now_ms = next_ms > w->now_ms ? next_ms : w->now_ms;
        happen(w);
        check_always(w);
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 100000;
    verbose = argc > 3 && strcmp(argv[3], "-v") == 0;
    unsigned long causes[TERMINATOR_CAUSE_SIGTERM + 1] = {0};
    unsigned long unfinished = 0;
    static struct world w;
    for (uint64_t i = 0; i < count; i++) {
        make_world(&w, seed + i);
        live(&w);
        causes[w.t.cause]++;
        unfinished += w.exit_status == TERMINATOR_EXIT_UNFINISHED;
    }
    printf("%" PRIu64
           " histories: nobody came %lu, idle %lu, maximum life %lu, command ended %lu, SIGINT %lu, "
           "SIGTERM %lu; %lu could not finish their calls\n",
           count, causes[TERMINATOR_CAUSE_NO_SESSION], causes[TERMINATOR_CAUSE_IDLE],
           causes[TERMINATOR_CAUSE_MAX_LIFE], causes[TERMINATOR_CAUSE_COMMAND_ENDED],
           causes[TERMINATOR_CAUSE_SIGINT], causes[TERMINATOR_CAUSE_SIGTERM], unfinished);
    printf("%" PRIu64 " passed, 0 failed, 0 skipped\n", count);
    return 0;
}
