#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"
#include "lib/splits.h"
#include "wire/websocket.h"

enum { CAPACITY = 512, TRACE_SIZE = 1024 };

/* RFC 6455, 1.3 */
static void key_and_accept_are_those_of_the_rfc(void **state)
{
    char key[WEBSOCKET_KEY_SIZE], accept[WEBSOCKET_ACCEPT_SIZE];
    (void) state;
    websocket_key((const uint8_t *) "the sample nonce", key);
    assert_string_equal(key, "dGhlIHNhbXBsZSBub25jZQ==");
    websocket_accept(key, accept);
    assert_string_equal(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_true(websocket_accept_matches(key, str_from(" s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\t")));
    assert_false(websocket_accept_matches(key, str_from("s3pPLMBiTxaQ9kYGzzhZRbK+xOo")));
    assert_false(websocket_accept_matches(key, str_from("S3PPLMBITXAQ9KYGZZHZRBK+XOO=")));
    assert_false(websocket_accept_matches(key, str_from("")));
}

/* RFC 6455, 5.7 */
static void frames_of_the_rfc_are_written(void **state)
{
    static const uint8_t masked[] = {0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58};
    static const uint8_t plain[] = {0x81, 0x05, 'H', 'e', 'l', 'l', 'o'};
    static const uint8_t mask[] = {0x37, 0xfa, 0x21, 0x3d};
    uint8_t room[WEBSOCKET_HEADROOM + 5];
    uint8_t *payload = room + WEBSOCKET_HEADROOM;
    (void) state;
    memcpy(payload, "Hello", 5);
    assert_int_equal(websocket_seal(payload, 5, WEBSOCKET_TEXT, mask), 6);
    assert_memory_equal(payload - 6, masked, sizeof masked);
    memcpy(payload, "Hello", 5);
    assert_int_equal(websocket_seal(payload, 5, WEBSOCKET_TEXT, NULL), 2);
    assert_memory_equal(payload - 2, plain, sizeof plain);
}

static void lengths_take_their_shortest_form(void **state)
{
    static const struct {
        size_t len;
        size_t header;
        uint8_t first[10];
    } cases[] = {
        {0, 2, {0x82, 0}},
        {125, 2, {0x82, 125}},
        {126, 4, {0x82, 126, 0, 126}},
        {65535, 4, {0x82, 126, 0xff, 0xff}},
        {65536, 10, {0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0}},
    };
    static uint8_t room[WEBSOCKET_HEADROOM + 65536];
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *payload = room + WEBSOCKET_HEADROOM;
        assert_int_equal(websocket_header_size(cases[i].len, false), cases[i].header);
        assert_int_equal(websocket_header_size(cases[i].len, true), cases[i].header + 4);
        assert_int_equal(websocket_seal(payload, cases[i].len, WEBSOCKET_BINARY, NULL), cases[i].header);
        assert_memory_equal(payload - cases[i].header, cases[i].first, cases[i].header);
    }
}

static void mask_is_the_same_at_every_offset_length_and_alignment(void **state)
{
    static const uint8_t mask[] = {1, 20, 103, 254};
    (void) state;
    for (size_t offset = 0; offset < 8; offset++) {
        for (size_t len = 0; len < 40; len++) {
            uint8_t *data = guard_alloc(len); /* its start, and so the alignment, varies with the length */
            for (size_t i = 0; i < len; i++)
                data[i] = (uint8_t) (i * 7);
            websocket_mask(data, len, mask, offset);
            for (size_t i = 0; i < len; i++)
                assert_int_equal(data[i], (uint8_t) (i * 7) ^ mask[(i + offset) % 4]);
            guard_free(data, len);
        }
    }
}

/* What a decoder shows, as text: one letter an event, its code, its data. */
static void trace(char *out, const struct websocket_event *e)
{
    static const char letters[] = "?MPQC";
    size_t len = strlen(out);
    snprintf(out + len, TRACE_SIZE - len, "%c%s%.0d%s%.*s ", letters[e->type],
             e->type == WEBSOCKET_EVENT_MESSAGE ? e->binary ? "b:" : "t:" : "", e->code,
             e->code != 0 ? ":" : "", (int) e->len, e->len > 0 ? (const char *) e->data : "");
}

