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
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/loop.h"
#include "lib/name_server.h"
#include "lib/peer.h"
#include "lib/text_file.h"
#include "net/dial.h"
#include "net/network.h"

static struct loop loop;
static struct network network;

static struct name_server server; /* knows no name */
static char resolv_conf[TEXT_FILE_PATH_SIZE];
static char hosts[TEXT_FILE_PATH_SIZE];

static void serve_no_name(const struct name_server_query *query, struct dns_message *answer, void *context)
{
    (void) query;
    (void) context;
    answer->bytes[3] |= DNS_CODE_NO_NAME;
}

static int setup(void **state)
{
    (void) state;
    if (loop_open(&loop, NULL) != 0 || network_open(&network, &loop, NULL, NULL) != 0)
        return -1;
    name_server_open(&server, "127.0.0.1", 0, serve_no_name, NULL);
    text_file_make(resolv_conf, "nameserver 127.0.0.1\n");
    text_file_make(hosts, "127.0.0.1 one-two.test\n"
                          "127.0.0.2 one-two.test two-three.test two-three-four.test\n"
                          "127.0.0.3 two-three.test two-three-four.test\n"
                          "127.0.0.4 two-three-four.test\n");
    resolver_use_files(&network.resolver, resolv_conf, hosts);
    network.resolver.port = server.port;
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    assert_null(loop.timers); /* nobody forgot one */
    network_close(&network);
    loop_close(&loop);
    name_server_close(&server);
    text_file_remove(resolv_conf);
    text_file_remove(hosts);
    return 0;
}

static bool is_done;

static void note_done(struct dial *dial, void *owner)
{
    (void) dial;
    assert_ptr_equal(owner, &is_done);
    assert_false(is_done);
    is_done = true;
}

/* Runs a dial to its end; the socket or the code. */
static int run_dial(const struct dial_request *request, struct ip *reached, struct error *err)
{
    struct dial *dial;
    is_done = false;
    assert_int_equal(dial_start(&dial, &network, request, note_done, &is_done, NULL), 0);
    assert_false(is_done);
    for (int turns = 0; !is_done && turns < 10000; turns++)
        loop_turn(&loop, 10, NULL);
    assert_true(is_done);
    int result = dial_take(dial, reached, err);
    dial_close(dial);
    return result;
}

static struct dial_request to(const char *host, uint16_t port)
{
    return (struct dial_request){.host = host, .port = port, .deadline_ms = clock_monotonic_ms() + 5000};
}

static void hold_open(int fd, void *context)
{
    (void) context;
    char byte;
    peer_read(fd, &byte, 1);
}

static void the_socket_is_as_promised(void **state)
{
    (void) state;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, hold_open, NULL);
    struct ip reached;
    struct dial_request request = to("127.0.0.1", peer.port);
    int fd = run_dial(&request, &reached, NULL);
    assert_true(fd >= 0);
    assert_int_equal(reached.version, IP_V4);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    char byte;
    assert_int_equal(recv(fd, &byte, 1, 0), -1); /* does not block */
    assert_int_equal(peer_wait_accepted(&peer, 1), 1);
    close(fd);
    peer_close(&peer);
}

static void all_addresses_are_tried_at_once_after_a_refusal(void **state)
{
    (void) state;
    struct peer peer;
    peer_open(&peer, "127.0.0.4", 0, hold_open, NULL);
    struct ip reached;
    struct dial_request request = to("two-three-four.test", peer.port);
    int64_t start_ms = clock_monotonic_ms();
    int fd = run_dial(&request, &reached, NULL);
    assert_true(fd >= 0);
    assert_int_equal(reached.bytes[3], 4);
    assert_true(clock_monotonic_ms() - start_ms < 2 * DIAL_NEXT_ADDRESS_MS); /* two refusals, no waiting */
    close(fd);
    peer_close(&peer);
}

static void a_failure_names_every_address(void **state)
{
    (void) state;
    uint16_t port = peer_unused_port();
    struct error err = ERROR_INIT;
    struct ip reached;
    struct dial_request request = to("one-two.test", port);
    assert_int_equal(run_dial(&request, &reached, &err), ERROR_UNAVAILABLE);
    char expected[256];
    snprintf(expected, sizeof expected,
             "dial one-two.test:%u: 127.0.0.1:%u: Connection refused; 127.0.0.2:%u: Connection refused", port,
             port, port);
    assert_string_equal(err.text, expected);
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
}

static void a_name_without_addresses_is_not_found(void **state)
{
    (void) state;
    struct error err = ERROR_INIT;
    struct ip reached;
    struct dial_request request = to("no-such-name.test", 80);
    assert_int_equal(run_dial(&request, &reached, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.text, "dial no-such-name.test:80: no such name");
}

/* --- an address that is silent: a listener whose queue is full drops what comes ------------------------- */

struct silent {
    int listen_fd;
    int fill_fds[4];
};

static void silent_open(struct silent *silent, const char *address, uint16_t port)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &name.sin_addr);
    silent->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(silent->listen_fd, (struct sockaddr *) &name, sizeof name), 0);
    assert_int_equal(listen(silent->listen_fd, 0), 0);
    for (int i = 0; i < 4; i++) {
        silent->fill_fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int result = connect(silent->fill_fds[i], (struct sockaddr *) &name, sizeof name);
        assert_true(result == 0 || errno == EINPROGRESS);
    }
}

static void silent_close(struct silent *silent)
{
    for (int i = 0; i < 4; i++)
        close(silent->fill_fds[i]);
    close(silent->listen_fd);
}

