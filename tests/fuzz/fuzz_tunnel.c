/*
 * A tunnel in either role, in the product's loop, against a hostile peer and a service that does its
 * worst: stream messages of any type, number and content, messages of the service, frames and bytes of any
 * kind, over several lanes whose connections come and go, take little or nothing, and with endpoints that
 * do what the input says. No turn goes on for ever, none is due again and again without anything to do; a
 * step is for an endpoint that is there; what is held and kept is bounded; what has ended stays ended; and
 * in the end all ends by its own deadlines, with every block given back.
 */
#include "run/turn.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/num.h"
#include "lib/fresh_pool.h"
#include "lib/lane_peer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SESSIONS = 4,
    INPUT_MAX = 2048,
    TURNS_MAX = 5000, /* at one moment: an input gives no more work than that */
    SPIN_MAX = 2,     /* turns in a row that are due at once and have not used up their budget */
    ENDING_MS = LANE_DRAIN_MS + 2 * CONNECTION_CLOSING_MS + 1000,
    SMALL_POOL = POOL_USER_BLOCKS + 16
};

enum endpoint_state { ENDPOINT_NONE, ENDPOINT_OPENING, ENDPOINT_OPEN };

struct endpoint {
    uint8_t state;
    bool shut;
    bool ends;   /* behind what is readable */
    bool breaks; /* so does it */
    uint32_t readable;
};

struct session;

/* A tunnel, as its owner has it. */
struct owner {
    struct tunnel tunnel;
    struct endpoint endpoints[STREAMS_MAX];
    struct session *lanes[TUNNEL_LANES_MAX];
    uint64_t pieces; /* of the peer */
    bool exists;
    bool is_abandoned;
};

struct session {
    struct lane lane;
    struct lane_peer peer;
    struct document document;
    struct owner *owner; /* null: it is over */
    enum lane_state state;
    bool failed;
    char reason[LANE_TEXT_SIZE];
};

static struct session sessions[SESSIONS];
static struct owner owners[SESSIONS];
static unsigned started;
static enum lane_role role;
static uint8_t config;
static int64_t now_ms;
static uint8_t takes;    /* how much endpoints take: n of 255 */
static uint8_t opens_at; /* once: 0 later, 1 inside of the step, 2 it fails inside of the step */

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* ---- endpoints ---- */

static struct endpoint *endpoint_of(struct owner *o, uint16_t stream, enum endpoint_state state)
{
    check(stream < STREAMS_MAX && o->endpoints[stream].state == state && o->tunnel.lane_count > 0);
    return &o->endpoints[stream];
}

static void open_endpoint(void *context, uint16_t stream, const char *host, uint16_t port)
{
    struct owner *o = context;
    struct endpoint *e = endpoint_of(o, stream, ENDPOINT_NONE);
    check(strlen(host) > 0 && port > 0 && role == LANE_AGENT);
    *e = (struct endpoint){.state = ENDPOINT_OPENING};
    if (opens_at == 1) {
        e->state = ENDPOINT_OPEN;
        tunnel_notify(&o->tunnel, now_ms, stream, TUNNEL_ENDPOINT_OPENED, STR_LITERAL("10.0.0.1:80"));
    } else if (opens_at == 2) {
        e->state = ENDPOINT_NONE;
        tunnel_notify(&o->tunnel, now_ms, stream, TUNNEL_ENDPOINT_FAILED, STR_LITERAL("refused"));
    }
}

static size_t length_of(const struct iovec *vectors, int count)
{
    size_t len = 0;
    for (int i = 0; i < count; i++) {
        check(vectors[i].iov_len > 0);
        len += vectors[i].iov_len;
    }
    check(count > 0 && count <= TUNNEL_VECTORS_MAX);
    return len;
}

