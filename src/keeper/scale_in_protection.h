/*
 * protection: holds ECS's scale-in protection of this task while sessions are open (FUMIDAI_TASK_PROTECTION), through the
 * ECS agent at $ECS_AGENT_URI. While it is held neither a lower desired count nor a deployment stops this task; StopTask
 * does, so it never keeps the task from ending itself.
 *
 *            wanted: PUT enabled            not wanted: PUT disabled
 *     FREE ──────────────────────► HELD ──────────────────────────────► FREE
 *                                  │  ▲
 *                                  └──┘ half of its time is over: PUT enabled
 *
 * A PUT whose answer is lost leaves the state UNKNOWN, and what is wanted is asked for again. A protection runs out by itself
 * after PROTECTION_MINUTES, so a task that can't release it any more does not stay protected for long.
 *
 * Nothing depends on it: a failure is a warning (each row of failures is told at its start, then every tenth), and is
 * tried again with back-off for as long as it is wanted. The role needs ecs:UpdateTaskProtection.
 */
#ifndef FUMIDAI_KEEPER_SCALE_IN_PROTECTION_H
#define FUMIDAI_KEEPER_SCALE_IN_PROTECTION_H

#include <stdbool.h>

#include "aws/ecs.h"
#include "base/backoff.h"
#include "cloud/aws_call.h"
#include "host/loop.h"

enum {
    PROTECTION_MINUTES = 60, /* half of ECS's default; renewed every 30 minutes */
    PROTECTION_CALL_MS = 10 * 1000
};

enum protection_state { PROTECTION_FREE, PROTECTION_HELD, PROTECTION_UNKNOWN };

struct protection {
    struct aws_client *client;
    bool works; /* there is an agent to ask */
    bool wanted;
    enum protection_state state;

    /* private */
    bool asked; /* what the call under way asks for */
    struct endpoint endpoint;
    struct aws_call call;
    char body[64];
    struct ecs_protection answer;
    struct loop_timer due; /* of the renewal, or of the next try */
    struct retry retry;
};

/* Without $ECS_AGENT_URI there is a warning, and nothing more. */
void protection_open(struct protection *protection, struct aws_client *client);
/* As often as one likes; calls are made when something changes. A zeroed structure does nothing. */
void protection_want(struct protection *protection, bool wanted);
void protection_close(struct protection *protection);

#endif
