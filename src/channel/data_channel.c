#include "channel/data_channel.h"

#include <string.h>

#include "base/bytes.h"
#include "base/format.h"
#include "base/uuid.h"

enum {
    INBOX_PRESSED = INBOX_MESSAGES / 2, /* above this reading is only for acknowledgements */
    HOLD_RESEND_MS = 1000,
    FEW_RESENDS = 8 /* holes of an intact connection: the peer waits for them, they go as interactive */
};

static const char keepalive[] = "keepalive";

_Static_assert(sizeof(struct data_channel_ack) == DATA_CHANNEL_ACK_SIZE, "as reckoned in the memory");
_Static_assert(OUTBOX_MEMORY_SIZE % 8 == 0 && INBOX_MEMORY_SIZE % 8 == 0, "what follows stays aligned");

void data_channel_init(struct data_channel *channel, const struct data_channel_config *config, int64_t now_ms)
{
    bool agent = config->role == DATA_CHANNEL_AGENT;
    uint8_t *at = config->memory;
    memset(channel, 0, sizeof *channel);
    channel->config = *config;
    prng_init(&channel->generator, config->seed);
    bytes_wipe(channel->config.seed, sizeof channel->config.seed);
    outbox_init(&channel->outbox, at,
                agent ? AGENT_MESSAGE_OUTPUT_STREAM_DATA : AGENT_MESSAGE_INPUT_STREAM_DATA,
                config->peer_ignores_old);
    at += OUTBOX_MEMORY_SIZE;
    inbox_init(&channel->inbox, at);
    at += INBOX_MEMORY_SIZE;
    channel->acks = (struct data_channel_ack *) (void *) at;
    at += DATA_CHANNEL_ACKS_MAX * DATA_CHANNEL_ACK_SIZE;
    websocket_decoder_init(&channel->decoder, WEBSOCKET_CLIENT, at, DATA_CHANNEL_INPUT_SIZE);
    channel->plain = at + DATA_CHANNEL_INPUT_SIZE;
    pacer_init(&channel->pacer, config->messages_per_second, config->burst_messages, now_ms);
    channel->hold_sent_ms = INT64_MIN;
}

/* ---- frames outside the stream ---- */

/* Room for a frame's content at the end of the plain buffer; seal_plain makes it a frame. */
static uint8_t *plain_room(struct data_channel *channel, size_t len)
{
    size_t header_size = websocket_header_size(len, true);
    if (DATA_CHANNEL_PLAIN_SIZE - channel->plain_end < header_size + len)
        return NULL;
    return channel->plain + channel->plain_end + header_size;
}

static void seal_plain(struct data_channel *channel, uint8_t *content, size_t len,
                       enum websocket_opcode opcode)
{
    uint8_t mask[WEBSOCKET_MASK_SIZE];
    prng_fill(&channel->generator, mask, sizeof mask);
    channel->plain_end += websocket_seal(content, len, opcode, mask) + len;
}

static bool queue_plain(struct data_channel *channel, enum websocket_opcode opcode, const void *data,
                        size_t len)
{
    uint8_t *content = plain_room(channel, len);
    if (content == NULL)
        return false;
    if (len > 0)
        memcpy(content, data, len);
    seal_plain(channel, content, len, opcode);
    return true;
}

static uint64_t unix_ms(const struct data_channel *channel, int64_t now_ms)
{
    return (uint64_t) (now_ms + channel->config.unix_offset_ms);
}

/* The header of a message that is not in the stream, in front of its payload. */
static void write_plain_header(struct data_channel *channel, int64_t now_ms, enum agent_message_type type,
                               uint8_t *payload, size_t len)
{
    struct agent_message message = {
        .type = type,
        .created_unix_ms = unix_ms(channel, now_ms),
        .flags = AGENT_MESSAGE_SYN | AGENT_MESSAGE_FIN,
        .payload = payload,
        .payload_len = len,
    };
    uint8_t random[UUID_SIZE];
    prng_fill(&channel->generator, random, sizeof random);
    uuid_v4(message.id, random);
    agent_message_write_header(payload - AGENT_MESSAGE_HEADER_SIZE, &message);
}

