/*
 * peer: the other end of a connection, for tests of what talks to the network: a thread that listens on
 * loopback, accepts one connection after the other and hands each to a blocking function. TLS on top of it is
 * BearSSL's server.
 */
#ifndef FUMIDAI_TESTS_PEER_H
#define FUMIDAI_TESTS_PEER_H

#include <bearssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct peer {
    int listen_fd;
    uint16_t port;
    void (*serve)(int fd, void *context); /* runs in the peer's thread; the descriptor is closed afterwards */
    void *context;
    pthread_t thread;
    atomic_int accepted;
};

/* `address` as in "127.0.0.1" or "::1"; port 0 takes any. Ends the program when it can't listen. */
void peer_open(struct peer *peer, const char *address, uint16_t port, void (*serve)(int fd, void *context),
               void *context);
void peer_close(struct peer *peer); /* waits for the connection that is being served */

/* Until so many connections were accepted, 5 s at most; how many there were. */
int peer_wait_accepted(struct peer *peer, int count);

/* A port on which nobody listens. */
uint16_t peer_unused_port(void);

bool peer_write(int fd, const void *data, size_t len);
/* Until len bytes or the end; how many there were. */
size_t peer_read(int fd, void *data, size_t len);
/* Until the blank line that ends an HTTP head, terminated; false when the peer ends before. */
bool peer_read_head(int fd, char *out, size_t capacity);

struct tls_peer {
    const char *certificate; /* PEM, as in test_certificates.h */
    const char *key;
    bool old_versions_only; /* TLS 1.0 and 1.1 */
    bool cut_off;           /* closes without close_notify */
    void (*serve)(br_sslio_context *io, void *context);
    void *context;
};

/* For peer_open, with a struct tls_peer as context. */
void tls_peer_serve(int fd, void *tls_peer);

#endif
