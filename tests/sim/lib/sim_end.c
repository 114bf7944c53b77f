#include "sim/lib/sim_end.h"

#include <string.h>

#include "base/num.h"
#include "lib/fresh_pool.h"

enum { TUNNEL_POOL, LANE_POOL };

static int64_t sim_now_ms; /* of the step under way: the tables of functions have no argument for it */

/* ---- endpoints ---- */

static struct play *play_of(struct sim_session *s, uint16_t stream)
{
    struct play *p = s->plays[stream];
    if (p == NULL)
        s->end->fault = "a step for an endpoint that is not there";
    return p;
}

static bool others_done(const struct sim_end *end)
{
    for (size_t i = 0; i < end->play_count; i++)
        if (end->plays[i].kind != PLAY_PING && !play_is_done(&end->plays[i]))
            return false;
    return true;
}

/* Agent: the target of the play whose stream this is. */
static void open_target(void *context, uint16_t stream, const char *host, uint16_t port)
{
    struct sim_session *s = context;
    struct sim_end *end = s->end;
    uint32_t id = tunnel_stream(&s->tunnel, stream)->id;
    struct play *p = NULL;
    for (size_t i = 0; i < end->play_count && id != 0; i++)
        if (end->plays[i].id == id && end->plays[i].syn_sent)
            p = &end->plays[i];
    if (id == 0 && end->basic_opens < end->play_count)
        p = &end->plays[end->basic_opens++];
    if (p == NULL || p->target != TARGET_NONE || s->plays[stream] != NULL) {
        end->fault = "a dial that nobody asked for";
        return;
    }
    if (end->options.destinations && (strcmp(host, "play.internal") != 0 || port != 1000 + (p - end->plays)))
        end->fault = "a dial of another target than the stream's own";
    p->target = TARGET_DIALLING;
    p->due_ms = sim_now_ms + p->dial_ms;
    s->plays[stream] = p;
}

static size_t capacity_of(const struct iovec *vectors, int count)
{
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += vectors[i].iov_len;
    return total;
}

static void read_target(struct sim_session *s, struct play *p, const struct iovec *vectors, int count,
                        struct tunnel_result *result)
{
    size_t n = num_min_size(play_available(p), capacity_of(vectors, count));
    if (n > 1 && dice_hits(&s->end->dice, 1000)) /* it came in pieces */
        n = dice_between(&s->end->dice, 1, (uint32_t) n);
    result->n = n;
    for (int i = 0; n > 0; i++) {
        size_t part = num_min_size(n, vectors[i].iov_len);
        play_give(p, vectors[i].iov_base, part);
        n -= part;
    }
    result->failed = result->n == 0 && play_target_breaks(p);
    result->ended = result->n == 0 && !result->failed && play_target_ended(p);
    result->more = play_available(p) > 0 || play_target_ended(p) || play_target_breaks(p);
}

static void read_client(struct sim_session *s, struct play *p, const struct iovec *vectors, int count,
                        struct tunnel_result *result)
{
    bool alone = others_done(s->end);
    size_t n = num_min_size(play_client_wants_to_say(p, sim_now_ms, alone), capacity_of(vectors, count));
    result->n = n;
    for (int i = 0; n > 0; i++) {
        size_t part = num_min_size(n, vectors[i].iov_len);
        play_client_say(p, sim_now_ms, vectors[i].iov_base, part);
        n -= part;
    }
    if (result->n == 0 && !p->fin_sent && play_client_ends(p, alone))
        p->fin_sent = result->ended = true;
    result->more =
        play_client_wants_to_say(p, sim_now_ms, alone) > 0 || (!p->fin_sent && play_client_ends(p, alone));
}

static void read_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                          struct tunnel_result *result)
{
    struct sim_session *s = context;
    struct play *p = play_of(s, stream);
    if (p == NULL || capacity_of(vectors, count) == 0 || capacity_of(vectors, count) > STREAMS_TURN_MAX) {
        s->end->fault = "a read from an endpoint that is not there, or of an odd size";
        return;
    }
    if (s->end->options.role == LANE_CLIENT)
        read_client(s, p, vectors, count, result);
    else
        read_target(s, p, vectors, count, result);
    if (result->failed) {
        p->target = TARGET_CLOSED;
        s->plays[stream] = NULL;
    }
}

