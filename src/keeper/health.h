/*
 * health: whether this task is fit to serve, as ECS's container health check asks it:
 * "healthCheck": {"command": ["CMD", "/fumidai", "health"]}. How it is asked: host/health_socket.h.
 *
 * A task is healthy when the keeper answers and, if it relays, the relay was heard of within
 * HEALTH_SILENCE_MS and its control channel is open or has been down for less than FUMIDAI_CHANNEL_LIMIT. ECS
 * replaces an unhealthy task, which costs its users their sessions. Sessions go on through an outage of the
 * control channel, so the limit does not count while any are open. The keeper replaces a relay that hangs or
 * crashes, and the task is unhealthy for the few seconds that this takes; ECS's own retries (3, 30 s apart)
 * tolerate that, and notice a relay that fails for ever. Outside ECS there is nothing to ask.
 */
#ifndef FUMIDAI_KEEPER_HEALTH_H
#define FUMIDAI_KEEPER_HEALTH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/error.h"
#include "host/health_socket.h"
#include "host/loop.h"

enum {
    HEALTH_SILENCE_MS =
        2500 /* two reports of the relay missed (IPC_STATUS_MS), and half a second of a slow machine */
};

/* What the keeper knows. Durations, so that the check needs no clock. */
struct health_facts {
    const char *state; /* the terminator's */
    uint32_t sessions;
    bool relays;          /* there is to be a relay process; all below is about it */
    bool serves_sessions; /* not only fixed relays: it has a control channel */
    bool relay_is_up;
    pid_t relay_pid;
    uint64_t relay_starts;
    int64_t relay_age_ms;
    int64_t relay_silent_ms; /* since it was heard of or started */
    bool channel_is_open;
    int64_t channel_for_ms; /* open, or not open over all relays, for so long */
    int64_t channel_limit_ms;
    const char *channel_trouble; /* why it is not open */
};

/* 0, or ERROR_UNAVAILABLE with what is wrong. */
int health_check(const struct health_facts *facts, struct error *why);
/* The answer, one line of JSON without its end. */
void health_write(struct writer *out, const struct health_facts *facts);

/* The keeper's end. */
struct health {
    struct health_socket socket;
    void (*gather)(struct health *health, struct health_facts *facts);
    void *owner;
};

/* Fails only in the log: a task without a health endpoint serves all the same. */
void health_open(struct health *health, struct loop *loop, char *const *env,
                 void (*gather)(struct health *health, struct health_facts *facts), void *owner);
void health_close(struct health *health);

#endif
