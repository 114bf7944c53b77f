/*
 * github_token: the identity token (OIDC) of a job of GitHub Actions, for AssumeRoleWithWebIdentity. A job
 * with `permissions: id-token: write` finds two variables:
 *
 *     GET $ACTIONS_ID_TOKEN_REQUEST_URL&audience=sts.amazonaws.com     the URL has a query already
 *     Authorization: bearer $ACTIONS_ID_TOKEN_REQUEST_TOKEN            -> {"value": "eyJ..."}
 *
 * The token lives for some five minutes and is asked for anew each time.
 * https://docs.github.com/en/actions/reference/security/oidc
 */
#ifndef FUMIDAI_AWS_GITHUB_TOKEN_H
#define FUMIDAI_AWS_GITHUB_TOKEN_H

#include <stddef.h>

#include "aws/api.h"
#include "aws/endpoint.h"
#include "base/error.h"
#include "base/str.h"

enum {
    GITHUB_QUERY_SIZE = 512,  /* "api-version=2.0", and ours */
    GITHUB_BEARER_SIZE = 8193 /* a JWT of 1 to 2 KiB */
};

/* What the request's views show. Holds a secret: wipe it. */
struct github_token_request {
    struct endpoint endpoint;
    char query[GITHUB_QUERY_SIZE];
    char authorization[GITHUB_BEARER_SIZE + 8];
};

/* ERROR_INVALID for a malformed URL, ERROR_DENIED for one that would send the secret in clear,
 * ERROR_TOO_LARGE beyond the bounds. */
int github_token_make_request(struct api_request *request, struct github_token_request *memory,
                              struct str url, struct str bearer, struct error *err);
/* A 200 with a token; another status is ERROR_DENIED, ERROR_UNAVAILABLE when it may pass. */
int github_token_read_answer(const struct api_answer *answer, char *token, size_t capacity,
                             struct error *err);

#endif
