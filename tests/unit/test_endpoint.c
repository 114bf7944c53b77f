#include "aws/endpoint.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/env.h"
#include "lib/guard.h"

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* Written by the endpoint resolvers of the AWS SDK for Go (service/ecs v1.104.2, ssm v1.82.0, redshift
 * v1.62.10, redshiftserverless v1.35.2: NewDefaultEndpointResolverV2().ResolveEndpoint). In the order plain,
 * FIPS, dual-stack, both. */
static const struct {
    enum endpoint_service service;
    const char *region;
    const char *hosts[4];
} SDK_HOSTS[] = {
    {ENDPOINT_ECS,
     "eu-west-1",
     {"ecs.eu-west-1.amazonaws.com", "ecs-fips.eu-west-1.amazonaws.com", "ecs.eu-west-1.api.aws",
      "ecs-fips.eu-west-1.api.aws"}},
    {ENDPOINT_ECS,
     "us-gov-east-1",
     {"ecs.us-gov-east-1.amazonaws.com", "ecs-fips.us-gov-east-1.amazonaws.com", "ecs.us-gov-east-1.api.aws",
      "ecs-fips.us-gov-east-1.api.aws"}},
    {ENDPOINT_ECS,
     "us-gov-west-1",
     {"ecs.us-gov-west-1.amazonaws.com", "ecs-fips.us-gov-west-1.amazonaws.com", "ecs.us-gov-west-1.api.aws",
      "ecs-fips.us-gov-west-1.api.aws"}},
    {ENDPOINT_ECS,
     "cn-north-1",
     {"ecs.cn-north-1.amazonaws.com.cn", "ecs-fips.cn-north-1.amazonaws.com.cn",
      "ecs.cn-north-1.api.amazonwebservices.com.cn", "ecs-fips.cn-north-1.api.amazonwebservices.com.cn"}},
    {ENDPOINT_ECS,
     "us-iso-east-1",
     {"ecs.us-iso-east-1.c2s.ic.gov", "ecs-fips.us-iso-east-1.c2s.ic.gov", "ecs.us-iso-east-1.api.aws.ic.gov",
      "ecs-fips.us-iso-east-1.api.aws.ic.gov"}},
    {ENDPOINT_ECS,
     "us-isob-east-1",
     {"ecs.us-isob-east-1.sc2s.sgov.gov", "ecs-fips.us-isob-east-1.sc2s.sgov.gov",
      "ecs.us-isob-east-1.api.aws.scloud", "ecs-fips.us-isob-east-1.api.aws.scloud"}},
    {ENDPOINT_ECS,
     "us-isof-south-1",
     {"ecs.us-isof-south-1.csp.hci.ic.gov", "ecs-fips.us-isof-south-1.csp.hci.ic.gov",
      "ecs.us-isof-south-1.api.aws.hci.ic.gov", "ecs-fips.us-isof-south-1.api.aws.hci.ic.gov"}},
    {ENDPOINT_ECS,
     "eu-isoe-west-1",
     {"ecs.eu-isoe-west-1.cloud.adc-e.uk", "ecs-fips.eu-isoe-west-1.cloud.adc-e.uk",
      "ecs.eu-isoe-west-1.api.cloud-aws.adc-e.uk", "ecs-fips.eu-isoe-west-1.api.cloud-aws.adc-e.uk"}},
    {ENDPOINT_ECS,
     "eusc-de-east-1",
     {"ecs.eusc-de-east-1.amazonaws.eu", "ecs-fips.eusc-de-east-1.amazonaws.eu",
      "ecs.eusc-de-east-1.api.amazonwebservices.eu", "ecs-fips.eusc-de-east-1.api.amazonwebservices.eu"}},
    {ENDPOINT_SSM,
     "us-east-1",
     {"ssm.us-east-1.amazonaws.com", "ssm-fips.us-east-1.amazonaws.com", "ssm.us-east-1.api.aws",
      "ssm-fips.us-east-1.api.aws"}},
    {ENDPOINT_SSM,
     "us-gov-west-1",
     {"ssm.us-gov-west-1.amazonaws.com", "ssm.us-gov-west-1.amazonaws.com", "ssm.us-gov-west-1.api.aws",
      "ssm-fips.us-gov-west-1.api.aws"}},
    {ENDPOINT_SSM,
     "cn-north-1",
     {"ssm.cn-north-1.amazonaws.com.cn", "ssm-fips.cn-north-1.amazonaws.com.cn",
      "ssm.cn-north-1.api.amazonwebservices.com.cn", "ssm-fips.cn-north-1.api.amazonwebservices.com.cn"}},
    {ENDPOINT_REDSHIFT,
     "us-east-1",
     {"redshift.us-east-1.amazonaws.com", "redshift-fips.us-east-1.amazonaws.com",
      "redshift.us-east-1.api.aws", "redshift-fips.us-east-1.api.aws"}},
    {ENDPOINT_REDSHIFT,
     "us-gov-west-1",
     {"redshift.us-gov-west-1.amazonaws.com", "redshift.us-gov-west-1.amazonaws.com",
      "redshift.us-gov-west-1.api.aws", "redshift-fips.us-gov-west-1.api.aws"}},
    {ENDPOINT_REDSHIFT,
     "cn-north-1",
     {"redshift.cn-north-1.amazonaws.com.cn", "redshift-fips.cn-north-1.amazonaws.com.cn",
      "redshift.cn-north-1.api.amazonwebservices.com.cn",
      "redshift-fips.cn-north-1.api.amazonwebservices.com.cn"}},
    {ENDPOINT_REDSHIFT_SERVERLESS,
     "us-east-1",
     {"redshift-serverless.us-east-1.amazonaws.com", "redshift-serverless-fips.us-east-1.amazonaws.com",
      "redshift-serverless.us-east-1.api.aws", "redshift-serverless-fips.us-east-1.api.aws"}},
    {ENDPOINT_REDSHIFT_SERVERLESS,
     "us-gov-west-1",
     {"redshift-serverless.us-gov-west-1.amazonaws.com",
      "redshift-serverless-fips.us-gov-west-1.amazonaws.com", "redshift-serverless.us-gov-west-1.api.aws",
      "redshift-serverless-fips.us-gov-west-1.api.aws"}},
    {ENDPOINT_REDSHIFT_SERVERLESS,
     "cn-north-1",
     {"redshift-serverless.cn-north-1.amazonaws.com.cn",
      "redshift-serverless-fips.cn-north-1.amazonaws.com.cn",
      "redshift-serverless.cn-north-1.api.amazonwebservices.com.cn",
      "redshift-serverless-fips.cn-north-1.api.amazonwebservices.com.cn"}},
};

