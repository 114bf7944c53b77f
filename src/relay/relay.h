/*
 * relay: the second process. It is the Session Manager agent of this task: control channel, data channels,
 * port sessions, targets. Everything that comes from outside is parsed here, and nothing here may do more
 * than move bytes: see host/sandbox.h.
 */
#ifndef FUMIDAI_RELAY_RELAY_H
#define FUMIDAI_RELAY_RELAY_H

#include <stdbool.h>

#include "settings/task_settings.h"

/* Runs until the keeper goes away or a defect ends it; returns the exit status. */
int relay_run(const struct task_settings *config, bool serves_sessions, char *const *env);

#endif