static void read_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                          struct tunnel_result *result)
{
    struct endpoint *e = endpoint_of(context, stream, ENDPOINT_OPEN);
    size_t len = length_of(vectors, count);
    check(len <= STREAMS_TURN_MAX);
    result->n = num_min_size(len, e->readable);
    for (size_t n = result->n; n > 0; n -= num_min_size(n, vectors->iov_len), vectors++)
        memset(vectors->iov_base, 'x', num_min_size(n, vectors->iov_len));
    e->readable -= (uint32_t) result->n;
    result->failed = result->n == 0 && e->breaks;
    result->ended = result->n == 0 && e->ends && !e->breaks;
    result->more = e->readable > 0 || e->ends || e->breaks;
    if (result->failed)
        e->state = ENDPOINT_NONE;
}

static void write_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                           struct tunnel_result *result)
{
    struct endpoint *e = endpoint_of(context, stream, ENDPOINT_OPEN);
    size_t len = length_of(vectors, count);
    check(!e->shut && len <= TUNNEL_WRITE_MAX);
    result->n = len * takes / 255;
    result->failed = e->breaks;
    if (result->failed)
        e->state = ENDPOINT_NONE;
}

static void shut_endpoint(void *context, uint16_t stream)
{
    struct endpoint *e = endpoint_of(context, stream, ENDPOINT_OPEN);
    check(!e->shut);
    e->shut = true;
}

static void leave_endpoint(void *context, uint16_t stream, const char *why)
{
    struct owner *o = context;
    check(why != NULL && o->endpoints[stream].state != ENDPOINT_NONE && o->tunnel.lane_count > 0);
    o->endpoints[stream].state = ENDPOINT_NONE;
}

static const struct turn_endpoint_ops endpoint_ops = {.open = open_endpoint,
                                                      .read = read_endpoint,
                                                      .write = write_endpoint,
                                                      .shut = shut_endpoint,
                                                      .close = leave_endpoint,
                                                      .reset = leave_endpoint};

static void tell_of_endpoint(struct owner *o, uint16_t stream, uint8_t what)
{
    static const uint32_t sizes[] = {1, 100, 5000, 70000};
    struct endpoint *e = &o->endpoints[stream];
    enum tunnel_news news = TUNNEL_ENDPOINT_READABLE;
    if (e->state == ENDPOINT_NONE || o->tunnel.lane_count == 0)
        return;
    if (e->state == ENDPOINT_OPENING) {
        news = what % 4 == 0 ? TUNNEL_ENDPOINT_FAILED : TUNNEL_ENDPOINT_OPENED;
        e->state = what % 4 == 0 ? ENDPOINT_NONE : ENDPOINT_OPEN;
    } else if (what % 8 < 4) {
        e->readable = num_min_size(e->readable + sizes[what % 4], 300000) & UINT32_MAX;
    } else if (what % 8 == 4) {
        e->ends = true;
    } else if (what % 8 == 5) {
        e->breaks = true;
    } else if (what % 8 == 6) {
        news = TUNNEL_ENDPOINT_WRITABLE;
    } else {
        news = TUNNEL_ENDPOINT_BROKE;
        e->state = ENDPOINT_NONE;
    }
    tunnel_notify(&o->tunnel, now_ms, stream, news, STR_LITERAL("news"));
}

/* ---- lanes ---- */

static const uint8_t *receive(void *context, unsigned lane, size_t *len)
{
    return lane_peer_receive(&((struct owner *) context)->lanes[lane]->peer, len);
}

static void received(void *context, unsigned lane, size_t len)
{
    lane_peer_received(&((struct owner *) context)->lanes[lane]->peer, len);
}

static size_t send_bytes(void *context, unsigned lane, const void *data, size_t len)
{
    return lane_peer_send(&((struct owner *) context)->lanes[lane]->peer, data, len);
}

static const struct turn_lane_ops lane_ops = {.receive = receive, .received = received, .send = send_bytes};

