/*
 * http: the client's side of HTTP/1.1 (RFC 9112 for the messages, RFC 9110 for their meaning).
 *
 * Writing a request is plain functions over a writer. Reading the answer is an engine: it takes the bytes as
 * they come, in any pieces, touches neither heap nor clock, and hands out events. It reads from memory that
 * the caller lends for the call (a TLS engine's plaintext buffer, say), so a body is never copied here:
 *
 *     http_response_init(&r, HTTP_ORDINARY, head, sizeof head, body_max);
 *     for (;;) {
 *         int result = http_response_feed(&r, data, len, &used, &event, err);   // takes `used` bytes
 *         data += used, len -= used;
 *         ... on result < 0 the connection is of no more use ...
 *         HTTP_EVENT_HEAD: r.status is known, http_response_header() works, until the next init
 *         HTTP_EVENT_BODY: event.body shows a piece of the body inside the caller's data
 *         HTTP_EVENT_END:  the answer is complete; bytes that are left belong to whatever comes next
 *         HTTP_EVENT_NONE: all bytes were taken, more are needed (or END was given before)
 *     }
 *     and when the peer closes: http_response_close()
 *
 * Ask again until HTTP_EVENT_NONE, with no bytes too: an answer's end may need none. Pieces of the body fall
 * as the input falls; everything else is the same however the bytes were cut.
 *
 *     status line ─► header lines ─┬─ 1xx but 101 ──► status line      (15.2; at most HTTP_INTERIM_MAX)
 *                                  ├─ 204, 304, 101, CONNECT 2xx ──────────────────► END   (6.3, 1-2)
 *                                  ├─ Transfer-Encoding: chunked ─► chunks, trailers ─► END   (6.3, 4; 7.1)
 *                                  ├─ Content-Length ─► that many bytes ───────────► END   (6.3, 6)
 *                                  └─ neither ─► bytes until http_response_close ──► END   (6.3, 8)
 *     any state ── what is not allowed ──► failed, for good: every later call gives the code again
 *
 * After 101 and after a 2xx to CONNECT the connection has left HTTP: the bytes behind END are the next
 * protocol's (websocket, TLS).
 *
 * Refused, although RFC 9112 would let some of it pass: lines not ended by CR LF (2.2), folded headers (5.2),
 * blanks before a header's colon (5.1), control characters in values, both Transfer-Encoding and
 * Content-Length (6.3, 3), Content-Lengths that differ or are not numbers (6.3, 5), Transfer-Encoding in
 * HTTP/1.0 (6.1), any coding but one "chunked" (ERROR_UNSUPPORTED). Chunk extensions and trailers are dropped
 * (7.1.1, 7.1.2).
 *
 * Errors of reading: ERROR_INVALID, the answer breaks the rules above; ERROR_TOO_LARGE, one of the bounds
 * below or body_max; ERROR_UNSUPPORTED, another transfer coding; ERROR_CLOSED, the peer closed inside the
 * answer.
 */
#ifndef FUMIDAI_WIRE_HTTP_H
#define FUMIDAI_WIRE_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    HTTP_HEAD_MAX = 16 * 1024, /* status line and headers; what AWS and proxies send has one or two KiB */
    HTTP_HEADERS_MAX = 64,     /* lines; AWS sends about ten */
    HTTP_INTERIM_MAX = 8, /* 1xx answers before the real one; a peer that sends more is broken or hostile */
    HTTP_CHUNK_LINE_MAX = 256,  /* a chunk's size (16 digits at most) and its extensions */
    HTTP_TRAILER_MAX = 4 * 1024 /* all trailer lines together */
};

/* ---- requests --------------------------------------------------------------------------------------- */

/* A request being written. The first problem stays and makes the rest do nothing. */
struct http_request {
    struct writer *out;
    bool wants_length; /* the method is one whose empty body is announced (RFC 9110, 8.6) */
    struct error problem;
};

/* The request line and Host. The target is what stands in the line: "/path?query", or for CONNECT (RFC 9110,
 * 9.3.6) "host:port", which is Host too. */
struct http_request http_request_begin(struct writer *out, const char *method, struct str target,
                                       struct str host);
/* ERROR_INVALID (given by http_request_end) when the name is not a token or the value has a control character
 * other than a tab: CR, LF or NUL in a value would be a header, or a request, of somebody else's making. The
 * error names the header and never quotes the value. */
void http_request_header(struct http_request *request, const char *name, struct str value);
void http_request_header_text(struct http_request *request, const char *name, const char *value);
/* Content-Length (when there is a body, or the method is POST, PUT or PATCH), the empty line, the body. 0, or
 * the first problem; ERROR_TOO_LARGE when the writer ran out of room. After an error nothing of it must be
 * sent.
 */
int http_request_end(struct http_request *request, struct str body, struct error *err);

/* ---- answers ---------------------------------------------------------------------------------------- */

/* What was asked decides whether an answer has a body (6.3). */
enum http_exchange { HTTP_ORDINARY, HTTP_TO_CONNECT };

enum http_event_type { HTTP_EVENT_NONE, HTTP_EVENT_HEAD, HTTP_EVENT_BODY, HTTP_EVENT_END };

struct http_event {
    enum http_event_type type;
    struct str body; /* of HTTP_EVENT_BODY, never empty; points into the data just fed */
};

/* The first group is for reading after HTTP_EVENT_HEAD; the rest is the engine's own. */
struct http_response {
    int status; /* 101, or 200 to 599 */

    enum http_exchange exchange;
    int state;
    int failed; /* the code, once something was refused */
    char *head; /* lent by the caller: the header lines, with their line ends */
    size_t head_capacity;
    size_t head_len;
    size_t line_start; /* where in `head` the line begins that is being read */
    size_t header_count;
    size_t line_len; /* of a chunk's or trailer's line, or of all trailers */
    unsigned interim_count;
    unsigned minor_version;
    bool has_length;
    bool is_chunked;
    bool has_digits;   /* of the chunk's size */
    uint64_t left;     /* bytes of the body or chunk that are still to come; while its size is read, that */
    uint64_t body_len; /* given so far */
    uint64_t body_max;
};

/* Forgets everything and waits for a status line. `head` is the caller's memory for the header lines, at most
 * HTTP_HEAD_MAX bytes of it are used; a head that does not fit is ERROR_TOO_LARGE. body_max bounds the body
 * in bytes, however it is delimited. */
void http_response_init(struct http_response *r, enum http_exchange exchange, char *head,
                        size_t head_capacity, uint64_t body_max);

int http_response_feed(struct http_response *r, const void *data, size_t len, size_t *used,
                       struct http_event *event, struct error *err);

/* The peer closed (cleanly: with TLS, after its close_notify). 0 when the answer is complete, which for a
 * body without length is only known now; then this is its END. ERROR_CLOSED otherwise, saying how far it got.
 */
int http_response_close(struct http_response *r, struct error *err);

/* The value of the first header of that name, without regard to case, blanks around it taken off; ptr is null
 * when there is none. */
struct str http_response_header(const struct http_response *r, const char *name);
/* Walks all headers in order: *position starts at 0; false at the end. */
bool http_response_next_header(const struct http_response *r, size_t *position, struct str *name,
                               struct str *value);
/* Whether a header that is a list (Connection, Upgrade, ...) holds the word, in any of its lines and any case
 * (RFC 9110, 5.6.1). */
bool http_response_lists(const struct http_response *r, const char *name, const char *word);

#endif
