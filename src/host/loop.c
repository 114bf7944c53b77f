#include "host/loop.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "host/log.h"

/* --- timers: a pairing heap ----------------------------------------------------------------------------- */

/* Either may be null. The later root becomes the first child of the earlier one. */
static struct loop_timer *heap_meld(struct loop_timer *a, struct loop_timer *b)
{
    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    if (b->due_ms < a->due_ms) {
        struct loop_timer *swap = a;
        a = b;
        b = swap;
    }
    b->previous = a;
    b->next = a->child;
    if (b->next != NULL)
        b->next->previous = b;
    a->child = b;
    return a;
}

static void heap_make_root(struct loop_timer *timer)
{
    timer->next = NULL;
    timer->previous = NULL;
}

/* Melds a list of siblings into one heap: in pairs from the left, then the pairs from the right. */
static struct loop_timer *heap_combine(struct loop_timer *first)
{
    struct loop_timer *pairs = NULL; /* the latest first, linked by next */
    while (first != NULL) {
        struct loop_timer *second = first->next;
        struct loop_timer *rest = second != NULL ? second->next : NULL;
        heap_make_root(first);
        if (second != NULL)
            heap_make_root(second);
        struct loop_timer *pair = heap_meld(first, second);
        pair->next = pairs;
        pairs = pair;
        first = rest;
    }
    struct loop_timer *root = NULL;
    while (pairs != NULL) {
        struct loop_timer *rest = pairs->next;
        heap_make_root(pairs);
        root = heap_meld(root, pairs);
        pairs = rest;
    }
    return root;
}

static void heap_remove(struct loop *loop, struct loop_timer *timer)
{
    struct loop_timer *children = heap_combine(timer->child);
    if (timer == loop->timers) {
        loop->timers = children;
    } else {
        if (timer->previous->child == timer)
            timer->previous->child = timer->next;
        else
            timer->previous->next = timer->next;
        if (timer->next != NULL)
            timer->next->previous = timer->previous;
        loop->timers = heap_meld(loop->timers, children);
    }
    timer->child = NULL;
    heap_make_root(timer);
}

void loop_timer_init(struct loop_timer *timer, void (*expired)(struct loop_timer *timer))
{
    *timer = (struct loop_timer){.due_ms = CLOCK_NEVER, .expired = expired};
}

void loop_timer_remove(struct loop *loop, struct loop_timer *timer)
{
    if (timer->queued)
        heap_remove(loop, timer);
    timer->queued = false;
    timer->due_ms = CLOCK_NEVER;
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, int64_t due_ms)
{
    if (timer->queued && timer->due_ms == due_ms)
        return;
    loop_timer_remove(loop, timer);
    if (due_ms == CLOCK_NEVER)
        return;
    timer->due_ms = due_ms;
    timer->queued = true;
    loop->timers = heap_meld(loop->timers, timer);
}

/* Whether a stage that began at `began_ms` has used up its time. The clock costs some 30 ns: no system
 * call. */
static bool time_is_up(int64_t began_ms)
{
    return clock_monotonic_ms() - began_ms >= LOOP_STAGE_MS;
}

static void run_due_timers(struct loop *loop)
{
    int64_t began_ms = clock_monotonic_ms();
    for (int count = 0; count < LOOP_TIMERS_PER_TURN; count++) {
        struct loop_timer *timer = loop->timers;
        if (timer == NULL || timer->due_ms > loop->now_ms)
            return;
        loop_timer_remove(loop, timer);
        timer->expired(timer);
        if (time_is_up(began_ms))
            return;
    }
}

/* --- hooks ---------------------------------------------------------------------------------------------- */

void loop_hook_init(struct loop_hook *hook, enum loop_stage stage, void (*run)(struct loop_hook *hook))
{
    *hook = (struct loop_hook){.run = run, .stage = stage};
}

