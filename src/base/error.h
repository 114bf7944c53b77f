/*
 * error: one reason for one failure, for the person who reads the log.
 *
 * Functions that can fail return 0 or one of the negative codes below. The reason in words goes into a struct
 * error that the caller owns and passes down; every layer on the way up may put what it was doing in front
 * ("CreateControlChannel: "). A message says what was tried, on what, what came back, and what to do. It is
 * one line: control characters become '?'.
 *
 * Every function takes a null pointer when the reason is not needed, and still returns the code.
 */
#ifndef FUMIDAI_BASE_ERROR_H
#define FUMIDAI_BASE_ERROR_H

enum error_code {
    ERROR_NONE = 0,
    ERROR_INVALID = -1,     /* the input breaks its format or its protocol; the same bytes will fail again */
    ERROR_TOO_LARGE = -2,   /* a bound of ours ran out: a buffer, a table, a maximum length */
    ERROR_UNSUPPORTED = -3, /* well formed, but not something this program does */
    ERROR_DENIED = -4,      /* a policy, ours or the peer's, says no; asking again does not help */
    ERROR_NOT_FOUND = -5,   /* the named thing does not exist */
    ERROR_TIMEOUT = -6,     /* a deadline passed */
    ERROR_CLOSED = -7,      /* the peer ended the connection */
    ERROR_SYSTEM = -8,      /* a system call failed; the text carries the errno's name and words */
    ERROR_THROTTLED = -9,   /* the service asks for fewer calls; try again later, slower */
    ERROR_UNAVAILABLE = -10 /* the service or network failed in a way that may pass; try again */
};

/* Room for a URL or ARN, an API's reason and our advice; what is longer is cut and ends in "...". */
enum { ERROR_TEXT_SIZE = 512 };

struct error {
    enum error_code code;
    char text[ERROR_TEXT_SIZE]; /* always terminated; empty while code is ERROR_NONE */
};

#define ERROR_INIT                                                                                           \
    {                                                                                                        \
        ERROR_NONE, ""                                                                                       \
    }

/* Replaces whatever was there. Returns code, so that `return error_set(err, ERROR_INVALID, "...")` reads
 * well. */
int error_set(struct error *err, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts words in front of the reason, as in "DescribeTasks: <reason>". Returns the error's code, unchanged.
 * With a null pointer the code is not known: then ERROR_INVALID, so that a failure never turns into success;
 * callers to whom the code matters return their own. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whether trying again later may succeed: ERROR_TIMEOUT, ERROR_CLOSED, ERROR_SYSTEM, ERROR_THROTTLED,
 * ERROR_UNAVAILABLE. */
int error_may_pass(const struct error *err);

#endif
