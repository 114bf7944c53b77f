#include "aws/credential_chain.h"

#include <string.h>

#include "aws/credentials.h"
#include "aws/endpoint.h"
#include "base/env.h"

const char *credential_chain_source_name(enum chain_source source)
{
    static const char *const NAMES[CHAIN_SOURCES] = {
        [CHAIN_ENVIRONMENT] = "environment",        [CHAIN_WEB_IDENTITY] = "web identity token",
        [CHAIN_GITHUB] = "GitHub's identity token", [CHAIN_KEYS] = "profile",
        [CHAIN_SSO] = "IAM Identity Center",        [CHAIN_LOGIN] = "aws login",
        [CHAIN_PROCESS] = "credential_process",     [CHAIN_CONTAINER] = "container",
        [CHAIN_INSTANCE] = "EC2 instance",          [CHAIN_ROLE] = "role",
    };
    return NAMES[source];
}

/* --- profiles --- */

/* What one profile says of keys. */
struct level {
    struct str name;
    struct str access_key_id, secret_access_key, session_token;
    struct str role_arn, session_name, external_id, mfa_serial, duration;
    struct str source_profile, credential_source, process, token_file;
    struct str sso_session, sso_start_url, sso_region, sso_account_id, sso_role_name;
    struct str login_session;
};

static const struct {
    const char *key;
    size_t offset; /* of its view in a level */
} LEVEL_KEYS[] = {
    {"aws_access_key_id", offsetof(struct level, access_key_id)},
    {"aws_secret_access_key", offsetof(struct level, secret_access_key)},
    {"aws_session_token", offsetof(struct level, session_token)},
    {"role_arn", offsetof(struct level, role_arn)},
    {"role_session_name", offsetof(struct level, session_name)},
    {"external_id", offsetof(struct level, external_id)},
    {"mfa_serial", offsetof(struct level, mfa_serial)},
    {"duration_seconds", offsetof(struct level, duration)},
    {"source_profile", offsetof(struct level, source_profile)},
    {"credential_source", offsetof(struct level, credential_source)},
    {"credential_process", offsetof(struct level, process)},
    {"web_identity_token_file", offsetof(struct level, token_file)},
    {"sso_session", offsetof(struct level, sso_session)},
    {"sso_start_url", offsetof(struct level, sso_start_url)},
    {"sso_region", offsetof(struct level, sso_region)},
    {"sso_account_id", offsetof(struct level, sso_account_id)},
    {"sso_role_name", offsetof(struct level, sso_role_name)},
    {"login_session", offsetof(struct level, login_session)},
};

struct planner {
    struct credential_chain *chain;
    char *const *env;
    const struct profile_files *files;
    bool is_named; /* by a flag or AWS_PROFILE: then it must exist */
    struct level levels[CHAIN_STEPS_MAX];
    size_t depth; /* how many of them are read */
    struct error *err;
};

static int fail(const struct planner *planner, const struct level *level, const char *what)
{
    return error_set(planner->err, ERROR_INVALID, "profile %.*s: %s", STR_ARG(level->name), what);
}

static bool has_keys(const struct level *level)
{
    return level->access_key_id.len > 0 && level->secret_access_key.len > 0;
}

static bool has_sso(const struct level *level)
{
    return level->sso_session.len > 0 || level->sso_start_url.len > 0 || level->sso_region.len > 0 ||
           level->sso_account_id.len > 0 || level->sso_role_name.len > 0;
}

