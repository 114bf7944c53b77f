#include "wire/url.h"

#include <string.h>

static const struct {
    const char *name;
    bool tls;
    uint16_t port;
} schemes[] = {
    [URL_HTTP] = {"http", false, 80},
    [URL_HTTPS] = {"https", true, 443},
    [URL_WS] = {"ws", false, 80},
    [URL_WSS] = {"wss", true, 443},
};

static bool is_one_of(char c, const char *set)
{
    return c != '\0' && strchr(set, c) != NULL;
}

bool url_is_unreserved(char c)
{
    return str_is_alnum(c) || is_one_of(c, "-._~");
}

static bool take_escaped_byte(struct str rest, uint8_t *byte)
{
    uint64_t value;
    if (rest.len < 3 || rest.ptr[0] != '%' || !str_parse_hex_u64(str_slice(rest, 1, 3), &value))
        return false;
    *byte = (uint8_t) value;
    return true;
}

/* ---- splitting -------------------------------------------------------------------------------------- */

/* Every byte is one of RFC 3986's, and every '%' begins an escape. Which of them is allowed where is checked
 * part by part. */
static int check_bytes(struct str text, struct error *err)
{
    uint8_t byte;
    if (text.len > URL_MAX)
        return error_set(err, ERROR_TOO_LARGE, "the URL is longer than %d bytes", URL_MAX);
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '#')
            return error_set(err, ERROR_INVALID, "the URL has a fragment ('#' at byte %zu)", i + 1);
        if (c == '%' && !take_escaped_byte(str_slice(text, i, text.len), &byte)) {
            return error_set(err, ERROR_INVALID,
                             "byte %zu of the URL is a '%%' without two hexadecimal digits", i + 1);
        }
        if (c != '%' && !url_is_unreserved(c) && !is_one_of(c, ":/?[]@!$&'()*+,;="))
            return error_set(err, ERROR_INVALID, "byte %zu is not allowed in a URL", i + 1);
    }
    return 0;
}

/* A host name, an IPv4 address, or what stood in brackets. */
static int check_host(const struct url *url, struct error *err)
{
    size_t colons = 0;
    if (url->host.len == 0)
        return error_set(err, ERROR_INVALID, "the URL has no host");
    if (url->host.len > URL_HOST_MAX)
        return error_set(err, ERROR_TOO_LARGE, "the URL's host is longer than %d bytes", URL_HOST_MAX);
    for (size_t i = 0; i < url->host.len; i++) {
        char c = url->host.ptr[i];
        bool allowed = url->host_is_ipv6 ? is_one_of(c, "0123456789abcdefABCDEF:.")
                                         : str_is_alnum(c) || is_one_of(c, "-._");
        if (!allowed)
            return error_set(err, ERROR_INVALID, "the URL's host contains a '%c'", c);
        colons += c == ':';
    }
    if (url->host_is_ipv6 && colons < 2)
        return error_set(err, ERROR_INVALID, "the brackets in the URL do not hold an IPv6 address");
    return 0;
}

static int split_port(struct url *url, struct str port, struct error *err)
{
    uint16_t standard = schemes[url->scheme].port;
    url->port = standard;
    /* "host:" means the same as "host" (RFC 3986, 3.2.3). */
    if (port.len > 0 && !str_parse_port(port, &url->port))
        return error_set(err, ERROR_INVALID, "the URL's port is not a number from 1 to 65535");
    url->port_is_default = url->port == standard;
    return 0;
}

static int split_host_port(struct url *url, struct str text, struct error *err)
{
    struct str port;
    url->host_is_ipv6 = str_starts_with(text, "[");
    if (url->host_is_ipv6) {
        struct str behind;
        if (!str_cut(str_slice(text, 1, text.len), ']', &url->host, &behind))
            return error_set(err, ERROR_INVALID, "a bracket is not closed in the URL's host");
        if (behind.len > 0 && behind.ptr[0] != ':')
            return error_set(err, ERROR_INVALID, "the URL has something after the bracket of its host");
        port = str_slice(behind, 1, behind.len);
    } else {
        (void) str_cut(text, ':', &url->host, &port);
    }
    int result = check_host(url, err);
    return result != 0 ? result : split_port(url, port, err);
}

static int split_authority(struct url *url, struct str authority, struct error *err)
{
    struct str host_port = authority;
    struct str head;
    struct str tail;
    if (str_cut(authority, '@', &head, &tail)) {
        /* Programs differ in which of two '@' counts, so that one could be shown a host and another dialled.
         */
        if (memchr(tail.ptr, '@', tail.len) != NULL)
            return error_set(err, ERROR_INVALID, "the URL has two '@' before its path");
        url->has_userinfo = true;
        url->userinfo = head;
        host_port = tail;
    }
    return split_host_port(url, host_port, err);
}

