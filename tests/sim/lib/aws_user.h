/*
 * aws_user: AWS's client above its data channel (sim/lib/aws_client): the handshake, smux, and the client's
 * end of each play. Any message that it reads between HandshakeComplete and the start of its multiplexer
 * makes it deaf (pitfall 3).
 */
#ifndef FUMIDAI_TESTS_SIM_AWS_USER_H
#define FUMIDAI_TESTS_SIM_AWS_USER_H

#include "sim/lib/aws_client.h"
#include "sim/lib/play.h"
#include "wire/smux.h"

enum aws_user_mode { AWS_USER_MULTIPLEXED, AWS_USER_BASIC };

struct aws_user_options {
    enum aws_user_mode mode;
    bool half_close;
    bool strict_silence; /* no message may come right after HandshakeComplete (pitfall 3) */
    uint32_t away_ms;
};

struct aws_user {
    struct aws_user_options options;
    struct play *plays;
    size_t play_count;
    size_t turn;
    size_t play_now; /* basic: the one whose connection it is */
    struct dice dice;
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

void aws_user_init(struct aws_user *c, const struct aws_user_options *options, struct play *plays,
                   size_t play_count, uint64_t seed);
void aws_user_end(struct aws_user *c);
void aws_user_step(struct aws_user *c, struct gateway *g, int64_t now_ms);
int64_t aws_user_due_ms(struct aws_user *c, const struct gateway *g, int64_t now_ms);
bool aws_user_done(const struct aws_user *c);

#endif
