/* GitHub's identity token and EC2's metadata service: their answers; the first byte chooses the status. */
#include "aws/github_token.h"
#include "aws/instance_metadata.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int STATUSES[] = {200, 200, 200, 404, 500};
    char token[256], line[INSTANCE_METADATA_TOKEN_SIZE];
    struct error err = ERROR_INIT;
    if (size == 0)
        return 0;
    struct api_answer answer = {.status = STATUSES[data[0] % (sizeof STATUSES / sizeof STATUSES[0])],
                                .body = {(const char *) data + 1, size - 1}};
    int result = github_token_read_answer(&answer, token, sizeof token, &err);
    if ((result == 0) != (token[0] != '\0') || result != (int) err.code)
        abort();
    err = (struct error) ERROR_INIT;
    result = instance_metadata_read_line(&answer, line, sizeof line, &err);
    if ((result == 0) != (line[0] != '\0') || result != (int) err.code || strchr(line, '\n') != NULL)
        abort();
    return 0;
}
