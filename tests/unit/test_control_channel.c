#include "channel/control_channel.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"

enum { START_MS = 5000, UNIX_OFFSET_MS = 1000000, HIGH = 0x7fffffff };

static void tick(struct control_channel *c, int64_t now_ms)
{
    control_channel_tick(c, now_ms, now_ms + UNIX_OFFSET_MS);
}

static struct control_channel *new_channel(void)
{
    static const uint8_t seed[PRNG_SEED_SIZE] = {1};
    struct control_channel *c = malloc(sizeof *c);
    assert_non_null(c);
    memset(c, 0xa5, sizeof *c); /* init must not count on zeroes */
    control_channel_init(c, STR_LITERAL("ecs:default_0123_4567-89"), seed);
    tick(c, START_MS);
    return c;
}

static enum control_channel_event_type next(struct control_channel *c, int64_t now_ms, char *text)
{
    struct control_channel_event event;
    control_channel_next(c, now_ms, &event);
    if (text != NULL)
        snprintf(text, 600, "%.*s", STR_ARG(event.text));
    return event.type;
}

static struct websocket_decoder ear; /* of the service */

static void connect(struct control_channel *c, int64_t now_ms)
{
    static uint8_t memory[CONTROL_CHANNEL_OUTPUT_SIZE + WEBSOCKET_HEADROOM];
    websocket_decoder_init(&ear, WEBSOCKET_SERVER, memory, sizeof memory);
    tick(c, now_ms);
    assert_false(control_channel_is_up(c));
    assert_int_equal(control_channel_connected(c, now_ms, STR_LITERAL("{\"TokenValue\":\"secret\"}"), NULL),
                     0);
    assert_true(control_channel_is_up(c));
}

static void disconnect(struct control_channel *c, int64_t now_ms)
{
    char text[600];
    control_channel_disconnected(c, now_ms, "gone");
    assert_false(control_channel_is_up(c));
    assert_int_equal(control_channel_deadline(c), INT64_MIN);
    assert_int_equal(next(c, now_ms, text), CONTROL_CHANNEL_LOST);
    assert_string_equal(text, "gone");
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_NOTHING);
    assert_int_equal(control_channel_deadline(c), INT64_MAX);
}

static struct control_channel *open_channel(void)
{
    struct control_channel *c = new_channel();
    connect(c, START_MS);
    return c;
}

/* ---- the service ---- */

static void hand_over(struct control_channel *c, int64_t now_ms, const uint8_t *bytes, size_t len)
{
    size_t room;
    uint8_t *in = control_channel_in_buf(c, &room);
    assert_true(room >= len);
    memcpy(in, bytes, len);
    control_channel_in_ack(c, now_ms, len);
}

static size_t server_frame(uint8_t *out, enum websocket_opcode opcode, const void *content, size_t len)
{
    uint8_t *payload = out + WEBSOCKET_HEADROOM;
    if (len > 0)
        memmove(payload, content, len);
    size_t header = websocket_seal(payload, len, opcode, NULL);
    memmove(out, payload - header, header + len);
    return header + len;
}

static size_t service_message(uint8_t *out, const char *type, const char *payload)
{
    static const uint8_t id[UUID_SIZE] = {0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0x4d, 0xef,
                                          0x80, 1,    2,    3,    4,    5,    6,    7};
    static uint8_t message[CONTROL_CHANNEL_INPUT_SIZE];
    struct agent_message fields = {.type = AGENT_MESSAGE_CHANNEL_CLOSED, .created_unix_ms = 1700000000123};
    memcpy(fields.id, id, sizeof id);
    fields.payload = (const uint8_t *) payload;
    fields.payload_len = strlen(payload);
    agent_message_write_header(message, &fields);
    memset(message + 4, ' ', AGENT_MESSAGE_TYPE_SIZE);
    memcpy(message + 4, type, strlen(type));
    memcpy(message + AGENT_MESSAGE_HEADER_SIZE, payload, fields.payload_len);
    return server_frame(out, WEBSOCKET_BINARY, message, AGENT_MESSAGE_HEADER_SIZE + fields.payload_len);
}

