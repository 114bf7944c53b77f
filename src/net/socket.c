#include "net/socket.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

struct socket_name socket_name_of(struct ip address, uint16_t port)
{
    struct socket_name name;
    memset(&name, 0, sizeof name);
    if (address.version == IP_V4) {
        name.v4.sin_family = AF_INET;
        name.v4.sin_port = htons(port);
        memcpy(&name.v4.sin_addr, address.bytes, sizeof name.v4.sin_addr);
        name.len = sizeof name.v4;
    } else {
        name.v6.sin6_family = AF_INET6;
        name.v6.sin6_port = htons(port);
        memcpy(&name.v6.sin6_addr, address.bytes, sizeof name.v6.sin6_addr);
        name.len = sizeof name.v6;
    }
    return name;
}

/* Set before connecting: the peer learns of the window then. The kernel takes twice the value, and as its
 * number is the lowest that was free, at least so many are open. */
static void bound_receive_buffer(int fd)
{
    int size = SOCKET_RECEIVE_TOTAL / 4 / (fd > 0 ? fd : 1);
    if (fd >= SOCKET_MANY)
        (void) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

int socket_connect(int type, struct ip address, uint16_t port, enum descriptors_use use)
{
    struct socket_name name = socket_name_of(address, port);
    int fd = descriptors_keep(socket(name.any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), use);
    if (fd < 0)
        return -errno;
    if (use == DESCRIPTORS_FOR_STREAMS)
        bound_receive_buffer(fd);
    if (connect(fd, &name.any, name.len) != 0 && errno != EINPROGRESS) {
        int reason = errno;
        close(fd);
        return -reason;
    }
    return fd;
}
