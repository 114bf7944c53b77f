/*
 * dns: questions to name servers, and their answers: RFC 1035, RFC 3596 (IPv6 addresses), RFC 6891 (answers
 * of more than 512 bytes). Only what looking up a name's addresses takes: the types A and AAAA,
 * class IN, recursion by the server.
 *
 *     ┌────────────────────────────────────────────┐
 *     │ id │ flags │ 4 counts       12 bytes       │
 *     ├────────────────────────────────────────────┤
 *     │ question: name │ type │ class              │  one; an answer repeats it
 *     ├────────────────────────────────────────────┤
 *     │ records: name │ type │ class │ TTL │ data  │  in the answer: CNAMEs and addresses, in any order
 *     ├────────────────────────────────────────────┤
 *     │ authority, additional                      │  not read; in the question: OPT, which says how large
 *     └────────────────────────────────────────────┘  an answer may be
 *
 * A name is a row of labels; its end may be a pointer to an earlier place in the message (compression). A
 * pointer that leads anywhere but backwards ends the reading, and so does a name with too many labels: no
 * answer makes the parser loop.
 *
 * An answer is taken only when its id and its question are those that were asked for. That it came from the
 * server is the socket's business, which is connected. TTLs are not read: nothing is cached.
 */
#ifndef FUMIDAI_WIRE_DNS_H
#define FUMIDAI_WIRE_DNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/ip.h"
#include "base/str.h"

enum {
    /* RFC 1035, 2.3.4: 255 bytes in a message, which are 253 characters as text. */
    DNS_NAME_SIZE = 254, /* with the terminator */
    DNS_LABEL_MAX = 63,  /* the same section */
    /* Header, the longest name, type and class, OPT. */
    DNS_QUERY_MAX = 12 + 255 + 4 + 11,
    /* What we say an answer over UDP may have: the size that passes without fragments (DNS Flag Day 2020). */
    DNS_UDP_ANSWER_MAX = 1232,
    /* Of one answer; more would not be dialled within any time limit. The rest is not read. */
    DNS_ADDRESSES_MAX = 8,
    /* CNAMEs that lead from the name to its addresses; content networks have up to five. */
    DNS_ALIASES_MAX = 8
};

enum dns_type { DNS_TYPE_A = 1, DNS_TYPE_CNAME = 5, DNS_TYPE_AAAA = 28, DNS_TYPE_OPT = 41 };

enum dns_code {
    DNS_CODE_OK = 0,
    DNS_CODE_MALFORMED = 1, /* FORMERR: from old servers, also when they don't know OPT */
    DNS_CODE_FAILED = 2,    /* SERVFAIL */
    DNS_CODE_NO_NAME = 3,   /* NXDOMAIN */
    DNS_CODE_UNKNOWN = 4,   /* NOTIMP */
    DNS_CODE_REFUSED = 5    /* REFUSED */
};

/* Whether this can be asked for: 1 to 253 characters, labels of 1 to 63, letters, digits, "-" and "_"; one
 * dot at the end is allowed. ERROR_INVALID says what is wrong. */
int dns_check_name(struct str name, struct error *err);

/* Names as they are compared: without regard to the case of ASCII letters, and to one dot at the end. */
bool dns_same_text(struct str a, struct str b);
struct str dns_without_last_dot(struct str name);

/* The name must have passed dns_check_name. `wants_more` adds OPT. */
void dns_write_query(struct writer *w, uint16_t id, struct str name, enum dns_type type, bool wants_more);

struct dns_answer {
    enum dns_code code;
    bool is_truncated; /* the server said so, or the bytes end in the middle */
    size_t count;
    struct ip addresses[DNS_ADDRESSES_MAX]; /* in the server's order, each once */
};

/* False when this is not an answer to that question: somebody else's, or noise. */
bool dns_parse_answer(struct dns_answer *answer, const uint8_t *bytes, size_t len, uint16_t id,
                      struct str name, enum dns_type type);

#endif
