#include "client/announce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <unistd.h>

#include "client/background.h"
#include "client/say.h"
#include "host/files.h"

static char directory[] = "/tmp/announce.XXXXXX";
static char ready_path[64], pid_path[64];
static char text[ANNOUNCE_EVENT_SIZE];

static const char *content(const char *path)
{
    struct str view;
    if (files_read(path, text, sizeof text - 1, &view, NULL) < 0)
        return NULL;
    text[view.len] = '\0';
    return text;
}

static struct forward_settings settings_with(uint32_t ready_fd)
{
    return (struct forward_settings){
        .ready_file = ready_path, .pid_file = pid_path, .ready_fd = ready_fd, .output = FORWARD_OUTPUT_TEXT};
}

static int setup(void **state)
{
    (void) state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(ready_path, sizeof ready_path, "%s/ready", directory);
    snprintf(pid_path, sizeof pid_path, "%s/pid", directory);
    say_open(FORWARD_OUTPUT_TEXT);
    return 0;
}

static int teardown(void **state)
{
    (void) state;
    return rmdir(directory); /* nothing is left in it */
}

static int open_notify(struct sockaddr_un *name, socklen_t len)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *) name, len), 0);
    return fd;
}

static void want_packet(int fd, const char *want)
{
    char packet[100];
    ssize_t got = recv(fd, packet, sizeof packet - 1, 0);
    assert_true(got >= 0);
    packet[got] = '\0';
    assert_string_equal(packet, want);
}

/* One run, with everybody told. */
static void run(char *notify, int notify_fd)
{
    struct local_forward forwards[4];
    struct announce_facts facts = {forwards, 4, "0f3a", "3.3.4624.0"};
    struct announce announce;
    struct error err = ERROR_INIT;
    char *env[] = {notify, NULL};
    char want[1000];
    int ends[2];
    assert_int_equal(local_forward_parse_port(&forwards[0], str_from("40123:db.internal:5439"), NULL), 0);
    assert_int_equal(local_forward_parse_port(&forwards[1], str_from("/run/x/s:[::1]:1"), NULL), 0);
    assert_int_equal(local_forward_parse_socks(&forwards[2], str_from("1080"), NULL), 0);
    assert_int_equal(local_forward_parse_stdio(&forwards[3], str_from("h:22"), NULL), 0);
    snprintf(
        want, sizeof want,
        "{\"event\":\"ready\",\"pid\":%d,\"task\":\"0f3a\",\"agent_version\":\"3.3.4624.0\",\"forwards\":["
        "{\"port\":40123,\"host\":\"db.internal\",\"host_port\":5439},"
        "{\"path\":\"/run/x/s\",\"host\":\"::1\",\"host_port\":1},{\"port\":1080,\"socks\":true}]}\n",
        getpid());
    assert_int_equal(pipe(ends), 0);
    struct forward_settings config = settings_with((uint32_t) ends[1]);
    setenv("NOTIFY_SOCKET", "x", 1);
    assert_int_equal(announce_open(&announce, &config, env, &err), 0);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_int_equal(announce_begin(&announce, &err), 0);
    char pid[16];
    snprintf(pid, sizeof pid, "%d\n", getpid());
    assert_string_equal(content(pid_path), pid);
    assert_null(content(ready_path));
    assert_int_equal(announce_ready(&announce, &facts, &err), 0);
    assert_string_equal(content(ready_path), want);
    ssize_t got = read(ends[0], text, sizeof text); /* whole, then its end */
    assert_int_equal(got, strlen(want));
    assert_memory_equal(text, want, strlen(want));
    assert_int_equal(read(ends[0], text, sizeof text), 0);
    close(ends[0]);
    snprintf(want, sizeof want, "READY=1\nMAINPID=%d", getpid());
    want_packet(notify_fd, want);
    announce_stopping(&announce);
    announce_stopping(&announce);
    want_packet(notify_fd, "STOPPING=1");
    assert_null(content(ready_path));
    assert_non_null(content(pid_path));
    announce_close(&announce);
    assert_null(content(pid_path));
    assert_int_equal(recv(notify_fd, text, sizeof text, 0), -1);
}

static void everybody_is_told_by_a_path(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char notify[160];
    (void) state;
    snprintf(name.sun_path, sizeof name.sun_path, "%s/notify", directory);
    snprintf(notify, sizeof notify, "NOTIFY_SOCKET=%s", name.sun_path);
    int fd = open_notify(&name, sizeof name);
    run(notify, fd);
    close(fd);
    unlink(name.sun_path);
}

static void everybody_is_told_by_an_abstract_name(void **state)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char notify[160];
    (void) state;
    int len = snprintf(name.sun_path, sizeof name.sun_path, "@announce-%d", getpid());
    snprintf(notify, sizeof notify, "NOTIFY_SOCKET=%s", name.sun_path);
    name.sun_path[0] = '\0';
    int fd = open_notify(&name, (socklen_t) (offsetof(struct sockaddr_un, sun_path) + (size_t) len));
    run(notify, fd);
    close(fd);
}

static void a_descriptor_that_is_not_open_is_an_error(void **state)
{
    struct forward_settings config = settings_with(1000);
    struct announce announce;
    struct error err = ERROR_INIT;
    (void) state;
    assert_int_equal(announce_open(&announce, &config, NULL, &err), ERROR_INVALID);
    assert_string_equal(err.text, "--ready-fd: descriptor 1000 is not open");
    announce_close(&announce);
}

static void the_background_keeps_what_it_is_told_to(void **state)
{
    struct background background = BACKGROUND_INIT;
    struct error err = ERROR_INIT;
    int kept[2];
    int status = 77;
    char byte;
    (void) state;
    assert_int_equal(pipe(kept), 0);
    pid_t test = getpid();
    if (!background_begin(&background, kept[1], &status)) { /* the child */
        bool good = getppid() == test && background_leave(&background, &err) == 0 && getsid(0) == getpid() &&
                    fcntl(kept[0], F_GETFD) < 0 && write(kept[1], "k", 1) == 1;
        _exit(good ? 0 : 1);
    }
    assert_int_equal(status, 0);
    assert_int_equal(read(kept[0], &byte, 1), 1);
    assert_int_equal(byte, 'k');
    if (!background_begin(&background, -1, &status)) /* one that fails before it is ready */
        _exit(5);
    assert_int_equal(status, 5);
    close(kept[0]);
    close(kept[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_is_told_by_a_path),
        cmocka_unit_test(everybody_is_told_by_an_abstract_name),
        cmocka_unit_test(a_descriptor_that_is_not_open_is_an_error),
        cmocka_unit_test(the_background_keeps_what_it_is_told_to),
    };
    return cmocka_run_group_tests_name("announce", tests, setup, teardown);
}
