/*
 * env: variables out of an environment that is handed in, because pure code does not read the
 * process's own. `env` is the array that main() gets: "NAME=value" strings, a null pointer at the end; a null
 * array is the empty environment.
 */
#ifndef FUMIDAI_BASE_ENV_H
#define FUMIDAI_BASE_ENV_H

#include <stdbool.h>

#include "base/error.h"
#include "base/str.h"

/* The first variable of that name. A variable that is set to nothing reads as one that is not set (the empty
 * view), as in AWS's SDKs. */
struct str env_get(char *const *env, const char *name);
/* The first of several names, in the order given, that is set to something; the names end in a null pointer.
 * *found is that name, null when none is set. */
struct str env_get_first(char *const *env, const char *const *names, const char **found);

/* "true" or "false" in any case, as AWS's SDKs take their switches; unset is false. Anything else is
 * ERROR_INVALID, naming the variable and its value: a mistyped FIPS switch must not mean "no FIPS". */
int env_get_bool(char *const *env, const char *name, bool *flag, struct error *err);

#endif
