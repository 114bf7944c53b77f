#include "tunnel/streams.h"

#include <string.h>

/* ---- memory: slots, ids, chunks ------------------------------------------------------------------------------- */

void port_session_init(struct port_session *ps, void *memory, enum port_mode mode, bool half_close)
{
    memset(ps, 0, sizeof *ps);
    uint8_t *at = memory;
    ps->mode = mode;
    ps->half_close = half_close;
    smux_decoder_init(&ps->decoder);
    ps->streams = (struct port_stream *) (void *) at;
    at += PORT_STREAMS_MAX * sizeof *ps->streams;
    ps->buckets = (uint16_t *) (void *) at;
    at += PORT_BUCKETS * sizeof *ps->buckets;
    ps->chunk_next = (uint16_t *) (void *) at;
    at += PORT_HELD_CHUNKS * sizeof *ps->chunk_next;
    ps->chunk_len = (uint16_t *) (void *) at;
    at += PORT_HELD_CHUNKS * sizeof *ps->chunk_len;
    ps->chunks = at;
    memset(ps->buckets, 0xff, PORT_BUCKETS * sizeof *ps->buckets);
    ps->free_stream = PORT_NO_STREAM;
    ps->free_chunk = PORT_NO_CHUNK;
    ps->decoding = ps->offered = ps->blocked = PORT_NO_STREAM;
    ps->ring[PACER_BULK] = ps->ring[PACER_INTERACTIVE] = PORT_NO_STREAM;
}

static uint16_t *bucket_of(struct port_session *ps, uint32_t id)
{
    return &ps->buckets[(id * 2654435761u >> 16) %
                        PORT_BUCKETS]; /* Knuth's multiplier: ids are odd and in a row */
}

static uint16_t find_stream(struct port_session *ps, uint32_t id)
{
    uint16_t stream = *bucket_of(ps, id);
    while (stream != PORT_NO_STREAM && ps->streams[stream].id != id)
        stream = ps->streams[stream].bucket_next;
    return stream;
}

static uint16_t take_slot(struct port_session *ps)
{
    uint16_t stream = ps->free_stream;
    if (stream != PORT_NO_STREAM) {
        ps->free_stream = ps->streams[stream].bucket_next;
        return stream;
    }
    /* Slots that never were used follow those that are: freed ones go to the list, so the count is the border. */
    return ps->stream_count < PORT_STREAMS_MAX ? ps->stream_count : PORT_NO_STREAM;
}

static uint16_t open_stream(struct port_session *ps, uint32_t id, int64_t now_ms)
{
    uint16_t stream = take_slot(ps);
    if (stream == PORT_NO_STREAM)
        return stream;
    uint16_t *bucket = bucket_of(ps, id);
    ps->streams[stream] = (struct port_stream){.id = id,
                                               .state = PORT_STREAM_DIALLING,
                                               .bucket_next = *bucket,
                                               .first_chunk = PORT_NO_CHUNK,
                                               .last_chunk = PORT_NO_CHUNK,
                                               .weight_ms = now_ms,
                                               .took_ms = now_ms};
    *bucket = stream;
    ps->stream_count++;
    ps->total_streams++;
    return stream;
}

static void drop_first_chunk(struct port_session *ps, struct port_stream *s)
{
    uint16_t chunk = s->first_chunk;
    s->first_chunk = ps->chunk_next[chunk];
    if (s->first_chunk == PORT_NO_CHUNK)
        s->last_chunk = PORT_NO_CHUNK;
    s->first_offset = 0;
    ps->chunk_next[chunk] = ps->free_chunk;
    ps->free_chunk = chunk;
    ps->chunks_used--;
}

static void drop_held(struct port_session *ps, struct port_stream *s)
{
    while (s->first_chunk != PORT_NO_CHUNK)
        drop_first_chunk(ps, s);
    s->held = 0;
}

static void unqueue(struct port_session *ps, uint16_t stream)
{
    struct port_stream *s = &ps->streams[stream];
    if (!s->queued)
        return;
    s->queued = false;
    if (s->ring_next == stream) {
        ps->ring[s->ring] = PORT_NO_STREAM;
        return;
    }
    ps->streams[s->ring_previous].ring_next = s->ring_next;
    ps->streams[s->ring_next].ring_previous = s->ring_previous;
    if (ps->ring[s->ring] == stream)
        ps->ring[s->ring] = s->ring_next;
}

