/*
 * xml: enough of XML 1.0 to take text out of AWS's small, flat answers: `<Root
 * xmlns="..."><Name>text</Name>...`. It walks over tags, skips declarations and comments, and decodes the
 * five named entities and character references. No DTDs, no CDATA, no validation: whatever is not understood
 * makes the look-up fail, never the program. One pass, no state, no recursion.
 */
#ifndef FUMIDAI_AWS_XML_H
#define FUMIDAI_AWS_XML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

/* The local name (no namespace prefix) of the root element; empty when `body` does not begin with one. */
struct str xml_root(struct str body);

/* The text of the first element with that local name, in any case of letters (the gateway writes <Message>
 * and <message>), decoded and terminated. False when there is none, its end is missing, it holds other
 * elements or an unknown entity, or the text does not fit or holds a NUL; out is then empty. */
bool xml_text(struct str body, const char *name, char *out, size_t capacity);

#endif
