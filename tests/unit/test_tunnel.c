/*
 * The tunnel in either role, in the product's loop, against a peer that says what the test says. What its
 * steps were stands in `steps`, what the peer heard in `heard`, both as text.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "lib/fresh_pool.h"
#include "lib/lane_peer.h"
#include "run/turn.h"

enum { LANES = 3, STREAMS = 1100, TUNNEL_POOL = LANES, JOINER_POOL };

static const struct handshake_extension ours = {.is_ours = true, .lanes = true, .destinations = true};

/* What an endpoint will say, and take. */
struct endpoint {
    const char *says;
    size_t says_len;
    bool ends;   /* behind that */
    bool breaks; /* so does this */
    size_t takes;
};

static struct tunnel tunnel, joiner;
static struct lane lanes[LANES];
static struct lane_peer peers[LANES];
static unsigned by_index[LANES]; /* which of these is the tunnel's n-th */
static struct document document;
static struct endpoint endpoints[STREAMS];
static struct smux_decoder decoder;
static uint64_t pieces;
static int64_t now_ms;
static const char *destination;
static size_t asked, most_asked; /* bytes of the last read, and of the largest */
static char steps[16384], heard[16384];

/* ---- what came out ---- */

static void note(char *log, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void note(char *log, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (strlen(log) + strlen(text) + 2 > sizeof steps)
        return;
    strcat(log, log[0] != '\0' ? " " : "");
    strcat(log, text);
}

static void expect(char *log, const char *expected)
{
    assert_string_equal(log, expected);
    log[0] = '\0';
}

static void hear_frames(const uint8_t *data, size_t len)
{
    static const char *const names[] = {
        [SMUX_SYN] = "SYN", [SMUX_FIN] = "FIN",       [SMUX_PSH] = "PSH",
        [SMUX_NOP] = "NOP", [SMUX_OPENED] = "OPENED", [SMUX_REFUSED] = "REFUSED"};
    size_t used;
    for (struct smux_event event; len > 0; data += used, len -= used) {
        assert_int_equal(smux_decoder_next(&decoder, data, len, &used, &event, NULL), 0);
        if (event.type == SMUX_EVENT_FRAME)
            note(heard, "%s %u", names[event.command], event.stream);
        else if (event.type == SMUX_EVENT_DATA)
            note(heard, "'%.*s'", (int) num_min_size(event.data_len, 100), (const char *) event.data);
    }
}

static void hear(void *context, const struct agent_message *message)
{
    const struct lane_peer *peer = context;
    struct reader in = reader_of(message->payload, message->payload_len);
    if (message->payload_type == PAYLOAD_FLAG) {
        note(heard, "flag %u", reader_u32be(&in));
        return;
    }
    if (message->payload_type != PAYLOAD_OUTPUT)
        return;
    if (peer->pieces != NULL)
        reader_skip(&in, OUTBOX_PIECE_HEADER_SIZE);
    if (tunnel.mode == TUNNEL_MULTIPLEXED)
        hear_frames(in.at, in.left);
    else
        note(heard, "'%.*s'", (int) in.left, (const char *) in.at);
}

/* ---- endpoints ---- */

static void open_endpoint(void *context, uint16_t stream, const char *host, uint16_t port)
{
    (void) context;
    note(steps, "OPEN %u %s:%u", stream, host, port);
    endpoints[stream] = (struct endpoint){.takes = SIZE_MAX};
}

static void read_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                          struct tunnel_result *result)
{
    struct endpoint *e = &endpoints[stream];
    (void) context;
    asked = 0;
    for (int i = 0; i < count; i++)
        asked += vectors[i].iov_len;
    most_asked = asked > most_asked ? asked : most_asked;
    for (int i = 0; i < count && e->says_len > 0; i++) {
        size_t n = num_min_size(e->says_len, vectors[i].iov_len);
        memcpy(vectors[i].iov_base, e->says, n);
        e->says += n;
        e->says_len -= n;
        result->n += n;
    }
    result->failed = result->n == 0 && e->breaks;
    result->ended = result->n == 0 && e->ends;
    result->more = e->says_len > 0 || e->ends || e->breaks;
}

static void write_endpoint(void *context, uint16_t stream, const struct iovec *vectors, int count,
                           struct tunnel_result *result)
{
    struct endpoint *e = &endpoints[stream];
    (void) context;
    for (int i = 0; i < count && e->takes > 0; i++) {
        size_t n = num_min_size(e->takes, vectors[i].iov_len);
        e->takes -= e->takes == SIZE_MAX ? 0 : n;
        result->n += n;
        note(steps, "WRITE %u '%.*s'", stream, (int) num_min_size(n, 100),
             (const char *) vectors[i].iov_base);
    }
}

static void shut_endpoint(void *context, uint16_t stream)
{
    (void) context;
    note(steps, "SHUT %u", stream);
}

static void close_endpoint(void *context, uint16_t stream, const char *why)
{
    (void) context;
    note(steps, "CLOSE %u %s", stream, why);
}

static void reset_endpoint(void *context, uint16_t stream, const char *why)
{
    (void) context;
    note(steps, "RESET %u %s", stream, why);
}

static const struct turn_endpoint_ops endpoint_ops = {.open = open_endpoint,
                                                      .read = read_endpoint,
                                                      .write = write_endpoint,
                                                      .shut = shut_endpoint,
                                                      .close = close_endpoint,
                                                      .reset = reset_endpoint};

/* ---- lanes ---- */

static const uint8_t *receive(void *context, unsigned lane, size_t *len)
{
    (void) context;
    return lane_peer_receive(&peers[by_index[lane]], len);
}

static void received(void *context, unsigned lane, size_t len)
{
    (void) context;
    lane_peer_received(&peers[by_index[lane]], len);
}

static size_t send_bytes(void *context, unsigned lane, const void *data, size_t len)
{
    (void) context;
    return lane_peer_send(&peers[by_index[lane]], data, len);
}

