/*
 * tunnel_host: what a relay is to the session engine, over the simulated gateway: its turn, its connections, and the targets
 * of the plays. It keeps to the caller's turn as tunnel/agent.h says, and checks what the engine asks for.
 */
#ifndef FUMIDAI_TESTS_SIM_TUNNEL_HOST_H
#define FUMIDAI_TESTS_SIM_TUNNEL_HOST_H

#include "sim/lib/play.h"
#include "sim/lib/wire_end.h"
#include "tunnel/agent.h"

struct tunnel_host {
    struct session session;
    struct document document;
    struct wire_end wire;
    struct dice dice;
    struct play *plays;
    size_t play_count;
    struct play *targets[PORT_STREAMS_MAX]; /* by slot; null when there is none */
    bool basic;
    size_t basic_dials;
    int64_t reconnect_ms;
    uint32_t away_ms;
    int64_t probe_ms; /* when the probe is known */
    bool pauses;      /* the service says pause_publication now and then */
    bool paused;
    int64_t speak_ms; /* when the service says it, or the contrary */
    bool ready, over;
    bool close_due; /* the service ends the session */
    uint64_t losses;
    uint32_t held_max;
    const char *fault;
};

struct tunnel_host_options {
    uint32_t rate, burst;
    uint32_t away_ms;
    bool small_pieces;
    bool pauses;
    bool basic;
    enum document_kind kind;
};

/* `memory` is SESSION_MEMORY_SIZE zeroed bytes. */
void tunnel_host_init(struct tunnel_host *h, const struct tunnel_host_options *options, struct play *plays,
                      size_t play_count, void *memory, uint64_t seed);
void tunnel_host_step(struct tunnel_host *h, struct gateway *g, int64_t now_ms);
int64_t tunnel_host_due_ms(struct tunnel_host *h, const struct gateway *g, int64_t now_ms);

#endif
