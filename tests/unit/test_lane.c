/* One lane in either role, against a peer that says what the test says. Its events stand in `events`, as
 * text. */
#include "tunnel/lane.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/num.h"
#include "lib/fresh_pool.h"
#include "lib/lane_peer.h"

static const struct handshake_extension ours = {.is_ours = true, .lanes = true, .destinations = true};

static struct lane lane;
static struct lane_peer peer;
static struct document document;
static int64_t now_ms;
static char events[1024], heard[4096];

static void note(char *log, size_t size, const char *text, size_t len)
{
    size_t used = strlen(log);
    snprintf(log + used, size - used, "%s%.*s", used > 0 ? " " : "", (int) len, text);
}

static void expect(char *log, const char *expected)
{
    assert_string_equal(log, expected);
    log[0] = '\0';
}

static void hear(void *context, const struct agent_message *message)
{
    char text[1100];
    struct reader in = reader_of(message->payload, message->payload_len);
    (void) context;
    if (message->type == AGENT_MESSAGE_ACKNOWLEDGE)
        return;
    if (message->type == AGENT_MESSAGE_AGENT_SESSION_STATE)
        snprintf(text, sizeof text, "state");
    else if (message->payload_type == PAYLOAD_FLAG)
        snprintf(text, sizeof text, "flag:%u", reader_u32be(&in));
    else
        snprintf(text, sizeof text, "%u:%.*s", message->payload_type,
                 message->payload_type == PAYLOAD_OUTPUT ? (int) message->payload_len : 0,
                 (const char *) message->payload);
    note(heard, sizeof heard, text, strlen(text));
}

static void take_events(void)
{
    static const char *const names[] = {"", "AGREED", "OPEN", "DATA", "LOST", "UNKNOWN"};
    struct lane_event event;
    for (lane_next(&lane, now_ms, &event); event.type != LANE_EVENT_NONE; lane_next(&lane, now_ms, &event)) {
        note(events, sizeof events, names[event.type], strlen(names[event.type]));
        if (event.type != LANE_EVENT_DATA)
            continue;
        note(events, sizeof events, (const char *) event.data, event.len);
        lane_consume(&lane, event.len);
    }
}

/* Until there is nothing to do; the next deadline. */
static int64_t run(void)
{
    for (int turns = 0;; turns++) {
        lane_tick(&lane, now_ms, false);
        lane_peer_pump(&peer, now_ms);
        take_events();
        lane_peer_pump(&peer, now_ms);
        int64_t deadline_ms = lane_deadline(&lane, now_ms, false);
        if (deadline_ms > now_ms)
            return deadline_ms;
        assert_true(turns < 10);
    }
}

static int64_t run_at(int64_t then_ms)
{
    now_ms = then_ms;
    return run();
}

static void begin(enum lane_role role)
{
    struct lane_config config = {
        .role = role,
        .document = &document,
        .extension = ours,
        .channel = {.ping_interval_ms = 300000, .user = fresh_pool(0, FRESH_POOL_BLOCKS)},
        .memory = fresh_memory(0, LANE_MEMORY_SIZE)};
    now_ms = 1000;
    memset(&document, 0, sizeof document);
    str_copy(STR_LITERAL("{}"), document.properties, sizeof document.properties);
    memset(config.extension.secret, role == LANE_AGENT ? 'a' : 0, HANDSHAKE_SECRET_SIZE - 1);
    lane_init(&lane, &config, now_ms);
    lane_peer_init(&peer, &lane);
    peer.heard = hear;
    assert_int_equal(lane_deadline(&lane, now_ms, false), INT64_MAX); /* until somebody connects it */
    lane_peer_connect(&peer, now_ms);
    events[0] = heard[0] = '\0';
    run();
}

