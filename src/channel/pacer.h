/*
 * pacer: how many stream messages may go now, so that the service never cuts the channel off (protocol.md,
 * section 10: about 1,000 messages a second, sustained for more than 2 s).
 *
 * The promise: in ANY window of 2 s at most 2 × rate messages go, resends included. A token bucket would let
 * burst + 2 × rate pass, so what was sent is counted instead, in buckets of PACER_BUCKET_MS. A window is
 * counted in whole buckets, one more than fit into it, which errs on the side of sending less (0.25%).
 *
 * Within the promise there are two classes:
 *  - PACER_BULK: everything that nobody waits for by the millisecond. After quiet, up to `burst` messages go
 * at once (counted over the window, so two half bursts are one burst). Beyond that they are spread evenly: at
 * the highest constant rate that will not have to stop at any moment of the coming 2 s, as old sends leave
 * the window and interactive ones go on as in the last quarter of a second. A reserve stays untouched:
 *    1/PACER_RESERVE_PART of the window.
 *  - PACER_INTERACTIVE: the answer to a keystroke. Goes while the window has room at all; its use of the
 * reserve makes bulk wait until the reserve is whole again.
 *
 * Evenly spread means: in clumps of PACER_CLUMP_MS worth of messages, at the same times for all sessions
 * (whole multiples of it), so that any number of bulk copies costs 125 wake-ups a second and not 1,000 each.
 *
 *            pacer_slow_down (at a high rate pause_publication and then the end of the connection, or a
 *            close)
 *     FULL ─────────────────────────────────────────────► HALVED (again: a quarter, … down to the floor)
 *       ▲                                                     │
 *       └───── + 1/20 of the full rate every 10 s ────────────┘
 *
 * Pure: the clock is an argument, in monotonic milliseconds that never go back. A rate of 0 means no limit.
 */
#ifndef FUMIDAI_CHANNEL_PACER_H
#define FUMIDAI_CHANNEL_PACER_H

#include <stdbool.h>
#include <stdint.h>

enum pacer_class { PACER_BULK, PACER_INTERACTIVE };

enum {
    PACER_WINDOW_MS = 2000, /* over which the service's limit was measured */
    PACER_BUCKET_MS = 5,    /* counts 0.25% too much at most */
    PACER_BUCKETS = PACER_WINDOW_MS / PACER_BUCKET_MS + 1,
    PACER_CLUMP_MS = 8,              /* bulk copies wake the loop 125 times a second, all together */
    PACER_HORIZON_STEP = 4,          /* buckets: stops of less than 20 ms are not worth planning for */
    PACER_CREDIT_MAX_MS = 100,       /* how late a loop may be without losing what it was allowed */
    PACER_URGENT_BUCKETS = 50,       /* the last quarter of a second says how busy interactive streams are */
    PACER_BULK_FLOOR_PART = 16,      /* of the rate: what planning leaves to bulk however busy they are */
    PACER_RESERVE_PART = 80,         /* 24 of 1,920 messages at the default rate */
    PACER_RESERVE_MIN = 2,           /* however small the rate */
    PACER_RATE_FLOOR_PART = 8,       /* halving stops at an eighth of what was configured */
    PACER_SLOW_DOWN_QUIET_MS = 2000, /* signals closer together than this are one */
    PACER_RECOVERY_STEP_MS = 10000,  /* then a twentieth of the configured rate comes back */
    PACER_HIGH_RATE_PERCENT = 80, /* pauses and closes count as signals when the window is fuller than this */
    PACER_RATE_MAX = 1000000,     /* configured rates are cut to this; 0 is "no limit" */
    PACER_UNLIMITED = 1 << 30     /* what pacer_allows answers without a limit */
};

struct pacer {
    uint32_t full_rate; /* messages a second as configured; 0 no limit */
    uint32_t full_burst;
    uint32_t rate; /* now */
    uint32_t burst;
    int64_t now_bucket;             /* number of the newest bucket */
    uint32_t sent[PACER_BUCKETS];   /* all classes, by bucket number modulo PACER_BUCKETS */
    uint32_t urgent[PACER_BUCKETS]; /* of these, interactive */
    uint32_t window_sent;           /* sum of sent[] */
    int64_t credited_ms;            /* even spreading has been credited up to here */
    int64_t credit;                 /* in millionths of a message */
    int64_t even_rate;              /* in millionths of a message a millisecond, when last credited */
    int64_t slowed_ms;              /* last slow-down */
    int64_t recovered_ms;           /* last step of the recovery */
    bool slowed_once;               /* slowed_ms is set */
};

void pacer_init(struct pacer *pacer, uint32_t messages_per_second, uint32_t burst, int64_t now_ms);

/* How many messages of this class may go at this moment; PACER_UNLIMITED without a limit. */
uint32_t pacer_allows(struct pacer *pacer, int64_t now_ms, enum pacer_class class);
/* They went. More than allowed is counted all the same (and never asked for by this program). */
void pacer_sent(struct pacer *pacer, int64_t now_ms, enum pacer_class class, uint32_t count);
/* When to ask again: now if something may go, else the first moment at which that may have changed. */
int64_t pacer_next_ms(struct pacer *pacer, int64_t now_ms, enum pacer_class class);

/* Whether so much was sent in the last 2 s that it may be more than the service wants. */
bool pacer_is_fast(struct pacer *pacer, int64_t now_ms);
/* The service wants less: half of rate and burst. */
void pacer_slow_down(struct pacer *pacer, int64_t now_ms);
/* The service closed the websocket, and not as it does once an hour (1000, "Bye"; protocol.md, pitfall 20): a
 * signal only if much was being sent. True if it counted. */
bool pacer_closed_on(struct pacer *pacer, int64_t now_ms);

uint32_t pacer_window_limit(const struct pacer *pacer); /* 2 × rate as it is now; 0 no limit */

#endif
