#include "sim/lib/tunnel_host.h"

#include <string.h>

#include "lib/fresh_pool.h"

void tunnel_host_init(struct tunnel_host *h, const struct tunnel_host_options *options, struct play *plays,
                      size_t play_count, void *memory, uint64_t seed)
{
    struct session_config config = {.document = &h->document,
                                    .channel = {.peer_ignores_duplicates = true,
                                                .messages_per_second = options->rate,
                                                .burst_messages = options->burst,
                                                .ping_interval_ms = 54000,
                                                .unix_offset_ms = 1700000000000,
                                                .user = fresh_pool(0, FRESH_POOL_BLOCKS)},
                                    .memory = memory};
    memset(h, 0, sizeof *h);
    h->dice.state = seed;
    h->plays = plays;
    h->play_count = play_count;
    h->basic = options->basic;
    h->away_ms = options->away_ms;
    h->pauses = options->pauses;
    h->probe_ms = dice_between(&h->dice, 0, 2500);
    h->document.kind = options->kind;
    str_copy(STR_LITERAL("sim-0123456789"), h->document.session_id, sizeof h->document.session_id);
    str_copy(STR_LITERAL("{\"portNumber\":\"80\"}"), h->document.properties, sizeof h->document.properties);
    for (size_t i = 0; i < sizeof config.channel.seed; i++)
        config.channel.seed[i] = (uint8_t) dice_next(&h->dice);
    session_init(&h->session, &config, 0);
    wire_end_init(&h->wire, &h->session.channel, GATEWAY_AGENT, dice_next(&h->dice), options->small_pieces);
}

/* ---- targets ---- */

static void act(struct tunnel_host *h, const struct port_action *action, int64_t now_ms);

static void write_held(struct tunnel_host *h, uint16_t stream, int64_t now_ms)
{
    struct port_session *ps = &h->session.port;
    struct port_action action = {.todo = PORT_TODO_NOTHING};
    const uint8_t *data;
    size_t len;
    while (action.todo == PORT_TODO_NOTHING && (data = port_session_held(ps, stream, &len)) != NULL) {
        size_t n = play_take(h->targets[stream], now_ms, data, len, &h->dice);
        if (n == 0)
            return;
        port_session_took(ps, stream, now_ms, n, &action);
        act(h, &action, now_ms);
    }
}

static void end_dial(struct tunnel_host *h, uint16_t stream, int64_t now_ms)
{
    struct play *p = h->targets[stream];
    struct port_action action;
    if (p->kind == PLAY_REFUSE) {
        p->target = TARGET_CLOSED;
        h->targets[stream] = NULL;
        session_dial_failed(&h->session, now_ms, stream, "refused");
        return;
    }
    p->target = TARGET_OPEN;
    p->ever_open = true;
    p->took_ms = now_ms;
    port_session_connected(&h->session.port, stream, now_ms, &action);
    act(h, &action, now_ms);
}

static void target_broke(struct tunnel_host *h, uint16_t stream, int64_t now_ms)
{
    h->targets[stream]->target = TARGET_CLOSED;
    h->targets[stream] = NULL;
    session_target_broke(&h->session, now_ms, stream, "broken");
}

static void step_target(struct tunnel_host *h, uint16_t stream, int64_t now_ms)
{
    struct play *p = h->targets[stream];
    if (p->target == TARGET_DIALLING && now_ms >= p->due_ms)
        end_dial(h, stream, now_ms);
    if (h->targets[stream] == p && p->target == TARGET_OPEN)
        write_held(h, stream, now_ms);
    if (h->targets[stream] != p || p->target != TARGET_OPEN)
        return;
    if (play_available(p) > 0 || play_target_ended(p) || play_target_breaks(p))
        port_session_readable(&h->session.port, stream, now_ms);
}

static void dial(struct tunnel_host *h, uint16_t stream, int64_t now_ms)
{
    uint32_t id = port_session_stream(&h->session.port, stream)->id;
    struct play *p = NULL;
    for (size_t i = 0; i < h->play_count && !h->basic; i++)
        if (h->plays[i].id == id)
            p = &h->plays[i];
    if (h->basic && h->basic_dials < h->play_count)
        p = &h->plays[h->basic_dials++];
    if (p == NULL || p->target != TARGET_NONE || h->targets[stream] != NULL) {
        h->fault = "a dial that nobody asked for";
        return;
    }
    p->target = TARGET_DIALLING;
    p->due_ms = now_ms + p->dial_ms;
    h->targets[stream] = p;
}

