#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "lib/guard.h"
#include "wire/agent_message.h"

enum { FRAME_MAX = 4096 };

static const uint8_t id[UUID_SIZE] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static size_t write_frame(uint8_t *frame, enum agent_message_type type, int64_t sequence, const char *payload)
{
    struct agent_message m = {.type = type,
                              .created_unix_ms = 0x0102030405060708,
                              .sequence = sequence,
                              .flags = AGENT_MESSAGE_SYN,
                              .payload_type = PAYLOAD_OUTPUT,
                              .payload = frame + AGENT_MESSAGE_HEADER_SIZE,
                              .payload_len = strlen(payload)};
    memcpy(m.id, id, sizeof id);
    memcpy(frame + AGENT_MESSAGE_HEADER_SIZE, payload, m.payload_len);
    agent_message_write_header(frame, &m);
    return AGENT_MESSAGE_HEADER_SIZE + m.payload_len;
}

/* Byte for byte what section 5 says; the digest is that of "abc". */
static void writes_the_header_of_section_5(void **state)
{
    static const uint8_t expected[] = {
        0,    0,    0,    116,  'o',  'u',  't',  'p',  'u',  't',  '_',  's',  't',  'r',  'e',  'a',
        'm',  '_',  'd',  'a',  't',  'a',  ' ',  ' ',  ' ',  ' ',  ' ',  ' ',  ' ',  ' ',  ' ',  ' ',
        ' ',  ' ',  ' ',  ' ',  0,    0,    0,    1,    1,    2,    3,    4,    5,    6,    7,    8,
        0,    0,    0,    0,    0,    0,    0,    9,    0,    0,    0,    0,    0,    0,    0,    1,
        8,    9,    10,   11,   12,   13,   14,   15,   0,    1,    2,    3,    4,    5,    6,    7,
        0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40, 0xde, 0x5d, 0xae, 0x22, 0x23,
        0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17, 0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad,
        0,    0,    0,    1,    0,    0,    0,    3,    'a',  'b',  'c'};
    uint8_t frame[FRAME_MAX];
    (void) state;
    assert_int_equal(write_frame(frame, AGENT_MESSAGE_OUTPUT_STREAM_DATA, 9, "abc"), sizeof expected);
    assert_memory_equal(frame, expected, sizeof expected);
}

static void reads_what_it_writes_up_to_the_edge_of_memory(void **state)
{
    uint8_t frame[FRAME_MAX];
    size_t len = write_frame(frame, AGENT_MESSAGE_INPUT_STREAM_DATA, 77, "payload");
    uint8_t *at_edge = guard_copy(frame, len);
    struct agent_message m;
    (void) state;
    assert_int_equal(agent_message_parse(&m, at_edge, len, NULL), 0);
    assert_int_equal(m.type, AGENT_MESSAGE_INPUT_STREAM_DATA);
    assert_int_equal(m.sequence, 77);
    assert_int_equal(m.flags, AGENT_MESSAGE_SYN);
    assert_int_equal(m.created_unix_ms, 0x0102030405060708);
    assert_memory_equal(m.id, id, sizeof id);
    assert_int_equal(m.payload_len, 7);
    assert_ptr_equal(m.payload, at_edge + AGENT_MESSAGE_HEADER_SIZE);
    guard_free(at_edge, len);
}

static void every_shortened_frame_is_refused(void **state)
{
    uint8_t frame[FRAME_MAX];
    size_t len = write_frame(frame, AGENT_MESSAGE_INPUT_STREAM_DATA, 0, "payload");
    (void) state;
    for (size_t n = 0; n < len; n++) {
        uint8_t *cut = guard_copy(frame, n);
        struct agent_message m;
        struct error err = ERROR_INIT;
        assert_int_equal(agent_message_parse(&m, cut, n, &err), ERROR_INVALID);
        assert_non_null(
            strstr(err.text, n < AGENT_MESSAGE_HEADER_SIZE ? "less than a header" : "announces 7 bytes"));
        guard_free(cut, n);
    }
}

struct damage {
    const char *name;
    size_t offset;
    uint8_t value;
    const char *reason; /* null: it is accepted */
};

static const struct damage damages[] = {
    {"header length one less", 3, 115, "header length 115"},
    {"header length beyond the frame", 3, 124, "header length 124"},
    {"header length huge", 0, 0x7f, "header length 2130706548"},
    {"schema version", 39, 9, NULL},
    {"negative sequence number", 48, 0x80, "negative sequence number"},
    {"digest", 80, 0, "does not match its digest"},
    {"payload", 121, 'x', "does not match its digest"},
    {"payload length", 119, 6, "announces 6 bytes of payload, brings 7"},
};

