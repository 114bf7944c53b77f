#include "cloud/credentials_chain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "cloud/aws_call.h"
#include "host/clock.h"
#include "lib/peer.h"
#include "lib/text_file.h"

/* ---- a server for everything --------------------------------------------------------------------------- */

enum { REQUESTS_MAX = 8, REQUEST_SIZE = 16384, ANSWER_SIZE = 4096 };

static struct peer peer;
static struct {
    char requests[REQUESTS_MAX][REQUEST_SIZE]; /* head and body */
    struct {
        const char *path; /* the request line begins so */
        int status;
        const char *body;
        int pause_ms;
        int once; /* 1: the first time only; -1: not any more */
        const char *date;
    } answers[REQUESTS_MAX];
} server;

static size_t content_length(const char *head)
{
    const char *at = strstr(head, "ontent-Length: ");
    return at != NULL ? (size_t) atoi(at + 15) : 0;
}

static void serve(int fd, void *context)
{
    int n = atomic_load(&peer.accepted) - 1, status = 404;
    const char *body = "", *date = NULL;
    char answer[ANSWER_SIZE];
    (void) context;
    if (n >= REQUESTS_MAX || !peer_read_head(fd, server.requests[n], REQUEST_SIZE))
        return;
    size_t head_len = strlen(server.requests[n]);
    peer_read(fd, server.requests[n] + head_len, content_length(server.requests[n]));
    for (int i = 0; i < REQUESTS_MAX && server.answers[i].path != NULL; i++) {
        if (strncmp(server.requests[n], server.answers[i].path, strlen(server.answers[i].path)) != 0)
            continue;
        if (server.answers[i].once < 0)
            continue;
        server.answers[i].once -= server.answers[i].once == 1 ? 2 : 0;
        date = server.answers[i].date;
        status = server.answers[i].status;
        body = server.answers[i].body;
        usleep((useconds_t) server.answers[i].pause_ms * 1000);
        break;
    }
    int len = snprintf(answer, sizeof answer, "HTTP/1.1 %d X\r\nDate: %s\r\nContent-Length: %zu\r\n\r\n%s",
                       status, date != NULL ? date : "today", strlen(body), body);
    peer_write(fd, answer, (size_t) len);
}

static void answer(const char *path, int status, const char *body)
{
    int i = 0;
    while (server.answers[i].path != NULL)
        i++;
    server.answers[i].path = path;
    server.answers[i].status = status;
    server.answers[i].body = body;
}

/* ---- the client around it ------------------------------------------------------------------------------ */

enum { VARIABLES_MAX = 16, VARIABLE_SIZE = 512 };

static struct loop loop;
static struct network network;
static struct aws_client client;
static struct error failure;
static bool is_open;
static char variables[VARIABLES_MAX][VARIABLE_SIZE];
static char *env[VARIABLES_MAX + 1];
static char config[TEXT_FILE_PATH_SIZE], credentials[TEXT_FILE_PATH_SIZE];
static int called;

/* A "%u" is the server's port. */
static void set(const char *name, const char *format)
{
    int i = 0;
    while (env[i] != NULL)
        i++;
    int len = snprintf(variables[i], VARIABLE_SIZE, "%s=", name);
    const char *port = strstr(format, "%u");
    if (port == NULL)
        snprintf(variables[i] + len, VARIABLE_SIZE - (size_t) len, "%s", format);
    else
        snprintf(variables[i] + len, VARIABLE_SIZE - (size_t) len, "%.*s%u%s", (int) (port - format), format,
                 peer.port, port + 2);
    env[i] = variables[i];
}

static int setup(void **state)
{
    (void) state;
    memset(&server, 0, sizeof server);
    memset(env, 0, sizeof env);
    called = 0;
    peer_open(&peer, "127.0.0.1", 0, serve, NULL);
    text_file_make(config, "");
    text_file_make(credentials, "");
    set("AWS_CONFIG_FILE", config);
    set("AWS_SHARED_CREDENTIALS_FILE", credentials);
    return loop_open(&loop, NULL) < 0 || network_open(&network, &loop, NULL, NULL) < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void) state;
    if (is_open)
        aws_client_close(&client);
    is_open = false;
    assert_null(loop.timers);
    network_close(&network);
    loop_close(&loop);
    peer_close(&peer);
    text_file_remove(config);
    text_file_remove(credentials);
    return 0;
}

