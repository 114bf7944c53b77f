/* Messages of a relay, as its keeper reads them: whatever comes, what was read is within its bounds. */
#include "wire/ipc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STARTED_MS = 1000, NOW_MS = 2000 };

static bool is_possible(int64_t at_ms)
{
    return at_ms >= STARTED_MS && at_ms <= NOW_MS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ipc_status status;
    char session[IPC_SESSION_ID_SIZE];
    if (!ipc_read_status(&status, data, size, STARTED_MS, NOW_MS))
        return 0;
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
    return 0;
}
