#include "sim/lib/aws_user.h"

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/json.h"

enum { MESSAGE_MAX = 1024, LET_ME_THINK_MS = 100 };

/* ---- what it hears ---- */

static struct play *find_play(struct aws_user *c, uint32_t id)
{
    for (size_t i = 0; i < c->play_count; i++)
        if (c->plays[i].id == id && c->plays[i].syn_sent)
            return &c->plays[i];
    c->fault = "a frame for a stream that was never opened";
    return NULL;
}

static void hear_fin(struct aws_user *c, uint32_t id)
{
    struct play *p = find_play(c, id);
    if (p == NULL)
        return;
    if (p->fin_received)
        c->fault = "FIN twice";
    p->fin_received = true;
}

static void hear_smux(struct aws_user *c, int64_t now_ms, const uint8_t *data, size_t len)
{
    struct smux_event event;
    size_t used;
    for (; len > 0; data += used, len -= used) {
        if (smux_decoder_next(&c->decoder, data, len, &used, &event, NULL) != 0) {
            c->fault = "the client lost the framing";
            return;
        }
        if (event.type == SMUX_EVENT_DATA) {
            struct play *p = find_play(c, event.stream);
            if (p != NULL)
                play_client_hear(p, now_ms, event.data, event.data_len);
        } else if (event.type == SMUX_EVENT_FRAME && event.command == SMUX_FIN) {
            hear_fin(c, event.stream);
        } else if (event.type == SMUX_EVENT_FRAME && event.command == SMUX_SYN) {
            c->fault = "an agent has no business with SYN"; /* a NOP may be an ack probe */
        }
    }
}

static void hear_complete(struct aws_user *c, int64_t now_ms, const uint8_t *payload, size_t len)
{
    struct json_token tokens[16];
    struct json doc;
    if (json_parse(&doc, (struct str){(const char *) payload, len}, tokens, 16, NULL) != 0 ||
        !json_string(&doc, json_member(&doc, json_root(&doc), "CustomerMessage"), c->banner, sizeof c->banner,
                     NULL))
        c->fault = "HandshakeComplete is malformed";
    if (!c->asked || c->complete)
        c->fault = "HandshakeComplete before its time, or twice";
    c->complete = true;
    c->complete_ms = now_ms;
    c->speak_ms = now_ms + dice_between(&c->dice, 5, LET_ME_THINK_MS);
    /* On a busy machine the multiplexer may start as late as that. */
    c->aws.deaf_until_ms = c->options.mode == AWS_USER_MULTIPLEXED ? c->speak_ms : now_ms + 1;
}

static void hear(void *context, int64_t now_ms, uint32_t payload_type, const uint8_t *payload, size_t len)
{
    struct aws_user *c = context;
    if (c->options.strict_silence && c->complete && c->complete_ms == now_ms)
        c->fault = "pitfall 3: a message right after HandshakeComplete";
    switch (payload_type) {
    case PAYLOAD_HANDSHAKE_REQUEST:
        c->asked = c->response_due = true;
        break;
    case PAYLOAD_HANDSHAKE_COMPLETE:
        hear_complete(c, now_ms, payload, len);
        break;
    case PAYLOAD_OUTPUT:
        if (!c->complete)
            c->fault = "data before HandshakeComplete";
        if (c->options.mode == AWS_USER_MULTIPLEXED)
            hear_smux(c, now_ms, payload, len);
        else if (c->play_now < c->play_count)
            play_client_hear(&c->plays[c->play_now], now_ms, payload, len);
        else
            c->fault = "data for a connection that is closed";
        break;
    case PAYLOAD_FLAG:
        c->flags_received++;
        if (c->options.mode == AWS_USER_BASIC && c->play_now < c->play_count)
            c->plays[c->play_now].fin_received = true;
        break;
    default:
        c->fault = "a payload that no agent sends";
        break;
    }
}

/* ---- what it says ---- */

static bool others_done(const struct aws_user *c)
{
    for (size_t i = 0; i < c->play_count; i++)
        if (c->plays[i].kind != PLAY_PING && !play_is_done(&c->plays[i]))
            return false;
    return true;
}

