/*
 * ipc: what the keeper and its child processes tell each other. Every process is the same binary, started by
 * the keeper under another name, with one end of a SOCK_SEQPACKET pair. Messages are structs of a fixed size,
 * sent as they are.
 *
 *     relay ──► keeper    ipc_status   every IPC_STATUS_MS, at once when a count changes or an order is done,
 *                                      and one that names it for each session that begins or ends
 *     keeper ──► relay    ipc_order    when the terminator decides, and when the task's end moves
 *
 *     keeper ──► worker   ipc_call     one, at the start: the call to make
 *     worker ──► keeper   ipc_answer   one, at the end; then the worker leaves
 *
 * Both kinds of children parse what came over a network, so the keeper takes their messages as an attacker's:
 * ipc_read_status() and ipc_read_answer() check size, enums, flags, counts and texts. A relay that sends a
 * message that fails the check is replaced; a call whose worker does is a failed attempt.
 *
 * A relay that was not heard of for IPC_SILENCE_MS is hung (or stopped) and is replaced. A keeper that has
 * gone closes the socket, and the relay leaves.
 *
 * The keeper remembers the sessions' ids, and nothing else of them, for the one case in which the relay
 * can't: when it has died, IPC_ORPHAN tells the next one of each session that was lost, so that it can report
 * that to the service and the user learns why. Orphans are told once the new relay's control channel is open.
 *
 * Times are CLOCK_MONOTONIC milliseconds, which all processes share, unless they are called unix_ms.
 */
#ifndef FUMIDAI_WIRE_IPC_H
#define FUMIDAI_WIRE_IPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

/* argv[0], by which main tells what a process is: a relay that serves sessions and fixed relays; one that
 * serves the latter only (AWS's exec agent serves the sessions); a worker, which makes one call. */
#define IPC_RELAY_NAME       "fumidai-relay"
#define IPC_RELAY_PORTS_NAME "fumidai-ports"
#define IPC_WORKER_NAME      "fumidai-aws"

enum {
    IPC_STATUS_MS = 1000,     /* the keeper checks as often (ECS_TST_METRICS_CHECK_INTERVAL) */
    IPC_SILENCE_MS = 4000,    /* a relay stopped at any moment is noticed within 5 s: this and one poll */
    IPC_RESEND_MS = 20,       /* an answer that found the socket full is sent again so often */
    IPC_TEXT_SIZE = 256,      /* one sentence: a reason for users, or what the control channel waits for */
    IPC_SESSION_ID_SIZE = 97, /* SSM: SessionId has up to 96 characters */
    IPC_OPEN_SESSIONS_MAX =
        10000 /* FUMIDAI_MAX_SESSIONS (1,000) and 512 connections of fixed relays, and room */
};

/* More than any relay serves in its life; sums of so many can't overflow. */
#define IPC_TOTAL_SESSIONS_MAX ((uint64_t) 1 << 40)

/* Where the relay's control channel is, for the health check and the log. */
enum ipc_control {
    IPC_CONTROL_OPENING, /* never open so far, or reconnecting */
    IPC_CONTROL_OPEN,
    IPC_CONTROL_COUNT
};

/* Flags are bytes, 0 or 1: a bool that holds anything else is undefined behaviour. */
struct ipc_status {
    uint32_t answers;                  /* the ticket of the order this answers, 0: a plain report */
    uint32_t control;                  /* enum ipc_control */
    uint32_t open_sessions;            /* sessions and connections of fixed relays */
    uint8_t in_use;                    /* the answer to IPC_CHECK: in use, admission stays open */
    uint8_t busy;                      /* as FUMIDAI_IDLE_BY counts it */
    uint8_t admission_closed;          /* new sessions are refused */
    uint8_t session_over;              /* of `session`; else it has begun */
    uint64_t total_sessions;           /* since this relay started */
    int64_t last_activity_ms;          /* INT64_MIN: none yet */
    int64_t control_since_ms;          /* when `control` last changed */
    char trouble[IPC_TEXT_SIZE];       /* why the control channel is not open; empty when it is */
    char session[IPC_SESSION_ID_SIZE]; /* empty: nothing is told of a session */
};

enum ipc_order_kind {
    IPC_CHECK,          /* close admission unless in use (or `forced`), and say which */
    IPC_OPEN_ADMISSION, /* take sessions again */
    IPC_END_SESSIONS,   /* end every session, `text` for the users; answer when all are gone */
    IPC_LIVES_UNTIL,    /* when this task ends whoever is connected, for banners */
    IPC_DRAIN,          /* no new sessions, the running ones may go on: SIGTERM */
    IPC_ORPHAN,         /* `text` is the id of a session of a relay that is gone: report its end */
    IPC_ORDER_COUNT
};

