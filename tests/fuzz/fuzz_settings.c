/* Arguments and environment nobody would write. What is taken is written so
 * that it is taken the same again. */
#include "settings/config.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WORDS_MAX = 40, PAGE_SIZE = 32768 };

/* Words end in a NUL; those with a capital letter first go into the environment. */
static void take_words(char *text, size_t size, char **argv, int *argc, char **environment)
{
    int variables = 0;
    char *end = text + size;
    argv[0] = "fumidai";
    *argc = 1;
    while (text < end && *argc < WORDS_MAX && variables < WORDS_MAX) {
        if (*text >= 'A' && *text <= 'Z')
            environment[variables++] = text;
        else
            argv[(*argc)++] = text;
        text += strlen(text) + 1;
    }
    argv[*argc] = NULL;
    environment[variables] = NULL;
}

static void write_page(char page[PAGE_SIZE], const struct config *config)
{
    struct writer out = writer_of(page, PAGE_SIZE);
    for (unsigned i = 0; i < CONFIG_HELP; i++) {
        writer_format(&out, "--%s=", config_flag_name((enum config_setting) i));
        config_write_value(&out, config, (enum config_setting) i);
        writer_u8(&out, 0);
    }
    if (out.failed)
        page[0] = '\0';
}

/* Every value given back as a flag. */
static void check_again(const struct config *config)
{
    static char page[PAGE_SIZE], again[PAGE_SIZE];
    char *argv[CONFIG_HELP + 2] = {"fumidai"};
    char *environment[] = {NULL};
    struct config second;
    struct error err = ERROR_INIT;
    memset(page, 0, sizeof page);
    memset(again, 0, sizeof again);
    write_page(page, config);
    if (page[0] == '\0')
        return; /* longer than anybody's */
    char *text = page;
    for (int i = 1; i <= CONFIG_HELP; i++) {
        argv[i] = text;
        text += strlen(text) + 1;
    }
    if (config_parse(&second, CONFIG_HELP + 1, argv, environment, &err) != 0)
        abort();
    write_page(again, &second);
    if (memcmp(page, again, sizeof page) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[4097];
    char *argv[WORDS_MAX + 1];
    char *environment[WORDS_MAX + 1];
    int argc;
    struct config config;
    struct error err = ERROR_INIT;
    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    take_words(text, size, argv, &argc, environment);
    if (config_parse(&config, argc, argv, environment, &err) != 0) {
        if (err.text[0] == '\0' || strpbrk(err.text, "\r\n") != NULL)
            abort();
        return 0;
    }
    if (config.help || config.version)
        return 0;
    if (config.word_count >= argc || config.words[config.word_count] != NULL || config.max_sessions < 1 ||
        config.idle_timeout_ms < 0 || config.metrics_check_interval_ms < 1)
        abort();
    check_again(&config);
    return 0;
}
