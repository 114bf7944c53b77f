/*
 * ecs_shutdown: the two steps by which a task ends itself in ECS, each one attempt (terminator.h decides
 * when, how often, and in which order). Every call is made by a worker process (worker_process.h).
 *
 *     scale in:   (DescribeTasks: which service?) ─► DescribeServices
 *                     ├─ desired 0 or 1 ─► UpdateService to 0
 *                     └─ more ───────────► StopTask of this task ─► UpdateService to one less
 *     stop task:  StopTask with the reason
 *
 * A service of several tasks: ECS chooses which task a lower count stops, and it might choose a busy
 * neighbour. So this task stops itself first and lowers the count at once; the scheduler then finds count and
 * tasks in agreement. SIGTERM, which this brings about, leaves time for the second call (the container's stop
 * timeout).
 *
 * A user who asks for a service that is up (a workflow's `scale --tasks=1`) changes nothing in it, and opens
 * a session some seconds later. If the task ended in between, the user would wait for a service at 0. That
 * UpdateService was called shows in the time at which the deployment was last updated; both that and "now"
 * are by the service's own clock. What comes between our check and our UpdateService is overwritten: ECS has
 * no conditional update.
 *
 * A role without ecs:DescribeServices (the image that this one replaces needed none) is not an obstacle: the
 * count is then set to 0 as that image did.
 */
#ifndef FUMIDAI_KEEPER_ECS_SHUTDOWN_H
#define FUMIDAI_KEEPER_ECS_SHUTDOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "keeper/own_task.h"
#include "keeper/worker_process.h"
#include "lifecycle/terminator.h"

enum ecs_shutdown_step {
    ECS_SHUTDOWN_FIND_SERVICE,
    ECS_SHUTDOWN_COUNT_TASKS,
    ECS_SHUTDOWN_STOP_BEFORE_COUNT, /* this task, before a count above 0 is set */
    ECS_SHUTDOWN_SET_COUNT,
    ECS_SHUTDOWN_STOP_TASK,
    ECS_SHUTDOWN_STEP_COUNT
};

struct ecs_shutdown {
    struct own_task *task;
    void (*report)(struct ecs_shutdown *shutdown, enum terminator_result result);
    void *owner;

    /* private */
    struct worker_process worker;
    enum ecs_shutdown_step step;
    bool busy;                 /* with an action; else it only asks for the service's name */
    uint32_t target_count;     /* for UpdateService */
    uint32_t tasks;            /* the service's desired count as it was found */
    int64_t updated_within_ms; /* of the action */
    bool stepped_aside;
    int64_t deadline_ms;
    char reason[IPC_TEXT_SIZE];
};

void ecs_shutdown_open(struct ecs_shutdown *shutdown, struct own_task *task,
                       void (*report)(struct ecs_shutdown *shutdown, enum terminator_result result),
                       void *owner);
void ecs_shutdown_close(struct ecs_shutdown *shutdown);

/* Each reports once, from the loop; one at a time, a new one replaces what is under way. */
void ecs_shutdown_scale_in(struct ecs_shutdown *shutdown, const struct terminator_action *action);
void ecs_shutdown_stop_task(struct ecs_shutdown *shutdown, const char *reason, int64_t deadline_ms);

/* For a task whose metadata does not name its service: asks ECS at the start, so that a missing permission
 * shows in the log early. Reports nothing. */
void ecs_shutdown_find_service(struct ecs_shutdown *shutdown, int64_t deadline_ms);

#endif