static void close_target(struct tunnel_host *h, uint16_t stream, bool reset)
{
    struct play *p = h->targets[stream];
    p->target = TARGET_CLOSED;
    p->heard_end = true;
    p->was_reset = reset;
    h->targets[stream] = NULL;
}

static void act(struct tunnel_host *h, const struct port_action *action, int64_t now_ms)
{
    if (action->todo == PORT_TODO_NOTHING || action->todo == PORT_TODO_END)
        return;
    if (action->todo != PORT_TODO_DIAL && h->targets[action->stream] == NULL) {
        h->fault = "an action for a target that is not there";
        return;
    }
    switch (action->todo) {
    case PORT_TODO_DIAL:
        dial(h, action->stream, now_ms);
        break;
    case PORT_TODO_WRITE:
        port_session_wrote(
            &h->session.port, now_ms,
            play_take(h->targets[action->stream], now_ms, action->data, action->len, &h->dice));
        break;
    case PORT_TODO_END_WRITE:
        if (h->targets[action->stream]->heard_end)
            h->fault = "END_WRITE twice";
        h->targets[action->stream]->heard_end = true;
        break;
    case PORT_TODO_CLOSE:
    case PORT_TODO_RESET:
        close_target(h, action->stream, action->todo == PORT_TODO_RESET);
        break;
    case PORT_TODO_END:
    case PORT_TODO_NOTHING:
        break;
    }
}

/* ---- the turn ---- */

static bool take_events(struct tunnel_host *h, int64_t now_ms)
{
    struct session_event event;
    struct error err = ERROR_INIT;
    bool any = false;
    for (int i = 0;; i++, any = true) {
        session_next(&h->session, now_ms, &event, &err);
        if (i > 100000)
            h->fault = "session_next has no end";
        if (h->fault != NULL)
            return false;
        switch (event.type) {
        case SESSION_EVENT_NONE:
            return any;
        case SESSION_EVENT_PORT:
            act(h, &event.port, now_ms);
            break;
        case SESSION_EVENT_READY:
            h->ready = true;
            break;
        case SESSION_EVENT_LOST:
            h->losses++;
            h->reconnect_ms = now_ms + dice_between(&h->dice, 0, h->away_ms);
            break;
        case SESSION_EVENT_UNKNOWN:
            h->fault = "an unknown message";
            break;
        case SESSION_EVENT_OVER:
            if (h->over)
                h->fault = "the end twice";
            h->over = true;
            break;
        }
    }
}

static void read_target(struct tunnel_host *h, const struct session_gather *gather, int64_t now_ms)
{
    static uint8_t staging[SMUX_HEADER_SIZE + PORT_TURN_MAX];
    struct play *p = h->targets[gather->stream];
    struct port_action action;
    if (p == NULL || p->target != TARGET_OPEN || gather->max == 0 || gather->max > PORT_TURN_MAX) {
        h->fault = "a read from a target that is not there, or of an odd size";
        return;
    }
    size_t n = play_available(p) < gather->max ? play_available(p) : gather->max;
    if (n > 1 && dice_hits(&h->dice, 1000)) /* it came in pieces */
        n = dice_between(&h->dice, 1, (uint32_t) n);
    if (n == 0 && play_target_breaks(p)) {
        target_broke(h, gather->stream, now_ms);
        return;
    }
    if (n == 0 && play_target_ended(p)) {
        session_target_ended(&h->session, now_ms, gather->stream, &action);
        act(h, &action, now_ms);
        return;
    }
    play_give(p, staging + SMUX_HEADER_SIZE, n);
    session_send(&h->session, now_ms, gather, staging + SMUX_HEADER_SIZE, n,
                 play_available(p) > 0 || play_target_ended(p) || play_target_breaks(p));
}

static void gather_targets(struct tunnel_host *h, int64_t now_ms)
{
    struct session_gather gather;
    for (int i = 0; h->fault == NULL; i++) {
        session_gather(&h->session, now_ms, &gather);
        if (gather.type == SESSION_GATHER_NOTHING)
            return;
        if (gather.type == SESSION_GATHER_PORT)
            act(h, &gather.port, now_ms);
        else
            read_target(h, &gather, now_ms);
        if (i > 100000)
            h->fault = "session_gather has no end";
    }
}

