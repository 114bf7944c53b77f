#include "aws/credentials.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define RELATIVE   "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI="
#define FULL       "AWS_CONTAINER_CREDENTIALS_FULL_URI="
#define TOKEN      "AWS_CONTAINER_AUTHORIZATION_TOKEN="
#define TOKEN_FILE "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE="
#define STATIC     "AWS_ACCESS_KEY_ID=AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY=secret"

/* --- the chain --- */

static const struct {
    char *const env[5];
    enum credentials_origin origin;
    const char *authority; /* of CREDENTIALS_CONTAINER */
    const char *path;
    const char *query;
    const char *file;
    const char *authorization;
} PLANS[] = {
    {{RELATIVE "/v2/credentials/4b8c"},
     CREDENTIALS_CONTAINER,
     "169.254.170.2",
     "/v2/credentials/4b8c",
     "",
     "",
     ""},
    {{RELATIVE "/v1/credentials?id=4b8c"},
     CREDENTIALS_CONTAINER,
     "169.254.170.2",
     "/v1/credentials",
     "id=4b8c",
     "",
     ""},
    {{RELATIVE "/a", FULL "http://127.0.0.1/b", STATIC},
     CREDENTIALS_CONTAINER,
     "169.254.170.2",
     "/a",
     "",
     "",
     ""},
    {{FULL "https://vault.example:8443/c?x=y", STATIC},
     CREDENTIALS_CONTAINER,
     "vault.example:8443",
     "/c",
     "x=y",
     "",
     ""},
    {{FULL "http://localhost:1338/latest", TOKEN "Basic abc"},
     CREDENTIALS_CONTAINER,
     "localhost:1338",
     "/latest",
     "",
     "",
     "Basic abc"},
    {{FULL "http://169.254.170.23/v1/credentials", TOKEN_FILE "/var/run/token", TOKEN "unused"},
     CREDENTIALS_CONTAINER,
     "169.254.170.23",
     "/v1/credentials",
     "",
     "/var/run/token",
     "unused"},
    {{FULL "http://[fd00:ec2::23]/v1"}, CREDENTIALS_CONTAINER, "[fd00:ec2::23]", "/v1", "", "", ""},
    {{FULL "http://[::1]:80/"}, CREDENTIALS_CONTAINER, "[::1]", "", "", "", ""},
    {{FULL "http://127.255.0.9"}, CREDENTIALS_CONTAINER, "127.255.0.9", "", "", "", ""},
    {{FULL "http://169.254.170.2/x"}, CREDENTIALS_CONTAINER, "169.254.170.2", "/x", "", "", ""},
    {{RELATIVE "", FULL "", STATIC}, CREDENTIALS_ENVIRONMENT, NULL, NULL, NULL, NULL, NULL},
};

static void follows_the_chain(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(PLANS); i++) {
        struct credentials_plan plan;
        struct error err = ERROR_INIT;
        if (credentials_make_plan(&plan, PLANS[i].env, &err) != 0)
            fail_msg("%s: %s", PLANS[i].env[0], err.text);
        assert_int_equal(plan.origin, PLANS[i].origin);
        if (PLANS[i].authority == NULL)
            continue;
        assert_string_equal(plan.endpoint.authority, PLANS[i].authority);
        assert_string_equal(plan.endpoint.path, PLANS[i].path);
        assert_string_equal(plan.query, PLANS[i].query);
        assert_string_equal(plan.token_file, PLANS[i].file);
        assert_string_equal(plan.authorization, PLANS[i].authorization);
    }
}

#define NOT_IN_CLEAR(host)                                                                                   \
    "AWS_CONTAINER_CREDENTIALS_FULL_URI: http to " host                                                      \
    ": without TLS, keys may only come from loopback, ECS's or EKS's own addresses; use https"

