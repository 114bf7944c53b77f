#include "aws/api.h"

#include <string.h>

#include "aws/xml.h"
#include "base/time.h"
#include "base/utf8.h"

/* --- requests --- */

int api_request_start(struct api_request *request, const char *method, const struct endpoint *endpoint,
                      struct str path, struct error *err)
{
    memset(request, 0, sizeof *request);
    request->method = method;
    request->host = str_from(endpoint->authority);
    if (!endpoint_path_is_valid(path))
        return error_set(err, ERROR_INVALID, "path \"%.*s\": a byte in it must be escaped", STR_ARG(path));
    struct writer w = writer_of(request->path, sizeof request->path - 1);
    writer_text(&w, endpoint->path);
    writer_str(&w, path);
    if (w.len == 0)
        writer_char(&w, '/');
    if (w.failed) {
        memset(request, 0, sizeof *request);
        return error_set(err, ERROR_TOO_LARGE, "a path of more than %d bytes: %s%.*s", API_PATH_SIZE - 1,
                         endpoint->path, STR_ARG(path));
    }
    return 0;
}

static bool header_name_is_valid(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_");
    return len > 0 && name[len] == '\0';
}

int api_request_add(struct api_request *request, const char *name, struct str value, struct error *err)
{
    if (!header_name_is_valid(name))
        return error_set(err, ERROR_INVALID, "header name \"%s\": not in lower case", name);
    for (size_t i = 0; i < value.len; i++) {
        if (str_is_control(value.ptr[i]) && value.ptr[i] != '\t')
            return error_set(err, ERROR_INVALID, "header %s: a control character in its value", name);
    }
    if (request->header_count == API_HEADERS_MAX)
        return error_set(err, ERROR_TOO_LARGE, "header %s: there are %d already", name, API_HEADERS_MAX);
    request->headers[request->header_count++] = (struct api_header){name, value};
    return 0;
}

int api_request_json(struct api_request *request, const struct endpoint *endpoint, const char *target,
                     struct str body, struct error *err)
{
    int result = api_request_start(request, "POST", endpoint, STR_LITERAL("/"), err);
    if (result == 0)
        result = api_request_add(request, "content-type", STR_LITERAL("application/x-amz-json-1.1"), err);
    if (result == 0)
        result = api_request_add(request, "x-amz-target", str_from(target), err);
    request->body = body;
    return result;
}

/* --- reading --- */

int api_json_text(const struct json *doc, int object, const char *name, char *out, size_t capacity,
                  struct error *err)
{
    int value = json_member(doc, object, name);
    enum json_type type = json_type(doc, value);
    if (json_string(doc, value, out, capacity, NULL) || type == JSON_NONE || type == JSON_NULL)
        return 0;
    if (type != JSON_STRING)
        return error_set(err, ERROR_INVALID, "%s is not a string", name);
    return error_set(err, ERROR_TOO_LARGE, "%s is longer than %zu bytes, or holds a NUL", name, capacity - 1);
}

/* Copies text to one line: control characters become blanks, what is too long ends in "...", at a character.
 */
static void copy_line(struct str text, char *out, size_t capacity)
{
    static const char CUT_MARK[] = "...";
    size_t len = text.len < capacity ? text.len : utf8_limit(text, capacity - sizeof CUT_MARK).len;
    for (size_t i = 0; i < len; i++) {
        out[i] = str_is_control(text.ptr[i]) ? ' ' : text.ptr[i];
    }
    if (len < text.len)
        memcpy(out + len, CUT_MARK, sizeof CUT_MARK);
    else
        out[len] = '\0';
}

void api_json_words(const struct json *doc, int object, const char *name, char *out, size_t capacity)
{
    char text[1024];
    int value = json_member(doc, object, name);
    struct str words = {NULL, 0};
    if (json_type(doc, value) == JSON_STRING && !json_string(doc, value, text, sizeof text, &words))
        words = json_raw(doc, value); /* long: as it stands */
    copy_line(words, out, capacity);
}

/* --- what an answer calls its error --- */

/* "com.amazonaws.ecs#ServerException:http://..." is called ServerException. */
static void set_type(struct api_failure *failure, struct str type)
{
    struct str before, after;
    str_cut(str_trim(type), ':', &before, &after);
    if (str_cut_last(before, '#', &after, &type))
        before = type;
    copy_line(before, failure->type, sizeof failure->type);
}

