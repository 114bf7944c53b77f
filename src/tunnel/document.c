#include "tunnel/document.h"

#include <string.h>

/* The document while it is being read: the parsed content and where its parts are. */
struct source {
    struct json doc;
    int content;    /* DocumentContent */
    int parameters; /* what the caller of StartSession gave */
    int declared;   /* what the document declares, with defaults */
};

/* A parameter's value: a string, or an array of one string. */
static int unwrap_single(const struct json *doc, int value)
{
    if (json_type(doc, value) == JSON_ARRAY && json_count(doc, value) == 1)
        return json_element(doc, value, 0);
    return value;
}

static bool read_parameter(const struct source *src, const char *name, char *out, size_t capacity,
                           struct str *view)
{
    int given = unwrap_single(&src->doc, json_member(&src->doc, src->parameters, name));
    if (json_type(&src->doc, given) == JSON_STRING)
        return json_string(&src->doc, given, out, capacity, view);
    int declared = json_member(&src->doc, src->declared, name);
    int fallback = unwrap_single(&src->doc, json_member(&src->doc, declared, "default"));
    return json_string(&src->doc, fallback, out, capacity, view);
}

/* Appends `text` with every {{ name }} replaced by that parameter. A reference nobody defines is an error. */
static int substitute(const struct source *src, struct str text, struct writer *out, struct error *err)
{
    size_t open;
    while (str_find(text, "{{", &open)) {
        struct str rest = str_slice(text, open + 2, text.len);
        size_t close;
        char name[DOCUMENT_TYPE_SIZE];
        char value[DOCUMENT_PROPERTIES_SIZE];
        struct str view;
        if (!str_find(rest, "}}", &close))
            break;
        struct str reference = str_trim(str_slice(rest, 0, close));
        if (!str_copy(reference, name, sizeof name) || !read_parameter(src, name, value, sizeof value, &view))
            return error_set(
                err, ERROR_INVALID,
                "the document refers to parameter \"%.*s\", which has neither a value nor a default",
                STR_ARG(reference));
        writer_str(out, str_slice(text, 0, open));
        writer_str(out, view);
        text = str_slice(rest, close + 2, rest.len);
    }
    writer_str(out, text);
    return 0;
}

/* Reads one string property, substituted and terminated. *present says whether the document has it. */
static int read_property(const struct source *src, int value, char *out, size_t capacity, struct error *err)
{
    char raw[DOCUMENT_PROPERTIES_SIZE];
    struct str view;
    struct writer text = writer_of(out, capacity);
    out[0] = '\0';
    if (json_type(&src->doc, value) == JSON_NUMBER) { /* "portNumber": 5439 is as clear as "5439" */
        writer_str(&text, json_raw(&src->doc, value));
    } else if (json_type(&src->doc, value) == JSON_STRING) {
        if (!json_string(&src->doc, value, raw, sizeof raw, &view))
            return error_set(err, ERROR_TOO_LARGE,
                             "a property of the session document is longer than %zu bytes", sizeof raw - 1);
        int result = substitute(src, view, &text, err);
        if (result < 0)
            return result;
    }
    writer_terminate(&text);
    if (text.failed || text.len + 1 > capacity)
        return error_set(err, ERROR_TOO_LARGE, "a property of the session document is longer than %zu bytes",
                         capacity - 1);
    return 0;
}

/* Writes the properties as the client sees them: strings substituted, everything else as it stands. */
static int write_properties(const struct source *src, int properties, struct document *document,
                            struct error *err)
{
    struct writer out = writer_of(document->properties, sizeof document->properties - 1);
    struct json_writer j = json_writer_of(&out);
    int position = 0;
    int key;
    int value;
    json_begin_object(&j);
    while (json_next_member(&src->doc, properties, &position, &key, &value)) {
        char name[DOCUMENT_TYPE_SIZE];
        char text[DOCUMENT_PROPERTIES_SIZE];
        if (!json_string(&src->doc, key, name, sizeof name, NULL))
            return error_set(err, ERROR_TOO_LARGE, "a property's name is longer than %zu bytes",
                             sizeof name - 1);
        json_key(&j, name);
        if (json_type(&src->doc, value) != JSON_STRING) {
            json_put_raw(&j, json_raw(&src->doc, value));
            continue;
        }
        int result = read_property(src, value, text, sizeof text, err);
        if (result < 0)
            return result;
        json_put_text(&j, text);
    }
    json_end_object(&j);
    document->properties[out.len] = '\0';
    if (out.failed)
        return error_set(err, ERROR_TOO_LARGE, "the document's properties take more than %zu bytes",
                         sizeof document->properties - 1);
    return 0;
}

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == ':' || c == '[' || c == ']';
}

/* A name or an address; whether it resolves is the resolver's business, but it must be safe to print. */
static bool is_host(struct str host)
{
    for (size_t i = 0; i < host.len; i++)
        if (!is_host_char(host.ptr[i]))
            return false;
    return host.len > 0;
}

/* Names that begin with "AWS-" are AWS's own: no account can make one. */
static bool allows_any_destination(const struct source *src, int properties, const struct document *document)
{
    if (document->kind != DOCUMENT_LOCAL_FORWARDING)
        return false;
    return strcmp(document->document_name, "AWS-StartPortForwardingSessionToRemoteHost") == 0 ||
           json_string_equal(&src->doc, json_member(&src->doc, properties, "fumidaiDestinations"), "any");
}