static int read_level(struct planner *planner, struct level *level, struct str name)
{
    struct writer *text = &planner->chain->text;
    *level = (struct level){.name = name};
    if (profile_has_half_keys(planner->files, name))
        return fail(planner, level, "aws_access_key_id and aws_secret_access_key must stand together");
    for (size_t i = 0; i < sizeof LEVEL_KEYS / sizeof LEVEL_KEYS[0]; i++) {
        struct str *value = (struct str *) (void *) ((char *) level + LEVEL_KEYS[i].offset);
        profile_get(planner->files, name, LEVEL_KEYS[i].key, text, value);
        if (value->len > 0 && memchr(value->ptr, '\0', value->len) != NULL)
            return fail(planner, level, "there is a NUL in a value");
    }
    if (text->failed)
        return error_set(planner->err, ERROR_TOO_LARGE, "profile %.*s: its settings have more than %d bytes",
                         STR_ARG(name), CHAIN_TEXT_SIZE);
    return 0;
}

/* A profile that refers to itself, over whatever others, gives its keys the second time and nothing else. */
static void forget_role(struct level *level)
{
    level->role_arn = level->session_name = level->external_id = level->mfa_serial = level->source_profile =
        str_from(NULL);
}

/* The keys come from source_profile, whatever else is set. */
static void forget_keys(struct level *level)
{
    level->access_key_id = level->secret_access_key = level->session_token = str_from(NULL);
    level->credential_source = level->process = level->token_file = str_from(NULL);
    level->sso_start_url = level->sso_region = level->sso_account_id = level->sso_role_name = str_from(NULL);
}

static bool was_read(const struct planner *planner, struct str name)
{
    for (size_t i = 0; i < planner->depth; i++)
        if (str_equal(planner->levels[i].name, name))
            return true;
    return false;
}

static int check_level(const struct planner *planner, const struct level *level, bool again)
{
    bool by_source = level->source_profile.len > 0, by_name = level->credential_source.len > 0;
    bool by_process = level->process.len > 0, by_token = level->token_file.len > 0;
    if (!again && level->role_arn.len == 0 && (by_source || by_name || by_token))
        return fail(planner, level,
                    by_source ? "source_profile needs role_arn"
                    : by_name ? "credential_source needs role_arn"
                              : "web_identity_token_file needs role_arn");
    if (planner->depth > 0 && has_keys(level))
        return 0;
    if (by_source + by_name + by_process + by_token > 1)
        return fail(planner, level,
                    "source_profile, credential_source, credential_process and web_identity_token_file "
                    "exclude each other");
    return 0;
}

static int check_sso_session(const struct planner *planner, const struct level *level)
{
    char memory[256];
    struct writer section = writer_of(memory, sizeof memory);
    if (level->sso_session.len == 0)
        return 0;
    writer_text(&section, "sso-session ");
    writer_str(&section, str_trim(level->sso_session));
    if (section.failed || !profile_has_section(planner->files, writer_view(&section)))
        return error_set(planner->err, ERROR_INVALID,
                         "profile %.*s: there is no section [sso-session %.*s] in the config file",
                         STR_ARG(level->name), STR_ARG(level->sso_session));
    return 0;
}

/* Reads the profile and those that it refers to, the deepest last. */
static int read_levels(struct planner *planner, struct str name)
{
    for (;;) {
        struct level *level = &planner->levels[planner->depth];
        bool again = was_read(planner, name);
        int result = read_level(planner, level, name);
        if (result == 0 && again)
            forget_role(level);
        if (result == 0)
            result = check_level(planner, level, again);
        bool ends = result != 0 || (planner->depth > 0 && has_keys(level));
        if (!ends)
            result = check_sso_session(planner, level);
        planner->depth++;
        if (ends || result != 0 || level->source_profile.len == 0)
            return result;
        forget_keys(level);
        name = level->source_profile;
        if (planner->depth == CHAIN_STEPS_MAX)
            return error_set(planner->err, ERROR_TOO_LARGE,
                             "profile %.*s: more than %d roles, one behind the other",
                             STR_ARG(planner->levels[0].name), CHAIN_ROLES_MAX);
        if (!profile_has_section(planner->files, name))
            return error_set(planner->err, ERROR_INVALID,
                             "profile %.*s: its source_profile %.*s does not exist", STR_ARG(level->name),
                             STR_ARG(name));
    }
}

