#include "wire/proxy.h"

#include <string.h>

#include "base/ip.h"
#include "wire/http.h"
#include "wire/url.h"

int proxy_parse(struct proxy *proxy, struct str https_proxy, struct str no_proxy, struct error *err)
{
    memset(proxy, 0, sizeof *proxy);
    https_proxy = str_trim(https_proxy);
    if (https_proxy.len == 0)
        return 0;
    struct url url;
    str_copy(STR_LITERAL("?"), proxy->host, sizeof proxy->host); /* until it is known */
    if (!str_copy(no_proxy, proxy->exceptions, sizeof proxy->exceptions))
        return error_set(err, ERROR_TOO_LARGE, "NO_PROXY: longer than %d bytes", PROXY_EXCEPTIONS_SIZE - 1);
    if (url_split_proxy(&url, https_proxy, err) != 0)
        return error_prefix(err, "HTTPS_PROXY: ");
    if (url.has_userinfo) {
        struct writer w = writer_of(proxy->authorization, sizeof proxy->authorization);
        url_write_basic_authorization(&w, &url);
        if (writer_terminate(&w)[0] == '\0')
            return error_set(err, ERROR_INVALID,
                             "HTTPS_PROXY: user and password are too long or contain control characters");
    }
    str_copy(url.host, proxy->host, sizeof proxy->host); /* fits: URL_HOST_MAX */
    proxy->port = url.port;
    return 0;
}

static bool is_loopback(struct str host)
{
    struct ip address;
    if (!ip_parse(host, &address))
        return str_equal_nocase(host, "localhost");
    static const uint8_t v6_loopback[16] = {[15] = 1};
    return address.version == IP_V4 ? address.bytes[0] == 127 : memcmp(address.bytes, v6_loopback, 16) == 0;
}

static bool ends_with_nocase(struct str host, struct str ending)
{
    struct str end = str_slice(host, host.len - ending.len, host.len);
    for (size_t i = 0; i < ending.len; i++)
        if (str_lower(end.ptr[i]) != str_lower(ending.ptr[i]))
            return false;
    return true;
}

/* "example.com" is it and everything below; ".example.com" and "*.example.com" only what is below. */
static bool name_matches(struct str pattern, struct str host)
{
    if (str_starts_with(pattern, "*."))
        pattern = str_slice(pattern, 1, pattern.len);
    if (pattern.len == 0 || pattern.len > host.len || !ends_with_nocase(host, pattern))
        return false;
    size_t before = host.len - pattern.len;
    if (pattern.ptr[0] == '.')
        return before > 0;
    return before == 0 || host.ptr[before - 1] == '.';
}

static bool exception_matches(struct str pattern, struct str host, uint16_t port)
{
    struct ip_block block;
    struct ip address;
    struct str target, only_port;
    uint16_t number;
    if (str_equal_text(pattern, "*"))
        return true;
    if (!str_split_host_port(pattern, &target, &only_port) ||
        (only_port.ptr != NULL && (!str_parse_port(only_port, &number) || number != port)))
        return false;
    if (ip_parse(host, &address))
        return ip_block_parse(target, &block) && ip_block_contains(block, address);
    return name_matches(target, host);
}

bool proxy_applies(const struct proxy *proxy, struct str host, uint16_t port)
{
    if (proxy->host[0] == '\0' || is_loopback(host))
        return false;
    struct str rest = str_from(proxy->exceptions), pattern;
    while (str_take_item(&rest, &pattern))
        if (exception_matches(pattern, host, port))
            return false;
    return true;
}

int proxy_write_connect(const struct proxy *proxy, struct str host, uint16_t port, struct writer *w,
                        struct error *err)
{
    struct ip address;
    bool is_v6 = ip_parse(host, &address) && address.version == IP_V6;
    char text[URL_HOST_MAX + sizeof "[]:65535"];
    struct writer authority = writer_of(text, sizeof text);
    writer_format(&authority, is_v6 ? "[%.*s]:%u" : "%.*s:%u", STR_ARG(host), port);
    struct http_request request =
        http_request_begin(w, "CONNECT", writer_view(&authority), writer_view(&authority));
    if (proxy->authorization[0] != '\0')
        http_request_header_text(&request, "Proxy-Authorization", proxy->authorization);
    return http_request_end(&request, STR_LITERAL(""), err);
}
