#include "relay/session.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/time.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/memory.h"
#include "host/random.h"

enum {
    STAGING_SIZE = SMUX_HEADER_SIZE + PORT_TURN_MAX,
    /* Rounds of reading targets and filling the stream before others get their turn: 8 × 64 KiB. */
    ROUNDS_PER_TURN = 8,
    ADDRESS_TEXT_SIZE = IP_TEXT_SIZE + 8 /* brackets, colon, port */
};

struct relay_target {
    struct relay_session *session;
    struct tcp tcp;
    uint16_t stream;
    bool in_use;
    bool connected;
    int64_t since_ms;
};

struct relay_session {
    struct relay_context *relay;
    void (*over)(struct relay_session *session, void *owner);
    void *owner;
    uint64_t number; /* in the order of their start */
    struct document document;
    struct session session;
    struct gateway link;
    struct pool_user user;
    void *memory;
    struct relay_target *targets; /* PORT_STREAMS_MAX; behind the engine's memory */
    struct tcp probe;
    bool probing;
    struct loop_timer timer;
    uint64_t acknowledged; /* messages, so far */
    struct loop_hook hook;
    int64_t started_ms;
    uint64_t streams;
    uint64_t bytes_to_target;
    uint64_t bytes_to_client;
};

enum { MEMORY_SIZE = SESSION_MEMORY_SIZE + PORT_STREAMS_MAX * (int) sizeof(struct relay_target) };

static struct loop *loop_of(const struct relay_session *s)
{
    return s->relay->network->loop;
}

static int64_t now_of(const struct relay_session *s)
{
    return loop_now_ms(loop_of(s));
}

static void wake(struct relay_session *s)
{
    loop_hook_queue(loop_of(s), &s->hook);
}

static const char *address_text(char out[ADDRESS_TEXT_SIZE], struct ip address, uint16_t port)
{
    struct writer text = writer_of(out, ADDRESS_TEXT_SIZE);
    writer_ip_port(&text, address, port);
    return writer_terminate(&text);
}

/* ---- targets ------------------------------------------------------------------------------------------- */

static int permit(void *context, const struct ip *address, uint16_t port, struct error *err)
{
    const struct relay_session *s = context;
    const struct relay_context *relay = s->relay;
    struct ip_block loopback;
    ip_block_parse(STR_LITERAL("127.0.0.0/8"), &loopback);
    if (ip_block_contains(loopback, *address) && relay->is_own_port(relay, port))
        return 0;
    return dial_policy_check(&relay->policy, str_from(s->document.host), *address, port, err);
}

static int dial(struct relay_session *s, struct tcp *tcp, int64_t timeout_ms,
                void (*changed)(struct tcp *tcp), struct error *err)
{
    struct dial_request request = {.host = s->document.host,
                                   .port = s->document.port,
                                   .deadline_ms = clock_after_ms(now_of(s), timeout_ms),
                                   .permit = permit,
                                   .use = DESCRIPTORS_FOR_STREAMS,
                                   .context = s};
    return tcp_dial(tcp, s->relay->network, &request, changed, err);
}

/* The end of a stream's connection, for the log. The slot's counters are still what they were. */
static void audit_stream(struct relay_session *s, struct relay_target *target, const char *why)
{
    const struct port_stream *stream = port_session_stream(&s->session.port, target->stream);
    char address[ADDRESS_TEXT_SIZE];
    log_event(LOG_INFO, "stream closed", LOG_TEXT("session", s->document.session_id),
              LOG_I64("stream", stream->id),
              LOG_TEXT("target",
                       target->connected ? address_text(address, target->tcp.peer, target->tcp.port) : ""),
              LOG_I64("bytes_to_target", stream->bytes_to_target),
              LOG_I64("bytes_to_client", stream->bytes_to_client),
              LOG_DURATION_MS("duration", now_of(s) - target->since_ms), LOG_TEXT("why", why));
    s->bytes_to_target += stream->bytes_to_target;
    s->bytes_to_client += stream->bytes_to_client;
    s->relay->open_streams--;
    s->relay->last_stream_ms = now_of(s);
    target->in_use = false;
}

static void act(struct relay_session *s, const struct port_action *action);

/* After any read or write: the connection may have broken in it, or ended for writing while
 * the reason is still to be read. */
static void check_target(struct relay_session *s, struct relay_target *target);

