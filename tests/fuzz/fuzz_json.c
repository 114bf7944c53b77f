/* A document that is taken can be written anew, is then taken again, and comes
 * out the same the second time. */
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_MAX = 2048, TOKENS = INPUT_MAX, OUTPUT_SIZE = 8 * INPUT_MAX };

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void copy_string(const struct json *doc, int value, struct json_writer *j)
{
    char text[OUTPUT_SIZE];
    struct str raw = json_raw(doc, value);
    if (json_string(doc, value, text, sizeof text, NULL)) {
        require(json_string_equal(doc, value, text));
        json_put_text(j, text);
    } else {
        json_put_raw(j, (struct str){raw.ptr - 1, raw.len + 2}); /* holds a NUL */
    }
}

static void copy_scalar(const struct json *doc, int value, struct json_writer *j)
{
    bool flag = false;
    int64_t number = 0;
    switch (json_type(doc, value)) {
    case JSON_STRING:
        copy_string(doc, value, j);
        return;
    case JSON_NUMBER:
        if (json_i64(doc, value, &number))
            json_put_i64(j, number);
        else
            json_put_raw(j, json_raw(doc, value));
        return;
    case JSON_BOOL:
        require(json_bool(doc, value, &flag));
        json_put_bool(j, flag);
        return;
    case JSON_NULL:
        json_put_null(j);
        return;
    case JSON_OBJECT:
    case JSON_ARRAY:
    case JSON_NONE:
        abort();
    }
}

/* A container that is being copied. */
struct frame {
    int container;
    int position;
    size_t count; /* members or elements copied */
};

/* The next value inside; JSON_ABSENT at the end. A member's key is written. */
static int next_inside(const struct json *doc, struct frame *f, struct json_writer *j)
{
    int key;
    int value = JSON_ABSENT;
    if (json_type(doc, f->container) == JSON_ARRAY)
        return json_element(doc, f->container, f->count);
    if (json_next_member(doc, f->container, &f->position, &key, &value)) {
        char name[OUTPUT_SIZE];
        if (json_string(doc, key, name, sizeof name, NULL)) {
            int found = json_member(doc, f->container, name);
            require(found != JSON_ABSENT && found <= value); /* the first of that name */
        }
        json_key(j, name);
    }
    return value;
}

static void copy_document(const struct json *doc, struct json_writer *j)
{
    struct frame frames[JSON_DEPTH_MAX + 1];
    size_t depth = 0;
    int value = json_root(doc);
    do {
        enum json_type type = json_type(doc, value);
        if (type == JSON_OBJECT || type == JSON_ARRAY) {
            require(depth <= JSON_DEPTH_MAX);
            frames[depth++] = (struct frame){.container = value};
            type == JSON_OBJECT ? json_begin_object(j) : json_begin_array(j);
        } else {
            copy_scalar(doc, value, j);
        }
        while (depth > 0 && (value = next_inside(doc, &frames[depth - 1], j)) == JSON_ABSENT) {
            struct frame *done = &frames[--depth];
            require(done->count == json_count(doc, done->container));
            json_type(doc, done->container) == JSON_OBJECT ? json_end_object(j) : json_end_array(j);
        }
        if (depth > 0)
            frames[depth - 1].count++;
    } while (depth > 0);
}

/* Parses and writes; false when the text is refused. */
static bool rewrite(struct str text, struct writer *out)
{
    static struct json_token tokens[TOKENS];
    struct json doc;
    struct error err = ERROR_INIT;
    int result = json_parse(&doc, text, tokens, TOKENS, &err);
    if (result != 0) {
        require(err.code == result && err.text[0] != '\0' && json_root(&doc) == JSON_ABSENT);
        return false;
    }
    struct json_writer j = json_writer_of(out);
    copy_document(&doc, &j);
    require(!out->failed);
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char first[OUTPUT_SIZE];
    static char second[OUTPUT_SIZE];
    struct str text = {(const char *) data, size};
    struct writer once = writer_of(first, sizeof first);
    struct writer twice = writer_of(second, sizeof second);
    if (size > INPUT_MAX || !rewrite(text, &once))
        return 0;
    require(rewrite(writer_view(&once), &twice));
    require(str_equal(writer_view(&once), writer_view(&twice)));
    /* one byte less is not a document */
    require(!rewrite(str_slice(writer_view(&once), 0, once.len - 1), &twice));
    return 0;
}
