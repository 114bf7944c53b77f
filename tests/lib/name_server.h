/*
 * name_server: a name server on loopback, over UDP and TCP, for tests of what asks one: a thread that hands
 * each question to a function, which writes the answer.
 */
#ifndef FUMIDAI_TESTS_NAME_SERVER_H
#define FUMIDAI_TESTS_NAME_SERVER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/dns_message.h"

struct name_server_query {
    char name[256];
    unsigned type;
    unsigned id;
    bool over_tcp;
    uint16_t source_port;
};

struct name_server {
    int udp_fd;
    int listen_fd;
    int stop_fds[2];
    uint16_t port;
    pthread_t thread;
    /* Runs in the server's thread. `answer` begins with header and question, no error; a length of 0 is
     * silence. */
    void (*serve)(const struct name_server_query *query, struct dns_message *answer, void *context);
    void *context;
    atomic_int udp_count; /* questions */
    atomic_int tcp_count;
};

/* Port 0 takes any; several servers on one port have different addresses. Ends the program when it can't
 * listen. */
void name_server_open(struct name_server *server, const char *address, uint16_t port,
                      void (*serve)(const struct name_server_query *query, struct dns_message *answer,
                                    void *context),
                      void *context);
void name_server_close(struct name_server *server);

#endif