static int split_after_scheme(struct url *url, struct str rest, struct error *err)
{
    size_t end = 0;
    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
        end++;
    url->tls = schemes[url->scheme].tls;
    url->target = str_slice(rest, end, rest.len);
    (void) str_cut(url->target, '?', &url->path, &url->query);
    for (size_t i = 0; i < url->target.len; i++)
        if (is_one_of(url->target.ptr[i], "[]"))
            return error_set(err, ERROR_INVALID, "the URL has a bracket outside its host");
    return split_authority(url, str_slice(rest, 0, end), err);
}

int url_split(struct url *url, struct str text, struct error *err)
{
    *url = (struct url){.scheme = URL_HTTP};
    int result = check_bytes(text, err);
    if (result != 0)
        return result;
    size_t at;
    if (!str_find(text, "://", &at))
        return error_set(err, ERROR_INVALID, "the URL does not begin with a scheme and \"://\"");
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (str_equal_nocase(str_slice(text, 0, at), schemes[i].name)) {
            url->scheme = (enum url_scheme) i;
            return split_after_scheme(url, str_slice(text, at + 3, text.len), err);
        }
    }
    return error_set(err, ERROR_UNSUPPORTED, "the URL's scheme must be http, https, ws or wss");
}

int url_split_proxy(struct url *url, struct str text, struct error *err)
{
    struct str scheme = STR_LITERAL("http"), rest = text, host_port = text;
    size_t at, end = 0;
    *url = (struct url){.scheme = URL_HTTP};
    if (str_find(text, "://", &at)) {
        scheme = str_slice(text, 0, at);
        rest = host_port = str_slice(text, at + 3, text.len);
    }
    if (!str_equal_nocase(scheme, "http"))
        return error_set(err, ERROR_UNSUPPORTED,
                         "only a proxy with http:// is supported, not one over TLS (https://) or SOCKS");
    if (memrchr(rest.ptr, '@', rest.len) != NULL)
        url->has_userinfo = str_cut_last(rest, '@', &url->userinfo, &host_port);
    while (end < host_port.len && !is_one_of(host_port.ptr[end], "/?#"))
        end++;
    return split_host_port(url, str_slice(host_port, 0, end), err);
}

/* ---- writing ---------------------------------------------------------------------------------------- */

void url_write_authority(struct writer *w, const struct url *url)
{
    if (url->host_is_ipv6)
        writer_char(w, '[');
    writer_str(w, url->host);
    if (url->host_is_ipv6)
        writer_char(w, ']');
    if (!url->port_is_default) {
        writer_char(w, ':');
        writer_u64_decimal(w, url->port);
    }
}

/* "user:password" decoded. A colon inside the name would move the border between the two (RFC 7617, 2). */
static bool decode_userinfo(struct writer *w, struct str userinfo)
{
    struct str user;
    struct str password;
    (void) str_cut(userinfo, ':', &user, &password);
    writer_percent_decode(w, user);
    struct str decoded = writer_view(w);
    if (decoded.len > 0 && memchr(decoded.ptr, ':', decoded.len) != NULL)
        return false;
    writer_char(w, ':');
    writer_percent_decode(w, password);
    for (size_t i = 0; i < w->len; i++)
        if (str_is_control((char) w->start[i]))
            return false;
    return !w->failed;
}

void url_write_basic_authorization(struct writer *w, const struct url *url)
{
    uint8_t plain[URL_USERINFO_MAX];
    struct writer decoded = writer_of(plain, sizeof plain);
    if (decode_userinfo(&decoded, url->userinfo)) {
        writer_text(w, "Basic ");
        writer_base64(w, plain, decoded.len);
    } else {
        w->failed = true;
    }
    bytes_wipe(plain, sizeof plain);
}

void writer_percent_encode(struct writer *w, struct str text, const char *also_plain)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (url_is_unreserved(c) || (also_plain != NULL && is_one_of(c, also_plain))) {
            writer_char(w, c);
        } else {
            const char escape[3] = {'%', digits[(uint8_t) c >> 4], digits[(uint8_t) c & 0x0F]};
            writer_bytes(w, escape, sizeof escape);
        }
    }
}

void writer_percent_decode(struct writer *w, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = (uint8_t) text.ptr[i];
        if (byte == '%' && take_escaped_byte(str_slice(text, i, text.len), &byte))
            i += 2;
        writer_u8(w, byte);
    }
}
