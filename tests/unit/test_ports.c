#include "client/ports.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct loop loop;
static struct client_ports ports;
static struct local_forward forwards[2];
static bool takes; /* what connect answers */
static int taken[8];
static size_t taken_count, waited;
static size_t taken_forward;

static bool connect_port(struct client_ports *which, size_t forward, int fd)
{
    assert_ptr_equal(which, &ports);
    if (!takes)
        return false;
    taken_forward = forward;
    taken[taken_count++] = fd;
    return true;
}

static bool ask(struct client_ports *which, struct client_socks *c)
{
    (void) which;
    (void) c;
    return false;
}

static void waits(struct client_ports *which, size_t forward)
{
    (void) which;
    (void) forward;
    waited++;
}

static int setup(void **state)
{
    (void) state;
    memset(&ports, 0, sizeof ports);
    ports.connect = connect_port;
    ports.ask = ask;
    ports.waits = waits;
    taken_count = waited = 0;
    takes = true;
    return loop_open(&loop, NULL);
}

static int teardown(void **state)
{
    (void) state;
    client_ports_close(&ports);
    while (taken_count > 0)
        close(taken[--taken_count]);
    loop_close(&loop);
    return 0;
}

static void open_all(const char *first, const char *second)
{
    struct error err = ERROR_INIT;
    assert_int_equal(local_forward_parse_port(&forwards[0], str_from(first), NULL), 0);
    assert_int_equal(local_forward_parse_port(&forwards[1], str_from(second), NULL), 0);
    if (client_ports_open(&ports, &loop, forwards, 2, &err) != 0)
        fail_msg("%s", err.text);
}

static int dial(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &to, sizeof to), 0);
    return fd;
}

static void turns(void)
{
    for (int i = 0; i < 10; i++)
        assert_int_equal(loop_turn(&loop, 5, NULL), 0);
}

static void nothing_is_accepted_before_it_is_ready(void **state)
{
    (void) state;
    open_all("0:db:1", "0:db:2");
    assert_true(forwards[0].port > 0 && forwards[1].port > 0 && forwards[0].port != forwards[1].port);
    int fd = dial(forwards[1].port);
    turns();
    assert_int_equal(taken_count, 0);
    client_ports_accept(&ports);
    turns();
    assert_int_equal(taken_count, 1);
    assert_int_equal(taken_forward, 1);
    close(fd);
}

static void what_waits_is_offered_again_in_order_or_refused(void **state)
{
    (void) state;
    open_all("0:db:1", "0:db:2");
    client_ports_accept(&ports);
    takes = false;
    int first = dial(forwards[0].port);
    turns();
    int second = dial(forwards[1].port);
    turns();
    assert_int_equal(waited, 2);
    assert_true(client_ports_is_waiting(&ports));
    client_ports_serve(&ports);
    assert_int_equal(taken_count, 0);
    takes = true;
    client_ports_serve(&ports);
    assert_int_equal(taken_count, 2);
    assert_int_equal(taken_forward, 1);
    assert_false(client_ports_is_waiting(&ports));
    takes = false;
    int third = dial(forwards[0].port);
    turns();
    client_ports_refuse(&ports, "no session");
    assert_false(client_ports_is_waiting(&ports));
    assert_int_equal(recv(third, &(char){0}, 1, 0), -1); /* a reset, not a proper end */
    close(first);
    close(second);
    close(third);
}

static void a_taken_port_is_named_and_nothing_stays_open(void **state)
{
    (void) state;
    struct error err = ERROR_INIT;
    char text[32];
    open_all("0:db:1", "0:db:2");
    static struct client_ports others;
    static struct local_forward theirs[2];
    snprintf(text, sizeof text, "%u:db:2", forwards[1].port);
    assert_int_equal(local_forward_parse_port(&theirs[0], STR_LITERAL("0:db:1"), NULL), 0);
    assert_int_equal(local_forward_parse_port(&theirs[1], str_from(text), NULL), 0);
    others = (struct client_ports){.connect = connect_port, .ask = ask, .waits = waits};
    assert_int_equal(client_ports_open(&others, &loop, theirs, 2, &err), ERROR_SYSTEM);
    snprintf(text, sizeof text, "127.0.0.1:%u: ", forwards[1].port);
    assert_non_null(strstr(err.text, text));
    assert_int_equal(others.count, 0);
}

/* Only our user may connect; what somebody left there is replaced, what somebody serves is not. */
static void unix_sockets(void **state)
{
    (void) state;
    struct error err = ERROR_INIT;
    struct stat info;
    char dir[] = "/tmp/ports-XXXXXX";
    char path[64];
    char text[96];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/s", dir);
    snprintf(text, sizeof text, "%s:db:1", path);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    memcpy(name.sun_path, path, strlen(path));
    int stale = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(stale, (struct sockaddr *) &name, sizeof name), 0);
    close(stale);
    open_all(text, "0:db:2");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    static struct client_ports others;
    static struct local_forward theirs;
    assert_int_equal(local_forward_parse_port(&theirs, str_from(text), NULL), 0);
    others = (struct client_ports){.connect = connect_port, .ask = ask, .waits = waits};
    assert_int_equal(client_ports_open(&others, &loop, &theirs, 1, &err), ERROR_SYSTEM);
    assert_int_equal(stat(path, &info), 0);
    client_ports_accept(&ports);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &name, sizeof name), 0);
    turns();
    assert_int_equal(taken_count, 2); /* this one, and the other's look whether anybody serves */
    close(fd);
    client_ports_close(&ports);
    assert_int_equal(stat(path, &info), -1);
    assert_int_equal(rmdir(dir), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_accepted_before_it_is_ready),
        TEST(what_waits_is_offered_again_in_order_or_refused),
        TEST(a_taken_port_is_named_and_nothing_stays_open),
        TEST(unix_sockets),
    };
    return cmocka_run_group_tests_name("ports", tests, NULL, NULL);
}
