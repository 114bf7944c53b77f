/*
 * credentials: where the task role's keys come from, what their document says, when to fetch new ones.
 *
 * The chain (protocol.md, section 2; the first that is set wins, and a failing one is not skipped: keys of
 * another identity would be a surprise):
 *   1. AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, on http://169.254.170.2 (ECS, Fargate)
 *   2. AWS_CONTAINER_CREDENTIALS_FULL_URI: https to any host; http only to loopback, to ECS's 169.254.170.2,
 *      and to EKS's 169.254.170.23 and [fd00:ec2::23], because the answer is a secret. Names other than
 *      "localhost" are refused with http: what they resolve to is not known here.
 *      For both, AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE (read anew for each fetch) or else
 *      AWS_CONTAINER_AUTHORIZATION_TOKEN becomes the Authorization header.
 *   3. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *
 *     fetch ─► fresh ── credentials_refresh_at ─► due ── expires_unix_ms - 10 s ─► expired
 *       ▲                                          │                                  │
 *       └──────────────────────────────────────────┴──────────────────────────────────┘
 *
 * While due, a failed fetch is repeated with back-off and the old keys go on being used; with expired ones
 * nothing is signed.
 *
 * An answer of API_REFRESH (api.h) means: fetch at once, whatever the clock says.
 *
 * Secrets: credentials_wipe when done, and for the buffers that held a document (bytes_wipe). Nothing here
 * puts a secret into an error text.
 */
#ifndef FUMIDAI_AWS_CREDENTIALS_H
#define FUMIDAI_AWS_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/api.h"
#include "aws/endpoint.h"
#include "base/error.h"
#include "base/str.h"

enum {
    CREDENTIALS_ID_SIZE = 129,             /* IAM: an access key id has 16 to 128 characters */
    CREDENTIALS_SECRET_SIZE = 129,         /* 40 today */
    CREDENTIALS_TOKEN_SIZE = 8193,         /* STS: "typically less than 4096 bytes, but that can vary" */
    CREDENTIALS_AUTHORIZATION_SIZE = 4097, /* EKS sends a service account's JWT, about 1 KiB */
    CREDENTIALS_FILE_SIZE = 257,           /* the path of a token file: EKS's has 76 characters */
    CREDENTIALS_DOCUMENT_MAX = 16384       /* the four fields, escaped, and room */
};

struct credentials {
    char access_key_id[CREDENTIALS_ID_SIZE];
    char secret_access_key[CREDENTIALS_SECRET_SIZE];
    char session_token[CREDENTIALS_TOKEN_SIZE]; /* empty for a user's long-lived keys */
    int64_t obtained_unix_ms;
    int64_t expires_unix_ms; /* INT64_MAX: never */
};

void credentials_wipe(struct credentials *credentials);

enum credentials_origin { CREDENTIALS_CONTAINER, CREDENTIALS_ENVIRONMENT };

struct credentials_plan {
    enum credentials_origin origin;
    /* for CREDENTIALS_CONTAINER */
    struct endpoint endpoint;                           /* its path is the whole path to ask for */
    char query[ENDPOINT_PATH_SIZE];                     /* what followed a '?', or empty */
    char token_file[CREDENTIALS_FILE_SIZE];             /* read it for each fetch; empty: use authorization */
    char authorization[CREDENTIALS_AUTHORIZATION_SIZE]; /* a secret; empty: no such header */
};

/* Decides once, at start. ERROR_NOT_FOUND, listing what was looked for, when nothing is set; ERROR_DENIED for
 * an address that must not be trusted with the question; ERROR_INVALID for a malformed one or half a key
 * pair. */
int credentials_make_plan(struct credentials_plan *plan, char *const *env, struct error *err);

/* Whether a request that carries a secret, or is answered with one, may go there: over TLS, or in clear to
 * loopback, ECS's and EKS's own addresses. */
bool credentials_may_be_asked(const struct endpoint *endpoint);

/* The first two only. ERROR_NOT_FOUND when neither is set. */
int credentials_plan_container(struct credentials_plan *plan, char *const *env, struct error *err);

/* The GET for CREDENTIALS_CONTAINER. `token` is what the token file held (trailing newlines are cut; bytes
 * that could end the header are ERROR_INVALID), or empty without one. Plan and token must outlive the
 * request. */
int credentials_make_request(struct api_request *request, const struct credentials_plan *plan,
                             struct str token, struct error *err);

/* For CREDENTIALS_ENVIRONMENT. */
int credentials_from_environment(struct credentials *credentials, char *const *env, struct error *err);

/* Keys that do not expire. ERROR_TOO_LARGE or ERROR_INVALID, without quoting them. */
int credentials_set(struct credentials *credentials, struct str access_key_id, struct str secret_access_key,
                    struct str session_token, struct error *err);

/* What a JSON document calls its members: each of AWS's has its own names for the same four. */
struct credentials_members {
    const char *access_key_id;
    const char *secret_access_key;
    const char *session_token; /* may be missing */
    const char *expiration;    /* RFC 3339 text, or milliseconds since 1970; may be missing: never */
};

/* Reads an object of a document; obtained_unix_ms is the caller's. On failure nothing of the keys stays. */
int credentials_read_members(struct credentials *credentials, const struct json *doc, int object,
                             const struct credentials_members *members, struct error *err);

/* The output of a credential_process, version 1. */
int credentials_read_process(struct credentials *credentials, struct str output, int64_t now_unix_ms,
                             struct error *err);

/* The endpoint's answer. A 200 with a document of keys fills `credentials`; an error document ({"code",
 * "message"}) or another status gives API_RETRY or API_FAILED with the reason. */
enum api_class credentials_read_answer(struct credentials *credentials, const struct api_answer *answer,
                                       int64_t now_unix_ms, struct error *err);

/* When to fetch the next ones: a quarter of their life before they expire, but 15 minutes at most and 1
 * minute at least, and up to a fifth of that earlier by `random`, so that tasks that started together do not
 * ask together; never before they were obtained. INT64_MAX when they never expire. A point in Unix time, as
 * the expiry is. */
int64_t credentials_refresh_at(const struct credentials *credentials, uint32_t random);

/* Whether they must not be used any more: less than 10 s of life left, about what a request can take. */
bool credentials_expired(const struct credentials *credentials, int64_t now_unix_ms);

#endif
