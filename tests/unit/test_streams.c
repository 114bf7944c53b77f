#include "tunnel/streams.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { INPUT_MAX = 70000, NOW_MS = 1000 };

/* A port session, and what has been fed to it but not taken. */
struct rig {
    struct port_session ps;
    void *memory;
    uint8_t input[INPUT_MAX];
    size_t input_len;
    struct port_action action;
    struct error err;
};

static int set_up(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);
    assert_non_null(rig);
    rig->memory = calloc(1, PORT_SESSION_MEMORY_SIZE);
    assert_non_null(rig->memory);
    port_session_init(&rig->ps, rig->memory, PORT_MULTIPLEXED, false);
    *state = rig;
    return 0;
}

static int tear_down(void **state)
{
    struct rig *rig = *state;
    free(rig->memory);
    free(rig);
    return 0;
}

static void restart(struct rig *rig, enum port_mode mode, bool half_close)
{
    memset(rig->memory, 0, PORT_SESSION_MEMORY_SIZE);
    rig->input_len = 0;
    port_session_init(&rig->ps, rig->memory, mode, half_close);
}

static void feed(struct rig *rig, const void *data, size_t len)
{
    assert_true(rig->input_len + len <= INPUT_MAX);
    if (len > 0)
        memcpy(rig->input + rig->input_len, data, len);
    rig->input_len += len;
}

static void feed_frame(struct rig *rig, enum smux_command command, uint32_t id, const void *data, size_t len)
{
    uint8_t header[SMUX_HEADER_SIZE];
    smux_write_header(header, command, id, (uint16_t) len);
    feed(rig, header, sizeof header);
    if (len > 0)
        feed(rig, data, len);
}

/* One step; what was used is taken off the input, except under an offer, which `wrote` does. */
static enum port_todo step_at(struct rig *rig, int64_t now_ms)
{
    size_t used;
    assert_int_equal(
        port_session_receive(&rig->ps, now_ms, rig->input, rig->input_len, &used, &rig->action, &rig->err),
        0);
    if (rig->action.todo == PORT_TODO_WRITE) {
        static uint8_t offered[INPUT_MAX];
        assert_true(rig->action.data >= rig->input &&
                    rig->action.data + rig->action.len == rig->input + used);
        memcpy(offered, rig->action.data, rig->action.len);
        rig->action.data = offered;
        rig->ps.offer = offered;
    }
    memmove(rig->input, rig->input + used, rig->input_len - used);
    rig->input_len -= used;
    return rig->action.todo;
}

static enum port_todo step(struct rig *rig)
{
    return step_at(rig, NOW_MS);
}

