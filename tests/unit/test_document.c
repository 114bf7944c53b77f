#include "tunnel/document.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct document_scratch scratch;
static struct document document;

/* Wraps a document, given as it is, into the message that carries it as a string. */
static int parse(const char *content, struct error *err)
{
    static char memory[256 * 1024];
    struct writer out = writer_of(memory, sizeof memory);
    struct json_writer j = json_writer_of(&out);
    json_begin_object(&j);
    json_member_text(&j, "Content", content);
    json_member_text(&j, "TaskId", "ignored");
    json_member_i64(&j, "SchemaVersion", 1);
    json_end_object(&j);
    assert_false(out.failed);
    return document_parse(&document, writer_view(&out), &scratch, err);
}

#define CONTENT(type, parameters, properties)                                                                \
    "{\"DocumentName\":\"AWS-StartPortForwardingSessionToRemoteHost\",\"SessionId\":\"ci-0123\","            \
    "\"RunAsUser\":\"\","                                                                                    \
    "\"SessionOwner\":\"arn:aws:sts::123456789012:assumed-role/ci/"                                          \
    "run\",\"DocumentContent\":{\"schemaVersion\":\"1.0\","                                                  \
    "\"sessionType\":\"" type                                                                                \
    "\",\"inputs\":{},\"parameters\":{\"portNumber\":{\"type\":\"String\",\"default\":\"80\"},"              \
    "\"host\":{\"type\":\"String\"},\"localPortNumber\":{\"default\":\"0\"}},\"properties\":" properties     \
    "},\"Parameters\":" parameters "}"
#define PROPERTIES                                                                                           \
    "{\"portNumber\":\"{{ portNumber }}\",\"host\":\"{{host}}\",\"type\":\"LocalPortForwarding\","           \
    "\"localPortNumber\":\"{{ localPortNumber }}\"}"

static void reads_the_remote_host_document(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(
        parse(CONTENT("Port", "{\"portNumber\":[\"5439\"],\"host\":\"db.internal\"}", PROPERTIES), &err), 0);
    assert_string_equal(document.session_id, "ci-0123");
    assert_string_equal(document.owner, "arn:aws:sts::123456789012:assumed-role/ci/run");
    assert_string_equal(document.document_name, "AWS-StartPortForwardingSessionToRemoteHost");
    assert_string_equal(document.host, "db.internal");
    assert_int_equal(document.port, 5439);
    assert_int_equal(document.kind, DOCUMENT_LOCAL_FORWARDING);
    assert_string_equal(document.properties, "{\"portNumber\":\"5439\",\"host\":\"db.internal\",\"type\":"
                                             "\"LocalPortForwarding\",\"localPortNumber\":\"0\"}");
}

static void takes_defaults_and_localhost(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(parse(CONTENT("Port", "{}", "{\"portNumber\":\"{{ portNumber }}\"}"), &err), 0);
    assert_string_equal(document.host, "localhost");
    assert_int_equal(document.port, 80);
    assert_int_equal(document.kind, DOCUMENT_STREAM);
}

static void matches_keys_without_regard_to_case(void **state)
{
    static const char message[] =
        "{\"content\":\"{\\\"sessionid\\\":\\\"s\\\",\\\"documentcontent\\\":{\\\"SchemaVersion\\\":\\\"1."
        "0\\\","
        "\\\"SessionType\\\":\\\"Port\\\",\\\"Properties\\\":{\\\"PortNumber\\\":22}}}\"}";
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(document_parse(&document, STR_LITERAL(message), &scratch, &err), 0);
    assert_string_equal(document.session_id, "s");
    assert_string_equal(document.owner, "unknown");
    assert_int_equal(document.port, 22);
}

/* Pitfall 21: any escape may stand in Content, and ids are opaque. */
static void pitfall_21_escapes_and_opaque_ids(void **state)
{
    static const char message[] = "{\"Content\":\"\\u007b\\\"SessionId\\\":\\\"\\\\u00e9\\\\ud83d\\\\ude00 "
                                  "id\\\",\\\"DocumentContent\\\":{"
                                  "\\\"schemaVersion\\\":\\\"1.0\\\",\\\"sessionType\\\":\\\"Port\\\","
                                  "\\\"properties\\\":{\\\"portNumber\\\":"
                                  "\\\"1\\\"}}}\"}";
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(document_parse(&document, STR_LITERAL(message), &scratch, &err), 0);
    assert_string_equal(document.session_id, "\xc3\xa9\xf0\x9f\x98\x80 id");
}

