#include "client/socks.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/log.h"

enum { PEEK_SIZE = 512 };

static bool wants_answer(const struct client_socks *c)
{
    return c->request.state == SOCKS5_WANTED;
}

static bool is_waiting(const struct client_socks *c)
{
    return wants_answer(c) && c->left == NULL;
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

/* Its connection has gone elsewhere. */
static void forget(struct client_socks *c)
{
    struct client_socks_set *set = c->set;
    loop_timer_remove(set->loop, &c->timer);
    list_remove(&c->link);
    set->count--;
    free(c);
    set->changed(set);
}

/* What was written still arrives. */
static void end(struct client_socks *c)
{
    linger_take(&c->set->linger, &c->tcp, 0);
    forget(c);
}

static void drop(struct client_socks *c)
{
    if (c->left != NULL)
        c->left(c);
    tcp_reset(&c->tcp);
    forget(c);
}

/* The protocols have a code only, or less. */
static void log_refusal(const struct client_socks *c, const char *why)
{
    log_event(LOG_WARN, "SOCKS request refused", LOG_I64("forward", c->forward),
              LOG_TEXT("host", c->request.host), LOG_I64("port", c->request.port), LOG_TEXT("why", why));
}

/* ---- answers ------------------------------------------------------------------------------------------- */

/* False when the client does not take it: it has a socket's buffer for some hundred bytes, and is broken. */
static bool flush(struct client_socks *c)
{
    size_t len;
    const uint8_t *out = socks5_out_buf(&c->request, &len);
    if (out != NULL)
        socks5_out_ack(&c->request, tcp_write(&c->tcp, out, len));
    return socks5_out_buf(&c->request, &len) == NULL;
}

/* What our agent says, of any version. */
static enum socks5_answer answer_of(const char *why)
{
    static const struct {
        const char *text;
        enum socks5_answer answer;
    } KNOWN[] = {{"may not be dialled", SOCKS5_NOT_ALLOWED},
                 {"Connection refused", SOCKS5_CONNECTION_REFUSED},
                 {"no answer within", SOCKS5_TIMED_OUT},
                 {"timed out", SOCKS5_TIMED_OUT},
                 {"no such name", SOCKS5_HOST_UNREACHABLE},
                 {"the name has no addresses", SOCKS5_HOST_UNREACHABLE},
                 {"no name server gave an answer", SOCKS5_HOST_UNREACHABLE},
                 {"unreachable", SOCKS5_HOST_UNREACHABLE}};
    const char *reason = strstr(why, ": "); /* behind the target's name */
    for (size_t i = 0; reason != NULL && i < sizeof KNOWN / sizeof KNOWN[0]; i++)
        if (strstr(reason, KNOWN[i].text) != NULL)
            return KNOWN[i].answer;
    return SOCKS5_FAILED;
}

void client_socks_refused(struct client_socks *c, const char *why)
{
    c->left = NULL;
    log_refusal(c, why);
    socks5_answer(&c->request, answer_of(why), str_from(why));
    (void) flush(c);
    end(c);
}

int client_socks_opened(struct client_socks *c, struct tcp_endpoints *to, uint16_t stream, struct error *err)
{
    c->left = NULL;
    socks5_answer(&c->request, SOCKS5_OPENED, str_from(NULL));
    int result = ERROR_CLOSED;
    if (flush(c))
        result = tcp_endpoints_take(to, stream, &c->tcp, err);
    else
        error_set(err, ERROR_CLOSED, "the local connection is closed");
    tcp_reset(&c->tcp); /* nothing when it was taken */
    forget(c);
    return result;
}

/* ---- the request --------------------------------------------------------------------------------------- */

static void ask(struct client_socks *c)
{
    if (!c->set->connect(c->set, c))
        c->set->waits(c->set, c->forward);
}

void client_socks_ask_again(struct client_socks *c)
{
    c->left = NULL;
    c->set->waits(c->set, c->forward);
}

/* Bytes behind the request are left where they are. False when it is gone. */
static bool read_request(struct client_socks *c)
{
    uint8_t bytes[PEEK_SIZE];
    size_t n;
    size_t used;
    while (c->request.state == SOCKS5_READING && (n = tcp_peek(&c->tcp, bytes, sizeof bytes)) > 0) {
        struct error err = ERROR_INIT;
        int result = socks5_feed(&c->request, bytes, n, &used, &err);
        (void) tcp_read(&c->tcp, bytes, used);
        if (!flush(c)) {
            drop(c);
            return false;
        }
        if (result < 0) {
            log_refusal(c, err.text);
            end(c);
            return false;
        }
    }
    if (!wants_answer(c) && (c->tcp.read_ended || c->tcp.state != TCP_STATE_OPEN)) {
        drop(c);
        return false;
    }
    return true;
}

/* Its end, and nothing before that. */
static bool has_left(struct client_socks *c)
{
    uint8_t byte;
    return tcp_peek(&c->tcp, &byte, 1) == 0 && (c->tcp.read_ended || c->tcp.state != TCP_STATE_OPEN);
}

static void client_changed(struct tcp *tcp)
{
    struct client_socks *c = LOOP_OWNER(tcp, struct client_socks, tcp);
    bool was_reading = c->request.state == SOCKS5_READING;
    if (was_reading && !read_request(c))
        return;
    if (!wants_answer(c))
        return;
    loop_timer_remove(c->set->loop, &c->timer);
    if (has_left(c))
        drop(c);
    else if (was_reading)
        ask(c);
}

static void timer_expired(struct loop_timer *timer)
{
    struct client_socks *c = LOOP_OWNER(timer, struct client_socks, timer);
    log_refusal(c, "no whole request came within 30s");
    end(c);
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

void client_socks_open(struct client_socks_set *set, struct loop *loop)
{
    set->loop = loop;
    list_init(&set->all);
    linger_open(&set->linger, loop, CLIENT_SOCKS_MAX);
}

void client_socks_close(struct client_socks_set *set)
{
    struct list *node;
    while ((node = list_take(&set->all)) != NULL)
        drop(LIST_OWNER(node, struct client_socks, link));
    linger_close(&set->linger);
}

bool client_socks_is_full(const struct client_socks_set *set)
{
    return set->count >= CLIENT_SOCKS_MAX;
}

void client_socks_accept(struct client_socks_set *set, size_t forward, int fd)
{
    struct client_socks *c = client_socks_is_full(set) ? NULL : calloc(1, sizeof *c);
    struct error err = ERROR_INIT;
    if (c == NULL) {
        close(fd);
        return;
    }
    if (tcp_adopt(&c->tcp, set->loop, fd, client_changed, &err) < 0) {
        log_refusal(c, err.text);
        free(c);
        return;
    }
    c->set = set;
    c->forward = forward;
    socks5_init(&c->request);
    list_append(&set->all, &c->link);
    set->count++;
    loop_timer_init(&c->timer, timer_expired);
    loop_timer_set(set->loop, &c->timer, clock_after_ms(loop_now_ms(set->loop), CLIENT_SOCKS_REQUEST_MS));
}

/* The first from here on for which `is` holds; null when there is none. */
static struct client_socks *find(const struct client_socks_set *set, struct list *node,
                                 bool (*is)(const struct client_socks *c))
{
    for (; node != &set->all; node = node->next)
        if (is(LIST_OWNER(node, struct client_socks, link)))
            return LIST_OWNER(node, struct client_socks, link);
    return NULL;
}

bool client_socks_is_waiting(const struct client_socks_set *set)
{
    return find(set, set->all.next, wants_answer) != NULL;
}

void client_socks_serve(struct client_socks_set *set)
{
    for (struct client_socks *c = find(set, set->all.next, is_waiting); c != NULL;
         c = find(set, c->link.next, is_waiting))
        (void) set->connect(set, c);
}

void client_socks_want(struct client_socks_set *set)
{
    for (struct client_socks *c = find(set, set->all.next, is_waiting); c != NULL;
         c = find(set, c->link.next, is_waiting))
        set->waits(set, c->forward);
}

void client_socks_refuse_waiting(struct client_socks_set *set, const char *why)
{
    struct list all;
    struct list *node;
    list_init(&all);
    list_move(&all, &set->all);
    while ((node = list_take(&all)) != NULL) {
        struct client_socks *c = LIST_OWNER(node, struct client_socks, link);
        list_append(&set->all, node);
        if (is_waiting(c))
            client_socks_refused(c, why);
    }
}
