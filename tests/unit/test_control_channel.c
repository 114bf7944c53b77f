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

static struct control_channel *new_channel(void)
{
    static const uint8_t seed[PRNG_SEED_SIZE] = {1};
    struct control_channel *c = malloc(sizeof *c);
    assert_non_null(c);
    memset(c, 0xa5, sizeof *c); /* init must not count on zeroes */
    control_channel_init(c, STR_LITERAL("ecs:default_0123_4567-89"), seed, UNIX_OFFSET_MS, START_MS);
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

static void connect(struct control_channel *c, int64_t now_ms)
{
    control_channel_tick(c, now_ms);
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_FETCH);
    control_channel_fetched(c);
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_CONNECT);
    control_channel_connected(c, now_ms, STR_LITERAL("{\"TokenValue\":\"secret\"}"));
    assert_int_equal(c->state, CONTROL_CHANNEL_OPEN);
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

/* The next frame that the channel sends; taken a few bytes at a time. */
static enum websocket_event_type hear(struct control_channel *c, int64_t now_ms,
                                      struct websocket_event *event)
{
    static struct websocket_decoder ear;
    static uint8_t memory[CONTROL_CHANNEL_OUTPUT_SIZE + WEBSOCKET_HEADROOM];
    size_t len;
    size_t room;
    websocket_decoder_init(&ear, WEBSOCKET_SERVER, memory, sizeof memory);
    for (;;) {
        assert_int_equal(websocket_next(&ear, event, NULL), 0);
        if (event->type != WEBSOCKET_EVENT_NONE)
            return event->type;
        const uint8_t *out = control_channel_out_buf(c, now_ms, &len);
        if (len == 0)
            return WEBSOCKET_EVENT_NONE;
        *websocket_in_buf(&ear, &room) = out[0];
        websocket_in_ack(&ear, 1);
        control_channel_out_ack(c, 1);
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
    assert_int_equal(hear(c, now_ms, &event), WEBSOCKET_EVENT_MESSAGE);
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

/* ---- the life of a connection ---- */

static void opens_with_a_token_and_says_it_first(void **state)
{
    (void) state;
    struct control_channel *c = new_channel();
    assert_int_equal(c->state, CONTROL_CHANNEL_WAITING);
    assert_int_equal(control_channel_deadline(c), START_MS);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    control_channel_tick(c, START_MS);
    assert_int_equal(c->state, CONTROL_CHANNEL_FETCHING);
    assert_int_equal(control_channel_deadline(c), INT64_MAX); /* the caller's call has one */
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_FETCH);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING); /* asked for once */
    control_channel_fetched(c);
    assert_int_equal(c->state, CONTROL_CHANNEL_CONNECTING);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_CONNECT);
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    control_channel_connected(c, START_MS, STR_LITERAL("{\"TokenValue\":\"secret\"}"));
    hear_first_frame(c, START_MS);
    hear_nothing(c, START_MS);
    for (size_t i = 0; i + 6 <= sizeof c->out; i++)
        assert_memory_not_equal(c->out + i, "secret", 6);
    free(c);
}

/* What each call does in each state: the state that follows. */
static void every_call_in_every_state(void **state)
{
    enum { FETCHED, CONNECTED, FAILED, CALLS };
    static const enum control_channel_state after[CONTROL_CHANNEL_STATE_COUNT][CALLS] = {
        [CONTROL_CHANNEL_WAITING] = {[FETCHED] = CONTROL_CHANNEL_WAITING,
                                     [CONNECTED] = CONTROL_CHANNEL_WAITING,
                                     [FAILED] = CONTROL_CHANNEL_WAITING},
        [CONTROL_CHANNEL_FETCHING] = {[FETCHED] = CONTROL_CHANNEL_CONNECTING,
                                      [CONNECTED] = CONTROL_CHANNEL_FETCHING,
                                      [FAILED] = CONTROL_CHANNEL_WAITING},
        [CONTROL_CHANNEL_CONNECTING] = {[FETCHED] = CONTROL_CHANNEL_CONNECTING,
                                        [CONNECTED] = CONTROL_CHANNEL_OPEN,
                                        [FAILED] = CONTROL_CHANNEL_WAITING},
        [CONTROL_CHANNEL_OPEN] = {[FETCHED] = CONTROL_CHANNEL_OPEN,
                                  [CONNECTED] = CONTROL_CHANNEL_OPEN,
                                  [FAILED] = CONTROL_CHANNEL_WAITING},
    };
    (void) state;
    for (int from = 0; from < CONTROL_CHANNEL_STATE_COUNT; from++) {
        for (int call = 0; call < CALLS; call++) {
            struct control_channel *c = new_channel();
            if (from >= CONTROL_CHANNEL_FETCHING)
                control_channel_tick(c, START_MS);
            if (from >= CONTROL_CHANNEL_CONNECTING)
                control_channel_fetched(c);
            if (from >= CONTROL_CHANNEL_OPEN)
                control_channel_connected(c, START_MS, STR_LITERAL("x"));
            assert_int_equal(c->state, from);
            if (call == FETCHED)
                control_channel_fetched(c);
            else if (call == CONNECTED)
                control_channel_connected(c, START_MS, STR_LITERAL("y"));
            else
                control_channel_failed(c, START_MS, ERROR_CLOSED, "why", HIGH);
            if (c->state != after[from][call])
                fail_msg("call %d in state %d leads to %d", call, from, c->state);
            /* Only a failure that was one puts off the next try. */
            if (call == FAILED)
                assert_int_equal(control_channel_deadline(c) > START_MS, from != CONTROL_CHANNEL_WAITING);
            free(c);
        }
    }
}

