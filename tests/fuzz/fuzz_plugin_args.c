/* session-manager-plugin's argv: up to six arguments, each on a line. */
#include "aws/plugin_args.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct plugin_args args;
    char *env[] = {"AWS_SSM_START_SESSION_RESPONSE=x", NULL};
    char *argv[8] = {"session-manager-plugin"};
    int argc = 1;
    struct error err = ERROR_INIT;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    for (char *at = text; at != NULL && argc < 7; argc++) {
        argv[argc] = at;
        at = strchr(at, '\n');
        if (at != NULL)
            *at++ = '\0';
    }
    int result = plugin_args_parse(&args, argc, argv, env, &err);
    if ((result == 0) == (err.text[0] != '\0'))
        abort();
    if (result == 0 && args.kind == PLUGIN_ARGS_SESSION && args.session.token[0] == '\0')
        abort();
    if (result != 0 && (args.kind != PLUGIN_ARGS_NONE || args.session.token[0] != '\0'))
        abort();
    free(text);
    return 0;
}
