#include "tunnel/forward_spec.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static const struct {
    const char *text;
    size_t count; /* of entries; the last one is */
    const char *listener;
    const char *host;
    uint16_t host_port;
} good[] = {
    {"", 0, NULL, NULL, 0},
    {" ,\t\n, ", 0, NULL, NULL, 0},
    {"5439=warehouse.internal:5439", 1, "127.0.0.1:5439", "warehouse.internal", 5439},
    {"1=a:65535", 1, "127.0.0.1:1", "a", 65535},
    {"0.0.0.0:6000=[fd12::5]:6001", 1, "0.0.0.0:6000", "fd12::5", 6001},
    {"[::1]:80=10.0.0.7:81", 1, "[::1]:80", "10.0.0.7", 81},
    {"1=a:1,2=b:2", 2, "127.0.0.1:2", "b", 2},
    {"1=a:1,[::1]:1=b:2", 2, "[::1]:1", "b", 2},
    {",1=a:1 2=b:2\n3=c:3,,", 3, "127.0.0.1:3", "c", 3},
    {"[::ffff:10.1.2.3]:80=a:1", 1, "10.1.2.3:80", "a", 1},
};

static void reads_lists(void **state)
{
    struct forward_specs list;
    struct error err = ERROR_INIT;
    (void) state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        size_t len = strlen(good[i].text);
        char *text = guard_copy(good[i].text, len);
        char listener[IP_TEXT_SIZE + 8];
        struct writer out = writer_of(listener, sizeof listener);
        if (forward_spec_parse(&list, (struct str){text, len}, &err) != 0)
            fail_msg("\"%s\": %s", good[i].text, err.text);
        guard_free(text, len);
        assert_int_equal(list.count, good[i].count);
        if (list.count == 0)
            continue;
        const struct forward_spec *last = &list.entries[list.count - 1];
        writer_ip_port(&out, last->address, last->port);
        assert_string_equal(writer_terminate(&out), good[i].listener);
        assert_string_equal(last->host, good[i].host);
        assert_int_equal(last->host_port, good[i].host_port);
    }
}

static const struct {
    const char *text;
    const char *error;
} bad[] = {
    {"5439", "\"5439\": want [ADDRESS:]PORT=HOST:PORT"},
    {"1=a:1,x", "\"x\": want [ADDRESS:]PORT=HOST:PORT"},
    {"=a:1", "\"=a:1\": \"\" is not a port (1-65535) or ADDRESS:PORT"},
    {"0=a:1", "\"0=a:1\": \"0\" is not a port (1-65535) or ADDRESS:PORT"},
    {"65536=a:1", "\"65536=a:1\": \"65536\" is not a port (1-65535) or ADDRESS:PORT"},
    {"host:1=a:1", "\"host:1=a:1\": \"host:1\" is not a port (1-65535) or ADDRESS:PORT"},
    {"::1:80=a:1", "\"::1:80=a:1\": \"::1:80\" is not a port (1-65535) or ADDRESS:PORT"},
    {"[]:80=a:1", "\"[]:80=a:1\": \"[]:80\" is not a port (1-65535) or ADDRESS:PORT"},
    {"0.0.0.0:=a:1", "\"0.0.0.0:=a:1\": \"0.0.0.0:\" is not a port (1-65535) or ADDRESS:PORT"},
    {"1=a", "\"1=a\": \"a\" is not HOST:PORT"},
    {"1=", "\"1=\": \"\" is not HOST:PORT"},
    {"1=:80", "\"1=:80\": \":80\" is not HOST:PORT"},
    {"1=[]:80", "\"1=[]:80\": \"[]:80\" is not HOST:PORT"},
    {"1=a:0", "\"1=a:0\": \"a:0\" is not HOST:PORT"},
    {"1=a:65536", "\"1=a:65536\": \"a:65536\" is not HOST:PORT"},
    {"1=fd12::5:80", "\"1=fd12::5:80\": \"fd12::5:80\" is not HOST:PORT"},
    {"1=[fd12::5:80", "\"1=[fd12::5:80\": \"[fd12::5:80\" is not HOST:PORT"},
    {"1=[a:80", "\"1=[a:80\": \"[a:80\" is not HOST:PORT"},
    {"1=a]:80", "\"1=a]:80\": \"a]:80\" is not HOST:PORT"},
    {"1=a=b:80", "\"1=a=b:80\": \"a=b:80\" is not HOST:PORT"},
    {"1=a:1,2=b:1,1=c:1", "\"1=c:1\": port 1 is used twice"},
    {"0.0.0.0:1=a:1,1=c:1", "\"1=c:1\": port 1 is used twice"},
    {"127.0.0.1:1=a:1,[::]:1=c:1", "\"[::]:1=c:1\": port 1 is used twice"},
};

static void refuses_with_the_entry_and_what_is_wrong_with_it(void **state)
{
    struct forward_specs list;
    (void) state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct error err = ERROR_INIT;
        size_t len = strlen(bad[i].text);
        char *text = guard_copy(bad[i].text, len);
        if (forward_spec_parse(&list, (struct str){text, len}, &err) != ERROR_INVALID)
            fail_msg("\"%s\" was taken", bad[i].text);
        assert_string_equal(err.text, bad[i].error);
        guard_free(text, len);
    }
}

static void writer_entry(struct writer *out, unsigned number, size_t host_len)
{
    writer_format(out, "%u=", number);
    writer_fill(out, 'h', host_len);
    writer_text(out, ":1,");
}

static void takes_sixteen_relays_and_not_one_more(void **state)
{
    char text[512];
    struct forward_specs list;
    struct error err = ERROR_INIT;
    struct writer out = writer_of(text, sizeof text);
    (void) state;
    for (unsigned i = 1; i <= FORWARD_SPECS_MAX; i++)
        writer_entry(&out, i, 1);
    assert_int_equal(forward_spec_parse(&list, writer_view(&out), &err), 0);
    assert_int_equal(list.count, FORWARD_SPECS_MAX);
    for (unsigned i = 1; i <= FORWARD_SPECS_MAX; i++)
        assert_int_equal(list.entries[i - 1].port, i);
    writer_entry(&out, 17, 1);
    assert_int_equal(forward_spec_parse(&list, writer_view(&out), &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "more than 16 fixed relays");
}

static void takes_a_host_of_the_longest_length(void **state)
{
    char text[1024];
    struct forward_specs list;
    struct error err = ERROR_INIT;
    struct writer out = writer_of(text, sizeof text);
    (void) state;
    writer_entry(&out, 1, DIAL_POLICY_HOST_SIZE - 1);
    assert_int_equal(forward_spec_parse(&list, writer_view(&out), &err), 0);
    assert_int_equal(strlen(list.entries[0].host), DIAL_POLICY_HOST_SIZE - 1);
    out = writer_of(text, sizeof text);
    writer_entry(&out, 1, DIAL_POLICY_HOST_SIZE);
    assert_int_equal(forward_spec_parse(&list, writer_view(&out), &err), ERROR_INVALID);
    assert_non_null(strstr(err.text, "the host is longer than"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_lists),
        cmocka_unit_test(refuses_with_the_entry_and_what_is_wrong_with_it),
        cmocka_unit_test(takes_sixteen_relays_and_not_one_more),
        cmocka_unit_test(takes_a_host_of_the_longest_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
