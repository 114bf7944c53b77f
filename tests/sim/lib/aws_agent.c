#include "sim/lib/aws_agent.h"

#include <string.h>

#include "base/bytes.h"
#include "base/num.h"

enum { MESSAGE_MAX = 1024, NONE = 0xffff };

/* ---- targets ---- */

static uint16_t find(const struct aws_agent *a, uint32_t id)
{
    for (size_t i = 0; i < a->stream_count; i++)
        if (a->streams[i].id == id && !a->streams[i].is_over)
            return (uint16_t) i;
    return NONE;
}

static void dial(struct aws_agent *a, uint32_t id, int64_t now_ms)
{
    struct play *p = NULL;
    for (size_t i = 0; i < a->play_count; i++)
        if (a->plays[i].id == id && a->plays[i].syn_sent)
            p = &a->plays[i];
    if (p == NULL || p->target != TARGET_NONE ||
        a->stream_count == sizeof a->streams / sizeof a->streams[0]) {
        a->fault = "the agent was asked for a stream that nobody opened";
        return;
    }
    p->target = TARGET_DIALLING;
    p->due_ms = now_ms + p->dial_ms;
    a->streams[a->stream_count++] = (struct aws_agent_stream){.id = id, .play = p};
}

static void end_dial(struct aws_agent_stream *s, int64_t now_ms)
{
    struct play *p = s->play;
    p->target = p->kind == PLAY_REFUSE ? TARGET_CLOSED : TARGET_OPEN;
    p->ever_open = p->target == TARGET_OPEN;
    p->took_ms = now_ms;
    s->flag_due = s->fin_due = p->kind == PLAY_REFUSE;
}

/* Both ends answer the end of either direction by closing the stream whole. */
static void close_whole(struct aws_agent_stream *s, int64_t now_ms)
{
    s->play->heard_end = true;
    if (s->play->target == TARGET_DIALLING) /* its dial has blocked the reader until it was over */
        end_dial(s, now_ms);
    s->fin_due = true;
}

static void step_targets(struct aws_agent *a, int64_t now_ms)
{
    for (size_t i = 0; i < a->stream_count; i++) {
        struct aws_agent_stream *s = &a->streams[i];
        if (s->play->target == TARGET_DIALLING && now_ms >= s->play->due_ms)
            end_dial(s, now_ms);
    }
}

/* ---- what it hears ---- */

static void hear_data(struct aws_agent *a, int64_t now_ms, const uint8_t *data, size_t len)
{
    struct play *p = a->decoding == NONE ? NULL : a->streams[a->decoding].play;
    if (p == NULL || p->heard_end || p->target == TARGET_CLOSED)
        return;
    /* Its dial blocks its reader; here the bytes wait in the play. */
    if (p->target == TARGET_DIALLING) {
        end_dial(&a->streams[a->decoding], now_ms);
        if (p->target == TARGET_CLOSED)
            return;
    }
    if (p->kind == PLAY_SLOW) /* it blocks until the target has taken them */
        p->took_ms = now_ms - (int64_t) len;
    while (len > 0) {
        size_t n = play_take(p, now_ms, data, len, &a->dice);
        if (n == 0 && p->kind == PLAY_NEVER)
            return;
        if (n == 0)
            p->took_ms = now_ms - (int64_t) len;
        data += n;
        len -= n;
    }
}

static void hear_smux(struct aws_agent *a, int64_t now_ms, const uint8_t *data, size_t len)
{
    struct smux_event event;
    size_t used;
    for (; len > 0; data += used, len -= used) {
        if (smux_decoder_next(&a->decoder, data, len, &used, &event, NULL) != 0) {
            a->fault = "the agent lost the framing";
            return;
        }
        if (event.type == SMUX_EVENT_DATA)
            hear_data(a, now_ms, event.data, event.data_len);
        if (event.type != SMUX_EVENT_FRAME)
            continue;
        a->decoding = find(a, event.stream);
        if (event.command == SMUX_SYN)
            dial(a, event.stream, now_ms);
        else if (event.command == SMUX_FIN && a->decoding != NONE)
            close_whole(&a->streams[a->decoding], now_ms);
    }
}

static void hear(void *context, int64_t now_ms, uint32_t payload_type, const uint8_t *payload, size_t len)
{
    struct aws_agent *a = context;
    struct reader in = reader_of(payload, len);
    switch (payload_type) {
    case PAYLOAD_HANDSHAKE_RESPONSE:
        a->complete_due = true;
        break;
    case PAYLOAD_OUTPUT:
        if (!a->is_open)
            a->fault = "the client sent data before the handshake was complete";
        hear_smux(a, now_ms, payload, len);
        break;
    case PAYLOAD_FLAG:
        a->terminated |= reader_u32be(&in) == PAYLOAD_FLAG_TERMINATE_SESSION;
        break;
    default:
        a->fault = "a payload that no client sends";
        break;
    }
}

/* ---- what it says ---- */

static void put(struct aws_agent *a, enum smux_command command, uint32_t id, size_t len)
{
    smux_write_header(a->out, command, id, (uint16_t) len);
    a->out_start = 0;
    a->out_end = SMUX_HEADER_SIZE + len;
}

static size_t give_connect_error(uint8_t *payload, uint32_t *payload_type)
{
    struct writer w = writer_of(payload, 4);
    writer_u32be(&w, PAYLOAD_FLAG_CONNECT_TO_PORT_ERROR);
    *payload_type = PAYLOAD_FLAG;
    return w.len;
}

