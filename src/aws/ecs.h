/*
 * ecs: the four calls of Amazon ECS that a task needs to end itself, and task scale-in protection.
 *
 * Each call is a body (ecs_write_*), sent with api_request_json under its target (ECS_TARGET_*), and an
 * answer (ecs_classify_* or ecs_read_*). Cluster is a name or ARN, task an id or ARN, as metadata gives them.
 *
 * "Already so" is success, because the caller's wish is fulfilled; *already says so for the log:
 * - StopTask, InvalidParameterException "The referenced task was not found.": ECS forgets stopped tasks after
 *   about an hour. A task that stopped recently answers 200.
 * - UpdateService to 0, ServiceNotActiveException: the service is being deleted or was; it starts no tasks.
 * - UpdateService to 0, ServiceNotFoundException, only if the name came from AWS (name_is_certain): the
 *   service is gone. If a person configured the name, a service that does not exist is a mistake and the real
 *   one would start the next task: ERROR_NOT_FOUND. A desired count that is 0 already answers 200.
 */
#ifndef FUMIDAI_AWS_ECS_H
#define FUMIDAI_AWS_ECS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws/api.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

#define ECS_TARGET_PREFIX            "AmazonEC2ContainerServiceV20141113."
#define ECS_TARGET_UPDATE_SERVICE    ECS_TARGET_PREFIX "UpdateService"
#define ECS_TARGET_STOP_TASK         ECS_TARGET_PREFIX "StopTask"
#define ECS_TARGET_DESCRIBE_TASKS    ECS_TARGET_PREFIX "DescribeTasks"
#define ECS_TARGET_DESCRIBE_SERVICES ECS_TARGET_PREFIX "DescribeServices"

enum {
    ECS_REASON_MAX = 1024, /* StopTask: characters of `reason`; ours is cut there */
    ECS_NAME_SIZE = 256,   /* names have up to 255 characters */
    ECS_GROUP_SIZE = 265,  /* "service:" and a name, or whatever RunTask was given */
    ECS_BODY_SIZE =
        9216 /* holds every body written here: a reason of 1,024 characters, each escaped in six */
};

/* A body that does not fit fails the writer. */
void ecs_write_update_service(struct writer *body, struct str cluster, struct str service,
                              uint32_t desired_count);
void ecs_write_stop_task(struct writer *body, struct str cluster, struct str task, struct str reason);
void ecs_write_describe_tasks(struct writer *body, struct str cluster, struct str task);
void ecs_write_describe_services(struct writer *body, struct str cluster, struct str service);

enum api_class ecs_classify_update_service(const struct api_answer *answer, uint32_t desired_count,
                                           bool name_is_certain, bool *already, struct api_failure *failure,
                                           struct error *err);
enum api_class ecs_classify_stop_task(const struct api_answer *answer, bool *already,
                                      struct api_failure *failure, struct error *err);

struct ecs_task {
    bool is_stopping; /* desiredStatus is STOPPED */
    char group[ECS_GROUP_SIZE];
    char service_name[ECS_NAME_SIZE]; /* of group "service:NAME"; empty: no service started the task */
};

struct ecs_service {
    uint32_t desired_count;
    bool is_daemon;          /* its count can't be set: one task on each instance */
    int64_t changed_unix_ms; /* when a deployment of it was last made or updated; -1: not said */
};

/* Parses the answer of a Describe call, and gives the first element of its member called `kind` ("tasks").
 * ERROR_NOT_FOUND when it holds none but names a failure ("MISSING"), ERROR_INVALID when it does not even
 * that or is not JSON, ERROR_TOO_LARGE beyond `capacity` tokens. */
int ecs_parse_described(struct json *doc, int *first, const char *kind, const struct api_answer *answer,
                        struct json_token *tokens, size_t capacity, struct error *err);
/* ERROR_INVALID when the member is missing or not a count. */
int ecs_read_count(const struct json *doc, int object, const char *name, uint32_t *count, struct error *err);

/* API_FAILED with ERROR_NOT_FOUND when ECS answers with a failure ("MISSING") instead of the thing, with
 * ERROR_INVALID when it is not an answer of this API, with ERROR_TOO_LARGE beyond `capacity` tokens. */
enum api_class ecs_read_describe_tasks(struct ecs_task *task, const struct api_answer *answer,
                                       struct json_token *tokens, size_t capacity,
                                       struct api_failure *failure, struct error *err);
enum api_class ecs_read_describe_services(struct ecs_service *service, const struct api_answer *answer,
                                          struct json_token *tokens, size_t capacity,
                                          struct api_failure *failure, struct error *err);

/*
 * Task scale-in protection, through the ECS agent at $ECS_AGENT_URI (no signature): while it is on, neither
 * scale-in nor a deployment stops this task. PUT of /task-protection/v1/state.
 */
struct ecs_protection {
    bool enabled;
    int64_t expires_unix_ms; /* -1: not enabled or not said */
};

/* minutes: 1 to 2,880; not sent when disabling. */
void ecs_write_protection(struct writer *body, bool enabled, uint32_t minutes);
/* `endpoint` is endpoint_from_url of $ECS_AGENT_URI. */
int ecs_make_protection_request(struct api_request *request, const struct endpoint *endpoint, struct str body,
                                struct error *err);
/* A refusal of ECS's ("failure" with DEPLOYMENT_BLOCKED, TASK_NOT_VALID) is API_FAILED with ERROR_DENIED. */
enum api_class ecs_read_protection(struct ecs_protection *protection, const struct api_answer *answer,
                                   struct error *err);

#endif