static void free_stream(struct port_session *ps, uint16_t stream)
{
    struct port_stream *s = &ps->streams[stream];
    uint16_t *link = bucket_of(ps, s->id);
    unqueue(ps, stream);
    drop_held(ps, s);
    while (*link != stream)
        link = &ps->streams[*link].bucket_next;
    *link = s->bucket_next;
    s->state = PORT_STREAM_FREE;
    s->bucket_next = ps->free_stream;
    ps->free_stream = stream;
    ps->stream_count--;
    if (ps->decoding == stream)
        ps->decoding = PORT_NO_STREAM;
    if (ps->blocked == stream)
        ps->blocked = PORT_NO_STREAM;
    if (ps->offered == stream)
        ps->offered = PORT_NO_STREAM;
}

static uint16_t take_chunk(struct port_session *ps)
{
    uint16_t chunk = ps->free_chunk;
    if (chunk != PORT_NO_CHUNK)
        ps->free_chunk = ps->chunk_next[chunk];
    else
        chunk = ps->chunks_untouched++;
    ps->chunks_used++;
    ps->chunk_next[chunk] = PORT_NO_CHUNK;
    ps->chunk_len[chunk] = 0;
    return chunk;
}

/* How much more may be held for this stream: its own bound, and what is left for all. */
static size_t room_for(const struct port_session *ps, const struct port_stream *s)
{
    size_t own = PORT_STREAM_HELD_MAX - s->held;
    size_t tail =
        s->last_chunk != PORT_NO_CHUNK ? (size_t) (PORT_CHUNK_SIZE - ps->chunk_len[s->last_chunk]) : 0;
    size_t all = tail + (size_t) (PORT_HELD_CHUNKS - ps->chunks_used) * PORT_CHUNK_SIZE;
    return own < all ? own : all;
}

/* The caller has checked room_for. */
static void hold(struct port_session *ps, struct port_stream *s, const uint8_t *data, size_t len)
{
    while (len > 0) {
        if (s->last_chunk == PORT_NO_CHUNK || ps->chunk_len[s->last_chunk] == PORT_CHUNK_SIZE) {
            uint16_t chunk = take_chunk(ps);
            if (s->last_chunk == PORT_NO_CHUNK)
                s->first_chunk = chunk;
            else
                ps->chunk_next[s->last_chunk] = chunk;
            s->last_chunk = chunk;
        }
        size_t used = ps->chunk_len[s->last_chunk];
        size_t n = PORT_CHUNK_SIZE - used < len ? PORT_CHUNK_SIZE - used : len;
        memcpy(ps->chunks + (size_t) s->last_chunk * PORT_CHUNK_SIZE + used, data, n);
        ps->chunk_len[s->last_chunk] = (uint16_t) (used + n);
        s->held += (uint32_t) n;
        data += n;
        len -= n;
    }
}

/* ---- turns ---------------------------------------------------------------------------------------------------- */

static void decay(struct port_stream *s, int64_t now_ms)
{
    int64_t halvings = (now_ms - s->weight_ms) / PORT_WEIGHT_HALF_MS;
    if (halvings <= 0)
        return;
    s->weight = halvings < 32 ? s->weight >> halvings : 0;
    s->weight_ms += halvings * PORT_WEIGHT_HALF_MS;
}

/* To the end of the ring that its weight says. */
static void queue(struct port_session *ps, uint16_t stream, int64_t now_ms)
{
    struct port_stream *s = &ps->streams[stream];
    if (s->queued)
        return;
    decay(s, now_ms);
    s->ring = s->weight < PORT_INTERACTIVE_MAX ? PACER_INTERACTIVE : PACER_BULK;
    s->queued = true;
    uint16_t head = ps->ring[s->ring];
    if (head == PORT_NO_STREAM) {
        ps->ring[s->ring] = s->ring_next = s->ring_previous = stream;
        return;
    }
    uint16_t tail = ps->streams[head].ring_previous;
    s->ring_next = head;
    s->ring_previous = tail;
    ps->streams[tail].ring_next = stream;
    ps->streams[head].ring_previous = stream;
}

