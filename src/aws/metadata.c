#include "aws/metadata.h"

#include <string.h>

#include "base/bytes.h"

int metadata_make_container_request(struct api_request *request, const struct endpoint *endpoint,
                                    struct error *err)
{
    return api_request_start(request, "GET", endpoint, str_from(NULL), err);
}

int metadata_make_task_request(struct api_request *request, const struct endpoint *endpoint,
                               struct error *err)
{
    return api_request_start(request, "GET", endpoint, STR_LITERAL("/task"), err);
}

/* --- reading --- */

struct field {
    const char *name;
    char *out;
    size_t capacity;
    bool is_required;
};

static int read_fields(const struct json *doc, int object, const struct field *fields, size_t count,
                       struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        int result = api_json_text(doc, object, fields[i].name, fields[i].out, fields[i].capacity, err);
        if (result != 0)
            return result;
        if (fields[i].is_required && fields[i].out[0] == '\0')
            return error_set(err, ERROR_NOT_FOUND, "%s is missing", fields[i].name);
    }
    return 0;
}

static int parse(struct json *doc, const struct api_answer *answer, struct json_token *tokens,
                 size_t capacity, struct error *err)
{
    if (answer->status != 200)
        return error_set(err, ERROR_UNAVAILABLE, "status %d", answer->status);
    if (answer->body.len > METADATA_DOCUMENT_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d bytes", METADATA_DOCUMENT_MAX);
    int result = json_parse(doc, answer->body, tokens, capacity, err);
    if (result == 0 && json_type(doc, json_root(doc)) != JSON_OBJECT)
        return error_set(err, ERROR_INVALID, "not a JSON object");
    return result;
}

static int read_container_document(struct metadata *metadata, const struct json *doc, struct error *err)
{
    const struct field id = {"DockerId", metadata->runtime_id, sizeof metadata->runtime_id, true};
    int root = json_root(doc);
    int result = read_fields(doc, root, &id, 1, err);
    if (result != 0)
        return result;
    int network = json_element(doc, json_member(doc, root, "Networks"), 0);
    const struct field subnets[] = {
        {"IPv4SubnetCIDRBlock", metadata->ipv4_subnet, sizeof metadata->ipv4_subnet, false},
        {"IPv6SubnetCIDRBlock", metadata->ipv6_subnet, sizeof metadata->ipv6_subnet, false},
    };
    result = read_fields(doc, network, subnets, sizeof subnets / sizeof subnets[0], err);
    /* Of bridge and host (EC2) no subnet is ever told. The first answer may have no Networks. */
    int mode = json_member(doc, network, "NetworkMode");
    bool vpc = json_type(doc, mode) != JSON_STRING || json_string_equal(doc, mode, "awsvpc");
    bool may_have_ipv6 = json_type(doc, network) != JSON_OBJECT ||
                         json_count(doc, json_member(doc, network, "IPv6Addresses")) > 0;
    metadata->ipv4_unknown = vpc && metadata->ipv4_subnet[0] == '\0';
    metadata->ipv6_unknown = vpc && metadata->ipv6_subnet[0] == '\0' && may_have_ipv6;
    return result;
}

static int read_task_document(struct metadata *metadata, const struct json *doc, struct error *err)
{
    const struct field fields[] = {
        {"Cluster", metadata->cluster, sizeof metadata->cluster, true},
        {"TaskARN", metadata->task_arn, sizeof metadata->task_arn, true},
        {"ServiceName", metadata->service_name, sizeof metadata->service_name, false},
    };
    return read_fields(doc, json_root(doc), fields, sizeof fields / sizeof fields[0], err);
}

int metadata_read_container(struct metadata *metadata, const struct api_answer *answer,
                            struct json_token *tokens, size_t capacity, struct error *err)
{
    struct json doc = {0};
    int result = parse(&doc, answer, tokens, capacity, err);
    if (result == 0)
        result = read_container_document(metadata, &doc, err);
    if (result != 0)
        error_prefix(err, "container metadata: ");
    return result;
}

int metadata_read_task(struct metadata *metadata, const struct api_answer *answer, struct json_token *tokens,
                       size_t capacity, struct error *err)
{
    struct json doc = {0};
    int result = parse(&doc, answer, tokens, capacity, err);
    if (result == 0)
        result = read_task_document(metadata, &doc, err);
    if (result != 0)
        error_prefix(err, "task metadata: ");
    return result;
}

/* --- the target id --- */

static struct str last_element(struct str path)
{
    struct str head, tail;
    return str_cut_last(path, '/', &head, &tail) ? tail : head;
}

int metadata_write_target(char target[METADATA_TARGET_SIZE], struct str cluster, struct str task,
                          struct str runtime_id, struct error *err)
{
    cluster = last_element(cluster);
    task = last_element(task);
    const char *missing = cluster.len == 0      ? "Cluster"
                          : task.len == 0       ? "TaskARN"
                          : runtime_id.len == 0 ? "DockerId"
                                                : NULL;
    target[0] = '\0';
    if (missing != NULL)
        return error_set(err, ERROR_NOT_FOUND, "target id: the task's metadata did not say %s", missing);
    struct writer w = writer_of(target, METADATA_TARGET_SIZE - 1);
    writer_text(&w, "ecs:");
    writer_str(&w, cluster);
    writer_char(&w, '_');
    writer_str(&w, task);
    writer_char(&w, '_');
    writer_str(&w, runtime_id);
    target[w.failed ? 0 : w.len] = '\0';
    if (w.failed) {
        return error_set(err, ERROR_TOO_LARGE, "target id: longer than %d characters",
                         METADATA_TARGET_SIZE - 1);
    }
    return 0;
}

int metadata_format_target(const struct metadata *metadata, char target[METADATA_TARGET_SIZE],
                           struct error *err)
{
    return metadata_write_target(target, str_from(metadata->cluster), str_from(metadata->task_arn),
                                 str_from(metadata->runtime_id), err);
}
