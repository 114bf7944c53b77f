#include "wire/socks5.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/splits.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define BYTES(text)  text, sizeof(text) - 1

static struct socks5 server;
static uint8_t sent[2 * SOCKS5_OUT_SIZE];
static size_t sent_len;

/* A byte at a time. */
static void drain(void)
{
    size_t len;
    const uint8_t *out;
    while ((out = socks5_out_buf(&server, &len)) != NULL) {
        assert_true(sent_len < sizeof sent);
        sent[sent_len++] = out[0];
        socks5_out_ack(&server, 1);
    }
    assert_int_equal(len, 0);
}

struct row {
    const char *in;
    size_t len;
    const char *host; /* null: refused */
    uint16_t port;
    const char *out; /* before socks5_answer */
    size_t out_len;
    size_t behind; /* bytes of `in` that are the stream's */
};

static const struct row REQUESTS[] = {
    {BYTES("\5\1\0\5\1\0\1\12\0\0\1\x15\x38"), "10.0.0.1", 5432, BYTES("\5\0"), 0},
    {BYTES("\5\2\2\0\5\1\0\3\2db\0\x50GET /"), "db", 80, BYTES("\5\0"), 5},
    {BYTES("\5\1\0\5\1\0\4\xFD\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\0\x16"), "fd00::1", 22, BYTES("\5\0"), 0},
    {BYTES("\4\1\0\x50\12\0\0\2\0"), "10.0.0.2", 80, "", 0, 0},
    {BYTES("\4\1\0\x50\12\0\0\2me\0x"), "10.0.0.2", 80, "", 0, 1},
    {BYTES("\4\1\0\x50\0\0\0\1me\0db.internal\0SSH"), "db.internal", 80, "", 0, 3},
    {BYTES("CONNECT db.internal:5432 HTTP/1.1\r\nHost: db\r\nX: y\r\n\r\n\26\3"), "db.internal", 5432, "", 0,
     2},
    {BYTES("CONNECT [fd00::1]:443 HTTP/1.0\n\n"), "fd00::1", 443, "", 0, 0},

    {BYTES("\5\1\2"), NULL, 0, BYTES("\5\xFF"), 0},
    {BYTES("\5\0"), NULL, 0, BYTES("\5\xFF"), 0},
    {BYTES("\5\1\0\5\2\0\1\12\0\0\1\0\1"), NULL, 0, BYTES("\5\0\5\7\0\1\0\0\0\0\0\0"), 0},
    {BYTES("\5\1\0\5\3\0\3\1a\0\1"), NULL, 0, BYTES("\5\0\5\7\0\1\0\0\0\0\0\0"), 0},
    {BYTES("\5\1\0\5\1\0\2\12"), NULL, 0, BYTES("\5\0\5\10\0\1\0\0\0\0\0\0"), 1},
    {BYTES("\5\1\0\4\1\0\1\12"), NULL, 0, BYTES("\5\0\5\1\0\1\0\0\0\0\0\0"), 1},
    {BYTES("\5\1\0\5\1\0\3\0\0\x50"), NULL, 0, BYTES("\5\0\5\1\0\1\0\0\0\0\0\0"), 0},
    {BYTES("\5\1\0\5\1\0\3\2db\0\0"), NULL, 0, BYTES("\5\0\5\1\0\1\0\0\0\0\0\0"), 0},
    {BYTES("\5\1\0\5\1\0\3\3a b\0\1"), NULL, 0, BYTES("\5\0\5\1\0\1\0\0\0\0\0\0"), 0},
    {BYTES("\5\1\0\5\1\0\3\3a\0b\0\1"), NULL, 0, BYTES("\5\0\5\1\0\1\0\0\0\0\0\0"), 0},
    {BYTES("\4\2\0\x50\12\0\0\2\0"), NULL, 0, BYTES("\0\x5B\0\0\0\0\0\0"), 0},
    {BYTES("\4\1\0\0\12\0\0\2\0"), NULL, 0, BYTES("\0\x5B\0\0\0\0\0\0"), 0},
    {BYTES("\4\1\0\1\0\0\0\1\0\0"), NULL, 0, BYTES("\0\x5B\0\0\0\0\0\0"), 0},
    {BYTES("\26\3\1"), NULL, 0, "", 0, 2},
    {BYTES("\0"), NULL, 0, "", 0, 0},
};

