#include "aws/endpoint.h"

#include <string.h>

#include "base/bytes.h"
#include "base/env.h"
#include "wire/url.h"

enum { PORT_HTTP = 80, PORT_HTTPS = 443 };

_Static_assert(ENDPOINT_HOST_SIZE == URL_HOST_MAX + 1, "whatever url_split lets pass fits");

static const struct service {
    const char *name;
    const char *url_variable;
    bool gov_name_is_fips; /* in us-gov-* the plain name answers with FIPS, and "-fips" does not exist */
} SERVICES[ENDPOINT_SERVICES] = {
    [ENDPOINT_ECS] = {"ecs", "AWS_ENDPOINT_URL_ECS", false},
    [ENDPOINT_SSM] = {"ssm", "AWS_ENDPOINT_URL_SSM", true},
    [ENDPOINT_SSMMESSAGES] = {"ssmmessages", "AWS_ENDPOINT_URL_SSMMESSAGES", false},
    [ENDPOINT_REDSHIFT] = {"redshift", "AWS_ENDPOINT_URL_REDSHIFT", true},
    [ENDPOINT_REDSHIFT_SERVERLESS] = {"redshift-serverless", "AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS", false},
    [ENDPOINT_STS] = {"sts", "AWS_ENDPOINT_URL_STS", true},
    /* Neither is signed for, so that their names are those of their hosts. */
    [ENDPOINT_SSO] = {"portal.sso", "AWS_ENDPOINT_URL_SSO", true},
    [ENDPOINT_SSO_OIDC] = {"oidc", "AWS_ENDPOINT_URL_SSO_OIDC", true},
    [ENDPOINT_SIGNIN] = {"signin", "AWS_ENDPOINT_URL_SIGNIN", false},
};

/* The partitions whose names differ; aws is the rule's last line. */
static const struct partition {
    const char *region_prefix;
    const char *suffix;
    const char *dual_stack_suffix;
    const char *signin; /* behind the region */
} PARTITIONS[] = {
    {"cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn", "signin.amazonaws.cn"},
    {"us-iso-", "c2s.ic.gov", "api.aws.ic.gov", "signin.c2shome.ic.gov"},
    {"us-isob-", "sc2s.sgov.gov", "api.aws.scloud", "signin.sc2shome.sgov.gov"},
    {"us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov", "signin.csphome.hci.ic.gov"},
    {"eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", "signin.csphome.adc-e.uk"},
    {"eusc-de-", "amazonaws.eu", "api.amazonwebservices.eu", "signin.amazonaws-eusc.eu"},
    {"us-gov-", "amazonaws.com", "api.aws", "signin.amazonaws-us-gov.com"},
    {"", "amazonaws.com", "api.aws", "signin.aws.amazon.com"},
};

const char *endpoint_service_name(enum endpoint_service service)
{
    return SERVICES[service].name;
}

const char *endpoint_url_variable(enum endpoint_service service)
{
    return SERVICES[service].url_variable;
}

static bool is_path_char(char c)
{
    return str_is_alnum(c) || (c != '\0' && strchr("-._~!$&'()*+,;=:@/%", c) != NULL);
}

bool endpoint_path_is_valid(struct str path)
{
    return str_all(path, is_path_char);
}

/* --- URLs --- */

static void copy_lower(struct str text, char *out)
{
    for (size_t i = 0; i < text.len; i++)
        out[i] = str_lower(text.ptr[i]);
    out[text.len] = '\0';
}

static void write_authority(struct endpoint *endpoint)
{
    struct writer w = writer_of(endpoint->authority, sizeof endpoint->authority);
    struct url url = {.host = str_from(endpoint->host),
                      .host_is_ipv6 = strchr(endpoint->host, ':') != NULL,
                      .port = endpoint->port,
                      .port_is_default = endpoint->port == (endpoint->tls ? PORT_HTTPS : PORT_HTTP)};
    url_write_authority(&w, &url);
    writer_terminate(&w);
}

void endpoint_from_url_host(struct endpoint *endpoint, const struct url *url)
{
    memset(endpoint, 0, sizeof *endpoint);
    endpoint->tls = url->tls;
    endpoint->port = url->port;
    copy_lower(url->host, endpoint->host); /* URL_HOST_MAX fits */
    write_authority(endpoint);
}

