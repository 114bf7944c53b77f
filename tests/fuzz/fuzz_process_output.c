/* What a credential_process says. */
#include "aws/credentials.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct credentials keys;
    struct error err = ERROR_INIT;
    int result = credentials_read_process(&keys, (struct str){(const char *) data, size}, 1, &err);
    if ((result == 0) != (keys.access_key_id[0] != '\0' && keys.secret_access_key[0] != '\0'))
        abort();
    if ((result == 0) != (err.code == ERROR_NONE))
        abort();
    return 0;
}
