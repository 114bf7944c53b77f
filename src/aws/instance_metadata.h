/*
 * instance_metadata: EC2's instance metadata service, version 2, for the keys of the instance's role.
 *
 *     PUT /latest/api/token                                     -> a token, for all other requests
 *     GET /latest/meta-data/iam/security-credentials/           -> the role's name
 *     GET /latest/meta-data/iam/security-credentials/<role>     -> keys (credentials_read_answer)
 *
 * It answers on link-local addresses: 169.254.169.254, or fd00:ec2::254 with AWS_EC2_METADATA_SERVICE_
 * ENDPOINT_MODE=IPv6; AWS_EC2_METADATA_SERVICE_ENDPOINT names another. Version 1, without a token, is not
 * asked: whoever can make a server fetch a URL could ask it, too.
 */
#ifndef FUMIDAI_AWS_INSTANCE_METADATA_H
#define FUMIDAI_AWS_INSTANCE_METADATA_H

#include "aws/api.h"
#include "aws/endpoint.h"
#include "base/error.h"

enum {
    INSTANCE_METADATA_TOKEN_SIZE = 257, /* seen: 56 characters */
    INSTANCE_METADATA_ROLE_SIZE = 129   /* IAM: a role's name has up to 64 characters */
};

/* ERROR_DENIED when AWS_EC2_METADATA_DISABLED is true; ERROR_INVALID for a malformed address or mode. */
int instance_metadata_find(struct endpoint *endpoint, char *const *env, struct error *err);

int instance_metadata_make_token_request(struct api_request *request, const struct endpoint *endpoint,
                                         struct error *err);
/* `role` may be empty: its name is asked for. The token outlives the request. */
int instance_metadata_make_request(struct api_request *request, const struct endpoint *endpoint,
                                   const char *token, const char *role, struct error *err);

/* The first line of an answer. ERROR_NOT_FOUND for 404 (of the role: the instance has none), ERROR_DENIED and
 * ERROR_UNAVAILABLE for other statuses, ERROR_INVALID for what can't be a token or name. */
int instance_metadata_read_line(const struct api_answer *answer, char *out, size_t capacity,
                                struct error *err);

#endif
