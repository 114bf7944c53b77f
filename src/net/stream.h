/*
 * stream: bytes to and from a named host, over TCP or TLS 1.2, directly or through an HTTP proxy.
 *
 *     dialling ─► (CONNECT) ─► (TLS handshake) ─► OPEN ─► ENDED: the peer sends no more; the rest can be read
 *         └───────────┴──────────────┴─────────────┴────► FAILED: stream_error says in which step and why
 *
 * The opening as a whole has a deadline, and each step of it STREAM_STEP_MS, so that the message can say what
 * was waited for. TLS is always end to end: the certificate must be for `host`, a proxy sees only encrypted
 * bytes.
 *
 * `changed` tells the owner that something has happened, who then asks what: open, bytes received, room to
 * send after there was none, ended, failed. It is called from the loop only, never from inside one of the
 * functions here, and is the last thing done then: the owner may close the stream in it. An owner that stops
 * reading before stream_recv_buf gave null is not told of those bytes again, and comes back when it wants
 * them.
 *
 * What is sent leaves at the end of the turn (the loop's flush stage), or when a TLS record is full: many
 * small messages of one turn become one record and one system call.
 *
 * A step of a handshake is milliseconds of arithmetic. 30 sessions that open at once must not make all others
 * wait for all of them, so a turn has one such step: streams wait in a row, in struct network.
 *
 * Memory: a plain stream allocates two buffers of the sizes that its owner names; one with TLS BearSSL's
 * contexts, its two record buffers, and one for records as they come (so that many small ones cost one system
 * call): three times 16 KiB and 8 more, of which only touched pages count. All of it once, in stream_open or
 * when the handshake starts, released by stream_close. Plaintext is wiped on release.
 */
#ifndef FUMIDAI_NET_STREAM_H
#define FUMIDAI_NET_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/ip.h"
#include "host/descriptors.h"
#include "net/network.h"

enum {
    STREAM_STEP_MS = 10 * 1000,      /* dialling, CONNECT, and handshake each */
    STREAM_HOST_SIZE = 254,          /* as DNS_NAME_SIZE */
    STREAM_CONNECT_ANSWER_MAX = 4096 /* a proxy's response head */
};

enum stream_state { STREAM_OPENING, STREAM_OPEN, STREAM_ENDED, STREAM_FAILED };

struct stream_options {
    const char *host; /* name, or address without brackets; copied */
    uint16_t port;
    bool tls;
    int64_t open_deadline_ms;
    size_t plain_recv_bytes; /* without TLS: the buffers' sizes; 0 is 4096 */
    size_t plain_send_bytes;
    /* as in struct dial_request; asked about the proxy's address when there is one */
    int (*permit)(void *context, const struct ip *address, uint16_t port, struct error *err);
    void *context;
    enum descriptors_use use;
};

struct stream;

/* HTTPS_PROXY concerns streams with TLS only. The stream is in STREAM_OPENING when this returns 0. */
int stream_open(struct stream **stream, struct network *network, const struct stream_options *options,
                void (*changed)(struct stream *stream, void *owner), void *owner, struct error *err);
/* For struct network: one step of the first handshake that waits. */
void stream_run_handshake(struct loop_hook *hook);
void stream_close(struct stream *stream); /* at any time; null does no harm; unsent bytes are dropped */

enum stream_state stream_state(const struct stream *stream);
const struct error *stream_error(const struct stream *stream); /* empty unless STREAM_FAILED */
/* The peer's end was orderly: FIN on TCP, close_notify on TLS. Otherwise the bytes may have been cut
 * short. */
bool stream_ended_cleanly(const struct stream *stream);

/* Bytes from the peer, in place; null when there are none now. They stay until acknowledged. */
const uint8_t *stream_recv_buf(struct stream *stream, size_t *len);
void stream_recv_ack(struct stream *stream, size_t len);

/* Copies what fits; returns how much that was. When it is less than `len`, `changed` comes once there is
 * room. */
size_t stream_send(struct stream *stream, const void *data, size_t len);

#endif
