#include "aws/sso.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static struct sso_token token;
static struct error failure;

static int read_cache(const char *text)
{
    size_t len = strlen(text);
    char *copy = guard_copy(text, len);
    failure = (struct error) ERROR_INIT;
    int result = sso_read_cache(&token, (struct str){copy, len}, &failure);
    guard_free(copy, len);
    return result;
}

#define CACHE                                                                                                \
    "{\"startUrl\": \"https://x.awsapps.com/start\", \"region\": \"eu-west-1\", \"accessToken\": \"acc\","   \
    " \"expiresAt\": \"2026-11-22T15:38:51Z\", \"clientId\": \"id\", \"clientSecret\": \"sec\","             \
    " \"registrationExpiresAt\": \"2027-01-01T00:00:00Z\", \"refreshToken\": \"ref\", \"n\": [1, {\"a\": "   \
    "2}]}"

/* The names are those that AWS's SDK for Go and the AWS CLI look for. */
static void names_of_files(void **state)
{
    char name[SSO_FILE_NAME_SIZE];
    (void) state;
    sso_cache_name(STR_LITERAL("dev"), name);
    assert_string_equal(name, "34c6fceca75e456f25e7e99531e2425c6c1de443.json");
    sso_cache_name(STR_LITERAL("https://d-92671207e4.awsapps.com/start"), name);
    assert_int_equal(strlen(name), 45);
}

static void a_cache_is_read(void **state)
{
    (void) state;
    assert_int_equal(read_cache(CACHE), 0);
    assert_string_equal(token.access_token, "acc");
    assert_string_equal(token.refresh_token, "ref");
    assert_int_equal(token.expires_unix_ms, 1795361931000);
    assert_true(sso_can_refresh(&token));
    assert_false(sso_has_expired(&token, 1795361931000 - 60001));
    assert_true(sso_has_expired(&token, 1795361931000 - 60000));
    assert_int_equal(read_cache("{\"accessToken\":\"a\",\"expiresAt\":\"2026-11-22T15:38:51Z\"}"), 0);
    assert_false(sso_can_refresh(&token));
}

static void what_is_not_a_cache(void **state)
{
    (void) state;
    assert_int_equal(read_cache(""), ERROR_INVALID);
    assert_int_equal(read_cache("[]"), ERROR_INVALID);
    assert_int_equal(read_cache("{\"accessToken\":\"a\"}"), ERROR_INVALID);
    assert_non_null(strstr(failure.text, "expiresAt"));
    assert_string_equal(token.access_token, "");
    assert_int_equal(read_cache("{\"expiresAt\":\"2026-11-22T15:38:51Z\"}"), ERROR_INVALID);
    assert_int_equal(read_cache("{\"accessToken\":1}"), ERROR_INVALID);
}

static void what_is_not_ours_is_kept(void **state)
{
    char text[1024];
    struct writer w = writer_of(text, sizeof text);
    (void) state;
    assert_int_equal(read_cache(CACHE), 0);
    strcpy(token.access_token, "new");
    token.expires_unix_ms += 3600000;
    sso_write_cache(&w, STR_LITERAL(CACHE), &token);
    assert_string_equal(
        writer_terminate(&w),
        "{\"accessToken\":\"new\",\"refreshToken\":\"ref\",\"clientId\":\"id\",\"clientSecret\":\"sec\","
        "\"expiresAt\":\"2026-11-22T16:38:51.000Z\",\"startUrl\":\"https://x.awsapps.com/start\","
        "\"region\":\"eu-west-1\",\"registrationExpiresAt\":\"2027-01-01T00:00:00Z\","
        "\"n\":[1, {\"a\": 2}]}");
    assert_int_equal(read_cache(text), 0);
    assert_string_equal(token.access_token, "new");
}

static void a_refresh(void **state)
{
    char text[256];
    struct writer w = writer_of(text, sizeof text);
    struct api_request request;
    struct endpoint endpoint;
    (void) state;
    assert_int_equal(read_cache(CACHE), 0);
    sso_write_refresh(&w, &token);
    assert_int_equal(endpoint_for_service(&endpoint, ENDPOINT_SSO_OIDC, STR_LITERAL("eu-west-1"), NULL, NULL),
                     0);
    assert_int_equal(sso_make_refresh(&request, &endpoint, writer_view(&w), NULL), 0);
    assert_true(str_equal_text(request.host, "oidc.eu-west-1.amazonaws.com"));
    assert_string_equal(request.path, "/token");
    assert_true(str_equal_text(request.body, "{\"clientId\":\"id\",\"clientSecret\":\"sec\",\"grantType\":"
                                             "\"refresh_token\",\"refreshToken\":\"ref\"}"));
}