static const struct turn_lane_ops lane_ops = {.receive = receive, .received = received, .send = send_bytes};

static void lane_is_over(unsigned index)
{
    note(steps, "LANE_OVER %u %s", by_index[index], lanes[by_index[index]].reason);
    lane_release(&lanes[by_index[index]]);
    for (unsigned i = index; i + 1 < LANES; i++)
        by_index[i] = by_index[i + 1];
}

static void event(void *context, const struct tunnel_step *step, struct tunnel_result *result)
{
    (void) context;
    switch (step->type) {
    case TUNNEL_STEP_LANE_OPEN:
        note(steps, "LANE_OPEN %u", by_index[step->lane]);
        break;
    case TUNNEL_STEP_LANE_LOST:
        note(steps, "LANE_LOST %u", by_index[step->lane]);
        break;
    case TUNNEL_STEP_LANE_OVER:
        lane_is_over(step->lane);
        break;
    case TUNNEL_STEP_DESTINATION:
        note(steps, "DESTINATION %u", step->stream);
        result->text = str_from(destination);
        break;
    case TUNNEL_STEP_ANSWERED:
        note(steps, "ANSWERED %u %.*s", step->stream, (int) step->text.len, step->text.ptr);
        break;
    default:
        note(steps, "step %d", step->type);
        break;
    }
}

/* Turns until there is nothing to do; the next deadline. */
static int64_t run(void)
{
    const struct turn turn = {
        .tunnel = &tunnel, .lanes = &lane_ops, .endpoints = &endpoint_ops, .event = event};
    enum turn_result result = TURN_MORE;
    int64_t deadline_ms = INT64_MAX;
    for (int turns = 0; result == TURN_MORE || (result == TURN_IDLE && deadline_ms <= now_ms); turns++) {
        assert_true(turns < 10000);
        result = turn_run(&turn, now_ms, &deadline_ms);
    }
    if (result == TURN_OVER)
        note(steps, "OVER");
    return deadline_ms;
}

static int64_t run_at(int64_t then_ms)
{
    now_ms = then_ms;
    return run();
}

static void begin_lane(unsigned i, enum lane_role role, struct tunnel *t)
{
    struct lane_config config = {
        .role = role,
        .document = &document,
        .extension = ours,
        .channel = {.ping_interval_ms = 54000, .user = fresh_pool((int) i, FRESH_POOL_BLOCKS)},
        .memory = fresh_memory((int) i, LANE_MEMORY_SIZE)};
    memset(config.extension.secret, role == LANE_AGENT || i > 0 ? 'a' : 0, HANDSHAKE_SECRET_SIZE - 1);
    lane_init(&lanes[i], &config, now_ms);
    lane_peer_init(&peers[i], &lanes[i]);
    peers[i].heard = hear;
    peers[i].context = &peers[i];
    assert_true(tunnel_add_lane(t, &lanes[i]) >= 0);
    assert_true(lane_peer_connect(&peers[i], now_ms));
}

static void begin_tunnel(struct tunnel *t, int pool, enum lane_role role)
{
    tunnel_init(t,
                &(struct tunnel_config){.role = role,
                                        .document = role == LANE_AGENT ? &document : NULL,
                                        .user = fresh_pool(pool, FRESH_POOL_BLOCKS),
                                        .memory = fresh_memory(pool, TUNNEL_MEMORY_SIZE)},
                now_ms);
}

/* A tunnel of one lane whose handshake is complete. */
static void begin(enum lane_role role, enum document_kind kind, const char *peer_version,
                  const struct handshake_extension *extension)
{
    now_ms = 1000;
    pieces = 0;
    memset(&document, 0, sizeof document);
    document.kind = kind;
    document.port = 5439;
    str_copy(STR_LITERAL("db"), document.host, sizeof document.host);
    str_copy(STR_LITERAL("{}"), document.properties, sizeof document.properties);
    for (unsigned i = 0; i < LANES; i++)
        by_index[i] = i;
    begin_tunnel(&tunnel, TUNNEL_POOL, role);
    begin_lane(0, role, &tunnel);
    smux_decoder_init(&decoder, extension != NULL);
    steps[0] = heard[0] = '\0';
    run();
    if (role == LANE_AGENT) {
        lane_probed(&lanes[0], now_ms, STR_LITERAL("hello"));
        lane_peer_respond(&peers[0], peer_version, extension);
    } else {
        peers[0].is_for_stdio = kind != DOCUMENT_LOCAL_FORWARDING;
        lane_peer_request(&peers[0], peer_version, extension);
        lane_peer_complete(&peers[0]);
    }
    run();
    if (tunnel.has_pieces)
        peers[0].pieces = &pieces;
    assert_true(strncmp(steps, "LANE_OPEN 0", 11) == 0);
    memmove(steps, steps + 11, strlen(steps + 11) + 1);
    heard[0] = '\0';
}

static void begin_agent(const struct handshake_extension *extension)
{
    begin(LANE_AGENT, DOCUMENT_LOCAL_FORWARDING, "1.2.804.0", extension);
}

static void begin_client(const struct handshake_extension *extension)
{
    begin(LANE_CLIENT, DOCUMENT_LOCAL_FORWARDING, "3.3.987.0", extension);
}

static void say(enum smux_command command, uint32_t id, const char *data)
{
    assert_true(lane_peer_smux(&peers[0], command, id, data, strlen(data)));
}

static void say_bytes(const char *data)
{
    assert_true(lane_peer_data(&peers[0], PAYLOAD_OUTPUT, data, strlen(data)));
}

static void tell(uint16_t stream, enum tunnel_news news, const char *text)
{
    tunnel_notify(&tunnel, now_ms, stream, news, str_from(text));
}

/* The endpoint has this to say, and then ends if it is to. */
static void speak(uint16_t stream, const char *text, bool ends)
{
    endpoints[stream].says = text;
    endpoints[stream].says_len = strlen(text);
    endpoints[stream].ends = ends;
    tell(stream, TUNNEL_ENDPOINT_READABLE, "");
}

