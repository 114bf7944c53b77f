#include "aws/credentials.h"

#include <string.h>

#include "base/bytes.h"
#include "base/env.h"
#include "base/json.h"
#include "base/time.h"

#define RELATIVE_URI "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"
#define FULL_URI     "AWS_CONTAINER_CREDENTIALS_FULL_URI"
#define TOKEN        "AWS_CONTAINER_AUTHORIZATION_TOKEN"
#define TOKEN_FILE   "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
#define KEY_ID       "AWS_ACCESS_KEY_ID"
#define SECRET_KEY   "AWS_SECRET_ACCESS_KEY"

/* ECS: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html */
#define ECS_ADDRESS "http://169.254.170.2"

enum { LAST_SECONDS_MS = 10 * 1000, MARGIN_MIN_MS = 60 * 1000, MARGIN_MAX_MS = 15 * 60 * 1000 };

void credentials_wipe(struct credentials *credentials)
{
    bytes_wipe(credentials, sizeof *credentials);
}

/* --- where to ask --- */

static bool is_loopback_ipv4(struct str host)
{
    struct str part, rest = host;
    for (int i = 0; i < 4; i++) {
        uint32_t number;
        bool more = str_cut(rest, '.', &part, &rest);
        if (more != (i < 3) || part.len > 3 || !str_parse_u32(part, &number) || number > 255 ||
            (i == 0 && number != 127))
            return false;
    }
    return true;
}

bool credentials_may_be_asked(const struct endpoint *endpoint)
{
    static const char *const HOSTS[] = {"localhost", "::1", "169.254.170.2", "169.254.170.23",
                                        "fd00:ec2::23"};
    struct str host = str_from(endpoint->host);
    if (endpoint->tls)
        return true;
    for (size_t i = 0; i < sizeof HOSTS / sizeof HOSTS[0]; i++)
        if (str_equal_text(host, HOSTS[i]))
            return true;
    return is_loopback_ipv4(host);
}

static int set_address(struct credentials_plan *plan, const char *variable, struct str url, struct error *err)
{
    struct str location, query;
    str_cut(url, '?', &location, &query);
    int result = endpoint_from_url(&plan->endpoint, location, err);
    if (result != 0) {
        error_prefix(err, "%s: ", variable);
        return result;
    }
    if (!endpoint_path_is_valid(query) || !str_copy(query, plan->query, sizeof plan->query)) {
        return error_set(err, ERROR_INVALID, "%s: its query is too long or holds a byte that must be escaped",
                         variable);
    }
    if (!credentials_may_be_asked(&plan->endpoint)) {
        return error_set(
            err, ERROR_DENIED,
            "%s: http to %s: without TLS, keys may only come from loopback, ECS's or EKS's own addresses; "
            "use https",
            variable, plan->endpoint.host);
    }
    return 0;
}

static int set_relative_address(struct credentials_plan *plan, struct str path, struct error *err)
{
    char url[sizeof ECS_ADDRESS + 2 * ENDPOINT_PATH_SIZE];
    struct writer w = writer_of(url, sizeof url);
    writer_text(&w, ECS_ADDRESS);
    writer_str(&w, path);
    if (!str_starts_with(path, "/"))
        return error_set(err, ERROR_INVALID, RELATIVE_URI "=%.*s: it must begin with '/'", STR_ARG(path));
    if (w.failed)
        return error_set(err, ERROR_INVALID, RELATIVE_URI ": longer than %d bytes", 2 * ENDPOINT_PATH_SIZE);
    return set_address(plan, RELATIVE_URI, writer_view(&w), err);
}

static int set_authorization(struct credentials_plan *plan, char *const *env, struct error *err)
{
    if (!str_copy(env_get(env, TOKEN_FILE), plan->token_file, sizeof plan->token_file)) {
        return error_set(err, ERROR_TOO_LARGE, TOKEN_FILE ": longer than %d bytes",
                         CREDENTIALS_FILE_SIZE - 1);
    }
    if (!str_copy(env_get(env, TOKEN), plan->authorization, sizeof plan->authorization)) {
        return error_set(err, ERROR_TOO_LARGE, TOKEN ": longer than %d bytes",
                         CREDENTIALS_AUTHORIZATION_SIZE - 1);
    }
    return 0;
}

int credentials_plan_container(struct credentials_plan *plan, char *const *env, struct error *err)
{
    struct str relative = env_get(env, RELATIVE_URI), full = env_get(env, FULL_URI);
    memset(plan, 0, sizeof *plan);
    plan->origin = CREDENTIALS_CONTAINER;
    if (relative.len == 0 && full.len == 0)
        return error_set(err, ERROR_NOT_FOUND, "neither " RELATIVE_URI " nor " FULL_URI " is set");
    int result =
        relative.len > 0 ? set_relative_address(plan, relative, err) : set_address(plan, FULL_URI, full, err);
    return result != 0 ? result : set_authorization(plan, env, err);
}

