#include "aws/credential_chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aws/endpoint.h"
#include "base/env.h"
#include "lib/guard.h"

enum { ENV_MAX = 16, TEXT_SIZE = 1024 };

static struct credential_chain chain;
static struct error failure;
static char *environment[ENV_MAX + CHAIN_VARIABLES_MAX];

/* "NAME=value NAME=value" becomes an environment. */
static char **env_of(const char *words)
{
    static char text[TEXT_SIZE];
    static char *env[ENV_MAX + 1];
    size_t count = 0;
    snprintf(text, sizeof text, "%s", words);
    for (char *word = strtok(text, " "); word != NULL && count < ENV_MAX; word = strtok(NULL, " "))
        env[count++] = word;
    env[count] = NULL;
    return env;
}

static int plan(const char *words, const char *config, const char *credentials, const char *flag)
{
    char *a = guard_copy(config, strlen(config)), *b = guard_copy(credentials, strlen(credentials));
    struct profile_files files = {{a, strlen(config)}, {b, strlen(credentials)}};
    char **env = env_of(words);
    failure = (struct error) ERROR_INIT;
    int result = credential_chain_plan(&chain, env, &files, flag, &failure);
    assert_int_equal(result, failure.code);
    guard_free(a, strlen(config)); /* nothing shows them any more */
    guard_free(b, strlen(credentials));
    assert_true(
        credential_chain_environment(&chain, env, environment, sizeof environment / sizeof *environment));
    return result;
}

/* "ENVIRONMENT(AKID) > ROLE(arn)" */
static const char *steps(void)
{
    static const char *const NAMES[CHAIN_SOURCES] = {"ENVIRONMENT", "WEB_IDENTITY", "GITHUB",  "KEYS",
                                                     "SSO",         "LOGIN",        "PROCESS", "CONTAINER",
                                                     "INSTANCE",    "ROLE"};
    static char text[TEXT_SIZE];
    struct writer w = writer_of(text, sizeof text);
    for (size_t i = 0; i < chain.step_count; i++) {
        const struct chain_step *step = &chain.steps[i];
        writer_text(&w, i > 0 ? " > " : "");
        writer_text(&w, NAMES[step->source]);
        writer_char(&w, '(');
        writer_str(&w, step->access_key_id);
        writer_str(&w, step->role.arn);
        writer_str(&w, step->sso.account_id);
        writer_str(&w, step->login_session);
        writer_str(&w, step->process);
        writer_char(&w, ')');
    }
    return writer_terminate(&w);
}

#define KEYS(id)      "aws_access_key_id = " id "\naws_secret_access_key = secret\n"
#define ENV_KEYS      "AWS_ACCESS_KEY_ID=ENVID AWS_SECRET_ACCESS_KEY=secret "
#define ENV_WEB       "AWS_WEB_IDENTITY_TOKEN_FILE=/token AWS_ROLE_ARN=web "
#define ENV_GITHUB    "ACTIONS_ID_TOKEN_REQUEST_URL=http://x ACTIONS_ID_TOKEN_REQUEST_TOKEN=t AWS_ROLE_ARN=h "
#define ENV_CONTAINER "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/keys "

