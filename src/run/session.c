#include "run/session.h"

#include <string.h>

#include "base/bytes.h"
#include "host/clock.h"
#include "host/loop.h"
#include "host/memory.h"
#include "host/random.h"

static int64_t now_of(const struct session_tunnel *t)
{
    return loop_now_ms(t->network->loop);
}

void session_tunnel_wake(struct session_tunnel *t)
{
    loop_hook_queue(t->network->loop, &t->hook);
}

/* ---- lanes ------------------------------------------------------------------------------------------- */

static const uint8_t *receive(void *context, unsigned lane, size_t *len)
{
    struct gateway *link = &((struct session_tunnel *) context)->sessions[lane]->link;
    return gateway_is_up(link) ? gateway_recv_buf(link, len) : NULL;
}

static void received(void *context, unsigned lane, size_t len)
{
    gateway_recv_ack(&((struct session_tunnel *) context)->sessions[lane]->link, len);
}

static size_t send(void *context, unsigned lane, const void *data, size_t len)
{
    struct gateway *link = &((struct session_tunnel *) context)->sessions[lane]->link;
    return gateway_is_up(link) ? gateway_send(link, data, len) : 0;
}

static const struct turn_lane_ops lane_ops = {.receive = receive, .received = received, .send = send};

static struct session *session_of(struct gateway *link)
{
    return LOOP_OWNER(link, struct session, link);
}

static void link_up(struct gateway *link, struct str first_text)
{
    struct session *s = session_of(link);
    struct error err = ERROR_INIT;
    if (lane_connected(&s->lane, now_of(s->tunnel), first_text, &err) < 0)
        session_end(s, true, str_from(err.text));
    session_tunnel_wake(s->tunnel);
}

static void link_changed(struct gateway *link)
{
    session_tunnel_wake(session_of(link)->tunnel);
}

static void link_down(struct gateway *link, const struct gateway_down *down)
{
    struct session *s = session_of(link);
    if (down->was_up)
        lane_disconnected(&s->lane, now_of(s->tunnel), down->why);
    s->tunnel->ops->lost(s, down);
    if (down->is_final)
        session_end(s, true, str_from(down->why));
    if (!lane_wants_connection(&s->lane))
        gateway_close(link); /* it only waits for what is held for its targets */
    session_tunnel_wake(s->tunnel);
}

/* What has come across since the last call shows that the connection is of use. */
static void note_progress(struct session *s)
{
    struct data_channel_stats stats;
    data_channel_stats(&s->lane.channel, &stats);
    gateway_acknowledged(&s->link, stats.acknowledged + stats.received - s->progress);
    s->progress = stats.acknowledged + stats.received;
}

/* ---- the turn ------------------------------------------------------------------------------------------ */

static void lane_over(struct session_tunnel *t, unsigned lane)
{
    struct session *s = t->sessions[lane];
    for (unsigned i = lane; i < t->tunnel.lane_count; i++)
        t->sessions[i] = t->sessions[i + 1];
    s->tunnel = NULL;
    t->ops->over(s, t, t->tunnel.lane_count == 0);
}

static void event(void *context, const struct tunnel_step *step, struct tunnel_result *result)
{
    struct session_tunnel *t = context;
    switch (step->type) {
    case TUNNEL_STEP_LANE_OPEN:
        t->ops->ready(t->sessions[step->lane]);
        break;
    case TUNNEL_STEP_LANE_LOST:
        gateway_lose(&t->sessions[step->lane]->link, step->text.ptr); /* always terminated */
        break;
    case TUNNEL_STEP_LANE_OVER:
        lane_over(t, step->lane);
        break;
    default:
        t->ops->event(t, step, result);
        break;
    }
}

static void run_turn(struct loop_hook *hook)
{
    struct session_tunnel *t = LOOP_OWNER(hook, struct session_tunnel, hook);
    const struct turn turn = {.tunnel = &t->tunnel,
                              .lanes = &lane_ops,
                              .endpoints = t->ops->endpoints,
                              .event = event,
                              .context = t};
    int64_t deadline_ms = INT64_MAX;
    tunnel_set_unix_offset(&t->tunnel, clock_unix_ms() - now_of(t));
    enum turn_result result = turn_run(&turn, now_of(t), &deadline_ms);
    for (unsigned i = 0; i < t->tunnel.lane_count; i++)
        note_progress(t->sessions[i]);
    if (result == TURN_OVER || t->abandoned)
        t->ops->ended(t);
    else if (result == TURN_MORE)
        session_tunnel_wake(t); /* not done, but others have waited */
    else
        loop_timer_set(t->network->loop, &t->timer, deadline_ms);
}

