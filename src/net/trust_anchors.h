/*
 * trust_anchors: the CA certificates that this program believes without being told: those that AWS's
 * endpoints chain to (Amazon Root CA 1 to 4, Starfield Services Root CA G2).
 *
 * The table is generated at build time from the distribution's ca-certificates; third_party/trust_anchors
 * holds the SHA-256 of each certificate, and the build stops when one differs. Certificates that a user adds
 * (SSL_CERT_FILE, AWS_CA_BUNDLE) are the business of net/trust, not of this table.
 */
#ifndef FUMIDAI_NET_TRUST_ANCHORS_H
#define FUMIDAI_NET_TRUST_ANCHORS_H

#include <bearssl.h>
#include <stddef.h>

extern const br_x509_trust_anchor TRUST_ANCHORS[];
extern const size_t TRUST_ANCHOR_COUNT;

#endif
