#include "aws/instance_metadata.h"

#include "base/bytes.h"
#include "base/env.h"

#define CREDENTIALS_PATH "/latest/meta-data/iam/security-credentials/"

int instance_metadata_find(struct endpoint *endpoint, char *const *env, struct error *err)
{
    bool disabled;
    struct str url = env_get(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT");
    struct str mode = env_get(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    bool ipv6 = str_equal_nocase(mode, "IPv6");
    if (env_get_bool(env, "AWS_EC2_METADATA_DISABLED", &disabled, NULL) == 0 && disabled)
        return error_set(err, ERROR_DENIED, "AWS_EC2_METADATA_DISABLED is true");
    if (mode.len > 0 && !ipv6 && !str_equal_nocase(mode, "IPv4"))
        return error_set(err, ERROR_INVALID, "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE must be IPv4 or IPv6");
    if (url.len == 0)
        url = ipv6 ? STR_LITERAL("http://[fd00:ec2::254]") : STR_LITERAL("http://169.254.169.254");
    int result = endpoint_from_url(endpoint, url, err);
    if (result != 0)
        error_prefix(err, "AWS_EC2_METADATA_SERVICE_ENDPOINT: ");
    return result;
}

int instance_metadata_make_token_request(struct api_request *request, const struct endpoint *endpoint,
                                         struct error *err)
{
    int result = api_request_start(request, "PUT", endpoint, STR_LITERAL("/latest/api/token"), err);
    return result != 0
               ? result
               : api_request_add(request, "x-aws-ec2-metadata-token-ttl-seconds", STR_LITERAL("300"), err);
}

int instance_metadata_make_request(struct api_request *request, const struct endpoint *endpoint,
                                   const char *token, const char *role, struct error *err)
{
    char path[sizeof CREDENTIALS_PATH + INSTANCE_METADATA_ROLE_SIZE];
    struct writer w = writer_of(path, sizeof path);
    writer_text(&w, CREDENTIALS_PATH);
    writer_text(&w, role);
    if (w.failed)
        return error_set(err, ERROR_TOO_LARGE, "the role's name is too long");
    int result = api_request_start(request, "GET", endpoint, writer_view(&w), err);
    return result != 0 ? result : api_request_add(request, "x-aws-ec2-metadata-token", str_from(token), err);
}

static bool is_printable(char c)
{
    return c > ' ' && c <= '~';
}

int instance_metadata_read_line(const struct api_answer *answer, char *out, size_t capacity,
                                struct error *err)
{
    struct str line, rest;
    bool may_pass = answer->status >= 500 || answer->status == 429;
    out[0] = '\0';
    if (answer->status != 200) {
        enum error_code code = answer->status == 404 ? ERROR_NOT_FOUND
                               : may_pass            ? ERROR_UNAVAILABLE
                                                     : ERROR_DENIED;
        return error_set(err, code, "the instance's metadata service: status %d", answer->status);
    }
    str_cut(str_trim(answer->body), '\n', &line, &rest);
    line = str_trim(line);
    if (line.len == 0 || !str_all(line, is_printable) || !str_copy(line, out, capacity))
        return error_set(err, ERROR_INVALID, "the instance's metadata service: an answer of an unknown kind");
    return 0;
}
