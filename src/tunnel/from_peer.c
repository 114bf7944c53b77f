/* What the peer sends, on its way to endpoints. */
#include "tunnel/internal.h"

#include <string.h>

#include "base/num.h"

/* ---- input, whether it comes in pieces or over the one lane ---- */

/* The Output payload that is n-th from the next one on. */
static bool peek(const struct tunnel *t, size_t n, const uint8_t **data, size_t *len)
{
    struct data_channel_event event;
    uint32_t type;
    size_t left;
    if (t->has_pieces)
        return inbox_peek(&t->pieces, n, &type, data, len, &left);
    if (t->lane_count == 0 || !data_channel_peek(&t->lanes[0]->channel, n, &event) ||
        event.payload_type != PAYLOAD_OUTPUT)
        return false;
    *data = event.data;
    *len = event.len;
    return true;
}

static void consume(struct tunnel *t, size_t n)
{
    if (t->has_pieces)
        inbox_consume(&t->pieces, n);
    else
        lane_consume(t->lanes[0], n);
}

bool tunnel_take_piece(struct tunnel *t, const uint8_t *data, size_t len)
{
    struct reader in = reader_of(data, len);
    uint64_t number = reader_u64be(&in);
    enum inbox_result result =
        INBOX_DUPLICATE; /* a payload without a number, or with a wild one, is dropped */
    if (!in.failed && number - (uint64_t) t->pieces.front < INBOX_SPAN)
        result = inbox_take(&t->pieces, (int64_t) number, PAYLOAD_OUTPUT, in.at, in.left);
    inbox_settle(&t->pieces);
    return result != INBOX_REFUSED;
}

/* ---- slow endpoints ---- */

/* The stream to reset when there is no room for this one: itself if its own share is used up, else the one
 * whose endpoint has taken nothing of what is held for it for the longest time. */
static uint16_t slowest(const struct tunnel *t, uint16_t stream)
{
    if (tunnel_slot(t, stream)->held.len >= HELD_STREAM_MAX)
        return stream;
    for (uint16_t i = 0; i < t->streams.untouched; i++) {
        const struct streams_slot *other = tunnel_slot(t, i);
        const struct streams_slot *worst = tunnel_slot(t, stream);
        if (other->state != STREAMS_FREE && other->held.len > 0 &&
            (worst->held.len == 0 || other->took_ms < worst->took_ms))
            stream = i;
    }
    return stream;
}

/* How much may be taken in for this stream; 0 and `blocked` when nothing. */
static size_t room_for(struct tunnel *t, uint16_t stream, int64_t now_ms)
{
    size_t room = held_room(&tunnel_slot(t, stream)->held, t->user, t->held);
    if (room > 0) {
        t->blocked = STREAMS_NONE;
        return room;
    }
    if (t->blocked == STREAMS_NONE)
        t->blocked_ms = now_ms;
    t->blocked = slowest(t, stream);
    return 0;
}

static void hold(struct tunnel *t, uint16_t stream, const struct iovec *vectors, int count, size_t skip,
                 size_t len)
{
    held_add(&tunnel_slot(t, stream)->held, t->user, vectors, count, skip);
    t->held += len - skip;
}

/* Since when nothing moved; INT64_MAX when nothing is held up. */
static int64_t stalled_since_ms(const struct tunnel *t)
{
    if (t->blocked == STREAMS_NONE)
        return INT64_MAX;
    return num_max_i64(tunnel_slot(t, t->blocked)->took_ms, t->blocked_ms);
}

int64_t tunnel_stall_deadline(const struct tunnel *t)
{
    int64_t since_ms = stalled_since_ms(t);
    return since_ms == INT64_MAX ? INT64_MAX : num_max_i64(since_ms + TUNNEL_STALL_MS, t->stall_check_ms);
}

