#include "aws/ssmmessages.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

#define REQUEST_ID STR_LITERAL("6a34ba4d-3e3a-4f0c-9d5c-0d5b6a1f9d11")
#define CLIENT_ID  STR_LITERAL("11111111-2222-4333-8444-555555555555")
#define TARGET_ID  STR_LITERAL("ecs:default_0a_1b-2")
#define HEAD       "{\"MessageSchemaVersion\":\"1.0\",\"RequestId\":\"6a34ba4d-3e3a-4f0c-9d5c-0d5b6a1f9d11\""

static char memory[SSMMESSAGES_PAYLOAD_SIZE];

static const char *written(struct writer *w)
{
    assert_false(w->failed);
    return writer_terminate(w);
}

static void writes_bodies_and_first_frames(void **state)
{
    struct writer w;
    (void) state;
    w = writer_of(memory, sizeof memory);
    ssmmessages_write_create_control(&w, REQUEST_ID);
    assert_string_equal(written(&w), HEAD "}");
    w = writer_of(memory, sizeof memory);
    ssmmessages_write_create_data(&w, REQUEST_ID, CLIENT_ID);
    assert_string_equal(written(&w), HEAD ",\"ClientId\":\"11111111-2222-4333-8444-555555555555\"}");
    w = writer_of(memory, sizeof memory);
    ssmmessages_write_open_control(&w, REQUEST_ID, STR_LITERAL("AA+/="),
                                   STR_LITERAL(SSMMESSAGES_AGENT_VERSION));
    assert_string_equal(written(&w),
                        HEAD ",\"TokenValue\":\"AA+/=\",\"AgentVersion\":\"3.3.4624.0\",\"PlatformType\":"
                             "\"linux\",\"Cookie\":null}");
    w = writer_of(memory, sizeof memory);
    ssmmessages_write_open_data(&w, REQUEST_ID, STR_LITERAL("AA+/="), TARGET_ID, CLIENT_ID);
    assert_string_equal(written(&w), HEAD
                        ",\"TokenValue\":\"AA+/=\",\"ClientInstanceId\":\"ecs:default_0a_1b-2\",\"ClientId\":"
                        "\"11111111-2222-4333-8444-555555555555\"}");
    w = writer_of(memory, sizeof memory);
    ssmmessages_write_open_data_as_client(&w, REQUEST_ID, STR_LITERAL("T"), CLIENT_ID,
                                          STR_LITERAL("1.2.0.0"));
    assert_string_equal(written(&w), HEAD ",\"TokenValue\":\"T\",\"ClientId\":\"11111111-2222-4333-8444-"
                                          "555555555555\",\"ClientVersion\":\"1.2.0.0\"}");
}

static void the_longest_token_fits_a_frame(void **state)
{
    static char token[SSMMESSAGES_TOKEN_SIZE - 1], frame[SSMMESSAGES_OPEN_FRAME_SIZE];
    struct writer w = writer_of(frame, sizeof frame);
    (void) state;
    memset(token, '"', sizeof token); /* each escaped in two */
    ssmmessages_write_open_data(&w, REQUEST_ID, (struct str){token, sizeof token}, TARGET_ID, CLIENT_ID);
    assert_false(w.failed);
}

static void makes_the_four_requests(void **state)
{
    static const struct {
        enum ssmmessages_channel channel;
        bool is_open;
        const char *id, *method, *path, *query;
    } REQUESTS[] = {
        {SSMMESSAGES_CONTROL, false, "ecs:c_t_r-1", "POST", "/v1/control-channel/ecs:c_t_r-1", ""},
        {SSMMESSAGES_CONTROL, true, "ecs:c_t_r-1", "GET", "/v1/control-channel/ecs:c_t_r-1",
         "role=subscribe&stream=input"},
        {SSMMESSAGES_DATA, false, "user-0a1b", "POST", "/v1/data-channel/user-0a1b", ""},
        {SSMMESSAGES_DATA, true, "user-0a1b", "GET", "/v1/data-channel/user-0a1b", "role=publish_subscribe"},
    };
    struct endpoint endpoint;
    (void) state;
    assert_int_equal(endpoint_from_url(&endpoint, STR_LITERAL("https://h:8443"), NULL), 0);
    for (size_t i = 0; i < COUNT(REQUESTS); i++) {
        struct api_request request;
        struct str id = str_from(REQUESTS[i].id);
        assert_int_equal(REQUESTS[i].is_open
                             ? ssmmessages_make_open(&request, &endpoint, REQUESTS[i].channel, id, NULL)
                             : ssmmessages_make_create(&request, &endpoint, REQUESTS[i].channel, id,
                                                       STR_LITERAL("{}"), NULL),
                         0);
        assert_string_equal(request.method, REQUESTS[i].method);
        assert_string_equal(request.path, REQUESTS[i].path);
        assert_true(str_equal_text(request.query, REQUESTS[i].query));
        assert_true(str_equal_text(request.host, "h:8443"));
        assert_true(str_equal_text(request.body, REQUESTS[i].is_open ? "" : "{}"));
        assert_int_equal(request.header_count, REQUESTS[i].is_open ? 0 : 1);
        if (!REQUESTS[i].is_open) {
            assert_string_equal(request.headers[0].name, "content-type");
            assert_true(str_equal_text(request.headers[0].value, "application/json"));
        }
    }
}