static void say(struct control_channel *c, int64_t now_ms, const char *type, const char *payload)
{
    static uint8_t frame[CONTROL_CHANNEL_INPUT_SIZE];
    hand_over(c, now_ms, frame, service_message(frame, type, payload));
}

static size_t piece = 1; /* of what the channel sends, taken at a time */

/* The next frame that the channel sends. */
static enum websocket_event_type hear(struct control_channel *c, int64_t now_ms,
                                      struct websocket_event *event)
{
    size_t len;
    size_t room;
    for (;;) {
        assert_int_equal(websocket_next(&ear, event, NULL), 0);
        if (event->type != WEBSOCKET_EVENT_NONE)
            return event->type;
        const uint8_t *out = control_channel_out_buf(c, now_ms, &len);
        if (len == 0)
            return WEBSOCKET_EVENT_NONE;
        uint8_t *in = websocket_in_buf(&ear, &room);
        len = len < piece ? len : piece;
        len = len < room ? len : room;
        memcpy(in, out, len);
        websocket_in_ack(&ear, len);
        control_channel_out_ack(c, len);
    }
}

static void hear_nothing(struct control_channel *c, int64_t now_ms)
{
    struct websocket_event event;
    assert_int_equal(hear(c, now_ms, &event), WEBSOCKET_EVENT_NONE);
}

static void hear_first_frame(struct control_channel *c, int64_t now_ms)
{
    struct websocket_event event;
    assert_int_equal(hear(c, now_ms, &event), WEBSOCKET_EVENT_MESSAGE);
    assert_false(event.binary);
    assert_int_equal(event.len, 23);
    assert_memory_equal(event.data, "{\"TokenValue\":\"secret\"}", 23);
}

static void hear_message(struct control_channel *c, int64_t now_ms, struct agent_message *message)
{
    struct websocket_event event;
    enum websocket_event_type type = hear(c, now_ms, &event);
    if (type == WEBSOCKET_EVENT_PING)
        type = hear(c, now_ms, &event);
    assert_int_equal(type, WEBSOCKET_EVENT_MESSAGE);
    assert_true(event.binary);
    assert_int_equal(agent_message_parse(message, event.data, event.len, NULL), 0);
}

/* A string member of a message's payload. */
static const char *member(const struct agent_message *message, const char *name)
{
    static char value[1024];
    struct json_token tokens[64];
    struct json doc;
    struct str text = {(const char *) message->payload, message->payload_len};
    assert_int_equal(json_parse(&doc, text, tokens, 64, NULL), 0);
    assert_true(json_string(&doc, json_member(&doc, json_root(&doc), name), value, sizeof value, NULL));
    return value;
}

/* ---- the life of a connection: the rest of it is test_connection's ---- */

static void nothing_is_due_without_a_connection(void **state)
{
    size_t room, len;
    (void) state;
    struct control_channel *c = new_channel();
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED, STR_LITERAL("x"));
    assert_int_equal(control_channel_deadline(c), INT64_MAX);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    control_channel_in_buf(c, &room);
    assert_int_equal(room, 0);
    assert_null(control_channel_out_buf(c, START_MS, &len));
    free(c);
}

static void says_its_token_first_and_wipes_it(void **state)
{
    struct error err = ERROR_INIT;
    (void) state;
    struct control_channel *c = open_channel();
    assert_int_equal(control_channel_connected(c, START_MS, STR_LITERAL("x"), &err), ERROR_INVALID);
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED, STR_LITERAL("x"));
    hear_first_frame(c, START_MS);
    struct agent_message message;
    hear_message(c, START_MS, &message);
    hear_nothing(c, START_MS);
    for (size_t i = 0; i + 6 <= sizeof c->out; i++)
        assert_memory_not_equal(c->out + i, "secret", 6);
    free(c);
}

