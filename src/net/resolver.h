/*
 * resolver: names to addresses without stopping the loop. There are no threads and no C library behind it:
 * the engine of wire/dns_lookup decides which server to ask, this module has the sockets and reads the files.
 *
 *     literal address ─► answered
 *     in /etc/hosts ───► answered: these addresses and no others
 *     localhost, *.localhost ─► answered: 127.0.0.1 and ::1 (RFC 6761, section 6.3)
 *     anything else ───► waiting for one of RESOLVER_LOOKUPS_MAX ─► being looked up ─► answered
 *
 * An answer is always told from the loop, never from inside resolver_start. All requests for a name at the
 * same time share one lookup; it ends at once when the last of them is cancelled. Nothing is cached: the next
 * request gets a new answer. Time limits are the caller's: cancel.
 *
 * Addresses come in the order in which they should be tried: the families take turns (RFC 8305, section 4),
 * first the one that is likelier to lead somewhere (RFC 6724: a route, a source address of the same kind, and
 * then IPv6 before IPv4, IPv4 before private IPv6); within a family as the server or the file has them.
 *
 * /etc/resolv.conf and /etc/hosts are read in resolver_open, and again before a lookup when that was a second
 * ago. Open it before entering a sandbox: a file that can't be opened any more stays as it was read last.
 *
 * Each question to each server has a socket of its own, connected, with a port that the kernel chose at
 * random: an answer from elsewhere never gets here, and a forged one has to guess 16 bits of port and 16 of
 * id. A lookup has two sockets open, and up to six when servers are silent.
 */
#ifndef FUMIDAI_NET_RESOLVER_H
#define FUMIDAI_NET_RESOLVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/list.h"
#include "host/descriptors.h"
#include "host/loop.h"
#include "wire/dns_lookup.h"

enum {
    /* Names at once. Silent name servers hold two to six descriptors for each, and other names wait. */
    RESOLVER_LOOKUPS_MAX = 16,
    /* Of these, kept back for what is not a stream: names that users choose, and whose servers are silent,
     * must not keep the control channel from its own. */
    RESOLVER_LOOKUPS_RESERVE = 4,
    /* Requests that wait: more than all streams of a full session that dial at once. */
    RESOLVER_WAITING_MAX = 1024,
    /* Answers that are told in a turn of the loop; each begins a dial. */
    RESOLVER_TOLD_A_TURN = 32,
    /* Read of /etc/resolv.conf and /etc/hosts each; whole lines, the rest is not looked at. */
    RESOLVER_FILE_MAX = 1024 * 1024,
    /* Both files are read again after so long: a burst of names reads them once, a change counts soon. */
    RESOLVER_FILE_AGE_MS = 1000
};

struct resolver_lookup;

struct resolver_request {
    char name[DNS_NAME_SIZE];
    void (*done)(struct resolver_request *request); /* may start, cancel and release anything */
    struct dns_result result;                       /* valid in done */
    struct list node;
    struct resolver_lookup *lookup; /* while it is being looked up */
    bool is_waiting;
    enum descriptors_use use;
};

struct resolver_socket {
    struct loop_watch watch; /* owns the descriptor */
    struct resolver_lookup *lookup;
    bool over_tcp;
    bool is_sent; /* over TCP: the query */
};

struct resolver_lookup {
    struct resolver *resolver;
    struct list requests;
    enum descriptors_use use; /* the first request's */
    struct loop_timer timer;
    struct resolver_socket sockets[DNS_EXCHANGES];
    struct dns_lookup engine;
};

struct resolver_text {
    const char *path;
    char *text;
    size_t len;
};

struct resolver {
    struct loop *loop;
    struct loop_hook hook;
    struct list waiting;
    size_t waiting_count;
    struct list answered;
    struct resolver_text hosts;
    struct resolver_text resolv_conf;
    int64_t read_ms;
    uint16_t port; /* of name servers: 53; tests have others */
    uint32_t busy; /* a bit for each lookup */
    struct resolver_lookup lookups[RESOLVER_LOOKUPS_MAX];
};

void resolver_open(struct resolver *resolver, struct loop *loop);
void resolver_close(struct resolver *resolver); /* requests are forgotten */
/* Other files than those of /etc, for tests; read at once. The paths must outlive the resolver. */
void resolver_use_files(struct resolver *resolver, const char *resolv_conf, const char *hosts);

/* ERROR_INVALID (not a host name: see dns_check_name), ERROR_TOO_LARGE (too many wait). */
int resolver_start(struct resolver *resolver, struct resolver_request *request, const char *name,
                   enum descriptors_use use, void (*done)(struct resolver_request *request),
                   struct error *err);
void resolver_cancel(struct resolver *resolver, struct resolver_request *request); /* twice does no harm */

#endif
