#include "base/time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

/* Calls a parser on a copy that ends at an unmapped page. */
static bool parse_guarded(bool (*parse)(struct str, int64_t *), const char *text, int64_t *value)
{
    size_t len = strlen(text);
    char *copy = guard_copy(text, len);
    bool parsed = parse((struct str){copy, len}, value);
    guard_free(copy, len);
    return parsed;
}

#define US INT64_C(1000)
#define MS (1000 * US)
#define S  (1000 * MS)
#define M  (60 * S)
#define H  (60 * M)

/* What Go's time.ParseDuration says to each. */
static const struct {
    const char *text;
    int64_t ns;
} durations[] = {
    {"0", 0},
    {"+0", 0},
    {"-0", 0},
    {"0s", 0},
    {"00015m", 15 * M},
    {"15m", 15 * M},
    {"1h30m0s", H + 30 * M},
    {"30m1h", H + 30 * M},
    {"1m1m", 2 * M},
    {"1.5h", H + 30 * M},
    {"1.h", H},
    {".5s", 500 * MS},
    {"-.5s", -500 * MS},
    {"+2.25m", 2 * M + 15 * S},
    {"300ms", 300 * MS},
    {"7ns", 7},
    {"7us", 7 * US},
    {"7\xC2\xB5s", 7 * US},
    {"7\xCE\xBCs", 7 * US},
    {"0.9ns", 0},
    {"1.0000000001s", S},
    {"0.3333333333333333333h", 20 * M},
    {"0.10000000000000000000000001h", 6 * M},
    {"0.00000000000000000000001h", 0},
    {"2562047h47m16.854775807s", INT64_MAX},
    {"9223372036854775807ns", INT64_MAX},
    {"-9223372036854775808ns", INT64_MIN},
    {"-9223372036.854775808s", INT64_MIN},
    {"9007199254740993ns", 9007199254740993}, /* no float holds it */
};

static const char *const not_durations[] = {
    "",
    "-",
    "+",
    "s",
    ".",
    ".s",
    "-.s",
    "1",
    "15",
    "1x",
    "1S",
    "1 s",
    " 1s",
    "1s ",
    "1h-30m",
    "--1s",
    "+-1s",
    "1d",
    "1s1",
    "1e3s",
    "0x1s",
    "1..5s",
    "1.5.5s",
    "1\xB5s",
    "1\xC2s",
    "1sec",
    "00",
    "9223372036854775808ns",
    "-9223372036854775809ns",
    "2562048h",
    "2000000h2000000h",
    "-2000000h2000000h",
    "2562047.9h",
    "-9223372036854775807ns2ns",
    "9223372036854775807ns1ns",
    "99999999999999999999h",
    "18446744073709551616ns",
    "9223372036854775807h",
    "3000000h3000000h",
};

static void parses_durations_as_go_does(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
        int64_t ns = 77;
        if (!parse_guarded(duration_parse, durations[i].text, &ns) || ns != durations[i].ns)
            fail_msg("\"%s\" gave %lld", durations[i].text, (long long) ns);
    }
    for (size_t i = 0; i < sizeof not_durations / sizeof not_durations[0]; i++) {
        int64_t ns = 0;
        if (parse_guarded(duration_parse, not_durations[i], &ns))
            fail_msg("\"%s\" was taken for %lld", not_durations[i], (long long) ns);
    }
}

/* What Go's Duration.String says to each. */
static const struct {
    int64_t ms;
    const char *text;
} written_durations[] = {
    {0, "0s"},
    {1, "1ms"},
    {999, "999ms"},
    {-300, "-300ms"},
    {1000, "1s"},
    {1001, "1.001s"},
    {1010, "1.01s"},
    {1100, "1.1s"},
    {1050, "1.05s"},
    {59999, "59.999s"},
    {60000, "1m0s"},
    {90500, "1m30.5s"},
    {3600000, "1h0m0s"},
    {5400000, "1h30m0s"},
    {-5400001, "-1h30m0.001s"},
    {86400000, "24h0m0s"},
    {9223372036854, "2562047h47m16.854s"}, /* the last that Go can hold */
    {INT64_MAX, "2562047788015h12m55.807s"},
    {INT64_MIN, "-2562047788015h12m55.808s"},
};

