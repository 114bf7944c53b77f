#include "aws/api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct api_call UPDATE = {ENDPOINT_ECS, "UpdateService", 200};
static const struct api_call CONTROL = {ENDPOINT_SSMMESSAGES, "CreateControlChannel", 201};

/* --- requests --- */

static struct endpoint endpoint_of(const char *url)
{
    struct endpoint endpoint;
    assert_int_equal(endpoint_from_url(&endpoint, str_from(url), NULL), 0);
    return endpoint;
}

static const struct {
    const char *url;
    const char *path;
    const char *expected;
} PATHS[] = {
    {"https://h", "", "/"},
    {"https://h/", "/", "/"},
    {"https://h/prefix/", "/v1/x", "/prefix/v1/x"},
    {"https://h/prefix", "", "/prefix"},
    {"https://h/v4/id", "/task", "/v4/id/task"},
    {"https://h", "/v1/control-channel/ecs:a_b_c-1", "/v1/control-channel/ecs:a_b_c-1"},
};

static void joins_paths(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(PATHS); i++) {
        struct endpoint endpoint = endpoint_of(PATHS[i].url);
        struct api_request request;
        assert_int_equal(api_request_start(&request, "GET", &endpoint, str_from(PATHS[i].path), NULL), 0);
        assert_string_equal(request.path, PATHS[i].expected);
        assert_string_equal(request.method, "GET");
        assert_true(str_equal_text(request.host, "h"));
        assert_int_equal(request.header_count, 0);
    }
}

static void refuses_what_would_break_the_request_line(void **state)
{
    static const char *const PATHS_REFUSED[] = {"/a b",  "/a?b",      "/a#b", "/a\r\nHost: x",
                                                "/\x7F", "/\xC3\xA9", "/a\"b"};
    struct endpoint endpoint = endpoint_of("https://h");
    struct api_request request;
    struct error err = ERROR_INIT;
    (void) state;
    for (size_t i = 0; i < COUNT(PATHS_REFUSED); i++) {
        assert_int_equal(api_request_start(&request, "GET", &endpoint, str_from(PATHS_REFUSED[i]), &err),
                         ERROR_INVALID);
        assert_string_equal(request.path, "");
    }
    assert_string_equal(err.text, "path \"/a\"b\": a byte in it must be escaped");
    assert_false(endpoint_path_is_valid((struct str){"/\0", 2}));
}

static void a_path_has_its_bound(void **state)
{
    char path[API_PATH_SIZE + 1] = "/";
    struct endpoint endpoint = endpoint_of("https://h/p");
    struct api_request request;
    struct error err = ERROR_INIT;
    (void) state;
    memset(path + 1, 'a', API_PATH_SIZE - 4);
    assert_int_equal(api_request_start(&request, "GET", &endpoint, str_from(path), &err), 0);
    assert_int_equal(strlen(request.path), API_PATH_SIZE - 1);
    strcat(path, "a");
    assert_int_equal(api_request_start(&request, "GET", &endpoint, str_from(path), &err), ERROR_TOO_LARGE);
    assert_true(str_starts_with(str_from(err.text), "a path of more than 767 bytes: /p/aaa"));
}