int endpoint_from_url(struct endpoint *endpoint, struct str text, struct error *err)
{
    struct url url;
    memset(endpoint, 0, sizeof *endpoint);
    int result = url_split(&url, text, err);
    if (result != 0)
        return result;
    if (url.scheme != URL_HTTP && url.scheme != URL_HTTPS)
        return error_set(err, ERROR_UNSUPPORTED, "the URL must begin with http:// or https://");
    if (url.has_userinfo || url.target.len != url.path.len) {
        return error_set(err, ERROR_INVALID, "the URL must not have a %s",
                         url.has_userinfo ? "user or password" : "query");
    }
    struct str path = url.path;
    while (str_ends_with(path, "/"))
        path.len--;
    if (path.len >= sizeof endpoint->path) {
        return error_set(err, ERROR_TOO_LARGE, "the URL's path is longer than %d bytes",
                         ENDPOINT_PATH_SIZE - 1);
    }
    endpoint_from_url_host(endpoint, &url);
    str_copy(path, endpoint->path, sizeof endpoint->path);
    return 0;
}

/* --- hosts --- */

static bool is_region_char(char c)
{
    return (c >= 'a' && c <= 'z') || str_is_digit(c) || c == '-';
}

static bool region_is_valid(struct str region)
{
    if (region.len == 0 || region.len >= ENDPOINT_REGION_SIZE || !str_all(region, is_region_char))
        return false;
    return region.ptr[0] != '-' && region.ptr[region.len - 1] != '-';
}

static const struct partition *partition_of(struct str region)
{
    const struct partition *p = PARTITIONS;
    while (!str_starts_with(region, p->region_prefix))
        p++; /* the last prefix is empty */
    return p;
}

static void build_host(struct endpoint *endpoint, const struct service *service, struct str region, bool fips,
                       bool dual_stack)
{
    const struct partition *partition = partition_of(region);
    bool plain_is_fips = service->gov_name_is_fips && !dual_stack && str_starts_with(region, "us-gov-");
    bool is_signin = service == &SERVICES[ENDPOINT_SIGNIN] && !fips && !dual_stack;
    struct writer w = writer_of(endpoint->host, sizeof endpoint->host);
    if (!is_signin) {
        writer_text(&w, service->name);
        writer_text(&w, fips && !plain_is_fips ? "-fips." : ".");
    }
    writer_str(&w, region);
    writer_char(&w, '.');
    writer_text(&w, is_signin    ? partition->signin
                    : dual_stack ? partition->dual_stack_suffix
                                 : partition->suffix);
    writer_terminate(&w);
    endpoint->tls = true;
    endpoint->port = PORT_HTTPS;
    write_authority(endpoint);
}

struct switches {
    bool fips;
    bool dual_stack;
};

static int read_switches(struct switches *switches, char *const *env, struct error *err)
{
    if (env_get_bool(env, "AWS_USE_FIPS_ENDPOINT", &switches->fips, err) != 0 ||
        env_get_bool(env, "AWS_USE_DUALSTACK_ENDPOINT", &switches->dual_stack, err) != 0)
        return ERROR_INVALID;
    return 0;
}

