#include "wire/url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static const struct {
    const char *text;
    enum url_scheme scheme;
    const char *userinfo; /* null: none */
    const char *host;
    uint16_t port;
    const char *path, *query, *target;
    const char *authority; /* as url_write_authority says */
} urls[] = {
    {"http://169.254.170.2", URL_HTTP, NULL, "169.254.170.2", 80, "", "", "", "169.254.170.2"},
    {"http://169.254.170.2/v4/abc-1/task", URL_HTTP, NULL, "169.254.170.2", 80, "/v4/abc-1/task", "",
     "/v4/abc-1/task", "169.254.170.2"},
    {"https://ecs.eu-west-1.amazonaws.com/", URL_HTTPS, NULL, "ecs.eu-west-1.amazonaws.com", 443, "/", "",
     "/", "ecs.eu-west-1.amazonaws.com"},
    {"HTTPS://Host:443", URL_HTTPS, NULL, "Host", 443, "", "", "", "Host"},
    {"https://host:80", URL_HTTPS, NULL, "host", 80, "", "", "", "host:80"},
    {"http://host:080/", URL_HTTP, NULL, "host", 80, "/", "", "/", "host"},
    {"http://host:/", URL_HTTP, NULL, "host", 80, "/", "", "/", "host"},
    {"ws://localhost:65535?q", URL_WS, NULL, "localhost", 65535, "", "q", "?q", "localhost:65535"},
    {"wss://g.example/v1/data-channel/s-1?role=publish_subscribe&cell-number=AAEA%2F", URL_WSS, NULL,
     "g.example", 443, "/v1/data-channel/s-1", "role=publish_subscribe&cell-number=AAEA%2F",
     "/v1/data-channel/s-1?role=publish_subscribe&cell-number=AAEA%2F", "g.example"},
    {"http://[fd00:ec2::23]/v1/credentials", URL_HTTP, NULL, "fd00:ec2::23", 80, "/v1/credentials", "",
     "/v1/credentials", "[fd00:ec2::23]"},
    {"http://[::ffff:10.0.0.1]:8080", URL_HTTP, NULL, "::ffff:10.0.0.1", 8080, "", "", "",
     "[::ffff:10.0.0.1]:8080"},
    {"http://user:p%40ss@proxy:3128", URL_HTTP, "user:p%40ss", "proxy", 3128, "", "", "", "proxy:3128"},
    {"http://@h", URL_HTTP, "", "h", 80, "", "", "", "h"},
    {"http://h/a@b:c//d/../e?f=/?:@", URL_HTTP, NULL, "h", 80, "/a@b:c//d/../e", "f=/?:@",
     "/a@b:c//d/../e?f=/?:@", "h"},
    {"http://h?x://y", URL_HTTP, NULL, "h", 80, "", "x://y", "?x://y", "h"},
    {"http://under_score.x-y.z:1/", URL_HTTP, NULL, "under_score.x-y.z", 1, "/", "", "/",
     "under_score.x-y.z:1"},
};

static void check_text(struct str actual, const char *expected)
{
    if (!str_equal_text(actual, expected))
        fail_msg("\"%.*s\" is not \"%s\"", STR_ARG(actual), expected);
}

static void splits_urls(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        size_t len = strlen(urls[i].text);
        char *copy = guard_copy(urls[i].text, len);
        char memory[128];
        struct url url;
        struct error err = ERROR_INIT;
        if (url_split(&url, (struct str){copy, len}, &err) != 0)
            fail_msg("%s: %s", urls[i].text, err.text);
        assert_int_equal(url.scheme, urls[i].scheme);
        assert_int_equal(url.tls, url.scheme == URL_HTTPS || url.scheme == URL_WSS);
        assert_int_equal(url.has_userinfo, urls[i].userinfo != NULL);
        check_text(url.userinfo, urls[i].userinfo);
        check_text(url.host, urls[i].host);
        assert_int_equal(url.port, urls[i].port);
        check_text(url.path, urls[i].path);
        check_text(url.query, urls[i].query);
        check_text(url.target, urls[i].target);
        struct writer w = writer_of(memory, sizeof memory);
        url_write_authority(&w, &url);
        check_text(writer_view(&w), urls[i].authority);
        guard_free(copy, len);
    }
}

