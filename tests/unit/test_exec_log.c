#include "lifecycle/exec_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/splits.h"

enum { HOUR_MS = 3600000 };

static struct exec_log elog;

static void feed(const char *text, int64_t now_ms)
{
    exec_log_feed(&elog, str_from(text), false, now_ms);
}

static void feed_inherited(const char *text, int64_t now_ms)
{
    exec_log_feed(&elog, str_from(text), true, now_ms);
}

/* A line of session `id` saying `message`. */
static void feed_line(const char *id, const char *message, int64_t now_ms)
{
    char line[256];
    snprintf(line, sizeof line, "2026-11-22 10:00:00 INFO [ssm-session-worker] [%s] %s\n", id, message);
    feed(line, now_ms);
}

/* The list of processes, ids apart by blanks, as a keeper that can see the agent gives it. */
static void see_processes(const char *ids, bool trusted, int64_t now_ms)
{
    struct str list[8];
    struct str rest = str_from(ids);
    size_t count = 0;
    while (rest.len > 0)
        str_cut(rest, ' ', &list[count++], &rest);
    exec_log_processes(&elog, list, count, trusted, now_ms);
}

static void expect(uint32_t open, uint64_t total, int64_t last_activity_ms)
{
    struct exec_log_activity activity = exec_log_activity(&elog);
    assert_int_equal(activity.open_sessions, open);
    assert_int_equal(activity.total_sessions, total);
    assert_int_equal(activity.last_activity_ms, last_activity_ms);
}

static int start(void **state)
{
    (void) state;
    exec_log_init(&elog, 0);
    return 0;
}

/* ---- one line ---------- */

enum says { NOTHING, EXISTS, CLOSES };

static const struct {
    const char *line;
    enum says says;
} lines[] = {
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] Session worker closed", CLOSES},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] Session worker closed\r", CLOSES},
    {"2026-11-22 10:00:00 info [ssm-session-worker] [s-1] SESSION WORKER CLOSED", CLOSES},
    {"2026-11-22 10:00:00 Info [ssm-session-worker] [s-1] the session worker closed, all well", CLOSES},
    {"2026-11-22 10:00:00.123 INFO [ssm-session-worker] [s-1] Session worker closed", CLOSES},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] [DataBackend] [pluginName=Port] Session worker "
     "closed",
     CLOSES},
    {"what ever INFO [ssm-session-worker] [s-1] Session worker closed",
     CLOSES}, /* the date is not looked at */
    {"2026-11-22 10:00:00 DEBUG [ssm-session-worker] [s-1] Session worker closed", EXISTS},
    {"2026-11-22 10:00:00 ERROR [ssm-session-worker] [s-1] Session worker closed", EXISTS},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] Session worker close", EXISTS},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] [session worker closed] said it", EXISTS},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] [x] [session worker closed] said it", EXISTS},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] [session worker closed",
     CLOSES}, /* not a bracket */
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] [] session worker closed", CLOSES},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] ", EXISTS},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] \xff\xfe", EXISTS},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1]", NOTHING},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1]x message", NOTHING},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [] message", NOTHING},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] s-1 message", NOTHING},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker]  [s-1] message", NOTHING},
    {"2026-11-22 10:00:00  INFO [ssm-session-worker] [s-1] message", NOTHING},
    {" 2026-11-22 10:00:00 INFO [ssm-session-worker] [s-1] message", NOTHING},
    {"2026-11-22 10:00:00\tINFO [ssm-session-worker] [s-1] message", NOTHING},
    {"2026-11-22 10:00:00 INFO [ssm-session-worker] [s\t1] message", NOTHING},
    {"2026-11-22 10:00:00 INFO [ssm-agent-worker] [s-1] Session worker closed", NOTHING},
    {"2026-11-22 10:00:00 INFO [ssm-session-workers] [s-1] message", NOTHING},
    {"2026-11-22 10:00:00 INFO", NOTHING},
    {"", NOTHING},
};

static void test_lines(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        exec_log_init(&elog, 0);
        feed(lines[i].line, 5);
        feed("\n", 5);
        struct exec_log_activity activity = exec_log_activity(&elog);
        enum says says = activity.total_sessions == 0  ? NOTHING
                         : activity.open_sessions == 1 ? EXISTS
                                                       : CLOSES;
        if (says != lines[i].says)
            fail_msg("\"%s\" says %d instead of %d", lines[i].line, (int) says, (int) lines[i].says);
    }
}

