#include "aws/sts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static const char *body_of(enum sts_action action, const struct sts_role *role)
{
    static char text[1024];
    struct writer w = writer_of(text, sizeof text);
    sts_write_body(&w, action, role);
    return writer_terminate(&w);
}

static void bodies(void **state)
{
    (void) state;
    assert_string_equal(
        body_of(STS_ASSUME_ROLE, &(struct sts_role){.arn = STR_LITERAL("arn:aws:iam::1:role/r"),
                                                    .session_name = STR_LITERAL("me")}),
        "Action=AssumeRole&Version=2011-06-15&RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr"
        "&RoleSessionName=me");
    assert_string_equal(body_of(STS_ASSUME_ROLE, &(struct sts_role){.arn = STR_LITERAL("r"),
                                                                    .duration_s = 3600,
                                                                    .external_id = STR_LITERAL("a b"),
                                                                    .mfa_serial = STR_LITERAL("m"),
                                                                    .mfa_code = STR_LITERAL("123456")}),
                        "Action=AssumeRole&Version=2011-06-15&RoleArn=r&DurationSeconds=3600&ExternalId=a%20b"
                        "&SerialNumber=m&TokenCode=123456");
    assert_string_equal(
        body_of(STS_ASSUME_ROLE_WITH_WEB_IDENTITY,
                &(struct sts_role){.arn = STR_LITERAL("r"), .web_identity_token = STR_LITERAL("a.b-c_d")}),
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=r&WebIdentityToken=a.b-c_d");
}

static void the_longest_token_fits(void **state)
{
    static char token[STS_TOKEN_MAX], memory[STS_BODY_SIZE];
    struct writer w = writer_of(memory, sizeof memory);
    (void) state;
    memset(token, 'x', sizeof token);
    sts_write_body(&w, STS_ASSUME_ROLE_WITH_WEB_IDENTITY,
                   &(struct sts_role){.arn = STR_LITERAL("r"), .web_identity_token = {token, sizeof token}});
    assert_false(w.failed);
}

static void a_request(void **state)
{
    struct api_request request;
    struct endpoint endpoint;
    (void) state;
    assert_int_equal(endpoint_for_service(&endpoint, ENDPOINT_STS, STR_LITERAL("eu-west-1"), NULL, NULL), 0);
    assert_int_equal(sts_make_request(&request, &endpoint, STR_LITERAL("x=1"), NULL), 0);
    assert_string_equal(request.method, "POST");
    assert_string_equal(request.path, "/");
    assert_true(str_equal_text(request.host, "sts.eu-west-1.amazonaws.com"));
    assert_true(str_equal_text(request.headers[0].value, "application/x-www-form-urlencoded"));
}

#define KEYS                                                                                                 \
    "<AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>s&amp;t</SecretAccessKey><SessionToken>tok</"           \
    "SessionToken>"
#define RESULT(keys)                                                                                         \
    "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>"             \
    "<AssumedRoleUser><Arn>a</Arn></AssumedRoleUser><Credentials>" keys "</Credentials>"                     \
    "</AssumeRoleResult></AssumeRoleResponse>"
#define ERROR_OF(code, message)                                                                              \
    "<ErrorResponse><Error><Type>Sender</Type><Code>" code "</Code><Message>" message                        \
    "</Message></Error></ErrorResponse>"

static void answers(void **state)
{
    static const struct {
        enum sts_action action;
        int status;
        const char *body;
        enum api_class class;
        const char *words;
    } CASES[] = {
        {STS_ASSUME_ROLE, 200, RESULT(KEYS "<Expiration>2026-11-22T16:38:51Z</Expiration>"), API_OK, NULL},
        {STS_ASSUME_ROLE, 200, RESULT(KEYS), API_FAILED,
         "AssumeRole: credentials: no session token, or no time"},
        {STS_ASSUME_ROLE, 200, RESULT(KEYS "<Expiration>now</Expiration>"), API_FAILED, "no time"},
        {STS_ASSUME_ROLE, 200, RESULT("<AccessKeyId>ASIA</AccessKeyId>"), API_FAILED, "no secret access key"},
        {STS_ASSUME_ROLE, 200, "{}", API_FAILED, "no access key id"},
        {STS_ASSUME_ROLE, 403, ERROR_OF("AccessDenied", "no"), API_FAILED,
         "AssumeRole: 403 AccessDenied: your credentials lack sts:AssumeRole (no)"},
        {STS_ASSUME_ROLE_WITH_WEB_IDENTITY, 403, ERROR_OF("AccessDenied", "no"), API_FAILED,
         "the role's trust policy does not give this token sts:AssumeRoleWithWebIdentity"},
        {STS_ASSUME_ROLE_WITH_WEB_IDENTITY, 400, ERROR_OF("ExpiredTokenException", "old"), API_REFRESH,
         "old"},
        {STS_ASSUME_ROLE, 400, ERROR_OF("Throttling", "slow"), API_RETRY, "fewer calls"},
        {STS_ASSUME_ROLE, 500, "", API_RETRY, "AssumeRole: 500"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct credentials keys;
        struct api_failure reason;
        struct error err = ERROR_INIT;
        size_t len = strlen(CASES[i].body);
        char *body = guard_copy(CASES[i].body, len);
        struct api_answer answer = {.status = CASES[i].status, .body = {body, len}};
        assert_int_equal(sts_read_answer(&keys, CASES[i].action, &answer, 5, &reason, &err), CASES[i].class);
        if (CASES[i].words != NULL)
            assert_non_null(strstr(err.text, CASES[i].words));
        else
            assert_string_equal(keys.secret_access_key, "s&t");
        assert_int_equal(keys.obtained_unix_ms, CASES[i].class == API_OK ? 5 : 0);
        assert_true((keys.access_key_id[0] != '\0') == (CASES[i].class == API_OK));
        guard_free(body, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies),
        cmocka_unit_test(the_longest_token_fits),
        cmocka_unit_test(a_request),
        cmocka_unit_test(answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
