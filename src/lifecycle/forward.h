/*
 * forward: the life of `fumidai forward`, from the first call to the exit status. It knows no API, no process
 * and no clock: facts and the time go in, actions come out one by one, and the caller reports what became of
 * each.
 *
 *     PREPARING ── every session that is needed is open, the targets answered ──► READY
 *         │  no task, no session, no answer in time; refused                       │ signal, command ended,
 *         └─────────────────────────────► ENDING ◄─────────────────────────────────┘ stop, nothing to mend
 *                                            │ every session was ended
 *                                            ▼
 *                                          GONE
 *
 * The task
 *   FIND_TASK; if there is none and `start`: START_SERVICE, then FIND_TASK again and again. A task that turns
 *   out to be gone is looked for anew, so one that ends between two calls costs a pause.
 *
 * A session
 *               task known              started                handshake complete
 *     NEEDED ────────────► STARTING ────────────► OPENING ────────────────────► OPEN
 *       ▲  └─ not before the back-off is over        │                            │
 *       └────────────── wanted ◄── NONE ◄────────────┴──────── it is over ◄───────┘
 *
 *   After READY a session that is over is only replaced when a connection waits for it: one that nobody uses
 *   must not keep the task from ending. The budget for that is `reconnect_for_ms`; then the connections that
 *   wait are refused with the reason, and the next one tries again. Without a command that is the end.
 *
 * Ready means that the targets answered (CHECK). With `wait_for_target_ms` the check is repeated that long.
 *
 * The end. Every session that was started is ended (END_SESSION), also one whose start is still under way
 * when the end begins; FORWARD_END_MS later it is the service's to end. The exit status is the command's;
 * FORWARD_EXIT_FAILED when we failed and there was to be a command, FORWARD_EXIT_FAILED_ALONE without; 0 when
 * a signal or a time limit ended it.
 *
 * Every pause is an exponential back-off with jitter. Memory is the caller's and of fixed size.
 */
#ifndef FUMIDAI_LIFECYCLE_FORWARD_H
#define FUMIDAI_LIFECYCLE_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum {
    FORWARD_SESSIONS_MAX = 64,      /* forwards times sessions each */
    FORWARD_POLL_MS = 1000,         /* a task that is starting is looked at so often: ECS takes 20 to 60 s */
    FORWARD_BACKOFF_MIN_MS = 250,   /* first pause, doubled for each further failure in a row ... */
    FORWARD_BACKOFF_MAX_MS = 8000,  /* ... up to this; each shortened at random by up to a half */
    FORWARD_GOOD_MS = 10 * 1000,    /* a session that was open for so long was of use: no failure */
    FORWARD_SHORT_SESSIONS_MAX = 3, /* sessions that end before READY; then it is not by chance */
    FORWARD_END_MS = 5000,          /* the flag, its way, and TerminateSession */
    FORWARD_KILL_MS = 10 * 1000,    /* SIGTERM to SIGKILL for the command when the maximum time is over */
    FORWARD_REASON_SIZE = 512       /* ERROR_TEXT_SIZE */
};

/* The numbers that POSIX gives them; the engine includes nothing of the system. */
enum {
    FORWARD_SIGKILL = 9, /* kill(1) */
    FORWARD_SIGTERM = 15 /* kill(1) */
};

enum {
    FORWARD_EXIT_FAILED_ALONE = 1,
    FORWARD_EXIT_FAILED = 125 /* as env(1) and timeout(1) say that they failed, not the command */
};

enum forward_state { FORWARD_PREPARING, FORWARD_READY, FORWARD_ENDING, FORWARD_GONE };

struct forward_options {
    bool has_command;
    bool start;                 /* a service without tasks is started */
    bool check;                 /* ready means that the targets answered */
    int64_t prepare_ms;         /* until the sessions are open */
    int64_t wait_for_target_ms; /* 0: one check */
    int64_t reconnect_for_ms;
    int64_t drain_ms;        /* SIGTERM: open connections may end by themselves for so long */
    int64_t idle_timeout_ms; /* 0: none. Without a connection for so long: the end */
    int64_t max_time_ms;     /* 0: none */
};

enum forward_action_kind {
    FORWARD_FIND_TASK,     /* report DONE, SOON (one is on its way), NONE, FAILED, REFUSED */
    FORWARD_START_SERVICE, /* report DONE (it was asked for, or is on its way), FAILED, REFUSED */
    FORWARD_START_SESSION, /* report DONE, NONE (no agent answers for the task), FAILED, REFUSED */
    FORWARD_CHECK,         /* report DONE, FAILED, REFUSED (it can never answer) */
    FORWARD_END_SESSION,   /* report DONE when it is gone, FAILED */
    /* These are not reported. */
    FORWARD_TELL_READY,
    FORWARD_RUN_COMMAND,    /* then forward_command_ended */
    FORWARD_SIGNAL_COMMAND, /* `number` to its process group */
    FORWARD_REFUSE_WAITING, /* close the connections that wait for a session; `text` says why */
    FORWARD_EXIT            /* with `status`; `text` says why, empty when nothing has to be said */
};