static void read_json_failure(struct api_failure *failure, struct str body)
{
    enum { TOKENS = 64, TEXT_SIZE = 1024 };
    struct json_token tokens[TOKENS];
    struct json doc;
    char text[TEXT_SIZE];
    if (json_parse(&doc, body, tokens, TOKENS, NULL) != 0)
        return;
    int root = json_root(&doc);
    int nested = json_member(&doc, root, "error"); /* ECS's agent, for task protection */
    root = json_type(&doc, nested) == JSON_OBJECT ? nested : root;
    if (failure->type[0] == '\0' &&
        (json_string(&doc, json_member(&doc, root, "__type"), text, sizeof text, NULL) ||
         json_string(&doc, json_member(&doc, root, "code"), text, sizeof text, NULL)))
        set_type(failure, str_from(text));
    api_json_words(&doc, root, "message", failure->message, sizeof failure->message);
}

/* <ErrorResponse><Error><Code>..</Code><Message>.., or, at the message gateway, the error's name as the root:
 * <AccessDeniedException><Message>..</Message></AccessDeniedException>. */
static void read_xml_failure(struct api_failure *failure, struct str body)
{
    char text[1024];
    if (failure->type[0] == '\0')
        set_type(failure, xml_text(body, "Code", text, sizeof text) ? str_from(text) : xml_root(body));
    if (xml_text(body, "Message", text, sizeof text))
        copy_line(str_trim(str_from(text)), failure->message, sizeof failure->message);
}

void api_read_failure(struct api_failure *failure, const struct api_answer *answer)
{
    memset(failure, 0, sizeof *failure);
    set_type(failure, answer->error_type);
    struct str body = str_trim(answer->body);
    if (str_starts_with(body, "{"))
        read_json_failure(failure, body);
    else if (str_starts_with(body, "<") && !str_equal_nocase(xml_root(body), "html"))
        read_xml_failure(failure, body); /* an HTML page is a proxy's, and says nothing in a form we know */
    if (!timestamp_parse_http_date(answer->date, &failure->server_unix_ms))
        failure->server_unix_ms = -1;
}

/* --- what it means --- */

enum kind {
    THROTTLED,
    TRANSIENT,
    EXPIRED,
    SKEWED,
    DENIED,
    UNAUTHORIZED,
    MISSIGNED,
    NOT_FOUND,
    UNSUPPORTED,
    INVALID,
    KINDS
};

static const struct {
    enum api_class class;
    enum error_code code;
    const char *advice;
} MEANINGS[KINDS] = {
    [THROTTLED] = {API_RETRY, ERROR_THROTTLED, "the service asks for fewer calls"},
    [TRANSIENT] = {API_RETRY, ERROR_UNAVAILABLE, "the service failed"},
    [EXPIRED] = {API_REFRESH, ERROR_UNAVAILABLE, "the credentials have expired or are not known"},
    [SKEWED] = {API_CLOCK, ERROR_UNAVAILABLE, "this machine's clock is off"},
    [DENIED] = {API_FAILED, ERROR_DENIED, NULL},        /* says which action, see below */
    [UNAUTHORIZED] = {API_REFRESH, ERROR_DENIED, NULL}, /* or the credentials are too old: it does not say */
    [MISSIGNED] = {API_FAILED, ERROR_DENIED,
                   "the secret key does not belong to the key id, or something on the "
                   "way changes requests"},
    [NOT_FOUND] = {API_FAILED, ERROR_NOT_FOUND, ""},
    [UNSUPPORTED] = {API_FAILED, ERROR_UNSUPPORTED, ""},
    [INVALID] = {API_FAILED, ERROR_INVALID, ""},
};

/* The names that botocore and the SDK for Go treat so, as far as our services use them. */
static const struct {
    const char *type;
    enum kind kind;
} NAMED[] = {
    {"Throttling", THROTTLED},
    {"ThrottlingException", THROTTLED},
    {"ThrottledException", THROTTLED},
    {"RequestThrottled", THROTTLED},
    {"RequestThrottledException", THROTTLED},
    {"TooManyRequestsException", THROTTLED},
    {"RequestLimitExceeded", THROTTLED},
    {"BandwidthLimitExceeded", THROTTLED},
    {"PriorRequestNotComplete", THROTTLED},
    {"SlowDown", THROTTLED},
    {"RequestTimeout", TRANSIENT},
    {"RequestTimeoutException", TRANSIENT},
    {"InternalFailure", TRANSIENT},
    {"InternalServerError", TRANSIENT},
    {"InternalServerException", TRANSIENT},
    {"InternalErrorException", TRANSIENT},
    {"ServerException", TRANSIENT},
    {"ServiceUnavailable", TRANSIENT},
    {"ServiceUnavailableException", TRANSIENT},
    {"ExpiredToken", EXPIRED},
    {"ExpiredTokenException", EXPIRED},
    {"UnrecognizedClientException", EXPIRED},
    {"InvalidClientTokenId", EXPIRED},
    {"RequestTimeTooSkewed", SKEWED},
    {"RequestExpired", SKEWED},
    {"RequestInTheFuture", SKEWED},
    {"AccessDenied", DENIED},
    {"AccessDeniedException", DENIED},
    {"UnauthorizedOperation", DENIED},
    {"NotAuthorized", DENIED},
    {"InvalidSignatureException", MISSIGNED},
    {"SignatureDoesNotMatch", MISSIGNED},
    {"IncompleteSignature", MISSIGNED},
    {"IncompleteSignatureException", MISSIGNED},
    {"UnknownOperationException", UNSUPPORTED},
    {"InvalidAction", UNSUPPORTED},
    {"UnsupportedFeatureException", UNSUPPORTED},
};

