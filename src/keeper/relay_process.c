#include "keeper/relay_process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/log.h"
#include "host/retry.h"

enum {
    MESSAGES_PER_TURN = 32 /* a relay that sends without pause can't keep the keeper from its other work */
};

static void start(struct relay_process *relay);

static void start_again(struct loop_timer *timer)
{
    start(LOOP_OWNER(timer, struct relay_process, again));
}

static void start_later(struct relay_process *relay)
{
    if (!relay->stopping)
        retry_later(relay->loop, &relay->again, &relay->retry, ERROR_UNAVAILABLE);
}

/* ---- sessions, remembered for the users of a relay that dies ------------------------------------------- */

static void forget_session(struct relay_process *relay, size_t index)
{
    relay->session_count--;
    memmove(&relay->sessions[index], &relay->sessions[index + 1],
            (relay->session_count - index) * sizeof relay->sessions[0]);
}

static void note_session(struct relay_process *relay, const struct ipc_status *status)
{
    size_t i = 0;
    while (i < relay->session_count && strcmp(relay->sessions[i].id, status->session) != 0)
        i++;
    if (i < relay->session_count)
        forget_session(relay, i);
    if (status->session_over || relay->session_count == RELAY_PROCESS_SESSIONS)
        return;
    struct relay_process_session *session = &relay->sessions[relay->session_count++];
    memcpy(session->id, status->session, sizeof session->id);
    session->orphan = false;
}

static void report_orphans(struct relay_process *relay)
{
    int reported = 0;
    for (size_t i = 0; i < relay->session_count && reported < RELAY_PROCESS_ORPHANS_AT_ONCE;) {
        struct ipc_order order = {.kind = IPC_ORPHAN};
        memcpy(order.text, relay->sessions[i].id, sizeof relay->sessions[i].id);
        if (!relay->sessions[i].orphan) {
            i++;
        } else if (relay_process_order(relay, &order)) {
            forget_session(relay, i);
            reported++;
        } else {
            return;
        }
    }
}

/* ---- down ---------------------------------------------------------------------------------------------- */

/* Closes our end and kills what is left; signals_reap() collects the process as any other. */
static void go_down(struct relay_process *relay, const char *why)
{
    int64_t now_ms = loop_now_ms(relay->loop);
    if (!relay_process_is_up(relay))
        return;
    log_event(relay->stopping ? LOG_DEBUG : LOG_ERROR, "relay is gone", LOG_TEXT("why", why),
              LOG_I64("pid", relay->child.pid), LOG_I64("open_sessions", relay->status.open_sessions));
    int fd = relay->watch.fd;
    loop_watch_remove(relay->loop, &relay->watch);
    close(fd);
    loop_timer_remove(relay->loop, &relay->silence);
    if (relay->child.pid > 0)
        kill(relay->child.pid, SIGKILL);
    for (size_t i = 0; i < relay->session_count; i++)
        relay->sessions[i].orphan = true;
    relay->sessions_before += relay->status.total_sessions;
    if (relay->status.open_sessions > 0) /* they ended just now */
        relay->last_activity_ms = now_ms;
    memset(&relay->status, 0, sizeof relay->status);
    relay->status.last_activity_ms = INT64_MIN;
    relay->check_ticket = relay->end_ticket = 0;
    start_later(relay);
}

static void silence_expired(struct loop_timer *timer)
{
    go_down(LOOP_OWNER(timer, struct relay_process, silence), "it was silent for too long");
}

/* ---- what the relay sends ------------------------------------------------------------------------------ */

/* Only what was asked can be answered: with the ticket of another action a relay could tell the terminator
 * that the service is scaled in. */
static bool take_answer(struct relay_process *relay, uint32_t ticket)
{
    uint32_t *asked = ticket == relay->check_ticket ? &relay->check_ticket : &relay->end_ticket;
    if (ticket == 0 || ticket != *asked)
        return false;
    *asked = 0;
    return true;
}