static void the_order_of_sources(void **state)
{
    static const struct {
        const char *env, *config, *credentials, *flag, *expected; /* without '(': words of the error */
    } CASES[] = {
        {"", "", "", NULL, "INSTANCE()"},
        {ENV_CONTAINER, "", "", NULL, "CONTAINER()"},
        {ENV_KEYS ENV_WEB ENV_GITHUB ENV_CONTAINER, "", "[default]\n" KEYS("A"), NULL, "ENVIRONMENT(ENVID)"},
        {"AWS_ACCESS_KEY=OLD AWS_SECRET_KEY=secret", "", "", NULL, "ENVIRONMENT(OLD)"},
        {"AWS_ACCESS_KEY_ID=HALF", "", "", NULL, "INSTANCE()"},
        {ENV_WEB ENV_GITHUB, "", "[default]\n" KEYS("A"), NULL, "WEB_IDENTITY(web)"},
        {"AWS_WEB_IDENTITY_TOKEN_FILE=/token", "", "", NULL, "AWS_ROLE_ARN is not"},
        {ENV_GITHUB, "", "[default]\n" KEYS("A"), NULL, "GITHUB(h)"},
        {ENV_GITHUB "AWS_PROFILE=default", "", "[default]\n" KEYS("A"), NULL, "KEYS(A)"},
        {ENV_KEYS ENV_WEB, "[profile p]\n" KEYS("P"), "", "p", "KEYS(P)"},
        {ENV_KEYS "AWS_PROFILE=p", "[profile p]\n" KEYS("P"), "", NULL, "ENVIRONMENT(ENVID)"},
        {ENV_KEYS "AWS_PROFILE=p", "", "", NULL, "there is no profile p"},
        {"AWS_DEFAULT_PROFILE=p", "[default]\n" KEYS("A"), "", NULL, "INSTANCE()"},
        {"AWS_DEFAULT_PROFILE=p", "[profile p]\n" KEYS("P"), "", NULL, "KEYS(P)"},
        {"AWS_PROFILE=q AWS_DEFAULT_PROFILE=p", "[profile p]\n" KEYS("P"), "[q]\n" KEYS("Q"), NULL,
         "KEYS(Q)"},
        {"", "[profile p]\nregion = x\n", "", "p", "INSTANCE()"},
        {"", "[default]\naws_access_key_id = A\n", "", NULL, "must stand together"},
        {ENV_KEYS, "[default]\naws_access_key_id = A\n", "", NULL, "must stand together"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        int result = plan(CASES[i].env, CASES[i].config, CASES[i].credentials, CASES[i].flag);
        if (result == 0)
            assert_string_equal(steps(), CASES[i].expected);
        else
            assert_non_null(strstr(failure.text, CASES[i].expected));
    }
}

static void sources_of_a_profile(void **state)
{
    static const struct {
        const char *env, *profile, *expected;
    } CASES[] = {
        {"", KEYS("A") "role_arn = r\n", "KEYS(A) > ROLE(r)"},
        {"", "role_arn = r\ncredential_source = Ec2InstanceMetadata\n", "INSTANCE() > ROLE(r)"},
        {"", "role_arn = r\n", "INSTANCE() > ROLE(r)"},
        {ENV_CONTAINER, "role_arn = r\ncredential_source = EcsContainer\n", "CONTAINER() > ROLE(r)"},
        {"", "role_arn = r\ncredential_source = EcsContainer\n", "are not set"},
        {"", "role_arn = r\ncredential_source = Environment\n", "there are no keys"},
        {"", "role_arn = r\ncredential_source = Else\n", "must be Environment"},
        {"", "credential_source = Environment\n", "needs role_arn"},
        {"", "source_profile = a\n", "needs role_arn"},
        {"", "web_identity_token_file = /t\n", "needs role_arn"},
        {"", "web_identity_token_file = /t\nrole_arn = r\n", "WEB_IDENTITY(r)"},
        {"", "web_identity_token_file = /t\nrole_arn = r\nsource_profile = a\n", "exclude each other"},
        {"", "credential_process = tool --x\n", "PROCESS(tool --x)"},
        {"", "credential_process = tool\nrole_arn = r\n", "PROCESS(tool) > ROLE(r)"},
        {"", "login_session = arn\n", "LOGIN(arn)"},
        {"", "sso_start_url = u\nsso_region = g\nsso_account_id = 1\nsso_role_name = n\n", "SSO(1)"},
        {"", "sso_start_url = u\nsso_region = g\nsso_account_id = 1\n", "sso_role_name is missing"},
        {"", "sso_session = s\nsso_account_id = 1\nsso_role_name = n\n", "SSO(1)"},
        {"", "sso_session = s\nsso_region = g\nsso_account_id = 1\nsso_role_name = n\n", "SSO(1)"},
        {"", "sso_session = s\nsso_region = h\nsso_account_id = 1\nsso_role_name = n\n", "must be those of"},
        {"", "sso_session = t\nsso_account_id = 1\nsso_role_name = n\n",
         "there is no section [sso-session t]"},
        {"", "role_arn = r\nsource_profile = keys\n", "KEYS(K) > ROLE(r)"},
        {"", "role_arn = r\nsource_profile = middle\n", "KEYS(K) > ROLE(m) > ROLE(r)"},
        {"", "role_arn = r\nsource_profile = default\n" KEYS("A"), "KEYS(A) > ROLE(r)"},
        {"", "role_arn = r\nsource_profile = default\n", "says nothing of keys"},
        {"", "role_arn = r\nsource_profile = ring\n", "says nothing of keys"},
        {"", "role_arn = r\nsource_profile = nowhere\n", "does not exist"},
        {"", "role_arn = r\nsource_profile = token\n", "WEB_IDENTITY(w) > ROLE(r)"},
        {"", "role_arn = r\nsource_profile = both\n", "KEYS(B) > ROLE(b) > ROLE(r)"},
    };
    static const char OTHERS[] =
        "[sso-session s]\nsso_region = g\nsso_start_url = u\n"
        "[profile keys]\n" KEYS("K") "[profile middle]\nrole_arn = m\nsource_profile = keys\n"
                                     "[profile ring]\nrole_arn = i\nsource_profile = default\n"
                                     "[profile token]\nrole_arn = w\nweb_identity_token_file = /t\n"
                                     "[profile both]\nrole_arn = b\nsource_profile = keys\n" KEYS("B");
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char config[TEXT_SIZE];
        snprintf(config, sizeof config, "[default]\n%s%s", CASES[i].profile, OTHERS);
        if (plan(CASES[i].env, config, "", NULL) == 0)
            assert_string_equal(steps(), CASES[i].expected);
        else
            assert_non_null(strstr(failure.text, CASES[i].expected));
    }
}

