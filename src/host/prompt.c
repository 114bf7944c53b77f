#include "host/prompt.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"

static const char TERMINAL[] = "/dev/tty";

static void close_terminal(struct prompt *prompt)
{
    int fd = prompt->watch.fd;
    if (fd < 0)
        return;
    loop_watch_remove(prompt->loop, &prompt->watch);
    close(fd);
}

static void finish(struct prompt *prompt, struct error *err)
{
    struct str line, rest;
    str_cut((struct str){prompt->text, prompt->len}, '\n', &line, &rest);
    close_terminal(prompt);
    prompt->answered(prompt, err->code == ERROR_NONE ? str_trim(line) : str_from(NULL), err);
}

static void ready(struct loop_watch *watch, uint32_t events)
{
    struct prompt *prompt = LOOP_OWNER(watch, struct prompt, watch);
    struct error err = ERROR_INIT;
    (void) events;
    ssize_t got = read(watch->fd, prompt->text + prompt->len, sizeof prompt->text - prompt->len);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) /* EIO: in the background */
        error_set(&err, ERROR_CLOSED, "nobody answered on %s: %s", TERMINAL,
                  got < 0 ? strerror(errno) : "it ended");
    else
        prompt->len += (size_t) got;
    if (prompt->len == sizeof prompt->text)
        error_set(&err, ERROR_TOO_LARGE, "an answer of more than %d bytes", PROMPT_TEXT_SIZE - 1);
    if (err.code != ERROR_NONE || memchr(prompt->text, '\n', prompt->len) != NULL)
        finish(prompt, &err);
}

int prompt_open(struct prompt *prompt, struct loop *loop, struct str question,
                void (*answered)(struct prompt *prompt, struct str line, struct error *err),
                struct error *err)
{
    *prompt = PROMPT_INIT;
    prompt->loop = loop;
    prompt->answered = answered;
    int fd = open(TERMINAL, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no terminal to ask on (%s: %s)", TERMINAL,
                         strerror(errno));
    int result = write(fd, question.ptr, question.len) == (ssize_t) question.len
                     ? loop_watch_add(loop, &prompt->watch, fd, EPOLLIN, ready, err)
                     : error_set(err, ERROR_SYSTEM, "can't write to %s: %s", TERMINAL, strerror(errno));
    if (result != 0)
        close(fd);
    return result;
}

void prompt_close(struct prompt *prompt)
{
    close_terminal(prompt);
    bytes_wipe(prompt->text, sizeof prompt->text);
    prompt->len = 0;
}
