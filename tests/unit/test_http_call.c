#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/loop.h"
#include "lib/peer.h"
#include "lib/test_certificates.h"
#include "lib/text_file.h"
#include "net/http_call.h"
#include "net/network.h"

static struct loop loop;
static struct network network;

static int setup(void **state)
{
    (void) state;
    if (loop_open(&loop, NULL) != 0 || network_open(&network, &loop, NULL, NULL) != 0)
        return -1;
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    return 0;
}

/* --- a server that reads one request and gives a prepared answer ---------------------------------------- */

struct script {
    const char *answer;
    size_t len;
    bool slowly; /* a byte at a time */
    bool keep_open;
    char request[4096];
};

static void serve_script(int fd, void *context)
{
    struct script *script = context;
    if (!peer_read_head(fd, script->request, sizeof script->request))
        return;
    size_t piece = script->slowly ? 1 : script->len;
    for (size_t at = 0; at < script->len; at += piece) {
        if (!peer_write(fd, script->answer + at, piece))
            return;
        if (script->slowly)
            usleep(200);
    }
    if (script->keep_open) {
        char byte;
        peer_read(fd, &byte, 1);
    }
}

static const char get[] = "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";

static bool is_done;

static void note_done(struct http_call *call, void *owner)
{
    (void) call;
    assert_ptr_equal(owner, &is_done);
    assert_false(is_done);
    is_done = true;
}

static struct http_call_request request_to(uint16_t port)
{
    loop_turn(&loop, 0, NULL);
    return (struct http_call_request){.host = "127.0.0.1",
                                      .port = port,
                                      .bytes = STR_LITERAL(get),
                                      .deadline_ms = loop_now_ms(&loop) + 5000};
}

static struct http_call *run_call(const struct http_call_request *request)
{
    struct http_call *call;
    struct error err = ERROR_INIT;
    is_done = false;
    assert_int_equal(http_call_start(&call, &network, request, note_done, &is_done, &err), 0);
    for (int turns = 0; !is_done && turns < 20000; turns++)
        loop_turn(&loop, 50, NULL);
    assert_true(is_done);
    return call;
}

static struct http_call *run_script(struct script *script)
{
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, serve_script, script);
    struct http_call_request request = request_to(peer.port);
    struct http_call *call = run_call(&request);
    peer_close(&peer);
    return call;
}

#define SCRIPT(text)                                                                                         \
    {                                                                                                        \
        .answer = (text), .len = sizeof(text) - 1                                                            \
    }

static void expect_body(struct script script, int status, const char *body)
{
    for (int slowly = 0; slowly < 2; slowly++) {
        script.slowly = slowly == 1;
        struct error err = ERROR_INIT;
        struct http_call *call = run_script(&script);
        assert_int_equal(http_call_result(call, &err), 0);
        assert_int_equal(http_call_status(call), status);
        assert_true(str_equal_text(http_call_body(call), body));
        assert_string_equal(script.request, get);
        http_call_close(call);
    }
}

