#include "relay/fixed_forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"
#include "lib/peer.h"

static struct loop loop;
static struct network network;
static struct task_settings settings;
static struct relay_context context;
static struct fixed_forwards forwards;
static uint16_t port;
static int changes;

/* ---- targets: each connection has a thread ---- */

static int target_listener;
static void (*target_does)(int fd);
static atomic_bool stop;

static void *serve_one(void *argument)
{
    int fd = (int) (intptr_t) argument;
    target_does(fd);
    close(fd);
    return NULL;
}

static void *serve_all(void *argument)
{
    (void) argument;
    int fd;
    while ((fd = accept4(target_listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, serve_one, (void *) (intptr_t) fd), 0);
        pthread_detach(thread);
    }
    return NULL;
}

static void send_for_ever(int fd)
{
    static const char noise[65536];
    while (!stop && send(fd, noise, sizeof noise, MSG_NOSIGNAL) > 0)
        continue;
}

static void echo_until_end(int fd)
{
    char bytes[4096];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof bytes, 0)) > 0)
        peer_write(fd, bytes, (size_t) n);
    peer_write(fd, "bye", 3); /* after the client's end */
}

/* ---- the world ---- */

static pthread_t target_thread;

static void note_change(struct relay_context *changed)
{
    assert_ptr_equal(changed, &context);
    changes++;
}

static struct sockaddr_in loopback(uint16_t at)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(at), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static int setup(void **state)
{
    static char *no_env[] = {NULL};
    char listen_text[64];
    struct sockaddr_in name = loopback(0);
    socklen_t len = sizeof name;
    (void) state;
    stop = false;
    changes = 0;
    target_listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(target_listener, (struct sockaddr *) &name, len) != 0 || listen(target_listener, 64) != 0 ||
        getsockname(target_listener, (struct sockaddr *) &name, &len) != 0 ||
        pthread_create(&target_thread, NULL, serve_all, NULL) != 0)
        return -1;
    if (loop_open(&loop, NULL) != 0 || network_open(&network, &loop, no_env, NULL) != 0)
        return -1;
    settings.dial_timeout_ms = 5000;
    context = (struct relay_context){.config = &settings, .network = &network};
    if (dial_policy_init(&context.policy, str_from("127.0.0.1"), NULL) != 0)
        return -1;
    port = peer_unused_port();
    snprintf(listen_text, sizeof listen_text, "%u=127.0.0.1:%u", port, ntohs(name.sin_port));
    return fixed_forwards_open(&forwards, &context, str_from(listen_text), note_change, NULL);
}

static int teardown(void **state)
{
    (void) state;
    stop = true;
    fixed_forwards_shut_down(&forwards);
    assert_int_equal(forwards.open, 0);
    assert_true(list_is_empty(&forwards.ready));
    listener_close(&forwards.ports[0].listener);
    shutdown(target_listener, SHUT_RDWR);
    pthread_join(target_thread, NULL);
    close(target_listener);
    loop_hook_remove(&loop, &forwards.hook);
    network_close(&network);
    assert_null(loop.timers);
    loop_close(&loop);
    return 0;
}

static int connect_client(void)
{
    struct sockaddr_in name = loopback(port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &name, sizeof name), 0);
    return fd;
}

static void run_for(int64_t how_long_ms)
{
    for (int64_t until_ms = clock_monotonic_ms() + how_long_ms; clock_monotonic_ms() < until_ms;)
        loop_turn(&loop, 5, NULL);
}

/* ---- clients that read, each in a thread ---- */

struct fast_client {
    int fd;
    pthread_t thread;
    atomic_size_t total;
};

static void *read_all(void *argument)
{
    char bytes[16384];
    struct fast_client *reader = argument;
    ssize_t n;
    while ((n = recv(reader->fd, bytes, sizeof bytes, 0)) > 0)
        reader->total += (size_t) n;
    return NULL;
}

static void start_client(struct fast_client *reader)
{
    reader->fd = connect_client();
    reader->total = 0;
    assert_int_equal(pthread_create(&reader->thread, NULL, read_all, reader), 0);
}

static void stop_client(struct fast_client *reader)
{
    shutdown(reader->fd, SHUT_RDWR);
    pthread_join(reader->thread, NULL);
    close(reader->fd);
}