struct ipc_order {
    enum ipc_order_kind kind;
    uint32_t ticket; /* not 0 where an answer is wanted */
    bool forced;
    int64_t lives_until_ms; /* INT64_MAX: not by time */
    char text[IPC_TEXT_SIZE];
};

/* ---- calls to AWS -------------------------------------------------------------------------------------- */

enum {
    IPC_ARN_SIZE = 513,          /* a task's ARN: about 60 characters, the cluster's name (255) and 32 */
    IPC_NAME_SIZE = 256,         /* a service's name has up to 255 characters */
    IPC_GROUP_SIZE = 265,        /* "service:" and a name, or whatever RunTask was given */
    IPC_DESIRED_COUNT_MAX = 5000 /* ECS: tasks of a service */
};

#define IPC_UNIX_MS_MAX         INT64_C(253402300799999)                /* the end of the year 9999 */
#define IPC_CLOCK_OFFSET_MS_MAX (INT64_C(100) * 366 * 24 * 3600 * 1000) /* a clock that stands at 1970 */

enum ipc_call_kind {
    IPC_TASK_METADATA,
    IPC_DESCRIBE_TASKS, /* this task: which service started it, and whether it is to stop */
    IPC_DESCRIBE_SERVICES,
    IPC_STOP_TASK,
    IPC_UPDATE_SERVICE,
    IPC_TASK_PROTECTION,
    IPC_CALL_COUNT
};

/* Everything that a call may need; nothing in it is secret. The worker fetches the credentials itself. */
struct ipc_call {
    uint32_t kind;           /* enum ipc_call_kind */
    uint32_t desired_count;  /* IPC_UPDATE_SERVICE */
    bool service_is_certain; /* AWS named the service, not a person's setting */
    bool protect;            /* IPC_TASK_PROTECTION: on or off */
    int64_t deadline_ms;
    int64_t clock_offset_ms; /* as an earlier answer had it: the service's time less this host's */
    char cluster[IPC_ARN_SIZE];
    char task_arn[IPC_ARN_SIZE];
    char service[IPC_NAME_SIZE];
    char reason[IPC_TEXT_SIZE]; /* IPC_STOP_TASK */
};

enum ipc_result {
    IPC_DONE,
    IPC_RETRY,  /* may pass: ask again after the back-off */
    IPC_FAILED, /* asking again does not help */
    IPC_RESULT_COUNT
};

struct ipc_answer {
    uint32_t kind;              /* of the call */
    uint32_t result;            /* enum ipc_result */
    int32_t error;              /* enum error_code; ERROR_NONE when done */
    uint32_t desired_count;     /* IPC_DESCRIBE_SERVICES */
    uint8_t already;            /* IPC_STOP_TASK, IPC_UPDATE_SERVICE: it was so before;
                                   IPC_DESCRIBE_TASKS: ECS is stopping the task;
                                   IPC_DESCRIBE_SERVICES: it is a DAEMON, whose count is not set */
    uint8_t is_protected;       /* IPC_TASK_PROTECTION */
    int64_t clock_offset_ms;    /* for the next call */
    int64_t server_unix_ms;     /* when the service answered; -1: not said */
    int64_t changed_unix_ms;    /* IPC_DESCRIBE_SERVICES: the service's last change; -1: not said */
    int64_t expires_unix_ms;    /* IPC_TASK_PROTECTION; -1: not said */
    char text[ERROR_TEXT_SIZE]; /* the error's */
    char cluster[IPC_ARN_SIZE]; /* IPC_TASK_METADATA */
    char task_arn[IPC_ARN_SIZE];
    char service[IPC_NAME_SIZE]; /* IPC_TASK_METADATA, IPC_DESCRIBE_TASKS; empty: none, or not said */
    char group[IPC_GROUP_SIZE];  /* IPC_DESCRIBE_TASKS */
};

/* ---- reading ------------------------------------------------------------------------------------------- */

/* Copies what fits, not cutting a character, with '?' for control characters: the texts of messages are
 * clean. */
void ipc_set_text(char *out, size_t capacity, struct str text);

/* Reads bytes from a relay that was started at started_ms. False when they are not a status message: another
 * size, a flag that is neither 0 nor 1, a count or an enum out of range, a text that is not terminated or not
 * clean. A time before the start or after now_ms becomes that moment. */
bool ipc_read_status(struct ipc_status *status, const void *message, size_t len, int64_t started_ms,
                     int64_t now_ms);

/* Reads bytes from a worker that was to make a call of this kind. False when they are not its answer: as
 * above, and an error without a reason, a success with one, metadata without cluster or task. */
bool ipc_read_answer(struct ipc_answer *answer, const void *message, size_t len, enum ipc_call_kind kind);

#endif
