/*
 * control_channel: what Session Manager and this agent tell each other on the one control channel
 * (protocol.md, section 3). It lives as long as the process; connections come and go below it without
 * touching sessions. Tokens, websockets and trying again are cloud/gateway's, frames and pings
 * channel/connection's.
 *
 *           connected                  LOST
 *     DOWN ───────────► UP ──────────────────────► DOWN
 *
 * Sessions. An interactive_shell message asks for one (its payload is tunnel/document's). The service repeats
 * messages, over reconnects too, so the ids of the last CONTROL_CHANNEL_REMEMBERED are known and started
 * once.
 *
 * Reports. agent_task_complete says that a session is over, or was refused, and why: the only way in which
 * its user learns it. It is sent up to CONTROL_CHANNEL_REPORT_TRIES times, CONTROL_CHANNEL_REPORT_MS apart,
 * until agent_task_acknowledge names it. Reports wait for a connection and survive its loss, with all their
 * tries anew. Sessions that ran and sessions that were refused have places of their own, so that no number of
 * refusals costs the report of a session that ran. A report that finds no place, or that nobody acknowledges,
 * is told by REPORT_LOST.
 *
 * agent_job (Run Command) is answered with agent_job_ack, status 51407, ContainerNotSupported, as AWS's agent
 * does in a container. Messages of unknown types are told once a type.
 *
 * Time. Nothing is due while it can't be done: a report that does not fit the output buffer waits for
 * out_ack.
 */
#ifndef FUMIDAI_CHANNEL_CONTROL_CHANNEL_H
#define FUMIDAI_CHANNEL_CONTROL_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws/ssmmessages.h"
#include "base/error.h"
#include "base/prng.h"
#include "base/str.h"
#include "base/uuid.h"
#include "channel/connection.h"
#include "wire/agent_message.h"

enum {
    CONTROL_CHANNEL_PING_MS = 54 * 1000, /* AWS's agent */
    /* Ids of sessions started: four times the most sessions that can be open (FUMIDAI_MAX_SESSIONS is at most
     * 1,000), so that a flood of starts does not make the service's repetition of an older one look new. */
    CONTROL_CHANNEL_REMEMBERED = 4096,
    CONTROL_CHANNEL_REPORTS = 1024, /* of sessions that ran: FUMIDAI_MAX_SESSIONS at its highest, and some */
    CONTROL_CHANNEL_REFUSALS =
        2048, /* a user who starts sessions as fast as the API lets them: 1,500 in 1.5 s */
    CONTROL_CHANNEL_REPORT_TRIES = 3,        /* as AWS's agent */
    CONTROL_CHANNEL_REPORT_MS = 1000,        /* between two, as AWS's agent */
    CONTROL_CHANNEL_REASON_SIZE = 512,       /* a sentence or two for the user */
    CONTROL_CHANNEL_TYPES_TOLD = 32,         /* unknown types told; further ones are not */
    CONTROL_CHANNEL_INPUT_SIZE = 160 * 1024, /* a document of 64 KB, escaped into a string */
    CONTROL_CHANNEL_OUTPUT_SIZE = 32 * 1024  /* the first frame, pongs, some reports */
};

enum control_channel_event_type {
    CONTROL_CHANNEL_NOTHING,
    CONTROL_CHANNEL_START,     /* text: payload of interactive_shell, a session not seen before */
    CONTROL_CHANNEL_TERMINATE, /* text: the session's id */
    CONTROL_CHANNEL_READY,     /* the service says it is listening */
    CONTROL_CHANNEL_LOST,      /* text: why the connection is over: close it */
    CONTROL_CHANNEL_REFUSED_JOB,
    CONTROL_CHANNEL_UNKNOWN,    /* text: a type not told before */
    CONTROL_CHANNEL_REPORT_LOST /* text: a session whose end was not acknowledged; count: with others */
};

struct control_channel_event {
    enum control_channel_event_type type;
    struct str text; /* valid until the next call of any function here; ends in a NUL for LOST */
    uint64_t count;
};

enum control_channel_result { CONTROL_CHANNEL_SUCCEEDED, CONTROL_CHANNEL_FAILED, CONTROL_CHANNEL_REFUSED };

struct control_channel_report {
    char session_id[SSMMESSAGES_SESSION_ID_SIZE];
    char reason[CONTROL_CHANNEL_REASON_SIZE];
    uint8_t message_id[UUID_SIZE];
    enum control_channel_result result;
    uint8_t tries;
    int64_t due_ms;
};

struct control_channel {
    struct connection connection;
    struct str target_id;
    struct prng generator;
    int64_t unix_offset_ms;
    uint64_t lost_reports; /* not told yet */
    char lost_id[SSMMESSAGES_SESSION_ID_SIZE];
    bool output_is_full;                             /* a report is due and has no room */
    uint64_t remembered[CONTROL_CHANNEL_REMEMBERED]; /* hashes of session ids, a ring */
    size_t remembered_next;
    uint64_t types_told[CONTROL_CHANNEL_TYPES_TOLD];
    size_t types_told_count;
    size_t report_count;
    size_t refusal_count; /* of them */
    struct control_channel_report reports[CONTROL_CHANNEL_REPORTS + CONTROL_CHANNEL_REFUSALS];
    uint8_t in[CONTROL_CHANNEL_INPUT_SIZE];
    uint8_t out[CONTROL_CHANNEL_OUTPUT_SIZE];
};

/* target_id is the caller's and outlives the engine. */
void control_channel_init(struct control_channel *c, struct str target_id,
                          const uint8_t seed[PRNG_SEED_SIZE]);

/* A websocket is open; first_text, the frame with the token, goes out before anything else. */
int control_channel_connected(struct control_channel *c, int64_t now_ms, struct str first_text,
                              struct error *err);
/* What is below is gone: LOST follows, unless it was told before. */
void control_channel_disconnected(struct control_channel *c, int64_t now_ms, const char *why);
int64_t control_channel_take_learned_ms(struct control_channel *c); /* as connection_take_learned_ms */
bool control_channel_is_up(const struct control_channel *c);

/* Bytes from and to the websocket. Pull events after in_ack. */
uint8_t *control_channel_in_buf(struct control_channel *c, size_t *room);
void control_channel_in_ack(struct control_channel *c, int64_t now_ms, size_t len);
const uint8_t *control_channel_out_buf(struct control_channel *c, int64_t now_ms, size_t *len);
void control_channel_out_ack(struct control_channel *c, size_t len);

void control_channel_next(struct control_channel *c, int64_t now_ms, struct control_channel_event *event);

/* A session is over, or did not start: report it, at due_ms or at once when that has passed. A start message
 * for it that is still on its way starts nothing any more. */
void control_channel_report(struct control_channel *c, int64_t due_ms, struct str session_id,
                            enum control_channel_result result, struct str reason);
bool control_channel_reports_pending(const struct control_channel *c);

/* INT64_MIN: pull events now. */
int64_t control_channel_deadline(const struct control_channel *c);
/* unix_ms: what the wall clock says now, for the messages' dates. */
void control_channel_tick(struct control_channel *c, int64_t now_ms, int64_t unix_ms);

#endif
