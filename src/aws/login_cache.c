#include "aws/login_cache.h"

#include <string.h>

#include "base/bytes.h"
#include "base/json.h"
#include "base/sha256.h"

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

int login_cache_read(struct credentials *credentials, struct str text, int64_t now_unix_ms, struct error *err)
{
    enum { TOKENS = 64 };
    static const struct credentials_members MEMBERS = {"accessKeyId", "secretAccessKey", "sessionToken",
                                                       "expiresAt"};
    struct json_token tokens[TOKENS];
    struct json doc;
    memset(credentials, 0, sizeof *credentials);
    int result = json_parse(&doc, text, tokens, TOKENS, err);
    if (result == 0)
        result = credentials_read_members(credentials, &doc,
                                          json_member(&doc, json_root(&doc), "accessToken"), &MEMBERS, err);
    if (result == 0 && (credentials->session_token[0] == '\0' || credentials->expires_unix_ms == INT64_MAX))
        result = error_set(err, ERROR_INVALID, "accessToken has no sessionToken or no expiresAt");
    if (result == 0 && credentials_expired(credentials, now_unix_ms))
        result = error_set(err, ERROR_DENIED, "its keys have expired: run `aws login`");
    credentials->obtained_unix_ms = now_unix_ms;
    if (result != 0)
        credentials_wipe(credentials);
    return result;
}
