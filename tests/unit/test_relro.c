#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/relro.h"

/* Pointers, so they are relocated at start; constant, so they are read-only from then on. With glibc the
 * loader has seen to that; `make unit-product` is where it is relro_protect's doing. */
__attribute__((used)) static const char *const relocated[] = {"one", "two"};

static void test_relocated_constants_cannot_be_written(void **state)
{
    (void) state;
    struct error err = ERROR_INIT;
    assert_int_equal(relro_protect(&err), 0);
    assert_int_equal(relro_protect(&err), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGSEGV, SIG_DFL); /* cmocka's handler would go on with the next test */
        *(const char *volatile *) (uintptr_t) &relocated[1] = NULL;
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    assert_string_equal(relocated[1], "two");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relocated_constants_cannot_be_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
