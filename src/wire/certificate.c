#include "wire/certificate.h"

#include <string.h>

enum {
    TAG_BOOLEAN = 0x01,
    TAG_OCTETS = 0x04,
    TAG_OID = 0x06,
    TAG_SEQUENCE = 0x30,
    TAG_IP_ADDRESS = 0x87, /* [7] in GeneralName */
    TAG_EXTENSIONS = 0xA3  /* [3] in TBSCertificate */
};

/* The next element of `rest`: its tag, and what is in it. */
static bool take(struct str *rest, uint8_t *tag, struct str *value)
{
    const uint8_t *at = (const uint8_t *) rest->ptr;
    size_t head = 2;
    if (rest->len < head)
        return false;
    *tag = at[0];
    size_t len = at[1];
    if (len >= 0x80) {
        size_t count = len - 0x80;
        if (count == 0 || count > 3 || rest->len < head + count)
            return false;
        for (len = 0; count > 0; count--)
            len = len << 8 | at[head++];
    }
    if (rest->len - head < len)
        return false;
    *value = str_slice(*rest, head, head + len);
    *rest = str_slice(*rest, head + len, rest->len);
    return true;
}

/* The next element with this tag; others are left out. */
static bool take_tagged(struct str *rest, uint8_t wanted, struct str *value)
{
    uint8_t tag;
    while (take(rest, &tag, value))
        if (tag == wanted)
            return true;
    return false;
}

/* id-ce, 2.5.29: the last byte says which. */
static int id_ce(struct str oid)
{
    return oid.len == 3 && memcmp(oid.ptr, "\x55\x1D", 2) == 0 ? oid.ptr[2] : -1;
}

enum { ALT_NAME = 17, NAME_CONSTRAINTS = 30, EXTENDED_KEY_USAGE = 37 };

/* What BearSSL understands, or is right to ignore, when it is critical (x509_minimal.t0). */
static bool is_known(struct str oid)
{
    static const char known[] = {19, 15, ALT_NAME, 32, 35, 14, 18, 9, 31, 46};
    int number = id_ce(oid);
    return (number >= 0 && memchr(known, number, sizeof known) != NULL) ||
           str_equal(oid, STR_LITERAL("\x2B\x06\x01\x05\x05\x07\x01\x01")) ||
           str_equal(oid, STR_LITERAL("\x2B\x06\x01\x05\x05\x07\x01\x0B"));
}

static bool names(struct str value, struct ip address)
{
    struct str list, name;
    struct str bytes = {(const char *) address.bytes, address.version == IP_V4 ? 4 : 16};
    if (!take_tagged(&value, TAG_SEQUENCE, &list))
        return false;
    while (take_tagged(&list, TAG_IP_ADDRESS, &name))
        if (str_equal(name, bytes))
            return true;
    return false;
}

static bool serves(struct str value)
{
    struct str list, purpose;
    if (!take_tagged(&value, TAG_SEQUENCE, &list))
        return false;
    while (take_tagged(&list, TAG_OID, &purpose))
        if (str_equal(purpose, STR_LITERAL("\x2B\x06\x01\x05\x05\x07\x03\x01")) ||
            str_equal(purpose, STR_LITERAL("\x55\x1D\x25\x00")))
            return true;
    return false;
}

static void read_extension(struct certificate_facts *facts, struct str extension, struct ip address)
{
    struct str oid, value;
    uint8_t tag;
    bool critical = false;
    if (!take_tagged(&extension, TAG_OID, &oid) || !take(&extension, &tag, &value))
        return;
    if (tag == TAG_BOOLEAN) {
        critical = true; /* DER leaves FALSE, the default, out */
        if (!take(&extension, &tag, &value))
            return;
    }
    int number = id_ce(oid);
    if (number == ALT_NAME)
        facts->names_address = facts->names_address || names(value, address);
    if (number == EXTENDED_KEY_USAGE && !serves(value))
        facts->is_for_others = true;
    if (number == NAME_CONSTRAINTS || (critical && !is_known(oid)))
        facts->unchecked = oid;
}

void certificate_read(struct certificate_facts *facts, struct str der, struct ip address)
{
    struct str outer, inner, list, extensions, extension;
    *facts = (struct certificate_facts){.names_address = false};
    if (!take_tagged(&der, TAG_SEQUENCE, &outer) || !take_tagged(&outer, TAG_SEQUENCE, &inner) ||
        !take_tagged(&inner, TAG_EXTENSIONS, &list) || !take_tagged(&list, TAG_SEQUENCE, &extensions))
        return;
    while (take_tagged(&extensions, TAG_SEQUENCE, &extension))
        read_extension(facts, extension, address);
}

void certificate_write_extension(struct writer *w, struct str oid)
{
    int number = id_ce(oid);
    writer_text(w, number == NAME_CONSTRAINTS     ? "name constraints ("
                   : number == EXTENDED_KEY_USAGE ? "extended key usage ("
                   : number == 36                 ? "policy constraints ("
                                                  : "unknown (");
    uint32_t part = 0;
    bool is_first = true; /* of the parts; it holds two */
    for (size_t i = 0; i < oid.len; i++) {
        uint8_t byte = (uint8_t) oid.ptr[i];
        part = part << 7 | (byte & 0x7F);
        if (byte >= 0x80)
            continue;
        if (is_first)
            writer_format(w, "%u.%u", part < 80 ? part / 40 : 2, part < 80 ? part % 40 : part - 80);
        else
            writer_format(w, ".%u", part);
        is_first = false;
        part = 0;
    }
    writer_char(w, ')');
}
