/*
 * local_forward: what `fumidai forward` opens on the user's side: the values of -L, -D and -W, as ssh has
 * them.
 *
 *     -L [BIND:]PORT:HOST:PORT    a port here that leads to HOST:PORT
 *     -L PATH:HOST:PORT           the same for a Unix socket: what has a '/' is a path
 *     -L :HOST:PORT               any free port (as port 0; ecsta writes it so)
 *     -D [BIND:]PORT              SOCKS and HTTP CONNECT: each connection names its own target
 *     -W HOST:PORT                stdin and stdout
 *
 * BIND is an IP address (IPv6 in brackets), "*" for all, or "localhost"; without one, and with "localhost",
 * the port is opened on both loopback addresses. HOST may be an IPv6 address in brackets.
 */
#ifndef FUMIDAI_TUNNEL_LOCAL_FORWARD_H
#define FUMIDAI_TUNNEL_LOCAL_FORWARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/ip.h"
#include "base/str.h"
#include "tunnel/dial_policy.h"

enum {
    LOCAL_FORWARD_PATH_SIZE = 108 /* sockaddr_un's sun_path, unix(7) */
};

enum local_forward_kind {
    LOCAL_FORWARD_PORT,
    LOCAL_FORWARD_PATH,
    LOCAL_FORWARD_SOCKS, /* no target of its own */
    LOCAL_FORWARD_STDIO
};

struct local_forward {
    enum local_forward_kind kind;
    bool is_loopback; /* both loopback addresses; else `address` */
    struct ip address;
    uint16_t port; /* 0: any */
    char path[LOCAL_FORWARD_PATH_SIZE];
    char host[DIAL_POLICY_HOST_SIZE];
    uint16_t host_port;
};

/* ERROR_INVALID says which part is wrong, and what is accepted. */
int local_forward_parse_port(struct local_forward *forward, struct str text, struct error *err);
int local_forward_parse_socks(struct local_forward *forward, struct str text, struct error *err);
int local_forward_parse_stdio(struct local_forward *forward, struct str text, struct error *err);

#endif
