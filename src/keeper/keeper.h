/*
 * keeper: PID 1 of the task. Small, because it must always reach the end: it reaps, forwards signals, runs
 * the wrapped command, watches AWS's exec agent, supervises the relay, and carries out what the terminator
 * decides.
 */
#ifndef FUMIDAI_KEEPER_KEEPER_H
#define FUMIDAI_KEEPER_KEEPER_H

#include "settings/config.h"

/* Runs until the end; returns the exit status. `relay_argv` is what the relay is
 * started with, but for its name. */
int keeper_run(const struct config *config, char **relay_argv, char *const *env);

#endif