static void the_sign_in_service_has_names_of_its_own(void **state)
{
    static const char *const HOSTS[][2] = {{"eu-west-1", "eu-west-1.signin.aws.amazon.com"},
                                           {"cn-north-1", "cn-north-1.signin.amazonaws.cn"},
                                           {"us-gov-west-1", "us-gov-west-1.signin.amazonaws-us-gov.com"}};
    (void) state;
    for (size_t i = 0; i < COUNT(HOSTS); i++) {
        struct endpoint endpoint;
        assert_int_equal(endpoint_for_service(&endpoint, ENDPOINT_SIGNIN, str_from(HOSTS[i][0]), NULL, NULL),
                         0);
        assert_string_equal(endpoint.authority, HOSTS[i][1]);
    }
}

/* ssmmessages has no public SDK: the pattern is that of AWS's documentation and of ECS's own agent. */
static const struct {
    const char *region;
    const char *hosts[4];
} GATEWAY_HOSTS[] = {
    {"us-east-1",
     {"ssmmessages.us-east-1.amazonaws.com", "ssmmessages-fips.us-east-1.amazonaws.com",
      "ssmmessages.us-east-1.api.aws", "ssmmessages-fips.us-east-1.api.aws"}},
    {"cn-northwest-1",
     {"ssmmessages.cn-northwest-1.amazonaws.com.cn", "ssmmessages-fips.cn-northwest-1.amazonaws.com.cn",
      "ssmmessages.cn-northwest-1.api.amazonwebservices.com.cn",
      "ssmmessages-fips.cn-northwest-1.api.amazonwebservices.com.cn"}},
    {"us-gov-west-1",
     {"ssmmessages.us-gov-west-1.amazonaws.com", "ssmmessages-fips.us-gov-west-1.amazonaws.com",
      "ssmmessages.us-gov-west-1.api.aws", "ssmmessages-fips.us-gov-west-1.api.aws"}},
};