/* --- sources --- */

static struct chain_step *add_step(struct planner *planner, enum chain_source source, struct str profile)
{
    struct credential_chain *chain = planner->chain;
    struct chain_step *step = &chain->steps[chain->step_count++];
    *step = (struct chain_step){.source = source, .profile = profile};
    chain->skipped[source] = NULL;
    return step;
}

static uint32_t duration_of(const struct level *level)
{
    enum { SHORTEST_S = 900 }; /* STS: 15 minutes; the SDK for Go ignores what is not longer */
    uint32_t seconds;
    return str_parse_u32(level->duration, &seconds) && seconds > SHORTEST_S ? seconds : 0;
}

static struct chain_role role_of(const struct level *level)
{
    return (struct chain_role){.arn = level->role_arn,
                               .session_name = level->session_name,
                               .external_id = level->external_id,
                               .mfa_serial = level->mfa_serial,
                               .duration_s = duration_of(level)};
}

static struct str environment_key(char *const *env, const char *name, const char *old_name)
{
    const char *found;
    return env_get_first(env, (const char *const[]){name, old_name, NULL}, &found);
}

/* False when the environment does not hold both keys. */
static bool add_environment(struct planner *planner, struct str profile)
{
    struct str id = environment_key(planner->env, "AWS_ACCESS_KEY_ID", "AWS_ACCESS_KEY");
    struct str secret = environment_key(planner->env, "AWS_SECRET_ACCESS_KEY", "AWS_SECRET_KEY");
    if (id.len == 0 || secret.len == 0) {
        planner->chain->skipped[CHAIN_ENVIRONMENT] =
            id.len == 0 ? "AWS_ACCESS_KEY_ID is not set" : "AWS_SECRET_ACCESS_KEY is not set";
        return false;
    }
    struct chain_step *step = add_step(planner, CHAIN_ENVIRONMENT, profile);
    step->access_key_id = id;
    step->secret_access_key = secret;
    step->session_token = env_get(planner->env, "AWS_SESSION_TOKEN");
    return true;
}

/* 1: added; 0: not set; or an error. */
static int add_container(struct planner *planner, struct str profile)
{
    struct credentials_plan plan;
    struct error reason = ERROR_INIT;
    int result = credentials_plan_container(&plan, planner->env, &reason);
    bytes_wipe(&plan, sizeof plan);
    if (result == ERROR_NOT_FOUND) {
        planner->chain->skipped[CHAIN_CONTAINER] =
            "neither AWS_CONTAINER_CREDENTIALS_RELATIVE_URI nor AWS_CONTAINER_CREDENTIALS_FULL_URI is set";
        return 0;
    }
    if (result != 0)
        return error_set(planner->err, reason.code, "%s", reason.text);
    add_step(planner, CHAIN_CONTAINER, profile);
    return 1;
}

/* credential_source */
static int add_by_name(struct planner *planner, const struct level *level)
{
    struct str name = level->credential_source;
    if (str_equal_text(name, "Ec2InstanceMetadata")) {
        add_step(planner, CHAIN_INSTANCE, level->name);
        return 0;
    }
    if (str_equal_text(name, "Environment")) {
        return add_environment(planner, level->name)
                   ? 0
                   : fail(planner, level, "credential_source is Environment, and there are no keys in it");
    }
    if (!str_equal_text(name, "EcsContainer"))
        return fail(planner, level,
                    "credential_source must be Environment, EcsContainer or Ec2InstanceMetadata");
    int result = add_container(planner, level->name);
    return result > 0 ? 0
           : result < 0
               ? result
               : fail(planner, level,
                      "credential_source is EcsContainer, and AWS_CONTAINER_CREDENTIALS_RELATIVE_URI "
                      "and -_FULL_URI are not set");
}

