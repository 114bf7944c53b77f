/*
 * terminator: decides when this task has to end and carries the shutdown through, in the right order,
 * whatever fails on the way. It knows no API, no process and no clock: facts and the time go in, actions come
 * out one by one, and the caller reports what became of each.
 *
 *               in use              not in use
 *     WAITING ───────────► ACTIVE ◄────────────► IDLE
 *        │ initial wait over        in use         │ idle timeout over
 *        ▼                                         ▼
 *      ┌──────────────────────────────── shutdown ───────────────────────────────┐
 *      │ CHECKING ── unused ──► ACTING ── last step done ──► LEAVING ──► GONE    │
 *      │  ▲ │ in use: back,      │ ▲ └─ done: next step         ▲                │
 *      │  │ └─ admission opens   │ └────────────┐               │                │
 *      │  │                      ▼ failed       │ admission     │                │
 *      │  └─ admission open ── PAUSING ─────────┘ closed    SIGTERM, any state   │
 *      └─────────────────────────────────────────────────────────────────────────┘
 *
 * When the shutdown begins
 *   - no session ever came and more than `initial_wait_ms` passed since the start;
 *   - the task is not busy and more than `idle_timeout_ms` passed since the last activity;
 *   - more than `max_life_ms` passed since the start, busy or not (0: no maximum);
 *   - the wrapped command ended by itself (unless `keep_alive_task`), busy or not;
 *   - SIGINT: the user wants the task to end, busy or not;
 *   - SIGTERM: ECS is stopping this task already. No API is called, only LEAVING remains. The caller says so,
 *     too, when ECS turns out to be stopping it in another way (an image's STOPSIGNAL).
 * All but the first two are "forced": a new session can't cancel them.
 *
 * What it does
 *   1. TERMINATOR_LAST_CHECK: the caller closes admission (new sessions are refused) unless the task is in
 *   use, in one atomic step: the relay answers "closed" or "in use". In use cancels the shutdown, unless it
 *   is forced. AWS's own agent has no admission to close; there it is a fresh look at its log and its
 *   processes.
 *   2. TERMINATOR_SCALE_IN, if wanted, always before 3: a task that stops itself first can be killed before
 *   it has scaled in, and the service starts the next one.
 *   3. TERMINATOR_STOP_TASK with a reason, if wanted. Also when 2 failed for good.
 *   4. TERMINATOR_STOP_COMMAND, TERMINATOR_END_SESSIONS (if there ever was one: the report of the last may
 *   still be on the way), after the grace TERMINATOR_KILL_COMMAND.
 *   5. TERMINATOR_EXIT with the status. Each attempt of 2 and 3 comes right after a check of its own until
 *   one has succeeded; from then on there is no way back. After an attempt that failed, admission is open
 *   again while the back-off lasts: in an outage of the API the task goes on serving instead of refusing
 *   users for minutes.
 *
 * Attempts repeat with exponential back-off and jitter until `end_deadline_ms` after the shutdown began; each
 * step gets at least one attempt, even beyond. An attempt that is not reported within TERMINATOR_ATTEMPT_MS
 * counts as failed, a check after TERMINATOR_CHECK_MS; a check that can't tell is tried again until the
 * deadline, and then done without. What is refused TERMINATOR_REFUSALS_MAX times in a row is given up early.
 * The exit status says when a step was given up. So the task always ends: at the latest `end_deadline_ms` + 4
 * × TERMINATOR_CHECK_MS + 2 × TERMINATOR_ATTEMPT_MS + `stop_grace_ms` + TERMINATOR_LINGER_MS after the
 * shutdown began.
 *
 * More than one task. How far to scale in is the caller's decision, made anew from DescribeServices in each
 * TERMINATOR_SCALE_IN: 0 for a service of one; one less when there are other tasks. In the latter case ECS
 * chooses which task to stop, so the caller calls StopTask on itself and UpdateService in one go, within this
 * one action; SIGTERM, which that StopTask brings about, lets an attempt under way come to its report before
 * TERMINATOR_EXIT (no new one is started). Tasks that were started together may end together, and each would
 * take one from the same count: so each reports TERMINATOR_CROWDED first, which pauses for a random time with
 * admission open, once a shutdown.
 *
 * A user may have asked for this service and not be connected yet. If the caller finds that the service was
 * updated less than the action's `updated_within_ms` ago, it reports TERMINATOR_IN_USE, which starts the wait
 * anew: at most TERMINATOR_UPDATED_MAX times without a session. The period is TERMINATOR_UPDATED_MS, but
 * never more than half of the wait that is over, so that ECS's own changes at the start of a task with short
 * waits do not count.
 *
 * The clock is monotonic milliseconds; one that steps back is held still. A jump forward (a stopped process)
 * may end a wait, but the check still finds who is connected; time the caller slept through does not count
 * against `end_deadline_ms`. A report or snapshot is taken in before the timers are looked at, so that what
 * is known wins over what has run out.
 *
 * Memory is the caller's and of fixed size; there is nothing to release.
 */
