/*
 * usage: generate PINS DIRECTORY >trust_anchors.c
 *
 * Turns the certificates named in PINS, PEM files in DIRECTORY, into BearSSL's table of trust anchors (a name
 * and a public key each). Runs at build time. A certificate that is absent, or is not the pinned one, ends it
 * with a message and status 1, and so stops the build.
 */
#include <bearssl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Root certificates are 500 to 1500 bytes. */
enum { FILE_SIZE_MAX = 16384, NAME_SIZE_MAX = 1024 };

struct bytes {
    uint8_t data[FILE_SIZE_MAX];
    size_t len;
};

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

static void fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("trust anchors: ", stderr);
    vfprintf(stderr, format, args);
    fputs("\n", stderr);
    va_end(args);
    exit(1);
}

static void append(void *context, const void *data, size_t len)
{
    struct bytes *to = context;
    if (len > sizeof to->data - to->len)
        fail("a certificate or name is larger than %d bytes", FILE_SIZE_MAX);
    memcpy(to->data + to->len, data, len);
    to->len += len;
}

static void read_file(const char *path, struct bytes *file)
{
    FILE *in = fopen(path, "rb");
    if (in == NULL)
        fail("%s is not there; the package ca-certificates has it (`make deps`)", path);
    file->len = fread(file->data, 1, sizeof file->data, in);
    if (ferror(in) || !feof(in))
        fail("%s cannot be read, or is larger than %d bytes", path, FILE_SIZE_MAX);
    fclose(in);
}

static void decode_pem(const char *path, const struct bytes *pem, struct bytes *der)
{
    br_pem_decoder_context decoder;
    br_pem_decoder_init(&decoder);
    for (size_t at = 0; at < pem->len;) {
        at += br_pem_decoder_push(&decoder, pem->data + at, pem->len - at);
        switch (br_pem_decoder_event(&decoder)) {
        case BR_PEM_BEGIN_OBJ:
            if (strcmp(br_pem_decoder_name(&decoder), "CERTIFICATE") != 0)
                fail("%s holds something that is not a certificate", path);
            br_pem_decoder_setdest(&decoder, append, der);
            break;
        case BR_PEM_END_OBJ:
            return;
        case BR_PEM_ERROR:
            fail("%s is not valid PEM", path);
        default:
            break;
        }
    }
    fail("%s holds no certificate", path);
}

static void check_sum(const char *path, const struct bytes *der, const char *expected)
{
    br_sha256_context sha256;
    uint8_t sum[br_sha256_SIZE];
    char hex[2 * sizeof sum + 1];
    br_sha256_init(&sha256);
    br_sha256_update(&sha256, der->data, der->len);
    br_sha256_out(&sha256, sum);
    for (size_t i = 0; i < sizeof sum; i++)
        snprintf(hex + 2 * i, 3, "%02x", sum[i]);
    if (strcmp(hex, expected) != 0)
        fail("%s has the SHA-256 %s, pinned is %s: this is not the certificate we trust", path, hex,
             expected);
}

static void print_array(unsigned number, const char *what, const uint8_t *data, size_t len)
{
    printf("static const unsigned char %s_%u[%zu] = {", what, number, len);
    for (size_t i = 0; i < len; i++)
        printf("%s0x%02x,", i % 16 == 0 ? "\n    " : " ", data[i]);
    printf("\n};\n");
}

/* Prints the anchor's arrays, and appends its row of the table to rows. */
static void print_anchor(unsigned number, const char *path, const struct bytes *der, struct bytes *rows)
{
    static struct bytes name;
    char row[NAME_SIZE_MAX];
    br_x509_decoder_context decoder;
    const br_x509_pkey *key;
    int len;
    name.len = 0;
    br_x509_decoder_init(&decoder, append, &name);
    br_x509_decoder_push(&decoder, der->data, der->len);
    key = br_x509_decoder_get_pkey(&decoder);
    if (key == NULL)
        fail("%s cannot be decoded (BearSSL error %d)", path, br_x509_decoder_last_error(&decoder));
    if (!br_x509_decoder_isCA(&decoder))
        fail("%s is not a certification authority", path);

    printf("\n/* %s */\n", path);
    print_array(number, "NAME", name.data, name.len);
    if (key->key_type == BR_KEYTYPE_RSA) {
        print_array(number, "MODULUS", key->key.rsa.n, key->key.rsa.nlen);
        print_array(number, "EXPONENT", key->key.rsa.e, key->key.rsa.elen);
        len = snprintf(row, sizeof row,
                       "    {{BYTES(NAME_%u)}, BR_X509_TA_CA,\n"
                       "     {BR_KEYTYPE_RSA, {.rsa = {BYTES(MODULUS_%u), BYTES(EXPONENT_%u)}}}},\n",
                       number, number, number);
    } else {
        print_array(number, "POINT", key->key.ec.q, key->key.ec.qlen);
        len = snprintf(row, sizeof row,
                       "    {{BYTES(NAME_%u)}, BR_X509_TA_CA,\n"
                       "     {BR_KEYTYPE_EC, {.ec = {%d, BYTES(POINT_%u)}}}},\n",
                       number, key->key.ec.curve, number);
    }
    append(rows, row, (size_t) len);
}

int main(int argc, char **argv)
{
    static struct bytes pem, der, rows;
    char line[NAME_SIZE_MAX], sum[65], file[256], path[NAME_SIZE_MAX];
    unsigned number = 0;
    FILE *pins = argc == 3 ? fopen(argv[1], "r") : NULL;
    if (pins == NULL)
        fail("usage: generate PINS DIRECTORY");
    puts("/* Generated by third_party/trust_anchors/generate.c: edit its pins instead. */\n"
         "#include \"net/trust_anchors.h\"");
    while (fgets(line, sizeof line, pins) != NULL) {
        if (line[0] == '#')
            continue;
        if (sscanf(line, "%64[0-9a-f] %255s", sum, file) != 2)
            fail("%s: not a SHA-256 and a file name: %s", argv[1], line);
        snprintf(path, sizeof path, "%s/%s", argv[2], file);
        pem.len = der.len = 0;
        read_file(path, &pem);
        decode_pem(path, &pem, &der);
        check_sum(path, &der, sum);
        print_anchor(++number, file, &der, &rows);
    }
    fclose(pins);

    /* BearSSL's structures point to non-const bytes that it never writes to. */
    printf("\n#define BYTES(array) (unsigned char *) (array), sizeof(array)\n"
           "const br_x509_trust_anchor TRUST_ANCHORS[] = {\n%.*s};\n"
           "const size_t TRUST_ANCHOR_COUNT = sizeof TRUST_ANCHORS / sizeof TRUST_ANCHORS[0];\n",
           (int) rows.len, (const char *) rows.data);
    return fflush(stdout) == 0 ? 0 : 1;
}