static bool has_turn(const struct port_stream *s)
{
    return s->flag_due || s->fin_due || (s->readable && !s->target_ended);
}

void port_session_readable(struct port_session *ps, uint16_t stream, int64_t now_ms)
{
    struct port_stream *s = &ps->streams[stream];
    if (s->state != PORT_STREAM_OPEN || s->target_ended)
        return;
    s->readable = true;
    queue(ps, stream, now_ms);
}

bool port_session_pick(struct port_session *ps, enum pacer_class class, uint16_t *stream)
{
    *stream = ps->ring[class];
    return *stream != PORT_NO_STREAM;
}

static void end_turn(struct port_session *ps, uint16_t stream, int64_t now_ms)
{
    unqueue(ps, stream);
    if (has_turn(&ps->streams[stream]))
        queue(ps, stream, now_ms);
}

void port_session_sent(struct port_session *ps, uint16_t stream, int64_t now_ms, size_t n, bool more)
{
    struct port_stream *s = &ps->streams[stream];
    decay(s, now_ms);
    s->weight += (uint32_t) n;
    s->bytes_to_client += n;
    s->readable = more;
    end_turn(ps, stream, now_ms);
}

bool port_session_wants_flag(const struct port_session *ps, uint16_t stream)
{
    return ps->streams[stream].flag_due;
}

void port_session_flag_sent(struct port_session *ps, uint16_t stream)
{
    ps->streams[stream].flag_due = false;
}

bool port_session_wants_fin(const struct port_session *ps, uint16_t stream)
{
    return ps->streams[stream].fin_due && !ps->streams[stream].flag_due;
}

bool port_session_refused(const struct port_session *ps, uint32_t *id, bool *flag_sent)
{
    if (ps->refused_count == 0)
        return false;
    *id = ps->refused_ids[0];
    *flag_sent = ps->refused_flag_sent;
    return true;
}

void port_session_refused_flag_sent(struct port_session *ps)
{
    ps->refused_flag_sent = true;
}

void port_session_refused_fin_sent(struct port_session *ps)
{
    ps->refused_flag_sent = false;
    ps->refused_count--;
    memmove(ps->refused_ids, ps->refused_ids + 1, ps->refused_count * sizeof ps->refused_ids[0]);
}

/* ---- lifecycle ------------------------------------------------------------------------------------------------ */

static void close_stream(struct port_session *ps, uint16_t stream, struct port_action *action,
                         const char *why)
{
    *action = (struct port_action){.todo = PORT_TODO_CLOSE, .stream = stream, .why = why};
    free_stream(ps, stream);
}

/* After anything that may have been the last thing: what follows for this stream? */
static void settle(struct port_session *ps, uint16_t stream, int64_t now_ms, struct port_action *action)
{
    struct port_stream *s = &ps->streams[stream];
    *action = (struct port_action){.todo = PORT_TODO_NOTHING, .stream = stream};
    if (s->state != PORT_STREAM_OPEN || !s->client_ended || s->held > 0)
        return;
    if (ps->mode != PORT_MULTIPLEXED) {
        close_stream(ps, stream, action, "the client disconnected");
        return;
    }
    if (s->target_ended && !s->fin_due) {
        close_stream(ps, stream, action, "both ends are done");
        return;
    }
    if (s->write_ended)
        return;
    s->write_ended = true;
    if (ps->half_close || s->target_ended) {
        action->todo = PORT_TODO_END_WRITE;
        return;
    }
    /* The client is gone whole: what the target says from here on has no reader. FIN answers, then the slot is free. */
    action->todo = PORT_TODO_END_WRITE;
    s->target_ended = true;
    s->readable = false;
    s->fin_due = true;
    queue(ps, stream, now_ms);
}

void port_session_connected(struct port_session *ps, uint16_t stream, int64_t now_ms,
                            struct port_action *action)
{
    struct port_stream *s = &ps->streams[stream];
    if (s->state == PORT_STREAM_DIALLING) {
        s->state = PORT_STREAM_OPEN;
        s->took_ms = now_ms;
    }
    settle(ps, stream, now_ms, action);
}

