#include "net/tcp.h"

#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/num.h"
#include "host/clock.h"

enum { CHECKS_A_SILENCE = 8 };

/* The descriptor, which nothing here watches any more; -1 when there is none. */
static int take_descriptor(struct tcp *tcp)
{
    int fd = tcp->watch.fd;
    if (fd >= 0) {
        loop_timer_remove(tcp->loop, &tcp->silence);
        loop_watch_remove(tcp->loop, &tcp->watch);
    }
    return fd;
}

static void close_descriptor(struct tcp *tcp)
{
    int fd = take_descriptor(tcp);
    if (fd >= 0)
        close(fd);
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
        fail(tcp, tcp->failure); /* writing failed; the kernel reports that only once */
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
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, TCP_KEEPALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, TCP_KEEPALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, TCP_KEEPALIVE_PROBES);
    set_option(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, TCP_UNSENT_MAX);
}

/* --- a peer that has vanished --------------------------------------------------------------------------- */

static struct tcp_info info_of(const struct tcp *tcp)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    (void) getsockopt(tcp->watch.fd, IPPROTO_TCP, TCP_INFO, &info, &len); /* failed or old: nothing */
    return info;
}

static void send_reset_on_close(struct tcp *tcp)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    (void) setsockopt(tcp->watch.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void watch_for_silence(struct tcp *tcp)
{
    if (tcp->silence.due_ms == CLOCK_NEVER)
        loop_timer_set(tcp->loop, &tcp->silence,
                       num_add_ms(loop_now_ms(tcp->loop), tcp->silence_ms / CHECKS_A_SILENCE));
}

static void check_silence(struct loop_timer *timer)
{
    struct tcp *tcp = LOOP_OWNER(timer, struct tcp, silence);
    struct tcp_info info = info_of(tcp);
    bool is_delivering = info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0;
    bool is_repeating = info.tcpi_retransmits >= TCP_SILENT_TRIES || info.tcpi_probes >= TCP_SILENT_TRIES;
    if (is_repeating && info.tcpi_last_ack_recv >= tcp->silence_ms) {
        send_reset_on_close(tcp); /* or the kernel would go on repeating what it still has */
        fail(tcp, ETIMEDOUT);
        tcp->changed(tcp);
    } else if (is_delivering) {
        watch_for_silence(tcp);
    }
}

/* --- opening -------------------------------------------------------------------------------------------- */

static int own(struct tcp *tcp, struct loop *loop, int fd, void (*changed)(struct tcp *tcp),
               struct error *err)
{
    *tcp = (struct tcp){
        .loop = loop, .changed = changed, .watch = LOOP_WATCH_INIT, .silence_ms = TCP_SILENCE_MS};
    loop_timer_init(&tcp->silence, check_silence);
    int result = loop_watch_add(loop, &tcp->watch, fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, ready, err);
    if (result != 0) {
        close(fd);
        return result;
    }
    tcp->state = TCP_STATE_OPEN;
    tcp->writable = true;
    return 0;
}

int tcp_adopt(struct tcp *tcp, struct loop *loop, int fd, void (*changed)(struct tcp *tcp), struct error *err)
{
    set_options(fd);
    return own(tcp, loop, fd, changed, err);
}

int tcp_move(struct tcp *to, struct tcp *from, void (*changed)(struct tcp *tcp), struct error *err)
{
    struct ip peer = from->peer;
    uint16_t port = from->port;
    struct loop *loop = from->loop;
    int fd = from->state != TCP_STATE_NONE ? take_descriptor(from) : -1;
    tcp_close(from);
    if (fd < 0)
        return error_set(err, ERROR_CLOSED, "the connection is closed");
    int result = own(to, loop, fd, changed, err);
    to->peer = peer;
    to->port = port;
    return result;
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

/* --- reading and writing -------------------------------------------------------------------------------- */

/* The pieces that one call takes, and how much they are. */
static struct msghdr message_of(const struct iovec *pieces, size_t count, size_t *len)
{
    uint16_t taken = (uint16_t) num_min_size(count, TCP_PIECES_MAX); /* an int to musl, a size_t to glibc */
    *len = 0;
    for (size_t i = 0; i < taken; i++)
        *len += pieces[i].iov_len;
    return (struct msghdr){.msg_iov = (struct iovec *) pieces, .msg_iovlen = taken};
}

static size_t receive(struct tcp *tcp, const struct iovec *pieces, size_t count, int flags)
{
    size_t capacity;
    struct msghdr message = message_of(pieces, count, &capacity);
    while (tcp->readable && capacity > 0) {
        ssize_t got = recvmsg(tcp->watch.fd, &message, flags);
        if (got > 0) {
            /* A short read has emptied the socket. After a hang-up the end is still to be read, and no
             * further event will say so. */
            tcp->readable = (size_t) got == capacity || tcp->hung_up || flags == MSG_PEEK;
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

size_t tcp_read_vector(struct tcp *tcp, const struct iovec *pieces, size_t count)
{
    return receive(tcp, pieces, count, 0);
}

size_t tcp_peek(struct tcp *tcp, void *out, size_t capacity)
{
    return receive(tcp, &(struct iovec){out, capacity}, 1, MSG_PEEK);
}

size_t tcp_read(struct tcp *tcp, void *out, size_t capacity)
{
    return tcp_read_vector(tcp, &(struct iovec){out, capacity}, 1);
}

/* The peer takes nothing more, but what it sent before may still be unread: often the reason. */
static void writing_broke(struct tcp *tcp, int reason)
{
    tcp->failure = reason;
    tcp->write_ended = true;
    tcp->readable = !tcp->read_ended;
    tcp->hung_up = true;
    end_if_both_ended(tcp);
}

size_t tcp_write_vector(struct tcp *tcp, const struct iovec *pieces, size_t count)
{
    size_t len;
    struct msghdr message = message_of(pieces, count, &len);
    while (tcp->writable && len > 0) {
        ssize_t written = sendmsg(tcp->watch.fd, &message, MSG_NOSIGNAL);
        if (written >= 0) {
            tcp->writable = (size_t) written == len;
            watch_for_silence(tcp);
            return (size_t) written;
        }
        if (errno == EINTR)
            continue;
        tcp->writable = false;
        if (errno != EAGAIN)
            writing_broke(tcp, errno);
    }
    return 0;
}

size_t tcp_write(struct tcp *tcp, const void *data, size_t len)
{
    return tcp_write_vector(tcp, &(struct iovec){(void *) data, len}, 1);
}

void tcp_end_write(struct tcp *tcp)
{
    if (tcp->state == TCP_STATE_OPEN && !tcp->write_ended) {
        shutdown(tcp->watch.fd, SHUT_WR);
        tcp->write_ended = true;
        tcp->writable = false;
        watch_for_silence(tcp);
        end_if_both_ended(tcp);
    }
}

bool tcp_is_delivering(const struct tcp *tcp, uint64_t *acknowledged)
{
    struct tcp_info info = info_of(tcp);
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
    const char *reason = tcp->failure == ETIMEDOUT ? "the peer's host has not answered for two minutes"
                                                   : strerror(tcp->failure);
    return error_set(err, ERROR_UNAVAILABLE, "%s", reason);
}

void tcp_close(struct tcp *tcp)
{
    if (tcp->state == TCP_STATE_NONE)
        return;
    close_descriptor(tcp);
    dial_close(tcp->dial);
    *tcp = (struct tcp){.watch = LOOP_WATCH_INIT};
}

void tcp_reset(struct tcp *tcp)
{
    if (tcp->state == TCP_STATE_OPEN || tcp->state == TCP_STATE_ENDED)
        send_reset_on_close(tcp);
    tcp_close(tcp);
}
