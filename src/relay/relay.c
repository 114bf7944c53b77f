#include "relay/relay.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/num.h"
#include "base/sha256.h"
#include "base/utf8.h"
#include "cloud/task_identity.h"
#include "host/child.h"
#include "host/clock.h"
#include "host/descriptors.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/memory.h"
#include "host/sandbox.h"
#include "net/network.h"
#include "relay/control.h"
#include "relay/fixed_forward.h"
#include "relay/session.h"
#include "run/session.h"
#include "tunnel/tunnel.h"
#include "wire/ipc.h"

enum {
    BYTES_QUIET_MS = 2000, /* FUMIDAI_IDLE_BY=bytes: in use while bytes moved this recently */
    /* A session that can't start is reported this long after it was asked for: the reason goes to a client
     * that is connected, which it is a moment after StartSession answered. */
    REPORT_DELAY_MS = 1500,
    /* Starts that wait while it is checked whether the task is in use. A document has 2 KB, at most 64. */
    DEFERRED_BYTES_MAX = 1024 * 1024,
    STARTS_PER_TURN = 8 /* of those: each costs some 0.3 ms */
};

/* A session that was asked for while it is checked whether the task is in use. */
struct deferred_start {
    struct list node;
    size_t len;
    char payload[];
};

struct relay {
    const struct task_settings *config;
    bool serves_sessions;
    struct loop loop;
    struct network network;
    struct aws_client client;
    struct task_identity identity;
    struct relay_context context;

    struct loop_watch keeper; /* owns the socket to the keeper */
    struct loop_timer status_timer;
    struct loop_hook status_hook;
    bool admission_closed;
    uint32_t unsent_ticket;   /* of an answer that found the socket full, 0: none */
    bool unsent_in_use;       /* that answer */
    bool starts_are_deferred; /* admission was closed by a check, and may be opened again at once */
    struct list deferred;     /* starts, in the order in which they came */
    size_t deferred_bytes;
    uint32_t deferred_count; /* counted in total_sessions, too */
    struct loop_hook release_hook;
    uint32_t end_ticket; /* of IPC_END_SESSIONS, until all are gone */

    struct relay_control control;
    char control_why[IPC_TEXT_SIZE]; /* why it is not open; empty while it is */
    enum ipc_control control_state;
    int64_t control_since_ms;

    struct relay_session **sessions; /* config->max_sessions */
    uint32_t session_count;
    uint64_t total_sessions;
    struct linger_set linger;
    struct fixed_forwards fixed;
};

static struct relay *relay_of_context(const struct relay_context *context)
{
    return LOOP_OWNER((struct relay_context *) context, struct relay, context);
}

static int64_t now_of(const struct relay *r)
{
    return loop_now_ms(&r->loop);
}

/* ---- the status for the keeper ------------------------------------------------------------------------- */

static uint32_t open_sessions(const struct relay *r)
{
    return r->session_count + r->fixed.open;
}

/* In use, as FUMIDAI_IDLE_BY counts it. NOPs, pings and resends never count. */
static bool is_busy(const struct relay *r)
{
    switch (r->config->idle_by) {
    case TASK_IDLE_BY_SESSION:
        return open_sessions(r) > 0;
    case TASK_IDLE_BY_STREAM:
        return r->context.open_streams + r->fixed.open > 0;
    case TASK_IDLE_BY_BYTES:
        return r->context.last_byte_ms != INT64_MIN && now_of(r) - r->context.last_byte_ms < BYTES_QUIET_MS;
    }
    return true;
}

static int64_t last_activity_ms(const struct relay *r)
{
    int64_t at_ms =
        r->config->idle_by == TASK_IDLE_BY_BYTES ? r->context.last_byte_ms : r->context.last_stream_ms;
    if (r->config->idle_by == TASK_IDLE_BY_SESSION)
        at_ms = r->context.last_session_ms;
    return is_busy(r) ? now_of(r) : at_ms;
}

