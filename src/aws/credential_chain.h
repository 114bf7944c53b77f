/*
 * credential_chain: where a client's keys come from, decided from its environment and AWS's shared files as
 * AWS's SDK for Go (v2) decides it. Nothing is asked here: the result is a plan of one source and the roles
 * that are assumed from there, one with the keys of the other, and the reasons why other sources are not in
 * it.
 *
 * The first source that is configured is taken, and a failing one is not skipped: keys of another identity
 * would be a surprise.
 *
 *     1. ENVIRONMENT    AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN   1 to 3 not when
 *     2. WEB_IDENTITY   AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_ARN                      a profile is named by
 *     3. GITHUB         ACTIONS_ID_TOKEN_REQUEST_URL, -_TOKEN, AWS_ROLE_ARN            flag; 3 not with
 *     4. the profile: the flag, AWS_PROFILE, AWS_DEFAULT_PROFILE, "default"            AWS_PROFILE either
 *          source_profile (the same for that profile), then role_arn
 *          KEYS           aws_access_key_id, aws_secret_access_key
 *          (by name)      credential_source = Environment, EcsContainer, Ec2InstanceMetadata
 *          WEB_IDENTITY   web_identity_token_file, role_arn
 *          SSO            sso_session, or sso_start_url and sso_region; sso_account_id, sso_role_name
 *          LOGIN          login_session
 *          PROCESS        credential_process
 *     5. CONTAINER      AWS_CONTAINER_CREDENTIALS_RELATIVE_URI, AWS_CONTAINER_CREDENTIALS_FULL_URI
 *     6. INSTANCE       EC2's metadata service
 *
 * The SDKs do not know GITHUB: a job of GitHub Actions that may ask for an identity token needs no action
 * that logs in first, and its keys are fetched anew for as long as it runs.
 *
 * What a profile says beside keys (region, endpoints, FIPS, dual-stack, CA bundle, retries) becomes variables
 * of the environment's own names, for those that the environment does not set: whoever reads settings from an
 * environment (aws/endpoint.h, net/network.h) takes both without knowing of profiles.
 *
 * Views show the caller's environment and the chain's own memory, which holds secrets: the chain is not
 * copied, and wiped at the end.
 */
#ifndef FUMIDAI_AWS_CREDENTIAL_CHAIN_H
#define FUMIDAI_AWS_CREDENTIAL_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "aws/profile.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/str.h"

enum {
    CHAIN_ROLES_MAX = 8, /* of source_profile, one after the other; two are common */
    CHAIN_STEPS_MAX = 1 + CHAIN_ROLES_MAX,
    CHAIN_VARIABLES_MAX = 24,   /* what a profile may set: see PROFILE_VARIABLES, and a URL a service */
    CHAIN_TEXT_SIZE = 32 * 1024 /* values of all profiles of the chain: a session token of 8 KiB, and room */
};

enum chain_source {
    CHAIN_ENVIRONMENT,
    CHAIN_WEB_IDENTITY,
    CHAIN_GITHUB,
    CHAIN_KEYS,
    CHAIN_SSO,
    CHAIN_LOGIN,
    CHAIN_PROCESS,
    CHAIN_CONTAINER,
    CHAIN_INSTANCE,
    CHAIN_ROLE, /* AssumeRole with the keys of the step before; never the first */
    CHAIN_SOURCES
};

struct chain_role {
    struct str arn;
    struct str session_name; /* empty: the caller makes one */
    struct str external_id;  /* the rest may be empty; of AssumeRole only */
    struct str mfa_serial;
    uint32_t duration_s; /* 0: STS's own, an hour */
};

struct chain_sso {
    struct str session; /* its name; empty: of the old kind, without a session */
    struct str start_url;
    struct str region;
    struct str account_id;
    struct str role_name;
};

/* Only what belongs to the source is set. */
struct chain_step {
    enum chain_source source;
    struct str profile; /* that says so; empty: the environment does, or nobody */
    struct str access_key_id, secret_access_key, session_token; /* ENVIRONMENT, KEYS */
    struct chain_role role;                                     /* WEB_IDENTITY, GITHUB, ROLE */
    struct str token_file;                                      /* WEB_IDENTITY */
    struct str token_url, token_bearer;                         /* GITHUB */
    struct chain_sso sso;
    struct str login_session;
    struct str process; /* a command for the shell */
};

struct credential_chain {
    struct chain_step steps[CHAIN_STEPS_MAX];
    size_t step_count;
    struct str profile; /* its name, also when there is no such profile */
    bool has_profile;
    const char *skipped[CHAIN_SOURCES]; /* why a source is not in the plan; null: it is, or comes behind */
    const char *variables[CHAIN_VARIABLES_MAX]; /* "NAME=value" */
    size_t variable_count;

    /* private */
    struct writer text;
    char memory[CHAIN_TEXT_SIZE];
};

/* `profile` is the flag's, or null. ERROR_NOT_FOUND for a profile that was named and does not exist;
 * ERROR_INVALID for what contradicts itself or is not complete, ERROR_TOO_LARGE beyond the bounds, naming the
 * profile and the setting. The files may go afterwards, the environment and `profile` may not. */
int credential_chain_plan(struct credential_chain *chain, char *const *env, const struct profile_files *files,
                          const char *profile, struct error *err);
void credential_chain_wipe(struct credential_chain *chain);

/* The variables and then the environment, null-terminated; false when `capacity` (entries) is too small. */
bool credential_chain_environment(const struct credential_chain *chain, char *const *env, char **out,
                                  size_t capacity);

/* For a person: "environment", "web identity token", "GitHub's identity token", "profile", ... */
const char *credential_chain_source_name(enum chain_source source);

/* Where the shared files are: AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE, else in ~/.aws. Empty when
 * there is no home directory, or the path does not fit. */
void credential_chain_config_path(char *const *env, char *out, size_t capacity);
void credential_chain_credentials_path(char *const *env, char *out, size_t capacity);

#endif
