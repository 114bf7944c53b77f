#include "aws/ssm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static char memory[SSM_BODY_SIZE];

static const char *written(struct writer *w)
{
    assert_false(w->failed);
    return writer_terminate(w);
}

static void writes_bodies(void **state)
{
    struct writer w = writer_of(memory, sizeof memory);
    struct ssm_start_session start = {.target = STR_LITERAL("ecs:c_t_r"),
                                      .document = STR_LITERAL("AWS-StartPortForwardingSessionToRemoteHost"),
                                      .host = STR_LITERAL("db.internal"),
                                      .port_number = STR_LITERAL("5439"),
                                      .local_port_number = STR_LITERAL("15439"),
                                      .reason = STR_LITERAL(" me@host: dbt \"build\"\n")};
    (void) state;
    ssm_write_start_session(&w, &start);
    assert_string_equal(
        written(&w),
        "{\"Target\":\"ecs:c_t_r\",\"DocumentName\":\"AWS-StartPortForwardingSessionToRemoteHost\","
        "\"Reason\":\"me@host: dbt \\\"build\\\"\",\"Parameters\":{\"host\":[\"db.internal\"],"
        "\"portNumber\":[\"5439\"],\"localPortNumber\":[\"15439\"]}}");
    w = writer_of(memory, sizeof memory);
    start = (struct ssm_start_session){.target = STR_LITERAL("t"),
                                       .document = STR_LITERAL("d"),
                                       .port_number = STR_LITERAL("22"),
                                       .reason = STR_LITERAL(" \n ")};
    ssm_write_start_session(&w, &start);
    assert_string_equal(written(&w),
                        "{\"Target\":\"t\",\"DocumentName\":\"d\",\"Parameters\":{\"portNumber\":[\"22\"]}}");
    w = writer_of(memory, sizeof memory);
    ssm_write_session(&w, STR_LITERAL("me-0a"));
    assert_string_equal(written(&w), "{\"SessionId\":\"me-0a\"}");
    w = writer_of(memory, sizeof memory);
    ssm_write_get_connection_status(&w, STR_LITERAL("ecs:c_t_r"));
    assert_string_equal(written(&w), "{\"Target\":\"ecs:c_t_r\"}");
    w = writer_of(memory, 10);
    ssm_write_session(&w, STR_LITERAL("me-0a"));
    assert_true(w.failed);
}

static const struct {
    const char *reason, *sent;
} REASONS[] = {
    {"a\tb\x7F"
     "c\x01",
     "a b c "},
    {"\xC2\x85|\xE2\x80\xA8|\xE2\x80\xA9|\xC2\xA0|\xE8\xB8\x8F", " | | |\xC2\xA0|\xE8\xB8\x8F"},
    {"\xFF\xC3", "??"},
};

static void a_reason_is_one_line_of_256_bytes(void **state)
{
    static struct json_token tokens[16];
    char text[1024];
    struct json doc;
    struct str view;
    (void) state;
    for (size_t i = 0; i < COUNT(REASONS); i++) {
        struct ssm_start_session start = {.reason = str_from(REASONS[i].reason)};
        struct writer w = writer_of(memory, sizeof memory);
        ssm_write_start_session(&w, &start);
        assert_int_equal(json_parse(&doc, writer_view(&w), tokens, COUNT(tokens), NULL), 0);
        assert_true(json_string(&doc, json_member(&doc, 0, "Reason"), text, sizeof text, &view));
        assert_string_equal(text, REASONS[i].sent);
    }
    char reason[600];
    memset(reason, '"', sizeof reason);
    for (size_t i = 1; i + 2 < 300; i += 2) /* 256 lies inside a character */
        memcpy(reason + i, "\xC3\xA9", 2);
    char *copy = guard_copy(reason, sizeof reason);
    struct ssm_start_session start = {.reason = {copy, sizeof reason}};
    struct writer w = writer_of(memory, sizeof memory);
    ssm_write_start_session(&w, &start);
    assert_int_equal(json_parse(&doc, writer_view(&w), tokens, COUNT(tokens), NULL), 0);
    assert_true(json_string(&doc, json_member(&doc, 0, "Reason"), text, sizeof text, &view));
    assert_int_equal(view.len, SSM_REASON_MAX - 1);
    assert_memory_equal(view.ptr, reason, view.len);
    guard_free(copy, sizeof reason);
}

