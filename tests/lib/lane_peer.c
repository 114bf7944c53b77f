#include "lib/lane_peer.h"

#include <stdlib.h>
#include <string.h>

#include "base/num.h"

static void check(bool holds)
{
    if (!holds)
        abort();
}

void lane_peer_init(struct lane_peer *peer, struct lane *lane)
{
    *peer = (struct lane_peer){.lane = lane, .acknowledges = true, .takes = SIZE_MAX};
}

bool lane_peer_connect(struct lane_peer *peer, int64_t now_ms)
{
    if (data_channel_state(&peer->lane->channel) != CONNECTION_DOWN)
        return false;
    peer->is_up = true;
    peer->is_closed = false;
    peer->in_start = peer->in_end = 0;
    websocket_decoder_init(&peer->decoder, WEBSOCKET_SERVER, peer->decoder_memory,
                           sizeof peer->decoder_memory);
    check(lane_connected(peer->lane, now_ms, STR_LITERAL("{\"TokenValue\":\"x\"}"), NULL) == 0);
    return true;
}

void lane_peer_cut(struct lane_peer *peer, int64_t now_ms)
{
    peer->is_up = false;
    lane_disconnected(peer->lane, now_ms, "the test cut it");
}

/* ---- to the lane ---- */

bool lane_peer_bytes(struct lane_peer *peer, const void *data, size_t len)
{
    if (!peer->is_up || sizeof peer->in - (peer->in_end - peer->in_start) < len)
        return false;
    if (sizeof peer->in - peer->in_end < len) {
        memmove(peer->in, peer->in + peer->in_start, peer->in_end - peer->in_start);
        peer->in_end -= peer->in_start;
        peer->in_start = 0;
    }
    if (len > 0)
        memcpy(peer->in + peer->in_end, data, len);
    peer->in_end += len;
    return true;
}

bool lane_peer_frame(struct lane_peer *peer, enum websocket_opcode opcode, const void *content, size_t len)
{
    uint8_t frame[WEBSOCKET_HEADROOM + AGENT_MESSAGE_HEADER_SIZE + LANE_PEER_PAYLOAD_MAX];
    check(len <= sizeof frame - WEBSOCKET_HEADROOM);
    if (len > 0)
        memcpy(frame + WEBSOCKET_HEADROOM, content, len);
    size_t header = websocket_seal(frame + WEBSOCKET_HEADROOM, len, opcode, NULL);
    return lane_peer_bytes(peer, frame + WEBSOCKET_HEADROOM - header, header + len);
}

