#include "client/announce.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "client/say.h"
#include "host/console.h"

void announce_open(struct announce *a, const struct forward_settings *config)
{
    *a = (struct announce){.config = config};
}

static void write_local(struct writer *out, const struct local_forward *f)
{
    if (f->kind == LOCAL_FORWARD_PATH)
        writer_text(out, f->path);
    else if (f->is_loopback)
        writer_format(out, "localhost:%u", f->port);
    else
        writer_ip_port(out, f->address, f->port);
}

void announce_open_ports(const struct local_forward *forwards, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct local_forward *f = &forwards[i];
        char memory[IP_TEXT_SIZE + 16];
        struct writer address = writer_of(memory, sizeof memory);
        if ((f->kind != LOCAL_FORWARD_PORT && f->kind != LOCAL_FORWARD_SOCKS) || f->is_loopback ||
            ip_is_loopback(f->address))
            continue;
        write_local(&address, f);
        say("warning", "%s is open to other machines: whoever can connect to it reaches what it leads to",
            writer_terminate(&address));
        return;
    }
}

static void write_remote(struct writer *out, const struct local_forward *f)
{
    writer_format(out, strchr(f->host, ':') != NULL ? "[%s]:%u" : "%s:%u", f->host, f->host_port);
}

static void write_forward(struct json_writer *json, const struct local_forward *f)
{
    json_begin_object(json);
    if (f->kind == LOCAL_FORWARD_PATH)
        json_member_text(json, "path", f->path);
    else
        json_member_i64(json, "port", f->port);
    if (f->kind == LOCAL_FORWARD_SOCKS) {
        json_member_bool(json, "socks", true);
    } else {
        json_member_text(json, "host", f->host);
        json_member_i64(json, "host_port", f->host_port);
    }
    json_end_object(json);
}

static void write_ready(struct writer *out, const struct announce_facts *facts)
{
    struct json_writer json = json_writer_of(out);
    json_begin_object(&json);
    json_member_text(&json, "event", "ready");
    json_member_i64(&json, "pid", getpid());
    json_member_text(&json, "task", facts->task);
    json_member_text(&json, "agent_version", facts->agent_version);
    json_key(&json, "forwards");
    json_begin_array(&json);
    for (size_t i = 0; i < facts->count; i++)
        write_forward(&json, &facts->forwards[i]);
    json_end_array(&json);
    json_end_object(&json);
    writer_char(out, '\n');
}

/* Written beside its place, then renamed: whoever sees it sees it whole. */
static int write_ready_file(const struct announce *a, struct str text, struct error *err)
{
    char beside[1024];
    struct writer path = writer_of(beside, sizeof beside);
    writer_format(&path, "%s.%d", a->config->ready_file, (int) getpid());
    if (path.failed)
        return error_set(err, ERROR_TOO_LARGE, "the path of the ready file is too long");
    int fd = open(writer_terminate(&path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    bool written = fd >= 0 && console_write(fd, text);
    if (fd >= 0)
        close(fd);
    if (!written || rename(beside, a->config->ready_file) != 0) {
        int reason = errno;
        (void) unlink(beside);
        return error_set(err, ERROR_SYSTEM, "can't write the ready file %s: %s", a->config->ready_file,
                         strerror(reason));
    }
    return 0;
}

static void tell_people(const struct local_forward *f)
{
    char memory[SAY_SIZE];
    struct writer line = writer_of(memory, sizeof memory);
    if (f->kind == LOCAL_FORWARD_STDIO)
        return;
    write_local(&line, f);
    if (f->kind == LOCAL_FORWARD_SOCKS) {
        writer_text(&line, " is a SOCKS proxy");
    } else {
        writer_text(&line, " leads to ");
        write_remote(&line, f);
    }
    say("ready", "%s", writer_terminate(&line));
}

int announce_ready(struct announce *a, const struct announce_facts *facts, struct error *err)
{
    static char memory[ANNOUNCE_EVENT_SIZE];
    struct writer event = writer_of(memory, sizeof memory);
    int result = 0;
    write_ready(&event, facts);
    if (a->config->ready_file[0] != '\0') {
        result = write_ready_file(a, writer_view(&event), err);
        a->has_ready_file = result == 0;
    }
    if (a->config->output == FORWARD_OUTPUT_JSON)
        (void) console_write(STDOUT_FILENO, writer_view(&event));
    for (size_t i = 0; i < facts->count && a->config->output == FORWARD_OUTPUT_TEXT; i++)
        tell_people(&facts->forwards[i]);
    return result;
}

void announce_close(struct announce *a)
{
    if (a->has_ready_file)
        (void) unlink(a->config->ready_file);
    a->has_ready_file = false;
}
