#include "run/stdio_pump.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/clock.h"

enum { SIZE = 300 * 1000, LIMIT_MS = 10 * 1000 };

static struct loop loop;
static struct stdio_pump pump;
static int kept_in, kept_out; /* the test's own descriptors 0 and 1 */
static int far;               /* what stdio_pump_open gives away */
static bool over;
static uint8_t sent[SIZE], got[SIZE];

static void pump_over(struct stdio_pump *which)
{
    assert_ptr_equal(which, &pump);
    assert_false(over);
    over = true;
}

/* Makes these the program's standard input and output, and opens the pump. */
static void begin(int in, int out)
{
    over = false;
    assert_int_equal(dup2(in, STDIN_FILENO), STDIN_FILENO);
    assert_int_equal(dup2(out, STDOUT_FILENO), STDOUT_FILENO);
    close(in);
    close(out);
    assert_int_equal(loop_open(&loop, NULL), 0);
    assert_int_equal(stdio_pump_open(&pump, &loop, pump_over, &far, NULL), 0);
}

static void end(void)
{
    stdio_pump_close(&pump);
    stdio_pump_close(&pump);
    close(far);
    loop_close(&loop);
    assert_int_equal(dup2(kept_in, STDIN_FILENO), STDIN_FILENO);
    assert_int_equal(dup2(kept_out, STDOUT_FILENO), STDOUT_FILENO);
}

static int setup(void **state)
{
    (void) state;
    kept_in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10);
    kept_out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);
    for (size_t i = 0; i < SIZE; i++)
        sent[i] = (uint8_t) (i * 7 + i / 251);
    memset(got, 0, sizeof got);
    return kept_in < 0 && kept_out < 0;
}

static int teardown(void **state)
{
    (void) state;
    close(kept_in);
    close(kept_out);
    return 0;
}

/* Turns until `done`, or the time is over. */
static bool runs_until(bool (*done)(void))
{
    int64_t late_ms = clock_monotonic_ms() + LIMIT_MS;
    while (!done() && clock_monotonic_ms() < late_ms)
        assert_int_equal(loop_turn(&loop, 5, NULL), 0);
    return done();
}

static size_t far_got;
static bool far_ended;

static bool far_read_all(void)
{
    ssize_t n;
    while ((n = recv(far, got + far_got, SIZE - far_got, MSG_DONTWAIT)) > 0)
        far_got += (size_t) n;
    far_ended = far_ended || (n == 0 && far_got < SIZE) || recv(far, &(char){0}, 1, MSG_DONTWAIT) == 0;
    return far_ended;
}

static bool is_over(void)
{
    return over;
}

static void a_file_goes_in_and_its_end_becomes_the_half_close(void **state)
{
    (void) state;
    char name[] = "/tmp/stdio-pump-XXXXXX";
    int file = mkstemp(name);
    int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(file, sent, SIZE), SIZE);
    assert_int_equal(lseek(file, 0, SEEK_SET), 0);
    unlink(name);
    far_got = 0;
    far_ended = false;
    begin(file, nothing);
    bool all = runs_until(far_read_all);
    bool early = over;
    end();
    assert_true(all);
    assert_false(early); /* the other direction goes on */
    assert_int_equal(far_got, SIZE);
    assert_memory_equal(got, sent, SIZE);
}

static size_t pipe_got;
static size_t far_sent;
static int pipe_out;

/* Writes at the far end and reads what comes out of the pipe, little by little. */
static bool pipe_read_all(void)
{
    ssize_t n;
    if (far_sent < SIZE && (n = send(far, sent + far_sent, SIZE - far_sent, MSG_DONTWAIT)) > 0) {
        far_sent += (size_t) n;
        if (far_sent == SIZE)
            shutdown(far, SHUT_WR);
    }
    n = read(pipe_out, got + pipe_got, pipe_got + 1000 < SIZE ? 1000 : SIZE - pipe_got);
    pipe_got += n > 0 ? (size_t) n : 0;
    return pipe_got == SIZE;
}

static void what_comes_goes_to_a_slow_pipe_whole(void **state)
{
    (void) state;
    int in[2];
    int out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    pipe_out = out[0];
    assert_int_equal(fcntl(pipe_out, F_SETFL, O_NONBLOCK), 0);
    far_sent = pipe_got = 0;
    begin(in[0], out[1]);
    bool all = runs_until(pipe_read_all);
    bool ended = runs_until(is_over);
    end();
    assert_true(all);
    assert_true(ended);
    assert_memory_equal(got, sent, SIZE);
    close(in[1]);
    close(out[0]);
}

static void nobody_reads_standard_output_any_more(void **state)
{
    (void) state;
    int in[2];
    int out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    close(out[0]);
    begin(in[0], out[1]);
    assert_int_equal(send(far, sent, 1000, 0), 1000);
    bool ended = runs_until(is_over);
    end();
    assert_true(ended);
    close(in[1]);
}

static unsigned turns;

static bool many_turns(void)
{
    return ++turns > 20;
}

/* A pipe whose writer has gone says so again and again: the loop must not spin while nothing can be read. */
static void an_ended_input_wakes_nobody(void **state)
{
    (void) state;
    int in[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
    begin(in[0], nothing);
    close(in[1]);
    turns = 0;
    runs_until(many_turns);
    int64_t began_ms = clock_monotonic_ms();
    turns = 0;
    runs_until(many_turns);
    int64_t took_ms = clock_monotonic_ms() - began_ms;
    end();
    assert_true(took_ms >= 50); /* 20 waits of 5 ms */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_goes_in_and_its_end_becomes_the_half_close),
        TEST(what_comes_goes_to_a_slow_pipe_whole),
        TEST(nobody_reads_standard_output_any_more),
        TEST(an_ended_input_wakes_nobody),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("stdio_pump", tests, NULL, NULL);
}
