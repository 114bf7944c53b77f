/*
 * client_plugin: session-manager-plugin, as the AWS CLI, ecsta and others call it (aws/plugin_args): one
 * session that somebody else has started, for one port here or for standard input and output.
 *
 *     argv ─► a shell? ── yes ──► exec session-manager-plugin.real, or a sentence
 *               │ no
 *               ▼
 *            data channel ─► handshake: a port, or stdin and stdout ─► until the session is over
 *
 * What it prints, and when, is what AWS's plugin prints, since scripts wait for it:
 *
 *     (empty line)
 *     Starting session with SessionId: ID
 *     the agent's CustomerMessage, if it has one
 *     Port N opened for sessionId ID.
 *     Waiting for connections...
 *     (empty line)
 *     Connection accepted for session [ID]              at the first connection
 *     SessionId: ID : why the session was closed        or: Exiting session with sessionId: ID.
 *
 * Of a session over standard input and output everything from the first byte on is the connection's: what is
 * to be said at the end goes to standard error, and only if something went wrong.
 *
 * SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGTSTP (as AWS's plugin takes it) end the session: by the flag
 * TerminateSession if the agent knows it, else by the API. A second one ends the process at once. The exit
 * status is 0 whatever happened, as AWS's: to any other the AWS CLI answers with an error of its own that
 * quotes these arguments.
 */
#ifndef FUMIDAI_CLIENT_PLUGIN_H
#define FUMIDAI_CLIENT_PLUGIN_H

#include "settings/plugin_settings.h"

enum {
    PLUGIN_TERMINATE_MS = 5 * 1000,  /* TerminateSession, credentials included */
    PLUGIN_LAST_BYTES_MS = 5 * 1000, /* for what has come to be read by whom it is for */
    PLUGIN_POOL_BLOCKS = 20 * 1024   /* 23 MB of address space, more than a tunnel may hold at once */
};

/* argv[0] is this program's name; the strings of argv and `env` are wiped where they hold the token. The exit
 * status. */
int plugin_run(const struct plugin_settings *config, int argc, char **argv, char *const *env);

#endif
