#include "sim/lib/aws_client.h"

#include <stdlib.h>
#include <string.h>

#include "sim/lib/traffic.h"
#include "wire/agent_message.h"

enum { RESEND_TIMEOUT_MS = 200, RESEND_INTERVAL_MS = 100, PAYLOAD_MAX = 1024 };

void aws_client_init(struct aws_client *c, uint64_t upload_seed, uint64_t upload_total,
                     uint64_t download_seed)
{
    memset(c, 0, sizeof *c);
    c->side = GATEWAY_CLIENT;
    c->upload_seed = upload_seed;
    c->upload_total = upload_total;
    c->download_seed = download_seed;
}

static void free_list(struct aws_client_message *m)
{
    while (m != NULL) {
        struct aws_client_message *next = m->next;
        free(m);
        m = next;
    }
}

void aws_client_end(struct aws_client *c)
{
    free_list(c->early);
    free_list(c->unacknowledged);
}

static struct aws_client_message *copy_of(int64_t sequence, int64_t sent_ms, const uint8_t *bytes, size_t len)
{
    struct aws_client_message *m = malloc(sizeof *m + len);
    if (m == NULL)
        abort();
    *m = (struct aws_client_message){.sequence = sequence, .sent_ms = sent_ms, .len = len};
    memcpy(m->bytes, bytes, len);
    return m;
}

static size_t frame(uint8_t *out, enum agent_message_type type, int64_t sequence, uint32_t payload_type,
                    const void *payload, size_t len)
{
    struct agent_message m = {.type = type, .created_unix_ms = 1, .sequence = sequence, .payload = payload};
    m.payload_len = len;
    m.payload_type = payload_type;
    agent_message_write_header(out, &m);
    memcpy(out + AGENT_MESSAGE_HEADER_SIZE, payload, len);
    return AGENT_MESSAGE_HEADER_SIZE + len;
}

static void acknowledge(const struct aws_client *c, struct gateway *g, const struct agent_message *m,
                        int64_t now_ms)
{
    struct acknowledge ack = {.type = m->type, .sequence = m->sequence};
    char payload[ACKNOWLEDGE_PAYLOAD_MAX];
    uint8_t out[AGENT_MESSAGE_HEADER_SIZE + ACKNOWLEDGE_PAYLOAD_MAX];
    struct writer w = writer_of(payload, sizeof payload);
    memcpy(ack.id, m->id, sizeof ack.id);
    acknowledge_write(&w, &ack);
    gateway_relay(g, c->side, out, frame(out, AGENT_MESSAGE_ACKNOWLEDGE, 0, PAYLOAD_NONE, payload, w.len),
                  false, now_ms);
}

static void process(struct aws_client *c, int64_t now_ms, uint32_t payload_type, const uint8_t *payload,
                    size_t len)
{
    c->expected++;
    if (c->app.take != NULL) {
        c->app.take(c->app.context, now_ms, payload_type, payload, len);
        return;
    }
    c->corrupted |= !traffic_matches(c->download_seed, c->downloaded, payload, len);
    c->downloaded += len;
}

static void process_early(struct aws_client *c, int64_t now_ms)
{
    while (c->early != NULL && c->early->sequence <= c->expected) {
        struct aws_client_message *m = c->early;
        if (m->sequence == c->expected)
            process(c, now_ms, m->payload_type, m->bytes, m->len);
        c->early = m->next;
        c->early_count--;
        free(m);
    }
}

static void keep_early(struct aws_client *c, const struct agent_message *m)
{
    struct aws_client_message **at = &c->early;
    while (*at != NULL && (*at)->sequence < m->sequence)
        at = &(*at)->next;
    if (*at != NULL && (*at)->sequence == m->sequence)
        return;
    struct aws_client_message *kept = copy_of(m->sequence, 0, m->payload, m->payload_len);
    kept->payload_type = m->payload_type;
    kept->next = *at;
    *at = kept;
    c->early_count++;
}

static void take_stream_data(struct aws_client *c, struct gateway *g, const struct agent_message *m,
                             int64_t now_ms)
{
    if (m->sequence < c->expected) {
        c->ignored++;
    } else if (m->sequence == c->expected) {
        process(c, now_ms, m->payload_type, m->payload, m->payload_len);
        acknowledge(c, g, m, now_ms);
        process_early(c, now_ms);
    } else if (c->early_count < AWS_CLIENT_BUFFER) {
        acknowledge(c, g, m, now_ms);
        keep_early(c, m);
    }
}

