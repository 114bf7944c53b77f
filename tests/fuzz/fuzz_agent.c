/*
 * A session against a hostile peer: stream messages of any type, number and content, messages of the service,
 * frames and bytes of any kind, over connections that come and go, with targets that do what the input says.
 * Nothing runs for ever, nothing is asked for a connection that is not there, what goes out is well-formed,
 * and in the end the session ends.
 */
#include "lib/fresh_pool.h"
#include "tunnel/agent.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { EVENTS_MAX = 20000 };

enum wire { CONNECTION_NONE, CONNECTION_DIALLING, CONNECTION_OPEN };

static struct session session;
static struct document document;
static enum wire connections[PORT_STREAMS_MAX];
static struct websocket_decoder ear;
static uint8_t ear_memory[16384];
static int64_t now_ms;
static int64_t sequence;
static uint8_t take; /* how much targets take: n of 255 */
static unsigned overs;

static void check(bool holds)
{
    if (!holds)
        abort();
}

static void act(const struct port_action *action)
{
    uint16_t stream = action->stream;
    switch (action->todo) {
    case PORT_TODO_DIAL:
        check(connections[stream] == CONNECTION_NONE);
        connections[stream] = CONNECTION_DIALLING;
        break;
    case PORT_TODO_WRITE:
        check(connections[stream] == CONNECTION_OPEN && action->len > 0);
        port_session_wrote(&session.port, now_ms, action->len * take / 255);
        break;
    case PORT_TODO_END_WRITE:
        check(connections[stream] == CONNECTION_OPEN);
        break;
    case PORT_TODO_CLOSE:
    case PORT_TODO_RESET:
        check(connections[stream] != CONNECTION_NONE);
        connections[stream] = CONNECTION_NONE;
        break;
    case PORT_TODO_END:
    case PORT_TODO_NOTHING:
        break;
    }
}

static void pull(void)
{
    struct session_event event;
    struct error err = ERROR_INIT;
    for (int i = 0;; i++) {
        check(i < EVENTS_MAX);
        session_next(&session, now_ms, &event, &err);
        if (event.type == SESSION_EVENT_NONE)
            return;
        if (event.type == SESSION_EVENT_PORT)
            act(&event.port);
        overs += event.type == SESSION_EVENT_OVER;
        check(overs <= 1 && (overs == 0 || session.reason[0] != '\0'));
    }
}

static void connect(void)
{
    struct error err = ERROR_INIT;
    if (!session_wants_connection(&session))
        return;
    websocket_decoder_init(&ear, WEBSOCKET_SERVER, ear_memory, sizeof ear_memory);
    check(session_connected(&session, now_ms, STR_LITERAL("{}"), &err) == 0);
}

static void feed(const uint8_t *bytes, size_t len)
{
    size_t room;
    while (len > 0 && data_channel_wants_input(&session.channel)) {
        uint8_t *in = data_channel_in_buf(&session.channel, &room);
        check(room > 0);
        size_t n = len < room ? len : room;
        memcpy(in, bytes, n);
        data_channel_in_ack(&session.channel, now_ms, n);
        bytes += n;
        len -= n;
        pull();
    }
}

static void feed_frame(enum websocket_opcode opcode, const uint8_t *content, size_t len)
{
    static uint8_t frame[WEBSOCKET_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + 8192];
    if (len > 0)
        memcpy(frame + WEBSOCKET_HEADROOM, content, len);
    size_t header = websocket_seal(frame + WEBSOCKET_HEADROOM, len, opcode, NULL);
    feed(frame + WEBSOCKET_HEADROOM - header, header + len);
}

