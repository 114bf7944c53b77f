#include "wire/dns_files.h"

#include "base/bytes.h"
#include "wire/dns.h"

enum { NDOTS_MAX = 15, TIMEOUT_MAX_S = 30, ATTEMPTS_MAX = 5 };

/* --- resolv.conf ---------------------------------------------------------------------------------------- */

static void add_server(struct dns_config *config, struct str text)
{
    if (config->server_count < DNS_SERVERS_MAX && ip_parse(text, &config->servers[config->server_count]))
        config->server_count++;
}

static void set_search(struct dns_config *config, struct str domains)
{
    struct writer w = writer_of(config->search, sizeof config->search);
    struct str domain;
    while (str_take_item(&domains, &domain) && domain.len < w.capacity - w.len) {
        writer_str(&w, domain);
        writer_char(&w, ' ');
    }
    config->search_len = w.len;
}

/* "name:3"; what is too large is the maximum. */
static void set_option(struct str option, const char *name, uint32_t least, uint32_t most, uint32_t *value)
{
    struct str key;
    struct str text;
    uint32_t parsed;
    if (!str_cut(option, ':', &key, &text) || !str_equal_text(key, name) || !str_parse_u32(text, &parsed))
        return;
    if (parsed >= least)
        *value = parsed < most ? parsed : most;
}

static void set_options(struct dns_config *config, struct str options, uint32_t *timeout_s)
{
    struct str option;
    while (str_take_item(&options, &option)) {
        set_option(option, "ndots", 0, NDOTS_MAX, &config->ndots);
        set_option(option, "timeout", 1, TIMEOUT_MAX_S, timeout_s);
        set_option(option, "attempts", 1, ATTEMPTS_MAX, &config->attempts);
    }
}

void dns_config_parse(struct dns_config *config, struct str resolv_conf)
{
    uint32_t timeout_s = 5;
    *config = (struct dns_config){.ndots = 1, .attempts = 2};
    while (resolv_conf.len > 0) {
        struct str line;
        struct str keyword;
        struct str server;
        str_cut(resolv_conf, '\n', &line, &resolv_conf);
        if (!str_take_item(&line, &keyword))
            continue;
        if (str_equal_text(keyword, "nameserver") && str_take_item(&line, &server))
            add_server(config, server);
        else if (str_equal_text(keyword, "search") || str_equal_text(keyword, "domain"))
            set_search(config, line);
        else if (str_equal_text(keyword, "options"))
            set_options(config, line, &timeout_s);
    }
    config->timeout_ms = (int64_t) timeout_s * 1000;
    if (config->server_count == 0)
        add_server(config, STR_LITERAL("127.0.0.1"));
}

size_t dns_hosts_find(struct str hosts, struct str name, struct ip *addresses, size_t max)
{
    size_t count = 0;
    name = dns_without_last_dot(name);
    while (hosts.len > 0 && count < max) {
        struct str line;
        struct str word;
        struct str comment;
        str_cut(hosts, '\n', &line, &hosts);
        str_cut(line, '#', &line, &comment);
        if (!str_take_item(&line, &word) || !ip_parse(word, &addresses[count]))
            continue;
        bool is_found = false;
        while (!is_found && str_take_item(&line, &word))
            is_found = dns_same_text(dns_without_last_dot(word), name);
        count += is_found;
    }
    return count;
}