static void answers_of_every_shape_are_understood(void **state)
{
    (void) state;
    struct script with_length = SCRIPT("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello");
    with_length.keep_open = true;
    expect_body(with_length, 200, "hello");
    struct script chunked =
        SCRIPT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n");
    chunked.keep_open = true;
    expect_body(chunked, 200, "hello");
    struct script until_close = SCRIPT("HTTP/1.1 500 Oops\r\n\r\nhello");
    expect_body(until_close, 500, "hello");
    struct script empty = SCRIPT("HTTP/1.1 204 No Content\r\n\r\n");
    empty.keep_open = true;
    expect_body(empty, 204, "");
    struct script interim =
        SCRIPT("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
    expect_body(interim, 200, "x");
}

static void headers_can_be_read(void **state)
{
    (void) state;
    struct script script =
        SCRIPT("HTTP/1.1 403 Forbidden\r\ndate: Sun, 22 Nov 2026 15:38:51 GMT\r\nContent-Length: 0\r\n\r\n");
    struct http_call *call = run_script(&script);
    assert_int_equal(http_call_status(call), 403);
    assert_true(str_equal_text(http_call_header(call, "Date"), "Sun, 22 Nov 2026 15:38:51 GMT"));
    assert_null(http_call_header(call, "X-Absent").ptr);
    http_call_close(call);
}

static void broken_answers_are_errors_in_words(void **state)
{
    (void) state;
    static const struct {
        struct script script;
        int code;
        const char *text; /* behind "answer of 127.0.0.1:<port>: " */
    } cases[] = {
        {SCRIPT("SSH-2.0-OpenSSH_9.2\r\n"), ERROR_INVALID, "HTTP answer"},
        {SCRIPT("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"), ERROR_CLOSED, ""},
        {SCRIPT("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Len"), ERROR_CLOSED, ""},
        {SCRIPT(""), ERROR_CLOSED, ""},
        {SCRIPT("HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\nhello"), ERROR_TOO_LARGE, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct script script = cases[i].script;
        struct error err = ERROR_INIT;
        struct http_call *call = run_script(&script);
        assert_int_equal(http_call_result(call, &err), cases[i].code);
        assert_int_equal(strncmp(err.text, "answer of 127.0.0.1:", 20), 0);
        assert_non_null(strstr(err.text, cases[i].text));
        http_call_close(call);
    }
}

static void the_body_is_bounded_and_grows_to_the_bound(void **state)
{
    (void) state;
    enum { BODY = 300000 };
    static char answer[BODY + 100];
    int head = snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BODY);
    for (int i = 0; i < BODY; i++)
        answer[head + i] = (char) ('a' + i % 26);
    for (size_t bound = BODY - 1; bound <= BODY; bound++) {
        struct script script = {.answer = answer, .len = (size_t) head + BODY};
        struct peer peer;
        peer_open(&peer, "127.0.0.1", 0, serve_script, &script);
        struct http_call_request request = request_to(peer.port);
        request.body_max = bound;
        struct http_call *call = run_call(&request);
        if (bound < BODY) {
            assert_int_equal(http_call_result(call, NULL), ERROR_TOO_LARGE);
        } else {
            assert_int_equal(http_call_result(call, NULL), 0);
            assert_int_equal(http_call_body(call).len, BODY);
            assert_memory_equal(http_call_body(call).ptr, answer + head, BODY);
        }
        http_call_close(call);
        peer_close(&peer);
    }
}

static void a_silent_server_is_a_time_out(void **state)
{
    (void) state;
    struct script script = SCRIPT("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhell");
    script.keep_open = true;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, serve_script, &script);
    struct http_call_request request = request_to(peer.port);
    request.deadline_ms = loop_now_ms(&loop) + 80;
    struct http_call *call = run_call(&request);
    struct error err = ERROR_INIT;
    assert_int_equal(http_call_result(call, &err), ERROR_TIMEOUT);
    char expected[64];
    snprintf(expected, sizeof expected, "127.0.0.1:%u: no complete answer within ", peer.port);
    assert_int_equal(strncmp(err.text, expected, strlen(expected)), 0);
    http_call_close(call);
    peer_close(&peer);
}

static void a_refused_connection_tells_why(void **state)
{
    (void) state;
    uint16_t port = peer_unused_port();
    struct http_call_request request = request_to(port);
    struct http_call *call = run_call(&request);
    struct error err = ERROR_INIT;
    assert_int_equal(http_call_result(call, &err), ERROR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "Connection refused"));
    assert_int_equal(http_call_status(call), 0);
    assert_null(http_call_header(call, "Date").ptr);
    http_call_close(call);
}

static void a_request_has_bounds(void **state)
{
    (void) state;
    static char large[HTTP_CALL_REQUEST_MAX + 1];
    struct http_call *call;
    struct http_call_request request = request_to(1);
    request.bytes = (struct str){large, sizeof large};
    assert_int_equal(http_call_start(&call, &network, &request, note_done, &is_done, NULL), ERROR_TOO_LARGE);
    assert_null(call);
    request.bytes.len = 0;
    assert_int_equal(http_call_start(&call, &network, &request, note_done, &is_done, NULL), ERROR_TOO_LARGE);
}

