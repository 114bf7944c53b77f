/* What endpoints say, and what is said of them, on its way to the peer. */
#include "tunnel/internal.h"

#include <string.h>

#include "base/num.h"
#include "base/utf8.h"

/* ---- lanes ---- */

/* A piece further from the oldest unacknowledged one than this might find no room at the peer. */
static bool pieces_may_go(const struct tunnel *t)
{
    uint64_t oldest = t->next_piece;
    for (unsigned i = 0; i < t->lane_count; i++) {
        uint64_t piece = data_channel_oldest_piece(&t->lanes[i]->channel);
        oldest = piece < oldest ? piece : oldest;
    }
    return t->next_piece - oldest < TUNNEL_PIECES_SPAN - OUTBOX_RESERVE_MAX;
}

/* The lane with the most room for this class; null and 0 when none has any. */
static struct lane *roomiest(struct tunnel *t, int64_t now_ms, enum pacer_class class, size_t *room)
{
    struct lane *best = NULL;
    *room = 0;
    for (unsigned i = 0; i < t->lane_count; i++) {
        if (t->lanes[i]->state != LANE_OPEN)
            continue;
        size_t here = data_channel_send_room(&t->lanes[i]->channel, now_ms, class);
        if (here > *room) {
            *room = here;
            best = t->lanes[i];
        }
    }
    if (t->has_pieces && best != NULL && !pieces_may_go(t)) {
        *room = 0;
        best = NULL;
    }
    return best;
}

/* ---- frames without a read ---- */

bool tunnel_send_text(struct tunnel *t, int64_t now_ms, enum smux_command command, uint32_t id,
                      struct str text)
{
    uint8_t frame[SMUX_HEADER_SIZE + SMUX_TEXT_MAX];
    size_t room;
    struct lane *lane = roomiest(t, now_ms, PACER_INTERACTIVE, &room);
    text = utf8_limit(text, SMUX_TEXT_MAX);
    if (lane == NULL || room < SMUX_HEADER_SIZE + text.len)
        return false;
    smux_write_header(frame, command, id, (uint16_t) text.len);
    if (text.len > 0)
        memcpy(frame + SMUX_HEADER_SIZE, text.ptr, text.len);
    return data_channel_send(&lane->channel, now_ms, PACER_INTERACTIVE, frame, SMUX_HEADER_SIZE + text.len);
}

static bool send_frame(struct tunnel *t, int64_t now_ms, enum smux_command command, uint32_t id)
{
    return tunnel_send_text(t, now_ms, command, id, (struct str){NULL, 0});
}

static bool send_connect_error(struct tunnel *t)
{
    uint8_t payload[4];
    struct writer out = writer_of(payload, sizeof payload);
    writer_u32be(&out, PAYLOAD_FLAG_CONNECT_TO_PORT_ERROR);
    return data_channel_send_message(&t->lanes[0]->channel, PAYLOAD_FLAG, payload, sizeof payload, NULL) == 0;
}

bool tunnel_answer_refused(struct tunnel *t, int64_t now_ms)
{
    size_t room;
    if (t->is_ours) {
        t->refusing = !tunnel_send_text(t, now_ms, SMUX_REFUSED, t->refusing_id, str_from(t->refusing_why));
        return !t->refusing;
    }
    if (roomiest(t, now_ms, PACER_INTERACTIVE, &room) == NULL)
        return false;
    t->refusing_flag_sent = t->refusing_flag_sent || send_connect_error(t);
    t->refusing = !t->refusing_flag_sent || !send_frame(t, now_ms, SMUX_FIN, t->refusing_id);
    return !t->refusing;
}

static bool send_syn(struct tunnel *t, int64_t now_ms, uint16_t stream, struct tunnel_step *step)
{
    size_t room;
    if (t->has_destinations) { /* the answer to this step sends it */
        if (roomiest(t, now_ms, PACER_INTERACTIVE, &room) == NULL || room < SMUX_HEADER_SIZE + SMUX_TEXT_MAX)
            return false;
        *step = (struct tunnel_step){.type = TUNNEL_STEP_DESTINATION, .stream = stream};
        return true;
    }
    if (!send_frame(t, now_ms, SMUX_SYN, tunnel_slot(t, stream)->id))
        return false;
    tunnel_slot(t, stream)->syn_due = false;
    return true;
}

/* The endpoint is gone, and the peer has yet to know. */
static bool send_refusal(struct tunnel *t, int64_t now_ms, uint16_t stream)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    if (t->is_ours && !send_frame(t, now_ms, SMUX_REFUSED, s->id))
        return false;
    if (!t->is_ours && !send_connect_error(t))
        return false;
    s->refused_due = false;
    s->fin_due = s->fin_due && !t->is_ours;
    return true;
}

static bool send_fin(struct tunnel *t, int64_t now_ms, uint16_t stream)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    if (t->mode == TUNNEL_MULTIPLEXED && !send_frame(t, now_ms, SMUX_FIN, s->id))
        return false;
    s->fin_due = false;
    s->fin_sent = true;
    return true;
}

/* Basic, client: the local connection is over. A session for one connection is over with it. */
static bool send_disconnect(struct tunnel *t, int64_t now_ms, uint16_t stream)
{
    uint8_t payload[4];
    struct writer out = writer_of(payload, sizeof payload);
    writer_u32be(&out, PAYLOAD_FLAG_DISCONNECT_TO_PORT);
    if (t->mode == TUNNEL_BASIC_ONCE)
        tunnel_end_basic(t, now_ms, false, STR_LITERAL("the local connection has ended"));
    else if (data_channel_send_message(&t->lanes[0]->channel, PAYLOAD_FLAG, payload, sizeof payload, NULL) !=
             0)
        return false;
    tunnel_slot(t, stream)->fin_due = false;
    tunnel_slot(t, stream)->fin_sent = true;
    return true;
}

