#include "aws/stream_url.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "aws/sigv4.h"
#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])
#define BASE         "wss://ssmmessages.eu-west-1.amazonaws.com/v1/data-channel/"

static struct stream_url url;

static int parse(const char *text, struct error *err)
{
    size_t len = strlen(text);
    char *copy = guard_copy(text, len);
    int result = stream_url_parse(&url, (struct str){copy, len}, err);
    if (result == 0) { /* the views show the copy */
        assert_memory_equal(url.path.ptr, strchr(text + 6, '/'), url.path.len);
        url.path.ptr = strchr(text + 6, '/');
        url.query.ptr = url.query.len > 0 ? strchr(text, '?') + 1 : NULL;
    }
    guard_free(copy, len);
    return result;
}

static void takes_a_url_apart(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(parse(BASE "me-0a?role=publish_subscribe&cell-number=AA+/==", &err), 0);
    assert_true(url.endpoint.tls);
    assert_int_equal(url.endpoint.port, 443);
    assert_string_equal(url.endpoint.authority, "ssmmessages.eu-west-1.amazonaws.com");
    assert_string_equal(url.endpoint.path, "");
    assert_true(str_equal_text(url.path, "/v1/data-channel/me-0a"));
    assert_true(str_equal_text(url.query, "role=publish_subscribe&cell-number=AA+/=="));
    assert_false(url.is_presigned);
    assert_int_equal(parse("ws://LocalHost:4566/v1/data-channel/x", &err), 0);
    assert_false(url.endpoint.tls);
    assert_int_equal(url.endpoint.port, 4566);
    assert_string_equal(url.endpoint.authority, "localhost:4566");
    assert_string_equal(url.signed_query, "");
}

/*
 * Signed by the AWS SDK for Go (aws-sdk-go-v2 v1.47.7, aws/signer/v4, Signer.SignHTTP of a GET of this URL
 * without other headers): what AWS's plugin signs with.
 * TestStreamURLVectors (tests/emulator/edge) signs them anew.
 */
static const struct {
    const char *url;
    const char *query;
    const char *signature;
} VECTORS[] = {
    {BASE "me@example.com-0a1b2c3d4e5f6a7b8?role=publish_subscribe", "role=publish_subscribe",
     "738318d9e742850f07848b9864f31601754780b1e5a68167802f3b3b6ca7e86c"},
    {BASE "deploy-0a1b?role=publish_subscribe&cell-number=AAEAAb+cd/ef+gh==",
     "cell-number=AAEAAb%20cd%2Fef%20gh%3D%3D&role=publish_subscribe",
     "22d82b9d00c9d72034219b6f42970b97988d13b4d456bf6ee1a6f0dae996b399"},
    {BASE "deploy-0a1b?role=publish_subscribe&cell-number=AAEA%2Bcd%2Fef%3d%20x",
     "cell-number=AAEA%2Bcd%2Fef%3D%20x&role=publish_subscribe",
     "fa1f8569769c2f4144b68bfcf151231d3716cc4843e1a5b77d423651c8985989"},
    {BASE "deploy-0a1b?cell-number&&role=b&role=a&role=", "cell-number=&role=&role=a&role=b",
     "f271680117f5e8d6e6c1f2188ed0901a6082cad98fd0d43d606eda4bb129f151"},
    {BASE "deploy-0a1b?role=publish_subscribe&x;y=1&z=%7e%E8%B8%8f", "role=publish_subscribe&z=~%E8%B8%8F",
     "9da3eea187c72abbd2566abd750d923a6a54e97bc8e1b7470671abc9ff75e4d8"},
    {BASE "deploy-0a1b?a-b=1&a=2", "a=2&a-b=1",
     "836c5e308b2ecb0d9dc3f53c3fcaeb73dc3530a529ae4e4846abb76998683a88"},
    {BASE "deploy-0a1b?a%20b=1&+c=2&a=x=y", "%20c=2&a=x%3Dy&a%20b=1",
     "38a0a57ff9bf5df6dedb2bf4f906c4416774a00a2c54c59c5c685ce6db61c9e9"},
    {BASE "deploy-0a1b", "", "26cac98dfa3a821a3b4d3614da9b744494f375ae61eb5928ee648a4002f6e0d5"},
    {"wss://vpce-1.example.com:8443/v1/data-channel/a,b=c?role=x", "role=x",
     "056ad3547aafca10d6e5b71fb4e903fbc050bd1683856ddf7d1905ce92b755b9"},
};

