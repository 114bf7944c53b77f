#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>

#include "lib/dns_message.h"
#include "wire/dns_lookup.h"

/*
 * The engine on a virtual clock. Its steps are written down: "4.0" is the question for IPv4 addresses to the
 * first server, "6.1" that for IPv6 addresses to the second; "+" opened with OPT, "=" sent again, "t" opened
 * over TCP, "-" closed; "." is the end.
 */

static struct dns_lookup lookup;
static int64_t now_ms;
static char steps[1024];
static uint16_t ids[DNS_EXCHANGES]; /* of what was sent last */
static struct dns_message m;

enum { A = 0, AAAA = DNS_SERVERS_MAX };

static void note_query(unsigned exchange, bool has_opt)
{
    uint8_t bytes[DNS_QUERY_MAX];
    struct writer w = writer_of(bytes, sizeof bytes);
    static uint16_t random;
    dns_lookup_query(&lookup, exchange, ++random, &w);
    assert_false(w.failed);
    ids[exchange] = (uint16_t) (bytes[0] << 8 | bytes[1]);
    dns_message_begin(&m, ids[exchange], 0x0100, lookup.asked, exchange < AAAA ? DNS_TYPE_A : DNS_TYPE_AAAA);
    m.bytes[11] = has_opt;
    assert_int_equal(w.len, m.len + (has_opt ? 11 : 0));
    assert_memory_equal(bytes, m.bytes, m.len);
}

static void run(void)
{
    struct dns_step step;
    do {
        dns_lookup_next(&lookup, &step);
        static const char signs[] = {'\0', '+', '=', '-', '\0'};
        if (step.type == DNS_STEP_OPEN || step.type == DNS_STEP_SEND)
            note_query(step.exchange, step.type == DNS_STEP_OPEN && !step.over_tcp);
        if (step.type == DNS_STEP_DONE)
            strcat(steps, ".");
        else if (step.type != DNS_STEP_NONE)
            snprintf(steps + strlen(steps), sizeof steps - strlen(steps), "%s%u.%u%c",
                     steps[0] != '\0' ? " " : "", step.exchange < AAAA ? 4U : 6U,
                     step.exchange % DNS_SERVERS_MAX,
                     step.type == DNS_STEP_OPEN && step.over_tcp ? 't' : signs[step.type]);
    } while (step.type != DNS_STEP_NONE && step.type != DNS_STEP_DONE);
}

static void expect_steps(const char *expected)
{
    run();
    assert_string_equal(steps, expected);
    steps[0] = '\0';
}

static void start(const char *resolv_conf, const char *name)
{
    struct dns_config config;
    dns_config_parse(&config, str_from(resolv_conf));
    now_ms = 1000;
    steps[0] = '\0';
    dns_lookup_start(&lookup, &config, str_from(name), now_ms);
}

/* Lets the time pass until the engine wants to be called, and says how long that was. */
static int64_t pass(void)
{
    run();
    int64_t before_ms = now_ms;
    now_ms = dns_lookup_deadline(&lookup);
    assert_true(now_ms > before_ms && now_ms < INT64_MAX);
    dns_lookup_tick(&lookup, now_ms - 1); /* nothing is early */
    dns_lookup_tick(&lookup, now_ms);
    return now_ms - before_ms;
}

static void begin_answer(unsigned exchange, unsigned flags)
{
    dns_message_begin(&m, ids[exchange], DNS_MESSAGE_ANSWER | flags, lookup.asked,
                      exchange < AAAA ? DNS_TYPE_A : DNS_TYPE_AAAA);
}

static void hand_over(unsigned exchange)
{
    dns_lookup_received(&lookup, exchange, m.bytes, m.len, now_ms);
}

static void answer(unsigned exchange, const char *address)
{
    begin_answer(exchange, 0);
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, address);
    hand_over(exchange);
}

static void answer_code(unsigned exchange, unsigned code)
{
    begin_answer(exchange, code);
    hand_over(exchange);
}

