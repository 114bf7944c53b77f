#include "wire/socks5.h"

#include <string.h>

#include "base/bytes.h"
#include "base/ip.h"
#include "base/num.h"
#include "base/utf8.h"

/* RFC 1928, and SOCKS4's "SOCKS: A protocol for TCP proxy across firewalls" with its extension 4A. */
enum { VERSION_5 = 5, VERSION_4 = 4, COMMAND_CONNECT = 1, METHOD_NONE = 0, METHOD_REFUSED = 0xFF };
enum { ADDRESS_IPV4 = 1, ADDRESS_NAME = 3, ADDRESS_IPV6 = 4 };
enum { REPLY_4_GRANTED = 90, REPLY_4_REJECTED = 91 };
enum { REPLY_COMMAND = 7, REPLY_ADDRESS = 8 };

enum protocol { UNKNOWN, SOCKS_5, SOCKS_4, HTTP };

static const struct {
    uint8_t reply_5;
    const char *status; /* HTTP's */
} ANSWERS[] = {
    [SOCKS5_OPENED] = {0, "200 Connection established"},  [SOCKS5_FAILED] = {1, "502 Bad Gateway"},
    [SOCKS5_NOT_ALLOWED] = {2, "403 Forbidden"},          [SOCKS5_HOST_UNREACHABLE] = {4, "502 Bad Gateway"},
    [SOCKS5_CONNECTION_REFUSED] = {5, "502 Bad Gateway"}, [SOCKS5_TIMED_OUT] = {6, "504 Gateway Timeout"},
};

void socks5_init(struct socks5 *s)
{
    memset(s, 0, sizeof *s);
}

/* ---- answers ---------------------------------------------------------------------------------------- */

static void answer_5(struct writer *w, uint8_t reply)
{
    static const uint8_t no_address[] = {0, ADDRESS_IPV4, 0, 0, 0, 0, 0, 0};
    writer_u8(w, VERSION_5);
    writer_u8(w, reply);
    writer_bytes(w, no_address, sizeof no_address);
}

static void answer_4(struct writer *w, bool granted)
{
    writer_u8(w, 0);
    writer_u8(w, granted ? REPLY_4_GRANTED : REPLY_4_REJECTED);
    writer_fill(w, 0, 6);
}

static void answer_http(struct writer *w, const char *status, struct str why)
{
    enum { WHY_MAX = 300 };
    why = utf8_limit(why, WHY_MAX);
    writer_format(w, "HTTP/1.1 %s\r\n", status);
    if (status[0] != '2') {
        writer_format(w,
                      "Content-Type: text/plain; charset=utf-8\r\nContent-Length: %zu\r\n"
                      "Connection: close\r\n\r\n%.*s\n",
                      why.len + 1, STR_ARG(why));
    } else {
        writer_text(w, "\r\n");
    }
}

static void give_answer(struct socks5 *s, uint8_t reply_5, const char *status, struct str why)
{
    struct writer w = writer_of(s->out + s->out_len, sizeof s->out - s->out_len);
    if (s->protocol == SOCKS_5)
        answer_5(&w, reply_5);
    else if (s->protocol == SOCKS_4)
        answer_4(&w, reply_5 == 0);
    else if (s->protocol == HTTP)
        answer_http(&w, status, why);
    s->out_len += w.len;
    s->state = reply_5 == 0 ? SOCKS5_OPEN : SOCKS5_REFUSED;
}

void socks5_answer(struct socks5 *s, enum socks5_answer answer, struct str why)
{
    if (s->state == SOCKS5_WANTED)
        give_answer(s, ANSWERS[answer].reply_5, ANSWERS[answer].status, why);
}

/* The client is told as well as its protocol can tell it. */
static int refuse(struct socks5 *s, uint8_t reply_5, const char *status, const struct error *err)
{
    give_answer(s, reply_5, status, str_from(err->text));
    return err->code;
}

/* ---- where to --------------------------------------------------------------------------------------- */

static bool is_host_char(char c)
{
    return str_is_alnum(c) || c == '-' || c == '.' || c == '_' || c == ':';
}

