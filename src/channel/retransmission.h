/*
 * retransmission: when a message that has not been acknowledged counts as lost. Round-trip time (RTT) and
 * retransmission time-out (RTO) as TCP has them (RFC 6298), in milliseconds and with this protocol's numbers:
 *
 * - RTT and its variation are smoothed with 1/8 and 1/4, measured once a round trip, and only from messages
 *   that were sent once: of a message that was resent nobody knows which copy was acknowledged (Karn's rule).
 * - RTO = RTT + 4 × variation, at least RETRANSMISSION_RTO_MIN_MS. The websocket below is TCP, which repairs
 *   what networks lose; what is left to repair is a connection that ended and a gateway that dropped a
 *   message.
 * - Each time-out in a row doubles it, up to RETRANSMISSION_RTO_MAX_MS, until the next measurement.
 * - Before the first measurement it is RETRANSMISSION_RTO_MIN_MS; for the very first message, while it is the
 *   only one, RETRANSMISSION_RTO_FIRST_MS: the handshake request is sent before the client has connected and
 *   may be lost. Repeating it is harmless, and waiting 200 ms for it is what a user would notice.
 */
#ifndef FUMIDAI_CHANNEL_RETRANSMISSION_H
#define FUMIDAI_CHANNEL_RETRANSMISSION_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RETRANSMISSION_RTO_FIRST_MS = 20, /* of the handshake request: a user waits for it */
    RETRANSMISSION_RTO_MIN_MS = 200,  /* as Linux's TCP */
    RETRANSMISSION_RTO_MAX_MS = 10000 /* a peer that is back is noticed within so long */
};

struct retransmission {
    bool measured;
    int64_t rtt_us;
    int64_t variation_us;
    int64_t rto_ms;
    int64_t next_measurement_ms;
};

void retransmission_init(struct retransmission *r);
void retransmission_measure(struct retransmission *r, int64_t rtt_ms, int64_t now_ms);
/* A time-out passed without any answer. */
void retransmission_back_off(struct retransmission *r);
/* An answer came after so long a wait that a shorter time-out would be wrong, but
 * to a message that was resent. */
void retransmission_at_least(struct retransmission *r, int64_t rto_ms);
int64_t retransmission_rto_ms(const struct retransmission *r);
/* base_ms × 2^times, at most max_ms, never below base_ms. */
int64_t retransmission_doubled_ms(int64_t base_ms, uint32_t times, int64_t max_ms);

#endif