static void start_lane(struct session *s, unsigned index, struct owner *o)
{
    size_t blocks = config & 8 ? SMALL_POOL : FRESH_POOL_BLOCKS;
    struct lane_config lane = {.role = role,
                               .document = &s->document,
                               .extension = {.is_ours = true, .lanes = true, .destinations = config & 16},
                               .channel = {.messages_per_second = config & 4 ? 100 : 0,
                                           .burst_messages = 20,
                                           .ping_interval_ms = 54000,
                                           .user = fresh_pool((int) index, blocks)},
                               .memory = fresh_memory((int) index, LANE_MEMORY_SIZE)};
    memset(lane.extension.secret, role == LANE_AGENT ? 'a' + (int) index : 'a', HANDSHAKE_SECRET_SIZE - 1);
    lane_init(&s->lane, &lane, now_ms);
    lane_peer_init(&s->peer, &s->lane);
    s->owner = o;
    s->state = LANE_STARTING;
    o->lanes[tunnel_add_lane(&o->tunnel, &s->lane)] = s;
}

static void start_session(void)
{
    struct session *s = &sessions[started];
    struct owner *o = &owners[role == LANE_AGENT ? started : 0];
    if (started == SESSIONS || (o->exists && (!o->tunnel.has_pieces || o->tunnel.lane_count == 0)))
        return;
    memset(&s->document, 0, sizeof s->document);
    s->document.kind = config & 2 ? DOCUMENT_STREAM : DOCUMENT_LOCAL_FORWARDING;
    str_copy(STR_LITERAL("{}"), s->document.properties, sizeof s->document.properties);
    str_copy(STR_LITERAL("s-1"), s->document.session_id, sizeof s->document.session_id);
    str_copy(STR_LITERAL("db"), s->document.host, sizeof s->document.host);
    s->document.port = 80;
    if (!o->exists) {
        int memory = SESSIONS + (int) started;
        memset(o, 0, sizeof *o);
        tunnel_init(
            &o->tunnel,
            &(struct tunnel_config){.role = role,
                                    .document = role == LANE_AGENT ? &s->document : NULL,
                                    .user = fresh_pool(memory, config & 8 ? SMALL_POOL : FRESH_POOL_BLOCKS),
                                    .memory = fresh_memory(memory, TUNNEL_MEMORY_SIZE)},
            now_ms);
        o->exists = true;
    }
    start_lane(s, started++, o);
}

/* A lane's state, and why it ended, once that is known. */
static void check_state(struct session *s)
{
    bool had_ended = s->state >= LANE_ENDING;
    check(s->lane.state >= s->state);
    check(!had_ended || (s->failed == s->lane.failed && strcmp(s->reason, s->lane.reason) == 0));
    s->state = s->lane.state;
    s->failed = s->lane.failed;
    memcpy(s->reason, s->lane.reason, sizeof s->reason);
}

static void lane_over(struct owner *o, const struct tunnel_step *step)
{
    struct session *s = o->lanes[step->lane];
    check(step->over == &s->lane && s->lane.state == LANE_OVER && s->lane.reason[0] != '\0');
    for (unsigned i = step->lane; i < o->tunnel.lane_count; i++)
        o->lanes[i] = o->lanes[i + 1];
    if (o->tunnel.lane_count == 0)
        memset(o->endpoints, 0, sizeof o->endpoints); /* closed by their owner: no more steps for them */
    lane_release(&s->lane);
    check(s->lane.channel.config.user->used == 0 && s->lane.channel.config.user->critical == 0);
    s->owner = NULL;
}

static void join(struct owner *o, unsigned lane, struct str secret)
{
    struct session *s = o->lanes[lane];
    struct owner *other = &owners[secret.ptr[0] % 4 == 1 ? 0 : 1];
    int index = -1;
    if (other != o && other->exists)
        index = tunnel_move_lane(&o->tunnel, lane, &other->tunnel, now_ms, NULL);
    if (index < 0) {
        lane_end(&s->lane, now_ms, true, STR_LITERAL("it could not join"));
        return;
    }
    other->lanes[index] = s;
    s->owner = other;
    o->is_abandoned = true;
}

