#include "relay/session.h"

#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "channel/control_channel.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"
#include "host/random.h"
#include "run/session.h"

/* One tunnel: what the sessions that carry it share. */
struct relay_tunnel {
    struct session_tunnel base;
    struct relay_context *relay;
    struct list link;
    struct document document; /* of the session that it began with */
    char secret[HANDSHAKE_SECRET_SIZE];
    struct resolver_request resolving; /* FUMIDAI_PROBE=resolve */
    uint64_t streams;
    uint64_t bytes_to_target;
    uint64_t bytes_to_client;
};

struct relay_session {
    struct session base;
    struct relay_context *relay;
    void (*over)(struct relay_session *session, void *owner);
    void *owner;
    struct document document;
};

enum { QUIET_END_MS = 60 * 1000 /* the shortest idle time that an account can choose */ };

static struct relay_tunnel *tunnel_of(struct session_tunnel *base)
{
    return LOOP_OWNER(base, struct relay_tunnel, base);
}

static struct relay_session *owner_of(struct session *base)
{
    return LOOP_OWNER(base, struct relay_session, base);
}

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
    session_tunnel_wake(&t->base);
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
    const struct streams_slot *stream = tunnel_stream(&t->base.tunnel, e->stream);
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
    struct relay_tunnel *t = tunnel_of(context);
    t->streams++;
    t->relay->open_streams++;
    log_event(LOG_DEBUG, "stream opened", LOG_TEXT("session", t->document.session_id),
              LOG_I64("stream", tunnel_stream(&t->base.tunnel, stream)->id), LOG_TEXT("host", host),
              LOG_I64("port", port));
    tcp_endpoints_open(&t->base.endpoints, stream, host, port);
}

static void read_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                          struct tunnel_result *result)
{
    struct relay_tunnel *t = tunnel_of(context);
    tcp_endpoints_read(&t->base.endpoints, stream, vectors, count, result);
    if (result->n > 0)
        t->relay->last_byte_ms = now_of(t->relay);
}

static void write_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                           struct tunnel_result *result)
{
    struct relay_tunnel *t = tunnel_of(context);
    tcp_endpoints_write(&t->base.endpoints, stream, vectors, count, result);
    t->relay->last_byte_ms = now_of(t->relay);
}

static void shut_endpoint(void *context, uint16_t stream)
{
    tcp_endpoints_shut(&((struct session_tunnel *) context)->endpoints, stream);
}

static void close_endpoint(void *context, uint16_t stream, const char *why)
{
    tcp_endpoints_end(&((struct session_tunnel *) context)->endpoints, stream, why);
}

static void reset_endpoint(void *context, uint16_t stream, const char *why)
{
    tcp_endpoints_reset(&((struct session_tunnel *) context)->endpoints, stream, why);
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
    if (t->base.tunnel.lane_count == 0)
        return;
    if (failure != NULL && (failure->code == ERROR_DENIED || failure->code == ERROR_NOT_FOUND)) {
        tunnel_end(&t->base.tunnel, now_of(t->relay), true,
                   str_from(failure->text)); /* no later try can do better */
        return;
    }
    if (!document_has_target(&t->document))
        writer_text(&text, "Each connection names its own target.");
    else if (failure == NULL)
        writer_format(&text, address != NULL ? "%s %s (%s)." : "%s %s.", found, t->document.host, address);
    else
        writer_format(&text, "Could not reach the target: %.300s.%s", failure->text,
                      t->document.kind == DOCUMENT_LOCAL_FORWARDING ? " Each connection you open tries again."
                                                                    : "");
    write_end_of_task(t->relay, &text);
    lane_probed(t->base.tunnel.lanes[0], now_of(t->relay), writer_view(&text));
}

static void probed(void *context, const struct error *failure)
{
    struct relay_tunnel *t = context;
    char address[TCP_ENDPOINTS_ADDRESS_SIZE];
    uint64_t target = target_of(t->document.host, t->document.port);
    if (failure == NULL)
        *probe_of(t->relay, target) = (struct relay_probe){target, now_of(t->relay) + RELAY_PROBE_AGAIN_MS};
    welcome(t, failure, "Reached", tcp_endpoints_address(&t->base.endpoints.probe, address));
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
    if (!document_has_target(&t->document))
        probe = TASK_PROBE_OFF;
    else if (probe == TASK_PROBE_CONNECT && was_probed_in_vain(t->relay, target_of(host, t->document.port)))
        probe = TASK_PROBE_RESOLVE;
    switch (probe) {
    case TASK_PROBE_CONNECT:
        return tcp_endpoints_probe(&t->base.endpoints, host, t->document.port, LANE_PROBE_MS, err);
    case TASK_PROBE_RESOLVE:
        return resolver_start(&t->relay->network->resolver, &t->resolving, host, DESCRIPTORS_FOR_STREAMS,
                              name_resolved, err);
    case TASK_PROBE_OFF:
        break;
    }
    welcome(t, NULL, "Forwarding to", NULL);
    return 0;
}

