#include "cloud/credentials_source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "cloud/api_http.h"
#include "host/clock.h"
#include "host/log.h"
#include "host/random.h"

void credentials_source_open(struct credentials_source *source, struct network *network, char *const *env)
{
    memset(source, 0, sizeof *source);
    source->network = network;
    source->env = env;
    source->has_plan = credentials_make_plan(&source->plan, env, &source->err) == 0;
}

void credentials_source_use(struct credentials_source *source, struct credentials_provider *provider)
{
    source->provider = provider;
    source->err = (struct error) ERROR_INIT; /* the task's plan does not count */
}

void credentials_source_close(struct credentials_source *source)
{
    if (source->provider != NULL)
        source->provider->close(source->provider);
    source->provider = NULL;
    source->is_providing = false;
    http_call_close(source->fetch);
    source->fetch = NULL;
    source->has_credentials = false;
    credentials_wipe(&source->credentials);
    bytes_wipe(&source->plan, sizeof source->plan);
}

int64_t credentials_source_unix_ms(const struct credentials_source *source)
{
    return clock_unix_ms() + source->clock_offset_ms;
}

static void take(struct credentials_source *source)
{
    source->has_credentials = true;
    source->refresh_at_unix_ms = credentials_refresh_at(&source->credentials, random_u32());
}

static bool is_usable(const struct credentials_source *source)
{
    return source->has_credentials &&
           !credentials_expired(&source->credentials, credentials_source_unix_ms(source));
}

/* ---- fetching ------------------------------------------------------------------------------------------ */

static void call_waiters(struct credentials_source *source)
{
    struct credentials_waiter *waiter;
    source->served = source->waiting;
    source->waiting = NULL;
    while ((waiter = source->served) != NULL) {
        source->served = waiter->next;
        waiter->ready(waiter);
    }
}

static void take_fetched(struct credentials_source *source, const struct credentials *fresh)
{
    source->changes += strcmp(fresh->access_key_id, source->credentials.access_key_id) != 0;
    source->credentials = *fresh;
    take(source);
    log_event(LOG_DEBUG, "fetched credentials", LOG_TIME_MS("expires", source->credentials.expires_unix_ms),
              LOG_TIME_MS("refresh_at", source->refresh_at_unix_ms));
}

static int read_answer(struct credentials_source *source, const struct http_call *http, struct error *err)
{
    struct credentials fresh;
    if (http_call_result(http, err) < 0)
        return error_prefix(err, "credentials: ");
    struct api_answer answer = api_http_answer(http);
    if (credentials_read_answer(&fresh, &answer, credentials_source_unix_ms(source), err) != API_OK)
        return err->code;
    take_fetched(source, &fresh);
    credentials_wipe(&fresh);
    return 0;
}

/* A client's callers say themselves why they have no keys; while the old ones serve, nobody does. */
static void fetch_failed(struct credentials_source *source)
{
    bool is_told = source->provider != NULL && !is_usable(source);
    log_event(is_told ? LOG_DEBUG : LOG_WARN, "can't fetch credentials", LOG_ERR(&source->err));
    source->refresh_at_unix_ms = credentials_source_unix_ms(source) + CREDENTIALS_SOURCE_FETCH_MS;
}

void credentials_source_provided(struct credentials_source *source, const struct credentials *fresh,
                                 const struct error *reason)
{
    source->is_providing = false;
    source->err = fresh != NULL ? (struct error) ERROR_INIT : *reason;
    if (fresh != NULL)
        take_fetched(source, fresh);
    else
        fetch_failed(source);
    call_waiters(source);
}

static void fetched(struct http_call *http, void *owner)
{
    struct credentials_source *source = owner;
    if (read_answer(source, http, &source->err) < 0)
        fetch_failed(source);
    source->fetch = NULL;
    http_call_close(http);
    call_waiters(source);
}

