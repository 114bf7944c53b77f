/*
 * utf8: UTF-8 as RFC 3629 has it: no surrogates, no overlong forms, nothing beyond U+10FFFF. What comes from
 * outside may be anything, so whoever shows or cuts it asks here.
 */
#ifndef FUMIDAI_BASE_UTF8_H
#define FUMIDAI_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

enum { UTF8_SIZE = 4 /* the longest sequence */ };

/* The length of the sequence that the text begins with, and the character that it stands for; 0 when the text
 * is empty or does not begin with one. */
size_t utf8_decode(struct str text, uint32_t *code);
/* The length; the code is at most 0x10FFFF. */
size_t utf8_encode(uint32_t code, char out[UTF8_SIZE]);

/* The first `max` bytes at most, not ending inside a sequence: for texts that are cut to a bound. */
struct str utf8_limit(struct str text, size_t max);
/* Copies as much as fits, by utf8_limit, and terminates. The capacity is at least 1. */
void utf8_copy_cut(struct str text, char *out, size_t capacity);

#endif
