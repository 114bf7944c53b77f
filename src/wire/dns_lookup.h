/*
 * dns_lookup: the addresses of one name, from the name servers of resolv.conf: which server is asked what and
 * when, and what the answers mean together. An engine: bytes and the time go in, steps come out; the sockets
 * are the caller's (net/resolver).
 *
 * A name has two questions, A and AAAA, which are asked at the same time. Each goes its own way:
 *
 *     asking ─► answered: addresses, no addresses (NODATA) or no such name (NXDOMAIN)
 *      │ ▲ ▲
 *      │ │ └─ silence of 0.5 s, 1 s, 2 s …: asked again, of the next server
 *      │ └─── SERVFAIL, REFUSED, can't be reached: at once of a server that was not asked yet
 *      │ └─── truncated: over TCP, of the same server
 *      └────► failed: all servers failed, or were silent when each had been asked `attempts` times
 *
 * The answer of a server that was slow counts as long as the question is open. When one question has
 * addresses and the other is still open, the other gets DNS_WAIT_FOR_IPV6_MS or DNS_WAIT_FOR_IPV4_MS more: a
 * family that fails, or whose answers are lost, must not make a name unreachable that has addresses of the
 * other.
 *
 * A name with fewer dots than `ndots` is asked for with each domain of the search list behind it, then as it
 * is; with as many dots, or one at its end, only as it is. The next form is tried after "no such name" and
 * "no addresses" only: where a server fails, a later form might be another host's name.
 *
 * What is sent follows RFC 1035 and 6891: the first time with OPT, so that large answers need no TCP; again
 * without it, for servers and firewalls that don't know it. Each question to each server has an id of its
 * own, and a socket, which never serves a second question.
 */
#ifndef FUMIDAI_WIRE_DNS_LOOKUP_H
#define FUMIDAI_WIRE_DNS_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/ip.h"
#include "base/str.h"
#include "wire/dns.h"
#include "wire/dns_files.h"

enum {
    DNS_QUESTIONS = 2, /* A and AAAA */
    DNS_EXCHANGES = DNS_QUESTIONS * DNS_SERVERS_MAX,
    /* Of a name: so many of each family. */
    DNS_RESULT_ADDRESSES_MAX = DNS_QUESTIONS * DNS_ADDRESSES_MAX,
    /* A name server of a VPC answers what it knows in 1 ms. One that has to ask others takes longer, and is
     * not hurt by a question that comes twice. */
    DNS_FIRST_SILENCE_MS = 500,
    /* RFC 8305, section 3, "Resolution Delay". */
    DNS_WAIT_FOR_IPV6_MS = 50,
    /* IPv6 alone may lead nowhere from here: the other question gets the time to be asked once more. */
    DNS_WAIT_FOR_IPV4_MS = 1000
};

enum dns_outcome {
    DNS_SILENT,       /* no server answered in time */
    DNS_FAILED,       /* a server answered with a code that is not an answer, or with nonsense */
    DNS_UNREACHABLE,  /* a server can't be asked: no route, nothing listens there, no descriptors */
    DNS_NO_NAME,      /* the name does not exist */
    DNS_NO_ADDRESSES, /* it exists, and has none */
    DNS_FOUND
};

struct dns_result {
    enum dns_outcome outcome;
    int detail;       /* DNS_FAILED: an enum dns_code, OK for nonsense; DNS_UNREACHABLE: an errno */
    struct ip server; /* of these two: the one that failed last */
    size_t count;
    struct ip addresses[DNS_RESULT_ADDRESSES_MAX]; /* IPv6 first; each family in its server's order */
};

enum dns_step_type {
    DNS_STEP_NONE,  /* wait for a socket or dns_lookup_deadline */
    DNS_STEP_OPEN,  /* close the exchange's socket, if it has one; connect a new one, send the query */
    DNS_STEP_SEND,  /* send the query once more over the socket that is there */
    DNS_STEP_CLOSE, /* close it */
    DNS_STEP_DONE   /* lookup->result is there. Sockets that are still open can be closed */
};

struct dns_step {
    enum dns_step_type type;
    unsigned exchange; /* below DNS_EXCHANGES */
    struct ip server;
    bool over_tcp; /* a length of two bytes goes in front of each message */
};

/* One question to one server. */
struct dns_exchange {
    enum { DNS_EXCHANGE_UNUSED, DNS_EXCHANGE_UDP, DNS_EXCHANGE_TCP, DNS_EXCHANGE_OVER } state;
    enum dns_step_type todo;
    uint16_t id;
    bool has_id;
    bool is_plain; /* without OPT */
};

struct dns_question {
    enum dns_type type;
    bool is_open;
    int64_t due_ms;     /* asked again, or given up */
    int64_t silence_ms; /* how long the next silence is waited for */
    unsigned sent;
    size_t next_server;
    struct dns_result result; /* while it is open: addresses of a truncated answer, and the last failure */
};

struct dns_lookup {
    struct dns_config config;
    struct dns_question questions[DNS_QUESTIONS];
    struct dns_exchange exchanges[DNS_EXCHANGES];
    int64_t settle_ms; /* when the question that is still open is given up */
    size_t search_at;  /* what was taken of the search list */
    bool was_asked_as_it_is;
    bool exists; /* a form had no addresses, which is more than no name */
    bool is_done;
    struct dns_result result;
    char name[DNS_NAME_SIZE];
    char asked[DNS_NAME_SIZE]; /* the name with what is behind it */
};

/* The name must have passed dns_check_name and fit; the configuration is copied. */
void dns_lookup_start(struct dns_lookup *lookup, const struct dns_config *config, struct str name,
                      int64_t now_ms);

/* What to do next. Ask after every other call here, until it is NONE or DONE. */
void dns_lookup_next(struct dns_lookup *lookup, struct dns_step *step);
/* The query of an exchange, at most DNS_QUERY_MAX bytes. `random` comes from the kernel and becomes the id of
 * an exchange that is new. */
void dns_lookup_query(struct dns_lookup *lookup, unsigned exchange, uint16_t random, struct writer *w);
/* A message that came over the exchange's socket; over TCP the beginning of a long one is enough. What is no
 * answer to the question is dropped. */
void dns_lookup_received(struct dns_lookup *lookup, unsigned exchange, const uint8_t *bytes, size_t len,
                         int64_t now_ms);
/* The socket can't be opened, or broke (also: a TCP connection that ended before the answer did). */
void dns_lookup_broke(struct dns_lookup *lookup, unsigned exchange, int system_error, int64_t now_ms);

int64_t dns_lookup_deadline(const struct dns_lookup *lookup); /* INT64_MAX once done */
void dns_lookup_tick(struct dns_lookup *lookup, int64_t now_ms);

/* Why there are no addresses. ERROR_NOT_FOUND: there is no such name, or it has none; asking again does not
 * help. ERROR_UNAVAILABLE: no server could say. */
int dns_result_explain(const struct dns_result *result, struct error *err);

#endif
