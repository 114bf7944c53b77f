#include "wire/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"
#include "lib/splits.h"

/* ---- requests --------------------------------------------------------------------------------------- */

static void writes_requests(void **state)
{
    char memory[512];
    struct writer out = writer_of(memory, sizeof memory);
    struct error err = ERROR_INIT;
    (void) state;
    struct http_request get = http_request_begin(&out, "GET", STR_LITERAL("/v4/!~?a=b"), STR_LITERAL("h:81"));
    http_request_header_text(&get, "Authorization", "Basic \tx\xFF");
    http_request_header(&get, "x-empty", (struct str){NULL, 0});
    assert_int_equal(http_request_end(&get, (struct str){NULL, 0}, &err), 0);
    assert_string_equal(writer_terminate(&out), "GET /v4/!~?a=b HTTP/1.1\r\nHost: h:81\r\n"
                                                "Authorization: Basic \tx\xFF\r\nx-empty: \r\n\r\n");

    out = writer_of(memory, sizeof memory);
    struct http_request post = http_request_begin(&out, "POST", STR_LITERAL("/"), STR_LITERAL("[::1]"));
    assert_int_equal(http_request_end(&post, STR_LITERAL("{\"a\":1}\r\n"), &err), 0);
    assert_string_equal(writer_terminate(&out),
                        "POST / HTTP/1.1\r\nHost: [::1]\r\nContent-Length: 9\r\n\r\n{\"a\":1}\r\n");

    out = writer_of(memory, sizeof memory);
    struct http_request empty = http_request_begin(&out, "PUT", STR_LITERAL("/"), STR_LITERAL("h"));
    assert_int_equal(http_request_end(&empty, (struct str){NULL, 0}, &err), 0);
    assert_string_equal(writer_terminate(&out), "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");

    out = writer_of(memory, sizeof memory);
    struct http_request tunnel =
        http_request_begin(&out, "CONNECT", STR_LITERAL("ecs.example:443"), STR_LITERAL("ecs.example:443"));
    http_request_header_text(&tunnel, "Proxy-Authorization", "Basic Og==");
    assert_int_equal(http_request_end(&tunnel, (struct str){NULL, 0}, &err), 0);
    assert_string_equal(writer_terminate(&out),
                        "CONNECT ecs.example:443 HTTP/1.1\r\nHost: ecs.example:443\r\n"
                        "Proxy-Authorization: Basic Og==\r\n\r\n");
}

static const struct {
    const char *method;
    struct str target, host;
    const char *name;
    struct str value;
    const char *error;
} bad_requests[] = {
#define TARGET STR_LITERAL("/")
#define HOST   STR_LITERAL("h")
#define VALUE  STR_LITERAL("v")
    {"", TARGET, HOST, "x", VALUE, "HTTP request: the method is not a token"},
    {"GET /", TARGET, HOST, "x", VALUE, "HTTP request: the method is not a token"},
    {"GET\r\n", TARGET, HOST, "x", VALUE, "HTTP request: the method is not a token"},
#define BAD_PATH "HTTP request: the path is empty or contains a byte that is not allowed in one"
    {"GET", STR_LITERAL(""), HOST, "x", VALUE, BAD_PATH},
    {"GET", STR_LITERAL("/ x"), HOST, "x", VALUE, BAD_PATH},
    {"GET", STR_LITERAL("/\r\nX: y"), HOST, "x", VALUE, BAD_PATH},
    {"GET", STR_LITERAL("/\0"), HOST, "x", VALUE, BAD_PATH},
    {"GET", STR_LITERAL("/\xC3\xA9"), HOST, "x", VALUE, BAD_PATH},
    {"GET", STR_LITERAL("/\x7F"), HOST, "x", VALUE, BAD_PATH},
#define BAD_VALUE(name) "HTTP request: the value of " name " contains a control character"
    {"GET", TARGET, STR_LITERAL("h\r\nX: y"), "x", VALUE, BAD_VALUE("Host")},
    {"GET", TARGET, HOST, "x-y", STR_LITERAL("secret\rZ"), BAD_VALUE("x-y")},
    {"GET", TARGET, HOST, "x-y", STR_LITERAL("secret\nZ"), BAD_VALUE("x-y")},
    {"GET", TARGET, HOST, "x-y", STR_LITERAL("secret\0"), BAD_VALUE("x-y")},
    {"GET", TARGET, HOST, "x-y", STR_LITERAL("\x7F"), BAD_VALUE("x-y")},
    {"GET", TARGET, HOST, "", VALUE, "HTTP request: a header's name is not a token"},
    {"GET", TARGET, HOST, "x y", VALUE, "HTTP request: a header's name is not a token"},
    {"GET", TARGET, HOST, "x:", VALUE, "HTTP request: a header's name is not a token"},
    {"GET", TARGET, HOST, "x\r\ny", VALUE, "HTTP request: a header's name is not a token"},
};