static void the_worst_body_fits(void **state)
{
    char text[401];
    memset(text, '\x01', sizeof text);
    struct ssm_start_session start = {.target = {text, 400},
                                      .document = {text, 300},
                                      .host = {text, 253},
                                      .port_number = STR_LITERAL("65535"),
                                      .local_port_number = STR_LITERAL("65535"),
                                      .reason = {"\"", 1}};
    struct writer w = writer_of(memory, sizeof memory);
    (void) state;
    ssm_write_start_session(&w, &start);
    assert_false(w.failed);
    assert_true(w.len + 2 * SSM_REASON_MAX < sizeof memory);
}

static void the_document_depends_on_the_host(void **state)
{
    static const struct {
        const char *host, *name, *document, *sent;
    } rows[] = {
        {"db.internal", "", "AWS-StartPortForwardingSessionToRemoteHost", "db.internal"},
        {"localhost.example.com", "", "AWS-StartPortForwardingSessionToRemoteHost", "localhost.example.com"},
        {"10.0.0.1", "", "AWS-StartPortForwardingSessionToRemoteHost", "10.0.0.1"},
        {"fd00::1", "", "AWS-StartPortForwardingSessionToRemoteHost", "fd00::1"},
        {"0.0.0.0", "", "AWS-StartPortForwardingSessionToRemoteHost", "0.0.0.0"},
        {"", "", "AWS-StartPortForwardingSession", ""},
        {"LocalHost", "", "AWS-StartPortForwardingSession", ""},
        {"localhost.", "", "AWS-StartPortForwardingSession", ""},
        {"127.0.0.1", "", "AWS-StartPortForwardingSession", ""},
        {"127.1.2.3", "", "AWS-StartPortForwardingSession", ""},
        {"::1", "", "AWS-StartPortForwardingSession", ""},
        {"::ffff:127.0.0.1", "", "AWS-StartPortForwardingSession", ""},
        {"db", "Own-Document", "Own-Document", "db"},
        {"127.0.0.1", "Own-Document", "Own-Document", ""},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct ssm_start_session start = {.host = str_from(rows[i].host)};
        ssm_choose_document(&start, str_from(rows[i].name));
        if (!str_equal_text(start.document, rows[i].document) || !str_equal_text(start.host, rows[i].sent))
            fail_msg("%s: %.*s, %.*s", rows[i].host, STR_ARG(start.document), STR_ARG(start.host));
    }
}

#define STARTED(id, url, token)                                                                              \
    "{\"SessionId\":\"" id "\",\"StreamUrl\":\"" url "\",\"TokenValue\":\"" token                            \
    "\",\"ResponseMetadata\":{}}"
#define URL                                                                                                  \
    "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/"                                             \
    "me-0a?role=publish_subscribe&cell-number=AA+/="

static const struct {
    int status;
    const char *body;
    enum api_class class;
    int code;
    const char *text;
} STARTS[] = {
    {200, STARTED("me-0a", URL, "AAEA+/="), API_OK, 0, ""},
    {200, "{\"sessionid\":\"me-0a\",\"streamurl\":\"" URL "\",\"tokenvalue\":\"AAEA+/=\"}", API_OK, 0, ""},
    {200, STARTED("", URL, "t"), API_FAILED, ERROR_INVALID, "StartSession: the answer holds no SessionId"},
    {200, STARTED("me", "", "t"), API_FAILED, ERROR_INVALID, "StartSession: the answer holds no StreamUrl"},
    {200, STARTED("me", URL, ""), API_FAILED, ERROR_INVALID, "StartSession: the answer holds no TokenValue"},
    {200, "{\"SessionId\":\"me\",\"StreamUrl\":\"u\",\"TokenValue\":null}", API_FAILED, ERROR_INVALID,
     "StartSession: the answer holds no TokenValue"},
    {200, "{\"SessionId\":7}", API_FAILED, ERROR_INVALID, "StartSession: SessionId is not a string"},
    {200, STARTED("a/b", URL, "t"), API_FAILED, ERROR_INVALID,
     "StartSession: SessionId \"a/b\" is not a valid session id"},
    {200, STARTED("a b", URL, "t"), API_FAILED, ERROR_INVALID,
     "StartSession: SessionId \"a b\" is not a valid session id"},
    {200, STARTED("a\\u0000b", URL, "t"), API_FAILED, ERROR_TOO_LARGE, NULL},
    {200, "[]", API_FAILED, ERROR_INVALID, "StartSession: the answer holds no SessionId"},
    {200, "", API_FAILED, ERROR_INVALID, NULL},
    {200, "<html>", API_FAILED, ERROR_INVALID, NULL},
    {302, "", API_FAILED, ERROR_INVALID, NULL},
    {400, "{\"__type\":\"TargetNotConnected\",\"message\":\"ecs:c_t_r is not connected.\"}", API_RETRY,
     ERROR_UNAVAILABLE,
     "StartSession: 400 TargetNotConnected: no agent of this container has its control channel open"},
    {400, "{\"__type\":\"AccessDeniedException\"}", API_FAILED, ERROR_DENIED,
     "StartSession: 400 AccessDeniedException: your credentials lack ssm:StartSession"},
    {400, "{\"__type\":\"InvalidDocument\",\"message\":\"Document X does not exist.\"}", API_FAILED,
     ERROR_INVALID, "StartSession: 400 InvalidDocument: Document X does not exist."},
    {400, "{\"__type\":\"ThrottlingException\"}", API_RETRY, ERROR_THROTTLED, NULL},
    {400, "{\"__type\":\"ExpiredTokenException\"}", API_REFRESH, ERROR_UNAVAILABLE, NULL},
    {500, "{\"__type\":\"InternalServerError\"}", API_RETRY, ERROR_UNAVAILABLE, NULL},
};