static void timer_expired(struct loop_timer *timer)
{
    session_tunnel_wake(LOOP_OWNER(timer, struct session_tunnel, timer));
}

/* ---- the surface --------------------------------------------------------------------------------------- */

static int no_memory(struct error *err)
{
    return error_set(err, ERROR_SYSTEM, "out of memory for a session");
}

int session_tunnel_init(struct session_tunnel *t, const struct session_ops *ops, struct network *network,
                        struct pool *pool, const struct tunnel_config *config, struct error *err)
{
    struct tunnel_config own = *config;
    /* Address space only: a page counts when it is touched, and a quiet session touches a few dozen. */
    void *memory = memory_map(SESSION_TUNNEL_MEMORY_SIZE);
    if (memory == NULL || !pool_join(pool, &t->user)) {
        memory_unmap(memory, SESSION_TUNNEL_MEMORY_SIZE);
        return no_memory(err);
    }
    own.user = &t->user;
    own.memory = memory;
    t->ops = ops;
    t->network = network;
    t->memory = memory;
    tunnel_init(&t->tunnel, &own, now_of(t));
    t->endpoints.tunnel = &t->tunnel;
    t->endpoints.network = network;
    t->endpoints.slots = (void *) ((uint8_t *) memory + TUNNEL_MEMORY_SIZE);
    loop_timer_init(&t->timer, timer_expired);
    loop_hook_init(&t->hook, LOOP_GATHER, run_turn);
    return 0;
}

void session_tunnel_release(struct session_tunnel *t)
{
    size_t len;
    struct pool *pool = t->user.pool;
    tcp_endpoints_close(&t->endpoints, "the session ended");
    loop_timer_remove(t->network->loop, &t->timer);
    loop_hook_remove(t->network->loop, &t->hook);
    tunnel_release(&t->tunnel);
    pool_leave(&t->user);
    void *idle = pool_idle(pool, &len);
    if (idle != NULL)
        memory_forget(idle, len);
    memory_unmap(t->memory, SESSION_TUNNEL_MEMORY_SIZE);
}

void session_link(struct session *s)
{
    s->link.up = link_up;
    s->link.changed = link_changed;
    s->link.down = link_down;
}

int session_init(struct session *s, struct session_tunnel *t, struct lane_config *config, struct error *err)
{
    void *memory = memory_map(LANE_MEMORY_SIZE);
    if (memory == NULL || !pool_join(t->user.pool, &s->user)) {
        memory_unmap(memory, LANE_MEMORY_SIZE);
        return no_memory(err);
    }
    s->memory = memory;
    s->tunnel = t;
    s->progress = 0;
    s->started_ms = now_of(t);
    config->memory = memory;
    config->channel.user = &s->user;
    config->channel.unix_offset_ms = clock_unix_ms() - s->started_ms;
    random_bytes(config->channel.seed, sizeof config->channel.seed);
    lane_init(&s->lane, config, s->started_ms);
    bytes_wipe(config, sizeof *config);
    int lane = tunnel_add_lane(&t->tunnel, &s->lane);
    if (lane < 0) {
        session_release(s);
        return error_set(err, ERROR_TOO_LARGE, "a tunnel has %d sessions at most", TUNNEL_LANES_MAX);
    }
    t->sessions[lane] = s;
    return 0;
}

void session_end(struct session *s, bool failed, struct str reason)
{
    if (s->tunnel == NULL)
        return;
    lane_end(&s->lane, now_of(s->tunnel), failed, reason);
    session_tunnel_wake(s->tunnel);
}

void session_release(struct session *s)
{
    gateway_close(&s->link);
    lane_release(&s->lane);
    pool_leave(&s->user);
    memory_unmap(s->memory, LANE_MEMORY_SIZE);
    bytes_wipe(&s->lane, sizeof s->lane); /* the tunnel's secret */
}