static uint16_t open_local(void)
{
    uint16_t stream = tunnel_open(&tunnel, now_ms);
    if (stream != STREAMS_NONE)
        endpoints[stream] = (struct endpoint){.takes = SIZE_MAX};
    return stream;
}

/* Stream data that comes later starts it again. */
static void pause_sending(void)
{
    lane_peer_message(&peers[0], AGENT_MESSAGE_PAUSE_PUBLICATION, 0, 0, "", 0);
}

/* ---- streams of an agent ---- */

static void a_stream_of_awss_client_from_its_syn_to_its_end(void **state)
{
    (void) state;
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    say(SMUX_PSH, 3, "early");
    run();
    expect(steps, "OPEN 0 db:5439");
    tell(0, TUNNEL_ENDPOINT_OPENED, "10.0.0.1:5439");
    run();
    expect(steps, "WRITE 0 'early'");
    speak(0, "answer", false);
    say(SMUX_PSH, 3, "more");
    run();
    expect(steps, "WRITE 0 'more'");
    expect(heard, "PSH 3 'answer'");
    say(SMUX_PSH, 3, "last");
    say(SMUX_FIN, 3, "");
    run();
    /* It is gone whole: FIN answers, and what the target says has no reader. */
    expect(steps, "WRITE 0 'last' SHUT 0 CLOSE 0 both ends are done");
    expect(heard, "FIN 3");
    assert_int_equal(tunnel_open_streams(&tunnel), 0);
}

static void a_client_of_ours_may_end_one_direction(void **state)
{
    (void) state;
    begin_agent(&ours);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "10.0.0.1:5439");
    say(SMUX_PSH, 3, "question");
    say(SMUX_FIN, 3, "");
    run();
    expect(steps, "OPEN 0 db:5439 WRITE 0 'question' SHUT 0");
    expect(heard, "OPENED 3 '10.0.0.1:5439'");
    speak(0, "answer", true);
    run();
    expect(heard, "PSH 3 'answer' FIN 3");
    expect(steps, "CLOSE 0 both ends are done");
}

static void the_targets_end_is_told_after_its_last_byte(void **state)
{
    (void) state;
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    speak(0, "bye", true);
    run();
    expect(heard, "PSH 3 'bye' FIN 3");
    expect(steps, "OPEN 0 db:5439"); /* the client may go on */
    say(SMUX_FIN, 3, "");
    run();
    expect(steps, "CLOSE 0 both ends are done");
}

static void a_target_that_cannot_be_reached_is_told_as_the_peer_knows_it(void **state)
{
    (void) state;
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_FAILED, "connection refused");
    run();
    expect(heard, "flag 3 FIN 3");
    begin_agent(&ours);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_FAILED, "connection refused");
    run();
    expect(heard, "REFUSED 3 'connection refused'");
    assert_int_equal(tunnel_open_streams(&tunnel), 0);
}

static void a_connection_that_breaks_is_no_proper_end_for_a_client_of_ours(void **state)
{
    (void) state;
    begin_agent(&ours);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    heard[0] = '\0';
    endpoints[0].breaks = true;
    tell(0, TUNNEL_ENDPOINT_READABLE, "");
    run();
    expect(heard, "REFUSED 3");
    say(SMUX_SYN, 5, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    tell(0, TUNNEL_ENDPOINT_BROKE, "reset by peer");
    run();
    expect(heard, "OPENED 5 REFUSED 5 'reset by peer'");
}

static void frames_of_streams_that_are_not_here_change_nothing(void **state)
{
    (void) state;
    begin_agent(NULL);
    say(SMUX_PSH, 7, "nobody's");
    say(SMUX_FIN, 7, "");
    say(SMUX_NOP, 0, "");
    say(SMUX_SYN, 3, "");
    say(SMUX_SYN, 3, "");
    run();
    expect(steps, "OPEN 0 db:5439");
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    say(SMUX_PSH, 3, "x");
    run();
    expect(steps, "WRITE 0 'x'");
    expect(heard, "");
}

static void a_stream_beyond_the_most_is_refused_and_nothing_is_taken_in_before_that_is_said(void **state)
{
    (void) state;
    begin_agent(NULL);
    for (uint32_t i = 0; i < STREAMS_MAX; i++) {
        say(SMUX_SYN, 3 + 2 * i, "");
        run();
    }
    assert_int_equal(tunnel_open_streams(&tunnel), STREAMS_MAX);
    steps[0] = '\0';
    say(SMUX_SYN, 5001, "");
    say(SMUX_FIN, 3, "");
    pause_sending();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    expect(steps, "");
    lane_peer_message(&peers[0], AGENT_MESSAGE_START_PUBLICATION, 0, 0, "", 0);
    run();
    expect(heard, "flag 3 FIN 5001 FIN 3");
    expect(steps, "SHUT 0 CLOSE 0 both ends are done");
    assert_int_equal(tunnel_open_streams(&tunnel), STREAMS_MAX - 1);
}

static void a_stream_may_name_its_own_target_where_both_agreed(void **state)
{
    static const char *const wrong[] = {"db", ":80", "db:0", "db:70000", "a b:80", "db:80 "};
    (void) state;
    begin_agent(&ours);
    say(SMUX_SYN, 3, "other.internal:80");
    run();
    expect(steps, "OPEN 0 other.internal:80");
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        say(SMUX_SYN, 5, wrong[i]);
        run();
        expect(heard, "REFUSED 5 'the target that the client named is not HOST:PORT'");
        expect(steps, "");
    }
}

static void without_a_target_of_the_session_a_stream_has_to_name_one(void **state)
{
    (void) state;
    begin_agent(&ours);
    document.any_destination = true;
    str_copy(STR_LITERAL(DOCUMENT_ANY_HOST), document.host, sizeof document.host);
    say(SMUX_SYN, 3, "");
    say(SMUX_SYN, 5, "db:80");
    run();
    expect(heard, "REFUSED 3 'this session has no target of its own: each connection has to name one'");
    expect(steps, "OPEN 0 db:80");
    document.any_destination = false; /* then it is a name like any other */
    assert_true(document_has_target(&document));
}

