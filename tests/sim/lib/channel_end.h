/*
 * channel_end: one data channel engine at the gateway, with everything around it that a relay would have:
 * connections that are opened again, bytes in pieces, a reader and a writer above.
 */
#ifndef FUMIDAI_TESTS_SIM_CHANNEL_END_H
#define FUMIDAI_TESTS_SIM_CHANNEL_END_H

#include "channel/data_channel.h"
#include "sim/lib/gateway.h"

struct channel_end {
    struct data_channel channel;
    int side;
    struct dice dice;
    void *memory;
    int64_t reconnect_ms; /* when DOWN */
    uint32_t away_ms;
    struct websocket_decoder wire; /* the gateway's ear */
    uint8_t wire_buffer[16384];
    uint64_t send_seed, send_total, sent;
    uint64_t receive_seed, received;
    uint32_t read_bytes_per_ms; /* 0: as much as there is */
    int64_t read_ms;
    bool small_pieces; /* bytes in and out in odd pieces */
    bool pauses;       /* the gateway says pause_publication now and then */
    const char *fault; /* what went wrong, for ever */
};

/* `memory` is DATA_CHANNEL_MEMORY_SIZE zeroed bytes. */
void channel_end_init(struct channel_end *e, int side, const struct data_channel_config *config, void *memory,
                      uint64_t seed);
void channel_end_step(struct channel_end *e, struct gateway *g, int64_t now_ms);
int64_t channel_end_due_ms(struct channel_end *e, const struct gateway *g, int64_t now_ms);

#endif
