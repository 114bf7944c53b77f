#include "net/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "host/log.h"
#include "net/trust_anchors.h"
#include "wire/certificate.h"

enum { DN_MAX = 1024 /* a distinguished name; the longest in Mozilla's list has 250 bytes */ };

/* --- the table ------------------------------------------------------------------------------------------ */

static bool make_room(struct trust *trust)
{
    if (trust->count < trust->capacity)
        return true;
    size_t capacity = trust->capacity == 0 ? 8 : 2 * trust->capacity;
    br_x509_trust_anchor *anchors = calloc(capacity, sizeof *anchors);
    if (anchors == NULL)
        return false;
    if (trust->count > 0)
        memcpy(anchors, trust->anchors, trust->count * sizeof *anchors);
    free(trust->anchors);
    trust->anchors = anchors;
    trust->capacity = capacity;
    return true;
}

/* The key's parts, whatever its kind: RSA's modulus and exponent, or EC's point. */
struct key_parts {
    unsigned char *data[2];
    size_t len[2];
};

static struct key_parts parts_of(const br_x509_pkey *key)
{
    if (key->key_type == BR_KEYTYPE_RSA)
        return (struct key_parts){{key->key.rsa.n, key->key.rsa.e}, {key->key.rsa.nlen, key->key.rsa.elen}};
    return (struct key_parts){{key->key.ec.q, NULL}, {key->key.ec.qlen, 0}};
}

static bool same_bytes(const void *a, size_t a_len, const void *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static bool same_anchor(const br_x509_trust_anchor *a, const br_x509_trust_anchor *b)
{
    if (a->pkey.key_type != b->pkey.key_type || a->flags != b->flags ||
        !same_bytes(a->dn.data, a->dn.len, b->dn.data, b->dn.len))
        return false;
    struct key_parts a_key = parts_of(&a->pkey);
    struct key_parts b_key = parts_of(&b->pkey);
    return same_bytes(a_key.data[0], a_key.len[0], b_key.data[0], b_key.len[0]) &&
           same_bytes(a_key.data[1], a_key.len[1], b_key.data[1], b_key.len[1]);
}

static bool is_known(const struct trust *trust, const br_x509_trust_anchor *anchor)
{
    for (size_t i = 0; i < trust->count; i++)
        if (same_anchor(&trust->anchors[i], anchor))
            return true;
    return false;
}

static unsigned char *append_copy(unsigned char **end, const unsigned char *data, size_t len)
{
    unsigned char *copy = *end;
    if (len > 0)
        memcpy(copy, data, len);
    *end += len;
    return copy;
}

/* Copies name and key into one block, which dn.data points to the start of. */
static int add_anchor(struct trust *trust, const br_x509_trust_anchor *anchor, struct error *err)
{
    if (is_known(trust, anchor))
        return 0;
    if (trust->count == TRUST_ANCHORS_MAX)
        return error_set(err, ERROR_TOO_LARGE, "more than %d CA certificates", TRUST_ANCHORS_MAX);
    struct key_parts key = parts_of(&anchor->pkey);
    unsigned char *end = malloc(anchor->dn.len + key.len[0] + key.len[1]);
    if (end == NULL || !make_room(trust)) {
        free(end);
        return error_set(err, ERROR_SYSTEM, "out of memory");
    }
    br_x509_trust_anchor *copy = &trust->anchors[trust->count++];
    *copy = *anchor;
    copy->dn.data = append_copy(&end, anchor->dn.data, anchor->dn.len);
    if (copy->pkey.key_type == BR_KEYTYPE_EC) {
        copy->pkey.key.ec.q = append_copy(&end, key.data[0], key.len[0]);
    } else {
        copy->pkey.key.rsa.n = append_copy(&end, key.data[0], key.len[0]);
        copy->pkey.key.rsa.e = append_copy(&end, key.data[1], key.len[1]);
    }
    return 0;
}

int trust_open(struct trust *trust, struct error *err)
{
    *trust = (struct trust){0};
    for (size_t i = 0; i < TRUST_ANCHOR_COUNT; i++) {
        int result = add_anchor(trust, &TRUST_ANCHORS[i], err);
        if (result != 0) {
            trust_close(trust);
            return error_prefix(err, "built-in CA certificates: ");
        }
    }
    return 0;
}

void trust_close(struct trust *trust)
{
    for (size_t i = 0; i < trust->count; i++)
        free(trust->anchors[i].dn.data);
    free(trust->anchors);
    *trust = (struct trust){0};
}

/* --- certificates --------------------------------------------------------------------------------------- */

struct name_bytes {
    unsigned char data[DN_MAX];
    size_t len;
    bool failed;
};

static void append_name(void *context, const void *data, size_t len)
{
    struct name_bytes *name = context;
    if (len > sizeof name->data - name->len) {
        name->failed = true;
        return;
    }
    memcpy(name->data + name->len, data, len);
    name->len += len;
}

int trust_add_certificate(struct trust *trust, const void *der, size_t len, struct error *err)
{
    struct name_bytes name = {.len = 0};
    br_x509_decoder_context decoder;
    br_x509_decoder_init(&decoder, append_name, &name);
    br_x509_decoder_push(&decoder, der, len);
    br_x509_pkey *key = br_x509_decoder_get_pkey(&decoder);
    if (key == NULL) {
        return error_set(err, ERROR_INVALID, "a certificate can't be decoded (BearSSL error %d)",
                         br_x509_decoder_last_error(&decoder));
    }
    if (name.failed)
        return error_set(err, ERROR_TOO_LARGE, "a certificate's subject has more than %d bytes", DN_MAX);
    /* Only its name and key are kept: what else it demands must not be forgotten. */
    struct certificate_facts facts;
    certificate_read(&facts, (struct str){der, len}, (struct ip){.version = 0});
    if (facts.unchecked.len > 0)
        return error_set(err, ERROR_UNSUPPORTED,
                         "a CA certificate has a critical extension or name constraints, which can't be "
                         "checked here");
    br_x509_trust_anchor anchor = {
        .dn = {.data = name.data, .len = name.len},
        .flags = br_x509_decoder_isCA(&decoder) ? BR_X509_TA_CA : 0,
        .pkey = *key,
    };
    return add_anchor(trust, &anchor, err);
}

/* --- bundles -------------------------------------------------------------------------------------------- */

/* One bundle on its way through the PEM decoder. */
struct bundle {
    struct trust *trust;
    br_pem_decoder_context pem;
    unsigned char der[TRUST_CERTIFICATE_MAX];
    size_t der_len;
    bool is_certificate;
    bool overflowed;
    size_t refused;   /* certificates that could not be used */
    struct error err; /* why the last of them could not */
};

static void append_der(void *context, const void *data, size_t len)
{
    struct bundle *bundle = context;
    if (len > sizeof bundle->der - bundle->der_len) {
        bundle->overflowed = true;
        return;
    }
    memcpy(bundle->der + bundle->der_len, data, len);
    bundle->der_len += len;
}

static void begin_object(struct bundle *bundle)
{
    const char *name = br_pem_decoder_name(&bundle->pem);
    /* BearSSL gives the name in upper case. Keys and other blocks are skipped. */
    bundle->is_certificate = strcmp(name, "CERTIFICATE") == 0 || strcmp(name, "X509 CERTIFICATE") == 0;
    bundle->der_len = 0;
    bundle->overflowed = false;
    br_pem_decoder_setdest(&bundle->pem, bundle->is_certificate ? append_der : NULL, bundle);
}

static void end_object(struct bundle *bundle)
{
    if (!bundle->is_certificate)
        return;
    int result = bundle->overflowed
                     ? error_set(&bundle->err, ERROR_TOO_LARGE, "a certificate has more than %d bytes",
                                 TRUST_CERTIFICATE_MAX)
                     : trust_add_certificate(bundle->trust, bundle->der, bundle->der_len, &bundle->err);
    bundle->refused += result != 0;
}

static void feed_bundle(struct bundle *bundle, const char *data, size_t len)
{
    while (len > 0) {
        size_t used = br_pem_decoder_push(&bundle->pem, data, len);
        data += used;
        len -= used;
        switch (br_pem_decoder_event(&bundle->pem)) {
        case BR_PEM_BEGIN_OBJ:
            begin_object(bundle);
            break;
        case BR_PEM_END_OBJ:
            end_object(bundle);
            break;
        case BR_PEM_ERROR:
            bundle->refused++;
            error_set(&bundle->err, ERROR_INVALID, "an object's base64 is damaged");
            break;
        default:
            break;
        }
    }
}

/* 0 or an errno; EFBIG beyond the bound. */
static int read_bundle(struct bundle *bundle, const char *path)
{
    char buffer[2048];
    size_t total = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0)
        return errno;
    ssize_t got;
    while ((got = read(fd, buffer, sizeof buffer)) > 0 && total <= TRUST_FILE_MAX) {
        total += (size_t) got;
        feed_bundle(bundle, buffer, (size_t) got);
    }
    int reason = got < 0 ? errno : got > 0 ? EFBIG : 0;
    close(fd);
    feed_bundle(bundle, "\n", 1); /* the last line may have no end */
    return reason;
}

