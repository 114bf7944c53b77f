#include "aws/plugin_args.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const char answer[] =
    "{\"SessionId\": \"me-0a\", \"TokenValue\": \"AA+/=\", \"StreamUrl\": "
    "\"wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/me-0a?role=publish_subscribe\", "
    "\"ResponseMetadata\": {\"RequestId\": \"x\", \"HTTPHeaders\": {\"server\": \"Server\"}}}";
static const char request[] =
    "{\"Target\": \"ecs:c_t_r\", \"DocumentName\": \"AWS-StartPortForwardingSessionToRemoteHost\", "
    "\"Parameters\": {\"host\": [\"db.internal\"], \"portNumber\": [\"5432\"], \"localPortNumber\": "
    "[\"15432\"]}}";
#define PLUGIN "session-manager-plugin"

static struct plugin_args args;
static char variable[1024];
static char *env[] = {variable, "AWS_SSM_START_SESSION_RESPONSE=", NULL};

/* The last one is null. */
static int parse(const char *const *words, struct error *err)
{
    char *argv[9] = {NULL};
    int argc = 0;
    while (words[argc] != NULL) {
        argv[argc] = (char *) words[argc];
        argc++;
    }
    memset(&args, 'x', sizeof args);
    snprintf(variable, sizeof variable, "AWS_SSM_START_SESSION_RESPONSE_1=%s", answer);
    return plugin_args_parse(&args, argc, argv, env, err);
}

static void the_cli_starts_a_session(void **state)
{
    static const char *const words[] = {
        PLUGIN, answer, "eu-west-1", "StartSession", "dev", request, "https://ssm.eu-west-1.amazonaws.com",
        NULL};
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(parse(words, &err), 0);
    assert_int_equal(args.kind, PLUGIN_ARGS_SESSION);
    assert_string_equal(args.session.id, "me-0a");
    assert_string_equal(args.session.token, "AA+/=");
    assert_null(args.variable);
    assert_true(str_equal_text(args.region, "eu-west-1"));
    assert_true(str_equal_text(args.profile, "dev"));
    assert_true(args.has_endpoint);
    assert_false(args.any_host);
    assert_string_equal(args.endpoint.host, "ssm.eu-west-1.amazonaws.com");
    assert_string_equal(args.target, "ecs:c_t_r");
    assert_string_equal(args.document, SSM_DOCUMENT_HOST);
    assert_string_equal(args.host, "db.internal");
    assert_string_equal(args.port_number, "5432");
    assert_string_equal(args.local_port_number, "15432");
}

