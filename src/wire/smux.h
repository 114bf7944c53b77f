/*
 * smux: version 1 of the multiplexing of port sessions (protocol.md, section 6). The Output payloads of one
 * direction, put end to end, are a byte stream of frames; message boundaries mean nothing.
 *
 *   offset size field (little-endian)
 *        0    1 version: 1
 *        1    1 command: 0 SYN, 1 FIN, 2 PSH, 3 NOP (4 UPD belongs to version 2)
 *        2    2 length of the data
 *        4    4 stream id; the client opens odd ones from 3, NOPs carry 0
 *        8    n data, only with PSH
 *
 * The decoder holds at most a header: data is shown where it lies. It says what was framed, not whether that
 * makes sense: which streams exist is the port session's knowledge.
 */
#ifndef FUMIDAI_WIRE_SMUX_H
#define FUMIDAI_WIRE_SMUX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    SMUX_HEADER_SIZE = 8,               /* version, command, length, stream */
    SMUX_DATA_MAX = 65535,              /* by the format */
    SMUX_DATA_CONVENTIONAL_MAX = 32768, /* what AWS's programs send; we keep to it */
    SMUX_TEXT_MAX = 512 /* data of SYN, OPENED and REFUSED: a name of 253 bytes and a port, or a sentence */
};

/* The last two are ours alone, between ends that have agreed on them
 * (tunnel/handshake): the answer to SYN. */
enum smux_command {
    SMUX_SYN, /* extended: data is the target, "host:port", of a stream that has one of its own */
    SMUX_FIN,
    SMUX_PSH,
    SMUX_NOP,
    SMUX_OPENED = 64, /* data: the address that was reached */
    SMUX_REFUSED      /* data: the reason, for the user; the stream is over in both directions */
};

enum smux_event_type {
    SMUX_EVENT_NONE,  /* the input is used up */
    SMUX_EVENT_FRAME, /* a header: command, stream and length are set; data_len bytes will follow as DATA */
    SMUX_EVENT_DATA   /* the next bytes of the last PSH frame, as far as they are here */
};

struct smux_event {
    enum smux_event_type type;
    enum smux_command command; /* of a DATA event: of the frame that it belongs to */
    uint32_t stream;
    const uint8_t *data; /* DATA: points into the input */
    size_t data_len;     /* FRAME: what the frame announces; DATA: what is at `data`, at least 1 */
};

struct smux_decoder {
    uint8_t header[SMUX_HEADER_SIZE];
    size_t header_len; /* bytes of the header so far */
    size_t data_left;  /* bytes of the current PSH frame that have not been shown */
    uint32_t stream;
    enum smux_command command;
    bool extended; /* our own commands, and data with SYN, are known */
    int failed;    /* sticky error code */
};

void smux_decoder_init(struct smux_decoder *decoder, bool extended);

/*
 * Takes one step through input of `len` bytes and says in *used how many were consumed (with DATA: the bytes
 * shown). Call again with the rest until SMUX_EVENT_NONE. A caller with little room passes less input.
 * ERROR_INVALID (sticky: the stream can't be found again): a version other than 1, an unknown command, or
 * data with a command that has none (or, of ours, more than SMUX_TEXT_MAX).
 */
int smux_decoder_next(struct smux_decoder *decoder, const void *input, size_t len, size_t *used,
                      struct smux_event *event, struct error *err);

void smux_write_header(uint8_t header[SMUX_HEADER_SIZE], enum smux_command command, uint32_t stream,
                       uint16_t data_len);

#endif
