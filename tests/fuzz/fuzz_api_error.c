/* Answers of every API: how a failure is called and what is made of it. Status, header and body out of one
 * input: status byte, length of the header, header, body. */
#include "aws/ecs.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct json_token tokens[512];

static void check_line(const char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char) *text < 0x20 || *text == 0x7F)
            abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int STATUSES[] = {200, 400, 403, 404, 429, 500, 503, 301};
    if (size < 2 || (size_t) data[1] + 2 > size)
        return 0;
    const char *text = (const char *) data + 2;
    struct api_answer answer = {.status = STATUSES[data[0] % 8],
                                .error_type = {text, data[1]},
                                .date = {text, data[1]},
                                .body = {text + data[1], size - 2 - data[1]}};
    const struct api_call call = {ENDPOINT_SSM, "StartSession", 200};
    struct api_failure failure;
    struct error err = ERROR_INIT;
    enum api_class class = api_classify(&call, &answer, &failure, &err);
    if ((class == API_OK) != (answer.status == 200) || (class == API_OK) != (err.code == ERROR_NONE))
        abort();
    if (class != API_OK) {
        check_line(failure.type);
        check_line(failure.message);
        if (class == API_CLOCK && failure.server_unix_ms < 0)
            abort();
    }

    struct ecs_task task;
    struct ecs_service service;
    struct ecs_protection protection;
    bool already;
    size_t count = sizeof tokens / sizeof tokens[0];
    ecs_classify_update_service(&answer, 0, data[0] & 8, &already, NULL, NULL);
    ecs_classify_stop_task(&answer, &already, NULL, NULL);
    ecs_read_describe_tasks(&task, &answer, tokens, count, NULL, NULL);
    ecs_read_describe_services(&service, &answer, tokens, count, NULL, NULL);
    ecs_read_protection(&protection, &answer, NULL);
    return 0;
}
