/*
 * log: events with typed attributes on stderr, one line and one write() each.
 *
 *     log_event(LOG_INFO, "session started", LOG_STR("session", id), LOG_I64("streams", n));
 *     log_event(LOG_INFO, "relay ready", LOG_END);        (LOG_END when there is nothing else to say)
 *
 * JSON lines have slog's keys in slog's order: time, level, msg, app, version, then the attributes. Text
 * lines are key=value with the quoting of slog's TextHandler. Levels are slog's numbers; in between they
 * print as slog does ("INFO+1"). Durations print as Go writes them, times as RFC 3339.
 *
 * A line has at most PIPE_BUF bytes: the kernel writes so much to a pipe whole or not at all, so lines of
 * several processes never mix. Longer values are cut and end in "...".
 *
 * Whoever reads our stderr must not be able to stop us: writes never block. What could not be written is
 * counted and reported with the next line that can. Never log a secret, a payload, or a whole request.
 *
 * Nor may a peer fill the log: of lines with one message LOG_BURST go out at once and LOG_LINES_PER_SECOND
 * from then on. Those left out are counted, and the count is logged once a second: with any later line, or by
 * log_report_omitted. Lines that seldom come are never left out, whatever others do. A line that must not be
 * missing begins its attributes with LOG_ALWAYS: who used a session, and how much went through it.
 */
#ifndef FUMIDAI_HOST_LOG_H
#define FUMIDAI_HOST_LOG_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum log_level { LOG_DEBUG = -4, LOG_INFO = 0, LOG_WARN = 4, LOG_ERROR = 8 };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum {
    LOG_LINE_MAX = 4096,     /* PIPE_BUF on Linux */
    LOG_VALUE_MAX = 1024,    /* a quarter of a line: one long value leaves room for the others */
    LOG_ATTRIBUTES_MAX = 24, /* the longest line has 13 */
    LOG_BURST = 500,         /* half of a full session's streams that are closed at once; 160 KB */
    /* A busy pool of connections stays below; a flood makes 16 KB a second, which a log service can be paid
     * for. */
    LOG_LINES_PER_SECOND = 50,
    LOG_OMITTED_REPORT_MS = 1000, /* each message's count, at most so often */
    LOG_LIMITS = 32               /* messages that come often at a time; further ones are not limited */
};

/* What a value is; the first character of its attribute's key. */
enum log_type {
    LOG_TYPE_STR = 's',
    LOG_TYPE_TEXT = 't', /* terminated */
    LOG_TYPE_I64 = 'i',
    LOG_TYPE_BOOL = 'b',
    LOG_TYPE_DURATION = 'd',
    LOG_TYPE_TIME = 'T'
};

/* Key and type in one literal, and one value: every call builds an array of these on its stack, and what it
 * stores there is a good part of the program's code. */
struct log_attribute {
    /* One character of enum log_type, then the name, which is printed as it is; NULL: no attribute. */
    const char *key;
    union {
        struct str view;
        const char *text;
        int64_t number;
    };
};

struct log_settings {
    enum log_format format;
    int minimum_level; /* an enum log_level or anything in between */
    bool colour;       /* log_open() decides */
    const char *app;
    const char *version;
};

#define LOG_STR(name, value)                                                                                 \
    {                                                                                                        \
        .key = "s" name, .view = (value)                                                                     \
    }
#define LOG_TEXT(name, value)                                                                                \
    {                                                                                                        \
        .key = "t" name, .text = (value)                                                                     \
    }
#define LOG_I64(name, value)                                                                                 \
    {                                                                                                        \
        .key = "i" name, .number = (int64_t) (value)                                                         \
    }
#define LOG_BOOL(name, value)                                                                                \
    {                                                                                                        \
        .key = "b" name, .number = (value) ? 1 : 0                                                           \
    }
#define LOG_DURATION_MS(name, value)                                                                         \
    {                                                                                                        \
        .key = "d" name, .number = (value)                                                                   \
    }
#define LOG_TIME_MS(name, unix_ms)                                                                           \
    {                                                                                                        \
        .key = "T" name, .number = (unix_ms)                                                                 \
    }
#define LOG_ERR(err)                                                                                         \
    {                                                                                                        \
        .key = "terror", .text = (err)->text                                                                 \
    }
#define LOG_ALWAYS                                                                                           \
    {                                                                                                        \
        .key = NULL, .number = 1                                                                             \
    }
#define LOG_END                                                                                              \
    {                                                                                                        \
        .key = NULL                                                                                          \
    }

/* Before anything else that opens a descriptor: makes sure 0, 1 and 2 are taken, so that no socket ever
 * becomes "stderr". The strings must outlive the log. Before log_open, events go nowhere. */
void log_open(const struct log_settings *settings);
bool log_enabled(int level);
void log_write(int level, const char *message, const struct log_attribute *attributes, size_t count);

/* Logs how many lines were left out, when that is due: for a time when no other line comes. */
void log_report_omitted(void);

#define log_event(level, message, ...)                                                                       \
    log_write((level), (message), (const struct log_attribute[]){__VA_ARGS__},                               \
              sizeof((const struct log_attribute[]){__VA_ARGS__}) / sizeof(struct log_attribute))

/* The pure half: one line, newline included, into `out`. Returns its length. */
size_t log_render(char out[LOG_LINE_MAX], const struct log_settings *settings, int64_t unix_ms, int level,
                  const char *message, const struct log_attribute *attributes, size_t count);
void writer_log_level(struct writer *w, int level); /* "INFO", "INFO+1", "DEBUG-2" */

/* The other pure part: what may go out. Messages are told apart by their address. */
struct log_limit {
    const char *message;
    int level;
    int64_t full_at_ms; /* when LOG_BURST lines may go out again */
    uint64_t omitted;   /* not reported yet */
    int64_t omitted_since_ms;
};
struct log_limiter {
    struct log_limit limits[LOG_LIMITS];
};

bool log_limiter_admits(struct log_limiter *limiter, int level, const char *message, int64_t now_ms);
/* A count that is due, for a report; it is 0 from then on. */
bool log_limiter_report(struct log_limiter *limiter, int64_t now_ms, struct log_limit *report);

#endif
