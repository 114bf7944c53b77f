/* The credentials endpoint's answer (first byte: the status), and the settings that say where it is. */
#include "aws/credentials.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_answer(int status, struct str body)
{
    static struct credentials credentials;
    struct api_answer answer = {.status = status, .body = body};
    struct error err = ERROR_INIT;
    memset(&credentials, 0, sizeof credentials);
    enum api_class class = credentials_read_answer(&credentials, &answer, 1795361931000, &err);
    if ((class == API_OK) != (credentials.access_key_id[0] != '\0') || (class == API_OK) != (err.code == 0))
        abort();
    if (class == API_OK && credentials_refresh_at(&credentials, 0) < credentials.obtained_unix_ms)
        abort();
}

static void make_plan(struct str text)
{
    static const char *const NAMES[] = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=",
                                        "AWS_CONTAINER_CREDENTIALS_FULL_URI="};
    static struct credentials_plan plan;
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        char variable[2048];
        struct writer w = writer_of(variable, sizeof variable);
        struct api_request request;
        struct error err = ERROR_INIT;
        writer_text(&w, NAMES[i]);
        writer_str(&w, text);
        writer_terminate(&w);
        if (w.failed || w.len == sizeof variable)
            return;
        char *env[] = {variable, NULL};
        if (credentials_make_plan(&plan, env, &err) != 0) {
            if (err.text[0] == '\0')
                abort();
            continue;
        }
        /* A relative URI never leads elsewhere. */
        bool is_ecs = strcmp(plan.endpoint.authority, "169.254.170.2") == 0;
        bool is_asked = credentials_make_request(&request, &plan, text, &err) == 0;
        if ((i == 0 && !is_ecs) || (is_asked && request.path[0] != '/'))
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int STATUSES[] = {200, 200, 200, 400, 404, 429, 500};
    if (size == 0)
        return 0;
    struct str rest = {(const char *) data + 1, size - 1};
    read_answer(STATUSES[data[0] % (sizeof STATUSES / sizeof STATUSES[0])], rest);
    make_plan(rest);
    return 0;
}
