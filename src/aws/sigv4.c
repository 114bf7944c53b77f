#include "aws/sigv4.h"

#include <string.h>

#include <bearssl_hash.h>
#include <bearssl_hmac.h>

#include "base/bytes.h"
#include "base/num.h"
#include "base/time.h"
#include "wire/url.h"

#define ALGORITHM "AWS4-HMAC-SHA256"
#define SCOPE_END "aws4_request"

enum { DIGEST_SIZE = br_sha256_SIZE, DAY_LENGTH = 8, HEADERS_SIGNED_MAX = API_HEADERS_MAX + 1 };

/* Everything that is signed is hashed as it is made up; the canonical request never stands in memory. */

static void hash_str(br_sha256_context *hash, struct str text)
{
    br_sha256_update(hash, text.ptr, text.len);
}

static void hash_text(br_sha256_context *hash, const char *text)
{
    br_sha256_update(hash, text, strlen(text));
}

static void format_hex(const uint8_t digest[DIGEST_SIZE], char out[2 * DIGEST_SIZE + 1])
{
    struct writer w = writer_of(out, 2 * DIGEST_SIZE + 1);
    writer_hex(&w, digest, DIGEST_SIZE);
    writer_terminate(&w);
}

static void hash_path(br_sha256_context *hash, const char *path)
{
    char escaped[3 * API_PATH_SIZE];
    struct writer w = writer_of(escaped, sizeof escaped);
    writer_percent_encode(&w, str_from(path), "/");
    br_sha256_update(hash, escaped, w.len);
}

/* --- the query: checked, not repaired --- */

static bool is_escaped(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '%') {
            struct str digits = str_slice(text, i + 1, i + 3);
            for (size_t d = 0; d < 2; d++)
                if (d >= digits.len || !strchr("0123456789ABCDEF", digits.ptr[d]) || digits.ptr[d] == '\0')
                    return false;
            i += 2;
        } else if (!url_is_unreserved(text.ptr[i])) {
            return false;
        }
    }
    return true;
}

static int compare(struct str a, struct str b)
{
    size_t common = num_min_size(a.len, b.len);
    int order = common == 0 ? 0 : memcmp(a.ptr, b.ptr, common);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static bool query_is_canonical(struct str query)
{
    struct str last_name = {NULL, 0}, last_value = {NULL, 0};
    while (query.len > 0) {
        struct str parameter, name, value, rest;
        bool more = str_cut(query, '&', &parameter, &rest);
        if (!str_cut(parameter, '=', &name, &value) || name.len == 0 || !is_escaped(name) ||
            !is_escaped(value) || (more && rest.len == 0))
            return false;
        int order = compare(last_name, name);
        if (order > 0 || (order == 0 && compare(last_value, value) > 0))
            return false;
        last_name = name;
        last_value = value;
        query = rest;
    }
    return true;
}

/* --- headers --- */

struct signed_headers {
    struct api_header sorted[HEADERS_SIGNED_MAX];
    size_t count;
};

/* Stable, so that values of one name stay in the order they are sent in. */
static void insert_header(struct signed_headers *headers, struct api_header header)
{
    size_t at = headers->count++;
    while (at > 0 && strcmp(headers->sorted[at - 1].name, header.name) > 0) {
        headers->sorted[at] = headers->sorted[at - 1];
        at--;
    }
    headers->sorted[at] = header;
}

static void sort_headers(struct signed_headers *headers, const struct api_request *request)
{
    headers->count = 0;
    insert_header(headers, (struct api_header){"host", request->host});
    for (size_t i = 0; i < request->header_count; i++)
        insert_header(headers, request->headers[i]);
}

/* Trimmed, and each run of blanks made one. */
static void hash_value(br_sha256_context *hash, struct str value)
{
    value = str_trim(value);
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] != ' ' || value.ptr[i - 1] != ' ')
            br_sha256_update(hash, value.ptr + i, 1);
}

/* Values of one name become one line, with commas. */
static void hash_headers(br_sha256_context *hash, const struct signed_headers *headers)
{
    const char *last = "";
    for (size_t i = 0; i < headers->count; i++) {
        const char *name = headers->sorted[i].name;
        if (strcmp(name, last) == 0) {
            hash_text(hash, ",");
        } else {
            hash_text(hash, i > 0 ? "\n" : "");
            hash_text(hash, name);
            hash_text(hash, ":");
        }
        hash_value(hash, headers->sorted[i].value);
        last = name;
    }
    hash_text(hash, "\n");
}

static void write_header_names(struct writer *w, const struct signed_headers *headers)
{
    const char *last = "";
    for (size_t i = 0; i < headers->count; i++) {
        const char *name = headers->sorted[i].name;
        if (strcmp(name, last) != 0) {
            writer_text(w, i > 0 ? ";" : "");
            writer_text(w, name);
        }
        last = name;
    }
}

/* --- signing --- */

