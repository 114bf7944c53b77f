#include "aws/instance_metadata.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void where_it_answers(void **state)
{
    static const struct {
        const char *variable, *authority;
        int result;
    } CASES[] = {
        {"A=b", "169.254.169.254", 0},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=ipv4", "169.254.169.254", 0},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6", "[fd00:ec2::254]", 0},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=5", NULL, ERROR_INVALID},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT=http://127.0.0.1:80/x/", "127.0.0.1", 0},
        {"AWS_EC2_METADATA_SERVICE_ENDPOINT=nowhere", NULL, ERROR_INVALID},
        {"AWS_EC2_METADATA_DISABLED=TRUE", NULL, ERROR_DENIED},
        {"AWS_EC2_METADATA_DISABLED=yes", "169.254.169.254", 0},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char variable[128];
        char *env[] = {variable, NULL};
        struct endpoint endpoint;
        strcpy(variable, CASES[i].variable);
        assert_int_equal(instance_metadata_find(&endpoint, env, NULL), CASES[i].result);
        if (CASES[i].result == 0)
            assert_string_equal(endpoint.authority, CASES[i].authority);
    }
}

static void requests(void **state)
{
    struct endpoint endpoint;
    struct api_request request;
    char role[INSTANCE_METADATA_ROLE_SIZE + 8];
    (void) state;
    assert_int_equal(instance_metadata_find(&endpoint, NULL, NULL), 0);
    assert_int_equal(instance_metadata_make_token_request(&request, &endpoint, NULL), 0);
    assert_string_equal(request.method, "PUT");
    assert_string_equal(request.path, "/latest/api/token");
    assert_string_equal(request.headers[0].name, "x-aws-ec2-metadata-token-ttl-seconds");
    assert_int_equal(instance_metadata_make_request(&request, &endpoint, "tok", "", NULL), 0);
    assert_string_equal(request.path, "/latest/meta-data/iam/security-credentials/");
    assert_true(str_equal_text(request.headers[0].value, "tok"));
    assert_int_equal(instance_metadata_make_request(&request, &endpoint, "tok", "role", NULL), 0);
    assert_string_equal(request.path, "/latest/meta-data/iam/security-credentials/role");
    assert_int_equal(instance_metadata_make_request(&request, &endpoint, "tok", "a b", NULL), ERROR_INVALID);
    memset(role, 'x', sizeof role);
    role[sizeof role - 1] = '\0';
    assert_int_equal(instance_metadata_make_request(&request, &endpoint, "tok", role, NULL), ERROR_TOO_LARGE);
}

static void lines(void **state)
{
    static const struct {
        int status;
        const char *body, *line;
        int result;
    } CASES[] = {
        {200, "role", "role", 0},
        {200, "role\r\nother\n", "role", 0},
        {200, "", "", ERROR_INVALID},
        {200, "a b", "", ERROR_INVALID},
        {200, "01234567", "", ERROR_INVALID},
        {404, "x", "", ERROR_NOT_FOUND},
        {401, "", "", ERROR_DENIED},
        {503, "", "", ERROR_UNAVAILABLE},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char line[8];
        struct api_answer answer = {.status = CASES[i].status, .body = str_from(CASES[i].body)};
        assert_int_equal(instance_metadata_read_line(&answer, line, sizeof line, NULL), CASES[i].result);
        assert_string_equal(line, CASES[i].line);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(where_it_answers),
        cmocka_unit_test(requests),
        cmocka_unit_test(lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
