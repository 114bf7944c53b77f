#include "tunnel/lane.h"

#include <string.h>

#include "aws/ssmmessages.h"
#include "base/json.h"
#include "base/num.h"
#include "base/utf8.h"
#include "wire/smux.h"

/* ---- lifecycle ---- */

enum lane_change {
    CHANGE_CONNECTED,
    CHANGE_ANSWERED, /* the peer's half of the handshake is good */
    CHANGE_COMPLETE, /* agent: the target was probed; client: HandshakeComplete came */
    CHANGE_TIMER,    /* until_ms, or nothing is left to wait for */
    CHANGE_END,      /* somebody wants the end; failed and reason are set */
    CHANGE_LOST,     /* the connection */
    CHANGE_COUNT
};

typedef void (*lane_transition)(struct lane *lane, int64_t now_ms);

static void change(struct lane *lane, enum lane_change event, int64_t now_ms);

void lane_end(struct lane *lane, int64_t now_ms, bool failed, struct str reason)
{
    if (lane->state < LANE_ENDING && lane->reason[0] == '\0') { /* the first reason is the true one */
        lane->failed = failed;
        utf8_copy_cut(reason, lane->reason, sizeof lane->reason);
    }
    change(lane, CHANGE_END, now_ms);
}

static void ignore(struct lane *lane, int64_t now_ms)
{
    (void) lane;
    (void) now_ms;
}

/* Not part of the stream, so neither kept nor resent: said again if the connection breaks
 * before the client has answered. */
static void announce(struct lane *lane, int64_t now_ms)
{
    char payload[SSMMESSAGES_PAYLOAD_SIZE];
    struct error err = ERROR_INIT;
    struct writer out = writer_of(payload, sizeof payload);
    ssmmessages_write_session_state(&out, str_from(lane->document->session_id), SSMMESSAGES_CONNECTED);
    if (data_channel_send_plain(&lane->channel, now_ms, AGENT_MESSAGE_AGENT_SESSION_STATE, writer_view(&out),
                                &err) < 0)
        lane_end(lane, now_ms, true, str_from(err.text));
}

static void send_handshake(struct lane *lane, int64_t now_ms, enum payload_type type,
                           const struct writer *out)
{
    struct error err = ERROR_INIT;
    if (data_channel_send_message(&lane->channel, type, out->start, out->len, &err) < 0)
        lane_end(lane, now_ms, true, str_from(err.text));
}

/* As long as connections have to be made anew, the handshake has time. How long that may
 * go on is channel/reconnect's. */
static void announce_again(struct lane *lane, int64_t now_ms)
{
    lane->until_ms = now_ms + HANDSHAKE_TIMEOUT_MS;
    announce(lane, now_ms);
}

static void wait_again(struct lane *lane, int64_t now_ms)
{
    lane->until_ms = now_ms + LANE_REQUEST_MS;
}

static void request_handshake(struct lane *lane, int64_t now_ms)
{
    char payload[SSMMESSAGES_PAYLOAD_SIZE];
    struct writer out = writer_of(payload, sizeof payload);
    lane->state = LANE_HANDSHAKING;
    lane->until_ms = now_ms + HANDSHAKE_TIMEOUT_MS;
    announce(lane, now_ms);
    handshake_write_request(&out, lane->agent_version, str_from(lane->document->properties),
                            &lane->extension);
    send_handshake(lane, now_ms, PAYLOAD_HANDSHAKE_REQUEST, &out);
}

static void await_request(struct lane *lane, int64_t now_ms)
{
    lane->state = LANE_HANDSHAKING;
    lane->until_ms = now_ms + LANE_REQUEST_MS;
}

static void agree(struct lane *lane)
{
    lane->agreed = lane->agreed_due = true;
    if (lane_peer_is_ours(lane) || lane->client.half_close) /* it acknowledges what it has seen before */
        data_channel_peer_acknowledges_duplicates(&lane->channel);
}

