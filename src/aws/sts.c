#include "aws/sts.h"

#include <string.h>

#include "aws/xml.h"
#include "base/time.h"
#include "wire/url.h"

static const struct api_call CALLS[] = {
    [STS_ASSUME_ROLE] = {ENDPOINT_STS, "AssumeRole", 200},
    [STS_ASSUME_ROLE_WITH_WEB_IDENTITY] = {ENDPOINT_STS, "AssumeRoleWithWebIdentity", 200},
};

static void add(struct writer *body, const char *name, struct str value)
{
    if (value.len == 0)
        return;
    writer_char(body, '&');
    writer_text(body, name);
    writer_char(body, '=');
    writer_percent_encode(body, value, NULL);
}

void sts_write_body(struct writer *body, enum sts_action action, const struct sts_role *role)
{
    char digits[10];
    struct writer duration = writer_of(digits, sizeof digits);
    writer_text(body, "Action=");
    writer_text(body, CALLS[action].action);
    writer_text(body, "&Version=2011-06-15");
    add(body, "RoleArn", role->arn);
    add(body, "RoleSessionName", role->session_name);
    if (role->duration_s > 0)
        writer_u64_decimal(&duration, role->duration_s);
    add(body, "DurationSeconds", writer_view(&duration));
    add(body, "ExternalId", role->external_id);
    add(body, "SerialNumber", role->mfa_serial);
    add(body, "TokenCode", role->mfa_code);
    add(body, "WebIdentityToken", role->web_identity_token);
}

int sts_make_request(struct api_request *request, const struct endpoint *endpoint, struct str body,
                     struct error *err)
{
    int result = api_request_start(request, "POST", endpoint, str_from(NULL), err);
    if (result == 0)
        result =
            api_request_add(request, "content-type", STR_LITERAL("application/x-www-form-urlencoded"), err);
    request->body = body;
    return result;
}

/* An element that is missing or does not fit leaves an empty text, which credentials_set refuses. */
static int read_keys(struct credentials *credentials, struct str body, struct error *err)
{
    char id[CREDENTIALS_ID_SIZE], secret[CREDENTIALS_SECRET_SIZE], token[CREDENTIALS_TOKEN_SIZE];
    char expiration[40];
    xml_text(body, "AccessKeyId", id, sizeof id);
    xml_text(body, "SecretAccessKey", secret, sizeof secret);
    bool has_token = xml_text(body, "SessionToken", token, sizeof token);
    bool has_time = xml_text(body, "Expiration", expiration, sizeof expiration);
    int result = credentials_set(credentials, str_from(id), str_from(secret), str_from(token), err);
    if (result == 0 &&
        (!has_token || !has_time ||
         !timestamp_parse_rfc3339(str_trim(str_from(expiration)), &credentials->expires_unix_ms)))
        result =
            error_set(err, ERROR_INVALID, "credentials: no session token, or no time at which it expires");
    if (result != 0)
        credentials_wipe(credentials);
    bytes_wipe(secret, sizeof secret);
    bytes_wipe(token, sizeof token);
    return result;
}

enum api_class sts_read_answer(struct credentials *credentials, enum sts_action action,
                               const struct api_answer *answer, int64_t now_unix_ms,
                               struct api_failure *failure, struct error *err)
{
    memset(credentials, 0, sizeof *credentials);
    const char *lacks =
        action == STS_ASSUME_ROLE ? API_BY_USER : "the role's trust policy does not give this token";
    enum api_class class = api_classify_by(lacks, &CALLS[action], answer, failure, err);
    if (class != API_OK)
        return class;
    if (read_keys(credentials, answer->body, err) != 0) {
        error_prefix(err, "%s: ", CALLS[action].action);
        return API_FAILED;
    }
    credentials->obtained_unix_ms = now_unix_ms;
    return API_OK;
}
