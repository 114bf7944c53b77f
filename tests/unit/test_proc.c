#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host/proc.h"

static char root[] = "/tmp/fumidai-proc-XXXXXX";
static struct proc_scan scan;

static int setup(void **state)
{
    (void) state;
    strcpy(root, "/tmp/fumidai-proc-XXXXXX");
    return mkdtemp(root) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void) state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

static void put_file(const char *name, const char *file, const void *data, size_t len)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", root, name, file);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t) len);
    close(fd);
}

#define PUT_PROCESS(pid, command_line) put_file(pid, "cmdline", command_line, sizeof(command_line) - 1)

static bool has_worker(int pid, const char *session_id)
{
    for (size_t i = 0; i < scan.worker_count; i++)
        if (scan.workers[i].pid == pid && strcmp(scan.workers[i].session_id, session_id) == 0)
            return true;
    return false;
}

static void workers_are_found_by_their_command_line(void **state)
{
    (void) state;
    PUT_PROCESS("1", "/sbin/init\0");
    PUT_PROCESS("77", "/ecs-execute-command-0a1b/ssm-session-worker\0ecs-execute-command-1234\0");
    PUT_PROCESS("78", "ssm-session-worker\0user-0\0--flag\0");
    PUT_PROCESS("79", "");                                       /* a zombie */
    PUT_PROCESS("80", "vi\0ssm-session-worker\0user-1\0");       /* mentions it only */
    PUT_PROCESS("81", "/x/ssm-session-worker\0");                /* no session */
    PUT_PROCESS("82", "/x/ssm-session-worker2\0user-2\0");       /* another program */
    PUT_PROCESS("self-made", "/x/ssm-session-worker\0user-3\0"); /* not a process */
    PUT_PROCESS("83", "/x/ssm-session-worker\0user-4");          /* no terminator */
    assert_int_equal(proc_scan(root, &scan, NULL), 0);
    assert_true(scan.complete);
    assert_false(scan.agent_running);
    assert_int_equal(scan.worker_count, 3);
    assert_true(has_worker(77, "ecs-execute-command-1234"));
    assert_true(has_worker(78, "user-0"));
    assert_true(has_worker(83, "user-4"));
}

static void the_agent_is_recognised(void **state)
{
    (void) state;
    PUT_PROCESS("5", "/ecs-execute-command-0a1b/amazon-ssm-agent\0");
    assert_int_equal(proc_scan(root, &scan, NULL), 0);
    assert_true(scan.agent_running);
    PUT_PROCESS("5", "/ecs-execute-command-0a1b/ssm-agent-worker\0");
    assert_int_equal(proc_scan(root, &scan, NULL), 0);
    assert_true(scan.agent_running);
    assert_int_equal(scan.worker_count, 0);
}

static void too_many_workers_make_absence_prove_nothing(void **state)
{
    (void) state;
    for (int i = 0; i < PROC_WORKERS_MAX + 1; i++) {
        char pid[16];
        char command_line[64];
        snprintf(pid, sizeof pid, "%d", 100 + i);
        int len = snprintf(command_line, sizeof command_line, "ssm-session-worker%cuser-%d", 0, i);
        put_file(pid, "cmdline", command_line, (size_t) len + 1);
        assert_int_equal(proc_scan(root, &scan, NULL), 0);
        assert_int_equal(scan.complete, i < PROC_WORKERS_MAX);
    }
    assert_int_equal(scan.worker_count, PROC_WORKERS_MAX);
}

static void an_overlong_session_id_is_not_cut(void **state)
{
    (void) state;
    char command_line[512] = "ssm-session-worker";
    memset(command_line + 19, 'x', PROC_SESSION_ID_SIZE);
    put_file("9", "cmdline", command_line, 19 + PROC_SESSION_ID_SIZE - 1 + 1);
    assert_int_equal(proc_scan(root, &scan, NULL), 0);
    assert_false(scan.complete);
    command_line[19 + PROC_SESSION_ID_SIZE - 1] = '\0';
    put_file("9", "cmdline", command_line, 19 + PROC_SESSION_ID_SIZE);
    assert_int_equal(proc_scan(root, &scan, NULL), 0);
    assert_true(scan.complete);
    assert_int_equal(strlen(scan.workers[0].session_id), PROC_SESSION_ID_SIZE - 1);
}

static void a_missing_proc_is_an_error(void **state)
{
    (void) state;
    struct error err = ERROR_INIT;
    assert_int_equal(proc_scan("/nonexistent", &scan, &err), ERROR_SYSTEM);
    assert_string_equal(err.text, "open /nonexistent: No such file or directory");
    assert_false(scan.complete);
}

static void the_real_proc_can_be_read(void **state)
{
    (void) state;
    assert_int_equal(proc_scan("/proc", &scan, NULL), 0);
    assert_true(scan.complete);
}

static void the_agents_mount_is_found_wherever_the_buffer_cuts(void **state)
{
    (void) state;
    static const char line[] =
        "740 700 259:1 /managed-agents/execute-command/x /ecs-execute-command-0a1b rw - ext4 /dev/x rw\n";
    assert_false(proc_exec_agent_mounted(root)); /* no file */
    for (size_t before = 900; before < 1100; before++) {
        char text[2048];
        memset(text, 'm', before);
        memcpy(text + before, line, sizeof line - 1);
        put_file("self", "mountinfo", text, before + sizeof line - 1);
        assert_true(proc_exec_agent_mounted(root));
    }
    put_file("self", "mountinfo", "1 2 3:4 / / rw - ext4 /dev/managed-agents/execute-comman rw\n", 60);
    assert_false(proc_exec_agent_mounted(root));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(workers_are_found_by_their_command_line, setup, teardown),
        cmocka_unit_test_setup_teardown(the_agent_is_recognised, setup, teardown),
        cmocka_unit_test_setup_teardown(too_many_workers_make_absence_prove_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(an_overlong_session_id_is_not_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(a_missing_proc_is_an_error, setup, teardown),
        cmocka_unit_test_setup_teardown(the_real_proc_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(the_agents_mount_is_found_wherever_the_buffer_cuts, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
