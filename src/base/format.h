/*
 * format: the part of printf that this program uses.
 *
 * C's printf brings floating point, wide characters and buffered files into a static program: 20 KB that
 * nobody here calls. This one knows
 *
 *     %s %c %d %u %x %%      with the lengths l, ll and z for the numbers
 *     %.*s %.12s             at most so many bytes of a string that need not be terminated
 *     %+d %02u %5d %0*u      sign, zeroes or spaces in front up to a width
 *
 * and writes anything else as it stands in the format, so that a mistake shows. Callers are declared with
 * gcc's format attribute: arguments are checked when they are compiled, as for printf.
 */
#ifndef FUMIDAI_BASE_FORMAT_H
#define FUMIDAI_BASE_FORMAT_H

#include <stdarg.h>
#include <stddef.h>

/* As vsnprintf: terminates unless the capacity is 0, cuts what does not fit, and returns
 * the length that all of it has. */
size_t format_into(char *start, size_t capacity, const char *format, va_list arguments)
    __attribute__((format(printf, 3, 0)));

/* The same, with the arguments at hand. */
size_t format_text(char *out, size_t capacity, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
