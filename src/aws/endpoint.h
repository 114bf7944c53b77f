/*
 * endpoint: where a service answers. A host is put together from service, region and partition by the rules
 * of AWS's SDKs (their endpoint rule sets, September 2026), unless the environment names a URL.
 *
 * Precedence, as in the SDKs: AWS_ENDPOINT_URL_<SERVICE>, then AWS_ENDPOINT_URL, neither of them if
 * AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is true; then the host name, whose form AWS_USE_FIPS_ENDPOINT and
 * AWS_USE_DUALSTACK_ENDPOINT choose:
 *
 *     neither      <service>.<region>.<suffix>             ecs.eu-west-1.amazonaws.com
 *     FIPS         <service>-fips.<region>.<suffix>        ecs-fips.us-east-1.amazonaws.com
 *     dual-stack   <service>.<region>.<dual suffix>        ecs.eu-west-1.api.aws
 *     both         <service>-fips.<region>.<dual suffix>   ecs-fips.us-east-1.api.aws
 *
 * The sign-in service has names of its own: <region>.signin.aws.amazon.com. In us-gov-* the plain names of
 * some services are the FIPS ones. A configured URL together with the FIPS
 * or dual-stack switch is an error, as in the SDKs: a URL can't be made FIPS by a switch, so it must not look
 * as though it had been. ssmmessages has no public SDK; AWS's documentation and ECS's own agent name its
 * hosts by the same pattern.
 *
 * Region: AWS_REGION, AWS_DEFAULT_REGION, else the fourth field of the task's ARN.
 */
#ifndef FUMIDAI_AWS_ENDPOINT_H
#define FUMIDAI_AWS_ENDPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"
#include "wire/url.h"

enum endpoint_service {
    ENDPOINT_ECS,
    ENDPOINT_SSM,
    ENDPOINT_SSMMESSAGES,
    ENDPOINT_REDSHIFT,
    ENDPOINT_REDSHIFT_SERVERLESS,
    ENDPOINT_STS,
    ENDPOINT_SSO,      /* IAM Identity Center's portal */
    ENDPOINT_SSO_OIDC, /* and its tokens */
    ENDPOINT_SIGNIN,   /* the tokens of `aws login` */
    ENDPOINT_SERVICES  /* how many there are */
};

enum {
    ENDPOINT_HOST_SIZE = 254,  /* DNS: 253 characters; the terminator */
    ENDPOINT_PATH_SIZE = 257,  /* a metadata URI has about 50, a proxy's prefix little more */
    ENDPOINT_REGION_SIZE = 33, /* AWS's longest has 15 ("ap-northeast-1" and the like); what grows, doubles */
    ENDPOINT_AUTHORITY_SIZE = ENDPOINT_HOST_SIZE + 2 + 6 /* brackets of an IPv6 address, ":65535" */
};

struct endpoint {
    bool tls;
    uint16_t port;
    char host[ENDPOINT_HOST_SIZE]; /* a name in lower case, an IPv4 address, or an IPv6 address without
                                      brackets */
    char authority[ENDPOINT_AUTHORITY_SIZE]; /* for the Host header: brackets, and the port unless the
                                                scheme's own */
    char path[ENDPOINT_PATH_SIZE]; /* "" or "/prefix", never ending in '/': API paths are appended */
};

/* The name that requests are signed for and that IAM actions begin with: "ecs", "redshift-serverless". */
const char *endpoint_service_name(enum endpoint_service service);

/* "AWS_ENDPOINT_URL_REDSHIFT_SERVERLESS" */
const char *endpoint_url_variable(enum endpoint_service service);

/* http:// and https:// with host, optional port, optional path (url.h), but neither user nor query:
 * ERROR_INVALID, ERROR_UNSUPPORTED or ERROR_TOO_LARGE, saying what is wrong without quoting it. */
int endpoint_from_url(struct endpoint *endpoint, struct str text, struct error *err);
/* Only where the URL leads: scheme, host and port. */
void endpoint_from_url_host(struct endpoint *endpoint, const struct url *url);

/* Whether every byte may stand in the path of a request line as it is: no blanks, controls, '?' or '#'. */
bool endpoint_path_is_valid(struct str path);

/* ERROR_INVALID when the region is not valid or a switch is neither true nor false; endpoint_from_url's
 * errors, with the variable's name in front. */
int endpoint_for_service(struct endpoint *endpoint, enum endpoint_service service, struct str region,
                         char *const *env, struct error *err);
/* The same where there is no IPv4: plain names have no other addresses, so it is the dual-stack one, unless
 * AWS_USE_DUALSTACK_ENDPOINT is set. */
int endpoint_for_service_by_ipv6(struct endpoint *endpoint, enum endpoint_service service, struct str region,
                                 char *const *env, struct error *err);
/* What the service's own variable names, if anything: AWS_ENDPOINT_URL is not asked. The same errors. */
int endpoint_from_own_variable(struct endpoint *endpoint, bool *is_set, enum endpoint_service service,
                               char *const *env, struct error *err);

/* Whether the user has named an endpoint for this service, by its own variable or AWS_ENDPOINT_URL. */
bool endpoint_is_configured(enum endpoint_service service, char *const *env);

/* Whether the host is one of AWS's own for this service and region: <service>.<region>.<suffix>, its FIPS and
 * dual-stack forms, and those of VPC endpoints (vpce-....<service>.<region>.vpce.<suffix>). A suffix alone
 * says nothing: customers' machines and buckets have names under amazonaws.com, too. */
bool endpoint_is_aws_host(enum endpoint_service service, struct str region, struct str host);

/* task_arn may be empty. ERROR_NOT_FOUND when neither variable nor ARN says, ERROR_INVALID when what they say
 * is not a valid region (letters, digits and hyphens: it becomes part of a host name). */
int endpoint_find_region(char region[ENDPOINT_REGION_SIZE], char *const *env, struct str task_arn,
                         struct error *err);

#endif
