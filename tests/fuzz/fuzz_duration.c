/* Durations and timestamps: what is read and written again is read as the same. */
#include "base/time.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const int64_t NS_PER_MS = 1000000;

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_written_duration(int64_t ms)
{
    char memory[64];
    struct writer w = writer_of(memory, sizeof memory);
    int64_t ns = 0;
    writer_duration_ms(&w, ms);
    require(!w.failed);
    bool fits = ms <= INT64_MAX / NS_PER_MS && ms >= INT64_MIN / NS_PER_MS;
    require(duration_parse(writer_view(&w), &ns) == fits);
    require(!fits || ns == ms * NS_PER_MS);
}

static void check_written_timestamp(int64_t unix_ms)
{
    char memory[64];
    struct writer w = writer_of(memory, sizeof memory);
    int64_t again = 0;
    writer_rfc3339_ms(&w, unix_ms);
    if (w.failed)
        return; /* a year without four digits */
    require(timestamp_parse_rfc3339(writer_view(&w), &again) && again == unix_ms);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct str text = {(const char *) data, size};
    int64_t value = 0;
    if (duration_parse(text, &value))
        check_written_duration(value / NS_PER_MS);
    if (timestamp_parse_rfc3339(text, &value))
        check_written_timestamp(value);
    if (timestamp_parse_http_date(text, &value))
        check_written_timestamp(value);
    if (size >= sizeof value) {
        memcpy(&value, data, sizeof value);
        check_written_duration(value);
        check_written_timestamp(value);
    }
    return 0;
}
