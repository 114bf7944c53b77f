#include "tunnel/dial_policy.h"

#include <string.h>

struct forbidden_block {
    const char *block;
    const char *why;
};

static const struct forbidden_block forbidden_blocks[] = {
    {"0.0.0.0/8", "0.0.0.0/8 is this host itself, not a target"},
    {"169.254.0.0/16", "link-local 169.254.0.0/16 holds the metadata and credentials endpoints"},
    {"224.0.0.0/4", "224.0.0.0/4 is multicast"},
    {"240.0.0.0/4", "240.0.0.0/4 is reserved or broadcast"},
    {"::/128", ":: is unspecified, not a target"},
    {"fe80::/10", "fe80::/10 is link-local"},
    {"fec0::/10", "fec0::/10 is site-local, withdrawn by RFC 3879"},
    {"ff00::/8", "ff00::/8 is multicast"},
    {"fd00:ec2::/32", "fd00:ec2::/32 holds the metadata and credentials endpoints"},
};

/* Where an IPv4 address hides in an IPv6 one: the block, and the byte it starts at. */
static const struct {
    const char *block;
    unsigned at;
} embedded_v4[] = {
    {"64:ff9b::/96", 12}, /* NAT64, RFC 6052 */
    {"::/96", 12},        /* IPv4-compatible, RFC 4291 2.5.5.1; ::1 is excepted below */
    {"2002::/16", 2},     /* 6to4, RFC 3056 */
};

enum { SUBNET_FIRST_RESERVED = 4 };

static bool in_block(const char *text, struct ip address)
{
    struct ip_block block;
    return ip_block_parse(str_from(text), &block) && ip_block_contains(block, address);
}

static struct ip unwrap_v4(struct ip address)
{
    if (address.version == IP_V4 || in_block("::1/128", address) || in_block("::/128", address))
        return address;
    for (size_t i = 0; i < sizeof embedded_v4 / sizeof embedded_v4[0]; i++)
        if (in_block(embedded_v4[i].block, address))
            return ip_v4(address.bytes + embedded_v4[i].at);
    return address;
}

static bool parse_ports(struct str text, uint16_t *first, uint16_t *last)
{
    struct str head;
    struct str tail;
    bool range = str_cut(text, '-', &head, &tail);
    if (!str_parse_port(head, first))
        return false;
    *last = *first;
    return !range || (str_parse_port(tail, last) && *last >= *first);
}

static bool is_pattern_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '*';
}

static bool is_pattern(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!is_pattern_char(text.ptr[i]))
            return false;
    return text.len > 0 && text.len < DIAL_POLICY_HOST_SIZE;
}

/* Splits "PATTERN[:PORTS]"; an IPv6 block holds colons of its own and so wants brackets before its ports. */
static bool split_rule(struct str text, struct str *target, struct str *ports)
{
    *ports = (struct str){NULL, 0};
    *target = text;
    if (text.ptr[0] == '[') {
        size_t end;
        if (!str_find(text, "]", &end))
            return false;
        *target = str_slice(text, 1, end);
        *ports = str_slice(text, end + 1, text.len);
        if (ports->len == 0)
            return true;
        if (ports->ptr[0] != ':' || ports->len == 1)
            return false;
        *ports = str_slice(*ports, 1, ports->len);
        return true;
    }
    struct str head;
    struct str tail;
    if (!str_cut(text, ':', &head, &tail) || memchr(tail.ptr, ':', tail.len) != NULL)
        return true;
    *target = head;
    *ports = tail;
    return tail.len > 0;
}

static int parse_rule(struct str text, struct dial_rule *rule, struct error *err)
{
    struct str target;
    struct str ports;
    *rule = (struct dial_rule){.text = text, .port_first = 1, .port_last = UINT16_MAX};
    if (!split_rule(text, &target, &ports))
        return error_set(err, ERROR_INVALID,
                         "rule \"%.*s\": want HOST, CIDR or [IPv6 CIDR], then optionally :PORTS",
                         STR_ARG(text));
    if (ports.len > 0 && !parse_ports(ports, &rule->port_first, &rule->port_last))
        return error_set(err, ERROR_INVALID,
                         "rule \"%.*s\": \"%.*s\" is neither a port (1-65535) nor a range a-b", STR_ARG(text),
                         STR_ARG(ports));
    if (ip_block_parse(target, &rule->block))
        return 0;
    if (memchr(target.ptr, '/', target.len) != NULL || memchr(target.ptr, ':', target.len) != NULL)
        return error_set(err, ERROR_INVALID,
                         "rule \"%.*s\": \"%.*s\" is not a CIDR block (are bits set beyond the prefix?)",
                         STR_ARG(text), STR_ARG(target));
    if (str_ends_with(target, ".")) /* a rooted name is the same name */
        target.len--;
    if (!is_pattern(target))
        return error_set(err, ERROR_INVALID, "rule \"%.*s\": \"%.*s\" is not a host name or pattern",
                         STR_ARG(text), STR_ARG(target));
    rule->pattern = target;
    return 0;
}

