/*
 * plugin_settings: what session-manager-plugin takes from the environment. Its arguments are other programs'
 * (aws/plugin_args), so it has no flags.
 */
#ifndef FUMIDAI_SETTINGS_PLUGIN_SETTINGS_H
#define FUMIDAI_SETTINGS_PLUGIN_SETTINGS_H

#include <stdint.h>

#include "settings/common_settings.h"
#include "settings/settings.h"

/* Also the name under which programs look for it: called so, that is the command, whatever follows. */
#define PLUGIN_SETTINGS_NAME "session-manager-plugin"

struct plugin_settings {
    struct common_settings common;
    uint32_t max_messages_per_second; /* 0: no limit */
    uint32_t burst_messages;
    int64_t reconnect_for_ms;
    int64_t keep_alive_ms; /* 0: none */
};

extern const struct settings_command PLUGIN_SETTINGS;

#endif