static void a_damaged_frame_of_stream_data_is_refused(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        uint8_t frame[FRAME_MAX];
        size_t len = write_frame(frame, AGENT_MESSAGE_OUTPUT_STREAM_DATA, 0, "payload");
        struct agent_message m;
        struct error err = ERROR_INIT;
        frame[damages[i].offset] = damages[i].value;
        int code = agent_message_parse(&m, frame, len, &err);
        if (damages[i].reason == NULL) {
            assert_int_equal(code, 0);
        } else {
            assert_int_equal(code, ERROR_INVALID);
            assert_non_null(strstr(err.text, damages[i].reason));
        }
    }
}

/* Section 10: the service fills both fields wrongly in messages of its own. */
static void digest_and_length_are_checked_in_stream_data_only(void **state)
{
    uint8_t frame[FRAME_MAX];
    size_t len = write_frame(frame, AGENT_MESSAGE_CHANNEL_CLOSED, 0, "{\"Output\":\"bye\"}");
    struct agent_message m;
    (void) state;
    frame[80] ^= 1;
    frame[119] = 200;
    frame[114] = 1; /* PayloadType 261 */
    frame[115] = 5;
    assert_int_equal(agent_message_parse(&m, frame, len, NULL), 0);
    assert_int_equal(m.type, AGENT_MESSAGE_CHANNEL_CLOSED);
    assert_int_equal(m.payload_len, 16);
    assert_int_equal(m.payload_type, 261);
}

static void payload_starts_where_the_message_says(void **state)
{
    uint8_t frame[FRAME_MAX];
    size_t len = write_frame(frame, AGENT_MESSAGE_AGENT_JOB, 0, "????{}");
    struct agent_message m;
    (void) state;
    frame[3] = 120;
    assert_int_equal(agent_message_parse(&m, frame, len, NULL), 0);
    assert_int_equal(m.payload_len, 2);
    assert_memory_equal(m.payload, "{}", 2);
}

static void types_are_trimmed_of_spaces_and_nuls(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        enum agent_message_type type;
    } cases[] = {
        {"acknowledge", 11, AGENT_MESSAGE_ACKNOWLEDGE},
        {"acknowledge\0\0   ", 16, AGENT_MESSAGE_ACKNOWLEDGE},
        {"  \0acknowledge", 14, AGENT_MESSAGE_ACKNOWLEDGE},
        {"start_publication", 17, AGENT_MESSAGE_START_PUBLICATION},
        {"Acknowledge", 11, AGENT_MESSAGE_UNKNOWN},
        {"acknowledgement_of_thirty-2_byte", 32, AGENT_MESSAGE_UNKNOWN},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t frame[FRAME_MAX];
        size_t len = write_frame(frame, AGENT_MESSAGE_ACKNOWLEDGE, 0, "{}");
        struct agent_message m;
        memset(frame + 4, i % 2 == 0 ? ' ' : 0, AGENT_MESSAGE_TYPE_SIZE);
        memcpy(frame + 4, cases[i].text, cases[i].len);
        assert_int_equal(agent_message_parse(&m, frame, len, NULL), 0);
        assert_int_equal(m.type, cases[i].type);
    }
    uint8_t frame[FRAME_MAX];
    size_t len = write_frame(frame, AGENT_MESSAGE_ACKNOWLEDGE, 0, "{}");
    struct agent_message m;
    struct error err = ERROR_INIT;
    memset(frame + 4, 0, AGENT_MESSAGE_TYPE_SIZE);
    assert_int_equal(agent_message_parse(&m, frame, len, &err), ERROR_INVALID);
    assert_string_equal(err.text, "agent message: empty type");
}

static void every_type_has_a_name_that_is_read_back(void **state)
{
    (void) state;
    for (int i = 1; i < AGENT_MESSAGE_TYPE_COUNT; i++) {
        uint8_t frame[FRAME_MAX];
        size_t len = write_frame(frame, (enum agent_message_type) i, 0, "");
        struct agent_message m;
        assert_int_equal(agent_message_parse(&m, frame, len, NULL), 0);
        assert_int_equal(m.type, i);
        assert_true(str_equal_text(m.type_text, agent_message_type_name(m.type)));
    }
}