void loop_hook_queue(struct loop *loop, struct loop_hook *hook)
{
    if (!list_is_linked(&hook->node))
        list_append(&loop->hooks[hook->stage], &hook->node);
}

void loop_hook_defer(struct loop *loop, struct loop_hook *hook)
{
    list_remove(&hook->node);
    list_append(&loop->deferred, &hook->node);
}

void loop_hook_remove(struct loop *loop, struct loop_hook *hook)
{
    (void) loop;
    list_remove(&hook->node);
}

/* Runs what is queued now; what these hooks queue is the next round's. */
static void run_round(struct loop *loop, enum loop_stage stage, int64_t *used_ms)
{
    int64_t began_ms = clock_monotonic_ms() - *used_ms;
    struct list *queued = &loop->hooks[stage], *node;
    struct list round;
    list_init(&round);
    list_move(&round, queued);
    while ((node = list_take(&round)) != NULL) {
        struct loop_hook *hook = LIST_OWNER(node, struct loop_hook, node);
        hook->run(hook);
        if (time_is_up(began_ms))
            break;
    }
    list_move(&round, queued); /* what is left over goes first */
    list_move(queued, &round);
    *used_ms = clock_monotonic_ms() - began_ms;
}

static bool hooks_are_queued(const struct loop *loop)
{
    return !list_is_empty(&loop->hooks[LOOP_GATHER]) || !list_is_empty(&loop->hooks[LOOP_FLUSH]) ||
           !list_is_empty(&loop->deferred);
}

/* Gathering goes first, as long as it has time; flushing has time of its own, so neither can keep the other
 * from its turn. */
static void run_hooks(struct loop *loop)
{
    int64_t used_ms[LOOP_STAGES] = {0};
    for (int round = 0; round < LOOP_HOOK_ROUNDS; round++) {
        enum loop_stage stage = LOOP_GATHER;
        while (stage < LOOP_STAGES && (list_is_empty(&loop->hooks[stage]) || used_ms[stage] >= LOOP_STAGE_MS))
            stage++;
        if (stage == LOOP_STAGES)
            return;
        run_round(loop, stage, &used_ms[stage]);
    }
}

/* What was deferred in the last turn queues behind what that turn did not get to. */
static void queue_deferred(struct loop *loop)
{
    struct list *node;
    while ((node = list_take(&loop->deferred)) != NULL)
        loop_hook_queue(loop, LIST_OWNER(node, struct loop_hook, node));
}

/* --- watches -------------------------------------------------------------------------------------------- */

int loop_watch_add(struct loop *loop, struct loop_watch *watch, int fd, uint32_t events,
                   void (*ready)(struct loop_watch *watch, uint32_t events), struct error *err)
{
    *watch = (struct loop_watch){.fd = fd, .events = events, .ready = ready};
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        int reason = errno;
        watch->fd = -1;
        return error_set(err, ERROR_SYSTEM, "epoll_ctl(ADD, %d): %s", fd, strerror(reason));
    }
    return 0;
}

void loop_watch_set(struct loop *loop, struct loop_watch *watch, uint32_t events)
{
    if (watch->fd < 0 || watch->events == events)
        return;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    watch->events = events;
    /* Fails only for a descriptor that was closed behind our back; there is nothing to be told about it
     * then. */
    (void) epoll_ctl(loop->epoll_fd, EPOLL_CTL_MOD, watch->fd, &event);
}

void loop_watch_remove(struct loop *loop, struct loop_watch *watch)
{
    if (watch->fd < 0)
        return;
    (void) epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, watch->fd, NULL);
    watch->fd = -1;
    for (int i = loop->event_next; i < loop->event_count; i++)
        if (loop->events[i].data.ptr == watch)
            loop->events[i].data.ptr = NULL;
}

