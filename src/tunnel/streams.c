#include "tunnel/streams.h"

#include <string.h>

void streams_init(struct streams *streams, void *memory)
{
    memset(streams, 0, sizeof *streams);
    streams->slots = memory;
    streams->buckets = (uint16_t *) (void *) ((uint8_t *) memory + STREAMS_MAX * sizeof(struct streams_slot));
    memset(streams->buckets, 0xff, STREAMS_BUCKETS * sizeof(uint16_t));
    streams->free = streams->attend_first = streams->attend_last = STREAMS_NONE;
    streams->ring[PACER_BULK] = streams->ring[PACER_INTERACTIVE] = STREAMS_NONE;
}

/* ---- slots ---- */

/* Knuth's multiplier: ids are odd and in a row. */
static uint16_t *bucket_of(const struct streams *streams, uint32_t id)
{
    return &streams->buckets[(id * 2654435761u >> 16) % STREAMS_BUCKETS];
}

uint16_t streams_find(const struct streams *streams, uint32_t id)
{
    uint16_t stream = *bucket_of(streams, id);
    while (stream != STREAMS_NONE && streams->slots[stream].id != id)
        stream = streams->slots[stream].bucket_next;
    return stream;
}

uint16_t streams_add(struct streams *streams, uint32_t id, enum streams_state state, int64_t now_ms)
{
    uint16_t stream = streams->free;
    uint16_t *bucket = bucket_of(streams, id);
    if (stream != STREAMS_NONE)
        streams->free = streams->slots[stream].bucket_next;
    else if (streams->untouched < STREAMS_MAX)
        stream = streams->untouched++;
    else
        return STREAMS_NONE;
    streams->slots[stream] = (struct streams_slot){
        .id = id, .state = (uint8_t) state, .bucket_next = *bucket, .weight_ms = now_ms, .took_ms = now_ms};
    *bucket = stream;
    streams->open++;
    streams->total++;
    return stream;
}

static void unqueue(struct streams *streams, uint16_t stream)
{
    struct streams_slot *s = &streams->slots[stream];
    if (!s->queued)
        return;
    s->queued = false;
    if (s->ring_next == stream) {
        streams->ring[s->ring] = STREAMS_NONE;
        return;
    }
    streams->slots[s->ring_previous].ring_next = s->ring_next;
    streams->slots[s->ring_next].ring_previous = s->ring_previous;
    if (streams->ring[s->ring] == stream)
        streams->ring[s->ring] = s->ring_next;
}

static void unattend(struct streams *streams, uint16_t stream)
{
    uint16_t previous = STREAMS_NONE;
    if (!streams->slots[stream].attended)
        return;
    for (uint16_t i = streams->attend_first; i != stream; i = streams->slots[i].attend_next)
        previous = i;
    uint16_t next = streams->slots[stream].attend_next;
    if (previous == STREAMS_NONE)
        streams->attend_first = next;
    else
        streams->slots[previous].attend_next = next;
    if (next == STREAMS_NONE)
        streams->attend_last = previous;
    streams->slots[stream].attended = false;
}

void streams_remove(struct streams *streams, uint16_t stream)
{
    struct streams_slot *s = &streams->slots[stream];
    uint16_t *link = bucket_of(streams, s->id);
    unqueue(streams, stream);
    unattend(streams, stream);
    while (*link != stream)
        link = &streams->slots[*link].bucket_next;
    *link = s->bucket_next;
    s->state = STREAMS_FREE;
    s->bucket_next = streams->free;
    streams->free = stream;
    streams->open--;
}

/* ---- turns ---- */

static void decay(struct streams_slot *s, int64_t now_ms)
{
    int64_t halvings = (now_ms - s->weight_ms) / STREAMS_WEIGHT_HALF_MS;
    if (halvings <= 0)
        return;
    s->weight = halvings < 32 ? s->weight >> halvings : 0;
    s->weight_ms += halvings * STREAMS_WEIGHT_HALF_MS;
}

bool streams_has_turn(const struct streams_slot *s)
{
    return s->syn_due || s->opened_due || s->refused_due || s->fin_due || (s->readable && !s->ended);
}

void streams_queue(struct streams *streams, uint16_t stream, int64_t now_ms)
{
    struct streams_slot *s = &streams->slots[stream];
    if (s->queued)
        return;
    decay(s, now_ms);
    s->ring = s->weight < STREAMS_INTERACTIVE_MAX ? PACER_INTERACTIVE : PACER_BULK;
    s->queued = true;
    uint16_t head = streams->ring[s->ring];
    if (head == STREAMS_NONE) {
        streams->ring[s->ring] = s->ring_next = s->ring_previous = stream;
        return;
    }
    uint16_t tail = streams->slots[head].ring_previous;
    s->ring_next = head;
    s->ring_previous = tail;
    streams->slots[tail].ring_next = stream;
    streams->slots[head].ring_previous = stream;
}

void streams_end_turn(struct streams *streams, uint16_t stream, int64_t now_ms, size_t n)
{
    struct streams_slot *s = &streams->slots[stream];
    decay(s, now_ms);
    s->weight += (uint32_t) n;
    unqueue(streams, stream);
    if (streams_has_turn(s))
        streams_queue(streams, stream, now_ms);
}

uint16_t streams_next(const struct streams *streams, enum pacer_class class)
{
    return streams->ring[class];
}

/* ---- attention ---- */

void streams_attend(struct streams *streams, uint16_t stream)
{
    struct streams_slot *s = &streams->slots[stream];
    if (s->attended)
        return;
    s->attended = true;
    s->attend_next = STREAMS_NONE;
    if (streams->attend_last == STREAMS_NONE)
        streams->attend_first = stream;
    else
        streams->slots[streams->attend_last].attend_next = stream;
    streams->attend_last = stream;
}

uint16_t streams_take_attended(struct streams *streams)
{
    uint16_t stream = streams->attend_first;
    if (stream != STREAMS_NONE)
        unattend(streams, stream);
    return stream;
}
