#include "run/linger.h"

#include <stdlib.h>

#include "host/clock.h"
#include "host/log.h"

struct linger_connection {
    struct linger_set *linger;
    struct tcp tcp;
    struct loop_timer timer;
    struct list in_all;
    struct list in_readable;
    unsigned owner; /* below LINGER_OWNERS */
    size_t dropped;
    uint64_t acknowledged; /* when looked at last */
    int stalled_steps;     /* in a row */
};

static void forget(struct linger_connection *c)
{
    struct linger_set *linger = c->linger;
    loop_timer_remove(linger->loop, &c->timer);
    list_remove(&c->in_all);
    list_remove(&c->in_readable);
    linger->count--;
    linger->count_of[c->owner]--;
    free(c);
}

static void end(struct linger_connection *c)
{
    tcp_close(&c->tcp);
    forget(c);
}

static void reset(struct linger_connection *c)
{
    tcp_reset(&c->tcp);
    forget(c);
}

static void wait_a_step(struct linger_connection *c)
{
    loop_timer_set(c->linger->loop, &c->timer, clock_after_ms(loop_now_ms(c->linger->loop), LINGER_STEP_MS));
}

static void step_is_over(struct loop_timer *timer)
{
    struct linger_connection *c = LOOP_OWNER(timer, struct linger_connection, timer);
    uint64_t before = c->acknowledged;
    if (!tcp_is_delivering(&c->tcp, &c->acknowledged)) {
        end(c);
        return;
    }
    c->stalled_steps = c->acknowledged > before ? 0 : c->stalled_steps + 1;
    if (c->stalled_steps < c->linger->stalled_steps)
        wait_a_step(c);
    else
        reset(c); /* or the kernel would keep it, and try for minutes */
}

/* ---- reading ------------------------------------------------------------------------------------------- */

/* It has all it was sent, and sends more than is worth dropping: an aborted query's answer, say. */
static bool sends_too_much(struct linger_connection *c)
{
    uint64_t acknowledged;
    return c->dropped > LINGER_DROP_MAX && !tcp_is_delivering(&c->tcp, &acknowledged);
}

static void read_once(struct linger_connection *c)
{
    static uint8_t dropped[LINGER_READ_SIZE];
    size_t n = tcp_read(&c->tcp, dropped, sizeof dropped);
    c->dropped += n;
    c->linger->bytes_left -= n < c->linger->bytes_left ? n : c->linger->bytes_left;
    if (c->tcp.state != TCP_STATE_OPEN || c->tcp.read_ended || sends_too_much(c))
        end(c);
    else if (n > 0)
        list_append(&c->linger->readable, &c->in_readable); /* there may be more; the others come first */
}

static void read_some(struct loop_hook *hook)
{
    struct linger_set *linger = LOOP_OWNER(hook, struct linger_set, hook);
    for (int reads = 0; reads < LINGER_READS_PER_TURN && linger->bytes_left > 0; reads++) {
        struct list *node = list_take(&linger->readable);
        if (node == NULL)
            return;
        read_once(LIST_OWNER(node, struct linger_connection, in_readable));
    }
    if (linger->bytes_left > 0)
        loop_hook_defer(linger->loop, hook);
    else if (linger->pause.due_ms == CLOCK_NEVER)
        loop_timer_set(linger->loop, &linger->pause,
                       clock_after_ms(loop_now_ms(linger->loop), LINGER_PAUSE_MS));
}

static void pause_is_over(struct loop_timer *timer)
{
    struct linger_set *linger = LOOP_OWNER(timer, struct linger_set, pause);
    linger->bytes_left = LINGER_BYTES;
    loop_hook_queue(linger->loop, &linger->hook);
}

static void changed(struct tcp *tcp)
{
    struct linger_connection *c = LOOP_OWNER(tcp, struct linger_connection, tcp);
    if (!list_is_linked(&c->in_readable))
        list_append(&c->linger->readable, &c->in_readable);
    loop_hook_queue(c->linger->loop, &c->linger->hook);
}

/* ---- taking -------------------------------------------------------------------------------------------- */

static void make_place(struct linger_set *linger)
{
    unsigned most = 0;
    for (unsigned owner = 1; owner < LINGER_OWNERS; owner++)
        if (linger->count_of[owner] > linger->count_of[most])
            most = owner;
    for (struct list *node = linger->all.next; node != &linger->all; node = node->next) {
        struct linger_connection *c = LIST_OWNER(node, struct linger_connection, in_all);
        if (c->owner == most) {
            log_event(LOG_INFO,
                      "reset a closed stream's connection: too many have yet to deliver what they were sent",
                      LOG_I64("connections", linger->count));
            reset(c);
            return;
        }
    }
}

void linger_take(struct linger_set *linger, struct tcp *tcp, uint64_t owner)
{
    struct error err = ERROR_INIT;
    struct linger_connection *c = NULL;
    if (tcp->state == TCP_STATE_OPEN && !tcp->read_ended && linger->max > 0)
        c = calloc(1, sizeof *c);
    if (c == NULL) {
        tcp_close(tcp);
        return;
    }
    if (linger->count == linger->max)
        make_place(linger);
    tcp_end_write(tcp);
    c->linger = linger;
    c->owner = owner % LINGER_OWNERS;
    loop_timer_init(&c->timer, step_is_over);
    if (tcp_move(&c->tcp, tcp, changed, &err) < 0) {
        free(c);
        return;
    }
    linger->count++;
    linger->count_of[c->owner]++;
    list_append(&linger->all, &c->in_all);
    wait_a_step(c);
}

void linger_open(struct linger_set *linger, struct loop *loop, unsigned max)
{
    *linger = (struct linger_set){.loop = loop,
                                  .max = max < LINGER_MAX ? max : LINGER_MAX,
                                  .bytes_left = LINGER_BYTES,
                                  .stalled_steps = LINGER_STALLED_STEPS};
    list_init(&linger->all);
    list_init(&linger->readable);
    loop_hook_init(&linger->hook, LOOP_GATHER, read_some);
    loop_timer_init(&linger->pause, pause_is_over);
}

void linger_close(struct linger_set *linger)
{
    struct list *node;
    while ((node = list_take(&linger->all)) != NULL)
        reset(LIST_OWNER(node, struct linger_connection, in_all));
    loop_hook_remove(linger->loop, &linger->hook);
    loop_timer_remove(linger->loop, &linger->pause);
}