static void run_ready_watches(struct loop *loop)
{
    int64_t began_ms = clock_monotonic_ms();
    while (loop->event_next < loop->event_count) {
        const struct epoll_event *event = &loop->events[loop->event_next++];
        struct loop_watch *watch = event->data.ptr;
        /* Fetched a turn ago, it may have been for something that is not watched any more. */
        uint32_t events = watch != NULL ? event->events & (watch->events | EPOLLERR | EPOLLHUP) : 0;
        if (events == 0)
            continue;
        watch->ready(watch, events);
        if (time_is_up(began_ms))
            return;
    }
}

/* --- turns ---------------------------------------------------------------------------------------------- */

int loop_open(struct loop *loop, struct error *err)
{
    memset(loop, 0, sizeof *loop);
    list_init(&loop->hooks[LOOP_GATHER]);
    list_init(&loop->hooks[LOOP_FLUSH]);
    list_init(&loop->deferred);
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (loop->epoll_fd < 0)
        return error_set(err, ERROR_SYSTEM, "epoll_create1: %s", strerror(errno));
    loop->now_ms = clock_monotonic_ms();
    return 0;
}

void loop_close(struct loop *loop)
{
    if (loop->epoll_fd >= 0)
        close(loop->epoll_fd);
    loop->epoll_fd = -1;
}

void loop_stop(struct loop *loop)
{
    loop->stopped = true;
}

int64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ms;
}

/* How long epoll may sleep: not at all when something is left over, else until the first timer. */
static int wait_time_ms(const struct loop *loop, int64_t wait_ms)
{
    if (hooks_are_queued(loop) || loop->event_count > 0)
        return 0;
    if (loop->timers != NULL) {
        int64_t now_ms = clock_monotonic_ms();
        int64_t until_due_ms = loop->timers->due_ms <= now_ms ? 0 : loop->timers->due_ms - now_ms;
        wait_ms = until_due_ms < wait_ms ? until_due_ms : wait_ms;
    }
    if (wait_ms == CLOCK_NEVER)
        return -1;
    return wait_ms > INT_MAX ? INT_MAX : (int) wait_ms;
}

/* Behind the events that the last turn did not get to. Edge-triggered ones would not come again. */
static int fetch_events(struct loop *loop, int64_t wait_ms, struct error *err)
{
    loop->event_count -= loop->event_next;
    memmove(loop->events, loop->events + loop->event_next,
            (size_t) loop->event_count * sizeof loop->events[0]);
    loop->event_next = 0;
    if (loop->event_count == LOOP_EVENTS_PER_TURN)
        return 0;
    int count = epoll_wait(loop->epoll_fd, loop->events + loop->event_count,
                           LOOP_EVENTS_PER_TURN - loop->event_count, wait_time_ms(loop, wait_ms));
    if (count < 0 && errno != EINTR)
        return error_set(err, ERROR_SYSTEM, "epoll_wait: %s", strerror(errno));
    loop->event_count += count > 0 ? count : 0;
    return 0;
}

static void note_duration(struct loop *loop)
{
    int64_t took_ms = clock_monotonic_ms() - loop->now_ms;
    if (took_ms <= loop->longest_turn_ms)
        return;
    loop->longest_turn_ms = took_ms;
    if (took_ms > LOOP_LONG_TURN_MS)
        log_event(LOG_DEBUG, "a turn of the event loop was long", LOG_DURATION_MS("took", took_ms));
}

int loop_turn(struct loop *loop, int64_t wait_ms, struct error *err)
{
    int result = fetch_events(loop, wait_ms, err);
    if (result < 0)
        return result;
    loop->now_ms = clock_monotonic_ms();
    queue_deferred(loop);
    run_ready_watches(loop);
    run_due_timers(loop);
    run_hooks(loop);
    note_duration(loop);
    return 0;
}

int loop_run(struct loop *loop, struct error *err)
{
    loop->stopped = false;
    while (!loop->stopped) {
        int result = loop_turn(loop, CLOCK_NEVER, err);
        if (result != 0)
            return result;
    }
    return 0;
}
