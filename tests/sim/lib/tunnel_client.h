/*
 * tunnel_client: the client above its data channel: the handshake, smux, and the client's end of each play. Two ways below
 * it: our engine in the client's role, or the model of AWS's client.
 */
#ifndef FUMIDAI_TESTS_SIM_TUNNEL_CLIENT_H
#define FUMIDAI_TESTS_SIM_TUNNEL_CLIENT_H

#include "channel/data_channel.h"
#include "sim/lib/aws_client.h"
#include "sim/lib/play.h"
#include "sim/lib/wire_end.h"
#include "wire/smux.h"

enum tunnel_mode { TUNNEL_MULTIPLEXED, TUNNEL_BASIC };

struct tunnel_client_options {
    bool is_aws;
    enum tunnel_mode mode;
    bool half_close;
    bool strict_silence; /* no message may come right after HandshakeComplete (pitfall 3) */
    bool small_pieces;
    uint32_t away_ms;
    uint32_t rate, burst; /* of ours; AWS's has its own pace */
};

struct tunnel_client {
    struct tunnel_client_options options;
    struct play *plays;
    size_t play_count;
    size_t turn;
    size_t play_now; /* basic: the one whose connection it is */
    struct dice dice;
    struct data_channel channel;
    struct wire_end wire;
    struct aws_client aws;
    int64_t reconnect_ms;
    /* the handshake */
    bool asked; /* HandshakeRequest came */
    bool response_due;
    bool complete; /* HandshakeComplete came */
    int64_t complete_ms;
    int64_t speak_ms; /* the person connects */
    char banner[1024];
    uint64_t flags_received;
    bool terminate; /* wants the end: flag TerminateSession */
    bool terminate_sent;
    /* smux */
    struct smux_decoder decoder;
    uint8_t out[16384 + SMUX_HEADER_SIZE];
    size_t out_start, out_end;
    bool disconnect_due; /* basic */
    const char *fault;
};

/* `memory` is DATA_CHANNEL_MEMORY_SIZE zeroed bytes. */
void tunnel_client_init(struct tunnel_client *c, const struct tunnel_client_options *options,
                        struct play *plays, size_t play_count, void *memory, uint64_t seed);
void tunnel_client_end(struct tunnel_client *c);
void tunnel_client_step(struct tunnel_client *c, struct gateway *g, int64_t now_ms);
int64_t tunnel_client_due_ms(struct tunnel_client *c, const struct gateway *g, int64_t now_ms);
bool tunnel_client_done(const struct tunnel_client *c);

#endif