static void answers_to_a_refresh(void **state)
{
    static const struct {
        int status;
        const char *body, *access, *refresh, *words;
    } CASES[] = {
        {200, "{\"accessToken\":\"A\",\"expiresIn\":60,\"refreshToken\":\"R\"}", "A", "R", NULL},
        {200, "{\"accessToken\":\"A\",\"expiresIn\":60}", "A", "ref", NULL},
        {200, "{\"accessToken\":\"A\"}", NULL, NULL, "expiresIn"},
        {200, "{\"accessToken\":\"A\",\"expiresIn\":-1}", NULL, NULL, "expiresIn"},
        {200, "{\"accessToken\":\"A\",\"expiresIn\":99999999999999}", NULL, NULL, "expiresIn"},
        {200, "{\"expiresIn\":60}", NULL, NULL, "accessToken is missing"},
        {400, "{\"error\":\"invalid_grant\"}", NULL, NULL, "log in again with `aws sso login`"},
        {500, "", NULL, NULL, "CreateToken: 500"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct api_answer answer = {.status = CASES[i].status, .body = str_from(CASES[i].body)};
        struct error err = ERROR_INIT;
        assert_int_equal(read_cache(CACHE), 0);
        int result = sso_read_refresh(&token, &answer, 1000, &err);
        assert_int_equal(result == 0, CASES[i].words == NULL);
        if (result != 0) {
            assert_non_null(strstr(err.text, CASES[i].words));
            continue;
        }
        assert_string_equal(token.access_token, CASES[i].access);
        assert_string_equal(token.refresh_token, CASES[i].refresh);
        assert_int_equal(token.expires_unix_ms, 61000);
    }
}

static void keys(void **state)
{
    char query[SSO_QUERY_SIZE];
    struct api_request request;
    struct endpoint endpoint;
    struct credentials keys;
    struct error err = ERROR_INIT;
    struct api_answer answer = {
        .status = 200,
        .body = STR_LITERAL("{\"roleCredentials\":{\"accessKeyId\":\"ASIA\",\"secretAccessKey\":\"s\","
                            "\"sessionToken\":\"t\",\"expiration\":1795361931000}}")};
    (void) state;
    assert_int_equal(read_cache(CACHE), 0);
    assert_int_equal(endpoint_for_service(&endpoint, ENDPOINT_SSO, STR_LITERAL("eu-west-1"), NULL, NULL), 0);
    assert_int_equal(
        sso_make_get_keys(&request, &endpoint, &token, STR_LITERAL("123"), STR_LITERAL("a+b"), query, NULL),
        0);
    assert_true(str_equal_text(request.host, "portal.sso.eu-west-1.amazonaws.com"));
    assert_true(str_equal_text(request.query, "account_id=123&role_name=a%2Bb"));
    assert_string_equal(request.headers[0].name, "x-amz-sso_bearer_token");
    assert_int_equal(sso_read_keys(&keys, &answer, 7, NULL), 0);
    assert_string_equal(keys.access_key_id, "ASIA");
    assert_int_equal(keys.expires_unix_ms, 1795361931000);
    assert_int_equal(keys.obtained_unix_ms, 7);
    answer.body = STR_LITERAL("{}");
    assert_int_equal(sso_read_keys(&keys, &answer, 7, &err), ERROR_INVALID);
    answer.status = 401;
    answer.body =
        STR_LITERAL("{\"__type\":\"UnauthorizedException\",\"message\":\"Session token not found\"}");
    assert_int_equal(sso_read_keys(&keys, &answer, 7, &err), ERROR_DENIED);
    assert_string_equal(err.text,
                        "GetRoleCredentials: 401 UnauthorizedException: Session token not found: the "
                        "session has expired: log in again with `aws sso login`");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_files),
        cmocka_unit_test(a_cache_is_read),
        cmocka_unit_test(what_is_not_a_cache),
        cmocka_unit_test(what_is_not_ours_is_kept),
        cmocka_unit_test(a_refresh),
        cmocka_unit_test(answers_to_a_refresh),
        cmocka_unit_test(keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
