#include "aws/metadata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static struct json_token tokens[API_JSON_TOKENS];

/* As Fargate's platform 1.4 serves them, shortened where nothing is read. */
#define RUNTIME_ID "cd189a933e5849daa93386466019ab50-2495160603"
#define CONTAINER                                                                                            \
    "{\"DockerId\":\"" RUNTIME_ID                                                                            \
    "\",\"Name\":\"bastion\",\"DockerName\":\"bastion\",\"Image\":\"i\",\"ImageID\":\"sha256:e\","           \
    "\"Labels\":{\"com.amazonaws.ecs.cluster\":\"arn:aws:ecs:us-west-2:111122223333:cluster/default\"},"     \
    "\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"RUNNING\",\"Limits\":{\"CPU\":2},\"Type\":\"NORMAL\","  \
    "\"Networks\":[{\"NetworkMode\":\"awsvpc\",\"IPv4Addresses\":[\"192.0.2.3\"],\"AttachmentIndex\":0,"     \
    "\"MACAddress\":\"0a:de:f6:10:51:e5\",\"IPv4SubnetCIDRBlock\":\"192.0.2.0/"                              \
    "24\",\"IPv6Addresses\":[\"2001:db8::7\"],"                                                              \
    "\"IPv6SubnetCIDRBlock\":\"2001:db8::/64\",\"DomainNameServers\":[\"192.0.2.2\",\"2001:db8::2\"],"       \
    "\"DomainNameSearchList\":[\"us-west-2.compute.internal\"],\"PrivateDNSName\":\"ip-192-0-2-3\","         \
    "\"SubnetGatewayIpv4Address\":\"192.0.2.0/24\"}],\"ContainerARN\":\"arn:aws:ecs:us-west-2:1:container/"  \
    "x\"}"
#define TASK_ID "e9028f8d5d8e4f258373e7b93ce9a3c3"
#define TASK                                                                                                 \
    "{\"Cluster\":\"arn:aws:ecs:us-west-2:111122223333:cluster/default\",\"TaskARN\":"                       \
    "\"arn:aws:ecs:us-west-2:111122223333:task/default/" TASK_ID                                             \
    "\",\"Family\":\"bastion\",\"Revision\":\"3\","                                                          \
    "\"DesiredStatus\":\"RUNNING\",\"KnownStatus\":\"RUNNING\",\"Limits\":{\"CPU\":0.25,\"Memory\":512},"    \
    "\"PullStartedAt\":\"2020-10-08T20:47:16.053330955Z\",\"AvailabilityZone\":\"us-west-2a\","              \
    "\"Containers\":[" CONTAINER                                                                             \
    ",{\"DockerId\":\"other-1\",\"Name\":\"sidecar\",\"KnownStatus\":\"STOPPED\"}],"                         \
    "\"LaunchType\":\"FARGATE\",\"ServiceName\":\"bastion-service\",\"VPCID\":\"vpc-1\"}"

static int read_container(struct metadata *metadata, const char *body, struct error *err)
{
    size_t len = strlen(body);
    char *copy = guard_copy(body, len);
    struct api_answer answer = {.status = 200, .body = {copy, len}};
    int result = metadata_read_container(metadata, &answer, tokens, COUNT(tokens), err);
    guard_free(copy, len);
    return result;
}

static int read_task(struct metadata *metadata, const char *body, struct error *err)
{
    size_t len = strlen(body);
    char *copy = guard_copy(body, len);
    struct api_answer answer = {.status = 200, .body = {copy, len}};
    int result = metadata_read_task(metadata, &answer, tokens, COUNT(tokens), err);
    guard_free(copy, len);
    return result;
}

static void asks_for_both_documents(void **state)
{
    struct endpoint endpoint;
    struct api_request request;
    (void) state;
    assert_int_equal(endpoint_from_url(&endpoint, STR_LITERAL("http://169.254.170.2/v4/" RUNTIME_ID), NULL),
                     0);
    assert_int_equal(metadata_make_container_request(&request, &endpoint, NULL), 0);
    assert_string_equal(request.method, "GET");
    assert_string_equal(request.path, "/v4/" RUNTIME_ID);
    assert_true(str_equal_text(request.host, "169.254.170.2"));
    assert_int_equal(metadata_make_task_request(&request, &endpoint, NULL), 0);
    assert_string_equal(request.path, "/v4/" RUNTIME_ID "/task");
}

static void reads_the_container(void **state)
{
    struct metadata m = {0};
    (void) state;
    assert_int_equal(read_container(&m, CONTAINER, NULL), 0);
    assert_string_equal(m.runtime_id, RUNTIME_ID);
    assert_string_equal(m.ipv4_subnet, "192.0.2.0/24");
    assert_string_equal(m.ipv6_subnet, "2001:db8::/64");
}

