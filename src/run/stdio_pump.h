/*
 * stdio_pump: standard input and output as one end of a connection: whatever serves sockets serves them, too.
 *
 *     fd 0 ──► buffer ──► socket pair ──► stdio_pump_open's *fd
 *     fd 1 ◄── buffer ◄── socket pair ◄──
 *
 * The end of standard input becomes the connection's half-close. When the other end has closed, and what it
 * said is written, it is over; also when standard output can't be written any more.
 *
 * Other processes share descriptors 0 and 1, so they keep their flags. So they are only touched when they are
 * ready, with no more than they take without blocking: a pipe has room for PIPE_BUF when it is writable. A
 * regular file is always ready.
 */
#ifndef FUMIDAI_RUN_STDIO_PUMP_H
#define FUMIDAI_RUN_STDIO_PUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "host/loop.h"

enum {
    STDIO_PUMP_BUFFER = 32 * 1024, /* each way: as much as a full record twice */
    STDIO_PUMP_WRITE_MAX = 4096    /* PIPE_BUF */
};

struct stdio_pump {
    void (*over)(struct stdio_pump *pump); /* from the loop, once; the last thing done then */

    /* private */
    struct loop *loop;
    struct loop_watch input;
    struct loop_watch output;
    struct loop_watch pair;
    int fd; /* our end of the pair */
    struct loop_hook hook;
    bool input_is_file; /* no event tells about it, and it never blocks */
    bool output_is_file;
    bool input_ready;
    bool output_ready;
    bool pair_readable;
    bool pair_writable;
    bool input_ended;
    bool pair_ended;
    bool is_over;
    size_t to_pair_len;
    size_t to_pair_sent;
    size_t to_output_len;
    size_t to_output_sent;
    uint8_t to_pair[STDIO_PUMP_BUFFER];
    uint8_t to_output[STDIO_PUMP_BUFFER];
};

/* *fd is the other end, the caller's, non-blocking. */
int stdio_pump_open(struct stdio_pump *pump, struct loop *loop, void (*over)(struct stdio_pump *pump),
                    int *fd, struct error *err);
void stdio_pump_close(struct stdio_pump *pump); /* twice does no harm */

#endif
