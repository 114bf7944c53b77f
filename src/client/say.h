/*
 * say: what a person who runs `fumidai forward` reads on standard error; with --output json the same as
 * events, one a line, on standard output.
 */
#ifndef FUMIDAI_CLIENT_SAY_H
#define FUMIDAI_CLIENT_SAY_H

#include "settings/forward_settings.h"

enum { SAY_SIZE = 1024 /* of one message; a longer one is cut */ };

/* Before the first message. */
void say_open(enum forward_output output);
/* `event` is its kind: warning, progress, ready, session, error, end. */
void say(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
