#include "settings/plugin_settings.h"

#define HOUR_MS      (60 * INT64_C(60000))
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* clang-format off */
#define AT(member, type) SETTINGS_AT(struct plugin_settings, member, type)
#define DURATION(member, fallback_, minimum_, maximum_) .kind = SETTINGS_DURATION, AT(member, int64_t),     \
        .fallback = (fallback_), .minimum = (minimum_), .maximum = (maximum_)
#define NUMBER(member, fallback_, minimum_, maximum_) .kind = SETTINGS_NUMBER, AT(member, uint32_t),        \
        .fallback = (fallback_), .minimum = (minimum_), .maximum = (maximum_)

/* As of `fumidai forward`, whose help says more. Its callers' users read what it prints, not a log. */
static const struct settings_row rows[] = {
    {"log-level", "FUMIDAI_LOG_LEVEL", "Minimum level to log on standard error.",
        SETTINGS_LEVEL, SETTINGS_AT(struct plugin_settings, common.log_level, int), .fallback = "warn"},
    {"max-messages-per-second", "FUMIDAI_MAX_MESSAGES_PER_SECOND", "Pace of a session.",
        NUMBER(max_messages_per_second, "960", 0, 1000000)},
    {"burst-messages", "FUMIDAI_BURST_MESSAGES", "How many messages may go at once.",
        NUMBER(burst_messages, "512", 0, 1000000)},
    {"reconnect-for", "FUMIDAI_RECONNECT_FOR", "How long to try to get back what was lost.",
        DURATION(reconnect_for_ms, "10m", 1000, 24 * HOUR_MS)},
    {"keep-alive", "FUMIDAI_KEEP_ALIVE", "Keep a session in which a long query says nothing.",
        DURATION(keep_alive_ms, "0", 0, HOUR_MS)},
};
/* clang-format on */

static const struct settings_part parts[] = {
    {"Settings, from the environment only", rows, COUNT(rows), 0},
    {"The program itself", COMMON_SETTINGS_PROGRAM, COMMON_SETTINGS_PROGRAM_ROWS, 0},
};

const struct settings_command PLUGIN_SETTINGS = {
    .name = PLUGIN_SETTINGS_NAME,
    .usage = "fumidai " PLUGIN_SETTINGS_NAME " ANSWER REGION StartSession [PROFILE [REQUEST [ENDPOINT]]]",
    .purpose = "Serves the AWS CLI, ecsta and others in place of AWS's plugin, under a link of that name.",
    .parts = parts,
    .part_count = COUNT(parts),
    .size = sizeof(struct plugin_settings),
    .words = SETTINGS_NO_WORDS,
};
