#include "base/env.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char *const env[] = {
    (char[]){"REGION=eu-west-1"}, (char[]){"EMPTY="},      (char[]){"REGION=us-east-1"},
    (char[]){"REGIONAL=x"},       (char[]){"no_equals"},   (char[]){"YES=TRUE"},
    (char[]){"NO=false"},         (char[]){"MAYBE=maybe"}, NULL};

static void looks_variables_up(void **state)
{
    (void) state;
    assert_true(str_equal_text(env_get(env, "REGION"), "eu-west-1")); /* the first of that name */
    assert_int_equal(env_get(env, "REG").len, 0);
    assert_int_equal(env_get(env, "EMPTY").len, 0);
    assert_int_equal(env_get(env, "no_equals").len, 0);
    assert_int_equal(env_get(NULL, "REGION").len, 0);
}

static void takes_the_first_that_is_set(void **state)
{
    const char *found = "";
    (void) state;
    assert_true(str_equal_text(
        env_get_first(env, (const char *const[]){"EMPTY", "REGIONAL", "REGION", NULL}, &found), "x"));
    assert_string_equal(found, "REGIONAL");
    assert_int_equal(env_get_first(env, (const char *const[]){"EMPTY", "OTHER", NULL}, &found).len, 0);
    assert_null(found);
}

static void reads_switches(void **state)
{
    struct error err = ERROR_INIT;
    bool flag = false;
    (void) state;
    assert_int_equal(env_get_bool(env, "YES", &flag, &err), 0);
    assert_true(flag);
    assert_int_equal(env_get_bool(env, "NO", &flag, &err), 0);
    assert_false(flag);
    flag = true;
    assert_int_equal(env_get_bool(env, "EMPTY", &flag, &err), 0);
    assert_false(flag);
    assert_int_equal(env_get_bool(env, "MAYBE", &flag, &err), ERROR_INVALID);
    assert_string_equal(err.text, "MAYBE=maybe: must be true or false");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(looks_variables_up),
        cmocka_unit_test(takes_the_first_that_is_set),
        cmocka_unit_test(reads_switches),
    };
    return cmocka_run_group_tests_name("env", tests, NULL, NULL);
}
