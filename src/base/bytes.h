/*
 * bytes: reading and writing inside bounds, with a sticky error, so that a parser can read ten fields and ask
 * once whether all were there. After a failure every read gives zeroes and every write does nothing.
 */
#ifndef FUMIDAI_BASE_BYTES_H
#define FUMIDAI_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct reader {
    const uint8_t *at;
    size_t left;
    bool failed; /* something was asked for that was not there */
};

struct reader reader_of(const void *data, size_t len);
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16be(struct reader *r);
uint32_t reader_u32be(struct reader *r);
uint64_t reader_u64be(struct reader *r);
uint16_t reader_u16le(struct reader *r);
uint32_t reader_u32le(struct reader *r);
const uint8_t *reader_bytes(struct reader *r, size_t len); /* null on failure; points into the input */
void reader_copy(struct reader *r, void *out, size_t len); /* zeroes on failure */
void reader_skip(struct reader *r, size_t len);

struct writer {
    uint8_t *start;
    size_t len;
    size_t capacity;
    bool failed; /* something did not fit; what was written before stands, nothing partial was added */
};

struct writer writer_of(void *memory, size_t capacity);
void writer_u8(struct writer *w, uint8_t value);
void writer_u16be(struct writer *w, uint16_t value);
void writer_u32be(struct writer *w, uint32_t value);
void writer_u64be(struct writer *w, uint64_t value);
void writer_u16le(struct writer *w, uint16_t value);
void writer_u32le(struct writer *w, uint32_t value);
void writer_bytes(struct writer *w, const void *data, size_t len);
void writer_fill(struct writer *w, uint8_t value, size_t count);
void writer_str(struct writer *w, struct str text);
void writer_text(struct writer *w, const char *terminated);
void writer_char(struct writer *w, char c);
void writer_u64_decimal(struct writer *w, uint64_t value);
void writer_i64_decimal(struct writer *w, int64_t value);
void writer_hex(struct writer *w, const void *data, size_t len); /* lower case */
/* printf wants room for a terminator, so one byte more than the text must be free. */
void writer_format(struct writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
struct str writer_view(const struct writer *w); /* what was written so far */
/* Terminates in place (the terminator is not counted in len); the empty string when failed or full. */
const char *writer_terminate(struct writer *w);

/* Overwrites secrets in a way the compiler may not remove. */
void bytes_wipe(void *memory, size_t len);

/* Base64 of RFC 4648, with padding. */
void writer_base64(struct writer *w, const void *data, size_t len);

#endif
