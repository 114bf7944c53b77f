#include "channel/data_channel.h"

#include <string.h>

#include "base/bytes.h"
#include "base/format.h"
#include "base/uuid.h"

enum {
    INBOX_BACKPRESSURE = INBOX_MESSAGES / 2, /* above this reading is only for acknowledgements */
    POOL_BACKPRESSURE = 64,                  /* blocks: with less room in the pool, too */
    FEW_RESENDS = 8 /* gaps of an intact connection: the peer waits for them, they go as interactive */
};

_Static_assert(sizeof(struct data_channel_ack) == DATA_CHANNEL_ACK_SIZE, "as counted in the memory");
_Static_assert(OUTBOX_MEMORY_SIZE % 8 == 0 && INBOX_MEMORY_SIZE % 8 == 0, "what follows stays aligned");

void data_channel_init(struct data_channel *channel, const struct data_channel_config *config, int64_t now_ms)
{
    bool agent = config->role == DATA_CHANNEL_AGENT;
    uint8_t *at = config->memory;
    memset(channel, 0, sizeof *channel);
    channel->config = *config;
    channel->unanswered_ms = INT64_MAX;
    prng_init(&channel->prng, config->seed);
    bytes_wipe(channel->config.seed, sizeof channel->config.seed);
    outbox_init(&channel->outbox, at, config->user,
                agent ? AGENT_MESSAGE_OUTPUT_STREAM_DATA : AGENT_MESSAGE_INPUT_STREAM_DATA,
                config->peer_ignores_duplicates);
    at += OUTBOX_MEMORY_SIZE;
    inbox_init(&channel->inbox, at, config->user);
    at += INBOX_MEMORY_SIZE;
    channel->acks = (struct data_channel_ack *) (void *) at;
    at += DATA_CHANNEL_ACKS_MAX * DATA_CHANNEL_ACK_SIZE;
    connection_init(&channel->connection,
                    &(struct connection_config){.ping_interval_ms = config->ping_interval_ms,
                                                .prng = &channel->prng,
                                                .in = at,
                                                .in_size = DATA_CHANNEL_INPUT_SIZE,
                                                .out = at + DATA_CHANNEL_INPUT_SIZE,
                                                .out_size = DATA_CHANNEL_PLAIN_SIZE});
    pacer_init(&channel->pacer, config->messages_per_second, config->burst_messages, now_ms);
    channel->hold_sent_ms = INT64_MIN;
}

void data_channel_release(struct data_channel *channel)
{
    outbox_release(&channel->outbox);
    inbox_release(&channel->inbox);
}

/* ---- messages outside the stream ---- */

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
    prng_fill(&channel->prng, random, sizeof random);
    uuid_v4(message.id, random);
    agent_message_write_header(payload - AGENT_MESSAGE_HEADER_SIZE, &message);
}

int data_channel_send_plain(struct data_channel *channel, int64_t now_ms, enum agent_message_type type,
                            struct str payload, struct error *err)
{
    const char *name = agent_message_type_name(type);
    uint8_t *content = connection_send_buf(&channel->connection, AGENT_MESSAGE_HEADER_SIZE + payload.len);
    if (data_channel_state(channel) != CONNECTION_UP)
        return error_set(err, ERROR_CLOSED, "%s: the data channel is not connected", name);
    if (payload.len > DATA_CHANNEL_PLAIN_MESSAGE_MAX || content == NULL)
        return error_set(err, ERROR_TOO_LARGE, "%s: no room for %zu bytes", name, payload.len);
    if (payload.len > 0)
        memcpy(content + AGENT_MESSAGE_HEADER_SIZE, payload.ptr, payload.len);
    write_plain_header(channel, now_ms, type, content + AGENT_MESSAGE_HEADER_SIZE, payload.len);
    connection_send_ack(&channel->connection, content, AGENT_MESSAGE_HEADER_SIZE + payload.len,
                        WEBSOCKET_BINARY);
    return 0;
}

