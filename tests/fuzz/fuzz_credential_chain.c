/* The plan for a profile: the text is cut at the first NUL into config and credentials. */
#include "aws/credential_chain.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct credential_chain chain;
    char region[] = "AWS_ENDPOINT_URL_ECS=http://localhost";
    char *env[] = {region, NULL}, *both[64];
    struct profile_files files = {{(const char *) data, size}, {NULL, 0}};
    struct error err = ERROR_INIT;
    str_cut((struct str){(const char *) data, size}, '\0', &files.config, &files.credentials);
    if (credential_chain_plan(&chain, env, &files, NULL, &err) != 0) {
        if (err.text[0] == '\0' || chain.step_count != 0)
            abort();
        return 0;
    }
    if (chain.step_count == 0 || chain.step_count > CHAIN_STEPS_MAX || chain.steps[0].source == CHAIN_ROLE)
        abort();
    for (size_t i = 1; i < chain.step_count; i++)
        if (chain.steps[i].source != CHAIN_ROLE || chain.steps[i].role.arn.len == 0)
            abort();
    if (!credential_chain_environment(&chain, env, both, 64))
        abort();
    credential_chain_wipe(&chain);
    return 0;
}