static void refuses_injection(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof bad_requests / sizeof bad_requests[0]; i++) {
        char memory[512];
        struct writer out = writer_of(memory, sizeof memory);
        struct error err = ERROR_INIT;
        struct http_request r =
            http_request_begin(&out, bad_requests[i].method, bad_requests[i].target, bad_requests[i].host);
        http_request_header(&r, bad_requests[i].name, bad_requests[i].value);
        http_request_header_text(&r, "also\r\n", "bad"); /* the first problem is the one told */
        assert_int_equal(http_request_end(&r, (struct str){NULL, 0}, &err), ERROR_INVALID);
        assert_string_equal(err.text, bad_requests[i].error);
    }
}

static void requests_tell_when_they_do_not_fit(void **state)
{
    static const char expected[] = "POST /p HTTP/1.1\r\nHost: h\r\na: b\r\nContent-Length: 4\r\n\r\nbody";
    (void) state;
    for (size_t capacity = 0; capacity < sizeof expected; capacity++) {
        char *memory = guard_alloc(capacity);
        struct writer out = writer_of(memory, capacity);
        struct error err = ERROR_INIT;
        struct http_request r = http_request_begin(&out, "POST", STR_LITERAL("/p"), STR_LITERAL("h"));
        http_request_header_text(&r, "a", "b");
        int result = http_request_end(&r, STR_LITERAL("body"), &err);
        assert_int_equal(result, capacity + 1 < sizeof expected ? ERROR_TOO_LARGE : 0);
        if (result == 0)
            assert_true(str_equal_text(writer_view(&out), expected));
        else
            assert_true(str_starts_with(str_from(err.text), "HTTP request: longer than the "));
        guard_free(memory, capacity);
    }
}

/* ---- answers ---------------------------------------------------------------------------------------- */

enum { BODY_SIZE = 4096 };

/* What became of an answer. */
struct outcome {
    struct http_response r;
    int code;   /* of the feed that failed, or of the close */
    bool ended; /* END came before the close */
    int heads;
    size_t used; /* bytes up to END or the error */
    size_t body_len;
    struct error err;
    char body[BODY_SIZE];
};

static void take_event(struct outcome *o, const struct http_event *event)
{
    switch (event->type) {
    case HTTP_EVENT_HEAD:
        o->heads++;
        break;
    case HTTP_EVENT_BODY:
        assert_int_equal(o->heads, 1);
        assert_true(event->body.len > 0 && event->body.len <= BODY_SIZE - o->body_len);
        memcpy(o->body + o->body_len, event->body.ptr, event->body.len);
        o->body_len += event->body.len;
        break;
    case HTTP_EVENT_END:
        assert_int_equal(o->heads, 1);
        assert_false(o->ended);
        o->ended = true;
        break;
    case HTTP_EVENT_NONE:
        break;
    }
}

/* Feeds one piece until nothing comes any more. */
static void feed_piece(struct outcome *o, const uint8_t *piece, size_t len)
{
    struct http_event event;
    size_t used;
    do {
        bool had_ended = o->ended;
        o->code = http_response_feed(&o->r, piece, len, &used, &event, &o->err);
        assert_true(used <= len);
        assert_true(!had_ended || (used == 0 && event.type == HTTP_EVENT_NONE));
        piece += used;
        len -= used;
        o->used += used;
        take_event(o, &event);
    } while (o->code == 0 && event.type != HTTP_EVENT_NONE);
    assert_true(len == 0 || o->ended || o->code != 0);
}

static void finish(struct outcome *o)
{
    if (o->code == 0)
        o->code = http_response_close(&o->r, &o->err);
    if (o->code != 0) { /* and it stays so */
        struct http_event event;
        size_t used = 99;
        struct error err = ERROR_INIT;
        assert_int_equal(http_response_feed(&o->r, "x", 1, &used, &event, &err), o->code);
        assert_int_equal(used, 0);
        assert_int_equal(event.type, HTTP_EVENT_NONE);
        assert_string_equal(err.text, "HTTP answer: refused before");
        assert_int_equal(http_response_close(&o->r, &err), o->code);
    }
}

