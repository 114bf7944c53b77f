/*
 * turn: the one loop around a tunnel, in either role. It moves bytes between the tunnel's lanes and their
 * connections, and carries out the tunnel's steps on endpoints. Lanes and endpoints are two small tables of
 * functions: in the product gateway connections and sockets, in the simulator whatever a test makes of them.
 * It knows no descriptor and no clock.
 *
 *     turn_run:  tick ─► ┌─► bytes in ─► steps, until there are none ─► bytes out ─┐ ─► deadline
 *                        └──────────────── while something moved ◄─────────────────┘
 *
 * A turn has a budget: TURN_BYTES moved and TURN_CALLS made, in both directions together. When it is used up
 * the turn ends with TURN_MORE and is queued behind everybody else's. So whatever a peer sends, a turn takes
 * a millisecond or two, and sessions share the processor by turns.
 */
#ifndef FUMIDAI_RUN_TURN_H
#define FUMIDAI_RUN_TURN_H

#include <stdint.h>

#include "tunnel/tunnel.h"

enum {
    /* 256 KiB: a millisecond of TLS and copying on a slow core, 16 full records. */
    TURN_BYTES = 256 * 1024,
    TURN_CALLS = 64,    /* reads and writes of some 5 to 10 µs */
    TURN_OPEN_CALLS = 8 /* opening or closing a socket takes as long as so many of them, log line included */
};

enum turn_result {
    TURN_IDLE, /* nothing to do until something happens, or the deadline */
    TURN_MORE, /* the budget is used up: run it again after the others */
    TURN_OVER  /* the tunnel is over */
};

struct turn_lane_ops {
    /* Bytes that came, in place; null when there are none now, or the lane has no connection. */
    const uint8_t *(*receive)(void *context, unsigned lane, size_t *len);
    void (*received)(void *context, unsigned lane, size_t len);
    /* Takes what there is room for. */
    size_t (*send)(void *context, unsigned lane, const void *data, size_t len);
};

struct turn_endpoint_ops {
    /* News follows by tunnel_notify, perhaps from inside. */
    void (*open)(void *context, uint16_t stream, const char *host, uint16_t port);
    void (*read)(void *context, uint16_t stream, const struct iovec *vectors, int count,
                 struct tunnel_result *result);
    void (*write)(void *context, uint16_t stream, const struct iovec *vectors, int count,
                  struct tunnel_result *result);
    void (*shut)(void *context, uint16_t stream);
    void (*close)(void *context, uint16_t stream, const char *why);
    void (*reset)(void *context, uint16_t stream, const char *why);
};

struct turn {
    struct tunnel *tunnel;
    const struct turn_lane_ops *lanes;
    const struct turn_endpoint_ops *endpoints;
    /* Everything else that the tunnel says: DESTINATION (fills in result->text),
     * ANSWERED, LANE_*, JOIN, UNKNOWN. */
    void (*event)(void *context, const struct tunnel_step *step, struct tunnel_result *result);
    void *context;
};

enum turn_result turn_run(const struct turn *turn, int64_t now_ms, int64_t *deadline_ms);

#endif
