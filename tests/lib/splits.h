/*
 * splits: the same bytes in every way they may arrive. For the test of a parser that takes its input in
 * pieces:
 *
 *     struct splits s = splits_of(input, input_len);
 *     while (splits_next(&s)) {                  // a parser that has seen nothing yet
 *         while (splits_piece(&s, &piece, &len)) // the pieces in order
 *             ...
 *     }                                          // the last splits_next releases the memory
 *
 * The ways: whole; cut in two at every place; in pieces of 1, 2, 3, 5, 7, 11 and 13 bytes; for inputs up to
 * SPLITS_THREE_MAX bytes also cut in three at every pair of places. Every piece ends right before an unmapped
 * page and holds only until the next call.
 */
#ifndef FUMIDAI_TESTS_SPLITS_H
#define FUMIDAI_TESTS_SPLITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Three pieces are n * n / 2 ways: 2,000 here. */
enum { SPLITS_THREE_MAX = 64 };

struct splits {
    const uint8_t *data;
    size_t len;
    uint8_t *memory; /* len bytes, guarded */
    int stage;
    size_t first;  /* length of the first piece, or of all pieces */
    size_t second; /* length of the second; 0 when there are two pieces or many */
    size_t at;
    unsigned pieces; /* given so far */
};

struct splits splits_of(const void *data, size_t len);
bool splits_next(struct splits *s);
bool splits_piece(struct splits *s, const uint8_t **piece, size_t *len);

#endif