static void put(struct aws_user *c, enum smux_command command, uint32_t id, size_t len)
{
    smux_write_header(c->out, command, id, (uint16_t) len);
    c->out_start = 0;
    c->out_end = SMUX_HEADER_SIZE + len;
}

/* One frame of this play; false when it has nothing to say now. */
static bool say_for(struct aws_user *c, struct play *p, int64_t now_ms)
{
    bool alone = others_done(c);
    size_t n = p->fin_sent ? 0 : play_client_wants_to_say(p, now_ms, alone);
    if (!p->syn_sent) {
        if (now_ms < p->open_ms || now_ms < c->speak_ms)
            return false;
        p->syn_sent = true;
        put(c, SMUX_SYN, p->id, 0);
    } else if (n > 0) {
        uint32_t most = dice_between(&c->dice, 1, dice_hits(&c->dice, 5000) ? 300 : 16384);
        n = n < most ? n : most;
        play_client_say(p, now_ms, c->out + SMUX_HEADER_SIZE, n);
        put(c, SMUX_PSH, p->id, n);
    } else if (play_client_ends(p, alone)) {
        p->fin_sent = true;
        put(c, SMUX_FIN, p->id, 0);
    } else {
        return false;
    }
    return true;
}

static void say_multiplexed(struct aws_user *c, int64_t now_ms)
{
    for (size_t i = 0; i < c->play_count && c->out_start == c->out_end; i++) {
        c->turn = (c->turn + 1) % c->play_count;
        say_for(c, &c->plays[c->turn], now_ms);
    }
    if (c->out_start == c->out_end && now_ms >= c->speak_ms && dice_hits(&c->dice, 20))
        put(c, SMUX_NOP, 0, 0);
}

/* One connection after the other; each ends with a flag. */
static void say_basic(struct aws_user *c, int64_t now_ms)
{
    if (c->play_now == c->play_count || now_ms < c->speak_ms)
        return;
    struct play *p = &c->plays[c->play_now];
    p->syn_sent = true;
    size_t n = play_client_wants_to_say(p, now_ms, false);
    if (n > 0) {
        n = n < 4096 ? n : 4096;
        play_client_say(p, now_ms, c->out, n);
        c->out_start = 0;
        c->out_end = n;
    } else if (play_client_ends(p, false) && !c->disconnect_due) {
        p->fin_sent = true;
        c->disconnect_due = true;
    }
}

static size_t give_flag(uint8_t *payload, uint32_t *payload_type, enum payload_flag flag)
{
    struct writer w = writer_of(payload, 4);
    writer_u32be(&w, flag);
    *payload_type = PAYLOAD_FLAG;
    return w.len;
}

static size_t give_response(struct aws_user *c, uint8_t *payload, uint32_t *payload_type)
{
    struct writer w = writer_of(payload, MESSAGE_MAX);
    writer_format(&w,
                  "{\"ClientVersion\":\"%s\",\"ProcessedClientActions\":[{\"ActionType\":\"SessionType\","
                  "\"ActionStatus\":1,\"ActionResult\":null,\"Error\":\"\"}],\"Errors\":null%s}",
                  c->options.mode == AWS_USER_BASIC ? "1.1.69.0" : "1.2.650.0",
                  c->options.half_close ? ",\"HalfClose\":true" : "");
    *payload_type = PAYLOAD_HANDSHAKE_RESPONSE;
    c->response_due = false;
    return w.len;
}

/* The next payload: never Output and another type in one. */
static size_t say(void *context, int64_t now_ms, uint8_t *payload, uint32_t *payload_type)
{
    struct aws_user *c = context;
    if (c->response_due)
        return give_response(c, payload, payload_type);
    if (!c->complete || c->terminate_sent)
        return 0;
    if (c->out_start == c->out_end && !c->disconnect_due) {
        if (c->options.mode == AWS_USER_MULTIPLEXED)
            say_multiplexed(c, now_ms);
        else
            say_basic(c, now_ms);
    }
    if (c->out_start < c->out_end) {
        size_t n = c->out_end - c->out_start < MESSAGE_MAX ? c->out_end - c->out_start : MESSAGE_MAX;
        memcpy(payload, c->out + c->out_start, n);
        c->out_start += n;
        *payload_type = PAYLOAD_OUTPUT;
        return n;
    }
    if (c->disconnect_due) {
        c->disconnect_due = false;
        c->plays[c->play_now].fin_received = true;
        c->play_now++;
        return give_flag(payload, payload_type, PAYLOAD_FLAG_DISCONNECT_TO_PORT);
    }
    if (!c->terminate)
        return 0;
    c->terminate_sent = true;
    return give_flag(payload, payload_type, PAYLOAD_FLAG_TERMINATE_SESSION);
}

