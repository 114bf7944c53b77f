/*
 * profile: AWS's two shared files, ~/.aws/config and ~/.aws/credentials, read as AWS's SDK for Go (v2) reads
 * them. The text is the caller's; nothing is copied but the values that are asked for.
 *
 *     config                             credentials
 *       [default]                          [default]
 *       [profile NAME]                     [NAME]
 *         region = eu-west-1                 aws_access_key_id = AKIA...
 *       [sso-session NAME]
 *       [services NAME]
 *         ecs =
 *           endpoint_url = https://...
 *
 * - A section is asked for by name: "default", "NAME" (a profile), "sso-session NAME", "services NAME".
 *   [profile NAME] of the config file counts as NAME, also [profile default], which then replaces [default];
 *   other names without a prefix count in the credentials file only. Names are compared exactly, blanks
 *   around and between their words aside.
 * - A section that stands twice is one section. A later value replaces an earlier one, and one of the
 *   credentials file replaces one of the config file, but for `services`, `endpoint_url` and
 *   `ignore_configured_endpoint_urls`.
 * - Lines end at LF; '#' or ';' begins a comment at the start of a line, in a value behind a blank, in a
 *   section's line anywhere. A key ends at the first '=' or ':', and its case does not matter. Quotes around
 *   a whole value are taken off.
 * - An indented line continues the value before it (with a LF in between); if it has an '=' or ':' it is a
 *   nested setting when the value before it is empty, and else a setting like any other.
 * - What is none of these is ignored.
 *
 * One pass over both files for each question: there are about 40, and files are bounded.
 */
#ifndef FUMIDAI_AWS_PROFILE_H
#define FUMIDAI_AWS_PROFILE_H

#include <stdbool.h>

#include "base/bytes.h"
#include "base/str.h"

enum { PROFILE_FILE_MAX = 512 * 1024 /* a company with 1,000 roles has about 150 bytes a profile */ };

/* Both empty: there are no files. */
struct profile_files {
    struct str config;
    struct str credentials;
};

bool profile_has_section(const struct profile_files *files, struct str section);

/* Writes the value behind what `out` holds and sets *value to it. False, and an empty *value, when there is
 * none; true with an empty *value for `key =`. When it does not fit, `out` has failed. */
bool profile_get(const struct profile_files *files, struct str section, const char *key, struct writer *out,
                 struct str *value);
/* The same for a nested setting: `key`, and under it `nested`. */
bool profile_get_nested(const struct profile_files *files, struct str section, const char *key,
                        const char *nested, struct writer *out, struct str *value);

/* Whether the section holds one of the two keys of a pair without the other, in the file that decides. */
bool profile_has_half_keys(const struct profile_files *files, struct str section);

#endif