int data_channel_send_plain(struct data_channel *channel, int64_t now_ms, enum agent_message_type type,
                            struct str payload, struct error *err)
{
    const char *name = agent_message_type_name(type);
    uint8_t *content = plain_room(channel, AGENT_MESSAGE_HEADER_SIZE + payload.len);
    if (channel->state != DATA_CHANNEL_UP)
        return error_set(err, ERROR_CLOSED, "%s: the data channel is not connected", name);
    if (payload.len > DATA_CHANNEL_PLAIN_MESSAGE_MAX || content == NULL)
        return error_set(err, ERROR_TOO_LARGE, "%s: no room for %zu bytes", name, payload.len);
    if (payload.len > 0)
        memcpy(content + AGENT_MESSAGE_HEADER_SIZE, payload.ptr, payload.len);
    write_plain_header(channel, now_ms, type, content + AGENT_MESSAGE_HEADER_SIZE, payload.len);
    seal_plain(channel, content, AGENT_MESSAGE_HEADER_SIZE + payload.len, WEBSOCKET_BINARY);
    return 0;
}

/* ---- lifecycle ---- */

enum happening {
    HAPPENING_CONNECTED,    /* the caller has a websocket */
    HAPPENING_DISCONNECTED, /* it is gone, or silent for too long */
    HAPPENING_PEER_CLOSED,  /* a close frame came, or something that is no websocket: answer and leave */
    HAPPENING_SHUT_DOWN,    /* the caller wants to leave */
    HAPPENING_CLOSED,       /* both close frames were exchanged, or patience ended */
    HAPPENING_COUNT
};

typedef void (*lifecycle_step)(struct data_channel *channel, int64_t now_ms);

static void ignore(struct data_channel *channel, int64_t now_ms)
{
    (void) channel;
    (void) now_ms;
}

static void go_up(struct data_channel *channel, int64_t now_ms)
{
    channel->state = DATA_CHANNEL_UP;
    channel->stats.connections++;
    channel->heard_ms = now_ms;
    channel->ping_ms = now_ms + channel->config.ping_interval_ms;
    websocket_decoder_init(&channel->decoder, WEBSOCKET_CLIENT, channel->decoder.buffer,
                           DATA_CHANNEL_INPUT_SIZE);
    outbox_connected(&channel->outbox, now_ms);
}

/* Sequence numbers, messages and acknowledgements that wait stay; what belonged to the websocket goes. */
static void go_down(struct data_channel *channel, int64_t now_ms)
{
    channel->state = DATA_CHANNEL_DOWN;
    if (channel->warned)
        pacer_slow_down(&channel->pacer, now_ms);
    channel->warned = false;
    outbox_disconnected(&channel->outbox);
    bytes_wipe(channel->plain, DATA_CHANNEL_PLAIN_SIZE);
    channel->plain_start = channel->plain_end = 0;
    channel->source = DATA_CHANNEL_FROM_NOTHING;
    channel->frame_left = 0;
    channel->paused = false;
    channel->peer_closed = channel->close_queued = false;
    channel->hold_sent_ms = INT64_MIN;
    channel->lost_waits = true;
}

static void start_closing(struct data_channel *channel, int64_t now_ms)
{
    channel->state = DATA_CHANNEL_CLOSING;
    channel->closing_ms = now_ms + DATA_CHANNEL_CLOSING_MS;
}

static void answer_close(struct data_channel *channel, int64_t now_ms)
{
    start_closing(channel, now_ms);
    channel->peer_closed = true;
}

static void note_peer_closed(struct data_channel *channel, int64_t now_ms)
{
    channel->peer_closed = true;
    if (channel->close_queued && channel->plain_end == 0)
        go_down(channel, now_ms); /* ours is out already */
}

static const lifecycle_step steps[DATA_CHANNEL_STATE_COUNT][HAPPENING_COUNT] = {
    [DATA_CHANNEL_DOWN] = {[HAPPENING_CONNECTED] = go_up,
                           [HAPPENING_DISCONNECTED] = ignore,
                           [HAPPENING_PEER_CLOSED] = ignore,
                           [HAPPENING_SHUT_DOWN] = ignore,
                           [HAPPENING_CLOSED] = ignore},
    [DATA_CHANNEL_UP] = {[HAPPENING_CONNECTED] = ignore,
                         [HAPPENING_DISCONNECTED] = go_down,
                         [HAPPENING_PEER_CLOSED] = answer_close,
                         [HAPPENING_SHUT_DOWN] = start_closing,
                         [HAPPENING_CLOSED] = ignore},
    [DATA_CHANNEL_CLOSING] = {[HAPPENING_CONNECTED] = ignore,
                              [HAPPENING_DISCONNECTED] = go_down,
                              [HAPPENING_PEER_CLOSED] = note_peer_closed,
                              [HAPPENING_SHUT_DOWN] = ignore,
                              [HAPPENING_CLOSED] = go_down},
};

static void happen(struct data_channel *channel, int64_t now_ms, enum happening what)
{
    steps[channel->state][what](channel, now_ms);
}

