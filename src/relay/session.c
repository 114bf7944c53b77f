#include "relay/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "channel/control_channel.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/memory.h"
#include "host/random.h"
#include "run/tcp_endpoints.h"
#include "run/turn.h"

/* One tunnel: what the sessions that carry it share. */
struct relay_tunnel {
    struct relay_context *relay;
    struct list link;
    struct document document; /* of the session that it began with */
    char secret[HANDSHAKE_SECRET_SIZE];
    struct tunnel tunnel;
    struct pool_user user;
    struct tcp_endpoints endpoints;
    struct relay_session *sessions[TUNNEL_LANES_MAX]; /* by lane */
    void *memory;
    struct resolver_request resolving; /* FUMIDAI_PROBE=resolve */
    struct loop_timer timer;
    struct loop_hook hook;
    uint64_t streams;
    uint64_t bytes_to_target;
    uint64_t bytes_to_client;
    bool abandoned; /* its session joined another */
};

struct relay_session {
    struct relay_tunnel *tunnel;
    struct relay_context *relay;
    void (*over)(struct relay_session *session, void *owner);
    void *owner;
    struct document document;
    struct gateway link;
    struct lane lane;
    struct pool_user user;
    void *memory;
    uint64_t progress; /* messages acknowledged and received, as the gateway knows */
    int64_t started_ms;
    bool joined; /* a tunnel that another session had begun */
};

enum {
    TUNNEL_MEMORY = TUNNEL_MEMORY_SIZE + TCP_ENDPOINTS_MEMORY_SIZE,
    QUIET_END_MS = 60 * 1000 /* the shortest idle time that an account can choose */
};

static struct loop *loop_of(const struct relay_context *relay)
{
    return relay->network->loop;
}

static int64_t now_of(const struct relay_context *relay)
{
    return loop_now_ms(loop_of(relay));
}

static void wake(struct relay_tunnel *t)
{
    loop_hook_queue(loop_of(t->relay), &t->hook);
}

/* ---- targets --------------------------------------------------------------------------------------- */

static int permit(void *context, const char *host, const struct ip *address, uint16_t port, struct error *err)
{
    const struct relay_tunnel *t = context;
    struct ip_block loopback;
    ip_block_parse(STR_LITERAL("127.0.0.0/8"), &loopback);
    if (ip_block_contains(loopback, *address) && t->relay->is_own_port(t->relay, port))
        return 0;
    return dial_policy_check(&t->relay->policy, str_from(host), *address, port, err);
}

static void changed(void *context)
{
    wake(context);
}

/* A collision costs a check that is less thorough. */
static uint64_t target_of(const char *host, uint16_t port)
{
    return (str_hash(str_from(host)) ^ port) | 1ULL << 63;
}

/* The entry of this target, or the one to use for it: free, or the oldest. */
static struct relay_probe *probe_of(struct relay_context *relay, uint64_t target)
{
    struct relay_probe *oldest = &relay->probes[0];
    for (size_t i = 0; i < RELAY_PROBES_MAX; i++) {
        struct relay_probe *probe = &relay->probes[i];
        if (probe->target == target)
            return probe;
        if (probe->until_ms < oldest->until_ms)
            oldest = probe;
    }
    return oldest;
}

static bool was_probed_in_vain(struct relay_context *relay, uint64_t target)
{
    const struct relay_probe *probe = probe_of(relay, target);
    return probe->target == target && now_of(relay) < probe->until_ms;
}

/* It is used: the next session may check it as thoroughly. */
static void endpoint_opened(void *context, const struct tcp_endpoint *endpoint)
{
    struct relay_tunnel *t = context;
    uint64_t target = target_of(endpoint->host, endpoint->port);
    struct relay_probe *probe = probe_of(t->relay, target);
    if (probe->target == target)
        *probe = (struct relay_probe){0};
}

/* The end of a stream's connection, for the log. The slot's counters are still what they were. */
static void endpoint_closed(void *context, const struct tcp_endpoint *e, const char *why)
{
    struct relay_tunnel *t = context;
    const struct streams_slot *stream = tunnel_stream(&t->tunnel, e->stream);
    char address[TCP_ENDPOINTS_ADDRESS_SIZE];
    log_event(LOG_INFO, "stream closed", LOG_TEXT("session", t->document.session_id),
              LOG_I64("stream", stream->id),
              LOG_TEXT("target", e->connected ? tcp_endpoints_address(&e->tcp, address) : ""),
              LOG_I64("bytes_to_target", stream->bytes_to_endpoint),
              LOG_I64("bytes_to_client", stream->bytes_from_endpoint),
              LOG_DURATION_MS("duration", now_of(t->relay) - e->since_ms), LOG_TEXT("why", why));
    t->bytes_to_target += stream->bytes_to_endpoint;
    t->bytes_to_client += stream->bytes_from_endpoint;
    t->relay->open_streams--;
    t->relay->last_stream_ms = now_of(t->relay);
}

