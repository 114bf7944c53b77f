#include "client/environment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host/console.h"

#define PG_SOCKET ".s.PGSQL." /* unix sockets of PostgreSQL, and what libpq appends to a directory */

/* Where a program of this machine reaches a port: one that is open on every address is at loopback's. */
static struct ip address_of(const struct local_forward *f)
{
    static const uint8_t loopback_v4[4] = {127, 0, 0, 1};
    static const uint8_t loopback_v6[16] = {[15] = 1};
    static const uint8_t zeroes[16];
    if (f->is_loopback || ip_equal(f->address, ip_v4(zeroes)))
        return ip_v4(loopback_v4);
    return ip_equal(f->address, ip_v6(zeroes)) ? ip_v6(loopback_v6) : f->address;
}

static void write_forward(struct writer *out, const struct local_forward *f)
{
    if (f->kind == LOCAL_FORWARD_PORT)
        writer_format(out, "FUMIDAI_PORT_%u=%u\nFUMIDAI_ADDR_%u=", f->host_port, f->port, f->host_port);
    else if (f->kind == LOCAL_FORWARD_SOCKS)
        writer_text(out, "FUMIDAI_SOCKS=");
    else
        return;
    writer_ip_port(out, address_of(f), f->port);
    writer_char(out, '\n');
}

static void write_pg_socket(struct writer *out, const char *path, struct error *err)
{
    struct str directory;
    struct str name;
    uint16_t port;
    if (!str_cut_last(str_from(path), '/', &directory, &name) || path[0] != '/' ||
        !str_starts_with(name, PG_SOCKET) ||
        !str_parse_port(str_slice(name, sizeof PG_SOCKET - 1, name.len), &port))
        error_set(err, ERROR_INVALID,
                  "--env: libpq finds a Unix socket only by an absolute path that ends in /" PG_SOCKET
                  "PORT, not %s",
                  path);
    /* An empty one is not there: the user's own would win over PGHOST. */
    writer_format(out, "PGHOST=%.*s\nPGHOSTADDR=\nPGPORT=%.*s\n", directory.len > 0 ? (int) directory.len : 1,
                  path, STR_ARG(str_slice(name, sizeof PG_SOCKET - 1, name.len)));
}

static void write_pg_port(struct writer *out, const struct local_forward *f)
{
    writer_format(out, "PGHOST=%s\nPGPORT=%u\nPGHOSTADDR=", f->host, f->port);
    writer_ip(out, address_of(f));
    writer_char(out, '\n');
}

static void write_host_and_port(struct writer *out, const char *database, const struct local_forward *f)
{
    bool is_mysql = database[0] == 'M';
    writer_format(out, "%s_%s=%u\n%s_HOST=", database, is_mysql ? "TCP_PORT" : "PORT", f->port, database);
    writer_ip(out, address_of(f));
    writer_char(out, '\n');
}

static void write_database(struct writer *out, const struct local_forward *f, enum forward_database database,
                           struct error *err)
{
    bool is_path = f->kind == LOCAL_FORWARD_PATH;
    if (database == FORWARD_DATABASE_MYSQL && is_path)
        writer_format(out, "MYSQL_HOST=localhost\nMYSQL_UNIX_PORT=%s\n", f->path);
    else if (database == FORWARD_DATABASE_MYSQL)
        write_host_and_port(out, "MYSQL", f);
    else if (is_path)
        write_pg_socket(out, f->path, err);
    else
        write_pg_port(out, f);
    if (database == FORWARD_DATABASE_REDSHIFT && !is_path)
        write_host_and_port(out, "REDSHIFT", f);
}

int environment_write(struct writer *out, const struct local_forward *forwards, size_t count,
                      enum forward_database database, struct error *err)
{
    const struct local_forward *first = NULL;
    for (size_t i = count; i-- > 0;) { /* the first of two for one port is the last line, and counts */
        write_forward(out, &forwards[i]);
        if (forwards[i].kind == LOCAL_FORWARD_PORT || forwards[i].kind == LOCAL_FORWARD_PATH)
            first = &forwards[i];
    }
    if (database == FORWARD_DATABASE_NONE)
        return 0;
    if (first == NULL)
        return error_set(err, ERROR_INVALID, "--env is about the first -L, and there is none");
    struct error why = ERROR_INIT;
    write_database(out, first, database, &why);
    return why.code != ERROR_NONE ? error_set(err, why.code, "%s", why.text) : 0;
}

void environment_set(struct str lines)
{
    struct str line;
    while (str_cut(lines, '\n', &line, &lines)) {
        struct str name;
        struct str value;
        char memory[2][DIAL_POLICY_HOST_SIZE + LOCAL_FORWARD_PATH_SIZE]; /* holds each of them */
        (void) str_cut(line, '=', &name, &value);
        if (str_copy(name, memory[0], sizeof memory[0]) && str_copy(value, memory[1], sizeof memory[1]))
            (void) setenv(memory[0], memory[1], 1);
    }
}

int environment_append(const char *path, struct str lines, struct error *err)
{
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    bool written = fd >= 0 && console_write(fd, lines);
    int reason = errno;
    if (fd >= 0)
        close(fd);
    return written ? 0
                   : error_set(err, ERROR_SYSTEM, "can't append to GITHUB_ENV's file %s: %s", path,
                               strerror(reason));
}
