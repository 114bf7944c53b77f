/*
 * plugin_args: how programs call session-manager-plugin (the AWS CLI, ecsta, ecspresso; protocol.md, section
 * 11). argv, behind the program's name:
 *
 *     1  StartSession's answer as JSON, or the name of an environment variable that holds it
 *        (AWS_SSM_START_SESSION_RESPONSE...)
 *     2  region          3  "StartSession"          4  profile, may be empty
 *     5  StartSession's request as JSON             6  the SSM endpoint's URL
 *
 * From 4 on they may be missing. ECS ExecuteCommand's callers pass the same, with a Target only in 5. So does
 * ecsta for its port forwards, and as 6 it gives the endpoint of ECS, which knows no sessions: that one is
 * not used.
 */
#ifndef FUMIDAI_AWS_PLUGIN_ARGS_H
#define FUMIDAI_AWS_PLUGIN_ARGS_H

#include <stdbool.h>

#include "aws/endpoint.h"
#include "aws/metadata.h"
#include "aws/ssm.h"
#include "base/error.h"
#include "base/str.h"

enum {
    PLUGIN_ARGS_HOST_SIZE = 254, /* the longest name DNS can hold, and the terminator */
    PLUGIN_ARGS_PORT_SIZE = 6    /* "65535" */
};

/* What the arguments say about the session. */
enum plugin_args_type {
    PLUGIN_ARGS_PORT,
    PLUGIN_ARGS_SHELL,  /* or a command */
    PLUGIN_ARGS_UNKNOWN /* a document of the user's, or none was named: the agent will tell */
};

#define PLUGIN_ARGS_VARIABLE "AWS_SSM_START_SESSION_RESPONSE"

enum plugin_args_kind {
    PLUGIN_ARGS_NONE,    /* called without arguments: says that it is installed */
    PLUGIN_ARGS_VERSION, /* --version */
    PLUGIN_ARGS_SESSION
};

struct plugin_args {
    enum plugin_args_kind kind;

    /* of a session; empty: not given */
    struct ssm_session session;
    const char *variable; /* that held the answer, and must be unset; null: none */
    struct str region;
    struct str profile;
    bool has_endpoint;
    struct endpoint endpoint;
    bool any_host; /* the endpoint is not AWS's own, so the StreamUrl need not be */
    char target[METADATA_TARGET_SIZE];
    char document[SSM_DOCUMENT_SIZE];
    char host[PLUGIN_ARGS_HOST_SIZE];
    char port_number[PLUGIN_ARGS_PORT_SIZE];
    char local_port_number[PLUGIN_ARGS_PORT_SIZE];
};

/* The views show argv. ERROR_UNSUPPORTED for another operation; ERROR_INVALID, ERROR_TOO_LARGE or
 * ERROR_NOT_FOUND (a variable that is not set), saying which argument. The token is a secret: wipe the whole
 * after use. */
int plugin_args_parse(struct plugin_args *args, int argc, char *const *argv, char *const *env,
                      struct error *err);

/* By the name of the document, an ARN included; for one of the user's, by whether it is given a port; and by
 * the session's id, which ECS ExecuteCommand begins in a way of its own. */
enum plugin_args_type plugin_args_type(const struct plugin_args *args);

#endif
