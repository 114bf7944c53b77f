#include "net/tcp.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KEEPALIVE_IDLE_S = 60, KEEPALIVE_INTERVAL_S = 20, KEEPALIVE_PROBES = 3 };

static void close_descriptor(struct tcp *tcp)
{
    int fd = tcp->watch.fd;
    if (fd >= 0) {
        loop_watch_remove(tcp->loop, &tcp->watch);
        close(fd);
    }
}

static void fail(struct tcp *tcp, int reason)
{
    tcp->failure = reason;
    tcp->state = TCP_STATE_FAILED;
    tcp->readable = false;
    tcp->writable = false;
    close_descriptor(tcp);
}

static void end_if_both_ended(struct tcp *tcp)
{
    if (!tcp->read_ended || !tcp->write_ended || tcp->state != TCP_STATE_OPEN)
        return;
    if (tcp->failure != 0)
        fail(tcp, tcp->failure); /* writing broke; the kernel says so only once, to whoever asks first */
    else
        tcp->state = TCP_STATE_ENDED;
}

static void ready(struct loop_watch *watch, uint32_t events)
{
    struct tcp *tcp = LOOP_OWNER(watch, struct tcp, watch);
    bool news = false;
    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        tcp->hung_up = true;
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 && !tcp->readable && !tcp->read_ended) {
        tcp->readable = true;
        news = true;
    }
    if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0 && !tcp->writable && !tcp->write_ended) {
        tcp->writable = true;
        news = true;
    }
    if (news)
        tcp->changed(tcp);
}

static void set_option(int fd, int level, int option, int value)
{
    /* None of these is worth a refused connection. */
    (void) setsockopt(fd, level, option, &value, sizeof value);
}

static void set_options(int fd)
{
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
}

int tcp_adopt(struct tcp *tcp, struct loop *loop, int fd, void (*changed)(struct tcp *tcp), struct error *err)
{
    *tcp = (struct tcp){.loop = loop, .changed = changed, .watch = LOOP_WATCH_INIT};
    set_options(fd);
    int result = loop_watch_add(loop, &tcp->watch, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, ready, err);
    if (result != 0) {
        close(fd);
        return result;
    }
    tcp->state = TCP_STATE_OPEN;
    tcp->writable = true;
    return 0;
}

static void dialled(struct dial *dial, void *owner)
{
    struct tcp *tcp = owner;
    struct ip peer;
    int fd = dial_take(dial, &peer, NULL);
    if (fd < 0) {
        tcp->state = TCP_STATE_FAILED; /* the dial is kept: it knows why */
    } else {
        uint16_t port = tcp->port;
        if (tcp_adopt(tcp, tcp->loop, fd, tcp->changed, NULL) != 0)
            fail(tcp, ENOMEM);
        tcp->peer = peer;
        tcp->port = port;
        dial_close(dial);
    }
    tcp->changed(tcp);
}

int tcp_dial(struct tcp *tcp, struct network *network, const struct dial_request *request,
             void (*changed)(struct tcp *tcp), struct error *err)
{
    *tcp = (struct tcp){.loop = network->loop, .changed = changed, .watch = LOOP_WATCH_INIT};
    tcp->port = request->port;
    int result = dial_start(&tcp->dial, network, request, dialled, tcp, err);
    if (result == 0)
        tcp->state = TCP_STATE_DIALLING;
    return result;
}

size_t tcp_read(struct tcp *tcp, void *out, size_t capacity)
{
    while (tcp->readable && capacity > 0) {
        ssize_t got = recv(tcp->watch.fd, out, capacity, 0);
        if (got > 0) {
            /* A short read has emptied the socket. After a hang-up the end is still to be read, and no
             * further event will say so. */
            tcp->readable = (size_t) got == capacity || tcp->hung_up;
            return (size_t) got;
        }
        if (got < 0 && errno == EINTR)
            continue;
        tcp->readable = false;
        if (got == 0) {
            tcp->read_ended = true;
            end_if_both_ended(tcp);
        } else if (errno != EAGAIN) {
            fail(tcp, errno);
        }
    }
    return 0;
}

size_t tcp_write(struct tcp *tcp, const void *data, size_t len)
{
    while (tcp->writable && len > 0) {
        ssize_t written = send(tcp->watch.fd, data, len, MSG_NOSIGNAL);
        if (written >= 0) {
            tcp->writable = (size_t) written == len;
            return (size_t) written;
        }
        if (errno == EINTR)
            continue;
        tcp->writable = false;
        if (errno != EAGAIN) {
            /* The peer takes nothing more, but what it said before may still be unread: often the reason. */
            tcp->failure = errno;
            tcp->write_ended = true;
            tcp->readable = !tcp->read_ended;
            tcp->hung_up = true;
            end_if_both_ended(tcp);
        }
    }
    return 0;
}

void tcp_end_write(struct tcp *tcp)
{
    if (tcp->state == TCP_STATE_OPEN && !tcp->write_ended) {
        shutdown(tcp->watch.fd, SHUT_WR);
        tcp->write_ended = true;
        tcp->writable = false;
        end_if_both_ended(tcp);
    }
}

bool tcp_is_delivering(const struct tcp *tcp, uint64_t *acknowledged)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    (void) getsockopt(tcp->watch.fd, IPPROTO_TCP, TCP_INFO, &info, &len); /* failed or old: nothing */
    *acknowledged = info.tcpi_bytes_acked;
    return info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0;
}

int tcp_error(const struct tcp *tcp, struct error *err)
{
    struct ip peer;
    if (tcp->state != TCP_STATE_FAILED)
        return 0;
    if (tcp->failure == 0)
        return dial_take(tcp->dial, &peer, err);
    return error_set(err, ERROR_UNAVAILABLE, "%s", strerror(tcp->failure));
}

void tcp_close(struct tcp *tcp)
{
    if (tcp->state == TCP_STATE_NONE)
        return;
    close_descriptor(tcp);
    dial_close(tcp->dial);
    *tcp = (struct tcp){.watch = LOOP_WATCH_INIT};
}

int tcp_detach(struct tcp *tcp)
{
    int fd = tcp->watch.fd;
    if (fd >= 0)
        loop_watch_remove(tcp->loop, &tcp->watch);
    tcp_close(tcp);
    return fd;
}

void tcp_reset(struct tcp *tcp)
{
    if (tcp->state == TCP_STATE_OPEN || tcp->state == TCP_STATE_ENDED) {
        struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void) setsockopt(tcp->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    tcp_close(tcp);
}