static void event(void *context, const struct tunnel_step *step, struct tunnel_result *result)
{
    struct owner *o = context;
    switch (step->type) {
    case TUNNEL_STEP_LANE_LOST:
        lane_peer_cut(&o->lanes[step->lane]->peer, now_ms);
        break;
    case TUNNEL_STEP_LANE_OVER:
        lane_over(o, step);
        break;
    case TUNNEL_STEP_JOIN:
        join(o, step->lane, step->text);
        break;
    case TUNNEL_STEP_DESTINATION:
        endpoint_of(o, step->stream, ENDPOINT_OPEN);
        result->text = STR_LITERAL("db.internal:5439");
        break;
    case TUNNEL_STEP_ANSWERED:
        endpoint_of(o, step->stream, ENDPOINT_OPEN);
        break;
    default:
        break;
    }
}

/* ---- turns ---- */

static void check_tunnel(const struct owner *o)
{
    const struct tunnel *t = &o->tunnel;
    unsigned in_use = 0, half_closed = 0;
    size_t held = 0;
    for (uint16_t i = 0; i < t->streams.untouched && t->lane_count > 0; i++) {
        const struct streams_slot *slot = tunnel_stream(t, i);
        enum endpoint_state expected = slot->state == STREAMS_OPEN      ? ENDPOINT_OPEN
                                       : slot->state == STREAMS_OPENING ? ENDPOINT_OPENING
                                                                        : ENDPOINT_NONE;
        check(o->endpoints[i].state == expected);
        if (slot->state == STREAMS_FREE)
            continue;
        in_use++;
        half_closed += slot->fin_at_ms != 0;
        held += slot->held.len;
        check(slot->held.len <= HELD_STREAM_MAX);
    }
    if (t->lane_count > 0)
        check(in_use == t->streams.open && half_closed == t->half_closed && held == t->held);
    check(t->held <= HELD_MAX && t->pieces.used <= INBOX_MESSAGES);
    check(t->blocked == STREAMS_NONE || tunnel_stream(t, t->blocked)->state != STREAMS_FREE);
    check(t->writing == STREAMS_NONE);
    for (unsigned i = 0; i < t->lane_count; i++) {
        const struct data_channel *channel = &t->lanes[i]->channel;
        check(channel->inbox.used <= INBOX_MESSAGES && channel->ack_count <= DATA_CHANNEL_ACKS_MAX);
        check(outbox_counted(&channel->outbox) <= OUTBOX_WINDOW + OUTBOX_FRESH);
    }
}

static void end_owner(struct owner *o)
{
    check(o->tunnel.lane_count == 0);
    o->exists = false;
    tunnel_release(&o->tunnel);
    check(o->tunnel.user->used == 0 && o->tunnel.user->critical == 0);
}

/* The deadline is the next turn's. */
static int64_t run_turns(struct owner *o)
{
    const struct turn turn = {
        .tunnel = &o->tunnel, .lanes = &lane_ops, .endpoints = &endpoint_ops, .event = event, .context = o};
    int64_t deadline_ms = now_ms;
    int spins = 0;
    for (int turns = 0; deadline_ms <= now_ms; turns++) {
        check(turns < TURNS_MAX && spins <= SPIN_MAX);
        enum turn_result result = turn_run(&turn, now_ms, &deadline_ms);
        for (unsigned i = 0; i < started; i++)
            check_state(&sessions[i]);
        if (result == TURN_OVER || o->is_abandoned) {
            end_owner(o);
            return INT64_MAX;
        }
        check_tunnel(o);
        spins = result == TURN_IDLE ? spins + 1 : 0;
        if (result == TURN_MORE)
            deadline_ms = now_ms;
    }
    return deadline_ms;
}

static int64_t run_all(void)
{
    int64_t deadline_ms = INT64_MAX;
    for (unsigned i = 0; i < SESSIONS; i++) /* one that joins gives another work */
        if (owners[i].exists)
            run_turns(&owners[i]);
    for (unsigned i = 0; i < SESSIONS; i++)
        if (owners[i].exists)
            deadline_ms = num_min_i64(deadline_ms, run_turns(&owners[i]));
    return deadline_ms;
}

