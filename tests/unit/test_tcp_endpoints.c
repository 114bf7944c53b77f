/* Sockets of streams, against real ones over loopback. What the owner is told stands in `told`, as text;
 * what the tunnel is told shows in its slots. */
#include "run/tcp_endpoints.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/loop.h"
#include "lib/fresh_pool.h"
#include "lib/peer.h"

enum { DIAL_MS = 5000 };

static struct loop loop;
static struct network network;
static struct linger_set linger;
static struct tunnel tunnel;
static struct tcp_endpoints set;
static char told[1024];
static const char *refused; /* permit says no to this host */

static void note(const char *what, int stream)
{
    size_t used = strlen(told);
    snprintf(told + used, sizeof told - used, stream >= 0 ? "%s%s %d" : "%s%s", used > 0 ? " " : "", what,
             stream);
}

static void expect(const char *expected)
{
    assert_string_equal(told, expected);
    told[0] = '\0';
}

static int permit(void *context, const char *host, const struct ip *address, uint16_t port, struct error *err)
{
    (void) context;
    (void) address;
    assert_int_not_equal(port, 0);
    return refused != NULL && strcmp(host, refused) == 0 ? error_set(err, ERROR_DENIED, "not that one") : 0;
}

static void changed(void *context)
{
    (void) context;
}

static void opened(void *context, const struct tcp_endpoint *endpoint)
{
    (void) context;
    note("opened", endpoint->stream);
}

static void closed(void *context, const struct tcp_endpoint *endpoint, const char *why)
{
    (void) context;
    assert_non_null(why);
    note("closed", endpoint->stream);
}

static void probed(void *context, const struct error *failure)
{
    (void) context;
    note(failure == NULL ? "probed" : "probe failed", -1);
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
                &(struct tunnel_config){.role = LANE_AGENT,
                                        .user = fresh_pool(0, FRESH_POOL_BLOCKS),
                                        .memory = fresh_memory(0, TUNNEL_MEMORY_SIZE)},
                0);
    set = (struct tcp_endpoints){.tunnel = &tunnel,
                                 .network = &network,
                                 .linger = &linger,
                                 .dial_timeout_ms = DIAL_MS,
                                 .slots = slots,
                                 .permit = permit,
                                 .changed = changed,
                                 .opened = opened,
                                 .closed = closed,
                                 .probed = probed};
    tcp_endpoints_init(&set);
    told[0] = '\0';
    refused = NULL;
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    tcp_endpoints_close(&set, "the test is over");
    linger_close(&linger);
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    return 0;
}

static uint16_t add_stream(enum streams_state state)
{
    static uint32_t id = 1;
    return streams_add(&tunnel.streams, id += 2, state, 0);
}

static uint16_t open_stream(const char *host, uint16_t port)
{
    uint16_t stream = add_stream(STREAMS_OPENING);
    tcp_endpoints_open(&set, stream, host, port);
    return stream;
}

static enum streams_state state_of(uint16_t stream)
{
    return (enum streams_state) tunnel_stream(&tunnel, stream)->state;
}

static void run_until_not(uint16_t stream, enum streams_state state)
{
    for (int turns = 0; turns < 1000 && state_of(stream) == state; turns++)
        loop_turn(&loop, 10, NULL);
    assert_int_not_equal(state_of(stream), state);
}

static void run_for(int64_t how_long_ms)
{
    for (int64_t until_ms = clock_monotonic_ms() + how_long_ms; clock_monotonic_ms() < until_ms;)
        loop_turn(&loop, 5, NULL);
}

static void echo(int fd, void *context)
{
    char bytes[1000];
    (void) context;
    for (ssize_t n; (n = recv(fd, bytes, sizeof bytes, 0)) > 0;)
        peer_write(fd, bytes, (size_t) n);
}

static void close_at_once(int fd, void *context)
{
    (void) fd;
    (void) context;
}