static const struct {
    char *const env[3];
    int code;
    const char *text;
} REFUSED[] = {
    {{NULL},
     ERROR_NOT_FOUND,
     "no credentials: none of AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (ECS sets it when the task has a role), "
     "AWS_CONTAINER_CREDENTIALS_FULL_URI, AWS_ACCESS_KEY_ID is set"},
    {{"AWS_ACCESS_KEY_ID=A"}, ERROR_INVALID, "AWS_ACCESS_KEY_ID is set, but AWS_SECRET_ACCESS_KEY is not"},
    {{"AWS_SECRET_ACCESS_KEY=A"},
     ERROR_INVALID,
     "AWS_SECRET_ACCESS_KEY is set, but AWS_ACCESS_KEY_ID is not"},
    {{FULL "http://10.0.0.1/"}, ERROR_DENIED, NOT_IN_CLEAR("10.0.0.1")},
    {{FULL "http://169.254.169.254/"}, ERROR_DENIED, NOT_IN_CLEAR("169.254.169.254")},
    {{FULL "http://127.0.0.1.example/"}, ERROR_DENIED, NOT_IN_CLEAR("127.0.0.1.example")},
    {{FULL "http://127.1/"}, ERROR_DENIED, NOT_IN_CLEAR("127.1")},
    {{FULL "http://127.0.0.256/"}, ERROR_DENIED, NOT_IN_CLEAR("127.0.0.256")},
    {{FULL "http://127.0.0.1.1/"}, ERROR_DENIED, NOT_IN_CLEAR("127.0.0.1.1")},
    {{FULL "http://localhost.example/"}, ERROR_DENIED, NOT_IN_CLEAR("localhost.example")},
    {{FULL "http://[::2]/"}, ERROR_DENIED, NOT_IN_CLEAR("::2")},
    {{FULL "ws://localhost/"},
     ERROR_UNSUPPORTED,
     "AWS_CONTAINER_CREDENTIALS_FULL_URI: the URL must begin with http:// or https://"},
    {{FULL "https://h/?a b"},
     ERROR_INVALID,
     "AWS_CONTAINER_CREDENTIALS_FULL_URI: its query is too long or holds a byte that must be escaped"},
    {{RELATIVE "v2/credentials"},
     ERROR_INVALID,
     "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=v2/credentials: it must begin with '/'"},
    /* glued to the host, it would name another one */
    {{RELATIVE "@evil.example/"},
     ERROR_INVALID,
     "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=@evil.example/: it must begin with '/'"},
};

static void refuses_what_must_not_be_asked(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(REFUSED); i++) {
        struct credentials_plan plan;
        struct error err = ERROR_INIT;
        assert_int_equal(credentials_make_plan(&plan, REFUSED[i].env, &err), REFUSED[i].code);
        assert_string_equal(err.text, REFUSED[i].text);
    }
}

