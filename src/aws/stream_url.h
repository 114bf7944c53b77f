/*
 * stream_url: the URL of a client's data channel, as StartSession gives it.
 *
 *     wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/ID?role=publish_subscribe&cell-number=AA+/=
 *
 * It is dialled byte for byte, with its raw '+', '/' and '='. What is signed is the query as Go's signer
 * writes it (protocol.md, section 11): decoded, where '+' is a blank, and escaped anew. A presigned URL
 * carries its signature with it: it is not signed again, and its session can't be resumed.
 *
 * The token goes where this URL leads, and it came out of an answer or argv. So stream_url_check wants one
 * of AWS's own hosts, over TLS, unless the user has configured an endpoint.
 */
#ifndef FUMIDAI_AWS_STREAM_URL_H
#define FUMIDAI_AWS_STREAM_URL_H

#include <stdbool.h>

#include "aws/api.h"
#include "aws/endpoint.h"
#include "aws/ssm.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    STREAM_URL_PARAMETERS_MAX = 16, /* AWS's has two; a presigned one seven more */
    /* Each byte of the query escaped in three, and an '=' for each name that has none. */
    STREAM_URL_QUERY_SIZE = 3 * SSM_STREAM_URL_SIZE + STREAM_URL_PARAMETERS_MAX
};

struct stream_url {
    struct endpoint endpoint; /* scheme, host and port; another one may take its place */
    struct str path;          /* views into the text that was parsed, as they stand */
    struct str query;
    bool is_presigned;
    char signed_query[STREAM_URL_QUERY_SIZE]; /* canonical: what the signature covers */
};

/* `text` must outlive it. url_split's errors; ERROR_INVALID for a scheme other than ws and wss, user or
 * password, or an empty path; ERROR_TOO_LARGE beyond a bound. The URL is never quoted. */
int stream_url_parse(struct stream_url *url, struct str text, struct error *err);

/* ERROR_DENIED, naming the host, when it is not AWS's own for this region, or is not reached over TLS. */
int stream_url_check(const struct stream_url *url, struct str region, struct error *err);

/* The websocket's GET, to be signed unless it is presigned. Its path begins with the endpoint's, which is the
 * URL's own or the one that was configured. After signing, path and url->query are what goes into the request
 * line. */
int stream_url_make_open(struct api_request *request, const struct endpoint *endpoint,
                         const struct stream_url *url, struct error *err);

#endif
