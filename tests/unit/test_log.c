#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/log.h"

static const int64_t AT = 1700204988123; /* 2023-11-17T07:09:48.123Z */

static struct log_settings text_settings = {LOG_FORMAT_TEXT, LOG_INFO, false, "fumidai", "1.2.3"};
static struct log_settings json_settings = {LOG_FORMAT_JSON, LOG_INFO, false, "fumidai", "1.2.3"};

static const char *render(const struct log_settings *settings, int level, const char *message,
                          const struct log_attribute *attributes, size_t count)
{
    static char line[LOG_LINE_MAX + 1];
    size_t len = log_render(line, settings, AT, level, message, attributes, count);
    assert_true(len <= LOG_LINE_MAX);
    assert_int_equal(line[len - 1], '\n');
    line[len - 1] = '\0';
    assert_int_equal(strlen(line), len - 1);
    assert_null(strchr(line, '\n'));
    return line;
}

static void levels_have_slogs_names(void **state)
{
    (void) state;
    static const struct {
        int level;
        const char *name;
    } cases[] = {{-6, "DEBUG-2"}, {-4, "DEBUG"}, {-3, "DEBUG+1"}, {-1, "DEBUG+3"},
                 {0, "INFO"},     {1, "INFO+1"}, {3, "INFO+3"},   {4, "WARN"},
                 {7, "WARN+3"},   {8, "ERROR"},  {12, "ERROR+4"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char name[16];
        struct writer w = writer_of(name, sizeof name);
        writer_log_level(&w, cases[i].level);
        assert_string_equal(writer_terminate(&w), cases[i].name);
    }
}

static const struct log_attribute every_type[] = {
    LOG_STR("session", STR_LITERAL("user-0a1b")),
    LOG_I64("bytes", INT64_MIN),
    LOG_BOOL("relay", true),
    LOG_DURATION_MS("idle", 900000),
    LOG_TIME_MS("ends", 1700204988123),
    LOG_STR("none", STR_LITERAL("")),
};
enum { EVERY_TYPE_COUNT = sizeof every_type / sizeof every_type[0] };

static void text_lines_look_like_slogs(void **state)
{
    (void) state;
    assert_string_equal(
        render(&text_settings, LOG_WARN, "session started", every_type, EVERY_TYPE_COUNT),
        "time=2023-11-17T07:09:48.123Z level=WARN msg=\"session started\" app=fumidai version=1.2.3 "
        "session=user-0a1b bytes=-9223372036854775808 relay=true idle=15m0s ends=2023-11-17T07:09:48.123Z "
        "none=\"\"");
}

static void json_lines_look_like_slogs(void **state)
{
    (void) state;
    assert_string_equal(
        render(&json_settings, LOG_INFO + 1, "session started", every_type, EVERY_TYPE_COUNT),
        "{\"time\":\"2023-11-17T07:09:48.123Z\",\"level\":\"INFO+1\",\"msg\":\"session started\","
        "\"app\":\"fumidai\",\"version\":\"1.2.3\",\"session\":\"user-0a1b\","
        "\"bytes\":-9223372036854775808,\"relay\":true,\"idle\":\"15m0s\","
        "\"ends\":\"2023-11-17T07:09:48.123Z\",\"none\":\"\"}");
}

/* What Go 1.21's slog.TextHandler prints for these values. */
static void text_values_are_quoted_as_slog_does(void **state)
{
    (void) state;
    static const struct {
        const char *value;
        const char *printed;
    } cases[] = {
        {"plain", "plain"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"x\"", "\"say \\\"x\\\"\""},
        {"back\\slash", "back\\slash"},
        {"back\\slash blank", "\"back\\\\slash blank\""},
        {"line\nfeed", "\"line\\nfeed\""},
        {"\a\b\t\v\f\r", "\"\\a\\b\\t\\v\\f\\r\""},
        {"\x1b[31mred", "\"\\x1b[31mred\""},
        {"\x7f", "\"\\x7f\""},
        {"\xe8\xb8\x8f\xe3\x81\xbf\xe5\x8f\xb0", "\xe8\xb8\x8f\xe3\x81\xbf\xe5\x8f\xb0"}, /* 踏み台 */
        {"\xff", "\"\\xff\""},
        {"\xc0\xaf", "\"\\xc0\\xaf\""},          /* overlong */
        {"\xed\xa0\x80", "\"\\xed\\xa0\\x80\""}, /* a surrogate */
        {"cut \xe8\xb8", "\"cut \\xe8\\xb8\""},
        {"/a/path:1,2", "/a/path:1,2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct log_attribute attribute = LOG_TEXT("v", cases[i].value);
        const char *line = render(&text_settings, LOG_INFO, "m", &attribute, 1);
        assert_string_equal(strstr(line, " v=") + 3, cases[i].printed);
    }
}

static void colour_is_on_the_level_only(void **state)
{
    (void) state;
    struct log_settings settings = text_settings;
    settings.colour = true;
    assert_string_equal(
        render(&settings, LOG_ERROR, "m", NULL, 0),
        "time=2023-11-17T07:09:48.123Z level=\x1b[31mERROR\x1b[0m msg=m app=fumidai version=1.2.3");
}

static void a_value_that_is_too_long_is_cut_with_a_mark(void **state)
{
    (void) state;
    char value[LOG_VALUE_MAX + 2];
    memset(value, 'x', sizeof value);
    for (size_t len = LOG_VALUE_MAX; len <= LOG_VALUE_MAX + 1; len++) {
        struct log_attribute attributes[] = {LOG_STR("v", ((struct str){value, len})), LOG_I64("after", 1)};
        const char *line = render(&text_settings, LOG_INFO, "m", attributes, 2);
        bool cut = len > LOG_VALUE_MAX;
        assert_int_equal(strstr(line, cut ? "xxx... after=1" : "xxx after=1") != NULL, 1);
    }
}

static void a_line_that_is_too_long_stays_well_formed(void **state)
{
    (void) state;
    /* Controls grow sixfold in JSON, fourfold in text. */
    char value[LOG_VALUE_MAX];
    memset(value, '\x01', sizeof value);
    for (size_t len = 0; len <= sizeof value; len++) {
        struct log_attribute attributes[] = {LOG_STR("a", ((struct str){value, len})),
                                             LOG_STR("b", ((struct str){value, len / 2})), LOG_I64("c", 7)};
        const char *json = render(&json_settings, LOG_INFO, "m", attributes, 3);
        bool json_cut = strstr(json, ",\"cut\":true}") != NULL;
        assert_true(json_cut || strstr(json, ",\"c\":7}") != NULL);
        assert_true(json_cut || len < 500);
        const char *text = render(&text_settings, LOG_INFO, "m", attributes, 3);
        bool text_cut = strcmp(text + strlen(text) - 9, " cut=true") == 0;
        assert_true(text_cut || strcmp(text + strlen(text) - 4, " c=7") == 0);
        assert_true(text_cut || len < 700);
    }
}

/* --- limits --------------------------------------------------------------------------------------------- */

static size_t admitted(struct log_limiter *limiter, const char *message, size_t lines, int64_t now_ms)
{
    size_t count = 0;
    for (size_t i = 0; i < lines; i++)
        count += log_limiter_admits(limiter, LOG_INFO, message, now_ms);
    return count;
}

static void a_flood_is_limited_and_counted(void **state)
{
    static const char flood[] = "stream closed", other[] = "control channel is down";
    struct log_limiter limiter = {0};
    struct log_limit report;
    int64_t now_ms = 1000;
    (void) state;
    assert_int_equal(admitted(&limiter, flood, 3000, now_ms), LOG_BURST);
    assert_int_equal(admitted(&limiter, other, 1, now_ms), 1);
    assert_false(log_limiter_report(&limiter, now_ms + LOG_OMITTED_REPORT_MS - 1, &report));
    for (int second = 1; second <= 10; second++) {
        now_ms += 1000;
        assert_true(log_limiter_report(&limiter, now_ms, &report));
        assert_ptr_equal(report.message, flood);
        assert_int_equal(report.level, LOG_INFO);
        assert_int_equal(report.omitted, second == 1 ? 3000 - LOG_BURST : 3000 - LOG_LINES_PER_SECOND);
        assert_false(log_limiter_report(&limiter, now_ms, &report));
        assert_int_equal(admitted(&limiter, flood, 3000, now_ms), LOG_LINES_PER_SECOND);
        assert_int_equal(admitted(&limiter, other, 1, now_ms), 1);
    }
    now_ms += LOG_BURST * 1000 / LOG_LINES_PER_SECOND;
    assert_int_equal(admitted(&limiter, flood, 3000, now_ms), LOG_BURST);
}

static void what_comes_seldom_is_never_left_out(void **state)
{
    static const char messages[2 * LOG_LIMITS][2];
    struct log_limiter limiter = {0};
    struct log_limit report;
    (void) state;
    for (int64_t now_ms = 0; now_ms < 1000000; now_ms += 100)
        for (size_t i = 0; i < 2; i++)
            assert_true(log_limiter_admits(&limiter, LOG_WARN, messages[i], now_ms));
    /* More messages at once than there are places: none is lost for want of one. */
    for (size_t i = 0; i < 2 * LOG_LIMITS; i++)
        assert_int_equal(admitted(&limiter, messages[i], 10, 1000000), 10);
    assert_false(log_limiter_report(&limiter, 2000000, &report));
}

/* --- writing: each in a process of its own, because the log belongs to the process ---------------------- */

static int in_child(int stderr_fd, int (*body)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        signal(SIGPIPE, SIG_IGN);
        dup2(stderr_fd, STDERR_FILENO);
        close(stderr_fd);
        alarm(10);
        log_open(&text_settings);
        _exit(body());
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int log_until_full(void)
{
    for (int i = 0; i < 10000; i++)
        log_event(LOG_INFO, "a line that nobody reads", LOG_ALWAYS, LOG_I64("n", i));
    return fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK; /* the shared open file is left as it was */
}

static void a_pipe_that_nobody_reads_does_not_block(void **state)
{
    (void) state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(in_child(ends[1], log_until_full), 0);
    close(ends[0]);
    close(ends[1]);
}

static void a_socket_that_nobody_reads_does_not_block(void **state)
{
    (void) state;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(in_child(ends[1], log_until_full), 0);
    close(ends[0]);
    close(ends[1]);
}

static void a_reader_that_went_away_does_not_kill(void **state)
{
    (void) state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    assert_int_equal(in_child(ends[1], log_until_full), 0);
    close(ends[1]);
}

static int pipe_to_drain;

static int fill_drain_and_log(void)
{
    static char sink[1 << 20];
    log_until_full();
    fcntl(pipe_to_drain, F_SETFL, O_NONBLOCK);
    while (read(pipe_to_drain, sink, sizeof sink) > 0) {
    }
    log_event(LOG_INFO, "read again", LOG_END);
    ssize_t got = read(pipe_to_drain, sink, sizeof sink - 1);
    sink[got > 0 ? got : 0] = '\0';
    const char *report = strstr(sink, "msg=\"log lines were dropped: nobody read stderr\"");
    const char *lines = report != NULL ? strstr(report, " lines=") : NULL;
    const char *next = lines != NULL ? strstr(lines, "msg=\"read again\"") : NULL;
    return next != NULL && atoi(lines + strlen(" lines=")) > 1000 ? 0 : 1;
}

static void dropped_lines_are_counted_and_reported(void **state)
{
    (void) state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pipe_to_drain = ends[0];
    assert_int_equal(in_child(ends[1], fill_drain_and_log), 0);
    close(ends[0]);
    close(ends[1]);
}

static int log_some_levels(void)
{
    log_event(LOG_DEBUG, "hidden", LOG_END);
    log_event(LOG_INFO - 1, "hidden", LOG_END);
    log_event(LOG_INFO, "shown", LOG_END);
    log_event(LOG_ERROR, "shown", LOG_TEXT("k", "v"));
    return log_enabled(LOG_DEBUG) || !log_enabled(LOG_INFO);
}

static int log_a_flood(void)
{
    for (int i = 0; i < 3000; i++)
        log_event(LOG_INFO, "stream closed", LOG_I64("stream", i));
    log_event(LOG_INFO, "session ended", LOG_ALWAYS, LOG_I64("streams", 3000));
    usleep(1100 * 1000);
    log_event(LOG_INFO, "afterwards", LOG_END);
    return 0;
}

static void a_flood_leaves_its_number(void **state)
{
    static char got[1 << 20];
    FILE *file = tmpfile();
    (void) state;
    assert_non_null(file);
    assert_int_equal(in_child(dup(fileno(file)), log_a_flood), 0);
    rewind(file);
    size_t len = fread(got, 1, sizeof got - 1, file);
    fclose(file);
    got[len] = '\0';
    size_t closed = 0;
    for (const char *at = got; (at = strstr(at, "msg=\"stream closed\"")) != NULL; at++)
        closed++;
    assert_in_range(closed, LOG_BURST, LOG_BURST + 10);
    assert_non_null(strstr(got, "msg=\"session ended\" app=fumidai version=1.2.3 streams=3000\n"));
    char expected[128];
    snprintf(expected, sizeof expected,
             "left out\" app=fumidai version=1.2.3 message=\"stream closed\" lines=%zu\n", 3000 - closed);
    const char *report = strstr(got, expected);
    assert_non_null(report);
    assert_non_null(strstr(report, "msg=afterwards"));
}

static void levels_below_the_minimum_are_not_written(void **state)
{
    (void) state;
    char got[1024] = "";
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(in_child(dup(fileno(file)), log_some_levels), 0);
    rewind(file);
    size_t len = fread(got, 1, sizeof got - 1, file);
    fclose(file);
    got[len] = '\0';
    assert_null(strstr(got, "hidden"));
    char *second = strchr(got, '\n');
    assert_non_null(second);
    assert_non_null(strstr(got, "level=INFO msg=shown app=fumidai version=1.2.3\n"));
    assert_non_null(strstr(second, "level=ERROR msg=shown app=fumidai version=1.2.3 k=v\n"));
}

static void closed_standard_descriptors_are_occupied(void **state)
{
    (void) state;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(0);
        close(1);
        close(2);
        log_open(&text_settings);
        log_event(LOG_INFO, "into nothing", LOG_END);
        int fd = open("/dev/null", O_RDONLY);
        _exit(fd > STDERR_FILENO ? 0 : 1);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_have_slogs_names),
        cmocka_unit_test(text_lines_look_like_slogs),
        cmocka_unit_test(json_lines_look_like_slogs),
        cmocka_unit_test(text_values_are_quoted_as_slog_does),
        cmocka_unit_test(colour_is_on_the_level_only),
        cmocka_unit_test(a_value_that_is_too_long_is_cut_with_a_mark),
        cmocka_unit_test(a_line_that_is_too_long_stays_well_formed),
        cmocka_unit_test(a_pipe_that_nobody_reads_does_not_block),
        cmocka_unit_test(a_socket_that_nobody_reads_does_not_block),
        cmocka_unit_test(a_reader_that_went_away_does_not_kill),
        cmocka_unit_test(dropped_lines_are_counted_and_reported),
        cmocka_unit_test(a_flood_is_limited_and_counted),
        cmocka_unit_test(what_comes_seldom_is_never_left_out),
        cmocka_unit_test(a_flood_leaves_its_number),
        cmocka_unit_test(levels_below_the_minimum_are_not_written),
        cmocka_unit_test(closed_standard_descriptors_are_occupied),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