static void headers_are_checked_and_bounded(void **state)
{
    struct endpoint endpoint = endpoint_of("https://h");
    struct api_request request;
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(api_request_start(&request, "GET", &endpoint, str_from(NULL), NULL), 0);
    assert_int_equal(api_request_add(&request, "X-Upper", STR_LITERAL("1"), &err), ERROR_INVALID);
    assert_string_equal(err.text, "header name \"X-Upper\": not in lower case");
    assert_int_equal(api_request_add(&request, "", STR_LITERAL("1"), &err), ERROR_INVALID);
    assert_int_equal(api_request_add(&request, "x", STR_LITERAL("a\r\nb: c"), &err), ERROR_INVALID);
    assert_string_equal(err.text, "header x: a control character in its value");
    assert_int_equal(request.header_count, 0);
    for (size_t i = 0; i < API_HEADERS_MAX; i++)
        assert_int_equal(api_request_add(&request, "x", STR_LITERAL("a\tb"), NULL), 0);
    assert_int_equal(api_request_add(&request, "y", STR_LITERAL("1"), &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "header y: there are 8 already");
}

static void makes_awsjson_calls(void **state)
{
    struct endpoint endpoint = endpoint_of("http://localhost:4566/base");
    struct api_request request;
    (void) state;
    assert_int_equal(api_request_json(&request, &endpoint, "AmazonSSM.StartSession", STR_LITERAL("{}"), NULL),
                     0);
    assert_string_equal(request.method, "POST");
    assert_string_equal(request.path, "/base/");
    assert_true(str_equal_text(request.host, "localhost:4566"));
    assert_int_equal(request.header_count, 2);
    assert_string_equal(request.headers[0].name, "content-type");
    assert_true(str_equal_text(request.headers[0].value, "application/x-amz-json-1.1"));
    assert_string_equal(request.headers[1].name, "x-amz-target");
    assert_true(str_equal_text(request.headers[1].value, "AmazonSSM.StartSession"));
    assert_true(str_equal_text(request.body, "{}"));
}

/* --- answers --- */

#define DATE    "Sun, 22 Nov 2026 15:38:51 GMT"
#define DATE_MS 1795361931000

static const struct {
    const struct api_call *call;
    int status;
    const char *header;
    const char *body;
    enum api_class class;
    int code;
    const char *type;
    const char *text;
} ANSWERS[] = {
    /* where the name stands */
    {&UPDATE, 400, "", "{\"__type\":\"com.amazonaws.ecs#ClientException\",\"message\":\"no\"}", API_FAILED,
     ERROR_INVALID, "ClientException", "UpdateService: 400 ClientException: no"},
    {&UPDATE, 400, "", "{\"__type\":\"ClientException\",\"Message\":\"no\"}", API_FAILED, ERROR_INVALID,
     "ClientException", "UpdateService: 400 ClientException: no"},
    {&UPDATE, 400, "ValidationException:http://internal.amazon.com/coral/",
     "{\"message\":\"no\",\"code\":\"Other\"}", API_FAILED, ERROR_INVALID, "ValidationException",
     "UpdateService: 400 ValidationException: no"},
    {&UPDATE, 400, "", "{\"code\":\"BadThing\"}", API_FAILED, ERROR_INVALID, "BadThing",
     "UpdateService: 400 BadThing"},
    {&UPDATE, 400, "",
     "<ErrorResponse><Error><Type>Sender</Type><Code>Bad</Code><Message>a &lt; b</Message></Error>"
     "</ErrorResponse>",
     API_FAILED, ERROR_INVALID, "Bad", "UpdateService: 400 Bad: a < b"},
    {&UPDATE, 400, "", "", API_FAILED, ERROR_INVALID, "", "UpdateService: 400"},
    {&UPDATE, 400, "", "not json {", API_FAILED, ERROR_INVALID, "", "UpdateService: 400"},
    {&UPDATE, 400, "", "{\"__type\":17,\"message\":[]}", API_FAILED, ERROR_INVALID, "", "UpdateService: 400"},
    {&UPDATE, 400, "", "{\"message\":\"two\\nlines\\u001b[31m\"}", API_FAILED, ERROR_INVALID, "",
     "UpdateService: 400: two lines [31m"},
    {&UPDATE, 400, "", "{\"error\":{\"Arn\":\"a\",\"Code\":\"ClientException\",\"Message\":\"no\"}}",
     API_FAILED, ERROR_INVALID, "ClientException", "UpdateService: 400 ClientException: no"},

    /* denied */
    {&UPDATE, 400, "",
     "{\"__type\":\"AccessDeniedException\",\"message\":\"User: arn:aws:sts::1:assumed-role/r/t is not "
     "authorized to "
     "perform: ecs:UpdateService\"}",
     API_FAILED, ERROR_DENIED, "AccessDeniedException",
     "UpdateService: 400 AccessDeniedException: the task role lacks ecs:UpdateService (User: "
     "arn:aws:sts::1:assumed-role/r/t is not authorized to perform: ecs:UpdateService)"},
    {&CONTROL, 403, "",
     "<AccessDeniedException>\n  <Message>User: x with an explicit deny in a service control "
     "policy</Message>\n"
     "</AccessDeniedException>",
     API_FAILED, ERROR_DENIED, "AccessDeniedException",
     "CreateControlChannel: 403 AccessDeniedException: a policy explicitly denies "
     "ssmmessages:CreateControlChannel "
     "(User: x with an explicit deny in a service control policy)"},
    {&CONTROL, 403, "", "<html><title>403 Forbidden</title></html>", API_FAILED, ERROR_DENIED, "",
     "CreateControlChannel: 403: the task role lacks ssmmessages:CreateControlChannel, or a proxy refused "
     "the "
     "request"},
    {&UPDATE, 401, "", "", API_FAILED, ERROR_DENIED, "",
     "UpdateService: 401: the task role lacks ecs:UpdateService, or a proxy refused the request"},

    /* throttled */
    {&UPDATE, 400, "", "{\"__type\":\"ThrottlingException\",\"message\":\"Rate exceeded\"}", API_RETRY,
     ERROR_THROTTLED, "ThrottlingException",
     "UpdateService: 400 ThrottlingException: the service asks for fewer calls (Rate exceeded)"},
    {&UPDATE, 400, "TooManyRequestsException", "", API_RETRY, ERROR_THROTTLED, "TooManyRequestsException",
     "UpdateService: 400 TooManyRequestsException: the service asks for fewer calls"},
    {&UPDATE, 503, "", "{\"__type\":\"RequestLimitExceeded\"}", API_RETRY, ERROR_THROTTLED,
     "RequestLimitExceeded", NULL},
    {&UPDATE, 429, "", "", API_RETRY, ERROR_THROTTLED, "", NULL},
    {&CONTROL, 400, "",
     "<BadRequest xmlns=\"\"><message>Unable to process due to throttling.</message></BadRequest>", API_RETRY,
     ERROR_THROTTLED, "BadRequest",
     "CreateControlChannel: 400 BadRequest: the service asks for fewer calls (Unable to process due to "
     "throttling.)"},

    /* refused in a form that does not say whether old keys or a permission are the reason */
    {&CONTROL, 400, "", "<BadRequest xmlns=\"\"><message>Unauthorized request.</message></BadRequest>",
     API_REFRESH, ERROR_DENIED, "BadRequest",
     "CreateControlChannel: 400 BadRequest: the task role lacks ssmmessages:CreateControlChannel "
     "(Unauthorized request.)"},
    {&CONTROL, 400, "",
     "<BadRequest xmlns=\"\"><message>0A1B: Request is not authenticated.</message></BadRequest>",
     API_REFRESH, ERROR_DENIED, "BadRequest", NULL},

    /* final, whatever the status and the code */
    {&CONTROL, 500, "", "<Unheard><message>Session is already terminated</message></Unheard>", API_FAILED,
     ERROR_NOT_FOUND, "Unheard", "CreateControlChannel: 500 Unheard: Session is already terminated"},
    {&CONTROL, 400, "ThrottlingException", "{\"message\":\"The session was terminated.\"}", API_FAILED,
     ERROR_NOT_FOUND, "ThrottlingException", NULL},
    {&CONTROL, 503, "", "{\"message\":\"connection terminated\"}", API_RETRY, ERROR_UNAVAILABLE, "", NULL},

    /* may pass */
    {&UPDATE, 500, "", "{\"__type\":\"ServerException\",\"message\":\"oops\"}", API_RETRY, ERROR_UNAVAILABLE,
     "ServerException", "UpdateService: 500 ServerException: the service failed (oops)"},
    {&UPDATE, 400, "", "{\"__type\":\"ServerException\"}", API_RETRY, ERROR_UNAVAILABLE, "ServerException",
     NULL},
    {&UPDATE, 502, "", "<html>Bad Gateway</html>", API_RETRY, ERROR_UNAVAILABLE, "",
     "UpdateService: 502: the service failed"},
    {&UPDATE, 408, "", "", API_RETRY, ERROR_UNAVAILABLE, "", NULL},

    /* credentials */
    {&UPDATE, 400, "",
     "{\"__type\":\"ExpiredTokenException\",\"message\":\"The security token included in the request "
     "is expired\"}",
     API_REFRESH, ERROR_UNAVAILABLE, "ExpiredTokenException",
     "UpdateService: 400 ExpiredTokenException: the credentials have expired or are not known (The security "
     "token "
     "included in the request is expired)"},
    {&CONTROL, 403, "",
     "<UnrecognizedClientException>\n <message>The security token included in the request is "
     "invalid.</message>\n</UnrecognizedClientException>",
     API_REFRESH, ERROR_UNAVAILABLE, "UnrecognizedClientException", NULL},
    {&UPDATE, 400, "",
     "{\"__type\":\"InvalidSignatureException\",\"message\":\"The request signature we calculated does "
     "not match\"}",
     API_FAILED, ERROR_DENIED, "InvalidSignatureException",
     "UpdateService: 400 InvalidSignatureException: the secret key does not belong to the key id, or "
     "something on the "
     "way changes requests (The request signature we calculated does not match)"},

    /* the clock */
    {&UPDATE, 400, "",
     "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature expired: 20261122T100000Z is now "
     "earlier than 20261122T153351Z\"}",
     API_CLOCK, ERROR_UNAVAILABLE, "InvalidSignatureException", NULL},
    {&UPDATE, 400, "",
     "{\"__type\":\"InvalidSignatureException\",\"message\":\"Signature not yet current: "
     "20261122T200000Z is still later than 20261122T154351Z\"}",
     API_CLOCK, ERROR_UNAVAILABLE, "InvalidSignatureException", NULL},
    {&UPDATE, 403, "", "<Error><Code>RequestTimeTooSkewed</Code></Error>", API_CLOCK, ERROR_UNAVAILABLE,
     "RequestTimeTooSkewed", "UpdateService: 403 RequestTimeTooSkewed: this machine's clock is off"},

    /* the rest */
    {&UPDATE, 400, "", "{\"__type\":\"ServiceNotFoundException\",\"message\":\"Service not found.\"}",
     API_FAILED, ERROR_NOT_FOUND, "ServiceNotFoundException",
     "UpdateService: 400 ServiceNotFoundException: Service not found."},
    {&UPDATE, 404, "", "", API_FAILED, ERROR_NOT_FOUND, "", "UpdateService: 404"},
    {&UPDATE, 404, "", "{\"__type\":\"UnknownOperationException\"}", API_FAILED, ERROR_UNSUPPORTED,
     "UnknownOperationException", NULL},
    {&UPDATE, 301, "", "", API_FAILED, ERROR_INVALID, "",
     "UpdateService: status 301 where 200 was expected: not an AWS endpoint?"},
    {&CONTROL, 200, "", "", API_FAILED, ERROR_INVALID, "",
     "CreateControlChannel: status 200 where 201 was expected: not an AWS endpoint?"},
};

static void classifies_answers(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(ANSWERS); i++) {
        size_t len = strlen(ANSWERS[i].body);
        char *body = guard_copy(ANSWERS[i].body, len);
        struct api_answer answer = {.status = ANSWERS[i].status,
                                    .error_type = str_from(ANSWERS[i].header),
                                    .date = STR_LITERAL(DATE),
                                    .body = {body, len}};
        struct api_failure failure;
        struct error err = ERROR_INIT;
        enum api_class class = api_classify(ANSWERS[i].call, &answer, &failure, &err);
        guard_free(body, len);
        if (class != ANSWERS[i].class || err.code != (enum error_code) ANSWERS[i].code ||
            strcmp(failure.type, ANSWERS[i].type) != 0 ||
            (ANSWERS[i].text != NULL && strcmp(err.text, ANSWERS[i].text) != 0)) {
            fail_msg("row %zu: class %d, code %d, type \"%s\":\n%s\nexpected:\n%s", i, class, err.code,
                     failure.type, err.text, ANSWERS[i].text);
        }
        assert_int_equal(failure.server_unix_ms, DATE_MS);
    }
}