static bool is_separator(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\n';
}

int dial_policy_init(struct dial_policy *policy, struct str allow, struct error *err)
{
    memset(policy, 0, sizeof *policy);
    size_t at = 0;
    while (at < allow.len) {
        size_t end = at;
        while (end < allow.len && !is_separator(allow.ptr[end]))
            end++;
        if (end > at) {
            if (policy->rule_count == DIAL_POLICY_RULES_MAX)
                return error_set(err, ERROR_TOO_LARGE,
                                 "more than %d rules; join hosts with * or addresses in CIDR blocks",
                                 DIAL_POLICY_RULES_MAX);
            int result = parse_rule(str_slice(allow, at, end), &policy->rules[policy->rule_count], err);
            if (result < 0)
                return result;
            policy->rule_count++;
        }
        at = end + 1;
    }
    return 0;
}

void dial_policy_add_subnet(struct dial_policy *policy, struct ip_block subnet)
{
    if (policy->subnet_count < DIAL_POLICY_SUBNETS_MAX)
        policy->subnets[policy->subnet_count++] = subnet;
}

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* Glob with `*` only: on a mismatch go back to the last star and let it take one more; linear in memory, n*m
 * in time, both at most DIAL_POLICY_HOST_SIZE. */
static bool pattern_matches(struct str pattern, struct str host)
{
    size_t p = 0;
    size_t h = 0;
    size_t star = SIZE_MAX;
    size_t star_host = 0;
    while (h < host.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            star_host = h;
        } else if (p < pattern.len && fold(pattern.ptr[p]) == fold(host.ptr[h])) {
            p++;
            h++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            h = ++star_host;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*')
        p++;
    return p == pattern.len;
}

static bool rule_matches(const struct dial_rule *rule, struct str host, struct ip address, uint16_t port)
{
    if (port < rule->port_first || port > rule->port_last)
        return false;
    if (rule->pattern.len == 0)
        return ip_block_contains(rule->block, address);
    if (str_ends_with(host, "."))
        host.len--;
    return pattern_matches(rule->pattern, host);
}

/* Of any subnet: a VPC's are /28 or larger in IPv4, and begin at a multiple of /64 in IPv6. */
static bool may_be_reserved(const struct dial_policy *policy, struct ip address)
{
    static const uint8_t zeroes[7];
    if (address.version == IP_V4)
        return policy->ipv4_unknown && address.bytes[0] != 127 &&
               ((address.bytes[3] & 15) < SUBNET_FIRST_RESERVED || (address.bytes[3] & 15) == 15);
    return policy->ipv6_unknown && address.bytes[0] != 0 && address.bytes[15] < SUBNET_FIRST_RESERVED &&
           memcmp(address.bytes + 8, zeroes, sizeof zeroes) == 0;
}

static int refuse(struct error *err, const char *why)
{
    return error_set(err, ERROR_DENIED, "may not be dialled: %s", why);
}

int dial_policy_check(const struct dial_policy *policy, struct str host, struct ip address, uint16_t port,
                      struct error *err)
{
    struct ip effective = unwrap_v4(address);
    if (port == 0)
        return refuse(err, "port 0 is not a port");
    for (size_t i = 0; i < sizeof forbidden_blocks / sizeof forbidden_blocks[0]; i++)
        if (in_block(forbidden_blocks[i].block, effective))
            return refuse(err, forbidden_blocks[i].why);
    for (size_t i = 0; i < policy->subnet_count; i++) {
        struct ip_block subnet = policy->subnets[i];
        if (ip_block_among_first(subnet, effective, SUBNET_FIRST_RESERVED) ||
            (subnet.base.version == IP_V4 && ip_block_is_last(subnet, effective)))
            return refuse(err, "it is one of the addresses AWS reserves in this task's subnet");
    }
    if (may_be_reserved(policy, effective))
        return refuse(err, "AWS may reserve it: the metadata has not told this task's subnet so far");
    if (policy->rule_count == 0)
        return 0;
    for (size_t i = 0; i < policy->rule_count; i++)
        if (rule_matches(&policy->rules[i], host, effective, port))
            return 0;
    return refuse(err, "no rule of FUMIDAI_ALLOW matches this host, address and port");
}
