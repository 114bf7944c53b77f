#include "base/ip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct {
    const char *text;
    const char *canonical; /* null: must be refused */
} addresses[] = {
    {"0.0.0.0", "0.0.0.0"},
    {"255.255.255.255", "255.255.255.255"},
    {"10.0.0.1", "10.0.0.1"},
    {"::", "::"},
    {"::1", "::1"},
    {"1::", "1::"},
    {"fd00:ec2::254", "fd00:ec2::254"},
    {"FD00:0EC2:0:0:0:0:0:0254", "fd00:ec2::254"},
    {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"}, /* RFC 5952 4.2.2 */
    {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},          /* RFC 5952 4.2.3, the longest run */
    {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},    /* RFC 5952 4.2.3, the first of equals */
    {"::ffff:169.254.169.254", "169.254.169.254"},
    {"::ffff:a9fe:a9fe", "169.254.169.254"},
    {"64:ff9b::10.0.0.1", "64:ff9b::a00:1"},
    {"", NULL},
    {"1.2.3", NULL},
    {"1.2.3.4.5", NULL},
    {"1.2.3.256", NULL},
    {"1.2.3.04", NULL},
    {"1.2.3.", NULL},
    {"0x7f.0.0.1", NULL},
    {"2130706433", NULL},
    {":", NULL},
    {":::", NULL},
    {"1::2::3", NULL},
    {"1:2:3:4:5:6:7", NULL},
    {"1:2:3:4:5:6:7:8:9", NULL},
    {"1:2:3:4:5:6:7:8::", NULL},
    {"1:2:3:4:5:6:7:", NULL},
    {"12345::", NULL},
    {"fe80::1%eth0", NULL},
    {"1.2.3.4::", NULL},
    {"g::", NULL},
};

static void parses_and_prints_addresses(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof addresses / sizeof addresses[0]; i++) {
        struct ip address;
        char memory[IP_TEXT_SIZE];
        struct writer out = writer_of(memory, sizeof memory);
        bool parsed = ip_parse(str_from(addresses[i].text), &address);
        if (addresses[i].canonical == NULL) {
            if (parsed)
                fail_msg("\"%s\" was taken for an address", addresses[i].text);
            continue;
        }
        if (!parsed)
            fail_msg("\"%s\" was refused", addresses[i].text);
        writer_ip(&out, address);
        assert_string_equal(writer_terminate(&out), addresses[i].canonical);
    }
}

static const struct {
    const char *block;
    const char *address;
    bool inside;
} blocks[] = {
    {"10.0.0.0/8", "10.255.0.1", true},
    {"10.0.0.0/8", "11.0.0.0", false},
    {"0.0.0.0/0", "203.0.113.9", true},
    {"0.0.0.0/0", "::1", false},
    {"10.1.2.3", "10.1.2.3", true},
    {"10.1.2.3", "10.1.2.4", false},
    {"10.1.2.128/25", "10.1.2.127", false},
    {"10.1.2.128/25", "10.1.2.128", true},
    {"fd00::/8", "fdff::1", true},
    {"fd00::/8", "fc00::1", false},
    {"169.254.0.0/16", "::ffff:169.254.1.1", true},
};

static void tells_what_a_block_holds(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        struct ip_block block;
        struct ip address;
        assert_true(ip_block_parse(str_from(blocks[i].block), &block));
        assert_true(ip_parse(str_from(blocks[i].address), &address));
        if (ip_block_contains(block, address) != blocks[i].inside)
            fail_msg("%s in %s", blocks[i].address, blocks[i].block);
    }
}

static void refuses_malformed_blocks(void **state)
{
    static const char *const malformed[] = {"10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08000",
                                            "fd00::1/8",  "fd00::/129",  "/8",        "name/8",
                                            "10.0.0.0/-1"};
    (void) state;
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct ip_block block;
        if (ip_block_parse(str_from(malformed[i]), &block))
            fail_msg("\"%s\" was taken for a block", malformed[i]);
    }
}

static void knows_first_and_last_of_a_block(void **state)
{
    struct ip_block block;
    struct ip address;
    (void) state;
    assert_true(ip_block_parse(STR_LITERAL("10.0.3.0/24"), &block));
    assert_true(ip_parse(STR_LITERAL("10.0.3.3"), &address));
    assert_true(ip_block_among_first(block, address, 4));
    assert_true(ip_parse(STR_LITERAL("10.0.3.4"), &address));
    assert_false(ip_block_among_first(block, address, 4));
    assert_false(ip_block_is_last(block, address));
    assert_true(ip_parse(STR_LITERAL("10.0.3.255"), &address));
    assert_true(ip_block_is_last(block, address));
    assert_true(ip_parse(STR_LITERAL("10.0.2.1"), &address));
    assert_false(ip_block_among_first(block, address, 4));
    assert_true(ip_block_parse(STR_LITERAL("fd12::/16"), &block));
    assert_true(ip_parse(STR_LITERAL("fd12:ffff:ffff:ffff::3"), &address));
    assert_false(ip_block_among_first(block, address, 4));
}

static void knows_loopback(void **state)
{
    static const struct {
        const char *text;
        bool is_loopback;
    } cases[] = {{"127.0.0.1", true}, {"127.255.0.9", true}, {"::1", true},     {"0.0.0.0", false},
                 {"::", false},       {"128.0.0.1", false},  {"7f00::", false}, {"::2", false}};
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ip address;
        assert_true(ip_parse(str_from(cases[i].text), &address));
        assert_int_equal(ip_is_loopback(address), cases[i].is_loopback);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_and_prints_addresses),     cmocka_unit_test(tells_what_a_block_holds),
        cmocka_unit_test(refuses_malformed_blocks),        cmocka_unit_test(knows_loopback),
        cmocka_unit_test(knows_first_and_last_of_a_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
