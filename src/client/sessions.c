#include "client/sessions.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "channel/control_channel.h"
#include "client/task.h"
#include "client/terminate.h"
#include "host/clock.h"
#include "host/memory.h"

enum stream_use {
    STREAM_NONE,
    STREAM_CONNECTED, /* a local connection has it */
    STREAM_STANDBY,   /* opened by a check, for the next connection */
    STREAM_ASKING     /* a SOCKS client waits for the target's answer */
};

struct client_stream {
    uint8_t use;
    uint8_t forward;
    bool ended;                 /* a standby that is to be closed */
    struct client_socks *socks; /* ASKING */
};

struct client_tunnel {
    struct session_tunnel base;
    struct client_sessions *set;
    uint32_t lead;    /* the session that began it */
    size_t forward;   /* whose target its document names: that stream needs no destination of its own */
    bool is_breaking; /* a connection that the far end broke is being reset */
    struct client_stream streams[STREAMS_MAX];
    /* What its agent calls it. Each session's agent offers a name; the first one's holds. */
    char secret[HANDSHAKE_SECRET_SIZE];
    char destination[DIAL_POLICY_HOST_SIZE + sizeof "[]:65535"];
};

enum session_state { SESSION_STARTING, SESSION_RUNNING, SESSION_CLOSING };

struct client_session {
    struct session base;
    struct client_sessions *set;
    uint32_t index;
    size_t forward; /* whose target its document names */
    enum session_state state;
    bool is_ending;     /* by the owner's wish */
    bool not_connected; /* StartSession: no agent answers for the target */
    bool final;
    struct gateway_session gateway;
    struct aws_call call; /* StartSession */
    struct client_terminate terminate;
    char target[METADATA_TARGET_SIZE];
    char body[SSM_BODY_SIZE];
};

static struct loop *loop_of(const struct client_sessions *set)
{
    return set->client->network->loop;
}

static int64_t now_of(const struct client_sessions *set)
{
    return loop_now_ms(loop_of(set));
}

static struct client_tunnel *tunnel_of(struct session_tunnel *base)
{
    return LOOP_OWNER(base, struct client_tunnel, base);
}

static struct client_session *session_of(struct session *base)
{
    return LOOP_OWNER(base, struct client_session, base);
}

/* ---- which session is whose ---------------------------------------------------------------------------- */

static size_t forward_of(const struct client_sessions *set, uint32_t session)
{
    return set->mode == CLIENT_MODE_SHARED ? 0 : session / set->config->sessions;
}

uint32_t client_sessions_of(const struct client_sessions *set, size_t forward)
{
    return set->mode == CLIENT_MODE_SEPARATE ? (uint32_t) forward * set->config->sessions : 0;
}

uint32_t client_sessions_wanted(const struct client_sessions *set)
{
    switch (set->mode) {
    case CLIENT_MODE_UNKNOWN:
        break;
    case CLIENT_MODE_SHARED:
        return set->config->sessions;
    case CLIENT_MODE_SEPARATE:
        return (uint32_t) set->forward_count * set->config->sessions;
    }
    return 1;
}

/* The first session's handshake says what the others are to be; so does that of one which replaces them all,
 * for the task that comes next may have another agent. */
static void choose_mode(struct client_sessions *set, const struct session *session)
{
    const struct lane *lane = &session->lane;
    bool is_alone = session->tunnel->tunnel.lane_count == 1;
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++)
        is_alone = is_alone && (set->tunnels[i] == NULL || &set->tunnels[i]->base == session->tunnel);
    bool one_target = set->forward_count == 1;
    bool shares = lane_has_pieces(lane) && (lane_has_destinations(lane) || one_target);
    set->agent_is_ours = lane_peer_is_ours(lane);
    utf8_copy_cut(str_from(lane_peer_version(lane)), set->agent, sizeof set->agent);
    if (is_alone)
        set->mode = shares ? CLIENT_MODE_SHARED : CLIENT_MODE_SEPARATE;
}