static int open_client(const char *profile)
{
    failure = (struct error) ERROR_INIT;
    int result = aws_client_open_chain(&client, &network, env, profile, &failure);
    is_open = result == 0;
    return result;
}

static void ready(struct credentials_waiter *waiter)
{
    (void) waiter;
    called++;
}

/* The access key id, or null with the failure. */
static const char *fetch_again(void)
{
    struct credentials_waiter waiter = {.ready = ready};
    int64_t until_ms = clock_monotonic_ms() + 10000;
    called = 0;
    if (!credentials_source_prepare(&client.credentials, &waiter)) {
        assert_int_equal(called, 0); /* never from inside */
        while (called == 0 && clock_monotonic_ms() < until_ms)
            assert_int_equal(loop_turn(&loop, 10, NULL), 0);
        assert_int_equal(called, 1);
    }
    failure = (struct error) ERROR_INIT;
    const struct credentials *keys = credentials_source_get(&client.credentials, &failure);
    return keys != NULL ? keys->access_key_id : NULL;
}

static const char *fetch(const char *profile)
{
    assert_int_equal(open_client(profile), 0);
    return fetch_again();
}

#define assert_failure(words)                                                                                \
    do {                                                                                                     \
        if (strstr(failure.text, words) == NULL)                                                             \
            print_error("%s\n", failure.text);                                                               \
        assert_non_null(strstr(failure.text, words));                                                        \
    } while (0)

#define DOCUMENT(id) "{\"AccessKeyId\":\"" id "\",\"SecretAccessKey\":\"secret\",\"Token\":\"token\"}"

/* ---- opening ------------------------------------------------------------------------------------------- */

static void region_and_settings_come_from_the_profile(void **state)
{
    (void) state;
    text_file_write(config, "[profile p]\nregion = eu-west-3\nendpoint_url = http://localhost:1\n");
    assert_int_equal(open_client("p"), 0);
    assert_string_equal(client.region, "eu-west-3");
    assert_true(str_equal_text(env_get(client.env, "AWS_ENDPOINT_URL"), "http://localhost:1"));
    aws_client_close(&client);
    set("AWS_REGION", "us-east-2");
    assert_int_equal(open_client("p"), 0);
    assert_string_equal(client.region, "us-east-2");
}

static void without_a_region_the_client_opens(void **state)
{
    (void) state;
    assert_int_equal(open_client(NULL), 0);
    assert_string_equal(client.region, "");
}

static void what_does_not_open(void **state)
{
    (void) state;
    assert_int_equal(open_client("p"), ERROR_NOT_FOUND);
    assert_failure("there is no profile p");
    text_file_write(config, "[default]\nregion = Not A Region\n");
    assert_int_equal(open_client(NULL), ERROR_INVALID);
    assert_failure("is not a valid region");
    text_file_write(config, "[default]\nsource_profile = x\n");
    assert_int_equal(open_client(NULL), ERROR_INVALID);
    assert_failure("needs role_arn");
}

static void files_that_are_not_there_are_empty(void **state)
{
    (void) state;
    set("AWS_ACCESS_KEY_ID", "AKID");
    set("AWS_SECRET_ACCESS_KEY", "secret");
    env[0] = env[1] = variables[2];
    assert_string_equal(fetch(NULL), "AKID");
}

/* ---- sources ------------------------------------------------------------------------------------------- */

