/*
 * guard: memory whose end is the edge of the world. A parser that reads one byte too many, or a writer that
 * writes one too many, dies on the spot, also without a sanitizer.
 */
#ifndef FUMIDAI_TESTS_GUARD_H
#define FUMIDAI_TESTS_GUARD_H

#include <stddef.h>

/*
 * Gives len bytes that end right before an unmapped page; guard_copy fills them. A length of 0 gives a
 * pointer that must not be read at all. Never null: a test that gets no memory ends the program. Release with
 * guard_free(pointer, len).
 */
void *guard_alloc(size_t len);
void *guard_copy(const void *data, size_t len);
void guard_free(void *memory, size_t len);

#endif
