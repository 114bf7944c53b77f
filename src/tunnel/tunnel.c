#include "tunnel/tunnel.h"

#include <string.h>

#include "base/num.h"
#include "tunnel/internal.h"

void tunnel_init(struct tunnel *t, const struct tunnel_config *config, int64_t now_ms)
{
    memset(t, 0, sizeof *t);
    t->role = config->role;
    t->document = config->document;
    t->user = config->user;
    streams_init(&t->streams, config->memory);
    inbox_init(&t->pieces, (uint8_t *) config->memory + STREAMS_MEMORY_SIZE, config->user);
    t->decoding = t->writing = t->blocked = STREAMS_NONE;
    t->last_data_ms = now_ms;
    t->next_id = 3; /* the client's ids are odd; AWS's begins with 3 */
}

void tunnel_release(struct tunnel *t)
{
    for (uint16_t i = 0; i < t->streams.untouched; i++)
        held_drop(&tunnel_slot(t, i)->held, t->user);
    inbox_release(&t->pieces);
}

/* ---- streams' ends ---- */

void tunnel_free_stream(struct tunnel *t, uint16_t stream)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    t->held -= s->held.len;
    held_drop(&s->held, t->user);
    t->half_closed = (uint16_t) (t->half_closed - (s->fin_at_ms != 0));
    streams_remove(&t->streams, stream);
    if (t->decoding == stream)
        t->decoding = STREAMS_NONE;
    if (t->blocked == stream)
        t->blocked = STREAMS_NONE;
}

static void close_stream(struct tunnel *t, uint16_t stream, const char *why, struct tunnel_step *step)
{
    *step = (struct tunnel_step){.type = TUNNEL_STEP_CLOSE, .stream = stream, .why = why};
    tunnel_free_stream(t, stream);
}

/* The FIN that waited for quiet goes now. */
static void stop_waiting(struct tunnel *t, uint16_t stream, int64_t now_ms)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    if (s->fin_at_ms == 0)
        return;
    s->fin_at_ms = 0;
    t->half_closed--;
    s->fin_due = true;
    streams_queue(&t->streams, stream, now_ms);
}

void tunnel_settle(struct tunnel *t, uint16_t stream, int64_t now_ms, struct tunnel_step *step)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    if (s->state != STREAMS_OPEN || s->held.len > 0)
        return;
    if (t->mode != TUNNEL_MULTIPLEXED && (s->peer_ended || s->fin_sent)) {
        close_stream(t, stream, "the client disconnected", step);
        return;
    }
    if (!s->peer_ended)
        return;
    stop_waiting(t, stream, now_ms);
    if (s->ended && s->fin_sent) {
        close_stream(t, stream, "both ends are done", step);
        return;
    }
    if (s->shut)
        return;
    s->shut = true;
    *step = (struct tunnel_step){.type = TUNNEL_STEP_SHUT, .stream = stream};
    if (t->half_close || s->ended)
        return;
    /* The peer is gone whole: what the endpoint says from here on has no reader. FIN
     * answers, then the slot is free. */
    s->ended = true;
    s->readable = false;
    s->fin_due = true;
    streams_queue(&t->streams, stream, now_ms);
}

void tunnel_lose_endpoint(struct tunnel *t, uint16_t stream, int64_t now_ms, bool was_open)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    if (s->state == STREAMS_FREE || s->state == STREAMS_GONE)
        return;
    bool knows = s->fin_sent && (s->peer_ended || !t->is_ours); /* the peer has nothing to be told */
    if (knows || s->syn_due || (t->mode != TUNNEL_MULTIPLEXED && t->role == LANE_AGENT)) {
        tunnel_free_stream(t, stream);
        return;
    }
    t->held -= s->held.len;
    held_drop(&s->held, t->user);
    if (s->fin_at_ms != 0)
        t->half_closed--;
    s->fin_at_ms = 0;
    s->state = STREAMS_GONE;
    s->peer_ended = s->ended = s->shut = true;
    s->readable = s->opened_due = false;
    s->refused_due = t->is_ours || (!was_open && t->role == LANE_AGENT);
    s->fin_due = !t->is_ours;
    if (t->blocked == stream)
        t->blocked = STREAMS_NONE;
    streams_queue(&t->streams, stream, now_ms);
}

/* ---- lanes ---- */

int tunnel_add_lane(struct tunnel *t, struct lane *lane)
{
    if (t->lane_count == TUNNEL_LANES_MAX)
        return -1;
    t->lanes[t->lane_count] = lane;
    return t->lane_count++;
}

