#include "relay/fixed_forward.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"

enum { BACKLOG = 64, PAUSE_MS = 250 /* of accepting, when connections or descriptors have run out */ };

/* Bytes on their way from one end to the other. */
struct pipe {
    struct tcp *from;
    struct tcp *to;
    size_t start;
    size_t end;
    uint64_t total;
    bool ended; /* the end was passed on */
    uint8_t *buffer;
};

struct fixed_connection {
    struct fixed_port *port;
    struct fixed_connection *next;
    struct tcp client;
    struct tcp target;
    int64_t since_ms;
    struct pipe up;   /* client to target */
    struct pipe down; /* target to client */
    uint8_t memory[2 * FIXED_FORWARD_BUFFER_SIZE];
};

static struct loop *loop_of(const struct fixed_forwards *relays)
{
    return relays->context->network->loop;
}

static void close_connection(struct fixed_connection *c, const char *why, bool broken)
{
    struct fixed_forwards *relays = c->port->relays;
    for (struct fixed_connection **link = &relays->first; *link != NULL; link = &(*link)->next) {
        if (*link == c) {
            *link = c->next;
            break;
        }
    }
    int64_t now_ms = loop_now_ms(loop_of(relays));
    log_event(LOG_INFO, "fixed relay closed", LOG_I64("listen", c->port->entry->port),
              LOG_TEXT("host", c->port->entry->host), LOG_I64("port", c->port->entry->host_port),
              LOG_I64("bytes_to_target", c->up.total), LOG_I64("bytes_to_client", c->down.total),
              LOG_DURATION_MS("duration", now_ms - c->since_ms), LOG_TEXT("why", why));
    relays->open--;
    relays->context->last_stream_ms = relays->context->last_session_ms = now_ms;
    if (broken) { /* neither side must take this for a proper end */
        tcp_reset(&c->client);
        tcp_reset(&c->target);
    } else {
        tcp_close(&c->client);
        tcp_close(&c->target);
    }
    free(c);
    relays->changed(relays->context);
}

/* Moves what can be moved. */
static void run_pipe(struct fixed_connection *c, struct pipe *pipe)
{
    for (;;) {
        if (pipe->start == pipe->end) {
            pipe->start = pipe->end = 0;
            pipe->end = tcp_read(pipe->from, pipe->buffer, FIXED_FORWARD_BUFFER_SIZE);
            if (pipe->end == 0)
                break;
        }
        size_t n = tcp_write(pipe->to, pipe->buffer + pipe->start, pipe->end - pipe->start);
        if (n == 0)
            return;
        pipe->start += n;
        pipe->total += n;
        c->port->relays->context->bytes += n;
        c->port->relays->context->last_byte_ms = loop_now_ms(loop_of(c->port->relays));
    }
    if (pipe->from->read_ended && !pipe->ended) {
        pipe->ended = true;
        tcp_end_write(pipe->to);
    }
}

static struct tcp *failed_end(struct fixed_connection *c)
{
    if (c->target.state == TCP_STATE_FAILED)
        return &c->target;
    return c->client.state == TCP_STATE_FAILED ? &c->client : NULL;
}

static void run_connection(struct fixed_connection *c)
{
    struct error err = ERROR_INIT;
    if (failed_end(c) == NULL && c->target.state != TCP_STATE_DIALLING) {
        run_pipe(c, &c->up);
        run_pipe(c, &c->down);
    }
    if (failed_end(c) != NULL) { /* before, or just now while bytes were moved */
        tcp_error(failed_end(c), &err);
        close_connection(c, err.text, true);
    } else if (c->up.ended && c->down.ended) {
        close_connection(c, "both ends are done", false);
    }
}

static void client_changed(struct tcp *tcp)
{
    run_connection(LOOP_OWNER(tcp, struct fixed_connection, client));
}

static void target_changed(struct tcp *tcp)
{
    run_connection(LOOP_OWNER(tcp, struct fixed_connection, target));
}

static int permit(void *context, const struct ip *address, uint16_t port, struct error *err)
{
    const struct fixed_connection *c = context;
    return dial_policy_check(&c->port->relays->context->policy, str_from(c->port->entry->host), *address,
                             port, err);
}

static int dial_target(struct fixed_connection *c, struct error *err)
{
    const struct relay_context *context = c->port->relays->context;
    struct dial_request request = {
        .host = c->port->entry->host,
        .port = c->port->entry->host_port,
        .deadline_ms = clock_after_ms(loop_now_ms(context->network->loop), context->config->dial_timeout_ms),
        .permit = permit,
        .context = c};
    return tcp_dial(&c->target, context->network, &request, target_changed, err);
}

