#include "host/health_socket.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/env.h"
#include "base/json.h"
#include "host/console.h"
#include "host/log.h"

#define NAME_PREFIX "fumidai-health/"

/* ---- the name of the socket ---------------------------------------------------------------------------- */

static int find_name(char *const *env, enum health_place place, struct sockaddr_un *name, socklen_t *len,
                     struct error *err)
{
    struct str url = env_get(env, "ECS_CONTAINER_METADATA_URI_V4");
    struct str head, id;
    struct stat namespace;
    char memory[24];
    struct writer number = writer_of(memory, sizeof memory);
    while (str_ends_with(url, "/"))
        url.len--;
    bool is_in_ecs = str_cut_last(url, '/', &head, &id) && id.len > 0;
    if (!is_in_ecs && place == HEALTH_ANYWHERE && stat("/proc/self/ns/pid", &namespace) == 0) {
        writer_u64_decimal(&number, namespace.st_ino);
        id = writer_view(&number);
    } else if (!is_in_ecs)
        return error_set(err, ERROR_UNSUPPORTED,
                         "this is not a container of an ECS task: ECS_CONTAINER_METADATA_URI_V4 has none");
    memset(name, 0, sizeof *name);
    name->sun_family = AF_UNIX;
    /* An abstract name begins with a NUL and is not terminated. */
    struct writer path = writer_of(name->sun_path, sizeof name->sun_path);
    writer_char(&path, '\0');
    writer_text(&path, NAME_PREFIX);
    writer_str(&path, id);
    if (path.failed)
        return error_set(err, ERROR_TOO_LARGE, "ECS_CONTAINER_METADATA_URI_V4 ends in a name of %zu bytes",
                         id.len);
    *len = (socklen_t) (offsetof(struct sockaddr_un, sun_path) + path.len);
    return 0;
}

/* ---- the one that is asked ----------------------------------------------------------------------------- */

static void answer(struct health_socket *health, int fd)
{
    char memory[HEALTH_LINE_SIZE];
    struct writer line = writer_of(memory, sizeof memory);
    health->write(health, &line);
    (void) send(fd, line.start, line.len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void asked(struct loop_watch *watch, uint32_t events)
{
    struct health_socket *health = LOOP_OWNER(watch, struct health_socket, watch);
    (void) events;
    for (int i = 0; i < HEALTH_ANSWERS_MAX; i++) {
        int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            break;
        answer(health, fd);
        close(fd);
    }
    /* Also after a failure: without descriptors, accept would fail again at once, and for ever. */
    loop_watch_set(health->loop, watch, 0);
    loop_timer_set(health->loop, &health->rest, loop_now_ms(health->loop) + HEALTH_REST_MS);
}

static void rested(struct loop_timer *timer)
{
    struct health_socket *health = LOOP_OWNER(timer, struct health_socket, rest);
    loop_watch_set(health->loop, &health->watch, EPOLLIN);
}

static int listen_at(char *const *env, enum health_place place, int *fd, struct error *err)
{
    struct sockaddr_un name;
    socklen_t len = 0;
    int result = find_name(env, place, &name, &len, err);
    if (result < 0)
        return result;
    *fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (*fd >= 0 && bind(*fd, (struct sockaddr *) &name, len) == 0 && listen(*fd, HEALTH_ANSWERS_MAX) == 0)
        return 0;
    error_set(err, ERROR_SYSTEM, "listen at the abstract name %s: %s", name.sun_path + 1, strerror(errno));
    if (*fd >= 0)
        close(*fd);
    return err->code;
}

void health_socket_open(struct health_socket *health, struct loop *loop, char *const *env,
                        enum health_place place,
                        void (*write)(struct health_socket *socket, struct writer *line))
{
    struct error err = ERROR_INIT;
    int fd;
    *health = (struct health_socket){.loop = loop, .write = write, .watch = LOOP_WATCH_INIT};
    loop_timer_init(&health->rest, rested);
    int result = listen_at(env, place, &fd, &err);
    if (result == 0) {
        result = loop_watch_add(loop, &health->watch, fd, EPOLLIN, asked, &err);
        if (result < 0)
            close(fd);
    }
    if (result < 0)
        log_event(result == ERROR_UNSUPPORTED || place == HEALTH_ANYWHERE ? LOG_DEBUG : LOG_WARN,
                  "health can't be asked of this task", LOG_ERR(&err));
}

void health_socket_close(struct health_socket *health)
{
    int fd = health->watch.fd;
    if (health->loop == NULL)
        return;
    loop_timer_remove(health->loop, &health->rest);
    if (fd < 0)
        return;
    loop_watch_remove(health->loop, &health->watch);
    close(fd);
}

/* ---- the health check's end ---------------------------------------------------------------------------- */

static int connect_to_it(int fd, char *const *env, struct error *err)
{
    struct sockaddr_un name;
    socklen_t len = 0;
    struct timeval patience = {.tv_sec = HEALTH_TIMEOUT_MS / 1000,
                               .tv_usec = HEALTH_TIMEOUT_MS % 1000 * 1000};
    struct ucred peer = {0};
    socklen_t peer_len = sizeof peer;
    int result = find_name(env, HEALTH_ANYWHERE, &name, &len, err);
    if (result < 0)
        return result;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) < 0 || /* connect's too */
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) < 0)
        return error_set(err, ERROR_SYSTEM, "set the time-outs: %s", strerror(errno));
    if (connect(fd, (struct sockaddr *) &name, len) < 0)
        return error_set(err, ERROR_CLOSED, "no fumidai answers at the abstract name %s: %s",
                         name.sun_path + 1, errno == EAGAIN ? "too many ask at once" : strerror(errno));
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) < 0)
        return error_set(err, ERROR_SYSTEM, "who answers: %s", strerror(errno));
    if (peer.pid == 0) /* no number in our namespace */
        return error_set(err, ERROR_DENIED, "a process of another container answers at the abstract name %s",
                         name.sun_path + 1);
    return 0;
}

