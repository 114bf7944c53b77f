#include "base/env.h"

#include <string.h>

struct str env_get(char *const *env, const char *name)
{
    size_t name_len = strlen(name);
    for (; env != NULL && *env != NULL; env++)
        if (strncmp(*env, name, name_len) == 0 && (*env)[name_len] == '=')
            return str_from(*env + name_len + 1);
    return str_from(NULL);
}

struct str env_get_first(char *const *env, const char *const *names, const char **found)
{
    for (; *names != NULL; names++) {
        struct str value = env_get(env, *names);
        if (value.len > 0) {
            *found = *names;
            return value;
        }
    }
    *found = NULL;
    return str_from(NULL);
}

int env_get_bool(char *const *env, const char *name, bool *flag, struct error *err)
{
    struct str value = env_get(env, name);
    *flag = str_equal_nocase(value, "true");
    if (*flag || value.len == 0 || str_equal_nocase(value, "false"))
        return 0;
    return error_set(err, ERROR_INVALID, "%s=%.*s: must be true or false", name, STR_ARG(value));
}
