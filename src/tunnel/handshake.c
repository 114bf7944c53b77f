#include "tunnel/handshake.h"

#include <string.h>

#include "aws/ssmmessages.h"
#include "base/json.h"
#include "base/num.h"
#include "base/utf8.h"

enum { ACTION_SUCCESS = 1, ACTION_FAILED = 2, ACTION_UNSUPPORTED = 3 };

/* ---- versions ---- */

/* One field against another: as numbers when both are, as text otherwise. */
static int compare_fields(struct str a, struct str b)
{
    uint64_t left = 0;
    uint64_t right = 0;
    bool numbers = (a.len == 0 || str_parse_u64(a, &left)) && (b.len == 0 || str_parse_u64(b, &right));
    if (numbers)
        return left < right ? -1 : left > right;
    int order = memcmp(a.ptr, b.ptr, num_min_size(a.len, b.len));
    if (order == 0)
        order = a.len < b.len ? -1 : a.len > b.len;
    return order < 0 ? -1 : order > 0;
}

int handshake_version_compare(struct str a, struct str b)
{
    int order = 0;
    while (order == 0 && (a.len > 0 || b.len > 0)) {
        struct str left;
        struct str right;
        str_cut(a, '.', &left, &a);
        str_cut(b, '.', &right, &b);
        order = compare_fields(left, right);
    }
    return order;
}

bool handshake_client_multiplexes(struct str client_version)
{
    return handshake_version_compare(client_version, STR_LITERAL("1.1.70")) >= 0;
}

bool handshake_client_needs_nops(struct str client_version)
{
    return handshake_client_multiplexes(client_version) &&
           handshake_version_compare(client_version, STR_LITERAL("1.2.331.0")) <= 0;
}

bool handshake_agent_multiplexes(struct str agent_version)
{
    return handshake_version_compare(agent_version, STR_LITERAL("3.0.196.0")) > 0;
}

bool handshake_agent_takes_terminate_flag(struct str agent_version)
{
    return handshake_version_compare(agent_version, STR_LITERAL("2.3.722.0")) > 0;
}

bool handshake_agent_is_served(struct str agent_version)
{
    struct str field;
    struct str rest = agent_version;
    uint64_t number;
    int fields = 0;
    for (; rest.len > 0; fields++) {
        str_cut(rest, '.', &field, &rest);
        if (!str_parse_u64(field, &number))
            return false;
    }
    return fields == 4 && agent_version.len < HANDSHAKE_VERSION_SIZE &&
           agent_version.ptr[agent_version.len - 1] != '.' &&
           handshake_version_compare(agent_version, STR_LITERAL("3.1.1511.0")) > 0;
}

/* ---- the extension ---- */

static void write_extension(struct json_writer *j, const struct handshake_extension *extension,
                            const char *secret_name)
{
    json_key(j, "Fumidai");
    json_begin_object(j);
    json_member_bool(j, "Lanes", extension->lanes);
    json_member_bool(j, "Destinations", extension->destinations);
    if (extension->secret[0] != '\0')
        json_member_text(j, secret_name, extension->secret);
    json_end_object(j);
}

static bool is_secret(struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!((text.ptr[i] >= '0' && text.ptr[i] <= '9') || (text.ptr[i] >= 'a' && text.ptr[i] <= 'f')))
            return false;
    return text.len == HANDSHAKE_SECRET_SIZE - 1;
}

static void read_extension(const struct json *doc, const char *secret_name,
                           struct handshake_extension *extension)
{
    int object = json_member(doc, json_root(doc), "Fumidai");
    extension->is_ours = json_type(doc, object) == JSON_OBJECT;
    if (!extension->is_ours)
        return;
    json_bool(doc, json_member(doc, object, "Lanes"), &extension->lanes);
    json_bool(doc, json_member(doc, object, "Destinations"), &extension->destinations);
    if (!json_string(doc, json_member(doc, object, secret_name), extension->secret, sizeof extension->secret,
                     NULL) ||
        !is_secret(str_from(extension->secret)))
        extension->secret[0] = '\0';
}

/* ---- request ---- */

static void write_request(struct writer *out, const char *agent_version, struct str properties,
                          const struct handshake_extension *offer)
{
    struct json_writer j = json_writer_of(out);
    json_begin_object(&j);
    json_member_text(&j, "AgentVersion", agent_version != NULL ? agent_version : SSMMESSAGES_AGENT_VERSION);
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
    if (offer != NULL)
        write_extension(&j, offer, "Tunnel");
    json_end_object(&j);
}

