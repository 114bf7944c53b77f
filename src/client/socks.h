/*
 * client_socks: connections to the SOCKS ports (-D), from the first byte until the target has answered. Then
 * a tunnel's stream has them.
 *
 *                  the request is complete       `connect` said true            client_socks_opened
 *     READING ───────────────────────────► WAITING ─────────────► ASKING ───────────────────────────► gone
 *        │                                    │  ◄───────────────── │
 *        │                                    │     client_socks_ask_again
 *        └── not served, or too slow ─────────┴── client_socks_refused: the answer arrives, then closed
 *
 * What is read is only the request (wire/socks5): what a client sends behind it without waiting for the
 * answer stays in its socket, and the stream finds it there.
 *
 * A client that ends its connection before it has an answer has left: whoever asks is told. One that has sent
 * something before its end has only half-closed.
 *
 * The reason of a refusal is our agent's sentence; the reply's code is taken from that.
 */
#ifndef FUMIDAI_CLIENT_SOCKS_H
#define FUMIDAI_CLIENT_SOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/list.h"
#include "host/loop.h"
#include "net/tcp.h"
#include "run/linger.h"
#include "run/tcp_endpoints.h"
#include "wire/socks5.h"

enum {
    CLIENT_SOCKS_MAX = 256,             /* of all ports; more wait in the kernel */
    CLIENT_SOCKS_REQUEST_MS = 30 * 1000 /* programs send the whole request at once */
};

struct client_socks_set;

struct client_socks {
    /* to be read */
    size_t forward;
    struct socks5 request; /* host and port */

    /* Set by `connect` when it says true. */
    void (*left)(struct client_socks *c); /* the client has left: nobody waits for the answer */
    void *asker;
    uint16_t stream;

    /* private */
    struct client_socks_set *set;
    struct list link;
    struct tcp tcp;
    struct loop_timer timer;
};

struct client_socks_set {
    /* The owner's, set before the first call. */
    bool (*connect)(struct client_socks_set *set, struct client_socks *c); /* false: not now, it waits */
    void (*waits)(struct client_socks_set *set, size_t forward);           /* one more waits */
    void (*changed)(struct client_socks_set *set);                         /* one is gone */

    /* private */
    struct loop *loop;
    struct list all;
    unsigned count;
    struct linger_set linger;
};

void client_socks_open(struct client_socks_set *set, struct loop *loop);
void client_socks_close(struct client_socks_set *set); /* resets all */

bool client_socks_is_full(const struct client_socks_set *set);
bool client_socks_is_waiting(const struct client_socks_set *set); /* somebody waits for an answer */
/* Takes the descriptor. Not when it is full. */
void client_socks_accept(struct client_socks_set *set, size_t forward, int fd);
/* Offers what waits to `connect`, in order. */
void client_socks_serve(struct client_socks_set *set);
void client_socks_want(struct client_socks_set *set); /* `waits`, for each that does */
/* Refuses what waits. */
void client_socks_refuse_waiting(struct client_socks_set *set, const char *why);

/* What becomes of one that is asked for. In the first two it is gone afterwards. */
/* Negative, and nothing was taken, when the client has left meanwhile. */
int client_socks_opened(struct client_socks *c, struct tcp_endpoints *to, uint16_t stream, struct error *err);
void client_socks_refused(struct client_socks *c, const char *why);
void client_socks_ask_again(struct client_socks *c); /* that session is over; the next may do */

#endif
