#include "channel/control_channel.h"

#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "base/utf8.h"

/* ---- small tools --------------------------------------------------------------------------------------- */

static struct str str_of(const uint8_t *data, size_t len)
{
    return (struct str){(const char *) data, len};
}

void control_channel_init(struct control_channel *c, struct str target_id, const uint8_t seed[PRNG_SEED_SIZE])
{
    memset(c, 0, offsetof(struct control_channel, reports));
    c->target_id = target_id;
    prng_init(&c->generator, seed);
    connection_init(&c->connection, &(struct connection_config){.ping_interval_ms = CONTROL_CHANNEL_PING_MS,
                                                                .prng = &c->generator,
                                                                .in = c->in,
                                                                .in_size = sizeof c->in,
                                                                .out = c->out,
                                                                .out_size = sizeof c->out});
}

/* ---- output -------------------------------------------------------------------------------------------- */

static bool send_message(struct control_channel *c, int64_t now_ms, enum agent_message_type type,
                         const uint8_t id[UUID_SIZE], const uint8_t *payload, size_t len)
{
    uint8_t *room = connection_send_buf(&c->connection, AGENT_MESSAGE_HEADER_SIZE + len);
    if (room == NULL)
        return false;
    struct agent_message message = {.type = type,
                                    .created_unix_ms = (uint64_t) (now_ms + c->unix_offset_ms),
                                    .payload = room + AGENT_MESSAGE_HEADER_SIZE,
                                    .payload_len = len};
    memcpy(message.id, id, UUID_SIZE);
    memcpy(room + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    agent_message_write_header(room, &message);
    connection_send_ack(&c->connection, room, AGENT_MESSAGE_HEADER_SIZE + len, WEBSOCKET_BINARY);
    return true;
}

static void make_id(struct control_channel *c, uint8_t id[UUID_SIZE])
{
    uint8_t random[UUID_SIZE];
    prng_fill(&c->generator, random, sizeof random);
    uuid_v4(id, random);
}

/* ---- connections --------------------------------------------------------------------------------------- */

bool control_channel_is_up(const struct control_channel *c)
{
    return c->connection.state == CONNECTION_UP;
}

int control_channel_connected(struct control_channel *c, int64_t now_ms, struct str first_text,
                              struct error *err)
{
    int result = connection_open(&c->connection, now_ms, first_text, err);
    if (result < 0)
        return result;
    c->output_is_full = false;
    /* What was sent on the last connection and not acknowledged may not have arrived: it has all its tries
     * again. */
    for (size_t i = 0; i < c->report_count; i++) {
        if (c->reports[i].tries > 0)
            c->reports[i].due_ms = now_ms;
        c->reports[i].tries = 0;
    }
    return 0;
}

void control_channel_disconnected(struct control_channel *c, int64_t now_ms, const char *why)
{
    connection_lost(&c->connection, now_ms, why);
}

int64_t control_channel_take_learned_ms(struct control_channel *c)
{
    return connection_take_learned_ms(&c->connection);
}

/* ---- sessions known ------------------------------------------------------------------------------------ */

static bool remember(struct control_channel *c, uint64_t hash)
{
    for (size_t i = 0; i < CONTROL_CHANNEL_REMEMBERED; i++)
        if (c->remembered[i] == hash)
            return false;
    c->remembered[c->remembered_next] = hash;
    c->remembered_next = (c->remembered_next + 1) % CONTROL_CHANNEL_REMEMBERED;
    return true;
}

/* ---- reports ------------------------------------------------------------------------------------------- */

static void remove_report(struct control_channel *c, size_t index)
{
    c->refusal_count -= c->reports[index].result == CONTROL_CHANNEL_REFUSED;
    c->report_count--;
    if (index != c->report_count)
        c->reports[index] = c->reports[c->report_count];
}

static void lose_report(struct control_channel *c, struct str session_id)
{
    if (c->lost_reports++ == 0)
        str_copy(session_id, c->lost_id, sizeof c->lost_id);
}

static bool has_place(const struct control_channel *c, enum control_channel_result result)
{
    if (result == CONTROL_CHANNEL_REFUSED)
        return c->refusal_count < CONTROL_CHANNEL_REFUSALS;
    return c->report_count - c->refusal_count < CONTROL_CHANNEL_REPORTS;
}

void control_channel_report(struct control_channel *c, int64_t due_ms, struct str session_id,
                            enum control_channel_result result, struct str reason)
{
    struct control_channel_report *report = &c->reports[c->report_count];
    /* An id that collides with a remembered one would not be started: 1 in 2^52 with those remembered. */
    remember(c, str_hash(session_id));
    if (session_id.len >= sizeof report->session_id)
        return; /* longer than any that the service makes: there is nothing to name it by */
    if (!has_place(c, result)) {
        lose_report(c, session_id);
        return;
    }
    memset(report, 0, sizeof *report);
    str_copy(session_id, report->session_id, sizeof report->session_id);
    str_copy(utf8_limit(reason, sizeof report->reason - 1), report->reason, sizeof report->reason);
    report->result = result;
    report->due_ms = due_ms;
    make_id(c, report->message_id);
    c->report_count++;
    c->refusal_count += result == CONTROL_CHANNEL_REFUSED;
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
                                                 .success = report->result == CONTROL_CHANNEL_SUCCEEDED,
                                                 .output = str_from(report->reason),
                                                 .retry_number = report->tries + 1U};
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
    c->output_is_full = false;
    for (size_t i = 0; i < c->report_count;) {
        struct control_channel_report *report = &c->reports[i];
        if (now_ms < report->due_ms) {
            i++;
        } else if (report->tries == CONTROL_CHANNEL_REPORT_TRIES) {
            lose_report(c, str_from(report->session_id));
            remove_report(c, i);
        } else if (send_report(c, now_ms, report)) {
            i++;
        } else {
            c->output_is_full = true;
            return;
        }
    }
}