static void drop_unacknowledged(struct aws_client *c, struct aws_client_message **at)
{
    struct aws_client_message *m = *at;
    if (m == NULL)
        abort();
    *at = m->next;
    if (c->newest == m)
        c->newest = NULL;
    c->unacknowledged_count--;
    free(m);
}

static void take_acknowledge(struct aws_client *c, const struct agent_message *m)
{
    struct acknowledge ack;
    struct aws_client_message **at = &c->unacknowledged;
    if (acknowledge_parse(&ack, (struct str){(const char *) m->payload, m->payload_len}, NULL) != 0)
        abort();
    while (*at != NULL && (*at)->sequence != ack.sequence)
        at = &(*at)->next;
    if (*at != NULL)
        drop_unacknowledged(c, at);
}

/* The next payload, of traffic or of the application. */
static size_t next_payload(struct aws_client *c, int64_t now_ms, uint8_t *payload, uint32_t *payload_type)
{
    uint64_t left = c->upload_total - c->uploaded;
    size_t len = left < PAYLOAD_MAX ? (size_t) left : PAYLOAD_MAX;
    *payload_type = PAYLOAD_OUTPUT;
    if (c->app.give != NULL)
        return c->app.give(c->app.context, now_ms, payload, payload_type);
    traffic_fill(c->upload_seed, c->uploaded, payload, len);
    c->uploaded += len;
    return len;
}

static void send_next(struct aws_client *c, struct gateway *g, int64_t now_ms)
{
    uint8_t payload[PAYLOAD_MAX], out[AGENT_MESSAGE_HEADER_SIZE + PAYLOAD_MAX];
    uint32_t payload_type;
    size_t len = next_payload(c, now_ms, payload, &payload_type);
    if (len == 0)
        return;
    c->next_send_ms = now_ms + 1;
    len = frame(
        out, c->side == GATEWAY_CLIENT ? AGENT_MESSAGE_INPUT_STREAM_DATA : AGENT_MESSAGE_OUTPUT_STREAM_DATA,
        c->next, payload_type, payload, len);
    /* Its 1,000 messages a second, and resends, are between it and the service: nobody polices them here. */
    gateway_relay(g, c->side, out, len, false, now_ms);
    if (c->unacknowledged != NULL && c->unacknowledged_count == AWS_CLIENT_BUFFER) {
        c->lost_data = true;
        drop_unacknowledged(c, &c->unacknowledged);
    }
    struct aws_client_message *m = copy_of(c->next, now_ms, out, len);
    struct aws_client_message **at = &c->unacknowledged;
    if (c->newest != NULL)
        at = &c->newest->next;
    while (*at != NULL)
        at = &(*at)->next;
    *at = m;
    c->newest = m;
    c->unacknowledged_count++;
    c->next++;
}

void aws_client_step(struct aws_client *c, struct gateway *g, int64_t now_ms)
{
    struct gateway_message *taken;
    while ((taken = gateway_take(g, c->side, now_ms)) != NULL) {
        struct agent_message m;
        c->is_deaf |= now_ms < c->deaf_until_ms;
        if (agent_message_parse(&m, taken->bytes, taken->len, NULL) != 0)
            c->corrupted = true;
        else if (m.type == (c->side == GATEWAY_CLIENT ? AGENT_MESSAGE_OUTPUT_STREAM_DATA
                                                      : AGENT_MESSAGE_INPUT_STREAM_DATA))
            take_stream_data(c, g, &m, now_ms);
        else if (m.type == AGENT_MESSAGE_ACKNOWLEDGE)
            take_acknowledge(c, &m);
        free(taken);
    }
    if (!g->sides[c->side].connected || gateway_blocks(g, c->side))
        return;
    if (now_ms >= c->next_send_ms)
        send_next(c, g, now_ms);
    if (now_ms >= c->next_resend_ms) {
        struct aws_client_message *front = c->unacknowledged;
        c->next_resend_ms = now_ms + RESEND_INTERVAL_MS;
        if (front != NULL && now_ms - front->sent_ms > RESEND_TIMEOUT_MS)
            gateway_relay(g, c->side, front->bytes, front->len, false, now_ms);
    }
}

int64_t aws_client_due_ms(const struct aws_client *c)
{
    if (c->uploaded < c->upload_total)
        return c->next_send_ms;
    return c->unacknowledged != NULL ? c->next_resend_ms : INT64_MAX;
}
