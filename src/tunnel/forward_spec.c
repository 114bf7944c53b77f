#include "tunnel/forward_spec.h"

#include <string.h>

static bool has_any(struct str text, const char *characters)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] == '\0' || strchr(characters, text.ptr[i]) != NULL)
            return true;
    return false;
}

/* "HOST:PORT", "[IPv6]:PORT". Whether the host is a name or an address is seen when it is dialled. */
static bool split_host_port(struct str text, struct str *host, struct str *port)
{
    if (!str_cut_last(text, ':', host, port))
        return false;
    if (str_starts_with(*host, "[") && str_ends_with(*host, "]"))
        *host = str_slice(*host, 1, host->len - 1);
    else
        return host->len > 0 && !has_any(*host, ":[]=");
    return host->len > 0 && !has_any(*host, "[]=");
}

static bool parse_listener(struct str text, struct forward_spec *entry)
{
    static const uint8_t loopback[4] = {127, 0, 0, 1};
    struct str host;
    struct str port;
    entry->address = ip_v4(loopback);
    if (str_parse_port(text, &entry->port))
        return true;
    return split_host_port(text, &host, &port) && ip_parse(host, &entry->address) &&
           str_parse_port(port, &entry->port);
}

static int parse_entry(struct str text, struct forward_spec *entry, struct error *err)
{
    struct str listener;
    struct str target;
    struct str host;
    struct str port;
    if (!str_cut(text, '=', &listener, &target))
        return error_set(err, ERROR_INVALID, "\"%.*s\": want [ADDRESS:]PORT=HOST:PORT", STR_ARG(text));
    if (!parse_listener(listener, entry))
        return error_set(err, ERROR_INVALID, "\"%.*s\": \"%.*s\" is not a port (1-65535) or ADDRESS:PORT",
                         STR_ARG(text), STR_ARG(listener));
    if (!split_host_port(target, &host, &port) || !str_parse_port(port, &entry->host_port))
        return error_set(err, ERROR_INVALID, "\"%.*s\": \"%.*s\" is not HOST:PORT", STR_ARG(text),
                         STR_ARG(target));
    if (!str_copy(host, entry->host, sizeof entry->host))
        return error_set(err, ERROR_INVALID, "\"%.*s\": the host is longer than %d characters", STR_ARG(text),
                         DIAL_POLICY_HOST_SIZE - 1);
    return 0;
}

static bool is_any(struct ip address)
{
    static const uint8_t zeroes[sizeof address.bytes];
    return memcmp(address.bytes, zeroes, sizeof zeroes) == 0;
}

/* The kernel would refuse the second of two, each time the relay starts. */
static bool is_taken(const struct forward_specs *list, const struct forward_spec *entry)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct forward_spec *other = &list->entries[i];
        if (other->port == entry->port &&
            (ip_equal(other->address, entry->address) || is_any(other->address) || is_any(entry->address)))
            return true;
    }
    return false;
}

static bool is_separator(char c)
{
    return c == ',' || c == ' ' || c == '\t' || c == '\n';
}

int forward_spec_parse(struct forward_specs *list, struct str text, struct error *err)
{
    size_t at = 0;
    memset(list, 0, sizeof *list);
    while (at < text.len) {
        size_t end = at;
        while (end < text.len && !is_separator(text.ptr[end]))
            end++;
        if (end > at) {
            if (list->count == FORWARD_SPECS_MAX)
                return error_set(err, ERROR_TOO_LARGE, "more than %d fixed relays", FORWARD_SPECS_MAX);
            int result = parse_entry(str_slice(text, at, end), &list->entries[list->count], err);
            if (result < 0)
                return result;
            if (is_taken(list, &list->entries[list->count]))
                return error_set(err, ERROR_INVALID, "\"%.*s\": port %u is used twice",
                                 STR_ARG(str_slice(text, at, end)), list->entries[list->count].port);
            list->count++;
        }
        at = end + 1;
    }
    return 0;
}
