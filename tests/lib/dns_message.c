#include "lib/dns_message.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(struct dns_message *m, const void *data, size_t len)
{
    if (len > sizeof m->bytes - m->len) {
        fputs("dns_message: too long\n", stderr);
        exit(1);
    }
    memcpy(m->bytes + m->len, data, len);
    m->len += len;
}

static void put_u16(struct dns_message *m, unsigned value)
{
    put(m, (const uint8_t[]){(uint8_t) (value >> 8), (uint8_t) value}, 2);
}

size_t dns_message_name(uint8_t *out, const char *name)
{
    size_t len = 0;
    while (*name != '\0') {
        size_t label = strcspn(name, ".");
        out[len++] = (uint8_t) label;
        memcpy(out + len, name, label);
        len += label;
        name += label + (name[label] == '.');
    }
    out[len++] = 0;
    return len;
}

void dns_message_begin(struct dns_message *m, unsigned id, unsigned flags, const char *name, unsigned type)
{
    uint8_t encoded[256];
    size_t len = dns_message_name(encoded, name);
    m->len = 0;
    put_u16(m, id);
    put_u16(m, flags);
    put_u16(m, 1);
    put_u16(m, 0);
    put_u16(m, 0);
    put_u16(m, 0);
    put(m, encoded, len);
    put_u16(m, type);
    put_u16(m, 1);
}

size_t dns_message_add(struct dns_message *m, size_t owner, unsigned type, const void *data, size_t len)
{
    unsigned count = (unsigned) (m->bytes[6] << 8 | m->bytes[7]) + 1;
    m->bytes[6] = (uint8_t) (count >> 8);
    m->bytes[7] = (uint8_t) count;
    put_u16(m, 0xc000 | (unsigned) owner);
    put_u16(m, type);
    put_u16(m, 1);
    put(m, "\0\0\0\x3c", 4); /* TTL */
    put_u16(m, (unsigned) len);
    size_t at = m->len;
    put(m, data, len);
    return at;
}

void dns_message_add_address(struct dns_message *m, size_t owner, const char *text)
{
    uint8_t bytes[16];
    if (inet_pton(AF_INET, text, bytes) == 1)
        dns_message_add(m, owner, 1, bytes, 4);
    else if (inet_pton(AF_INET6, text, bytes) == 1)
        dns_message_add(m, owner, 28, bytes, 16);
}

size_t dns_message_add_alias(struct dns_message *m, size_t owner, const char *name)
{
    uint8_t encoded[256];
    return dns_message_add(m, owner, 5, encoded, dns_message_name(encoded, name));
}
