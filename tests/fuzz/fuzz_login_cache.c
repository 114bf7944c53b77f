/* What `aws login` leaves in a file. */
#include "aws/login_cache.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct credentials keys;
    struct error err = ERROR_INIT;
    int result = login_cache_read(&keys, (struct str){(const char *) data, size}, 1000, &err);
    if ((result == 0) != (keys.session_token[0] != '\0') || (result == 0) != (err.code == ERROR_NONE))
        abort();
    return 0;
}
