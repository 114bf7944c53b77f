/* uuid: RFC 9562 version 4, from random bytes that the caller brings (pure code has no randomness of its
 * own). */
#ifndef FUMIDAI_BASE_UUID_H
#define FUMIDAI_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"

enum {
    UUID_SIZE = 16,     /* RFC 9562 */
    UUID_TEXT_SIZE = 37 /* 36 and the terminator */
};

void uuid_v4(uint8_t uuid[UUID_SIZE], const uint8_t random[UUID_SIZE]);    /* sets version and variant bits */
void uuid_format(const uint8_t uuid[UUID_SIZE], char out[UUID_TEXT_SIZE]); /* dashed, lower case */
bool uuid_parse(struct str text, uint8_t uuid[UUID_SIZE]);                 /* dashed, any case */

#endif
