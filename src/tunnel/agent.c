#include "tunnel/agent.h"

#include <string.h>

#include "aws/ssmmessages.h"
#include "base/json.h"

/* ---- state ---------------------------------------------------------------------------------------------------- */

enum lifecycle_event {
    EVENT_CONNECTED,
    EVENT_RESPONSE, /* a good HandshakeResponse */
    EVENT_PROBED,
    EVENT_TIMER, /* state_until_ms */
    EVENT_END,   /* somebody wants the end; failed and reason are set */
    EVENT_LOST,  /* the connection */
    EVENT_COUNT
};

static void dispatch(struct session *s, enum lifecycle_event event, int64_t now_ms);

static void set_reason(struct session *s, bool failed, struct str reason)
{
    if (s->reason[0] != '\0' || s->state >= SESSION_ENDING) /* the first reason is the true one */
        return;
    s->failed = failed;
    str_copy(str_limit_utf8(reason, sizeof s->reason - 1), s->reason, sizeof s->reason);
}

void session_end(struct session *s, int64_t now_ms, bool failed, struct str reason)
{
    set_reason(s, failed, reason);
    dispatch(s, EVENT_END, now_ms);
}

static void do_nothing(struct session *s, int64_t now_ms)
{
    (void) s;
    (void) now_ms;
}

/* Not part of the stream, so neither kept nor resent: said again if the connection breaks before the client has answered. */
static void announce(struct session *s, int64_t now_ms)
{
    char payload[SSMMESSAGES_PAYLOAD_SIZE];
    struct error err = ERROR_INIT;
    struct writer out = writer_of(payload, sizeof payload);
    ssmmessages_write_session_state(&out, str_from(s->document->session_id), SSMMESSAGES_CONNECTED);
    if (data_channel_send_plain(&s->channel, now_ms, AGENT_MESSAGE_AGENT_SESSION_STATE, writer_view(&out),
                                &err) < 0)
        session_end(s, now_ms, true, str_from(err.text));
}

static void start_greeting(struct session *s, int64_t now_ms)
{
    char payload[SSMMESSAGES_PAYLOAD_SIZE];
    struct error err = ERROR_INIT;
    struct writer out = writer_of(payload, sizeof payload);
    s->state = SESSION_GREETING;
    s->state_until_ms = now_ms + HANDSHAKE_TIMEOUT_MS;
    announce(s, now_ms);
    handshake_write_request(&out, str_from(s->document->properties));
    if (data_channel_send_message(&s->channel, PAYLOAD_HANDSHAKE_REQUEST, out.start, out.len, &err) < 0)
        session_end(s, now_ms, true, str_from(err.text));
}

static void complete(struct session *s, int64_t now_ms)
{
    char payload[HANDSHAKE_PAYLOAD_MAX];
    struct error err = ERROR_INIT;
    struct writer out = writer_of(payload, sizeof payload);
    handshake_write_complete(&out, now_ms - s->started_ms, str_from(s->banner));
    if (data_channel_send_message(&s->channel, PAYLOAD_HANDSHAKE_COMPLETE, out.start, out.len, &err) < 0) {
        session_end(s, now_ms, true, str_from(err.text));
        return;
    }
    s->complete_sequence = data_channel_next_sequence(&s->channel) - 1;
    data_channel_hold(&s->channel, INT64_MAX);
    s->state = SESSION_OPEN;
    s->state_until_ms = INT64_MAX;
    s->ready_due = true;
    s->begin_due = s->port.mode != PORT_MULTIPLEXED;
}