static void pings_and_notices_silence(void **state)
{
    struct websocket_event event;
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    int64_t now_ms = START_MS + CONTROL_CHANNEL_PING_MS;
    assert_int_equal(control_channel_deadline(c), now_ms);
    tick(c, now_ms);
    assert_int_equal(hear(c, now_ms, &event), WEBSOCKET_EVENT_PING);
    now_ms += CONNECTION_SILENCE_MS;
    tick(c, now_ms - 1);
    assert_true(control_channel_is_up(c));
    tick(c, now_ms);
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_LOST);
    free(c);
}

static void answers_pings(void **state)
{
    struct websocket_event event;
    uint8_t ping[WEBSOCKET_HEADROOM + 5] = {0};
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    hand_over(c, START_MS, ping, server_frame(ping, WEBSOCKET_PING, "hello", 5));
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    assert_int_equal(hear(c, START_MS, &event), WEBSOCKET_EVENT_PONG);
    assert_memory_equal(event.data, "hello", 5);
    free(c);
}

static void leaves_when_the_service_closes(void **state)
{
    uint8_t frame[WEBSOCKET_HEADROOM + WEBSOCKET_CONTROL_MAX] = {0};
    uint8_t close[WEBSOCKET_CONTROL_MAX];
    struct websocket_event event;
    char text[600];
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    size_t len = websocket_close_payload(close, 1000, str_from("Bye"));
    hand_over(c, START_MS, frame, server_frame(frame, WEBSOCKET_CLOSE, close, len));
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_NOTHING);
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED, STR_LITERAL("x"));
    assert_int_equal(hear(c, START_MS, &event),
                     WEBSOCKET_EVENT_CLOSE); /* and nothing else: the report waits */
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_LOST);
    assert_string_equal(text, "the service closed the websocket: 1000 Bye");
    free(c);
}

/* ---- messages ---- */

static const char start_a[] = "{\"Content\":\"{}\",\"TaskId\":\"session-a\",\"SchemaVersion\":1}";

static void starts_each_session_once(void **state)
{
    char text[600];
    (void) state;
    struct control_channel *c = open_channel();
    say(c, START_MS, "interactive_shell", start_a);
    say(c, START_MS, "interactive_shell", start_a);
    say(c, START_MS, "interactive_shell", "{\"taskid\":\"session-b\"}");
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_START);
    assert_string_equal(text, start_a);
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_START);
    assert_string_equal(text, "{\"taskid\":\"session-b\"}");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    /* Nor over another connection. */
    disconnect(c, START_MS);
    connect(c, START_MS);
    say(c, START_MS, "interactive_shell", start_a);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    /* Without an id the message's own counts. */
    say(c, START_MS, "interactive_shell", "not json");
    say(c, START_MS, "interactive_shell", "not json");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_START);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    free(c);
}

static void remembers_the_last_sessions(void **state)
{
    char payload[64];
    (void) state;
    struct control_channel *c = open_channel();
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i <= CONTROL_CHANNEL_REMEMBERED; i++) {
            snprintf(payload, sizeof payload, "{\"TaskId\":\"s-%d\"}", i);
            say(c, START_MS, "interactive_shell", payload);
            /* One more than fits: the first is forgotten when the last comes, and so on around. */
            assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_START);
        }
    }
    for (int i = 1; i <= CONTROL_CHANNEL_REMEMBERED; i++) {
        snprintf(payload, sizeof payload, "{\"TaskId\":\"s-%d\"}", i);
        say(c, START_MS, "interactive_shell", payload);
        assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    }
    free(c);
}

static void pitfall_17_a_start_that_comes_at_once_is_taken(void **state)
{
    char text[600];
    (void) state;
    struct control_channel *c = open_channel();
    say(c, START_MS, "interactive_shell", start_a); /* before our first frame has gone */
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_START);
    hear_first_frame(c, START_MS);
    free(c);
}

