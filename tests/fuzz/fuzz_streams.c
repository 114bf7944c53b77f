/*
 * A port session between a hostile client and targets at the mercy of the input. Each byte of the input is an
 * operation, some with operands. Whatever happens: actions make sense for the connections that there are,
 * what is counted is what is there, what targets get is what was framed for them, and bounds hold.
 */
#include "tunnel/streams.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TARGETS = 8, PENDING_MAX = 1 << 21 };

enum connection { CONNECTION_NONE, CONNECTION_DIALLING, CONNECTION_OPEN };

struct rig {
    struct port_session ps;
    enum connection connections[PORT_STREAMS_MAX];
    bool write_ended[PORT_STREAMS_MAX];
    uint8_t *pending; /* input that was not taken */
    size_t pending_len;
    int64_t now_ms;
    bool failed;
};

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void act(struct rig *rig, const struct port_action *action, uint8_t taken)
{
    uint16_t stream = action->stream;
    switch (action->todo) {
    case PORT_TODO_NOTHING:
        return;
    case PORT_TODO_DIAL:
        check(rig->connections[stream] == CONNECTION_NONE);
        rig->connections[stream] = CONNECTION_DIALLING;
        rig->write_ended[stream] = false;
        return;
    case PORT_TODO_WRITE:
        check(rig->connections[stream] == CONNECTION_OPEN && !rig->write_ended[stream] && action->len > 0);
        check(action->data >= rig->pending && action->data + action->len <= rig->pending + rig->pending_len);
        port_session_wrote(&rig->ps, rig->now_ms, action->len * taken / 255);
        return;
    case PORT_TODO_END_WRITE:
        check(rig->connections[stream] == CONNECTION_OPEN && !rig->write_ended[stream]);
        rig->write_ended[stream] = true;
        return;
    case PORT_TODO_CLOSE:
    case PORT_TODO_RESET:
        check(rig->connections[stream] != CONNECTION_NONE);
        rig->connections[stream] = CONNECTION_NONE;
        return;
    case PORT_TODO_END:
        check(rig->ps.mode == PORT_BASIC_ONCE);
        rig->failed = true;
        return;
    }
}

static void receive(struct rig *rig, uint8_t taken)
{
    struct port_action action;
    struct error err = ERROR_INIT;
    size_t used;
    do {
        if (port_session_receive(&rig->ps, rig->now_ms, rig->pending, rig->pending_len, &used, &action,
                                 &err) < 0) {
            check(err.text[0] != '\0' && rig->ps.mode == PORT_MULTIPLEXED);
            rig->failed = true;
            return;
        }
        check(used <= rig->pending_len);
        act(rig, &action, taken);
        rig->pending_len -= used;
        memmove(rig->pending, rig->pending + used, rig->pending_len);
    } while (action.todo != PORT_TODO_NOTHING && !rig->failed);
}

static void feed(struct rig *rig, const uint8_t *bytes, size_t len)
{
    if (rig->pending_len + len > PENDING_MAX)
        return;
    if (len > 0)
        memcpy(rig->pending + rig->pending_len, bytes, len);
    rig->pending_len += len;
}

static void feed_frame(struct rig *rig, enum smux_command command, uint32_t id, uint16_t len)
{
    static uint8_t frame[SMUX_HEADER_SIZE + 65535];
    size_t header = rig->ps.mode == PORT_MULTIPLEXED ? SMUX_HEADER_SIZE : 0;
    if (header > 0)
        smux_write_header(frame, command, id, len);
    feed(rig, frame, header + len);
}

static void write_held(struct rig *rig, uint16_t stream, uint8_t taken)
{
    struct port_action action;
    size_t len;
    if (rig->connections[stream] != CONNECTION_OPEN || port_session_held(&rig->ps, stream, &len) == NULL)
        return;
    check(len > 0 && len <= PORT_CHUNK_SIZE && !rig->write_ended[stream]);
    port_session_took(&rig->ps, stream, rig->now_ms, len * taken / 255, &action);
    act(rig, &action, taken);
}

/* The turn of whoever is next. */
static void take_turn(struct rig *rig, enum pacer_class class, uint8_t how)
{
    struct port_action action = {.todo = PORT_TODO_NOTHING};
    uint16_t stream;
    if (!port_session_pick(&rig->ps, class, &stream))
        return;
    if (port_session_wants_flag(&rig->ps, stream)) {
        port_session_flag_sent(&rig->ps, stream);
    } else if (port_session_wants_fin(&rig->ps, stream)) {
        port_session_fin_sent(&rig->ps, stream, rig->now_ms, &action);
    } else {
        check(rig->connections[stream] == CONNECTION_OPEN);
        if (how % 4 == 0)
            port_session_target_ended(&rig->ps, stream, rig->now_ms, &action);
        else
            port_session_sent(&rig->ps, stream, rig->now_ms, how * 64, how % 4 == 1);
    }
    act(rig, &action, 255);
}

static void lose(struct rig *rig, uint16_t stream)
{
    if (rig->connections[stream] == CONNECTION_DIALLING)
        port_session_failed(&rig->ps, stream);
    else if (rig->connections[stream] == CONNECTION_OPEN)
        port_session_broke(&rig->ps, stream);
    rig->connections[stream] = CONNECTION_NONE;
}

