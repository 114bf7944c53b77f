/*
 * client_ports: what a user's programs connect to: the ports and Unix sockets of all forwards, and the
 * connections that wait for a session.
 *
 * Everything is opened before the first call to AWS: a port that is taken costs no session. Connections are
 * taken from the kernel once the forwards are ready. One for which there is no stream waits here, at most
 * CLIENT_WAITING_MAX of them; then no more are taken. Those of SOCKS ports are client/socks's.
 */
#ifndef FUMIDAI_CLIENT_PORTS_H
#define FUMIDAI_CLIENT_PORTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "client/socks.h"
#include "net/listener.h"
#include "tunnel/local_forward.h"

enum {
    CLIENT_WAITING_MAX = 256,  /* a connection pool's worth; more wait in the kernel */
    CLIENT_PORT_ADDRESSES = 2, /* both loopback addresses */
    CLIENT_PORT_TRIES = 16     /* to find a port that is free on both of them */
};

struct client_ports;

struct client_port {
    struct client_ports *ports;
    size_t forward;
    struct listener listeners[CLIENT_PORT_ADDRESSES];
    size_t count;
};

struct client_waiting {
    int fd;
    size_t forward;
};

struct client_ports {
    /* Takes the descriptor, or says false: it waits then. */
    bool (*connect)(struct client_ports *ports, size_t forward, int fd);
    /* The same for a SOCKS client that has said where to. */
    bool (*ask)(struct client_ports *ports, struct client_socks *c);
    void (*waits)(struct client_ports *ports, size_t forward); /* one more waits */

    /* private */
    struct client_port *ports; /* one for each forward */
    struct local_forward *forwards;
    size_t count;
    struct client_waiting waiting[CLIENT_WAITING_MAX];
    size_t waiting_count;
    struct client_socks_set socks;
    bool accepting;
};

/* Opens all, or none: the error names the one that can't be opened. The ports that were found go to
 * forwards[i].port. Nothing is accepted yet. */
int client_ports_open(struct client_ports *ports, struct loop *loop, struct local_forward *forwards,
                      size_t count, struct error *err);
void client_ports_close(struct client_ports *ports); /* removes Unix sockets; resets what waits */
void client_ports_accept(struct client_ports *ports);
/* A connection of this forward that came another way. */
void client_ports_adopt(struct client_ports *ports, size_t forward, int fd);
bool client_ports_is_waiting(const struct client_ports *ports); /* somebody waits */
/* Offers what waits to `connect` and `ask`, in order. */
void client_ports_serve(struct client_ports *ports);
void client_ports_want(struct client_ports *ports); /* `waits`, for each that does */
/* Resets what waits. SOCKS clients are told why. */
void client_ports_refuse(struct client_ports *ports, const char *why);

#endif
