/*
 * aws_client: AWS's session-manager-plugin as far as its data channel goes, with what makes it hard to serve
 * (AWS's agent is much the same: `side`)
 * (protocol.md, section 9): it ignores what it has processed without acknowledging it, resends only the
 * oldest message it holds, one each 100 ms, sends at most one message a millisecond, keeps 10,000 early
 * messages, and drops the oldest unacknowledged one when it holds 10,000.
 */
#ifndef FUMIDAI_TESTS_SIM_AWS_CLIENT_H
#define FUMIDAI_TESTS_SIM_AWS_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/lib/gateway.h"
#include "wire/agent_message.h"

enum { AWS_CLIENT_BUFFER = 10000 };

struct aws_client_message {
    struct aws_client_message *next;
    int64_t sequence;
    int64_t sent_ms;
    uint32_t payload_type; /* of an early one */
    size_t len;
    uint8_t bytes[];
};

/* What is above the data channel. Without one there is plain traffic both ways. */
struct aws_client_app {
    /* The next payload of at most 1,024 bytes; 0 when there is nothing to say now. */
    size_t (*give)(void *context, int64_t now_ms, uint8_t *payload, uint32_t *payload_type);
    void (*take)(void *context, int64_t now_ms, uint32_t payload_type, const uint8_t *payload, size_t len);
    void *context;
};

struct aws_client {
    struct aws_client_app app;
    int side;              /* GATEWAY_CLIENT, or GATEWAY_AGENT for the model of AWS's agent */
    int64_t deaf_until_ms; /* what comes before makes it deaf */
    bool is_deaf;
    uint64_t upload_seed, upload_total, uploaded;
    uint64_t download_seed, downloaded;
    int64_t expected; /* next number to process */
    int64_t next;     /* next number to send */
    struct aws_client_message *early;
    size_t early_count;
    struct aws_client_message *unacknowledged, *newest;
    size_t unacknowledged_count;
    int64_t next_send_ms, next_resend_ms;
    bool corrupted;   /* a byte of the download was wrong */
    bool lost_data;   /* it dropped a message that had not been acknowledged */
    uint64_t ignored; /* old messages that it did not acknowledge */
};

void aws_client_init(struct aws_client *c, uint64_t upload_seed, uint64_t upload_total,
                     uint64_t download_seed);
void aws_client_end(struct aws_client *c);
/* Takes what the gateway has for it, sends and resends what is due. */
void aws_client_step(struct aws_client *c, struct gateway *g, int64_t now_ms);
int64_t aws_client_due_ms(const struct aws_client *c);

#endif
