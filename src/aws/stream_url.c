#include "aws/stream_url.h"

#include <string.h>

#include "base/num.h"
#include "wire/url.h"

/* --- the query that is signed --- */

/* Both as they are signed. */
struct parameter {
    struct str name;
    struct str value;
};

struct parameters {
    struct parameter sorted[STREAM_URL_PARAMETERS_MAX];
    size_t count;
    char memory[STREAM_URL_QUERY_SIZE];
    struct writer out; /* of `memory` */
};

static int compare(struct str a, struct str b)
{
    size_t common = num_min_size(a.len, b.len);
    int order = common == 0 ? 0 : memcmp(a.ptr, b.ptr, common);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static bool is_before(const struct parameter *a, const struct parameter *b)
{
    int order = compare(a->name, b->name);
    return order < 0 || (order == 0 && compare(a->value, b->value) < 0);
}

/* Decoded as a form's field is, '+' as a blank, and escaped by SigV4's rule. */
static struct str escape_again(struct parameters *parameters, struct str text)
{
    char plain[SSM_STREAM_URL_SIZE];
    char blanks[SSM_STREAM_URL_SIZE];
    struct writer decoded = writer_of(plain, sizeof plain);
    size_t start = parameters->out.len;
    if (text.len > sizeof blanks)
        parameters->out.failed = true;
    text.len = num_min_size(text.len, sizeof blanks);
    for (size_t i = 0; i < text.len; i++)
        blanks[i] = text.ptr[i] == '+' ? ' ' : text.ptr[i];
    writer_percent_decode(&decoded, (struct str){blanks, text.len});
    writer_percent_encode(&parameters->out, writer_view(&decoded), NULL);
    return str_slice(writer_view(&parameters->out), start, parameters->out.len);
}

static void insert(struct parameters *parameters, struct parameter parameter)
{
    size_t at = parameters->count++;
    while (at > 0 && is_before(&parameter, &parameters->sorted[at - 1])) {
        parameters->sorted[at] = parameters->sorted[at - 1];
        at--;
    }
    parameters->sorted[at] = parameter;
}

static int read_parameters(struct parameters *parameters, struct str query, struct error *err)
{
    parameters->count = 0;
    parameters->out = writer_of(parameters->memory, sizeof parameters->memory);
    while (query.len > 0) {
        struct str field, name, value, rest;
        (void) str_cut(query, '&', &field, &rest);
        query = rest;
        /* Go drops what has a ';' in it: programs differ in whether it separates. */
        if (field.len == 0 || memchr(field.ptr, ';', field.len) != NULL)
            continue;
        if (parameters->count == STREAM_URL_PARAMETERS_MAX)
            return error_set(err, ERROR_TOO_LARGE, "more than %d parameters", STREAM_URL_PARAMETERS_MAX);
        (void) str_cut(field, '=', &name, &value);
        struct parameter parameter = {.name = escape_again(parameters, name)};
        parameter.value = escape_again(parameters, value);
        insert(parameters, parameter);
    }
    return parameters->out.failed ? error_set(err, ERROR_TOO_LARGE, "the query is too long") : 0;
}

static bool is_presigned(const struct parameters *parameters)
{
    static const char *const names[] = {"Algorithm",     "Credential", "Date",          "Expires",
                                        "SignedHeaders", "Signature",  "Security-Token"};
    static const char prefix[] = "X-Amz-";
    for (size_t i = 0; i < parameters->count; i++) {
        struct str name = parameters->sorted[i].name;
        struct str rest = str_slice(name, strlen(prefix), name.len);
        for (size_t n = 0; n < sizeof names / sizeof names[0]; n++)
            if (str_equal_nocase(str_slice(name, 0, strlen(prefix)), prefix) &&
                str_equal_nocase(rest, names[n]))
                return true;
    }
    return false;
}

static int read_query(struct stream_url *url, struct error *err)
{
    struct parameters parameters;
    struct writer w = writer_of(url->signed_query, sizeof url->signed_query - 1);
    int result = read_parameters(&parameters, url->query, err);
    if (result != 0)
        return result;
    for (size_t i = 0; i < parameters.count; i++) {
        writer_text(&w, i > 0 ? "&" : "");
        writer_str(&w, parameters.sorted[i].name);
        writer_char(&w, '=');
        writer_str(&w, parameters.sorted[i].value);
    }
    url->is_presigned = is_presigned(&parameters);
    return w.failed ? error_set(err, ERROR_TOO_LARGE, "the query is too long") : 0;
}

/* --- the URL --- */

static int split(struct stream_url *url, struct str text, struct error *err)
{
    struct url parts;
    if (text.len >= SSM_STREAM_URL_SIZE)
        return error_set(err, ERROR_TOO_LARGE, "longer than %d bytes", SSM_STREAM_URL_SIZE - 1);
    int result = url_split(&parts, text, err);
    if (result != 0)
        return result;
    if (parts.scheme != URL_WSS && parts.scheme != URL_WS)
        return error_set(err, ERROR_INVALID, "the URL does not begin with wss://");
    if (parts.has_userinfo || parts.path.len == 0)
        return error_set(err, ERROR_INVALID, "the URL has %s", parts.has_userinfo ? "a user" : "no path");
    endpoint_from_url_host(&url->endpoint, &parts);
    url->path = parts.path;
    url->query = parts.query;
    return read_query(url, err);
}

int stream_url_parse(struct stream_url *url, struct str text, struct error *err)
{
    memset(url, 0, sizeof *url);
    int result = split(url, text, err);
    if (result != 0) {
        memset(url, 0, sizeof *url);
        error_prefix(err, "StreamUrl: ");
    }
    return result;
}

int stream_url_check(const struct stream_url *url, struct str region, struct error *err)
{
    struct str host = str_from(url->endpoint.host);
    if (url->endpoint.tls && endpoint_is_aws_host(ENDPOINT_SSMMESSAGES, region, host))
        return 0;
    return error_set(err, ERROR_DENIED,
                     "StreamUrl: %s://%s is not AWS's message gateway in %.*s, so the session's token is not "
                     "sent there; if it is yours, set AWS_ENDPOINT_URL_SSMMESSAGES",
                     url->endpoint.tls ? "wss" : "ws", url->endpoint.authority, STR_ARG(region));
}

int stream_url_make_open(struct api_request *request, const struct endpoint *endpoint,
                         const struct stream_url *url, struct error *err)
{
    int result = api_request_start(request, "GET", endpoint, url->path, err);
    if (result == 0)
        request->query = str_from(url->signed_query);
    return result;
}
