#include "base/error.h"

#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include "base/format.h"
#include "base/utf8.h"

static const char CUT_MARK[] = "...";

/* A cut may fall into a UTF-8 sequence: the mark goes where that sequence began. */
static void mark_cut(char text[ERROR_TEXT_SIZE])
{
    size_t len = utf8_limit(str_from(text), ERROR_TEXT_SIZE - sizeof CUT_MARK).len;
    memcpy(text + len, CUT_MARK, sizeof CUT_MARK);
}

/* What peers send ends up in messages, so nothing in them may start a new log line or drive a terminal. */
static void keep_to_one_line(char *text)
{
    for (; *text != '\0'; text++)
        if (str_is_control(*text))
            *text = '?';
}

/* Formats into `text`; gives the length without terminator. */
__attribute__((format(printf, 2, 0))) static size_t format_line(char text[ERROR_TEXT_SIZE],
                                                                const char *format, va_list args)
{
    if (format_into(text, ERROR_TEXT_SIZE, format, args) >= ERROR_TEXT_SIZE)
        mark_cut(text);
    keep_to_one_line(text);
    return strlen(text);
}

int error_set(struct error *err, enum error_code code, const char *format, ...)
{
    if (err == NULL)
        return code;
    if (code == ERROR_NONE) {
        *err = (struct error) ERROR_INIT;
        return code;
    }
    /* By way of a copy, because the old text may be among the arguments. */
    char text[ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    size_t len = format_line(text, format, args);
    va_end(args);
    err->code = code;
    memcpy(err->text, text, len + 1);
    return code;
}

int error_prefix(struct error *err, const char *format, ...)
{
    if (err == NULL)
        return ERROR_INVALID;
    if (err->code == ERROR_NONE)
        return ERROR_NONE;
    char text[ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    size_t len = format_line(text, format, args);
    va_end(args);
    size_t reason_len = strlen(err->text);
    size_t room = ERROR_TEXT_SIZE - 1 - len;
    bool cut = reason_len > room;
    memcpy(text + len, err->text, cut ? room : reason_len);
    text[len + (cut ? room : reason_len)] = '\0';
    if (cut)
        mark_cut(text);
    memcpy(err->text, text, strlen(text) + 1);
    return err->code;
}

int error_may_pass(const struct error *err)
{
    if (err == NULL)
        return 0;
    switch (err->code) {
    case ERROR_TIMEOUT:
    case ERROR_CLOSED:
    case ERROR_SYSTEM:
    case ERROR_THROTTLED:
    case ERROR_UNAVAILABLE:
        return 1;
    case ERROR_NONE:
    case ERROR_INVALID:
    case ERROR_TOO_LARGE:
    case ERROR_UNSUPPORTED:
    case ERROR_DENIED:
    case ERROR_NOT_FOUND:
        break;
    }
    return 0;
}