static void pitfall_17_tries_again_soon_and_for_ever(void **state)
{
    (void) state;
    struct control_channel *c = new_channel();
    int64_t now_ms = START_MS;
    int64_t longest_ms = 0;
    for (int i = 0; i < 1000; i++) {
        control_channel_tick(c, now_ms);
        assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_FETCH);
        control_channel_failed(c, now_ms, ERROR_UNAVAILABLE, "503", UINT32_MAX);
        assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_NOTHING);
        int64_t pause_ms = control_channel_deadline(c) - now_ms;
        if (i == 0)
            assert_true(pause_ms < 1000);
        assert_true(pause_ms <= 30000);
        control_channel_tick(c, now_ms + pause_ms - 1);
        assert_int_equal(c->state, CONTROL_CHANNEL_WAITING);
        longest_ms = pause_ms > longest_ms ? pause_ms : longest_ms;
        now_ms += pause_ms;
    }
    assert_int_equal(longest_ms, 30000);
    free(c);
}

static void throttling_raises_the_floor(void **state)
{
    (void) state;
    struct control_channel *c = new_channel();
    control_channel_tick(c, START_MS);
    control_channel_failed(c, START_MS, ERROR_THROTTLED, "429", 0);
    assert_true(control_channel_deadline(c) >= START_MS + 2500);
    free(c);
}

static void the_back_off_starts_over_only_after_a_steady_connection(void **state)
{
    (void) state;
    for (int steady = 0; steady < 2; steady++) {
        struct control_channel *c = new_channel();
        int64_t now_ms = START_MS;
        for (int i = 0; i < 10; i++) { /* opens and is closed at once */
            connect(c, now_ms);
            control_channel_failed(c, now_ms, ERROR_CLOSED, "bye", UINT32_MAX);
            now_ms = control_channel_deadline(c);
        }
        connect(c, now_ms);
        now_ms += CONTROL_CHANNEL_STEADY_MS - !steady;
        control_channel_failed(c, now_ms, ERROR_CLOSED, "bye", UINT32_MAX);
        assert_int_equal(control_channel_deadline(c) - now_ms, steady ? 900 : 30000);
        free(c);
    }
}

static void pings_and_notices_silence(void **state)
{
    struct websocket_event event;
    char text[600];
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    int64_t now_ms = START_MS + CONTROL_CHANNEL_PING_MS;
    assert_int_equal(control_channel_deadline(c), now_ms);
    control_channel_tick(c, now_ms - 1);
    hear_nothing(c, now_ms - 1);
    control_channel_tick(c, now_ms);
    assert_int_equal(hear(c, now_ms, &event), WEBSOCKET_EVENT_PING);
    assert_int_equal(event.len, 9);
    assert_memory_equal(event.data, "keepalive", 9);
    int64_t silent_ms = START_MS + CONTROL_CHANNEL_PING_MS + CONTROL_CHANNEL_SILENCE_MS;
    control_channel_tick(c, silent_ms - 1);
    assert_int_equal(next(c, silent_ms - 1, NULL), CONTROL_CHANNEL_NOTHING);
    control_channel_tick(c, silent_ms);
    assert_int_equal(control_channel_deadline(c), INT64_MIN);
    for (int i = 0; i < 2; i++) { /* until it is answered */
        assert_int_equal(next(c, silent_ms, text), CONTROL_CHANNEL_DROP);
        assert_string_equal(text, "the service has been silent for 114 s");
    }
    control_channel_failed(c, silent_ms, ERROR_TIMEOUT, c->why, HIGH);
    assert_int_equal(next(c, silent_ms, NULL), CONTROL_CHANNEL_NOTHING);
    assert_string_equal(c->why, "the service has been silent for 114 s");
    free(c);
}