/* Session ids come from the service; they must not lead the request elsewhere. */
static void refuses_ids_that_change_the_path(void **state)
{
    static const struct {
        const char *id;
        int code;
        const char *text;
    } IDS[] = {
        {"", ERROR_INVALID, "CreateDataChannel: \"\" is not a valid channel id"},
        {"a/../b", ERROR_INVALID, "CreateDataChannel: \"a/../b\" is not a valid channel id"},
        {"a?x=y", ERROR_INVALID,
         "CreateDataChannel: path \"/v1/data-channel/a?x=y\": a byte in it must be escaped"},
        {"a b", ERROR_INVALID, NULL},
        {"a\r\nHost: b", ERROR_INVALID, NULL},
    };
    struct endpoint endpoint;
    struct api_request request;
    (void) state;
    assert_int_equal(endpoint_from_url(&endpoint, STR_LITERAL("https://h"), NULL), 0);
    for (size_t i = 0; i < COUNT(IDS); i++) {
        struct error err = ERROR_INIT;
        assert_int_equal(
            ssmmessages_make_open(&request, &endpoint, SSMMESSAGES_DATA, str_from(IDS[i].id), &err),
            IDS[i].code);
        if (IDS[i].text != NULL)
            assert_string_equal(err.text, IDS[i].text);
    }
    static char id[API_PATH_SIZE];
    struct error err = ERROR_INIT;
    memset(id, 'a', sizeof id);
    assert_int_equal(
        ssmmessages_make_open(&request, &endpoint, SSMMESSAGES_DATA, (struct str){id, sizeof id}, &err),
        ERROR_TOO_LARGE);
    assert_string_equal(err.text, "CreateDataChannel: a channel id of 768 bytes");
}

static const struct {
    int status;
    const char *body;
    enum api_class class;
    int code;
    const char *token;
    const char *text;
} ANSWERS[] = {
    {201,
     "<CreateControlChannelOutput "
     "xmlns=\"http://ssm.amazonaws.com/doc/2014-11-06/\"><MessageSchemaVersion>1.0"
     "</MessageSchemaVersion><TokenValue>AAEAA+bc/d==&amp;</TokenValue></CreateControlChannelOutput>",
     API_OK, 0, "AAEAA+bc/d==&", ""},
    {201, "<R><TokenValue></TokenValue></R>", API_FAILED, ERROR_INVALID, "",
     "CreateControlChannel: an answer of 32 bytes without a TokenValue that fits 4096"},
    {201, "<R><TokenValue>a", API_FAILED, ERROR_INVALID, "",
     "CreateControlChannel: an answer of 16 bytes without a TokenValue that fits 4096"},
    {201, "{\"TokenValue\":\"a\"}", API_FAILED, ERROR_INVALID, "", NULL},
    {200, "<R><TokenValue>a</TokenValue></R>", API_FAILED, ERROR_INVALID, "", NULL},
    {403, "<AccessDeniedException><Message>no</Message></AccessDeniedException>", API_FAILED, ERROR_DENIED,
     "",
     "CreateControlChannel: 403 AccessDeniedException: the task role lacks ssmmessages:CreateControlChannel "
     "(no)"},
    {400, "<BadRequest xmlns=\"\"><message>Unable to process due to throttling.</message></BadRequest>",
     API_RETRY, ERROR_THROTTLED, "", NULL},
};

static void reads_the_token(void **state)
{
    static char token[SSMMESSAGES_TOKEN_SIZE];
    (void) state;
    for (size_t i = 0; i < COUNT(ANSWERS); i++) {
        size_t len = strlen(ANSWERS[i].body);
        char *body = guard_copy(ANSWERS[i].body, len);
        struct api_answer answer = {.status = ANSWERS[i].status, .body = {body, len}};
        struct error err = ERROR_INIT;
        strcpy(token, "stale");
        enum api_class class = ssmmessages_read_create(token, SSMMESSAGES_CONTROL, &answer, NULL, &err);
        if (class != ANSWERS[i].class || err.code != (enum error_code) ANSWERS[i].code ||
            strcmp(token, ANSWERS[i].token) != 0 ||
            (ANSWERS[i].text != NULL && strcmp(err.text, ANSWERS[i].text) != 0))
            fail_msg("row %zu: class %d, token \"%s\", %s", i, class, token, err.text);
        guard_free(body, len);
    }
}

