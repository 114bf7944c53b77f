#include "keeper/scale_in_protection.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "host/clock.h"
#include "host/signals.h"
#include "lib/peer.h"
#include "net/network.h"
#include "worker/worker.h"

/* ---- an ECS agent that answers as it is told ----------------------------------------------------------- */

enum { ANSWERS_MAX = 8 };

struct agent {
    const char *status[ANSWERS_MAX]; /* null: hangs up without an answer; as asked, beyond the list */
    int64_t life_ms;                 /* of a protection */
    char requests[64][512];
    int64_t at_ms[64];
};

static struct agent agent;
static struct peer peer;

static void serve(int fd, void *context)
{
    struct agent *a = context;
    int n = atomic_load(&peer.accepted) - 1;
    assert_true(n < 64);
    char *request = a->requests[n];
    if (!peer_read_head(fd, request, 400))
        return;
    const char *length = strstr(request, "ontent-length: ");
    if (length == NULL)
        length = strstr(request, "ontent-Length: ");
    size_t len = length != NULL ? (size_t) atoi(length + 15) : 0;
    size_t head = strlen(request);
    peer_read(fd, request + head, len < 100 ? len : 100);
    request[head + len] = '\0';
    bool enabled = strstr(request + head, "true") != NULL;
    a->at_ms[n] = clock_monotonic_ms();
    char text[64], body[256], answer[512];
    struct writer expires = writer_of(text, sizeof text);
    writer_rfc3339_ms(&expires, clock_unix_ms() + a->life_ms);
    int size =
        snprintf(body, sizeof body,
                 "{\"protection\":{\"ExpirationDate\":\"%s\",\"ProtectionEnabled\":%s,\"TaskArn\":\"a\"}}",
                 writer_terminate(&expires), enabled ? "true" : "false");
    const char *status = "200 OK";
    if (n < ANSWERS_MAX && a->status[n] != NULL)
        status = a->status[n];
    if (strcmp(status, "none") == 0)
        return;
    if (strcmp(status, "other") == 0) {
        size = snprintf(body, sizeof body, "{\"protection\":{\"ProtectionEnabled\":%s}}",
                        enabled ? "false" : "true");
        status = "200 OK";
    }
    int total =
        snprintf(answer, sizeof answer, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, size, body);
    peer_write(fd, answer, (size_t) total);
}

/* ---- the loop around it -------------------------------------------------------------------------------- */

static struct loop loop;
static char *argv_of_worker[] = {NULL, NULL};
static struct worker_program program = {.loop = &loop, .argv = argv_of_worker};
static struct scale_in_protection protection;

/* For the test and for the workers that it starts. */
static void set_agent_uri(const char *uri)
{
    setenv("ECS_AGENT_URI", uri, 1);
}

static int setup(void **state)
{
    char uri[64];
    (void) state;
    memset(&agent, 0, sizeof agent);
    agent.life_ms = 3600 * 1000;
    peer_open(&peer, "127.0.0.1", 0, serve, &agent);
    snprintf(uri, sizeof uri, "http://127.0.0.1:%u/api/0a-1b", peer.port);
    set_agent_uri(uri);
    if (loop_open(&loop, NULL) < 0)
        return -1;
    scale_in_protection_open(&protection, &program, environ);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    scale_in_protection_close(&protection);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    assert_null(loop.timers);
    loop_close(&loop);
    peer_close(&peer);
    return 0;
}

static void turn(int wait_ms)
{
    pid_t pid;
    assert_int_equal(loop_turn(&loop, wait_ms, NULL), 0);
    while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
        worker_process_ended(&protection.worker, pid);
}

static void turn_until(enum scale_in_protection_state wanted, int limit_ms)
{
    int64_t until_ms = clock_monotonic_ms() + limit_ms;
    while ((protection.state != wanted || protection.worker.active) && clock_monotonic_ms() < until_ms)
        turn(10);
    assert_int_equal(protection.state, wanted);
    assert_false(protection.worker.active);
}

static void turn_for(int ms)
{
    int64_t until_ms = clock_monotonic_ms() + ms;
    while (clock_monotonic_ms() < until_ms)
        turn(10);
}

static void expect_request(int n, bool enabled)
{
    assert_memory_equal(agent.requests[n], "PUT /api/0a-1b/task-protection/v1/state HTTP/1.1\r\n", 50);
    assert_null(strstr(agent.requests[n], "uthorization")); /* the agent signs on our behalf */
    assert_non_null(strstr(agent.requests[n], enabled ? "{\"ProtectionEnabled\":true,\"ExpiresInMinutes\":60}"
                                                      : "{\"ProtectionEnabled\":false}"));
}

/* ---- the tests ----------------------------------------------------------------------------------------- */

static void holds_while_wanted(void **state)
{
    (void) state;
    scale_in_protection_want(&protection, false); /* nothing is held: nothing to ask */
    turn_for(50);
    assert_int_equal(peer.accepted, 0);
    scale_in_protection_want(&protection, true);
    scale_in_protection_want(&protection, true);
    turn_until(SCALE_IN_PROTECTION_HELD, 5000);
    turn_for(100); /* the refresh is half an hour away */
    scale_in_protection_want(&protection, false);
    turn_until(SCALE_IN_PROTECTION_FREE, 5000);
    turn_for(100);
    assert_int_equal(peer.accepted, 2);
    expect_request(0, true);
    expect_request(1, false);
}

