#include "run/linger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"

enum {
    TARGETS = 30,
    KERNEL_BYTES =
        1024 * 1024, /* more than the kernel keeps of one connection, with buffers as small as here */
    SENDING_MAX_MS = 60 * 1000, /* a test whose loop does not come back fails, and does not hang */
};

static struct loop loop;
static struct linger_set set;
static struct tcp ours[TARGETS];
static int theirs[TARGETS];

static void ignore_change(struct tcp *tcp)
{
    (void) tcp;
}

/* A connection over loopback; `ours` is in the loop, `theirs` is the target's. */
static void connect_target(int i)
{
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof name;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *) &name, len), 0);
    assert_int_equal(listen(listener, 1), 0);
    getsockname(listener, (struct sockaddr *) &name, &len);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &name, len), 0);
    theirs[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof(int)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &(int){65536}, sizeof(int)), 0);
    assert_int_equal(setsockopt(theirs[i], SOL_SOCKET, SO_SNDBUF, &(int){65536}, sizeof(int)), 0);
    assert_int_equal(tcp_adopt(&ours[i], &loop, fd, ignore_change, NULL), 0);
}

static int setup(void **state)
{
    (void) state;
    for (int i = 0; i < TARGETS; i++)
        theirs[i] = -1;
    return loop_open(&loop, NULL);
}

static int teardown(void **state)
{
    (void) state;
    linger_close(&set);
    assert_int_equal(set.count, 0);
    assert_null(loop.timers);
    for (int i = 0; i < TARGETS; i++)
        if (theirs[i] >= 0)
            close(theirs[i]);
    loop_close(&loop);
    return 0;
}

static void run_for(int64_t how_long_ms)
{
    for (int64_t until_ms = clock_monotonic_ms() + how_long_ms; clock_monotonic_ms() < until_ms;)
        loop_turn(&loop, 10, NULL);
}

static void what_was_written_arrives(void **state)
{
    static char got[2 * 65536];
    size_t written = 0, total = 0;
    ssize_t n;
    (void) state;
    linger_open(&set, &loop, 8);
    connect_target(0);
    assert_true(send(theirs[0], "unread", 6, 0) == 6); /* which would make a plain close a reset */
    for (size_t took; written < sizeof got && (took = tcp_write(&ours[0], got, 4096)) > 0;)
        written += took;
    linger_take(&set, &ours[0], 1);
    assert_int_equal(ours[0].state, TCP_STATE_NONE);
    assert_int_equal(set.count, 1);
    run_for(50);
    while ((n = recv(theirs[0], got, 10000, 0)) > 0) {
        total += (size_t) n;
        send(theirs[0], "more", 4, MSG_NOSIGNAL);
        loop_turn(&loop, 0, NULL);
    }
    assert_int_equal(n, 0); /* the end, in order */
    assert_int_equal(total, written);
    close(theirs[0]);
    theirs[0] = -1;
    run_for(50);
    assert_int_equal(set.count, 0);
}

static void what_has_no_reason_does_not_linger(void **state)
{
    (void) state;
    linger_open(&set, &loop, 8);
    struct tcp closed = {.watch = LOOP_WATCH_INIT};
    linger_take(&set, &closed, 1);
    connect_target(0);
    shutdown(theirs[0], SHUT_WR);
    run_for(20);
    char byte;
    assert_int_equal(tcp_read(&ours[0], &byte, 1), 0);
    assert_true(ours[0].read_ended);
    linger_take(&set, &ours[0], 1);
    assert_int_equal(set.count, 0);
    linger_close(&set);
    linger_open(&set, &loop, 0); /* no descriptors for it at all */
    connect_target(1);
    linger_take(&set, &ours[1], 1);
    assert_int_equal(set.count, 0);
    assert_int_equal(recv(theirs[1], &byte, 1, 0), 0);
}

static atomic_bool stop_sending;
static atomic_size_t sent;

/* Sends as fast as the kernel takes it, to all. */
static void *send_for_ever(void *argument)
{
    static const char noise[65536];
    int64_t until_ms = clock_monotonic_ms() + SENDING_MAX_MS;
    sent = 0;
    (void) argument;
    while (!stop_sending && clock_monotonic_ms() < until_ms) {
        struct pollfd polled[TARGETS];
        for (int i = 0; i < TARGETS; i++)
            polled[i] = (struct pollfd){.fd = theirs[i], .events = POLLOUT};
        poll(polled, TARGETS, 10);
        for (int i = 0; i < TARGETS; i++)
            if (polled[i].revents != 0)
                sent += (size_t) (send(theirs[i], noise, sizeof noise, MSG_DONTWAIT | MSG_NOSIGNAL) + 1);
    }
    return NULL;
}

