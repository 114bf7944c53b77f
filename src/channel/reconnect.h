/*
 * reconnect: when a channel that has no connection may try to open one, and when it has to stop trying. One
 * set of rules for control and data channels, in either role.
 *
 *               up                      down, next try at ...
 *   trying ───────────► connected ────────────────────────────► waiting ───► trying
 *      │                    │ down, for good
 *      └────────────────────┴─────────────────► over
 *
 * A good connection was up for RECONNECT_GOOD_MS and something was acknowledged on it; or
 * RECONNECT_GOOD_MESSAGES of a data channel were, however short it lived (one that is cut every 400 kB does
 * its work, and we paced what it took); or it was up for RECONNECT_STEADY_MS (an idle session has nothing to
 * acknowledge). The service closes each connection about once an hour: the loss of a good one is routine, and
 * the next try is at once.
 *
 * After any other failure the pause is random between 0 and a window that doubles up to a cap
 * (base/backoff.h). Only a good connection resets the window, or one of a data channel on which something was
 * acknowledged: one that opens and is closed at once, again and again, does not. When the service asks for
 * fewer calls, the pause has a floor.
 *
 * A data channel is over when the API refuses it ("Session is already terminated"), or when give_up_ms have
 * passed since its last good connection was lost. Failed names, TCP, TLS, proxies and broken answers pass:
 * they never end a session at once. A control channel is never over: what is missing (a permission, a route)
 * may be added while the task runs. After RECONNECT_REFUSALS in a row it tries less often.
 *
 * No clock and no randomness of its own: monotonic milliseconds and random numbers are the caller's.
 */
#ifndef FUMIDAI_CHANNEL_RECONNECT_H
#define FUMIDAI_CHANNEL_RECONNECT_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/api.h"
#include "base/backoff.h"
#include "base/error.h"

enum {
    RECONNECT_GOOD_MS = 5 * 1000,     /* with something acknowledged: not one that is closed as it opens */
    RECONNECT_GOOD_MESSAGES = 100,    /* one that is cut every 400 kB has carried 400 */
    RECONNECT_STEADY_MS = 120 * 1000, /* an idle session: two pings were answered */
    RECONNECT_REFUSALS = 10,          /* in a row; from then on ... */
    RECONNECT_REFUSED_MS =
        300 * 1000, /* ... tries are this far apart: 2,900 denied calls a day are an alarm */
    RECONNECT_GIVE_UP_MS = 120 * 1000 /* AWS's agent gives up after five tries, some 10 s */
};

enum reconnect_failure { RECONNECT_TRANSIENT, RECONNECT_THROTTLED, RECONNECT_REFUSED };

struct reconnect_policy {
    const struct backoff_policy *backoff;
    uint64_t good_messages; /* so many acknowledged make a connection good at once */
    int64_t give_up_ms;     /* without a good connection; INT64_MAX: never */
    bool refusal_is_final;
};

extern const struct reconnect_policy RECONNECT_CONTROL; /* pauses up to 30 s, never over */
extern const struct reconnect_policy RECONNECT_DATA;    /* pauses up to 5 s: a user waits */

struct reconnect {
    const struct reconnect_policy *policy;
    struct backoff backoff;
    int64_t up_since_ms; /* INT64_MAX while not up */
    uint64_t acknowledged;
    unsigned refusals;
};

/* What a failure means: `class` as the API's answer was read, API_RETRY for whatever failed below HTTP. */
enum reconnect_failure reconnect_classify(enum api_class class, enum error_code code);

void reconnect_init(struct reconnect *r, const struct reconnect_policy *policy, int64_t now_ms);
void reconnect_up(struct reconnect *r, int64_t now_ms);
/* The peer has acknowledged so many messages; a control channel counts what it receives. */
void reconnect_acknowledged(struct reconnect *r, uint64_t messages);
/* The connection is lost or could not be made. When to try next; INT64_MAX: never again. */
int64_t reconnect_down(struct reconnect *r, int64_t now_ms, enum reconnect_failure failure, uint32_t random);
/* No try may take longer than until then; INT64_MAX: no limit. */
int64_t reconnect_deadline(const struct reconnect *r);

#endif