/* What is held for a target, as much as it takes now. */
static void write_held(struct relay_session *s, struct relay_target *target)
{
    struct port_action action = {.todo = PORT_TODO_NOTHING};
    const uint8_t *data;
    size_t len;
    while (action.todo == PORT_TODO_NOTHING &&
           (data = port_session_held(&s->session.port, target->stream, &len)) != NULL) {
        size_t n = tcp_write(&target->tcp, data, len);
        if (n == 0) {
            check_target(s, target);
            return;
        }
        port_session_took(&s->session.port, target->stream, now_of(s), n, &action);
        act(s, &action);
    }
}

static void target_opened(struct relay_session *s, struct relay_target *target)
{
    struct port_action action;
    target->connected = true;
    port_session_connected(&s->session.port, target->stream, now_of(s), &action);
    act(s, &action);
}

static void target_failed(struct relay_session *s, struct relay_target *target)
{
    struct error err = ERROR_INIT;
    tcp_error(&target->tcp, &err);
    audit_stream(s, target, err.text);
    bool connected = target->connected;
    tcp_close(&target->tcp);
    if (connected)
        session_target_broke(&s->session, now_of(s), target->stream, err.text);
    else
        session_dial_failed(&s->session, now_of(s), target->stream, err.text);
}

static void check_target(struct relay_session *s, struct relay_target *target)
{
    if (!target->in_use)
        return;
    if (target->tcp.state == TCP_STATE_FAILED)
        target_failed(s, target);
    else if (target->tcp.readable || target->tcp.read_ended)
        port_session_readable(&s->session.port, target->stream, now_of(s));
}

static void target_changed(struct tcp *tcp)
{
    struct relay_target *target = LOOP_OWNER(tcp, struct relay_target, tcp);
    struct relay_session *s = target->session;
    wake(s);
    if (!target->connected && tcp->state == TCP_STATE_OPEN)
        target_opened(s, target);
    if (target->in_use && tcp->writable)
        write_held(s, target);
    check_target(s, target);
}

static void start_dial(struct relay_session *s, uint16_t stream)
{
    struct error err = ERROR_INIT;
    struct relay_target *target = &s->targets[stream];
    *target = (struct relay_target){.session = s, .stream = stream, .in_use = true, .since_ms = now_of(s)};
    s->streams++;
    s->relay->open_streams++;
    log_event(LOG_DEBUG, "stream opened", LOG_TEXT("session", s->document.session_id),
              LOG_I64("stream", port_session_stream(&s->session.port, stream)->id));
    if (dial(s, &target->tcp, s->relay->config->dial_timeout_ms, target_changed, &err) == 0)
        return;
    audit_stream(s, target, err.text);
    session_dial_failed(&s->session, now_of(s), stream, err.text);
}

static void offer(struct relay_session *s, const struct port_action *action)
{
    struct relay_target *target = &s->targets[action->stream];
    size_t n = tcp_write(&target->tcp, action->data, action->len);
    port_session_wrote(&s->session.port, now_of(s), n);
    if (n < action->len)
        check_target(s, target);
    s->relay->last_byte_ms = now_of(s);
}

static void act(struct relay_session *s, const struct port_action *action)
{
    struct relay_target *target = &s->targets[action->stream];
    switch (action->todo) {
    case PORT_TODO_DIAL:
        start_dial(s, action->stream);
        break;
    case PORT_TODO_WRITE:
        offer(s, action);
        break;
    case PORT_TODO_END_WRITE:
        tcp_end_write(&target->tcp);
        break;
    case PORT_TODO_CLOSE:
        audit_stream(s, target, action->why);
        linger_take(s->relay->linger, &target->tcp, s->number);
        break;
    case PORT_TODO_RESET:
        audit_stream(s, target, action->why);
        tcp_reset(&target->tcp);
        break;
    case PORT_TODO_END:
    case PORT_TODO_NOTHING:
        break;
    }
}

/* ---- the probe and the banner -------------------------------------------------------------------------- */

static void write_end_of_task(const struct relay_session *s, struct writer *text)
{
    const struct task_settings *config = s->relay->config;
    writer_text(text, " This task ends ");
    writer_duration_ms(text, config->idle_timeout_ms);
    writer_text(text, " after its last session");
    if (s->relay->lives_until_ms != INT64_MAX) {
        writer_text(text, ", at the latest at ");
        writer_rfc3339_ms(text, clock_unix_ms() + s->relay->lives_until_ms - now_of(s));
    }
    writer_char(text, '.');
}

