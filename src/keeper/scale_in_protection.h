/*
 * protection: holds ECS's scale-in protection of this task while sessions are open (FUMIDAI_TASK_PROTECTION),
 * through the ECS agent at $ECS_AGENT_URI. While it is held neither a lower desired count nor a deployment
 * stops this task; StopTask does, so it never keeps the task from ending itself.
 *
 *            wanted: PUT enabled            not wanted: PUT disabled
 *     FREE ──────────────────────► HELD ──────────────────────────────► FREE
 *                                  │  ▲
 *                                  └──┘ half of its time is over: PUT enabled
 *
 * A PUT whose answer is lost leaves the state UNKNOWN, and what is wanted is asked for again. A protection
 * runs out by itself after SCALE_IN_PROTECTION_MINUTES, so a task that can't release it any more does not
 * stay protected for long.
 *
 * Nothing depends on it: a failure is a warning (each row of failures is told at its start, then every
 * tenth), and is tried again with back-off for as long as it is wanted. The role needs
 * ecs:UpdateTaskProtection.
 */
#ifndef FUMIDAI_KEEPER_SCALE_IN_PROTECTION_H
#define FUMIDAI_KEEPER_SCALE_IN_PROTECTION_H

#include <stdbool.h>

#include "aws/ecs.h"
#include "base/backoff.h"
#include "cloud/aws_call.h"
#include "host/loop.h"

enum {
    SCALE_IN_PROTECTION_MINUTES = 60, /* half of ECS's default; renewed every 30 minutes */
    SCALE_IN_PROTECTION_CALL_MS = 10 * 1000
};

enum scale_in_protection_state {
    SCALE_IN_PROTECTION_FREE,
    SCALE_IN_PROTECTION_HELD,
    SCALE_IN_PROTECTION_UNKNOWN
};

struct scale_in_protection {
    struct aws_client *client;
    bool works; /* there is an agent to ask */
    bool wanted;
    enum scale_in_protection_state state;

    /* private */
    bool asked; /* what the call under way asks for */
    struct endpoint endpoint;
    struct aws_call call;
    char body[64];
    struct ecs_protection answer;
    struct loop_timer due; /* of the renewal, or of the next try */
    struct backoff retry;
};

/* Without $ECS_AGENT_URI there is a warning, and nothing more. */
void scale_in_protection_open(struct scale_in_protection *protection, struct aws_client *client);
/* As often as one likes; calls are made when something changes. A zeroed structure does nothing. */
void scale_in_protection_want(struct scale_in_protection *protection, bool wanted);
void scale_in_protection_close(struct scale_in_protection *protection);

#endif
