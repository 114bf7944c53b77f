/*
 * Whole sessions: the agent's session engine with its targets, and a client at the other end of a gateway that does its
 * worst, on a virtual clock. Every byte is checked, both ways, and that every stream and every session comes to its end.
 *
 *     sim_session                 every scenario
 *     sim_session SEED [NAME]     one run of each, or of the one with this name: what a failure tells to do
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "base/sha256.h"
#include "lib/fresh_pool.h"
#include "sim/lib/tunnel_client.h"
#include "sim/lib/tunnel_host.h"

enum { SECOND_MS = 1000, MINUTE_MS = 60 * SECOND_MS, PLAYS_MAX = 256, STEPS_MAX = 20000000 };

enum client_kind { CLIENT_OURS, CLIENT_OURS_WHOLE_CLOSE, CLIENT_AWS, CLIENT_ANY };

enum ending { END_BY_FLAG, END_BY_SERVICE, END_BY_CALLER, ENDINGS };

#define KIND(kind) (1u << (kind))

enum {
    HEALTHY = KIND(PLAY_ECHO) | KIND(PLAY_SOURCE) | KIND(PLAY_SINK) | KIND(PLAY_ANSWER),
    AILING = KIND(PLAY_BREAKS) | KIND(PLAY_REFUSE),
    ALL_BUT_NEVER = HEALTHY | AILING | KIND(PLAY_SLOW)
};

struct scenario {
    const char *name;
    unsigned runs;
    enum client_kind client;
    struct gateway_faults faults;
    unsigned kinds;       /* a set of KIND() */
    uint32_t streams_max; /* of those */
    uint32_t bytes_max;   /* each way on one stream */
    unsigned extra;       /* one more stream of each kind in this set */
    bool pauses;
    bool basic;
    uint32_t rate, burst;
    int64_t limit_ms; /* of virtual time, for all of it */
};