/* A name or address is one for DNS and logs, whoever sent it. */
static int take_target(struct socks5 *s, struct str host, uint16_t port, struct error *err)
{
    if (host.len == 0 || port == 0 || !str_all(host, is_host_char)) {
        error_set(err, ERROR_INVALID, "the client asks for a connection to %s",
                  port == 0 && host.len > 0 ? "port 0" : "what is not a valid host name");
        return refuse(s, ANSWERS[SOCKS5_FAILED].reply_5, "400 Bad Request", err);
    }
    if (!str_copy(host, s->host, sizeof s->host)) {
        error_set(err, ERROR_TOO_LARGE, "the client asks for a host name of more than %d bytes",
                  SOCKS5_HOST_SIZE - 1);
        return refuse(s, ANSWERS[SOCKS5_FAILED].reply_5, "400 Bad Request", err);
    }
    s->port = port;
    s->state = SOCKS5_WANTED;
    return 0;
}

static int take_address(struct socks5 *s, struct ip address, uint16_t port, struct error *err)
{
    char text[IP_TEXT_SIZE];
    struct writer w = writer_of(text, sizeof text);
    writer_ip(&w, address);
    return take_target(s, writer_view(&w), port, err);
}

static int refuse_command(struct socks5 *s, uint8_t command, struct error *err)
{
    error_set(err, ERROR_UNSUPPORTED, "the client asks for SOCKS command %u: only CONNECT (1) is supported",
              command);
    return refuse(s, REPLY_COMMAND, "", err);
}

/* ---- SOCKS5 ----------------------------------------------------------------------------------------- */

/* version, count, methods */
static int read_methods(struct socks5 *s, struct error *err)
{
    if (s->len < 2 || s->len < 2u + s->request[1])
        return 0;
    bool offers_none = memchr(s->request + 2, METHOD_NONE, s->request[1]) != NULL;
    s->out[s->out_len++] = VERSION_5;
    s->out[s->out_len++] = offers_none ? METHOD_NONE : METHOD_REFUSED;
    s->len = 0;
    s->has_method = true;
    if (offers_none)
        return 0;
    s->state = SOCKS5_REFUSED;
    return error_set(
        err, ERROR_UNSUPPORTED,
        "the client does not offer SOCKS5 without authentication, which is the only method here");
}

/* version, command, 0, kind of address, address, port */
static int read_request_5(struct socks5 *s, struct error *err)
{
    struct reader r = reader_of(s->request, s->len);
    uint8_t version = reader_u8(&r);
    uint8_t command = reader_u8(&r);
    reader_skip(&r, 1);
    uint8_t kind = reader_u8(&r);
    if (r.failed)
        return 0;
    if (version != VERSION_5) {
        error_set(err, ERROR_INVALID, "a SOCKS5 request that begins with %u", version);
        return refuse(s, ANSWERS[SOCKS5_FAILED].reply_5, "", err);
    }
    if (kind != ADDRESS_IPV4 && kind != ADDRESS_IPV6 && kind != ADDRESS_NAME) {
        error_set(err, ERROR_UNSUPPORTED, "the client asks for SOCKS5 address type %u", kind);
        return refuse(s, REPLY_ADDRESS, "", err);
    }
    size_t size = kind == ADDRESS_IPV4 ? 4 : kind == ADDRESS_IPV6 ? 16 : reader_u8(&r);
    const uint8_t *address = reader_bytes(&r, size);
    uint16_t port = reader_u16be(&r);
    if (r.failed)
        return 0;
    if (command != COMMAND_CONNECT)
        return refuse_command(s, command, err);
    if (kind == ADDRESS_NAME)
        return take_target(s, (struct str){(const char *) address, size}, port, err);
    return take_address(s, kind == ADDRESS_IPV4 ? ip_v4(address) : ip_v6(address), port, err);
}

/* ---- SOCKS4 ----------------------------------------------------------------------------------------- */

/* version, command, port, address, user, 0, and with address 0.0.0.x: name, 0 */
static int read_request_4(struct socks5 *s, struct error *err)
{
    enum { USER_AT = 8 };
    const uint8_t *address = s->request + 4;
    if (s->len <= USER_AT)
        return 0;
    const uint8_t *user_end = memchr(s->request + USER_AT, 0, s->len - USER_AT);
    uint16_t port = (uint16_t) (s->request[2] << 8 | s->request[3]);
    bool has_name = address[0] == 0 && address[1] == 0 && address[2] == 0 && address[3] != 0;
    size_t name_at = user_end != NULL ? (size_t) (user_end - s->request) + 1 : 0;
    bool complete = user_end != NULL && (!has_name || (s->len > name_at && s->request[s->len - 1] == 0));
    if (!complete) {
        if (s->len < sizeof s->request)
            return 0;
        error_set(err, ERROR_TOO_LARGE, "a SOCKS4 request of more than %d bytes", SOCKS5_REQUEST_SIZE);
        return refuse(s, ANSWERS[SOCKS5_FAILED].reply_5, "", err);
    }
    if (s->request[1] != COMMAND_CONNECT)
        return refuse_command(s, s->request[1], err);
    if (!has_name)
        return take_address(s, ip_v4(address), port, err);
    struct str name = {(const char *) s->request + name_at, s->len - name_at - 1};
    return take_target(s, name, port, err);
}

