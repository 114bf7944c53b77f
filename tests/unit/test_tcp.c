#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/loop.h"
#include "lib/peer.h"
#include "net/network.h"
#include "net/tcp.h"

static struct loop loop;
static struct network network;

static int setup(void **state)
{
    (void) state;
    return loop_open(&loop, NULL) != 0 || network_open(&network, &loop, NULL, NULL) != 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void) state;
    network_close(&network);
    loop_close(&loop);
    return 0;
}

static int calls;

static void count_call(struct tcp *tcp)
{
    (void) tcp;
    calls++;
}

/* A connection to ourselves; the far end blocks. */
static int open_pair(struct tcp *tcp)
{
    int listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof name;
    assert_int_equal(bind(listen_fd, (struct sockaddr *) &name, len), 0);
    assert_int_equal(listen(listen_fd, 1), 0);
    getsockname(listen_fd, (struct sockaddr *) &name, &len);
    int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(far, (struct sockaddr *) &name, len), 0);
    int near = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(near >= 0);
    close(listen_fd);
    assert_int_equal(tcp_adopt(tcp, &loop, near, count_call, NULL), 0);
    assert_int_equal(tcp->state, TCP_STATE_OPEN);
    loop_turn(&loop, 0, NULL);
    calls = 0;
    return far;
}

static void wait_for_call(void)
{
    for (int turns = 0; calls == 0 && turns < 200; turns++)
        loop_turn(&loop, 10, NULL);
    assert_true(calls > 0);
    calls = 0;
}

static void bytes_go_both_ways_in_the_callers_memory(void **state)
{
    (void) state;
    struct tcp tcp;
    int far = open_pair(&tcp);
    char got[16] = "";
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 0);
    assert_true(peer_write(far, "hello", 5));
    wait_for_call();
    assert_int_equal(tcp_read(&tcp, got, 3), 3);
    assert_true(tcp.readable); /* there may be more, and no event will say so */
    assert_int_equal(tcp_read(&tcp, got + 3, 3), 2);
    assert_memory_equal(got, "hello", 5);
    assert_false(tcp.readable);
    assert_int_equal(tcp_write(&tcp, "world", 5), 5);
    assert_int_equal(peer_read(far, got, 5), 5);
    assert_memory_equal(got, "world", 5);
    assert_int_equal(tcp_error(&tcp, NULL), 0);
    tcp_close(&tcp);
    tcp_close(&tcp);
    close(far);
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

static void the_socket_is_as_promised(void **state)
{
    (void) state;
    struct tcp tcp;
    int far = open_pair(&tcp);
    assert_int_equal(option(tcp.watch.fd, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option(tcp.watch.fd, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(option(tcp.watch.fd, IPPROTO_TCP, TCP_KEEPIDLE), 60);
    tcp_close(&tcp);
    close(far);
}

static void the_owner_is_not_called_for_what_it_knows(void **state)
{
    (void) state;
    struct tcp tcp;
    int far = open_pair(&tcp);
    assert_true(peer_write(far, "a", 1));
    wait_for_call();
    for (int i = 0; i < 5; i++) {
        assert_true(peer_write(far, "b", 1));
        loop_turn(&loop, 5, NULL);
    }
    assert_int_equal(calls, 0);
    char got[16];
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 6);
    tcp_close(&tcp);
    close(far);
}

static void a_full_socket_says_when_there_is_room(void **state)
{
    (void) state;
    static char bytes[65536];
    struct tcp tcp;
    int far = open_pair(&tcp);
    size_t written = 0;
    size_t now;
    while ((now = tcp_write(&tcp, bytes, sizeof bytes)) > 0)
        written += now;
    assert_true(written > sizeof bytes);
    assert_false(tcp.writable);
    loop_turn(&loop, 10, NULL);
    assert_int_equal(calls, 0);
    static char sink[1 << 20];
    size_t drained = 0;
    while (drained < written) {
        size_t part = written - drained < sizeof sink ? written - drained : sizeof sink;
        drained += peer_read(far, sink, part);
    }
    wait_for_call();
    assert_int_equal(tcp_write(&tcp, bytes, 10), 10);
    tcp_close(&tcp);
    close(far);
}

/* qemu-user hands TCP_INFO through as a number. */
static bool has_tcp_info(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && len > sizeof(int);
}

static void knows_what_is_still_on_its_way(void **state)
{
    (void) state;
    static char bytes[65536];
    struct tcp tcp;
    int far = open_pair(&tcp);
    size_t written = 0, now;
    uint64_t before, after;
    if (!has_tcp_info(far)) {
        tcp_close(&tcp);
        close(far);
        skip();
    }
    while ((now = tcp_write(&tcp, bytes, sizeof bytes)) > 0)
        written += now;
    tcp_end_write(&tcp);
    assert_true(tcp_is_delivering(&tcp, &before));
    assert_true(before < written);
    while (written > 0)
        written -= peer_read(far, bytes, written < sizeof bytes ? written : sizeof bytes);
    assert_int_equal(peer_read(far, bytes, 1), 0); /* the end */
    for (int tries = 0; tries < 100 && tcp_is_delivering(&tcp, &after); tries++)
        loop_turn(&loop, 10, NULL);
    assert_false(tcp_is_delivering(&tcp, &after));
    assert_true(after > before);
    tcp_close(&tcp);
    close(far);
}

static void each_half_ends_by_itself(void **state)
{
    (void) state;
    struct tcp tcp;
    char got[16];
    int far = open_pair(&tcp);
    assert_true(peer_write(far, "last words", 10));
    shutdown(far, SHUT_WR);
    wait_for_call();
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 10);
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 0); /* the end was right behind: no event needed */
    assert_true(tcp.read_ended);
    assert_int_equal(tcp.state, TCP_STATE_OPEN);
    assert_int_equal(tcp_write(&tcp, "answer", 6), 6);
    tcp_end_write(&tcp);
    assert_int_equal(tcp.state, TCP_STATE_ENDED);
    assert_int_equal(tcp_write(&tcp, "more", 4), 0);
    assert_int_equal(peer_read(far, got, sizeof got), 6);
    tcp_close(&tcp);
    close(far);

    far = open_pair(&tcp);
    tcp_end_write(&tcp);
    tcp_end_write(&tcp);
    assert_int_equal(peer_read(far, got, sizeof got), 0);
    assert_true(peer_write(far, "late", 4));
    close(far);
    wait_for_call();
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 4);
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 0);
    assert_int_equal(tcp.state, TCP_STATE_ENDED);
    tcp_close(&tcp);
}

