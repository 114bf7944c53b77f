#include "worker/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <sys/wait.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/signals.h"
#include "keeper/worker_process.h"
#include "lib/emulation.h"
#include "lib/peer.h"

/* The worker program against a server, started and listened to by the keeper's side of it. */

/* ---- ECS, the task's endpoints and its credentials at one port ----------------------------------------- */

enum { REQUESTS_MAX = 8, TEXT_SIZE = 4096 };

static struct peer peer;
static struct {
    const char *answers[REQUESTS_MAX]; /* but for credentials; null: does not answer */
    int count;
    int fetches;
    char requests[REQUESTS_MAX][TEXT_SIZE]; /* heads and bodies */
    char privileges[TEXT_SIZE];             /* /proc/PID/status of the worker during the first of them */
} server;

static struct worker_process worker;

static void look_at_worker(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/status", (int) worker.child.pid);
    FILE *file = fopen(path, "r");
    size_t len = file != NULL ? fread(server.privileges, 1, TEXT_SIZE - 1, file) : 0;
    server.privileges[len] = '\0';
    if (file != NULL)
        fclose(file);
}

static void answer(int fd, const char *body)
{
    char text[TEXT_SIZE];
    int size = body[0] == 'H'
                   ? snprintf(text, sizeof text, "%s", body)
                   : snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s",
                              strlen(body), body);
    peer_write(fd, text, (size_t) size);
}

static void serve(int fd, void *context)
{
    char head[TEXT_SIZE];
    (void) context;
    if (!peer_read_head(fd, head, sizeof head - 1024))
        return;
    if (strncmp(head, "GET /keys ", 10) == 0) {
        server.fetches++;
        answer(fd, "{\"AccessKeyId\":\"KEYID\",\"SecretAccessKey\":\"s3cret\",\"Token\":\"t0ken\","
                   "\"Expiration\":\"2199-01-01T00:00:00Z\"}");
        return;
    }
    const char *length = strcasestr(head, "content-length: ");
    size_t len = length != NULL ? (size_t) atoi(length + 16) : 0, start = strlen(head);
    assert_true(len < 1024 && server.count < REQUESTS_MAX);
    head[start + peer_read(fd, head + start, len)] = '\0';
    strcpy(server.requests[server.count], head);
    if (server.count == 0)
        look_at_worker();
    const char *text = server.answers[server.count++];
    if (text != NULL)
        answer(fd, text);
    else
        peer_read(fd, head, 1); /* until it hangs up */
}

#define FAILED(status, type)                                                                                 \
    "HTTP/1.1 " status " X\r\nDate: Sun, 22 Nov 2099 15:38:51 GMT\r\nx-amzn-errortype: " type                \
    "\r\nContent-Length: 0\r\n\r\n"

/* ---- the keeper's side --------------------------------------------------------------------------------- */

static struct loop loop;
static char *argv_of_worker[] = {NULL, NULL};
static struct worker_program program;
static int done_count;

static void done(struct worker_process *finished)
{
    assert_ptr_equal(finished, &worker);
    done_count++;
}

static void set_endpoints(unsigned port)
{
    static const struct {
        const char *variable, *path;
    } endpoints[] = {{"ECS_CONTAINER_METADATA_URI_V4", "/v4/id"},
                     {"ECS_AGENT_URI", "/api/id"},
                     {"AWS_CONTAINER_CREDENTIALS_FULL_URI", "/keys"},
                     {"AWS_ENDPOINT_URL_ECS", "/ecs"}};
    for (size_t i = 0; i < sizeof endpoints / sizeof endpoints[0]; i++) {
        char url[64];
        snprintf(url, sizeof url, "http://127.0.0.1:%u%s", port, endpoints[i].path);
        setenv(endpoints[i].variable, url, 1);
    }
    unsetenv("AWS_REGION");
    unsetenv("AWS_DEFAULT_REGION");
}

