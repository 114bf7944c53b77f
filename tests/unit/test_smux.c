#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/splits.h"
#include "wire/smux.h"

/* SYN 3, PSH 3 "hello", NOP, PSH 5 of no bytes, FIN 3: five frames, 45 bytes. */
static const uint8_t stream[] = {1, 0,   0,   0,   3,   0,   0, 0, 1, 2, 5, 0, 3, 0, 0,
                                 0, 'h', 'e', 'l', 'l', 'o', 1, 3, 0, 0, 0, 0, 0, 0, 1,
                                 2, 0,   0,   5,   0,   0,   0, 1, 1, 0, 0, 3, 0, 0, 0};

static void decodes_the_same_in_every_split(void **state)
{
    struct splits s = splits_of(stream, sizeof stream);
    (void) state;
    while (splits_next(&s)) {
        static const enum smux_command order[] = {SMUX_SYN, SMUX_PSH, SMUX_NOP, SMUX_PSH, SMUX_FIN};
        static const uint32_t streams[] = {3, 3, 0, 5, 3};
        struct smux_decoder d;
        const uint8_t *piece;
        char text[8] = "";
        size_t len, used, frames = 0, text_len = 0;
        smux_decoder_init(&d, false);
        while (splits_piece(&s, &piece, &len)) {
            for (; len > 0; piece += used, len -= used) {
                struct smux_event event;
                assert_int_equal(smux_decoder_next(&d, piece, len, &used, &event, NULL), 0);
                assert_true(used > 0);
                if (event.type == SMUX_EVENT_FRAME) {
                    assert_true(frames < 5);
                    assert_int_equal(event.command, order[frames]);
                    assert_int_equal(event.stream, streams[frames]);
                    assert_int_equal(event.data_len, frames == 1 ? 5 : 0);
                    frames++;
                } else if (event.type == SMUX_EVENT_DATA) {
                    assert_int_equal(event.stream, 3);
                    assert_ptr_equal(event.data, piece); /* shown where it lies */
                    memcpy(text + text_len, event.data, event.data_len);
                    text_len += event.data_len;
                }
            }
        }
        assert_int_equal(frames, 5);
        assert_string_equal(text, "hello");
    }
}

static void largest_frame_is_taken(void **state)
{
    static uint8_t frame[SMUX_HEADER_SIZE + SMUX_DATA_MAX];
    struct smux_decoder d;
    struct smux_event event;
    size_t used;
    (void) state;
    smux_write_header(frame, SMUX_PSH, 0xfffffffd, SMUX_DATA_MAX);
    smux_decoder_init(&d, false);
    assert_int_equal(smux_decoder_next(&d, frame, sizeof frame, &used, &event, NULL), 0);
    assert_int_equal(event.data_len, SMUX_DATA_MAX);
    assert_int_equal(event.stream, 0xfffffffd);
    assert_int_equal(smux_decoder_next(&d, frame + used, sizeof frame - used, &used, &event, NULL), 0);
    assert_int_equal(event.type, SMUX_EVENT_DATA);
    assert_int_equal(event.data_len, SMUX_DATA_MAX);
}

static void nonsense_is_refused_for_good(void **state)
{
    static const struct {
        uint8_t header[SMUX_HEADER_SIZE];
        const char *reason;
    } cases[] = {
        {{2, 0, 0, 0, 3, 0, 0, 0}, "smux: version 2, want 1"},
        {{0, 0, 0, 0, 3, 0, 0, 0}, "smux: version 0, want 1"},
        {{1, 4, 8, 0, 3, 0, 0, 0}, "smux: unknown command 4"},
        {{1, 255, 0, 0, 3, 0, 0, 0}, "smux: unknown command 255"},
        {{1, 0, 1, 0, 3, 0, 0, 0}, "smux: 1 bytes of data with command 0"},
        {{1, 1, 0, 1, 3, 0, 0, 0}, "smux: 256 bytes of data with command 1"},
        {{1, 3, 1, 0, 0, 0, 0, 0}, "smux: 1 bytes of data with command 3"},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct smux_decoder d;
        struct smux_event event;
        struct error err = ERROR_INIT;
        size_t used;
        smux_decoder_init(&d, false);
        assert_int_equal(smux_decoder_next(&d, cases[i].header, SMUX_HEADER_SIZE, &used, &event, &err),
                         ERROR_INVALID);
        assert_string_equal(err.text, cases[i].reason);
        assert_int_equal(smux_decoder_next(&d, stream, sizeof stream, &used, &event, &err), ERROR_INVALID);
        assert_int_equal(used, 0);
        assert_string_equal(err.text, "smux: the stream of frames was lost before");
    }
}

static void header_is_little_endian(void **state)
{
    static const uint8_t expected[] = {1, 2, 0x34, 0x12, 0x78, 0x56, 0x34, 0x12};
    uint8_t header[SMUX_HEADER_SIZE];
    (void) state;
    smux_write_header(header, SMUX_PSH, 0x12345678, 0x1234);
    assert_memory_equal(header, expected, sizeof expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decodes_the_same_in_every_split),
        cmocka_unit_test(largest_frame_is_taken),
        cmocka_unit_test(nonsense_is_refused_for_good),
        cmocka_unit_test(header_is_little_endian),
    };
    return cmocka_run_group_tests_name("smux", tests, NULL, NULL);
}
