#include "client/ports.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void accept_all(struct client_ports *ports)
{
    for (size_t i = 0; i < ports->count; i++) {
        bool is_full = ports->forwards[i].kind == LOCAL_FORWARD_SOCKS
                           ? client_socks_is_full(&ports->socks)
                           : ports->waiting_count == CLIENT_WAITING_MAX;
        for (size_t k = 0; k < ports->ports[i].count; k++)
            listener_accept(&ports->ports[i].listeners[k], ports->accepting && !is_full);
    }
}

void client_ports_adopt(struct client_ports *ports, size_t forward, int fd)
{
    if (ports->connect(ports, forward, fd))
        return;
    if (ports->waiting_count == CLIENT_WAITING_MAX) {
        close(fd);
        return;
    }
    ports->waiting[ports->waiting_count++] = (struct client_waiting){fd, forward};
    if (ports->waiting_count == CLIENT_WAITING_MAX)
        accept_all(ports);
    ports->waits(ports, forward);
}

static void connected(struct client_port *port, int fd)
{
    struct client_ports *ports = port->ports;
    if (ports->forwards[port->forward].kind != LOCAL_FORWARD_SOCKS) {
        client_ports_adopt(ports, port->forward, fd);
        return;
    }
    client_socks_accept(&ports->socks, port->forward, fd);
    if (client_socks_is_full(&ports->socks))
        accept_all(ports);
}

static bool ask_socks(struct client_socks_set *set, struct client_socks *c)
{
    struct client_ports *ports = LOOP_OWNER(set, struct client_ports, socks);
    return ports->ask(ports, c);
}

static void socks_waits(struct client_socks_set *set, size_t forward)
{
    struct client_ports *ports = LOOP_OWNER(set, struct client_ports, socks);
    ports->waits(ports, forward);
}

static void socks_changed(struct client_socks_set *set)
{
    if (set->count == CLIENT_SOCKS_MAX - 1)
        accept_all(LOOP_OWNER(set, struct client_ports, socks));
}

static void connected_first(struct listener *listener, int fd)
{
    connected(LOOP_OWNER(listener, struct client_port, listeners[0]), fd);
}

static void connected_second(struct listener *listener, int fd)
{
    connected(LOOP_OWNER(listener, struct client_port, listeners[1]), fd);
}

/* Both loopback addresses, the second only where there is one. Of port 0 the second may fail: try again. */
static int open_loopback(struct client_port *p, struct loop *loop, uint16_t port, struct error *err)
{
    static const uint8_t v4[4] = {127, 0, 0, 1};
    static const uint8_t v6[16] = {[15] = 1};
    struct error second = ERROR_INIT;
    int result = listener_open(&p->listeners[0], loop, ip_v4(v4), port, connected_first, err);
    if (result < 0)
        return result;
    p->count = 1;
    result =
        listener_open(&p->listeners[1], loop, ip_v6(v6), p->listeners[0].port, connected_second, &second);
    if (result == 0)
        p->count = 2;
    if (result == 0 || !p->listeners[1].is_taken)
        return 0;
    *err = second;
    listener_close(&p->listeners[0]);
    p->count = 0;
    return result;
}

static int open_port(struct client_port *p, struct loop *loop, struct local_forward *f, struct error *err)
{
    int result = ERROR_SYSTEM;
    if (f->kind == LOCAL_FORWARD_STDIO)
        return 0;
    if (f->kind == LOCAL_FORWARD_PATH) {
        result = listener_open_path(&p->listeners[0], loop, f->path, connected_first, err);
    } else if (!f->is_loopback) {
        result = listener_open(&p->listeners[0], loop, f->address, f->port, connected_first, err);
    } else {
        int tries = f->port == 0 ? CLIENT_PORT_TRIES : 1;
        while (result < 0 && tries-- > 0) {
            *err = (struct error) ERROR_INIT;
            result = open_loopback(p, loop, f->port, err);
        }
    }
    if (result == 0 && p->count == 0)
        p->count = 1;
    if (result == 0)
        f->port = p->listeners[0].port;
    return result;
}

int client_ports_open(struct client_ports *ports, struct loop *loop, struct local_forward *forwards,
                      size_t count, struct error *err)
{
    int result = 0;
    ports->ports = calloc(count, sizeof *ports->ports);
    if (ports->ports == NULL)
        return error_set(err, ERROR_SYSTEM, "out of memory");
    ports->forwards = forwards;
    ports->socks.connect = ask_socks;
    ports->socks.waits = socks_waits;
    ports->socks.changed = socks_changed;
    client_socks_open(&ports->socks, loop);
    for (size_t i = 0; i < count && result == 0; i++) {
        ports->ports[i] = (struct client_port){.ports = ports, .forward = i};
        result = open_port(&ports->ports[i], loop, &forwards[i], err);
        ports->count = i + (result == 0);
    }
    accept_all(ports);
    if (result < 0)
        client_ports_close(ports);
    return result;
}

void client_ports_close(struct client_ports *ports)
{
    if (ports->ports == NULL)
        return;
    client_ports_refuse(ports, "fumidai forward ends");
    client_socks_close(&ports->socks);
    for (size_t i = 0; i < ports->count; i++) {
        for (size_t k = 0; k < ports->ports[i].count; k++)
            listener_close(&ports->ports[i].listeners[k]);
        if (ports->forwards[i].kind == LOCAL_FORWARD_PATH)
            (void) unlink(ports->forwards[i].path);
    }
    free(ports->ports);
    ports->ports = NULL;
    ports->count = 0;
}

void client_ports_accept(struct client_ports *ports)
{
    ports->accepting = true;
    accept_all(ports);
}

bool client_ports_is_waiting(const struct client_ports *ports)
{
    return ports->waiting_count > 0 || client_socks_is_waiting(&ports->socks);
}

void client_ports_want(struct client_ports *ports)
{
    for (size_t i = 0; i < ports->waiting_count; i++)
        ports->waits(ports, ports->waiting[i].forward);
    client_socks_want(&ports->socks);
}

void client_ports_serve(struct client_ports *ports)
{
    size_t left = 0;
    bool was_full = ports->waiting_count == CLIENT_WAITING_MAX;
    for (size_t i = 0; i < ports->waiting_count; i++)
        if (!ports->connect(ports, ports->waiting[i].forward, ports->waiting[i].fd))
            ports->waiting[left++] = ports->waiting[i];
    ports->waiting_count = left;
    if (was_full && left < CLIENT_WAITING_MAX)
        accept_all(ports);
    client_socks_serve(&ports->socks);
}

void client_ports_refuse(struct client_ports *ports, const char *why)
{
    static const struct linger abort = {.l_onoff = 1};
    bool was_full = ports->waiting_count == CLIENT_WAITING_MAX;
    for (size_t i = 0; i < ports->waiting_count; i++) {
        (void) setsockopt(ports->waiting[i].fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
        close(ports->waiting[i].fd);
    }
    ports->waiting_count = 0;
    if (was_full)
        accept_all(ports);
    client_socks_refuse_waiting(&ports->socks, why);
}
