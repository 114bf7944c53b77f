/* A hostile agent log in hostile pieces: whole or cut, it says the same; counts stay sane. */
#include "lifecycle/exec_log.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(struct exec_log *log)
{
    struct exec_log_activity activity = exec_log_activity(log);
    struct exec_log_event event;
    if (activity.open_sessions > EXEC_LOG_SESSIONS_MAX || activity.open_sessions > activity.total_sessions ||
        log->session_count > EXEC_LOG_SESSIONS_MAX || log->line_len > EXEC_LOG_LINE_MAX)
        abort();
    if ((activity.total_sessions > 0) != (activity.last_activity_ms != INT64_MIN))
        abort();
    for (unsigned i = 0; exec_log_next(log, &event); i++)
        if (event.session_id.len == 0 || i > 2 * EXEC_LOG_SESSIONS_MAX)
            abort();
}

/* The first byte says how the rest is cut, whether it was there before, and which processes there are. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct exec_log whole, cut;
    if (size == 0)
        return 0;
    struct str text = {(const char *) data + 1, size - 1};
    size_t step = (size_t) (data[0] & 31) + 1;
    bool inherited = (data[0] & 32) != 0;
    exec_log_init(&whole, 0);
    exec_log_init(&cut, 0);
    exec_log_feed(&whole, text, inherited, 1);
    for (size_t at = 0; at < text.len; at += step)
        exec_log_feed(&cut, str_slice(text, at, at + step), inherited, 1);
    exec_log_tick(&whole, EXEC_LOG_QUIET_MS + 1);
    exec_log_tick(&cut, EXEC_LOG_QUIET_MS + 1);
    struct exec_log_activity a = exec_log_activity(&whole);
    struct exec_log_activity b = exec_log_activity(&cut);
    if (a.open_sessions != b.open_sessions || a.total_sessions != b.total_sessions ||
        a.last_activity_ms != b.last_activity_ms || whole.session_count != cut.session_count)
        abort();
    struct str ids[2] = {STR_LITERAL("a"), str_slice(text, 0, 20)};
    exec_log_processes(&whole, ids, data[0] >> 6 & 2, (data[0] & 64) != 0, 3000);
    exec_log_tick(&whole, 3000);
    check(&whole);
    exec_log_processes(&whole, ids, 0, true, 60000);
    if (exec_log_activity(&whole).open_sessions != 0)
        abort(); /* without a process and after the grace nobody is there */
    check(&whole);
    return 0;
}