struct world {
    struct gateway gateway;
    struct tunnel_host host;
    struct tunnel_client client;
    struct play plays[PLAYS_MAX];
    size_t play_count;
    enum ending ending;
    bool ending_begun;
    int64_t ending_ms;
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
        p->up_total = PORT_STREAM_HELD_MAX + PLAY_SOCKET_BUFFER + dice_between(dice, 100000, 500000);
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

static void set_up(struct world *w, const struct scenario *s, uint64_t seed)
{
    struct dice dice = {seed};
    enum client_kind client = s->client;
    struct tunnel_host_options options = {.rate = s->rate,
                                          .burst = s->burst,
                                          .away_ms = s->faults.away_ms,
                                          .pauses = s->pauses,
                                          .basic = s->basic};
    if (client == CLIENT_ANY)
        client = (enum client_kind) dice_between(&dice, 0, 2);
    w->play_count = 0;
    for (uint32_t n = dice_between(&dice, 1, s->streams_max); n > 0; n--)
        add_play(w, &dice, pick_kind(&dice, s->kinds), s->bytes_max);
    for (enum play_kind kind = 0; kind < PLAY_KINDS; kind++)
        if (s->extra & KIND(kind))
            add_play(w, &dice, kind, s->bytes_max);
    gateway_init(&w->gateway, &s->faults, dice_next(&dice));
    options.small_pieces = dice_hits(&dice, 3000);
    tunnel_host_init(&w->host, &options, w->plays, w->play_count, fresh_memory(0, SESSION_MEMORY_SIZE),
                     dice_next(&dice));
    struct tunnel_client_options client_options = {
        .is_aws = client == CLIENT_AWS,
        .mode = s->basic ? TUNNEL_BASIC : TUNNEL_MULTIPLEXED,
        .half_close = client == CLIENT_OURS && !s->basic,
        .strict_silence = s->faults.lose + s->faults.twice + s->faults.late + s->faults.cut_bytes[0] +
                              s->faults.cut_bytes[1] + s->faults.close_every_ms ==
                          0,
        .small_pieces = dice_hits(&dice, 3000),
        .away_ms = s->faults.away_ms,
        .rate = s->rate,
        .burst = s->burst,
    };
    tunnel_client_init(&w->client, &client_options, w->plays, w->play_count,
                       fresh_memory(1, DATA_CHANNEL_MEMORY_SIZE), dice_next(&dice));
    for (size_t i = 0; i < w->play_count && s->basic; i++)
        w->plays[i].up_total++; /* the next connection begins with the first byte for it */
    for (size_t i = 0; i < w->play_count; i++)
        w->plays[i].half_close = w->client.options.half_close;
    w->ending = (enum ending) dice_between(&dice, 0, ENDINGS - 1);
    w->ending_begun = false;
    w->ending_ms = 0;
    w->now_ms = 0;
    w->steps = 0;
}

/* The targets know of all streams' ends. With one basic connection, the flag that ends the session may come right behind
 * the data: what is here for a target still reaches it. */
static bool targets_are_done(const struct world *w)
{
    const struct session *session = &w->host.session;
    bool may_hurry = w->ending == END_BY_FLAG && w->play_count == 1 && w->plays[0].kind != PLAY_SLOW;
    if (w->client.options.mode == TUNNEL_BASIC && may_hurry)
        return true;
    if (w->client.options.mode == TUNNEL_BASIC && w->host.basic_dials < w->play_count)
        return false;
    return session->port_ready && port_session_open_streams(&session->port) == 0;
}

/* All streams are done with at both ends: now the session. */
static void begin_end(struct world *w)
{
    if (w->ending_begun || !w->client.complete || !tunnel_client_done(&w->client) || !targets_are_done(w))
        return;
    w->ending_begun = true;
    w->ending_ms = w->now_ms;
    switch (w->ending) {
    case END_BY_FLAG:
        w->client.terminate = true;
        break;
    case END_BY_SERVICE:
        w->host.close_due = true;
        break;
    case END_BY_CALLER:
        session_end(&w->host.session, w->now_ms, true, STR_LITERAL("this task stops"));
        break;
    case ENDINGS:
        break;
    }
}

static void step(struct world *w)
{
    w->steps++;
    tunnel_host_step(&w->host, &w->gateway, w->now_ms);
    tunnel_client_step(&w->client, &w->gateway, w->now_ms);
    begin_end(w);
    if (w->host.over)
        return;
    int64_t host_ms = tunnel_host_due_ms(&w->host, &w->gateway, w->now_ms);
    int64_t client_ms = tunnel_client_due_ms(&w->client, &w->gateway, w->now_ms);
    int64_t due_ms = host_ms < client_ms ? host_ms : client_ms;
    if (w->host.close_due)
        due_ms = w->now_ms + 1;
    w->now_ms = due_ms > w->now_ms ? due_ms : w->now_ms + 1;
}

static const char *fault_of(const struct world *w, const struct scenario *s)
{
    if (w->host.fault != NULL)
        return w->host.fault;
    if (w->client.fault != NULL)
        return w->client.fault;
    for (size_t i = 0; i < w->play_count; i++)
        if (w->plays[i].fault != NULL)
            return w->plays[i].fault;
    if (w->gateway.sides[GATEWAY_AGENT].over_limit ||
        (!w->client.options.is_aws && w->gateway.sides[GATEWAY_CLIENT].over_limit))
        return "more messages than the service tolerates";
    if (w->host.over && !w->ending_begun)
        return "the session ended by itself";
    if (w->now_ms > s->limit_ms || w->steps > STEPS_MAX)
        return "no end in sight";
    return NULL;
}

static const char *reason_for(enum ending ending)
{
    switch (ending) {
    case END_BY_FLAG:
        return "the client ended the session";
    case END_BY_SERVICE:
        return "the service ended the session: over and out";
    case END_BY_CALLER:
    case ENDINGS:
        break;
    }
    return "this task stops";
}

static const char *verdict(const struct world *w)
{
    const struct session *session = &w->host.session;
    for (size_t i = 0; i < w->play_count; i++) {
        const char *fault = play_verdict(&w->plays[i]);
        if (fault != NULL)
            return fault;
    }
    if (session->port.chunks_used != 0)
        return "chunks were not given back";
    if (strcmp(session->reason, reason_for(w->ending)) != 0 ||
        session->failed != (w->ending == END_BY_CALLER))
        return "the end was told wrongly";
    if (w->now_ms - w->ending_ms > SESSION_DRAIN_MS + 2 * MINUTE_MS)
        return "the end took too long";
    if (strcmp(w->client.banner, "Connected to the simulated target.") != 0 && w->client.banner[0] != '\0')
        return "the banner arrived changed";
    return NULL;
}

static void explain(const struct world *w, const struct scenario *s, uint64_t seed, const char *fault)
{
    struct data_channel_stats a;
    data_channel_stats(&w->host.session.channel, &a);
    print_error("%s: seed %llu, after %lld ms and %llu steps: %s\n", s->name, (unsigned long long) seed,
                (long long) w->now_ms, (unsigned long long) w->steps, fault);
    print_error("  sim_session %llu %s; session state %d \"%s\", %llu connections, sent %llu, resent %llu, "
                "given up %llu, received %llu, blocked on %d\n",
                (unsigned long long) seed, s->name, (int) w->host.session.state, w->host.session.reason,
                (unsigned long long) a.connections, (unsigned long long) a.sent,
                (unsigned long long) a.resent, (unsigned long long) a.given_up,
                (unsigned long long) a.received,
                w->host.session.port_ready ? w->host.session.port.blocked : -1);
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

static void run(const struct scenario *s, uint64_t seed)
{
    struct world *w = &world;
    const char *fault = NULL;
    set_up(w, s, seed);
    while (!w->host.over && fault == NULL) {
        step(w);
        fault = fault_of(w, s);
    }
    if (fault == NULL)
        fault = verdict(w);
    if (fault != NULL)
        explain(w, s, seed, fault);
    gateway_end(&w->gateway);
    tunnel_client_end(&w->client);
    assert_null(fault);
}

/* ---- scenarios ---- */

#define ALL_FAULTS(n) .lose = (n), .twice = (n), .late = (n), .late_ms = 300, .away_ms = 200

static const struct scenario scenarios[] = {
    {"clean", 2000, CLIENT_ANY, {.delay_ms = 1}, ALL_BUT_NEVER, 6, 60000, .limit_ms = 5 * MINUTE_MS},
    {"lost",
     1000,
     CLIENT_ANY,
     {.lose = 100, .delay_ms = 5},
     ALL_BUT_NEVER,
     5,
     60000,
     .limit_ms = 30 * MINUTE_MS},
    {"twice",
     500,
     CLIENT_ANY,
     {.twice = 100, .delay_ms = 5},
     ALL_BUT_NEVER,
     5,
     60000,
     .limit_ms = 10 * MINUTE_MS},
    {"late",
     500,
     CLIENT_ANY,
     {.late = 100, .late_ms = 500, .delay_ms = 5},
     ALL_BUT_NEVER,
     5,
     60000,
     .limit_ms = 30 * MINUTE_MS},
    {"all_faults",
     2000,
     CLIENT_ANY,
     {ALL_FAULTS(50), .delay_ms = 10},
     ALL_BUT_NEVER,
     5,
     60000,
     .limit_ms = 60 * MINUTE_MS},
    {"cut_every_40_kB",
     1000,
     CLIENT_ANY,
     {.cut_bytes = {40000, 60000}, .away_ms = 50, .delay_ms = 3},
     ALL_BUT_NEVER,
     4,
     60000,
     .limit_ms = 60 * MINUTE_MS},
    {"pitfall_12_cut_every_400_kB",
     60,
     CLIENT_ANY,
     {.cut_bytes = {400000, 400000}, .away_ms = 50, .delay_ms = 3},
     HEALTHY,
     4,
     1000000,
     .limit_ms = 60 * MINUTE_MS},
    {"pitfall_20_closed_every_2_s",
     500,
     CLIENT_ANY,
     {.close_every_ms = 2000, .away_ms = 50, .delay_ms = 40},
     ALL_BUT_NEVER,
     5,
     150000,
     .rate = 500,
     .burst = 100,
     .limit_ms = 60 * MINUTE_MS},
    {"paused",
     500,
     CLIENT_ANY,
     {ALL_FAULTS(50), .delay_ms = 3},
     HEALTHY,
     4,
     50000,
     .pauses = true,
     .limit_ms = 60 * MINUTE_MS},
    {"paced",
     200,
     CLIENT_ANY,
     {ALL_FAULTS(50), .delay_ms = 20, .rate_limit = 1920},
     HEALTHY,
     4,
     1500000,
     .rate = 960,
     .burst = 512,
     .limit_ms = 60 * MINUTE_MS},
    {"pitfall_15_one_that_nobody_reads",
     30,
     CLIENT_ANY,
     {.delay_ms = 2},
     HEALTHY | KIND(PLAY_SLOW),
     4,
     60000,
     .extra = KIND(PLAY_NEVER) | KIND(PLAY_PING),
     .limit_ms = 10 * MINUTE_MS},
    {"many_streams",
     30,
     CLIENT_ANY,
     {ALL_FAULTS(10), .delay_ms = 2},
     ALL_BUT_NEVER,
     200,
     8000,
     .limit_ms = 60 * MINUTE_MS},
    {"basic",
     1000,
     CLIENT_ANY,
     {.delay_ms = 3},
     KIND(PLAY_ECHO) | KIND(PLAY_SINK) | KIND(PLAY_SLOW),
     3,
     60000,
     .basic = true,
     .limit_ms = 10 * MINUTE_MS},
    {"basic_all_faults",
     1000,
     CLIENT_ANY,
     {ALL_FAULTS(50), .cut_bytes = {60000, 60000}, .delay_ms = 3},
     KIND(PLAY_ECHO) | KIND(PLAY_SINK) | KIND(PLAY_SLOW),
     3,
     60000,
     .basic = true,
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
    const struct tunnel_host_options options = {.rate = 960, .burst = 512};
    const struct tunnel_client_options client_options = {.half_close = true};
    struct dice dice = {1};
    w->play_count = 0;
    gateway_init(&w->gateway, &faults, 1);
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
    tunnel_host_init(&w->host, &options, w->plays, w->play_count, fresh_memory(0, SESSION_MEMORY_SIZE), 1);
    tunnel_client_init(&w->client, &client_options, w->plays, w->play_count,
                       fresh_memory(1, DATA_CHANNEL_MEMORY_SIZE), 1);
    w->ending = END_BY_FLAG;
    w->ending_begun = false;
    w->now_ms = 0;
    w->steps = 0;
}

static void run_measure(const struct measure *m)
{
    static const struct scenario s = {.name = "measure", .limit_ms = 10 * MINUTE_MS};
    struct world *w = &world;
    const char *fault = NULL;
    set_up_measure(w, m);
    while (!w->host.over && fault == NULL) {
        step(w);
        fault = fault_of(w, &s);
    }
    if (fault == NULL)
        fault = verdict(w);
    if (fault != NULL)
        explain(w, &s, 1, fault);
    gateway_end(&w->gateway);
    tunnel_client_end(&w->client);
    assert_null(fault);
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
    uint64_t runs = one_seed != 0 ? 1 : s->runs;
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
    return _cmocka_run_group_tests("sim_session", tests, COUNT + MEASURES, NULL, NULL);
}
