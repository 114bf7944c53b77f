#include "aws/login_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static void names_of_files(void **state)
{
    char name[LOGIN_CACHE_FILE_NAME_SIZE], same[LOGIN_CACHE_FILE_NAME_SIZE];
    (void) state;
    login_cache_name(STR_LITERAL("abc"), name);
    assert_string_equal(name, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.json");
    login_cache_name(STR_LITERAL(" abc\n"), same);
    assert_string_equal(same, name);
}

#define KEYS    "\"accessKeyId\":\"ASIA\",\"secretAccessKey\":\"s\""
#define EXPIRES "\"expiresAt\":\"2026-11-22T15:38:51Z\""

static void caches(void **state)
{
    static const int64_t EXPIRES_MS = 1795361931000;
    static const struct {
        const char *text;
        int64_t before_ms;
        int result;
        const char *words;
    } CASES[] = {
        {"{\"accessToken\":{" KEYS ",\"sessionToken\":\"t\"," EXPIRES "},\"dpopKey\":\"k\"}", 60000, 0, NULL},
        {"{\"accessToken\":{" KEYS ",\"sessionToken\":\"t\"," EXPIRES "}}", 0, ERROR_DENIED,
         "run `aws login`"},
        {"{\"accessToken\":{" KEYS "," EXPIRES "}}", 60000, ERROR_INVALID, "no sessionToken"},
        {"{\"accessToken\":{" KEYS ",\"sessionToken\":\"t\"}}", 60000, ERROR_INVALID, "no expiresAt"},
        {"{\"accessToken\":{" EXPIRES "}}", 60000, ERROR_INVALID, "no access key id"},
        {"{\"accessToken\":\"x\"}", 60000, ERROR_INVALID, "no access key id"},
        {"", 60000, ERROR_INVALID, ""},
    };
    (void) state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct credentials keys;
        struct error err = ERROR_INIT;
        size_t len = strlen(CASES[i].text);
        char *text = guard_copy(CASES[i].text, len);
        int64_t now_ms = EXPIRES_MS - CASES[i].before_ms;
        assert_int_equal(login_cache_read(&keys, (struct str){text, len}, now_ms, &err), CASES[i].result);
        assert_string_equal(keys.access_key_id, CASES[i].result == 0 ? "ASIA" : "");
        if (CASES[i].words != NULL)
            assert_non_null(strstr(err.text, CASES[i].words));
        guard_free(text, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_files),
        cmocka_unit_test(caches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
