#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "host/loop.h"
#include "lib/test_certificates.h"
#include "lib/text_file.h"
#include "net/network.h"
#include "net/trust_anchors.h"

static struct loop loop;
static struct network network;

static int setup(void **state)
{
    (void) state;
    return loop_open(&loop, NULL);
}

static int teardown(void **state)
{
    (void) state;
    loop_close(&loop);
    return 0;
}

static void an_empty_environment_gives_the_built_in_certificates_and_no_proxy(void **state)
{
    (void) state;
    assert_int_equal(network_open(&network, &loop, NULL, NULL), 0);
    assert_int_equal(network.trust.count, TRUST_ANCHOR_COUNT);
    assert_false(proxy_applies(&network.proxy, STR_LITERAL("example.com"), 443));
    network_close(&network);
}

static void the_environment_adds_certificates_and_a_proxy(void **state)
{
    (void) state;
    char ec[TEXT_FILE_PATH_SIZE];
    char rsa[TEXT_FILE_PATH_SIZE];
    char ssl_cert_file[TEXT_FILE_PATH_SIZE + 16];
    char aws_ca_bundle[TEXT_FILE_PATH_SIZE + 16];
    text_file_make(ec, CERTIFICATE_ROOT_EC);
    text_file_make(rsa, CERTIFICATE_ROOT_RSA);
    snprintf(ssl_cert_file, sizeof ssl_cert_file, "SSL_CERT_FILE=%s", ec);
    snprintf(aws_ca_bundle, sizeof aws_ca_bundle, "AWS_CA_BUNDLE=%s", rsa);
    char *env[] = {ssl_cert_file,
                   aws_ca_bundle,
                   "HTTPS_PROXY=http://loses.example:1",
                   "https_proxy=http://wins.example:3128",
                   "NO_PROXY=.internal",
                   NULL};
    assert_int_equal(network_open(&network, &loop, env, NULL), 0);
    assert_int_equal(network.trust.count, TRUST_ANCHOR_COUNT + 2);
    assert_string_equal(network.proxy.host, "wins.example");
    assert_int_equal(network.proxy.port, 3128);
    assert_true(proxy_applies(&network.proxy, STR_LITERAL("example.com"), 443));
    assert_false(proxy_applies(&network.proxy, STR_LITERAL("db.internal"), 443));
    network_close(&network);
    text_file_remove(ec);
    text_file_remove(rsa);
}

static void neither_a_file_that_is_not_there_nor_a_malformed_proxy_is_fatal(void **state)
{
    (void) state;
    char *missing[] = {"SSL_CERT_FILE=/nonexistent/ca.pem", NULL};
    char *malformed[] = {"HTTPS_PROXY=http://proxy.example:99999", NULL};
    struct error err = ERROR_INIT;
    assert_int_equal(network_open(&network, &loop, missing, &err), 0);
    assert_int_equal(network.trust.count, TRUST_ANCHOR_COUNT);
    network_close(&network);
    assert_int_equal(network.proxy_err.code, ERROR_NONE);
    assert_int_equal(network_open(&network, &loop, malformed, &err), 0);
    assert_int_equal(network.proxy_err.code, ERROR_INVALID);
    assert_non_null(strstr(network.proxy_err.text, "HTTPS_PROXY"));
    network_close(&network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(an_empty_environment_gives_the_built_in_certificates_and_no_proxy,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(the_environment_adds_certificates_and_a_proxy, setup, teardown),
        cmocka_unit_test_setup_teardown(neither_a_file_that_is_not_there_nor_a_malformed_proxy_is_fatal,
                                        setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