static const struct {
    const char *text;
    int code;
    const char *error;
} refusals[] = {
    {"", ERROR_INVALID, "the URL does not begin with a scheme and \"://\""},
    {"host", ERROR_INVALID, "the URL does not begin with a scheme and \"://\""},
    {"http:/host", ERROR_INVALID, "the URL does not begin with a scheme and \"://\""},
    {"ftp://host", ERROR_UNSUPPORTED, "the URL's scheme must be http, https, ws or wss"},
    {"://host", ERROR_UNSUPPORTED, "the URL's scheme must be http, https, ws or wss"},
    {"h://http://host", ERROR_UNSUPPORTED, "the URL's scheme must be http, https, ws or wss"},
    {"http://", ERROR_INVALID, "the URL has no host"},
    {"http:///path", ERROR_INVALID, "the URL has no host"},
    {"http://:80", ERROR_INVALID, "the URL has no host"},
    {"http://user@", ERROR_INVALID, "the URL has no host"},
    {"http://[]", ERROR_INVALID, "the URL has no host"},
    {"http://h/#x", ERROR_INVALID, "the URL has a fragment ('#' at byte 10)"},
    {"http://h/ x", ERROR_INVALID, "byte 10 is not allowed in a URL"},
    {"http://h/\r\nX: y", ERROR_INVALID, "byte 10 is not allowed in a URL"},
    {"http://h\\@x/", ERROR_INVALID, "byte 9 is not allowed in a URL"},
    {"http://h\xC3\xA9/", ERROR_INVALID, "byte 9 is not allowed in a URL"},
    {"http://h/\"", ERROR_INVALID, "byte 10 is not allowed in a URL"},
    {"http://h/%", ERROR_INVALID, "byte 10 of the URL is a '%' without two hexadecimal digits"},
    {"http://h/%4", ERROR_INVALID, "byte 10 of the URL is a '%' without two hexadecimal digits"},
    {"http://h/%g0", ERROR_INVALID, "byte 10 of the URL is a '%' without two hexadecimal digits"},
    {"http://h%41/", ERROR_INVALID, "the URL's host contains a '%'"},
    {"http://a,b/", ERROR_INVALID, "the URL's host contains a ','"},
    {"http://a~b/", ERROR_INVALID, "the URL's host contains a '~'"},
    {"http://a@b@c/", ERROR_INVALID, "the URL has two '@' before its path"},
    {"http://h:0/", ERROR_INVALID, "the URL's port is not a number from 1 to 65535"},
    {"http://h:65536/", ERROR_INVALID, "the URL's port is not a number from 1 to 65535"},
    {"http://h:8a/", ERROR_INVALID, "the URL's port is not a number from 1 to 65535"},
    {"http://h:1:2/", ERROR_INVALID, "the URL's port is not a number from 1 to 65535"},
    {"http://::1/", ERROR_INVALID, "the URL has no host"},
    {"http://[::1/", ERROR_INVALID, "a bracket is not closed in the URL's host"},
    {"http://[::1]x/", ERROR_INVALID, "the URL has something after the bracket of its host"},
    {"http://[::1]80/", ERROR_INVALID, "the URL has something after the bracket of its host"},
    {"http://[fe80::1%25eth0]/", ERROR_INVALID, "the URL's host contains a '%'"},
    {"http://[1.2.3.4]/", ERROR_INVALID, "the brackets in the URL do not hold an IPv6 address"},
    {"http://[f:1]/", ERROR_INVALID, "the brackets in the URL do not hold an IPv6 address"},
    {"http://[name]/", ERROR_INVALID, "the URL's host contains a 'n'"},
    {"http://h]/", ERROR_INVALID, "the URL's host contains a ']'"},
    {"http://h/[x]", ERROR_INVALID, "the URL has a bracket outside its host"},
};

static void refuses_bad_urls(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        size_t len = strlen(refusals[i].text);
        char *copy = guard_copy(refusals[i].text, len);
        struct url url;
        struct error err = ERROR_INIT;
        int result = url_split(&url, (struct str){copy, len}, &err);
        if (result != refusals[i].code || strcmp(err.text, refusals[i].error) != 0)
            fail_msg("%s: %d %s", refusals[i].text, result, err.text);
        guard_free(copy, len);
    }
    struct url url;
    assert_int_equal(url_split(&url, (struct str){"http://h/\0", 10}, NULL), ERROR_INVALID);
}