/* What the first of these variables names, if anything. */
static int find_configured(struct endpoint *endpoint, bool *is_set, const char *const *variables,
                           char *const *env, const struct switches *switches, struct error *err)
{
    const char *variable;
    bool ignore;
    *is_set = false;
    if (env_get_bool(env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", &ignore, err) != 0)
        return ERROR_INVALID;
    struct str url = env_get_first(env, variables, &variable);
    if (ignore || url.len == 0)
        return 0;
    if (switches->fips || switches->dual_stack) {
        return error_set(err, ERROR_INVALID,
                         "%s and %s are both set: let the URL name the endpoint you want, and unset the "
                         "switch",
                         variable, switches->fips ? "AWS_USE_FIPS_ENDPOINT" : "AWS_USE_DUALSTACK_ENDPOINT");
    }
    *is_set = true;
    int result = endpoint_from_url(endpoint, url, err);
    if (result != 0)
        error_prefix(err, "%s: ", variable);
    return result;
}

bool endpoint_is_configured(enum endpoint_service service, char *const *env)
{
    const char *const variables[] = {SERVICES[service].url_variable, "AWS_ENDPOINT_URL", NULL};
    const char *variable;
    bool ignore;
    return env_get_bool(env, "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", &ignore, NULL) == 0 && !ignore &&
           env_get_first(env, variables, &variable).len > 0;
}

static int find(struct endpoint *endpoint, enum endpoint_service service, struct str region, bool ipv6_only,
                char *const *env, struct error *err)
{
    const char *const variables[] = {SERVICES[service].url_variable, "AWS_ENDPOINT_URL", NULL};
    struct switches switches;
    bool is_set;
    memset(endpoint, 0, sizeof *endpoint);
    int result = read_switches(&switches, env, err);
    if (result == 0)
        result = find_configured(endpoint, &is_set, variables, env, &switches, err);
    if (result != 0 || is_set)
        return result;
    if (!region_is_valid(region))
        return error_set(err, ERROR_INVALID, "\"%.*s\" is not a valid region", STR_ARG(region));
    build_host(endpoint, &SERVICES[service], region, switches.fips,
               switches.dual_stack || (ipv6_only && env_get(env, "AWS_USE_DUALSTACK_ENDPOINT").len == 0));
    return 0;
}

int endpoint_for_service(struct endpoint *endpoint, enum endpoint_service service, struct str region,
                         char *const *env, struct error *err)
{
    return find(endpoint, service, region, false, env, err);
}

int endpoint_for_service_by_ipv6(struct endpoint *endpoint, enum endpoint_service service, struct str region,
                                 char *const *env, struct error *err)
{
    return find(endpoint, service, region, true, env, err);
}

int endpoint_from_own_variable(struct endpoint *endpoint, bool *is_set, enum endpoint_service service,
                               char *const *env, struct error *err)
{
    const char *const variables[] = {SERVICES[service].url_variable, NULL};
    struct switches switches;
    memset(endpoint, 0, sizeof *endpoint);
    *is_set = false;
    int result = read_switches(&switches, env, err);
    return result != 0 ? result : find_configured(endpoint, is_set, variables, env, &switches, err);
}

/* --- is it AWS's? --- */

/* Takes a dot and the word off the end. */
static bool cut_end(struct str *host, const char *word)
{
    size_t len = strlen(word);
    if (host->len <= len || !str_equal_nocase(str_slice(*host, host->len - len, host->len), word) ||
        host->ptr[host->len - len - 1] != '.')
        return false;
    host->len -= len + 1;
    return true;
}

static bool is_service_label(struct str label, const char *service)
{
    size_t len = strlen(service);
    struct str rest = str_slice(label, len, label.len);
    return str_equal_nocase(str_slice(label, 0, len), service) &&
           (rest.len == 0 || str_equal_nocase(rest, "-fips"));
}

bool endpoint_is_aws_host(enum endpoint_service service, struct str region, struct str host)
{
    const struct partition *partition = partition_of(region);
    char region_text[ENDPOINT_REGION_SIZE];
    if (!region_is_valid(region) || !str_copy(region, region_text, sizeof region_text))
        return false;
    if (!cut_end(&host, partition->suffix) && !cut_end(&host, partition->dual_stack_suffix))
        return false;
    bool is_vpc_endpoint = cut_end(&host, "vpce");
    if (!cut_end(&host, region_text))
        return false;
    if (is_vpc_endpoint) {
        struct str names;
        return str_cut_last(host, '.', &names, &host) && names.len > 0 &&
               is_service_label(host, SERVICES[service].name);
    }
    return is_service_label(host, SERVICES[service].name);
}

/* arn:partition:service:region:account:resource */
static struct str region_of_arn(struct str arn)
{
    struct str field = {NULL, 0};
    for (int i = 0; i < 4; i++) {
        struct str rest;
        if (!str_cut(arn, ':', &field, &rest) || (i == 0 && !str_equal_text(field, "arn")))
            return str_from(NULL);
        arn = rest;
    }
    return field;
}

int endpoint_find_region(char region[ENDPOINT_REGION_SIZE], char *const *env, struct str task_arn,
                         struct error *err)
{
    const char *from;
    struct str found =
        env_get_first(env, (const char *const[]){"AWS_REGION", "AWS_DEFAULT_REGION", NULL}, &from);
    if (found.len == 0) {
        from = "the task's ARN";
        found = region_of_arn(task_arn);
    }
    region[0] = '\0';
    if (found.len == 0) {
        return error_set(err, ERROR_NOT_FOUND,
                         "no region: AWS_REGION and AWS_DEFAULT_REGION are not set, and there is no task ARN "
                         "to take it from");
    }
    if (!region_is_valid(found))
        return error_set(err, ERROR_INVALID, "%s: \"%.*s\" is not a valid region", from, STR_ARG(found));
    str_copy(found, region, ENDPOINT_REGION_SIZE);
    return 0;
}