static void takes_messages_cut_anywhere_and_of_any_size(void **state)
{
    static uint8_t frame[CONTROL_CHANNEL_INPUT_SIZE];
    static char payload[150 * 1024];
    struct control_channel_event event;
    (void) state;
    struct control_channel *c = open_channel();
    size_t len = service_message(frame, "interactive_shell", start_a);
    for (size_t i = 0; i < len; i++) {
        assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
        hand_over(c, START_MS, frame + i, 1);
    }
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_START);
    int start = snprintf(payload, sizeof payload, "{\"TaskId\":\"big\",\"Content\":\"");
    memset(payload + start, 'x', sizeof payload - (size_t) start);
    memcpy(payload + sizeof payload - 3, "\"}", 3);
    say(c, START_MS, "interactive_shell", payload);
    control_channel_next(c, START_MS, &event);
    assert_int_equal(event.type, CONTROL_CHANNEL_START);
    assert_int_equal(event.text.len, sizeof payload - 1);
    free(c);
}

static void terminates_by_id(void **state)
{
    char text[600];
    (void) state;
    struct control_channel *c = open_channel();
    say(c, START_MS, "channel_closed", "{\"SessionId\":\"session-a\",\"Output\":\"x\"}");
    say(c, START_MS, "channel_closed", "{}");
    say(c, START_MS, "control_channel_ready", "");
    say(c, START_MS, "agent_job_reply_ack", "{}");
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_TERMINATE);
    assert_string_equal(text, "session-a");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_READY);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    free(c);
}

static void tells_unknown_types_once(void **state)
{
    char text[600];
    char type[AGENT_MESSAGE_TYPE_SIZE + 1];
    uint8_t frame[64] = {0};
    (void) state;
    struct control_channel *c = open_channel();
    hand_over(c, START_MS, frame, server_frame(frame, WEBSOCKET_BINARY, "short", 5));
    hand_over(c, START_MS, frame, server_frame(frame, WEBSOCKET_TEXT, "text", 4));
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_UNKNOWN);
    assert_string_equal(text, "a message that can't be parsed");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    for (int i = 0; i < CONTROL_CHANNEL_TYPES_TOLD + 3; i++) {
        snprintf(type, sizeof type, "novelty_%d", i);
        say(c, START_MS, type, "{}");
        say(c, START_MS, type, "{}");
        if (i < CONTROL_CHANNEL_TYPES_TOLD - 1) {
            assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_UNKNOWN);
            assert_string_equal(text, type);
        }
        assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    }
    free(c);
}

static void refuses_jobs_with_their_code(void **state)
{
    struct agent_message message;
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    say(c, START_MS, "agent_job", "{\"JobId\":\"job-1\",\"Content\":\"{}\"}");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_REFUSED_JOB);
    hear_message(c, START_MS, &message);
    assert_int_equal(message.type, AGENT_MESSAGE_AGENT_JOB_ACK);
    assert_int_equal(message.created_unix_ms, START_MS + UNIX_OFFSET_MS);
    assert_string_equal(member(&message, "jobId"), "job-1");
    assert_string_equal(member(&message, "acknowledgedMessageId"), "12345678-9abc-4def-8001-020304050607");
    assert_string_equal(member(&message, "statusCode"), "51407");
    assert_string_equal(member(&message, "errorMessage"), "ContainerNotSupported");
    hear_nothing(c, START_MS);
    free(c);
}

/* ---- reports ---- */

static void acknowledge(struct control_channel *c, int64_t now_ms, const struct agent_message *message)
{
    char id[UUID_TEXT_SIZE];
    char payload[128];
    uuid_format(message->id, id);
    snprintf(payload, sizeof payload, "{\"MessageId\":\"%s\"}", id);
    say(c, now_ms, "agent_task_acknowledge", payload);
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_NOTHING);
}

