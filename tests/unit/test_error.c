#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"

static void sets_code_and_text(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(err.code, ERROR_NONE);
    assert_string_equal(err.text, "");
    assert_int_equal(error_set(&err, ERROR_DENIED, "%s said %d", "ECS", 403), ERROR_DENIED);
    assert_int_equal(err.code, ERROR_DENIED);
    assert_string_equal(err.text, "ECS said 403");
    assert_int_equal(error_set(&err, ERROR_TIMEOUT, "again"), ERROR_TIMEOUT);
    assert_string_equal(err.text, "again");
    assert_int_equal(error_set(&err, ERROR_NONE, "nothing"), ERROR_NONE);
    assert_string_equal(err.text, "");
}

static void layers_put_words_in_front(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(error_prefix(&err, "StopTask: "), ERROR_NONE);
    assert_string_equal(err.text, "");
    error_set(&err, ERROR_CLOSED, "the peer closed");
    assert_int_equal(error_prefix(&err, "%s: ", "StopTask"), ERROR_CLOSED);
    assert_int_equal(error_prefix(&err, "at the end: "), ERROR_CLOSED);
    assert_string_equal(err.text, "at the end: StopTask: the peer closed");
    error_set(&err, ERROR_CLOSED, "b"); /* nothing of longer texts shows */
    error_prefix(&err, "a");
    assert_string_equal(err.text, "ab");
}

static void null_pointers_still_give_a_code(void **state)
{
    (void) state;
    assert_int_equal(error_set(NULL, ERROR_CLOSED, "unheard"), ERROR_CLOSED);
    assert_true(error_prefix(NULL, "unheard: ") < 0);
    assert_int_equal(error_may_pass(NULL), 0);
}

static void the_old_text_may_be_an_argument(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    error_set(&err, ERROR_INVALID, "inner");
    error_set(&err, ERROR_DENIED, "outer (%s), twice (%s)", err.text, err.text);
    assert_string_equal(err.text, "outer (inner), twice (inner)");
    error_prefix(&err, "<%s> ", err.text);
    assert_string_equal(err.text, "<outer (inner), twice (inner)> outer (inner), twice (inner)");
}

static void control_characters_become_question_marks(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    error_set(&err, ERROR_INVALID, "a\r\nb\tc\x1B[0m\x7F\xC3\xA9");
    assert_string_equal(err.text, "a??b?c?[0m?\xC3\xA9");
    error_prefix(&err, "x\ny: ");
    assert_string_equal(err.text, "x?y: a??b?c?[0m?\xC3\xA9");
}

/* Lengths around the bound, set at once and with a prefix of every length. */
static void long_texts_are_cut_with_a_mark(void **state)
{
    char text[ERROR_TEXT_SIZE + 10];
    (void) state;
    for (size_t len = ERROR_TEXT_SIZE - 10; len < sizeof text; len++) {
        memset(text, 'x', len);
        text[len] = '\0';
        bool fits = len < ERROR_TEXT_SIZE;
        for (size_t prefix = 0; prefix <= len; prefix++) {
            struct error err = ERROR_INIT;
            error_set(&err, ERROR_INVALID, "%s", text + prefix);
            error_prefix(&err, "%.*s", (int) prefix, text);
            assert_int_equal(strlen(err.text), fits ? len : ERROR_TEXT_SIZE - 1);
            assert_int_equal(str_ends_with(str_from(err.text), "x..."), !fits);
        }
    }
}

static void a_cut_leaves_no_half_character(void **state)
{
    char text[ERROR_TEXT_SIZE + 10];
    (void) state;
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', sizeof text);
        for (size_t i = shift; i + 3 < sizeof text; i += 3)
            memcpy(text + i, "\xE2\x82\xAC", 3);
        text[sizeof text - 1] = '\0';
        struct error err = ERROR_INIT;
        error_set(&err, ERROR_INVALID, "%s", text);
        size_t len = strlen(err.text);
        assert_true(len >= ERROR_TEXT_SIZE - 3 && len < ERROR_TEXT_SIZE);
        assert_string_equal(err.text + len - 3, "...");
        assert_int_equal((len - 3 - shift) % 3, 0); /* whole characters only before the mark */
    }
}

static const struct {
    enum error_code code;
    int may_pass;
} passing[] = {
    {ERROR_NONE, 0},   {ERROR_INVALID, 0},   {ERROR_TOO_LARGE, 0},   {ERROR_UNSUPPORTED, 0},
    {ERROR_DENIED, 0}, {ERROR_NOT_FOUND, 0}, {ERROR_TIMEOUT, 1},     {ERROR_CLOSED, 1},
    {ERROR_SYSTEM, 1}, {ERROR_THROTTLED, 1}, {ERROR_UNAVAILABLE, 1},
};

static void knows_what_may_pass(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof passing / sizeof passing[0]; i++) {
        struct error err = ERROR_INIT;
        error_set(&err, passing[i].code, "x");
        assert_int_equal(error_may_pass(&err), passing[i].may_pass);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_code_and_text),
        cmocka_unit_test(layers_put_words_in_front),
        cmocka_unit_test(null_pointers_still_give_a_code),
        cmocka_unit_test(the_old_text_may_be_an_argument),
        cmocka_unit_test(control_characters_become_question_marks),
        cmocka_unit_test(long_texts_are_cut_with_a_mark),
        cmocka_unit_test(a_cut_leaves_no_half_character),
        cmocka_unit_test(knows_what_may_pass),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
