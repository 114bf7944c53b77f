/*
 * handshake: the three messages that open a session, and the versions that decide what the two ends may
 * assume. Plain functions; when each message goes out is the session's business (tunnel/agent.h).
 *
 *   agent                                   client
 *     HandshakeRequest  (payload type 5) ──►          "this is a Port session with these properties"
 *                       ◄── HandshakeResponse (6)     its version, whether it can do that
 *     HandshakeComplete (payload type 7) ──►          a sentence for the person at the other end
 *
 * Each must fit one stream message; the writers fail instead of sending more.
 */
#ifndef FUMIDAI_TUNNEL_HANDSHAKE_H
#define FUMIDAI_TUNNEL_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    HANDSHAKE_PAYLOAD_MAX = 1024,     /* one stream message */
    HANDSHAKE_TIMEOUT_MS = 15 * 1000, /* how long AWS's agent waits for the response */
    HANDSHAKE_VERSION_SIZE = 32,
    HANDSHAKE_REASON_SIZE = 256,
    /* A response lists one result an action; the rest is a client's own business. */
    HANDSHAKE_RESPONSE_TOKENS_MAX = 128
};

/* Dotted numbers compared field by field; missing fields count as 0. Anything after a non-digit ends the
 * field. */
int handshake_version_compare(struct str a, struct str b);

/* The first client that multiplexes (amazon-ssm-agent, agent/session/plugins/port). */
bool handshake_client_multiplexes(struct str client_version);

/* `properties` is a JSON object: the document's, with references replaced. */
void handshake_write_request(struct writer *out, struct str properties);

/* What an agent learns from the client's answer. */
struct handshake_response {
    char client_version[HANDSHAKE_VERSION_SIZE];
    bool half_close; /* the client keeps the directions of a stream apart ("HalfClose": true, ours alone) */
};

/* ERROR_INVALID when malformed, ERROR_UNSUPPORTED with the client's own words when it refuses the session
 * type. */
int handshake_read_response(struct str payload, struct handshake_response *response, struct error *err);

/* `message` is shown to the user; cut at a character's border if it would not fit. */
void handshake_write_complete(struct writer *out, int64_t elapsed_ms, struct str message);

#endif
