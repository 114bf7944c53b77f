/* FUMIDAI_LISTEN, as anybody might write it: what is taken can be written down
 * again and read back as the same. */
#include "tunnel/forward_spec.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_entry(struct writer *out, const struct forward_spec *entry)
{
    bool brackets = strchr(entry->host, ':') != NULL;
    writer_ip_port(out, entry->address, entry->port);
    writer_format(out, brackets ? "=[%s]:%u," : "=%s:%u,", entry->host, entry->host_port);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[FORWARD_SPECS_MAX * (DIAL_POLICY_HOST_SIZE + 80)];
    static struct forward_specs list, again;
    struct error err = ERROR_INIT;
    struct writer out = writer_of(text, sizeof text);
    if (forward_spec_parse(&list, (struct str){(const char *) data, size}, &err) != 0) {
        if (err.text[0] == '\0')
            abort();
        return 0;
    }
    for (size_t i = 0; i < list.count; i++)
        write_entry(&out, &list.entries[i]);
    if (out.failed || forward_spec_parse(&again, writer_view(&out), &err) != 0 || again.count != list.count)
        abort();
    for (size_t i = 0; i < list.count; i++) {
        const struct forward_spec *a = &list.entries[i], *b = &again.entries[i];
        if (!ip_equal(a->address, b->address) || a->port != b->port || strcmp(a->host, b->host) != 0 ||
            a->host_port != b->host_port)
            abort();
    }
    return 0;
}
