#include "relay/control.h"

#include <stdlib.h>
#include <string.h>

#include "host/clock.h"
#include "host/log.h"
#include "host/random.h"

static int64_t now_of(const struct relay_control *control)
{
    return loop_now_ms(control->loop);
}

static void wake(struct relay_control *control)
{
    loop_hook_queue(control->loop, &control->hook);
}

/* ---- the connection ------------------------------------------------------------------------------------ */

static void gateway_is_open(struct gateway *gateway, struct str first_text)
{
    struct relay_control *control = LOOP_OWNER(gateway, struct relay_control, gateway);
    struct error err = ERROR_INIT;
    wake(control);
    if (control_channel_connected(control->channel, now_of(control), first_text, &err) < 0)
        gateway_lose(gateway, err.text);
    else
        control->up(control);
}

static void gateway_has_changed(struct gateway *gateway)
{
    wake(LOOP_OWNER(gateway, struct relay_control, gateway));
}

/* It is never final: see RECONNECT_CONTROL. */
static void gateway_is_down(struct gateway *gateway, const struct gateway_down *down)
{
    struct relay_control *control = LOOP_OWNER(gateway, struct relay_control, gateway);
    control_channel_disconnected(control->channel, now_of(control), down->why);
    int64_t learned_ms = control_channel_take_learned_ms(control->channel);
    if (learned_ms > 0)
        log_event(LOG_WARN, "quiet connections are cut on the way: pinging sooner",
                  LOG_TEXT("channel", "control"), LOG_DURATION_MS("after", learned_ms));
    wake(control);
    control->down(control, down);
}

/* ---- the turn ------------------------------------------------------------------------------------------ */

static void take_event(struct relay_control *control, const struct control_channel_event *event)
{
    switch (event->type) {
    case CONTROL_CHANNEL_START:
        control->start(control, event->text);
        break;
    case CONTROL_CHANNEL_TERMINATE:
        control->terminate(control, event->text);
        break;
    case CONTROL_CHANNEL_LOST:
        gateway_lose(&control->gateway, event->text.ptr);
        break;
    case CONTROL_CHANNEL_READY:
        log_event(LOG_DEBUG, "control channel is ready", LOG_END);
        break;
    case CONTROL_CHANNEL_REFUSED_JOB:
        log_event(LOG_WARN, "refused a Run Command job: this task forwards ports and runs nothing", LOG_END);
        break;
    case CONTROL_CHANNEL_UNKNOWN:
        log_event(LOG_INFO, "control message of an unknown type", LOG_STR("type", event->text));
        break;
    case CONTROL_CHANNEL_REPORT_LOST:
        log_event(LOG_WARN, "the service did not acknowledge the end of a session",
                  LOG_STR("session", event->text), LOG_I64("reports", event->count));
        break;
    case CONTROL_CHANNEL_NOTHING:
        break;
    }
}

/* What the channel has to say, as far as the turn's budget goes. False when there may be more. */
static bool take_events(struct relay_control *control, int *budget)
{
    struct control_channel_event event;
    for (; *budget > 0; --*budget) {
        control_channel_next(control->channel, now_of(control), &event);
        if (event.type == CONTROL_CHANNEL_NOTHING)
            return true;
        if (event.type != CONTROL_CHANNEL_LOST && event.type != CONTROL_CHANNEL_REPORT_LOST)
            gateway_acknowledged(&control->gateway, 1); /* a message came: the service knows us */
        take_event(control, &event);
    }
    return false;
}

/* Bytes from the service. False when the budget is used up before they are. */
static bool receive(struct relay_control *control)
{
    int events = RELAY_CONTROL_EVENTS_PER_TURN;
    for (size_t taken = 0; taken < RELAY_CONTROL_BYTES_PER_TURN;) {
        size_t len;
        size_t room;
        if (!take_events(control, &events))
            return false;
        const uint8_t *data = gateway_recv_buf(&control->gateway, &len);
        uint8_t *in = control_channel_in_buf(control->channel, &room);
        size_t n = len < room ? len : room;
        if (data == NULL || n == 0)
            return true;
        n = n < RELAY_CONTROL_BYTES_PER_TURN - taken ? n : RELAY_CONTROL_BYTES_PER_TURN - taken;
        memcpy(in, data, n);
        gateway_recv_ack(&control->gateway, n);
        control_channel_in_ack(control->channel, now_of(control), n);
        taken += n;
    }
    return false;
}

static void transmit(struct relay_control *control)
{
    const uint8_t *data;
    size_t len;
    while ((data = control_channel_out_buf(control->channel, now_of(control), &len)) != NULL) {
        size_t n = gateway_send(&control->gateway, data, len);
        if (n == 0)
            break;
        control_channel_out_ack(control->channel, n);
    }
}

static void turn(struct loop_hook *hook)
{
    struct relay_control *control = LOOP_OWNER(hook, struct relay_control, hook);
    control_channel_tick(control->channel, now_of(control), clock_unix_ms());
    bool done = receive(control);
    transmit(control);
    control->reported(control);
    if (done)
        loop_timer_set(control->loop, &control->timer, control_channel_deadline(control->channel));
    else
        loop_hook_defer(control->loop, hook);
}

static void timer_expired(struct loop_timer *timer)
{
    wake(LOOP_OWNER(timer, struct relay_control, timer));
}

/* ---- the owner's side ---------------------------------------------------------------------------------- */

int relay_control_open(struct relay_control *control, struct aws_client *client,
                       const struct metadata *metadata, struct error *err)
{
    uint8_t seed[PRNG_SEED_SIZE];
    if (metadata_format_target(metadata, control->target_id, err) < 0)
        return err->code;
    control->channel = malloc(sizeof *control->channel); /* pages count when they are touched */
    if (control->channel == NULL)
        return error_set(err, ERROR_SYSTEM, "out of memory");
    control->loop = client->network->loop;
    loop_timer_init(&control->timer, timer_expired);
    loop_hook_init(&control->hook, LOOP_GATHER, turn);
    random_bytes(seed, sizeof seed);
    control_channel_init(control->channel, str_from(control->target_id), seed);
    bytes_wipe(seed, sizeof seed);
    gateway_init(&control->gateway, client, GATEWAY_CONTROL, str_from(control->target_id), str_from(""));
    control->gateway.up = gateway_is_open;
    control->gateway.changed = gateway_has_changed;
    control->gateway.down = gateway_is_down;
    gateway_open(&control->gateway);
    return 0;
}

bool relay_control_is_open(const struct relay_control *control)
{
    return control->channel != NULL;
}

void relay_control_report(struct relay_control *control, int64_t due_ms, const char *session_id,
                          enum control_channel_result result, const char *reason)
{
    if (control->channel == NULL || session_id[0] == '\0')
        return;
    control_channel_report(control->channel, due_ms, str_from(session_id), result, str_from(reason));
    wake(control);
}

bool relay_control_has_reports(const struct relay_control *control)
{
    return control->channel != NULL && control_channel_is_up(control->channel) &&
           control_channel_reports_pending(control->channel);
}
