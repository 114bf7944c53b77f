/*
 * ip: internet addresses and blocks of them as values. An IPv4 address that is written as IPv6
 * (::ffff:0:0/96) is the IPv4 address: a rule about 169.254.0.0/16 must hold however the address was written.
 */
#ifndef FUMIDAI_BASE_IP_H
#define FUMIDAI_BASE_IP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/str.h"

enum {
    IP_V4 = 4,
    IP_V6 = 6,
    IP_TEXT_SIZE = 46 /* INET6_ADDRSTRLEN */
};

struct ip {
    uint8_t version;   /* IP_V4 or IP_V6 */
    uint8_t bytes[16]; /* network order; the first four count for IPv4, the others are 0 */
};

struct ip_block {
    struct ip base; /* bits beyond the prefix are 0 */
    uint8_t prefix_bits;
};

struct ip ip_v4(const uint8_t bytes[4]);
struct ip ip_v6(const uint8_t bytes[16]); /* unwraps ::ffff:0:0/96 */
/* "10.0.0.1" (four decimal parts, no leading zeroes) or RFC 4291 text without a zone. */
bool ip_parse(struct str text, struct ip *address);
/* RFC 5952 text for IPv6: lower case, the longest run of two or more zero groups as "::". */
void writer_ip(struct writer *w, struct ip address);
void writer_ip_port(struct writer *w, struct ip address, uint16_t port); /* "10.0.0.1:80", "[fd00::1]:80" */
bool ip_equal(struct ip a, struct ip b);
bool ip_is_loopback(struct ip address); /* 127.0.0.0/8, ::1 */

/* "10.0.0.0/8", "fd00::/8", or a bare address, which is a block of one. Host bits must be zero. */
bool ip_block_parse(struct str text, struct ip_block *block);
bool ip_block_contains(struct ip_block block, struct ip address);
/* Whether the address is among the block's first `count`, or its last. Both false for addresses outside. */
bool ip_block_among_first(struct ip_block block, struct ip address, unsigned count);
bool ip_block_is_last(struct ip_block block, struct ip address);

#endif
