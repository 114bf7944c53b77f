/*
 * control_channel: the one connection over which Session Manager tells this agent what to do. It lives as long as the
 * process and is made anew whenever it breaks, for ever, without touching the sessions that run.
 *
 *             due                 token                    upgraded, token sent
 *   WAITING ────────► FETCHING ────────► CONNECTING ────────────────────► OPEN
 *      ▲                 │ failed            │ failed                       │ closed, broken, silent
 *      └─────────────────┴───────────────────┴──────────────────────────────┘   back-off (aws/retry.h, BACKOFF_RECONNECT)
 *
 * Each connection takes a token of its own. While OPEN a ping ("keepalive") goes each 54 s, and 60 s beyond that without a
 * byte from the service the connection counts as broken. The back-off starts over after a connection that was OPEN for
 * CONTROL_CHANNEL_STEADY_MS: one that is closed as soon as it opens must not be made a hundred times a second.
 *
 * Sessions. An interactive_shell message asks for one (its payload is tunnel/document's). The service repeats
 * messages, over reconnects too, so the ids of the last CONTROL_CHANNEL_REMEMBERED are known and started once.
 *
 * Reports. agent_task_complete says that a session is over, and why; it is sent up to CONTROL_CHANNEL_REPORT_TRIES times,
 * CONTROL_CHANNEL_REPORT_MS apart, until agent_task_acknowledge names it. Reports wait for a connection and survive its
 * loss, with all their tries anew. When the table is full the oldest gives way.
 *
 * agent_job (Run Command) is answered with agent_job_ack, status 51407, ContainerNotSupported, as AWS's agent does in a
 * container. Messages of a type nobody knows are told once a type.
 */
#ifndef FUMIDAI_CHANNEL_CONTROL_CHANNEL_H
#define FUMIDAI_CHANNEL_CONTROL_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws/ssmmessages.h"
#include "base/backoff.h"
#include "base/error.h"
#include "base/prng.h"
#include "base/str.h"
#include "base/uuid.h"
#include "wire/agent_message.h"
#include "wire/websocket.h"

enum {
    CONTROL_CHANNEL_PING_MS = 54 * 1000,    /* AWS's agent */
    CONTROL_CHANNEL_SILENCE_MS = 60 * 1000, /* beyond the ping */
    CONTROL_CHANNEL_STEADY_MS = 10 * 1000,
    CONTROL_CHANNEL_REMEMBERED =
        256, /* ids of sessions started; four times the default of sessions at once */
    CONTROL_CHANNEL_REPORTS = 64,
    CONTROL_CHANNEL_REPORT_TRIES = 3,
    CONTROL_CHANNEL_REPORT_MS = 1000,
    CONTROL_CHANNEL_REASON_SIZE = 512,
    CONTROL_CHANNEL_TYPES_TOLD = 32,         /* unknown types told; further ones are not */
    CONTROL_CHANNEL_INPUT_SIZE = 160 * 1024, /* a document of 64 KB, escaped into a string */
    CONTROL_CHANNEL_OUTPUT_SIZE = 32 * 1024  /* the first frame, pongs, a report or two */
};

enum control_channel_state {
    CONTROL_CHANNEL_WAITING,
    CONTROL_CHANNEL_FETCHING,
    CONTROL_CHANNEL_CONNECTING,
    CONTROL_CHANNEL_OPEN,
    CONTROL_CHANNEL_STATE_COUNT
};

enum control_channel_event_type {
    CONTROL_CHANNEL_NOTHING,
    CONTROL_CHANNEL_FETCH,   /* get a token; then control_channel_fetched or control_channel_failed */
    CONTROL_CHANNEL_CONNECT, /* open the websocket; then control_channel_connected or control_channel_failed */
    CONTROL_CHANNEL_START,   /* payload of interactive_shell, a session not seen before */
    CONTROL_CHANNEL_TERMINATE, /* text: the session's id */
    CONTROL_CHANNEL_READY,     /* the service says it is listening */
    CONTROL_CHANNEL_DROP, /* close the connection: text says why; then control_channel_failed, until which it is repeated */
    CONTROL_CHANNEL_REFUSED_JOB,
    CONTROL_CHANNEL_UNKNOWN,    /* text: a type not told before */
    CONTROL_CHANNEL_REPORT_LOST /* text: the id of a session whose end nobody acknowledged */
};

struct control_channel_event {
    enum control_channel_event_type type;
    struct str text; /* valid until the next call of any function here */
};

struct control_channel_report {
    char session_id[SSMMESSAGES_SESSION_ID_SIZE];
    char reason[CONTROL_CHANNEL_REASON_SIZE];
    uint8_t message_id[UUID_SIZE];
    bool failed;
    uint8_t tries;
    int64_t due_ms;
};

struct control_channel {
    enum control_channel_state state;
    struct str target_id;
    struct prng generator;
    int64_t unix_offset_ms;
    struct backoff retry;
    int64_t retry_at_ms;
    int64_t opened_ms;
    int64_t heard_ms;
    int64_t ping_ms;
    bool asked; /* FETCH or CONNECT was given out for this state */
    bool drop_due;
    bool lost_report; /* lost_id is to be told */
    char lost_id[SSMMESSAGES_SESSION_ID_SIZE];
    char why[CONTROL_CHANNEL_REASON_SIZE]; /* the last failure; empty while OPEN */
    struct websocket_decoder decoder;
    size_t out_start;
    size_t out_end;
    uint64_t remembered[CONTROL_CHANNEL_REMEMBERED]; /* hashes of session ids, a ring */
    size_t remembered_next;
    uint64_t types_told[CONTROL_CHANNEL_TYPES_TOLD];
    size_t types_told_count;
    struct control_channel_report reports[CONTROL_CHANNEL_REPORTS];
    size_t report_count;
    uint8_t in[CONTROL_CHANNEL_INPUT_SIZE];
    uint8_t out[CONTROL_CHANNEL_OUTPUT_SIZE];
};

/* target_id is the caller's and outlives the engine. Starts WAITING, due now. */
void control_channel_init(struct control_channel *c, struct str target_id, const uint8_t seed[PRNG_SEED_SIZE],
                          int64_t unix_offset_ms, int64_t now_ms);

void control_channel_next(struct control_channel *c, int64_t now_ms, struct control_channel_event *event);

void control_channel_fetched(struct control_channel *c);
/* The websocket is open; first_text, the frame with the token, goes out before anything else. */
void control_channel_connected(struct control_channel *c, int64_t now_ms, struct str first_text);
/* Fetching or connecting failed, or the connection broke. `random` spreads the back-off. */
void control_channel_failed(struct control_channel *c, int64_t now_ms, enum error_code code, const char *why,
                            uint32_t random);

/* Bytes from and to the websocket, while OPEN. Pull events after in_ack. */
uint8_t *control_channel_in_buf(struct control_channel *c, size_t *room);
void control_channel_in_ack(struct control_channel *c, int64_t now_ms, size_t len);
const uint8_t *control_channel_out_buf(struct control_channel *c, int64_t now_ms, size_t *len);
void control_channel_out_ack(struct control_channel *c, size_t len);

/* A session is over: report it, at due_ms or at once when that has passed. A start message for it that is still on its way
 * starts nothing any more. */
void control_channel_report(struct control_channel *c, int64_t due_ms, struct str session_id, bool failed,
                            struct str reason);
bool control_channel_reports_pending(const struct control_channel *c);

/* INT64_MIN: pull events now. */
int64_t control_channel_deadline(const struct control_channel *c);
void control_channel_tick(struct control_channel *c, int64_t now_ms);

#endif
