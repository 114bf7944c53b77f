#include "keeper/exec_agent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/emulation.h"

/* The log is a file of the test's; the processes are this machine's, among them one that the test starts. */

#define LINE(id, message) "2023-11-17 07:09:48 INFO [ssm-session-worker] [" id "] " message "\n"

static struct exec_agent agent;
static char path[] = "/tmp/fumidai-exec-agent-XXXXXX";
static char name[sizeof path];

static int setup(void **state)
{
    (void) state;
    strcpy(name, path);
    int fd = mkstemp(name);
    close(fd);
    return fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    (void) state;
    exec_agent_close(&agent);
    unlink(name);
    return 0;
}

static void append(const char *text)
{
    int fd = open(name, O_WRONLY | O_APPEND | O_CREAT, 0600);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

/* After a poll. Sessions of agents elsewhere on this machine are none of this test's business. */
static bool is_open(const char *id, int64_t now_ms)
{
    exec_agent_poll(&agent, now_ms);
    for (uint32_t i = 0; i < agent.log.session_count; i++)
        if (strcmp(agent.log.sessions[i].id, id) == 0)
            return agent.log.sessions[i].state == EXEC_LOG_OPEN;
    return false;
}

static void counts_sessions_by_the_log(void **state)
{
    (void) state;
    exec_agent_open(&agent, name, 1000);
    assert_false(is_open("test-1", 1000));
    append(LINE("test-1", "started"));
    assert_true(is_open("test-1", 2000));
    append(LINE("test-1", "Session worker closed"));
    assert_false(is_open("test-1", 3000));
    assert_true(exec_log_activity(&agent.log).total_sessions >= 1);
}

static void what_was_there_before_is_not_counted(void **state)
{
    (void) state;
    append(LINE("test-1", "started"));
    exec_agent_open(&agent, name, 1000);
    assert_false(is_open("test-1", 1000));
    append(LINE("test-2", "started"));
    assert_true(is_open("test-2", 2000));
    assert_false(is_open("test-1", 3000));
}

static void a_log_that_cannot_be_read_does_not_stop_it(void **state)
{
    (void) state;
    exec_agent_open(&agent, "/tmp", 1000); /* a directory */
    assert_false(is_open("test-1", 1000));
    assert_false(is_open("test-1", 2000));
    exec_agent_close(&agent);
    exec_agent_open(&agent, "/nowhere/log", 3000); /* not there yet */
    assert_false(is_open("test-1", 3000));
}

static void counts_sessions_by_processes(void **state)
{
    (void) state;
    if (is_emulated())
        skip();
    exec_agent_open(&agent, "/nowhere/log", 1000);
    assert_false(is_open("test-process", 1000));
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        char *const words[] = {"/x/ssm-session-worker", "test-process", NULL};
        execv("/proc/self/exe", words);
        _exit(1);
    }
    for (int i = 0; i < 100 && !is_open("test-process", 2000 + i); i++)
        usleep(20 * 1000);
    assert_true(is_open("test-process", 3000));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_false(is_open("test-process", 4000));
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(int argc, char **argv)
{
    if (argc > 1 && strstr(argv[0], "ssm-session-worker") != NULL)
        pause();
    const struct CMUnitTest tests[] = {
        TEST(counts_sessions_by_the_log),
        TEST(what_was_there_before_is_not_counted),
        TEST(a_log_that_cannot_be_read_does_not_stop_it),
        TEST(counts_sessions_by_processes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