/* Why the connection ends, for EVENT_LOST: the first reason stands. */
static void note_reason(struct data_channel *channel, uint16_t code, const char *text)
{
    if (channel->state == DATA_CHANNEL_DOWN || channel->lost_text[0] != '\0')
        return;
    channel->lost_code = code;
    format_text(channel->lost_text, sizeof channel->lost_text, "%s", text);
}

int data_channel_connect(struct data_channel *channel, int64_t now_ms, struct str first_text,
                         struct error *err)
{
    if (channel->state != DATA_CHANNEL_DOWN)
        return error_set(err, ERROR_INVALID, "data channel: connected already");
    if (first_text.len > DATA_CHANNEL_PLAIN_MESSAGE_MAX)
        return error_set(err, ERROR_TOO_LARGE, "data channel: the first message has %zu bytes",
                         first_text.len);
    channel->lost_waits = false;
    channel->lost_text[0] = '\0';
    happen(channel, now_ms, HAPPENING_CONNECTED);
    queue_plain(channel, WEBSOCKET_TEXT, first_text.ptr, first_text.len);
    return 0;
}

void data_channel_disconnect(struct data_channel *channel, int64_t now_ms, const char *why)
{
    note_reason(channel, 0, why);
    happen(channel, now_ms, HAPPENING_DISCONNECTED);
}

static void set_close(struct data_channel *channel, unsigned code, struct str reason)
{
    channel->close_code = (uint16_t) code;
    format_text(channel->close_reason, sizeof channel->close_reason, "%.*s", STR_ARG(reason));
}

void data_channel_shut_down(struct data_channel *channel, int64_t now_ms, unsigned code, struct str reason)
{
    if (channel->state != DATA_CHANNEL_UP)
        return;
    set_close(channel, code, reason);
    note_reason(channel, (uint16_t) code, "closed by us");
    happen(channel, now_ms, HAPPENING_SHUT_DOWN);
}

enum data_channel_state data_channel_state(const struct data_channel *channel)
{
    return channel->state;
}

/* ---- input ---- */

static void show_later(struct data_channel *channel, const struct data_channel_event *event)
{
    channel->event = *event;
    channel->event_waits = true;
    channel->event_shown = false;
}

static void resume(struct data_channel *channel)
{
    if (!channel->paused)
        return;
    channel->paused = false;
    show_later(channel, &(struct data_channel_event){.type = DATA_CHANNEL_EVENT_RESUMED});
}

static void pause_sending(struct data_channel *channel, int64_t now_ms)
{
    if (!channel->paused)
        show_later(channel, &(struct data_channel_event){.type = DATA_CHANNEL_EVENT_PAUSED});
    channel->paused = true;
    channel->stats.paused++;
    /* It says "too fast" or "the other end is away". In the first case the connection ends; in the second the pause does. */
    if (channel->warned)
        pacer_slow_down(&channel->pacer, now_ms);
    channel->warned = channel->config.role == DATA_CHANNEL_AGENT && pacer_is_fast(&channel->pacer, now_ms);
}

static void start_sending(struct data_channel *channel)
{
    channel->warned = false;
    resume(channel);
}

static void queue_ack(struct data_channel *channel, const struct agent_message *message)
{
    size_t at = (channel->ack_first + channel->ack_count) % DATA_CHANNEL_ACKS_MAX;
    channel->acks[at].sequence = message->sequence;
    memcpy(channel->acks[at].id, message->id, sizeof channel->acks[at].id);
    channel->ack_count++;
}

static void take_stream_data(struct data_channel *channel, const struct agent_message *message)
{
    enum inbox_verdict verdict = INBOX_REFUSED;
    resume(channel);
    if (channel->ack_count < DATA_CHANNEL_ACKS_MAX)
        verdict = inbox_take(&channel->inbox, message->sequence, message->payload_type, message->payload,
                             message->payload_len);
    if (verdict == INBOX_REFUSED) {
        channel->stats.refused++;
        return;
    }
    queue_ack(channel, message);
    if (verdict == INBOX_DOUBLE) {
        channel->stats.doubled++;
        return;
    }
    channel->stats.received++;
    if (channel->hold_sent)
        channel->holding = false; /* the client has spoken */
}

static void take_acknowledge(struct data_channel *channel, const struct agent_message *message,
                             int64_t now_ms)
{
    struct str payload = {(const char *) message->payload, message->payload_len};
    struct acknowledge ack;
    resume(channel);
    if (acknowledge_parse(&ack, payload, NULL) != 0)
        channel->stats.invalid++;
    else
        outbox_acknowledge(&channel->outbox, ack.sequence, now_ms);
}

