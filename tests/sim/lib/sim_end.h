/*
 * sim_end: one end of a tunnel, in either role, over one gateway or several: the product's engine in the
 * product's loop (run/turn), with lanes that are simulated connections and endpoints that are plays. An
 * agent's end has a tunnel for each session until it learns that a session joins another's.
 */
#ifndef FUMIDAI_TESTS_SIM_END_H
#define FUMIDAI_TESTS_SIM_END_H

#include "run/turn.h"
#include "sim/lib/play.h"
#include "sim/lib/sim_link.h"

enum { SIM_LANES_MAX = 8 };

struct sim_end_options {
    enum lane_role role;
    unsigned lanes; /* 1 to SIM_LANES_MAX */
    bool destinations;
    enum document_kind kind;
    uint32_t rate, burst;
    bool small_pieces;
    bool pauses; /* the service pauses and starts publication, at random */
    int memory;  /* first of the test's memory regions that it may use: 3 × SIM_LANES_MAX of them */
    struct sim_link_faults faults;
};

struct sim_end;

/* A session, and the tunnel that was made for it. */
struct sim_session {
    struct sim_end *end;
    struct lane lane;
    struct sim_link link;
    struct document document;
    struct tunnel tunnel;
    struct play *plays[STREAMS_MAX];          /* of the tunnel's endpoints, by stream */
    struct sim_session *lanes[SIM_LANES_MAX]; /* of the tunnel */
    bool has_tunnel;
    bool is_over;
    bool failed;
    char reason[LANE_TEXT_SIZE];
    char secret[HANDSHAKE_SECRET_SIZE];
};

struct sim_end {
    struct sim_end_options options;
    struct gateway *gateways; /* one for each lane */
    struct play *plays;
    size_t play_count;
    struct dice dice;
    struct sim_session sessions[SIM_LANES_MAX];
    unsigned started; /* sessions */
    unsigned over;
    bool is_open; /* the first session's handshake is complete */
    bool is_done; /* every session is over */
    int64_t probe_ms;
    bool probed;
    bool is_ending; /* the end was asked for */
    int64_t speak_ms;
    bool paused;
    unsigned basic_opens; /* agent: dials so far */
    uint64_t turns_used_up;
    const char *fault;
};

void sim_end_init(struct sim_end *end, const struct sim_end_options *options, struct gateway *gateways,
                  struct play *plays, size_t play_count, uint64_t seed);
void sim_end_step(struct sim_end *end, int64_t now_ms);
int64_t sim_end_due_ms(struct sim_end *end, int64_t now_ms);
/* Ends every session from this end. */
void sim_end_end(struct sim_end *end, int64_t now_ms, bool failed, const char *reason);
/* The service ends one session; false when it can't be said now. */
bool sim_end_close_session(struct sim_end *end, unsigned session);
/* Streams that are open at this end. */
unsigned sim_end_open_streams(const struct sim_end *end);
/* Blocks of the pool that are in use. */
size_t sim_end_blocks(const struct sim_end *end);

#endif