/* The connection is no more. The stream remains until its FIN has been sent, if that has not been done before. */
static void mourn(struct port_session *ps, uint16_t stream, bool tell_by_flag)
{
    struct port_stream *s = &ps->streams[stream];
    if (s->state == PORT_STREAM_FREE || s->state == PORT_STREAM_GONE)
        return;
    if (s->target_ended && !s->fin_due) {
        free_stream(ps, stream);
        return;
    }
    drop_held(ps, s);
    s->state = PORT_STREAM_GONE;
    s->client_ended = s->target_ended = s->write_ended = true;
    s->readable = false;
    s->flag_due = tell_by_flag;
    s->fin_due = true;
    if (ps->blocked == stream)
        ps->blocked = PORT_NO_STREAM;
    if (ps->offered == stream)
        ps->offered = PORT_NO_STREAM;
    queue(ps, stream, s->weight_ms);
}

void port_session_failed(struct port_session *ps, uint16_t stream)
{
    mourn(ps, stream, true);
}

void port_session_broke(struct port_session *ps, uint16_t stream)
{
    mourn(ps, stream, false);
}

void port_session_target_ended(struct port_session *ps, uint16_t stream, int64_t now_ms,
                               struct port_action *action)
{
    struct port_stream *s = &ps->streams[stream];
    *action = (struct port_action){.todo = PORT_TODO_NOTHING, .stream = stream};
    if (s->state != PORT_STREAM_OPEN)
        return;
    s->target_ended = true;
    s->readable = false;
    s->fin_due = ps->mode == PORT_MULTIPLEXED;
    end_turn(ps, stream, now_ms);
    if (ps->mode == PORT_BASIC_ONCE)
        action->todo = PORT_TODO_END;
    else if (ps->mode == PORT_BASIC_REDIAL)
        close_stream(ps, stream, action, "the target closed");
}

void port_session_fin_sent(struct port_session *ps, uint16_t stream, int64_t now_ms,
                           struct port_action *action)
{
    struct port_stream *s = &ps->streams[stream];
    s->fin_due = false;
    end_turn(ps, stream, now_ms);
    if (s->state == PORT_STREAM_GONE) { /* the caller has closed the connection already */
        *action = (struct port_action){.todo = PORT_TODO_NOTHING, .stream = stream};
        free_stream(ps, stream);
        return;
    }
    settle(ps, stream, now_ms, action);
}

/* ---- client to targets ---------------------------------------------------------------------------------------- */

static void refuse_stream(struct port_session *ps, uint32_t id)
{
    if (ps->refused_count < PORT_REFUSED_MAX)
        ps->refused_ids[ps->refused_count++] = id;
}

static void take_frame(struct port_session *ps, int64_t now_ms, const struct smux_event *event,
                       struct port_action *action)
{
    uint16_t stream = find_stream(ps, event->stream);
    switch (event->command) {
    case SMUX_SYN:
        if (stream != PORT_NO_STREAM)
            return;
        stream = open_stream(ps, event->stream, now_ms);
        if (stream == PORT_NO_STREAM)
            refuse_stream(ps, event->stream);
        else
            *action = (struct port_action){.todo = PORT_TODO_DIAL, .stream = stream};
        return;
    case SMUX_FIN:
        if (stream == PORT_NO_STREAM || ps->streams[stream].client_ended)
            return;
        ps->streams[stream].client_ended = true;
        settle(ps, stream, now_ms, action);
        return;
    case SMUX_PSH:
        ps->decoding = stream;
        return;
    case SMUX_NOP:
        return;
    }
}

/* Who is to blame when there is no room for this stream: itself if its own share is used up, else whoever has taken nothing
 * of what is held for it for the longest time. */
static uint16_t culprit(const struct port_session *ps, uint16_t stream)
{
    if (ps->streams[stream].held == PORT_STREAM_HELD_MAX)
        return stream;
    for (uint16_t i = 0; i < PORT_STREAMS_MAX; i++) {
        const struct port_stream *other = &ps->streams[i];
        const struct port_stream *worst = &ps->streams[stream];
        if (other->state != PORT_STREAM_FREE && other->held > 0 &&
            (worst->held == 0 || other->took_ms < worst->took_ms))
            stream = i;
    }
    return stream;
}

