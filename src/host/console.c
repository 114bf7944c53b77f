#include "host/console.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <unistd.h>

#include "base/format.h"

enum { MESSAGE_SIZE = 1024 };

bool console_write(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t written = write(fd, text.ptr, text.len);
        if (written > 0) {
            text = str_slice(text, (size_t) written, text.len);
        } else if (written < 0 && errno == EAGAIN) { /* somebody who shares it has set O_NONBLOCK */
            struct pollfd room = {.fd = fd, .events = POLLOUT};
            poll(&room, 1, -1);
        } else if (written == 0 || errno != EINTR) {
            return false;
        }
    }
    return true;
}

bool console_format(int fd, const char *format, ...)
{
    char message[MESSAGE_SIZE];
    va_list args;
    va_start(args, format);
    size_t len = format_into(message, sizeof message, format, args);
    va_end(args);
    return console_write(fd, (struct str){message, len < sizeof message ? len : sizeof message - 1});
}