bool tunnel_others_wait(const struct tunnel *t)
{
    struct smux_decoder decoder = t->decoder;
    uint32_t blocked_id = tunnel_slot(t, t->blocked)->id;
    const uint8_t *data;
    size_t messages = 0;
    size_t used;
    if (t->mode != TUNNEL_MULTIPLEXED)
        return false;
    for (size_t len; peek(t, messages, &data, &len); messages++) {
        for (; len > 0; data += used, len -= used) {
            struct smux_event event;
            if (smux_decoder_next(&decoder, data, len, &used, &event, NULL) < 0)
                return true; /* the end of the session is in there, and should not wait either */
            if (event.type != SMUX_EVENT_NONE && event.command != SMUX_NOP && event.stream != blocked_id)
                return true;
        }
    }
    /* With that much here reading has stopped, and nobody knows what the socket holds. */
    return messages >= INBOX_MESSAGES / 2 && t->streams.open > 1;
}

/* ---- writes ---- */

/* As much as there is for this stream, up to `limit` bytes, where it lies. Frames of others end it. */
static void collect(const struct tunnel *t, uint16_t stream, size_t limit, struct tunnel_step *step)
{
    struct smux_decoder decoder = t->decoder;
    const uint8_t *data;
    size_t len;
    for (size_t n = 0; peek(t, n, &data, &len); n++) {
        for (size_t used; len > 0; data += used, len -= used) {
            struct smux_event event = {.type = SMUX_EVENT_DATA, .data = data, .data_len = len};
            size_t shown = decoder.data_left > 0 ? num_min_size(len, limit - step->len) : len;
            if (step->len == limit || step->count == TUNNEL_VECTORS_MAX)
                return;
            if (t->mode == TUNNEL_MULTIPLEXED) {
                if (smux_decoder_next(&decoder, data, shown, &used, &event, NULL) < 0)
                    return;
            } else {
                event.data_len = used = num_min_size(len, limit - step->len);
            }
            if (event.type == SMUX_EVENT_FRAME &&
                (event.command != SMUX_PSH || streams_find(&t->streams, event.stream) != stream))
                return;
            if (event.type != SMUX_EVENT_DATA)
                continue;
            step->vectors[step->count++] = (struct iovec){(void *) (uintptr_t) event.data, event.data_len};
            step->len += event.data_len;
        }
    }
}

/* `n` bytes of data for the stream whose frame is under way are done with, and the headers between them. */
static void skip_data(struct tunnel *t, size_t n)
{
    const uint8_t *data;
    size_t len;
    while (n > 0 && peek(t, 0, &data, &len)) {
        struct smux_event event = {.type = SMUX_EVENT_DATA, .data_len = num_min_size(len, n)};
        size_t used = event.data_len;
        if (t->mode == TUNNEL_MULTIPLEXED) {
            size_t shown = t->decoder.data_left > 0 ? num_min_size(len, n) : len;
            smux_decoder_next(&t->decoder, data, shown, &used, &event, NULL);
        }
        if (event.type == SMUX_EVENT_DATA)
            n -= event.data_len;
        consume(t, used);
    }
}

static void note_taken(struct tunnel *t, uint16_t stream, int64_t now_ms, size_t len)
{
    struct streams_slot *s = tunnel_slot(t, stream);
    s->bytes_to_endpoint += len;
    if (s->fin_at_ms != 0)
        s->fin_at_ms = now_ms + TUNNEL_HALF_CLOSE_MS;
    t->last_data_ms = now_ms;
}

void tunnel_wrote(struct tunnel *t, int64_t now_ms, const struct tunnel_step *step,
                  const struct tunnel_result *result)
{
    struct streams_slot *s = tunnel_slot(t, step->stream);
    if (result->n > 0)
        s->took_ms = now_ms;
    s->writable = result->n == step->len;
    if (t->writing_held) {
        held_take(&s->held, t->user, result->n);
        t->held -= result->n;
        if (s->writable || s->held.len == 0)
            streams_attend(&t->streams, step->stream);
    } else {
        if (result->n < step->len && !result->failed)
            hold(t, step->stream, step->vectors, step->count, result->n, step->len);
        note_taken(t, step->stream, now_ms, step->len);
        skip_data(t, step->len);
        if (s->peer_ended)
            streams_attend(&t->streams, step->stream);
    }
    t->writing = STREAMS_NONE;
    if (result->failed)
        tunnel_lose_endpoint(t, step->stream, now_ms, true);
}

