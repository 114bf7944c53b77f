/* The answers of ecs:ListTasks, DescribeTasks and DescribeServices as a client reads them. */
#include "aws/ecs_client.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct json_token tokens[1024];

static void read_tasks(const struct api_answer *answer)
{
    static struct ecs_client_task task;
    static struct ecs_client_container container;
    struct ecs_task_reader reader;
    struct error err = ERROR_INIT;
    char target[METADATA_TARGET_SIZE];
    int more, inner;
    size_t left = answer->body.len + 1; /* each step takes an element, which has a byte */
    if (ecs_client_read_describe_tasks(&reader, answer, tokens, 1024, NULL, &err) != API_OK &&
        err.text[0] == '\0')
        abort();
    while ((more = ecs_client_next_task(&reader, &task, &err)) != 0 && left-- > 0) {
        if (more == 1 && task.id[0] == '\0')
            abort();
        while ((inner = ecs_client_next_container(&reader, &container, &err)) != 0 && left-- > 0)
            ecs_client_format_target(target, &task, &container, NULL);
    }
    if (more != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct ecs_task_ids ids;
    static struct ecs_client_service service;
    static char memory[ECS_BODY_SIZE];
    struct api_answer answer = {.status = 200, .body = {(const char *) data, size}};
    struct writer w = writer_of(memory, sizeof memory);
    ecs_client_read_list_tasks(&ids, &answer, tokens, 1024, NULL, NULL);
    ecs_client_write_describe_tasks(&w, STR_LITERAL("c"), &ids, 0, ECS_TASKS_MAX);
    if (ids.count > ECS_TASKS_MAX || w.failed)
        abort();
    read_tasks(&answer);
    if (ecs_client_read_describe_services(&service, &answer, tokens, 1024, NULL, NULL) == API_OK &&
        service.event_count > ECS_EVENTS_MAX)
        abort();
    return 0;
}
