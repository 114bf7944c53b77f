/*
 * login_cache: the keys that `aws login` leaves in a file, and how they are renewed.
 *
 *     ~/.aws/login/cache/<SHA-256 of login_session>.json, or in $AWS_LOGIN_CACHE_DIRECTORY
 *     {"accessToken": {"accessKeyId": ..., "secretAccessKey": ..., "sessionToken": ..., "expiresAt": ...},
 *      "clientId": ..., "refreshToken": ..., "dpopKey": "-----BEGIN EC PRIVATE KEY-----...", ...}
 *        │
 *        └─ has expired ─► POST signin /v1/token, with a proof of the key (net/dpop.h) ─► the file anew
 *
 * The keys live for 15 minutes. The AWS CLI and the SDKs renew them in this file, too, whenever one of them
 * needs them: each renewal spends the refresh token and brings the next one.
 */
#ifndef FUMIDAI_AWS_LOGIN_CACHE_H
#define FUMIDAI_AWS_LOGIN_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/api.h"
#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    LOGIN_CACHE_MAX = 32 * 1024,             /* the file: a session token of 8 KiB, escaped, and the rest */
    LOGIN_CACHE_FILE_NAME_SIZE = 64 + 5 + 1, /* SHA-256 in hex, ".json" */
    LOGIN_CACHE_TOKEN_SIZE = 8193,           /* a refresh token is a JWT of 1 to 2 KiB */
    LOGIN_CACHE_CLIENT_SIZE = 257,           /* "arn:aws:signin:::devtools/same-device" */
    LOGIN_CACHE_KEY_SIZE = 1025              /* a P-256 key in PEM has 227 characters */
};

/* A secret from end to end. */
struct login_token {
    struct credentials keys;
    char refresh_token[LOGIN_CACHE_TOKEN_SIZE];
    char client_id[LOGIN_CACHE_CLIENT_SIZE];
    char key[LOGIN_CACHE_KEY_SIZE]; /* PEM */
};

/* `session` is the profile's login_session. */
void login_cache_name(struct str session, char out[LOGIN_CACHE_FILE_NAME_SIZE]);

/* ERROR_INVALID when it is not such a file, ERROR_TOO_LARGE beyond the bounds. */
int login_cache_read(struct login_token *token, struct str text, int64_t now_unix_ms, struct error *err);
/* The file's text with the token's members put in place; others stay. Fails the writer. `text` was read by
 * login_cache_read. */
void login_cache_write(struct writer *out, struct str text, const struct login_token *token);

/* Less than two minutes of life are left. */
bool login_cache_has_expired(const struct login_token *token, int64_t now_unix_ms);

/* POST to ENDPOINT_SIGNIN. `body` is login_cache_write_refresh's; it and `proof` outlive the request. */
void login_cache_write_refresh(struct writer *body, const struct login_token *token);
int login_cache_make_refresh(struct api_request *request, const struct endpoint *endpoint, struct str body,
                             struct str proof, struct error *err);
/* Puts the new ones into `token`. ERROR_DENIED: the session is over, log in again. */
int login_cache_read_refresh(struct login_token *token, const struct api_answer *answer, int64_t now_unix_ms,
                             struct error *err);

#endif
