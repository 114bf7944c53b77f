/*
 * files: small files read whole and written whole.
 */
#ifndef FUMIDAI_HOST_FILES_H
#define FUMIDAI_HOST_FILES_H

#include <stddef.h>

#include "base/error.h"
#include "base/str.h"

enum { FILES_PATH_SIZE = 4096 /* PATH_MAX */ };

/* Reads all of it. ERROR_NOT_FOUND when there is no such file, ERROR_SYSTEM with the reason, ERROR_TOO_LARGE
 * when it has more than `capacity` bytes: nothing is cut. The path is in the text, the content never. */
int files_read(const char *path, void *memory, size_t capacity, struct str *text, struct error *err);

/* Writes beside the file (its name and ".new"), for the owner only, and renames: a reader sees the old text
 * or the new one, also when the power fails in between. */
int files_replace(const char *path, struct str text, struct error *err);

#endif