static int setup(void **state)
{
    (void) state;
    memset(&server, 0, sizeof server);
    peer_open(&peer, "127.0.0.1", 0, serve, NULL);
    set_endpoints(peer.port);
    if (loop_open(&loop, NULL) < 0)
        return -1;
    program = (struct worker_program){.loop = &loop, .argv = argv_of_worker};
    worker_process_init(&worker, &program, done);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    worker_process_cancel(&worker);
    while (waitpid(-1, NULL, 0) > 0)
        ;
    assert_null(loop.timers);
    loop_close(&loop);
    peer_close(&peer);
    return 0;
}

static enum ipc_result run(struct ipc_call call, int limit_ms)
{
    int before = done_count;
    strcpy(call.cluster, "arn:aws:ecs:eu-west-1:1:cluster/c");
    strcpy(call.task_arn, "arn:aws:ecs:eu-west-1:1:task/c/0a1b");
    strcpy(call.service, "gate");
    strcpy(call.reason, "stopped by fumidai: \"idle\"");
    worker_process_start(&worker, &call, clock_monotonic_ms() + limit_ms);
    while (done_count == before)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    return worker.result;
}

static enum ipc_result run_kind(enum ipc_call_kind kind)
{
    return run((struct ipc_call){.kind = kind}, 5000);
}

static void expect_request(int n, const char *start, const char *body)
{
    assert_memory_equal(server.requests[n], start, strlen(start));
    assert_string_equal(strstr(server.requests[n], "\r\n\r\n") + 4, body);
}

/* ---- the calls ----------------------------------------------------------------------------------------- */

static void reads_the_tasks_metadata(void **state)
{
    (void) state;
    server.answers[0] = "{\"Cluster\":\"c\",\"TaskARN\":\"arn:aws:ecs:eu-west-1:1:task/c/0a1b\","
                        "\"ServiceName\":\"ga\\nte\",\"Containers\":7}";
    assert_int_equal(run_kind(IPC_TASK_METADATA), IPC_DONE);
    expect_request(0, "GET /v4/id/task HTTP/1.1\r\n", "");
    assert_string_equal(worker.answer.cluster, "c");
    assert_string_equal(worker.answer.task_arn, "arn:aws:ecs:eu-west-1:1:task/c/0a1b");
    assert_string_equal(worker.answer.service, "ga?te"); /* clean, or the keeper would not take it */
    assert_int_equal(server.fetches, 0);
    server.answers[1] = "{}";
    assert_int_equal(run_kind(IPC_TASK_METADATA), IPC_RETRY);
    assert_string_equal(worker.err.text, "task metadata: Cluster is missing");
    setenv("ECS_CONTAINER_METADATA_URI_V4", "gopher://x/", 1);
    assert_int_equal(run_kind(IPC_TASK_METADATA), IPC_FAILED);
    assert_memory_equal(worker.err.text, "ECS_CONTAINER_METADATA_URI_V4: ", 31);
}

static void describes_the_task(void **state)
{
    (void) state;
    server.answers[0] = "{\"tasks\":[{\"group\":\"service:gate\"}]}";
    server.answers[1] = "{\"tasks\":[{\"group\":\"family:x\"}]}";
    server.answers[2] = FAILED("400", "AccessDeniedException");
    assert_int_equal(run_kind(IPC_DESCRIBE_TASKS), IPC_DONE);
    expect_request(0, "POST /ecs/ HTTP/1.1\r\n",
                   "{\"cluster\":\"arn:aws:ecs:eu-west-1:1:cluster/c\","
                   "\"tasks\":[\"arn:aws:ecs:eu-west-1:1:task/c/0a1b\"]}");
    assert_non_null(strstr(server.requests[0], "Credential=KEYID/"));
    assert_non_null(strstr(server.requests[0], "/eu-west-1/ecs/aws4_request")); /* the region is the task's */
    assert_non_null(strstr(server.requests[0], ".DescribeTasks\r\n"));
    assert_string_equal(worker.answer.service, "gate");
    assert_int_equal(run_kind(IPC_DESCRIBE_TASKS), IPC_DONE);
    assert_string_equal(worker.answer.service, "");
    assert_string_equal(worker.answer.group, "family:x");
    assert_int_equal(run_kind(IPC_DESCRIBE_TASKS), IPC_FAILED);
    assert_int_equal(worker.err.code, ERROR_DENIED);
    assert_non_null(strstr(worker.err.text, "the task role lacks ecs:DescribeTasks"));
}

