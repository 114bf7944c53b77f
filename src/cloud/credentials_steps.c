#include "cloud/credentials_steps.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aws/sigv4.h"
#include "base/env.h"
#include "base/uuid.h"
#include "cloud/api_http.h"
#include "host/clock.h"
#include "host/files.h"
#include "host/log.h"
#include "host/random.h"
#include "net/dpop.h"

enum { REAP_MS = 5 };

const struct chain_step *credentials_steps_current(const struct credentials_chain *chain)
{
    return &chain->plan.steps[chain->step];
}

static int64_t now_unix_ms(const struct credentials_chain *chain)
{
    return credentials_source_unix_ms(chain->source);
}

/* --- requests --- */

static void http_done(struct http_call *http, void *owner)
{
    struct credentials_chain *chain = owner;
    struct error err = ERROR_INIT;
    int result = http_call_result(http, &err);
    chain->http = NULL; /* the next request may take its place */
    if (result == 0) {
        struct api_answer answer = api_http_answer(http);
        result = chain->answered(chain, &answer, &err);
    } else if (credentials_steps_current(chain)->source == CHAIN_INSTANCE &&
               ++chain->tries < CREDENTIALS_CHAIN_INSTANCE_TRIES) {
        err = (struct error) ERROR_INIT;
        result = credentials_steps_start(chain, &err);
    }
    http_call_close(http);
    credentials_chain_go_on(chain, result, &err);
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

/* Reads a file that the plan names into `text`. */
static int read_file(struct credentials_chain *chain, struct str path, struct str *text, struct error *err)
{
    char terminated[FILES_PATH_SIZE];
    *text = (struct str){NULL, 0};
    if (!str_copy(path, terminated, sizeof terminated))
        return error_set(err, ERROR_TOO_LARGE, "the path of a file is too long");
    return files_read(terminated, chain->text, sizeof chain->text, text, err);
}

/* --- keys that are there already --- */

static int take_keys(struct credentials_chain *chain, struct error *err)
{
    const struct chain_step *step = credentials_steps_current(chain);
    int result =
        credentials_set(&chain->keys, step->access_key_id, step->secret_access_key, step->session_token, err);
    return result == 0 ? STEP_DONE : result;
}

/* --- the endpoint of a container, and EC2's --- */

static int keys_answered(struct credentials_chain *chain, const struct api_answer *answer, struct error *err)
{
    enum api_class class = credentials_read_answer(&chain->keys, answer, now_unix_ms(chain), err);
    return class == API_OK ? STEP_DONE : err->code;
}

static int ask_container(struct credentials_chain *chain, struct error *err)
{
    struct credentials_plan *plan = &chain->state.container;
    struct api_request request;
    struct str token = {NULL, 0};
    int result = credentials_plan_container(plan, chain->env, err);
    if (result == 0 && plan->token_file[0] != '\0')
        result = read_file(chain, str_from(plan->token_file), &token, err);
    if (result == 0 && token.len >= CREDENTIALS_AUTHORIZATION_SIZE)
        result = error_set(err, ERROR_TOO_LARGE, "%s has more than %d bytes", plan->token_file,
                           CREDENTIALS_AUTHORIZATION_SIZE - 1);
    if (result == 0)
        result = credentials_make_request(&request, plan, token, err);
    chain->endpoint = plan->endpoint;
    return result != 0 ? result : send(chain, &request, CREDENTIALS_CHAIN_CALL_MS, keys_answered, err);
}

static int ask_for_instance_keys(struct credentials_chain *chain, struct error *err);

static int instance_role_answered(struct credentials_chain *chain, const struct api_answer *answer,
                                  struct error *err)
{
    int result =
        instance_metadata_read_line(answer, chain->state.instance.role, INSTANCE_METADATA_ROLE_SIZE, err);
    if (result == ERROR_NOT_FOUND)
        return error_set(err, result, "the instance has no role");
    return result != 0 ? result : ask_for_instance_keys(chain, err);
}

/* First for the role's name, then for its keys. */
static int ask_for_instance_keys(struct credentials_chain *chain, struct error *err)
{
    const char *role = chain->state.instance.role;
    struct api_request request;
    int result =
        instance_metadata_make_request(&request, &chain->endpoint, chain->state.instance.token, role, err);
    if (result != 0)
        return result;
    return send(chain, &request, CREDENTIALS_CHAIN_INSTANCE_MS,
                role[0] == '\0' ? instance_role_answered : keys_answered, err);
}

static int instance_token_answered(struct credentials_chain *chain, const struct api_answer *answer,
                                   struct error *err)
{
    int result =
        instance_metadata_read_line(answer, chain->state.instance.token, INSTANCE_METADATA_TOKEN_SIZE, err);
    chain->state.instance.role[0] = '\0';
    return result != 0 ? result : ask_for_instance_keys(chain, err);
}

static int ask_instance(struct credentials_chain *chain, struct error *err)
{
    struct api_request request;
    int result = instance_metadata_find(&chain->endpoint, chain->environment, err);
    if (result == 0)
        result = instance_metadata_make_token_request(&request, &chain->endpoint, err);
    return result != 0 ? result
                       : send(chain, &request, CREDENTIALS_CHAIN_INSTANCE_MS, instance_token_answered, err);
}

/* --- roles --- */

static int ask_sts(struct credentials_chain *chain, enum sts_action action, struct str token_or_code,
                   struct error *err);

static int sts_answered(struct credentials_chain *chain, enum sts_action action,
                        const struct api_answer *answer, struct error *err)
{
    struct credentials fresh;
    struct api_failure failure = {.server_unix_ms = -1};
    enum api_class class = sts_read_answer(&fresh, action, answer, now_unix_ms(chain), &failure, err);
    if (class == API_CLOCK && chain->tries++ == 0) {
        chain->source->clock_offset_ms = failure.server_unix_ms - clock_unix_ms();
        return ask_sts(chain, action, (struct str){chain->text, chain->text_len}, err);
    }
    if (class != API_OK)
        return err->code;
    chain->keys = fresh;
    credentials_wipe(&fresh);
    return STEP_DONE;
}

static int role_answered(struct credentials_chain *chain, const struct api_answer *answer, struct error *err)
{
    return sts_answered(chain, STS_ASSUME_ROLE, answer, err);
}

static int web_identity_answered(struct credentials_chain *chain, const struct api_answer *answer,
                                 struct error *err)
{
    return sts_answered(chain, STS_ASSUME_ROLE_WITH_WEB_IDENTITY, answer, err);
}

static int find_sts(struct credentials_chain *chain, struct error *err)
{
    if (chain->region[0] == '\0')
        return error_set(err, ERROR_NOT_FOUND,
                         "no region to ask STS in: set AWS_REGION, or region in the profile");
    return endpoint_for_service(&chain->endpoint, ENDPOINT_STS, str_from(chain->region), chain->environment,
                                err);
}

/* With the identity token, or the MFA code if there is one. */
static int ask_sts(struct credentials_chain *chain, enum sts_action action, struct str token_or_code,
                   struct error *err)
{
    const struct chain_role *plan = &credentials_steps_current(chain)->role;
    bool is_signed = action == STS_ASSUME_ROLE;
    char name[32];
    struct writer session = writer_of(name, sizeof name), body = writer_of(chain->body, STS_BODY_SIZE);
    struct sts_role role = {.arn = plan->arn,
                            .session_name = plan->session_name,
                            .duration_s = plan->duration_s,
                            .external_id = plan->external_id,
                            .mfa_serial = plan->mfa_serial};
    struct api_request request;
    struct sigv4_signature signature;
    writer_format(&session, "fumidai-%lld", (long long) (now_unix_ms(chain) / 1000));
    if (role.session_name.len == 0)
        role.session_name = writer_view(&session);
    if (is_signed)
        role.mfa_code = token_or_code;
    else
        role.web_identity_token = token_or_code;
    sts_write_body(&body, action, &role);
    if (body.failed)
        return error_set(err, ERROR_TOO_LARGE, "the request for role %.*s is too long", STR_ARG(plan->arn));
    int result = find_sts(chain, err);
    if (result == 0)
        result = sts_make_request(&request, &chain->endpoint, writer_view(&body), err);
    if (result == 0 && is_signed)
        result = sigv4_sign(&request, &signature, &chain->keys, str_from(chain->region), STR_LITERAL("sts"),
                            now_unix_ms(chain), err);
    return result != 0 ? result
                       : send(chain, &request, CREDENTIALS_CHAIN_CALL_MS,
                              is_signed ? role_answered : web_identity_answered, err);
}

static void code_answered(struct prompt *prompt, struct str line, struct error *err)
{
    struct credentials_chain *chain = LOOP_OWNER(prompt, struct credentials_chain, prompt);
    int result = err->code;
    loop_timer_remove(chain->network->loop, &chain->deadline);
    if (result == 0 && str_copy(line, chain->text, sizeof chain->text)) {
        chain->text_len = line.len;
        result = ask_sts(chain, STS_ASSUME_ROLE, line, err);
    }
    credentials_chain_go_on(chain, result, err);
}

static int ask_for_code(struct credentials_chain *chain, struct str serial, struct error *err)
{
    char memory[512];
    struct writer question = writer_of(memory, sizeof memory);
    struct loop *loop = chain->network->loop;
    writer_text(&question, "MFA code of ");
    writer_str(&question, serial);
    writer_text(&question, ": ");
    int result = prompt_open(&chain->prompt, loop, writer_view(&question), code_answered, err);
    if (result != 0) {
        error_prefix(err, "the role wants a code of %.*s: ", STR_ARG(serial));
        return result;
    }
    loop_timer_set(loop, &chain->deadline, loop_now_ms(loop) + CREDENTIALS_CHAIN_PROCESS_MS);
    return STEP_WAITS;
}

static int ask_for_role(struct credentials_chain *chain, struct error *err)
{
    struct str serial = credentials_steps_current(chain)->role.mfa_serial;
    return serial.len > 0 ? ask_for_code(chain, serial, err)
                          : ask_sts(chain, STS_ASSUME_ROLE, str_from(NULL), err);
}

/* --- identity tokens --- */

/* `text` begins with it. */
static int use_identity_token(struct credentials_chain *chain, struct str token, struct error *err)
{
    token = str_trim(token);
    if (token.len == 0 || token.len > STS_TOKEN_MAX)
        return error_set(err, ERROR_INVALID, "an identity token of %zu bytes", token.len);
    memmove(chain->text, token.ptr, token.len);
    chain->text_len = token.len;
    return ask_sts(chain, STS_ASSUME_ROLE_WITH_WEB_IDENTITY, (struct str){chain->text, token.len}, err);
}

static int use_token_file(struct credentials_chain *chain, struct error *err)
{
    struct str token;
    int result = read_file(chain, credentials_steps_current(chain)->token_file, &token, err);
    return result != 0 ? result : use_identity_token(chain, token, err);
}

static int github_answered(struct credentials_chain *chain, const struct api_answer *answer,
                           struct error *err)
{
    int result = github_token_read_answer(answer, chain->text, STS_TOKEN_MAX + 1, err);
    return result != 0 ? result : use_identity_token(chain, str_from(chain->text), err);
}

static int ask_github(struct credentials_chain *chain, struct error *err)
{
    const struct chain_step *step = credentials_steps_current(chain);
    struct api_request request;
    int result =
        github_token_make_request(&request, &chain->state.github, step->token_url, step->token_bearer, err);
    chain->endpoint = chain->state.github.endpoint;
    return result != 0 ? result : send(chain, &request, CREDENTIALS_CHAIN_CALL_MS, github_answered, err);
}

/* --- IAM Identity Center --- */

static int end_path(struct writer *w, const char *name, struct error *err)
{
    writer_text(w, name);
    writer_terminate(w);
    return w->failed || w->len == w->capacity
               ? error_set(err, ERROR_TOO_LARGE, "the path of the home directory is too long")
               : 0;
}

/* Others read the file, too. What can't be written is used all the same. */
static void keep_file(int result, const char *path, const struct writer *text, struct error *err)
{
    if (result == 0)
        result = text->failed ? error_set(err, ERROR_TOO_LARGE, "%s: it is too long", path)
                              : files_replace(path, writer_view(text), err);
    if (result != 0)
        log_event(LOG_WARN, "can't keep a new token in its file", LOG_ERR(err));
}

static int find_cache(const struct credentials_chain *chain, char path[FILES_PATH_SIZE], struct error *err)
{
    const struct chain_sso *sso = &credentials_steps_current(chain)->sso;
    struct writer w = writer_of(path, FILES_PATH_SIZE);
    char name[SSO_FILE_NAME_SIZE];
    sso_cache_name(sso->session.len > 0 ? sso->session : sso->start_url, name);
    writer_str(&w, env_get(chain->env, "HOME"));
    writer_text(&w, "/.aws/sso/cache/");
    return end_path(&w, name, err);
}

/* The file's text stays in `text`. */
static int read_cache(struct credentials_chain *chain, struct sso_token *token, struct error *err)
{
    char path[FILES_PATH_SIZE];
    struct str text;
    int result = find_cache(chain, path, err);
    if (result == 0)
        result = read_file(chain, str_from(path), &text, err);
    if (result == ERROR_NOT_FOUND)
        return error_set(err, result, "nobody has logged in: `aws sso login` writes %s", path);
    if (result != 0)
        return result;
    chain->text_len = text.len;
    result = sso_read_cache(token, text, err);
    return result != 0 ? error_prefix(err, "%s: ", path) : 0;
}

static void write_cache(struct credentials_chain *chain)
{
    char path[FILES_PATH_SIZE];
    struct error err = ERROR_INIT;
    struct writer w = writer_of(chain->body, sizeof chain->body);
    sso_write_cache(&w, (struct str){chain->text, chain->text_len}, &chain->state.sso);
    keep_file(find_cache(chain, path, &err), path, &w, &err);
}

static int ask_for_sso_keys(struct credentials_chain *chain, struct error *err);

static int refresh_answered(struct credentials_chain *chain, const struct api_answer *answer,
                            struct error *err)
{
    int result = sso_read_refresh(&chain->state.sso, answer, now_unix_ms(chain), err);
    if (result != 0)
        return result;
    write_cache(chain);
    return ask_for_sso_keys(chain, err);
}

static int refresh_sso(struct credentials_chain *chain, struct error *err)
{
    struct str region = credentials_steps_current(chain)->sso.region;
    struct writer body = writer_of(chain->body, sizeof chain->body);
    struct api_request request;
    if (!sso_can_refresh(&chain->state.sso))
        return error_set(err, ERROR_DENIED, "the session has expired: log in again with `aws sso login`");
    sso_write_refresh(&body, &chain->state.sso);
    int result = endpoint_for_service(&chain->endpoint, ENDPOINT_SSO_OIDC, region, chain->environment, err);
    if (result == 0)
        result = sso_make_refresh(&request, &chain->endpoint, writer_view(&body), err);
    return result != 0 ? result : send(chain, &request, CREDENTIALS_CHAIN_CALL_MS, refresh_answered, err);
}

/* A token that is refused before its time is refreshed, once. */
static int sso_keys_answered(struct credentials_chain *chain, const struct api_answer *answer,
                             struct error *err)
{
    if (answer->status == 401 && sso_can_refresh(&chain->state.sso) && chain->tries++ == 0)
        return refresh_sso(chain, err);
    int result = sso_read_keys(&chain->keys, answer, now_unix_ms(chain), err);
    return result == 0 ? STEP_DONE : result;
}

static int ask_for_sso_keys(struct credentials_chain *chain, struct error *err)
{
    const struct chain_sso *sso = &credentials_steps_current(chain)->sso;
    struct api_request request;
    int result = endpoint_for_service(&chain->endpoint, ENDPOINT_SSO, sso->region, chain->environment, err);
    if (result == 0)
        result = sso_make_get_keys(&request, &chain->endpoint, &chain->state.sso, sso->account_id,
                                   sso->role_name, chain->body, err);
    return result != 0 ? result : send(chain, &request, CREDENTIALS_CHAIN_CALL_MS, sso_keys_answered, err);
}

static int use_sso(struct credentials_chain *chain, struct error *err)
{
    int result = read_cache(chain, &chain->state.sso, err);
    if (result != 0)
        return result;
    return sso_has_expired(&chain->state.sso, now_unix_ms(chain)) ? refresh_sso(chain, err)
                                                                  : ask_for_sso_keys(chain, err);
}

/* --- aws login --- */

static int find_login(const struct credentials_chain *chain, char path[FILES_PATH_SIZE], struct error *err)
{
    struct str directory = env_get(chain->env, "AWS_LOGIN_CACHE_DIRECTORY");
    struct writer w = writer_of(path, FILES_PATH_SIZE);
    char name[LOGIN_CACHE_FILE_NAME_SIZE];
    login_cache_name(credentials_steps_current(chain)->login_session, name);
    writer_str(&w, directory.len > 0 ? directory : env_get(chain->env, "HOME"));
    writer_text(&w, directory.len > 0 ? "/" : "/.aws/login/cache/");
    return end_path(&w, name, err);
}

static void write_login(struct credentials_chain *chain)
{
    char path[FILES_PATH_SIZE];
    struct error err = ERROR_INIT;
    struct writer w = writer_of(chain->body, sizeof chain->body);
    login_cache_write(&w, (struct str){chain->text, chain->text_len}, &chain->state.login);
    keep_file(find_login(chain, path, &err), path, &w, &err);
}

static int login_answered(struct credentials_chain *chain, const struct api_answer *answer, struct error *err)
{
    int result = login_cache_read_refresh(&chain->state.login, answer, now_unix_ms(chain), err);
    if (result != 0)
        return result;
    write_login(chain);
    chain->keys = chain->state.login.keys;
    return STEP_DONE;
}

/* The proof names the URL as it is sent. */
static int write_proof(struct credentials_chain *chain, struct writer *proof, struct error *err)
{
    char memory[ENDPOINT_AUTHORITY_SIZE + ENDPOINT_PATH_SIZE + 32], jti[UUID_TEXT_SIZE];
    struct writer url = writer_of(memory, sizeof memory);
    uint8_t random[UUID_SIZE], uuid[UUID_SIZE];
    writer_text(&url, chain->endpoint.tls ? "https://" : "http://");
    writer_text(&url, chain->endpoint.authority);
    writer_text(&url, chain->endpoint.path);
    writer_text(&url, "/v1/token");
    random_bytes(random, sizeof random);
    uuid_v4(uuid, random);
    uuid_format(uuid, jti);
    return dpop_write_proof(proof, str_from(chain->state.login.key), "POST", writer_view(&url), jti,
                            now_unix_ms(chain) / 1000, err);
}

static int refresh_login(struct credentials_chain *chain, struct error *err)
{
    char memory[DPOP_PROOF_SIZE];
    struct writer body = writer_of(chain->body, sizeof chain->body), proof = writer_of(memory, sizeof memory);
    struct api_request request;
    if (chain->region[0] == '\0')
        return error_set(err, ERROR_NOT_FOUND, "no region to renew the login in: set AWS_REGION");
    login_cache_write_refresh(&body, &chain->state.login);
    int result = endpoint_for_service(&chain->endpoint, ENDPOINT_SIGNIN, str_from(chain->region),
                                      chain->environment, err);
    if (result == 0)
        result = write_proof(chain, &proof, err);
    if (result == 0)
        result = login_cache_make_refresh(&request, &chain->endpoint, writer_view(&body), writer_view(&proof),
                                          err);
    return result != 0 ? result : send(chain, &request, CREDENTIALS_CHAIN_CALL_MS, login_answered, err);
}

static int use_login(struct credentials_chain *chain, struct error *err)
{
    char path[FILES_PATH_SIZE];
    struct str text;
    int result = find_login(chain, path, err);
    if (result == 0)
        result = read_file(chain, str_from(path), &text, err);
    if (result == ERROR_NOT_FOUND)
        return error_set(err, result, "nobody has logged in: `aws login` writes %s", path);
    if (result != 0)
        return result;
    chain->text_len = text.len;
    result = login_cache_read(&chain->state.login, text, now_unix_ms(chain), err);
    if (result != 0)
        return error_prefix(err, "%s: ", path);
    if (login_cache_has_expired(&chain->state.login, now_unix_ms(chain)))
        return refresh_login(chain, err);
    chain->keys = chain->state.login.keys;
    return STEP_DONE;
}

/* --- credential_process --- */

static int process_ended(struct credentials_chain *chain, int status, struct error *err)
{
    struct str output = {chain->text, chain->text_len};
    if (status != 0)
        return error_set(err, ERROR_UNAVAILABLE, "the process ended with status %d",
                         child_exit_status(status));
    int result = credentials_read_process(&chain->keys, output, now_unix_ms(chain), err);
    return result == 0 ? STEP_DONE : result;
}

/* Behind its output the process itself ends. Whoever collects all children of this program may have been
 * first (ECHILD): then only the output counts. */
static void collect_process(struct loop_timer *timer)
{
    struct credentials_chain *chain = LOOP_OWNER(timer, struct credentials_chain, reap);
    struct error err = ERROR_INIT;
    int status = 0;
    pid_t pid = waitpid(chain->process.pid, &status, WNOHANG);
    if (pid == 0) {
        loop_timer_set(chain->network->loop, timer, loop_now_ms(chain->network->loop) + REAP_MS);
        return;
    }
    child_ended(&chain->process);
    credentials_chain_go_on(chain, process_ended(chain, pid > 0 ? status : 0, &err), &err);
}

static void close_output(struct credentials_chain *chain)
{
    int fd = chain->output.fd;
    if (fd < 0)
        return;
    loop_watch_remove(chain->network->loop, &chain->output);
    close(fd);
}

static void output_ready(struct loop_watch *watch, uint32_t events)
{
    struct credentials_chain *chain = LOOP_OWNER(watch, struct credentials_chain, output);
    struct error err = ERROR_INIT;
    (void) events;
    size_t room = CREDENTIALS_DOCUMENT_MAX + 1 - chain->text_len;
    ssize_t got = read(watch->fd, chain->text + chain->text_len, room);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    chain->text_len += got > 0 ? (size_t) got : 0;
    if (chain->text_len > CREDENTIALS_DOCUMENT_MAX) {
        error_set(&err, ERROR_TOO_LARGE, "the process says more than %d bytes", CREDENTIALS_DOCUMENT_MAX);
        credentials_chain_go_on(chain, err.code, &err);
    } else if (got <= 0) {
        close_output(chain);
        collect_process(&chain->reap);
    }
}

static int start_process(struct credentials_chain *chain, struct error *err)
{
    char shell[] = "sh", option[] = "-c";
    struct loop *loop = chain->network->loop;
    int fd;
    if (!str_copy(credentials_steps_current(chain)->process, chain->body, sizeof chain->body))
        return error_set(err, ERROR_TOO_LARGE, "the command is too long");
    chain->text_len = 0;
    int result = child_start_output(&chain->process, (char *[]){shell, option, chain->body, NULL}, &fd, err);
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

static void deadline_passed(struct loop_timer *timer)
{
    struct credentials_chain *chain = LOOP_OWNER(timer, struct credentials_chain, deadline);
    struct error err = ERROR_INIT;
    error_set(&err, ERROR_TIMEOUT, "no answer within %d s", CREDENTIALS_CHAIN_PROCESS_MS / 1000);
    credentials_chain_go_on(chain, err.code, &err);
}

/* --- the surface --- */

void credentials_steps_init(struct credentials_chain *chain)
{
    chain->output = LOOP_WATCH_INIT;
    chain->prompt = PROMPT_INIT;
    loop_timer_init(&chain->deadline, deadline_passed);
    loop_timer_init(&chain->reap, collect_process);
}

int credentials_steps_start(struct credentials_chain *chain, struct error *err)
{
    switch (credentials_steps_current(chain)->source) {
    case CHAIN_ENVIRONMENT:
    case CHAIN_KEYS:
        return take_keys(chain, err);
    case CHAIN_WEB_IDENTITY:
        return use_token_file(chain, err);
    case CHAIN_GITHUB:
        return ask_github(chain, err);
    case CHAIN_SSO:
        return use_sso(chain, err);
    case CHAIN_PROCESS:
        return start_process(chain, err);
    case CHAIN_CONTAINER:
        return ask_container(chain, err);
    case CHAIN_INSTANCE:
        return ask_instance(chain, err);
    case CHAIN_ROLE:
        return ask_for_role(chain, err);
    case CHAIN_LOGIN:
        return use_login(chain, err);
    case CHAIN_SOURCES:
        break;
    }
    return error_set(err, ERROR_UNSUPPORTED, "a source that is not known");
}

void credentials_steps_end(struct credentials_chain *chain)
{
    struct loop *loop = chain->network->loop;
    http_call_close(chain->http);
    chain->http = NULL;
    loop_timer_remove(loop, &chain->deadline);
    loop_timer_remove(loop, &chain->reap);
    close_output(chain);
    prompt_close(&chain->prompt);
    if (chain->process.pid > 0) {
        child_signal(&chain->process, SIGKILL);
        waitpid(chain->process.pid, NULL, 0);
        child_ended(&chain->process);
    }
    bytes_wipe(chain->text, sizeof chain->text);
    bytes_wipe(chain->body, sizeof chain->body);
    bytes_wipe(&chain->state, sizeof chain->state);
    chain->text_len = 0;
    chain->tries = 0;
}