static void open_endpoint(void *context, uint16_t stream, const char *host, uint16_t port)
{
    struct relay_tunnel *t = context;
    t->streams++;
    t->relay->open_streams++;
    log_event(LOG_DEBUG, "stream opened", LOG_TEXT("session", t->document.session_id),
              LOG_I64("stream", tunnel_stream(&t->tunnel, stream)->id), LOG_TEXT("host", host),
              LOG_I64("port", port));
    tcp_endpoints_open(&t->endpoints, stream, host, port);
}

static void read_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                          struct tunnel_result *result)
{
    struct relay_tunnel *t = context;
    tcp_endpoints_read(&t->endpoints, stream, vectors, count, result);
    if (result->n > 0)
        t->relay->last_byte_ms = now_of(t->relay);
}

static void write_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                           struct tunnel_result *result)
{
    struct relay_tunnel *t = context;
    tcp_endpoints_write(&t->endpoints, stream, vectors, count, result);
    t->relay->last_byte_ms = now_of(t->relay);
}

static void shut_endpoint(void *context, uint16_t stream)
{
    tcp_endpoints_shut(&((struct relay_tunnel *) context)->endpoints, stream);
}

static void close_endpoint(void *context, uint16_t stream, const char *why)
{
    tcp_endpoints_end(&((struct relay_tunnel *) context)->endpoints, stream, why);
}

static void reset_endpoint(void *context, uint16_t stream, const char *why)
{
    tcp_endpoints_reset(&((struct relay_tunnel *) context)->endpoints, stream, why);
}

static const struct turn_endpoint_ops endpoint_ops = {.open = open_endpoint,
                                                      .read = read_endpoint,
                                                      .write = write_endpoint,
                                                      .shut = shut_endpoint,
                                                      .close = close_endpoint,
                                                      .reset = reset_endpoint};

/* ---- the probe and the banner ------------------------------------------------------------------------ */

static void write_end_of_task(const struct relay_context *relay, struct writer *text)
{
    writer_text(text, " This task ends ");
    writer_duration_ms(text, relay->config->idle_timeout_ms);
    writer_text(text, " after its last session");
    if (relay->lives_until_ms != INT64_MAX) {
        writer_text(text, ", at the latest at ");
        writer_rfc3339_ms(text, clock_unix_ms() + relay->lives_until_ms - now_of(relay));
    }
    writer_char(text, '.');
}

