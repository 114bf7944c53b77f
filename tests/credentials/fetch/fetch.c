/*
 * usage: fetch [PROFILE]
 *
 * Fetches keys as a client does it, from this process's environment and AWS's shared files, and says what
 * came of it in one line of JSON. For tests/credentials, which compares that with AWS's SDK for Go.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "cloud/aws_call.h"
#include "host/console.h"
#include "host/log.h"
#include "host/signals.h"

static struct loop loop;
static struct network network;
static struct aws_client client;

static void ready(struct credentials_waiter *waiter)
{
    (void) waiter;
    loop_stop(&loop);
}

/* "https://host/path" */
static void write_endpoint(struct writer *w)
{
    struct endpoint endpoint;
    if (client.region[0] == '\0' ||
        endpoint_for_service(&endpoint, ENDPOINT_ECS, str_from(client.region), client.env, NULL) != 0)
        return;
    writer_text(w, endpoint.tls ? "https://" : "http://");
    writer_text(w, endpoint.authority);
    writer_text(w, endpoint.path);
}

static int fetch(const char *profile, char *id, struct writer *endpoint, struct error *err)
{
    struct credentials_waiter waiter = {.ready = ready};
    int result = aws_client_open_chain(&client, &network, environ, profile, err);
    if (result != 0)
        return result;
    if (!credentials_source_prepare(&client.credentials, &waiter))
        result = loop_run(&loop, err);
    const struct credentials *keys = credentials_source_get(&client.credentials, err);
    if (keys != NULL)
        str_copy(str_from(keys->access_key_id), id, CREDENTIALS_ID_SIZE);
    write_endpoint(endpoint);
    aws_client_close(&client);
    return keys != NULL ? result : err->code;
}

int main(int argc, char **argv)
{
    char text[4096], id[CREDENTIALS_ID_SIZE] = "", url[1024];
    struct writer endpoint = writer_of(url, sizeof url);
    struct writer w = writer_of(text, sizeof text);
    struct json_writer j = json_writer_of(&w);
    struct error err = ERROR_INIT;
    signals_block_all();
    if (loop_open(&loop, &err) != 0 || network_open(&network, &loop, environ, &err) != 0)
        return 1;
    int result = fetch(argc > 1 ? argv[1] : NULL, id, &endpoint, &err);
    json_begin_object(&j);
    json_member_bool(&j, "ok", result == 0);
    json_member_text(&j, "key", id);
    json_member_text(&j, "region", client.region);
    json_member_string(&j, "endpoint", writer_view(&endpoint));
    json_member_text(&j, "error", err.text);
    json_end_object(&j);
    writer_char(&w, '\n');
    network_close(&network);
    loop_close(&loop);
    return console_write(STDOUT_FILENO, writer_view(&w)) ? 0 : 1;
}
