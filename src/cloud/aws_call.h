/*
 * aws_call: calls to AWS from the loop: credentials prepared, the request signed and sent, the answer
 * classified.
 *
 *     aws_call_start ─► credentials ready? ── no ──► wait for the fetch (credentials_source.h) ─┐
 *                          │ yes                                                                │
 *                          ▼                                                                    │
 *                      sign, send ◄─────────────────────────────────────────────────────────────┘
 *                          │
 *                          ▼
 *                       answer ─┬─► API_REFRESH: fetch new keys and send again, once
 *                               ├─► API_CLOCK: take the server's time and send again, once
 *                               └─► done(class, reason)
 *
 * One call is one attempt as the terminator and the channels understand it. To pause and retry is their
 * business, for they know their deadlines. Nothing here retries on its own but in the two cases above, in
 * which the first answer says exactly what to change.
 *
 * Where requests go: task metadata, credentials and the ECS agent answer on plain HTTP at the task's own
 * endpoints; everything else goes to the endpoint that aws/endpoint.h decides on.
 */
#ifndef FUMIDAI_CLOUD_AWS_CALL_H
#define FUMIDAI_CLOUD_AWS_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/api.h"
#include "aws/endpoint.h"
#include "aws/sigv4.h"
#include "base/error.h"
#include "cloud/credentials_source.h"
#include "host/loop.h"
#include "net/http_call.h"
#include "net/network.h"

struct aws_client {
    struct network *network;
    char *const *env;
    const char *agent_version;         /* for control channels; null: SSMMESSAGES_AGENT_VERSION */
    char region[ENDPOINT_REGION_SIZE]; /* empty until known; signed calls fail before */
    struct credentials_source credentials;
};

/* `env` is main's; AWS_REGION may settle the region at once. */
void aws_client_open(struct aws_client *client, struct network *network, char *const *env);
/* As AWS's SDKs do it, for a client: keys, region, endpoints and CA bundle come from the environment and the
 * shared files (credentials_chain.h). `profile` is a flag's, or null. `region` stays empty when nothing says
 * it. On failure the client is not open. */
int aws_client_open_chain(struct aws_client *client, struct network *network, char *const *env,
                          const char *profile, struct error *err);
/* From the task's ARN, unless the environment decides. */
int aws_client_find_region(struct aws_client *client, struct str task_arn, struct error *err);
void aws_client_close(struct aws_client *client); /* wipes the keys; no call may be under way */

/* For the websockets, whose GET is signed but not sent from here. ERROR_UNAVAILABLE while there are no
 * credentials. */
int aws_client_sign(struct aws_client *client, struct api_request *request, struct sigv4_signature *signature,
                    enum endpoint_service service, struct error *err);

struct aws_call;

/* What is called. A description is static; one call struct serves many attempts, one at a time. */
struct aws_operation {
    struct api_call api;
    bool is_signed;
    /* Fills in the request. Called anew for each sending; what it points to must live in the owner. */
    int (*make)(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                struct error *err);
    /* Reads the answer into the owner. */
    enum api_class (*classify)(struct aws_call *call, const struct api_answer *answer,
                               struct api_failure *failure, struct error *err);
};

struct aws_call {
    struct aws_client *client;
    const struct aws_operation *operation;
    const struct endpoint *fixed_endpoint; /* instead of the service's own; null: the service's */
    enum descriptors_use use;
    void (*done)(struct aws_call *call); /* from the loop, never from inside aws_call_start */
    int64_t deadline_ms;

    /* the result, in done */
    enum api_class class;
    struct error err; /* when the class is not API_OK */

    /* private */
    struct endpoint endpoint;
    struct http_call *http;
    struct loop_timer soon; /* to report what failed at once from the loop */
    struct credentials_waiter waiter;
    bool active;
    bool refreshed;
    bool clock_set;
};

/* The call must not be active. */
void aws_call_start(struct aws_call *call, int64_t deadline_ms);
void aws_call_cancel(struct aws_call *call); /* at any time; `done` is not called then */

#endif
