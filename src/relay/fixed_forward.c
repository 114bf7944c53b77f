#include "relay/fixed_forward.h"

#include <errno.h>
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
    struct list in_connections;
    struct list in_ready;
    struct tcp client;
    struct tcp target;
    int64_t since_ms;
    struct pipe up;   /* client to target */
    struct pipe down; /* target to client */
    uint8_t memory[2 * FIXED_FORWARD_BUFFER_SIZE];
};

static struct loop *loop_of(const struct fixed_forwards *forwards)
{
    return forwards->context->network->loop;
}

/* Connections beyond the bound wait in the kernel's backlog. */
static void accept_while_there_is_room(struct fixed_forwards *forwards)
{
    for (size_t i = 0; i < forwards->list.count; i++)
        listener_accept(&forwards->ports[i].listener, forwards->open < FIXED_FORWARD_CONNECTIONS_MAX);
}

static void close_connection(struct fixed_connection *c, const char *why, bool broken)
{
    struct fixed_forwards *forwards = c->port->forwards;
    list_remove(&c->in_connections);
    list_remove(&c->in_ready);
    int64_t now_ms = loop_now_ms(loop_of(forwards));
    log_event(LOG_INFO, "fixed relay closed", LOG_I64("listen", c->port->entry->port),
              LOG_TEXT("host", c->port->entry->host), LOG_I64("port", c->port->entry->host_port),
              LOG_I64("bytes_to_target", c->up.total), LOG_I64("bytes_to_client", c->down.total),
              LOG_DURATION_MS("duration", now_ms - c->since_ms), LOG_TEXT("why", why));
    forwards->open--;
    forwards->context->last_stream_ms = forwards->context->last_session_ms = now_ms;
    if (broken) { /* neither side must take this for a proper end */
        tcp_reset(&c->client);
        tcp_reset(&c->target);
    } else {
        tcp_close(&c->client);
        tcp_close(&c->target);
    }
    free(c);
    accept_while_there_is_room(forwards);
    forwards->changed(forwards->context);
}

/* Fills the buffer if it is empty, and passes on what the other end takes. True when bytes were moved: there
 * may be more. */
static bool move(struct fixed_connection *c, struct pipe *pipe)
{
    if (pipe->start == pipe->end) {
        pipe->start = 0;
        pipe->end = tcp_read(pipe->from, pipe->buffer, FIXED_FORWARD_BUFFER_SIZE);
    }
    size_t n = tcp_write(pipe->to, pipe->buffer + pipe->start, pipe->end - pipe->start);
    pipe->start += n;
    pipe->total += n;
    if (n > 0)
        c->port->forwards->context->last_byte_ms = loop_now_ms(loop_of(c->port->forwards));
    if (pipe->start == pipe->end && pipe->from->read_ended && !pipe->ended) {
        pipe->ended = true;
        tcp_end_write(pipe->to);
    }
    return n > 0;
}

static struct tcp *failed_end(struct fixed_connection *c)
{
    if (c->target.state == TCP_STATE_FAILED)
        return &c->target;
    return c->client.state == TCP_STATE_FAILED ? &c->client : NULL;
}

/* One turn of a connection. It takes another while it gets on, behind those that wait. */
static void run_connection(struct fixed_connection *c)
{
    struct error err = ERROR_INIT;
    bool moved = false;
    if (failed_end(c) == NULL && c->target.state != TCP_STATE_DIALLING) {
        moved = move(c, &c->up);
        moved = move(c, &c->down) || moved;
    }
    if (failed_end(c) != NULL) { /* before, or just now while bytes were moved */
        tcp_error(failed_end(c), &err);
        close_connection(c, err.text, true);
    } else if (c->up.ended && c->down.ended) {
        close_connection(c, "both ends are done", false);
    } else if (moved) {
        list_append(&c->port->forwards->ready, &c->in_ready);
    }
}

static void run_ready(struct loop_hook *hook)
{
    struct fixed_forwards *forwards = LOOP_OWNER(hook, struct fixed_forwards, hook);
    for (int moves = 0; moves < FIXED_FORWARD_MOVES_PER_TURN; moves++) {
        struct list *node = list_take(&forwards->ready);
        if (node == NULL)
            return;
        run_connection(LIST_OWNER(node, struct fixed_connection, in_ready));
    }
    loop_hook_defer(loop_of(forwards), hook);
}

static void make_ready(struct fixed_connection *c)
{
    if (!list_is_linked(&c->in_ready))
        list_append(&c->port->forwards->ready, &c->in_ready);
    loop_hook_queue(loop_of(c->port->forwards), &c->port->forwards->hook);
}

static void client_changed(struct tcp *tcp)
{
    make_ready(LOOP_OWNER(tcp, struct fixed_connection, client));
}

