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

#include "host/tail.h"

static char directory[] = "/tmp/fumidai-tail-XXXXXX";
static char path[64];
static char rotated[64];
static struct tail tail;

static int setup(void **state)
{
    (void) state;
    strcpy(directory, "/tmp/fumidai-tail-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/log", directory);
    snprintf(rotated, sizeof rotated, "%s/log.1", directory);
    tail_open(&tail, path);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    tail_close(&tail);
    unlink(path);
    rmdir(path);
    unlink(rotated);
    return rmdir(directory);
}

static void append(const char *file, const char *text)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t) strlen(text));
    close(fd);
}

/* Everything there is, with "|" where the tail said RESTART and "!" where it had trouble. */
static const char *poll_all(size_t capacity)
{
    static char got[256];
    size_t used = 0;
    for (;;) {
        size_t len = 0;
        assert_true(used + capacity + 1 < sizeof got);
        enum tail_event event = tail_poll(&tail, got + used, capacity, &len);
        assert_true(len <= capacity);
        assert_int_equal(event == TAIL_BYTES, len > 0);
        used += len;
        if (event == TAIL_RESTART || event == TAIL_TROUBLE)
            got[used++] = event == TAIL_RESTART ? '|' : '!';
        got[used] = '\0';
        if (event == TAIL_IDLE)
            return got;
    }
}

static void absence_is_no_error_and_ends_when_the_file_appears(void **state)
{
    (void) state;
    for (int i = 0; i < 3; i++)
        assert_string_equal(poll_all(64), "");
    append(path, "first line\nhalf");
    assert_string_equal(poll_all(64), "first line\nhalf");
    append(path, " a line\n");
    assert_string_equal(poll_all(64), " a line\n");
    assert_string_equal(poll_all(64), "");
}

static void an_absent_directory_is_absence_too(void **state)
{
    (void) state;
    tail_open(&tail, "/nonexistent/directory/log");
    assert_string_equal(poll_all(64), "");
}

static void small_buffers_get_everything(void **state)
{
    (void) state;
    append(path, "0123456789");
    for (size_t capacity = 1; capacity <= 11; capacity++) {
        tail_close(&tail);
        tail_open(&tail, path);
        assert_string_equal(poll_all(capacity), "0123456789");
    }
}

static void a_rotated_file_is_read_to_its_end_first(void **state)
{
    (void) state;
    append(path, "one ");
    assert_string_equal(poll_all(64), "one ");
    append(path, "two ");
    rename(path, rotated);
    append(rotated, "three ");
    append(path, "four");
    assert_string_equal(poll_all(4), "two three |four");
}

static void a_renamed_file_without_successor_is_still_followed(void **state)
{
    (void) state;
    append(path, "one ");
    assert_string_equal(poll_all(64), "one ");
    rename(path, rotated);
    assert_string_equal(poll_all(64), "");
    append(rotated, "two ");
    assert_string_equal(poll_all(64), "two ");
    append(path, "three");
    assert_string_equal(poll_all(64), "|three");
}

static void a_removed_and_new_file_is_a_restart(void **state)
{
    (void) state;
    append(path, "one");
    assert_string_equal(poll_all(64), "one");
    unlink(path);
    append(path, "another");
    assert_string_equal(poll_all(64), "|another");
}

static void truncation_is_a_restart(void **state)
{
    (void) state;
    append(path, "a long first text");
    assert_string_equal(poll_all(64), "a long first text");
    assert_int_equal(truncate(path, 0), 0);
    assert_string_equal(poll_all(64), "|");
    append(path, "short");
    assert_string_equal(poll_all(64), "short");
    assert_int_equal(truncate(path, 0), 0);
    append(path, "abc");
    assert_string_equal(poll_all(64), "|abc");
}

static void an_empty_first_file_that_is_replaced_is_no_restart(void **state)
{
    (void) state;
    append(path, "");
    assert_string_equal(poll_all(64), "");
    append(rotated, "text");
    rename(rotated, path);
    assert_string_equal(poll_all(64), "text");
}

static void trouble_is_told_once_and_passes(void **state)
{
    (void) state;
    char expected[128];
    mkdir(path, 0700);
    assert_string_equal(poll_all(64), "!");
    snprintf(expected, sizeof expected, "not a regular file: %s: Invalid argument", path);
    assert_string_equal(tail.err.text, expected);
    assert_int_equal(tail.err.code, ERROR_SYSTEM);
    assert_string_equal(poll_all(64), "");
    rmdir(path);
    append(path, "text");
    assert_string_equal(poll_all(64), "text");
    unlink(path);
    mkdir(path, 0700);
    assert_string_equal(poll_all(64), "!");
}

static void a_fifo_does_not_block(void **state)
{
    (void) state;
    assert_int_equal(mkfifo(path, 0600), 0);
    alarm(5);
    assert_string_equal(poll_all(64), "!");
    alarm(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(absence_is_no_error_and_ends_when_the_file_appears, setup, teardown),
        cmocka_unit_test_setup_teardown(an_absent_directory_is_absence_too, setup, teardown),
        cmocka_unit_test_setup_teardown(small_buffers_get_everything, setup, teardown),
        cmocka_unit_test_setup_teardown(a_rotated_file_is_read_to_its_end_first, setup, teardown),
        cmocka_unit_test_setup_teardown(a_renamed_file_without_successor_is_still_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_removed_and_new_file_is_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(truncation_is_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(an_empty_first_file_that_is_replaced_is_no_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(trouble_is_told_once_and_passes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_fifo_does_not_block, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