/* ---- the surface ---- */

void aws_user_init(struct aws_user *c, const struct aws_user_options *options, struct play *plays,
                   size_t play_count, uint64_t seed)
{
    memset(c, 0, sizeof *c);
    c->options = *options;
    c->plays = plays;
    c->play_count = play_count;
    c->dice.state = seed;
    smux_decoder_init(&c->decoder, false);
    aws_client_init(&c->aws, 0, 0, 0);
    c->aws.app = (struct aws_client_app){.give = say, .take = hear, .context = c};
}

void aws_user_end(struct aws_user *c)
{
    aws_client_end(&c->aws);
}

void aws_user_step(struct aws_user *c, struct gateway *g, int64_t now_ms)
{
    if (gateway_ends(g, GATEWAY_CLIENT, now_ms) != 0)
        c->reconnect_ms = now_ms + dice_between(&c->dice, 0, c->options.away_ms);
    if (!g->sides[GATEWAY_CLIENT].connected && now_ms >= c->reconnect_ms)
        gateway_connect(g, GATEWAY_CLIENT, now_ms);
    aws_client_step(&c->aws, g, now_ms);
    if (c->aws.corrupted)
        c->fault = "AWS's client got a message that it can't read";
    if (c->aws.lost_data)
        c->fault = "AWS's client lost data because we refused it for too long";
    if (c->aws.is_deaf && c->options.strict_silence)
        c->fault = "pitfall 3: AWS's client went deaf";
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* When the application will send something by itself. */
static int64_t app_due_ms(const struct aws_user *c, int64_t now_ms)
{
    int64_t due_ms = c->response_due || c->disconnect_due || c->out_start < c->out_end ? now_ms : INT64_MAX;
    if (!c->complete || c->terminate_sent)
        return due_ms;
    if (now_ms < c->speak_ms)
        return c->speak_ms;
    bool alone = others_done(c);
    for (size_t i = c->options.mode == AWS_USER_BASIC ? c->play_now : 0; i < c->play_count; i++) {
        const struct play *p = &c->plays[i];
        if (!p->syn_sent)
            due_ms = earlier(due_ms, p->open_ms > c->speak_ms ? p->open_ms : c->speak_ms);
        else if (p->kind == PLAY_PING && !p->ping_out && !p->fin_sent)
            due_ms = earlier(due_ms, p->ping_ms + 20);
        else if (!p->fin_sent &&
                 (play_client_wants_to_say(p, now_ms, alone) > 0 || play_client_ends(p, alone)))
            due_ms = now_ms;
    }
    return c->terminate ? now_ms : due_ms;
}

int64_t aws_user_due_ms(struct aws_user *c, const struct gateway *g, int64_t now_ms)
{
    int64_t app_ms = app_due_ms(c, now_ms);
    int64_t send_ms = app_ms > c->aws.next_send_ms ? app_ms : c->aws.next_send_ms;
    int64_t due_ms = g->sides[GATEWAY_CLIENT].connected ? gateway_due_ms(g, GATEWAY_CLIENT) : c->reconnect_ms;
    if (app_ms != INT64_MAX)
        due_ms = earlier(due_ms, send_ms);
    return earlier(due_ms, c->aws.unacknowledged != NULL ? c->aws.next_resend_ms : INT64_MAX);
}

bool aws_user_done(const struct aws_user *c)
{
    for (size_t i = 0; i < c->play_count; i++)
        if (!play_is_done(&c->plays[i]))
            return false;
    return c->out_start == c->out_end && !c->disconnect_due;
}