static uint16_t open_stream(struct rig *rig, uint32_t id)
{
    struct port_action action;
    feed_frame(rig, SMUX_SYN, id, "", 0);
    assert_int_equal(step(rig), PORT_TODO_DIAL);
    uint16_t stream = rig->action.stream;
    port_session_connected(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    return stream;
}

/* Data for a target that takes `taken` bytes of it. */
static void send_to(struct rig *rig, uint32_t id, const void *data, size_t len, size_t taken)
{
    feed_frame(rig, SMUX_PSH, id, data, len);
    assert_int_equal(step(rig), PORT_TODO_WRITE);
    assert_int_equal(rig->action.len, len);
    assert_memory_equal(rig->action.data, data, len);
    port_session_wrote(&rig->ps, NOW_MS, taken);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
}

/* The stream whose turn it is must be this one, and want its FIN. */
static enum port_todo send_fin(struct rig *rig, uint16_t stream)
{
    struct port_action action;
    assert_true(port_session_wants_fin(&rig->ps, stream));
    port_session_fin_sent(&rig->ps, stream, NOW_MS, &action);
    return action.todo;
}

static uint8_t zeroes[65536];

/* Fills what may be held for a stream. */
static void fill_up(struct rig *rig, uint32_t id, size_t total)
{
    for (size_t n = 0; n < total;) {
        size_t len = total - n < 65535 ? total - n : 65535;
        feed_frame(rig, SMUX_PSH, id, zeroes, len);
        while (rig->input_len > 0) {
            enum port_todo todo = step(rig);
            if (todo == PORT_TODO_WRITE)
                port_session_wrote(&rig->ps, NOW_MS, 0);
            else if (rig->input_len > 0)
                fail_msg("blocked after %zu bytes", n);
        }
        n += len;
    }
}

/* ---- the stream's life --------------------------------------------------------------------------------- */

static void a_stream_lives_and_ends_as_aws_client_does_it(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    uint16_t next;
    uint16_t stream = open_stream(rig, 3);
    assert_int_equal(port_session_open_streams(&rig->ps), 1);
    send_to(rig, 3, "hello", 5, 5);
    assert_int_equal(port_session_stream(&rig->ps, stream)->bytes_to_target, 5);

    port_session_readable(&rig->ps, stream, NOW_MS);
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_int_equal(next, stream);
    assert_false(port_session_wants_fin(&rig->ps, stream));
    port_session_sent(&rig->ps, stream, NOW_MS, 7, false);
    assert_false(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_int_equal(port_session_stream(&rig->ps, stream)->bytes_to_client, 7);

    /* The client's FIN is the end of both directions. */
    feed_frame(rig, SMUX_FIN, 3, "", 0);
    assert_int_equal(step(rig), PORT_TODO_END_WRITE);
    port_session_readable(&rig->ps, stream, NOW_MS); /* what it still says has no reader */
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_true(port_session_wants_fin(&rig->ps, next));
    port_session_fin_sent(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_CLOSE);
    assert_string_equal(action.why, "both ends are done");
    assert_int_equal(port_session_open_streams(&rig->ps), 0);
    assert_int_equal(rig->ps.total_streams, 1);
}

static void pitfall_16_half_close_keeps_the_answer(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    uint16_t next;
    restart(rig, PORT_MULTIPLEXED, true);
    uint16_t stream = open_stream(rig, 3);
    feed_frame(rig, SMUX_FIN, 3, "", 0);
    assert_int_equal(step(rig), PORT_TODO_END_WRITE);
    assert_false(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    port_session_readable(&rig->ps, stream, NOW_MS);
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_false(port_session_wants_fin(&rig->ps, stream));
    port_session_sent(&rig->ps, stream, NOW_MS, 100, true);
    port_session_target_ended(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    assert_int_equal(send_fin(rig, stream), PORT_TODO_CLOSE);
    assert_int_equal(port_session_open_streams(&rig->ps), 0);
}

static void the_targets_end_comes_first(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    uint16_t stream = open_stream(rig, 3);
    port_session_readable(&rig->ps, stream, NOW_MS);
    port_session_target_ended(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    assert_int_equal(send_fin(rig, stream), PORT_TODO_NOTHING);
    /* What the client says until its own FIN is still delivered. */
    send_to(rig, 3, "late", 4, 4);
    feed_frame(rig, SMUX_FIN, 3, "", 0);
    assert_int_equal(step(rig), PORT_TODO_CLOSE);
    assert_int_equal(port_session_open_streams(&rig->ps), 0);
}

static void both_ends_cross(void **state)
{
    for (int half_close = 0; half_close < 2; half_close++) {
        struct rig *rig = *state;
        struct port_action action;
        restart(rig, PORT_MULTIPLEXED, half_close);
        uint16_t stream = open_stream(rig, 3);
        port_session_readable(&rig->ps, stream, NOW_MS);
        port_session_target_ended(&rig->ps, stream, NOW_MS, &action);
        feed_frame(rig, SMUX_FIN, 3, "", 0); /* before ours was sent */
        assert_int_equal(step(rig), PORT_TODO_END_WRITE);
        assert_int_equal(send_fin(rig, stream), PORT_TODO_CLOSE);
        assert_int_equal(port_session_open_streams(&rig->ps), 0);
        feed_frame(rig, SMUX_FIN, 3, "", 0);
        assert_int_equal(step(rig), PORT_TODO_NOTHING);
    }
}

static void what_was_sent_before_fin_reaches_the_target(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    size_t len;
    uint16_t stream = open_stream(rig, 3);
    send_to(rig, 3, "abcdef", 6, 2);
    feed_frame(rig, SMUX_PSH, 3, "gh", 2);
    feed_frame(rig, SMUX_FIN, 3, "", 0);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 0);
    assert_memory_equal(port_session_held(&rig->ps, stream, &len), "cdefgh", 6);
    assert_int_equal(len, 6);
    port_session_took(&rig->ps, stream, NOW_MS, 5, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    assert_memory_equal(port_session_held(&rig->ps, stream, &len), "h", 1);
    port_session_took(&rig->ps, stream, NOW_MS, 1, &action);
    assert_int_equal(action.todo, PORT_TODO_END_WRITE);
    assert_null(port_session_held(&rig->ps, stream, &len));
    assert_int_equal(len, 0);
    assert_int_equal(send_fin(rig, stream), PORT_TODO_CLOSE);
    assert_int_equal(rig->ps.chunks_used, 0);
}

static void what_was_sent_while_dialling_waits(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    size_t len;
    feed_frame(rig, SMUX_SYN, 3, "", 0);
    feed_frame(rig, SMUX_PSH, 3, "early", 5);
    feed_frame(rig, SMUX_FIN, 3, "", 0);
    assert_int_equal(step(rig), PORT_TODO_DIAL);
    uint16_t stream = rig->action.stream;
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 0);
    port_session_readable(&rig->ps, stream, NOW_MS); /* not yet */
    assert_false(port_session_pick(&rig->ps, PACER_INTERACTIVE, &stream));
    stream = 0;
    port_session_connected(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    assert_memory_equal(port_session_held(&rig->ps, stream, &len), "early", 5);
    port_session_took(&rig->ps, stream, NOW_MS, 5, &action);
    assert_int_equal(action.todo, PORT_TODO_END_WRITE);

    /* Without data the end is known at once. */
    feed_frame(rig, SMUX_SYN, 5, "", 0);
    feed_frame(rig, SMUX_FIN, 5, "", 0);
    assert_int_equal(step(rig), PORT_TODO_DIAL);
    stream = rig->action.stream;
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    port_session_connected(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_END_WRITE);
}

static void a_failed_dial_is_told_by_flag_and_fin(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    uint16_t next;
    feed_frame(rig, SMUX_SYN, 3, "", 0);
    feed_frame(rig, SMUX_PSH, 3, "lost", 4);
    assert_int_equal(step(rig), PORT_TODO_DIAL);
    uint16_t stream = rig->action.stream;
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    port_session_failed(&rig->ps, stream);
    assert_int_equal(rig->ps.chunks_used, 0);
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_true(port_session_wants_flag(&rig->ps, next));
    assert_false(port_session_wants_fin(&rig->ps, next));
    port_session_flag_sent(&rig->ps, next);
    assert_false(port_session_wants_flag(&rig->ps, next));
    /* It has gone, whatever comes for it. */
    feed_frame(rig, SMUX_PSH, 3, "dropped", 7);
    feed_frame(rig, SMUX_FIN, 3, "", 0);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 0);
    port_session_connected(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    port_session_failed(&rig->ps, stream);
    assert_false(port_session_wants_flag(&rig->ps, stream));
    assert_int_equal(send_fin(rig, stream), PORT_TODO_NOTHING); /* nothing to close */
    assert_int_equal(port_session_open_streams(&rig->ps), 0);
    assert_false(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
}

static void a_broken_connection_is_told_by_fin_once(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    uint16_t next;
    uint16_t stream = open_stream(rig, 3);
    feed_frame(rig, SMUX_PSH, 3, "abc", 3);
    assert_int_equal(step(rig), PORT_TODO_WRITE);
    port_session_broke(&rig->ps, stream); /* in the middle of the offer */
    port_session_wrote(&rig->ps, NOW_MS, 0);
    assert_int_equal(rig->ps.chunks_used, 0);
    assert_false(port_session_wants_flag(&rig->ps, stream));
    port_session_target_ended(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    assert_int_equal(send_fin(rig, stream), PORT_TODO_NOTHING);
    assert_int_equal(port_session_open_streams(&rig->ps), 0);

    /* It had ended, and the client knows. */
    stream = open_stream(rig, 5);
    port_session_target_ended(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(send_fin(rig, stream), PORT_TODO_NOTHING);
    port_session_broke(&rig->ps, stream);
    assert_int_equal(port_session_open_streams(&rig->ps), 0);
    assert_false(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    port_session_broke(&rig->ps, stream);
    assert_int_equal(port_session_open_streams(&rig->ps), 0);
}

static void frames_of_strangers_are_dropped(void **state)
{
    struct rig *rig = *state;
    feed_frame(rig, SMUX_PSH, 99, "who", 3);
    feed_frame(rig, SMUX_FIN, 99, "", 0);
    feed_frame(rig, SMUX_NOP, 0, "", 0);
    feed_frame(rig, SMUX_PSH, 7, "", 0);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 0);
    uint16_t stream = open_stream(rig, 3);
    feed_frame(rig, SMUX_SYN, 3, "", 0); /* twice */
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    send_to(rig, 3, "x", 1, 1);
    feed_frame(rig, SMUX_FIN, 3, "", 0);
    feed_frame(rig, SMUX_FIN, 3, "", 0); /* twice */
    feed_frame(rig, SMUX_PSH, 3, "after the end", 13);
    assert_int_equal(step(rig), PORT_TODO_END_WRITE);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 0);
    assert_int_equal(port_session_stream(&rig->ps, stream)->bytes_to_target, 1);
    assert_int_equal(send_fin(rig, stream), PORT_TODO_CLOSE);
    /* Its id may be used again. */
    assert_int_equal(open_stream(rig, 3), stream);
    assert_int_equal(rig->ps.total_streams, 2);
}

static void a_stream_that_goes_amid_its_frame_takes_the_rest_of_it_along(void **state)
{
    struct rig *rig = *state;
    uint16_t stream = open_stream(rig, 3);
    feed_frame(rig, SMUX_PSH, 3, "abcdefgh", 8);
    size_t kept = 5;
    rig->input_len -= kept;
    assert_int_equal(step(rig), PORT_TODO_WRITE);
    assert_int_equal(rig->action.len, 3);
    port_session_broke(&rig->ps, stream);
    assert_int_equal(send_fin(rig, stream), PORT_TODO_NOTHING);
    feed(rig, "defgh", kept);
    feed_frame(rig, SMUX_SYN, 5, "", 0);
    assert_int_equal(step(rig), PORT_TODO_DIAL); /* takes the slot, but none of the old bytes */
    assert_int_equal(rig->action.stream, stream);
    assert_int_equal(port_session_stream(&rig->ps, stream)->held, 0);
}

static void lost_framing_is_an_error_for_good(void **state)
{
    struct rig *rig = *state;
    uint8_t bad[SMUX_HEADER_SIZE] = {2, SMUX_SYN};
    size_t used;
    assert_int_equal(port_session_receive(&rig->ps, NOW_MS, bad, sizeof bad, &used, &rig->action, &rig->err),
                     ERROR_INVALID);
    assert_string_equal(rig->err.text, "smux: version 2, want 1");
    bad[0] = 1;
    assert_int_equal(port_session_receive(&rig->ps, NOW_MS, bad, sizeof bad, &used, &rig->action, &rig->err),
                     ERROR_INVALID);
}

static void takes_frames_cut_anywhere(void **state)
{
    struct rig *rig = *state;
    static uint8_t all[INPUT_MAX];
    static const char text[] = "two streams, interleaved";
    for (int i = 0; i < 2; i++)
        feed_frame(rig, SMUX_SYN, (uint32_t) (3 + 2 * i), "", 0);
    for (size_t i = 0; i < sizeof text; i += 5)
        for (int k = 0; k < 2; k++)
            feed_frame(rig, SMUX_PSH, (uint32_t) (3 + 2 * k), text + i,
                       sizeof text - i < 5 ? sizeof text - i : 5);
    size_t len = rig->input_len;
    memcpy(all, rig->input, len);
    for (size_t piece = 1; piece <= len; piece++) {
        char got[2][sizeof text];
        size_t got_len[2] = {0, 0};
        restart(rig, PORT_MULTIPLEXED, false);
        for (size_t at = 0; at < len; at += piece) {
            feed(rig, all + at, len - at < piece ? len - at : piece);
            while (step(rig) != PORT_TODO_NOTHING) {
                struct port_action action;
                if (rig->action.todo == PORT_TODO_DIAL) {
                    port_session_connected(&rig->ps, rig->action.stream, NOW_MS, &action);
                    continue;
                }
                memcpy(got[rig->action.stream] + got_len[rig->action.stream], rig->action.data,
                       rig->action.len);
                got_len[rig->action.stream] += rig->action.len;
                port_session_wrote(&rig->ps, NOW_MS, rig->action.len);
            }
        }
        for (int k = 0; k < 2; k++) {
            assert_int_equal(got_len[k], sizeof text);
            assert_memory_equal(got[k], text, sizeof text);
        }
    }
}

/* ---- bounds -------------------------------------------------------------------------------------------- */

static void the_thousand_and_first_stream_is_refused(void **state)
{
    struct rig *rig = *state;
    uint32_t id;
    bool flag_sent;
    for (uint32_t i = 0; i < PORT_STREAMS_MAX; i++)
        assert_int_equal(open_stream(rig, 3 + 2 * i), i);
    assert_false(port_session_refused(&rig->ps, &id, &flag_sent));
    for (uint32_t i = 0; i < PORT_REFUSED_MAX + 5; i++) {
        feed_frame(rig, SMUX_SYN, 10001 + 2 * i, "", 0);
        assert_int_equal(step(rig), PORT_TODO_NOTHING);
    }
    for (uint32_t i = 0; i < PORT_REFUSED_MAX; i++) {
        assert_true(port_session_refused(&rig->ps, &id, &flag_sent));
        assert_int_equal(id, 10001 + 2 * i);
        assert_false(flag_sent);
        port_session_refused_flag_sent(&rig->ps);
        assert_true(port_session_refused(&rig->ps, &id, &flag_sent));
        assert_true(flag_sent);
        port_session_refused_fin_sent(&rig->ps);
    }
    assert_false(port_session_refused(&rig->ps, &id, &flag_sent));
    assert_int_equal(port_session_open_streams(&rig->ps), PORT_STREAMS_MAX);
    /* Any of them ends: its slot serves the next. */
    feed_frame(rig, SMUX_FIN, 3 + 2 * 500, "", 0);
    assert_int_equal(step(rig), PORT_TODO_END_WRITE);
    assert_int_equal(send_fin(rig, 500), PORT_TODO_CLOSE);
    assert_int_equal(open_stream(rig, 20001), 500);
    for (uint32_t i = 0; i < PORT_STREAMS_MAX; i++) { /* each is found by its id */
        feed_frame(rig, SMUX_FIN, i == 500 ? 20001 : 3 + 2 * i, "", 0);
        assert_int_equal(step(rig), PORT_TODO_END_WRITE);
        assert_int_equal(rig->action.stream, i);
        assert_int_equal(send_fin(rig, (uint16_t) i), PORT_TODO_CLOSE);
    }
    assert_int_equal(port_session_open_streams(&rig->ps), 0);
}

static void holds_a_mebibyte_for_one_stream_and_then_pushes_back(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    size_t len;
    uint16_t stream = open_stream(rig, 3);
    fill_up(rig, 3, PORT_STREAM_HELD_MAX);
    assert_int_equal(port_session_stream(&rig->ps, stream)->held, PORT_STREAM_HELD_MAX);
    assert_int_equal(port_session_blocked_on(&rig->ps), PORT_NO_STREAM);
    feed_frame(rig, SMUX_PSH, 3, "one more", 8);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 8); /* its header is taken */
    assert_int_equal(port_session_blocked_on(&rig->ps), stream);
    assert_int_equal(step(rig), PORT_TODO_NOTHING); /* and again: nothing is lost, nothing moves */
    assert_int_equal(rig->input_len, 8);
    while (port_session_held(&rig->ps, stream, &len) != NULL)
        port_session_took(&rig->ps, stream, NOW_MS, len, &action);
    assert_int_equal(step(rig), PORT_TODO_WRITE);
    assert_memory_equal(rig->action.data, "one more", 8);
    assert_int_equal(port_session_blocked_on(&rig->ps), PORT_NO_STREAM);
}

static void takes_what_there_is_room_for(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    size_t len;
    uint16_t stream = open_stream(rig, 3);
    fill_up(rig, 3, PORT_STREAM_HELD_MAX - 3);
    feed_frame(rig, SMUX_PSH, 3, "abcdef", 6);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 3);
    assert_memory_equal(rig->input, "def", 3);
    port_session_held(&rig->ps, stream, &len);
    assert_int_equal(len, PORT_CHUNK_SIZE);
    port_session_took(&rig->ps, stream, NOW_MS, len, &action);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 0);
    assert_int_equal(port_session_stream(&rig->ps, stream)->held, PORT_STREAM_HELD_MAX - PORT_CHUNK_SIZE + 3);
}

static void never_holds_more_than_its_memory(void **state)
{
    struct rig *rig = *state;
    for (uint32_t i = 0; i < 5; i++)
        open_stream(rig, 3 + 2 * i);
    for (uint32_t i = 0; i < 3; i++)
        fill_up(rig, 3 + 2 * i, (size_t) 256 * PORT_CHUNK_SIZE);
    fill_up(rig, 9, (size_t) (PORT_HELD_CHUNKS - 3 * 256) * PORT_CHUNK_SIZE);
    assert_int_equal(rig->ps.chunks_used, PORT_HELD_CHUNKS);
    feed_frame(rig, SMUX_PSH, 11, "no room", 7);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 7);
    assert_int_equal(rig->ps.chunks_used, PORT_HELD_CHUNKS);
    port_session_broke(&rig->ps, 1);
    assert_int_equal(rig->ps.chunks_used, PORT_HELD_CHUNKS - 256);
    assert_int_equal(step(rig), PORT_TODO_WRITE);
    for (uint16_t i = 0; i < 5; i++)
        port_session_broke(&rig->ps, i);
    assert_int_equal(rig->ps.chunks_used, 0);
}

/* ---- stalls -------------------------------------------------------------------------------------------- */

static void pitfall_15_a_stalled_target_is_reset_when_others_wait(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    uint16_t stalled = open_stream(rig, 3);
    uint16_t other = open_stream(rig, 5);
    fill_up(rig, 3, PORT_STREAM_HELD_MAX);
    assert_int_equal(port_session_deadline(&rig->ps), INT64_MAX); /* nobody is held up yet */
    feed_frame(rig, SMUX_PSH, 3, "x", 1);
    assert_int_equal(step_at(rig, NOW_MS + 500), PORT_TODO_NOTHING);
    int64_t deadline_ms = NOW_MS + 500 + PORT_STALL_MS;
    assert_int_equal(port_session_deadline(&rig->ps), deadline_ms);
    port_session_tick(&rig->ps, deadline_ms - 1, true, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    /* A byte taken is a byte taken. */
    port_session_took(&rig->ps, stalled, NOW_MS + 1000, 1, &action);
    deadline_ms = NOW_MS + 1000 + PORT_STALL_MS;
    assert_int_equal(port_session_deadline(&rig->ps), deadline_ms);
    assert_int_equal(step_at(rig, NOW_MS + 1000), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 0); /* there was room for that one */
    feed_frame(rig, SMUX_PSH, 3, "y", 1);
    assert_int_equal(step_at(rig, NOW_MS + 1000), PORT_TODO_NOTHING);
    port_session_tick(&rig->ps, deadline_ms, true, &action);
    assert_int_equal(action.todo, PORT_TODO_RESET);
    assert_int_equal(action.stream, stalled);
    assert_string_equal(action.why, "the target took nothing for 30 s while other streams waited");
    assert_int_equal(rig->ps.chunks_used, 0);
    assert_int_equal(port_session_deadline(&rig->ps), INT64_MAX);
    port_session_tick(&rig->ps, deadline_ms, true, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    assert_int_equal(step(rig), PORT_TODO_NOTHING); /* the rest for it is dropped */
    assert_int_equal(rig->input_len, 0);
    assert_int_equal(send_fin(rig, stalled), PORT_TODO_NOTHING);
    send_to(rig, 5, "goes on", 7, 7);
    assert_int_equal(port_session_stream(&rig->ps, other)->state, PORT_STREAM_OPEN);
}

static void a_stalled_target_that_nobody_waits_for_may_take_its_time(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    open_stream(rig, 3);
    open_stream(rig, 5);
    fill_up(rig, 3, PORT_STREAM_HELD_MAX);
    feed_frame(rig, SMUX_PSH, 3, "x", 1);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    int64_t now_ms = port_session_deadline(&rig->ps);
    assert_int_equal(now_ms, NOW_MS + PORT_STALL_MS);
    for (int i = 0; i < 100; i++) {
        port_session_tick(&rig->ps, now_ms, false, &action);
        assert_int_equal(action.todo, PORT_TODO_NOTHING);
        assert_int_equal(port_session_deadline(&rig->ps), now_ms + PORT_STALL_CHECK_MS);
        now_ms += PORT_STALL_CHECK_MS;
    }
    port_session_tick(&rig->ps, now_ms, true, &action);
    assert_int_equal(action.todo, PORT_TODO_RESET);
}

/* What is not read for its sake may say that the session has ended long ago. */
static void a_target_that_takes_nothing_for_20_minutes_is_given_up(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    uint16_t stuck = open_stream(rig, 3);
    fill_up(rig, 3, PORT_STREAM_HELD_MAX);
    feed_frame(rig, SMUX_PSH, 3, "x", 1);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    port_session_tick(&rig->ps, NOW_MS + PORT_STUCK_MS - 1, false, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    port_session_tick(&rig->ps, port_session_deadline(&rig->ps), false, &action);
    assert_int_equal(action.todo, PORT_TODO_RESET);
    assert_int_equal(action.stream, stuck);
    assert_string_equal(action.why, "the target took nothing for 20 min");
    assert_int_equal(step(rig), PORT_TODO_NOTHING); /* the rest for it is dropped */
    assert_int_equal(rig->input_len, 0);
}

static void looks_ahead_for_streams_that_wait(void **state)
{
    struct rig *rig = *state;
    struct port_lookahead look;
    open_stream(rig, 3);
    fill_up(rig, 3, PORT_STREAM_HELD_MAX);
    feed_frame(rig, SMUX_PSH, 3, "its own", 7);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(port_session_blocked_on(&rig->ps), 0);
    feed_frame(rig, SMUX_PSH, 3, "and more of its own", 19);
    feed_frame(rig, SMUX_NOP, 0, "", 0);
    feed_frame(rig, SMUX_FIN, 3, "", 0);
    size_t own_len = rig->input_len;
    feed_frame(rig, SMUX_SYN, 5, "", 0);
    for (size_t cut = 0; cut <= rig->input_len; cut++) {
        port_lookahead_begin(&look, &rig->ps);
        assert_int_equal(port_lookahead_finds_others(&look, rig->input, cut), cut == rig->input_len);
        if (cut < rig->input_len)
            assert_true(port_lookahead_finds_others(&look, rig->input + cut, rig->input_len - cut));
    }
    rig->input[own_len] = 99; /* no smux: there is no point in waiting either */
    port_lookahead_begin(&look, &rig->ps);
    assert_true(port_lookahead_finds_others(&look, rig->input, rig->input_len));
}

static void pitfall_15_the_one_that_takes_nothing_is_reset_and_not_the_one_that_waits(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    for (uint32_t i = 0; i < 5; i++)
        open_stream(rig, 3 + 2 * i);
    for (uint32_t i = 0; i < 3; i++)
        fill_up(rig, 3 + 2 * i, (size_t) 256 * PORT_CHUNK_SIZE);
    fill_up(rig, 9, (size_t) (PORT_HELD_CHUNKS - 3 * 256) * PORT_CHUNK_SIZE);
    for (uint16_t i = 0; i < 4; i++)
        if (i != 2)
            port_session_took(&rig->ps, i, NOW_MS + 10, 1, &action);
    feed_frame(rig, SMUX_PSH, 11, "from a healthy one", 18);
    assert_int_equal(step_at(rig, NOW_MS + 20), PORT_TODO_NOTHING);
    assert_int_equal(port_session_blocked_on(&rig->ps), 2);
    port_session_tick(&rig->ps, NOW_MS + 20 + PORT_STALL_MS, true, &action);
    assert_int_equal(action.todo, PORT_TODO_RESET);
    assert_int_equal(action.stream, 2);
    assert_int_equal(step(rig), PORT_TODO_WRITE);
    assert_int_equal(rig->action.stream, 4);
}

/* ---- turns --------------------------------------------------------------------------------------------- */

static void streams_take_turns(void **state)
{
    struct rig *rig = *state;
    uint16_t next;
    for (uint32_t i = 0; i < 3; i++)
        port_session_readable(&rig->ps, open_stream(rig, 3 + 2 * i), NOW_MS);
    for (unsigned i = 0; i < 9; i++) {
        assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
        assert_int_equal(next, i % 3);
        port_session_sent(&rig->ps, next, NOW_MS, 10, true);
    }
    port_session_sent(&rig->ps, 1, NOW_MS, 10, false); /* out of the middle */
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_int_equal(next, 0);
    port_session_sent(&rig->ps, 0, NOW_MS, 10, true);
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_int_equal(next, 2);
    port_session_broke(&rig->ps, 2); /* keeps its turn for FIN */
    assert_int_equal(send_fin(rig, 2), PORT_TODO_NOTHING);
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_int_equal(next, 0);
    port_session_sent(&rig->ps, 0, NOW_MS, 0, false);
    assert_false(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
}

static void who_sends_much_is_bulk_until_it_was_quiet_for_a_while(void **state)
{
    struct rig *rig = *state;
    uint16_t next;
    uint16_t stream = open_stream(rig, 3);
    port_session_readable(&rig->ps, stream, NOW_MS);
    port_session_sent(&rig->ps, stream, NOW_MS, PORT_INTERACTIVE_MAX - 1, true);
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    port_session_sent(&rig->ps, stream, NOW_MS, 1, true);
    assert_false(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    assert_true(port_session_pick(&rig->ps, PACER_BULK, &next));
    port_session_sent(&rig->ps, stream, NOW_MS, 3 * PORT_INTERACTIVE_MAX, false);
    port_session_readable(&rig->ps, stream, NOW_MS + 2 * PORT_WEIGHT_HALF_MS);
    assert_true(port_session_pick(&rig->ps, PACER_BULK, &next)); /* 16 KiB halved twice */
    port_session_sent(&rig->ps, stream, NOW_MS + 2 * PORT_WEIGHT_HALF_MS, 0, false);
    port_session_readable(&rig->ps, stream, NOW_MS + 3 * PORT_WEIGHT_HALF_MS);
    assert_false(port_session_pick(&rig->ps, PACER_BULK, &next));
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
    port_session_sent(&rig->ps, stream, NOW_MS + 3 * PORT_WEIGHT_HALF_MS, 1000000, false);
    port_session_readable(&rig->ps, stream, NOW_MS + 1000 * PORT_WEIGHT_HALF_MS);
    assert_true(port_session_pick(&rig->ps, PACER_INTERACTIVE, &next));
}

/* ---- basic sessions ------------------------------------------------------------------------------------ */

static void basic_dials_anew_upon_the_next_data(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    restart(rig, PORT_BASIC_REDIAL, false);
    uint16_t stream = port_session_begin_basic(&rig->ps, NOW_MS);
    assert_int_equal(stream, 0);
    feed(rig, "first", 5);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(port_session_stream(&rig->ps, stream)->held, 5);
    port_session_connected(&rig->ps, stream, NOW_MS, &action);
    port_session_took(&rig->ps, stream, NOW_MS, 5, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    port_session_readable(&rig->ps, stream, NOW_MS);
    port_session_target_ended(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_CLOSE);
    assert_string_equal(action.why, "the target closed");
    assert_int_equal(step(rig), PORT_TODO_NOTHING); /* an empty message is no data */
    feed(rig, "second", 6);
    assert_int_equal(step(rig), PORT_TODO_DIAL);
    assert_int_equal(rig->input_len, 6);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 0);
    port_session_failed(&rig->ps, stream);
    feed(rig, "third", 5);
    assert_int_equal(step(rig), PORT_TODO_NOTHING); /* waits until the client has been told */
    assert_int_equal(rig->input_len, 5);
    assert_true(port_session_wants_flag(&rig->ps, stream));
    port_session_flag_sent(&rig->ps, stream);
    assert_int_equal(send_fin(rig, stream), PORT_TODO_NOTHING);
    assert_int_equal(step(rig), PORT_TODO_DIAL);
}

static void basic_disconnects_after_what_was_sent_before(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    restart(rig, PORT_BASIC_REDIAL, false);
    port_session_disconnect(&rig->ps, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING); /* there is nothing to close */
    uint16_t stream = port_session_begin_basic(&rig->ps, NOW_MS);
    port_session_connected(&rig->ps, stream, NOW_MS, &action);
    port_session_disconnect(&rig->ps, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_CLOSE);
    assert_string_equal(action.why, "the client disconnected");

    feed(rig, "held", 4);
    assert_int_equal(step(rig), PORT_TODO_DIAL);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    port_session_disconnect(&rig->ps, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    feed(rig, "next", 4);
    assert_int_equal(step(rig), PORT_TODO_NOTHING);
    assert_int_equal(rig->input_len, 4); /* the next connection's */
    port_session_disconnect(&rig->ps, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    port_session_connected(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
    port_session_took(&rig->ps, stream, NOW_MS, 4, &action);
    assert_int_equal(action.todo, PORT_TODO_CLOSE);
    assert_int_equal(step(rig), PORT_TODO_DIAL);

    port_session_disconnect(&rig->ps, NOW_MS, &action); /* while dialling, with nothing held */
    assert_int_equal(action.todo, PORT_TODO_CLOSE);
}

static void multiplexed_sessions_know_no_disconnect(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    open_stream(rig, 0);
    port_session_disconnect(&rig->ps, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_NOTHING);
}

static void basic_once_ends_with_its_target(void **state)
{
    struct rig *rig = *state;
    struct port_action action;
    restart(rig, PORT_BASIC_ONCE, false);
    uint16_t stream = port_session_begin_basic(&rig->ps, NOW_MS);
    port_session_connected(&rig->ps, stream, NOW_MS, &action);
    feed(rig, "SSH-2.0", 7);
    assert_int_equal(step(rig), PORT_TODO_WRITE);
    port_session_wrote(&rig->ps, NOW_MS, 7);
    port_session_readable(&rig->ps, stream, NOW_MS);
    port_session_target_ended(&rig->ps, stream, NOW_MS, &action);
    assert_int_equal(action.todo, PORT_TODO_END);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stream_lives_and_ends_as_aws_client_does_it),
        TEST(pitfall_16_half_close_keeps_the_answer),
        TEST(the_targets_end_comes_first),
        TEST(both_ends_cross),
        TEST(what_was_sent_before_fin_reaches_the_target),
        TEST(what_was_sent_while_dialling_waits),
        TEST(a_failed_dial_is_told_by_flag_and_fin),
        TEST(a_broken_connection_is_told_by_fin_once),
        TEST(frames_of_strangers_are_dropped),
        TEST(a_stream_that_goes_amid_its_frame_takes_the_rest_of_it_along),
        TEST(lost_framing_is_an_error_for_good),
        TEST(takes_frames_cut_anywhere),
        TEST(the_thousand_and_first_stream_is_refused),
        TEST(holds_a_mebibyte_for_one_stream_and_then_pushes_back),
        TEST(takes_what_there_is_room_for),
        TEST(never_holds_more_than_its_memory),
        TEST(pitfall_15_a_stalled_target_is_reset_when_others_wait),
        TEST(a_stalled_target_that_nobody_waits_for_may_take_its_time),
        TEST(a_target_that_takes_nothing_for_20_minutes_is_given_up),
        TEST(looks_ahead_for_streams_that_wait),
        TEST(pitfall_15_the_one_that_takes_nothing_is_reset_and_not_the_one_that_waits),
        TEST(streams_take_turns),
        TEST(who_sends_much_is_bulk_until_it_was_quiet_for_a_while),
        TEST(basic_dials_anew_upon_the_next_data),
        TEST(basic_disconnects_after_what_was_sent_before),
        TEST(multiplexed_sessions_know_no_disconnect),
        TEST(basic_once_ends_with_its_target),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