static void show_message(struct data_channel *channel, const struct agent_message *message,
                         enum data_channel_event_type type)
{
    show_later(channel, &(struct data_channel_event){.type = type,
                                                     .payload_type = message->payload_type,
                                                     .data = message->payload,
                                                     .len = message->payload_len,
                                                     .message_left = message->payload_len,
                                                     .type_text = message->type_text});
}

static void take_message(struct data_channel *channel, const struct websocket_event *event, int64_t now_ms)
{
    enum agent_message_type stream_type = channel->config.role == DATA_CHANNEL_AGENT
                                              ? AGENT_MESSAGE_INPUT_STREAM_DATA
                                              : AGENT_MESSAGE_OUTPUT_STREAM_DATA;
    struct agent_message message;
    if (!event->binary || agent_message_parse(&message, event->data, event->len, NULL) != 0)
        channel->stats.invalid++;
    else if (message.type == stream_type)
        take_stream_data(channel, &message);
    else if (message.type == AGENT_MESSAGE_ACKNOWLEDGE)
        take_acknowledge(channel, &message, now_ms);
    else if (message.type == AGENT_MESSAGE_PAUSE_PUBLICATION)
        pause_sending(channel, now_ms);
    else if (message.type == AGENT_MESSAGE_START_PUBLICATION)
        start_sending(channel);
    else if (message.type == AGENT_MESSAGE_CHANNEL_CLOSED)
        show_message(channel, &message, DATA_CHANNEL_EVENT_CHANNEL_CLOSED);
    else
        show_message(channel, &message, DATA_CHANNEL_EVENT_OTHER);
}

static void take_close(struct data_channel *channel, const struct websocket_event *event, int64_t now_ms)
{
    char text[sizeof channel->lost_text];
    struct str reason = {(const char *) event->data, event->len};
    bool routine = event->code == WEBSOCKET_CLOSE_NORMAL || event->code == WEBSOCKET_CLOSE_GOING_AWAY;
    format_text(text, sizeof text, "closed by the service: %u %.*s", event->code, STR_ARG(reason));
    note_reason(channel, event->code, text);
    if (!routine)
        pacer_closed_on(&channel->pacer, now_ms);
    if (channel->state == DATA_CHANNEL_UP)
        set_close(channel, routine ? event->code : WEBSOCKET_CLOSE_NORMAL, str_from(""));
    happen(channel, now_ms, HAPPENING_PEER_CLOSED);
}

static void take_event(struct data_channel *channel, const struct websocket_event *event, int64_t now_ms)
{
    switch (event->type) {
    case WEBSOCKET_EVENT_MESSAGE:
        take_message(channel, event, now_ms);
        break;
    case WEBSOCKET_EVENT_PING:
        /* Without room the answer is left out; one that waits already shows that we live. */
        if (channel->state == DATA_CHANNEL_UP)
            queue_plain(channel, WEBSOCKET_PONG, event->data, event->len);
        break;
    case WEBSOCKET_EVENT_CLOSE:
        take_close(channel, event, now_ms);
        break;
    case WEBSOCKET_EVENT_PONG:
    case WEBSOCKET_EVENT_NONE:
        break;
    }
}

/* Works off what has come, until there is something to show or nothing whole is left. */
static void work_off(struct data_channel *channel, int64_t now_ms)
{
    struct websocket_event event = {.type = WEBSOCKET_EVENT_PONG};
    struct error err = ERROR_INIT;
    while (channel->state != DATA_CHANNEL_DOWN && !channel->peer_closed && !channel->event_waits &&
           event.type != WEBSOCKET_EVENT_NONE) {
        if (websocket_next(&channel->decoder, &event, &err) != 0) {
            note_reason(channel, channel->decoder.close_code, err.text);
            set_close(channel, channel->decoder.close_code, str_from(""));
            happen(channel, now_ms, HAPPENING_PEER_CLOSED);
            return;
        }
        take_event(channel, &event, now_ms);
    }
}

/* Much is kept that could be consumed and isn't. (What came early waits for a message that has yet to be read.) */
static bool pressed(const struct data_channel *channel)
{
    return channel->inbox.used > INBOX_PRESSED && channel->inbox.front != channel->inbox.expected;
}

/* New messages of ours wait for acknowledgements that come in between the peer's data. */
static bool waits_for_acknowledgements(const struct data_channel *channel)
{
    return channel->outbox.lists[OUTBOX_FIRST_FLIGHT].count + channel->outbox.lists[OUTBOX_SENDING].count > 0;
}