static void a_silent_address_costs_a_quarter_of_a_second(void **state)
{
    (void) state;
    struct peer peer;
    struct silent silent;
    peer_open(&peer, "127.0.0.3", 0, hold_open, NULL);
    silent_open(&silent, "127.0.0.2", peer.port);
    struct ip reached;
    struct dial_request request = to("two-three.test", peer.port);
    int64_t start_ms = clock_monotonic_ms();
    int fd = run_dial(&request, &reached, NULL);
    assert_true(fd >= 0);
    assert_int_equal(reached.bytes[3], 3);
    assert_in_range(clock_monotonic_ms() - start_ms, DIAL_NEXT_ADDRESS_MS, 4000);
    close(fd);
    silent_close(&silent);
    peer_close(&peer);
}

static void a_deadline_ends_it_and_says_who_was_silent(void **state)
{
    (void) state;
    struct silent silent;
    uint16_t port = peer_unused_port();
    silent_open(&silent, "127.0.0.2", port);
    struct error err = ERROR_INIT;
    struct ip reached;
    struct dial_request request = to("two-three.test", port);
    loop_turn(&loop, 0, NULL);
    request.deadline_ms = loop_now_ms(&loop) + 400;
    assert_int_equal(run_dial(&request, &reached, &err), ERROR_TIMEOUT);
    char expected[128];
    snprintf(expected, sizeof expected, "127.0.0.3:%u: Connection refused; 127.0.0.2:%u: no answer within ",
             port, port);
    assert_non_null(strstr(err.text, expected));
    silent_close(&silent);
}

static void a_name_server_that_is_silent_is_a_time_out_too(void **state)
{
    (void) state;
    struct error err = ERROR_INIT;
    struct ip reached;
    struct dial_request request = to("127.0.0.2", 80);
    loop_turn(&loop, 0, NULL);
    request.deadline_ms = loop_now_ms(&loop) - 1;
    /* The timer comes before the answer is told. */
    assert_int_equal(run_dial(&request, &reached, &err), ERROR_TIMEOUT);
    assert_non_null(strstr(err.text, "dial 127.0.0.2:80: "));
}

/* --- policy --------------------------------------------------------------------------------------------- */

struct policy {
    uint8_t forbidden_last_byte; /* 0 forbids all */
    int asked;
};

static int permit(void *context, const struct ip *address, uint16_t port, struct error *err)
{
    struct policy *policy = context;
    policy->asked++;
    assert_true(port > 0);
    if (policy->forbidden_last_byte == 0 || address->bytes[3] == policy->forbidden_last_byte)
        return error_set(err, ERROR_DENIED, "forbidden by the test");
    return 0;
}

static void a_forbidden_address_is_never_dialled(void **state)
{
    (void) state;
    struct peer forbidden;
    struct peer allowed;
    peer_open(&forbidden, "127.0.0.2", 0, hold_open, NULL);
    peer_open(&allowed, "127.0.0.3", forbidden.port, hold_open, NULL);
    struct policy policy = {.forbidden_last_byte = 2};
    struct ip reached;
    struct dial_request request = to("two-three.test", forbidden.port);
    request.permit = permit;
    request.context = &policy;
    int fd = run_dial(&request, &reached, NULL);
    assert_true(fd >= 0);
    assert_int_equal(reached.bytes[3], 3);
    assert_int_equal(policy.asked, 2);
    assert_int_equal(peer_wait_accepted(&allowed, 1), 1);
    assert_int_equal(atomic_load(&forbidden.accepted), 0);
    close(fd);
    peer_close(&forbidden);
    peer_close(&allowed);
}

static void nothing_but_forbidden_addresses_is_denied(void **state)
{
    (void) state;
    struct policy policy = {0};
    struct error err = ERROR_INIT;
    struct ip reached;
    struct dial_request request = to("two-three.test", 9);
    request.permit = permit;
    request.context = &policy;
    assert_int_equal(run_dial(&request, &reached, &err), ERROR_DENIED);
    assert_string_equal(err.text, "dial two-three.test:9: 127.0.0.2:9: forbidden by the test; "
                                  "127.0.0.3:9: forbidden by the test");
}

static void closing_at_any_time_leaves_nothing_behind(void **state)
{
    (void) state;
    struct silent silent;
    uint16_t port = peer_unused_port();
    silent_open(&silent, "127.0.0.2", port);
    struct dial_request request = to("two-three.test", port);
    for (int turns = 0; turns < 5; turns++) {
        struct dial *dial;
        is_done = false;
        assert_int_equal(dial_start(&dial, &network, &request, note_done, &is_done, NULL), 0);
        for (int i = 0; i < turns; i++)
            loop_turn(&loop, 1, NULL);
        dial_close(dial);
        assert_null(loop.timers);
        loop_turn(&loop, 0, NULL);
        assert_false(is_done);
    }
    dial_close(NULL);
    silent_close(&silent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_socket_is_as_promised, setup, teardown),
        cmocka_unit_test_setup_teardown(all_addresses_are_tried_at_once_after_a_refusal, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_names_every_address, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_without_addresses_is_not_found, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_address_costs_a_quarter_of_a_second, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deadline_ends_it_and_says_who_was_silent, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_server_that_is_silent_is_a_time_out_too, setup, teardown),
        cmocka_unit_test_setup_teardown(a_forbidden_address_is_never_dialled, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_but_forbidden_addresses_is_denied, setup, teardown),
        cmocka_unit_test_setup_teardown(closing_at_any_time_leaves_nothing_behind, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