static void expect_addresses(const char *expected)
{
    char text[512];
    struct writer w = writer_of(text, sizeof text);
    assert_int_equal(lookup.result.outcome, expected[0] != '\0' ? DNS_FOUND : lookup.result.outcome);
    for (size_t i = 0; i < lookup.result.count; i++) {
        writer_text(&w, i > 0 ? " " : "");
        writer_ip(&w, lookup.result.addresses[i]);
    }
    assert_string_equal(writer_terminate(&w), expected);
}

static void expect_failure(int code, const char *text)
{
    struct error err = ERROR_INIT;
    assert_int_equal(lookup.result.count, 0);
    assert_int_equal(dns_result_explain(&lookup.result, &err), code);
    assert_string_equal(err.text, text);
}

static const char one[] = "nameserver 10.0.0.2\n";
static const char two[] = "nameserver 10.0.0.2\nnameserver 10.0.0.3\n";
static const char three[] = "nameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n";

/* --- both questions ----------------------------------------------------------------------------------- */

static void both_families_are_asked_at_once(void **state)
{
    (void) state;
    start(three, "db.example");
    expect_steps("4.0+ 6.0+");
    assert_int_not_equal(ids[A], ids[AAAA]);
    answer(A, "10.0.0.1");
    expect_steps("4.0-");
    answer(AAAA, "fd00::1");
    expect_steps("6.0-.");
    expect_addresses("fd00::1 10.0.0.1");
    assert_int_equal(dns_lookup_deadline(&lookup), INT64_MAX);
    assert_int_equal(dns_result_explain(&lookup.result, NULL), 0);
}

static void a_lost_answer_for_ipv6_costs_50_ms(void **state)
{
    (void) state;
    start(one, "db.example");
    run();
    answer(A, "10.0.0.1");
    assert_int_equal(pass(), DNS_WAIT_FOR_IPV6_MS);
    expect_steps("4.0+ 6.0+ 4.0- 6.0-.");
    expect_addresses("10.0.0.1");
}

static void a_lost_answer_for_ipv4_is_asked_for_once_more(void **state)
{
    (void) state;
    start(one, "db.example");
    run();
    answer(AAAA, "fd00::1");
    assert_int_equal(pass(), DNS_FIRST_SILENCE_MS);
    expect_steps("4.0+ 6.0+ 6.0- 4.0=");
    answer(A, "10.0.0.1");
    expect_steps("4.0-.");
    expect_addresses("fd00::1 10.0.0.1");

    start(one, "db.example");
    run();
    answer(AAAA, "fd00::1");
    int64_t waited_ms = pass();
    waited_ms += pass();
    assert_int_equal(waited_ms, DNS_WAIT_FOR_IPV4_MS);
    expect_steps("4.0+ 6.0+ 6.0- 4.0= 4.0-.");
    expect_addresses("fd00::1");
}

static void a_family_without_addresses_is_no_reason_to_hurry(void **state)
{
    (void) state;
    start(one, "db.example");
    run();
    answer_code(AAAA, DNS_CODE_OK);
    assert_int_equal(pass(), DNS_FIRST_SILENCE_MS);
    expect_steps("4.0+ 6.0+ 6.0- 4.0=");
    answer(A, "10.0.0.1");
    expect_steps("4.0-.");
    expect_addresses("10.0.0.1");
}

static void a_family_that_fails_does_not_make_a_name_unreachable(void **state)
{
    (void) state;
    static const unsigned codes[] = {DNS_CODE_FAILED, DNS_CODE_NO_NAME, DNS_CODE_REFUSED, 9};
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        for (unsigned failing = A; failing <= AAAA; failing += AAAA) {
            start(one, "db.example");
            run();
            answer_code(failing, codes[i]);
            answer(AAAA - failing, failing == A ? "fd00::1" : "10.0.0.1");
            run();
            expect_addresses(failing == A ? "fd00::1" : "10.0.0.1");
        }
    }
}