static void writes_durations_as_go_does(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof written_durations / sizeof written_durations[0]; i++) {
        char memory[64];
        struct writer w = writer_of(memory, sizeof memory);
        writer_duration_ms(&w, written_durations[i].ms);
        assert_string_equal(writer_terminate(&w), written_durations[i].text);
        int64_t ns = 0;
        if (written_durations[i].ms >= -9223372036854 && written_durations[i].ms <= 9223372036854) {
            assert_true(duration_parse(writer_view(&w), &ns));
            assert_true(ns == written_durations[i].ms * 1000000);
        } else {
            assert_false(duration_parse(writer_view(&w), &ns));
        }
    }
}

/* date -u -d ... +%s said so. */
static const struct {
    const char *text;
    int64_t ms;
} timestamps[] = {
    {"1970-01-01T00:00:00Z", 0},
    {"1969-12-31T23:59:59.999Z", -1},
    {"2026-11-22T15:38:51.123Z", 1795361931123},
    {"2026-11-22T15:38:51.1Z", 1795361931100},
    {"2026-11-22T15:38:51.123999999Z", 1795361931123},
    {"2026-11-22T15:38:51.0000000000000000000000001Z", 1795361931000},
    {"2026-11-22t15:38:51z", 1795361931000},
    {"2026-11-22T15:38:51+00:00", 1795361931000},
    {"2026-11-22T15:38:51-00:00", 1795361931000},
    {"2026-11-22T16:38:51+01:00", 1795361931000},
    {"2026-11-22T06:08:51.5-09:30", 1795361931500},
    {"2026-11-23T15:37:51+23:59", 1795361931000},
    {"2000-02-29T00:00:00Z", 951782400000},
    {"2024-02-29T12:00:00Z", 1709208000000},
    {"2100-03-01T00:00:00Z", 4107542400000},
    {"1900-03-01T00:00:00Z", -2203891200000},
    {"2038-01-19T03:14:08Z", 2147483648000},
    {"0000-01-01T00:00:00Z", -62167219200000},
    {"0000-02-29T00:00:00Z", -62162121600000},
    {"9999-12-31T23:59:59.999Z", 253402300799999},
};

static const char *const not_timestamps[] = {
    "",
    "2026-11-22",
    "2026-11-22T15:38:51",
    "2026-11-22 15:38:51Z",
    "2026-11-22T15:38Z",
    "2026-11-22T15:38:51.Z",
    "2026-11-22T15:38:51,5Z",
    "2026-11-22T15:38:51Z ",
    " 2026-11-22T15:38:51Z",
    "2026-11-22T15:38:51+0100",
    "2026-11-22T15:38:51+01",
    "2026-11-22T15:38:51+01:0",
    "2026-11-22T15:38:51+24:00",
    "2026-11-22T15:38:51+01:60",
    "2026-11-22T15:38:51.5",
    "2026-00-22T15:38:51Z",
    "2026-13-22T15:38:51Z",
    "2026-11-00T15:38:51Z",
    "2026-11-31T15:38:51Z",
    "2026-02-29T15:38:51Z",
    "2100-02-29T15:38:51Z",
    "2026-11-22T24:00:00Z",
    "2026-11-22T15:60:00Z",
    "2026-11-22T15:38:60Z",
    "26-11-22T15:38:51Z",
    "2026-1-22T15:38:51Z",
    "2026-11-22T15:38:5Z",
    "+026-11-22T15:38:51Z",
    "12026-11-22T15:38:51Z",
};

