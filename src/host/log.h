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

enum { LOG_LINE_MAX = 4096 /* PIPE_BUF on Linux */, LOG_VALUE_MAX = 1024, LOG_ATTRIBUTES_MAX = 24 };

enum log_type { LOG_TYPE_NONE, LOG_TYPE_STR, LOG_TYPE_I64, LOG_TYPE_BOOL, LOG_TYPE_DURATION, LOG_TYPE_TIME };

struct log_attribute {
    const char *key; /* a literal: printed as it is */
    enum log_type type;
    struct str text;
    int64_t number;
};

struct log_settings {
    enum log_format format;
    int minimum_level; /* an enum log_level or anything in between */
    bool colour;       /* log_open() decides */
    const char *app;
    const char *version;
};

#define LOG_STR(key, view)                                                                                   \
    {                                                                                                        \
        (key), LOG_TYPE_STR, (view), 0                                                                       \
    }
#define LOG_TEXT(key, string)                                                                                \
    {                                                                                                        \
        (key), LOG_TYPE_STR, str_from(string), 0                                                             \
    }
#define LOG_I64(key, value)                                                                                  \
    {                                                                                                        \
        (key), LOG_TYPE_I64, {0}, (int64_t) (value)                                                          \
    }
#define LOG_BOOL(key, value)                                                                                 \
    {                                                                                                        \
        (key), LOG_TYPE_BOOL, {0}, (value) ? 1 : 0                                                           \
    }
#define LOG_DURATION_MS(key, value)                                                                          \
    {                                                                                                        \
        (key), LOG_TYPE_DURATION, {0}, (value)                                                               \
    }
#define LOG_TIME_MS(key, unix_ms)                                                                            \
    {                                                                                                        \
        (key), LOG_TYPE_TIME, {0}, (unix_ms)                                                                 \
    }
#define LOG_ERR(err)                                                                                         \
    {                                                                                                        \
        "error", LOG_TYPE_STR, str_from((err)->text), 0                                                      \
    }
#define LOG_END                                                                                              \
    {                                                                                                        \
        NULL, LOG_TYPE_NONE, {0}, 0                                                                          \
    }

/* Before anything else that opens a descriptor: makes sure 0, 1 and 2 are taken, so that no socket ever
 * becomes "stderr". The strings must outlive the log. Before log_open, events go nowhere. */
void log_open(const struct log_settings *settings);
bool log_enabled(int level);
void log_write(int level, const char *message, const struct log_attribute *attributes, size_t count);

#define log_event(level, message, ...)                                                                       \
    log_write((level), (message), (const struct log_attribute[]){__VA_ARGS__},                               \
              sizeof((const struct log_attribute[]){__VA_ARGS__}) / sizeof(struct log_attribute))

/* The pure half: one line, newline included, into `out`. Returns its length. */
size_t log_render(char out[LOG_LINE_MAX], const struct log_settings *settings, int64_t unix_ms, int level,
                  const char *message, const struct log_attribute *attributes, size_t count);
void writer_log_level(struct writer *w, int level); /* "INFO", "INFO+1", "DEBUG-2" */

#endif
