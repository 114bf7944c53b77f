/* internal: what the files of the tunnel engine share among themselves. Nobody else includes it. */
#ifndef FUMIDAI_TUNNEL_INTERNAL_H
#define FUMIDAI_TUNNEL_INTERNAL_H

#include "tunnel/tunnel.h"

static inline struct streams_slot *tunnel_slot(const struct tunnel *t, uint16_t stream)
{
    return &t->streams.slots[stream];
}

/* The step that one function of the engine has filled in, or not. */
static inline bool tunnel_has_step(const struct tunnel_step *step)
{
    return step->type != TUNNEL_STEP_NONE;
}

/* ---- tunnel.c: streams' ends ---- */

/* After anything that may have been the last thing: what follows for this stream? */
void tunnel_settle(struct tunnel *t, uint16_t stream, int64_t now_ms, struct tunnel_step *step);
/* Its endpoint is no more, `why` for a peer of ours. The stream remains until the peer has been told. */
void tunnel_lose_endpoint(struct tunnel *t, uint16_t stream, int64_t now_ms, bool was_open);
/* A basic session whose one connection was its last: what comes for the next is dropped. */
void tunnel_end_basic(struct tunnel *t, int64_t now_ms, bool failed, struct str reason);
/* The slot is free. */
void tunnel_free_stream(struct tunnel *t, uint16_t stream);

/* ---- from_peer.c ---- */

/* Payloads that came over this lane, as far as a step, or as there is room. False when nothing was done. */
bool tunnel_take_input(struct tunnel *t, int64_t now_ms, struct tunnel_step *step);
/* Puts a piece into its place in the order. False when there is no room for it now. */
bool tunnel_take_piece(struct tunnel *t, const uint8_t *data, size_t len);
void tunnel_take_flag(struct tunnel *t, int64_t now_ms, const struct lane_event *event,
                      struct tunnel_step *step);
/* The endpoint took n of what WRITE offered. */
void tunnel_wrote(struct tunnel *t, int64_t now_ms, const struct tunnel_step *step,
                  const struct tunnel_result *result);
/* Streams with held bytes whose endpoint may take them, and those that have come to an end.
 * False when nothing was done. */
bool tunnel_attend(struct tunnel *t, int64_t now_ms, struct tunnel_step *step);
/* Whether anybody but the stream that is blocked has something in what is not taken in yet. */
bool tunnel_others_wait(const struct tunnel *t);
int64_t tunnel_stall_deadline(const struct tunnel *t);

/* ---- to_peer.c ---- */

/* A turn of a stream: a frame without a read, or a READ. */
void tunnel_gather(struct tunnel *t, int64_t now_ms, struct tunnel_step *step);
void tunnel_was_read(struct tunnel *t, int64_t now_ms, const struct tunnel_step *step,
                     const struct tunnel_result *result);
/* Says why a SYN is refused; false when there is no room to say it. */
bool tunnel_answer_refused(struct tunnel *t, int64_t now_ms);
bool tunnel_send_text(struct tunnel *t, int64_t now_ms, enum smux_command command, uint32_t id,
                      struct str text);

#endif
