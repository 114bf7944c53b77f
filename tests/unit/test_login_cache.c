#include "aws/login_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static struct login_token token;
static struct error failure;

enum { NOW_MS = 1000 };
static const int64_t EXPIRES_MS = 1795361931000;

static int read_cache(const char *text)
{
    size_t len = strlen(text);
    char *copy = guard_copy(text, len);
    failure = (struct error) ERROR_INIT;
    int result = login_cache_read(&token, (struct str){copy, len}, NOW_MS, &failure);
    guard_free(copy, len);
    return result;
}

#define KEYS    "\"accessKeyId\":\"ASIA\",\"secretAccessKey\":\"s\""
#define EXPIRES "\"expiresAt\":\"2026-11-22T15:38:51Z\""
#define REST    "\"refreshToken\":\"ref\",\"clientId\":\"id\",\"dpopKey\":\"pem\\n\""
#define CACHE                                                                                                \
    "{\"accessToken\":{" KEYS ",\"sessionToken\":\"t\",\"accountId\":\"1\"," EXPIRES                         \
    "},\"tokenType\":\"x\"," REST "}"

static void names_of_files(void **state)
{
    char name[LOGIN_CACHE_FILE_NAME_SIZE], same[LOGIN_CACHE_FILE_NAME_SIZE];
    (void) state;
    login_cache_name(STR_LITERAL("abc"), name);
    assert_string_equal(name, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.json");
    login_cache_name(STR_LITERAL(" abc\n"), same);
    assert_string_equal(same, name);
}

static void a_cache_is_read(void **state)
{
    (void) state;
    assert_int_equal(read_cache(CACHE), 0);
    assert_string_equal(token.keys.access_key_id, "ASIA");
    assert_string_equal(token.keys.session_token, "t");
    assert_int_equal(token.keys.expires_unix_ms, EXPIRES_MS);
    assert_int_equal(token.keys.obtained_unix_ms, NOW_MS);
    assert_string_equal(token.key, "pem\n");
    assert_false(login_cache_has_expired(&token, EXPIRES_MS - 120001));
    assert_true(login_cache_has_expired(&token, EXPIRES_MS - 120000));
}

static void what_is_not_a_cache(void **state)
{
    static const char *const CASES[][2] = {
        {"{\"accessToken\":{" KEYS "," EXPIRES "}," REST "}", "no sessionToken"},
        {"{\"accessToken\":{" KEYS ",\"sessionToken\":\"t\"}," REST "}", "no expiresAt"},
        {"{\"accessToken\":{" EXPIRES "}," REST "}", "no access key id"},
        {"{\"accessToken\":\"x\"}", "no access key id"},
        {"{\"accessToken\":{" KEYS ",\"sessionToken\":\"t\"," EXPIRES "}}", "clientId is missing"},
        {"", ""},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        assert_int_equal(read_cache(CASES[i][0]), ERROR_INVALID);
        assert_non_null(strstr(failure.text, CASES[i][1]));
        assert_string_equal(token.keys.access_key_id, "");
    }
}

static void what_is_not_ours_is_kept(void **state)
{
    char text[1024];
    struct writer w = writer_of(text, sizeof text);
    (void) state;
    assert_int_equal(read_cache(CACHE), 0);
    strcpy(token.keys.access_key_id, "NEW");
    login_cache_write(&w, STR_LITERAL(CACHE), &token);
    assert_string_equal(
        writer_terminate(&w),
        "{\"accessToken\":{\"accessKeyId\":\"NEW\",\"secretAccessKey\":\"s\",\"sessionToken\":\"t\","
        "\"expiresAt\":\"2026-11-22T15:38:51.000Z\",\"accountId\":\"1\"},\"refreshToken\":\"ref\","
        "\"tokenType\":\"x\",\"clientId\":\"id\",\"dpopKey\":\"pem\\n\"}");
    assert_int_equal(read_cache(text), 0);
    assert_string_equal(token.keys.access_key_id, "NEW");
}

static void a_refresh(void **state)
{
    char text[256];
    struct writer w = writer_of(text, sizeof text);
    struct api_request request;
    struct endpoint endpoint;
    (void) state;
    assert_int_equal(read_cache(CACHE), 0);
    login_cache_write_refresh(&w, &token);
    assert_int_equal(endpoint_for_service(&endpoint, ENDPOINT_SIGNIN, STR_LITERAL("eu-west-1"), NULL, NULL),
                     0);
    assert_int_equal(
        login_cache_make_refresh(&request, &endpoint, writer_view(&w), STR_LITERAL("a.b.c"), NULL), 0);
    assert_string_equal(request.path, "/v1/token");
    assert_string_equal(request.headers[1].name, "dpop");
    assert_true(str_equal_text(request.body, "{\"clientId\":\"id\",\"grantType\":\"refresh_token\","
                                             "\"refreshToken\":\"ref\"}"));
}

static void answers_to_a_refresh(void **state)
{
#define NEW "\"accessToken\":{\"accessKeyId\":\"NEW\",\"secretAccessKey\":\"s\",\"sessionToken\":\"t\"}"
    static const struct {
        int status;
        const char *body;
        int result;
        const char *words;
    } CASES[] = {
        {200, "{" NEW ",\"expiresIn\":900,\"refreshToken\":\"next\"}", 0, NULL},
        {200, "{" NEW ",\"expiresIn\":900}", ERROR_INVALID, "refreshToken is missing"},
        {200, "{" NEW ",\"refreshToken\":\"next\"}", ERROR_INVALID, "expiresIn"},
        {200, "{\"expiresIn\":900,\"refreshToken\":\"next\"}", ERROR_INVALID, "no access key id"},
        {200, "{" NEW ",\"expiresIn\":90000000,\"refreshToken\":\"next\"}", ERROR_INVALID, "expiresIn"},
        {400, "{\"message\":\"it is over\"}", ERROR_DENIED, "it is over: log in again with `aws login`"},
        {503, "", ERROR_UNAVAILABLE, "CreateOAuth2Token: 503"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct api_answer answer = {.status = CASES[i].status, .body = str_from(CASES[i].body)};
        struct error err = ERROR_INIT;
        assert_int_equal(read_cache(CACHE), 0);
        assert_int_equal(login_cache_read_refresh(&token, &answer, NOW_MS, &err), CASES[i].result);
        if (CASES[i].words != NULL) {
            assert_non_null(strstr(err.text, CASES[i].words));
            continue;
        }
        assert_string_equal(token.keys.access_key_id, "NEW");
        assert_string_equal(token.refresh_token, "next");
        assert_int_equal(token.keys.expires_unix_ms, NOW_MS + 900000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_files),      cmocka_unit_test(a_cache_is_read),
        cmocka_unit_test(what_is_not_a_cache), cmocka_unit_test(what_is_not_ours_is_kept),
        cmocka_unit_test(a_refresh),           cmocka_unit_test(answers_to_a_refresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