/* What is held for it goes out, or it has come to an end. */
static void attend(struct tunnel *t, uint16_t stream, int64_t now_ms, struct tunnel_step *step)
{
    const struct streams_slot *s = tunnel_slot(t, stream);
    if (s->state != STREAMS_OPEN)
        return;
    if (s->close_due) {
        *step = (struct tunnel_step){.type = TUNNEL_STEP_CLOSE, .stream = stream, .why = "the target closed"};
        tunnel_free_stream(t, stream);
        return;
    }
    if (s->held.len == 0) {
        tunnel_settle(t, stream, now_ms, step);
        return;
    }
    step->type = TUNNEL_STEP_WRITE;
    step->stream = stream;
    step->count = held_front(&s->held, t->user->pool, step->vectors, TUNNEL_VECTORS_MAX);
    for (int i = 0; i < step->count; i++)
        step->len += step->vectors[i].iov_len;
    t->writing = stream;
    t->writing_held = true;
}

bool tunnel_attend(struct tunnel *t, int64_t now_ms, struct tunnel_step *step)
{
    bool any = false;
    for (int i = 0; i < TUNNEL_FRAMES_PER_STEP && !tunnel_has_step(step); i++) {
        uint16_t stream = streams_take_attended(&t->streams);
        if (stream == STREAMS_NONE)
            break;
        attend(t, stream, now_ms, step);
        any = true;
    }
    return any;
}

/* Data for a stream: offered to its endpoint, or held behind what is held already, or
 * dropped. False when it has to wait. */
static bool take_data(struct tunnel *t, int64_t now_ms, uint16_t stream, size_t available,
                      struct tunnel_step *step)
{
    struct streams_slot *s = stream == STREAMS_NONE ? NULL : tunnel_slot(t, stream);
    if (s == NULL || s->peer_ended ||
        s->state == STREAMS_GONE) { /* not here any more, or gone on after its FIN */
        t->blocked = STREAMS_NONE;
        skip_data(t, available);
        return true;
    }
    size_t room = room_for(t, stream, now_ms);
    if (room == 0)
        return false;
    if (s->state == STREAMS_OPEN && s->held.len == 0) {
        collect(t, stream, num_min_size(room, TUNNEL_WRITE_MAX), step);
        step->type = TUNNEL_STEP_WRITE;
        step->stream = t->writing = stream;
        t->writing_held = false;
        return true;
    }
    struct tunnel_step some = {.type = TUNNEL_STEP_NONE};
    collect(t, stream, num_min_size(room, TUNNEL_WRITE_MAX), &some);
    hold(t, stream, some.vectors, some.count, 0, some.len);
    note_taken(t, stream, now_ms, some.len);
    skip_data(t, some.len);
    if (s->state == STREAMS_OPEN && s->writable)
        streams_attend(&t->streams, stream);
    return true;
}

/* ---- frames ---- */

static bool is_host(struct str host)
{
    for (size_t i = 0; i < host.len; i++) {
        char c = host.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
              c == '.' || c == '_' || c == ':'))
            return false;
    }
    return host.len > 0 && host.len < DIAL_POLICY_HOST_SIZE;
}

static void refuse(struct tunnel *t, uint32_t id, const char *why)
{
    t->refusing = true;
    t->refusing_flag_sent = false;
    t->refusing_id = id;
    t->refusing_why = why;
}