void handshake_write_request(struct writer *out, const char *agent_version, struct str properties,
                             const struct handshake_extension *offer)
{
    struct writer attempt = *out;
    attempt.capacity = num_min_size(out->capacity, out->len + HANDSHAKE_PAYLOAD_MAX);
    write_request(&attempt, agent_version, properties, offer);
    if (attempt.failed)
        write_request(out, agent_version, properties, NULL);
    else
        out->len = attempt.len;
}

/* What the client needs of the document's properties. */
static void read_properties(const struct json *doc, int properties, struct handshake_request *request)
{
    char port[sizeof "65535"];
    request->is_local_forwarding =
        json_string_equal(doc, json_member(doc, properties, "type"), "LocalPortForwarding");
    if (!json_string(doc, json_member(doc, properties, "localPortNumber"), port, sizeof port, NULL) ||
        !str_parse_port(str_from(port), &request->local_port))
        request->local_port = 0;
}

int handshake_read_request(struct str payload, struct handshake_request *request, struct error *err)
{
    struct json_token tokens[HANDSHAKE_TOKENS_MAX];
    struct json doc;
    memset(request, 0, sizeof *request);
    int result = json_parse(&doc, payload, tokens, HANDSHAKE_TOKENS_MAX, err);
    if (result < 0)
        return error_prefix(err, "HandshakeRequest: ");
    int root = json_root(&doc);
    if (!json_string(&doc, json_member(&doc, root, "AgentVersion"), request->agent_version,
                     sizeof request->agent_version, NULL))
        return error_set(err, ERROR_INVALID, "HandshakeRequest has no AgentVersion of at most %d bytes",
                         HANDSHAKE_VERSION_SIZE - 1);
    int actions = json_member(&doc, root, "RequestedClientActions");
    for (size_t i = 0; i < json_count(&doc, actions); i++) {
        int action = json_element(&doc, actions, i);
        int parameters = json_member(&doc, action, "ActionParameters");
        if (!json_string_equal(&doc, json_member(&doc, action, "ActionType"), "SessionType"))
            continue;
        request->is_port = json_string_equal(&doc, json_member(&doc, parameters, "SessionType"), "Port");
        read_properties(&doc, json_member(&doc, parameters, "Properties"), request);
    }
    read_extension(&doc, "Tunnel", &request->extension);
    return 0;
}

/* ---- response ---- */

void handshake_write_response(struct writer *out, const struct handshake_response *response, bool accepts)
{
    struct json_writer j = json_writer_of(out);
    json_begin_object(&j);
    json_member_text(&j, "ClientVersion", response->client_version);
    json_key(&j, "ProcessedClientActions");
    json_begin_array(&j);
    json_begin_object(&j);
    json_member_text(&j, "ActionType", "SessionType");
    json_member_i64(&j, "ActionStatus", accepts ? ACTION_SUCCESS : ACTION_UNSUPPORTED);
    json_key(&j, "ActionResult");
    json_put_raw(&j, STR_LITERAL("null"));
    json_member_text(&j, "Error", accepts ? "" : "this client serves Port sessions only");
    json_end_object(&j);
    json_end_array(&j);
    json_key(&j, "Errors");
    json_put_raw(&j, STR_LITERAL("null"));
    if (response->half_close)
        json_member_bool(&j, "HalfClose", true);
    if (response->extension.is_ours)
        write_extension(&j, &response->extension, "Join");
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
    struct json_token tokens[HANDSHAKE_TOKENS_MAX];
    struct json doc;
    bool accepted = false;
    memset(response, 0, sizeof *response);
    int result = json_parse(&doc, payload, tokens, HANDSHAKE_TOKENS_MAX, err);
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
    read_extension(&doc, "Join", &response->extension);
    return 0;
}

/* ---- complete ---- */

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

bool handshake_read_complete(struct str payload, char *message, size_t capacity)
{
    struct json_token tokens[HANDSHAKE_TOKENS_MAX];
    char memory[HANDSHAKE_PAYLOAD_MAX];
    struct json doc;
    struct str text;
    message[0] = '\0';
    if (json_parse(&doc, payload, tokens, HANDSHAKE_TOKENS_MAX, NULL) < 0)
        return false;
    if (json_string(&doc, json_member(&doc, json_root(&doc), "CustomerMessage"), memory, sizeof memory,
                    &text))
        utf8_copy_cut(text, message, capacity);
    return true;
}
