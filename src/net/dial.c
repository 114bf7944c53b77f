#include "net/dial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/time.h"
#include "host/loop.h"
#include "net/resolver.h"
#include "net/socket.h"

struct attempt {
    struct loop_watch watch; /* its descriptor is open while the watch is set */
    struct dial *dial;
};

struct dial {
    struct loop *loop;
    struct resolver *resolver;
    struct dial_request request;
    int64_t started_ms;
    void (*done)(struct dial *dial, void *owner);
    void *owner;
    struct resolver_request resolving;
    struct loop_timer deadline;
    struct loop_timer next_address;
    struct attempt attempts[DNS_RESULT_ADDRESSES_MAX];
    size_t next;    /* the address to be tried next */
    size_t pending; /* attempts under way */
    size_t denied;
    int fd; /* the result, -1 before */
    struct ip reached;
    struct error err;
    struct writer reasons;                  /* why each address failed, separated by "; " */
    char reasons_text[2 * ERROR_TEXT_SIZE]; /* one may be a whole error text */
    char host[DNS_NAME_SIZE];
};

/* --- the end -------------------------------------------------------------------------------------------- */

static void close_attempt(struct attempt *attempt)
{
    int fd = attempt->watch.fd;
    if (fd < 0)
        return;
    loop_watch_remove(attempt->dial->loop, &attempt->watch);
    close(fd);
    attempt->dial->pending--;
}

static void stop_everything(struct dial *dial)
{
    loop_timer_remove(dial->loop, &dial->deadline);
    loop_timer_remove(dial->loop, &dial->next_address);
    resolver_cancel(dial->resolver, &dial->resolving);
    for (size_t i = 0; i < DNS_RESULT_ADDRESSES_MAX; i++)
        close_attempt(&dial->attempts[i]);
}

static void name_target(const char *host, uint16_t port, struct error *err)
{
    bool is_v6 = strchr(host, ':') != NULL;
    error_prefix(err, "dial %s%s%s:%u: ", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port);
}

/* The last thing a callback does: the owner may close us. */
static void finish(struct dial *dial)
{
    stop_everything(dial);
    if (dial->fd < 0)
        name_target(dial->host, dial->request.port, &dial->err);
    dial->done(dial, dial->owner);
}

/* With the address in front, unless that is what was asked for. */
static void note_reason(struct dial *dial, size_t index, const char *reason)
{
    struct writer before = dial->reasons;
    struct ip literal;
    if (!ip_parse(str_from(dial->host), &literal)) {
        writer_text(&dial->reasons, before.len > 0 ? "; " : "");
        writer_ip_port(&dial->reasons, dial->resolving.result.addresses[index], dial->request.port);
        writer_text(&dial->reasons, ": ");
    }
    writer_text(&dial->reasons, reason);
    if (dial->reasons.failed || dial->reasons.len == dial->reasons.capacity)
        dial->reasons = before; /* one of many that did not fit; the first ones tell enough */
}

static void fail_with_reasons(struct dial *dial, enum error_code code)
{
    error_set(&dial->err, code, "%s", writer_terminate(&dial->reasons));
    finish(dial);
}

static void deadline_passed(struct loop_timer *timer)
{
    struct dial *dial = LOOP_OWNER(timer, struct dial, deadline);
    char text[64];
    struct writer w = writer_of(text, sizeof text);
    writer_text(&w, "no answer within ");
    writer_duration_ms(&w, loop_now_ms(dial->loop) - dial->started_ms);
    writer_terminate(&w);
    if (dial->resolving.result.count == 0) {
        error_set(&dial->err, ERROR_TIMEOUT, "resolving the name: %s", text);
        finish(dial);
        return;
    }
    for (size_t i = 0; i < dial->next; i++)
        if (dial->attempts[i].watch.fd >= 0)
            note_reason(dial, i, text);
    fail_with_reasons(dial, ERROR_TIMEOUT);
}

/* --- trying --------------------------------------------------------------------------------------------- */

static void attempt_ready(struct loop_watch *watch, uint32_t events);

/* False when it failed at once; the reason is noted then. */
static bool try_address(struct dial *dial, size_t index)
{
    struct ip address = dial->resolving.result.addresses[index];
    const struct dial_request *request = &dial->request;
    struct error refusal = ERROR_INIT;
    if (request->permit != NULL && request->permit(request->context, &address, request->port, &refusal) < 0) {
        dial->denied++;
        note_reason(dial, index, refusal.text);
        return false;
    }
    int fd = socket_connect(SOCK_STREAM, address, request->port, request->use);
    if (fd < 0) {
        note_reason(dial, index, strerror(-fd));
        return false;
    }
    struct loop_watch *watch = &dial->attempts[index].watch;
    if (loop_watch_add(dial->loop, watch, fd, EPOLLOUT, attempt_ready, &refusal) != 0) {
        close(fd);
        note_reason(dial, index, refusal.text);
        return false;
    }
    dial->pending++;
    return true;
}

