/*
 * fixed_forward: ports of this task that lead to one target each (FUMIDAI_LISTEN). An IAM policy that allows
 * only AWS-StartPortForwardingSession then reaches that target and nothing else; and tasks that AWS's exec
 * agent serves can use them, too. For each connection the name is resolved and the policy checked anew. Each
 * direction ends for itself. A connection counts as a session for the terminator.
 *
 * A slow end costs FIXED_FORWARD_BUFFER_SIZE: when that is full, nothing more is read from the other, and TCP
 * pushes back. Two fast ends cost others nothing: connections that can move bytes take turns, a buffer full
 * each way at a time, FIXED_FORWARD_MOVES_PER_TURN in a turn of the loop.
 */
#ifndef FUMIDAI_RELAY_FIXED_FORWARD_H
#define FUMIDAI_RELAY_FIXED_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "net/listener.h"
#include "relay/session.h"
#include "tunnel/forward_spec.h"

enum {
    FIXED_FORWARD_CONNECTIONS_MAX = 512,   /* of all ports; further ones wait in the kernel's queue */
    FIXED_FORWARD_BUFFER_SIZE = 32 * 1024, /* each way; pages count when they are touched */
    FIXED_FORWARD_MOVES_PER_TURN = 32      /* up to 2 MiB: about a millisecond */
};

struct fixed_port {
    struct fixed_forwards *forwards;
    const struct forward_spec *entry;
    struct listener listener;
};

struct fixed_forwards {
    struct relay_context *context;
    struct forward_specs list;
    struct fixed_port ports[FORWARD_SPECS_MAX];
    struct list connections;
    struct list ready; /* connections that may have bytes to move, in turn */
    struct loop_hook hook;
    uint32_t open;
    uint64_t total;
    bool admission_closed;
    void (*changed)(struct relay_context *context); /* a count changed */
};

/* Opens all ports, or none: ERROR_INVALID for a malformed list, ERROR_SYSTEM naming the port that can't be
 * opened. */
int fixed_forwards_open(struct fixed_forwards *forwards, struct relay_context *context, struct str listen,
                        void (*changed)(struct relay_context *context), struct error *err);
/* New connections are refused while admission is closed. */
void fixed_forwards_admit(struct fixed_forwards *forwards, bool admit);
void fixed_forwards_shut_down(struct fixed_forwards *forwards); /* resets every connection */
bool fixed_forwards_has_port(const struct fixed_forwards *forwards, uint16_t port);

#endif
