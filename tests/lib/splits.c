#include "lib/splits.h"

#include <string.h>

#include "lib/guard.h"

enum stage { STAGE_START, STAGE_WHOLE, STAGE_TWO, STAGE_THREE, STAGE_EVEN, STAGE_END };

static const size_t even_lengths[] = {1, 2, 3, 5, 7, 11, 13};
enum { EVEN_COUNT = sizeof even_lengths / sizeof even_lengths[0] };

struct splits splits_of(const void *data, size_t len)
{
    return (struct splits){.data = data, .len = len, .memory = guard_alloc(len), .stage = STAGE_START};
}

/* Moves on to the next way within the stage; false when the stage has none left. */
static bool advance(struct splits *s)
{
    switch ((enum stage) s->stage) {
    case STAGE_TWO:
        return ++s->first < s->len;
    case STAGE_THREE:
        if (s->first + ++s->second < s->len)
            return true;
        s->second = 1;
        return ++s->first + 1 < s->len && s->len <= SPLITS_THREE_MAX;
    case STAGE_EVEN:
        /* `second` counts the lengths here; a length of the whole input was the first way of all. */
        if (s->second >= EVEN_COUNT || even_lengths[s->second] >= s->len)
            return false;
        s->first = even_lengths[s->second++];
        return true;
    case STAGE_START:
    case STAGE_WHOLE:
    case STAGE_END:
        break;
    }
    return false;
}

static void enter_next_stage(struct splits *s)
{
    s->stage++;
    s->first = s->stage == STAGE_WHOLE ? s->len : 0;
    s->second = 0;
    if (s->stage == STAGE_THREE)
        s->first = s->len <= SPLITS_THREE_MAX ? 1 : s->len;
}

bool splits_next(struct splits *s)
{
    s->at = 0;
    s->pieces = 0;
    while (s->stage != STAGE_END) {
        if (advance(s))
            return true;
        enter_next_stage(s);
        if (s->stage == STAGE_WHOLE)
            return true;
    }
    guard_free(s->memory, s->len);
    return false;
}

bool splits_piece(struct splits *s, const uint8_t **piece, size_t *len)
{
    size_t left = s->len - s->at;
    size_t wanted = left;
    if (left == 0)
        return false;
    if (s->stage == STAGE_EVEN || s->pieces == 0)
        wanted = s->first;
    else if (s->stage == STAGE_THREE && s->pieces == 1)
        wanted = s->second;
    if (wanted > left)
        wanted = left;
    /* The rest of the memory is overwritten, so that a parser that keeps pointers into old pieces is caught.
     */
    memset(s->memory, 0xA5, s->len);
    *piece = memcpy(s->memory + s->len - wanted, s->data + s->at, wanted);
    *len = wanted;
    s->at += wanted;
    s->pieces++;
    return true;
}