bool lane_peer_message(struct lane_peer *peer, enum agent_message_type type, int64_t sequence,
                       uint32_t payload_type, const void *payload, size_t len)
{
    uint8_t message[AGENT_MESSAGE_HEADER_SIZE + LANE_PEER_PAYLOAD_MAX];
    struct agent_message fields = {.type = type,
                                   .created_unix_ms = 1,
                                   .sequence = sequence,
                                   .payload_type = payload_type,
                                   .payload = message + AGENT_MESSAGE_HEADER_SIZE,
                                   .payload_len = len};
    check(len <= LANE_PEER_PAYLOAD_MAX);
    if (len > 0)
        memcpy(message + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    agent_message_write_header(message, &fields);
    return lane_peer_frame(peer, WEBSOCKET_BINARY, message, AGENT_MESSAGE_HEADER_SIZE + len);
}

bool lane_peer_data(struct lane_peer *peer, uint32_t payload_type, const void *payload, size_t len)
{
    enum agent_message_type type =
        peer->lane->role == LANE_AGENT ? AGENT_MESSAGE_INPUT_STREAM_DATA : AGENT_MESSAGE_OUTPUT_STREAM_DATA;
    uint8_t piece[LANE_PEER_PAYLOAD_MAX];
    bool numbered = peer->pieces != NULL && payload_type == PAYLOAD_OUTPUT;
    struct writer out = writer_of(piece, sizeof piece);
    writer_u64be(&out, numbered ? *peer->pieces : 0);
    writer_bytes(&out, payload, len);
    if (numbered ? !lane_peer_message(peer, type, peer->sequence, payload_type, piece, out.len)
                 : !lane_peer_message(peer, type, peer->sequence, payload_type, payload, len))
        return false;
    peer->sequence++;
    if (numbered)
        ++*peer->pieces;
    return true;
}

bool lane_peer_flag(struct lane_peer *peer, enum payload_flag flag)
{
    uint8_t payload[4];
    struct writer out = writer_of(payload, sizeof payload);
    writer_u32be(&out, flag);
    return lane_peer_data(peer, PAYLOAD_FLAG, payload, sizeof payload);
}

bool lane_peer_smux(struct lane_peer *peer, enum smux_command command, uint32_t id, const void *data,
                    size_t len)
{
    uint8_t frame[LANE_PEER_PAYLOAD_MAX];
    check(len <= sizeof frame - SMUX_HEADER_SIZE - sizeof(uint64_t));
    smux_write_header(frame, command, id, (uint16_t) len);
    if (len > 0)
        memcpy(frame + SMUX_HEADER_SIZE, data, len);
    return lane_peer_data(peer, PAYLOAD_OUTPUT, frame, SMUX_HEADER_SIZE + len);
}

bool lane_peer_respond(struct lane_peer *peer, const char *version,
                       const struct handshake_extension *extension)
{
    struct handshake_response response = {.half_close = extension != NULL};
    char payload[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    str_copy(str_from(version), response.client_version, sizeof response.client_version);
    if (extension != NULL)
        response.extension = *extension;
    handshake_write_response(&out, &response, true);
    return lane_peer_data(peer, PAYLOAD_HANDSHAKE_RESPONSE, payload, out.len);
}

bool lane_peer_request(struct lane_peer *peer, const char *version,
                       const struct handshake_extension *extension)
{
    char payload[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    writer_format(&out,
                  "{\"AgentVersion\":\"%s\",\"RequestedClientActions\":[{\"ActionType\":\"SessionType\","
                  "\"ActionParameters\":{\"SessionType\":\"Port\",\"Properties\":{%s}}}]",
                  version, peer->is_for_stdio ? "" : "\"type\":\"LocalPortForwarding\"");
    if (extension != NULL)
        writer_format(&out, ",\"Fumidai\":{\"Lanes\":%s,\"Destinations\":%s,\"Tunnel\":\"%s\"}",
                      extension->lanes ? "true" : "false", extension->destinations ? "true" : "false",
                      extension->secret);
    writer_text(&out, "}");
    return lane_peer_data(peer, PAYLOAD_HANDSHAKE_REQUEST, payload, out.len);
}

bool lane_peer_complete(struct lane_peer *peer)
{
    static const char payload[] = "{\"HandshakeTimeToComplete\":1,\"CustomerMessage\":\"hello\"}";
    return lane_peer_data(peer, PAYLOAD_HANDSHAKE_COMPLETE, payload, sizeof payload - 1);
}

/* ---- from the lane ---- */

static void acknowledge(struct lane_peer *peer, const struct agent_message *message)
{
    char payload[ACKNOWLEDGE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    acknowledge_write(&out, &(struct acknowledge){.type = message->type, .sequence = message->sequence});
    lane_peer_message(peer, AGENT_MESSAGE_ACKNOWLEDGE, 0, 0, payload, out.len);
}

static void hear(struct lane_peer *peer, const struct websocket_event *event)
{
    struct agent_message message;
    peer->is_closed |= event->type == WEBSOCKET_EVENT_CLOSE;
    if (event->type == WEBSOCKET_EVENT_PING && peer->acknowledges)
        lane_peer_frame(peer, WEBSOCKET_PONG, event->data, event->len);
    if (event->type != WEBSOCKET_EVENT_MESSAGE || !event->binary)
        return;
    check(agent_message_parse(&message, event->data, event->len, NULL) == 0);
    bool is_data =
        message.type == AGENT_MESSAGE_OUTPUT_STREAM_DATA || message.type == AGENT_MESSAGE_INPUT_STREAM_DATA;
    check(is_data || message.type == AGENT_MESSAGE_ACKNOWLEDGE ||
          message.type == AGENT_MESSAGE_AGENT_SESSION_STATE);
    if (peer->heard != NULL)
        peer->heard(peer->context, &message);
    peer->heard_data += is_data;
    if (is_data && peer->acknowledges)
        acknowledge(peer, &message);
}

size_t lane_peer_send(struct lane_peer *peer, const void *data, size_t len)
{
    struct websocket_event event;
    size_t room;
    if (!peer->is_up)
        return 0;
    uint8_t *in = websocket_in_buf(&peer->decoder, &room);
    len = num_min_size(num_min_size(len, room), peer->takes);
    if (len == 0)
        return 0;
    check(!peer->is_closed); /* nothing follows a close frame */
    memcpy(in, data, len);
    websocket_in_ack(&peer->decoder, len);
    peer->takes -= peer->takes == SIZE_MAX ? 0 : len;
    do {
        check(websocket_next(&peer->decoder, &event, NULL) == 0);
        hear(peer, &event);
    } while (event.type != WEBSOCKET_EVENT_NONE && event.type != WEBSOCKET_EVENT_CLOSE);
    return len;
}

const uint8_t *lane_peer_receive(struct lane_peer *peer, size_t *len)
{
    *len = peer->in_end - peer->in_start;
    return peer->is_up && *len > 0 ? peer->in + peer->in_start : NULL;
}

void lane_peer_received(struct lane_peer *peer, size_t len)
{
    peer->in_start += len;
    if (peer->in_start == peer->in_end)
        peer->in_start = peer->in_end = 0;
}

static bool pump_in(struct lane_peer *peer, int64_t now_ms)
{
    struct data_channel *channel = &peer->lane->channel;
    size_t len, room;
    const uint8_t *data = lane_peer_receive(peer, &len);
    if (data == NULL || !data_channel_wants_input(channel))
        return false;
    uint8_t *in = data_channel_in_buf(channel, &room);
    len = num_min_size(len, room);
    if (len == 0)
        return false;
    memcpy(in, data, len);
    lane_peer_received(peer, len);
    data_channel_in_ack(channel, now_ms, len);
    return true;
}

static bool pump_out(struct lane_peer *peer, int64_t now_ms)
{
    size_t len;
    const uint8_t *data = data_channel_out_buf(&peer->lane->channel, now_ms, &len);
    size_t n = len > 0 ? lane_peer_send(peer, data, len) : 0;
    data_channel_out_ack(&peer->lane->channel, now_ms, n);
    return n > 0;
}

void lane_peer_pump(struct lane_peer *peer, int64_t now_ms)
{
    while (pump_in(peer, now_ms) || pump_out(peer, now_ms))
        continue;
}
