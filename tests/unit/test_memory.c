/* Memory limits, read from files that a test writes. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "host/memory.h"

static char root[64];

static const char *const names[] = {"proc/meminfo", "sys/fs/cgroup/memory.max",
                                    "sys/fs/cgroup/memory/memory.limit_in_bytes"};
static const char *const folders[] = {"proc", "sys", "sys/fs", "sys/fs/cgroup", "sys/fs/cgroup/memory"};

static int make_root(void **state)
{
    char path[160];
    (void) state;
    strcpy(root, "/tmp/test_memory.XXXXXX");
    if (mkdtemp(root) == NULL)
        return 1;
    strcat(root, "/");
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(path, sizeof path, "%s%s", root, folders[i]);
        if (mkdir(path, 0755) != 0)
            return 1;
    }
    return 0;
}

static int remove_root(void **state)
{
    char path[160];
    (void) state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s%s", root, names[i]);
        unlink(path);
    }
    for (size_t i = sizeof folders / sizeof folders[0]; i > 0; i--) {
        snprintf(path, sizeof path, "%s%s", root, folders[i - 1]);
        rmdir(path);
    }
    return rmdir(root);
}

static void put(const char *name, const char *text)
{
    char path[160];
    snprintf(path, sizeof path, "%s%s", root, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void the_least_limit_counts(void **state)
{
    (void) state;
    put("proc/meminfo", "MemTotal:        2048000 kB\nMemFree:          100 kB\n");
    assert_int_equal(memory_limit_bytes(root), 2048000ull * 1024);
    put("sys/fs/cgroup/memory.max", "536870912\n");
    assert_int_equal(memory_limit_bytes(root), 536870912);
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "268435456\n");
    assert_int_equal(memory_limit_bytes(root), 268435456);
}

static void no_limit_is_not_one(void **state)
{
    (void) state;
    put("proc/meminfo", "MemTotal:        2048000 kB\n");
    put("sys/fs/cgroup/memory.max", "max\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(memory_limit_bytes(root), 2048000ull * 1024);
}

static void without_any_file_it_is_the_smallest_tasks(void **state)
{
    (void) state;
    assert_int_equal(memory_limit_bytes(root), 512ull << 20);
    put("proc/meminfo", "garbage 99999999999999999999999999999\n");
    put("sys/fs/cgroup/memory.max", "0\n");
    assert_int_equal(memory_limit_bytes(root), 512ull << 20);
}

static void pages_are_zeroes_and_are_zeroes_again(void **state)
{
    (void) state;
    char *start = memory_map(1 << 20);
    assert_non_null(start);
    memset(start, 1, 1 << 20);
    memory_forget(start, 1 << 20);
    assert_int_equal(start[4096], 0);
    memory_unmap(start, 1 << 20);
    memory_unmap(NULL, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_least_limit_counts),
        TEST(no_limit_is_not_one),
        TEST(without_any_file_it_is_the_smallest_tasks),
        TEST(pages_are_zeroes_and_are_zeroes_again),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