static bool has_socks(const struct client_sessions *set)
{
    for (size_t i = 0; i < set->forward_count; i++)
        if (set->forwards[i].kind == LOCAL_FORWARD_SOCKS)
            return true;
    return false;
}

/* The open tunnel for this forward that has fewest streams; null when there is none. */
static struct client_tunnel *find_tunnel(struct client_sessions *set, size_t forward)
{
    struct client_tunnel *best = NULL;
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++) {
        struct client_tunnel *t = set->tunnels[i];
        if (t == NULL || !tunnel_is_open(&t->base.tunnel) ||
            tunnel_open_streams(&t->base.tunnel) >= CLIENT_STREAMS_MAX)
            continue;
        /* Where streams can't name their target, they all go to the document's. */
        if (t->forward != forward && !(set->mode == CLIENT_MODE_SHARED && t->base.tunnel.has_destinations))
            continue;
        if (best == NULL || tunnel_open_streams(&t->base.tunnel) < tunnel_open_streams(&best->base.tunnel))
            best = t;
    }
    return best;
}

/* One without a connection: it ends as if a user had left. */
static void end_stream(struct client_tunnel *t, uint16_t stream)
{
    t->streams[stream].ended = true;
    tunnel_notify(&t->base.tunnel, now_of(t->set), stream, TUNNEL_ENDPOINT_READABLE, str_from(NULL));
}

/* ---- checks and standbys ------------------------------------------------------------------------------- */

static void set_check_timer(struct client_sessions *set)
{
    int64_t at_ms = CLOCK_NEVER;
    for (size_t i = 0; i < set->forward_count; i++)
        if ((set->checks[i].pending || set->checks[i].tunnel != NULL) && set->checks[i].until_ms < at_ms)
            at_ms = set->checks[i].until_ms;
    loop_timer_set(loop_of(set), &set->check_timer, at_ms);
}

/* Every target has said something: what is the answer? */
static void conclude_check(struct client_sessions *set)
{
    const char *text = "";
    bool failed = false;
    if (!set->checking)
        return;
    for (size_t i = 0; i < set->forward_count; i++) {
        if (set->checks[i].pending)
            return;
        if (set->checks[i].failed && !failed)
            text = set->checks[i].text;
        failed = failed || set->checks[i].failed;
    }
    set->checking = false;
    set->checked(set, failed ? FORWARD_FAILED : FORWARD_DONE, text);
}

static void check_answered(struct client_sessions *set, struct client_check *check)
{
    if (!check->pending)
        return;
    check->pending = false;
    check->until_ms = clock_after_ms(now_of(set), CLIENT_STANDBY_MS);
    set_check_timer(set);
}

static void check_failed(struct client_sessions *set, size_t forward, const char *why)
{
    struct client_check *check = &set->checks[forward];
    const struct local_forward *f = &set->forwards[forward];
    struct writer text = writer_of(check->text, sizeof check->text);
    check->tunnel = NULL;
    if (!check->pending)
        return;
    check->pending = false;
    check->failed = true;
    writer_format(&text,
                  strchr(f->host, ':') != NULL ? "[%s]:%u does not answer: %.300s"
                                               : "%s:%u does not answer: %.300s",
                  f->host, f->host_port, why);
    writer_terminate(&text);
    set_check_timer(set);
}

static void end_standby(struct client_check *check)
{
    struct client_tunnel *t = check->tunnel;
    check->tunnel = NULL;
    end_stream(t, check->stream);
    session_tunnel_wake(&t->base);
}

static void check_expired(struct loop_timer *timer)
{
    struct client_sessions *set = LOOP_OWNER(timer, struct client_sessions, check_timer);
    for (size_t i = 0; i < set->forward_count; i++) {
        struct client_check *check = &set->checks[i];
        if (check->until_ms > now_of(set))
            continue;
        if (check->pending && !set->agent_is_ours) {
            check_answered(set, check);
        } else if (check->pending) {
            end_standby(check);
            check_failed(set, i, "nothing came back within 20s");
        } else if (check->tunnel != NULL) {
            end_standby(check);
        }
    }
    set_check_timer(set);
    conclude_check(set);
}

