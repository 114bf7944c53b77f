#include "keeper/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"

/* ---- the check ----------------------------------------------------------------------------------------- */

#define RELAY(up, serves, trouble)                                                                           \
    .state = "waiting", .relays = true, .serves_sessions = (serves), .relay_is_up = (up), .relay_pid = 8,    \
    .relay_starts = 1, .channel_limit_ms = 180000, .channel_trouble = (trouble)
#define RELAYING RELAY(true, true, "")

static const struct {
    struct health_facts facts;
    const char *reason; /* empty: healthy */
} checks[] = {
    {{.state = "idle"}, ""}, /* watches AWS's agent: that the keeper answers is all there is to ask */
    {{RELAYING, .channel_is_open = true, .channel_for_ms = 86400000}, ""},
    {{RELAY(false, true, "")}, "the relay is not running; it was started 1 times"},
    {{RELAYING, .channel_is_open = true, .relay_silent_ms = HEALTH_SILENCE_MS}, ""},
    {{RELAYING, .channel_is_open = true, .relay_silent_ms = HEALTH_SILENCE_MS + 1},
     "the relay has not reported for 2.501s"},
    {{RELAYING, .channel_for_ms = 180000}, ""},
    {{RELAY(true, true, "CreateControlChannel: 403"), .channel_for_ms = 180001},
     "the control channel has not been open for 3m0.001s: CreateControlChannel: 403"},
    {{RELAYING, .channel_for_ms = 200000}, "the control channel has not been open for 3m20s"},
    {{RELAYING, .channel_for_ms = 200000, .sessions = 1}, ""}, /* a new task would not help them */
    {{RELAY(true, false, ""), .channel_for_ms = 200000}, ""},  /* fixed relays only */
    {{RELAY(true, false, ""), .relay_silent_ms = 3000, .sessions = 1}, "the relay has not reported for 3s"},
};

static void checks_relay_and_channel(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
        struct error why = ERROR_INIT;
        int result = health_check(&checks[i].facts, &why);
        assert_string_equal(why.text, checks[i].reason);
        assert_int_equal(result, checks[i].reason[0] == '\0' ? 0 : ERROR_UNAVAILABLE);
    }
}