static void warn(const char *path, const char *reason, size_t refused)
{
    log_event(LOG_WARN, "some certificates of a CA bundle can't be used", LOG_TEXT("file", path),
              LOG_TEXT("error", reason), LOG_I64("refused", refused));
}

size_t trust_add_file(struct trust *trust, const char *path)
{
    if (path == NULL || path[0] == '\0')
        return 0;
    size_t before = trust->count;
    struct bundle *bundle = calloc(1, sizeof *bundle);
    if (bundle == NULL) {
        warn(path, "out of memory", 0);
        return 0;
    }
    bundle->trust = trust;
    br_pem_decoder_init(&bundle->pem);
    int reason = read_bundle(bundle, path);
    if (reason != 0)
        warn(path, strerror(reason), bundle->refused);
    else if (bundle->refused > 0)
        warn(path, bundle->err.text, bundle->refused);
    else if (trust->count == before)
        log_event(LOG_DEBUG, "a CA bundle adds no certificates", LOG_TEXT("file", path));
    free(bundle);
    return trust->count - before;
}

bool trust_add_system(struct trust *trust)
{
    static const char *const BUNDLES[] = {
        "/etc/ssl/certs/ca-certificates.crt", /* Debian, Alpine, Arch */
        "/etc/pki/tls/certs/ca-bundle.crt",   /* Fedora, Amazon Linux */
        "/etc/ssl/ca-bundle.pem",             /* SUSE */
        "/etc/ssl/cert.pem",
    };
    for (size_t i = 0; i < sizeof BUNDLES / sizeof BUNDLES[0]; i++) {
        if (access(BUNDLES[i], R_OK) != 0)
            continue;
        trust_add_file(trust, BUNDLES[i]);
        return true;
    }
    return false;
}
