/* Messages of a relay and of a worker, as the keeper reads them: whatever comes, what was read is within its
 * bounds. */
#include "wire/ipc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STARTED_MS = 1000, NOW_MS = 2000 };

static bool is_possible(int64_t at_ms)
{
    return at_ms >= STARTED_MS && at_ms <= NOW_MS;
}

static void read_status(const uint8_t *data, size_t size)
{
    struct ipc_status status;
    char session[IPC_SESSION_ID_SIZE];
    if (!ipc_read_status(&status, data, size, STARTED_MS, NOW_MS))
        return;
    if (size != sizeof status || status.control >= IPC_CONTROL_COUNT || status.in_use > 1 ||
        status.busy > 1 || status.admission_closed > 1 || status.session_over > 1 ||
        status.open_sessions > IPC_OPEN_SESSIONS_MAX || status.total_sessions > IPC_TOTAL_SESSIONS_MAX ||
        strlen(status.trouble) >= sizeof status.trouble || strlen(status.session) >= sizeof status.session ||
        !is_possible(status.control_since_ms) ||
        (status.last_activity_ms != INT64_MIN && !is_possible(status.last_activity_ms)))
        abort();
    /* What is clean already is set as it is, but for a sequence that is cut. */
    ipc_set_text(session, sizeof session, str_from(status.session));
    if (strncmp(session, status.session, strlen(session)) != 0)
        abort();
}

static void read_answer(const uint8_t *data, size_t size, enum ipc_call_kind kind)
{
    struct ipc_answer answer;
    if (!ipc_read_answer(&answer, data, size, kind))
        return;
    if (size != sizeof answer || answer.kind != kind || answer.result >= IPC_RESULT_COUNT ||
        (answer.result == IPC_DONE) != (answer.error == ERROR_NONE) || answer.error > ERROR_NONE ||
        answer.error < ERROR_UNAVAILABLE || answer.already > 1 || answer.is_protected > 1 ||
        answer.desired_count > IPC_DESIRED_COUNT_MAX || answer.server_unix_ms < -1 ||
        answer.changed_unix_ms < -1 || answer.expires_unix_ms < -1 ||
        strlen(answer.text) >= sizeof answer.text || strlen(answer.cluster) >= sizeof answer.cluster ||
        strlen(answer.task_arn) >= sizeof answer.task_arn ||
        strlen(answer.service) >= sizeof answer.service || strlen(answer.group) >= sizeof answer.group)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_status(data, size);
    for (unsigned kind = 0; kind < IPC_CALL_COUNT; kind++)
        read_answer(data, size, (enum ipc_call_kind) kind);
    return 0;
}