static void bounds_of_the_settings(void **state)
{
    struct credentials_plan plan;
    struct error err = ERROR_INIT;
    static char uri[1024], file[512], token[8192];
    (void) state;
    int head = snprintf(uri, sizeof uri, RELATIVE "/");
    memset(uri + head, 'a', 600);
    char *const long_uri[] = {uri, NULL};
    assert_int_equal(credentials_make_plan(&plan, long_uri, &err), ERROR_INVALID);
    assert_string_equal(err.text, "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: longer than 514 bytes");
    uri[head + 300] = '\0';
    assert_int_equal(credentials_make_plan(&plan, long_uri, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text,
                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI: the URL's path is longer than 256 bytes");

    head = snprintf(file, sizeof file, TOKEN_FILE);
    memset(file + head, 'f', CREDENTIALS_FILE_SIZE);
    char *const long_file[] = {RELATIVE "/", file, NULL};
    assert_int_equal(credentials_make_plan(&plan, long_file, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: longer than 256 bytes");

    head = snprintf(token, sizeof token, TOKEN);
    memset(token + head, 't', CREDENTIALS_AUTHORIZATION_SIZE);
    char *const long_token[] = {RELATIVE "/", token, NULL};
    assert_int_equal(credentials_make_plan(&plan, long_token, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "AWS_CONTAINER_AUTHORIZATION_TOKEN: longer than 4096 bytes");
}

/* --- the question --- */

static const struct {
    char *const env[4];
    const char *token;
    const char *authorization; /* null: no such header */
} QUESTIONS[] = {
    {{RELATIVE "/v1?id=1"}, "", NULL},
    {{RELATIVE "/v1?id=1", TOKEN "Basic abc"}, "ignored without a file", "Basic abc"},
    {{RELATIVE "/v1?id=1", TOKEN "Basic abc", TOKEN_FILE "/t"}, "eyJ.from.file\r\n", "eyJ.from.file"},
};

static void asks_with_the_token(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(QUESTIONS); i++) {
        struct credentials_plan plan;
        struct api_request request;
        assert_int_equal(credentials_make_plan(&plan, QUESTIONS[i].env, NULL), 0);
        assert_int_equal(credentials_make_request(&request, &plan, str_from(QUESTIONS[i].token), NULL), 0);
        assert_string_equal(request.method, "GET");
        assert_string_equal(request.path, "/v1");
        assert_true(str_equal_text(request.query, "id=1"));
        assert_true(str_equal_text(request.host, "169.254.170.2"));
        assert_int_equal(request.header_count, QUESTIONS[i].authorization == NULL ? 1 : 2);
        if (QUESTIONS[i].authorization != NULL) {
            assert_string_equal(request.headers[1].name, "authorization");
            assert_true(str_equal_text(request.headers[1].value, QUESTIONS[i].authorization));
        }
    }
}

static void a_token_cannot_smuggle_a_header(void **state)
{
    char *const env[] = {RELATIVE "/", TOKEN_FILE "/t", NULL};
    struct credentials_plan plan;
    struct api_request request;
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(credentials_make_plan(&plan, env, NULL), 0);
    assert_int_equal(credentials_make_request(&request, &plan, STR_LITERAL("a\r\nx: y"), &err),
                     ERROR_INVALID);
    assert_string_equal(err.text, "header authorization: a control character in its value");
}

/* --- the environment's own keys --- */

static void takes_keys_from_the_environment(void **state)
{
    char *const with_token[] = {STATIC, "AWS_SESSION_TOKEN=tok", NULL};
    char *const without[] = {STATIC, NULL};
    char *const blank[] = {"AWS_ACCESS_KEY_ID=AKID EXAMPLE", "AWS_SECRET_ACCESS_KEY=s", NULL};
    static char long_secret[256] = "AWS_SECRET_ACCESS_KEY=";
    char *const too_long[] = {"AWS_ACCESS_KEY_ID=A", long_secret, NULL};
    struct credentials c;
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(credentials_from_environment(&c, with_token, NULL), 0);
    assert_string_equal(c.access_key_id, "AKIDEXAMPLE");
    assert_string_equal(c.secret_access_key, "secret");
    assert_string_equal(c.session_token, "tok");
    assert_true(c.expires_unix_ms == INT64_MAX);
    assert_false(credentials_expired(&c, INT64_MAX));
    assert_int_equal(credentials_from_environment(&c, without, NULL), 0);
    assert_string_equal(c.session_token, "");
    assert_int_equal(credentials_from_environment(&c, blank, &err), ERROR_INVALID);
    assert_string_equal(err.text, "credentials: an unprintable byte in the access key id");
    memset(long_secret + strlen(long_secret), 's', CREDENTIALS_SECRET_SIZE);
    assert_int_equal(credentials_from_environment(&c, too_long, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "credentials: a key or token in the environment is too long");
    assert_string_equal(c.secret_access_key, "");
}

/* --- the answer --- */

#define NOW 1795361931000 /* 2026-11-22T15:38:51Z */
#define DOCUMENT                                                                                             \
    "{\"RoleArn\":\"arn:aws:iam::1:role/r\",\"AccessKeyId\":\"ASIAEXAMPLE\",\"SecretAccessKey\":\"sEcrEt/"   \
    "+\","
#define EXPIRATION "\"Expiration\":\"2026-11-22T21:38:51Z\""

static void reads_the_document(void **state)
{
    static const char BODY[] = DOCUMENT "\"Token\":\"IQoJ\\/b3Jp==\"," EXPIRATION "}";
    size_t len = strlen(BODY);
    char *body = guard_copy(BODY, len);
    struct api_answer answer = {.status = 200, .body = {body, len}};
    struct credentials c;
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(credentials_read_answer(&c, &answer, NOW, &err), API_OK);
    guard_free(body, len);
    assert_string_equal(c.access_key_id, "ASIAEXAMPLE");
    assert_string_equal(c.secret_access_key, "sEcrEt/+");
    assert_string_equal(c.session_token, "IQoJ/b3Jp==");
    assert_int_equal(c.expires_unix_ms - NOW, 6 * 3600 * 1000);
    assert_int_equal(c.obtained_unix_ms, NOW);
}

static const struct {
    int status;
    const char *body;
    enum api_class class;
    int code;
    const char *text;
} ANSWERS[] = {
    {200, DOCUMENT "\"Token\":null}", API_OK, 0, ""}, /* long-lived keys: no token, no expiry */
    {200, "{\"accesskeyid\":\"A\",\"secretaccesskey\":\"B\",\"token\":\"C\"}", API_OK, 0, ""},
    {200, "", API_FAILED, ERROR_INVALID, NULL},
    {200, "[]", API_FAILED, ERROR_INVALID, "credentials: no access key id"},
    {200, "{\"AccessKeyId\":\"A\"}", API_FAILED, ERROR_INVALID, "credentials: no secret access key"},
    {200, "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":7}", API_FAILED, ERROR_INVALID,
     "credentials: SecretAccessKey is not a string"},
    {200, "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\\n\"}", API_FAILED, ERROR_INVALID,
     "credentials: an unprintable byte in the secret key"},
    {200, "{\"AccessKeyId\":\"A\",\"SecretAccessKey\":\"s\",\"Token\":\"\xC3\xA9\"}", API_FAILED,
     ERROR_INVALID, "credentials: an unprintable byte in the session token"},
    {200, DOCUMENT "\"Expiration\":\"tomorrow\"}", API_FAILED, ERROR_INVALID,
     "credentials: Expiration is not an RFC 3339 time"},
    {200, DOCUMENT "\"Expiration\":\"2026-11-22T21:38:51.000000000000000000000000000000000Z\"}", API_FAILED,
     ERROR_INVALID, "credentials: Expiration is not an RFC 3339 time"},
    {200, "{\"code\":\"InternalServerError\",\"message\":\"no role\"}", API_RETRY, ERROR_UNAVAILABLE,
     "credentials: status 200 InternalServerError: no role"},
    {400,
     "{\"code\":\"NoIdInRequest\",\"message\":\"CredentialsV2Request: No ID in the "
     "request\",\"HTTPErrorCode\":400}",
     API_FAILED, ERROR_INVALID,
     "credentials: status 400 NoIdInRequest: CredentialsV2Request: No ID in the request"},
    {403, "", API_FAILED, ERROR_DENIED, "credentials: status 403"},
    {404, "", API_FAILED, ERROR_NOT_FOUND, "credentials: status 404"},
    {429, "", API_RETRY, ERROR_THROTTLED, "credentials: status 429"},
    {500, "{\"code\":\"InternalServerError\",\"message\":\"x\"}", API_RETRY, ERROR_UNAVAILABLE,
     "credentials: status 500 InternalServerError: x"},
    {302, "", API_FAILED, ERROR_INVALID, "credentials: status 302"},
};

static void classifies_answers(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(ANSWERS); i++) {
        struct api_answer answer = {.status = ANSWERS[i].status, .body = str_from(ANSWERS[i].body)};
        struct credentials c = {.access_key_id = "OLD"};
        struct error err = ERROR_INIT;
        enum api_class class = credentials_read_answer(&c, &answer, NOW, &err);
        if (class != ANSWERS[i].class || err.code != (enum error_code) ANSWERS[i].code ||
            (ANSWERS[i].text != NULL && strcmp(err.text, ANSWERS[i].text) != 0))
            fail_msg("row %zu: class %d, code %d: %s", i, class, err.code, err.text);
        /* A failed fetch leaves the old keys in use. */
        assert_int_equal(strcmp(c.access_key_id, "OLD") == 0, class != API_OK);
        if (class == API_OK)
            assert_true(c.expires_unix_ms == INT64_MAX);
    }
}

static void no_error_tells_a_secret(void **state)
{
    static char body[CREDENTIALS_DOCUMENT_MAX + 2];
    static const char *const FIELDS[] = {"AccessKeyId", "SecretAccessKey", "Token"};
    static const size_t SIZES[] = {CREDENTIALS_ID_SIZE, CREDENTIALS_SECRET_SIZE, CREDENTIALS_TOKEN_SIZE};
    struct credentials c;
    (void) state;
    for (size_t i = 0; i < COUNT(FIELDS); i++) {
        struct error err = ERROR_INIT;
        char expected[128];
        int head = snprintf(body, sizeof body, "{\"%s\":\"", FIELDS[i]);
        memset(body + head, 'S', SIZES[i]);
        strcpy(body + head + SIZES[i], "\"}");
        struct api_answer answer = {.status = 200, .body = str_from(body)};
        assert_int_equal(credentials_read_answer(&c, &answer, NOW, &err), API_FAILED);
        snprintf(expected, sizeof expected, "credentials: %s is longer than %zu bytes, or holds a NUL",
                 FIELDS[i], SIZES[i] - 1);
        assert_string_equal(err.text, expected);
    }
    struct error err = ERROR_INIT;
    memset(body, ' ', sizeof body);
    struct api_answer answer = {.status = 200, .body = {body, CREDENTIALS_DOCUMENT_MAX + 1}};
    assert_int_equal(credentials_read_answer(&c, &answer, NOW, &err), API_FAILED);
    assert_string_equal(err.text, "credentials: a document of more than 16384 bytes");
}

static void a_truncated_document_is_none(void **state)
{
    static const char BODY[] = DOCUMENT "\"Token\":\"t\"," EXPIRATION "}";
    (void) state;
    for (size_t len = 0; len < strlen(BODY); len++) {
        char *body = guard_copy(BODY, len);
        struct api_answer answer = {.status = 200, .body = {body, len}};
        struct credentials c;
        struct error err = ERROR_INIT;
        assert_int_equal(credentials_read_answer(&c, &answer, NOW, &err), API_FAILED);
        assert_true(str_starts_with(str_from(err.text), "credentials: "));
        assert_null(strstr(err.text, "sEcrEt"));
        guard_free(body, len);
    }
}

/* --- when to ask again --- */

#define MINUTE 60000
static const struct {
    int64_t life_ms;
    int64_t latest_ms;   /* from obtaining to fetching anew, with random 0 */
    int64_t earliest_ms; /* with the largest random */
} LIVES[] = {
    {6 * 60 * MINUTE, 345 * MINUTE, 342 * MINUTE}, /* ECS: 6 h; the margin's cap of 15 min */
    {60 * MINUTE, 45 * MINUTE, 42 * MINUTE},
    {20 * MINUTE, 15 * MINUTE, 14 * MINUTE},
    {4 * MINUTE, 3 * MINUTE, 2 * MINUTE + 48000},
    {2 * MINUTE, 1 * MINUTE, 48000}, /* the margin's floor of 1 min */
    {MINUTE, 0, 0},
    {0, 0, 0},
    {-5 * MINUTE, 0, 0}, /* expired when it came, or our clock is off */
};

static void refreshes_before_the_expiry(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(LIVES); i++) {
        struct credentials c = {.obtained_unix_ms = NOW, .expires_unix_ms = NOW + LIVES[i].life_ms};
        assert_int_equal(credentials_refresh_at(&c, 0) - NOW, LIVES[i].latest_ms);
        int64_t earliest = credentials_refresh_at(&c, UINT32_MAX) - NOW;
        assert_true(earliest >= LIVES[i].earliest_ms && earliest <= LIVES[i].earliest_ms + 1);
    }
    struct credentials forever = {.obtained_unix_ms = NOW, .expires_unix_ms = INT64_MAX};
    assert_true(credentials_refresh_at(&forever, 1) == INT64_MAX);
}

static void expires_ten_seconds_early(void **state)
{
    struct credentials c = {.obtained_unix_ms = NOW - MINUTE, .expires_unix_ms = NOW};
    (void) state;
    assert_false(credentials_expired(&c, NOW - 10001));
    assert_true(credentials_expired(&c, NOW - 10000));
    assert_true(credentials_expired(&c, NOW + MINUTE));
}

static void wiping_leaves_nothing(void **state)
{
    struct credentials c, zero;
    (void) state;
    memset(&c, 's', sizeof c);
    memset(&zero, 0, sizeof zero);
    credentials_wipe(&c);
    assert_memory_equal(&c, &zero, sizeof c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(follows_the_chain),
        cmocka_unit_test(refuses_what_must_not_be_asked),
        cmocka_unit_test(bounds_of_the_settings),
        cmocka_unit_test(asks_with_the_token),
        cmocka_unit_test(a_token_cannot_smuggle_a_header),
        cmocka_unit_test(takes_keys_from_the_environment),
        cmocka_unit_test(reads_the_document),
        cmocka_unit_test(classifies_answers),
        cmocka_unit_test(no_error_tells_a_secret),
        cmocka_unit_test(a_truncated_document_is_none),
        cmocka_unit_test(refreshes_before_the_expiry),
        cmocka_unit_test(expires_ten_seconds_early),
        cmocka_unit_test(wiping_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
