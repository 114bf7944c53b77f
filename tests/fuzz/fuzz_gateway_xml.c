/* XML of the message gateway: the token, and what an error is called. */
#include "aws/ssmmessages.h"
#include "aws/xml.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char token[SSMMESSAGES_TOKEN_SIZE];
    struct api_answer answer = {.status = 201, .body = {(const char *) data, size}};
    struct error err = ERROR_INIT;
    enum api_class class = ssmmessages_read_create(token, SSMMESSAGES_CONTROL, &answer, NULL, &err);
    if ((class == API_OK) != (token[0] != '\0') || (class == API_OK) != (err.code == 0))
        abort();
    /* The same text whatever the room, or nothing. */
    char small[16];
    bool fits = xml_text(answer.body, "TokenValue", small, sizeof small);
    if (fits && strcmp(small, token) != 0)
        abort();
    if (!fits && small[0] != '\0')
        abort();
    struct str root = xml_root(answer.body);
    const char *body = (const char *) data;
    if (root.len > 0 && (root.ptr <= body || root.ptr + root.len >= body + size))
        abort();
    return 0;
}
