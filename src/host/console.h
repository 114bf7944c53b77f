/*
 * console: what a person or a script asked for, on stdout, and why it could not be had, on stderr. No buffer
 * between: what was written is out, or the caller hears of it.
 */
#ifndef FUMIDAI_HOST_CONSOLE_H
#define FUMIDAI_HOST_CONSOLE_H

#include <stdbool.h>

#include "base/str.h"

/* All of it, however long the reader takes; false when it can't be written. */
bool console_write(int fd, struct str text);
/* One message of at most 1 KiB; a longer one is cut. */
bool console_format(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
