/*
 * dns_files: what the two files say that every C library reads: /etc/resolv.conf (which name servers, and how
 * to ask them) and /etc/hosts (names that need no name server). Lines that can't be understood are skipped,
 * as everywhere else.
 *
 *     nameserver ADDRESS     up to three; none at all means 127.0.0.1. Addresses with a zone (fe80::1%eth0)
 *                            are skipped
 *     search DOMAIN...       tried behind names that have fewer dots than ndots; the last line counts
 *     domain DOMAIN          the same, with one
 *     options ndots:N        how many dots a name must have to be asked for as it is (1; at most 15)
 *     options timeout:N      seconds that a silent server is waited for (5; at most 30)
 *     options attempts:N     how often each server is asked (2; at most 5)
 *
 * The defaults and bounds are those of resolv.conf(5).
 */
#ifndef FUMIDAI_WIRE_DNS_FILES_H
#define FUMIDAI_WIRE_DNS_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "base/ip.h"
#include "base/str.h"

enum {
    DNS_SERVERS_MAX = 3, /* as the C libraries (resolv.conf(5), MAXNS) */
    /* Six domains of forty characters; what does not fit as a whole word is left out. */
    DNS_SEARCH_SIZE = 256
};

struct dns_config {
    size_t server_count;
    struct ip servers[DNS_SERVERS_MAX];
    uint32_t ndots;
    uint32_t attempts;
    int64_t timeout_ms;
    size_t search_len;
    char search[DNS_SEARCH_SIZE]; /* domains, separated by spaces */
};

/* The empty text gives the defaults. */
void dns_config_parse(struct dns_config *config, struct str resolv_conf);

/* The addresses of a name in hosts(5), at most `max`, in the file's order; whether it has a dot at its end
 * does not matter. */
size_t dns_hosts_find(struct str hosts, struct str name, struct ip *addresses, size_t max);

#endif
