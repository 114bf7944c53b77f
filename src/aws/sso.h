/*
 * sso: IAM Identity Center, without a browser: `aws sso login` (or whatever logs in) leaves a token in a
 * file, and from there on this is enough.
 *
 *     ~/.aws/sso/cache/<SHA-1 of the session's name, or of the start URL without a session>.json
 *        │
 *        ├─ has expired, and has a refresh token ─► POST oidc /token ─► the file is written anew
 *        ▼
 *     GET portal /federation/credentials?account_id=...&role_name=...  ─► keys
 *
 * Nothing is signed: the tokens are what counts. Whoever has the file has the user's rights, so that it is
 * written for its owner only, and what is not understood in it is kept.
 */
#ifndef FUMIDAI_AWS_SSO_H
#define FUMIDAI_AWS_SSO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws/api.h"
#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    SSO_TOKEN_SIZE = 4097,           /* seen: about 1 KiB */
    SSO_SECRET_SIZE = 8193,          /* a client's secret is a JWT of about 2 KiB */
    SSO_ID_SIZE = 257,               /* of a client */
    SSO_CACHE_MAX = 32 * 1024,       /* of the file: all of the above, escaped, and room */
    SSO_FILE_NAME_SIZE = 40 + 5 + 1, /* SHA-1 in hex, ".json" */
    SSO_QUERY_SIZE = 512             /* an account id (12) and a role's name (32), escaped */
};

/* A secret from end to end. */
struct sso_token {
    char access_token[SSO_TOKEN_SIZE];
    char refresh_token[SSO_TOKEN_SIZE]; /* empty: it can't be refreshed */
    char client_id[SSO_ID_SIZE];
    char client_secret[SSO_SECRET_SIZE];
    int64_t expires_unix_ms;
};

/* `key` is the session's name or, without one, the start URL. */
void sso_cache_name(struct str key, char out[SSO_FILE_NAME_SIZE]);

/* ERROR_INVALID when it is not such a file, ERROR_TOO_LARGE beyond the bounds. */
int sso_read_cache(struct sso_token *token, struct str text, struct error *err);
/* The file's text with the token's members put in place; others stay. Fails the writer. `text` was read by
 * sso_read_cache. */
void sso_write_cache(struct writer *out, struct str text, const struct sso_token *token);

/* Less than a minute of life is left. */
bool sso_has_expired(const struct sso_token *token, int64_t now_unix_ms);
bool sso_can_refresh(const struct sso_token *token);

/* POST to ENDPOINT_SSO_OIDC. `body` is sso_write_refresh's; both outlive the request. */
void sso_write_refresh(struct writer *body, const struct sso_token *token);
int sso_make_refresh(struct api_request *request, const struct endpoint *endpoint, struct str body,
                     struct error *err);
/* Puts the new ones into `token`. ERROR_DENIED: the session is over, log in again. */
int sso_read_refresh(struct sso_token *token, const struct api_answer *answer, int64_t now_unix_ms,
                     struct error *err);

/* GET to ENDPOINT_SSO. `query` is the caller's memory, and outlives the request, as the token does. */
int sso_make_get_keys(struct api_request *request, const struct endpoint *endpoint,
                      const struct sso_token *token, struct str account_id, struct str role_name,
                      char query[SSO_QUERY_SIZE], struct error *err);
int sso_read_keys(struct credentials *credentials, const struct api_answer *answer, int64_t now_unix_ms,
                  struct error *err);

#endif