static void the_token_has_its_bound(void **state)
{
    static char token[SSMMESSAGES_TOKEN_SIZE], body[SSMMESSAGES_TOKEN_SIZE + 64];
    struct api_answer answer = {.status = 201};
    struct error err = ERROR_INIT;
    (void) state;
    int head = snprintf(body, sizeof body, "<R><TokenValue>");
    memset(body + head, 't', SSMMESSAGES_TOKEN_SIZE - 1);
    strcpy(body + head + SSMMESSAGES_TOKEN_SIZE - 1, "</TokenValue></R>");
    answer.body = str_from(body);
    assert_int_equal(ssmmessages_read_create(token, SSMMESSAGES_DATA, &answer, NULL, &err), API_OK);
    assert_int_equal(strlen(token), SSMMESSAGES_TOKEN_SIZE - 1);
    strcpy(body + head + SSMMESSAGES_TOKEN_SIZE - 1, "t</TokenValue></R>");
    answer.body = str_from(body);
    assert_int_equal(ssmmessages_read_create(token, SSMMESSAGES_DATA, &answer, NULL, &err), API_FAILED);
    assert_string_equal(err.text,
                        "CreateDataChannel: an answer of 4129 bytes without a TokenValue that fits 4096");
    for (size_t i = 0; i < sizeof token; i++)
        assert_int_equal(token[i], 0);
}

static void writes_control_messages(void **state)
{
    struct writer w = writer_of(memory, sizeof memory);
    (void) state;
    ssmmessages_write_task_complete(&w,
                                    &(struct ssmmessages_task_complete){.session_id = STR_LITERAL("user-0a"),
                                                                        .target_id = TARGET_ID,
                                                                        .success = false,
                                                                        .output = STR_LITERAL("no \"host\""),
                                                                        .retry_number = 2});
    assert_string_equal(
        written(&w),
        "{\"SchemaVersion\":1,\"TaskId\":\"user-0a\",\"Topic\":\"agent_task_complete\",\"FinalTaskStatus\":"
        "\"Failed\","
        "\"IsRoutingFailure\":false,\"AwsAccountId\":\"\",\"InstanceId\":\"ecs:default_0a_1b-2\",\"Output\":"
        "\"no \\\"host\\\"\",\"S3Bucket\":\"\",\"S3UrlSuffix\":\"\",\"CwlGroup\":\"\",\"CwlStream\":\"\","
        "\"RetryNumber\":2}");
    w = writer_of(memory, sizeof memory);
    ssmmessages_write_task_complete(&w, &(struct ssmmessages_task_complete){.success = true});
    assert_non_null(strstr(written(&w), "\"FinalTaskStatus\":\"Success\""));
    w = writer_of(memory, sizeof memory);
    ssmmessages_write_session_state(&w, STR_LITERAL("user-0a"), SSMMESSAGES_CONNECTED);
    assert_string_equal(written(&w),
                        "{\"SchemaVersion\":1,\"SessionState\":\"Connected\",\"SessionId\":\"user-0a\"}");
    w = writer_of(memory, sizeof memory);
    ssmmessages_write_session_state(&w, STR_LITERAL("user-0a"), SSMMESSAGES_TERMINATING);
    assert_string_equal(written(&w),
                        "{\"SchemaVersion\":1,\"SessionState\":\"Terminating\",\"SessionId\":\"user-0a\"}");
}

static void a_long_reason_is_cut_and_fits(void **state)
{
    static char output[3 * SSMMESSAGES_OUTPUT_MAX], text[2 * SSMMESSAGES_OUTPUT_MAX];
    struct json_token tokens[64];
    struct json doc;
    struct str view;
    struct writer w = writer_of(memory, sizeof memory);
    (void) state;
    memset(output, '\x01', sizeof output); /* each escaped in six */
    ssmmessages_write_task_complete(&w,
                                    &(struct ssmmessages_task_complete){.session_id = STR_LITERAL("user-0a"),
                                                                        .target_id = TARGET_ID,
                                                                        .output = {output, sizeof output}});
    assert_false(w.failed);
    assert_int_equal(json_parse(&doc, writer_view(&w), tokens, COUNT(tokens), NULL), 0);
    assert_true(json_string(&doc, json_member(&doc, 0, "Output"), text, sizeof text, &view));
    assert_int_equal(view.len, SSMMESSAGES_OUTPUT_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_bodies_and_first_frames),
        cmocka_unit_test(the_longest_token_fits_a_frame),
        cmocka_unit_test(makes_the_four_requests),
        cmocka_unit_test(refuses_ids_that_change_the_path),
        cmocka_unit_test(reads_the_token),
        cmocka_unit_test(the_token_has_its_bound),
        cmocka_unit_test(writes_control_messages),
        cmocka_unit_test(a_long_reason_is_cut_and_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
