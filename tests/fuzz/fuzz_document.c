/* Start messages: whatever arrives, every field of the result is terminated inside its bound. */
#include "tunnel/document.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_terminated(const char *field, size_t size)
{
    if (memchr(field, '\0', size) == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct document_scratch scratch;
    static struct document document;
    struct error err = ERROR_INIT;
    memset(&document, 0xff, sizeof document);
    int result = document_parse(&document, (struct str){(const char *) data, size}, &scratch, &err);
    check_terminated(document.session_id, sizeof document.session_id);
    check_terminated(document.owner, sizeof document.owner);
    check_terminated(document.document_name, sizeof document.document_name);
    check_terminated(document.session_type, sizeof document.session_type);
    check_terminated(document.host, sizeof document.host);
    check_terminated(document.properties, sizeof document.properties);
    if ((result == 0) != (err.text[0] == '\0') || (result == 0 && document.port == 0))
        abort();
    return 0;
}