static void complete(struct lane *lane, int64_t now_ms)
{
    char payload[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    handshake_write_complete(&out, now_ms - lane->started_ms, str_from(lane->banner));
    send_handshake(lane, now_ms, PAYLOAD_HANDSHAKE_COMPLETE, &out);
    if (lane->state >= LANE_ENDING)
        return;
    lane->complete_sequence = data_channel_next_sequence(&lane->channel) - 1;
    if (!lane_peer_is_ours(lane))
        data_channel_hold(&lane->channel, INT64_MAX);
    lane->state = LANE_OPEN;
    lane->until_ms = INT64_MAX;
    lane->open_due = true;
}

static void await_probe(struct lane *lane, int64_t now_ms)
{
    lane->state = LANE_COMPLETING;
    lane->until_ms = lane->started_ms + LANE_PROBE_MS;
    agree(lane);
    if (lane->probed || now_ms >= lane->until_ms)
        complete(lane, now_ms);
}

static void answer_request(struct lane *lane, int64_t now_ms)
{
    struct handshake_response response = {.half_close = true, .extension = lane->extension};
    char payload[HANDSHAKE_PAYLOAD_MAX];
    struct writer out = writer_of(payload, sizeof payload);
    const struct handshake_extension *offer = &lane->agent.extension;
    str_copy(STR_LITERAL(HANDSHAKE_CLIENT_VERSION), response.client_version, sizeof response.client_version);
    response.extension.is_ours = offer->is_ours;
    response.extension.lanes &= offer->lanes;
    response.extension.destinations &= offer->destinations;
    handshake_write_response(&out, &response, lane->agent.is_port);
    send_handshake(lane, now_ms, PAYLOAD_HANDSHAKE_RESPONSE, &out);
    lane->client = response;
    lane->state = LANE_COMPLETING;
    lane->until_ms = now_ms + LANE_REQUEST_MS;
    if (!lane->agent.is_port)
        lane_end(lane, now_ms, true, STR_LITERAL("the agent asked for a session of another type than Port"));
    else
        agree(lane);
}

static void opened(struct lane *lane, int64_t now_ms)
{
    (void) now_ms;
    lane->state = LANE_OPEN;
    lane->until_ms = INT64_MAX;
    lane->open_due = true;
}

static void fail_handshake(struct lane *lane, int64_t now_ms)
{
    lane_end(lane, now_ms, true,
             lane->role == LANE_AGENT ? STR_LITERAL("the client did not answer the handshake within 15 s")
                                      : STR_LITERAL("the agent did not complete the handshake within 60 s"));
}

static bool input_is_empty(const struct lane *lane)
{
    struct data_channel_event event;
    return !data_channel_peek(&lane->channel, 0, &event);
}

static bool peer_has_all(const struct lane *lane)
{
    return lane->peer_gone || data_channel_drained(&lane->channel);
}

static void begin_ending(struct lane *lane, int64_t now_ms)
{
    lane->terminate_due = lane->role == LANE_CLIENT && lane->agreed && !lane->peer_gone &&
                          handshake_agent_takes_terminate_flag(str_from(lane->agent.agent_version));
    lane->state = LANE_ENDING;
    lane->until_ms = now_ms + LANE_DRAIN_MS;
}

/* The connection is lost while the end is near: what is not there yet has its time still, at the peer over
 * another connection. */
static void keep_ending(struct lane *lane, int64_t now_ms)
{
    if (lane->said_goodbye || now_ms >= lane->until_ms)
        lane->state = LANE_OVER;
}

static void say_goodbye(struct lane *lane, int64_t now_ms)
{
    lane->until_ms = now_ms + 2 * CONNECTION_CLOSING_MS;
    if (lane->said_goodbye || data_channel_state(&lane->channel) == CONNECTION_DOWN) {
        lane->state = LANE_OVER;
        return;
    }
    lane->said_goodbye = true;
    data_channel_shut_down(&lane->channel, now_ms, WEBSOCKET_CLOSE_NORMAL, STR_LITERAL("session ended"));
}

/* A macro that names every event: a missing cell does not compile. LOST before the
 * end is the caller's to mend. */
#define ROW(connected, answered, completed, timer, end, lost)                                                \
    {                                                                                                        \
        [CHANGE_CONNECTED] = (connected), [CHANGE_ANSWERED] = (answered), [CHANGE_COMPLETE] = (completed),   \
        [CHANGE_TIMER] = (timer), [CHANGE_END] = (end), [CHANGE_LOST] = (lost)                               \
    }

static const lane_transition lifecycle[2][LANE_STATE_COUNT][CHANGE_COUNT] = {
    /*                       connected          answered        complete  timer
     *           end           lost */
    [LANE_AGENT] = {[LANE_STARTING] = ROW(request_handshake, ignore, ignore, ignore, begin_ending, ignore),
                    [LANE_HANDSHAKING] =
                        ROW(announce_again, await_probe, ignore, fail_handshake, begin_ending, ignore),
                    [LANE_COMPLETING] = ROW(ignore, ignore, complete, complete, begin_ending, ignore),
                    [LANE_OPEN] = ROW(ignore, ignore, ignore, ignore, begin_ending, ignore),
                    [LANE_ENDING] = ROW(ignore, ignore, ignore, say_goodbye, ignore, keep_ending),
                    [LANE_OVER] = ROW(ignore, ignore, ignore, ignore, ignore, ignore)},
    [LANE_CLIENT] = {[LANE_STARTING] = ROW(await_request, ignore, ignore, ignore, begin_ending, ignore),
                     [LANE_HANDSHAKING] =
                         ROW(wait_again, answer_request, ignore, fail_handshake, begin_ending, ignore),
                     [LANE_COMPLETING] =
                         ROW(wait_again, ignore, opened, fail_handshake, begin_ending, ignore),
                     [LANE_OPEN] = ROW(ignore, ignore, ignore, ignore, begin_ending, ignore),
                     [LANE_ENDING] = ROW(ignore, ignore, ignore, say_goodbye, ignore, keep_ending),
                     [LANE_OVER] = ROW(ignore, ignore, ignore, ignore, ignore, ignore)},
};

static void change(struct lane *lane, enum lane_change event, int64_t now_ms)
{
    lifecycle[lane->role][lane->state][event](lane, now_ms);
}

/* ---- the surface ---- */

void lane_init(struct lane *lane, const struct lane_config *config, int64_t now_ms)
{
    struct data_channel_config channel = config->channel;
    memset(lane, 0, sizeof *lane);
    lane->role = config->role;
    lane->document = config->document;
    lane->agent_version = config->agent_version;
    lane->extension = config->extension;
    lane->state = LANE_STARTING;
    lane->started_ms = lane->probe_ms = now_ms;
    lane->until_ms = INT64_MAX;
    lane->probe_pause_ms = LANE_ACK_PROBE_FIRST_MS;
    lane->probe_sequence = -1;
    lane->nop_interval_ms = config->keep_alive_ms;
    lane->nop_ms = now_ms + lane->nop_interval_ms;
    channel.role = config->role == LANE_AGENT ? DATA_CHANNEL_AGENT : DATA_CHANNEL_CLIENT;
    channel.peer_ignores_duplicates = config->role == LANE_AGENT;
    channel.memory = config->memory;
    data_channel_init(&lane->channel, &channel, now_ms);
}

void lane_release(struct lane *lane)
{
    data_channel_release(&lane->channel);
}

int lane_connected(struct lane *lane, int64_t now_ms, struct str first_text, struct error *err)
{
    int result = data_channel_connect(&lane->channel, now_ms, first_text, err);
    if (result == 0)
        change(lane, CHANGE_CONNECTED, now_ms);
    return result;
}

void lane_disconnected(struct lane *lane, int64_t now_ms, const char *why)
{
    data_channel_disconnect(&lane->channel, now_ms, why);
}

bool lane_wants_connection(const struct lane *lane)
{
    if (lane->state == LANE_ENDING)
        return !lane->said_goodbye && !peer_has_all(lane);
    return lane->state != LANE_OVER;
}

void lane_probed(struct lane *lane, int64_t now_ms, struct str banner)
{
    utf8_copy_cut(banner, lane->banner, sizeof lane->banner);
    lane->probed = true;
    change(lane, CHANGE_COMPLETE, now_ms);
}

bool lane_peer_is_ours(const struct lane *lane)
{
    return lane->role == LANE_AGENT ? lane->client.extension.is_ours : lane->agent.extension.is_ours;
}

bool lane_peer_multiplexes(const struct lane *lane)
{
    if (lane->role == LANE_AGENT)
        return handshake_client_multiplexes(str_from(lane->client.client_version));
    return handshake_agent_multiplexes(str_from(lane->agent.agent_version));
}

const char *lane_peer_version(const struct lane *lane)
{
    return lane->role == LANE_AGENT ? lane->client.client_version : lane->agent.agent_version;
}

const struct handshake_request *lane_request(const struct lane *lane)
{
    return &lane->agent;
}

bool lane_end_is_known(const struct lane *lane)
{
    return lane->peer_gone || (lane->terminate_sent && data_channel_drained(&lane->channel));
}

const char *lane_closed_output(const struct lane *lane)
{
    return lane->output_at > 0 ? lane->reason + lane->output_at : "";
}

bool lane_has_pieces(const struct lane *lane)
{
    return lane_peer_is_ours(lane) && lane->extension.lanes && lane->client.extension.lanes;
}

bool lane_has_destinations(const struct lane *lane)
{
    return lane_peer_is_ours(lane) && lane->extension.destinations && lane->client.extension.destinations;
}

const char *lane_secret(const struct lane *lane)
{
    return lane->role == LANE_AGENT ? lane->client.extension.secret : lane->agent.extension.secret;
}

void lane_set_multiplexed(struct lane *lane, bool multiplexed)
{
    lane->probes = multiplexed && !lane_peer_is_ours(lane);
    lane->basic_hold = !multiplexed;
    lane->nops_always = multiplexed && lane->role == LANE_AGENT &&
                        handshake_client_needs_nops(str_from(lane->client.client_version));
    if (!multiplexed)
        lane->nop_interval_ms = 0;
    if (lane->nops_always)
        lane->nop_interval_ms = LANE_NOP_MS;
}

/* ---- what arrives ---- */

static void take_response(struct lane *lane, int64_t now_ms, struct str payload, size_t message_left)
{
    struct error err = ERROR_INIT;
    if (message_left > payload.len)
        error_set(&err, ERROR_TOO_LARGE, "HandshakeResponse is longer than %zu bytes", payload.len);
    else
        handshake_read_response(payload, &lane->client, &err);
    if (err.code != ERROR_NONE)
        lane_end(lane, now_ms, true, str_from(err.text));
    else
        change(lane, CHANGE_ANSWERED, now_ms);
}

static void take_request(struct lane *lane, int64_t now_ms, struct str payload)
{
    struct error err = ERROR_INIT;
    if (handshake_read_request(payload, &lane->agent, &err) < 0)
        lane_end(lane, now_ms, true, str_from(err.text));
    else
        change(lane, CHANGE_ANSWERED, now_ms);
}

/* Some clients send data before they have answered: the answer is looked for behind it. It is
 * skipped when its turn comes. */
static void find_response(struct lane *lane, int64_t now_ms)
{
    struct data_channel_event data;
    for (size_t n = 1; lane->state == LANE_HANDSHAKING && data_channel_peek(&lane->channel, n, &data); n++)
        if (data.payload_type == PAYLOAD_HANDSHAKE_RESPONSE)
            take_response(lane, now_ms, (struct str){(const char *) data.data, data.len}, data.message_left);
}

/* A handshake payload of the peer. */
static void take_handshake(struct lane *lane, int64_t now_ms, const struct data_channel_event *data)
{
    struct str payload = {(const char *) data->data, data->len};
    if (lane->role == LANE_AGENT && data->payload_type == PAYLOAD_HANDSHAKE_RESPONSE &&
        lane->state == LANE_HANDSHAKING)
        take_response(lane, now_ms, payload, data->message_left);
    else if (lane->role == LANE_CLIENT && data->payload_type == PAYLOAD_HANDSHAKE_REQUEST &&
             lane->state == LANE_HANDSHAKING)
        take_request(lane, now_ms, payload);
    else if (lane->role == LANE_CLIENT && data->payload_type == PAYLOAD_HANDSHAKE_COMPLETE &&
             lane->state == LANE_COMPLETING) {
        handshake_read_complete(payload, lane->banner, sizeof lane->banner);
        change(lane, CHANGE_COMPLETE, now_ms);
    }
}

static bool is_terminate_flag(const struct data_channel_event *data)
{
    struct reader in = reader_of(data->data, data->len);
    return data->payload_type == PAYLOAD_FLAG && reader_u32be(&in) == PAYLOAD_FLAG_TERMINATE_SESSION;
}

/* Whether the payload is for the caller. False when it has been dealt with, *waits when it has to wait. */
static bool is_for_caller(struct lane *lane, int64_t now_ms, const struct data_channel_event *data,
                          bool *waits)
{
    bool is_output = data->payload_type == PAYLOAD_OUTPUT;
    *waits = lane->state == LANE_OVER; /* the tunnel will look for pieces among what is left */
    if (*waits || (lane->state == LANE_ENDING && (!is_output || !lane->agreed)))
        return false;
    if (lane->role == LANE_AGENT && is_terminate_flag(data)) {
        lane_end(lane, now_ms, false, STR_LITERAL("the client ended the session"));
        return false;
    }
    if (is_output && lane->role == LANE_AGENT && lane->state == LANE_HANDSHAKING)
        find_response(lane, now_ms);
    if (!is_output && data->payload_type != PAYLOAD_FLAG) {
        take_handshake(lane, now_ms, data);
        return false;
    }
    *waits = lane->state < LANE_OPEN; /* nothing is processed before the handshake is complete */
    return lane->state >= LANE_OPEN;
}

static void take_closed(struct lane *lane, int64_t now_ms, const struct data_channel_event *data)
{
    struct json_token tokens[64];
    struct json doc;
    char output[LANE_TEXT_SIZE / 2] = "";
    char reason[LANE_TEXT_SIZE];
    struct writer text = writer_of(reason, sizeof reason);
    struct str payload = {(const char *) data->data, data->len};
    if (json_parse(&doc, payload, tokens, sizeof tokens / sizeof tokens[0], NULL) == 0)
        json_string(&doc, json_member(&doc, json_root(&doc), "Output"), output, sizeof output, NULL);
    writer_text(&text, "the service ended the session");
    if (output[0] != '\0') {
        writer_text(&text, ": ");
        if (lane->reason[0] == '\0')
            lane->output_at = (uint16_t) text.len;
        writer_text(&text, output);
    }
    lane->peer_gone = true;
    lane_end(lane, now_ms, false, writer_view(&text));
}

/* What does not come from the data channel: told first. */
static bool show_own(struct lane *lane, struct lane_event *event)
{
    if (lane->agreed_due) {
        lane->agreed_due = false;
        event->type = LANE_EVENT_AGREED;
    } else if (lane->open_due) {
        lane->open_due = false;
        event->type = LANE_EVENT_OPEN;
    }
    return event->type != LANE_EVENT_NONE;
}

/* One event of the data channel. False when there is nothing more for now. */
static bool take_event(struct lane *lane, int64_t now_ms, struct lane_event *event)
{
    struct data_channel_event data;
    bool waits = false;
    data_channel_next(&lane->channel, now_ms, &data);
    switch (data.type) {
    case DATA_CHANNEL_EVENT_DATA:
        if (is_for_caller(lane, now_ms, &data, &waits))
            *event =
                (struct lane_event){LANE_EVENT_DATA, data.payload_type, data.data, data.len, {NULL, 0}, 0};
        else if (!waits)
            data_channel_consume(&lane->channel, data.len);
        return !waits;
    case DATA_CHANNEL_EVENT_CHANNEL_CLOSED:
        take_closed(lane, now_ms, &data);
        return true;
    case DATA_CHANNEL_EVENT_OTHER:
        event->type = LANE_EVENT_UNKNOWN;
        event->text = data.type_text;
        return true;
    case DATA_CHANNEL_EVENT_LOST:
        change(lane, CHANGE_LOST, now_ms);
        event->type = LANE_EVENT_LOST;
        event->text = str_from(data.text);
        event->close_code = data.close_code;
        return true;
    case DATA_CHANNEL_EVENT_NONE:
        break;
    }
    return false;
}

/* Basic sessions: the client may be spoken to a while after it has HandshakeComplete. */
static void limit_hold(struct lane *lane, int64_t now_ms)
{
    if (lane->basic_hold && !lane->hold_limited && lane->state == LANE_OPEN &&
        data_channel_acknowledged(&lane->channel, lane->complete_sequence)) {
        lane->hold_limited = true;
        data_channel_hold_until(&lane->channel, now_ms + LANE_BASIC_HOLD_MS);
    }
}

void lane_next(struct lane *lane, int64_t now_ms, struct lane_event *event)
{
    bool more = true;
    *event = (struct lane_event){.type = LANE_EVENT_NONE};
    while (more && !show_own(lane, event) && event->type == LANE_EVENT_NONE)
        more = take_event(lane, now_ms, event);
    limit_hold(lane, now_ms); /* here and not in tick: the acknowledgement has just come */
}

void lane_consume(struct lane *lane, size_t n)
{
    data_channel_consume(&lane->channel, n);
}

/* ---- time ---- */

/* Whether an ack probe would help, and could go. */
static bool may_probe(struct lane *lane, int64_t now_ms)
{
    return lane->state == LANE_OPEN && lane->probes && data_channel_wants_ack_probe(&lane->channel) &&
           !data_channel_peer_is_silent(&lane->channel, now_ms) &&
           data_channel_send_room(&lane->channel, now_ms, PACER_INTERACTIVE) >= SMUX_HEADER_SIZE;
}

static void send_ack_probe(struct lane *lane, int64_t now_ms)
{
    uint8_t frame[SMUX_HEADER_SIZE];
    if (lane->probe_sequence >= 0 && data_channel_acknowledged(&lane->channel, lane->probe_sequence)) {
        lane->probe_sequence = -1;
        lane->probe_pause_ms = LANE_ACK_PROBE_FIRST_MS;
    }
    if (now_ms < lane->probe_ms || !may_probe(lane, now_ms))
        return;
    smux_write_header(frame, SMUX_NOP, 0, 0);
    lane->probe_sequence = data_channel_next_sequence(&lane->channel);
    lane->probe_ms = now_ms + lane->probe_pause_ms;
    if (lane->probe_pause_ms < LANE_ACK_PROBE_MAX_MS)
        lane->probe_pause_ms *= 2;
    data_channel_send(&lane->channel, now_ms, PACER_INTERACTIVE, frame, sizeof frame);
}

int64_t lane_keep_alive(struct lane *lane, int64_t now_ms, bool has_streams)
{
    uint8_t frame[SMUX_HEADER_SIZE];
    if (lane->nop_interval_ms == 0 || lane->state != LANE_OPEN || !(has_streams || lane->nops_always))
        return INT64_MAX;
    if (now_ms < lane->nop_ms)
        return lane->nop_ms;
    if (data_channel_peer_is_silent(&lane->channel, now_ms) ||
        data_channel_send_room(&lane->channel, now_ms, PACER_INTERACTIVE) < sizeof frame) {
        lane->nop_ms = now_ms + LANE_NOP_AGAIN_MS;
        return lane->nop_ms;
    }
    smux_write_header(frame, SMUX_NOP, 0, 0);
    data_channel_send(&lane->channel, now_ms, PACER_INTERACTIVE, frame, sizeof frame);
    lane->nop_ms = now_ms + lane->nop_interval_ms;
    return lane->nop_ms;
}

static void send_terminate(struct lane *lane)
{
    uint8_t payload[4];
    struct writer out = writer_of(payload, sizeof payload);
    writer_u32be(&out, PAYLOAD_FLAG_TERMINATE_SESSION);
    if (data_channel_send_message(&lane->channel, PAYLOAD_FLAG, payload, sizeof payload, NULL) != 0) {
        lane->terminate_tried = true;
        return;
    }
    lane->terminate_due = false;
    lane->terminate_sent = true;
}

/* ENDING before its time is up: nobody waits for anything any more. */
static bool may_leave(const struct lane *lane, bool others_wait)
{
    return lane->state == LANE_ENDING && !lane->said_goodbye && !lane->terminate_due && !others_wait &&
           input_is_empty(lane) && peer_has_all(lane);
}

void lane_tick(struct lane *lane, int64_t now_ms, bool others_wait)
{
    data_channel_tick(&lane->channel, now_ms);
    if (lane->terminate_due && lane->state == LANE_ENDING)
        send_terminate(lane);
    send_ack_probe(lane, now_ms);
    if (now_ms >= lane->until_ms || may_leave(lane, others_wait))
        change(lane, CHANGE_TIMER, now_ms);
}

int64_t lane_deadline(struct lane *lane, int64_t now_ms, bool others_wait)
{
    if (lane->state == LANE_OVER)
        return INT64_MAX;
    bool terminates = lane->terminate_due && !lane->terminate_tried && lane->state == LANE_ENDING;
    if (lane->agreed_due || lane->open_due || terminates || may_leave(lane, others_wait))
        return now_ms;
    int64_t at_ms = num_min_i64(data_channel_deadline(&lane->channel, now_ms), lane->until_ms);
    return may_probe(lane, now_ms) ? num_min_i64(at_ms, lane->probe_ms) : at_ms;
}
