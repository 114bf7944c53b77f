#include "base/time.h"

#include <stddef.h>

/* ---- durations -------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    uint64_t ns;
} duration_units[] = {
    {"ns", 1},           {"us", 1000},      {"\xC2\xB5s", 1000}, /* U+00B5, micro sign */
    {"\xCE\xBCs", 1000},                                         /* U+03BC, Greek mu */
    {"ms", 1000000},     {"s", 1000000000}, {"m", 60000000000},  {"h", 3600000000000},
};

/* The magnitude of INT64_MIN: -2^63 ns fits, +2^63 does not. */
#define DURATION_MAGNITUDE_MAX ((uint64_t) 1 << 63)

static struct str take_digits(struct str *rest)
{
    size_t len = 0;
    while (len < rest->len && str_is_digit(rest->ptr[len]))
        len++;
    struct str digits = str_slice(*rest, 0, len);
    *rest = str_slice(*rest, len, rest->len);
    return digits;
}

static bool take_unit(struct str *rest, uint64_t *unit_ns)
{
    size_t len = 0;
    while (len < rest->len && rest->ptr[len] != '.' && !str_is_digit(rest->ptr[len]))
        len++;
    struct str name = str_slice(*rest, 0, len);
    *rest = str_slice(*rest, len, rest->len);
    for (size_t i = 0; i < sizeof duration_units / sizeof duration_units[0]; i++) {
        if (str_equal_text(name, duration_units[i].name)) {
            *unit_ns = duration_units[i].ns;
            return true;
        }
    }
    return false;
}

/* The nanoseconds of a fraction of a unit. Go does this step in floating point (so that
 * 0.3333333333333333333h is 20 minutes) and ignores digits beyond what an int64 holds; the same values must
 * come out here. */
static uint64_t fraction_ns(struct str digits, uint64_t unit_ns)
{
    uint64_t value = 0;
    double scale = 1;
    for (size_t i = 0; i < digits.len; i++) {
        uint64_t next = value * 10 + (uint64_t) (digits.ptr[i] - '0');
        if (value > (DURATION_MAGNITUDE_MAX - 1) / 10 || next > DURATION_MAGNITUDE_MAX)
            break;
        value = next;
        scale *= 10;
    }
    return (uint64_t) ((double) value * ((double) unit_ns / scale));
}

/* One number with its unit, added to *sum_ns. */
static bool take_component(struct str *rest, uint64_t *sum_ns)
{
    struct str whole = take_digits(rest);
    struct str fraction = {NULL, 0};
    if (rest->len > 0 && rest->ptr[0] == '.') {
        *rest = str_slice(*rest, 1, rest->len);
        fraction = take_digits(rest);
    }
    uint64_t count = 0;
    uint64_t unit_ns = 0;
    if (whole.len == 0 && fraction.len == 0)
        return false;
    if (whole.len > 0 && !str_parse_u64(whole, &count))
        return false;
    if (!take_unit(rest, &unit_ns) || count > DURATION_MAGNITUDE_MAX / unit_ns)
        return false;
    /* Neither addition can wrap: each part is at most 2^63, and the sum is checked before the next. */
    uint64_t part_ns = count * unit_ns + fraction_ns(fraction, unit_ns);
    if (part_ns > DURATION_MAGNITUDE_MAX || *sum_ns + part_ns > DURATION_MAGNITUDE_MAX)
        return false;
    *sum_ns += part_ns;
    return true;
}

bool duration_parse(struct str text, int64_t *duration_ns)
{
    bool negative = false;
    if (text.len > 0 && (text.ptr[0] == '-' || text.ptr[0] == '+')) {
        negative = text.ptr[0] == '-';
        text = str_slice(text, 1, text.len);
    }
    if (str_equal_text(text, "0")) {
        *duration_ns = 0;
        return true;
    }
    uint64_t sum_ns = 0;
    if (text.len == 0)
        return false;
    while (text.len > 0)
        if (!take_component(&text, &sum_ns))
            return false;
    if (sum_ns == DURATION_MAGNITUDE_MAX) {
        *duration_ns = INT64_MIN;
        return negative;
    }
    *duration_ns = negative ? -(int64_t) sum_ns : (int64_t) sum_ns;
    return true;
}

