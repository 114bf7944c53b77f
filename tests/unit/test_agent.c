#include "lib/fresh_pool.h"
#include "tunnel/agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

enum { LOG_MAX = 64, LOST_AFTER_MS = 120 * 1000 };

/* A session, a client's data channel, and the service between them. What the client hears is noted. */
struct rig {
    struct session session;
    struct document document;
    struct data_channel client;
    void *memory;
    void *client_memory;
    int64_t now_ms;
    struct session_event event; /* the last that was not NONE */
    bool deaf;                  /* nothing reaches the client */
    char heard[LOG_MAX][32];    /* "5" payload type, "agent_session_state", ... */
    size_t heard_count;
    uint8_t output[65536]; /* Output payloads, one after the other */
    size_t output_len;
    char complete[1100];
    uint8_t ear_memory[2][16384];
    struct websocket_decoder ears[2];
};

static int set_up(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    rig->memory = calloc(1, SESSION_MEMORY_SIZE);
    rig->client_memory = calloc(1, DATA_CHANNEL_MEMORY_SIZE);
    assert_non_null(rig->memory);
    assert_non_null(rig->client_memory);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;
    free(rig->memory);
    free(rig->client_memory);
    free(rig);
    return 0;
}

static void start(struct rig *rig, enum document_kind kind)
{
    struct session_config config = {.document = &rig->document,
                                    .channel = {.peer_ignores_duplicates = true,
                                                .ping_interval_ms = 54000,
                                                .user = fresh_pool(0, FRESH_POOL_BLOCKS)},
                                    .memory = rig->memory};
    struct data_channel_config client = {.role = DATA_CHANNEL_CLIENT,
                                         .ping_interval_ms = 300000,
                                         .user = fresh_pool(1, FRESH_POOL_BLOCKS),
                                         .memory = rig->client_memory};
    memset(rig->memory, 0, SESSION_MEMORY_SIZE);
    memset(rig->client_memory, 0, DATA_CHANNEL_MEMORY_SIZE);
    rig->now_ms = 1000;
    rig->heard_count = rig->output_len = 0;
    rig->deaf = false;
    rig->event.type = SESSION_EVENT_NONE;
    rig->document.kind = kind;
    str_copy(STR_LITERAL("alice-0123"), rig->document.session_id, sizeof rig->document.session_id);
    str_copy(STR_LITERAL("{\"portNumber\":\"80\"}"), rig->document.properties,
             sizeof rig->document.properties);
    session_init(&rig->session, &config, rig->now_ms);
    data_channel_init(&rig->client, &client, rig->now_ms);
}

static void connect(struct rig *rig)
{
    struct error err = ERROR_INIT;
    for (int i = 0; i < 2; i++)
        websocket_decoder_init(&rig->ears[i], WEBSOCKET_SERVER, rig->ear_memory[i],
                               sizeof rig->ear_memory[i]);
    assert_int_equal(
        session_connected(&rig->session, rig->now_ms, STR_LITERAL("{\"TokenValue\":\"t\"}"), &err), 0);
    if (data_channel_state(&rig->client) == CONNECTION_DOWN)
        assert_int_equal(data_channel_connect(&rig->client, rig->now_ms, STR_LITERAL("{}"), NULL), 0);
}

/* A server's frame around a message, into an engine. */
static void deliver(struct data_channel *to, int64_t now_ms, enum websocket_opcode opcode,
                    const void *content, size_t len)
{
    static uint8_t frame[WEBSOCKET_HEADROOM + 8192];
    size_t room;
    if (len > 0)
        memcpy(frame + WEBSOCKET_HEADROOM, content, len);
    size_t header = websocket_seal(frame + WEBSOCKET_HEADROOM, len, opcode, NULL);
    uint8_t *in = data_channel_in_buf(to, &room);
    if (room < header + len)
        return; /* it has something to tell first, or is gone */
    memcpy(in, frame + WEBSOCKET_HEADROOM - header, header + len);
    data_channel_in_ack(to, now_ms, header + len);
}

static void note(struct rig *rig, const struct agent_message *m)
{
    char *line = rig->heard[rig->heard_count < LOG_MAX ? rig->heard_count++ : LOG_MAX - 1];
    if (m->type == AGENT_MESSAGE_OUTPUT_STREAM_DATA)
        snprintf(line, sizeof rig->heard[0], "%u", m->payload_type);
    else
        snprintf(line, sizeof rig->heard[0], "%.*s", STR_ARG(m->type_text));
}