static void begin_open(enum lane_role role, const char *version, const struct handshake_extension *extension)
{
    begin(role);
    lane_probed(&lane, now_ms, STR_LITERAL("hello"));
    if (role == LANE_AGENT)
        lane_peer_respond(&peer, version, extension);
    else if (lane_peer_request(&peer, version, extension))
        lane_peer_complete(&peer);
    run();
    assert_int_equal(lane.state, LANE_OPEN);
    expect(events, "AGREED OPEN");
    heard[0] = '\0';
}

/* ---- the handshake ---- */

static void an_agent_asks_and_completes_when_the_target_was_probed(void **state)
{
    (void) state;
    begin(LANE_AGENT);
    expect(heard, "state 5:");
    assert_int_equal(lane.state, LANE_HANDSHAKING);
    lane_peer_respond(&peer, "1.2.804.0", NULL);
    run();
    expect(events, "AGREED");
    expect(heard, "");
    assert_true(lane_peer_multiplexes(&lane));
    assert_false(lane_peer_is_ours(&lane) || lane_has_pieces(&lane) || lane_has_destinations(&lane));
    assert_string_equal(lane_peer_version(&lane), "1.2.804.0");
    lane_probed(&lane, now_ms, STR_LITERAL("Reached it."));
    run();
    expect(events, "OPEN");
    expect(heard, "7:");
}

static void an_agent_completes_after_2_s_whatever_the_target_does(void **state)
{
    (void) state;
    begin(LANE_AGENT);
    lane_peer_respond(&peer, "1.2.804.0", NULL);
    assert_in_range(run(), 1001, 1000 + LANE_PROBE_MS);
    run_at(1000 + LANE_PROBE_MS - 1);
    expect(events, "AGREED");
    run_at(1000 + LANE_PROBE_MS);
    expect(events, "OPEN");
}

static void a_client_answers_and_waits_for_the_end_of_the_handshake(void **state)
{
    (void) state;
    begin(LANE_CLIENT);
    expect(heard, "");
    lane_peer_request(&peer, "3.3.4624.0", &ours);
    run();
    expect(events, "AGREED");
    expect(heard, "6:");
    assert_true(lane_peer_is_ours(&lane) && lane_has_pieces(&lane) && lane_has_destinations(&lane));
    lane_peer_complete(&peer);
    run();
    expect(events, "OPEN");
    assert_string_equal(lane.banner, "hello");
}

static void who_does_not_shake_hands_is_not_waited_for(void **state)
{
    (void) state;
    begin(LANE_AGENT);
    for (int64_t at_ms = now_ms; at_ms < 1000 + HANDSHAKE_TIMEOUT_MS - 1;)
        at_ms = num_min_i64(run_at(at_ms), 1000 + HANDSHAKE_TIMEOUT_MS - 1);
    assert_int_equal(lane.state, LANE_HANDSHAKING);
    run_at(1000 + HANDSHAKE_TIMEOUT_MS);
    assert_true(lane.failed && lane.state >= LANE_ENDING);
    assert_string_equal(lane.reason, "the client did not answer the handshake within 15 s");
    begin(LANE_CLIENT);
    run_at(1000 + LANE_REQUEST_MS - 1);
    assert_int_equal(lane.state, LANE_HANDSHAKING);
    run_at(1000 + LANE_REQUEST_MS);
    assert_true(lane.failed);
    begin(LANE_CLIENT);
    lane_peer_request(&peer, "3.3.4624.0", NULL);
    run();
    run_at(1000 + LANE_REQUEST_MS);
    assert_true(lane.failed); /* nor for who begins and does not complete */
}

static void a_new_connection_gives_the_handshake_new_time_and_says_again_what_was_not_kept(void **state)
{
    (void) state;
    begin(LANE_AGENT);
    heard[0] = '\0';
    now_ms += 10000;
    lane_peer_cut(&peer, now_ms);
    run();
    expect(events, "LOST");
    assert_true(lane_wants_connection(&lane));
    lane_peer_connect(&peer, now_ms);
    run();
    expect(heard, "state");
    run_at(11000 + HANDSHAKE_TIMEOUT_MS - 1);
    assert_int_equal(lane.state, LANE_HANDSHAKING);
}