static void describes_the_service(void **state)
{
    (void) state;
    server.answers[0] =
        "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 15:38:51 GMT\r\nContent-Length: 76\r\n\r\n"
        "{\"services\":[{\"desiredCount\":3,\"deployments\":[{\"updatedAt\":1700000000.5}]}]}";
    server.answers[1] = "{\"services\":[{\"desiredCount\":1}]}";
    assert_int_equal(run_kind(IPC_DESCRIBE_SERVICES), IPC_DONE);
    expect_request(0, "POST /ecs/ HTTP/1.1\r\n",
                   "{\"cluster\":\"arn:aws:ecs:eu-west-1:1:cluster/c\",\"services\":[\"gate\"]}");
    assert_int_equal(worker.answer.desired_count, 3);
    assert_true(worker.answer.changed_unix_ms == 1700000000500);
    assert_true(worker.answer.server_unix_ms == 1795361931000);
    assert_int_equal(run_kind(IPC_DESCRIBE_SERVICES), IPC_DONE);
    assert_int_equal(worker.answer.changed_unix_ms, -1);
    assert_int_equal(worker.answer.server_unix_ms, -1);
}

static void updates_the_service(void **state)
{
    (void) state;
    server.answers[0] = "{}";
    server.answers[1] = server.answers[2] = FAILED("400", "ServiceNotFoundException");
    assert_int_equal(run((struct ipc_call){.kind = IPC_UPDATE_SERVICE, .desired_count = 2}, 5000), IPC_DONE);
    expect_request(0, "POST /ecs/ HTTP/1.1\r\n",
                   "{\"cluster\":\"arn:aws:ecs:eu-west-1:1:cluster/c\",\"service\":\"gate\","
                   "\"desiredCount\":2}");
    assert_false(worker.answer.already);
    struct ipc_call certain = {.kind = IPC_UPDATE_SERVICE, .service_is_certain = true};
    assert_int_equal(run(certain, 5000), IPC_DONE);
    assert_true(worker.answer.already);
    assert_int_equal(run_kind(IPC_UPDATE_SERVICE), IPC_FAILED); /* a person named it: a mistake */
    assert_int_equal(worker.err.code, ERROR_NOT_FOUND);
}

static void stops_the_task(void **state)
{
    (void) state;
    server.answers[0] = "{}";
    assert_int_equal(run_kind(IPC_STOP_TASK), IPC_DONE);
    expect_request(0, "POST /ecs/ HTTP/1.1\r\n",
                   "{\"cluster\":\"arn:aws:ecs:eu-west-1:1:cluster/c\","
                   "\"task\":\"arn:aws:ecs:eu-west-1:1:task/c/0a1b\","
                   "\"reason\":\"stopped by fumidai: \\\"idle\\\"\"}");
    assert_false(worker.answer.already);
}

static void protects_the_task(void **state)
{
    struct ipc_call on = {.kind = IPC_TASK_PROTECTION, .protect = true};
    (void) state;
    server.answers[0] =
        "{\"protection\":{\"ProtectionEnabled\":true,\"ExpirationDate\":\"2026-11-22T15:38:51Z\"}}";
    server.answers[1] = "{\"protection\":{\"ProtectionEnabled\":false}}";
    assert_int_equal(run(on, 5000), IPC_DONE);
    expect_request(0, "PUT /api/id/task-protection/v1/state HTTP/1.1\r\n",
                   "{\"ProtectionEnabled\":true,\"ExpiresInMinutes\":60}");
    assert_true(worker.answer.is_protected && worker.answer.expires_unix_ms == 1795361931000);
    assert_int_equal(run_kind(IPC_TASK_PROTECTION), IPC_DONE);
    expect_request(1, "PUT /api/id/task-protection/v1/state HTTP/1.1\r\n", "{\"ProtectionEnabled\":false}");
    assert_true(!worker.answer.is_protected && worker.answer.expires_unix_ms == -1);
    assert_int_equal(server.fetches, 0); /* the agent signs on our behalf */
}

