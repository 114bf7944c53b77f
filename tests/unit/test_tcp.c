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
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
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
    assert_null(loop.timers);
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

static void bytes_can_be_looked_at_and_left(void **state)
{
    (void) state;
    struct tcp tcp, other;
    int far = open_pair(&tcp);
    char got[16] = "";
    assert_int_equal(tcp_peek(&tcp, got, sizeof got), 0);
    assert_true(peer_write(far, "hello", 5));
    wait_for_call();
    assert_int_equal(tcp_peek(&tcp, got, sizeof got), 5);
    assert_int_equal(tcp_peek(&tcp, got, 2), 2);
    assert_memory_equal(got, "he", 2);
    assert_int_equal(tcp_read(&tcp, got, 3), 3);
    assert_int_equal(tcp_peek(&tcp, got, sizeof got), 2);
    assert_memory_equal(got, "lo", 2);
    assert_int_equal(tcp_move(&other, &tcp, count_call, NULL), 0);
    wait_for_call(); /* the new owner hears of what was left */
    assert_int_equal(tcp_read(&other, got, sizeof got), 2);
    assert_memory_equal(got, "lo", 2);
    assert_int_equal(tcp_peek(&other, got, sizeof got), 0);
    shutdown(far, SHUT_WR);
    wait_for_call();
    assert_int_equal(tcp_peek(&other, got, sizeof got), 0);
    assert_true(other.read_ended);
    tcp_close(&other);
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

/* qemu-user hands TCP_INFO through as a number. */
static bool has_tcp_info(int fd)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && len > sizeof(int);
}

static void pieces_go_in_one_call_each_way(void **state)
{
    (void) state;
    struct tcp tcp;
    int far = open_pair(&tcp);
    char a[] = "one ", b[] = "two ", c[] = "three", got[32] = "", first[4], second[16];
    struct iovec out[] = {{a, 4}, {NULL, 0}, {b, 4}, {c, 5}};
    assert_int_equal(tcp_write_vector(&tcp, out, 4), 13);
    assert_true(tcp.writable);
    assert_int_equal(peer_read(far, got, 13), 13);
    assert_string_equal(got, "one two three");
    assert_true(peer_write(far, "four five", 9));
    wait_for_call();
    struct iovec in[] = {{first, sizeof first}, {second, sizeof second}};
    assert_int_equal(tcp_read_vector(&tcp, in, 2), 9);
    assert_memory_equal(first, "four", 4);
    assert_memory_equal(second, " five", 5);
    assert_false(tcp.readable);
    assert_int_equal(tcp_read_vector(&tcp, in, 2), 0);
    assert_int_equal(tcp_write_vector(&tcp, out, 0), 0);
    /* More pieces than one call takes: the caller comes again. */
    struct iovec many[TCP_PIECES_MAX + 6];
    for (size_t i = 0; i < TCP_PIECES_MAX + 6; i++)
        many[i] = (struct iovec){a, 1};
    assert_int_equal(tcp_write_vector(&tcp, many, TCP_PIECES_MAX + 6), TCP_PIECES_MAX);
    assert_true(tcp.writable);
    tcp_close(&tcp);
    close(far);
}