static struct outcome outcome_new(enum http_exchange exchange, char *head, size_t capacity, uint64_t body_max)
{
    struct outcome o = {.code = 0, .err = ERROR_INIT};
    http_response_init(&o.r, exchange, head, capacity, body_max);
    return o;
}

struct answer {
    const char *bytes;
    enum http_exchange exchange;
    int status;       /* or, if negative, the error's code */
    const char *body; /* or the error's text */
    const char *left; /* what stands behind END; null when END only comes with the close */
};

static const struct answer answers[] = {
    /* by length */
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", HTTP_ORDINARY, 200, "hello", ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", HTTP_ORDINARY, 200, "", ""},
    {"HTTP/1.1 500 \r\ncOnTeNt-LeNgTh:\t5 \r\n\r\nhelloHTTP", HTTP_ORDINARY, 500, "hello", "HTTP"},
    {"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", HTTP_ORDINARY, 200, "x", ""},
    {"HTTP/1.9 299 caf\xC3\xA9\r\nContent-Length: 01\r\n\r\nx", HTTP_ORDINARY, 299, "x", ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", HTTP_ORDINARY, 200, "ok", ""},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", HTTP_ORDINARY, 200, "ok", ""},
    /* chunked */
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nrest", HTTP_ORDINARY, 200,
     "hello", "rest"},
    {"HTTP/1.1 200 "
     "OK\r\ntransfer-encoding:CHUNKED\r\n\r\nA\r\n0123456789\r\n00b\r\nabcdefghijk\r\n000\r\n\r\n",
     HTTP_ORDINARY, 200, "0123456789abcdefghijk", ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b;c=\"d\"\r\nx\r\n1 \t;q\r\ny\r\n0;z\r\n\r\n",
     HTTP_ORDINARY, 200, "xy", ""},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\nX-Sum: 1\r\nContent-Length: "
     "9\r\n\r\n!",
     HTTP_ORDINARY, 200, "\n", "!"},
    /* until the close */
    {"HTTP/1.1 200 OK\r\n\r\nall of it", HTTP_ORDINARY, 200, "all of it", NULL},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", HTTP_ORDINARY, 200, "", NULL},
    {"HTTP/1.1 599 \r\n!#$%&'*+-.^_`|~09AZaz: every token\r\nContent-Length: 1\r\n\r\nx", HTTP_ORDINARY, 599,
     "x", ""},
    /* without a body */
    {"HTTP/1.1 204 No Content\r\n\r\nrest", HTTP_ORDINARY, 204, "", "rest"},
    {"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\nrest", HTTP_ORDINARY, 204, "", "rest"},
    {"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nrest", HTTP_ORDINARY, 304, "", "rest"},
    /* interim answers, and the end of HTTP */
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
     "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
     HTTP_ORDINARY, 200, "x", ""},
    {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x01z",
     HTTP_ORDINARY, 101, "", "\x81\x01z"},
    {"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 3\r\n\r\nabc", HTTP_ORDINARY, 101, "", "abc"},
    {"HTTP/1.1 200 Connection established\r\n\r\n\x16\x03\x03", HTTP_TO_CONNECT, 200, "", "\x16\x03\x03"},
    {"HTTP/1.1 299 OK\r\n\r\nabc", HTTP_TO_CONNECT, 299, "", "abc"},
    {"HTTP/1.1 300 No\r\nContent-Length: 0\r\n\r\n", HTTP_TO_CONNECT, 300, "", ""},
    {"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", HTTP_TO_CONNECT, 200, "", "abc"},
    {"HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\nabc", HTTP_TO_CONNECT, 407, "abc", ""},
    {"HTTP/1.1 502 No\r\n\r\nwhy", HTTP_TO_CONNECT, 502, "why", NULL},