static void reads_the_task(void **state)
{
    struct metadata m = {0};
    (void) state;
    assert_int_equal(read_task(&m, TASK, NULL), 0);
    assert_string_equal(m.cluster, "arn:aws:ecs:us-west-2:111122223333:cluster/default");
    assert_string_equal(m.task_arn, "arn:aws:ecs:us-west-2:111122223333:task/default/" TASK_ID);
    assert_string_equal(m.service_name, "bastion-service");
}

static void either_document_may_come_first(void **state)
{
    struct metadata a = {0}, b = {0};
    char target_a[METADATA_TARGET_SIZE], target_b[METADATA_TARGET_SIZE];
    (void) state;
    assert_int_equal(read_container(&a, CONTAINER, NULL), 0);
    assert_int_equal(read_task(&a, TASK, NULL), 0);
    assert_int_equal(read_task(&b, TASK, NULL), 0);
    assert_int_equal(read_container(&b, CONTAINER, NULL), 0);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(metadata_format_target(&a, target_a, NULL), 0);
    assert_int_equal(metadata_format_target(&b, target_b, NULL), 0);
    assert_string_equal(target_a, "ecs:default_" TASK_ID "_" RUNTIME_ID);
    assert_string_equal(target_a, target_b);
}

/* EC2, older platforms, a task that no service started. */
static void what_is_left_out_stays_empty(void **state)
{
    struct metadata m = {0};
    char target[METADATA_TARGET_SIZE];
    (void) state;
    assert_int_equal(read_container(&m, "{\"DockerId\":\"r\",\"Networks\":null}", NULL), 0);
    assert_int_equal(
        read_task(&m, "{\"Cluster\":\"plain-name\",\"TaskARN\":\"arn:aws:ecs:r:1:task/0a1b\"}", NULL), 0);
    assert_string_equal(m.service_name, "");
    assert_string_equal(m.ipv4_subnet, "");
    assert_int_equal(metadata_format_target(&m, target, NULL), 0);
    assert_string_equal(target, "ecs:plain-name_0a1b_r");
}

/* The interface may be described later than the container; where it has no subnet, none is waited for. */
static void tells_what_is_not_known_yet(void **state)
{
    static const struct {
        const char *networks;
        bool ipv4_unknown, ipv6_unknown;
    } rows[] = {
        {"null", true, true},
        {"[]", true, true},
        {"[{\"NetworkMode\":\"bridge\",\"IPv4Addresses\":[\"172.17.0.2\"]}]", false, false},
        {"[{\"NetworkMode\":\"host\"}]", false, false},
        {"[{\"NetworkMode\":\"awsvpc\",\"IPv4Addresses\":[\"10.0.0.9\"]}]", true, false},
        {"[{\"NetworkMode\":\"awsvpc\",\"IPv4SubnetCIDRBlock\":\"10.0.0.0/24\"}]", false, false},
        {"[{\"IPv4SubnetCIDRBlock\":\"10.0.0.0/24\",\"IPv6Addresses\":[\"fd00::9\"]}]", false, true},
        {"[{\"IPv6SubnetCIDRBlock\":\"fd00::/64\",\"IPv6Addresses\":[\"fd00::9\"]}]", true, false},
    };
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct metadata m = {0};
        char text[256];
        snprintf(text, sizeof text, "{\"DockerId\":\"r\",\"Networks\":%s}", rows[i].networks);
        assert_int_equal(read_container(&m, text, NULL), 0);
        if (m.ipv4_unknown != rows[i].ipv4_unknown || m.ipv6_unknown != rows[i].ipv6_unknown)
            fail_msg("%s: %d %d", rows[i].networks, m.ipv4_unknown, m.ipv6_unknown);
    }
}

/* Reading a second time forgets what the second document does not say. */
static void a_second_reading_replaces_the_first(void **state)
{
    struct metadata m = {0};
    (void) state;
    assert_int_equal(read_container(&m, CONTAINER, NULL), 0);
    assert_int_equal(read_task(&m, TASK, NULL), 0);
    assert_int_equal(read_container(&m, "{\"DockerId\":\"r\"}", NULL), 0);
    assert_int_equal(read_task(&m, "{\"Cluster\":\"c\",\"TaskARN\":\"t\"}", NULL), 0);
    assert_string_equal(m.ipv6_subnet, "");
    assert_string_equal(m.service_name, "");
}

