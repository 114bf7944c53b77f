#include "keeper/health.h"

#include <string.h>

#include "base/json.h"
#include "base/time.h"

/* ---- is it healthy? ------------------------------------------------------------------------------------ */

static int unhealthy(struct error *why, const char *what, int64_t for_ms, const char *trouble)
{
    char text[48];
    struct writer duration = writer_of(text, sizeof text);
    writer_duration_ms(&duration, for_ms);
    return error_set(why, ERROR_UNAVAILABLE, "%s for %s%s%s", what, writer_terminate(&duration),
                     trouble[0] != '\0' ? ": " : "", trouble);
}

int health_check(const struct health_facts *facts, struct error *why)
{
    if (!facts->relays)
        return 0;
    if (!facts->relay_is_up)
        return error_set(why, ERROR_UNAVAILABLE, "the relay is not running; it was started %llu times",
                         (unsigned long long) facts->relay_starts);
    if (facts->relay_silent_ms > HEALTH_SILENCE_MS)
        return unhealthy(why, "the relay has not reported", facts->relay_silent_ms, "");
    if (facts->serves_sessions && !facts->channel_is_open && facts->sessions == 0 &&
        facts->channel_for_ms > facts->channel_limit_ms)
        return unhealthy(why, "the control channel has not been open", facts->channel_for_ms,
                         facts->channel_trouble);
    return 0;
}

static void write_relay(struct json_writer *j, const struct health_facts *facts)
{
    json_key(j, "relay");
    json_begin_object(j);
    json_member_bool(j, "up", facts->relay_is_up);
    json_member_i64(j, "pid", facts->relay_pid);
    json_member_i64(j, "age_ms", facts->relay_age_ms);
    json_member_i64(j, "silent_ms", facts->relay_silent_ms);
    json_member_i64(j, "starts", (int64_t) facts->relay_starts);
    json_end_object(j);
}

static void write_channel(struct json_writer *j, const struct health_facts *facts)
{
    json_key(j, "control_channel");
    json_begin_object(j);
    json_member_bool(j, "open", facts->channel_is_open);
    json_member_i64(j, "for_ms", facts->channel_for_ms);
    if (!facts->channel_is_open)
        json_member_text(j, "trouble", facts->channel_trouble);
    json_end_object(j);
}

void health_write(struct writer *out, const struct health_facts *facts)
{
    struct error why = ERROR_INIT;
    struct json_writer j = json_writer_of(out);
    json_begin_object(&j);
    json_member_bool(&j, "healthy", health_check(facts, &why) == 0);
    json_member_text(&j, "reason", why.text);
    json_member_text(&j, "state", facts->state);
    json_member_i64(&j, "sessions", facts->sessions);
    if (facts->relays)
        write_relay(&j, facts);
    if (facts->relays && facts->serves_sessions)
        write_channel(&j, facts);
    json_end_object(&j);
}

/* ---- who asks ------------------------------------------------------------------------------------------ */

static void answer(struct health_socket *socket, struct writer *line)
{
    struct health *health = LOOP_OWNER(socket, struct health, socket);
    struct health_facts facts;
    memset(&facts, 0, sizeof facts);
    health->gather(health, &facts);
    health_write(line, &facts);
}

void health_open(struct health *health, struct loop *loop, char *const *env,
                 void (*gather)(struct health *health, struct health_facts *facts), void *owner)
{
    health->gather = gather;
    health->owner = owner;
    health_socket_open(&health->socket, loop, env, HEALTH_IN_ECS, answer);
}

void health_close(struct health *health)
{
    health_socket_close(&health->socket);
}
