/*
 * network: what a process needs to reach anything: the loop, the resolver, the CA certificates and the proxy,
 * put together from the environment. One a process; it outlives every connection that is made with it.
 *
 *     SSL_CERT_FILE, AWS_CA_BUNDLE   PEM files with CA certificates, in addition to the built-in ones
 *     HTTPS_PROXY, NO_PROXY          in capitals or small letters, as curl and Go read them (wire/proxy.h)
 *
 * Open it before the process enters its sandbox: files are read here.
 */
#ifndef FUMIDAI_NET_NETWORK_H
#define FUMIDAI_NET_NETWORK_H

#include "base/error.h"
#include "host/loop.h"
#include "net/resolver.h"
#include "net/trust.h"
#include "wire/proxy.h"

struct network {
    struct loop *loop;
    struct resolver resolver;
    struct trust trust;     /* without CA certificates nothing can be opened over TLS */
    struct proxy proxy;     /* without a host: none */
    struct error proxy_err; /* why it can't be used: what would go through it fails with that */
    /* Streams whose TLS handshake has something to do: one step a turn, for all together (net/stream). */
    struct list handshakes;
    bool ipv6_only; /* when it was opened there was a way into the world by IPv6, and none by IPv4 */
    struct loop_hook handshake_hook;
};

int network_open(struct network *network, struct loop *loop, char *const *env, struct error *err);
void network_close(struct network *network);

#endif