/* Offers data to a target, or holds it behind what is held already. Returns how much of it is taken in now: all, or less
 * when the target blocks. */
static size_t take_data(struct port_session *ps, int64_t now_ms, uint16_t stream, const uint8_t *data,
                        size_t len, struct port_action *action)
{
    struct port_stream *s = stream == PORT_NO_STREAM ? NULL : &ps->streams[stream];
    if (s == NULL || s->client_ended) /* not here any more, or gone on after its FIN */
        return len;
    size_t room = room_for(ps, s);
    if (room == 0) {
        if (ps->blocked == PORT_NO_STREAM)
            ps->blocked_ms = now_ms;
        ps->blocked = culprit(ps, stream);
        return 0;
    }
    ps->blocked = PORT_NO_STREAM;
    size_t n = len < room ? len : room;
    s->bytes_to_target += n;
    if (s->state != PORT_STREAM_OPEN || s->held > 0) {
        hold(ps, s, data, n);
        return n;
    }
    *action = (struct port_action){.todo = PORT_TODO_WRITE, .stream = stream, .data = data, .len = n};
    ps->offered = stream;
    ps->offer = data;
    ps->offer_len = n;
    return n;
}

static int receive_multiplexed(struct port_session *ps, int64_t now_ms, const uint8_t *data, size_t len,
                               size_t *used, struct port_action *action, struct error *err)
{
    *used = 0;
    while (*used < len && action->todo == PORT_TODO_NOTHING) {
        size_t shown = len - *used;
        if (ps->decoder.data_left > 0) { /* inside a PSH frame: as much as its target lets in */
            if (shown > ps->decoder.data_left)
                shown = ps->decoder.data_left;
            shown = take_data(ps, now_ms, ps->decoding, data + *used, shown, action);
            if (shown == 0)
                return 0;
        }
        struct smux_event event;
        size_t step;
        int result = smux_decoder_next(&ps->decoder, data + *used, shown, &step, &event, err);
        if (result < 0)
            return result;
        *used += step;
        if (event.type == SMUX_EVENT_FRAME)
            take_frame(ps, now_ms, &event, action);
    }
    return 0;
}

static void receive_basic(struct port_session *ps, int64_t now_ms, const uint8_t *data, size_t len,
                          size_t *used, struct port_action *action)
{
    uint16_t stream = find_stream(ps, 0);
    *used = 0;
    if (len == 0)
        return;
    if (stream == PORT_NO_STREAM) { /* LocalPortForwarding after its target has closed */
        stream = port_session_begin_basic(ps, now_ms);
        *action = (struct port_action){.todo = PORT_TODO_DIAL, .stream = stream};
    } else if (!ps->streams[stream].client_ended) {
        *used = take_data(ps, now_ms, stream, data, len, action);
    } /* else: these bytes are the next connection's, they wait until this one is done with */
}

int port_session_receive(struct port_session *ps, int64_t now_ms, const uint8_t *data, size_t len,
                         size_t *used, struct port_action *action, struct error *err)
{
    *action = (struct port_action){.todo = PORT_TODO_NOTHING};
    if (ps->mode == PORT_MULTIPLEXED)
        return receive_multiplexed(ps, now_ms, data, len, used, action, err);
    receive_basic(ps, now_ms, data, len, used, action);
    return 0;
}

void port_session_wrote(struct port_session *ps, int64_t now_ms, size_t n)
{
    if (ps->offered == PORT_NO_STREAM) /* broke while it was offered */
        return;
    struct port_stream *s = &ps->streams[ps->offered];
    if (n > 0)
        s->took_ms = now_ms;
    if (n < ps->offer_len)
        hold(ps, s, ps->offer + n, ps->offer_len - n);
    ps->offered = PORT_NO_STREAM;
}

const uint8_t *port_session_held(const struct port_session *ps, uint16_t stream, size_t *len)
{
    const struct port_stream *s = &ps->streams[stream];
    if (s->first_chunk == PORT_NO_CHUNK) {
        *len = 0;
        return NULL;
    }
    *len = (size_t) (ps->chunk_len[s->first_chunk] - s->first_offset);
    return ps->chunks + (size_t) s->first_chunk * PORT_CHUNK_SIZE + s->first_offset;
}