static void reports_until_acknowledged(void **state)
{
    struct agent_message message;
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED,
                           STR_LITERAL("no such \"host\""));
    assert_true(control_channel_reports_pending(c));
    assert_int_equal(control_channel_deadline(c), START_MS);
    hear_message(c, START_MS, &message);
    assert_int_equal(message.type, AGENT_MESSAGE_AGENT_TASK_COMPLETE);
    assert_string_equal(member(&message, "TaskId"), "session-a");
    assert_string_equal(member(&message, "FinalTaskStatus"), "Failed");
    assert_string_equal(member(&message, "Output"), "no such \"host\"");
    size_t at;
    assert_true(str_find((struct str){(const char *) message.payload, message.payload_len},
                         "\"RetryNumber\":1", &at));
    assert_string_equal(member(&message, "InstanceId"), "ecs:default_0123_4567-89");
    uint8_t id[UUID_SIZE];
    memcpy(id, message.id, sizeof id);
    hear_nothing(c, START_MS + CONTROL_CHANNEL_REPORT_MS - 1);
    assert_int_equal(control_channel_deadline(c), START_MS + CONTROL_CHANNEL_REPORT_MS);
    hear_message(c, START_MS + CONTROL_CHANNEL_REPORT_MS, &message);
    assert_memory_equal(message.id, id, sizeof id); /* the same message again */
    say(c, START_MS, "agent_task_acknowledge", "{\"MessageId\":\"00000000-0000-4000-8000-000000000000\"}");
    say(c, START_MS, "agent_task_acknowledge", "{\"MessageId\":\"nonsense\"}");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    assert_true(control_channel_reports_pending(c));
    acknowledge(c, START_MS + 1100, &message);
    assert_false(control_channel_reports_pending(c));
    hear_nothing(c, START_MS + 10 * CONTROL_CHANNEL_REPORT_MS);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    control_channel_report(c, START_MS, STR_LITERAL("session-b"), CONTROL_CHANNEL_SUCCEEDED, STR_LITERAL(""));
    hear_message(c, START_MS, &message);
    assert_string_equal(member(&message, "FinalTaskStatus"), "Success");
    free(c);
}

static void reports_that_nobody_acknowledges_are_told_as_lost(void **state)
{
    struct control_channel_event event;
    struct agent_message message;
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED, STR_LITERAL("x"));
    control_channel_report(c, START_MS, STR_LITERAL("session-b"), CONTROL_CHANNEL_FAILED, STR_LITERAL("y"));
    for (int i = 0; i < CONTROL_CHANNEL_REPORT_TRIES; i++) {
        hear_message(c, START_MS + i * CONTROL_CHANNEL_REPORT_MS, &message);
        hear_message(c, START_MS + i * CONTROL_CHANNEL_REPORT_MS, &message);
        hear_nothing(c, START_MS + i * CONTROL_CHANNEL_REPORT_MS);
    }
    int64_t now_ms = START_MS + CONTROL_CHANNEL_REPORT_TRIES * CONTROL_CHANNEL_REPORT_MS;
    hear_nothing(c, now_ms);
    assert_int_equal(control_channel_deadline(c), INT64_MIN);
    control_channel_next(c, now_ms, &event);
    assert_int_equal(event.type, CONTROL_CHANNEL_REPORT_LOST);
    assert_int_equal(event.text.len, strlen("session-a"));
    assert_int_equal(event.count, 2);
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_NOTHING);
    assert_false(control_channel_reports_pending(c));
    free(c);
}

static void reports_wait_for_a_connection_and_survive_its_loss(void **state)
{
    struct agent_message message;
    (void) state;
    struct control_channel *c = new_channel();
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED, STR_LITERAL("x"));
    connect(c, START_MS);
    assert_int_equal(control_channel_deadline(c), START_MS);
    hear_first_frame(c, START_MS);
    for (int i = 0; i < CONTROL_CHANNEL_REPORT_TRIES; i++)
        hear_message(c, START_MS + i * CONTROL_CHANNEL_REPORT_MS, &message);
    disconnect(c, START_MS + 2500);
    hear_nothing(c, START_MS + 60000);
    connect(c, START_MS + 60000);
    hear_first_frame(c, START_MS + 60000);
    hear_message(c, START_MS + 60000, &message); /* nobody heard those three */
    acknowledge(c, START_MS + 60000, &message);
    assert_false(control_channel_reports_pending(c));
    free(c);
}