static void test_lines_in_any_pieces(void **state)
{
    (void) state;
    static const char text[] = "2026-11-22 10:00:00 INFO [amazon-ssm-agent] hello\n"
                               "2026-11-22 10:00:00 INFO [ssm-session-worker] [a] hello\n"
                               "\n"
                               "2026-11-22 10:00:00 INFO [ssm-session-worker] [b] [x] hello\r\n"
                               "2026-11-22 10:00:01 INFO [ssm-session-worker] [a] [x] Session worker closed\n"
                               "2026-11-22 10:00:00 INFO [ssm-session-worker] [c] unfinis";
    struct splits s = splits_of(text, sizeof text - 1);
    const uint8_t *piece;
    size_t len;
    while (splits_next(&s)) {
        exec_log_init(&elog, 0);
        while (splits_piece(&s, &piece, &len))
            exec_log_feed(&elog, (struct str){(const char *) piece, len}, false, 7);
        expect(1, 2, 7);
    }
}

static void test_an_overlong_line_is_classified_by_its_beginning(void **state)
{
    (void) state;
    feed("2026-11-22 10:00:00 INFO [ssm-session-worker] [long] ", 1);
    for (int i = 0; i < 100; i++)
        feed("0123456789012345678901234567890123456789", 1);
    feed("Session worker closed\n", 1);
    expect(1, 1, 1);
    feed_line("next", "hello", 2); /* starts after the newline, not inside the long line */
    expect(2, 2, 2);
    feed_line("long", "Session worker closed", 3);
    expect(1, 2, 3);
}

static void test_ids_have_a_bound(void **state)
{
    (void) state;
    char id[EXEC_LOG_ID_MAX + 2];
    memset(id, 'x', sizeof id);
    id[EXEC_LOG_ID_MAX + 1] = '\0';
    feed_line(id, "hello", 1);
    see_processes(id, true, 1);
    expect(0, 0, INT64_MIN);
    id[EXEC_LOG_ID_MAX] = '\0';
    feed_line(id, "hello", 2);
    expect(1, 1, 2);
}

/* ---- the last line ---------- */

static void test_a_last_line_without_newline(void **state)
{
    (void) state;
    feed_line("a", "hello", 1000);
    feed("2026-11-22 10:00:00 INFO [ssm-session-worker] [a] Session worker closed", 2000);
    exec_log_tick(&elog, 3999);
    expect(1, 1, 1000);
    exec_log_tick(&elog, 4000);
    expect(0, 1, 4000);
    exec_log_tick(&elog, 9000); /* once */
    expect(0, 1, 4000);
    feed("\n", 9500); /* and not again with its newline */
    expect(0, 1, 4000);
}

static void test_a_quiet_piece_is_classified_again_whole(void **state)
{
    (void) state;
    feed("2026-11-22 10:00:00 INFO [ssm-session-worker] [a] Session wor", 0);
    exec_log_tick(&elog, 2000);
    expect(1, 1, 2000);
    feed("ker closed\n", 5000);
    expect(0, 1, 5000);
}

static void test_restart_ends_the_line(void **state)
{
    (void) state;
    feed_line("a", "hello", 1);
    feed("2026-11-22 10:00:00 INFO [ssm-session-worker] [a] Session worker closed", 2);
    exec_log_restart(&elog, 3);
    expect(0, 1, 3);
    feed("2026-11-22 10:00:00 INFO [ssm-sess", 4);
    exec_log_restart(&elog, 5);
    feed_line("b", "hello", 6); /* is not glued to what was before */
    expect(1, 2, 6);
}

/* ---- sessions by the log alone ---------- */

static void test_closed_is_closed(void **state)
{
    (void) state;
    feed_line("a", "hello", 1);
    feed_line("b", "Session worker closed", 2); /* its beginning was lost with a rotated file */
    expect(1, 2, 2);
    feed_line("a", "Session worker closed", 3);
    expect(0, 2, 3);
    feed_line("a", "one more word", 4); /* is activity, but opens nothing */
    expect(0, 2, 4);
}

static void test_what_was_there_before_does_not_count(void **state)
{
    (void) state;
    feed_inherited("2020-01-01 00:00:00 INFO [ssm-session-worker] [old] hello\n"
                   "2020-01-01 00:00:00 INFO [ssm-session-worker] [open] hello\n"
                   "2099-01-01 00:00:00 INFO [ssm-session-worker] [old] Session worker closed\n",
                   1);
    expect(0, 0, INT64_MIN);
    see_processes("open", true, 2); /* this one is alive */
    expect(1, 1, 2);
    see_processes("", true, 3);
    expect(0, 1, 3);
    feed_line("old", "a last word", 4);
    expect(0, 1, 3);
}

