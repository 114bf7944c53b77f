/* A URL that is taken, put together again from its parts, splits into the same parts. */
#include "wire/url.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void join(struct writer *w, const struct url *url)
{
    static const char *const schemes[] = {"http", "https", "ws", "wss"};
    writer_text(w, schemes[url->scheme]);
    writer_text(w, "://");
    if (url->has_userinfo) {
        writer_str(w, url->userinfo);
        writer_char(w, '@');
    }
    url_write_authority(w, url);
    writer_str(w, url->target);
}

static void check_authorization(const struct url *url)
{
    static char value[2 * URL_USERINFO_MAX];
    struct writer basic = writer_of(value, sizeof value);
    url_write_basic_authorization(&basic, url);
    size_t at;
    require(!str_find(writer_view(&basic), "\n", &at));
}

static void check_url(const struct url *url)
{
    static char text[2 * URL_MAX];
    struct writer w = writer_of(text, sizeof text);
    struct url again;
    join(&w, url);
    require(!w.failed);
    require(url_split(&again, writer_view(&w), NULL) == 0);
    require(again.scheme == url->scheme && again.tls == url->tls && again.port == url->port);
    require(again.has_userinfo == url->has_userinfo && again.host_is_ipv6 == url->host_is_ipv6);
    require(str_equal(again.userinfo, url->userinfo) && str_equal(again.host, url->host));
    require(str_equal(again.path, url->path) && str_equal(again.query, url->query));
    check_authorization(url);
}

static void check_escaping(struct str text)
{
    static char encoded[3 * URL_MAX];
    static char decoded[URL_MAX];
    struct writer w = writer_of(encoded, sizeof encoded);
    struct writer back = writer_of(decoded, sizeof decoded);
    writer_percent_encode(&w, text, "/:");
    writer_percent_decode(&back, writer_view(&w));
    require(!w.failed && !back.failed && str_equal(writer_view(&back), text));
    back = writer_of(decoded, sizeof decoded);
    writer_percent_decode(&back, text); /* may fail, not crash */
    require(!back.failed && back.len <= text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *) data, size};
    struct url url;
    struct error err = ERROR_INIT;
    if (url_split(&url, text, &err) == 0)
        check_url(&url);
    else
        require(err.text[0] != '\0');
    if (url_split_proxy(&url, text, NULL) == 0)
        check_authorization(&url);
    if (size <= URL_MAX)
        check_escaping(text);
    return 0;
}
