#include "tunnel/dial_policy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int check(const char *allow, const char *host, const char *address_text, unsigned port,
                 struct error *err)
{
    static struct dial_policy policy;
    struct ip_block subnet;
    struct ip address;
    assert_int_equal(dial_policy_init(&policy, str_from(allow), err), 0);
    assert_true(ip_block_parse(STR_LITERAL("10.0.3.0/24"), &subnet));
    dial_policy_add_subnet(&policy, subnet);
    assert_true(ip_parse(str_from(address_text), &address));
    return dial_policy_check(&policy, str_from(host), address, (uint16_t) port, err);
}

/* An address is refused without any setting, with these words in the reason; null: it may be dialled. */
static const struct {
    const char *address;
    const char *reason;
} without_settings[] = {
    {"169.254.169.254", "link-local 169.254.0.0/16"},
    {"169.254.170.2", "link-local 169.254.0.0/16"},
    {"169.254.170.23", "link-local 169.254.0.0/16"},
    {"::ffff:169.254.170.2", "link-local 169.254.0.0/16"},
    {"64:ff9b::169.254.170.2", "link-local 169.254.0.0/16"},
    {"::169.254.170.2", "link-local 169.254.0.0/16"},
    {"2002:a9fe:aa02::1", "link-local 169.254.0.0/16"},
    {"fd00:ec2::254", "fd00:ec2::/32"},
    {"fd00:ec2::23", "fd00:ec2::/32"},
    {"fd00:ec2::240", "fd00:ec2::/32"},
    {"fe80::1", "fe80::/10"},
    {"0.0.0.0", "0.0.0.0/8"},
    {"0.1.2.3", "0.0.0.0/8"},
    {"::", "unspecified"},
    {"224.0.0.1", "multicast"},
    {"239.255.255.255", "multicast"},
    {"255.255.255.255", "broadcast"},
    {"ff02::1", "multicast"},
    {"10.0.3.0", "reserves"},
    {"10.0.3.1", "reserves"},
    {"10.0.3.2", "reserves"},
    {"10.0.3.3", "reserves"},
    {"10.0.3.255", "reserves"},
    {"10.0.3.4", NULL},
    {"10.0.2.1", NULL},
    {"127.0.0.1", NULL},
    {"::1", NULL},
    {"fd00:ec3::254", NULL},
    {"203.0.113.7", NULL},
    {"2001:db8::1", NULL},
};

static void refuses_what_is_never_a_target(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof without_settings / sizeof without_settings[0]; i++) {
        struct error err = ERROR_INIT;
        int result = check("", "db.internal", without_settings[i].address, 5439, &err);
        if (without_settings[i].reason == NULL) {
            if (result != 0)
                fail_msg("%s was refused: %s", without_settings[i].address, err.text);
        } else if (result != ERROR_DENIED || strstr(err.text, without_settings[i].reason) == NULL) {
            fail_msg("%s: code %d, \"%s\"", without_settings[i].address, result, err.text);
        }
        /* No setting opens what is forbidden. */
        if (without_settings[i].reason != NULL)
            assert_int_equal(
                check("0.0.0.0/0, [::/0], *", "db.internal", without_settings[i].address, 5439, &err),
                ERROR_DENIED);
    }
}

static const struct {
    const char *allow;
    const char *host;
    const char *address;
    unsigned port;
    bool allowed;
} with_allow[] = {
    {"warehouse.internal:5439", "warehouse.internal", "10.0.9.9", 5439, true},
    {"warehouse.internal:5439", "WAREHOUSE.internal.", "10.0.9.9", 5439, true},
    {"Warehouse.internal.:5439", "warehouse.internal", "10.0.9.9", 5439, true},
    {"*.internal.", "warehouse.internal.", "10.0.9.9", 5439, true},
    {"warehouse.internal:5439", "warehouse.internal", "10.0.9.9", 5440, false},
    {"warehouse.internal:5439", "warehouse.internal.evil", "10.0.9.9", 5439, false},
    {"*.internal:5432-5439", "a.b.internal", "10.0.9.9", 5432, true},
    {"*.internal:5432-5439", "a.b.internal", "10.0.9.9", 5440, false},
    {"*.internal:5432-5439", "internal", "10.0.9.9", 5432, false},
    {"a*b*c", "aXXbYYbZZc", "10.0.9.9", 1, true},
    {"a*b*c", "aXXbYYbZZd", "10.0.9.9", 1, false},
    {"10.0.0.0/16:5439", "anything", "10.0.9.9", 5439, true},
    {"10.0.0.0/16:5439", "anything", "10.1.9.9", 5439, false},
    {"10.0.9.9", "anything", "10.0.9.9", 65535, true},
    {"[fd12::/16]:443", "anything", "fd12::9", 443, true},
    {"[fd12::/16]:443", "anything", "fd12::9", 80, false},
    {"fd12::/16", "anything", "fd12::9", 80, true},
    {"x.internal,\n y.internal", "y.internal", "10.0.9.9", 80, true},
    {" , ", "anything", "10.0.9.9", 80, true},
};

