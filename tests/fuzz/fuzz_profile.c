/* Both shared files: the text is cut at the first NUL into config and credentials. */
#include "aws/profile.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const SECTIONS[] = {"default", "p", "sso-session s", "services s"};
    static const char *const KEYS[] = {"region", "role_arn", "endpoint_url", "credential_process"};
    static char memory[4096];
    struct profile_files files = {{(const char *) data, size}, {NULL, 0}};
    str_cut((struct str){(const char *) data, size}, '\0', &files.config, &files.credentials);
    for (size_t s = 0; s < sizeof SECTIONS / sizeof SECTIONS[0]; s++) {
        struct str section = str_from(SECTIONS[s]);
        bool exists = profile_has_section(&files, section);
        bool half = profile_has_half_keys(&files, section);
        for (size_t k = 0; k < sizeof KEYS / sizeof KEYS[0]; k++) {
            struct writer out = writer_of(memory, sizeof memory);
            struct str value, nested;
            bool found = profile_get(&files, section, KEYS[k], &out, &value);
            bool has_nested = profile_get_nested(&files, section, KEYS[k], "endpoint_url", &out, &nested);
            if ((found || has_nested || half) && !exists)
                abort();
            if (!out.failed && out.len != value.len + nested.len)
                abort();
        }
    }
    return 0;
}
