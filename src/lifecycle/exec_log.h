/*
 * exec_log: which sessions are open through AWS's own exec agent, told from two sources, each of which may be
 * missing: the agent's log, and the list of its worker processes.
 *
 * The log (amazon-ssm-agent.log) is text; the lines that matter look like this, fields apart by one space:
 *
 *     2023-11-17 07:09:48 INFO [ssm-session-worker] [ecs-execute-command-0abc] [Extra] [More] message
 *     date       time     level                     [session id]               skipped        ...
 *
 * Any such line says that the session exists; level INFO (any case) with "session worker closed" (any case)
 * in the message says that it is over, for good. Date and time are not used: they come from a clock that may
 * be wrong, while the moment a line arrives here is known. Every session has one process `ssm-session-worker
 * <session id>`.
 *
 *                  line, or process seen
 *     (unknown) ───────────────────────────────────────────────► OPEN
 *         │ line that was there before we started                  │ closing line
 *         ▼                                                        │ process gone
 *     INHERITED ── process seen, new line, no other source ───► OPEN
 *         │ closing line, no process                               │ process never seen, grace over
 *         │                                                        ▼
 *         └──────────► FORGOTTEN                                 CLOSED
 *
 *   - INHERITED sessions are not counted until something shows that they are alive: a log may be left over
 *     from an earlier run of this container, and its sessions neither hold off the shutdown nor cut the first
 *     wait short. FORGOTTEN ones never are. When no process of the agent can be seen at all, an inherited
 *     session that no line closes is taken for open after the grace.
 *   - A process that is gone ends its session even when the log never says so; one that exists makes its
 *     session open even when the log is unreadable. A closing line ends a session even if its process is
 *     still there.
 *   - That a process is absent counts only when processes of the agent can be seen at all (`trusted`, or one
 *     was seen before), and for a session whose process was never seen only EXEC_LOG_PROCESS_GRACE_MS after
 *     its last line: log and process list are not read in the same instant.
 *
 * Bytes may come in any pieces. Of a line beyond EXEC_LOG_LINE_MAX the beginning is read, the rest is
 * skipped. A last line without newline counts once it has been left alone for EXEC_LOG_QUIET_MS; should more
 * of it follow, it is read again whole. Memory is the caller's, of fixed size; nothing fails. When the table
 * is full the session that ended longest ago makes room; when none has ended, further ones are not tracked
 * (the task is in use anyway).
 */
#ifndef FUMIDAI_LIFECYCLE_EXEC_LOG_H
#define FUMIDAI_LIFECYCLE_EXEC_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum {
    EXEC_LOG_LINE_MAX = 1024,    /* the agent's own session lines are below 400 bytes */
    EXEC_LOG_ID_MAX = 128,       /* SSM: a session id has at most 96 characters */
    EXEC_LOG_SESSIONS_MAX = 256, /* far more than a container of 0.25 CPU can hold open */
    EXEC_LOG_QUIET_MS = 2000,    /* two polls */
    /* From a session's log line to its process in /proc, on a starved CPU. */
    EXEC_LOG_PROCESS_GRACE_MS = 10000
};

enum exec_log_state {
    EXEC_LOG_INHERITED,
    EXEC_LOG_OPEN,
    EXEC_LOG_CLOSED,
    EXEC_LOG_FORGOTTEN,
    EXEC_LOG_STATE_COUNT
};

/* What ended a session. */
enum exec_log_closed_by { EXEC_LOG_NOT_ENDED, EXEC_LOG_BY_LOG, EXEC_LOG_BY_PROCESS };

struct exec_log_session {
    char id[EXEC_LOG_ID_MAX + 1];
    uint8_t id_len;
    enum exec_log_state state;
    enum exec_log_closed_by closed_by;
    bool process_seen; /* at some time */
    bool process_now;  /* in the list at hand */
    bool tell_opened;
    bool tell_closed;
    int64_t first_ms;
    int64_t last_ms; /* its last line, its process last seen, its end */
};

struct exec_log_activity {
    uint32_t open_sessions;
    uint64_t total_sessions;  /* ever counted, evicted ones included */
    int64_t last_activity_ms; /* monotonic; INT64_MIN: none yet */
};

struct exec_log_event {
    bool opened;                       /* else closed */
    enum exec_log_closed_by closed_by; /* closed: what told it */
    struct str session_id;             /* points into the table; valid until the next call */
    int64_t alive_ms;                  /* closed: from when it was first seen to its end */
};

struct exec_log {
    char line[EXEC_LOG_LINE_MAX];
    size_t line_len;
    bool line_read; /* this much of it was read as a whole line already */
    bool line_inherited;
    int64_t line_ms;     /* when its last piece came */
    bool processes_seen; /* a worker, at some time */
    bool absence_counts; /* as the latest list says */
    uint32_t session_count;
    uint64_t total_sessions;
    int64_t last_activity_ms;
    struct exec_log_session sessions[EXEC_LOG_SESSIONS_MAX];
};

void exec_log_init(struct exec_log *log, int64_t now_ms);

/* Bytes of the log, in order. `inherited`: they stood in the file when this program started. */
void exec_log_feed(struct exec_log *log, struct str bytes, bool inherited, int64_t now_ms);
/* The file was replaced or cut: what follows begins a line. */
void exec_log_restart(struct exec_log *log, int64_t now_ms);
/* The session ids of all `ssm-session-worker` processes. Not to be called when the list could not be read.
 * `trusted`: it holds a process of the agent, of whatever kind, so that what is not in it does not exist. */
void exec_log_processes(struct exec_log *log, const struct str *ids, size_t count, bool trusted,
                        int64_t now_ms);
/* Once a poll, after the two above. */
void exec_log_tick(struct exec_log *log, int64_t now_ms);

struct exec_log_activity exec_log_activity(const struct exec_log *log);
/* What to write into our own log: sessions that opened and closed since the last call; false when told all.
 */
bool exec_log_next(struct exec_log *log, struct exec_log_event *event);

#endif
