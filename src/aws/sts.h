/*
 * sts: AWS's Security Token Service: keys of a role, for other keys (AssumeRole) or for an identity token
 * (AssumeRoleWithWebIdentity). The query protocol: a form is posted, XML comes back.
 *
 *     Action=AssumeRole&Version=2011-06-15&RoleArn=...  ->  <AssumeRoleResponse><AssumeRoleResult>
 *                                                             <Credentials><AccessKeyId>...
 *
 * AssumeRole is signed for the service "sts"; the other call is not signed: its token is what counts.
 */
#ifndef FUMIDAI_AWS_STS_H
#define FUMIDAI_AWS_STS_H

#include <stdint.h>

#include "aws/api.h"
#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    STS_TOKEN_MAX = 20000, /* STS: WebIdentityToken has 4 to 20000 characters */
    STS_BODY_SIZE =
        24 * 1024 /* a token, which needs no escapes, an ARN (2048), an external id (1224, escaped) */
};

enum sts_action { STS_ASSUME_ROLE, STS_ASSUME_ROLE_WITH_WEB_IDENTITY };

struct sts_role {
    struct str arn;
    struct str session_name;       /* 2 to 64 of A-Za-z0-9_+=,.@- */
    uint32_t duration_s;           /* 0: an hour */
    struct str external_id;        /* empty: none; of AssumeRole */
    struct str mfa_serial;         /* empty: none; of AssumeRole, with mfa_code */
    struct str mfa_code;           /* six digits */
    struct str web_identity_token; /* of the other call: a secret */
};

/* The body fails the writer when it does not fit; the caller wipes it. */
void sts_write_body(struct writer *body, enum sts_action action, const struct sts_role *role);
/* POST; AssumeRole is to be signed then. */
int sts_make_request(struct api_request *request, const struct endpoint *endpoint, struct str body,
                     struct error *err);
/* A 200 with <Credentials> gives API_OK; the classes and reasons of api.h otherwise. */
enum api_class sts_read_answer(struct credentials *credentials, enum sts_action action,
                               const struct api_answer *answer, int64_t now_unix_ms,
                               struct api_failure *failure, struct error *err);

#endif
