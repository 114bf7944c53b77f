#include "run/stdio_pump.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/num.h"

static void wake(struct stdio_pump *pump)
{
    loop_hook_queue(pump->loop, &pump->hook);
}

static void finish(struct stdio_pump *pump)
{
    if (pump->is_over)
        return;
    pump->is_over = true;
    stdio_pump_close(pump);
    pump->over(pump);
}

static bool may_pass(void)
{
    return errno == EAGAIN || errno == EINTR;
}

/* True when something moved. */
static bool read_input(struct stdio_pump *pump)
{
    if (!pump->input_ready || pump->input_ended || pump->to_pair_len > 0)
        return false;
    ssize_t n = read(STDIN_FILENO, pump->to_pair, sizeof pump->to_pair);
    pump->input_ready = pump->input_is_file;
    if (n < 0 && may_pass())
        return false;
    if (n > 0)
        pump->to_pair_len = (size_t) n;
    pump->input_ended = n <= 0;
    if (pump->input_ended)
        (void) shutdown(pump->fd, SHUT_WR);
    return true;
}

static bool write_pair(struct stdio_pump *pump)
{
    size_t left = pump->to_pair_len - pump->to_pair_sent;
    if (left == 0 || !pump->pair_writable)
        return false;
    ssize_t n = send(pump->fd, pump->to_pair + pump->to_pair_sent, left, MSG_NOSIGNAL | MSG_DONTWAIT);
    pump->pair_writable = n > 0;
    if (n < 0 && may_pass())
        return false;
    if (n < 0) { /* the other end takes nothing more; what it has said still comes */
        pump->input_ended = true;
        pump->to_pair_len = pump->to_pair_sent = 0;
        return true;
    }
    pump->to_pair_sent += (size_t) n;
    if (pump->to_pair_sent == pump->to_pair_len)
        pump->to_pair_len = pump->to_pair_sent = 0;
    return true;
}

static bool read_pair(struct stdio_pump *pump)
{
    if (!pump->pair_readable || pump->pair_ended || pump->to_output_len > 0)
        return false;
    ssize_t n = recv(pump->fd, pump->to_output, sizeof pump->to_output, MSG_DONTWAIT);
    pump->pair_readable = n > 0;
    if (n < 0 && may_pass())
        return false;
    if (n > 0)
        pump->to_output_len = (size_t) n;
    pump->pair_ended = n <= 0;
    return true;
}

static bool write_output(struct stdio_pump *pump)
{
    size_t left = num_min_size(pump->to_output_len - pump->to_output_sent, STDIO_PUMP_WRITE_MAX);
    if (left == 0 || !pump->output_ready)
        return false;
    ssize_t n =
        send(STDOUT_FILENO, pump->to_output + pump->to_output_sent, left, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == ENOTSOCK)
        n = write(STDOUT_FILENO, pump->to_output + pump->to_output_sent, left);
    pump->output_ready = pump->output_is_file;
    if (n < 0 && may_pass())
        return false;
    if (n < 0) {
        pump->pair_ended = true; /* nobody reads it any more */
        pump->to_output_len = pump->to_output_sent = 0;
        return false;
    }
    pump->to_output_sent += (size_t) n;
    if (pump->to_output_sent == pump->to_output_len)
        pump->to_output_len = pump->to_output_sent = 0;
    return true;
}

static void input_news(struct loop_watch *watch, uint32_t events)
{
    struct stdio_pump *pump = LOOP_OWNER(watch, struct stdio_pump, input);
    (void) events;
    pump->input_ready = true;
    wake(pump);
}

static void output_news(struct loop_watch *watch, uint32_t events)
{
    struct stdio_pump *pump = LOOP_OWNER(watch, struct stdio_pump, output);
    (void) events;
    pump->output_ready = true;
    wake(pump);
}

static void pair_news(struct loop_watch *watch, uint32_t events)
{
    struct stdio_pump *pump = LOOP_OWNER(watch, struct stdio_pump, pair);
    pump->pair_readable = pump->pair_readable || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0;
    pump->pair_writable = pump->pair_writable || (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0;
    wake(pump);
}

/* Level-triggered: watched only while there is something to do with the news. (A watch for nothing would
 * still hear of a hang-up, over and over.) */
static void set_watch(struct stdio_pump *pump, struct loop_watch *watch, int fd, uint32_t events,
                      void (*ready)(struct loop_watch *watch, uint32_t events))
{
    if (events == 0)
        loop_watch_remove(pump->loop, watch);
    else if (watch->fd < 0)
        (void) loop_watch_add(pump->loop, watch, fd, events, ready, NULL);
    else
        loop_watch_set(pump->loop, watch, events);
}

static void watch_what_is_wanted(struct stdio_pump *pump)
{
    bool wants_input = !pump->input_ended && pump->to_pair_len == 0 && !pump->input_ready;
    bool wants_output = pump->to_output_len > 0 && !pump->output_ready;
    uint32_t pair = 0;
    if (!pump->pair_ended && pump->to_output_len == 0 && !pump->pair_readable)
        pair |= EPOLLIN;
    if (pump->to_pair_len > 0 && !pump->pair_writable)
        pair |= EPOLLOUT;
    if (!pump->input_is_file)
        set_watch(pump, &pump->input, STDIN_FILENO, wants_input ? EPOLLIN : 0, input_news);
    if (!pump->output_is_file)
        set_watch(pump, &pump->output, STDOUT_FILENO, wants_output ? EPOLLOUT : 0, output_news);
    set_watch(pump, &pump->pair, pump->fd, pair, pair_news);
}

static void pump_bytes(struct loop_hook *hook)
{
    struct stdio_pump *pump = LOOP_OWNER(hook, struct stdio_pump, hook);
    bool moved = read_input(pump);
    moved = write_pair(pump) || moved;
    moved = read_pair(pump) || moved;
    moved = write_output(pump) || moved;
    if (pump->pair_ended && pump->to_output_len == 0) {
        finish(pump);
        return;
    }
    watch_what_is_wanted(pump);
    if (moved)
        loop_hook_defer(pump->loop, hook); /* others have their turn between two buffers */
}

int stdio_pump_open(struct stdio_pump *pump, struct loop *loop, void (*over)(struct stdio_pump *pump),
                    int *fd, struct error *err)
{
    int ends[2];
    memset(pump, 0, sizeof *pump);
    pump->loop = loop;
    pump->over = over;
    pump->input = pump->output = pump->pair = LOOP_WATCH_INIT;
    pump->pair_writable = true;
    loop_hook_init(&pump->hook, LOOP_FLUSH, pump_bytes);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return error_set(err, ERROR_SYSTEM, "socketpair: %s", strerror(errno));
    /* epoll refuses regular files, and they need no watching. */
    pump->input_is_file = loop_watch_add(loop, &pump->input, STDIN_FILENO, 0, input_news, NULL) < 0;
    pump->output_is_file = loop_watch_add(loop, &pump->output, STDOUT_FILENO, 0, output_news, NULL) < 0;
    pump->input_ready = pump->input_is_file;
    pump->output_ready = pump->output_is_file;
    pump->fd = ends[0];
    *fd = ends[1];
    wake(pump);
    return 0;
}

void stdio_pump_close(struct stdio_pump *pump)
{
    if (pump->loop == NULL || pump->fd < 0)
        return;
    loop_watch_remove(pump->loop, &pump->input);
    loop_watch_remove(pump->loop, &pump->output);
    loop_watch_remove(pump->loop, &pump->pair);
    loop_hook_remove(pump->loop, &pump->hook);
    close(pump->fd);
    pump->fd = -1;
}
