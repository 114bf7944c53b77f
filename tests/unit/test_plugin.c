/* client/plugin: what it says when there is no session to open. Sessions are the end-to-end tests'. */
#include "client/plugin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tunnel/handshake.h"

#define NAME   "session-manager-plugin"
#define ANSWER "{\"SessionId\":\"me-0a\",\"StreamUrl\":\"wss://a.example/x\",\"TokenValue\":\"secret\"}"
#define CUT    "{\"SessionId\":\"me-0a\",\"TokenValue\":\"secret\""
#define SHELL  "{\"Target\":\"i-0a\",\"DocumentName\":\"SSM-SessionManagerRunShell\"}"

static char said[4096];

/* Runs it in a process of its own; what it says on stdout. */
static void run(char **argv)
{
    const struct plugin_settings settings = {.max_messages_per_second = 960};
    char *env[] = {"PATH=/nowhere", NULL};
    int argc = 0;
    int ends[2];
    int status;
    size_t len = 0;
    assert_int_equal(pipe(ends), 0);
    while (argv[argc] != NULL)
        argc++;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        _exit(plugin_run(&settings, argc, argv, env));
    }
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], said + len, sizeof said - 1 - len)) > 0;)
        len += (size_t) n;
    said[len] = '\0';
    close(ends[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0); /* whatever happens */
}

static void it_says_that_it_is_installed(void **state)
{
    char *nothing[] = {NAME, NULL};
    char *version[] = {NAME, "--version", NULL};
    (void) state;
    run(nothing);
    assert_string_equal(
        said,
        "\nThe Session Manager plugin was installed successfully. Use the AWS CLI to start a session.\n\n");
    run(version);
    assert_string_equal(said, HANDSHAKE_CLIENT_VERSION "\n");
    assert_true(handshake_version_compare(STR_LITERAL(HANDSHAKE_CLIENT_VERSION), STR_LITERAL("1.2.764.0")) >=
                0);
}

static void it_says_what_is_wrong_without_the_token(void **state)
{
    static const struct {
        char *argv[8];
        const char *says;
    } rows[] = {
        {{NAME, "--help", NULL}, "unknown operation"},
        {{NAME, ANSWER, "eu-west-1", "StopSession", NULL}, "only StartSession is supported"},
        {{NAME, CUT, "eu-west-1", "StartSession", NULL}, "argument 1, StartSession's answer"},
        {{NAME, ANSWER, "eu-west-1", "StartSession", "", "[", NULL}, "argument 5, StartSession's request"},
        {{NAME, "AWS_SSM_START_SESSION_RESPONSE", "eu-west-1", "StartSession", NULL}, "is not set"},
        {{NAME, ANSWER, "eu-west-1", "StartSession", "", SHELL, NULL}, "opens no shells"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char *argv[8];
        memcpy(argv, rows[i].argv, sizeof argv);
        run(argv);
        if (strncmp(said, "\nCannot perform start session: ", 31) != 0 ||
            strstr(said, rows[i].says) == NULL || strstr(said, "secret") != NULL)
            fail_msg("row %zu: %s", i, said);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_says_that_it_is_installed),
        cmocka_unit_test(it_says_what_is_wrong_without_the_token),
    };
    return cmocka_run_group_tests_name("plugin", tests, NULL, NULL);
}