static int feed(struct websocket_decoder *d, const uint8_t *piece, size_t len, char *out, struct error *err)
{
    struct websocket_event event;
    while (len > 0) {
        size_t room;
        uint8_t *in = websocket_in_buf(d, &room);
        size_t n = len < room ? len : room;
        assert_true(room > 0);
        memcpy(in, piece, n);
        websocket_in_ack(d, n);
        piece += n;
        len -= n;
        do {
            int code = websocket_next(d, &event, err);
            if (code != 0)
                return code;
            if (event.type != WEBSOCKET_EVENT_NONE)
                trace(out, &event);
        } while (event.type != WEBSOCKET_EVENT_NONE);
    }
    return 0;
}

struct conversation {
    const char *name;
    enum websocket_role role;
    const char *bytes;
    size_t len;
    const char *expected;
    int code;
    unsigned close_code;
    const char *reason;
};

#define BYTES(text) (text), sizeof(text) - 1

static const struct conversation conversations[] = {
    {"messages", WEBSOCKET_CLIENT,
     BYTES("\x82\x03"
           "abc"
           "\x81\x00"
           "\x81\x02{}"),
     "Mb:abc Mt: Mt:{} ", 0, 0, ""},
    {"fragments, with control frames in between", WEBSOCKET_CLIENT,
     BYTES("\x02\x02"
           "ab"
           "\x89\x01p"
           "\x00\x02"
           "cd"
           "\x8a\x00"
           "\x80\x01"
           "e"
           "\x82\x01x"),
     "Pp Q Mb:abcde Mb:x ", 0, 0, ""},
    {"an empty last fragment", WEBSOCKET_CLIENT,
     BYTES("\x01\x02"
           "ab"
           "\x80\x00"),
     "Mt:ab ", 0, 0, ""},
    {"close", WEBSOCKET_CLIENT,
     BYTES("\x88\x05\x03\xe8"
           "Bye"
           "\x82\x01x"),
     "C1000:Bye ", 0, 0, ""},
    {"close without a code", WEBSOCKET_CLIENT, BYTES("\x88\x00"), "C1005: ", 0, 0, ""},
    {"close inside a fragmented message", WEBSOCKET_CLIENT,
     BYTES("\x02\x01"
           "a"
           "\x88\x02\x0f\xa0"),
     "C4000: ", 0, 0, ""},
    {"masked, to a server", WEBSOCKET_SERVER, BYTES("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
     "Mt:Hello ", 0, 0, ""},
    {"masked, to a client", WEBSOCKET_CLIENT, BYTES("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"), "",
     ERROR_INVALID, 1002, "a masked frame"},
    {"unmasked, to a server", WEBSOCKET_SERVER, BYTES("\x81\x01x"), "", ERROR_INVALID, 1002,
     "an unmasked frame"},
    {"reserved bit", WEBSOCKET_CLIENT, BYTES("\xc2\x01x"), "", ERROR_INVALID, 1002, "reserved bits"},
    {"reserved opcode", WEBSOCKET_CLIENT, BYTES("\x83\x01x"), "", ERROR_INVALID, 1002, "a reserved opcode"},
    {"reserved control opcode", WEBSOCKET_CLIENT, BYTES("\x8b\x01x"), "", ERROR_INVALID, 1002,
     "a reserved opcode"},
    {"fragmented ping", WEBSOCKET_CLIENT, BYTES("\x09\x01x"), "", ERROR_INVALID, 1002,
     "a fragmented control frame"},
    {"long ping", WEBSOCKET_CLIENT, BYTES("\x89\x7e\x00\x7e"), "", ERROR_INVALID, 1002,
     "a control frame of more than 125 bytes"},
    {"continuation of nothing", WEBSOCKET_CLIENT, BYTES("\x80\x01x"), "", ERROR_INVALID, 1002,
     "a continuation of nothing"},
    {"message inside a message", WEBSOCKET_CLIENT, BYTES("\x02\x01x\x82\x01y"), "", ERROR_INVALID, 1002,
     "a new message inside a fragmented one"},
    {"16-bit length for 125", WEBSOCKET_CLIENT, BYTES("\x82\x7e\x00\x7d"), "", ERROR_INVALID, 1002,
     "not in its shortest form"},
    {"64-bit length for 65535", WEBSOCKET_CLIENT, BYTES("\x82\x7f\0\0\0\0\0\0\xff\xff"), "", ERROR_INVALID,
     1002, "not in its shortest form"},
    {"half a close code", WEBSOCKET_CLIENT, BYTES("\x88\x01\x03"), "", ERROR_INVALID, 1002,
     "half a close code"},
    {"close code 1005", WEBSOCKET_CLIENT, BYTES("\x88\x02\x03\xed"), "", ERROR_INVALID, 1002,
     "must not be sent"},
    {"close code 999", WEBSOCKET_CLIENT, BYTES("\x88\x02\x03\xe7"), "", ERROR_INVALID, 1002,
     "must not be sent"},
    {"close code 5000", WEBSOCKET_CLIENT, BYTES("\x88\x02\x13\x88"), "", ERROR_INVALID, 1002,
     "must not be sent"},
    {"one byte too long", WEBSOCKET_CLIENT, BYTES("\x82\x7e\x01\x76"), "", ERROR_TOO_LARGE, 1009,
     "more than 373 bytes"},
    {"as long as can be", WEBSOCKET_CLIENT, BYTES("\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"), "",
     ERROR_TOO_LARGE, 1009, "more than 373 bytes"},
    {"too long in fragments", WEBSOCKET_CLIENT,
     BYTES("\x02\x03"
           "abc"
           "\x80\x7e\x01\x73"),
     "", ERROR_TOO_LARGE, 1009, "more than 373 bytes"},
};

static void conversations_are_read_the_same_in_every_split(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof conversations / sizeof conversations[0]; i++) {
        const struct conversation *c = &conversations[i];
        struct splits s = splits_of(c->bytes, c->len);
        while (splits_next(&s)) {
            uint8_t *buffer = guard_alloc(CAPACITY);
            struct websocket_decoder d;
            struct error err = ERROR_INIT;
            char out[TRACE_SIZE] = "";
            const uint8_t *piece;
            size_t len;
            int code = 0;
            websocket_decoder_init(&d, c->role, buffer, CAPACITY);
            while (splits_piece(&s, &piece, &len))
                code = code == 0 ? feed(&d, piece, len, out, &err) : code;
            assert_string_equal(out, c->expected);
            assert_int_equal(code, c->code);
            assert_int_equal(d.close_code, c->close_code);
            assert_non_null(strstr(err.text, c->reason));
            guard_free(buffer, CAPACITY);
        }
    }
}

