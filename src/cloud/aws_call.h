/*
 * aws_client: calls to AWS from the loop: credentials fetched and renewed, requests signed, sent, judged.
 *
 *     aws_call_start ─► credentials there? ──no──► fetch (one fetch, however many wait) ─┐
 *                          │ yes                                                        │
 *                          ▼                                                            ▼
 *                     sign, send ─► answer ─► API_RENEW: fetch new keys, once ───────► again
 *                                       ├───► API_CLOCK: take the server's time, once ► again
 *                                       └───► done(outcome, reason)
 *
 * One call is one attempt as the terminator and the channels understand it; pausing and repeating is theirs,
 * for they know their deadlines. Nothing here retries on its own but the two cases above, in which the first
 * answer says exactly what to change.
 *
 * Where requests are made: task metadata and credentials come over plain HTTP from the task's own endpoints;
 * everything else goes to the endpoint that aws/endpoint.h decides on.
 */
#ifndef FUMIDAI_CLOUD_AWS_CALL_H
#define FUMIDAI_CLOUD_AWS_CALL_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/api.h"
#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "aws/sigv4.h"
#include "base/error.h"
#include "host/loop.h"
#include "net/http_call.h"
#include "net/network.h"

enum {
    /* What one request with its headers takes at most: a session token of 8 KiB twice over, and a body. */
    AWS_REQUEST_SIZE = 32 * 1024
};

struct aws_call;

struct aws_client {
    struct network *network;
    char *const *env;
    char region[ENDPOINT_REGION_SIZE]; /* empty until known; signed calls fail before */
    bool has_plan;                     /* whether the environment says where keys come from */
    struct credentials_plan plan;
    struct error plan_error;
    struct credentials credentials;
    bool has_credentials;
    int64_t refresh_at_unix_ms;
    int64_t clock_offset_ms; /* the service's time less ours, from the last API_CLOCK */
    struct http_call *fetch; /* of credentials, while one is under way */
    int64_t fetch_deadline_ms;
    struct aws_call *waiting; /* for credentials, in no order */
};

/* `env` is main's; AWS_REGION may settle the region at once. A missing source of credentials is no error
 * here: it becomes one, with its reason, when a call needs them. */
void aws_client_open(struct aws_client *client, struct network *network, char *const *env);
/* From the task's ARN, unless the environment decides. */
int aws_client_find_region(struct aws_client *client, struct str task_arn, struct error *err);
void aws_client_close(struct aws_client *client); /* wipes the keys; no call may be under way */

/* Who sends what. A description is static; one call struct serves many attempts, one at a time. */
struct aws_operation {
    struct api_call api;
    bool is_signed;
    /* Fills in the request. Called anew for each sending; what it points to must live in the owner. */
    int (*make)(struct aws_call *call, struct api_request *request, const struct endpoint *endpoint,
                struct error *err);
    /* Reads the answer into the owner. */
    enum api_outcome (*judge)(struct aws_call *call, const struct api_answer *answer,
                              struct api_failure *failure, struct error *err);
};

struct aws_call {
    struct aws_client *client;
    const struct aws_operation *operation;
    const struct endpoint *fixed_endpoint; /* instead of the service's own; null: the service's */
    void (*done)(struct aws_call *call);   /* from the loop, never from inside aws_call_start */
    int64_t deadline_ms;

    /* the result, in done */
    enum api_outcome outcome;
    struct error err; /* when outcome is not API_OK */

    /* private */
    struct endpoint endpoint;
    struct http_call *http;
    struct loop_timer soon; /* to report what failed at once from the loop */
    struct aws_call *next_waiting;
    bool active;
    bool renewed;
    bool clock_set;
};

/* The call must not be active. */
void aws_call_start(struct aws_call *call, int64_t deadline_ms);
void aws_call_cancel(struct aws_call *call); /* at any time; `done` is not called then */

/* For the websockets, whose GET is signed but not sent from here. ERROR_UNAVAILABLE while there are no
 * credentials. */
int aws_client_sign(struct aws_client *client, struct api_request *request, struct sigv4_signature *signature,
                    enum endpoint_service service, struct error *err);

#endif