static void await_probe(struct session *s, int64_t now_ms)
{
    bool multiplexed = s->document->kind == DOCUMENT_LOCAL_FORWARDING &&
                       handshake_client_multiplexes(str_from(s->client.client_version));
    enum port_mode basic =
        s->document->kind == DOCUMENT_LOCAL_FORWARDING ? PORT_BASIC_REDIAL : PORT_BASIC_ONCE;
    port_session_init(&s->port, s->port_memory, multiplexed ? PORT_MULTIPLEXED : basic, s->client.half_close);
    s->port_ready = true;
    s->state = SESSION_PROBING;
    s->state_until_ms = s->started_ms + SESSION_PROBE_MS;
    if (s->client.half_close) /* a client of ours, which acknowledges what it has seen before */
        data_channel_peer_acknowledges_duplicates(&s->channel);
    if (s->probed || now_ms >= s->state_until_ms)
        complete(s, now_ms);
}

static void fail_greeting(struct session *s, int64_t now_ms)
{
    session_end(s, now_ms, true, STR_LITERAL("the client did not answer the handshake within 15 s"));
}

static bool client_has_all(const struct session *s)
{
    return s->client_gone || data_channel_drained(&s->channel);
}

/* Nothing is left that somebody would miss: all we said has arrived, and targets have all they were sent, or are gone. */
static bool is_drained(const struct session *s)
{
    bool targets_have_all = !s->port_ready || (s->port.chunks_used == 0 && !s->input_waits);
    return client_has_all(s) && targets_have_all;
}

static void begin_ending(struct session *s, int64_t now_ms)
{
    s->state = SESSION_ENDING;
    s->state_until_ms = now_ms + SESSION_DRAIN_MS;
    if (data_channel_state(&s->channel) == CONNECTION_DOWN && is_drained(s))
        s->state = SESSION_OVER;
}

/* The connection is lost while the end is near: what is not there yet has its time still, over another connection. */
static void keep_ending(struct session *s, int64_t now_ms)
{
    if (s->said_goodbye || is_drained(s) || now_ms >= s->state_until_ms)
        s->state = SESSION_OVER;
}

static void say_goodbye(struct session *s, int64_t now_ms)
{
    s->state_until_ms = now_ms + 2 * CONNECTION_CLOSING_MS;
    s->said_goodbye = true;
    if (data_channel_state(&s->channel) == CONNECTION_UP)
        data_channel_shut_down(&s->channel, now_ms, WEBSOCKET_CLOSE_NORMAL, STR_LITERAL("session ended"));
    else
        s->state = SESSION_OVER;
}

/* Every event in every state; LOST before the end is the caller's to mend, and told by session_next. */
static void (*const lifecycle[SESSION_STATE_COUNT][EVENT_COUNT])(struct session *s, int64_t now_ms) = {
    [SESSION_STARTING] = {[EVENT_CONNECTED] = start_greeting,
                          [EVENT_RESPONSE] = do_nothing,
                          [EVENT_PROBED] = do_nothing,
                          [EVENT_TIMER] = do_nothing,
                          [EVENT_END] = begin_ending,
                          [EVENT_LOST] = do_nothing},
    [SESSION_GREETING] = {[EVENT_CONNECTED] = announce,
                          [EVENT_RESPONSE] = await_probe,
                          [EVENT_PROBED] = do_nothing,
                          [EVENT_TIMER] = fail_greeting,
                          [EVENT_END] = begin_ending,
                          [EVENT_LOST] = do_nothing},
    [SESSION_PROBING] = {[EVENT_CONNECTED] = do_nothing,
                         [EVENT_RESPONSE] = do_nothing,
                         [EVENT_PROBED] = complete,
                         [EVENT_TIMER] = complete,
                         [EVENT_END] = begin_ending,
                         [EVENT_LOST] = do_nothing},
    [SESSION_OPEN] = {[EVENT_CONNECTED] = do_nothing,
                      [EVENT_RESPONSE] = do_nothing,
                      [EVENT_PROBED] = do_nothing,
                      [EVENT_TIMER] = do_nothing,
                      [EVENT_END] = begin_ending,
                      [EVENT_LOST] = do_nothing},
    [SESSION_ENDING] = {[EVENT_CONNECTED] = do_nothing,
                        [EVENT_RESPONSE] = do_nothing,
                        [EVENT_PROBED] = do_nothing,
                        [EVENT_TIMER] = say_goodbye,
                        [EVENT_END] = do_nothing,
                        [EVENT_LOST] = keep_ending},
    [SESSION_OVER] = {[EVENT_CONNECTED] = do_nothing,
                      [EVENT_RESPONSE] = do_nothing,
                      [EVENT_PROBED] = do_nothing,
                      [EVENT_TIMER] = do_nothing,
                      [EVENT_END] = do_nothing,
                      [EVENT_LOST] = do_nothing},
};