int credentials_make_plan(struct credentials_plan *plan, char *const *env, struct error *err)
{
    if (env_get(env, RELATIVE_URI).len > 0 || env_get(env, FULL_URI).len > 0)
        return credentials_plan_container(plan, env, err);
    memset(plan, 0, sizeof *plan);
    plan->origin = CREDENTIALS_ENVIRONMENT;
    bool has_id = env_get(env, KEY_ID).len > 0, has_secret = env_get(env, SECRET_KEY).len > 0;
    if (has_id && has_secret)
        return 0;
    if (has_id || has_secret) {
        return error_set(err, ERROR_INVALID, "%s is set, but %s is not", has_id ? KEY_ID : SECRET_KEY,
                         has_id ? SECRET_KEY : KEY_ID);
    }
    return error_set(err, ERROR_NOT_FOUND,
                     "no credentials: none of " RELATIVE_URI
                     " (ECS sets it when the task has a role), " FULL_URI ", " KEY_ID " is set");
}

int credentials_make_request(struct api_request *request, const struct credentials_plan *plan,
                             struct str token, struct error *err)
{
    struct str authorization = str_trim(plan->token_file[0] != '\0' ? token : str_from(plan->authorization));
    int result = api_request_start(request, "GET", &plan->endpoint, str_from(NULL), err);
    request->query = str_from(plan->query);
    if (result == 0)
        result = api_request_add(request, "accept", STR_LITERAL("application/json"), err);
    if (result == 0 && authorization.len > 0)
        result = api_request_add(request, "authorization", authorization, err);
    return result;
}

/* --- what comes back --- */

