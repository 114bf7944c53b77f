/*
 * credentials_source: the keys that requests are signed with: fetched when they are first needed, refreshed
 * before they expire (credentials.h has the rules and the order of sources).
 *
 *     NONE ── get ready ──► FETCHING ──► usable ── refresh time ──► usable, FETCHING ──► usable
 *      ▲                       │                                        │
 *      │       failed          │                                        │ failed: the old keys serve while
 *      └───────────────────────┘                                        ▼ they last
 *
 * Whoever needs keys asks credentials_source_prepare(). If there are usable keys it goes on at once, also
 * while newer ones are being fetched. Otherwise it waits; one fetch serves however many wait, and its end,
 * good or bad, calls them all from the loop. Then credentials_source_get() has the keys or the reason why
 * there are none.
 *
 * In a task the keys come from where credentials.h says. A client plugs in another provider
 * (credentials_chain.h); all else is the same.
 *
 * Expiry is compared with the service's time, not with this host's clock, which may be wrong.
 */
#ifndef FUMIDAI_CLOUD_CREDENTIALS_SOURCE_H
#define FUMIDAI_CLOUD_CREDENTIALS_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/credentials.h"
#include "base/error.h"
#include "net/http_call.h"
#include "net/network.h"

enum {
    /* The endpoint is on the same host, as a rule. Also the pause after a failed refresh. */
    CREDENTIALS_SOURCE_FETCH_MS = 10 * 1000
};

struct credentials_waiter {
    void (*ready)(
        struct credentials_waiter *waiter); /* from the loop; may start, cancel and release anything */

    /* private */
    struct credentials_waiter *next;
};

struct credentials_source;

/* Another way to keys than the task's own. */
struct credentials_provider {
    /* Starts a fetch. Its end comes from the loop, never from inside this: credentials_source_provided(). */
    int (*fetch)(struct credentials_provider *provider, struct credentials_source *source, struct error *err);
    /* Ends a fetch that is under way, and releases everything. */
    void (*close)(struct credentials_provider *provider);
};

struct credentials_source {
    int64_t clock_offset_ms; /* the service's time less this host's; the owner sets it when it learns it */

    /* private */
    struct network *network;
    char *const *env;
    bool has_plan; /* the environment says where keys come from */
    struct credentials_plan plan;
    struct error err; /* why there is no plan, or why the latest fetch failed */
    struct credentials credentials;
    bool has_credentials;
    int64_t refresh_at_unix_ms;
    unsigned changes;                      /* how often fetched keys had another id */
    struct http_call *fetch;               /* null when none is under way */
    struct credentials_provider *provider; /* null: the plan's */
    bool is_providing;                     /* a fetch of the provider's is under way */
    struct credentials_waiter *waiting;    /* for the fetch, in no order */
    struct credentials_waiter *served;     /* the fetch is over, and they are about to be called */
};

/* `env` is main's. A missing source of credentials is an error only when keys are needed. */
void credentials_source_open(struct credentials_source *source, struct network *network, char *const *env);
void credentials_source_close(struct credentials_source *source); /* wipes the keys; nobody may be waiting */

/* Once, right after opening. The source closes the provider when it is closed itself. */
void credentials_source_use(struct credentials_source *source, struct credentials_provider *provider);
/* The end of a provider's fetch: `fresh`, or null and the reason. */
void credentials_source_provided(struct credentials_source *source, const struct credentials *fresh,
                                 const struct error *reason);

/* Fetches when there are no keys or their refresh is due. True: go on now. False: `waiter` will be called. */
bool credentials_source_prepare(struct credentials_source *source, struct credentials_waiter *waiter);
void credentials_source_cancel(struct credentials_source *source, struct credentials_waiter *waiter);
/* Fetches, though the keys may be good for long; true: `waiter` will be called. False when no fetch can bring
 * others. */
bool credentials_source_renew(struct credentials_source *source, struct credentials_waiter *waiter);
/* Two results that differ: the keys have changed in between. */
unsigned credentials_source_changes(const struct credentials_source *source);
/* The service refused the keys: the next credentials_source_prepare() fetches new ones, whatever the clock
 * says. */
void credentials_source_discard(struct credentials_source *source);

/* The keys, or null with the reason. */
const struct credentials *credentials_source_get(struct credentials_source *source, struct error *err);
/* The service's time. */
int64_t credentials_source_unix_ms(const struct credentials_source *source);

#endif