static void dispatch(struct session *s, enum lifecycle_event event, int64_t now_ms)
{
    lifecycle[s->state][event](s, now_ms);
}

/* ---- the surface ---------------------------------------------------------------------------------------------- */

void session_init(struct session *s, const struct session_config *config, int64_t now_ms)
{
    struct data_channel_config channel = config->channel;
    memset(s, 0, sizeof *s);
    s->document = config->document;
    s->state = SESSION_STARTING;
    s->witness_ms = now_ms;
    s->witness_pause_ms = SESSION_WITNESS_FIRST_MS;
    s->witness_sequence = -1;
    s->started_ms = s->lost_ms = s->last_data_ms = now_ms;
    s->state_until_ms = INT64_MAX;
    channel.role = DATA_CHANNEL_AGENT;
    channel.memory = config->memory;
    s->port_memory = (uint8_t *) config->memory + DATA_CHANNEL_MEMORY_SIZE;
    data_channel_init(&s->channel, &channel, now_ms);
}

int session_connected(struct session *s, int64_t now_ms, struct str first_text, struct error *err)
{
    int result = data_channel_connect(&s->channel, now_ms, first_text, err);
    if (result < 0)
        return result;
    s->lost_ms = INT64_MAX;
    dispatch(s, EVENT_CONNECTED, now_ms);
    return 0;
}

void session_disconnected(struct session *s, int64_t now_ms, const char *why)
{
    data_channel_disconnect(&s->channel, now_ms, why);
}

void session_probed(struct session *s, int64_t now_ms, struct str banner)
{
    str_copy(str_limit_utf8(banner, sizeof s->banner - 1), s->banner, sizeof s->banner);
    s->probed = true;
    dispatch(s, EVENT_PROBED, now_ms);
}

bool session_is_over(const struct session *s)
{
    return s->state == SESSION_OVER;
}

bool session_wants_connection(const struct session *s)
{
    if (data_channel_state(&s->channel) != CONNECTION_DOWN || s->state == SESSION_OVER)
        return false;
    return s->state != SESSION_ENDING || (!s->said_goodbye && !client_has_all(s));
}

/* ENDING before its time is up: nobody waits for anything any more. */
static bool may_leave(const struct session *s)
{
    return s->state == SESSION_ENDING && !s->said_goodbye && is_drained(s);
}

static bool gave_up(const struct session *s, int64_t now_ms)
{
    return s->state < SESSION_ENDING && s->lost_ms != INT64_MAX && now_ms - s->lost_ms >= SESSION_LOST_MS;
}

/* Basic sessions: the client may be spoken to a while after it has HandshakeComplete. */
static void limit_hold(struct session *s, int64_t now_ms)
{
    if (!s->hold_limited && s->state == SESSION_OPEN && s->port.mode != PORT_MULTIPLEXED &&
        data_channel_acknowledged(&s->channel, s->complete_sequence)) {
        s->hold_limited = true;
        data_channel_hold_until(&s->channel, now_ms + SESSION_HOLD_MS);
    }
}

/* Whether a witness would help: only frames have a NOP, and only an open session has a peer that reads frames. */
static bool wants_witness(const struct session *s)
{
    return s->state == SESSION_OPEN && s->port.mode == PORT_MULTIPLEXED &&
           data_channel_wants_ack_probe(&s->channel);
}

