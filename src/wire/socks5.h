/*
 * socks5: the server's side of SOCKS5 (RFC 1928, without authentication), of SOCKS4 and 4a, and of HTTP's
 * CONNECT (RFC 9110, 9.3.6), all on one port: the first byte tells which it is. Names are not resolved here:
 * that is done at the far end.
 *
 *                 the request is complete            socks5_answer(OPENED)
 *     READING ───────────────────────────► WANTED ─────────────────────────► OPEN: the rest is the stream's
 *        │                                   │ socks5_answer, any other
 *        └── what is not served ─────────────┴──────────► REFUSED: send what is in `out`, then close
 *
 * Bytes go in by socks5_feed, which takes none behind the request. Bytes for the client are at socks5_out_buf
 * in every state (SOCKS5 has one answer before the request). Only CONNECT is served: no BIND, no UDP.
 *
 * How long a client may take is the caller's to bound.
 */
#ifndef FUMIDAI_WIRE_SOCKS5_H
#define FUMIDAI_WIRE_SOCKS5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

enum {
    SOCKS5_HOST_SIZE = 254,    /* the longest name DNS can hold, and the terminator */
    SOCKS5_REQUEST_SIZE = 520, /* SOCKS4a: 8 bytes, a user (255), a name (255), their ends; all others less */
    SOCKS5_HTTP_HEAD_MAX = 8192, /* as servers have it; only the first line is kept */
    SOCKS5_OUT_SIZE = 512        /* a refusal in HTTP with its reason */
};

enum socks5_state { SOCKS5_READING, SOCKS5_WANTED, SOCKS5_OPEN, SOCKS5_REFUSED };

/* What became of it. The protocols have these words (SOCKS4 only yes and no). */
enum socks5_answer {
    SOCKS5_OPENED,
    SOCKS5_FAILED,           /* for any other reason */
    SOCKS5_NOT_ALLOWED,      /* by a policy */
    SOCKS5_HOST_UNREACHABLE, /* the name is not found, or there is no route */
    SOCKS5_CONNECTION_REFUSED,
    SOCKS5_TIMED_OUT
};

struct socks5 {
    /* for reading, from WANTED on */
    enum socks5_state state;
    char host[SOCKS5_HOST_SIZE]; /* a name, or an address without brackets */
    uint16_t port;

    /* private */
    int protocol;
    bool has_method; /* SOCKS5: the request follows */
    uint8_t request[SOCKS5_REQUEST_SIZE];
    size_t len;
    size_t head_len; /* HTTP: of the whole head */
    size_t line_len; /* HTTP: of the header line that is being skipped */
    uint8_t out[SOCKS5_OUT_SIZE];
    size_t out_len;
    size_t out_sent;
};

void socks5_init(struct socks5 *s);
/* Takes bytes while READING; *used says how many. Negative when the client is refused (and from then on):
 * ERROR_INVALID, ERROR_UNSUPPORTED, ERROR_TOO_LARGE, saying what was asked for. */
int socks5_feed(struct socks5 *s, const void *data, size_t len, size_t *used, struct error *err);
/* Once, while WANTED. `why` is shown to clients of HTTP. */
void socks5_answer(struct socks5 *s, enum socks5_answer answer, struct str why);

/* What has to be sent to the client next; null when there is nothing. */
const uint8_t *socks5_out_buf(const struct socks5 *s, size_t *len);
void socks5_out_ack(struct socks5 *s, size_t len);

#endif