static void target_changed(struct tcp *tcp)
{
    make_ready(LOOP_OWNER(tcp, struct fixed_connection, target));
}

static int permit(void *context, const struct ip *address, uint16_t port, struct error *err)
{
    const struct fixed_connection *c = context;
    return dial_policy_check(&c->port->forwards->context->policy, str_from(c->port->entry->host), *address,
                             port, err);
}

static int dial_target(struct fixed_connection *c, struct error *err)
{
    const struct relay_context *context = c->port->forwards->context;
    struct dial_request request = {
        .host = c->port->entry->host,
        .port = c->port->entry->host_port,
        .deadline_ms = clock_after_ms(loop_now_ms(context->network->loop), context->config->dial_timeout_ms),
        .permit = permit,
        .use = DESCRIPTORS_FOR_STREAMS,
        .context = c};
    return tcp_dial(&c->target, context->network, &request, target_changed, err);
}

static struct fixed_connection *new_connection(struct fixed_port *port)
{
    struct fixed_connection *c = malloc(sizeof *c);
    if (c == NULL)
        return NULL;
    memset(c, 0, offsetof(struct fixed_connection, memory));
    c->port = port;
    c->since_ms = loop_now_ms(loop_of(port->forwards));
    c->up = (struct pipe){.from = &c->client, .to = &c->target, .buffer = c->memory};
    c->down =
        (struct pipe){.from = &c->target, .to = &c->client, .buffer = c->memory + FIXED_FORWARD_BUFFER_SIZE};
    return c;
}

static void begin_connection(struct fixed_port *port, int fd)
{
    struct fixed_forwards *forwards = port->forwards;
    struct error err = ERROR_INIT;
    struct fixed_connection *c = new_connection(port);
    if (c == NULL || tcp_adopt(&c->client, loop_of(forwards), fd, client_changed, &err) < 0) {
        log_event(LOG_WARN, "fixed relay: can't take a connection", LOG_ERR(&err));
        if (c == NULL)
            close(fd);
        free(c);
        return;
    }
    list_append(&forwards->connections, &c->in_connections);
    forwards->open++;
    forwards->total++;
    log_event(LOG_INFO, "fixed relay opened", LOG_I64("listen", port->entry->port),
              LOG_TEXT("host", port->entry->host), LOG_I64("port", port->entry->host_port));
    if (dial_target(c, &err) < 0) {
        close_connection(c, err.text, true);
        return;
    }
    forwards->changed(forwards->context);
}

static void connected(struct listener *listener, int fd)
{
    struct fixed_port *port = LOOP_OWNER(listener, struct fixed_port, listener);
    if (port->forwards->admission_closed) {
        close(fd);
        return;
    }
    fd = descriptors_keep(fd, DESCRIPTORS_FOR_STREAMS);
    if (fd < 0) {
        log_event(LOG_WARN, "fixed relay: can't take a connection", LOG_TEXT("error", strerror(errno)));
        return;
    }
    begin_connection(port, fd);
    accept_while_there_is_room(port->forwards);
}

int fixed_forwards_open(struct fixed_forwards *forwards, struct relay_context *context, struct str listen,
                        void (*changed)(struct relay_context *context), struct error *err)
{
    memset(forwards, 0, sizeof *forwards);
    forwards->context = context;
    forwards->changed = changed;
    list_init(&forwards->connections);
    list_init(&forwards->ready);
    loop_hook_init(&forwards->hook, LOOP_GATHER, run_ready);
    if (forward_spec_parse(&forwards->list, listen, err) < 0)
        return err->code;
    for (size_t i = 0; i < forwards->list.count; i++) {
        const struct forward_spec *entry = &forwards->list.entries[i];
        struct fixed_port *port = &forwards->ports[i];
        *port = (struct fixed_port){.forwards = forwards, .entry = entry};
        int result =
            listener_open(&port->listener, loop_of(forwards), entry->address, entry->port, connected, err);
        if (result < 0)
            return result;
        log_event(LOG_INFO, "fixed relay is open", LOG_I64("listen", entry->port),
                  LOG_TEXT("host", entry->host), LOG_I64("port", entry->host_port));
    }
    return 0;
}

void fixed_forwards_admit(struct fixed_forwards *forwards, bool admit)
{
    forwards->admission_closed = !admit;
}

void fixed_forwards_shut_down(struct fixed_forwards *forwards)
{
    struct list *node;
    while ((node = list_take(&forwards->connections)) != NULL)
        close_connection(LIST_OWNER(node, struct fixed_connection, in_connections), "the task ends", true);
}

bool fixed_forwards_has_port(const struct fixed_forwards *forwards, uint16_t port)
{
    for (size_t i = 0; i < forwards->list.count; i++)
        if (forwards->list.entries[i].port == port)
            return true;
    return false;
}