/* ---- what the input says ---- */

static void shake_hands(struct session *s, uint8_t how)
{
    static const char *const versions[] = {"1.2.804.0", "1.2.804.0", "1.1.0.0", "1.2.804.0"};
    struct handshake_extension extension = {.is_ours = true, .lanes = !(how & 4), .destinations = !(how & 8)};
    bool ours = how % 2 == 1;
    if (role == LANE_CLIENT && how % 4 == 3) {
        lane_peer_complete(&s->peer);
        return;
    }
    if (role == LANE_CLIENT || how % 4 == 3)
        memset(extension.secret, 'a' + (how >> 4) % 2, HANDSHAKE_SECRET_SIZE - 1);
    s->peer.is_for_stdio = how % 32 >= 24;
    if (role == LANE_CLIENT)
        lane_peer_request(&s->peer, how % 4 == 2 ? "3.0.1.0" : "3.3.987.0", ours ? &extension : NULL);
    else
        lane_peer_respond(&s->peer, versions[how % 4], ours ? &extension : NULL);
}

static void say_frames(struct session *s, uint8_t what, uint8_t many)
{
    static const uint8_t data[1000];
    enum smux_command command = (enum smux_command)(what % 8 < 2   ? SMUX_SYN
                                                    : what % 8 < 3 ? SMUX_FIN
                                                                   : SMUX_PSH);
    uint32_t id = 3 + 2 * (uint32_t) (what / 8 % 8);
    if (what % 8 == 7)
        command = SMUX_NOP;
    for (unsigned i = 0; i < (many >= 224 ? many % 32 * 8u : 1u); i++)
        lane_peer_smux(&s->peer, command, id, data, command == SMUX_PSH ? num_min_size(many * 4u, 1000) : 0);
}

static void say_text(struct session *s, uint8_t what)
{
    static const char *const texts[] = {"db:5439",        "",    "a b:1",   "db:0", "db",
                                        "10.0.0.9:65535", ":80", "[::1]:80"};
    static const enum smux_command commands[] = {SMUX_SYN, SMUX_OPENED, SMUX_REFUSED, SMUX_SYN};
    const char *text = texts[what / 32];
    lane_peer_smux(&s->peer, commands[what % 4], 3 + 2 * (uint32_t) (what / 4 % 8), text, strlen(text));
}

/* Out of order. */
static void say_message(struct session *s, uint8_t type, int8_t distance, struct reader *r)
{
    uint64_t *pieces = s->peer.pieces;
    uint64_t piece = pieces != NULL ? *pieces + (uint64_t) distance : 0;
    size_t len = num_min_size(64, r->left);
    if (type % 4 != 0) {
        lane_peer_message(&s->peer, (enum agent_message_type)(type / 4 % AGENT_MESSAGE_TYPE_COUNT),
                          s->peer.sequence + distance, PAYLOAD_OUTPUT, r->at, len);
        return;
    }
    s->peer.pieces = &piece;
    lane_peer_data(&s->peer, PAYLOAD_OUTPUT, r->at, len);
    s->peer.pieces = pieces;
    if (distance == 0 && pieces != NULL)
        ++*pieces;
}

static void connect_link(struct session *s, uint8_t how)
{
    if (how == 255)
        lane_peer_cut(&s->peer, now_ms);
    else if (lane_wants_connection(&s->lane))
        lane_peer_connect(&s->peer, now_ms);
    s->peer.acknowledges = how % 2 == 0;
    s->peer.takes = how % 4 < 2 ? SIZE_MAX : how * 64u;
}

static void open_stream(struct owner *o)
{
    uint16_t stream = role == LANE_CLIENT ? tunnel_open(&o->tunnel, now_ms) : STREAMS_NONE;
    if (stream == STREAMS_NONE)
        return;
    check(o->endpoints[stream].state == ENDPOINT_NONE);
    o->endpoints[stream] = (struct endpoint){.state = ENDPOINT_OPEN};
}

