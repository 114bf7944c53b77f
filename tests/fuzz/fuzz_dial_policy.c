/* FUMIDAI_ALLOW and addresses: a link-local address is refused whatever the rules and the host are. */
#include "tunnel/dial_policy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dial_policy policy;
    struct error err = ERROR_INIT;
    struct str allow;
    struct str host;
    struct ip address;
    str_cut((struct str){(const char *) data, size}, '\n', &allow, &host);
    if (dial_policy_init(&policy, allow, &err) < 0)
        return 0;
    if (!ip_parse(host, &address)) {
        const uint8_t metadata[4] = {169, 254, 169, 254};
        if (dial_policy_check(&policy, host, ip_v4(metadata), 80, &err) != ERROR_DENIED)
            abort();
        return 0;
    }
    char memory[IP_TEXT_SIZE];
    struct writer text = writer_of(memory, sizeof memory);
    struct ip again;
    writer_ip(&text, address);
    if (text.failed || !ip_parse(writer_view(&text), &again) || !ip_equal(again, address))
        abort();
    dial_policy_check(&policy, host, address, 443, &err);
    return 0;
}