static void test_inherited_sessions_without_a_process_are_forgotten(void **state)
{
    (void) state;
    feed_inherited("2020-01-01 00:00:00 INFO [ssm-session-worker] [old] hello\n", 0);
    for (int64_t now_ms = 0; now_ms < 30000; now_ms += 1000) {
        see_processes("", true, now_ms);
        exec_log_tick(&elog, now_ms);
        expect(0, 0, INT64_MIN);
    }
    feed_line("old", "Session worker closed", 30000); /* an end whose beginning was not counted */
    expect(0, 0, INT64_MIN);
    feed_line("old", "not at all", 30001);
    expect(1, 1, 30001);
}

static void test_inherited_sessions_when_nobody_can_tell(void **state)
{
    (void) state;
    feed_inherited("2020-01-01 00:00:00 INFO [ssm-session-worker] [a] hello\n", 0);
    exec_log_tick(&elog, EXEC_LOG_PROCESS_GRACE_MS - 1);
    expect(0, 0, INT64_MIN);
    see_processes("", false, EXEC_LOG_PROCESS_GRACE_MS);
    exec_log_tick(&elog, EXEC_LOG_PROCESS_GRACE_MS);
    expect(1, 1, EXEC_LOG_PROCESS_GRACE_MS);
    feed_line("a", "Session worker closed", 20000);
    expect(0, 1, 20000);
}

static void test_a_line_begun_before_and_ended_now_is_new(void **state)
{
    (void) state;
    feed_inherited("2026-11-22 10:00:00 INFO [ssm-session-worker] [a] hel", 0);
    feed("lo\n", 100);
    expect(1, 1, 100);
}

/* ---- sessions by their processes ---------- */

static void test_a_process_is_a_session_without_any_log(void **state)
{
    (void) state;
    see_processes("a b", true, 10);
    expect(2, 2, 10);
    see_processes("b", true, 20);
    expect(1, 2, 20);
    see_processes("", true, 30);
    expect(0, 2, 30);
}

static void test_a_process_that_is_gone_ends_its_session(void **state)
{
    (void) state;
    feed_line("a", "hello", 0);
    see_processes("a", false, 500);
    see_processes("a", false, HOUR_MS);
    expect(1, 1, 0);
    see_processes("", false, HOUR_MS + 1000);
    expect(0, 1, HOUR_MS + 1000);
    feed_line("a", "a last word", HOUR_MS + 1500);
    expect(0, 1, HOUR_MS + 1500);
    feed_line("a", "Session worker closed", HOUR_MS + 1600);
    expect(0, 1, HOUR_MS + 1600);
}

static void test_a_new_session_gets_grace_for_its_process(void **state)
{
    (void) state;
    feed_line("a", "hello", 100);
    feed_line("a", "hello again", 1000);
    see_processes("", true, 1000 + EXEC_LOG_PROCESS_GRACE_MS - 1);
    expect(1, 1, 1000);
    see_processes("", true, 1000 + EXEC_LOG_PROCESS_GRACE_MS);
    expect(0, 1, 1000 + EXEC_LOG_PROCESS_GRACE_MS);
    feed_line("a", "slow, not gone", 50000);
    expect(1, 1, 50000);
    see_processes("a", true, 51000);
    see_processes("", true, 52000);
    expect(0, 1, 52000);
}

static void test_absence_means_nothing_when_no_process_can_be_seen(void **state)
{
    (void) state;
    feed_line("a", "hello", 0);
    see_processes("", false, HOUR_MS);
    expect(1, 1, 0);
    see_processes("b", false, HOUR_MS + 1); /* now one was seen: they can be */
    expect(1, 2, HOUR_MS + 1);
}

static void test_a_closing_line_wins_over_a_process_that_hangs(void **state)
{
    (void) state;
    see_processes("a", true, 0);
    feed_line("a", "Session worker closed", 10);
    expect(0, 1, 10);
    see_processes("a", true, 20);
    expect(0, 1, 10);
}

static void test_a_process_that_comes_back(void **state)
{
    (void) state;
    see_processes("a", true, 0);
    see_processes("", true, 10);
    expect(0, 1, 10);
    see_processes("a", true, 20);
    expect(1, 1, 20);
}

/* ---- the table ---------- */