static int read_sso_session(struct planner *planner, const struct level *level, struct chain_sso *sso)
{
    char memory[256];
    struct writer section = writer_of(memory, sizeof memory);
    struct writer *text = &planner->chain->text;
    sso->session = level->sso_session;
    writer_text(&section, "sso-session ");
    writer_str(&section, str_trim(level->sso_session));
    profile_get(planner->files, writer_view(&section), "sso_region", text, &sso->region);
    profile_get(planner->files, writer_view(&section), "sso_start_url", text, &sso->start_url);
    if ((level->sso_region.len > 0 && !str_equal(level->sso_region, sso->region)) ||
        (level->sso_start_url.len > 0 && !str_equal(level->sso_start_url, sso->start_url)))
        return fail(planner, level, "its sso_region and sso_start_url must be those of its sso_session");
    return 0;
}

static int add_sso(struct planner *planner, const struct level *level)
{
    struct chain_sso sso = {.start_url = level->sso_start_url,
                            .region = level->sso_region,
                            .account_id = level->sso_account_id,
                            .role_name = level->sso_role_name};
    int result = level->sso_session.len > 0 ? read_sso_session(planner, level, &sso) : 0;
    if (result != 0)
        return result;
    const char *missing = sso.region.len == 0       ? "sso_region is missing"
                          : sso.start_url.len == 0  ? "sso_start_url is missing"
                          : sso.account_id.len == 0 ? "sso_account_id is missing"
                          : sso.role_name.len == 0  ? "sso_role_name is missing"
                                                    : NULL;
    if (missing != NULL)
        return fail(planner, level, missing);
    add_step(planner, CHAIN_SSO, level->name)->sso = sso;
    return 0;
}

static void add_keys(struct planner *planner, const struct level *level)
{
    struct chain_step *step = add_step(planner, CHAIN_KEYS, level->name);
    step->access_key_id = level->access_key_id;
    step->secret_access_key = level->secret_access_key;
    step->session_token = level->session_token;
}

static void add_web_identity(struct planner *planner, struct str profile, struct str file,
                             struct chain_role role)
{
    struct chain_step *step = add_step(planner, CHAIN_WEB_IDENTITY, profile);
    step->token_file = file;
    step->role = role;
}

/* What is left when nothing else is configured. */
static int add_surroundings(struct planner *planner)
{
    int result = add_container(planner, str_from(NULL));
    if (result == 0)
        add_step(planner, CHAIN_INSTANCE, str_from(NULL));
    return result < 0 ? result : 0;
}

/* The source of the deepest profile. */
static int add_source(struct planner *planner, const struct level *level)
{
    if (has_keys(level))
        add_keys(planner, level);
    else if (level->credential_source.len > 0)
        return add_by_name(planner, level);
    else if (level->token_file.len > 0)
        add_web_identity(planner, level->name, level->token_file, role_of(level));
    else if (has_sso(level))
        return add_sso(planner, level);
    else if (level->login_session.len > 0)
        add_step(planner, CHAIN_LOGIN, level->name)->login_session = level->login_session;
    else if (level->process.len > 0)
        add_step(planner, CHAIN_PROCESS, level->name)->process = level->process;
    else if (planner->depth > 1)
        return fail(planner, level, "it is a source_profile, and says nothing of keys");
    else {
        planner->chain->skipped[CHAIN_KEYS] = "the profile says nothing of keys";
        return add_surroundings(planner);
    }
    return 0;
}

static int add_profile(struct planner *planner)
{
    if (planner->depth == 0)
        return add_surroundings(planner);
    struct level *deepest = &planner->levels[planner->depth - 1];
    int result = add_source(planner, deepest);
    bool has_role = planner->chain->step_count > 0 && planner->chain->steps[0].source == CHAIN_WEB_IDENTITY;
    for (size_t i = planner->depth; result == 0 && i-- > 0;) {
        struct level *level = &planner->levels[i];
        if (level->role_arn.len > 0 && !(has_role && level == deepest))
            add_step(planner, CHAIN_ROLE, level->name)->role = role_of(level);
    }
    return result;
}