static int feed_all(struct splits *splits, struct error *err, size_t *taken)
{
    const uint8_t *piece;
    size_t len;
    int result = 0;
    bool stopped = false;
    *taken = 0;
    while (splits_piece(splits, &piece, &len)) {
        size_t used;
        if (stopped)
            continue;
        result = socks5_feed(&server, piece, len, &used, err);
        *taken += used;
        stopped = result != 0 || server.state != SOCKS5_READING;
        assert_true(stopped || used == len);
        drain();
    }
    return result;
}

static void understands_requests_however_they_arrive(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(REQUESTS); i++) {
        const struct row *row = &REQUESTS[i];
        struct splits splits = splits_of(row->in, row->len);
        while (splits_next(&splits)) {
            struct error err = ERROR_INIT;
            size_t taken;
            socks5_init(&server);
            sent_len = 0;
            int result = feed_all(&splits, &err, &taken);
            if ((result == 0) != (row->host != NULL) || (err.text[0] == '\0') != (row->host != NULL) ||
                server.state != (row->host != NULL ? SOCKS5_WANTED : SOCKS5_REFUSED))
                fail_msg("row %zu: %d, state %d: %s", i, result, server.state, err.text);
            if (row->host != NULL) {
                assert_string_equal(server.host, row->host);
                assert_int_equal(server.port, row->port);
            }
            assert_int_equal(taken, row->len - row->behind);
            if (sent_len != row->out_len || memcmp(sent, row->out, sent_len) != 0)
                fail_msg("row %zu: %zu bytes were sent", i, sent_len);
        }
    }
}

static void nothing_is_complete_before_its_last_byte(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(REQUESTS); i++) {
        const struct row *row = &REQUESTS[i];
        size_t used, len = row->len - row->behind;
        socks5_init(&server);
        assert_int_equal(socks5_feed(&server, row->in, len - 1, &used, NULL), 0);
        assert_int_equal(server.state, SOCKS5_READING);
        assert_int_equal(used, len - 1);
    }
}

static void want(const struct row *row)
{
    size_t used;
    socks5_init(&server);
    sent_len = 0;
    assert_int_equal(socks5_feed(&server, row->in, row->len, &used, NULL), 0);
    assert_int_equal(server.state, SOCKS5_WANTED);
    drain();
    sent_len = 0;
}

static void answers_in_the_clients_protocol(void **state)
{
    static const struct {
        size_t row;
        enum socks5_answer answer;
        const char *out;
        size_t len;
    } rows[] = {
        {0, SOCKS5_OPENED, BYTES("\5\0\0\1\0\0\0\0\0\0")},
        {0, SOCKS5_FAILED, BYTES("\5\1\0\1\0\0\0\0\0\0")},
        {0, SOCKS5_NOT_ALLOWED, BYTES("\5\2\0\1\0\0\0\0\0\0")},
        {0, SOCKS5_HOST_UNREACHABLE, BYTES("\5\4\0\1\0\0\0\0\0\0")},
        {0, SOCKS5_CONNECTION_REFUSED, BYTES("\5\5\0\1\0\0\0\0\0\0")},
        {0, SOCKS5_TIMED_OUT, BYTES("\5\6\0\1\0\0\0\0\0\0")},
        {3, SOCKS5_OPENED, BYTES("\0\x5A\0\0\0\0\0\0")},
        {3, SOCKS5_TIMED_OUT, BYTES("\0\x5B\0\0\0\0\0\0")},
        {6, SOCKS5_OPENED, BYTES("HTTP/1.1 200 Connection established\r\n\r\n")},
        {6, SOCKS5_NOT_ALLOWED,
         BYTES("HTTP/1.1 403 Forbidden\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 4\r\n"
               "Connection: close\r\n\r\nwhy\n")},
        {6, SOCKS5_TIMED_OUT,
         BYTES("HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: "
               "4\r\nConnection: close\r\n\r\nwhy\n")},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        want(&REQUESTS[rows[i].row]);
        socks5_answer(&server, rows[i].answer, STR_LITERAL("why"));
        assert_int_equal(server.state, rows[i].answer == SOCKS5_OPENED ? SOCKS5_OPEN : SOCKS5_REFUSED);
        socks5_answer(&server, SOCKS5_OPENED, STR_LITERAL("")); /* once */
        drain();
        if (sent_len != rows[i].len || memcmp(sent, rows[i].out, sent_len) != 0)
            fail_msg("row %zu: %.*s", i, (int) sent_len, (char *) sent);
    }
}

static void a_long_reason_is_cut(void **state)
{
    char why[1000];
    (void) state;
    memset(why, 'w', sizeof why);
    want(&REQUESTS[6]);
    socks5_answer(&server, SOCKS5_FAILED, (struct str){why, sizeof why});
    drain();
    assert_true(sent_len > 300 && sent_len < SOCKS5_OUT_SIZE);
    assert_memory_equal(sent + sent_len - 2, "w\n", 2);
}

