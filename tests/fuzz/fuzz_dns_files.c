/* resolv.conf and hosts, and the name that is looked for: the parts of the input, separated by zero bytes. */
#include "wire/dns.h"
#include "wire/dns_files.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text;
    struct str name;
    struct dns_config config;
    struct ip addresses[4];
    str_cut((struct str){(const char *) data, size}, '\0', &text, &name);
    dns_config_parse(&config, text);
    require(config.server_count >= 1 && config.server_count <= DNS_SERVERS_MAX);
    require(config.search_len <= DNS_SEARCH_SIZE && config.ndots <= 15);
    require(config.attempts >= 1 && config.attempts <= 5);
    require(config.timeout_ms >= 1000 && config.timeout_ms <= 30000);
    require(dns_hosts_find(text, name, addresses, 4) <= 4);
    if (dns_check_name(name, NULL) != 0)
        return 0;
    uint8_t bytes[DNS_QUERY_MAX];
    struct writer w = writer_of(bytes, sizeof bytes);
    dns_write_query(&w, 1, name, DNS_TYPE_A, true);
    require(!w.failed); /* what passes the check fits */
    return 0;
}
