#include "aws/ssmmessages.h"

#include <string.h>

#include "aws/xml.h"
#include "base/json.h"
#include "base/utf8.h"

#define SCHEMA_VERSION "1.0"

static const struct {
    struct api_call create;
    const char *path;
    const char *query;
} CHANNELS[] = {
    [SSMMESSAGES_CONTROL] = {{ENDPOINT_SSMMESSAGES, "CreateControlChannel", 201},
                             "/v1/control-channel/",
                             "role=subscribe&stream=input"},
    [SSMMESSAGES_DATA] = {{ENDPOINT_SSMMESSAGES, "CreateDataChannel", 201},
                          "/v1/data-channel/",
                          "role=publish_subscribe"},
};

/* --- requests --- */

static struct json_writer begin(struct writer *out, struct str request_id)
{
    struct json_writer j = json_writer_of(out);
    json_begin_object(&j);
    json_member_text(&j, "MessageSchemaVersion", SCHEMA_VERSION);
    json_member_string(&j, "RequestId", request_id);
    return j;
}

void ssmmessages_write_create_control(struct writer *body, struct str request_id)
{
    struct json_writer j = begin(body, request_id);
    json_end_object(&j);
}

void ssmmessages_write_create_data(struct writer *body, struct str request_id, struct str client_id)
{
    struct json_writer j = begin(body, request_id);
    json_member_string(&j, "ClientId", client_id);
    json_end_object(&j);
}

static int start(struct api_request *request, const char *method, const struct endpoint *endpoint,
                 enum ssmmessages_channel channel, struct str id, struct error *err)
{
    char path[API_PATH_SIZE];
    struct writer w = writer_of(path, sizeof path);
    writer_text(&w, CHANNELS[channel].path);
    writer_str(&w, id);
    int result = id.len == 0 || memchr(id.ptr, '/', id.len) != NULL
                     ? error_set(err, ERROR_INVALID, "\"%.*s\" is not a valid channel id", STR_ARG(id))
                 : w.failed ? error_set(err, ERROR_TOO_LARGE, "a channel id of %zu bytes", id.len)
                            : api_request_start(request, method, endpoint, writer_view(&w), err);
    if (result != 0)
        error_prefix(err, "%s: ", CHANNELS[channel].create.action);
    return result;
}

int ssmmessages_make_create(struct api_request *request, const struct endpoint *endpoint,
                            enum ssmmessages_channel channel, struct str id, struct str body,
                            struct error *err)
{
    int result = start(request, "POST", endpoint, channel, id, err);
    if (result == 0) {
        result = api_request_add(request, "content-type", STR_LITERAL("application/json"), err);
        request->body = body;
    }
    return result;
}

int ssmmessages_make_open(struct api_request *request, const struct endpoint *endpoint,
                          enum ssmmessages_channel channel, struct str id, struct error *err)
{
    int result = start(request, "GET", endpoint, channel, id, err);
    if (result == 0)
        request->query = str_from(CHANNELS[channel].query);
    return result;
}

enum api_class ssmmessages_read_create(char token[SSMMESSAGES_TOKEN_SIZE], enum ssmmessages_channel channel,
                                       const struct api_answer *answer, struct api_failure *failure,
                                       struct error *err)
{
    const struct api_call *call = &CHANNELS[channel].create;
    token[0] = '\0';
    enum api_class class = api_classify(call, answer, failure, err);
    if (class != API_OK)
        return class;
    if (xml_text(answer->body, "TokenValue", token, SSMMESSAGES_TOKEN_SIZE) && token[0] != '\0')
        return API_OK;
    bytes_wipe(token, SSMMESSAGES_TOKEN_SIZE);
    error_set(err, ERROR_INVALID, "%s: an answer of %zu bytes without a TokenValue that fits %d",
              call->action, answer->body.len, SSMMESSAGES_TOKEN_SIZE - 1);
    return API_FAILED;
}

/* --- first frames --- */

void ssmmessages_write_open_control(struct writer *frame, struct str request_id, struct str token,
                                    struct str agent_version)
{
    struct json_writer j = begin(frame, request_id);
    json_member_string(&j, "TokenValue", token);
    json_member_string(&j, "AgentVersion", agent_version);
    json_member_text(&j, "PlatformType", "linux");
    json_key(&j, "Cookie");
    json_put_null(&j);
    json_end_object(&j);
}

void ssmmessages_write_open_data(struct writer *frame, struct str request_id, struct str token,
                                 struct str target_id, struct str client_id)
{
    struct json_writer j = begin(frame, request_id);
    json_member_string(&j, "TokenValue", token);
    json_member_string(&j, "ClientInstanceId", target_id);
    json_member_string(&j, "ClientId", client_id);
    json_end_object(&j);
}

void ssmmessages_write_open_data_as_client(struct writer *frame, struct str request_id, struct str token,
                                           struct str client_id, struct str client_version)
{
    struct json_writer j = begin(frame, request_id);
    json_member_string(&j, "TokenValue", token);
    json_member_string(&j, "ClientId", client_id);
    json_member_string(&j, "ClientVersion", client_version);
    json_end_object(&j);
}

/* --- control messages --- */

void ssmmessages_write_task_complete(struct writer *payload, const struct ssmmessages_task_complete *complete)
{
    static const char *const UNUSED[] = {"S3Bucket", "S3UrlSuffix", "CwlGroup", "CwlStream"};
    struct json_writer j = json_writer_of(payload);
    json_begin_object(&j);
    json_member_i64(&j, "SchemaVersion", 1);
    json_member_string(&j, "TaskId", complete->session_id);
    json_member_text(&j, "Topic", "agent_task_complete");
    json_member_text(&j, "FinalTaskStatus", complete->success ? "Success" : "Failed");
    json_member_bool(&j, "IsRoutingFailure", false);
    json_member_text(&j, "AwsAccountId", "");
    json_member_string(&j, "InstanceId", complete->target_id);
    json_member_string(&j, "Output", utf8_limit(complete->output, SSMMESSAGES_OUTPUT_MAX));
    for (size_t i = 0; i < sizeof UNUSED / sizeof UNUSED[0]; i++)
        json_member_text(&j, UNUSED[i], "");
    json_member_i64(&j, "RetryNumber", complete->retry_number);
    json_end_object(&j);
}

void ssmmessages_write_session_state(struct writer *payload, struct str session_id,
                                     enum ssmmessages_session_state state)
{
    struct json_writer j = json_writer_of(payload);
    json_begin_object(&j);
    json_member_i64(&j, "SchemaVersion", 1);
    json_member_text(&j, "SessionState", state == SSMMESSAGES_CONNECTED ? "Connected" : "Terminating");
    json_member_string(&j, "SessionId", session_id);
    json_end_object(&j);
}