/* The largest request, over a socket that takes it in pieces, and an answer that comes before it is read. */
static void swallow_and_answer(int fd, void *context)
{
    static char bytes[HTTP_CALL_REQUEST_MAX];
    size_t *got = context;
    *got = peer_read(fd, bytes, sizeof bytes);
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    peer_write(fd, answer, sizeof answer - 1);
}

static void a_large_request_is_sent_whole(void **state)
{
    (void) state;
    static char large[HTTP_CALL_REQUEST_MAX];
    memset(large, 'x', sizeof large);
    size_t got = 0;
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, swallow_and_answer, &got);
    struct http_call_request request = request_to(peer.port);
    request.bytes = (struct str){large, sizeof large};
    struct http_call *call = run_call(&request);
    assert_int_equal(http_call_result(call, NULL), 0);
    assert_int_equal(http_call_status(call), 200);
    http_call_close(call);
    peer_close(&peer);
    assert_int_equal(got, sizeof large);
}

static void cancelling_at_any_time_leaves_nothing_behind(void **state)
{
    (void) state;
    struct script script = SCRIPT("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhell");
    struct peer peer;
    peer_open(&peer, "127.0.0.1", 0, serve_script, &script);
    for (int turns = 0; turns < 4; turns++) {
        struct http_call *call;
        struct http_call_request request = request_to(peer.port);
        is_done = false;
        assert_int_equal(http_call_start(&call, &network, &request, note_done, &is_done, NULL), 0);
        for (int i = 0; i < turns && !is_done; i++)
            loop_turn(&loop, 10, NULL);
        http_call_close(call);
        assert_null(loop.timers);
    }
    http_call_close(NULL);
    peer_close(&peer);
}

/* --- over TLS ------------------------------------------------------------------------------------------- */

static void serve_tls(br_sslio_context *io, void *context)
{
    char byte;
    for (int newlines = 0; newlines < 2 && br_sslio_read(io, &byte, 1) == 1;)
        newlines = byte == '\n' ? newlines + 1 : byte == '\r' ? newlines : 0;
    const char *answer = context;
    br_sslio_write_all(io, answer, strlen(answer));
    br_sslio_flush(io);
}

static void over_tls_only_a_goodbye_ends_a_body_without_length(void **state)
{
    (void) state;
    char path[TEXT_FILE_PATH_SIZE];
    text_file_make(path, CERTIFICATE_ROOT_EC);
    assert_int_equal(trust_add_file(&network.trust, path), 1);
    text_file_remove(path);
    char answer[] = "HTTP/1.1 200 OK\r\n\r\nhello";
    for (int cut_off = 0; cut_off < 2; cut_off++) {
        struct tls_peer tls_peer = {CERTIFICATE_LEAF_EC, KEY_LEAF_EC, false, cut_off == 1, serve_tls, answer};
        struct peer peer;
        peer_open(&peer, "127.0.0.1", 0, tls_peer_serve, &tls_peer);
        struct http_call_request request = request_to(peer.port);
        request.host = "localhost";
        request.tls = true;
        struct http_call *call = run_call(&request);
        struct error err = ERROR_INIT;
        assert_int_equal(http_call_result(call, &err), cut_off ? ERROR_CLOSED : 0);
        if (cut_off)
            assert_non_null(strstr(err.text, "the connection ended in the middle of it"));
        else
            assert_true(str_equal_text(http_call_body(call), "hello"));
        http_call_close(call);
        peer_close(&peer);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_of_every_shape_are_understood, setup, teardown),
        cmocka_unit_test_setup_teardown(headers_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(broken_answers_are_errors_in_words, setup, teardown),
        cmocka_unit_test_setup_teardown(the_body_is_bounded_and_grows_to_the_bound, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_server_is_a_time_out, setup, teardown),
        cmocka_unit_test_setup_teardown(a_refused_connection_tells_why, setup, teardown),
        cmocka_unit_test_setup_teardown(a_request_has_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(a_large_request_is_sent_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(cancelling_at_any_time_leaves_nothing_behind, setup, teardown),
        cmocka_unit_test_setup_teardown(over_tls_only_a_goodbye_ends_a_body_without_length, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