static void data_waits_until_the_handshake_is_complete(void **state)
{
    (void) state;
    begin(LANE_AGENT);
    lane_peer_data(&peer, PAYLOAD_OUTPUT, "early", 5);
    run();
    expect(events, "");
    lane_peer_respond(&peer, "1.2.804.0", NULL); /* behind the data, and found there */
    run();
    expect(events, "AGREED");
    lane_probed(&lane, now_ms, STR_LITERAL(""));
    run();
    expect(events, "OPEN DATA early");
}

static void answers_that_make_no_sense_end_it_with_a_reason(void **state)
{
    static const char refusal[] =
        "{\"ClientVersion\":\"1.2.804.0\",\"ProcessedClientActions\":[{"
        "\"ActionType\":\"SessionType\",\"ActionStatus\":3,\"Error\":\"no ports\"}]}";
    static const char shell[] =
        "{\"AgentVersion\":\"3.3.4624.0\",\"RequestedClientActions\":[{\"ActionType\":"
        "\"SessionType\",\"ActionParameters\":{\"SessionType\":\"Standard_Stream\"}}]}";
    static char long_text[3000];
    (void) state;
    begin(LANE_AGENT);
    lane_peer_data(&peer, PAYLOAD_HANDSHAKE_RESPONSE, "{", 1);
    run();
    assert_true(lane.failed && lane.reason[0] != '\0');
    begin(LANE_AGENT);
    lane_peer_data(&peer, PAYLOAD_HANDSHAKE_RESPONSE, refusal, sizeof refusal - 1);
    run();
    assert_true(lane.failed && strstr(lane.reason, "no ports") != NULL);
    begin(LANE_AGENT);
    memset(long_text, ' ', sizeof long_text);
    lane_peer_data(&peer, PAYLOAD_HANDSHAKE_RESPONSE, long_text, sizeof long_text);
    run();
    assert_true(lane.failed && strstr(lane.reason, "longer than") != NULL);
    begin(LANE_CLIENT);
    lane_peer_data(&peer, PAYLOAD_HANDSHAKE_REQUEST, shell, sizeof shell - 1);
    run();
    assert_true(lane.failed && strstr(lane.reason, "another type than Port") != NULL);
    expect(heard, "6:"); /* it is told */
}

static void a_second_handshake_changes_nothing(void **state)
{
    (void) state;
    begin_open(LANE_AGENT, "1.2.804.0", NULL);
    lane_peer_respond(&peer, "1.1.0.0", &ours);
    lane_peer_request(&peer, "3.3.4624.0", NULL);
    lane_peer_complete(&peer);
    run();
    expect(events, "");
    assert_string_equal(lane_peer_version(&lane), "1.2.804.0");
    assert_false(lane_peer_is_ours(&lane));
}

/* ---- holding, and probes ---- */

static void awss_client_hears_nothing_until_it_has_spoken(void **state)
{
    (void) state;
    begin_open(LANE_AGENT, "1.2.804.0", NULL);
    lane_set_multiplexed(&lane, true);
    assert_int_equal(data_channel_send_room(&lane.channel, now_ms, PACER_BULK), 0);
    run_at(now_ms + 100000);
    assert_int_equal(data_channel_send_room(&lane.channel, now_ms, PACER_BULK), 0);
    lane_peer_data(&peer, PAYLOAD_OUTPUT, "x", 1);
    run();
    assert_int_not_equal(data_channel_send_room(&lane.channel, now_ms, PACER_BULK), 0);
    begin_open(LANE_AGENT, "1.2.804.0", &ours); /* one of ours needs no such care */
    assert_int_not_equal(data_channel_send_room(&lane.channel, now_ms, PACER_BULK), 0);
}

