#include "cloud/aws_call.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/time.h"
#include "host/clock.h"
#include "lib/peer.h"

/* ---- a service and a credentials endpoint at one port -------------------------------------------------- */

enum { REQUESTS_MAX = 8, HEAD_SIZE = 4096 };

static struct peer peer;
static struct {
    const char *answers[REQUESTS_MAX]; /* of the service: status line, headers, body; null: hangs up */
    int count;                         /* of requests to the service */
    int fetches;
    char requests[REQUESTS_MAX][HEAD_SIZE];
} service;

static void serve(int fd, void *context)
{
    char head[HEAD_SIZE], answer[1024];
    (void) context;
    if (!peer_read_head(fd, head, sizeof head))
        return;
    if (strncmp(head, "GET /keys ", 10) == 0) {
        char body[256];
        int size = snprintf(body, sizeof body,
                            "{\"AccessKeyId\":\"KEY%d\",\"SecretAccessKey\":\"s\",\"Token\":\"t\","
                            "\"Expiration\":\"2199-01-01T00:00:00Z\"}",
                            service.fetches++);
        size = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, body);
        peer_write(fd, answer, (size_t) size);
        return;
    }
    assert_true(service.count < REQUESTS_MAX);
    strcpy(service.requests[service.count], head);
    const char *text = service.answers[service.count++];
    if (text != NULL)
        peer_write(fd, text, strlen(text));
}

#define GOOD    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#define EXPIRED "HTTP/1.1 400 X\r\nx-amzn-errortype: ExpiredTokenException\r\nContent-Length: 0\r\n\r\n"
#define SKEWED                                                                                               \
    "HTTP/1.1 400 X\r\nDate: Sun, 22 Nov 2099 15:38:51 GMT\r\nx-amzn-errortype: RequestTimeTooSkewed\r\n"    \
    "Content-Length: 0\r\n\r\n"
#define UNAUTHORIZED                                                                                         \
    "HTTP/1.1 400 X\r\nContent-Length: 71\r\n\r\n"                                                           \
    "<BadRequest xmlns=\"\"><message>Unauthorized request.</message></BadRequest>"
#define FAILED "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"

/* ---- a call -------------------------------------------------------------------------------------------- */

static struct loop loop;
static struct network network;
static struct aws_client client;
static struct aws_call call;
static struct endpoint own_endpoint;
static int done_count;
static bool starting, make_fails;
static char keys_uri[96], service_uri[96];
static char *env[] = {keys_uri, service_uri, "AWS_REGION=eu-west-1", NULL};

static int make(struct aws_call *made, struct api_request *request, const struct endpoint *endpoint,
                struct error *err)
{
    assert_ptr_equal(made, &call);
    if (make_fails)
        return error_set(err, ERROR_INVALID, "a bad path");
    return api_request_json(request, endpoint, "Service.Act", STR_LITERAL("{}"), err);
}

static enum api_class classify(struct aws_call *answered, const struct api_answer *answer,
                               struct api_failure *failure, struct error *err)
{
    return api_classify(&answered->operation->api, answer, failure, err);
}

static const struct aws_operation is_signed = {{ENDPOINT_ECS, "Act", 200}, true, make, classify};
static const struct aws_operation is_unsigned = {{ENDPOINT_ECS, "Act", 200}, false, make, classify};

static void done(struct aws_call *finished)
{
    assert_ptr_equal(finished, &call);
    assert_false(starting);
    done_count++;
}

static int setup(void **state)
{
    (void) state;
    memset(&service, 0, sizeof service);
    done_count = 0;
    make_fails = false;
    peer_open(&peer, "127.0.0.1", 0, serve, NULL);
    snprintf(keys_uri, sizeof keys_uri, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%u/keys",
             peer.port);
    snprintf(service_uri, sizeof service_uri, "AWS_ENDPOINT_URL_ECS=http://127.0.0.1:%u/ecs", peer.port);
    if (loop_open(&loop, NULL) < 0 || network_open(&network, &loop, NULL, NULL) < 0)
        return -1;
    aws_client_open(&client, &network, env);
    call = (struct aws_call){.client = &client, .operation = &is_signed, .done = done};
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    aws_call_cancel(&call);
    aws_client_close(&client);
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    peer_close(&peer);
    return 0;
}

static void start(void)
{
    starting = true;
    aws_call_start(&call, clock_monotonic_ms() + 5000);
    starting = false;
}

/* One attempt, to its end. */
static enum api_class run(void)
{
    int before = done_count;
    start();
    while (done_count == before)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_int_equal(done_count, before + 1);
    assert_false(call.active);
    return call.class;
}

static void expect_key(int request, const char *key)
{
    char text[64];
    snprintf(text, sizeof text, "Credential=%s/", key);
    assert_non_null(strstr(service.requests[request], text));
}

/* ---- the tests ----------------------------------------------------------------------------------------- */

static void fetches_keys_signs_and_sends(void **state)
{
    (void) state;
    service.answers[0] = service.answers[1] = GOOD;
    assert_int_equal(run(), API_OK);
    assert_int_equal(call.err.code, ERROR_NONE);
    assert_memory_equal(service.requests[0], "POST /ecs/ HTTP/1.1\r\n", 21);
    expect_key(0, "KEY0");
    assert_non_null(strstr(service.requests[0], "/eu-west-1/ecs/aws4_request"));
    assert_int_equal(run(), API_OK); /* the keys are there now */
    assert_int_equal(service.fetches, 1);
}