static void says_what_http_requests_lack(void **state)
{
    static const struct {
        const char *in;
        const char *status;
        const char *why;
    } rows[] = {
        {"GET http://db/ HTTP/1.1\r\n\r\n", "HTTP/1.1 405 ",
         "only CONNECT is supported: use the proxy for https, or as a SOCKS proxy"},
        {"CONNECT db HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "CONNECT without host:port"},
        {"CONNECT db:0 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "CONNECT without host:port"},
        {"CONNECT db:99999 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "CONNECT without host:port"},
        {"CONNECT :80 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ", "CONNECT without host:port"},
        {"CONNECT a/b:80 HTTP/1.1\r\n\r\n", "HTTP/1.1 400 ",
         "the client asks for a connection to what is not a valid host name"},
        {"CONNECT db:80\r\n\r\n", "HTTP/1.1 400 ", "neither SOCKS nor HTTP/1.1"},
        {"HELO db\r\n\r\n", "HTTP/1.1 400 ", "neither SOCKS nor HTTP/1.1"},
        {"A\n\n", "HTTP/1.1 400 ", "neither SOCKS nor HTTP/1.1"},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error err = ERROR_INIT;
        size_t used;
        socks5_init(&server);
        sent_len = 0;
        assert_true(socks5_feed(&server, rows[i].in, strlen(rows[i].in), &used, &err) < 0);
        assert_string_equal(err.text, rows[i].why);
        assert_true(socks5_feed(&server, "x", 1, &used, &err) < 0); /* and so it stays */
        assert_int_equal(used, 0);
        drain();
        assert_memory_equal(sent, rows[i].status, strlen(rows[i].status));
    }
}

/* `head`, `count` times the filler, `tail` */
static int feed_long(const char *head, size_t head_len, char filler, size_t count, const char *tail,
                     size_t tail_len, struct error *err)
{
    static char in[2 * SOCKS5_HTTP_HEAD_MAX];
    size_t used, len = head_len + count + tail_len;
    assert_true(len <= sizeof in);
    memcpy(in, head, head_len);
    memset(in + head_len, filler, count);
    memcpy(in + head_len + count, tail, tail_len);
    socks5_init(&server);
    sent_len = 0;
    return socks5_feed(&server, in, len, &used, err);
}

static void everything_has_its_bound(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(feed_long(BYTES("\5\1\0\5\1\0\3\xFD"), 'a', 253, BYTES("\0\x50"), &err), 0);
    assert_int_equal(strlen(server.host), 253);
    assert_int_equal(feed_long(BYTES("\5\1\0\5\1\0\3\xFF"), 'a', 255, BYTES("\0\x50"), &err),
                     ERROR_TOO_LARGE);
    assert_int_equal(feed_long(BYTES("\4\1\0\x50\0\0\0\1"), 'u', 255, BYTES("\0db\0"), &err), 0);
    assert_int_equal(feed_long(BYTES("\4\1\0\x50\0\0\0\1u\0"), 'a', 254, BYTES("\0"), &err), ERROR_TOO_LARGE);
    assert_int_equal(feed_long(BYTES("\4\1\0\x50\0\0\0\1"), 'u', 600, BYTES("\0db\0"), &err),
                     ERROR_TOO_LARGE);
    assert_int_equal(feed_long(BYTES("CONNECT "), 'a', 600, BYTES(":1 HTTP/1.1\r\n\r\n"), &err),
                     ERROR_TOO_LARGE);
    assert_string_equal(err.text, "the HTTP request's head is too long");
    assert_int_equal(feed_long(BYTES("CONNECT db:1 HTTP/1.1\r\nX: "), 'a', 8000, BYTES("\r\n\r\n"), &err), 0);
    assert_int_equal(feed_long(BYTES("CONNECT db:1 HTTP/1.1\r\nX: "), 'a', 8192, BYTES("\r\n\r\n"), &err),
                     ERROR_TOO_LARGE);
    drain();
    assert_memory_equal(sent, "HTTP/1.1 431 ", 13);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(understands_requests_however_they_arrive),
        cmocka_unit_test(nothing_is_complete_before_its_last_byte),
        cmocka_unit_test(answers_in_the_clients_protocol),
        cmocka_unit_test(a_long_reason_is_cut),
        cmocka_unit_test(says_what_http_requests_lack),
        cmocka_unit_test(everything_has_its_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
