/*
 * health_socket: where `fumidai health` asks whether this program is fit to serve: the task's keeper, or a
 * `fumidai forward`.
 *
 *     fumidai health                                the one that is asked
 *       connect ────────────────────────────────────► accept, write a line of JSON
 *       one packet ◄───────────────────────────────── send, close
 *       who sent it? print it, exit 0 or 1
 *
 * It is an abstract unix socket, since the root file system is read-only. Abstract names belong to the
 * network namespace, which all containers of a task share, so the name ends in what only this container has:
 * in ECS the last element of ECS_CONTAINER_METADATA_URI_V4's path, elsewhere its process namespace. Another
 * container may still take that name first. So the health check believes only a process that it can see, one
 * of its own process namespace. Where several share it (a laptop), the first one answers.
 *
 * A health check can't hold up the one that is asked: nothing is read from it, the answer fits the empty
 * socket whole or is dropped, no state is kept, and after at most HEALTH_ANSWERS_MAX answers there is other
 * work for HEALTH_REST_MS.
 */
#ifndef FUMIDAI_HOST_HEALTH_SOCKET_H
#define FUMIDAI_HOST_HEALTH_SOCKET_H

#include "base/bytes.h"
#include "base/error.h"
#include "host/loop.h"

enum {
    HEALTH_ANSWERS_MAX = 4,   /* at once: anybody in the container may ask, as fast as they like, ... */
    HEALTH_REST_MS = 50,      /* ... and then nobody listens for so long */
    HEALTH_TIMEOUT_MS = 3000, /* of the health check's command; ECS's default is 5 s */
    HEALTH_LINE_SIZE = 4096   /* holds every answer: 255 bytes of trouble, each escaped in six, twice over */
};

enum health_place {
    HEALTH_IN_ECS,  /* outside ECS nobody asks a task */
    HEALTH_ANYWHERE /* outside ECS by the process namespace */
};

struct health_socket {
    struct loop *loop;
    /* The answer, one line of JSON without its end; begins with {"healthy":true, or {"healthy":false, */
    void (*write)(struct health_socket *socket, struct writer *line);

    /* private */
    struct loop_watch watch; /* owns the listening socket */
    struct loop_timer rest;
};

/* Fails only in the log: a program without a health endpoint serves all the same. */
void health_socket_open(struct health_socket *health, struct loop *loop, char *const *env,
                        enum health_place place,
                        void (*write)(struct health_socket *socket, struct writer *line));
void health_socket_close(struct health_socket *health); /* also one that was never opened */

/* Asks the fumidai of this container. 0 when it says healthy, ERROR_UNAVAILABLE when it says that it is not:
 * `line` is what it said. Anything else is the reason why there is no answer to go by, and `line` is
 * empty. */
int health_ask(char *const *env, char line[HEALTH_LINE_SIZE], struct error *err);
/* The command: prints the line (or one with the reason why there is none),
 * returns the exit status, 0 or 1. */
int health_run(char *const *env);

#endif
