/* Clients of a SOCKS port, over socket pairs; the test is the one who asks. */
#include "client/socks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/fresh_pool.h"
#include "lib/peer.h"

static struct loop loop;
static struct network network;
static struct linger_set linger;
static struct tunnel tunnel;
static struct tcp_endpoints endpoints;
static struct client_socks_set set;
static struct client_socks *asked; /* the latest */
static bool takes;                 /* `connect` says true */
static int asks;
static int waits;
static int left;
static int changes;

static void client_left(struct client_socks *c)
{
    assert_ptr_equal(c->asker, &takes);
    left++;
}

static bool connect_one(struct client_socks_set *from, struct client_socks *c)
{
    assert_ptr_equal(from, &set);
    asks++;
    asked = c;
    if (takes) {
        c->left = client_left;
        c->asker = &takes;
    }
    return takes;
}

static void one_waits(struct client_socks_set *from, size_t forward)
{
    assert_ptr_equal(from, &set);
    assert_int_equal(forward, 7);
    waits++;
}

static void one_is_gone(struct client_socks_set *from)
{
    assert_ptr_equal(from, &set);
    changes++;
}

static void ignore(void *context)
{
    (void) context;
}

static void note_opened(void *context, const struct tcp_endpoint *endpoint)
{
    (void) context;
    assert_true(endpoint->connected);
}

static void note_closed(void *context, const struct tcp_endpoint *endpoint, const char *why)
{
    (void) context;
    (void) endpoint;
    assert_non_null(why);
}

static int setup(void **state)
{
    static struct tcp_endpoint slots[STREAMS_MAX];
    (void) state;
    if (loop_open(&loop, NULL) != 0 || network_open(&network, &loop, NULL, NULL) != 0)
        return -1;
    linger_open(&linger, &loop, 8);
    memset(slots, 0, sizeof slots);
    tunnel_init(&tunnel,
                &(struct tunnel_config){.role = LANE_CLIENT,
                                        .user = fresh_pool(0, FRESH_POOL_BLOCKS),
                                        .memory = fresh_memory(0, TUNNEL_MEMORY_SIZE)},
                0);
    endpoints = (struct tcp_endpoints){.tunnel = &tunnel,
                                       .network = &network,
                                       .linger = &linger,
                                       .slots = slots,
                                       .changed = ignore,
                                       .opened = note_opened,
                                       .closed = note_closed};
    tcp_endpoints_init(&endpoints);
    set = (struct client_socks_set){.connect = connect_one, .waits = one_waits, .changed = one_is_gone};
    client_socks_open(&set, &loop);
    takes = true;
    asks = waits = left = changes = 0;
    asked = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    client_socks_close(&set);
    assert_int_equal(set.count, 0);
    tcp_endpoints_close(&endpoints, "the test is over");
    linger_close(&linger);
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    return 0;
}

/* ---- clients ---- */

static void run(void)
{
    for (int turns = 0; turns < 5; turns++)
        loop_turn(&loop, 2, NULL);
}

static int connect_client(void)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    client_socks_accept(&set, 7, pair[0]);
    return pair[1];
}

static void say(int client, const void *data, size_t len)
{
    assert_true(peer_write(client, data, len));
    run();
}

/* Exactly that, and nothing more is there. */
static void hears(int client, const void *data, size_t len)
{
    uint8_t got[1024];
    ssize_t n = recv(client, got, sizeof got, MSG_DONTWAIT);
    assert_int_equal(n, len > 0 ? (ssize_t) len : -1);
    assert_memory_equal(got, data, len);
}

static void hears_the_end(int client)
{
    char byte;
    assert_int_equal(recv(client, &byte, 1, MSG_DONTWAIT), 0);
    close(client);
}

#define SAY(client, text)   say(client, text, sizeof(text) - 1)
#define HEARS(client, text) hears(client, text, sizeof(text) - 1)

#define REQUEST                                                                                              \
    "\x05\x01\x00\x03\x02"                                                                                   \
    "db"                                                                                                     \
    "\x15\x3f"
#define OPENED "\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00"

/* One that has said that it wants db:5439. */
static int connect_asking(void)
{
    int client = connect_client();
    SAY(client, "\x05\x01\x00");
    HEARS(client, "\x05\x00");
    SAY(client, REQUEST);
    return client;
}