/* Everything that one engine has to say, to the other. True when there was something. */
static bool carry(struct rig *rig, struct data_channel *from, struct data_channel *to)
{
    struct websocket_decoder *ear = &rig->ears[from == &rig->client];
    struct websocket_event event;
    bool moved = false;
    size_t len;
    size_t room;
    for (;;) {
        const uint8_t *out = data_channel_out_buf(from, rig->now_ms, &len);
        if (len == 0)
            return moved;
        memcpy(websocket_in_buf(ear, &room), out, len);
        websocket_in_ack(ear, len);
        data_channel_out_ack(from, rig->now_ms, len);
        moved = true;
        do {
            struct agent_message m;
            assert_int_equal(websocket_next(ear, &event, NULL), 0);
            if (event.type == WEBSOCKET_EVENT_CLOSE)
                deliver(from, rig->now_ms, WEBSOCKET_CLOSE, event.data, event.len);
            if (event.type != WEBSOCKET_EVENT_MESSAGE || !event.binary)
                continue;
            assert_int_equal(agent_message_parse(&m, event.data, event.len, NULL), 0);
            if (from != &rig->client)
                note(rig, &m);
            bool relayed = m.type != AGENT_MESSAGE_AGENT_SESSION_STATE; /* that one is for the service */
            if (relayed && (from == &rig->client || !rig->deaf))
                deliver(to, rig->now_ms, WEBSOCKET_BINARY, event.data, event.len);
        } while (event.type != WEBSOCKET_EVENT_NONE && event.type != WEBSOCKET_EVENT_CLOSE);
    }
}

static void client_reads(struct rig *rig)
{
    struct data_channel_event event;
    for (;;) {
        data_channel_next(&rig->client, rig->now_ms, &event);
        if (event.type == DATA_CHANNEL_EVENT_NONE)
            return;
        if (event.type != DATA_CHANNEL_EVENT_DATA)
            continue;
        if (event.payload_type == PAYLOAD_OUTPUT) {
            memcpy(rig->output + rig->output_len, event.data, event.len);
            rig->output_len += event.len;
        }
        if (event.payload_type == PAYLOAD_HANDSHAKE_COMPLETE)
            snprintf(rig->complete, sizeof rig->complete, "%.*s", (int) event.len, (const char *) event.data);
        data_channel_consume(&rig->client, event.len);
    }
}

/* Until nothing moves. Stops at the first event for the caller, which is then in rig->event. */
static enum session_event_type pump(struct rig *rig)
{
    struct error err = ERROR_INIT;
    struct session_event event;
    for (bool moved = true; moved;) {
        session_tick(&rig->session, rig->now_ms);
        session_next(&rig->session, rig->now_ms, &event, &err);
        if (event.type != SESSION_EVENT_NONE) {
            rig->event = event;
            return event.type;
        }
        moved = carry(rig, &rig->session.channel, &rig->client);
        client_reads(rig);
        moved |= carry(rig, &rig->client, &rig->session.channel);
    }
    return SESSION_EVENT_NONE;
}

static void client_says(struct rig *rig, enum payload_type type, const void *data, size_t len)
{
    if (type == PAYLOAD_OUTPUT)
        assert_true(data_channel_send(&rig->client, rig->now_ms, PACER_BULK, data, len));
    else
        assert_int_equal(data_channel_send_message(&rig->client, type, data, len, NULL), 0);
}

static void client_responds(struct rig *rig, const char *version, const char *more)
{
    char payload[512];
    int len =
        snprintf(payload, sizeof payload,
                 "{\"ClientVersion\":\"%s\",\"ProcessedClientActions\":[{\"ActionType\":\"SessionType\","
                 "\"ActionStatus\":1}]%s}",
                 version, more);
    client_says(rig, PAYLOAD_HANDSHAKE_RESPONSE, payload, (size_t) len);
}

static void client_flags(struct rig *rig, uint32_t flag)
{
    uint8_t payload[4];
    struct writer w = writer_of(payload, sizeof payload);
    writer_u32be(&w, flag);
    client_says(rig, PAYLOAD_FLAG, payload, sizeof payload);
}

static void client_frame(struct rig *rig, enum smux_command command, uint32_t id, const char *data)
{
    uint8_t frame[SMUX_HEADER_SIZE + 64];
    smux_write_header(frame, command, id, (uint16_t) strlen(data));
    memcpy(frame + SMUX_HEADER_SIZE, data, strlen(data));
    client_says(rig, PAYLOAD_OUTPUT, frame, SMUX_HEADER_SIZE + strlen(data));
}

static void service_closes(struct rig *rig, const char *payload)
{
    uint8_t message[AGENT_MESSAGE_HEADER_SIZE + 512];
    struct agent_message m = {.type = AGENT_MESSAGE_CHANNEL_CLOSED, .payload_type = 261};
    m.payload = (const uint8_t *) payload;
    m.payload_len = strlen(payload);
    agent_message_write_header(message, &m);
    memcpy(message + AGENT_MESSAGE_HEADER_SIZE, payload, m.payload_len);
    deliver(&rig->session.channel, rig->now_ms, WEBSOCKET_BINARY, message,
            AGENT_MESSAGE_HEADER_SIZE + m.payload_len);
}