static void keys_of_the_environment_and_of_profiles(void **state)
{
    (void) state;
    text_file_write(config, "[profile p]\naws_access_key_id = PROFILE\naws_secret_access_key = s\n");
    set("AWS_ACCESS_KEY_ID", "AKID");
    set("AWS_SECRET_ACCESS_KEY", "secret");
    assert_string_equal(fetch(NULL), "AKID");
    aws_client_close(&client);
    assert_string_equal(fetch("p"), "PROFILE");
    assert_true(client.credentials.refresh_at_unix_ms == INT64_MAX);
}

static void the_containers_endpoint(void **state)
{
    (void) state;
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:%u/keys?x=1");
    set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", credentials);
    text_file_write(credentials, "bearer x\n");
    answer("GET /keys?x=1 ", 200, DOCUMENT("BOX"));
    assert_string_equal(fetch(NULL), "BOX");
    assert_non_null(strstr(server.requests[0], "uthorization: bearer x\r\n"));
    credentials_source_discard(&client.credentials);
    server.answers[0].status = 403;
    assert_null(fetch_again());
    assert_int_equal(failure.code, ERROR_DENIED);
    assert_failure("credentials: container: credentials: status 403");
}

static void a_process(void **state)
{
    (void) state;
    text_file_write(config,
                    "[default]\ncredential_process = echo '{\"Version\":1,\"AccessKeyId\":\"TOOL\",'; echo "
                    "'\"SecretAccessKey\":\"s\",\"SessionToken\":\"t\"}'\n");
    assert_string_equal(fetch(NULL), "TOOL");
    assert_string_equal(client.credentials.credentials.session_token, "t");
}

static void processes_that_fail(void **state)
{
    static const struct {
        const char *command, *words;
    } CASES[] = {
        {"exit 3", "credential_process of profile default: the process ended with status 3"},
        {"kill -9 $$", "ended with status 137"},
        {"echo no JSON", "credentials: "},
        {"echo '{\"Version\":2}'", "Version is not 1"},
        {"yes", "says more than 16384 bytes"},
        {"echo '{\"Version\":1}'", "no access key id"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "[default]\ncredential_process = %s\n", CASES[i].command);
        text_file_write(config, text);
        assert_null(fetch(NULL));
        assert_failure(CASES[i].words);
        assert_false(error_may_pass(&failure)); /* nobody waits for that */
        aws_client_close(&client);
        is_open = false;
    }
}

static void a_process_that_fails_later_may_come_back(void **state)
{
    (void) state;
    char text[512];
    snprintf(text, sizeof text,
             "[default]\ncredential_process = test -s %s && echo '{\"Version\":1,\"AccessKeyId\":\"TOOL\","
             "\"SecretAccessKey\":\"s\"}'\n",
             credentials);
    text_file_write(config, text);
    text_file_write(credentials, "# not empty\n");
    assert_string_equal(fetch(NULL), "TOOL");
    text_file_write(credentials, "");
    credentials_source_discard(&client.credentials);
    assert_null(fetch_again());
    assert_true(error_may_pass(&failure));
    text_file_write(credentials, "# not empty\n");
    assert_string_equal(fetch_again(), "TOOL");
}

static void closing_ends_a_process(void **state)
{
    struct credentials_waiter waiter = {.ready = ready};
    (void) state;
    text_file_write(config, "[default]\ncredential_process = sleep 60\n");
    assert_int_equal(open_client(NULL), 0);
    assert_false(credentials_source_prepare(&client.credentials, &waiter));
    for (int i = 0; i < 5; i++)
        assert_int_equal(loop_turn(&loop, 5, NULL), 0);
    aws_client_close(&client);
    is_open = false;
    assert_int_equal(called, 0);
}

/* ---- roles --------------------------------------------------------------------------------------------- */

#define STS_KEYS(id)                                                                                         \
    "<R><Credentials><AccessKeyId>" id "</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"                  \
    "<SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></R>"

static void set_sts(void)
{
    set("AWS_REGION", "eu-west-1");
    set("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:%u");
}

