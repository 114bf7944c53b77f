/*
 * listener: a TCP port, or a Unix socket, that is open for connections.
 *
 *     listener_open ─► accepting ◄─ listener_accept: true, false ─► not accepting
 *                        │   ▲
 *                        │   └── LISTENER_PAUSE_MS later ─┐
 *                        └── no descriptors, no memory ─► paused
 *
 * The owner gets each connection as a descriptor that is non-blocking and close-on-exec, and the owner's from
 * then on (tcp_adopt takes it). The owner is called from the loop; it may close the listener then, but not
 * release its memory.
 *
 * While it does not accept, connections wait in the kernel's backlog; beyond that the kernel drops them and
 * their clients try again. When descriptors or memory have run out it pauses by itself: a port that is
 * readable and not served would wake the loop for ever.
 */
#ifndef FUMIDAI_NET_LISTENER_H
#define FUMIDAI_NET_LISTENER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/ip.h"
#include "host/loop.h"

enum {
    /* As many as a session has streams. What the kernel has no place for it drops without a word, and a
     * program that waits for the server to speak first then waits in vain. (net.core.somaxconn may be less.)
     */
    LISTENER_BACKLOG = 1024,
    /* A flood of connections must not keep the loop from everything else. */
    LISTENER_ACCEPTS_A_TURN = 16,
    /* Short enough for a user to wait, long enough for descriptors to come back. */
    LISTENER_PAUSE_MS = 250
};

struct listener {
    struct loop *loop;
    struct loop_watch watch; /* owns the descriptor */
    struct loop_timer pause;
    void (*connected)(struct listener *listener, int fd);
    bool accepting;
    bool is_taken; /* why it could not be opened: somebody else has the address */
    uint16_t port; /* the one the kernel chose, if 0 was asked for; 0 of a Unix socket */
};

/* The IPv6 address "::" takes IPv4 connections as well, unless the host is set up otherwise. ERROR_SYSTEM
 * names the address and the port: "can't listen on 127.0.0.1:5432: Address in use". */
int listener_open(struct listener *listener, struct loop *loop, struct ip address, uint16_t port,
                  void (*connected)(struct listener *listener, int fd), struct error *err);
/* A Unix socket, which only our user may connect to. One that nobody serves any more is replaced; the path is
 * the caller's to remove. */
int listener_open_path(struct listener *listener, struct loop *loop, const char *path,
                       void (*connected)(struct listener *listener, int fd), struct error *err);
void listener_accept(struct listener *listener, bool accepting); /* true after listener_open */
/* Connections that wait in the backlog are reset. Twice does no harm; nor does one that failed to open. */
void listener_close(struct listener *listener);

#endif
