#include "host/files.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <sys/stat.h>
#include <unistd.h>

#include "lib/guard.h"
#include "lib/text_file.h"

static void a_file_is_read_whole_or_not_at_all(void **state)
{
    char path[TEXT_FILE_PATH_SIZE];
    struct error err = ERROR_INIT;
    struct str text;
    (void) state;
    text_file_make(path, "12345");
    for (size_t capacity = 0; capacity < 8; capacity++) {
        char *memory = guard_alloc(capacity);
        int result = files_read(path, memory, capacity, &text, &err);
        assert_int_equal(result, capacity < 5 ? ERROR_TOO_LARGE : 0);
        if (result == 0)
            assert_true(str_equal_text(text, "12345"));
        guard_free(memory, capacity);
    }
    text_file_remove(path);
}

static void what_can_not_be_read(void **state)
{
    char memory[8];
    struct error err = ERROR_INIT;
    struct str text;
    (void) state;
    assert_int_equal(files_read("/nowhere/file", memory, sizeof memory, &text, &err), ERROR_NOT_FOUND);
    assert_string_equal(err.text, "can't read /nowhere/file: No such file or directory");
    assert_int_equal(files_read("/tmp", memory, sizeof memory, &text, &err), ERROR_SYSTEM);
    assert_string_equal(err.text, "can't read /tmp: Is a directory");
    assert_int_equal(text.len, 0);
}

static void a_file_is_replaced_for_its_owner_only(void **state)
{
    char path[TEXT_FILE_PATH_SIZE], beside[TEXT_FILE_PATH_SIZE + 4], memory[64];
    struct str text;
    struct stat status;
    (void) state;
    text_file_make(path, "old");
    chmod(path, 0644);
    assert_int_equal(files_replace(path, STR_LITERAL("new text"), NULL), 0);
    assert_int_equal(files_read(path, memory, sizeof memory, &text, NULL), 0);
    assert_true(str_equal_text(text, "new text"));
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    snprintf(beside, sizeof beside, "%s.new", path);
    assert_int_equal(access(beside, F_OK), -1);
    text_file_remove(path);
}

static void what_can_not_be_written(void **state)
{
    struct error err = ERROR_INIT;
    char path[FILES_PATH_SIZE + 1];
    (void) state;
    assert_int_equal(files_replace("/nowhere/file", STR_LITERAL("x"), &err), ERROR_NOT_FOUND);
    assert_int_equal(files_replace("/tmp", STR_LITERAL("x"), &err),
                     ERROR_SYSTEM); /* /tmp.new can't be renamed */
    assert_int_equal(access("/tmp.new", F_OK), -1);
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    assert_int_equal(files_replace(path, STR_LITERAL("x"), &err), ERROR_SYSTEM);
    assert_non_null(strstr(err.text, "can't write x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole_or_not_at_all),
        cmocka_unit_test(what_can_not_be_read),
        cmocka_unit_test(a_file_is_replaced_for_its_owner_only),
        cmocka_unit_test(what_can_not_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
