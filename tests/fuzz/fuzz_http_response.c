/*
 * An answer means the same however its bytes are cut: fed whole, byte by byte, and in pieces that the input
 * chooses, events, status, headers, body, end and error are equal.
 *
 * Input: what was asked (1 byte), the body's maximum (1), the head's room in 32 bytes (1), a seed for the
 * pieces (1), the answer.
 */
#include "wire/http.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SETTINGS = 4, INPUT_MAX = 8192, HEAD_SIZE = 256 * 32 };

struct outcome {
    int code;
    int status;
    bool headed;
    bool ended; /* before the close */
    size_t used;
    size_t body_len;
    struct error err;
    size_t headers_len;
    char body[INPUT_MAX];
    char headers[2 * HEAD_SIZE]; /* name=value lines */
};

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void note_head(struct outcome *o, const struct http_response *r)
{
    struct writer w = writer_of(o->headers, sizeof o->headers);
    size_t position = 0;
    size_t count = 0;
    struct str name;
    struct str value;
    require(!o->headed && (r->status == 101 || (r->status >= 200 && r->status <= 599)));
    o->headed = true;
    o->status = r->status;
    while (http_response_next_header(r, &position, &name, &value)) {
        writer_str(&w, name);
        writer_char(&w, '=');
        writer_str(&w, value);
        writer_char(&w, '\n');
        count++;
    }
    require(!w.failed && count == r->header_count && count <= HTTP_HEADERS_MAX);
    o->headers_len = w.len;
}

static void note_event(struct outcome *o, const struct http_response *r, const struct http_event *event)
{
    if (event->type == HTTP_EVENT_HEAD)
        note_head(o, r);
    if (event->type == HTTP_EVENT_BODY) {
        require(o->headed && !o->ended && event->body.len > 0);
        memcpy(o->body + o->body_len, event->body.ptr, event->body.len);
        o->body_len += event->body.len;
    }
    if (event->type == HTTP_EVENT_END) {
        require(o->headed && !o->ended);
        o->ended = true;
    }
}

static void feed(struct outcome *o, struct http_response *r, const uint8_t *piece, size_t len)
{
    struct http_event event;
    size_t used;
    do {
        o->code = http_response_feed(r, piece, len, &used, &event, &o->err);
        require(used <= len);
        piece += used;
        len -= used;
        o->used += used;
        note_event(o, r, &event);
    } while (o->code == 0 && event.type != HTTP_EVENT_NONE);
}

/* seed 0: whole; 1: byte by byte; else pieces of 1 to 64 bytes. */
static void run(struct outcome *o, const uint8_t *data, size_t size, uint32_t seed)
{
    static char head[HEAD_SIZE];
    struct http_response r;
    uint64_t body_max = (uint64_t) data[1] * 8;
    const uint8_t *at = data + SETTINGS;
    size_t left = size - SETTINGS;
    uint32_t state = seed;
    uint8_t *memory = malloc(INPUT_MAX); /* pieces end where it ends, so that reading on is seen */
    require(memory != NULL);
    *o = (struct outcome){.code = 0, .err = ERROR_INIT};
    http_response_init(&r, (enum http_exchange)(data[0] % 2), head, ((size_t) data[2] + 1) * 32, body_max);
    while (left > 0 && o->code == 0 && !o->ended) {
        state = state * 1664525 + 1013904223;
        size_t len = seed == 0 ? left : seed == 1 ? 1 : 1 + (state >> 26);
        len = len < left ? len : left;
        uint8_t *piece = memory + INPUT_MAX - len;
        memcpy(piece, at, len);
        feed(o, &r, piece, len);
        at += len;
        left -= len;
    }
    free(memory);
    if (o->code == 0)
        o->code = http_response_close(&r, &o->err);
    require(o->body_len <= body_max);
    require(o->code == 0 ? o->headed : o->err.text[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct outcome whole;
    static struct outcome cut;
    if (size < SETTINGS || size > INPUT_MAX)
        return 0;
    run(&whole, data, size, 0);
    for (uint32_t way = 1; way <= 2; way++) {
        run(&cut, data, size, way == 1 ? 1 : 2 + (uint32_t) data[3]);
        require(cut.code == whole.code && strcmp(cut.err.text, whole.err.text) == 0);
        require(cut.headed == whole.headed && cut.ended == whole.ended);
        require(cut.status == whole.status);
        /* a refusal may come with more or less of its line taken */
        require(whole.code != 0 || cut.used == whole.used);
        require(cut.body_len == whole.body_len && memcmp(cut.body, whole.body, cut.body_len) == 0);
        require(cut.headers_len == whole.headers_len &&
                memcmp(cut.headers, whole.headers, cut.headers_len) == 0);
    }
    return 0;
}
