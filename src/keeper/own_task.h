/*
 * own_task: which task this is and which service it belongs to.
 *
 *     task's metadata ─► known (cluster, task; the service, if it says so or the settings do)
 *            └── failure ─► back-off ─► again, for ever
 *
 * The metadata endpoint may come up after the container, so nothing here gives up. Where neither metadata nor
 * settings name the service, ecs_shutdown asks ECS. Outside ECS (no ECS_CONTAINER_METADATA_URI_V4) there is
 * nothing to find out: the task does not exist.
 */
#ifndef FUMIDAI_KEEPER_OWN_TASK_H
#define FUMIDAI_KEEPER_OWN_TASK_H

#include <stdbool.h>

#include "base/backoff.h"
#include "host/loop.h"
#include "keeper/worker_process.h"
#include "wire/ipc.h"

enum { OWN_TASK_CALL_MS = 5 * 1000 /* the endpoint is on the same host */ };

enum own_task_service { OWN_TASK_SERVICE_UNKNOWN, OWN_TASK_SERVICE_NONE, OWN_TASK_SERVICE_NAMED };

struct own_task {
    bool exists; /* this is a task of ECS */
    bool known;  /* cluster and ARN have been read */
    char cluster[IPC_ARN_SIZE];
    char arn[IPC_ARN_SIZE];
    enum own_task_service service;
    bool service_is_certain; /* AWS named it, not a person's setting */
    char service_name[IPC_NAME_SIZE];
    void (*learned)(struct own_task *task); /* once, when known */
    void *owner;

    /* private */
    struct worker_process worker;
    struct backoff retry;
    struct loop_timer again;
    unsigned failures_logged;
};

/* `service_name` is the setting, or empty. */
void own_task_open(struct own_task *task, struct worker_program *program, char *const *env,
                   const char *service_name, void (*learned)(struct own_task *task), void *owner);
void own_task_close(struct own_task *task);

#endif
