#include "aws/plugin_args.h"

#include <string.h>

#include "base/bytes.h"
#include "base/env.h"
#include "base/json.h"

enum { ANSWER = 1, REGION, OPERATION, PROFILE, REQUEST, ENDPOINT };

/* A request has three members; one for a command has its words as parameters. */
enum { TOKENS = 512 };

static int read_session(struct plugin_args *args, const char *argument, char *const *env, struct error *err)
{
    struct str text = str_from(argument);
    if (str_starts_with(text, PLUGIN_ARGS_VARIABLE)) {
        args->variable = argument;
        text = env_get(env, argument);
        if (text.len == 0)
            return error_set(err, ERROR_NOT_FOUND, "the environment variable %s is not set", argument);
    }
    return ssm_parse_session(&args->session, text, err);
}

/* The CLI gives a list of one string, other programs a string. */
static int read_parameter(const struct json *doc, int parameters, const char *name, char *out,
                          size_t capacity, struct error *err)
{
    int value = json_member(doc, parameters, name);
    if (json_type(doc, value) != JSON_ARRAY)
        return api_json_text(doc, parameters, name, out, capacity, err);
    if (json_count(doc, value) > 0 && !json_string(doc, json_element(doc, value, 0), out, capacity, NULL))
        return error_set(err, ERROR_INVALID, "%s is not a string of up to %zu bytes", name, capacity - 1);
    return 0;
}

static int read_request(struct plugin_args *args, struct str text, struct error *err)
{
    struct json_token tokens[TOKENS];
    struct json doc;
    int result = json_parse(&doc, text, tokens, TOKENS, err);
    if (result != 0)
        return result;
    int root = json_root(&doc);
    int parameters = json_member(&doc, root, "Parameters");
    result = api_json_text(&doc, root, "Target", args->target, sizeof args->target, err);
    if (result == 0)
        result = api_json_text(&doc, root, "DocumentName", args->document, sizeof args->document, err);
    if (result == 0)
        result = read_parameter(&doc, parameters, "host", args->host, sizeof args->host, err);
    if (result == 0)
        result =
            read_parameter(&doc, parameters, "portNumber", args->port_number, sizeof args->port_number, err);
    if (result == 0)
        result = read_parameter(&doc, parameters, "localPortNumber", args->local_port_number,
                                sizeof args->local_port_number, err);
    return result;
}

static int read_endpoint(struct plugin_args *args, struct str url, struct error *err)
{
    int result = endpoint_from_url(&args->endpoint, url, err);
    struct str host = str_from(args->endpoint.host);
    args->has_endpoint = result == 0 && !endpoint_is_aws_host(ENDPOINT_ECS, args->region, host);
    args->any_host = args->has_endpoint && !endpoint_is_aws_host(ENDPOINT_SSM, args->region, host);
    return result;
}

static int read_all(struct plugin_args *args, int argc, char *const *argv, char *const *env, int *at,
                    struct error *err)
{
    int result = read_session(args, argv[ANSWER], env, err);
    args->region = str_from(argv[REGION]);
    if (argc > PROFILE)
        args->profile = str_from(argv[PROFILE]);
    if (result == 0 && argc > REQUEST && argv[REQUEST][0] != '\0') {
        *at = REQUEST;
        result = read_request(args, str_from(argv[REQUEST]), err);
    }
    if (result == 0 && argc > ENDPOINT && argv[ENDPOINT][0] != '\0') {
        *at = ENDPOINT;
        result = read_endpoint(args, str_from(argv[ENDPOINT]), err);
    }
    return result;
}

int plugin_args_parse(struct plugin_args *args, int argc, char *const *argv, char *const *env,
                      struct error *err)
{
    static const char *const names[] = {[ANSWER] = "StartSession's answer",
                                        [REQUEST] = "StartSession's request",
                                        [ENDPOINT] = "the endpoint"};
    int at = ANSWER;
    memset(args, 0, sizeof *args);
    if (argc <= 1)
        return 0;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        args->kind = PLUGIN_ARGS_VERSION;
        return 0;
    }
    if (argc <= OPERATION)
        return error_set(err, ERROR_UNSUPPORTED,
                         "unknown operation: the AWS CLI calls this program, with at "
                         "least three arguments");
    if (strcmp(argv[OPERATION], "StartSession") != 0)
        return error_set(err, ERROR_UNSUPPORTED, "unknown operation \"%s\": only StartSession is supported",
                         argv[OPERATION]);
    args->kind = PLUGIN_ARGS_SESSION;
    int result = read_all(args, argc, argv, env, &at, err);
    if (result != 0) {
        bytes_wipe(args, sizeof *args);
        error_prefix(err, "argument %d, %s: ", at, names[at]);
    }
    return result;
}

static bool is_one_of(struct str name, const char *const *names)
{
    while (*names != NULL && !str_equal_text(name, *names))
        names++;
    return *names != NULL;
}

enum plugin_args_type plugin_args_type(const struct plugin_args *args)
{
    static const char *const ports[] = {SSM_DOCUMENT_TASK, SSM_DOCUMENT_HOST, SSM_DOCUMENT_SOCKET,
                                        "AWS-StartSSHSession", NULL};
    static const char *const shells[] = {"SSM-SessionManagerRunShell", "AWS-StartInteractiveCommand",
                                         "AWS-StartNonInteractiveCommand",
                                         "AmazonECS-ExecuteInteractiveCommand", NULL};
    struct str name = str_from(args->document);
    struct str path;
    if (str_starts_with(name, "arn:"))
        str_cut_last(name, '/', &path, &name);
    if (str_starts_with(str_from(args->session.id), "ecs-execute-command-") || is_one_of(name, shells))
        return PLUGIN_ARGS_SHELL;
    if (is_one_of(name, ports) || args->port_number[0] != '\0')
        return PLUGIN_ARGS_PORT;
    return PLUGIN_ARGS_UNKNOWN;
}
