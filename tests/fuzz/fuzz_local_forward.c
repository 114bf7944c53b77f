/* The values of -L, -D and -W, as anybody might write them. What is taken is within its bounds, what is not
 * is named. */
#include "tunnel/local_forward.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const parsers[])(struct local_forward *, struct str, struct error *) = {
        local_forward_parse_port, local_forward_parse_socks, local_forward_parse_stdio};
    for (size_t i = 0; i < sizeof parsers / sizeof parsers[0]; i++) {
        struct local_forward forward;
        struct error err = ERROR_INIT;
        int result = parsers[i](&forward, (struct str){(const char *) data, size}, &err);
        if ((result < 0) != (err.text[0] != '\0'))
            abort();
        if (result < 0)
            continue;
        bool has_target = forward.kind != LOCAL_FORWARD_SOCKS;
        if (has_target != (forward.host[0] != '\0') || has_target != (forward.host_port != 0))
            abort();
        if ((forward.kind == LOCAL_FORWARD_PATH) != (strchr(forward.path, '/') != NULL))
            abort();
    }
    return 0;
}