/* Of one session that begins or ends; `session` is empty otherwise. */
static void send_report(struct relay *r, uint32_t answers, bool in_use, const char *session, bool over)
{
    struct ipc_status status;
    memset(&status, 0, sizeof status);
    status.answers = answers != 0 ? answers : r->unsent_ticket;
    status.in_use = answers != 0 ? in_use : r->unsent_in_use;
    ipc_set_text(status.session, sizeof status.session, str_from(session));
    status.session_over = over;
    status.busy = is_busy(r);
    status.admission_closed = r->admission_closed;
    status.control = r->control_state;
    status.control_since_ms = r->control_since_ms;
    status.open_sessions = open_sessions(r);
    status.total_sessions = r->total_sessions + r->fixed.total;
    status.last_activity_ms = last_activity_ms(r);
    ipc_set_text(status.trouble, sizeof status.trouble, str_from(r->control_why));
    /* A full socket means that the keeper is busy. The next report is a second away, but an answer must not
     * be lost: it is sent again until it is out. */
    bool sent = send(r->keeper.fd, &status, sizeof status, MSG_DONTWAIT | MSG_NOSIGNAL) > 0;
    r->unsent_ticket = sent ? 0 : status.answers;
    r->unsent_in_use = status.in_use;
    loop_timer_set(&r->loop, &r->status_timer,
                   now_of(r) + (r->unsent_ticket != 0 ? IPC_RESEND_MS : IPC_STATUS_MS));
}

static void send_status(struct relay *r, uint32_t answers, bool in_use)
{
    send_report(r, answers, in_use, "", false);
}

static void status_expired(struct loop_timer *timer)
{
    log_report_omitted();
    send_status(LOOP_OWNER(timer, struct relay, status_timer), 0, false);
}

static void status_due(struct loop_hook *hook)
{
    send_status(LOOP_OWNER(hook, struct relay, status_hook), 0, false);
}

/* A count has changed: the keeper learns it with this turn. */
static void tell_change(struct relay *r)
{
    loop_hook_queue(&r->loop, &r->status_hook);
}