void port_session_took(struct port_session *ps, uint16_t stream, int64_t now_ms, size_t n,
                       struct port_action *action)
{
    struct port_stream *s = &ps->streams[stream];
    if (n > 0) {
        s->took_ms = now_ms;
        s->held -= (uint32_t) n;
        s->first_offset = (uint16_t) (s->first_offset + n);
        if (s->first_offset == ps->chunk_len[s->first_chunk])
            drop_first_chunk(ps, s);
    }
    settle(ps, stream, now_ms, action);
}

uint16_t port_session_begin_basic(struct port_session *ps, int64_t now_ms)
{
    return open_stream(ps, 0, now_ms);
}

void port_session_disconnect(struct port_session *ps, int64_t now_ms, struct port_action *action)
{
    uint16_t stream = find_stream(ps, 0);
    *action = (struct port_action){.todo = PORT_TODO_NOTHING};
    if (ps->mode == PORT_MULTIPLEXED || stream == PORT_NO_STREAM || ps->streams[stream].client_ended)
        return;
    ps->streams[stream].client_ended = true;
    if (ps->streams[stream].state == PORT_STREAM_DIALLING && ps->streams[stream].held == 0)
        close_stream(ps, stream, action, "the client disconnected");
    else
        settle(ps, stream, now_ms, action);
}

/* ---- stalls --------------------------------------------------------------------------------------------------- */

uint16_t port_session_blocked_on(const struct port_session *ps)
{
    return ps->blocked;
}

/* Since when nothing moved; INT64_MAX when nothing is held up. */
static int64_t stalled_since_ms(const struct port_session *ps)
{
    if (ps->blocked == PORT_NO_STREAM)
        return INT64_MAX;
    int64_t took_ms = ps->streams[ps->blocked].took_ms;
    return took_ms > ps->blocked_ms ? took_ms : ps->blocked_ms;
}

int64_t port_session_deadline(const struct port_session *ps)
{
    int64_t since_ms = stalled_since_ms(ps);
    if (since_ms == INT64_MAX)
        return INT64_MAX;
    return since_ms + PORT_STALL_MS > ps->look_ms ? since_ms + PORT_STALL_MS : ps->look_ms;
}

void port_session_tick(struct port_session *ps, int64_t now_ms, bool others_wait, struct port_action *action)
{
    *action = (struct port_action){.todo = PORT_TODO_NOTHING};
    if (now_ms < port_session_deadline(ps))
        return;
    if (!others_wait && now_ms - stalled_since_ms(ps) < PORT_STUCK_MS) {
        ps->look_ms = now_ms + PORT_STALL_CHECK_MS;
        return;
    }
    *action = (struct port_action){.todo = PORT_TODO_RESET,
                                   .stream = ps->blocked,
                                   .why = others_wait
                                              ? "the target took nothing for 30 s while other streams waited"
                                              : "the target took nothing for 20 min"};
    mourn(ps, ps->blocked, false);
}

void port_lookahead_begin(struct port_lookahead *look, const struct port_session *ps)
{
    look->decoder = ps->decoder;
    look->blocked_id = ps->blocked == PORT_NO_STREAM ? 0 : ps->streams[ps->blocked].id;
}

bool port_lookahead_finds_others(struct port_lookahead *look, const uint8_t *data, size_t len)
{
    size_t used;
    struct smux_event event;
    for (; len > 0; data += used, len -= used) {
        if (smux_decoder_next(&look->decoder, data, len, &used, &event, NULL) < 0)
            return true; /* the end of the session is in there, and should not wait either */
        if (event.type != SMUX_EVENT_NONE && event.command != SMUX_NOP && event.stream != look->blocked_id)
            return true;
    }
    return false;
}

const struct port_stream *port_session_stream(const struct port_session *ps, uint16_t stream)
{
    return &ps->streams[stream];
}

uint16_t port_session_open_streams(const struct port_session *ps)
{
    return ps->stream_count;
}
