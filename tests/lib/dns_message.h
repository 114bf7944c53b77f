/*
 * dns_message: answers of name servers, for tests of what asks them; written by other code than the one that
 * is tested. An owner is given by its place in the message, which becomes a compression pointer.
 */
#ifndef FUMIDAI_TESTS_DNS_MESSAGE_H
#define FUMIDAI_TESTS_DNS_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

enum {
    DNS_MESSAGE_QUESTION = 12, /* where the name stands that was asked for */
    DNS_MESSAGE_TRUNCATED = 0x0200,
    DNS_MESSAGE_ANSWER = 0x8180 /* flags of an ordinary one: response, recursion desired and available */
};

struct dns_message {
    uint8_t bytes[65535];
    size_t len;
};

/* Header and question; the code is or-ed to the flags. */
void dns_message_begin(struct dns_message *m, unsigned id, unsigned flags, const char *name, unsigned type);
/* Appends a record, and counts it. Returns the place of its data. */
size_t dns_message_add(struct dns_message *m, size_t owner, unsigned type, const void *data, size_t len);
void dns_message_add_address(struct dns_message *m, size_t owner, const char *text);
/* A CNAME. Returns the place of the name that it leads to. */
size_t dns_message_add_alias(struct dns_message *m, size_t owner, const char *name);
/* The name in its form for a message, at most 255 bytes; its length. */
size_t dns_message_name(uint8_t *out, const char *name);

#endif
