#include "lifecycle/exec_log.h"

#include <string.h>

void exec_log_init(struct exec_log *log, int64_t now_ms)
{
    memset(log, 0, sizeof *log);
    log->line_ms = now_ms;
    log->last_activity_ms = INT64_MIN;
}

/* ---- the table of sessions ----------------------------------------------------------------------------- */

static struct exec_log_session *find_session(struct exec_log *log, struct str id)
{
    for (uint32_t i = 0; i < log->session_count; i++) {
        struct exec_log_session *s = &log->sessions[i];
        if (str_equal((struct str){s->id, s->id_len}, id))
            return s;
    }
    return NULL;
}

static bool has_ended(const struct exec_log_session *s)
{
    return s->state == EXEC_LOG_CLOSED || s->state == EXEC_LOG_FORGOTTEN;
}

/* The one that ended longest ago and has no process that would bring it back with the next scan. */
static struct exec_log_session *evictable_session(struct exec_log *log)
{
    struct exec_log_session *oldest = NULL;
    for (uint32_t i = 0; i < log->session_count; i++) {
        struct exec_log_session *s = &log->sessions[i];
        if (has_ended(s) && !s->process_now && (oldest == NULL || s->last_ms < oldest->last_ms))
            oldest = s;
    }
    return oldest;
}

static struct exec_log_session *add_session(struct exec_log *log, struct str id, int64_t now_ms)
{
    struct exec_log_session *s = NULL;
    if (log->session_count < EXEC_LOG_SESSIONS_MAX)
        s = &log->sessions[log->session_count++];
    else
        s = evictable_session(log);
    if (s == NULL)
        return NULL;
    memset(s, 0, sizeof *s);
    memcpy(s->id, id.ptr, id.len);
    s->id_len = (uint8_t) id.len;
    s->state = EXEC_LOG_INHERITED; /* not counted before something shows that it is alive */
    s->first_ms = s->last_ms = now_ms;
    return s;
}

static bool is_id(struct str id)
{
    return id.len > 0 && id.len <= EXEC_LOG_ID_MAX;
}

static void open_session(struct exec_log *log, struct exec_log_session *s, int64_t now_ms)
{
    bool again = s->state == EXEC_LOG_CLOSED; /* counted already */
    log->total_sessions += again ? 0 : 1;
    s->state = EXEC_LOG_OPEN;
    s->closed_by = EXEC_LOG_NOT_ENDED;
    s->tell_opened = true;
    log->last_activity_ms = now_ms;
}

static void end_session(struct exec_log *log, struct exec_log_session *s, enum exec_log_closed_by closed_by,
                        int64_t now_ms)
{
    s->closed_by = closed_by;
    s->last_ms = now_ms;
    if (s->state == EXEC_LOG_INHERITED) {
        s->state = EXEC_LOG_FORGOTTEN;
        return;
    }
    s->state = EXEC_LOG_CLOSED;
    s->tell_closed = true;
    log->last_activity_ms = now_ms;
}

/* ---- what a line says ---------------------------------------------------------------------------------- */

/* A field up to the next space, which is taken too. No other white space may be in it. */
static bool take_field(struct str *rest, struct str *field)
{
    for (size_t i = 0; i < rest->len; i++) {
        char c = rest->ptr[i];
        if (c == ' ') {
            *field = str_slice(*rest, 0, i);
            *rest = str_slice(*rest, i + 1, rest->len);
            return i > 0;
        }
        if (c == '\t' || c == '\n' || c == '\f' || c == '\r')
            return false;
    }
    return false;
}

/* "[a] [b] message": the brackets do not belong to the message, nor does anything before the last of them. */
static struct str skip_brackets(struct str rest)
{
    if (!str_starts_with(rest, "["))
        return rest;
    for (size_t i = rest.len; i >= 2; i--)
        if (rest.ptr[i - 2] == ']' && rest.ptr[i - 1] == ' ')
            return str_slice(rest, i, rest.len);
    return rest;
}

static bool read_line(struct str line, struct str *id, bool *closes)
{
    struct str date, time, level, worker;
    if (str_ends_with(line, "\r"))
        line = str_slice(line, 0, line.len - 1);
    if (!take_field(&line, &date) || !take_field(&line, &time) || !take_field(&line, &level) ||
        !take_field(&line, &worker) || !str_equal_text(worker, "[ssm-session-worker]") ||
        !take_field(&line, id) || !str_starts_with(*id, "[") || !str_ends_with(*id, "]") || id->len < 3)
        return false;
    size_t at = 0;
    *id = str_slice(*id, 1, id->len - 1);
    *closes =
        str_equal_nocase(level, "info") && str_find_nocase(skip_brackets(line), "session worker closed", &at);
    return is_id(*id);
}

static void apply_to_inherited(struct exec_log *log, struct exec_log_session *s, bool closes, int64_t now_ms)
{
    if (closes && !has_ended(s))
        end_session(log, s, EXEC_LOG_BY_LOG, now_ms);
}

static void apply_to_new(struct exec_log *log, struct exec_log_session *s, bool closes, int64_t now_ms)
{
    if (s->state == EXEC_LOG_INHERITED) {
        open_session(log, s, now_ms);
    } else if (s->state == EXEC_LOG_FORGOTTEN) {
        if (closes || s->closed_by == EXEC_LOG_BY_LOG)
            return; /* its beginning was never counted */
        open_session(log, s, now_ms);
    } else if (s->closed_by == EXEC_LOG_BY_PROCESS && !s->process_seen && !closes) {
        open_session(log, s, now_ms); /* slow, not gone: something still writes for it */
    }
    s->last_ms = now_ms;
    log->last_activity_ms = now_ms;
    if (closes && s->state == EXEC_LOG_OPEN)
        end_session(log, s, EXEC_LOG_BY_LOG, now_ms);
}