#define USUAL                                                                                                \
    "{\"AcknowledgedMessageType\":\"input_stream_data\",\"AcknowledgedMessageId\":"                          \
    "\"00010203-0405-0607-0809-0a0b0c0d0e0f\",\"AcknowledgedMessageSequenceNumber\":42,"                     \
    "\"IsSequentialMessage\":true}"

static void acknowledge_is_written_as_aws_writes_it(void **state)
{
    struct acknowledge ack = {.type = AGENT_MESSAGE_INPUT_STREAM_DATA, .sequence = 42};
    char text[ACKNOWLEDGE_PAYLOAD_MAX];
    struct writer w = writer_of(text, sizeof text);
    (void) state;
    memcpy(ack.id, id, sizeof id);
    acknowledge_write(&w, &ack);
    assert_string_equal(writer_terminate(&w), USUAL);
    ack.type = AGENT_MESSAGE_OUTPUT_STREAM_DATA;
    ack.sequence = INT64_MAX;
    w = writer_of(text, sizeof text);
    acknowledge_write(&w, &ack);
    assert_false(w.failed);
}

static void acknowledge_is_read_in_any_form(void **state)
{
    static const struct {
        const char *payload;
        int64_t sequence; /* -1: refused */
        enum agent_message_type type;
    } cases[] = {
        {USUAL, 42, AGENT_MESSAGE_INPUT_STREAM_DATA},
        {"{\"IsSequentialMessage\":true,\"acknowledgedmessagesequencenumber\":7}", 7, AGENT_MESSAGE_UNKNOWN},
        {"{ \"AcknowledgedMessageType\" : \"output_stream_data\", \"AcknowledgedMessageSequenceNumber\": 8 }",
         8, AGENT_MESSAGE_OUTPUT_STREAM_DATA},
        {"{\"AcknowledgedMessageType\":\"x\",\"AcknowledgedMessageId\":\"not a uuid\","
         "\"AcknowledgedMessageSequenceNumber\":9}",
         9, AGENT_MESSAGE_UNKNOWN},
        {"{\"AcknowledgedMessageSequenceNumber\":-1}", -1, AGENT_MESSAGE_UNKNOWN},
        {"{\"AcknowledgedMessageSequenceNumber\":9223372036854775808}", -1, AGENT_MESSAGE_UNKNOWN},
        {"{\"AcknowledgedMessageSequenceNumber\":1.5}", -1, AGENT_MESSAGE_UNKNOWN},
        {"{}", -1, AGENT_MESSAGE_UNKNOWN},
        {"", -1, AGENT_MESSAGE_UNKNOWN},
        {"[1]", -1, AGENT_MESSAGE_UNKNOWN},
    };
    (void) state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = strlen(cases[i].payload);
        char *payload = guard_copy(cases[i].payload, len);
        struct acknowledge ack;
        struct error err = ERROR_INIT;
        int code = acknowledge_parse(&ack, (struct str){payload, len}, &err);
        assert_int_equal(code, cases[i].sequence < 0 ? ERROR_INVALID : 0);
        if (code == 0) {
            assert_int_equal(ack.sequence, cases[i].sequence);
            assert_int_equal(ack.type, cases[i].type);
        } else {
            assert_memory_equal(err.text, "acknowledge: ", 13);
        }
        guard_free(payload, len);
    }
}

/* The quick way must not take what the parser would refuse: every cut of the usual form is refused. */
static void acknowledge_cut_short_is_refused(void **state)
{
    (void) state;
    for (size_t n = 0; n < strlen(USUAL); n++) {
        char *cut = guard_copy(USUAL, n);
        struct acknowledge ack;
        assert_int_not_equal(acknowledge_parse(&ack, (struct str){cut, n}, NULL), 0);
        guard_free(cut, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_the_header_of_section_5),
        cmocka_unit_test(reads_what_it_writes_up_to_the_edge_of_memory),
        cmocka_unit_test(every_shortened_frame_is_refused),
        cmocka_unit_test(a_damaged_frame_of_stream_data_is_refused),
        cmocka_unit_test(digest_and_length_are_checked_in_stream_data_only),
        cmocka_unit_test(payload_starts_where_the_message_says),
        cmocka_unit_test(types_are_trimmed_of_spaces_and_nuls),
        cmocka_unit_test(every_type_has_a_name_that_is_read_back),
        cmocka_unit_test(acknowledge_is_written_as_aws_writes_it),
        cmocka_unit_test(acknowledge_is_read_in_any_form),
        cmocka_unit_test(acknowledge_cut_short_is_refused),
    };
    return cmocka_run_group_tests_name("agent_message", tests, NULL, NULL);
}
