/*
 * ecs_shutdown: the two steps by which a task ends itself in ECS, each one attempt (terminator.h decides
 * when, how often, and in which order). Every call is made by a worker process (worker_process.h).
 *
 *     scale in:   (DescribeTasks: which service? to stop already?) ─► DescribeServices
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
 * What idleness has not decided may be ECS's own doing: an image's STOPSIGNAL ends the wrapped command, and a
 * deployment would be followed by a service at 0. So a forced scale-in asks first whether this task is to
 * stop. If it is (and not because this task asked for it), `stopping` is set, and nothing else is called.
 *
 * A DAEMON service has no count to set, and ECS puts a new task in the place of one that stops: it stays up
 * (IN_USE), unless the shutdown is forced, which then goes on without a scale-in.
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
    ECS_SHUTDOWN_DESCRIBE,
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
    bool stopping; /* ECS has been asked, and is stopping this task */

    /* private */
    struct worker_process worker;
    enum ecs_shutdown_step step;
    bool busy;                 /* with an action; else it only asks about the task */
    uint32_t target_count;     /* for UpdateService */
    uint32_t tasks;            /* the service's desired count as it was found */
    int64_t updated_within_ms; /* of the action */
    bool stepped_aside;
    bool has_stopped_task; /* so desiredStatus says no more about others */
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

/* Asks ECS about this task, between actions: at the start, when the metadata does not name its service, so
 * that a missing permission shows in the log early; and when a signal has come that may be the image's
 * STOPSIGNAL. Reports (FAILED) only when it has set `stopping`. */
void ecs_shutdown_describe(struct ecs_shutdown *shutdown, int64_t deadline_ms);

#endif
