/*
 * keeper: PID 1 of the task. Small, because it must always reach its end: it reaps, forwards signals, runs
 * the wrapped command, watches AWS's exec agent, supervises the relay, and carries out what the terminator
 * decides. It parses nothing that came over a network: the relay and the workers do, each in a process of its
 * own.
 */
#ifndef FUMIDAI_KEEPER_KEEPER_H
#define FUMIDAI_KEEPER_KEEPER_H

#include "settings/task_settings.h"

/* Runs until the end; returns the exit status. `argv` is a copy of main's: relay and workers are started with
 * it, the first replaced by their names. */
int keeper_run(const struct task_settings *config, char **argv, char *const *env);

#endif