/* ---- sessions ------------------------------------------------------------------------------------------ */

static void session_ready(struct session *base)
{
    struct relay_session *s = owner_of(base);
    log_event(LOG_INFO, "session ready", LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("client_version", lane_peer_version(&base->lane)),
              LOG_BOOL("multiplexed", base->tunnel->tunnel.mode == TUNNEL_MULTIPLEXED),
              LOG_TEXT("banner", base->lane.banner),
              LOG_DURATION_MS("after", now_of(s->relay) - base->started_ms));
}

static void link_lost(struct session *base, const struct gateway_down *down)
{
    struct relay_session *s = owner_of(base);
    if (!down->was_up) {
        log_event(LOG_WARN, "can't open the data channel", LOG_TEXT("session", s->document.session_id),
                  LOG_TEXT("error", down->why), LOG_BOOL("final", down->is_final));
        return;
    }
    log_event(LOG_INFO, "data channel lost, connecting anew", LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("why", down->why),
              LOG_DURATION_MS("session_age", now_of(s->relay) - base->started_ms));
    int64_t learned_ms = data_channel_take_learned_ms(&base->lane.channel);
    if (learned_ms > 0)
        log_event(LOG_WARN, "quiet connections are cut on the way: pinging sooner",
                  LOG_TEXT("channel", s->document.session_id), LOG_DURATION_MS("after", learned_ms));
}

/* The service ends a session in which nothing moves, and does not say that this was the reason. */
static void explain_quiet_end(const struct relay_tunnel *t, const struct relay_session *s)
{
    int64_t quiet_ms = now_of(t->relay) - t->base.tunnel.last_data_ms;
    if (t->base.tunnel.streams.open > 0 && quiet_ms >= QUIET_END_MS && s->base.lane.nop_interval_ms == 0)
        log_event(
            LOG_WARN,
            "the service ended a session in which nothing moved; FUMIDAI_KEEP_ALIVE keeps such sessions",
            LOG_TEXT("session", s->document.session_id), LOG_DURATION_MS("quiet", quiet_ms));
}

static void session_over(struct session *base, struct session_tunnel *tunnel, bool is_last)
{
    struct relay_session *s = owner_of(base);
    struct relay_tunnel *t = tunnel_of(tunnel);
    struct data_channel_stats stats;
    data_channel_stats(&base->lane.channel, &stats);
    if (is_last && base->lane.peer_gone)
        explain_quiet_end(t, s);
    if (is_last)
        tcp_endpoints_close(&t->base.endpoints, "the session ended");
    t->relay->last_session_ms = now_of(t->relay);
    log_event(LOG_INFO, "session ended", LOG_ALWAYS, LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("owner", s->document.owner), LOG_BOOL("failed", base->lane.failed),
              LOG_TEXT("reason", base->lane.reason), LOG_I64("streams", is_last ? t->streams : 0),
              LOG_I64("bytes_to_target", is_last ? t->bytes_to_target : 0),
              LOG_I64("bytes_to_client", is_last ? t->bytes_to_client : 0),
              LOG_DURATION_MS("duration", now_of(t->relay) - base->started_ms),
              LOG_I64("messages_sent", stats.sent), LOG_I64("messages_resent", stats.resent),
              LOG_I64("messages_received", stats.received), LOG_I64("messages_given_up", stats.given_up),
              LOG_I64("connections", stats.connections));
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
    struct session *base = t->base.sessions[lane];
    struct relay_session *s = owner_of(base);
    struct relay_tunnel *other = find_tunnel(t, secret);
    struct error err = ERROR_INIT;
    int index = -1;
    if (other == NULL)
        error_set(&err, ERROR_NOT_FOUND,
                  "the tunnel that this session was to join is over, or is another user's");
    else
        index = tunnel_move_lane(&t->base.tunnel, lane, &other->base.tunnel, now_of(t->relay), &err);
    if (index < 0) {
        relay_session_end(s, true, str_from(err.text));
        return;
    }
    log_event(LOG_INFO, "session joined a tunnel", LOG_ALWAYS, LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("tunnel", other->document.session_id), LOG_I64("sessions", index + 1));
    other->base.sessions[index] = base;
    base->tunnel = &other->base;
    t->base.abandoned = true;
    wake(other);
}

/* ---- the tunnel ---------------------------------------------------------------------------------------- */

static void event(struct session_tunnel *tunnel, const struct tunnel_step *step, struct tunnel_result *result)
{
    struct relay_session *s = owner_of(tunnel->sessions[step->lane]);
    (void) result;
    if (step->type == TUNNEL_STEP_JOIN)
        join(tunnel_of(tunnel), step->lane, step->text);
    else if (step->type == TUNNEL_STEP_UNKNOWN)
        log_event(LOG_DEBUG, "message of an unknown type", LOG_TEXT("session", s->document.session_id),
                  LOG_STR("type", step->text));
}

