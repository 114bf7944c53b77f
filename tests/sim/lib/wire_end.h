/*
 * wire_end: the line between one data channel engine and the gateway: websocket frames in pieces, connections that the
 * gateway cuts or closes. The engine's owner stays in charge: it pumps both directions and pulls events in between.
 */
#ifndef FUMIDAI_TESTS_SIM_WIRE_END_H
#define FUMIDAI_TESTS_SIM_WIRE_END_H

#include "channel/data_channel.h"
#include "sim/lib/gateway.h"

enum { WIRE_END_PENDING = 16384 };

struct wire_end {
    struct data_channel *channel;
    int side;
    struct dice dice;
    bool small_pieces;             /* bytes in and out in odd pieces */
    struct websocket_decoder wire; /* the gateway's ear */
    uint8_t wire_buffer[16384];
    uint8_t pending[WIRE_END_PENDING]; /* frames on their way to the engine */
    size_t pending_start, pending_end;
    const char *fault; /* what went wrong, for ever */
};

void wire_end_init(struct wire_end *e, struct data_channel *channel, int side, uint64_t seed,
                   bool small_pieces);
void wire_end_connected(struct wire_end *e, struct gateway *g, int64_t now_ms);
/* Some bytes for the engine, as far as it wants any. True when some were moved. */
bool wire_end_receive(struct wire_end *e, struct gateway *g, int64_t now_ms);
/* What the engine has to say, as far as the gateway takes it. True when something was moved. */
bool wire_end_transmit(struct wire_end *e, struct gateway *g, int64_t now_ms);
/* A message of the service's own; false when there is no room for it now. */
bool wire_end_say(struct wire_end *e, enum agent_message_type type, const char *payload);
/* Ends the connection if the gateway wants so. True when it is broken: the owner tells the engine. */
bool wire_end_breaks(struct wire_end *e, struct gateway *g, int64_t now_ms);
int64_t wire_end_due_ms(const struct wire_end *e, const struct gateway *g, int64_t now_ms);

#endif