static void hash_request(const struct api_request *request, const struct signed_headers *headers,
                         struct str header_names, char hex[2 * DIGEST_SIZE + 1])
{
    br_sha256_context hash;
    uint8_t digest[DIGEST_SIZE];
    br_sha256_init(&hash);
    hash_str(&hash, request->body);
    br_sha256_out(&hash, digest);
    format_hex(digest, hex);
    br_sha256_init(&hash);
    hash_text(&hash, request->method);
    hash_text(&hash, "\n");
    hash_path(&hash, request->path);
    hash_text(&hash, "\n");
    hash_str(&hash, request->query);
    hash_text(&hash, "\n");
    hash_headers(&hash, headers);
    hash_text(&hash, "\n");
    hash_str(&hash, header_names);
    hash_text(&hash, "\n");
    hash_text(&hash, hex);
    br_sha256_out(&hash, digest);
    format_hex(digest, hex);
    bytes_wipe(&hash, sizeof hash); /* the session token went through it */
}

static void hmac(uint8_t out[DIGEST_SIZE], const void *key, size_t key_len, struct str text)
{
    br_hmac_key_context key_context;
    br_hmac_context context;
    br_hmac_key_init(&key_context, &br_sha256_vtable, key, key_len);
    br_hmac_init(&context, &key_context, 0);
    br_hmac_update(&context, text.ptr, text.len);
    br_hmac_out(&context, out);
    bytes_wipe(&key_context, sizeof key_context);
    bytes_wipe(&context, sizeof context);
}

/* key(day), then region, service and the end of the scope, each keyed with the one before. */
static void derive_key(uint8_t key[DIGEST_SIZE], const struct credentials *credentials, struct str day,
                       struct str region, struct str service)
{
    char secret[sizeof "AWS4" + CREDENTIALS_SECRET_SIZE];
    struct writer w = writer_of(secret, sizeof secret);
    writer_text(&w, "AWS4");
    writer_text(&w, credentials->secret_access_key);
    hmac(key, secret, w.len, day);
    hmac(key, key, DIGEST_SIZE, region);
    hmac(key, key, DIGEST_SIZE, service);
    hmac(key, key, DIGEST_SIZE, STR_LITERAL(SCOPE_END));
    bytes_wipe(secret, sizeof secret);
}

static bool format_date(char date[SIGV4_DATE_SIZE], int64_t unix_ms)
{
    struct writer w = writer_of(date, SIGV4_DATE_SIZE);
    writer_amz_date(&w, unix_ms);
    writer_terminate(&w);
    return !w.failed && w.len == SIGV4_DATE_SIZE - 1;
}

static void write_scope(struct writer *w, struct str day, struct str region, struct str service)
{
    writer_str(w, day);
    writer_char(w, '/');
    writer_str(w, region);
    writer_char(w, '/');
    writer_str(w, service);
    writer_text(w, "/" SCOPE_END);
}

/* The string to sign is built where the header is built afterwards: it is never longer. */
static bool write_authorization(struct sigv4_signature *signature, const struct api_request *request,
                                const struct credentials *credentials, struct str region, struct str service)
{
    struct str day = {signature->amz_date, DAY_LENGTH};
    struct signed_headers headers;
    char request_hash[2 * DIGEST_SIZE + 1], names[API_HEADERS_MAX * 32];
    uint8_t key[DIGEST_SIZE];
    sort_headers(&headers, request);
    struct writer names_writer = writer_of(names, sizeof names);
    write_header_names(&names_writer, &headers);
    struct str header_names = writer_view(&names_writer);
    hash_request(request, &headers, header_names, request_hash);
    struct writer w = writer_of(signature->authorization, sizeof signature->authorization);
    writer_format(&w, ALGORITHM "\n%s\n", signature->amz_date);
    write_scope(&w, day, region, service);
    writer_format(&w, "\n%s", request_hash);
    derive_key(key, credentials, day, region, service);
    hmac(key, key, DIGEST_SIZE, writer_view(&w));
    bool complete = !names_writer.failed && !w.failed;
    w = writer_of(signature->authorization, sizeof signature->authorization);
    writer_format(&w, ALGORITHM " Credential=%s/", credentials->access_key_id);
    write_scope(&w, day, region, service);
    writer_text(&w, ", SignedHeaders=");
    writer_str(&w, header_names);
    writer_text(&w, ", Signature=");
    writer_hex(&w, key, DIGEST_SIZE);
    bytes_wipe(key, sizeof key);
    return complete && writer_terminate(&w)[0] != '\0';
}

int sigv4_sign(struct api_request *request, struct sigv4_signature *signature,
               const struct credentials *credentials, struct str region, struct str service, int64_t unix_ms,
               struct error *err)
{
    memset(signature, 0, sizeof *signature);
    if (!query_is_canonical(request->query)) {
        return error_set(err, ERROR_INVALID, "signing: the query \"%.*s\" is not sorted or not escaped",
                         STR_ARG(request->query));
    }
    if (!format_date(signature->amz_date, unix_ms)) {
        return error_set(err, ERROR_INVALID, "signing: %lld ms is not a date with a four-digit year",
                         (long long) unix_ms);
    }
    struct str token = str_from(credentials->session_token);
    int result = api_request_add(request, "x-amz-date", str_from(signature->amz_date), err);
    if (result == 0 && token.len > 0)
        result = api_request_add(request, "x-amz-security-token", token, err);
    if (result == 0 && !write_authorization(signature, request, credentials, region, service)) {
        result = error_set(err, ERROR_TOO_LARGE, "signing: an Authorization header of more than %d bytes",
                           SIGV4_AUTHORIZATION_SIZE - 1);
    }
    if (result == 0)
        result = api_request_add(request, "authorization", str_from(signature->authorization), err);
    return result;
}