static int read_target(const struct source *src, int properties, struct document *document, struct error *err)
{
    char text[DIAL_POLICY_HOST_SIZE];
    char kind[DOCUMENT_TYPE_SIZE];
    int result = read_property(src, json_member(&src->doc, properties, "portNumber"), text, sizeof text, err);
    if (result < 0)
        return error_prefix(err, "portNumber: ");
    if (!str_parse_port(str_from(text), &document->port))
        return error_set(err, ERROR_INVALID, "portNumber \"%s\" is not a port: want 1 to 65535", text);
    result = read_property(src, json_member(&src->doc, properties, "host"), document->host,
                           sizeof document->host, err);
    if (result < 0)
        return error_prefix(err, "host: ");
    if (document->host[0] == '\0')
        str_copy(STR_LITERAL("localhost"), document->host, sizeof document->host);
    if (!is_host(str_from(document->host)))
        return error_set(err, ERROR_INVALID, "host \"%s\" is neither a DNS name nor an address",
                         document->host);
    result = read_property(src, json_member(&src->doc, properties, "type"), kind, sizeof kind, err);
    if (result < 0)
        return error_prefix(err, "type: ");
    document->kind =
        str_equal_nocase(str_from(kind), "LocalPortForwarding") ? DOCUMENT_LOCAL_FORWARDING : DOCUMENT_STREAM;
    document->any_destination = allows_any_destination(src, properties, document);
    return 0;
}

static int check_type(const struct source *src, struct document *document, struct error *err)
{
    char schema[16];
    if (!json_string(&src->doc, json_member(&src->doc, src->content, "schemaVersion"), schema, sizeof schema,
                     NULL) ||
        strcmp(schema, "1.0") != 0)
        return error_set(err, ERROR_UNSUPPORTED,
                         "document %s: only schemaVersion \"1.0\" exists for sessions",
                         document->document_name);
    if (!json_string(&src->doc, json_member(&src->doc, src->content, "sessionType"), document->session_type,
                     sizeof document->session_type, NULL))
        return error_set(err, ERROR_INVALID, "document %s has no sessionType", document->document_name);
    if (!str_equal_nocase(str_from(document->session_type), "Port"))
        return error_set(err, ERROR_UNSUPPORTED,
                         "session type %s needs a shell, and this task has none: it only forwards ports "
                         "(AWS-StartPortForwardingSession, AWS-StartPortForwardingSessionToRemoteHost)",
                         document->session_type);
    return 0;
}

/* Whom the session belongs to; read first, so that even a refusal names it. */
static int read_identity(const struct source *src, struct document *document, struct error *err)
{
    const struct json *doc = &src->doc;
    int root = json_root(doc);
    if (!json_string(doc, json_member(doc, root, "SessionId"), document->session_id,
                     sizeof document->session_id, NULL) ||
        document->session_id[0] == '\0')
        return error_set(err, ERROR_INVALID, "the start message names no SessionId of 1 to %d bytes",
                         DOCUMENT_ID_SIZE - 1);
    /* Not needed to serve: without one, or with one that is too long, a session is not refused. */
    if (!json_string(doc, json_member(doc, root, "SessionOwner"), document->owner, sizeof document->owner,
                     NULL))
        str_copy(STR_LITERAL(DOCUMENT_UNKNOWN), document->owner, sizeof document->owner);
    if (!json_string(doc, json_member(doc, root, "DocumentName"), document->document_name,
                     sizeof document->document_name, NULL))
        str_copy(STR_LITERAL(DOCUMENT_UNKNOWN), document->document_name, sizeof document->document_name);
    return 0;
}

/* Finds and unescapes Content, the document within the message. */
static int open_content(struct source *src, struct str payload, struct document_scratch *scratch,
                        struct error *err)
{
    struct json outer;
    struct str content;
    int result = json_parse(&outer, payload, scratch->outer_tokens,
                            sizeof scratch->outer_tokens / sizeof scratch->outer_tokens[0], err);
    if (result < 0)
        return error_prefix(err, "start message: ");
    int value = json_member(&outer, json_root(&outer), "Content");
    if (json_type(&outer, value) != JSON_STRING)
        return error_set(err, ERROR_INVALID, "the start message has no Content");
    if (!json_string(&outer, value, scratch->content, sizeof scratch->content, &content))
        return error_set(err, ERROR_TOO_LARGE, "Content is longer than %d bytes or not text",
                         DOCUMENT_CONTENT_MAX - 1);
    result = json_parse(&src->doc, content, scratch->tokens, DOCUMENT_TOKENS_MAX, err);
    if (result < 0)
        return error_prefix(err, "Content: ");
    int root = json_root(&src->doc);
    src->content = json_member(&src->doc, root, "DocumentContent");
    src->parameters = json_member(&src->doc, root, "Parameters");
    src->declared = json_member(&src->doc, src->content, "parameters");
    return 0;
}

int document_parse(struct document *document, struct str payload, struct document_scratch *scratch,
                   struct error *err)
{
    struct source src = {0};
    memset(document, 0, sizeof *document);
    int result = open_content(&src, payload, scratch, err);
    if (result < 0)
        return result;
    result = read_identity(&src, document, err);
    if (result < 0)
        return result;
    result = check_type(&src, document, err);
    if (result < 0)
        return result;
    int properties = json_member(&src.doc, src.content, "properties");
    if (json_type(&src.doc, properties) != JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "document %s has no properties", document->document_name);
    result = read_target(&src, properties, document, err);
    if (result < 0)
        return result;
    return write_properties(&src, properties, document, err);
}

bool document_has_target(const struct document *document)
{
    return !document->any_destination || strcmp(document->host, DOCUMENT_ANY_HOST) != 0;
}