static void write_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                           struct tunnel_result *result)
{
    struct sim_session *s = context;
    struct play *p = play_of(s, stream);
    for (int i = 0; i < count && p != NULL; i++) {
        size_t n = vectors[i].iov_len;
        if (s->end->options.role == LANE_CLIENT)
            play_client_hear(p, sim_now_ms, vectors[i].iov_base, n);
        else
            n = play_take(p, sim_now_ms, vectors[i].iov_base, n, &s->end->dice);
        result->n += n;
        if (n < vectors[i].iov_len)
            return;
    }
}

static void shut_endpoint(void *context, uint16_t stream)
{
    struct sim_session *s = context;
    struct play *p = play_of(s, stream);
    bool *heard = p == NULL ? NULL : s->end->options.role == LANE_CLIENT ? &p->fin_received : &p->heard_end;
    if (heard == NULL)
        return;
    if (*heard)
        s->end->fault = "SHUT twice";
    *heard = true;
}

static void leave_endpoint(struct sim_session *s, uint16_t stream, bool reset)
{
    struct play *p = play_of(s, stream);
    if (p == NULL)
        return;
    if (s->end->options.role == LANE_CLIENT) {
        p->fin_received = p->fin_sent = true;
    } else {
        p->target = TARGET_CLOSED;
        p->heard_end = true;
        p->was_reset = reset && !s->end->is_ending;
    }
    s->plays[stream] = NULL;
}

static void close_endpoint(void *context, uint16_t stream, const char *why)
{
    (void) why;
    leave_endpoint(context, stream, false);
}

static void reset_endpoint(void *context, uint16_t stream, const char *why)
{
    (void) why;
    leave_endpoint(context, stream, true);
}

static const struct turn_endpoint_ops endpoint_ops = {.open = open_target,
                                                      .read = read_endpoint,
                                                      .write = write_endpoint,
                                                      .shut = shut_endpoint,
                                                      .close = close_endpoint,
                                                      .reset = reset_endpoint};

/* What endpoints would tell of themselves. */
static void step_target(struct sim_session *s, uint16_t stream, int64_t now_ms)
{
    struct play *p = s->plays[stream];
    if (p->target == TARGET_DIALLING && now_ms >= p->due_ms) {
        if (p->kind == PLAY_REFUSE) {
            p->target = TARGET_CLOSED;
            s->plays[stream] = NULL;
            tunnel_notify(&s->tunnel, now_ms, stream, TUNNEL_ENDPOINT_FAILED, STR_LITERAL("refused"));
            return;
        }
        p->target = TARGET_OPEN;
        p->ever_open = true;
        p->took_ms = now_ms;
        tunnel_notify(&s->tunnel, now_ms, stream, TUNNEL_ENDPOINT_OPENED, STR_LITERAL("10.0.0.5:5439"));
    }
    if (p->target != TARGET_OPEN)
        return;
    if (!tunnel_stream(&s->tunnel, stream)->writable)
        tunnel_notify(&s->tunnel, now_ms, stream, TUNNEL_ENDPOINT_WRITABLE, (struct str){NULL, 0});
    if (play_available(p) > 0 || play_target_ended(p) || play_target_breaks(p))
        tunnel_notify(&s->tunnel, now_ms, stream, TUNNEL_ENDPOINT_READABLE, (struct str){NULL, 0});
}

static void step_client(struct sim_session *s, uint16_t stream, int64_t now_ms)
{
    struct play *p = s->plays[stream];
    bool alone = others_done(s->end);
    if (play_client_wants_to_say(p, now_ms, alone) > 0 || (!p->fin_sent && play_client_ends(p, alone)))
        tunnel_notify(&s->tunnel, now_ms, stream, TUNNEL_ENDPOINT_READABLE, (struct str){NULL, 0});
}

/* Client: local connections that come now. Basic sessions have one after the other. */
static void open_connections(struct sim_session *s, int64_t now_ms)
{
    bool basic = s->tunnel.mode != TUNNEL_MULTIPLEXED;
    if (s->end->options.role == LANE_AGENT || !tunnel_is_open(&s->tunnel) || s->end->is_ending)
        return;
    for (size_t i = 0; i < s->end->play_count; i++) {
        struct play *p = &s->end->plays[i];
        if (p->syn_sent || now_ms < p->open_ms)
            continue;
        uint16_t stream = tunnel_open(&s->tunnel, now_ms);
        if (stream == STREAMS_NONE)
            return;
        p->syn_sent = true;
        p->id = tunnel_stream(&s->tunnel, stream)->id;
        s->plays[stream] = p;
        if (basic)
            return;
    }
}