static void test_the_table_makes_room(void **state)
{
    (void) state;
    char id[16];
    feed_line("stays", "hello", 0);
    for (int i = 0; i < 1000; i++) {
        snprintf(id, sizeof id, "s%d", i);
        feed_line(id, "hello", i + 1);
        feed_line(id, "Session worker closed", i + 1);
    }
    expect(1, 1001, 1000);
    for (int i = 1000 - EXEC_LOG_SESSIONS_MAX + 1; i < 1000; i++) {
        snprintf(id, sizeof id, "s%d", i);
        feed_line(id, "still known", 1001);
    }
    expect(1, 1001, 1001);
    feed_line("stays", "Session worker closed", 1002);
    expect(0, 1001, 1002);
}

static void test_a_table_full_of_open_sessions(void **state)
{
    (void) state;
    char id[16];
    for (int i = 0; i < EXEC_LOG_SESSIONS_MAX + 10; i++) {
        snprintf(id, sizeof id, "s%d", i);
        feed_line(id, "hello", i);
    }
    expect(EXEC_LOG_SESSIONS_MAX, EXEC_LOG_SESSIONS_MAX, EXEC_LOG_SESSIONS_MAX + 9);
    feed_line("s0", "Session worker closed", 1000);
    feed_line("s257", "has room now", 1001);
    expect(EXEC_LOG_SESSIONS_MAX, EXEC_LOG_SESSIONS_MAX + 1, 1001);
}

static void test_events(void **state)
{
    (void) state;
    struct exec_log_event event;
    assert_false(exec_log_next(&elog, &event));
    feed_line("a", "hello", 1000);
    feed_line("a", "Session worker closed", 3500);
    see_processes("a b", true, 4000); /* a's hangs about */
    see_processes("b", true, 4000);
    assert_true(exec_log_next(&elog, &event));
    assert_true(event.opened);
    assert_true(str_equal_text(event.session_id, "a"));
    assert_true(exec_log_next(&elog, &event));
    assert_false(event.opened);
    assert_int_equal(event.closed_by, EXEC_LOG_BY_LOG);
    assert_int_equal(event.alive_ms, 2500);
    assert_true(exec_log_next(&elog, &event));
    assert_true(event.opened);
    assert_true(str_equal_text(event.session_id, "b"));
    assert_false(exec_log_next(&elog, &event));
    see_processes("", true, 9000);
    assert_true(exec_log_next(&elog, &event));
    assert_int_equal(event.closed_by, EXEC_LOG_BY_PROCESS);
    assert_int_equal(event.alive_ms, 5000);
    feed_line("c", "hello", 10000);
    see_processes("", true, 30000);
    while (exec_log_next(&elog, &event)) {
    }
    assert_true(str_equal_text(event.session_id, "c"));
    feed_line("c", "Session worker closed", 30001); /* said twice is told once */
    assert_false(exec_log_next(&elog, &event));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_lines, start),
        cmocka_unit_test_setup(test_lines_in_any_pieces, start),
        cmocka_unit_test_setup(test_an_overlong_line_is_classified_by_its_beginning, start),
        cmocka_unit_test_setup(test_ids_have_a_bound, start),
        cmocka_unit_test_setup(test_a_last_line_without_newline, start),
        cmocka_unit_test_setup(test_a_quiet_piece_is_classified_again_whole, start),
        cmocka_unit_test_setup(test_restart_ends_the_line, start),
        cmocka_unit_test_setup(test_closed_is_closed, start),
        cmocka_unit_test_setup(test_what_was_there_before_does_not_count, start),
        cmocka_unit_test_setup(test_inherited_sessions_without_a_process_are_forgotten, start),
        cmocka_unit_test_setup(test_inherited_sessions_when_nobody_can_tell, start),
        cmocka_unit_test_setup(test_a_line_begun_before_and_ended_now_is_new, start),
        cmocka_unit_test_setup(test_a_process_is_a_session_without_any_log, start),
        cmocka_unit_test_setup(test_a_process_that_is_gone_ends_its_session, start),
        cmocka_unit_test_setup(test_a_new_session_gets_grace_for_its_process, start),
        cmocka_unit_test_setup(test_absence_means_nothing_when_no_process_can_be_seen, start),
        cmocka_unit_test_setup(test_a_closing_line_wins_over_a_process_that_hangs, start),
        cmocka_unit_test_setup(test_a_process_that_comes_back, start),
        cmocka_unit_test_setup(test_the_table_makes_room, start),
        cmocka_unit_test_setup(test_a_table_full_of_open_sessions, start),
        cmocka_unit_test_setup(test_events, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
