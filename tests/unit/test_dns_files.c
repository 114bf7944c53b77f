#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"
#include "wire/dns_files.h"

static struct dns_config parse(const char *text)
{
    struct dns_config config;
    char *copy = guard_copy(text, strlen(text));
    dns_config_parse(&config, (struct str){copy, strlen(text)});
    guard_free(copy, strlen(text));
    return config;
}

static void expect_servers(const struct dns_config *config, const char *expected)
{
    char text[256];
    struct writer w = writer_of(text, sizeof text);
    for (size_t i = 0; i < config->server_count; i++) {
        writer_text(&w, i > 0 ? " " : "");
        writer_ip(&w, config->servers[i]);
    }
    assert_string_equal(writer_terminate(&w), expected);
}

static void expect_search(const struct dns_config *config, const char *expected)
{
    assert_int_equal(config->search_len, strlen(expected));
    assert_memory_equal(config->search, expected, config->search_len);
}

static void an_empty_file_gives_the_defaults(void **state)
{
    (void) state;
    static const char *const empty[] = {"", "\n\n", "# nameserver 10.0.0.2\n; nameserver 10.0.0.2\n",
                                        "nameserver\nnameserver db\nsearch\noptions\nunheard of\n"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        struct dns_config config = parse(empty[i]);
        expect_servers(&config, "127.0.0.1");
        expect_search(&config, "");
        assert_int_equal(config.ndots, 1);
        assert_int_equal(config.attempts, 2);
        assert_int_equal(config.timeout_ms, 5000);
    }
}

static void a_file_as_ecs_writes_it(void **state)
{
    (void) state;
    struct dns_config config = parse("search eu-central-1.compute.internal\nnameserver 10.0.0.2\n");
    expect_servers(&config, "10.0.0.2");
    expect_search(&config, "eu-central-1.compute.internal ");
}

static void three_servers_are_taken_ipv6_too_but_no_zones(void **state)
{
    (void) state;
    struct dns_config config = parse("nameserver fe80::1%eth0\r\n"
                                     "nameserver\t10.0.0.2   # the VPC's\n"
                                     "  nameserver fd00:ec2::253\n"
                                     "nameserver 1.1.1.1\n"
                                     "nameserver 9.9.9.9");
    expect_servers(&config, "10.0.0.2 fd00:ec2::253 1.1.1.1");
}

static void the_last_search_or_domain_counts(void **state)
{
    (void) state;
    struct dns_config config = parse("search a.example b.example\ndomain c.example\n");
    expect_search(&config, "c.example ");
    config = parse("domain c.example\nsearch a.example\tb.example\n");
    expect_search(&config, "a.example b.example ");
}

static void domains_that_do_not_fit_are_left_out_whole(void **state)
{
    (void) state;
    char text[1024] = "search";
    for (int i = 0; i < 30; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), " domain-%02d.example", i);
    struct dns_config config = parse(text);
    assert_int_equal(config.search_len, (DNS_SEARCH_SIZE / 18) * 18); /* "domain-00.example " */
}

static void options_are_bounded(void **state)
{
    (void) state;
    static const struct {
        const char *text;
        uint32_t ndots, attempts;
        int64_t timeout_ms;
    } cases[] = {
        {"options ndots:5 timeout:2 attempts:3", 5, 3, 2000},
        {"options ndots:0\noptions timeout:1\noptions attempts:1", 0, 1, 1000},
        {"options ndots:99 timeout:99 attempts:99", 15, 5, 30000},
        {"options timeout:0 attempts:0", 1, 2, 5000},
        {"options ndots:-1 timeout: attempts:many rotate edns0 ndots", 1, 2, 5000},
        {"options timeout:4294967296", 1, 2, 5000},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dns_config config = parse(cases[i].text);
        assert_int_equal(config.ndots, cases[i].ndots);
        assert_int_equal(config.attempts, cases[i].attempts);
        assert_int_equal(config.timeout_ms, cases[i].timeout_ms);
    }
}

/* --- hosts -------------------------------------------------------------------------------------------- */

static const char hosts[] = "127.0.0.1 localhost\n"
                            "::1\tlocalhost ip6-localhost # the same\n"
                            "# 10.0.0.9 db.internal\n"
                            "10.0.0.1 task-1.internal DB.internal db db\n"
                            "not-an-address db.internal\n"
                            "\n"
                            "10.0.0.2\n"
                            "  fd00::2 db.internal.\r\n"
                            "10.0.0.3 x#db.internal\n"
                            "10.0.0.4 last";

static void expect_hosts(const char *name, size_t max, const char *expected)
{
    struct ip addresses[8];
    char text[256];
    struct writer w = writer_of(text, sizeof text);
    char *copy = guard_copy(hosts, sizeof hosts - 1);
    size_t count = dns_hosts_find((struct str){copy, sizeof hosts - 1}, str_from(name), addresses, max);
    guard_free(copy, sizeof hosts - 1);
    for (size_t i = 0; i < count; i++) {
        writer_text(&w, i > 0 ? " " : "");
        writer_ip(&w, addresses[i]);
    }
    assert_string_equal(writer_terminate(&w), expected);
}

static void names_of_the_hosts_file_are_found(void **state)
{
    (void) state;
    expect_hosts("localhost", 8, "127.0.0.1 ::1");
    expect_hosts("ip6-localhost", 8, "::1");
    expect_hosts("db.INTERNAL", 8, "10.0.0.1 fd00::2");
    expect_hosts("db.internal.", 8, "10.0.0.1 fd00::2");
    expect_hosts("db", 8, "10.0.0.1");
    expect_hosts("last", 8, "10.0.0.4");
    expect_hosts("x", 8, "10.0.0.3");
}

static void other_names_are_not(void **state)
{
    (void) state;
    static const char *const others[] = {"the", "same", "#", "10.0.0.2", "internal", "db.interna", "", "."};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        expect_hosts(others[i], 8, "");
}

static void a_name_has_at_most_so_many_addresses(void **state)
{
    (void) state;
    expect_hosts("localhost", 1, "127.0.0.1");
    expect_hosts("localhost", 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_file_gives_the_defaults),
        cmocka_unit_test(a_file_as_ecs_writes_it),
        cmocka_unit_test(three_servers_are_taken_ipv6_too_but_no_zones),
        cmocka_unit_test(the_last_search_or_domain_counts),
        cmocka_unit_test(domains_that_do_not_fit_are_left_out_whole),
        cmocka_unit_test(options_are_bounded),
        cmocka_unit_test(names_of_the_hosts_file_are_found),
        cmocka_unit_test(other_names_are_not),
        cmocka_unit_test(a_name_has_at_most_so_many_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