/* As far as OPEN, with READY taken. */
static void open_session(struct rig *rig, const char *version, const char *more)
{
    connect(rig);
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    session_probed(&rig->session, rig->now_ms, STR_LITERAL("Hello."));
    client_responds(rig, version, more);
    assert_int_equal(pump(rig), SESSION_EVENT_READY);
    assert_int_equal(rig->session.state, SESSION_OPEN);
}

static void open_multiplexed(struct rig *rig)
{
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    open_session(rig, "1.2.650.0", "");
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
}

static uint16_t open_stream(struct rig *rig, uint32_t id)
{
    struct port_action action;
    client_frame(rig, SMUX_SYN, id, "");
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    assert_int_equal(rig->event.port.todo, PORT_TODO_DIAL);
    port_session_connected(&rig->session.port, rig->event.port.stream, rig->now_ms, &action);
    return rig->event.port.stream;
}

static void expect_over(struct rig *rig, bool failed, const char *reason)
{
    for (int i = 0; i < 100 && pump(rig) != SESSION_EVENT_OVER; i++) {
        int64_t at_ms = session_deadline(&rig->session, rig->now_ms);
        if (rig->event.type == SESSION_EVENT_OVER)
            break;
        assert_true(at_ms != INT64_MAX);
        rig->now_ms = at_ms > rig->now_ms ? at_ms : rig->now_ms;
    }
    assert_int_equal(rig->event.type, SESSION_EVENT_OVER);
    assert_true(session_is_over(&rig->session));
    assert_string_equal(rig->session.reason, reason);
    assert_int_equal(rig->session.failed, failed);
    assert_int_equal(pump(rig), SESSION_EVENT_NONE); /* told once */
    assert_int_equal(session_deadline(&rig->session, rig->now_ms), INT64_MAX);
    assert_false(session_wants_connection(&rig->session));
}

/* ---- the handshake ------------------------------------------------------------------------------------- */

static void greets_in_the_order_of_the_protocol(void **state)
{
    struct rig *rig = *state;
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    assert_true(session_wants_connection(&rig->session));
    connect(rig);
    assert_false(session_wants_connection(&rig->session));
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_int_equal(rig->session.state, SESSION_GREETING);
    assert_int_equal(rig->heard_count, 2);
    assert_string_equal(rig->heard[0], "agent_session_state");
    assert_string_equal(rig->heard[1], "5");
    client_responds(rig, "1.2.650.0", "");
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_int_equal(rig->session.state, SESSION_PROBING);
    assert_int_equal(rig->session.port.mode, PORT_MULTIPLEXED);
    session_probed(&rig->session, rig->now_ms, STR_LITERAL("Connected to \"db\"."));
    assert_int_equal(pump(rig), SESSION_EVENT_READY);
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    /* Pitfall 3: the response is acknowledged before HandshakeComplete goes. */
    assert_int_equal(rig->heard_count, 4);
    assert_string_equal(rig->heard[2], "acknowledge");
    assert_string_equal(rig->heard[3], "7");
    assert_non_null(strstr(rig->complete, "Connected to \\\"db\\\"."));
    client_responds(rig, "1.2.650.0", ""); /* twice: means nothing */
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_int_equal(rig->session.state, SESSION_OPEN);
}

static void pitfall_03_silence_after_handshake_complete_until_the_client_speaks(void **state)
{
    struct rig *rig = *state;
    struct session_gather gather;
    open_multiplexed(rig);
    size_t heard = rig->heard_count;
    rig->now_ms += 10 * 1000;
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    session_gather(&rig->session, rig->now_ms, &gather);
    assert_int_equal(gather.type, SESSION_GATHER_NOTHING);
    assert_int_equal(rig->heard_count, heard);
    uint16_t stream = open_stream(rig, 3);
    port_session_readable(&rig->session.port, stream, rig->now_ms);
    session_gather(&rig->session, rig->now_ms, &gather);
    assert_int_equal(gather.type, SESSION_GATHER_READ);
    assert_int_equal(gather.stream, stream);
}

static void pitfall_07_the_banner_waits_for_the_probe_but_not_for_ever(void **state)
{
    struct rig *rig = *state;
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    connect(rig);
    pump(rig);
    client_responds(rig, "1.2.650.0", "");
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_int_equal(session_deadline(&rig->session, rig->now_ms), 1000 + SESSION_PROBE_MS);
    rig->now_ms = 1000 + SESSION_PROBE_MS - 1;
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    rig->now_ms++;
    assert_int_equal(pump(rig), SESSION_EVENT_READY);
    session_probed(&rig->session, rig->now_ms, STR_LITERAL("too late"));
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_non_null(strstr(rig->complete, "\"CustomerMessage\":\"\""));
}

