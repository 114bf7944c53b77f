/*
 * health: whether this task is fit to serve, as ECS's container health check asks it:
 * "healthCheck": {"command": ["CMD", "/fumidai", "health"]}.
 *
 *     fumidai health                                keeper (PID 1)
 *       connect ────────────────────────────────────► accept, gather facts, check
 *       one packet, a line of JSON ◄───────────────── send, close
 *       who sent it? print it, exit 0 or 1
 *
 * A task is healthy when the keeper answers and, if it relays, the relay was heard of within
 * HEALTH_SILENCE_MS and its control channel is open or has been down for less than FUMIDAI_CHANNEL_LIMIT. ECS
 * replaces an unhealthy task, which costs its users their sessions. Sessions go on through an outage of the
 * control channel, so the limit does not count while any are open. The keeper replaces a relay that hangs or
 * crashes, and the task is unhealthy for the few seconds that this takes; ECS's own retries (3, 30 s apart)
 * tolerate that, and notice a relay that fails for ever.
 *
 * The socket is an abstract unix socket, since the root file system is read-only. Abstract names belong to
 * the network namespace, which all containers of a task share, so the name ends in what only this container
 * has: the last element of ECS_CONTAINER_METADATA_URI_V4's path. Another container may still take that name
 * first. So the health check believes only a process that it can see, one of its own process namespace.
 * Outside ECS there is no such variable, and nothing to ask.
 *
 * A health check can't hold up the keeper: nothing is read from it, the answer fits the empty socket whole or
 * is dropped, no state is kept, and after at most HEALTH_ANSWERS_MAX answers the keeper turns to other work
 * for HEALTH_REST_MS.
 */
#ifndef FUMIDAI_KEEPER_HEALTH_H
#define FUMIDAI_KEEPER_HEALTH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/error.h"
#include "host/loop.h"

enum {
    HEALTH_SILENCE_MS =
        2500, /* two reports of the relay missed (IPC_STATUS_MS), and half a second of a slow machine */
    HEALTH_ANSWERS_MAX = 4,   /* at once: anybody in the container may ask, as fast as they like, ... */
    HEALTH_REST_MS = 50,      /* ... and then the keeper does not listen for so long */
    HEALTH_TIMEOUT_MS = 3000, /* of the health check's command; ECS's default is 5 s */
    HEALTH_LINE_SIZE = 4096   /* holds every answer: 255 bytes of trouble, each escaped in six, twice over */
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
    struct loop *loop;
    void (*gather)(struct health *health, struct health_facts *facts);
    void *owner;

    /* private */
    struct loop_watch watch; /* owns the listening socket */
    struct loop_timer rest;
};

/* Fails only in the log: a task without a health endpoint serves all the same. */
void health_open(struct health *health, struct loop *loop, char *const *env,
                 void (*gather)(struct health *health, struct health_facts *facts), void *owner);
void health_close(struct health *health);

/* Asks the keeper of this container. 0 when it says healthy, ERROR_UNAVAILABLE when it says that it is not:
 * `line` is what it said. Anything else is the reason why there is no answer to go by, and `line` is
 * empty. */
int health_ask(char *const *env, char line[HEALTH_LINE_SIZE], struct error *err);
/* The command: prints the line (or one with the reason why there is none),
 * returns the exit status, 0 or 1. */
int health_run(char *const *env);

#endif