/* A turn that needs no read, as far as it goes. False when nothing of it could be sent. */
static bool send_control(struct tunnel *t, int64_t now_ms, uint16_t stream, struct tunnel_step *step)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    if (s->syn_due)
        return send_syn(t, now_ms, stream, step);
    if (s->opened_due) {
        s->opened_due = !send_frame(t, now_ms, SMUX_OPENED, s->id);
        return !s->opened_due;
    }
    if (s->refused_due && !send_refusal(t, now_ms, stream))
        return false;
    if (s->fin_due && t->mode != TUNNEL_MULTIPLEXED && t->role == LANE_CLIENT &&
        !send_disconnect(t, now_ms, stream))
        return false;
    if (s->fin_due && !send_fin(t, now_ms, stream))
        return false;
    if (s->state == STREAMS_GONE)
        tunnel_free_stream(t, stream);
    else
        tunnel_settle(t, stream, now_ms, step);
    return true;
}

/* ---- turns ---- */

static size_t header_size(const struct tunnel *t)
{
    return t->mode == TUNNEL_MULTIPLEXED ? SMUX_HEADER_SIZE : 0;
}

static bool begin_read(struct tunnel *t, int64_t now_ms, uint16_t stream, enum pacer_class class,
                       struct tunnel_step *step)
{
    size_t header = header_size(t);
    size_t most = header + (class == PACER_INTERACTIVE ? STREAMS_INTERACTIVE_MAX : STREAMS_TURN_MAX);
    size_t room;
    struct lane *lane = roomiest(t, now_ms, class, &room);
    if (room <= header)
        return false;
    room =
        data_channel_reserve(&lane->channel, header, num_min_size(room, most), step->vectors, &step->count);
    if (room <= header) {
        data_channel_commit(&lane->channel, class, 0);
        step->count = 0;
        return false;
    }
    step->type = TUNNEL_STEP_READ;
    step->lane = 0;
    step->stream = stream;
    step->class = class;
    step->len = room - header;
    while (t->lanes[step->lane] != lane)
        step->lane++;
    step->header = step->vectors[0].iov_base;
    step->vectors[0].iov_base = step->header + header;
    step->vectors[0].iov_len -= header;
    return true;
}

/* One class: true when there is a step, or when its turns went on without one. */
static void gather_class(struct tunnel *t, int64_t now_ms, enum pacer_class class, struct tunnel_step *step)
{
    for (int turns = 0; turns < TUNNEL_FRAMES_PER_STEP && !tunnel_has_step(step); turns++) {
        uint16_t stream = streams_next(&t->streams, class);
        if (stream == STREAMS_NONE)
            return;
        const struct streams_slot *s = tunnel_slot(t, stream);
        if (!s->syn_due && !s->opened_due && !s->refused_due && !s->fin_due) {
            begin_read(t, now_ms, stream, class, step);
            return;
        }
        if (!send_control(t, now_ms, stream, step))
            return;
        if (s->state != STREAMS_FREE && step->type != TUNNEL_STEP_DESTINATION)
            streams_end_turn(&t->streams, stream, now_ms, 0);
    }
    if (!tunnel_has_step(step))
        step->type = TUNNEL_STEP_BUSY;
}

void tunnel_gather(struct tunnel *t, int64_t now_ms, struct tunnel_step *step)
{
    if (!tunnel_is_open(t))
        return;
    gather_class(t, now_ms, PACER_INTERACTIVE, step);
    if (!tunnel_has_step(step))
        gather_class(t, now_ms, PACER_BULK, step);
}

/* The endpoint's last byte has been read. */
static void end_endpoint(struct tunnel *t, int64_t now_ms, uint16_t stream)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    s->ended = true;
    s->readable = false;
    if (t->mode != TUNNEL_MULTIPLEXED && t->role == LANE_AGENT) {
        s->close_due = true;
        streams_attend(&t->streams, stream);
        if (t->mode == TUNNEL_BASIC_ONCE)
            tunnel_end_basic(t, now_ms, false, STR_LITERAL(TUNNEL_TARGET_CLOSED));
    } else if (t->role == LANE_CLIENT && !t->half_close && !s->peer_ended && t->mode != TUNNEL_BASIC_REDIAL) {
        s->fin_at_ms = now_ms + TUNNEL_HALF_CLOSE_MS;
        t->half_closed++;
    } else {
        s->fin_due = true;
    }
}

void tunnel_was_read(struct tunnel *t, int64_t now_ms, const struct tunnel_step *step,
                     const struct tunnel_result *result)
{
    struct lane *lane = t->lanes[step->lane];
    struct streams_slot *s = tunnel_slot(t, step->stream);
    if (result->n > 0) {
        if (header_size(t) > 0)
            smux_write_header(step->header, SMUX_PSH, s->id, (uint16_t) result->n);
        t->last_data_ms = now_ms;
    }
    data_channel_commit(&lane->channel, step->class, result->n > 0 ? header_size(t) + result->n : 0);
    s->bytes_from_endpoint += result->n;
    s->readable = result->more;
    if (result->failed)
        tunnel_lose_endpoint(t, step->stream, now_ms, true);
    else if (result->ended)
        end_endpoint(t, now_ms, step->stream);
    if (s->state != STREAMS_FREE)
        streams_end_turn(&t->streams, step->stream, now_ms, result->n);
}
