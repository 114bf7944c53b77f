/*
 * Whole tunnels: the product's engine in the product's loop at both ends, or at one end with a model of AWS's
 * client or agent at the other, over one gateway or several that do their worst, on a virtual clock. Every
 * byte is checked, both ways; every stream and every session comes to its end; no end connects again and
 * again; and nothing stays in the pool.
 *
 *     sim_tunnel                 every scenario
 *     sim_tunnel SEED [NAME]     one run of each, or of the one with this name: what a failure tells to do
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "base/sha256.h"
#include "sim/lib/aws_agent.h"
#include "sim/lib/aws_user.h"
#include "sim/lib/sim_end.h"

enum { SECOND_MS = 1000, MINUTE_MS = 60 * SECOND_MS, PLAYS_MAX = 256, STEPS_MAX = 20000000 };

/* Who is at the ends. */
enum peers {
    OURS_OURS, /* fumidai in the task and on the runner */
    OURS_AWS,  /* AWS's client */
    AWS_OURS,  /* AWS's agent */
    PEERS
};

enum ending { END_BY_CLIENT, END_BY_SERVICE, END_BY_AGENT, ENDINGS };

#define PEER(peers) (1u << (peers))
#define ANY_PEER    (PEER(OURS_OURS) | PEER(OURS_AWS) | PEER(AWS_OURS))
#define OUR_AGENT   (PEER(OURS_OURS) | PEER(OURS_AWS))

#define KIND(kind) (1u << (kind))

enum {
    HEALTHY = KIND(PLAY_ECHO) | KIND(PLAY_SOURCE) | KIND(PLAY_SINK) | KIND(PLAY_ANSWER),
    AILING = KIND(PLAY_BREAKS) | KIND(PLAY_REFUSE),
    ALL_BUT_NEVER = HEALTHY | AILING | KIND(PLAY_SLOW)
};

#ifdef __SANITIZE_ADDRESS__
enum { SLOWER = 5 }; /* fewer runs where each is slow */
#else
enum { SLOWER = 1 };
#endif

struct scenario {
    const char *name;
    unsigned runs;
    unsigned peers; /* a set of PEER() */
    struct gateway_faults faults;
    unsigned kinds;       /* a set of KIND() */
    uint32_t streams_max; /* of those */
    uint32_t bytes_max;   /* each way on one stream */
    unsigned extra;       /* one more stream of each kind in this set */
    unsigned lanes;       /* most; 0 is 1 */
    bool lanes_die;       /* the service ends sessions of a tunnel that has others */
    struct sim_link_faults link;
    bool pauses;
    bool basic;
    uint32_t rate, burst;
    uint32_t delay_max_ms; /* faults.delay_ms is anything up to this */
    int64_t limit_ms;      /* of virtual time, for all of it */
};

struct world {
    enum peers peers;
    unsigned lanes;
    struct gateway gateways[SIM_LANES_MAX];
    struct sim_end agent, client;
    struct aws_agent aws_agent;
    struct aws_user aws_user;
    struct play plays[PLAYS_MAX];
    size_t play_count;
    enum ending ending;
    bool ending_begun;
    int64_t ending_ms;
    int64_t death_ms; /* the next session of several ends then */
    struct dice dice;
    int64_t now_ms;
    uint64_t steps;
};

static struct world world;

/* ---- a run ---- */

static struct play *add_play(struct world *w, struct dice *dice, enum play_kind kind, uint32_t bytes_max)
{
    static const uint32_t sizes[] = {0, 1, 1023, 1024, 1025, 32767, 32768, 32769};
    struct play *p = &w->plays[w->play_count];
    *p = (struct play){.kind = kind, .seed = dice_next(dice), .abort_at = UINT64_MAX};
    p->id = (uint32_t) (3 + 2 * w->play_count++);
    p->up_total = dice_between(dice, 0, bytes_max);
    p->down_total = dice_between(dice, 0, bytes_max);
    if (dice_hits(dice, 3000))
        p->up_total = sizes[dice_between(dice, 0, 7)];
    if (dice_hits(dice, 3000))
        p->down_total = sizes[dice_between(dice, 0, 7)];
    p->break_at = dice_between(dice, 0, bytes_max);
    if (dice_hits(dice, 2000))
        p->abort_at = dice_between(dice, 0, bytes_max);
    p->open_ms = dice_hits(dice, 5000) ? 0 : dice_between(dice, 0, 2000);
    p->dial_ms = dice_hits(dice, 7000) ? dice_between(dice, 0, 3) : dice_between(dice, 0, 1500);
    p->slow_bytes_per_ms = dice_between(dice, 20, 200);
    if (kind == PLAY_NEVER)
        p->up_total = HELD_STREAM_MAX + PLAY_SOCKET_BUFFER + dice_between(dice, 100000, 500000);
    if (kind == PLAY_PING)
        p->up_total = 1000000;
    return p;
}