static void begin_check(struct client_sessions *set, size_t forward)
{
    struct client_check *check = &set->checks[forward];
    struct client_tunnel *t = find_tunnel(set, forward);
    *check = (struct client_check){.pending = true};
    if (set->forwards[forward].kind == LOCAL_FORWARD_SOCKS) {
        check->pending = false;
        return;
    }
    uint16_t stream = t != NULL ? tunnel_open(&t->base.tunnel, now_of(set)) : STREAMS_NONE;
    if (stream == STREAMS_NONE) {
        check_failed(set, forward, "its session is over");
        return;
    }
    int64_t limit_ms = set->agent_is_ours ? CLIENT_ANSWER_MS : CLIENT_SILENCE_MS;
    t->streams[stream] = (struct client_stream){.use = STREAM_STANDBY, .forward = (uint8_t) forward};
    check->tunnel = t;
    check->stream = stream;
    check->until_ms = clock_after_ms(now_of(set), limit_ms);
    session_tunnel_wake(&t->base);
}

void client_sessions_check(struct client_sessions *set)
{
    for (size_t i = 0; i < set->forward_count; i++)
        if (set->checks[i].tunnel != NULL)
            end_standby(&set->checks[i]);
    set->checking = true;
    for (size_t i = 0; i < set->forward_count; i++)
        begin_check(set, i);
    set_check_timer(set);
    loop_timer_set(loop_of(set), &set->soon, now_of(set));
}

static void soon_expired(struct loop_timer *timer)
{
    conclude_check(LOOP_OWNER(timer, struct client_sessions, soon));
}

/* The standby of this stream is no more. */
static void standby_gone(struct client_tunnel *t, uint16_t stream, const char *why)
{
    struct client_sessions *set = t->set;
    size_t forward = t->streams[stream].forward;
    struct client_check *check = &set->checks[forward];
    t->streams[stream].use = STREAM_NONE;
    if (check->tunnel == t && check->stream == stream)
        check_failed(set, forward, why);
    loop_timer_set(loop_of(set), &set->soon, now_of(set));
}

/* ---- SOCKS clients that wait for an answer ------------------------------------------------------------- */

static void take_socks_out(struct client_tunnel *t, uint16_t stream)
{
    t->streams[stream].use = STREAM_NONE;
    t->streams[stream].socks = NULL;
}

static void socks_left(struct client_socks *c)
{
    struct client_tunnel *t = c->asker;
    take_socks_out(t, c->stream);
    tunnel_notify(&t->base.tunnel, now_of(t->set), c->stream, TUNNEL_ENDPOINT_BROKE,
                  STR_LITERAL("the client left before it had an answer"));
    session_tunnel_wake(&t->base);
}

static void socks_answered(struct client_tunnel *t, uint16_t stream)
{
    struct client_socks *c = t->streams[stream].socks;
    struct error err = ERROR_INIT;
    take_socks_out(t, stream);
    bool taken = client_socks_opened(c, &t->base.endpoints, stream, &err) == 0;
    tunnel_notify(&t->base.tunnel, now_of(t->set), stream,
                  taken ? TUNNEL_ENDPOINT_WRITABLE : TUNNEL_ENDPOINT_BROKE, str_from(err.text));
}

/* The stream is over at the other end. */
static void socks_refused(struct client_tunnel *t, uint16_t stream, const char *why)
{
    struct client_socks *c = t->streams[stream].socks;
    take_socks_out(t, stream);
    client_socks_refused(c, why);
    t->set->changed(t->set);
}

/* The tunnel is over: the next may answer them. */
static void give_socks_back(struct client_tunnel *t)
{
    for (uint16_t i = 0; i < t->base.tunnel.streams.untouched; i++) {
        struct client_socks *c = t->streams[i].socks;
        if (c == NULL)
            continue;
        take_socks_out(t, i);
        client_socks_ask_again(c);
    }
}