static void an_unsigned_call_needs_no_keys(void **state)
{
    char url[64];
    (void) state;
    service.answers[0] = GOOD;
    snprintf(url, sizeof url, "http://127.0.0.1:%u/own", peer.port);
    assert_int_equal(endpoint_from_url(&own_endpoint, str_from(url), NULL), 0);
    call.operation = &is_unsigned;
    call.fixed_endpoint = &own_endpoint;
    assert_int_equal(run(), API_OK);
    assert_memory_equal(service.requests[0], "POST /own/ HTTP/1.1\r\n", 21);
    assert_null(strstr(service.requests[0], "uthorization"));
    assert_int_equal(service.fetches, 0);
}

static void refused_keys_are_replaced_once(void **state)
{
    (void) state;
    service.answers[0] = EXPIRED;
    service.answers[1] = GOOD;
    assert_int_equal(run(), API_OK);
    expect_key(0, "KEY0");
    expect_key(1, "KEY1");
    service.answers[2] = service.answers[3] = EXPIRED;
    assert_int_equal(run(), API_RETRY);
    assert_int_equal(service.count, 4);
    assert_int_equal(service.fetches, 3);
    assert_non_null(strstr(call.err.text, "Act: 400 ExpiredTokenException"));
}

/* It may mean old keys or a missing permission: once with fresh ones, then it is the permission. */
static void an_unauthorized_request_is_denied_in_the_end(void **state)
{
    (void) state;
    service.answers[0] = UNAUTHORIZED;
    service.answers[1] = GOOD;
    assert_int_equal(run(), API_OK);
    expect_key(1, "KEY1");
    service.answers[2] = service.answers[3] = UNAUTHORIZED;
    assert_int_equal(run(), API_FAILED);
    assert_int_equal(service.count, 4);
    assert_int_equal(call.err.code, ERROR_DENIED);
    assert_string_equal(call.err.text,
                        "Act: 400 BadRequest: the task role lacks ecs:Act (Unauthorized request.)");
}

/* The server's time is taken once a call, and stays for the calls after it. */
static void a_wrong_clock_is_mended_once(void **state)
{
    (void) state;
    service.answers[0] = SKEWED;
    service.answers[1] = service.answers[2] = GOOD;
    assert_int_equal(run(), API_OK);
    assert_null(strstr(service.requests[0], ": 20991122T15"));
    assert_non_null(strstr(service.requests[1], ": 20991122T15"));
    assert_int_equal(run(), API_OK);
    assert_non_null(strstr(service.requests[2], ": 20991122T15"));
}

static void a_clock_that_stays_wrong_is_a_failure(void **state)
{
    (void) state;
    service.answers[0] = service.answers[1] = SKEWED;
    client.credentials.clock_offset_ms = 0;
    assert_int_equal(run(), API_RETRY);
    assert_int_equal(service.count, 2);
}

static void what_fails_says_in_which_call(void **state)
{
    (void) state;
    service.answers[0] = FAILED;
    assert_int_equal(run(), API_RETRY);
    assert_string_equal(call.err.text, "Act: 500: the service failed");
    assert_int_equal(run(), API_RETRY); /* hangs up */
    assert_memory_equal(call.err.text, "Act: connection with 127.0.0.1:", 31);
    make_fails = true;
    assert_int_equal(run(), API_FAILED);
    assert_string_equal(call.err.text, "Act: a bad path");
}

static void without_keys_nothing_is_sent(void **state)
{
    char *no_keys[] = {service_uri, "AWS_REGION=eu-west-1", NULL};
    (void) state;
    aws_client_open(&client, &network, no_keys);
    assert_int_equal(run(), API_FAILED);
    assert_int_equal(call.err.code, ERROR_NOT_FOUND);
    char *no_region[] = {keys_uri, NULL};
    aws_client_open(&client, &network, no_region);
    assert_int_equal(run(), API_FAILED);
    assert_memory_equal(call.err.text, "Act: ", 5);
    assert_int_equal(service.count, 0);
}

static void can_be_cancelled_at_any_time(void **state)
{
    (void) state;
    for (int turns = 0; turns < 12; turns++) {
        service.answers[0] = GOOD;
        service.count = 0;
        start();
        for (int i = 0; i < turns && call.active; i++)
            assert_int_equal(loop_turn(&loop, 5, NULL), 0);
        aws_call_cancel(&call);
        done_count = 0;
        for (int i = 0; i < 10; i++)
            assert_int_equal(loop_turn(&loop, 1, NULL), 0);
        assert_int_equal(done_count, 0);
        credentials_source_discard(&client.credentials);
    }
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(fetches_keys_signs_and_sends),
        WITH_SERVICE(an_unsigned_call_needs_no_keys),
        WITH_SERVICE(refused_keys_are_replaced_once),
        WITH_SERVICE(a_wrong_clock_is_mended_once),
        WITH_SERVICE(an_unauthorized_request_is_denied_in_the_end),
        WITH_SERVICE(a_wrong_clock_is_mended_once),
        WITH_SERVICE(a_clock_that_stays_wrong_is_a_failure),
        WITH_SERVICE(what_fails_says_in_which_call),
        WITH_SERVICE(without_keys_nothing_is_sent),
        WITH_SERVICE(can_be_cancelled_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