static void what_a_role_is_asked_for_with(void **state)
{
    (void) state;
    assert_int_equal(plan("",
                          "[default]\n" KEYS("A") "role_arn = r\nrole_session_name = me\nexternal_id = x\n"
                                                  "mfa_serial = m\nduration_seconds = 3600\n",
                          "", NULL),
                     0);
    const struct chain_role *role = &chain.steps[1].role;
    assert_true(str_equal_text(role->session_name, "me") && str_equal_text(role->external_id, "x") &&
                str_equal_text(role->mfa_serial, "m"));
    assert_int_equal(role->duration_s, 3600);
    assert_int_equal(plan("", "[default]\n" KEYS("A") "role_arn = r\nduration_seconds = 900\n", "", NULL), 0);
    assert_int_equal(chain.steps[1].role.duration_s, 0);
    assert_int_equal(plan(ENV_WEB "AWS_ROLE_SESSION_NAME=me", "", "", NULL), 0);
    assert_true(str_equal_text(chain.steps[0].role.session_name, "me"));
    assert_int_equal(plan(ENV_GITHUB, "", "", NULL), 0);
    assert_true(str_equal_text(chain.steps[0].role.session_name, "GitHubActions"));
}

static void a_chain_of_roles_ends(void **state)
{
    char config[4096] = "[default]\nrole_arn = r\nsource_profile = p0\n";
    size_t len = strlen(config);
    (void) state;
    for (int i = 0; i < 12; i++)
        len += (size_t) snprintf(config + len, sizeof config - len,
                                 "[profile p%d]\nrole_arn = r\nsource_profile = p%d\n", i, i + 1);
    assert_int_equal(plan("", config, "", NULL), ERROR_TOO_LARGE);
    assert_non_null(strstr(failure.text, "more than 8 roles"));
    snprintf(strstr(config, "[profile p7]"), 128, "[profile p7]\n" KEYS("A"));
    assert_int_equal(plan("", config, "", NULL), 0);
    assert_int_equal(chain.step_count, CHAIN_STEPS_MAX);
}

/* --- settings --- */

static void assert_variable(const char *name, const char *expected)
{
    struct str value = env_get(environment, name);
    assert_true(str_equal_text(value, expected));
}

static void a_profile_sets_what_the_environment_does_not(void **state)
{
    static const char config[] =
        "[default]\nregion = r\nuse_fips_endpoint = true\nuse_dualstack_endpoint = no\n"
        "endpoint_url = http://all\nca_bundle = /ca\nservices = s\nmax_attempts = 4\n"
        "[services s]\necs =\n  endpoint_url = http://ecs\nredshift_serverless =\n"
        "  endpoint_url = http://rs\n";
    (void) state;
    assert_int_equal(plan("", config, "", NULL), 0);
    assert_variable("AWS_DEFAULT_REGION", "r");
    assert_variable("AWS_USE_FIPS_ENDPOINT", "true");
    assert_variable("AWS_USE_DUALSTACK_ENDPOINT", "");
    assert_variable("AWS_ENDPOINT_URL", "http://all");
    assert_variable("AWS_ENDPOINT_URL_ECS", "http://ecs");
    assert_variable("AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", "http://rs");
    assert_variable("AWS_ENDPOINT_URL_SSM", "");
    assert_variable("AWS_CA_BUNDLE", "/ca");
    assert_variable("AWS_MAX_ATTEMPTS", "4");
    assert_int_equal(plan("AWS_REGION=e AWS_ENDPOINT_URL_ECS=http://e AWS_CA_BUNDLE=/e", config, "", NULL),
                     0);
    assert_variable("AWS_DEFAULT_REGION", "");
    assert_variable("AWS_ENDPOINT_URL_ECS", "http://e");
    assert_variable("AWS_CA_BUNDLE", "/e");
    /* One for all services in the environment comes before one for a service in a file. */
    assert_int_equal(plan("AWS_ENDPOINT_URL=http://e", config, "", NULL), 0);
    assert_variable("AWS_ENDPOINT_URL_ECS", "");
    assert_variable("AWS_ENDPOINT_URL", "http://e");
}