static void outcomes_are_told_apart(void **state)
{
    (void) state;
    enum { OK = DNS_CODE_OK, FAILED = DNS_CODE_FAILED, NONE = DNS_CODE_NO_NAME, REFUSED = DNS_CODE_REFUSED };
    static const char no_name[] = "no such name";
    static const char no_addresses[] = "the name has no addresses";
    static const char failed[] = "name server 10.0.0.2 failed (SERVFAIL)";
    static const struct {
        unsigned a, aaaa;
        int code;
        const char *text;
    } cases[] = {
        {NONE, NONE, ERROR_NOT_FOUND, no_name},
        {OK, OK, ERROR_NOT_FOUND, no_addresses},
        {OK, NONE, ERROR_NOT_FOUND, no_addresses}, /* said of IPv6 only, it means that */
        {NONE, OK, ERROR_NOT_FOUND, no_name},
        {NONE, FAILED, ERROR_NOT_FOUND, no_name},
        {FAILED, NONE, ERROR_UNAVAILABLE, failed},
        {OK, FAILED, ERROR_UNAVAILABLE, failed},
        {FAILED, OK, ERROR_UNAVAILABLE, failed},
        {REFUSED, REFUSED, ERROR_UNAVAILABLE, "name server 10.0.0.2 refused to answer (REFUSED)"},
        {9, 9, ERROR_UNAVAILABLE, "name server 10.0.0.2 failed (code 9)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        start(one, "db.example");
        run();
        answer_code(A, cases[i].a);
        answer_code(AAAA, cases[i].aaaa);
        expect_steps("4.0+ 6.0+ 4.0- 6.0-.");
        expect_failure(cases[i].code, cases[i].text);
    }
}

/* --- servers ------------------------------------------------------------------------------------------ */

/* Sends at which the IPv4 question goes out until it is given up. */
static void expect_schedule(const char *resolv_conf, const int64_t *gaps_ms, size_t count, const char *trace)
{
    start(resolv_conf, "db.example");
    run();
    answer_code(AAAA, DNS_CODE_OK);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(pass(), gaps_ms[i]);
    expect_steps(trace);
    expect_failure(ERROR_UNAVAILABLE, "no name server gave an answer");
}

static void silence_goes_round_the_servers_with_growing_gaps(void **state)
{
    (void) state;
    expect_schedule(one, (const int64_t[]){500, 5000}, 2, "4.0+ 6.0+ 6.0- 4.0= 4.0-.");
    expect_schedule(two, (const int64_t[]){500, 1000, 2000, 5000}, 4,
                    "4.0+ 6.0+ 6.0- 4.1+ 4.0= 4.1= 4.0- 4.1-.");
    expect_schedule(three, (const int64_t[]){500, 1000, 2000, 4000, 5000, 5000}, 6,
                    "4.0+ 6.0+ 6.0- 4.1+ 4.2+ 4.0= 4.1= 4.2= 4.0- 4.1- 4.2-.");
    expect_schedule("nameserver 10.0.0.2\noptions attempts:1 timeout:2\n", (const int64_t[]){2000}, 1,
                    "4.0+ 6.0+ 6.0- 4.0-.");
    expect_schedule("nameserver 10.0.0.2\noptions attempts:4 timeout:1\n",
                    (const int64_t[]){500, 1000, 1000, 1000}, 4, "4.0+ 6.0+ 6.0- 4.0= 4.0= 4.0= 4.0-.");
}

static void a_slow_server_is_still_heard(void **state)
{
    (void) state;
    start(two, "db.example");
    run();
    pass();
    expect_steps("4.0+ 6.0+ 4.1+ 6.1+");
    assert_int_not_equal(ids[A], ids[A + 1]);
    answer(A, "10.0.0.1");
    answer_code(AAAA, DNS_CODE_OK);
    expect_steps("4.0- 4.1- 6.0- 6.1-.");
    expect_addresses("10.0.0.1");
}

static void a_server_that_fails_is_followed_by_the_next_at_once(void **state)
{
    (void) state;
    start(three, "db.example");
    run();
    answer_code(A, DNS_CODE_FAILED);
    dns_lookup_broke(&lookup, AAAA, ECONNREFUSED, now_ms);
    expect_steps("4.0+ 6.0+ 4.0- 4.1+ 6.0- 6.1+");
    answer_code(A + 1, DNS_CODE_REFUSED);
    answer(AAAA + 1, "fd00::1");
    expect_steps("4.1- 4.2+ 6.1-");
    answer(A + 2, "10.0.0.1");
    expect_steps("4.2-.");
    expect_addresses("fd00::1 10.0.0.1");
}

static void servers_that_can_not_be_asked_end_it_at_once(void **state)
{
    (void) state;
    start(two, "db.example");
    run();
    for (unsigned server = 0; server < 2; server++)
        for (unsigned question = A; question <= AAAA; question += AAAA) {
            dns_lookup_broke(&lookup, question + server, ENETUNREACH, now_ms);
            run();
        }
    expect_steps("4.0+ 6.0+ 4.0- 4.1+ 6.0- 6.1+ 4.1- 6.1-..");
    char expected[128]; /* the C libraries differ */
    snprintf(expected, sizeof expected, "name server 10.0.0.3 can't be asked: %s", strerror(ENETUNREACH));
    expect_failure(ERROR_UNAVAILABLE, expected);
}

/* One server is silent, the other fails: the silent one may still answer. */
static void a_failure_waits_for_those_that_were_asked_before(void **state)
{
    (void) state;
    start(two, "db.example");
    run();
    answer_code(AAAA, DNS_CODE_OK);
    pass();
    run();
    answer_code(A + 1, DNS_CODE_FAILED);
    expect_steps("4.0+ 6.0+ 6.0- 4.1+ 4.1-");
    answer(A, "10.0.0.1");
    expect_steps("4.0-.");
    expect_addresses("10.0.0.1");
}

static void a_server_that_does_not_know_opt_is_asked_without(void **state)
{
    (void) state;
    static const unsigned codes[] = {DNS_CODE_MALFORMED, DNS_CODE_UNKNOWN};
    for (size_t i = 0; i < 2; i++) {
        start(one, "db.example");
        run();
        answer_code(A, codes[i]);
        expect_steps("4.0+ 6.0+ 4.0=");
        answer_code(A, codes[i]); /* not for that reason, then */
        expect_steps("4.0-");
        answer(AAAA, "fd00::1");
        run();
        expect_addresses("fd00::1");
    }
}

/* --- truncated answers -------------------------------------------------------------------------------- */

static void a_truncated_answer_is_fetched_over_tcp(void **state)
{
    (void) state;
    start(two, "db.example");
    run();
    answer_code(AAAA, DNS_CODE_OK);
    run();
    begin_answer(A, DNS_MESSAGE_TRUNCATED);
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.1");
    hand_over(A);
    expect_steps("4.0+ 6.0+ 6.0- 4.0t");
    begin_answer(A, 0);
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.2");
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.1");
    hand_over(A);
    expect_steps("4.0-.");
    expect_addresses("10.0.0.2 10.0.0.1");
}

static void without_tcp_what_the_truncated_answer_had_must_do(void **state)
{
    (void) state;
    for (int how = 0; how < 3; how++) {
        start(two, "db.example");
        run();
        answer_code(AAAA, DNS_CODE_OK);
        run();
        begin_answer(A, DNS_MESSAGE_TRUNCATED);
        dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "10.0.0.1");
        hand_over(A);
        run();
        if (how == 0)
            dns_lookup_broke(&lookup, A, ECONNREFUSED, now_ms);
        else if (how == 1)
            assert_int_equal(pass(), 5000);
        else
            dns_lookup_received(&lookup, A, (const uint8_t *) "nonsense", 8, now_ms);
        expect_steps("4.0+ 6.0+ 6.0- 4.0t 4.0-.");
        expect_addresses("10.0.0.1");
    }
}