static void a_basic_sessions_target_may_speak_first_half_a_second_later(void **state)
{
    (void) state;
    begin_open(LANE_AGENT, "1.1.0.0", NULL);
    assert_false(lane_peer_multiplexes(&lane));
    lane_set_multiplexed(&lane, false);
    run();
    run_at(now_ms + LANE_BASIC_HOLD_MS - 1);
    assert_int_equal(data_channel_send_room(&lane.channel, now_ms, PACER_BULK), 0);
    run_at(now_ms + 1);
    assert_int_not_equal(data_channel_send_room(&lane.channel, now_ms, PACER_BULK), 0);
}

static void an_ack_probe_shows_what_awss_client_does_not_acknowledge_again(void **state)
{
    (void) state;
    begin_open(LANE_AGENT, "1.2.804.0", NULL);
    lane_set_multiplexed(&lane, true);
    lane_peer_data(&peer, PAYLOAD_OUTPUT, "x", 1);
    peer.acknowledges = false;
    run();
    assert_true(data_channel_send(&lane.channel, now_ms, PACER_BULK, "data", 4));
    run();
    lane_peer_cut(&peer, now_ms); /* and with it the acknowledgement */
    run();
    lane_peer_connect(&peer, now_ms);
    heard[0] = '\0';
    for (int64_t until_ms = now_ms + 3000; now_ms < until_ms;)
        now_ms = num_min_i64(run(), until_ms);
    assert_non_null(strstr(heard, "1:data"));
    assert_non_null(strstr(heard, "1:\x01\x03")); /* a NOP */
}

/* NOPs, too: kept for whom? */
static void a_client_that_has_died_gets_no_nops(void **state)
{
    enum { MINUTES = 30 };
    (void) state;
    for (int old = 0; old < 2; old++) {
        int quiet_ms = 0;
        begin_open(LANE_AGENT, old ? "1.2.312.0" : "1.2.804.0", NULL);
        lane.nop_interval_ms = 60 * 1000;
        lane_set_multiplexed(&lane, true);
        lane_peer_data(&peer, PAYLOAD_OUTPUT, "x", 1);
        run();
        peer.acknowledges = false;
        for (int i = 0; i < MINUTES * 60; i++) {
            heard[0] = '\0';
            lane_peer_frame(&peer, WEBSOCKET_PONG, "", 0); /* the service is there */
            run_at(now_ms + 1000);
            lane_keep_alive(&lane, now_ms, true);
            run();
            quiet_ms = heard[0] == '\0' ? quiet_ms + 1000 : 0;
        }
        assert_in_range(quiet_ms, (MINUTES - 4) * 60 * 1000, MINUTES * 60 * 1000);
        peer.acknowledges = true;
        lane_peer_data(&peer, PAYLOAD_OUTPUT, "y", 1);
        heard[0] = '\0';
        for (int64_t until_ms = now_ms + 3000; now_ms < until_ms;)
            now_ms = num_min_i64(run(), until_ms);
        assert_int_not_equal(heard[0], '\0'); /* it was only away */
    }
}

/* ---- the end ---- */

static void expect_reason(bool failed, const char *reason)
{
    assert_true(lane.state >= LANE_ENDING);
    assert_int_equal(lane.failed, failed);
    assert_string_equal(lane.reason, reason);
}

static void the_first_reason_is_the_true_one(void **state)
{
    (void) state;
    begin_open(LANE_AGENT, "1.2.804.0", NULL);
    lane_end(&lane, now_ms, true, STR_LITERAL("first"));
    lane_end(&lane, now_ms, false, STR_LITERAL("second"));
    expect_reason(true, "first");
    lane_peer_flag(&peer, PAYLOAD_FLAG_TERMINATE_SESSION);
    lane_peer_message(&peer, AGENT_MESSAGE_CHANNEL_CLOSED, 0, 0, "{}", 2);
    run();
    expect_reason(true, "first");
}

