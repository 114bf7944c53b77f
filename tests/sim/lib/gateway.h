/*
 * gateway: the message gateway service as a hostile place. Two sides, agent and client; what one sends
 * reaches the other late, twice, out of order or not at all. A side that is away loses what is sent to it. A
 * side that does not take its messages makes the gateway stop reading from the other, as TCP would.
 */
#ifndef FUMIDAI_TESTS_SIM_GATEWAY_H
#define FUMIDAI_TESTS_SIM_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/lib/dice.h"

enum { GATEWAY_AGENT, GATEWAY_CLIENT, GATEWAY_SIDES, GATEWAY_QUEUE = 512 };

struct gateway_faults {
    uint32_t lose; /* of ten thousand messages */
    uint32_t twice;
    uint32_t late; /* by up to late_ms more than the others */
    uint32_t late_ms;
    uint32_t delay_ms; /* for all of them */
    uint32_t
        complete_late_ms; /* HandshakeComplete's packet is resent by TCP: it and what follows come late */
    uint32_t cut_bytes[GATEWAY_SIDES]; /* a side's connection breaks after about so many bytes; 0 never */
    uint32_t close_every_ms;           /* both are closed politely ("Bye"); 0 never */
    uint32_t away_ms;                  /* how long a side then stays away, at most */
    uint32_t rate_limit;               /* messages in 2 s that the service tolerates; 0 any */
};

struct gateway_message {
    struct gateway_message *next;
    int64_t due_ms;
    size_t len;
    uint8_t bytes[];
};

struct gateway_side {
    bool connected;
    bool cut; /* the connection is broken; the side has to be told */
    size_t bytes_left;
    int64_t close_ms;
    struct gateway_message *queue; /* towards this side, by due time */
    size_t queued;
    int64_t sent_ms[4096]; /* when its last stream messages came, a ring */
    uint64_t sent;
    int64_t not_before_ms; /* what a late packet holds up */
    bool over_limit;       /* it sent more than the service tolerates */
};

struct gateway {
    struct gateway_faults faults;
    struct dice dice;
    struct gateway_side sides[GATEWAY_SIDES];
    uint64_t relayed;
    uint64_t lost;
};

void gateway_init(struct gateway *g, const struct gateway_faults *faults, uint64_t seed);
void gateway_end(struct gateway *g);
void gateway_connect(struct gateway *g, int side, int64_t now_ms);
/* Whether the side's connection is to end now: 1 broken, 2 closed politely. The side is away afterwards. */
int gateway_ends(struct gateway *g, int side, int64_t now_ms);
bool gateway_blocks(const struct gateway *g, int side); /* it reads no more from this side for now */
void gateway_relay(struct gateway *g, int side, const uint8_t *message, size_t len, bool stream_data,
                   int64_t now_ms);
/* The next message for this side; to be freed with free(). Null when none is due. */
struct gateway_message *gateway_take(struct gateway *g, int side, int64_t now_ms);
int64_t gateway_due_ms(const struct gateway *g, int side); /* INT64_MAX never */

#endif
