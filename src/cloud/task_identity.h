/*
 * identity: finds out who this task is: the two metadata documents, then, if asked, the name of its service.
 *
 *     container document ─► task document ─► region ─► service (setting, metadata, else DescribeTasks)
 *            └──────────────────┴── failure ─► back-off ─► again, for ever           ─► known
 *
 * The metadata endpoint may come up after the container, so nothing here gives up. Outside ECS (no
 * ECS_CONTAINER_METADATA_URI_V4) there is nothing to find out, and identity_exists() says so.
 */
#ifndef FUMIDAI_CLOUD_TASK_IDENTITY_H
#define FUMIDAI_CLOUD_TASK_IDENTITY_H

#include <stdbool.h>

#include "aws/ecs.h"
#include "aws/metadata.h"
#include "base/backoff.h"
#include "cloud/aws_call.h"
#include "host/loop.h"

enum { TASK_IDENTITY_CALL_MS = 5 * 1000 /* the endpoint is on the same host */ };

enum task_identity_service {
    TASK_IDENTITY_SERVICE_UNKNOWN,
    TASK_IDENTITY_SERVICE_NONE,
    TASK_IDENTITY_SERVICE_NAMED
};

struct task_identity {
    struct aws_client *client;
    bool exists; /* there is a metadata endpoint */
    bool known;  /* both documents were read */
    struct endpoint endpoint;
    struct metadata metadata;
    enum task_identity_service service;
    bool service_is_certain; /* AWS named it, not a person's setting */
    char service_name[ECS_NAME_SIZE];
    void (*learned)(struct task_identity *identity); /* once, when known */
    void *owner;

    /* private */
    struct aws_call call;
    bool has_container;
    struct backoff retry;
    struct loop_timer again;
    unsigned failures_logged;
};

/* `service_name` is the setting, or empty. */
void task_identity_open(struct task_identity *identity, struct aws_client *client, const char *service_name,
                        void (*learned)(struct task_identity *identity), void *owner);
void task_identity_close(struct task_identity *identity);

/* Shared by all who parse a JSON answer on this loop: valid until the next parse. */
struct json_token *task_identity_tokens(void);

#endif