/* What a target that reads nothing may take of the kernel's memory. */
static void what_is_not_sent_is_bounded(void **state)
{
    (void) state;
    static char bytes[65536];
    struct tcp tcp;
    int far = open_pair(&tcp);
    struct tcp_info info;
    socklen_t len = sizeof info;
    if (!has_tcp_info(far)) {
        tcp_close(&tcp);
        close(far);
        skip();
    }
    for (int turns = 0; turns < 20; turns++) {
        while (tcp_write(&tcp, bytes, sizeof bytes) > 0)
            ;
        loop_turn(&loop, 5, NULL);
    }
    assert_int_equal(getsockopt(tcp.watch.fd, IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    assert_in_range(info.tcpi_notsent_bytes, 1,
                    TCP_UNSENT_MAX + 64 * 1024); /* one segment more, as the kernel has it */
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

static void a_connection_can_be_given_away(void **state)
{
    (void) state;
    struct tcp tcp, other;
    char byte;
    int far = open_pair(&tcp);
    tcp.port = 5439;
    assert_int_equal(tcp_write(&tcp, "a", 1), 1);
    assert_int_equal(tcp_move(&other, &tcp, count_call, NULL), 0);
    assert_null(loop.timers); /* nothing of it is left in the loop */
    memset(&tcp, 0xee, sizeof tcp);
    loop_turn(&loop, 10, NULL);
    assert_int_equal(other.port, 5439);
    assert_int_equal(tcp_write(&other, "b", 1), 1);
    assert_int_equal(peer_read(far, &byte, 1), 1);
    assert_int_equal(peer_read(far, &byte, 1), 1);
    assert_int_equal(byte, 'b');
    tcp_close(&other);
    assert_true(tcp_move(&tcp, &other, count_call, NULL) < 0);
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

/* --- a host that vanishes ------------------------------------------------------------------------------- */

/*
 * Each case is a process in a network of its own, whose loopback interface goes down: to both ends the other
 * one's host has vanished. It leaves with 0, or with the line that was not as it should be.
 */

enum { NO_NAMESPACE = 1, SILENCE_MS = 400 };

#define REQUIRE(condition)                                                                                   \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            return __LINE__;                                                                                 \
    } while (0)

static bool set_loopback(bool up)
{
    struct ifreq request = {.ifr_name = "lo"};
    request.ifr_flags = up ? IFF_UP : 0;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_set = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    close(fd);
    return is_set;
}

/* Runs the loop until the connection fails, for so long at most; how long it took. */
static int64_t run_loop(const struct tcp *tcp, int64_t limit_ms)
{
    int64_t start_ms = clock_monotonic_ms();
    while (tcp->state != TCP_STATE_FAILED && clock_monotonic_ms() - start_ms < limit_ms)
        loop_turn(&loop, 10, NULL);
    return clock_monotonic_ms() - start_ms;
}

static void fill(struct tcp *tcp)
{
    static char bytes[65536];
    for (int turns = 0; turns < 20; turns++) {
        while (tcp_write(tcp, bytes, sizeof bytes) > 0)
            ;
        loop_turn(&loop, 5, NULL);
    }
}

static int unacknowledged_data(void)
{
    struct tcp tcp;
    struct error err = ERROR_INIT;
    open_pair(&tcp);
    tcp.silence_ms = SILENCE_MS;
    REQUIRE(tcp_write(&tcp, "a", 1) == 1);
    REQUIRE(run_loop(&tcp, 2 * SILENCE_MS) >=
            2 * SILENCE_MS); /* it was acknowledged: nobody minds the silence */
    REQUIRE(set_loopback(false));
    REQUIRE(tcp_write(&tcp, "b", 1) == 1);
    int64_t took_ms = run_loop(&tcp, 10 * SILENCE_MS);
    REQUIRE(tcp.state == TCP_STATE_FAILED);
    REQUIRE(took_ms >= SILENCE_MS / 8 && took_ms < 5 * SILENCE_MS);
    REQUIRE(calls > 0);
    REQUIRE(tcp_error(&tcp, &err) == ERROR_UNAVAILABLE);
    REQUIRE(strcmp(err.text, "the peer's host has not answered for two minutes") == 0);
    tcp_close(&tcp);
    return loop.timers == NULL ? 0 : __LINE__;
}

static int unacknowledged_end(void)
{
    struct tcp tcp;
    open_pair(&tcp);
    tcp.silence_ms = SILENCE_MS;
    REQUIRE(set_loopback(false));
    tcp_end_write(&tcp);
    run_loop(&tcp, 10 * SILENCE_MS);
    REQUIRE(tcp.state == TCP_STATE_FAILED);
    return 0;
}

/* A target that reads nothing for a long time is alive, and stays connected; the pauses between the kernel's
 * probes become longer than SILENCE_MS meanwhile. */
static int closed_window(void)
{
    struct tcp tcp;
    static char sink[1 << 20];
    int far = open_pair(&tcp);
    tcp.silence_ms = SILENCE_MS;
    fill(&tcp);
    REQUIRE(!tcp.writable);
    run_loop(&tcp, 8 * SILENCE_MS);
    REQUIRE(tcp.state == TCP_STATE_OPEN && tcp.silence.due_ms != CLOCK_NEVER);
    calls = 0;
    while (recv(far, sink, sizeof sink, MSG_DONTWAIT) > 0)
        loop_turn(&loop, 10, NULL);
    run_loop(&tcp, SILENCE_MS);
    REQUIRE(calls > 0 && tcp.writable && tcp_write(&tcp, "more", 4) == 4);
    return 0;
}

static int closed_window_of_a_host_that_vanishes(void)
{
    struct tcp tcp;
    open_pair(&tcp);
    tcp.silence_ms = SILENCE_MS;
    fill(&tcp);
    REQUIRE(tcp.state == TCP_STATE_OPEN);
    REQUIRE(set_loopback(false));
    run_loop(&tcp, 10 * SILENCE_MS);
    REQUIRE(tcp.state == TCP_STATE_FAILED);
    return 0;
}

static pid_t start_in_namespace(int (*body)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    if ((unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) || !set_loopback(true))
        _exit(NO_NAMESPACE);
    /* An epoll instance that was inherited is shared, with the events of the other cases. */
    int line = loop_open(&loop, NULL) == 0 ? body() : __LINE__;
    if (line != 0)
        fprintf(stderr, "test_tcp.c:%d is not so\n", line);
    _exit(line != 0 ? 2 : 0);
}

static void a_host_that_vanishes_is_noticed_and_one_that_only_does_not_read_is_not_cut_off(void **state)
{
    (void) state;
    static int (*const cases[])(void) = {unacknowledged_data, unacknowledged_end, closed_window,
                                         closed_window_of_a_host_that_vanishes};
    enum { CASES = sizeof cases / sizeof cases[0] };
    struct tcp tcp;
    int far = open_pair(&tcp);
    bool is_emulated = !has_tcp_info(far);
    tcp_close(&tcp);
    close(far);
    if (is_emulated)
        skip();
    pid_t pids[CASES];
    int failed = 0, refused = 0;
    for (size_t i = 0; i < CASES; i++)
        pids[i] = start_in_namespace(cases[i]);
    for (size_t i = 0; i < CASES; i++) {
        int status = 0;
        assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
        refused += WIFEXITED(status) && WEXITSTATUS(status) == NO_NAMESPACE;
        failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    }
    if (refused == CASES)
        skip(); /* it takes the right to make a network */
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_go_both_ways_in_the_callers_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(the_socket_is_as_promised, setup, teardown),
        cmocka_unit_test_setup_teardown(the_owner_is_not_called_for_what_it_knows, setup, teardown),
        cmocka_unit_test_setup_teardown(pieces_go_in_one_call_each_way, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_not_sent_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(a_full_socket_says_when_there_is_room, setup, teardown),
        cmocka_unit_test_setup_teardown(knows_what_is_still_on_its_way, setup, teardown),
        cmocka_unit_test_setup_teardown(each_half_ends_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_is_a_failure, setup, teardown),
        cmocka_unit_test_setup_teardown(what_was_said_before_a_broken_write_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reset_of_ours_is_seen_as_one, setup, teardown),
        cmocka_unit_test_setup_teardown(bytes_can_be_looked_at_and_left, setup, teardown),
        cmocka_unit_test_setup_teardown(a_connection_can_be_given_away, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dial_that_fails_tells_why, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dial_that_succeeds_is_open, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_host_that_vanishes_is_noticed_and_one_that_only_does_not_read_is_not_cut_off, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
