#include "base/uuid.h"

#include <string.h>

#include "base/bytes.h"

void uuid_v4(uint8_t uuid[UUID_SIZE], const uint8_t random[UUID_SIZE])
{
    memmove(uuid, random, UUID_SIZE);
    uuid[6] = (uint8_t) ((uuid[6] & 0x0F) | 0x40); /* version 4 (RFC 9562, 4.2) */
    uuid[8] = (uint8_t) ((uuid[8] & 0x3F) | 0x80); /* variant 10 (RFC 9562, 4.1) */
}

/* Whether a dash stands before this byte in the text form, 8-4-4-4-12. */
static bool dash_before(size_t index)
{
    return index == 4 || index == 6 || index == 8 || index == 10;
}

void uuid_format(const uint8_t uuid[UUID_SIZE], char out[UUID_TEXT_SIZE])
{
    struct writer w = writer_of(out, UUID_TEXT_SIZE);
    for (size_t i = 0; i < UUID_SIZE; i++) {
        if (dash_before(i))
            writer_char(&w, '-');
        writer_hex(&w, &uuid[i], 1);
    }
    writer_char(&w, '\0');
}

bool uuid_parse(struct str text, uint8_t uuid[UUID_SIZE])
{
    if (text.len != UUID_TEXT_SIZE - 1)
        return false;
    uint8_t parsed[UUID_SIZE];
    size_t at = 0;
    for (size_t i = 0; i < UUID_SIZE; i++) {
        uint64_t byte;
        if (dash_before(i) && text.ptr[at++] != '-')
            return false;
        if (!str_parse_hex_u64(str_slice(text, at, at + 2), &byte))
            return false;
        parsed[i] = (uint8_t) byte;
        at += 2;
    }
    memcpy(uuid, parsed, sizeof parsed);
    return true;
}