static int receive(int fd, char line[HEALTH_LINE_SIZE], struct error *err)
{
    ssize_t got = recv(fd, line, HEALTH_LINE_SIZE - 1, 0);
    if (got > 0) {
        line[got] = '\0';
        return 0;
    }
    line[0] = '\0';
    if (got < 0 && errno == EAGAIN)
        return error_set(err, ERROR_TIMEOUT, "it did not answer within %d ms", HEALTH_TIMEOUT_MS);
    return error_set(err, ERROR_CLOSED, "it did not answer: %s", got < 0 ? strerror(errno) : "closed");
}

/* The line is our own, of the same program: how it begins says it all. */
static int read_line(const char *line, struct error *err)
{
    struct str text = str_from(line);
    if (str_starts_with(text, "{\"healthy\":true,"))
        return 0;
    if (str_starts_with(text, "{\"healthy\":false,"))
        return error_set(err, ERROR_UNAVAILABLE, "unhealthy");
    return error_set(err, ERROR_INVALID, "the answer is malformed");
}

int health_ask(char *const *env, char line[HEALTH_LINE_SIZE], struct error *err)
{
    line[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_set(err, ERROR_SYSTEM, "make a socket: %s", strerror(errno));
    int result = connect_to_it(fd, env, err);
    if (result == 0)
        result = receive(fd, line, err);
    close(fd);
    if (result == 0)
        result = read_line(line, err);
    if (result < 0 && result != ERROR_UNAVAILABLE)
        line[0] = '\0'; /* not to be printed */
    return result;
}

int health_run(char *const *env)
{
    char line[HEALTH_LINE_SIZE];
    struct error err = ERROR_INIT;
    int result = health_ask(env, line, &err);
    if (line[0] == '\0') {
        struct writer out = writer_of(line, sizeof line);
        struct json_writer j = json_writer_of(&out);
        json_begin_object(&j);
        json_member_bool(&j, "healthy", false);
        json_member_text(&j, "reason", err.text);
        json_end_object(&j);
        writer_terminate(&out);
    }
    bool said = console_write(STDOUT_FILENO, str_from(line)) && console_write(STDOUT_FILENO, str_from("\n"));
    return said && result == 0 ? 0 : 1;
}
