#include "wire/ipc.h"

#include <string.h>

#include "base/utf8.h"

void ipc_set_text(char *out, size_t capacity, struct str text)
{
    utf8_copy_cut(text, out, capacity);
    for (; *out != '\0'; out++)
        if (str_is_control(*out))
            *out = '?';
}

static bool is_flag(uint8_t value)
{
    return value <= 1;
}

/* Terminated, and without control characters. */
static bool is_text(const char *text, size_t capacity)
{
    size_t len = 0;
    while (len < capacity && !str_is_control(text[len]))
        len++;
    return len < capacity && text[len] == '\0';
}

static int64_t clamp(int64_t at_ms, int64_t from_ms, int64_t to_ms)
{
    return at_ms < from_ms ? from_ms : at_ms > to_ms ? to_ms : at_ms;
}

bool ipc_read_status(struct ipc_status *status, const void *message, size_t len, int64_t started_ms,
                     int64_t now_ms)
{
    if (len != sizeof *status)
        return false;
    memcpy(status, message, sizeof *status);
    if (status->control >= IPC_CONTROL_COUNT || status->open_sessions > IPC_OPEN_SESSIONS_MAX ||
        status->total_sessions > IPC_TOTAL_SESSIONS_MAX || !is_flag(status->in_use) ||
        !is_flag(status->busy) || !is_flag(status->admission_closed) || !is_flag(status->session_over) ||
        !is_text(status->trouble, sizeof status->trouble) ||
        !is_text(status->session, sizeof status->session))
        return false;
    if (status->last_activity_ms != INT64_MIN)
        status->last_activity_ms = clamp(status->last_activity_ms, started_ms, now_ms);
    status->control_since_ms = clamp(status->control_since_ms, started_ms, now_ms);
    return true;
}

static bool is_unix_time(int64_t unix_ms)
{
    return unix_ms >= -1 && unix_ms <= IPC_UNIX_MS_MAX;
}

static bool is_error(const struct ipc_answer *answer)
{
    if (answer->result == IPC_DONE)
        return answer->error == ERROR_NONE;
    return answer->error >= ERROR_UNAVAILABLE && answer->error < ERROR_NONE && answer->text[0] != '\0';
}

bool ipc_read_answer(struct ipc_answer *answer, const void *message, size_t len, enum ipc_call_kind kind)
{
    if (len != sizeof *answer)
        return false;
    memcpy(answer, message, sizeof *answer);
    if (answer->kind != (uint32_t) kind || answer->result >= IPC_RESULT_COUNT || !is_flag(answer->already) ||
        !is_flag(answer->is_protected) || answer->desired_count > IPC_DESIRED_COUNT_MAX ||
        answer->clock_offset_ms < -IPC_CLOCK_OFFSET_MS_MAX ||
        answer->clock_offset_ms > IPC_CLOCK_OFFSET_MS_MAX || !is_unix_time(answer->server_unix_ms) ||
        !is_unix_time(answer->changed_unix_ms) || !is_unix_time(answer->expires_unix_ms) ||
        !is_text(answer->text, sizeof answer->text) || !is_text(answer->cluster, sizeof answer->cluster) ||
        !is_text(answer->task_arn, sizeof answer->task_arn) ||
        !is_text(answer->service, sizeof answer->service) || !is_text(answer->group, sizeof answer->group))
        return false;
    bool names_task = answer->cluster[0] != '\0' && answer->task_arn[0] != '\0';
    return is_error(answer) && (kind != IPC_TASK_METADATA || answer->result != IPC_DONE || names_task);
}