static enum play_kind pick_kind(struct dice *dice, unsigned kinds)
{
    for (;;) {
        enum play_kind kind = (enum play_kind) dice_between(dice, 0, PLAY_KINDS - 1);
        if (kinds & KIND(kind))
            return kind;
    }
}

static bool is_faultless(const struct scenario *s)
{
    return s->faults.lose + s->faults.twice + s->faults.late + s->faults.cut_bytes[0] +
               s->faults.cut_bytes[1] + s->faults.close_every_ms ==
           0;
}

static void set_up_ends(struct world *w, const struct scenario *s, struct dice *dice)
{
    bool destinations = w->peers == OURS_OURS && dice_hits(dice, 3000);
    struct sim_end_options options = {.lanes = w->lanes,
                                      .destinations = destinations,
                                      .rate = s->rate,
                                      .burst = s->burst,
                                      .pauses = s->pauses,
                                      .faults = s->link};
    struct aws_user_options user = {.mode = s->basic ? AWS_USER_BASIC : AWS_USER_MULTIPLEXED,
                                    .strict_silence = is_faultless(s),
                                    .away_ms = s->faults.away_ms};
    options.small_pieces = dice_hits(dice, 3000);
    options.role = LANE_AGENT;
    if (w->peers != AWS_OURS)
        sim_end_init(&w->agent, &options, w->gateways, w->plays, w->play_count, dice_next(dice));
    else
        aws_agent_init(&w->aws_agent, w->plays, w->play_count, false, s->faults.away_ms, dice_next(dice));
    options.role = LANE_CLIENT;
    options.memory = 3 * SIM_LANES_MAX;
    options.small_pieces = dice_hits(dice, 3000);
    options.pauses = false;
    if (w->peers != OURS_AWS)
        sim_end_init(&w->client, &options, w->gateways, w->plays, w->play_count, dice_next(dice));
    else
        aws_user_init(&w->aws_user, &user, w->plays, w->play_count, dice_next(dice));
}

static void set_up(struct world *w, const struct scenario *s, uint64_t seed)
{
    struct dice dice = {seed};
    do
        w->peers = (enum peers) dice_between(&dice, 0, PEERS - 1);
    while (!(s->peers & PEER(w->peers)));
    w->lanes = w->peers == OURS_OURS && s->lanes > 1 ? dice_between(&dice, 2, s->lanes) : 1;
    w->play_count = 0;
    for (uint32_t n = dice_between(&dice, 1, s->streams_max); n > 0; n--)
        add_play(w, &dice, pick_kind(&dice, s->kinds), s->bytes_max);
    for (enum play_kind kind = 0; kind < PLAY_KINDS; kind++)
        if (s->extra & KIND(kind))
            add_play(w, &dice, kind, s->bytes_max);
    struct gateway_faults faults = s->faults;
    faults.delay_ms += s->delay_max_ms > 0 ? dice_between(&dice, 0, s->delay_max_ms) : 0;
    for (unsigned i = 0; i < w->lanes; i++)
        gateway_init(&w->gateways[i], &faults, dice_next(&dice));
    for (size_t i = 0; i < w->play_count; i++) {
        w->plays[i].half_close = w->peers == OURS_OURS && !s->basic;
        w->plays[i].up_total += s->basic; /* the next connection begins with the first byte for it */
        if (w->peers == AWS_OURS && w->plays[i].kind == PLAY_NEVER)
            w->plays[i].kind = PLAY_SINK; /* one that nobody reads stalls AWS's agent for good (pitfall 15) */
    }
    set_up_ends(w, s, &dice);
    w->ending = (enum ending) dice_between(&dice, 0, w->peers == AWS_OURS ? END_BY_SERVICE : ENDINGS - 1);
    w->ending_begun = false;
    w->ending_ms = w->now_ms = 0;
    w->steps = 0;
    w->dice.state = dice_next(&dice);
    w->death_ms = s->lanes_die ? dice_between(&w->dice, 100, 5000) : INT64_MAX;
}

