/* The key of a session of `aws login`, in PEM. */
#include "net/dpop.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char memory[DPOP_PROOF_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    struct error err = ERROR_INIT;
    int result = dpop_write_proof(&out, (struct str){(const char *) data, size}, "POST",
                                  STR_LITERAL("https://localhost/v1/token"), "j", 1, &err);
    if ((result == 0) != (err.code == ERROR_NONE) || (result == 0) != (out.len > 100))
        abort();
    return 0;
}