static void open_connection(struct rig *rig, uint16_t stream)
{
    struct port_action action;
    if (rig->connections[stream] != CONNECTION_DIALLING)
        return;
    rig->connections[stream] = CONNECTION_OPEN;
    port_session_connected(&rig->ps, stream, rig->now_ms, &action);
    act(rig, &action, 255);
}

static void tick(struct rig *rig, bool others_wait)
{
    struct port_action action;
    bool due = rig->now_ms >= port_session_deadline(&rig->ps);
    port_session_tick(&rig->ps, rig->now_ms, others_wait, &action);
    check(action.todo == (due && others_wait ? PORT_TODO_RESET : PORT_TODO_NOTHING));
    act(rig, &action, 255);
    check(rig->now_ms < port_session_deadline(&rig->ps));
}

static void answer_refused(struct rig *rig)
{
    uint32_t id;
    bool flag_sent;
    if (!port_session_refused(&rig->ps, &id, &flag_sent))
        return;
    if (flag_sent)
        port_session_refused_fin_sent(&rig->ps);
    else
        port_session_refused_flag_sent(&rig->ps);
}

static void operate(struct rig *rig, struct reader *r)
{
    struct port_action action;
    uint8_t operation = reader_u8(r);
    uint8_t operand = reader_u8(r);
    uint16_t stream = operand % TARGETS;
    switch (operation % 16) {
    case 0:
        feed_frame(rig, SMUX_SYN, stream, 0);
        break;
    case 1:
        feed_frame(rig, SMUX_FIN, stream, 0);
        break;
    case 2:
    case 3:
        feed_frame(rig, SMUX_PSH, stream, (uint16_t) (reader_u8(r) * 257));
        break;
    case 4: /* anything */
        feed(rig, r->at, operand < r->left ? operand : r->left);
        reader_skip(r, operand < r->left ? operand : r->left);
        break;
    case 5:
        for (unsigned i = 0; i < PORT_STREAMS_MAX + 70u && operand == 0; i++)
            feed_frame(rig, SMUX_SYN, 1000 + i, 0);
        break;
    case 6:
    case 7:
        receive(rig, operand);
        break;
    case 8:
        open_connection(rig, stream);
        break;
    case 9:
        lose(rig, stream);
        break;
    case 10:
        if (rig->connections[stream] == CONNECTION_OPEN)
            port_session_readable(&rig->ps, stream, rig->now_ms);
        break;
    case 11:
        take_turn(rig, operand & 1 ? PACER_BULK : PACER_INTERACTIVE, operand >> 1);
        break;
    case 12:
        write_held(rig, stream, reader_u8(r));
        break;
    case 13:
        rig->now_ms += operand * 200;
        tick(rig, operand & 1);
        break;
    case 14:
        port_session_disconnect(&rig->ps, rig->now_ms, &action);
        act(rig, &action, operand);
        break;
    default:
        answer_refused(rig);
        break;
    }
}

static void check_counts(const struct port_session *ps, const struct rig *rig)
{
    size_t streams = 0, chunks = 0;
    for (uint16_t i = 0; i < PORT_STREAMS_MAX; i++) {
        const struct port_stream *s = &ps->streams[i];
        size_t held = 0;
        streams += s->state != PORT_STREAM_FREE;
        check((rig->connections[i] != CONNECTION_NONE) ==
              (s->state == PORT_STREAM_DIALLING || s->state == PORT_STREAM_OPEN));
        if (s->state == PORT_STREAM_FREE)
            continue;
        check(s->held <= PORT_STREAM_HELD_MAX);
        for (uint16_t chunk = s->first_chunk; chunk != PORT_NO_CHUNK; chunk = ps->chunk_next[chunk], chunks++)
            held += ps->chunk_len[chunk];
        check(held - s->first_offset == s->held);
    }
    check(streams == port_session_open_streams(ps) && chunks == ps->chunks_used &&
          chunks <= PORT_HELD_CHUNKS);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    static uint8_t *memory, *pending;
    struct reader r = reader_of(data, size < 512 ? size : 512);
    uint8_t kind = reader_u8(&r);
    if (memory == NULL) {
        memory = malloc(PORT_SESSION_MEMORY_SIZE);
        pending = malloc(PENDING_MAX);
        check(memory != NULL && pending != NULL);
    }
    memset(memory, 0, PORT_STREAMS_MAX * sizeof(struct port_stream));
    memset(&rig, 0, sizeof rig);
    rig.pending = pending;
    port_session_init(&rig.ps, memory, (enum port_mode)(kind % 3), kind & 4);
    if (kind % 3 != PORT_MULTIPLEXED)
        act(&rig,
            &(struct port_action){.todo = PORT_TODO_DIAL, .stream = port_session_begin_basic(&rig.ps, 0)}, 0);
    while (r.left > 0 && !rig.failed)
        operate(&rig, &r);
    check_counts(&rig.ps, &rig);
    for (uint16_t i = 0; i < PORT_STREAMS_MAX; i++)
        lose(&rig, i);
    check(rig.ps.chunks_used == 0);
    return 0;
}
