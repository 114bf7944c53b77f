/*
 * api_http: one request as aws/api.h describes it, sent over HTTP on a connection of its own.
 */
#ifndef FUMIDAI_CLOUD_API_HTTP_H
#define FUMIDAI_CLOUD_API_HTTP_H

#include <stdint.h>

#include "aws/api.h"
#include "net/http_call.h"
#include "net/network.h"

enum {
    /* A request with its headers at most: a session token of 8 KiB, twice over, and a body. */
    API_HTTP_REQUEST_SIZE = 32 * 1024
};

/* Serialises the request and sends it; the bytes, which hold secrets, are wiped. `done` as for
 * http_call_start(). */
int api_http_start(struct http_call **http, struct network *network, const struct api_request *request,
                   const struct endpoint *endpoint, int64_t deadline_ms, enum descriptors_use use,
                   void (*done)(struct http_call *http, void *owner), void *owner, struct error *err);
/* Views into `http`, in done. */
struct api_answer api_http_answer(const struct http_call *http);

#endif
