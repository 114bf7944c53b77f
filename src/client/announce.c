#include "client/announce.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "base/json.h"
#include "client/say.h"
#include "host/console.h"

/* sd_notify(3). An abstract name begins with a NUL and is not terminated. */
static void find_notify_socket(struct announce *a, struct str name)
{
    if (name.len == 0 || name.len > sizeof a->notify.sun_path || (name.ptr[0] != '/' && name.ptr[0] != '@'))
        return;
    a->notify.sun_family = AF_UNIX;
    memcpy(a->notify.sun_path, name.ptr, name.len);
    if (name.ptr[0] == '@')
        a->notify.sun_path[0] = '\0';
    a->notify_len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + name.len);
}

static void notify(const struct announce *a, const char *text)
{
    if (a->notify_len == 0)
        return;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 ||
        sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *) &a->notify, a->notify_len) < 0)
        say("error", "can't say %s to NOTIFY_SOCKET: %s", text, strerror(errno));
    if (fd >= 0)
        close(fd);
}

int announce_open(struct announce *a, const struct forward_settings *config, char *const *env,
                  struct error *err)
{
    int fd = config->ready_fd > 0 ? (int) config->ready_fd : -1;
    *a =
        (struct announce){.config = config, .ready_file = CLAIM_INIT, .pid_file = CLAIM_INIT, .ready_fd = fd};
    find_notify_socket(a, env_get(env, "NOTIFY_SOCKET"));
    (void) unsetenv("NOTIFY_SOCKET");
    if (fd >= 0 && (fcntl(fd, F_GETFD) < 0 || (fd > STDERR_FILENO && fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)))
        return error_set(err, ERROR_INVALID, "--ready-fd: descriptor %d is not open", fd);
    return 0;
}

int announce_begin(struct announce *a, struct error *err)
{
    const struct forward_settings *config = a->config;
    char memory[16];
    struct writer pid = writer_of(memory, sizeof memory);
    writer_format(&pid, "%d\n", (int) getpid());
    int result = config->ready_file[0] != '\0' ? claim_clear(config->ready_file, err) : 0;
    if (result == 0 && config->pid_file[0] != '\0')
        result = claim_take(&a->pid_file, config->pid_file, writer_view(&pid), err);
    return result;
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
        if (facts->forwards[i].kind != LOCAL_FORWARD_STDIO)
            write_forward(&json, &facts->forwards[i]);
    json_end_array(&json);
    json_end_object(&json);
    writer_char(out, '\n');
}

static int tell_descriptor(struct announce *a, struct str event, struct error *err)
{
    bool written = console_write(a->ready_fd, event);
    int reason = errno;
    if (a->ready_fd > STDERR_FILENO)
        close(a->ready_fd);
    a->ready_fd = -1;
    return written ? 0 : error_set(err, ERROR_SYSTEM, "--ready-fd: can't write: %s", strerror(reason));
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
    if (a->config->ready_file[0] != '\0')
        result = claim_take(&a->ready_file, a->config->ready_file, writer_view(&event), err);
    if (result == 0 && a->ready_fd >= 0)
        result = tell_descriptor(a, writer_view(&event), err);
    if (result < 0)
        return result;
    if (a->config->output == FORWARD_OUTPUT_JSON)
        (void) console_write(STDOUT_FILENO, writer_view(&event));
    for (size_t i = 0; i < facts->count && a->config->output == FORWARD_OUTPUT_TEXT; i++)
        tell_people(&facts->forwards[i]);
    a->is_ready = true;
    char text[48];
    struct writer message = writer_of(text, sizeof text);
    writer_format(&message, "READY=1\nMAINPID=%d", (int) getpid());
    notify(a, writer_terminate(&message));
    return 0;
}

void announce_stopping(struct announce *a)
{
    if (a->is_ready)
        notify(a, "STOPPING=1");
    a->is_ready = false;
    claim_drop(&a->ready_file);
}

void announce_close(struct announce *a)
{
    announce_stopping(a);
    claim_drop(&a->pid_file);
}