static bool client_is_done(const struct world *w)
{
    if (w->peers == OURS_AWS)
        return w->aws_user.complete && aws_user_done(&w->aws_user);
    for (size_t i = 0; i < w->play_count; i++)
        if (!play_is_done(&w->plays[i]))
            return false;
    return w->client.is_open && sim_end_open_streams(&w->client) == 0;
}

/* The targets know of all streams' ends. With one basic connection, the flag that ends the session may come
 * right behind the data: what is here for a target still reaches it. */
static bool targets_are_done(const struct world *w)
{
    bool basic = w->peers == OURS_AWS && w->aws_user.options.mode == AWS_USER_BASIC;
    if (w->peers == AWS_OURS)
        return true;
    if (basic && w->ending == END_BY_CLIENT && w->play_count == 1 && w->plays[0].kind != PLAY_SLOW)
        return true;
    if (basic && w->agent.basic_opens < w->play_count)
        return false;
    return w->agent.is_open && sim_end_open_streams(&w->agent) == 0;
}

static void close_by_service(struct world *w, unsigned session)
{
    if (w->peers != AWS_OURS)
        sim_end_close_session(&w->agent, session);
    if (w->peers != OURS_AWS)
        sim_end_close_session(&w->client, session);
}

/* All streams are done with at both ends: now the sessions. */
static void begin_end(struct world *w)
{
    if (w->ending_begun || !client_is_done(w) || !targets_are_done(w))
        return;
    w->ending_begun = true;
    w->ending_ms = w->now_ms;
    if (w->ending == END_BY_CLIENT && w->peers == OURS_AWS)
        w->aws_user.terminate = true;
    else if (w->ending == END_BY_CLIENT)
        sim_end_end(&w->client, w->now_ms, false, "the command has ended");
    else if (w->ending == END_BY_AGENT)
        sim_end_end(&w->agent, w->now_ms, true, "this task stops");
    w->agent.is_ending = w->client.is_ending = true;
}

/* A session that one end has left is closed at the other, as the service does it. */
static void service_steps(struct world *w)
{
    unsigned alive = 0;
    if (w->ending_begun && w->ending == END_BY_SERVICE)
        for (unsigned i = 0; i < w->lanes; i++)
            close_by_service(w, i);
    for (unsigned i = 0; i < w->lanes && w->peers == OURS_OURS; i++) {
        if (i < w->agent.started && w->agent.sessions[i].is_over)
            sim_end_close_session(&w->client, i);
        else if (i < w->client.started && w->client.sessions[i].is_over)
            sim_end_close_session(&w->agent, i);
        else if (w->client.sessions[i].lane.state == LANE_OPEN &&
                 w->agent.sessions[i].lane.state == LANE_OPEN)
            alive++; /* it carries the tunnel */
    }
    if (w->peers == AWS_OURS && w->aws_agent.terminated)
        sim_end_close_session(&w->client, 0);
    if (w->now_ms < w->death_ms || alive < 2 || w->ending_begun || !w->client.is_open)
        return;
    w->death_ms = w->now_ms + dice_between(&w->dice, 500, 20000);
    unsigned victim = dice_between(&w->dice, 0, w->lanes - 1);
    if (w->client.sessions[victim].lane.state == LANE_OPEN && w->agent.started > victim &&
        w->agent.sessions[victim].lane.state == LANE_OPEN)
        close_by_service(w, victim);
}

static bool is_over(const struct world *w)
{
    bool agent = w->peers == AWS_OURS || w->agent.is_done;
    bool client = w->peers == OURS_AWS || w->client.is_done;
    return agent && client;
}

