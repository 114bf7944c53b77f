#include "host/prompt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- in a process of its own, with or without a terminal ----------------------------------------------- */

enum { ANSWERED = 0, FAILED = 10, NOT_OPENED = 20, OTHER_LINE = 30 };

static const char *expected;
static int outcome;
static struct loop loop;

static void answered(struct prompt *prompt, struct str line, struct error *err)
{
    outcome = err->code != ERROR_NONE ? FAILED : str_equal_text(line, expected) ? ANSWERED : OTHER_LINE;
    prompt_close(prompt);
    loop_stop(&loop);
}

static _Noreturn void ask(void)
{
    struct prompt prompt = PROMPT_INIT;
    struct error err = ERROR_INIT;
    if (loop_open(&loop, NULL) != 0)
        _exit(1);
    if (prompt_open(&prompt, &loop, STR_LITERAL("code? "), answered, &err) != 0)
        _exit(strstr(err.text, "there is no terminal") != NULL ? NOT_OPENED : 1);
    loop_run(&loop, NULL);
    _exit(outcome);
}

static int end_of(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int ask_and_type(const char *typed, const char *line)
{
    char shown[64];
    int terminal;
    expected = line;
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    assert_true(pid >= 0);
    if (pid == 0)
        ask();
    assert_int_equal(read(terminal, shown, sizeof shown), 6);
    assert_memory_equal(shown, "code? ", 6);
    assert_int_equal(write(terminal, typed, strlen(typed)), strlen(typed));
    int result = end_of(pid);
    close(terminal);
    return result;
}

/* ---- the tests ----------------------------------------------------------------------------------------- */

static void a_line_is_the_answer(void **state)
{
    (void) state;
    assert_int_equal(ask_and_type("123456\n", "123456"), ANSWERED);
    assert_int_equal(ask_and_type(" 123456 \n", "123456"), ANSWERED);
    assert_int_equal(ask_and_type("\n", ""), ANSWERED);
}

static void the_end_of_input_is_not_an_answer(void **state)
{
    (void) state;
    assert_int_equal(ask_and_type("\x04", ""), FAILED);
}

static void an_answer_has_a_limit(void **state)
{
    char typed[PROMPT_TEXT_SIZE + 2];
    (void) state;
    memset(typed, '1', sizeof typed);
    typed[sizeof typed - 2] = '\n';
    typed[sizeof typed - 1] = '\0';
    assert_int_equal(ask_and_type(typed, ""), FAILED);
}

static void without_a_terminal_nobody_is_asked(void **state)
{
    (void) state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setsid();
        ask();
    }
    assert_int_equal(end_of(pid), NOT_OPENED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_is_the_answer),
        cmocka_unit_test(the_end_of_input_is_not_an_answer),
        cmocka_unit_test(an_answer_has_a_limit),
        cmocka_unit_test(without_a_terminal_nobody_is_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