/* no status line */
#define NO_STATUS(quoted) "HTTP answer: \"" quoted "\" is not a status line of HTTP/1"
    {"\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS(""), NULL},
    {"SSH-2.0-OpenSSH_9.2\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("SSH-2.0-OpenSSH_9.2"), NULL},
    {"HTTP/2 200 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/2 200 OK"), NULL},
    {"http/1.1 200 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("http/1.1 200 OK"), NULL},
    {"HTTP/1.x 200 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/1.x 200 OK"), NULL},
    {"HTTP/1.1  200 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/1.1  200 OK"), NULL},
    {"HTTP/1.1 20 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/1.1 20 OK"), NULL},
    {"HTTP/1.1 2000 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/1.1 2000 OK"), NULL},
    {"HTTP/1.1 099 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/1.1 099 OK"), NULL},
    {"HTTP/1.1 600 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/1.1 600 OK"), NULL},
    {"HTTP/1.1 +20 OK\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/1.1 +20 OK"), NULL},
    {"HTTP/1.1 200 \x1B[2J\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("HTTP/1.1 200 ?[2J"), NULL},
    {"HTTP/1.1 100 x\r\n\r\nnonsense\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_STATUS("nonsense"), NULL},
/* no headers */
#define NO_CRLF "HTTP answer: a line of the head does not end in CR LF"
    {"HTTP/1.1 200 OK\n", HTTP_ORDINARY, ERROR_INVALID, NO_CRLF, NULL},
    {"HTTP/1.1 200 OK\r\nA: b\n", HTTP_ORDINARY, ERROR_INVALID, NO_CRLF, NULL},
    {"HTTP/1.1 200 OK\r\n\n", HTTP_ORDINARY, ERROR_INVALID, NO_CRLF, NULL},
    {"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: a header is folded over two lines", NULL},
    {"HTTP/1.1 200 OK\r\n\tfolded\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: a header is folded over two lines", NULL},
    {"HTTP/1.1 200 OK\r\nA : b\r\n", HTTP_ORDINARY, ERROR_INVALID, "HTTP answer: \"A : b\" is not a header",
     NULL},
    {"HTTP/1.1 200 OK\r\n: b\r\n", HTTP_ORDINARY, ERROR_INVALID, "HTTP answer: \": b\" is not a header",
     NULL},
    {"HTTP/1.1 200 OK\r\nA\r\n", HTTP_ORDINARY, ERROR_INVALID, "HTTP answer: \"A\" is not a header", NULL},
    {"HTTP/1.1 200 OK\r\nA(: b\r\n", HTTP_ORDINARY, ERROR_INVALID, "HTTP answer: \"A(: b\" is not a header",
     NULL},
    {"HTTP/1.1 200 OK\r\nA: b\rc\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: the value of A contains a control character", NULL},
    {"HTTP/1.1 200 OK\r\nA: b\r\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: the value of A contains a control character", NULL},
    /* lengths and codings */
    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: two Content-Lengths that differ", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2,3\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: two Content-Lengths that differ", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: Content-Length \"-1\" is not a number", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length:\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: Content-Length \"\" is not a number", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 2,\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: Content-Length \"2,\" is not a number", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: Content-Length \"0x5\" is not a number", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: Content-Length \"18446744073709551616\" is not a number", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_ORDINARY,
     ERROR_INVALID, "HTTP answer: Transfer-Encoding together with Content-Length", NULL},
    {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_ORDINARY, ERROR_INVALID,
     "HTTP answer: Transfer-Encoding in HTTP/1.0", NULL},
#define NO_CODING(quoted)                                                                                    \
    "HTTP answer: Transfer-Encoding \"" quoted "\" is not supported, only \"chunked\" is"
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n", HTTP_ORDINARY, ERROR_UNSUPPORTED,
     NO_CODING("gzip, chunked"), NULL},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n", HTTP_ORDINARY, ERROR_UNSUPPORTED,
     NO_CODING("identity"), NULL},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HTTP_ORDINARY,
     ERROR_UNSUPPORTED, NO_CODING("chunked"), NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 4097\r\n\r\n", HTTP_ORDINARY, ERROR_TOO_LARGE,
     "HTTP answer: the body is larger than 4096 bytes", NULL},
