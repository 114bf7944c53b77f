#include "aws/sso.h"

#include <bearssl_hash.h>
#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "wire/url.h"

enum { TOKENS = 128, MARGIN_MS = 60 * 1000 };

static const char EXPIRED[] = "the session has expired: log in again with `aws sso login`";

void sso_cache_name(struct str key, char out[SSO_FILE_NAME_SIZE])
{
    br_sha1_context context;
    uint8_t digest[br_sha1_SIZE];
    struct writer w = writer_of(out, SSO_FILE_NAME_SIZE);
    br_sha1_init(&context);
    br_sha1_update(&context, key.ptr, key.len);
    br_sha1_out(&context, digest);
    writer_hex(&w, digest, sizeof digest);
    writer_text(&w, ".json");
    writer_terminate(&w);
}

/* --- the file --- */

static const struct {
    const char *name;
    size_t offset, capacity;
} MEMBERS[] = {
    {"accessToken", offsetof(struct sso_token, access_token), SSO_TOKEN_SIZE},
    {"refreshToken", offsetof(struct sso_token, refresh_token), SSO_TOKEN_SIZE},
    {"clientId", offsetof(struct sso_token, client_id), SSO_ID_SIZE},
    {"clientSecret", offsetof(struct sso_token, client_secret), SSO_SECRET_SIZE},
};
enum { MEMBER_COUNT = sizeof MEMBERS / sizeof MEMBERS[0] };

static int read_members(struct sso_token *token, const struct json *doc, size_t count, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        int result = api_json_text(doc, json_root(doc), MEMBERS[i].name, (char *) token + MEMBERS[i].offset,
                                   MEMBERS[i].capacity, err);
        if (result != 0)
            return result;
    }
    return token->access_token[0] != '\0' ? 0 : error_set(err, ERROR_INVALID, "accessToken is missing");
}

int sso_read_cache(struct sso_token *token, struct str text, struct error *err)
{
    struct json_token tokens[TOKENS];
    struct json doc;
    char expires[40];
    memset(token, 0, sizeof *token);
    int result = json_parse(&doc, text, tokens, TOKENS, err);
    if (result == 0)
        result = read_members(token, &doc, MEMBER_COUNT, err);
    if (result == 0)
        result = api_json_text(&doc, json_root(&doc), "expiresAt", expires, sizeof expires, err);
    if (result == 0 && !timestamp_parse_rfc3339(str_from(expires), &token->expires_unix_ms))
        result = error_set(err, ERROR_INVALID, "expiresAt is not an RFC 3339 time");
    if (result != 0)
        bytes_wipe(token, sizeof *token);
    return result;
}

static bool is_ours(const struct json *doc, int key)
{
    for (size_t i = 0; i < MEMBER_COUNT; i++)
        if (json_string_equal(doc, key, MEMBERS[i].name))
            return true;
    return json_string_equal(doc, key, "expiresAt");
}

void sso_write_cache(struct writer *out, struct str text, const struct sso_token *token)
{
    struct json_token tokens[TOKENS];
    struct json doc;
    char memory[SSO_ID_SIZE], expires[40];
    struct writer time = writer_of(expires, sizeof expires);
    struct json_writer j = json_writer_of(out);
    int position = 0, key, value;
    writer_rfc3339_ms(&time, token->expires_unix_ms);
    json_begin_object(&j);
    for (size_t i = 0; i < MEMBER_COUNT; i++) {
        const char *member = (const char *) token + MEMBERS[i].offset;
        if (member[0] != '\0')
            json_member_text(&j, MEMBERS[i].name, member);
    }
    json_member_string(&j, "expiresAt", writer_view(&time));
    bool is_read = json_parse(&doc, text, tokens, TOKENS, NULL) == 0;
    while (is_read && json_next_member(&doc, json_root(&doc), &position, &key, &value)) {
        if (is_ours(&doc, key) || !json_string(&doc, key, memory, sizeof memory, NULL))
            continue;
        json_key(&j, memory);
        json_put_value(&j, &doc, value);
    }
    json_end_object(&j);
}

/* --- refreshing --- */

bool sso_has_expired(const struct sso_token *token, int64_t now_unix_ms)
{
    return now_unix_ms >= token->expires_unix_ms - MARGIN_MS;
}

bool sso_can_refresh(const struct sso_token *token)
{
    return token->refresh_token[0] != '\0' && token->client_id[0] != '\0' && token->client_secret[0] != '\0';
}