static void step(struct world *w)
{
    int64_t due_ms = INT64_MAX;
    w->steps++;
    if (w->peers == AWS_OURS)
        aws_agent_step(&w->aws_agent, &w->gateways[0], w->now_ms);
    else
        sim_end_step(&w->agent, w->now_ms);
    if (w->peers == OURS_AWS)
        aws_user_step(&w->aws_user, &w->gateways[0], w->now_ms);
    else
        sim_end_step(&w->client, w->now_ms);
    begin_end(w);
    service_steps(w);
    if (is_over(w))
        return;
    due_ms = w->peers == AWS_OURS ? aws_agent_due_ms(&w->aws_agent, &w->gateways[0], w->now_ms)
                                  : sim_end_due_ms(&w->agent, w->now_ms);
    due_ms =
        num_min_i64(due_ms, w->peers == OURS_AWS ? aws_user_due_ms(&w->aws_user, &w->gateways[0], w->now_ms)
                                                 : sim_end_due_ms(&w->client, w->now_ms));
    if (w->ending_begun || w->agent.is_done || w->client.is_done)
        due_ms = num_min_i64(due_ms, w->now_ms + 10);
    due_ms = num_min_i64(due_ms, w->death_ms);
    w->now_ms = num_max_i64(due_ms, w->now_ms + 1);
}

/* With a gateway that fails to open all the time, no handshake may come about.
 * That is an end with a reason. */
static bool gave_up(const struct world *w, const struct scenario *s)
{
    const struct sim_end *end = w->peers != AWS_OURS ? &w->agent : &w->client;
    return s->link.broken > 0 && end->is_done && strstr(end->sessions[0].reason, "handshake") != NULL;
}

static const char *fault_of(const struct world *w, const struct scenario *s)
{
    const char *faults[] = {w->peers != AWS_OURS ? w->agent.fault : w->aws_agent.fault,
                            w->peers != OURS_AWS ? w->client.fault : w->aws_user.fault};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        if (faults[i] != NULL)
            return faults[i];
    for (size_t i = 0; i < w->play_count; i++)
        if (w->plays[i].fault != NULL)
            return w->plays[i].fault;
    for (unsigned i = 0; i < w->lanes; i++)
        if ((w->peers != AWS_OURS && w->gateways[i].sides[GATEWAY_AGENT].over_limit) ||
            (w->peers != OURS_AWS && w->gateways[i].sides[GATEWAY_CLIENT].over_limit))
            return "more messages than the service tolerates";
    if (!w->ending_begun && (w->peers != AWS_OURS ? w->agent.is_done : w->client.is_done) && !gave_up(w, s))
        return "the sessions ended by themselves";
    if (w->now_ms > s->limit_ms || w->steps > STEPS_MAX)
        return "no end in sight";
    return NULL;
}

static const char *reason_at_agent(enum ending ending)
{
    switch (ending) {
    case END_BY_CLIENT:
        return "the client ended the session";
    case END_BY_SERVICE:
        return "the service ended the session: over and out";
    case END_BY_AGENT:
    case ENDINGS:
        break;
    }
    return "this task stops";
}

static const char *check_reasons(const struct world *w)
{
    for (unsigned i = 0; i < w->agent.started && w->peers != AWS_OURS; i++) {
        const struct sim_session *session = &w->agent.sessions[i];
        /* A client whose flag is still on its way when it leaves is reported by the service. */
        bool by_service =
            w->ending == END_BY_CLIENT && strcmp(session->reason, reason_at_agent(END_BY_SERVICE)) == 0;
        if (w->lanes == 1 && ((strcmp(session->reason, reason_at_agent(w->ending)) != 0 && !by_service) ||
                              session->failed != (w->ending == END_BY_AGENT)))
            return "the agent's end has another reason";
        if (session->reason[0] == '\0')
            return "a session ended without a reason";
    }
    if (w->peers != OURS_AWS && w->lanes == 1 && w->ending == END_BY_CLIENT &&
        strcmp(w->client.sessions[0].reason, "the command has ended") != 0)
        return "the client's end has another reason";
    return NULL;
}