static const char *written(const struct health_facts *facts)
{
    static char memory[HEALTH_LINE_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    health_write(&out, facts);
    assert_false(out.failed);
    return writer_terminate(&out);
}

static void writes_what_there_is(void **state)
{
    (void) state;
    assert_string_equal(written(&(struct health_facts){.state = "idle", .sessions = 2}),
                        "{\"healthy\":true,\"reason\":\"\",\"state\":\"idle\",\"sessions\":2}");
    assert_string_equal(written(&(struct health_facts){RELAYING, .relay_age_ms = 5000, .relay_silent_ms = 40,
                                                       .channel_is_open = true, .channel_for_ms = 4500}),
                        "{\"healthy\":true,\"reason\":\"\",\"state\":\"waiting\",\"sessions\":0,"
                        "\"relay\":{\"up\":true,\"pid\":8,\"age_ms\":5000,\"silent_ms\":40,\"starts\":1},"
                        "\"control_channel\":{\"open\":true,\"for_ms\":4500}}");
    assert_string_equal(written(&(struct health_facts){RELAY(true, true, "\"403\""), .channel_for_ms = 60}),
                        "{\"healthy\":true,\"reason\":\"\",\"state\":\"waiting\",\"sessions\":0,"
                        "\"relay\":{\"up\":true,\"pid\":8,\"age_ms\":0,\"silent_ms\":0,\"starts\":1},"
                        "\"control_channel\":{\"open\":false,\"for_ms\":60,\"trouble\":\"\\\"403\\\"\"}}");
}

/* The relay's words are from outside: the longest that it can tell, of what
 * escapes worst, twice in the line. */
static void longest_line_fits(void **state)
{
    (void) state;
    char trouble[256];
    memset(trouble, '\x01', sizeof trouble - 1);
    trouble[sizeof trouble - 1] = '\0';
    const char *line = written(&(struct health_facts){RELAY(true, true, trouble), .channel_for_ms = INT64_MAX,
                                                      .relay_age_ms = INT64_MAX});
    assert_non_null(strstr(line, "\"healthy\":false"));
}

/* ---- keeper and asker ---------------------------------------------------------------------------------- */

static struct loop loop;
static struct health health;
static struct health_facts facts_now;
static int gathered;
static char uri[128];
static char *env[] = {uri, NULL};

static void gather(struct health *asked, struct health_facts *facts)
{
    assert_ptr_equal(asked->owner, &loop);
    gathered++;
    *facts = facts_now;
}

static int open_keeper(void **state)
{
    static int n;
    (void) state;
    snprintf(uri, sizeof uri, "ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/%d-%d", getpid(), n++);
    gathered = 0;
    facts_now = (struct health_facts){.state = "idle"};
    if (loop_open(&loop, NULL) < 0)
        return -1;
    health_open(&health, &loop, env, gather, &loop);
    return health.socket.watch.fd < 0 ? -1 : 0;
}

static int close_keeper(void **state)
{
    (void) state;
    health_close(&health);
    loop_close(&loop);
    return 0;
}

struct question {
    pthread_t thread;
    char line[HEALTH_LINE_SIZE];
    struct error err;
    int result;
    _Atomic bool over;
};

static void *ask(void *context)
{
    struct question *q = context;
    q->result = health_ask(env, q->line, &q->err);
    q->over = true;
    return NULL;
}

static void ask_while_keeper_runs(struct question *q)
{
    *q = (struct question){.result = 1};
    assert_int_equal(pthread_create(&q->thread, NULL, ask, q), 0);
    for (int turns = 0; !q->over && turns < 500; turns++)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    pthread_join(q->thread, NULL);
}

static void healthy_keeper_says_so(void **state)
{
    (void) state;
    struct question q;
    for (int i = 0; i < 3; i++) { /* also when it has just been asked */
        ask_while_keeper_runs(&q);
        assert_int_equal(q.result, 0);
        assert_string_equal(q.line, "{\"healthy\":true,\"reason\":\"\",\"state\":\"idle\",\"sessions\":0}");
    }
    assert_int_equal(gathered, 3);
}

static void unhealthy_keeper_says_why(void **state)
{
    (void) state;
    struct question q;
    facts_now = (struct health_facts){RELAY(false, true, "")};
    ask_while_keeper_runs(&q);
    assert_int_equal(q.result, ERROR_UNAVAILABLE);
    assert_non_null(strstr(q.line, "\"reason\":\"the relay is not running; it was started 1 times\""));
}

static void hung_keeper_is_no_healthy_one(void **state)
{
    (void) state;
    struct question q = {.result = 1};
    ask(&q); /* nobody turns the loop */
    assert_int_equal(q.result, ERROR_TIMEOUT);
    assert_string_equal(q.err.text, "it did not answer within 3000 ms");
    assert_string_equal(q.line, "");
}

static void no_keeper_is_no_healthy_one(void **state)
{
    (void) state;
    struct question q = {.result = 1};
    health_close(&health);
    ask(&q);
    assert_int_equal(q.result, ERROR_CLOSED);
    assert_non_null(strstr(q.err.text, "no fumidai answers at the abstract name fumidai-health/"));
}

static void answer_of_another_kind_is_not_believed(void **state)
{
    static const struct {
        const char *answer;
        const char *reason;
    } rows[] = {{"hello", "the answer is malformed"},
                {"{\"healthy\":truer}", "the answer is malformed"},
                {"{\"reason\":\"none\"}", "the answer is malformed"},
                {"", "it did not answer: closed"}};
    (void) state;
    int fd = health.socket.watch.fd; /* the listening socket, without its keeper */
    loop_watch_remove(&loop, &health.socket.watch);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct question q = {.result = 1};
        assert_int_equal(pthread_create(&q.thread, NULL, ask, &q), 0);
        int peer = -1;
        for (int tries = 0; peer < 0 && tries < 5000; tries++, usleep(1000))
            peer = accept(fd, NULL, NULL);
        assert_true(peer >= 0);
        if (rows[i].answer[0] != '\0')
            assert_true(send(peer, rows[i].answer, strlen(rows[i].answer), 0) > 0);
        close(peer);
        pthread_join(q.thread, NULL);
        assert_true(q.result < 0 && q.result != ERROR_UNAVAILABLE);
        assert_memory_equal(q.err.text, rows[i].reason, strlen(rows[i].reason));
        assert_string_equal(q.line, "");
    }
    close(fd);
}