static void a_role_is_assumed_with_the_keys_before(void **state)
{
    (void) state;
    set_sts();
    text_file_write(config, "[default]\nrole_arn = arn:b\nsource_profile = a\nexternal_id = x\n"
                            "[profile a]\nrole_arn = arn:a\nsource_profile = k\nrole_session_name = me\n"
                            "[profile k]\naws_access_key_id = BASE\naws_secret_access_key = s\n");
    answer("POST / ", 200, STS_KEYS("ROLE"));
    assert_string_equal(fetch(NULL), "ROLE");
    assert_int_equal(atomic_load(&peer.accepted), 2);
    assert_non_null(strstr(server.requests[0], "Credential=BASE/"));
    assert_non_null(strstr(server.requests[0], "eu-west-1/sts/aws4_request"));
    assert_non_null(strstr(server.requests[0], "RoleArn=arn%3Aa&RoleSessionName=me"));
    assert_non_null(strstr(server.requests[1], "Credential=ROLE/"));
    assert_non_null(strstr(server.requests[1], "x-amz-security-token: t"));
    assert_non_null(strstr(server.requests[1], "RoleArn=arn%3Ab&RoleSessionName=fumidai-"));
    assert_non_null(strstr(server.requests[1], "&ExternalId=x"));
    /* Nobody knows these keys any more: all of it again. */
    credentials_source_discard(&client.credentials);
    assert_string_equal(fetch_again(), "ROLE");
    assert_int_equal(atomic_load(&peer.accepted), 4);
}

static void a_role_that_is_refused(void **state)
{
    (void) state;
    set_sts();
    text_file_write(config,
                    "[default]\nrole_arn = arn:b\naws_access_key_id = BASE\naws_secret_access_key = s\n");
    answer("POST / ", 403, "<E><Error><Code>AccessDenied</Code><Message>no way</Message></Error></E>");
    assert_null(fetch(NULL));
    assert_int_equal(failure.code, ERROR_DENIED);
    assert_failure(
        "credentials: role of profile default: AssumeRole: 403 AccessDenied: your credentials lack "
        "sts:AssumeRole (no way)");
}

static void a_clock_that_is_off_is_put_right_once(void **state)
{
    (void) state;
    set_sts();
    text_file_write(config,
                    "[default]\nrole_arn = arn:b\naws_access_key_id = BASE\naws_secret_access_key = s\n");
    server.answers[0].once = 1;
    server.answers[0].date = "Tue, 22 Nov 2089 15:38:51 GMT";
    answer("POST / ", 400, "<E><Error><Code>RequestExpired</Code><Message>late</Message></Error></E>");
    answer("POST / ", 200, STS_KEYS("ROLE"));
    assert_string_equal(fetch(NULL), "ROLE");
    assert_int_equal(atomic_load(&peer.accepted), 2);
    assert_non_null(strstr(server.requests[1], "Credential=BASE/20891122/"));
    assert_true(client.credentials.clock_offset_ms > 0);
}

static void a_role_needs_a_region(void **state)
{
    (void) state;
    text_file_write(config,
                    "[default]\nrole_arn = arn:b\naws_access_key_id = BASE\naws_secret_access_key = s\n");
    assert_null(fetch(NULL));
    assert_failure("no region to ask STS in");
}

static void a_code_needs_a_terminal(void **state)
{
    (void) state;
    set_sts();
    text_file_write(config, "[default]\nrole_arn = arn:b\nmfa_serial = arn:mfa\naws_access_key_id = BASE\n"
                            "aws_secret_access_key = s\n");
    int fd = open("/dev/tty", O_RDWR);
    if (fd >= 0)
        ioctl(fd, TIOCNOTTY);
    assert_null(fetch(NULL));
    assert_failure("the role wants a code of arn:mfa: there is no terminal to ask on");
    assert_int_equal(atomic_load(&peer.accepted), 0);
}