/* One frame of one stream. A flag's length when there is a flag to send instead. */
static size_t say_for(struct aws_agent *a, struct aws_agent_stream *s, uint8_t *payload,
                      uint32_t *payload_type)
{
    struct play *p = s->play;
    if (s->is_over)
        return 0;
    if (s->flag_due) {
        s->flag_due = false;
        return give_connect_error(payload, payload_type);
    }
    size_t n = p->target == TARGET_OPEN && !s->fin_due ? play_available(p) : 0;
    if (n > 0) {
        n = num_min_size(n, dice_between(&a->dice, 1, 16384));
        play_give(p, a->out + SMUX_HEADER_SIZE, n);
        put(a, SMUX_PSH, s->id, n);
    } else if (s->fin_due || play_target_ended(p) || play_target_breaks(p)) {
        put(a, SMUX_FIN, s->id, 0);
        s->is_over = true;
        p->target = TARGET_CLOSED;
        p->heard_end = true;
    }
    return 0;
}

static size_t give(void *context, int64_t now_ms, uint8_t *payload, uint32_t *payload_type)
{
    struct aws_agent *a = context;
    struct writer w = writer_of(payload, MESSAGE_MAX);
    (void) now_ms;
    if (a->request_due) {
        a->request_due = false;
        *payload_type = PAYLOAD_HANDSHAKE_REQUEST;
        writer_format(&w,
                      "{\"AgentVersion\":\"%s\",\"RequestedClientActions\":[{\"ActionType\":\"SessionType\","
                      "\"ActionParameters\":{\"SessionType\":\"Port\",\"Properties\":{\"portNumber\":\"80\","
                      "\"type\":\"LocalPortForwarding\"}}}]}",
                      a->is_old ? "2.3.672.0" : "3.3.987.0");
        return w.len;
    }
    if (a->complete_due) {
        a->complete_due = false;
        a->is_open = true;
        *payload_type = PAYLOAD_HANDSHAKE_COMPLETE;
        writer_text(&w, "{\"HandshakeTimeToComplete\":1000,\"CustomerMessage\":\"\"}");
        return w.len;
    }
    for (size_t i = 0; i < a->stream_count && a->out_start == a->out_end && a->is_open; i++) {
        a->turn = (a->turn + 1) % a->stream_count;
        size_t n = say_for(a, &a->streams[a->turn], payload, payload_type);
        if (n > 0)
            return n;
    }
    size_t n = num_min_size(a->out_end - a->out_start, MESSAGE_MAX);
    memcpy(payload, a->out + a->out_start, n);
    a->out_start += n;
    *payload_type = PAYLOAD_OUTPUT;
    return n;
}

/* ---- the surface ---- */

void aws_agent_init(struct aws_agent *a, struct play *plays, size_t play_count, bool is_old, uint32_t away_ms,
                    uint64_t seed)
{
    memset(a, 0, sizeof *a);
    a->plays = plays;
    a->play_count = play_count;
    a->is_old = is_old;
    a->away_ms = away_ms;
    a->dice.state = seed;
    a->request_due = true;
    a->decoding = NONE;
    smux_decoder_init(&a->decoder, false);
    aws_client_init(&a->channel, 0, 0, 0);
    a->channel.side = GATEWAY_AGENT;
    a->channel.app = (struct aws_client_app){.give = give, .take = hear, .context = a};
}

void aws_agent_end(struct aws_agent *a)
{
    aws_client_end(&a->channel);
}

void aws_agent_step(struct aws_agent *a, struct gateway *g, int64_t now_ms)
{
    if (gateway_ends(g, GATEWAY_AGENT, now_ms) != 0)
        a->reconnect_ms = now_ms + dice_between(&a->dice, 0, a->away_ms);
    if (!g->sides[GATEWAY_AGENT].connected && now_ms >= a->reconnect_ms)
        gateway_connect(g, GATEWAY_AGENT, now_ms);
    step_targets(a, now_ms);
    aws_client_step(&a->channel, g, now_ms);
    if (a->channel.corrupted)
        a->fault = "AWS's agent got a message that it can't read";
    if (a->channel.lost_data)
        a->fault = "AWS's agent lost data because we refused it for too long";
}

int64_t aws_agent_due_ms(struct aws_agent *a, const struct gateway *g, int64_t now_ms)
{
    bool wants = a->request_due || a->complete_due || a->out_start < a->out_end;
    int64_t due_ms = g->sides[GATEWAY_AGENT].connected ? gateway_due_ms(g, GATEWAY_AGENT) : a->reconnect_ms;
    for (size_t i = 0; i < a->stream_count; i++) {
        const struct aws_agent_stream *s = &a->streams[i];
        if (s->play->target == TARGET_DIALLING)
            due_ms = num_min_i64(due_ms, s->play->due_ms);
        wants |= !s->is_over && (s->fin_due || s->flag_due || play_available(s->play) > 0 ||
                                 play_target_ended(s->play) || play_target_breaks(s->play));
    }
    if (wants)
        due_ms = num_min_i64(due_ms, num_max_i64(now_ms, a->channel.next_send_ms));
    return num_min_i64(due_ms, a->channel.unacknowledged != NULL ? a->channel.next_resend_ms : INT64_MAX);
}
