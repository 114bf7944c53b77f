#include "cloud/credentials_chain.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aws/credential_chain.h"
#include "base/env.h"
#include "cloud/api_http.h"
#include "host/child.h"
#include "host/clock.h"
#include "host/files.h"
#include "host/log.h"

enum {
    STEP_WAITS = 0, /* for an answer, a process, a person */
    STEP_DONE = 1,  /* the keys are there */
    REAP_MS = 5     /* between the end of a process's output and its end */
};

struct credentials_chain {
    struct credentials_provider provider;
    struct credentials_source *source; /* of the fetch that is under way */
    struct network *network;
    char *const *env;
    char **environment; /* allocated */
    struct credential_chain plan;
    bool is_explained;

    /* one fetch */
    size_t step;
    unsigned tries; /* of this step */
    struct credentials keys;
    struct loop_timer soon; /* the first step, from the loop; the end of a process */
    struct loop_timer deadline;
    struct http_call *http;
    int (*answered)(struct credentials_chain *chain, const struct api_answer *answer, struct error *err);
    struct endpoint endpoint;
    struct credentials_plan container;
    struct child process;
    struct loop_watch output;
    size_t buffer_len; /* what a process has said */
    char buffer[CREDENTIALS_CHAIN_BUFFER_SIZE];
};

static const struct chain_step *current(const struct credentials_chain *chain)
{
    return &chain->plan.steps[chain->step];
}

static int64_t now_unix_ms(const struct credentials_chain *chain)
{
    return credentials_source_unix_ms(chain->source);
}

/* --- the course of a fetch --- */

static int start_step(struct credentials_chain *chain, struct error *err);

/* Releases what a step has open. */
static void end_step(struct credentials_chain *chain)
{
    struct loop *loop = chain->network->loop;
    http_call_close(chain->http);
    chain->http = NULL;
    loop_timer_remove(loop, &chain->soon);
    loop_timer_remove(loop, &chain->deadline);
    if (chain->output.fd >= 0) {
        int fd = chain->output.fd;
        loop_watch_remove(loop, &chain->output);
        close(fd);
    }
    if (chain->process.pid > 0) {
        child_signal(&chain->process, SIGKILL);
        waitpid(chain->process.pid, NULL, 0);
        child_ended(&chain->process);
    }
    bytes_wipe(chain->buffer, sizeof chain->buffer);
    chain->buffer_len = 0;
}

static void explain(struct credentials_chain *chain, const struct error *err)
{
    if (chain->is_explained)
        return;
    chain->is_explained = true;
    for (int i = 0; i < CHAIN_SOURCES; i++) {
        const char *why = chain->plan.skipped[i];
        const char *source = credential_chain_source_name((enum chain_source) i);
        if (why != NULL)
            log_event(LOG_WARN, "no credentials from this source", LOG_TEXT("source", source),
                      LOG_TEXT("reason", why));
    }
    const char *source = credential_chain_source_name(current(chain)->source);
    log_event(LOG_WARN, "no credentials from this source", LOG_TEXT("source", source),
              LOG_STR("profile", current(chain)->profile), LOG_TEXT("reason", err->text));
}

static void finish(struct credentials_chain *chain, struct error *err)
{
    struct credentials_source *source = chain->source;
    struct credentials fresh = chain->keys;
    credentials_wipe(&chain->keys);
    if (err->code == ERROR_NONE) {
        credentials_source_provided(source, &fresh, NULL);
    } else {
        struct str profile = current(chain)->profile;
        explain(chain, err);
        error_prefix(err, "credentials: %s%s%.*s: ", credential_chain_source_name(current(chain)->source),
                     profile.len > 0 ? " of profile " : "", STR_ARG(profile));
        credentials_source_provided(source, NULL, err);
    }
    credentials_wipe(&fresh);
}

