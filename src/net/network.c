#include "net/network.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"
#include "host/log.h"
#include "net/stream.h"

static void add_ca_certificates(struct network *network, char *const *env, const char *variable)
{
    struct str path = env_get(env, variable);
    if (path.len == 0)
        return;
    size_t added = trust_add_file(&network->trust, path.ptr); /* an environment string is terminated */
    log_event(LOG_DEBUG, "read CA certificates", LOG_TEXT("variable", variable), LOG_STR("path", path),
              LOG_I64("added", added));
}

static void find_proxy(struct network *network, char *const *env)
{
    /* The lower one wins, as with curl and Go. */
    static const char *const proxies[] = {"https_proxy", "HTTPS_PROXY", NULL};
    static const char *const exceptions[] = {"no_proxy", "NO_PROXY", NULL};
    const char *found;
    struct str https_proxy = env_get_first(env, proxies, &found);
    network->proxy_err = (struct error) ERROR_INIT;
    proxy_parse(&network->proxy, https_proxy, env_get_first(env, exceptions, &found), &network->proxy_err);
}

/* Whether there is a route into the world; nothing is sent. The addresses are for documentation (RFC 5737,
 * RFC 3849): no network has a route of its own for them. */
static bool has_route(const struct sockaddr *address, socklen_t size)
{
    int fd = socket(address->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool found = fd >= 0 && connect(fd, address, size) == 0;
    if (fd >= 0)
        close(fd);
    return found;
}

static bool lacks_ipv4(void)
{
    struct sockaddr_in ipv4 = {
        .sin_family = AF_INET, .sin_port = htons(443), .sin_addr = {htonl(0xc0000201)}};
    struct sockaddr_in6 ipv6 = {.sin6_family = AF_INET6, .sin6_port = htons(443)};
    ipv6.sin6_addr = (struct in6_addr){{{0x20, 0x01, 0x0d, 0xb8, [15] = 1}}};
    return !has_route((const struct sockaddr *) &ipv4, sizeof ipv4) &&
           has_route((const struct sockaddr *) &ipv6, sizeof ipv6);
}

int network_open(struct network *network, struct loop *loop, char *const *env, struct error *err)
{
    network->loop = loop;
    network->ipv6_only = lacks_ipv4();
    find_proxy(network, env);
    int result = trust_open(&network->trust, err);
    if (result < 0)
        return result;
    resolver_open(&network->resolver, loop);
    list_init(&network->handshakes);
    loop_hook_init(&network->handshake_hook, LOOP_GATHER, stream_run_handshake);
    add_ca_certificates(network, env, "SSL_CERT_FILE");
    add_ca_certificates(network, env, "AWS_CA_BUNDLE");
    return 0;
}

void network_close(struct network *network)
{
    loop_hook_remove(network->loop, &network->handshake_hook);
    resolver_close(&network->resolver);
    trust_close(&network->trust);
}