static void begin_connection(struct fixed_port *port, int fd)
{
    struct fixed_forwards *relays = port->relays;
    struct error err = ERROR_INIT;
    struct fixed_connection *c = malloc(sizeof *c);
    if (c == NULL) {
        close(fd);
        return;
    }
    memset(c, 0, offsetof(struct fixed_connection, memory));
    c->port = port;
    c->since_ms = loop_now_ms(loop_of(relays));
    c->up = (struct pipe){.from = &c->client, .to = &c->target, .buffer = c->memory};
    c->down =
        (struct pipe){.from = &c->target, .to = &c->client, .buffer = c->memory + FIXED_FORWARD_BUFFER_SIZE};
    if (tcp_adopt(&c->client, loop_of(relays), fd, client_changed, &err) < 0) {
        log_event(LOG_WARN, "fixed relay: can't take a connection", LOG_ERR(&err));
        free(c);
        return;
    }
    c->next = relays->first;
    relays->first = c;
    relays->open++;
    relays->total++;
    log_event(LOG_INFO, "fixed relay opened", LOG_I64("listen", port->entry->port),
              LOG_TEXT("host", port->entry->host), LOG_I64("port", port->entry->host_port));
    if (dial_target(c, &err) < 0) {
        close_connection(c, err.text, true);
        return;
    }
    relays->changed(relays->context);
}

/* Stops or goes on accepting. A listener that is readable and not served would wake the loop for ever. */
static void listen_for(struct fixed_forwards *relays, uint32_t events)
{
    for (size_t i = 0; i < relays->list.count; i++)
        if (relays->ports[i].watch.fd >= 0)
            loop_watch_set(loop_of(relays), &relays->ports[i].watch, events);
}

static void pause_expired(struct loop_timer *timer)
{
    listen_for(LOOP_OWNER(timer, struct fixed_forwards, pause), EPOLLIN);
}

static void acceptable(struct loop_watch *watch, uint32_t events)
{
    struct fixed_port *port = LOOP_OWNER(watch, struct fixed_port, watch);
    struct fixed_forwards *relays = port->relays;
    (void) events;
    for (;;) {
        int fd = -1;
        bool is_full = relays->open == FIXED_FORWARD_CONNECTIONS_MAX;
        if (!is_full)
            fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (is_full ||
            (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))) {
            listen_for(relays, 0);
            loop_timer_set(loop_of(relays), &relays->pause,
                           clock_after_ms(loop_now_ms(loop_of(relays)), PAUSE_MS));
            return;
        }
        if (fd < 0)
            return;
        if (relays->door_closed)
            close(fd);
        else
            begin_connection(port, fd);
    }
}

static int open_listener(struct fixed_port *port, struct error *err)
{
    const struct forward_spec *entry = port->entry;
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(entry->port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(entry->port)};
    bool is_v4 = entry->address.version == IP_V4;
    int one = 1;
    memcpy(&v4.sin_addr, entry->address.bytes, sizeof v4.sin_addr);
    memcpy(&v6.sin6_addr, entry->address.bytes, sizeof v6.sin6_addr);
    int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, ERROR_SYSTEM, "port %u: socket: %s", entry->port, strerror(errno));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const struct sockaddr *address = is_v4 ? (const struct sockaddr *) &v4 : (const struct sockaddr *) &v6;
    if (bind(fd, address, is_v4 ? sizeof v4 : sizeof v6) < 0 || listen(fd, BACKLOG) < 0) {
        error_set(err, ERROR_SYSTEM, "can't listen on port %u: %s", entry->port, strerror(errno));
        close(fd);
        return ERROR_SYSTEM;
    }
    return loop_watch_add(loop_of(port->relays), &port->watch, fd, EPOLLIN, acceptable, err);
}

int fixed_forwards_open(struct fixed_forwards *relays, struct relay_context *context, struct str listen,
                        void (*changed)(struct relay_context *context), struct error *err)
{
    memset(relays, 0, sizeof *relays);
    relays->context = context;
    relays->changed = changed;
    loop_timer_init(&relays->pause, pause_expired);
    if (forward_spec_parse(&relays->list, listen, err) < 0)
        return err->code;
    for (size_t i = 0; i < relays->list.count; i++) {
        relays->ports[i] = (struct fixed_port){.relays = relays, .entry = &relays->list.entries[i]};
        relays->ports[i].watch = LOOP_WATCH_INIT;
        int result = open_listener(&relays->ports[i], err);
        if (result < 0)
            return result;
        log_event(LOG_INFO, "fixed relay is open", LOG_I64("listen", relays->list.entries[i].port),
                  LOG_TEXT("host", relays->list.entries[i].host),
                  LOG_I64("port", relays->list.entries[i].host_port));
    }
    return 0;
}

void fixed_forwards_close_door(struct fixed_forwards *relays, bool closed)
{
    relays->door_closed = closed;
}

void fixed_forwards_end(struct fixed_forwards *relays)
{
    struct fixed_connection *c = relays->first;
    while (c != NULL) {
        struct fixed_connection *next = c->next;
        close_connection(c, "the task ends", true);
        c = next;
    }
}

bool fixed_forwards_has_port(const struct fixed_forwards *relays, uint16_t port)
{
    for (size_t i = 0; i < relays->list.count; i++)
        if (relays->list.entries[i].port == port)
            return true;
    return false;
}