static const struct {
    bool is_task;
    const char *body;
    int code;
    const char *text;
} WRONG[] = {
    {false, "", ERROR_INVALID, NULL},
    {false, "{", ERROR_INVALID, NULL},
    {false, "[]", ERROR_INVALID, "container metadata: not a JSON object"},
    {false, "{}", ERROR_NOT_FOUND, "container metadata: DockerId is missing"},
    {false, "{\"DockerId\":\"\"}", ERROR_NOT_FOUND, "container metadata: DockerId is missing"},
    {false, "{\"DockerId\":7}", ERROR_INVALID, "container metadata: DockerId is not a string"},
    {false, "{\"DockerId\":\"a\",\"Networks\":[{\"IPv4SubnetCIDRBlock\":[]}]}", ERROR_INVALID,
     "container metadata: IPv4SubnetCIDRBlock is not a string"},
    {true, "[null]", ERROR_INVALID, "task metadata: not a JSON object"},
    {true, "{\"TaskARN\":\"t\"}", ERROR_NOT_FOUND, "task metadata: Cluster is missing"},
    {true, "{\"Cluster\":\"c\"}", ERROR_NOT_FOUND, "task metadata: TaskARN is missing"},
    {true, "{\"Cluster\":\"c\",\"TaskARN\":\"t\",\"ServiceName\":3}", ERROR_INVALID,
     "task metadata: ServiceName is not a string"},
};

static void says_what_is_wrong(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(WRONG); i++) {
        struct metadata m = {0};
        struct error err = ERROR_INIT;
        int result = (WRONG[i].is_task ? read_task : read_container)(&m, WRONG[i].body, &err);
        if (result != WRONG[i].code || err.text[0] == '\0' ||
            (WRONG[i].text != NULL && strcmp(err.text, WRONG[i].text) != 0))
            fail_msg("row %zu: %d %s", i, result, err.text);
        assert_int_equal((WRONG[i].is_task ? read_task : read_container)(&m, WRONG[i].body, NULL), result);
    }
}

static void every_field_has_its_bound(void **state)
{
    static const struct {
        const char *name;
        size_t size;
        bool is_task;
    } FIELDS[] = {
        {"DockerId", METADATA_ID_SIZE, false},
        {"Cluster", METADATA_ARN_SIZE, true},
        {"TaskARN", METADATA_ARN_SIZE, true},
        {"ServiceName", METADATA_NAME_SIZE, true},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(FIELDS); i++) {
        char body[2048], value[1024] = "", expected[128];
        struct metadata m = {0};
        struct error err = ERROR_INIT;
        memset(value, 'v', FIELDS[i].size);
        snprintf(body, sizeof body, "{\"%s\":\"%s\",\"DockerId\":\"r\",\"Cluster\":\"c\",\"TaskARN\":\"t\"}",
                 FIELDS[i].name, value);
        assert_int_equal((FIELDS[i].is_task ? read_task : read_container)(&m, body, &err), ERROR_TOO_LARGE);
        snprintf(expected, sizeof expected, "%s metadata: %s is longer than %zu bytes, or holds a NUL",
                 FIELDS[i].is_task ? "task" : "container", FIELDS[i].name, FIELDS[i].size - 1);
        assert_string_equal(err.text, expected);
        value[FIELDS[i].size - 1] = '\0';
        snprintf(body, sizeof body, "{\"%s\":\"%s\",\"DockerId\":\"r\",\"Cluster\":\"c\",\"TaskARN\":\"t\"}",
                 FIELDS[i].name, value);
        assert_int_equal((FIELDS[i].is_task ? read_task : read_container)(&m, body, &err), 0);
    }
}

/* A document is good whatever stands in fields that nobody reads: wrong types, and longer than any bound. */
static void what_nobody_reads_does_not_matter(void **state)
{
    static const char *const container[] = {"Name", "DockerName", "Image", "KnownStatus", "Labels"};
    static const char *const network[] = {"IPv4Addresses", "IPv6Addresses", "DomainNameServers",
                                          "NetworkMode"};
    static const char *const task[] = {"Family",     "Revision",    "AvailabilityZone", "LaunchType",
                                       "Containers", "KnownStatus", "DesiredStatus",    "VPCID"};
    char longest[2048];
    const char *const values[] = {"7", "null", "true", "{}", "[]", "[{},{\"Name\":{}},7]", longest};
    (void) state;
    memset(longest, 'v', sizeof longest - 1);
    longest[0] = longest[sizeof longest - 2] = '"';
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i < COUNT(values); i++) {
        char body[4096];
        struct metadata m = {0};
        for (size_t k = 0; k < COUNT(container); k++) {
            snprintf(body, sizeof body, "{\"%s\":%s,\"DockerId\":\"r\"}", container[k], values[i]);
            assert_int_equal(read_container(&m, body, NULL), 0);
        }
        for (size_t k = 0; k < COUNT(network); k++) {
            snprintf(
                body, sizeof body,
                "{\"DockerId\":\"r\",\"Networks\":[{\"%s\":%s,\"IPv4SubnetCIDRBlock\":\"10.0.0.0/24\"}]}",
                network[k], values[i]);
            assert_int_equal(read_container(&m, body, NULL), 0);
            assert_string_equal(m.ipv4_subnet, "10.0.0.0/24");
        }
        for (size_t k = 0; k < COUNT(task); k++) {
            snprintf(body, sizeof body,
                     "{\"%s\":%s,\"Cluster\":\"c\",\"TaskARN\":\"t\",\"ServiceName\":\"s\"}", task[k],
                     values[i]);
            assert_int_equal(read_task(&m, body, NULL), 0);
            assert_string_equal(m.service_name, "s");
        }
    }
}

