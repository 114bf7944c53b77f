/*
 * relay/session: one session in the task, from the service's start message to its end, over real sockets: a
 * service that is a client, too, and a target. What its owner and the whole relay are left with is looked at.
 */
#include "relay/session.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"
#include "lib/emulation.h"
#include "lib/fresh_pool.h"
#include "lib/peer.h"
#include "run/session.h"
#include "tunnel/lane.h"
#include "wire/smux.h"

enum { HEAD_SIZE = 8192, BLOCKS = 4 * SESSION_USERS * POOL_USER_BLOCKS, LIMIT_MS = 20 * 1000 };

/* ---- the service, and the client behind it
 * --------------------------------------------------------------- */

static struct {
    bool refuses;         /* the session is over, says the API */
    bool is_pair;         /* two sessions of a client of ours */
    const char *question; /* what the client sends on its one stream */
    size_t answer_len;    /* then it waits for so much, and the service closes the session */
    int64_t sequence;
    char heard[4096]; /* Output of the agent */
    size_t heard_len;
    char message[1024]; /* of HandshakeComplete */
    atomic_int connections;
} service;

static void send_message(int fd, enum agent_message_type type, int64_t sequence, uint32_t payload_type,
                         const void *payload, size_t len)
{
    uint8_t frame[WEBSOCKET_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + 2048];
    uint8_t *content = frame + WEBSOCKET_HEADROOM;
    struct agent_message message = {.type = type,
                                    .sequence = sequence,
                                    .payload_type = payload_type,
                                    .payload = content + AGENT_MESSAGE_HEADER_SIZE,
                                    .payload_len = len};
    memcpy(content + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    agent_message_write_header(content, &message);
    size_t header = websocket_seal(content, AGENT_MESSAGE_HEADER_SIZE + len, WEBSOCKET_BINARY, NULL);
    peer_write(fd, content - header, header + AGENT_MESSAGE_HEADER_SIZE + len);
}

static void send_data(int fd, uint32_t payload_type, const void *payload, size_t len)
{
    send_message(fd, AGENT_MESSAGE_INPUT_STREAM_DATA, service.sequence++, payload_type, payload, len);
}

static void send_frame(int fd, enum smux_command command, const char *text)
{
    uint8_t frame[SMUX_HEADER_SIZE + 1000];
    smux_write_header(frame, command, 3, (uint16_t) strlen(text));
    memcpy(frame + SMUX_HEADER_SIZE, text, strlen(text));
    send_data(fd, PAYLOAD_OUTPUT, frame, SMUX_HEADER_SIZE + strlen(text));
}

static void respond(int fd)
{
    const struct handshake_response response = {.client_version = "1.2.804.0"};
    char payload[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    handshake_write_response(&out, &response, true);
    send_data(fd, PAYLOAD_HANDSHAKE_RESPONSE, payload, out.len);
}

static void hear(int fd, const struct agent_message *message)
{
    static const char closed[] = "{\"Output\":\"time is over\"}";
    char payload[ACKNOWLEDGE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    if (message->type != AGENT_MESSAGE_OUTPUT_STREAM_DATA)
        return;
    acknowledge_write(&out, &(struct acknowledge){.type = message->type, .sequence = message->sequence});
    send_message(fd, AGENT_MESSAGE_ACKNOWLEDGE, 0, 0, payload, out.len);
    if (message->payload_type == PAYLOAD_HANDSHAKE_REQUEST) {
        if (service.sequence == 0)
            respond(fd);
    } else if (message->payload_type == PAYLOAD_HANDSHAKE_COMPLETE) {
        handshake_read_complete((struct str){(const char *) message->payload, message->payload_len},
                                service.message, sizeof service.message);
        send_frame(fd, SMUX_SYN, "");
        send_frame(fd, SMUX_PSH, service.question);
    } else if (message->payload_type == PAYLOAD_OUTPUT &&
               service.heard_len + message->payload_len <= sizeof service.heard) {
        memcpy(service.heard + service.heard_len, message->payload, message->payload_len);
        service.heard_len += message->payload_len;
        if (service.heard_len >= service.answer_len)
            send_message(fd, AGENT_MESSAGE_CHANNEL_CLOSED, 0, 0, closed, sizeof closed - 1);
    }
}

static void converse(int fd, void (*heard)(int fd, const struct agent_message *message))
{
    uint8_t buffer[16384];
    struct websocket_decoder decoder;
    struct websocket_event event;
    struct agent_message message;
    websocket_decoder_init(&decoder, WEBSOCKET_SERVER, buffer, sizeof buffer);
    for (;;) {
        size_t room;
        uint8_t *in = websocket_in_buf(&decoder, &room);
        ssize_t got = recv(fd, in, room, 0);
        if (got <= 0)
            return;
        websocket_in_ack(&decoder, (size_t) got);
        do {
            if (websocket_next(&decoder, &event, NULL) != 0 || event.type == WEBSOCKET_EVENT_CLOSE)
                return;
            if (event.type == WEBSOCKET_EVENT_MESSAGE && event.binary &&
                agent_message_parse(&message, event.data, event.len, NULL) == 0)
                heard(fd, &message);
        } while (event.type != WEBSOCKET_EVENT_NONE);
    }
}

/* ---- a client of ours, with two sessions for one tunnel
 * --------------------------------------------------- */

static struct {
    const char *join; /* what the second session calls the tunnel; null: what the first was told */
    pthread_t threads[2];
    int fds[2];
    char secret[HANDSHAKE_SECRET_SIZE];
    atomic_int opened;   /* sessions whose connection is there */
    atomic_int complete; /* sessions whose handshake is */
    char heard[64];
} pair;

static void send_piece(int fd, int64_t sequence, uint64_t number, enum smux_command command, const char *text)
{
    uint8_t piece[OUTBOX_PIECE_HEADER_SIZE + SMUX_HEADER_SIZE + 100];
    struct writer out = writer_of(piece, sizeof piece);
    writer_u64be(&out, number);
    smux_write_header(piece + out.len, command, 3, (uint16_t) strlen(text));
    memcpy(piece + out.len + SMUX_HEADER_SIZE, text, strlen(text));
    send_message(fd, AGENT_MESSAGE_INPUT_STREAM_DATA, sequence, PAYLOAD_OUTPUT, piece,
                 out.len + SMUX_HEADER_SIZE + strlen(text));
}

static void respond_as_ours(int fd, const struct agent_message *message)
{
    struct handshake_response response = {
        .client_version = "1.2.804.0", .half_close = true, .extension = {.is_ours = true, .lanes = true}};
    struct handshake_request request;
    char payload[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    handshake_read_request((struct str){(const char *) message->payload, message->payload_len}, &request,
                           NULL);
    if (fd == pair.fds[0])
        memcpy(pair.secret, request.extension.secret, sizeof pair.secret);
    else
        str_copy(str_from(pair.join != NULL ? pair.join : pair.secret), response.extension.secret,
                 sizeof response.extension.secret);
    handshake_write_response(&out, &response, true);
    send_message(fd, AGENT_MESSAGE_INPUT_STREAM_DATA, 0, PAYLOAD_HANDSHAKE_RESPONSE, payload, out.len);
}

static void close_pair(void)
{
    static const char closed[] = "{\"Output\":\"time is over\"}";
    for (int i = 1; i >= 0; i--)
        send_message(pair.fds[i], AGENT_MESSAGE_CHANNEL_CLOSED, 0, 0, closed, sizeof closed - 1);
}

static void hear_pair(int fd, const struct agent_message *message)
{
    char payload[ACKNOWLEDGE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    if (message->type != AGENT_MESSAGE_OUTPUT_STREAM_DATA)
        return;
    acknowledge_write(&out, &(struct acknowledge){.type = message->type, .sequence = message->sequence});
    send_message(fd, AGENT_MESSAGE_ACKNOWLEDGE, 0, 0, payload, out.len);
    if (message->payload_type == PAYLOAD_HANDSHAKE_REQUEST && message->sequence == 0) {
        respond_as_ours(fd, message);
    } else if (message->payload_type == PAYLOAD_HANDSHAKE_COMPLETE) {
        if (atomic_fetch_add(&pair.complete, 1) == 0)
            return;
        send_piece(pair.fds[1], 1, 1, SMUX_PSH, "hello"); /* the second piece first */
        send_piece(pair.fds[0], 1, 0, SMUX_SYN, "");
    } else if (message->payload_type == PAYLOAD_OUTPUT) {
        /* Behind OPENED and its text, or in a piece of its own. */
        for (size_t i = 0; i + 5 <= message->payload_len && pair.heard[0] == '\0'; i++)
            if (memcmp(message->payload + i, "hello", 5) == 0)
                strcpy(pair.heard, "hello");
        if (pair.heard[0] != '\0')
            close_pair();
    }
}

static void *serve_one_of_pair(void *argument)
{
    int fd = *(int *) argument;
    converse(fd, hear_pair);
    shutdown(fd, SHUT_RDWR);
    return NULL;
}

static void serve(int fd, void *context)
{
    static const char token[] = "HTTP/1.1 201 Created\r\nContent-Length: 75\r\n\r\n"
                                "<CreateDataChannelResponse><TokenValue>tok-1</TokenValue>"
                                "                  ";
    static const char refusal[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 74\r\n\r\n"
        "<BadRequest xmlns=\"\"><message>Session is already terminated</message></Bad>";
    char head[HEAD_SIZE], key[WEBSOCKET_KEY_SIZE], accept[WEBSOCKET_ACCEPT_SIZE], answer[512];
    (void) context;
    if (!peer_read_head(fd, head, sizeof head))
        return;
    if (strncmp(head, "POST ", 5) == 0) {
        const char *text = service.refuses ? refusal : token;
        peer_write(fd, text, strlen(text));
        return;
    }
    const char *at = strstr(head, "sec-websocket-key: ");
    if (at == NULL)
        return;
    snprintf(key, sizeof key, "%s", at + strlen("sec-websocket-key: "));
    websocket_accept(key, accept);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
             "Sec-WebSocket-Accept: %s\r\n\r\n",
             accept);
    peer_write(fd, answer, strlen(answer));
    atomic_fetch_add(&service.connections, 1);
    if (!service.is_pair) {
        converse(fd, hear);
        return;
    }
    int i = atomic_load(&pair.opened);
    pair.fds[i] = dup(fd);
    pthread_create(&pair.threads[i], NULL, serve_one_of_pair, &pair.fds[i]);
    atomic_fetch_add(&pair.opened, 1);
}

static void echo(int fd, void *context)
{
    char bytes[1000];
    (void) context;
    for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0;)
        peer_write(fd, bytes, (size_t) n);
}

/* ---- the relay
 * ------------------------------------------------------------------------------------------- */

static struct peer service_peer, target;
static struct loop loop;
static struct network network;
static struct aws_client client;
static struct linger_set linger;
static struct relay_context relay;
static struct document document;
static char endpoint_variable[96];
static char *env[] = {endpoint_variable, "AWS_REGION=eu-west-1", "AWS_ACCESS_KEY_ID=AK",
                      "AWS_SECRET_ACCESS_KEY=s", NULL};

static struct {
    int overs;
    bool failed;
    char reason[LANE_TEXT_SIZE];
} owner;

static void session_over(struct relay_session *session, void *context)
{
    assert_ptr_equal(context, &owner);
    owner.overs++;
    owner.failed = relay_session_failed(session);
    snprintf(owner.reason, sizeof owner.reason, "%s", relay_session_reason(session));
    relay_session_free(session);
}

static bool is_own_port(const struct relay_context *context, uint16_t port)
{
    (void) context;
    return port == target.port;
}

static int setup(void **state)
{
    static struct task_settings config = {
        .max_sessions = 4, .dial_timeout_ms = 5000, .idle_timeout_ms = 600000};
    (void) state;
    memset(&service, 0, sizeof service);
    memset(&owner, 0, sizeof owner);
    peer_open(&service_peer, "127.0.0.1", 0, serve, NULL);
    peer_open(&target, "127.0.0.1", 0, echo, NULL);
    snprintf(endpoint_variable, sizeof endpoint_variable, "AWS_ENDPOINT_URL=http://127.0.0.1:%u",
             service_peer.port);
    if (loop_open(&loop, NULL) != 0 || network_open(&network, &loop, env, NULL) != 0)
        return -1;
    aws_client_open(&client, &network, env);
    linger_open(&linger, &loop, 8);
    relay = (struct relay_context){.config = &config,
                                   .network = &network,
                                   .client = &client,
                                   .linger = &linger,
                                   .is_own_port = is_own_port,
                                   .target_id = STR_LITERAL("ecs:c_t_r"),
                                   .lives_until_ms = INT64_MAX};
    dial_policy_init(&relay.policy, STR_LITERAL(""), NULL);
    list_init(&relay.tunnels);
    memset(&document, 0, sizeof document);
    str_copy(STR_LITERAL("s-1"), document.session_id, sizeof document.session_id);
    str_copy(STR_LITERAL("127.0.0.1"), document.host, sizeof document.host);
    str_copy(STR_LITERAL("{}"), document.properties, sizeof document.properties);
    document.port = target.port;
    return pool_init(&relay.pool, fresh_memory(0, (size_t) BLOCKS * POOL_BLOCK_SIZE), BLOCKS, 4) ? 0 : -1;
}

/* Nothing of any session is left. */
static int teardown(void **state)
{
    (void) state;
    assert_int_equal(relay.open_streams, 0);
    assert_int_equal(relay.pool.used, 0);
    assert_int_equal(relay.pool.users, 0);
    assert_ptr_equal(relay.tunnels.next, &relay.tunnels);
    linger_close(&linger);
    aws_client_close(&client);
    network_close(&network);
    assert_null(loop.timers);
    loop_close(&loop);
    peer_close(&service_peer);
    peer_close(&target);
    return 0;
}

static struct relay_session *start(void)
{
    struct error err = ERROR_INIT;
    loop_turn(&loop, 0, NULL);
    struct relay_session *session = relay_session_start(&relay, &document, session_over, &owner, &err);
    assert_non_null(session);
    assert_int_equal(owner.overs, 0); /* never from inside */
    return session;
}

static void run_to_the_end(void)
{
    int64_t until_ms = clock_monotonic_ms() + LIMIT_MS;
    while (owner.overs == 0 && clock_monotonic_ms() < until_ms)
        loop_turn(&loop, 20, NULL);
    assert_int_equal(owner.overs, 1);
    for (int turns = 0; turns < 10; turns++) /* it is told once */
        loop_turn(&loop, 1, NULL);
    assert_int_equal(owner.overs, 1);
}

static void a_session_from_its_start_to_its_end(void **state)
{
    (void) state;
    service.question = "hello";
    service.answer_len = SMUX_HEADER_SIZE + 5;
    start();
    assert_string_equal(document.session_id, "s-1");
    run_to_the_end();
    assert_false(owner.failed);
    assert_string_equal(owner.reason, "the service ended the session: time is over");
    assert_memory_equal(service.heard + SMUX_HEADER_SIZE, "hello", 5);
    assert_non_null(strstr(service.message, "Reached 127.0.0.1 (127.0.0.1:"));
    assert_non_null(strstr(service.message, "This task ends 10m"));
    assert_true(relay.last_stream_ms > 0 && relay.last_session_ms > 0 && relay.last_byte_ms > 0);
}

static void a_session_that_the_service_knows_no_more_ends_with_its_words(void **state)
{
    (void) state;
    service.refuses = true;
    start();
    run_to_the_end();
    assert_true(owner.failed);
    assert_non_null(strstr(owner.reason, "already terminated"));
    assert_int_equal(atomic_load(&service.connections), 0);
}

static void a_target_that_may_not_be_dialled_ends_the_session_with_the_reason(void **state)
{
    (void) state;
    str_copy(STR_LITERAL("169.254.169.254"), document.host, sizeof document.host);
    document.port = 80;
    start();
    run_to_the_end();
    assert_true(owner.failed);
    assert_non_null(strstr(owner.reason, "may not be dialled"));
    assert_int_equal(relay.open_streams, 0);
}

static void the_relay_can_end_a_session_at_any_time(void **state)
{
    (void) state;
    service.question = "hello";
    service.answer_len = SIZE_MAX; /* the client stays */
    struct relay_session *session = start();
    int64_t until_ms = clock_monotonic_ms() + LIMIT_MS;
    while (relay.open_streams == 0 && clock_monotonic_ms() < until_ms)
        loop_turn(&loop, 20, NULL);
    assert_int_equal(relay.open_streams, 1);
    assert_string_equal(relay_session_id(session), "s-1");
    relay_session_end(session, true, STR_LITERAL("this task stops"));
    relay_session_end(session, false, STR_LITERAL("and nobody says why"));
    assert_int_equal(owner.overs, 0);
    int64_t began_ms = clock_monotonic_ms();
    run_to_the_end();
    assert_true(owner.failed);
    assert_string_equal(owner.reason, "this task stops");
    if (!is_emulated())
        assert_in_range(clock_monotonic_ms() - began_ms, 0, LANE_DRAIN_MS + 2 * CONNECTION_CLOSING_MS + 1000);
    owner.overs = 0;
    session = start(); /* at once, too */
    relay_session_end(session, false, STR_LITERAL("not needed"));
    run_to_the_end();
    assert_string_equal(owner.reason, "not needed");
}

/* ---- two sessions, one tunnel
 * ---------------------------------------------------------------------------- */

static void start_pair(void)
{
    memset(&pair, 0, sizeof pair);
    service.is_pair = true;
    start();
    int64_t until_ms = clock_monotonic_ms() + LIMIT_MS;
    while (atomic_load(&pair.complete) < 1 && clock_monotonic_ms() < until_ms)
        loop_turn(&loop, 20, NULL);
    assert_int_equal(atomic_load(&pair.complete), 1);
    str_copy(STR_LITERAL("s-2"), document.session_id, sizeof document.session_id);
}

static void run_pair_to(int overs)
{
    int64_t until_ms = clock_monotonic_ms() + LIMIT_MS;
    while (owner.overs < overs && clock_monotonic_ms() < until_ms)
        loop_turn(&loop, 20, NULL);
    for (int turns = 0; turns < 10; turns++)
        loop_turn(&loop, 1, NULL);
    assert_int_equal(owner.overs, overs);
}

static void end_pair(void)
{
    for (int i = 0; i < atomic_load(&pair.opened); i++) {
        pthread_join(pair.threads[i], NULL);
        close(pair.fds[i]);
    }
}

static void two_sessions_of_ours_carry_one_tunnel(void **state)
{
    (void) state;
    start_pair();
    start();
    run_pair_to(2);
    assert_false(owner.failed);
    assert_string_equal(pair.heard, "hello");
    assert_int_equal(atomic_load(&pair.complete), 2);
    end_pair();
}

static void who_does_not_know_the_tunnel_or_asked_for_something_else_does_not_join_it(void **state)
{
    static const char reason[] = "the tunnel that this session was to join is over, or is another user's";
    (void) state;
    start_pair();
    pair.join = "00112233445566778899aabbccddeeff";
    start();
    run_pair_to(1);
    assert_true(owner.failed);
    assert_string_equal(owner.reason, reason);
    close_pair();
    run_pair_to(2);
    end_pair();
    owner.overs = 0;
    start_pair();
    str_copy(STR_LITERAL("somebody else"), document.owner, sizeof document.owner);
    start();
    run_pair_to(1);
    assert_true(owner.failed);
    assert_string_equal(owner.reason, reason);
    close_pair();
    run_pair_to(2);
    end_pair();
}

static void without_memory_for_it_no_session_starts(void **state)
{
    struct pool_user users[4];
    struct error err = ERROR_INIT;
    (void) state;
    for (int i = 0; i < 3; i++)
        assert_true(pool_join(&relay.pool, &users[i]));
    assert_null(relay_session_start(&relay, &document, session_over, &owner, &err)); /* one of two */
    assert_int_equal(err.code, ERROR_SYSTEM);
    assert_int_equal(relay.pool.users, 3);
    for (int i = 0; i < 3; i++)
        pool_leave(&users[i]);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_session_from_its_start_to_its_end),
        TEST(a_session_that_the_service_knows_no_more_ends_with_its_words),
        TEST(a_target_that_may_not_be_dialled_ends_the_session_with_the_reason),
        TEST(the_relay_can_end_a_session_at_any_time),
        TEST(two_sessions_of_ours_carry_one_tunnel),
        TEST(who_does_not_know_the_tunnel_or_asked_for_something_else_does_not_join_it),
        TEST(without_memory_for_it_no_session_starts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
