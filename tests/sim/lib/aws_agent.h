/*
 * aws_agent: AWS's agent as it serves a port session (protocol.md, sections 4 to 6 and 9): the handshake,
 * smux, and the targets of the plays. It closes a stream whole when either direction ends, tells a failed
 * dial by flag and FIN, knows nothing of fumidai's extensions, and reads its smux buffer slowly: beyond
 * AWS_AGENT_BUFFER bytes it tears the session down.
 */
#ifndef FUMIDAI_TESTS_SIM_AWS_AGENT_H
#define FUMIDAI_TESTS_SIM_AWS_AGENT_H

#include "sim/lib/aws_client.h"
#include "sim/lib/play.h"
#include "wire/smux.h"

enum { AWS_AGENT_BUFFER = 4 * 1024 * 1024 };

struct aws_agent_stream {
    uint32_t id;
    struct play *play;
    bool fin_due, flag_due;
    bool is_over; /* FIN was sent: what comes for it is dropped */
};

struct aws_agent {
    struct aws_client channel;
    struct play *plays;
    size_t play_count;
    struct dice dice;
    struct aws_agent_stream streams[256];
    size_t stream_count;
    size_t turn;
    uint32_t away_ms;
    int64_t reconnect_ms;
    bool request_due, complete_due, is_open;
    bool is_old; /* an agent without multiplexing */
    bool terminated;
    struct smux_decoder decoder;
    uint16_t decoding;
    uint8_t out[16384 + SMUX_HEADER_SIZE];
    size_t out_start, out_end;
    const char *fault;
};

void aws_agent_init(struct aws_agent *a, struct play *plays, size_t play_count, bool is_old, uint32_t away_ms,
                    uint64_t seed);
void aws_agent_end(struct aws_agent *a);
void aws_agent_step(struct aws_agent *a, struct gateway *g, int64_t now_ms);
int64_t aws_agent_due_ms(struct aws_agent *a, const struct gateway *g, int64_t now_ms);

#endif
