#include "aws/login_cache.h"

#include <string.h>

#include "base/json.h"
#include "base/sha256.h"
#include "base/time.h"

enum { TOKENS = 128, MARGIN_MS = 2 * 60 * 1000 };

static const struct credentials_members KEYS = {"accessKeyId", "secretAccessKey", "sessionToken",
                                                "expiresAt"};

void login_cache_name(struct str session, char out[LOGIN_CACHE_FILE_NAME_SIZE])
{
    uint8_t digest[SHA256_SIZE];
    struct writer w = writer_of(out, LOGIN_CACHE_FILE_NAME_SIZE);
    session = str_trim(session);
    sha256(session.ptr, session.len, digest);
    writer_hex(&w, digest, sizeof digest);
    writer_text(&w, ".json");
    writer_terminate(&w);
}

/* --- the file --- */

static int read_text(const struct json *doc, const char *name, char *out, size_t capacity, struct error *err)
{
    int result = api_json_text(doc, json_root(doc), name, out, capacity, err);
    return result != 0 || out[0] != '\0' ? result : error_set(err, ERROR_INVALID, "%s is missing", name);
}

int login_cache_read(struct login_token *token, struct str text, int64_t now_unix_ms, struct error *err)
{
    struct json_token tokens[TOKENS];
    struct json doc;
    memset(token, 0, sizeof *token);
    int result = json_parse(&doc, text, tokens, TOKENS, err);
    if (result == 0)
        result = credentials_read_members(&token->keys, &doc,
                                          json_member(&doc, json_root(&doc), "accessToken"), &KEYS, err);
    if (result == 0 && (token->keys.session_token[0] == '\0' || token->keys.expires_unix_ms == INT64_MAX))
        result = error_set(err, ERROR_INVALID, "accessToken has no sessionToken or no expiresAt");
    if (result == 0)
        result = read_text(&doc, "clientId", token->client_id, sizeof token->client_id, err);
    if (result == 0)
        result = read_text(&doc, "refreshToken", token->refresh_token, sizeof token->refresh_token, err);
    if (result == 0)
        result = read_text(&doc, "dpopKey", token->key, sizeof token->key, err);
    token->keys.obtained_unix_ms = now_unix_ms;
    if (result != 0)
        bytes_wipe(token, sizeof *token);
    return result;
}

/* The members of an object that `is_ours` does not know, as they stand. */
static void put_others(struct json_writer *j, const struct json *doc, int object, const char *const *ours)
{
    char name[64];
    int position = 0, key, value;
    while (json_next_member(doc, object, &position, &key, &value)) {
        bool is_ours = !json_string(doc, key, name, sizeof name, NULL);
        for (const char *const *own = ours; *own != NULL; own++)
            is_ours = is_ours || strcmp(name, *own) == 0;
        if (is_ours)
            continue;
        json_key(j, name);
        json_put_value(j, doc, value);
    }
}

void login_cache_write(struct writer *out, struct str text, const struct login_token *token)
{
    static const char *const OURS[] = {"accessToken", "refreshToken", NULL};
    static const char *const OUR_KEYS[] = {"accessKeyId", "secretAccessKey", "sessionToken", "expiresAt",
                                           NULL};
    struct json_token tokens[TOKENS];
    struct json doc;
    char expires[40];
    struct writer time = writer_of(expires, sizeof expires);
    struct json_writer j = json_writer_of(out);
    if (json_parse(&doc, text, tokens, TOKENS, NULL) != 0) {
        out->failed = true;
        return;
    }
    writer_rfc3339_ms(&time, token->keys.expires_unix_ms);
    json_begin_object(&j);
    json_key(&j, "accessToken");
    json_begin_object(&j);
    json_member_text(&j, KEYS.access_key_id, token->keys.access_key_id);
    json_member_text(&j, KEYS.secret_access_key, token->keys.secret_access_key);
    json_member_text(&j, KEYS.session_token, token->keys.session_token);
    json_member_string(&j, KEYS.expiration, writer_view(&time));
    put_others(&j, &doc, json_member(&doc, json_root(&doc), "accessToken"), OUR_KEYS);
    json_end_object(&j);
    json_member_text(&j, "refreshToken", token->refresh_token);
    put_others(&j, &doc, json_root(&doc), OURS);
    json_end_object(&j);
}

/* --- renewing --- */

bool login_cache_has_expired(const struct login_token *token, int64_t now_unix_ms)
{
    return now_unix_ms >= token->keys.expires_unix_ms - MARGIN_MS;
}

void login_cache_write_refresh(struct writer *body, const struct login_token *token)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_text(&j, "clientId", token->client_id);
    json_member_text(&j, "grantType", "refresh_token");
    json_member_text(&j, "refreshToken", token->refresh_token);
    json_end_object(&j);
}

int login_cache_make_refresh(struct api_request *request, const struct endpoint *endpoint, struct str body,
                             struct str proof, struct error *err)
{
    int result = api_request_start(request, "POST", endpoint, STR_LITERAL("/v1/token"), err);
    if (result == 0)
        result = api_request_add(request, "content-type", STR_LITERAL("application/json"), err);
    if (result == 0)
        result = api_request_add(request, "dpop", proof, err);
    request->body = body;
    return result;
}

static int refuse(const struct api_answer *answer, struct error *err)
{
    struct api_failure failure;
    api_read_failure(&failure, answer);
    bool may_pass = answer->status >= 500 || answer->status == 429;
    return error_set(err, may_pass ? ERROR_UNAVAILABLE : ERROR_DENIED, "CreateOAuth2Token: %d%s%s%s%s%s",
                     answer->status, failure.type[0] != '\0' ? " " : "", failure.type,
                     failure.message[0] != '\0' ? ": " : "", failure.message,
                     may_pass ? "" : ": log in again with `aws login`");
}

static int read_new(struct login_token *token, const struct json *doc, int64_t now_unix_ms, struct error *err)
{
    enum { LONGEST_S = 24 * 3600 }; /* AWS: keys live for 15 minutes, a session for up to 12 hours */
    int64_t seconds;
    int root = json_root(doc);
    if (!json_i64(doc, json_member(doc, root, "expiresIn"), &seconds) || seconds < 0 || seconds > LONGEST_S)
        return error_set(err, ERROR_INVALID, "expiresIn is not a number of seconds");
    int result = read_text(doc, "refreshToken", token->refresh_token, sizeof token->refresh_token, err);
    if (result == 0)
        result =
            credentials_read_members(&token->keys, doc, json_member(doc, root, "accessToken"), &KEYS, err);
    if (result == 0 && token->keys.session_token[0] == '\0')
        result = error_set(err, ERROR_INVALID, "accessToken has no sessionToken");
    token->keys.obtained_unix_ms = now_unix_ms;
    token->keys.expires_unix_ms = now_unix_ms + seconds * 1000;
    return result;
}

int login_cache_read_refresh(struct login_token *token, const struct api_answer *answer, int64_t now_unix_ms,
                             struct error *err)
{
    struct json_token tokens[TOKENS];
    struct json doc;
    if (answer->status != 200)
        return refuse(answer, err);
    int result = json_parse(&doc, answer->body, tokens, TOKENS, err);
    if (result == 0)
        result = read_new(token, &doc, now_unix_ms, err);
    return result != 0 ? error_prefix(err, "CreateOAuth2Token: ") : 0;
}
