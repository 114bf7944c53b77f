#include "client/environment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "host/files.h"
#include "lib/guard.h"
#include "lib/text_file.h"

static struct local_forward port(const char *text, uint16_t found)
{
    struct local_forward forward;
    assert_int_equal(local_forward_parse_port(&forward, str_from(text), NULL), 0);
    if (forward.port == 0)
        forward.port = found;
    return forward;
}

static const char *lines(const struct local_forward *forwards, size_t count, enum forward_database database)
{
    static char memory[ENVIRONMENT_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    assert_int_equal(environment_write(&out, forwards, count, database, NULL), 0);
    return writer_terminate(&out);
}

static void every_port_is_told_and_the_first_for_one_target_counts(void **state)
{
    struct local_forward forwards[5] = {port("0:a:5439", 1001), port("0.0.0.0:1002:b:5439", 0),
                                        port("[::]:1003:c:80", 0), port("10.0.0.1:1004:d:81", 0)};
    (void) state;
    assert_int_equal(local_forward_parse_socks(&forwards[4], str_from("1080"), NULL), 0);
    assert_string_equal(lines(forwards, 5, FORWARD_DATABASE_NONE),
                        "FUMIDAI_SOCKS=127.0.0.1:1080\n"
                        "FUMIDAI_PORT_81=1004\nFUMIDAI_ADDR_81=10.0.0.1:1004\n"
                        "FUMIDAI_PORT_80=1003\nFUMIDAI_ADDR_80=[::1]:1003\n"
                        "FUMIDAI_PORT_5439=1002\nFUMIDAI_ADDR_5439=127.0.0.1:1002\n"
                        "FUMIDAI_PORT_5439=1001\nFUMIDAI_ADDR_5439=127.0.0.1:1001\n");
    environment_set(str_from(lines(forwards, 5, FORWARD_DATABASE_NONE)));
    assert_string_equal(getenv("FUMIDAI_PORT_5439"), "1001");
    assert_string_equal(getenv("FUMIDAI_ADDR_80"), "[::1]:1003");
}

#define PORT_LINES "FUMIDAI_PORT_5439=40123\nFUMIDAI_ADDR_5439=127.0.0.1:40123\n"

static void clients_of_databases_find_the_first_forward(void **state)
{
    struct local_forward tcp[2] = {port("0:warehouse.internal:5439", 40123), port("/x/y:b:1", 0)};
    struct local_forward socket[1] = {port("/run/x/.s.PGSQL.5432:db:5432", 0)};
    struct local_forward root[1] = {port("/.s.PGSQL.1:db:5432", 0)};
    (void) state;
    assert_string_equal(lines(tcp, 2, FORWARD_DATABASE_PG),
                        PORT_LINES "PGHOST=warehouse.internal\nPGPORT=40123\nPGHOSTADDR=127.0.0.1\n");
    assert_string_equal(lines(tcp, 2, FORWARD_DATABASE_MYSQL),
                        PORT_LINES "MYSQL_TCP_PORT=40123\nMYSQL_HOST=127.0.0.1\n");
    assert_string_equal(lines(tcp, 2, FORWARD_DATABASE_REDSHIFT),
                        PORT_LINES "PGHOST=warehouse.internal\nPGPORT=40123\nPGHOSTADDR=127.0.0.1\n"
                                   "REDSHIFT_PORT=40123\nREDSHIFT_HOST=127.0.0.1\n");
    assert_string_equal(lines(socket, 1, FORWARD_DATABASE_PG), "PGHOST=/run/x\nPGHOSTADDR=\nPGPORT=5432\n");
    assert_string_equal(lines(root, 1, FORWARD_DATABASE_PG), "PGHOST=/\nPGHOSTADDR=\nPGPORT=1\n");
    assert_string_equal(lines(socket, 1, FORWARD_DATABASE_MYSQL),
                        "MYSQL_HOST=localhost\nMYSQL_UNIX_PORT=/run/x/.s.PGSQL.5432\n");
}

static void what_libpq_would_not_find_is_refused(void **state)
{
    static const char *const paths[] = {"./.s.PGSQL.5432:db:5432", "/x/.s.PGSQL.:db:5432", "/x/db:db:5432",
                                        "/x/.s.PGSQL.70000:db:5432"};
    char memory[ENVIRONMENT_SIZE];
    (void) state;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct writer out = writer_of(memory, sizeof memory);
        struct error err = ERROR_INIT;
        struct local_forward forward = port(paths[i], 0);
        assert_int_equal(environment_write(&out, &forward, 1, FORWARD_DATABASE_PG, &err), ERROR_INVALID);
        assert_non_null(strstr(err.text, "libpq finds a Unix socket only by an absolute path"));
    }
    struct writer out = writer_of(memory, sizeof memory);
    struct error err = ERROR_INIT;
    assert_int_equal(environment_write(&out, NULL, 0, FORWARD_DATABASE_PG, &err), ERROR_INVALID);
    assert_string_equal(err.text, "--env is about the first -L, and there is none");
}

static void the_longest_fit(void **state)
{
    struct local_forward forwards[66];
    (void) state;
    for (size_t i = 0; i < 66; i++) {
        forwards[i] = port("[fd00:1111:2222:3333:4444:5555:6666:7777]:65535:h:65535", 0);
        memset(forwards[i].host, 'h', sizeof forwards[i].host - 1);
    }
    char *memory = guard_alloc(ENVIRONMENT_SIZE);
    struct writer out = writer_of(memory, ENVIRONMENT_SIZE);
    assert_int_equal(environment_write(&out, forwards, 66, FORWARD_DATABASE_REDSHIFT, NULL), 0);
    assert_false(out.failed);
    environment_set(writer_view(&out));
    assert_string_equal(getenv("PGHOST"), forwards[0].host);
    guard_free(memory, ENVIRONMENT_SIZE);
}

static void lines_are_appended_to_a_file_that_is_there(void **state)
{
    char path[TEXT_FILE_PATH_SIZE], memory[64];
    struct error err = ERROR_INIT;
    struct str text;
    (void) state;
    text_file_make(path, "A=1\n");
    assert_int_equal(environment_append(path, STR_LITERAL("B=2\n"), NULL), 0);
    assert_int_equal(files_read(path, memory, sizeof memory, &text, NULL), 0);
    assert_true(str_equal_text(text, "A=1\nB=2\n"));
    text_file_remove(path);
    assert_int_equal(environment_append("/nowhere/env", text, &err), ERROR_SYSTEM);
    assert_string_equal(err.text,
                        "can't append to GITHUB_ENV's file /nowhere/env: No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_port_is_told_and_the_first_for_one_target_counts),
        cmocka_unit_test(clients_of_databases_find_the_first_forward),
        cmocka_unit_test(what_libpq_would_not_find_is_refused),
        cmocka_unit_test(the_longest_fit),
        cmocka_unit_test(lines_are_appended_to_a_file_that_is_there),
    };
    return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
