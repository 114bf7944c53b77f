#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"

static void reads_both_byte_orders(void **state)
{
    static const uint8_t input[] = {0x01, 0x82, 0x03, 0x84, 0x05, 0x86, 0x07, 0x88, 0x09, 0x8A, 0x0B,
                                    0x8C, 0x0D, 0x8E, 0x0F, 0x90, 0x11, 0x92, 0x13, 0x94, 0x15};
    uint8_t *copy = guard_copy(input, sizeof input);
    struct reader r = reader_of(copy, sizeof input);
    (void) state;
    assert_int_equal(reader_u8(&r), 0x01);
    assert_int_equal(reader_u16be(&r), 0x8203);
    assert_int_equal(reader_u32be(&r), 0x84058607);
    assert_true(reader_u64be(&r) == 0x88098A0B8C0D8E0F);
    assert_int_equal(reader_u16le(&r), 0x1190);
    assert_int_equal(reader_u32le(&r), 0x15941392);
    assert_false(r.failed);
    assert_int_equal(r.left, 0);
    assert_int_equal(reader_u8(&r), 0);
    assert_true(r.failed);
    guard_free(copy, sizeof input);
}

static void a_failed_reader_gives_zeroes(void **state)
{
    static const uint8_t input[] = {0xFF, 0xFF, 0xFF};
    uint8_t *copy = guard_copy(input, sizeof input);
    struct reader r = reader_of(copy, sizeof input);
    uint8_t out[2] = {7, 7};
    (void) state;
    assert_int_equal(reader_u32be(&r), 0); /* three bytes are not four */
    assert_true(r.failed);
    assert_int_equal(reader_u8(&r), 0); /* although one is there */
    assert_int_equal(reader_u16be(&r), 0);
    assert_int_equal(reader_u16le(&r), 0);
    assert_int_equal(reader_u32le(&r), 0);
    assert_true(reader_u64be(&r) == 0);
    assert_null(reader_bytes(&r, 0));
    reader_copy(&r, out, sizeof out);
    assert_int_equal(out[0] + out[1], 0);
    assert_int_equal(r.left, 3);
    guard_free(copy, sizeof input);
}

static void lends_copies_and_skips(void **state)
{
    uint8_t *copy = guard_copy("abcdef", 6);
    struct reader r = reader_of(copy, 6);
    char out[2];
    (void) state;
    assert_ptr_equal(reader_bytes(&r, 2), copy);
    reader_skip(&r, 1);
    reader_copy(&r, out, 2);
    assert_memory_equal(out, "de", 2);
    assert_ptr_equal(reader_bytes(&r, 0), copy + 5);
    assert_false(r.failed);
    reader_skip(&r, SIZE_MAX);
    assert_true(r.failed);
    r = reader_of(NULL, 0);
    reader_skip(&r, 0);
    reader_copy(&r, NULL, 0);
    assert_false(r.failed);
    guard_free(copy, 6);
}

/* Everything a writer can write, 86 bytes. */
static void write_everything(struct writer *w)
{
    writer_u8(w, 0x81);
    writer_u16be(w, 0x8203);
    writer_u32be(w, 0x84058607);
    writer_u64be(w, 0x88098A0B8C0D8E0F);
    writer_u16le(w, 0x1190);
    writer_u32le(w, 0x15941392);
    writer_bytes(w, "by", 2);
    writer_bytes(w, NULL, 0);
    writer_fill(w, 'f', 3);
    writer_fill(w, 'f', 0);
    writer_str(w, STR_LITERAL("str"));
    writer_str(w, (struct str){NULL, 0});
    writer_text(w, "text");
    writer_char(w, ' ');
    writer_u64_decimal(w, UINT64_MAX);
    writer_i64_decimal(w, INT64_MIN);
    writer_hex(w, "\x00\xAB", 2);
    writer_base64(w, "base", 4);
}

static const char everything[] =
    "\x81\x82\x03\x84\x05\x86\x07\x88\x09\x8A\x0B\x8C\x0D\x8E\x0F\x90\x11\x92\x13\x94\x15"
    "byfffstrtext 18446744073709551615-9223372036854775808"
    "00ab"
    "YmFzZQ==";