static const char *result_of(const struct world *w)
{
    const char *banner = w->peers == OURS_AWS ? w->aws_user.banner : w->client.sessions[0].lane.banner;
    const char *fault = check_reasons(w);
    for (size_t i = 0; i < w->play_count && fault == NULL; i++)
        fault = play_verdict(&w->plays[i]);
    if (fault != NULL)
        return fault;
    if ((w->peers != AWS_OURS && sim_end_blocks(&w->agent) > 0) ||
        (w->peers != OURS_AWS && sim_end_blocks(&w->client) > 0))
        return "blocks were not given back";
    if (w->now_ms - w->ending_ms > LANE_DRAIN_MS + 2 * MINUTE_MS)
        return "the end took too long";
    if (banner[0] != '\0' && strcmp(banner, "Connected to the simulated target.") != 0)
        return "the banner arrived changed";
    return NULL;
}

static void explain_end(const char *name, const struct sim_end *end)
{
    for (unsigned i = 0; i < end->started; i++) {
        const struct sim_session *s = &end->sessions[i];
        struct data_channel_stats a;
        data_channel_stats(&s->lane.channel, &a);
        print_error("  %s session %u: state %d \"%s\", %llu connections, sent %llu, resent %llu, given up "
                    "%llu, received "
                    "%llu%s; streams %u\n",
                    name, i, s->lane.state, s->lane.reason, (unsigned long long) a.connections,
                    (unsigned long long) a.sent, (unsigned long long) a.resent,
                    (unsigned long long) a.given_up, (unsigned long long) a.received,
                    s->is_over ? ", over" : "", s->has_tunnel ? tunnel_open_streams(&s->tunnel) : 0);
    }
}

static void explain(const struct world *w, const struct scenario *s, uint64_t seed, const char *fault)
{
    print_error("%s: seed %llu, peers %d, %u lanes, ending %d%s, after %lld ms and %llu steps: %s\n", s->name,
                (unsigned long long) seed, w->peers, w->lanes, w->ending, w->ending_begun ? " (begun)" : "",
                (long long) w->now_ms, (unsigned long long) w->steps, fault);
    print_error("  sim_tunnel %llu %s\n", (unsigned long long) seed, s->name);
    if (w->peers != AWS_OURS)
        explain_end("agent", &w->agent);
    if (w->peers != OURS_AWS)
        explain_end("client", &w->client);
    for (size_t i = 0; i < w->play_count; i++) {
        const struct play *p = &w->plays[i];
        if (play_is_done(p) && play_verdict(p) == NULL)
            continue;
        print_error(
            "  stream %u kind %d: up %llu of %llu, taken %llu; down %llu given %llu of %llu; syn %d fin %d "
            "fin back %d; target %d heard the end %d: %s\n",
            p->id, p->kind, (unsigned long long) p->up_sent, (unsigned long long) p->up_total,
            (unsigned long long) p->taken, (unsigned long long) p->down_received,
            (unsigned long long) p->given, (unsigned long long) p->down_total, p->syn_sent, p->fin_sent,
            p->fin_received, p->target, p->heard_end, play_verdict(p) != NULL ? play_verdict(p) : "not done");
    }
}

static void tear_down(struct world *w)
{
    for (unsigned i = 0; i < w->lanes; i++)
        gateway_end(&w->gateways[i]);
    if (w->peers == OURS_AWS)
        aws_user_end(&w->aws_user);
    if (w->peers == AWS_OURS)
        aws_agent_end(&w->aws_agent);
}

static void run_to_the_end(struct world *w, const struct scenario *s, uint64_t seed)
{
    const char *fault = NULL;
    while (!is_over(w) && fault == NULL) {
        step(w);
        fault = fault_of(w, s);
    }
    if (fault == NULL && !gave_up(w, s))
        fault = result_of(w);
    if (fault != NULL)
        explain(w, s, seed, fault);
    tear_down(w);
    assert_null(fault);
}

static void run(const struct scenario *s, uint64_t seed)
{
    set_up(&world, s, seed);
    run_to_the_end(&world, s, seed);
}

/* ---- scenarios ---- */

#define ALL_FAULTS(n) .lose = (n), .twice = (n), .late = (n), .late_ms = 300, .away_ms = 200