/* ---- around them --------------------------------------------------------------------------------------- */

/* Two workers: the first learns of the service's time, the second begins with it. */
static void the_clock_is_learned_once(void **state)
{
    (void) state;
    server.answers[0] = FAILED("400", "RequestTimeTooSkewed");
    server.answers[1] = server.answers[2] = "{}";
    assert_int_equal(run_kind(IPC_STOP_TASK), IPC_DONE);
    assert_int_equal(server.count, 2);
    assert_null(strstr(server.requests[0], ": 20991122T15"));
    assert_non_null(strstr(server.requests[1], ": 20991122T15"));
    assert_int_equal(run_kind(IPC_STOP_TASK), IPC_DONE);
    assert_int_equal(server.count, 3);
    assert_non_null(strstr(server.requests[2], ": 20991122T15"));
}

static void refused_keys_are_fetched_once_more(void **state)
{
    (void) state;
    server.answers[0] = server.answers[1] = FAILED("400", "ExpiredTokenException");
    assert_int_equal(run_kind(IPC_STOP_TASK), IPC_RETRY);
    assert_int_equal(server.count, 2);
    assert_int_equal(server.fetches, 2);
}

/* Its own deadline is the earlier one, so that its words arrive. */
static void a_server_that_does_not_answer_is_a_failed_attempt(void **state)
{
    (void) state;
    if (is_emulated()) /* leaving takes longer than what is kept for it */
        skip();
    int64_t began_ms = clock_monotonic_ms();
    assert_int_equal(run((struct ipc_call){.kind = IPC_STOP_TASK}, 1200), IPC_RETRY);
    assert_in_range(clock_monotonic_ms() - began_ms, 600, 1190);
    assert_int_equal(worker.err.code, ERROR_TIMEOUT);
    assert_memory_equal(worker.err.text, "StopTask: 127.0.0.1:", 20);
}

static bool has_line(const char *line)
{
    const char *at = strstr(server.privileges, line);
    return at != NULL && (at == server.privileges || at[-1] == '\n') && at[strlen(line)] == '\n';
}

static void it_is_in_its_sandbox(void **state)
{
    (void) state;
    server.answers[0] = "{}";
    assert_int_equal(run_kind(IPC_STOP_TASK), IPC_DONE);
    assert_true(has_line("NoNewPrivs:\t1"));
    assert_true(has_line("CapPrm:\t0000000000000000"));
    if (geteuid() == 0)
        assert_true(has_line("Uid:\t65532\t65532\t65532\t65532"));
#if !defined(__SANITIZE_ADDRESS__)
    if (strstr(server.privileges, "Seccomp:") != NULL && !has_line("Seccomp:\t0")) /* an emulator has none */
        assert_true(has_line("Seccomp:\t2"));
#endif
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    signals_block_all();
    if (argc > 0 && strcmp(argv[0], IPC_WORKER_NAME) == 0)
        return worker_run(environ);
    const struct CMUnitTest tests[] = {
        WITH_SERVER(reads_the_tasks_metadata),
        WITH_SERVER(describes_the_task),
        WITH_SERVER(describes_the_service),
        WITH_SERVER(updates_the_service),
        WITH_SERVER(stops_the_task),
        WITH_SERVER(protects_the_task),
        WITH_SERVER(the_clock_is_learned_once),
        WITH_SERVER(refused_keys_are_fetched_once_more),
        WITH_SERVER(a_server_that_does_not_answer_is_a_failed_attempt),
        WITH_SERVER(it_is_in_its_sandbox),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