/* The agent's answer to a SYN, which names a target of its own or not. */
static void open_stream(struct tunnel *t, int64_t now_ms, uint32_t id, struct str target,
                        struct tunnel_step *step)
{
    struct str host = str_from(t->document->host);
    struct str port;
    step->port = t->document->port;
    if (target.len > 0 && (!t->has_destinations || !str_split_host_port(target, &host, &port) ||
                           !is_host(host) || !str_parse_port(port, &step->port))) {
        refuse(t, id, "the target that the client named is not HOST:PORT");
        return;
    }
    if (target.len == 0 && !document_has_target(t->document)) {
        refuse(t, id, "this session has no target of its own: each connection has to name one");
        return;
    }
    step->stream = streams_add(&t->streams, id, STREAMS_OPENING, now_ms);
    if (step->stream == STREAMS_NONE) {
        refuse(t, id, "1,000 connections are open in this session, which is the most it takes");
        return;
    }
    if (target.len > 0) { /* terminated in place: nobody reads the text again */
        t->text[(size_t) (host.ptr - t->text) + host.len] = '\0';
        step->host = host.ptr;
    } else {
        step->host = t->document->host;
    }
    step->type = TUNNEL_STEP_OPEN;
}

/* The peer has refused the stream, or its connection broke there. */
static void take_refusal(struct tunnel *t, uint16_t stream, const char *why, struct tunnel_step *step)
{
    if (stream == STREAMS_NONE)
        return;
    if (tunnel_slot(t, stream)->state != STREAMS_GONE)
        *step = (struct tunnel_step){.type = TUNNEL_STEP_RESET, .stream = stream, .why = why};
    tunnel_free_stream(t, stream);
}

static void take_fin(struct tunnel *t, int64_t now_ms, uint16_t stream, struct tunnel_step *step)
{
    bool is_refusal = t->connect_error; /* AWS's agent: flag ConnectToPortError, then FIN */
    t->connect_error = false;
    if (stream == STREAMS_NONE || tunnel_slot(t, stream)->peer_ended)
        return;
    if (is_refusal) {
        take_refusal(t, stream,
                     "the agent could not connect to the target; its log on the instance or task says why",
                     step);
        return;
    }
    tunnel_slot(t, stream)->peer_ended = true;
    tunnel_settle(t, stream, now_ms, step);
}

/* The agent has opened the stream's target; the text is its address, or empty. */
static void take_answer(const struct tunnel *t, uint16_t stream, struct tunnel_step *step)
{
    if (stream != STREAMS_NONE && t->role == LANE_CLIENT && tunnel_slot(t, stream)->state == STREAMS_OPEN)
        *step = (struct tunnel_step){
            .type = TUNNEL_STEP_ANSWERED, .stream = stream, .text = {t->text, t->text_len}};
}

/* A frame's header; its data, if it has any, follows. */
static void take_frame(struct tunnel *t, int64_t now_ms, const struct smux_event *event,
                       struct tunnel_step *step)
{
    uint16_t stream = streams_find(&t->streams, event->stream);
    t->text_len = 0;
    switch (event->command) {
    case SMUX_SYN:
        if (stream == STREAMS_NONE && t->role == LANE_AGENT && event->data_len == 0)
            open_stream(t, now_ms, event->stream, (struct str){NULL, 0}, step);
        return;
    case SMUX_FIN:
        take_fin(t, now_ms, stream, step);
        return;
    case SMUX_PSH:
        t->decoding = stream;
        return;
    case SMUX_REFUSED:
        if (event->data_len == 0)
            take_refusal(t, stream, "the other end of the tunnel ended this connection", step);
        return;
    case SMUX_OPENED:
        if (event->data_len == 0)
            take_answer(t, stream, step);
        return;
    case SMUX_NOP:
        return;
    }
}

/* A piece of the text of a frame of ours; acts when it is whole. */
static void take_text(struct tunnel *t, int64_t now_ms, const struct smux_event *event,
                      struct tunnel_step *step)
{
    uint16_t stream = streams_find(&t->streams, event->stream);
    memcpy(t->text + t->text_len, event->data, event->data_len); /* the decoder lets SMUX_TEXT_MAX through */
    t->text_len += event->data_len;
    if (t->decoder.data_left > 0)
        return;
    t->text[t->text_len] = '\0';
    if (event->command == SMUX_SYN && stream == STREAMS_NONE && t->role == LANE_AGENT)
        open_stream(t, now_ms, event->stream, (struct str){t->text, t->text_len}, step);
    else if (event->command == SMUX_REFUSED)
        take_refusal(t, stream, t->text, step);
    else if (event->command == SMUX_OPENED)
        take_answer(t, stream, step);
}