/* In a process with a terminal of its own; 0 when the code went to STS. */
static _Noreturn void fetch_with_code(void)
{
    if (setup(NULL) != 0)
        _exit(2);
    set_sts();
    text_file_write(config, "[default]\nrole_arn = arn:b\nmfa_serial = arn:mfa\naws_access_key_id = BASE\n"
                            "aws_secret_access_key = s\n");
    answer("POST / ", 200, STS_KEYS("ROLE"));
    const char *key = fetch(NULL);
    bool has_keys = key != NULL && strcmp(key, "ROLE") == 0;
    bool is_sent = strstr(server.requests[0], "&SerialNumber=arn%3Amfa&TokenCode=123456") != NULL;
    teardown(NULL);
    _exit(has_keys && is_sent ? 0 : 1);
}

static void a_code_is_asked_for_on_the_terminal(void **state)
{
    static const char QUESTION[] = "MFA code of arn:mfa: ";
    char shown[64];
    int terminal, status;
    (void) state;
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    assert_true(pid >= 0);
    if (pid == 0)
        fetch_with_code();
    assert_int_equal(read(terminal, shown, sizeof shown), strlen(QUESTION));
    assert_memory_equal(shown, QUESTION, strlen(QUESTION));
    assert_int_equal(write(terminal, "123456\n", 7), 7);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(terminal);
    assert_int_equal(status, 0);
}

static void a_web_identity_token_is_read_each_time(void **state)
{
    (void) state;
    set_sts();
    set("AWS_WEB_IDENTITY_TOKEN_FILE", credentials);
    set("AWS_ROLE_ARN", "arn:r");
    text_file_write(credentials, "one.jwt\n");
    answer("POST / ", 200, STS_KEYS("WEB"));
    assert_string_equal(fetch(NULL), "WEB");
    assert_non_null(strstr(server.requests[0], "&WebIdentityToken=one.jwt"));
    assert_null(strstr(server.requests[0], "uthorization:")); /* not signed */
    text_file_write(credentials, "two.jwt");
    credentials_source_discard(&client.credentials);
    assert_string_equal(fetch_again(), "WEB");
    assert_non_null(strstr(server.requests[1], "&WebIdentityToken=two.jwt"));
    text_file_write(credentials, "");
    credentials_source_discard(&client.credentials);
    assert_null(fetch_again());
    assert_failure("an identity token of 0 bytes");
}