static void service_speaks(struct tunnel_host *h, int64_t now_ms)
{
    if (data_channel_state(&h->session.channel) != CONNECTION_UP)
        return;
    if (h->pauses && now_ms >= h->speak_ms) {
        h->paused = !h->paused;
        h->speak_ms = now_ms + dice_between(&h->dice, 1, 2000);
        wire_end_say(&h->wire, h->paused ? AGENT_MESSAGE_PAUSE_PUBLICATION : AGENT_MESSAGE_START_PUBLICATION,
                     "");
    }
    if (h->close_due && wire_end_say(&h->wire, AGENT_MESSAGE_CHANNEL_CLOSED, "{\"Output\":\"over and out\"}"))
        h->close_due = false;
}

static void connect(struct tunnel_host *h, struct gateway *g, int64_t now_ms)
{
    struct error err = ERROR_INIT;
    if (!session_wants_connection(&h->session) || now_ms < h->reconnect_ms)
        return;
    if (session_connected(&h->session, now_ms, str_from("{\"TokenValue\":\"agent\"}"), &err) < 0)
        h->fault = "session_connected failed";
    wire_end_connected(&h->wire, g, now_ms);
}

static void check_bounds(struct tunnel_host *h)
{
    const struct port_session *ps = &h->session.port;
    if (!h->session.port_ready)
        return;
    if (ps->chunks_used > h->held_max)
        h->held_max = ps->chunks_used;
    if (ps->chunks_used > PORT_HELD_CHUNKS || ps->chunks_untouched > PORT_HELD_CHUNKS ||
        ps->stream_count > PORT_STREAMS_MAX)
        h->fault = "a bound was passed";
}

void tunnel_host_step(struct tunnel_host *h, struct gateway *g, int64_t now_ms)
{
    bool moved = true;
    if (!h->session.probed && now_ms >= h->probe_ms)
        session_probed(&h->session, now_ms, STR_LITERAL("Connected to the simulated target."));
    session_tick(&h->session, now_ms);
    connect(h, g, now_ms);
    service_speaks(h, now_ms);
    while (moved && h->fault == NULL) {
        for (uint16_t i = 0; i < PORT_STREAMS_MAX && h->session.port_ready && i < h->play_count; i++)
            if (h->targets[i] != NULL)
                step_target(h, i, now_ms);
        moved = wire_end_receive(&h->wire, g, now_ms);
        moved |= take_events(h, now_ms);
        if (data_channel_state(&h->session.channel) != CONNECTION_DOWN) {
            gather_targets(h, now_ms);
            moved |= wire_end_transmit(&h->wire, g, now_ms);
        }
    }
    if (wire_end_breaks(&h->wire, g, now_ms))
        session_disconnected(&h->session, now_ms, "the connection broke");
    take_events(h, now_ms);
    check_bounds(h);
    if (h->wire.fault != NULL)
        h->fault = h->wire.fault;
}

int64_t tunnel_host_due_ms(struct tunnel_host *h, const struct gateway *g, int64_t now_ms)
{
    int64_t due_ms = session_deadline(&h->session, now_ms);
    int64_t wire_ms = INT64_MAX;
    if (!h->session.probed && h->probe_ms < due_ms)
        due_ms = h->probe_ms;
    if (session_wants_connection(&h->session))
        wire_ms = h->reconnect_ms;
    else if (data_channel_state(&h->session.channel) != CONNECTION_DOWN)
        wire_ms = wire_end_due_ms(&h->wire, g, now_ms);
    if (h->pauses && h->speak_ms < wire_ms)
        wire_ms = h->speak_ms;
    due_ms = wire_ms < due_ms ? wire_ms : due_ms;
    for (size_t i = 0; i < h->play_count; i++) {
        const struct play *p = h->targets[i];
        size_t len;
        if (p == NULL)
            continue;
        if (p->target == TARGET_DIALLING)
            due_ms = p->due_ms < due_ms ? p->due_ms : due_ms;
        else if (p->kind != PLAY_NEVER && port_session_held(&h->session.port, (uint16_t) i, &len) != NULL)
            due_ms = now_ms + 1 < due_ms ? now_ms + 1 : due_ms;
    }
    return due_ms;
}