/* The file may be rewritten at any time (a projected service account token), so it is read for each fetch. */
static int read_token_file(const char *path, char token[CREDENTIALS_AUTHORIZATION_SIZE], struct str *view,
                           struct error *err)
{
    size_t len = 0;
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    do {
        got = fd < 0 ? -1 : read(fd, token + len, CREDENTIALS_AUTHORIZATION_SIZE - len);
        len += got > 0 ? (size_t) got : 0;
    } while (got > 0);
    int reason = errno;
    if (fd >= 0)
        close(fd);
    *view = (struct str){token, len};
    if (got < 0)
        return error_set(err, ERROR_SYSTEM, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: can't read %s: %s", path,
                         strerror(reason));
    if (len == CREDENTIALS_AUTHORIZATION_SIZE)
        return error_set(err, ERROR_TOO_LARGE,
                         "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: %s has more than %d bytes", path,
                         CREDENTIALS_AUTHORIZATION_SIZE - 1);
    return 0;
}

static int try_fetch(struct credentials_source *source, struct error *err)
{
    struct api_request request;
    char token[CREDENTIALS_AUTHORIZATION_SIZE];
    struct str view = {NULL, 0};
    int result = 0;
    if (source->plan.token_file[0] != '\0')
        result = read_token_file(source->plan.token_file, token, &view, err);
    if (result == 0)
        result = credentials_make_request(&request, &source->plan, view, err);
    if (result == 0)
        result = api_http_start(&source->fetch, source->network, &request, &source->plan.endpoint,
                                clock_after_ms(clock_monotonic_ms(), CREDENTIALS_SOURCE_FETCH_MS),
                                DESCRIPTORS_FOR_CHANNELS, fetched, source, err);
    bytes_wipe(token, sizeof token);
    return result;
}

static bool is_fetching(const struct credentials_source *source)
{
    return source->fetch != NULL || source->is_providing;
}

static void start_fetch(struct credentials_source *source)
{
    if (is_fetching(source) || (source->provider == NULL && !source->has_plan))
        return;
    source->err = (struct error) ERROR_INIT;
    if (source->provider != NULL) {
        source->is_providing = source->provider->fetch(source->provider, source, &source->err) == 0;
    } else if (source->plan.origin == CREDENTIALS_ENVIRONMENT) {
        if (credentials_from_environment(&source->credentials, source->env, &source->err) == 0)
            take(source);
    } else if (try_fetch(source, &source->err) < 0) {
        error_prefix(&source->err, "credentials: ");
    }
}

/* ---- the surface --------------------------------------------------------------------------------------- */

static bool wait_for_fetch(struct credentials_source *source, struct credentials_waiter *waiter)
{
    if (!is_fetching(source))
        return false;
    waiter->next = source->waiting;
    source->waiting = waiter;
    return true;
}

bool credentials_source_prepare(struct credentials_source *source, struct credentials_waiter *waiter)
{
    if (!source->has_credentials || credentials_source_unix_ms(source) >= source->refresh_at_unix_ms)
        start_fetch(source);
    return is_usable(source) || !wait_for_fetch(source, waiter);
}

bool credentials_source_renew(struct credentials_source *source, struct credentials_waiter *waiter)
{
    start_fetch(source);
    return wait_for_fetch(source, waiter);
}

unsigned credentials_source_changes(const struct credentials_source *source)
{
    return source->changes;
}

static void unlink_waiter(struct credentials_waiter **link, const struct credentials_waiter *waiter)
{
    while (*link != NULL && *link != waiter)
        link = &(*link)->next;
    if (*link != NULL)
        *link = waiter->next;
}

void credentials_source_cancel(struct credentials_source *source, struct credentials_waiter *waiter)
{
    unlink_waiter(&source->waiting, waiter);
    unlink_waiter(&source->served, waiter);
}

void credentials_source_discard(struct credentials_source *source)
{
    source->has_credentials = false;
}

const struct credentials *credentials_source_get(struct credentials_source *source, struct error *err)
{
    if (is_usable(source))
        return &source->credentials;
    if (source->err.code != ERROR_NONE && (source->provider != NULL || !source->has_plan))
        error_set(err, source->err.code, "%s", source->err.text);
    else if (source->err.code != ERROR_NONE)
        error_set(err, ERROR_UNAVAILABLE, "%s", source->err.text);
    else
        error_set(err, ERROR_UNAVAILABLE, "there are no credentials yet");
    return NULL;
}
