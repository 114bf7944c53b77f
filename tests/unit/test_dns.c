#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/dns_message.h"
#include "lib/guard.h"
#include "wire/dns.h"

enum { ID = 0x1234 };

static const struct str name = {"db.example", 10};
static struct dns_message m;

/* --- names and questions ------------------------------------------------------------------------------ */

static void names_are_checked(void **state)
{
    (void) state;
    static const struct {
        const char *name;
        const char *reason; /* null: it can be asked for */
    } cases[] = {
        {"db.example", NULL},
        {"DB.Example.", NULL},
        {"a", NULL},
        {"_srv-1.xn--bcher-kva.example", NULL},
        {"10.example", NULL},
        {"", "a host name has 1 to 253 characters"},
        {".", "a host name has 1 to 253 characters"},
        {"..", "a host name has no empty part between its dots"},
        {"db..example", "a host name has no empty part between its dots"},
        {".db", "a host name has no empty part between its dots"},
        {"db example", "a host name has letters, digits, '-', '_' and '.' only"},
        {"db\nexample", "a host name has letters, digits, '-', '_' and '.' only"},
        {"fe80::1%eth0", "a host name has letters, digits, '-', '_' and '.' only"},
        {"b\xc3\xbc"
         "cher.example",
         "a host name has ASCII letters only: give the form of it that begins with xn--"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = ERROR_INIT;
        int result = dns_check_name(str_from(cases[i].name), &err);
        assert_int_equal(result, cases[i].reason != NULL ? ERROR_INVALID : 0);
        assert_string_equal(err.text, cases[i].reason != NULL ? cases[i].reason : "");
    }
}

static void lengths_are_bounded(void **state)
{
    (void) state;
    char longest[260];
    memset(longest, 'a', sizeof longest);
    for (size_t i = 63; i < sizeof longest; i += 64)
        longest[i] = '.';
    assert_int_equal(dns_check_name((struct str){longest, 253}, NULL), 0);
    assert_int_equal(dns_check_name((struct str){longest, 254}, NULL), ERROR_INVALID);
    longest[253] = '.';
    assert_int_equal(dns_check_name((struct str){longest, 254}, NULL), 0); /* the dot at the end */
    assert_int_equal(dns_check_name((struct str){longest, 63}, NULL), 0);
    longest[63] = 'a';
    struct error err = ERROR_INIT;
    assert_int_equal(dns_check_name((struct str){longest, 64}, &err), ERROR_INVALID);
    assert_string_equal(err.text, "a part of a host name has at most 63 characters");
}

static void a_query_is_as_the_rfcs_have_it(void **state)
{
    (void) state;
    static const uint8_t plain[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                   "\x02"
                                   "db\x07"
                                   "example\x00\x00\x1c\x00\x01";
    static const uint8_t with_opt[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01"
                                      "\x02"
                                      "db\x07"
                                      "example\x00\x00\x01\x00\x01"
                                      "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    uint8_t bytes[DNS_QUERY_MAX];
    struct writer w = writer_of(bytes, sizeof bytes);
    dns_write_query(&w, ID, name, DNS_TYPE_AAAA, false);
    assert_int_equal(w.len, sizeof plain - 1);
    assert_memory_equal(bytes, plain, w.len);
    w = writer_of(bytes, sizeof bytes);
    dns_write_query(&w, ID, STR_LITERAL("db.example."), DNS_TYPE_A, true);
    assert_int_equal(w.len, sizeof with_opt - 1);
    assert_memory_equal(bytes, with_opt, w.len);

    char longest[253];
    memset(longest, 'a', sizeof longest);
    for (size_t i = 63; i < sizeof longest; i += 64)
        longest[i] = '.';
    w = writer_of(bytes, sizeof bytes);
    dns_write_query(&w, ID, (struct str){longest, sizeof longest}, DNS_TYPE_A, true);
    assert_false(w.failed);
    assert_int_equal(w.len, DNS_QUERY_MAX);
}

/* --- answers ------------------------------------------------------------------------------------------ */

static bool parse_bytes(struct dns_answer *answer, const void *bytes, size_t len, enum dns_type type)
{
    uint8_t *copy = guard_copy(bytes, len);
    bool is_answer = dns_parse_answer(answer, copy, len, ID, name, type);
    guard_free(copy, len);
    return is_answer;
}

static struct dns_answer parse(enum dns_type type)
{
    struct dns_answer answer;
    assert_true(parse_bytes(&answer, m.bytes, m.len, type));
    return answer;
}

static void expect_addresses(const struct dns_answer *answer, const char *expected)
{
    char text[512];
    struct writer w = writer_of(text, sizeof text);
    for (size_t i = 0; i < answer->count; i++) {
        writer_text(&w, i > 0 ? " " : "");
        writer_ip(&w, answer->addresses[i]);
    }
    assert_string_equal(writer_terminate(&w), expected);
}

static void addresses_of_the_type_that_was_asked_for_are_taken(void **state)
{
    (void) state;
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.2");
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "fd00::1");
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.1");
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.2");
    struct dns_answer answer = parse(DNS_TYPE_A);
    assert_int_equal(answer.code, DNS_CODE_OK);
    assert_false(answer.is_truncated);
    expect_addresses(&answer, "10.0.0.2 10.0.0.1");

    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_AAAA);
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "fd00::1");
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "::ffff:10.0.0.1"); /* is IPv4, however it is written */
    answer = parse(DNS_TYPE_AAAA);
    expect_addresses(&answer, "fd00::1 10.0.0.1");
}