static void client_and_service_can_end_it(void **state)
{
    static const char closed[] = "{\"output\":\"time is over\"}";
    (void) state;
    begin_open(LANE_AGENT, "1.2.804.0", NULL);
    lane_peer_data(&peer, PAYLOAD_OUTPUT, "last words", 10);
    lane_peer_flag(&peer, PAYLOAD_FLAG_TERMINATE_SESSION);
    run();
    expect_reason(false, "the client ended the session");
    assert_true(strncmp(events, "DATA last words", 15) == 0);
    begin_open(LANE_CLIENT, "3.3.4624.0", NULL);
    lane_peer_flag(&peer, PAYLOAD_FLAG_TERMINATE_SESSION); /* an agent's is nobody's */
    run();
    assert_int_equal(lane.state, LANE_OPEN);
    lane_peer_message(&peer, AGENT_MESSAGE_CHANNEL_CLOSED, 0, 261, closed, sizeof closed - 1);
    run();
    expect_reason(false, "the service ended the session: time is over");
    assert_string_equal(lane_closed_output(&lane), "time is over");
    assert_true(lane_end_is_known(&lane));
    begin_open(LANE_AGENT, "1.2.804.0", NULL);
    lane_peer_message(&peer, AGENT_MESSAGE_CHANNEL_CLOSED, 0, 261, "no JSON", 7);
    run();
    expect_reason(false, "the service ended the session");
    assert_string_equal(lane_closed_output(&lane), "");
    begin_open(LANE_CLIENT, "3.3.4624.0", NULL);
    lane_end(&lane, now_ms, true, STR_LITERAL("the port is taken"));
    lane_peer_message(&peer, AGENT_MESSAGE_CHANNEL_CLOSED, 0, 261, closed, sizeof closed - 1);
    run();
    expect_reason(true, "the port is taken");
    assert_string_equal(lane_closed_output(&lane), "");
}

static void a_client_that_ends_tells_the_agent(void **state)
{
    (void) state;
    begin_open(LANE_CLIENT, "3.3.4624.0", NULL);
    lane_end(&lane, now_ms, false, STR_LITERAL("the command has ended"));
    run();
    assert_non_null(strstr(heard, "flag:2"));
    assert_true(lane_end_is_known(&lane));
    begin_open(LANE_CLIENT, "3.3.4624.0", NULL);
    peer.acknowledges = false;
    lane_end(&lane, now_ms, false, STR_LITERAL("the command has ended"));
    run();
    assert_non_null(strstr(heard, "flag:2"));
    run_at(now_ms + LANE_DRAIN_MS);
    assert_false(lane_end_is_known(&lane));
    heard[0] = '\0';
    begin_open(LANE_CLIENT, "2.3.0.0", NULL); /* one that would not understand it */
    lane_end(&lane, now_ms, false, STR_LITERAL("the command has ended"));
    run();
    expect(heard, "");
    assert_false(lane_end_is_known(&lane));
}

static void it_leaves_politely_when_all_has_arrived(void **state)
{
    (void) state;
    begin_open(LANE_AGENT, "1.2.804.0", &ours);
    assert_true(data_channel_send(&lane.channel, now_ms, PACER_BULK, "data", 4));
    peer.acknowledges = false;
    lane_end(&lane, now_ms, false, STR_LITERAL("enough"));
    run_at(now_ms + LANE_DRAIN_MS - 1);
    assert_int_equal(lane.state, LANE_ENDING);
    assert_false(peer.is_closed);
    assert_true(lane_wants_connection(&lane)); /* were it lost: data is not acknowledged */
    run_at(now_ms + 1);
    assert_true(peer.is_closed);
    assert_false(lane_wants_connection(&lane));
    lane_peer_cut(&peer, now_ms);
    run();
    assert_int_equal(lane.state, LANE_OVER);
    assert_int_equal(lane_deadline(&lane, now_ms, false), INT64_MAX);
}