static void take_lane_out(struct tunnel *t, unsigned lane)
{
    t->lane_count--;
    for (unsigned i = lane; i < t->lane_count; i++)
        t->lanes[i] = t->lanes[i + 1];
}

int tunnel_move_lane(struct tunnel *from, unsigned index, struct tunnel *to, int64_t now_ms,
                     struct error *err)
{
    struct lane *lane = from->lanes[index];
    if (!tunnel_is_open(to))
        return error_set(err, ERROR_NOT_FOUND, "that tunnel is over");
    if (!to->has_pieces || !lane_has_pieces(lane))
        return error_set(err, ERROR_INVALID, "that tunnel takes no other sessions");
    if (tunnel_add_lane(to, lane) < 0)
        return error_set(err, ERROR_TOO_LARGE, "a tunnel takes %d sessions at most", TUNNEL_LANES_MAX);
    take_lane_out(from, index);
    from->over_told = true;
    lane_set_multiplexed(lane, true);
    data_channel_number_pieces(&lane->channel, &to->next_piece);
    lane_probed(lane, now_ms, (struct str){NULL, 0});
    return to->lane_count - 1;
}

bool tunnel_lane_wants_input(const struct tunnel *t, unsigned lane)
{
    return data_channel_wants_input(&t->lanes[lane]->channel);
}

uint8_t *tunnel_lane_in_buf(struct tunnel *t, unsigned lane, size_t *room)
{
    return data_channel_in_buf(&t->lanes[lane]->channel, room);
}

void tunnel_lane_in_ack(struct tunnel *t, unsigned lane, int64_t now_ms, size_t len)
{
    data_channel_in_ack(&t->lanes[lane]->channel, now_ms, len);
}

const uint8_t *tunnel_lane_out_buf(struct tunnel *t, unsigned lane, int64_t now_ms, size_t *len)
{
    return data_channel_out_buf(&t->lanes[lane]->channel, now_ms, len);
}

void tunnel_lane_out_ack(struct tunnel *t, unsigned lane, int64_t now_ms, size_t len)
{
    data_channel_out_ack(&t->lanes[lane]->channel, now_ms, len);
}

void tunnel_end(struct tunnel *t, int64_t now_ms, bool failed, struct str reason)
{
    for (unsigned i = 0; i < t->lane_count; i++)
        lane_end(t->lanes[i], now_ms, failed, reason);
}

void tunnel_end_basic(struct tunnel *t, int64_t now_ms, bool failed, struct str reason)
{
    t->basic_over = true;
    tunnel_end(t, now_ms, failed, reason);
}

bool tunnel_is_open(const struct tunnel *t)
{
    for (unsigned i = 0; i < t->lane_count; i++)
        if (t->lanes[i]->state == LANE_OPEN)
            return true;
    return false;
}

/* The first lane's handshake says how this tunnel works; later ones must fit it. */
static void set_mode(struct tunnel *t, struct lane *lane)
{
    bool local = t->role == LANE_CLIENT ? lane_request(lane)->is_local_forwarding
                                        : t->document->kind == DOCUMENT_LOCAL_FORWARDING;
    t->mode_known = true;
    t->mode = local && lane_peer_multiplexes(lane) ? TUNNEL_MULTIPLEXED
              : local                              ? TUNNEL_BASIC_REDIAL
                                                   : TUNNEL_BASIC_ONCE;
    t->is_ours = t->mode == TUNNEL_MULTIPLEXED && lane_peer_is_ours(lane);
    t->half_close = t->is_ours || (t->role == LANE_AGENT && lane->client.half_close);
    t->has_pieces = t->is_ours && lane_has_pieces(lane);
    t->has_destinations = t->is_ours && lane_has_destinations(lane);
    smux_decoder_init(&t->decoder, t->is_ours);
}

static void agreed(struct tunnel *t, unsigned index, int64_t now_ms, struct tunnel_step *step)
{
    struct lane *lane = t->lanes[index];
    if (!t->mode_known)
        set_mode(t, lane);
    if (t->has_pieces && !lane_has_pieces(lane)) {
        lane_end(lane, now_ms, true,
                 STR_LITERAL("the agent of this session does not know tunnels of several"));
        return;
    }
    lane_set_multiplexed(lane, t->mode == TUNNEL_MULTIPLEXED);
    if (t->has_pieces)
        data_channel_number_pieces(&lane->channel, &t->next_piece);
    if (t->role == LANE_AGENT && lane_secret(lane)[0] != '\0') {
        step->type = TUNNEL_STEP_JOIN;
        step->text = str_from(lane_secret(lane));
    }
}