bool client_sessions_ask(struct client_sessions *set, struct client_socks *c)
{
    struct client_tunnel *t = find_tunnel(set, c->forward);
    bool names_targets = t != NULL && t->base.tunnel.has_destinations;
    uint16_t stream = names_targets ? tunnel_open(&t->base.tunnel, now_of(set)) : STREAMS_NONE;
    if (stream == STREAMS_NONE)
        return false;
    t->streams[stream] =
        (struct client_stream){.use = STREAM_ASKING, .forward = (uint8_t) c->forward, .socks = c};
    c->left = socks_left;
    c->asker = t;
    c->stream = stream;
    session_tunnel_wake(&t->base);
    return true;
}

/* ---- local connections --------------------------------------------------------------------------------- */

static void endpoints_changed(void *context)
{
    session_tunnel_wake(&((struct client_tunnel *) context)->base);
}

static void endpoint_opened(void *context, const struct tcp_endpoint *endpoint)
{
    struct client_tunnel *t = context;
    t->streams[endpoint->stream].use = STREAM_CONNECTED;
    t->set->connections++;
    t->set->total_connections++;
}

static void endpoint_closed(void *context, const struct tcp_endpoint *endpoint, const char *why)
{
    struct client_tunnel *t = context;
    const struct streams_slot *stream = tunnel_stream(&t->base.tunnel, endpoint->stream);
    log_event(t->is_breaking ? LOG_WARN : LOG_INFO, "connection closed",
              LOG_I64("forward", t->streams[endpoint->stream].forward),
              LOG_I64("bytes_to_target", stream->bytes_from_endpoint),
              LOG_I64("bytes_from_target", stream->bytes_to_endpoint),
              LOG_DURATION_MS("duration", now_of(t->set) - endpoint->since_ms), LOG_TEXT("why", why));
    t->streams[endpoint->stream].use = STREAM_NONE;
    t->set->connections--;
    t->set->changed(t->set);
}

/* A client opens its endpoints itself. */
static void open_endpoint(void *context, uint16_t stream, const char *host, uint16_t port)
{
    (void) host;
    (void) port;
    struct client_tunnel *t = tunnel_of(context);
    tunnel_notify(&t->base.tunnel, now_of(t->set), stream, TUNNEL_ENDPOINT_FAILED,
                  STR_LITERAL("this end opens no connections"));
}

static void read_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                          struct tunnel_result *result)
{
    struct client_tunnel *t = tunnel_of(context);
    if (t->streams[stream].use == STREAM_CONNECTED)
        tcp_endpoints_read(&t->base.endpoints, stream, vectors, count, result);
    else
        result->ended = t->streams[stream].ended;
}

static void write_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                           struct tunnel_result *result)
{
    struct client_tunnel *t = tunnel_of(context);
    if (t->streams[stream].use == STREAM_CONNECTED)
        tcp_endpoints_write(&t->base.endpoints, stream, vectors, count, result);
    else if (t->streams[stream].use == STREAM_STANDBY)
        /* a server that speaks first: that is an answer, and it waits for the connection */
        check_answered(t->set, &t->set->checks[t->streams[stream].forward]);
    loop_timer_set(loop_of(t->set), &t->set->soon, now_of(t->set));
}

static void shut_endpoint(void *context, uint16_t stream)
{
    struct client_tunnel *t = tunnel_of(context);
    if (t->streams[stream].use == STREAM_CONNECTED) {
        tcp_endpoints_shut(&t->base.endpoints, stream);
        return;
    }
    if (t->streams[stream].use == STREAM_ASKING)
        socks_refused(t, stream, "the other end closed the connection and gave no answer");
    end_stream(t, stream);
}

/* False when it has a connection. */
static bool end_without_connection(struct client_tunnel *t, uint16_t stream, const char *why)
{
    switch ((enum stream_use) t->streams[stream].use) {
    case STREAM_CONNECTED:
        return false;
    case STREAM_STANDBY:
        standby_gone(t, stream, why);
        break;
    case STREAM_ASKING:
        socks_refused(t, stream, why);
        break;
    case STREAM_NONE:
        break;
    }
    return true;
}

