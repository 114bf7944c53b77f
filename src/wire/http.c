#include "wire/http.h"

#include <string.h>

/* ---- what is allowed where (RFC 9110, 5.5 and 5.6.2) --------------------------------------------------- */

static bool is_token_char(char c)
{
    return str_is_alnum(c) || (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(struct str text)
{
    return text.len > 0 && str_all(text, is_token_char);
}

static bool is_field_char(char c)
{
    return c == '\t' || !str_is_control(c);
}

static bool is_field_value(struct str text)
{
    return str_all(text, is_field_char);
}

static bool is_target_char(char c)
{
    return c >= '!' && c <= '~';
}

static bool is_request_target(struct str text)
{
    return text.len > 0 && str_all(text, is_target_char);
}

/* ---- requests --------------------------------------------------------------------------------------- */

struct http_request http_request_begin(struct writer *out, const char *method, struct str target,
                                       struct str host)
{
    struct http_request request = {.out = out, .problem = ERROR_INIT};
    struct str name = str_from(method);
    if (!is_token(name)) {
        error_set(&request.problem, ERROR_INVALID, "HTTP request: the method is not a token");
    } else if (!is_request_target(target)) {
        error_set(&request.problem, ERROR_INVALID,
                  "HTTP request: the path is empty or contains a byte that is not allowed in one");
    }
    request.wants_length =
        str_equal_text(name, "POST") || str_equal_text(name, "PUT") || str_equal_text(name, "PATCH");
    writer_str(out, name);
    writer_char(out, ' ');
    writer_str(out, target);
    writer_text(out, " HTTP/1.1\r\n");
    http_request_header(&request, "Host", host);
    return request;
}

void http_request_header(struct http_request *request, const char *name, struct str value)
{
    if (request->problem.code != ERROR_NONE)
        return;
    if (!is_token(str_from(name))) {
        error_set(&request->problem, ERROR_INVALID, "HTTP request: a header's name is not a token");
        return;
    }
    if (!is_field_value(value)) {
        error_set(&request->problem, ERROR_INVALID,
                  "HTTP request: the value of %s contains a control character", name);
        return;
    }
    writer_text(request->out, name);
    writer_text(request->out, ": ");
    writer_str(request->out, value);
    writer_text(request->out, "\r\n");
}

void http_request_header_text(struct http_request *request, const char *name, const char *value)
{
    http_request_header(request, name, str_from(value));
}

int http_request_end(struct http_request *request, struct str body, struct error *err)
{
    if (body.len > 0 || request->wants_length) {
        char digits[20]; /* UINT64_MAX */
        struct writer w = writer_of(digits, sizeof digits);
        writer_u64_decimal(&w, body.len);
        http_request_header(request, "Content-Length", writer_view(&w));
    }
    writer_text(request->out, "\r\n");
    writer_str(request->out, body);
    if (request->problem.code != ERROR_NONE)
        return error_set(err, request->problem.code, "%s", request->problem.text);
    if (request->out->failed) {
        return error_set(err, ERROR_TOO_LARGE, "HTTP request: longer than the %zu bytes there are for it",
                         request->out->capacity);
    }
    return 0;
}

/* ---- answers: the engine's parts ---------------------------------------------------------------------- */

enum state {
    STATE_STATUS_LINE,
    STATE_HEADER_LINE,
    STATE_BODY_LENGTH,
    STATE_BODY_UNTIL_CLOSE,
    STATE_CHUNK_SIZE,
    STATE_CHUNK_BLANK, /* before an extension's ';' */
    STATE_CHUNK_EXTENSION,
    STATE_CHUNK_SIZE_LF,
    STATE_CHUNK_DATA,
    STATE_CHUNK_DATA_CR,
    STATE_CHUNK_DATA_LF,
    STATE_TRAILER_START,
    STATE_TRAILER_LINE,
    STATE_TRAILER_LF,
    STATE_LAST_LF,
    STATE_END,  /* complete, to be told */
    STATE_DONE, /* told */
};

/* The bytes of one call. */
struct input {
    const char *data;
    size_t len;
    size_t at;
};

/* What belongs to one head; an interim answer's is forgotten. */
static void reset_head(struct http_response *r)
{
    r->state = STATE_STATUS_LINE;
    r->status = 0;
    r->head_len = 0;
    r->line_start = 0;
    r->header_count = 0;
    r->minor_version = 0;
    r->has_length = false;
    r->is_chunked = false;
    r->left = 0;
}

void http_response_init(struct http_response *r, enum http_exchange exchange, char *head,
                        size_t head_capacity, uint64_t body_max)
{
    *r = (struct http_response){
        .exchange = exchange,
        .head = head,
        .head_capacity = head_capacity < HTTP_HEAD_MAX ? head_capacity : HTTP_HEAD_MAX,
        .body_max = body_max,
    };
    reset_head(r);
}

static int refuse_large_body(const struct http_response *r, struct error *err)
{
    return error_set(err, ERROR_TOO_LARGE, "HTTP answer: the body is larger than %llu bytes",
                     (unsigned long long) r->body_max);
}

/* ---- status line and headers ------------------------------------------------------------------------- */

/* "HTTP/1.1 200 OK" (RFC 9112, 4). The reason phrase is not read; some servers leave it out with its
 * blank. */
static int take_status_line(struct http_response *r, struct str line, struct error *err)
{
    static const char prefix[] = "HTTP/1.";
    enum { MINOR = sizeof prefix - 1, CODE = MINOR + 2, REASON = CODE + 3 };
    uint32_t status = 0;
    bool valid = line.len >= REASON && str_starts_with(line, prefix) && str_is_digit(line.ptr[MINOR]) &&
                 line.ptr[MINOR + 1] == ' ' && str_parse_u32(str_slice(line, CODE, REASON), &status) &&
                 status >= 100 && status <= 599 && (line.len == REASON || line.ptr[REASON] == ' ') &&
                 is_field_value(line);
    if (!valid) {
        return error_set(err, ERROR_INVALID, "HTTP answer: \"%.*s\" is not a status line of HTTP/1",
                         STR_ARG(str_slice(line, 0, 64)));
    }
    r->minor_version = (unsigned) (line.ptr[MINOR] - '0');
    r->status = (int) status;
    r->state = STATE_HEADER_LINE;
    r->head_len = 0; /* the buffer is for the headers */
    return 0;
}

/* A number, or the same number several times, as a list or as repeated lines (RFC 9110, 8.6). */
static int take_content_length(struct http_response *r, struct str value, struct error *err)
{
    struct str rest = value;
    struct str item;
    bool more = true;
    while (more) {
        uint64_t length;
        more = str_cut(rest, ',', &item, &rest);
        if (!str_parse_u64(str_trim(item), &length)) {
            return error_set(err, ERROR_INVALID, "HTTP answer: Content-Length \"%.*s\" is not a number",
                             STR_ARG(str_slice(value, 0, 64)));
        }
        if (r->has_length && r->left != length)
            return error_set(err, ERROR_INVALID, "HTTP answer: two Content-Lengths that differ");
        r->has_length = true;
        r->left = length;
    }
    return 0;
}

static int take_transfer_encoding(struct http_response *r, struct str value, struct error *err)
{
    if (r->is_chunked || !str_equal_nocase(value, "chunked")) {
        return error_set(err, ERROR_UNSUPPORTED,
                         "HTTP answer: Transfer-Encoding \"%.*s\" is not supported, only \"chunked\" is",
                         STR_ARG(str_slice(value, 0, 64)));
    }
    r->is_chunked = true;
    return 0;
}

static bool list_has(struct str list, const char *word)
{
    struct str item;
    bool more = true;
    while (more) {
        more = str_cut(list, ',', &item, &list);
        if (str_equal_nocase(str_trim(item), word))
            return true;
    }
    return false;
}

static int take_header_line(struct http_response *r, struct str line, struct error *err)
{
    struct str name;
    struct str value;
    if (line.ptr[0] == ' ' || line.ptr[0] == '\t')
        return error_set(err, ERROR_INVALID, "HTTP answer: a header is folded over two lines");
    if (!str_cut(line, ':', &name, &value) || !is_token(name)) {
        return error_set(err, ERROR_INVALID, "HTTP answer: \"%.*s\" is not a header",
                         STR_ARG(str_slice(line, 0, 64)));
    }
    if (!is_field_value(value)) {
        return error_set(err, ERROR_INVALID, "HTTP answer: the value of %.*s contains a control character",
                         STR_ARG(str_slice(name, 0, 64)));
    }
    if (++r->header_count > HTTP_HEADERS_MAX)
        return error_set(err, ERROR_TOO_LARGE, "HTTP answer: more than %d headers", HTTP_HEADERS_MAX);
    value = str_trim(value);
    if (str_equal_nocase(name, "content-length"))
        return take_content_length(r, value, err);
    if (str_equal_nocase(name, "transfer-encoding"))
        return take_transfer_encoding(r, value, err);
    return 0;
}

static bool leaves_http(const struct http_response *r)
{
    return r->status == 101 || (r->exchange == HTTP_TO_CONNECT && r->status >= 200 && r->status <= 299);
}

/* Whether and how a body follows (RFC 9112, 6.3). */
static int choose_body(struct http_response *r, struct error *err)
{
    if (r->is_chunked && (r->has_length || r->minor_version == 0)) {
        return error_set(err, ERROR_INVALID, "HTTP answer: Transfer-Encoding %s",
                         r->has_length ? "together with Content-Length" : "in HTTP/1.0");
    }
    if (leaves_http(r) || r->status == 204 || r->status == 304) {
        r->state = STATE_END;
    } else if (r->is_chunked) {
        r->state = STATE_CHUNK_SIZE;
    } else if (r->has_length) {
        if (r->left > r->body_max)
            return refuse_large_body(r, err);
        r->state = r->left == 0 ? STATE_END : STATE_BODY_LENGTH;
    } else {
        r->state = STATE_BODY_UNTIL_CLOSE;
    }
    return 0;
}

/* The empty line was read. */
static int finish_head(struct http_response *r, struct http_event *event, struct error *err)
{
    if (r->status < 200 && r->status != 101) {
        if (++r->interim_count > HTTP_INTERIM_MAX) {
            return error_set(err, ERROR_INVALID, "HTTP answer: more than %d interim answers (status %d)",
                             HTTP_INTERIM_MAX, r->status);
        }
        reset_head(r);
        return 0;
    }
    int result = choose_body(r, err);
    if (result == 0)
        event->type = HTTP_EVENT_HEAD;
    return result;
}

/* Moves bytes into the head up to a line's end; then the line is checked. */
static int take_head_bytes(struct http_response *r, struct input *in, struct http_event *event,
                           struct error *err)
{
    const char *start = in->data + in->at;
    const char *lf = memchr(start, '\n', in->len - in->at);
    size_t len = lf == NULL ? in->len - in->at : (size_t) (lf - start) + 1;
    if (len > r->head_capacity - r->head_len) {
        return error_set(err, ERROR_TOO_LARGE, "HTTP answer: the head is larger than %zu bytes",
                         r->head_capacity);
    }
    memcpy(r->head + r->head_len, start, len);
    r->head_len += len;
    in->at += len;
    if (lf == NULL)
        return 0;
    struct str line = {r->head + r->line_start, r->head_len - r->line_start};
    if (!str_ends_with(line, "\r\n"))
        return error_set(err, ERROR_INVALID, "HTTP answer: a line of the head does not end in CR LF");
    line = str_slice(line, 0, line.len - 2);
    int result = r->state == STATE_STATUS_LINE ? take_status_line(r, line, err)
                 : line.len > 0                ? take_header_line(r, line, err)
                                               : finish_head(r, event, err);
    r->line_start = r->head_len;
    return result;
}

/* ---- bodies ------------------------------------------------------------------------------------------ */

/* Hands out what is there of the body or chunk, `left` at most. */
static void take_body_bytes(struct http_response *r, struct input *in, struct http_event *event)
{
    size_t len = in->len - in->at;
    if (len > r->left)
        len = (size_t) r->left;
    event->type = HTTP_EVENT_BODY;
    event->body = (struct str){in->data + in->at, len};
    in->at += len;
    r->left -= len;
    r->body_len += len;
}

static int take_body_until_close(struct http_response *r, struct input *in, struct http_event *event,
                                 struct error *err)
{
    /* One byte more than the maximum is enough to know; that byte is not handed out. */
    r->left = r->body_max - r->body_len;
    if (r->left == 0)
        return refuse_large_body(r, err);
    take_body_bytes(r, in, event);
    return 0;
}

/* A chunk's size, one byte of it or what ends it (RFC 9112, 7.1). */
static int take_size_byte(struct http_response *r, char c, struct error *err)
{
    uint64_t digit;
    if (str_parse_hex_u64((struct str){&c, 1}, &digit)) {
        if (r->left > UINT64_MAX >> 4 || (r->left << 4 | digit) > r->body_max - r->body_len)
            return refuse_large_body(r, err);
        r->left = r->left << 4 | digit;
        r->has_digits = true;
        return 0;
    }
    if (r->has_digits && c == '\r')
        r->state = STATE_CHUNK_SIZE_LF;
    else if (r->has_digits && c == ';')
        r->state = STATE_CHUNK_EXTENSION;
    else if (r->has_digits && (c == ' ' || c == '\t'))
        r->state = STATE_CHUNK_BLANK;
    else
        return error_set(err, ERROR_INVALID, "HTTP answer: a chunk's size is not a hexadecimal number");
    return 0;
}

static int refuse_chunk_line(struct error *err)
{
    return error_set(err, ERROR_INVALID, "HTTP answer: a chunk is malformed");
}

/* What surrounds a chunk's bytes. */
static int take_chunk_byte(struct http_response *r, char c, struct error *err)
{
    if (r->state != STATE_CHUNK_DATA_CR && r->state != STATE_CHUNK_DATA_LF &&
        ++r->line_len > HTTP_CHUNK_LINE_MAX) {
        return error_set(err, ERROR_TOO_LARGE, "HTTP answer: a chunk's first line is longer than %d bytes",
                         HTTP_CHUNK_LINE_MAX);
    }
    if (r->state == STATE_CHUNK_SIZE)
        return take_size_byte(r, c, err);
    if (r->state == STATE_CHUNK_BLANK && (c == ' ' || c == '\t'))
        return 0;
    if (r->state == STATE_CHUNK_BLANK && c == ';') {
        r->state = STATE_CHUNK_EXTENSION;
    } else if (r->state == STATE_CHUNK_EXTENSION && c == '\r') {
        r->state = STATE_CHUNK_SIZE_LF;
    } else if (r->state == STATE_CHUNK_EXTENSION && is_field_char(c)) {
        return 0;
    } else if (r->state == STATE_CHUNK_SIZE_LF && c == '\n') {
        r->line_len = 0;
        r->state = r->left == 0 ? STATE_TRAILER_START : STATE_CHUNK_DATA;
    } else if (r->state == STATE_CHUNK_DATA_CR && c == '\r') {
        r->state = STATE_CHUNK_DATA_LF;
    } else if (r->state == STATE_CHUNK_DATA_LF && c == '\n') {
        r->has_digits = false;
        r->state = STATE_CHUNK_SIZE;
    } else {
        return refuse_chunk_line(err);
    }
    return 0;
}

/* Lines until an empty one; their content is not used. */
static int take_trailer_byte(struct http_response *r, char c, struct error *err)
{
    if (++r->line_len > HTTP_TRAILER_MAX) {
        return error_set(err, ERROR_TOO_LARGE, "HTTP answer: the trailers are larger than %d bytes",
                         HTTP_TRAILER_MAX);
    }
    if (r->state == STATE_TRAILER_START && c == '\r')
        r->state = STATE_LAST_LF;
    else if (r->state == STATE_TRAILER_LINE && c == '\r')
        r->state = STATE_TRAILER_LF;
    else if (r->state == STATE_TRAILER_LF && c == '\n')
        r->state = STATE_TRAILER_START;
    else if (r->state == STATE_LAST_LF && c == '\n')
        r->state = STATE_END;
    else if (r->state != STATE_LAST_LF && r->state != STATE_TRAILER_LF && is_field_char(c))
        r->state = STATE_TRAILER_LINE;
    else
        return error_set(err, ERROR_INVALID, "HTTP answer: a trailer does not end in CR LF");
    return 0;
}

/* ---- the engine -------------------------------------------------------------------------------------- */

/* One step on, with at least one byte there. */
static int step(struct http_response *r, struct input *in, struct http_event *event, struct error *err)
{
    switch ((enum state) r->state) {
    case STATE_STATUS_LINE:
    case STATE_HEADER_LINE:
        return take_head_bytes(r, in, event, err);
    case STATE_BODY_LENGTH:
        take_body_bytes(r, in, event);
        r->state = r->left == 0 ? STATE_END : STATE_BODY_LENGTH;
        return 0;
    case STATE_BODY_UNTIL_CLOSE:
        return take_body_until_close(r, in, event, err);
    case STATE_CHUNK_DATA:
        take_body_bytes(r, in, event);
        r->state = r->left == 0 ? STATE_CHUNK_DATA_CR : STATE_CHUNK_DATA;
        return 0;
    case STATE_CHUNK_SIZE:
    case STATE_CHUNK_BLANK:
    case STATE_CHUNK_EXTENSION:
    case STATE_CHUNK_SIZE_LF:
    case STATE_CHUNK_DATA_CR:
    case STATE_CHUNK_DATA_LF:
        return take_chunk_byte(r, in->data[in->at++], err);
    case STATE_TRAILER_START:
    case STATE_TRAILER_LINE:
    case STATE_TRAILER_LF:
    case STATE_LAST_LF:
        return take_trailer_byte(r, in->data[in->at++], err);
    case STATE_END:
    case STATE_DONE:
        break;
    }
    return 0;
}

static int already_failed(const struct http_response *r, struct error *err)
{
    return error_set(err, (enum error_code) r->failed, "HTTP answer: refused before");
}

int http_response_feed(struct http_response *r, const void *data, size_t len, size_t *used,
                       struct http_event *event, struct error *err)
{
    struct input in = {.data = data, .len = len, .at = 0};
    *event = (struct http_event){.type = HTTP_EVENT_NONE};
    *used = 0;
    if (r->failed != 0)
        return already_failed(r, err);
    int result = 0;
    while (result == 0 && event->type == HTTP_EVENT_NONE && in.at < in.len && r->state < STATE_END)
        result = step(r, &in, event, err);
    if (result == 0 && event->type == HTTP_EVENT_NONE && r->state == STATE_END) {
        r->state = STATE_DONE;
        event->type = HTTP_EVENT_END;
    }
    *used = in.at;
    r->failed = result;
    return result;
}

int http_response_close(struct http_response *r, struct error *err)
{
    if (r->failed != 0)
        return already_failed(r, err);
    if (r->state == STATE_BODY_UNTIL_CLOSE || r->state >= STATE_END) {
        r->state = STATE_DONE;
        return 0;
    }
    if (r->state == STATE_STATUS_LINE && r->head_len == 0) {
        r->failed = error_set(err, ERROR_CLOSED, "the peer closed the connection without an answer");
    } else if (r->state <= STATE_HEADER_LINE) {
        r->failed = error_set(err, ERROR_CLOSED, "the peer closed the connection in the answer's head");
    } else {
        r->failed = error_set(err, ERROR_CLOSED,
                              "the peer closed the connection after %llu bytes of the answer's body",
                              (unsigned long long) r->body_len);
    }
    return r->failed;
}

/* ---- headers ------------------------------------------------------------------------------------------ */

bool http_response_next_header(const struct http_response *r, size_t *position, struct str *name,
                               struct str *value)
{
    struct str rest = str_slice((struct str){r->head, r->head_len}, *position, r->head_len);
    size_t end;
    /* Only lines that were checked stand before line_start; the last of them is the empty one. */
    if (*position >= r->line_start || !str_find(rest, "\r\n", &end) || end == 0)
        return false;
    (void) str_cut(str_slice(rest, 0, end), ':', name, value);
    *value = str_trim(*value);
    *position += end + 2;
    return true;
}

struct str http_response_header(const struct http_response *r, const char *name)
{
    size_t position = 0;
    struct str candidate;
    struct str value;
    while (http_response_next_header(r, &position, &candidate, &value))
        if (str_equal_nocase(candidate, name))
            return value;
    return (struct str){NULL, 0};
}

bool http_response_lists(const struct http_response *r, const char *name, const char *word)
{
    size_t position = 0;
    struct str candidate;
    struct str value;
    while (http_response_next_header(r, &position, &candidate, &value))
        if (str_equal_nocase(candidate, name) && list_has(value, word))
            return true;
    return false;
}
