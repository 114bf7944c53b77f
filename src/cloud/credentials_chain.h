/*
 * credentials_chain: a client's keys, by the plan that aws/credential_chain.h makes of its environment and
 * AWS's shared files. It is the provider of a credentials_source (credentials_source.h has the rest: when
 * keys are fetched, who waits, when they are refreshed).
 *
 *     fetch ─► first step, its answers ─► next step (a role) ─► ... ─► credentials_source_provided
 *                      │                       │                                  ▲
 *                      └───────────────────────┴── the reason, and the step ──────┘
 *
 * One fetch at a time. Each request has a deadline of its own, so that a fetch ends; a credential_process has
 * CREDENTIALS_CHAIN_PROCESS_MS, and so has a person who is asked for a code. Files that change (token files,
 * caches) are read for each fetch, the shared files once.
 *
 * When the first fetch fails, one line for each source goes to stderr: what was tried, and why it is not it.
 * That failure is final where trying again can't help: the error's code says so (error_may_pass).
 */
#ifndef FUMIDAI_CLOUD_CREDENTIALS_CHAIN_H
#define FUMIDAI_CLOUD_CREDENTIALS_CHAIN_H

#include "base/error.h"
#include "cloud/credentials_source.h"
#include "net/network.h"

enum {
    CREDENTIALS_CHAIN_CALL_MS = 10 * 1000, /* name, connection, TLS and answer of one request */
    CREDENTIALS_CHAIN_INSTANCE_MS = 1000,  /* EC2's metadata service is on the same host, or not at all */
    CREDENTIALS_CHAIN_INSTANCE_TRIES = 2,  /* as AWS's SDKs ask it */
    CREDENTIALS_CHAIN_PROCESS_MS =
        60 * 1000, /* AWS's SDKs wait as long: a browser may be opened, a code typed */
    CREDENTIALS_CHAIN_BUFFER_SIZE = 32 * 1024 /* a token of 20,000 bytes and the request that carries it */
};

struct credentials_chain;

/* Reads the files and plans. `env` is main's, and outlives the chain; `profile` is the flag's, or null.
 * Errors of credential_chain_plan, of unreadable files, and ERROR_SYSTEM without memory. */
int credentials_chain_open(struct credentials_chain **chain, struct network *network, char *const *env,
                           const char *profile, struct error *err);
/* The chain belongs to the source from then on. */
struct credentials_provider *credentials_chain_provider(struct credentials_chain *chain);
/* `env` with what the profile adds to it: for whoever reads settings from an environment, but not for the
 * environment of a command. Lives as long as the chain. */
char *const *credentials_chain_environment(const struct credentials_chain *chain);

#endif