static char *const SWITCHES[4][3] = {
    {NULL},
    {"AWS_USE_FIPS_ENDPOINT=true", NULL},
    {"AWS_USE_DUALSTACK_ENDPOINT=TRUE", NULL},
    {"AWS_USE_FIPS_ENDPOINT=True", "AWS_USE_DUALSTACK_ENDPOINT=true", NULL},
};

static void check_hosts(enum endpoint_service service, const char *region, const char *const hosts[4])
{
    for (size_t i = 0; i < 4; i++) {
        struct endpoint endpoint;
        struct error err = ERROR_INIT;
        if (endpoint_for_service(&endpoint, service, str_from(region), SWITCHES[i], &err) != 0)
            fail_msg("%s: %s", hosts[i], err.text);
        assert_string_equal(endpoint.host, hosts[i]);
        assert_string_equal(endpoint.authority, hosts[i]);
        assert_string_equal(endpoint.path, "");
        assert_int_equal(endpoint.port, 443);
        assert_true(endpoint.tls);
    }
}

static void names_hosts_as_the_sdks_do(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(SDK_HOSTS); i++)
        check_hosts(SDK_HOSTS[i].service, SDK_HOSTS[i].region, SDK_HOSTS[i].hosts);
    for (size_t i = 0; i < COUNT(GATEWAY_HOSTS); i++)
        check_hosts(ENDPOINT_SSMMESSAGES, GATEWAY_HOSTS[i].region, GATEWAY_HOSTS[i].hosts);
}

/* What a switch says holds, and a URL is left alone. */
static void without_ipv4_the_name_is_the_dual_stack_one(void **state)
{
    static const struct {
        char *env[3];
        const char *host;
    } CASES[] = {
        {{NULL}, "ecs.eu-west-1.api.aws"},
        {{"AWS_USE_DUALSTACK_ENDPOINT="}, "ecs.eu-west-1.api.aws"},
        {{"AWS_USE_FIPS_ENDPOINT=true"}, "ecs-fips.eu-west-1.api.aws"},
        {{"AWS_USE_DUALSTACK_ENDPOINT=false"}, "ecs.eu-west-1.amazonaws.com"},
        {{"AWS_ENDPOINT_URL=https://own.example"}, "own.example"},
    };
    struct endpoint endpoint;
    (void) state;
    for (size_t i = 0; i < COUNT(CASES); i++) {
        assert_int_equal(endpoint_for_service_by_ipv6(&endpoint, ENDPOINT_ECS, STR_LITERAL("eu-west-1"),
                                                      CASES[i].env, NULL),
                         0);
        assert_string_equal(endpoint.host, CASES[i].host);
    }
}

static const struct {
    enum endpoint_service service;
    const char *name;
    const char *variable;
} SERVICES[] = {
    {ENDPOINT_ECS, "ecs", "AWS_ENDPOINT_URL_ECS"},
    {ENDPOINT_SSM, "ssm", "AWS_ENDPOINT_URL_SSM"},
    {ENDPOINT_SSMMESSAGES, "ssmmessages", "AWS_ENDPOINT_URL_SSMMESSAGES"},
    {ENDPOINT_REDSHIFT, "redshift", "AWS_ENDPOINT_URL_REDSHIFT"},
    {ENDPOINT_REDSHIFT_SERVERLESS, "redshift-serverless", "AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS"},
    {ENDPOINT_STS, "sts", "AWS_ENDPOINT_URL_STS"},
    {ENDPOINT_SSO, "portal.sso", "AWS_ENDPOINT_URL_SSO"},
    {ENDPOINT_SSO_OIDC, "oidc", "AWS_ENDPOINT_URL_SSO_OIDC"},
    {ENDPOINT_SIGNIN, "signin", "AWS_ENDPOINT_URL_SIGNIN"},
};