/* The largest message, in fragments of every size, a ping of 125 bytes after
 * each: the buffer always has room. */
static void the_largest_message_fits_however_it_is_cut(void **state)
{
    const size_t largest = CAPACITY - WEBSOCKET_DECODER_OVERHEAD;
    uint8_t buffer[CAPACITY], frame[WEBSOCKET_HEADROOM + CAPACITY] = {0};
    (void) state;
    for (size_t fragment = 1; fragment <= largest; fragment++) {
        struct websocket_decoder d;
        char out[TRACE_SIZE] = "";
        websocket_decoder_init(&d, WEBSOCKET_CLIENT, buffer, sizeof buffer);
        for (size_t at = 0; at < largest; at += fragment) {
            size_t n = at + fragment < largest ? fragment : largest - at;
            uint8_t *payload = frame + WEBSOCKET_HEADROOM;
            memset(payload, 'x', n);
            size_t header =
                websocket_seal(payload, n, at == 0 ? WEBSOCKET_BINARY : WEBSOCKET_CONTINUATION, NULL);
            if (at + n < largest)
                payload[-(ptrdiff_t) header] &= 0x7f;
            assert_int_equal(feed(&d, payload - header, header + n, out, NULL), 0);
            if (at + n < largest) {
                out[0] = '\0';
                memset(payload, 'p', WEBSOCKET_CONTROL_MAX);
                header = websocket_seal(payload, WEBSOCKET_CONTROL_MAX, WEBSOCKET_PING, NULL);
                assert_int_equal(feed(&d, payload - header, header + WEBSOCKET_CONTROL_MAX, out, NULL), 0);
                assert_int_equal(strlen(out), 1 + WEBSOCKET_CONTROL_MAX + 1);
                out[0] = '\0';
            }
        }
        assert_int_equal(strlen(out), 3 + largest + 1);
        assert_int_equal(strspn(out + 3, "x"), largest);
    }
}