static void frames_that_make_no_sense_end_the_session_with_a_reason(void **state)
{
    (void) state;
    begin_agent(NULL);
    say_bytes("no smux at all");
    run();
    assert_true(lanes[0].failed);
    assert_non_null(strstr(lanes[0].reason, "smux: version"));
}

/* ---- slow endpoints ---- */

static void say_much(uint32_t id, size_t bytes)
{
    static const char data[1000];
    for (size_t sent = 0; sent < bytes; sent += sizeof data) {
        if (!lane_peer_smux(&peers[0], SMUX_PSH, id, data, sizeof data)) {
            run();
            assert_true(lane_peer_smux(&peers[0], SMUX_PSH, id, data, sizeof data));
        }
    }
    run();
}

static void begin_stalled(void)
{
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    say(SMUX_SYN, 5, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    tell(1, TUNNEL_ENDPOINT_OPENED, "");
    run();
    endpoints[0].takes = 0;
    steps[0] = '\0';
    say_much(3, HELD_STREAM_MAX + 10000);
    assert_in_range(tunnel.held, HELD_STREAM_MAX - 1000, HELD_STREAM_MAX);
}

static void what_an_endpoint_does_not_take_is_held_and_others_go_on(void **state)
{
    (void) state;
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    say(SMUX_SYN, 5, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    tell(1, TUNNEL_ENDPOINT_OPENED, "");
    run();
    steps[0] = '\0';
    endpoints[0].takes = 3;
    say(SMUX_PSH, 3, "abcdef");
    say(SMUX_PSH, 3, "ghi");
    say(SMUX_PSH, 5, "x");
    run();
    expect(steps, "WRITE 0 'abc' WRITE 1 'x'");
    endpoints[0].takes = SIZE_MAX;
    tell(0, TUNNEL_ENDPOINT_WRITABLE, "");
    run();
    expect(steps, "WRITE 0 'defghi'");
    assert_int_equal(tunnel.held, 0);
}

static void who_takes_nothing_for_30_s_is_reset_when_others_wait(void **state)
{
    (void) state;
    begin_stalled();
    say(SMUX_PSH, 5, "x");
    run();
    expect(steps, "");
    int64_t began_ms = now_ms;
    assert_true(run_at(began_ms + TUNNEL_STALL_MS - 1) > now_ms);
    expect(steps, "");
    run_at(began_ms + TUNNEL_STALL_MS);
    expect(steps, "RESET 0 it took nothing for 30 s while other connections waited WRITE 1 'x'");
}

static void who_takes_nothing_may_do_so_for_20_min_when_nobody_waits(void **state)
{
    (void) state;
    begin_stalled();
    int64_t began_ms = now_ms;
    for (int64_t at_ms = now_ms; at_ms < began_ms + TUNNEL_STUCK_MS;)
        at_ms = num_min_i64(run_at(at_ms), began_ms + TUNNEL_STUCK_MS);
    expect(steps, "");
    run_at(began_ms + TUNNEL_STUCK_MS);
    expect(steps, "RESET 0 it took nothing for 20 min");
}

/* The held bytes of all are full, by two that take nothing: not the one whose turn it is has to go. */
static void the_one_to_reset_has_taken_nothing_for_the_longest_time(void **state)
{
    (void) state;
    begin_agent(NULL);
    for (uint32_t i = 0; i < 3; i++)
        say(SMUX_SYN, 3 + 2 * i, "");
    run();
    for (uint16_t i = 0; i < 3; i++)
        tell(i, TUNNEL_ENDPOINT_OPENED, "");
    run();
    endpoints[1].takes = 0;
    say_much(5, 1000 * 1000);
    now_ms += 1000;
    endpoints[0].takes = 1;
    say_much(3, HELD_MAX - 1000 * 1000);
    steps[0] = '\0';
    now_ms += 1000;
    say_much(7, 3000); /* takes all, but there is no room for it */
    int64_t began_ms = now_ms;
    run_at(began_ms + TUNNEL_STALL_MS);
    steps[strlen("RESET 1")] = '\0';
    expect(steps, "RESET 1");
}

static void a_quiet_stream_asks_for_little_at_once(void **state)
{
    static char much[200000];
    (void) state;
    memset(much, 'x', sizeof much - 1);
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    speak(0, "x", false);
    run();
    assert_int_equal(asked, STREAMS_INTERACTIVE_MAX);
    most_asked = 0;
    speak(0, much, false);
    run();
    assert_int_equal(most_asked, STREAMS_TURN_MAX);
}

/* ---- basic sessions ---- */

static void a_basic_session_opens_its_target_again_for_the_next_data(void **state)
{
    (void) state;
    begin(LANE_AGENT, DOCUMENT_LOCAL_FORWARDING, "1.1.0.0", NULL);
    expect(steps, " OPEN 0 db:5439");
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    say_bytes("one");
    run();
    speak(0, "answer", true);
    run();
    expect(steps, "WRITE 0 'one' CLOSE 0 the target closed");
    now_ms += LANE_BASIC_HOLD_MS;
    run();
    expect(heard, "'answer'");
    say_bytes("two");
    run();
    expect(steps, "OPEN 0 db:5439");
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    expect(steps, "WRITE 0 'two'");
    lane_peer_flag(&peers[0], PAYLOAD_FLAG_DISCONNECT_TO_PORT);
    run();
    expect(steps, "CLOSE 0 the client disconnected");
    assert_true(tunnel_is_open(&tunnel));
}

/* The fault: what an aborted connection left came out of the client's next one. */
static void what_a_client_disconnected_from_is_not_sent_again(void **state)
{
    (void) state;
    begin(LANE_AGENT, DOCUMENT_LOCAL_FORWARDING, "1.1.0.0", NULL);
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    say_bytes("one");
    run();
    now_ms += LANE_BASIC_HOLD_MS;
    run();
    heard[0] = '\0';
    peers[0].acknowledges = false;
    speak(0, "answer", false);
    run();
    expect(heard, "'answer'");
    lane_peer_flag(&peers[0], PAYLOAD_FLAG_DISCONNECT_TO_PORT);
    for (int i = 0; i < 30; i++) {
        now_ms += 100;
        run();
    }
    assert_null(strstr(heard, "answer"));
    assert_int_not_equal(heard[0], '\0');
}

/* The fault: what the client had still to say opened the target again, and when that failed again and again,
 * as often as a turn allows, until the session's last 2 s were over. */
static void a_session_that_has_ended_opens_no_target(void **state)
{
    (void) state;
    begin(LANE_AGENT, DOCUMENT_LOCAL_FORWARDING, "1.1.0.0", NULL);
    say_bytes("data");
    run();
    expect(steps, " OPEN 0 db:5439");
    tell(0, TUNNEL_ENDPOINT_FAILED, "connection refused");
    run();
    assert_null(strstr(steps, "OPEN"));
    assert_string_equal(lanes[0].reason, "connection refused");
    begin(LANE_AGENT, DOCUMENT_STREAM, "1.2.804.0", NULL);
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    say_bytes("hello");
    run();
    speak(0, "", true);
    run();
    expect(steps, " OPEN 0 db:5439 WRITE 0 'hello' CLOSE 0 the target closed");
    say_bytes("data");
    run();
    assert_null(strstr(steps, "OPEN"));
    assert_string_equal(lanes[0].reason, "the target closed its connection");
}

/* ---- streams of a client ---- */

static void a_client_opens_streams_with_odd_ids(void **state)
{
    (void) state;
    begin_client(NULL);
    uint16_t a = open_local();
    uint16_t b = open_local();
    speak(a, "hello", false);
    run();
    expect(heard, "SYN 3 SYN 5 PSH 3 'hello'");
    say(SMUX_PSH, 5, "welcome");
    run();
    expect(steps, "WRITE 1 'welcome'");
    assert_int_equal(b, 1);
}

static void a_client_of_an_agent_of_ours_names_the_target_and_hears_what_was_reached(void **state)
{
    (void) state;
    begin_client(&ours);
    destination = "other:80";
    open_local();
    run();
    expect(steps, "DESTINATION 0");
    expect(heard, "SYN 3 'other:80'");
    say(SMUX_OPENED, 3, "10.0.0.1:80");
    run();
    expect(steps, "ANSWERED 0 10.0.0.1:80");
    say(SMUX_OPENED, 3, ""); /* an agent that had no room for the address */
    run();
    expect(steps, "ANSWERED 0 ");
    say(SMUX_REFUSED, 3, "reset by peer");
    run();
    expect(steps, "RESET 0 reset by peer");
}

static void a_client_waits_for_quiet_before_it_ends_a_stream_of_awss_agent(void **state)
{
    (void) state;
    begin_client(NULL);
    open_local();
    speak(0, "question", true);
    run();
    expect(heard, "SYN 3 PSH 3 'question'");
    run_at(now_ms + TUNNEL_HALF_CLOSE_MS - 1);
    expect(heard, "");
    say(SMUX_PSH, 3, "answer");
    run();
    int64_t answered_ms = now_ms;
    run_at(answered_ms + TUNNEL_HALF_CLOSE_MS - 1);
    expect(heard, "");
    run_at(answered_ms + TUNNEL_HALF_CLOSE_MS);
    expect(heard, "FIN 3");
    say(SMUX_FIN, 3, "");
    run();
    expect(steps, "WRITE 0 'answer' CLOSE 0 both ends are done");
    assert_int_equal(tunnel.half_closed, 0);
}

static void awss_agents_flag_says_that_the_next_fin_is_a_refusal(void **state)
{
    (void) state;
    begin_client(NULL);
    open_local();
    open_local();
    run();
    lane_peer_flag(&peers[0], PAYLOAD_FLAG_CONNECT_TO_PORT_ERROR);
    say(SMUX_FIN, 3, "");
    say(SMUX_PSH, 5, "all");
    say(SMUX_FIN, 5, "");
    run();
    expect(steps,
           "RESET 0 the agent could not connect to the target; its log on the instance or task says why "
           "WRITE 1 'all' SHUT 1 CLOSE 1 both ends are done");
}

/* The fault: when the stream of flag and FIN was not here any more, the flag stood until another stream's
 * FIN, and * that was reset in the middle of its last bytes. */
static void a_refusal_of_a_stream_that_is_gone_is_not_the_next_ones(void **state)
{
    (void) state;
    begin_client(NULL);
    open_local();
    open_local();
    run();
    tell(0, TUNNEL_ENDPOINT_BROKE, "the user went away");
    run();
    expect(heard, "SYN 3 SYN 5 FIN 3");
    lane_peer_flag(&peers[0], PAYLOAD_FLAG_CONNECT_TO_PORT_ERROR);
    say(SMUX_FIN, 3, "");
    say(SMUX_PSH, 5, "all");
    say(SMUX_FIN, 5, "");
    run();
    expect(steps, "WRITE 1 'all' SHUT 1 CLOSE 1 both ends are done");
}

/* The fault: its SYN went out all the same, and the caller was asked for the destination of an endpoint
 * that was * gone. */
static void a_stream_that_broke_before_its_syn_went_out_is_not_mentioned(void **state)
{
    (void) state;
    begin_client(&ours);
    destination = "other:80";
    open_local();
    tell(0, TUNNEL_ENDPOINT_BROKE, "the user went away");
    run();
    expect(steps, "");
    expect(heard, "");
    assert_int_equal(tunnel_open_streams(&tunnel), 0);
}

/* The fault: the answer was shown for an endpoint that had gone. */
static void an_answer_for_an_endpoint_that_is_gone_is_not_shown(void **state)
{
    (void) state;
    begin_client(&ours);
    destination = "";
    open_local();
    run();
    pause_sending();
    run();
    tell(0, TUNNEL_ENDPOINT_BROKE, "the user went away");
    say(SMUX_OPENED, 3, "10.0.0.1:80");
    pause_sending();
    run();
    expect(steps, "DESTINATION 0");
    assert_int_equal(tunnel_open_streams(&tunnel), 1); /* the agent has yet to be told */
}

static void a_basic_client_has_one_stream_after_the_other(void **state)
{
    (void) state;
    begin(LANE_CLIENT, DOCUMENT_LOCAL_FORWARDING, "3.0.1.0", NULL);
    assert_int_equal(open_local(), 0);
    assert_int_equal(open_local(), STREAMS_NONE);
    speak(0, "data", true);
    run();
    expect(heard, "'data' flag 1");
    expect(steps, "CLOSE 0 the client disconnected");
    assert_int_equal(open_local(), 0);
}

/* ssh through a proxy command, whatever the agent could do otherwise. */
static void a_session_for_one_connection_ends_with_it(void **state)
{
    (void) state;
    begin(LANE_CLIENT, DOCUMENT_STREAM, "3.3.4624.0", &ours);
    assert_int_equal(open_local(), 0);
    assert_int_equal(open_local(), STREAMS_NONE);
    speak(0, "question", true);
    say_bytes("answer");
    run();
    expect(heard, "'question'");
    expect(steps, "WRITE 0 'answer'");
    run_at(now_ms + TUNNEL_HALF_CLOSE_MS - 1);
    assert_true(tunnel_is_open(&tunnel));
    say_bytes(" and more");
    run();
    int64_t answered_ms = now_ms;
    run_at(answered_ms + TUNNEL_HALF_CLOSE_MS - 1);
    expect(heard, "");
    run_at(answered_ms + TUNNEL_HALF_CLOSE_MS);
    expect(heard, "flag 2");
    expect(steps, "WRITE 0 ' and more' CLOSE 0 the client disconnected");
    assert_false(tunnel_is_open(&tunnel));
    assert_int_equal(tunnel.half_closed, 0);
}

/* ---- lanes ---- */

/* Another lane, open, whose session has joined the tunnel. */
static void add_lane(unsigned i)
{
    begin_lane(i, tunnel.role, &tunnel);
    run();
    lane_probed(&lanes[i], now_ms, STR_LITERAL(""));
    if (tunnel.role == LANE_AGENT) {
        lane_peer_respond(&peers[i], "1.2.804.0", &ours);
    } else {
        lane_peer_request(&peers[i], "3.3.987.0", &ours);
        lane_peer_complete(&peers[i]);
    }
    run();
    peers[i].pieces = &pieces;
    assert_true(lanes[i].state == LANE_OPEN);
    steps[0] = heard[0] = '\0';
}

static void say_on(unsigned i, enum smux_command command, uint32_t id, const char *data)
{
    assert_true(lane_peer_smux(&peers[i], command, id, data, strlen(data)));
}

static void say_closed(unsigned i)
{
    static const char json[] = "{\"Output\":\"\"}";
    lane_peer_message(&peers[i], AGENT_MESSAGE_CHANNEL_CLOSED, 0, 0, json, sizeof json - 1);
}

static void pieces_are_put_in_order_whatever_lane_they_come_over(void **state)
{
    (void) state;
    begin_agent(&ours);
    add_lane(1);
    pieces = 1;
    say_on(0, SMUX_PSH, 3, "first");
    pieces = 0;
    say_on(1, SMUX_SYN, 3, "");
    run();
    expect(steps, "OPEN 0 db:5439");
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    expect(steps, "WRITE 0 'first'");
}

/* The peer has room for so many numbers. */
static void pieces_do_not_go_further_than_the_peer_has_room_for(void **state)
{
    static char much[8 * 1024 * 1024];
    (void) state;
    memset(much, 'x', sizeof much - 1);
    begin_agent(&ours);
    add_lane(1);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    peers[0].heard = peers[1].heard = NULL; /* it would have to put them in order */
    peers[0].acknowledges = false;          /* the other goes on */
    speak(0, much, false);
    run();
    assert_in_range(tunnel.next_piece, TUNNEL_PIECES_SPAN - 100, TUNNEL_PIECES_SPAN);
    assert_true(data_channel_oldest_piece(&lanes[0].channel) < 100);
}

/* The fault: it was taken for one that knows them, and its payloads for pieces. */
static void a_lane_whose_agent_knows_no_pieces_does_not_carry_them(void **state)
{
    (void) state;
    begin_client(&ours);
    begin_lane(1, LANE_CLIENT, &tunnel);
    lane_peer_request(&peers[1], "3.3.987.0", NULL);
    lane_peer_complete(&peers[1]);
    run();
    assert_true(lanes[1].failed);
    assert_string_equal(lanes[1].reason, "the agent of this session does not know tunnels of several");
    assert_true(tunnel_is_open(&tunnel));
}

/* A piece that no honest peer sends has no place ever: its lane would wait for ever. */
static void a_piece_with_a_wild_number_is_dropped(void **state)
{
    (void) state;
    begin_agent(&ours);
    pieces = 1000000;
    say(SMUX_SYN, 5, "");
    pieces = UINT64_MAX;
    say(SMUX_SYN, 5, "");
    peers[0].pieces = NULL;
    say_bytes("");
    say_bytes("short");
    peers[0].pieces = &pieces;
    pieces = 0;
    say(SMUX_SYN, 3, "");
    run();
    expect(steps, "OPEN 0 db:5439");
}

static void what_a_lane_that_is_over_had_not_had_acknowledged_goes_over_another(void **state)
{
    (void) state;
    begin_agent(&ours);
    add_lane(1);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    steps[0] = heard[0] = '\0';
    peers[0].takes = peers[1].takes = 0;
    speak(0, "answer", false);
    run();
    unsigned first = data_channel_drained(&lanes[0].channel) ? 1 : 0;
    assert_true(data_channel_drained(&lanes[1 - first].channel));
    peers[1 - first].takes = SIZE_MAX;
    say_closed(first);
    run();
    lane_peer_cut(&peers[first], now_ms);
    run();
    expect(heard, "PSH 3 'answer'");
    assert_non_null(strstr(steps, "LANE_OVER"));
}

/* The fault: pieces that had come and been acknowledged just before the service closed their session were
 * dropped * with it, and the others waited for them for ever. */
static void what_came_before_the_service_closed_a_lane_is_not_lost(void **state)
{
    (void) state;
    begin_agent(&ours);
    add_lane(1);
    say(SMUX_SYN, 3, "");
    say_closed(0);
    lane_peer_pump(&peers[0], now_ms);
    lane_peer_cut(&peers[0], now_ms);
    run();
    assert_non_null(strstr(steps, "LANE_OVER 0"));
    assert_non_null(strstr(steps, "OPEN 0 db:5439"));
    begin_agent(NULL); /* and without pieces */
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    steps[0] = '\0';
    say(SMUX_PSH, 3, "last words");
    say_closed(0);
    lane_peer_pump(&peers[0], now_ms);
    lane_peer_cut(&peers[0], now_ms);
    run();
    assert_true(strncmp(steps, "LANE_LOST 0 WRITE 0 'last words'", 32) == 0);
}

/* The fault: when there was no room for all of them at once, the next look at the lane read beyond its
 * memory. */
static void the_pieces_of_a_lane_that_is_over_are_saved_one_by_one(void **state)
{
    enum { MANY = 40 };
    int32_t blocks[FRESH_POOL_BLOCKS];
    size_t taken = 0;
    (void) state;
    begin_agent(&ours);
    add_lane(1);
    while (pool_room(tunnel.user, POOL_NORMAL) > 0)
        blocks[taken++] = pool_take(tunnel.user, POOL_NORMAL);
    pieces = 1;
    for (int i = 0; i < MANY; i++)
        say(SMUX_NOP, 0, "");
    run();
    say_closed(0);
    run();
    lane_peer_cut(&peers[0], now_ms);
    run_at(now_ms + LANE_DRAIN_MS);
    assert_int_equal(lanes[0].state, LANE_OVER);
    assert_null(strstr(steps, "LANE_OVER"));
    while (taken > 0 && strstr(steps, "LANE_OVER") == NULL) {
        pool_give(tunnel.user, blocks[--taken]);
        run();
    }
    assert_true(taken > 0);
    pieces = 0;
    say_on(1, SMUX_SYN, 3, "");
    pieces = MANY + 1;
    say_on(1, SMUX_PSH, 3, "all are here");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    assert_non_null(strstr(steps, "OPEN 0 db:5439 WRITE 0 'all are here'"));
    while (taken > 0)
        pool_give(tunnel.user, blocks[--taken]);
}

/* The fault: a lane that ended while the only other one had not completed its handshake took its pieces
 * along, and * the tunnel went on without them. */
static void a_lane_that_is_over_waits_for_one_that_is_about_to_open(void **state)
{
    (void) state;
    begin_client(&ours);
    destination = "";
    begin_lane(1, LANE_CLIENT, &tunnel);
    lane_peer_request(&peers[1], "3.3.987.0", &ours);
    run();
    assert_int_equal(lanes[1].state, LANE_COMPLETING);
    peers[0].takes = 0;
    open_local();
    run();
    expect(steps, "DESTINATION 0");
    say_closed(0);
    run();
    lane_peer_cut(&peers[0], now_ms);
    run();
    assert_null(strstr(steps, "LANE_OVER"));
    lane_peer_complete(&peers[1]);
    peers[1].pieces = &pieces;
    run();
    assert_non_null(strstr(steps, "LANE_OVER 0"));
    expect(heard, "SYN 3");
}

/* The fault: held bytes and ends were still to be carried out on endpoints that the caller had closed with
 * the last * session. */
static void no_endpoint_is_asked_for_anything_after_the_last_lane(void **state)
{
    (void) state;
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    endpoints[0].takes = 0;
    say(SMUX_PSH, 3, "held");
    say_closed(0);
    run();
    lane_peer_cut(&peers[0], now_ms);
    run_at(now_ms + LANE_DRAIN_MS - 1);
    steps[0] = '\0';
    endpoints[0].takes = SIZE_MAX;
    tell(0, TUNNEL_ENDPOINT_WRITABLE, "");
    run_at(now_ms + 1);
    expect(steps, "LANE_OVER 0 the service ended the session OVER");
}

/* The fault: with the connection the lane was over at once. */
static void what_is_held_at_the_end_has_its_time(void **state)
{
    (void) state;
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    run();
    endpoints[0].takes = 0;
    say(SMUX_PSH, 3, "held");
    say_closed(0);
    run();
    lane_peer_cut(&peers[0], now_ms);
    run_at(now_ms + LANE_DRAIN_MS / 2);
    expect(steps, "OPEN 0 db:5439 LANE_LOST 0");
    assert_false(lane_wants_connection(&lanes[0])); /* nobody is there any more */
    endpoints[0].takes = SIZE_MAX;
    tell(0, TUNNEL_ENDPOINT_WRITABLE, "");
    run();
    expect(steps, "WRITE 0 'held' LANE_OVER 0 the service ended the session OVER");
}

static void a_lane_moves_only_where_it_has_a_place(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    begin_agent(&ours);
    begin_tunnel(&joiner, JOINER_POOL, LANE_AGENT);
    begin_lane(1, LANE_AGENT, &joiner);
    lane_peer_pump(&peers[1], now_ms);
    struct handshake_extension join = ours;
    memset(join.secret, 'a', HANDSHAKE_SECRET_SIZE - 1);
    lane_peer_respond(&peers[1], "1.2.804.0", &join);
    lane_peer_pump(&peers[1], now_ms);
    struct tunnel_step step;
    tunnel_next(&joiner, now_ms, &step);
    assert_int_equal(step.type, TUNNEL_STEP_JOIN);
    assert_true(str_equal_text(step.text, join.secret));
    tunnel.has_pieces = false;
    assert_int_equal(tunnel_move_lane(&joiner, 0, &tunnel, now_ms, &err), ERROR_INVALID);
    tunnel.has_pieces = true;
    for (tunnel.lane_count = 1; tunnel.lane_count < TUNNEL_LANES_MAX; tunnel.lane_count++)
        tunnel.lanes[tunnel.lane_count] = &lanes[0];
    assert_int_equal(tunnel_move_lane(&joiner, 0, &tunnel, now_ms, &err), ERROR_TOO_LARGE);
    tunnel.lane_count = 1;
    assert_int_equal(joiner.lane_count, 1);
    assert_int_equal(tunnel_move_lane(&joiner, 0, &tunnel, now_ms, &err), 1);
    assert_int_equal(joiner.lane_count, 0);
    tunnel_next(&joiner, now_ms, &step);
    assert_int_equal(step.type, TUNNEL_STEP_NONE); /* nothing more is told there */
    run();
    expect(steps, "LANE_OPEN 1");
    begin_lane(2, LANE_AGENT, &joiner);
    tunnel_end(&tunnel, now_ms, false, STR_LITERAL("enough"));
    assert_int_equal(tunnel_move_lane(&joiner, 0, &tunnel, now_ms, &err), ERROR_NOT_FOUND);
}

static void what_was_said_before_the_end_still_arrives(void **state)
{
    (void) state;
    begin_agent(NULL);
    say(SMUX_SYN, 3, "");
    run();
    tell(0, TUNNEL_ENDPOINT_OPENED, "");
    speak(0, "answer", false);
    peers[0].acknowledges = false;
    say(SMUX_PSH, 3, "question");
    run();
    tunnel_end(&tunnel, now_ms, false, STR_LITERAL("enough"));
    speak(0, "more", false); /* nothing new is taken from endpoints */
    run();
    expect(steps, "OPEN 0 db:5439 WRITE 0 'question'");
    expect(heard, "PSH 3 'answer'");
    run_at(now_ms + LANE_DRAIN_MS); /* the answer was not acknowledged */
    run_at(now_ms + 2 * CONNECTION_CLOSING_MS);
    expect(steps, "LANE_LOST 0 LANE_OVER 0 enough OVER");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stream_of_awss_client_from_its_syn_to_its_end),
        cmocka_unit_test(a_client_of_ours_may_end_one_direction),
        cmocka_unit_test(the_targets_end_is_told_after_its_last_byte),
        cmocka_unit_test(a_target_that_cannot_be_reached_is_told_as_the_peer_knows_it),
        cmocka_unit_test(a_connection_that_breaks_is_no_proper_end_for_a_client_of_ours),
        cmocka_unit_test(frames_of_streams_that_are_not_here_change_nothing),
        cmocka_unit_test(a_stream_beyond_the_most_is_refused_and_nothing_is_taken_in_before_that_is_said),
        cmocka_unit_test(a_stream_may_name_its_own_target_where_both_agreed),
        cmocka_unit_test(without_a_target_of_the_session_a_stream_has_to_name_one),
        cmocka_unit_test(frames_that_make_no_sense_end_the_session_with_a_reason),
        cmocka_unit_test(what_an_endpoint_does_not_take_is_held_and_others_go_on),
        cmocka_unit_test(who_takes_nothing_for_30_s_is_reset_when_others_wait),
        cmocka_unit_test(who_takes_nothing_may_do_so_for_20_min_when_nobody_waits),
        cmocka_unit_test(the_one_to_reset_has_taken_nothing_for_the_longest_time),
        cmocka_unit_test(a_quiet_stream_asks_for_little_at_once),
        cmocka_unit_test(a_basic_session_opens_its_target_again_for_the_next_data),
        cmocka_unit_test(what_a_client_disconnected_from_is_not_sent_again),
        cmocka_unit_test(a_session_that_has_ended_opens_no_target),
        cmocka_unit_test(a_client_opens_streams_with_odd_ids),
        cmocka_unit_test(a_client_of_an_agent_of_ours_names_the_target_and_hears_what_was_reached),
        cmocka_unit_test(a_client_waits_for_quiet_before_it_ends_a_stream_of_awss_agent),
        cmocka_unit_test(awss_agents_flag_says_that_the_next_fin_is_a_refusal),
        cmocka_unit_test(a_refusal_of_a_stream_that_is_gone_is_not_the_next_ones),
        cmocka_unit_test(a_stream_that_broke_before_its_syn_went_out_is_not_mentioned),
        cmocka_unit_test(an_answer_for_an_endpoint_that_is_gone_is_not_shown),
        cmocka_unit_test(a_basic_client_has_one_stream_after_the_other),
        cmocka_unit_test(a_session_for_one_connection_ends_with_it),
        cmocka_unit_test(pieces_are_put_in_order_whatever_lane_they_come_over),
        cmocka_unit_test(pieces_do_not_go_further_than_the_peer_has_room_for),
        cmocka_unit_test(a_lane_whose_agent_knows_no_pieces_does_not_carry_them),
        cmocka_unit_test(a_piece_with_a_wild_number_is_dropped),
        cmocka_unit_test(what_a_lane_that_is_over_had_not_had_acknowledged_goes_over_another),
        cmocka_unit_test(what_came_before_the_service_closed_a_lane_is_not_lost),
        cmocka_unit_test(the_pieces_of_a_lane_that_is_over_are_saved_one_by_one),
        cmocka_unit_test(a_lane_that_is_over_waits_for_one_that_is_about_to_open),
        cmocka_unit_test(no_endpoint_is_asked_for_anything_after_the_last_lane),
        cmocka_unit_test(what_is_held_at_the_end_has_its_time),
        cmocka_unit_test(a_lane_moves_only_where_it_has_a_place),
        cmocka_unit_test(what_was_said_before_the_end_still_arrives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