static void send_witness(struct session *s, int64_t now_ms)
{
    uint8_t frame[SMUX_HEADER_SIZE];
    if (s->witness_sequence >= 0 && data_channel_acknowledged(&s->channel, s->witness_sequence)) {
        s->witness_sequence = -1;
        s->witness_pause_ms = SESSION_WITNESS_FIRST_MS;
    }
    if (!wants_witness(s) || now_ms < s->witness_ms ||
        data_channel_send_room(&s->channel, now_ms, PACER_INTERACTIVE) < sizeof frame)
        return;
    s->witness_sequence = data_channel_next_sequence(&s->channel);
    s->witness_ms = now_ms + s->witness_pause_ms;
    if (s->witness_pause_ms < SESSION_WITNESS_MAX_MS)
        s->witness_pause_ms *= 2;
    smux_write_header(frame, SMUX_NOP, 0, 0);
    data_channel_send(&s->channel, now_ms, PACER_INTERACTIVE, frame, sizeof frame);
}

void session_tick(struct session *s, int64_t now_ms)
{
    data_channel_tick(&s->channel, now_ms);
    send_witness(s, now_ms);
    limit_hold(s, now_ms);
    if (now_ms >= s->state_until_ms || may_leave(s))
        dispatch(s, EVENT_TIMER, now_ms);
    if (gave_up(s, now_ms))
        session_end(s, now_ms, true,
                    STR_LITERAL("the connection to Session Manager could not be restored for 120 s"));
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t session_deadline(struct session *s, int64_t now_ms)
{
    int64_t at_ms = earlier(data_channel_deadline(&s->channel, now_ms), s->state_until_ms);
    if (s->state == SESSION_OVER)
        return s->over_told ? INT64_MAX : now_ms;
    if (may_leave(s))
        return now_ms;
    if (s->state < SESSION_ENDING && s->lost_ms != INT64_MAX)
        at_ms = earlier(at_ms, s->lost_ms + SESSION_LOST_MS);
    if (s->state == SESSION_OPEN)
        at_ms = earlier(at_ms, port_session_deadline(&s->port));
    if (wants_witness(s))
        at_ms = earlier(at_ms, s->witness_ms);
    return at_ms;
}

/* ---- what arrives --------------------------------------------------------------------------------------------- */

static void take_response(struct session *s, int64_t now_ms, const struct data_channel_event *data)
{
    struct error err = ERROR_INIT;
    if (data->message_left > data->len)
        error_set(&err, ERROR_TOO_LARGE, "HandshakeResponse is longer than %zu bytes", data->len);
    else
        handshake_read_response((struct str){(const char *) data->data, data->len}, &s->client, &err);
    if (err.code != ERROR_NONE)
        session_end(s, now_ms, true, str_from(err.text));
    else
        dispatch(s, EVENT_RESPONSE, now_ms);
}

static void take_flag(struct session *s, int64_t now_ms, const struct data_channel_event *data,
                      struct session_event *event)
{
    struct reader r = reader_of(data->data, data->len);
    switch (reader_u32be(&r)) {
    case PAYLOAD_FLAG_TERMINATE_SESSION:
        session_end(s, now_ms, false, STR_LITERAL("the client ended the session"));
        break;
    case PAYLOAD_FLAG_DISCONNECT_TO_PORT:
        if (!s->port_ready)
            break;
        port_session_disconnect(&s->port, now_ms, &event->port);
        if (event->port.todo != PORT_TODO_NOTHING)
            event->type = SESSION_EVENT_PORT;
        break;
    default: /* a short one reads as 0: nobody's flag */
        break;
    }
}

/* Output on its way to targets. The payload is consumed by the next call, for a WRITE points into it. */
static void take_output(struct session *s, int64_t now_ms, const struct data_channel_event *data,
                        struct session_event *event, struct error *err)
{
    size_t used;
    if (s->state < SESSION_PROBING) {
        session_end(s, now_ms, true,
                    STR_LITERAL("the client sent data before it had answered the handshake"));
        return;
    }
    if (port_session_receive(&s->port, now_ms, data->data, data->len, &used, &event->port, err) < 0) {
        session_end(s, now_ms, true, str_from(err->text)); /* sticky: what follows is dropped */
        return;
    }
    s->consume = used;
    s->consume_due = used > 0 || data->len == 0;
    if (used > 0)
        s->last_data_ms = now_ms;
    if (event->port.todo != PORT_TODO_NOTHING)
        event->type = SESSION_EVENT_PORT;
}

/* One payload. False when it has to wait: for the handshake's end, or for a target. */
static bool take_data(struct session *s, int64_t now_ms, const struct data_channel_event *data,
                      struct session_event *event, struct error *err)
{
    s->consume = data->len;
    s->consume_due = true;
    /* At the end targets still get what is here for them, and nothing else counts. */
    if (s->state == SESSION_OVER ||
        (s->state == SESSION_ENDING && (!s->port_ready || data->payload_type != PAYLOAD_OUTPUT)))
        return true;
    switch (data->payload_type) {
    case PAYLOAD_HANDSHAKE_RESPONSE:
        if (s->state == SESSION_GREETING)
            take_response(s, now_ms, data);
        return true;
    case PAYLOAD_FLAG:
        take_flag(s, now_ms, data, event);
        return true;
    case PAYLOAD_OUTPUT:
        if (s->state == SESSION_PROBING) { /* nothing is processed before the handshake is complete */
            s->consume_due = false;
            return false;
        }
        take_output(s, now_ms, data, event, err);
        return s->consume_due || event->type != SESSION_EVENT_NONE;
    default:
        return true; /* sizes of terminals and the like */
    }
}

static void take_closed(struct session *s, int64_t now_ms, const struct data_channel_event *data)
{
    struct json_token tokens[64];
    struct json doc;
    char output[SESSION_TEXT_SIZE / 2] = "";
    char reason[SESSION_TEXT_SIZE];
    struct writer text = writer_of(reason, sizeof reason);
    struct str payload = {(const char *) data->data, data->len};
    if (json_parse(&doc, payload, tokens, sizeof tokens / sizeof tokens[0], NULL) == 0)
        json_string(&doc, json_member(&doc, json_root(&doc), "Output"), output, sizeof output, NULL);
    writer_format(&text, "the service ended the session%s%s", output[0] != '\0' ? ": " : "", output);
    s->client_gone = true;
    session_end(s, now_ms, false, writer_view(&text));
}

static void take_lost(struct session *s, int64_t now_ms, const struct data_channel_event *data,
                      struct session_event *event)
{
    dispatch(s, EVENT_LOST, now_ms);
    if (s->state == SESSION_OVER)
        return;
    s->lost_ms = now_ms;
    *event = (struct session_event){
        .type = SESSION_EVENT_LOST, .close_code = data->close_code, .text = str_from(data->text)};
}

/* False when there is nothing more for now. */
static bool take_event(struct session *s, int64_t now_ms, struct session_event *event, struct error *err)
{
    struct data_channel_event data;
    data_channel_next(&s->channel, now_ms, &data);
    switch (data.type) {
    case DATA_CHANNEL_EVENT_DATA:
        s->input_waits = !take_data(s, now_ms, &data, event, err);
        return !s->input_waits;
    case DATA_CHANNEL_EVENT_CHANNEL_CLOSED:
        take_closed(s, now_ms, &data);
        return true;
    case DATA_CHANNEL_EVENT_OTHER:
        *event = (struct session_event){.type = SESSION_EVENT_UNKNOWN, .text = data.type_text};
        return true;
    case DATA_CHANNEL_EVENT_LOST:
        take_lost(s, now_ms, &data, event);
        return true;
    case DATA_CHANNEL_EVENT_NONE:
        break;
    }
    return false;
}

/* Whether anybody but the stream that is blocked has something in what is not taken yet. */
static bool others_wait(const struct session *s)
{
    struct port_lookahead look;
    struct data_channel_event data;
    size_t messages = 0;
    if (s->port.mode != PORT_MULTIPLEXED)
        return false;
    port_lookahead_begin(&look, &s->port);
    for (; data_channel_peek(&s->channel, messages, &data); messages++)
        if (data.payload_type == PAYLOAD_OUTPUT && port_lookahead_finds_others(&look, data.data, data.len))
            return true;
    /* With that much here reading has stopped, and who knows what the socket holds. */
    return messages >= INBOX_MESSAGES / 2 && port_session_open_streams(&s->port) > 1;
}

/* What does not come from the data channel: told first. */
static bool own_event(struct session *s, int64_t now_ms, struct session_event *event)
{
    if (s->ready_due) {
        s->ready_due = false;
        event->type = SESSION_EVENT_READY;
    } else if (s->begin_due) {
        s->begin_due = false;
        event->type = SESSION_EVENT_PORT;
        event->port = (struct port_action){.todo = PORT_TODO_DIAL,
                                           .stream = port_session_begin_basic(&s->port, now_ms)};
    } else if (s->state == SESSION_OPEN && now_ms >= port_session_deadline(&s->port)) {
        port_session_tick(&s->port, now_ms, others_wait(s), &event->port);
        if (event->port.todo != PORT_TODO_NOTHING)
            event->type = SESSION_EVENT_PORT;
        /* The rest is not for the connection that it would open. */
        if (event->type != SESSION_EVENT_NONE && s->port.mode != PORT_MULTIPLEXED)
            session_end(s, now_ms, true, str_from(event->port.why));
    }
    return event->type != SESSION_EVENT_NONE;
}

void session_next(struct session *s, int64_t now_ms, struct session_event *event, struct error *err)
{
    *event = (struct session_event){.type = SESSION_EVENT_NONE};
    if (s->consume_due) {
        s->consume_due = false;
        data_channel_consume(&s->channel, s->consume);
    }
    while (event->type == SESSION_EVENT_NONE && !own_event(s, now_ms, event)) {
        if (!take_event(s, now_ms, event, err))
            break;
        if (s->consume_due && event->type == SESSION_EVENT_NONE) {
            s->consume_due = false;
            data_channel_consume(&s->channel, s->consume);
        }
    }
    if (event->type == SESSION_EVENT_NONE && s->state == SESSION_OVER && !s->over_told) {
        s->over_told = true;
        event->type = SESSION_EVENT_OVER;
    }
}

/* ---- what goes out -------------------------------------------------------------------------------------------- */

static bool send_flag(struct session *s, enum payload_flag flag)
{
    uint8_t payload[4];
    struct writer out = writer_of(payload, sizeof payload);
    writer_u32be(&out, flag);
    return data_channel_send_message(&s->channel, PAYLOAD_FLAG, payload, sizeof payload, NULL) == 0;
}

static bool send_fin(struct session *s, int64_t now_ms, uint32_t id)
{
    uint8_t frame[SMUX_HEADER_SIZE];
    if (data_channel_send_room(&s->channel, now_ms, PACER_INTERACTIVE) < sizeof frame)
        return false;
    smux_write_header(frame, SMUX_FIN, id, 0);
    data_channel_send(&s->channel, now_ms, PACER_INTERACTIVE, frame, sizeof frame);
    return true;
}

/* SYNs that found no slot: the client learns it by flag and FIN. */
static void answer_refused(struct session *s, int64_t now_ms)
{
    uint32_t id;
    bool flag_sent;
    while (port_session_refused(&s->port, &id, &flag_sent)) {
        if (!flag_sent && !send_flag(s, PAYLOAD_FLAG_CONNECT_TO_PORT_ERROR))
            return;
        port_session_refused_flag_sent(&s->port);
        if (!send_fin(s, now_ms, id))
            return;
        port_session_refused_fin_sent(&s->port);
    }
}

/* A turn that needs no read. False when the stream has to be read, or nothing can be sent. */
static bool send_control(struct session *s, int64_t now_ms, uint16_t stream, struct session_gather *gather,
                         bool *stuck)
{
    *stuck = false;
    if (port_session_wants_flag(&s->port, stream)) {
        *stuck = !send_flag(s, PAYLOAD_FLAG_CONNECT_TO_PORT_ERROR);
        if (!*stuck)
            port_session_flag_sent(&s->port, stream);
        return !*stuck;
    }
    if (!port_session_wants_fin(&s->port, stream))
        return false;
    *stuck =
        s->port.mode == PORT_MULTIPLEXED && !send_fin(s, now_ms, port_session_stream(&s->port, stream)->id);
    if (*stuck)
        return false;
    port_session_fin_sent(&s->port, stream, now_ms, &gather->port);
    return true;
}

static size_t header_size(const struct session *s)
{
    return s->port.mode == PORT_MULTIPLEXED ? SMUX_HEADER_SIZE : 0;
}

/* One class: true when there is something for the caller to do. */
static bool gather_class(struct session *s, int64_t now_ms, enum pacer_class class,
                         struct session_gather *gather)
{
    uint16_t stream;
    bool stuck;
    while (port_session_pick(&s->port, class, &stream)) {
        if (send_control(s, now_ms, stream, gather, &stuck)) {
            if (gather->port.todo == PORT_TODO_NOTHING)
                continue;
            gather->type = SESSION_GATHER_PORT;
            return true;
        }
        size_t room = stuck ? 0 : data_channel_send_room(&s->channel, now_ms, class);
        if (room <= header_size(s))
            return false;
        size_t most = class == PACER_INTERACTIVE ? PORT_INTERACTIVE_MAX : PORT_TURN_MAX;
        room -= header_size(s);
        gather->type = SESSION_GATHER_READ;
        gather->stream = stream;
        gather->class = class;
        gather->max = room < most ? room : most;
        return true;
    }
    return false;
}

void session_gather(struct session *s, int64_t now_ms, struct session_gather *gather)
{
    *gather = (struct session_gather){.type = SESSION_GATHER_NOTHING};
    if (s->state != SESSION_OPEN || data_channel_holding(&s->channel))
        return;
    answer_refused(s, now_ms);
    if (!gather_class(s, now_ms, PACER_INTERACTIVE, gather))
        gather_class(s, now_ms, PACER_BULK, gather);
}

void session_send(struct session *s, int64_t now_ms, const struct session_gather *gather, uint8_t *data,
                  size_t len, bool more)
{
    if (len > 0) {
        size_t header = header_size(s);
        if (header > 0)
            smux_write_header(data - header, SMUX_PSH, port_session_stream(&s->port, gather->stream)->id,
                              (uint16_t) len);
        /* Less than asked for can't be: gather has asked for room, and nothing was sent since. */
        if (!data_channel_send(&s->channel, now_ms, gather->class, data - header, header + len))
            session_end(s, now_ms, true,
                        STR_LITERAL("internal error: the data channel took less than it had room for"));
        s->last_data_ms = now_ms;
    }
    port_session_sent(&s->port, gather->stream, now_ms, len, more);
}

void session_target_ended(struct session *s, int64_t now_ms, uint16_t stream, struct port_action *action)
{
    port_session_target_ended(&s->port, stream, now_ms, action);
    if (action->todo == PORT_TODO_END)
        session_end(s, now_ms, false, STR_LITERAL("the target closed its connection"));
}

/* Sessions that have one target only end with it. */
static bool ends_with_target(struct session *s, int64_t now_ms, const char *why)
{
    if (s->port.mode != PORT_BASIC_ONCE)
        return false;
    session_end(s, now_ms, true, str_from(why));
    return true;
}

void session_target_broke(struct session *s, int64_t now_ms, uint16_t stream, const char *why)
{
    port_session_broke(&s->port, stream);
    ends_with_target(s, now_ms, why);
}

void session_dial_failed(struct session *s, int64_t now_ms, uint16_t stream, const char *why)
{
    port_session_failed(&s->port, stream);
    ends_with_target(s, now_ms, why);
}

void session_release(struct session *s)
{
    data_channel_release(&s->channel);
}
