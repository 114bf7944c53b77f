/*
 * fixed_relay: ports of this task that lead to one target each (FUMIDAI_LISTEN). An IAM policy that allows
 * only AWS-StartPortForwardingSession then reaches that target and nothing else; and tasks that AWS's exec
 * agent serves can use them, too. Each connection: name resolved and policy checked anew, both directions
 * with half-close, a bounded buffer each way, push back through TCP. A connection counts as a session for the
 * terminator.
 */
#ifndef FUMIDAI_RELAY_FIXED_FORWARD_H
#define FUMIDAI_RELAY_FIXED_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "net/listener.h"
#include "relay/session.h"
#include "tunnel/forward_spec.h"

enum {
    FIXED_FORWARD_CONNECTIONS_MAX = 512,  /* of all ports; further ones wait in the kernel's queue */
    FIXED_FORWARD_BUFFER_SIZE = 32 * 1024 /* each way; pages count when they are touched */
};

struct fixed_connection;

struct fixed_port {
    struct fixed_forwards *relays;
    const struct forward_spec *entry;
    struct listener listener;
};

struct fixed_forwards {
    struct relay_context *context;
    struct forward_specs list;
    struct fixed_port ports[FORWARD_SPECS_MAX];
    struct fixed_connection *first;
    uint32_t open;
    uint64_t total;
    bool door_closed;
    void (*changed)(struct relay_context *context); /* a count changed */
};

/* Opens all ports, or none: ERROR_INVALID for a malformed list, ERROR_SYSTEM naming
 * the port that can't be opened. */
int fixed_forwards_open(struct fixed_forwards *relays, struct relay_context *context, struct str listen,
                        void (*changed)(struct relay_context *context), struct error *err);
void fixed_forwards_close_door(struct fixed_forwards *relays,
                               bool closed);            /* new connections are refused meanwhile */
void fixed_forwards_end(struct fixed_forwards *relays); /* closes every connection */
bool fixed_forwards_has_port(const struct fixed_forwards *relays, uint16_t port);

#endif
