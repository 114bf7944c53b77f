/*
 * dpop: proof that we hold a key (RFC 9449), as AWS's sign-in service wants it with a refresh token: a JWT
 * over the request's method and URL, signed with the P-256 key that the session began with.
 *
 *     {"typ":"dpop+jwt","alg":"ES256","jwk":{...}} . {"jti","htm","htu","iat"} . signature
 *
 * each in base64url. Signatures are deterministic (RFC 6979): no randomness is needed but for `jti`.
 */
#ifndef FUMIDAI_NET_DPOP_H
#define FUMIDAI_NET_DPOP_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    DPOP_PROOF_SIZE = 2048, /* a header of 250 characters, a payload with a URL of up to 1,000, 86 */
    DPOP_DER_MAX = 256      /* the key in RFC 5915's form has 121 bytes */
};

/* `key` is PEM, "EC PRIVATE KEY", with its public half; `jti` is used for no other proof. ERROR_INVALID or
 * ERROR_UNSUPPORTED for another key; what does not fit fails the writer and is ERROR_TOO_LARGE. */
int dpop_write_proof(struct writer *out, struct str key, const char *method, struct str url, const char *jti,
                     int64_t unix_s, struct error *err);

#endif
