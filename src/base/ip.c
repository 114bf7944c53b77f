#include "base/ip.h"

#include <string.h>

enum { V4_BYTES = 4, V6_BYTES = 16, V6_GROUPS = 8 };

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

struct ip ip_v4(const uint8_t bytes[4])
{
    struct ip address = {.version = IP_V4};
    memcpy(address.bytes, bytes, V4_BYTES);
    return address;
}

struct ip ip_v6(const uint8_t bytes[16])
{
    if (memcmp(bytes, v4_mapped, sizeof v4_mapped) == 0)
        return ip_v4(bytes + sizeof v4_mapped);
    struct ip address = {.version = IP_V6};
    memcpy(address.bytes, bytes, V6_BYTES);
    return address;
}

static bool parse_v4(struct str text, uint8_t out[V4_BYTES])
{
    for (unsigned i = 0; i < V4_BYTES; i++) {
        struct str part = text;
        struct str rest = {NULL, 0};
        bool cut = str_cut(text, '.', &part, &rest);
        uint32_t value;
        if (cut != (i + 1 < V4_BYTES) || part.len > 3 || !str_parse_u32(part, &value) || value > 255)
            return false;
        if (part.len > 1 && part.ptr[0] == '0') /* 010 is ten to some and eight to others: refused */
            return false;
        out[i] = (uint8_t) value;
        text = rest;
    }
    return true;
}

/* Reads groups up to the end or a "::"; the last may be an IPv4 address. Returns the bytes written, -1 when
 * malformed. */
static int parse_groups(struct str text, uint8_t *out, size_t capacity)
{
    size_t used = 0;
    while (text.len > 0) {
        struct str part;
        struct str rest;
        bool more = str_cut(text, ':', &part, &rest);
        uint64_t value;
        if (!more && memchr(part.ptr, '.', part.len) != NULL) {
            if (capacity - used < V4_BYTES || !parse_v4(part, out + used))
                return -1;
            return (int) (used + V4_BYTES);
        }
        if (part.len > 4 || !str_parse_hex_u64(part, &value) || capacity - used < 2)
            return -1;
        out[used++] = (uint8_t) (value >> 8);
        out[used++] = (uint8_t) value;
        if (more && rest.len == 0) /* a trailing single colon */
            return -1;
        text = rest;
    }
    return (int) used;
}

static bool parse_v6(struct str text, uint8_t out[V6_BYTES])
{
    uint8_t tail[V6_BYTES];
    size_t gap;
    memset(out, 0, V6_BYTES);
    if (!str_find(text, "::", &gap))
        return parse_groups(text, out, V6_BYTES) == V6_BYTES;
    int head_len = parse_groups(str_slice(text, 0, gap), out, V6_BYTES);
    int tail_len = parse_groups(str_slice(text, gap + 2, text.len), tail, V6_BYTES);
    if (head_len < 0 || tail_len < 0 || head_len + tail_len > V6_BYTES - 2)
        return false;
    if (head_len > 0 && memchr(text.ptr, '.', gap) != NULL) /* an IPv4 part may only stand last */
        return false;
    memcpy(out + V6_BYTES - tail_len, tail, (size_t) tail_len);
    return true;
}

bool ip_parse(struct str text, struct ip *address)
{
    uint8_t bytes[V6_BYTES];
    if (text.len == 0 || text.len >= IP_TEXT_SIZE)
        return false;
    if (memchr(text.ptr, ':', text.len) == NULL) {
        if (!parse_v4(text, bytes))
            return false;
        *address = ip_v4(bytes);
        return true;
    }
    if (!parse_v6(text, bytes))
        return false;
    *address = ip_v6(bytes);
    return true;
}

static unsigned group_at(struct ip address, int index)
{
    return (unsigned) address.bytes[2 * index] << 8 | address.bytes[2 * index + 1];
}

static void find_longest_zero_run(struct ip address, int *start, int *len)
{
    *start = V6_GROUPS;
    *len = 1; /* a single zero group is not shortened (RFC 5952, 4.2.2) */
    for (int i = 0; i < V6_GROUPS; i++) {
        int end = i;
        while (end < V6_GROUPS && group_at(address, end) == 0)
            end++;
        if (end - i > *len) {
            *start = i;
            *len = end - i;
        }
        if (end > i)
            i = end;
    }
}

void writer_ip(struct writer *w, struct ip address)
{
    if (address.version == IP_V4) {
        writer_format(w, "%u.%u.%u.%u", address.bytes[0], address.bytes[1], address.bytes[2],
                      address.bytes[3]);
        return;
    }
    int run_start;
    int run_len;
    find_longest_zero_run(address, &run_start, &run_len);
    for (int i = 0; i < V6_GROUPS; i++) {
        if (i == run_start) {
            writer_text(w, "::");
            i += run_len - 1;
            continue;
        }
        if (i > 0 && i != run_start + run_len)
            writer_char(w, ':');
        writer_format(w, "%x", group_at(address, i));
    }
}

void writer_ip_port(struct writer *w, struct ip address, uint16_t port)
{
    writer_text(w, address.version == IP_V6 ? "[" : "");
    writer_ip(w, address);
    writer_text(w, address.version == IP_V6 ? "]:" : ":");
    writer_u64_decimal(w, port);
}

bool ip_equal(struct ip a, struct ip b)
{
    return a.version == b.version && memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

bool ip_is_loopback(struct ip address)
{
    static const uint8_t v6[16] = {[15] = 1};
    return address.version == IP_V4 ? address.bytes[0] == 127 : ip_equal(address, ip_v6(v6));
}

static unsigned address_bits(struct ip address)
{
    return address.version == IP_V4 ? 8 * V4_BYTES : 8 * V6_BYTES;
}

/* The address with every bit beyond the prefix set to `bit`. */
static struct ip fill_host_bits(struct ip address, unsigned prefix_bits, bool bit)
{
    for (unsigned i = prefix_bits; i < address_bits(address); i++) {
        uint8_t mask = (uint8_t) (0x80u >> (i % 8));
        if (bit)
            address.bytes[i / 8] |= mask;
        else
            address.bytes[i / 8] &= (uint8_t) ~mask;
    }
    return address;
}

bool ip_block_parse(struct str text, struct ip_block *block)
{
    struct str head;
    struct str tail;
    bool has_prefix = str_cut(text, '/', &head, &tail);
    uint32_t prefix_bits;
    if (!ip_parse(head, &block->base))
        return false;
    if (!has_prefix)
        prefix_bits = address_bits(block->base);
    else if (tail.len > 3 || !str_parse_u32(tail, &prefix_bits) || prefix_bits > address_bits(block->base))
        return false;
    block->prefix_bits = (uint8_t) prefix_bits;
    return ip_equal(fill_host_bits(block->base, prefix_bits, false), block->base);
}

bool ip_block_contains(struct ip_block block, struct ip address)
{
    return address.version == block.base.version &&
           ip_equal(fill_host_bits(address, block.prefix_bits, false), block.base);
}

bool ip_block_among_first(struct ip_block block, struct ip address, unsigned count)
{
    if (!ip_block_contains(block, address))
        return false;
    unsigned bits = address_bits(address);
    uint64_t offset = 0;
    for (unsigned i = block.prefix_bits; i < bits; i++) {
        if (offset > UINT64_MAX / 2)
            return false;
        offset = offset << 1 | ((address.bytes[i / 8] >> (7 - i % 8)) & 1u);
    }
    return offset < count;
}

bool ip_block_is_last(struct ip_block block, struct ip address)
{
    return ip_block_contains(block, address) &&
           ip_equal(fill_host_bits(block.base, block.prefix_bits, true), address);
}