static void names_come_from_the_containers_uri(void **state)
{
    static const struct {
        const char *value;
        int result;
    } rows[] = {
        {"", ERROR_CLOSED},
        {"none", ERROR_CLOSED},
        {"///", ERROR_CLOSED},
        {"http://169.254.170.2/v4/nobody-is-there", ERROR_CLOSED},
        {"http://169.254.170.2/v4/"
         "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123",
         ERROR_TOO_LARGE}};
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct question q = {.result = 1};
        char text[256];
        char *other[] = {text, NULL};
        snprintf(text, sizeof text, "ECS_CONTAINER_METADATA_URI_V4=%s", rows[i].value);
        assert_int_equal(health_ask(other, q.line, &q.err), rows[i].result);
        struct health deaf; /* the other end fails in the log, and then there is nothing to do */
        if (strstr(rows[i].value, "nobody") != NULL)
            continue;
        health_open(&deaf, &loop, other, gather, &loop);
        assert_int_equal(deaf.socket.watch.fd, -1);
        health_close(&deaf);
    }
}

static void second_keeper_of_a_name_goes_without(void **state)
{
    (void) state;
    struct health second;
    struct question q;
    health_open(&second, &loop, env, gather, NULL);
    assert_int_equal(second.socket.watch.fd, -1);
    ask_while_keeper_runs(&q);
    assert_int_equal(q.result, 0);
    health_close(&second);
}

static int count_descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

static int connect_here(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    const char *id = strrchr(uri, '/') + 1;
    int len = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "fumidai-health/%s", id);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + 1 + (size_t) len);
    if (connect(fd, (struct sockaddr *) &name, size) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Whoever connects all the time, reads nothing and never hangs up gets four answers a rest. */
static void askers_cannot_hold_up_the_keeper(void **state)
{
    enum { ASKERS = 64 };
    int fds[ASKERS];
    (void) state;
    int before = count_descriptors();
    int64_t until = loop_now_ms(&loop) + 200;
    int turns = 0, connected = 0;
    do {
        while (connected < ASKERS && (fds[connected] = connect_here()) >= 0)
            connected++;
        int had = gathered;
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        assert_true(gathered - had <= HEALTH_ANSWERS_MAX);
        turns++;
    } while (loop_now_ms(&loop) < until);
    assert_true(gathered >= HEALTH_ANSWERS_MAX);
    assert_true(gathered <= (200 / HEALTH_REST_MS + 2) * HEALTH_ANSWERS_MAX);
    assert_true(turns < 200 / 5); /* it sleeps while it rests */
    for (int i = 0; i < connected; i++)
        close(fds[i]);
    for (int i = 0; i < 30 && gathered < connected; i++)
        loop_turn(&loop, 20, NULL);
    assert_int_equal(gathered, connected); /* those that hung up before their turn too */
    assert_int_equal(count_descriptors(), before);
}

/* Asks from a process namespace in which the keeper has no number: as another container's process would be
 * answered by ours, or ours by it. */
static void keeper_of_another_container_is_not_believed(void **state)
{
    (void) state;
    fflush(NULL);
    pid_t outer = fork();
    if (outer == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
            _exit(77);
        pid_t inner = fork();
        if (inner == 0) {
            struct question q = {.result = 1};
            ask(&q);
            _exit(q.result == ERROR_DENIED && q.line[0] == '\0' ? 0 : 1);
        }
        int status = -1;
        _exit(inner > 0 && waitpid(inner, &status, 0) == inner && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                                    : 2);
    }
    assert_true(outer > 0);
    int status = -1;
    pid_t ended = 0;
    for (int turns = 0; ended == 0 && turns < 500; turns++) {
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        ended = waitpid(outer, &status, WNOHANG);
    }
    assert_int_equal(ended, outer);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77)
        skip(); /* no user namespaces here */
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define WITH_KEEPER(test) cmocka_unit_test_setup_teardown(test, open_keeper, close_keeper)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checks_relay_and_channel),
        cmocka_unit_test(writes_what_there_is),
        cmocka_unit_test(longest_line_fits),
        WITH_KEEPER(healthy_keeper_says_so),
        WITH_KEEPER(unhealthy_keeper_says_why),
        WITH_KEEPER(hung_keeper_is_no_healthy_one),
        WITH_KEEPER(no_keeper_is_no_healthy_one),
        WITH_KEEPER(answer_of_another_kind_is_not_believed),
        WITH_KEEPER(names_come_from_the_containers_uri),
        WITH_KEEPER(second_keeper_of_a_name_goes_without),
        WITH_KEEPER(askers_cannot_hold_up_the_keeper),
        WITH_KEEPER(keeper_of_another_container_is_not_believed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