/* ---- lanes ---- */

static const uint8_t *receive(void *context, unsigned lane, size_t *len)
{
    return sim_link_receive(&((struct sim_session *) context)->lanes[lane]->link, sim_now_ms, len);
}

static void received(void *context, unsigned lane, size_t len)
{
    sim_link_received(&((struct sim_session *) context)->lanes[lane]->link, len);
}

static size_t send_bytes(void *context, unsigned lane, const void *data, size_t len)
{
    return sim_link_send(&((struct sim_session *) context)->lanes[lane]->link, sim_now_ms, data, len);
}

static const struct turn_lane_ops lane_ops = {.receive = receive, .received = received, .send = send_bytes};

static void join(struct sim_session *s, struct str secret)
{
    struct error err = ERROR_INIT;
    struct sim_session *first = &s->end->sessions[0];
    if (s == first || !str_equal_text(secret, first->secret)) {
        s->end->fault = "a session wants to join a tunnel that is not there";
        return;
    }
    int index = tunnel_move_lane(&s->tunnel, 0, &first->tunnel, sim_now_ms, &err);
    if (index < 0) {
        lane_end(&s->lane, sim_now_ms, true, str_from(err.text));
        return;
    }
    first->lanes[index] = s;
    s->has_tunnel = false;
    tunnel_release(&s->tunnel);
}

static void lane_over(struct sim_session *owner, unsigned index)
{
    struct sim_session *s = owner->lanes[index];
    for (unsigned i = index; i < owner->tunnel.lane_count; i++)
        owner->lanes[i] = owner->lanes[i + 1];
    s->is_over = true;
    s->failed = s->lane.failed;
    memcpy(s->reason, s->lane.reason, sizeof s->reason);
    lane_release(&s->lane);
    s->end->over++;
}

static void start_session(struct sim_end *end, unsigned index, int64_t now_ms);

static void event(void *context, const struct tunnel_step *step, struct tunnel_result *result)
{
    static char target[64];
    struct sim_session *s = context;
    struct sim_end *end = s->end;
    switch (step->type) {
    case TUNNEL_STEP_LANE_OPEN:
        if (end->options.role == LANE_CLIENT && !end->is_open)
            for (unsigned i = 1; i < end->options.lanes && s->tunnel.has_pieces; i++)
                start_session(end, i, sim_now_ms);
        end->is_open = true;
        break;
    case TUNNEL_STEP_LANE_LOST:
        sim_link_lose(&s->lanes[step->lane]->link, sim_now_ms);
        break;
    case TUNNEL_STEP_LANE_OVER:
        lane_over(s, step->lane);
        break;
    case TUNNEL_STEP_JOIN:
        join(s, step->text);
        break;
    case TUNNEL_STEP_DESTINATION: {
        struct writer out = writer_of(target, sizeof target);
        writer_format(&out, "play.internal:%u", (unsigned) (1000 + (s->plays[step->stream] - end->plays)));
        result->text = writer_view(&out);
        break;
    }
    case TUNNEL_STEP_ANSWERED:
        if (!str_equal_text(step->text, "10.0.0.5:5439") && step->text.len > 0)
            end->fault = "the answer arrived changed";
        break;
    case TUNNEL_STEP_UNKNOWN:
        end->fault = "an unknown message";
        break;
    default:
        end->fault = "a step that nobody knows";
        break;
    }
}

/* ---- the whole ---- */