static const struct {
    enum document_kind kind;
    const char *version;
    const char *more;
    enum port_mode mode;
    bool half_close;
} modes[] = {
    {DOCUMENT_LOCAL_FORWARDING, "1.2.0.0", "", PORT_MULTIPLEXED, false},
    {DOCUMENT_LOCAL_FORWARDING, "1.1.70.0", "", PORT_MULTIPLEXED, false},
    {DOCUMENT_LOCAL_FORWARDING, "1.1.69.0", "", PORT_BASIC_REDIAL, false},
    {DOCUMENT_STREAM, "1.2.0.0", "", PORT_BASIC_ONCE, false},
    {DOCUMENT_STREAM, "1.1.69.0", "", PORT_BASIC_ONCE, false},
    {DOCUMENT_LOCAL_FORWARDING, "1.2.0.0", ",\"HalfClose\":true", PORT_MULTIPLEXED, true},
};

static void document_and_version_decide_the_mode(void **state)
{
    struct rig *rig = *state;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        start(rig, modes[i].kind);
        open_session(rig, modes[i].version, modes[i].more);
        assert_int_equal(rig->session.port.mode, modes[i].mode);
        assert_int_equal(rig->session.port.half_close, modes[i].half_close);
        assert_int_equal(rig->session.channel.config.peer_ignores_duplicates, !modes[i].half_close);
    }
}

static void bad_responses_end_the_session_with_the_reason(void **state)
{
    static const struct {
        const char *payload;
        const char *reason;
    } responses[] = {
        {"{\"ClientVersion\":\"1.2.0.0\",\"ProcessedClientActions\":[{\"ActionType\":\"SessionType\","
         "\"ActionStatus\":3,\"Error\":\"no ports\"}]}",
         "the client does not support session type Port: no ports"},
        {"{\"ClientVersion\":\"1.2.0.0\"}", "HandshakeResponse does not answer the SessionType action"},
    };
    struct rig *rig = *state;
    char big[1500];
    for (size_t i = 0; i < sizeof responses / sizeof responses[0]; i++) {
        start(rig, DOCUMENT_LOCAL_FORWARDING);
        connect(rig);
        pump(rig);
        client_says(rig, PAYLOAD_HANDSHAKE_RESPONSE, responses[i].payload, strlen(responses[i].payload));
        expect_over(rig, true, responses[i].reason);
    }
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    connect(rig);
    pump(rig);
    memset(big, ' ', sizeof big);
    client_says(rig, PAYLOAD_HANDSHAKE_RESPONSE, big, sizeof big);
    expect_over(rig, true, "HandshakeResponse is longer than 1024 bytes");
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    connect(rig);
    pump(rig);
    client_says(rig, PAYLOAD_OUTPUT, "early", 5);
    expect_over(rig, true, "the client sent data before it had answered the handshake");
}

static void a_client_that_never_answers_has_15_seconds(void **state)
{
    struct rig *rig = *state;
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    connect(rig);
    rig->now_ms += HANDSHAKE_TIMEOUT_MS - 1;
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_int_equal(rig->session.state, SESSION_GREETING);
    rig->now_ms++;
    expect_over(rig, true, "the client did not answer the handshake within 15 s");
}

/* ---- every event in every state ------------------------------------------------------------------------ */

enum stimulus { CONNECTED, RESPONSE, PROBED, TIME_UP, ENDED, LOST, STIMULI };

/* 0 stays for "cannot happen": a connection while there is one, a loss while there is none. */
#define STATE(state) (1 + (int) (state))

static const int outcomes[SESSION_STATE_COUNT][STIMULI] = {
    [SESSION_STARTING] = {[CONNECTED] = STATE(SESSION_GREETING),
                          [PROBED] = STATE(SESSION_STARTING),
                          [TIME_UP] = STATE(SESSION_STARTING),
                          [ENDED] = STATE(SESSION_OVER)},
    [SESSION_GREETING] = {[RESPONSE] = STATE(SESSION_PROBING),
                          [PROBED] = STATE(SESSION_GREETING),
                          [TIME_UP] = STATE(SESSION_ENDING),
                          [ENDED] = STATE(SESSION_ENDING),
                          [LOST] = STATE(SESSION_GREETING)},
    [SESSION_PROBING] = {[RESPONSE] = STATE(SESSION_PROBING),
                         [PROBED] = STATE(SESSION_OPEN),
                         [TIME_UP] = STATE(SESSION_OPEN),
                         [ENDED] = STATE(SESSION_ENDING),
                         [LOST] = STATE(SESSION_PROBING)},
    [SESSION_OPEN] = {[RESPONSE] = STATE(SESSION_OPEN),
                      [PROBED] = STATE(SESSION_OPEN),
                      [TIME_UP] = STATE(SESSION_OPEN),
                      [ENDED] = STATE(SESSION_ENDING),
                      [LOST] = STATE(SESSION_OPEN)},
    [SESSION_ENDING] = {[RESPONSE] = STATE(SESSION_ENDING),
                        [PROBED] = STATE(SESSION_ENDING),
                        [TIME_UP] = STATE(SESSION_ENDING), /* says goodbye */
                        [ENDED] = STATE(SESSION_ENDING),
                        [LOST] = STATE(SESSION_ENDING)}, /* not drained: waits for another connection */
    [SESSION_OVER] =
        {[PROBED] = STATE(SESSION_OVER), [TIME_UP] = STATE(SESSION_OVER), [ENDED] = STATE(SESSION_OVER)},
};