static void bounds_lengths(void **state)
{
    char text[URL_MAX + 1];
    struct url url;
    struct error err = ERROR_INIT;
    (void) state;
    struct writer w = writer_of(text, sizeof text);
    writer_text(&w, "http://");
    writer_fill(&w, 'a', sizeof text - w.len);
    assert_int_equal(url_split(&url, (struct str){text, 7 + URL_HOST_MAX}, &err), 0);
    assert_int_equal(url_split(&url, (struct str){text, 7 + URL_HOST_MAX + 1}, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "the URL's host is longer than 253 bytes");
    text[8] = '/';
    assert_int_equal(url_split(&url, (struct str){text, URL_MAX}, &err), 0);
    assert_int_equal(url_split(&url, (struct str){text, URL_MAX + 1}, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "the URL is longer than 4096 bytes");
}

#define NOT_HTTP "only a proxy with http:// is supported, not one over TLS (https://) or SOCKS"

static const struct {
    const char *text;
    int code;
    enum url_scheme scheme;
    const char *host; /* or the error's text */
    uint16_t port;
} proxies[] = {
    {"http://proxy.example:3128", 0, URL_HTTP, "proxy.example", 3128},
    {"proxy.example:3128", 0, URL_HTTP, "proxy.example", 3128},
    {"proxy.example", 0, URL_HTTP, "proxy.example", 80},
    {"user:pw@10.0.0.1:8080/", 0, URL_HTTP, "10.0.0.1", 8080},
    {"[::1]:3128", 0, URL_HTTP, "::1", 3128},
    {"", ERROR_INVALID, URL_HTTP, "the URL has no host", 0},
    {"proxy:x", ERROR_INVALID, URL_HTTP, "the URL's port is not a number from 1 to 65535", 0},
    {"socks5://proxy:1080", ERROR_UNSUPPORTED, URL_HTTP, NOT_HTTP, 0},
    {"https://proxy:1080", ERROR_UNSUPPORTED, URL_HTTP, NOT_HTTP, 0},
    {"ws://proxy", ERROR_UNSUPPORTED, URL_HTTP, NOT_HTTP, 0},
    {"http://proxy/path", 0, URL_HTTP, "proxy", 80},
    {"proxy?q", 0, URL_HTTP, "proxy", 80},
    {"proxy:1#f", 0, URL_HTTP, "proxy", 1},
    {"pro xy", ERROR_INVALID, URL_HTTP, "the URL's host contains a ' '", 0},
    {"u@x:p@ss@proxy:1", 0, URL_HTTP, "proxy", 1},
    {"u:p#a\\b/c?d%e f@proxy:1", 0, URL_HTTP, "proxy", 1},
    {"@proxy:1", 0, URL_HTTP, "proxy", 1},
};

static void splits_proxies(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof proxies / sizeof proxies[0]; i++) {
        struct url url;
        struct error err = ERROR_INIT;
        assert_int_equal(url_split_proxy(&url, str_from(proxies[i].text), &err), proxies[i].code);
        if (proxies[i].code != 0) {
            assert_string_equal(err.text, proxies[i].host);
            continue;
        }
        assert_int_equal(url.scheme, proxies[i].scheme);
        assert_int_equal(url.tls, proxies[i].scheme == URL_HTTPS);
        check_text(url.host, proxies[i].host);
        assert_int_equal(url.port, proxies[i].port);
    }
}

/* What is secret in a URL must not come out in an error, whatever is wrong with it. */
static void errors_never_quote_secrets(void **state)
{
    static const char *const texts[] = {
        "http://user:hunter2@",       "http://user:hunter2@h:x",  "http://user:hunter2@h@i",
        "foo://user:hunter2@h",       "user:hunter2@h",           "http://user:hunter2@[::1",
        "http://user:hunter2@h/?a#b", "http://user:hunter2@h,x/", "http://h:hunter2/",
        "http://user:hunter2 @h/",    "http://user:hunter2%@h/",  "http://user:hunter2@[::1]x",
    };
    (void) state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct url url;
        struct error err = ERROR_INIT;
        size_t at;
        assert_true(url_split(&url, str_from(texts[i]), &err) < 0);
        assert_false(str_find(str_from(err.text), "hunter2", &at));
    }
}

