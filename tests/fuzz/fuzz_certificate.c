/* A certificate as a peer may send it. */
#include "wire/certificate.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str der = {(const char *) data, size};
    struct certificate_facts facts;
    char text[64];
    struct writer w = writer_of(text, sizeof text);
    certificate_read(&facts, der, ip_v4((const uint8_t[]){127, 0, 0, 1}));
    const char *oid = facts.unchecked.ptr;
    if (facts.unchecked.len > 0 && (oid < der.ptr || oid + facts.unchecked.len > der.ptr + size))
        abort();
    certificate_write_extension(&w, facts.unchecked);
    writer_terminate(&w);
    return 0;
}
