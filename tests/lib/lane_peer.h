/*
 * lane_peer: the other end of one lane, for tests that say what it sends message by message: the service's
 * messages, stream data with sequence numbers, smux frames in it, or any bytes at all. Bytes for the lane
 * wait here until it takes them (lane_peer_pump, or run/turn by way of lane_peer_receive).
 */
#ifndef FUMIDAI_TESTS_LANE_PEER_H
#define FUMIDAI_TESTS_LANE_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tunnel/lane.h"
#include "wire/smux.h"

enum { LANE_PEER_BYTES = 128 * 1024, LANE_PEER_PAYLOAD_MAX = 4096 };

struct lane_peer {
    struct lane *lane;
    bool acknowledges;   /* stream messages that come, at once, and answers pings */
    uint64_t *pieces;    /* Output carries this number first, which then is one more; null: no numbers */
    size_t takes;        /* how many more bytes its connection takes from the lane */
    int64_t sequence;    /* of the next stream message to the lane */
    bool is_for_stdio;   /* HandshakeRequest: the session is for one connection, not for a local port */
    uint64_t heard_data; /* stream messages that came, the same ones again too */
    /* What came from the lane, each message; may be null. */
    void (*heard)(void *context, const struct agent_message *message);
    void *context;

    /* private */
    bool is_up;
    bool is_closed; /* a close frame came */
    size_t in_start, in_end;
    uint8_t in[LANE_PEER_BYTES];
    struct websocket_decoder decoder;
    uint8_t decoder_memory[16384];
};

/* It acknowledges and takes all there is. */
void lane_peer_init(struct lane_peer *peer, struct lane *lane);
/* A new connection; what waited on the last one is gone. False when the lane has one already. */
bool lane_peer_connect(struct lane_peer *peer, int64_t now_ms);
void lane_peer_cut(struct lane_peer *peer, int64_t now_ms);

/* For the lane, false (and nothing) when there is no connection or no more may wait. */
bool lane_peer_bytes(struct lane_peer *peer, const void *data, size_t len);
bool lane_peer_frame(struct lane_peer *peer, enum websocket_opcode opcode, const void *content, size_t len);
bool lane_peer_message(struct lane_peer *peer, enum agent_message_type type, int64_t sequence,
                       uint32_t payload_type, const void *payload, size_t len);
/* The next stream message, of any payload type. */
bool lane_peer_data(struct lane_peer *peer, uint32_t payload_type, const void *payload, size_t len);
bool lane_peer_flag(struct lane_peer *peer, enum payload_flag flag);
bool lane_peer_smux(struct lane_peer *peer, enum smux_command command, uint32_t id, const void *data,
                    size_t len);
/* To an agent's lane: HandshakeResponse. `extension` null: a client of AWS's, of this version. */
bool lane_peer_respond(struct lane_peer *peer, const char *version,
                       const struct handshake_extension *extension);
/* To a client's lane: HandshakeRequest and HandshakeComplete. */
bool lane_peer_request(struct lane_peer *peer, const char *version,
                       const struct handshake_extension *extension);
bool lane_peer_complete(struct lane_peer *peer);

/* Bytes both ways as long as any move, events not asked for. */
void lane_peer_pump(struct lane_peer *peer, int64_t now_ms);
/* For struct turn_lane_ops. */
const uint8_t *lane_peer_receive(struct lane_peer *peer, size_t *len);
void lane_peer_received(struct lane_peer *peer, size_t len);
size_t lane_peer_send(struct lane_peer *peer, const void *data, size_t len);

#endif