/* Goes on with what a step has come to. Last thing in a callback: the chain may be closed behind it. */
static void go_on(struct credentials_chain *chain, int result, struct error *err)
{
    while (result == STEP_DONE) {
        end_step(chain);
        if (chain->step + 1 == chain->plan.step_count) {
            finish(chain, err);
            return;
        }
        chain->step++;
        chain->tries = 0;
        result = start_step(chain, err);
    }
    if (result < 0) {
        end_step(chain);
        finish(chain, err);
    }
}

/* --- requests --- */

static void http_done(struct http_call *http, void *owner)
{
    struct credentials_chain *chain = owner;
    struct error err = ERROR_INIT;
    int result = http_call_result(http, &err);
    if (result == 0) {
        struct api_answer answer = api_http_answer(http);
        chain->http = NULL; /* the next request may take its place */
        result = chain->answered(chain, &answer, &err);
        http_call_close(http);
    }
    go_on(chain, result, &err);
}

static int send(struct credentials_chain *chain, const struct api_request *request, int64_t limit_ms,
                int (*answered)(struct credentials_chain *chain, const struct api_answer *answer,
                                struct error *err),
                struct error *err)
{
    int64_t deadline_ms = clock_after_ms(clock_monotonic_ms(), limit_ms);
    chain->answered = answered;
    return api_http_start(&chain->http, chain->network, request, &chain->endpoint, deadline_ms,
                          DESCRIPTORS_FOR_CHANNELS, http_done, chain, err);
}

/* --- keys that are there already --- */

static int take_keys(struct credentials_chain *chain, struct error *err)
{
    const struct chain_step *step = current(chain);
    int result =
        credentials_set(&chain->keys, step->access_key_id, step->secret_access_key, step->session_token, err);
    return result == 0 ? STEP_DONE : result;
}

/* --- the container's endpoint --- */

static int container_answered(struct credentials_chain *chain, const struct api_answer *answer,
                              struct error *err)
{
    enum api_class class = credentials_read_answer(&chain->keys, answer, now_unix_ms(chain), err);
    return class == API_OK ? STEP_DONE : err->code;
}

static int ask_container(struct credentials_chain *chain, struct error *err)
{
    struct api_request request;
    struct str token = {NULL, 0};
    int result = credentials_plan_container(&chain->container, chain->env, err);
    if (result == 0 && chain->container.token_file[0] != '\0')
        result = files_read(chain->container.token_file, chain->buffer, CREDENTIALS_AUTHORIZATION_SIZE - 1,
                            &token, err);
    if (result == 0)
        result = credentials_make_request(&request, &chain->container, token, err);
    chain->endpoint = chain->container.endpoint;
    if (result == 0)
        result = send(chain, &request, CREDENTIALS_CHAIN_CALL_MS, container_answered, err);
    bytes_wipe(&chain->container, sizeof chain->container);
    return result;
}

/* --- credential_process --- */

static int process_ended(struct credentials_chain *chain, int status, struct error *err)
{
    struct str output = {chain->buffer, chain->buffer_len};
    if (status != 0)
        return error_set(err, ERROR_UNAVAILABLE, "the process ended with status %d",
                         child_exit_status(status));
    int result = credentials_read_process(&chain->keys, output, now_unix_ms(chain), err);
    return result == 0 ? STEP_DONE : result;
}

/* Behind its output the process itself ends. Whoever collects all children of this program may have been
 * first (ECHILD): then only the output counts. */
static void process_is_due(struct credentials_chain *chain)
{
    struct error err = ERROR_INIT;
    int status = 0;
    pid_t pid = waitpid(chain->process.pid, &status, WNOHANG);
    if (pid == 0) {
        loop_timer_set(chain->network->loop, &chain->soon, loop_now_ms(chain->network->loop) + REAP_MS);
        return;
    }
    child_ended(&chain->process);
    go_on(chain, process_ended(chain, pid > 0 ? status : 0, &err), &err);
}