static void records_of_a_wrong_length_or_class_or_owner_are_not(void **state)
{
    (void) state;
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    dns_message_add(&m, DNS_MESSAGE_QUESTION, DNS_TYPE_A, "abc", 3);
    dns_message_add(&m, DNS_MESSAGE_QUESTION, DNS_TYPE_A, "abcde", 5);
    dns_message_add(&m, DNS_MESSAGE_QUESTION + 3, DNS_TYPE_A, "abcd", 4); /* "example" */
    size_t data = dns_message_add(&m, DNS_MESSAGE_QUESTION, DNS_TYPE_A, "abcd", 4);
    m.bytes[data - 7] = 3; /* CHAOS */
    struct dns_answer answer = parse(DNS_TYPE_A);
    assert_int_equal(answer.count, 0);
    assert_false(answer.is_truncated);
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.1");
    answer = parse(DNS_TYPE_A);
    expect_addresses(&answer, "10.0.0.1");
}

static void aliases_are_followed_in_any_order(void **state)
{
    (void) state;
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    size_t first = dns_message_add_alias(&m, DNS_MESSAGE_QUESTION, "Cluster.example.net");
    size_t second = dns_message_add_alias(&m, first, "node-1.example.org");
    dns_message_add_address(&m, second, "10.0.0.1");
    dns_message_add_address(&m, first, "10.0.0.9"); /* an alias has no addresses of its own */
    struct dns_answer answer = parse(DNS_TYPE_A);
    expect_addresses(&answer, "10.0.0.1");

    /* The second alias stands before the first, whose name is written out, in other letters. */
    uint8_t target[256];
    size_t target_len = dns_message_name(target, "CLUSTER.example.NET");
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    size_t unused = dns_message_add(&m, DNS_MESSAGE_QUESTION, 99, target, target_len);
    second = dns_message_add_alias(&m, unused, "node-1.example.org");
    dns_message_add_address(&m, second, "10.0.0.1");
    dns_message_add_alias(&m, DNS_MESSAGE_QUESTION, "cluster.Example.net");
    answer = parse(DNS_TYPE_A);
    expect_addresses(&answer, "10.0.0.1");
}

static void aliases_that_lead_in_circles_or_too_far_have_no_addresses(void **state)
{
    (void) state;
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    size_t at = dns_message_add_alias(&m, DNS_MESSAGE_QUESTION, "other.example");
    dns_message_add_alias(&m, at, "db.example");
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION + 3, "10.0.0.1");
    struct dns_answer answer = parse(DNS_TYPE_A);
    assert_int_equal(answer.count, 0);

    for (int aliases = DNS_ALIASES_MAX; aliases <= DNS_ALIASES_MAX + 1; aliases++) {
        dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
        at = DNS_MESSAGE_QUESTION;
        for (int i = 0; i < aliases; i++) {
            char alias[] = "a.example";
            alias[0] = (char) (alias[0] + i);
            at = dns_message_add_alias(&m, at, alias);
        }
        dns_message_add_address(&m, at, "10.0.0.1");
        answer = parse(DNS_TYPE_A);
        assert_int_equal(answer.count, aliases == DNS_ALIASES_MAX);
    }
}

static void more_addresses_than_the_bound_are_left_out(void **state)
{
    (void) state;
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    for (uint8_t i = 0; i < 2 * DNS_ADDRESSES_MAX; i++)
        dns_message_add(&m, DNS_MESSAGE_QUESTION, DNS_TYPE_A, (const uint8_t[]){10, 0, 0, i}, 4);
    struct dns_answer answer = parse(DNS_TYPE_A);
    expect_addresses(&answer, "10.0.0.0 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 10.0.0.6 10.0.0.7");
}

static void negative_answers_have_their_code(void **state)
{
    (void) state;
    for (unsigned code = 0; code < 16; code++) {
        dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER | code, "db.example", DNS_TYPE_A);
        if (code != 0)
            dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.1"); /* means nothing then */
        struct dns_answer answer = parse(DNS_TYPE_A);
        assert_int_equal(answer.code, code);
        assert_int_equal(answer.count, 0);
    }
}

