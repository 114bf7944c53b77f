#include "host/descriptors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void each_use_leaves_something_to_the_more_important_one(void **state)
{
    static const struct {
        unsigned limit, sessions, streams;
    } cases[] = {
        {65535, 65511, 64999}, /* Fargate: 64 sessions of 1,000 streams */
        {4096, 4072, 3560},    {1024, 1000, 750}, {64, 40, 30}, {25, 1, 1}, {24, 0, 0}, {3, 0, 0}, {0, 0, 0},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(descriptors_allowed(cases[i].limit, DESCRIPTORS_FOR_CHANNELS), cases[i].limit);
        assert_int_equal(descriptors_allowed(cases[i].limit, DESCRIPTORS_FOR_SESSIONS), cases[i].sessions);
        assert_int_equal(descriptors_allowed(cases[i].limit, DESCRIPTORS_FOR_STREAMS), cases[i].streams);
    }
}

static int open_one(enum descriptors_use use)
{
    return descriptors_keep(open("/dev/null", O_RDONLY | O_CLOEXEC), use);
}

/* How many are open when no more can be opened for the use. */
static int fill(enum descriptors_use use)
{
    int last = -1, fd;
    while ((fd = open_one(use)) >= 0)
        last = fd;
    return errno == EMFILE ? last + 1 : -1;
}

static int fill_in_order(void)
{
    struct rlimit files = {.rlim_cur = 32, .rlim_max = 64};
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        return 1;
    int first = open_one(DESCRIPTORS_FOR_STREAMS);
    if (fill(DESCRIPTORS_FOR_STREAMS) != 32) /* no limit of ours before it is open */
        return 2;
    for (int fd = first; fd < 32; fd++)
        close(fd);
    descriptors_open();
    if (fill(DESCRIPTORS_FOR_STREAMS) != 30 || descriptors_are_free(DESCRIPTORS_FOR_STREAMS, 1))
        return 3;
    if (fill(DESCRIPTORS_FOR_SESSIONS) != 40 || descriptors_are_free(DESCRIPTORS_FOR_SESSIONS, 1))
        return 4;
    if (fill(DESCRIPTORS_FOR_CHANNELS) != 64 || descriptors_are_free(DESCRIPTORS_FOR_CHANNELS, 1))
        return 5;
    close(5); /* what is free is below all bounds */
    if (descriptors_are_free(DESCRIPTORS_FOR_STREAMS, 1) != true ||
        descriptors_are_free(DESCRIPTORS_FOR_STREAMS, 26) || open_one(DESCRIPTORS_FOR_STREAMS) != 5)
        return 6;
    return descriptors_for_lingering() == 30 / 8 ? 0 : 7;
}

static void the_table_is_full_for_the_least_important_first(void **state)
{
    int status = -1;
    (void) state;
    pid_t pid = fork();
    if (pid == 0)
        _exit(fill_in_order());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_use_leaves_something_to_the_more_important_one),
        cmocka_unit_test(the_table_is_full_for_the_least_important_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