static void close_endpoint(void *context, uint16_t stream, const char *why)
{
    struct client_tunnel *t = tunnel_of(context);
    if (!end_without_connection(t, stream, why))
        tcp_endpoints_end(&t->base.endpoints, stream, why);
}

static void reset_endpoint(void *context, uint16_t stream, const char *why)
{
    struct client_tunnel *t = tunnel_of(context);
    if (end_without_connection(t, stream, why))
        return;
    t->is_breaking = true;
    tcp_endpoints_reset(&t->base.endpoints, stream, why);
    t->is_breaking = false;
}

static const struct turn_endpoint_ops endpoint_ops = {.open = open_endpoint,
                                                      .read = read_endpoint,
                                                      .write = write_endpoint,
                                                      .shut = shut_endpoint,
                                                      .close = close_endpoint,
                                                      .reset = reset_endpoint};

/* A standby that is still good. */
static bool take_standby(struct client_sessions *set, size_t forward, int fd)
{
    struct client_check *check = &set->checks[forward];
    struct client_tunnel *t = check->tunnel;
    struct error err = ERROR_INIT;
    if (t == NULL || check->pending || t->streams[check->stream].ended)
        return false;
    check->tunnel = NULL;
    set_check_timer(set);
    if (tcp_endpoints_adopt(&t->base.endpoints, check->stream, fd, &err) < 0)
        tunnel_notify(&t->base.tunnel, now_of(set), check->stream, TUNNEL_ENDPOINT_BROKE, str_from(err.text));
    else
        tunnel_notify(&t->base.tunnel, now_of(set), check->stream, TUNNEL_ENDPOINT_WRITABLE, str_from(NULL));
    session_tunnel_wake(&t->base);
    return true;
}

bool client_sessions_connect(struct client_sessions *set, size_t forward, int fd)
{
    struct error err = ERROR_INIT;
    if (take_standby(set, forward, fd))
        return true;
    struct client_tunnel *t = find_tunnel(set, forward);
    uint16_t stream = t != NULL ? tunnel_open(&t->base.tunnel, now_of(set)) : STREAMS_NONE;
    if (stream == STREAMS_NONE)
        return false;
    t->streams[stream] = (struct client_stream){.forward = (uint8_t) forward};
    if (tcp_endpoints_adopt(&t->base.endpoints, stream, fd, &err) < 0)
        tunnel_notify(&t->base.tunnel, now_of(set), stream, TUNNEL_ENDPOINT_BROKE, str_from(err.text));
    session_tunnel_wake(&t->base);
    return true;
}

/* ---- the ends of sessions ------------------------------------------------------------------------------ */

static void forget(struct client_session *s)
{
    struct client_sessions *set = s->set;
    aws_call_cancel(&s->call);
    client_terminate_cancel(&s->terminate);
    set->sessions[s->index] = NULL;
    bytes_wipe(s->gateway.started.token, sizeof s->gateway.started.token);
    free(s);
}

/* It is over at both ends. */
static void tell_end(struct client_session *s)
{
    struct client_sessions *set = s->set;
    uint32_t index = s->index;
    bool is_ending = s->is_ending;
    bool final = s->final;
    char why[LANE_TEXT_SIZE];
    memcpy(why, s->base.lane.reason, sizeof why);
    session_release(&s->base);
    forget(s);
    if (is_ending)
        set->ended(set, index);
    else
        set->over(set, index, final, why[0] != '\0' ? why : "the session ended");
}

static void terminated(struct client_terminate *terminate)
{
    tell_end(LOOP_OWNER(terminate, struct client_session, terminate));
}

