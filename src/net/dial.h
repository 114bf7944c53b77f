/*
 * dial: from a name and a port to a connected socket, after RFC 8305 ("Happy Eyeballs"), without its
 * cleverness about DNS.
 *
 *     resolving ─► trying: address 1 … 250 ms or failure … address 2 … ─► connected (the others are closed)
 *         │           │                                              └──► failed: why, for each address
 *         └───────────┴── deadline ─► failed
 *
 * The resolver lets the families alternate, so that one without a route costs 250 ms, not the whole time
 * limit. `permit` decides about each resolved address directly before its connect(): a name whose answer has
 * changed since an earlier check can't get past it.
 *
 * Sockets come out non-blocking and close-on-exec.
 */
#ifndef FUMIDAI_NET_DIAL_H
#define FUMIDAI_NET_DIAL_H

#include <stdint.h>

#include "base/error.h"
#include "base/ip.h"
#include "host/descriptors.h"
#include "net/network.h"

enum { DIAL_NEXT_ADDRESS_MS = 250 /* RFC 8305, section 5, "Connection Attempt Delay" */ };

struct dial_request {
    const char *host; /* a name or an address without brackets; copied */
    uint16_t port;
    int64_t deadline_ms; /* for everything, resolving included */
    /* Null permits all. Negative refuses this address; the words go into the dial's error. */
    int (*permit)(void *context, const struct ip *address, uint16_t port, struct error *err);
    void *context;
    enum descriptors_use use; /* of the descriptors that it takes */
};

struct dial; /* allocated by dial_start, about 3 KiB, released by dial_close */

/* `done` is called once, from the loop, never from inside dial_start. */
int dial_start(struct dial **dial, struct network *network, const struct dial_request *request,
               void (*done)(struct dial *dial, void *owner), void *owner, struct error *err);

/* After done: the socket (the caller's from now on) and the address it reached; or a negative code with "dial
 * db.internal:5432: 10.0.1.5:5432: Connection refused; [fd00::1]:5432: Network is unreachable", or for a
 * literal address "dial 10.0.1.5:5432: Connection refused". ERROR_DENIED when `permit` refused every address,
 * ERROR_NOT_FOUND when the name has none, ERROR_TIMEOUT, else ERROR_UNAVAILABLE. */
int dial_take(struct dial *dial, struct ip *address, struct error *err);

void dial_close(struct dial *dial); /* at any time; null does no harm */

#endif
