/* What `aws login` leaves in a file, which can be written and read again; and the answer to a refresh. */
#include "aws/login_cache.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct login_token token, again;
    static char memory[8 * LOGIN_CACHE_MAX];
    struct str text = {(const char *) data, size};
    struct writer w = writer_of(memory, sizeof memory);
    struct api_answer answer = {.status = 200, .body = text};
    struct error err = ERROR_INIT;
    int result = login_cache_read(&token, text, 1000, &err);
    if ((result == 0) != (token.keys.session_token[0] != '\0') || (result == 0) != (err.code == ERROR_NONE))
        abort();
    if (result == 0) {
        login_cache_write(&w, text, &token);
        if (!w.failed && login_cache_read(&again, writer_view(&w), 1000, NULL) == 0 &&
            strcmp(again.key, token.key) != 0)
            abort();
    }
    if (login_cache_read_refresh(&token, &answer, 1000, NULL) == 0 && token.keys.session_token[0] == '\0')
        abort();
    return 0;
}
