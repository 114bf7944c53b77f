/*
 * tcp: one TCP connection, read and written straight from and to the caller's memory: no buffer of its own.
 *
 *     DIALLING ─► OPEN ─► ENDED (both directions over)
 *         └─────────┴───► FAILED (tcp_error says why)
 *
 * The descriptor is watched edge-triggered and readiness is remembered, so switching between "want to read"
 * and "full" costs no system call. `changed` says that something became possible since a call last said no:
 * connected, bytes to read, room to write, the end, a failure. Who stops reading before tcp_read said 0 comes
 * back by itself. `changed` is only called from the loop and is the last thing done then: the owner may close
 * and release in it.
 *
 * When the peer takes nothing more (it closed, it reset), tcp_write gives 0 and write_ended is set; what it
 * sent before can still be read, and reading finds the end or the failure. Closing with bytes unread, or
 * while some are still coming, makes the kernel send RST, which may destroy what was written last: to deliver
 * surely, tcp_end_write and read to the end first.
 */
#ifndef FUMIDAI_NET_TCP_H
#define FUMIDAI_NET_TCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/ip.h"
#include "host/loop.h"
#include "net/dial.h"
#include "net/network.h"

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
    int failure; /* errno of a connection that broke after it was open, 0 otherwise */
};

/* Starts a dial. On failure of the dial itself `changed` finds TCP_STATE_FAILED, and tcp_error the reason. */
int tcp_dial(struct tcp *tcp, struct network *network, const struct dial_request *request,
             void (*changed)(struct tcp *tcp), struct error *err);
/* Takes over a connected, non-blocking socket (from accept4); open at once, closed on failure. */
int tcp_adopt(struct tcp *tcp, struct loop *loop, int fd, void (*changed)(struct tcp *tcp),
              struct error *err);

/* 0: nothing now (or ever, when read_ended or not open). */
size_t tcp_read(struct tcp *tcp, void *out, size_t capacity);
/* How much the kernel took; less than len: `changed` comes when there is room. */
size_t tcp_write(struct tcp *tcp, const void *data, size_t len);
/* Half-close: what was written arrives, then FIN. */
void tcp_end_write(struct tcp *tcp);
/* Whether something that was written, or the end, has yet to be acknowledged by the peer's kernel; how many
 * bytes it has. */
bool tcp_is_delivering(const struct tcp *tcp, uint64_t *acknowledged);

/* Why it failed; ERROR_NONE otherwise. */
int tcp_error(const struct tcp *tcp, struct error *err);

/* Gives the descriptor of an open connection away, for tcp_adopt elsewhere; -1 when there is none. */
int tcp_detach(struct tcp *tcp);
void tcp_close(struct tcp *tcp); /* at any time; twice does no harm */
void tcp_reset(struct tcp *tcp); /* closes with RST: the peer must not mistake this for a proper end */

#endif
