/* IAM Identity Center: the cached token, which can be written and read again, and the two answers. */
#include "aws/sso.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_cache(struct str text)
{
    static struct sso_token token, again;
    static char memory[8 * SSO_CACHE_MAX];
    struct writer w = writer_of(memory, sizeof memory);
    struct error err = ERROR_INIT;
    if (sso_read_cache(&token, text, &err) != 0) {
        if (err.text[0] == '\0' || token.access_token[0] != '\0')
            abort();
        return;
    }
    sso_write_cache(&w, text, &token);
    /* What is written is read, unless it is too much or, with a year of five digits, not RFC 3339. */
    if (!w.failed && sso_read_cache(&again, writer_view(&w), NULL) == 0 &&
        (strcmp(again.access_token, token.access_token) != 0 ||
         strcmp(again.client_secret, token.client_secret) != 0))
        abort();
}

static void read_answers(struct str text)
{
    static struct sso_token token;
    static struct credentials keys;
    struct api_answer answer = {.status = 200, .body = text};
    struct error err = ERROR_INIT;
    memset(&token, 0, sizeof token);
    if (sso_read_refresh(&token, &answer, 1000, &err) == 0 && token.access_token[0] == '\0')
        abort();
    if ((sso_read_keys(&keys, &answer, 1000, &err) == 0) != (keys.access_key_id[0] != '\0'))
        abort();
    answer.status = 400;
    if (sso_read_keys(&keys, &answer, 1000, &err) == 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *) data, size};
    read_cache(text);
    read_answers(text);
    return 0;
}