static void tell_probe(struct relay_session *s, const char *failure)
{
    char memory[SESSION_TEXT_SIZE];
    char address[ADDRESS_TEXT_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    if (failure == NULL)
        writer_format(&text, "Reached %s (%s).", s->document.host,
                      address_text(address, s->probe.peer, s->document.port));
    else
        writer_format(&text, "Could not reach the target: %.300s. Each connection you open tries again.",
                      failure);
    write_end_of_task(s, &text);
    s->probing = false;
    session_probed(&s->session, now_of(s), writer_view(&text));
    wake(s);
}

static void probe_changed(struct tcp *tcp)
{
    struct relay_session *s = LOOP_OWNER(tcp, struct relay_session, probe);
    struct error err = ERROR_INIT;
    if (!s->probing || tcp->state == TCP_STATE_DIALLING)
        return;
    if (tcp->state == TCP_STATE_OPEN) {
        tell_probe(s, NULL);
    } else {
        tcp_error(tcp, &err);
        if (err.code == ERROR_DENIED ||
            err.code == ERROR_NOT_FOUND) /* no later try of this session can do better */
            relay_session_end(s, true, str_from(err.text));
        else
            tell_probe(s, err.text);
    }
    s->probing = false;
    tcp_close(tcp);
}

static void start_probe(struct relay_session *s)
{
    struct error err = ERROR_INIT;
    s->probing = true;
    if (dial(s, &s->probe, SESSION_PROBE_MS, probe_changed, &err) == 0)
        return;
    s->probing = false;
    relay_session_end(s, true, str_from(err.text));
}

/* ---- the data channel's connection --------------------------------------------------------------------- */

static void link_up(struct gateway *link, struct str first_text)
{
    struct relay_session *s = LOOP_OWNER(link, struct relay_session, link);
    struct error err = ERROR_INIT;
    if (session_connected(&s->session, now_of(s), first_text, &err) < 0)
        relay_session_end(s, true, str_from(err.text));
    wake(s);
}

static void link_changed(struct gateway *link)
{
    wake(LOOP_OWNER(link, struct relay_session, link));
}

static void link_down(struct gateway *link, const struct gateway_down *down)
{
    struct relay_session *s = LOOP_OWNER(link, struct relay_session, link);
    if (down->was_up) {
        log_event(LOG_INFO, "data channel lost, connecting anew", LOG_TEXT("session", s->document.session_id),
                  LOG_TEXT("why", down->why), LOG_DURATION_MS("session_age", now_of(s) - s->started_ms));
        session_disconnected(&s->session, now_of(s), down->why);
    } else {
        log_event(LOG_WARN, "can't open the data channel", LOG_TEXT("session", s->document.session_id),
                  LOG_TEXT("error", down->why), LOG_BOOL("final", down->is_final));
    }
    if (down->is_final)
        relay_session_end(s, true, str_from(down->why));
    wake(s);
}

/* ---- the turn ------------------------------------------------------------------------------------------ */

static void finish(struct relay_session *s)
{
    struct data_channel_stats stats;
    data_channel_stats(&s->session.channel, &stats);
    /* Slots are taken from the lowest on: those beyond the number of streams were never touched. */
    for (uint16_t i = 0; i < PORT_STREAMS_MAX && i < s->streams; i++) {
        if (!s->targets[i].in_use)
            continue;
        audit_stream(s, &s->targets[i], "the session ended");
        linger_take(s->relay->linger, &s->targets[i].tcp, s->number);
    }
    s->relay->last_session_ms = now_of(s);
    log_event(LOG_INFO, "session ended", LOG_ALWAYS, LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("owner", s->document.owner), LOG_BOOL("failed", s->session.failed),
              LOG_TEXT("reason", s->session.reason), LOG_I64("streams", s->streams),
              LOG_I64("bytes_to_target", s->bytes_to_target), LOG_I64("bytes_to_client", s->bytes_to_client),
              LOG_DURATION_MS("duration", now_of(s) - s->started_ms), LOG_I64("messages_sent", stats.sent),
              LOG_I64("messages_resent", stats.resent), LOG_I64("messages_received", stats.received),
              LOG_I64("messages_given_up", stats.given_up), LOG_I64("connections", stats.connections));
    s->over(s, s->owner);
}

/* Takes what the engine has to say. True when that was the end. */
static bool take_events(struct relay_session *s)
{
    struct error err = ERROR_INIT;
    struct session_event event;
    for (;;) {
        session_next(&s->session, now_of(s), &event, &err);
        switch (event.type) {
        case SESSION_EVENT_PORT:
            act(s, &event.port);
            break;
        case SESSION_EVENT_READY:
            log_event(LOG_INFO, "session ready", LOG_TEXT("session", s->document.session_id),
                      LOG_TEXT("client_version", s->session.client.client_version),
                      LOG_BOOL("multiplexed", s->session.port.mode == PORT_MULTIPLEXED),
                      LOG_TEXT("banner", s->session.banner),
                      LOG_DURATION_MS("after", now_of(s) - s->started_ms));
            break;
        case SESSION_EVENT_LOST:
            gateway_lose(&s->link, event.text.ptr); /* always terminated */
            break;
        case SESSION_EVENT_UNKNOWN:
            log_event(LOG_DEBUG, "message of an unknown type", LOG_TEXT("session", s->document.session_id),
                      LOG_STR("type", event.text));
            break;
        case SESSION_EVENT_OVER:
            return true;
        case SESSION_EVENT_NONE:
            return false;
        }
    }
}

/* Whether there are bytes from the gateway and the engine would take them now. */
static const uint8_t *receivable(struct relay_session *s, size_t *len)
{
    return data_channel_wants_input(&s->session.channel) ? gateway_recv_buf(&s->link, len) : NULL;
}

/* What was acknowledged since the last call shows that the connection is of use. */
static void note_acknowledged(struct relay_session *s)
{
    struct data_channel_stats stats;
    data_channel_stats(&s->session.channel, &stats);
    gateway_acknowledged(&s->link, stats.acknowledged - s->acknowledged);
    s->acknowledged = stats.acknowledged;
}

/* Bytes from the gateway. True when some were moved. */
static bool receive(struct relay_session *s)
{
    size_t len;
    const uint8_t *data = receivable(s, &len);
    if (data == NULL)
        return false;
    size_t room;
    uint8_t *in = data_channel_in_buf(&s->session.channel, &room);
    size_t n = len < room ? len : room;
    if (n == 0)
        return false;
    memcpy(in, data, n);
    gateway_recv_ack(&s->link, n);
    data_channel_in_ack(&s->session.channel, now_of(s), n);
    return true;
}

static void read_target(struct relay_session *s, const struct session_gather *gather)
{
    static uint8_t staging[STAGING_SIZE]; /* one loop, one reader at a time */
    struct relay_target *target = &s->targets[gather->stream];
    struct port_action action;
    size_t n = tcp_read(&target->tcp, staging + SMUX_HEADER_SIZE, gather->max);
    if (n == 0 && target->tcp.state == TCP_STATE_FAILED) {
        target_failed(s, target);
        return;
    }
    if (n == 0 && target->tcp.read_ended) {
        session_target_ended(&s->session, now_of(s), gather->stream, &action);
        act(s, &action);
        return;
    }
    if (n > 0)
        s->relay->last_byte_ms = now_of(s);
    session_send(&s->session, now_of(s), gather, staging + SMUX_HEADER_SIZE, n,
                 target->tcp.readable || target->tcp.read_ended);
}

/* Bytes of targets into messages, as far as the pacer and the window let them. */
static void gather_targets(struct relay_session *s)
{
    struct session_gather gather;
    for (session_gather(&s->session, now_of(s), &gather); gather.type != SESSION_GATHER_NOTHING;
         session_gather(&s->session, now_of(s), &gather))
        if (gather.type == SESSION_GATHER_PORT)
            act(s, &gather.port);
        else
            read_target(s, &gather);
}

/* Frames into the stream. True when some were moved. */
static bool transmit(struct relay_session *s)
{
    bool moved = false;
    size_t len;
    const uint8_t *frame;
    while ((frame = data_channel_out_buf(&s->session.channel, now_of(s), &len)) != NULL && len > 0) {
        size_t n = gateway_send(&s->link, frame, len);
        if (n == 0)
            break;
        data_channel_out_ack(&s->session.channel, now_of(s), n);
        moved = true;
    }
    return moved;
}

static void turn(struct loop_hook *hook)
{
    struct relay_session *s = LOOP_OWNER(hook, struct relay_session, hook);
    bool moved = true;
    session_tick(&s->session, now_of(s));
    for (int round = 0; round < ROUNDS_PER_TURN && moved; round++) {
        moved = receive(s);
        if (take_events(s)) {
            finish(s);
            return;
        }
        if (!gateway_is_up(&s->link))
            break;
        note_acknowledged(s);
        gather_targets(s);
        moved = transmit(s) || moved;
        /* What was consumed in between may have made the engine want what waits in the stream already. */
        size_t len;
        moved = receivable(s, &len) != NULL || moved;
    }
    if (take_events(s)) {
        finish(s);
        return;
    }
    /* Not done, but others have waited: go on with the next turn. */
    loop_timer_set(loop_of(s), &s->timer, moved ? now_of(s) : session_deadline(&s->session, now_of(s)));
}

static void timer_expired(struct loop_timer *timer)
{
    wake(LOOP_OWNER(timer, struct relay_session, timer));
}

/* ---- the surface --------------------------------------------------------------------------------------- */

static void start(struct relay_session *s)
{
    struct session_config config = {
        .document = &s->document,
        .memory = s->memory,
        .channel = {.peer_ignores_duplicates = true,
                    .messages_per_second = s->relay->config->max_messages_per_second,
                    .burst_messages = s->relay->config->burst_messages,
                    .ping_interval_ms = CONTROL_CHANNEL_PING_MS,
                    .user = &s->user,
                    .unix_offset_ms = clock_unix_ms() - now_of(s)}};
    random_bytes(config.channel.seed, sizeof config.channel.seed);
    session_init(&s->session, &config, now_of(s));
    bytes_wipe(config.channel.seed, sizeof config.channel.seed);
    gateway_init(&s->link, s->relay->client, GATEWAY_DATA, str_from(s->document.session_id),
                 s->relay->target_id);
    s->link.up = link_up;
    s->link.changed = link_changed;
    s->link.down = link_down;
    loop_timer_init(&s->timer, timer_expired);
    loop_hook_init(&s->hook, LOOP_GATHER, turn);
    log_event(LOG_INFO, "session started", LOG_ALWAYS, LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("owner", s->document.owner), LOG_TEXT("document", s->document.document_name),
              LOG_TEXT("host", s->document.host), LOG_I64("port", s->document.port));
    gateway_open(&s->link);
    start_probe(s);
    wake(s);
}

struct relay_session *relay_session_start(struct relay_context *relay, const struct document *document,
                                          void (*over)(struct relay_session *session, void *owner),
                                          void *owner, struct error *err)
{
    struct relay_session *s = calloc(1, sizeof *s);
    /* Address space only: a page counts when it is touched, and a quiet session touches a few dozen. */
    void *memory = memory_map(MEMORY_SIZE);
    if (s == NULL || memory == NULL || !pool_join(&relay->pool, &s->user)) {
        free(s);
        memory_unmap(memory, MEMORY_SIZE);
        error_set(err, ERROR_SYSTEM, "out of memory for a session");
        return NULL;
    }
    s->relay = relay;
    s->over = over;
    s->owner = owner;
    s->document = *document;
    s->memory = memory;
    s->targets = (struct relay_target *) (void *) ((uint8_t *) memory + SESSION_MEMORY_SIZE);
    s->number = ++relay->sessions_started;
    s->started_ms = now_of(s);
    start(s);
    return s;
}

void relay_session_free(struct relay_session *s)
{
    gateway_close(&s->link);
    tcp_close(&s->probe);
    loop_timer_remove(loop_of(s), &s->timer);
    loop_hook_remove(loop_of(s), &s->hook);
    session_release(&s->session);
    pool_leave(&s->user);
    memory_unmap(s->memory, MEMORY_SIZE);
    size_t len;
    void *idle = pool_idle(&s->relay->pool, &len);
    if (idle != NULL)
        memory_forget(idle, len);
    free(s);
}

void relay_session_end(struct relay_session *s, bool failed, struct str reason)
{
    session_end(&s->session, now_of(s), failed, reason);
    wake(s);
}

const char *relay_session_id(const struct relay_session *s)
{
    return s->document.session_id;
}

int64_t relay_session_started_ms(const struct relay_session *s)
{
    return s->started_ms;
}

bool relay_session_failed(const struct relay_session *s)
{
    return s->session.failed;
}

const char *relay_session_reason(const struct relay_session *s)
{
    return s->session.reason;
}