/* ---- HTTP ------------------------------------------------------------------------------------------- */

static int refuse_line(struct socks5 *s, const char *status, enum error_code code, const char *what,
                       struct error *err)
{
    error_set(err, code, "%s", what);
    return refuse(s, ANSWERS[SOCKS5_FAILED].reply_5, status, err);
}

/* CONNECT host:port HTTP/1.1 */
static int read_line(struct socks5 *s, struct error *err)
{
    struct str line = str_trim((struct str){(const char *) s->request, s->len});
    struct str method, target, version, host, port_text;
    uint16_t port;
    if (!str_cut(line, ' ', &method, &line) || !str_cut(line, ' ', &target, &version) ||
        !str_starts_with(version, "HTTP/1."))
        return refuse_line(s, "400 Bad Request", ERROR_INVALID, "neither SOCKS nor HTTP/1.1", err);
    if (!str_equal_text(method, "CONNECT"))
        return refuse_line(s, "405 Method Not Allowed", ERROR_UNSUPPORTED,
                           "only CONNECT is supported: use the proxy for https, or as a SOCKS proxy", err);
    if (!str_split_host_port(target, &host, &port_text) || !str_parse_port(port_text, &port))
        return refuse_line(s, "400 Bad Request", ERROR_INVALID, "CONNECT without host:port", err);
    return take_target(s, host, port, err);
}

/* The first line is kept, the others are skipped up to the empty one. */
static int read_head(struct socks5 *s, uint8_t byte, struct error *err)
{
    if (++s->head_len > SOCKS5_HTTP_HEAD_MAX || s->len == sizeof s->request)
        return refuse_line(s, "431 Request Header Fields Too Large", ERROR_TOO_LARGE,
                           "the HTTP request's head is too long", err);
    if (s->line_len == SIZE_MAX) { /* in the first line */
        s->request[s->len++] = byte;
        s->line_len = byte == '\n' ? 0 : SIZE_MAX;
    } else if (byte == '\n') {
        if (s->line_len == 0)
            return read_line(s, err);
        s->line_len = 0;
    } else if (byte != '\r') {
        s->line_len++;
    }
    return 0;
}

/* ---- bytes ------------------------------------------------------------------------------------------ */

static int begin(struct socks5 *s, uint8_t first, struct error *err)
{
    s->protocol = first == VERSION_5             ? SOCKS_5
                  : first == VERSION_4           ? SOCKS_4
                  : first >= 'A' && first <= 'Z' ? HTTP
                                                 : UNKNOWN;
    s->line_len = SIZE_MAX;
    if (s->protocol != UNKNOWN)
        return 0;
    s->state = SOCKS5_REFUSED; /* without an answer: there is no language for it */
    return error_set(err, ERROR_INVALID, "neither SOCKS nor HTTP: the client begins with byte %u", first);
}

static int take_byte(struct socks5 *s, uint8_t byte, struct error *err)
{
    if (s->protocol == UNKNOWN && begin(s, byte, err) < 0)
        return ERROR_INVALID;
    if (s->protocol == HTTP)
        return read_head(s, byte, err);
    s->request[s->len++] = byte; /* both ask for more only while there is room */
    if (s->protocol == SOCKS_4)
        return read_request_4(s, err);
    return s->has_method ? read_request_5(s, err) : read_methods(s, err);
}

int socks5_feed(struct socks5 *s, const void *data, size_t len, size_t *used, struct error *err)
{
    const uint8_t *bytes = data;
    struct error own = ERROR_INIT;
    int result = s->state == SOCKS5_REFUSED ? ERROR_INVALID : 0;
    *used = 0;
    err = err != NULL ? err : &own;
    while (result == 0 && s->state == SOCKS5_READING && *used < len)
        result = take_byte(s, bytes[(*used)++], err);
    return result;
}

const uint8_t *socks5_out_buf(const struct socks5 *s, size_t *len)
{
    *len = s->out_len - s->out_sent;
    return *len > 0 ? s->out + s->out_sent : NULL;
}

void socks5_out_ack(struct socks5 *s, size_t len)
{
    s->out_sent += num_min_size(len, s->out_len - s->out_sent);
}