void sso_write_refresh(struct writer *body, const struct sso_token *token)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_text(&j, "clientId", token->client_id);
    json_member_text(&j, "clientSecret", token->client_secret);
    json_member_text(&j, "grantType", "refresh_token");
    json_member_text(&j, "refreshToken", token->refresh_token);
    json_end_object(&j);
}

int sso_make_refresh(struct api_request *request, const struct endpoint *endpoint, struct str body,
                     struct error *err)
{
    int result = api_request_start(request, "POST", endpoint, STR_LITERAL("/token"), err);
    if (result == 0)
        result = api_request_add(request, "content-type", STR_LITERAL("application/json"), err);
    request->body = body;
    return result;
}

/* Another status than 200, in words. */
static int refuse(const char *action, const struct api_answer *answer, struct error *err)
{
    struct api_failure failure;
    api_read_failure(&failure, answer);
    bool may_pass = answer->status >= 500 || answer->status == 429;
    bool is_over = answer->status == 400 || answer->status == 401;
    return error_set(err, may_pass ? ERROR_UNAVAILABLE : ERROR_DENIED, "%s: %d%s%s%s%s%s%s", action,
                     answer->status, failure.type[0] != '\0' ? " " : "", failure.type,
                     failure.message[0] != '\0' ? ": " : "", failure.message, is_over ? ": " : "",
                     is_over ? EXPIRED : "");
}

int sso_read_refresh(struct sso_token *token, const struct api_answer *answer, int64_t now_unix_ms,
                     struct error *err)
{
    enum { LONGEST_S = 366 * 24 * 3600 }; /* AWS: a session has up to 90 days */
    struct json_token tokens[TOKENS];
    struct json doc;
    int64_t seconds;
    if (answer->status != 200)
        return refuse("CreateToken", answer, err);
    token->access_token[0] = '\0';
    int result = json_parse(&doc, answer->body, tokens, TOKENS, err);
    if (result == 0) /* a refresh token that does not come stays */
        result = json_type(&doc, json_member(&doc, json_root(&doc), "refreshToken")) == JSON_STRING
                     ? read_members(token, &doc, 2, err)
                     : read_members(token, &doc, 1, err);
    if (result == 0 && (!json_i64(&doc, json_member(&doc, json_root(&doc), "expiresIn"), &seconds) ||
                        seconds < 0 || seconds > LONGEST_S))
        result = error_set(err, ERROR_INVALID, "expiresIn is not a number of seconds");
    if (result != 0)
        return error_prefix(err, "CreateToken: ");
    token->expires_unix_ms = now_unix_ms + seconds * 1000;
    return 0;
}

/* --- keys --- */

int sso_make_get_keys(struct api_request *request, const struct endpoint *endpoint,
                      const struct sso_token *token, struct str account_id, struct str role_name,
                      char query[SSO_QUERY_SIZE], struct error *err)
{
    struct writer w = writer_of(query, SSO_QUERY_SIZE);
    writer_text(&w, "account_id=");
    writer_percent_encode(&w, account_id, NULL);
    writer_text(&w, "&role_name=");
    writer_percent_encode(&w, role_name, NULL);
    if (w.failed)
        return error_set(err, ERROR_TOO_LARGE, "sso_account_id or sso_role_name is too long");
    int result = api_request_start(request, "GET", endpoint, STR_LITERAL("/federation/credentials"), err);
    request->query = writer_view(&w);
    return result != 0
               ? result
               : api_request_add(request, "x-amz-sso_bearer_token", str_from(token->access_token), err);
}

int sso_read_keys(struct credentials *credentials, const struct api_answer *answer, int64_t now_unix_ms,
                  struct error *err)
{
    static const struct credentials_members KEYS = {"accessKeyId", "secretAccessKey", "sessionToken",
                                                    "expiration"};
    struct json_token tokens[TOKENS];
    struct json doc;
    memset(credentials, 0, sizeof *credentials);
    if (answer->status != 200)
        return refuse("GetRoleCredentials", answer, err);
    int result = json_parse(&doc, answer->body, tokens, TOKENS, err);
    if (result == 0)
        result = credentials_read_members(credentials, &doc,
                                          json_member(&doc, json_root(&doc), "roleCredentials"), &KEYS, err);
    if (result != 0)
        return error_prefix(err, "GetRoleCredentials: ");
    credentials->obtained_unix_ms = now_unix_ms;
    return 0;
}
