/*
 * client_task: the ECS task that sessions are opened to: found by id, service or family, and a service at 0
 * is started.
 *
 *     find ──► by id ─────────────────────────► DescribeTasks ── one runs ──► DONE: `target`
 *          └─► ListTasks ── there are some ───────┘  └── one is on its way ──► SOON
 *                  └── none ──► DescribeServices ──► NONE, with its latest event
 *     start ─► DescribeServices ── desired count 0 ──► UpdateService to 1 ──► DONE
 *                  └── more: another user was faster ──► DONE. A count is never lowered.
 *
 * Of several tasks that run the newest is taken. One question at a time; `done` is called from the loop.
 */
#ifndef FUMIDAI_CLIENT_TASK_H
#define FUMIDAI_CLIENT_TASK_H

#include "aws/ecs_client.h"
#include "cloud/aws_call.h"
#include "lifecycle/forward.h"
#include "settings/forward_settings.h"

enum {
    CLIENT_TASK_CALL_MS = 20 * 1000, /* one call, its credentials included */
    CLIENT_TASK_TEXT_SIZE = 600      /* a reason of ECS's and what is around it */
};

struct client_task {
    /* the result */
    char target[METADATA_TARGET_SIZE]; /* "ecs:CLUSTER_TASK_RUNTIME" */
    struct ecs_client_task found;
    char text[CLIENT_TASK_TEXT_SIZE]; /* unless DONE: why; SOON: how far it is */

    /* private */
    const struct forward_settings *config;
    void (*done)(struct client_task *task, enum forward_result result);
    struct aws_call call;
    char body_memory[ECS_BODY_SIZE];
    struct ecs_task_ids ids;
    size_t described; /* of ids */
    struct ecs_client_service service;
    int64_t newest_ms; /* of the stopped task that `text` is about */
    bool starting;
    bool is_found;
    bool some_on_the_way;
    bool lists_stopped; /* for the reason why no task is there */
};

void client_task_init(struct client_task *task, struct aws_client *client,
                      const struct forward_settings *config,
                      void (*done)(struct client_task *task, enum forward_result result));
void client_task_find(struct client_task *task);
void client_task_start(struct client_task *task);
void client_task_cancel(struct client_task *task);

/* What a call's end means for the engine. */
enum forward_result client_result(enum api_class class, enum error_code code);

#endif