static void a_connection_that_is_lost_near_the_end_is_made_anew_for_what_has_to_arrive(void **state)
{
    (void) state;
    begin_open(LANE_AGENT, "1.2.804.0", &ours);
    peer.acknowledges = false;
    assert_true(data_channel_send(&lane.channel, now_ms, PACER_BULK, "data", 4));
    lane_end(&lane, now_ms, false, STR_LITERAL("enough"));
    run();
    lane_peer_cut(&peer, now_ms);
    run();
    assert_int_equal(lane.state, LANE_ENDING);
    assert_true(lane_wants_connection(&lane));
    peer.acknowledges = true;
    lane_peer_connect(&peer, now_ms);
    heard[0] = '\0';
    run();
    expect(heard, "1:data");
    run();
    assert_true(peer.is_closed);
}

static void who_cannot_be_told_is_not_waited_for(void **state)
{
    (void) state;
    begin(LANE_AGENT);
    lane_peer_cut(&peer, now_ms);
    run();
    lane_end(&lane, now_ms, true, STR_LITERAL("enough"));
    run();
    assert_int_equal(lane.state, LANE_OVER); /* there was nothing to tell */
    begin_open(LANE_AGENT, "1.2.804.0", &ours);
    peer.takes = 0; /* not even a close frame */
    lane_end(&lane, now_ms, true, STR_LITERAL("enough"));
    for (int64_t until_ms = now_ms + LANE_DRAIN_MS + 2 * CONNECTION_CLOSING_MS; now_ms < until_ms;)
        run_at(num_min_i64(lane_deadline(&lane, now_ms, false), until_ms));
    assert_int_equal(lane.state, LANE_OVER);
}

static void what_has_yet_to_reach_an_endpoint_has_2_s(void **state)
{
    (void) state;
    begin_open(LANE_AGENT, "1.2.804.0", &ours);
    lane_end(&lane, now_ms, true, STR_LITERAL("enough"));
    lane_tick(&lane, now_ms, true);
    assert_int_equal(lane_deadline(&lane, now_ms, true), now_ms + LANE_DRAIN_MS);
    assert_false(lane.said_goodbye);
    assert_int_equal(lane_deadline(&lane, now_ms, false), now_ms);
    lane_tick(&lane, now_ms, false);
    assert_true(lane.said_goodbye);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_asks_and_completes_when_the_target_was_probed),
        cmocka_unit_test(an_agent_completes_after_2_s_whatever_the_target_does),
        cmocka_unit_test(a_client_answers_and_waits_for_the_end_of_the_handshake),
        cmocka_unit_test(who_does_not_shake_hands_is_not_waited_for),
        cmocka_unit_test(a_new_connection_gives_the_handshake_new_time_and_says_again_what_was_not_kept),
        cmocka_unit_test(data_waits_until_the_handshake_is_complete),
        cmocka_unit_test(answers_that_make_no_sense_end_it_with_a_reason),
        cmocka_unit_test(a_second_handshake_changes_nothing),
        cmocka_unit_test(awss_client_hears_nothing_until_it_has_spoken),
        cmocka_unit_test(a_basic_sessions_target_may_speak_first_half_a_second_later),
        cmocka_unit_test(an_ack_probe_shows_what_awss_client_does_not_acknowledge_again),
        cmocka_unit_test(a_client_that_has_died_gets_no_nops),
        cmocka_unit_test(the_first_reason_is_the_true_one),
        cmocka_unit_test(client_and_service_can_end_it),
        cmocka_unit_test(a_client_that_ends_tells_the_agent),
        cmocka_unit_test(it_leaves_politely_when_all_has_arrived),
        cmocka_unit_test(a_connection_that_is_lost_near_the_end_is_made_anew_for_what_has_to_arrive),
        cmocka_unit_test(who_cannot_be_told_is_not_waited_for),
        cmocka_unit_test(what_has_yet_to_reach_an_endpoint_has_2_s),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