/* With every capacity: what fits stands, nothing stands half, nothing is written behind the end. */
static void writes_inside_every_capacity(void **state)
{
    size_t whole = sizeof everything - 1;
    (void) state;
    for (size_t capacity = 0; capacity <= whole; capacity++) {
        uint8_t *memory = guard_alloc(capacity);
        struct writer w = writer_of(memory, capacity);
        write_everything(&w);
        assert_int_equal(w.failed, capacity < whole);
        assert_true(w.len <= capacity);
        assert_memory_equal(memory, everything, w.len);
        if (capacity == whole)
            assert_int_equal(w.len, whole);
        guard_free(memory, capacity);
    }
}

static void a_failed_writer_does_nothing(void **state)
{
    uint8_t memory[8];
    struct writer w = writer_of(memory, sizeof memory);
    (void) state;
    writer_text(&w, "12345678");
    assert_false(w.failed);
    assert_string_equal(writer_terminate(&w), ""); /* full */
    writer_u8(&w, '9');
    assert_true(w.failed);
    w.capacity = 0; /* whoever still wrote would now be far outside */
    writer_format(&w, "%d", 1);
    writer_text(&w, "x");
    assert_true(str_equal_text(writer_view(&w), "12345678"));
    assert_string_equal(writer_terminate(&w), "");
}

static void formats_when_the_terminator_fits_too(void **state)
{
    (void) state;
    for (size_t capacity = 0; capacity < 8; capacity++) {
        char *memory = guard_alloc(capacity);
        struct writer w = writer_of(memory, capacity);
        writer_format(&w, "%s%d", "ab", 12);
        assert_int_equal(w.failed, capacity < 5);
        assert_int_equal(w.len, capacity < 5 ? 0 : 4);
        assert_string_equal(writer_terminate(&w), capacity < 5 ? "" : "ab12");
        guard_free(memory, capacity);
    }
    struct writer none = writer_of(NULL, 0);
    writer_format(&none, "%s", "");
    assert_false(none.failed);
}

static void sizes_that_would_wrap_fail(void **state)
{
    uint8_t memory[8];
    (void) state;
    struct writer w = writer_of(memory, sizeof memory);
    writer_hex(&w, memory, SIZE_MAX / 2 + 2);
    assert_true(w.failed);
    w = writer_of(memory, sizeof memory);
    writer_base64(&w, memory, SIZE_MAX - 1);
    assert_true(w.failed);
    w = writer_of(memory, sizeof memory);
    writer_fill(&w, 0, SIZE_MAX);
    assert_true(w.failed);
}

static const struct {
    const char *plain, *encoded;
} base64[] = {
    /* RFC 4648, 10 */
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"\xFB\xFF\xBE", "+/++"},
};

static void encodes_base64(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof base64 / sizeof base64[0]; i++) {
        size_t len = strlen(base64[i].plain);
        char *plain = guard_copy(base64[i].plain, len);
        char memory[16];
        struct writer w = writer_of(memory, sizeof memory);
        writer_base64(&w, plain, len);
        assert_string_equal(writer_terminate(&w), base64[i].encoded);
        guard_free(plain, len);
    }
}

static const struct {
    int64_t number;
    const char *text;
} decimals[] = {
    {0, "0"}, {-1, "-1"}, {10, "10"}, {INT64_MAX, "9223372036854775807"}, {INT64_MIN, "-9223372036854775808"},
};

static void writes_decimals(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof decimals / sizeof decimals[0]; i++) {
        char memory[32];
        struct writer w = writer_of(memory, sizeof memory);
        writer_i64_decimal(&w, decimals[i].number);
        assert_string_equal(writer_terminate(&w), decimals[i].text);
    }
}

static void wipes(void **state)
{
    uint8_t secret[4] = {1, 2, 3, 4};
    static const uint8_t wiped[4] = {1, 0, 0, 4};
    (void) state;
    bytes_wipe(secret + 1, 2);
    assert_memory_equal(secret, wiped, sizeof secret);
    bytes_wipe(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_both_byte_orders),
        cmocka_unit_test(a_failed_reader_gives_zeroes),
        cmocka_unit_test(lends_copies_and_skips),
        cmocka_unit_test(writes_inside_every_capacity),
        cmocka_unit_test(a_failed_writer_does_nothing),
        cmocka_unit_test(formats_when_the_terminator_fits_too),
        cmocka_unit_test(sizes_that_would_wrap_fail),
        cmocka_unit_test(encodes_base64),
        cmocka_unit_test(writes_decimals),
        cmocka_unit_test(wipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