/* Whether any lane but this one carries the tunnel, or is about to. */
static bool has_other(const struct tunnel *t, unsigned index)
{
    for (unsigned i = 0; i < t->lane_count; i++)
        if (i != index && t->lanes[i]->state < LANE_ENDING)
            return true;
    return false;
}

/* Sends what a lane has not had acknowledged over the others. False when they
 * have no room for all of it now. */
static bool move_pieces(struct tunnel *t, unsigned index)
{
    struct data_channel *from = &t->lanes[index]->channel;
    for (unsigned i = 0; i < t->lane_count; i++) {
        bool moved = true;
        if (i == index || t->lanes[i]->state != LANE_OPEN)
            continue;
        while (moved && data_channel_move_piece(from, &t->lanes[i]->channel, &moved))
            if (!moved)
                return true;
    }
    return false;
}

/* Pieces that came over a lane and were acknowledged, in order or early, will not come again. False when
 * there is no room for all of them now. */
static bool save_pieces(struct tunnel *t, unsigned index)
{
    struct data_channel *channel = &t->lanes[index]->channel;
    struct data_channel_event event;
    int64_t sequence;
    while (data_channel_kept(channel, &sequence, &event)) {
        if (event.payload_type == PAYLOAD_OUTPUT && !tunnel_take_piece(t, event.data, event.len))
            return false;
        data_channel_drop_kept(channel, sequence);
    }
    return true;
}

/* A lane that is over: its pieces go over the others, then the caller is told. */
static void end_lane(struct tunnel *t, unsigned index, struct tunnel_step *step)
{
    if (t->has_pieces && has_other(t, index) && (!move_pieces(t, index) || !save_pieces(t, index)))
        return;
    *step =
        (struct tunnel_step){.type = TUNNEL_STEP_LANE_OVER, .lane = (uint8_t) index, .over = t->lanes[index]};
    take_lane_out(t, index);
}

/* What one lane has to say. False when that is nothing, or must wait. */
static bool take_lane_event(struct tunnel *t, unsigned index, int64_t now_ms, struct tunnel_step *step)
{
    struct lane *lane = t->lanes[index];
    struct lane_event event;
    bool taken = true;
    lane_next(lane, now_ms, &event);
    step->lane = (uint8_t) index;
    switch (event.type) {
    case LANE_EVENT_AGREED:
        agreed(t, index, now_ms, step);
        return true;
    case LANE_EVENT_OPEN:
        step->type = TUNNEL_STEP_LANE_OPEN;
        t->begin_due = t->mode != TUNNEL_MULTIPLEXED && t->role == LANE_AGENT;
        return true;
    case LANE_EVENT_LOST:
        step->type = TUNNEL_STEP_LANE_LOST;
        step->text = event.text;
        step->close_code = event.close_code;
        return true;
    case LANE_EVENT_UNKNOWN:
        step->type = TUNNEL_STEP_UNKNOWN;
        step->text = event.text;
        return true;
    case LANE_EVENT_DATA:
        if (event.payload_type == PAYLOAD_FLAG) {
            tunnel_take_flag(t, now_ms, &event, step);
            lane_consume(lane, event.len);
        } else if (t->has_pieces) {
            taken = tunnel_take_piece(t, event.data, event.len);
            if (taken)
                lane_consume(lane, event.len);
        } else {
            taken = false; /* tunnel_take_input takes it from where it is */
        }
        return taken;
    case LANE_EVENT_NONE:
        break;
    }
    return false;
}

/* Lanes in turn, until one has a step or none has anything. */
static bool take_lanes(struct tunnel *t, int64_t now_ms, struct tunnel_step *step)
{
    unsigned idle = 0;
    bool any = false;
    for (int events = 0; events < TUNNEL_FRAMES_PER_STEP && idle < t->lane_count && !tunnel_has_step(step);
         events++) {
        unsigned index = t->next_lane % t->lane_count;
        if (take_lane_event(t, index, now_ms, step)) {
            idle = 0;
            any = true;
            continue;
        }
        if (t->lanes[index]->state == LANE_OVER)
            end_lane(t, index, step);
        idle++;
        t->next_lane++;
    }
    return any;
}

/* ---- steps ---- */

static void begin_basic(struct tunnel *t, int64_t now_ms, struct tunnel_step *step)
{
    t->begin_due = false;
    *step = (struct tunnel_step){.type = TUNNEL_STEP_OPEN,
                                 .stream = streams_add(&t->streams, 0, STREAMS_OPENING, now_ms),
                                 .host = t->document->host,
                                 .port = t->document->port};
}