static void start_session(struct sim_end *end, unsigned index, int64_t now_ms)
{
    struct sim_session *s = &end->sessions[index];
    int region = end->options.memory + 3 * (int) index;
    bool own_tunnel = end->options.role == LANE_AGENT || index == 0;
    struct lane_config config = {
        .role = end->options.role,
        .document = &s->document,
        .extension = {.is_ours = true,
                      .lanes = end->options.lanes > 1 || end->options.role == LANE_AGENT,
                      .destinations = end->options.destinations},
        .channel = {.messages_per_second = end->options.rate,
                    .burst_messages = end->options.burst,
                    .ping_interval_ms = end->options.role == LANE_AGENT ? 54000 : 300000,
                    .unix_offset_ms = 1700000000000,
                    .user = fresh_pool(region, FRESH_POOL_BLOCKS)},
        .memory = fresh_memory(region, LANE_MEMORY_SIZE)};
    memset(s, 0, sizeof *s);
    s->end = end;
    s->document.kind = end->options.kind;
    str_copy(STR_LITERAL("sim-0123456789"), s->document.session_id, sizeof s->document.session_id);
    str_copy(end->options.kind == DOCUMENT_LOCAL_FORWARDING
                 ? STR_LITERAL("{\"portNumber\":\"80\",\"type\":\"LocalPortForwarding\"}")
                 : STR_LITERAL("{\"portNumber\":\"80\"}"),
             s->document.properties, sizeof s->document.properties);
    str_copy(STR_LITERAL("db.internal"), s->document.host, sizeof s->document.host);
    s->document.port = 5439;
    for (size_t i = 0; i < sizeof config.channel.seed; i++)
        config.channel.seed[i] = (uint8_t) dice_next(&end->dice);
    if (end->options.role == LANE_AGENT) {
        struct writer out = writer_of(s->secret, sizeof s->secret);
        writer_format(&out, "%016x%016x", index, 0);
        memcpy(config.extension.secret, s->secret, sizeof s->secret);
    } else if (index > 0) {
        memcpy(config.extension.secret, lane_secret(&end->sessions[0].lane), sizeof s->secret);
    }
    lane_init(&s->lane, &config, now_ms);
    sim_link_init(&s->link, &end->gateways[index], &s->lane,
                  end->options.role == LANE_AGENT ? GATEWAY_AGENT : GATEWAY_CLIENT, &end->options.faults,
                  dice_next(&end->dice));
    s->link.small_pieces = end->options.small_pieces;
    if (own_tunnel) {
        tunnel_init(&s->tunnel,
                    &(struct tunnel_config){.role = end->options.role,
                                            .document = end->options.role == LANE_AGENT ? &s->document : NULL,
                                            .user = fresh_pool(region + 1, FRESH_POOL_BLOCKS),
                                            .memory = fresh_memory(region + 1, TUNNEL_MEMORY_SIZE)},
                    now_ms);
        s->has_tunnel = true;
    }
    struct sim_session *owner = own_tunnel ? s : &end->sessions[0];
    int lane = tunnel_add_lane(&owner->tunnel, &s->lane);
    owner->lanes[lane] = s;
    end->started++;
}

void sim_end_init(struct sim_end *end, const struct sim_end_options *options, struct gateway *gateways,
                  struct play *plays, size_t play_count, uint64_t seed)
{
    memset(end, 0, sizeof *end);
    end->options = *options;
    end->gateways = gateways;
    end->plays = plays;
    end->play_count = play_count;
    end->dice.state = seed;
    end->probe_ms = dice_between(&end->dice, 0, 2500);
    start_session(end, 0, 0);
}

static void service_speaks(struct sim_end *end, int64_t now_ms)
{
    if (!end->options.pauses || now_ms < end->speak_ms)
        return;
    end->paused = !end->paused;
    end->speak_ms = now_ms + dice_between(&end->dice, 1, 2000);
    sim_link_say(&end->sessions[0].link,
                 end->paused ? AGENT_MESSAGE_PAUSE_PUBLICATION : AGENT_MESSAGE_START_PUBLICATION, "");
}

static void step_tunnel(struct sim_session *s, int64_t now_ms)
{
    const struct turn turn = {
        .tunnel = &s->tunnel, .lanes = &lane_ops, .endpoints = &endpoint_ops, .event = event, .context = s};
    enum turn_result result = TURN_MORE;
    for (int i = 0; result == TURN_MORE && s->end->fault == NULL && s->has_tunnel; i++) {
        int64_t deadline_ms;
        open_connections(s, now_ms);
        for (uint16_t stream = 0; stream < s->tunnel.streams.untouched; stream++)
            if (s->plays[stream] != NULL && s->end->options.role == LANE_AGENT)
                step_target(s, stream, now_ms);
            else if (s->plays[stream] != NULL)
                step_client(s, stream, now_ms);
        result = turn_run(&turn, now_ms, &deadline_ms);
        s->end->turns_used_up += result == TURN_MORE;
        if (i > 10000)
            s->end->fault = "turns without an end";
    }
    if (result == TURN_OVER) {
        for (uint16_t stream = 0; stream < s->tunnel.streams.untouched; stream++)
            if (s->plays[stream] != NULL)
                leave_endpoint(s, stream, false);
        tunnel_release(&s->tunnel);
        s->has_tunnel = false;
    }
}