static void tunnel_ended(struct session_tunnel *tunnel)
{
    struct relay_tunnel *t = tunnel_of(tunnel);
    resolver_cancel(&t->relay->network->resolver, &t->resolving);
    list_remove(&t->link);
    session_tunnel_release(tunnel);
    bytes_wipe(t->secret, sizeof t->secret);
    free(t);
}

static const struct session_ops session_ops = {.endpoints = &endpoint_ops,
                                               .ready = session_ready,
                                               .lost = link_lost,
                                               .over = session_over,
                                               .event = event,
                                               .ended = tunnel_ended};

static struct relay_tunnel *make_tunnel(struct relay_context *relay, const struct document *document,
                                        struct error *err)
{
    struct relay_tunnel *t = calloc(1, sizeof *t);
    if (t == NULL) {
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
    struct tunnel_config config = {.role = LANE_AGENT, .document = &t->document};
    if (session_tunnel_init(&t->base, &session_ops, relay->network, &relay->pool, &config, err) < 0) {
        free(t);
        return NULL;
    }
    t->base.endpoints.linger = relay->linger;
    t->base.endpoints.number = ++relay->sessions_started;
    t->base.endpoints.dial_timeout_ms = relay->config->dial_timeout_ms;
    t->base.endpoints.permit = permit;
    t->base.endpoints.changed = changed;
    t->base.endpoints.opened = endpoint_opened;
    t->base.endpoints.closed = endpoint_closed;
    t->base.endpoints.probed = probed;
    t->base.endpoints.context = t;
    tcp_endpoints_init(&t->base.endpoints);
    list_append(&relay->tunnels, &t->link);
    return t;
}

/* ---- the surface --------------------------------------------------------------------------------------- */

static int start(struct relay_session *s, struct relay_tunnel *t, struct error *err)
{
    const struct task_settings *config = s->relay->config;
    struct lane_config lane = {.role = LANE_AGENT,
                               .keep_alive_ms = config->keep_alive_ms,
                               .document = &s->document,
                               .agent_version = config->agent_version,
                               .extension = {.lanes = true, .destinations = s->document.any_destination},
                               .channel = {.messages_per_second = config->max_messages_per_second,
                                           .burst_messages = config->burst_messages,
                                           .ping_interval_ms = CONTROL_CHANNEL_PING_MS}};
    memcpy(lane.extension.secret, t->secret, sizeof lane.extension.secret);
    if (session_init(&s->base, &t->base, &lane, err) < 0)
        return err->code;
    gateway_init(&s->base.link, s->relay->client, GATEWAY_DATA, str_from(s->document.session_id),
                 s->relay->target_id);
    session_link(&s->base);
    log_event(LOG_INFO, "session started", LOG_ALWAYS, LOG_TEXT("session", s->document.session_id),
              LOG_TEXT("owner", s->document.owner), LOG_TEXT("document", s->document.document_name),
              LOG_TEXT("host", s->document.host), LOG_I64("port", s->document.port));
    gateway_open(&s->base.link);
    struct error probe = ERROR_INIT;
    if (begin_probe(t, &probe) < 0)
        relay_session_end(s, true, str_from(probe.text));
    wake(t);
    return 0;
}

struct relay_session *relay_session_start(struct relay_context *relay, const struct document *document,
                                          void (*over)(struct relay_session *session, void *owner),
                                          void *owner, struct error *err)
{
    struct relay_tunnel *t = make_tunnel(relay, document, err);
    struct relay_session *s = t != NULL ? calloc(1, sizeof *s) : NULL;
    if (t == NULL)
        return NULL;
    if (s != NULL) {
        *s = (struct relay_session){.relay = relay, .over = over, .owner = owner, .document = *document};
        if (start(s, t, err) == 0)
            return s;
    } else {
        error_set(err, ERROR_SYSTEM, "out of memory for a session");
    }
    tunnel_ended(&t->base);
    free(s);
    return NULL;
}

void relay_session_free(struct relay_session *s)
{
    session_release(&s->base);
    free(s);
}

void relay_session_end(struct relay_session *s, bool failed, struct str reason)
{
    session_end(&s->base, failed, reason);
}

const char *relay_session_id(const struct relay_session *s)
{
    return s->document.session_id;
}

int64_t relay_session_started_ms(const struct relay_session *s)
{
    return s->base.started_ms;
}

bool relay_session_failed(const struct relay_session *s)
{
    return s->base.lane.failed;
}

const char *relay_session_reason(const struct relay_session *s)
{
    return s->base.lane.reason;
}
