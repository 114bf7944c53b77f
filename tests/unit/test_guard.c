/* The tests' own tool: memory that ends where it says it ends. */
#include "lib/guard.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether reading one byte kills the process that does it. */
static int read_is_fatal(const volatile uint8_t *byte)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        /* The default action, also where a sanitizer handles the signal. */
        signal(SIGSEGV, SIG_DFL);
        (void) *byte;
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void last_byte_is_readable_and_the_next_is_not(void **state)
{
    static const size_t lengths[] = {1, 2, 4095, 4096, 4097, 70000};
    (void) state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint8_t *memory = guard_alloc(lengths[i]);
        memset(memory, 7, lengths[i]);
        assert_false(read_is_fatal(memory + lengths[i] - 1));
        assert_true(read_is_fatal(memory + lengths[i]));
        guard_free(memory, lengths[i]);
    }
}

static void no_bytes_means_none(void **state)
{
    uint8_t *memory = guard_copy(NULL, 0);
    (void) state;
    assert_true(read_is_fatal(memory));
    guard_free(memory, 0);
}

static void a_copy_holds_the_bytes(void **state)
{
    char *copy = guard_copy("stone", 5);
    (void) state;
    assert_memory_equal(copy, "stone", 5);
    guard_free(copy, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_byte_is_readable_and_the_next_is_not),
        cmocka_unit_test(no_bytes_means_none),
        cmocka_unit_test(a_copy_holds_the_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
