#include "host/claim.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/running.h"
#include "host/files.h"
#include "host/pidfd.h"
#include "lib/text_file.h"

static char path[TEXT_FILE_PATH_SIZE];

static int setup(void **state)
{
    (void) state;
    text_file_make(path, "left behind\n");
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    (void) unlink(path);
    return 0;
}

/* A process that takes the file and sleeps. Locks of one process are not in its own way. */
static pid_t holder(void)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct claim claim;
        if (claim_take(&claim, path, STR_LITERAL("taken\n"), NULL) == 0 && write(ready[1], "", 1) == 1)
            pause();
        _exit(1);
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    return pid;
}

static void end(pid_t pid)
{
    kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_file_belongs_to_a_process_while_it_lives(void **state)
{
    struct claim claim;
    struct error err = ERROR_INIT;
    struct str text;
    char memory[64];
    char want[200];
    bool is_there;
    pid_t pid;
    (void) state;
    assert_false(claim_is_held(path, &pid, &is_there));
    assert_true(is_there);
    pid_t other = holder();
    assert_true(claim_is_held(path, &pid, &is_there));
    assert_int_equal(pid, other);
    assert_int_equal(files_read(path, memory, sizeof memory, &text, NULL), 0);
    assert_true(str_equal_text(text, "taken\n"));
    assert_int_equal(claim_take(&claim, path, STR_LITERAL("mine\n"), &err), ERROR_DENIED);
    snprintf(want, sizeof want, "%s belongs to process %d, which is running", path, (int) other);
    assert_string_equal(err.text, want);
    claim_drop(&claim);
    end(other);
    assert_false(claim_is_held(path, &pid, &is_there));
    assert_int_equal(claim_take(&claim, path, STR_LITERAL("mine\n"), &err), 0);
    assert_int_equal(files_read(path, memory, sizeof memory, &text, NULL), 0);
    assert_true(str_equal_text(text, "mine\n"));
    claim_drop(&claim);
    claim_drop(&claim);
    assert_false(claim_is_held(path, &pid, &is_there));
    assert_false(is_there);
    assert_int_equal(claim_clear(path, NULL), 0);
}

static void what_can_not_be_written(void **state)
{
    struct claim claim;
    struct error err = ERROR_INIT;
    char longest[FILES_PATH_SIZE];
    (void) state;
    assert_int_equal(claim_take(&claim, "/nowhere/pid", STR_LITERAL("1\n"), &err), ERROR_SYSTEM);
    assert_string_equal(err.text, "can't write /nowhere/pid: No such file or directory");
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_int_equal(claim_take(&claim, longest, STR_LITERAL("1\n"), &err), ERROR_TOO_LARGE);
    assert_int_equal(claim.fd, -1);
}

static void a_process_is_watched_and_signalled(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    int fd = pidfd_of(pid, &err);
    assert_true(fd >= 0);
    assert_false(pidfd_ends(fd, 0));
    assert_false(pidfd_ends(fd, 20));
    assert_true(pidfd_signal(fd, SIGKILL));
    assert_true(pidfd_ends(fd, 10000));
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_false(pidfd_signal(fd, SIGKILL));
    close(fd);
    assert_int_equal(pidfd_of(pid, &err), ERROR_NOT_FOUND);
}

static void a_running_one_is_stopped_and_waited_for(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(running_stop(path, 0, &err), ERROR_NOT_FOUND);
    assert_non_null(strstr(err.text, "is gone; it was killed, or crashed"));
    assert_int_equal(running_wait(path, 60, &err), ERROR_TIMEOUT);
    assert_non_null(strstr(err.text, "left by one that is gone within 60ms"));
    pid_t other = holder();
    assert_int_equal(running_wait(path, 0, &err), 0);
    assert_int_equal(running_stop(path, 0, &err), 0);
    assert_int_equal(waitpid(other, NULL, 0), other);
    (void) unlink(path);
    assert_int_equal(running_stop(path, 0, &err), ERROR_NOT_FOUND);
    assert_non_null(strstr(err.text, "there is no file"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_file_belongs_to_a_process_while_it_lives, setup, teardown),
        cmocka_unit_test_setup_teardown(what_can_not_be_written, setup, teardown),
        cmocka_unit_test(a_process_is_watched_and_signalled),
        cmocka_unit_test_setup_teardown(a_running_one_is_stopped_and_waited_for, setup, teardown),
    };
    return cmocka_run_group_tests_name("claim", tests, NULL, NULL);
}
