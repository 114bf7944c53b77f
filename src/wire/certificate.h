/*
 * certificate: what BearSSL's validation does not look at in an X.509 certificate (RFC 5280): iPAddress
 * names, the purpose in a key usage extension that is not critical, name constraints, and which critical
 * extension it was that it could not take. A certificate that can't be read has none of that; BearSSL refuses
 * it by itself.
 */
#ifndef FUMIDAI_WIRE_CERTIFICATE_H
#define FUMIDAI_WIRE_CERTIFICATE_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/ip.h"
#include "base/str.h"

struct certificate_facts {
    bool names_address; /* `address` is among its subject's alternative names */
    bool is_for_others; /* its extended key usage has neither serverAuth nor any */
    /* The OID of an extension that nobody checks: critical and unknown to BearSSL, or name constraints,
     * critical or not; else empty. */
    struct str unchecked;
};

/* `der` is one certificate; the OID is a part of it. */
void certificate_read(struct certificate_facts *facts, struct str der, struct ip address);
/* "name constraints (2.5.29.30)" */
void certificate_write_extension(struct writer *w, struct str oid);

#endif
