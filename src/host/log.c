#include "host/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/time.h"
#include "base/utf8.h"
#include "host/clock.h"

/* --- rendering ------------------------------------------------------------------------------------------ */

void writer_log_level(struct writer *w, int level)
{
    static const struct {
        int level;
        const char *name;
    } names[] = {{LOG_ERROR, "ERROR"}, {LOG_WARN, "WARN"}, {LOG_INFO, "INFO"}};
    size_t i = 0;
    while (i < sizeof names / sizeof names[0] && level < names[i].level)
        i++;
    bool below_all = i == sizeof names / sizeof names[0];
    int base = below_all ? LOG_DEBUG : names[i].level;
    writer_text(w, below_all ? "DEBUG" : names[i].name);
    if (level != base)
        writer_format(w, "%+d", level - base);
}

static struct str cut_text(struct writer *scratch, struct str text)
{
    if (text.len <= LOG_VALUE_MAX)
        return text;
    writer_str(scratch, str_slice(text, 0, LOG_VALUE_MAX));
    writer_text(scratch, "...");
    return writer_view(scratch);
}

/* A value as text, cut where it would crowd out the others. */
static struct str value_text(const struct log_attribute *attribute, char *scratch, size_t capacity)
{
    struct writer w = writer_of(scratch, capacity);
    switch ((enum log_type) attribute->key[0]) {
    case LOG_TYPE_STR:
        return cut_text(&w, attribute->view);
    case LOG_TYPE_TEXT:
        return cut_text(&w, str_from(attribute->text));
    case LOG_TYPE_I64:
        writer_i64_decimal(&w, attribute->number);
        break;
    case LOG_TYPE_BOOL:
        writer_text(&w, attribute->number != 0 ? "true" : "false");
        break;
    case LOG_TYPE_DURATION:
        writer_duration_ms(&w, attribute->number);
        break;
    case LOG_TYPE_TIME:
        writer_rfc3339_ms(&w, attribute->number);
        break;
    }
    return writer_view(&w);
}

static bool is_bare_in_json(const struct log_attribute *attribute)
{
    return attribute->key[0] == LOG_TYPE_I64 || attribute->key[0] == LOG_TYPE_BOOL;
}

static void put_json_attribute(struct json_writer *j, const struct log_attribute *attribute)
{
    char scratch[LOG_VALUE_MAX + sizeof "..."];
    struct str text = value_text(attribute, scratch, sizeof scratch);
    json_key(j, attribute->key + 1);
    if (is_bare_in_json(attribute))
        json_put_raw(j, text);
    else
        json_put_string(j, text);
}

/* The length of the UTF-8 sequence at `at` when Go would print it as it is; 0 when it must be escaped. Of
 * what is not ASCII that leaves out malformed bytes, controls, and the white space and invisible marks that
 * could make a log line look like something it is not. */
static size_t printable_length(struct str text, size_t at)
{
    uint32_t rune = 0; /* that of malformed bytes, too */
    size_t len = utf8_decode(str_slice(text, at, text.len), &rune);
    bool invisible = rune < 0x20 || (rune >= 0x7f && rune <= 0xa0) || rune == 0xad ||
                     (rune >= 0x2000 && rune <= 0x200f) || (rune >= 0x2028 && rune <= 0x202f) ||
                     (rune >= 0x205f && rune <= 0x206f) || rune == 0x3000 || rune == 0xfeff ||
                     (rune >= 0xfff0 && rune <= 0xfffb);
    return invisible ? 0 : len;
}

/* slog's rule: quotes for the empty value and for whatever is not plainly
 * printable, or would end the value. */
static bool needs_quotes(struct str text)
{
    for (size_t at = 0; at < text.len;) {
        char c = text.ptr[at];
        size_t len = printable_length(text, at);
        if (len == 0 || c == ' ' || c == '=' || c == '"')
            return true;
        at += len;
    }
    return text.len == 0;
}

static void put_escaped(struct writer *w, uint8_t byte)
{
    static const char named[] = "\a\b\t\n\v\f\r";
    static const char letters[] = "abtnvfr";
    const char *found = byte != 0 ? strchr(named, byte) : NULL;
    if (found != NULL) {
        writer_char(w, '\\');
        writer_char(w, letters[found - named]);
    } else {
        writer_format(w, "\\x%02x", byte);
    }
}

static void put_text_value(struct writer *w, struct str text)
{
    if (!needs_quotes(text)) {
        writer_str(w, text);
        return;
    }
    writer_char(w, '"');
    for (size_t at = 0; at < text.len;) {
        size_t len = printable_length(text, at);
        if (len == 0) {
            put_escaped(w, (uint8_t) text.ptr[at]);
            len = 1;
        } else {
            if (text.ptr[at] == '"' || text.ptr[at] == '\\')
                writer_char(w, '\\');
            writer_bytes(w, text.ptr + at, len);
        }
        at += len;
    }
    writer_char(w, '"');
}

