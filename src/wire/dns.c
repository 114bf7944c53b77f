#include "wire/dns.h"

#include <string.h>

enum {
    HEADER_BYTES = 12,
    CLASS_IN = 1,
    IS_RESPONSE = 0x8000,
    OPCODE = 0x7800,
    IS_TRUNCATED = 0x0200,
    WANTS_RECURSION = 0x0100,
    CODE = 0x000f,
    POINTER = 0xc0, /* the two high bits of a length: a pointer follows */
    /* Bytes of labels and pointers that are read for one name: twice what the longest name takes, because
     * each pointer counts. More is an attack. */
    NAME_BYTES_MAX = 2 * 255
};

struct str dns_without_last_dot(struct str name)
{
    return str_ends_with(name, ".") ? str_slice(name, 0, name.len - 1) : name;
}

bool dns_same_text(struct str a, struct str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (str_lower(a.ptr[i]) != str_lower(b.ptr[i]))
            return false;
    return true;
}

/* --- questions ------------------------------------------------------------------------------------------ */

static bool is_host_character(char c)
{
    return str_is_alnum(c) || c == '-' || c == '_';
}

static int check_label(struct str label, struct error *err)
{
    if (label.len == 0)
        return error_set(err, ERROR_INVALID, "a host name has no empty part between its dots");
    if (label.len > DNS_LABEL_MAX)
        return error_set(err, ERROR_INVALID, "a part of a host name has at most %d characters",
                         DNS_LABEL_MAX);
    for (size_t i = 0; i < label.len; i++) {
        if ((label.ptr[i] & 0x80) != 0)
            return error_set(err, ERROR_INVALID,
                             "a host name has ASCII letters only: give the form of it that begins with xn--");
        if (!is_host_character(label.ptr[i]))
            return error_set(err, ERROR_INVALID, "a host name has letters, digits, '-', '_' and '.' only");
    }
    return 0;
}

int dns_check_name(struct str name, struct error *err)
{
    struct str rest = dns_without_last_dot(name);
    if (rest.len == 0 || rest.len >= DNS_NAME_SIZE)
        return error_set(err, ERROR_INVALID, "a host name has 1 to %d characters", DNS_NAME_SIZE - 1);
    for (bool more = true; more;) {
        struct str label;
        more = str_cut(rest, '.', &label, &rest);
        int result = check_label(label, err);
        if (result != 0)
            return result;
    }
    return 0;
}

static void write_name(struct writer *w, struct str name)
{
    struct str rest = dns_without_last_dot(name);
    while (rest.len > 0) {
        struct str label;
        str_cut(rest, '.', &label, &rest);
        writer_u8(w, (uint8_t) label.len);
        writer_str(w, label);
    }
    writer_u8(w, 0);
}

void dns_write_query(struct writer *w, uint16_t id, struct str name, enum dns_type type, bool wants_more)
{
    writer_u16be(w, id);
    writer_u16be(w, WANTS_RECURSION);
    writer_u16be(w, 1); /* questions */
    writer_u32be(w, 0); /* answers, authorities */
    writer_u16be(w, wants_more);
    write_name(w, name);
    writer_u16be(w, (uint16_t) type);
    writer_u16be(w, CLASS_IN);
    if (!wants_more)
        return;
    writer_u8(w, 0); /* OPT's name is the root */
    writer_u16be(w, DNS_TYPE_OPT);
    writer_u16be(w, DNS_UDP_ANSWER_MAX);
    writer_u32be(w, 0); /* version 0, no flags */
    writer_u16be(w, 0); /* no options */
}

/* --- names in a message --------------------------------------------------------------------------------- */

struct message {
    const uint8_t *bytes;
    size_t len;
};

/* A name that is being read: pointers go backwards only, from the lowest place that was reached. */
struct name_cursor {
    size_t at;
    size_t lowest;
    size_t left; /* of NAME_BYTES_MAX */
};

static struct name_cursor name_at(size_t at)
{
    return (struct name_cursor){.at = at, .lowest = at, .left = NAME_BYTES_MAX};
}

/* The next label; empty at the name's end. False for a name that can't be read. */
static bool next_label(const struct message *m, struct name_cursor *name, struct str *label)
{
    for (; name->at < m->len && name->left > 0; name->left--) {
        size_t first = m->bytes[name->at];
        size_t behind = m->len - name->at - 1;
        if (first < POINTER) {
            if (first > DNS_LABEL_MAX || first > behind || first >= name->left)
                return false;
            *label = (struct str){(const char *) m->bytes + name->at + 1, first};
            name->at += 1 + first;
            name->left -= 1 + first;
            return true;
        }
        size_t target = behind > 0 ? (first & ~(size_t) POINTER) << 8 | m->bytes[name->at + 1] : m->len;
        if (target >= name->lowest)
            return false;
        name->at = target;
        name->lowest = target;
    }
    return false;
}

static bool same_name(const struct message *m, size_t a_at, size_t b_at)
{
    struct name_cursor a = name_at(a_at);
    struct name_cursor b = name_at(b_at);
    struct str a_label;
    struct str b_label;
    do {
        if (!next_label(m, &a, &a_label) || !next_label(m, &b, &b_label) || !dns_same_text(a_label, b_label))
            return false;
    } while (a_label.len > 0);
    return true;
}

