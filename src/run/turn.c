#include "run/turn.h"

#include <string.h>

#include "base/num.h"

struct budget {
    size_t bytes;
    unsigned calls;
};

static void spend(struct budget *budget, size_t bytes, unsigned calls)
{
    budget->bytes -= num_min_size(bytes, budget->bytes);
    budget->calls -= calls < budget->calls ? calls : budget->calls;
}

static unsigned cost_of(const struct tunnel_step *step)
{
    bool is_end = step->type == TUNNEL_STEP_CLOSE || step->type == TUNNEL_STEP_RESET;
    return step->type == TUNNEL_STEP_OPEN || is_end ? TURN_OPEN_CALLS : 1;
}

static bool is_spent(const struct budget *budget)
{
    return budget->bytes == 0 || budget->calls == 0;
}

/* Whether bytes wait that the lane would take now. */
static const uint8_t *receivable(const struct turn *turn, unsigned lane, size_t *len)
{
    return tunnel_lane_wants_input(turn->tunnel, lane) ? turn->lanes->receive(turn->context, lane, len)
                                                       : NULL;
}

/* One buffer's worth from each lane. True when something moved. */
static bool receive(const struct turn *turn, int64_t now_ms, struct budget *budget)
{
    bool moved = false;
    for (unsigned i = 0; i < turn->tunnel->lane_count && !is_spent(budget); i++) {
        size_t len;
        size_t room;
        const uint8_t *data = receivable(turn, i, &len);
        if (data == NULL)
            continue;
        uint8_t *in = tunnel_lane_in_buf(turn->tunnel, i, &room);
        size_t n = num_min_size(len, room);
        if (n == 0)
            continue;
        memcpy(in, data, n);
        turn->lanes->received(turn->context, i, n);
        tunnel_lane_in_ack(turn->tunnel, i, now_ms, n);
        spend(budget, n, 1);
        moved = true;
    }
    return moved;
}

static void perform(const struct turn *turn, const struct tunnel_step *step, struct tunnel_result *result)
{
    const struct turn_endpoint_ops *endpoint = turn->endpoints;
    switch (step->type) {
    case TUNNEL_STEP_OPEN:
        endpoint->open(turn->context, step->stream, step->host, step->port);
        break;
    case TUNNEL_STEP_WRITE:
        endpoint->write(turn->context, step->stream, step->vectors, step->count, result);
        break;
    case TUNNEL_STEP_READ:
        endpoint->read(turn->context, step->stream, step->vectors, step->count, result);
        break;
    case TUNNEL_STEP_SHUT:
        endpoint->shut(turn->context, step->stream);
        break;
    case TUNNEL_STEP_CLOSE:
        endpoint->close(turn->context, step->stream, step->why);
        break;
    case TUNNEL_STEP_RESET:
        endpoint->reset(turn->context, step->stream, step->why);
        break;
    case TUNNEL_STEP_BUSY:
        break;
    default:
        turn->event(turn->context, step, result);
        break;
    }
}

/* True when that was the end. */
static bool take_steps(const struct turn *turn, int64_t now_ms, struct budget *budget)
{
    while (!is_spent(budget)) {
        struct tunnel_step step;
        struct tunnel_result result = {0};
        tunnel_next(turn->tunnel, now_ms, &step);
        if (step.type == TUNNEL_STEP_NONE || step.type == TUNNEL_STEP_OVER)
            return step.type == TUNNEL_STEP_OVER;
        perform(turn, &step, &result);
        tunnel_done(turn->tunnel, now_ms, &step, &result);
        spend(budget, result.n, cost_of(&step));
    }
    return false;
}

static bool transmit(const struct turn *turn, int64_t now_ms, struct budget *budget)
{
    bool moved = false;
    for (unsigned i = 0; i < turn->tunnel->lane_count; i++) {
        size_t len;
        const uint8_t *frame;
        while (budget->bytes > 0 && (frame = tunnel_lane_out_buf(turn->tunnel, i, now_ms, &len)) != NULL &&
               len > 0) {
            size_t n = turn->lanes->send(turn->context, i, frame, len);
            if (n == 0)
                break;
            tunnel_lane_out_ack(turn->tunnel, i, now_ms, n);
            budget->bytes -= num_min_size(n, budget->bytes);
            moved = true;
        }
    }
    return moved;
}

/* What was consumed in between may have made a lane want what waits in its connection already. */
static bool has_input(const struct turn *turn)
{
    size_t len;
    for (unsigned i = 0; i < turn->tunnel->lane_count; i++)
        if (receivable(turn, i, &len) != NULL)
            return true;
    return false;
}

enum turn_result turn_run(const struct turn *turn, int64_t now_ms, int64_t *deadline_ms)
{
    struct budget budget = {.bytes = TURN_BYTES, .calls = TURN_CALLS};
    bool moved = true;
    tunnel_tick(turn->tunnel, now_ms);
    for (; moved && !is_spent(&budget); spend(&budget, 0, 1)) {
        moved = receive(turn, now_ms, &budget);
        if (take_steps(turn, now_ms, &budget))
            return TURN_OVER;
        moved = transmit(turn, now_ms, &budget) || moved;
        moved = has_input(turn) || moved;
    }
    *deadline_ms = tunnel_deadline(turn->tunnel, now_ms);
    return is_spent(&budget) ? TURN_MORE : TURN_IDLE;
}
