#include "net/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
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

static void init(struct listener *listener, struct loop *loop,
                 void (*connected)(struct listener *listener, int fd))
{
    *listener =
        (struct listener){.loop = loop, .watch = LOOP_WATCH_INIT, .connected = connected, .accepting = true};
    loop_timer_init(&listener->pause, pause_expired);
}

/* Takes the socket, or says why there is none (errno). */
static int take_socket(struct listener *listener, int fd, const char *where, struct error *err)
{
    listener->is_taken = fd < 0 && errno == EADDRINUSE;
    if (fd < 0)
        return error_set(err, ERROR_SYSTEM, "can't listen on %s: %s", where, strerror(errno));
    if (loop_watch_add(listener->loop, &listener->watch, fd, EPOLLIN, acceptable, err) < 0) {
        close(fd);
        error_prefix(err, "can't listen on %s: ", where);
        return ERROR_SYSTEM;
    }
    return 0;
}

int listener_open(struct listener *listener, struct loop *loop, struct ip address, uint16_t port,
                  void (*connected)(struct listener *listener, int fd), struct error *err)
{
    char text[IP_TEXT_SIZE + sizeof "[]:65535"];
    struct writer where = writer_of(text, sizeof text);
    writer_ip_port(&where, address, port);
    init(listener, loop, connected);
    int result = take_socket(listener, open_socket(address, port), writer_terminate(&where), err);
    if (result == 0)
        listener->port = port_of(listener->watch.fd);
    return result;
}

/* Whether a socket of that path is still there, and nobody listens on it. */
static bool is_stale(const struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool stale =
        fd >= 0 && connect(fd, (const struct sockaddr *) name, sizeof *name) != 0 && errno == ECONNREFUSED;
    close(fd);
    return stale;
}

static int bind_path(const struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0177);
    int result = fd < 0 ? -1 : bind(fd, (const struct sockaddr *) name, sizeof *name);
    int reason = errno;
    (void) umask(mask);
    if (result == 0 && listen(fd, LISTENER_BACKLOG) == 0)
        return fd;
    close(fd);
    errno = reason;
    return -1;
}

int listener_open_path(struct listener *listener, struct loop *loop, const char *path,
                       void (*connected)(struct listener *listener, int fd), struct error *err)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    init(listener, loop, connected);
    if (!str_copy(str_from(path), name.sun_path, sizeof name.sun_path))
        return error_set(err, ERROR_TOO_LARGE, "can't listen on %s: the path is too long", path);
    int fd = bind_path(&name);
    if (fd < 0 && errno == EADDRINUSE && is_stale(&name) && unlink(path) == 0)
        fd = bind_path(&name);
    return take_socket(listener, fd, path, err);
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
