/* STS's answers; the first byte chooses the status. */
#include "aws/sts.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int STATUSES[] = {200, 200, 200, 400, 403, 500};
    static struct credentials keys;
    struct api_failure failure;
    struct error err = ERROR_INIT;
    if (size == 0)
        return 0;
    struct api_answer answer = {.status = STATUSES[data[0] % (sizeof STATUSES / sizeof STATUSES[0])],
                                .body = {(const char *) data + 1, size - 1}};
    enum api_class class = sts_read_answer(&keys, (enum sts_action)(data[0] & 1), &answer, 1, &failure, &err);
    bool has_keys = keys.access_key_id[0] != '\0' && keys.session_token[0] != '\0';
    if ((class == API_OK) != has_keys || (class == API_OK) != (err.code == ERROR_NONE))
        abort();
    if (class == API_OK && keys.expires_unix_ms == INT64_MAX)
        abort();
    return 0;
}