/* A first fragment behind other frames, up to the last byte of the buffer: what
 * lies in front of it makes room. */
static void there_is_room_behind_a_fragment_wherever_it_lies(void **state)
{
    (void) state;
    for (size_t pong = 70; pong <= WEBSOCKET_CONTROL_MAX; pong++) {
        const size_t len = CAPACITY - 2 * (2 + pong) - 4;
        uint8_t buffer[CAPACITY], all[CAPACITY], next[] = {0x80, 1, 'x'};
        struct websocket_decoder d;
        char out[TRACE_SIZE] = "";
        memset(all, 'x', sizeof all);
        for (size_t i = 0; i < 2; i++) {
            all[i * (2 + pong)] = 0x8a;
            all[i * (2 + pong) + 1] = (uint8_t) pong;
        }
        size_t header = websocket_seal(all + CAPACITY - len, len, WEBSOCKET_BINARY, NULL);
        assert_int_equal(header, 4);
        all[CAPACITY - len - header] &= 0x7f;
        websocket_decoder_init(&d, WEBSOCKET_CLIENT, buffer, sizeof buffer);
        assert_int_equal(feed(&d, all, sizeof all, out, NULL), 0);
        assert_int_equal(strlen(out), 2 * (1 + pong + 1));
        out[0] = '\0';
        assert_int_equal(feed(&d, next, sizeof next, out, NULL), 0);
        assert_int_equal(strlen(out), 3 + len + 1 + 1);
    }
}

static void errors_stay(void **state)
{
    uint8_t buffer[CAPACITY];
    struct websocket_decoder d;
    struct error err = ERROR_INIT;
    char out[TRACE_SIZE] = "";
    (void) state;
    websocket_decoder_init(&d, WEBSOCKET_CLIENT, buffer, sizeof buffer);
    assert_int_equal(feed(&d, (const uint8_t *) "\x80\x00", 2, out, &err), ERROR_INVALID);
    assert_int_equal(feed(&d, (const uint8_t *) "\x82\x01x", 3, out, &err), ERROR_INVALID);
    assert_string_equal(err.text, "websocket: the connection had failed before");
    assert_string_equal(out, "");
}

static void close_reasons_are_cut_between_characters(void **state)
{
    uint8_t payload[WEBSOCKET_CONTROL_MAX];
    char reason[201] = "";
    (void) state;
    assert_int_equal(websocket_close_payload(payload, 1000, str_from("Bye")), 5);
    assert_memory_equal(payload,
                        "\x03\xe8"
                        "Bye",
                        5);
    for (int i = 0; i < 100; i++)
        memcpy(reason + 2 * i, "\xc3\xa9", 3);
    assert_int_equal(websocket_close_payload(payload, 4000, str_from(reason)), 2 + 122);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(key_and_accept_are_those_of_the_rfc),
        cmocka_unit_test(frames_of_the_rfc_are_written),
        cmocka_unit_test(lengths_take_their_shortest_form),
        cmocka_unit_test(mask_is_the_same_at_every_offset_length_and_alignment),
        cmocka_unit_test(conversations_are_read_the_same_in_every_split),
        cmocka_unit_test(the_largest_message_fits_however_it_is_cut),
        cmocka_unit_test(there_is_room_behind_a_fragment_wherever_it_lies),
        cmocka_unit_test(errors_stay),
        cmocka_unit_test(close_reasons_are_cut_between_characters),
    };
    return cmocka_run_group_tests_name("websocket", tests, NULL, NULL);
}
