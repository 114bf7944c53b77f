#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "lib/test_certificates.h"
#include "net/trust.h"
#include "net/trust_anchors.h"

static struct trust trust;
static char path[] = "/tmp/fumidai-bundle-XXXXXX";

static int setup(void **state)
{
    (void) state;
    strcpy(path, "/tmp/fumidai-bundle-XXXXXX");
    int fd = mkstemp(path);
    close(fd);
    return trust_open(&trust, NULL);
}

static int teardown(void **state)
{
    (void) state;
    trust_close(&trust);
    return unlink(path);
}

static void write_bundle(const char *const parts[], size_t count)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    for (size_t i = 0; i < count; i++)
        fputs(parts[i], file);
    fclose(file);
}

#define WRITE_BUNDLE(...)                                                                                    \
    write_bundle((const char *const[]){__VA_ARGS__},                                                         \
                 sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *))

static void the_built_in_certificates_are_there(void **state)
{
    (void) state;
    assert_true(TRUST_ANCHOR_COUNT >= 5);
    assert_int_equal(trust.count, TRUST_ANCHOR_COUNT);
    for (size_t i = 0; i < trust.count; i++) {
        assert_int_equal(trust.anchors[i].flags, BR_X509_TA_CA);
        assert_int_equal(trust.anchors[i].dn.len, TRUST_ANCHORS[i].dn.len);
        assert_memory_equal(trust.anchors[i].dn.data, TRUST_ANCHORS[i].dn.data, TRUST_ANCHORS[i].dn.len);
    }
}

static void a_bundle_adds_its_certificates_once(void **state)
{
    (void) state;
    WRITE_BUNDLE("# comment\n", CERTIFICATE_ROOT_EC, "text between\n", CERTIFICATE_ROOT_RSA,
                 CERTIFICATE_ROOT_EC);
    assert_int_equal(trust_add_file(&trust, path), 2);
    assert_int_equal(trust_add_file(&trust, path), 0);
    assert_int_equal(trust.count, TRUST_ANCHOR_COUNT + 2);
    const br_x509_trust_anchor *ec = &trust.anchors[TRUST_ANCHOR_COUNT];
    const br_x509_trust_anchor *rsa = &trust.anchors[TRUST_ANCHOR_COUNT + 1];
    assert_int_equal(ec->pkey.key_type, BR_KEYTYPE_EC);
    assert_int_equal(ec->pkey.key.ec.qlen, 65);
    assert_int_equal(ec->pkey.key.ec.q[0], 4); /* an uncompressed point */
    assert_int_equal(rsa->pkey.key_type, BR_KEYTYPE_RSA);
    assert_int_equal(rsa->pkey.key.rsa.nlen, 256);
    assert_int_equal(rsa->pkey.key.rsa.elen, 3);
    assert_memory_equal(rsa->pkey.key.rsa.e, "\x01\x00\x01", 3);
}

static void keys_and_damage_are_passed_over(void **state)
{
    (void) state;
    static const char damaged[] = "-----BEGIN CERTIFICATE-----\nAAAA*AAA\n-----END CERTIFICATE-----\n";
    static const char not_der[] = "-----BEGIN CERTIFICATE-----\nAAAAAAAA\n-----END CERTIFICATE-----\n";
    WRITE_BUNDLE(KEY_LEAF_EC, damaged, not_der, CERTIFICATE_ROOT_EC);
    assert_int_equal(trust_add_file(&trust, path), 1);
}

static void the_last_line_needs_no_end(void **state)
{
    (void) state;
    char text[sizeof CERTIFICATE_ROOT_EC];
    memcpy(text, CERTIFICATE_ROOT_EC, sizeof text);
    text[strlen(text) - 1] = '\0';
    WRITE_BUNDLE(text);
    assert_int_equal(trust_add_file(&trust, path), 1);
}

static void a_leaf_is_trusted_for_itself_only(void **state)
{
    (void) state;
    WRITE_BUNDLE(CERTIFICATE_LEAF_EC);
    assert_int_equal(trust_add_file(&trust, path), 1);
    assert_int_equal(trust.anchors[trust.count - 1].flags, 0);
}

static void missing_and_unfit_files_add_nothing(void **state)
{
    (void) state;
    assert_int_equal(trust_add_file(&trust, NULL), 0);
    assert_int_equal(trust_add_file(&trust, ""), 0);
    assert_int_equal(trust_add_file(&trust, "/nonexistent/roots.pem"), 0);
    assert_int_equal(trust_add_file(&trust, "/tmp"), 0);
    WRITE_BUNDLE("no certificate here\n");
    assert_int_equal(trust_add_file(&trust, path), 0);
    assert_int_equal(trust.count, TRUST_ANCHOR_COUNT);
}

static void files_and_certificates_have_bounds(void **state)
{
    (void) state;
    FILE *file = fopen(path, "w");
    for (int i = 0; i < TRUST_FILE_MAX / 60 + 1; i++)
        fputs("# 60 bytes or more ... ........................................\n", file);
    fputs(CERTIFICATE_ROOT_EC, file); /* behind the bound */
    fclose(file);
    assert_int_equal(trust_add_file(&trust, path), 0);

    file = fopen(path, "w");
    fputs("-----BEGIN CERTIFICATE-----\n", file);
    for (int i = 0; i < TRUST_CERTIFICATE_MAX / 48 + 1; i++)
        fputs("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n", file);
    fputs("-----END CERTIFICATE-----\n", file);
    fputs(CERTIFICATE_ROOT_EC, file);
    fclose(file);
    assert_int_equal(trust_add_file(&trust, path), 1);

    unsigned char der[8] = {0x30, 0x06};
    struct error err = ERROR_INIT;
    assert_int_equal(trust_add_certificate(&trust, der, sizeof der, &err), ERROR_INVALID);
    assert_non_null(strstr(err.text, "a certificate can't be decoded (BearSSL error "));
}

static void a_distributions_bundle_fits(void **state)
{
    (void) state;
    static const char bundle[] = "/etc/ssl/certs/ca-certificates.crt";
    if (access(bundle, R_OK) != 0)
        skip();
    size_t added = trust_add_file(&trust, bundle);
    assert_true(added > 50);
    size_t bytes = trust.capacity * sizeof *trust.anchors;
    for (size_t i = 0; i < trust.count; i++) {
        const br_x509_pkey *key = &trust.anchors[i].pkey;
        bytes += trust.anchors[i].dn.len +
                 (key->key_type == BR_KEYTYPE_RSA ? key->key.rsa.nlen + key->key.rsa.elen : key->key.ec.qlen);
    }
    assert_true(bytes < 128 * 1024); /* the PEM has 220 kB */
}

static void the_machines_own_bundle(void **state)
{
    (void) state;
    bool is_there = access("/etc/ssl/certs/ca-certificates.crt", R_OK) == 0;
    size_t before = trust.count;
    if (!is_there)
        skip();
    assert_true(trust_add_system(&trust));
    assert_true(trust.count > before);
    before = trust.count;
    assert_true(trust_add_system(&trust)); /* none of them twice */
    assert_int_equal(trust.count, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_built_in_certificates_are_there, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bundle_adds_its_certificates_once, setup, teardown),
        cmocka_unit_test_setup_teardown(keys_and_damage_are_passed_over, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_line_needs_no_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_leaf_is_trusted_for_itself_only, setup, teardown),
        cmocka_unit_test_setup_teardown(missing_and_unfit_files_add_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(files_and_certificates_have_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(a_distributions_bundle_fits, setup, teardown),
        cmocka_unit_test_setup_teardown(the_machines_own_bundle, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