/* --- the choice --- */

/* 1: added; 0: not set; or an error. */
static int add_web_identity_of_environment(struct planner *planner)
{
    struct str file = env_get(planner->env, "AWS_WEB_IDENTITY_TOKEN_FILE");
    struct chain_role role = {.arn = env_get(planner->env, "AWS_ROLE_ARN"),
                              .session_name = env_get(planner->env, "AWS_ROLE_SESSION_NAME")};
    planner->chain->skipped[CHAIN_WEB_IDENTITY] = "AWS_WEB_IDENTITY_TOKEN_FILE is not set";
    if (file.len == 0)
        return 0;
    if (role.arn.len == 0)
        return error_set(planner->err, ERROR_INVALID,
                         "AWS_WEB_IDENTITY_TOKEN_FILE is set, but AWS_ROLE_ARN is not");
    add_web_identity(planner, str_from(NULL), file, role);
    return 1;
}

static bool add_github(struct planner *planner)
{
    struct str url = env_get(planner->env, "ACTIONS_ID_TOKEN_REQUEST_URL");
    struct str bearer = env_get(planner->env, "ACTIONS_ID_TOKEN_REQUEST_TOKEN");
    struct chain_role role = {.arn = env_get(planner->env, "AWS_ROLE_ARN"),
                              .session_name = env_get(planner->env, "AWS_ROLE_SESSION_NAME")};
    if (url.len == 0 || bearer.len == 0 || role.arn.len == 0) {
        planner->chain->skipped[CHAIN_GITHUB] = role.arn.len == 0
                                                    ? "AWS_ROLE_ARN is not set"
                                                    : "ACTIONS_ID_TOKEN_REQUEST_URL is not set; a job of "
                                                      "GitHub Actions has it with `permissions: "
                                                      "id-token: write`";
        return false;
    }
    if (role.session_name.len == 0)
        role.session_name = STR_LITERAL("GitHubActions"); /* as AWS's own action names it */
    struct chain_step *step = add_step(planner, CHAIN_GITHUB, str_from(NULL));
    step->token_url = url;
    step->token_bearer = bearer;
    step->role = role;
    return true;
}

static int choose(struct planner *planner, bool has_flag)
{
    const char **skipped = planner->chain->skipped;
    if (has_flag) {
        skipped[CHAIN_ENVIRONMENT] = skipped[CHAIN_WEB_IDENTITY] = skipped[CHAIN_GITHUB] =
            "a profile was named";
        return add_profile(planner);
    }
    if (add_environment(planner, str_from(NULL)))
        return 0;
    int result = add_web_identity_of_environment(planner);
    if (result != 0)
        return result < 0 ? result : 0;
    if (planner->is_named)
        skipped[CHAIN_GITHUB] = "AWS_PROFILE is set";
    else if (add_github(planner))
        return 0;
    return add_profile(planner);
}

/* --- settings of the profile --- */

