/*
 * tcp_endpoints: the sockets of one tunnel's streams, one for each slot: targets that are dialled (agent), or
 * local connections that were accepted (client). It carries out the tunnel's steps and tells the tunnel the
 * news.
 *
 *     open ──► dialling ──► connected ◄── adopt (accepted elsewhere)
 *                 │ failed        │ close (what was written arrives: run/linger), reset, broke
 *                 └───────────────┴──► gone
 *
 * The probe. Before a session's handshake is complete its target is dialled once, to say what was reached.
 * That connection becomes the first stream's: a server that accepts one connection (nc -l, a debugger) is not
 * used up by it, and one that counts connections without a log-in sees none. If no stream comes within
 * TCP_ENDPOINTS_PROBE_KEPT_MS it is closed.
 */
#ifndef FUMIDAI_RUN_TCP_ENDPOINTS_H
#define FUMIDAI_RUN_TCP_ENDPOINTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/ip.h"
#include "net/network.h"
#include "net/tcp.h"
#include "run/linger.h"
#include "run/turn.h"

enum {
    TCP_ENDPOINTS_PROBE_KEPT_MS =
        10 * 1000, /* MySQL and PostgreSQL close a connection without a log-in after 10 s and 60 s */
    TCP_ENDPOINTS_ADDRESS_SIZE = IP_TEXT_SIZE + 8 /* brackets, colon, port */
};

struct tcp_endpoints;

struct tcp_endpoint {
    struct tcp_endpoints *set;
    struct tcp tcp;
    const char *host; /* what was asked for: the session's own, or own_host */
    char *own_host;
    uint16_t port;
    uint16_t stream;
    bool in_use;
    bool connected;
    int64_t since_ms;
};

enum { TCP_ENDPOINTS_MEMORY_SIZE = STREAMS_MAX * (int) sizeof(struct tcp_endpoint) };

struct tcp_endpoints {
    /* The owner's, set before the first call. */
    struct tunnel *tunnel;
    struct network *network;
    struct linger_set *linger;
    uint64_t number; /* of the session, for run/linger */
    int64_t dial_timeout_ms;
    struct tcp_endpoint *slots; /* TCP_ENDPOINTS_MEMORY_SIZE zeroed bytes */
    int (*permit)(void *context, const char *host, const struct ip *address, uint16_t port,
                  struct error *err);
    void (*changed)(void *context); /* there is news for the tunnel: its turn has to run */
    void (*opened)(void *context, const struct tcp_endpoint *endpoint);
    void (*closed)(void *context, const struct tcp_endpoint *endpoint, const char *why);
    void (*probed)(void *context,
                   const struct error *failure); /* null: it was reached, tcp_endpoints_probe_address */
    void *context;

    /* private */
    struct tcp probe;
    struct tcp_endpoint probe_for; /* what permit is asked about */
    struct loop_timer probe_timer;
    bool probing;
    uint16_t probe_waiter; /* the stream that waits for it, STREAMS_NONE when none does */
};

void tcp_endpoints_init(struct tcp_endpoints *set);
/* Closes every connection: what was written still arrives. */
void tcp_endpoints_close(struct tcp_endpoints *set, const char *why);

/* Dials once, for `probed`. Negative when that could not even be tried. */
int tcp_endpoints_probe(struct tcp_endpoints *set, const char *host, uint16_t port, int64_t timeout_ms,
                        struct error *err);
const char *tcp_endpoints_address(const struct tcp *tcp, char out[TCP_ENDPOINTS_ADDRESS_SIZE]);

/* Client: an accepted socket becomes this stream's. Negative, and it is closed,
 * when the loop does not take it. */
int tcp_endpoints_adopt(struct tcp_endpoints *set, uint16_t stream, int fd, struct error *err);
/* The same with a connection that somebody else has talked to so far; `from` is closed in any case. */
int tcp_endpoints_take(struct tcp_endpoints *set, uint16_t stream, struct tcp *from, struct error *err);

/* For struct turn_endpoint_ops; the context is the set. */
void tcp_endpoints_open(void *context, uint16_t stream, const char *host, uint16_t port);
void tcp_endpoints_read(void *context, uint16_t stream, const struct iovec *vectors, int count,
                        struct tunnel_result *result);
void tcp_endpoints_write(void *context, uint16_t stream, const struct iovec *vectors, int count,
                         struct tunnel_result *result);
void tcp_endpoints_shut(void *context, uint16_t stream);
void tcp_endpoints_end(void *context, uint16_t stream, const char *why);
void tcp_endpoints_reset(void *context, uint16_t stream, const char *why);

#endif