static void put_text_attribute(struct writer *w, const struct log_attribute *attribute)
{
    char scratch[LOG_VALUE_MAX + sizeof "..."];
    writer_char(w, ' ');
    writer_text(w, attribute->key + 1);
    writer_char(w, '=');
    put_text_value(w, value_text(attribute, scratch, sizeof scratch));
}

/* Grey, green, yellow, red; the level only, so that a copied line stays readable. */
static const char *level_colour(int level)
{
    return level >= LOG_ERROR  ? "\x1b[31m"
           : level >= LOG_WARN ? "\x1b[33m"
           : level >= LOG_INFO ? "\x1b[32m"
                               : "\x1b[90m";
}

static void put_text_head(struct writer *w, const struct log_settings *settings, int64_t unix_ms, int level)
{
    writer_text(w, "time=");
    writer_rfc3339_ms(w, unix_ms);
    writer_text(w, " level=");
    writer_text(w, settings->colour ? level_colour(level) : "");
    writer_log_level(w, level);
    writer_text(w, settings->colour ? "\x1b[0m" : "");
}

static void put_json_head(struct json_writer *j, int64_t unix_ms, int level)
{
    char text[40];
    struct writer w = writer_of(text, sizeof text);
    writer_rfc3339_ms(&w, unix_ms);
    json_begin_object(j);
    json_member_string(j, "time", writer_view(&w));
    w = writer_of(text, sizeof text);
    writer_log_level(&w, level);
    json_member_string(j, "level", writer_view(&w));
}

/* The attributes that every line has, in front of its own. */
struct line_parts {
    struct log_attribute fixed[3];
    const struct log_attribute *own;
    size_t own_count;
};

static const struct log_attribute *part(const struct line_parts *parts, size_t index)
{
    return index < 3 ? &parts->fixed[index] : &parts->own[index - 3];
}

/* Puts in as many of the attributes as fit with `reserve` bytes left over; an
 * attribute goes in whole or not. */
static bool put_attributes(struct writer *w, struct json_writer *j, const struct line_parts *parts)
{
    enum { CUT_MARK_RESERVE = 32 };
    for (size_t i = 0; i < 3 + parts->own_count; i++) {
        if (part(parts, i)->key == NULL)
            continue;
        struct writer writer_before = *w;
        struct json_writer json_before = j != NULL ? *j : (struct json_writer){0};
        if (j != NULL)
            put_json_attribute(j, part(parts, i));
        else
            put_text_attribute(w, part(parts, i));
        if (w->failed || w->capacity - w->len < CUT_MARK_RESERVE) {
            *w = writer_before;
            if (j != NULL)
                *j = json_before;
            return false;
        }
    }
    return true;
}

size_t log_render(char out[LOG_LINE_MAX], const struct log_settings *settings, int64_t unix_ms, int level,
                  const char *message, const struct log_attribute *attributes, size_t count)
{
    struct line_parts parts = {
        .fixed = {LOG_TEXT("msg", message), LOG_TEXT("app", settings->app),
                  LOG_TEXT("version", settings->version)},
        .own = attributes,
        .own_count = count < LOG_ATTRIBUTES_MAX ? count : LOG_ATTRIBUTES_MAX,
    };
    struct log_attribute cut = LOG_BOOL("cut", true);
    struct writer w = writer_of(out, LOG_LINE_MAX);
    if (settings->format == LOG_FORMAT_JSON) {
        struct json_writer j = json_writer_of(&w);
        put_json_head(&j, unix_ms, level);
        if (!put_attributes(&w, &j, &parts))
            put_json_attribute(&j, &cut);
        json_end_object(&j);
    } else {
        put_text_head(&w, settings, unix_ms, level);
        if (!put_attributes(&w, NULL, &parts))
            put_text_attribute(&w, &cut);
    }
    writer_char(&w, '\n');
    return w.len;
}

/* --- limits --------------------------------------------------------------------------------------------- */

enum { LINE_COST_MS = 1000 / LOG_LINES_PER_SECOND };

/* The message's limit; a new one takes a place in which nothing is left to know. */
static struct log_limit *limit_of(struct log_limiter *limiter, const char *message, int64_t now_ms)
{
    struct log_limit *place = NULL;
    for (size_t i = 0; i < LOG_LIMITS; i++) {
        struct log_limit *limit = &limiter->limits[i];
        if (limit->message == message)
            return limit;
        if (limit->omitted == 0 && limit->full_at_ms <= now_ms)
            place = limit;
    }
    if (place != NULL)
        *place = (struct log_limit){.message = message};
    return place;
}

bool log_limiter_admits(struct log_limiter *limiter, int level, const char *message, int64_t now_ms)
{
    struct log_limit *limit = limit_of(limiter, message, now_ms);
    if (limit == NULL)
        return true;
    if (limit->full_at_ms < now_ms)
        limit->full_at_ms = now_ms;
    if (limit->full_at_ms - now_ms <= (LOG_BURST - 1) * LINE_COST_MS) {
        limit->full_at_ms += LINE_COST_MS;
        return true;
    }
    if (limit->omitted++ == 0)
        limit->omitted_since_ms = now_ms;
    limit->level = level;
    return false;
}

