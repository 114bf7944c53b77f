#include "aws/github_token.h"

#include "aws/credentials.h"
#include "base/bytes.h"
#include "base/json.h"

int github_token_make_request(struct api_request *request, struct github_token_request *memory,
                              struct str url, struct str bearer, struct error *err)
{
    struct str location, query;
    struct writer w = writer_of(memory->query, sizeof memory->query);
    struct writer authorization = writer_of(memory->authorization, sizeof memory->authorization);
    str_cut(url, '?', &location, &query);
    int result = endpoint_from_url(&memory->endpoint, location, err);
    if (result != 0) {
        error_prefix(err, "ACTIONS_ID_TOKEN_REQUEST_URL: ");
        return result;
    }
    if (!credentials_may_be_asked(&memory->endpoint))
        return error_set(err, ERROR_DENIED, "ACTIONS_ID_TOKEN_REQUEST_URL: its token must not go over http");
    writer_str(&w, query);
    writer_text(&w, query.len > 0 ? "&" : "");
    writer_text(&w, "audience=sts.amazonaws.com");
    writer_text(&authorization, "bearer ");
    writer_str(&authorization, bearer);
    if (w.failed || authorization.failed)
        return error_set(err, ERROR_TOO_LARGE, "ACTIONS_ID_TOKEN_REQUEST_URL or -_TOKEN is too long");
    if (!endpoint_path_is_valid(query))
        return error_set(err, ERROR_INVALID, "ACTIONS_ID_TOKEN_REQUEST_URL: a byte in it must be escaped");
    result = api_request_start(request, "GET", &memory->endpoint, str_from(NULL), err);
    request->query = writer_view(&w);
    if (result == 0)
        result = api_request_add(request, "accept", STR_LITERAL("application/json"), err);
    if (result == 0)
        result = api_request_add(request, "authorization", writer_view(&authorization), err);
    return result;
}

int github_token_read_answer(const struct api_answer *answer, char *token, size_t capacity, struct error *err)
{
    enum { TOKENS = 64 };
    struct json_token tokens[TOKENS];
    struct json doc;
    bool may_pass = answer->status >= 500 || answer->status == 429;
    token[0] = '\0';
    if (answer->status != 200)
        return error_set(err, may_pass ? ERROR_UNAVAILABLE : ERROR_DENIED,
                         "GitHub's token service: status %d", answer->status);
    int result = json_parse(&doc, answer->body, tokens, TOKENS, err);
    if (result == 0)
        result = api_json_text(&doc, json_root(&doc), "value", token, capacity, err);
    if (result == 0 && token[0] == '\0')
        result = error_set(err, ERROR_INVALID, "value is missing");
    if (result != 0)
        error_prefix(err, "GitHub's token service: ");
    return result;
}
