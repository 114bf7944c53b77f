#include "aws/ssm.h"

#include <string.h>

#include "base/ip.h"
#include "base/json.h"
#include "base/utf8.h"

/* The answers have three members and, from some callers, what the HTTP layer knew. */
enum { TOKENS = 128 };

static const struct api_call START_SESSION = SSM_START_SESSION_CALL;
static const struct api_call RESUME_SESSION = SSM_RESUME_SESSION_CALL;
static const struct api_call TERMINATE_SESSION = SSM_TERMINATE_SESSION_CALL;
static const struct api_call GET_CONNECTION_STATUS = SSM_GET_CONNECTION_STATUS_CALL;

/* --- requests --- */

/* The API's pattern for a reason is ".{1,256}": whatever Java takes for the end of a line is refused. */
static bool is_blank_in_reason(uint32_t code)
{
    return code < ' ' || (code >= 0x7F && code <= 0x9F) || code == 0x2028 || code == 0x2029;
}

static void write_reason(struct json_writer *j, struct str reason)
{
    char text[SSM_REASON_MAX];
    struct writer w = writer_of(text, sizeof text);
    reason = str_trim(reason);
    while (reason.len > 0 && !w.failed) {
        uint32_t code = '?';
        size_t len = utf8_decode(reason, &code);
        if (len == 0 || is_blank_in_reason(code))
            writer_char(&w, len == 0 ? '?' : ' ');
        else
            writer_bytes(&w, reason.ptr, len);
        reason = str_slice(reason, len == 0 ? 1 : len, reason.len);
    }
    if (w.len > 0)
        json_member_string(j, "Reason", writer_view(&w));
}

static void write_parameter(struct json_writer *j, const char *name, struct str value)
{
    if (value.len == 0)
        return;
    json_key(j, name);
    json_begin_array(j);
    json_put_string(j, value);
    json_end_array(j);
}

void ssm_write_start_session(struct writer *body, const struct ssm_start_session *start)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_string(&j, "Target", start->target);
    json_member_string(&j, "DocumentName", start->document);
    write_reason(&j, start->reason);
    json_key(&j, "Parameters");
    json_begin_object(&j);
    write_parameter(&j, "host", start->host);
    write_parameter(&j, "portNumber", start->port_number);
    write_parameter(&j, "localPortNumber", start->local_port_number);
    json_end_object(&j);
    json_end_object(&j);
}

static void write_one(struct writer *body, const char *name, struct str value)
{
    struct json_writer j = json_writer_of(body);
    json_begin_object(&j);
    json_member_string(&j, name, value);
    json_end_object(&j);
}

void ssm_write_session(struct writer *body, struct str session_id)
{
    write_one(body, "SessionId", session_id);
}

void ssm_write_get_connection_status(struct writer *body, struct str target)
{
    write_one(body, "Target", target);
}

bool ssm_host_is_task(struct str host)
{
    struct ip address;
    if (host.len == 0 || str_equal_nocase(host, "localhost") || str_equal_nocase(host, "localhost."))
        return true;
    return ip_parse(host, &address) && ip_is_loopback(address);
}

void ssm_choose_document(struct ssm_start_session *start, struct str document_name)
{
    bool is_task = ssm_host_is_task(start->host);
    start->document = document_name.len > 0 ? document_name
                      : is_task             ? STR_LITERAL(SSM_DOCUMENT_TASK)
                                            : STR_LITERAL(SSM_DOCUMENT_HOST);
    if (is_task)
        start->host = (struct str){NULL, 0};
}

/* --- answers --- */

static int read_required(const struct json *doc, const char *name, char *out, size_t capacity,
                         struct error *err)
{
    int result = api_json_text(doc, json_root(doc), name, out, capacity, err);
    if (result == 0 && out[0] == '\0')
        result = error_set(err, ERROR_INVALID, "the answer holds no %s", name);
    return result;
}

int ssm_parse_session(struct ssm_session *session, struct str text, struct error *err)
{
    struct json_token tokens[TOKENS];
    struct json doc;
    memset(session, 0, sizeof *session);
    int result = json_parse(&doc, text, tokens, TOKENS, err);
    if (result == 0)
        result = read_required(&doc, "SessionId", session->id, sizeof session->id, err);
    if (result == 0)
        result = read_required(&doc, "StreamUrl", session->stream_url, sizeof session->stream_url, err);
    if (result == 0)
        result = read_required(&doc, "TokenValue", session->token, sizeof session->token, err);
    if (result == 0 && (strchr(session->id, '/') != NULL || !endpoint_path_is_valid(str_from(session->id))))
        result = error_set(err, ERROR_INVALID, "SessionId \"%s\" is not a valid session id", session->id);
    if (result != 0)
        bytes_wipe(session, sizeof *session);
    return result;
}

