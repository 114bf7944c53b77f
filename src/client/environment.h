/*
 * environment: the variables by which programs find the local ports: the command's, and those of a GitHub
 * job's later steps.
 *
 *     FUMIDAI_PORT_5439=40123             for each -L, by the port of its target
 *     FUMIDAI_ADDR_5439=127.0.0.1:40123
 *     FUMIDAI_SOCKS=127.0.0.1:1080        the first -D
 *
 * And with --env, for the first -L, what the clients of a database read:
 *
 *     pg        PGHOST=the real name, PGHOSTADDR=127.0.0.1, PGPORT: libpq connects to PGHOSTADDR and checks
 *               the certificate against PGHOST, so sslmode=verify-full works (PostgreSQL's manual, 34.1.2).
 *               For a Unix socket PGHOST is its directory, and PGPORT the number in its name.
 *     mysql     MYSQL_HOST=127.0.0.1, MYSQL_TCP_PORT; for a Unix socket MYSQL_HOST=localhost, MYSQL_UNIX_PORT
 *               (MySQL's manual, 4.9 Environment Variables)
 *     redshift  as pg, and REDSHIFT_HOST=127.0.0.1, REDSHIFT_PORT: by habit the names in dbt's profiles.yml
 *               (env_var('REDSHIFT_HOST')), since its driver reads no environment
 */
#ifndef FUMIDAI_CLIENT_ENVIRONMENT_H
#define FUMIDAI_CLIENT_ENVIRONMENT_H

#include <stddef.h>

#include "base/bytes.h"
#include "base/error.h"
#include "settings/forward_settings.h"
#include "tunnel/local_forward.h"

enum { ENVIRONMENT_SIZE = 8 * 1024 /* two lines of at most 100 bytes for each of CLIENT_FORWARDS_MAX */ };

/* Lines "NAME=value"; of two with one name the last counts. The forwards have their ports. ERROR_INVALID when
 * there is nothing that `database` could be told. */
int environment_write(struct writer *out, const struct local_forward *forwards, size_t count,
                      enum forward_database database, struct error *err);
/* Into this process's own, for its children. */
void environment_set(struct str lines);
/* To the end of $GITHUB_ENV. */
int environment_append(const char *path, struct str lines, struct error *err);

#endif