static void the_expected_status_is_no_failure(void **state)
{
    struct api_answer answer = {.status = 200, .body = STR_LITERAL("{\"__type\":\"X\"}")};
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(api_classify(&UPDATE, &answer, NULL, &err), API_OK);
    assert_string_equal(err.text, "");
}

static void without_a_date_the_clock_cannot_be_set(void **state)
{
    struct api_answer answer = {.status = 403, .error_type = STR_LITERAL("RequestTimeTooSkewed")};
    struct api_failure failure;
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(api_classify(&UPDATE, &answer, &failure, &err), API_FAILED);
    assert_int_equal(failure.server_unix_ms, -1);
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
}

/* Long texts are cut, at a character, and the reason keeps its beginning. */
static void long_words_are_cut(void **state)
{
    char body[8192];
    (void) state;
    for (size_t len = 280; len < 3000; len += len < 300 ? 1 : 677) {
        struct api_failure failure;
        struct error err = ERROR_INIT;
        int head = snprintf(body, sizeof body, "{\"__type\":\"AccessDeniedException\",\"message\":\"");
        for (size_t i = 0; i < len; i++)
            strcpy(body + head + 2 * i, "\xC3\xA9");
        strcpy(body + head + 2 * len, "\"}");
        struct api_answer answer = {.status = 400, .body = str_from(body)};
        assert_int_equal(api_classify(&UPDATE, &answer, &failure, &err), API_FAILED);
        assert_string_equal(failure.type, "AccessDeniedException");
        size_t kept = strlen(failure.message);
        assert_true(kept >= API_MESSAGE_SIZE - 3 && kept < API_MESSAGE_SIZE);
        assert_int_equal((kept - 3) % 2, 0);
        assert_string_equal(failure.message + kept - 3, "...");
        assert_true(str_starts_with(str_from(err.text),
                                    "UpdateService: 400 AccessDeniedException: the task role "
                                    "lacks ecs:UpdateService (\xC3\xA9"));
        assert_true(str_ends_with(str_from(err.text), "...)"));
    }
    char type[300];
    memset(type, 'T', sizeof type);
    struct api_failure failure;
    struct api_answer answer = {.status = 400, .error_type = {type, sizeof type}};
    api_read_failure(&failure, &answer);
    assert_int_equal(strlen(failure.type), API_TYPE_SIZE - 1);
}

