/* network: what every connection of a process shares; set up once by main, outlives all of them. */
#ifndef FUMIDAI_NET_NETWORK_H
#define FUMIDAI_NET_NETWORK_H

struct loop;
struct resolver;
struct trust;
struct proxy;

struct network {
    struct loop *loop;
    struct resolver *resolver;
    const struct trust *trust; /* null: nothing can be opened over TLS */
    const struct proxy *proxy; /* null: none */
};

#endif
