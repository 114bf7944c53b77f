/*
 * sim_link: one side's connection of one lane to the gateway, in the place of cloud/gateway: it opens when it
 * may (by the product's own channel/reconnect), breaks as the gateway says, and fails in opening as often as
 * a test wants. It checks what the engine sends: whole frames, whole messages, and that it does not connect
 * more often than a service would bear.
 */
#ifndef FUMIDAI_TESTS_SIM_LINK_H
#define FUMIDAI_TESTS_SIM_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "channel/reconnect.h"
#include "sim/lib/gateway.h"
#include "tunnel/lane.h"
#include "wire/websocket.h"

/* What goes wrong in opening a connection, of ten thousand tries each. */
struct sim_link_faults {
    uint32_t closed_at_once; /* it opens and is closed 5 ms later */
    uint32_t silent;         /* the name server says nothing for some seconds */
    uint32_t broken;         /* a TLS record, a proxy's answer, a 500: it fails soon */
    uint32_t throttled;
};

struct sim_link {
    struct gateway *gateway;
    struct lane *lane;
    int side;
    struct dice dice;
    struct sim_link_faults faults;
    bool small_pieces;
    bool is_up;
    bool is_opening; /* a try that takes until retry_ms, and then fails */
    bool is_over;    /* no further try: the lane was told */
    struct reconnect reconnect;
    int64_t retry_ms;
    int64_t close_ms;  /* of a connection that is closed at once */
    uint64_t progress; /* messages acknowledged and received */
    uint64_t opens;
    int64_t opened_ms[64];            /* the last ones, a ring */
    struct websocket_decoder decoder; /* what the engine sends */
    uint8_t decoder_buffer[65536];
    uint8_t pending[8192]; /* frames on their way to the engine */
    size_t pending_start, pending_end;
    const char *fault;
};

void sim_link_init(struct sim_link *link, struct gateway *gateway, struct lane *lane, int side,
                   const struct sim_link_faults *faults, uint64_t seed);
/* Opens, breaks and closes what is due. True when something happened. */
bool sim_link_step(struct sim_link *link, int64_t now_ms);
/* The engine says that the connection is of no more use. */
void sim_link_lose(struct sim_link *link, int64_t now_ms);
/* The service says something on its own behalf; false when there is no room now. */
bool sim_link_say(struct sim_link *link, enum agent_message_type type, const char *payload);

/* For struct turn_lane_ops. */
const uint8_t *sim_link_receive(struct sim_link *link, int64_t now_ms, size_t *len);
void sim_link_received(struct sim_link *link, size_t len);
size_t sim_link_send(struct sim_link *link, int64_t now_ms, const uint8_t *data, size_t len);

int64_t sim_link_due_ms(const struct sim_link *link);

#endif