static void is_signed_as_the_plugin_signs(void **state)
{
    static const struct credentials credentials = {
        .access_key_id = "AKIDEXAMPLE",
        .secret_access_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        .session_token = "IQoJb3JpZ2luX2VjEXAMPLE/token+with=signs=="};
    (void) state;
    for (size_t i = 0; i < COUNT(VECTORS); i++) {
        struct api_request request;
        struct sigv4_signature signature;
        struct error err = ERROR_INIT;
        if (parse(VECTORS[i].url, &err) != 0 || strcmp(url.signed_query, VECTORS[i].query) != 0)
            fail_msg("%s: %s (%s)", VECTORS[i].url, url.signed_query, err.text);
        assert_int_equal(stream_url_make_open(&request, &url.endpoint, &url, &err), 0);
        assert_string_equal(request.method, "GET");
        assert_int_equal(sigv4_sign(&request, &signature, &credentials, STR_LITERAL("eu-west-1"),
                                    STR_LITERAL("ssmmessages"), 1700000000123, &err),
                         0);
        const char *at =
            strstr(signature.authorization, "SignedHeaders=host;x-amz-date;x-amz-security-token, "
                                            "Signature=");
        assert_non_null(at);
        if (strcmp(strrchr(at, '=') + 1, VECTORS[i].signature) != 0)
            fail_msg("%s: %s", VECTORS[i].url, at);
    }
}

static void a_configured_endpoint_takes_the_place_of_the_host(void **state)
{
    char *env[] = {"AWS_ENDPOINT_URL=http://everything", "AWS_ENDPOINT_URL_SSMMESSAGES=https://vpce-1:8443/p",
                   NULL};
    struct api_request request;
    struct endpoint endpoint;
    struct error err = ERROR_INIT;
    bool is_set;
    (void) state;
    assert_int_equal(parse(BASE "me-0a?role=x", &err), 0);
    assert_int_equal(endpoint_from_own_variable(&endpoint, &is_set, ENDPOINT_SSMMESSAGES, env, &err), 0);
    assert_true(is_set);
    assert_int_equal(stream_url_make_open(&request, &endpoint, &url, &err), 0);
    assert_string_equal(request.path, "/p/v1/data-channel/me-0a");
    assert_true(str_equal_text(request.host, "vpce-1:8443"));
    env[1] = NULL;
    assert_int_equal(endpoint_from_own_variable(&endpoint, &is_set, ENDPOINT_SSMMESSAGES, env, &err), 0);
    assert_false(is_set);
}

static void tells_presigned_urls(void **state)
{
    static const struct {
        const char *query;
        bool is_presigned;
    } rows[] = {{"role=x&X-Amz-Algorithm=AWS4-HMAC-SHA256", true},
                {"X-Amz-Credential=x", true},
                {"X-Amz-Date=x", true},
                {"X-Amz-Expires=60", true},
                {"X-Amz-SignedHeaders=host", true},
                {"X-Amz-Signature", true},
                {"x-amz-security-token=", true},
                {"X%2DAmz-Date=x", true},
                {"role=X-Amz-Date", false},
                {"X-Amz-Dated=1&X-Amz-=2&Amz-Date=3&X-Amz-User-Agent=4", false}};
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[256];
        snprintf(text, sizeof text, BASE "me-0a?%s", rows[i].query);
        assert_int_equal(parse(text, NULL), 0);
        if (url.is_presigned != rows[i].is_presigned)
            fail_msg("%s", rows[i].query);
    }
}

static void refuses_what_is_not_a_stream_url(void **state)
{
    static const struct {
        const char *text;
        int code;
        const char *message;
    } rows[] = {
        {"", ERROR_INVALID, NULL},
        {"https://h/x", ERROR_INVALID, "StreamUrl: the URL does not begin with wss://"},
        {"ftp://h/x", ERROR_UNSUPPORTED, NULL},
        {"wss://u:p@h/x", ERROR_INVALID, "StreamUrl: the URL has a user"},
        {"wss://h", ERROR_INVALID, "StreamUrl: the URL has no path"},
        {"wss://h?role=x", ERROR_INVALID, "StreamUrl: the URL has no path"},
        {"wss:///x", ERROR_INVALID, NULL},
        {"wss://h/x?a=%4", ERROR_INVALID, NULL},
        {"wss://h/x?a=b#c", ERROR_INVALID, NULL},
        {"wss://h/x y", ERROR_INVALID, NULL},
        {"wss://h/x\r\nHost: z", ERROR_INVALID, NULL},
        {"wss://h/x?1&2&3&4&5&6&7&8&9&10&11&12&13&14&15&16&17", ERROR_TOO_LARGE,
         "StreamUrl: more than 16 parameters"},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct error err = ERROR_INIT;
        if (parse(rows[i].text, &err) != rows[i].code ||
            (rows[i].message != NULL && strcmp(err.text, rows[i].message) != 0))
            fail_msg("%s: %s", rows[i].text, err.text);
    }
}

