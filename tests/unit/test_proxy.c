#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "wire/proxy.h"

static struct proxy proxy;

static void the_variable_is_understood(void **state)
{
    (void) state;
    static const struct {
        const char *https_proxy;
        const char *host;
        uint16_t port;
        const char *authorization;
    } cases[] = {
        {"", "", 0, ""},
        {"  ", "", 0, ""},
        {"http://proxy.internal:3128", "proxy.internal", 3128, ""},
        {"proxy.internal:3128", "proxy.internal", 3128, ""},
        {"http://proxy.internal", "proxy.internal", 80, ""},
        {"http://10.0.0.1:8080/", "10.0.0.1", 8080, ""},
        {"http://[fd00::1]:8080", "fd00::1", 8080, ""},
        {"http://user:p%40ss@proxy.internal:3128", "proxy.internal", 3128, "Basic dXNlcjpwQHNz"},
        {"http://user:p@ss@proxy.internal:3128", "proxy.internal", 3128, "Basic dXNlcjpwQHNz"},
        {"http://u:a#b\\c@proxy.internal:3128", "proxy.internal", 3128, "Basic dTphI2JcYw=="},
        {"http://u:100%sure@proxy.internal:3128/", "proxy.internal", 3128, "Basic dToxMDAlc3VyZQ=="},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(proxy_parse(&proxy, str_from(cases[i].https_proxy), STR_LITERAL(""), &err), 0);
        assert_string_equal(proxy.host, cases[i].host);
        assert_int_equal(proxy.port, cases[i].port);
        assert_string_equal(proxy.authorization, cases[i].authorization);
    }
}

static void what_is_refused_names_the_variable_and_no_secret(void **state)
{
    (void) state;
    static const struct {
        const char *https_proxy;
        int code;
    } cases[] = {
        {"https://user:secret@proxy:3128", ERROR_UNSUPPORTED},
        {"socks5://user:secret@proxy:1080", ERROR_UNSUPPORTED},
        {"http://user:secret@", ERROR_INVALID},
        {"http://user:secret@proxy:99999", ERROR_INVALID},
        {"http://us%0aer:secret@proxy:80", ERROR_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(proxy_parse(&proxy, str_from(cases[i].https_proxy), STR_LITERAL(""), &err),
                         cases[i].code);
        assert_int_equal(strncmp(err.text, "HTTPS_PROXY: ", 13), 0);
        assert_null(strstr(err.text, "secret"));
        /* What would have gone through it is known, so that it can be refused. */
        assert_true(proxy_applies(&proxy, STR_LITERAL("example.com"), 443));
        assert_false(proxy_applies(&proxy, STR_LITERAL("localhost"), 443));
    }
    static char exceptions[PROXY_EXCEPTIONS_SIZE + 1];
    memset(exceptions, 'x', sizeof exceptions - 1);
    struct error err = ERROR_INIT;
    assert_int_equal(proxy_parse(&proxy, STR_LITERAL("proxy:80"), str_from(exceptions), &err),
                     ERROR_TOO_LARGE);
    assert_string_equal(err.text, "NO_PROXY: longer than 2047 bytes");
}

static void exceptions_are_matched_as_elsewhere(void **state)
{
    (void) state;
    static const struct {
        const char *no_proxy;
        const char *host;
        uint16_t port;
        bool applies;
    } cases[] = {
        {"", "ecs.eu-west-1.amazonaws.com", 443, true},
        {"*", "ecs.eu-west-1.amazonaws.com", 443, false},
        {"amazonaws.com", "ecs.eu-west-1.amazonaws.com", 443, false},
        {"AmazonAWS.com", "ecs.eu-west-1.amazonaws.COM", 443, false},
        {"amazonaws.com", "amazonaws.com", 443, false},
        {"amazonaws.com", "notamazonaws.com", 443, true},
        {".amazonaws.com", "ecs.amazonaws.com", 443, false},
        {".amazonaws.com", "amazonaws.com", 443, true},
        {"*.amazonaws.com", "ecs.amazonaws.com", 443, false},
        {"*.amazonaws.com", "amazonaws.com", 443, true},
        {"a.test, b.test ,c.test", "b.test", 443, false},
        {"a.test,,", "b.test", 443, true},
        {"b.test:8443", "b.test", 443, true},
        {"b.test:8443", "b.test", 8443, false},
        {"b.test:port", "b.test", 443, true},
        {"10.0.0.1", "10.0.0.1", 443, false},
        {"10.0.0.1", "10.0.0.11", 443, true},
        {"0.0.1", "10.0.0.1", 443, true},
        {"10.0.0.1:443", "10.0.0.1", 443, false},
        {"10.0.0.1:444", "10.0.0.1", 443, true},
        {"10.0.0.0/8", "10.20.30.40", 443, false},
        {"10.0.0.0/8", "11.20.30.40", 443, true},
        {"10.0.0.0/8", "ten.test", 443, true},
        {"fd00::/8", "fd12::1", 443, false},
        {"fd00::1", "fd00::1", 443, false},
        {"[fd00::1]:443", "fd00::1", 443, false},
        {"[fd00::1]:444", "fd00::1", 443, true},
        {"", "localhost", 443, false},
        {"", "LocalHost", 443, false},
        {"", "127.0.0.53", 443, false},
        {"", "::1", 443, false},
        {"", "128.0.0.1", 443, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        proxy_parse(&proxy, STR_LITERAL("proxy:3128"), str_from(cases[i].no_proxy), NULL);
        bool applies = proxy_applies(&proxy, str_from(cases[i].host), cases[i].port);
        if (applies != cases[i].applies)
            fail_msg("NO_PROXY=%s %s:%u", cases[i].no_proxy, cases[i].host, cases[i].port);
    }
    proxy_parse(&proxy, STR_LITERAL(""), STR_LITERAL(""), NULL);
    assert_false(proxy_applies(&proxy, STR_LITERAL("a.test"), 443));
}

static const char *connect_request(const char *host)
{
    static char text[512];
    struct writer w = writer_of(text, sizeof text);
    assert_int_equal(proxy_write_connect(&proxy, str_from(host), 443, &w, NULL), 0);
    return writer_terminate(&w);
}

static void the_request_names_host_and_port(void **state)
{
    (void) state;
    proxy_parse(&proxy, STR_LITERAL("http://u:p@proxy:3128"), STR_LITERAL(""), NULL);
    assert_string_equal(connect_request("ecs.test"), "CONNECT ecs.test:443 HTTP/1.1\r\nHost: ecs.test:443\r\n"
                                                     "Proxy-Authorization: Basic dTpw\r\n\r\n");
    proxy_parse(&proxy, STR_LITERAL("http://proxy:3128"), STR_LITERAL(""), NULL);
    assert_string_equal(connect_request("fd00::1"),
                        "CONNECT [fd00::1]:443 HTTP/1.1\r\nHost: [fd00::1]:443\r\n\r\n");
    char small[20];
    struct writer w = writer_of(small, sizeof small);
    struct error err = ERROR_INIT;
    assert_int_equal(proxy_write_connect(&proxy, STR_LITERAL("ecs.test"), 443, &w, &err), ERROR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_variable_is_understood),
        cmocka_unit_test(what_is_refused_names_the_variable_and_no_secret),
        cmocka_unit_test(exceptions_are_matched_as_elsewhere),
        cmocka_unit_test(the_request_names_host_and_port),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
