/*
 * tls: one BearSSL client, set up for what AWS's endpoints speak and nothing else: TLS 1.2, ECDHE, AES-GCM
 * (and ChaCha20-Poly1305 on arm64), certificates signed with RSA or ECDSA over SHA-2. BearSSL's engine is
 * itself a state machine without I/O, so the stream pumps it directly (tls_engine); this module knows how it
 * is configured and what its error numbers mean.
 *
 * A host's name is checked against the certificate's DNS names, an address against its IP addresses (and is
 * not sent as SNI). What BearSSL takes without a look is looked at here (wire/certificate.h). Time for
 * validity comes from the wall clock, randomness from the kernel.
 */
#ifndef FUMIDAI_NET_TLS_H
#define FUMIDAI_NET_TLS_H

#include <bearssl.h>

#include "base/error.h"
#include "net/trust.h"

struct tls; /* contexts and record buffers, one block of about 42 KiB */

/* Ready to produce its ClientHello. `trust` and `host` must outlive it. */
int tls_open(struct tls **tls, const struct trust *trust, const char *host, struct error *err);
br_ssl_engine_context *tls_engine(struct tls *tls);
/* Why the engine closed, in words; 0 when it closed in order. ERROR_DENIED: the certificate;
 * ERROR_UNSUPPORTED: nothing in common; ERROR_INVALID: the peer broke the protocol; ERROR_UNAVAILABLE: the
 * peer gave up. */
int tls_explain(const struct tls *tls, struct error *err);
void tls_close(struct tls *tls); /* wipes; null does no harm */

#endif
