#include "tunnel/local_forward.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/bytes.h"

static struct local_forward forward;
static struct error err;

static int parse(int (*how)(struct local_forward *, struct str, struct error *), const char *text)
{
    err = (struct error) ERROR_INIT;
    return how(&forward, str_from(text), &err);
}

static void ports(void **state)
{
    static const struct {
        const char *text;
        const char *bind; /* null: loopback */
        uint16_t port;
        const char *host;
        uint16_t host_port;
    } cases[] = {
        {"5439:warehouse.internal:5439", NULL, 5439, "warehouse.internal", 5439},
        {"0:db:5432", NULL, 0, "db", 5432},
        {":db:5432", NULL, 0, "db", 5432},
        {"localhost:1:db:5432", NULL, 1, "db", 5432},
        {"127.0.0.1:6000:10.0.0.1:80", "127.0.0.1:6000", 6000, "10.0.0.1", 80},
        {"*:6000:db:80", "0.0.0.0:6000", 6000, "db", 80},
        {"[::1]:6000:[fd12::5]:80", "[::1]:6000", 6000, "fd12::5", 80},
        {"6000:[fd12::5]:80", NULL, 6000, "fd12::5", 80},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        struct writer bind = writer_of(text, sizeof text);
        assert_int_equal(parse(local_forward_parse_port, cases[i].text), 0);
        assert_int_equal(forward.kind, LOCAL_FORWARD_PORT);
        assert_int_equal(forward.port, cases[i].port);
        assert_string_equal(forward.host, cases[i].host);
        assert_int_equal(forward.host_port, cases[i].host_port);
        assert_int_equal(forward.is_loopback, cases[i].bind == NULL);
        writer_ip_port(&bind, forward.address, forward.port);
        if (cases[i].bind != NULL)
            assert_string_equal(writer_terminate(&bind), cases[i].bind);
    }
}

static void paths(void **state)
{
    (void) state;
    assert_int_equal(parse(local_forward_parse_port, "/run/x/.s.PGSQL.5432:db:5432"), 0);
    assert_int_equal(forward.kind, LOCAL_FORWARD_PATH);
    assert_string_equal(forward.path, "/run/x/.s.PGSQL.5432");
    assert_string_equal(forward.host, "db");
    assert_int_equal(parse(local_forward_parse_port, "./a:b:[::1]:1"), 0);
    assert_string_equal(forward.path, "./a:b");
    assert_string_equal(forward.host, "::1");
    char longest[200];
    memset(longest, 'x', sizeof longest);
    longest[0] = '/';
    memcpy(longest + LOCAL_FORWARD_PATH_SIZE, ":h:1", 5);
    assert_int_equal(parse(local_forward_parse_port, longest), ERROR_INVALID);
}

static void socks_and_stdio(void **state)
{
    (void) state;
    assert_int_equal(parse(local_forward_parse_socks, "1080"), 0);
    assert_int_equal(forward.port, 1080);
    assert_true(forward.is_loopback);
    assert_int_equal(parse(local_forward_parse_socks, "10.0.0.1:1080"), 0);
    assert_false(forward.is_loopback);
    assert_int_equal(parse(local_forward_parse_socks, "ten"), ERROR_INVALID);
    assert_int_equal(parse(local_forward_parse_stdio, "db:22"), 0);
    assert_string_equal(forward.host, "db");
    assert_int_equal(forward.host_port, 22);
    assert_int_equal(parse(local_forward_parse_stdio, "[::1]:22"), 0);
    assert_int_equal(parse(local_forward_parse_stdio, "1:db:22"), ERROR_INVALID);
}

static void what_is_not_valid_is_named(void **state)
{
    static const struct {
        const char *text;
        const char *want;
    } cases[] = {
        {"db:5432", "\"db:5432\": want [BIND:]PORT:HOST:PORT or PATH:HOST:PORT"},
        {"1:db:x", "\"1:db:x\": the port \"x\" is not valid, want 1 to 65535 behind the host and a colon"},
        {"x:db:1", "\"x:db:1\": the local port \"x\" is not valid, want 0 to 65535"},
        {"a.b:1:db:1",
         "\"a.b:1:db:1\": the address to listen on \"a.b\" is not valid, want an IP address, localhost or *"},
        {"1::5432", "\"1::5432\": the host \"\" is not valid, want a name or an address"},
        {"1:[x]:1", "\"1:[x]:1\": the host \"1:[x]\" is not valid, want an IPv6 address in brackets"},
        {"", "\"\": the port \"\" is not valid, want 1 to 65535 behind the host and a colon"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(local_forward_parse_port, cases[i].text), ERROR_INVALID);
        assert_string_equal(err.text, cases[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ports),
        cmocka_unit_test(paths),
        cmocka_unit_test(socks_and_stdio),
        cmocka_unit_test(what_is_not_valid_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