static void any_byte_ends_silence(void **state)
{
    uint8_t pong[WEBSOCKET_HEADROOM + 9] = {0};
    (void) state;
    struct control_channel *c = open_channel();
    int64_t now_ms = START_MS + CONTROL_CHANNEL_PING_MS + CONTROL_CHANNEL_SILENCE_MS - 1;
    hand_over(c, now_ms, pong, server_frame(pong, WEBSOCKET_PONG, "keepalive", 9));
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_NOTHING);
    control_channel_tick(c, now_ms + CONTROL_CHANNEL_PING_MS + CONTROL_CHANNEL_SILENCE_MS - 1);
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_NOTHING);
    control_channel_tick(c, now_ms + CONTROL_CHANNEL_PING_MS + CONTROL_CHANNEL_SILENCE_MS);
    assert_int_equal(next(c, now_ms, NULL), CONTROL_CHANNEL_DROP);
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

static void drops_what_is_closed_or_no_websocket(void **state)
{
    uint8_t frame[WEBSOCKET_HEADROOM + WEBSOCKET_CONTROL_MAX] = {0};
    uint8_t close[WEBSOCKET_CONTROL_MAX];
    char text[600];
    (void) state;
    struct control_channel *c = open_channel();
    size_t len = websocket_close_payload(close, 1000, str_from("Bye"));
    hand_over(c, START_MS, frame, server_frame(frame, WEBSOCKET_CLOSE, close, len));
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_DROP);
    assert_string_equal(text, "the service closed the websocket: 1000 Bye");
    control_channel_failed(c, START_MS, ERROR_CLOSED, text, 0);
    connect(c, START_MS);
    hand_over(c, START_MS, (const uint8_t *) "\x7f\xff", 2);
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_DROP);
    assert_true(strlen(text) > 0);
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
    control_channel_failed(c, START_MS, ERROR_CLOSED, "", 0);
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

static void remembers_the_last_256_sessions(void **state)
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
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), true, STR_LITERAL("no such \"host\""));
    assert_true(control_channel_reports_pending(c));
    assert_int_equal(control_channel_deadline(c), START_MS);
    hear_message(c, START_MS, &message);
    assert_int_equal(message.type, AGENT_MESSAGE_AGENT_TASK_COMPLETE);
    assert_string_equal(member(&message, "TaskId"), "session-a");
    assert_string_equal(member(&message, "FinalTaskStatus"), "Failed");
    assert_string_equal(member(&message, "Output"), "no such \"host\"");
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
    control_channel_report(c, START_MS, STR_LITERAL("session-b"), false, STR_LITERAL(""));
    hear_message(c, START_MS, &message);
    assert_string_equal(member(&message, "FinalTaskStatus"), "Success");
    free(c);
}

static void a_report_that_nobody_acknowledges_is_told_as_lost(void **state)
{
    struct agent_message message;
    char text[600];
    (void) state;
    struct control_channel *c = open_channel();
    hear_first_frame(c, START_MS);
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), true, STR_LITERAL("x"));
    control_channel_report(c, START_MS, STR_LITERAL("session-b"), true, STR_LITERAL("y"));
    for (int i = 0; i < CONTROL_CHANNEL_REPORT_TRIES; i++) {
        hear_message(c, START_MS + i * CONTROL_CHANNEL_REPORT_MS, &message);
        hear_message(c, START_MS + i * CONTROL_CHANNEL_REPORT_MS, &message);
        hear_nothing(c, START_MS + i * CONTROL_CHANNEL_REPORT_MS);
    }
    int64_t now_ms = START_MS + CONTROL_CHANNEL_REPORT_TRIES * CONTROL_CHANNEL_REPORT_MS;
    hear_nothing(c, now_ms);
    assert_int_equal(control_channel_deadline(c), INT64_MIN);
    assert_int_equal(next(c, now_ms, text), CONTROL_CHANNEL_REPORT_LOST);
    assert_string_equal(text, "session-a");
    hear_nothing(c, now_ms);
    assert_int_equal(next(c, now_ms, text), CONTROL_CHANNEL_REPORT_LOST);
    assert_string_equal(text, "session-b");
    assert_int_equal(next(c, now_ms, text), CONTROL_CHANNEL_NOTHING);
    assert_false(control_channel_reports_pending(c));
    free(c);
}