/* Seconds with the fraction's trailing zeroes left away: 1.05s. */
static void write_seconds(struct writer *w, uint64_t ms)
{
    writer_u64_decimal(w, ms / 1000);
    unsigned fraction = (unsigned) (ms % 1000);
    if (fraction != 0) {
        unsigned digits = fraction % 100 == 0 ? 1 : fraction % 10 == 0 ? 2 : 3;
        unsigned shown = fraction % 100 == 0 ? fraction / 100 : fraction % 10 == 0 ? fraction / 10 : fraction;
        writer_format(w, ".%0*u", (int) digits, shown);
    }
    writer_char(w, 's');
}

void writer_duration_ms(struct writer *w, int64_t duration_ms)
{
    uint64_t ms = duration_ms < 0 ? 0 - (uint64_t) duration_ms : (uint64_t) duration_ms;
    if (duration_ms < 0)
        writer_char(w, '-');
    if (ms > 0 && ms < 1000) {
        writer_u64_decimal(w, ms);
        writer_text(w, "ms");
        return;
    }
    uint64_t minutes = ms / 60000;
    if (minutes >= 60) {
        writer_u64_decimal(w, minutes / 60);
        writer_char(w, 'h');
    }
    if (minutes > 0) {
        writer_u64_decimal(w, minutes % 60);
        writer_char(w, 'm');
    }
    write_seconds(w, ms % 60000);
}

/* ---- points in time --------------------------------------------------------------------------------- */

struct civil {
    unsigned year; /* 0 to 9999, the proleptic Gregorian calendar */
    unsigned month;
    unsigned day;
    unsigned hour;
    unsigned minute;
    unsigned second;
    unsigned ms;
};

static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

static const int64_t MS_PER_DAY = 86400000;
static const int64_t DAYS_0000_TO_1970 = 719528;

