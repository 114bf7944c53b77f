#include "aws/github_token.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct github_token_request memory;
static struct api_request request;

static int make(const char *url, struct error *err)
{
    return github_token_make_request(&request, &memory, str_from(url), STR_LITERAL("secret"), err);
}

static void the_audience_joins_the_query(void **state)
{
    (void) state;
    assert_int_equal(make("https://run.actions.example/75//idtoken/a/b?api-version=2.0", NULL), 0);
    assert_string_equal(request.path, "/75//idtoken/a/b");
    assert_true(str_equal_text(request.query, "api-version=2.0&audience=sts.amazonaws.com"));
    assert_true(str_equal_text(request.headers[1].value, "bearer secret"));
    assert_int_equal(make("https://host", NULL), 0);
    assert_true(str_equal_text(request.query, "audience=sts.amazonaws.com"));
}

static void what_is_not_asked(void **state)
{
    struct error err = ERROR_INIT;
    static char url[1024];
    (void) state;
    assert_int_equal(make("http://host/x", &err), ERROR_DENIED);
    assert_non_null(strstr(err.text, "must not go over http"));
    assert_int_equal(make("http://127.0.0.1/x", &err), 0);
    assert_int_equal(make("host", &err), ERROR_INVALID);
    assert_int_equal(make("https://host/?a b", &err), ERROR_INVALID);
    memset(url, 'x', sizeof url - 1);
    memcpy(url, "https://host/?", 14);
    assert_int_equal(make(url, &err), ERROR_TOO_LARGE);
}

static void answers(void **state)
{
    static const struct {
        int status;
        const char *body;
        int result;
        const char *token;
    } CASES[] = {
        {200, "{\"count\":1,\"value\":\"a.b.c\"}", 0, "a.b.c"},
        {200, "{\"value\":\"\"}", ERROR_INVALID, ""},
        {200, "{\"value\":1}", ERROR_INVALID, ""},
        {200, "{\"value\":\"0123456789abcdef\"}", ERROR_TOO_LARGE, ""},
        {200, "<html>", ERROR_INVALID, ""},
        {403, "", ERROR_DENIED, ""},
        {503, "", ERROR_UNAVAILABLE, ""},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char token[16];
        struct api_answer answer = {.status = CASES[i].status, .body = str_from(CASES[i].body)};
        assert_int_equal(github_token_read_answer(&answer, token, sizeof token, NULL), CASES[i].result);
        assert_string_equal(token, CASES[i].token);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_audience_joins_the_query),
        cmocka_unit_test(what_is_not_asked),
        cmocka_unit_test(answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
