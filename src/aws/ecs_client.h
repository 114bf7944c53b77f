/*
 * ecs_client: what a client asks Amazon ECS: which tasks a service or family has, what became of them, how a
 * service is doing, and for one task more.
 *
 *     ListTasks          service or family -> ids of tasks that run, or that stopped in the last hour
 *     DescribeTasks      ids -> each task with its containers, read one at a time
 *     DescribeServices   service -> its counts and the latest events: why a task does not come up
 *     UpdateService      desired count (the body is ecs_write_update_service)
 *
 * Each call is a body, sent with api_request_json under its target, and an answer, as in ecs.h, whose calls
 * are the task's own. A service is given by its name or ARN, a cluster too.
 */
#ifndef FUMIDAI_AWS_ECS_CLIENT_H
#define FUMIDAI_AWS_ECS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws/api.h"
#include "aws/ecs.h"
#include "aws/metadata.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

#define ECS_TARGET_LIST_TASKS ECS_TARGET_PREFIX "ListTasks"

/* Initialisers of struct api_call. */
#define ECS_LIST_TASKS_CALL                                                                                  \
    {                                                                                                        \
        ENDPOINT_ECS, "ListTasks", 200                                                                       \
    }
#define ECS_DESCRIBE_TASKS_CALL                                                                              \
    {                                                                                                        \
        ENDPOINT_ECS, "DescribeTasks", 200                                                                   \
    }
#define ECS_DESCRIBE_SERVICES_CALL                                                                           \
    {                                                                                                        \
        ENDPOINT_ECS, "DescribeServices", 200                                                                \
    }
#define ECS_UPDATE_SERVICE_CALL                                                                              \
    {                                                                                                        \
        ENDPOINT_ECS, "UpdateService", 200                                                                   \
    }

enum {
    ECS_TASKS_MAX = 100,      /* ListTasks gives, and DescribeTasks takes, so many at once */
    ECS_TASK_ID_SIZE = 65,    /* 32 hex digits; in old accounts a UUID */
    ECS_STATUS_SIZE = 33,     /* the longest is "DEPROVISIONING" */
    ECS_STOP_CODE_SIZE = 65,  /* the longest is "ServiceSchedulerInitiated" */
    ECS_WORDS_SIZE = 385,     /* ECS's reasons and events, for a line of the log; longer ones are cut */
    ECS_EVENTS_MAX = 5,       /* of the 100 that DescribeServices gives: what a person wants to see */
    ECS_DESCRIBED_AT_ONCE = 8 /* tasks whose description fits API_JSON_TOKENS: about 300 tokens each */
};

/* --- ListTasks --- */

struct ecs_task_query {
    struct str cluster;
    struct str service; /* or */
    struct str family;
    bool stopped; /* tasks that are to stop or have stopped, instead of those that are to run */
};

struct ecs_task_ids {
    size_t count;
    char ids[ECS_TASKS_MAX][ECS_TASK_ID_SIZE];
};

void ecs_client_write_list_tasks(struct writer *body, const struct ecs_task_query *query);
/* No task is API_OK, too. ERROR_INVALID when the answer is not one of this API or an id not a task's; of more
 * than ECS_TASKS_MAX ids the rest is dropped. */
enum api_class ecs_client_read_list_tasks(struct ecs_task_ids *ids, const struct api_answer *answer,
                                          struct json_token *tokens, size_t capacity,
                                          struct api_failure *failure, struct error *err);

/* --- DescribeTasks --- */

struct ecs_client_task {
    char id[ECS_TASK_ID_SIZE];
    char arn[METADATA_ARN_SIZE];
    char cluster_arn[METADATA_ARN_SIZE];
    char group[ECS_GROUP_SIZE];        /* "service:NAME", "family:NAME", or what RunTask was given */
    char last_status[ECS_STATUS_SIZE]; /* PROVISIONING, PENDING, ACTIVATING, RUNNING ... STOPPED */
    bool is_running;                   /* RUNNING, and meant to be */
    bool is_stopping;                  /* desiredStatus is STOPPED; true of stopped ones, too */
    bool is_stopped;
    int64_t created_unix_ms; /* -1: not said; so for all times here */
    int64_t started_unix_ms;
    char stop_code[ECS_STOP_CODE_SIZE];
    char stopped_reason[ECS_WORDS_SIZE];
};

struct ecs_client_container {
    char name[ECS_NAME_SIZE];
    char runtime_id[METADATA_ID_SIZE]; /* empty until it runs */
    char last_status[ECS_STATUS_SIZE];
    char reason[ECS_WORDS_SIZE]; /* "CannotPullContainerError: ..." */
    bool has_exit_code;
    int64_t exit_code;
};

/* Where a reader stands. It shows the answer and the tokens, which must outlive it. */
struct ecs_task_reader {
    struct json doc;
    size_t task;      /* the next one's index */
    int containers;   /* of the task read last */
    size_t container; /* the next one's index */
};

/* `count` ids of those listed, from `from` on: not more at once than the reader's tokens are for. */
void ecs_client_write_describe_tasks(struct writer *body, struct str cluster, const struct ecs_task_ids *ids,
                                     size_t from, size_t count);
/* API_FAILED with ERROR_NOT_FOUND when there is none of these tasks; what else, as ecs_read_describe_tasks.
 */
enum api_class ecs_client_read_describe_tasks(struct ecs_task_reader *reader, const struct api_answer *answer,
                                              struct json_token *tokens, size_t capacity,
                                              struct api_failure *failure, struct error *err);
/* 1: a task was read; 0: there are no more; ERROR_INVALID or ERROR_TOO_LARGE, naming the member: it is not
 * usable, and the next call reads the next one. */
int ecs_client_next_task(struct ecs_task_reader *reader, struct ecs_client_task *task, struct error *err);
/* The same of the containers of the task that was read last. */
int ecs_client_next_container(struct ecs_task_reader *reader, struct ecs_client_container *container,
                              struct error *err);
/* What StartSession calls this container: "ecs:CLUSTER_TASK_RUNTIME". ERROR_NOT_FOUND without a runtime id.
 */
int ecs_client_format_target(char target[METADATA_TARGET_SIZE], const struct ecs_client_task *task,
                             const struct ecs_client_container *container, struct error *err);

/* --- DescribeServices, UpdateService --- */

struct ecs_client_event {
    int64_t created_unix_ms;
    char message[ECS_WORDS_SIZE];
};

struct ecs_client_service {
    bool is_active; /* else it is being deleted, or was */
    bool exec_is_enabled;
    uint32_t desired_count;
    uint32_t running_count;
    uint32_t pending_count;
    size_t event_count;
    struct ecs_client_event events[ECS_EVENTS_MAX]; /* the latest first */
};

enum api_class ecs_client_read_describe_services(struct ecs_client_service *service,
                                                 const struct api_answer *answer, struct json_token *tokens,
                                                 size_t capacity, struct api_failure *failure,
                                                 struct error *err);
enum api_class ecs_client_read_update_service(const struct api_answer *answer, struct api_failure *failure,
                                              struct error *err);

#endif
