/*
 * control: this task's control channel together with its connection. Bytes move both ways within a turn's
 * budget; what the service asks for is passed on to the owner, which reports how sessions ended.
 *
 *     gateway (token, websocket, trying again) ◄── bytes ──► control_channel (messages, reports)
 *
 * A service that sends without pause gets RELAY_CONTROL_EVENTS_PER_TURN and RELAY_CONTROL_BYTES_PER_TURN in a
 * turn, and what it sends beyond that waits in the socket. One that reads nothing costs the output buffer of
 * the channel; reports wait.
 */
#ifndef FUMIDAI_RELAY_CONTROL_H
#define FUMIDAI_RELAY_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#include "aws/metadata.h"
#include "channel/control_channel.h"
#include "cloud/aws_call.h"
#include "cloud/gateway.h"
#include "host/loop.h"

enum {
    RELAY_CONTROL_EVENTS_PER_TURN = 8,       /* starting a session costs some 0.3 ms */
    RELAY_CONTROL_BYTES_PER_TURN = 16 * 1024 /* or 8,000 empty messages: half a millisecond */
};

struct relay_control {
    /* The owner's, set before it is opened. All are called from the loop. */
    void (*start)(struct relay_control *control, struct str payload); /* of interactive_shell */
    void (*terminate)(struct relay_control *control, struct str session_id);
    void (*up)(struct relay_control *control);
    void (*down)(struct relay_control *control, const struct gateway_down *down);
    void (*reported)(struct relay_control *control); /* a turn is over: reports may have been acknowledged */

    char target_id[METADATA_TARGET_SIZE]; /* what users name; empty before it is opened */

    /* private */
    struct control_channel *channel; /* null before */
    struct gateway gateway;
    struct loop *loop;
    struct loop_timer timer;
    struct loop_hook hook;
};

/* The channel stays open from here on. ERROR_NOT_FOUND when the metadata lacks what makes the target's id. */
int relay_control_open(struct relay_control *control, struct aws_client *client,
                       const struct metadata *metadata, struct error *err);
bool relay_control_is_open(
    const struct relay_control *control); /* was opened, whether it is connected or not */

/* As control_channel_report; nothing before it is open. */
void relay_control_report(struct relay_control *control, int64_t due_ms, const char *session_id,
                          enum control_channel_result result, const char *reason);
/* Whether it is worth while to wait for acknowledgements. */
bool relay_control_has_reports(const struct relay_control *control);

#endif
