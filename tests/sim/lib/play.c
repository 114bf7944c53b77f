#include "sim/lib/play.h"

#include "sim/lib/traffic.h"

enum { PING_EVERY_MS = 20 };

static uint64_t down_seed(const struct play *p)
{
    return p->kind == PLAY_ECHO || p->kind == PLAY_PING ? p->seed : p->seed + 1;
}

/* ---- the target ---- */

size_t play_take(struct play *p, int64_t now_ms, const uint8_t *data, size_t len, struct dice *dice)
{
    size_t n = len;
    if (p->target != TARGET_OPEN || p->heard_end)
        p->fault = "bytes for a target that is not there, or was told the end";
    if (p->kind == PLAY_SLOW) {
        uint64_t budget = (uint64_t) (now_ms - p->took_ms) * p->slow_bytes_per_ms;
        n = n < budget ? n : (size_t) budget;
        p->took_ms = now_ms;
    }
    if (p->kind == PLAY_NEVER)
        n = p->taken < PLAY_SOCKET_BUFFER && n > PLAY_SOCKET_BUFFER - p->taken
                ? (size_t) (PLAY_SOCKET_BUFFER - p->taken)
            : p->taken < PLAY_SOCKET_BUFFER ? n
                                            : 0;
    if (n > 1 && dice_hits(dice, 500)) /* a full socket now and then */
        n = dice_between(dice, 0, (uint32_t) n);
    if (!traffic_matches(p->seed, p->taken, data, n))
        p->fault = "a byte on its way to the target is wrong";
    p->taken += n;
    if (p->taken > p->up_total)
        p->fault = "the target got more than was sent";
    return n;
}

static uint64_t to_give(const struct play *p)
{
    switch (p->kind) {
    case PLAY_ECHO:
    case PLAY_PING:
        return p->taken;
    case PLAY_SOURCE:
        return p->down_total;
    case PLAY_BREAKS:
        return p->break_at;
    case PLAY_ANSWER:
        return p->heard_end ? p->down_total : 0;
    case PLAY_SINK:
    case PLAY_SLOW:
    case PLAY_NEVER:
    case PLAY_REFUSE:
    case PLAY_KINDS:
        break;
    }
    return 0;
}

size_t play_available(const struct play *p)
{
    return p->target == TARGET_OPEN ? (size_t) (to_give(p) - p->given) : 0;
}

bool play_target_ended(const struct play *p)
{
    if (p->target != TARGET_OPEN || p->given < to_give(p) || p->kind == PLAY_BREAKS || p->kind == PLAY_NEVER)
        return false;
    return p->kind == PLAY_SOURCE || p->heard_end;
}

bool play_target_breaks(const struct play *p)
{
    return p->kind == PLAY_BREAKS && p->target == TARGET_OPEN && p->given >= p->break_at;
}

void play_give(struct play *p, uint8_t *out, size_t len)
{
    traffic_fill(down_seed(p), p->given, out, len);
    p->given += len;
}

/* ---- the client ---- */

size_t play_client_wants_to_say(const struct play *p, int64_t now_ms, bool others_done)
{
    if (p->fin_received && !p->half_close) /* AWS's client closes the stream whole */
        return 0;
    if (p->kind == PLAY_PING)
        return !p->ping_out && !others_done && now_ms >= p->ping_ms + PING_EVERY_MS &&
               p->up_sent < p->up_total;
    return (size_t) (p->up_total - p->up_sent);
}

void play_client_say(struct play *p, int64_t now_ms, uint8_t *out, size_t len)
{
    traffic_fill(p->seed, p->up_sent, out, len);
    p->up_sent += len;
    if (p->kind == PLAY_PING) {
        p->ping_out = true;
        p->ping_ms = now_ms;
    }
}

void play_client_hear(struct play *p, int64_t now_ms, const uint8_t *data, size_t len)
{
    if (p->fin_received)
        p->fault = "bytes for the client after FIN";
    if (!traffic_matches(down_seed(p), p->down_received, data, len))
        p->fault = "a byte on its way to the client is wrong";
    if (p->down_received == 0)
        p->first_ms = now_ms;
    p->last_ms = now_ms;
    p->down_received += len;
    if (p->kind == PLAY_PING && p->down_received == p->up_sent) {
        p->ping_out = false;
        if (p->pings != NULL && p->ping_count < PLAY_PINGS_MAX)
            p->pings[p->ping_count++] = now_ms - p->ping_ms;
    }
}

bool play_client_ends(const struct play *p, bool others_done)
{
    if (!p->syn_sent || p->fin_sent)
        return false;
    if (p->fin_received && !p->half_close)
        return true;
    if (p->kind == PLAY_PING)
        return others_done && !p->ping_out;
    if (p->up_sent < p->up_total)
        return p->fin_received && (p->kind == PLAY_REFUSE || p->kind == PLAY_NEVER);
    if (p->fin_received || p->half_close)
        return true;
    if (p->kind == PLAY_ECHO) /* its FIN would be the end of the answer */
        return p->down_received == p->up_total;
    if (p->kind == PLAY_SOURCE)
        return p->down_received >= p->abort_at;
    return p->kind == PLAY_SINK || p->kind == PLAY_SLOW || p->kind == PLAY_ANSWER;
}

bool play_is_done(const struct play *p)
{
    return p->fin_sent && p->fin_received;
}

const char *play_verdict(const struct play *p)
{
    bool refused = p->kind == PLAY_REFUSE || p->kind == PLAY_NEVER;
    bool all_heard = p->kind == PLAY_ECHO || p->kind == PLAY_SINK || p->kind == PLAY_SLOW ||
                     p->kind == PLAY_ANSWER || p->kind == PLAY_PING;

    if (p->fault != NULL)
        return p->fault;
    if (p->kind == PLAY_REFUSE && p->ever_open)
        return "a target that can't be reached was open";
    if (!refused && (!p->ever_open || p->was_reset))
        return "the target was not reached, or reset";
    if (all_heard && p->taken != p->up_sent)
        return "the target has not heard all that was sent";
    if (all_heard && p->up_sent != p->up_total && p->kind != PLAY_PING)
        return "the client could not send all";
    if ((p->kind == PLAY_ECHO || p->kind == PLAY_PING) && p->down_received != p->up_sent)
        return "the client has not heard the whole echo";
    if (p->kind == PLAY_SOURCE && p->abort_at == UINT64_MAX && p->down_received != p->down_total)
        return "the client has not heard the whole of the source";
    if (p->kind == PLAY_ANSWER && p->half_close && p->down_received != p->down_total)
        return "the answer after the half-close was lost";
    return NULL;
}