static void the_environment_names_urls(void **state)
{
    (void) state;
    assert_int_equal(COUNT(SERVICES), ENDPOINT_SERVICES);
    for (size_t i = 0; i < COUNT(SERVICES); i++) {
        struct endpoint endpoint;
        char own[128];
        snprintf(own, sizeof own, "%s=http://own:8080/x/", SERVICES[i].variable);
        char *const general[] = {"AWS_ENDPOINT_URL=https://all.example", NULL};
        char *const both[] = {"AWS_ENDPOINT_URL=https://all.example", own, NULL};
        char *const ignored[] = {"AWS_ENDPOINT_URL=https://all.example", own,
                                 "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true", NULL};
        assert_string_equal(endpoint_service_name(SERVICES[i].service), SERVICES[i].name);
        assert_string_equal(endpoint_url_variable(SERVICES[i].service), SERVICES[i].variable);
        assert_int_equal(endpoint_for_service(&endpoint, SERVICES[i].service, str_from(NULL), general, NULL),
                         0);
        assert_string_equal(endpoint.authority, "all.example");
        assert_int_equal(endpoint_for_service(&endpoint, SERVICES[i].service, str_from(NULL), both, NULL), 0);
        assert_string_equal(endpoint.authority, "own:8080");
        assert_string_equal(endpoint.path, "/x");
        assert_false(endpoint.tls);
        assert_int_equal(
            endpoint_for_service(&endpoint, SERVICES[i].service, STR_LITERAL("eu-west-1"), ignored, NULL), 0);
        if (SERVICES[i].service == ENDPOINT_SIGNIN)
            continue;
        assert_true(str_starts_with(str_from(endpoint.host), SERVICES[i].name));
        assert_true(str_ends_with(str_from(endpoint.host), ".eu-west-1.amazonaws.com"));
    }
}

static const struct {
    const char *region;
    char *const env[3];
    int code;
    const char *text;
} WRONG_SETTINGS[] = {
    {"eu-west-1",
     {"AWS_USE_FIPS_ENDPOINT=yes"},
     ERROR_INVALID,
     "AWS_USE_FIPS_ENDPOINT=yes: must be true or false"},
    {"eu-west-1",
     {"AWS_USE_DUALSTACK_ENDPOINT=1"},
     ERROR_INVALID,
     "AWS_USE_DUALSTACK_ENDPOINT=1: must be true or false"},
    {"eu-west-1",
     {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=no"},
     ERROR_INVALID,
     "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=no: must be true or false"},
    {"eu-west-1",
     {"AWS_USE_FIPS_ENDPOINT=true", "AWS_ENDPOINT_URL_ECS=https://x"},
     ERROR_INVALID,
     "AWS_ENDPOINT_URL_ECS and AWS_USE_FIPS_ENDPOINT are both set: let the URL name the endpoint you want, "
     "and "
     "unset the switch"},
    {"eu-west-1",
     {"AWS_USE_DUALSTACK_ENDPOINT=true", "AWS_ENDPOINT_URL=https://x"},
     ERROR_INVALID,
     "AWS_ENDPOINT_URL and AWS_USE_DUALSTACK_ENDPOINT are both set: let the URL name the endpoint you want, "
     "and "
     "unset the switch"},
    {"", {NULL}, ERROR_INVALID, "\"\" is not a valid region"},
    {"EU-WEST-1", {NULL}, ERROR_INVALID, "\"EU-WEST-1\" is not a valid region"},
    {"eu-west-1.evil.example/", {NULL}, ERROR_INVALID, "\"eu-west-1.evil.example/\" is not a valid region"},
    {"-eu", {NULL}, ERROR_INVALID, "\"-eu\" is not a valid region"},
    {"eu-", {NULL}, ERROR_INVALID, "\"eu-\" is not a valid region"},
    {"abcdefghijklmnopqrstuvwxyz0123456",
     {NULL},
     ERROR_INVALID,
     "\"abcdefghijklmnopqrstuvwxyz0123456\" is not a valid region"},
};

static void says_which_setting_is_wrong(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(WRONG_SETTINGS); i++) {
        struct endpoint endpoint;
        struct error err = ERROR_INIT;
        assert_int_equal(endpoint_for_service(&endpoint, ENDPOINT_ECS, str_from(WRONG_SETTINGS[i].region),
                                              WRONG_SETTINGS[i].env, &err),
                         WRONG_SETTINGS[i].code);
        assert_string_equal(err.text, WRONG_SETTINGS[i].text);
        assert_string_equal(endpoint.host, "");
    }
    char *const ftp[] = {"AWS_ENDPOINT_URL_ECS=ws://x", NULL};
    struct endpoint endpoint;
    struct error err = ERROR_INIT;
    assert_int_equal(endpoint_for_service(&endpoint, ENDPOINT_ECS, str_from(NULL), ftp, &err),
                     ERROR_UNSUPPORTED);
    assert_string_equal(err.text, "AWS_ENDPOINT_URL_ECS: the URL must begin with http:// or https://");
}