/* ---- */

static void bytes_go_both_ways_and_each_ends_for_itself(void **state)
{
    char got[64] = "";
    (void) state;
    target_does = echo_until_end;
    int fd = connect_client();
    assert_true(peer_write(fd, "hello ", 6));
    shutdown(fd, SHUT_WR);
    run_for(100);
    assert_int_equal(peer_read(fd, got, sizeof got - 1), 9);
    assert_string_equal(got, "hello bye");
    close(fd);
    run_for(50);
    assert_int_equal(forwards.open, 0);
    assert_int_equal(forwards.total, 1);
    assert_int_equal(changes, 2);
    assert_true(context.last_stream_ms > 0);
}

static int turns_of_others;

static void count_turn(struct loop_hook *hook)
{
    turns_of_others++;
    loop_hook_defer(&loop, hook);
}

/* The fault: one bulk transfer between two fast ends never came to an end that blocks,
 * and the loop to nothing else. */
static void two_fast_ends_leave_others_their_turns(void **state)
{
    struct fast_client readers[3];
    struct loop_hook other;
    (void) state;
    target_does = send_for_ever;
    for (int i = 0; i < 3; i++)
        start_client(&readers[i]);
    loop_hook_init(&other, LOOP_GATHER, count_turn);
    loop_hook_queue(&loop, &other);
    run_for(200);
    turns_of_others = 0;
    size_t before = readers[0].total + readers[1].total + readers[2].total;
    int64_t began_ms = clock_monotonic_ms();
    run_for(1000);
    assert_true(clock_monotonic_ms() - began_ms < 2000);
    assert_true(turns_of_others > 40);
    size_t moved = readers[0].total + readers[1].total + readers[2].total - before;
    assert_true(moved >
                20 * 1000 * 1000); /* a slow machine with others on it; 1 GB/s and more on a free one */
    for (int i = 0; i < 3; i++)    /* and none of the three waits for the others */
        assert_true(readers[i].total > moved / 30);
    stop = true;
    fixed_forwards_shut_down(&forwards);
    for (int i = 0; i < 3; i++)
        stop_client(&readers[i]);
    loop_hook_remove(&loop, &other);
}

static void a_client_that_does_not_read_costs_a_buffer(void **state)
{
    (void) state;
    target_does = send_for_ever;
    int fd = connect_client();
    run_for(300);
    assert_int_equal(forwards.open, 1);
    assert_true(list_is_empty(&forwards.ready)); /* nothing spins */
    char bytes[65536];
    size_t total = 0;
    for (int i = 0; i < 50; i++) { /* and it goes on when the client does */
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        assert_true(n > 0);
        total += (size_t) n;
        loop_turn(&loop, 5, NULL);
    }
    assert_true(total > 500 * 1000);
    close(fd);
}

static void nobody_comes_in_while_admission_is_closed(void **state)
{
    char byte;
    (void) state;
    target_does = echo_until_end;
    fixed_forwards_admit(&forwards, false);
    int fd = connect_client();
    run_for(50);
    assert_int_equal(forwards.total, 0);
    assert_true(recv(fd, &byte, 1, 0) <= 0);
    close(fd);
    fixed_forwards_admit(&forwards, true);
    fd = connect_client();
    run_for(50);
    assert_int_equal(forwards.open, 1);
    close(fd);
    assert_true(fixed_forwards_has_port(&forwards, port));
    assert_false(fixed_forwards_has_port(&forwards, (uint16_t) (port ^ 1)));
}

static void a_target_that_is_not_there_resets_its_client(void **state)
{
    char byte;
    (void) state;
    shutdown(target_listener, SHUT_RDWR);
    int fd = connect_client();
    run_for(100);
    assert_int_equal(forwards.open, 0);
    assert_int_equal(recv(fd, &byte, 1, 0), -1);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(bytes_go_both_ways_and_each_ends_for_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(two_fast_ends_leave_others_their_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(a_client_that_does_not_read_costs_a_buffer, setup, teardown),
        cmocka_unit_test_setup_teardown(nobody_comes_in_while_admission_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_that_is_not_there_resets_its_client, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
