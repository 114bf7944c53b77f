/*
 * login_cache: the keys that `aws login` leaves in a file, and what it takes to renew them.
 *
 *     ~/.aws/login/cache/<SHA-256 of login_session>.json, or in $AWS_LOGIN_CACHE_DIRECTORY
 *     {"accessToken": {"accessKeyId": ..., "secretAccessKey": ..., "sessionToken": ..., "expiresAt": ...},
 *      "clientId": ..., "refreshToken": ..., "dpopKey": "-----BEGIN EC PRIVATE KEY-----...", ...}
 *
 * The keys live for 15 minutes; the AWS CLI and the SDKs renew them in this file whenever one of them needs
 * them.
 */
#ifndef FUMIDAI_AWS_LOGIN_CACHE_H
#define FUMIDAI_AWS_LOGIN_CACHE_H

#include <stdint.h>

#include "aws/credentials.h"
#include "base/error.h"
#include "base/str.h"

enum {
    LOGIN_CACHE_MAX = 32 * 1024, /* the file: a session token of 8 KiB, escaped, a key, two tokens */
    LOGIN_CACHE_FILE_NAME_SIZE = 64 + 5 + 1 /* SHA-256 in hex, ".json" */
};

/* `session` is the profile's login_session. */
void login_cache_name(struct str session, char out[LOGIN_CACHE_FILE_NAME_SIZE]);

/* ERROR_INVALID when it is not such a file; ERROR_DENIED when its keys have expired, saying what to do. */
int login_cache_read(struct credentials *credentials, struct str text, int64_t now_unix_ms,
                     struct error *err);

#endif
