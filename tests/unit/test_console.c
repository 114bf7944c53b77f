#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/console.h"

static void test_a_message(void **state)
{
    (void) state;
    int ends[2];
    char got[2048];
    assert_int_equal(pipe(ends), 0);
    assert_true(console_format(ends[1], "fumidai %s: %d\n", "x", 7));
    assert_int_equal(read(ends[0], got, sizeof got), 13);
    assert_memory_equal(got, "fumidai x: 7\n", 13);
    assert_true(console_format(ends[1], "%02000u", 1U));
    assert_int_equal(read(ends[0], got, sizeof got), 1023); /* cut */
    close(ends[0]);
    close(ends[1]);
}

/* More than a pipe holds, to a reader that starts late, through a descriptor that would rather not wait. */
static void test_all_of_a_long_text(void **state)
{
    (void) state;
    static char text[200000];
    int ends[2];
    memset(text, 'x', sizeof text);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    pid_t reader = fork();
    assert_true(reader >= 0);
    if (reader == 0) {
        size_t total = 0;
        ssize_t got;
        close(ends[1]);
        usleep(20000);
        while ((got = read(ends[0], text, sizeof text)) > 0)
            total += (size_t) got;
        _exit(total == sizeof text ? 0 : 1);
    }
    close(ends[0]);
    assert_true(console_write(ends[1], (struct str){text, sizeof text}));
    close(ends[1]);
    int status = -1;
    assert_int_equal(waitpid(reader, &status, 0), reader);
    assert_int_equal(status, 0);
}

static void test_nobody_reads(void **state)
{
    (void) state;
    int ends[2];
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    assert_false(console_write(ends[1], str_from("lost")));
    assert_true(console_write(ends[1], str_from("")));
    close(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_message),
        cmocka_unit_test(test_all_of_a_long_text),
        cmocka_unit_test(test_nobody_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
