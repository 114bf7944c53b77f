/*
 * handshake: the three messages that open a session, and the versions that decide what the two ends may
 * assume. Plain functions; when each message goes out is tunnel/lane's business.
 *
 *   agent                                    client
 *     HandshakeRequest  (payload type 5) ──►          "this is a Port session with these properties"
 *                       ◄── HandshakeResponse (6)     its version, whether it can do that
 *     HandshakeComplete (payload type 7) ──►          a sentence for the person at the other end
 *
 * Two fumidai ends know each other by one more member, "Fumidai", in request and response. AWS's programs
 * ignore it. What the agent offers and the client accepts holds:
 *
 *     lanes         several sessions carry one tunnel; Output payloads begin with the number of a piece
 *                   (tunnel/tunnel)
 *     destinations  a stream's SYN may name a target of its own
 *
 * "Tunnel" is the agent's secret for this tunnel, 128 random bits; a later session that answers with it as
 * "Join" becomes a lane of the tunnel. "HalfClose" in the response: the client keeps the directions of a
 * stream apart.
 *
 * Each message must fit one stream message; the writers leave out the offer, or shorten the text, rather than
 * send more.
 */
#ifndef FUMIDAI_TUNNEL_HANDSHAKE_H
#define FUMIDAI_TUNNEL_HANDSHAKE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

/* What our client calls itself: a level whose behaviour it has. AWS names 1.2.764.0 as the oldest that the
 * service will accept (protocol.md, section 11). */
#define HANDSHAKE_CLIENT_VERSION "1.2.804.0"

enum {
    HANDSHAKE_PAYLOAD_MAX = 1024,                           /* one stream message */
    HANDSHAKE_TIMEOUT_MS = 15 * 1000,                       /* how long AWS's agent waits for the response */
    HANDSHAKE_VERSION_SIZE = 32,                            /* four numbers, or a client's name and three */
    HANDSHAKE_REASON_SIZE = 256,                            /* the client's own words when it refuses */
    HANDSHAKE_MESSAGE_SIZE = 1024,                          /* CustomerMessage */
    HANDSHAKE_SECRET_BYTES = 16,                            /* 128 bits can't be guessed */
    HANDSHAKE_SECRET_SIZE = 2 * HANDSHAKE_SECRET_BYTES + 1, /* in hexadecimal, terminated */
    HANDSHAKE_TOKENS_MAX = 256 /* a request has the document's properties; a response one result an action */
};

/* As AWS's programs compare them: field by field, numbers as numbers and everything else as
 * text; missing fields count as 0. */
int handshake_version_compare(struct str a, struct str b);
/* The first client that multiplexes (amazon-ssm-agent, agent/session/plugins/port). */
bool handshake_client_multiplexes(struct str client_version);
/* Clients that close their multiplexer when nothing has come for 30 s (protocol.md, section 11). */
bool handshake_client_needs_nops(struct str client_version);
/* The first agents that multiplex, and that know the flag TerminateSession
 * (session-manager-plugin, version.go). */
bool handshake_agent_multiplexes(struct str agent_version);
bool handshake_agent_takes_terminate_flag(struct str agent_version);
/* What fumidai may call itself: towards agents up to 3.1.1511.0 AWS's client sends a keep-alive of its own,
 * which would hold off the service's idle time, and towards older ones it does not multiplex; any other than
 * four fields switch everything off. */
bool handshake_agent_is_served(struct str agent_version);

/* What fumidai ends say to each other. */
struct handshake_extension {
    bool is_ours; /* the member was there */
    bool lanes;
    bool destinations;
    char secret[HANDSHAKE_SECRET_SIZE]; /* request: Tunnel; response: Join, empty for a tunnel of its own */
};

struct handshake_request {
    char agent_version[HANDSHAKE_VERSION_SIZE];
    bool is_port; /* SessionType Port is asked for */
    /* Properties `type`: LocalPortForwarding, a port on the user's side. Any other: the session is one
     * connection, over stdin and stdout (AWS-StartSSHSession). */
    bool is_local_forwarding;
    uint16_t local_port; /* Properties `localPortNumber`; 0: any */
    struct handshake_extension extension;
};

struct handshake_response {
    char client_version[HANDSHAKE_VERSION_SIZE];
    bool half_close; /* the client keeps the directions of a stream apart (ours alone) */
    struct handshake_extension extension;
};

/* `properties` is a JSON object: the document's, with references replaced. The offer is left out when there
 * is no room. agent_version null: SSMMESSAGES_AGENT_VERSION. */
void handshake_write_request(struct writer *out, const char *agent_version, struct str properties,
                             const struct handshake_extension *offer);
/* ERROR_INVALID when malformed. */
int handshake_read_request(struct str payload, struct handshake_request *request, struct error *err);

/* Accepts a Port session; refuses (status 3, unsupported) what is not one. */
void handshake_write_response(struct writer *out, const struct handshake_response *response, bool accepts);
/* ERROR_INVALID when malformed, ERROR_UNSUPPORTED with the client's own words when
 * it refuses the session type. */
int handshake_read_response(struct str payload, struct handshake_response *response, struct error *err);

/* `message` is shown to the user; cut at a character's border if it would not fit. */
void handshake_write_complete(struct writer *out, int64_t elapsed_ms, struct str message);
/* The message, cut to the capacity. False when malformed: the handshake is complete all the same. */
bool handshake_read_complete(struct str payload, char *message, size_t capacity);

#endif