static void without_tcp_and_addresses_the_next_server_is_asked(void **state)
{
    (void) state;
    start(two, "db.example");
    run();
    answer_code(AAAA, DNS_CODE_OK);
    run();
    answer_code(A, DNS_MESSAGE_TRUNCATED);
    run();
    dns_lookup_broke(&lookup, A, ECONNREFUSED, now_ms);
    expect_steps("4.0+ 6.0+ 6.0- 4.0t 4.0- 4.1+");
    answer_code(A + 1, DNS_MESSAGE_TRUNCATED);
    expect_steps("4.1t");
    begin_answer(A + 1, 0);
    m.len--;
    hand_over(A + 1);
    expect_steps("4.1-.");
    expect_failure(ERROR_UNAVAILABLE, "name server 10.0.0.3 gave a malformed answer");
}

static void a_truncated_answer_with_enough_addresses_will_do(void **state)
{
    (void) state;
    start(one, "db.example");
    run();
    answer_code(AAAA, DNS_CODE_OK);
    run();
    begin_answer(A, DNS_MESSAGE_TRUNCATED);
    for (uint8_t i = 0; i < DNS_ADDRESSES_MAX; i++)
        dns_message_add(&m, DNS_MESSAGE_QUESTION, DNS_TYPE_A, (const uint8_t[]){10, 0, 0, i}, 4);
    hand_over(A);
    expect_steps("4.0+ 6.0+ 6.0- 4.0-.");
    assert_int_equal(lookup.result.count, DNS_ADDRESSES_MAX);
}

