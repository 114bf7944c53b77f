#include "net/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"
#include "net/socket.h"

static bool is_open(const struct listener *listener)
{
    return listener->watch.fd >= 0;
}

static void watch_for_connections(struct listener *listener)
{
    bool paused = listener->pause.queued;
    loop_watch_set(listener->loop, &listener->watch, listener->accepting && !paused ? EPOLLIN : 0);
}

static void pause_expired(struct loop_timer *timer)
{
    watch_for_connections(LOOP_OWNER(timer, struct listener, pause));
}

static bool has_run_out(int reason)
{
    return reason == EMFILE || reason == ENFILE || reason == ENOBUFS || reason == ENOMEM;
}

static void acceptable(struct loop_watch *watch, uint32_t events)
{
    (void) events;
    struct listener *listener = LOOP_OWNER(watch, struct listener, watch);
    for (int count = 0; count < LISTENER_ACCEPTS_A_TURN && is_open(listener) && listener->accepting;
         count++) {
        int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            listener->connected(listener, fd);
            continue;
        }
        if (has_run_out(errno)) {
            loop_timer_set(listener->loop, &listener->pause,
                           clock_after_ms(loop_now_ms(listener->loop), LISTENER_PAUSE_MS));
            watch_for_connections(listener);
        }
        return; /* none left, or one was reset while it waited (ECONNABORTED): the next turn looks again */
    }
}

/* The descriptor, or -1 with errno. */
static int open_socket(struct ip address, uint16_t port)
{
    struct socket_name name = socket_name_of(address, port);
    int one = 1;
    int fd = socket(name.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, &name.any, name.len) == 0 && listen(fd, LISTENER_BACKLOG) == 0)
        return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

static uint16_t port_of(int fd)
{
    struct socket_name name = {.len = sizeof name.v6};
    (void) getsockname(fd, &name.any, &name.len);
    return ntohs(name.any.sa_family == AF_INET ? name.v4.sin_port : name.v6.sin6_port);
}

int listener_open(struct listener *listener, struct loop *loop, struct ip address, uint16_t port,
                  void (*connected)(struct listener *listener, int fd), struct error *err)
{
    *listener =
        (struct listener){.loop = loop, .watch = LOOP_WATCH_INIT, .connected = connected, .accepting = true};
    loop_timer_init(&listener->pause, pause_expired);
    char text[IP_TEXT_SIZE + sizeof "[]:65535"];
    struct writer where = writer_of(text, sizeof text);
    writer_ip_port(&where, address, port);
    int fd = open_socket(address, port);
    if (fd < 0)
        return error_set(err, ERROR_SYSTEM, "can't listen on %s: %s", writer_terminate(&where),
                         strerror(errno));
    if (loop_watch_add(loop, &listener->watch, fd, EPOLLIN, acceptable, err) < 0) {
        close(fd);
        error_prefix(err, "can't listen on %s: ", writer_terminate(&where));
        return ERROR_SYSTEM;
    }
    listener->port = port_of(fd);
    return 0;
}

void listener_accept(struct listener *listener, bool accepting)
{
    listener->accepting = accepting;
    watch_for_connections(listener);
}

void listener_close(struct listener *listener)
{
    if (!is_open(listener))
        return;
    int fd = listener->watch.fd;
    loop_watch_remove(listener->loop, &listener->watch);
    loop_timer_remove(listener->loop, &listener->pause);
    close(fd);
}
