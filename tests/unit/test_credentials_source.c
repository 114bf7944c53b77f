#include "cloud/credentials_source.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "base/time.h"
#include "host/clock.h"
#include "lib/peer.h"

/* ---- a credentials endpoint ---------------------------------------------------------------------------- */

enum { REQUESTS_MAX = 16, HEAD_SIZE = 8192 };

static struct peer peer;
static struct {
    int status;      /* 200 */
    int64_t life_ms; /* of the keys */
    bool hangs_up;
    const char *same_key; /* null: another one for each request */
    char requests[REQUESTS_MAX][HEAD_SIZE];
} endpoint;

static void serve(int fd, void *context)
{
    int n = atomic_load(&peer.accepted) - 1;
    char key[16], text[64], body[512], answer[1024];
    (void) context;
    assert_true(n < REQUESTS_MAX);
    snprintf(key, sizeof key, "KEY%d", n);
    if (!peer_read_head(fd, endpoint.requests[n], HEAD_SIZE) || endpoint.hangs_up)
        return;
    struct writer expires = writer_of(text, sizeof text);
    writer_rfc3339_ms(&expires, clock_unix_ms() + endpoint.life_ms);
    int size = snprintf(body, sizeof body,
                        "{\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"secret\",\"Token\":\"token\","
                        "\"Expiration\":\"%s\"}",
                        endpoint.same_key != NULL ? endpoint.same_key : key, writer_terminate(&expires));
    int total = snprintf(answer, sizeof answer, "HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s",
                         endpoint.status, size, body);
    peer_write(fd, answer, (size_t) total);
}

/* ---- the loop around it -------------------------------------------------------------------------------- */

static struct loop loop;
static struct network network;
static struct credentials_source source;
static char uri[64], token_file[128];
static char *env[] = {uri, token_file, NULL};

struct waiter {
    struct credentials_waiter base;
    int called;
    struct credentials_waiter *cancels; /* when it is called */
    bool prepares;                      /* once more, when it is called */
    char key[CREDENTIALS_ID_SIZE];
    struct error err;
};

static void ready(struct credentials_waiter *base)
{
    struct waiter *waiter = LOOP_OWNER(base, struct waiter, base);
    waiter->called++;
    const struct credentials *keys = credentials_source_get(&source, &waiter->err);
    snprintf(waiter->key, sizeof waiter->key, "%s", keys == NULL ? "" : keys->access_key_id);
    if (waiter->cancels != NULL)
        credentials_source_cancel(&source, waiter->cancels);
    if (waiter->prepares) {
        waiter->prepares = false;
        assert_false(credentials_source_prepare(&source, base));
    }
}

static struct waiter new_waiter(void)
{
    return (struct waiter){.base.ready = ready, .err = ERROR_INIT};
}

static int setup(void **state)
{
    (void) state;
    memset(&endpoint, 0, sizeof endpoint);
    endpoint.status = 200;
    endpoint.life_ms = 6 * 3600 * 1000;
    peer_open(&peer, "127.0.0.1", 0, serve, NULL);
    snprintf(uri, sizeof uri, "AWS_CONTAINER_CREDENTIALS_FULL_URI=http://127.0.0.1:%u/keys", peer.port);
    token_file[0] = '\0';
    if (loop_open(&loop, NULL) < 0 || network_open(&network, &loop, NULL, NULL) < 0)
        return -1;
    credentials_source_open(&source, &network, env);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    credentials_source_close(&source);
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    peer_close(&peer);
    return 0;
}

static void turn_for(int ms)
{
    int64_t until_ms = clock_monotonic_ms() + ms;
    while (clock_monotonic_ms() < until_ms)
        assert_int_equal(loop_turn(&loop, 5, NULL), 0);
}

static void turn_until_called(const struct waiter *waiter)
{
    int64_t until_ms = clock_monotonic_ms() + 5000;
    while (waiter->called == 0 && clock_monotonic_ms() < until_ms)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_int_equal(waiter->called, 1);
}

/* ---- the tests ----------------------------------------------------------------------------------------- */