struct forward_action {
    enum forward_action_kind kind;
    uint32_t ticket; /* for forward_report; 0 for what is not reported */
    uint32_t session;
    int number;
    int status;
    const char *text; /* lives as long as the engine */
};

enum forward_result { FORWARD_DONE, FORWARD_SOON, FORWARD_NONE, FORWARD_FAILED, FORWARD_REFUSED };

enum forward_session_state {
    FORWARD_SESSION_NONE,
    FORWARD_SESSION_NEEDED,
    FORWARD_SESSION_STARTING,
    FORWARD_SESSION_OPENING,
    FORWARD_SESSION_OPEN,
    FORWARD_SESSION_ENDING
};

struct forward_session {
    enum forward_session_state state;
    uint32_t ticket;
    int64_t opened_ms;
};

struct forward {
    struct forward_options options;
    enum forward_state state;
    struct forward_session sessions[FORWARD_SESSIONS_MAX];
    bool task_known;
    bool service_started;  /* it was asked for since a task was last seen */
    uint32_t task_ticket;  /* of FIND_TASK or START_SERVICE under way, 0: none */
    bool starting;         /* that is START_SERVICE */
    bool start_next;       /* START_SERVICE is due */
    int64_t task_at_ms;    /* not before: the next look */
    int64_t session_at_ms; /* not before: the next StartSession */
    uint32_t failures;     /* in a row, for the back-off */
    uint32_t short_sessions;
    uint32_t check_ticket;
    bool checked;
    int64_t check_at_ms;
    int64_t check_until_ms; /* INT64_MIN until the first check */
    int64_t until_ms;       /* PREPARING: the limit; READY: of a repair, INT64_MAX when none is under way */
    bool command_runs;
    bool command_status_counts;
    int command_status;
    int64_t kill_at_ms; /* of the command */
    int64_t started_ms;
    int64_t idle_since_ms;  /* INT64_MAX: in use */
    int64_t drain_until_ms; /* INT64_MAX: not draining */
    int64_t end_until_ms;
    uint32_t open_connections;
    uint32_t last_ticket;
    uint32_t pending; /* actions without a report that are due, one bit a kind */
    int signals[4];   /* to be passed on */
    uint32_t signal_count;
    int status;
    int64_t now_ms;
    uint64_t random;
    char reason[FORWARD_REASON_SIZE]; /* of the end; before, the latest failure */
};

/* The session 0 is needed from the start. `seed`: any random number, for the back-off. */
void forward_init(struct forward *f, const struct forward_options *options, int64_t now_ms, uint64_t seed);

/* One more session is needed: before READY, for READY; later, because a connection waits for it. Nothing when
 * it is there or on its way. */
void forward_need(struct forward *f, uint32_t session, int64_t now_ms);
/* What became of an action; stale tickets are ignored. `text` says why, unless DONE. */
void forward_report(struct forward *f, uint32_t ticket, enum forward_result result, struct str text,
                    int64_t now_ms);
void forward_session_opened(struct forward *f, uint32_t session, int64_t now_ms);
/* It is over, whoever ended it: nothing is left to be ended. `final`: another one would end the same way. */
void forward_session_over(struct forward *f, uint32_t session, bool final, struct str why, int64_t now_ms);
/* Local connections that have a stream, and whether others wait for a session. */
void forward_connections(struct forward *f, uint32_t open, bool waiting, int64_t now_ms);
/* The command is gone, or could not be run: its exit status, or 128 + n for signal n. */
void forward_command_ended(struct forward *f, int status, int64_t now_ms);
/* SIGINT, SIGTERM, SIGHUP, SIGQUIT and what else a command is sent. */
void forward_signal(struct forward *f, int number, int64_t now_ms);
/* The end, for the reason `why`: something failed, or nobody needs it any more. */
void forward_stop(struct forward *f, bool failed, struct str why, int64_t now_ms);

void forward_tick(struct forward *f, int64_t now_ms);
/* The next thing to do; false when there is none for now. */
bool forward_next(struct forward *f, struct forward_action *action);
/* When to call forward_tick at the latest; INT64_MAX: no need. */
int64_t forward_deadline(const struct forward *f);

#endif