static void reports_wait_for_a_connection_and_survive_its_loss(void **state)
{
    struct agent_message message;
    (void) state;
    struct control_channel *c = new_channel();
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), true, STR_LITERAL("x"));
    hear_nothing(c, START_MS);
    assert_int_equal(control_channel_deadline(c), START_MS);
    connect(c, START_MS);
    hear_first_frame(c, START_MS);
    for (int i = 0; i < CONTROL_CHANNEL_REPORT_TRIES; i++)
        hear_message(c, START_MS + i * CONTROL_CHANNEL_REPORT_MS, &message);
    control_channel_failed(c, START_MS + 2500, ERROR_CLOSED, "gone", 0);
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
    control_channel_report(c, START_MS + 1500, STR_LITERAL("session-a"), true, STR_LITERAL("x"));
    hear_nothing(c, START_MS + 1499);
    assert_int_equal(control_channel_deadline(c), START_MS + 1500);
    control_channel_failed(c, START_MS + 100, ERROR_CLOSED, "gone", 0);
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
    control_channel_report(c, START_MS, STR_LITERAL("session-a"), true, STR_LITERAL("x"));
    say(c, START_MS, "interactive_shell", "{\"TaskId\":\"session-a\"}");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_NOTHING);
    say(c, START_MS, "interactive_shell", "{\"TaskId\":\"session-b\"}");
    assert_int_equal(next(c, START_MS, NULL), CONTROL_CHANNEL_START);
    free(c);
}

static void the_oldest_report_gives_way(void **state)
{
    struct agent_message message;
    char id[32];
    char text[600];
    (void) state;
    struct control_channel *c = open_channel();
    for (int i = 0; i <= CONTROL_CHANNEL_REPORTS; i++) {
        snprintf(id, sizeof id, "session-%d", i);
        control_channel_report(c, START_MS, str_from(id), false, STR_LITERAL(""));
    }
    assert_int_equal(next(c, START_MS, text), CONTROL_CHANNEL_REPORT_LOST);
    assert_string_equal(text, "session-0");
    hear_first_frame(c, START_MS);
    for (int i = 1; i <= CONTROL_CHANNEL_REPORTS; i++) { /* the buffer holds a few at a time */
        snprintf(id, sizeof id, "session-%d", i);
        hear_message(c, START_MS, &message);
        assert_string_equal(member(&message, "TaskId"), id);
    }
    hear_nothing(c, START_MS);
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
    control_channel_report(c, START_MS, (struct str){id, SSMMESSAGES_SESSION_ID_SIZE}, true, str_from(""));
    assert_false(control_channel_reports_pending(c));
    control_channel_report(c, START_MS, (struct str){id, SSMMESSAGES_SESSION_ID_SIZE - 1}, true,
                           (struct str){reason, sizeof reason});
    hear_message(c, START_MS, &message);
    assert_int_equal(strlen(member(&message, "TaskId")), SSMMESSAGES_SESSION_ID_SIZE - 1);
    assert_int_equal(strlen(member(&message, "Output")), CONTROL_CHANNEL_REASON_SIZE - 1);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_with_a_token_and_says_it_first),
        cmocka_unit_test(every_call_in_every_state),
        cmocka_unit_test(pitfall_17_tries_again_soon_and_for_ever),
        cmocka_unit_test(throttling_raises_the_floor),
        cmocka_unit_test(the_back_off_starts_over_only_after_a_steady_connection),
        cmocka_unit_test(pings_and_notices_silence),
        cmocka_unit_test(any_byte_ends_silence),
        cmocka_unit_test(answers_pings),
        cmocka_unit_test(drops_what_is_closed_or_no_websocket),
        cmocka_unit_test(starts_each_session_once),
        cmocka_unit_test(remembers_the_last_256_sessions),
        cmocka_unit_test(pitfall_17_a_start_that_comes_at_once_is_taken),
        cmocka_unit_test(takes_messages_cut_anywhere_and_of_any_size),
        cmocka_unit_test(terminates_by_id),
        cmocka_unit_test(tells_unknown_types_once),
        cmocka_unit_test(refuses_jobs_with_their_code),
        cmocka_unit_test(reports_until_acknowledged),
        cmocka_unit_test(a_report_that_nobody_acknowledges_is_told_as_lost),
        cmocka_unit_test(reports_wait_for_a_connection_and_survive_its_loss),
        cmocka_unit_test(a_report_waits_until_it_is_due),
        cmocka_unit_test(what_was_reported_does_not_start),
        cmocka_unit_test(the_oldest_report_gives_way),
        cmocka_unit_test(reasons_are_cut_and_ids_are_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
