#include "tunnel/local_forward.h"

#include <string.h>

static int fail(struct error *err, struct str text, const char *what, struct str part, const char *want)
{
    return error_set(err, ERROR_INVALID, "\"%.*s\": %s \"%.*s\" is not valid, want %s", STR_ARG(text), what,
                     STR_ARG(part), want);
}

static bool is_text(char c)
{
    return !str_is_control(c);
}

/* HOST:PORT at the end of `text`; what stands before goes to *rest (nothing: an empty view). */
static int take_target(struct local_forward *forward, struct str text, struct str *rest, struct error *err)
{
    struct str head;
    struct str port;
    struct str host;
    *rest = (struct str){NULL, 0};
    if (!str_all(text, is_text)) /* lines and variables are made of it */
        return error_set(err, ERROR_INVALID, "\"%.*s\": control characters are not accepted", STR_ARG(text));
    if (!str_cut_last(text, ':', &head, &port) || !str_parse_port(port, &forward->host_port))
        return fail(err, text, "the port", port, "1 to 65535 behind the host and a colon");
    if (str_ends_with(head, "]")) {
        size_t open = head.len;
        while (open > 0 && head.ptr[open - 1] != '[')
            open--;
        struct ip address;
        host = str_slice(head, open, head.len - 1);
        if (open == 0 || !ip_parse(host, &address))
            return fail(err, text, "the host", head, "an IPv6 address in brackets");
        struct str before = str_slice(head, 0, open - 1);
        if (before.len > 0 && before.ptr[before.len - 1] != ':')
            return fail(err, text, "the part before the host", before, "a colon behind it");
        if (before.len > 0)
            *rest = (struct str){before.ptr, before.len - 1};
    } else if (!str_cut_last(head, ':', rest, &host)) {
        host = head;
        *rest = (struct str){NULL, 0};
    } else if (rest->len == 0) {
        *rest = (struct str){text.ptr, 0}; /* there, and empty */
    }
    if (host.len == 0 || !str_copy(host, forward->host, sizeof forward->host))
        return fail(err, text, "the host", host, "a name or an address");
    return 0;
}

static int parse_bind(struct local_forward *forward, struct str text, struct str bind, struct error *err)
{
    static const uint8_t zeroes[4];
    struct str inner = bind;
    forward->is_loopback = bind.len == 0 || str_equal_text(bind, "localhost");
    forward->address = ip_v4(zeroes);
    if (forward->is_loopback || str_equal_text(bind, "*"))
        return 0;
    if (str_starts_with(bind, "[") && str_ends_with(bind, "]"))
        inner = str_slice(bind, 1, bind.len - 1);
    if (!ip_parse(inner, &forward->address))
        return fail(err, text, "the address to listen on", bind, "an IP address, localhost or *");
    return 0;
}

/* [BIND:]PORT; empty: any port. */
static int parse_listener(struct local_forward *forward, struct str text, struct str listener,
                          struct error *err)
{
    struct str bind;
    struct str port;
    if (!str_cut_last(listener, ':', &bind, &port)) {
        port = listener;
        bind = (struct str){NULL, 0};
    }
    forward->port = 0;
    if (port.len > 0 && !str_equal_text(port, "0") && !str_parse_port(port, &forward->port))
        return fail(err, text, "the local port", port, "0 to 65535");
    return parse_bind(forward, text, bind, err);
}

static bool is_path(struct str text)
{
    return text.len > 0 && memchr(text.ptr, '/', text.len) != NULL;
}

int local_forward_parse_port(struct local_forward *forward, struct str text, struct error *err)
{
    struct str listener;
    memset(forward, 0, sizeof *forward);
    int result = take_target(forward, text, &listener, err);
    if (result < 0)
        return result;
    if (listener.ptr == NULL)
        return error_set(err, ERROR_INVALID, "\"%.*s\": want [BIND:]PORT:HOST:PORT or PATH:HOST:PORT",
                         STR_ARG(text));
    if (!is_path(listener))
        return parse_listener(forward, text, listener, err);
    forward->kind = LOCAL_FORWARD_PATH;
    if (!str_copy(listener, forward->path, sizeof forward->path))
        return error_set(err, ERROR_INVALID, "\"%.*s\": the path of a Unix socket has at most %d bytes",
                         STR_ARG(text), LOCAL_FORWARD_PATH_SIZE - 1);
    return 0;
}

int local_forward_parse_socks(struct local_forward *forward, struct str text, struct error *err)
{
    memset(forward, 0, sizeof *forward);
    forward->kind = LOCAL_FORWARD_SOCKS;
    return parse_listener(forward, text, text, err);
}

int local_forward_parse_stdio(struct local_forward *forward, struct str text, struct error *err)
{
    struct str rest;
    memset(forward, 0, sizeof *forward);
    forward->kind = LOCAL_FORWARD_STDIO;
    int result = take_target(forward, text, &rest, err);
    if (result == 0 && rest.ptr != NULL)
        result = error_set(err, ERROR_INVALID, "\"%.*s\": want HOST:PORT", STR_ARG(text));
    return result;
}