/* --- texts of a document --- */

static void reads_texts_that_may_be_missing(void **state)
{
    struct json_token tokens[16];
    struct json doc;
    struct error err = ERROR_INIT;
    char out[4];
    (void) state;
    assert_int_equal(
        json_parse(&doc, STR_LITERAL("{\"a\":\"abc\",\"n\":null,\"i\":1,\"l\":\"abcd\",\"z\":\"\\u0000\"}"),
                   tokens, 16, NULL),
        0);
    assert_int_equal(api_json_text(&doc, 0, "a", out, sizeof out, &err), 0);
    assert_string_equal(out, "abc");
    assert_int_equal(api_json_text(&doc, 0, "n", out, sizeof out, &err), 0);
    assert_string_equal(out, "");
    assert_int_equal(api_json_text(&doc, 0, "missing", out, sizeof out, &err), 0);
    assert_int_equal(api_json_text(&doc, JSON_ABSENT, "a", out, sizeof out, &err), 0);
    assert_int_equal(err.code, ERROR_NONE);
    assert_int_equal(api_json_text(&doc, 0, "i", out, sizeof out, &err), ERROR_INVALID);
    assert_string_equal(err.text, "i is not a string");
    assert_int_equal(api_json_text(&doc, 0, "l", out, sizeof out, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "l is longer than 3 bytes, or holds a NUL");
    assert_int_equal(api_json_text(&doc, 0, "z", out, sizeof out, &err), ERROR_TOO_LARGE);
    assert_string_equal(out, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_paths),
        cmocka_unit_test(refuses_what_would_break_the_request_line),
        cmocka_unit_test(a_path_has_its_bound),
        cmocka_unit_test(headers_are_checked_and_bounded),
        cmocka_unit_test(makes_awsjson_calls),
        cmocka_unit_test(classifies_answers),
        cmocka_unit_test(the_expected_status_is_no_failure),
        cmocka_unit_test(without_a_date_the_clock_cannot_be_set),
        cmocka_unit_test(long_words_are_cut),
        cmocka_unit_test(reads_texts_that_may_be_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
