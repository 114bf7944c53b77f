/*
 * dial_policy: which addresses the relay may connect to. Plain functions, no lifecycle.
 *
 * The check is made on the resolved address, at the dial, for every dial: a name may point elsewhere a second
 * later, so an earlier check proves nothing. There are two layers.
 *
 * 1. Never allowed, whatever the settings say: addresses through which a person who may only forward a port
 *    would get the task's own permissions, or that are not a target at all.
 *
 *        0.0.0.0/8, ::                unspecified, "this network": Linux connects 0.0.0.0 to loopback
 *        169.254.0.0/16, fe80::/10    link-local: task metadata and credentials (169.254.170.2, .23),
 *                                     instance metadata (169.254.169.254), DNS, NTP
 *        fd00:ec2::/32                the same services on IPv6: ::254, ::23, ::253, ::123
 *        224.0.0.0/4, ff00::/8        multicast
 *        240.0.0.0/4                  reserved, broadcast
 *        fec0::/10                    site-local, withdrawn by RFC 3879
 *        the subnet's own             the first four addresses of each block in `subnets`, and the last of an
 *                                     IPv4 block (AWS, "Subnet CIDR blocks": network, router, DNS, future
 *                                     use, broadcast)
 *
 *    While that subnet is not known (`ipv4_unknown`, `ipv6_unknown`): what these are in some subnet, by the
 *    last four bits of an IPv4 address and the last 64 of an IPv6 one.
 *
 *    An IPv4 address inside IPv6 counts as that IPv4 address: ::ffff:0:0/96, ::/96, 64:ff9b::/96 (NAT64),
 *    2002::/16 (6to4).
 *
 * 2. FUMIDAI_ALLOW narrows what is left. Empty, it allows everything; otherwise one rule must match. Rules
 *    are separated by commas or blanks: "*.cluster.internal:5432-5439, 10.0.0.0/16:5439, [fd12::/16]:443".
 *
 *        PATTERN[:PORTS]
 *        PATTERN   a host name as the session asked for it, `*` standing for any run of characters; or an
 *                  address or CIDR block that holds the resolved address (IPv6 in brackets when ports follow)
 *        PORTS     a port, or a range a-b; all ports when omitted
 */
#ifndef FUMIDAI_TUNNEL_DIAL_POLICY_H
#define FUMIDAI_TUNNEL_DIAL_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/ip.h"
#include "base/str.h"

enum {
    DIAL_POLICY_RULES_MAX = 64, /* a list longer than this wants an address range, not more names */
    DIAL_POLICY_SUBNETS_MAX =
        4, /* a task has one network interface: one IPv4 block, one IPv6 block, room to spare */
    DIAL_POLICY_HOST_SIZE = 256 /* a DNS name has at most 253 characters (RFC 1035, 2.3.4) */
};

struct dial_rule {
    struct str text;    /* as written, for messages */
    struct str pattern; /* empty when `block` decides */
    struct ip_block block;
    uint16_t port_first;
    uint16_t port_last;
};

struct dial_policy {
    struct dial_rule rules[DIAL_POLICY_RULES_MAX];
    size_t rule_count;
    struct ip_block subnets[DIAL_POLICY_SUBNETS_MAX];
    size_t subnet_count;
    bool ipv4_unknown; /* the metadata has yet to tell the subnet's block */
    bool ipv6_unknown;
};

/* `allow` is kept by reference and must outlive the policy. ERROR_INVALID names the rule and what is wrong
 * with it; ERROR_TOO_LARGE beyond DIAL_POLICY_RULES_MAX. */
int dial_policy_init(struct dial_policy *policy, struct str allow, struct error *err);

/* A block of the subnet this task lives in, from the task's metadata. More than the maximum are ignored. */
void dial_policy_add_subnet(struct dial_policy *policy, struct ip_block subnet);

/* 0, or ERROR_DENIED with the rule named ("may not be dialled: ..."; who asks says of what). `host` is what
 * the session asked for, `address` what it resolved to now. */
int dial_policy_check(const struct dial_policy *policy, struct str host, struct ip address, uint16_t port,
                      struct error *err);

#endif