/* One step through the frames. False when it has to wait; the lanes end when the framing is lost. */
static bool take_multiplexed(struct tunnel *t, int64_t now_ms, const uint8_t *data, size_t len,
                             struct tunnel_step *step)
{
    struct smux_event event;
    struct error err = ERROR_INIT;
    size_t used;
    if (t->decoder.data_left > 0 && t->decoder.command == SMUX_PSH)
        return take_data(t, now_ms, t->decoding, num_min_size(len, t->decoder.data_left), step);
    if (smux_decoder_next(&t->decoder, data, len, &used, &event, &err) < 0) {
        tunnel_end(t, now_ms, true, str_from(err.text));
        consume(t, len);
        return true;
    }
    if (event.type == SMUX_EVENT_FRAME)
        take_frame(t, now_ms, &event, step);
    else if (event.type == SMUX_EVENT_DATA)
        take_text(t, now_ms, &event, step);
    consume(t, used);
    return true;
}

/* Bytes of the one basic connection. */
static bool take_basic(struct tunnel *t, int64_t now_ms, size_t len, struct tunnel_step *step)
{
    uint16_t stream = streams_find(&t->streams, 0);
    if (stream != STREAMS_NONE && tunnel_slot(t, stream)->peer_ended)
        return false; /* these bytes are the next connection's: they wait until this one is done with */
    if (stream == STREAMS_NONE && t->role == LANE_AGENT && !t->basic_over) {
        /* LocalPortForwarding after its target has closed */
        open_stream(t, now_ms, 0, (struct str){NULL, 0}, step);
        return true;
    }
    return take_data(t, now_ms, stream, len, step);
}

bool tunnel_take_input(struct tunnel *t, int64_t now_ms, struct tunnel_step *step)
{
    const uint8_t *data;
    size_t len;
    bool any = false;
    for (int frames = 0; frames < TUNNEL_FRAMES_PER_STEP && !tunnel_has_step(step); frames++) {
        if (t->refusing && !tunnel_answer_refused(t, now_ms))
            return any;
        if (!peek(t, 0, &data, &len))
            return any;
        bool taken = true;
        if (len == 0)
            consume(t, 0);
        else if (t->mode == TUNNEL_MULTIPLEXED)
            taken = take_multiplexed(t, now_ms, data, len, step);
        else
            taken = take_basic(t, now_ms, len, step);
        if (!taken)
            return any;
        any = true;
    }
    return any;
}

void tunnel_take_flag(struct tunnel *t, int64_t now_ms, const struct lane_event *event,
                      struct tunnel_step *step)
{
    struct reader in = reader_of(event->data, event->len);
    uint16_t stream = streams_find(&t->streams, 0);
    switch (reader_u32be(&in)) {
    case PAYLOAD_FLAG_DISCONNECT_TO_PORT:
        /* What is under way would come out of the client's next connection: only messages have numbers. */
        if (t->mode != TUNNEL_MULTIPLEXED)
            data_channel_empty_output(&t->lanes[0]->channel);
        if (t->mode == TUNNEL_MULTIPLEXED || stream == STREAMS_NONE || tunnel_slot(t, stream)->peer_ended)
            return;
        tunnel_slot(t, stream)->peer_ended = true;
        if (tunnel_slot(t, stream)->state == STREAMS_OPENING && tunnel_slot(t, stream)->held.len == 0) {
            *step = (struct tunnel_step){
                .type = TUNNEL_STEP_CLOSE, .stream = stream, .why = "the client disconnected"};
            tunnel_free_stream(t, stream);
        } else {
            tunnel_settle(t, stream, now_ms, step);
        }
        return;
    case PAYLOAD_FLAG_CONNECT_TO_PORT_ERROR:
        t->connect_error = t->role == LANE_CLIENT;
        return;
    default: /* TerminateSession is the lane's; a short one reads as 0: nobody's flag */
        return;
    }
}