static void reach(struct rig *rig, enum session_state wanted)
{
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    if (wanted == SESSION_OVER)
        session_end(&rig->session, rig->now_ms, false, STR_LITERAL("x"));
    if (wanted == SESSION_STARTING || wanted == SESSION_OVER)
        return;
    connect(rig);
    pump(rig);
    if (wanted >= SESSION_PROBING) {
        client_responds(rig, "1.2.650.0", "");
        pump(rig);
    }
    rig->deaf = true; /* HandshakeComplete stays unacknowledged */
    if (wanted >= SESSION_OPEN)
        session_probed(&rig->session, rig->now_ms, STR_LITERAL("x"));
    if (wanted == SESSION_ENDING)
        session_end(&rig->session, rig->now_ms, false, STR_LITERAL("x"));
    assert_int_equal(rig->session.state, wanted);
}

static void stimulate(struct rig *rig, enum stimulus what)
{
    struct error err = ERROR_INIT;
    struct session_event event;
    switch (what) {
    case CONNECTED:
        connect(rig);
        break;
    case RESPONSE:
        client_responds(rig, "1.2.650.0", "");
        carry(rig, &rig->client, &rig->session.channel);
        session_next(&rig->session, rig->now_ms, &event, &err);
        break;
    case PROBED:
        session_probed(&rig->session, rig->now_ms, STR_LITERAL("y"));
        break;
    case TIME_UP:
        rig->now_ms += HANDSHAKE_TIMEOUT_MS;
        session_tick(&rig->session, rig->now_ms);
        break;
    case ENDED:
        session_end(&rig->session, rig->now_ms, true, STR_LITERAL("y"));
        break;
    case LOST:
        session_disconnected(&rig->session, rig->now_ms, "cut");
        while (session_next(&rig->session, rig->now_ms, &event, &err), event.type == SESSION_EVENT_READY)
            continue;
        assert_int_equal(event.type, SESSION_EVENT_LOST);
        assert_true(str_equal_text(event.text, "cut"));
        break;
    case STIMULI:
        break;
    }
}

static void every_event_in_every_state(void **state)
{
    struct rig *rig = *state;
    for (int from = 0; from < SESSION_STATE_COUNT; from++) {
        for (int what = 0; what < STIMULI; what++) {
            if (outcomes[from][what] == 0)
                continue;
            reach(rig, (enum session_state) from);
            stimulate(rig, (enum stimulus) what);
            if (STATE(rig->session.state) != outcomes[from][what])
                fail_msg("stimulus %d in state %d leads to %d", what, from, rig->session.state);
        }
    }
}

