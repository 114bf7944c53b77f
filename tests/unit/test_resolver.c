#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/name_server.h"
#include "lib/text_file.h"
#include "net/resolver.h"

static struct loop loop;
static struct resolver resolver;
static struct name_server server;
static char resolv_conf[TEXT_FILE_PATH_SIZE];
static char hosts[TEXT_FILE_PATH_SIZE];
static int descriptors_before;

static atomic_int speaks; /* names that begin with "slow" are answered */
static atomic_int source_ports[2];

static int open_descriptors(void)
{
    int count = 0;
    for (int fd = 0; fd < 512; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* --- what the server says ----------------------------------------------------------------------------- */

static bool begins(const struct name_server_query *query, const char *prefix)
{
    return strncmp(query->name, prefix, strlen(prefix)) == 0;
}

static void add_many(struct dns_message *m, size_t count)
{
    for (size_t i = 0; i < count; i++)
        dns_message_add(m, DNS_MESSAGE_QUESTION, DNS_TYPE_A,
                        (const uint8_t[]){10, 1, (uint8_t) (i >> 8), (uint8_t) i}, 4);
}

/* Sends a wrong answer from a port that was not asked. */
static void forge_from_elsewhere(const struct name_server_query *query)
{
    static struct dns_message m;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(query->source_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    dns_message_begin(&m, query->id, DNS_MESSAGE_ANSWER, query->name, query->type);
    dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "6.6.6.6");
    sendto(fd, m.bytes, m.len, 0, (struct sockaddr *) &to, sizeof to);
    close(fd);
}

/* Sends wrong answers from the port that was asked. */
static void forge_from_here(const struct name_server_query *query)
{
    static struct dns_message m;
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(query->source_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    for (int kind = 0; kind < 3; kind++) {
        dns_message_begin(&m, query->id + (kind == 0), kind == 1 ? 0x0100 : DNS_MESSAGE_ANSWER,
                          kind == 2 ? "other.test" : query->name, query->type);
        dns_message_add_address(&m, DNS_MESSAGE_QUESTION, "6.6.6.6");
        sendto(server.udp_fd, m.bytes, m.len, 0, (struct sockaddr *) &to, sizeof to);
    }
    sendto(server.udp_fd, "nonsense", 8, 0, (struct sockaddr *) &to, sizeof to);
}

static void truncate_over_udp(const struct name_server_query *query, struct dns_message *answer, size_t count)
{
    if (query->over_tcp)
        add_many(answer, count);
    else
        answer->bytes[2] |= DNS_MESSAGE_TRUNCATED >> 8;
}

static void serve_a(const struct name_server_query *query, struct dns_message *answer)
{
    atomic_store(&source_ports[0], query->source_port);
    if (begins(query, "forged-elsewhere"))
        forge_from_elsewhere(query);
    if (begins(query, "forged-here"))
        forge_from_here(query);
    if (begins(query, "long"))
        truncate_over_udp(query, answer, 200);
    else if (begins(query, "endless"))
        truncate_over_udp(query, answer, 3000);
    else if (begins(query, "no-tcp") && query->over_tcp)
        answer->len = 0;
    else if (begins(query, "no-tcp"))
        answer->bytes[2] |= DNS_MESSAGE_TRUNCATED >> 8;
    else if (begins(query, "twenty"))
        add_many(answer, 20);
    else if (begins(query, "alias"))
        dns_message_add_address(answer, dns_message_add_alias(answer, DNS_MESSAGE_QUESTION, "cluster.test"),
                                "10.0.0.7");
    else
        dns_message_add(answer, DNS_MESSAGE_QUESTION, DNS_TYPE_A,
                        (const uint8_t[]){10, 0, 0, (uint8_t) strlen(query->name)}, 4);
}

static void serve(const struct name_server_query *query, struct dns_message *answer, void *context)
{
    (void) context;
    bool is_a = query->type == DNS_TYPE_A;
    if (begins(query, "slow") && !atomic_load(&speaks))
        answer->len = 0;
    else if (begins(query, "missing") || begins(query, "short.one.test"))
        answer->bytes[3] |= DNS_CODE_NO_NAME;
    else if (begins(query, "broken") || (begins(query, "unwell") && !is_a))
        answer->bytes[3] |= DNS_CODE_FAILED;
    else if (begins(query, "lossy") && !is_a)
        answer->len = 0;
    else if (is_a && !begins(query, "empty"))
        serve_a(query, answer);
    else
        atomic_store(&source_ports[1], query->source_port);
}

static void serve_nothing(const struct name_server_query *query, struct dns_message *answer, void *context)
{
    (void) query;
    (void) context;
    answer->len = 0;
}

/* --- the resolver in its loop ------------------------------------------------------------------------- */

static int setup(void **state)
{
    (void) state;
    atomic_store(&speaks, 0);
    text_file_make(resolv_conf, "search one.test two.test\nnameserver 127.0.0.1\n");
    text_file_make(hosts, "10.0.0.9 known.test\n");
    name_server_open(&server, "127.0.0.1", 0, serve, NULL);
    if (loop_open(&loop, NULL) != 0)
        return -1;
    descriptors_before = open_descriptors();
    resolver_open(&resolver, &loop);
    resolver_use_files(&resolver, resolv_conf, hosts);
    resolver.port = server.port;
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    resolver_close(&resolver);
    assert_null(loop.timers);
    assert_int_equal(open_descriptors(), descriptors_before);
    loop_close(&loop);
    name_server_close(&server);
    text_file_remove(resolv_conf);
    text_file_remove(hosts);
    return 0;
}

static int told;

static void count_answer(struct resolver_request *request)
{
    (void) request;
    told++;
}

static void wait_until_told(int count)
{
    for (int turns = 0; told < count && turns < 2000; turns++)
        loop_turn(&loop, 10, NULL);
    assert_int_equal(told, count);
}

static struct resolver_request request;

static int64_t resolve(const char *name)
{
    told = 0;
    loop_turn(&loop, 0, NULL);
    int64_t start_ms = clock_monotonic_ms();
    assert_int_equal(resolver_start(&resolver, &request, name, DESCRIPTORS_FOR_STREAMS, count_answer, NULL),
                     0);
    assert_int_equal(told, 0);
    wait_until_told(1);
    return clock_monotonic_ms() - start_ms;
}

static void expect(const char *name, const char *expected)
{
    char text[512];
    struct writer w = writer_of(text, sizeof text);
    resolve(name);
    for (size_t i = 0; i < request.result.count; i++) {
        writer_text(&w, i > 0 ? " " : "");
        writer_ip(&w, request.result.addresses[i]);
    }
    assert_string_equal(writer_terminate(&w), expected);
}

static void expect_failure(const char *name, int code, const char *reason)
{
    struct error err = ERROR_INIT;
    expect(name, "");
    assert_int_equal(dns_result_explain(&request.result, &err), code);
    assert_string_equal(err.text, reason);
}

static int questions(void)
{
    return atomic_load(&server.udp_count) + atomic_load(&server.tcp_count);
}

/* --- without name servers ----------------------------------------------------------------------------- */

static void literals_are_told_later_too_and_ask_nobody(void **state)
{
    (void) state;
    expect("10.1.2.3", "10.1.2.3");
    expect("fd00::1", "fd00::1");
    assert_int_equal(questions(), 0);
}

static void localhost_needs_no_name_server(void **state)
{
    (void) state;
    static const char *const names[] = {"localhost", "LocalHost.", "db.localhost"};
    for (size_t i = 0; i < 3; i++) {
        resolve(names[i]);
        assert_int_equal(request.result.count, 2);
        bool v4_first = request.result.addresses[0].version == IP_V4; /* where there is no IPv6 */
        assert_int_equal(request.result.addresses[!v4_first].bytes[0], 127);
        assert_int_equal(request.result.addresses[v4_first].bytes[15], 1);
    }
    assert_int_equal(questions(), 0);
}

static void the_hosts_file_counts_before_name_servers(void **state)
{
    (void) state;
    expect("known.test", "10.0.0.9");
    expect("KNOWN.test.", "10.0.0.9");
    assert_int_equal(questions(), 0);
    expect("other.test", "10.0.0.10");
}

static void files_are_read_again_when_they_are_old(void **state)
{
    (void) state;
    expect("known.test", "10.0.0.9");
    text_file_write(hosts, "10.0.0.8 known.test\n");
    text_file_write(resolv_conf, "nameserver 127.0.0.2\nnameserver 127.0.0.1\noptions attempts:1\n");
    resolver.read_ms = loop_now_ms(&loop);
    expect("known.test", "10.0.0.9");
    resolver.read_ms -= RESOLVER_FILE_AGE_MS;
    expect("known.test", "10.0.0.8");
    expect("db.test", "10.0.0.7"); /* the first server is not there, and says so */
    /* A file that can't be read any more, as in a sandbox, is taken as it was. */
    text_file_remove(hosts);
    resolver.read_ms -= RESOLVER_FILE_AGE_MS;
    expect("known.test", "10.0.0.8");
}

static void half_a_line_is_not_read(void **state)
{
    (void) state;
    static char text[RESOLVER_FILE_MAX + 64];
    memset(text, '#', sizeof text - 1);
    memcpy(text, "10.0.0.8 first.test\n", 20);
    memcpy(text + RESOLVER_FILE_MAX - 18, "\n10.0.0.8 last.test.example\n", 27);
    text_file_write(hosts, text);
    resolver.read_ms -= RESOLVER_FILE_AGE_MS;
    expect("first.test", "10.0.0.8");
    expect("last.test", "10.0.0.9"); /* the server's */
}

/* --- name servers ------------------------------------------------------------------------------------- */

static void a_name_is_answered_from_the_loop(void **state)
{
    (void) state;
    expect("db.test", "10.0.0.7");
    assert_int_equal(questions(), 2);
    assert_int_not_equal(atomic_load(&source_ports[0]), atomic_load(&source_ports[1]));
    int first_port = atomic_load(&source_ports[0]);
    expect("db.test", "10.0.0.7"); /* nothing is kept */
    assert_int_equal(questions(), 4);
    assert_int_not_equal(atomic_load(&source_ports[0]), first_port);
    expect("alias.test", "10.0.0.7");
    expect("twenty.test", "10.1.0.0 10.1.0.1 10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6 10.1.0.7");
}

static void negative_answers_are_told_apart(void **state)
{
    (void) state;
    expect_failure("missing.test", ERROR_NOT_FOUND, "no such name");
    expect_failure("empty.test", ERROR_NOT_FOUND, "the name has no addresses");
    expect_failure("broken.test", ERROR_UNAVAILABLE, "name server 127.0.0.1 failed (SERVFAIL)");
    text_file_write(resolv_conf, "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n");
    resolver.read_ms -= RESOLVER_FILE_AGE_MS;
    expect_failure("slow.test", ERROR_UNAVAILABLE, "no name server gave an answer");
    resolver.port = 1;
    expect_failure("db.test", ERROR_UNAVAILABLE, "name server 127.0.0.1 can't be asked: Connection refused");
}

static void one_family_is_enough(void **state)
{
    (void) state;
    expect("unwell.test", "10.0.0.11");
    int64_t took_ms = resolve("lossy.test");
    assert_in_range(took_ms, DNS_WAIT_FOR_IPV6_MS - 1, DNS_FIRST_SILENCE_MS - 1);
    assert_int_equal(request.result.count, 1);
}

static void long_answers_come_over_tcp(void **state)
{
    (void) state;
    static const char eight[] = "10.1.0.0 10.1.0.1 10.1.0.2 10.1.0.3 10.1.0.4 10.1.0.5 10.1.0.6 10.1.0.7";
    expect("long.test", eight); /* 3,200 bytes */
    assert_int_equal(atomic_load(&server.tcp_count), 1);
    expect("endless.test", eight); /* 48,000 bytes, of which the first 4,096 are looked at */
    assert_int_equal(atomic_load(&server.tcp_count), 2);
    expect_failure("no-tcp.test", ERROR_UNAVAILABLE,
                   "name server 127.0.0.1 can't be asked: Connection reset by peer");
}

static void a_silent_server_is_followed_by_the_next(void **state)
{
    (void) state;
    struct name_server silent;
    name_server_open(&silent, "127.0.0.2", server.port, serve_nothing, NULL);
    descriptors_before = open_descriptors();
    text_file_write(resolv_conf, "nameserver 127.0.0.2\nnameserver 127.0.0.1\n");
    resolver.read_ms -= RESOLVER_FILE_AGE_MS;
    int64_t took_ms = resolve("db.test");
    assert_in_range(took_ms, DNS_FIRST_SILENCE_MS - 1, 3 * DNS_FIRST_SILENCE_MS);
    assert_int_equal(request.result.count, 1);
    assert_int_equal(atomic_load(&silent.udp_count), 2);
    assert_int_equal(open_descriptors(), descriptors_before);
    name_server_close(&silent);
    descriptors_before = open_descriptors();
}

static void a_server_that_is_not_there_is_followed_by_the_next_at_once(void **state)
{
    (void) state;
    text_file_write(resolv_conf, "nameserver 127.0.0.2\nnameserver 127.0.0.1\n");
    resolver.read_ms -= RESOLVER_FILE_AGE_MS;
    assert_in_range(resolve("db.test"), 0, DNS_FIRST_SILENCE_MS - 1);
    assert_int_equal(request.result.count, 1);
}

static void forged_answers_are_dropped(void **state)
{
    (void) state;
    expect("forged-elsewhere.test", "10.0.0.21");
    expect("forged-here.test", "10.0.0.16");
}

static void short_names_have_the_search_list(void **state)
{
    (void) state;
    expect("short", "10.0.0.14"); /* "short.two.test" */
}

/* --- who asks ----------------------------------------------------------------------------------------- */

static int start_slow(struct resolver_request *one, size_t number, struct error *err)
{
    char name[16];
    snprintf(name, sizeof name, "slow%zu.test", number);
    return resolver_start(&resolver, one, name, DESCRIPTORS_FOR_STREAMS, count_answer, err);
}

enum { FOR_STREAMS = RESOLVER_LOOKUPS_MAX - RESOLVER_LOOKUPS_RESERVE };

static int lookups(void)
{
    return __builtin_popcount(resolver.busy);
}

static void names_beyond_the_lookups_wait_their_turn(void **state)
{
    (void) state;
    enum { NAMES = FOR_STREAMS + 5 };
    struct resolver_request requests[NAMES];
    told = 0;
    for (size_t i = 0; i < NAMES; i++)
        assert_int_equal(start_slow(&requests[i], i, NULL), 0);
    assert_int_equal(lookups(), FOR_STREAMS);
    assert_int_equal(resolver.waiting_count, 5);
    /* Literals are not held up by silent name servers. */
    resolver_start(&resolver, &request, "10.0.0.1", DESCRIPTORS_FOR_STREAMS, count_answer, NULL);
    wait_until_told(1);
    assert_int_equal(resolver.waiting_count, 5);
    /* Nor is the control channel. */
    struct resolver_request channel;
    assert_int_equal(
        resolver_start(&resolver, &channel, "db.test", DESCRIPTORS_FOR_CHANNELS, count_answer, NULL), 0);
    wait_until_told(2);
    atomic_store(&speaks, 1);
    wait_until_told(NAMES + 2);
    assert_int_equal(resolver.waiting_count, 0);
    assert_int_equal(lookups(), 0);
}

static void a_name_is_looked_up_once_for_all_who_ask(void **state)
{
    (void) state;
    enum { ASKING = 3 * RESOLVER_TOLD_A_TURN };
    struct resolver_request requests[ASKING];
    told = 0;
    for (int i = 0; i < ASKING; i++)
        assert_int_equal(resolver_start(&resolver, &requests[i], "slow.internal", DESCRIPTORS_FOR_STREAMS,
                                        count_answer, NULL),
                         0);
    assert_int_equal(lookups(), 1);
    assert_int_equal(
        resolver_start(&resolver, &request, "db.test", DESCRIPTORS_FOR_STREAMS, count_answer, NULL), 0);
    wait_until_told(1);
    resolver_cancel(&resolver, &requests[1]);
    atomic_store(&speaks, 1);
    wait_until_told(ASKING);
    assert_int_equal(requests[0].result.addresses[0].bytes[3], 13);
    assert_int_equal(requests[ASKING - 1].result.addresses[0].bytes[3], 13);
    int before = questions();
    expect("slow.internal", "10.0.0.13"); /* over: the next is a new one */
    assert_int_equal(questions(), before + 2);
}

static void waiting_names_are_looked_up_once_too(void **state)
{
    (void) state;
    struct resolver_request requests[FOR_STREAMS];
    struct resolver_request same[3];
    told = 0;
    for (size_t i = 0; i < FOR_STREAMS; i++)
        start_slow(&requests[i], i, NULL);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(
            resolver_start(&resolver, &same[i], "late.test", DESCRIPTORS_FOR_STREAMS, count_answer, NULL), 0);
    assert_int_equal(resolver.waiting_count, 3);
    resolver_cancel(&resolver, &requests[5]);
    wait_until_told(3);
    assert_int_equal(lookups(), FOR_STREAMS - 1);
    assert_int_equal(atomic_load(&server.udp_count), 2 * FOR_STREAMS + 2);
}

static void a_cancelled_request_is_not_told(void **state)
{
    (void) state;
    enum { NAMES = FOR_STREAMS + 2 };
    struct resolver_request requests[NAMES];
    told = 0;
    for (size_t i = 0; i < NAMES; i++)
        start_slow(&requests[i], i, NULL);
    resolver_start(&resolver, &request, "10.0.0.1", DESCRIPTORS_FOR_STREAMS, count_answer, NULL);
    resolver_cancel(&resolver, &request);
    resolver_cancel(&resolver, &requests[0]);         /* being looked up */
    resolver_cancel(&resolver, &requests[NAMES - 1]); /* waiting */
    resolver_cancel(&resolver, &requests[0]);
    assert_int_equal(lookups(), FOR_STREAMS - 1); /* nobody waits for that one any more */
    assert_int_equal(resolver.waiting_count, 1);
    memset(&requests[0], 0xee, sizeof requests[0]); /* the memory may go at once */
    memset(&requests[NAMES - 1], 0xee, sizeof requests[0]);
    atomic_store(&speaks, 1);
    wait_until_told(NAMES - 2);
    loop_turn(&loop, 10, NULL);
    assert_int_equal(told, NAMES - 2);
    assert_int_equal(lookups(), 0);
}

static struct resolver_request others[2];

static void cancel_the_other(struct resolver_request *one)
{
    told++;
    resolver_cancel(&resolver, one == &others[0] ? &others[1] : &others[0]);
}

static void an_answer_may_cancel_another_that_has_come(void **state)
{
    (void) state;
    told = 0;
    resolver_start(&resolver, &others[0], "10.0.0.1", DESCRIPTORS_FOR_STREAMS, cancel_the_other, NULL);
    resolver_start(&resolver, &others[1], "10.0.0.2", DESCRIPTORS_FOR_STREAMS, cancel_the_other, NULL);
    loop_turn(&loop, 0, NULL);
    loop_turn(&loop, 0, NULL);
    assert_int_equal(told, 1);
}

static void ask_again(struct resolver_request *one)
{
    if (++told < 3)
        resolver_start(&resolver, one, "db.test", DESCRIPTORS_FOR_STREAMS, ask_again, NULL);
}

static void an_answer_may_ask_for_another(void **state)
{
    (void) state;
    told = 0;
    resolver_start(&resolver, &request, "db.test", DESCRIPTORS_FOR_STREAMS, ask_again, NULL);
    wait_until_told(3);
}

static void bad_names_and_a_full_queue_are_refused(void **state)
{
    (void) state;
    static struct resolver_request requests[FOR_STREAMS + RESOLVER_WAITING_MAX + 1];
    struct error err = ERROR_INIT;
    char name[DNS_NAME_SIZE + 2];
    memset(name, 'a', sizeof name);
    name[DNS_NAME_SIZE] = '\0';
    assert_int_equal(resolver_start(&resolver, &request, "", DESCRIPTORS_FOR_STREAMS, count_answer, &err),
                     ERROR_INVALID);
    assert_string_equal(err.text, "a host name has 1 to 253 characters");
    assert_int_equal(resolver_start(&resolver, &request, name, DESCRIPTORS_FOR_STREAMS, count_answer, &err),
                     ERROR_INVALID);
    for (size_t i = 50; i < DNS_NAME_SIZE; i += 50)
        name[i] = '.';
    name[DNS_NAME_SIZE - 1] = '.'; /* 253 and the dot, which we have no room for */
    assert_int_equal(resolver_start(&resolver, &request, name, DESCRIPTORS_FOR_STREAMS, count_answer, &err),
                     ERROR_INVALID);
    assert_int_equal(resolver_start(&resolver, &request, "a b", DESCRIPTORS_FOR_STREAMS, count_answer, &err),
                     ERROR_INVALID);
    size_t last = FOR_STREAMS + RESOLVER_WAITING_MAX;
    for (size_t i = 0; i < last; i++)
        assert_int_equal(start_slow(&requests[i], i, &err), 0);
    assert_int_equal(start_slow(&requests[last], last, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "1024 names are waiting for a name server already");
    assert_int_equal(start_slow(&requests[last], 0, &err), 0); /* one that is being looked up */
    for (size_t i = 0; i <= last; i++)
        resolver_cancel(&resolver, &requests[i]);
    assert_int_equal(resolver.waiting_count, 0);
    assert_int_equal(lookups(), 0);
}

/* --- the order of addresses --------------------------------------------------------------------------- */

static bool has_ipv6(void)
{
    struct sockaddr_in6 name = {
        .sin6_family = AF_INET6, .sin6_port = htons(53), .sin6_addr = in6addr_loopback};
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_there = fd >= 0 && connect(fd, (struct sockaddr *) &name, sizeof name) == 0;
    close(fd);
    return is_there;
}

static void families_take_turns_the_likelier_first(void **state)
{
    (void) state;
    text_file_write(hosts, "127.0.0.1 both.test\n127.0.0.2 both.test\n127.0.0.3 both.test\n::1 both.test\n"
                           "fe80::1 nowhere.test\nfe80::2 nowhere.test\nfe80::3 nowhere.test\n"
                           "127.0.0.1 nowhere.test\n127.0.0.2 nowhere.test\n");
    resolver.read_ms -= RESOLVER_FILE_AGE_MS;
    expect("both.test",
           has_ipv6() ? "::1 127.0.0.1 127.0.0.2 127.0.0.3" : "127.0.0.1 ::1 127.0.0.2 127.0.0.3");
    /* Without a zone there is no route to these. */
    expect("nowhere.test", "127.0.0.1 fe80::1 127.0.0.2 fe80::2 fe80::3");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(literals_are_told_later_too_and_ask_nobody, setup, teardown),
        cmocka_unit_test_setup_teardown(localhost_needs_no_name_server, setup, teardown),
        cmocka_unit_test_setup_teardown(the_hosts_file_counts_before_name_servers, setup, teardown),
        cmocka_unit_test_setup_teardown(files_are_read_again_when_they_are_old, setup, teardown),
        cmocka_unit_test_setup_teardown(half_a_line_is_not_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_is_answered_from_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(negative_answers_are_told_apart, setup, teardown),
        cmocka_unit_test_setup_teardown(one_family_is_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(long_answers_come_over_tcp, setup, teardown),
        cmocka_unit_test_setup_teardown(a_silent_server_is_followed_by_the_next, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_is_not_there_is_followed_by_the_next_at_once, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(forged_answers_are_dropped, setup, teardown),
        cmocka_unit_test_setup_teardown(short_names_have_the_search_list, setup, teardown),
        cmocka_unit_test_setup_teardown(names_beyond_the_lookups_wait_their_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_is_looked_up_once_for_all_who_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(waiting_names_are_looked_up_once_too, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_request_is_not_told, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_may_cancel_another_that_has_come, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_may_ask_for_another, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_names_and_a_full_queue_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(families_take_turns_the_likelier_first, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