static struct tunnel_result write_to(uint16_t stream, const char *text)
{
    struct tunnel_result result = {0};
    struct iovec vector = {(void *) (uintptr_t) text, strlen(text)};
    tcp_endpoints_write(&set, stream, &vector, 1, &result);
    return result;
}

static struct tunnel_result read_from(uint16_t stream, char *out, size_t capacity)
{
    struct tunnel_result result = {0};
    tcp_endpoints_read(&set, stream, &(struct iovec){out, capacity}, 1, &result);
    return result;
}

/* A connection that the set has adopted; the other end. */
static int adopt(uint16_t *stream)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *) &name, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *) &name, &len);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &name, len), 0);
    int other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    *stream = add_stream(STREAMS_OPEN);
    assert_int_equal(tcp_endpoints_adopt(&set, *stream, fd, NULL), 0);
    return other;
}

static void reset_now(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

/* ---- streams ---- */

static void a_target_is_dialled_and_bytes_go_both_ways(void **state)
{
    struct peer peer;
    char text[16] = "";
    (void) state;
    peer_open(&peer, "127.0.0.1", 0, echo, NULL);
    uint16_t stream = open_stream("127.0.0.1", peer.port);
    assert_int_equal(state_of(stream), STREAMS_OPENING);
    run_until_not(stream, STREAMS_OPENING);
    assert_int_equal(state_of(stream), STREAMS_OPEN);
    expect("opened 0");
    assert_int_equal(write_to(stream, "hello").n, 5);
    for (int turns = 0; turns < 1000 && !tunnel_stream(&tunnel, stream)->readable; turns++)
        loop_turn(&loop, 10, NULL);
    struct tunnel_result result = read_from(stream, text, sizeof text);
    assert_int_equal(result.n, 5);
    assert_string_equal(text, "hello");
    assert_false(result.ended || result.failed || result.more);
    tcp_endpoints_shut(&set, stream);
    run_for(50);
    result = read_from(stream, text, sizeof text);
    assert_true(result.n == 0 && result.ended && !result.failed);
    tcp_endpoints_end(&set, stream, "both ends are done");
    expect("closed 0");
    peer_close(&peer);
}

static void a_target_that_cannot_be_reached_or_may_not_be_is_said_once(void **state)
{
    (void) state;
    uint16_t a = open_stream("127.0.0.1", peer_unused_port());
    run_until_not(a, STREAMS_OPENING);
    assert_int_equal(state_of(a), STREAMS_GONE);
    expect("closed 0");
    refused = "127.0.0.2";
    uint16_t b = open_stream("127.0.0.2", 80);
    run_until_not(b, STREAMS_OPENING);
    assert_int_equal(state_of(b), STREAMS_GONE);
    expect("closed 1");
    uint16_t c = open_stream("", 80); /* can't even be tried */
    run_until_not(c, STREAMS_OPENING);
    expect("closed 2");
}

static void a_stream_that_is_reset_while_it_is_dialled_is_forgotten(void **state)
{
    (void) state;
    uint16_t stream = open_stream("127.0.0.1", peer_unused_port());
    tcp_endpoints_reset(&set, stream, "the client went away");
    expect("closed 0");
    streams_remove(&tunnel.streams, stream);
    run_for(50);
    expect("");
}

static void a_connection_that_breaks_is_said(void **state)
{
    uint16_t stream;
    char byte;
    (void) state;
    int other = adopt(&stream);
    expect("opened 0");
    reset_now(other);
    run_for(50);
    assert_true(tunnel_stream(&tunnel, stream)->readable);
    struct tunnel_result result = read_from(stream, &byte, 1);
    assert_true(result.failed && result.n == 0);
    expect("closed 0");
}

static void nobody(struct tcp *tcp)
{
    (void) tcp;
}

static void a_connection_of_another_owner_becomes_a_streams(void **state)
{
    int pair[2];
    struct tcp from;
    char got[4] = "";
    (void) state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    assert_int_equal(tcp_adopt(&from, &loop, pair[0], nobody, NULL), 0);
    uint16_t stream = add_stream(STREAMS_OPEN);
    assert_true(peer_write(pair[1], "left", 4));
    run_for(20); /* the first owner was told */
    assert_int_equal(tcp_endpoints_take(&set, stream, &from, NULL), 0);
    assert_int_equal(from.state, TCP_STATE_NONE);
    run_for(20);
    assert_true(tunnel_stream(&tunnel, stream)->readable);
    assert_int_equal(read_from(stream, got, sizeof got).n, 4);
    assert_memory_equal(got, "left", 4);
    expect("opened 0");
    stream = add_stream(STREAMS_OPEN);
    assert_true(tcp_endpoints_take(&set, stream, &from, NULL) < 0); /* it is closed */
    expect("");
    close(pair[1]);
}

/* The fault: a connection that broke between the loop's last look and a write was never mentioned again:
 * what it had not taken was held, and the stream stood still. */
static void a_write_that_finds_the_connection_broken_leads_to_a_read(void **state)
{
    uint16_t stream;
    char byte;
    (void) state;
    int other = adopt(&stream);
    run_for(20);
    reset_now(other);
    usleep(20000); /* the loop does not look meanwhile */
    assert_int_equal(write_to(stream, "data").n, 0);
    assert_true(tunnel_stream(&tunnel, stream)->readable);
    struct tunnel_result result = read_from(stream, &byte, 1);
    assert_true(result.failed);
    expect("opened 0 closed 0");
}

static void a_write_after_the_targets_end_that_finds_it_broken_has_failed(void **state)
{
    uint16_t stream;
    char byte;
    (void) state;
    int other = adopt(&stream);
    shutdown(other, SHUT_WR);
    run_for(20);
    assert_true(read_from(stream, &byte, 1).ended);
    reset_now(other);
    usleep(20000);
    assert_true(write_to(stream, "data").failed);
    expect("opened 0 closed 0");
}

static void what_was_written_arrives_though_the_stream_is_closed(void **state)
{
    uint16_t stream;
    char text[16] = "";
    (void) state;
    int other = adopt(&stream);
    assert_int_equal(send(other, "unread", 6, 0), 6);
    assert_int_equal(write_to(stream, "last").n, 4);
    tcp_endpoints_end(&set, stream, "done");
    assert_int_equal(linger.count, 1);
    assert_int_equal(recv(other, text, sizeof text, 0), 4);
    assert_int_equal(recv(other, text, sizeof text, 0), 0);
    close(other);
    run_for(50);
    assert_int_equal(linger.count, 0);
    expect("opened 0 closed 0");
}

static void closing_the_whole_closes_each_once(void **state)
{
    uint16_t stream;
    (void) state;
    int other = adopt(&stream);
    open_stream("127.0.0.1", peer_unused_port()); /* still dialling */
    expect("opened 0");
    tcp_endpoints_close(&set, "the session ended");
    expect("closed 0 closed 1");
    tcp_endpoints_close(&set, "the session ended");
    run_for(20);
    expect("");
    close(other);
}

/* ---- the probe ---- */

static const char target[] = "127.0.0.1";

static void the_probes_connection_becomes_the_first_streams(void **state)
{
    struct peer peer;
    (void) state;
    peer_open(&peer, "127.0.0.1", 0, echo, NULL);
    assert_int_equal(tcp_endpoints_probe(&set, target, peer.port, DIAL_MS, NULL), 0);
    for (int turns = 0; turns < 1000 && told[0] == '\0'; turns++)
        loop_turn(&loop, 10, NULL);
    expect("probed");
    uint16_t stream = open_stream(target, peer.port);
    assert_int_equal(state_of(stream), STREAMS_OPEN); /* at once */
    uint16_t next = open_stream(target, peer.port);
    assert_int_equal(state_of(next), STREAMS_OPENING); /* one of its own */
    expect("opened 0");
    tcp_endpoints_close(&set, "done");
    run_for(50);
    assert_in_range(peer_wait_accepted(&peer, 1), 1, 2);
    peer_close(&peer);
}

static void a_stream_that_comes_while_the_probe_dials_waits_for_it(void **state)
{
    struct peer peer;
    (void) state;
    peer_open(&peer, "127.0.0.1", 0, echo, NULL);
    assert_int_equal(tcp_endpoints_probe(&set, target, peer.port, DIAL_MS, NULL), 0);
    uint16_t stream = open_stream(target, peer.port);
    run_until_not(stream, STREAMS_OPENING);
    assert_int_equal(state_of(stream), STREAMS_OPEN);
    expect("probed opened 0");
    assert_int_equal(peer_wait_accepted(&peer, 1), 1);
    tcp_endpoints_close(&set, "done");
    run_for(50);
    peer_close(&peer);
    told[0] = '\0';
    uint16_t port = peer_unused_port();
    assert_int_equal(tcp_endpoints_probe(&set, target, port, DIAL_MS, NULL), 0);
    stream = open_stream(target, port);
    run_until_not(stream, STREAMS_OPENING);
    assert_int_equal(state_of(stream), STREAMS_GONE);
    assert_non_null(strstr(told, "probe failed closed"));
}

/* The fault: the slot of a stream that waited for the probe and was reset got the probe's connection all
 * the same, whoever had it by then: another stream, dialling another target. */
static void a_stream_that_waited_for_the_probe_and_is_gone_gets_nothing(void **state)
{
    struct peer peer, other;
    (void) state;
    peer_open(&peer, "127.0.0.1", 0, echo, NULL);
    peer_open(&other, "127.0.0.2", 0, echo, NULL);
    assert_int_equal(tcp_endpoints_probe(&set, target, peer.port, DIAL_MS, NULL), 0);
    uint16_t stream = open_stream(target, peer.port);
    tcp_endpoints_reset(&set, stream, "the client went away");
    streams_remove(&tunnel.streams, stream);
    assert_int_equal(open_stream("127.0.0.2", other.port), stream); /* the same slot */
    run_until_not(stream, STREAMS_OPENING);
    run_for(50);
    assert_int_equal(set.slots[stream].tcp.port, other.port);
    assert_int_equal(peer_wait_accepted(&other, 1), 1);
    assert_int_equal(set.probe.state, TCP_STATE_OPEN); /* for the next one */
    tcp_endpoints_close(&set, "done");
    run_for(50);
    peer_close(&peer);
    peer_close(&other);
}

static void a_probes_connection_that_the_target_has_ended_is_no_streams(void **state)
{
    struct peer peer;
    (void) state;
    peer_open(&peer, "127.0.0.1", 0, close_at_once, NULL);
    assert_int_equal(tcp_endpoints_probe(&set, target, peer.port, DIAL_MS, NULL), 0);
    run_for(100);
    expect("probed");
    uint16_t stream = open_stream(target, peer.port);
    assert_int_equal(state_of(stream), STREAMS_OPENING);
    run_until_not(stream, STREAMS_OPENING);
    assert_int_equal(peer_wait_accepted(&peer, 2), 2);
    tcp_endpoints_close(&set, "done");
    peer_close(&peer);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_target_is_dialled_and_bytes_go_both_ways),
        TEST(a_target_that_cannot_be_reached_or_may_not_be_is_said_once),
        TEST(a_stream_that_is_reset_while_it_is_dialled_is_forgotten),
        TEST(a_connection_that_breaks_is_said),
        TEST(a_connection_of_another_owner_becomes_a_streams),
        TEST(a_write_that_finds_the_connection_broken_leads_to_a_read),
        TEST(a_write_after_the_targets_end_that_finds_it_broken_has_failed),
        TEST(what_was_written_arrives_though_the_stream_is_closed),
        TEST(closing_the_whole_closes_each_once),
        TEST(the_probes_connection_becomes_the_first_streams),
        TEST(a_stream_that_comes_while_the_probe_dials_waits_for_it),
        TEST(a_stream_that_waited_for_the_probe_and_is_gone_gets_nothing),
        TEST(a_probes_connection_that_the_target_has_ended_is_no_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
