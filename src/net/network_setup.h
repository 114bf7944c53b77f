/*
 * network_setup: what each of the two processes needs to reach anything: resolver, roots, proxy, put together
 * from the environment (SSL_CERT_FILE, AWS_CA_BUNDLE, HTTPS_PROXY, NO_PROXY).
 */
#ifndef FUMIDAI_NET_NETWORK_SETUP_H
#define FUMIDAI_NET_NETWORK_SETUP_H

#include "base/error.h"
#include "host/loop.h"
#include "net/network.h"
#include "net/resolver.h"
#include "net/trust.h"
#include "wire/proxy.h"

struct network_setup {
    struct network network;
    struct resolver resolver;
    struct trust trust;
    struct proxy proxy;
};

/* A proxy setting that is malformed is an error: going around a proxy that
 * somebody demanded would be worse. */
int network_setup_open(struct network_setup *setup, struct loop *loop, char *const *env, struct error *err);

#endif
