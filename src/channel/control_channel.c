#include "channel/control_channel.h"

#include <string.h>

#include "base/json.h"
#include "base/time.h"

/* ---- small tools ---------------------------------------------------------------------------------------------- */

/* FNV-1a. An id that collides with a remembered one would not be started: 1 in 2^56 with 256 remembered. */
static uint64_t hash_of(struct str text)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (uint8_t) text.ptr[i]) * 1099511628211u;
    return hash;
}

static struct str str_of(const uint8_t *data, size_t len)
{
    return (struct str){(const char *) data, len};
}

void control_channel_init(struct control_channel *c, struct str target_id, const uint8_t seed[PRNG_SEED_SIZE],
                          int64_t unix_offset_ms, int64_t now_ms)
{
    memset(c, 0, offsetof(struct control_channel, in));
    c->target_id = target_id;
    c->unix_offset_ms = unix_offset_ms;
    c->retry_at_ms = now_ms;
    prng_init(&c->generator, seed);
    backoff_start(&c->retry, &BACKOFF_RECONNECT, INT64_MAX);
}

/* ---- output --------------------------------------------------------------------------------------------------- */

/* Room for a payload of `max` bytes behind the headroom that a frame's header needs; null when the buffer is too full. */
static uint8_t *begin_frame(struct control_channel *c, size_t max)
{
    if (c->out_start == c->out_end)
        c->out_start = c->out_end = 0;
    if (sizeof c->out - c->out_end < max + WEBSOCKET_HEADROOM) {
        memmove(c->out, c->out + c->out_start, c->out_end - c->out_start);
        c->out_end -= c->out_start;
        c->out_start = 0;
    }
    if (sizeof c->out - c->out_end < max + WEBSOCKET_HEADROOM)
        return NULL;
    return c->out + c->out_end + WEBSOCKET_HEADROOM;
}

static void end_frame(struct control_channel *c, uint8_t *payload, size_t len, enum websocket_opcode opcode)
{
    uint8_t mask[WEBSOCKET_MASK_SIZE];
    prng_fill(&c->generator, mask, sizeof mask);
    size_t header = websocket_seal(payload, len, opcode, mask);
    memmove(c->out + c->out_end, payload - header, header + len);
    c->out_end += header + len;
}

static bool send_frame(struct control_channel *c, enum websocket_opcode opcode, struct str payload)
{
    uint8_t *room = begin_frame(c, payload.len);
    if (room == NULL)
        return false;
    if (payload.len > 0)
        memcpy(room, payload.ptr, payload.len);
    end_frame(c, room, payload.len, opcode);
    return true;
}

