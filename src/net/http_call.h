/*
 * http_call: one request, one answer, one connection, under one deadline. For the calls that are made now and
 * then (ECS, task metadata, credentials, channel tokens): nothing to pool, nothing to go stale.
 *
 * The request is complete bytes, signed by whoever built them (wire/http's writer, aws/sigv4); they are
 * copied and wiped afterwards, as is the answer: both may hold credentials. The answer's body is unchunked,
 * at most `body_max`.
 *
 * Retrying is the caller's: what may be repeated, and when, is known there. An answer of any status is
 * success here.
 */
#ifndef FUMIDAI_NET_HTTP_CALL_H
#define FUMIDAI_NET_HTTP_CALL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "host/descriptors.h"
#include "net/network.h"

enum {
    HTTP_CALL_BODY_MAX = 1024 * 1024, /* the most `body_max` may say */
    HTTP_CALL_REQUEST_MAX = 64 * 1024 /* twice the largest request to AWS (API_HTTP_REQUEST_SIZE) */
};

struct http_call_request {
    const char *host; /* where to connect; the Host header is in the bytes */
    uint16_t port;
    bool tls;
    struct str bytes;
    int64_t deadline_ms;
    size_t body_max; /* 0 is HTTP_CALL_BODY_MAX */
    enum descriptors_use use;
};

struct http_call;

/* `done` is called once, from the loop, never from inside this function; http_call_close there or later. */
int http_call_start(struct http_call **call, struct network *network, const struct http_call_request *request,
                    void (*done)(struct http_call *call, void *owner), void *owner, struct error *err);

/* After done. 0 when there is an answer; otherwise the reason, with the step it happened in. */
int http_call_result(const struct http_call *call, struct error *err);
int http_call_status(const struct http_call *call); /* 200, 404, …; 0 without an answer */
struct str http_call_header(const struct http_call *call, const char *name); /* empty when absent */
struct str http_call_body(const struct http_call *call);                     /* valid until close */

void http_call_close(struct http_call *call); /* at any time: cancels; null does no harm */

#endif