/* The lane is over. TerminateSession follows in any case: the service may not have heard of it. */
static void session_over(struct session *base, struct session_tunnel *tunnel, bool is_last)
{
    struct client_session *s = session_of(base);
    struct client_tunnel *t = tunnel_of(tunnel);
    if (is_last) {
        for (size_t i = 0; i < s->set->forward_count; i++)
            if (s->set->checks[i].tunnel == t)
                check_failed(s->set, i, base->lane.reason);
        tcp_endpoints_close(&tunnel->endpoints, "the session ended");
        give_socks_back(t);
    }
    gateway_close(&base->link);
    s->state = SESSION_CLOSING;
    s->terminate.done = terminated;
    client_terminate_start(&s->terminate, s->set->client, NULL, s->gateway.started.id, CLIENT_TERMINATE_MS);
}

static void link_lost(struct session *base, const struct gateway_down *down)
{
    struct client_session *s = session_of(base);
    s->final = s->final || (down->is_final && down->code == ERROR_DENIED);
    s->set->lost(s->set, s->index, down);
}

static void session_ready(struct session *base)
{
    struct client_session *s = session_of(base);
    if (has_socks(s->set) && !(lane_has_pieces(&base->lane) && lane_has_destinations(&base->lane))) {
        s->final = true;
        session_end(base, true,
                    STR_LITERAL("-D needs fumidai at the other end, and a document that leaves the host to "
                                "its user"));
        return;
    }
    struct client_tunnel *t = tunnel_of(base->tunnel);
    if (t->secret[0] == '\0')
        str_copy(str_from(lane_secret(&base->lane)), t->secret, sizeof t->secret);
    choose_mode(s->set, base);
    memcpy(s->set->banner, base->lane.banner, sizeof s->set->banner);
    s->set->opened(s->set, s->index);
}

/* ---- tunnels ------------------------------------------------------------------------------------------- */