static void take_status(struct relay_process *relay, const struct ipc_status *status)
{
    relay->status = *status;
    relay->reported_ms = loop_now_ms(relay->loop);
    if (status->last_activity_ms > relay->last_activity_ms)
        relay->last_activity_ms = status->last_activity_ms;
    if (status->session[0] != '\0')
        note_session(relay, status);
    if (status->control == IPC_CONTROL_OPEN) {
        relay->channel_open_ms = relay->reported_ms;
        report_orphans(relay);
    }
    if (relay->reported_ms - relay->status.control_since_ms > IPC_SILENCE_MS)
        backoff_succeed(&relay->retry);
    loop_timer_set(relay->loop, &relay->silence, relay->reported_ms + IPC_SILENCE_MS);
    relay->heard(relay);
    if (take_answer(relay, status->answers))
        relay->answered(relay, status->answers);
}

static void readable(struct loop_watch *watch, uint32_t events)
{
    struct relay_process *relay = LOOP_OWNER(watch, struct relay_process, watch);
    struct ipc_status status;
    (void) events;
    for (int i = 0; i < MESSAGES_PER_TURN && relay_process_is_up(relay); i++) {
        uint8_t message[sizeof status];
        ssize_t got = recv(watch->fd, message, sizeof message, MSG_DONTWAIT | MSG_TRUNC);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0)
            go_down(relay, "its socket was closed");
        else if (!ipc_read_status(&status, message, (size_t) got, relay->started_ms,
                                  loop_now_ms(relay->loop)))
            go_down(relay, "the relay sent a malformed status message");
        else
            take_status(relay, &status);
    }
}

/* ---- up ------------------------------------------------------------------------------------------------ */

static void start(struct relay_process *relay)
{
    struct error err = ERROR_INIT;
    int fd;
    if (child_start_self(&relay->child, relay->name, relay->argv, &fd, &err) < 0) {
        log_event(LOG_ERROR, "can't start the relay, trying again", LOG_ERR(&err));
        start_later(relay);
        return;
    }
    if (loop_watch_add(relay->loop, &relay->watch, fd, EPOLLIN, readable, &err) < 0) {
        log_event(LOG_ERROR, "can't watch the relay", LOG_ERR(&err));
        close(fd);
        kill(relay->child.pid, SIGKILL);
        start_later(relay);
        return;
    }
    relay->starts++;
    relay->started_ms = relay->reported_ms = loop_now_ms(relay->loop);
    loop_timer_set(relay->loop, &relay->silence, relay->reported_ms + IPC_SILENCE_MS);
    log_event(LOG_DEBUG, "started the relay", LOG_I64("pid", relay->child.pid),
              LOG_I64("start", relay->starts));
}

void relay_process_open(struct relay_process *relay, struct loop *loop, const char *name, char **argv,
                        void (*heard)(struct relay_process *relay),
                        void (*answered)(struct relay_process *relay, uint32_t ticket), void *owner)
{
    memset(relay, 0, sizeof *relay);
    relay->loop = loop;
    relay->name = name;
    relay->argv = argv;
    relay->heard = heard;
    relay->answered = answered;
    relay->owner = owner;
    relay->watch = LOOP_WATCH_INIT;
    relay->last_activity_ms = INT64_MIN;
    relay->channel_open_ms = loop_now_ms(loop);
    relay->status.last_activity_ms = INT64_MIN;
    loop_timer_init(&relay->silence, silence_expired);
    loop_timer_init(&relay->again, start_again);
    backoff_start(&relay->retry, &BACKOFF_RESUME, INT64_MAX);
    start(relay);
}

void relay_process_close(struct relay_process *relay)
{
    relay->stopping = true;
    go_down(relay, "the task ends");
    loop_timer_remove(relay->loop, &relay->again);
}

bool relay_process_is_up(const struct relay_process *relay)
{
    return relay->loop != NULL && relay->watch.fd >= 0;
}

bool relay_process_order(struct relay_process *relay, const struct ipc_order *order)
{
    if (!relay_process_is_up(relay) ||
        send(relay->watch.fd, order, sizeof *order, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t) sizeof *order)
        return false;
    if (order->kind == IPC_CHECK)
        relay->check_ticket = order->ticket;
    else if (order->kind == IPC_END_SESSIONS)
        relay->end_ticket = order->ticket;
    return true;
}

bool relay_process_ended(struct relay_process *relay, pid_t pid, int wait_status)
{
    if (relay->loop == NULL || pid != relay->child.pid)
        return false;
    log_event(LOG_DEBUG, "relay process ended", LOG_I64("pid", pid),
              LOG_I64("status", child_exit_status(wait_status)));
    child_ended(&relay->child);
    relay->child.pid = 0;
    go_down(relay, "its process ended");
    return true;
}