static uint16_t add_stream(void)
{
    static uint32_t id = 1;
    return streams_add(&tunnel.streams, id += 2, STREAMS_OPEN, 0);
}

/* ---- tests ---- */

static void what_follows_the_request_is_the_streams(void **state)
{
    static const char all[] = "\x05\x01\x00" REQUEST "early";
    (void) state;
    for (size_t split = 0; split < sizeof all - 1; split++) {
        int client = connect_client();
        char got[16];
        asked = NULL;
        say(client, all, split);
        say(client, all + split, sizeof all - 1 - split);
        assert_non_null(asked);
        assert_string_equal(asked->request.host, "db");
        assert_int_equal(asked->request.port, 5439);
        assert_int_equal(asked->forward, 7);
        HEARS(client, "\x05\x00");
        uint16_t stream = add_stream();
        assert_int_equal(client_socks_opened(asked, &endpoints, stream, NULL), 0);
        HEARS(client, OPENED);
        run();
        assert_true(tunnel_stream(&tunnel, stream)->readable);
        struct tunnel_result result = {0};
        struct iovec vector = {got, sizeof got};
        tcp_endpoints_read(&endpoints, stream, &vector, 1, &result);
        assert_int_equal(result.n, 5);
        assert_memory_equal(got, "early", 5);
        assert_int_equal(set.count, 0);
        tcp_endpoints_end(&endpoints, stream, "done");
        close(client);
        run();
    }
    assert_int_equal(changes, (int) sizeof all - 1);
    assert_int_equal(left, 0);
}

static void the_agents_sentence_becomes_the_clients_code(void **state)
{
    static const struct {
        const char *why;
        char code;
    } cases[] = {
        {"dial db:5439: Connection refused", 5},
        {"dial db:5439: may not be dialled: it is a link-local address", 2},
        {"dial db:5439: no such name", 4},
        {"dial db:5439: Host is unreachable", 4},
        {"dial db:5439: 10.0.0.1:5439: no answer within 10s", 6},
        {"dial db:5439: 10.0.0.1:5439: Operation timed out", 6},
        {"dial db:5439: out of memory", 1},
        {"may not be dialled", 1}, /* the name of a host, as far as anybody can tell */
        {"", 1},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char answer[] = OPENED;
        int client = connect_asking();
        client_socks_refused(asked, cases[i].why);
        answer[1] = cases[i].code;
        hears(client, answer, sizeof answer - 1);
        hears_the_end(client);
        run();
    }
    int client = connect_client();
    SAY(client, "CONNECT db:5439 HTTP/1.1\r\n\r\n");
    client_socks_refused(asked, "dial db:5439: Connection refused");
    HEARS(client, "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n"
                  "Content-Length: 33\r\nConnection: close\r\n\r\ndial db:5439: Connection refused\n");
    hears_the_end(client);
}

static void one_for_which_there_is_no_session_waits(void **state)
{
    (void) state;
    takes = false;
    int client = connect_asking();
    assert_int_equal(waits, 1);
    assert_true(client_socks_is_waiting(&set));
    client_socks_want(&set);
    assert_int_equal(waits, 2);
    client_socks_serve(&set);
    assert_int_equal(asks, 2);
    takes = true;
    client_socks_serve(&set);
    assert_int_equal(asks, 3);
    client_socks_serve(&set); /* it is asked for already */
    client_socks_refuse_waiting(&set, "no");
    client_socks_want(&set);
    assert_int_equal(asks, 3);
    assert_int_equal(waits, 2);
    assert_true(client_socks_is_waiting(&set));
    client_socks_ask_again(asked);
    assert_int_equal(waits, 3);
    client_socks_serve(&set);
    assert_int_equal(asks, 4);
    client_socks_ask_again(asked);
    client_socks_refuse_waiting(&set, "no new session within 10m0s");
    HEARS(client, "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00");
    hears_the_end(client);
    assert_false(client_socks_is_waiting(&set));
    assert_int_equal(left, 0);
}