static void one_fetch_serves_all_who_wait(void **state)
{
    struct waiter waiters[3] = {new_waiter(), new_waiter(), new_waiter()};
    struct error err = ERROR_INIT;
    (void) state;
    assert_null(credentials_source_get(&source, &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_string_equal(err.text, "there are no credentials yet");
    for (int i = 0; i < 3; i++)
        assert_false(credentials_source_prepare(&source, &waiters[i].base));
    for (int i = 0; i < 3; i++) {
        turn_until_called(&waiters[i]);
        assert_string_equal(waiters[i].key, "KEY0");
    }
    assert_true(credentials_source_prepare(&source, &waiters[0].base)); /* they are there now */
    turn_for(50);
    assert_int_equal(waiters[0].called, 1);
    assert_int_equal(peer.accepted, 1);
    assert_memory_equal(endpoint.requests[0], "GET /keys HTTP/1.1\r\n", 20);
}

static void keys_that_are_due_go_on_being_used(void **state)
{
    struct waiter first = new_waiter(), second = new_waiter();
    (void) state;
    assert_false(credentials_source_prepare(&source, &first.base));
    turn_until_called(&first);
    source.refresh_at_unix_ms = clock_unix_ms();
    assert_true(credentials_source_prepare(&source, &second.base));
    assert_non_null(source.fetch);
    assert_string_equal(credentials_source_get(&source, NULL)->access_key_id, "KEY0");
    while (source.fetch != NULL)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_string_equal(credentials_source_get(&source, NULL)->access_key_id, "KEY1");
    assert_int_equal(second.called, 0);
}

/* A refresh that fails leaves the old keys, and is tried again after a pause and not with each call. */
static void a_failed_refresh_leaves_the_old_keys(void **state)
{
    struct waiter first = new_waiter(), second = new_waiter();
    (void) state;
    assert_false(credentials_source_prepare(&source, &first.base));
    turn_until_called(&first);
    endpoint.status = 500;
    source.refresh_at_unix_ms = clock_unix_ms();
    assert_true(credentials_source_prepare(&source, &second.base));
    while (source.fetch != NULL)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_string_equal(credentials_source_get(&source, NULL)->access_key_id, "KEY0");
    assert_true(credentials_source_prepare(&source, &second.base));
    assert_null(source.fetch);
    assert_int_equal(peer.accepted, 2);
}

static void expired_keys_are_not_used(void **state)
{
    struct waiter first = new_waiter(), second = new_waiter();
    (void) state;
    assert_false(credentials_source_prepare(&source, &first.base));
    turn_until_called(&first);
    source.clock_offset_ms = endpoint.life_ms; /* by the service's time, not by this host's */
    assert_null(credentials_source_get(&source, NULL));
    endpoint.life_ms *= 2;
    assert_false(credentials_source_prepare(&source, &second.base));
    turn_until_called(&second);
    assert_string_equal(second.key, "KEY1");
}

static void discarded_keys_are_fetched_anew(void **state)
{
    struct waiter first = new_waiter(), second = new_waiter();
    (void) state;
    assert_false(credentials_source_prepare(&source, &first.base));
    turn_until_called(&first);
    credentials_source_discard(&source);
    assert_false(credentials_source_prepare(&source, &second.base));
    turn_until_called(&second);
    assert_string_equal(second.key, "KEY1");
}

static void a_failure_is_everybodys_reason(void **state)
{
    struct waiter first = new_waiter(), second = new_waiter(), third = new_waiter();
    (void) state;
    endpoint.status = 403;
    assert_false(credentials_source_prepare(&source, &first.base));
    assert_false(credentials_source_prepare(&source, &second.base));
    turn_until_called(&first);
    turn_until_called(&second);
    assert_int_equal(first.err.code, ERROR_UNAVAILABLE);
    assert_string_equal(first.err.text, "credentials: status 403");
    assert_string_equal(second.err.text, first.err.text);
    endpoint.status = 200;
    endpoint.hangs_up = true;
    assert_false(credentials_source_prepare(&source, &third.base));
    turn_until_called(&third);
    assert_memory_equal(third.err.text, "credentials: ", 13);
    assert_non_null(strstr(third.err.text, "127.0.0.1:"));
}

static void who_is_cancelled_is_not_called(void **state)
{
    struct waiter first = new_waiter(), second = new_waiter();
    (void) state;
    /* Before the fetch is over, and by another who is called: whichever comes first cancels the other. */
    assert_false(credentials_source_prepare(&source, &first.base));
    credentials_source_cancel(&source, &first.base);
    credentials_source_cancel(&source, &first.base);
    assert_false(credentials_source_prepare(&source, &second.base));
    turn_until_called(&second);
    assert_int_equal(first.called, 0);
    credentials_source_discard(&source);
    first.cancels = &second.base;
    second.cancels = &first.base;
    second.called = 0;
    assert_false(credentials_source_prepare(&source, &first.base));
    assert_false(credentials_source_prepare(&source, &second.base));
    while (source.fetch != NULL)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_int_equal(first.called + second.called, 1);
}

/* Who asks again from inside the call waits for the next fetch. */
static void who_asks_again_waits_again(void **state)
{
    struct waiter waiter = new_waiter();
    (void) state;
    endpoint.status = 500;
    waiter.prepares = true;
    assert_false(credentials_source_prepare(&source, &waiter.base));
    turn_until_called(&waiter);
    endpoint.status = 200;
    waiter.called = 0;
    turn_until_called(&waiter);
    assert_string_equal(waiter.key, "KEY1");
}

static void keys_of_the_environment_need_no_fetch(void **state)
{
    char *keys[] = {"AWS_ACCESS_KEY_ID=AKID", "AWS_SECRET_ACCESS_KEY=secret", NULL};
    char *half[] = {"AWS_ACCESS_KEY_ID=AKID", NULL};
    char *none[] = {NULL};
    struct waiter waiter = new_waiter();
    struct error err = ERROR_INIT;
    (void) state;
    credentials_source_open(&source, &network, keys);
    assert_true(credentials_source_prepare(&source, &waiter.base));
    assert_string_equal(credentials_source_get(&source, NULL)->access_key_id, "AKID");
    credentials_source_close(&source);
    credentials_source_open(&source, &network, half);
    assert_true(credentials_source_prepare(&source, &waiter.base));
    assert_null(credentials_source_get(&source, &err));
    assert_non_null(strstr(err.text, "AWS_SECRET_ACCESS_KEY"));
    credentials_source_open(&source, &network, none);
    assert_true(credentials_source_prepare(&source, &waiter.base));
    assert_null(credentials_source_get(&source, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_int_equal(waiter.called, 0);
    assert_int_equal(peer.accepted, 0);
}

/* ---- the token file ------------------------------------------------------------------------------------ */

/* Writes a token of so many bytes, and opens the source with it. */
static void open_with_token(size_t len)
{
    char path[] = "/tmp/fumidai-token-XXXXXX", text[8192];
    int fd = mkstemp(path);
    assert_true(fd >= 0 && len <= sizeof text);
    memset(text, 't', len);
    assert_int_equal(write(fd, text, len), len);
    close(fd);
    snprintf(token_file, sizeof token_file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=%s", path);
    credentials_source_open(&source, &network, env);
}

static void close_token(void)
{
    unlink(strchr(token_file, '=') + 1);
    token_file[0] = '\0';
}

static void a_token_file_is_sent_whole(void **state)
{
    static const size_t sizes[] = {1, 1000, CREDENTIALS_AUTHORIZATION_SIZE - 1};
    (void) state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct waiter waiter = new_waiter();
        open_with_token(sizes[i]);
        assert_false(credentials_source_prepare(&source, &waiter.base));
        turn_until_called(&waiter);
        const char *value = strstr(endpoint.requests[i], "uthorization: ");
        assert_non_null(value);
        assert_int_equal(strspn(value + 14, "t"), sizes[i]);
        close_token();
    }
}

/* It was cut silently, and the endpoint refused the half of it. */
static void a_token_file_that_is_too_long_says_so(void **state)
{
    struct waiter waiter = new_waiter();
    struct error err = ERROR_INIT;
    char expected[256];
    (void) state;
    open_with_token(CREDENTIALS_AUTHORIZATION_SIZE);
    assert_true(credentials_source_prepare(&source, &waiter.base)); /* nothing to wait for */
    assert_null(credentials_source_get(&source, &err));
    snprintf(expected, sizeof expected,
             "credentials: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %s has more than 4096 bytes",
             strchr(token_file, '=') + 1);
    assert_string_equal(err.text, expected);
    close_token();
    strcpy(token_file, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=/nowhere/token");
    credentials_source_open(&source, &network, env);
    assert_true(credentials_source_prepare(&source, &waiter.base));
    assert_null(credentials_source_get(&source, &err));
    assert_string_equal(err.text, "credentials: AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: can't read "
                                  "/nowhere/token: No such file or directory");
    assert_int_equal(peer.accepted, 0);
}

#define WITH_ENDPOINT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

static void renewed_keys_serve_while_they_are_fetched_and_changes_are_counted(void **state)
{
    struct waiter first = new_waiter(), renewing = new_waiter(), other = new_waiter();
    (void) state;
    assert_false(credentials_source_prepare(&source, &first.base));
    turn_until_called(&first);
    unsigned before = credentials_source_changes(&source);
    assert_true(credentials_source_renew(&source, &renewing.base));
    assert_true(credentials_source_prepare(&source, &other.base)); /* the old ones are good */
    turn_until_called(&renewing);
    assert_string_equal(renewing.key, "KEY1");
    assert_int_equal(credentials_source_changes(&source), before + 1);
    endpoint.same_key = "KEY1";
    renewing.called = 0;
    assert_true(credentials_source_renew(&source, &renewing.base));
    turn_until_called(&renewing);
    assert_int_equal(credentials_source_changes(&source), before + 1);
    assert_int_equal(other.called, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_ENDPOINT(one_fetch_serves_all_who_wait),
        WITH_ENDPOINT(keys_that_are_due_go_on_being_used),
        WITH_ENDPOINT(renewed_keys_serve_while_they_are_fetched_and_changes_are_counted),
        WITH_ENDPOINT(a_failed_refresh_leaves_the_old_keys),
        WITH_ENDPOINT(expired_keys_are_not_used),
        WITH_ENDPOINT(discarded_keys_are_fetched_anew),
        WITH_ENDPOINT(a_failure_is_everybodys_reason),
        WITH_ENDPOINT(who_is_cancelled_is_not_called),
        WITH_ENDPOINT(who_asks_again_waits_again),
        WITH_ENDPOINT(keys_of_the_environment_need_no_fetch),
        WITH_ENDPOINT(a_token_file_is_sent_whole),
        WITH_ENDPOINT(a_token_file_that_is_too_long_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