#ifndef FUMIDAI_LIFECYCLE_TERMINATOR_H
#define FUMIDAI_LIFECYCLE_TERMINATOR_H

#include <stdbool.h>
#include <stdint.h>

enum {
    TERMINATOR_CHECK_MS = 10000,      /* a relay that can't answer in that time is being restarted anyway */
    TERMINATOR_ATTEMPT_MS = 30000,    /* credentials, resolve, connect, TLS, answer */
    TERMINATOR_REFUSALS_MAX = 3,      /* a refusal may be a role that is not there yet; three are not */
    TERMINATOR_BACKOFF_MIN_MS = 500,  /* first pause, doubled for each further one ... */
    TERMINATOR_BACKOFF_MAX_MS = 8000, /* ... up to this; each shortened at random by up to a half */
    TERMINATOR_ASIDE_MS = 5000,       /* tasks of a service that end at once spread over this time */
    TERMINATOR_UPDATED_MS = 60000,    /* from updating the service to opening a session: a waiter, a prompt */
    TERMINATOR_UPDATED_MAX = 3,       /* updated so often without a session: no longer believed */
    TERMINATOR_LINGER_MS = 2000,      /* for sessions to be told, and a killed command to be reaped */
    TERMINATOR_REASON_SIZE = 200      /* StopTask takes 255 characters */
};

/* timeout(1) and env(1) exit so when they fail themselves, as opposed to the command they run. */
enum { TERMINATOR_EXIT_UNFINISHED = 125 };

enum terminator_state {
    TERMINATOR_WAITING,  /* no session yet */
    TERMINATOR_ACTIVE,   /* in use */
    TERMINATOR_IDLE,     /* was in use, is not now */
    TERMINATOR_CHECKING, /* the last check is under way */
    TERMINATOR_ACTING,   /* an attempt to scale in or to stop the task is under way */
    TERMINATOR_PAUSING,  /* between attempts */
    TERMINATOR_LEAVING,  /* command and sessions are given their grace */
    TERMINATOR_GONE,     /* TERMINATOR_EXIT was given out, or waits to be */
    TERMINATOR_STATE_COUNT
};

enum terminator_cause {
    TERMINATOR_CAUSE_NONE,
    TERMINATOR_CAUSE_NO_SESSION,
    TERMINATOR_CAUSE_IDLE,
    TERMINATOR_CAUSE_MAX_LIFE,
    TERMINATOR_CAUSE_COMMAND_ENDED,
    TERMINATOR_CAUSE_SIGINT,
    TERMINATOR_CAUSE_SIGTERM
};

/* Everything in milliseconds and not negative. */
struct terminator_options {
    int64_t initial_wait_ms;
    int64_t idle_timeout_ms;
    int64_t max_life_ms; /* 0: none */
    int64_t end_deadline_ms;
    int64_t stop_grace_ms; /* SIGTERM to SIGKILL for the wrapped command */
    int64_t drain_ms;      /* on SIGTERM: how long running sessions may go on; the task's stop timeout less a
                              reserve */
    bool scale_in;         /* desired count to zero was asked for, and there is an ECS service to ask it of */
    bool stop_task;
    bool keep_alive_task; /* the wrapped command's own end is not a reason to end */
    bool has_command;     /* a wrapped command was started */
};

/* What the watchers see, at least once a second or so. Counts never include pings and the like. */
struct terminator_activity {
    uint32_t open_sessions;
    uint64_t total_sessions;  /* ever, closed ones included */
    bool busy;                /* in use, as FUMIDAI_IDLE_BY counts it: holds off the shutdown */
    int64_t last_activity_ms; /* monotonic: the last session's end, log line, byte; INT64_MIN: never */
};

enum terminator_action_kind {
    TERMINATOR_LAST_CHECK,   /* give a fresh terminator_activity(); report DONE (unused, admission is closed),
                                IN_USE, or FAILED (can't tell) */
    TERMINATOR_SCALE_IN,     /* report DONE, ALREADY_SO, FAILED, REFUSED, IN_USE, CROWDED */
    TERMINATOR_STOP_TASK,    /* report DONE, ALREADY_SO, FAILED, REFUSED; `text` is the reason to give */
    TERMINATOR_STOP_COMMAND, /* SIGTERM to its process group; terminator_command_ended() tells the rest */
    TERMINATOR_KILL_COMMAND, /* SIGKILL to its process group */
    TERMINATOR_END_SESSIONS, /* tell whoever is connected `text` and close; report DONE when all are closed */
    TERMINATOR_EXIT,         /* leave with `status` now; nothing comes after it */
    TERMINATOR_ACTION_COUNT
};

struct terminator_action {
    enum terminator_action_kind kind;
    uint32_t ticket;           /* for terminator_report(); 0 for what is not reported */
    bool stepped_aside;        /* SCALE_IN: CROWDED was reported in this shutdown, and waited out */
    bool forced;               /* LAST_CHECK: close admission in any case */
    int64_t updated_within_ms; /* SCALE_IN: an update of the service this recent is IN_USE; 0: none is */
    int64_t deadline_ms;       /* LAST_CHECK, SCALE_IN, STOP_TASK: a report after this moment is ignored */
    int status;                /* EXIT */
    const char *text;          /* why the task ends; lives as long as the terminator */
};

