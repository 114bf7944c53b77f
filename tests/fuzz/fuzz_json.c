/* A document that is taken can be written anew, is then taken again, and comes out the same the second time. */
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

static void copy_value(const struct json *doc, int value, struct json_writer *j);

static void copy_object(const struct json *doc, int object, struct json_writer *j)
{
    int position = 0;
    int key;
    int value;
    size_t count = 0;
    json_begin_object(j);
    while (json_next_member(doc, object, &position, &key, &value)) {
        char name[OUTPUT_SIZE];
        if (json_string(doc, key, name, sizeof name, NULL)) {
            int found = json_member(doc, object, name);
            require(found != JSON_ABSENT && found <= value); /* the first of that name */
        }
        json_key(j, name);
        copy_value(doc, value, j);
        count++;
    }
    json_end_object(j);
    require(count == json_count(doc, object));
}

static void copy_array(const struct json *doc, int array, struct json_writer *j)
{
    json_begin_array(j);
    for (size_t i = 0; i < json_count(doc, array); i++) {
        require(json_element(doc, array, i) != JSON_ABSENT);
        copy_value(doc, json_element(doc, array, i), j);
    }
    json_end_array(j);
    require(json_element(doc, array, json_count(doc, array)) == JSON_ABSENT);
}

static void copy_value(const struct json *doc, int value, struct json_writer *j)
{
    bool flag = false;
    int64_t number = 0;
    switch (json_type(doc, value)) {
    case JSON_OBJECT:
        copy_object(doc, value, j);
        return;
    case JSON_ARRAY:
        copy_array(doc, value, j);
        return;
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
    case JSON_NONE:
        abort();
    }
}

/* Parses and writes; false when the text is refused. */
static bool rewrite(struct str text, struct writer *out)
{
    static struct json_token tokens[TOKENS];
    struct json doc;
    struct error err = ERROR_INIT;
    int rc = json_parse(&doc, text, tokens, TOKENS, &err);
    if (rc != 0) {
        require(err.code == rc && err.text[0] != '\0' && json_root(&doc) == JSON_ABSENT);
        return false;
    }
    struct json_writer j = json_writer_of(out);
    copy_value(&doc, json_root(&doc), &j);
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