static void change_of_mind_during_a_call_is_carried_out_after_it(void **state)
{
    (void) state;
    scale_in_protection_want(&protection, true);
    turn(0);
    assert_true(protection.worker.active);
    scale_in_protection_want(&protection, false);
    turn_for(50);
    turn_until(SCALE_IN_PROTECTION_FREE, 5000);
    assert_int_equal(peer_wait_accepted(&peer, 2), 2);
    expect_request(1, false);
}

/* From the first request to the second, which must come within 8 s. */
static int64_t pause_ms(void)
{
    int64_t until_ms = clock_monotonic_ms() + 8000;
    while (atomic_load(&peer.accepted) < 2 && clock_monotonic_ms() < until_ms)
        turn(10);
    while (protection.worker.active)
        turn(10);
    assert_int_equal(peer.accepted, 2);
    return agent.at_ms[1] - agent.at_ms[0];
}

static void refreshes_at_half_of_what_is_left(void **state)
{
    (void) state;
    agent.life_ms = 4000;
    scale_in_protection_want(&protection, true);
    turn_until(SCALE_IN_PROTECTION_HELD, 5000);
    assert_in_range(pause_ms(), 1900, 4000); /* with the time that a process takes to start */
    expect_request(1, true);
}

/* An agent whose clock is behind, or that says "expired", is asked once a second and not in a circle. */
static void never_refreshes_in_a_circle(void **state)
{
    (void) state;
    agent.life_ms = -3600 * 1000;
    scale_in_protection_want(&protection, true);
    assert_in_range(pause_ms(), 900, 3000);
}

static void tries_again_after_each_kind_of_failure(void **state)
{
    static const struct {
        const char *first;
        enum scale_in_protection_state after;
    } rows[] = {{"500 Oops", SCALE_IN_PROTECTION_UNKNOWN},
                {"none", SCALE_IN_PROTECTION_UNKNOWN},
                {"other", SCALE_IN_PROTECTION_UNKNOWN},
                {"400 Bad Request", SCALE_IN_PROTECTION_FREE}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (i > 0) {
            teardown(state);
            setup(state);
        }
        agent.status[0] = rows[i].first;
        scale_in_protection_want(&protection, true);
        while (protection.retry.failures == 0)
            turn(10);
        assert_int_equal(protection.state, rows[i].after);
        turn_until(SCALE_IN_PROTECTION_HELD, 5000);
        assert_int_equal(peer.accepted, 2);
        assert_int_equal(protection.retry.failures, 0);
    }
}

/* The answer was lost, the protection may be there: it is taken back. A refusal
 * leaves nothing to take back. */
static void releases_what_may_be_held(void **state)
{
    agent.status[0] = "none";
    scale_in_protection_want(&protection, true);
    while (protection.retry.failures == 0)
        turn(10);
    scale_in_protection_want(&protection, false);
    turn_until(SCALE_IN_PROTECTION_FREE, 5000);
    assert_int_equal(peer.accepted, 2);
    expect_request(1, false);

    teardown(state);
    setup(state);
    agent.status[0] = "400 Bad Request";
    scale_in_protection_want(&protection, true);
    while (protection.retry.failures == 0)
        turn(10);
    scale_in_protection_want(&protection, false);
    turn_for(1200); /* longer than the first back-off */
    assert_int_equal(peer.accepted, 1);
    scale_in_protection_want(&protection, true); /* and that row of failures is forgotten */
    turn_until(SCALE_IN_PROTECTION_HELD, 5000);
    assert_int_equal(peer.accepted, 2);
}

static void does_nothing_without_an_agent(void **state)
{
    static const char *const values[] = {"", "ftp://x/", "nothing"};
    (void) state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct scale_in_protection deaf;
        set_agent_uri(values[i]);
        scale_in_protection_open(&deaf, &program, environ);
        scale_in_protection_want(&deaf, true);
        turn_for(30);
        assert_int_equal(deaf.state, SCALE_IN_PROTECTION_FREE);
        scale_in_protection_close(&deaf);
    }
    assert_int_equal(peer.accepted, 0);
    struct scale_in_protection zeroed = {0}; /* FUMIDAI_TASK_PROTECTION is off */
    scale_in_protection_want(&zeroed, true);
    scale_in_protection_close(&zeroed);
}

static void can_be_closed_during_a_call(void **state)
{
    (void) state;
    scale_in_protection_want(&protection, true);
    turn(0);
    assert_true(protection.worker.active);
} /* teardown checks that no timer is left */

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    signals_block_all();
    if (argc > 0 && strcmp(argv[0], IPC_WORKER_NAME) == 0)
        return worker_run(environ);
    const struct CMUnitTest tests[] = {
        WITH_AGENT(holds_while_wanted),
        WITH_AGENT(change_of_mind_during_a_call_is_carried_out_after_it),
        WITH_AGENT(refreshes_at_half_of_what_is_left),
        WITH_AGENT(never_refreshes_in_a_circle),
        WITH_AGENT(tries_again_after_each_kind_of_failure),
        WITH_AGENT(releases_what_may_be_held),
        WITH_AGENT(does_nothing_without_an_agent),
        WITH_AGENT(can_be_closed_during_a_call),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