static void what_answers_another_question_is_dropped(void **state)
{
    (void) state;
    struct dns_answer answer;
    static const struct {
        const char *name;
        unsigned id, flags, type;
    } others[] = {
        {"db.example", ID + 1, DNS_MESSAGE_ANSWER, DNS_TYPE_A},
        {"db.example", ID, 0x0100, DNS_TYPE_A},                      /* a question */
        {"db.example", ID, DNS_MESSAGE_ANSWER | 0x2800, DNS_TYPE_A}, /* another operation */
        {"db.example", ID, DNS_MESSAGE_ANSWER, DNS_TYPE_AAAA},
        {"db.example.org", ID, DNS_MESSAGE_ANSWER, DNS_TYPE_A},
        {"db", ID, DNS_MESSAGE_ANSWER, DNS_TYPE_A},
        {"", ID, DNS_MESSAGE_ANSWER, DNS_TYPE_A},
        {"dc.example", ID, DNS_MESSAGE_ANSWER, DNS_TYPE_A},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        dns_message_begin(&m, others[i].id, others[i].flags, others[i].name, others[i].type);
        dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.1");
        assert_false(parse_bytes(&answer, m.bytes, m.len, DNS_TYPE_A));
    }
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "DB.EXAMPLE", DNS_TYPE_A); /* the same, in other letters */
    assert_true(parse_bytes(&answer, m.bytes, m.len, DNS_TYPE_A));
    m.bytes[5] = 2; /* two questions */
    assert_false(parse_bytes(&answer, m.bytes, m.len, DNS_TYPE_A));
    m.bytes[5] = 0;
    assert_false(parse_bytes(&answer, m.bytes, m.len, DNS_TYPE_A));
    m.bytes[5] = 1;
    m.bytes[m.len - 1] = 3; /* CHAOS */
    assert_false(parse_bytes(&answer, m.bytes, m.len, DNS_TYPE_A));
}

static void a_cut_answer_is_truncated_and_keeps_what_is_whole(void **state)
{
    (void) state;
    struct dns_answer answer;
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    size_t question_end = m.len;
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.1");
    size_t first_end = m.len;
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.2");
    for (size_t len = 0; len < m.len; len++) {
        bool is_answer = parse_bytes(&answer, m.bytes, len, DNS_TYPE_A);
        assert_int_equal(is_answer, len >= question_end);
        if (is_answer) {
            assert_true(answer.is_truncated);
            assert_int_equal(answer.count, len >= first_end);
        }
    }
    m.bytes[2] |= DNS_MESSAGE_TRUNCATED >> 8;
    answer = parse(DNS_TYPE_A);
    assert_true(answer.is_truncated);
    assert_int_equal(answer.count, 2);
}

/* Appends one record of type A whose owner is these bytes. */
static void add_with_owner(const void *owner, size_t len)
{
    static const uint8_t rest[] = {0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, 9};
    m.bytes[7]++;
    memcpy(m.bytes + m.len, owner, len);
    memcpy(m.bytes + m.len + len, rest, sizeof rest);
    m.len += len + sizeof rest;
}

static void names_that_loop_or_never_end_are_no_match(void **state)
{
    (void) state;
    struct dns_answer answer;
    uint8_t pointer[2];
    for (size_t target = 0; target < 64;
         target++) { /* itself, forwards, into the header, and the one that fits */
        dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
        pointer[0] = 0xc0;
        pointer[1] = (uint8_t) target;
        add_with_owner(pointer, 2);
        assert_true(parse_bytes(&answer, m.bytes, m.len, DNS_TYPE_A));
        assert_int_equal(answer.count, target == DNS_MESSAGE_QUESTION);
    }
    /* A name of labels and a pointer back to its own beginning. */
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    uint8_t circle[] = {1, 'a', 0xc0, (uint8_t) m.len};
    add_with_owner(circle, sizeof circle);
    assert_true(parse_bytes(&answer, m.bytes, m.len, DNS_TYPE_A));
    assert_int_equal(answer.count, 0);
    /* Two labels of types that do not exist. */
    dns_message_begin(&m, ID, DNS_MESSAGE_ANSWER, "db.example", DNS_TYPE_A);
    add_with_owner("\x40", 1);
    add_with_owner("\x80", 1);
    assert_true(parse_bytes(&answer, m.bytes, m.len, DNS_TYPE_A));
    assert_int_equal(answer.count, 0);
}

static void a_question_may_not_point_anywhere(void **state)
{
    (void) state;
    struct dns_answer answer;
    /* The id reads as an empty name: "\0". A pointer to it, type and class as they should be. */
    static const uint8_t bytes[] = {0, 0, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 0, 0, 1, 0, 1};
    assert_false(dns_parse_answer(&answer, bytes, sizeof bytes, 0, STR_LITERAL(""), DNS_TYPE_A));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_checked),
        cmocka_unit_test(lengths_are_bounded),
        cmocka_unit_test(a_query_is_as_the_rfcs_have_it),
        cmocka_unit_test(addresses_of_the_type_that_was_asked_for_are_taken),
        cmocka_unit_test(records_of_a_wrong_length_or_class_or_owner_are_not),
        cmocka_unit_test(aliases_are_followed_in_any_order),
        cmocka_unit_test(aliases_that_lead_in_circles_or_too_far_have_no_addresses),
        cmocka_unit_test(more_addresses_than_the_bound_are_left_out),
        cmocka_unit_test(negative_answers_have_their_code),
        cmocka_unit_test(what_answers_another_question_is_dropped),
        cmocka_unit_test(a_cut_answer_is_truncated_and_keeps_what_is_whole),
        cmocka_unit_test(names_that_loop_or_never_end_are_no_match),
        cmocka_unit_test(a_question_may_not_point_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