/* ---- input --------------------------------------------------------------------------------------------- */

static bool tell_type(struct control_channel *c, struct str type)
{
    uint64_t hash = str_hash(type);
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
    /* The id inside the document names the session; the task id outside is the same string and easier to
     * reach. */
    struct str id = member_of(message, "TaskId");
    uint64_t hash = id.len > 0 ? str_hash(id) : str_hash(str_of(message->id, UUID_SIZE));
    if (!remember(c, hash))
        return;
    event->type = CONTROL_CHANNEL_START;
    event->text = str_of(message->payload, message->payload_len);
}

static void take_message(struct control_channel *c, int64_t now_ms, const struct connection_event *frame,
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

uint8_t *control_channel_in_buf(struct control_channel *c, size_t *room)
{
    return connection_in_buf(&c->connection, room);
}

void control_channel_in_ack(struct control_channel *c, int64_t now_ms, size_t len)
{
    connection_in_ack(&c->connection, now_ms, len);
}

const uint8_t *control_channel_out_buf(struct control_channel *c, int64_t now_ms, size_t *len)
{
    if (control_channel_is_up(c))
        send_due_reports(c, now_ms);
    return connection_out_buf(&c->connection, len);
}

void control_channel_out_ack(struct control_channel *c, size_t len)
{
    connection_out_ack(&c->connection, len);
}

/* ---- events and time ----------------------------------------------------------------------------------- */

void control_channel_next(struct control_channel *c, int64_t now_ms, struct control_channel_event *event)
{
    struct connection_event frame;
    *event = (struct control_channel_event){.type = CONTROL_CHANNEL_NOTHING};
    if (c->lost_reports > 0) {
        *event = (struct control_channel_event){
            .type = CONTROL_CHANNEL_REPORT_LOST, .text = str_from(c->lost_id), .count = c->lost_reports};
        c->lost_reports = 0;
        return;
    }
    while (event->type == CONTROL_CHANNEL_NOTHING) {
        connection_next(&c->connection, now_ms, &frame);
        if (frame.type == CONNECTION_NOTHING)
            return;
        if (frame.type == CONNECTION_MESSAGE)
            take_message(c, now_ms, &frame, event);
        else
            *event =
                (struct control_channel_event){.type = CONTROL_CHANNEL_LOST, .text = str_from(frame.text)};
    }
}

void control_channel_tick(struct control_channel *c, int64_t now_ms, int64_t unix_ms)
{
    c->unix_offset_ms = unix_ms - now_ms;
    connection_tick(&c->connection, now_ms, true);
}

int64_t control_channel_deadline(const struct control_channel *c)
{
    int64_t at_ms = connection_deadline(&c->connection);
    if (c->lost_reports > 0)
        return INT64_MIN; /* control_channel_next has something to tell */
    if (!control_channel_is_up(c) || c->output_is_full)
        return at_ms;
    for (size_t i = 0; i < c->report_count; i++)
        at_ms = c->reports[i].due_ms < at_ms ? c->reports[i].due_ms : at_ms;
    return at_ms;
}