bool data_channel_wants_input(const struct data_channel *channel)
{
    if (channel->state == DATA_CHANNEL_DOWN || channel->peer_closed || channel->event_waits)
        return false;
    return !pressed(channel) || waits_for_acknowledgements(channel);
}

uint8_t *data_channel_in_buf(struct data_channel *channel, size_t *room)
{
    uint8_t *buffer;
    *room = 0;
    if (channel->state == DATA_CHANNEL_DOWN || channel->peer_closed || channel->event_waits)
        return channel->decoder.buffer;
    buffer = websocket_in_buf(&channel->decoder, room);
    return buffer;
}

void data_channel_in_ack(struct data_channel *channel, int64_t now_ms, size_t len)
{
    if (channel->state == DATA_CHANNEL_DOWN || len == 0)
        return;
    channel->heard_ms = now_ms;
    websocket_in_ack(&channel->decoder, len);
    work_off(channel, now_ms);
}

/* ---- events ---- */

static bool next_special(struct data_channel *channel, int64_t now_ms, struct data_channel_event *event)
{
    if (channel->event_waits && channel->event_shown) {
        channel->event_waits = false;
        work_off(channel, now_ms);
    }
    if (channel->event_waits) {
        channel->event_shown = true;
        *event = channel->event;
        return true;
    }
    if (channel->lost_waits) {
        channel->lost_waits = false;
        event->type = DATA_CHANNEL_EVENT_LOST;
        event->close_code = channel->lost_code;
        event->text = channel->lost_text;
        return true;
    }
    return false;
}

void data_channel_next(struct data_channel *channel, int64_t now_ms, struct data_channel_event *event)
{
    memset(event, 0, sizeof *event);
    if (next_special(channel, now_ms, event))
        return;
    if (inbox_front(&channel->inbox, &event->payload_type, &event->data, &event->len, &event->message_left))
        event->type = DATA_CHANNEL_EVENT_DATA;
}

void data_channel_consume(struct data_channel *channel, size_t n)
{
    channel->stats.bytes_in += n;
    inbox_consume(&channel->inbox, n);
}

bool data_channel_peek(const struct data_channel *channel, size_t n, struct data_channel_event *event)
{
    memset(event, 0, sizeof *event);
    event->type = DATA_CHANNEL_EVENT_DATA;
    return inbox_peek(&channel->inbox, n, &event->payload_type, &event->data, &event->len,
                      &event->message_left);
}

/* ---- the stream's output ---- */

/* So many new messages are refused by us that the peer will lose its oldest: do not provoke more. */
static bool peer_is_full(const struct data_channel *channel)
{
    return inbox_missing(&channel->inbox) >= DATA_CHANNEL_REFUSED_MAX;
}