static void whoever_asks_hears_that_the_client_has_left(void **state)
{
    (void) state;
    close(connect_asking());
    run();
    assert_int_equal(left, 1);
    takes = false;
    close(connect_asking()); /* nobody asks */
    run();
    close(connect_client()); /* before it has said anything */
    int client = connect_client();
    SAY(client, "\x05\x01");
    close(client);
    run();
    assert_int_equal(left, 1);
    assert_int_equal(set.count, 0);
    assert_int_equal(changes, 4);
}

static void a_client_that_has_said_all_has_not_left(void **state)
{
    (void) state;
    int client = connect_asking();
    say(client, "all", 3);
    shutdown(client, SHUT_WR);
    run();
    assert_int_equal(left, 0);
    uint16_t stream = add_stream();
    assert_int_equal(client_socks_opened(asked, &endpoints, stream, NULL), 0);
    HEARS(client, OPENED);
    close(client);
}

static void an_answer_for_a_client_that_has_left_is_an_error(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    int client = connect_asking();
    close(client); /* and the loop has not looked since */
    assert_int_equal(client_socks_opened(asked, &endpoints, add_stream(), &err), ERROR_CLOSED);
    assert_string_equal(err.text, "the local connection is closed");
    assert_int_equal(left, 0);
    assert_int_equal(set.count, 0);
}

static void nonsense_is_refused(void **state)
{
    (void) state;
    int client = connect_client();
    SAY(client, "\x16\x03\x01\x02");
    hears_the_end(client);
    client = connect_client();
    SAY(client, "\x05\x01\x02"); /* a password only */
    HEARS(client, "\x05\xff");
    hears_the_end(client);
    client = connect_client();
    SAY(client, "GET / HTTP/1.1\r\n\r\n");
    char got[32] = "";
    assert_true(recv(client, got, 12, 0) == 12);
    assert_string_equal(got, "HTTP/1.1 405");
    close(client);
    run();
    assert_int_equal(asks, 0);
    assert_int_equal(set.count, 0);
}

static void a_client_has_30_s_for_its_request(void **state)
{
    (void) state;
    int slow = connect_client();
    int client = connect_asking();
    struct client_socks *first = LIST_OWNER(set.all.next, struct client_socks, link);
    int64_t left_ms = first->timer.due_ms - loop_now_ms(&loop);
    assert_true(left_ms > CLIENT_SOCKS_REQUEST_MS - 1000 && left_ms <= CLIENT_SOCKS_REQUEST_MS);
    assert_false(asked->timer.queued); /* it has said what it wants */
    loop_timer_set(&loop, &first->timer, loop_now_ms(&loop));
    run();
    hears_the_end(slow);
    assert_int_equal(set.count, 1);
    close(client);
}

static void their_number_is_bounded(void **state)
{
    static int clients[CLIENT_SOCKS_MAX];
    (void) state;
    for (int i = 0; i < CLIENT_SOCKS_MAX; i++) {
        assert_false(client_socks_is_full(&set));
        clients[i] = connect_client();
    }
    assert_true(client_socks_is_full(&set));
    hears_the_end(connect_client());
    close(clients[0]);
    run();
    assert_false(client_socks_is_full(&set));
    for (int i = 1; i < CLIENT_SOCKS_MAX; i++)
        close(clients[i]);
    run();
    assert_int_equal(set.count, 0);
    assert_int_equal(changes, CLIENT_SOCKS_MAX);
}

static void at_the_end_all_are_told(void **state)
{
    (void) state;
    int clients[] = {connect_asking(), connect_asking(), connect_client()};
    client_socks_close(&set);
    assert_int_equal(left, 2);
    for (size_t i = 0; i < 3; i++)
        hears_the_end(clients[i]);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_follows_the_request_is_the_streams),
        TEST(the_agents_sentence_becomes_the_clients_code),
        TEST(one_for_which_there_is_no_session_waits),
        TEST(whoever_asks_hears_that_the_client_has_left),
        TEST(a_client_that_has_said_all_has_not_left),
        TEST(an_answer_for_a_client_that_has_left_is_an_error),
        TEST(nonsense_is_refused),
        TEST(a_client_has_30_s_for_its_request),
        TEST(their_number_is_bounded),
        TEST(at_the_end_all_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
