/*
 * trust: the CA certificates that TLS streams believe: the table made at build time (trust_anchors.h), and
 * what the user's PEM files hold (SSL_CERT_FILE, AWS_CA_BUNDLE). Files are read once, at the start, and
 * reduced to distinguished names and public keys, because a distribution's whole bundle (150 certificates,
 * 220 kB) must fit next to everything else. A file that can't be read, or a certificate that can't be
 * decoded, is a warning in the log and nothing more: the built-in certificates still work.
 */
#ifndef FUMIDAI_NET_TRUST_H
#define FUMIDAI_NET_TRUST_H

#include <bearssl.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

enum {
    TRUST_FILE_MAX = 4 * 1024 * 1024, /* of one bundle; the largest in use have under 1 MiB */
    TRUST_ANCHORS_MAX = 1024,         /* of all bundles together */
    TRUST_CERTIFICATE_MAX = 16 * 1024 /* one certificate in DER */
};

struct trust {
    br_x509_trust_anchor *anchors;
    size_t count;
    size_t capacity;
};

/* Starts with the built-in CA certificates. ERROR_SYSTEM only when there is no memory. */
int trust_open(struct trust *trust, struct error *err);
/* Adds a file; null or empty does nothing. Certificates that are there already are not added again. Returns
 * how many were added; what was wrong is logged. */
size_t trust_add_file(struct trust *trust, const char *path);
/* Adds this machine's own bundle, for hosts that are not AWS's: the first of the places where distributions
 * keep it. False when there is none. */
bool trust_add_system(struct trust *trust);
/* Adds one certificate in DER. ERROR_INVALID when it can't be decoded, ERROR_TOO_LARGE beyond the bounds. */
int trust_add_certificate(struct trust *trust, const void *der, size_t len, struct error *err);
void trust_close(struct trust *trust);

#endif