static void write_target(struct writer *out, const char *host, uint16_t port)
{
    writer_format(out, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
}

static void tunnel_event(struct session_tunnel *tunnel, const struct tunnel_step *step,
                         struct tunnel_result *result)
{
    struct client_tunnel *t = tunnel_of(tunnel);
    struct client_stream *stream = &t->streams[step->stream];
    struct writer text = writer_of(t->destination, sizeof t->destination);
    if (step->type == TUNNEL_STEP_ANSWERED && stream->use == STREAM_STANDBY) {
        check_answered(t->set, &t->set->checks[stream->forward]);
        loop_timer_set(loop_of(t->set), &t->set->soon, now_of(t->set));
    } else if (step->type == TUNNEL_STEP_ANSWERED && stream->use == STREAM_ASKING) {
        socks_answered(t, step->stream);
    } else if (step->type == TUNNEL_STEP_DESTINATION && stream->use == STREAM_ASKING) {
        write_target(&text, stream->socks->request.host, stream->socks->request.port);
        result->text = writer_view(&text);
    } else if (step->type == TUNNEL_STEP_DESTINATION && stream->forward != t->forward) {
        const struct local_forward *f = &t->set->forwards[stream->forward];
        write_target(&text, f->host, f->host_port);
        result->text = writer_view(&text);
    }
}

static void tunnel_ended(struct session_tunnel *tunnel)
{
    struct client_tunnel *t = tunnel_of(tunnel);
    t->set->tunnels[t->lead] = NULL;
    session_tunnel_release(tunnel);
    bytes_wipe(t->secret, sizeof t->secret);
    free(t);
}

static const struct session_ops session_ops = {.endpoints = &endpoint_ops,
                                               .ready = session_ready,
                                               .lost = link_lost,
                                               .over = session_over,
                                               .event = tunnel_event,
                                               .ended = tunnel_ended};

static struct client_tunnel *make_tunnel(struct client_sessions *set, const struct client_session *s,
                                         struct error *err)
{
    struct client_tunnel *t = calloc(1, sizeof *t);
    struct tunnel_config config = {.role = LANE_CLIENT};
    if (t == NULL) {
        error_set(err, ERROR_SYSTEM, "out of memory for a session");
        return NULL;
    }
    t->set = set;
    t->lead = s->index;
    t->forward = s->forward;
    if (session_tunnel_init(&t->base, &session_ops, set->client->network, &set->pool, &config, err) < 0) {
        free(t);
        return NULL;
    }
    t->base.endpoints.linger = &set->linger;
    t->base.endpoints.number = ++set->tunnels_started;
    t->base.endpoints.changed = endpoints_changed;
    t->base.endpoints.opened = endpoint_opened;
    t->base.endpoints.closed = endpoint_closed;
    t->base.endpoints.context = t;
    tcp_endpoints_init(&t->base.endpoints);
    set->tunnels[s->index] = t;
    return t;
}

/* ---- the start of a session ---------------------------------------------------------------------------- */

static int make_start(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                      struct error *err)
{
    struct client_session *s = LOOP_OWNER(call, struct client_session, call);
    const struct local_forward *f = &s->set->forwards[s->forward];
    bool is_socks = f->kind == LOCAL_FORWARD_SOCKS;
    const char *document = s->set->config->document_name;
    char port_memory[8];
    char local_memory[8];
    struct writer port = writer_of(port_memory, sizeof port_memory);
    struct writer local = writer_of(local_memory, sizeof local_memory);
    struct writer body = writer_of(s->body, sizeof s->body);
    writer_u64_decimal(&port, is_socks ? DOCUMENT_ANY_PORT : f->host_port);
    writer_u64_decimal(&local, f->port);
    struct ssm_start_session start = {.target = str_from(s->target),
                                      .host = str_from(is_socks ? DOCUMENT_ANY_HOST : f->host),
                                      .port_number = writer_view(&port),
                                      .local_port_number =
                                          f->port != 0 ? writer_view(&local) : str_from(NULL),
                                      .reason = str_from(s->set->reason)};
    if (has_socks(s->set) && document[0] == '\0')
        start.document = STR_LITERAL(SSM_DOCUMENT_HOST); /* the only one that leaves the host to the user */
    else
        ssm_choose_document(&start, str_from(document));
    ssm_write_start_session(&body, &start);
    if (body.failed)
        return error_set(err, ERROR_TOO_LARGE, "the names are too long");
    return api_request_json(request, endpoint, SSM_TARGET_START_SESSION, writer_view(&body), err);
}

static enum api_class read_start(struct aws_call *call, const struct api_answer *answer,
                                 struct api_failure *failure, struct error *err)
{
    struct client_session *s = LOOP_OWNER(call, struct client_session, call);
    enum api_class class = ssm_read_start_session(&s->gateway.started, answer, failure, err);
    s->not_connected = class != API_OK && strcmp(failure->type, "TargetNotConnected") == 0;
    return class;
}

static const struct aws_operation start_operation = {
    .api = SSM_START_SESSION_CALL, .is_signed = true, .make = make_start, .classify = read_start};

/* The tunnel that a session with this document is to be a lane of; null: a new one. */
static struct client_tunnel *tunnel_to_join(struct client_sessions *set, size_t forward)
{
    struct client_tunnel *t = set->mode == CLIENT_MODE_SHARED ? find_tunnel(set, forward) : NULL;
    return t != NULL && t->forward == forward && t->base.tunnel.lane_count < TUNNEL_LANES_MAX ? t : NULL;
}

static int open_lane(struct client_session *s, struct error *err)
{
    struct client_sessions *set = s->set;
    struct client_tunnel *t = tunnel_to_join(set, s->forward);
    struct lane_config lane = {.role = LANE_CLIENT,
                               .keep_alive_ms = set->config->keep_alive_ms,
                               .extension = {.is_ours = true, .lanes = true, .destinations = true},
                               .channel = {.messages_per_second = set->config->max_messages_per_second,
                                           .burst_messages = set->config->burst_messages,
                                           .ping_interval_ms = CONTROL_CHANNEL_PING_MS}};
    if (t != NULL)
        memcpy(lane.extension.secret, t->secret, sizeof lane.extension.secret);
    else
        t = make_tunnel(set, s, err);
    if (t == NULL)
        return ERROR_SYSTEM;
    int result = session_init(&s->base, &t->base, &lane, err);
    if (result < 0) {
        if (t->base.tunnel.lane_count == 0)
            tunnel_ended(&t->base);
        return result;
    }
    s->gateway.reconnect_ms = set->config->reconnect_for_ms;
    /* Who has an SSM endpoint of their own is given StreamUrls of their own, too. */
    s->gateway.any_host = endpoint_is_configured(ENDPOINT_SSM, set->client->env);
    result = gateway_init_client(&s->base.link, set->client, &s->gateway, err);
    session_link(&s->base);
    if (result == 0) {
        gateway_open(&s->base.link);
    } else {
        s->final = true;
        session_end(&s->base, true, str_from(err->text));
    }
    session_tunnel_wake(&t->base);
    return 0;
}

static void start_done(struct aws_call *call)
{
    struct client_session *s = LOOP_OWNER(call, struct client_session, call);
    struct client_sessions *set = s->set;
    uint32_t index = s->index;
    struct error err = call->err;
    enum forward_result result = client_result(call->class, call->err.code);
    if (s->not_connected)
        result = FORWARD_NONE;
    s->state = SESSION_RUNNING;
    if (result == FORWARD_DONE && open_lane(s, &err) == 0) {
        set->started(set, index, FORWARD_DONE, "");
        return;
    }
    forget(s);
    set->started(set, index, result == FORWARD_DONE ? FORWARD_FAILED : result, err.text);
}

void client_sessions_start(struct client_sessions *set, uint32_t session, const char *target)
{
    struct client_session *s = calloc(1, sizeof *s);
    if (s == NULL) {
        set->started(set, session, FORWARD_FAILED, "out of memory for a session");
        return;
    }
    s->set = set;
    s->index = session;
    s->forward = forward_of(set, session);
    set->sessions[session] = s;
    utf8_copy_cut(str_from(target), s->target, sizeof s->target);
    s->call.client = set->client;
    s->call.operation = &start_operation;
    s->call.done = start_done;
    aws_call_start(&s->call, clock_after_ms(now_of(set), CLIENT_CALL_MS));
}

void client_sessions_end(struct client_sessions *set, uint32_t session)
{
    struct client_session *s = set->sessions[session];
    if (s == NULL) {
        set->ended(set, session);
        return;
    }
    s->is_ending = true;
    if (s->state == SESSION_RUNNING)
        session_end(&s->base, false, STR_LITERAL("the client has finished"));
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

int client_sessions_open(struct client_sessions *set, struct error *err)
{
    size_t len = (size_t) CLIENT_POOL_BLOCKS * POOL_BLOCK_SIZE;
    if (set->forward_count * set->config->sessions > FORWARD_SESSIONS_MAX)
        return error_set(err, ERROR_TOO_LARGE, "%zu forwards with %u sessions each: at most %d sessions",
                         set->forward_count, set->config->sessions, FORWARD_SESSIONS_MAX);
    set->pool_memory = memory_map(len);
    if (set->pool_memory == NULL ||
        !pool_init(&set->pool, set->pool_memory, CLIENT_POOL_BLOCKS, FORWARD_SESSIONS_MAX * SESSION_USERS))
        return error_set(err, ERROR_SYSTEM, "out of memory: no %zu KiB for messages", len / 1024);
    linger_open(&set->linger, loop_of(set), LINGER_MAX);
    loop_timer_init(&set->check_timer, check_expired);
    loop_timer_init(&set->soon, soon_expired);
    return 0;
}

void client_sessions_close(struct client_sessions *set)
{
    for (uint32_t i = 0; i < FORWARD_SESSIONS_MAX; i++) {
        struct client_session *s = set->sessions[i];
        if (s == NULL)
            continue;
        aws_call_cancel(&s->call);
        if (s->state != SESSION_STARTING)
            session_release(&s->base);
        forget(s);
    }
    linger_close(&set->linger);
}