static void a_report_waits_until_it_is_due(void **state)
{
    struct agent_message message;
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    control_channel_report(c, START_MS + 1500, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED,
                           STR_LITERAL("x"));
    hear_nothing(c, START_MS + 1499);
    assert_int_equal(control_channel_deadline(c), START_MS + 1500);
    disconnect(c, START_MS + 100);
    connect(c, START_MS + 1000); /* another connection does not make it due */
    hear_first_frame(c, START_MS + 1000);
    hear_nothing(c, START_MS + 1499);
    hear_message(c, START_MS + 1500, &message);
    assert_string_equal(member(&message, "TaskId"), "session-a");
    free(c);
}

static void what_was_reported_does_not_start(void **state)
{
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED, STR_LITERAL("x"));
    say(c, START_MS, "interactive_shell", "{\"TaskId\":\"session-a\"}");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    say(c, START_MS, "interactive_shell", "{\"TaskId\":\"session-b\"}");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_START);
    free(c);
}

/* All reports that are due, acknowledged; how many of them were of refused sessions. */
static size_t hear_reports(struct control_channel *c, int64_t now_ms, size_t expected)
{
    struct agent_message message;
    size_t refused = 0;
    piece = SIZE_MAX;
    for (size_t i = 0; i < expected; i++) {
        hear_message(c, now_ms, &message);
        refused += strcmp(member(&message, "Output"), "refused") == 0;
        acknowledge(c, now_ms, &message);
    }
    hear_nothing(c, now_ms);
    piece = 1;
    return refused;
}

/* 1,500 starts at once, and what a refusal can't take a place from: sessions that ran. */
static void refusals_cost_no_other_report(void **state)
{
    char id[32];
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    for (int i = 0; i < 1500; i++) {
        snprintf(id, sizeof id, "session-%d", i);
        bool refused = i % 100 != 0;
        control_channel_report(c, START_MS + (refused ? 1500 : 0), str_from(id),
                               refused ? CONTROL_CHANNEL_REFUSED : CONTROL_CHANNEL_FAILED,
                               refused ? STR_LITERAL("refused") : STR_LITERAL("failed"));
    }
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING); /* none is lost */
    assert_int_equal(hear_reports(c, START_MS, 15), 0);
    assert_int_equal(hear_reports(c, START_MS + 1500, 1485), 1485);
    assert_false(control_channel_reports_pending(c));
    free(c);
}

static void each_kind_of_report_has_its_bound(void **state)
{
    struct control_channel_event event;
    char id[32];
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    for (int i = 0; i < 3 * CONTROL_CHANNEL_REFUSALS; i++) {
        snprintf(id, sizeof id, "refused-%d", i);
        control_channel_report(c, START_MS, str_from(id), CONTROL_CHANNEL_REFUSED, STR_LITERAL("refused"));
    }
    control_channel_next(c, START_MS, &event);
    assert_int_equal(event.type, CONTROL_CHANNEL_REPORT_LOST);
    assert_int_equal(event.count, 2 * CONTROL_CHANNEL_REFUSALS);
    snprintf(id, sizeof id, "refused-%d", CONTROL_CHANNEL_REFUSALS);
    assert_memory_equal(event.text.ptr, id, event.text.len);
    for (int i = 0; i <= CONTROL_CHANNEL_REPORTS; i++) {
        snprintf(id, sizeof id, "ran-%d", i);
        control_channel_report(c, START_MS, str_from(id), CONTROL_CHANNEL_SUCCEEDED, STR_LITERAL(""));
    }
    control_channel_next(c, START_MS, &event);
    assert_int_equal(event.type, CONTROL_CHANNEL_REPORT_LOST);
    assert_int_equal(event.count, 1);
    assert_int_equal(hear_reports(c, START_MS, CONTROL_CHANNEL_REPORTS + CONTROL_CHANNEL_REFUSALS),
                     CONTROL_CHANNEL_REFUSALS);
    free(c);
}