static const struct {
    const char *url;
    const char *host;
    const char *authority;
    const char *path;
    uint16_t port;
    bool tls;
} URLS[] = {
    {"http://169.254.170.2/v4/0123-45", "169.254.170.2", "169.254.170.2", "/v4/0123-45", 80, false},
    {"https://Host.Example:8443", "host.example", "host.example:8443", "", 8443, true},
    {"https://h:443/", "h", "h", "", 443, true},
    {"http://h:443//a//", "h", "h:443", "//a", 443, false},
    {"https://[fd00:EC2::23]/p", "fd00:ec2::23", "[fd00:ec2::23]", "/p", 443, true},
    {"http://[::1]:8080", "::1", "[::1]:8080", "", 8080, false},
    {"https://h/%7Ea/", "h", "h", "/%7Ea", 443, true},
};

static void takes_urls_apart(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(URLS); i++) {
        struct endpoint endpoint;
        struct error err = ERROR_INIT;
        size_t len = strlen(URLS[i].url);
        char *url = guard_copy(URLS[i].url, len);
        if (endpoint_from_url(&endpoint, (struct str){url, len}, &err) != 0)
            fail_msg("%s: %s", URLS[i].url, err.text);
        guard_free(url, len);
        assert_string_equal(endpoint.host, URLS[i].host);
        assert_string_equal(endpoint.authority, URLS[i].authority);
        assert_string_equal(endpoint.path, URLS[i].path);
        assert_int_equal(endpoint.port, URLS[i].port);
        assert_int_equal(endpoint.tls, URLS[i].tls);
    }
}

static void refuses_urls_that_are_none_of_ours(void **state)
{
    static const struct {
        const char *url;
        int code;
    } WRONG[] = {
        {"", ERROR_INVALID},
        {"h", ERROR_INVALID},
        {"http://", ERROR_INVALID},
        {"http://u:p@h/", ERROR_INVALID},
        {"http://h/a?b", ERROR_INVALID},
        {"http://h?b", ERROR_INVALID},
        {"http://h:0/", ERROR_INVALID},
        {"http://h:65536/", ERROR_INVALID},
        {"http://h/a b", ERROR_INVALID},
        {"http://[::1", ERROR_INVALID},
        {"wss://h/", ERROR_UNSUPPORTED},
        {"ftp://h/", ERROR_UNSUPPORTED},
    };
    (void) state;
    for (size_t i = 0; i < COUNT(WRONG); i++) {
        struct endpoint endpoint;
        struct error err = ERROR_INIT;
        int result = endpoint_from_url(&endpoint, str_from(WRONG[i].url), &err);
        if (result != WRONG[i].code || err.text[0] == '\0' || strstr(err.text, "u:p") != NULL)
            fail_msg("%s: %d %s", WRONG[i].url, result, err.text);
        assert_string_equal(endpoint.authority, "");
    }
}

static void a_path_has_its_bound(void **state)
{
    char url[16 + ENDPOINT_PATH_SIZE] = "http://h/";
    struct endpoint endpoint;
    struct error err = ERROR_INIT;
    (void) state;
    memset(url + 9, 'a', ENDPOINT_PATH_SIZE - 2);
    assert_int_equal(endpoint_from_url(&endpoint, str_from(url), &err), 0);
    assert_int_equal(strlen(endpoint.path), ENDPOINT_PATH_SIZE - 1);
    url[9 + ENDPOINT_PATH_SIZE - 2] = 'a';
    assert_int_equal(endpoint_from_url(&endpoint, str_from(url), &err), ERROR_TOO_LARGE);
    assert_string_equal(err.text, "the URL's path is longer than 256 bytes");
}

static void the_longest_host_fits(void **state)
{
    char url[ENDPOINT_HOST_SIZE + 32] = "http://";
    struct endpoint endpoint;
    (void) state;
    memset(url + 7, 'a', ENDPOINT_HOST_SIZE - 1);
    strcpy(url + 7 + ENDPOINT_HOST_SIZE - 1, ":65535");
    assert_int_equal(endpoint_from_url(&endpoint, str_from(url), NULL), 0);
    assert_int_equal(strlen(endpoint.host), ENDPOINT_HOST_SIZE - 1);
    assert_string_equal(endpoint.authority, url + 7);
}