static const struct scenario scenarios[] = {
    {"clean", 2000, ANY_PEER, {.delay_ms = 1}, ALL_BUT_NEVER, 6, 60000, .limit_ms = 5 * MINUTE_MS},
    {"pitfall_3_at_every_round_trip",
     800,
     PEER(OURS_AWS),
     {0},
     KIND(PLAY_ECHO) | KIND(PLAY_SOURCE),
     3,
     20000,
     .delay_max_ms = 700,
     .limit_ms = 5 * MINUTE_MS},
    {"pitfall_3_handshake_complete_comes_late",
     40,
     PEER(OURS_AWS),
     {.delay_ms = 225, .complete_late_ms = 650},
     KIND(PLAY_ECHO) | KIND(PLAY_SOURCE),
     3,
     20000,
     .limit_ms = 5 * MINUTE_MS},
    {"pitfall_3_handshake_complete_comes_late_at_every_round_trip",
     400,
     PEER(OURS_AWS),
     {.delay_ms = 1, .complete_late_ms = 200},
     KIND(PLAY_ECHO) | KIND(PLAY_SOURCE),
     3,
     20000,
     .delay_max_ms = 400,
     .limit_ms = 5 * MINUTE_MS},
    {"lost",
     1000,
     ANY_PEER,
     {.lose = 100, .delay_ms = 5},
     ALL_BUT_NEVER,
     5,
     60000,
     .limit_ms = 30 * MINUTE_MS},
    {"twice",
     500,
     ANY_PEER,
     {.twice = 100, .delay_ms = 5},
     ALL_BUT_NEVER,
     5,
     60000,
     .limit_ms = 10 * MINUTE_MS},
    {"late",
     500,
     ANY_PEER,
     {.late = 100, .late_ms = 500, .delay_ms = 5},
     ALL_BUT_NEVER,
     5,
     60000,
     .limit_ms = 30 * MINUTE_MS},
    {"all_faults",
     2000,
     ANY_PEER,
     {ALL_FAULTS(50), .delay_ms = 10},
     ALL_BUT_NEVER,
     5,
     60000,
     .limit_ms = 60 * MINUTE_MS},
    {"cut_every_40_kB",
     1000,
     ANY_PEER,
     {.cut_bytes = {40000, 60000}, .away_ms = 50, .delay_ms = 3},
     ALL_BUT_NEVER,
     4,
     60000,
     .limit_ms = 60 * MINUTE_MS},
    {"pitfall_12_cut_every_400_kB",
     60,
     ANY_PEER,
     {.cut_bytes = {400000, 400000}, .away_ms = 50, .delay_ms = 3},
     HEALTHY,
     4,
     1000000,
     .limit_ms = 60 * MINUTE_MS},
    {"pitfall_20_closed_every_2_s",
     500,
     ANY_PEER,
     {.close_every_ms = 2000, .away_ms = 50, .delay_ms = 40},
     ALL_BUT_NEVER,
     5,
     150000,
     .rate = 500,
     .burst = 100,
     .limit_ms = 60 * MINUTE_MS},
    {"paused",
     500,
     OUR_AGENT,
     {ALL_FAULTS(50), .delay_ms = 3},
     HEALTHY,
     4,
     50000,
     .pauses = true,
     .limit_ms = 60 * MINUTE_MS},
    {"paced",
     200,
     ANY_PEER,
     {ALL_FAULTS(50), .delay_ms = 20, .rate_limit = 1920},
     HEALTHY,
     4,
     1500000,
     .rate = 960,
     .burst = 512,
     .limit_ms = 60 * MINUTE_MS},
    {"pitfall_15_one_that_nobody_reads",
     30,
     ANY_PEER,
     {.delay_ms = 2},
     HEALTHY | KIND(PLAY_SLOW),
     4,
     60000,
     .extra = KIND(PLAY_NEVER) | KIND(PLAY_PING),
     .limit_ms = 10 * MINUTE_MS},
    {"many_streams",
     30,
     ANY_PEER,
     {ALL_FAULTS(10), .delay_ms = 2},
     ALL_BUT_NEVER,
     200,
     8000,
     .limit_ms = 60 * MINUTE_MS},
    {"basic",
     1000,
     PEER(OURS_AWS),
     {.delay_ms = 3},
     KIND(PLAY_ECHO) | KIND(PLAY_SINK) | KIND(PLAY_SLOW),
     3,
     60000,
     .basic = true,
     .limit_ms = 10 * MINUTE_MS},
    {"basic_all_faults",
     1000,
     PEER(OURS_AWS),
     {ALL_FAULTS(50), .cut_bytes = {60000, 60000}, .delay_ms = 3},
     KIND(PLAY_ECHO) | KIND(PLAY_SINK) | KIND(PLAY_SLOW),
     3,
     60000,
     .basic = true,
     .limit_ms = 60 * MINUTE_MS},
    {"lanes",
     300,
     PEER(OURS_OURS),
     {.delay_ms = 2},
     HEALTHY | AILING,
     6,
     300000,
     .lanes = 8,
     .limit_ms = 10 * MINUTE_MS},
    {"lanes_paced",
     60,
     PEER(OURS_OURS),
     {.delay_ms = 20, .rate_limit = 1920},
     HEALTHY,
     3,
     4000000,
     .lanes = 8,
     .rate = 960,
     .burst = 512,
     .limit_ms = 10 * MINUTE_MS},
    {"lanes_all_faults",
     400,
     PEER(OURS_OURS),
     {ALL_FAULTS(50), .cut_bytes = {200000, 200000}, .delay_ms = 5},
     ALL_BUT_NEVER,
     5,
     200000,
     .lanes = 8,
     .limit_ms = 60 * MINUTE_MS},
    {"lanes_that_die",
     600,
     PEER(OURS_OURS),
     {.delay_ms = 10},
     ALL_BUT_NEVER,
     5,
     2000000,
     .lanes = 8,
     .lanes_die = true,
     .rate = 960,
     .burst = 64,
     .limit_ms = 60 * MINUTE_MS},
    {"lanes_that_die_with_faults",
     300,
     PEER(OURS_OURS),
     {ALL_FAULTS(50), .delay_ms = 10, .close_every_ms = 4000},
     ALL_BUT_NEVER,
     5,
     400000,
     .lanes = 8,
     .lanes_die = true,
     .rate = 960,
     .burst = 64,
     .limit_ms = 60 * MINUTE_MS},
    {"gateway_that_fails_to_open",
     600,
     ANY_PEER,
     {.close_every_ms = 8000, .delay_ms = 5, .away_ms = 50},
     HEALTHY,
     4,
     200000,
     .link = {.closed_at_once = 3000, .silent = 1000, .broken = 3000, .throttled = 500},
     .rate = 300,
     .burst = 64,
     .limit_ms = 60 * MINUTE_MS},
};

