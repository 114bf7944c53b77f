/*
 * url: the parts of an absolute URL as far as this program meets them (RFC 3986; http, https, ws, wss), and
 * percent-encoding.
 *
 *     https://user:secret@host.example:8443/path/to?role=x
 *     scheme  userinfo    host         port path    query
 *                                          target..........
 *
 * Strict: only bytes that RFC 3986 allows in a URL, only complete %HH, no fragment (none of ours has one; it
 * would be an error to send it). A host is a name of letters, digits, '-', '.' and '_', an IPv4 address, or
 * an IPv6 address in brackets without zone. The resolver finds out whether it is an address, and the dial
 * policy whether it may be dialled.
 *
 * Error texts never quote the URL: it may hold a password or a token. Callers put the setting's name in
 * front.
 */
#ifndef FUMIDAI_WIRE_URL_H
#define FUMIDAI_WIRE_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    URL_MAX = 4096,     /* a StreamUrl has about 300 bytes; this is far beyond and keeps offsets small */
    URL_HOST_MAX = 253, /* the longest name DNS can hold */
    /* name and password of a proxy, percent-decoded, with the colon */
    URL_USERINFO_MAX = 512
};

enum url_scheme { URL_HTTP, URL_HTTPS, URL_WS, URL_WSS };

/* All views show parts of the text that was split. */
struct url {
    enum url_scheme scheme;
    bool tls;             /* https, wss */
    bool has_userinfo;    /* "http://@host" has one, an empty one */
    bool host_is_ipv6;    /* stood in brackets */
    bool port_is_default; /* none was named, or the scheme's own: then the Host header has none */
    uint16_t port;
    struct str userinfo; /* secret; still percent-encoded */
    struct str host;     /* without brackets, never empty, in the case it was written in */
    struct str path;     /* "" or "/..." */
    struct str query;    /* without '?' */
    struct str target;   /* path and query as they stand: "/a?b=c"; may be empty or begin with '?' */
};

/* ERROR_INVALID saying what is wrong and where; ERROR_UNSUPPORTED for another scheme; ERROR_TOO_LARGE beyond
 * URL_MAX or URL_HOST_MAX. */
int url_split(struct url *url, struct str text, struct error *err);

/* As HTTPS_PROXY is written, by people: the scheme may be missing and is http then, the only one allowed
 * (ERROR_UNSUPPORTED for all others, https and socks5 among them). The last '@' ends user and password, which
 * may hold any character, escaped or not. What follows host and port is ignored, as curl does. */
int url_split_proxy(struct url *url, struct str text, struct error *err);

/* host, IPv6 in brackets, and ":port" unless it is the scheme's default: the Host header's value. */
void url_write_authority(struct writer *w, const struct url *url);
/* "Basic <base64 of user:password>" (RFC 7617) of the userinfo. Fails the writer when the userinfo is longer
 * than URL_USERINFO_MAX or holds control characters. The caller wipes what was written after use. */
void url_write_basic_authorization(struct writer *w, const struct url *url);

/* A-Z a-z 0-9 - . _ ~: what never needs to be escaped (RFC 3986, 2.3). */
bool url_is_unreserved(char c);
/* Every byte but these and those in `also_plain` (may be null) becomes %XX, upper case. */
void writer_percent_encode(struct writer *w, struct str text, const char *also_plain);
/* %XX becomes its byte (any byte, NUL too); everything else stays, '+' as well, and a '%' without two
 * hexadecimal digits. */
void writer_percent_decode(struct writer *w, struct str text);

#endif