/* A service that reads nothing: what is due and does not fit waits for room, not in a loop. */
static void a_report_that_does_not_fit_is_not_due(void **state)
{
    char id[32];
    size_t len;
    (void) state;
    struct control_channel *c = open_channel();
    for (int i = 0; i < 100; i++) {
        snprintf(id, sizeof id, "session-%d", i);
        control_channel_report(c, START_MS, str_from(id), CONTROL_CHANNEL_FAILED, STR_LITERAL("failed"));
    }
    assert_int_equal(control_channel_deadline(c), START_MS);
    assert_non_null(control_channel_out_buf(c, START_MS, &len));
    assert_true(len > CONTROL_CHANNEL_OUTPUT_SIZE / 2);
    for (int64_t now_ms = START_MS; now_ms < START_MS + CONTROL_CHANNEL_PING_MS; now_ms += 1000) {
        control_channel_out_buf(c, now_ms, &len);
        assert_true(control_channel_deadline(c) > now_ms);
        tick(c, now_ms);
        assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_NOTHING);
    }
    int64_t ping_ms = START_MS + CONTROL_CHANNEL_PING_MS;
    tick(c, ping_ms);
    assert_true(control_channel_deadline(c) > ping_ms);
    hear_first_frame(c, ping_ms);
    for (int heard = 0; control_channel_reports_pending(c); heard++) { /* some were queued twice by now */
        struct agent_message message;
        assert_true(heard < 200);
        hear_message(c, ping_ms, &message);
        acknowledge(c, ping_ms, &message);
    }
    free(c);
}

/* The clock may be set after the start. */
static void messages_have_the_date_of_their_sending(void **state)
{
    struct agent_message message;
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), CONTROL_CHANNEL_FAILED, STR_LITERAL("x"));
    control_channel_tick(c, START_MS, 1700000000123);
    hear_message(c, START_MS, &message);
    assert_int_equal(message.created_unix_ms, 1700000000123);
    free(c);
}

static void reasons_are_cut_and_ids_are_not(void **state)
{
    struct agent_message message;
    char reason[2000];
    char id[SSMMESSAGES_SESSION_ID_SIZE + 1];
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    memset(reason, 'r', sizeof reason);
    memset(id, 'i', sizeof id);
    control_channel_report(c, START_MS, (struct str){id, SSMMESSAGES_SESSION_ID_SIZE}, CONTROL_CHANNEL_FAILED,
                           str_from(""));
    assert_false(control_channel_reports_pending(c));
    control_channel_report(c, START_MS, (struct str){id, SSMMESSAGES_SESSION_ID_SIZE - 1},
                           CONTROL_CHANNEL_FAILED, (struct str){reason, sizeof reason});
    hear_message(c, START_MS, &message);
    assert_int_equal(strlen(member(&message, "TaskId")), SSMMESSAGES_SESSION_ID_SIZE - 1);
    assert_int_equal(strlen(member(&message, "Output")), CONTROL_CHANNEL_REASON_SIZE - 1);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_due_without_a_connection),
        cmocka_unit_test(says_its_token_first_and_wipes_it),
        cmocka_unit_test(pings_and_notices_silence),
        cmocka_unit_test(answers_pings),
        cmocka_unit_test(leaves_when_the_service_closes),
        cmocka_unit_test(starts_each_session_once),
        cmocka_unit_test(remembers_the_last_sessions),
        cmocka_unit_test(pitfall_17_a_start_that_comes_at_once_is_taken),
        cmocka_unit_test(takes_messages_cut_anywhere_and_of_any_size),
        cmocka_unit_test(terminates_by_id),
        cmocka_unit_test(tells_unknown_types_once),
        cmocka_unit_test(refuses_jobs_with_their_code),
        cmocka_unit_test(reports_until_acknowledged),
        cmocka_unit_test(reports_that_nobody_acknowledges_are_told_as_lost),
        cmocka_unit_test(reports_wait_for_a_connection_and_survive_its_loss),
        cmocka_unit_test(a_report_waits_until_it_is_due),
        cmocka_unit_test(what_was_reported_does_not_start),
        cmocka_unit_test(refusals_cost_no_other_report),
        cmocka_unit_test(each_kind_of_report_has_its_bound),
        cmocka_unit_test(a_report_that_does_not_fit_is_not_due),
        cmocka_unit_test(messages_have_the_date_of_their_sending),
        cmocka_unit_test(reasons_are_cut_and_ids_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