static void names_the_session_even_when_it_refuses(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(parse(CONTENT("Standard_Stream", "{}", PROPERTIES), &err), ERROR_UNSUPPORTED);
    assert_string_equal(document.session_id, "ci-0123");
    assert_non_null(strstr(err.text, "Standard_Stream needs a shell"));
}

static const struct {
    const char *content;
    int code;
    const char *words;
} refused[] = {
    {"", ERROR_INVALID, "Content"},
    {"[]", ERROR_INVALID, "SessionId"},
    {"{\"SessionId\":\"\"}", ERROR_INVALID, "SessionId"},
    {"{\"SessionId\":\"s\"}", ERROR_UNSUPPORTED, "schemaVersion"},
    {"{\"SessionId\":\"s\",\"DocumentContent\":{\"schemaVersion\":\"2.2\"}}", ERROR_UNSUPPORTED,
     "schemaVersion"},
    {"{\"SessionId\":\"s\",\"DocumentContent\":{\"schemaVersion\":\"1.0\"}}", ERROR_INVALID,
     "no sessionType"},
    {"{\"SessionId\":\"s\",\"DocumentContent\":{\"schemaVersion\":\"1.0\",\"sessionType\":\"Port\"}}",
     ERROR_INVALID, "no properties"},
    {CONTENT("InteractiveCommands", "{}", PROPERTIES), ERROR_UNSUPPORTED, "InteractiveCommands"},
    {CONTENT("Port", "{\"portNumber\":\"0\",\"host\":\"h\"}", PROPERTIES), ERROR_INVALID, "portNumber \"0\""},
    {CONTENT("Port", "{\"portNumber\":\"70000\",\"host\":\"h\"}", PROPERTIES), ERROR_INVALID,
     "portNumber \"70000\""},
    {CONTENT("Port", "{\"portNumber\":\"-1\",\"host\":\"h\"}", PROPERTIES), ERROR_INVALID, "portNumber"},
    {CONTENT("Port", "{\"host\":\"a b\"}", PROPERTIES), ERROR_INVALID, "host \"a b\""},
    {CONTENT("Port", "{}", PROPERTIES), ERROR_INVALID, "parameter \"host\""},
    {CONTENT("Port", "{}", "{\"portNumber\":\"{{ nobody }}\"}"), ERROR_INVALID, "parameter \"nobody\""},
    {CONTENT("Port", "{\"portNumber\":[\"1\",\"2\"],\"host\":\"h\"}", PROPERTIES), 0, ""},
};

static void says_what_is_wrong(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct error err = ERROR_INIT;
        int result = parse(refused[i].content, &err);
        if (result != refused[i].code || strstr(err.text, refused[i].words) == NULL)
            fail_msg("case %zu: %d \"%s\"", i, result, err.text);
    }
}

static void bounds_every_field(void **state)
{
    static char content[DOCUMENT_CONTENT_MAX + 64];
    struct error err = ERROR_INIT;
    (void) state;
    /* host: 255 fit, 256 do not */
    for (size_t len = DIAL_POLICY_HOST_SIZE - 1; len <= DIAL_POLICY_HOST_SIZE; len++) {
        char host[DIAL_POLICY_HOST_SIZE + 1];
        memset(host, 'h', len);
        host[len] = '\0';
        snprintf(content, sizeof content, CONTENT("Port", "{\"host\":\"%s\"}", PROPERTIES), host);
        assert_int_equal(parse(content, &err), len < DIAL_POLICY_HOST_SIZE ? 0 : ERROR_TOO_LARGE);
    }
    /* properties as a whole */
    char filler[DOCUMENT_PROPERTIES_SIZE];
    memset(filler, 'x', sizeof filler - 1);
    filler[sizeof filler - 1] = '\0';
    snprintf(content, sizeof content, CONTENT("Port", "{}", "{\"portNumber\":\"1\",\"filler\":\"%s\"}"),
             filler);
    assert_int_equal(parse(content, &err), ERROR_TOO_LARGE);
    /* Content */
    memset(content, ' ', sizeof content - 1);
    content[0] = '[';
    content[sizeof content - 1] = '\0';
    assert_int_equal(parse(content, &err), ERROR_TOO_LARGE);
    assert_non_null(strstr(err.text, "Content is longer"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_remote_host_document),
        cmocka_unit_test(takes_defaults_and_localhost),
        cmocka_unit_test(matches_keys_without_regard_to_case),
        cmocka_unit_test(pitfall_21_escapes_and_opaque_ids),
        cmocka_unit_test(names_the_session_even_when_it_refuses),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(bounds_every_field),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