void sim_end_step(struct sim_end *end, int64_t now_ms)
{
    sim_now_ms = now_ms;
    if (!end->probed && end->options.role == LANE_AGENT && now_ms >= end->probe_ms) {
        end->probed = true;
        lane_probed(&end->sessions[0].lane, now_ms, STR_LITERAL("Connected to the simulated target."));
    }
    /* Agent: the service asks for a session when its client has started one. */
    while (end->options.role == LANE_AGENT && end->started < end->options.lanes &&
           end->gateways[end->started].sides[GATEWAY_CLIENT].connected)
        start_session(end, end->started, now_ms);
    for (unsigned i = 0; i < end->started; i++)
        if (!end->sessions[i].is_over)
            sim_link_step(&end->sessions[i].link, now_ms);
    service_speaks(end, now_ms);
    for (unsigned i = 0; i < end->started && end->fault == NULL; i++) {
        if (end->sessions[i].has_tunnel)
            step_tunnel(&end->sessions[i], now_ms);
        if (end->sessions[i].link.fault != NULL)
            end->fault = end->sessions[i].link.fault;
        if (end->sessions[i].has_tunnel && end->sessions[i].tunnel.held > HELD_MAX)
            end->fault = "more is held than may be";
    }
    end->is_done = end->started > 0 && end->over == end->started;
}

int64_t sim_end_due_ms(struct sim_end *end, int64_t now_ms)
{
    int64_t due_ms = INT64_MAX;
    if (!end->probed && end->options.role == LANE_AGENT)
        due_ms = end->probe_ms;
    if (end->options.pauses)
        due_ms = num_min_i64(due_ms, end->speak_ms);
    for (unsigned i = 0; i < end->started; i++) {
        struct sim_session *s = &end->sessions[i];
        if (!s->is_over)
            due_ms = num_min_i64(due_ms, sim_link_due_ms(&s->link));
        if (!s->has_tunnel)
            continue;
        due_ms = num_min_i64(due_ms, tunnel_deadline(&s->tunnel, now_ms));
        for (uint16_t stream = 0; stream < s->tunnel.streams.untouched; stream++) {
            const struct play *p = s->plays[stream];
            if (p == NULL)
                continue;
            if (end->options.role == LANE_CLIENT)
                due_ms = p->kind == PLAY_PING ? now_ms + 1 : due_ms;
            else if (p->target == TARGET_DIALLING)
                due_ms = num_min_i64(due_ms, p->due_ms);
            else if (p->kind != PLAY_NEVER && tunnel_stream(&s->tunnel, stream)->held.len > 0)
                due_ms = num_min_i64(due_ms, now_ms + 1);
        }
    }
    for (size_t i = 0; i < end->play_count && end->options.role == LANE_CLIENT && end->is_open; i++)
        if (!end->plays[i].syn_sent)
            due_ms = num_min_i64(due_ms, num_max_i64(end->plays[i].open_ms, now_ms + 1));
    return due_ms;
}

void sim_end_end(struct sim_end *end, int64_t now_ms, bool failed, const char *reason)
{
    end->is_ending = true;
    for (unsigned i = 0; i < end->started; i++)
        if (end->sessions[i].has_tunnel)
            tunnel_end(&end->sessions[i].tunnel, now_ms, failed, str_from(reason));
}

bool sim_end_close_session(struct sim_end *end, unsigned session)
{
    struct sim_session *s = &end->sessions[session];
    return session >= end->started || s->is_over ||
           sim_link_say(&s->link, AGENT_MESSAGE_CHANNEL_CLOSED, "{\"Output\":\"over and out\"}");
}

unsigned sim_end_open_streams(const struct sim_end *end)
{
    unsigned count = 0;
    for (unsigned i = 0; i < end->started; i++)
        if (end->sessions[i].has_tunnel)
            count += tunnel_open_streams(&end->sessions[i].tunnel);
    return count;
}

size_t sim_end_blocks(const struct sim_end *end)
{
    size_t count = 0;
    for (unsigned i = 0; i < end->started; i++) {
        const struct pool_user *lane = end->sessions[i].lane.channel.config.user;
        count += (size_t) lane->used + (size_t) lane->critical;
        if (end->sessions[i].tunnel.user != NULL)
            count +=
                (size_t) end->sessions[i].tunnel.user->used + (size_t) end->sessions[i].tunnel.user->critical;
    }
    return count;
}
