/*
 * play: what happens on one connection through a session, as a script that both ends know: the client's end
 * (how much it says, when it ends) and the target's (what kind of server it is). Every byte follows from the
 * play's seed and its place.
 */
#ifndef FUMIDAI_TESTS_SIM_PLAY_H
#define FUMIDAI_TESTS_SIM_PLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim/lib/dice.h"

enum play_kind {
    PLAY_ECHO,   /* says what it hears; ends when it hears the end */
    PLAY_SOURCE, /* says down_total bytes and ends */
    PLAY_SINK,   /* hears, ends when it hears the end */
    PLAY_SLOW,   /* a sink of a few bytes a millisecond */
    PLAY_ANSWER, /* says down_total bytes once it has heard the end, and ends */
    PLAY_NEVER,  /* hears 64 KiB and then no more */
    PLAY_BREAKS, /* a source whose connection breaks after break_at bytes */
    PLAY_REFUSE, /* can't be dialled */
    PLAY_PING,   /* an echo; the client sends a byte, waits for it, pauses, until all others are done */
    PLAY_KINDS
};

enum play_target { TARGET_NONE, TARGET_DIALLING, TARGET_OPEN, TARGET_CLOSED };

enum { PLAY_PINGS_MAX = 8192, PLAY_SOCKET_BUFFER = 65536 };

struct play {
    enum play_kind kind;
    uint64_t seed;
    uint32_t id; /* smux */
    uint64_t up_total, down_total, break_at;
    uint64_t abort_at; /* SOURCE: the client ends after so many bytes; UINT64_MAX never */
    int64_t open_ms;
    uint32_t dial_ms;
    uint32_t slow_bytes_per_ms;
    bool half_close; /* both ends can */
    /* the client's end */
    bool syn_sent, fin_sent, fin_received;
    uint64_t up_sent, down_received;
    int64_t first_ms, last_ms; /* bytes received */
    int64_t ping_ms;           /* the last one sent */
    bool ping_out;
    int64_t *pings; /* round trips, PLAY_PINGS_MAX; or null */
    size_t ping_count;
    /* the target's */
    enum play_target target;
    bool ever_open;
    int64_t due_ms; /* end of the dial */
    int64_t took_ms;
    uint64_t taken, given;
    bool heard_end;
    bool was_reset;
    const char *fault;
};

/* The target: how many of these bytes it takes now; checks them. */
size_t play_take(struct play *p, int64_t now_ms, const uint8_t *data, size_t len, struct dice *dice);
size_t play_available(const struct play *p);
bool play_target_ended(const struct play *p);
bool play_target_breaks(const struct play *p);
void play_give(struct play *p, uint8_t *out, size_t len);

/* The client: what it does next. */
size_t play_client_wants_to_say(const struct play *p, int64_t now_ms, bool others_done);
void play_client_say(struct play *p, int64_t now_ms, uint8_t *out, size_t len);
void play_client_hear(struct play *p, int64_t now_ms, const uint8_t *data, size_t len);
bool play_client_ends(const struct play *p, bool others_done);
/* Both FINs have passed. */
bool play_is_done(const struct play *p);
/* What should have arrived, once all is over; null when it has. */
const char *play_verdict(const struct play *p);

#endif
