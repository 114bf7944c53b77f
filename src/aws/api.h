/*
 * api: what every request to AWS and every answer have in common.
 *
 * A request is described here, not serialised: method, path, query, headers, body. A request's makers (ecs.h,
 * ssmmessages.h, credentials.h, metadata.h) fill one in, sigv4_sign adds its headers, the HTTP layer writes
 * it and adds what is its own (Content-Length, Connection, Upgrade, Sec-WebSocket-*, User-Agent). Everything
 * in `headers` is signed, so what must not be signed is added after signing.
 *
 * An answer is classified here. api_classify says what the caller does next, and puts the reason in words for
 * a person: "UpdateService: 403 AccessDeniedException: the task role lacks ecs:UpdateService (User: ...)".
 *
 *     API_OK         go on
 *     API_RETRY      may pass: ask again after the back-off (backoff.h). ERROR_UNAVAILABLE, or
 *                    ERROR_THROTTLED, whose pauses are longer
 *     API_REFRESH    the credentials have expired or are not known any more: fetch new ones and send again at
 *                    once. Once; then treat it as API_RETRY, for the endpoint may still hand out the old ones
 *     API_CLOCK      this host's clock is off: sign again with the server's time, server_unix_ms, once. (An
 *                    answer without a Date is API_FAILED.)
 *     API_FAILED     asking again does not help; the code says why (DENIED, NOT_FOUND, INVALID, UNSUPPORTED)
 *
 * AWS's protocols carry an error's name in different places, looked at in this order: the header
 * x-amzn-ErrorType (REST); the members __type or code of a JSON body (awsJson: `__type` may have a namespace
 * and '#' before the name, the header a ':' and a URL after it); the element <Code> of an XML body; else the
 * name of its root element, which is the message gateway's way. The message is the member or element
 * `message` in any case.
 */
#ifndef FUMIDAI_AWS_API_H
#define FUMIDAI_AWS_API_H

#include <stddef.h>
#include <stdint.h>

#include "aws/endpoint.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

enum {
    API_HEADERS_MAX = 8, /* content-type, x-amz-target, accept, authorization or the three of SigV4; spare */
    API_PATH_SIZE = 768, /* the endpoint's prefix and "/v1/control-channel/" with a target id (400) */
    API_TYPE_SIZE = 96,  /* AWS's longest error name has 50 */
    API_MESSAGE_SIZE = 288 /* leaves room in ERROR_TEXT_SIZE for what we put around it */
};

struct api_header {
    const char *name; /* lower case */
    struct str value;
};

struct api_request {
    const char *method;
    char path[API_PATH_SIZE]; /* as sent */
    struct str query;         /* without '?': sorted, escaped; may be empty */
    struct str host;          /* the Host header's value */
    /* Values are views: what they show must outlive the request. */
    struct api_header headers[API_HEADERS_MAX];
    size_t header_count;
    struct str body;
};

/* Begins a request to endpoint->path + path; without a path, to the endpoint's own or else "/". `endpoint`
 * must outlive the request. ERROR_TOO_LARGE when the path does not fit, ERROR_INVALID when it holds a byte
 * that may not stand in one. */
int api_request_start(struct api_request *request, const char *method, const struct endpoint *endpoint,
                      struct str path, struct error *err);
/* ERROR_TOO_LARGE when all places are taken, ERROR_INVALID when the value holds a control character. */
int api_request_add(struct api_request *request, const char *name, struct str value, struct error *err);
/* An awsJson1.1 call: POST, content type, x-amz-target ("AmazonSSM.StartSession"), body. */
int api_request_json(struct api_request *request, const struct endpoint *endpoint, const char *target,
                     struct str body, struct error *err);

/* What came back, as views into the caller's buffers; a header that did not come is empty. */
struct api_answer {
    int status;
    struct str error_type; /* x-amzn-ErrorType */
    struct str date;       /* Date */
    struct str body;
};

enum api_class { API_OK, API_RETRY, API_REFRESH, API_CLOCK, API_FAILED };

struct api_failure {
    char type[API_TYPE_SIZE];       /* "AccessDeniedException"; empty when the answer named none */
    char message[API_MESSAGE_SIZE]; /* the service's words, cut to fit, on one line */
    int64_t server_unix_ms;         /* from the Date header; -1 when there was none */
};

struct api_call {
    enum endpoint_service service;
    const char *action;  /* "UpdateService" */
    int expected_status; /* 200; 201 for ssmmessages' tokens */
};

/* What an answer says of its failure, whatever its status. */
void api_read_failure(struct api_failure *failure, const struct api_answer *answer);

/* Who made a call, for the words of a denial. */
#define API_BY_TASK "the task role lacks"
#define API_BY_USER "your credentials lack"

/* For the task's own calls. `failure` may be null; it is filled in for every class but API_OK. */
enum api_class api_classify(const struct api_call *call, const struct api_answer *answer,
                            struct api_failure *failure, struct error *err);
/* The same; `lacks` is API_BY_TASK or API_BY_USER. */
enum api_class api_classify_by(const char *lacks, const struct api_call *call,
                               const struct api_answer *answer, struct api_failure *failure,
                               struct error *err);
/* For what reads the body of an API_OK: 0 stays API_OK, an error is API_FAILED and gets the action's name in
 * front. */
enum api_class api_conclude(const struct api_call *call, int result, struct error *err);

/* A text member that may be missing or null: out is then empty. ERROR_INVALID when it is not a string,
 * ERROR_TOO_LARGE when it does not fit; the error names the member, never its value. */
int api_json_text(const struct json *doc, int object, const char *name, char *out, size_t capacity,
                  struct error *err);
/* A text for people: on one line, cut to fit. Empty when it is missing or not a string. */
void api_json_words(const struct json *doc, int object, const char *name, char *out, size_t capacity);

/* Room for the tokens of the answers that are parsed here. A DescribeServices answer with its 100 events has
 * about 1,500; a task with ten containers about 1,200. */
enum { API_JSON_TOKENS = 4096 };

#endif
