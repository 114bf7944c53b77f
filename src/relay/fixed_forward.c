#include "relay/fixed_forward.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/clock.h"
#include "host/log.h"
#include "host/loop.h"

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

/* Connections beyond the bound wait in the kernel's backlog. */
static void accept_while_there_is_room(struct fixed_forwards *relays)
{
    for (size_t i = 0; i < relays->list.count; i++)
        listener_accept(&relays->ports[i].listener, relays->open < FIXED_FORWARD_CONNECTIONS_MAX);
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
    accept_while_there_is_room(relays);
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
        .use = DESCRIPTORS_FOR_STREAMS,
        .context = c};
    return tcp_dial(&c->target, context->network, &request, target_changed, err);
}

static void begin_connection(struct fixed_port *port, int fd)
{
    struct fixed_forwards *relays = port->relays;
    struct error err = ERROR_INIT;
    struct fixed_connection *c = malloc(sizeof *c);
    fd = descriptors_keep(fd, DESCRIPTORS_FOR_STREAMS);
    if (c == NULL || fd < 0) {
        if (fd >= 0)
            close(fd);
        free(c);
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

static void connected(struct listener *listener, int fd)
{
    struct fixed_port *port = LOOP_OWNER(listener, struct fixed_port, listener);
    if (port->relays->door_closed) {
        close(fd);
        return;
    }
    begin_connection(port, fd);
    accept_while_there_is_room(port->relays);
}

int fixed_forwards_open(struct fixed_forwards *relays, struct relay_context *context, struct str listen,
                        void (*changed)(struct relay_context *context), struct error *err)
{
    memset(relays, 0, sizeof *relays);
    relays->context = context;
    relays->changed = changed;
    if (forward_spec_parse(&relays->list, listen, err) < 0)
        return err->code;
    for (size_t i = 0; i < relays->list.count; i++) {
        const struct forward_spec *entry = &relays->list.entries[i];
        struct fixed_port *port = &relays->ports[i];
        *port = (struct fixed_port){.relays = relays, .entry = entry};
        int result =
            listener_open(&port->listener, loop_of(relays), entry->address, entry->port, connected, err);
        if (result < 0)
            return result;
        log_event(LOG_INFO, "fixed relay is open", LOG_I64("listen", entry->port),
                  LOG_TEXT("host", entry->host), LOG_I64("port", entry->host_port));
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
