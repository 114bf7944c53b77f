#include "sim/lib/gateway.h"

#include <stdlib.h>
#include <string.h>

#include "wire/agent_message.h"

void gateway_init(struct gateway *g, const struct gateway_faults *faults, uint64_t seed)
{
    memset(g, 0, sizeof *g);
    g->faults = *faults;
    g->dice.state = seed;
}

static void drop_all(struct gateway_side *side)
{
    while (side->queue != NULL) {
        struct gateway_message *first = side->queue;
        side->queue = first->next;
        free(first);
    }
    side->queued = 0;
}

void gateway_end(struct gateway *g)
{
    for (int i = 0; i < GATEWAY_SIDES; i++)
        drop_all(&g->sides[i]);
}

void gateway_connect(struct gateway *g, int side, int64_t now_ms)
{
    struct gateway_side *s = &g->sides[side];
    uint32_t bytes = g->faults.cut_bytes[side];
    s->connected = true;
    s->cut = false;
    s->bytes_left = bytes == 0 ? SIZE_MAX : dice_between(&g->dice, bytes / 2, bytes + bytes / 2);
    s->close_ms = INT64_MAX;
    if (g->faults.close_every_ms > 0)
        s->close_ms =
            now_ms + dice_between(&g->dice, g->faults.close_every_ms / 2, 2 * g->faults.close_every_ms);
}

static void count_bytes(struct gateway_side *s, size_t len)
{
    if (s->bytes_left == SIZE_MAX)
        return;
    s->bytes_left = s->bytes_left > len ? s->bytes_left - len : 0;
    s->cut = s->bytes_left == 0;
}

int gateway_ends(struct gateway *g, int side, int64_t now_ms)
{
    struct gateway_side *s = &g->sides[side];
    int how = s->cut ? 1 : now_ms >= s->close_ms ? 2 : 0;
    if (!s->connected || how == 0)
        return 0;
    s->connected = false;
    drop_all(s);
    return how;
}

bool gateway_blocks(const struct gateway *g, int side)
{
    return g->sides[1 - side].queued >= GATEWAY_QUEUE;
}

static void enqueue(struct gateway_side *s, const uint8_t *message, size_t len, int64_t due_ms)
{
    struct gateway_message *m = malloc(sizeof *m + len);
    struct gateway_message **at = &s->queue;
    if (m == NULL)
        abort();
    m->due_ms = due_ms;
    m->len = len;
    memcpy(m->bytes, message, len);
    while (*at != NULL && (*at)->due_ms <= due_ms)
        at = &(*at)->next;
    m->next = *at;
    *at = m;
    s->queued++;
}

/* More than the limit within 2 s, the last of them now? */
static void police(const struct gateway *g, struct gateway_side *s, int64_t now_ms)
{
    const uint64_t ring = sizeof s->sent_ms / sizeof s->sent_ms[0];
    uint32_t limit = g->faults.rate_limit;
    if (limit == 0 || limit >= ring)
        return;
    if (s->sent >= limit && now_ms - s->sent_ms[(s->sent - limit) % ring] < 2000)
        s->over_limit = true;
    s->sent_ms[s->sent++ % ring] = now_ms;
}

static bool is_handshake_complete(const uint8_t *message, size_t len)
{
    struct agent_message m;
    return agent_message_parse(&m, message, len, NULL) == 0 && m.payload_type == PAYLOAD_HANDSHAKE_COMPLETE;
}

void gateway_relay(struct gateway *g, int side, const uint8_t *message, size_t len, bool stream_data,
                   int64_t now_ms)
{
    struct gateway_side *from = &g->sides[side];
    struct gateway_side *to = &g->sides[1 - side];
    int64_t due_ms = now_ms + g->faults.delay_ms;
    count_bytes(from, len);
    if (stream_data)
        police(g, from, now_ms);
    g->relayed++;
    if (!to->connected || dice_hits(&g->dice, g->faults.lose)) {
        g->lost++;
        return;
    }
    if (dice_hits(&g->dice, g->faults.late))
        due_ms += dice_between(&g->dice, 1, g->faults.late_ms);
    if (g->faults.complete_late_ms > 0 && to->not_before_ms == 0 && is_handshake_complete(message, len))
        to->not_before_ms = due_ms + g->faults.complete_late_ms;
    due_ms = due_ms > to->not_before_ms ? due_ms : to->not_before_ms;
    enqueue(to, message, len, due_ms);
    if (dice_hits(&g->dice, g->faults.twice))
        enqueue(to, message, len, due_ms + dice_between(&g->dice, 0, 20));
}

struct gateway_message *gateway_take(struct gateway *g, int side, int64_t now_ms)
{
    struct gateway_side *s = &g->sides[side];
    struct gateway_message *first = s->queue;
    if (!s->connected || s->cut || first == NULL || first->due_ms > now_ms)
        return NULL;
    s->queue = first->next;
    s->queued--;
    count_bytes(s, first->len);
    return first;
}

int64_t gateway_due_ms(const struct gateway *g, int side)
{
    const struct gateway_side *s = &g->sides[side];
    int64_t due_ms = s->queue != NULL ? s->queue->due_ms : INT64_MAX;
    return s->connected && s->close_ms < due_ms ? s->close_ms : due_ms;
}