static int turns_of_others;

static void count_turn(struct loop_hook *hook)
{
    turns_of_others++;
    loop_hook_defer(&loop, hook);
}

/* The fault: it read until there was nothing more, which was never; and as long as a target had yet to take
 * what it was sent, there was no bound either. How many bytes and turns half a second has is the machine's
 * matter; what is read in a turn, and in the time that it took, is not. */
static void targets_that_send_for_ever_leave_others_their_turns(void **state)
{
    static char data[65536];
    struct loop_hook other;
    pthread_t sender;
    uint64_t acknowledged;
    (void) state;
    linger_open(&set, &loop, TARGETS);
    set.stalled_steps = 1;
    for (int i = 0; i < TARGETS; i++) {
        connect_target(i);
        while (tcp_write(&ours[i], data, sizeof data) > 0) /* they read nothing: it goes on delivering */
            continue;
    }
    bool is_told = tcp_is_delivering(&ours[0], &acknowledged); /* by the kernel; not by an emulator */
    loop_hook_init(&other, LOOP_GATHER, count_turn);
    loop_hook_queue(&loop, &other);
    stop_sending = false;
    assert_int_equal(pthread_create(&sender, NULL, send_for_ever, NULL), 0);
    int64_t began_ms = clock_monotonic_ms();
    for (int i = 0; i < TARGETS; i++)
        linger_take(&set, &ours[i], 1);
    turns_of_others = 0;
    size_t before = sent;
    run_for(500);
    size_t bytes = sent - before;
    size_t took_ms = (size_t) (clock_monotonic_ms() - began_ms);
    assert_in_range(bytes, 1, (took_ms / LINGER_PAUSE_MS + 2) * LINGER_BYTES + TARGETS * KERNEL_BYTES);
    assert_in_range(bytes, 1,
                    (size_t) turns_of_others * LINGER_READS_PER_TURN * LINGER_READ_SIZE +
                        TARGETS * KERNEL_BYTES);
    assert_true(turns_of_others > 1);
    if (is_told && took_ms < LINGER_STEP_MS)
        assert_int_equal(set.count, TARGETS);
    /* In the second step they take nothing more; on a busy machine it may be a later one. */
    for (int step = 0; step < 10 && set.count > 0; step++)
        run_for(LINGER_STEP_MS);
    assert_int_equal(set.count, 0);
    stop_sending = true;
    pthread_join(sender, NULL);
    loop_hook_remove(&loop, &other);
}

static void a_target_that_has_all_and_sends_too_much_is_closed(void **state)
{
    pthread_t sender;
    (void) state;
    linger_open(&set, &loop, TARGETS);
    connect_target(0);
    linger_take(&set, &ours[0], 1);
    stop_sending = false;
    assert_int_equal(pthread_create(&sender, NULL, send_for_ever, NULL), 0);
    run_for(500);
    assert_int_equal(set.count, 0); /* long before LINGER_STEP_MS */
    stop_sending = true;
    pthread_join(sender, NULL);
}

static bool was_reset(int fd)
{
    int reason = 0;
    socklen_t len = sizeof reason;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &reason, &len);
    return reason == EPIPE; /* so says Linux when our FIN came before the RST */
}

static void too_many_cost_those_who_have_the_most(void **state)
{
    (void) state;
    linger_open(&set, &loop, 8);
    for (int i = 0; i < 20; i++) {
        connect_target(i);
        linger_take(&set, &ours[i], i < 3 ? 7 : 1); /* three of another's, the oldest */
        assert_true(set.count <= 8);
    }
    run_for(20);
    assert_int_equal(set.count, 8);
    for (int i = 0; i < 20; i++)
        assert_int_equal(was_reset(theirs[i]), i >= 3 && i < 15);
    assert_int_equal(set.count_of[7], 3);
    assert_int_equal(set.count_of[1], 5);
}

static void one_that_does_nothing_lingers_for_a_step(void **state)
{
    (void) state;
    linger_open(&set, &loop, 8);
    connect_target(0);
    linger_take(&set, &ours[0], 1);
    run_for(LINGER_STEP_MS - 500);
    assert_int_equal(set.count, 1);
    run_for(1000);
    assert_int_equal(set.count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_written_arrives, setup, teardown),
        cmocka_unit_test_setup_teardown(what_has_no_reason_does_not_linger, setup, teardown),
        cmocka_unit_test_setup_teardown(targets_that_send_for_ever_leave_others_their_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_that_has_all_and_sends_too_much_is_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_cost_those_who_have_the_most, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_does_nothing_lingers_for_a_step, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