static bool is_wiped(const void *data, size_t len)
{
    const char *bytes = data;
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

static void reads_what_was_started(void **state)
{
    static struct ssm_session session;
    (void) state;
    for (size_t i = 0; i < COUNT(STARTS); i++) {
        size_t len = strlen(STARTS[i].body);
        char *copy = guard_copy(STARTS[i].body, len);
        struct api_answer answer = {.status = STARTS[i].status, .body = {copy, len}};
        struct error err = ERROR_INIT;
        memset(&session, 'x', sizeof session);
        enum api_class class = ssm_read_start_session(&session, &answer, NULL, &err);
        if (class != STARTS[i].class || err.code != (enum error_code) STARTS[i].code ||
            (STARTS[i].text != NULL && strcmp(err.text, STARTS[i].text) != 0))
            fail_msg("row %zu: class %d, code %d: %s", i, class, err.code, err.text);
        if (class == API_OK) {
            assert_string_equal(session.id, "me-0a");
            assert_string_equal(session.stream_url, URL);
            assert_string_equal(session.token, "AAEA+/=");
        } else {
            assert_true(is_wiped(&session, sizeof session));
        }
        guard_free(copy, len);
    }
}

static void each_member_has_its_bound(void **state)
{
    static const struct {
        const char *name;
        size_t size;
    } members[] = {{"SessionId", SSMMESSAGES_SESSION_ID_SIZE},
                   {"StreamUrl", SSM_STREAM_URL_SIZE},
                   {"TokenValue", SSMMESSAGES_TOKEN_SIZE}};
    static struct ssm_session session;
    static char body[3 * SSMMESSAGES_TOKEN_SIZE];
    (void) state;
    for (size_t k = 0; k < 2; k++) { /* what fits, and a byte more */
        for (size_t i = 0; i < COUNT(members); i++) {
            struct writer w = writer_of(body, sizeof body);
            struct error err = ERROR_INIT;
            writer_char(&w, '{');
            for (size_t n = 0; n < COUNT(members); n++) {
                writer_format(&w, "%s\"%s\":\"", n > 0 ? "," : "", members[n].name);
                writer_fill(&w, 'a', n == i ? members[n].size - 1 + k : 1);
                writer_char(&w, '"');
            }
            writer_char(&w, '}');
            int result = ssm_parse_session(&session, writer_view(&w), &err);
            assert_int_equal(result, k == 0 ? 0 : ERROR_TOO_LARGE);
            assert_true(k == 0 || strstr(err.text, members[i].name) != NULL);
        }
    }
}

static const struct {
    int status;
    const char *body;
    enum api_class class;
    bool is_over;
    int code;
    const char *text;
} RESUMES[] = {
    {200, STARTED("me-0a", URL, "new"), API_OK, false, 0, ""},
    {200, "{\"TokenValue\":\"new\"}", API_OK, false, 0, ""},
    {200, STARTED("me-0a", URL, ""), API_FAILED, true, ERROR_NOT_FOUND,
     "ResumeSession: the session has timed out or was ended"},
    {200, "{\"SessionId\":\"me\",\"TokenValue\":null,\"StreamUrl\":null}", API_FAILED, true, ERROR_NOT_FOUND,
     NULL},
    {200, "{}", API_FAILED, true, ERROR_NOT_FOUND, NULL},
    {400, "{\"__type\":\"DoesNotExistException\"}", API_FAILED, true, ERROR_NOT_FOUND,
     "ResumeSession: the session has timed out or was ended"},
    {200, "{\"TokenValue\":7}", API_FAILED, false, ERROR_INVALID,
     "ResumeSession: TokenValue is not a string"},
    {200, "[]", API_FAILED, false, ERROR_INVALID, "ResumeSession: the answer is not a JSON object"},
    {200, "what", API_FAILED, false, ERROR_INVALID, NULL},
    {403, "{}", API_REFRESH, false, ERROR_DENIED, NULL},
    {400, "{\"__type\":\"AccessDeniedException\"}", API_REFRESH, false, ERROR_DENIED,
     "ResumeSession: 400 AccessDeniedException: your credentials lack ssm:ResumeSession"},
    {400, "{\"__type\":\"ExpiredTokenException\"}", API_REFRESH, false, ERROR_UNAVAILABLE, NULL},
    {400, "{\"__type\":\"ValidationException\"}", API_FAILED, false, ERROR_INVALID, NULL},
    {503, "", API_RETRY, false, ERROR_UNAVAILABLE, NULL},
};

static void reads_a_new_token_or_the_end(void **state)
{
    static char token[SSMMESSAGES_TOKEN_SIZE];
    (void) state;
    for (size_t i = 0; i < COUNT(RESUMES); i++) {
        struct api_answer answer = {.status = RESUMES[i].status, .body = str_from(RESUMES[i].body)};
        struct error err = ERROR_INIT;
        bool is_over = !RESUMES[i].is_over;
        enum api_class class = ssm_read_resume_session(token, &is_over, &answer, NULL, &err);
        if (class != RESUMES[i].class || is_over != RESUMES[i].is_over ||
            err.code != (enum error_code) RESUMES[i].code ||
            (RESUMES[i].text != NULL && strcmp(err.text, RESUMES[i].text) != 0))
            fail_msg("row %zu: class %d, over %d, code %d: %s", i, class, is_over, err.code, err.text);
        assert_string_equal(token, class == API_OK ? "new" : "");
        assert_int_equal(ssm_read_resume_session(token, &is_over, &answer, NULL, NULL), class);
    }
}

static void what_does_not_exist_is_terminated(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    struct api_answer answer = {.status = 200, .body = STR_LITERAL("{\"SessionId\":\"me\"}")};
    assert_int_equal(ssm_read_terminate_session(&answer, NULL, &err), API_OK);
    answer =
        (struct api_answer){.status = 400, .body = STR_LITERAL("{\"__type\":\"DoesNotExistException\"}")};
    assert_int_equal(ssm_read_terminate_session(&answer, NULL, &err), API_OK);
    assert_int_equal(err.code, ERROR_NONE);
    answer.body = STR_LITERAL("{\"__type\":\"AccessDeniedException\"}");
    assert_int_equal(ssm_read_terminate_session(&answer, NULL, &err), API_FAILED);
    assert_string_equal(
        err.text, "TerminateSession: 400 AccessDeniedException: your credentials lack ssm:TerminateSession");
}

static void reads_whether_a_target_is_connected(void **state)
{
    static const struct {
        const char *body;
        enum api_class class;
        bool is_connected;
    } rows[] = {{"{\"Target\":\"t\",\"Status\":\"connected\"}", API_OK, true},
                {"{\"Target\":\"t\",\"Status\":\"Connected\"}", API_OK, true},
                {"{\"Target\":\"t\",\"Status\":\"notconnected\"}", API_OK, false},
                {"{\"Target\":\"t\"}", API_FAILED, false},
                {"{\"Status\":[]}", API_FAILED, false},
                {"", API_FAILED, false}};
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct api_answer answer = {.status = 200, .body = str_from(rows[i].body)};
        bool is_connected = !rows[i].is_connected;
        assert_int_equal(ssm_read_get_connection_status(&is_connected, &answer, NULL, NULL), rows[i].class);
        assert_int_equal(is_connected, rows[i].is_connected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_bodies),
        cmocka_unit_test(a_reason_is_one_line_of_256_bytes),
        cmocka_unit_test(the_worst_body_fits),
        cmocka_unit_test(the_document_depends_on_the_host),
        cmocka_unit_test(reads_what_was_started),
        cmocka_unit_test(each_member_has_its_bound),
        cmocka_unit_test(reads_a_new_token_or_the_end),
        cmocka_unit_test(what_does_not_exist_is_terminated),
        cmocka_unit_test(reads_whether_a_target_is_connected),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
