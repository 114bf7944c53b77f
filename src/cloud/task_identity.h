/*
 * task_identity: finds out which task this is, from the two documents of its metadata endpoint.
 *
 *     container document ─► task document ─► region ─► learned ─► (subnet not told: container document
 *            └────────────────────────┴── failure ─► back-off ─► again, for ever            ─► learned)
 *
 * The metadata endpoint may come up after the container, so nothing here gives up. Outside ECS (no
 * ECS_CONTAINER_METADATA_URI_V4) there is nothing to find out, and `learned` is never called.
 */
#ifndef FUMIDAI_CLOUD_TASK_IDENTITY_H
#define FUMIDAI_CLOUD_TASK_IDENTITY_H

#include <stdbool.h>

#include "aws/metadata.h"
#include "base/backoff.h"
#include "cloud/aws_call.h"
#include "host/loop.h"

enum {
    TASK_IDENTITY_CALL_MS = 5 * 1000, /* the endpoint is on the same host */
    TASK_IDENTITY_IPV4_TRIES = 5      /* answers with an IPv6 subnet only: then it has no other */
};

struct task_identity {
    struct aws_client *client;
    struct endpoint endpoint;
    struct metadata metadata;
    /* Once, and again after each further answer while not all of the subnet is known. */
    void (*learned)(struct task_identity *identity);
    void *owner;

    /* private */
    struct aws_call call;
    bool has_container;
    bool is_learned;
    unsigned subnet_tries;
    struct backoff retry;
    struct loop_timer again;
    unsigned failures_logged;
};

void task_identity_open(struct task_identity *identity, struct aws_client *client,
                        void (*learned)(struct task_identity *identity), void *owner);
void task_identity_close(struct task_identity *identity);

#endif
