#include "cloud/credentials_chain.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "cloud/credentials_steps.h"
#include "host/console.h"
#include "host/files.h"
#include "host/log.h"

/* --- the course of a fetch --- */

static void explain_one(enum chain_source source, struct str profile, const char *reason)
{
    console_format(STDERR_FILENO, "fumidai: no credentials from %s%s%.*s: %s\n",
                   credential_chain_source_name(source), profile.len > 0 ? " of profile " : "",
                   STR_ARG(profile), reason);
}

/* A line for each source, once, for the person who has to choose one. */
static void explain(struct credentials_chain *chain, const struct error *err)
{
    const struct chain_step *step = credentials_steps_current(chain);
    if (chain->is_explained)
        return;
    chain->is_explained = true;
    for (int i = 0; i < CHAIN_SOURCES; i++)
        if (chain->plan.skipped[i] != NULL)
            explain_one((enum chain_source) i, str_from(NULL), chain->plan.skipped[i]);
    explain_one(step->source, step->profile, err->text);
}

/* Until there were keys, nobody waits for what this machine can't give: a program of its own, or the service
 * of EC2 where nothing is configured. */
static void make_final(const struct credentials_chain *chain, struct error *err)
{
    const struct chain_step *step = credentials_steps_current(chain);
    bool is_last_resort = step->source == CHAIN_INSTANCE && step->profile.len == 0;
    if (is_last_resort)
        error_prefix(err, "nothing else is configured, and ");
    if (error_may_pass(err) && (is_last_resort || step->source == CHAIN_PROCESS))
        err->code = ERROR_NOT_FOUND;
}

static void fail(struct credentials_chain *chain, struct error *err)
{
    const struct chain_step *step = credentials_steps_current(chain);
    if (!chain->had_keys) {
        explain(chain, err);
        make_final(chain, err);
    }
    error_prefix(err, "credentials: %s%s%.*s: ", credential_chain_source_name(step->source),
                 step->profile.len > 0 ? " of profile " : "", STR_ARG(step->profile));
    credentials_source_provided(chain->source, NULL, err);
}

static void finish(struct credentials_chain *chain, struct error *err)
{
    struct credentials fresh = chain->keys;
    credentials_wipe(&chain->keys);
    if (err->code == ERROR_NONE) {
        chain->had_keys = true;
        credentials_source_provided(chain->source, &fresh, NULL);
    } else {
        fail(chain, err);
    }
    credentials_wipe(&fresh);
}

void credentials_chain_go_on(struct credentials_chain *chain, int result, struct error *err)
{
    while (result == STEP_DONE) {
        credentials_steps_end(chain);
        if (chain->step + 1 == chain->plan.step_count) {
            finish(chain, err);
            return;
        }
        chain->step++;
        result = credentials_steps_start(chain, err);
    }
    if (result < 0) {
        credentials_steps_end(chain);
        finish(chain, err);
    }
}

static void begin(struct loop_timer *timer)
{
    struct credentials_chain *chain = LOOP_OWNER(timer, struct credentials_chain, soon);
    struct error err = ERROR_INIT;
    credentials_chain_go_on(chain, credentials_steps_start(chain, &err), &err);
}

/* --- the provider --- */

static int fetch(struct credentials_provider *provider, struct credentials_source *source, struct error *err)
{
    struct credentials_chain *chain = LOOP_OWNER(provider, struct credentials_chain, provider);
    (void) err;
    chain->source = source;
    chain->step = 0;
    loop_timer_set(chain->network->loop, &chain->soon, loop_now_ms(chain->network->loop));
    return 0;
}

static void close_chain(struct credentials_provider *provider)
{
    struct credentials_chain *chain = LOOP_OWNER(provider, struct credentials_chain, provider);
    loop_timer_remove(chain->network->loop, &chain->soon);
    credentials_steps_end(chain);
    free(chain->environment);
    credential_chain_wipe(&chain->plan);
    bytes_wipe(chain, sizeof *chain);
    free(chain);
}

/* --- opening --- */

/* A shared file that is not there is an empty one. */
static int read_shared_file(const char *path, char **memory, struct str *text, struct error *err)
{
    *text = (struct str){NULL, 0};
    *memory = malloc(PROFILE_FILE_MAX);
    if (*memory == NULL)
        return error_set(err, ERROR_SYSTEM, "out of memory");
    struct error reason = ERROR_INIT;
    int result = path[0] == '\0' ? 0 : files_read(path, *memory, PROFILE_FILE_MAX, text, &reason);
    if (result == ERROR_SYSTEM) { /* as AWS's SDKs: one that can't be read is empty, too */
        log_event(LOG_WARN, "can't read a shared file of AWS's settings", LOG_ERR(&reason));
        return 0;
    }
    return result == ERROR_TOO_LARGE ? error_set(err, result, "%s", reason.text) : 0;
}

