/* Both documents of the task metadata endpoint, and the target id that is made of them. */
#include "aws/metadata.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct json_token tokens[512];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct metadata metadata;
    struct api_answer answer = {.status = 200, .body = {(const char *) data, size}};
    struct error err = ERROR_INIT;
    char target[METADATA_TARGET_SIZE];
    memset(&metadata, 0, sizeof metadata);
    int container =
        metadata_read_container(&metadata, &answer, tokens, sizeof tokens / sizeof tokens[0], &err);
    int task = metadata_read_task(&metadata, &answer, tokens, sizeof tokens / sizeof tokens[0], &err);
    if ((container == 0 && metadata.runtime_id[0] == '\0') ||
        (task == 0 && (metadata.cluster[0] == '\0' || metadata.task_arn[0] == '\0')))
        abort();
    if ((container != 0 || task != 0) && err.text[0] == '\0')
        abort();
    if (metadata_format_target(&metadata, target, &err) == 0) {
        if (strncmp(target, "ecs:", 4) != 0 || strlen(target) >= sizeof target)
            abort();
    } else if (target[0] != '\0') {
        abort();
    }
    return 0;
}
