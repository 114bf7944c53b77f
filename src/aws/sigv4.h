/*
 * sigv4: AWS Signature Version 4, header form ("AWS4-HMAC-SHA256"), for requests whose body is in memory.
 *
 * The canonical request, hashed, goes into the string to sign, which is signed with a key derived from the
 * secret, the day, the region and the service:
 *
 *     method \n  canonical path \n  query \n  name:value \n ... \n  name;name... \n  hex(sha256(body))
 *
 * Canonical path: the path as it is sent, every byte outside A-Za-z0-9-._~/ escaped once (so "%" becomes
 * "%25", and the ':' of a channel id "%3A"). Dot segments and double slashes are kept: this is the rule of
 * all services but S3 for paths that are already in normal form, and all of ours are.
 *
 * Signed are `host` and every header the request holds at that moment. x-amz-content-sha256 is not sent: only
 * S3 asks for it. Vectors: AWS's published test suite, and requests signed with the AWS SDK for Go
 * (tests/unit/test_sigv4.c).
 */
#ifndef FUMIDAI_AWS_SIGV4_H
#define FUMIDAI_AWS_SIGV4_H

#include <stdint.h>

#include "aws/api.h"
#include "aws/credentials.h"
#include "base/error.h"
#include "base/str.h"

enum {
    SIGV4_DATE_SIZE = 17, /* 20261122T153851Z */
    /* algorithm, credential scope (id 128, region 32, service 32, the rest 24), the names of all headers, 64
     */
    SIGV4_AUTHORIZATION_SIZE = 768
};

/* What signing adds. The request's headers point into it: it must outlive the request. Not secret. */
struct sigv4_signature {
    char amz_date[SIGV4_DATE_SIZE];
    char authorization[SIGV4_AUTHORIZATION_SIZE];
};

/*
 * Adds x-amz-date, x-amz-security-token (with temporary credentials) and authorization to the request; a
 * request is signed once, a repeated one is made anew. `credentials` must outlive the request, too. unix_ms
 * is the service's time as well as we know it. ERROR_INVALID for a query that is not in canonical form
 * (sorted by name, every name with its '=', escaped in upper case), or a control character where none may be;
 * ERROR_TOO_LARGE when a buffer runs out.
 */
int sigv4_sign(struct api_request *request, struct sigv4_signature *signature,
               const struct credentials *credentials, struct str region, struct str service, int64_t unix_ms,
               struct error *err);

#endif