static void reset_stalled(struct tunnel *t, int64_t now_ms, struct tunnel_step *step)
{
    bool others_wait = tunnel_others_wait(t);
    uint16_t stream = t->blocked;
    int64_t since_ms = num_max_i64(tunnel_slot(t, stream)->took_ms, t->blocked_ms);
    if (!others_wait && now_ms - since_ms < TUNNEL_STUCK_MS) {
        t->stall_check_ms = now_ms + TUNNEL_STALL_CHECK_MS;
        return;
    }
    *step =
        (struct tunnel_step){.type = TUNNEL_STEP_RESET,
                             .stream = stream,
                             .why = others_wait ? "it took nothing for 30 s while other connections waited"
                                                : "it took nothing for 20 min"};
    tunnel_lose_endpoint(t, stream, now_ms, true);
    if (t->mode != TUNNEL_MULTIPLEXED) /* the rest is not for the connection that it would open */
        tunnel_end_basic(t, now_ms, true, str_from(step->why));
}

/* From the peer to endpoints. */
static bool input_step(struct tunnel *t, int64_t now_ms, struct tunnel_step *step)
{
    bool any = false;
    if (t->begin_due)
        begin_basic(t, now_ms, step);
    if (!tunnel_has_step(step) && now_ms >= tunnel_stall_deadline(t))
        reset_stalled(t, now_ms, step);
    if (!tunnel_has_step(step))
        any = take_lanes(t, now_ms, step);
    if (!tunnel_has_step(step))
        any = tunnel_attend(t, now_ms, step) || any;
    if (!tunnel_has_step(step) && t->mode_known)
        any = tunnel_take_input(t, now_ms, step) || any;
    return any || tunnel_has_step(step);
}

void tunnel_next(struct tunnel *t, int64_t now_ms, struct tunnel_step *step)
{
    bool busy = false;
    *step = (struct tunnel_step){.type = TUNNEL_STEP_NONE};
    if (t->lane_count == 0) { /* the endpoints are the caller's */
        step->type = t->over_told ? TUNNEL_STEP_NONE : TUNNEL_STEP_OVER;
        t->over_told = true;
        return;
    }
    t->output_first = !t->output_first;
    if (t->output_first)
        tunnel_gather(t, now_ms, step);
    if (!tunnel_has_step(step)) {
        step->lane = 0;
        busy = input_step(t, now_ms, step);
    }
    if (!tunnel_has_step(step) && !t->output_first)
        tunnel_gather(t, now_ms, step);
    if (!tunnel_has_step(step) && busy)
        step->type = TUNNEL_STEP_BUSY;
}

static void send_destination(struct tunnel *t, int64_t now_ms, uint16_t stream, struct str target)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    s->syn_due = !tunnel_send_text(t, now_ms, SMUX_SYN, s->id, target);
    streams_end_turn(&t->streams, stream, now_ms, 0);
}

void tunnel_done(struct tunnel *t, int64_t now_ms, const struct tunnel_step *step,
                 const struct tunnel_result *result)
{
    switch (step->type) {
    case TUNNEL_STEP_WRITE:
        tunnel_wrote(t, now_ms, step, result);
        break;
    case TUNNEL_STEP_READ:
        tunnel_was_read(t, now_ms, step, result);
        break;
    case TUNNEL_STEP_DESTINATION:
        send_destination(t, now_ms, step->stream, result->text);
        break;
    default:
        break;
    }
}

/* ---- endpoints ---- */

static void opened(struct tunnel *t, uint16_t stream, int64_t now_ms, struct str address)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    if (s->state != STREAMS_OPENING)
        return;
    s->state = STREAMS_OPEN;
    s->took_ms = now_ms;
    s->writable = true;
    if (t->is_ours && !tunnel_send_text(t, now_ms, SMUX_OPENED, s->id, address)) {
        s->opened_due = true; /* later, without the address */
        streams_queue(&t->streams, stream, now_ms);
    }
    streams_attend(&t->streams, stream);
}

/* The endpoint is gone: a peer of ours is told why at once, if there is room. */
static void lost(struct tunnel *t, uint16_t stream, int64_t now_ms, bool was_open, struct str why)
{
    const struct streams_slot *s = tunnel_slot(t, stream);
    if (s->state == STREAMS_FREE || s->state == STREAMS_GONE)
        return;
    if (t->mode != TUNNEL_MULTIPLEXED && t->role == LANE_AGENT && (!was_open || t->mode == TUNNEL_BASIC_ONCE))
        tunnel_end_basic(t, now_ms, true, why);
    if (t->is_ours && !s->syn_due && tunnel_send_text(t, now_ms, SMUX_REFUSED, s->id, why))
        tunnel_free_stream(t, stream);
    else
        tunnel_lose_endpoint(t, stream, now_ms, was_open);
}