/* Goes on to the next address that lets itself be tried; the end of all when there is none and nothing is
 * pending. Ends the dial or not: the last thing a callback does. */
static void try_next(struct dial *dial)
{
    size_t count = dial->resolving.result.count;
    while (dial->next < count) {
        if (try_address(dial, dial->next++)) {
            int64_t due_ms =
                dial->next < count ? loop_now_ms(dial->loop) + DIAL_NEXT_ADDRESS_MS : CLOCK_NEVER;
            loop_timer_set(dial->loop, &dial->next_address, due_ms);
            return;
        }
    }
    loop_timer_remove(dial->loop, &dial->next_address);
    if (dial->pending == 0)
        fail_with_reasons(dial, dial->denied == count ? ERROR_DENIED : ERROR_UNAVAILABLE);
}

static void next_address_is_due(struct loop_timer *timer)
{
    try_next(LOOP_OWNER(timer, struct dial, next_address));
}

static void attempt_ready(struct loop_watch *watch, uint32_t events)
{
    (void) events;
    struct attempt *attempt = LOOP_OWNER(watch, struct attempt, watch);
    struct dial *dial = attempt->dial;
    size_t index = (size_t) (attempt - dial->attempts);
    int reason = 0;
    socklen_t len = sizeof reason;
    if (getsockopt(watch->fd, SOL_SOCKET, SO_ERROR, &reason, &len) != 0)
        reason = errno;
    if (reason != 0) {
        note_reason(dial, index, strerror(reason));
        close_attempt(attempt);
        try_next(dial);
        return;
    }
    dial->fd = watch->fd;
    dial->reached = dial->resolving.result.addresses[index];
    loop_watch_remove(dial->loop, watch);
    dial->pending--;
    finish(dial);
}

/* --- the beginning -------------------------------------------------------------------------------------- */

static void resolved(struct resolver_request *resolving)
{
    struct dial *dial = LOOP_OWNER(resolving, struct dial, resolving);
    if (resolving->result.count == 0) {
        dns_result_explain(&resolving->result, &dial->err);
        finish(dial);
        return;
    }
    try_next(dial);
}

int dial_start(struct dial **dial, struct network *network, const struct dial_request *request,
               void (*done)(struct dial *dial, void *owner), void *owner, struct error *err)
{
    *dial = NULL;
    struct dial *made = calloc(1, sizeof *made);
    if (made == NULL) {
        error_set(err, ERROR_SYSTEM, "out of memory");
        name_target(request->host, request->port, err);
        return ERROR_SYSTEM;
    }
    made->loop = network->loop;
    made->resolver = &network->resolver;
    made->request = *request;
    made->request.host = made->host;
    made->started_ms = loop_now_ms(network->loop);
    made->done = done;
    made->owner = owner;
    made->fd = -1;
    made->reasons = writer_of(made->reasons_text, sizeof made->reasons_text);
    for (size_t i = 0; i < DNS_RESULT_ADDRESSES_MAX; i++)
        made->attempts[i] = (struct attempt){.watch = LOOP_WATCH_INIT, .dial = made};
    loop_timer_init(&made->deadline, deadline_passed);
    loop_timer_init(&made->next_address, next_address_is_due);
    int result =
        resolver_start(&network->resolver, &made->resolving, request->host, request->use, resolved, err);
    if (result != 0) {
        name_target(request->host, request->port, err);
        free(made);
        return result;
    }
    memcpy(made->host, made->resolving.name, sizeof made->host);
    loop_timer_set(network->loop, &made->deadline, request->deadline_ms);
    *dial = made;
    return 0;
}

int dial_take(struct dial *dial, struct ip *address, struct error *err)
{
    if (dial->fd < 0) {
        if (err != NULL)
            *err = dial->err;
        return dial->err.code;
    }
    int fd = dial->fd;
    *address = dial->reached;
    dial->fd = -1;
    return fd;
}

void dial_close(struct dial *dial)
{
    if (dial == NULL)
        return;
    stop_everything(dial);
    if (dial->fd >= 0)
        close(dial->fd);
    free(dial);
}
