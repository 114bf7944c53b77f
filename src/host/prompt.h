/*
 * prompt: one question on the terminal and one line in answer, from the loop. The terminal is /dev/tty:
 * stdin and stdout may be anything else. What is typed is shown; for codes that are good once, not for
 * passwords.
 */
#ifndef FUMIDAI_HOST_PROMPT_H
#define FUMIDAI_HOST_PROMPT_H

#include <stddef.h>

#include "base/error.h"
#include "base/str.h"
#include "host/loop.h"

enum { PROMPT_TEXT_SIZE = 256 /* a code of six digits, and what somebody pastes by mistake */ };

struct prompt {
    /* From the loop, once: the line without blanks around it, or the error. The prompt is closed already. */
    void (*answered)(struct prompt *prompt, struct str line, struct error *err);

    /* private */
    struct loop *loop;
    struct loop_watch watch;
    char text[PROMPT_TEXT_SIZE];
    size_t len;
};

#define PROMPT_INIT ((struct prompt){.watch = {.fd = -1}})

/* ERROR_NOT_FOUND when this process has no terminal. */
int prompt_open(struct prompt *prompt, struct loop *loop, struct str question,
                void (*answered)(struct prompt *prompt, struct str line, struct error *err),
                struct error *err);
void prompt_close(struct prompt *prompt); /* at any time; wipes */

#endif