#define ARN "arn:aws:ecs:sa-east-1:111122223333:task/c/0123"
static const struct {
    char *const env[3];
    const char *arn;
    const char *region;
    int code;
    const char *text;
} REGIONS[] = {
    {{"AWS_REGION=eu-west-1", "AWS_DEFAULT_REGION=us-east-1"}, ARN, "eu-west-1", 0, ""},
    {{"AWS_DEFAULT_REGION=us-east-1"}, ARN, "us-east-1", 0, ""},
    {{"AWS_REGION=", "AWS_DEFAULT_REGION="}, ARN, "sa-east-1", 0, ""},
    {{NULL}, ARN, "sa-east-1", 0, ""},
    {{NULL}, "arn:aws-cn:ecs:cn-north-1:", "cn-north-1", 0, ""},
    {{NULL},
     "",
     "",
     ERROR_NOT_FOUND,
     "no region: AWS_REGION and AWS_DEFAULT_REGION are not set, and there is no task ARN to take it from"},
    {{NULL}, "nra:aws:ecs:eu-west-1:1:", "", ERROR_NOT_FOUND, NULL},
    {{NULL}, "arn:aws:ecs:eu-west-1", "", ERROR_NOT_FOUND, NULL},
    {{NULL}, "arn:aws:ecs::1:", "", ERROR_NOT_FOUND, NULL},
    {{NULL}, "arn:aws:ecs:a/b:1:", "", ERROR_INVALID, "the task's ARN: \"a/b\" is not a valid region"},
    {{"AWS_REGION=Ireland"}, ARN, "", ERROR_INVALID, "AWS_REGION: \"Ireland\" is not a valid region"},
};

static void finds_the_region(void **state)
{
    (void) state;
    for (size_t i = 0; i < COUNT(REGIONS); i++) {
        char region[ENDPOINT_REGION_SIZE];
        struct error err = ERROR_INIT;
        assert_int_equal(endpoint_find_region(region, REGIONS[i].env, str_from(REGIONS[i].arn), &err),
                         REGIONS[i].code);
        assert_string_equal(region, REGIONS[i].region);
        if (REGIONS[i].text != NULL)
            assert_string_equal(err.text, REGIONS[i].text);
    }
}

static void reads_the_environment_it_is_given(void **state)
{
    char *const env[] = {"NAMED=1", "NAME=first", "NAME=second", "EMPTY=", "MALFORMED", NULL};
    bool flag = true;
    (void) state;
    assert_true(str_equal_text(env_get(env, "NAME"), "first"));
    assert_true(str_equal_text(env_get(env, "NAMED"), "1"));
    assert_int_equal(env_get(env, "EMPTY").len, 0);
    assert_int_equal(env_get(env, "MALFORMED").len, 0);
    assert_int_equal(env_get(env, "NAM").len, 0);
    assert_int_equal(env_get(NULL, "NAME").len, 0);
    assert_int_equal(env_get_bool(env, "EMPTY", &flag, NULL), 0);
    assert_false(flag);
}

static void who_has_named_an_endpoint(void **state)
{
    char *const none[] = {"AWS_REGION=x", "AWS_ENDPOINT_URL_ECS=https://x", NULL};
    char *const own[] = {"AWS_ENDPOINT_URL_SSM=https://x", NULL};
    char *const general[] = {"AWS_ENDPOINT_URL=https://x", NULL};
    char *const ignored[] = {"AWS_ENDPOINT_URL=https://x", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true", NULL};
    (void) state;
    assert_false(endpoint_is_configured(ENDPOINT_SSM, none));
    assert_true(endpoint_is_configured(ENDPOINT_SSM, own));
    assert_true(endpoint_is_configured(ENDPOINT_SSM, general));
    assert_false(endpoint_is_configured(ENDPOINT_SSM, ignored));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_has_named_an_endpoint),
        cmocka_unit_test(the_sign_in_service_has_names_of_its_own),
        cmocka_unit_test(names_hosts_as_the_sdks_do),
        cmocka_unit_test(without_ipv4_the_name_is_the_dual_stack_one),
        cmocka_unit_test(the_environment_names_urls),
        cmocka_unit_test(says_which_setting_is_wrong),
        cmocka_unit_test(takes_urls_apart),
        cmocka_unit_test(refuses_urls_that_are_none_of_ours),
        cmocka_unit_test(a_path_has_its_bound),
        cmocka_unit_test(the_longest_host_fits),
        cmocka_unit_test(finds_the_region),
        cmocka_unit_test(reads_the_environment_it_is_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