static void the_answer_may_be_in_a_variable(void **state)
{
    const char *words[] = {PLUGIN, "AWS_SSM_START_SESSION_RESPONSE_1", "eu-west-1", "StartSession", "", NULL};
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(parse(words, &err), 0);
    assert_string_equal(args.session.id, "me-0a");
    assert_ptr_equal(args.variable, words[1]);
    words[1] = "AWS_SSM_START_SESSION_RESPONSE";
    assert_int_equal(parse(words, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.text, "argument 1, StartSession's answer: the environment variable "
                                  "AWS_SSM_START_SESSION_RESPONSE is not set");
    words[1] = "PATH";
    assert_int_equal(parse(words, &err), ERROR_INVALID);
}

static void the_later_arguments_may_be_missing(void **state)
{
    static const char *const rows[][8] = {
        {PLUGIN, answer, "eu-west-1", "StartSession", NULL},
        {PLUGIN, answer, "eu-west-1", "StartSession", "", NULL},
        {PLUGIN, answer, "eu-west-1", "StartSession", "", "", "", NULL},
        {PLUGIN, answer, "eu-west-1", "StartSession", "", "{}", NULL},
        {PLUGIN, answer, "eu-west-1", "StartSession", "", "{\"Target\":null,\"Parameters\":null}", NULL},
        {PLUGIN, answer, "eu-west-1", "StartSession", "", "{\"Parameters\":{\"host\":[]}}", NULL},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error err = ERROR_INIT;
        if (parse(rows[i], &err) != 0)
            fail_msg("row %zu: %s", i, err.text);
        assert_string_equal(args.session.id, "me-0a");
        assert_int_equal(args.profile.len, 0);
        assert_false(args.has_endpoint || args.any_host);
        assert_int_equal(args.target[0] + args.document[0] + args.host[0] + args.port_number[0], 0);
    }
}

static void parameters_may_be_strings_and_names_in_any_case(void **state)
{
    static const char *const words[] = {
        PLUGIN,
        answer,
        "eu-west-1",
        "StartSession",
        "",
        "{\"target\":\"t\",\"documentName\":\"d\",\"parameters\":{\"Host\":\"db\",\"PortNumber\":\"1\"}}",
        "http://127.0.0.1:4566/x",
        NULL};
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(parse(words, &err), 0);
    assert_string_equal(args.target, "t");
    assert_string_equal(args.document, "d");
    assert_string_equal(args.host, "db");
    assert_string_equal(args.port_number, "1");
    assert_string_equal(args.local_port_number, "");
    assert_true(args.has_endpoint && args.any_host);
    assert_string_equal(args.endpoint.authority, "127.0.0.1:4566");
}

static void tells_what_is_no_session(void **state)
{
    static const char *const none[] = {PLUGIN, NULL};
    static const char *const version[] = {PLUGIN, "--version", NULL};
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(parse(none, &err), 0);
    assert_int_equal(args.kind, PLUGIN_ARGS_NONE);
    assert_int_equal(parse((const char *const[]){NULL}, &err), 0);
    assert_int_equal(args.kind, PLUGIN_ARGS_NONE);
    assert_int_equal(parse(version, &err), 0);
    assert_int_equal(args.kind, PLUGIN_ARGS_VERSION);
}

static bool is_empty(const void *data, size_t len)
{
    const char *bytes = data;
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

static void says_which_argument_is_wrong(void **state)
{
    static const struct {
        const char *words[8];
        int code;
        const char *text;
    } rows[] = {
        {{PLUGIN, "--help", NULL},
         ERROR_UNSUPPORTED,
         "unknown operation: the AWS CLI calls this program, with at least three arguments"},
        {{PLUGIN, answer, "eu-west-1", NULL}, ERROR_UNSUPPORTED, NULL},
        {{PLUGIN, answer, "eu-west-1", "StopSession", NULL},
         ERROR_UNSUPPORTED,
         "unknown operation \"StopSession\": only StartSession is supported"},
        {{PLUGIN, "{}", "eu-west-1", "StartSession", NULL},
         ERROR_INVALID,
         "argument 1, StartSession's answer: the answer holds no SessionId"},
        {{PLUGIN, "", "eu-west-1", "StartSession", NULL}, ERROR_INVALID, NULL},
        {{PLUGIN, answer, "eu-west-1", "StartSession", "", "what", NULL}, ERROR_INVALID, NULL},
        {{PLUGIN, answer, "eu-west-1", "StartSession", "", "{\"Target\":7}", NULL},
         ERROR_INVALID,
         "argument 5, StartSession's request: Target is not a string"},
        {{PLUGIN, answer, "eu-west-1", "StartSession", "", "{\"Parameters\":{\"host\":[7]}}", NULL},
         ERROR_INVALID,
         "argument 5, StartSession's request: host is not a string of up to 253 bytes"},
        {{PLUGIN, answer, "eu-west-1", "StartSession", "", "{\"Parameters\":{\"portNumber\":[\"123456\"]}}",
          NULL},
         ERROR_INVALID,
         "argument 5, StartSession's request: portNumber is not a string of up to 5 bytes"},
        {{PLUGIN, answer, "eu-west-1", "StartSession", "", "{}", "ssm", NULL},
         ERROR_INVALID,
         "argument 6, the endpoint: the URL does not begin with a scheme and \"://\""},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error err = ERROR_INIT;
        if (parse(rows[i].words, &err) != rows[i].code ||
            (rows[i].text != NULL && strcmp(err.text, rows[i].text) != 0))
            fail_msg("row %zu: %s", i, err.text);
        assert_true(is_empty(&args, sizeof args));
        assert_null(strstr(err.text, "AA+/="));
    }
}

/* ecsta names the endpoint of ECS, which knows no ResumeSession. */
static void an_endpoint_of_ecs_is_not_used(void **state)
{
    static const char *const words[] = {
        PLUGIN, answer, "eu-west-1", "StartSession", "", "{}", "https://ecs.eu-west-1.amazonaws.com", NULL};
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(parse(words, &err), 0);
    assert_false(args.has_endpoint || args.any_host);
}

static void the_arguments_say_what_kind_of_session_it_is(void **state)
{
    static const struct {
        const char *id;
        const char *document;
        const char *port;
        enum plugin_args_type type;
    } rows[] = {
        {"me-0a", "AWS-StartPortForwardingSession", "80", PLUGIN_ARGS_PORT},
        {"me-0a", "AWS-StartPortForwardingSessionToRemoteHost", "80", PLUGIN_ARGS_PORT},
        {"me-0a", "AWS-StartPortForwardingSessionToSocket", "", PLUGIN_ARGS_PORT},
        {"me-0a", "AWS-StartSSHSession", "", PLUGIN_ARGS_PORT},
        {"me-0a", "arn:aws:ssm:eu-west-1::document/AWS-StartSSHSession", "", PLUGIN_ARGS_PORT},
        {"me-0a", "SSM-SessionManagerRunShell", "", PLUGIN_ARGS_SHELL},
        {"me-0a", "AWS-StartInteractiveCommand", "", PLUGIN_ARGS_SHELL},
        {"me-0a", "AWS-StartNonInteractiveCommand", "80", PLUGIN_ARGS_SHELL},
        {"ecs-execute-command-0a", "", "", PLUGIN_ARGS_SHELL},
        {"me-0a", "", "", PLUGIN_ARGS_UNKNOWN},
        {"me-0a", "arn:", "", PLUGIN_ARGS_UNKNOWN},
        {"me-0a", "Ours", "", PLUGIN_ARGS_UNKNOWN},
        {"me-0a", "Ours", "80", PLUGIN_ARGS_PORT},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        memset(&args, 0, sizeof args);
        strcpy(args.session.id, rows[i].id);
        strcpy(args.document, rows[i].document);
        strcpy(args.port_number, rows[i].port);
        if (plugin_args_type(&args) != rows[i].type)
            fail_msg("row %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cli_starts_a_session),
        cmocka_unit_test(the_answer_may_be_in_a_variable),
        cmocka_unit_test(the_later_arguments_may_be_missing),
        cmocka_unit_test(parameters_may_be_strings_and_names_in_any_case),
        cmocka_unit_test(tells_what_is_no_session),
        cmocka_unit_test(says_which_argument_is_wrong),
        cmocka_unit_test(an_endpoint_of_ecs_is_not_used),
        cmocka_unit_test(the_arguments_say_what_kind_of_session_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