enum terminator_result {
    TERMINATOR_DONE,
    TERMINATOR_ALREADY_SO, /* the service is at that count, the task is stopping: success */
    TERMINATOR_IN_USE,     /* LAST_CHECK: by a session; SCALE_IN: soon, the service was updated recently */
    TERMINATOR_FAILED,     /* may pass: network, throttling, 5xx, credentials */
    TERMINATOR_REFUSED,    /* would fail again: access denied, not found */
    TERMINATOR_CROWDED     /* SCALE_IN: the service has other tasks, and this one has not stepped aside yet */
};

enum terminator_step { TERMINATOR_STEP_SCALE_IN, TERMINATOR_STEP_STOP_TASK, TERMINATOR_STEP_COUNT };

enum terminator_step_result {
    TERMINATOR_NOT_WANTED,
    TERMINATOR_NOT_TRIED, /* wanted, but the task ended another way (SIGTERM), or not yet */
    TERMINATOR_SUCCEEDED,
    TERMINATOR_GIVEN_UP
};

struct terminator_summary {
    enum terminator_cause cause;
    const char *reason; /* the empty string before a shutdown */
    uint64_t total_sessions;
    uint32_t open_sessions;
    int64_t alive_ms;
    enum terminator_step_result step_results[TERMINATOR_STEP_COUNT];
    uint32_t attempts; /* at both steps together */
    int status;
};

struct terminator {
    struct terminator_options options;
    struct terminator_activity activity;
    enum terminator_state state;
    enum terminator_cause cause;
    bool forced;                /* a session can't cancel this shutdown */
    bool check_forced;          /* the check that was given out last */
    bool committed;             /* a step has succeeded: no way back */
    bool admission_closed;      /* the last check said so, or it was forced */
    bool command_alive;         /* the wrapped command runs */
    bool command_status_counts; /* it ended by itself, or on SIGTERM: its status becomes ours */
    bool command_killed;
    bool sessions_told; /* END_SESSIONS was given out ... */
    bool sessions_over; /* ... and reported done */
    int command_status;
    int status;    /* of EXIT, once GONE */
    unsigned step; /* which of the two API steps is next or under way */
    enum terminator_step_result step_results[TERMINATOR_STEP_COUNT];
    int64_t now_ms; /* the latest time seen; never goes back */
    int64_t started_ms;
    int64_t waiting_since_ms;  /* start, or when SCALE_IN found the service updated recently */
    int64_t busy_ms;           /* when it was last seen in use */
    int64_t end_by_ms;         /* the overall deadline of a shutdown */
    int64_t timer_ms;          /* of a check, an attempt, a pause */
    int64_t sessions_until_ms; /* LEAVING: until when each of the three may take its time */
    int64_t command_until_ms;
    int64_t attempt_until_ms;
    uint32_t ticket; /* of the check or attempt under way; 0: none */
    uint32_t sessions_ticket;
    uint32_t last_ticket;
    uint32_t attempts;
    uint32_t failures; /* in a row, for the back-off */
    uint32_t refusals; /* in a row */
    bool stepped_aside;
    uint32_t updates; /* IN_USE in a row from SCALE_IN, without a session since */
    uint32_t pending; /* actions not yet pulled, one bit a kind */
    uint64_t random;
    char reason[TERMINATOR_REASON_SIZE];
};

/* `seed`: any random number; spreads the back-off of many tasks that lost the API at the same moment. */
void terminator_init(struct terminator *t, const struct terminator_options *options, int64_t now_ms,
                     uint64_t seed);

void terminator_activity(struct terminator *t, const struct terminator_activity *activity, int64_t now_ms);
/* The wrapped command is gone: its exit status, or 128 + n for signal n. */
void terminator_command_ended(struct terminator *t, int status, int64_t now_ms);
void terminator_sigterm(struct terminator *t, int64_t now_ms);
void terminator_sigint(struct terminator *t, int64_t now_ms);
/* What became of an action; stale tickets are ignored. */
void terminator_report(struct terminator *t, uint32_t ticket, enum terminator_result result, int64_t now_ms);
void terminator_tick(struct terminator *t, int64_t now_ms);

/* The next thing to do; false when there is none for now. */
bool terminator_next(struct terminator *t, struct terminator_action *action);
/* When to call terminator_tick() at the latest; INT64_MAX: no need. */
int64_t terminator_deadline(const struct terminator *t);

/* Whether new sessions may be admitted: false from a check that closes admission on, until the shutdown is
 * cancelled or pauses. */
bool terminator_accepting(const struct terminator *t);
/* When the task ends, in use or not; INT64_MAX: not by time. For banners. */
int64_t terminator_lives_until(const struct terminator *t);
void terminator_summary(const struct terminator *t, struct terminator_summary *summary);
const char *terminator_state_name(enum terminator_state state);

#endif
