#include "cloud/credentials_chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <unistd.h>

#include "base/env.h"
#include "cloud/aws_call.h"
#include "host/clock.h"
#include "lib/peer.h"
#include "lib/text_file.h"

/* ---- a server for everything --------------------------------------------------------------------------- */

enum { REQUESTS_MAX = 8, REQUEST_SIZE = 16384, ANSWER_SIZE = 4096 };

static struct peer peer;
static struct {
    char requests[REQUESTS_MAX][REQUEST_SIZE]; /* head and body */
    struct {
        const char *path; /* the request line begins so */
        int status;
        const char *body;
        int pause_ms;
    } answers[REQUESTS_MAX];
} server;

static size_t content_length(const char *head)
{
    const char *at = strstr(head, "ontent-Length: ");
    return at != NULL ? (size_t) atoi(at + 15) : 0;
}

static void serve(int fd, void *context)
{
    int n = atomic_load(&peer.accepted) - 1, status = 404;
    const char *body = "";
    char answer[ANSWER_SIZE];
    (void) context;
    if (n >= REQUESTS_MAX || !peer_read_head(fd, server.requests[n], REQUEST_SIZE))
        return;
    size_t head_len = strlen(server.requests[n]);
    peer_read(fd, server.requests[n] + head_len, content_length(server.requests[n]));
    for (int i = 0; i < REQUESTS_MAX && server.answers[i].path != NULL; i++) {
        if (strncmp(server.requests[n], server.answers[i].path, strlen(server.answers[i].path)) != 0)
            continue;
        status = server.answers[i].status;
        body = server.answers[i].body;
        usleep((useconds_t) server.answers[i].pause_ms * 1000);
        break;
    }
    int len = snprintf(answer, sizeof answer, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n\r\n%s", status,
                       strlen(body), body);
    peer_write(fd, answer, (size_t) len);
}

static void answer(const char *path, int status, const char *body)
{
    int i = 0;
    while (server.answers[i].path != NULL)
        i++;
    server.answers[i].path = path;
    server.answers[i].status = status;
    server.answers[i].body = body;
}

/* ---- the client around it ------------------------------------------------------------------------------ */

enum { VARIABLES_MAX = 16, VARIABLE_SIZE = 512 };

static struct loop loop;
static struct network network;
static struct aws_client client;
static struct error failure;
static bool is_open;
static char variables[VARIABLES_MAX][VARIABLE_SIZE];
static char *env[VARIABLES_MAX + 1];
static char config[TEXT_FILE_PATH_SIZE], credentials[TEXT_FILE_PATH_SIZE];
static int called;

/* A "%u" is the server's port. */
static void set(const char *name, const char *format)
{
    int i = 0;
    while (env[i] != NULL)
        i++;
    int len = snprintf(variables[i], VARIABLE_SIZE, "%s=", name);
    const char *port = strstr(format, "%u");
    if (port == NULL)
        snprintf(variables[i] + len, VARIABLE_SIZE - (size_t) len, "%s", format);
    else
        snprintf(variables[i] + len, VARIABLE_SIZE - (size_t) len, "%.*s%u%s", (int) (port - format), format,
                 peer.port, port + 2);
    env[i] = variables[i];
}

static int setup(void **state)
{
    (void) state;
    memset(&server, 0, sizeof server);
    memset(env, 0, sizeof env);
    called = 0;
    peer_open(&peer, "127.0.0.1", 0, serve, NULL);
    text_file_make(config, "");
    text_file_make(credentials, "");
    set("AWS_CONFIG_FILE", config);
    set("AWS_SHARED_CREDENTIALS_FILE", credentials);
    return loop_open(&loop, NULL) < 0 || network_open(&network, &loop, NULL, NULL) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void) state;
    if (is_open)
        aws_client_close(&client);
    is_open = false;
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    peer_close(&peer);
    text_file_remove(config);
    text_file_remove(credentials);
    return 0;
}

static int open_client(const char *profile)
{
    failure = (struct error) ERROR_INIT;
    int result = aws_client_open_chain(&client, &network, env, profile, &failure);
    is_open = result == 0;
    return result;
}

static void ready(struct credentials_waiter *waiter)
{
    (void) waiter;
    called++;
}

/* The access key id, or null with the failure. */
static const char *fetch_again(void)
{
    struct credentials_waiter waiter = {.ready = ready};
    int64_t until_ms = clock_monotonic_ms() + 10000;
    called = 0;
    if (!credentials_source_prepare(&client.credentials, &waiter)) {
        assert_int_equal(called, 0); /* never from inside */
        while (called == 0 && clock_monotonic_ms() < until_ms)
            assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        assert_int_equal(called, 1);
    }
    failure = (struct error) ERROR_INIT;
    const struct credentials *keys = credentials_source_get(&client.credentials, &failure);
    return keys != NULL ? keys->access_key_id : NULL;
}

static const char *fetch(const char *profile)
{
    assert_int_equal(open_client(profile), 0);
    return fetch_again();
}

#define assert_failure(words)                                                                                \
    do {                                                                                                     \
        if (strstr(failure.text, words) == NULL)                                                             \
            print_error("%s\n", failure.text);                                                               \
        assert_non_null(strstr(failure.text, words));                                                        \
    } while (0)

#define DOCUMENT(id) "{\"AccessKeyId\":\"" id "\",\"SecretAccessKey\":\"secret\",\"Token\":\"token\"}"

/* ---- opening ------------------------------------------------------------------------------------------- */