/* --- what others send --------------------------------------------------------------------------------- */

static void forged_answers_are_dropped(void **state)
{
    (void) state;
    start(one, "db.example");
    run();
    ids[A]++;
    answer(A, "6.6.6.6");
    ids[A]--;
    begin_answer(AAAA, 0); /* an answer to the other question, with its id */
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "6.6.6.6");
    hand_over(A);
    dns_message_begin(&m, ids[A], DNS_MESSAGE_ANSWER, "other.example", DNS_TYPE_A);
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "6.6.6.6");
    hand_over(A);
    dns_lookup_received(&lookup, A, (const uint8_t *) "nonsense", 8, now_ms);
    dns_lookup_received(&lookup, A, m.bytes, 0, now_ms);
    expect_steps("4.0+ 6.0+");
    answer(A, "10.0.0.1");
    answer(A, "6.6.6.6"); /* too late */
    answer_code(AAAA, DNS_CODE_OK);
    run();
    expect_addresses("10.0.0.1");
    answer(AAAA, "fd00::6");
    dns_lookup_broke(&lookup, A, ECONNREFUSED, now_ms);
    dns_lookup_tick(&lookup, now_ms + 100000);
    run();
    expect_addresses("10.0.0.1");
}

static void the_same_question_has_the_same_id_and_others_have_others(void **state)
{
    (void) state;
    start(two, "db.example");
    run();
    uint16_t first[2] = {ids[A], ids[AAAA]};
    pass();
    run();
    assert_int_not_equal(ids[A + 1], ids[A]);
    pass();
    run();
    assert_int_equal(ids[A], first[0]);
    assert_int_equal(ids[AAAA], first[1]);
    answer_code(A, DNS_MESSAGE_TRUNCATED);
    run();
    assert_int_not_equal(ids[A], first[0]); /* over TCP */
}

/* --- the search list ---------------------------------------------------------------------------------- */

static void expect_forms(const char *resolv_conf, const char *name, const char *const *forms, size_t count)
{
    start(resolv_conf, name);
    for (size_t i = 0; i < count; i++) {
        run();
        assert_false(lookup.is_done);
        assert_string_equal(lookup.asked, forms[i]);
        answer_code(A, DNS_CODE_NO_NAME);
        answer_code(AAAA, DNS_CODE_NO_NAME);
    }
    run();
    assert_true(lookup.is_done);
    expect_failure(ERROR_NOT_FOUND, "no such name");
}

static void short_names_are_asked_for_with_each_domain(void **state)
{
    (void) state;
    static const char search[] = "search one.example two.example.\nnameserver 10.0.0.2\n";
    expect_forms(search, "db", (const char *const[]){"db.one.example", "db.two.example.", "db"}, 3);
    expect_forms(search, "db.", (const char *const[]){"db."}, 1);
    expect_forms(search, "db.example", (const char *const[]){"db.example"}, 1);
    expect_forms("search one.example\noptions ndots:2\n", "db.example",
                 (const char *const[]){"db.example.one.example", "db.example"}, 2);
    expect_forms("search one.example\noptions ndots:0\n", "db", (const char *const[]){"db"}, 1);
    expect_forms("search . one..example b\xc3\xbc.example x\n", "db", (const char *const[]){"db.x", "db"}, 2);
}