/* Behind the name that starts here; the message's length when it can't be read. */
static size_t skip_name(const struct message *m, size_t at)
{
    while (at < m->len && m->bytes[at] > 0 && m->bytes[at] < POINTER)
        at += 1U + m->bytes[at];
    at += at < m->len && m->bytes[at] >= POINTER ? 2 : 1;
    return at < m->len ? at : m->len;
}

/* --- answers -------------------------------------------------------------------------------------------- */

static uint16_t u16_at(const struct message *m, size_t at)
{
    return (uint16_t) (m->bytes[at] << 8 | m->bytes[at + 1]);
}

/* Reads the question behind the header; 0 when it is another, else where the records begin. */
static size_t skip_question(const struct message *m, struct str name, enum dns_type type)
{
    struct name_cursor cursor = name_at(HEADER_BYTES);
    struct str rest = dns_without_last_dot(name);
    struct str wanted;
    struct str label;
    do {
        str_cut(rest, '.', &wanted, &rest); /* empty behind the last */
        if (!next_label(m, &cursor, &label) || !dns_same_text(label, wanted))
            return 0;
    } while (label.len > 0);
    bool has_pointer = cursor.lowest != HEADER_BYTES;
    if (has_pointer || m->len - cursor.at < 4 || u16_at(m, cursor.at) != type ||
        u16_at(m, cursor.at + 2) != CLASS_IN)
        return 0;
    return cursor.at + 4;
}

struct record {
    size_t owner; /* where its name is */
    size_t data;
    size_t data_len;
    uint16_t type;
};

/* Reads the record at *at and goes behind it. False when it is cut off. */
static bool next_record(const struct message *m, size_t *at, struct record *record)
{
    enum { FIXED_BYTES = 10 }; /* type, class, TTL, length */
    size_t fixed = skip_name(m, *at);
    if (m->len - fixed < FIXED_BYTES)
        return false;
    size_t data = fixed + FIXED_BYTES;
    size_t data_len = u16_at(m, fixed + 8);
    if (m->len - data < data_len)
        return false;
    *record = (struct record){.owner = *at, .data = data, .data_len = data_len, .type = u16_at(m, fixed)};
    if (u16_at(m, fixed + 2) != CLASS_IN)
        record->type = 0; /* none that is looked for */
    *at = data + data_len;
    return true;
}

/* The next record of this type and owner; false when there is none left. */
static bool find_record(const struct message *m, size_t *at, unsigned *left, size_t owner, uint16_t type,
                        struct record *record)
{
    for (; *left > 0; --*left) {
        if (!next_record(m, at, record))
            return false;
        if (record->type == type && same_name(m, record->owner, owner)) {
            --*left;
            return true;
        }
    }
    return false;
}

/* Where the name stands that has the addresses: the question's, or what its aliases lead to. */
static size_t follow_aliases(const struct message *m, size_t records, unsigned count)
{
    size_t owner = HEADER_BYTES;
    for (int aliases = 0; aliases < DNS_ALIASES_MAX; aliases++) {
        struct record alias;
        size_t at = records;
        unsigned left = count;
        if (!find_record(m, &at, &left, owner, DNS_TYPE_CNAME, &alias))
            break;
        owner = alias.data;
    }
    return owner;
}

static void add_address(struct dns_answer *answer, struct ip address)
{
    for (size_t i = 0; i < answer->count; i++)
        if (ip_equal(answer->addresses[i], address))
            return;
    if (answer->count < DNS_ADDRESSES_MAX)
        answer->addresses[answer->count++] = address;
}

static void collect_addresses(const struct message *m, size_t records, unsigned count, enum dns_type type,
                              struct dns_answer *answer)
{
    size_t owner = follow_aliases(m, records, count);
    size_t wanted_len = type == DNS_TYPE_A ? 4 : 16;
    struct record record;
    while (find_record(m, &records, &count, owner, (uint16_t) type, &record)) {
        const uint8_t *data = m->bytes + record.data;
        if (record.data_len == wanted_len)
            add_address(answer, type == DNS_TYPE_A ? ip_v4(data) : ip_v6(data));
    }
    answer->is_truncated = answer->is_truncated || count > 0;
}

bool dns_parse_answer(struct dns_answer *answer, const uint8_t *bytes, size_t len, uint16_t id,
                      struct str name, enum dns_type type)
{
    struct message m = {bytes, len};
    *answer = (struct dns_answer){.count = 0};
    if (len < HEADER_BYTES || u16_at(&m, 0) != id || u16_at(&m, 4) != 1)
        return false;
    uint16_t flags = u16_at(&m, 2);
    size_t records = skip_question(&m, name, type);
    if ((flags & (IS_RESPONSE | OPCODE)) != IS_RESPONSE || records == 0)
        return false;
    answer->code = (enum dns_code)(flags & CODE);
    answer->is_truncated = (flags & IS_TRUNCATED) != 0;
    if (answer->code == DNS_CODE_OK)
        collect_addresses(&m, records, u16_at(&m, 6), type, answer);
    return true;
}