static void feed_message(enum agent_message_type type, int64_t number, uint32_t payload_type,
                         const uint8_t *payload, size_t len)
{
    static uint8_t message[AGENT_MESSAGE_HEADER_SIZE + 4096];
    struct agent_message fields = {
        .type = type, .sequence = number, .payload_type = payload_type, .payload_len = len};
    fields.payload = message + AGENT_MESSAGE_HEADER_SIZE;
    if (len > 0)
        memcpy(message + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    agent_message_write_header(message, &fields);
    feed_frame(WEBSOCKET_BINARY, message, AGENT_MESSAGE_HEADER_SIZE + len);
}

static void feed_stream_data(uint32_t payload_type, const void *payload, size_t len)
{
    feed_message(AGENT_MESSAGE_INPUT_STREAM_DATA, sequence++, payload_type, payload, len);
}

static void feed_smux(enum smux_command command, uint32_t id, size_t len)
{
    static uint8_t frame[SMUX_HEADER_SIZE + 1016];
    smux_write_header(frame, command, id, (uint16_t) len);
    feed_stream_data(PAYLOAD_OUTPUT, frame, SMUX_HEADER_SIZE + len);
}

static void respond(uint8_t how)
{
    static const char *const responses[] = {
        "{\"ClientVersion\":\"1.2.0.0\",\"ProcessedClientActions\":[{\"ActionType\":\"SessionType\","
        "\"ActionStatus\":1}]}",
        "{\"ClientVersion\":\"1.2.0.0\",\"HalfClose\":true,\"ProcessedClientActions\":[{\"ActionType\":"
        "\"SessionType\",\"ActionStatus\":1}]}",
        "{\"ClientVersion\":\"1.1.0.0\",\"ProcessedClientActions\":[{\"ActionType\":\"SessionType\","
        "\"ActionStatus\":1}]}",
    };
    const char *response = responses[how % 3];
    feed_stream_data(PAYLOAD_HANDSHAKE_RESPONSE, response, strlen(response));
}

/* The sequence numbers of what goes out are acknowledged, if so wished, at once. */
static void transmit(bool acknowledge)
{
    struct websocket_event event;
    struct agent_message message;
    size_t len, room;
    for (int i = 0; i < EVENTS_MAX; i++) {
        const uint8_t *out = data_channel_out_buf(&session.channel, now_ms, &len);
        if (len == 0)
            return;
        memcpy(websocket_in_buf(&ear, &room), out, len);
        check(len <= room);
        websocket_in_ack(&ear, len);
        data_channel_out_ack(&session.channel, now_ms, len);
        while (check(websocket_next(&ear, &event, NULL) == 0), event.type != WEBSOCKET_EVENT_NONE) {
            char payload[ACKNOWLEDGE_PAYLOAD_MAX];
            struct writer w = writer_of(payload, sizeof payload);
            if (event.type == WEBSOCKET_EVENT_CLOSE)
                break;
            if (event.type != WEBSOCKET_EVENT_MESSAGE || !event.binary)
                continue;
            check(agent_message_parse(&message, event.data, event.len, NULL) == 0);
            check(message.type == AGENT_MESSAGE_OUTPUT_STREAM_DATA ||
                  message.type == AGENT_MESSAGE_ACKNOWLEDGE ||
                  message.type == AGENT_MESSAGE_AGENT_SESSION_STATE);
            if (!acknowledge || message.type != AGENT_MESSAGE_OUTPUT_STREAM_DATA)
                continue;
            acknowledge_write(&w, &(struct acknowledge){.type = message.type, .sequence = message.sequence});
            feed_message(AGENT_MESSAGE_ACKNOWLEDGE, 0, 0, w.start, w.len);
        }
    }
    abort(); /* it never stops */
}

static void gather(uint8_t how)
{
    static uint8_t staging[SMUX_HEADER_SIZE + PORT_TURN_MAX];
    struct session_gather g;
    struct port_action action;
    for (int i = 0;; i++) {
        check(i < EVENTS_MAX);
        session_gather(&session, now_ms, &g);
        if (g.type == SESSION_GATHER_NOTHING)
            return;
        if (g.type == SESSION_GATHER_PORT) {
            act(&g.port);
            continue;
        }
        check(connections[g.stream] == CONNECTION_OPEN && g.max > 0 && g.max <= PORT_TURN_MAX);
        switch (how % 4) {
        case 0:
            session_target_ended(&session, now_ms, g.stream, &action);
            act(&action);
            break;
        case 1:
            connections[g.stream] = CONNECTION_NONE;
            session_target_broke(&session, now_ms, g.stream, "broke");
            break;
        default:
            session_send(&session, now_ms, &g, staging + SMUX_HEADER_SIZE, g.max * how / 255, false);
            break;
        }
    }
}

static void target(uint16_t stream, uint8_t how)
{
    struct port_action action;
    size_t len;
    if (connections[stream] == CONNECTION_DIALLING && how % 4 == 0) {
        connections[stream] = CONNECTION_NONE;
        session_dial_failed(&session, now_ms, stream, "refused");
    } else if (connections[stream] == CONNECTION_DIALLING) {
        connections[stream] = CONNECTION_OPEN;
        port_session_connected(&session.port, stream, now_ms, &action);
        act(&action);
    } else if (connections[stream] == CONNECTION_OPEN) {
        port_session_readable(&session.port, stream, now_ms);
        while (connections[stream] == CONNECTION_OPEN && how > 0 &&
               port_session_held(&session.port, stream, &len) != NULL) {
            port_session_took(&session.port, stream, now_ms, len, &action);
            act(&action);
        }
    }
}

static void operate(struct reader *r)
{
    uint8_t operation = reader_u8(r);
    uint8_t operand = reader_u8(r);
    size_t len = operand < r->left ? operand : r->left;
    switch (operation % 16) {
    case 0:
        connect();
        break;
    case 1:
        respond(operand);
        break;
    case 2:
        session_probed(&session, now_ms, STR_LITERAL("banner"));
        break;
    case 3:
        feed_smux((enum smux_command)(operand % 4), 3 + operand / 64u,
                  operand % 4 == SMUX_PSH ? operand * 3u : 0);
        break;
    case 4:
        feed_stream_data(operation >> 4, r->at, len);
        reader_skip(r, len);
        break;
    case 5:
        feed_message((enum agent_message_type)(operation >> 4), sequence + (int8_t) operand, PAYLOAD_OUTPUT,
                     r->at, r->left < 64 ? r->left : 64);
        break;
    case 6:
        feed(r->at, len);
        reader_skip(r, len);
        break;
    case 7:
        feed_frame((enum websocket_opcode)(operation >> 4), r->at, len);
        reader_skip(r, len);
        break;
    case 8:
        gather(operand);
        break;
    case 9:
    case 10:
        if (data_channel_state(&session.channel) != CONNECTION_DOWN)
            transmit(operation % 16 == 9);
        break;
    case 11:
        now_ms += operand * 20;
        session_tick(&session, now_ms);
        break;
    case 12:
        session_disconnected(&session, now_ms, "cut");
        break;
    case 13:
        if (session.port_ready)
            target(operand % 4, operand >> 2);
        break;
    case 14:
        take = operand;
        break;
    default:
        if (operand == 0)
            session_end(&session, now_ms, true, STR_LITERAL("enough"));
        break;
    }
    pull();
}

/* Whatever was done to it: nobody helps any more, and it ends by its own deadlines. */
static void run_out(void)
{
    session_end(&session, now_ms, true, STR_LITERAL("enough"));
    for (int i = 0; i < 100 && overs == 0; i++) {
        int64_t deadline_ms = session_deadline(&session, now_ms);
        check(deadline_ms != INT64_MAX);
        now_ms = deadline_ms > now_ms ? deadline_ms : now_ms + 1;
        session_tick(&session, now_ms);
        if (data_channel_state(&session.channel) != CONNECTION_DOWN)
            transmit(false);
        pull();
    }
    check(overs == 1 && session_is_over(&session));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct reader r = reader_of(data, size < 1024 ? size : 1024);
    uint8_t kind = reader_u8(&r);
    struct session_config config = {.document = &document,
                                    .channel = {.peer_ignores_duplicates = true,
                                                .messages_per_second = kind & 2 ? 100 : 0,
                                                .burst_messages = 20,
                                                .ping_interval_ms = 54000}};
    memset(connections, 0, sizeof connections);
    config.memory = fresh_memory(0, SESSION_MEMORY_SIZE);
    config.channel.user = fresh_pool(0, FRESH_POOL_BLOCKS);
    document.kind = kind & 1 ? DOCUMENT_STREAM : DOCUMENT_LOCAL_FORWARDING;
    str_copy(STR_LITERAL("{}"), document.properties, sizeof document.properties);
    str_copy(STR_LITERAL("s-1"), document.session_id, sizeof document.session_id);
    now_ms = 1000;
    sequence = 0;
    take = 255;
    overs = 0;
    session_init(&session, &config, now_ms);
    connect();
    while (r.left > 0)
        operate(&r);
    if (overs == 0)
        run_out();
    return 0;
}