static void output_ready(struct loop_watch *watch, uint32_t events)
{
    struct credentials_chain *chain = LOOP_OWNER(watch, struct credentials_chain, output);
    struct error err = ERROR_INIT;
    (void) events;
    size_t room = CREDENTIALS_DOCUMENT_MAX + 1 - chain->buffer_len;
    ssize_t got = read(watch->fd, chain->buffer + chain->buffer_len, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    chain->buffer_len += got > 0 ? (size_t) got : 0;
    if (chain->buffer_len > CREDENTIALS_DOCUMENT_MAX) {
        go_on(
            chain,
            error_set(&err, ERROR_TOO_LARGE, "the process says more than %d bytes", CREDENTIALS_DOCUMENT_MAX),
            &err);
        return;
    }
    if (got > 0)
        return;
    int fd = watch->fd;
    loop_watch_remove(chain->network->loop, watch);
    close(fd);
    process_is_due(chain);
}

static int start_process(struct credentials_chain *chain, struct error *err)
{
    char shell[] = "sh", option[] = "-c";
    struct loop *loop = chain->network->loop;
    int fd;
    if (!str_copy(current(chain)->process, chain->buffer, sizeof chain->buffer))
        return error_set(err, ERROR_TOO_LARGE, "the command is too long");
    int result =
        child_start_output(&chain->process, (char *[]){shell, option, chain->buffer, NULL}, &fd, err);
    if (result != 0)
        return result;
    result = loop_watch_add(loop, &chain->output, fd, EPOLLIN, output_ready, err);
    if (result != 0) {
        close(fd);
        return result;
    }
    loop_timer_set(loop, &chain->deadline, loop_now_ms(loop) + CREDENTIALS_CHAIN_PROCESS_MS);
    return STEP_WAITS;
}

/* --- steps --- */

static int start_step(struct credentials_chain *chain, struct error *err)
{
    switch (current(chain)->source) {
    case CHAIN_ENVIRONMENT:
    case CHAIN_KEYS:
        return take_keys(chain, err);
    case CHAIN_CONTAINER:
        return ask_container(chain, err);
    case CHAIN_PROCESS:
        return start_process(chain, err);
    case CHAIN_WEB_IDENTITY:
    case CHAIN_GITHUB:
    case CHAIN_SSO:
    case CHAIN_LOGIN:
    case CHAIN_INSTANCE:
    case CHAIN_ROLE:
    case CHAIN_SOURCES:
        break;
    }
    return error_set(err, ERROR_UNSUPPORTED, "not supported yet");
}

static void soon_expired(struct loop_timer *timer)
{
    struct credentials_chain *chain = LOOP_OWNER(timer, struct credentials_chain, soon);
    struct error err = ERROR_INIT;
    if (chain->process.pid > 0)
        process_is_due(chain);
    else
        go_on(chain, start_step(chain, &err), &err);
}

static void deadline_passed(struct loop_timer *timer)
{
    struct credentials_chain *chain = LOOP_OWNER(timer, struct credentials_chain, deadline);
    struct error err = ERROR_INIT;
    go_on(chain, error_set(&err, ERROR_TIMEOUT, "no answer within %d s", CREDENTIALS_CHAIN_PROCESS_MS / 1000),
          &err);
}

/* --- the provider --- */

static int fetch(struct credentials_provider *provider, struct credentials_source *source, struct error *err)
{
    struct credentials_chain *chain = LOOP_OWNER(provider, struct credentials_chain, provider);
    (void) err;
    chain->source = source;
    chain->step = 0;
    chain->tries = 0;
    loop_timer_set(chain->network->loop, &chain->soon, loop_now_ms(chain->network->loop));
    return 0;
}

static void close_chain(struct credentials_provider *provider)
{
    struct credentials_chain *chain = LOOP_OWNER(provider, struct credentials_chain, provider);
    end_step(chain);
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

/* A CA bundle that a profile names; the environment's is read when the network is opened. */
static void add_ca_bundle(struct credentials_chain *chain)
{
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
    made->output = LOOP_WATCH_INIT;
    loop_timer_init(&made->soon, soon_expired);
    loop_timer_init(&made->deadline, deadline_passed);
    int result = make_plan(made, profile, err);
    if (result == 0)
        result = make_environment(made, err);
    if (result != 0) {
        close_chain(&made->provider);
        return result;
    }
    add_ca_bundle(made);
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
