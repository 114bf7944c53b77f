#include "client/say.h"

#include <stdarg.h>
#include <unistd.h>

#include "base/format.h"
#include "base/json.h"
#include "host/console.h"

static enum forward_output say_output;

void say_open(enum forward_output output)
{
    say_output = output;
}

static void write_event(const char *event, const char *text)
{
    char memory[2 * SAY_SIZE];
    struct writer out = writer_of(memory, sizeof memory);
    struct json_writer json = json_writer_of(&out);
    json_begin_object(&json);
    json_member_text(&json, "event", event);
    json_member_text(&json, "text", text);
    json_end_object(&json);
    writer_char(&out, '\n');
    if (!out.failed)
        (void) console_write(STDOUT_FILENO, writer_view(&out));
}

void say(const char *event, const char *format, ...)
{
    char text[SAY_SIZE];
    va_list args;
    va_start(args, format);
    format_into(text, sizeof text, format, args);
    va_end(args);
    if (say_output == FORWARD_OUTPUT_JSON)
        write_event(event, text);
    else
        console_format(STDERR_FILENO, "fumidai: %s\n", text);
}