static uint32_t flight_max(const struct data_channel *channel)
{
    return pressed(channel) ? DATA_CHANNEL_PRESSED_FLIGHT : OUTBOX_WINDOW;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t data_channel_send_room(struct data_channel *channel, int64_t now_ms, enum pacer_class class)
{
    const struct outbox *outbox = &channel->outbox;
    size_t unsent = outbox->lists[OUTBOX_UNSENT].count;
    size_t flying = outbox->lists[OUTBOX_FIRST_FLIGHT].count + unsent;
    size_t flight_limit = min_size(flight_max(channel), outbox->flight_limit);
    channel->caller_waits[class] = false;
    if (channel->state != DATA_CHANNEL_UP || channel->paused || channel->holding || peer_is_full(channel))
        return 0;
    size_t messages =
        min_size(outbox_room(outbox), DATA_CHANNEL_UNSENT_MAX - min_size(unsent, DATA_CHANNEL_UNSENT_MAX));
    messages = min_size(messages, flight_limit - min_size(flying, flight_limit));
    size_t allowed = pacer_allows(&channel->pacer, now_ms, class);
    allowed -= min_size(unsent, allowed);
    channel->caller_waits[class] = allowed < messages;
    return min_size(messages, allowed) * AGENT_MESSAGE_STREAM_PAYLOAD_MAX + outbox_open_room(outbox);
}

static void note_appended(struct data_channel *channel, enum pacer_class class, size_t len)
{
    channel->stats.bytes_out += len;
    if (class == PACER_INTERACTIVE)
        channel->urgent_below = channel->outbox.next;
}

size_t data_channel_send(struct data_channel *channel, int64_t now_ms, enum pacer_class class,
                         const void *data, size_t len)
{
    size_t taken = 0;
    len = min_size(len, data_channel_send_room(channel, now_ms, class));
    while (taken < len) {
        size_t room;
        uint8_t *at = outbox_append_buf(&channel->outbox, PAYLOAD_OUTPUT, &room);
        if (at == NULL)
            break;
        room = min_size(room, len - taken);
        memcpy(at, (const uint8_t *) data + taken, room);
        outbox_append_ack(&channel->outbox, PAYLOAD_OUTPUT, room);
        taken += room;
    }
    note_appended(channel, class, taken);
    return taken;
}

int data_channel_send_message(struct data_channel *channel, int64_t now_ms, enum payload_type type,
                              const void *data, size_t len, struct error *err)
{
    (void) now_ms;
    if (len > OUTBOX_LARGE_PAYLOAD_MAX)
        return error_set(err, ERROR_TOO_LARGE, "data channel: a message of %zu bytes, at most %d fit", len,
                         OUTBOX_LARGE_PAYLOAD_MAX);
    if (!outbox_append_message(&channel->outbox, type, data, len))
        return error_set(err, ERROR_UNAVAILABLE,
                         "data channel: no room for a message, too many unacknowledged");
    note_appended(channel, PACER_INTERACTIVE, len);
    return 0;
}

void data_channel_hold(struct data_channel *channel, int64_t now_ms, int64_t until_ms)
{
    (void) now_ms;
    channel->holding = true;
    channel->hold_sent = false;
    channel->hold_sequence = channel->outbox.next - 1;
    channel->hold_sent_ms = INT64_MIN;
    channel->hold_until_ms = until_ms;
}

bool data_channel_holding(const struct data_channel *channel)
{
    return channel->holding;
}

void data_channel_hold_until(struct data_channel *channel, int64_t until_ms)
{
    channel->hold_until_ms = until_ms;
}

bool data_channel_wants_witness(const struct data_channel *channel)
{
    return channel->state == DATA_CHANNEL_UP && outbox_wants_witness(&channel->outbox);
}

bool data_channel_drained(const struct data_channel *channel)
{
    return outbox_counted(&channel->outbox) == 0;
}

int64_t data_channel_next_sequence(const struct data_channel *channel)
{
    return channel->outbox.next;
}

bool data_channel_acknowledged(const struct data_channel *channel, int64_t sequence)
{
    return outbox_acknowledged(&channel->outbox, sequence);
}

/* ---- output ---- */

/* When the hold lets resends go; now or earlier when it does not matter. */
static int64_t hold_resend_ms(const struct data_channel *channel)
{
    if (!channel->holding || channel->hold_sent_ms == INT64_MIN)
        return INT64_MIN;
    return channel->hold_sent_ms + HOLD_RESEND_MS;
}

static bool acks_may_go(const struct data_channel *channel, int64_t now_ms)
{
    return !channel->holding || channel->hold_sent_ms == INT64_MIN ||
           now_ms - channel->hold_sent_ms >= DATA_CHANNEL_HOLD_ACK_MS;
}

/* The stream message to transmit next, the pacer not asked. */
static uint16_t choose(const struct data_channel *channel, int64_t now_ms)
{
    int64_t new_below = INT64_MAX;
    if (channel->state != DATA_CHANNEL_UP || channel->paused || now_ms < hold_resend_ms(channel))
        return OUTBOX_NO_SLOT;
    if (channel->holding)
        new_below = channel->hold_sequence + 1;
    else if (peer_is_full(channel))
        new_below = 0;
    return outbox_choose(&channel->outbox, now_ms, flight_max(channel), new_below);
}

static enum pacer_class class_of(const struct data_channel *channel, uint16_t slot)
{
    const struct outbox_message *message = &channel->outbox.messages[slot];
    bool urgent = false;
    if (message->state == OUTBOX_UNSENT)
        urgent = message->sequence < channel->urgent_below;
    else if (message->state == OUTBOX_LOST)
        urgent = channel->outbox.lists[OUTBOX_LOST].count <= FEW_RESENDS;
    return urgent ? PACER_INTERACTIVE : PACER_BULK;
}

static void begin_frame(struct data_channel *channel, enum data_channel_source source, const uint8_t *frame,
                        size_t len)
{
    channel->source = source;
    channel->frame = frame;
    channel->frame_left = len;
}

static void begin_ack(struct data_channel *channel, int64_t now_ms)
{
    const struct data_channel_ack *waiting = &channel->acks[channel->ack_first];
    struct acknowledge ack = {.sequence = waiting->sequence};
    uint8_t *content = channel->ack_frame + OUTBOX_SLOT_HEADROOM;
    uint8_t *payload = content + AGENT_MESSAGE_HEADER_SIZE;
    struct writer w = writer_of(payload, ACKNOWLEDGE_PAYLOAD_MAX);
    uint8_t mask[WEBSOCKET_MASK_SIZE];
    ack.type = channel->config.role == DATA_CHANNEL_AGENT ? AGENT_MESSAGE_INPUT_STREAM_DATA
                                                          : AGENT_MESSAGE_OUTPUT_STREAM_DATA;
    memcpy(ack.id, waiting->id, sizeof ack.id);
    acknowledge_write(&w, &ack);
    write_plain_header(channel, now_ms, AGENT_MESSAGE_ACKNOWLEDGE, payload, w.len);
    prng_fill(&channel->generator, mask, sizeof mask);
    size_t header_size = websocket_seal(content, AGENT_MESSAGE_HEADER_SIZE + w.len, WEBSOCKET_BINARY, mask);
    begin_frame(channel, DATA_CHANNEL_FROM_ACK, content - header_size,
                header_size + AGENT_MESSAGE_HEADER_SIZE + w.len);
}

static void begin_stream_message(struct data_channel *channel, int64_t now_ms)
{
    outbox_tick(&channel->outbox, now_ms);
    uint16_t slot = choose(channel, now_ms);
    if (slot == OUTBOX_NO_SLOT)
        return;
    enum pacer_class class = class_of(channel, slot);
    if (pacer_allows(&channel->pacer, now_ms, class) == 0)
        return;
    pacer_sent(&channel->pacer, now_ms, class, 1);
    size_t len;
    const uint8_t *frame =
        outbox_begin(&channel->outbox, slot, unix_ms(channel, now_ms), &channel->generator, &len);
    begin_frame(channel, DATA_CHANNEL_FROM_OUTBOX, frame, len);
}

static void queue_close(struct data_channel *channel)
{
    uint8_t payload[WEBSOCKET_CONTROL_MAX];
    size_t len = 0;
    if (channel->close_queued)
        return;
    if (channel->close_code != WEBSOCKET_CLOSE_NO_CODE)
        len = websocket_close_payload(payload, channel->close_code, str_from(channel->close_reason));
    channel->close_queued = queue_plain(channel, WEBSOCKET_CLOSE, payload, len);
}

/* What goes next, in order of urgency. */
static void begin_next(struct data_channel *channel, int64_t now_ms)
{
    size_t plain_len = channel->plain_end - channel->plain_start;
    if (plain_len == 0 && channel->state == DATA_CHANNEL_CLOSING &&
        (channel->ack_count == 0 || channel->peer_closed)) {
        queue_close(channel);
        plain_len = channel->plain_end - channel->plain_start;
    }
    if (plain_len > 0)
        begin_frame(channel, DATA_CHANNEL_FROM_PLAIN, channel->plain + channel->plain_start, plain_len);
    else if (channel->close_queued)
        return;
    else if (channel->ack_count > 0 && acks_may_go(channel, now_ms))
        begin_ack(channel, now_ms);
    else
        begin_stream_message(channel, now_ms);
}

const uint8_t *data_channel_out_buf(struct data_channel *channel, int64_t now_ms, size_t *len)
{
    *len = 0;
    if (channel->state == DATA_CHANNEL_DOWN)
        return NULL;
    if (channel->frame_left == 0)
        begin_next(channel, now_ms);
    *len = channel->frame_left;
    return channel->frame;
}

static void end_plain(struct data_channel *channel, int64_t now_ms)
{
    bytes_wipe(channel->plain, channel->plain_end); /* a token may have been in it */
    channel->plain_start = channel->plain_end = 0;
    if (channel->close_queued && channel->peer_closed)
        happen(channel, now_ms, HAPPENING_CLOSED);
}

static void end_ack(struct data_channel *channel)
{
    channel->ack_first = (channel->ack_first + 1) % DATA_CHANNEL_ACKS_MAX;
    if (--channel->ack_count == 0)
        channel->ack_first = 0;
}

static void end_stream_message(struct data_channel *channel, int64_t now_ms)
{
    const struct outbox *outbox = &channel->outbox;
    if (channel->holding && outbox->messages[outbox->sending].sequence == channel->hold_sequence) {
        channel->hold_sent = true;
        channel->hold_sent_ms = now_ms;
    }
    outbox_end(&channel->outbox, now_ms);
}

void data_channel_out_ack(struct data_channel *channel, int64_t now_ms, size_t len)
{
    enum data_channel_source source = channel->source;
    if (channel->state == DATA_CHANNEL_DOWN || len == 0)
        return;
    channel->frame += len;
    channel->frame_left -= len;
    if (source == DATA_CHANNEL_FROM_PLAIN)
        channel->plain_start += len;
    if (channel->frame_left > 0)
        return;
    channel->source = DATA_CHANNEL_FROM_NOTHING;
    if (source == DATA_CHANNEL_FROM_PLAIN && channel->plain_start == channel->plain_end)
        end_plain(channel, now_ms);
    else if (source == DATA_CHANNEL_FROM_ACK)
        end_ack(channel);
    else if (source == DATA_CHANNEL_FROM_OUTBOX)
        end_stream_message(channel, now_ms);
}

/* ---- time ---- */

static void earlier(int64_t *deadline, int64_t candidate)
{
    if (candidate < *deadline)
        *deadline = candidate;
}

static int64_t silence_ms(const struct data_channel *channel)
{
    return channel->heard_ms + channel->config.ping_interval_ms + DATA_CHANNEL_SILENCE_MS;
}

static void stream_deadline(struct data_channel *channel, int64_t now_ms, int64_t *deadline)
{
    if (channel->paused)
        return;
    if (now_ms < hold_resend_ms(channel)) {
        earlier(deadline, hold_resend_ms(channel));
        return;
    }
    earlier(deadline, outbox_deadline(&channel->outbox, now_ms));
    uint16_t slot = choose(channel, now_ms);
    if (slot != OUTBOX_NO_SLOT && pacer_allows(&channel->pacer, now_ms, class_of(channel, slot)) == 0)
        earlier(deadline, pacer_next_ms(&channel->pacer, now_ms, class_of(channel, slot)));
    for (int i = PACER_BULK; i <= PACER_INTERACTIVE; i++)
        if (channel->caller_waits[i])
            earlier(deadline, pacer_next_ms(&channel->pacer, now_ms, (enum pacer_class) i));
}

int64_t data_channel_deadline(struct data_channel *channel, int64_t now_ms)
{
    int64_t deadline = INT64_MAX;
    if (channel->state == DATA_CHANNEL_DOWN)
        return INT64_MAX;
    if (channel->state == DATA_CHANNEL_CLOSING)
        return channel->closing_ms;
    earlier(&deadline, channel->ping_ms);
    earlier(&deadline, silence_ms(channel));
    if (channel->holding)
        earlier(&deadline, channel->hold_until_ms);
    if (channel->ack_count > 0 && !acks_may_go(channel, now_ms))
        earlier(&deadline, channel->hold_sent_ms + DATA_CHANNEL_HOLD_ACK_MS);
    stream_deadline(channel, now_ms, &deadline);
    return deadline;
}

void data_channel_tick(struct data_channel *channel, int64_t now_ms)
{
    channel->caller_waits[PACER_BULK] = channel->caller_waits[PACER_INTERACTIVE] = false;
    if (channel->holding && now_ms >= channel->hold_until_ms)
        channel->holding = false;
    if (channel->state == DATA_CHANNEL_CLOSING && now_ms >= channel->closing_ms)
        happen(channel, now_ms, HAPPENING_CLOSED);
    if (channel->state != DATA_CHANNEL_UP)
        return;
    if (!data_channel_wants_input(channel))
        channel->heard_ms = now_ms; /* who does not listen can't complain of silence */
    if (now_ms >= silence_ms(channel)) {
        data_channel_disconnect(channel, now_ms,
                                "nothing was heard from the service, not even an answer to a ping");
        return;
    }
    if (now_ms >= channel->ping_ms) {
        queue_plain(channel, WEBSOCKET_PING, keepalive, sizeof keepalive - 1);
        channel->ping_ms = now_ms + channel->config.ping_interval_ms;
    }
    if (!channel->paused)
        outbox_tick(&channel->outbox, now_ms);
}

/* ---- knobs ---- */

void data_channel_set_unix_offset(struct data_channel *channel, int64_t unix_offset_ms)
{
    channel->config.unix_offset_ms = unix_offset_ms;
}

void data_channel_peer_acknowledges_old(struct data_channel *channel)
{
    channel->config.peer_ignores_old = false;
    channel->outbox.peer_ignores_old = false;
}

void data_channel_stats(const struct data_channel *channel, struct data_channel_stats *stats)
{
    *stats = channel->stats;
    stats->sent = channel->outbox.sent;
    stats->resent = channel->outbox.resent;
    stats->acknowledged = channel->outbox.acknowledged;
    stats->given_up = channel->outbox.given_up;
}