/* The check of the target is over: `address` was reached, or found; null when there was no check. */
static void welcome(struct relay_tunnel *t, const struct error *failure, const char *found,
                    const char *address)
{
    char memory[LANE_TEXT_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    wake(t);
    if (t->tunnel.lane_count == 0)
        return;
    if (failure != NULL && (failure->code == ERROR_DENIED || failure->code == ERROR_NOT_FOUND)) {
        tunnel_end(&t->tunnel, now_of(t->relay), true,
                   str_from(failure->text)); /* no later try can do better */
        return;
    }
    if (failure == NULL)
        writer_format(&text, address != NULL ? "%s %s (%s)." : "%s %s.", found, t->document.host, address);
    else
        writer_format(&text, "Could not reach the target: %.300s.%s", failure->text,
                      t->document.kind == DOCUMENT_LOCAL_FORWARDING ? " Each connection you open tries again."
                                                                    : "");
    write_end_of_task(t->relay, &text);
    lane_probed(t->tunnel.lanes[0], now_of(t->relay), writer_view(&text));
}

static void probed(void *context, const struct error *failure)
{
    struct relay_tunnel *t = context;
    char address[TCP_ENDPOINTS_ADDRESS_SIZE];
    uint64_t target = target_of(t->document.host, t->document.port);
    if (failure == NULL)
        *probe_of(t->relay, target) = (struct relay_probe){target, now_of(t->relay) + RELAY_PROBE_AGAIN_MS};
    welcome(t, failure, "Reached", tcp_endpoints_address(&t->endpoints.probe, address));
}

/* FUMIDAI_PROBE=resolve: the name has an address that may be dialled. */
static void name_resolved(struct resolver_request *resolving)
{
    struct relay_tunnel *t = LOOP_OWNER(resolving, struct relay_tunnel, resolving);
    const struct dns_result *result = &resolving->result;
    char memory[IP_TEXT_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    struct error err = ERROR_INIT;
    dns_result_explain(result, &err);
    for (size_t i = 0; i < result->count; i++) {
        err = (struct error) ERROR_INIT;
        if (permit(t, t->document.host, &result->addresses[i], t->document.port, &err) == 0) {
            writer_ip(&text, result->addresses[i]);
            break;
        }
    }
    welcome(t, err.code != ERROR_NONE ? &err : NULL, "Found", writer_terminate(&text));
}

/* Whether the target can be reached, as far as FUMIDAI_PROBE lets it be tried. */
static int begin_probe(struct relay_tunnel *t, struct error *err)
{
    const char *host = t->document.host;
    enum task_probe probe = t->relay->config->probe;
    if (probe == TASK_PROBE_CONNECT && was_probed_in_vain(t->relay, target_of(host, t->document.port)))
        probe = TASK_PROBE_RESOLVE;
    switch (probe) {
    case TASK_PROBE_CONNECT:
        return tcp_endpoints_probe(&t->endpoints, host, t->document.port, LANE_PROBE_MS, err);
    case TASK_PROBE_RESOLVE:
        return resolver_start(&t->relay->network->resolver, &t->resolving, host, DESCRIPTORS_FOR_STREAMS,
                              name_resolved, err);
    case TASK_PROBE_OFF:
        break;
    }
    welcome(t, NULL, "Forwarding to", NULL);
    return 0;
}

/* ---- lanes ------------------------------------------------------------------------------------------- */

static const uint8_t *receive(void *context, unsigned lane, size_t *len)
{
    struct gateway *link = &((struct relay_tunnel *) context)->sessions[lane]->link;
    return gateway_is_up(link) ? gateway_recv_buf(link, len) : NULL;
}

static void received(void *context, unsigned lane, size_t len)
{
    gateway_recv_ack(&((struct relay_tunnel *) context)->sessions[lane]->link, len);
}

static size_t send(void *context, unsigned lane, const void *data, size_t len)
{
    struct gateway *link = &((struct relay_tunnel *) context)->sessions[lane]->link;
    return gateway_is_up(link) ? gateway_send(link, data, len) : 0;
}

static const struct turn_lane_ops lane_ops = {.receive = receive, .received = received, .send = send};

static struct relay_session *session_of(struct gateway *link)
{
    return LOOP_OWNER(link, struct relay_session, link);
}

static void link_up(struct gateway *link, struct str first_text)
{
    struct relay_session *s = session_of(link);
    struct error err = ERROR_INIT;
    if (lane_connected(&s->lane, now_of(s->relay), first_text, &err) < 0)
        relay_session_end(s, true, str_from(err.text));
    wake(s->tunnel);
}

static void link_changed(struct gateway *link)
{
    wake(session_of(link)->tunnel);
}

static void link_down(struct gateway *link, const struct gateway_down *down)
{
    struct relay_session *s = session_of(link);
    if (down->was_up) {
        log_event(LOG_INFO, "data channel lost, connecting anew", LOG_TEXT("session", s->document.session_id),
                  LOG_TEXT("why", down->why),
                  LOG_DURATION_MS("session_age", now_of(s->relay) - s->started_ms));
        lane_disconnected(&s->lane, now_of(s->relay), down->why);
        int64_t learned_ms = data_channel_take_learned_ms(&s->lane.channel);
        if (learned_ms > 0)
            log_event(LOG_WARN, "quiet connections are cut on the way: pinging sooner",
                      LOG_TEXT("channel", s->document.session_id), LOG_DURATION_MS("after", learned_ms));
    } else {
        log_event(LOG_WARN, "can't open the data channel", LOG_TEXT("session", s->document.session_id),
                  LOG_TEXT("error", down->why), LOG_BOOL("final", down->is_final));
    }
    if (down->is_final)
        relay_session_end(s, true, str_from(down->why));
    if (!lane_wants_connection(&s->lane))
        gateway_close(link); /* it only waits for what is held for its targets */
    wake(s->tunnel);
}

/* What has come across since the last call shows that the connection is of use. */
static void note_progress(struct relay_session *s)
{
    struct data_channel_stats stats;
    data_channel_stats(&s->lane.channel, &stats);
    gateway_acknowledged(&s->link, stats.acknowledged + stats.received - s->progress);
    s->progress = stats.acknowledged + stats.received;
}

/* ---- the ends of sessions ------------------------------------------------------------------------------ */

/* The service ends a session in which nothing moves, and does not say that this was the reason. */
static void explain_quiet_end(const struct relay_tunnel *t, const struct relay_session *s)
{
    int64_t quiet_ms = now_of(t->relay) - t->tunnel.last_data_ms;
    if (t->tunnel.streams.open > 0 && quiet_ms >= QUIET_END_MS && s->lane.nop_interval_ms == 0)
        log_event(
            LOG_WARN,
            "the service ended a session in which nothing moved; FUMIDAI_KEEP_ALIVE keeps such sessions",
            LOG_TEXT("session", s->document.session_id), LOG_DURATION_MS("quiet", quiet_ms));
}

static void session_over(struct relay_tunnel *t, unsigned lane)
{
    struct relay_session *s = t->sessions[lane];
    struct data_channel_stats stats;
    bool is_last = t->tunnel.lane_count == 0;
    data_channel_stats(&s->lane.channel, &stats);
    for (unsigned i = lane; i < t->tunnel.lane_count; i++)
        t->sessions[i] = t->sessions[i + 1];
    if (is_last && s->lane.peer_gone)
        explain_quiet_end(t, s);
    if (is_last)
        tcp_endpoints_close(&t->endpoints, "the session ended");
    t->relay->last_session_ms = now_of(t->relay);
    log_event(LOG_INFO, "session ended", LOG_ALWAYS, LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("owner", s->document.owner), LOG_BOOL("failed", s->lane.failed),
              LOG_TEXT("reason", s->lane.reason), LOG_I64("streams", is_last ? t->streams : 0),
              LOG_I64("bytes_to_target", is_last ? t->bytes_to_target : 0),
              LOG_I64("bytes_to_client", is_last ? t->bytes_to_client : 0),
              LOG_DURATION_MS("duration", now_of(t->relay) - s->started_ms),
              LOG_I64("messages_sent", stats.sent), LOG_I64("messages_resent", stats.resent),
              LOG_I64("messages_received", stats.received), LOG_I64("messages_given_up", stats.given_up),
              LOG_I64("connections", stats.connections));
    s->tunnel = NULL;
    s->over(s, s->owner);
}

/* ---- joining ------------------------------------------------------------------------------------------- */

/* Both were made from the service's start messages: the same owner, who is known, and the same document with
 * the same parameters. */
static bool is_same_document(const struct document *a, const struct document *b)
{
    return strcmp(a->owner, DOCUMENT_UNKNOWN) != 0 && strcmp(a->owner, b->owner) == 0 &&
           strcmp(a->document_name, b->document_name) == 0 && strcmp(a->properties, b->properties) == 0 &&
           strcmp(a->host, b->host) == 0 && a->port == b->port && a->kind == b->kind;
}

static struct relay_tunnel *find_tunnel(struct relay_tunnel *joiner, struct str secret)
{
    const struct list *head = &joiner->relay->tunnels;
    for (struct list *node = head->next; node != head; node = node->next) {
        struct relay_tunnel *t = LIST_OWNER(node, struct relay_tunnel, link);
        if (t != joiner && str_equal_text(secret, t->secret) &&
            is_same_document(&t->document, &joiner->document))
            return t;
    }
    return NULL;
}

static void join(struct relay_tunnel *t, unsigned lane, struct str secret)
{
    struct relay_session *s = t->sessions[lane];
    struct relay_tunnel *other = find_tunnel(t, secret);
    struct error err = ERROR_INIT;
    int index = -1;
    if (other == NULL)
        error_set(&err, ERROR_NOT_FOUND,
                  "the tunnel that this session was to join is over, or is another user's");
    else
        index = tunnel_move_lane(&t->tunnel, lane, &other->tunnel, now_of(t->relay), &err);
    if (index < 0) {
        relay_session_end(s, true, str_from(err.text));
        return;
    }
    log_event(LOG_INFO, "session joined a tunnel", LOG_ALWAYS, LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("tunnel", other->document.session_id), LOG_I64("sessions", index + 1));
    other->sessions[index] = s;
    s->tunnel = other;
    s->joined = true;
    t->abandoned = true;
    wake(other);
}

/* ---- the turn ------------------------------------------------------------------------------------------ */

static void event(void *context, const struct tunnel_step *step, struct tunnel_result *result)
{
    struct relay_tunnel *t = context;
    struct relay_session *s = t->sessions[step->lane];
    (void) result;
    switch (step->type) {
    case TUNNEL_STEP_LANE_OPEN:
        log_event(LOG_INFO, "session ready", LOG_TEXT("session", s->document.session_id),
                  LOG_TEXT("client_version", lane_peer_version(&s->lane)),
                  LOG_BOOL("multiplexed", t->tunnel.mode == TUNNEL_MULTIPLEXED),
                  LOG_TEXT("banner", s->lane.banner),
                  LOG_DURATION_MS("after", now_of(t->relay) - s->started_ms));
        break;
    case TUNNEL_STEP_LANE_LOST:
        gateway_lose(&s->link, step->text.ptr); /* always terminated */
        break;
    case TUNNEL_STEP_LANE_OVER:
        session_over(t, step->lane);
        break;
    case TUNNEL_STEP_JOIN:
        join(t, step->lane, step->text);
        break;
    case TUNNEL_STEP_UNKNOWN:
        log_event(LOG_DEBUG, "message of an unknown type", LOG_TEXT("session", s->document.session_id),
                  LOG_STR("type", step->text));
        break;
    default:
        break;
    }
}

static void free_tunnel(struct relay_tunnel *t)
{
    size_t len;
    tcp_endpoints_close(&t->endpoints, "the session ended");
    resolver_cancel(&t->relay->network->resolver, &t->resolving);
    loop_timer_remove(loop_of(t->relay), &t->timer);
    loop_hook_remove(loop_of(t->relay), &t->hook);
    list_remove(&t->link);
    tunnel_release(&t->tunnel);
    pool_leave(&t->user);
    void *idle = pool_idle(&t->relay->pool, &len);
    if (idle != NULL)
        memory_forget(idle, len);
    memory_unmap(t->memory, TUNNEL_MEMORY);
    bytes_wipe(t->secret, sizeof t->secret);
    free(t);
}

static void run_turn(struct loop_hook *hook)
{
    struct relay_tunnel *t = LOOP_OWNER(hook, struct relay_tunnel, hook);
    const struct turn turn = {
        .tunnel = &t->tunnel, .lanes = &lane_ops, .endpoints = &endpoint_ops, .event = event, .context = t};
    int64_t deadline_ms = INT64_MAX;
    tunnel_set_unix_offset(&t->tunnel, clock_unix_ms() - now_of(t->relay));
    enum turn_result result = turn_run(&turn, now_of(t->relay), &deadline_ms);
    for (unsigned i = 0; i < t->tunnel.lane_count; i++)
        note_progress(t->sessions[i]);
    if (result == TURN_OVER || t->abandoned)
        free_tunnel(t);
    else if (result == TURN_MORE)
        wake(t); /* not done, but others have waited */
    else
        loop_timer_set(loop_of(t->relay), &t->timer, deadline_ms);
}

static void timer_expired(struct loop_timer *timer)
{
    wake(LOOP_OWNER(timer, struct relay_tunnel, timer));
}

/* ---- the surface --------------------------------------------------------------------------------------- */

static struct relay_tunnel *make_tunnel(struct relay_context *relay, const struct document *document,
                                        struct error *err)
{
    struct relay_tunnel *t = calloc(1, sizeof *t);
    /* Address space only: a page counts when it is touched, and a quiet session touches a few dozen. */
    void *memory = memory_map(TUNNEL_MEMORY);
    if (t == NULL || memory == NULL || !pool_join(&relay->pool, &t->user)) {
        free(t);
        memory_unmap(memory, TUNNEL_MEMORY);
        error_set(err, ERROR_SYSTEM, "out of memory for a session");
        return NULL;
    }
    uint8_t random[HANDSHAKE_SECRET_BYTES];
    struct writer secret = writer_of(t->secret, sizeof t->secret);
    random_bytes(random, sizeof random);
    writer_hex(&secret, random, sizeof random);
    writer_terminate(&secret);
    t->relay = relay;
    t->document = *document;
    t->memory = memory;
    tunnel_init(&t->tunnel,
                &(struct tunnel_config){
                    .role = LANE_AGENT, .document = &t->document, .user = &t->user, .memory = memory},
                now_of(relay));
    t->endpoints = (struct tcp_endpoints){.tunnel = &t->tunnel,
                                          .network = relay->network,
                                          .linger = relay->linger,
                                          .number = ++relay->sessions_started,
                                          .dial_timeout_ms = relay->config->dial_timeout_ms,
                                          .slots = (void *) ((uint8_t *) memory + TUNNEL_MEMORY_SIZE),
                                          .permit = permit,
                                          .changed = changed,
                                          .opened = endpoint_opened,
                                          .closed = endpoint_closed,
                                          .probed = probed,
                                          .context = t};
    tcp_endpoints_init(&t->endpoints);
    loop_timer_init(&t->timer, timer_expired);
    loop_hook_init(&t->hook, LOOP_GATHER, run_turn);
    list_append(&relay->tunnels, &t->link);
    return t;
}

static void start_lane(struct relay_session *s)
{
    const struct task_settings *config = s->relay->config;
    struct lane_config lane = {.role = LANE_AGENT,
                               .keep_alive_ms = config->keep_alive_ms,
                               .document = &s->document,
                               .extension = {.lanes = true, .destinations = s->document.any_destination},
                               .channel = {.messages_per_second = config->max_messages_per_second,
                                           .burst_messages = config->burst_messages,
                                           .ping_interval_ms = CONTROL_CHANNEL_PING_MS,
                                           .unix_offset_ms = clock_unix_ms() - now_of(s->relay),
                                           .user = &s->user},
                               .memory = s->memory};
    memcpy(lane.extension.secret, s->tunnel->secret, sizeof lane.extension.secret);
    random_bytes(lane.channel.seed, sizeof lane.channel.seed);
    lane_init(&s->lane, &lane, now_of(s->relay));
    bytes_wipe(&lane, sizeof lane);
    tunnel_add_lane(&s->tunnel->tunnel, &s->lane);
    s->tunnel->sessions[0] = s;
}

static void start(struct relay_session *s)
{
    struct error err = ERROR_INIT;
    start_lane(s);
    gateway_init(&s->link, s->relay->client, GATEWAY_DATA, str_from(s->document.session_id),
                 s->relay->target_id);
    s->link.up = link_up;
    s->link.changed = link_changed;
    s->link.down = link_down;
    log_event(LOG_INFO, "session started", LOG_ALWAYS, LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("owner", s->document.owner), LOG_TEXT("document", s->document.document_name),
              LOG_TEXT("host", s->document.host), LOG_I64("port", s->document.port));
    gateway_open(&s->link);
    if (begin_probe(s->tunnel, &err) < 0)
        relay_session_end(s, true, str_from(err.text));
    wake(s->tunnel);
}

struct relay_session *relay_session_start(struct relay_context *relay, const struct document *document,
                                          void (*over)(struct relay_session *session, void *owner),
                                          void *owner, struct error *err)
{
    struct relay_session *s = calloc(1, sizeof *s);
    void *memory = memory_map(LANE_MEMORY_SIZE);
    if (s == NULL || memory == NULL || !pool_join(&relay->pool, &s->user)) {
        free(s);
        memory_unmap(memory, LANE_MEMORY_SIZE);
        error_set(err, ERROR_SYSTEM, "out of memory for a session");
        return NULL;
    }
    *s = (struct relay_session){.relay = relay,
                                .over = over,
                                .owner = owner,
                                .document = *document,
                                .user = s->user,
                                .memory = memory,
                                .started_ms = now_of(relay)};
    s->tunnel = make_tunnel(relay, document, err);
    if (s->tunnel == NULL) {
        pool_leave(&s->user);
        memory_unmap(memory, LANE_MEMORY_SIZE);
        free(s);
        return NULL;
    }
    start(s);
    return s;
}

void relay_session_free(struct relay_session *s)
{
    gateway_close(&s->link);
    lane_release(&s->lane);
    pool_leave(&s->user);
    memory_unmap(s->memory, LANE_MEMORY_SIZE);
    bytes_wipe(&s->lane, sizeof s->lane); /* the tunnel's secret */
    free(s);
}

void relay_session_end(struct relay_session *s, bool failed, struct str reason)
{
    lane_end(&s->lane, now_of(s->relay), failed, reason);
    wake(s->tunnel);
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
    return s->lane.failed;
}

const char *relay_session_reason(const struct relay_session *s)
{
    return s->lane.reason;
}