static int make_plan(struct credentials_chain *chain, const char *profile, struct error *err)
{
    char path[FILES_PATH_SIZE], *config = NULL, *credentials = NULL;
    struct profile_files files;
    credential_chain_config_path(chain->env, path, sizeof path);
    int result = read_shared_file(path, &config, &files.config, err);
    if (result == 0) {
        credential_chain_credentials_path(chain->env, path, sizeof path);
        result = read_shared_file(path, &credentials, &files.credentials, err);
    }
    if (result == 0)
        result = credential_chain_plan(&chain->plan, chain->env, &files, profile, err);
    if (credentials != NULL)
        bytes_wipe(credentials, files.credentials.len);
    if (config != NULL)
        bytes_wipe(config, files.config.len);
    free(credentials);
    free(config);
    return result;
}

static int make_environment(struct credentials_chain *chain, struct error *err)
{
    size_t count = 0;
    while (chain->env != NULL && chain->env[count] != NULL)
        count++;
    count += CHAIN_VARIABLES_MAX + 1;
    chain->environment = calloc(count, sizeof *chain->environment);
    if (chain->environment == NULL)
        return error_set(err, ERROR_SYSTEM, "out of memory");
    credential_chain_environment(&chain->plan, chain->env, chain->environment, count);
    return 0;
}

/* Not all need one. */
static int find_region(struct credentials_chain *chain, struct error *err)
{
    struct error reason = ERROR_INIT;
    int result = endpoint_find_region(chain->region, chain->environment, str_from(NULL), &reason);
    return result == 0 || result == ERROR_NOT_FOUND ? 0 : error_set(err, reason.code, "%s", reason.text);
}

/* Whether requests go to hosts over TLS that are not AWS's. */
static bool meets_others(const struct credentials_chain *chain)
{
    static const char PREFIX[] = "AWS_ENDPOINT_URL";
    enum chain_source source = chain->plan.steps[0].source;
    bool is_remote = str_starts_with(env_get(chain->env, "AWS_CONTAINER_CREDENTIALS_FULL_URI"), "https:");
    if (source == CHAIN_GITHUB || (source == CHAIN_CONTAINER && is_remote))
        return true;
    for (char *const *variable = chain->environment; *variable != NULL; variable++) {
        struct str name, value;
        str_cut(str_from(*variable), '=', &name, &value);
        if (str_starts_with(name, PREFIX) && str_starts_with(value, "https:"))
            return true;
    }
    return false;
}

/* A CA bundle that a profile names; the environment's is read when the network is opened. And the machine's
 * own, for who did not name one. */
static void add_ca_bundles(struct credentials_chain *chain)
{
    if (env_get(chain->environment, "SSL_CERT_FILE").len == 0 && meets_others(chain))
        trust_add_system(&chain->network->trust);
    if (env_get(chain->env, "AWS_CA_BUNDLE").len == 0)
        trust_add_file(&chain->network->trust, env_get(chain->environment, "AWS_CA_BUNDLE").ptr);
}

int credentials_chain_open(struct credentials_chain **chain, struct network *network, char *const *env,
                           const char *profile, struct error *err)
{
    *chain = NULL;
    struct credentials_chain *made = calloc(1, sizeof *made);
    if (made == NULL)
        return error_set(err, ERROR_SYSTEM, "out of memory");
    made->provider = (struct credentials_provider){.fetch = fetch, .close = close_chain};
    made->network = network;
    made->env = env;
    loop_timer_init(&made->soon, begin);
    credentials_steps_init(made);
    int result = make_plan(made, profile, err);
    if (result == 0)
        result = make_environment(made, err);
    if (result == 0)
        result = find_region(made, err);
    if (result != 0) {
        close_chain(&made->provider);
        return result;
    }
    add_ca_bundles(made);
    *chain = made;
    return 0;
}

struct credentials_provider *credentials_chain_provider(struct credentials_chain *chain)
{
    return &chain->provider;
}

char *const *credentials_chain_environment(const struct credentials_chain *chain)
{
    return chain->environment;
}
