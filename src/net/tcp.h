/*
 * tcp: one TCP connection, read and written straight from and to the caller's memory: no buffer of its own.
 *
 *     DIALLING ─► OPEN ─► ENDED (both directions over)
 *         └─────────┴───► FAILED (tcp_error says why)
 *
 * The descriptor is watched edge-triggered and readiness is remembered, so switching between "want to read"
 * and "full" costs no system call. `changed` tells that something became possible since a call last gave
 * nothing: connected, bytes to read, room to write, the end, a failure. An owner that stops reading before
 * tcp_read gave 0 comes back by itself. `changed` is only called from the loop and is the last thing done
 * then: the owner may close and release in it.
 *
 * When the peer takes nothing more (it closed, it reset), tcp_write gives 0 and write_ended is set; what it
 * sent before can still be read, and reading finds the end or the failure. Closing with bytes unread, or
 * while some are still coming, makes the kernel send RST, which may destroy what was written last: to deliver
 * surely, tcp_end_write and read to the end first.
 *
 * A peer's host that vanishes is noticed after about two minutes, whatever the connection is doing:
 *
 *   - quiet: the kernel's keep-alive ends it;
 *   - something is on its way: keep-alive rests then, and the kernel alone would go on for 15 minutes. So, as
 *     long as something that was written is not acknowledged, a timer checks whether the kernel has repeated
 *     itself TCP_SILENT_TRIES times and had no acknowledgement of anything for TCP_SILENCE_MS;
 *   - the peer reads nothing and has closed its window: the same. A live peer acknowledges the kernel's
 *     probes, and may go on like that for days. (TCP_USER_TIMEOUT would end that connection, too: it counts
 *     from the first probe, answered or not.) After a long time the probes are two minutes apart, and it
 *     takes six.
 *
 * What is written and not yet sent is bounded by TCP_UNSENT_MAX. The kernel's own bound is 4 MB a connection
 * (tcp_wmem): 50 targets that read nothing held 211 MB of kernel memory, now 7 MB. What is sent and not yet
 * acknowledged is not bounded by it, so that one connection still fills a path with a round trip of 10 ms
 * with more than 100 MB/s. (SO_SNDBUF bounds both, and net.core.wmem_max, usually 208 KiB, bounds SO_SNDBUF:
 * 35 MB/s on that path.)
 */
#ifndef FUMIDAI_NET_TCP_H
#define FUMIDAI_NET_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "base/ip.h"
#include "host/loop.h"
#include "net/dial.h"
#include "net/network.h"

enum {
    /* Quiet for a minute, then three probes: two minutes. NAT gateways forget a quiet flow after 350 s. */
    TCP_KEEPALIVE_IDLE_S = 60,
    TCP_KEEPALIVE_INTERVAL_S = 20, /* between these probes */
    TCP_KEEPALIVE_PROBES = 3,      /* without an answer, and the connection is lost */
    /* Two minutes as well; the kernel's probes are at most so far apart (TCP_RTO_MAX). */
    TCP_SILENCE_MS = 120 * 1000,
    /* The kernel says that there is room when half of it is sent; the rest lasts until more is written. */
    TCP_UNSENT_MAX = 128 * 1024,
    /* One that goes unanswered may be lost, and the peer's kernel answers no two within half a second. */
    TCP_SILENT_TRIES = 3,
    /* Of one vectored call; what is more has to be asked for again. */
    TCP_PIECES_MAX = 64
};

enum tcp_state { TCP_STATE_NONE, TCP_STATE_DIALLING, TCP_STATE_OPEN, TCP_STATE_ENDED, TCP_STATE_FAILED };

struct tcp {
    enum tcp_state state;
    struct loop *loop;
    struct loop_watch watch; /* owns the descriptor */
    struct dial *dial;       /* while dialling */
    void (*changed)(struct tcp *tcp);
    bool readable;
    bool writable;
    bool hung_up;     /* an end or error is waiting behind what can be read */
    bool read_ended;  /* the peer's FIN was read: tcp_read gives 0 for ever */
    bool write_ended; /* we sent ours */
    struct ip peer;
    uint16_t port;
    int failure;               /* errno of a connection that broke after it was open, 0 otherwise */
    struct loop_timer silence; /* while something may be unacknowledged */
    int64_t silence_ms;        /* TCP_SILENCE_MS; tests have less time */
};

/* Starts a dial. On failure of the dial itself `changed` finds TCP_STATE_FAILED, and tcp_error the reason. */
int tcp_dial(struct tcp *tcp, struct network *network, const struct dial_request *request,
             void (*changed)(struct tcp *tcp), struct error *err);
/* Takes over a connected, non-blocking socket (from accept4); open at once, closed on failure. */
int tcp_adopt(struct tcp *tcp, struct loop *loop, int fd, void (*changed)(struct tcp *tcp),
              struct error *err);

/* 0: nothing now (or ever, when read_ended or not open). */
size_t tcp_read(struct tcp *tcp, void *out, size_t capacity);
/* The same bytes come again: for who must not take more than its own, because the connection will be given
 * away. */
size_t tcp_peek(struct tcp *tcp, void *out, size_t capacity);
/* How much the kernel took; less than len: `changed` comes when there is room. */
size_t tcp_write(struct tcp *tcp, const void *data, size_t len);
/* The same from and to several pieces of memory, in one system call, and as few segments as they fill. */
size_t tcp_read_vector(struct tcp *tcp, const struct iovec *pieces, size_t count);
size_t tcp_write_vector(struct tcp *tcp, const struct iovec *pieces, size_t count);
/* Half-close: what was written arrives, then FIN. */
void tcp_end_write(struct tcp *tcp);
/* Whether something that was written, or the end, has yet to be acknowledged by the peer's kernel; how many
 * bytes it has. */
bool tcp_is_delivering(const struct tcp *tcp, uint64_t *acknowledged);

/* Why it failed; ERROR_NONE otherwise. */
int tcp_error(const struct tcp *tcp, struct error *err);

/* Gives an open connection to another owner; `from` is closed. On failure both are. */
int tcp_move(struct tcp *to, struct tcp *from, void (*changed)(struct tcp *tcp), struct error *err);
void tcp_close(struct tcp *tcp); /* at any time; twice does no harm */
void tcp_reset(struct tcp *tcp); /* closes with RST: the peer must not mistake this for a proper end */

#endif