static const struct {
    const char *userinfo;
    const char *expected; /* null: refused */
} authorizations[] = {
    {"user:password", "Basic dXNlcjpwYXNzd29yZA=="},
    {"user", "Basic dXNlcjo="},
    {"", "Basic Og=="},
    {"user:p%40ss:w%C3%B6rd", "Basic dXNlcjpwQHNzOnfDtnJk"},
    {"a%20b:c", "Basic YSBiOmM="},
    {"us%3Aer:x", NULL},
    {"user:a%0D%0Ab", NULL},
    {"user:a%00", NULL},
    {"us%7Fer:a", NULL},
};

static void writes_basic_authorization(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof authorizations / sizeof authorizations[0]; i++) {
        struct url url = {.userinfo = str_from(authorizations[i].userinfo)};
        char memory[64];
        struct writer w = writer_of(memory, sizeof memory);
        url_write_basic_authorization(&w, &url);
        assert_int_equal(w.failed, authorizations[i].expected == NULL);
        if (!w.failed)
            check_text(writer_view(&w), authorizations[i].expected);
    }
    char userinfo[URL_USERINFO_MAX + 1];
    char memory[URL_USERINFO_MAX * 2];
    memset(userinfo, 'x', sizeof userinfo);
    userinfo[1] = ':';
    for (size_t len = URL_USERINFO_MAX; len <= sizeof userinfo; len++) {
        struct url url = {.userinfo = {userinfo, len}};
        struct writer w = writer_of(memory, sizeof memory);
        url_write_basic_authorization(&w, &url);
        assert_int_equal(w.failed, len > URL_USERINFO_MAX);
    }
}

static const struct {
    const char *plain, *also_plain, *encoded;
} escapes[] = {
    {"", NULL, ""},
    {"AZaz09-._~", NULL, "AZaz09-._~"},
    {"/v1/control-channel/ecs:a_b", "/", "/v1/control-channel/ecs%3Aa_b"},
    {"/ %", NULL, "%2F%20%25"},
    {"+*\xC3\xBF\x7F", NULL, "%2B%2A%C3%BF%7F"},
    {"@[`{", "@", "@%5B%60%7B"},
};

static void escapes_and_back(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++) {
        char memory[64];
        char back[64];
        struct writer w = writer_of(memory, sizeof memory);
        writer_percent_encode(&w, str_from(escapes[i].plain), escapes[i].also_plain);
        check_text(writer_view(&w), escapes[i].encoded);
        struct writer decoded = writer_of(back, sizeof back);
        writer_percent_decode(&decoded, writer_view(&w));
        assert_false(decoded.failed);
        check_text(writer_view(&decoded), escapes[i].plain);
    }
    char memory[4];
    struct writer w = writer_of(memory, 3);
    writer_percent_encode(&w, (struct str){"\0", 1}, "/"); /* a NUL is in no set */
    check_text(writer_view(&w), "%00");
    w = writer_of(memory, 2);
    writer_percent_encode(&w, STR_LITERAL(" "), NULL);
    assert_true(w.failed && w.len == 0);
}

static void decodes_what_is_an_escape(void **state)
{
    static const char *const plain[] = {"%", "%4", "%4g", "%g4", "a%", "% 41", "%+1"};
    char memory[8];
    (void) state;
    struct writer w = writer_of(memory, sizeof memory);
    writer_percent_decode(&w, STR_LITERAL("a+%2b%2B%00"));
    assert_false(w.failed);
    assert_int_equal(w.len, 5);
    assert_memory_equal(memory, "a+++", 5);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        size_t len = strlen(plain[i]);
        char *copy = guard_copy(plain[i], len);
        w = writer_of(memory, sizeof memory);
        writer_percent_decode(&w, (struct str){copy, len});
        check_text(writer_view(&w), plain[i]);
        guard_free(copy, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_urls),
        cmocka_unit_test(refuses_bad_urls),
        cmocka_unit_test(bounds_lengths),
        cmocka_unit_test(splits_proxies),
        cmocka_unit_test(errors_never_quote_secrets),
        cmocka_unit_test(writes_basic_authorization),
        cmocka_unit_test(escapes_and_back),
        cmocka_unit_test(decodes_what_is_an_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