bool log_limiter_report(struct log_limiter *limiter, int64_t now_ms, struct log_limit *report)
{
    for (size_t i = 0; i < LOG_LIMITS; i++) {
        struct log_limit *limit = &limiter->limits[i];
        if (limit->omitted == 0 || now_ms - limit->omitted_since_ms < LOG_OMITTED_REPORT_MS)
            continue;
        *report = *limit;
        limit->omitted = 0;
        return true;
    }
    return false;
}

/* --- writing -------------------------------------------------------------------------------------------- */

/* The one log of the process. */
static struct {
    struct log_settings settings;
    int fd; /* 0: nowhere; standard input is never the log */
    enum { WRITE_NONBLOCKING, WRITE_AS_SOCKET, WRITE_AFTER_POLL } way;
    uint64_t dropped;
    struct log_limiter limiter;
} the_log;

/* The first free descriptors are what libraries and children take for stdin, stdout, stderr. */
static void occupy_standard_descriptors(void)
{
    int fd;
    do {
        fd = open("/dev/null", O_RDWR);
    } while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* O_NONBLOCK belongs to the open file, which our parent and the wrapped command share with us: setting it on
 * descriptor 2 would change theirs. So the same pipe or terminal is opened once more, for us alone. Sockets
 * can't be, but have a flag per call. Where neither works, poll() before each write has to do. */
static void open_own_stderr(void)
{
    struct stat status;
    the_log.fd = STDERR_FILENO;
    the_log.way = WRITE_AFTER_POLL;
    if (fstat(STDERR_FILENO, &status) != 0)
        return;
    if (S_ISSOCK(status.st_mode)) {
        the_log.way = WRITE_AS_SOCKET;
        return;
    }
    if (S_ISREG(status.st_mode)) {
        /* Never blocks, and the position is shared with whoever else writes. */
        the_log.way = WRITE_NONBLOCKING;
        return;
    }
    int fd = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0) {
        the_log.fd = fd;
        the_log.way = WRITE_NONBLOCKING;
    }
}

void log_open(const struct log_settings *settings)
{
    if (the_log.fd == 0) {
        occupy_standard_descriptors();
        open_own_stderr();
    }
    the_log.settings = *settings;
    the_log.settings.colour = isatty(STDERR_FILENO) == 1;
}

bool log_enabled(int level)
{
    return the_log.fd != 0 && level >= the_log.settings.minimum_level;
}

/* One attempt; a line that does not go out now does not go out. */
static bool write_line(const char *line, size_t len)
{
    ssize_t written;
    if (the_log.way == WRITE_AS_SOCKET) {
        written = send(the_log.fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    } else {
        if (the_log.way == WRITE_AFTER_POLL) {
            /* A pipe is writable when PIPE_BUF bytes fit, which is as long as a line gets. */
            struct pollfd room = {.fd = the_log.fd, .events = POLLOUT};
            if (poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0)
                return false;
        }
        written = write(the_log.fd, line, len);
    }
    return written == (ssize_t) len;
}

static bool report_dropped(char line[LOG_LINE_MAX], int64_t unix_ms)
{
    struct log_attribute count = LOG_I64("lines", the_log.dropped);
    size_t len = log_render(line, &the_log.settings, unix_ms, LOG_WARN,
                            "log lines were dropped: nobody read stderr", &count, 1);
    if (!write_line(line, len))
        return false;
    the_log.dropped = 0;
    return true;
}

static void write_event(int level, const char *message, const struct log_attribute *attributes, size_t count)
{
    char line[LOG_LINE_MAX];
    int64_t unix_ms = clock_unix_ms();
    if (the_log.dropped > 0 && !report_dropped(line, unix_ms)) {
        the_log.dropped++;
        return;
    }
    size_t len = log_render(line, &the_log.settings, unix_ms, level, message, attributes, count);
    if (!write_line(line, len))
        the_log.dropped++;
}

void log_report_omitted(void)
{
    struct log_limit limit;
    while (log_limiter_report(&the_log.limiter, clock_monotonic_ms(), &limit)) {
        struct log_attribute what[] = {LOG_TEXT("message", limit.message), LOG_I64("lines", limit.omitted)};
        write_event(limit.level, "lines with one message came too fast and were left out", what, 2);
    }
}

static bool is_always(const struct log_attribute *attributes, size_t count)
{
    return count > 0 && attributes[0].key == NULL && attributes[0].number == 1;
}

void log_write(int level, const char *message, const struct log_attribute *attributes, size_t count)
{
    if (!log_enabled(level))
        return;
    if (!is_always(attributes, count)) {
        if (!log_limiter_admits(&the_log.limiter, level, message, clock_monotonic_ms()))
            return;
        log_report_omitted();
    }
    write_event(level, message, attributes, count);
}