static void documents_and_tokens_are_bounded(void **state)
{
    static char body[METADATA_DOCUMENT_MAX + 1];
    struct metadata m = {0};
    struct error err = ERROR_INIT;
    (void) state;
    memset(body, ' ', sizeof body);
    struct api_answer answer = {.status = 200, .body = {body, sizeof body}};
    assert_int_equal(metadata_read_task(&m, &answer, tokens, COUNT(tokens), &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "task metadata: more than 131072 bytes");
    answer.body = STR_LITERAL(TASK);
    assert_int_equal(metadata_read_task(&m, &answer, tokens, 10, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "task metadata: JSON has more than 10 values");
}

static void another_status_is_no_document(void **state)
{
    struct metadata m = {0};
    struct error err = ERROR_INIT;
    struct api_answer answer = {.status = 404, .body = STR_LITERAL(TASK)};
    (void) state;
    assert_int_equal(metadata_read_task(&m, &answer, tokens, COUNT(tokens), &err), ERROR_UNAVAILABLE);
    assert_string_equal(err.text, "task metadata: status 404");
    answer.body = STR_LITERAL(CONTAINER);
    assert_int_equal(metadata_read_container(&m, &answer, tokens, COUNT(tokens), &err), ERROR_UNAVAILABLE);
    assert_string_equal(err.text, "container metadata: status 404");
}

static void a_target_needs_all_three(void **state)
{
    static const struct {
        const char *cluster, *task, *runtime;
        int code;
        const char *text;
    } CASES[] = {
        {"", "t", "r", ERROR_NOT_FOUND, "target id: the task's metadata did not say Cluster"},
        {"a/", "t", "r", ERROR_NOT_FOUND, "target id: the task's metadata did not say Cluster"},
        {"c", "", "r", ERROR_NOT_FOUND, "target id: the task's metadata did not say TaskARN"},
        {"c", "t", "", ERROR_NOT_FOUND, "target id: the task's metadata did not say DockerId"},
    };
    char target[METADATA_TARGET_SIZE];
    struct error err = ERROR_INIT;
    (void) state;
    for (size_t i = 0; i < COUNT(CASES); i++) {
        struct metadata m = {0};
        strcpy(m.cluster, CASES[i].cluster);
        strcpy(m.task_arn, CASES[i].task);
        strcpy(m.runtime_id, CASES[i].runtime);
        assert_int_equal(metadata_format_target(&m, target, &err), CASES[i].code);
        assert_string_equal(err.text, CASES[i].text);
        assert_string_equal(target, "");
    }
    struct metadata m = {0};
    memset(m.cluster, 'c', 255);
    memset(m.task_arn, 't', 36);
    memset(m.runtime_id, 'r', 103); /* "ecs:", two '_': 400 */
    assert_int_equal(metadata_format_target(&m, target, &err), 0);
    assert_int_equal(strlen(target), METADATA_TARGET_SIZE - 1);
    m.runtime_id[103] = 'r';
    assert_int_equal(metadata_format_target(&m, target, &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "target id: longer than 400 characters");
    assert_string_equal(target, "");
}

static void a_truncated_document_is_none(void **state)
{
    (void) state;
    for (size_t len = 0; len < strlen(TASK); len++) {
        char *copy = guard_copy(TASK, len);
        struct metadata m = {0};
        struct api_answer answer = {.status = 200, .body = {copy, len}};
        assert_int_equal(metadata_read_task(&m, &answer, tokens, COUNT(tokens), NULL), ERROR_INVALID);
        guard_free(copy, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(asks_for_both_documents),
        cmocka_unit_test(reads_the_container),
        cmocka_unit_test(reads_the_task),
        cmocka_unit_test(either_document_may_come_first),
        cmocka_unit_test(what_is_left_out_stays_empty),
        cmocka_unit_test(tells_what_is_not_known_yet),
        cmocka_unit_test(a_second_reading_replaces_the_first),
        cmocka_unit_test(says_what_is_wrong),
        cmocka_unit_test(every_field_has_its_bound),
        cmocka_unit_test(what_nobody_reads_does_not_matter),
        cmocka_unit_test(documents_and_tokens_are_bounded),
        cmocka_unit_test(another_status_is_no_document),
        cmocka_unit_test(a_target_needs_all_three),
        cmocka_unit_test(a_truncated_document_is_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