static bool says(const struct api_failure *failure, const char *words)
{
    size_t at;
    return str_find_nocase(str_from(failure->message), words, &at);
}

static enum kind kind_by_status(int status)
{
    if (status == 429)
        return THROTTLED;
    if (status >= 500 || status == 408)
        return TRANSIENT;
    if (status == 401 || status == 403)
        return DENIED;
    return status == 404 ? NOT_FOUND : INVALID;
}

static enum kind kind_of(int status, const struct api_failure *failure)
{
    struct str type = str_from(failure->type);
    /* The message gateway, asked for a channel: "Session is already terminated", whatever else it answers. */
    if (says(failure, "session") && says(failure, "terminated"))
        return NOT_FOUND;
    for (size_t i = 0; i < sizeof NAMED / sizeof NAMED[0]; i++) {
        if (!str_equal_text(type, NAMED[i].type))
            continue;
        /* A signature can be wrong in its time only; then the name is the same and the words differ. */
        bool in_time_only = says(failure, "signature expired") || says(failure, "signature not yet current");
        return NAMED[i].kind == MISSIGNED && in_time_only ? SKEWED : NAMED[i].kind;
    }
    if (str_ends_with(type, "NotFoundException") || str_ends_with(type, "NotFound"))
        return NOT_FOUND;
    /* The message gateway: 400 <BadRequest><message>Unable to process due to throttling.</message>. */
    if (status < 500 && (says(failure, "throttl") || says(failure, "rate exceeded")))
        return THROTTLED;
    /* It also says so of what a role may not do: <BadRequest><message>Unauthorized request.</message>, or
     * "HEX: Request is not authenticated." */
    if (status < 500 && (says(failure, "unauthorized request") || says(failure, "is not authenticated")))
        return UNAUTHORIZED;
    return kind_by_status(status);
}

/* "the task role lacks ecs:StopTask", in the words that fit. */
static void write_denial(struct writer *w, const char *lacks, const struct api_call *call,
                         const struct api_failure *failure)
{
    const char *service = endpoint_service_name(call->service);
    if (says(failure, "explicit deny")) {
        writer_format(w, "a policy explicitly denies %s:%s", service, call->action);
    } else {
        writer_format(w, "%s %s:%s", lacks, service, call->action);
        writer_text(w, failure->type[0] == '\0' ? ", or a proxy refused the request" : "");
    }
    writer_terminate(w);
}

enum api_class api_classify(const struct api_call *call, const struct api_answer *answer,
                            struct api_failure *failure, struct error *err)
{
    return api_classify_by(API_BY_TASK, call, answer, failure, err);
}

enum api_class api_classify_by(const char *lacks, const struct api_call *call,
                               const struct api_answer *answer, struct api_failure *failure,
                               struct error *err)
{
    if (answer->status == call->expected_status)
        return API_OK;
    struct api_failure unwanted = {0};
    failure = failure != NULL ? failure : &unwanted;
    api_read_failure(failure, answer);
    if (answer->status < 400) {
        error_set(err, ERROR_INVALID, "%s: status %d where %d was expected: not an AWS endpoint?",
                  call->action, answer->status, call->expected_status);
        return API_FAILED;
    }
    enum kind kind = kind_of(answer->status, failure);
    const char *advice = MEANINGS[kind].advice;
    char denial[128];
    if (advice == NULL) {
        struct writer w = writer_of(denial, sizeof denial);
        write_denial(&w, lacks, call, failure);
        advice = denial;
    }
    bool has_advice = advice[0] != '\0', has_message = failure->message[0] != '\0';
    error_set(err, MEANINGS[kind].code, "%s: %d%s%s%s%s%s%s%s", call->action, answer->status,
              failure->type[0] != '\0' ? " " : "", failure->type, has_advice ? ": " : "", advice,
              !has_message ? ""
              : has_advice ? " ("
                           : ": ",
              failure->message, has_advice && has_message ? ")" : "");
    if (kind == SKEWED && failure->server_unix_ms < 0)
        return API_FAILED; /* nothing to set the clock by */
    return MEANINGS[kind].class;
}

enum api_class api_conclude(const struct api_call *call, int result, struct error *err)
{
    if (result == 0)
        return API_OK;
    error_prefix(err, "%s: ", call->action);
    return API_FAILED;
}