static void githubs_token(void **state)
{
    (void) state;
    set_sts();
    set("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:%u/token?v=2");
    set("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "hush");
    set("AWS_ROLE_ARN", "arn:r");
    answer("GET /token?v=2&audience=sts.amazonaws.com ", 200, "{\"value\":\"a.b.c\"}");
    answer("POST / ", 200, STS_KEYS("HUB"));
    assert_string_equal(fetch(NULL), "HUB");
    assert_non_null(strstr(server.requests[0], "uthorization: bearer hush\r\n"));
    assert_non_null(strstr(server.requests[1], "&WebIdentityToken=a.b.c"));
    assert_non_null(strstr(server.requests[1], "&RoleSessionName=GitHubActions"));
    server.answers[0].status = 403;
    credentials_source_discard(&client.credentials);
    assert_null(fetch_again());
    assert_failure("credentials: GitHub's identity token: GitHub's token service: status 403");
}

/* ---- IAM Identity Center ------------------------------------------------------------------------------- */

static char home[] = "/tmp/fumidai-home-XXXXXX", cache[128];

static void write_cache(const char *text)
{
    FILE *file = fopen(cache, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

/* Its file is that of session "s". */
static void make_cache(const char *text)
{
    char directory[64];
    strcpy(home, "/tmp/fumidai-home-XXXXXX");
    assert_non_null(mkdtemp(home));
    static const char *const PARTS[] = {"", "/.aws", "/.aws/sso", "/.aws/sso/cache"};
    for (size_t i = 1; i < sizeof PARTS / sizeof PARTS[0]; i++) {
        snprintf(directory, sizeof directory, "%s%s", home, PARTS[i]);
        assert_int_equal(mkdir(directory, 0700), 0);
    }
    snprintf(cache, sizeof cache, "%s/a0f1490a20d0211c997b44bc357e1972deab8ae3.json", directory);
    if (text != NULL)
        write_cache(text);
    set("HOME", home);
    set("AWS_ENDPOINT_URL_SSO", "http://127.0.0.1:%u/sso");
    set("AWS_ENDPOINT_URL_SSO_OIDC", "http://127.0.0.1:%u/oidc");
    text_file_write(config, "[default]\nsso_session = s\nsso_account_id = 1\nsso_role_name = n\n"
                            "[sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x\n");
}

static void remove_cache(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", home);
    assert_int_equal(system(command), 0);
}

#define SSO_KEYS                                                                                             \
    "{\"roleCredentials\":{\"accessKeyId\":\"SSO\",\"secretAccessKey\":\"s\",\"sessionToken\":\"t\","        \
    "\"expiration\":4070908800000}}"
#define SSO_CACHE(expires)                                                                                   \
    "{\"accessToken\":\"acc\",\"expiresAt\":\"" expires "\",\"refreshToken\":\"ref\",\"clientId\":\"id\","   \
    "\"clientSecret\":\"sec\",\"other\":1}"

static void a_cached_token(void **state)
{
    (void) state;
    make_cache(SSO_CACHE("2099-01-01T00:00:00Z"));
    answer("GET /sso/federation/credentials?account_id=1&role_name=n ", 200, SSO_KEYS);
    assert_string_equal(fetch(NULL), "SSO");
    assert_non_null(strstr(server.requests[0], "x-amz-sso_bearer_token: acc\r\n"));
    assert_int_equal(atomic_load(&peer.accepted), 1);
    remove_cache();
}

static void an_old_token_is_refreshed_and_kept(void **state)
{
    char text[1024];
    (void) state;
    make_cache(SSO_CACHE("2020-01-01T00:00:00Z"));
    answer("POST /oidc/token ", 200,
           "{\"accessToken\":\"new\",\"expiresIn\":3600,\"refreshToken\":\"next\"}");
    answer("GET /sso/", 200, SSO_KEYS);
    assert_string_equal(fetch(NULL), "SSO");
    assert_non_null(strstr(server.requests[0], "\"refreshToken\":\"ref\""));
    assert_non_null(strstr(server.requests[1], "x-amz-sso_bearer_token: new\r\n"));
    FILE *file = fopen(cache, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_non_null(strstr(text, "\"accessToken\":\"new\",\"refreshToken\":\"next\""));
    assert_non_null(strstr(text, "\"other\":1"));
    credentials_source_discard(&client.credentials);
    assert_string_equal(fetch_again(), "SSO");
    assert_int_equal(atomic_load(&peer.accepted), 3); /* the new one is good for an hour */
    remove_cache();
}

static void a_refused_token_is_refreshed_once(void **state)
{
    (void) state;
    make_cache(SSO_CACHE("2099-01-01T00:00:00Z"));
    answer("POST /oidc/token ", 200, "{\"accessToken\":\"new\",\"expiresIn\":3600}");
    answer("GET /sso/", 401, "{}");
    assert_null(fetch(NULL));
    assert_failure("log in again with `aws sso login`");
    assert_int_equal(atomic_load(&peer.accepted), 3);
    remove_cache();
}

static void who_has_not_logged_in(void **state)
{
    (void) state;
    make_cache(NULL);
    assert_null(fetch(NULL));
    assert_failure(
        "credentials: IAM Identity Center of profile default: nobody has logged in: `aws sso login` writes");
    write_cache("{\"accessToken\":\"a\",\"expiresAt\":\"2020-01-01T00:00:00Z\"}");
    assert_null(fetch_again());
    assert_failure("the session has expired: log in again");
    write_cache("{}");
    assert_null(fetch_again());
    assert_failure("accessToken is missing");
    assert_int_equal(atomic_load(&peer.accepted), 0);
    remove_cache();
}

/* ---- EC2's metadata service ---------------------------------------------------------------------------- */

static void an_instances_role(void **state)
{
    (void) state;
    set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:%u");
    answer("PUT /latest/api/token ", 200, "tok");
    answer("GET /latest/meta-data/iam/security-credentials/ ", 200, "role\n");
    answer("GET /latest/meta-data/iam/security-credentials/role ", 200, DOCUMENT("EC2"));
    assert_string_equal(fetch(NULL), "EC2");
    assert_non_null(strstr(server.requests[0], "x-aws-ec2-metadata-token-ttl-seconds: 300\r\n"));
    assert_non_null(strstr(server.requests[2], "x-aws-ec2-metadata-token: tok\r\n"));
    credentials_source_discard(&client.credentials);
    server.answers[1].status = 404;
    assert_null(fetch_again());
    assert_failure("credentials: EC2 instance: the instance has no role"); /* it had one */
}

static void an_instance_that_does_not_answer_is_asked_twice(void **state)
{
    (void) state;
    set("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:%u");
    server.answers[0].pause_ms = 1500;
    answer("PUT /latest/api/token ", 200, "tok");
    int64_t started_ms = clock_monotonic_ms();
    assert_null(fetch(NULL));
    assert_failure("credentials: EC2 instance: nothing else is configured, and ");
    assert_false(error_may_pass(&failure)); /* nobody waits for that */
    assert_in_range(clock_monotonic_ms() - started_ms, 1900, 3500);
    aws_client_close(&client);
    is_open = false;
    set("AWS_EC2_METADATA_DISABLED", "true");
    assert_null(fetch(NULL));
    assert_failure("nothing else is configured, and AWS_EC2_METADATA_DISABLED is true");
}

/* ---- the course ---------------------------------------------------------------------------------------- */

static void one_fetch_at_a_time_and_again_after_a_failure(void **state)
{
    struct credentials_waiter waiters[2] = {{.ready = ready}, {.ready = ready}};
    (void) state;
    set("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:%u/keys");
    answer("GET /keys ", 500, "");
    assert_null(fetch(NULL));
    assert_int_equal(failure.code, ERROR_UNAVAILABLE);
    server.answers[0].status = 200;
    server.answers[0].body = DOCUMENT("BOX");
    assert_false(credentials_source_prepare(&client.credentials, &waiters[0]));
    assert_false(credentials_source_prepare(&client.credentials, &waiters[1]));
    called = 0;
    while (called < 2)
        assert_int_equal(loop_turn(&loop, 10, NULL), 0);
    assert_int_equal(atomic_load(&peer.accepted), 2);
    assert_string_equal(fetch_again(), "BOX");
    assert_int_equal(atomic_load(&peer.accepted), 2);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(region_and_settings_come_from_the_profile),
        WITH_SERVER(without_a_region_the_client_opens),
        WITH_SERVER(what_does_not_open),
        WITH_SERVER(files_that_are_not_there_are_empty),
        WITH_SERVER(keys_of_the_environment_and_of_profiles),
        WITH_SERVER(the_containers_endpoint),
        WITH_SERVER(a_process),
        WITH_SERVER(processes_that_fail),
        WITH_SERVER(a_process_that_fails_later_may_come_back),
        WITH_SERVER(closing_ends_a_process),
        WITH_SERVER(a_role_is_assumed_with_the_keys_before),
        WITH_SERVER(a_role_that_is_refused),
        WITH_SERVER(a_clock_that_is_off_is_put_right_once),
        WITH_SERVER(a_role_needs_a_region),
        WITH_SERVER(a_code_needs_a_terminal),
        cmocka_unit_test(a_code_is_asked_for_on_the_terminal),
        WITH_SERVER(a_web_identity_token_is_read_each_time),
        WITH_SERVER(githubs_token),
        WITH_SERVER(a_cached_token),
        WITH_SERVER(an_old_token_is_refreshed_and_kept),
        WITH_SERVER(a_refused_token_is_refreshed_once),
        WITH_SERVER(who_has_not_logged_in),
        WITH_SERVER(an_instances_role),
        WITH_SERVER(an_instance_that_does_not_answer_is_asked_twice),
        WITH_SERVER(one_fetch_at_a_time_and_again_after_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