/* ---- connections ---- */

static void take_frames(struct data_channel *channel, int64_t now_ms);

int data_channel_connect(struct data_channel *channel, int64_t now_ms, struct str first_text,
                         struct error *err)
{
    while (channel->connection.state == CONNECTION_DOWN &&
           (channel->event_waits || channel->connection.lost_due)) {
        channel->event_waits = false; /* of the last connection, which nobody has asked about since */
        take_frames(channel, now_ms);
    }
    int result = connection_open(&channel->connection, now_ms, first_text, err);
    if (result < 0)
        return result;
    channel->stats.connections++;
    outbox_connected(&channel->outbox, now_ms);
    return 0;
}

/* Sequence numbers, messages and acknowledgements that wait stay; what belonged to the websocket goes. */
static void forget_connection(struct data_channel *channel, int64_t now_ms)
{
    if (channel->warned)
        pacer_slow_down(&channel->pacer, now_ms);
    channel->warned = false;
    inbox_settle(&channel->inbox);
    outbox_disconnected(&channel->outbox);
    channel->source = DATA_CHANNEL_FROM_NOTHING;
    channel->frame_left = 0;
    channel->paused = false;
    channel->shutting_down = false;
    channel->hold_sent_ms = INT64_MIN;
    channel->unanswered_ms = INT64_MAX;
}

void data_channel_disconnect(struct data_channel *channel, int64_t now_ms, const char *why)
{
    connection_lost(&channel->connection, now_ms, why);
    take_frames(channel, now_ms);
}

int64_t data_channel_take_learned_ms(struct data_channel *channel)
{
    return connection_take_learned_ms(&channel->connection);
}

static void close_connection(struct data_channel *channel, int64_t now_ms)
{
    channel->shutting_down = false;
    connection_close(&channel->connection, now_ms, channel->close_code, str_from(channel->close_reason));
}

void data_channel_shut_down(struct data_channel *channel, int64_t now_ms, unsigned code, struct str reason)
{
    if (data_channel_state(channel) != CONNECTION_UP)
        return;
    channel->shutting_down = true;
    channel->shut_down_ms = now_ms + CONNECTION_CLOSING_MS;
    channel->close_code = (uint16_t) code;
    format_text(channel->close_reason, sizeof channel->close_reason, "%.*s", STR_ARG(reason));
    if (channel->ack_count == 0)
        close_connection(channel, now_ms);
}

enum connection_state data_channel_state(const struct data_channel *channel)
{
    return channel->shutting_down ? CONNECTION_CLOSING : channel->connection.state;
}

/* ---- input ---- */

static void show_later(struct data_channel *channel, const struct data_channel_event *event)
{
    channel->event = *event;
    channel->event_waits = true;
    channel->event_shown = false;
}

static void pause_sending(struct data_channel *channel, int64_t now_ms)
{
    channel->paused = true;
    channel->stats.paused++;
    /* It says "too fast" or "the other end is away". In the first case the connection ends;
     * in the second the pause does. */
    if (channel->warned)
        pacer_slow_down(&channel->pacer, now_ms);
    channel->warned = channel->config.role == DATA_CHANNEL_AGENT && pacer_is_fast(&channel->pacer, now_ms);
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
    enum inbox_result result = INBOX_REFUSED;
    channel->paused = false;
    channel->unanswered_ms = INT64_MAX;
    if (channel->ack_count < DATA_CHANNEL_ACKS_MAX)
        result = inbox_take(&channel->inbox, message->sequence, message->payload_type, message->payload,
                            message->payload_len);
    if (result == INBOX_REFUSED) {
        channel->stats.refused++;
        return;
    }
    if (result == INBOX_NEW && channel->hold_sent)
        channel->holding = false; /* the client has spoken */
    channel->stats.received += result == INBOX_NEW;
    channel->stats.duplicates += result == INBOX_DUPLICATE;
    if (!channel->holding || !channel->hold_sent)
        queue_ack(channel, message);
}