/* chunks */
#define CHUNKED  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define NO_SIZE  "HTTP answer: a chunk's size is not a hexadecimal number"
#define NO_CHUNK "HTTP answer: a chunk is malformed"
    {CHUNKED "\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_SIZE, NULL},
    {CHUNKED "g\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_SIZE, NULL},
    {CHUNKED "0x5\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_SIZE, NULL},
    {CHUNKED "-1\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_SIZE, NULL},
    {CHUNKED " 5\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_SIZE, NULL},
    {CHUNKED ";a\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_SIZE, NULL},
    {CHUNKED "5\nhello", HTTP_ORDINARY, ERROR_INVALID, NO_SIZE, NULL},
    {CHUNKED "5\rx", HTTP_ORDINARY, ERROR_INVALID, NO_CHUNK, NULL},
    {CHUNKED "5 \r\n", HTTP_ORDINARY, ERROR_INVALID, NO_CHUNK, NULL},
    {CHUNKED "5 5\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_CHUNK, NULL},
    {CHUNKED "5;a\nhello", HTTP_ORDINARY, ERROR_INVALID, NO_CHUNK, NULL},
    {CHUNKED "5;a\x01", HTTP_ORDINARY, ERROR_INVALID, NO_CHUNK, NULL},
    {CHUNKED "1\r\nxx", HTTP_ORDINARY, ERROR_INVALID, NO_CHUNK, NULL},
    {CHUNKED "1\r\nx\n", HTTP_ORDINARY, ERROR_INVALID, NO_CHUNK, NULL},
    {CHUNKED "1\r\nx\r\n\r\n", HTTP_ORDINARY, ERROR_INVALID, NO_SIZE, NULL},
    {CHUNKED "1\r\nx\rx", HTTP_ORDINARY, ERROR_INVALID, NO_CHUNK, NULL},
    {CHUNKED "1001\r\n", HTTP_ORDINARY, ERROR_TOO_LARGE, "HTTP answer: the body is larger than 4096 bytes",
     NULL},
    {CHUNKED "1\r\nx\r\n1000\r\n", HTTP_ORDINARY, ERROR_TOO_LARGE,
     "HTTP answer: the body is larger than 4096 bytes", NULL},
    {CHUNKED "ffffffffffffffffffff\r\n", HTTP_ORDINARY, ERROR_TOO_LARGE,
     "HTTP answer: the body is larger than 4096 bytes", NULL},
#define NO_TRAILER "HTTP answer: a trailer does not end in CR LF"
    {CHUNKED "0\r\n\n", HTTP_ORDINARY, ERROR_INVALID, NO_TRAILER, NULL},
    {CHUNKED "0\r\n\rx", HTTP_ORDINARY, ERROR_INVALID, NO_TRAILER, NULL},
    {CHUNKED "0\r\nA: b\n", HTTP_ORDINARY, ERROR_INVALID, NO_TRAILER, NULL},
    {CHUNKED "0\r\nA: b\rx", HTTP_ORDINARY, ERROR_INVALID, NO_TRAILER, NULL},
    {CHUNKED "0\r\n\x01", HTTP_ORDINARY, ERROR_INVALID, NO_TRAILER, NULL},
    /* closed too early */
    {"", HTTP_ORDINARY, ERROR_CLOSED, "the peer closed the connection without an answer", NULL},
    {"HTTP/1.1 100 x\r\n\r\n", HTTP_ORDINARY, ERROR_CLOSED,
     "the peer closed the connection without an answer", NULL},
    {"H", HTTP_ORDINARY, ERROR_CLOSED, "the peer closed the connection in the answer's head", NULL},
    {"HTTP/1.1 200 OK\r\n", HTTP_ORDINARY, ERROR_CLOSED,
     "the peer closed the connection in the answer's head", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r", HTTP_ORDINARY, ERROR_CLOSED,
     "the peer closed the connection in the answer's head", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HTTP_ORDINARY, ERROR_CLOSED,
     "the peer closed the connection after 0 bytes of the answer's body", NULL},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", HTTP_ORDINARY, ERROR_CLOSED,
     "the peer closed the connection after 4 bytes of the answer's body", NULL},
    {CHUNKED "5\r\nhel", HTTP_ORDINARY, ERROR_CLOSED,
     "the peer closed the connection after 3 bytes of the answer's body", NULL},
    {CHUNKED "5\r\nhello\r\n0\r\n", HTTP_ORDINARY, ERROR_CLOSED,
     "the peer closed the connection after 5 bytes of the answer's body", NULL},
    {CHUNKED "5\r\nhello\r\n0\r\n\r", HTTP_ORDINARY, ERROR_CLOSED,
     "the peer closed the connection after 5 bytes of the answer's body", NULL},
};

static void check_outcome(const struct answer *a, const struct outcome *o)
{
    size_t len = strlen(a->bytes);
    if (a->status < 0) {
        if (o->code != a->status || strcmp(o->err.text, a->body) != 0)
            fail_msg("%s\n%d %s", a->bytes, o->code, o->err.text);
        return;
    }
    if (o->code != 0)
        fail_msg("%s\n%s", a->bytes, o->err.text);
    assert_int_equal(o->heads, 1);
    assert_int_equal(o->r.status, a->status);
    assert_int_equal(o->body_len, strlen(a->body));
    assert_memory_equal(o->body, a->body, o->body_len);
    assert_int_equal(o->ended, a->left != NULL);
    assert_int_equal(o->used, len - (a->left != NULL ? strlen(a->left) : 0));
}

static void reads_answers_however_they_are_cut(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        const struct answer *a = &answers[i];
        struct splits s = splits_of(a->bytes, strlen(a->bytes));
        while (splits_next(&s)) {
            char head[512];
            struct outcome o = outcome_new(a->exchange, head, sizeof head, BODY_SIZE);
            const uint8_t *piece;
            size_t piece_len;
            while (o.code == 0 && splits_piece(&s, &piece, &piece_len))
                feed_piece(&o, piece, piece_len);
            finish(&o);
            check_outcome(a, &o);
        }
    }
}

/* NULs have no place in a table of C strings. */
static void refuses_nuls(void **state)
{
    static const struct str texts[] = {
        STR_LITERAL("HTTP/1.1 200 O\0K\r\n"),
        STR_LITERAL("HTTP/1.1 200 OK\r\nA: \0\r\n"),
        STR_LITERAL("HTTP/1.1 200 OK\r\nA\0: b\r\n"),
        STR_LITERAL(CHUNKED "5\0\r\n"),
        STR_LITERAL(CHUNKED "5;\0\r\n"),
        STR_LITERAL(CHUNKED "0\r\n\0\r\n"),
    };
    (void) state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char head[512];
        struct outcome o = outcome_new(HTTP_ORDINARY, head, sizeof head, BODY_SIZE);
        feed_piece(&o, (const uint8_t *) texts[i].ptr, texts[i].len);
        assert_int_equal(o.code, ERROR_INVALID);
        finish(&o);
    }
}

static void looks_up_headers(void **state)
{
    static const char text[] =
        "HTTP/1.1 200 OK\r\nDate: Sun, 22 Nov 2026 15:38:51 GMT\r\nX-A:\t one \t\r\nx-a: two\r\n"
        "Empty:\r\nConnection: x\r\nCONNECTION: keep-alive , Upgrade\r\nContent-Length: 0\r\n\r\n"
        "Behind: not a header\r\n";
    static const struct {
        const char *name;
        const char *value; /* null: absent */
    } expected[] = {
        {"date", "Sun, 22 Nov 2026 15:38:51 GMT"},
        {"x-A", "one"},
        {"EMPTY", ""},
        {"content-length", "0"},
        {"X-", NULL},
        {"X-AB", NULL},
        {"Behind", NULL},
        {"", NULL},
        {"HTTP/1.1 200 OK", NULL},
    };
    char head[512];
    struct outcome o = outcome_new(HTTP_ORDINARY, head, sizeof head, BODY_SIZE);
    (void) state;
    assert_null(http_response_header(&o.r, "date").ptr); /* nothing came yet */
    feed_piece(&o, (const uint8_t *) text, sizeof text - 1);
    assert_int_equal(o.code, 0);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        struct str value = http_response_header(&o.r, expected[i].name);
        assert_int_equal(value.ptr != NULL, expected[i].value != NULL);
        assert_true(str_equal_text(value, expected[i].value));
    }
    assert_true(http_response_lists(&o.r, "connection", "upgrade"));
    assert_true(http_response_lists(&o.r, "connection", "X"));
    assert_false(http_response_lists(&o.r, "connection", "grade"));
    assert_false(http_response_lists(&o.r, "upgrade", "upgrade"));
    size_t position = 0;
    size_t count = 0;
    struct str name;
    struct str value;
    while (http_response_next_header(&o.r, &position, &name, &value))
        count++;
    assert_int_equal(count, 7);
    assert_int_equal(count, o.r.header_count);
    assert_true(str_equal_text(name, "Content-Length"));
}

/* An answer whose head after the status line has exactly `len` bytes. */
static size_t head_of(char *text, size_t len)
{
    struct writer w = writer_of(text, HTTP_HEAD_MAX + 64);
    writer_text(&w, "HTTP/1.1 204 x\r\nA: ");
    size_t start = w.len - 3;
    writer_fill(&w, 'b', len - (w.len - start) - 4);
    writer_text(&w, "\r\n\r\n");
    assert_int_equal(w.len - start, len);
    return w.len;
}

static void bounds_the_head(void **state)
{
    char *text = malloc(HTTP_HEAD_MAX + 64);
    static const size_t capacities[] = {0, 10, 40, 512, HTTP_HEAD_MAX, HTTP_HEAD_MAX + 32};
    (void) state;
    assert_non_null(text);
    for (size_t i = 0; i < sizeof capacities / sizeof capacities[0]; i++) {
        size_t capacity = capacities[i];
        size_t max = capacity < HTTP_HEAD_MAX ? capacity : HTTP_HEAD_MAX;
        char *head = guard_alloc(capacity);
        for (size_t over = 0; over <= 1; over++) {
            size_t len = head_of(text, (max < 40 ? 40 : max) + over);
            struct outcome o = outcome_new(HTTP_ORDINARY, head, capacity, BODY_SIZE);
            feed_piece(&o, (const uint8_t *) text, len);
            bool fits = max >= 40 && over == 0;
            assert_int_equal(o.code, fits ? 0 : ERROR_TOO_LARGE);
            if (!fits) {
                char expected[64];
                struct writer w = writer_of(expected, sizeof expected);
                writer_format(&w, "HTTP answer: the head is larger than %zu bytes", max);
                assert_string_equal(o.err.text, writer_terminate(&w));
            }
            finish(&o);
        }
        guard_free(head, capacity);
    }
    free(text);
}

static void bounds_headers_and_interims(void **state)
{
    char text[4096];
    char head[4096];
    (void) state;
    for (size_t headers = HTTP_HEADERS_MAX; headers <= HTTP_HEADERS_MAX + 1; headers++) {
        struct writer w = writer_of(text, sizeof text);
        writer_text(&w, "HTTP/1.1 204 x\r\n");
        for (size_t i = 0; i < headers; i++)
            writer_text(&w, "a: b\r\n");
        writer_text(&w, "\r\n");
        struct outcome o = outcome_new(HTTP_ORDINARY, head, sizeof head, BODY_SIZE);
        feed_piece(&o, w.start, w.len);
        assert_int_equal(o.code, headers > HTTP_HEADERS_MAX ? ERROR_TOO_LARGE : 0);
        assert_string_equal(o.err.text,
                            headers > HTTP_HEADERS_MAX ? "HTTP answer: more than 64 headers" : "");
    }
    for (size_t interims = HTTP_INTERIM_MAX; interims <= HTTP_INTERIM_MAX + 1; interims++) {
        struct writer w = writer_of(text, sizeof text);
        for (size_t i = 0; i < interims; i++)
            writer_text(&w, "HTTP/1.1 102 x\r\na: b\r\n\r\n");
        writer_text(&w, "HTTP/1.1 204 x\r\n\r\n");
        struct outcome o = outcome_new(HTTP_ORDINARY, head, sizeof head, BODY_SIZE);
        feed_piece(&o, w.start, w.len);
        assert_int_equal(o.code, interims > HTTP_INTERIM_MAX ? ERROR_INVALID : 0);
        assert_string_equal(o.err.text, interims > HTTP_INTERIM_MAX
                                            ? "HTTP answer: more than 8 interim answers (status 102)"
                                            : "");
        if (o.code == 0)
            assert_null(http_response_header(&o.r, "a").ptr); /* an interim answer's headers are gone */
    }
}

static void bounds_chunk_lines_and_trailers(void **state)
{
    char text[HTTP_TRAILER_MAX + 256];
    char head[256];
    (void) state;
    for (size_t over = 0; over <= 1; over++) {
        struct writer w = writer_of(text, sizeof text);
        writer_text(&w, CHUNKED "1;");
        writer_fill(&w, 'e', HTTP_CHUNK_LINE_MAX - 4 + over);
        writer_text(&w, "\r\nx\r\n0\r\n\r\n");
        struct outcome o = outcome_new(HTTP_ORDINARY, head, sizeof head, BODY_SIZE);
        feed_piece(&o, w.start, w.len);
        assert_int_equal(o.code, over ? ERROR_TOO_LARGE : 0);
        assert_string_equal(o.err.text,
                            over ? "HTTP answer: a chunk's first line is longer than 256 bytes" : "");

        w = writer_of(text, sizeof text);
        writer_text(&w, CHUNKED "0\r\nt: ");
        writer_fill(&w, 't', HTTP_TRAILER_MAX - 7 + over);
        writer_text(&w, "\r\n\r\n");
        o = outcome_new(HTTP_ORDINARY, head, sizeof head, BODY_SIZE);
        feed_piece(&o, w.start, w.len);
        assert_int_equal(o.code, over ? ERROR_TOO_LARGE : 0);
        assert_string_equal(o.err.text, over ? "HTTP answer: the trailers are larger than 4096 bytes" : "");
    }
}

/* The same body in its three wrappings, one byte under, at, and over the maximum. */
static void bounds_the_body(void **state)
{
    enum { LENGTH, CHUNKS, UNTIL_CLOSE, WRAPPINGS };
    enum { MAX = 20 };
    (void) state;
    for (size_t i = 0; i < WRAPPINGS; i++) {
        for (size_t len = MAX - 1; len <= MAX + 1; len++) {
            char text[256];
            char head[256];
            struct writer w = writer_of(text, sizeof text);
            const char *filling = &"abcdefghijklmnopqrstu"[MAX + 1 - len];
            if (i == LENGTH)
                writer_format(&w, "HTTP/1.1 200 x\r\nContent-Length: %zu\r\n\r\n%s", len, filling);
            else if (i == CHUNKS)
                writer_format(&w, CHUNKED "%zx\r\n%s\r\n0\r\n\r\n", len, filling);
            else
                writer_format(&w, "HTTP/1.1 200 x\r\n\r\n%s", filling);
            struct splits s = splits_of(text, w.len);
            while (splits_next(&s)) {
                struct outcome o = outcome_new(HTTP_ORDINARY, head, sizeof head, MAX);
                const uint8_t *piece;
                size_t piece_len;
                while (o.code == 0 && splits_piece(&s, &piece, &piece_len))
                    feed_piece(&o, piece, piece_len);
                finish(&o);
                assert_int_equal(o.code, len > MAX ? ERROR_TOO_LARGE : 0);
                assert_true(o.body_len <= MAX);
                assert_memory_equal(o.body, filling, o.body_len);
                assert_string_equal(o.err.text,
                                    len > MAX ? "HTTP answer: the body is larger than 20 bytes" : "");
            }
        }
    }
}

static void a_maximum_of_all_is_no_overflow(void **state)
{
    static const char text[] = CHUNKED "ffffffffffffffff\r\nx";
    static const char larger[] = CHUNKED "10000000000000000\r\nx";
    char head[256];
    struct outcome o = outcome_new(HTTP_ORDINARY, head, sizeof head, UINT64_MAX);
    (void) state;
    feed_piece(&o, (const uint8_t *) text, sizeof text - 1);
    assert_int_equal(o.code, 0);
    assert_int_equal(o.body_len, 1);
    o = outcome_new(HTTP_ORDINARY, head, sizeof head, UINT64_MAX);
    feed_piece(&o, (const uint8_t *) larger, sizeof larger - 1);
    assert_int_equal(o.code, ERROR_TOO_LARGE);
}

/* END needs no byte of its own: it comes when asked again, also with none. */
static void the_end_comes_without_bytes(void **state)
{
    static const char text[] = "HTTP/1.1 204 x\r\n\r\n";
    static const enum http_event_type expected[] = {HTTP_EVENT_HEAD, HTTP_EVENT_END, HTTP_EVENT_NONE,
                                                    HTTP_EVENT_NONE};
    char head[64];
    struct http_response r;
    size_t used = 0;
    (void) state;
    http_response_init(&r, HTTP_ORDINARY, head, sizeof head, 0);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        struct http_event event;
        assert_int_equal(
            http_response_feed(&r, i == 0 ? text : NULL, i == 0 ? sizeof text - 1 : 0, &used, &event, NULL),
            0);
        assert_int_equal(event.type, expected[i]);
    }
}

/* A peer that closes right behind its answer: nobody need have asked for END before. */
static void a_close_behind_the_last_byte_is_an_end(void **state)
{
    static const char text[] = "HTTP/1.1 204 x\r\n\r\n";
    char head[64];
    struct http_response r;
    struct http_event event;
    size_t used = 0;
    (void) state;
    http_response_init(&r, HTTP_ORDINARY, head, sizeof head, 0);
    assert_int_equal(http_response_feed(&r, text, sizeof text - 1, &used, &event, NULL), 0);
    assert_int_equal(event.type, HTTP_EVENT_HEAD);
    assert_int_equal(http_response_close(&r, NULL), 0);
    assert_int_equal(http_response_feed(&r, NULL, 0, &used, &event, NULL), 0);
    assert_int_equal(event.type, HTTP_EVENT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_requests),
        cmocka_unit_test(refuses_injection),
        cmocka_unit_test(requests_tell_when_they_do_not_fit),
        cmocka_unit_test(reads_answers_however_they_are_cut),
        cmocka_unit_test(refuses_nuls),
        cmocka_unit_test(looks_up_headers),
        cmocka_unit_test(bounds_the_head),
        cmocka_unit_test(bounds_headers_and_interims),
        cmocka_unit_test(bounds_chunk_lines_and_trailers),
        cmocka_unit_test(bounds_the_body),
        cmocka_unit_test(a_maximum_of_all_is_no_overflow),
        cmocka_unit_test(the_end_comes_without_bytes),
        cmocka_unit_test(a_close_behind_the_last_byte_is_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
