/*
 * client: `fumidai forward`: local ports that lead into a VPC through an ECS task, for as long as a command
 * runs or a user wants them.
 *
 *     lifecycle/forward ── actions ──► client_task     which task
 *            ▲                         client_sessions  sessions, streams
 *            └───── facts ──────────── client_ports     what programs connect to
 *                                      host/child       the command
 *
 * One process: when it dies, its ports are free, and the command dies with it.
 */
#ifndef FUMIDAI_CLIENT_CLIENT_H
#define FUMIDAI_CLIENT_CLIENT_H

#include "settings/forward_settings.h"

/* Runs until the end; the exit status (lifecycle/forward.h). */
int client_run(const struct forward_settings *config, char *const *env);

#endif