static void a_form_that_would_be_too_long_is_left_out(void **state)
{
    (void) state;
    char name[DNS_NAME_SIZE];
    memset(name, 'a', sizeof name);
    for (size_t i = 50; i < sizeof name; i += 50)
        name[i] = '.';
    name[DNS_NAME_SIZE - 1] = '\0';
    expect_forms("search one.example\noptions ndots:15\n", name, (const char *const[]){name}, 1);
}

static void the_first_form_that_has_addresses_counts(void **state)
{
    (void) state;
    start("search one.example two.example\nnameserver 10.0.0.2\n", "db");
    run();
    answer_code(A, DNS_CODE_NO_NAME);
    answer_code(AAAA, DNS_CODE_NO_NAME);
    expect_steps("4.0+ 6.0+ 4.0+ 6.0+"); /* new sockets for the new question */
    answer(A, "10.0.0.1");
    answer_code(AAAA, DNS_CODE_OK);
    run();
    expect_addresses("10.0.0.1");
    assert_string_equal(lookup.asked, "db.two.example");
}

/* Where a server fails, the name may exist: the next form could be another host. */
static void a_failure_ends_the_search(void **state)
{
    (void) state;
    start("search one.example\nnameserver 10.0.0.2\n", "db");
    run();
    answer_code(A, DNS_CODE_FAILED);
    answer_code(AAAA, DNS_CODE_NO_NAME);
    run();
    assert_true(lookup.is_done);
    expect_failure(ERROR_UNAVAILABLE, "name server 10.0.0.2 failed (SERVFAIL)");
}

static void a_form_without_addresses_is_more_than_no_name(void **state)
{
    (void) state;
    start("search one.example two.example\nnameserver 10.0.0.2\n", "db");
    run();
    answer_code(A, DNS_CODE_OK);
    answer_code(AAAA, DNS_CODE_OK);
    for (int form = 0; form < 2; form++) {
        run();
        answer_code(A, DNS_CODE_NO_NAME);
        answer_code(AAAA, DNS_CODE_NO_NAME);
    }
    run();
    expect_failure(ERROR_NOT_FOUND, "the name has no addresses");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_families_are_asked_at_once),
        cmocka_unit_test(a_lost_answer_for_ipv6_costs_50_ms),
        cmocka_unit_test(a_lost_answer_for_ipv4_is_asked_for_once_more),
        cmocka_unit_test(a_family_without_addresses_is_no_reason_to_hurry),
        cmocka_unit_test(a_family_that_fails_does_not_make_a_name_unreachable),
        cmocka_unit_test(outcomes_are_told_apart),
        cmocka_unit_test(silence_goes_round_the_servers_with_growing_gaps),
        cmocka_unit_test(a_slow_server_is_still_heard),
        cmocka_unit_test(a_server_that_fails_is_followed_by_the_next_at_once),
        cmocka_unit_test(servers_that_can_not_be_asked_end_it_at_once),
        cmocka_unit_test(a_failure_waits_for_those_that_were_asked_before),
        cmocka_unit_test(a_server_that_does_not_know_opt_is_asked_without),
        cmocka_unit_test(a_truncated_answer_is_fetched_over_tcp),
        cmocka_unit_test(without_tcp_what_the_truncated_answer_had_must_do),
        cmocka_unit_test(without_tcp_and_addresses_the_next_server_is_asked),
        cmocka_unit_test(a_truncated_answer_with_enough_addresses_will_do),
        cmocka_unit_test(forged_answers_are_dropped),
        cmocka_unit_test(the_same_question_has_the_same_id_and_others_have_others),
        cmocka_unit_test(short_names_are_asked_for_with_each_domain),
        cmocka_unit_test(a_form_that_would_be_too_long_is_left_out),
        cmocka_unit_test(the_first_form_that_has_addresses_counts),
        cmocka_unit_test(a_failure_ends_the_search),
        cmocka_unit_test(a_form_without_addresses_is_more_than_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