static void a_url_has_its_bound(void **state)
{
    static char text[SSM_STREAM_URL_SIZE + 1] = "wss://h/x?";
    struct error err = ERROR_INIT;
    (void) state;
    memset(text + 10, '/', sizeof text - 10); /* each is escaped in three */
    text[SSM_STREAM_URL_SIZE - 1] = '\0';
    assert_int_equal(parse(text, &err), 0);
    assert_int_equal(strlen(url.signed_query), 3 * (SSM_STREAM_URL_SIZE - 11) + 1);
    text[SSM_STREAM_URL_SIZE - 1] = '/';
    text[SSM_STREAM_URL_SIZE] = '\0';
    assert_int_equal(parse(text, &err), ERROR_TOO_LARGE);
}

static void the_token_goes_to_aws_only(void **state)
{
    static const struct {
        const char *authority, *region;
        bool is_aws;
    } rows[] = {
        {"ssmmessages.eu-west-1.amazonaws.com", "eu-west-1", true},
        {"SSMMessages.EU-West-1.amazonaws.com:443", "eu-west-1", true},
        {"ssmmessages-fips.us-east-1.amazonaws.com", "us-east-1", true},
        {"ssmmessages.eu-west-1.api.aws", "eu-west-1", true},
        {"ssmmessages.cn-north-1.amazonaws.com.cn", "cn-north-1", true},
        {"ssmmessages.cn-north-1.api.amazonwebservices.com.cn", "cn-north-1", true},
        {"ssmmessages.us-gov-west-1.amazonaws.com", "us-gov-west-1", true},
        {"vpce-0a-1b.ssmmessages.eu-west-1.vpce.amazonaws.com", "eu-west-1", true},
        {"ssmmessages.eu-west-1.amazonaws.com", "us-east-1", false},
        {"ssmmessages.eu-west-1.amazonaws.com", "", false},
        {"ssmmessages.cn-north-1.amazonaws.com", "cn-north-1", false},
        {"ssm.eu-west-1.amazonaws.com", "eu-west-1", false},
        {"x.ssmmessages.eu-west-1.amazonaws.com", "eu-west-1", false},
        {"ssmmessagesx.eu-west-1.amazonaws.com", "eu-west-1", false},
        {"ssmmessages.s3.eu-west-1.amazonaws.com", "eu-west-1", false},
        {"ec2-1-2-3-4.eu-west-1.compute.amazonaws.com", "eu-west-1", false},
        {"ssmmessages.eu-west-1.vpce.amazonaws.com", "eu-west-1", false},
        {"ssmmessages.eu-west-1.amazonaws.com.evil.com", "eu-west-1", false},
        {"ssmmessages.eu-west-1.evilamazonaws.com", "eu-west-1", false},
        {"amazonaws.com", "eu-west-1", false},
        {"eu-west-1.amazonaws.com", "eu-west-1", false},
        {"[::1]", "eu-west-1", false},
    };
    struct error err = ERROR_INIT;
    (void) state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[256];
        snprintf(text, sizeof text, "wss://%s/v1/data-channel/x", rows[i].authority);
        assert_int_equal(parse(text, &err), 0);
        int result = stream_url_check(&url, str_from(rows[i].region), &err);
        if (result != (rows[i].is_aws ? 0 : ERROR_DENIED))
            fail_msg("%s in %s", rows[i].authority, rows[i].region);
    }
    assert_int_equal(parse("ws://ssmmessages.eu-west-1.amazonaws.com/x", &err), 0);
    assert_int_equal(stream_url_check(&url, STR_LITERAL("eu-west-1"), &err), ERROR_DENIED);
    assert_string_equal(err.text,
                        "StreamUrl: ws://ssmmessages.eu-west-1.amazonaws.com is not AWS's message gateway in "
                        "eu-west-1, so the session's token is not sent there; if it is yours, set "
                        "AWS_ENDPOINT_URL_SSMMESSAGES");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_a_url_apart),
        cmocka_unit_test(is_signed_as_the_plugin_signs),
        cmocka_unit_test(a_configured_endpoint_takes_the_place_of_the_host),
        cmocka_unit_test(tells_presigned_urls),
        cmocka_unit_test(refuses_what_is_not_a_stream_url),
        cmocka_unit_test(a_url_has_its_bound),
        cmocka_unit_test(the_token_goes_to_aws_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
