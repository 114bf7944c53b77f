/* socket: an address and a port as the kernel takes them, and a socket that is connected to them. */
#ifndef FUMIDAI_NET_SOCKET_H
#define FUMIDAI_NET_SOCKET_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/ip.h"
#include "host/descriptors.h"

struct socket_name {
    union {
        struct sockaddr any; /* what the calls take */
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
    socklen_t len;
};

struct socket_name socket_name_of(struct ip address, uint16_t port);

enum {
    /* From so many descriptors on, a connection to a target gets a receive buffer of its own share of
     * SOCKET_RECEIVE_TOTAL, instead of the kernel's 128 KiB and more: 3,800 targets that were not read held
     * 487 MB. With fewer open the kernel chooses. */
    SOCKET_MANY = 256,
    SOCKET_RECEIVE_TOTAL = 64 * 1024 * 1024 /* an eighth of the smallest task */
};

/* Opens a socket, non-blocking and close-on-exec, and begins to connect it. `type` is SOCK_STREAM or
 * SOCK_DGRAM. The descriptor, or a negated errno; EMFILE when there is none left for `use`. A connect that is
 * under way is not a failure. */
int socket_connect(int type, struct ip address, uint16_t port, enum descriptors_use use);

#endif
