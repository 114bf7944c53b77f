#include "cloud/api_http.h"

#include "base/bytes.h"
#include "wire/http.h"

int api_http_start(struct http_call **http, struct network *network, const struct api_request *request,
                   const struct endpoint *endpoint, int64_t deadline_ms, enum descriptors_use use,
                   void (*done)(struct http_call *http, void *owner), void *owner, struct error *err)
{
    uint8_t memory[API_HTTP_REQUEST_SIZE];
    char target_memory[2 * API_PATH_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    struct writer target = writer_of(target_memory, sizeof target_memory);
    writer_text(&target, request->path);
    if (request->query.len > 0) {
        writer_char(&target, '?');
        writer_str(&target, request->query);
    }
    if (target.failed)
        return error_set(err, ERROR_TOO_LARGE, "the request's path and query are too long");
    struct http_request http_request =
        http_request_begin(&out, request->method, writer_view(&target), request->host);
    for (size_t i = 0; i < request->header_count; i++)
        http_request_header(&http_request, request->headers[i].name, request->headers[i].value);
    http_request_header_text(&http_request, "connection", "close");
    int result = http_request_end(&http_request, request->body, err);
    if (result == 0) {
        struct http_call_request description = {.host = endpoint->host,
                                                .port = endpoint->port,
                                                .tls = endpoint->tls,
                                                .bytes = writer_view(&out),
                                                .deadline_ms = deadline_ms,
                                                .use = use};
        result = http_call_start(http, network, &description, done, owner, err);
    }
    bytes_wipe(memory, sizeof memory);
    return result;
}

struct api_answer api_http_answer(const struct http_call *http)
{
    return (struct api_answer){.status = http_call_status(http),
                               .error_type = http_call_header(http, "x-amzn-errortype"),
                               .date = http_call_header(http, "date"),
                               .body = http_call_body(http)};
}