static bool is_leap(unsigned year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static unsigned days_in_month(unsigned year, unsigned month)
{
    static const unsigned char days[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    return month == 2 && is_leap(year) ? 29 : days[month - 1];
}

/* Days from 0000-01-01 to January 1st of the year. */
static int64_t days_before_year(unsigned year)
{
    if (year == 0)
        return 0;
    unsigned last = year - 1; /* year 0 was a leap year, hence the 1 */
    return (int64_t) year * 365 + last / 4 - last / 100 + last / 400 + 1;
}

static bool civil_is_valid(const struct civil *c)
{
    /* No second 60: Unix time has no place for it, and neither Go nor AWS writes it. */
    return c->year <= 9999 && c->month >= 1 && c->month <= 12 && c->day >= 1 &&
           c->day <= days_in_month(c->year, c->month) && c->hour < 24 && c->minute < 60 && c->second < 60;
}

static int64_t civil_to_unix_ms(const struct civil *c)
{
    int64_t days = days_before_year(c->year) - DAYS_0000_TO_1970 + c->day - 1;
    for (unsigned month = 1; month < c->month; month++)
        days += days_in_month(c->year, month);
    return days * MS_PER_DAY + (((int64_t) c->hour * 60 + c->minute) * 60 + c->second) * 1000 + c->ms;
}

/* False when the year has not four digits. */
static bool civil_from_unix_ms(int64_t unix_ms, struct civil *c)
{
    int64_t days = unix_ms / MS_PER_DAY;
    int64_t ms = unix_ms % MS_PER_DAY;
    if (ms < 0) {
        ms += MS_PER_DAY;
        days--;
    }
    days += DAYS_0000_TO_1970;
    if (days < 0 || days >= days_before_year(10000))
        return false;
    c->year = (unsigned) (days / 366); /* never too late; at most a few years too early */
    while (days >= days_before_year(c->year + 1))
        c->year++;
    unsigned left = (unsigned) (days - days_before_year(c->year));
    for (c->month = 1; left >= days_in_month(c->year, c->month); c->month++)
        left -= days_in_month(c->year, c->month);
    c->day = left + 1;
    c->hour = (unsigned) (ms / 3600000);
    c->minute = (unsigned) (ms / 60000 % 60);
    c->second = (unsigned) (ms / 1000 % 60);
    c->ms = (unsigned) (ms % 1000);
    return true;
}

/* What the parsers below share: a cursor that remembers whether everything matched so far. */
struct scan {
    struct str rest;
    bool failed;
};

static unsigned scan_digits(struct scan *s, size_t count)
{
    uint32_t value = 0;
    struct str digits = str_slice(s->rest, 0, count);
    if (s->failed || digits.len != count || !str_parse_u32(digits, &value)) {
        s->failed = true;
        return 0;
    }
    s->rest = str_slice(s->rest, count, s->rest.len);
    return value;
}

static bool scan_optional(struct scan *s, char c)
{
    if (s->failed || s->rest.len == 0 || s->rest.ptr[0] != c)
        return false;
    s->rest = str_slice(s->rest, 1, s->rest.len);
    return true;
}

static void scan_char(struct scan *s, char c)
{
    if (!scan_optional(s, c))
        s->failed = true;
}

/* The index of a three-letter name. */
static unsigned scan_name(struct scan *s, const char names[][4], unsigned count)
{
    for (unsigned i = 0; i < count && !s->failed; i++) {
        if (str_starts_with(s->rest, names[i])) {
            s->rest = str_slice(s->rest, 3, s->rest.len);
            return i;
        }
    }
    s->failed = true;
    return 0;
}

static void scan_date(struct scan *s, struct civil *c)
{
    c->year = scan_digits(s, 4);
    scan_char(s, '-');
    c->month = scan_digits(s, 2);
    scan_char(s, '-');
    c->day = scan_digits(s, 2);
}

static void scan_clock(struct scan *s, struct civil *c)
{
    c->hour = scan_digits(s, 2);
    scan_char(s, ':');
    c->minute = scan_digits(s, 2);
    scan_char(s, ':');
    c->second = scan_digits(s, 2);
}

/* Any number of digits; those after the third are dropped. */
static void scan_fraction(struct scan *s, struct civil *c)
{
    if (!scan_optional(s, '.'))
        return;
    struct str digits = take_digits(&s->rest);
    if (digits.len == 0)
        s->failed = true;
    for (size_t i = 0; i < 3; i++)
        c->ms = c->ms * 10 + (i < digits.len ? (unsigned) (digits.ptr[i] - '0') : 0);
}

/* "Z" or "+hh:mm", as milliseconds to take away. RFC 3339, 5.6 allows lower case. */
static int64_t scan_zone_ms(struct scan *s)
{
    if (scan_optional(s, 'Z') || scan_optional(s, 'z'))
        return 0;
    bool west = scan_optional(s, '-');
    if (!west)
        scan_char(s, '+');
    unsigned hours = scan_digits(s, 2);
    scan_char(s, ':');
    unsigned minutes = scan_digits(s, 2);
    if (hours > 23 || minutes > 59)
        s->failed = true;
    int64_t offset_ms = ((int64_t) hours * 60 + minutes) * 60000;
    return west ? -offset_ms : offset_ms;
}

static bool scan_finish(const struct scan *s, const struct civil *c, int64_t zone_ms, int64_t *unix_ms)
{
    if (s->failed || s->rest.len != 0 || !civil_is_valid(c))
        return false;
    *unix_ms = civil_to_unix_ms(c) - zone_ms;
    return true;
}

bool timestamp_parse_rfc3339(struct str text, int64_t *unix_ms)
{
    struct scan s = {text, false};
    struct civil c = {0};
    scan_date(&s, &c);
    if (!scan_optional(&s, 't'))
        scan_char(&s, 'T');
    scan_clock(&s, &c);
    scan_fraction(&s, &c);
    int64_t zone_ms = scan_zone_ms(&s);
    return scan_finish(&s, &c, zone_ms, unix_ms);
}

bool timestamp_parse_http_date(struct str text, int64_t *unix_ms)
{
    struct scan s = {text, false};
    struct civil c = {0};
    (void) scan_name(&s, day_names, 7); /* says nothing that the date does not */
    scan_char(&s, ',');
    scan_char(&s, ' ');
    c.day = scan_digits(&s, 2);
    scan_char(&s, ' ');
    c.month = 1 + scan_name(&s, month_names, 12);
    scan_char(&s, ' ');
    c.year = scan_digits(&s, 4);
    scan_char(&s, ' ');
    scan_clock(&s, &c);
    if (!str_equal_text(s.rest, " GMT"))
        return false;
    s.rest = str_slice(s.rest, 4, s.rest.len);
    return scan_finish(&s, &c, 0, unix_ms);
}

void writer_rfc3339_ms(struct writer *w, int64_t unix_ms)
{
    struct civil c;
    if (!civil_from_unix_ms(unix_ms, &c)) {
        w->failed = true;
        return;
    }
    writer_format(w, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", c.year, c.month, c.day, c.hour, c.minute,
                  c.second, c.ms);
}

void writer_amz_date(struct writer *w, int64_t unix_ms)
{
    struct civil c;
    if (!civil_from_unix_ms(unix_ms, &c)) {
        w->failed = true;
        return;
    }
    writer_format(w, "%04u%02u%02uT%02u%02u%02uZ", c.year, c.month, c.day, c.hour, c.minute, c.second);
}