/* Keys go into headers and hashes; only printable bytes belong there. */
static bool is_printable(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

static int check_keys(struct credentials *credentials, struct error *err)
{
    const char *wrong =
        credentials->access_key_id[0] == '\0'           ? "no access key id"
        : credentials->secret_access_key[0] == '\0'     ? "no secret access key"
        : !is_printable(credentials->access_key_id)     ? "an unprintable byte in the access key id"
        : !is_printable(credentials->secret_access_key) ? "an unprintable byte in the secret key"
        : !is_printable(credentials->session_token)     ? "an unprintable byte in the session token"
                                                        : NULL;
    if (wrong == NULL)
        return 0;
    credentials_wipe(credentials);
    return error_set(err, ERROR_INVALID, "credentials: %s", wrong);
}

int credentials_set(struct credentials *credentials, struct str access_key_id, struct str secret_access_key,
                    struct str session_token, struct error *err)
{
    memset(credentials, 0, sizeof *credentials);
    credentials->expires_unix_ms = INT64_MAX;
    if (!str_copy(access_key_id, credentials->access_key_id, CREDENTIALS_ID_SIZE) ||
        !str_copy(secret_access_key, credentials->secret_access_key, CREDENTIALS_SECRET_SIZE) ||
        !str_copy(session_token, credentials->session_token, CREDENTIALS_TOKEN_SIZE)) {
        credentials_wipe(credentials);
        return error_set(err, ERROR_TOO_LARGE, "credentials: a key or token is too long");
    }
    return check_keys(credentials, err);
}

int credentials_from_environment(struct credentials *credentials, char *const *env, struct error *err)
{
    int result = credentials_set(credentials, env_get(env, KEY_ID), env_get(env, SECRET_KEY),
                                 env_get(env, "AWS_SESSION_TOKEN"), err);
    if (result == ERROR_TOO_LARGE)
        error_set(err, result, "credentials: a key or token in the environment is too long");
    return result;
}

static int read_expiration(struct credentials *credentials, const struct json *doc, int object,
                           const char *name, struct error *err)
{
    char text[40] = "";
    int value = json_member(doc, object, name);
    credentials->expires_unix_ms = INT64_MAX;
    if (json_type(doc, value) == JSON_NUMBER && json_i64(doc, value, &credentials->expires_unix_ms))
        return 0;
    if (api_json_text(doc, object, name, text, sizeof text, NULL) != 0 ||
        (text[0] != '\0' && !timestamp_parse_rfc3339(str_from(text), &credentials->expires_unix_ms)))
        return error_set(err, ERROR_INVALID, "credentials: %s is not an RFC 3339 time", name);
    return 0;
}

int credentials_read_members(struct credentials *credentials, const struct json *doc, int object,
                             const struct credentials_members *members, struct error *err)
{
    const struct {
        const char *name;
        char *out;
        size_t capacity;
    } fields[] = {
        {members->access_key_id, credentials->access_key_id, CREDENTIALS_ID_SIZE},
        {members->secret_access_key, credentials->secret_access_key, CREDENTIALS_SECRET_SIZE},
        {members->session_token, credentials->session_token, CREDENTIALS_TOKEN_SIZE},
    };
    memset(credentials, 0, sizeof *credentials);
    int result = 0;
    for (size_t i = 0; result == 0 && i < sizeof fields / sizeof fields[0]; i++)
        result = api_json_text(doc, object, fields[i].name, fields[i].out, fields[i].capacity, err);
    if (result != 0)
        error_prefix(err, "credentials: ");
    else
        result = read_expiration(credentials, doc, object, members->expiration, err);
    if (result == 0)
        result = check_keys(credentials, err);
    if (result != 0)
        credentials_wipe(credentials);
    return result;
}

enum { DOCUMENT_TOKENS = 64 };

static int parse_document(struct json *doc, struct str body, struct json_token *tokens, struct error *err)
{
    *doc = (struct json){0};
    if (body.len > CREDENTIALS_DOCUMENT_MAX)
        return error_set(err, ERROR_TOO_LARGE, "credentials: a document of more than %d bytes",
                         CREDENTIALS_DOCUMENT_MAX);
    int result = json_parse(doc, body, tokens, DOCUMENT_TOKENS, err);
    if (result != 0)
        error_prefix(err, "credentials: ");
    return result;
}

static int read_document(struct credentials *credentials, struct str body, struct error *err)
{
    static const struct credentials_members MEMBERS = {"AccessKeyId", "SecretAccessKey", "Token",
                                                       "Expiration"};
    struct json_token tokens[DOCUMENT_TOKENS];
    struct json doc;
    int result = parse_document(&doc, body, tokens, err);
    return result != 0 ? result : credentials_read_members(credentials, &doc, json_root(&doc), &MEMBERS, err);
}

int credentials_read_process(struct credentials *credentials, struct str output, int64_t now_unix_ms,
                             struct error *err)
{
    static const struct credentials_members MEMBERS = {"AccessKeyId", "SecretAccessKey", "SessionToken",
                                                       "Expiration"};
    struct json_token tokens[DOCUMENT_TOKENS];
    struct json doc;
    int64_t version = 0;
    memset(credentials, 0, sizeof *credentials);
    int result = parse_document(&doc, output, tokens, err);
    if (result != 0)
        return result;
    if (!json_i64(&doc, json_member(&doc, json_root(&doc), "Version"), &version) || version != 1)
        return error_set(err, ERROR_UNSUPPORTED, "credentials: Version is not 1");
    result = credentials_read_members(credentials, &doc, json_root(&doc), &MEMBERS, err);
    credentials->obtained_unix_ms = result == 0 ? now_unix_ms : 0;
    return result;
}

/* Another status, or an error document, which some endpoints send with a 200. */
static enum api_class refuse(int status, const struct api_failure *failure, struct error *err)
{
    bool may_pass = status == 200 || status >= 500 || status == 429 || status == 408;
    enum error_code code = status == 429                    ? ERROR_THROTTLED
                           : may_pass                       ? ERROR_UNAVAILABLE
                           : status == 404                  ? ERROR_NOT_FOUND
                           : status == 401 || status == 403 ? ERROR_DENIED
                                                            : ERROR_INVALID;
    error_set(err, code, "credentials: status %d%s%s%s%s", status, failure->type[0] != '\0' ? " " : "",
              failure->type, failure->message[0] != '\0' ? ": " : "", failure->message);
    return may_pass ? API_RETRY : API_FAILED;
}

enum api_class credentials_read_answer(struct credentials *credentials, const struct api_answer *answer,
                                       int64_t now_unix_ms, struct error *err)
{
    struct credentials read;
    memset(&read, 0, sizeof read);
    int result = answer->status == 200 ? read_document(&read, answer->body, err) : 0;
    if (answer->status == 200 && result == 0) {
        read.obtained_unix_ms = now_unix_ms;
        *credentials = read;
        credentials_wipe(&read);
        return API_OK;
    }
    credentials_wipe(&read);
    struct api_failure failure;
    api_read_failure(&failure, answer);
    if (answer->status != 200 || failure.type[0] != '\0')
        return refuse(answer->status, &failure, err);
    return API_FAILED;
}

/* --- when to ask again --- */

int64_t credentials_refresh_at(const struct credentials *credentials, uint32_t random)
{
    int64_t obtained = credentials->obtained_unix_ms, expires = credentials->expires_unix_ms;
    if (expires == INT64_MAX)
        return INT64_MAX;
    int64_t margin = (expires - obtained) / 4;
    margin = margin > MARGIN_MAX_MS ? MARGIN_MAX_MS : margin;
    margin = margin < MARGIN_MIN_MS ? MARGIN_MIN_MS : margin;
    margin += (margin / 5 * random) >> 32;
    return expires - margin > obtained ? expires - margin : obtained;
}

bool credentials_expired(const struct credentials *credentials, int64_t now_unix_ms)
{
    return credentials->expires_unix_ms != INT64_MAX &&
           now_unix_ms >= credentials->expires_unix_ms - LAST_SECONDS_MS;
}