static void allows_what_a_rule_matches(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof with_allow / sizeof with_allow[0]; i++) {
        struct error err = ERROR_INIT;
        int result =
            check(with_allow[i].allow, with_allow[i].host, with_allow[i].address, with_allow[i].port, &err);
        if (result != (with_allow[i].allowed ? 0 : ERROR_DENIED))
            fail_msg("allow \"%s\", %s (%s):%u gave %d \"%s\"", with_allow[i].allow, with_allow[i].host,
                     with_allow[i].address, with_allow[i].port, result, err.text);
        if (result != 0)
            assert_non_null(strstr(err.text, "FUMIDAI_ALLOW"));
    }
}

/* Before the metadata has told the subnet: what AWS may reserve in any. */
static void before_the_subnet_is_known_it_refuses_what_may_be_reserved(void **state)
{
    static const struct {
        const char *address;
        bool ipv4_unknown, ipv6_unknown, allowed;
    } rows[] = {
        {"10.0.7.2", true, false, false},
        {"10.0.7.15", true, false, false},
        {"10.0.7.19", true, false, false},
        {"10.0.7.255", true, false, false},
        {"10.0.7.4", true, true, true},
        {"10.0.7.2", false, true, true},
        {"127.0.0.1", true, true, true},
        {"::ffff:10.0.7.2", true, false, false},
        {"64:ff9b::a00:702", true, false, false},
        {"2001:db8::3", false, true, false},
        {"2001:db8:0:1::", false, true, false},
        {"2001:db8::4", true, true, true},
        {"2001:db8::1:0:0:3", true, true, true},
        {"2001:db8::3", true, false, true},
        {"::1", true, true, true},
    };
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct dial_policy policy;
        struct error err = ERROR_INIT;
        struct ip address;
        assert_int_equal(dial_policy_init(&policy, str_from(""), &err), 0);
        policy.ipv4_unknown = rows[i].ipv4_unknown;
        policy.ipv6_unknown = rows[i].ipv6_unknown;
        assert_true(ip_parse(str_from(rows[i].address), &address));
        if (dial_policy_check(&policy, str_from("h"), address, 5432, &err) !=
            (rows[i].allowed ? 0 : ERROR_DENIED))
            fail_msg("%s: \"%s\"", rows[i].address, err.text);
        if (!rows[i].allowed)
            assert_non_null(strstr(err.text, "has not told this task's subnet"));
    }
}

static void refuses_malformed_rules_by_name(void **state)
{
    static const struct {
        const char *allow;
        const char *words;
    } malformed[] = {
        {"host:0", "\"0\" is neither a port"}, {"host:", "want HOST"},
        {"host:9-3", "neither a port"},        {"host:99999", "neither a port"},
        {"10.0.0.1/8", "not a CIDR block"},    {"ho st!", "\"st!\" is not a host name"},
        {"[fd12::/16", "want HOST"},           {"[fd12::/16]x", "want HOST"},
        {"[fd12::/16]:", "want HOST"},         {"http://x", "is neither a port"},
        {".", "is not a host name"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct dial_policy policy;
        struct error err = ERROR_INIT;
        assert_int_equal(dial_policy_init(&policy, str_from(malformed[i].allow), &err), ERROR_INVALID);
        if (strstr(err.text, malformed[i].words) == NULL)
            fail_msg("\"%s\": \"%s\"", malformed[i].allow, err.text);
    }
}

static void bounds_the_rules(void **state)
{
    char text[8 * (DIAL_POLICY_RULES_MAX + 1)] = "";
    struct dial_policy policy;
    struct error err = ERROR_INIT;
    (void) state;
    for (int i = 0; i < DIAL_POLICY_RULES_MAX; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "h%d,", i);
    assert_int_equal(dial_policy_init(&policy, str_from(text), &err), 0);
    strcat(text, "h");
    assert_int_equal(dial_policy_init(&policy, str_from(text), &err), ERROR_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_what_is_never_a_target),
        cmocka_unit_test(allows_what_a_rule_matches),
        cmocka_unit_test(before_the_subnet_is_known_it_refuses_what_may_be_reserved),
        cmocka_unit_test(refuses_malformed_rules_by_name),
        cmocka_unit_test(bounds_the_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
