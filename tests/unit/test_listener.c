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
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/listener.h"

static struct loop loop;
static struct listener listener;
static int accepted[64];
static int accepted_count;
static int close_after; /* connections, then the listener is closed in the callback; 0 is never */

static const struct ip loopback = {.version = IP_V4, .bytes = {127, 0, 0, 1}};
static const struct ip loopback_6 = {.version = IP_V6, .bytes = {[15] = 1}};

static void take(struct listener *from, int fd)
{
    assert_ptr_equal(from, &listener);
    assert_true(accepted_count < 64);
    accepted[accepted_count++] = fd;
    if (accepted_count == close_after)
        listener_close(from);
}

static int setup(void **state)
{
    (void) state;
    accepted_count = 0;
    close_after = 0;
    return loop_open(&loop, NULL);
}

static int teardown(void **state)
{
    (void) state;
    listener_close(&listener);
    listener_close(&listener);
    for (int i = 0; i < accepted_count; i++)
        close(accepted[i]);
    assert_null(loop.timers);
    loop_close(&loop);
    return 0;
}

static void open_on(struct ip address)
{
    struct error err = ERROR_INIT;
    if (listener_open(&listener, &loop, address, 0, take, &err) != 0)
        fail_msg("%s", err.text);
    assert_true(listener.port > 0);
}

static int try_to_connect(int family, uint16_t port)
{
    struct sockaddr_in v4 = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_in6 v6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    int result = family == AF_INET ? connect(fd, (struct sockaddr *) &v4, sizeof v4)
                                   : connect(fd, (struct sockaddr *) &v6, sizeof v6);
    if (result == 0)
        return fd;
    int reason = errno;
    close(fd);
    return -reason;
}

static void turn_until(int count)
{
    for (int turns = 0; accepted_count < count && turns < 300; turns++)
        loop_turn(&loop, 10, NULL);
    assert_int_equal(accepted_count, count);
}

static void connections_come_as_non_blocking_descriptors(void **state)
{
    (void) state;
    open_on(loopback);
    int client = try_to_connect(AF_INET, listener.port);
    assert_true(client >= 0);
    turn_until(1);
    char byte;
    assert_int_equal(recv(accepted[0], &byte, 1, 0), -1);
    assert_int_equal(errno, EAGAIN);
    assert_int_equal(fcntl(accepted[0], F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(listener.watch.fd, F_GETFD), FD_CLOEXEC);
    close(client);
}

static bool has_ipv6(void)
{
    int fd = try_to_connect(AF_INET6, 1); /* nothing listens there: refused where there is IPv6 */
    if (fd >= 0)
        close(fd);
    return fd >= 0 || fd == -ECONNREFUSED;
}

static void ipv6_is_served_and_the_unspecified_address_takes_both(void **state)
{
    (void) state;
    if (!has_ipv6())
        skip();
    open_on(loopback_6);
    int client = try_to_connect(AF_INET6, listener.port);
    assert_true(client >= 0);
    turn_until(1);
    close(client);
    listener_close(&listener);

    open_on((struct ip){.version = IP_V6});
    int both[2] = {try_to_connect(AF_INET6, listener.port), try_to_connect(AF_INET, listener.port)};
    assert_true(both[0] >= 0);
    assert_true(both[1] >= 0);
    turn_until(3);
    close(both[0]);
    close(both[1]);
}

static void a_port_that_is_taken_is_named(void **state)
{
    (void) state;
    struct listener second;
    struct error err = ERROR_INIT;
    char expected[128];
    open_on(loopback);
    assert_int_equal(listener_open(&second, &loop, loopback, listener.port, take, &err), ERROR_SYSTEM);
    snprintf(expected, sizeof expected, "can't listen on 127.0.0.1:%u: %s", listener.port,
             strerror(EADDRINUSE));
    assert_string_equal(err.text, expected);
    listener_close(&second);
}

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void nothing_is_left_open_when_the_loop_refuses_it(void **state)
{
    (void) state;
    struct loop broken = {.epoll_fd = -1};
    struct error err = ERROR_INIT;
    int before = open_descriptors();
    assert_int_equal(listener_open(&listener, &broken, loopback, 0, take, &err), ERROR_SYSTEM);
    assert_non_null(strstr(err.text, "can't listen on 127.0.0.1:0: epoll_ctl"));
    assert_int_equal(open_descriptors(), before);
}

static void connections_wait_while_it_does_not_accept(void **state)
{
    (void) state;
    open_on(loopback);
    listener_accept(&listener, false);
    int client = try_to_connect(AF_INET, listener.port);
    assert_true(client >= 0); /* the kernel takes it */
    for (int turns = 0; turns < 5; turns++)
        loop_turn(&loop, 5, NULL);
    assert_int_equal(accepted_count, 0);
    listener_accept(&listener, true);
    turn_until(1);
    close(client);
}

static void a_turn_accepts_a_bounded_number(void **state)
{
    (void) state;
    enum { CLIENTS = LISTENER_ACCEPTS_A_TURN + 5 };
    int clients[CLIENTS];
    open_on(loopback);
    for (int i = 0; i < CLIENTS; i++)
        assert_true((clients[i] = try_to_connect(AF_INET, listener.port)) >= 0);
    loop_turn(&loop, 100, NULL);
    assert_int_equal(accepted_count, LISTENER_ACCEPTS_A_TURN);
    turn_until(CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        close(clients[i]);
}

static void it_may_be_closed_in_the_callback(void **state)
{
    (void) state;
    open_on(loopback);
    close_after = 1;
    int clients[2] = {try_to_connect(AF_INET, listener.port), try_to_connect(AF_INET, listener.port)};
    turn_until(1);
    loop_turn(&loop, 10, NULL);
    assert_int_equal(accepted_count, 1);
    close(clients[0]);
    close(clients[1]);
}

static void it_pauses_while_there_are_no_descriptors(void **state)
{
    (void) state;
    struct rlimit before;
    open_on(loopback);
    int client = try_to_connect(AF_INET, listener.port);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    int turns = 0;
    for (int64_t end_ms = clock_monotonic_ms() + 2 * LISTENER_PAUSE_MS; clock_monotonic_ms() < end_ms;
         turns++)
        loop_turn(&loop, 50, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_true(turns <
                50); /* it slept: a port that is readable all the time would have turned the loop at once */
    turn_until(1);
    close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(connections_come_as_non_blocking_descriptors, setup, teardown),
        cmocka_unit_test_setup_teardown(ipv6_is_served_and_the_unspecified_address_takes_both, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_port_that_is_taken_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_left_open_when_the_loop_refuses_it, setup, teardown),
        cmocka_unit_test_setup_teardown(connections_wait_while_it_does_not_accept, setup, teardown),
        cmocka_unit_test_setup_teardown(a_turn_accepts_a_bounded_number, setup, teardown),
        cmocka_unit_test_setup_teardown(it_may_be_closed_in_the_callback, setup, teardown),
        cmocka_unit_test_setup_teardown(it_pauses_while_there_are_no_descriptors, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
