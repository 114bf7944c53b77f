/* Arguments and environment nobody would write. What is taken is written so
 * that it is taken the same again. */
#include "settings/commands.h"

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

/* Every value that has a variable, as a flag. */
static int write_page(char page[PAGE_SIZE], const struct settings *settings)
{
    const struct settings_part *part;
    const struct settings_row *row;
    struct writer out = writer_of(page, PAGE_SIZE);
    int count = 0;
    for (size_t i = 0; (row = settings_row_at(settings->command, i, &part)) != NULL; i++) {
        if (row->variable == NULL || row->kind == SETTINGS_LIST) /* a flag takes one item of a list */
            continue;
        writer_format(&out, "--%s=", row->flag);
        settings_write_value(&out, settings, i);
        writer_u8(&out, 0);
        count++;
    }
    return out.failed ? 0 : count; /* longer than anybody's */
}

/* Given back as flags they come to the same. */
static void check_again(const struct settings *settings)
{
    static char page[PAGE_SIZE], again[PAGE_SIZE];
    char *argv[SETTINGS_ROWS_MAX + 2] = {"fumidai"};
    char *environment[] = {NULL};
    struct settings second;
    union command_settings values;
    memset(page, 0, sizeof page);
    memset(again, 0, sizeof again);
    int count = write_page(page, settings);
    char *text = page;
    for (int i = 1; i <= count; i++) {
        argv[i] = text;
        text += strlen(text) + 1;
    }
    if (count == 0)
        return;
    if (settings_parse(&second, settings->command, &values, count + 1, argv, 1, environment, NULL) != 0)
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
    enum command command;
    struct settings settings;
    union command_settings values;
    struct error err = ERROR_INIT;
    if (size >= sizeof text)
        return 0;
    memcpy(text, data, size);
    text[size] = '\0';
    take_words(text, size, argv, &argc, environment);
    if (command_parse(&command, &settings, &values, argc, argv, environment, &err) != 0) {
        if (err.text[0] == '\0' || strpbrk(err.text, "\r\n") != NULL)
            abort();
        return 0;
    }
    if (values.common.help || values.common.version)
        return 0;
    if (settings.word_count >= argc || settings.words[settings.word_count] != NULL)
        abort();
    bool is_task = command == COMMAND_TASK || command == COMMAND_SETTINGS;
    if (is_task && (values.task.max_sessions < 1 || values.task.idle_timeout_ms < 0 ||
                    values.task.metrics_check_interval_ms < 1))
        abort();
    if (command == COMMAND_FORWARD && (values.forward.sessions < 1 || values.forward.stdio == NULL))
        abort();
    check_again(&settings);
    return 0;
}
