#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <netdb.h>
#include <stdatomic.h>
#include <unistd.h>

#include "net/resolver.h"

static struct loop loop;
static struct resolver resolver;

static atomic_int release_slow; /* names that begin with "slow" wait for it */
static atomic_int looking_up;

static void scripted_look_up(const char *name, struct resolver_answer *answer)
{
    atomic_fetch_add(&looking_up, 1);
    while (strncmp(name, "slow", 4) == 0 && atomic_load(&release_slow) == 0)
        usleep(1000);
    if (strncmp(name, "missing", 7) == 0) {
        answer->failure = EAI_NONAME;
        return;
    }
    answer->addresses[0] = ip_v4((const uint8_t[]){10, 0, 0, (uint8_t) strlen(name)});
    answer->count = 1;
}

static int setup(void **state)
{
    (void) state;
    atomic_store(&release_slow, 0);
    atomic_store(&looking_up, 0);
    if (loop_open(&loop, NULL) != 0 || resolver_open(&resolver, &loop, NULL) != 0)
        return -1;
    resolver.look_up = scripted_look_up;
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    atomic_store(&release_slow, 1);
    while (resolver_busy(&resolver) > 0)
        loop_turn(&loop, 100, NULL);
    resolver_close(&resolver);
    loop_close(&loop);
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
    for (int turns = 0; told < count && turns < 1000; turns++)
        loop_turn(&loop, 10, NULL);
    assert_int_equal(told, count);
}

static const char *address_text(const struct resolver_answer *answer, size_t index)
{
    static char text[IP_TEXT_SIZE];
    struct writer w = writer_of(text, sizeof text);
    writer_ip(&w, answer->addresses[index]);
    return writer_terminate(&w);
}

static void a_name_is_answered_from_the_loop(void **state)
{
    (void) state;
    struct resolver_request request;
    told = 0;
    assert_int_equal(resolver_start(&resolver, &request, "db.internal", count_answer, NULL), 0);
    assert_int_equal(told, 0);
    wait_until_told(1);
    assert_int_equal(request.answer.count, 1);
    assert_string_equal(address_text(&request.answer, 0), "10.0.0.11");
    assert_int_equal(resolver_busy(&resolver), 0);
}

static void literals_need_no_thread_and_are_told_later_too(void **state)
{
    (void) state;
    static const char *const literals[] = {"10.1.2.3", "fd00::1"};
    for (size_t i = 0; i < 2; i++) {
        struct resolver_request request;
        told = 0;
        assert_int_equal(resolver_start(&resolver, &request, literals[i], count_answer, NULL), 0);
        assert_int_equal(told, 0);
        assert_int_equal(resolver_busy(&resolver), 0);
        loop_turn(&loop, 0, NULL);
        assert_int_equal(told, 1);
        assert_string_equal(address_text(&request.answer, 0), literals[i]);
    }
    assert_int_equal(atomic_load(&looking_up), 0);
}

/* A name for each, so that each takes a thread. */
static int start_slow(struct resolver_request *request, size_t number, struct error *err)
{
    char name[16];
    snprintf(name, sizeof name, "slow%zu", number);
    return resolver_start(&resolver, request, name, count_answer, err);
}

static void names_beyond_the_threads_wait_their_turn(void **state)
{
    (void) state;
    enum { NAMES = RESOLVER_THREADS_MAX + 5 };
    struct resolver_request requests[NAMES];
    told = 0;
    for (size_t i = 0; i < NAMES; i++)
        assert_int_equal(start_slow(&requests[i], i, NULL), 0);
    assert_int_equal(resolver_busy(&resolver), RESOLVER_THREADS_MAX);
    assert_int_equal(list_count(&resolver.waiting), 5);
    /* Literals are not held up by dead name servers. */
    struct resolver_request literal;
    resolver_start(&resolver, &literal, "10.0.0.1", count_answer, NULL);
    wait_until_told(1);
    atomic_store(&release_slow, 1);
    wait_until_told(NAMES + 1);
    assert_int_equal(atomic_load(&looking_up), NAMES);
}

/* One dead name server must not keep other names waiting. */
static void a_name_is_looked_up_once_for_all_who_ask(void **state)
{
    (void) state;
    enum { ASKING = 3 * RESOLVER_THREADS_MAX };
    struct resolver_request requests[ASKING];
    struct resolver_request other;
    told = 0;
    for (int i = 0; i < ASKING; i++)
        assert_int_equal(resolver_start(&resolver, &requests[i], "slow.internal", count_answer, NULL), 0);
    assert_int_equal(resolver_busy(&resolver), 1);
    assert_int_equal(resolver_start(&resolver, &other, "db.internal", count_answer, NULL), 0);
    wait_until_told(1);
    assert_string_equal(address_text(&other.answer, 0), "10.0.0.11");
    resolver_cancel(&resolver, &requests[1]);
    atomic_store(&release_slow, 1);
    wait_until_told(ASKING);
    assert_string_equal(address_text(&requests[0].answer, 0), "10.0.0.13");
    assert_string_equal(address_text(&requests[ASKING - 1].answer, 0), "10.0.0.13");
    assert_int_equal(atomic_load(&looking_up), 2);
    told = 0; /* over: the next is a new one */
    assert_int_equal(resolver_start(&resolver, &requests[0], "slow.internal", count_answer, NULL), 0);
    wait_until_told(1);
    assert_int_equal(atomic_load(&looking_up), 3);
}