static void region_and_settings_come_from_the_profile(void **state)
{
    (void) state;
    text_file_write(config, "[profile p]\nregion = eu-west-3\nendpoint_url = http://localhost:1\n");
    assert_int_equal(open_client("p"), 0);
    assert_string_equal(client.region, "eu-west-3");
    assert_true(str_equal_text(env_get(client.env, "AWS_ENDPOINT_URL"), "http://localhost:1"));
    aws_client_close(&client);
    set("AWS_REGION", "us-east-2");
    assert_int_equal(open_client("p"), 0);
    assert_string_equal(client.region, "us-east-2");
}

static void without_a_region_the_client_opens(void **state)
{
    (void) state;
    assert_int_equal(open_client(NULL), 0);
    assert_string_equal(client.region, "");
}

static void what_does_not_open(void **state)
{
    (void) state;
    assert_int_equal(open_client("p"), ERROR_NOT_FOUND);
    assert_failure("there is no profile p");
    text_file_write(config, "[default]\nregion = Not A Region\n");
    assert_int_equal(open_client(NULL), ERROR_INVALID);
    assert_failure("is not a valid region");
    text_file_write(config, "[default]\nsource_profile = x\n");
    assert_int_equal(open_client(NULL), ERROR_INVALID);
    assert_failure("needs role_arn");
}

static void files_that_are_not_there_are_empty(void **state)
{
    (void) state;
    set("AWS_ACCESS_KEY_ID", "AKID");
    set("AWS_SECRET_ACCESS_KEY", "secret");
    env[0] = env[1] = variables[2];
    assert_string_equal(fetch(NULL), "AKID");
}

/* ---- sources ------------------------------------------------------------------------------------------- */

static void keys_of_the_environment_and_of_profiles(void **state)
{
    (void) state;
    text_file_write(config, "[profile p]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n");
    set("AWS_ACCESS_KEY_ID", "AKID");
    set("AWS_SECRET_ACCESS_KEY", "secret");
    assert_string_equal(fetch(NULL), "AKID");
    aws_client_close(&client);
    assert_string_equal(fetch("p"), "PROFILE");
    assert_true(client.credentials.refresh_at_unix_ms == INT64_MAX);
}

static void the_containers_endpoint(void **state)
{
    (void) state;
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:%u/keys?x=1");
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", credentials);
    text_file_write(credentials, "bearer x\n");
    answer("GET /keys?x=1 ", 200, DOCUMENT("BOX"));
    assert_string_equal(fetch(NULL), "BOX");
    assert_non_null(strstr(server.requests[0], "uthorization: bearer x\r\n"));
    credentials_source_discard(&client.credentials);
    server.answers[0].status = 403;
    assert_null(fetch_again());
    assert_int_equal(failure.code, ERROR_DENIED);
    assert_failure("credentials: container: credentials: status 403");
}

static void a_process(void **state)
{
    (void) state;
    text_file_write(config,
                    "[default]\ncredential_process = echo '{\"Version\":1,\"AccessKeyId\":\"TOOL\",'; echo "
                    "'\"SecretAccessKey\":\"s\",\"SessionToken\":\"t\"}'\n");
    assert_string_equal(fetch(NULL), "TOOL");
    assert_string_equal(client.credentials.credentials.session_token, "t");
}

static void processes_that_fail(void **state)
{
    static const struct {
        const char *command, *words;
    } CASES[] = {
        {"exit 3", "credential_process of profile default: the process ended with status 3"},
        {"kill -9 $$", "ended with status 137"},
        {"echo no JSON", "credentials: "},
        {"echo '{\"Version\":2}'", "Version is not 1"},
        {"yes", "says more than 16384 bytes"},
        {"echo '{\"Version\":1}'", "no access key id"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "[default]\ncredential_process = %s\n", CASES[i].command);
        text_file_write(config, text);
        assert_null(fetch(NULL));
        assert_failure(CASES[i].words);
        aws_client_close(&client);
        is_open = false;
    }
}

static void closing_ends_a_process(void **state)
{
    struct credentials_waiter waiter = {.ready = ready};
    (void) state;
    text_file_write(config, "[default]\ncredential_process = sleep 60\n");
    assert_int_equal(open_client(NULL), 0);
    assert_false(credentials_source_prepare(&client.credentials, &waiter));
    for (int i = 0; i < 5; i++)
        assert_int_equal(loop_turn(&loop, 5, NULL), 0);
    aws_client_close(&client);
    is_open = false;
    assert_int_equal(called, 0);
}

static void one_fetch_at_a_time_and_again_after_a_failure(void **state)
{
    struct credentials_waiter waiters[2] = {{.ready = ready}, {.ready = ready}};
    (void) state;
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:%u/keys");
    answer("GET /keys ", 500, "");
    assert_null(fetch(NULL));
    assert_int_equal(failure.code, ERROR_UNAVAILABLE);
    server.answers[0].status = 200;
    server.answers[0].body = DOCUMENT("BOX");
    assert_false(credentials_source_prepare(&client.credentials, &waiters[0]));
    assert_false(credentials_source_prepare(&client.credentials, &waiters[1]));
    called = 0;
    while (called < 2)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_int_equal(atomic_load(&peer.accepted), 2);
    assert_string_equal(fetch_again(), "BOX");
    assert_int_equal(atomic_load(&peer.accepted), 2);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(region_and_settings_come_from_the_profile),
        WITH_SERVER(without_a_region_the_client_opens),
        WITH_SERVER(what_does_not_open),
        WITH_SERVER(files_that_are_not_there_are_empty),
        WITH_SERVER(keys_of_the_environment_and_of_profiles),
        WITH_SERVER(the_containers_endpoint),
        WITH_SERVER(a_process),
        WITH_SERVER(processes_that_fail),
        WITH_SERVER(closing_ends_a_process),
        WITH_SERVER(one_fetch_at_a_time_and_again_after_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
