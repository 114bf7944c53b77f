/*
 * metadata: what ECS's task metadata endpoint, version 4, says of this task.
 *
 * Two documents: the container's (GET $ECS_CONTAINER_METADATA_URI_V4) and the task's (the same with "/task").
 * Both are read into one struct, in either order. An older platform or the EC2 launch type leaves fields out:
 * those stay empty, and only what the target id is made of is required. Nothing is read that nobody uses, so
 * that a document is not unusable because of a field that does not matter.
 *
 * The target id by which Session Manager knows a container is ecs:<cluster>_<task id>_<runtime id>: the last
 * path elements of Cluster (an ARN on Fargate, elsewhere maybe a name) and TaskARN, and DockerId.
 */
#ifndef FUMIDAI_AWS_METADATA_H
#define FUMIDAI_AWS_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws/api.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

enum {
    METADATA_ARN_SIZE = 513,        /* a task's: about 60 characters, the cluster's name (255) and 32 */
    METADATA_NAME_SIZE = 256,       /* ECS: a service's name has up to 255 characters */
    METADATA_ID_SIZE = 129,         /* runtime id: 32 hex digits, '-', 10 digits on Fargate; 64 on EC2 */
    METADATA_SUBNET_SIZE = 50,      /* an IPv6 address (39, or 45 with dotted IPv4) with "/128" */
    METADATA_DOCUMENT_MAX = 131072, /* ten containers with generous labels; tags are not in it */
    METADATA_TARGET_SIZE = 401      /* SSM StartSession: Target has at most 400 characters */
};

struct metadata {
    /* the container's document */
    char runtime_id[METADATA_ID_SIZE]; /* DockerId */
    char ipv4_subnet[METADATA_SUBNET_SIZE];
    char ipv6_subnet[METADATA_SUBNET_SIZE];
    bool ipv4_unknown; /* the interface is in a VPC, and its subnet may have a block that is not told yet */
    bool ipv6_unknown;
    /* the task's document */
    char cluster[METADATA_ARN_SIZE]; /* an ARN or a name; APIs take both */
    char task_arn[METADATA_ARN_SIZE];
    char service_name[METADATA_NAME_SIZE]; /* platform 1.4 and later, tasks of a service only */
};

/* The GETs; `endpoint` is endpoint_from_url of $ECS_CONTAINER_METADATA_URI_V4. */
int metadata_make_container_request(struct api_request *request, const struct endpoint *endpoint,
                                    struct error *err);
int metadata_make_task_request(struct api_request *request, const struct endpoint *endpoint,
                               struct error *err);

/* Each fills in its fields of `metadata` (which starts as zeroes) and leaves the others. Errors name the
 * document and the field: ERROR_UNAVAILABLE for another status than 200, ERROR_INVALID for malformed JSON or
 * a wrong type, ERROR_NOT_FOUND for a required field that is missing (DockerId; Cluster and TaskARN),
 * ERROR_TOO_LARGE for one beyond its bound, or with more than `capacity` tokens. */
int metadata_read_container(struct metadata *metadata, const struct api_answer *answer,
                            struct json_token *tokens, size_t capacity, struct error *err);
int metadata_read_task(struct metadata *metadata, const struct api_answer *answer, struct json_token *tokens,
                       size_t capacity, struct error *err);

/* Of an ARN or a name each, and the runtime id. ERROR_NOT_FOUND names what is missing, ERROR_TOO_LARGE beyond
 * METADATA_TARGET_SIZE; `target` is empty then. */
int metadata_write_target(char target[METADATA_TARGET_SIZE], struct str cluster, struct str task,
                          struct str runtime_id, struct error *err);
/* The same of both documents. */
int metadata_format_target(const struct metadata *metadata, char target[METADATA_TARGET_SIZE],
                           struct error *err);

#endif
