/*
 * loop: one epoll instance, timers, and the end of a turn.
 *
 * A turn:
 *
 *     wait ─► watches that are ready ─► timers that are due ─► gather hooks ─► flush hooks ─► (next turn)
 *
 * Callbacks of a turn only move bytes between buffers. What has been queued is sent at the end of the turn,
 * once: first every gather hook runs (a session turns what its targets delivered into messages), then every
 * flush hook (a stream seals one TLS record and makes one system call). That is where full records come from.
 *
 * No turn is long. The relay counts as hung when it says nothing for 4 s, and whoever works long makes all
 * others wait. So each of the four stages stops when LOOP_STAGE_MS are used up, and has run at least one
 * callback then. What is left over is the first in the next turn, after the kernel was asked for news without
 * waiting. A callback that has more to do than it should do at once (about a millisecond's worth) does a part
 * and calls loop_hook_defer.
 *
 * Watches, timers and hooks are members of the caller's structures, so nothing is allocated, ever. A callback
 * may remove or release anything, itself and others included: what was removed is not called any more, not
 * even when its event had already been fetched.
 *
 * The callback gets the member; LOOP_OWNER finds the structure around it.
 */
#ifndef FUMIDAI_HOST_LOOP_H
#define FUMIDAI_HOST_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/error.h"
#include "base/list.h"
#include "host/clock.h"

#define LOOP_OWNER LIST_OWNER

enum {
    LOOP_EVENTS_PER_TURN = 64,  /* fetched from the kernel at once; more come with the next turn */
    LOOP_TIMERS_PER_TURN = 256, /* a timer that sets itself to "now" can't keep the loop from its watches */
    LOOP_HOOK_ROUNDS = 8,  /* hooks may queue hooks; what is queued after so many rounds runs a turn later */
    LOOP_STAGE_MS = 2,     /* four stages and what one callback takes: 20 ms on a quarter of a core */
    LOOP_LONG_TURN_MS = 20 /* a longer one is logged, for whoever looks for the reason */
};

struct loop_watch {
    int fd; /* -1 when not watched */
    uint32_t events;
    void (*ready)(struct loop_watch *watch, uint32_t events);
};

/* A node of a pairing heap: setting is O(1), removing O(log n) amortised, whatever the number of timers. */
struct loop_timer {
    int64_t due_ms; /* CLOCK_NEVER when not set */
    void (*expired)(struct loop_timer *timer);
    struct loop_timer *child;
    struct loop_timer *next;     /* sibling */
    struct loop_timer *previous; /* sibling, or the parent for its first child */
    bool queued;
};

enum loop_stage { LOOP_GATHER, LOOP_FLUSH, LOOP_STAGES };

struct loop_hook {
    void (*run)(struct loop_hook *hook);
    enum loop_stage stage;
    struct list node;
};

struct loop {
    int epoll_fd;
    int64_t now_ms;
    bool stopped;
    struct loop_timer *timers; /* the heap's root: what is due first */
    struct list hooks[LOOP_STAGES];
    struct list deferred;
    struct epoll_event events[LOOP_EVENTS_PER_TURN];
    int event_next; /* the events that are still to be dispatched: [event_next, event_count) */
    int event_count;
    int64_t longest_turn_ms; /* the longest so far, waiting not counted */
};

int loop_open(struct loop *loop, struct error *err);
void loop_close(struct loop *loop); /* closes the epoll descriptor; watches keep theirs */

/* Runs turns until loop_stop. ERROR_SYSTEM when the kernel refuses to wait. */
int loop_run(struct loop *loop, struct error *err);
void loop_stop(struct loop *loop); /* the turn is finished first */
/* One turn, waiting at most wait_ms for something to happen. For tests and for draining at the end. */
int loop_turn(struct loop *loop, int64_t wait_ms, struct error *err);
/* The time at which this turn's wait ended. */
int64_t loop_now_ms(const struct loop *loop);

/* `events` as in epoll_ctl, EPOLLET included. The descriptor stays the caller's: remove the watch, then
 * close. */
int loop_watch_add(struct loop *loop, struct loop_watch *watch, int fd, uint32_t events,
                   void (*ready)(struct loop_watch *watch, uint32_t events), struct error *err);
void loop_watch_set(struct loop *loop, struct loop_watch *watch,
                    uint32_t events);                                /* no call when unchanged */
void loop_watch_remove(struct loop *loop, struct loop_watch *watch); /* twice does no harm */
#define LOOP_WATCH_INIT ((struct loop_watch){.fd = -1})

/* Sets or moves; due_ms in the past fires next turn, CLOCK_NEVER is the same as loop_timer_remove. */
void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer));
void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t due_ms);
void loop_timer_remove(struct loop *loop, struct loop_timer *timer);

/* Queues for the end of this turn; queueing what is queued changes nothing. */
void loop_hook_init(struct loop_hook *hook, enum loop_stage stage, void (*run)(struct loop_hook *hook));
void loop_hook_queue(struct loop *loop, struct loop_hook *hook);
/* Queues for the next turn, whatever queues it in this one. */
void loop_hook_defer(struct loop *loop, struct loop_hook *hook);
void loop_hook_remove(struct loop *loop, struct loop_hook *hook);

#endif