enum api_class ssm_read_start_session(struct ssm_session *session, const struct api_answer *answer,
                                      struct api_failure *failure, struct error *err)
{
    struct api_failure unwanted = {0};
    failure = failure != NULL ? failure : &unwanted;
    memset(session, 0, sizeof *session);
    enum api_class class = api_classify_by(API_BY_USER, &START_SESSION, answer, failure, err);
    if (class == API_OK)
        return api_conclude(&START_SESSION, ssm_parse_session(session, answer->body, err), err);
    if (class == API_FAILED && strcmp(failure->type, "TargetNotConnected") == 0) {
        error_set(
            err, ERROR_UNAVAILABLE,
            "StartSession: %d TargetNotConnected: no agent of this container has its control channel open",
            answer->status);
        return API_RETRY;
    }
    return class;
}

static int read_token(char token[SSMMESSAGES_TOKEN_SIZE], struct str body, struct error *err)
{
    struct json_token tokens[TOKENS];
    struct json doc;
    int result = json_parse(&doc, body, tokens, TOKENS, err);
    if (result == 0 && json_type(&doc, json_root(&doc)) != JSON_OBJECT)
        result = error_set(err, ERROR_INVALID, "the answer is not a JSON object");
    if (result == 0)
        result = api_json_text(&doc, json_root(&doc), "TokenValue", token, SSMMESSAGES_TOKEN_SIZE, err);
    return result;
}

static bool does_not_exist(enum api_class class, const struct api_failure *failure)
{
    return class == API_FAILED && strcmp(failure->type, "DoesNotExistException") == 0;
}

enum api_class ssm_read_resume_session(char token[SSMMESSAGES_TOKEN_SIZE], bool *is_over,
                                       const struct api_answer *answer, struct api_failure *failure,
                                       struct error *err)
{
    struct api_failure unwanted = {0};
    struct error unread = ERROR_INIT;
    failure = failure != NULL ? failure : &unwanted;
    err = err != NULL ? err : &unread;
    token[0] = '\0';
    *is_over = false;
    enum api_class class = api_classify_by(API_BY_USER, &RESUME_SESSION, answer, failure, err);
    if (class == API_OK) {
        class = api_conclude(&RESUME_SESSION, read_token(token, answer->body, err), err);
        *is_over = class == API_OK && token[0] == '\0';
    } else if (class == API_FAILED) {
        *is_over = does_not_exist(class, failure);
        class = err->code == ERROR_DENIED ? API_REFRESH : API_FAILED;
    }
    if (!*is_over)
        return class;
    error_set(err, ERROR_NOT_FOUND, "ResumeSession: the session has timed out or was ended");
    return API_FAILED;
}

enum api_class ssm_read_terminate_session(const struct api_answer *answer, struct api_failure *failure,
                                          struct error *err)
{
    struct api_failure unwanted = {0};
    failure = failure != NULL ? failure : &unwanted;
    enum api_class class = api_classify_by(API_BY_USER, &TERMINATE_SESSION, answer, failure, err);
    if (!does_not_exist(class, failure))
        return class;
    error_set(err, ERROR_NONE, "%s", "");
    return API_OK;
}

enum api_class ssm_read_get_connection_status(bool *is_connected, const struct api_answer *answer,
                                              struct api_failure *failure, struct error *err)
{
    struct json_token tokens[TOKENS];
    struct json doc;
    char status[32] = "";
    *is_connected = false;
    enum api_class class = api_classify_by(API_BY_USER, &GET_CONNECTION_STATUS, answer, failure, err);
    if (class != API_OK)
        return class;
    int result = json_parse(&doc, answer->body, tokens, TOKENS, err);
    if (result == 0)
        result = read_required(&doc, "Status", status, sizeof status, err);
    *is_connected = str_equal_nocase(str_from(status), "connected");
    return api_conclude(&GET_CONNECTION_STATUS, result, err);
}