static void says_connected_again_while_nobody_has_answered(void **state)
{
    struct rig *rig = *state;
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    connect(rig);
    session_disconnected(&rig->session, rig->now_ms, "cut before anything went");
    assert_int_equal(pump(rig), SESSION_EVENT_LOST);
    assert_true(session_wants_connection(&rig->session));
    connect(rig);
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_string_equal(rig->heard[0], "agent_session_state");
    assert_string_equal(rig->heard[1], "5");
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

/* What was resent stays unanswered: a NOP goes out, whose acknowledgement would show that the client has it;
 * few of them, however long the silence lasts. */
static void pitfall_01_a_witness_goes_when_resends_stay_unanswered(void **state)
{
    struct rig *rig = *state;
    open_multiplexed(rig);
    open_stream(rig, 3);
    pump(rig);
    rig->deaf = true;
    assert_true(data_channel_send(&rig->session.channel, rig->now_ms, PACER_BULK, "x", 1));
    int64_t sequence = data_channel_next_sequence(&rig->session.channel);
    for (int i = 0; i < 100; i++, rig->now_ms += 100)
        pump(rig);
    int64_t witnesses = data_channel_next_sequence(&rig->session.channel) - sequence;
    assert_in_range(witnesses, 1, 5);
    for (int i = 0; i < 10; i++, rig->now_ms += 1000)
        pump(rig);
    assert_in_range(data_channel_next_sequence(&rig->session.channel) - sequence, witnesses, witnesses + 2);
}

static void ends_by_the_clients_flag_when_all_has_arrived(void **state)
{
    struct rig *rig = *state;
    open_multiplexed(rig);
    client_flags(rig, PAYLOAD_FLAG_TERMINATE_SESSION);
    int64_t began_ms = rig->now_ms;
    expect_over(rig, false, "the client ended the session");
    assert_int_equal(rig->now_ms, began_ms); /* nothing was under way: at once */
}

static void ends_by_the_service_with_its_words(void **state)
{
    struct rig *rig = *state;
    open_multiplexed(rig);
    service_closes(rig, "{\"Output\":\"idle for too long\"}");
    expect_over(rig, false, "the service ended the session: idle for too long");
    open_multiplexed(rig);
    service_closes(rig, "nonsense");
    expect_over(rig, false, "the service ended the session");
}

static void the_first_reason_stands(void **state)
{
    struct rig *rig = *state;
    open_multiplexed(rig);
    session_end(&rig->session, rig->now_ms, true, STR_LITERAL("the first"));
    session_end(&rig->session, rig->now_ms, false, STR_LITERAL("the second"));
    expect_over(rig, true, "the first");
}

static void ends_when_no_connection_can_be_made(void **state)
{
    struct rig *rig = *state;
    open_multiplexed(rig);
    session_disconnected(&rig->session, rig->now_ms, "cut");
    assert_int_equal(pump(rig), SESSION_EVENT_LOST);
    rig->now_ms += LOST_AFTER_MS - 1;
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_int_equal(session_deadline(&rig->session, rig->now_ms), rig->now_ms + 1);
    rig->now_ms++;
    expect_over(rig, true, "the connection to Session Manager could not be restored for 120 s");
}

static void ends_when_the_framing_is_lost(void **state)
{
    struct rig *rig = *state;
    open_multiplexed(rig);
    client_says(rig, PAYLOAD_OUTPUT, "this is no smux", 15);
    expect_over(rig, true, "smux: version 116, want 1");
}

static void the_end_waits_two_seconds_for_what_is_under_way(void **state)
{
    struct rig *rig = *state;
    open_multiplexed(rig);
    uint16_t stream = open_stream(rig, 3);
    pump(rig);
    rig->deaf = true;
    session_dial_failed(&rig->session, rig->now_ms, stream, "x"); /* a flag and FIN for the client */
    struct session_gather gather;
    session_gather(&rig->session, rig->now_ms, &gather);
    int64_t began_ms = rig->now_ms;
    session_end(&rig->session, rig->now_ms, true, STR_LITERAL("this task stops"));
    pump(rig);
    assert_int_equal(rig->session.state, SESSION_ENDING);
    rig->now_ms = began_ms + SESSION_DRAIN_MS;
    expect_over(rig, true, "this task stops");
}

static void what_is_under_way_at_the_end_takes_another_connection(void **state)
{
    struct rig *rig = *state;
    struct session_gather gather;
    uint8_t data[SMUX_HEADER_SIZE + 5];
    open_multiplexed(rig);
    uint16_t stream = open_stream(rig, 3);
    pump(rig);
    port_session_readable(&rig->session.port, stream, rig->now_ms);
    session_gather(&rig->session, rig->now_ms, &gather);
    assert_int_equal(gather.type, SESSION_GATHER_READ);
    memcpy(data + SMUX_HEADER_SIZE, "bytes", 5);
    session_send(&rig->session, rig->now_ms, &gather, data + SMUX_HEADER_SIZE, 5, false);
    session_end(&rig->session, rig->now_ms, false, STR_LITERAL("done"));
    session_disconnected(&rig->session, rig->now_ms, "cut");
    assert_int_equal(pump(rig), SESSION_EVENT_LOST);
    assert_true(session_wants_connection(&rig->session));
    connect(rig);
    expect_over(rig, false, "done");
    assert_int_equal(rig->output_len, SMUX_HEADER_SIZE + 5);
    assert_memory_equal(rig->output + SMUX_HEADER_SIZE, "bytes", 5);
}

static void what_is_held_for_targets_at_the_end_still_reaches_them(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    size_t len;
    open_multiplexed(rig);
    uint16_t stream = open_stream(rig, 3);
    client_frame(rig, SMUX_PSH, 3, "to the target");
    client_frame(rig, SMUX_FIN, 3, "");
    client_flags(rig, PAYLOAD_FLAG_TERMINATE_SESSION);
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    assert_int_equal(rig->event.port.todo, PORT_TODO_WRITE);
    assert_memory_equal(rig->event.port.data, "to the target", 13);
    port_session_wrote(&rig->session.port, rig->now_ms, 3);
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    assert_int_equal(rig->session.state, SESSION_ENDING);
    session_disconnected(&rig->session, rig->now_ms, "the client has gone"); /* all the same */
    pump(rig);
    assert_int_equal(rig->session.state, SESSION_ENDING);
    assert_false(session_wants_connection(&rig->session));
    assert_memory_equal(port_session_held(&rig->session.port, stream, &len), "the target", 10);
    port_session_took(&rig->session.port, stream, rig->now_ms, len, &action);
    assert_int_equal(action.todo, PORT_TODO_END_WRITE);
    expect_over(rig, false, "the client ended the session");
}

/* ---- streams ------------------------------------------------------------------------------------------- */

static void streams_beyond_the_maximum_are_refused_by_flag_and_fin(void **state)
{
    struct rig *rig = *state;
    struct session_gather gather;
    open_multiplexed(rig);
    for (uint32_t i = 0; i < PORT_STREAMS_MAX; i++)
        open_stream(rig, 3 + 2 * i);
    pump(rig);
    size_t heard = rig->heard_count = 0;
    client_frame(rig, SMUX_SYN, 9001, "");
    pump(rig);
    session_gather(&rig->session, rig->now_ms, &gather);
    assert_int_equal(gather.type, SESSION_GATHER_NOTHING);
    pump(rig);
    while (heard < rig->heard_count && strcmp(rig->heard[heard], "acknowledge") == 0)
        heard++;
    assert_int_equal(rig->heard_count, heard + 2);
    assert_string_equal(rig->heard[heard], "10");
    assert_string_equal(rig->heard[heard + 1], "1");
    assert_memory_equal(rig->output, "\x01\x01\0\0\x29\x23\0\0", 8); /* FIN of 0x2329 */
    assert_int_equal(rig->session.state, SESSION_OPEN);
}

static void a_payload_that_waits_for_a_target_neither_spins_nor_is_lost(void **state)
{
    enum { FRAMES = PORT_STREAM_HELD_MAX / 1000 + 150 };
    static uint8_t frame[SMUX_HEADER_SIZE + 1000];
    struct rig *rig = *state;
    struct session_event event;
    struct error err = ERROR_INIT;
    uint64_t taken = 0;
    struct port_action action;
    size_t len;
    open_multiplexed(rig);
    uint16_t stream = open_stream(rig, 3);
    smux_write_header(frame, SMUX_PSH, 3, 1000);
    for (int i = 0; i < FRAMES; i++) {
        client_says(rig, PAYLOAD_OUTPUT, frame, sizeof frame);
        while (pump(rig) == SESSION_EVENT_PORT)
            port_session_wrote(&rig->session.port, rig->now_ms, 0);
    }
    assert_int_equal(port_session_stream(&rig->session.port, stream)->held, PORT_STREAM_HELD_MAX);
    session_next(&rig->session, rig->now_ms, &event, &err);
    assert_int_equal(event.type, SESSION_EVENT_NONE);
    assert_true(session_deadline(&rig->session, rig->now_ms) > rig->now_ms);
    while (port_session_held(&rig->session.port, stream, &len) != NULL) {
        port_session_took(&rig->session.port, stream, rig->now_ms, len, &action);
        taken += len;
        if (pump(rig) == SESSION_EVENT_PORT) {
            taken += rig->event.port.len;
            port_session_wrote(&rig->session.port, rig->now_ms, rig->event.port.len);
        }
    }
    while (pump(rig) == SESSION_EVENT_PORT) {
        taken += rig->event.port.len;
        port_session_wrote(&rig->session.port, rig->now_ms, rig->event.port.len);
    }
    assert_int_equal(taken, FRAMES * 1000);
}

/* ---- basic sessions ------------------------------------------------------------------------------------ */

static void basic_dials_first_and_holds_its_tongue_for_a_while(void **state)
{
    struct rig *rig = *state;
    struct session_gather gather;
    struct port_action action;
    start(rig, DOCUMENT_STREAM);
    open_session(rig, "1.2.650.0", "");
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    assert_int_equal(rig->event.port.todo, PORT_TODO_DIAL);
    port_session_connected(&rig->session.port, rig->event.port.stream, rig->now_ms, &action);
    port_session_readable(&rig->session.port, rig->event.port.stream, rig->now_ms);
    rig->deaf = true;
    assert_int_equal(pump(rig), SESSION_EVENT_NONE);
    rig->now_ms += 900; /* the client does not have HandshakeComplete yet */
    pump(rig);
    session_gather(&rig->session, rig->now_ms, &gather);
    assert_int_equal(gather.type, SESSION_GATHER_NOTHING);
    rig->deaf = false;
    for (int i = 0; i < 100 && rig->complete[0] == '\0'; i++) {
        rig->now_ms += 100;
        pump(rig);
    }
    int64_t said_ms = rig->now_ms;
    rig->now_ms = said_ms + SESSION_HOLD_MS - 1;
    pump(rig);
    session_gather(&rig->session, rig->now_ms, &gather);
    assert_int_equal(gather.type, SESSION_GATHER_NOTHING);
    assert_int_equal(session_deadline(&rig->session, rig->now_ms), rig->now_ms + 1);
    rig->now_ms++;
    pump(rig);
    session_gather(&rig->session, rig->now_ms, &gather);
    assert_int_equal(gather.type, SESSION_GATHER_READ);
}

static void basic_once_ends_with_its_target(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    for (int how = 0; how < 3; how++) {
        static const char *const reasons[] = {"the target closed its connection", "reset by peer",
                                              "no route"};
        start(rig, DOCUMENT_STREAM);
        open_session(rig, "1.2.650.0", "");
        assert_int_equal(pump(rig), SESSION_EVENT_PORT);
        uint16_t stream = rig->event.port.stream;
        if (how < 2)
            port_session_connected(&rig->session.port, stream, rig->now_ms, &action);
        if (how == 0)
            session_target_ended(&rig->session, rig->now_ms, stream, &action);
        else if (how == 1)
            session_target_broke(&rig->session, rig->now_ms, stream, reasons[1]);
        else
            session_dial_failed(&rig->session, rig->now_ms, stream, reasons[2]);
        expect_over(rig, how > 0, reasons[how]);
    }
}

static void basic_disconnects_by_flag(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    open_session(rig, "1.1.69.0", "");
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    port_session_connected(&rig->session.port, rig->event.port.stream, rig->now_ms, &action);
    client_says(rig, PAYLOAD_OUTPUT, "one", 3);
    client_flags(rig, PAYLOAD_FLAG_DISCONNECT_TO_PORT);
    client_flags(rig, 77); /* nobody's */
    client_says(rig, PAYLOAD_SIZE, "x", 1);
    client_says(rig, PAYLOAD_OUTPUT, "two", 3);
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    assert_int_equal(rig->event.port.todo, PORT_TODO_WRITE);
    port_session_wrote(&rig->session.port, rig->now_ms, 3);
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    assert_int_equal(rig->event.port.todo, PORT_TODO_CLOSE);
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    assert_int_equal(rig->event.port.todo, PORT_TODO_DIAL);
}

/* Its rest must not go to the connection that the next data would open. */
static void basic_ends_with_a_target_that_takes_nothing_for_20_minutes(void **state)
{
    static uint8_t bytes[1000];
    struct rig *rig = *state;
    struct port_action action;
    start(rig, DOCUMENT_LOCAL_FORWARDING);
    open_session(rig, "1.1.69.0", "");
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    port_session_connected(&rig->session.port, rig->event.port.stream, rig->now_ms, &action);
    for (int i = 0; i < PORT_STREAM_HELD_MAX / 1000 + 10; i++) {
        client_says(rig, PAYLOAD_OUTPUT, bytes, sizeof bytes);
        while (pump(rig) == SESSION_EVENT_PORT)
            port_session_wrote(&rig->session.port, rig->now_ms, 0);
    }
    rig->now_ms += PORT_STUCK_MS;
    assert_int_equal(pump(rig), SESSION_EVENT_PORT);
    assert_int_equal(rig->event.port.todo, PORT_TODO_RESET);
    expect_over(rig, true, "the target took nothing for 20 min");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(greets_in_the_order_of_the_protocol),
        TEST(pitfall_03_silence_after_handshake_complete_until_the_client_speaks),
        TEST(pitfall_07_the_banner_waits_for_the_probe_but_not_for_ever),
        TEST(document_and_version_decide_the_mode),
        TEST(bad_responses_end_the_session_with_the_reason),
        TEST(a_client_that_never_answers_has_15_seconds),
        TEST(every_event_in_every_state),
        TEST(says_connected_again_while_nobody_has_answered),
        TEST(pitfall_01_a_witness_goes_when_resends_stay_unanswered),
        TEST(ends_by_the_clients_flag_when_all_has_arrived),
        TEST(ends_by_the_service_with_its_words),
        TEST(the_first_reason_stands),
        TEST(ends_when_no_connection_can_be_made),
        TEST(ends_when_the_framing_is_lost),
        TEST(the_end_waits_two_seconds_for_what_is_under_way),
        TEST(what_is_under_way_at_the_end_takes_another_connection),
        TEST(what_is_held_for_targets_at_the_end_still_reaches_them),
        TEST(streams_beyond_the_maximum_are_refused_by_flag_and_fin),
        TEST(a_payload_that_waits_for_a_target_neither_spins_nor_is_lost),
        TEST(basic_dials_first_and_holds_its_tongue_for_a_while),
        TEST(basic_once_ends_with_its_target),
        TEST(basic_disconnects_by_flag),
        TEST(basic_ends_with_a_target_that_takes_nothing_for_20_minutes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
