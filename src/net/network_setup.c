#include "net/network_setup.h"

#include "base/env.h"
#include "host/log.h"

/* HTTPS_PROXY in either spelling; the lower one wins, as with curl and Go. */
static struct str either(char *const *env, const char *lower, const char *upper)
{
    struct str value = env_get(env, lower);
    return value.len > 0 ? value : env_get(env, upper);
}

static void add_roots(struct network_setup *setup, char *const *env, const char *variable)
{
    struct str path = env_get(env, variable);
    if (path.len == 0)
        return;
    size_t added = trust_add_file(&setup->trust, path.ptr); /* an environment string is terminated */
    log_event(LOG_DEBUG, "read more roots", LOG_TEXT("variable", variable), LOG_STR("path", path),
              LOG_I64("added", added));
}

int network_setup_open(struct network_setup *setup, struct loop *loop, char *const *env, struct error *err)
{
    int result = proxy_parse(&setup->proxy, either(env, "https_proxy", "HTTPS_PROXY"),
                             either(env, "no_proxy", "NO_PROXY"), err);
    if (result < 0)
        return result;
    result = resolver_open(&setup->resolver, loop, err);
    if (result < 0)
        return result;
    result = trust_open(&setup->trust, err);
    if (result < 0)
        return result;
    add_roots(setup, env, "SSL_CERT_FILE");
    add_roots(setup, env, "AWS_CA_BUNDLE");
    setup->network = (struct network){
        .loop = loop, .resolver = &setup->resolver, .trust = &setup->trust, .proxy = &setup->proxy};
    return 0;
}