static void fixed_changed(struct relay_context *context)
{
    tell_change(relay_of_context(context));
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

static void answer_end(struct relay *r)
{
    if (r->end_ticket == 0 || r->session_count > 0 || r->deferred_count > 0)
        return;
    /* The reports that tell users why are worth a moment; the keeper's own patience bounds it. */
    if (relay_control_has_reports(&r->control))
        return;
    send_status(r, r->end_ticket, false);
    r->end_ticket = 0;
}

static void session_over(struct relay_session *session, void *owner)
{
    struct relay *r = owner;
    for (uint32_t i = 0; i < r->session_count; i++) {
        if (r->sessions[i] == session) {
            r->sessions[i] = r->sessions[--r->session_count];
            break;
        }
    }
    bool failed = relay_session_failed(session);
    int64_t due_ms = failed ? clock_after_ms(relay_session_started_ms(session), REPORT_DELAY_MS) : now_of(r);
    relay_control_report(&r->control, due_ms, relay_session_id(session),
                         failed ? CONTROL_CHANNEL_FAILED : CONTROL_CHANNEL_SUCCEEDED,
                         relay_session_reason(session));
    send_report(r, 0, false, relay_session_id(session), true);
    relay_session_free(session);
    answer_end(r);
}

static void refuse_session(struct relay *r, const char *session_id, const char *why)
{
    log_event(LOG_WARN, "session refused", LOG_TEXT("session", session_id), LOG_TEXT("why", why));
    relay_control_report(&r->control, clock_after_ms(now_of(r), REPORT_DELAY_MS), session_id,
                         CONTROL_CHANNEL_REFUSED, why);
}

/* False when there is no room: as many may wait as may be open. */
static bool defer_start(struct relay *r, struct str payload)
{
    struct deferred_start *start = NULL;
    if (r->deferred_count < r->config->max_sessions && payload.len <= DEFERRED_BYTES_MAX - r->deferred_bytes)
        start = malloc(sizeof *start + payload.len);
    if (start == NULL)
        return false;
    *start = (struct deferred_start){.len = payload.len};
    memcpy(start->payload, payload.ptr, payload.len);
    list_append(&r->deferred, &start->node);
    r->deferred_count++;
    r->deferred_bytes += payload.len;
    r->total_sessions++; /* so that the task does not end before these are answered */
    tell_change(r);
    return true;
}

/* A session that has just started has not opened its own yet: each counts with two, its data channel and its
 * first target. */
static bool has_descriptors(const struct relay *r)
{
    return descriptors_are_free(DESCRIPTORS_FOR_SESSIONS, 2 * (r->session_count + 1));
}

static void start_session(struct relay *r, struct str payload)
{
    static struct document_scratch scratch;
    static struct document document;
    struct error err = ERROR_INIT;
    int result = document_parse(&document, payload, &scratch, &err);
    if (result == 0 && r->starts_are_deferred && defer_start(r, payload))
        return;
    if (result == 0 && r->admission_closed)
        result = error_set(&err, ERROR_UNAVAILABLE,
                           "this task is ending; start another with a desired count of 1");
    if (result == 0 && r->session_count == r->config->max_sessions)
        result = error_set(&err, ERROR_TOO_LARGE,
                           "%u sessions are open, which is the most this task takes "
                           "(FUMIDAI_MAX_SESSIONS)",
                           r->config->max_sessions);
    if (result == 0 && !has_descriptors(r))
        result = error_set(&err, ERROR_TOO_LARGE,
                           "this task has too few free file descriptors (raise nofile in its ulimits)");
    struct relay_session *session = NULL;
    if (result == 0)
        session = relay_session_start(&r->context, &document, session_over, r, &err);
    if (session == NULL) {
        refuse_session(r, document.session_id, err.text);
        return;
    }
    r->sessions[r->session_count++] = session;
    r->total_sessions++;
    send_report(r, 0, false, document.session_id, false);
}

/* The check is over: what waited starts, or is refused. */
static void release_some(struct loop_hook *hook)
{
    struct relay *r = LOOP_OWNER(hook, struct relay, release_hook);
    struct list *node;
    for (int i = 0;
         i < STARTS_PER_TURN && !r->starts_are_deferred && (node = list_take(&r->deferred)) != NULL; i++) {
        struct deferred_start *start = LIST_OWNER(node, struct deferred_start, node);
        r->deferred_count--;
        r->deferred_bytes -= start->len;
        r->total_sessions--; /* start_session counts it */
        start_session(r, (struct str){start->payload, start->len});
        free(start);
    }
    if (!r->starts_are_deferred && !list_is_empty(&r->deferred))
        loop_hook_defer(&r->loop, hook);
    answer_end(r);
}

static void release_deferred_starts(struct relay *r)
{
    r->starts_are_deferred = false;
    loop_hook_queue(&r->loop, &r->release_hook);
}

/* ---- the control channel ------------------------------------------------------------------------------- */

static struct relay *relay_of_control(struct relay_control *control)
{
    return LOOP_OWNER(control, struct relay, control);
}

static void start_asked(struct relay_control *control, struct str payload)
{
    start_session(relay_of_control(control), payload);
}

static void terminate_asked(struct relay_control *control, struct str session_id)
{
    struct relay *r = relay_of_control(control);
    for (uint32_t i = 0; i < r->session_count; i++)
        if (str_equal_text(session_id, relay_session_id(r->sessions[i])))
            relay_session_end(r->sessions[i], false, STR_LITERAL("the service ended the session"));
}

static void set_control_state(struct relay *r, enum ipc_control state, const char *why)
{
    utf8_copy_cut(str_from(why), r->control_why, sizeof r->control_why);
    if (r->control_state == state)
        return;
    r->control_state = state;
    r->control_since_ms = now_of(r);
    tell_change(r);
}

static void control_is_up(struct relay_control *control)
{
    set_control_state(relay_of_control(control), IPC_CONTROL_OPEN, "");
    log_event(LOG_INFO, "control channel is open", LOG_TEXT("target", control->target_id));
}

static void control_is_down(struct relay_control *control, const struct gateway_down *down)
{
    struct relay *r = relay_of_control(control);
    set_control_state(r, IPC_CONTROL_OPENING, down->why);
    log_event(LOG_WARN, "control channel is down, trying again", LOG_TEXT("error", down->why),
              LOG_DURATION_MS("in", down->retry_at_ms - now_of(r)), LOG_I64("sessions", r->session_count));
}

static void reports_changed(struct relay_control *control)
{
    answer_end(relay_of_control(control));
}

static int open_control(struct relay *r, struct error *err)
{
    r->control.start = start_asked;
    r->control.terminate = terminate_asked;
    r->control.up = control_is_up;
    r->control.down = control_is_down;
    r->control.reported = reports_changed;
    int result = relay_control_open(&r->control, &r->client, &r->identity.metadata, err);
    r->context.target_id = str_from(r->control.target_id);
    return result;
}

static void add_subnets(struct relay *r)
{
    const struct metadata *metadata = &r->identity.metadata;
    const char *const subnets[] = {metadata->ipv4_subnet, metadata->ipv6_subnet};
    r->context.policy.subnet_count = 0;
    r->context.policy.ipv4_unknown = metadata->ipv4_unknown;
    r->context.policy.ipv6_unknown = metadata->ipv6_unknown;
    for (size_t i = 0; i < sizeof subnets / sizeof subnets[0]; i++) {
        struct ip_block block;
        if (subnets[i][0] != '\0' && ip_block_parse(str_from(subnets[i]), &block))
            dial_policy_add_subnet(&r->context.policy, block);
    }
}

static void identity_learned(struct task_identity *identity)
{
    struct relay *r = identity->owner;
    struct error err = ERROR_INIT;
    add_subnets(r);
    if (r->serves_sessions && r->context.target_id.len == 0 && open_control(r, &err) < 0)
        log_event(LOG_ERROR, "can't be the agent of this task", LOG_ERR(&err));
}

/* ---- the keeper's orders ------------------------------------------------------------------------------- */

static void admit(struct relay *r, bool admitted)
{
    r->admission_closed = !admitted;
    fixed_forwards_admit(&r->fixed, admitted);
}

static void check(struct relay *r, const struct ipc_order *order)
{
    bool in_use = is_busy(r) && !order->forced;
    admit(r, in_use);
    if (!in_use && !order->forced)
        r->starts_are_deferred = true;
    else
        release_deferred_starts(r);
    send_status(r, order->ticket, in_use);
}

static void open_admission(struct relay *r, const struct ipc_order *order)
{
    (void) order;
    admit(r, true);
    release_deferred_starts(r);
}

static void end_sessions(struct relay *r, const struct ipc_order *order)
{
    char reason[IPC_TEXT_SIZE + 32];
    struct writer text = writer_of(reason, sizeof reason);
    writer_format(&text, "the task ends: %s", order->text);
    r->end_ticket = order->ticket;
    admit(r, false);
    fixed_forwards_shut_down(&r->fixed);
    for (uint32_t i = 0; i < r->session_count; i++)
        relay_session_end(r->sessions[i], true, writer_view(&text));
    release_deferred_starts(r);
    answer_end(r);
}

static void note_end(struct relay *r, const struct ipc_order *order)
{
    r->context.lives_until_ms = order->lives_until_ms;
}

static void drain(struct relay *r, const struct ipc_order *order)
{
    (void) order;
    admit(r, false);
    release_deferred_starts(r);
    log_event(LOG_INFO, "no new sessions: the task is being stopped", LOG_I64("sessions", open_sessions(r)));
}

static void report_orphan(struct relay *r, const struct ipc_order *order)
{
    if (!relay_control_is_open(&r->control))
        return;
    log_event(LOG_WARN, "a session was lost with the relay before this one",
              LOG_TEXT("session", order->text));
    relay_control_report(&r->control, now_of(r), order->text, CONTROL_CHANNEL_FAILED,
                         "the relay of this task failed and was started anew: start the session again");
}

static void keeper_ready(struct loop_watch *watch, uint32_t events)
{
    static void (*const doers[IPC_ORDER_COUNT])(struct relay *, const struct ipc_order *) = {
        [IPC_CHECK] = check,
        [IPC_OPEN_ADMISSION] = open_admission,
        [IPC_END_SESSIONS] = end_sessions,
        [IPC_LIVES_UNTIL] = note_end,
        [IPC_DRAIN] = drain,
        [IPC_ORPHAN] = report_orphan,
    };
    struct relay *r = LOOP_OWNER(watch, struct relay, keeper);
    struct ipc_order order;
    ssize_t got;
    (void) events;
    while ((got = recv(watch->fd, &order, sizeof order, MSG_DONTWAIT)) > 0) {
        if (got != (ssize_t) sizeof order || order.kind >= IPC_ORDER_COUNT)
            continue;
        order.text[IPC_TEXT_SIZE - 1] = '\0';
        doers[order.kind](r, &order);
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        log_event(LOG_DEBUG, "the keeper has ended, leaving", LOG_END);
        loop_stop(&r->loop);
    }
}

/* ---- start --------------------------------------------------------------------------------------------- */

static bool is_own_port(const struct relay_context *context, uint16_t port)
{
    return fixed_forwards_has_port(&relay_of_context(context)->fixed, port);
}

/* Half of the task's memory is for what sessions keep; the rest is for sockets' buffers, TLS, and streams. */
static int open_pool(struct relay *r, struct error *err)
{
    size_t most = r->config->max_sessions * (size_t) TUNNEL_BLOCKS_MAX;
    uint64_t blocks = memory_limit_bytes("/") / 2 / POOL_BLOCK_SIZE;
    size_t count = blocks < most ? (size_t) blocks : most;
    size_t users = r->config->max_sessions * (size_t) SESSION_USERS;
    void *memory = memory_map(count * POOL_BLOCK_SIZE);
    if (memory == NULL ||
        !pool_init(&r->context.pool, memory, count, num_min_size(users, count / POOL_USER_BLOCKS)))
        return error_set(err, ERROR_SYSTEM, "no address space for %zu KB that sessions share",
                         count * POOL_BLOCK_SIZE / 1024);
    return 0;
}

static int open_all(struct relay *r, char *const *env, struct error *err)
{
    descriptors_open();
    if (loop_open(&r->loop, err) < 0 || network_open(&r->network, &r->loop, env, err) < 0)
        return err->code;
    linger_open(&r->linger, &r->loop, descriptors_for_lingering());
    r->context = (struct relay_context){.config = r->config,
                                        .network = &r->network,
                                        .client = &r->client,
                                        .linger = &r->linger,
                                        .is_own_port = is_own_port,
                                        .lives_until_ms = INT64_MAX,
                                        .last_byte_ms = INT64_MIN,
                                        .last_stream_ms = INT64_MIN,
                                        .last_session_ms = INT64_MIN};
    if (dial_policy_init(&r->context.policy, str_from(r->config->allow), err) < 0)
        return error_prefix(err, "FUMIDAI_ALLOW: ");
    list_init(&r->context.tunnels);
    if (open_pool(r, err) < 0)
        return err->code;
    list_init(&r->deferred);
    loop_hook_init(&r->release_hook, LOOP_GATHER, release_some);
    r->sessions = calloc(r->config->max_sessions + 1, sizeof(struct relay_session *));
    if (r->sessions == NULL)
        return error_set(err, ERROR_SYSTEM, "out of memory");
    aws_client_open(&r->client, &r->network, env);
    r->client.agent_version = r->config->agent_version;
    loop_timer_init(&r->status_timer, status_expired);
    loop_hook_init(&r->status_hook, LOOP_FLUSH, status_due);
    if (fixed_forwards_open(&r->fixed, &r->context, str_from(r->config->listen), fixed_changed, err) < 0)
        return error_prefix(err, "FUMIDAI_LISTEN: ");
    r->keeper = LOOP_WATCH_INIT;
    if (loop_watch_add(&r->loop, &r->keeper, CHILD_CHANNEL_FD, EPOLLIN, keeper_ready, err) < 0)
        return err->code;
    /* Everything that needs a privilege has been done: files read, ports opened. */
    if (sandbox_enter(err) < 0)
        return err->code;
    task_identity_open(&r->identity, &r->client, identity_learned, r);
    r->control_since_ms = now_of(r);
    send_status(r, 0, false);
    return 0;
}

int relay_run(const struct task_settings *config, bool serves_sessions, char *const *env)
{
    static struct relay relay; /* too large for a stack, and there is one */
    struct error err = ERROR_INIT;
    relay.config = config;
    relay.serves_sessions = serves_sessions;
    log_event(LOG_DEBUG, "the relay begins", LOG_TEXT("sha256", sha256_choose(getauxval(AT_HWCAP))));
    int result = open_all(&relay, env, &err);
    if (result == 0)
        result = loop_run(&relay.loop, &err);
    if (result < 0)
        log_event(LOG_ERROR, "the relay can't go on", LOG_ERR(&err));
    return result < 0 ? 1 : 0;
}