static void a_cancelled_request_is_not_told(void **state)
{
    (void) state;
    enum { NAMES = RESOLVER_THREADS_MAX + 2 };
    struct resolver_request requests[NAMES];
    struct resolver_request literal;
    told = 0;
    for (size_t i = 0; i < NAMES; i++)
        start_slow(&requests[i], i, NULL);
    resolver_start(&resolver, &literal, "10.0.0.1", count_answer, NULL);
    resolver_cancel(&resolver, &literal);
    resolver_cancel(&resolver, &requests[0]);         /* in a thread */
    resolver_cancel(&resolver, &requests[NAMES - 1]); /* waiting */
    resolver_cancel(&resolver, &requests[0]);
    memset(&requests[0], 0xee, sizeof requests[0]); /* the memory may go at once */
    atomic_store(&release_slow, 1);
    wait_until_told(NAMES - 2);
    while (resolver_busy(&resolver) > 0)
        loop_turn(&loop, 10, NULL);
    loop_turn(&loop, 10, NULL);
    assert_int_equal(told, NAMES - 2);
    assert_int_equal(atomic_load(&looking_up), NAMES - 1);
}

static struct resolver_request others[2];

static void cancel_the_other(struct resolver_request *request)
{
    told++;
    resolver_cancel(&resolver, request == &others[0] ? &others[1] : &others[0]);
}

static void an_answer_may_cancel_another_that_has_come(void **state)
{
    (void) state;
    told = 0;
    resolver_start(&resolver, &others[0], "10.0.0.1", cancel_the_other, NULL);
    resolver_start(&resolver, &others[1], "10.0.0.2", cancel_the_other, NULL);
    loop_turn(&loop, 0, NULL);
    loop_turn(&loop, 0, NULL);
    assert_int_equal(told, 1);
}

static void bad_names_and_a_full_queue_are_refused(void **state)
{
    (void) state;
    static struct resolver_request requests[RESOLVER_THREADS_MAX + RESOLVER_WAITING_MAX + 1];
    struct error err = ERROR_INIT;
    char name[RESOLVER_NAME_SIZE + 1];
    memset(name, 'a', sizeof name);
    name[RESOLVER_NAME_SIZE] = '\0';
    assert_int_equal(resolver_start(&resolver, &requests[0], "", count_answer, &err), ERROR_INVALID);
    assert_string_equal(err.text, "a host name has 1 to 253 characters");
    assert_int_equal(resolver_start(&resolver, &requests[0], name, count_answer, &err), ERROR_INVALID);
    size_t last = RESOLVER_THREADS_MAX + RESOLVER_WAITING_MAX;
    for (size_t i = 0; i < last; i++)
        assert_int_equal(start_slow(&requests[i], i, &err), 0);
    assert_int_equal(start_slow(&requests[last], last, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "1024 names are waiting for a name server already");
    for (size_t i = 0; i <= last; i++)
        resolver_cancel(&resolver, &requests[i]);
}

static void failures_are_explained(void **state)
{
    (void) state;
    static const struct {
        struct resolver_answer answer;
        int code;
        const char *text;
    } cases[] = {
        {{.failure = EAI_NONAME}, ERROR_NOT_FOUND, "no such name"},
        {{.failure = EAI_AGAIN}, ERROR_UNAVAILABLE, "no name server gave an answer"},
        {{.failure = 0}, ERROR_NOT_FOUND, "the name has no addresses"},
        {{.failure = EAI_SYSTEM, .system_error = EPERM},
         ERROR_SYSTEM,
         "resolving the name: Operation not permitted"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(resolver_explain(&cases[i].answer, &err), cases[i].code);
        assert_string_equal(err.text, cases[i].text);
    }
}

static void the_c_library_knows_localhost(void **state)
{
    (void) state;
    struct resolver_request request;
    struct resolver real;
    assert_int_equal(resolver_open(&real, &loop, NULL), 0);
    told = 0;
    assert_int_equal(resolver_start(&real, &request, "localhost", count_answer, NULL), 0);
    wait_until_told(1);
    assert_int_equal(request.answer.failure, 0);
    assert_true(request.answer.count >= 1);
    const char *text = address_text(&request.answer, 0);
    assert_true(strcmp(text, "127.0.0.1") == 0 || strcmp(text, "::1") == 0);
    resolver_close(&real);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_name_is_answered_from_the_loop, setup, teardown),
        cmocka_unit_test_setup_teardown(literals_need_no_thread_and_are_told_later_too, setup, teardown),
        cmocka_unit_test_setup_teardown(names_beyond_the_threads_wait_their_turn, setup, teardown),
        cmocka_unit_test_setup_teardown(a_name_is_looked_up_once_for_all_who_ask, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_request_is_not_told, setup, teardown),
        cmocka_unit_test_setup_teardown(an_answer_may_cancel_another_that_has_come, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_names_and_a_full_queue_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(failures_are_explained, setup, teardown),
        cmocka_unit_test_setup_teardown(the_c_library_knows_localhost, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