static void retries_are_checked(void **state)
{
    (void) state;
    assert_int_equal(plan("AWS_RETRY_MODE=Standard AWS_MAX_ATTEMPTS=3", "", "", NULL), 0);
    assert_int_equal(plan("AWS_RETRY_MODE=never", "", "", NULL), ERROR_INVALID);
    assert_int_equal(plan("AWS_MAX_ATTEMPTS=few", "", "", NULL), ERROR_INVALID);
    assert_int_equal(plan("", "[default]\nretry_mode = never\n", "", NULL), ERROR_INVALID);
    assert_int_equal(plan("", "[default]\nmax_attempts = few\n", "", NULL), ERROR_INVALID);
}

/* --- the rest --- */

static void why_sources_are_not_in_the_plan(void **state)
{
    (void) state;
    assert_int_equal(plan("AWS_ACCESS_KEY_ID=A", "", "", NULL), 0);
    assert_string_equal(chain.skipped[CHAIN_ENVIRONMENT], "AWS_SECRET_ACCESS_KEY is not set");
    assert_string_equal(chain.skipped[CHAIN_WEB_IDENTITY], "AWS_WEB_IDENTITY_TOKEN_FILE is not set");
    assert_string_equal(chain.skipped[CHAIN_GITHUB], "AWS_ROLE_ARN is not set");
    assert_string_equal(chain.skipped[CHAIN_KEYS], "there is no such profile in the shared files");
    assert_non_null(chain.skipped[CHAIN_CONTAINER]);
    assert_null(chain.skipped[CHAIN_INSTANCE]);
    for (int i = 0; i < CHAIN_SOURCES; i++)
        assert_true(strlen(credential_chain_source_name((enum chain_source) i)) > 0);
}

static void too_much_text_is_refused(void **state)
{
    static char config[CHAIN_TEXT_SIZE + 64];
    size_t len = (size_t) snprintf(config, sizeof config, "[default]\ncredential_process = ");
    (void) state;
    memset(config + len, 'x', CHAIN_TEXT_SIZE);
    assert_int_equal(plan("", config, "", NULL), ERROR_TOO_LARGE);
    config[len + CHAIN_TEXT_SIZE / 2] = '\0';
    assert_int_equal(plan("", config, "", NULL), 0);
}

static void where_the_files_are(void **state)
{
    char path[32];
    (void) state;
    credential_chain_config_path(env_of("HOME=/h"), path, sizeof path);
    assert_string_equal(path, "/h/.aws/config");
    credential_chain_credentials_path(env_of("HOME=/h"), path, sizeof path);
    assert_string_equal(path, "/h/.aws/credentials");
    credential_chain_config_path(env_of("HOME=/h AWS_CONFIG_FILE=/c"), path, sizeof path);
    assert_string_equal(path, "/c");
    credential_chain_config_path(env_of(""), path, sizeof path);
    assert_string_equal(path, "");
    credential_chain_config_path(env_of("HOME=/a-home-that-is-much-too-long"), path, sizeof path);
    assert_string_equal(path, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_of_sources),
        cmocka_unit_test(sources_of_a_profile),
        cmocka_unit_test(what_a_role_is_asked_for_with),
        cmocka_unit_test(a_chain_of_roles_ends),
        cmocka_unit_test(a_profile_sets_what_the_environment_does_not),
        cmocka_unit_test(retries_are_checked),
        cmocka_unit_test(why_sources_are_not_in_the_plan),
        cmocka_unit_test(too_much_text_is_refused),
        cmocka_unit_test(where_the_files_are),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
