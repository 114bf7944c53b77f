/* The StreamUrl of StartSession: what is accepted can be signed or is refused by the signer, never more. */
#include "aws/stream_url.h"

#include <stdlib.h>
#include <string.h>

#include "aws/sigv4.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct credentials credentials = {.access_key_id = "AK", .secret_access_key = "s"};
    static struct stream_url url;
    struct str text = {(const char *) data, size};
    struct error err = ERROR_INIT;
    struct api_request request;
    struct sigv4_signature signature;
    if (stream_url_parse(&url, text, &err) != 0) {
        if (err.text[0] == '\0' || url.path.len != 0)
            abort();
        return 0;
    }
    if (url.path.ptr < text.ptr || url.path.ptr + url.path.len > text.ptr + text.len)
        abort();
    stream_url_check(&url, STR_LITERAL("eu-west-1"), &err);
    /* A name may be empty, which Go signs and the signer refuses. */
    if (stream_url_make_open(&request, &url.endpoint, &url, &err) == 0 && url.signed_query[0] != '=')
        if (sigv4_sign(&request, &signature, &credentials, STR_LITERAL("eu-west-1"), STR_LITERAL("x"),
                       1700000000123, &err) != 0)
            abort();
    return 0;
}