static void say(struct session *s, uint8_t operation, uint8_t operand, struct reader *r)
{
    size_t len = num_min_size(operation % 16 == 7 ? operand / 16 * 4u : operand, r->left);
    s->peer.pieces = s->lane.agreed && lane_has_pieces(&s->lane) ? &s->owner->pieces : NULL;
    switch (operation % 16) {
    case 1:
        shake_hands(s, operand);
        return;
    case 2:
        lane_peer_flag(&s->peer, (enum payload_flag)(operand % 4));
        return;
    case 3:
    case 4:
        say_frames(s, operand, reader_u8(r));
        return;
    case 5:
        say_text(s, operand);
        return;
    case 6:
        say_message(s, operand, (int8_t) reader_u8(r), r);
        return;
    case 7:
        lane_peer_data(&s->peer, operand % 16, r->at, len);
        break;
    case 8:
        lane_peer_bytes(&s->peer, r->at, len);
        break;
    default:
        lane_peer_frame(&s->peer, (enum websocket_opcode)(operand % 16), r->at, len);
        break;
    }
    reader_skip(r, len);
}

static void act(struct session *s, uint8_t operation, uint8_t operand)
{
    struct owner *o = s->owner;
    switch (operation % 16) {
    case 0:
        connect_link(s, operand);
        break;
    case 10:
        lane_probed(&s->lane, now_ms, STR_LITERAL("banner"));
        takes = operand;
        break;
    case 11:
        opens_at = operand % 3;
        open_stream(o);
        break;
    case 12:
    case 13:
        tell_of_endpoint(o, operand % 8, operand / 8);
        break;
    case 14:
        now_ms += operand < 250 ? operand * 10 : operand * 200;
        break;
    default:
        if (operand < 8)
            start_session();
        else if (operand == 254)
            tunnel_end(&o->tunnel, now_ms, false, STR_LITERAL("enough"));
        else if (operand == 255)
            lane_end(&s->lane, now_ms, true, STR_LITERAL("enough of this one"));
        break;
    }
}

static void operate(struct reader *r)
{
    uint8_t operation = reader_u8(r);
    uint8_t operand = reader_u8(r);
    struct session *s = &sessions[(operation >> 4) % 4 % started];
    if (s->owner == NULL && operation % 16 != 14)
        return;
    if (operation % 16 > 0 && operation % 16 < 10)
        say(s, operation, operand, r);
    else
        act(s, operation, operand);
    if (!(operation & 0x80)) /* else more happens before the turn */
        run_all();
}

/* Whatever was done: nobody helps any more, and all ends by its own deadlines. */
static void run_out(void)
{
    int64_t until_ms = now_ms + ENDING_MS;
    for (unsigned i = 0; i < SESSIONS; i++)
        if (owners[i].exists)
            tunnel_end(&owners[i].tunnel, now_ms, true, STR_LITERAL("enough"));
    for (;;) {
        int64_t deadline_ms = run_all();
        bool is_over = true;
        for (unsigned i = 0; i < SESSIONS; i++)
            is_over = is_over && !owners[i].exists;
        if (is_over)
            return;
        check(deadline_ms <= until_ms);
        now_ms = deadline_ms;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(data, size < INPUT_MAX ? size : INPUT_MAX);
    config = reader_u8(&r);
    role = config & 1 ? LANE_CLIENT : LANE_AGENT;
    now_ms = 1000;
    takes = 255;
    opens_at = 0;
    started = 0;
    for (unsigned i = 0; i < SESSIONS; i++) {
        owners[i].exists = false;
        sessions[i].owner = NULL;
    }
    start_session();
    lane_peer_connect(&sessions[0].peer, now_ms);
    while (r.left > 0)
        operate(&r);
    run_out();
    for (unsigned i = 0; i < started; i++)
        check(sessions[i].owner == NULL);
    return 0;
}