static bool send_message(struct control_channel *c, int64_t now_ms, enum agent_message_type type,
                         const uint8_t id[UUID_SIZE], const uint8_t *payload, size_t len)
{
    uint8_t *room = begin_frame(c, AGENT_MESSAGE_HEADER_SIZE + len);
    if (room == NULL)
        return false;
    struct agent_message message = {.type = type,
                                    .created_unix_ms = (uint64_t) (now_ms + c->unix_offset_ms),
                                    .payload = room + AGENT_MESSAGE_HEADER_SIZE,
                                    .payload_len = len};
    memcpy(message.id, id, UUID_SIZE);
    memcpy(room + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    agent_message_write_header(room, &message);
    end_frame(c, room, AGENT_MESSAGE_HEADER_SIZE + len, WEBSOCKET_BINARY);
    return true;
}

static void make_id(struct control_channel *c, uint8_t id[UUID_SIZE])
{
    uint8_t random[UUID_SIZE];
    prng_fill(&c->generator, random, sizeof random);
    uuid_v4(id, random);
}

/* ---- lifecycle ------------------------------------------------------------------------------------------------ */

void control_channel_fetched(struct control_channel *c)
{
    if (c->state != CONTROL_CHANNEL_FETCHING)
        return;
    c->state = CONTROL_CHANNEL_CONNECTING;
    c->asked = false;
}

void control_channel_connected(struct control_channel *c, int64_t now_ms, struct str first_text)
{
    if (c->state != CONTROL_CHANNEL_CONNECTING)
        return;
    c->state = CONTROL_CHANNEL_OPEN;
    c->opened_ms = c->heard_ms = now_ms;
    c->ping_ms = now_ms + CONTROL_CHANNEL_PING_MS;
    c->why[0] = '\0';
    c->out_start = c->out_end = 0;
    websocket_decoder_init(&c->decoder, WEBSOCKET_CLIENT, c->in, sizeof c->in);
    send_frame(c, WEBSOCKET_TEXT, first_text);
    /* What was sent on the last connection and not acknowledged may not have arrived: it has all its tries again. */
    for (size_t i = 0; i < c->report_count; i++) {
        if (c->reports[i].tries > 0)
            c->reports[i].due_ms = now_ms;
        c->reports[i].tries = 0;
    }
}

void control_channel_failed(struct control_channel *c, int64_t now_ms, enum error_code code, const char *why,
                            uint32_t random)
{
    if (c->state == CONTROL_CHANNEL_WAITING)
        return;
    if (c->state == CONTROL_CHANNEL_OPEN && now_ms - c->opened_ms >= CONTROL_CHANNEL_STEADY_MS)
        backoff_succeed(&c->retry);
    if (why != c->why) /* it is when a DROP is answered with its own text */
        str_copy(str_limit_utf8(str_from(why), sizeof c->why - 1), c->why, sizeof c->why);
    backoff_next(&c->retry, code, now_ms, random, &c->retry_at_ms);
    bytes_wipe(c->out, c->out_end); /* the first frame holds a token */
    c->out_start = c->out_end = 0;
    c->state = CONTROL_CHANNEL_WAITING;
    c->asked = false;
    c->drop_due = false;
}

/* The connection has to go; the caller answers CONTROL_CHANNEL_DROP with control_channel_failed. */
static void drop(struct control_channel *c, const char *why)
{
    str_copy(str_limit_utf8(str_from(why), sizeof c->why - 1), c->why, sizeof c->why);
    c->drop_due = true;
}

/* ---- sessions known ------------------------------------------------------------------------------------------- */

static bool remember(struct control_channel *c, uint64_t hash)
{
    for (size_t i = 0; i < CONTROL_CHANNEL_REMEMBERED; i++)
        if (c->remembered[i] == hash)
            return false;
    c->remembered[c->remembered_next] = hash;
    c->remembered_next = (c->remembered_next + 1) % CONTROL_CHANNEL_REMEMBERED;
    return true;
}

/* ---- reports -------------------------------------------------------------------------------------------------- */

static void remove_report(struct control_channel *c, size_t index)
{
    c->report_count--;
    memmove(&c->reports[index], &c->reports[index + 1], (c->report_count - index) * sizeof c->reports[0]);
}

static void lose_report(struct control_channel *c, size_t index)
{
    c->lost_report = true;
    memcpy(c->lost_id, c->reports[index].session_id, sizeof c->lost_id);
    remove_report(c, index);
}

void control_channel_report(struct control_channel *c, int64_t due_ms, struct str session_id, bool failed,
                            struct str reason)
{
    if (c->report_count == CONTROL_CHANNEL_REPORTS)
        lose_report(c, 0);
    struct control_channel_report *report = &c->reports[c->report_count];
    memset(report, 0, sizeof *report);
    if (!str_copy(session_id, report->session_id, sizeof report->session_id))
        return; /* longer than any that the service makes: there is nothing to name it by */
    str_copy(str_limit_utf8(reason, sizeof report->reason - 1), report->reason, sizeof report->reason);
    report->failed = failed;
    report->due_ms = due_ms;
    make_id(c, report->message_id);
    c->report_count++;
    remember(c, hash_of(session_id));
}

bool control_channel_reports_pending(const struct control_channel *c)
{
    return c->report_count > 0;
}

static bool send_report(struct control_channel *c, int64_t now_ms, struct control_channel_report *report)
{
    static uint8_t payload[SSMMESSAGES_PAYLOAD_SIZE];
    struct writer out = writer_of(payload, sizeof payload);
    struct ssmmessages_task_complete complete = {.session_id = str_from(report->session_id),
                                                 .target_id = c->target_id,
                                                 .success = !report->failed,
                                                 .output = str_from(report->reason),
                                                 .retry_number = report->tries};
    ssmmessages_write_task_complete(&out, &complete);
    if (out.failed ||
        !send_message(c, now_ms, AGENT_MESSAGE_AGENT_TASK_COMPLETE, report->message_id, out.start, out.len))
        return false;
    report->tries++;
    report->due_ms = now_ms + CONTROL_CHANNEL_REPORT_MS;
    return true;
}

static void send_due_reports(struct control_channel *c, int64_t now_ms)
{
    for (size_t i = 0; i < c->report_count;) {
        struct control_channel_report *report = &c->reports[i];
        if (now_ms < report->due_ms) {
            i++;
        } else if (report->tries == CONTROL_CHANNEL_REPORT_TRIES) {
            if (c->lost_report) /* one at a time */
                return;
            lose_report(c, i);
        } else if (send_report(c, now_ms, report)) {
            i++;
        } else {
            return; /* the buffer is full: the next out_buf goes on */
        }
    }
}

/* ---- input ---------------------------------------------------------------------------------------------------- */

static bool tell_type(struct control_channel *c, struct str type)
{
    uint64_t hash = hash_of(type);
    for (size_t i = 0; i < c->types_told_count; i++)
        if (c->types_told[i] == hash)
            return false;
    if (c->types_told_count == CONTROL_CHANNEL_TYPES_TOLD)
        return false;
    c->types_told[c->types_told_count++] = hash;
    return true;
}

/* A string member of the message's JSON payload, in static memory; empty when there is none. */
static struct str member_of(const struct agent_message *message, const char *name)
{
    static char value[SSMMESSAGES_SESSION_ID_SIZE * 2];
    struct json_token tokens[128];
    struct json doc;
    struct str view = {NULL, 0};
    if (json_parse(&doc, str_of(message->payload, message->payload_len), tokens,
                   sizeof tokens / sizeof tokens[0], NULL) == 0 &&
        !json_string(&doc, json_member(&doc, json_root(&doc), name), value, sizeof value, &view))
        view = (struct str){NULL, 0};
    return view;
}

static void take_acknowledgement(struct control_channel *c, const struct agent_message *message)
{
    uint8_t id[UUID_SIZE];
    if (!uuid_parse(member_of(message, "MessageId"), id))
        return;
    for (size_t i = 0; i < c->report_count; i++) {
        if (memcmp(c->reports[i].message_id, id, sizeof id) == 0) {
            remove_report(c, i);
            return;
        }
    }
}

/* As AWS's agent answers in a container (amazon-ssm-agent, mgsinteractor: ContainerNotSupported). */
static void refuse_job(struct control_channel *c, int64_t now_ms, const struct agent_message *message)
{
    char payload[1024];
    char text[UUID_TEXT_SIZE];
    char date_memory[32];
    uint8_t id[UUID_SIZE];
    struct writer out = writer_of(payload, sizeof payload);
    struct writer date = writer_of(date_memory, sizeof date_memory);
    struct json_writer j = json_writer_of(&out);
    uuid_format(message->id, text);
    writer_rfc3339_ms(&date, (int64_t) (message->created_unix_ms & INT64_MAX));
    json_begin_object(&j);
    json_member_string(&j, "jobId", member_of(message, "JobId"));
    json_member_text(&j, "acknowledgedMessageId", text);
    json_member_string(&j, "createdDate", writer_view(&date));
    json_member_text(&j, "statusCode", "51407");
    json_member_text(&j, "errorMessage", "ContainerNotSupported");
    json_end_object(&j);
    make_id(c, id);
    if (!out.failed)
        send_message(c, now_ms, AGENT_MESSAGE_AGENT_JOB_ACK, id, out.start, out.len);
}

static void take_start(struct control_channel *c, const struct agent_message *message,
                       struct control_channel_event *event)
{
    /* The id inside the document names the session; the task id outside is the same string and easier to reach. */
    struct str id = member_of(message, "TaskId");
    uint64_t hash = id.len > 0 ? hash_of(id) : hash_of(str_of(message->id, UUID_SIZE));
    if (!remember(c, hash))
        return;
    event->type = CONTROL_CHANNEL_START;
    event->text = str_of(message->payload, message->payload_len);
}

static void take_message(struct control_channel *c, int64_t now_ms, const struct websocket_event *frame,
                         struct control_channel_event *event)
{
    struct agent_message message;
    if (!frame->binary || agent_message_parse(&message, frame->data, frame->len, NULL) < 0) {
        if (tell_type(c, STR_LITERAL("malformed"))) {
            event->type = CONTROL_CHANNEL_UNKNOWN;
            event->text = STR_LITERAL("a message that can't be parsed");
        }
        return;
    }
    switch (message.type) {
    case AGENT_MESSAGE_CONTROL_CHANNEL_READY:
        event->type = CONTROL_CHANNEL_READY;
        break;
    case AGENT_MESSAGE_INTERACTIVE_SHELL:
        take_start(c, &message, event);
        break;
    case AGENT_MESSAGE_CHANNEL_CLOSED:
        event->text = member_of(&message, "SessionId");
        event->type = event->text.len > 0 ? CONTROL_CHANNEL_TERMINATE : CONTROL_CHANNEL_NOTHING;
        break;
    case AGENT_MESSAGE_AGENT_TASK_ACKNOWLEDGE:
        take_acknowledgement(c, &message);
        break;
    case AGENT_MESSAGE_AGENT_JOB:
        refuse_job(c, now_ms, &message);
        event->type = CONTROL_CHANNEL_REFUSED_JOB;
        break;
    case AGENT_MESSAGE_AGENT_JOB_REPLY_ACK:
        break;
    default:
        if (tell_type(c, message.type_text)) {
            event->type = CONTROL_CHANNEL_UNKNOWN;
            event->text = message.type_text;
        }
        break;
    }
}

static void take_close(struct control_channel *c, const struct websocket_event *frame)
{
    char text[CONTROL_CHANNEL_REASON_SIZE];
    struct writer out = writer_of(text, sizeof text);
    writer_format(&out, "the service closed the websocket: %u %.*s", frame->code, (int) frame->len,
                  (const char *) frame->data);
    drop(c, writer_terminate(&out));
}

/* One frame. False when no whole one is there. */
static bool take_frame(struct control_channel *c, int64_t now_ms, struct control_channel_event *event)
{
    struct websocket_event frame;
    struct error err = ERROR_INIT;
    if (websocket_next(&c->decoder, &frame, &err) < 0) {
        drop(c, err.text);
        return false;
    }
    switch (frame.type) {
    case WEBSOCKET_EVENT_MESSAGE:
        take_message(c, now_ms, &frame, event);
        return true;
    case WEBSOCKET_EVENT_PING:
        send_frame(c, WEBSOCKET_PONG, str_of(frame.data, frame.len));
        return true;
    case WEBSOCKET_EVENT_PONG:
        return true;
    case WEBSOCKET_EVENT_CLOSE:
        take_close(c, &frame);
        return false;
    case WEBSOCKET_EVENT_NONE:
        break;
    }
    return false;
}

uint8_t *control_channel_in_buf(struct control_channel *c, size_t *room)
{
    return websocket_in_buf(&c->decoder, room);
}

void control_channel_in_ack(struct control_channel *c, int64_t now_ms, size_t len)
{
    websocket_in_ack(&c->decoder, len);
    c->heard_ms = now_ms;
}

const uint8_t *control_channel_out_buf(struct control_channel *c, int64_t now_ms, size_t *len)
{
    if (c->state == CONTROL_CHANNEL_OPEN)
        send_due_reports(c, now_ms);
    *len = c->out_end - c->out_start;
    return c->out + c->out_start;
}

void control_channel_out_ack(struct control_channel *c, size_t len)
{
    bytes_wipe(c->out + c->out_start, len);
    c->out_start += len;
}

/* ---- events and time ------------------------------------------------------------------------------------------ */

void control_channel_next(struct control_channel *c, int64_t now_ms, struct control_channel_event *event)
{
    *event = (struct control_channel_event){.type = CONTROL_CHANNEL_NOTHING};
    if (c->lost_report) {
        c->lost_report = false;
        event->type = CONTROL_CHANNEL_REPORT_LOST;
        event->text = str_from(c->lost_id);
        return;
    }
    if (c->state == CONTROL_CHANNEL_OPEN) {
        while (event->type == CONTROL_CHANNEL_NOTHING && !c->drop_due && take_frame(c, now_ms, event))
            continue;
        if (event->type == CONTROL_CHANNEL_NOTHING && c->drop_due) {
            event->type = CONTROL_CHANNEL_DROP;
            event->text = str_from(c->why);
        }
        return;
    }
    if (c->asked || c->state == CONTROL_CHANNEL_WAITING)
        return;
    c->asked = true;
    event->type = c->state == CONTROL_CHANNEL_FETCHING ? CONTROL_CHANNEL_FETCH : CONTROL_CHANNEL_CONNECT;
}

void control_channel_tick(struct control_channel *c, int64_t now_ms)
{
    if (c->state == CONTROL_CHANNEL_WAITING && now_ms >= c->retry_at_ms) {
        c->state = CONTROL_CHANNEL_FETCHING;
        c->asked = false;
    }
    if (c->state != CONTROL_CHANNEL_OPEN)
        return;
    if (now_ms >= c->ping_ms) {
        send_frame(c, WEBSOCKET_PING, STR_LITERAL("keepalive"));
        c->ping_ms = now_ms + CONTROL_CHANNEL_PING_MS;
    }
    if (now_ms - c->heard_ms >= CONTROL_CHANNEL_PING_MS + CONTROL_CHANNEL_SILENCE_MS)
        drop(c, "the service has been silent for 114 s");
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t control_channel_deadline(const struct control_channel *c)
{
    if (c->lost_report || c->drop_due)
        return INT64_MIN; /* control_channel_next has something to tell */
    if (c->state == CONTROL_CHANNEL_WAITING)
        return c->retry_at_ms;
    if (c->state != CONTROL_CHANNEL_OPEN)
        return INT64_MAX;
    int64_t at_ms = earlier(c->ping_ms, c->heard_ms + CONTROL_CHANNEL_PING_MS + CONTROL_CHANNEL_SILENCE_MS);
    for (size_t i = 0; i < c->report_count; i++)
        at_ms = earlier(at_ms, c->reports[i].due_ms);
    return at_ms;
}