/* ---- what it feels like: a world of one's own, measured ---- */

struct measure {
    const char *what;
    uint64_t down_total; /* of one source */
    bool beside_ping;    /* a keystroke each 20 ms on another stream */
    int64_t quiet_ms;    /* before the source is opened */
};

/* No faults, a millisecond from end to end, the default pace. */
static void set_up_measure(struct world *w, const struct measure *m)
{
    static const struct gateway_faults faults = {.delay_ms = 1, .rate_limit = 1920};
    static int64_t pings[PLAY_PINGS_MAX];
    const struct sim_end_options agent = {.role = LANE_AGENT, .lanes = 1, .rate = 960, .burst = 512};
    const struct sim_end_options client = {.role = LANE_CLIENT, .lanes = 1, .memory = 3 * SIM_LANES_MAX};
    struct dice dice = {1};
    w->play_count = 0;
    gateway_init(&w->gateways[0], &faults, 1);
    struct play *source = add_play(w, &dice, PLAY_SOURCE, 0);
    *source = (struct play){.kind = PLAY_SOURCE,
                            .seed = 1,
                            .id = source->id,
                            .abort_at = UINT64_MAX,
                            .open_ms = m->quiet_ms,
                            .down_total = m->down_total,
                            .half_close = true};
    if (m->beside_ping) {
        struct play *ping = add_play(w, &dice, PLAY_PING, 0);
        ping->open_ms = ping->dial_ms = 0;
        ping->half_close = true;
        ping->pings = pings;
    }
    sim_end_init(&w->agent, &agent, w->gateways, w->plays, w->play_count, 1);
    sim_end_init(&w->client, &client, w->gateways, w->plays, w->play_count, 1);
    w->peers = OURS_OURS;
    w->lanes = 1;
    w->death_ms = INT64_MAX;
    w->ending = END_BY_CLIENT;
    w->ending_begun = false;
    w->now_ms = 0;
    w->steps = 0;
}

