/*
 * relay: the second process. It is the Session Manager agent of this task: control channel, data channels, port sessions,
 * targets. Everything that comes from outside is parsed here, and nothing here may do more than move bytes: see
 * host/sandbox.h.
 */
#ifndef FUMIDAI_RELAY_H
#define FUMIDAI_RELAY_H

#include <stdbool.h>

#include "config.h"

/* argv[0] of a relay, which main tells it by: one that serves sessions and fixed relays, one that serves the latter only
 * (AWS's exec agent serves the sessions). */
#define RELAY_PROCESS_NAME       "fumidai-relay"
#define RELAY_PORTS_PROCESS_NAME "fumidai-ports"

/* Runs until the keeper goes away or a defect ends it; returns the exit status. */
int relay_run(const struct config *config, bool serves_sessions, char *const *env);

#endif
