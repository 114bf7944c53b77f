/*
 * scale_in_protection: holds ECS's scale-in protection of this task while sessions are open
 * (FUMIDAI_TASK_PROTECTION), through the ECS agent at $ECS_AGENT_URI. While it is held neither a lower
 * desired count nor a deployment stops this task. StopTask does, so it never keeps the task from ending
 * itself.
 *
 *            wanted: PUT enabled            not wanted: PUT disabled
 *     FREE ──────────────────────► HELD ──────────────────────────────► FREE
 *                                  │  ▲
 *                                  └──┘ half of its time is over: PUT enabled
 *
 * A PUT whose answer is lost leaves the state UNKNOWN, and what is wanted is asked for again. ECS's
 * protection runs out by itself within an hour, so a task that can't release it any more does not stay
 * protected for long.
 *
 * Nothing depends on it: a failure is a warning (the first in a row is logged, then every tenth), and is
 * tried again with back-off for as long as it is wanted. The role needs ecs:UpdateTaskProtection.
 */
#ifndef FUMIDAI_KEEPER_SCALE_IN_PROTECTION_H
#define FUMIDAI_KEEPER_SCALE_IN_PROTECTION_H

#include <stdbool.h>

#include "base/backoff.h"
#include "host/loop.h"
#include "keeper/worker_process.h"

enum {
    SCALE_IN_PROTECTION_LIFE_MS = 60 * 60 * 1000, /* as the worker asks for it; refreshed every 30 minutes */
    SCALE_IN_PROTECTION_CALL_MS = 10 * 1000       /* the endpoint is on the same host, and asks ECS */
};

enum scale_in_protection_state {
    SCALE_IN_PROTECTION_FREE,
    SCALE_IN_PROTECTION_HELD,
    SCALE_IN_PROTECTION_UNKNOWN
};

struct scale_in_protection {
    bool works; /* there is an agent to ask */
    bool wanted;
    enum scale_in_protection_state state;

    /* private */
    bool asked; /* what the call under way asks for */
    struct worker_process worker;
    struct loop_timer due; /* of the refresh, or of the next try */
    struct backoff retry;
};

/* Without $ECS_AGENT_URI there is a warning, and nothing more. */
void scale_in_protection_open(struct scale_in_protection *protection, struct worker_program *program,
                              char *const *env);
/* As often as one likes; calls are made when something changes. A zeroed structure does nothing. */
void scale_in_protection_want(struct scale_in_protection *protection, bool wanted);
void scale_in_protection_close(struct scale_in_protection *protection);

#endif
