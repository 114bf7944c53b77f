/*
 * time: durations as Go writes them and points in time as AWS writes them. Nothing here reads a clock.
 * Points are Unix milliseconds (int64_t unix_ms), durations nanoseconds where parsed and milliseconds
 * everywhere else.
 */
#ifndef FUMIDAI_BASE_TIME_H
#define FUMIDAI_BASE_TIME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/str.h"

/* time.ParseDuration: optional sign, decimal numbers with units ns us µs ms s m h, or a plain 0. False on
 * anything else and when it does not fit. */
bool duration_parse(struct str text, int64_t *duration_ns);
/* time.Duration.String: "1h30m0s", "300ms", "1.5s", "0s". */
void writer_duration_ms(struct writer *w, int64_t duration_ms);

/* RFC 3339 with any fraction and zone. */
bool timestamp_parse_rfc3339(struct str text, int64_t *unix_ms);
void writer_rfc3339_ms(struct writer *w, int64_t unix_ms); /* 2026-11-22T15:38:51.123Z */
void writer_amz_date(struct writer *w, int64_t unix_ms);   /* 20261122T153851Z */
/* Sun, 22 Nov 2026 15:38:51 GMT, the one form that RFC 9110 lets a server send. */
bool timestamp_parse_http_date(struct str text, int64_t *unix_ms);

#endif