static void read_whole_line(struct exec_log *log, int64_t now_ms)
{
    struct str line = {log->line, log->line_len};
    struct str id;
    bool closes = false;
    if (log->line_read || !read_line(line, &id, &closes))
        return;
    struct exec_log_session *s = find_session(log, id);
    if (s == NULL)
        s = add_session(log, id, now_ms);
    if (s == NULL)
        log->last_activity_ms = log->line_inherited ? log->last_activity_ms : now_ms;
    else if (log->line_inherited)
        apply_to_inherited(log, s, closes, now_ms);
    else
        apply_to_new(log, s, closes, now_ms);
}

static void begin_line(struct exec_log *log)
{
    log->line_len = 0;
    log->line_read = false;
}

void exec_log_feed(struct exec_log *log, struct str bytes, bool inherited, int64_t now_ms)
{
    while (bytes.len > 0) {
        const char *newline = memchr(bytes.ptr, '\n', bytes.len);
        size_t piece = newline != NULL ? (size_t) (newline - bytes.ptr) : bytes.len;
        size_t room = EXEC_LOG_LINE_MAX - log->line_len;
        size_t kept = piece < room ? piece : room;
        memcpy(log->line + log->line_len, bytes.ptr, kept);
        log->line_len += kept;
        log->line_read = log->line_read && kept == 0;
        log->line_inherited = inherited; /* what ends now was written now */
        log->line_ms = now_ms;
        if (newline == NULL)
            return;
        read_whole_line(log, now_ms);
        begin_line(log);
        bytes = str_slice(bytes, piece + 1, bytes.len);
    }
}

void exec_log_restart(struct exec_log *log, int64_t now_ms)
{
    read_whole_line(log, now_ms);
    begin_line(log);
}

void exec_log_tick(struct exec_log *log, int64_t now_ms)
{
    if (now_ms - log->line_ms >= EXEC_LOG_QUIET_MS) {
        read_whole_line(log, now_ms);
        log->line_read = true;
    }
    for (uint32_t i = 0; i < log->session_count; i++) {
        struct exec_log_session *s = &log->sessions[i];
        bool nobody_can_tell = !log->absence_counts && now_ms - s->first_ms >= EXEC_LOG_PROCESS_GRACE_MS;
        if (s->state == EXEC_LOG_INHERITED && nobody_can_tell)
            open_session(log, s, now_ms);
    }
}

/* ---- what the processes say ---------------------------------------------------------------------------- */

static void apply_present(struct exec_log *log, struct exec_log_session *s, int64_t now_ms)
{
    bool over_for_good = has_ended(s) && s->closed_by == EXEC_LOG_BY_LOG;
    if (s->state != EXEC_LOG_OPEN && !over_for_good)
        open_session(log, s, now_ms);
    if (!over_for_good)
        s->last_ms = now_ms;
    s->process_seen = true;
}

static void apply_absent(struct exec_log *log, struct exec_log_session *s, int64_t now_ms)
{
    bool grace_over = now_ms - s->last_ms >= EXEC_LOG_PROCESS_GRACE_MS;
    if (!has_ended(s) && log->absence_counts && (s->process_seen || grace_over))
        end_session(log, s, EXEC_LOG_BY_PROCESS, now_ms);
}

void exec_log_processes(struct exec_log *log, const struct str *ids, size_t count, bool trusted,
                        int64_t now_ms)
{
    for (uint32_t i = 0; i < log->session_count; i++)
        log->sessions[i].process_now = false;
    for (size_t i = 0; i < count; i++) {
        struct exec_log_session *s = is_id(ids[i]) ? find_session(log, ids[i]) : NULL;
        if (s == NULL && is_id(ids[i]))
            s = add_session(log, ids[i], now_ms);
        if (s != NULL)
            s->process_now = true;
    }
    log->processes_seen = log->processes_seen || count > 0;
    log->absence_counts = trusted || log->processes_seen;
    for (uint32_t i = 0; i < log->session_count; i++) {
        struct exec_log_session *s = &log->sessions[i];
        if (s->process_now)
            apply_present(log, s, now_ms);
        else
            apply_absent(log, s, now_ms);
    }
}

/* ---- the outside --------------------------------------------------------------------------------------- */

struct exec_log_activity exec_log_activity(const struct exec_log *log)
{
    struct exec_log_activity activity = {.total_sessions = log->total_sessions,
                                         .last_activity_ms = log->last_activity_ms};
    for (uint32_t i = 0; i < log->session_count; i++)
        activity.open_sessions += log->sessions[i].state == EXEC_LOG_OPEN;
    return activity;
}

bool exec_log_next(struct exec_log *log, struct exec_log_event *event)
{
    for (uint32_t i = 0; i < log->session_count; i++) {
        struct exec_log_session *s = &log->sessions[i];
        if (!s->tell_opened && !s->tell_closed)
            continue;
        *event = (struct exec_log_event){.opened = s->tell_opened, .session_id = {s->id, s->id_len}};
        if (s->tell_opened) {
            s->tell_opened = false;
        } else {
            s->tell_closed = false;
            event->closed_by = s->closed_by;
            event->alive_ms = s->last_ms - s->first_ms;
        }
        return true;
    }
    return false;
}