static void run_measure(const struct measure *m)
{
    static const struct scenario s = {.name = "measure", .limit_ms = 10 * MINUTE_MS};
    set_up_measure(&world, m);
    run_to_the_end(&world, &s, 1);
}

static void an_answer_of_512_kb_on_a_quiet_session_within_100_ms(void **state)
{
    (void) state;
    run_measure(&(struct measure){.down_total = 512 * 1024, .quiet_ms = 10 * SECOND_MS});
    int64_t took_ms = world.plays[0].last_ms - world.plays[0].first_ms;
    print_message("512 KB in %lld ms\n", (long long) took_ms);
    assert_in_range(took_ms, 0, 100);
}

static void a_download_at_97_percent_of_the_pace(void **state)
{
    (void) state;
    run_measure(&(struct measure){.down_total = 50 * 1000 * 1000});
    const struct play *p = &world.plays[0];
    int64_t per_second = (int64_t) p->down_received * SECOND_MS / (p->last_ms - p->first_ms);
    print_message("%lld bytes/s of %d\n", (long long) per_second, 960 * 1024);
    assert_in_range(per_second, 960 * 1024 * 97 / 100, 960 * 1024 * 103 / 100);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *) a;
    int64_t y = *(const int64_t *) b;
    return x < y ? -1 : x > y;
}

static void a_keystroke_beside_a_download_within_25_ms(void **state)
{
    (void) state;
    run_measure(&(struct measure){.down_total = 20 * 1000 * 1000, .beside_ping = true});
    const struct play *p = &world.plays[1];
    assert_in_range(p->ping_count, 500, PLAY_PINGS_MAX);
    qsort(p->pings, p->ping_count, sizeof p->pings[0], compare);
    int64_t p99_ms = p->pings[p->ping_count * 99 / 100];
    print_message("%zu round trips: p50 %lld ms, p99 %lld ms, max %lld ms (2 ms are the line's)\n",
                  p->ping_count, (long long) p->pings[p->ping_count / 2], (long long) p99_ms,
                  (long long) p->pings[p->ping_count - 1]);
    assert_in_range(p99_ms, 0, 25);
    const struct play *source = &world.plays[0];
    int64_t per_second = (int64_t) source->down_received * SECOND_MS / (source->last_ms - source->first_ms);
    assert_in_range(per_second, 960 * 1024 * 85 / 100, 960 * 1024 * 103 / 100);
}

static uint64_t one_seed;

static void play(void **state)
{
    const struct scenario *s = *state;
    uint64_t first = one_seed != 0 ? one_seed : 1;
    uint64_t runs = one_seed != 0 ? 1 : (s->runs + SLOWER - 1) / SLOWER;
    for (uint64_t seed = first; seed < first + runs; seed++)
        run(s, seed);
}

int main(int argc, char **argv)
{
    enum { COUNT = sizeof scenarios / sizeof scenarios[0], MEASURES = 3 };
    struct CMUnitTest tests[COUNT + MEASURES] = {
        cmocka_unit_test(an_answer_of_512_kb_on_a_quiet_session_within_100_ms),
        cmocka_unit_test(a_download_at_97_percent_of_the_pace),
        cmocka_unit_test(a_keystroke_beside_a_download_within_25_ms),
    };
    sha256_choose(0);
    for (size_t i = 0; i < COUNT; i++)
        tests[MEASURES + i] =
            (struct CMUnitTest){scenarios[i].name, play, NULL, NULL, (void *) (uintptr_t) &scenarios[i]};
    if (argc > 1)
        one_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        cmocka_set_test_filter(argv[2]);
    return _cmocka_run_group_tests("sim_tunnel", tests, COUNT + MEASURES, NULL, NULL);
}