static const struct {
    const char *key;
    const char *variable;
} PROFILE_VARIABLES[] = {
    {"region", "AWS_DEFAULT_REGION"},
    {"use_fips_endpoint", "AWS_USE_FIPS_ENDPOINT"},
    {"use_dualstack_endpoint", "AWS_USE_DUALSTACK_ENDPOINT"},
    {"ignore_configured_endpoint_urls", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS"},
    {"endpoint_url", "AWS_ENDPOINT_URL"},
    {"ca_bundle", "AWS_CA_BUNDLE"},
    {"retry_mode", "AWS_RETRY_MODE"},
    {"max_attempts", "AWS_MAX_ATTEMPTS"},
    {"ec2_metadata_service_endpoint", "AWS_EC2_METADATA_SERVICE_ENDPOINT"},
    {"ec2_metadata_service_endpoint_mode", "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"},
};

_Static_assert(sizeof PROFILE_VARIABLES / sizeof PROFILE_VARIABLES[0] + ENDPOINT_SERVICES <=
                   CHAIN_VARIABLES_MAX,
               "each can be set");

static bool is_switch(const char *key)
{
    return strncmp(key, "use_", 4) == 0 || strncmp(key, "ignore_", 7) == 0;
}

/* Writes NAME=value. `key` is nested in `service`, unless that is empty. */
static void add_variable(struct planner *planner, struct str section, const char *service, const char *key,
                         const char *variable)
{
    struct credential_chain *chain = planner->chain;
    struct writer *text = &chain->text;
    size_t start = text->len;
    struct str value;
    writer_text(text, variable);
    writer_char(text, '=');
    bool found = service[0] == '\0' ? profile_get(planner->files, section, key, text, &value)
                                    : profile_get_nested(planner->files, section, service, key, text, &value);
    bool is_off = is_switch(key) && !str_equal_nocase(value, "true"); /* as the SDK takes any other word */
    writer_char(text, '\0');
    if (!found || value.len == 0 || is_off) {
        bool failed = text->failed;
        text->len = start;
        text->failed = failed;
        return;
    }
    chain->variables[chain->variable_count++] = chain->memory + start;
}

/* "AWS_ENDPOINT_URL_SSO_OIDC" -> "sso_oidc" */
static void service_key(enum endpoint_service service, char *out, size_t capacity)
{
    struct writer w = writer_of(out, capacity);
    const char *name = endpoint_url_variable(service) + sizeof "AWS_ENDPOINT_URL_" - 1;
    for (; *name != '\0'; name++)
        writer_char(&w, str_lower(*name));
    writer_terminate(&w);
}

/* [services NAME] */
static void add_service_urls(struct planner *planner)
{
    char memory[256], key[32];
    struct writer section = writer_of(memory, sizeof memory);
    struct writer *text = &planner->chain->text;
    size_t start = text->len;
    struct str name;
    writer_text(&section, "services ");
    profile_get(planner->files, planner->chain->profile, "services", text, &name);
    writer_str(&section, name);
    text->len = start;
    /* A URL for all services that the environment sets comes first. */
    if (name.len == 0 || section.failed || env_get(planner->env, "AWS_ENDPOINT_URL").len > 0)
        return;
    for (int i = 0; i < ENDPOINT_SERVICES; i++) {
        const char *variable = endpoint_url_variable((enum endpoint_service) i);
        service_key((enum endpoint_service) i, key, sizeof key);
        if (env_get(planner->env, variable).len == 0)
            add_variable(planner, writer_view(&section), key, "endpoint_url", variable);
    }
}

static int check_retries(const struct planner *planner, const char *name, struct str mode,
                         struct str attempts)
{
    uint32_t number;
    if (mode.len > 0 && !str_equal_nocase(mode, "standard") && !str_equal_nocase(mode, "adaptive") &&
        !str_equal_nocase(mode, "legacy"))
        return error_set(planner->err, ERROR_INVALID,
                         "%s: the retry mode %.*s must be standard, adaptive or legacy", name, STR_ARG(mode));
    if (attempts.len > 0 && !str_parse_u32(attempts, &number))
        return error_set(planner->err, ERROR_INVALID, "%s: the number of attempts %.*s is not a number", name,
                         STR_ARG(attempts));
    return 0;
}

static int add_settings(struct planner *planner)
{
    struct credential_chain *chain = planner->chain;
    struct str mode, attempts;
    for (size_t i = 0; i < sizeof PROFILE_VARIABLES / sizeof PROFILE_VARIABLES[0]; i++) {
        const char *variable = PROFILE_VARIABLES[i].variable;
        bool is_region = i == 0 && env_get(planner->env, "AWS_REGION").len > 0;
        if (!is_region && env_get(planner->env, variable).len == 0)
            add_variable(planner, chain->profile, "", PROFILE_VARIABLES[i].key, variable);
    }
    add_service_urls(planner);
    size_t start = chain->text.len;
    profile_get(planner->files, chain->profile, "retry_mode", &chain->text, &mode);
    profile_get(planner->files, chain->profile, "max_attempts", &chain->text, &attempts);
    int result = check_retries(planner, "profile", mode, attempts);
    chain->text.len = start;
    if (result == 0 && chain->text.failed)
        return error_set(planner->err, ERROR_TOO_LARGE, "profile %.*s: its settings have more than %d bytes",
                         STR_ARG(chain->profile), CHAIN_TEXT_SIZE);
    return result;
}

/* --- the surface --- */

static int plan_profile(struct planner *planner)
{
    struct credential_chain *chain = planner->chain;
    chain->has_profile = profile_has_section(planner->files, chain->profile);
    if (!chain->has_profile) {
        chain->skipped[CHAIN_KEYS] = "there is no such profile in the shared files";
        return !planner->is_named
                   ? 0
                   : error_set(planner->err, ERROR_NOT_FOUND, "there is no profile %.*s in the shared files",
                               STR_ARG(chain->profile));
    }
    int result = read_levels(planner, chain->profile);
    return result != 0 ? result : add_settings(planner);
}

int credential_chain_plan(struct credential_chain *chain, char *const *env, const struct profile_files *files,
                          const char *profile, struct error *err)
{
    struct planner planner = {.chain = chain, .env = env, .files = files, .err = err};
    struct str flag = str_from(profile), variable = env_get(env, "AWS_PROFILE");
    struct str old_variable = env_get(env, "AWS_DEFAULT_PROFILE");
    memset(chain, 0, sizeof *chain);
    chain->text = writer_of(chain->memory, sizeof chain->memory);
    planner.is_named = flag.len > 0 || variable.len > 0;
    chain->profile = flag.len > 0           ? flag
                     : variable.len > 0     ? variable
                     : old_variable.len > 0 ? old_variable
                                            : STR_LITERAL("default");
    int result = check_retries(&planner, "environment", env_get(env, "AWS_RETRY_MODE"),
                               env_get(env, "AWS_MAX_ATTEMPTS"));
    if (result == 0)
        result = plan_profile(&planner);
    if (result == 0)
        result = choose(&planner, flag.len > 0);
    if (result != 0)
        credential_chain_wipe(chain);
    return result;
}

void credential_chain_wipe(struct credential_chain *chain)
{
    bytes_wipe(chain, sizeof *chain);
}

bool credential_chain_environment(const struct credential_chain *chain, char *const *env, char **out,
                                  size_t capacity)
{
    size_t count = 0;
    for (; count < chain->variable_count && count < capacity; count++)
        out[count] = (char *) (uintptr_t) chain->variables[count]; /* an environment is only read */
    for (; env != NULL && *env != NULL && count < capacity; env++)
        out[count++] = *env;
    if (count == capacity)
        return false;
    out[count] = NULL;
    return true;
}

/* --- paths --- */

static void write_path(char *const *env, const char *variable, const char *name, char *out, size_t capacity)
{
    struct writer w = writer_of(out, capacity - 1);
    struct str path = env_get(env, variable), home = env_get(env, "HOME");
    if (path.len > 0) {
        writer_str(&w, path);
    } else if (home.len > 0) {
        writer_str(&w, home);
        writer_text(&w, name);
    }
    out[w.failed ? 0 : w.len] = '\0';
}

void credential_chain_config_path(char *const *env, char *out, size_t capacity)
{
    write_path(env, "AWS_CONFIG_FILE", "/.aws/config", out, capacity);
}

void credential_chain_credentials_path(char *const *env, char *out, size_t capacity)
{
    write_path(env, "AWS_SHARED_CREDENTIALS_FILE", "/.aws/credentials", out, capacity);
}
