#include "tunnel/handshake.h"

#include <string.h>

#include "aws/ssmmessages.h"
#include "base/json.h"

enum { ACTION_SUCCESS = 1, ACTION_FAILED = 2, ACTION_UNSUPPORTED = 3 };

static uint64_t take_field(struct str *version)
{
    struct str field;
    uint64_t value = 0;
    str_cut(*version, '.', &field, version);
    for (size_t i = 0; i < field.len && field.ptr[i] >= '0' && field.ptr[i] <= '9' && value < UINT32_MAX; i++)
        value = value * 10 + (uint64_t) (field.ptr[i] - '0');
    return value;
}

int handshake_version_compare(struct str a, struct str b)
{
    while (a.len > 0 || b.len > 0) {
        uint64_t left = take_field(&a);
        uint64_t right = take_field(&b);
        if (left != right)
            return left < right ? -1 : 1;
    }
    return 0;
}

bool handshake_client_multiplexes(struct str client_version)
{
    return handshake_version_compare(client_version, STR_LITERAL("1.1.70")) >= 0;
}

void handshake_write_request(struct writer *out, struct str properties)
{
    struct json_writer j = json_writer_of(out);
    json_begin_object(&j);
    json_member_text(&j, "AgentVersion", SSMMESSAGES_AGENT_VERSION);
    json_key(&j, "RequestedClientActions");
    json_begin_array(&j);
    json_begin_object(&j);
    json_member_text(&j, "ActionType", "SessionType");
    json_key(&j, "ActionParameters");
    json_begin_object(&j);
    json_member_text(&j, "SessionType", "Port");
    json_key(&j, "Properties");
    json_put_raw(&j, properties);
    json_end_object(&j);
    json_end_object(&j);
    json_end_array(&j);
    json_end_object(&j);
}

/* One processed action. Others than ours are of no interest: nothing else was asked for. */
static int read_action(const struct json *doc, int action, bool *accepted, struct error *err)
{
    int64_t status;
    char reason[HANDSHAKE_REASON_SIZE];
    if (!json_string_equal(doc, json_member(doc, action, "ActionType"), "SessionType"))
        return 0;
    if (!json_i64(doc, json_member(doc, action, "ActionStatus"), &status))
        return error_set(err, ERROR_INVALID, "HandshakeResponse: the SessionType action has no ActionStatus");
    if (status == ACTION_SUCCESS) {
        *accepted = true;
        return 0;
    }
    if (!json_string(doc, json_member(doc, action, "Error"), reason, sizeof reason, NULL))
        reason[0] = '\0';
    return error_set(err, ERROR_UNSUPPORTED, "the client %s session type Port%s%s",
                     status == ACTION_UNSUPPORTED ? "does not support" : "failed to start",
                     reason[0] != '\0' ? ": " : "", reason);
}

int handshake_read_response(struct str payload, struct handshake_response *response, struct error *err)
{
    struct json_token tokens[HANDSHAKE_RESPONSE_TOKENS_MAX];
    struct json doc;
    bool accepted = false;
    memset(response, 0, sizeof *response);
    int result = json_parse(&doc, payload, tokens, HANDSHAKE_RESPONSE_TOKENS_MAX, err);
    if (result < 0)
        return error_prefix(err, "HandshakeResponse: ");
    int root = json_root(&doc);
    if (!json_string(&doc, json_member(&doc, root, "ClientVersion"), response->client_version,
                     sizeof response->client_version, NULL))
        return error_set(err, ERROR_INVALID, "HandshakeResponse has no ClientVersion of at most %d bytes",
                         HANDSHAKE_VERSION_SIZE - 1);
    int actions = json_member(&doc, root, "ProcessedClientActions");
    for (size_t i = 0; i < json_count(&doc, actions) && result == 0; i++)
        result = read_action(&doc, json_element(&doc, actions, i), &accepted, err);
    if (result < 0)
        return result;
    if (!accepted)
        return error_set(err, ERROR_INVALID, "HandshakeResponse does not answer the SessionType action");
    json_bool(&doc, json_member(&doc, root, "HalfClose"), &response->half_close);
    return 0;
}

void handshake_write_complete(struct writer *out, int64_t elapsed_ms, struct str message)
{
    /* A byte may become six when escaped: what is longer than this is halved until it fits. */
    size_t start = out->len;
    for (size_t max = message.len;; max /= 2) {
        struct writer attempt = *out;
        if (attempt.capacity - start > HANDSHAKE_PAYLOAD_MAX)
            attempt.capacity = start + HANDSHAKE_PAYLOAD_MAX;
        struct json_writer j = json_writer_of(&attempt);
        json_begin_object(&j);
        json_member_i64(&j, "HandshakeTimeToComplete", elapsed_ms * 1000000);
        json_member_string(&j, "CustomerMessage", str_limit_utf8(message, max));
        json_end_object(&j);
        if (!attempt.failed || max == 0) {
            attempt.capacity = out->capacity;
            *out = attempt;
            return;
        }
    }
}
