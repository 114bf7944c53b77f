/*
 * proxy: HTTPS_PROXY and NO_PROXY as the programs around us read them (Go's net/http, curl), and the CONNECT
 * request (RFC 9110 section 9.3.6). Pure: the stream sends it.
 *
 * HTTPS_PROXY: "http://[user:password@]host[:port]" or "host[:port]"; port 80 where none is given. User and
 * password need no escapes: the last '@' ends them. A proxy over TLS (https://) or SOCKS is refused.
 *
 * NO_PROXY: comma-separated; "*" (everything), "name" (it and what is below it), ".name" or "*.name" (only
 * what is below it), an address, a network in CIDR form, each of them optionally with ":port". Loopback
 * addresses and "localhost" never go through a proxy.
 */
#ifndef FUMIDAI_WIRE_PROXY_H
#define FUMIDAI_WIRE_PROXY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    PROXY_HOST_SIZE = 254,          /* the longest name DNS can hold, and the terminator */
    PROXY_AUTHORIZATION_SIZE = 512, /* "Basic " and 370 bytes of user name and password in base64 */
    PROXY_EXCEPTIONS_SIZE = 2048    /* NO_PROXY: a hundred names; a longer one is refused, not cut */
};

struct proxy {
    char host[PROXY_HOST_SIZE]; /* empty: no proxy; "?": it can't be used */
    uint16_t port;
    char authorization[PROXY_AUTHORIZATION_SIZE]; /* "Basic …", or empty; a secret */
    char exceptions[PROXY_EXCEPTIONS_SIZE];       /* NO_PROXY as it was given */
};

/* Either may be empty. ERROR_INVALID or ERROR_UNSUPPORTED naming the variable (never its password);
 * proxy_applies() can be asked all the same. */
int proxy_parse(struct proxy *proxy, struct str https_proxy, struct str no_proxy, struct error *err);
bool proxy_applies(const struct proxy *proxy, struct str host, uint16_t port);
/* The whole CONNECT request for host:port. ERROR_TOO_LARGE when the writer has no room. */
int proxy_write_connect(const struct proxy *proxy, struct str host, uint16_t port, struct writer *w,
                        struct error *err);

#endif