static void reset_peer(int far)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(far, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(far);
}

static void a_reset_is_a_failure(void **state)
{
    (void) state;
    struct tcp tcp;
    char got[16];
    struct error err = ERROR_INIT;
    int far = open_pair(&tcp);
    reset_peer(far);
    wait_for_call();
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 0);
    assert_int_equal(tcp.state, TCP_STATE_FAILED);
    assert_int_equal(tcp_error(&tcp, &err), ERROR_UNAVAILABLE);
    assert_string_equal(err.text, "Connection reset by peer");
    tcp_close(&tcp);
}

static void what_was_said_before_a_broken_write_can_be_read(void **state)
{
    (void) state;
    struct tcp tcp;
    char got[16];
    int far = open_pair(&tcp);
    assert_true(peer_write(far, "the reason", 10));
    reset_peer(far);
    usleep(10000);
    /* Not told yet: the owner writes first, and finds out. */
    assert_int_equal(tcp_write(&tcp, "x", 1), 0);
    assert_true(tcp.write_ended);
    assert_int_equal(tcp.state, TCP_STATE_OPEN);
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 10);
    assert_int_equal(tcp_read(&tcp, got, sizeof got), 0);
    assert_int_equal(tcp.state,
                     TCP_STATE_FAILED); /* not a proper end, although the kernel tells the reason once */
    tcp_close(&tcp);
}

static void a_reset_of_ours_is_seen_as_one(void **state)
{
    (void) state;
    struct tcp tcp;
    int far = open_pair(&tcp);
    tcp_reset(&tcp);
    char byte;
    assert_int_equal(recv(far, &byte, 1, 0), -1);
    assert_int_equal(errno, ECONNRESET);
    close(far);
}

static void a_dial_that_fails_tells_why(void **state)
{
    (void) state;
    struct tcp tcp;
    struct error err = ERROR_INIT;
    uint16_t port = peer_unused_port();
    struct dial_request request = {
        .host = "127.0.0.1", .port = port, .deadline_ms = clock_monotonic_ms() + 2000};
    calls = 0;
    assert_int_equal(tcp_dial(&tcp, &network, &request, count_call, NULL), 0);
    assert_int_equal(tcp.state, TCP_STATE_DIALLING);
    wait_for_call();
    assert_int_equal(tcp.state, TCP_STATE_FAILED);
    assert_int_equal(tcp_error(&tcp, &err), ERROR_UNAVAILABLE);
    char expected[128];
    snprintf(expected, sizeof expected, "dial 127.0.0.1:%u: Connection refused", port);
    assert_string_equal(err.text, expected);
    tcp_close(&tcp);
}

static void greet(int fd, void *context)
{
    (void) context;
    peer_write(fd, "hi", 2);
    char byte;
    peer_read(fd, &byte, 1);
}

static void a_dial_that_succeeds_is_open(void **state)
{
    (void) state;
    struct tcp tcp;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, greet, NULL);
    struct dial_request request = {
        .host = "127.0.0.1", .port = peer.port, .deadline_ms = clock_monotonic_ms() + 2000};
    calls = 0;
    assert_int_equal(tcp_dial(&tcp, &network, &request, count_call, NULL), 0);
    wait_for_call();
    assert_int_equal(tcp.state, TCP_STATE_OPEN);
    assert_int_equal(tcp.peer.bytes[0], 127);
    assert_int_equal(tcp.port, peer.port);
    char got[4];
    size_t len;
    while ((len = tcp_read(&tcp, got, sizeof got)) == 0)
        wait_for_call();
    assert_int_equal(len, 2);
    tcp_close(&tcp);
    peer_close(&peer);

    assert_int_equal(tcp_dial(&tcp, &network, &request, count_call, NULL), 0);
    tcp_close(&tcp); /* while dialling */
    calls = 0;
    loop_turn(&loop, 10, NULL);
    assert_int_equal(calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_go_both_ways_in_the_callers_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(the_socket_is_as_promised, setup, teardown),
        cmocka_unit_test_setup_teardown(the_owner_is_not_called_for_what_it_knows, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_socket_says_when_there_is_room, setup, teardown),
        cmocka_unit_test_setup_teardown(knows_what_is_still_on_its_way, setup, teardown),
        cmocka_unit_test_setup_teardown(each_half_ends_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_is_a_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_said_before_a_broken_write_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_of_ours_is_seen_as_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dial_that_fails_tells_why, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dial_that_succeeds_is_open, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