static void parses_rfc3339(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof timestamps / sizeof timestamps[0]; i++) {
        int64_t ms = 77;
        if (!parse_guarded(timestamp_parse_rfc3339, timestamps[i].text, &ms) || ms != timestamps[i].ms)
            fail_msg("\"%s\" gave %lld", timestamps[i].text, (long long) ms);
    }
    for (size_t i = 0; i < sizeof not_timestamps / sizeof not_timestamps[0]; i++) {
        int64_t ms = 77;
        if (parse_guarded(timestamp_parse_rfc3339, not_timestamps[i], &ms) || ms != 77)
            fail_msg("\"%s\" was taken for %lld", not_timestamps[i], (long long) ms);
    }
}

static void parses_http_dates(void **state)
{
    static const char *const refused[] = {
        "",
        "Sun, 22 Nov 2026 15:38:51",
        "Sun, 22 Nov 2026 15:38:51 UTC",
        "Sun, 22 Nov 2026 15:38:51 GMT ",
        "Sunday, 22-Nov-26 15:38:51 GMT",
        "Sun Nov 22 15:38:51 2026",
        "Xyz, 22 Nov 2026 15:38:51 GMT",
        "Sun, 22 nov 2026 15:38:51 GMT",
        "Sun, 2 Nov 2026 15:38:51 GMT",
        "Sun, 31 Nov 2026 15:38:51 GMT",
        "Sun, 22 Nov 2026 25:38:51 GMT",
        "Sun, 22 Nov 26 15:38:51 GMT",
        "Su",
    };
    int64_t ms = 0;
    (void) state;
    assert_true(parse_guarded(timestamp_parse_http_date, "Sun, 22 Nov 2026 15:38:51 GMT", &ms));
    assert_true(ms == 1795361931000);
    assert_true(parse_guarded(timestamp_parse_http_date, "Thu, 01 Jan 1970 00:00:01 GMT", &ms));
    assert_true(ms == 1000);
    assert_true(parse_guarded(timestamp_parse_http_date, "Tue, 31 Dec 2024 23:59:59 GMT", &ms));
    assert_true(ms == 1735689599000);
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        if (parse_guarded(timestamp_parse_http_date, refused[i], &ms))
            fail_msg("\"%s\" was taken for a date", refused[i]);
}

static void writes_timestamps(void **state)
{
    char memory[64];
    struct writer w = writer_of(memory, sizeof memory);
    (void) state;
    writer_rfc3339_ms(&w, 1795361931123);
    writer_char(&w, ' ');
    writer_amz_date(&w, 1795361931999);
    assert_string_equal(writer_terminate(&w), "2026-11-22T15:38:51.123Z 20261122T153851Z");
    static const int64_t outside[] = {-62167219200001, 253402300800000, INT64_MIN, INT64_MAX};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        w = writer_of(memory, sizeof memory);
        writer_rfc3339_ms(&w, outside[i]);
        assert_true(w.failed);
        w = writer_of(memory, sizeof memory);
        writer_amz_date(&w, outside[i]);
        assert_true(w.failed);
    }
}

/* Every day of 10,000 years, there and back. */
static void calendar_holds_for_every_day(void **state)
{
    const int64_t day_ms = 86400000;
    const int64_t end = 253402300800000;
    (void) state;
    for (int64_t ms = -62167219200000 + day_ms - 1; ms < end; ms += day_ms) {
        char memory[32];
        struct writer w = writer_of(memory, sizeof memory);
        int64_t again = 0;
        writer_rfc3339_ms(&w, ms);
        assert_true(timestamp_parse_rfc3339(writer_view(&w), &again));
        assert_true(again == ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses_durations_as_go_does),
        cmocka_unit_test(writes_durations_as_go_does),
        cmocka_unit_test(parses_rfc3339),
        cmocka_unit_test(parses_http_dates),
        cmocka_unit_test(writes_timestamps),
        cmocka_unit_test(calendar_holds_for_every_day),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
