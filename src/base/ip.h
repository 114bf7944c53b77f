/*
 * ip: addresses as bytes, read, written and compared without the C library's resolver types, so that policy
 * and proxy rules stay pure. An IPv4 address mapped into IPv6 (::ffff:a.b.c.d) is the IPv4 address: whoever
 * checks addresses must not be fooled by its spelling.
 */
#ifndef FUMIDAI_BASE_IP_H
#define FUMIDAI_BASE_IP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/str.h"

enum { IP_TEXT_SIZE = 64 /* the longest IPv6 form, a zone, brackets, a port, the terminator */ };

struct ip {
    uint8_t version;   /* 4 or 6; 0 is no address */
    uint8_t bytes[16]; /* network order; an IPv4 address uses the first four, the others are 0 */
    uint32_t zone;     /* the interface index of a link-local IPv6 address, else 0 */
};

struct ip_network {
    struct ip base;
    uint8_t prefix_bits;
};

struct ip ip_from_v4(const uint8_t bytes[4]);
struct ip ip_from_v6(const uint8_t bytes[16], uint32_t zone); /* a mapped one becomes IPv4 */

/* "10.0.0.1" (four decimal fields, no leading zeroes), "fd00::1", "[fd00::1]"; no zones. */
bool ip_parse(struct str text, struct ip *ip);
/* "10.0.0.0/8"; a plain address is a network of one. Bits below the prefix are ignored. */
bool ip_network_parse(struct str text, struct ip_network *network);

bool ip_equal(const struct ip *a, const struct ip *b); /* zones aside */
bool ip_in_network(const struct ip *ip, const struct ip_network *network);

void writer_ip(struct writer *w, const struct ip *ip);                     /* RFC 5952 */
void writer_ip_port(struct writer *w, const struct ip *ip, uint16_t port); /* "10.0.0.1:80", "[fd00::1]:80" */

#endif