static void take_acknowledge(struct data_channel *channel, const struct agent_message *message,
                             int64_t now_ms)
{
    struct str payload = {(const char *) message->payload, message->payload_len};
    struct acknowledge ack;
    channel->paused = false;
    channel->unanswered_ms = INT64_MAX;
    if (acknowledge_parse(&ack, payload, NULL) != 0)
        channel->stats.invalid++;
    else if (ack.type == channel->outbox.type ||
             ack.type == AGENT_MESSAGE_UNKNOWN) /* some acknowledge every message */
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

static void take_message(struct data_channel *channel, const struct connection_event *event, int64_t now_ms)
{
    enum agent_message_type stream_type = channel->config.role == DATA_CHANNEL_AGENT
                                              ? AGENT_MESSAGE_INPUT_STREAM_DATA
                                              : AGENT_MESSAGE_OUTPUT_STREAM_DATA;
    struct agent_message message;
    if (!event->binary || agent_message_parse(&message, event->data, event->len, NULL) != 0) {
        channel->stats.invalid++;
    } else if (message.type == stream_type) {
        take_stream_data(channel, &message);
    } else if (message.type == AGENT_MESSAGE_ACKNOWLEDGE) {
        take_acknowledge(channel, &message, now_ms);
    } else if (message.type == AGENT_MESSAGE_PAUSE_PUBLICATION) {
        pause_sending(channel, now_ms);
    } else if (message.type == AGENT_MESSAGE_START_PUBLICATION) {
        channel->paused = channel->warned = false;
        channel->unanswered_ms = INT64_MAX;
    } else if (message.type == AGENT_MESSAGE_CHANNEL_CLOSED) {
        show_message(channel, &message, DATA_CHANNEL_EVENT_CHANNEL_CLOSED);
    } else {
        show_message(channel, &message, DATA_CHANNEL_EVENT_OTHER);
    }
}

static void take_lost(struct data_channel *channel, const struct connection_event *event, int64_t now_ms)
{
    bool routine = event->code == WEBSOCKET_CLOSE_NORMAL || event->code == WEBSOCKET_CLOSE_GOING_AWAY;
    if (event->closed_by_peer && !routine)
        pacer_closed_on(&channel->pacer, now_ms);
    forget_connection(channel, now_ms);
    show_later(channel, &(struct data_channel_event){
                            .type = DATA_CHANNEL_EVENT_LOST, .close_code = event->code, .text = event->text});
}

/* Takes what has come, until there is something to show or nothing whole is left. */
static void take_frames(struct data_channel *channel, int64_t now_ms)
{
    struct connection_event event = {.type = CONNECTION_MESSAGE};
    while (!channel->event_waits && event.type != CONNECTION_NOTHING) {
        connection_next(&channel->connection, now_ms, &event);
        if (event.type == CONNECTION_MESSAGE)
            take_message(channel, &event, now_ms);
        else if (event.type == CONNECTION_LOST)
            take_lost(channel, &event, now_ms);
    }
}

/* Much is kept that could be consumed and isn't. (What came early waits for a
 * message that has yet to be read.) */
static bool is_backpressured(const struct data_channel *channel)
{
    const struct inbox *inbox = &channel->inbox;
    bool is_full =
        inbox->used > INBOX_BACKPRESSURE || pool_room(inbox->user, POOL_NORMAL) < POOL_BACKPRESSURE;
    return is_full && inbox_ready(inbox) > 0;
}

/* New messages of ours wait for acknowledgements that come in between the peer's data. */
static bool waits_for_acknowledgements(const struct data_channel *channel)
{
    return channel->outbox.lists[OUTBOX_FIRST_FLIGHT].count + channel->outbox.lists[OUTBOX_SENDING].count > 0;
}

bool data_channel_wants_input(const struct data_channel *channel)
{
    if (channel->connection.state == CONNECTION_DOWN || channel->connection.peer_closed ||
        channel->event_waits)
        return false;
    return !is_backpressured(channel) || waits_for_acknowledgements(channel);
}

uint8_t *data_channel_in_buf(struct data_channel *channel, size_t *room)
{
    *room = 0;
    if (channel->event_waits)
        return NULL;
    inbox_settle(&channel->inbox);
    return connection_in_buf(&channel->connection, room);
}

void data_channel_in_ack(struct data_channel *channel, int64_t now_ms, size_t len)
{
    connection_in_ack(&channel->connection, now_ms, len);
    take_frames(channel, now_ms);
}

/* ---- events ---- */

void data_channel_next(struct data_channel *channel, int64_t now_ms, struct data_channel_event *event)
{
    memset(event, 0, sizeof *event);
    if (channel->event_waits && channel->event_shown)
        channel->event_waits = false;
    take_frames(channel, now_ms);
    if (channel->event_waits) {
        channel->event_shown = true;
        *event = channel->event;
        return;
    }
    if (inbox_front(&channel->inbox, &event->payload_type, &event->data, &event->len, &event->message_left))
        event->type = DATA_CHANNEL_EVENT_DATA;
}

void data_channel_consume(struct data_channel *channel, size_t n)
{
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
    return is_backpressured(channel) ? DATA_CHANNEL_BACKPRESSURED_FLIGHT : OUTBOX_WINDOW;
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
    size_t payload =
        AGENT_MESSAGE_STREAM_PAYLOAD_MAX - (outbox->next_piece != NULL ? OUTBOX_PIECE_HEADER_SIZE : 0);
    channel->caller_waits[class] = false;
    if (data_channel_state(channel) != CONNECTION_UP || channel->paused || channel->holding ||
        peer_is_full(channel))
        return 0;
    size_t messages =
        min_size(outbox_room(outbox), DATA_CHANNEL_UNSENT_MAX - min_size(unsent, DATA_CHANNEL_UNSENT_MAX));
    messages = min_size(messages, flight_limit - min_size(flying, flight_limit));
    size_t allowed = pacer_allows(&channel->pacer, now_ms, class);
    allowed -= min_size(unsent, allowed);
    channel->caller_waits[class] = allowed < messages;
    return min_size(messages, allowed) * payload + outbox_open_room(outbox);
}

size_t data_channel_reserve(struct data_channel *channel, size_t header, size_t max,
                            struct iovec vectors[OUTBOX_RESERVE_MAX], int *count)
{
    return outbox_reserve(&channel->outbox, header, max, vectors, count);
}

void data_channel_commit(struct data_channel *channel, enum pacer_class class, size_t len)
{
    outbox_commit(&channel->outbox, len);
    if (class == PACER_INTERACTIVE && len > 0)
        channel->urgent_below = channel->outbox.next;
}

bool data_channel_send(struct data_channel *channel, int64_t now_ms, enum pacer_class class, const void *data,
                       size_t len)
{
    struct iovec vectors[OUTBOX_RESERVE_MAX];
    const uint8_t *at = data;
    int count;
    if (data_channel_send_room(channel, now_ms, class) < len)
        return false;
    bool fits = data_channel_reserve(channel, 0, len, vectors, &count) == len;
    for (int i = 0; i < count && fits; i++) {
        memcpy(vectors[i].iov_base, at, vectors[i].iov_len);
        at += vectors[i].iov_len;
    }
    data_channel_commit(channel, class, fits ? len : 0);
    return fits;
}

int data_channel_send_message(struct data_channel *channel, enum payload_type type, const void *data,
                              size_t len, struct error *err)
{
    if (len > OUTBOX_LARGE_PAYLOAD_MAX)
        return error_set(err, ERROR_TOO_LARGE, "data channel: a message of %zu bytes, at most %d fit", len,
                         OUTBOX_LARGE_PAYLOAD_MAX);
    if (!outbox_append_message(&channel->outbox, type, data, len))
        return error_set(err, ERROR_UNAVAILABLE,
                         "data channel: no room for a message, too many unacknowledged");
    channel->urgent_below = channel->outbox.next;
    return 0;
}

void data_channel_empty_output(struct data_channel *channel)
{
    outbox_empty(&channel->outbox);
}

void data_channel_hold(struct data_channel *channel, int64_t until_ms)
{
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

bool data_channel_wants_ack_probe(const struct data_channel *channel)
{
    return data_channel_state(channel) == CONNECTION_UP && outbox_wants_ack_probe(&channel->outbox);
}

bool data_channel_peer_is_silent(const struct data_channel *channel, int64_t now_ms)
{
    return channel->config.role == DATA_CHANNEL_AGENT && channel->unanswered_ms != INT64_MAX &&
           now_ms - channel->unanswered_ms >= DATA_CHANNEL_SILENT_MS;
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

void data_channel_number_pieces(struct data_channel *channel, uint64_t *next)
{
    outbox_number_pieces(&channel->outbox, next);
}

uint64_t data_channel_oldest_piece(const struct data_channel *channel)
{
    return outbox_oldest_piece(&channel->outbox);
}

bool data_channel_move_piece(struct data_channel *from, struct data_channel *to, bool *moved)
{
    return outbox_move_piece(&from->outbox, &to->outbox, moved);
}

bool data_channel_kept(const struct data_channel *channel, int64_t *sequence,
                       struct data_channel_event *event)
{
    memset(event, 0, sizeof *event);
    event->type = DATA_CHANNEL_EVENT_DATA;
    return inbox_any(&channel->inbox, sequence, &event->payload_type, &event->data, &event->len);
}

void data_channel_drop_kept(struct data_channel *channel, int64_t sequence)
{
    inbox_remove(&channel->inbox, sequence);
}

/* ---- output ---- */

/* When the hold lets resends go; now or earlier when it does not matter. */
static int64_t hold_resend_ms(const struct data_channel *channel)
{
    if (!channel->holding || channel->hold_sent_ms == INT64_MIN)
        return INT64_MIN;
    return channel->hold_sent_ms + DATA_CHANNEL_HOLD_RESEND_MS;
}

/* The stream message to transmit next, the pacer not asked. */
static uint16_t choose(const struct data_channel *channel, int64_t now_ms)
{
    int64_t new_below = INT64_MAX;
    if (data_channel_state(channel) != CONNECTION_UP || channel->paused || now_ms < hold_resend_ms(channel))
        return OUTBOX_NO_SLOT;
    if (channel->holding)
        new_below = channel->hold_sequence + 1;
    else if (peer_is_full(channel))
        new_below = 0;
    uint16_t slot = outbox_choose(&channel->outbox, now_ms, flight_max(channel), new_below);
    if (slot != OUTBOX_NO_SLOT && channel->outbox.messages[slot].state != OUTBOX_UNSENT &&
        data_channel_peer_is_silent(channel, now_ms))
        slot = OUTBOX_NO_SLOT;
    return slot;
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
    prng_fill(&channel->prng, mask, sizeof mask);
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
        outbox_begin(&channel->outbox, slot, unix_ms(channel, now_ms), &channel->prng, &len);
    begin_frame(channel, DATA_CHANNEL_FROM_OUTBOX, frame, len);
}

/* What goes next, in order of urgency. */
static void begin_next(struct data_channel *channel, int64_t now_ms)
{
    size_t len;
    if (channel->shutting_down && channel->ack_count == 0)
        close_connection(channel, now_ms);
    connection_out_buf(&channel->connection, &len);
    if (len > 0)
        begin_frame(channel, DATA_CHANNEL_FROM_CONNECTION, NULL, len);
    else if (channel->connection.state != CONNECTION_UP)
        return;
    else if (channel->ack_count > 0)
        begin_ack(channel, now_ms);
    else
        begin_stream_message(channel, now_ms);
}

const uint8_t *data_channel_out_buf(struct data_channel *channel, int64_t now_ms, size_t *len)
{
    size_t waiting;
    *len = 0;
    if (channel->connection.state == CONNECTION_DOWN)
        return NULL;
    if (channel->frame_left == 0)
        begin_next(channel, now_ms);
    *len = channel->frame_left;
    /* The small frames may have moved since. */
    return channel->source == DATA_CHANNEL_FROM_CONNECTION && *len > 0
               ? connection_out_buf(&channel->connection, &waiting)
               : channel->frame;
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
    if (channel->unanswered_ms == INT64_MAX)
        channel->unanswered_ms = now_ms;
}

void data_channel_out_ack(struct data_channel *channel, int64_t now_ms, size_t len)
{
    enum data_channel_source source = channel->source;
    if (channel->connection.state == CONNECTION_DOWN || len == 0)
        return;
    channel->frame_left -= len;
    if (source == DATA_CHANNEL_FROM_CONNECTION)
        connection_out_ack(&channel->connection, len);
    else
        channel->frame += len;
    if (channel->connection.state == CONNECTION_DOWN)
        take_frames(channel, now_ms); /* that was the answer to the peer's close frame */
    if (channel->frame_left > 0)
        return;
    channel->source = DATA_CHANNEL_FROM_NOTHING;
    if (source == DATA_CHANNEL_FROM_ACK)
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
    /* What the pacer allows already is waiting for the socket. */
    for (int i = PACER_BULK; i <= PACER_INTERACTIVE; i++) {
        if (channel->caller_waits[i] && pacer_allows(&channel->pacer, now_ms, (enum pacer_class) i) == 0)
            earlier(deadline, pacer_next_ms(&channel->pacer, now_ms, (enum pacer_class) i));
    }
}

int64_t data_channel_deadline(struct data_channel *channel, int64_t now_ms)
{
    int64_t deadline = connection_deadline(&channel->connection);
    if (channel->event_waits && !channel->event_shown)
        return now_ms;
    if (channel->shutting_down)
        earlier(&deadline, channel->shut_down_ms);
    if (data_channel_state(channel) != CONNECTION_UP)
        return deadline;
    if (channel->holding)
        earlier(&deadline, channel->hold_until_ms);
    stream_deadline(channel, now_ms, &deadline);
    return deadline;
}

void data_channel_tick(struct data_channel *channel, int64_t now_ms)
{
    channel->caller_waits[PACER_BULK] = channel->caller_waits[PACER_INTERACTIVE] = false;
    if (channel->holding && now_ms >= channel->hold_until_ms)
        channel->holding = false;
    if (channel->shutting_down && now_ms >= channel->shut_down_ms)
        close_connection(channel, now_ms);
    connection_tick(&channel->connection, now_ms, data_channel_wants_input(channel));
    take_frames(channel, now_ms);
    if (data_channel_state(channel) == CONNECTION_UP && !channel->paused)
        outbox_tick(&channel->outbox, now_ms);
}

/* ---- knobs ---- */

void data_channel_set_unix_offset(struct data_channel *channel, int64_t unix_offset_ms)
{
    channel->config.unix_offset_ms = unix_offset_ms;
}

void data_channel_peer_acknowledges_duplicates(struct data_channel *channel)
{
    channel->config.peer_ignores_duplicates = false;
    channel->outbox.peer_ignores_duplicates = false;
}

void data_channel_stats(const struct data_channel *channel, struct data_channel_stats *stats)
{
    *stats = channel->stats;
    stats->sent = channel->outbox.sent;
    stats->resent = channel->outbox.resent;
    stats->acknowledged = channel->outbox.acknowledged;
    stats->given_up = channel->outbox.given_up;
}