void tunnel_notify(struct tunnel *t, int64_t now_ms, uint16_t stream, enum tunnel_news news, struct str text)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    switch (news) {
    case TUNNEL_ENDPOINT_OPENED:
        opened(t, stream, now_ms, text);
        break;
    case TUNNEL_ENDPOINT_FAILED:
        lost(t, stream, now_ms, false, text);
        break;
    case TUNNEL_ENDPOINT_READABLE:
        if (s->state != STREAMS_OPEN || s->ended)
            return;
        s->readable = true;
        streams_queue(&t->streams, stream, now_ms);
        break;
    case TUNNEL_ENDPOINT_WRITABLE:
        s->writable = true;
        if (s->state == STREAMS_OPEN && s->held.len > 0)
            streams_attend(&t->streams, stream);
        break;
    case TUNNEL_ENDPOINT_BROKE:
        lost(t, stream, now_ms, true, text);
        break;
    }
}

uint16_t tunnel_open(struct tunnel *t, int64_t now_ms)
{
    bool multiplexed = t->mode == TUNNEL_MULTIPLEXED;
    if (!tunnel_is_open(t) || (!multiplexed && t->streams.open > 0))
        return STREAMS_NONE;
    uint16_t stream = streams_add(&t->streams, multiplexed ? t->next_id : 0, STREAMS_OPEN, now_ms);
    if (stream == STREAMS_NONE)
        return stream;
    struct streams_slot *s = tunnel_slot(t, stream);
    s->writable = true;
    s->syn_due = multiplexed;
    if (multiplexed) {
        t->next_id += 2;
        streams_queue(&t->streams, stream, now_ms);
    }
    return stream;
}

const struct streams_slot *tunnel_stream(const struct tunnel *t, uint16_t stream)
{
    return tunnel_slot(t, stream);
}

unsigned tunnel_open_streams(const struct tunnel *t)
{
    return t->streams.open;
}

/* ---- time ---- */

/* What came over this lane has yet to reach endpoints, and no other lane will see to it. */
static bool others_wait(const struct tunnel *t, unsigned lane)
{
    return !has_other(t, lane) && (t->held > 0 || inbox_ready(&t->pieces) > 0);
}

/* The next FIN that waits for quiet, INT64_MAX when there is none; those that have waited long enough go. */
static int64_t half_closed_deadline(struct tunnel *t, int64_t now_ms)
{
    int64_t at_ms = INT64_MAX;
    for (uint16_t i = 0; i < t->streams.untouched && t->half_closed > 0; i++) {
        const struct streams_slot *s = tunnel_slot(t, i);
        if (s->state == STREAMS_FREE || s->fin_at_ms == 0)
            continue;
        if (now_ms >= s->fin_at_ms)
            stop_waiting(t, i, now_ms);
        else
            at_ms = num_min_i64(at_ms, s->fin_at_ms);
    }
    return at_ms;
}

void tunnel_set_unix_offset(struct tunnel *t, int64_t unix_offset_ms)
{
    for (unsigned i = 0; i < t->lane_count; i++)
        data_channel_set_unix_offset(&t->lanes[i]->channel, unix_offset_ms);
}

int64_t tunnel_deadline(struct tunnel *t, int64_t now_ms)
{
    int64_t at_ms = num_min_i64(tunnel_stall_deadline(t), half_closed_deadline(t, now_ms));
    if (t->streams.attend_first != STREAMS_NONE || t->begin_due)
        return now_ms;
    for (unsigned i = 0; i < t->lane_count; i++) {
        at_ms = num_min_i64(at_ms, lane_keep_alive(t->lanes[i], now_ms, t->streams.open > 0));
        at_ms = num_min_i64(at_ms, lane_deadline(t->lanes[i], now_ms, others_wait(t, i)));
    }
    return at_ms;
}

void tunnel_tick(struct tunnel *t, int64_t now_ms)
{
    for (unsigned i = 0; i < t->lane_count; i++)
        lane_tick(t->lanes[i], now_ms, others_wait(t, i));
    for (unsigned i = 0; i < t->lane_count; i++)
        lane_keep_alive(t->lanes[i], now_ms, t->streams.open > 0);
    half_closed_deadline(t, now_ms);
}
