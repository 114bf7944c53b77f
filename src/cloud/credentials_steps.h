/*
 * credentials_steps: what the steps of a credentials_chain do: which request comes after which, the process,
 * the question for a code. credentials_chain.c calls this, and owns the course of a fetch.
 */
#ifndef FUMIDAI_CLOUD_CREDENTIALS_STEPS_H
#define FUMIDAI_CLOUD_CREDENTIALS_STEPS_H

#include <stddef.h>

#include "aws/credential_chain.h"
#include "aws/github_token.h"
#include "aws/instance_metadata.h"
#include "aws/login_cache.h"
#include "aws/sso.h"
#include "aws/sts.h"
#include "cloud/credentials_chain.h"
#include "host/child.h"
#include "host/prompt.h"
#include "net/http_call.h"

/* What a function that makes a step go on says, unless it failed. */
enum { STEP_WAITS = 0 /* for an answer, a process, a person */, STEP_DONE = 1 /* `keys` are there */ };

struct credentials_chain {
    struct credentials_provider provider;
    struct credentials_source *source; /* of the fetch that is under way */
    struct network *network;
    char *const *env;
    char **environment; /* allocated: `env` and what the profile sets */
    struct credential_chain plan;
    char region[ENDPOINT_REGION_SIZE]; /* or empty */
    bool is_explained;
    bool had_keys; /* a fetch has succeeded */

    /* one fetch */
    size_t step;
    struct credentials keys; /* of the step before, then of this one */
    struct loop_timer soon;  /* the first step, from the loop */

    /* one step */
    unsigned tries;
    int (*answered)(struct credentials_chain *chain, const struct api_answer *answer, struct error *err);
    struct http_call *http;
    struct endpoint endpoint;
    struct loop_timer deadline; /* of a process, or of a person */
    struct child process;
    struct loop_watch output;
    struct loop_timer reap; /* between the end of a process's output and its own */
    struct prompt prompt;
    size_t text_len;
    char text[CREDENTIALS_CHAIN_BUFFER_SIZE]; /* a file, an identity token, what a process says */
    char body[CREDENTIALS_CHAIN_BUFFER_SIZE]; /* of a request, or its query */
    union {
        struct credentials_plan container;
        struct github_token_request github;
        struct sso_token sso;
        struct login_token login;
        struct {
            char token[INSTANCE_METADATA_TOKEN_SIZE];
            char role[INSTANCE_METADATA_ROLE_SIZE];
        } instance;
    } state;
};

/* Of the open fetch. */
const struct chain_step *credentials_steps_current(const struct credentials_chain *chain);

void credentials_steps_init(struct credentials_chain *chain);
int credentials_steps_start(struct credentials_chain *chain, struct error *err);
/* Ends what is under way, and wipes what it held. `keys` stay. */
void credentials_steps_end(struct credentials_chain *chain);

/* credentials_chain.c: goes on with what a step has come to. Last thing in a callback: the chain may be gone
 * afterwards. */
void credentials_chain_go_on(struct credentials_chain *chain, int result, struct error *err);

#endif
